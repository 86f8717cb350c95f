//! The log's twin in memory: the same `apply` over maps. Tests run the server on it.
//!
//! Must not live here: any decision of its own. Invariant: what the contract suite asks of SQLite holds here, but for
//! surviving the process.

use shared::planted::{Bug, is_planted};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use shared::cursor::{Check, Position};
use shared::ids::{ClientId, Epoch, Lsn, RoomId, Seq, UserId};
use shared::limits;
use shared::model::{Person, Post, Reaction, RoomEvent, RoomSummary, UserEvent};

use super::apply::apply;
use super::reads::{Membership, Reads, RoomHead, SessionRow, gather};
use super::record::{Applied, Record, TokenHash};
use super::tables::{
    Body, EventRow, Kind, MemberRow, PostLife, PostRow, PostState, ReactionCount, ReactionPlace, ReadRow, RoomRow,
    RoomState, SendRow, StorageError, Tables, UserEventRow, UserRow,
};
use super::writer::{self, Backend, BoxedSink, Committed, Stepper, Writer};
use super::{Effects, LogError, LogHandle, LogOptions, OpenError, Published, ReadJob, Readers, chain};

/// Where the twin's records go before they are applied, as a database goes to its disk. It may be slow, full or broken.
pub trait Disk: Send + 'static {
    /// Writes a record behind those before.
    ///
    /// # Errors
    /// [`StorageErrorKind::Full`](super::StorageErrorKind::Full) and `Busy` promise that nothing of it is or will be there.
    fn write(&mut self, record: &Record) -> Result<(), StorageError>;
    /// Makes what was written survive everything.
    ///
    /// # Errors
    /// [`StorageErrorKind::Failed`](super::StorageErrorKind::Failed): whether it is there is unknown.
    fn sync(&mut self) -> Result<(), StorageError>;
    /// Tells whether there is room again.
    ///
    /// # Errors
    /// As for [`Disk::write`].
    fn probe(&mut self) -> Result<(), StorageError>;
}

/// Records are forgotten.
struct Nowhere;

impl Disk for Nowhere {
    fn write(&mut self, _: &Record) -> Result<(), StorageError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn probe(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Opens an empty log.
pub(super) fn open(options: &LogOptions, sink: BoxedSink) -> Result<(LogHandle, Writer), OpenError> {
    let mut epoch = [0; 16];
    getrandom::fill(&mut epoch).map_err(|error| std::io::Error::other(error.to_string()))?;
    let state = Arc::new(RwLock::new(State::new(Epoch::from_bytes(epoch))));
    let memory = Memory { state: Arc::clone(&state), disk: Box::new(Nowhere) };
    let (queue, health, writer) = writer::start(memory, options, sink)?;
    Ok((LogHandle { queue, health, readers: Arc::new(MemoryReaders { state }) }, writer))
}

/// Opens the log that a replica has come to, without a thread.
pub(super) fn open_stepped(
    replica: Replica,
    disk: Box<dyn Disk>,
    options: &LogOptions,
    sink: BoxedSink,
) -> (LogHandle, Stepper) {
    let state = Arc::new(RwLock::new(replica.state));
    let memory = Memory { state: Arc::clone(&state), disk };
    let (queue, health, stepper) = writer::stepped(Box::new(memory), options, sink);
    (LogHandle { queue, health, readers: Arc::new(MemoryReaders { state }) }, stepper)
}

/// What records make, one after the other: the same records make the same.
pub struct Replica {
    state: State,
}

impl Replica {
    /// Begins a log.
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self { state: State::new(epoch) }
    }

    /// Applies the next record, and returns what it changed; `None` if that is nothing.
    ///
    /// # Errors
    /// If what was applied before contradicts itself.
    pub fn take(&mut self, record: &Record) -> Result<Option<Published>, StorageError> {
        Ok(self.state.take(record)?.published)
    }

    /// Returns what can be asked of it.
    #[must_use]
    pub const fn reads(&self) -> &dyn Reads {
        &self.state
    }
}

struct Memory {
    state: Arc<RwLock<State>>,
    disk: Box<dyn Disk>,
}

impl Backend for Memory {
    fn commit(&mut self, record: &Record) -> Result<Committed, StorageError> {
        let take = || self.state.write().unwrap_or_else(PoisonError::into_inner).take(record);
        if is_planted(Bug::AckBeforeCommit) {
            let taken = take();
            drop(self.disk.write(record).and_then(|()| self.disk.sync()));
            return taken;
        }
        if is_planted(Bug::PublishBeforeCommit) {
            let taken = take();
            self.disk.write(record)?;
            self.disk.sync()?;
            return taken;
        }
        self.disk.write(record)?;
        if !is_planted(Bug::NoSync) {
            self.disk.sync().map_err(|mut error| {
                if is_planted(Bug::FailedSyncRefused) {
                    error.kind = super::StorageErrorKind::Full;
                }
                error
            })?;
        }
        take()
    }

