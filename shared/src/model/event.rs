//! The changes in a room and in what is one's own, as they are sent and stored.
//!
//! Must not live here: how they are folded. Invariant: an event has the next seq of its stream, and the chain's check at
//! it.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Empty, Person};
use crate::cursor::Check;
use crate::ids::{ClientId, RoomId, Seq};
use crate::object::object;
use crate::tagged::{Payload, tagged};
use crate::time::Timestamp;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Posted {
    /// The key its author sent it under.
    pub client_id: ClientId,
    /// The text. Absent where the post has been deleted since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

object!(Posted { client_id, body = default });

/// Payload of `edited`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edited {
    /// Which post.
    pub post: Seq,
    /// The new text. Absent where the post has been deleted since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

object!(Edited { post, body = default });

/// Payload of `deleted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// Which post.
    pub post: Seq,
}

object!(Deleted { post });

/// Payload of `reacted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reacted {
    /// Which post.
    pub post: Seq,
    /// With what.
    pub emoji: String,
    /// Added, or taken back.
    pub on: bool,
}

object!(Reacted { post, emoji, on });

/// Payload of `created` and `set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomTitle {
    /// The name in addresses: lower case, unique.
    pub name: String,
    /// What the room is about; may be empty.
    pub title: String,
}

object!(RoomTitle { name, title = default });

/// Payload of `kicked`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kicked {
    /// Who had to leave.
    pub user: Person,
}

object!(Kicked { user });

/// Payload of `renamed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Renamed {
    /// The name before.
    pub was: String,
}

object!(Renamed { was });

/// How a [`RoomEvent`] is written as JSON: the change's tag and payload beside the rest.
#[derive(Serialize)]
struct RoomEventText<'a> {
    room: RoomId,
    seq: Seq,
    check: Check,
    posts: u64,
    ts: Timestamp,
    by: &'a Person,
    change: &'a str,
    detail: Payload<'a, RoomChange>,
}

/// How it is read.
struct RoomEventForm {
    room: RoomId,
    seq: Seq,
    check: Check,
    posts: u64,
    ts: Timestamp,
    by: Person,
    change: String,
    detail: Option<Box<RawValue>>,
}

object!(RoomEventForm { room, seq, check, posts, ts, by, change, detail = default });

impl Serialize for RoomEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RoomEventText {
            room: self.room,
            seq: self.seq,
            check: self.check,
            posts: self.posts,
            ts: self.ts,
            by: &self.by,
            change: self.change.tag(),
            detail: Payload(&self.change),
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomAdded {
    /// Which room.
    pub room: RoomId,
    /// Its name then.
    pub name: String,
    /// Its title then.
    pub title: String,
    /// The seq at which I became a member.
    pub from: Seq,
    /// How many posts it had; what came before counts as read.
    pub posts: u64,
}

object!(RoomAdded { room, name, title = default, from, posts });

/// Payload of `room_removed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomRemoved {
    /// Which room.
    pub room: RoomId,
}

object!(RoomRemoved { room });

/// Payload of `named`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// The name.
    pub name: String,
}

object!(Named { name });

#[derive(Serialize)]
struct UserEventText<'a> {
    seq: Seq,
    check: Check,
    ts: Timestamp,
    change: &'a str,
    detail: Payload<'a, UserChange>,
}

struct UserEventForm {
    seq: Seq,
    check: Check,
    ts: Timestamp,
    change: String,
    detail: Option<Box<RawValue>>,
}

object!(UserEventForm { seq, check, ts, change, detail = default });

impl Serialize for UserEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        UserEventText {
            seq: self.seq,
            check: self.check,
            ts: self.ts,
            change: self.change.tag(),
            detail: Payload(&self.change),
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
