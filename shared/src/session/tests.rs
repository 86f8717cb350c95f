//! The session against a scripted server in virtual time. Each test is named after what it shows; the numbers are the
//! scenarios of docs/SCENARIOS.md.

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
                self.say(attempt, Message::event(Event::Live(Live {})));
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

#[test]
fn s05_a_lost_connection_comes_back_and_resumes_where_it_was() {
    let mut world = World::live(1);
    world.other_posts();
    world.close(close::ABNORMAL);
    world.other_posts();
    world.other_posts();
    assert!(is_waiting(&world));
    world.run(5_000, |world| world.session.state() == ConnectionState::Live);
    assert_eq!(world.session.state(), ConnectionState::Live);
    assert_eq!(world.shown_seqs(), [1, 2, 3]);
    let recovered = world.events.iter().any(|(_, event)| *event == SessionEvent::Recovered { received: 2, sent: 0 });
    assert!(recovered, "{:?}", world.events);
}

#[test]
fn s02_the_socket_being_open_is_not_yet_live() {
    let mut world = World::new(1);
    world.link = Link::UpLost;
    world.input(Input::Command(Command::Start));
    assert_eq!(world.session.state(), ConnectionState::Connecting);
    world.run(WELCOME_TIMEOUT_MS + 1, is_waiting);
    assert!(is_waiting(&world), "no welcome in time must end the attempt");
}

#[test]
fn a_log_that_ends_before_what_it_acknowledged_is_reset_although_it_holds_the_cursor() {
    let mut world = World::live(1);
    world.acks = false;
    world.post(1);
    let attempt = world.open.expect("a socket is open");
    let id = world.sent.iter().find_map(|(_, message)| match &message.body {
        Body::Command(WireCommand::Post(_)) => message.id,
        _ => None,
    });
    let ack = Ack { client_id: key(1), room: ROOM, seq: Seq(1), ts: world.now, duplicate: false };
    world.input(Input::Received { attempt, text: Message::reply(id, Reply::Ack(ack)).to_json() });
    // The event does not get through, and what comes back is a backup without the post.
    world.close(close::ABNORMAL);
    world.run(5_000, |world| world.session.state() == ConnectionState::Live);
    assert_eq!(world.session.state(), ConnectionState::Live);
    let outcomes: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            SessionEvent::Opened(opened) => Some(&opened.outcome),
            _ => None,
        })
        .collect();
    assert!(
        matches!(outcomes[..], [OpenOutcome::Fresh { .. }, OpenOutcome::Reset { reason: ResetReason::Ahead, .. }]),
        "{outcomes:?}"
    );
    // Said once: the log that is there now goes on from its own end.
    world.other_posts();
    world.close(close::ABNORMAL);
    world.run(5_000, |world| world.session.state() == ConnectionState::Live);
    assert!(matches!(
        world.events.iter().rev().find_map(|(_, event)| match event {
            SessionEvent::Opened(opened) => Some(&opened.outcome),
            _ => None,
        }),
        Some(OpenOutcome::Recovered { .. })
    ));
}

#[test]
fn scenario_04_a_resend_after_a_day_settles_with_the_first_ack() {
    let mut world = World::live(1);
    world.stored.push((key(5), "post 5".to_owned()));
    world.head = 1;
    let yesterday = Timestamp(world.now.0 - 86_400);
    let item = OutboxItem {
        client_id: key(5),
        room: ROOM,
        op: SendOp::Post { body: "post 5".to_owned() },
        queued_at: yesterday,
        order: 3,
        attempted: true,
        refused: None,
    };
    world.input(Input::Restored { items: vec![item] });
    let acks: Vec<_> = world.events.iter().filter(|(_, event)| matches!(event, SessionEvent::Acked(_))).collect();
    assert!(matches!(&acks[..], [(_, SessionEvent::Acked(ack))] if ack.duplicate && ack.seq == Seq(1)), "{acks:?}");
    assert_eq!(world.session.outbox().count(), 0);
}

