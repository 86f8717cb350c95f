//! A device: the real session and timelines, what it keeps, and what the person was shown.
//!
//! Must not live here: links, or when anything happens. Invariant: what the person was shown is taken from the session's
//! events alone, as the page and the command line take it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use server::log::{GENERAL, TokenHash};
use shared::cursor::Position;
use shared::ids::{AttemptId, ClientId, RoomId, Seq, SessionId, UserId};
use shared::model::{OpenOutcome, Opened, RoomEvent, RoomSummary, UserChange};
use shared::session::{ConnectionState, OutboxItem, Persist, RequestTag, STABLE_MS, SendOp, Session, SessionConfig};
use shared::time::Timestamp;
use shared::timeline::Timeline;

use super::host::ASIDE;
use crate::chance::Chance;
use crate::heap::{self, Owner};

/// What kind of client it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A tab of the browser with this number: its tabs share what is kept.
    Tab {
        /// Which browser.
        browser: usize,
    },
    /// A program that keeps its place and never jumps.
    Program,
}

/// What is unsent on a machine, by who keeps it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    pub(super) items: BTreeMap<(u64, ClientId), OutboxItem>,
}

/// A room as it is shown.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) timeline: Timeline,
    /// The last event that was given to the page; unknown before the room is opened.
    pub(crate) given: Option<Seq>,
    /// In which history of the log.
    pub(crate) history: usize,
    /// Where the room stood when it was last opened.
    pub(crate) goal: Seq,
    /// The room is followed.
    pub(crate) is_open: bool,
    /// A page of it has been asked for.
    pub(crate) asked: Option<Seq>,
}

/// Whether a device does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awake {
    Yes,
    /// Its machine sleeps, or its page is frozen.
    No {
        /// It will say that it woke.
        says: bool,
    },
    /// The tab is closed, the program not running.
    Closed,
}

/// One device and its person.
pub(crate) struct Device {
    pub(crate) number: usize,
    pub(crate) user: UserId,
    pub(crate) token: TokenHash,
    pub(crate) kind: Kind,
    pub(crate) session: Session,
    pub(crate) rooms: BTreeMap<RoomId, Shown>,
    /// Rooms the person is a member of, as far as they were told.
    pub(crate) joined: BTreeSet<RoomId>,
    pub(crate) life: u64,
    pub(super) awake: Awake,
    pub(super) has_network: bool,
    pub(super) hidden_since: Option<u64>,
    /// The session was told so, and not yet the opposite.
    pub(super) told_hidden: bool,
    /// The session was told that there is no network, and not yet the opposite.
    pub(super) told_offline: bool,
    pub(super) keeps: bool,
    pub(super) wall_ms: i64,
    /// Between the world's time and this device's.
    pub(super) clock_ms: u64,
    pub(super) thin_until: u64,
    pub(super) links: BTreeMap<AttemptId, u64>,
    pub(super) saves: VecDeque<(u64, Persist)>,
    pub(super) timer: u64,
    pub(super) timer_at: Option<u64>,
    /// What was written, by the life and the room it was written in, in order.
    pub(crate) written: BTreeMap<(u64, RoomId), Vec<ClientId>>,
    /// What each of it was.
    pub(crate) sends: BTreeMap<ClientId, SendOp>,
    pub(crate) poison: BTreeSet<ClientId>,
    /// What the person was told is on the device.
    pub(crate) saved: BTreeSet<ClientId>,
    pub(crate) acked: BTreeMap<ClientId, Seq>,
    /// Items that are queued, by what the person was told.
    pub(crate) queued: BTreeSet<ClientId>,
    /// Where its history, and the other room, stood when each was written.
    pub(crate) written_at: BTreeMap<ClientId, (usize, Seq)>,
    /// What it was told is stored where, and whose event has not come: the newest of a history and a room.
    pub(crate) told_stored: BTreeMap<(usize, RoomId), Seq>,
    /// How many posts rooms have, and how many of them are read, by what the person was told or marked.
    pub(crate) posts: BTreeMap<RoomId, u64>,
    pub(crate) read: BTreeMap<RoomId, u64>,
    /// In which history it was told of every room it is in.
    pub(crate) counts_of: usize,
    /// Where the person's own stream stood when a welcome listed a room last.
    pub(super) listed: BTreeMap<RoomId, Seq>,
    /// Where each followed room stood when a connection that had caught up was lost; nothing where it began anew since.
    pub(crate) at_loss: BTreeMap<RoomId, Option<Seq>>,
    /// What was acknowledged since.
    pub(crate) acked_since_loss: u64,
    /// The connection has caught up.
    pub(super) has_caught_up: bool,
    /// When the connection was welcomed.
    pub(super) welcomed_at: Option<u64>,
    /// When connections that had been welcomed were lost, within the last minute.
    pub(crate) losses: VecDeque<u64>,
    /// What was asked under which tag, with which key.
    pub(super) requests: BTreeMap<RequestTag, ClientId>,
    /// What the person was told of their storage.
    pub(crate) storage_told: bool,
    /// Taken back or forgotten by the person, or never taken by a full outbox.
    pub(crate) discarded: BTreeSet<ClientId>,
    /// Where a program goes on, and in which history of the log that is.
    pub(super) places: BTreeMap<RoomId, (Position, usize)>,
    /// When attempts to connect began, within the last minute; and when somebody gave a reason to try at once.
    pub(crate) attempts: VecDeque<u64>,
    pub(crate) nudges: VecDeque<u64>,
    pub(super) keys: u64,
    /// Waits in a row that were the longest that could be drawn.
    pub(crate) longest_waits: u32,
}

