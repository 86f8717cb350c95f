//! Bad input before the upgrade, each kind crossed once from outside against the real binary: the answer is as documented,
//! nothing is read or held for long, and nobody gets in who may not.

use std::time::Duration;

use e2e::raw::RawSocket;
use e2e::scene::SOON;
use e2e::server::ServerOptions;
use e2e::{Scene, wait};
use serde_json::json;

#[test]
fn a_head_that_takes_too_long_is_not_waited_for() {
    let mut scene = Scene::open(ServerOptions::new().flag("header-read-timeout-ms", 500));
    let mut slow = RawSocket::connect(scene.address());
    slow.send_bytes(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    assert!(slow.is_ended_within(SOON), "a head without an end was waited for");
    scene.assert_the_others_live();
}

#[test]
fn a_head_fed_byte_by_byte_does_not_reset_its_deadline() {
    let mut scene = Scene::open(ServerOptions::new().flag("header-read-timeout-ms", 800));
    let mut slow = RawSocket::connect(scene.address());
    wait::until("the drip-fed head is given up", SOON, || {
        let fed = slow.try_send_bytes(b"X");
        (fed.is_err() || slow.is_ended_within(Duration::from_millis(50))).then_some(())
    });
    scene.assert_the_others_live();
}

#[test]
fn a_head_that_is_too_large_is_refused_with_431() {
    let mut scene = Scene::open(ServerOptions::new());
    let mut large = RawSocket::connect(scene.address());
    let padding = "x".repeat(20 * 1024);
    let head = large.upgrade(scene.address(), &[("X-Padding", &padding)]);
    assert_eq!(head.status, 431, "{}", head.text);
    scene.assert_the_others_live();
}

#[test]
fn a_head_with_too_many_fields_is_refused_with_431() {
    let mut scene = Scene::open(ServerOptions::new());
    let mut many = RawSocket::connect(scene.address());
    let fields: Vec<(String, &str)> = (0..100).map(|n| (format!("X-{n}"), "y")).collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let head = many.upgrade(scene.address(), &fields);
    assert_eq!(head.status, 431, "{}", head.text);
    scene.assert_the_others_live();
}

#[test]
fn a_head_of_26_megabytes_is_refused_without_being_read() {
    let mut scene = Scene::open(ServerOptions::new());
    let before = scene.server.resident_kib();
    let mut huge = RawSocket::connect(scene.address());
    huge.send_bytes(b"GET /ws HTTP/1.1\r\nHost: x\r\nX-Padding: ");
    let chunk = vec![b'x'; 64 * 1024];
    let taken = (0..26 * 16).take_while(|_| huge.try_send_bytes(&chunk).is_ok()).count();
    assert!(taken < 26 * 16, "the server read all 26 MB of a head");
    let grown = scene.server.resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "memory grew by {grown} KiB");
    scene.assert_the_others_live();
}

#[test]
fn an_address_that_keeps_sending_heads_nobody_can_read_is_no_longer_read_for_a_while() {
    const HEADS: u32 = 5;
    let mut scene = Scene::open(ServerOptions::new().flag("failed-handshakes", HEADS));
    let (address, token) = (scene.address(), scene.token.clone());
    let padding = "x".repeat(20 * 1024);
    for _ in 0..HEADS {
        let head = RawSocket::connect(address).upgrade(address, &[("X-Padding", &padding)]);
        assert_eq!(head.status, 431, "{}", head.text);
    }
    let bearer = format!("Bearer {token}");
    let upgrade = || RawSocket::connect(address).try_upgrade(address, &[("Authorization", &bearer)]);
    wait::until("the door is shut", SOON, || upgrade().is_none().then_some(()));
    scene.bystander.assert_alive();
    wait::until("it is forgotten", SOON * 2, || (upgrade()?.status == 101).then_some(()));
    scene.assert_the_others_live();
}

