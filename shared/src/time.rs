//! Time as everything in this crate sees it: milliseconds handed in by the caller.
//!
//! Must not live here: a way to read a clock. Invariant: arithmetic saturates, so a clock that jumps backwards can
//! make a wait longer or shorter but can never panic.

use serde::{Deserialize, Serialize};

/// A moment in milliseconds.
///
/// On the wire and in the log it counts from the Unix epoch. Inside the session it may count from anywhere, as long
/// as one session uses one origin and the clock behind it counts sleep and never runs backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Returns the moment `ms` milliseconds later, saturating.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Returns how many milliseconds have passed since `earlier`, zero if it lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
