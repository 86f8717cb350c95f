//! The session: what of a client survives its connections.

mod io;

pub use io::*;

use crate::ids::AttemptId;
use crate::time::Timestamp;

/// A client's side of the conversation, across all its connections.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
}

impl Session {
    /// Makes a session at rest; [`Command::Start`] connects it.
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        Self { config }
    }

    /// Takes one input and says what to do.
    #[must_use]
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Vec<Output> {
        let _ = (input, now, &self.config, AttemptId(0));
        Vec::new()
    }

    /// Says when [`Input::DeadlineReached`] is due next, and why.
    #[must_use]
    pub fn next_deadline(&self) -> Option<(Timestamp, Deadline)> {
        None
    }

    /// Returns where the connection stands.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        ConnectionState::Idle
    }

    /// Iterates over unsent and refused items, in order.
    pub fn outbox(&self) -> impl Iterator<Item = &OutboxItem> {
        std::iter::empty()
    }
}