#[test]
fn scenario_05_restored_posts_are_sent_in_order_without_a_click() {
    let mut world = World::new(1);
    let items: Vec<_> = (0..20)
        .rev()
        .map(|n| OutboxItem {
            client_id: key(n),
            room: ROOM,
            op: SendOp::Post { body: format!("post {n}") },
            queued_at: Timestamp(50 + u64::from(n) / 7),
            order: u64::from(n),
            attempted: n < 3,
            refused: None,
        })
        .collect();
    world.input(Input::Restored { items });
    world.input(Input::Command(Command::Open { room: ROOM, cursor: None, replay: false }));
    world.input(Input::Command(Command::Start));
    assert_eq!(world.acked(), (0..20).map(key).collect::<Vec<_>>());
    assert_eq!(world.stored.iter().map(|(key, _)| *key).collect::<Vec<_>>(), (0..20).map(key).collect::<Vec<_>>());
    assert_eq!(world.session.outbox().count(), 0);
}

#[test]
fn restored_posts_keep_their_order_although_the_clock_ran_backwards_between_them() {
    let mut world = World::new(1);
    let item = |n: u8| OutboxItem {
        client_id: key(n),
        room: ROOM,
        op: SendOp::Post { body: format!("post {n}") },
        queued_at: Timestamp(7_200_000 - 1_000 * u64::from(n)),
        order: u64::from(n),
        attempted: false,
        refused: None,
    };
    world.input(Input::Restored { items: (1..=5).map(item).collect() });
    world.input(Input::Command(Command::Open { room: ROOM, cursor: None, replay: false }));
    world.input(Input::Command(Command::Start));
    assert_eq!(world.acked(), (1..=5).map(key).collect::<Vec<_>>());
}

#[test]
fn scenario_06_a_black_hole_is_noticed_within_15_s_and_within_9_s_while_a_send_waits() {
    for seed in 0..50 {
        let mut idle = World::live(seed);
        idle.run(seed * 211 % 10_000, |_| false);
        idle.link = Link::BlackHole;
        let noticed = idle.run(60_000, is_waiting);
        assert!(noticed <= 15_000, "seed {seed}: noticed after {noticed} ms");

        let mut busy = World::live(seed);
        busy.link = if seed % 2 == 0 { Link::BlackHole } else { Link::UpLost };
        busy.post(1);
        let noticed = busy.run(60_000, is_waiting);
        assert!(noticed <= 9_000, "seed {seed}: noticed after {noticed} ms");
    }
}

#[test]
fn scenario_06_a_busy_room_does_not_hide_that_the_way_up_is_dead() {
    let mut world = World::live(3);
    world.link = Link::UpLost;
    world.post(1);
    let start = world.now;
    while !is_waiting(&world) && world.now.since(start) < 60_000 {
        world.other_posts();
        world.run(200, is_waiting);
    }
    assert!(world.now.since(start) <= 9_000, "noticed after {} ms", world.now.since(start));
}

#[test]
fn scenario_06_a_slow_server_is_called_slow_and_not_left() {
    let mut world = World::live(1);
    world.acks = false;
    world.post(1);
    world.run(120_000, |_| false);
    assert_eq!(world.session.state(), ConnectionState::Slow);
    assert_eq!(world.attempts.len(), 1, "a server that answers heartbeats must not be left");
    world.acks = true;
    let attempt = world.open.unwrap();
    let ack = Ack { client_id: key(1), room: ROOM, seq: Seq(1), ts: world.now, duplicate: false };
    let id = world.sent.iter().find_map(|(_, message)| match &message.body {
        Body::Command(WireCommand::Post(_)) => message.id,
        _ => None,
    });
    world.input(Input::Received { attempt, text: Message::reply(id, Reply::Ack(ack)).to_json() });
    assert_eq!(world.session.state(), ConnectionState::Live);
}

#[test]
fn scenario_08_after_ten_minutes_of_sleep_the_link_is_probed_at_once_and_live_within_3_s() {
    for seed in 0..100 {
        let mut world = World::live(seed);
        // A large server spreads returns; a machine that woke comes back on its own and need not wait for that.
        world.spread_ms = 20_000;
        world.run(60_000, |_| false);
        // Asleep: no timer fires, and the server has given the socket up without a word reaching us.
        world.now = world.now.plus(600_000);
        world.open = None;
        let beats = world.sent.len();
        world.input(Input::Woke);
        assert!(world.sent.len() > beats, "the probe goes out at once");
        let live = world.run(10_000, |world| world.attempts.len() == 2);
        assert!(live <= 3_000, "seed {seed}: live after {live} ms");
        assert_eq!(world.session.state(), ConnectionState::Live);
    }
}

