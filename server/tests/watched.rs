//! Rooms that somebody is in and has not open: their connection is told where each stands, whenever it began to watch.
//!
//! Must not live here: streams that are followed (`following`). Invariant: the reader's connection takes a step only when
//! the test lets it, and its link carries only what the test allows, so that nothing depends on time.

mod common;

use std::sync::{Arc, mpsc};

use common::link::{Held, Reader};
use common::*;
use server::Storage;
use server::log::{Applied, Entry, Op};
use shared::error::ErrorCode;
use shared::ids::{RoomId, Seq, StreamId};
use shared::message::{Command, CreateRoom, Membership, Reply, RoomRef, SendPost};
use shared::time::Timestamp;
use tokio::task::JoinHandle;

const QUIET: &[&str] = &["--coalesce-ms=1", "--sweep-ms=600000", "--slow-timeout-ms=600000", "--dead-peer-ms=600000"];

async fn quiet() -> Running {
    start_with(Storage::Sqlite, &[FAST, QUIET].concat()).await
}

/// Makes a room and has others join it.
async fn room(maker: &mut Client, others: &mut [&mut Client], name: &str) -> RoomId {
    let asked = CreateRoom { client_id: key(), name: name.to_owned(), title: String::new() };
    let Reply::Room(room) = maker.ask(Command::CreateRoom(asked)).await.unwrap() else { panic!("no room") };
    for other in others {
        other.ask(Command::Join(Membership { client_id: key(), room: room.room })).await.unwrap();
    }
    room.room
}

async fn says_in(client: &mut Client, room: RoomId, body: &str) -> Seq {
    client.post(SendPost { room, ..post(body) }).await.unwrap().seq
}

/// Everything that was asked of the log before has been read.
async fn all_is_read(server: &Running) {
    drop(Held::hold(server).await);
}

/// The news have been walked around up to there.
async fn is_walked(follower: &mut Client, room: RoomId, seq: Seq) {
    while {
        let event = follower.room_event().await;
        (event.room, event.seq) != (room, seq)
    } {}
}

