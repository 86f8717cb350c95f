//! The registry of streams, and the two tasks that serve their followers: one walks news around, one sweeps.
//!
//! Must not live here: connections' own state. Invariant: a stream is in memory exactly as long as somebody follows or
//! watches it; the locks here are held for memory operations only, never across a wait.

use shared::planted::{Bug, is_planted};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use shared::ids::{ConnectionId, Lsn, RoomId, Seq, StreamId};
use shared::message::{Event, Message};
use shared::model::{RoomChange, RoomEvent, UserEvent};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::followers::{Follower, GROUP};
use super::stream::{Does, Held};
use super::walk::Walk;
use super::{Peer, Stream};
use crate::log::{LogHandle, Published};
use crate::ws::frame;

/// How many locks the registry of streams is spread over.
const SHARDS: usize = 16;
/// In rooms with more followers than this, typing and presence are not told: they would drown everything else.
pub(super) const EPHEMERAL_FOLLOWERS: usize = 1_000;

/// The registry of streams that are followed here.
#[derive(Debug)]
pub struct Hub {
    shards: [Mutex<HashMap<StreamId, Arc<Stream>>>; SHARDS],
    /// Streams with news. Ordered, so that what a simulation does depends on nothing but its seed.
    dirty: Mutex<BTreeMap<StreamId, Arc<Stream>>>,
    hint: Notify,
    /// The last change of the whole log that comes or came this way.
    lsn: AtomicU64,
    lose_hints: AtomicBool,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            dirty: Mutex::default(),
            hint: Notify::new(),
            lsn: AtomicU64::new(0),
            lose_hints: AtomicBool::new(false),
        }
    }
}

/// Writes a room's event as the frame everybody gets.
#[must_use]
pub fn room_frame(event: &RoomEvent) -> Bytes {
    frame::text(&Message::event(Event::Room(event.clone())).to_json())
}

/// Writes an event of a user's own stream as a frame.
#[must_use]
pub fn user_frame(event: &UserEvent) -> Bytes {
    frame::text(&Message::event(Event::User(event.clone())).to_json())
}

impl Hub {
    /// Takes what was committed into the tails. Called on the writer's thread, before anything is acknowledged.
    pub fn publish(&self, published: &Published) {
        // Before anybody is looked for: see `is_at`.
        self.lsn.store(published.lsn.0, Ordering::Release);
        for event in &published.effects.room_events {
            if let Some(stream) = self.find(StreamId::Room(event.room)) {
                let frame = stream.is_followed().then(|| room_frame(event));
                stream.append(event.seq, event.posts, frame, does(event));
                self.mark(stream);
            }
        }
        for (user, event) in &published.effects.user_events {
            if let Some(stream) = self.find(StreamId::User(*user)) {
                // No tail: a connection must understand its own stream, so it reads the events themselves.
                stream.saw_head(event.seq);
                self.mark(stream);
            }
        }
        if !self.lose_hints.load(Ordering::Relaxed) {
            self.hint.notify_one();
        }
    }

    /// Makes every hint get lost, so that a test sees the sweep alone do the work.
    #[doc(hidden)]
    pub fn lose_hints(&self, lose: bool) {
        self.lose_hints.store(lose, Ordering::Relaxed);
    }

    /// Follows a stream in full.
    pub fn follow(&self, id: StreamId, peer: &Arc<Peer>) -> (Arc<Stream>, Arc<Follower>) {
        self.follow_since(id, peer, Seq(0))
    }

    /// Follows a stream in full of which the log was seen to hold the membership at a seq; what ends one up to there is
    /// old.
    pub fn follow_since(&self, id: StreamId, peer: &Arc<Peer>, since: Seq) -> (Arc<Stream>, Arc<Follower>) {
        let mut shard = self.shard(id);
        let stream = Arc::clone(shard.entry(id).or_insert_with(|| Arc::new(Stream::new(id))));
        let follower = stream.follow(Arc::clone(peer), since);
        (stream, follower)
    }

    /// Watches the head of a room, unless the connection follows it in full.
    pub fn watch(&self, room: RoomId, peer: &Arc<Peer>) {
        let id = StreamId::Room(room);
        let mut shard = self.shard(id);
        shard.entry(id).or_insert_with(|| Arc::new(Stream::new(id))).watch(Arc::clone(peer));
    }