#[test]
fn scenario_09_a_hidden_page_with_throttled_timers_is_not_disconnected_in_30_minutes() {
    let mut world = World::live(1);
    world.input(Input::Visible(false));
    world.timer_grain_ms = 60_000;
    let mut longest_silence = 0;
    let mut last = world.now;
    for _ in 0..30 {
        let sent = world.sent.len();
        world.run(60_000, |_| false);
        if world.sent.len() > sent {
            longest_silence = longest_silence.max(world.now.since(last));
            last = world.now;
        }
    }
    assert_eq!(world.attempts.len(), 1, "no reconnect");
    assert_eq!(world.session.state(), ConnectionState::Live);
    assert!(longest_silence < 150_000, "the server hears from a hidden page in time: {longest_silence} ms");
}

#[test]
fn asking_again_does_not_put_off_the_answer_that_is_due() {
    let mut world = World::live(1);
    world.link = Link::BlackHole;
    let start = world.now;
    while !is_waiting(&world) && world.now.since(start) < 60_000 {
        let visible = world.session.hidden;
        world.input(Input::Visible(visible));
        world.run(1_500, is_waiting);
    }
    assert!(world.now.since(start) <= 4_500, "noticed after {} ms", world.now.since(start));
}

#[test]
fn a_question_that_is_open_is_neither_asked_again_nor_given_up_before_its_time() {
    let mut world = World::live(1);
    world.link = Link::UpLost;
    world.now = world.session.next_deadline().expect("a beat is due").0;
    world.input(Input::DeadlineReached);
    let beats = world.sent.len();
    let deadline = world.now.plus(world.terms.answer_ms);
    assert_eq!(world.session.next_deadline(), Some((deadline, Deadline::BeatAnswer)));
    world.now = Timestamp(deadline.0 - 1);
    world.input(Input::DeadlineReached);
    world.input(Input::Command(Command::RetryNow));
    assert_eq!((world.session.state(), world.sent.len()), (ConnectionState::Live, beats));
    world.now = deadline;
    world.input(Input::DeadlineReached);
    assert!(is_waiting(&world), "and no later");
}

#[test]
fn a_page_that_is_hidden_or_shown_beats_at_its_new_pace_from_then_on() {
    let mut world = World::live(1);
    for (visible, pace) in [(false, world.terms.hidden_interval_ms), (true, world.terms.interval_ms)] {
        world.input(Input::Visible(visible));
        assert_eq!(world.session.next_deadline(), Some((world.now.plus(pace), Deadline::Beat)));
        world.run(3 * pace + 1, |_| false);
        assert_eq!(world.session.state(), ConnectionState::Live);
    }
}

