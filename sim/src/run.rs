//! Runs of plans: one with its story, or many with their figures.
//!
//! Must not live here: printing. Invariant: a panic in the product is a failure of the day like any other.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::plan::Plan;
use crate::world::{Counts, Violation, World};

/// What became of a day.
#[derive(Debug)]
pub struct Day {
    /// What happened how often.
    pub counts: Counts,
    /// What went wrong, if anything did.
    pub outcome: Result<(), Violation>,
    /// What happened, line by line, if it was asked for.
    pub story: Vec<String>,
    /// A number that two runs of the same plan have in common.
    pub fingerprint: u64,
}

/// Lives through a plan. With `tells` the day's story is kept.
#[must_use]
pub fn live(plan: &Plan, tells: bool) -> Day {
    let mut world = match World::new(plan.seed, tells) {
        Ok(world) => world,
        Err(violation) => {
            return Day { counts: Counts::default(), outcome: Err(violation), story: Vec::new(), fingerprint: 0 };
        }
    };
    let lived = catch_unwind(AssertUnwindSafe(|| world.live(plan)));
    let outcome = lived.unwrap_or_else(|panic| Err(words_of(&*panic)));
    let fingerprint = world.fingerprint();
    Day { counts: world.counts.clone(), outcome, story: world.story.take().unwrap_or_default(), fingerprint }
}

/// Says what a panic said.
pub(crate) fn words_of(panic: &(dyn Any + Send)) -> Violation {
    let words = panic.downcast_ref::<String>().cloned();
    let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
    Violation(format!("a panic: {}", words.unwrap_or_default()))
}

impl Counts {
    /// Adds another day's.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.acts.iter_mut().zip(other.acts).for_each(|(sum, count)| *sum += count);
        self.posts += other.posts;
        self.sockets += other.sockets;
        self.jumps += other.jumps;
        self.resets += other.resets;
        self.unsynced += other.unsynced;
        self.longest_rest_ms = self.longest_rest_ms.max(other.longest_rest_ms);
    }
}
