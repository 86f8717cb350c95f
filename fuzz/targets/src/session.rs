//! Any inputs in any order into a client's session: commands, sockets that open and close out of turn, clocks that
//! jump, and a server that says anything.
//!
//! Must not live here: what a good server does (the simulator has the real one). Invariant checked, after every
//! input: outputs name the socket that is open, storage writes are counted, what is delivered of a room is dense, an
//! item leaves the outbox only with a word, no more sends are under way than the window holds, the state is never more
//! hopeful than what was heard, and no deadline comes back at once for ever.

mod words;

use std::collections::{BTreeMap, BTreeSet};

use shared::cursor::Check;
use shared::ids::{AttemptId, ClientId, Lsn, RequestId, RoomId, Seq, SessionId};
use shared::limits::SEND_WINDOW;
use shared::message::{
    Ack, BeatAnswer, BeatAsked, Body, Closing, Draining, Event, HeartbeatTerms, Live, Message, Reply, RoomRef,
};
use shared::model::{Deleted, Empty, Named, OpenOutcome, Person, Posted, RoomChange, RoomEvent, UserChange, UserEvent};
use shared::session::{Command, ConnectionState, Input, Output, RequestTag, Session, SessionConfig, SessionEvent};
use shared::time::Timestamp;

pub(crate) use self::words::welcome;
use self::words::{ME, OTHER, client_id, code, news, op, opened, position, refusal, room, stored, waiting};
use crate::source::Source;

const INPUTS: usize = 400;
/// How often one moment's deadline may be due again.
const DUE_AGAIN: usize = 8;

pub(crate) fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let mut world = World::new(&mut source);
    for _ in 0..INPUTS {
        if source.is_empty() {
            break;
        }
        let input = world.choose(&mut source);
        world.take(input);
    }
    world.rest();
}

/// A session, and what must be true of it.
struct World {
    session: Session,
    now: Timestamp,
    /// The socket the session has, from its own word to open it on.
    socket: Option<AttemptId>,
    attempts: u64,
    /// Requests on this socket that wait for their answer, by what they were.
    asked: BTreeMap<RequestId, &'static str>,
    last_request: RequestId,
    /// Sends under way, by request.
    sends: BTreeMap<RequestId, ClientId>,
    is_welcomed: bool,
    is_said_live: bool,
    serial: u64,
    state: ConnectionState,
    outbox: BTreeSet<ClientId>,
    /// What was last delivered of each followed room.
    rooms: BTreeMap<RoomId, Option<Seq>>,
}

impl World {
    fn new(source: &mut Source<'_>) -> Self {
        let config = SessionConfig {
            client: "fuzz".to_owned(),
            session: SessionId::from_bytes([3; 16]),
            user: ME,
            seed: source.number(),
            hidden: source.flag(),
            online: !source.flag(),
        };
        Self {
            session: Session::new(config),
            now: Timestamp(source.number()),
            socket: None,
            attempts: 0,
            asked: BTreeMap::new(),
            last_request: RequestId(0),
            sends: BTreeMap::new(),
            is_welcomed: false,
            is_said_live: false,
            serial: 0,
            state: ConnectionState::Idle,
            outbox: BTreeSet::new(),
            rooms: BTreeMap::new(),
        }
    }

    // What happens.

    fn choose(&mut self, source: &mut Source<'_>) -> Input {
        let current = self.socket.unwrap_or(AttemptId(self.attempts));
        match source.byte() % 32 {
            0 => {
                self.now = self.now.plus(source.number().saturating_mul(100));
                Input::DeadlineReached
            }
            1 | 2 => {
                if let Some((deadline, _)) = self.session.next_deadline() {
                    self.now = self.now.max(deadline).plus(*source.pick(&[0, 0, 1, 1_999, 2_001, 600_000]));
                }
                Input::DeadlineReached
            }
            3 => Input::Online(source.flag()),
            4 => Input::Visible(source.flag()),
            5 => Input::Woke,
            6 => Input::Persisted { serial: self.serial.saturating_sub(source.number()), ok: !source.flag() },
            7 if source.flag() => Input::Restored { items: (0..source.below(4)).map(|_| stored(source)).collect() },
            // More than a window, told apart by their ids alone.
            7 => Input::Restored { items: (0..source.byte() % 24).map(waiting).collect() },
            8 | 9 => Input::Opened { attempt: current },
            10 => Input::Opened { attempt: AttemptId(source.number()) },
            11 => Input::Closed { attempt: current, code: code(source), reason: source.text(8) },
            12 => Input::Closed { attempt: AttemptId(source.number()), code: 1006, reason: String::new() },
            13 => {
                let older = self.attempts.saturating_sub(1 + source.number() % 3);
                Input::Received { attempt: AttemptId(older), text: self.says(source) }
            }
            14 => Input::Received { attempt: current, text: source.text(120) },
            15..=22 => Input::Received { attempt: current, text: self.says(source) },
            31 => Input::Erased,
            _command => Input::Command(self.command(source)),
        }
    }