#[test]
fn a_late_timer_asks_once_more_before_it_declares_death() {
    let mut world = World::live(1);
    world.run(10_000, |_| false);
    world.link = Link::UpLost;
    world.now = world.now.plus(1);
    world.input(Input::DeadlineReached);
    let beats = world.sent.len();
    world.now = world.now.plus(60_000);
    world.input(Input::DeadlineReached);
    assert_eq!(world.session.state(), ConnectionState::Live, "a timer held back for a minute proves nothing");
    assert_eq!(world.sent.len(), beats + 1, "it asks again");
    world.now = world.now.plus(60_000);
    world.input(Input::DeadlineReached);
    assert!(is_waiting(&world), "the second miss counts, however late");
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
    let busiest = seconds.iter().max().unwrap();
    let used = seconds.iter().filter(|count| **count > 0).count();
    assert!(f64::from(*busiest) <= 0.15 * clients as f64, "{busiest} in one second: {seconds:?}");
    assert!(used >= 10, "spread over {used} s only: {seconds:?}");
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
fn scenario_13_every_close_code_drives_the_action_in_the_registry() {
    for code in (1000..1016).chain(3000..3005).chain(4000..5000) {
        let mut world = World::live(u64::from(code));
        world.run(STABLE_MS, |_| false);
        world.close(code);
        let state = world.session.state();
        match (close::after_close(code), &state) {
            (AfterClose::Stop(reason), ConnectionState::Stopped(stopped)) => assert_eq!(reason, *stopped, "{code}"),
            (AfterClose::Reconnect, ConnectionState::Waiting { until, .. }) => {
                assert!(until.since(world.now) <= BACKOFF_BASE_MS, "{code}: {state:?}");
            }
            (AfterClose::ReconnectSlowly, ConnectionState::Waiting { until, .. }) => {
                assert!(until.since(world.now) >= close::SLOW_RECONNECT_MS, "{code}: {state:?}");
            }
            (after, state) => panic!("{code}: {after:?} led to {state:?}"),
        }
        if code >= 4500 {
            world.run(600_000, |_| false);
            assert_eq!(world.attempts.len(), 1, "{code}: a stop stays a stop");
        }
    }
}

#[test]
fn s19_the_reason_said_in_band_survives_a_proxy_that_turns_closes_into_1006() {
    let mut world = World::live(1);
    let attempt = world.open.unwrap();
    let closing = Closing { code: close::SESSION_REVOKED, reason: "revoked".to_owned() };
    world.say(attempt, Message::event(Event::Closing(closing)));
    world.drain();
    world.close(close::ABNORMAL);
    assert_eq!(world.session.state(), ConnectionState::Stopped(StopReason::SignedOut));
}

#[test]
fn scenario_15_inputs_of_an_older_attempt_change_nothing() {
    let mut world = World::live(1);
    let old = world.open.unwrap();
    world.close(close::ABNORMAL);
    world.run(5_000, |world| world.open.is_some());
    assert_eq!(world.session.state(), ConnectionState::Live);
    world.input(closed(old, close::SUPERSEDED));
    world.input(Input::Opened { attempt: old });
    let late = Message::event(Event::Room(RoomEvent { seq: Seq(1), ..world.event(1) }));
    world.input(Input::Received { attempt: old, text: late.to_json() });
    assert_eq!(world.session.state(), ConnectionState::Live);
    assert_eq!(world.shown_seqs(), Vec::<u64>::new());
}

#[test]
fn scenario_16_a_lost_hint_shows_as_a_gap_and_is_repaired_without_a_reconnect() {
    let mut world = World::live(1);
    world.other_posts();
    let attempt = world.open.unwrap();
    // Two are committed; only the second is told.
    world.stored.push((key(254), "theirs".to_owned()));
    world.stored.push((key(254), "theirs".to_owned()));
    world.head = 3;
    world.say(attempt, Message::event(Event::Room(world.event(3))));
    world.drain();
    assert_eq!(world.shown_seqs(), [1, 2, 3]);
    assert_eq!(world.attempts.len(), 1);
    assert_eq!(world.session.state(), ConnectionState::Live);
}

#[test]
fn a_gap_is_not_called_live_until_it_is_filled() {
    let mut world = World::live(1);
    let attempt = world.open.unwrap();
    world.stored = vec![(key(254), String::new()); 2];
    world.head = 2;
    world.link = Link::UpLost;
    world.say(attempt, Message::event(Event::Room(world.event(2))));
    world.drain();
    assert!(matches!(world.session.state(), ConnectionState::CatchingUp { .. }));
}

#[test]
fn an_event_that_comes_twice_is_shown_once() {
    let mut world = World::live(1);
    world.other_posts();
    let attempt = world.open.unwrap();
    for _ in 0..3 {
        world.say(attempt, Message::event(Event::Room(world.event(1))));
    }
    world.drain();
    assert_eq!(world.shown_seqs(), [1]);
}

#[test]
fn scenario_18_a_lurker_that_never_received_anything_resumes_without_loss() {
    let mut world = World::live(1);
    world.run(3_600_000, |_| false);
    assert_eq!(world.attempts.len(), 1);
    world.close(close::ABNORMAL);
    world.other_posts();
    world.run(5_000, |world| world.session.state() == ConnectionState::Live);
    assert_eq!(world.shown_seqs(), [1]);
}

#[test]
fn scenario_22_a_flood_is_slowed_by_soft_refusals_and_keeps_its_order() {
    let mut world = World::live(1);
    world.acks = false;
    for n in 1..=5 {
        world.post(n);
    }
    let ids: Vec<_> = world
        .sent
        .iter()
        .filter(|(_, message)| matches!(message.body, Body::Command(WireCommand::Post(_))))
        .map(|(_, message)| message.id)
        .collect();
    assert_eq!(ids.len(), 5);
    let attempt = world.open.unwrap();
    world.sent.clear();
    let limited = WireError::new(ErrorCode::RateLimited, "too fast").retry_after(2_000);
    world.say(attempt, Message::refusal(ids[0], limited));
    for id in &ids[1..] {
        world.say(attempt, Message::refusal(*id, WireError::new(ErrorCode::Behind, "behind")));
    }
    world.acks = true;
    world.drain();
    assert!(world.acked().is_empty(), "nothing is sent before the wait is over");
    let waited = world.run(10_000, |world| !world.acked().is_empty());
    assert_eq!(waited, 2_000);
    assert_eq!(world.acked(), (1..=5).map(key).collect::<Vec<_>>());
    let numbers: Vec<_> = world
        .sent
        .iter()
        .filter_map(|(_, message)| match &message.body {
            Body::Command(WireCommand::Post(post)) => post.n,
            _ => None,
        })
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5], "the same numbers come again");
    assert_eq!(world.attempts.len(), 1);
}

