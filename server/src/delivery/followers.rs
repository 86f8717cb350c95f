//! Who follows one stream in full, and where each of them stands.
//!
//! Must not live here: sockets, or what the stream holds. Invariants: every follower is in exactly one group; a walk sees
//! groups as they were when it began, so joining and leaving never wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shared::ids::{ConnectionId, Seq};

use super::{Out, Outlet, Peer};

/// Followers of a group: what a walk does between two looks at whether others want the thread, and what is copied when
/// somebody joins or leaves during a walk.
pub(super) const GROUP: usize = 64;
/// The cursor of a follower that is not to be handed anything: it is not known where it stands, or it is reading.
const ASIDE: u64 = u64::MAX;

/// One connection's place in a stream it follows in full.
#[derive(Debug)]
pub struct Follower {
    /// Who follows.
    pub peer: Arc<Peer>,
    /// The peer's, a pointer nearer.
    pub(super) outlet: Arc<Outlet>,
    /// The last seq that is written to the outlet, or [`ASIDE`]. Moves in the hands of whoever holds the outlet.
    cursor: AtomicU64,
    /// The last seq that may be.
    until: AtomicU64,
    /// A seq at which the log was seen to hold the membership: what ended up to there was an earlier one.
    since: AtomicU64,
}

impl Follower {
    fn new(peer: Arc<Peer>, since: Seq) -> Self {
        let outlet = Arc::clone(&peer.outlet);
        let (cursor, until) = (AtomicU64::new(ASIDE), AtomicU64::new(u64::MAX));
        Self { peer, outlet, cursor, until, since: AtomicU64::new(since.0) }
    }

    /// Returns up to where memberships that ended were earlier ones. Moves under the lock of the stream.
    pub(super) fn since(&self) -> Seq {
        Seq(self.since.load(Ordering::Relaxed))
    }

    pub(super) fn set_since(&self, seq: Seq) {
        self.since.store(seq.0, Ordering::Relaxed);
    }

    /// Tells whether the log was seen to hold the membership, and no end of it has come this way.
    pub(crate) fn is_member(&self) -> bool {
        self.since() > Seq(0) && self.until() == Seq(u64::MAX)
    }

    /// Returns the last seq that may be delivered.
    #[must_use]
    pub fn until(&self) -> Seq {
        Seq(self.until.load(Ordering::Acquire))
    }

    /// Nothing may be delivered after this seq, or after what was said before.
    pub(crate) fn end_at(&self, last: Seq) {
        self.until.fetch_min(last.0, Ordering::AcqRel);
    }

    /// Returns the last seq that was handed out; `None` while it stands aside.
    #[must_use]
    pub fn cursor(&self, _out: &Out) -> Option<Seq> {
        match self.cursor.load(Ordering::Relaxed) {
            ASIDE => None,
            seq => Some(Seq(seq)),
        }
    }

    /// Everything up to here has been handed out.
    pub fn stand_at(&self, _out: &mut Out, cursor: Seq) {
        self.cursor.store(cursor.0, Ordering::Relaxed);
    }

    /// Nothing is to be handed out but by the connection itself.
    pub fn stand_aside(&self, _out: &mut Out) {
        self.cursor.store(ASIDE, Ordering::Relaxed);
    }

    /// Looks at what a walk is about to need of it.
    pub(super) fn is_at_hand(&self) -> bool {
        self.cursor.load(Ordering::Relaxed) != ASIDE && self.outlet.is_at_hand()
    }

    /// Tells whether it was behind a moment ago.
    pub(super) fn is_behind(&self, head: Seq) -> bool {
        self.cursor.load(Ordering::Relaxed) < head.0
    }
}

/// A few followers, with whose they are.
pub(super) type Group = Vec<(ConnectionId, Arc<Follower>)>;

/// The followers of one stream.
#[derive(Debug, Default)]
pub(super) struct Followers {
    /// All but the last are full.
    groups: Vec<Arc<Group>>,
    /// In which group each one is, where there is more than one: most streams have few followers.
    #[allow(
        clippy::box_collection,
        reason = "an empty map takes six times as much as a pointer, and every person has one"
    )]
    places: Option<Box<HashMap<ConnectionId, usize>>>,
}

impl Followers {
    pub(super) fn len(&self) -> usize {
        self.groups.last().map_or(0, |last| (self.groups.len() - 1) * GROUP + last.len())
    }

