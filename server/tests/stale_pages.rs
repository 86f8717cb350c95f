//! A page of events that was asked for before a room was opened anew, or shut, and is read only afterwards: it changes
//! nothing and loses nothing.
//!
//! Must not live here: history that a client asks for by name. Invariant: the log reads nothing while a test holds its
//! readers, so that the page and the opening always meet in the same order.

mod common;

use common::link::{Held, Reader, write};
use common::*;
use server::Storage;
use shared::cursor::Position;
use shared::ids::Seq;
use shared::message::{Command, OpenRoom, Reply, RoomRef};
use shared::model::OpenOutcome;

/// Posts that are missed: more than a tail keeps, and more than a person is sent one by one.
const MISSED: u64 = 320;

/// A reader whose page is being asked for: it stands at `at`, far below what the room keeps in memory.
async fn reading(server: &Running, bob: &User, writers: &mut [Client], replay: bool) -> (Reader, Held, Position, Seq) {
    let (_, at) = bob.enter().await;
    let mut reader = Reader::enter_with(server, bob, OpenRoom { replay, ..from(GENERAL, at) }).await;
    reader.link.allow(0);
    let last = write(writers, MISSED).await;
    let held = Held::hold(server).await;
    reader.link.allow(usize::MAX);
    assert!(reader.step().posts.is_empty(), "what was missed is in memory");
    reader.answers.clear();
    (reader, held, at, last)
}

/// Everything after `from` comes once and in order, and what is posted now as well; nothing is told twice.
async fn goes_on(reader: &mut Reader, writers: &mut [Client], from: Seq) {
    let last = write(writers, writers.len() as u64).await;
    eventually("all of it has come", || reader.step().posts.last().is_some_and(|event| event.seq >= last)).await;
    let seqs: Vec<u64> = reader.posts.iter().map(|event| event.seq.0).collect();
    assert_eq!(seqs, (from.0 + 1..=last.0).collect::<Vec<_>>());
    assert!(reader.jumps.is_empty(), "{:?}", reader.jumps);
}

async fn server_and_writers() -> (Running, User, Vec<Client>) {
    let server = start_with(Storage::Sqlite, &[FAST, &["--slow-timeout-ms=60000"]].concat()).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let mut writers = Vec::new();
    for _ in 0..8 {
        writers.push(ann.connect(&[]).await.0);
    }
    (server, bob, writers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_comes_after_its_room_was_opened_anew_changes_nothing_and_loses_nothing() {
    let (server, bob, mut writers) = server_and_writers().await;
    // What is read for a program is a page of events, for a person far behind the room as it is by now.
    for (replay, shut) in [(true, false), (false, true)] {
        let (mut reader, held, _, last) = reading(&server, &bob, &mut writers, replay).await;
        if shut {
            reader.say(Command::Shut(RoomRef { room: GENERAL }));
        }
        reader.say(Command::Open(fresh(GENERAL)));
        reader.step();
        drop(held);
        assert_eq!(as_of(&reader.opened().await).seq, last);
        goes_on(&mut reader, &mut writers, last).await;
    }
    for (replay, shut) in [(true, true), (false, false)] {
        let (mut reader, held, at, _) = reading(&server, &bob, &mut writers, replay).await;
        if shut {
            reader.say(Command::Shut(RoomRef { room: GENERAL }));
        }
        reader.say(Command::Open(OpenRoom { replay: true, ..from(GENERAL, at) }));
        reader.step();
        drop(held);
        match reader.opened().await.outcome {
            OpenOutcome::Recovered { missed, .. } => assert_eq!(missed, MISSED),
            other => panic!("not recovered but {other:?}"),
        }
        goes_on(&mut reader, &mut writers, at.seq).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_comes_after_its_room_was_shut_is_not_told() {
    let (server, bob, mut writers) = server_and_writers().await;
    for replay in [true, false] {
        let (mut reader, held, at, _) = reading(&server, &bob, &mut writers, replay).await;
        reader.say(Command::Shut(RoomRef { room: GENERAL }));
        eventually("the room is shut", || reader.step().answers.iter().any(|reply| matches!(reply, Reply::Done(_))))
            .await;
        // The next opening is answered behind the page: the log reads for those who asked first.
        reader.say(Command::Open(OpenRoom { replay: true, ..from(GENERAL, at) }));
        reader.step();
        drop(held);
        reader.opened().await;
        goes_on(&mut reader, &mut writers, at.seq).await;
    }
}