#[test]
fn scenario_24_the_state_tells_the_truth_through_a_bad_hour() {
    let mut world = World::new(11);
    assert_eq!(world.session.state(), ConnectionState::Idle);
    world.link = Link::BlackHole;
    world.input(Input::Command(Command::Start));
    assert_eq!(world.session.state(), ConnectionState::Connecting);
    world.run(CONNECT_TIMEOUT_MS + 1, is_waiting);
    assert!(is_waiting(&world));
    world.input(Input::Online(false));
    assert_eq!(world.session.state(), ConnectionState::Offline);
    world.run(600_000, |_| false);
    assert_eq!(world.session.state(), ConnectionState::Offline, "offline is believed");
    world.link = Link::Good;
    world.input(Input::Online(true));
    assert!(is_waiting(&world), "online is only a reason to try");
    let back = world.run(10_000, |world| world.session.state() == ConnectionState::Live);
    assert!(back <= AT_ONCE_JITTER_MS);
    world.input(Input::Command(Command::Stop));
    assert_eq!(world.session.state(), ConnectionState::Idle);
    // Every change was told, in order, and nothing else.
    let told: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            SessionEvent::State(state) => Some(state.clone()),
            _ => None,
        })
        .collect();
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
    assert_eq!(told.last(), Some(&ConnectionState::Idle));
}

#[test]
fn retry_now_works_while_the_device_claims_to_be_offline() {
    let mut world = World::live(1);
    world.input(Input::Online(false));
    world.run(60_000, |_| false);
    world.input(Input::Command(Command::RetryNow));
    assert_eq!(world.session.state(), ConnectionState::Live, "what works is true, whatever the device says");
}

#[test]
fn scenario_25_one_poison_post_is_parked_and_the_rest_goes_on() {
    let mut world = World::live(1);
    world.acks = false;
    for n in 1..=3 {
        world.post(n);
    }
    let attempt = world.open.unwrap();
    let poison = world.sent.iter().find_map(|(_, message)| match &message.body {
        Body::Command(WireCommand::Post(post)) if post.client_id == key(1) => message.id,
        _ => None,
    });
    world.say(attempt, Message::refusal(poison, WireError::new(ErrorCode::PostTooLong, "no")));
    world.drain();
    assert_eq!(world.refused(), [key(1)]);
    world.acks = true;
    world.close(close::ABNORMAL);
    world.run(5_000, |world| world.acked().len() == 2);
    assert_eq!(world.acked(), [key(2), key(3)]);
    let left: Vec<_> = world.session.outbox().map(|item| (item.client_id, item.refused.is_some())).collect();
    assert_eq!(left, [(key(1), true)], "parked, not lost");
    world.input(Input::Command(Command::RetrySend { client_id: key(1) }));
    assert_eq!(world.acked(), [key(2), key(3), key(1)]);
}

#[test]
fn scenario_25_a_post_that_breaks_every_connection_is_parked_after_three_tries() {
    let mut world = World::live(1);
    world.acks = false;
    world.post(1);
    world.post(2);
    for _ in 0..POISON_TRIES {
        world.run(120_000, |world| world.open.is_some());
        world.close(close::TOO_LARGE);
    }
    assert_eq!(world.refused(), [key(1)]);
    world.acks = true;
    world.run(120_000, |world| !world.acked().is_empty());
    assert_eq!(world.acked(), [key(2)]);
}

