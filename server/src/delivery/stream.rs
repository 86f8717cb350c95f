//! One stream in memory: its tail, who follows it in full, and who only watches its head.
//!
//! Must not live here: what is in the events, but for membership and deletions. Invariant: a follower never gets an event past its
//! `until`, which is set at the very seq that ends its membership, before any later event is in the tail.

use shared::planted::{Bug, is_planted};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use shared::ids::{ConnectionId, RoomId, Seq, StreamId, UserId};
use shared::model::Head;
use shared::sorted::SortedMap;

use super::Peer;
use super::followers::{Follower, Followers};
use super::tail::{Found, Tail};
use super::walk::{BATCH_BYTES, Walk};

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
    followers: Followers,
    /// Made when it is needed: what is one's own has none, and everybody has such a stream.
    room: Option<Box<RoomSide>>,
}

impl Inner {
    fn room(&mut self) -> &mut RoomSide {
        self.room.get_or_insert_default()
    }

    /// Removes a follower, or one that was. Returns how many are left.
    fn unfollow(&mut self, connection: ConnectionId) -> usize {
        self.followers.remove(connection);
        let left = self.followers.len();
        let Some(room) = &mut self.room else { return left };
        room.ended.remove(&connection);
        if left == 0 {
            // A room that is only watched costs its head; whoever comes finds the rest in the log.
            (room.tail, room.kept) = (Tail::default(), None);
        }
        left + room.ended.len()
    }

    /// Ends what a user follows of it, or what everybody does.
    fn end(&mut self, seq: Seq, of: Option<UserId>) {
        if is_planted(Bug::MembershipKept) {
            return;
        }
        // Published late: the log was read by then, and held a later membership.
        let is_over =
            |follower: &&Arc<Follower>| seq > follower.since() && of.is_none_or(|user| follower.peer.user == user);
        let over: Vec<_> = self.followers.iter().filter(is_over).cloned().collect();
        for follower in over {
            let connection = follower.peer.connection;
            follower.end_at(seq);
            follower.peer.mailbox.wake();
            self.followers.remove(connection);
            // Nobody is a member of a room that is over once more.
            if let Some(user) = of {
                self.room().ended.insert(connection, (user, seq));
            }
        }
    }
}

/// What only a room has.
#[derive(Debug, Default)]
struct RoomSide {
    tail: Tail,
    /// The newest event that came this way, and how many posts there were as of it.
    newest: (Seq, u64),
    watchers: HashMap<ConnectionId, Arc<Peer>>,
    /// The newest event that watchers were told of.
    told: Seq,
    /// Connections whose following ended with a membership and which have not heard of it: when a membership of that user
    /// ended last.
    ended: SortedMap<ConnectionId, (UserId, Seq)>,
    /// Up to where the news have been walked around.
    walked: Seq,
    /// The last seq of a page that was kept, until something comes this way.
    kept: Option<Seq>,
    /// Somebody is walking, and will go on until there are no news.
    is_walked: bool,
}

