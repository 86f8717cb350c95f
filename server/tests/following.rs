//! One connection that follows several streams: they take turns, leave one another alone, and end where membership ends.
//!
//! Must not live here: races of threads (`interleaved`). Invariant: the reader's connection takes a step only when the
//! test lets it, and its link carries only what the test allows, so that nothing depends on time.

mod common;

use std::time::{Duration, Instant};

use common::link::{Held, Reader, write};
use common::*;
use server::Storage;
use server::connection::Step;
use server::delivery::Held as Kept;
use shared::error::ErrorCode;
use shared::ids::RoomId;
use shared::limits::OPEN_ROOMS;
use shared::message::{Command, CreateRoom, Membership, OpenRoom, Reply, RoomRef, SendPost};
use shared::model::{RoomChange, RoomEvent};

/// Nobody is told anything but what is new in a stream, and nobody is looked after by the sweep.
const QUIET: &[&str] = &["--coalesce-ms=600000", "--sweep-ms=600000", "--slow-timeout-ms=600000"];

async fn quiet(storage: Storage) -> Running {
    start_with(storage, &[FAST, QUIET].concat()).await
}

async fn room(client: &mut Client, name: &str) -> RoomId {
    let asked = CreateRoom { client_id: key(), name: name.to_owned(), title: String::new() };
    match client.ask(Command::CreateRoom(asked)).await {
        Ok(Reply::Room(room)) => room.room,
        other => panic!("no room but {other:?}"),
    }
}

/// The rooms of events, each run of one room as one.
fn turns(events: &[RoomEvent]) -> usize {
    1 + events.windows(2).filter(|pair| pair[0].room != pair[1].room).count()
}

async fn says_in(client: &mut Client, rooms: &[RoomId], posts: usize, body: &str) {
    for _ in 0..posts {
        for room in rooms {
            client.post(SendPost { room: *room, ..post(body) }).await.unwrap();
        }
    }
}

