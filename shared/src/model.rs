//! What travels inside messages: people, posts, rooms, the events of streams, snapshots.
//!
//! Must not live here: the envelope ([`crate::message`]) or how rows look ([`crate::timeline`]). Invariant: an event and
//! a snapshot commute. Each post carries `rev`, the seq of its last change, and an event is applied only if its seq is
//! greater, so the order in which the two arrive does not matter.

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::cursor::{Check, Position};
use crate::error::WireError;
use crate::ids::{ClientId, Epoch, Lsn, RoomId, Seq, UserId};
use crate::tagged::tagged;
use crate::time::Timestamp;

/// Somebody, under the name they go by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Who.
    pub id: UserId,
    /// The name at the time of speaking.
    pub name: String,
}

/// Somebody in a room, and whether they are here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub id: UserId,
    /// Their name.
    pub name: String,
    /// Whether at least one of their connections is alive, or went less than the grace period ago.
    pub online: bool,
}

/// One chat line as it stands now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// When it was last edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited: Option<Timestamp>,
    /// Who reacted with what, in the order the first of each came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reaction>,
}

/// One emoji under a post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    /// The emoji.
    pub emoji: String,
    /// Who reacted, in order.
    pub by: Vec<UserId>,
}

/// One change in a room, as every member is sent it: the same bytes for all.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomEvent {
    /// Which room.
    pub room: RoomId,
    /// Its place in the room: dense, from 1.
    pub seq: Seq,
    /// The room's hash chain at `seq`.
    pub check: Check,
    /// How many posts the room has had, this one included.
    pub posts: u64,
    /// When the server took it.
    pub ts: Timestamp,
    /// Who did it, under the name of that moment.
    pub by: Person,
    /// What changed.
    pub change: RoomChange,
}

tagged! {
    /// What changed in a room.
    pub enum RoomChange {
        /// A post.
        Posted(Posted) = "posted",
        /// A post's text was replaced by its author.
        Edited(Edited) = "edited",
        /// A post was deleted: its text is gone, its place stays.
        Deleted(Deleted) = "deleted",
        /// A reaction was added or taken back.
        Reacted(Reacted) = "reacted",
        /// The room began.
        Created(RoomTitle) = "created",
        /// The room's name or title changed.
        Set(RoomTitle) = "set",
        /// The room ended. No event follows.
        Ended(Empty) = "ended",
        /// The event's author became a member.
        Joined(Empty) = "joined",
        /// The event's author left.
        Left(Empty) = "left",
        /// Somebody was made to leave.
        Kicked(Kicked) = "kicked",
        /// The event's author goes by another name from here on (the one in `by`).
        Renamed(Renamed) = "renamed",
    }
}

/// Payload of `posted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posted {
    /// The key its author sent it under.
    pub client_id: ClientId,
    /// The text. Absent where the post has been deleted since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Payload of `edited`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    /// Which post.
    pub post: Seq,
    /// The new text. Absent where the post has been deleted since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Payload of `deleted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Which post.
    pub post: Seq,
}

/// Payload of `reacted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reacted {
    /// Which post.
    pub post: Seq,
    /// With what.
    pub emoji: String,
    /// Added, or taken back.
    pub on: bool,
}

/// Payload of `created` and `set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomTitle {
    /// The name in addresses: lower case, unique.
    pub name: String,
    /// What the room is about; may be empty.
    #[serde(default)]
    pub title: String,
}

/// Payload of `kicked`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kicked {
    /// Who had to leave.
    pub user: Person,
}

/// Payload of `renamed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renamed {
    /// The name before.
    pub was: String,
}

/// A payload with nothing in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// How a [`RoomEvent`] is laid out in JSON: the change's tag and payload beside the rest.
#[derive(Serialize, Deserialize)]
struct RoomEventForm {
    room: RoomId,
    seq: Seq,
    check: Check,
    posts: u64,
    ts: Timestamp,
    by: Person,
    change: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<Box<RawValue>>,
}

