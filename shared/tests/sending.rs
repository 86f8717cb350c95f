//! The order of sends, seen from the wire: numbers, refusals, and items that leave in between.

mod common;

use common::{Room, client_id, room, user};
use shared::cursor::{Check, Position};
use shared::error::{ErrorCode, WireError};
use shared::ids::{AttemptId, ClientId, ConnectionId, Lsn, RequestId, RoomId, Seq, SessionId};
use shared::message::{Body, Command as WireCommand, Event, HeartbeatTerms, Live, Message, Reply, Welcome, WireLimits};
use shared::model::{OpenOutcome, Opened, Person, ServerInfo};
use shared::session::{Command, ConnectionState, Input, Output, SendOp, Session, SessionConfig};
use shared::time::Timestamp;

const ATTEMPT: AttemptId = AttemptId(1);

/// A session that is live on its first connection.
struct Device {
    session: Session,
    now: u64,
}

impl Device {
    fn live(model: &Room) -> Self {
        let config = SessionConfig {
            client: "a test".to_owned(),
            session: SessionId::from_bytes([1; 16]),
            user: user(1),
            seed: 1,
            hidden: false,
            online: true,
        };
        let mut device = Self { session: Session::new(config), now: 1_000 };
        device.input(Input::Command(Command::Open { room: room(), cursor: None, replay: false }));
        device.input(Input::Command(Command::Start));
        let hello = device.input(Input::Opened { attempt: ATTEMPT });
        let nothing = Position { epoch: common::epoch(), seq: Seq(0), check: Check::default() };
        let welcome = Welcome {
            protocol: 1,
            server: ServerInfo { epoch: common::epoch(), build: String::new(), lsn: Lsn(0) },
            connection: ConnectionId(1),
            you: Person { id: user(1), name: "me".to_owned() },
            now: Timestamp(0),
            heartbeat: HeartbeatTerms::default(),
            reconnect_spread_ms: 0,
            limits: WireLimits::default(),
            draining: false,
            user: nothing,
            user_recovered: true,
            rooms_complete: true,
            rooms: Vec::new(),
        };
        device.hear(&Message::reply(hello[0].id, Reply::Welcome(Box::new(welcome))));
        let outcome = OpenOutcome::Fresh { snapshot: model.snapshot(10) };
        device.hear(&Message::event(Event::Opened(Opened { room: room(), outcome, roster: Vec::new(), members: 0 })));
        device.hear(&Message::event(Event::Live(Live {})));
        device
    }

    /// Gives an input and returns what was written to the socket.
    fn input(&mut self, input: Input) -> Vec<Message> {
        let outputs = self.session.handle(input, Timestamp(self.now));
        let sent = outputs.into_iter().filter_map(|output| match output {
            Output::Send { text, .. } => Some(Message::parse(&text).unwrap()),
            _ => None,
        });
        sent.collect()
    }

    fn hear(&mut self, message: &Message) -> Vec<Message> {
        self.input(Input::Received { attempt: ATTEMPT, text: message.to_json() })
    }

    fn refuse(&mut self, id: Option<RequestId>, error: WireError) -> Vec<Message> {
        self.hear(&Message::refusal(id, error))
    }

    fn write(&mut self, key: u64) -> Message {
        let op = SendOp::Post { body: format!("post {key}") };
        let send = Command::Send { client_id: client_id(key), room: room(), op, at: Timestamp(self.now) };
        let sent = self.input(Input::Command(send));
        assert_eq!(sent.len(), 1);
        sent[0].clone()
    }

    /// Lets time pass up to the next deadline and returns the posts that were written.
    fn wait(&mut self) -> Vec<Message> {
        let (at, _) = self.session.next_deadline().unwrap();
        assert!(at.0 > self.now, "it does not wait at all");
        self.now = at.0;
        self.input(Input::DeadlineReached)
    }
}

fn numbers(messages: &[Message]) -> Vec<(u64, ClientId)> {
    let post = |message: &Message| match &message.body {
        Body::Command(WireCommand::Post(post)) => Some((post.n.unwrap(), post.client_id)),
        _ => None,
    };
    messages.iter().filter_map(post).collect()
}

fn too_fast() -> WireError {
    WireError::new(ErrorCode::RateLimited, "Too fast.").retry_after(300)
}

fn behind() -> WireError {
    WireError::new(ErrorCode::Behind, "Wait for the one before.")
}

#[test]
fn a_number_whose_post_turned_out_to_be_stored_is_taken_over_by_the_next() {
    let mut model = Room::default();
    let mut device = Device::live(&model);
    let (first, second, third) = (device.write(1), device.write(2), device.write(3));
    device.refuse(first.id, too_fast());
    device.refuse(second.id, behind());
    // The first had been stored on an earlier connection: its own event says so.
    model.post(user(1), client_id(1), "post 1");
    device.hear(&Message::event(Event::Room(model.event(Seq(1)).clone())));
    device.refuse(third.id, behind());
    let again = device.wait();
    assert_eq!(numbers(&again), [(1, client_id(2)), (3, client_id(3))], "the server waits for number 1");
}

#[test]
fn the_same_holds_when_its_event_comes_before_the_refusal() {
    let mut model = Room::default();
    let mut device = Device::live(&model);
    let (first, second) = (device.write(1), device.write(2));
    model.post(user(1), client_id(1), "post 1");
    device.hear(&Message::event(Event::Room(model.event(Seq(1)).clone())));
    device.refuse(first.id, too_fast());
    device.refuse(second.id, behind());
    assert_eq!(numbers(&device.wait()), [(1, client_id(2))]);
}

#[test]
fn a_post_set_aside_after_passing_refusals_leaves_its_number_to_the_next() {
    let mut device = Device::live(&Room::default());
    let (mut first, second) = (device.write(1), device.write(2));
    for time in 1..shared::session::POISON_TRIES {
        device.refuse(first.id, WireError::new(ErrorCode::Internal, "A bug."));
        if time == 1 {
            device.refuse(second.id, behind());
        }
        let again = device.wait();
        assert_eq!(numbers(&again), [(1, client_id(1))], "one at a time while the server refuses");
        first = again[0].clone();
    }
    let next = device.refuse(first.id, WireError::new(ErrorCode::Internal, "A bug."));
    assert_eq!(numbers(&next), [(1, client_id(2))]);
}

#[test]
fn behind_nothing_at_all_is_waited_out_and_not_stormed() {
    let mut device = Device::live(&Room::default());
    let mut only = device.write(1);
    let started = device.now;
    for _ in 0..3 {
        let at_once = device.refuse(only.id, behind());
        assert_eq!(numbers(&at_once), [], "it is sent again at once, for ever");
        only = device.wait()[0].clone();
    }
    assert_eq!(device.now - started, 7_000, "the waits double");
}

#[test]
fn heads_at_the_end_of_counting_in_two_rooms_are_only_far_away() {
    let mut device = Device::live(&Room::default());
    let other = RoomId::from_bytes([8; 16]);
    device.input(Input::Command(Command::Open { room: other, cursor: None, replay: false }));
    let snapshot = Room::default().snapshot(10);
    let far = OpenOutcome::Recovered { head: Seq(u64::MAX), missed: u64::MAX };
    for (room, outcome) in [(other, OpenOutcome::Fresh { snapshot }), (room(), far.clone()), (other, far)] {
        device.hear(&Message::event(Event::Opened(Opened { room, outcome, roster: Vec::new(), members: 0 })));
    }
    assert_eq!(device.session.state(), ConnectionState::CatchingUp { to_go: u64::MAX });
}