    /// Watches the head of a room that was followed in full until now. What comes to it comes one way or the other.
    pub fn watch_only(&self, room: RoomId, peer: &Arc<Peer>) {
        let id = StreamId::Room(room);
        let mut shard = self.shard(id);
        shard.entry(id).or_insert_with(|| Arc::new(Stream::new(id))).watch_only(Arc::clone(peer));
    }

    /// Tells whether nothing has come this way after `lsn`. Whoever watched rooms before asking is told of all that comes
    /// to them afterwards.
    #[must_use]
    pub fn is_at(&self, lsn: Lsn) -> bool {
        self.lsn.load(Ordering::Acquire) <= lsn.0
    }

    /// Neither follows nor watches a stream any longer.
    pub fn leave(&self, id: StreamId, connection: ConnectionId) {
        let mut shard = self.shard(id);
        if let Some(stream) = shard.get(&id)
            && !stream.leave(connection)
        {
            shard.remove(&id);
        }
    }

    /// Calls `tell` for every connection that follows a room in full, unless there are too many for ephemera.
    pub fn for_followers(&self, room: RoomId, mut tell: impl FnMut(&Peer)) {
        if let Some(stream) = self.find(StreamId::Room(room)) {
            stream.for_followers(EPHEMERAL_FOLLOWERS, |follower| tell(&follower.peer));
        }
    }

    /// The same for those of whom the log was seen to hold the membership: not for who has only asked to follow.
    pub fn for_members(&self, room: RoomId, mut tell: impl FnMut(&Peer)) {
        if let Some(stream) = self.find(StreamId::Room(room)) {
            stream.for_followers(EPHEMERAL_FOLLOWERS, |follower| {
                if follower.is_member() {
                    tell(&follower.peer);
                }
            });
        }
    }

    /// Walks the news of every stream around. Runs until dropped.
    pub async fn run_hints(&self) {
        let mut pace = Pace::default();
        loop {
            self.hint.notified().await;
            for stream in self.take_marked() {
                match stream.begin_walk() {
                    None => {}
                    Some(followers) if followers <= LARGE_FOLLOWERS => pace.walk(&stream).await,
                    Some(_) => drop(tokio::spawn(walk_large(stream))),
                }
            }
        }
    }

    /// Walks the news around of every stream that has had some since the last time.
    pub fn walk_marked(&self) {
        for stream in self.take_marked() {
            if stream.begin_walk().is_some() {
                while let Some(walk) = stream.next_walk() {
                    while walk.step().is_some() {}
                }
            }
        }
    }

