//! How long and how hard a fault is caused: short in the ordinary run of the tests, long where `cargo xtask faults` asks.
//!
//! Must not live here: faults. Invariant: chance comes from a seed that is printed, and the same seed gives the same
//! choices.

use std::time::Duration;

use shared::chance::SplitMix64;

/// Says how often a loop of faults goes round: `HOLDFAST_LOOPS`, or as often as the ordinary test does.
///
/// # Panics
/// If the variable is not a number.
#[must_use]
pub fn loops(ordinary: usize) -> usize {
    number("HOLDFAST_LOOPS").map_or(ordinary, |loops| usize::try_from(loops).expect("fits this machine"))
}

/// Says how many clients a crowd has: `HOLDFAST_CLIENTS`, or as many as the ordinary test or a campaign has.
///
/// # Panics
/// If the variable is not a number.
#[must_use]
pub fn clients(ordinary: usize, campaign: usize) -> usize {
    let asked = number("HOLDFAST_CLIENTS").map(|clients| usize::try_from(clients).expect("fits this machine"));
    asked.unwrap_or_else(|| measure(ordinary, campaign))
}

/// Says how long a soak lasts: `HOLDFAST_MINUTES`, or as long as the ordinary test does.
///
/// # Panics
/// If the variable is not a number.
#[must_use]
pub fn soak(ordinary: Duration) -> Duration {
    number("HOLDFAST_MINUTES").map_or(ordinary, |minutes| Duration::from_secs(minutes * 60))
}

/// Chooses between the ordinary measure of something and the one of a campaign.
#[must_use]
pub fn measure<T>(ordinary: T, campaign: T) -> T {
    if is_campaign() { campaign } else { ordinary }
}

/// Tells whether this is a campaign against the release binary, where time and noise may be judged strictly.
#[must_use]
pub fn is_campaign() -> bool {
    std::env::var_os("HOLDFAST_CAMPAIGN").is_some()
}

/// Tells what was counted or measured, in the form that `cargo xtask faults` shows.
pub fn figure(words: &str) {
    println!("figure: {words}");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// Chance with a seed.
#[derive(Clone, Debug)]
pub struct Dice(SplitMix64);

impl Dice {
    /// Makes dice from `HOLDFAST_SEED`, or from this seed, and prints which.
    ///
    /// # Panics
    /// If the variable is not a number.
    #[must_use]
    pub fn seeded(ordinary: u64) -> Self {
        let seed = number("HOLDFAST_SEED").unwrap_or(ordinary);
        println!("seed {seed}");
        Self(SplitMix64::new(seed))
    }

    /// Makes dice from exactly this seed, for what is never to vary.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// Throws a number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_throws_and_another_one_others() {
        let throws = |seed| {
            let mut dice = Dice::from_seed(seed);
            (0..20).map(|_| dice.below(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
        assert!(throws(7).iter().all(|throw| *throw < 1_000));
    }
}
