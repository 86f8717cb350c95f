//! What one connection follows, and where it stands in each.
//!
//! Must not live here: sockets. Invariant: a place moves only over events that were handed out in order, by a snapshot,
//! or by an explicit reset; whoever is told `live` has been handed everything up to the goals of its hello.

use shared::planted::{Bug, is_planted};
use std::sync::Arc;

use bytes::Bytes;
use shared::ids::{Lsn, RoomId, Seq, StreamId};
use shared::limits::{JUMP_EVENTS, PAGE_EVENTS};
use shared::message::OpenRoom;
use shared::model::{Head, UserEvent};

use super::open::{self, Plan};
use crate::app::App;
use crate::delivery::tail;
use crate::delivery::{Follower, Out, Peer, Stream};
use crate::log::{LogError, Reads, StorageError};
use crate::rooms::RoomSet;

/// Bytes of frames handed out at once.
pub(super) const BURST_BYTES: usize = 64 * 1024;

#[derive(Debug)]
struct Follow {
    stream: Arc<Stream>,
    /// Where it stands; aside until that is known, and while a page is read.
    follower: Arc<Follower>,
    /// A page of what follows this is being read, for this very following: what another asked for comes too late.
    paging: Option<Seq>,
    /// Never jump.
    replay: bool,
    /// Where it must be for the connection to be live.
    goal: Option<Seq>,
}

impl Follow {
    fn stand_at(&mut self, out: &mut Out, cursor: Seq) {
        self.paging = None;
        self.follower.stand_at(out, cursor);
    }
}

/// Everything one connection follows.
pub(super) struct Follows {
    app: Arc<App>,
    peer: Arc<Peer>,
    list: Vec<Follow>,
    /// Rooms the person is a member of; those not followed are watched.
    members: RoomSet,
    /// What may have come to rooms before they were watched, until it is looked for.
    unsure: Option<Box<Unsure>>,
    /// Whose turn it is to be looked at first.
    turn: usize,
}

/// Heads the client may not have been told.
#[derive(Debug, Default)]
pub(super) struct Unsure {
    /// Those of all rooms that changed after this.
    since: Option<Lsn>,
    /// Those of these rooms.
    rooms: RoomSet,
}

/// What [`Follows::pull`] came to.
#[derive(Debug)]
pub(super) enum Pull {
    /// There is nothing after any cursor.
    Nothing,
    /// Frames were handed out.
    Took,
    /// A page must be read from the log first; or the question is given back before anything else is pulled.
    Read(PageAsk),
}

/// A page to be read.
#[derive(Debug)]
pub(super) struct PageAsk {
    id: StreamId,
    after: Seq,
    until: Seq,
    /// The reader is so far behind that it gets the newest instead.
    jump: bool,
}

/// A page that was read.
#[derive(Debug)]
pub(super) struct Page {
    id: StreamId,
    contents: Contents,
}

/// What was read for a connection without being asked for by its client.
#[derive(Debug)]
pub(super) enum Found {
    /// What follows in a stream.
    Page(Page),
    /// Heads of rooms that are watched.
    Heads(Vec<Head>),
}

#[derive(Debug)]
pub(super) enum Contents {
    /// Events of a room, and where the membership ended if it has.
    Room(Vec<(Seq, Bytes)>, Option<Seq>),
    User(Vec<UserEvent>),
    Jump(Box<Plan>),
}

/// What a page came to.
#[derive(Debug)]
pub(super) enum Turned {
    /// The stream is not followed any more.
    Stale,
    /// These frames come next.
    Frames(Vec<Bytes>),
    /// These events of the user's own stream come next.
    User(Vec<UserEvent>),
    /// The newest of the room comes next.
    Jumped(Box<Plan>),
    /// The log does not hold what it said it holds.
    Missing,
}

impl Follows {
    pub(super) fn new(app: Arc<App>, peer: Arc<Peer>) -> Self {
        Self { app, peer, list: Vec::new(), members: RoomSet::default(), unsure: None, turn: 0 }
    }