impl Serialize for RoomEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RoomEventForm {
            room: self.room,
            seq: self.seq,
            check: self.check,
            posts: self.posts,
            ts: self.ts,
            by: self.by.clone(),
            change: self.change.tag().to_owned(),
            detail: Some(self.change.payload().map_err(S::Error::custom)?),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RoomEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = RoomEventForm::deserialize(deserializer)?;
        let change = RoomChange::read(&form.change, form.detail.as_deref()).map_err(D::Error::custom)?;
        Ok(Self {
            room: form.room,
            seq: form.seq,
            check: form.check,
            posts: form.posts,
            ts: form.ts,
            by: form.by,
            change,
        })
    }
}

/// One change in what is mine.
#[derive(Clone, Debug, PartialEq)]
pub struct UserEvent {
    /// Its place in my stream: dense, from 1.
    pub seq: Seq,
    /// My stream's hash chain at `seq`.
    pub check: Check,
    /// When the server took it.
    pub ts: Timestamp,
    /// What changed.
    pub change: UserChange,
}

tagged! {
    /// What changed in what is mine.
    pub enum UserChange {
        /// I became a member of a room.
        RoomAdded(RoomAdded) = "room_added",
        /// I am no longer a member of a room.
        RoomRemoved(RoomRemoved) = "room_removed",
        /// I go by this name.
        Named(Named) = "named",
    }
}

/// Payload of `room_added`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomAdded {
    /// Which room.
    pub room: RoomId,
    /// Its name then.
    pub name: String,
    /// Its title then.
    #[serde(default)]
    pub title: String,
    /// The seq at which I became a member.
    pub from: Seq,
    /// How many posts it had; what came before counts as read.
    pub posts: u64,
}

/// Payload of `room_removed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRemoved {
    /// Which room.
    pub room: RoomId,
}

/// Payload of `named`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The name.
    pub name: String,
}

#[derive(Serialize, Deserialize)]
struct UserEventForm {
    seq: Seq,
    check: Check,
    ts: Timestamp,
    change: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<Box<RawValue>>,
}

impl Serialize for UserEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        UserEventForm {
            seq: self.seq,
            check: self.check,
            ts: self.ts,
            change: self.change.tag().to_owned(),
            detail: Some(self.change.payload().map_err(S::Error::custom)?),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for UserEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = UserEventForm::deserialize(deserializer)?;
        let change = UserChange::read(&form.change, form.detail.as_deref()).map_err(D::Error::custom)?;
        Ok(Self { seq: form.seq, check: form.check, ts: form.ts, change })
    }
}

/// The newest posts of a room as they stood at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl Snapshot {
    /// Returns how many posts lie before the first one here.
    #[must_use]
    pub fn earlier(&self) -> u64 {
        self.posts.first().map_or(self.total, |post| post.ordinal.saturating_sub(1))
    }
}

/// A page of older posts, as they stand at `as_of`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// A page of events after a cursor, for readers that want every one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventPage {
    /// Which room.
    pub room: RoomId,
    /// The events, in order, dense.
    pub events: Vec<RoomEvent>,
    /// The room's head when the page was read. Equal to the last event's seq on the last page.
    pub head: Seq,
}

/// A room as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomSummary {
    /// Which room.
    pub room: RoomId,
    /// The name in addresses.
    pub name: String,
    /// What it is about; may be empty.
    #[serde(default)]
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

/// What a room I do not follow in full has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Which room.
    pub room: RoomId,
    /// Its last change.
    pub seq: Seq,
    /// How many posts it has had.
    pub posts: u64,
}

/// What became of one room the client asked to follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// Which room.
    pub room: RoomId,
    /// How the client gets from its cursor to the head.
    pub outcome: OpenOutcome,
    /// Members, those here first, at most [`crate::limits::PAGE_PEOPLE`]. Empty where refused.
    #[serde(default)]
    pub roster: Vec<Member>,
    /// How many members there are in all.
    #[serde(default)]
    pub members: u64,
}

