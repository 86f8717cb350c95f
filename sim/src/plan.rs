//! What happens on a bad day: drawn from a seed, or kept in a file when it once went wrong.
//!
//! Must not live here: what it does to the world. Invariant: any part of a plan is a plan, so that a failure can be made
//! small by leaving steps out.

use crate::chance::Chance;

/// One thing that happens to people, devices, links, the server or its disk. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "a device by its number, a time in milliseconds, or a count that the act's line names")]
pub enum Act {
    /// Somebody writes a post.
    Post { device: usize },
    /// Somebody pastes many.
    Burst { device: usize, posts: u64 },
    /// Somebody writes in the other room.
    PostAside { device: usize },
    /// Somebody edits one of their posts, chosen by number.
    Edit { device: usize, pick: u64 },
    /// Somebody deletes one.
    Delete { device: usize, pick: u64 },
    /// Somebody reacts to one of anybody's.
    React { device: usize, pick: u64 },
    /// Somebody writes what no server takes.
    Poison { device: usize },
    /// Somebody joins or leaves the other room, whichever it is time for.
    Move { device: usize },
    /// Somebody takes another name.
    Rename { device: usize },
    /// Somebody types, and marks what they see as read.
    Type { device: usize },
    /// Somebody looks at older posts, at a place chosen by number.
    LookBack { device: usize, pick: u64 },
    /// Others, who are not watched, write very much at once: enough that who missed it has to jump.
    Crowd { posts: u64 },
    /// Somebody asks to connect now.
    Retry { device: usize },
    /// Both ends of a connection are reset, each in its own time.
    Cut { device: usize },
    /// A connection carries nothing for a while, then everything: upwards, downwards or both ways.
    Stall { device: usize, way: Side, ms: u64 },
    /// A connection never carries anything again, and says nothing.
    BlackHole { device: usize, way: Side },
    /// All of a device's connections are slow for a while.
    Thin { device: usize, ms: u64 },
    /// The device has no network, and knows it.
    Offline { device: usize, ms: u64 },
    /// The device has no network, and does not know it.
    Unplugged { device: usize, ms: u64 },
    /// The page is hidden for a while: its timers are late by up to a second, after five minutes by up to a minute.
    Hide { device: usize, ms: u64 },
    /// The machine sleeps.
    Sleep { device: usize, ms: u64 },
    /// The page is frozen: nothing runs, the clock goes on, nobody says that it woke.
    Freeze { device: usize, ms: u64 },
    /// The tab or process is killed and opened again after a while.
    Crash { device: usize, ms: u64 },
    /// The device loses power: its connections say nothing.
    PowerOff { device: usize, ms: u64 },
    /// The device cannot keep anything for a while.
    NoStorage { device: usize, ms: u64 },
    /// Somebody signs out elsewhere: this device's session is revoked, and they sign in again.
    Revoke { device: usize },
    /// The device's wall clock jumps.
    DeviceClock { device: usize, ahead: bool },
    /// The server is killed and comes back.
    Kill { ms: u64 },
    /// The server's machine loses power: what was not synced may be gone, and nobody is told.
    PowerCut { ms: u64 },
    /// The server is asked to stop, says goodbye, and comes back.
    Drain { ms: u64 },
    /// The server does not run for a while.
    Pause { ms: u64 },
    /// The server's wall clock jumps.
    ServerClock { ahead: bool },
    /// The disk is slow.
    SlowDisk { ms: u64 },
    /// The disk is full.
    FullDisk { ms: u64 },
    /// The next sync fails; the server stops and is started again.
    FailedSync { ms: u64 },
    /// Hints are lost for a while.
    LoseHints { ms: u64 },
    /// The server is stopped, and an older backup put in its place.
    Restore { records: u64, ms: u64 },
}

/// Returns the name of a kind of act, by its number.
#[must_use]
pub const fn kind_name(kind: usize) -> &'static str {
    KIND_NAMES[kind]
}