    /// Follows a stream without knowing from where; its events wait. Whatever was followed of it before is forgotten.
    pub(super) fn begin(&mut self, out: &mut Out, id: StreamId, replay: bool) {
        self.forget(out, id);
        let (stream, follower) = self.app.hub.follow(id, &self.peer);
        // Most follow one room, and what is their own.
        self.list.reserve_exact(1);
        self.list.push(Follow { stream, follower, paging: None, replay, goal: None });
    }

    /// Goes on from a seq, after `begin`. `head` is where the stream stood when that was decided.
    pub(super) fn start(&mut self, out: &mut Out, id: StreamId, from: Seq, head: Seq, goal: Option<Seq>) {
        let Self { app, peer, list, .. } = self;
        if let Some(follow) = list.iter_mut().find(|follow| follow.stream.id == id) {
            if !follow.stream.is_member_at(&follow.follower, head) {
                // Left and joined again in one record, of which the leaving had not come this way when following began.
                (follow.stream, follow.follower) = app.hub.follow_since(id, peer, head);
            }
            let from = if is_planted(Bug::ResumedAtHead) { from.max(head) } else { from };
            follow.goal = goal;
            follow.stream.saw_head(head);
            follow.stand_at(out, from);
        }
    }

    /// Follows a stream no longer; a room is still watched by those who are members.
    pub(super) fn stop(&mut self, out: &mut Out, id: StreamId) {
        let StreamId::Room(room) = id else { return self.forget(out, id) };
        if !self.members.contains(room) {
            return self.forget(out, id);
        }
        let Some(index) = self.list.iter().position(|follow| follow.stream.id == id) else { return };
        let Follow { stream, follower, .. } = self.list.remove(index);
        let cursor = follower.cursor(out);
        follower.stand_aside(out);
        self.app.hub.watch_only(room, &self.peer);
        // Looked at only now: what comes later is told to those who watch.
        if cursor.is_none_or(|cursor| cursor < stream.head()) {
            self.unsure.get_or_insert_default().rooms.insert(room);
        }
    }

    fn forget(&mut self, out: &mut Out, id: StreamId) {
        let before = self.list.len();
        // A walk that has begun may still know the follower.
        self.list.iter().filter(|follow| follow.stream.id == id).for_each(|follow| follow.follower.stand_aside(out));
        self.list.retain(|follow| follow.stream.id != id);
        // Whoever only watched a room and follows it next is moved by the stream itself.
        if self.list.len() != before {
            self.app.hub.leave(id, self.peer.connection);
        }
    }

    /// Tells which rooms the person is a member of, as of a moment of the log of which the client is told. Those that are
    /// not followed are watched.
    pub(super) fn set_members(&mut self, rooms: impl IntoIterator<Item = RoomId>, as_of: Lsn) {
        self.members = self.members.iter().chain(rooms).collect();
        self.members.iter().for_each(|room| self.app.hub.watch(room, &self.peer));
        if !self.app.hub.is_at(as_of) {
            self.unsure.get_or_insert_default().since = Some(as_of);
        }
    }

    /// Tells of one membership.
    pub(super) fn set_member(&mut self, room: RoomId, member: bool) {
        if member {
            let is_news = self.members.insert(room);
            self.app.hub.watch(room, &self.peer);
            if is_news && !self.is_open(room) {
                self.unsure.get_or_insert_default().rooms.insert(room);
            }
        } else if self.members.remove(room) && !self.is_open(room) {
            self.app.hub.leave(StreamId::Room(room), self.peer.connection);
        }
    }

    /// Tells whether a room is followed in full.
    pub(super) fn is_open(&self, room: RoomId) -> bool {
        self.list.iter().any(|follow| follow.stream.id == StreamId::Room(room))
    }