/// How a client gets from its cursor to the head of a room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "OutcomeForm", into = "OutcomeForm")]
pub enum OpenOutcome {
    /// The cursor holds. Every event after it follows; nothing is missing.
    Recovered {
        /// The head now; caught up once the cursor is there.
        head: Seq,
        /// How many events follow to get there.
        missed: u64,
    },
    /// There was no cursor: here is the newest of the room.
    Fresh {
        /// The newest posts.
        snapshot: Snapshot,
    },
    /// Too far behind to replay: here is the newest; what lies between is a hole to fill on demand.
    Jumped {
        /// The newest posts.
        snapshot: Snapshot,
        /// How many posts lie between the cursor and the snapshot's first post.
        hole: u64,
    },
    /// The cursor is worthless. Forget what was shown of this room and start from here.
    Reset {
        /// Why.
        reason: ResetReason,
        /// The newest posts.
        snapshot: Snapshot,
    },
    /// The room may not be followed.
    Refused {
        /// Why.
        error: WireError,
    },
}

/// How an [`OpenOutcome`] is laid out in JSON. By hand, for serde's own tagged enums read into a buffer of values first,
/// and the page would download that code for nothing else.
#[derive(Clone, Default, Serialize, Deserialize)]
struct OutcomeForm {
    outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<Seq>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<ResetReason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<Snapshot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hole: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<WireError>,
}

impl From<OpenOutcome> for OutcomeForm {
    fn from(outcome: OpenOutcome) -> Self {
        let named = |name: &str| Self { outcome: name.to_owned(), ..Self::default() };
        match outcome {
            OpenOutcome::Recovered { head, missed } => {
                Self { head: Some(head), missed: Some(missed), ..named("recovered") }
            }
            OpenOutcome::Fresh { snapshot } => Self { snapshot: Some(snapshot), ..named("fresh") },
            OpenOutcome::Jumped { snapshot, hole } => {
                Self { snapshot: Some(snapshot), hole: Some(hole), ..named("jumped") }
            }
            OpenOutcome::Reset { reason, snapshot } => {
                Self { reason: Some(reason), snapshot: Some(snapshot), ..named("reset") }
            }
            OpenOutcome::Refused { error } => Self { error: Some(error), ..named("refused") },
        }
    }
}

impl TryFrom<OutcomeForm> for OpenOutcome {
    type Error = String;

    fn try_from(form: OutcomeForm) -> Result<Self, Self::Error> {
        let OutcomeForm { outcome, head, missed, reason, snapshot, hole, error } = form;
        let lacks = |field: &str| format!("an outcome `{outcome}` needs `{field}`");
        let snapshot = || snapshot.ok_or_else(|| lacks("snapshot"));
        Ok(match outcome.as_str() {
            "recovered" => Self::Recovered {
                head: head.ok_or_else(|| lacks("head"))?,
                missed: missed.ok_or_else(|| lacks("missed"))?,
            },
            "fresh" => Self::Fresh { snapshot: snapshot()? },
            "jumped" => Self::Jumped { hole: hole.ok_or_else(|| lacks("hole"))?, snapshot: snapshot()? },
            "reset" => Self::Reset { reason: reason.ok_or_else(|| lacks("reason"))?, snapshot: snapshot()? },
            "refused" => Self::Refused { error: error.ok_or_else(|| lacks("error"))? },
            other => return Err(format!("`{other}` is no outcome of opening a room")),
        })
    }
}

/// Why a cursor could not be resumed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// The log is another one.
    Epoch,
    /// The client is ahead of the server: the server was restored from an older state.
    Ahead,
    /// The histories differ at the cursor: the server was restored and has gone on since.
    Forked,
    /// The events after the cursor are no longer kept.
    Pruned,
    /// The membership began anew after the cursor.
    Rejoined,
}

/// The server's side of the welcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Names the log this server keeps.
    pub epoch: Epoch,
    /// The server's version and build.
    pub build: String,
    /// The last change in the whole log that the welcome's summaries include.
    pub lsn: Lsn,
}
