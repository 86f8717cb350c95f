//! The one clock that all processes of a load read, and chance.
//!
//! Must not live here: timers. Invariant: two processes that read the clock at one moment read the same.

use std::time::{SystemTime, UNIX_EPOCH};

use shared::time::Timestamp;

/// Nanoseconds of the machine's monotonic clock, the same in every process.
#[cfg(unix)]
#[must_use]
pub fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Nanoseconds since this was first asked; no clock that processes share is known here.
#[cfg(not(unix))]
#[must_use]
pub fn now_ns() -> u64 {
    static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let since = FIRST.get_or_init(std::time::Instant::now).elapsed();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
}

/// Returns the wall clock.
#[must_use]
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}

/// Draws bytes from the operating system.
///
/// # Panics
/// If the operating system has none to give.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
