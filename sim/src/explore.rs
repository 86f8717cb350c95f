//! Small worlds, exhaustively: two people, one room, three posts, and every order of the first so many happenings.
//!
//! Lives here: the search. What happens, and what must be true, is the same as on any other day. Must not live here: a
//! model of anything. Invariant: two runs with the same choices are the same, so the tree of choices can be walked by
//! living each path from the start.

use crate::plan::Act;
use crate::world::{Violation, World};

/// How many of the next happenings may come first.
const NEXT: usize = 3;
/// Happenings further apart than this are not exchanged, in milliseconds.
pub(crate) const TOGETHER_MS: u64 = 100;

/// The choices of one path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    /// What to choose at the first points; the first of all at the others.
    wanted: Vec<usize>,
    /// What was chosen, and among how many.
    made: Vec<(usize, usize)>,
    depth: usize,
    faults: Faults,
}

/// Faults that may still come.
#[derive(Clone, Debug)]
struct Faults {
    cuts: usize,
    kills: usize,
    crashes: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self { cuts: 1, kills: 1, crashes: 1 }
    }
}

/// What happens next on a path.
pub(crate) enum Chosen {
    /// The happening with this number among the next.
    Next(usize),
    /// A fault.
    Fault(Act),
}

impl Choices {
    fn new(wanted: Vec<usize>, depth: usize) -> Self {
        Self { wanted, made: Vec::new(), depth, faults: Faults::default() }
    }

    /// Chooses among `waiting` happenings and the faults that are left; `None` once all choices are made.
    pub(crate) fn choose(&mut self, waiting: usize) -> Option<Chosen> {
        let point = self.made.len();
        if point >= self.depth {
            return None;
        }
        let mut options: Vec<Chosen> = (0..waiting.min(NEXT)).map(Chosen::Next).collect();
        if self.faults.cuts > 0 {
            options.push(Chosen::Fault(Act::Cut { device: 0 }));
        }
        if self.faults.kills > 0 {
            options.push(Chosen::Fault(Act::Kill { ms: 40 }));
        }
        if self.faults.crashes > 0 {
            options.push(Chosen::Fault(Act::Crash { device: 0, ms: 30 }));
        }
        let width = options.len();
        let chosen = self.wanted.get(point).copied().unwrap_or(0).min(width - 1);
        self.made.push((chosen, width));
        let chosen = options.swap_remove(chosen);
        match &chosen {
            Chosen::Fault(Act::Cut { .. }) => self.faults.cuts -= 1,
            Chosen::Fault(Act::Kill { .. }) => self.faults.kills -= 1,
            Chosen::Fault(Act::Crash { .. }) => self.faults.crashes -= 1,
            Chosen::Fault(_) | Chosen::Next(_) => {}
        }
        Some(chosen)
    }
}

/// What a search came to.
#[derive(Debug, Default)]
pub struct Explored {
    /// Paths that were lived.
    pub paths: u64,
    /// The first path that failed, as its choices, and what failed.
    pub failure: Option<(Vec<usize>, Violation)>,
}

/// Walks every path that begins with `start`, `depth` choices deep, until one fails or `goes_on` says no.
pub fn explore(start: &[usize], depth: usize, mut goes_on: impl FnMut() -> bool) -> Explored {
    let mut explored = Explored::default();
    let mut wanted = start.to_vec();
    loop {
        let (made, outcome) = live(&wanted, depth);
        explored.paths += 1;
        if let Err(violation) = outcome {
            explored.failure = Some((made.iter().map(|(chosen, _)| *chosen).collect(), violation));
            return explored;
        }
        // The next path: the last choice that has another after it.
        let mut path = made;
        loop {
            if path.len() <= start.len() {
                return explored;
            }
            match path.pop() {
                Some((chosen, width)) if chosen + 1 < width => {
                    wanted = path.iter().map(|(chosen, _)| *chosen).chain([chosen + 1]).collect();
                    break;
                }
                Some(_) => {}
                None => return explored,
            }
        }
        if !goes_on() {
            return explored;
        }
    }
}

/// Returns how many options the choice after `start` has.
#[must_use]
pub fn width(start: &[usize]) -> usize {
    let (made, _) = live(start, start.len() + 1);
    made.last().map_or(0, |(_, width)| *width)
}

/// Lives one path.
fn live(wanted: &[usize], depth: usize) -> (Vec<(usize, usize)>, Result<(), Violation>) {
    let mut world = match World::of(1, &[0, 2], false) {
        Ok(world) => world,
        Err(violation) => return (Vec::new(), Err(violation)),
    };
    let outcome = world.live_small(Choices::new(wanted.to_vec(), depth));
    (world.choices_made(), outcome)
}

impl World {
    fn live_small(&mut self, choices: Choices) -> Result<(), Violation> {
        // Both have come; then three posts, and from here on every order.
        self.run_for(5_000)?;
        // What ends faults, and there are none, is not to take the place of what may happen.
        self.be_fair()?;
        self.run_for(5)?;
        for act in [Act::Post { device: 0 }, Act::Post { device: 2 }, Act::Post { device: 0 }] {
            self.act(act)?;
        }
        self.choices = Some(choices);
        self.rest_and_look()
    }

    fn choices_made(&self) -> Vec<(usize, usize)> {
        self.choices.as_ref().map_or_else(Vec::new, |choices| choices.made.clone())
    }
}