impl Device {
    pub(super) fn new(number: usize, seed: u64) -> Self {
        let (person, kind) = match number {
            0 | 1 => (1, Kind::Tab { browser: 0 }),
            2 => (2, Kind::Tab { browser: 1 }),
            _ => (2, Kind::Program),
        };
        let user = UserId::from_bytes([person; 16]);
        Self {
            number,
            user,
            token: [number as u8 + 1; 32],
            kind,
            session: heap::of(Owner::Session, || Session::new(config(user, number, 0, seed))),
            rooms: BTreeMap::new(),
            joined: BTreeSet::new(),
            life: 0,
            awake: Awake::Closed,
            has_network: true,
            hidden_since: None,
            told_hidden: false,
            told_offline: false,
            keeps: true,
            wall_ms: 0,
            clock_ms: seed % 1_000_000,
            thin_until: 0,
            links: BTreeMap::new(),
            saves: VecDeque::new(),
            timer: 0,
            timer_at: None,
            written: BTreeMap::new(),
            sends: BTreeMap::new(),
            poison: BTreeSet::new(),
            saved: BTreeSet::new(),
            acked: BTreeMap::new(),
            queued: BTreeSet::new(),
            written_at: BTreeMap::new(),
            told_stored: BTreeMap::new(),
            posts: BTreeMap::new(),
            read: BTreeMap::new(),
            counts_of: 0,
            listed: BTreeMap::new(),
            at_loss: BTreeMap::new(),
            acked_since_loss: 0,
            has_caught_up: false,
            welcomed_at: None,
            losses: VecDeque::new(),
            requests: BTreeMap::new(),
            storage_told: true,
            discarded: BTreeSet::new(),
            places: BTreeMap::new(),
            attempts: VecDeque::new(),
            nudges: VecDeque::new(),
            keys: 0,
            longest_waits: 0,
        }
    }

    /// Begins anew, as a tab does that is opened again.
    pub(super) fn begin_life(&mut self, seed: u64) {
        self.life += 1;
        self.session = heap::of(Owner::Session, || Session::new(config(self.user, self.number, self.life, seed)));
        self.rooms.clear();
        self.joined.clear();
        self.links.clear();
        self.saves.clear();
        self.queued.clear();
        self.attempts.clear();
        self.nudges.clear();
        self.told_stored.clear();
        self.posts.clear();
        self.listed.clear();
        self.read.clear();
        self.at_loss.clear();
        self.losses.clear();
        self.requests.clear();
        (self.acked_since_loss, self.has_caught_up) = (0, false);
        (self.welcomed_at, self.storage_told) = (None, true);
        self.timer += 1;
        self.timer_at = None;
        self.hidden_since = None;
        (self.told_hidden, self.told_offline) = (false, false);
        self.awake = Awake::Yes;
    }

    /// Names what this life keeps on the shelf.
    pub(super) const fn partition(&self) -> u64 {
        self.number as u64 * 1_000 + self.life
    }

    /// Returns which shelf it keeps things on.
    pub(super) const fn shelf(&self) -> usize {
        match self.kind {
            Kind::Tab { browser } => browser,
            Kind::Program => 2,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.awake == Awake::Yes
    }

    pub(crate) fn is_awake(&self) -> bool {
        self.is_up()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.awake == Awake::Closed
    }

    /// Nothing of its own is on its way.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_up() && self.saves.is_empty()
    }

