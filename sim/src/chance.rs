//! The one source of chance in a world.
//!
//! Invariant: the same seed gives the same numbers, on every machine.

use shared::chance::SplitMix64;

/// Numbers drawn from a seed.
#[derive(Clone, Debug)]
pub struct Chance(SplitMix64);

impl Chance {
    /// Begins a sequence.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// Draws any number.
    pub const fn any(&mut self) -> u64 {
        self.0.draw()
    }

    /// Draws a number from zero up to `end`, which it is not; zero where `end` is zero.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    /// Draws a number from `start` up to `end`, which it is not.
    pub const fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.below(end.saturating_sub(start))
    }

    /// Draws true once in so many times.
    pub const fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Draws one of some.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, some: &'a [T]) -> &'a T {
        &some[self.below(some.len() as u64) as usize]
    }

    /// Fills bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.any().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}