async fn is_told(reader: &mut Reader, room: RoomId, seq: Seq) {
    eventually("the head is told", || reader.step().head_of.get(&room).is_some_and(|head| head.seq == seq)).await;
    assert!(reader.posts.iter().all(|event| event.room != room || event.seq < seq), "a room that is not open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_between_the_greetings_reading_and_its_writing_is_told() {
    let server = quiet().await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut b, _)) = (ann.connect(&[]).await, bob.connect(&[]).await);
    // In one nobody is in memory, in the other somebody follows.
    let (empty, busy) = (room(&mut a, &mut [&mut b], "empty").await, room(&mut a, &mut [&mut b], "busy").await);
    drop(b);
    eventually("Bob is gone", || server.app.registry.len() == 1).await;
    let (mut writer, _) = ann.connect(&[]).await;
    a.open(fresh(busy)).await;
    let mut reader = Reader::begin(&server, &bob, fresh(GENERAL));
    reader.step();
    all_is_read(&server).await;
    let (one, other) = (says_in(&mut writer, empty, "unseen").await, says_in(&mut writer, busy, "unseen").await);
    is_walked(&mut a, busy, other).await;
    eventually("the reader is live", || reader.step().live).await;
    is_told(&mut reader, empty, one).await;
    is_told(&mut reader, busy, other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_last_to_a_room_that_is_shut_is_told() {
    let server = quiet().await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut follower, _)) = (ann.connect(&[]).await, ann.enter().await);
    let mut reader = Reader::enter(&server, &bob).await;
    reader.link.allow(0);
    says_in(&mut a, GENERAL, "waits in the way out").await;
    eventually("something waits", || {
        reader.step();
        reader.connection.queued_bytes() > 0
    })
    .await;
    let last = says_in(&mut a, GENERAL, "is behind it").await;
    is_walked(&mut follower, GENERAL, last).await;
    reader.say(Command::Shut(RoomRef { room: GENERAL }));
    reader.step();
    reader.link.allow(usize::MAX);
    is_told(&mut reader, GENERAL, last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_was_left_and_joined_again_is_watched() {
    let server = quiet().await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut b, _)) = (ann.enter().await, bob.connect(&[]).await);
    let mut reader = Reader::enter(&server, &bob).await;
    reader.link.allow(0);
    b.ask(Command::Leave(Membership { client_id: key(), room: GENERAL })).await.unwrap();
    b.ask(Command::Join(Membership { client_id: key(), room: GENERAL })).await.unwrap();
    reader.link.allow(usize::MAX);
    eventually("the reader was told of both", || reader.step().user_events.len() == 2).await;
    eventually("the reader was told that it is over", || !reader.step().posts.is_empty()).await;
    let last = says_in(&mut a, GENERAL, "unseen").await;
    is_told(&mut reader, GENERAL, last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_to_a_room_before_the_reader_heard_that_it_is_theirs_is_told() {
    let server = quiet().await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut b, _)) = (ann.connect(&[]).await, bob.connect(&[]).await);
    let mut reader = Reader::enter(&server, &bob).await;
    let tea = room(&mut a, &mut [&mut b], "tea").await;
    drop(b);
    let last = says_in(&mut a, tea, "unseen").await;
    eventually("the reader was told of the room", || !reader.step().user_events.is_empty()).await;
    is_told(&mut reader, tea, last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_could_not_be_opened_is_watched_as_before() {
    let server = quiet().await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut b, _)) = (ann.connect(&[]).await, bob.connect(&[]).await);
    let tea = room(&mut a, &mut [&mut b], "tea").await;
    drop(b);
    let mut reader = Reader::enter(&server, &bob).await;
    let database = rusqlite::Connection::open(server.app.config.data_dir.join("holdfast.db")).unwrap();
    database.execute_batch("ALTER TABLE stays RENAME TO unreadable").unwrap();
    reader.say(Command::Open(fresh(tea)));
    eventually("it is refused", || !reader.step().refusals.is_empty()).await;
    assert_eq!(reader.refusals[0].code, ErrorCode::Internal);
    database.execute_batch("ALTER TABLE unreadable RENAME TO stays").unwrap();
    let last = says_in(&mut a, tea, "unseen").await;
    is_told(&mut reader, tea, last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_opens_a_room_that_was_left_and_joined_again_in_one_record_follows_it() {
    let server = quiet().await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let dora = server.sign_in("Dora").await;
    let (mut a, _) = ann.connect(&[]).await;
    let rooms = rooms_of(&server, &dora).await;
    for is_published_late in [false, true] {
        let (holds, record) = left_and_back(&server, (&dora, &bob), rooms, &ann).await;
        // The room is followed and the log asked for it while the rest of the record waits to be published.
        let mut reader = Reader::begin(&server, &bob, fresh(GENERAL));
        reader.step();
        all_is_read(&server).await;
        if is_published_late {
            eventually("the reader is live", || reader.step().live).await;
        }
        drop(holds);
        assert!(record.await.unwrap().iter().all(|applied| matches!(applied, Applied::Committed(_))));
        eventually("the reader is live", || reader.step().live).await;
        let last = says_in(&mut a, GENERAL, "seen").await;
        eventually("the post has come", || reader.step().posts.iter().any(|event| event.seq == last)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_once_more_before_the_answer_to_their_opening_hears_no_more() {
    let server = quiet().await;
    let (ann, bob, cora) = (server.sign_in("Ann").await, server.sign_in("Bob").await, server.sign_in("Cora").await);
    let ((mut a, _), (mut follower, _)) = (ann.connect(&[]).await, cora.enter().await);
    let dora = server.sign_in("Dora").await;
    let rooms = rooms_of(&server, &dora).await;
    let (holds, record) = left_and_back(&server, (&dora, &bob), rooms, &ann).await;
    let mut reader = Reader::begin(&server, &bob, fresh(GENERAL));
    reader.step();
    all_is_read(&server).await;
    // The first leaving comes this way, then the second; and only then is it looked at what the log answered.
    drop(holds);
    record.await.unwrap();
    let leaves = entry(&bob, Op::Leave { room: GENERAL });
    let Applied::Committed(left) = server.app.log.propose(leaves).await.unwrap() else { panic!("not committed") };
    eventually("the reader is live", || reader.step().live).await;
    let last = says_in(&mut a, GENERAL, "secret").await;
    is_walked(&mut follower, GENERAL, last).await;
    server.app.hub.wake_late();
    eventually("the reader has heard of it", || reader.step().posts.iter().any(|event| event.seq == left.seq)).await;
    assert!(reader.step().posts.iter().all(|event| event.seq <= left.seq), "who left is told of what came after");
}

/// Two rooms of somebody who is not connected: whoever holds one up is in nobody's way but the publisher's.
async fn rooms_of(server: &Running, maker: &User) -> [RoomId; 2] {
    let rooms = [(); 2].map(|()| server.app.ambient.mint_room());
    for (room, name) in rooms.into_iter().zip(["seen", "held-up"]) {
        let make = Op::RoomCreate { room, name: name.to_owned(), title: String::new() };
        let made = server.app.log.propose(entry(maker, make)).await.unwrap();
        assert!(matches!(made, Applied::Committed(_)), "{made:?}");
    }
    rooms
}

/// Somebody leaves the room everybody is in and is back at once, in a record that is committed and of which nothing about
/// that room is published until the first of what is returned is dropped. A connection of `follower` is said to follow the
/// rooms of `maker` that are written to before.
async fn left_and_back(
    server: &Running,
    (maker, leaver): (&User, &User),
    [seen, held_up]: [RoomId; 2],
    follower: &User,
) -> (mpsc::Sender<()>, JoinHandle<Vec<Applied>>) {
    let mut peer = None;
    server.app.registry.for_user(follower.person.id, |connection| peer = Some(Arc::clone(connection)));
    let peer = peer.unwrap();
    let (stream, _) = server.app.hub.follow(StreamId::Room(seen), &peer);
    server.app.hub.follow(StreamId::Room(held_up), &peer);
    let before = stream.head();
    let holds = holds_up(server, held_up).await;
    let (log, entries) = (server.app.log.clone(), leaves_and_joins(maker, leaver, seen, held_up));
    let record = tokio::spawn(async move { log.propose_all(entries).await.unwrap() });
    eventually("the record is committed", || stream.head() > before).await;
    (holds, record)
}

/// Lets nothing of a room be published until what is returned is dropped.
async fn holds_up(server: &Running, room: RoomId) -> mpsc::Sender<()> {
    let (end, ended) = mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let (hub, mut begin) = (Arc::clone(&server.app.hub), Some(begin));
    std::thread::spawn(move || {
        hub.for_followers(room, |_| {
            begin.take().map(|begin| begin.send(()));
            // Until the other end is dropped.
            let _ = ended.recv();
        });
    });
    begun.await.unwrap();
    end
}

/// What is published first, what can be held up, and somebody who leaves the room everybody is in and is back at once.
fn leaves_and_joins(maker: &User, leaver: &User, seen: RoomId, held_up: RoomId) -> Vec<Entry> {
    vec![
        entry(maker, Op::Post { room: seen, body: "one".to_owned() }),
        entry(maker, Op::Post { room: held_up, body: "other".to_owned() }),
        entry(leaver, Op::Leave { room: GENERAL }),
        entry(leaver, Op::Join { room: GENERAL }),
    ]
}

fn entry(by: &User, op: Op) -> Entry {
    Entry { ts: Timestamp(1), by: by.person.id, key: key(), op }
}
