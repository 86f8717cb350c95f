//! Session time: milliseconds that count sleep and never run backwards.
//!
//! A browser has two clocks. `performance.now()` never runs backwards, but stands still while many machines sleep. The
//! wall clock counts sleep, but people and servers set it. [`Clock`] follows the first and adds what the second says was
//! slept. Must not live here: timers. Invariant: what [`Clock::read`] returns never decreases.

use shared::time::Timestamp;

/// A difference between the two clocks up to this is drift, beyond it a sleep or a clock that was set. Milliseconds.
pub const JUMP_MS: f64 = 2_000.0;

/// Follows two clocks and makes one of them.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Wall clock less monotonic clock, as last agreed.
    offset: f64,
    /// What was slept, in all.
    slept: f64,
    last: u64,
}

/// What a reading says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Session time.
    pub now: Timestamp,
    /// The wall clock, for showing.
    pub wall: Timestamp,
    /// The machine slept since the last reading (or its clock was set forward: no harm in looking).
    pub woke: bool,
}

impl Clock {
    /// Starts from what both clocks say, in milliseconds.
    #[must_use]
    pub fn new(monotonic: f64, wall: f64) -> Self {
        Self { offset: wall - monotonic, slept: 0.0, last: monotonic.max(0.0) as u64 }
    }

    /// Reads the time from what both clocks say, in milliseconds.
    pub fn read(&mut self, monotonic: f64, wall: f64) -> Reading {
        let ahead = wall - monotonic - self.offset;
        let woke = ahead > JUMP_MS;
        if woke {
            self.slept += ahead;
        }
        if ahead.abs() > JUMP_MS {
            self.offset += ahead;
        }
        self.last = self.last.max((monotonic + self.slept).max(0.0) as u64);
        Reading { now: Timestamp(self.last), wall: Timestamp(wall.max(0.0) as u64), woke }
    }
}

/// Reads both clocks of the browser.
#[must_use]
pub fn browser_clocks() -> (f64, f64) {
    let monotonic = web_sys::window().and_then(|window| window.performance()).map_or(0.0, |clock| clock.now());
    (monotonic, js_sys::Date::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: f64 = 1_795_000_000_000.0;

    #[test]
    fn time_counts_sleep_that_the_monotonic_clock_missed() {
        let mut clock = Clock::new(1_000.0, WALL);
        assert_eq!(clock.read(1_500.0, WALL + 500.0).now, Timestamp(1_500));
        let awake = clock.read(1_600.0, WALL + 600_600.0);
        assert!(awake.woke);
        assert_eq!(awake.now, Timestamp(601_600));
        let next = clock.read(1_700.0, WALL + 600_700.0);
        assert_eq!((next.now, next.woke), (Timestamp(601_700), false));
    }

    #[test]
    fn a_wall_clock_set_back_two_hours_changes_nothing() {
        let mut clock = Clock::new(0.0, WALL);
        assert_eq!(clock.read(10_000.0, WALL - 7_190_000.0).now, Timestamp(10_000));
        let next = clock.read(11_000.0, WALL - 7_189_000.0);
        assert_eq!((next.now, next.woke), (Timestamp(11_000), false));
    }

    #[test]
    fn drift_and_coarse_clocks_add_nothing() {
        let mut clock = Clock::new(0.0, WALL);
        let mut last = Timestamp(0);
        for step in 0..100_000_u32 {
            let monotonic = f64::from(step) * 0.7;
            // A wall clock of whole milliseconds that runs 100 ppm fast.
            let reading = clock.read(monotonic, (WALL + monotonic * 1.0001).floor());
            assert!(reading.now >= last && !reading.woke);
            last = reading.now;
        }
        assert_eq!(last, Timestamp(69_999));
    }

    #[test]
    fn a_monotonic_clock_that_runs_backwards_is_not_believed() {
        let mut clock = Clock::new(500.0, WALL);
        let first = clock.read(900.0, WALL + 400.0).now;
        assert_eq!(clock.read(800.0, WALL + 300.0).now, first);
    }
}
