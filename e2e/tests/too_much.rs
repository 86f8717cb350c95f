//! Peers that send faster than they may, or read slower than they are sent, against the real binary: they are slowed down
//! or closed with the documented code, and it costs the others nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::campaign::figure;
use e2e::client::now;
use e2e::crew::{PATIENCE, device, general, judge, was_lost};
use e2e::raw::{self, RawSocket, opcode};
use e2e::scene::{SOON, long_body, post, refusal};
use e2e::server::ServerOptions;
use e2e::{Oracle, Scene, wait};
use serde_json::{Value, json};

#[test]
fn posts_over_the_rate_are_refused_with_a_wait_after_which_they_pass() {
    let mut scene = Scene::open(ServerOptions::new().flag("posts-burst", 3).flag("posts-per-s", 5));
    let room = scene.room.clone();
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let answers: Vec<Value> = (10..30).map(|id| socket.ask(id, "post", &post(&room, &format!("post {id}")))).collect();
    let refused: Vec<&Value> = answers.iter().filter(|answer| answer["success"] == false).collect();
    assert!(!refused.is_empty(), "twenty posts at once passed a burst of three");
    for answer in &refused {
        assert_eq!(refusal(answer), "rate_limited");
        assert_eq!(answer["error"]["retryable"], true);
    }
    let wait_ms = refused[0]["error"]["retry_after_ms"].as_u64().expect("how long to wait");
    assert!(wait_ms <= 2_000, "five a second, and told to wait {wait_ms} ms");
    wait::until("the rate lets a post through again", SOON, || {
        let answer = socket.ask(now().0, "post", &post(&room, "again"));
        (answer["success"] == true).then_some(())
    });
    socket.assert_alive();
    scene.assert_the_others_live();
}

