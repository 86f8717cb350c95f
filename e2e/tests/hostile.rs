//! Hostile peers, and what they cost the others: each is answered within its deadline, memory stays flat, and the others'
//! p99 is that beside the same attack on a server nobody uses.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::campaign::{figure, is_campaign, measure};
use e2e::crew::{enter, raise_descriptors};
use e2e::load::{Attack, Target, assert_costs_the_others_nothing};
use e2e::network::Network;
use e2e::raw::{self, RawSocket, opcode};
use e2e::server::ServerOptions;
use e2e::{Client, wait};
use serde_json::json;

/// What the server may take beyond a deadline of its own, on a busy machine.
const SLACK: Duration = Duration::from_secs(2);
/// For what ends at once.
const SOON: Duration = Duration::from_secs(10);

/// An address of its own for each head that nobody can read: whoever sent some is shut out for a while, and not read at all.
fn stranger() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 66, 0, 1).to_bits() + NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The server as installed, but that the others may post as fast as they can, and that deadlines are short in the
/// ordinary test.
fn options() -> ServerOptions {
    let options = ServerOptions::new().without_rates();
    if is_campaign() {
        options
    } else {
        let (head, slow) = (head_deadline().as_millis(), slow_deadline().as_millis());
        options.flag("header-read-timeout-ms", head).flag("slow-timeout-ms", slow)
    }
}

/// Between two heads of 26 MB of one attacker.
const BETWEEN_HEADS: Duration = Duration::from_millis(2);

/// How long a head may take; in a campaign the server's default.
fn head_deadline() -> Duration {
    measure(Duration::from_millis(700), Duration::from_secs(10))
}

/// How long a reader may take nothing; in a campaign the server's default.
fn slow_deadline() -> Duration {
    measure(Duration::from_millis(700), Duration::from_secs(10))
}

/// A round long enough for some strikes that last as long as a deadline.
fn rounds_of(deadline: Duration) -> Duration {
    deadline + measure(Duration::from_millis(400), Duration::from_secs(3))
}

#[test]
fn fault_21_heads_that_never_end_are_closed_in_time_and_cost_the_others_nothing() {
    fn strike(target: &Target<'_>) {
        let mut slow = RawSocket::connect_from(stranger(), target.address);
        let began = Instant::now();
        slow.send_bytes(b"GET /ws HTTP/1.1\r\nHost: x\r\nX-Slow: ");
        while slow.try_send_bytes(b"x").is_ok() && !slow.is_ended_within(Duration::from_millis(50)) {
            assert!(began.elapsed() < head_deadline() + SLACK, "a head without an end was waited for");
            if target.is_over() {
                return;
            }
        }
    }
    let round = rounds_of(head_deadline());
    assert_costs_the_others_nothing(Attack { name: "heads that never end", attackers: 5, round, strike }, &options());
}

#[test]
fn fault_22_heads_of_26_megabytes_cost_the_others_nothing() {
    fn strike(target: &Target<'_>) {
        let mut huge = RawSocket::connect_from(stranger(), target.address);
        huge.send_bytes(b"GET /ws HTTP/1.1\r\nHost: x\r\nX-Padding: ");
        let chunk = vec![b'x'; 64 * 1024];
        let taken = (0..26 * 16).take_while(|_| huge.try_send_bytes(&chunk).is_ok()).count();
        assert!(taken < 26 * 16, "the server read all 26 MB of a head");
        // As fast as a peer beyond the network may come: without it, two cores are full of sending alone.
        std::thread::sleep(BETWEEN_HEADS);
    }
    let round = measure(Duration::from_millis(500), Duration::from_secs(4));
    assert_costs_the_others_nothing(Attack { name: "heads of 26 MB", attackers: 4, round, strike }, &options());
}

