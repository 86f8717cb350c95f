//! Which streams a client follows and where it stands in each.
//!
//! Must not live here: sockets, or what an event means. Invariant: what is delivered from one stream is dense and in
//! order, across any number of connections; a hole appears only with an explicit snapshot.

use std::cmp::Reverse;

use crate::planted::{Bug, is_planted};
use crate::sorted::{SortedMap, SortedSet};

use crate::cursor::{Cursor, Offer, Position};
use crate::ids::{Lsn, RoomId, Seq, UserId};
use crate::limits::OPEN_ROOMS;
use crate::message::{Hello, OpenRoom, Welcome};
use crate::model::{OpenOutcome, Opened, ResetReason, RoomChange, RoomEvent, UserEvent};
use crate::time::Timestamp;

use super::outbox::{RESEND_CAP_MS, RESEND_MS};

/// What is said again of rooms is said at least this far apart, in milliseconds: a server counts every message.
const AGAIN_EVERY_MS: u64 = 100;

/// One followed room.
#[derive(Clone, Debug)]
struct Followed {
    cursor: Option<Cursor>,
    replay: bool,
    /// How many posts the room had when last heard of.
    posts: u64,
    /// How many posts of others came since the last loss.
    received: u64,
    phase: Phase,
    /// When the person opened it, as a count.
    opened: u64,
    /// The room's log has lost what it acknowledged: the cursor is not to be offered again.
    has_lost: bool,
}