const KIND_NAMES: [&str; KINDS] = [
    "post",
    "burst of posts",
    "post in another room",
    "edit",
    "deletion",
    "reaction",
    "post that is refused",
    "join or leave",
    "rename",
    "typing",
    "retry now",
    "connection reset",
    "black hole that heals",
    "black hole",
    "thin link",
    "offline, known",
    "offline, unknown",
    "hidden page",
    "sleeping machine",
    "frozen page",
    "tab killed",
    "device without power",
    "device without storage",
    "session revoked",
    "device's clock jumps",
    "server killed",
    "server without power",
    "server drained",
    "server paused",
    "server's clock jumps",
    "slow disk",
    "full disk",
    "failed sync",
    "lost hints",
    "older backup restored",
    "crowd writes",
    "look at older posts",
];

/// Which way of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// To the server.
    Up,
    /// From the server.
    Down,
    /// Both.
    Both,
}

/// How many kinds of acts there are.
pub const KINDS: usize = 37;

impl Act {
    /// Returns the number of what kind of act it is; see [`kind_name`].
    #[must_use]
    pub const fn kind(self) -> usize {
        match self {
            Self::Post { .. } => 0,
            Self::Burst { .. } => 1,
            Self::PostAside { .. } => 2,
            Self::Edit { .. } => 3,
            Self::Delete { .. } => 4,
            Self::React { .. } => 5,
            Self::Poison { .. } => 6,
            Self::Move { .. } => 7,
            Self::Rename { .. } => 8,
            Self::Type { .. } => 9,
            Self::Retry { .. } => 10,
            Self::Cut { .. } => 11,
            Self::Stall { .. } => 12,
            Self::BlackHole { .. } => 13,
            Self::Thin { .. } => 14,
            Self::Offline { .. } => 15,
            Self::Unplugged { .. } => 16,
            Self::Hide { .. } => 17,
            Self::Sleep { .. } => 18,
            Self::Freeze { .. } => 19,
            Self::Crash { .. } => 20,
            Self::PowerOff { .. } => 21,
            Self::NoStorage { .. } => 22,
            Self::Revoke { .. } => 23,
            Self::DeviceClock { .. } => 24,
            Self::Kill { .. } => 25,
            Self::PowerCut { .. } => 26,
            Self::Drain { .. } => 27,
            Self::Pause { .. } => 28,
            Self::ServerClock { .. } => 29,
            Self::SlowDisk { .. } => 30,
            Self::FullDisk { .. } => 31,
            Self::FailedSync { .. } => 32,
            Self::LoseHints { .. } => 33,
            Self::Restore { .. } => 34,
            Self::Crowd { .. } => 35,
            Self::LookBack { .. } => 36,
        }
    }

    /// Returns the device it happens to.
    #[must_use]
    pub const fn device(self) -> Option<usize> {
        match self {
            Self::Post { device }
            | Self::Burst { device, .. }
            | Self::PostAside { device }
            | Self::Edit { device, .. }
            | Self::Delete { device, .. }
            | Self::React { device, .. }
            | Self::Poison { device }
            | Self::Move { device }
            | Self::Rename { device }
            | Self::Type { device }
            | Self::LookBack { device, .. }
            | Self::Retry { device }
            | Self::Cut { device }
            | Self::Stall { device, .. }
            | Self::BlackHole { device, .. }
            | Self::Thin { device, .. }
            | Self::Offline { device, .. }
            | Self::Unplugged { device, .. }
            | Self::Hide { device, .. }
            | Self::Sleep { device, .. }
            | Self::Freeze { device, .. }
            | Self::Crash { device, .. }
            | Self::PowerOff { device, .. }
            | Self::NoStorage { device, .. }
            | Self::Revoke { device }
            | Self::DeviceClock { device, .. } => Some(device),
            Self::Crowd { .. }
            | Self::Kill { .. }
            | Self::PowerCut { .. }
            | Self::Drain { .. }
            | Self::Pause { .. }
            | Self::ServerClock { .. }
            | Self::SlowDisk { .. }
            | Self::FullDisk { .. }
            | Self::FailedSync { .. }
            | Self::LoseHints { .. }
            | Self::Restore { .. } => None,
        }
    }

