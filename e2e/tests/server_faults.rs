//! The real server binary on bad days: killed, stopped, cut off, flooded, out of disk. Judged by the oracle.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::campaign::{Dice, figure, loops};
use e2e::client::new_id;
use e2e::crew::{PATIENCE, SOON, acks, device, devices, enter, general, judge, retry_now, was_lost};
use e2e::proxy::Weather;
use e2e::raw::RawSocket;
use e2e::server::{DRAIN_DEADLINE, ServerOptions, ServerProcess};
use e2e::{Client, Device, FaultProxy, Http, Oracle, wait};
use serde_json::json;
use shared::close;
use shared::cursor::Position;
use shared::error::ErrorCode;
use shared::limits::JUMP_EVENTS;
use shared::message::{Body, Command, Event, Reply, SendDelete};
use shared::model::{OpenOutcome, RoomChange};
use shared::session::ConnectionState;

// --- Killed -----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn scenario_03_killed_20_times_in_a_burst_no_acknowledged_post_is_lost_or_doubled() {
    const BURST: u64 = 15;
    /// Kills between two judgements, so that a campaign says near which kill something went wrong.
    const JUDGE_EVERY: usize = 20;
    let kills = loops(20);
    let mut dice = Dice::seeded(3);
    let mut server = ServerOptions::new().without_rates().start();
    let room = general(&server).await;
    let devices = devices(&server, &["Ada", "Bo", "Cy"]).await;
    let devices: Vec<&Device> = devices.iter().collect();
    let (mut posts, mut unanswered) = (0, 0);
    for kill in 1..=kills {
        let before = acks(&devices);
        for (number, device) in devices.iter().enumerate() {
            for post in 0..BURST {
                device.post(&format!("post {post} of device {number} before kill {kill}")).await;
                posts += 1;
            }
        }
        // Somewhere in the middle of the burst, at a place that moves from kill to kill, and a little after an ack.
        let enough = before + usize::try_from(dice.below(BURST * 3)).expect("few");
        wait::see("some of the burst is acknowledged", SOON, async || acks(&devices), |now| *now >= enough).await;
        tokio::time::sleep(Duration::from_micros(dice.below(3_000))).await;
        server.kill();
        unanswered += devices.iter().map(|device| device.look(|seen| seen.disk.len())).sum::<usize>();
        server.restart();
        retry_now(&devices).await;
        for device in &devices {
            device.wait_live(PATIENCE).await;
        }
        if kill % JUDGE_EVERY == 0 || kill == kills {
            judge(&server, room, &devices).await;
        }
    }
    let total = Oracle::read(server.data_dir(), room).posts().count();
    assert_eq!(total, posts, "every post of every burst is stored once");
    let acked = acks(&devices);
    assert!(unanswered > 0, "no kill ever struck a burst");
    figure(&format!(
        "{kills} kills; {posts} posts by {} people, {acked} acknowledged, {unanswered} waiting for an answer when the \
         server died; lost 0, doubled 0, reordered 0",
        devices.len()
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_03_clients_come_back_by_themselves_after_a_crash() {
    let mut server = ServerOptions::new().without_rates().start();
    let (writer, reader) =
        (device(&server, server.address(), "Ada").await, device(&server, server.address(), "Bo").await);
    writer.post("before").await;
    reader.wait("the first post", SOON, |seen| seen.shown.len() == 1).await;
    server.kill();
    writer.wait("the loss is shown", SOON, |seen| !matches!(seen.state, Some(ConnectionState::Live))).await;
    writer.post("meanwhile").await;
    server.restart();
    reader.wait("the post made meanwhile", PATIENCE, |seen| seen.shown.len() == 2).await;
    let room = general(&server).await;
    judge(&server, room, &[&writer, &reader]).await;
}

#[tokio::test]
async fn scenario_04_a_resend_after_a_restart_gets_the_first_answer_again() {
    let mut server = ServerOptions::new().without_rates().start();
    let (who, room) = enter(&server, "Ada").await;
    let key = new_id();
    let (mut client, ..) = Client::join_general(server.address(), &who.token).await;
    let first = client.post_as(key, room, "only once").await.expect("a connection").expect("an ack");
    assert!(!first.duplicate);
    server.kill();
    server.restart();
    let (mut client, ..) = Client::join_general(server.address(), &who.token).await;
    let again = client.post_as(key, room, "only once").await.expect("a connection").expect("an ack");
    assert!(again.duplicate);
    assert_eq!((again.seq, again.ts, again.room), (first.seq, first.ts, first.room));
    let other = client.post_as(key, room, "something else").await.expect("a connection").expect_err("a conflict");
    assert_eq!(other.code, ErrorCode::IdConflict);

    let delete = SendDelete { n: None, client_id: new_id(), room, post: first.seq, post_client_id: None };
    assert!(matches!(client.ask(Command::Delete(delete)).await, Ok(Ok(Reply::Ack(_)))));
    let after = client.post_as(key, room, "only once").await.expect("a connection").expect("an ack");
    assert_eq!((after.seq, after.duplicate), (first.seq, true), "a resend after the deletion brought the post back");
    let oracle = Oracle::read(server.data_dir(), room);
    assert_eq!(oracle.posts().count(), 1);
    oracle.verdict();
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_05_twenty_posts_queued_when_a_device_dies_are_sent_in_order_when_it_comes_back() {
    let mut server = ServerOptions::new().without_rates().start();
    let (who, room) = enter(&server, "Ada").await;
    let device = Device::start(server.address(), &who, room, BTreeMap::new());
    device.wait_live(SOON).await;
    server.kill();
    device.wait("the loss is seen", SOON, |seen| seen.state != Some(ConnectionState::Live)).await;
    for number in 0..20 {
        device.post(&format!("queued {number}")).await;
    }
    device.wait("all are on the disk", SOON, |seen| seen.disk.len() == 20).await;
    let disk = device.crash().await.disk;
    server.restart();
    let device = Device::start(server.address(), &who, room, disk);
    device.wait("all twenty are acknowledged", PATIENCE, |seen| seen.acked.len() == 20).await;
    judge(&server, room, &[&device]).await;
    let bodies: Vec<String> = Oracle::read(server.data_dir(), room).posts().map(|post| post.body.clone()).collect();
    let wanted: Vec<String> = (0..20).map(|number| format!("queued {number}")).collect();
    assert_eq!(bodies, wanted);
}

// --- Stopped ----------------------------------------------------------------------------------------------------------

/// Stops a server that people use, and checks the whole farewell.
async fn assert_orderly_goodbye(stop: impl FnOnce(&ServerProcess)) {
    let mut server = ServerOptions::new().without_rates().start();
    let (who, room) = enter(&server, "Ada").await;
    let (mut writer, ..) = Client::join_general(server.address(), &who.token).await;
    let (mut reader, ..) = Client::join_general(server.address(), &who.token).await;
    let mut in_flight = Vec::new();
    for number in 0..50 {
        let post =
            shared::message::SendPost { n: None, client_id: new_id(), room, body: format!("in flight {number}") };
        let key = post.client_id;
        in_flight.push((key, writer.send(Command::Post(post)).await.expect("the connection stands")));
    }
    let first = writer.answer(in_flight[0].1).await;
    assert!(matches!(first, Ok(Ok(Reply::Ack(_)))), "{first:?}");
    let began = Instant::now();
    stop(&server);
    let notice = reader
        .expect(SOON, |body| match body {
            Body::Event(Event::Draining(draining)) => Some(*draining),
            _ => None,
        })
        .await
        .expect("a notice before the close");
    assert!(notice.reconnect_after_ms <= 60_000, "{notice:?}");
    assert_eq!(reader.closed_with(DRAIN_DEADLINE).await, close::RESTART);

    let mut acked = Vec::new();
    for (key, id) in in_flight.into_iter().skip(1) {
        match writer.answer(id).await {
            Ok(Ok(Reply::Ack(ack))) => acked.push((key, ack.seq.0)),
            Ok(Err(refusal)) => assert!(refusal.retryable, "a post in flight was refused for good: {refusal}"),
            Ok(Ok(other)) => panic!("a post was answered with {other:?}"),
            Err(_) => break,
        }
    }
    let status = server.wait_for_exit(DRAIN_DEADLINE.saturating_sub(began.elapsed()));
    assert_eq!(status.code(), Some(0), "{status}");
    let mut oracle = Oracle::read(server.data_dir(), room);
    oracle.judge_acks("the writer", &acked);
    assert_eq!(oracle.posts().count(), acked.len() + 1, "everything stored was acknowledged before the close");
    oracle.verdict();
}

#[tokio::test]
async fn scenario_11_sigterm_says_goodbye_with_1012_delivers_the_acks_in_flight_and_exits_0() {
    assert_orderly_goodbye(ServerProcess::terminate).await;
}

#[tokio::test]
async fn scenario_11_sigint_is_as_orderly() {
    assert_orderly_goodbye(|server| server.signal(rustix::process::Signal::INT)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_11_a_draining_server_is_not_ready_and_its_clients_return_to_the_next() {
    let mut server = ServerOptions::new().without_rates().start();
    let ready = Http::new(server.address()).get("/readyz", &[]);
    assert_eq!(ready.status, 200, "{}", ready.body);
    let (writer, reader) =
        (device(&server, server.address(), "Ada").await, device(&server, server.address(), "Bo").await);
    server.terminate();
    let status = server.wait_for_exit(DRAIN_DEADLINE);
    assert_eq!(status.code(), Some(0), "{status}");
    let restarting = |seen: &e2e::device::Seen| {
        seen.states.iter().any(|state| {
            matches!(
                state,
                ConnectionState::Waiting { restarting: true, .. } | ConnectionState::Trying { restarting: true, .. }
            )
        })
    };
    writer.wait("it says that the server is restarting", SOON, restarting).await;
    writer.post("written during the restart").await;
    server.restart();
    reader.wait("the post", PATIENCE, |seen| seen.shown.len() == 1).await;
    let room = general(&server).await;
    judge(&server, room, &[&writer, &reader]).await;
}

// --- Cut off ----------------------------------------------------------------------------------------------------------

/// Cuts two people off with some weather, lets each write a hundred posts, heals the link and judges.
async fn assert_nothing_is_lost_through(weather: Weather) {
    let server = ServerOptions::new().without_rates().start();
    let proxy = FaultProxy::start(server.address()).await;
    let (cut, free) = (device(&server, proxy.address(), "Cut").await, device(&server, server.address(), "Free").await);
    proxy.set(weather);
    for number in 0..100 {
        cut.post(&format!("from the dark {number}")).await;
        free.post(&format!("from the light {number}")).await;
    }
    free.wait("the free one's posts are acknowledged", PATIENCE, |seen| seen.acked.len() == 100).await;
    cut.wait("it does not claim to be live", SOON, |seen| seen.state != Some(ConnectionState::Live)).await;
    proxy.set(Weather::Fair);
    retry_now(&[&cut]).await;
    cut.wait("its posts are acknowledged", PATIENCE, |seen| seen.acked.len() == 100).await;
    let room = general(&server).await;
    judge(&server, room, &[&cut, &free]).await;
    let order: Vec<String> = Oracle::read(server.data_dir(), room).posts().map(|post| post.body.clone()).collect();
    for side in ["dark", "light"] {
        let kept: Vec<&String> = order.iter().filter(|body| body.contains(side)).collect();
        let wanted: Vec<String> = (0..100).map(|number| format!("from the {side} {number}")).collect();
        assert!(kept.iter().copied().eq(&wanted), "the order of one sender was not kept: {kept:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_01_a_hundred_posts_each_way_across_a_cut_link_arrive_once_and_in_order() {
    assert_nothing_is_lost_through(Weather::Reset).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_06_a_black_hole_both_ways_is_noticed_while_sends_wait_and_nothing_is_lost() {
    assert_nothing_is_lost_through(Weather::BLACK_HOLE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_06_a_link_dead_only_upwards_is_noticed_and_nothing_is_lost() {
    assert_nothing_is_lost_through(Weather::BlackHole { up: true, down: false }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_06_a_frozen_link_that_delivers_late_gives_no_duplicate() {
    assert_nothing_is_lost_through(Weather::Frozen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_06_a_slow_link_causes_no_reconnect() {
    let server = ServerOptions::new().without_rates().start();
    let proxy = FaultProxy::start(server.address()).await;
    let (far, near) = (device(&server, proxy.address(), "Far").await, device(&server, server.address(), "Near").await);
    proxy.set(Weather::Delayed { ms: 800 });
    for number in 0..10 {
        far.post(&format!("from afar {number}")).await;
        near.post(&format!("from nearby {number}")).await;
    }
    let room = general(&server).await;
    judge(&server, room, &[&far, &near]).await;
    assert!(!far.look(was_lost), "a slow link was given up: {:?}", far.seen().states);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_07_jitter_and_messages_in_single_bytes_change_nothing() {
    let server = ServerOptions::new().without_rates().start();
    let proxy = FaultProxy::start(server.address()).await;
    let (far, near) = (device(&server, proxy.address(), "Far").await, device(&server, server.address(), "Near").await);
    for weather in [Weather::Rough { jitter_ms: 0, piece_bytes: 1 }, Weather::Rough { jitter_ms: 8, piece_bytes: 200 }]
    {
        proxy.set(weather);
        for number in 0..10 {
            far.post(&format!("from afar {number}, {weather:?}")).await;
            near.post(&format!("from nearby {number}, {weather:?}")).await;
        }
        let room = general(&server).await;
        judge(&server, room, &[&far, &near]).await;
    }
    assert!(!far.look(was_lost), "a rough link was given up: {:?}", far.seen().states);
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_18_a_lurker_who_never_received_anything_resumes_without_loss() {
    let server = ServerOptions::new().without_rates().start();
    let proxy = FaultProxy::start(server.address()).await;
    let lurker = device(&server, proxy.address(), "Lurker").await;
    let (who, room) = enter(&server, "Ada").await;
    proxy.set(Weather::Reset);
    lurker.wait("the cut is seen", SOON, |seen| seen.state != Some(ConnectionState::Live)).await;
    let (mut writer, ..) = Client::join_general(server.address(), &who.token).await;
    writer.post_many(room, (0..7).map(|number| format!("post {number}"))).await;
    proxy.set(Weather::Fair);
    retry_now(&[&lurker]).await;
    lurker.wait("all seven", PATIENCE, |seen| seen.shown.len() == 7).await;
    let seen = lurker.seen();
    assert_eq!((seen.holes, seen.resets.len()), (0, 0), "it was to resume, not to start over");
    judge(&server, room, &[&lurker]).await;
}

#[tokio::test]
async fn scenario_02_after_10_000_missed_posts_a_person_gets_the_newest_and_a_bot_gets_all() {
    const MISSED: u64 = 10_000;
    let server = ServerOptions::new().without_rates().start();
    let (who, room) = enter(&server, "Ada").await;
    let (mut sleeper, _, opened) = Client::join_general(server.address(), &who.token).await;
    let OpenOutcome::Fresh { snapshot } = opened.outcome else { panic!("{opened:?}") };
    let cursor = snapshot.as_of;
    let (mut writer, ..) = Client::join_general(server.address(), &who.token).await;
    sleeper.ask(Command::Shut(shared::message::RoomRef { room })).await.expect("a connection").expect("shut");
    writer.ask(Command::Shut(shared::message::RoomRef { room })).await.expect("a connection").expect("shut");
    writer.post_many(room, (0..MISSED).map(|number| format!("missed {number}"))).await;

    let (mut person, _) = Client::join(server.address(), &who.token, &[]).await;
    let began = Instant::now();
    let opened = person.open(room, Some(cursor), false).await;
    assert!(began.elapsed() < Duration::from_secs(2), "the newest took {:?}", began.elapsed());
    let OpenOutcome::Jumped { snapshot, hole } = opened.outcome else { panic!("{:?}", opened.outcome) };
    let newest = snapshot.posts.last().and_then(|post| post.body.clone());
    assert_eq!(newest, Some(format!("missed {}", MISSED - 1)));
    assert_eq!(hole + snapshot.posts.len() as u64, MISSED, "what is not shown is in the hole that is told");
    let ack = writer.post(room, "live").await.expect("a connection").expect("an ack");
    assert_eq!(person.next_room_event(SOON).await.expect("the next event").seq, ack.seq, "it is live after the jump");

    let (mut bot, _) = Client::join(server.address(), &who.token, &[]).await;
    let opened = bot.open(room, Some(cursor), true).await;
    assert!(matches!(opened.outcome, OpenOutcome::Recovered { .. }), "{:?}", opened.outcome);
    let mut number = 0;
    while number < MISSED {
        let event = bot.next_room_event(SOON).await.expect("every event");
        if let RoomChange::Posted(posted) = event.change {
            assert_eq!(posted.body, Some(format!("missed {number}")));
            number += 1;
        }
    }
}

#[tokio::test]
async fn scenario_15_a_newer_socket_of_the_same_session_wins_and_nothing_comes_twice() {
    let server = ServerOptions::new().without_rates().start();
    let (who, room) = enter(&server, "Ada").await;
    let (mut old, ..) = Client::join_general(server.address(), &who.token).await;
    let new = Client::dial(server.address(), &who.token).await.expect("a second socket");
    let mut new = new.as_session(old.session());
    new.hello(Vec::new()).await;
    let said = old
        .expect(SOON, |body| match body {
            Body::Event(Event::Closing(closing)) => Some(closing.code),
            _ => None,
        })
        .await
        .expect("the reason in-band");
    assert_eq!(said, close::SUPERSEDED);
    assert_eq!(old.closed_with(SOON).await, close::SUPERSEDED);
    new.open(room, None, false).await;
    let ack = new.post(room, "one").await.expect("a connection").expect("an ack");
    assert_eq!(new.next_room_event(SOON).await.expect("the echo").seq, ack.seq);
    let next = new.post(room, "two").await.expect("a connection").expect("an ack");
    assert_eq!(new.next_room_event(SOON).await.expect("the next").seq, next.seq, "something came twice");
}

#[tokio::test]
async fn scenario_17_a_thousand_times_subscribing_while_others_post_loses_and_doubles_nothing() {
    let server = ServerOptions::new().without_rates().start();
    let (who, room) = enter(&server, "Ada").await;
    let (mut writer, _) = Client::join(server.address(), &who.token, &[]).await;
    let busy = tokio::spawn(async move {
        for number in 0.. {
            if writer.post(room, &format!("post {number}")).await.is_err() {
                break;
            }
            writer.forget_inbox();
        }
    });
    let (mut reader, _) = Client::join(server.address(), &who.token, &[]).await;
    let mut cursor = None;
    for run in 0..1_000 {
        let start = |outcome: &OpenOutcome| match outcome {
            OpenOutcome::Fresh { snapshot } | OpenOutcome::Jumped { snapshot, .. } => snapshot.as_of,
            OpenOutcome::Recovered { .. } => cursor.expect("recovered from a cursor"),
            other => panic!("run {run}: {other:?}"),
        };
        let mut before = start(&reader.open(room, cursor, false).await.outcome);
        let event = loop {
            // Whoever comes to be hundreds of posts behind before the first of them is written jumps, and is told so.
            let told = reader.expect(SOON, |body| match body {
                Body::Event(Event::Room(event)) => Some(Ok(event.clone())),
                Body::Event(Event::Opened(jumped)) => Some(Err(start(&jumped.outcome))),
                _ => None,
            });
            match told.await.unwrap_or_else(|lost| panic!("run {run}: no event after {before:?}: {lost}")) {
                Ok(event) => break event,
                Err(jumped) => {
                    assert!(jumped.seq.0 > before.seq.0 + JUMP_EVENTS, "run {run}: from {before:?} to {jumped:?}");
                    before = jumped;
                }
            }
        };
        assert_eq!(event.seq, before.seq.next(), "run {run}");
        cursor = Some(Position { seq: event.seq, check: event.check, ..before });
        reader.ask(Command::Shut(shared::message::RoomRef { room })).await.expect("a connection").expect("shut");
        reader.forget_inbox();
    }
    busy.abort();
}

// --- Slow, dead, too fast ---------------------------------------------------------------------------------------------

#[tokio::test]
async fn scenario_07_a_dead_peer_is_freed_and_told_why() {
    let options =
        ServerOptions::new().flag("beat-interval-ms", 400).flag("beat-answer-ms", 300).flag("dead-peer-ms", 1_500);
    let server = options.start();
    let (who, _) = enter(&server, "Ada").await;
    let (mut dead, _) = RawSocket::open_and_greet(server.address(), &who.token);
    let asked = dead.expect_json("a beat asked for", |message| message["event"] == "beat");
    assert!(asked["payload"]["n"].is_u64());
    assert_eq!(dead.ending(SOON).name(), "no_heartbeat");
    let (mut live, _) = RawSocket::open_and_greet(server.address(), &who.token);
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        let asked = live.expect_json("a beat asked for", |message| message["event"] == "beat");
        let answer = live.ask(
            asked["payload"]["n"].as_u64().expect("a number") + 100,
            "beat",
            &json!({ "answers": asked["payload"]["n"] }),
        );
        assert_eq!(answer["success"], true, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_20_a_blip_shows_no_flap_and_a_crash_clears_once() {
    let options = ServerOptions::new().without_rates().flag("presence-grace-ms", 1_500).flag("coalesce-ms", 50);
    let server = options.start();
    let proxy = FaultProxy::start(server.address()).await;
    let blinker = device(&server, proxy.address(), "Blinker").await;
    let (who, _) = enter(&server, "Watcher").await;
    let (mut watcher, _, opened) = Client::join_general(server.address(), &who.token).await;
    let online = |name: &str| opened.roster.iter().any(|member| member.name == name && member.online);
    assert!(online("Blinker"), "{:?}", opened.roster);
    proxy.set(Weather::Reset);
    blinker.wait("the blip is seen", SOON, |seen| seen.state != Some(ConnectionState::Live)).await;
    proxy.set(Weather::Fair);
    retry_now(&[&blinker]).await;
    blinker.wait_live(SOON).await;
    let gone = |body: &Body| match body {
        Body::Event(Event::Presence(presence)) => {
            presence.changes.iter().find(|member| member.name == "Blinker" && !member.online).map(|_| ())
        }
        _ => None,
    };
    let flap = watcher.expect(Duration::from_secs(3), gone).await;
    assert!(flap.is_err(), "a blip was shown as gone");
    blinker.crash().await;
    let began = Instant::now();
    watcher.expect(SOON, gone).await.expect("a crash shows as gone");
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    let twice = watcher.expect(Duration::from_secs(2), gone).await;
    assert!(twice.is_err(), "told twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_25_a_poison_post_is_parked_with_its_reason_and_the_rest_goes_on() {
    let server = ServerOptions::new().without_rates().start();
    let sender = device(&server, server.address(), "Ada").await;
    sender.post("before").await;
    let poison = sender.post(&"x".repeat(shared::limits::POST_GRAPHEMES + 1)).await;
    sender.post("after").await;
    sender.wait("the good ones are acknowledged", SOON, |seen| seen.acked.len() == 2).await;
    let parked = |seen: &e2e::device::Seen| {
        seen.disk.get(&poison).and_then(|item| item.refused.as_ref()).map(|refusal| refusal.code.clone())
    };
    sender.wait("the poison is parked", SOON, |seen| parked(seen) == Some(ErrorCode::PostTooLong)).await;
    let bodies: Vec<String> = sender.seen().shown.into_values().map(|shown| shown.body).collect();
    assert_eq!(bodies, ["before", "after"]);
}