#[test]
fn only_a_flood_far_over_the_rate_is_disconnected() {
    let options = ServerOptions::new().flag("frames-burst", 10).flag("frames-per-s", 5).flag("abuse-frames", 200);
    let mut scene = Scene::open(options);
    let (mut polite, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let soft: Vec<Value> = (10..40).map(|id| polite.ask(id, "rooms", &json!({}))).collect();
    let refused: Vec<&Value> = soft.iter().filter(|answer| answer["success"] == false).collect();
    assert!(!refused.is_empty(), "thirty requests at once passed a burst of ten");
    refused.iter().for_each(|answer| assert_eq!(refusal(answer), "rate_limited"));
    let ending = scene.ends(|socket| {
        for id in 100..1_000 {
            socket.send_json(&json!({ "id": id, "command": "rooms", "payload": {} }));
        }
    });
    assert!(matches!(ending.name(), "flood" | "dropped"), "{ending:?}");
    scene.assert_the_others_live();
}

#[test]
fn one_person_has_no_more_sockets_than_allowed() {
    let mut scene = Scene::open(ServerOptions::new().flag("sockets-per-user", 3));
    let token = scene.http.sign_in("Many").token;
    let mut open: Vec<RawSocket> = (0..3).map(|_| RawSocket::open_and_greet(scene.address(), &token).0).collect();
    let mut fourth = RawSocket::open(scene.address(), &token);
    fourth.send_json(&raw::hello());
    assert_eq!(fourth.ending(SOON).name(), "too_many");
    open.iter_mut().for_each(RawSocket::assert_alive);
    drop(open.pop());
    wait::until("a place is free again", SOON, || {
        let mut next = RawSocket::open(scene.address(), &token);
        next.send_json(&raw::hello());
        let first = next.read_frame(SOON)?;
        String::from_utf8_lossy(&first.payload).contains("welcome").then_some(())
    });
    scene.assert_the_others_live();
}

#[test]
fn sockets_that_never_upgrade_do_not_lock_the_others_out() {
    let options = ServerOptions::new().flag("pending-per-address", 8).flag("header-read-timeout-ms", 1_500);
    let mut scene = Scene::open(options);
    let idle: Vec<RawSocket> = (0..30).map(|_| RawSocket::connect(scene.address())).collect();
    scene.bystander.assert_alive();
    let token = scene.token.clone();
    let address = scene.address();
    wait::until("the idle ones are gone and a new one gets in", SOON, || {
        let mut socket = RawSocket::connect(address);
        let head = socket.try_upgrade(address, &[("Authorization", &format!("Bearer {token}"))])?;
        (head.status == 101).then_some(())
    });
    drop(idle);
    scene.assert_the_others_live();
}

#[test]
fn a_reader_that_takes_nothing_is_closed_and_costs_the_others_nothing() {
    // How much memory it may cost until then is judged where it takes its time (scenario_14).
    let options = ServerOptions::new().without_rates().flag("slow-timeout-ms", 1_000);
    let mut scene = Scene::open(options);
    let room = scene.room.clone();
    let (mut slow, _) = RawSocket::open_and_greet_with_small_buffer(scene.address(), &scene.token);
    let opened = slow.ask(5, "open", &json!({ "room": room }));
    assert_eq!(opened["success"], true, "{opened}");
    let (mut poster, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let body = "x".repeat(3_500);
    let mut slowest = Duration::ZERO;
    for id in 10..1_500 {
        let began = Instant::now();
        let answer = poster.ask(id, "post", &post(&room, &body));
        assert_eq!(answer["success"], true, "{answer}");
        slowest = slowest.max(began.elapsed());
        scene.bystander.read_what_is_there();
    }
    assert!(slowest < Duration::from_secs(3), "a post waited {slowest:?} for somebody else's reading");
    // Whoever reads before it is closed is a reader again, and is not closed.
    wait::until("whoever takes nothing is closed", SOON, || {
        scene.bystander.read_what_is_there();
        poster.read_what_is_there();
        (scene.http.get("/api/info", &[]).json()["connections"] == 2).then_some(())
    });
    let ending = slow.ending(Duration::from_secs(20));
    assert!(matches!(ending.name(), "slow" | "dropped"), "{ending:?}");
    poster.assert_alive();
    scene.assert_the_others_live();
}

#[test]
fn a_flood_of_pings_closes_with_1008() {
    let mut scene = Scene::open(ServerOptions::new());
    let ending = scene.ends(|socket| {
        (0..200).for_each(|_| socket.send_frame(true, opcode::PING, b"ping"));
    });
    assert_eq!(ending.name(), "policy", "{ending:?}");
}

#[test]
fn a_flood_of_pings_from_somebody_who_never_reads_costs_no_memory() {
    // As many pings as anybody likes: that they are refused as a flood must not be what keeps memory flat.
    let options = ServerOptions::new().flag("pings", 100_000_000).flag("slow-timeout-ms", 3_000);
    let mut scene = Scene::open(options);
    let before = scene.server.resident_kib();
    let (mut deaf, _) = RawSocket::open_and_greet_with_small_buffer(scene.address(), &scene.token);
    let pings: Vec<u8> = (0..1_000).flat_map(|_| raw::frame(true, opcode::PING, &[b'p'; 125])).collect();
    let mut grown = 0;
    wait::until("the server takes no more pings, and closes", SOON, || {
        let is_over = deaf.try_send_bytes(&pings).is_err();
        grown = scene.server.resident_kib().saturating_sub(before).max(grown);
        is_over.then_some(())
    });
    figure(&format!("pings as fast as they go to somebody who never reads: memory {grown} KiB more"));
    assert!(grown < 8 * 1024, "memory grew by {grown} KiB");
    scene.assert_the_others_live();
}

#[test]
fn scenario_14_a_reader_at_1_kb_per_s_slows_nobody_and_loses_nothing() {
    /// As much as the reader may fall behind by; without a bound the server would hold all of it.
    const POSTS: u64 = 1_500;
    const FLAT_KIB: u64 = 12 * 1024;
    // With the deadlines of the default: a slow reader is neither closed as one that takes nothing nor as one that is
    // silent, though more than two of each go by.
    let mut scene = Scene::open(ServerOptions::new().without_rates());
    let least = Duration::from_secs(30);
    let (room, body) = (scene.room.clone(), long_body());
    let (mut slow, _) = RawSocket::open_and_greet_with_small_buffer(scene.address(), &scene.token);
    let opened = slow.ask(5, "open", &json!({ "room": room }));
    assert_eq!(opened["success"], true, "{opened}");
    let (mut writer, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let is_over = AtomicBool::new(false);
    let (mut waits, mut peak_kib) = (Vec::new(), 0);
    let before = scene.server.resident_kib();
    let mut slow = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            /// How often a tenth of a kilobyte is read, and how many times between two signs of life.
            const EVERY: Duration = Duration::from_millis(100);
            const BEAT_EVERY: u64 = 50;
            let mut reads = 0;
            while !is_over.load(Ordering::Relaxed) {
                slow.read_some(102);
                reads += 1;
                if reads % BEAT_EVERY == 0 {
                    slow.send_json(&json!({ "id": 1_000_000 + reads, "command": "beat", "payload": {} }));
                }
                std::thread::sleep(EVERY);
            }
            slow
        });
        let _over = Over(&is_over);
        let began = Instant::now();
        for id in 10.. {
            if id >= 10 + POSTS && began.elapsed() > least {
                break;
            }
            let asked = Instant::now();
            let answer = writer.ask(id, "post", &post(&room, &body));
            assert_eq!(answer["success"], true, "{answer}");
            waits.push(asked.elapsed());
            scene.bystander.read_what_is_there();
            if id % 100 == 0 {
                scene.bystander.assert_alive();
            }
            peak_kib = peak_kib.max(scene.server.resident_kib());
        }
        is_over.store(true, Ordering::Relaxed);
        reading.join().expect("a slow reader is served")
    });
    let head = waits.len() as u64;
    waits.sort();
    let p99 = waits[waits.len() * 99 / 100];
    assert!(p99 < Duration::from_millis(500), "p99 of an ack beside a slow reader: {p99:?}");
    let grown = peak_kib.saturating_sub(before);
    figure(&format!("{head} posts of 16 KB beside a reader at 1 KB/s: p99 of an ack {p99:?}, memory {grown} KiB more"));
    assert!(grown < FLAT_KIB, "memory grew by {grown} KiB while {head} posts of 16 KB waited for a slow reader");
    // It reads on at full speed: what it missed comes, or is told as a hole.
    let (mut delivered, mut in_holes) = (0, 0);
    while delivered + in_holes < head {
        let message = slow.expect_json("the next event", |message| message.get("event").is_some());
        if message["event"] == "room" && message["payload"]["change"] == "posted" {
            delivered += 1;
        } else if message["event"] == "opened" {
            let outcome = &message["payload"]["outcome"];
            assert_eq!(outcome["outcome"], "jumped", "{message}");
            let snapshot = outcome["snapshot"]["posts"].as_array().expect("posts").len() as u64;
            in_holes += outcome["hole"].as_u64().expect("how many") + snapshot;
        }
    }
    assert_eq!(delivered + in_holes, head, "{delivered} delivered, {in_holes} told in a jump");
    scene.assert_the_others_live();
}

/// Ends what runs beside, also where this thread panics, or nobody would ever join it.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_22_a_flood_of_posts_is_slowed_down_and_arrives_whole_and_in_order() {
    let server = ServerOptions::new().flag("posts-burst", 5).flag("posts-per-s", 20).start();
    let eager = device(&server, server.address(), "Eager").await;
    for number in 0..60 {
        eager.post(&format!("post {number}")).await;
    }
    eager.wait("all sixty are acknowledged", PATIENCE, |seen| seen.acked.len() == 60).await;
    assert!(!eager.look(was_lost), "a flood was disconnected: {:#?}", eager.seen().happened);
    let room = general(&server).await;
    let bodies: Vec<String> = Oracle::read(server.data_dir(), room).posts().map(|post| post.body.clone()).collect();
    assert!(bodies.iter().eq(&(0..60).map(|number| format!("post {number}")).collect::<Vec<_>>()), "{bodies:?}");
    judge(&server, room, &[&eager]).await;
}
