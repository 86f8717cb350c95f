//! Time and chance: the system's, or those of whoever runs the server in a time of its own.
//!
//! Must not live here: waiting. Invariant: nothing behind the upgrade, and nothing that decides what is
//! stored, asks the system for the time or for randomness but through this.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use shared::ids::{ClientId, RoomId, UserId};
use shared::time::Timestamp;

/// Where time and chance come from.
pub trait Ambient: Send + Sync {
    /// Returns the time that deadlines are measured in. Never runs backwards.
    fn now(&self) -> Instant;
    /// Reads the wall clock. Used for time stamps only, never for waiting.
    fn wall_clock(&self) -> Timestamp;
    /// Draws random bytes, fit for secrets.
    ///
    /// # Panics
    /// If there are none: nothing safe can be done without.
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Ambient + '_ {
    /// Draws random bytes.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// Mints the key of a request the server makes itself.
    #[must_use]
    pub fn mint_key(&self) -> ClientId {
        ClientId::from_parts(self.wall_clock(), self.random())
    }

    /// Mints a user's id.
    #[must_use]
    pub fn mint_user(&self) -> UserId {
        UserId::from_parts(self.wall_clock(), self.random())
    }

    /// Mints a room's id.
    #[must_use]
    pub fn mint_room(&self) -> RoomId {
        RoomId::from_parts(self.wall_clock(), self.random())
    }
}

/// The system's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Ambient for System {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_clock(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system gives randomness");
    }
}
