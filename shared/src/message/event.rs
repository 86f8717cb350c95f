//! What events carry that are not changes in a stream.
//!
//! Must not live here: the changes themselves ([`crate::model`]). Invariant: nothing here has a seq; whoever misses it
//! learns what matters of it another way.

use serde::Serialize;

use crate::ids::RoomId;
use crate::model::{Head, Member, Person};
use crate::object::object;

/// How long a `typing` event is shown, in milliseconds.
pub const TYPING_SHOWN_MS: u64 = 6_000;
/// How often a client says it is writing, at most, in milliseconds.
pub const TYPING_EVERY_MS: u64 = 3_000;

/// Payload of `live`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Live {}

object!(Live {});

/// Payload of `heads`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Heads {
    /// Those that changed.
    pub heads: Vec<Head>,
}

object!(Heads { heads });

/// Payload of the `typing` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TypingNow {
    /// Where.
    pub room: RoomId,
    /// Who.
    pub user: Person,
}

object!(TypingNow { room, user });

/// Payload of `presence`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// Who came or went, and how it stands now.
    pub changes: Vec<Member>,
}

object!(Presence { changes });

/// Payload of the `read` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ReadMark {
    /// Which room.
    pub room: RoomId,
    /// How many of its posts are read.
    pub posts: u64,
}

object!(ReadMark { room, posts });

/// Payload of the `beat` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BeatAsked {
    /// To be answered in [`Beat::answers`](super::Beat::answers).
    pub n: u64,
}

object!(BeatAsked { n });

/// Payload of `draining`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Draining {
    /// How long this client waits after the close before it comes back, in milliseconds.
    pub reconnect_after_ms: u64,
}

object!(Draining { reconnect_after_ms });

/// Payload of `closing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Closing {
    /// The code of the close frame that follows.
    pub code: u16,
    /// Words for logs.
    pub reason: String,
}

object!(Closing { code, reason });