    fn command(&mut self, source: &mut Source<'_>) -> Command {
        match source.byte() % 16 {
            0 | 1 => Command::Start,
            2 => Command::Stop,
            3 => Command::RetryNow,
            4 => Command::CancelSend { client_id: client_id(source) },
            5 => Command::RetrySend { client_id: client_id(source), at: Timestamp(5) },
            6 => Command::DiscardSend { client_id: client_id(source) },
            7 | 8 => {
                let room = room(source);
                let cursor = source.flag().then(|| position(Seq(source.number())));
                self.rooms.entry(room).or_insert(cursor.map(|cursor| cursor.seq));
                Command::Open { room, cursor, replay: source.flag() }
            }
            9 => {
                let room = room(source);
                self.rooms.remove(&room);
                Command::Shut { room }
            }
            10 => {
                let command = shared::message::Command::Shut(RoomRef { room: room(source) });
                Command::Request { tag: RequestTag(source.number()), command }
            }
            11 => Command::MarkRead { room: room(source), posts: source.number() },
            12 => Command::Typing { room: room(source) },
            _send => Command::Send {
                client_id: client_id(source),
                room: room(source),
                op: op(source),
                at: Timestamp(source.number()),
            },
        }
    }

    /// Something a server says, in its place or not.
    fn says(&mut self, source: &mut Source<'_>) -> String {
        let pick = |kind: &str, asked: &BTreeMap<RequestId, &'static str>, source: &mut Source<'_>| {
            let found: Vec<RequestId> = asked.iter().filter(|(_, asked)| **asked == kind).map(|(id, _)| *id).collect();
            if found.is_empty() { RequestId(source.number()) } else { *source.pick(&found) }
        };
        let message = match source.byte() % 20 {
            0..=2 => self.welcomes(pick("hello", &self.asked, source), source),
            3 | 4 => Message::event(Event::Live(Live {})),
            5..=7 => Message::event(Event::Room(self.room_event(source))),
            8 => Message::event(Event::Opened(opened(source))),
            9 => Message::reply(Some(pick("open", &self.asked, source)), Reply::Opened(opened(source))),
            10 | 11 => {
                let id = pick("send", &self.asked, source);
                let client_id = self.sends.get(&id).copied().unwrap_or_else(|| client_id(source));
                let (room, seq) = (room(source), Seq(source.number()));
                let ack = Ack { client_id, room, seq, ts: Timestamp(source.number()), duplicate: source.flag() };
                Message::reply(Some(id), Reply::Ack(ack))
            }
            12 => {
                let kind = *source.pick(&["send", "open", "beat", "other", "hello"]);
                Message::refusal(Some(pick(kind, &self.asked, source)), refusal(source))
            }
            13 => {
                let answer = BeatAnswer { now: Timestamp(source.number()), reconnect_spread_ms: source.number() };
                Message::reply(Some(pick("beat", &self.asked, source)), Reply::Beat(answer))
            }
            14 => Message::reply(Some(pick("other", &self.asked, source)), Reply::Done(Empty {})),
            15 => Message::event(Event::Beat(BeatAsked { n: source.number() })),
            16 => Message::event(Event::Draining(Draining { reconnect_after_ms: source.number() })),
            17 => Message::event(Event::Closing(Closing { code: code(source), reason: source.text(8) })),
            18 => Message::event(Event::User(UserEvent {
                seq: Seq(source.number()),
                check: Check([source.byte(); 8]),
                ts: Timestamp(source.number()),
                change: UserChange::Named(Named { name: source.text(8) }),
            })),
            _news => Message::event(news(source)),
        };
        message.to_json()
    }

    fn welcomes(&self, id: RequestId, source: &mut Source<'_>) -> Message {
        let you = if source.byte() == 255 { OTHER } else { ME };
        let mut message = welcome(id.0, you);
        if let Body::Reply(Reply::Welcome(welcome)) = &mut message.body
            && source.flag()
        {
            let answer_ms = source.number();
            welcome.heartbeat =
                HeartbeatTerms { interval_ms: source.number(), hidden_interval_ms: source.number(), answer_ms };
            welcome.reconnect_spread_ms = source.number();
            welcome.limits.message_bytes = source.number();
            welcome.user = position(Seq(source.number()));
            welcome.user_recovered = source.flag();
            welcome.server.lsn = Lsn(source.number());
        }
        message
    }