    fn probe(&mut self) -> Result<(), StorageError> {
        self.disk.probe()
    }

    fn tidy(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn close(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

struct MemoryReaders {
    state: Arc<RwLock<State>>,
}

impl Readers for MemoryReaders {
    fn run(&self, job: ReadJob) -> Pin<Box<dyn Future<Output = Result<(), LogError>> + Send + '_>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let outcome = job(&*state).map_err(|error| {
            tracing::error!(error = %error, "a read failed");
            LogError::Stopped
        });
        Box::pin(std::future::ready(outcome))
    }
}

/// One reaction to a post.
type Reacted = (ReactionPlace, String, UserId);

/// Everything, in order.
struct State {
    epoch: Epoch,
    lsn: Lsn,
    sends: HashMap<(UserId, ClientId), SendRow>,
    users: BTreeMap<UserId, UserRow>,
    skeletons: HashMap<String, UserId>,
    rooms: BTreeMap<RoomId, RoomRow>,
    names: BTreeMap<String, RoomId>,
    stays: BTreeMap<(RoomId, UserId, Seq), MemberRow>,
    /// Members by name, as they are listed.
    listed: BTreeMap<(RoomId, String), UserId>,
    joined: BTreeMap<(UserId, RoomId), Lsn>,
    events: BTreeMap<(RoomId, Seq), EventRow>,
    posts: BTreeMap<(RoomId, Seq), PostState>,
    user_events: BTreeMap<(UserId, Seq), UserEventRow>,
    reactions: BTreeMap<(RoomId, Seq), Vec<Reacted>>,
    sessions: HashMap<TokenHash, SessionRow>,
    marks: BTreeMap<(UserId, RoomId), ReadRow>,
}

impl State {
    fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            lsn: Lsn(0),
            sends: HashMap::new(),
            users: BTreeMap::new(),
            skeletons: HashMap::new(),
            rooms: BTreeMap::new(),
            names: BTreeMap::new(),
            stays: BTreeMap::new(),
            listed: BTreeMap::new(),
            joined: BTreeMap::new(),
            events: BTreeMap::new(),
            posts: BTreeMap::new(),
            user_events: BTreeMap::new(),
            reactions: BTreeMap::new(),
            sessions: HashMap::new(),
            marks: BTreeMap::new(),
        }
    }

    /// Applies a record.
    fn take(&mut self, record: &Record) -> Result<Committed, StorageError> {
        let before = self.lsn;
        let mut effects = Effects::default();
        let mut applied = Vec::with_capacity(record.entries.len());
        for entry in &record.entries {
            let lsn = Lsn(self.lsn.0 + 1);
            let outcome = apply(self, entry, lsn, &mut effects)?;
            if matches!(outcome, Applied::Committed(_)) {
                self.lsn = lsn;
            }
            applied.push(outcome);
        }
        let published = (self.lsn != before).then_some(Published { lsn: self.lsn, effects });
        Ok(Committed { applied, published })
    }

    fn summary(&self, user: UserId, row: &RoomRow) -> RoomSummary {
        RoomSummary {
            room: row.id,
            name: row.name.clone(),
            title: row.title.clone(),
            joined: self.joined.contains_key(&(user, row.id)),
            members: row.members,
            head: row.seq,
            posts: row.posts,
            read: self.marks.get(&(user, row.id)).map_or(0, |mark| mark.posts),
        }
    }

    fn gathered(&self, room: RoomId, post: Seq) -> Vec<Reaction> {
        let all = self.reactions.get(&(room, post)).into_iter().flatten();
        gather(all.map(|(_, emoji, user)| (emoji.clone(), *user)))
    }

    /// Returns a post as it stands; `seq` must be one's.
    fn stands(&self, event: &EventRow) -> Option<Post> {
        let state = self.posts.get(&(event.room, event.seq))?;
        let text = self.events.get(&(event.room, state.text_at)).map(|row| &row.body);
        Some(Post {
            seq: event.seq,
            rev: state.rev,
            ordinal: event.posts,
            by: event.by,
            client_id: event.key?,
            ts: event.ts,
            body: match text {
                Some(Body::Text(text)) => Some(text.clone()),
                Some(Body::None | Body::Blanked(_)) | None => None,
            },
            edited: state.edited,
            reactions: self.gathered(event.room, event.seq),
        })
    }
}

