//! A server lives for a while among people who come and go, and holds no more afterwards than before: short here, an hour
//! in `cargo xtask soak`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::campaign::{Dice, figure, measure, soak};
use e2e::churn::Churn;
use e2e::client::new_id;
use e2e::crew::{PATIENCE, settle};
use e2e::gauge::{Sample, Window, bytes_by_table};
use e2e::server::{DRAIN_DEADLINE, ServerOptions, ServerProcess};
use e2e::{Client, Device, Oracle, wait};
use shared::ids::RoomId;
use shared::message::{Command, CreateRoom, Reply};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep_until};

/// Looks at the server in all.
const LOOKS: u32 = 60;
/// Which of them are compared: a window after the warm-up, and the last.
const EARLY: std::ops::Range<usize> = 10..20;
const LATE: usize = 50;
/// Rooms people are in.
const ROOMS: usize = 6;
/// People of each room who stay from beginning to end.
const STAY: usize = 2;
/// Who stays writes this often, all together.
const POST_EVERY: Duration = Duration::from_millis(500);
/// The longest that one of the crowd stays, in milliseconds; in a campaign.
const LONGEST_MS: u64 = 120_000;
/// How long a session lasts without use, so that many end within an hour, in milliseconds.
const SESSION_MS: u64 = 10 * 60_000;
/// Without it the C library keeps what is free in a pool for each few threads, and how much that is grows for longer than
/// an hour: it would hide what is really held. Others than glibc do not know the word.
const ONE_ARENA: [&str; 2] = ["env", "MALLOC_ARENA_MAX=1"];
/// Tasks and threads that may be on their way out when the server is looked at, or ended meanwhile.
const PASSING: f64 = 3.0;
/// Each of the log's four readers opens the write-ahead log when it first reads.
const LATE_FILES: f64 = 4.0;
/// How long the server may take to be at rest once the crowd has gone. A silent peer has 28 s.
const REST: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_among_people_who_come_and_go_holds_no_more_afterwards() {
    let lasts = soak(Duration::from_secs(15));
    let (crowd, silent, history) = (measure(24, 200), measure(2, 8), measure(100, 3_000));
    let (enough, is_over) = watch::channel(false);
    let mut dice = Dice::seeded(60);
    let mut server = ServerOptions::new().without_rates().start();
    let rooms = furnish(&server, history).await;
    // The past was written faster than people may. From here on the limits are the defaults, but for those of an
    // address: all of them have the same.
    server.terminate();
    server.wait_for_exit(DRAIN_DEADLINE);
    let options = ServerOptions::new().flag("sign-ins", 100_000).flag("pending-per-address", 1_000);
    server.set_options(|_| options.flag("session-ms", SESSION_MS).under(&ONE_ARENA));
    server.restart();
    let churn = Arc::new(Churn::new(server.address(), rooms.clone(), measure(3_000, LONGEST_MS), is_over));
    let mut stay = Vec::new();
    for number in 0..ROOMS * STAY {
        let room = rooms[number % ROOMS];
        let who = churn.enter(1_000 + number, room).await;
        stay.push((room, Device::start(server.address(), &who, room, BTreeMap::new())));
    }
    let staying: Vec<&Device> = stay.iter().map(|(_, device)| device).collect();
    settle(&staying).await;
    let begun = Instant::now();
    let before = look(&server, begun).await;
    println!();
    figure(&format!("| {} |", Sample::HEADER));
    figure(&format!("|{}", "--:|".repeat(Sample::HEADER.split('|').count())));
    figure(&format!("| {} |", before.row()));

    let mut people = JoinSet::new();
    for number in 0..crowd {
        let (churn, dice) = (Arc::clone(&churn), Dice::from_seed(dice.below(u64::MAX)));
        people.spawn(async move { churn.live(number, dice).await });
    }
    for number in 0..silent {
        let churn = Arc::clone(&churn);
        people.spawn(async move { churn.fall_silent(number).await });
    }
    let mut samples = Vec::new();
    let writing = async {
        let mut ticks = interval(POST_EVERY);
        for device in staying.iter().cycle() {
            ticks.tick().await;
            churn.post(device).await;
        }
    };
    let looking = async {
        for number in 1..=LOOKS {
            sleep_until((begun + lasts * number / LOOKS).into()).await;
            let sample = look(&server, begun).await;
            figure(&format!("| {} |", sample.row()));
            samples.push(sample);
        }
    };
    let failing = async {
        match people.join_next().await {
            Some(ended) => ended.expect("nobody of the crowd fails"),
            None => unreachable!("there is a crowd"),
        }
    };
    tokio::select! {
        () = looking => {}
        () = writing => {}
        () = failing => panic!("somebody of the crowd went home before the end"),
    }

    enough.send(true).expect("the crowd listens");
    people.join_all().await;
    settle(&staying).await;
    let after = at_rest(&server, begun, &before).await;
    figure(&format!("| {} |", after.row()));
    judge(&server, &rooms, &stay, churn, history).await;
    let (early, late) = (Window::of(&samples[EARLY]), Window::of(&samples[LATE..]));
    early.rows_until(&late).iter().for_each(|row| figure(row));
    let tables = bytes_by_table(server.data_dir());
    let tables: Vec<String> = tables.iter().map(|(name, bytes)| format!("{name} {} KiB", bytes / 1024)).collect();
    figure(&format!("tables: {}", tables.join(", ")));
    figure(&format!(
        "{:.1} s of processor time in {:.0} s",
        server.cpu_time().as_secs_f64(),
        begun.elapsed().as_secs_f64()
    ));
    // A few seconds are all warm-up.
    let grown = measure(Vec::new(), early.growth_until(&late));
    assert!(grown.is_empty(), "what must be flat has grown: {}", grown.join("; "));
}

