//! The rows of the log, and the point reads and writes that [`super::apply`] decides with.
//!
//! Lives here: [`Tables`], implemented by every backend inside its transaction, and the rows it moves. Must not live here:
//! decisions. Invariant: a row of the event tables never changes in a way its stream's hash chain does not allow: a
//! body may be blanked, and only the state of a post beside its event may move.

use std::fmt;

use shared::cursor::Check;
use shared::ids::{ClientId, Lsn, RoomId, Seq, UserId};
use shared::time::Timestamp;

use super::chain::TextHash;
use super::reads::SessionRow;
use super::record::{Receipt, RequestDigest, TokenHash};

/// The storage failed. What that means for the record is the backend's to say.
#[derive(Debug)]
pub struct StorageError {
    /// What kind of failure it is.
    pub kind: StorageErrorKind,
    /// The storage's own words, for logs.
    pub message: String,
}

/// How a storage failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// There is no room. Nothing was changed.
    Full,
    /// Somebody else holds the storage. Nothing was changed.
    Busy,
    /// Anything else: what is on the disk is unknown.
    Failed,
}

impl StorageError {
    /// Makes a failure that stops the server.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: StorageErrorKind::Failed, message: message.into() }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StorageError {}

/// The first answer to a request, kept for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRow {
    /// What was asked.
    pub digest: RequestDigest,
    /// What was answered.
    pub receipt: Receipt,
}

/// A user, and the head of their stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// Who.
    pub id: UserId,
    /// Under which name.
    pub name: String,
    /// What looks like the name has the same skeleton.
    pub skeleton: String,
    /// The last change in their stream.
    pub seq: Seq,
    /// The hash chain there.
    pub check: Check,
    /// When that was.
    pub last_ts: Timestamp,
}

/// A room and its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRow {
    /// Which room.
    pub id: RoomId,
    /// Its name in addresses. An ended room gives its name back.
    pub name: String,
    /// What it is about.
    pub title: String,
    /// Who made it.
    pub maker: UserId,
    /// Whether it goes on.
    pub state: RoomState,
    /// Its last change.
    pub seq: Seq,
    /// Its hash chain there.
    pub check: Check,
    /// How many posts it has had.
    pub posts: u64,
    /// How many members it has.
    pub members: u64,
    /// When its last change was.
    pub last_ts: Timestamp,
    /// Where in the whole log its last change is.
    pub lsn: Lsn,
}

/// Whether a room goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomState {
    /// It does.
    Open,
    /// It was deleted.
    Ended,
}

/// One stay of somebody in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// Where.
    pub room: RoomId,
    /// Who.
    pub user: UserId,
    /// The change that made them a member.
    pub from_seq: Seq,
    /// The change that ended it.
    pub to_seq: Option<Seq>,
    /// The last change of this row in the whole log.
    pub lsn: Lsn,
}

/// The text of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// This kind of event has none.
    None,
    /// As it was sent.
    Text(String),
    /// Blanked; what is left is its hash, see [`TextHash`].
    Blanked([u8; 32]),
}

/// What kind of event a row is. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A post.
    Posted = 1,
    /// A post's text was replaced.
    Edited = 2,
    /// A post was deleted.
    Deleted = 3,
    /// A reaction was added or taken back.
    Reacted = 4,
    /// The room began.
    Created = 5,
    /// Its name or title changed.
    Set = 6,
    /// It ended.
    Ended = 7,
    /// Somebody became a member.
    Joined = 8,
    /// Somebody left.
    Left = 9,
    /// Somebody was made to leave.
    Kicked = 10,
    /// A member goes by another name.
    Renamed = 11,
    /// In a user's stream: a room was added.
    RoomAdded = 32,
    /// In a user's stream: a room was removed.
    RoomRemoved = 33,
    /// In a user's stream: a name.
    Named = 34,
}

impl Kind {
    /// Every kind this version knows.
    pub const ALL: &'static [Self] = &[
        Self::Posted,
        Self::Edited,
        Self::Deleted,
        Self::Reacted,
        Self::Created,
        Self::Set,
        Self::Ended,
        Self::Joined,
        Self::Left,
        Self::Kicked,
        Self::Renamed,
        Self::RoomAdded,
        Self::RoomRemoved,
        Self::Named,
    ];

    /// Returns the number it is stored under.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Reads a stored number.
    ///
    /// # Errors
    /// If this version does not know it.
    pub fn from_code(code: u8) -> Result<Self, StorageError> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.code() == code)
            .ok_or_else(|| StorageError::failed(format!("the log holds an event of the unknown kind {code}")))
    }
}

/// One event of a room, as it is stored: the log itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Which room.
    pub room: RoomId,
    /// Its place in the room.
    pub seq: Seq,
    /// Its place in the whole log.
    pub lsn: Lsn,
    /// The room's hash chain here.
    pub check: Check,
    /// How many posts the room has had, this one included.
    pub posts: u64,
    /// When the log took it.
    pub ts: Timestamp,
    /// Who did it.
    pub by: UserId,
    /// Under which name.
    pub name: String,
    /// What kind it is.
    pub kind: Kind,
    /// The key its author sent it under, where people see it.
    pub key: Option<ClientId>,
    /// The post it is about.
    pub target: Option<Seq>,
    /// The rest of the change, as JSON.
    pub detail: Option<String>,
    /// The text.
    pub body: Body,
}

/// One event of a user's own stream, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEventRow {
    /// Whose stream.
    pub user: UserId,
    /// Its place in the stream.
    pub seq: Seq,
    /// Its place in the whole log.
    pub lsn: Lsn,
    /// The stream's hash chain here.
    pub check: Check,
    /// When the log took it.
    pub ts: Timestamp,
    /// What kind it is.
    pub kind: Kind,
    /// The change, as JSON.
    pub detail: String,
}