#[test]
fn a_post_too_large_for_any_message_never_costs_the_connection() {
    let mut world = World::live(1);
    let op = SendOp::Post { body: "\u{1}".repeat(20_000) };
    world.input(Input::Command(Command::Send { client_id: key(1), room: ROOM, op, at: world.now }));
    world.post(2);
    assert_eq!(world.refused(), [key(1)]);
    assert_eq!(world.acked(), [key(2)]);
}

#[test]
fn a_send_is_stored_while_it_is_sent_and_saved_is_told_only_after_the_transaction() {
    let mut world = World::live(1);
    world.acks = false;
    let outputs = world.session.handle(
        Input::Command(Command::Send {
            client_id: key(1),
            room: ROOM,
            op: SendOp::Post { body: "hi".to_owned() },
            at: world.now,
        }),
        world.now,
    );
    let put = outputs.iter().find_map(|output| match output {
        Output::Persist { serial, change: Persist::Put(item) } => Some((*serial, item.attempted)),
        _ => None,
    });
    let (serial, attempted) = put.expect("it is stored");
    assert!(attempted, "one write says both that it exists and that it may have reached the server");
    assert!(outputs.iter().any(|output| matches!(output, Output::Send { .. })), "it is sent in parallel");
    assert!(!outputs.contains(&Output::Event(SessionEvent::Saved(key(1)))));
    let outputs = world.session.handle(Input::Persisted { serial, ok: true }, world.now);
    assert_eq!(outputs, [Output::Event(SessionEvent::Saved(key(1)))]);
}

#[test]
fn a_device_that_cannot_store_is_told_once_and_sending_goes_on() {
    let mut world = World::live(1);
    world.acks = false;
    let _ = world.session.handle(Input::Persisted { serial: 99, ok: false }, world.now);
    let outputs = world.session.handle(Input::Persisted { serial: 100, ok: false }, world.now);
    assert_eq!(outputs, []);
    world.acks = true;
    world.post(1);
    assert_eq!(world.acked(), [key(1)]);
    assert!(
        world.events.iter().any(|(_, event)| *event == SessionEvent::Storage { ok: true }),
        "and told when it heals"
    );
}

#[test]
fn what_a_full_device_did_not_take_is_written_once_it_takes_something_again() {
    let mut world = World::live(1);
    world.close(close::ABNORMAL);
    let mut queue = |n| {
        let (client_id, op) = (key(n), SendOp::Post { body: "hi".to_owned() });
        let send = Command::Send { client_id, room: ROOM, op, at: world.now };
        let outputs = world.session.handle(Input::Command(send), world.now);
        puts(&outputs)[0].0
    };
    let (first, second) = (queue(1), queue(2));
    assert_eq!(world.session.handle(Input::Persisted { serial: first, ok: false }, world.now).len(), 1, "told");
    let outputs = world.session.handle(Input::Persisted { serial: second, ok: true }, world.now);
    let again = puts(&outputs);
    assert_eq!(again.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [key(1)]);
    let outputs = world.session.handle(Input::Persisted { serial: again[0].0, ok: true }, world.now);
    assert_eq!(outputs, [Output::Event(SessionEvent::Saved(key(1)))]);
}

fn puts(outputs: &[Output]) -> Vec<(u64, ClientId)> {
    let put = |output: &Output| match output {
        Output::Persist { serial, change: Persist::Put(item) } => Some((*serial, item.client_id)),
        Output::Persist { change: Persist::Remove(_), .. }
        | Output::Open { .. }
        | Output::Send { .. }
        | Output::Close { .. }
        | Output::Event(_) => None,
    };
    outputs.iter().filter_map(put).collect()
}

#[test]
fn a_post_whose_connection_was_lost_is_told_to_wait_again() {
    let mut world = World::live(1);
    world.acks = false;
    world.post(1);
    world.close(close::ABNORMAL);
    let told: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            SessionEvent::Sending(id) => Some(("sending", *id)),
            SessionEvent::Interrupted(id) => Some(("interrupted", *id)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [("sending", key(1)), ("interrupted", key(1))], "it is not called sending without a socket");
}