    pub(super) fn has(&self, connection: ConnectionId) -> bool {
        self.place(connection).is_some()
    }

    /// Returns in which group a connection is.
    fn place(&self, connection: ConnectionId) -> Option<usize> {
        match self.groups.as_slice() {
            [only] => only.iter().any(|(id, _)| *id == connection).then_some(0),
            _ => self.places.as_ref()?.get(&connection).copied(),
        }
    }

    /// Adds a connection; whatever place it had is forgotten.
    pub(super) fn add(&mut self, peer: Arc<Peer>, since: Seq) -> Arc<Follower> {
        self.remove(peer.connection);
        let connection = peer.connection;
        let follower = Arc::new(Follower::new(peer, since));
        // Only the last group has room: whoever leaves is replaced by somebody of it.
        if self.groups.last().is_none_or(|group| group.len() >= GROUP) {
            if let [only] = self.groups.as_slice() {
                self.places = Some(Box::new(only.iter().map(|(id, _)| (*id, 0)).collect()));
            }
            self.groups.reserve_exact(1);
            self.groups.push(Arc::default());
        }
        let place = self.groups.len() - 1;
        if let Some(group) = self.groups.last_mut() {
            let group = Arc::make_mut(group);
            if group.is_empty() {
                // One's own stream is followed by one.
                group.reserve_exact(1);
            }
            group.push((connection, Arc::clone(&follower)));
        }
        if let Some(places) = &mut self.places {
            places.insert(connection, place);
        }
        follower
    }

    /// Removes a connection, if it is here.
    pub(super) fn remove(&mut self, connection: ConnectionId) {
        let Some(place) = self.place(connection) else { return };
        let last = self.groups.last_mut().and_then(|group| Arc::make_mut(group).pop());
        if let Some((other, follower)) = last
            && other != connection
        {
            let group = Arc::make_mut(&mut self.groups[place]);
            if let Some(hole) = group.iter_mut().find(|(id, _)| *id == connection) {
                *hole = (other, follower);
            }
            if let Some(moved) = self.places.as_mut().and_then(|places| places.get_mut(&other)) {
                *moved = place;
            }
        }
        if let Some(places) = &mut self.places {
            places.remove(&connection);
        }
        if self.groups.last().is_some_and(|group| group.is_empty()) {
            self.groups.pop();
        }
        if self.groups.len() <= 1 {
            self.places = None;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Follower>> {
        self.groups.iter().flat_map(|group| group.iter().map(|(_, follower)| follower))
    }

    /// Returns the groups as they are now.
    pub(super) fn groups(&self) -> Vec<Arc<Group>> {
        self.groups.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Mailbox;
    use shared::ids::{SessionId, UserId};

    #[test]
    fn everybody_is_in_one_place_however_many_come_and_go() {
        let peer = |number: u64| {
            Arc::new(Peer {
                connection: ConnectionId(number),
                user: UserId::from_bytes([0; 16]),
                session: SessionId::from_bytes([0; 16]),
                token: [0; 32],
                mailbox: Mailbox::default(),
                outlet: Arc::default(),
            })
        };
        let check = |followers: &Followers, wanted: &[u64]| {
            let mut found: Vec<u64> = followers.iter().map(|follower| follower.peer.connection.0).collect();
            found.sort_unstable();
            assert_eq!(found, wanted);
            assert_eq!(followers.len(), wanted.len());
            assert!(wanted.iter().all(|&number| followers.has(ConnectionId(number))));
            assert!(!followers.has(ConnectionId(9_999)));
            assert!(followers.groups.len() > 1 || followers.places.is_none(), "places that nobody looks at");
        };
        let mut followers = Followers::default();
        let mut here = Vec::new();
        // Over the border of one group and of two, and back, twice.
        for _ in 0..2 {
            for number in 0..(2 * GROUP as u64 + 3) {
                followers.add(peer(number), Seq(0));
                followers.add(peer(number / 2), Seq(0));
                here.push(number);
                check(&followers, &here);
            }
            while let Some(number) = (!here.is_empty()).then(|| here.remove(here.len() / 3)) {
                followers.remove(ConnectionId(number));
                followers.remove(ConnectionId(number));
                check(&followers, &here);
            }
        }
        assert!(followers.places.is_none() && followers.groups.is_empty());
    }
}
