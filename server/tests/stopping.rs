//! What is in flight over HTTP when the server stops.
//!
//! Must not live here: the goodbye to connections (`connection`). Invariant: what is stored was answered, or nothing was
//! said of it.

mod common;

use common::*;
use server::log::{self, Disk, LogOptions, Record, Replica, StorageError, TextHash};
use server::people::names;
use server::{Storage, drain};
use shared::ids::Epoch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn sign_in_as(name: &str) -> String {
    serde_json::json!({ "name": name }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_when_the_server_stops_was_given_to_somebody() {
    const SIDE_BY_SIDE: usize = 64;
    const ANSWERED_BEFORE: usize = 200;
    let mut server = start_with(Storage::Sqlite, FAST).await;
    let address = server.address;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    for asker in 0..SIDE_BY_SIDE {
        let tell = tell.clone();
        tokio::spawn(async move {
            // One after another until the server stops, so that there are always as many in flight.
            for turn in 0.. {
                let name = format!("Person {turn} of {asker}");
                let answer = ask(address, "POST", "/api/session", &[], &sign_in_as(&name)).await;
                let is_in = matches!(answer, Some((201, ..)));
                tell.send((name, is_in)).unwrap();
                if !is_in {
                    break;
                }
            }
        });
    }
    drop(tell);
    let mut asked = Vec::new();
    while let Some(answered) = told.recv().await {
        asked.push(answered);
        if asked.len() == ANSWERED_BEFORE {
            server.begin_stop();
        }
    }
    let server = start_at(server.ended_over().await, Storage::Sqlite, FAST).await;
    for (name, is_in) in asked {
        let skeleton = names::skeleton(&name);
        let is_free = server.app.log.read(move |reads| reads.name_free(&skeleton)).await.unwrap();
        assert_eq!(is_free, !is_in, "{name} was let in: {is_in}; the name is free: {is_free}");
    }
}

#[tokio::test]
async fn nothing_new_is_begun_while_the_server_stops() {
    let server = start(&[]).await;
    let bearer = format!("Bearer {}", server.sign_in("Ann").await.token);
    drain::begin(&server.app);
    for (method, headers) in [("POST", &[][..]), ("DELETE", &[("Authorization", &*bearer)])] {
        let (status, head, body) = server.http(method, "/api/session", headers, &sign_in_as("Bo")).await;
        assert_eq!((status, head.contains("retry-after: 1\r\n")), (503, true), "{method}: {head}{body}");
    }
    let (_, _, shown) = server.http("GET", "/api/session", &[("Authorization", &bearer)], "").await;
    assert!(shown.contains("Ann"), "{shown}");
}

#[tokio::test]
async fn a_socket_that_is_kept_for_later_does_not_hold_up_the_stop() {
    let mut server = start(&["--header-read-timeout-ms=600000"]).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    // One that is waited for, because the handshake might have become a connection.
    socket.write_all(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: nothing\r\n\r\n").await.unwrap();
    eventually("it has asked", || !server.app.is_deserted()).await;
    server.begin_stop();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut answer)).await.expect("an end in time").unwrap();
    assert!(answer.contains(" 426 "), "{answer}");
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_read_slowly_does_not_hold_up_the_stop() {
    let page = reader::large_page();
    let mut server = start(&["--slow-timeout-ms=600000", "--dist", page.path().to_str().unwrap()]).await;
    let _reader = reader::begin(server.address).await;
    server.begin_stop();
    server.ended().await.unwrap();
}

/// A disk nobody gets to write to.
struct Unreached;

impl Disk for Unreached {
    fn write(&mut self, _: &Record) -> Result<(), StorageError> {
        unreachable!("the writer is gone")
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        unreachable!("the writer is gone")
    }

    fn probe(&mut self) -> Result<(), StorageError> {
        unreachable!("the writer is gone")
    }
}

#[tokio::test]
async fn a_sign_in_of_unknown_outcome_is_neither_acknowledged_nor_refused() {
    let replica = Replica::new(Epoch::from_bytes([1; 16]), TextHash::PLAIN);
    let (log, writer) =
        log::open_stepped(replica, Box::new(Unreached), &LogOptions::default(), |_: &log::Published| {});
    let (address, app) = serve_over(log).await;
    let asked = tokio::spawn(async move { ask(address, "POST", "/api/session", &[], &sign_in_as("Ann")).await });
    eventually("the sign-in is in flight", || !app.is_deserted()).await;
    drop(writer);
    assert_eq!(asked.await.unwrap(), None, "nobody knows, and the server says something");
    eventually("its socket is let go", || app.is_deserted()).await;
}
