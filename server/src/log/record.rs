//! What is asked of the log: typed requests, and what became of each.
//!
//! Lives here: [`Record`], [`Entry`], [`Op`] and their answers. Must not live here: whether a request is allowed, which
//! [`super::apply`] decides. Invariant: the serialised form of a version never changes; every case of it has a golden
//! file, and a new case is a new version.
//!
//! Version 2 added [`Op::SessionPurge`], version 3 [`Op::SessionRenew`], version 4 the key of a post that is named; all else is
//! as in version 1.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shared::error::WireError;
use shared::ids::{ClientId, RoomId, Seq, UserId};
use shared::model::PostRef;
use shared::time::Timestamp;

/// The version of [`Record`] this server writes.
pub const RECORD_VERSION: u16 = 4;

/// The server itself: it owns the rooms that exist from the start and is never a member of one.
pub const SYSTEM: UserId = UserId::from_bytes([0; 16]);
/// The name the server acts under.
pub const SYSTEM_NAME: &str = "holdfast";
/// The room that exists from the start.
pub const GENERAL: RoomId = RoomId::from_bytes(*b"holdfast-general");

/// SHA-256 of a session's token. The token itself is never stored.
pub type TokenHash = [u8; 32];

/// Everything committed at once: one transaction, all or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which version of the form this is.
    pub v: u16,
    /// In order.
    pub entries: Vec<Entry>,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When the proposer took it.
    pub ts: Timestamp,
    /// Who asks.
    pub by: UserId,
    /// The idempotency key. Asked twice by the same user, the first answer is given again.
    pub key: ClientId,
    /// What is asked.
    pub op: Op,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// Store a post. Members only.
    Post {
        /// Where.
        room: RoomId,
        /// The text.
        body: String,
    },
    /// Replace the text of a post. Its author only, while a member.
    Edit {
        /// Where.
        room: RoomId,
        /// Which post.
        #[serde(flatten)]
        post: PostRef,
        /// The new text.
        body: String,
    },
    /// Delete a post. Its author only, while a member.
    Delete {
        /// Where.
        room: RoomId,
        /// Which post.
        #[serde(flatten)]
        post: PostRef,
    },
    /// Add a reaction to a post or take it back. Members only; saying what already holds changes nothing.
    React {
        /// Where.
        room: RoomId,
        /// Which post.
        #[serde(flatten)]
        post: PostRef,
        /// With what.
        emoji: String,
        /// Add, or take back.
        on: bool,
    },
    /// Make a public room and become its first member.
    RoomCreate {
        /// Its id, minted by the proposer and no part of the request: a repetition may carry another.
        room: RoomId,
        /// The name in addresses; unique.
        name: String,
        /// What it is about.
        title: String,
    },
    /// Change a room's name and title. Its maker only.
    RoomSet {
        /// Which room.
        room: RoomId,
        /// The name in addresses; unique.
        name: String,
        /// What it is about.
        title: String,
    },
    /// End a room. Its maker only.
    RoomDelete {
        /// Which room.
        room: RoomId,
    },
    /// Become a member. A member already: nothing changes.
    Join {
        /// Which room.
        room: RoomId,
    },
    /// Be a member no longer.
    Leave {
        /// Which room.
        room: RoomId,
    },
    /// Make somebody leave. The room's maker only.
    Kick {
        /// Which room.
        room: RoomId,
        /// Who has to leave.
        user: UserId,
    },
    /// Create a user, or rename one. Themselves only.
    UserSet {
        /// Which user.
        user: UserId,
        /// The name.
        name: String,
        /// What looks the same has the same skeleton (UTS 39 §4); unique.
        skeleton: String,
    },
    /// Open a session of the asking user.
    SessionOpen {
        /// SHA-256 of its token.
        #[serde(with = "hex32")]
        token_hash: TokenHash,
        /// When it ends.
        expires: Timestamp,
    },
    /// Have a session of the asking user that is there end at a moment, or later if it does already. One that was revoked or
    /// forgotten is not brought back.
    SessionRenew {
        /// SHA-256 of its token.
        #[serde(with = "hex32")]
        token_hash: TokenHash,
        /// When it ends.
        expires: Timestamp,
    },
    /// End a session of the asking user.
    SessionRevoke {
        /// SHA-256 of its token.
        #[serde(with = "hex32")]
        token_hash: TokenHash,
    },
    /// Forget sessions that ended at a moment or before it: the first to end, [`super::apply::SESSIONS_PER_PURGE`] of them at
    /// most. The server itself only.
    SessionPurge {
        /// The moment.
        before: Timestamp,
    },
    /// Mark posts as read; merged by maximum.
    Read {
        /// Where.
        room: RoomId,
        /// How many.
        posts: u64,
    },
}