#[test]
fn fault_23_floods_of_pings_cost_the_others_nothing() {
    fn read(target: &Target<'_>) {
        let (mut socket, _) = RawSocket::open_and_greet(target.address, target.token);
        (0..200).for_each(|_| socket.send_frame(true, opcode::PING, b"ping"));
        let ending = socket.ending(SOON);
        assert!(matches!(ending.name(), "policy" | "dropped"), "{ending:?}");
    }
    fn read_nothing(target: &Target<'_>) {
        let (mut deaf, _) = RawSocket::open_and_greet_with_small_buffer(target.address, target.token);
        let pings: Vec<u8> = (0..1_000).flat_map(|_| raw::frame(true, opcode::PING, &[b'p'; 125])).collect();
        wait::until("the server stops taking pings", SOON, || deaf.try_send_bytes(&pings).is_err().then_some(()));
    }
    let round = measure(Duration::from_millis(500), Duration::from_secs(4));
    for (name, strike) in [("pings, reading", read as fn(&Target<'_>)), ("pings, not reading", read_nothing)] {
        assert_costs_the_others_nothing(Attack { name, attackers: 4, round, strike }, &options());
    }
}

/// Every broken frame of the list, with the name of the code that answers it.
fn broken_frames() -> Vec<(&'static str, Vec<u8>)> {
    let fragments = (0..131_000).flat_map(|_| raw::frame(false, opcode::CONTINUATION, b""));
    let unfinished = raw::frame(false, opcode::CONTINUATION, &[b'x'; 40 * 1024]);
    vec![
        ("too_large", raw::announcement(0x81, 1 << 62)),
        ("invalid_utf8", raw::frame(true, opcode::TEXT, b"\xed\xa0\x80")),
        ("protocol_error", raw::unmasked_frame(true, opcode::TEXT, b"{}")),
        ("protocol_error", raw::frame(true, opcode::PING, &[b'p'; 126])),
        ("protocol_error", raw::frame(true, 3, b"")),
        ("too_large", raw::frame(false, opcode::TEXT, b"x").into_iter().chain(fragments).collect()),
        ("too_large", [raw::frame(false, opcode::TEXT, &[b'x'; 40 * 1024]), unfinished].concat()),
    ]
}

#[test]
fn fault_24_broken_frames_cost_the_others_nothing() {
    static FRAMES: std::sync::LazyLock<Vec<(&'static str, Vec<u8>)>> = std::sync::LazyLock::new(broken_frames);
    fn strike(target: &Target<'_>) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let (code, bytes) = &FRAMES[NEXT.fetch_add(1, Ordering::Relaxed) % FRAMES.len()];
        let (mut socket, _) = RawSocket::open_and_greet(target.address, target.token);
        socket.send_bytes(bytes);
        let ending = socket.ending(SOON);
        // What was still on its way when the server closed may turn the goodbye into a reset.
        assert!([code, "dropped"].contains(&ending.name()), "{ending:?} instead of {code}");
    }
    let round = measure(Duration::from_millis(700), Duration::from_secs(5));
    assert_costs_the_others_nothing(Attack { name: "broken frames", attackers: 4, round, strike }, &options());
}

#[test]
fn fault_25_subscribers_that_never_read_are_closed_and_cost_the_others_nothing() {
    fn strike(target: &Target<'_>) {
        let (mut slow, _) = RawSocket::open_and_greet_with_small_buffer(target.address, target.token);
        let opened = slow.ask(5, "open", &json!({ "room": target.room }));
        assert_eq!(opened["success"], true, "{opened}");
        // The room is busy by the others' posts; where nobody posts there is nothing not to read.
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        // What was on its way when it came to a stop may count as taken, and whoever took some has as much time again.
        let patience = slow_deadline() * 2 + SLACK * 3;
        let began = Instant::now();
        while !target.is_over() && began.elapsed() < patience {
            std::thread::sleep(LOOK_EVERY);
        }
        if target.is_used && !target.is_over() {
            let ending = slow.ending(SOON);
            assert!(matches!(ending.name(), "slow" | "dropped"), "{ending:?}");
        }
    }
    let round = rounds_of(slow_deadline() * 2) + SLACK * 3;
    let attack = Attack { name: "subscribers that never read", attackers: 10, round, strike };
    assert_costs_the_others_nothing(attack, &options());
}

#[test]
fn fault_26_a_crowd_that_returns_at_once_is_let_in_whole() {
    /// For all of them to be back.
    const BACK: Duration = Duration::from_secs(90);
    /// Less patient than any client of ours.
    const AGAIN_AFTER: Duration = Duration::from_millis(500);
    let crowd = measure(500, 10_000);
    raise_descriptors(crowd);
    let network = Network::connect();
    network.run(async || {
        // They are one person at one address here; every other limit is the default.
        let options = ServerOptions::new().without_rates().flag("sockets-per-user", 20_000);
        let mut server = network.start(options.flag("pending-per-address", 20_000));
        let (who, room) = enter(&server, "Crowd").await;
        let mut clients = Vec::new();
        for _ in 0..crowd {
            let mut client = Client::dial(server.address(), &who.token).await.expect("the server takes the connection");
            client.hello(Vec::new()).await;
            clients.push(client);
        }
        let dropped = network.dropped_at_the_door();
        server.kill();
        server.restart();
        drop(clients);
        let began = Instant::now();
        let mut coming = tokio::task::JoinSet::new();
        for _ in 0..crowd {
            let (address, token) = (server.address(), who.token.clone());
            coming.spawn(async move {
                let mut refused = 0_usize;
                loop {
                    if let Ok(mut client) = Client::dial(address, &token).await
                        && client.try_hello(Vec::new()).await.is_ok()
                    {
                        return (client, refused);
                    }
                    refused += 1;
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            });
        }
        let back = tokio::time::timeout(BACK, coming.join_all()).await.expect("everybody is back in time");
        let (took, refused) = (began.elapsed(), back.iter().map(|(_, refused)| refused).sum::<usize>());
        assert_eq!(network.dropped_at_the_door(), dropped, "the queue at the door overflowed");
        let (mut first, _) = back.into_iter().next().expect("a crowd");
        first.post(room, "here we are").await.expect("a connection").expect("an ack");
        figure(&format!(
            "{crowd} came back at once and were all in after {:.1} s; {refused} attempts were told to come again; 0 \
             dropped at the door",
            took.as_secs_f32()
        ));
    });
}