    /// Tells whether a room is followed in full by somebody who was seen to be a member, not by who has only asked to.
    pub(super) fn is_open_to_member(&self, room: RoomId) -> bool {
        let id = StreamId::Room(room);
        self.list.iter().any(|follow| follow.stream.id == id && follow.follower.is_member())
    }

    /// Returns how many rooms are followed in full.
    pub(super) fn open_rooms(&self) -> usize {
        self.list.iter().filter(|follow| matches!(follow.stream.id, StreamId::Room(_))).count()
    }

    /// Tells whether every goal is reached. Streams that ended have none.
    pub(super) fn are_goals_reached(&self, out: &Out) -> bool {
        self.list.iter().all(|follow| match (follow.goal, follow.follower.cursor(out)) {
            (None, _) => true,
            (Some(goal), Some(cursor)) => cursor >= goal,
            // Being opened, or reading.
            (Some(_), None) => false,
        })
    }

    /// Hands out what comes next, or says what must be read for it.
    pub(super) fn pull(&mut self, out: &mut Out) -> Pull {
        let (mut ended, mut result) = (None, Pull::Nothing);
        for step in 0..self.list.len() {
            let index = (self.turn + step) % self.list.len();
            let follow = &mut self.list[index];
            let Some(cursor) = follow.follower.cursor(out) else { continue };
            let until = follow.follower.until();
            if cursor >= until {
                ended = Some(follow.stream.id);
                continue;
            }
            match follow.stream.take(cursor, until, BURST_BYTES, |frame| out.push(frame)) {
                tail::Found::Nothing => {}
                tail::Found::UpTo(seq) => {
                    follow.stand_at(out, seq);
                    result = Pull::Took;
                }
                tail::Found::Below if is_planted(Bug::CursorMovedByHint) => {
                    let head = follow.stream.head();
                    follow.stand_at(out, head);
                }
                tail::Found::Below => {
                    follow.paging = Some(cursor);
                    follow.follower.stand_aside(out);
                    let behind = follow.stream.head().0.saturating_sub(cursor.0);
                    let is_room = matches!(follow.stream.id, StreamId::Room(_));
                    let jump = is_room
                        && !follow.replay
                        && follow.goal.is_none_or(|goal| cursor >= goal)
                        && behind > JUMP_EVENTS;
                    result = Pull::Read(PageAsk { id: follow.stream.id, after: cursor, until, jump });
                }
            }
            if !matches!(result, Pull::Nothing) {
                self.turn = index + 1;
                break;
            }
        }
        if let Some(id) = ended {
            // Whoever has joined again meanwhile watches it.
            self.stop(out, id);
        }
        result
    }

    /// Says which heads are to be looked for, if any are.
    pub(super) fn take_unsure(&mut self) -> Option<Box<Unsure>> {
        self.unsure.take()
    }

    /// Tells of heads that were looked for. They are told as all others are.
    pub(super) fn found(&self, heads: Vec<Head>) {
        let is_watched = |head: &Head| self.members.contains(head.room) && !self.is_open(head.room);
        heads.into_iter().filter(is_watched).for_each(|head| self.peer.mailbox.head(head));
    }

    /// Takes back a question that cannot be asked now.
    pub(super) fn give_back(&mut self, out: &mut Out, ask: &PageAsk) {
        if let Some(follow) = self.find(ask.id) {
            follow.stand_at(out, ask.after);
        }
    }

