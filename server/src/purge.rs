//! Forgetting sessions that ended long ago.
//!
//! Must not live here: which rows go, which the log decides; whether a session is valid, which whoever asks decides by
//! the time. Invariant: what is forgotten has been over for [`KEPT_AFTER_END_MS`] by the server's clock, and nothing that
//! waits to be stored waits for more than one batch of it.
//!
//! Only the session goes. Its person stays, and so does the name, for ever: see docs/decisions/a-name-is-never-freed.md.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::ambient::Ambient;
use crate::log::{Entry, LogError, LogHandle, Op, SYSTEM};

/// How long a session is kept after its end, in milliseconds: a week. Nobody can come back under an ended session, but a
/// clock that ran ahead can be set right, and until then nobody's only proof of who they are may be gone for it.
pub const KEPT_AFTER_END_MS: u64 = 7 * 24 * 3_600_000;
/// Between the beginnings of two rounds; the first begins with the server.
pub const ROUND_EVERY: Duration = Duration::from_secs(3_600);
/// Between two batches of a round, so that the writer is everybody else's nearly all the time.
pub const BATCH_EVERY: Duration = Duration::from_millis(100);
/// Batches of one round. What is left over is for the next.
const BATCHES: usize = 10_000;

/// Forgets what there is to forget, now and then, until dropped.
pub async fn run(ambient: &dyn Ambient, log: &LogHandle) {
    let mut rounds = tokio::time::interval(ROUND_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        // A log that is full, busy or stopped has better things to do.
        if let Err(error) = round(ambient, log).await {
            tracing::debug!(%error, "ended sessions are kept until the next round");
        }
    }
}

async fn round(ambient: &dyn Ambient, log: &LogHandle) -> Result<(), LogError> {
    for _ in 0..BATCHES {
        let now = ambient.wall_clock();
        let before = shared::time::Timestamp(now.0.saturating_sub(KEPT_AFTER_END_MS));
        // Looked at first, beside the writer: to ask for nothing would be a transaction all the same.
        let first = log.read(|reads| reads.first_session_end()).await?;
        if first.is_none_or(|first| first > before) {
            return Ok(());
        }
        log.propose(Entry { ts: now, by: SYSTEM, key: ambient.mint_key(), op: Op::SessionPurge { before } }).await?;
        tokio::time::sleep(BATCH_EVERY).await;
    }
    Ok(())
}
