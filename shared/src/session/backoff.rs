//! How long to wait before the next attempt.
//!
//! Must not live here: timers. Invariant: a server that accepts and closes at once sees at most eight attempts in the
//! first minute, and the count starts over only after a connection has lasted [`STABLE_MS`].
//!
//! The wait after the n-th failure is drawn from `[x/2, x]`, `x = min(30 s, 1 s · 2ⁿ⁻¹)`: a variant of "equal jitter"
//! (Brooker, "Exponential backoff and jitter", 2015). Full jitter from `[0, x]` broke the invariant in simulation. No wait
//! is drawn from less than what the server asked for, so that a restart does not bring everybody back in one second: also
//! not one that takes longer than that, when everybody has failed once or twice and would be back within a second or two.

use super::jitter::Jitter;
use crate::planted::{Bug, is_planted};

/// The first wait's upper end, in milliseconds.
pub const BACKOFF_BASE_MS: u64 = 1_000;
/// No wait is longer, in milliseconds; only the spread a server asks for can be.
pub const BACKOFF_CAP_MS: u64 = 30_000;
/// The longest spread believed, in milliseconds.
pub const SPREAD_CAP_MS: u64 = 120_000;
/// A connection that lasted this long since its welcome clears the count, in milliseconds.
pub const STABLE_MS: u64 = 15_000;
/// "At once" is drawn from zero to this, in milliseconds, so that a network that returns for all is not stormed.
pub const AT_ONCE_JITTER_MS: u64 = 1_000;

/// Counts attempts and draws waits.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    attempts: u32,
    spread_ms: u64,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { attempts: 0, spread_ms: 0 }
    }

    /// Remembers over how long the server wants returns spread.
    pub(super) fn set_spread(&mut self, spread_ms: u64) {
        self.spread_ms = spread_ms.min(SPREAD_CAP_MS);
    }

    /// Counts an attempt that begins now.
    pub(super) fn attempted(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// Forgets the attempts: a connection has lasted.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Returns how many attempts there were since the last stable connection.
    pub(super) const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Draws the wait after a loss or a failed attempt, in milliseconds.
    pub(super) fn draw(&self, jitter: &mut Jitter) -> u64 {
        let doublings = self.attempts.saturating_sub(1).min(16);
        let x = (BACKOFF_BASE_MS << doublings).min(BACKOFF_CAP_MS);
        if self.spread_ms > x {
            let least = if self.attempts <= 1 { BACKOFF_BASE_MS / 2 } else { self.spread_ms / 2 };
            return jitter.between(least, self.spread_ms);
        }
        if is_planted(Bug::NoJitter) {
            return x;
        }
        jitter.between(x / 2, x)
    }
}