/// What the answer to opening a room came to.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    /// The room is not followed.
    NotFollowed,
    /// It goes on from there; so many events are still to come.
    Goes(Opened, u64),
    /// The log has lost what it acknowledged: ask again, for a snapshot.
    Lost,
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
    rooms: SortedMap<RoomId, Followed>,
    opened: u64,
    /// The newest seq that was acknowledged on this connection, where the events have not come that far.
    acknowledged: SortedMap<RoomId, Seq>,
    /// The same of earlier connections, until the events have come that far: a log that ends before it is not the one it was.
    owed: SortedMap<RoomId, Seq>,
    /// Rooms of which the server has yet to be told on this connection: to be asked for where they are followed, else left.
    /// At most those that were opened on it.
    again: SortedSet<RoomId>,
    /// When the next of them may be said.
    again_at: Timestamp,
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
        self.rooms.insert(room, Followed { cursor, replay, posts: 0, received: 0, phase, opened, has_lost: false });
        evicted
    }

    pub(super) fn is_open(&self, room: RoomId) -> bool {
        self.rooms.contains_key(&room)
    }

    pub(super) fn shut(&mut self, room: RoomId) -> bool {
        self.rooms.remove(&room).is_some()
    }

    pub(super) fn followed(&self) -> usize {
        self.rooms.len()
    }

    /// Notes that the server is to be told of a room, as it then is, once `wait` milliseconds are over.
    pub(super) fn tell_later(&mut self, room: RoomId, wait: u64, now: Timestamp) {
        self.again.insert(room);
        self.again_at = self.again_at.max(now.plus(wait));
    }

    /// Notes that what was said of a room was refused for now.
    pub(super) fn refused(&mut self, room: RoomId, retry_after_ms: Option<u64>, now: Timestamp) {
        self.tell_later(room, retry_after_ms.unwrap_or(RESEND_MS).clamp(AGAIN_EVERY_MS, RESEND_CAP_MS), now);
    }

    /// Notes that the server is told of a room.
    pub(super) fn told(&mut self, room: RoomId) {
        self.again.remove(&room);
    }

    /// Returns when something is said again of a room.
    pub(super) fn again_at(&self) -> Option<Timestamp> {
        self.again.iter().next().map(|_| self.again_at)
    }

    /// Chooses the room that is told of next. Those that were left first, since the server counts them as open, then the
    /// one opened last: it is what the person looks at.
    pub(super) fn next_again(&mut self, now: Timestamp) -> Option<RoomId> {
        if now < self.again_at {
            return None;
        }
        let rank = |room: &&RoomId| self.rooms.get(room).map(|followed| Reverse(followed.opened));
        let room = self.again.iter().min_by_key(rank).copied()?;
        self.again_at = now.plus(AGAIN_EVERY_MS);
        Some(room)
    }

    /// Says how to ask for a followed room, and notes that it was asked for.
    pub(super) fn ask(&mut self, room: RoomId) -> Option<OpenRoom> {
        let followed = self.rooms.get_mut(&room)?;
        let cursor = followed.cursor.as_ref().map(Cursor::position);
        followed.phase = if cursor.is_some() { Phase::Resuming } else { Phase::Asked };
        Some(OpenRoom { room, cursor: cursor.filter(|_| !followed.has_lost), replay: followed.replay })
    }

    /// Fills in where everything stands.
    pub(super) fn fill_hello(&mut self, hello: &mut Hello) {
        hello.user = self.user.as_ref().map(Cursor::position);
        hello.since = self.since;
        (self.again, self.again_at) = Default::default();
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

    /// Notes that a send is stored. Until its event has come, the cursor alone does not say how far the log had got.
    pub(super) fn acknowledged(&mut self, room: RoomId, seq: Seq) {
        if self.position(room).is_none_or(|position| position.seq < seq) {
            let newest = self.acknowledged.get_or_default(room);
            *newest = seq.max(*newest);
        }
    }

    /// Takes over how a room goes on. A log that ends before what it acknowledged on an earlier connection has lost it,
    /// even if it holds the cursor: the room is then reset, as it is for a cursor that is ahead.
    pub(super) fn opened(&mut self, mut opened: Opened, me: UserId) -> Heard {
        let room = opened.room;
        let Some(followed) = self.rooms.get_mut(&room) else { return Heard::NotFollowed };
        let has_lost = |head: Seq| self.owed.get(&room).is_some_and(|owed| *owed > head);
        opened.outcome = match opened.outcome {
            OpenOutcome::Recovered { head, .. } if has_lost(head) => {
                followed.has_lost = true;
                return Heard::Lost;
            }
            OpenOutcome::Fresh { snapshot } | OpenOutcome::Jumped { snapshot, .. }
                if followed.has_lost || has_lost(snapshot.as_of.seq) =>
            {
                OpenOutcome::Reset { reason: ResetReason::Ahead, snapshot }
            }
            as_it_is => as_it_is,
        };
        let hole = if let OpenOutcome::Jumped { hole, .. } = &opened.outcome { *hole } else { 0 };
        let (snapshot, is_reset) = match &opened.outcome {
            OpenOutcome::Recovered { head, missed } => {
                followed.phase = Phase::Following { target: *head };
                let missed = *missed;
                return Heard::Goes(opened, missed);
            }
            OpenOutcome::Refused { .. } => {
                self.owed.remove(&room);
                return Heard::NotFollowed;
            }
            OpenOutcome::Fresh { snapshot } | OpenOutcome::Jumped { snapshot, .. } => (snapshot, false),
            OpenOutcome::Reset { snapshot, .. } => (snapshot, true),
        };
        let received = match &followed.cursor {
            None => 0,
            Some(_) if is_reset => {
                let own = snapshot.posts.iter().filter(|post| post.by == me && post.ordinal > followed.posts);
                snapshot.total.saturating_sub(followed.posts).saturating_sub(own.count() as u64)
            }
            // Of what a hole leaves out nobody says whose it is.
            Some(cursor) => {
                let newer = snapshot.posts.iter().filter(|post| post.seq > cursor.seq());
                hole.saturating_add(newer.filter(|post| post.by != me).count() as u64)
            }
        };
        followed.received = followed.received.saturating_add(received);
        self.owed.remove(&room);
        followed.cursor = Some(Cursor::at(snapshot.as_of));
        followed.has_lost = false;
        followed.posts = snapshot.total;
        followed.phase = Phase::Following { target: snapshot.as_of.seq };
        Heard::Goes(opened, 0)
    }

    /// Judges a room's event and moves the cursor if it is to be delivered.
    pub(super) fn offer_room(&mut self, event: &RoomEvent, me: UserId) -> Verdict {
        let Some(followed) = self.rooms.get_mut(&event.room) else { return Verdict::Drop };
        let (Some(cursor), Phase::Following { .. }) = (&mut followed.cursor, followed.phase) else {
            return Verdict::Drop;
        };
        match cursor.offer(event.seq) {
            Offer::Deliver => {
                cursor.advance(event.seq, event.check);
                followed.posts = event.posts;
                if event.by.id != me && matches!(event.change, RoomChange::Posted(_)) {
                    followed.received = followed.received.saturating_add(1);
                }
                for acknowledged in [&mut self.acknowledged, &mut self.owed] {
                    if acknowledged.get(&event.room).is_some_and(|seq| *seq <= event.seq) {
                        acknowledged.remove(&event.room);
                    }
                }
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
        for (room, seq) in std::mem::take(&mut self.acknowledged) {
            let owed = self.owed.get_or_default(room);
            *owed = seq.max(*owed);
        }
        for followed in self.rooms.values_mut() {
            followed.phase = if followed.cursor.is_some() { Phase::Resuming } else { Phase::Asked };
            match first {
                FirstLoss::Yes => followed.received = 0,
                FirstLoss::Again => {}
            }
        }
    }

    /// Counts the posts of others that came since the last loss.
    pub(super) fn received_since_loss(&self) -> u64 {
        self.rooms.values().map(|followed| followed.received).fold(0, u64::saturating_add)
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