    fn room_event(&self, source: &mut Source<'_>) -> RoomEvent {
        let room = room(source);
        let next = self.rooms.get(&room).copied().flatten().map(Seq::next);
        let seq = next.filter(|_| source.byte() < 200).unwrap_or_else(|| Seq(source.number()));
        let change = match source.byte() % 3 {
            0 => RoomChange::Joined(Empty {}),
            1 => RoomChange::Deleted(Deleted { post: Seq(source.number()) }),
            _post => RoomChange::Posted(Posted { client_id: client_id(source), body: Some(source.text(8)) }),
        };
        let by = Person { id: *source.pick(&[ME, OTHER]), name: "Ada".to_owned() };
        let check = Check([source.byte(); 8]);
        RoomEvent { room, seq, check, posts: source.number(), ts: Timestamp(source.number()), by, change }
    }

    // What must hold.

    fn take(&mut self, input: Input) {
        let is_foreign = match &input {
            Input::Opened { attempt } | Input::Closed { attempt, .. } | Input::Received { attempt, .. } => {
                Some(*attempt) != self.socket
            }
            Input::Command(_)
            | Input::DeadlineReached
            | Input::Online(_)
            | Input::Visible(_)
            | Input::Woke
            | Input::Persisted { .. }
            | Input::Restored { .. }
            | Input::Erased => false,
        };
        match &input {
            Input::Closed { attempt, .. } if Some(*attempt) == self.socket => self.lose(),
            Input::Received { attempt, text } if Some(*attempt) == self.socket => self.hear(text),
            Input::Closed { .. }
            | Input::Received { .. }
            | Input::Command(_)
            | Input::Opened { .. }
            | Input::DeadlineReached
            | Input::Online(_)
            | Input::Visible(_)
            | Input::Woke
            | Input::Persisted { .. }
            | Input::Restored { .. }
            | Input::Erased => {}
        }
        let shown = format!("{input:?}");
        let outputs = self.session.handle(input, self.now);
        if is_foreign {
            // All that may follow is what was due anyhow: a send whose wait is over.
            let is_due = |output: &Output| {
                let sending = matches!(output, Output::Event(SessionEvent::Sending(_)));
                sending || matches!(output, Output::Send { .. } | Output::Persist { .. })
            };
            assert!(outputs.iter().all(is_due), "{shown} on no socket of ours led to {outputs:?}");
        }
        for output in outputs {
            self.check_output(output, &shown);
        }
        self.check(&shown);
    }

    fn lose(&mut self) {
        self.socket = None;
        self.asked.clear();
        self.sends.clear();
        self.last_request = RequestId(0);
        (self.is_welcomed, self.is_said_live) = (false, false);
    }

    /// Notes what the session hears on its socket.
    fn hear(&mut self, text: &str) {
        let Ok(message) = Message::parse_from_server(text) else { return };
        match message.body {
            Body::Reply(Reply::Welcome(_)) => {
                self.is_welcomed |= message.id.is_some_and(|id| self.asked.get(&id) == Some(&"hello"));
            }
            Body::Event(Event::Live(_)) => self.is_said_live |= self.is_welcomed,
            Body::Reply(_) | Body::Refusal(_) | Body::Event(_) | Body::Command(_) => {}
        }
        // In the order in which the session looks: an answer to a hello is not one to anything else.
        if let (true, Some(id)) = (self.is_welcomed, message.id) {
            self.asked.remove(&id);
            self.sends.remove(&id);
        }
    }

    fn check_output(&mut self, output: Output, after: &str) {
        match output {
            Output::Open { attempt } => {
                assert_eq!(self.socket, None, "a second socket after {after}");
                assert!(attempt.0 > self.attempts, "an attempt is numbered twice after {after}");
                self.attempts = attempt.0;
                self.socket = Some(attempt);
            }
            Output::Close { attempt, .. } => {
                assert_eq!(self.socket, Some(attempt), "a foreign socket is closed after {after}");
                self.lose();
            }
            Output::Send { attempt, text } => {
                assert_eq!(self.socket, Some(attempt), "a foreign socket is written to after {after}");
                self.check_send(&text);
            }
            Output::Persist { serial, .. } => {
                self.serial += 1;
                assert_eq!(serial, self.serial);
            }
            Output::Event(event) => self.check_event(event, after),
        }
    }

    fn check_send(&mut self, text: &str) {
        let message = Message::parse(text).expect("a session sends what can be read");
        let (Body::Command(command), Some(id)) = (message.body, message.id) else {
            panic!("a session sends commands with an id: {text}")
        };
        assert!(id > self.last_request, "a request is numbered twice: {text}");
        self.last_request = id;
        use shared::message::Command as Wire;
        let kind = match command {
            Wire::Hello(_) => "hello",
            Wire::Beat(_) => "beat",
            Wire::Open(_) => "open",
            Wire::Post(send) => self.check_sent(id, send.client_id),
            Wire::Edit(send) => self.check_sent(id, send.client_id),
            Wire::Delete(send) => self.check_sent(id, send.client_id),
            Wire::React(send) => self.check_sent(id, send.client_id),
            _request => "other",
        };
        assert!(self.is_welcomed || kind == "hello", "{text} before the welcome");
        self.asked.insert(id, kind);
    }

