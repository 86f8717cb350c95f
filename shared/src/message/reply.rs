//! What replies carry.
//!
//! Must not live here: pages of posts and events ([`crate::model`]), which events carry too. Invariant: nothing here
//! says that something was done before it was committed.

use serde::Serialize;

use crate::cursor::Position;
use crate::ids::{ClientId, ConnectionId, RoomId, Seq};
use crate::model::{Member, Person, RoomSummary, ServerInfo};
use crate::object::object;
use crate::time::Timestamp;

/// Payload of `welcome`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Welcome {
    /// The protocol both sides use from here on.
    pub protocol: u16,
    /// The server and its log.
    pub server: ServerInfo,
    /// This socket.
    pub connection: ConnectionId,
    /// Who I am here.
    pub you: Person,
    /// The server's wall clock.
    pub now: Timestamp,
    /// How often to beat, and how long an answer may take.
    pub heartbeat: HeartbeatTerms,
    /// Over how long to spread a return after a lost connection, in milliseconds; grows with the number of clients.
    pub reconnect_spread_ms: u64,
    /// What the server takes.
    pub limits: WireLimits,
    /// The server is about to restart.
    pub draining: bool,
    /// Where my own stream stands now. Events up to here follow if my cursor was good, and are in `rooms` if not.
    pub user: Position,
    /// Whether my own stream's cursor was good.
    pub user_recovered: bool,
    /// Whether `rooms` is everything I am a member of, and not only what changed since [`Hello::since`](super::Hello::since).
    pub rooms_complete: bool,
    /// Rooms I am a member of.
    pub rooms: Vec<RoomSummary>,
}

object!(Welcome { protocol, server, connection, you, now, heartbeat, reconnect_spread_ms, limits, draining = default, user, user_recovered, rooms_complete, rooms });

/// How heartbeats go. Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HeartbeatTerms {
    /// Between beats of a visible page.
    pub interval_ms: u64,
    /// Between beats of a hidden page.
    pub hidden_interval_ms: u64,
    /// How long an answer may take.
    pub answer_ms: u64,
}

object!(HeartbeatTerms { interval_ms, hidden_interval_ms, answer_ms });

impl Default for HeartbeatTerms {
    fn default() -> Self {
        Self { interval_ms: 10_000, hidden_interval_ms: 30_000, answer_ms: 4_000 }
    }
}

/// What the server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WireLimits {
    /// Largest message a client may send, in bytes.
    pub message_bytes: u64,
    /// Largest post, in bytes of UTF-8.
    pub post_bytes: u64,
    /// Longest post, in grapheme clusters.
    pub post_graphemes: u64,
    /// Posts a client may send at once before the rate applies.
    pub posts_burst: u64,
    /// Posts a second after that.
    pub posts_per_s: u64,
    /// Rooms a client may follow in full.
    pub open_rooms: u64,
}

object!(WireLimits { message_bytes, post_bytes, post_graphemes, posts_burst, posts_per_s, open_rooms });

impl Default for WireLimits {
    fn default() -> Self {
        use crate::limits;
        Self {
            message_bytes: limits::INBOUND_MESSAGE_BYTES as u64,
            post_bytes: limits::POST_BYTES as u64,
            post_graphemes: limits::POST_GRAPHEMES as u64,
            posts_burst: 10,
            posts_per_s: 5,
            open_rooms: limits::OPEN_ROOMS as u64,
        }
    }
}

/// Payload of the `beat` reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BeatAnswer {
    /// The server's wall clock.
    pub now: Timestamp,
    /// See [`Welcome::reconnect_spread_ms`].
    pub reconnect_spread_ms: u64,
}

object!(BeatAnswer { now, reconnect_spread_ms });

/// Payload of `ack`: the request is committed. A duplicate gets the first one's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ack {
    /// The key of the request.
    pub client_id: ClientId,
    /// Where.
    pub room: RoomId,
    /// The seq of the change it made. For a post, its place for ever.
    pub seq: Seq,
    /// When the server took it.
    pub ts: Timestamp,
    /// It was committed before; this is the first answer again.
    pub duplicate: bool,
}

object!(Ack { client_id, room, seq, ts, duplicate = default });

/// Payload of the `rooms` reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomList {
    /// In order of name.
    pub rooms: Vec<RoomSummary>,
    /// There are more after the last.
    pub more: bool,
}

object!(RoomList { rooms, more });

/// Payload of the `people` reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeopleList {
    /// Which room.
    pub room: RoomId,
    /// In order of name.
    pub people: Vec<Member>,
    /// There are more after the last.
    pub more: bool,
}

object!(PeopleList { room, people, more });
