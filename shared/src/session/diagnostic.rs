//! Lines of the connection's timeline: what happened to it, for people who want to know and for tests.
//!
//! Must not live here: anything that is acted on. Invariant: a session that loses every line behaves the same.

use crate::ids::{AttemptId, ConnectionId, RoomId, Seq};
use crate::time::Timestamp;

/// A line of the connection's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Session time.
    pub at: Timestamp,
    /// Which attempt it is about.
    pub attempt: AttemptId,
    /// What happened.
    pub what: Happened,
}

/// What happened to the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// An attempt began.
    Attempted,
    /// The socket opened.
    Opened,
    /// The server greeted.
    Welcomed {
        /// As which connection.
        connection: ConnectionId,
    },
    /// Streams were resumed from cursors.
    Resumed {
        /// How many events had been missed.
        missed: u64,
    },
    /// A room could not be resumed and started over.
    ResetRoom {
        /// Which.
        room: RoomId,
        /// Why.
        reason: crate::model::ResetReason,
    },
    /// Caught up.
    Live,
    /// Events that were already known came again and were dropped.
    Deduplicated {
        /// How many.
        events: u64,
    },
    /// An event was missing; the room was asked for again from its cursor.
    Gap {
        /// Which room.
        room: RoomId,
        /// The seq expected.
        expected: Seq,
        /// The seq that came.
        got: Seq,
    },
    /// A heartbeat was not answered in time.
    HeartbeatMissed,
    /// An acknowledgement is late.
    AckLate,
    /// The server announced a restart.
    Draining,
    /// The connection closed.
    Closed {
        /// With which code.
        code: u16,
        /// With which words.
        reason: String,
        /// We closed it.
        by_us: bool,
    },
    /// The next attempt is scheduled.
    Waiting {
        /// In how many milliseconds.
        ms: u64,
    },
    /// The device went offline or came online.
    Online(bool),
    /// The page was hidden or shown.
    Visible(bool),
    /// The machine slept or the page was frozen.
    Woke,
    /// A message of the server could not be read and was ignored.
    Unreadable {
        /// Why.
        why: String,
    },
}
