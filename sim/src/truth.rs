//! What is stored, known apart from the server: a replica made of the records that were synced, and what must be true of
//! it.
//!
//! Must not live here: what anybody was shown. Invariant: a history only grows; restoring a backup begins another.

use std::collections::BTreeMap;
use std::sync::Arc;

use server::log::{Entry, Op, Published, Record, Replica, Secret, TextHash};
use shared::ids::{ClientId, Epoch, Lsn, RoomId, Seq, UserId};
use shared::model::{Post, Reaction, RoomChange, RoomEvent};

/// The same in every world, so that a day is told by its seed alone; a backup holds it as well.
pub(crate) const TEXTS: TextHash = TextHash::keyed(Secret([8; 32]), Lsn(0));

/// Everything that one history of the log holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    rooms: BTreeMap<RoomId, Vec<Arc<RoomEvent>>>,
    /// Where the event of each send is, by who sent it and its key. A reaction that changed nothing has none.
    sends: BTreeMap<(UserId, ClientId), (RoomId, Seq)>,
    /// What changed a post after it came, in order.
    changes: BTreeMap<(RoomId, Seq), Vec<Seq>>,
    /// Who became a member where, or was one no longer, in order.
    stays: BTreeMap<(RoomId, UserId), Vec<(Seq, bool)>>,
    /// Joins, leaves and renames by their keys, and whether it was so once they were applied.
    done: BTreeMap<(UserId, ClientId), bool>,
    /// The heads that it began with: those of the backup that was restored.
    inherited: BTreeMap<RoomId, Seq>,
}

impl History {
    pub(crate) fn head(&self, room: RoomId) -> Seq {
        Seq(self.rooms.get(&room).map_or(0, |events| events.len() as u64))
    }

    pub(crate) fn event(&self, room: RoomId, seq: Seq) -> Option<&Arc<RoomEvent>> {
        let index = usize::try_from(seq.0.checked_sub(1)?).ok()?;
        self.rooms.get(&room)?.get(index)
    }

    /// Returns where the event of a send is.
    pub(crate) fn place(&self, by: UserId, key: ClientId) -> Option<(RoomId, Seq)> {
        self.sends.get(&(by, key)).copied()
    }

    fn changes(&self, room: RoomId, post: Seq) -> impl Iterator<Item = &RoomEvent> {
        let changes = self.changes.get(&(room, post)).into_iter().flatten();
        changes.filter_map(move |seq| self.event(room, *seq)).map(|event| &**event)
    }

    /// Returns where a post was deleted, if it was.
    pub(crate) fn deleted_at(&self, room: RoomId, post: Seq) -> Option<Seq> {
        self.changes(room, post).find(|event| matches!(event.change, RoomChange::Deleted(_))).map(|event| event.seq)
    }

    /// Returns a post as it stood at a moment of its room.
    pub(crate) fn post_at(&self, room: RoomId, seq: Seq, as_of: Seq) -> Option<Post> {
        let event = self.event(room, seq).filter(|_| seq <= as_of)?;
        let RoomChange::Posted(posted) = &event.change else { return None };
        let mut post = Post {
            seq,
            rev: seq,
            ordinal: event.posts,
            by: event.by.id,
            client_id: posted.client_id,
            ts: event.ts,
            body: posted.body.clone(),
            edited: None,
            reactions: Vec::new(),
        };
        for event in self.changes(room, seq).take_while(|event| event.seq <= as_of) {
            post.rev = event.seq;
            match &event.change {
                RoomChange::Edited(edited) => (post.body, post.edited) = (edited.body.clone(), Some(event.ts)),
                RoomChange::Deleted(_) => (post.body, post.edited, post.reactions) = (None, None, Vec::new()),
                RoomChange::Reacted(reacted) => react(&mut post.reactions, &reacted.emoji, event.by.id, reacted.on),
                _ => {}
            }
        }
        Some(post)
    }

    /// Tells whether somebody was a member of a room at a moment of it.
    pub(crate) fn is_member_at(&self, room: RoomId, user: UserId, seq: Seq) -> bool {
        let stays = self.stays.get(&(room, user)).into_iter().flatten();
        stays.take_while(|(at, _)| *at <= seq).last().is_some_and(|(_, is_member)| *is_member)
    }

