//! A connection that has much to do lets others have the thread in between.
//!
//! Must not live here: what is delivered. Invariant: there is one thread, and whoever counts has a turn whenever the
//! connection has given it up.

mod common;

use std::io::{ErrorKind, Read as _};

use common::*;
use shared::ids::RoomId;
use shared::limits::OPEN_ROOMS;
use shared::message::{Command, CreateRoom, OpenRoom, Reply, SendPost};

/// What a connection takes from streams in one turn, and the turn before it in the same look.
const MOST_IN_A_TURN: usize = 40;

async fn room(client: &mut Client, name: &str) -> RoomId {
    let asked = CreateRoom { client_id: key(), name: name.to_owned(), title: String::new() };
    match client.ask(Command::CreateRoom(asked)).await {
        Ok(Reply::Room(room)) => room.room,
        other => panic!("no room but {other:?}"),
    }
}

#[tokio::test]
async fn a_connection_with_news_in_many_rooms_gives_others_their_turn() {
    let server = start(&[FAST, &["--sweep-ms=600000"]].concat()).await;
    let ann = server.sign_in("Ann").await;
    let (mut a, _) = ann.connect(&[]).await;
    let mut asks = Vec::new();
    for n in 0..OPEN_ROOMS {
        let room = room(&mut a, &format!("room-{n}")).await;
        let at = as_of(&a.open(fresh(room)).await);
        asks.push(OpenRoom { replay: true, ..from(room, at) });
    }
    // One post in each, which stays in memory for whoever comes, since Ann follows the room.
    for ask in &asks {
        a.post(SendPost { room: ask.room, ..post("news") }).await.unwrap();
    }
    let mut client = ann.socket().await;
    client.send(Command::Hello(hello(&asks))).await;
    let mut socket = client.socket.into_std().unwrap();
    let (mut bytes, mut seen, mut most) = (Vec::new(), 0, 0);
    let since = std::time::Instant::now();
    while seen < OPEN_ROOMS {
        assert!(since.elapsed() < PATIENCE, "{seen} rooms had their news");
        tokio::task::yield_now().await;
        let mut some = [0; 64 * 1024];
        match socket.read(&mut some) {
            Ok(count) => bytes.extend_from_slice(&some[..count]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        let now = bytes.windows(NEWS.len()).filter(|window| *window == NEWS).count();
        most = most.max(now - seen);
        seen = now;
    }
    assert!(most <= MOST_IN_A_TURN, "{most} rooms in one turn");
}

/// How an event with a post is seen on the wire.
const NEWS: &[u8] = br#""event":"room""#;