#[test]
fn a_full_outbox_says_so_and_takes_nothing_more() {
    let mut world = World::new(1);
    let post = |n: usize| {
        let client_id = ClientId::from_bytes((n as u128).to_be_bytes());
        let op = SendOp::Post { body: "waits".to_owned() };
        Input::Command(Command::Send { client_id, room: ROOM, op, at: Timestamp(1) })
    };
    (0..OUTBOX_ITEMS).for_each(|n| world.input(post(n)));
    assert!(!world.events.iter().any(|(_, event)| matches!(event, SessionEvent::OutboxFull { .. })));
    world.input(post(OUTBOX_ITEMS));
    let client_id = ClientId::from_bytes((OUTBOX_ITEMS as u128).to_be_bytes());
    assert_eq!(world.events.last(), Some(&(world.now, SessionEvent::OutboxFull { client_id })));
    assert_eq!((world.session.outbox().count(), world.persisted.len()), (OUTBOX_ITEMS, OUTBOX_ITEMS));
}

#[test]
fn what_is_queued_after_a_restore_is_ordered_behind_what_was_stored() {
    let mut world = World::new(1);
    world.post(1);
    let mut items: Vec<OutboxItem> = world.session.outbox().cloned().collect();
    items[0].order = 1_000;
    let mut later = World::new(1);
    later.input(Input::Restored { items });
    later.post(2);
    let orders: Vec<u64> = later.session.outbox().map(|item| item.order).collect();
    assert_eq!(orders, [1_000, 1_001]);
}

#[test]
fn found_posts_are_written_anew_only_where_they_must_be_and_from_the_last_to_the_first() {
    let item = |n: u8, order| OutboxItem {
        client_id: key(n),
        room: ROOM,
        op: SendOp::Post { body: format!("post {n}") },
        queued_at: Timestamp(u64::from(n)),
        order,
        attempted: false,
        refused: None,
    };
    let mut alone = World::new(1);
    alone.input(Input::Restored { items: vec![item(1, 7), item(2, 8)] });
    assert_eq!(alone.persisted.len(), 0, "they are on the device as they should be");
    let mut two_tabs = World::new(1);
    two_tabs.input(Input::Restored { items: vec![item(1, 1), item(2, 2), item(3, 1), item(4, 2)] });
    let written = two_tabs.persisted.iter().map(|change| match change {
        Persist::Put(item) => (item.client_id, item.order),
        Persist::Remove(key) => panic!("{key} was removed"),
    });
    assert_eq!(written.collect::<Vec<_>>(), [(key(4), 4), (key(2), 3), (key(3), 2)]);
}

#[test]
fn only_an_item_that_was_never_attempted_can_be_taken_back() {
    let mut world = World::live(1);
    world.link = Link::BlackHole;
    world.post(1);
    world.input(Input::Command(Command::CancelSend { client_id: key(1) }));
    assert_eq!(world.session.outbox().count(), 1, "its outcome is unknown");
    world.close(close::ABNORMAL);
    world.post(2);
    world.input(Input::Command(Command::CancelSend { client_id: key(2) }));
    assert_eq!(world.session.outbox().map(|item| item.client_id).collect::<Vec<_>>(), [key(1)]);
    assert!(world.persisted.contains(&Persist::Remove(key(2))));
}

#[test]
fn an_outbox_is_never_sent_as_somebody_else() {
    let mut world = World::new(1);
    world.post(1);
    world.session.config.user = OTHER;
    world.input(Input::Command(Command::Start));
    assert_eq!(world.session.state(), ConnectionState::Stopped(StopReason::SignedOut));
    assert!(world.stored.is_empty());
    assert_eq!(world.session.outbox().count(), 1, "kept for whom it belongs to");
}

#[test]
fn a_reset_room_starts_over_from_the_snapshot() {
    let mut world = World::live(1);
    for _ in 0..5 {
        world.other_posts();
    }
    let attempt = world.open.unwrap();
    let snapshot = Snapshot { as_of: position(2), total: 2, posts: vec![], people: vec![] };
    let outcome = OpenOutcome::Reset { reason: ResetReason::Ahead, snapshot };
    let opened = Opened { room: ROOM, outcome, roster: vec![], members: 0 };
    world.say(attempt, Message::event(Event::Opened(opened)));
    world.say(attempt, Message::event(Event::Room(RoomEvent { seq: Seq(3), ..world.event(3) })));
    world.drain();
    assert_eq!(world.shown_seqs(), [1, 2, 3, 4, 5, 3]);
    assert_eq!(world.session.position(ROOM), Some(position(3)));
}

