//! What commands carry.
//!
//! Must not live here: what is answered. Invariant: a command that must not be done twice carries the key under which it
//! is done once.

use serde::Serialize;

use crate::cursor::Position;
use crate::ids::{ClientId, Lsn, RoomId, Seq, SessionId};
use crate::object::object;

/// Payload of `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hello {
    /// The newest protocol the client speaks.
    pub protocol: u16,
    /// The client's program and version, for logs.
    pub client: String,
    /// This running client. A second socket of the same one supersedes the first.
    pub session: SessionId,
    /// The page is hidden: beats come more rarely.
    pub hidden: bool,
    /// Where I stand in my own stream. Absent: the welcome lists everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Position>,
    /// Rooms to follow in full, each from its cursor; at most [`crate::limits::OPEN_ROOMS`].
    pub rooms: Vec<OpenRoom>,
    /// The last change in the whole log my room list includes. Absent: the welcome lists everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Lsn>,
}

object!(Hello { protocol, client, session, hidden = default, user = default, rooms = default, since = default });

/// Payload of `open`, and one room of a `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenRoom {
    /// Which room.
    pub room: RoomId,
    /// Where I stand. Absent: a snapshot, please.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Position>,
    /// Never jump: replay every event, however many.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replay: bool,
}

object!(OpenRoom { room, cursor = default, replay = default });

/// Payload of the `beat` command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Beat {
    /// The page is hidden.
    pub hidden: bool,
    /// The number of the server's question this answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<u64>,
}

object!(Beat { hidden = default, answers = default });

/// Payload of `post`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SendPost {
    /// Its number among this connection's sends, from 1. After a retryable refusal of one, later ones are answered
    /// `behind` until its number comes again. Absent: on its own, in no order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The idempotency key.
    pub client_id: ClientId,
    /// Where.
    pub room: RoomId,
    /// The text.
    pub body: String,
}

object!(SendPost { n = default, client_id, room, body });

/// Payload of `edit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SendEdit {
    /// As in [`SendPost::n`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The idempotency key of this edit.
    pub client_id: ClientId,
    /// Where.
    pub room: RoomId,
    /// Which post.
    pub post: Seq,
    /// The key that post was written under. It is refused with `not_found` if the post there has another: the room's history
    /// is not the one that was looked at. Absent: whichever post is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_client_id: Option<ClientId>,
    /// The new text.
    pub body: String,
}

object!(SendEdit { n = default, client_id, room, post, post_client_id = default, body });

/// Payload of `delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SendDelete {
    /// As in [`SendPost::n`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The idempotency key of this deletion.
    pub client_id: ClientId,
    /// Where.
    pub room: RoomId,
    /// Which post.
    pub post: Seq,
    /// The key that post was written under. It is refused with `not_found` if the post there has another: the room's history
    /// is not the one that was looked at. Absent: whichever post is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_client_id: Option<ClientId>,
}

object!(SendDelete { n = default, client_id, room, post, post_client_id = default });

/// Payload of `react`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SendReact {
    /// As in [`SendPost::n`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The idempotency key of this reaction.
    pub client_id: ClientId,
    /// Where.
    pub room: RoomId,
    /// Which post.
    pub post: Seq,
    /// The key that post was written under. It is refused with `not_found` if the post there has another: the room's history
    /// is not the one that was looked at. Absent: whichever post is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_client_id: Option<ClientId>,
    /// With what.
    pub emoji: String,
    /// Add it, or take it back.
    pub on: bool,
}

object!(SendReact { n = default, client_id, room, post, post_client_id = default, emoji, on });

/// A payload that names a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RoomRef {
    /// Which room.
    pub room: RoomId,
}

object!(RoomRef { room });

/// Payload of `history`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct History {
    /// Which room.
    pub room: RoomId,
    /// Posts with a seq below this one.
    pub before: Seq,
    /// How many at most; the server's page size where absent or larger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

object!(History { room, before, limit = default });

/// Payload of `events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EventsAfter {
    /// Which room.
    pub room: RoomId,
    /// Events with a seq above this one.
    pub after: Seq,
    /// How many at most; the server's page size where absent or larger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

object!(EventsAfter { room, after, limit = default });

/// Payload of `rooms`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListRooms {
    /// Rooms whose name sorts after this one. Absent: from the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

object!(ListRooms { after = default });

/// Payload of `find_room`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindRoom {
    /// Its name.
    pub name: String,
}

object!(FindRoom { name });

/// Payload of `create_room`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CreateRoom {
    /// The idempotency key; asked twice, the first room is answered.
    pub client_id: ClientId,
    /// The name in addresses.
    pub name: String,
    /// What it is about.
    pub title: String,
}

object!(CreateRoom { client_id, name, title = default });

/// Payload of `join` and `leave`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Membership {
    /// The idempotency key.
    pub client_id: ClientId,
    /// Which room.
    pub room: RoomId,
}

object!(Membership { client_id, room });

/// Payload of `people`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListPeople {
    /// Which room.
    pub room: RoomId,
    /// Members whose name sorts after this one. Absent: from the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

object!(ListPeople { room, after = default });

/// Payload of `rename`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rename {
    /// The idempotency key.
    pub client_id: ClientId,
    /// The new name.
    pub name: String,
}

object!(Rename { client_id, name });

/// Payload of the `read` command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MarkRead {
    /// Which room.
    pub room: RoomId,
    /// How many of its posts are read, as counted by [`RoomEvent::posts`](crate::model::RoomEvent::posts).
    pub posts: u64,
}

object!(MarkRead { room, posts });