    /// Tells whether there was a moment since then at which somebody was no member of a room.
    pub(crate) fn was_out_since(&self, room: RoomId, user: UserId, seq: Seq) -> bool {
        !self.is_member_at(room, user, seq) || self.has_left_after(room, user, seq)
    }

    /// Returns the head of a room that it began with.
    pub(crate) fn inherited(&self, room: RoomId) -> Seq {
        self.inherited.get(&room).copied().unwrap_or_default()
    }

    /// Tells whether a join, a leave or a rename was applied, and it was so then.
    pub(crate) fn is_done(&self, by: UserId, key: ClientId) -> bool {
        self.done.get(&(by, key)).copied().unwrap_or(false)
    }

    /// Counts the posts between two moments of a room, and those among them that are somebody's own.
    pub(crate) fn posts_between(&self, room: RoomId, after: Seq, to: Seq, me: UserId) -> (u64, u64) {
        let events = self.rooms.get(&room).into_iter().flatten().skip(after.0 as usize);
        let posts = events.take_while(|event| event.seq <= to).filter(|event| is_post(event));
        posts.fold((0, 0), |(all, own), event| (all + 1, own + u64::from(event.by.id == me)))
    }

    /// Returns how many posts it holds.
    pub(crate) fn posts(&self) -> u64 {
        self.rooms.keys().map(|room| self.posts_up_to(*room, self.head(*room))).sum()
    }

    /// Returns how many posts a room had at a seq.
    pub(crate) fn posts_up_to(&self, room: RoomId, seq: Seq) -> u64 {
        self.event(room, seq).map_or(0, |event| event.posts)
    }

    /// Tells whether a send was stored in this history, not inherited from the one before.
    fn stored_itself(&self, by: UserId, key: ClientId) -> bool {
        self.place(by, key).is_some_and(|(room, seq)| self.inherited.get(&room).is_none_or(|head| seq > *head))
    }

    /// Returns where a user's last membership of a room ended, if they are no member now.
    pub(crate) fn left_at(&self, room: RoomId, user: UserId) -> Option<Seq> {
        let (seq, is_member) = self.stays.get(&(room, user))?.last()?;
        (!is_member).then_some(*seq)
    }

    /// Tells whether somebody's membership ended after a seq.
    pub(crate) fn has_left_after(&self, room: RoomId, user: UserId, seq: Seq) -> bool {
        let stays = self.stays.get(&(room, user)).into_iter().flatten();
        stays.into_iter().any(|(at, is_member)| !is_member && *at > seq)
    }

    /// Takes what one entry of a record came to.
    fn take(&mut self, entry: &Entry, published: &Published) -> Result<(), String> {
        let is_send = matches!(entry.op, Op::Post { .. } | Op::Edit { .. } | Op::Delete { .. } | Op::React { .. });
        for event in &published.effects.room_events {
            let events = self.rooms.entry(event.room).or_default();
            if event.seq.0 != events.len() as u64 + 1 {
                return Err(format!("seq {} was stored after {} of {}", event.seq, events.len(), event.room));
            }
            if is_send {
                let place = (event.room, event.seq);
                if let Some(before) = self.sends.insert((entry.by, entry.key), place) {
                    return Err(format!("a send was stored twice, at {before:?} and at {place:?}"));
                }
            }
            match &event.change {
                RoomChange::Joined(_) | RoomChange::Created(_) => {
                    self.stays.entry((event.room, event.by.id)).or_default().push((event.seq, true));
                }
                RoomChange::Left(_) => {
                    self.stays.entry((event.room, event.by.id)).or_default().push((event.seq, false));
                }
                RoomChange::Kicked(kicked) => {
                    self.stays.entry((event.room, kicked.user.id)).or_default().push((event.seq, false));
                }
                change => {
                    if let Some(post) = changed_post(change) {
                        self.changes.entry((event.room, post)).or_default().push(event.seq);
                    }
                }
            }
            events.push(Arc::new(event.clone()));
        }
        Ok(())
    }
}

/// Returns which post a change alters.
pub(crate) fn changed_post(change: &RoomChange) -> Option<Seq> {
    match change {
        RoomChange::Edited(edited) => Some(edited.post),
        RoomChange::Deleted(deleted) => Some(deleted.post),
        RoomChange::Reacted(reacted) => Some(reacted.post),
        _ => None,
    }
}