impl Tables for State {
    fn send(&self, by: UserId, key: ClientId) -> Result<Option<SendRow>, StorageError> {
        Ok(self.sends.get(&(by, key)).copied())
    }

    fn put_send(&mut self, by: UserId, key: ClientId, row: SendRow) -> Result<(), StorageError> {
        self.sends.insert((by, key), row);
        Ok(())
    }

    fn user(&self, id: UserId) -> Result<Option<UserRow>, StorageError> {
        Ok(self.users.get(&id).cloned())
    }

    fn user_by_skeleton(&self, skeleton: &str) -> Result<Option<UserId>, StorageError> {
        Ok(self.skeletons.get(skeleton).copied())
    }

    fn put_user(&mut self, row: &UserRow) -> Result<(), StorageError> {
        if let Some(before) = self.users.insert(row.id, row.clone()) {
            self.skeletons.remove(&before.skeleton);
        }
        self.skeletons.insert(row.skeleton.clone(), row.id);
        Ok(())
    }

    fn room(&self, id: RoomId) -> Result<Option<RoomRow>, StorageError> {
        Ok(self.rooms.get(&id).cloned())
    }

    fn room_by_name(&self, name: &str) -> Result<Option<RoomId>, StorageError> {
        Ok(self.names.get(name).copied())
    }

    fn put_room(&mut self, row: &RoomRow) -> Result<(), StorageError> {
        if let Some(before) = self.rooms.insert(row.id, row.clone())
            && before.state == RoomState::Open
        {
            self.names.remove(&before.name);
        }
        if row.state == RoomState::Open {
            self.names.insert(row.name.clone(), row.id);
        }
        Ok(())
    }

    fn stay(&self, room: RoomId, user: UserId) -> Result<Option<MemberRow>, StorageError> {
        let stays = self.stays.range((room, user, Seq(0))..=(room, user, Seq(u64::MAX)));
        Ok(stays.last().map(|(_, row)| *row))
    }

    fn put_stay(&mut self, row: &MemberRow, name: &str) -> Result<(), StorageError> {
        self.stays.insert((row.room, row.user, row.from_seq), *row);
        self.listed.retain(|(room, _), user| *room != row.room || *user != row.user);
        if row.to_seq.is_none() {
            self.listed.insert((row.room, name.to_owned()), row.user);
            self.joined.insert((row.user, row.room), row.lsn);
        } else {
            self.joined.remove(&(row.user, row.room));
        }
        Ok(())
    }

    fn rooms_joined(&self, user: UserId) -> Result<Vec<RoomId>, StorageError> {
        let rooms = self.joined.range((user, RoomId::from_bytes([0; 16]))..);
        Ok(rooms.take_while(|((of, _), _)| *of == user).map(|((_, room), _)| *room).collect())
    }

