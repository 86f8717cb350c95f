//! Which connections there are, by person.
//!
//! Must not live here: what they follow. Invariant: a connection is here from its hello to its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use shared::close;
use shared::ids::UserId;

use crate::config::Rates;
use crate::connection::bucket::Bucket;
use crate::delivery::{Order, Peer};
use crate::people::tokens::TokenHash;

/// In how many rooms one person may tell a new name at once, and a second after that. Those are told in one change of the
/// log, during which nobody else's is made.
const RENAMED_ROOMS_BURST: u64 = shared::limits::JOINED_ROOMS as u64;
const RENAMED_ROOMS_PER_S: u64 = 5;

/// The index of connections.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    users: HashMap<UserId, User>,
    /// Connections in all.
    connections: usize,
}

#[derive(Debug)]
struct User {
    connections: Vec<Arc<Peer>>,
    sends: Bucket,
    /// Rooms in which a new name is told; made with the first, for most people never have one.
    renamed: Option<Box<Bucket>>,
}

impl User {
    fn is_rested(&self, now: Instant) -> bool {
        self.sends.is_full(now) && self.renamed.as_ref().is_none_or(|renamed| renamed.is_full(now))
    }
}

/// Too many connections of one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl Registry {
    /// Adds a connection. An older one of the same running client is told to end: the new one wins.
    ///
    /// # Errors
    /// [`TooMany`] if the person has `limit` others already.
    pub fn enter(&self, peer: &Arc<Peer>, limit: usize, rates: &Rates, now: Instant) -> Result<(), TooMany> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let user = inner.users.entry(peer.user).or_insert_with(|| User {
            connections: Vec::new(),
            sends: Bucket::new(rates.posts_burst, rates.posts_per_s, now),
            renamed: None,
        });
        let mut others = 0;
        for other in &user.connections {
            if other.session == peer.session {
                other.mailbox.order(Order::Close(close::SUPERSEDED));
            } else {
                others += 1;
            }
        }
        if others >= limit {
            return Err(TooMany);
        }
        // Most people have one.
        user.connections.reserve_exact(1);
        user.connections.push(Arc::clone(peer));
        inner.connections += 1;
        Ok(())
    }

    /// Removes a connection.
    pub fn leave(&self, peer: &Peer) {
        let mut inner = self.lock();
        let Some(user) = inner.users.get_mut(&peer.user) else { return };
        let before = user.connections.len();
        user.connections.retain(|other| other.connection != peer.connection);
        let gone = before - user.connections.len();
        inner.connections -= gone;
    }

    /// Forgets the rates of people who are gone and whose burst is whole again.
    pub fn tidy(&self, now: Instant) {
        self.lock().users.retain(|_, user| !user.connections.is_empty() || !user.is_rested(now));
    }

    /// Takes so many sends from a person's rate, whichever of their connections they came by.
    ///
    /// # Errors
    /// How long to wait, in milliseconds.
    pub fn take_sends(&self, user: UserId, sends: u64, now: Instant) -> Result<(), u64> {
        self.lock().users.get_mut(&user).map_or(Ok(()), |user| user.sends.take_many(sends, now))
    }

    /// Gives back what was taken for something that was then not done.
    pub fn give_sends_back(&self, user: UserId, sends: u64) {
        if let Some(user) = self.lock().users.get_mut(&user) {
            user.sends.give_back(sends);
        }
    }

    /// Takes so many rooms from those in which a person may tell a new name.
    ///
    /// # Errors
    /// How long to wait, in milliseconds.
    pub fn take_renamed(&self, user: UserId, rooms: u64, now: Instant) -> Result<(), u64> {
        let mut inner = self.lock();
        let Some(user) = inner.users.get_mut(&user) else { return Ok(()) };
        let full = || Box::new(Bucket::new(RENAMED_ROOMS_BURST, RENAMED_ROOMS_PER_S, now));
        user.renamed.get_or_insert_with(full).take_many(rooms, now)
    }

    /// Gives back what was taken for a name that was then not told.
    pub fn give_renamed_back(&self, user: UserId, rooms: u64) {
        if let Some(renamed) = self.lock().users.get_mut(&user).and_then(|user| user.renamed.as_mut()) {
            renamed.give_back(rooms);
        }
    }

    /// Calls `tell` for every connection of a person.
    pub fn for_user(&self, user: UserId, tell: impl FnMut(&Arc<Peer>)) {
        let inner = self.lock();
        inner.users.get(&user).into_iter().flat_map(|user| &user.connections).for_each(tell);
    }

    /// Ends every connection under a sign-in of this person that was revoked.
    pub fn revoke(&self, user: UserId, token: &TokenHash) {
        self.for_user(user, |peer| {
            if peer.token == *token {
                peer.mailbox.order(Order::Close(close::SESSION_REVOKED));
            }
        });
    }

    /// Returns every connection, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Peer>> {
        let mut all: Vec<Arc<Peer>> =
            self.lock().users.values().flat_map(|user| user.connections.iter().cloned()).collect();
        all.sort_unstable_by_key(|peer| peer.connection);
        all
    }

    /// Returns how many connections have said hello.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().connections
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