/// Makes the rooms, each with some posts: a server in use has a past.
async fn furnish(server: &ServerProcess, history: usize) -> Vec<RoomId> {
    let maker = tokio::task::spawn_blocking({
        let address: SocketAddr = server.address();
        move || e2e::Http::new(address).sign_in("Maker")
    });
    let maker = maker.await.expect("an answer");
    let mut rooms = Vec::new();
    let (mut client, general, _) = Client::join_general(server.address(), &maker.token).await;
    rooms.push(general);
    for number in 1..ROOMS {
        let make = CreateRoom { client_id: new_id(), name: format!("room-{number}"), title: String::new() };
        match client.ask(Command::CreateRoom(make)).await.expect("a connection") {
            Ok(Reply::Room(room)) => rooms.push(room.room),
            other => panic!("a room was not made: {other:?}"),
        }
    }
    for room in &rooms {
        client.post_many(*room, (0..history).map(|number| format!("long ago, {number}, {}", "x".repeat(80)))).await;
        client.forget_inbox();
    }
    client.close().await;
    rooms
}

async fn look(server: &ServerProcess, begun: Instant) -> Sample {
    // Blocks for a moment; there is another thread for the others.
    tokio::task::block_in_place(|| Sample::take(server, begun.elapsed()))
}

/// Waits until the server holds what it held before anybody came, and returns the look that shows it.
async fn at_rest(server: &ServerProcess, begun: Instant, before: &Sample) -> Sample {
    let is_at_rest = |now: &Sample| {
        now.connections == before.connections
            && now.tasks <= before.tasks + PASSING
            && now.sockets <= before.sockets
            && now.descriptors <= before.descriptors + LATE_FILES
            && now.threads <= before.threads + PASSING
    };
    wait::see("the server holds no more than before", REST, async || look(server, begun).await, is_at_rest).await
}

/// Judges everything that was ever posted, acknowledged and shown.
async fn judge(server: &ServerProcess, rooms: &[RoomId], stay: &[(RoomId, Device)], churn: Arc<Churn>, history: usize) {
    let (kept, words) = Arc::into_inner(churn).expect("the crowd has gone").into_kept();
    assert!(kept.faults.is_empty(), "{}", kept.faults.join("\n"));
    let (mut stored, mut written) = (0, kept.taken + history * ROOMS);
    for room in rooms {
        let newest = Oracle::read(server.data_dir(), *room).posts().last().map_or(0, |post| post.seq);
        let mut oracle = Oracle::read(server.data_dir(), *room);
        stored += oracle.posts().count();
        oracle.judge_acks("the crowd", kept.acked.get(room).map_or(&[], Vec::as_slice));
        for (_, device) in stay.iter().filter(|(other, _)| other == room) {
            let whole = |seen: &e2e::device::Seen| seen.shown.keys().next_back().copied().unwrap_or(0) >= newest;
            device.wait("the newest post is shown", PATIENCE, whole).await;
            let seen = device.seen();
            written += seen.taken;
            oracle.judge_acks("who stayed", &seen.acked);
            oracle.judge_shown("who stayed", &seen);
        }
        oracle.verdict();
    }
    assert_eq!(stored, written, "everything that was written is stored once");
    let acked: usize = kept.acked.values().map(Vec::len).sum();
    figure(&format!(
        "{words}; {stored} posts written and stored, {acked} acknowledged to the crowd; lost 0, doubled 0"
    ));
}
