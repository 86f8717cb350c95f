//! Waiting for a condition, with a deadline.
//!
//! Invariant: a wait that fails says what it waited for and what it last saw.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` returns something, and returns it.
///
/// # Panics
/// If it has not within `deadline`, with `what` was waited for.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {deadline:?} in vain: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until what `look` sees satisfies `good`, and returns it. For code that runs on tokio.
///
/// # Panics
/// If it has not within `deadline`, with what was seen last.
pub async fn see<T: Debug, F>(what: &str, deadline: Duration, mut look: F, good: impl Fn(&T) -> bool) -> T
where
    F: AsyncFnMut() -> T,
{
    let end = Instant::now() + deadline;
    loop {
        let seen = look().await;
        if good(&seen) {
            return seen;
        }
        assert!(Instant::now() < end, "waited {deadline:?} in vain: {what}; last seen: {seen:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// As [`see`], where looking itself takes no time: `look` says what is still in the way, or nothing.
///
/// # Panics
/// If something still is within `deadline`, with what was seen last.
pub async fn while_some<T: Debug>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) {
    let end = Instant::now() + deadline;
    while let Some(seen) = look() {
        assert!(Instant::now() < end, "waited {deadline:?} in vain: {what}; last seen: {seen:?}");
        drop(seen);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Watches for a while that something does not happen.
///
/// # Panics
/// If it does, with what was seen.
pub async fn never<T: Debug, F>(what: &str, watch: Duration, mut look: F, bad: impl Fn(&T) -> bool)
where
    F: AsyncFnMut() -> T,
{
    let end = Instant::now() + watch;
    while Instant::now() < end {
        let seen = look().await;
        assert!(!bad(&seen), "{what}: {seen:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
