//! What is kept for somebody who asks for a lot and takes nothing of it.
//!
//! Must not live here: how long that is put up with (`e2e`). Invariant: the connection takes a step only when the test lets
//! it, and what waits is looked at after each.

mod common;

use std::collections::BTreeSet;

use common::link::Reader;
use common::*;
use shared::ids::{RoomId, Seq};
use shared::limits::{OPEN_ROOMS, OUTBOUND_MESSAGE_BYTES};
use shared::message::{Body, Command, CreateRoom, Event, History, Message, OpenRoom, Reply, SendPost};
use shared::model::OpenOutcome;

/// As large as a post may be, nearly.
const POST: &str = "中";
const POST_CHARACTERS: usize = 4_000;
/// More of them than one snapshot holds.
const POSTS: usize = 12;
const ASKED: usize = 40;
/// Answers up to where no more is answered, and the one that passed it.
const MOST_ANSWERS: usize = 2 * 64 * 1024 + OUTBOUND_MESSAGE_BYTES;
/// The snapshots of a greeting, and everything around them.
const MOST_GREETING: usize = 4 * OUTBOUND_MESSAGE_BYTES + OUTBOUND_MESSAGE_BYTES;

async fn fill(client: &mut Client, room: RoomId) {
    for _ in 0..POSTS {
        client.post(SendPost { room, ..post(&POST.repeat(POST_CHARACTERS)) }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_for_together_is_answered_as_far_as_the_answers_are_taken() {
    let server = start(&[FAST, &["--slow-timeout-ms=60000"]].concat()).await;
    let (mut a, _) = server.sign_in("Ann").await.connect(&[]).await;
    fill(&mut a, GENERAL).await;
    let mut reader = Reader::enter(&server, &server.sign_in("Bob").await).await;
    reader.link.allow(0);
    for _ in 0..ASKED {
        reader.say(Command::History(History { room: GENERAL, before: Seq(1_000), limit: None }));
    }
    for _ in 0..ASKED * 4 {
        reader.step();
        let waiting = reader.connection.queued_bytes();
        assert!(waiting <= MOST_ANSWERS, "{waiting} bytes wait for somebody who takes nothing");
        // Time for whatever is being read.
        server.app.log.read(|_| Ok(())).await.unwrap();
    }
    assert!(reader.connection.queued_bytes() > OUTBOUND_MESSAGE_BYTES / 2, "nothing was answered at all");
    eventually("every answer has come", || {
        reader.link.allow(100_000);
        assert!(reader.step().connection.queued_bytes() <= MOST_ANSWERS);
        let pages = reader.answers.iter().filter(|answer| matches!(answer, Reply::History(_)));
        pages.count() == ASKED
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeting_shows_less_of_each_room_the_more_it_names_and_each_once() {
    let server = start(&[FAST, &["--slow-timeout-ms=60000"]].concat()).await;
    let ann = server.sign_in("Ann").await;
    let (mut a, _) = ann.connect(&[]).await;
    let mut rooms = vec![GENERAL];
    for number in 1..OPEN_ROOMS {
        let ask = CreateRoom { client_id: key(), name: format!("room-{number}"), title: String::new() };
        let Reply::Room(room) = a.ask(Command::CreateRoom(ask)).await.unwrap() else { panic!("no room") };
        rooms.push(room.room);
    }
    for room in &rooms {
        fill(&mut a, *room).await;
    }
    // Some are named again; that makes them neither more rooms than can be followed nor more to tell.
    let asks: Vec<OpenRoom> = rooms.iter().chain(&rooms[..9]).map(|room| fresh(*room)).collect();
    let mut reader = Reader::begin_with(&server, &ann, &asks);
    reader.link.allow(0);
    eventually("the greeting waits", || {
        reader.connection.step();
        reader.connection.queued_bytes() > OUTBOUND_MESSAGE_BYTES
    })
    .await;
    let waiting = reader.connection.queued_bytes();
    assert!(waiting <= MOST_GREETING, "{waiting} bytes wait for somebody who takes nothing");
    reader.link.allow(usize::MAX);
    let mut opened = Vec::new();
    eventually("every room was opened", || {
        reader.connection.step();
        opened.extend(reader.link.messages().into_iter().filter_map(|message| match message {
            Message { body: Body::Event(Event::Opened(opened)), .. } => Some(opened),
            _ => None,
        }));
        opened.len() >= OPEN_ROOMS
    })
    .await;
    let named: BTreeSet<RoomId> = opened.iter().map(|opened| opened.room).collect();
    assert_eq!((opened.len(), named.len()), (OPEN_ROOMS, OPEN_ROOMS));
    for opened in opened {
        let OpenOutcome::Fresh { snapshot } = opened.outcome else { panic!("it was not fresh") };
        assert!(!snapshot.posts.is_empty() && snapshot.total == POSTS as u64, "{} of {}", snapshot.posts.len(), POSTS);
    }
}
