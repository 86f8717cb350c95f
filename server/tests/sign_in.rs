//! Who is taken for whom at the door, and whom it keeps out.
//!
//! Must not live here: what a name may be, or what happens behind the upgrade. Invariant: a test tells what somebody
//! else can and cannot do to a person who is signed in.

mod common;

use common::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const OURS: &str = "https://chat.example.org";

/// Says who the server takes whoever shows this for; and the head of the answer.
async fn shown(server: &Running, header: (&str, &str)) -> (Option<String>, String) {
    let (status, head, body) = server.http("GET", "/api/session", &[header], "").await;
    assert_eq!(status, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    (body["user"]["name"].as_str().map(str::to_owned), head)
}

async fn sign_in(server: &Running, headers: &[(&str, &str)], name: &str) -> (u16, serde_json::Value) {
    let asked = serde_json::json!({ "name": name }).to_string();
    let (status, _, body) = server.http("POST", "/api/session", headers, &asked).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn a_cookie_that_a_neighbour_can_plant_is_not_believed_over_https() {
    let server = start(&["--allow-origin", OURS]).await;
    let mallory = server.sign_in("Mallory").await;
    let (planted, own) = (format!("holdfast={}", mallory.token), format!("__Host-holdfast={}", mallory.token));

    let (who, head) = shown(&server, ("Cookie", &planted)).await;
    assert_eq!((who, head.contains("set-cookie")), (None, false), "{head}");
    let (status, body) = sign_in(&server, &[("Origin", OURS), ("Cookie", &planted)], "Mallory").await;
    assert_eq!((status, &body["code"]), (409, &"name_taken".into()), "who writes is taken for who planted the cookie");
    let mut socket = Client::upgrade(server.address, &[("Origin", OURS), ("Cookie", &planted)]).await.unwrap();
    assert_eq!(socket.closed().await.0, 4501);

    let both = format!("{planted}x; {own}");
    for cookie in [&own, &both] {
        let (who, head) = shown(&server, ("Cookie", cookie)).await;
        assert_eq!(who.as_deref(), Some("Mallory"));
        assert!(head.contains("set-cookie: __host-holdfast=") && head.contains("; secure"), "{head}");
        let mut socket = Client::upgrade(server.address, &[("Origin", OURS), ("Cookie", cookie)]).await.unwrap();
        assert_eq!(socket.hello(hello(&[])).await.you.name, "Mallory");
    }
}

#[tokio::test]
async fn over_plain_http_the_plain_cookie_is_all_there_is() {
    let server = start(&[]).await;
    let ada = server.sign_in("Ada").await;
    let (cookie, origin) = (format!("holdfast={}", ada.token), format!("http://{}", server.address));
    let (who, head) = shown(&server, ("Cookie", &cookie)).await;
    assert_eq!(who.as_deref(), Some("Ada"));
    assert!(head.contains("set-cookie: holdfast=") && !head.contains("secure"), "{head}");
    let mut socket = Client::upgrade(server.address, &[("Origin", &origin), ("Cookie", &cookie)]).await.unwrap();
    assert_eq!(socket.hello(hello(&[])).await.you.name, "Ada");
}

#[tokio::test]
async fn a_browser_keeps_its_cookie_as_long_as_browsers_do_however_short_a_session_lasts() {
    let server = start(&["--session-ms=60000"]).await;
    let origin = format!("http://{}", server.address);
    let (_, head, _) = server.http("POST", "/api/session", &[("Origin", &origin)], r#"{"name":"Ada"}"#).await;
    assert!(head.contains("set-cookie: holdfast=") && head.contains("; max-age=34560000;"), "400 days: {head}");
    let token = server.sign_in("Bob").await.token;
    let (cookie, bearer) = (format!("holdfast={token}"), format!("Bearer {token}"));
    let upgrade = async |headers: &[(&str, &str)]| Client::upgrade(server.address, headers).await.unwrap().head;
    let head = upgrade(&[("Origin", &origin), ("Cookie", &cookie)]).await;
    assert!(head.contains(&format!("set-cookie: {cookie}; Path=/; Max-Age=34560000; HttpOnly")), "{head}");
    let nobodys = format!("holdfast={}", "A".repeat(token.len()));
    for headers in [[("Origin", &origin), ("Cookie", &nobodys)], [("Origin", &origin), ("Authorization", &bearer)]] {
        let head = upgrade(&headers.map(|(name, value)| (name, value.as_str()))).await;
        assert!(!head.contains("set-cookie"), "{head}");
    }
}

#[tokio::test]
async fn a_page_from_elsewhere_neither_sees_nor_renews_a_session() {
    let server = start(&[]).await;
    let cookie = format!("holdfast={}", server.sign_in("Ada").await.token);
    let headers = [("Origin", "http://evil.example"), ("Cookie", &*cookie)];
    let (status, head, body) = server.http("GET", "/api/session", &headers, "").await;
    assert_eq!((status, &*body, head.contains("set-cookie")), (200, "{\"user\":null}", false));
}

#[tokio::test]
async fn a_sign_in_that_is_refused_leaves_the_session_that_was_shown() {
    let server = start(&[]).await;
    let (ada, _bob) = (server.sign_in("Ada").await, server.sign_in("Bob").await);
    let bearer = format!("Bearer {}", ada.token);
    for (name, status) in [("Bob", 409), ("\u{200b}", 400), ("Ada", 200)] {
        assert_eq!(sign_in(&server, &[("Authorization", &bearer)], name).await.0, status);
        assert_eq!(shown(&server, ("Authorization", &bearer)).await.0.as_deref(), Some("Ada"), "{name:?} ended it");
    }
    let (mut socket, _) = ada.connect(&[]).await;
    let (status, body) = sign_in(&server, &[("Authorization", &bearer)], "Cora").await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(socket.closed().await.0, 4502, "whoever is somebody else now is no longer Ada");
    assert_eq!(shown(&server, ("Authorization", &bearer)).await.0, None);
    let bearer = format!("Bearer {}", body["token"].as_str().unwrap());
    assert_eq!(shown(&server, ("Authorization", &bearer)).await.0.as_deref(), Some("Cora"));
}

#[tokio::test]
async fn an_address_at_which_upgrades_fail_still_lets_in_who_may_come_in() {
    const FAILED: usize = 3;
    let server = start(&["--failed-handshakes=3"]).await;
    let ada = server.sign_in("Ada").await;
    // What any page on the web can have the browser of somebody at the same address do.
    let evil = [("Origin", "http://evil.example")];
    for _ in 0..FAILED {
        assert_eq!(Client::upgrade(server.address, &evil).await.err(), Some(403));
    }
    assert_eq!(Client::upgrade(server.address, &evil).await.err(), Some(429));
    let forged = [("Authorization", "Bearer AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")];
    assert_eq!(Client::upgrade(server.address, &forged).await.err(), Some(429));
    let (mut socket, welcome) = ada.connect(&[]).await;
    assert_eq!(welcome.you.name, "Ada");
    socket.live().await;
    let (cookie, origin) = (format!("holdfast={}", ada.token), format!("http://{}", server.address));
    assert!(Client::upgrade(server.address, &[("Origin", &origin), ("Cookie", &cookie)]).await.is_ok());
}

#[tokio::test]
async fn only_a_get_of_http_1_1_with_a_host_begins_a_socket() {
    let server = start(&[]).await;
    let bearer = format!("Authorization: Bearer {}", server.sign_in("Ada").await.token);
    for (line, host, status) in [
        ("GET /ws HTTP/1.1", "Host: x\r\n", "101"),
        ("HEAD /ws HTTP/1.1", "Host: x\r\n", "400"),
        ("GET /ws HTTP/1.0", "Host: x\r\n", "400"),
        ("GET /ws HTTP/1.1", "", "400"),
        ("POST /ws HTTP/1.1", "Host: x\r\n", "405"),
    ] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let request = format!(
            "{line}\r\n{host}{bearer}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        tokio::time::timeout(PATIENCE, socket.read_exact(&mut answer)).await.expect("an answer in time").unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.split(' ').nth(1), Some(status), "{line} {host:?}");
    }
}
