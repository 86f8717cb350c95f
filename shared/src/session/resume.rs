//! Which streams a client follows and where it stands in each.
//!
//! Must not live here: sockets, or what an event means. Invariant: what is delivered from one stream is dense and in
//! order, across any number of connections; a hole appears only with an explicit snapshot.

use crate::planted::{Bug, is_planted};
use std::collections::BTreeMap;

use crate::cursor::{Cursor, Offer, Position};
use crate::ids::{Lsn, RoomId, Seq};
use crate::limits::OPEN_ROOMS;
use crate::message::{Hello, OpenRoom, Welcome};
use crate::model::{OpenOutcome, Opened, RoomEvent, UserEvent};

/// One followed room.
#[derive(Clone, Debug)]
struct Followed {
    cursor: Option<Cursor>,
    replay: bool,
    /// How many posts the room had when last heard of.
    posts: u64,
    /// The same at the time of the last loss.
    posts_at_loss: u64,
    phase: Phase,
    /// When the person opened it, as a count.
    opened: u64,
}

/// Where a followed room stands on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Asked for for the first time: nothing is shown yet, so nothing shown is stale.
    Asked,
    /// Asked for from a cursor: what is shown may be stale. Events wait for the answer.
    Resuming,
    /// Events come; caught up once the cursor is at `target`.
    Following { target: Seq },
}

/// What to do with an event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Deliver,
    Drop,
    /// Ask for the stream again from its cursor.
    Gap {
        expected: Seq,
    },
}

/// All streams of one session.
#[derive(Clone, Debug, Default)]
pub(super) struct Resume {
    user: Option<Cursor>,
    user_target: Seq,
    since: Option<Lsn>,
    rooms: BTreeMap<RoomId, Followed>,
    opened: u64,
    /// Events that came twice since last asked.
    pub(super) duplicates: u64,
}

impl Resume {
    /// Follows a room. Returns the room that had to give way, if there were too many.
    pub(super) fn open(&mut self, room: RoomId, cursor: Option<Position>, replay: bool) -> Option<RoomId> {
        self.opened += 1;
        let opened = self.opened;
        if let Some(followed) = self.rooms.get_mut(&room) {
            followed.opened = opened;
            return None;
        }
        let evicted = (self.rooms.len() >= OPEN_ROOMS)
            .then(|| self.rooms.iter().min_by_key(|(_, followed)| followed.opened).map(|(room, _)| *room))
            .flatten();
        if let Some(evicted) = evicted {
            self.rooms.remove(&evicted);
        }
        let phase = if cursor.is_some() { Phase::Resuming } else { Phase::Asked };
        let cursor = cursor.map(Cursor::at);
        self.rooms.insert(room, Followed { cursor, replay, posts: 0, posts_at_loss: 0, phase, opened });
        evicted
    }

    pub(super) fn is_open(&self, room: RoomId) -> bool {
        self.rooms.contains_key(&room)
    }

    pub(super) fn shut(&mut self, room: RoomId) -> bool {
        self.rooms.remove(&room).is_some()
    }

    /// Says how to ask for a followed room, and notes that it was asked for.
    pub(super) fn ask(&mut self, room: RoomId) -> Option<OpenRoom> {
        let followed = self.rooms.get_mut(&room)?;
        let cursor = followed.cursor.as_ref().map(Cursor::position);
        followed.phase = if cursor.is_some() { Phase::Resuming } else { Phase::Asked };
        Some(OpenRoom { room, cursor, replay: followed.replay })
    }

    /// Fills in where everything stands.
    pub(super) fn fill_hello(&mut self, hello: &mut Hello) {
        hello.user = self.user.as_ref().map(Cursor::position);
        hello.since = self.since;
        let rooms: Vec<RoomId> = self.rooms.keys().copied().collect();
        hello.rooms = rooms.into_iter().filter_map(|room| self.ask(room)).collect();
    }

    /// Takes over where the server says my own stream stands.
    pub(super) fn welcomed(&mut self, welcome: &Welcome) {
        self.user_target = welcome.user.seq;
        if self.user.is_none() || !welcome.user_recovered {
            self.user = Some(Cursor::at(welcome.user));
        }
        self.since = Some(welcome.server.lsn);
    }

