//! What travels inside messages: people, posts, rooms, snapshots; the changes in streams (`event`), and what becomes of
//! a room that is opened (`opened`).
//!
//! Must not live here: the envelope ([`crate::message`]) or how rows look ([`crate::timeline`]). Invariant: an event and
//! a snapshot commute. Each post carries `rev`, the seq of its last change, and an event is applied only if its seq is
//! greater, so the order in which the two arrive does not matter.

mod event;
mod opened;

use serde::{Deserialize, Serialize};

use crate::cursor::Position;
use crate::ids::{ClientId, Epoch, Lsn, RoomId, Seq, UserId};
use crate::object::object;
use crate::time::Timestamp;

pub use event::{
    Deleted, Edited, Kicked, Named, Posted, Reacted, Renamed, RoomAdded, RoomChange, RoomEvent, RoomRemoved, RoomTitle,
    UserChange, UserEvent,
};
pub use opened::{OpenOutcome, Opened, ResetReason};

/// Somebody, under the name they go by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Who.
    pub id: UserId,
    /// The name at the time of speaking.
    pub name: String,
}

object!(Person { id, name });

/// Somebody in a room, and whether they are here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Who.
    pub id: UserId,
    /// Their name.
    pub name: String,
    /// Whether at least one of their connections is alive, or went less than the grace period ago.
    pub online: bool,
}

object!(Member { id, name, online });

/// One chat line as it stands now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Post {
    /// Its place in the room.
    pub seq: Seq,
    /// The seq of its last change. Events with a seq up to this one are already in it.
    pub rev: Seq,
    /// How many posts the room had when this one came, itself included: 1 for the first.
    pub ordinal: u64,
    /// Who wrote it.
    pub by: UserId,
    /// The key its author sent it under. The author's row keeps it as its identity.
    pub client_id: ClientId,
    /// When the server took it. Never decreases within a room; order is by seq only.
    pub ts: Timestamp,
    /// The text; absent once deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// When it was last edited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited: Option<Timestamp>,
    /// Who reacted with what, in the order the first of each came.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reaction>,
}

object!(Post { seq, rev, ordinal, by, client_id, ts, body = default, edited = default, reactions = default });

/// Names a post: its place, and the key it was written under.
///
/// A place alone is not enough: in a history that was set back to a backup it is soon another post's, and what was meant
/// for the lost one would strike that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostRef {
    /// Its place in the room.
    #[serde(rename = "post")]
    pub seq: Seq,
    /// Its [`Post::client_id`]. Absent: whichever post is there.
    #[serde(rename = "post_client_id", default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
}

impl From<Seq> for PostRef {
    fn from(seq: Seq) -> Self {
        Self { seq, client_id: None }
    }
}

/// One emoji under a post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reaction {
    /// The emoji.
    pub emoji: String,
    /// Who reacted, in order.
    pub by: Vec<UserId>,
}

object!(Reaction { emoji, by });

/// A payload with nothing in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Empty {}

object!(Empty {});

/// The newest posts of a room as they stood at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The moment: every event up to here is in it, every later one follows.
    pub as_of: Position,
    /// How many posts the room had at `as_of`.
    pub total: u64,
    /// Up to [`crate::limits::PAGE_POSTS`] posts, oldest first.
    pub posts: Vec<Post>,
    /// The names of everybody who wrote or reacted in it.
    pub people: Vec<Person>,
}

object!(Snapshot { as_of, total, posts, people });

impl Snapshot {
    /// Returns how many posts lie before the first one here.
    #[must_use]
    pub fn earlier(&self) -> u64 {
        self.posts.first().map_or(self.total, |post| post.ordinal.saturating_sub(1))
    }
}

/// A page of older posts, as they stand at `as_of`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistoryPage {
    /// Which room.
    pub room: RoomId,
    /// The moment the posts were read at.
    pub as_of: Position,
    /// Posts before the one asked for, oldest first; empty where there is none.
    pub posts: Vec<Post>,
    /// The names of everybody who wrote or reacted in it.
    pub people: Vec<Person>,
    /// How many posts lie before the first one here.
    pub earlier: u64,
}

object!(HistoryPage { room, as_of, posts, people, earlier });

/// A page of events after a cursor, for readers that want every one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventPage {
    /// Which room.
    pub room: RoomId,
    /// The events, in order, dense.
    pub events: Vec<RoomEvent>,
    /// The room's head when the page was read. Equal to the last event's seq on the last page.
    pub head: Seq,
}

object!(EventPage { room, events, head });

/// A room as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomSummary {
    /// Which room.
    pub room: RoomId,
    /// The name in addresses.
    pub name: String,
    /// What it is about; may be empty.
    pub title: String,
    /// Whether I am a member.
    pub joined: bool,
    /// How many members it has.
    pub members: u64,
    /// Its last change.
    pub head: Seq,
    /// How many posts it has had.
    pub posts: u64,
    /// How many of them I have read. Unread is `posts − read`.
    pub read: u64,
}

object!(RoomSummary { room, name, title = default, joined, members, head, posts, read });

/// What a room I do not follow in full has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Which room.
    pub room: RoomId,
    /// Its last change.
    pub seq: Seq,
    /// How many posts it has had.
    pub posts: u64,
}

object!(Head { room, seq, posts });

/// The server's side of the welcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerInfo {
    /// Names the log this server keeps.
    pub epoch: Epoch,
    /// The server's version and build.
    pub build: String,
    /// The last change in the whole log that the welcome's summaries include.
    pub lsn: Lsn,
}

object!(ServerInfo { epoch, build, lsn });
