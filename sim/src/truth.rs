//! What is stored, known apart from the server: a replica made of the records that were synced, and what must be true of
//! it.
//!
//! Must not live here: what anybody was shown. Invariant: a history only grows; restoring a backup begins another.

use std::collections::BTreeMap;
use std::sync::Arc;

use server::log::{Entry, Op, Published, Record, Replica, Secret, TextHash};
use shared::ids::{ClientId, Epoch, Lsn, RoomId, Seq, UserId};
use shared::model::{RoomChange, RoomEvent};

/// The same in every world, so that a day is told by its seed alone; a backup holds it as well.
pub(crate) const TEXTS: TextHash = TextHash::keyed(Secret([8; 32]), Lsn(0));

/// Everything that one history of the log holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    rooms: BTreeMap<RoomId, Vec<Arc<RoomEvent>>>,
    /// Where the event of each send is, by who sent it and its key. A reaction that changed nothing has none.
    sends: BTreeMap<(UserId, ClientId), (RoomId, Seq)>,
    /// Where posts were deleted.
    deletions: BTreeMap<(RoomId, Seq), Seq>,
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

    /// Returns where a post was deleted, if it was.
    pub(crate) fn deleted_at(&self, room: RoomId, post: Seq) -> Option<Seq> {
        self.deletions.get(&(room, post)).copied()
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
        let events = self.rooms.get(&room).into_iter().flatten().rev();
        let mut last = events.filter_map(|event| match &event.change {
            RoomChange::Joined(_) | RoomChange::Created(_) if event.by.id == user => Some(None),
            RoomChange::Left(_) if event.by.id == user => Some(Some(event.seq)),
            RoomChange::Kicked(kicked) if kicked.user.id == user => Some(Some(event.seq)),
            _ => None,
        });
        last.next().flatten()
    }

    /// Tells whether somebody's membership ended after a seq.
    pub(crate) fn has_left_after(&self, room: RoomId, user: UserId, seq: Seq) -> bool {
        let events = self.rooms.get(&room).into_iter().flatten().skip(seq.0 as usize);
        events.into_iter().any(|event| matches!(event.change, RoomChange::Left(_)) && event.by.id == user)
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
            if let RoomChange::Deleted(deleted) = &event.change {
                self.deletions.insert((event.room, deleted.post), event.seq);
            }
            events.push(Arc::new(event.clone()));
        }
        Ok(())
    }
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
                if let (Some(published), Some(history)) = (published, self.histories.last_mut()) {
                    history.take(entry, &published)?;
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
