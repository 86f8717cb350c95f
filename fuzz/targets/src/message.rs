//! Messages, as either side reads them.
//!
//! Must not live here: what follows from one ([`mod@crate::session`]). Invariant checked: what was read is written and
//! read again as the same; a client reads no commands; what cannot be read is refused in a few words, whatever it
//! holds.

use shared::error::ErrorCode;
use shared::message::{BadMessage, Body, Message};

/// A refusal is for reading, so it is not longer than this, in bytes of JSON.
const REFUSAL_BYTES: usize = 4 * 1024;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let by_server = Message::parse(text);
    let by_client = Message::parse_from_server(text);
    match &by_server {
        Ok(message) => {
            let written = message.to_json();
            assert_eq!(Message::parse(&written).as_ref(), Ok(message), "{text} does not survive writing: {written}");
        }
        Err(bad) => check_refusal(bad),
    }
    match (&by_server, by_client) {
        (Ok(Message { body: Body::Command(_), .. }), read) => {
            let bad = read.expect_err("a client reads no commands");
            check_refusal(&bad);
        }
        (Ok(message), read) => assert_eq!(read.as_ref(), Ok(message)),
        (Err(_), read) => check_refusal(&read.expect_err("a client reads no more than a server")),
    }
}

fn check_refusal(bad: &BadMessage) {
    assert_eq!(bad.error.code, ErrorCode::BadMessage);
    let refusal = Message::refusal(bad.id, bad.error.clone()).to_json();
    assert!(refusal.len() <= REFUSAL_BYTES, "a refusal of {} bytes", refusal.len());
}
