//! Bad input, each kind crossed once from outside against the real binary: the answer is as documented, the socket that
//! is not to blame lives on, and so does everybody else's.

use std::time::Duration;

use e2e::client::new_id;
use e2e::raw::{self, Ending, RawSocket, opcode};
use e2e::server::ServerOptions;
use serde_json::{Value, json};
use shared::limits;

use e2e::Scene;

/// For answers that come at once, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// Tells the code of a refusal.
fn refusal(answer: &Value) -> &str {
    assert_eq!(answer["success"], false, "this should have been refused: {answer}");
    answer["error"]["code"].as_str().expect("a refusal has a code")
}

fn post(room: &str, body: &str) -> Value {
    json!({ "client_id": new_id(), "room": room, "body": body })
}

// --- Before the upgrade -----------------------------------------------------------------------------------------------

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
    e2e::wait::until("the drip-fed head is given up", SOON, || {
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
    e2e::wait::until("the door is shut", SOON, || upgrade().is_none().then_some(()));
    scene.bystander.assert_alive();
    e2e::wait::until("it is forgotten", SOON * 2, || (upgrade()?.status == 101).then_some(()));
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
    e2e::wait::until("the place is free again", SOON, || {
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

// --- Frames -----------------------------------------------------------------------------------------------------------

/// Opens a socket, does something to it and returns how the server ended it.
fn ends(scene: &mut Scene, provoke: impl FnOnce(&mut RawSocket)) -> Ending {
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    provoke(&mut socket);
    let ending = socket.ending(SOON);
    scene.assert_the_others_live();
    ending
}

#[test]
fn a_socket_without_a_first_frame_is_closed() {
    let mut scene = Scene::open(ServerOptions::new().flag("first-frame-timeout-ms", 500));
    let mut silent = RawSocket::open(scene.address(), &scene.token);
    let said = silent.expect_json("the reason in-band", |message| message["event"] == "closing");
    assert_eq!(said["payload"]["code"], 4002);
    assert_eq!(silent.ending(SOON).name(), "hello_timeout");
    scene.assert_the_others_live();
}

#[test]
fn pings_do_not_stand_in_for_the_first_frame() {
    let mut scene = Scene::open(ServerOptions::new().flag("first-frame-timeout-ms", 500));
    let mut silent = RawSocket::open(scene.address(), &scene.token);
    silent.send_frame(true, opcode::PING, b"here");
    assert_eq!(silent.ending(SOON).name(), "hello_timeout");
    scene.assert_the_others_live();
}

#[test]
fn a_message_that_is_too_large_closes_with_1009() {
    let mut scene = Scene::open(ServerOptions::new());
    let large = "x".repeat(limits::INBOUND_MESSAGE_BYTES + 1);
    let ending = ends(&mut scene, |socket| socket.send_text(&large));
    assert_eq!(ending.name(), "too_large", "{ending:?}");
}

#[test]
fn a_message_as_large_as_allowed_is_read() {
    let mut scene = Scene::open(ServerOptions::new());
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let mut message = json!({ "id": 7, "command": "beat", "payload": {}, "padding": "" }).to_string();
    let padding = "x".repeat(limits::INBOUND_MESSAGE_BYTES - message.len());
    message = json!({ "id": 7, "command": "beat", "payload": {}, "padding": padding }).to_string();
    assert_eq!(message.len(), limits::INBOUND_MESSAGE_BYTES);
    socket.send_text(&message);
    let answer = socket.expect_json("the answer", |answer| answer["id"] == 7);
    assert_eq!(answer["success"], true, "{answer}");
    scene.assert_the_others_live();
}

#[test]
fn a_frame_that_announces_2_to_the_62_bytes_closes_with_1009_at_once() {
    let mut scene = Scene::open(ServerOptions::new());
    let ending = ends(&mut scene, |socket| socket.send_bytes(&raw::announcement(0x81, 1 << 62)));
    assert_eq!(ending.name(), "too_large", "{ending:?}");
}

#[test]
fn fragments_that_add_up_to_too_much_close_with_1009() {
    let mut scene = Scene::open(ServerOptions::new());
    let ending = ends(&mut scene, |socket| {
        socket.send_frame(false, opcode::TEXT, &[b'x'; 40 * 1024]);
        socket.send_frame(false, opcode::CONTINUATION, &[b'x'; 40 * 1024]);
    });
    assert_eq!(ending.name(), "too_large", "{ending:?}");
}

#[test]
fn a_message_in_too_many_fragments_is_closed() {
    let mut scene = Scene::open(ServerOptions::new());
    let before = scene.server.resident_kib();
    let ending = ends(&mut scene, |socket| {
        let mut bytes = raw::frame(false, opcode::TEXT, b"x");
        (0..131_000).for_each(|_| bytes.extend(raw::frame(false, opcode::CONTINUATION, b"")));
        socket.send_bytes(&bytes);
    });
    assert!(matches!(ending.name(), "policy" | "too_large" | "protocol_error" | "dropped"), "{ending:?}");
    let grown = scene.server.resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "memory grew by {grown} KiB");
}

#[test]
fn a_message_that_is_not_utf_8_closes_with_1007() {
    let mut scene = Scene::open(ServerOptions::new());
    for bad in [&b"\xff\xfe"[..], b"\xed\xa0\x80", b"ab\xc0\xaf", b"\xf4\x90\x80\x80", b"end\xe4\xbd"] {
        let ending = ends(&mut scene, |socket| socket.send_frame(true, opcode::TEXT, bad));
        assert_eq!(ending.name(), "invalid_utf8", "{bad:?}: {ending:?}");
    }
}

#[test]
fn a_character_split_between_two_fragments_is_utf_8() {
    let mut scene = Scene::open(ServerOptions::new());
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let message = json!({ "id": 7, "command": "beat", "payload": {}, "note": "你好" }).to_string();
    let middle = message.find('好').expect("it is there") + 1;
    socket.send_frame(false, opcode::TEXT, &message.as_bytes()[..middle]);
    socket.send_frame(true, opcode::PING, b"between");
    socket.send_frame(true, opcode::CONTINUATION, &message.as_bytes()[middle..]);
    let answer = socket.expect_json("the answer", |answer| answer["id"] == 7);
    assert_eq!(answer["success"], true, "{answer}");
    scene.assert_the_others_live();
}

#[test]
fn an_unmasked_frame_closes_with_1002() {
    let mut scene = Scene::open(ServerOptions::new());
    let ending = ends(&mut scene, |socket| socket.send_bytes(&raw::unmasked_frame(true, opcode::TEXT, b"{}")));
    assert_eq!(ending.name(), "protocol_error", "{ending:?}");
}

#[test]
fn frames_the_protocol_does_not_know_close_with_1002() {
    let mut scene = Scene::open(ServerOptions::new());
    let long_ping = vec![b'p'; 126];
    let broken: [(&str, Vec<u8>); 6] = [
        ("a reserved opcode", raw::frame(true, 3, b"")),
        ("a reserved control opcode", raw::frame(true, 11, b"")),
        ("a reserved bit", raw::announcement(0x81 | 0x40, 2)),
        ("a ping of 126 bytes", raw::frame(true, opcode::PING, &long_ping)),
        ("a ping in fragments", raw::frame(false, opcode::PING, b"p")),
        ("a continuation of nothing", raw::frame(true, opcode::CONTINUATION, b"x")),
    ];
    for (what, bytes) in broken {
        let ending = ends(&mut scene, |socket| socket.send_bytes(&bytes));
        assert_eq!(ending.name(), "protocol_error", "{what}: {ending:?}");
    }
}

#[test]
fn a_binary_message_closes_with_1003() {
    let mut scene = Scene::open(ServerOptions::new());
    let ending = ends(&mut scene, |socket| socket.send_frame(true, opcode::BINARY, b"{}"));
    assert_eq!(ending.name(), "unsupported", "{ending:?}");
}

// --- Messages ---------------------------------------------------------------------------------------------------------

#[test]
fn an_unknown_command_is_answered_and_the_socket_stays() {
    let mut scene = Scene::open(ServerOptions::new());
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let answer = socket.ask(7, "teleport", &json!({ "to": "the moon" }));
    assert_eq!(refusal(&answer), "unknown_command");
    socket.assert_alive();
    scene.assert_the_others_live();
}

#[test]
fn a_message_that_is_not_json_is_answered_and_the_socket_stays() {
    let mut scene = Scene::open(ServerOptions::new());
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_inside = format!(r#"{{"id":7,"command":"beat","payload":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let bad = [
        "",
        "hello",
        "{",
        "null",
        "[]",
        "7",
        "{}",
        r#"{"id":7}"#,
        r#"{"id":7,"command":"beat","event":"live"}"#,
        r#"{"id":7,"command":"post","payload":{"body":1}}"#,
        r#"{"id":7,"command":"post","payload":{"client_id":"nonsense","room":"nonsense","body":"x"}}"#,
        r#"{"id":1e400,"command":"beat"}"#,
        r#"{"id":-1,"command":"beat"}"#,
        r#"{"id":7,"command":"post","payload":{"body":"\ud800"}}"#,
        r#"{"id":7,"id":8,"command":"beat"}"#,
        &deep,
        &deep_inside,
    ];
    for text in bad {
        socket.send_text(text);
        let answer = socket.expect_json("a refusal", |answer| answer.get("success").is_some());
        assert_eq!(refusal(&answer), "bad_message", "{}", text.chars().take(80).collect::<String>());
    }
    socket.assert_alive();
    scene.assert_the_others_live();
}

#[test]
fn a_known_command_with_a_malformed_payload_is_answered_under_its_id() {
    let mut scene = Scene::open(ServerOptions::new());
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let answer = socket.ask(41, "history", &json!({ "room": 5 }));
    assert_eq!(refusal(&answer), "bad_message");
    socket.assert_alive();
    scene.assert_the_others_live();
}

#[test]
fn a_command_before_hello_is_out_of_sequence() {
    let mut scene = Scene::open(ServerOptions::new());
    let mut socket = RawSocket::open(scene.address(), &scene.token);
    socket.send_json(&json!({ "id": 1, "command": "rooms", "payload": {} }));
    let answer = socket.expect_json("a refusal", |answer| answer["id"] == 1);
    assert_eq!(refusal(&answer), "bad_sequence");
    assert_eq!(socket.ending(SOON).name(), "bad_sequence");
    scene.assert_the_others_live();
}

#[test]
fn a_second_hello_is_refused_and_the_socket_stays() {
    let mut scene = Scene::open(ServerOptions::new());
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let again = raw::hello();
    let answer = socket.ask(8, "hello", &again["payload"]);
    assert_eq!(refusal(&answer), "bad_sequence");
    socket.assert_alive();
    scene.assert_the_others_live();
}

#[test]
fn a_client_of_no_shared_version_is_told_to_stop() {
    let mut scene = Scene::open(ServerOptions::new());
    let mut socket = RawSocket::open(scene.address(), &scene.token);
    let mut hello = raw::hello();
    hello["payload"]["protocol"] = json!(0);
    socket.send_json(&hello);
    assert_eq!(socket.ending(SOON).name(), "bad_version");
    scene.assert_the_others_live();
}

#[test]
fn a_post_that_is_too_long_or_empty_fails_alone() {
    let mut scene = Scene::open(ServerOptions::new().without_rates());
    let room = scene.room.clone();
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let long = [
        "a".repeat(limits::POST_GRAPHEMES + 1),
        "你".repeat(limits::POST_BYTES / 3 + 1),
        "👩‍👩‍👧‍👦".repeat(limits::POST_BYTES / 25 + 1),
    ];
    for (id, body) in (10..).zip(&long) {
        let answer = socket.ask(id, "post", &post(&room, body));
        assert_eq!(refusal(&answer), "post_too_long");
    }
    for (id, body) in (20..).zip(["", " ", "\n\t ", "\u{200b}"]) {
        let answer = socket.ask(id, "post", &post(&room, body));
        assert_eq!(refusal(&answer), "post_empty", "{body:?}");
    }
    let longest = "a".repeat(limits::POST_GRAPHEMES);
    let answer = socket.ask(30, "post", &post(&room, &longest));
    assert_eq!(answer["success"], true, "the longest post allowed was refused: {answer}");
    socket.assert_alive();
    scene.assert_the_others_live();
}

#[test]
fn one_key_with_two_contents_is_a_conflict() {
    let mut scene = Scene::open(ServerOptions::new());
    let room = scene.room.clone();
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let key = new_id();
    let first = socket.ask(10, "post", &json!({ "client_id": key, "room": room, "body": "one" }));
    assert_eq!(first["success"], true, "{first}");
    let second = socket.ask(11, "post", &json!({ "client_id": key, "room": room, "body": "two" }));
    assert_eq!(refusal(&second), "id_conflict");
    socket.assert_alive();
    scene.assert_the_others_live();
}

/// Names nobody may have: what is wrong, and the name.
const BAD_NAMES: [(&str, &str); 8] = [
    ("empty", ""),
    ("blank", "   "),
    ("invisible", "\u{200b}"),
    ("a control character", "Ada\u{7}"),
    ("a bidi override", "Ada\u{202e}nimda"),
    ("a bidi isolate", "\u{2066}Ada"),
    ("a zero-width joiner between letters", "A\u{200d}da"),
    ("too long", "abcdefghijklmnopqrstuvwxyzabcdefg"),
];

#[test]
fn a_name_that_is_empty_or_made_of_control_and_bidi_characters_signs_nobody_in() {
    let mut scene = Scene::open(ServerOptions::new().without_rates());
    for (what, name) in BAD_NAMES {
        let answer = scene.http.post("/api/session", &json!({ "name": name }), &[]);
        assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.body);
        assert_eq!(answer.error_code(), "name_invalid", "{what}: {}", answer.body);
    }
    scene.assert_the_others_live();
}

#[test]
fn a_taken_name_is_refused_with_a_suggestion_that_is_free() {
    let mut scene = Scene::open(ServerOptions::new().without_rates());
    // The bystander is called so; the second looks the same to a person.
    for name in [scene.bystander_name(), "ByStander", "Ｂystander"] {
        let answer = scene.http.post("/api/session", &json!({ "name": name }), &[]);
        assert_eq!(answer.status, 409, "{name}: {}", answer.body);
        assert_eq!(answer.error_code(), "name_taken");
        let body = answer.json();
        let suggestion =
            body.pointer("/error/suggestion").or_else(|| body.pointer("/suggestion")).and_then(Value::as_str);
        let suggestion = suggestion.expect("a suggestion").to_owned();
        let again = scene.http.post("/api/session", &json!({ "name": suggestion }), &[]);
        assert!(again.status < 300, "the suggestion {suggestion:?} was refused: {}", again.body);
    }
    scene.assert_the_others_live();
}

#[test]
fn a_bad_new_name_is_refused_and_the_socket_stays() {
    let mut scene = Scene::open(ServerOptions::new().without_rates());
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    for (id, (what, name)) in (10..).zip(BAD_NAMES) {
        let answer = socket.ask(id, "rename", &json!({ "client_id": new_id(), "name": name }));
        assert_eq!(refusal(&answer), "name_invalid", "{what}");
    }
    let taken = socket.ask(40, "rename", &json!({ "client_id": new_id(), "name": scene.bystander_name() }));
    assert_eq!(refusal(&taken), "name_taken");
    assert!(taken["error"]["suggestion"].is_string(), "{taken}");
    socket.assert_alive();
    scene.assert_the_others_live();
}

#[test]
fn a_body_that_is_not_a_sign_in_is_answered() {
    let mut scene = Scene::open(ServerOptions::new().without_rates());
    for body in [json!(null), json!([]), json!({}), json!({ "name": 7 }), json!({ "name": null })] {
        let answer = scene.http.post("/api/session", &body, &[]);
        assert!((400..500).contains(&answer.status), "{body}: {} {}", answer.status, answer.body);
    }
    let mut huge = RawSocket::connect(scene.address());
    let length = 4 << 20;
    huge.send_bytes(
        format!(
            "POST /api/session HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
            scene.address()
        )
        .as_bytes(),
    );
    huge.send_bytes(&vec![b'x'; 256 * 1024]);
    let head = huge.read_head().expect("an answer without reading it all");
    assert_eq!(head.status, 413, "{}", head.text);
    scene.assert_the_others_live();
}

#[test]
fn a_room_that_does_not_exist_is_not_found_whatever_is_asked_of_it() {
    let mut scene = Scene::open(ServerOptions::new().without_rates());
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let nowhere = new_id().to_string();
    let asked = [
        ("post", post(&nowhere, "is anybody there?")),
        ("open", json!({ "room": nowhere })),
        ("history", json!({ "room": nowhere, "before": 9 })),
        ("events", json!({ "room": nowhere, "after": 0 })),
        ("join", json!({ "client_id": new_id(), "room": nowhere })),
        ("people", json!({ "room": nowhere })),
        ("find_room", json!({ "name": "no-such-room" })),
        ("typing", json!({ "room": nowhere })),
        ("delete", json!({ "client_id": new_id(), "room": nowhere, "post": 1 })),
    ];
    for (id, (command, payload)) in (10..).zip(asked) {
        if command == "open" {
            let answer = socket.ask(id, command, &payload);
            let code = answer.pointer("/payload/outcome/error/code").or_else(|| answer.pointer("/error/code"));
            assert_eq!(code.and_then(Value::as_str), Some("not_found"), "{command}: {answer}");
        } else {
            let answer = socket.ask(id, command, &payload);
            assert_eq!(refusal(&answer), "not_found", "{command}");
        }
    }
    socket.assert_alive();
    scene.assert_the_others_live();
}

// --- Too much ---------------------------------------------------------------------------------------------------------

#[test]
fn posts_over_the_rate_are_refused_with_a_wait_after_which_they_pass() {
    let mut scene = Scene::open(ServerOptions::new().flag("posts-burst", 3).flag("posts-per-s", 5));
    let room = scene.room.clone();
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let answers: Vec<Value> = (10..30).map(|id| socket.ask(id, "post", &post(&room, &format!("post {id}")))).collect();
    let refused: Vec<&Value> = answers.iter().filter(|answer| answer["success"] == false).collect();
    assert!(!refused.is_empty(), "twenty posts at once passed a burst of three");
    for answer in &refused {
        assert_eq!(refusal(answer), "rate_limited");
        assert_eq!(answer["error"]["retryable"], true);
    }
    let wait_ms = refused[0]["error"]["retry_after_ms"].as_u64().expect("how long to wait");
    assert!(wait_ms <= 2_000, "five a second, and told to wait {wait_ms} ms");
    e2e::wait::until("the rate lets a post through again", SOON, || {
        let answer = socket.ask(e2e::client::now().0, "post", &post(&room, "again"));
        (answer["success"] == true).then_some(())
    });
    socket.assert_alive();
    scene.assert_the_others_live();
}

#[test]
fn only_a_flood_far_over_the_rate_is_disconnected() {
    let options = ServerOptions::new().flag("frames-burst", 10).flag("frames-per-s", 5).flag("abuse-frames", 200);
    let mut scene = Scene::open(options);
    let (mut polite, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let soft: Vec<Value> = (10..40).map(|id| polite.ask(id, "rooms", &json!({}))).collect();
    let refused: Vec<&Value> = soft.iter().filter(|answer| answer["success"] == false).collect();
    assert!(!refused.is_empty(), "thirty requests at once passed a burst of ten");
    refused.iter().for_each(|answer| assert_eq!(refusal(answer), "rate_limited"));
    let ending = ends(&mut scene, |socket| {
        for id in 100..1_000 {
            socket.send_json(&json!({ "id": id, "command": "rooms", "payload": {} }));
        }
    });
    assert!(matches!(ending.name(), "flood" | "dropped"), "{ending:?}");
    scene.assert_the_others_live();
}

#[test]
fn one_person_has_no_more_sockets_than_allowed() {
    let mut scene = Scene::open(ServerOptions::new().flag("sockets-per-user", 3));
    let token = scene.http.sign_in("Many").token;
    let mut open: Vec<RawSocket> = (0..3).map(|_| RawSocket::open_and_greet(scene.address(), &token).0).collect();
    let mut fourth = RawSocket::open(scene.address(), &token);
    fourth.send_json(&raw::hello());
    assert_eq!(fourth.ending(SOON).name(), "too_many");
    open.iter_mut().for_each(RawSocket::assert_alive);
    drop(open.pop());
    e2e::wait::until("a place is free again", SOON, || {
        let mut next = RawSocket::open(scene.address(), &token);
        next.send_json(&raw::hello());
        let first = next.read_frame(SOON)?;
        String::from_utf8_lossy(&first.payload).contains("welcome").then_some(())
    });
    scene.assert_the_others_live();
}

#[test]
fn sockets_that_never_upgrade_do_not_lock_the_others_out() {
    let options = ServerOptions::new().flag("pending-per-address", 8).flag("header-read-timeout-ms", 1_500);
    let mut scene = Scene::open(options);
    let idle: Vec<RawSocket> = (0..30).map(|_| RawSocket::connect(scene.address())).collect();
    scene.bystander.assert_alive();
    let token = scene.token.clone();
    let address = scene.address();
    e2e::wait::until("the idle ones are gone and a new one gets in", SOON, || {
        let mut socket = RawSocket::connect(address);
        let head = socket.try_upgrade(address, &[("Authorization", &format!("Bearer {token}"))])?;
        (head.status == 101).then_some(())
    });
    drop(idle);
    scene.assert_the_others_live();
}

#[test]
fn a_reader_that_takes_nothing_is_closed_and_costs_the_others_nothing() {
    let options = ServerOptions::new().without_rates().flag("slow-timeout-ms", 1_000);
    let mut scene = Scene::open(options);
    let room = scene.room.clone();
    let (mut slow, _) = RawSocket::open_and_greet_with_small_buffer(scene.address(), &scene.token);
    let opened = slow.ask(5, "open", &json!({ "room": room }));
    assert_eq!(opened["success"], true, "{opened}");
    let before = scene.server.resident_kib();
    let (mut poster, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let body = "x".repeat(3_500);
    let mut slowest = Duration::ZERO;
    for id in 10..1_500 {
        let began = std::time::Instant::now();
        let answer = poster.ask(id, "post", &post(&room, &body));
        assert_eq!(answer["success"], true, "{answer}");
        slowest = slowest.max(began.elapsed());
        scene.bystander.read_what_is_there();
    }
    assert!(slowest < Duration::from_secs(3), "a post waited {slowest:?} for somebody else's reading");
    let grown = scene.server.resident_kib().saturating_sub(before);
    assert!(grown < 48 * 1024, "memory grew by {grown} KiB");
    let ending = slow.ending(Duration::from_secs(20));
    assert!(matches!(ending.name(), "slow" | "dropped"), "{ending:?}");
    poster.assert_alive();
    scene.assert_the_others_live();
}

#[test]
fn a_flood_of_pings_closes_with_1008() {
    let mut scene = Scene::open(ServerOptions::new());
    let ending = ends(&mut scene, |socket| {
        (0..200).for_each(|_| socket.send_frame(true, opcode::PING, b"ping"));
    });
    assert_eq!(ending.name(), "policy", "{ending:?}");
}

#[test]
fn a_flood_of_pings_from_somebody_who_never_reads_costs_no_memory() {
    let mut scene = Scene::open(ServerOptions::new());
    let before = scene.server.resident_kib();
    let (mut deaf, _) = RawSocket::open_and_greet_with_small_buffer(scene.address(), &scene.token);
    let pings: Vec<u8> = (0..1_000).flat_map(|_| raw::frame(true, opcode::PING, &[b'p'; 125])).collect();
    e2e::wait::until("the server stops taking pings", SOON, || deaf.try_send_bytes(&pings).is_err().then_some(()));
    let grown = scene.server.resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "memory grew by {grown} KiB");
    scene.assert_the_others_live();
}