    /// Returns how long the page has been hidden.
    pub(crate) fn hidden_for(&self, now: u64) -> Option<u64> {
        self.hidden_since.map(|since| now - since)
    }

    /// Returns the device's own time.
    pub(super) const fn time(&self, now: u64) -> Timestamp {
        Timestamp(now + self.clock_ms)
    }

    /// Rooms this device follows while its person is a member.
    pub(crate) fn wants(&self, room: RoomId) -> bool {
        room == GENERAL || (room == ASIDE && self.number != 1)
    }

    pub(super) fn next_key(&mut self, chance: &mut Chance) -> ClientId {
        self.keys += 1;
        let mut random = [0; 10];
        chance.fill(&mut random);
        ClientId::from_parts(Timestamp(self.keys), random)
    }

    /// Returns the last event of a room that was given to it, and in which history of the log.
    pub(crate) fn stands_at(&self, room: RoomId) -> Option<(Seq, usize)> {
        let shown = self.rooms.get(&room).and_then(|shown| Some((shown.given?, shown.history)));
        shown.or_else(|| self.places.get(&room).map(|(place, history)| (place.seq, *history)))
    }

    /// Takes what a room was opened with, in a history of the log.
    pub(super) fn opened(&mut self, opened: &Opened, history: usize) {
        let me = self.user;
        let shown = self.rooms.entry(opened.room).or_insert_with(|| Shown::new(me));
        if !matches!(opened.outcome, OpenOutcome::Refused { .. }) {
            shown.history = history;
        }
        match &opened.outcome {
            OpenOutcome::Recovered { head, .. } => {
                shown.goal = *head;
                shown.is_open = true;
                if shown.given.is_none() {
                    // A program that goes on from where it was.
                    shown.given = Some(self.places.get(&opened.room).map_or(Seq(0), |(place, _)| place.seq));
                }
            }
            OpenOutcome::Fresh { snapshot }
            | OpenOutcome::Jumped { snapshot, .. }
            | OpenOutcome::Reset { snapshot, .. } => {
                (shown.given, shown.goal, shown.is_open) = (Some(snapshot.as_of.seq), snapshot.as_of.seq, true);
                if let Some(at_loss) = self.at_loss.get_mut(&opened.room) {
                    *at_loss = None;
                }
                self.told_stored.retain(|(_, room), _| *room != opened.room);
                if self.kind == Kind::Program {
                    self.places.insert(opened.room, (snapshot.as_of, history));
                }
            }
            OpenOutcome::Refused { .. } => {
                shown.is_open = false;
                // Let in again, it begins anew.
                self.places.remove(&opened.room);
            }
        }
        heap::of(Owner::Page, || shown.timeline.opened(opened));
    }

    /// Takes an event of a room, in a history of the log. Returns the seq that should have come, if it is another.
    pub(super) fn event(&mut self, event: &RoomEvent, history: usize) -> Result<(), Option<Seq>> {
        let me = self.user;
        let shown = self.rooms.entry(event.room).or_insert_with(|| Shown::new(me));
        let expected = shown.given.map(Seq::next);
        (shown.given, shown.history) = (Some(event.seq), history);
        self.told_stored.retain(|(_, room), seq| *room != event.room || *seq > event.seq);
        heap::of(Owner::Page, || shown.timeline.event(event));
        if self.kind == Kind::Program
            && let Some(place) = self.session.position(event.room)
        {
            self.places.insert(event.room, (place, history));
        }
        if expected == Some(event.seq) { Ok(()) } else { Err(expected) }
    }

    /// Takes a change in what is the person's own. Returns a room to be opened or shut because of it.
    pub(super) fn own_change(&mut self, change: &UserChange, seq: Seq) -> Option<(RoomId, bool)> {
        match change {
            UserChange::RoomAdded(added) => {
                // A welcome that listed it may know of more.
                if self.joined.insert(added.room) {
                    self.posts.insert(added.room, added.posts);
                    self.read.insert(added.room, added.posts);
                }
                self.wants(added.room).then_some((added.room, true))
            }
            // A room that a welcome listed after they had left it is one they have come back to.
            UserChange::RoomRemoved(removed) if self.listed.get(&removed.room) >= Some(&seq) => None,
            UserChange::RoomRemoved(removed) => {
                self.drop_room(removed.room);
                Some((removed.room, false))
            }
            UserChange::Named(_) | UserChange::Unknown(_) => None,
        }
    }