    /// Draws one. Writing is a third of all that happens.
    fn draw(chance: &mut Chance) -> Self {
        let device = chance.below(DEVICES as u64) as usize;
        let side = *chance.pick(&[Side::Up, Side::Down, Side::Both]);
        match chance.below(63) {
            0..=13 => Self::Post { device },
            14 => Self::Burst { device, posts: chance.between(2, 60) },
            15 | 16 => Self::PostAside { device },
            17 | 18 => Self::Edit { device, pick: chance.any() },
            19 => Self::Delete { device, pick: chance.any() },
            20 => Self::React { device, pick: chance.any() },
            21 => Self::Poison { device },
            22 => Self::Move { device },
            23 => Self::Rename { device },
            24 => Self::Type { device },
            25 => Self::Retry { device },
            26..=28 => Self::Cut { device },
            29..=31 => Self::Stall { device, way: side, ms: chance.between(100, 40_000) },
            32 | 33 => Self::BlackHole { device, way: side },
            34 => Self::Thin { device, ms: chance.between(1_000, 60_000) },
            35 => Self::Offline { device, ms: chance.between(100, 60_000) },
            36 => Self::Unplugged { device, ms: chance.between(100, 60_000) },
            37 => Self::Hide { device, ms: chance.between(1_000, 1_800_000) },
            38 => Self::Sleep { device, ms: chance.between(1_000, 600_000) },
            39 => Self::Freeze { device, ms: chance.between(1_000, 600_000) },
            40..=42 => Self::Crash { device, ms: chance.between(10, 30_000) },
            43 => Self::PowerOff { device, ms: chance.between(1_000, 120_000) },
            44 => Self::NoStorage { device, ms: chance.between(1_000, 60_000) },
            45 => Self::Revoke { device },
            46 => Self::DeviceClock { device, ahead: chance.once_in(2) },
            47..=49 => Self::Kill { ms: chance.between(10, 20_000) },
            50 => Self::PowerCut { ms: chance.between(1_000, 60_000) },
            51 => Self::Drain { ms: chance.between(10, 20_000) },
            52 => Self::Pause { ms: chance.between(100, 60_000) },
            53 => Self::ServerClock { ahead: chance.once_in(2) },
            54 => Self::SlowDisk { ms: chance.between(1_000, 30_000) },
            55 | 56 => Self::FullDisk { ms: chance.between(100, 20_000) },
            57 => Self::FailedSync { ms: chance.between(100, 20_000) },
            58 => Self::Crowd { posts: chance.between(50, 400) },
            59 | 60 => Self::LookBack { device, pick: chance.any() },
            61 => Self::LoseHints { ms: chance.between(1_000, 30_000) },
            _ => Self::Restore { records: chance.between(1, 30), ms: chance.between(100, 10_000) },
        }
    }
}

/// Devices in a world. The first two are tabs of one browser and one person; the third is another person's browser, the
/// fourth a program of theirs that keeps its place and never jumps.
pub const DEVICES: usize = 4;

/// Most steps of a plan.
const STEPS: u64 = 40;

/// A step: a pause, then an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long nothing else happens before, in milliseconds.
    pub after_ms: u64,
    /// What happens.
    pub act: Act,
}

/// A bad day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where everything that is not in the steps is drawn from.
    pub seed: u64,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Draws a day.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x0BAD_DA75_5EED);
        let count = chance.between(8, STEPS);
        // On some days much happens at once, on others there is time between.
        let pause = *chance.pick(&[50, 50, 500, 500, 3_000, 3_000, 20_000, 20_000, 120_000]);
        let steps = (0..count).map(|_| Step { after_ms: chance.below(pause), act: Act::draw(&mut chance) }).collect();
        Self { seed, steps }
    }

    /// Makes a failing plan small: leaves out what `fails` does not need.
    #[must_use]
    pub fn shrink(&self, mut fails: impl FnMut(&Self) -> bool) -> Self {
        let mut best = self.clone();
        let mut size = best.steps.len().div_ceil(2);
        while size > 0 {
            let mut start = 0;
            while start < best.steps.len() {
                let mut smaller = best.clone();
                let end = (start + size).min(smaller.steps.len());
                let taken: u64 = smaller.steps.drain(start..end).map(|step| step.after_ms).sum();
                // Time passes all the same, or what comes after would meet another moment.
                if let Some(next) = smaller.steps.get_mut(start) {
                    next.after_ms += taken;
                }
                if fails(&smaller) {
                    best = smaller;
                } else {
                    start += size;
                }
            }
            size /= 2;
        }
        best
    }
}
