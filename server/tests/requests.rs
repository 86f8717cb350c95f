//! Plain requests of peers that do not do their part.
//!
//! Must not live here: what is answered (`connection`). Invariant: what a peer holds of the server is seen by what others
//! from its address get.

mod common;

use std::time::{Duration, Instant};

use common::*;
use shared::error::{ErrorCode, WireError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Far more answers than the buffers of both ends hold.
const ASKED: usize = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_and_does_not_read_the_answers_holds_a_socket_for_a_bounded_time() {
    let server = start(&["--slow-timeout-ms=500", "--pending-per-address=1"]).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let asks = tokio::spawn(async move {
        let requests = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(ASKED);
        // Ends at the latest when the server gives it up. The socket stays open and unread.
        let _ = socket.write_all(requests.as_bytes()).await;
        socket
    });
    let healthz = || server.http("GET", "/healthz", &[], "");
    let since = Instant::now();
    while healthz().await.0 != 503 {
        assert!(since.elapsed() < PATIENCE, "its share was never taken");
    }
    while healthz().await.0 != 200 {
        assert!(since.elapsed() < PATIENCE, "it holds its share for ever");
    }
    let _socket = asks.await.unwrap();
}

#[tokio::test]
async fn whoever_goes_on_asking_is_let_go_behind_a_whole_answer() {
    const LIFE: Duration = Duration::from_millis(300);
    let server = start(&["--pending-life-ms=300"]).await;
    let since = Instant::now();
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let mut answer = String::new();
    while !answer.contains("connection: close") {
        assert!(since.elapsed() < PATIENCE, "it holds its place for ever");
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        answer.clear();
        while !answer.ends_with("alive\n") {
            let mut some = [0; 1_024];
            let count = tokio::time::timeout(PATIENCE, socket.read(&mut some)).await.expect("an answer").unwrap();
            assert_ne!(count, 0, "it ends within {answer:?}");
            answer.push_str(std::str::from_utf8(&some[..count]).unwrap());
        }
    }
    assert!(since.elapsed() >= LIFE, "let go after {:?}", since.elapsed());
    assert_eq!(socket.read(&mut [0]).await.unwrap(), 0, "it says that it closes and does not");
}

#[tokio::test]
async fn whoever_reads_an_answer_for_ever_is_let_go() {
    let page = reader::large_page();
    let dist = page.path().to_str().unwrap();
    let server =
        start(&["--slow-timeout-ms=600000", "--pending-life-ms=50", "--pending-per-address=1", "--dist", dist]).await;
    let _reader = reader::begin(server.address).await;
    let since = Instant::now();
    while server.http("GET", "/healthz", &[], "").await.0 != 200 {
        assert!(since.elapsed() < PATIENCE, "it holds its place for ever");
    }
}

#[tokio::test]
async fn whoever_uses_the_wrong_method_is_told_which_are_taken() {
    let server = start(&[]).await;
    for (method, path, taken) in [
        ("POST", "/", "GET, HEAD"),
        ("DELETE", "/healthz", "GET,HEAD"),
        ("PUT", "/api/session", "GET,HEAD,POST,DELETE"),
        ("PATCH", "/api/nowhere", "GET,HEAD,POST,PUT,DELETE"),
    ] {
        let (status, head, body) = server.http(method, path, &[], "").await;
        assert_eq!(status, 405, "{method} {path}");
        let allow = head.lines().find_map(|line| line.to_lowercase().strip_prefix("allow: ").map(str::to_uppercase));
        assert_eq!(allow.as_deref(), Some(taken), "{method} {path}");
        let error: WireError = serde_json::from_str(&body).unwrap();
        assert_eq!(error.code, ErrorCode::UnknownCommand);
    }
}
