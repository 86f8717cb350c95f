//! Requests, their keys, and the records they are committed in.
//!
//! Must not live here: what a request changes. Invariant: a request has one answer for ever.

use std::sync::mpsc;

use server::log::apply::SESSIONS_PER_PURGE;
use server::log::{Applied, Health, LogError, LogOptions, Op, SYSTEM, StorageError, open_memory};
use shared::error::ErrorCode;
use shared::ids::{Seq, UserId};
use shared::time::Timestamp;

use super::super::world::{ALL, World, edit, named, post};

contract! {
    every_stream_is_dense_from_one,
    a_repetition_gets_the_first_answer_for_ever,
    the_same_key_with_another_content_is_a_conflict,
    a_refused_request_may_be_asked_again_under_its_key,
    a_repetition_of_a_room_answers_the_first_room,
    a_read_position_takes_no_key,
    sessions_are_renewed_and_revoked_by_their_owner,
    ended_sessions_are_forgotten_in_batches_and_their_people_stay,
    several_entries_are_one_record,
    nobody_hears_of_what_is_refused,
    concurrent_proposers_keep_their_order,
    strangers_are_refused,
}

async fn every_stream_is_dense_from_one(world: World) {
    let ann = world.person("Ann").await;
    let (one, two) = (world.room(ann, "one").await, world.room(ann, "two").await);
    for n in 0..5 {
        world.post(ann, one, &format!("one {n}")).await;
        world.post(ann, two, &format!("two {n}")).await;
    }
    for room in [one, two] {
        let seqs: Vec<u64> = world.events(room).await.iter().map(|event| event.seq.0).collect();
        assert_eq!(seqs, (1..=7).collect::<Vec<_>>());
    }
    let mine = world.read(move |log| log.user_events(ann, Seq(0), ALL)).await;
    assert_eq!(mine.iter().map(|event| event.seq.0).collect::<Vec<_>>(), [1, 2, 3]);
    let tail = world.read(move |log| log.user_events(ann, Seq(2), ALL)).await;
    assert_eq!(tail, mine[2..]);
    let head = world.read(move |log| log.user_head(ann)).await.unwrap();
    assert_eq!((head.seq, head.check), (Seq(3), mine[2].check));
}

async fn a_repetition_gets_the_first_answer_for_ever(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let entry = world.entry(ann, post(room, "once"));
    let Applied::Committed(first) = world.log.propose(entry.clone()).await.unwrap() else { panic!("not committed") };
    world.post(ann, room, "another").await;
    let mut again = entry.clone();
    again.ts = Timestamp(entry.ts.0 + 86_400_000);
    assert_eq!(world.log.propose(again.clone()).await.unwrap(), Applied::Duplicate(first));
    world.ok(ann, Op::Delete { room, post: first.seq.into() }).await;
    world.ok(ann, Op::Leave { room }).await;
    assert_eq!(world.log.propose(again).await.unwrap(), Applied::Duplicate(first));
    assert_eq!(world.body(room, first.seq).await, None, "a repetition does not bring a deleted post back");
    assert_eq!(world.snapshot(room).await.total, 2);
}

async fn the_same_key_with_another_content_is_a_conflict(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let room = world.room(ann, "here").await;
    world.ok(ben, Op::Join { room }).await;
    let entry = world.entry(ann, post(room, "this"));
    world.log.propose(entry.clone()).await.unwrap();
    for op in [post(room, "that"), edit(room, Seq(3), "this"), Op::Leave { room }] {
        let mut other = entry.clone();
        other.op = op;
        let Applied::Refused(error) = world.log.propose(other).await.unwrap() else { panic!("not refused") };
        assert_eq!(error.code, ErrorCode::IdConflict);
    }
    let mut hers = entry;
    hers.by = ben;
    hers.op = post(room, "Ben's own");
    let answer = world.log.propose(hers).await.unwrap();
    assert!(matches!(answer, Applied::Committed(_)), "another person's key is another key: {answer:?}");
}