    fn check_sent(&mut self, id: RequestId, client_id: ClientId) -> &'static str {
        assert!(self.outbox.contains(&client_id), "what is sent is in the outbox");
        assert!(!self.sends.values().any(|other| *other == client_id), "{client_id} is under way twice");
        self.sends.insert(id, client_id);
        assert!(self.sends.len() <= SEND_WINDOW, "{} sends are under way", self.sends.len());
        "send"
    }

    fn check_event(&mut self, event: SessionEvent, after: &str) {
        match event {
            SessionEvent::State(state) => {
                assert_ne!(state, self.state, "the same state told twice after {after}");
                self.state = state;
            }
            SessionEvent::Opened(opened) => match opened.outcome {
                OpenOutcome::Fresh { snapshot }
                | OpenOutcome::Jumped { snapshot, .. }
                | OpenOutcome::Reset { snapshot, .. } => {
                    self.rooms.insert(opened.room, Some(snapshot.as_of.seq));
                }
                OpenOutcome::Refused { .. } => drop(self.rooms.remove(&opened.room)),
                OpenOutcome::Recovered { .. } => assert!(self.rooms.contains_key(&opened.room)),
            },
            SessionEvent::Room(event) => {
                let last = self.rooms.get(&event.room).copied().flatten();
                assert_eq!(last.map(Seq::next), Some(event.seq), "not the next event of its room after {after}");
                self.rooms.insert(event.room, Some(event.seq));
            }
            SessionEvent::Queued(item) => drop(self.outbox.insert(item.client_id)),
            SessionEvent::Acked(ack) => {
                assert!(self.outbox.remove(&ack.client_id), "acknowledged and not in the outbox after {after}");
                self.sends.retain(|_, client_id| *client_id != ack.client_id);
            }
            SessionEvent::Discarded(client_id) => {
                assert!(self.outbox.remove(&client_id), "thrown away and not in the outbox after {after}");
            }
            SessionEvent::Interrupted(client_id) | SessionEvent::Refused { client_id, .. } => {
                self.sends.retain(|_, other| *other != client_id);
            }
            SessionEvent::Welcomed { you, .. } => assert_eq!(you.id, ME),
            SessionEvent::Recovered { .. }
            | SessionEvent::User(_)
            | SessionEvent::Heads(_)
            | SessionEvent::Typing(_)
            | SessionEvent::Presence(_)
            | SessionEvent::Read(_)
            | SessionEvent::Saved(_)
            | SessionEvent::Sending(_)
            | SessionEvent::Answer { .. }
            | SessionEvent::Storage { .. }
            | SessionEvent::OutboxFull { .. }
            | SessionEvent::RoundTrip { .. }
            | SessionEvent::Diagnostic(_) => {}
        }
    }

    fn check(&mut self, after: &str) {
        assert_eq!(self.session.state(), self.state, "the state told is not the state after {after}");
        match &self.state {
            ConnectionState::Live | ConnectionState::Slow => {
                assert!(self.is_welcomed && self.is_said_live, "live and never told so, after {after}");
            }
            ConnectionState::CatchingUp { .. } => assert!(self.is_welcomed),
            ConnectionState::Connecting | ConnectionState::Trying { .. } => assert!(self.socket.is_some()),
            ConnectionState::Idle
            | ConnectionState::Offline
            | ConnectionState::Waiting { .. }
            | ConnectionState::Stopped(_) => assert_eq!(self.socket, None, "{:?} with a socket", self.state),
        }
        let (ids, orders): (BTreeSet<_>, Vec<_>) =
            self.session.outbox().map(|item| (item.client_id, (item.order, item.client_id))).unzip();
        assert_eq!(ids, self.outbox, "the outbox is not what was told of it after {after}");
        assert_eq!(ids.len(), orders.len());
        assert!(orders.is_sorted_by(|one, next| one < next), "{orders:?} after {after}");
    }

    /// Nothing more happens: the session comes to wait for something that lies ahead.
    fn rest(&mut self) {
        for _ in 0..DUE_AGAIN {
            match self.session.next_deadline() {
                Some((deadline, _)) if deadline <= self.now && self.now < Timestamp(u64::MAX) => {
                    self.take(Input::DeadlineReached);
                }
                Some(_) | None => return,
            }
        }
        panic!("{:?} is due for ever at {:?}", self.session.next_deadline(), self.now);
    }
}
