//! Rates: token buckets and windows, with time handed in.
//!
//! Must not live here: what happens to those who are too fast. Invariant: over any stretch of time a bucket gives no more
//! than its burst and its rate times the stretch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    burst: u32,
    per_s: u32,
    /// Tokens, in thousandths.
    milli: u64,
    since: Instant,
}

impl Bucket {
    /// Makes a full bucket. More than `u32::MAX` of either is as much as that: there is one for every connection.
    #[must_use]
    pub fn new(burst: u64, per_s: u64, now: Instant) -> Self {
        let most = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
        let mut bucket = Self { burst: most(burst), per_s: most(per_s), milli: 0, since: now };
        bucket.milli = bucket.whole();
        bucket
    }

    /// Returns the whole burst, in thousandths of a token.
    const fn whole(&self) -> u64 {
        self.burst as u64 * 1_000
    }

    /// Takes one token.
    ///
    /// # Errors
    /// How long until there is one, in milliseconds, at least 1.
    pub fn take(&mut self, now: Instant) -> Result<(), u64> {
        self.take_many(1, now)
    }

    /// Takes this many tokens at once, or the whole burst where that is less.
    ///
    /// # Errors
    /// How long until there are as many, in milliseconds, at least 1.
    pub fn take_many(&mut self, tokens: u64, now: Instant) -> Result<(), u64> {
        self.refill(now);
        let wanted = tokens.saturating_mul(1_000).min(self.whole());
        if self.milli >= wanted {
            self.milli -= wanted;
            return Ok(());
        }
        Err((wanted - self.milli).div_ceil(u64::from(self.per_s.max(1))).max(1))
    }

    /// Puts tokens back that were taken for nothing.
    pub fn give_back(&mut self, tokens: u64) {
        let tokens = tokens.saturating_mul(1_000);
        self.milli = self.milli.saturating_add(tokens).min(self.whole());
    }

    /// Tells whether the whole burst is there.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        let mut later = *self;
        later.refill(now);
        later.milli >= later.whole()
    }

    fn refill(&mut self, now: Instant) {
        let passed = u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        if passed > 0 {
            // A token a second is one thousandth a millisecond.
            let gained = passed.saturating_mul(self.per_s.into());
            self.milli = self.milli.saturating_add(gained).min(self.whole());
            self.since += Duration::from_millis(passed);
        }
    }
}

/// Counts what happened within the last while.
#[derive(Clone, Debug)]
pub struct Window {
    limit: u64,
    length: Duration,
    recent: VecDeque<Instant>,
}

impl Window {
    /// Makes an empty window that allows `limit` within `length`.
    #[must_use]
    pub const fn new(limit: u64, length: Duration) -> Self {
        Self { limit, length, recent: VecDeque::new() }
    }

    /// Counts one more. Returns whether it is over the limit.
    pub fn is_over(&mut self, now: Instant) -> bool {
        while self.recent.front().is_some_and(|first| now.saturating_duration_since(*first) > self.length) {
            self.recent.pop_front();
        }
        if self.recent.len() as u64 >= self.limit {
            return true;
        }
        self.recent.push_back(now);
        false
    }

    /// Tells whether one more would be over the limit, without counting it.
    #[must_use]
    pub fn is_exhausted(&self, now: Instant) -> bool {
        self.recent.iter().filter(|at| now.saturating_duration_since(**at) <= self.length).count() as u64 >= self.limit
    }

    /// Tells whether nothing within the window is left.
    #[must_use]
    pub fn is_empty(&self, now: Instant) -> bool {
        self.recent.back().is_none_or(|last| now.saturating_duration_since(*last) > self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut bucket = Bucket::new(10, 5, start);
        assert!((0..10).all(|_| bucket.take(start).is_ok()));
        assert_eq!(bucket.take(start), Err(200));
        assert_eq!(bucket.take(at(150)), Err(50));
        assert_eq!(bucket.take(at(200)), Ok(()));
        assert_eq!(bucket.take(at(200)), Err(200));
        assert_eq!(bucket.take_many(10, at(1_200)), Err(1_000), "five came, five lack");
        assert_eq!(bucket.take_many(4, at(1_200)), Ok(()));
        assert_eq!(bucket.take_many(u64::MAX, at(60_000)), Ok(()), "more than the burst is the burst");
        assert_eq!(bucket.take(at(60_000)), Err(200));
        bucket.give_back(2);
        assert_eq!(bucket.take_many(3, at(60_000)), Err(200));
        bucket.give_back(100);
        assert_eq!(bucket.take_many(10, at(60_000)), Ok(()), "no more than the burst comes back");
        let later = (0..100).filter(|_| bucket.take(at(120_000)).is_ok()).count();
        assert_eq!(later, 10);
        assert!(!bucket.is_full(at(120_000)) && bucket.is_full(at(122_000)));
    }

    #[test]
    fn a_bucket_larger_than_it_counts_is_as_large_as_it_counts() {
        let start = Instant::now();
        let mut bucket = Bucket::new(u64::MAX, u64::MAX, start);
        assert!(bucket.is_full(start));
        assert_eq!(bucket.take_many(u64::MAX, start), Ok(()));
        assert_eq!(bucket.take(start), Err(1));
        assert!(bucket.take(start + Duration::from_millis(1)).is_ok());
        bucket.give_back(u64::MAX);
        assert!(bucket.is_full(start + Duration::from_millis(1)));
    }

    #[test]
    fn a_window_forgets() {
        let start = Instant::now();
        let mut window = Window::new(3, Duration::from_secs(10));
        assert_eq!((0..5).filter(|_| window.is_over(start)).count(), 2);
        assert!(window.is_exhausted(start));
        let later = start + Duration::from_millis(10_001);
        assert!(window.is_empty(later) && !window.is_exhausted(later) && !window.is_over(later));
    }
}