async fn a_refused_request_may_be_asked_again_under_its_key(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let room = world.room(ann, "here").await;
    let entry = world.entry(ben, post(room, "let me in"));
    assert!(matches!(world.log.propose(entry.clone()).await.unwrap(), Applied::Refused(_)));
    world.ok(ben, Op::Join { room }).await;
    assert!(matches!(world.log.propose(entry).await.unwrap(), Applied::Committed(_)));
}

async fn a_repetition_of_a_room_answers_the_first_room(world: World) {
    let ann = world.person("Ann").await;
    let create = |room| Op::RoomCreate { room, name: "here".into(), title: String::new() };
    let entry = world.entry(ann, create(world.room_id()));
    let Applied::Committed(first) = world.log.propose(entry.clone()).await.unwrap() else { panic!("not committed") };
    let mut again = entry.clone();
    again.op = create(world.room_id());
    assert_eq!(world.log.propose(again).await.unwrap(), Applied::Duplicate(first));
    assert_eq!(world.refused(ann, create(world.room_id())).await, ErrorCode::NameTaken);
}

async fn a_read_position_takes_no_key(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    world.post(ann, room, "one").await;
    let mut entry = world.entry(ann, Op::Read { room, posts: 0 });
    for posts in [0, 0, 1] {
        entry.op = Op::Read { room, posts };
        assert!(matches!(world.log.propose(entry.clone()).await, Ok(Applied::Committed(_))), "{posts} read");
    }
    entry.op = post(room, "under the same key");
    assert!(matches!(world.log.propose(entry).await, Ok(Applied::Committed(_))), "the key is free");
}

async fn sessions_are_renewed_and_revoked_by_their_owner(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let token = [7; 32];
    let session = move |log: &dyn server::log::Reads| Ok(log.session(&token)?.map(|row| (row.user, row.expires.0)));
    let open = |expires| Op::SessionOpen { token_hash: token, expires: Timestamp(expires) };
    assert_eq!(world.read(session).await, None);
    let renew = |expires| Op::SessionRenew { token_hash: token, expires: Timestamp(expires) };
    assert_eq!(world.refused(ann, renew(100)).await, ErrorCode::SignedOut, "a renewal opens nothing");
    world.ok(ann, open(100)).await;
    world.ok(ann, renew(200)).await;
    world.ok(ann, renew(150)).await;
    assert_eq!(world.read(session).await, Some((ann, 200)));
    assert_eq!(world.refused(ben, open(300)).await, ErrorCode::Forbidden);
    assert_eq!(world.refused(ben, renew(300)).await, ErrorCode::SignedOut);
    world.ok(ben, Op::SessionRevoke { token_hash: token }).await;
    assert_eq!(world.read(session).await, Some((ann, 200)), "nobody ends somebody else's");
    world.published.lock().unwrap().clear();
    world.ok(ann, Op::SessionRevoke { token_hash: token }).await;
    assert_eq!(world.read(session).await, None);
    assert_eq!(world.published.lock().unwrap()[0].effects.revoked, [(ann, token)]);
    assert_eq!(world.refused(ann, renew(400)).await, ErrorCode::SignedOut, "what was revoked is brought back");
    assert_eq!(world.read(session).await, None);
}