impl RoomSide {
    fn tell_watchers(&mut self, room: RoomId) {
        // Not the head as somebody may have read it: how many posts there are as of that is not known here yet.
        let (seq, posts) = self.newest;
        self.told = seq;
        if is_planted(Bug::HeadsUntold) {
            return;
        }
        let head = Head { room, seq, posts };
        self.watchers.values().for_each(|watcher| watcher.mailbox.head(head.clone()));
    }
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
        let inner = self.lock();
        let Some(room) = &inner.room else { return Found::Below };
        match room.tail.take(cursor, until, budget, taken) {
            // The log is further than what came this way: the writer's news are still on their way, or were lost.
            Found::Nothing => Found::Below,
            found => found,
        }
    }

    /// Tells whether anybody follows it in full.
    pub(super) fn is_followed(&self) -> bool {
        self.lock().followers.len() > 0
    }

    /// Adds a committed event; without a frame where nobody followed it a moment ago. Whoever began since has read, or
    /// reads, a log that holds it.
    pub(super) fn append(&self, seq: Seq, posts: u64, frame: Option<Bytes>, does: Does) {
        let mut inner = self.lock();
        let room = inner.room();
        // What was read from the log is no news. Unless it was read before it came this way: then it comes now.
        if let Some(kept) = room.kept.take().filter(|kept| seq == kept.next()) {
            room.walked = room.walked.max(kept);
        }
        match frame {
            Some(frame) => room.tail.push(seq, frame),
            None => room.tail = Tail::default(),
        }
        room.newest = (seq, posts);
        self.saw_head(seq);
        match does {
            Does::Nothing => {}
            Does::Edit(post) => room.tail.note_edit(Some(post)),
            Does::Delete(_) if is_planted(Bug::DeletedTextTold) => {}
            Does::Delete(post) => room.tail.drop_texts(post),
            Does::EndMembership(user) => {
                let ended = room.ended.iter_mut().filter(|(_, (of, _))| *of == user);
                ended.for_each(|(_, (_, last))| *last = seq);
                inner.end(seq, Some(user));
            }
            Does::EndRoom => {
                room.ended.iter_mut().for_each(|(_, (_, last))| *last = seq);
                inner.end(seq, None);
            }
        }
    }

    /// Keeps the newest events as somebody read them from the log, where nothing has come this way yet: after a restart a
    /// crowd finds them here. What does not reach the head is of no use.
    pub fn keep_page(&self, page: &[(Seq, Bytes)]) {
        let mut inner = self.lock();
        let Some(&(last, _)) = page.last().filter(|(last, _)| *last == self.head()) else { return };
        let room = inner.room();
        if room.tail.is_empty() {
            page.iter().for_each(|(seq, frame)| room.tail.push(*seq, frame.clone()));
            room.tail.note_edit(None);
            room.kept = Some(last);
        }
    }

    /// Begins to walk the news around, and tells watchers of the head. Returns how many follow; `None` if somebody else
    /// walks already and will see to it, or if nothing can be walked around.
    pub(super) fn begin_walk(&self) -> Option<usize> {
        let mut inner = self.lock();
        let StreamId::Room(id) = self.id else {
            // What is new in a user's own stream must be understood by the connection first.
            inner.followers.iter().for_each(|follower| follower.peer.mailbox.wake());
            return None;
        };
        let room = inner.room();
        room.tell_watchers(id);
        let begins = !std::mem::replace(&mut room.is_walked, true);
        begins.then(|| inner.followers.len())
    }

    /// Returns the next batch to be walked around; `None` ends the walk.
    pub(super) fn next_walk(&self) -> Option<Walk> {
        let mut inner = self.lock();
        let room = inner.room();
        let base = room.tail.first().map_or(room.walked, |first| room.walked.max(Seq(first.0.saturating_sub(1))));
        let base = if is_planted(Bug::GapIgnored) && base.0 % 11 == 10 { base.next() } else { base };
        let mut frames = Vec::new();
        let found = room.tail.take(base, Seq(u64::MAX), BATCH_BYTES, |frame| frames.push(frame));
        let Found::UpTo(last) = found else {
            room.is_walked = false;
            return None;
        };
        room.walked = last;
        Some(Walk::new(base, last, frames, inner.followers.groups()))
    }

    /// Wakes everybody whose cursor is behind the head, and tells watchers of what came this way and they were not told of.
    pub(super) fn wake_late(&self) {
        let mut inner = self.lock();
        if let (StreamId::Room(id), Some(room)) = (self.id, &mut inner.room)
            && room.told < room.newest.0
        {
            room.tell_watchers(id);
        }
        let head = self.head();
        let late = inner.followers.iter().filter(|follower| follower.is_behind(head));
        late.for_each(|follower| follower.peer.mailbox.wake());
    }

    pub(super) fn follow(&self, peer: Arc<Peer>, since: Seq) -> Arc<Follower> {
        let mut inner = self.lock();
        let mut ended = None;
        if let Some(room) = &mut inner.room {
            room.watchers.remove(&peer.connection);
            ended = room.ended.remove(&peer.connection).map(|(_, last)| last);
        }
        let follower = inner.followers.add(peer, since);
        // The membership that the log was seen to hold has ended, too, before anybody followed because of it.
        if let Some(last) = ended.filter(|last| since > Seq(0) && *last > since) {
            follower.end_at(last);
        }
        follower
    }

    /// The log was seen to hold a follower's membership at `seq`. Returns whether they still follow: not where the end of
    /// an earlier one has come this way since they began to.
    pub fn is_member_at(&self, follower: &Follower, seq: Seq) -> bool {
        let _inner = self.lock();
        follower.set_since(seq);
        follower.until() > seq
    }

    pub(super) fn watch(&self, peer: Arc<Peer>) {
        let mut inner = self.lock();
        if !inner.followers.has(peer.connection) {
            inner.room().watchers.insert(peer.connection, peer);
        }
    }

    pub(super) fn watch_only(&self, peer: Arc<Peer>) {
        let mut inner = self.lock();
        inner.unfollow(peer.connection);
        inner.room().watchers.insert(peer.connection, peer);
    }

    pub(super) fn add_to(&self, held: &mut Held) {
        let inner = self.lock();
        held.streams += 1;
        held.followers += inner.followers.len();
        let Some(room) = &inner.room else { return };
        held.watchers += room.watchers.len();
        held.tail_frames += room.tail.len();
        held.tail_bytes += room.tail.bytes();
    }

    /// Removes a connection altogether. Returns whether anybody is left.
    pub(super) fn leave(&self, connection: ConnectionId) -> bool {
        let mut inner = self.lock();
        let followers = inner.unfollow(connection);
        let Some(room) = &mut inner.room else { return followers > 0 };
        room.watchers.remove(&connection);
        followers + room.watchers.len() > 0
    }

    /// Calls `tell` for every connection that follows in full, unless there are more than `limit`.
    pub(super) fn for_followers(&self, limit: usize, mut tell: impl FnMut(&Follower)) {
        let inner = self.lock();
        if inner.followers.len() <= limit {
            inner.followers.iter().for_each(|follower| tell(follower));
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

/// What an event does besides being the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// Nothing that matters here.
    Nothing,
    /// Gives the post at this seq another text.
    Edit(Seq),
    /// Takes the texts of the post at this seq back.
    Delete(Seq),
    /// Ends this user's membership.
    EndMembership(UserId),
    /// Ends the room, and everybody's membership.
    EndRoom,
}