async fn open(reader: &mut Reader, ask: OpenRoom) {
    reader.say(Command::Open(ask));
    reader.opened().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_and_shutting_a_room_leaves_the_other_streams_alone() {
    let server = quiet(Storage::Memory).await;
    let ann = server.sign_in("Ann").await;
    let mut reader = Reader::enter(&server, &ann).await;
    let (mut a, _) = ann.connect(&[]).await;
    let tea = room(&mut a, "tea").await;
    open(&mut reader, fresh(tea)).await;
    reader.user_events.clear();
    a.post(post("in general")).await.unwrap();
    room(&mut a, "cake").await;
    eventually("news of the other room", || reader.step().posts.len() == 1).await;
    eventually("news of what is my own", || !reader.step().user_events.is_empty()).await;
    reader.user_events.clear();

    reader.say(Command::Shut(RoomRef { room: tea }));
    reader.step();
    says_in(&mut a, &[tea, GENERAL], 1, "again").await;
    room(&mut a, "milk").await;
    eventually("news of the room that stays", || reader.step().posts.len() == 2).await;
    eventually("news of what is my own", || !reader.step().user_events.is_empty()).await;
    assert!(reader.posts.iter().all(|event| event.room == GENERAL), "a room that is not open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_far_behind_take_turns_and_all_of_them_come() {
    let server = quiet(Storage::Memory).await;
    let ann = server.sign_in("Ann").await;
    let (mut a, _) = ann.connect(&[]).await;
    let rooms = [GENERAL, room(&mut a, "tea").await];
    // In memory, each more than is handed out at once; and below what is in memory, where pages are read.
    for (posts, bytes) in [(60, 4_000), (300, 4)] {
        let mut reader = Reader::enter(&server, &ann).await;
        open(&mut reader, fresh(rooms[1])).await;
        // Hints that were on their way have come; without any, the connection alone says whose turn it is.
        server.app.hub.lose_hints(false);
        says_in(&mut a, &rooms, 1, "x").await;
        eventually("the first of both", || reader.step().posts.len() == 2).await;
        reader.posts.clear();
        server.app.hub.lose_hints(true);
        reader.link.allow(0);
        says_in(&mut a, &rooms, posts, &"x".repeat(bytes)).await;
        reader.link.allow(usize::MAX);
        server.app.hub.wake_late();
        eventually("all of it has come", || reader.step().posts.len() == 2 * posts).await;
        for room in rooms {
            let seqs: Vec<u64> =
                reader.posts.iter().filter(|event| event.room == room).map(|event| event.seq.0).collect();
            assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
        }
        assert!(turns(&reader.posts) > 2, "one room waited for all of the other");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_far_behind_when_they_leave_gets_all_up_to_there_and_nothing_after() {
    let server = quiet(Storage::Sqlite).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let mut writers = [ann.connect(&[]).await.0, ann.connect(&[]).await.0, ann.connect(&[]).await.0];
    let (mut b, _) = bob.connect(&[]).await;
    // A program is read pages; a person's page would have been the room as it is by now, of which they are not any more.
    for replay in [true, false] {
        let mut reader = Reader::enter_with(&server, &bob, OpenRoom { replay, ..fresh(GENERAL) }).await;
        reader.link.allow(0);
        let last = write(&mut writers, 402).await;
        let held = Held::hold(&server).await;
        reader.link.allow(usize::MAX);
        assert!(reader.step().posts.is_empty(), "what was missed is in memory");
        b.ask(Command::Leave(Membership { client_id: key(), room: GENERAL })).await.unwrap();
        drop(held);
        write(&mut writers, 3).await;
        eventually("all up to there", || {
            reader.step().posts.last().is_some_and(|event| matches!(event.change, RoomChange::Left(_)))
        })
        .await;
        let seqs: Vec<u64> = reader.posts.iter().map(|event| event.seq.0).collect();
        assert_eq!(seqs, (last.0 + 1 - 402..=last.0 + 1).collect::<Vec<_>>(), "replay {replay}");
        reader.say(Command::Beat(shared::message::Beat::default()));
        eventually("an answer", || reader.step().answers.iter().any(|reply| matches!(reply, Reply::Beat(_)))).await;
        assert_eq!((reader.posts.len(), reader.jumps.len()), (403, 0));
        b.ask(Command::Join(Membership { client_id: key(), room: GENERAL })).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_hint_did_not_reach_the_sweep_wakes() {
    let server = quiet(Storage::Memory).await;
    let ann = server.sign_in("Ann").await;
    let (mut a, _) = ann.connect(&[]).await;
    let mut reader = Reader::enter(&server, &ann).await;
    server.app.hub.lose_hints(true);
    a.post(post("unheard")).await.unwrap();
    server.app.hub.wake_late();
    assert_eq!(texts(&reader.step().posts), ["unheard"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_of_streams_is_counted_and_goes_with_the_last_who_follow_them() {
    let server = quiet(Storage::Memory).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let mut a = Reader::enter(&server, &ann).await;
    let (mut b, _) = bob.connect(&[]).await;
    let at = b.post(post("kept")).await.unwrap().seq;
    eventually("the post has come", || a.step().posts.last().is_some_and(|event| event.seq == at)).await;
    let held = server.app.hub.held();
    let told = shared::message::Message::event(shared::message::Event::Room(a.posts[0].clone())).to_json();
    // A frame of this length has a head of four bytes.
    let tail_bytes = told.len() + 4;
    // Two streams of their own and the room; Bob watches it.
    assert_eq!(held, Kept { streams: 3, followers: 3, watchers: 1, tail_frames: 1, tail_bytes });
    a.say(Command::Shut(RoomRef { room: GENERAL }));
    a.step();
    let held = server.app.hub.held();
    assert_eq!(held, Kept { streams: 3, followers: 2, watchers: 2, tail_frames: 0, tail_bytes: 0 });
    drop((a, b));
    eventually("nothing is kept", || server.app.hub.held() == Kept::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_only_asked_to_open_a_room_neither_hears_nor_is_heard_to_write_there() {
    let server = quiet(Storage::Sqlite).await;
    let (ann, eve) = (server.sign_in("Ann").await, server.sign_in("Eve").await);
    let (mut a, _) = ann.connect(&[]).await;
    let tea = room(&mut a, "tea").await;
    let typing = || Command::Typing(RoomRef { room: tea });
    let mut inside = Reader::enter_with(&server, &ann, fresh(tea)).await;
    let mut reader = Reader::enter(&server, &eve).await;
    let held = Held::hold(&server).await;
    reader.say(Command::Open(fresh(tea)));
    reader.step();
    reader.say(typing());
    inside.say(typing());
    inside.step();
    reader.step();
    inside.step();
    assert_eq!((reader.typing, inside.typing), (0, 0), "told before anybody looked whether she is a member");
    drop(held);
    eventually("it is refused", || !reader.step().refusals.is_empty()).await;
    assert_eq!(reader.refusals[0].code, ErrorCode::NotMember);
    assert_eq!((reader.typing, inside.step().typing), (0, 0));

    let (mut e, _) = eve.connect(&[]).await;
    e.ask(Command::Join(Membership { client_id: key(), room: tea })).await.unwrap();
    reader.answers.clear();
    open(&mut reader, fresh(tea)).await;
    reader.say(typing());
    reader.step();
    assert_eq!(inside.step().typing, 1, "a member is not heard");
    let mut other = Reader::enter_with(&server, &ann, fresh(tea)).await;
    other.say(typing());
    other.step();
    assert_eq!(reader.step().typing, 1, "a member does not hear");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_rooms_are_open_at_once_than_allowed() {
    let server = quiet(Storage::Memory).await;
    let ann = server.sign_in("Ann").await;
    let (mut a, _) = ann.connect(&[]).await;
    let mut reader = Reader::enter(&server, &ann).await;
    for n in 1..OPEN_ROOMS {
        let one = room(&mut a, &format!("room-{n}")).await;
        open(&mut reader, fresh(one)).await;
    }
    let one_more = room(&mut a, "one-more").await;
    reader.say(Command::Open(fresh(one_more)));
    eventually("a refusal", || !reader.step().refusals.is_empty()).await;
    assert_eq!(reader.refusals[0].code, ErrorCode::LimitReached);
    // Anew is not one more.
    open(&mut reader, fresh(GENERAL)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_wait_are_told_in_time_whatever_else_wakes_the_connection() {
    const COALESCE: Duration = Duration::from_secs(20);
    let server =
        start(&[FAST, &["--coalesce-ms=20000", "--dead-peer-ms=300000", "--slow-timeout-ms=600000"]].concat()).await;
    let ann = server.sign_in("Ann").await;
    let (mut a, _) = ann.connect(&[]).await;
    let tea = room(&mut a, "tea").await;
    let mut reader = Reader::enter(&server, &ann).await;
    // The first head is told at once, the others wait.
    says_in(&mut a, &[tea], 1, "first").await;
    eventually("the first head", || reader.step().heads == 1).await;
    for n in 0..3 {
        says_in(&mut a, &[tea], 1, "later").await;
        server.app.hub.for_followers(GENERAL, |peer| peer.mailbox.wake());
        let Step::Until(until) = reader.connection.step() else { panic!("over") };
        assert!(until <= Instant::now() + COALESCE, "after {n} later ones they wait for longer");
    }
    assert_eq!(reader.step().heads, 1);
}
