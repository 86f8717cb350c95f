//! What can be seen of the writer from outside while it works.
//!
//! Must not live here: what follows from it. Invariant: it costs the writer two stores for a record, and nobody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Health;

/// Since when the writer's thread has been at what it is at. A commit that hangs says nothing; this does.
#[derive(Clone, Debug)]
pub(super) struct Pulse(Arc<Beats>);

#[derive(Debug)]
struct Beats {
    epoch: Instant,
    /// In milliseconds after the epoch, plus one; 0 while it waits for work.
    since_ms: AtomicU64,
}

impl Pulse {
    /// Nothing has been taken up yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(Beats { epoch: Instant::now(), since_ms: AtomicU64::new(0) }))
    }

    fn now_ms(&self) -> u64 {
        self.0.epoch.elapsed().as_millis() as u64
    }

    /// The writer takes something up.
    pub(super) fn begin(&self) {
        self.0.since_ms.store(self.now_ms() + 1, Ordering::Relaxed);
    }

    /// It is done with it.
    pub(super) fn end(&self) {
        self.0.since_ms.store(0, Ordering::Relaxed);
    }

    /// See [`super::LogHandle::busy_for`].
    pub(super) fn busy_for(&self) -> Duration {
        match self.0.since_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since_ms => Duration::from_millis((self.now_ms() + 1).saturating_sub(since_ms)),
        }
    }
}

/// What can be seen of the writer.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) health: watch::Receiver<Health>,
    pub(super) pulse: Pulse,
}
