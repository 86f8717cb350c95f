//! When a question is asked again that was refused for the moment.
//!
//! Must not live here: the question. Invariant: whatever happens meanwhile, the moment stays where it is. One that was not
//! refused is answered, if only by the session when the connection is lost, and is not asked twice.

use std::future::pending;
use std::time::Duration;

use shared::error::WireError;
use shared::session::RESEND_CAP_MS;
use tokio::time::{Instant, sleep_until};

/// The wait after a refusal that names none, in milliseconds.
const AGAIN_MS: u64 = 2_000;

/// The moment, while there is one.
#[derive(Debug, Default)]
pub(crate) struct Again(Option<Instant>);

impl Again {
    /// The question was asked.
    pub(crate) const fn asked(&mut self) {
        self.0 = None;
    }

    /// It was refused for the moment.
    pub(crate) fn refused(&mut self, error: &WireError) {
        let wait = error.retry_after_ms.unwrap_or(AGAIN_MS).clamp(1, RESEND_CAP_MS);
        self.0 = Some(Instant::now() + Duration::from_millis(wait));
    }

    /// Waits until it is to be asked again; for ever where nothing was refused. Cancel-safe.
    pub(crate) async fn due(&self) {
        match self.0 {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
    }
}
