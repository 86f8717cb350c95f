//! The session against a scripted server in virtual time. Each test is named after what it shows; the numbers are the
//! scenarios of docs/SCENARIOS.md.
//!
//! Here are the scripted server, and what it sees of many who come back; the rest is in files by theme. Must not live
//! here: anything real but the session. Invariant: a test is a function of its seed.

mod any_order;
mod heartbeat;
mod link;
mod outbox;
mod streams;

use super::*;
use crate::close::{self, AfterClose, StopReason};
use crate::cursor::{Check, Position};
use crate::ids::{ConnectionId, Epoch, Lsn, Seq, SessionId, UserId};
use crate::limits::OUTBOX_ITEMS;
use crate::message::{Ack, BeatAnswer, Body, Closing, Draining, Event, HeartbeatTerms, Live, Reply, Welcome};
use crate::model::{OpenOutcome, Opened, Person, Posted, ResetReason, RoomChange, RoomEvent, ServerInfo, Snapshot};

const ROOM: RoomId = RoomId::from_bytes([7; 16]);
const ME: UserId = UserId::from_bytes([1; 16]);
const OTHER: UserId = UserId::from_bytes([2; 16]);
const EPOCH: Epoch = Epoch::from_bytes([9; 16]);

fn key(n: u8) -> ClientId {
    ClientId::from_bytes([n; 16])
}

fn position(seq: u64) -> Position {
    Position { epoch: EPOCH, seq: Seq(seq), check: Check([0; 8]) }
}

/// How the scripted server treats what reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Both ways work.
    Good,
    /// Nothing arrives any more, in either direction; the socket looks open.
    BlackHole,
    /// What the client says is lost; what the server says arrives.
    UpLost,
    /// New sockets fail at once.
    Refuses,
    /// New sockets open and are closed at once.
    AcceptsAndCloses,
}

/// One session, its timers, and a server of one room.
struct World {
    session: Session,
    now: Timestamp,
    link: Link,
    /// The server answers sends.
    acks: bool,
    /// The server has more to send than ever comes: it does not say `live`.
    behind: bool,
    open: Option<AttemptId>,
    attempts: Vec<Timestamp>,
    events: Vec<(Timestamp, SessionEvent)>,
    stored: Vec<(ClientId, String)>,
    head: u64,
    persisted: Vec<Persist>,
    sent: Vec<(AttemptId, Message)>,
    /// Timers fire only at multiples of this, as a throttled page's do.
    timer_grain_ms: u64,
    terms: HeartbeatTerms,
    spread_ms: u64,
    queue: std::collections::VecDeque<Input>,
}

impl World {
    fn new(seed: u64) -> Self {
        let config = SessionConfig {
            client: "test".to_owned(),
            session: SessionId::from_bytes([3; 16]),
            user: ME,
            seed,
            hidden: false,
            online: true,
        };
        Self {
            session: Session::new(config),
            now: Timestamp(1_000_000),
            link: Link::Good,
            acks: true,
            behind: false,
            open: None,
            attempts: Vec::new(),
            events: Vec::new(),
            stored: Vec::new(),
            head: 0,
            persisted: Vec::new(),
            sent: Vec::new(),
            timer_grain_ms: 1,
            terms: HeartbeatTerms::default(),
            spread_ms: 0,
            queue: std::collections::VecDeque::new(),
        }
    }

    /// A session that is live in one room.
    fn live(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.input(Input::Command(Command::Open { room: ROOM, cursor: None, replay: false }));
        world.input(Input::Command(Command::Start));
        assert_eq!(world.session.state(), ConnectionState::Live);
        world
    }

