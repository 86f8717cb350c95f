//! What a device holds and a server says, each in its form and with any contents.
//!
//! Must not live here: what must hold ([`super`]). Invariant: what is made here can be written and read.

use shared::close::REGISTRY;
use shared::cursor::{Check, Position};
use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, ConnectionId, Epoch, Lsn, RequestId, RoomId, Seq, UserId};
use shared::message::{
    Event, Heads, HeartbeatTerms, Message, Presence, ReadMark, Reply, TypingNow, Welcome, WireLimits,
};
use shared::model::{Head, OpenOutcome, Opened, Person, PostRef, ResetReason, ServerInfo, Snapshot};
use shared::session::{OutboxItem, SendOp};
use shared::time::Timestamp;

use crate::source::Source;

/// Whose session it is.
pub(super) const ME: UserId = UserId::from_bytes([1; 16]);
/// Somebody else.
pub(super) const OTHER: UserId = UserId::from_bytes([2; 16]);

/// A welcome of a server that follows the rules.
pub(crate) fn welcome(id: u64, you: UserId) -> Message {
    let welcome = Welcome {
        protocol: 1,
        server: ServerInfo { epoch: epoch(), build: String::new(), lsn: Lsn(0) },
        connection: ConnectionId(1),
        you: Person { id: you, name: "Ada".to_owned() },
        now: Timestamp(0),
        heartbeat: HeartbeatTerms::default(),
        reconnect_spread_ms: 0,
        limits: WireLimits::default(),
        draining: false,
        user: position(Seq(0)),
        user_recovered: false,
        rooms_complete: true,
        rooms: Vec::new(),
    };
    Message::reply(Some(RequestId(id)), Reply::Welcome(Box::new(welcome)))
}

const fn epoch() -> Epoch {
    Epoch::from_bytes([7; 16])
}

pub(super) const fn position(seq: Seq) -> Position {
    Position { epoch: epoch(), seq, check: Check([0; 8]) }
}

pub(super) fn room(source: &mut Source<'_>) -> RoomId {
    RoomId::from_bytes([*source.pick(&[0xa0, 0xa1, 0xa2]); 16])
}

pub(super) fn client_id(source: &mut Source<'_>) -> ClientId {
    ClientId::from_bytes([source.byte() % 24; 16])
}

pub(super) fn code(source: &mut Source<'_>) -> u16 {
    match source.byte() {
        tag @ 0..=200 => REGISTRY[usize::from(tag) % REGISTRY.len()].code,
        _any => u16::from_be_bytes([source.byte(), source.byte()]),
    }
}

fn post(source: &mut Source<'_>) -> PostRef {
    let number = source.number();
    let client_id = (number % 4 == 3).then(|| ClientId::from_bytes([number as u8 % 24; 16]));
    PostRef { seq: Seq(number), client_id }
}

pub(super) fn op(source: &mut Source<'_>) -> SendOp {
    match source.byte() {
        0..=9 => SendOp::Post { body: "\u{1}".repeat(20_000) },
        10..=159 => SendOp::Post { body: source.text(20) },
        160..=189 => SendOp::Edit { post: post(source), body: source.text(20) },
        190..=219 => SendOp::Delete { post: post(source) },
        _react => SendOp::React { post: post(source), emoji: source.text(8), on: source.flag() },
    }
}

pub(super) fn stored(source: &mut Source<'_>) -> OutboxItem {
    OutboxItem {
        client_id: client_id(source),
        room: room(source),
        op: op(source),
        queued_at: Timestamp(source.number()),
        order: source.number(),
        attempted: source.flag(),
        refused: (source.byte() > 200).then(|| refusal(source)),
    }
}

/// The n-th of many plain items.
pub(super) fn waiting(n: u8) -> OutboxItem {
    OutboxItem {
        client_id: ClientId::from_bytes([n; 16]),
        room: RoomId::from_bytes([0xa0; 16]),
        op: SendOp::Delete { post: Seq(u64::from(n)).into() },
        queued_at: Timestamp(1),
        order: u64::from(n),
        attempted: false,
        refused: None,
    }
}

pub(super) fn refusal(source: &mut Source<'_>) -> WireError {
    let codes = [
        ErrorCode::Behind,
        ErrorCode::RateLimited,
        ErrorCode::Internal,
        ErrorCode::NotMember,
        ErrorCode::IdConflict,
        ErrorCode::StorageFull,
        ErrorCode::Unknown("new".to_owned()),
    ];
    let mut error = WireError::new(source.pick(&codes).clone(), "no");
    error.retryable = source.flag();
    error.retry_after_ms = source.flag().then(|| source.number());
    error
}

fn snapshot(source: &mut Source<'_>) -> Snapshot {
    let as_of = position(Seq(source.number()));
    Snapshot { as_of, total: source.number(), posts: Vec::new(), people: Vec::new() }
}

pub(super) fn opened(source: &mut Source<'_>) -> Opened {
    let room = room(source);
    let outcome = match source.byte() % 6 {
        0 | 1 => OpenOutcome::Recovered { head: Seq(source.number()), missed: source.number() },
        2 => OpenOutcome::Jumped { snapshot: snapshot(source), hole: source.number() },
        3 => OpenOutcome::Reset { reason: ResetReason::Forked, snapshot: snapshot(source) },
        4 => OpenOutcome::Refused { error: refusal(source) },
        _fresh => OpenOutcome::Fresh { snapshot: snapshot(source) },
    };
    Opened { room, outcome, roster: Vec::new(), members: source.number() }
}

pub(super) fn news(source: &mut Source<'_>) -> Event {
    let room = room(source);
    match source.byte() % 4 {
        0 => {
            let (seq, posts) = (Seq(source.number()), source.number());
            Event::Heads(Heads { heads: vec![Head { room, seq, posts }] })
        }
        1 => Event::Typing(TypingNow { room, user: Person { id: OTHER, name: source.text(8) } }),
        2 => Event::Presence(Presence { changes: Vec::new() }),
        _read => Event::Read(ReadMark { room, posts: source.number() }),
    }
}