/// What a committed request is answered with, now and at every repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Where the change was made; absent for requests about the user alone.
    pub room: Option<RoomId>,
    /// The seq of the change in its stream. For a post, its place for ever.
    pub seq: Seq,
    /// When the log took it.
    pub ts: Timestamp,
}

/// What became of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is in the log.
    Committed(Receipt),
    /// It was in the log before; this is the first answer again.
    Duplicate(Receipt),
    /// It is not in the log, and the same request may be asked again.
    Refused(WireError),
}

/// A short digest of what a request asks, to tell a repetition from another request under the same key.
pub type RequestDigest = [u8; 16];

impl Op {
    /// Digests what is asked. Ids minted by the proposer are left out, and so is the key of a post that is named: it says
    /// under which condition, not what.
    #[must_use]
    pub fn digest(&self) -> RequestDigest {
        let mut digest = Fields::new();
        match self {
            Self::Post { room, body } => digest.tag(1).id(room.as_bytes()).text(body),
            Self::Edit { room, post, body } => digest.tag(2).id(room.as_bytes()).number(post.seq.0).text(body),
            Self::Delete { room, post } => digest.tag(3).id(room.as_bytes()).number(post.seq.0),
            Self::React { room, post, emoji, on } => {
                digest.tag(4).id(room.as_bytes()).number(post.seq.0).text(emoji).tag(u8::from(*on))
            }
            Self::RoomCreate { room: _, name, title } => digest.tag(5).text(name).text(title),
            Self::RoomSet { room, name, title } => digest.tag(6).id(room.as_bytes()).text(name).text(title),
            Self::RoomDelete { room } => digest.tag(7).id(room.as_bytes()),
            Self::Join { room } => digest.tag(8).id(room.as_bytes()),
            Self::Leave { room } => digest.tag(9).id(room.as_bytes()),
            Self::Kick { room, user } => digest.tag(10).id(room.as_bytes()).id(user.as_bytes()),
            Self::UserSet { user, name, skeleton } => digest.tag(11).id(user.as_bytes()).text(name).text(skeleton),
            Self::SessionOpen { token_hash, expires } => digest.tag(12).bytes(token_hash).number(expires.0),
            Self::SessionRevoke { token_hash } => digest.tag(13).bytes(token_hash),
            Self::Read { room, posts } => digest.tag(14).id(room.as_bytes()).number(*posts),
            Self::SessionPurge { before } => digest.tag(15).number(before.0),
            Self::SessionRenew { token_hash, expires } => digest.tag(16).bytes(token_hash).number(expires.0),
        };
        let hash = digest.0.finalize();
        let mut short = [0; 16];
        short.copy_from_slice(&hash[..16]);
        short
    }

    /// Returns about how many bytes the request takes in a record.
    #[must_use]
    pub fn weight(&self) -> usize {
        const FIXED: usize = 128;
        let text = match self {
            Self::Post { body, .. } | Self::Edit { body, .. } => body.len(),
            Self::React { emoji, .. } => emoji.len(),
            Self::RoomCreate { name, title, .. } | Self::RoomSet { name, title, .. } => name.len() + title.len(),
            Self::UserSet { name, skeleton, .. } => name.len() + skeleton.len(),
            Self::Delete { .. }
            | Self::RoomDelete { .. }
            | Self::Join { .. }
            | Self::Leave { .. }
            | Self::Kick { .. }
            | Self::SessionOpen { .. }
            | Self::SessionRenew { .. }
            | Self::SessionRevoke { .. }
            | Self::SessionPurge { .. }
            | Self::Read { .. } => 0,
        };
        FIXED + text
    }
}

/// Feeds fields to a hash so that no two lists of fields look alike: texts and byte strings carry their length.
pub(super) struct Fields(pub(super) Sha256);

impl Fields {
    pub(super) fn new() -> Self {
        Self(Sha256::new())
    }

    pub(super) fn tag(&mut self, tag: u8) -> &mut Self {
        self.0.update([tag]);
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(number.to_be_bytes());
        self
    }

    pub(super) fn id(&mut self, id: &[u8; 16]) -> &mut Self {
        self.0.update(id);
        self
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64).0.update(bytes);
        self
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }
}

/// Token hashes are 64 hexadecimal digits in a record.
mod hex32 {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in bytes {
            write!(text, "{byte:02x}").expect("a string takes every write");
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(D::Error::custom("a token hash is 64 hexadecimal digits"));
        }
        let mut bytes = [0; 32];
        for (place, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).map_err(D::Error::custom)?;
            *place = u8::from_str_radix(digits, 16).map_err(D::Error::custom)?;
        }
        Ok(bytes)
    }
}
