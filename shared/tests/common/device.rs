//! One client at its socket: a session, and a server that says what the test says.
//!
//! Must not live here: what the server says, but for a welcome. Invariant: the session is told nothing of which it does
//! not see the cause: a socket opens after it was asked for, and a message comes on the newest.

use shared::cursor::{Check, Position};
use shared::error::WireError;
use shared::ids::{AttemptId, ConnectionId, Lsn, RequestId, Seq, SessionId};
use shared::message::{
    Ack, Body, Command as WireCommand, Event, HeartbeatTerms, Live, Message, Reply, Welcome, WireLimits,
};
use shared::model::{OpenOutcome, Opened, Person, ServerInfo};
use shared::session::{Command, ConnectionState, Input, Output, Persist, SendOp, Session, SessionConfig, SessionEvent};
use shared::time::Timestamp;

use super::{Room, client_id, epoch, room, user};

/// A session, its newest attempt, and what it told.
pub(crate) struct Device {
    pub(crate) session: Session,
    pub(crate) now: u64,
    /// The newest attempt that was asked for; zero before the first.
    pub(crate) attempt: AttemptId,
    /// Everything it told, in order.
    pub(crate) told: Vec<SessionEvent>,
    /// What it wanted written to the device.
    pub(crate) writes: Vec<(u64, Persist)>,
    /// The attempts it closed.
    pub(crate) shut: Vec<AttemptId>,
}

impl Device {
    /// A session that was not started.
    pub(crate) fn at_rest(seed: u64, online: bool) -> Self {
        let config = SessionConfig {
            client: "a test".to_owned(),
            session: SessionId::from_bytes([1; 16]),
            user: user(1),
            seed,
            hidden: false,
            online,
        };
        let (attempt, told, writes, shut) = (AttemptId(0), Vec::new(), Vec::new(), Vec::new());
        Self { session: Session::new(config), now: 1_000_000, attempt, told, writes, shut }
    }

    /// A session that is live in one room, on its first connection.
    pub(crate) fn live(model: &Room) -> Self {
        let mut device = Self::at_rest(1, true);
        device.input(Input::Command(Command::Open { room: room(), cursor: None, replay: false }));
        device.input(Input::Command(Command::Start));
        device.greet(&welcome());
        device.open_room(OpenOutcome::Fresh { snapshot: model.snapshot(10) });
        device.hear(&Message::event(Event::Live(Live {})));
        device
    }

    /// Lets the newest attempt open, answers the hello, and returns it and what was written after the welcome.
    pub(crate) fn greet(&mut self, welcome: &Welcome) -> (Message, Vec<Message>) {
        let mut hello = self.input(Input::Opened { attempt: self.attempt });
        assert_eq!(hello.len(), 1, "a hello and nothing else");
        let hello = hello.remove(0);
        let after = self.hear(&Message::reply(hello.id, Reply::Welcome(Box::new(welcome.clone()))));
        (hello, after)
    }

    /// Waits for the next attempt after a loss, which opens and is welcomed, as [`Device::greet`] does.
    pub(crate) fn come_back(&mut self, welcome: &Welcome) -> (Message, Vec<Message>) {
        while !matches!(self.session.state(), ConnectionState::Trying { .. } | ConnectionState::Connecting) {
            self.wait();
        }
        self.greet(welcome)
    }

    /// Says what became of opening the room.
    pub(crate) fn open_room(&mut self, outcome: OpenOutcome) {
        self.hear(&Message::event(Event::Opened(Opened { room: room(), outcome, roster: Vec::new(), members: 0 })));
    }

    /// Gives an input and returns what was written to the socket.
    pub(crate) fn input(&mut self, input: Input) -> Vec<Message> {
        let mut sent = Vec::new();
        for output in self.session.handle(input, Timestamp(self.now)) {
            match output {
                Output::Open { attempt } => self.attempt = attempt,
                Output::Send { text, .. } => sent.push(Message::parse(&text).unwrap()),
                Output::Close { attempt, .. } => self.shut.push(attempt),
                Output::Persist { serial, change } => self.writes.push((serial, change)),
                Output::Event(event) => self.told.push(event),
            }
        }
        sent
    }

    pub(crate) fn wish(&mut self, command: Command) -> Vec<Message> {
        self.input(Input::Command(command))
    }

    pub(crate) fn hear(&mut self, message: &Message) -> Vec<Message> {
        self.input(Input::Received { attempt: self.attempt, text: message.to_json() })
    }

    pub(crate) fn refuse(&mut self, id: Option<RequestId>, error: WireError) -> Vec<Message> {
        self.hear(&Message::refusal(id, error))
    }

    /// Says that a post it sent is stored there, and returns what was written.
    pub(crate) fn acknowledge(&mut self, post: &Message, seq: Seq) -> Vec<Message> {
        let Body::Command(WireCommand::Post(sent)) = &post.body else { panic!("{post:?}") };
        let ack = Ack { client_id: sent.client_id, room: sent.room, seq, ts: Timestamp(0), duplicate: false };
        self.hear(&Message::reply(post.id, Reply::Ack(ack)))
    }

    /// The socket is gone, with this code.
    pub(crate) fn lose(&mut self, code: u16) {
        self.input(Input::Closed { attempt: self.attempt, code, reason: String::new() });
    }

    pub(crate) fn write(&mut self, key: u64) -> Message {
        let sent = self.queue(key);
        assert_eq!(sent.len(), 1);
        sent[0].clone()
    }

    /// Writes a post, whether or not it can be sent.
    pub(crate) fn queue(&mut self, key: u64) -> Vec<Message> {
        let op = SendOp::Post { body: format!("post {key}") };
        self.wish(Command::Send { client_id: client_id(key), room: room(), op, at: Timestamp(self.now) })
    }

    /// Lets time pass up to the next deadline and returns what was written.
    pub(crate) fn wait(&mut self) -> Vec<Message> {
        let (at, _) = self.session.next_deadline().unwrap();
        assert!(at.0 > self.now, "it does not wait at all");
        self.now = at.0;
        self.input(Input::DeadlineReached)
    }

    /// Takes what it wanted written so far, with the number of each write.
    pub(crate) fn take_writes(&mut self) -> Vec<(u64, Persist)> {
        std::mem::take(&mut self.writes)
    }

    /// Takes what it told so far.
    pub(crate) fn take_told(&mut self) -> Vec<SessionEvent> {
        std::mem::take(&mut self.told)
    }
}

/// A welcome to somebody of whose own stream nothing is known.
pub(crate) fn welcome() -> Welcome {
    Welcome {
        protocol: 1,
        server: ServerInfo { epoch: epoch(), build: String::new(), lsn: Lsn(0) },
        connection: ConnectionId(1),
        you: Person { id: user(1), name: "me".to_owned() },
        now: Timestamp(0),
        heartbeat: HeartbeatTerms::default(),
        reconnect_spread_ms: 0,
        limits: WireLimits::default(),
        draining: false,
        user: Position { epoch: epoch(), seq: Seq(0), check: Check::default() },
        user_recovered: true,
        rooms_complete: true,
        rooms: Vec::new(),
    }
}
