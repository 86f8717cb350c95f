//! What a device finds stored: unsent items, cursors, who was signed in. An older or newer version, or a failing disk,
//! may have written anything.
//!
//! Must not live here: where it is stored. Invariant checked: each line is read or left alone; what was read is
//! written and read again as the same; a session takes whatever was read and goes on.

use shared::cursor::Position;
use shared::ids::{AttemptId, RoomId, SessionId, UserId};
use shared::limits::SEND_WINDOW;
use shared::message::{Body, Message};
use shared::model::Person;
use shared::session::{Command, Input, OutboxItem, Output, Persist, Session, SessionConfig, SessionEvent};
use shared::time::Timestamp;
use shared::timeline::Timeline;

use crate::session::welcome;

const ME: UserId = UserId::from_bytes([1; 16]);
const ROOM: RoomId = RoomId::from_bytes([9; 16]);

pub(crate) fn run(bytes: &[u8]) {
    let mut items: Vec<OutboxItem> = Vec::new();
    let mut cursor = None;
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(item) = serde_json::from_slice::<OutboxItem>(line) {
            let written = serde_json::to_vec(&item).expect("our own types are JSON");
            assert_eq!(serde_json::from_slice::<OutboxItem>(&written).as_ref().ok(), Some(&item));
            items.push(item);
        } else if let Ok(position) = serde_json::from_slice::<Position>(line) {
            let written = serde_json::to_vec(&position).expect("our own types are JSON");
            assert_eq!(serde_json::from_slice::<Position>(&written).ok(), Some(position));
            cursor = Some(position);
        } else if let Ok(person) = serde_json::from_slice::<Person>(line) {
            let written = serde_json::to_vec(&person).expect("our own types are JSON");
            assert_eq!(serde_json::from_slice::<Person>(&written).ok(), Some(person));
        }
    }
    restore(items, cursor);
}

/// A client starts with what was found.
fn restore(items: Vec<OutboxItem>, cursor: Option<Position>) {
    let mut session = Session::new(SessionConfig {
        client: "fuzz".to_owned(),
        session: SessionId::from_bytes([3; 16]),
        user: ME,
        seed: 7,
        hidden: false,
        online: true,
    });
    let mut timeline = Timeline::new(ME);
    let mut sent = 0;
    let mut take = |outputs: Vec<Output>| {
        for output in outputs {
            match output {
                Output::Event(SessionEvent::Queued(item)) => timeline.queued(&item),
                Output::Persist { change: Persist::Put(item), .. } => {
                    let stored = serde_json::to_string(&item).expect("our own types are JSON");
                    assert_eq!(serde_json::from_str::<OutboxItem>(&stored).ok(), Some(item));
                }
                Output::Send { text, .. } => {
                    let message = Message::parse(&text).expect("a session sends what can be read");
                    let Body::Command(command) = message.body else { panic!("a session sends commands") };
                    sent += usize::from(matches!(command.tag(), "post" | "edit" | "delete" | "react"));
                }
                Output::Event(_) | Output::Open { .. } | Output::Close { .. } | Output::Persist { .. } => {}
            }
        }
    };
    let now = Timestamp(1_000);
    let attempt = AttemptId(1);
    take(session.handle(Input::Restored { items: items.clone() }, now));
    // Found twice, as after a tab was taken over and came back.
    take(session.handle(Input::Restored { items }, now));
    take(session.handle(Input::Command(Command::Open { room: ROOM, cursor, replay: true }), now));
    take(session.handle(Input::Command(Command::Start), now));
    take(session.handle(Input::Opened { attempt }, now));
    take(session.handle(Input::Received { attempt, text: welcome(1, ME).to_json() }, now));
    let op = shared::session::SendOp::Post { body: "new".to_owned() };
    let client_id = shared::ids::ClientId::from_bytes([0xee; 16]);
    take(session.handle(Input::Command(Command::Send { client_id, room: ROOM, op, at: now }), now));
    assert!(sent <= SEND_WINDOW, "{sent} sends at once");
    // Two lives may use one order; the key decides then.
    let places: Vec<_> = session.outbox().map(|item| (item.order, item.client_id)).collect();
    assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
    for row in timeline.rows() {
        assert!(timeline.index_of(row.key()).is_some());
    }
}