    /// Takes a page that was asked for.
    pub(super) fn turn_page(&mut self, out: &mut Out, page: Page) -> Turned {
        let Some(follow) = self.find(page.id) else { return Turned::Stale };
        // There is one page at a time: a stream that was opened anew since has not asked for this one.
        let Some(cursor) = follow.paging else { return Turned::Stale };
        // The log may be a moment ahead of what the follower was told: whoever is out sees nothing after that.
        if let Contents::Room(_, Some(end)) = page.contents {
            follow.follower.end_at(end);
        }
        let until = follow.follower.until();
        let mut at = cursor;
        let mut advance = |seq: Seq| {
            let fits = seq == at.next() && seq <= until;
            if fits {
                at = seq;
            }
            fits
        };
        let turned = match page.contents {
            Contents::Room(frames, _) => {
                follow.stream.keep_page(&frames);
                Turned::Frames(frames.into_iter().map_while(|(seq, frame)| advance(seq).then_some(frame)).collect())
            }
            Contents::User(events) => Turned::User(events.into_iter().take_while(|event| advance(event.seq)).collect()),
            Contents::Jump(plan) => match plan.from {
                Some(from) if from <= until => {
                    at = from;
                    Turned::Jumped(plan)
                }
                // The membership ended meanwhile: what may still be seen is read in pages.
                Some(_) | None => {
                    follow.replay = true;
                    Turned::Stale
                }
            },
        };
        follow.stand_at(out, at);
        let is_missing = at == cursor && cursor < until && !matches!(turned, Turned::Stale);
        if is_missing { Turned::Missing } else { turned }
    }

    fn find(&mut self, id: StreamId) -> Option<&mut Follow> {
        self.list.iter_mut().find(|follow| follow.stream.id == id)
    }
}

impl Drop for Follows {
    fn drop(&mut self) {
        let followed = self.list.iter().map(|follow| follow.stream.id);
        let watched = self.members.iter().map(StreamId::Room);
        followed.chain(watched).for_each(|id| self.app.hub.leave(id, self.peer.connection));
    }
}

/// Reads a page.
///
/// # Errors
/// As the log says.
pub(super) async fn read_page(app: Arc<App>, peer: Arc<Peer>, ask: PageAsk) -> Result<Found, LogError> {
    let log = app.log.clone();
    log.read(move |reads| {
        let contents = contents(reads, &app, &peer, &ask)?;
        Ok(Found::Page(Page { id: ask.id, contents }))
    })
    .await
}

/// Looks for heads the client may not have been told.
///
/// # Errors
/// As the log says.
pub(super) async fn read_heads(app: Arc<App>, peer: Arc<Peer>, unsure: Box<Unsure>) -> Result<Found, LogError> {
    let read = move |reads: &dyn Reads| {
        let mut heads = Vec::new();
        if is_planted(Bug::HeadsUnsure) {
            return Ok(Found::Heads(heads));
        }
        if unsure.since.is_some() {
            let changed = reads.rooms_of(peer.user, unsure.since)?;
            heads.extend(changed.into_iter().map(|room| Head { room: room.room, seq: room.head, posts: room.posts }));
        }
        for room in unsure.rooms.iter() {
            if let Some(head) = reads.head(room)? {
                heads.push(Head { room, seq: head.position.seq, posts: head.posts });
            }
        }
        Ok(Found::Heads(heads))
    };
    app.log.read(read).await
}

fn contents(reads: &dyn Reads, app: &App, peer: &Peer, ask: &PageAsk) -> Result<Contents, StorageError> {
    match ask.id {
        StreamId::User(user) => Ok(Contents::User(reads.user_events(user, ask.after, PAGE_EVENTS)?)),
        StreamId::Room(room) if ask.jump => {
            let check = reads.check_at(room, ask.after)?.unwrap_or_default();
            let cursor = shared::cursor::Position { epoch: reads.epoch(), seq: ask.after, check };
            let ask = OpenRoom { room, cursor: Some(cursor), replay: false };
            let plan = open::open(reads, &app.presence, peer.user, &ask, open::SNAPSHOT_BYTES)?;
            Ok(Contents::Jump(Box::new(plan)))
        }
        StreamId::Room(room) => {
            let limit = ask.until.0.saturating_sub(ask.after.0).min(PAGE_EVENTS as u64) as usize;
            let events = reads.events(room, ask.after, limit, BURST_BYTES)?;
            let frames = events.iter().map(|event| (event.seq, crate::delivery::room_frame(event))).collect();
            Ok(Contents::Room(frames, reads.left_at(room, peer.user)?))
        }
    }
}
