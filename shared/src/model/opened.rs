//! How a client gets from its cursor to the head of a room it opens.
//!
//! Must not live here: the decision, which is the server's. Invariant: an outcome says what is missing, or that nothing is.

use serde::{Deserialize, Serialize};

use super::{Member, Snapshot};
use crate::error::WireError;
use crate::ids::{RoomId, Seq};
use crate::object::object;

/// What became of one room the client asked to follow.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Opened {
    /// Which room.
    pub room: RoomId,
    /// How the client gets from its cursor to the head.
    pub outcome: OpenOutcome,
    /// Members, those here first, at most [`crate::limits::PAGE_PEOPLE`]. Empty where refused.
    pub roster: Vec<Member>,
    /// How many members there are in all.
    pub members: u64,
}

object!(Opened { room, outcome, roster = default, members = default });

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
#[derive(Clone, Default, Serialize)]
struct OutcomeForm {
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<ResetReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<Snapshot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hole: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<WireError>,
}

object!(OutcomeForm { outcome, head = default, missed = default, reason = default, snapshot = default, hole = default, error = default });

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
