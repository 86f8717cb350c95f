//! Which connections there are, by person and by sign-in.
//!
//! Must not live here: what they follow. Invariant: a connection is in every index from its hello to its end, or in none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use shared::close;
use shared::ids::{ConnectionId, UserId};

use crate::config::Rates;
use crate::connection::bucket::Bucket;
use crate::delivery::{Order, Peer};
use crate::people::tokens::TokenHash;

/// The index of connections.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    peers: HashMap<ConnectionId, Arc<Peer>>,
    users: HashMap<UserId, User>,
    tokens: HashMap<TokenHash, Vec<ConnectionId>>,
}

#[derive(Debug)]
struct User {
    connections: Vec<ConnectionId>,
    sends: Bucket,
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
        });
        let mut others = 0;
        for other in user.connections.iter().filter_map(|id| inner.peers.get(id)) {
            if other.session == peer.session {
                other.mailbox.order(Order::Close(close::SUPERSEDED));
            } else {
                others += 1;
            }
        }
        if others >= limit {
            return Err(TooMany);
        }
        user.connections.push(peer.connection);
        inner.tokens.entry(peer.token).or_default().push(peer.connection);
        inner.peers.insert(peer.connection, Arc::clone(peer));
        Ok(())
    }

    /// Removes a connection.
    pub fn leave(&self, peer: &Peer) {
        let mut inner = self.lock();
        inner.peers.remove(&peer.connection);
        if let Some(connections) = inner.tokens.get_mut(&peer.token) {
            connections.retain(|id| *id != peer.connection);
            if connections.is_empty() {
                inner.tokens.remove(&peer.token);
            }
        }
        if let Some(user) = inner.users.get_mut(&peer.user) {
            user.connections.retain(|id| *id != peer.connection);
        }
    }

    /// Forgets the rates of people who are gone and whose burst is whole again.
    pub fn tidy(&self, now: Instant) {
        self.lock().users.retain(|_, user| !user.connections.is_empty() || !user.sends.is_full(now));
    }

    /// Takes one send from a person's rate, whichever of their connections it came by.
    ///
    /// # Errors
    /// How long to wait, in milliseconds.
    pub fn take_send(&self, user: UserId, now: Instant) -> Result<(), u64> {
        self.lock().users.get_mut(&user).map_or(Ok(()), |user| user.sends.take(now))
    }

    /// Calls `tell` for every connection of a person.
    pub fn for_user(&self, user: UserId, mut tell: impl FnMut(&Peer)) {
        let inner = self.lock();
        let Some(entry) = inner.users.get(&user) else { return };
        entry.connections.iter().filter_map(|id| inner.peers.get(id)).for_each(|peer| tell(peer));
    }

    /// Ends every connection under a sign-in that was revoked.
    pub fn revoke(&self, token: &TokenHash) {
        let inner = self.lock();
        for peer in inner.tokens.get(token).into_iter().flatten().filter_map(|id| inner.peers.get(id)) {
            peer.mailbox.order(Order::Close(close::SESSION_REVOKED));
        }
    }

    /// Returns every connection, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Peer>> {
        let mut all: Vec<Arc<Peer>> = self.lock().peers.values().cloned().collect();
        all.sort_unstable_by_key(|peer| peer.connection);
        all
    }

    /// Returns how many connections have said hello.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().peers.len()
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
