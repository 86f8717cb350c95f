//! A model of the server: one room, keys that are kept for ever, numbered sends, resume by cursor.
//!
//! Invariant: it follows docs/PROTOCOL.md and shares no code with the real one.

use std::collections::{BTreeMap, BTreeSet};

use shared::close;
use shared::cursor::{Check, Position};
use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, ConnectionId, Lsn, RequestId, Seq, UserId};
use shared::message::{
    Ack, BeatAnswer, Body, Command, Event, HeartbeatTerms, Hello, Live, Message, OpenRoom, Reply, Welcome, WireLimits,
};
use shared::model::{Empty, OpenOutcome, Opened, Person, ResetReason, RoomEvent, ServerInfo};
use shared::time::Timestamp;

use super::super::common::{Room, at, epoch, room};
use super::{Link, POISON, refusal};

/// Posts in a page of this server.
const PAGE: usize = 5;
/// Further behind than this, a client jumps.
const JUMP: u64 = 12;

/// One connection as the server sees it.
pub(crate) struct Conn {
    user: UserId,
    greeted: bool,
    /// The last event it was given, once it follows the room.
    given: Option<Seq>,
    /// The number that must come again first.
    waits_for: Option<u64>,
    frames: Bucket,
    /// When messages over the rate came.
    over: Vec<u64>,
}

/// So many at once, and so many a second after that.
struct Bucket {
    burst: u64,
    per_s: u64,
    /// In thousandths.
    left: u64,
    at: u64,
}

impl Bucket {
    const fn new(burst: u64, per_s: u64) -> Self {
        Self { burst, per_s, left: burst * 1_000, at: 0 }
    }

    fn take(&mut self, now: u64) -> bool {
        self.left = (self.left + (now - self.at) * self.per_s).min(self.burst * 1_000);
        self.at = now;
        let enough = self.left >= 1_000;
        self.left -= if enough { 1_000 } else { 0 };
        enough
    }
}

/// Messages over the rate, within ten seconds, that are closed for.
const FLOOD: usize = 300;

impl Conn {
    pub(super) const fn new(user: UserId) -> Self {
        Self { user, greeted: false, given: None, waits_for: None, frames: Bucket::new(60, 20), over: Vec::new() }
    }
}

pub(super) enum Verdict {
    Answer(Vec<Message>),
    Close(u16),
}

/// The server.
pub(crate) struct Server {
    pub(crate) room: Room,
    pub(super) up: bool,
    pub(super) refuse_until: u64,
    pub(super) conns: BTreeMap<Link, Conn>,
    sends: BTreeMap<(UserId, ClientId), (String, Ack)>,
    /// What a restored backup lacked. Whoever had been told that it was stored does not send it again.
    pub(crate) lost: BTreeSet<(UserId, ClientId)>,
    /// How much each person may send.
    posts: BTreeMap<UserId, Bucket>,
    /// Connections closed for a flood.
    pub(crate) floods: u64,
    connections: u64,
}

impl Default for Server {
    fn default() -> Self {
        let (room, conns, sends) = (Room::default(), BTreeMap::new(), BTreeMap::new());
        Self {
            room,
            up: true,
            refuse_until: 0,
            conns,
            sends,
            lost: BTreeSet::new(),
            posts: BTreeMap::new(),
            floods: 0,
            connections: 0,
        }
    }
}

impl Server {
    /// Tells whether a request of somebody was stored.
    pub(crate) fn has(&self, user: UserId, key: ClientId) -> bool {
        self.sends.contains_key(&(user, key))
    }

    pub(super) fn is_following(&self, link: Link) -> bool {
        self.conns.get(&link).is_some_and(|conn| conn.given.is_some())
    }

    /// Returns what each follower has not been given, and counts it as given.
    pub(super) fn undelivered(&mut self) -> Vec<(Link, Vec<RoomEvent>)> {
        let head = self.room.head();
        let mut all = Vec::new();
        for (link, conn) in &mut self.conns {
            if let Some(given) = conn.given.filter(|given| *given < head) {
                conn.given = Some(head);
                let events = self.room.events.iter().filter(|event| event.seq > given).cloned().collect();
                all.push((*link, events));
            }
        }
        all
    }

    pub(super) fn take(&mut self, link: Link, text: &str, refuse: bool, now: u64) -> Verdict {
        let message = Message::parse(text).expect("our own session writes what can be read");
        let (Body::Command(command), Some(id)) = (message.body, message.id) else {
            panic!("a session sends commands with an id")
        };
        let conn = self.conns.get_mut(&link).expect("it is connected");
        let over = !conn.frames.take(now);
        if over {
            conn.over.retain(|at| *at + 10_000 > now);
            conn.over.push(now);
            if conn.over.len() > FLOOD {
                self.floods += 1;
                return Verdict::Close(close::FLOOD);
            }
        }
        match command {
            Command::Hello(hello) if !conn.greeted => self.greet(link, id, &hello),
            Command::Hello(_) => Verdict::Close(close::BAD_SEQUENCE),
            _ if !conn.greeted => Verdict::Close(close::BAD_SEQUENCE),
            Command::Beat(_) => {
                let answer = BeatAnswer { now: Timestamp(0), reconnect_spread_ms: 0 };
                Verdict::Answer(vec![Message::reply(Some(id), Reply::Beat(answer))])
            }
            Command::Open(ask) => {
                let (opened, events) = self.judge(link, &ask);
                let mut answers = vec![Message::reply(Some(id), Reply::Opened(opened))];
                answers.extend(events);
                Verdict::Answer(answers)
            }
            Command::History(ask) => {
                let page = self.room.history(ask.before, PAGE);
                Verdict::Answer(vec![Message::reply(Some(id), Reply::History(page))])
            }
            Command::Post(_) | Command::Edit(_) => {
                let answer = match self.send(link, &command, refuse || over, now) {
                    Ok(ack) => Message::reply(Some(id), Reply::Ack(ack)),
                    Err(error) => Message::refusal(Some(id), error),
                };
                Verdict::Answer(vec![answer])
            }
            _ => Verdict::Answer(vec![Message::reply(Some(id), Reply::Done(Empty {}))]),
        }
    }

