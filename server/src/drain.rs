//! The orderly goodbye: signal, not ready, a word in-band, closing in batches, an end.
//!
//! Must not live here: closing a particular socket. Invariant: once begun it ends, within the configured time, whatever
//! the peers do; what was acknowledged stays acknowledged and what is in flight is answered before the close.
//!
//! ```text
//! Serving ──signal──▶ Draining ──all gone, or time is up──▶ ended
//!    └────── storage failed ──▶ Failed ──moments later────▶ ended, exit code not 0
//! ```

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use shared::close;
use tokio::sync::Notify;

use crate::app::App;
use crate::config::ms;
use crate::delivery::Order;

/// Connections told to close in one batch.
const BATCH: u64 = 500;
/// Between two batches, in milliseconds.
const BATCH_EVERY_MS: u64 = 200;
/// Between the notice and the first close, in milliseconds: enough for what was just sent to be answered.
const NOTICE_MS: u64 = 100;
/// How long a stop after a storage failure may take.
const FAILED_WAIT: Duration = Duration::from_secs(2);

/// Where the server stands between start and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It is about to stop in good order.
    Draining,
    /// Its storage failed: it stops at once.
    Failed,
}

/// Where the server stands, for everybody to see.
#[derive(Debug, Default)]
pub struct Drain {
    phase: AtomicU8,
    begun: Notify,
}

impl Drain {
    /// Returns where the server stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _failed => Phase::Failed,
        }
    }

    fn set(&self, phase: Phase) {
        let number = match phase {
            Phase::Serving => 0,
            Phase::Draining => 1,
            Phase::Failed => 2,
        };
        self.phase.fetch_max(number, Ordering::SeqCst);
        self.begun.notify_waiters();
    }

    /// Waits until the server no longer serves.
    pub(crate) async fn begun(&self) {
        let mut begun = pin!(self.begun.notified());
        // Before the look, so that no beginning falls between.
        begun.as_mut().enable();
        if self.phase() == Phase::Serving {
            begun.await;
        }
    }
}

/// Says goodbye to every connection and waits until they are gone and the requests answered, or the time is up.
pub async fn drain(app: &Arc<App>) {
    let started = app.ambient.now();
    begin(app);
    wait_until_gone(app, ms(app.config.timing.drain_ms)).await;
    tracing::info!(
        left = app.sockets(),
        took_ms = app.ambient.now().duration_since(started).as_millis() as u64,
        "drained"
    );
}

/// Tells every connection to say goodbye, each at its own moment.
pub fn begin(app: &App) {
    app.drain.set(Phase::Draining);
    let peers = app.registry.all();
    let spread = app.config.reconnect_spread_ms(peers.len());
    let allowed = app.config.timing.drain_ms;
    let batches = (peers.len() as u64).div_ceil(BATCH).max(1);
    let every = BATCH_EVERY_MS.min(allowed / 2 / batches);
    tracing::info!(connections = peers.len(), "draining");
    for (index, peer) in peers.iter().enumerate() {
        let index = index as u64;
        // Each has its own place in the return, so that nobody meets the crowd.
        let reconnect_after_ms = spread * index / peers.len() as u64;
        peer.mailbox.order(Order::Drain { reconnect_after_ms, close_after_ms: NOTICE_MS + index / BATCH * every });
    }
}

/// Closes every connection at once, because nothing more can be promised.
pub async fn fail(app: &Arc<App>) {
    begin_failed(app);
    wait_until_gone(app, FAILED_WAIT).await;
}

/// Tells every connection to close at once.
pub fn begin_failed(app: &App) {
    app.drain.set(Phase::Failed);
    for peer in app.registry.all() {
        peer.mailbox.order(Order::Close(close::STORAGE_STOPPED));
    }
}

async fn wait_until_gone(app: &Arc<App>, at_most: Duration) {
    let gone = async {
        while !app.is_deserted() {
            app.gone.notified().await;
        }
    };
    // Those who are still there are cut off by the end of the process.
    let _ = tokio::time::timeout(at_most, gone).await;
}
