//! What is posted reaches everybody once and in order, whenever they come, go and come back.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use server::Storage;
use shared::cursor::{Check, Position};
use shared::error::ErrorCode;
use shared::ids::{Epoch, Seq};
use shared::message::{
    Body, Command, CreateRoom, Event, EventsAfter, History, Membership, OpenRoom, Reply, RoomRef, SendDelete, SendEdit,
    SendPost,
};
use shared::model::{OpenOutcome, ResetReason, UserChange};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_see_the_same_posts_in_the_same_order() {
    for storage in [Storage::Memory, Storage::Sqlite] {
        let server = start_with(storage, FAST).await;
        let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
        let ((mut a, _), (mut b, _)) = (ann.enter().await, bob.enter().await);
        let (mut last, count) = (Seq(0), 40);
        for n in 0..count {
            a.send(Command::Post(post(&format!("a{n}")))).await;
            last = b.post(post(&format!("b{n}"))).await.unwrap().seq;
        }
        // Ann's last may have come after Bob's.
        last = last.max(a.post(post("end")).await.unwrap().seq);
        let mut seen = Vec::new();
        for user in [&ann, &bob] {
            let start = Position { epoch: Epoch::from_bytes([0; 16]), seq: Seq(0), check: Check::default() };
            let (mut client, welcome) = user.connect(&[]).await;
            let cursor = Position { epoch: welcome.server.epoch, ..start };
            let opened = client.open(OpenRoom { room: GENERAL, cursor: Some(cursor), replay: true }).await;
            assert!(matches!(opened.outcome, OpenOutcome::Recovered { .. }));
            seen.push(client.events_to(last).await);
        }
        assert_eq!(seen[0], seen[1]);
        assert!(seen[0].iter().zip(1..).all(|(event, seq)| event.seq == Seq(seq)));
        assert_eq!(texts(&seen[0]).len(), 2 * count + 1);
        let of = |who: char| texts(&seen[0]).into_iter().filter(|text| text.starts_with(who)).collect::<Vec<_>>();
        assert_eq!(of('a'), (0..count).map(|n| format!("a{n}")).collect::<Vec<_>>());
        assert_eq!(of('b'), (0..count).map(|n| format!("b{n}")).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_comes_back_gets_exactly_what_it_missed_and_is_told_when_it_is_live() {
    let server = start(FAST).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let (mut a, _) = ann.enter().await;
    let (mut b, at) = bob.enter().await;
    let mut cursor = at;
    let first = a.post(post("before")).await.unwrap();
    for event in b.events_to(first.seq).await {
        cursor = Position { seq: event.seq, check: event.check, ..cursor };
    }
    drop(b);
    let mut last = first;
    for n in 0..100 {
        last = a.post(post(&format!("missed {n}"))).await.unwrap();
    }
    let (mut b, welcome) = bob.connect(&[from(GENERAL, cursor)]).await;
    assert!(!welcome.draining && welcome.rooms_complete);
    match b.opened().await.outcome {
        OpenOutcome::Recovered { head, missed } => assert_eq!((head, missed), (last.seq, 100)),
        other => panic!("not recovered but {other:?}"),
    }
    let events = b.events_to(last.seq).await;
    assert_eq!(texts(&events), (0..100).map(|n| format!("missed {n}")).collect::<Vec<_>>());
    b.live().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_was_deleted_comes_to_nobody_who_was_away() {
    // What is handed to whoever comes back was published while somebody followed, or read from the log by somebody else.
    for (storage, was_followed) in
        [(Storage::Memory, true), (Storage::Memory, false), (Storage::Sqlite, true), (Storage::Sqlite, false)]
    {
        let server = start_with(storage, FAST).await;
        let (ann, bob, cora) = (server.sign_in("Ann").await, server.sign_in("Bob").await, server.sign_in("Cora").await);
        let (b, at) = bob.enter().await;
        drop(b);
        eventually("Bob is gone", || server.app.registry.is_empty()).await;
        let ((mut a, _), (mut c, _)) = (ann.connect(&[]).await, cora.connect(&[]).await);
        if was_followed {
            c.open(from(GENERAL, at)).await;
        }
        a.post(post("kept")).await.unwrap();
        let secret = a.post(post("secret")).await.unwrap().seq;
        let (n, room, post, post_client_id) = (None, GENERAL, secret, None);
        let edit = SendEdit { n, client_id: key(), room, post, post_client_id, body: "secret still".into() };
        a.ask(Command::Edit(edit)).await.unwrap();
        if !was_followed {
            c.open(from(GENERAL, at)).await;
        }
        let seen = c.events_to(secret.next()).await;
        assert!(format!("{seen:?}").contains("secret still"), "it was not there to be seen: {seen:?}");
        a.ask(Command::Delete(SendDelete { n, client_id: key(), room, post, post_client_id })).await.unwrap();
        let (mut b, _) = bob.connect(&[from(GENERAL, at)]).await;
        let events = b.events_to(Seq(secret.0 + 2)).await;
        assert_eq!(texts(&events), ["kept"]);
        assert!(!format!("{events:?}").contains("secret"), "followed: {was_followed}: {events:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_sent_twice_is_stored_once_and_answered_the_same() {
    let server = start_with(Storage::Sqlite, FAST).await;
    let ann = server.sign_in("Ann").await;
    let (mut a, _) = ann.enter().await;
    let send = post("once");
    let first = a.post(send.clone()).await.unwrap();
    drop(a);
    let (mut a, _) = ann.enter().await;
    let again = a.post(send.clone()).await.unwrap();
    assert_eq!((again.seq, again.ts, again.duplicate, first.duplicate), (first.seq, first.ts, true, false));
    let conflict = a.post(SendPost { body: "another".into(), ..send }).await.unwrap_err();
    assert_eq!(conflict.code, ErrorCode::IdConflict);
    assert_eq!(a.post(post("next")).await.unwrap().seq, first.seq.next());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_in_the_race_of_subscribing_and_reading_is_never_lost_or_doubled() {
    const RUNS: usize = 1_000;
    let server = start(FAST).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let (mut a, _) = ann.enter().await;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let posting = tokio::spawn(async move {
        let mut count = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            a.post(post("x")).await.unwrap();
            count += 1;
        }
        count
    });
    let (mut b, _) = bob.connect(&[]).await;
    for run in 0..RUNS {
        let opened = b.open(fresh(GENERAL)).await;
        let mut cursor = as_of(&opened).seq;
        for _ in 0..2 {
            let event = b.room_event().await;
            assert_eq!(event.seq, cursor.next(), "run {run}: after the snapshot at {cursor}");
            cursor = event.seq;
        }
        b.ask(Command::Shut(RoomRef { room: GENERAL })).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    assert!(posting.await.unwrap() > RUNS as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_hint_is_mended_by_the_sweep() {
    let flags = [FAST, &["--sweep-ms=50"]].concat();
    let server = start(&flags).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut b, _)) = (ann.enter().await, bob.enter().await);
    server.app.hub.lose_hints(true);
    let ack = a.post(post("unheard")).await.unwrap();
    assert_eq!(texts(&b.events_to(ack.seq).await), ["unheard"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn far_behind_a_person_jumps_and_a_program_replays() {
    let server = start(FAST).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let (b, cursor) = bob.enter().await;
    drop(b);
    let (mut a, _) = ann.enter().await;
    for n in 0..1_000 {
        a.send(Command::Post(post(&format!("{n}")))).await;
        if n % 10 == 0 {
            a.post(post("-")).await.unwrap();
        }
    }
    let last = a.post(post("last")).await.unwrap().seq;

    let (mut person, _) = bob.connect(&[from(GENERAL, cursor)]).await;
    match person.opened().await.outcome {
        OpenOutcome::Jumped { snapshot, hole } => {
            assert_eq!((snapshot.as_of.seq, snapshot.posts.len()), (last, 50));
            assert_eq!(hole, 1_101 - 50);
            assert_eq!(snapshot.posts.last().unwrap().body.as_deref(), Some("last"));
        }
        other => panic!("did not jump: {other:?}"),
    }
    person.live().await;

    let (mut program, _) = bob.connect(&[OpenRoom { replay: true, ..from(GENERAL, cursor) }]).await;
    let events = program.events_to(last).await;
    assert!(events.iter().zip(cursor.seq.0 + 1..).all(|(event, seq)| event.seq == Seq(seq)));
    program.live().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worthless_cursor_is_reset_with_its_reason() {
    let server = start(FAST).await;
    let ann = server.sign_in("Ann").await;
    let (mut a, at) = ann.enter().await;
    a.post(post("one")).await.unwrap();
    for (cursor, expected) in [
        (Position { epoch: Epoch::from_bytes([9; 16]), ..at }, ResetReason::Epoch),
        (Position { seq: Seq(1_000), ..at }, ResetReason::Ahead),
        (Position { check: Check([7; 8]), ..at }, ResetReason::Forked),
    ] {
        match a.open(from(GENERAL, cursor)).await.outcome {
            OpenOutcome::Reset { reason, snapshot } => assert_eq!((reason, snapshot.posts.len()), (expected, 1)),
            other => panic!("not reset but {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_gets_nothing_more_and_a_rejoined_cursor_starts_anew() {
    let server = start(FAST).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut b, _)) = (ann.enter().await, bob.enter().await);
    let before = a.post(post("before")).await.unwrap();
    let cursor = b.events_to(before.seq).await.last().map(|event| (event.seq, event.check)).unwrap();
    b.ask(Command::Leave(Membership { client_id: key(), room: GENERAL })).await.unwrap();
    let secret = a.post(post("secret")).await.unwrap();
    // Whatever comes to Bob up to the answer of a later question holds no secret.
    b.send(Command::Beat(shared::message::Beat::default())).await;
    b.until("the beat's answer", |came| {
        if let Came::Message(shared::message::Message {
            body: shared::message::Body::Event(Event::Room(event)), ..
        }) = came
        {
            assert!(event.seq < secret.seq, "{event:?}");
        }
        matches!(
            came,
            Came::Message(shared::message::Message { body: shared::message::Body::Reply(Reply::Beat(_)), .. })
        )
        .then_some(())
    })
    .await;
    match b.open(fresh(GENERAL)).await.outcome {
        OpenOutcome::Refused { error } => assert_eq!(error.code, ErrorCode::NotMember),
        other => panic!("not refused but {other:?}"),
    }
    let history = b.ask(Command::History(History { room: GENERAL, before: Seq(100), limit: None })).await;
    assert_eq!(history.unwrap_err().code, ErrorCode::NotMember);
    let events = b.ask(Command::Events(EventsAfter { room: GENERAL, after: Seq(0), limit: None })).await;
    assert_eq!(events.unwrap_err().code, ErrorCode::NotMember);
    assert_eq!(b.post(post("out")).await.unwrap_err().code, ErrorCode::NotMember);

    b.ask(Command::Join(Membership { client_id: key(), room: GENERAL })).await.unwrap();
    let epoch = bob.connect(&[]).await.1.server.epoch;
    let old = Position { epoch, seq: cursor.0, check: cursor.1 };
    match b.open(from(GENERAL, old)).await.outcome {
        OpenOutcome::Reset { reason, .. } => assert_eq!(reason, ResetReason::Rejoined),
        other => panic!("not reset but {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_not_open_tells_its_head_and_a_new_one_comes_by_the_own_stream() {
    let flags = [FAST, &["--coalesce-ms=20"]].concat();
    let server = start(&flags).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut b, _)) = (ann.enter().await, bob.enter().await);
    let asked = CreateRoom { client_id: key(), name: "tea".into(), title: "Tea".into() };
    let Reply::Room(room) = a.ask(Command::CreateRoom(asked)).await.unwrap() else { panic!("no room") };
    assert!(room.joined && room.members == 1);
    let Reply::Room(found) = b.ask(Command::FindRoom(shared::message::FindRoom { name: "Tea".into() })).await.unwrap()
    else {
        panic!("no room")
    };
    assert_eq!((found.room, found.joined), (room.room, false));
    b.send(Command::Join(Membership { client_id: key(), room: room.room })).await;
    b.event("room added", |event| match event {
        Event::User(event) => {
            matches!(&event.change, UserChange::RoomAdded(added) if added.room == room.room).then_some(())
        }
        _ => None,
    })
    .await;
    for n in 0..20 {
        a.post(SendPost { room: room.room, ..post(&format!("{n}")) }).await.unwrap();
    }
    b.event("the last head", |event| match event {
        Event::Heads(heads) => heads.heads.iter().any(|head| head.room == room.room && head.posts == 20).then_some(()),
        Event::Room(event) => panic!("a room that is not open sent {event:?}"),
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_was_shut_tells_its_head_and_no_more_until_it_is_opened_again() {
    let flags = [FAST, &["--coalesce-ms=20"]].concat();
    let server = start(&flags).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut b, at)) = (ann.enter().await, bob.enter().await);
    b.ask(Command::Shut(RoomRef { room: GENERAL })).await.unwrap();
    let mut last = at.seq;
    for n in 0..20 {
        last = a.post(post(&format!("{n}"))).await.unwrap().seq;
    }
    b.event("the last head", |event| match event {
        Event::Heads(heads) => heads.heads.iter().any(|head| head.room == GENERAL && head.seq == last).then_some(()),
        Event::Room(event) => panic!("a room that was shut sent {event:?}"),
        _ => None,
    })
    .await;
    assert_eq!(server.app.hub.held().followers, 2 + 1, "their own streams, and Ann in the room");
    b.open(from(GENERAL, at)).await;
    assert_eq!(texts(&b.events_to(last).await).len(), 20);
    assert_eq!(server.app.hub.held().followers, 2 + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_reading_costs_others_nothing_and_is_closed_as_slow() {
    let flags = [FAST, &["--slow-timeout-ms=300", "--close-wait-ms=100"]].concat();
    let server = start(&flags).await;
    let (ann, bob, eve) = (server.sign_in("Ann").await, server.sign_in("Bob").await, server.sign_in("Eve").await);
    let ((mut a, _), (mut b, _)) = (ann.enter().await, bob.enter().await);
    let (stuck, _) = eve.enter().await;
    socket2::SockRef::from(&stuck.socket).set_recv_buffer_size(4_096).unwrap();
    assert_eq!(server.app.sockets(), 3);
    let body = "x".repeat(4_000);
    let mut posts = 0_u64;
    while server.app.sockets() == 3 {
        let ack = a.post(post(&body)).await.unwrap();
        b.events_to(ack.seq).await;
        posts += 1;
        assert!(posts < 100_000, "the stuck reader was never closed");
    }
    let ack = a.post(post("after")).await.unwrap();
    assert_eq!(texts(&b.events_to(ack.seq).await), ["after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_lags_by_cursor_jumps_when_far_behind_and_is_not_closed() {
    // How long the posts take is the machine's to say, so nobody is closed for that.
    let flags = [FAST, &["--slow-timeout-ms=120000", "--dead-peer-ms=120000"]].concat();
    let server = start(&flags).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut b, at)) = (ann.enter().await, bob.enter().await);
    socket2::SockRef::from(&b.socket).set_recv_buffer_size(4_096).unwrap();
    let body = "y".repeat(2_000);
    let mut last = at.seq;
    for _ in 0..3_000 {
        last = a.post(post(&body)).await.unwrap().seq;
    }
    // Bob wakes: every seq is delivered or lies below a snapshot, in order.
    let mut cursor = at.seq;
    let mut jumps = 0;
    while cursor < last {
        cursor = b
            .event("what comes next", |event| match event {
                Event::Room(event) => {
                    assert_eq!(event.seq, cursor.next());
                    Some(event.seq)
                }
                Event::Opened(opened) => {
                    jumps += 1;
                    Some(as_of(opened).seq)
                }
                _ => None,
            })
            .await;
    }
    assert!(jumps > 0, "6 MB were delivered one by one to a reader with a small window");
    while let Some(came) = b.next_within(Duration::from_millis(50)).await {
        // Where the machine was slow, Bob is asked whether he lives.
        let is_beat = matches!(&came, Came::Message(message) if matches!(message.body, Body::Event(Event::Beat(_))));
        assert!(is_beat || matches!(came, Came::Ping(_)), "{came:?}");
    }
}