    fn greet(&mut self, link: Link, id: RequestId, hello: &Hello) -> Verdict {
        self.connections += 1;
        let conn = self.conns.get_mut(&link).expect("it is connected");
        conn.greeted = true;
        let you = Person { id: conn.user, name: format!("user {}", conn.user) };
        let nothing = Position { epoch: epoch(), seq: Seq(0), check: Check::default() };
        let welcome = Welcome {
            protocol: 1,
            server: ServerInfo { epoch: epoch(), build: String::new(), lsn: Lsn(self.room.head().0) },
            connection: ConnectionId(self.connections),
            you,
            now: Timestamp(0),
            heartbeat: HeartbeatTerms::default(),
            reconnect_spread_ms: 0,
            limits: WireLimits::default(),
            draining: false,
            user: nothing,
            user_recovered: hello.user.is_some(),
            rooms_complete: true,
            rooms: Vec::new(),
        };
        let mut answers = vec![Message::reply(Some(id), Reply::Welcome(Box::new(welcome)))];
        for ask in &hello.rooms {
            let (opened, events) = self.judge(link, ask);
            answers.push(Message::event(Event::Opened(opened)));
            answers.extend(events);
        }
        answers.push(Message::event(Event::Live(Live {})));
        Verdict::Answer(answers)
    }

    /// Says how a client gets to the head, and what it is given on the way.
    fn judge(&mut self, link: Link, ask: &OpenRoom) -> (Opened, Vec<Message>) {
        let head = self.room.head();
        let mut events = Vec::new();
        let outcome = match ask.cursor {
            None => OpenOutcome::Fresh { snapshot: self.room.snapshot(PAGE) },
            Some(cursor) if cursor.seq > head => self.reset(ResetReason::Ahead),
            Some(cursor) if cursor.check != self.room.check(cursor.seq) => self.reset(ResetReason::Forked),
            Some(cursor) if head.0 - cursor.seq.0 > JUMP => {
                let snapshot = self.room.snapshot(PAGE);
                let hole = snapshot.earlier().saturating_sub(self.room.total(cursor.seq));
                OpenOutcome::Jumped { snapshot, hole }
            }
            Some(cursor) => {
                let after = self.room.events.iter().filter(|event| event.seq > cursor.seq).cloned();
                events = after.map(|event| Message::event(Event::Room(event))).collect();
                OpenOutcome::Recovered { head, missed: head.0 - cursor.seq.0 }
            }
        };
        self.conns.get_mut(&link).expect("it is connected").given = Some(head);
        (Opened { room: room(), outcome, roster: Vec::new(), members: 0 }, events)
    }

    fn reset(&self, reason: ResetReason) -> OpenOutcome {
        OpenOutcome::Reset { reason, snapshot: self.room.snapshot(PAGE) }
    }

    /// Goes back to what an older backup holds.
    pub(super) fn rewind(&mut self, seq: Seq) {
        self.room.rewind(seq);
        let lost = self.sends.iter().filter(|(_, (_, ack))| ack.seq > seq).map(|(key, _)| *key);
        self.lost.extend(lost);
        self.sends.retain(|_, (_, ack)| ack.seq <= seq);
    }

    fn send(&mut self, link: Link, command: &Command, refuse: bool, now: u64) -> Result<Ack, WireError> {
        let (n, key) = match command {
            Command::Post(send) => (send.n, send.client_id),
            Command::Edit(send) => (send.n, send.client_id),
            _ => unreachable!("only sends come here"),
        };
        let conn = self.conns.get_mut(&link).expect("it is connected");
        let n = n.expect("a session numbers its sends");
        match conn.waits_for {
            Some(first) if n > first => return Err(WireError::new(ErrorCode::Behind, "Wait.")),
            Some(first) if n == first => conn.waits_for = None,
            Some(_) | None => {}
        }
        let posts = self.posts.entry(conn.user).or_insert(Bucket::new(10, 5));
        if refuse || !posts.take(now) {
            conn.waits_for = Some(conn.waits_for.map_or(n, |first| first.min(n)));
            return Err(refusal());
        }
        let user = conn.user;
        let content = command.payload().expect("it was read").get().replace(&format!("\"n\":{n},"), "");
        if let Some((first, ack)) = self.sends.get(&(user, key)) {
            assert_eq!(*first, content, "what stands behind a key was changed");
            return Ok(Ack { duplicate: true, ..*ack });
        }
        let seq = match command {
            Command::Post(send) if send.body == POISON => {
                return Err(WireError::new(ErrorCode::PostEmpty, "Nobody takes this."));
            }
            Command::Post(send) => self.room.post(user, key, &send.body),
            Command::Edit(send) => {
                let posts = self.room.posts(self.room.head());
                if !posts.iter().any(|post| post.seq == send.post && post.by == user) {
                    return Err(WireError::new(ErrorCode::NotFound, "There is no such post."));
                }
                self.room.edit(user, send.post, &send.body)
            }
            _ => unreachable!("only sends come here"),
        };
        let ack = Ack { client_id: key, room: room(), seq, ts: at(seq), duplicate: false };
        self.sends.insert((user, key), (content, ack));
        Ok(ack)
    }
}