async fn ended_sessions_are_forgotten_in_batches_and_their_people_stay(world: World) {
    const ENDED: u8 = SESSIONS_PER_PURGE as u8 + 2;
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let seq = world.post(ann, room, "hello").await;
    // The later a session was opened, the sooner it ends: from 1,000 on, the last of those two at once.
    let ends = |n: u8| Timestamp(1_000 + u64::from(ENDED - n.min(ENDED - 1)));
    for n in 0..=ENDED {
        world.ok(ann, Op::SessionOpen { token_hash: [n; 32], expires: Timestamp(5_000) }).await;
        world.ok(ann, Op::SessionOpen { token_hash: [n; 32], expires: ends(n) }).await;
    }
    world.ok(ann, Op::SessionOpen { token_hash: [255; 32], expires: Timestamp(2_000) }).await;
    let kept = |log: &dyn server::log::Reads| {
        let all = (0..=255).map(|n| Ok(log.session(&[n; 32])?.map(|_| n)));
        all.filter_map(Result::transpose).collect::<Result<Vec<u8>, StorageError>>()
    };
    let first = |log: &dyn server::log::Reads| log.first_session_end();
    let purge = |before| Op::SessionPurge { before: Timestamp(before) };
    assert_eq!(world.refused(ann, purge(9_999)).await, ErrorCode::Forbidden, "this is for the server alone");
    assert_eq!(world.refused(world.user_id(), purge(9_999)).await, ErrorCode::SignedOut);
    assert_eq!(world.read(first).await, Some(Timestamp(1_001)));
    world.ok(SYSTEM, purge(1_000)).await;
    assert_eq!(world.read(kept).await.len(), usize::from(ENDED) + 2, "none has ended yet");
    world.published.lock().unwrap().clear();
    let entry = world.entry(SYSTEM, purge(1_999));
    for left in [vec![0, 1, 2, 255], vec![255], vec![255]] {
        // Asked again, it is done again: there is no answer that would be kept for ever.
        assert!(matches!(world.log.propose(entry.clone()).await, Ok(Applied::Committed(_))));
        assert_eq!(world.read(kept).await, left);
    }
    assert_eq!(world.read(first).await, Some(Timestamp(2_000)));
    world.ok(SYSTEM, purge(2_000)).await;
    assert_eq!((world.read(kept).await, world.read(first).await), (vec![], None), "what ends now has ended");
    let told = world.published.lock().unwrap().iter().map(|one| one.effects.clone()).collect::<Vec<_>>();
    assert!(told.iter().all(|effects| *effects == server::log::Effects::default()), "nobody is told: {told:?}");
    let snapshot = world.snapshot(room).await;
    assert_eq!((snapshot.posts[0].seq, snapshot.posts[0].by), (seq, ann));
    assert_eq!(snapshot.people[0].name, "Ann", "who wrote it can be read as ever");
    let other = world.user_id();
    assert_eq!(world.refused(other, named(other, "ann")).await, ErrorCode::NameTaken, "and is nobody else");
}

async fn several_entries_are_one_record(world: World) {
    let ann = world.user_id();
    let room = world.room_id();
    let entries = vec![
        world.entry(ann, named(ann, "Ann")),
        world.entry(ann, Op::SessionOpen { token_hash: [1; 32], expires: Timestamp(1) }),
        world.entry(ann, Op::RoomCreate { room, name: "here".into(), title: String::new() }),
        world.entry(ann, post(world.room_id(), "nowhere")),
        world.entry(ann, post(room, "here")),
    ];
    let answers = world.log.propose_all(entries).await.unwrap();
    let committed: Vec<bool> = answers.iter().map(|answer| matches!(answer, Applied::Committed(_))).collect();
    assert_eq!(committed, [true, true, true, false, true]);
    let published = world.published.lock().unwrap().clone();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].effects.room_events, world.events(room).await);
    assert_eq!(published[0].lsn, world.read(|log| log.lsn()).await);
}

async fn nobody_hears_of_what_is_refused(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let entry = world.entry(ann, post(room, "once"));
    world.log.propose(entry.clone()).await.unwrap();
    let (lsn, before) = (world.read(|log| log.lsn()).await, world.published.lock().unwrap().len());
    world.log.propose(entry).await.unwrap();
    world.refused(ann, post(world.room_id(), "nowhere")).await;
    assert_eq!(world.published.lock().unwrap().len(), before);
    assert_eq!(world.read(|log| log.lsn()).await, lsn);
    assert_eq!(world.log.health(), Health::Writable);
}

