//! The session's only source of chance: a small generator seeded by the driver.
//!
//! Must not live here: entropy. Invariant: the same seed gives the same draws for ever, so a recorded seed replays.

use crate::chance::SplitMix64;

#[derive(Clone, Debug)]
pub(super) struct Jitter(SplitMix64);

impl Jitter {
    pub(super) const fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// Draws evenly from `low..=high`; `low` where the range is empty.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low.saturating_add(self.0.below(high.saturating_sub(low).saturating_add(1)))
    }
}