    fn members_of(&self, room: RoomId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StorageError> {
        self.member_ids(room, after, limit)
    }

    fn append_event(&mut self, row: &EventRow) -> Result<(), StorageError> {
        if row.kind == Kind::Posted {
            let state = PostState { rev: row.seq, text_at: row.seq, edited: None };
            self.posts.insert((row.room, row.seq), state);
        }
        self.events.insert((row.room, row.seq), row.clone());
        Ok(())
    }

    fn append_user_event(&mut self, row: &UserEventRow) -> Result<(), StorageError> {
        self.user_events.insert((row.user, row.seq), row.clone());
        Ok(())
    }

    fn post(&self, room: RoomId, seq: Seq) -> Result<Option<PostRow>, StorageError> {
        let (Some(event), Some(state)) = (self.events.get(&(room, seq)), self.posts.get(&(room, seq))) else {
            return Ok(None);
        };
        let life = match event.body {
            Body::Text(_) => PostLife::Kept,
            Body::None | Body::Blanked(_) => PostLife::Deleted,
        };
        Ok(Some(PostRow { by: event.by, life, state: *state }))
    }

    fn put_post_state(&mut self, room: RoomId, seq: Seq, state: PostState) -> Result<(), StorageError> {
        self.posts.insert((room, seq), state);
        Ok(())
    }

    fn blank_post(&mut self, room: RoomId, seq: Seq) -> Result<(), StorageError> {
        for (_, row) in self.events.range_mut((room, seq)..=(room, Seq(u64::MAX))) {
            if (row.seq == seq || (row.kind == Kind::Edited && row.target == Some(seq)))
                && let Body::Text(text) = &row.body
            {
                row.body = Body::Blanked(chain::text_hash(text));
            }
        }
        Ok(())
    }

    fn reaction(&self, room: RoomId, post: Seq, emoji: &str, user: UserId) -> Result<Option<Seq>, StorageError> {
        let all = self.reactions.get(&(room, post)).into_iter().flatten();
        Ok(all.clone().find(|(_, with, by)| with == emoji && *by == user).map(|(place, _, _)| place.at))
    }

    fn reaction_count(&self, room: RoomId, post: Seq, emoji: &str) -> Result<ReactionCount, StorageError> {
        let groups = self.gathered(room, post);
        let all = self.reactions.get(&(room, post)).into_iter().flatten();
        Ok(ReactionCount {
            all: all.clone().count() as u64,
            emojis: groups.len() as u64,
            since: all.clone().find(|(_, with, _)| with == emoji).map(|(place, _, _)| place.since),
        })
    }

    fn put_reaction(
        &mut self,
        room: RoomId,
        post: Seq,
        emoji: &str,
        user: UserId,
        place: ReactionPlace,
    ) -> Result<(), StorageError> {
        let all = self.reactions.entry((room, post)).or_default();
        all.push((place, emoji.to_owned(), user));
        all.sort_by_key(|(place, _, _)| *place);
        Ok(())
    }

    fn remove_reaction(&mut self, room: RoomId, post: Seq, emoji: &str, user: UserId) -> Result<(), StorageError> {
        if let Some(all) = self.reactions.get_mut(&(room, post)) {
            all.retain(|(_, with, by)| with != emoji || *by != user);
        }
        Ok(())
    }

    fn clear_reactions(&mut self, room: RoomId, post: Seq) -> Result<(), StorageError> {
        self.reactions.remove(&(room, post));
        Ok(())
    }

    fn session(&self, token: &TokenHash) -> Result<Option<SessionRow>, StorageError> {
        Ok(self.sessions.get(token).copied())
    }

    fn put_session(&mut self, token: &TokenHash, row: SessionRow) -> Result<(), StorageError> {
        self.sessions.insert(*token, row);
        Ok(())
    }

    fn remove_session(&mut self, token: &TokenHash) -> Result<(), StorageError> {
        self.sessions.remove(token);
        Ok(())
    }

    fn read_mark(&self, user: UserId, room: RoomId) -> Result<Option<ReadRow>, StorageError> {
        Ok(self.marks.get(&(user, room)).copied())
    }

    fn put_read_mark(&mut self, user: UserId, room: RoomId, row: ReadRow) -> Result<(), StorageError> {
        self.marks.insert((user, room), row);
        Ok(())
    }
}

impl Reads for State {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn lsn(&self) -> Result<Lsn, StorageError> {
        Ok(self.lsn)
    }

    fn head(&self, room: RoomId) -> Result<Option<RoomHead>, StorageError> {
        Ok(self.rooms.get(&room).map(|row| RoomHead {
            position: Position { epoch: self.epoch, seq: row.seq, check: row.check },
            posts: row.posts,
            lsn: row.lsn,
        }))
    }

    fn posts_before(
        &self,
        room: RoomId,
        before: Seq,
        limit: usize,
        visit: &mut dyn FnMut(Post) -> bool,
    ) -> Result<(), StorageError> {
        let posts = self.posts.range((room, Seq(0))..(room, before)).rev().take(limit);
        for (place, _) in posts {
            if let Some(post) = self.events.get(place).and_then(|event| self.stands(event))
                && !visit(post)
            {
                break;
            }
        }
        Ok(())
    }

    fn events_after(
        &self,
        room: RoomId,
        after: Seq,
        limit: usize,
        visit: &mut dyn FnMut(RoomEvent) -> bool,
    ) -> Result<(), StorageError> {
        let events = self.events.range((Bound::Excluded((room, after)), Bound::Included((room, Seq(u64::MAX)))));
        for (_, row) in events.take(limit) {
            if !visit(chain::event(row.clone())?) {
                break;
            }
        }
        Ok(())
    }