#[test]
fn somebody_refused_at_the_door_is_not_read_on() {
    const PENDING: usize = 8;
    let mut scene = Scene::open(ServerOptions::new().flag("pending-per-address", PENDING));
    let waiting: Vec<RawSocket> = (0..PENDING).map(|_| RawSocket::connect(scene.address())).collect();
    let mut refused = RawSocket::connect(scene.address());
    let chunk = vec![b'x'; 64 * 1024];
    let taken = (0..26 * 16).take_while(|_| refused.try_send_bytes(&chunk).is_ok()).count();
    assert!(taken < 26 * 16, "the server read 26 MB of somebody it had refused");
    drop((waiting, refused));
    wait::until("the place is free again", SOON, || {
        let answer = RawSocket::connect(scene.address()).try_upgrade(scene.address(), &[])?;
        (answer.status == 403).then_some(())
    });
    scene.assert_the_others_live();
}

#[test]
fn an_upgrade_without_an_origin_needs_a_token() {
    let mut scene = Scene::open(ServerOptions::new());
    let cookie = scene.cookie_of("Cora");
    let with_cookie_alone = scene.upgrade(&[("Cookie", &cookie)]);
    assert_eq!(with_cookie_alone.status, 403, "{}", with_cookie_alone.text);
    let with_token = scene.upgrade(&[("Authorization", &format!("Bearer {}", scene.token))]);
    assert_eq!(with_token.status, 101, "{}", with_token.text);
    scene.assert_the_others_live();
}

#[test]
fn an_upgrade_from_a_foreign_origin_is_refused_whoever_asks() {
    let mut scene = Scene::open(ServerOptions::new());
    let cookie = scene.cookie_of("Cora");
    let own = scene.server.origin();
    let same = scene.upgrade(&[("Cookie", &cookie), ("Origin", &own)]);
    assert_eq!(same.status, 101, "the page's own origin was refused: {}", same.text);
    let near_misses = [
        "http://evil.example".to_owned(),
        "null".to_owned(),
        own.replace("http://", "https://"),
        format!("{own}.evil.example"),
        format!("{own}/"),
        format!("{own}@evil.example"),
        "http://127.0.0.1:1".to_owned(),
    ];
    for origin in &near_misses {
        let refused = scene.upgrade(&[("Cookie", &cookie), ("Origin", origin)]);
        assert_eq!(refused.status, 403, "{origin} was not refused: {}", refused.text);
    }
    let bearer = format!("Bearer {}", scene.token);
    let with_token = scene.upgrade(&[("Authorization", &bearer), ("Origin", "http://evil.example")]);
    assert_eq!(with_token.status, 403, "a token made a foreign origin good: {}", with_token.text);
    scene.assert_the_others_live();
}

#[test]
fn an_upgrade_without_a_session_is_refused_with_401_or_told_and_closed() {
    let mut scene = Scene::open(ServerOptions::new());
    let own = scene.server.origin();
    // A browser never sees the status of a refused upgrade, so it is let in to be told.
    let mut nobody = RawSocket::connect(scene.address());
    assert_eq!(nobody.upgrade(scene.address(), &[("Origin", &own)]).status, 101);
    let said = nobody.expect_json("the reason in-band", |message| message["event"] == "closing");
    assert_eq!(said["payload"]["code"], 4501);
    assert_eq!(nobody.ending(SOON).name(), "session_expired");
    let forged = scene.upgrade(&[("Authorization", "Bearer bm90IGEgdG9rZW4")]);
    assert_eq!(forged.status, 401, "{}", forged.text);
    scene.assert_the_others_live();
}

#[test]
fn a_session_is_not_opened_for_a_foreign_origin() {
    let mut scene = Scene::open(ServerOptions::new());
    let answer = scene.http.post("/api/session", &json!({ "name": "Mallory" }), &[("Origin", "http://evil.example")]);
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert_eq!(answer.header("set-cookie"), None);
    scene.assert_the_others_live();
}

#[test]
fn a_browser_gets_a_cookie_and_never_a_token() {
    let mut scene = Scene::open(ServerOptions::new());
    let own = scene.server.origin();
    let answer = scene.http.post("/api/session", &json!({ "name": "Cora" }), &[("Origin", &own)]);
    assert!(answer.status < 300, "{} {}", answer.status, answer.body);
    let cookie = answer.header("set-cookie").expect("a cookie").to_ascii_lowercase();
    assert!(cookie.contains("httponly") && cookie.contains("samesite=strict"), "{cookie}");
    assert_eq!(answer.json().get("token"), None, "a token was given to a browser");
    scene.assert_the_others_live();
}
