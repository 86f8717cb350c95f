//! The clock behind a session on this machine.
//!
//! Must not live here: timers. Invariant: it counts time asleep where the system can, and never runs backwards; the
//! wall clock, which may, is only ever shown.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shared::time::Timestamp;

/// Further apart than this, the two clocks say that the machine slept.
const SLEPT: Duration = Duration::from_secs(2);

/// Counts milliseconds from a moment of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    awake: Instant,
    awake_seen: Instant,
    total: Duration,
    total_seen: Duration,
}

impl Clock {
    /// Starts counting.
    pub(crate) fn start() -> Self {
        let (awake, total) = (Instant::now(), since_boot());
        Self { awake, awake_seen: awake, total, total_seen: total }
    }

    /// Returns the session's time.
    pub(crate) fn now(&self) -> Timestamp {
        let since = match cfg!(any(target_os = "linux", target_os = "android")) {
            true => since_boot().saturating_sub(self.total),
            false => self.awake.elapsed(),
        };
        Timestamp(millis(since))
    }

    /// Tells whether the machine slept since this was last asked.
    pub(crate) fn has_slept(&mut self) -> bool {
        let (awake, total) = (Instant::now(), since_boot());
        let counted = total.saturating_sub(self.total_seen);
        let ran = awake.duration_since(self.awake_seen);
        (self.awake_seen, self.total_seen) = (awake, total);
        counted > ran + SLEPT
    }
}

/// Returns the wall clock, in milliseconds since the Unix epoch.
pub(crate) fn wall() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// No clock that counts sleep is known here; the session then notices a sleep by its timers alone.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn since_boot() -> Duration {
    Duration::ZERO
}