    /// Takes over how a room goes on. Returns how many events are still to come, or nothing if the room is not followed.
    pub(super) fn opened(&mut self, opened: &Opened) -> Option<u64> {
        let followed = self.rooms.get_mut(&opened.room)?;
        let snapshot = match &opened.outcome {
            OpenOutcome::Recovered { head, missed } => {
                followed.phase = Phase::Following { target: *head };
                return Some(*missed);
            }
            OpenOutcome::Refused { .. } => {
                self.rooms.remove(&opened.room);
                return None;
            }
            OpenOutcome::Fresh { snapshot }
            | OpenOutcome::Jumped { snapshot, .. }
            | OpenOutcome::Reset { snapshot, .. } => snapshot,
        };
        if matches!(opened.outcome, OpenOutcome::Reset { .. }) {
            followed.posts_at_loss = followed.posts_at_loss.min(snapshot.total);
        }
        if followed.cursor.is_none() {
            followed.posts_at_loss = snapshot.total;
        }
        followed.cursor = Some(Cursor::at(snapshot.as_of));
        followed.posts = snapshot.total;
        followed.phase = Phase::Following { target: snapshot.as_of.seq };
        Some(0)
    }

    /// Judges a room's event and moves the cursor if it is to be delivered.
    pub(super) fn offer_room(&mut self, event: &RoomEvent) -> Verdict {
        let Some(followed) = self.rooms.get_mut(&event.room) else { return Verdict::Drop };
        let (Some(cursor), Phase::Following { .. }) = (&mut followed.cursor, followed.phase) else {
            return Verdict::Drop;
        };
        match cursor.offer(event.seq) {
            Offer::Deliver => {
                cursor.advance(event.seq, event.check);
                followed.posts = event.posts;
                Verdict::Deliver
            }
            Offer::Duplicate => {
                self.duplicates += 1;
                Verdict::Drop
            }
            Offer::Gap if is_planted(Bug::GapIgnored) => {
                *cursor = Cursor::at(Position { epoch: cursor.position().epoch, seq: event.seq, check: event.check });
                followed.posts = event.posts;
                Verdict::Deliver
            }
            Offer::Gap => Verdict::Gap { expected: cursor.seq().next() },
        }
    }

    /// Judges an event of my own stream and moves the cursor if it is to be delivered.
    pub(super) fn offer_user(&mut self, event: &UserEvent) -> Verdict {
        let Some(cursor) = &mut self.user else { return Verdict::Drop };
        match cursor.offer(event.seq) {
            Offer::Deliver => {
                cursor.advance(event.seq, event.check);
                Verdict::Deliver
            }
            Offer::Duplicate => {
                self.duplicates += 1;
                Verdict::Drop
            }
            Offer::Gap => Verdict::Gap { expected: cursor.seq().next() },
        }
    }

    /// Counts the events still to come; `None` where a room's answer is still awaited and the number is not known.
    pub(super) fn to_go(&self) -> Option<u64> {
        let mut to_go = self.user.map_or(0, |cursor| self.user_target.0.saturating_sub(cursor.seq().0));
        for followed in self.rooms.values() {
            match (followed.phase, &followed.cursor) {
                (Phase::Asked, _) => {}
                (Phase::Resuming, _) | (Phase::Following { .. }, None) => return None,
                (Phase::Following { target }, Some(cursor)) => {
                    to_go = to_go.saturating_add(target.0.saturating_sub(cursor.seq().0));
                }
            }
        }
        Some(to_go)
    }

    /// Notes that the connection is gone: every answer still awaited will not come.
    pub(super) fn lost(&mut self, first: FirstLoss) {
        for followed in self.rooms.values_mut() {
            followed.phase = if followed.cursor.is_some() { Phase::Resuming } else { Phase::Asked };
            match first {
                FirstLoss::Yes => followed.posts_at_loss = followed.posts,
                FirstLoss::Again => {}
            }
        }
    }

    /// Counts the posts that came since the last loss, one's own included.
    pub(super) fn posts_since_loss(&self) -> u64 {
        let since = self.rooms.values().map(|followed| followed.posts.saturating_sub(followed.posts_at_loss));
        since.fold(0, u64::saturating_add)
    }

    /// Returns where a followed room stands.
    pub(super) fn position(&self, room: RoomId) -> Option<Position> {
        self.rooms.get(&room)?.cursor.as_ref().map(Cursor::position)
    }
}

/// Whether a loss ends a time of being caught up, or follows another loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstLoss {
    Yes,
    Again,
}