    fn take_marked(&self) -> impl Iterator<Item = Arc<Stream>> + use<> {
        std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner)).into_values()
    }

    /// Forgets which streams have had news, as if the hint had got lost.
    #[doc(hidden)]
    pub fn lose_marked(&self) {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Mends hints that were lost: wakes followers whose cursor is behind, and asks the log where streams stand if it is
    /// further than what was published here. Runs until dropped.
    pub async fn run_sweep(&self, log: &LogHandle, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.is_behind(log).await {
                tracing::warn!("the log is further than what was published; reading the heads of all followed streams");
                self.read_heads(log, &self.streams()).await;
            }
            self.wake_late();
        }
    }

    /// Wakes every follower whose cursor is behind its stream.
    pub fn wake_late(&self) {
        if is_planted(Bug::NoSweep) {
            return;
        }
        for stream in self.streams() {
            stream.wake_late();
        }
    }

    fn streams(&self) -> Vec<Arc<Stream>> {
        self.shards.iter().flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Tells whether the log has stood further than the last publication for longer than a publication takes.
    async fn is_behind(&self, log: &LogHandle) -> bool {
        let Ok(Ok(lsn)) = tokio::time::timeout(SWEEP_READ, log.read(|reads| reads.lsn())).await else { return false };
        let known = || Lsn(self.lsn.load(Ordering::Acquire));
        if known() == Lsn(0) || lsn <= known() {
            return false;
        }
        // A record is published within moments of its commit.
        tokio::time::sleep(PUBLICATION).await;
        lsn > known()
    }

    async fn read_heads(&self, log: &LogHandle, streams: &[Arc<Stream>]) {
        for some in streams.chunks(SWEEP_STREAMS) {
            let ids: Vec<StreamId> = some.iter().map(|stream| stream.id).collect();
            let heads = log.read(move |reads| {
                ids.into_iter()
                    .map(|id| match id {
                        StreamId::Room(room) => Ok(reads.head(room)?.map_or(Seq(0), |head| head.position.seq)),
                        StreamId::User(user) => Ok(reads.user_head(user)?.map_or(Seq(0), |head| head.seq)),
                    })
                    .collect::<Result<Vec<_>, _>>()
            });
            if let Ok(heads) = heads.await {
                some.iter().zip(heads).for_each(|(stream, head)| stream.saw_head(head));
            }
        }
    }

    /// Returns how much is held here, for counting.
    #[must_use]
    pub fn held(&self) -> Held {
        let mut held = Held::default();
        self.streams().iter().for_each(|stream| stream.add_to(&mut held));
        held
    }

    fn mark(&self, stream: Arc<Stream>) {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).insert(stream.id, stream);
    }

    fn find(&self, id: StreamId) -> Option<Arc<Stream>> {
        self.shard(id).get(&id).cloned()
    }

    fn shard(&self, id: StreamId) -> MutexGuard<'_, HashMap<StreamId, Arc<Stream>>> {
        let last = match id {
            StreamId::Room(room) => room.as_bytes()[15],
            StreamId::User(user) => user.as_bytes()[15],
        };
        lock(&self.shards[usize::from(last) % SHARDS])
    }
}

/// Walks one stream after the other, and lets others have the thread in between.
#[derive(Debug, Default)]
struct Pace {
    /// Followers since others had the thread.
    since: usize,
}

impl Pace {
    async fn walk(&mut self, stream: &Stream) {
        while let Some(walk) = stream.next_walk() {
            self.help(&walk).await;
        }
    }

    async fn help(&mut self, walk: &Walk) {
        while let Some(followers) = walk.step() {
            self.since += followers;
            if self.since >= GROUP {
                self.since = 0;
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Walks a stream with many followers, on as many threads as there are.
async fn walk_large(stream: Arc<Stream>) {
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    while let Some(walk) = stream.next_walk() {
        let walk = Arc::new(walk);
        let helpers: Vec<_> = (1..threads.min(walk.groups()))
            .map(|_| {
                let walk = Arc::clone(&walk);
                tokio::spawn(async move { Pace::default().help(&walk).await })
            })
            .collect();
        Pace::default().help(&walk).await;
        for helper in helpers {
            // One that panicked has told so; those it left out are found by the sweep.
            let _ = helper.await;
        }
    }
}

/// More followers than this are walked on several threads.
const LARGE_FOLLOWERS: usize = 8 * GROUP;
/// How long the sweep waits for the log before it tries again at its next turn.
const SWEEP_READ: Duration = Duration::from_secs(5);
/// How long a publication may take after its commit before it counts as lost.
const PUBLICATION: Duration = Duration::from_millis(100);
/// How many heads are read at once.
const SWEEP_STREAMS: usize = 256;

fn lock(shard: &Mutex<HashMap<StreamId, Arc<Stream>>>) -> MutexGuard<'_, HashMap<StreamId, Arc<Stream>>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns what an event does to its stream.
fn does(event: &RoomEvent) -> Does {
    match &event.change {
        RoomChange::Edited(edited) => Does::Edit(edited.post),
        RoomChange::Deleted(deleted) => Does::Delete(deleted.post),
        RoomChange::Left(_) => Does::EndMembership(event.by.id),
        RoomChange::Kicked(kicked) => Does::EndMembership(kicked.user.id),
        RoomChange::Ended(_) => Does::EndRoom,
        RoomChange::Posted(_)
        | RoomChange::Reacted(_)
        | RoomChange::Created(_)
        | RoomChange::Set(_)
        | RoomChange::Joined(_)
        | RoomChange::Renamed(_)
        | RoomChange::Unknown(_) => Does::Nothing,
    }
}