    /// Takes which rooms the person is a member of, as the page does. Returns those to be opened and those to be shut.
    pub(super) fn rooms_are(&mut self, rooms: &[RoomSummary], complete: bool, as_of: Seq) -> Vec<(RoomId, bool)> {
        let is_joined = |room: &RoomId| rooms.iter().any(|told| told.room == *room && told.joined);
        let is_told = |room: &RoomId| complete || rooms.iter().any(|told| told.room == *room);
        let known: BTreeSet<RoomId> = self.rooms.keys().chain(&self.joined).copied().collect();
        let gone: Vec<RoomId> = known.into_iter().filter(|room| is_told(room) && !is_joined(room)).collect();
        gone.iter().for_each(|room| self.drop_room(*room));
        for room in rooms.iter().filter(|room| room.joined) {
            self.joined.insert(room.room);
            self.listed.insert(room.room, as_of);
            self.posts.insert(room.room, room.posts);
            let read = self.read.entry(room.room).or_default();
            *read = room.read.max(*read).min(room.posts);
        }
        let opens = self.joined.iter().filter(|room| self.wants(**room)).map(|room| (*room, true));
        gone.into_iter().map(|room| (room, false)).chain(opens).collect()
    }

    fn drop_room(&mut self, room: RoomId) {
        self.joined.remove(&room);
        self.rooms.remove(&room);
        self.posts.remove(&room);
        self.listed.remove(&room);
        self.read.remove(&room);
        self.at_loss.remove(&room);
        self.places.remove(&room);
    }

    /// Notes that the connection is gone. Returns whether it was a good one for long.
    pub(super) fn lost(&mut self, now: u64) -> bool {
        if std::mem::take(&mut self.has_caught_up) {
            let rooms = self.rooms.iter().filter(|(_, shown)| shown.is_open);
            self.at_loss = rooms.map(|(room, shown)| (*room, shown.given)).collect();
            self.acked_since_loss = 0;
        }
        let Some(since) = self.welcomed_at.take() else { return false };
        self.losses.retain(|at| at + 60_000 > now);
        self.losses.push_back(now);
        now - since >= STABLE_MS
    }

    /// Calls `each` for the timelines of all rooms.
    pub(super) fn each_timeline(&mut self, each: impl FnMut(&mut Timeline)) {
        let timelines = self.rooms.values_mut().map(|shown| &mut shown.timeline);
        heap::of(Owner::Page, || timelines.for_each(each));
    }

    /// Lets a room's timeline take something.
    pub(super) fn tell_timeline(&mut self, room: RoomId, take: impl FnOnce(&mut Timeline)) {
        let me = self.user;
        let timeline = &mut self.rooms.entry(room).or_insert_with(|| Shown::new(me)).timeline;
        heap::of(Owner::Page, || take(timeline));
    }

    /// Forgets what is known of posts that are settled and have been looked at.
    pub(crate) fn forget_settled(&mut self) {
        let kept: BTreeSet<ClientId> = self.session.outbox().map(|item| item.client_id).collect();
        self.written.clear();
        self.sends.retain(|key, _| kept.contains(key));
        self.poison.retain(|key| kept.contains(key));
        self.written_at.retain(|key, _| kept.contains(key));
        self.saved.clear();
        self.acked.clear();
        self.queued.retain(|key| kept.contains(key));
        self.discarded.clear();
    }

    /// Tells whether the person is told that all is well.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.session.state(), ConnectionState::Live | ConnectionState::Slow)
    }
}

impl Shown {
    /// Returns which page is needed for the newest rows, so many of them.
    pub(crate) fn needed(&self, newest: usize) -> Option<Seq> {
        let rows = self.timeline.len();
        self.timeline.needed(rows.saturating_sub(newest), rows)
    }

    fn new(me: UserId) -> Self {
        Self { timeline: Timeline::new(me), given: None, history: 0, goal: Seq(0), is_open: false, asked: None }
    }
}

fn config(user: UserId, number: usize, life: u64, seed: u64) -> SessionConfig {
    let mut session = [number as u8; 16];
    session[8..].copy_from_slice(&life.to_be_bytes());
    SessionConfig {
        client: "sim".to_owned(),
        session: SessionId::from_bytes(session),
        user,
        seed: seed.wrapping_mul(31).wrapping_add(number as u64 * 7 + life),
        hidden: false,
        online: true,
    }
}