async fn concurrent_proposers_keep_their_order(world: World) {
    const PROPOSERS: u64 = 16;
    const POSTS: u64 = 20;
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let mut proposers = tokio::task::JoinSet::new();
    for p in 0..PROPOSERS {
        let log = world.log.clone();
        let entries: Vec<_> = (0..POSTS).map(|n| world.entry(ann, post(room, &format!("{p} {n}")))).collect();
        proposers.spawn(async move {
            // All of one proposer's are on their way at once, proposed in order.
            let mut waiting = Vec::new();
            for entry in entries {
                let mut answer = Box::pin({
                    let log = log.clone();
                    async move { log.propose(entry).await }
                });
                let now = std::future::poll_fn(|context| std::task::Poll::Ready(answer.as_mut().poll(context))).await;
                match now {
                    std::task::Poll::Pending => waiting.push(answer),
                    // The writer may be that quick, where this thread is not given the processor in between.
                    std::task::Poll::Ready(done) => assert!(matches!(done, Ok(Applied::Committed(_)))),
                }
            }
            for answer in waiting {
                assert!(matches!(answer.await, Ok(Applied::Committed(_))));
            }
        });
    }
    while let Some(done) = proposers.join_next().await {
        done.unwrap();
    }
    let snapshot = world.snapshot(room).await;
    assert_eq!(snapshot.total, PROPOSERS * POSTS);
    for p in 0..PROPOSERS {
        let of = format!("{p} ");
        let bodies = snapshot.posts.iter().filter_map(|post| post.body.as_deref());
        let order: Vec<u64> = bodies.filter_map(|body| body.strip_prefix(&of)).map(|n| n.parse().unwrap()).collect();
        assert_eq!(order, (0..POSTS).collect::<Vec<_>>(), "proposer {p}");
    }
    let published = world.published.lock().unwrap();
    let told: Vec<u64> = published.iter().flat_map(|one| &one.effects.room_events).map(|event| event.seq.0).collect();
    assert!(told.is_sorted(), "what is published is in order");
    assert!(published.len() < usize::try_from(PROPOSERS * POSTS).unwrap(), "what waits together is committed together");
}

async fn strangers_are_refused(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let stranger = world.user_id();
    for op in [
        post(room, "hello"),
        Op::Join { room },
        Op::RoomCreate { room: world.room_id(), name: "theirs".into(), title: String::new() },
        Op::SessionOpen { token_hash: [9; 32], expires: Timestamp(1) },
    ] {
        assert_eq!(world.refused(stranger, op).await, ErrorCode::SignedOut);
    }
}

#[tokio::test]
async fn a_full_queue_answers_busy_and_the_rest_goes_on() {
    let (entered, wait_entered) = mpsc::channel::<()>();
    let (release, wait_release) = mpsc::channel::<()>();
    let options = LogOptions { queue_entries: 2, ..LogOptions::default() };
    let (log, writer) = open_memory(&options, move |_| {
        let _ = entered.send(());
        let _ = wait_release.recv();
    })
    .unwrap();
    let entry = |n: u8| {
        let user = UserId::from_bytes([n; 16]);
        let key = shared::ids::ClientId::from_bytes([n; 16]);
        server::log::Entry { ts: Timestamp(1), by: user, key, op: named(user, &format!("user {n}")) }
    };
    let propose = |n: u8| {
        tokio::spawn({
            let log = log.clone();
            let entry = entry(n);
            async move { log.propose(entry).await }
        })
    };
    let first = propose(1);
    tokio::task::spawn_blocking(move || wait_entered.recv().unwrap()).await.unwrap();
    // The writer is inside the sink: two fit the queue, the third does not.
    let mut waiting: Vec<_> = (2..=3).map(|n| Box::pin(log.propose(entry(n)))).collect();
    for answer in &mut waiting {
        let now = std::future::poll_fn(|context| std::task::Poll::Ready(answer.as_mut().poll(context))).await;
        assert!(now.is_pending());
    }
    assert_eq!(log.propose(entry(4)).await, Err(LogError::Busy));
    drop(release);
    assert!(matches!(first.await.unwrap(), Ok(Applied::Committed(_))));
    for answer in waiting {
        assert!(matches!(answer.await, Ok(Applied::Committed(_))));
    }
    tokio::task::spawn_blocking(|| writer.shutdown()).await.unwrap().unwrap();
    assert_eq!(log.propose(entry(5)).await, Err(LogError::Stopped));
    assert_eq!(log.health(), Health::Stopped);
}