const fn is_post(event: &RoomEvent) -> bool {
    matches!(event.change, RoomChange::Posted(_))
}

/// Adds a reaction, or takes it back.
fn react(reactions: &mut Vec<Reaction>, emoji: &str, by: UserId, on: bool) {
    match reactions.iter_mut().find(|reaction| reaction.emoji == emoji) {
        Some(reaction) if on => reaction.by.push(by),
        Some(reaction) => reaction.by.retain(|other| *other != by),
        None if on => reactions.push(Reaction { emoji: emoji.to_owned(), by: vec![by] }),
        None => {}
    }
    reactions.retain(|reaction| !reaction.by.is_empty());
}

/// Tells of a join, a leave or a rename whether it is so.
fn is_so(replica: &Replica, entry: &Entry) -> Result<Option<bool>, String> {
    let reads = replica.reads();
    let is_so = match &entry.op {
        Op::Join { room } => reads.member(*room, entry.by).map(|member| Some(member.is_some())),
        Op::Leave { room } => reads.member(*room, entry.by).map(|member| Some(member.is_none())),
        Op::UserSet { user, name, .. } => {
            reads.user(*user).map(|person| Some(person.is_some_and(|person| person.name == *name)))
        }
        _ => Ok(None),
    };
    is_so.map_err(|error| format!("the replica cannot be read: {error}"))
}

/// The replica and all histories so far.
pub(crate) struct Truth {
    epoch: Epoch,
    pub(crate) replica: Replica,
    /// Records that are in the replica.
    taken: usize,
    histories: Vec<History>,
}

impl Truth {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self { epoch, replica: Replica::new(epoch, TEXTS), taken: 0, histories: vec![History::default()] }
    }

    /// Takes what has been synced since the last time.
    ///
    /// # Errors
    /// In words, if it must not be.
    pub(crate) fn follow(&mut self, records: &[Record]) -> Result<(), String> {
        for record in &records[self.taken..] {
            self.taken += 1;
            // One by one, so that it is known which event came of which request.
            for entry in &record.entries {
                let alone = Record { v: record.v, entries: vec![entry.clone()] };
                let published = self.replica.take(&alone);
                let published = published.map_err(|error| format!("a record does not apply: {error}"))?;
                let Some(history) = self.histories.last_mut() else { continue };
                if let Some(published) = published {
                    history.take(entry, &published)?;
                }
                if let Some(is_so) = is_so(&self.replica, entry)? {
                    history.done.insert((entry.by, entry.key), is_so);
                }
            }
        }
        Ok(())
    }

    /// Begins another history, of these records.
    ///
    /// # Errors
    /// As [`Truth::follow`].
    pub(crate) fn begin_again(&mut self, records: &[Record]) -> Result<(), String> {
        (self.replica, self.taken) = (Replica::new(self.epoch, TEXTS), 0);
        self.histories.push(History::default());
        self.follow(records)?;
        if let Some(newest) = self.histories.last_mut() {
            newest.inherited = newest.rooms.keys().map(|room| (*room, newest.head(*room))).collect();
        }
        Ok(())
    }

    /// Returns how many records have been taken.
    pub(crate) const fn taken(&self) -> usize {
        self.taken
    }

    /// Returns the number of the newest history.
    pub(crate) fn newest(&self) -> usize {
        self.histories.len() - 1
    }

    pub(crate) fn now(&self) -> &History {
        &self.histories[self.newest()]
    }

    pub(crate) fn history(&self, number: usize) -> &History {
        &self.histories[number]
    }

    /// Tells whether a restored backup had lost a send, and a device that still had it sent it again: then its place is
    /// another than the one that was acknowledged, behind posts that were written later.
    pub(crate) fn came_back(&self, by: UserId, key: ClientId) -> bool {
        self.histories.iter().enumerate().any(|(number, history)| {
            history.stored_itself(by, key) && self.histories[..number].iter().any(|old| old.place(by, key).is_some())
        })
    }

    /// Tells whether a send was in a history that is not the newest, and is not in that.
    pub(crate) fn was_lost(&self, by: UserId, key: ClientId) -> bool {
        self.now().place(by, key).is_none() && self.histories.iter().any(|history| history.place(by, key).is_some())
    }
}
