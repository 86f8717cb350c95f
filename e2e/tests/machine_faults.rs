//! The machine under the server on bad days: it hangs, its clock jumps, it has no descriptors, no processor, no memory.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use e2e::campaign::{figure, measure};
use e2e::cgroup::{Cgroup, Controller};
use e2e::clock::WallClock;
use e2e::crew::{PATIENCE, SOON, device, enter, general, judge, retry_now, settle, was_lost};
use e2e::device::Seen;
use e2e::raw::{self, RawSocket};
use e2e::server::{ServerOptions, ServerProcess};
use e2e::{Client, Device, Http, wait};
use rustix::process::Signal;
use shared::message::{Beat, Command, Reply};
use shared::session::ConnectionState;
use shared::time::Timestamp;

fn is_live(seen: &Seen) -> bool {
    seen.state == Some(ConnectionState::Live)
}

/// Starts a server by some more words before its own.
fn start_under(wrapper: &[String], options: ServerOptions) -> ServerProcess {
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    options.under(&wrapper).start()
}

async fn three(server: &ServerProcess) -> Vec<Device> {
    let mut devices = Vec::new();
    for name in ["Ada", "Bo", "Cy"] {
        devices.push(device(server, server.address(), name).await);
    }
    devices
}

async fn post_all(devices: &[&Device], posts: usize, when: &str) {
    for (who, device) in devices.iter().enumerate() {
        for number in 0..posts {
            device.post(&format!("{number} of device {who} {when}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_11_a_server_that_froze_and_thawed_gives_no_duplicate() {
    let frozen_for = measure(Duration::from_secs(12), Duration::from_secs(60));
    let server = ServerOptions::new().without_rates().start();
    let devices = three(&server).await;
    let devices: Vec<&Device> = devices.iter().collect();
    post_all(&devices, 20, "before").await;
    server.freeze();
    let thaw_at = Instant::now() + frozen_for;
    post_all(&devices, 20, "while it is frozen").await;
    for device in &devices {
        device.wait("the silence is noticed", SOON, |seen| !is_live(seen)).await;
    }
    // How long it lasts is the fault itself. The old sockets hold requests that are answered when it thaws.
    tokio::time::sleep_until(thaw_at.into()).await;
    server.thaw();
    let thawed = Instant::now();
    retry_now(&devices).await;
    post_all(&devices, 5, "after").await;
    let room = general(&server).await;
    judge(&server, room, &devices).await;
    figure(&format!(
        "frozen for {} s; all acknowledged and live {:.1} s after the thaw",
        frozen_for.as_secs(),
        thawed.elapsed().as_secs_f32()
    ));
}

/// Asks the server for its wall clock.
async fn clock_of(client: &mut Client) -> Timestamp {
    match client.ask(Command::Beat(Beat { hidden: false, answers: None })).await {
        Ok(Ok(Reply::Beat(beat))) => beat.now,
        other => panic!("a beat was answered with {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_17_a_wall_clock_that_jumps_two_hours_changes_neither_order_nor_timers() {
    const HOUR_MS: i64 = 3_600_000;
    let clock = WallClock::new();
    let options = ServerOptions::new().without_rates();
    // Heartbeats so quick that their deadlines pass several times between two jumps.
    let options = options.flag("beat-interval-ms", 300).flag("beat-answer-ms", 300).flag("dead-peer-ms", 1_500);
    let mut server = start_under(&clock.wrapper(), options);
    let devices = three(&server).await;
    let devices: Vec<&Device> = devices.iter().collect();
    let (who, room) = enter(&server, "Clockmaker").await;
    let (mut client, ..) = Client::join_general(server.address(), &who.token).await;
    let mut last = Timestamp(0);
    for hours in [0, -2, 2, 0] {
        clock.shift_hours(hours);
        let shift = |now: Timestamp| now.0.cast_signed() - e2e::client::now().0.cast_signed();
        let expected = i64::from(hours) * HOUR_MS;
        let shown = clock_of(&mut client).await;
        assert!((shift(shown) - expected).abs() < HOUR_MS / 60, "the clock was not moved: {}", shift(shown));
        post_all(&devices, 10, &format!("at {hours:+} h")).await;
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            let ack = client.post(room, "what time is it?").await.expect("a connection").expect("an ack");
            assert!(ack.ts >= last, "time in the room ran back from {last:?} to {:?}", ack.ts);
            last = ack.ts;
            client.forget_inbox();
        }
        settle(&devices).await;
    }
    for device in &devices {
        assert!(!device.look(was_lost), "a jump of the clock cost a connection: {:#?}", device.seen().happened);
    }
    // Restarted while the clock is back: sessions that began later than now hold, and no seq is used again.
    clock.shift_hours(-2);
    server.kill();
    server.restart();
    retry_now(&devices).await;
    post_all(&devices, 5, "after a restart two hours ago").await;
    judge(&server, room, &devices).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_18_out_of_descriptors_the_server_does_not_spin_and_recovers() {
    const DESCRIPTORS: u32 = 64;
    /// How long the processor's use is watched.
    const WATCH: Duration = Duration::from_secs(3);
    let limit = format!("ulimit -n {DESCRIPTORS} && exec \"$@\"");
    let wrapper = ["sh", "-c", &limit, "sh"].map(str::to_owned);
    let options = ServerOptions::new().without_rates().flag("header-read-timeout-ms", 120_000);
    let server = start_under(&wrapper, options.flag("pending-per-address", 1_000));
    let devices = three(&server).await;
    let devices: Vec<&Device> = devices.iter().collect();
    let idle: Vec<std::net::TcpStream> =
        (0..200).map(|_| std::net::TcpStream::connect(server.address()).expect("the kernel takes it")).collect();
    wait::until("the server says that it cannot accept", SOON, || {
        server.stderr().contains("cannot accept").then_some(())
    });
    let (before, began) = (server.cpu_time(), Instant::now());
    let mut round = 0;
    while began.elapsed() < WATCH {
        post_all(&devices, 1, &format!("without descriptors, round {round}")).await;
        settle(&devices).await;
        round += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let used = (server.cpu_time() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(used < 0.15, "out of descriptors, it uses {:.0} % of a processor", used * 100.0);
    for device in &devices {
        assert!(!device.look(was_lost), "somebody connected was lost: {:#?}", device.seen().happened);
    }
    drop(idle);
    let began = Instant::now();
    let late = device(&server, server.address(), "Late").await;
    let recovered = began.elapsed();
    let room = general(&server).await;
    judge(&server, room, &[&devices[..], &[&late]].concat()).await;
    figure(&format!(
        "{:.1} % of a processor while 200 sockets wanted {DESCRIPTORS} descriptors; somebody new live {:.1} s after they went",
        used * 100.0,
        recovered.as_secs_f32()
    ));
}

/// Starts a server with few descriptors, with one person of whom there may be many sockets, and returns their token.
fn start_with_descriptors(limit: &str) -> (ServerProcess, String) {
    let wrapper = ["sh", "-c", &format!("ulimit {limit} && exec \"$@\""), "sh"].map(str::to_owned);
    let options = ServerOptions::new().without_rates().flag("sockets-per-user", 1_000);
    let server = start_under(&wrapper, options.flag("pending-per-address", 1_000));
    let token = Http::new(server.address()).sign_in("Crowd").token;
    (server, token)
}

#[test]
fn fault_18_what_may_be_raised_of_the_descriptors_is_raised_by_the_server_itself() {
    let (server, token) = start_with_descriptors("-Sn 256");
    let mut crowd: Vec<RawSocket> = (0..300).map(|_| RawSocket::open_and_greet(server.address(), &token).0).collect();
    crowd.iter_mut().for_each(RawSocket::assert_alive);
    assert!(!server.stderr().contains("descriptors"), "nothing was in the way");
}

#[test]
fn fault_18_where_descriptors_are_few_so_are_sockets_and_whoever_is_too_many_is_told() {
    let (server, token) = start_with_descriptors("-n 256");
    let bearer = format!("Bearer {token}");
    let mut crowd = Vec::new();
    let refused = loop {
        let mut socket = RawSocket::connect(server.address());
        let head = socket.upgrade(server.address(), &[("Authorization", &bearer)]);
        match head.status {
            101 => {
                socket.send_json(&raw::hello());
                crowd.push(socket);
            }
            _ => break head,
        }
    };
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.text.to_lowercase().contains("retry-after: "), "{}", refused.text);
    assert_eq!(crowd.len(), 128, "half of the descriptors");
    crowd.iter_mut().for_each(RawSocket::assert_alive);
    let said = server.stderr();
    assert!(said.contains("128 sockets at most, not 16000"), "{said}");
    assert!(!said.contains("cannot accept"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_19_a_server_starved_of_cpu_keeps_its_clients() {
    let percent = measure(5, 1);
    let group = Cgroup::make(Controller::Cpu);
    let server = start_under(&group.wrapper(), ServerOptions::new().without_rates());
    let devices = three(&server).await;
    let devices: Vec<&Device> = devices.iter().collect();
    group.limit_cpu(percent);
    let began = Instant::now();
    for round in 0..3 {
        post_all(&devices, 20, &format!("in want, round {round}")).await;
        settle(&devices).await;
    }
    let took = began.elapsed();
    assert!(group.times_held_back() > 0, "the server was never in want: nothing was shown");
    for device in &devices {
        assert!(!device.look(was_lost), "a starved server was left: {:#?}", device.seen().happened);
    }
    group.limit_cpu(100);
    let room = general(&server).await;
    judge(&server, room, &devices).await;
    figure(&format!(
        "{percent} % of a processor; 180 posts acknowledged in {:.1} s, nobody reconnected",
        took.as_secs_f32()
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_19_a_server_killed_for_its_memory_loses_nothing_acknowledged() {
    /// What the server may grow by before the kernel kills it.
    const GROWTH: u64 = 2 << 20;
    /// More sockets than fit in that.
    const CROWD: usize = 3_000;
    let group = Cgroup::make(Controller::Memory);
    let options = ServerOptions::new().without_rates().flag("sockets-per-user", 10_000);
    let mut server = start_under(&group.wrapper(), options.clone());
    let devices = three(&server).await;
    let devices: Vec<&Device> = devices.iter().collect();
    let (who, room) = enter(&server, "Crowd").await;
    post_all(&devices, 20, "before").await;
    settle(&devices).await;
    group.limit_growth(GROWTH);
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        if number % 20 == 0 {
            post_all(&devices, 1, &format!("beside a crowd of {number}")).await;
        }
        let Ok(mut client) = Client::dial(server.address(), &who.token).await else {
            // It is gone, or about to go.
            if server.has_ended() {
                break;
            }
            continue;
        };
        if client.try_hello(Vec::new()).await.is_ok() {
            crowd.push(client);
        }
    }
    let status = server.wait_for_exit(SOON);
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}");
    let held = crowd.len();
    drop(crowd);
    server.set_options(|_| options);
    server.restart();
    retry_now(&devices).await;
    post_all(&devices, 5, "after").await;
    for device in &devices {
        device.wait_live(PATIENCE).await;
    }
    judge(&server, room, &devices).await;
    figure(&format!("killed by the kernel with {held} sockets; nothing acknowledged was lost"));
}