#[test]
fn a_message_that_cannot_be_read_is_noted_and_nothing_else() {
    let mut world = World::live(1);
    let attempt = world.open.unwrap();
    for text in ["", "{", "[]", "{\"event\":\"room\",\"payload\":7}", "{\"event\":\"from_the_future\",\"payload\":{}}"]
    {
        world.input(Input::Received { attempt, text: text.to_owned() });
    }
    assert_eq!(world.session.state(), ConnectionState::Live);
}

mod any_order {
    use super::*;
    use proptest::prelude::*;

    fn input() -> impl Strategy<Value = Input> {
        let attempt = (0_u64..6).prop_map(AttemptId);
        prop_oneof![
            Just(Input::Command(Command::Start)),
            Just(Input::Command(Command::Stop)),
            Just(Input::Command(Command::RetryNow)),
            (0_u8..9).prop_map(|n| Input::Command(Command::Send {
                client_id: key(n),
                room: ROOM,
                op: SendOp::Post { body: "x".to_owned() },
                at: Timestamp(5)
            })),
            (0_u8..9).prop_map(|n| Input::Command(Command::RetrySend { client_id: key(n) })),
            (0_u8..9).prop_map(|n| Input::Command(Command::DiscardSend { client_id: key(n) })),
            Just(Input::Command(Command::Open { room: ROOM, cursor: None, replay: false })),
            Just(Input::Command(Command::Shut { room: ROOM })),
            (any::<u64>()).prop_map(|posts| Input::Command(Command::MarkRead { room: ROOM, posts })),
            Just(Input::Command(Command::Typing { room: ROOM })),
            attempt.clone().prop_map(|attempt| Input::Opened { attempt }),
            (attempt.clone(), 990_u16..5_010).prop_map(|(attempt, code)| closed(attempt, code)),
            (attempt, 0_usize..8, 0_u64..12)
                .prop_map(|(attempt, which, n)| Input::Received { attempt, text: answer(which, n) }),
            Just(Input::DeadlineReached),
            any::<bool>().prop_map(Input::Online),
            any::<bool>().prop_map(Input::Visible),
            Just(Input::Woke),
            (any::<bool>(), 0_u64..20).prop_map(|(ok, serial)| Input::Persisted { serial, ok }),
        ]
    }

    fn answer(which: usize, n: u64) -> String {
        let world = World::new(0);
        let id = Some(RequestId(n));
        let message = match which {
            0 | 1 => Message::reply(id, Reply::Welcome(Box::new(world.welcome()))),
            2 => Message::event(Event::Live(Live {})),
            3 => Message::event(Event::Room(world.event(n + 1))),
            4 => Message::event(Event::Opened(world.opened(None))),
            5 => {
                let ack = Ack { client_id: key(n as u8), room: ROOM, seq: Seq(n), ts: Timestamp(1), duplicate: false };
                Message::reply(id, Reply::Ack(ack))
            }
            6 => Message::refusal(id, WireError::new(ErrorCode::RateLimited, "slow").retry_after(n * 1_000)),
            _ => Message::event(Event::Beat(crate::message::BeatAsked { n })),
        };
        message.to_json()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        /// Whatever happens in whatever order: no panic, limits hold, and the state is never better than the link.
        #[test]
        fn no_sequence_of_inputs_breaks_the_session(inputs in prop::collection::vec((input(), 0_u64..40_000), 1..60)) {
            let mut world = World::new(7);
            let mut last_open = AttemptId(0);
            for (input, ms) in inputs {
                world.now = world.now.plus(ms);
                let outputs = world.session.handle(input, world.now);
                for output in &outputs {
                    if let Output::Open { attempt } = output {
                        prop_assert!(*attempt > last_open, "attempts are numbered upwards");
                        last_open = *attempt;
                    }
                    if let Output::Send { attempt, text } = output {
                        prop_assert_eq!(*attempt, last_open, "only the newest socket is written to");
                        prop_assert!(Message::parse(text).is_ok());
                    }
                }
                let live = matches!(world.session.state(), ConnectionState::Live | ConnectionState::Slow);
                prop_assert!(!live || matches!(world.session.link, super::super::Link::Up(_)));
                prop_assert!(world.session.outbox().count() <= crate::limits::OUTBOX_ITEMS);
                if let Some((at, _)) = world.session.next_deadline() {
                    prop_assert!(at.since(world.now) <= 150_000, "no wait without a limit");
                }
            }
        }
    }
}