/// How a post stands now, beside its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostState {
    /// The seq of its last change.
    pub rev: Seq,
    /// The event that carries its present text.
    pub text_at: Seq,
    /// When it was last edited.
    pub edited: Option<Timestamp>,
}

/// What `apply` needs to know of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostRow {
    /// Who wrote it.
    pub by: UserId,
    /// Under which key.
    pub key: ClientId,
    /// Whether it is still there.
    pub life: PostLife,
    /// How it stands.
    pub state: PostState,
}

/// Whether a post is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostLife {
    /// It is.
    Kept,
    /// It was deleted.
    Deleted,
}

/// How much has gathered under one post.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReactionCount {
    /// Reactions in all.
    pub all: u64,
    /// Different emojis.
    pub emojis: u64,
    /// The seq at which the first of those with the emoji asked for came, if any is left: its place among the emojis.
    pub since: Option<Seq>,
}

/// When a reaction came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReactionPlace {
    /// Since when somebody has been under its emoji without a break: emojis are shown in this order.
    pub since: Seq,
    /// The reaction itself: people under an emoji are shown in this order.
    pub at: Seq,
}

/// How far somebody has read a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRow {
    /// How many posts.
    pub posts: u64,
    /// The last change of this row in the whole log.
    pub lsn: Lsn,
}

/// Point reads and writes inside one transaction. Every call fails only as the storage fails.
#[allow(missing_docs, reason = "each is a read or a write of the row it names")]
pub trait Tables {
    /// Returns how the log hashes its texts.
    fn texts(&self) -> &TextHash;

    fn send(&self, by: UserId, key: ClientId) -> Result<Option<SendRow>, StorageError>;
    fn put_send(&mut self, by: UserId, key: ClientId, row: SendRow) -> Result<(), StorageError>;

    fn user(&self, id: UserId) -> Result<Option<UserRow>, StorageError>;
    fn user_by_skeleton(&self, skeleton: &str) -> Result<Option<UserId>, StorageError>;
    fn put_user(&mut self, row: &UserRow) -> Result<(), StorageError>;

    fn room(&self, id: RoomId) -> Result<Option<RoomRow>, StorageError>;
    /// Finds a room that has not ended.
    fn room_by_name(&self, name: &str) -> Result<Option<RoomId>, StorageError>;
    fn put_room(&mut self, row: &RoomRow) -> Result<(), StorageError>;

    /// Returns the newest stay.
    fn stay(&self, room: RoomId, user: UserId) -> Result<Option<MemberRow>, StorageError>;
    /// Writes a stay; `name` is the member's present name, by which members are listed.
    fn put_stay(&mut self, row: &MemberRow, name: &str) -> Result<(), StorageError>;
    /// Returns the rooms somebody is a member of, in order of id. At most [`shared::limits::JOINED_ROOMS`].
    fn rooms_joined(&self, user: UserId) -> Result<Vec<RoomId>, StorageError>;
    /// Returns up to `limit` members above `after`, in order of id.
    fn members_of(&self, room: RoomId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StorageError>;

    fn append_event(&mut self, row: &EventRow) -> Result<(), StorageError>;
    fn append_user_event(&mut self, row: &UserEventRow) -> Result<(), StorageError>;
    /// Returns the post at a seq; `None` if there is no event or it is not a post.
    fn post(&self, room: RoomId, seq: Seq) -> Result<Option<PostRow>, StorageError>;
    /// Counts the edits of a post, up to `most`.
    fn edit_count(&self, room: RoomId, seq: Seq, most: u64) -> Result<u64, StorageError>;
    fn put_post_state(&mut self, room: RoomId, seq: Seq, state: PostState) -> Result<(), StorageError>;
    /// Blanks the text of a post and of all its edits, leaving their hashes.
    fn blank_post(&mut self, room: RoomId, seq: Seq) -> Result<(), StorageError>;

    /// Returns the seq at which somebody reacted to a post with an emoji.
    fn reaction(&self, room: RoomId, post: Seq, emoji: &str, user: UserId) -> Result<Option<Seq>, StorageError>;
    fn reaction_count(&self, room: RoomId, post: Seq, emoji: &str) -> Result<ReactionCount, StorageError>;
    fn put_reaction(
        &mut self,
        room: RoomId,
        post: Seq,
        emoji: &str,
        user: UserId,
        place: ReactionPlace,
    ) -> Result<(), StorageError>;
    fn remove_reaction(&mut self, room: RoomId, post: Seq, emoji: &str, user: UserId) -> Result<(), StorageError>;
    /// Removes every reaction to a post.
    fn clear_reactions(&mut self, room: RoomId, post: Seq) -> Result<(), StorageError>;

    fn session(&self, token: &TokenHash) -> Result<Option<SessionRow>, StorageError>;
    fn put_session(&mut self, token: &TokenHash, row: SessionRow) -> Result<(), StorageError>;
    fn remove_session(&mut self, token: &TokenHash) -> Result<(), StorageError>;
    /// Returns up to `limit` sessions that ended at a moment or before it, the first to end first.
    fn sessions_ended(&self, before: Timestamp, limit: usize) -> Result<Vec<TokenHash>, StorageError>;

    fn read_mark(&self, user: UserId, room: RoomId) -> Result<Option<ReadRow>, StorageError>;
    fn put_read_mark(&mut self, user: UserId, room: RoomId, row: ReadRow) -> Result<(), StorageError>;
}
