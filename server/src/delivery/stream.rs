//! One stream in memory: its tail, who follows it in full, and who only watches its head.
//!
//! Must not live here: what is in the events, but for membership. Invariant: a follower never gets an event past its
//! `until`, which is set at the very seq that ends its membership, before any later event is in the tail.

use shared::planted::{Bug, is_planted};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use shared::ids::{ConnectionId, Seq, StreamId, UserId};
use shared::model::Head;

use super::Peer;
use super::tail::{Found, Tail};

/// One connection's place in a stream it follows in full.
#[derive(Debug)]
pub struct Follower {
    /// Who follows.
    pub peer: Arc<Peer>,
    /// The last seq handed to the socket; `u64::MAX` while that is not yet known.
    cursor: AtomicU64,
    /// The last seq that may be.
    until: AtomicU64,
}

impl Follower {
    /// Returns the last seq that may be delivered.
    #[must_use]
    pub fn until(&self) -> Seq {
        Seq(self.until.load(Ordering::Acquire))
    }

    /// Tells the sweep where the connection stands.
    pub fn stands_at(&self, cursor: Seq) {
        self.cursor.store(cursor.0, Ordering::Relaxed);
    }
}

/// One stream that somebody here follows or watches.
#[derive(Debug)]
pub struct Stream {
    /// Which.
    pub id: StreamId,
    /// The newest seq known here, whether from the writer or read by somebody.
    head: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tail: Tail,
    /// Posts as of the newest event that came this way.
    posts: u64,
    followers: Vec<Arc<Follower>>,
    watchers: Vec<Arc<Peer>>,
}

impl Stream {
    pub(super) fn new(id: StreamId) -> Self {
        Self { id, head: AtomicU64::new(0), inner: Mutex::default() }
    }

    /// Returns the newest seq known here.
    #[must_use]
    pub fn head(&self) -> Seq {
        Seq(self.head.load(Ordering::Acquire))
    }

    /// Tells of a head somebody has read from the log.
    pub fn saw_head(&self, seq: Seq) {
        self.head.fetch_max(seq.0, Ordering::AcqRel);
    }

    /// Takes frames from the tail; see [`Tail::take`]. Where the tail is empty or ends before the head, what comes next
    /// is below it.
    pub fn take(&self, cursor: Seq, until: Seq, budget: usize, taken: impl FnMut(Bytes)) -> Found {
        let limit = self.head().min(until);
        if cursor >= limit {
            return Found::Nothing;
        }
        let cursor = if is_planted(Bug::GapIgnored) && cursor.0 % 11 == 10 { cursor.next() } else { cursor };
        match self.lock().tail.take(cursor, until, budget, taken) {
            // The log is further than what came this way: the writer's news are still on their way, or were lost.
            Found::Nothing => Found::Below,
            found => found,
        }
    }

    /// Adds a committed event.
    pub(super) fn append(&self, seq: Seq, posts: u64, frame: Bytes, ends: Ends) {
        let mut inner = self.lock();
        inner.tail.push(seq, frame);
        inner.posts = posts;
        self.saw_head(seq);
        inner.followers.retain(|follower| {
            let ended = match ends {
                _ if is_planted(Bug::MembershipKept) => false,
                Ends::Nobody => false,
                Ends::Membership(user) => follower.peer.user == user,
                Ends::Everybody => true,
            };
            if ended {
                follower.until.store(seq.0, Ordering::Release);
                follower.peer.mailbox.wake();
            }
            !ended
        });
    }

    /// Wakes everybody who may be behind; `only_late` spares those whose cursor is at the head.
    pub(super) fn wake(&self, only_late: bool) {
        let inner = self.lock();
        let head = self.head();
        for follower in &inner.followers {
            if !only_late || follower.cursor.load(Ordering::Relaxed) < head.0 {
                follower.peer.mailbox.wake();
            }
        }
        if let (StreamId::Room(room), false) = (self.id, only_late) {
            for watcher in &inner.watchers {
                watcher.mailbox.head(Head { room, seq: head, posts: inner.posts });
            }
        }
    }

    pub(super) fn follow(&self, peer: Arc<Peer>) -> Arc<Follower> {
        let follower = Arc::new(Follower { peer, cursor: AtomicU64::new(u64::MAX), until: AtomicU64::new(u64::MAX) });
        let mut inner = self.lock();
        inner.watchers.retain(|watcher| watcher.connection != follower.peer.connection);
        inner.followers.push(Arc::clone(&follower));
        follower
    }

    pub(super) fn watch(&self, peer: Arc<Peer>) {
        let mut inner = self.lock();
        let known = inner.watchers.iter().any(|watcher| watcher.connection == peer.connection)
            || inner.followers.iter().any(|follower| follower.peer.connection == peer.connection);
        if !known {
            inner.watchers.push(peer);
        }
    }

    pub(super) fn add_to(&self, held: &mut Held) {
        let inner = self.lock();
        held.streams += 1;
        held.followers += inner.followers.len();
        held.watchers += inner.watchers.len();
        held.tail_frames += inner.tail.len();
        held.tail_bytes += inner.tail.bytes();
    }

    /// Removes a connection altogether. Returns whether anybody is left.
    pub(super) fn leave(&self, connection: ConnectionId) -> bool {
        let mut inner = self.lock();
        inner.followers.retain(|follower| follower.peer.connection != connection);
        inner.watchers.retain(|watcher| watcher.connection != connection);
        !(inner.followers.is_empty() && inner.watchers.is_empty())
    }

    /// Calls `tell` for every connection that follows in full, unless there are more than `limit`.
    pub(super) fn for_followers(&self, limit: usize, mut tell: impl FnMut(&Peer)) {
        let inner = self.lock();
        if inner.followers.len() <= limit {
            inner.followers.iter().for_each(|follower| tell(&follower.peer));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much streams hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Streams that somebody follows or watches.
    pub streams: usize,
    /// Places of connections that follow one in full.
    pub followers: usize,
    /// Connections that watch a head.
    pub watchers: usize,
    /// Frames in the tails.
    pub tail_frames: usize,
    /// Their bytes.
    pub tail_bytes: usize,
}

/// Whose membership an event ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// Nobody's.
    Nobody,
    /// This user's.
    Membership(UserId),
    /// The room is over.
    Everybody,
}