    fn input(&mut self, input: Input) {
        self.queue.push_back(input);
        while let Some(input) = self.queue.pop_front() {
            for output in self.session.handle(input, self.now) {
                self.perform(output);
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Open { attempt } => {
                self.attempts.push(self.now);
                match self.link {
                    Link::Good | Link::UpLost => {
                        self.open = Some(attempt);
                        self.queue.push_back(Input::Opened { attempt });
                    }
                    Link::BlackHole => {}
                    Link::Refuses => self.queue.push_back(closed(attempt, close::ABNORMAL)),
                    Link::AcceptsAndCloses => {
                        self.queue.push_back(Input::Opened { attempt });
                        self.queue.push_back(closed(attempt, close::ABNORMAL));
                    }
                }
            }
            Output::Send { attempt, text } => {
                let message = Message::parse(&text).expect("the session writes what parses");
                self.sent.push((attempt, message.clone()));
                if self.link == Link::Good && self.open == Some(attempt) {
                    self.serve(attempt, message);
                }
            }
            Output::Close { attempt, .. } => {
                if self.open == Some(attempt) {
                    self.open = None;
                }
                self.queue.push_back(closed(attempt, close::ABNORMAL));
            }
            Output::Persist { serial, change } => {
                self.persisted.push(change);
                self.queue.push_back(Input::Persisted { serial, ok: true });
            }
            Output::Event(event) => self.events.push((self.now, event)),
        }
    }

    /// What the server does with a message.
    fn serve(&mut self, attempt: AttemptId, message: Message) {
        let Body::Command(command) = message.body else { panic!("a client sends commands") };
        let id = message.id;
        match command {
            WireCommand::Hello(hello) => {
                let welcome = self.welcome();
                self.say(attempt, Message::reply(id, Reply::Welcome(Box::new(welcome))));
                for open in hello.rooms {
                    let opened = self.opened(open.cursor);
                    let from = open.cursor.map_or(self.head, |cursor| cursor.seq.0);
                    self.say(attempt, Message::event(Event::Opened(opened)));
                    for seq in from + 1..=self.head {
                        self.say(attempt, Message::event(Event::Room(self.event(seq))));
                    }
                }
                if !self.behind {
                    self.say(attempt, Message::event(Event::Live(Live {})));
                }
            }
            WireCommand::Open(open) => {
                let opened = self.opened(open.cursor);
                let from = open.cursor.map_or(self.head, |cursor| cursor.seq.0);
                self.say(attempt, Message::reply(id, Reply::Opened(opened)));
                for seq in from + 1..=self.head {
                    self.say(attempt, Message::event(Event::Room(self.event(seq))));
                }
            }
            WireCommand::Beat(_) => {
                let answer = BeatAnswer { now: self.now, reconnect_spread_ms: self.spread_ms };
                self.say(attempt, Message::reply(id, Reply::Beat(answer)));
            }
            WireCommand::Post(post) if self.acks => {
                let known = self.stored.iter().position(|(key, _)| *key == post.client_id);
                let seq = match known {
                    Some(index) => index as u64 + 1,
                    None => {
                        self.stored.push((post.client_id, post.body));
                        self.head += 1;
                        self.say(attempt, Message::event(Event::Room(self.event(self.head))));
                        self.head
                    }
                };
                let ack = Ack {
                    client_id: post.client_id,
                    room: ROOM,
                    seq: Seq(seq),
                    ts: self.now,
                    duplicate: known.is_some(),
                };
                self.say(attempt, Message::reply(id, Reply::Ack(ack)));
            }
            _ => {}
        }
    }

    fn welcome(&self) -> Welcome {
        Welcome {
            protocol: 1,
            server: ServerInfo { epoch: EPOCH, build: "test".to_owned(), lsn: Lsn(self.head) },
            connection: ConnectionId(1),
            you: Person { id: ME, name: "me".to_owned() },
            now: self.now,
            heartbeat: self.terms,
            reconnect_spread_ms: self.spread_ms,
            limits: WireLimits::default(),
            draining: false,
            user: position(0),
            user_recovered: true,
            rooms_complete: true,
            rooms: Vec::new(),
        }
    }

    fn opened(&self, cursor: Option<Position>) -> Opened {
        let outcome = match cursor {
            Some(cursor) => OpenOutcome::Recovered { head: Seq(self.head), missed: self.head - cursor.seq.0 },
            None => OpenOutcome::Fresh {
                snapshot: Snapshot { as_of: position(self.head), total: self.head, posts: vec![], people: vec![] },
            },
        };
        Opened { room: ROOM, outcome, roster: Vec::new(), members: 0 }
    }

    fn event(&self, seq: u64) -> RoomEvent {
        let (client_id, body) = match self.stored.get(seq as usize - 1) {
            Some((key, body)) => (*key, body.clone()),
            None => (key(255), "theirs".to_owned()),
        };
        let by = if self.stored.iter().any(|(key, _)| *key == client_id) && client_id != key(254) { ME } else { OTHER };
        RoomEvent {
            room: ROOM,
            seq: Seq(seq),
            check: Check([0; 8]),
            posts: seq,
            ts: self.now,
            by: Person { id: by, name: "x".to_owned() },
            change: RoomChange::Posted(Posted { client_id, body: Some(body) }),
        }
    }

    /// A post of somebody else is committed.
    fn other_posts(&mut self) {
        self.stored.push((key(254), "theirs".to_owned()));
        self.head += 1;
        if let (Some(attempt), Link::Good | Link::UpLost) = (self.open, self.link) {
            self.say(attempt, Message::event(Event::Room(self.event(self.head))));
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(input) = self.queue.pop_front() {
            for output in self.session.handle(input, self.now) {
                self.perform(output);
            }
        }
    }

    fn say(&mut self, attempt: AttemptId, message: Message) {
        self.queue.push_back(Input::Received { attempt, text: message.to_json() });
    }

    /// Lets time pass, firing timers, until `until` or until the condition holds.
    fn run(&mut self, ms: u64, mut stop: impl FnMut(&Self) -> bool) -> u64 {
        let (start, end) = (self.now, self.now.plus(ms));
        while !stop(self) {
            let due = self.session.next_deadline().map_or(end, |(at, _)| at).max(self.now);
            let grain = self.timer_grain_ms;
            let fires = Timestamp(due.0.div_ceil(grain) * grain);
            if fires >= end {
                self.now = end;
                break;
            }
            self.now = fires;
            let before = self.session.next_deadline();
            self.input(Input::DeadlineReached);
            assert_ne!(before, self.session.next_deadline(), "a deadline that was handled must not stay");
        }
        self.now.since(start)
    }

    fn post(&mut self, n: u8) {
        let op = SendOp::Post { body: format!("post {n}") };
        self.input(Input::Command(Command::Send { client_id: key(n), room: ROOM, op, at: self.now }));
    }

    fn close(&mut self, code: u16) {
        let attempt = self.open.take().expect("a socket is open");
        self.input(closed(attempt, code));
    }

    fn shown_seqs(&self) -> Vec<u64> {
        self.events
            .iter()
            .filter_map(|(_, event)| match event {
                SessionEvent::Room(event) => Some(event.seq.0),
                _ => None,
            })
            .collect()
    }

    fn acked(&self) -> Vec<ClientId> {
        self.events
            .iter()
            .filter_map(|(_, event)| match event {
                SessionEvent::Acked(ack) => Some(ack.client_id),
                _ => None,
            })
            .collect()
    }

    fn refused(&self) -> Vec<ClientId> {
        self.events
            .iter()
            .filter_map(|(_, event)| match event {
                SessionEvent::Refused { client_id, .. } => Some(*client_id),
                _ => None,
            })
            .collect()
    }
}

fn closed(attempt: AttemptId, code: u16) -> Input {
    Input::Closed { attempt, code, reason: String::new() }
}

fn is_waiting(world: &World) -> bool {
    matches!(world.session.state(), ConnectionState::Waiting { .. })
}

/// Of those who came in each second, no second may see more than 15 %, and all of them take ten seconds or more.
fn assert_spread(seconds: &[u32], when: &str) {
    let busiest = *seconds.iter().max().unwrap();
    let used = seconds.iter().filter(|count| **count > 0).count();
    let all: u32 = seconds.iter().sum();
    assert!(f64::from(busiest) <= 0.15 * f64::from(all), "{busiest} of {all} in one second {when}: {seconds:?}");
    assert!(used >= 10, "spread over {used} s only {when}: {seconds:?}");
}

#[test]
fn scenario_10_ten_thousand_returns_spread_over_more_than_10_s_and_no_second_sees_15_percent() {
    let clients = 10_000;
    let mut seconds = vec![0_u32; 60];
    for seed in 0..clients {
        let mut world = World::new(seed);
        world.spread_ms = 20_000;
        world.input(Input::Command(Command::Start));
        world.run(20_000, |_| false);
        let killed = world.now;
        world.close(close::ABNORMAL);
        world.run(60_000, |world| world.attempts.len() == 2);
        seconds[(world.attempts[1].since(killed) / 1_000) as usize] += 1;
    }
    assert_spread(&seconds, "at once");
}

#[test]
fn scenario_10_a_server_that_is_away_for_longer_is_not_stormed_either() {
    let clients = 2_000;
    for down_ms in [3_000, 10_000, 15_000, 20_000, 25_000, 30_000, 60_000] {
        let mut seconds = vec![0_u32; 60];
        for seed in 0..clients {
            let mut world = World::new(seed);
            world.spread_ms = 20_000;
            world.input(Input::Command(Command::Start));
            world.run(20_000, |_| false);
            world.link = Link::Refuses;
            world.close(close::ABNORMAL);
            world.run(down_ms, |_| false);
            world.link = Link::Good;
            let (back, tried) = (world.now, world.attempts.len());
            world.run(60_000, |world| world.attempts.len() > tried);
            seconds[(world.attempts[tried].since(back) / 1_000) as usize] += 1;
        }
        assert_spread(&seconds, &format!("after {down_ms} ms"));
    }
}

#[test]
fn scenario_11_a_draining_server_is_left_in_peace_for_as_long_as_it_asked() {
    let mut world = World::live(1);
    let attempt = world.open.unwrap();
    world.say(attempt, Message::event(Event::Draining(Draining { reconnect_after_ms: 7_000 })));
    world.drain();
    assert_eq!(world.session.state(), ConnectionState::Live, "still served");
    world.close(close::RESTART);
    assert!(matches!(world.session.state(), ConnectionState::Waiting { restarting: true, .. }));
    world.input(Input::Visible(false));
    world.input(Input::Visible(true));
    let waited = world.run(60_000, |world| world.attempts.len() == 2);
    assert_eq!(waited, 7_000);
    assert_eq!(world.session.state(), ConnectionState::Live);
}

#[test]
fn scenario_12_a_server_that_accepts_and_closes_sees_at_most_8_attempts_in_the_first_minute() {
    for seed in 0..500 {
        for link in [Link::AcceptsAndCloses, Link::Refuses] {
            let mut world = World::new(seed);
            world.link = link;
            world.input(Input::Command(Command::Start));
            world.run(60_000, |_| false);
            assert!(world.attempts.len() <= 8, "seed {seed}, {link:?}: {} attempts", world.attempts.len());
            assert!(world.attempts.len() >= 5, "seed {seed}: it must go on trying");
        }
    }
}

#[test]
fn scenario_12_only_a_connection_that_lasted_clears_the_backoff() {
    let mut world = World::live(1);
    for _ in 0..6 {
        world.close(close::ABNORMAL);
        world.run(60_000, |world| world.open.is_some());
    }
    world.close(close::ABNORMAL);
    let ConnectionState::Waiting { until, .. } = world.session.state() else { panic!() };
    assert!(until.since(world.now) >= 15_000, "short connections must not clear the backoff");
    world.run(60_000, |world| world.open.is_some());
    world.run(STABLE_MS + 1, |_| false);
    world.close(close::ABNORMAL);
    let ConnectionState::Waiting { until, .. } = world.session.state() else { panic!() };
    assert!(until.since(world.now) <= BACKOFF_BASE_MS, "a lasting one must");
}

#[test]
fn scenario_12_a_device_that_was_offline_does_not_keep_the_wait_of_its_whole_life() {
    let mut world = World::live(7);
    for _ in 0..6 {
        world.run(STABLE_MS, |_| false);
        world.input(Input::Online(false));
        world.run(3_600_000, |_| false);
        world.input(Input::Online(true));
        world.run(AT_ONCE_JITTER_MS, |world| world.session.state() == ConnectionState::Live);
    }
    world.run(STABLE_MS, |_| false);
    world.input(Input::Online(false));
    world.link = Link::Refuses;
    let before = world.attempts.len();
    world.input(Input::Online(true));
    world.run(AT_ONCE_JITTER_MS, |world| world.attempts.len() > before);
    let ConnectionState::Waiting { until, .. } = world.session.state() else { panic!("{:?}", world.session.state()) };
    let wait = until.since(world.now);
    assert!((BACKOFF_BASE_MS / 2..=BACKOFF_BASE_MS).contains(&wait), "the first failure is waited out for {wait} ms");
}

#[test]
fn scenario_12_being_offline_for_a_moment_does_not_shorten_the_wait_a_server_asked_for() {
    // Offline before it closed, after it closed, and where it asked to be left alone by the code alone.
    for (seed, goes, code, asked) in
        [(1, 0, close::RESTART, 7_000), (2, 1, close::RESTART, 7_000), (3, 1, close::FLOOD, close::SLOW_RECONNECT_MS)]
    {
        let mut world = World::live(seed);
        let began = world.now;
        if code == close::RESTART {
            let attempt = world.open.unwrap();
            world.say(attempt, Message::event(Event::Draining(Draining { reconnect_after_ms: asked })));
            world.drain();
        }
        if goes == 1 {
            world.close(code);
        }
        world.input(Input::Online(false));
        world.input(Input::Online(true));
        world.input(Input::Visible(false));
        world.input(Input::Visible(true));
        world.run(asked - 1, |world| world.attempts.len() > 1);
        assert_eq!(world.attempts.len(), 1, "{code}: back after {} ms", world.now.since(began));
        world.run(2 * asked + 1, |world| world.attempts.len() > 1);
        assert_eq!(world.attempts.len(), 2, "{code}");
    }
}
