//! Bad input after the upgrade, each kind crossed once from outside against the real binary: the answer is as documented, the socket that
//! is not to blame lives on, and so does everybody else's.

use e2e::Scene;
use e2e::client::new_id;
use e2e::raw::{self, RawSocket, opcode};
use e2e::scene::{SOON, post, refusal};
use e2e::server::ServerOptions;
use serde_json::{Value, json};
use shared::limits;

// --- Frames -----------------------------------------------------------------------------------------------------------

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
    let ending = scene.ends(|socket| socket.send_text(&large));
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
    let ending = scene.ends(|socket| socket.send_bytes(&raw::announcement(0x81, 1 << 62)));
    assert_eq!(ending.name(), "too_large", "{ending:?}");
}

#[test]
fn fragments_that_add_up_to_too_much_close_with_1009() {
    let mut scene = Scene::open(ServerOptions::new());
    let ending = scene.ends(|socket| {
        socket.send_frame(false, opcode::TEXT, &[b'x'; 40 * 1024]);
        socket.send_frame(false, opcode::CONTINUATION, &[b'x'; 40 * 1024]);
    });
    assert_eq!(ending.name(), "too_large", "{ending:?}");
}

#[test]
fn a_message_in_too_many_fragments_is_closed() {
    let mut scene = Scene::open(ServerOptions::new());
    let before = scene.server.resident_kib();
    let ending = scene.ends(|socket| {
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
        let ending = scene.ends(|socket| socket.send_frame(true, opcode::TEXT, bad));
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
    let ending = scene.ends(|socket| socket.send_bytes(&raw::unmasked_frame(true, opcode::TEXT, b"{}")));
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
        let ending = scene.ends(|socket| socket.send_bytes(&bytes));
        assert_eq!(ending.name(), "protocol_error", "{what}: {ending:?}");
    }
}

#[test]
fn a_binary_message_closes_with_1003() {
    let mut scene = Scene::open(ServerOptions::new());
    let ending = scene.ends(|socket| socket.send_frame(true, opcode::BINARY, b"{}"));
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