    fn check_at(&self, room: RoomId, seq: Seq) -> Result<Option<Check>, StorageError> {
        Ok(match seq {
            Seq(0) => self.rooms.contains_key(&room).then(Check::default),
            seq => self.events.get(&(room, seq)).map(|row| row.check),
        })
    }

    fn user_head(&self, user: UserId) -> Result<Option<Position>, StorageError> {
        Ok(self.users.get(&user).map(|row| Position { epoch: self.epoch, seq: row.seq, check: row.check }))
    }

    fn user_events(&self, user: UserId, after: Seq, limit: usize) -> Result<Vec<UserEvent>, StorageError> {
        let events = self.user_events.range((Bound::Excluded((user, after)), Bound::Included((user, Seq(u64::MAX)))));
        events.take(limit).map(|(_, row)| chain::user_event(row)).collect()
    }

    fn user_check_at(&self, user: UserId, seq: Seq) -> Result<Option<Check>, StorageError> {
        Ok(match seq {
            Seq(0) => self.users.contains_key(&user).then(Check::default),
            seq => self.user_events.get(&(user, seq)).map(|row| row.check),
        })
    }

    fn rooms_of(&self, user: UserId, since: Option<Lsn>) -> Result<Vec<RoomSummary>, StorageError> {
        let mut rooms = Vec::new();
        for room in self.rooms_joined(user)? {
            let Some(row) = self.rooms.get(&room) else { continue };
            let stay = self.joined.get(&(user, room)).copied().unwrap_or_default();
            let mark = self.marks.get(&(user, room)).map_or(Lsn(0), |mark| mark.lsn);
            if since.is_none_or(|since| row.lsn.max(stay).max(mark) > since) {
                rooms.push(self.summary(user, row));
            }
        }
        rooms.sort_by(|a, b| a.name.cmp(&b.name));
        rooms.truncate(limits::JOINED_ROOMS);
        Ok(rooms)
    }

    fn rooms_page(&self, user: UserId, after: Option<&str>, limit: usize) -> Result<Vec<RoomSummary>, StorageError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.names.range::<str, _>((from, Bound::Unbounded)).take(limit);
        Ok(names.filter_map(|(_, room)| self.rooms.get(room)).map(|row| self.summary(user, row)).collect())
    }

    fn room_by_name(&self, name: &str) -> Result<Option<RoomId>, StorageError> {
        Ok(self.names.get(name).copied())
    }

    fn room_summary(&self, user: UserId, room: RoomId) -> Result<Option<RoomSummary>, StorageError> {
        let row = self.rooms.get(&room).filter(|row| row.state == RoomState::Open);
        Ok(row.map(|row| self.summary(user, row)))
    }

    fn member(&self, room: RoomId, user: UserId) -> Result<Option<Membership>, StorageError> {
        let stay = self.stay(room, user)?.filter(|stay| stay.to_seq.is_none());
        Ok(stay.map(|stay| Membership { from_seq: stay.from_seq }))
    }

    fn members(&self, room: RoomId, after_name: Option<&str>, limit: usize) -> Result<Vec<Person>, StorageError> {
        let start = (room, after_name.unwrap_or("").to_owned());
        let from = if after_name.is_some() { Bound::Excluded(start) } else { Bound::Included(start) };
        let listed = self.listed.range((from, Bound::Unbounded)).take_while(|((of, _), _)| *of == room).take(limit);
        Ok(listed.map(|((_, name), id)| Person { id: *id, name: name.clone() }).collect())
    }

    fn member_count(&self, room: RoomId) -> Result<u64, StorageError> {
        Ok(self.rooms.get(&room).map_or(0, |row| row.members))
    }

    fn member_ids(&self, room: RoomId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StorageError> {
        let mut ids: Vec<UserId> = self
            .listed
            .range((room, String::new())..)
            .take_while(|((of, _), _)| *of == room)
            .map(|(_, id)| *id)
            .filter(|id| after.is_none_or(|after| *id > after))
            .collect();
        ids.sort_unstable();
        ids.truncate(limit);
        Ok(ids)
    }

    fn user(&self, user: UserId) -> Result<Option<Person>, StorageError> {
        Ok(self.users.get(&user).map(|row| Person { id: row.id, name: row.name.clone() }))
    }

    fn name_free(&self, skeleton: &str) -> Result<bool, StorageError> {
        Ok(!self.skeletons.contains_key(skeleton))
    }

    fn session(&self, token_hash: &TokenHash) -> Result<Option<SessionRow>, StorageError> {
        Ok(self.sessions.get(token_hash).copied())
    }
}
