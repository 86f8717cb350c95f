//! Days of a page, without a browser: actions and the session's words in, states and effects out.

mod composer;
mod late;
mod person;
mod rooms;

use shared::close::StopReason;
use shared::cursor::{Check, Position};
use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, ConnectionId, Epoch, Lsn, RoomId, Seq, UserId};
use shared::message::{Ack, Command as WireCommand, Reply, WireLimits};
use shared::model::{
    OpenOutcome, Opened, Person, PostRef, Posted, RoomChange, RoomEvent, RoomSummary, ServerInfo, Snapshot, UserChange,
    UserEvent,
};
use shared::session::{Command, ConnectionState, OutboxItem, RequestTag, SendOp, SessionEvent};
use shared::time::Timestamp;

use super::*;
use crate::store::{Action, Dialog, Form, Place, State};
use crate::words::{Language, Local};

const WALL: u64 = 1_795_000_000_000;
/// What a composer has drawn that is never behind.
const DRAWN: u64 = u64::MAX;

fn me() -> Person {
    Person { id: UserId::from_bytes([7; 16]), name: "Robin".into() }
}

fn other() -> Person {
    Person { id: UserId::from_bytes([8; 16]), name: "Kim".into() }
}

fn room_id(n: u8) -> RoomId {
    RoomId::from_bytes([n; 16])
}

fn summary(n: u8, name: &str, posts: u64, read: u64) -> RoomSummary {
    RoomSummary {
        room: room_id(n),
        name: name.into(),
        title: String::new(),
        joined: true,
        members: 2,
        head: Seq(posts),
        posts,
        read,
    }
}

/// A page and its clock.
struct Page {
    model: Model,
    now: u64,
    ids: u8,
}

impl Page {
    fn at(path: &str) -> Self {
        let birth = Birth {
            now: Timestamp(0),
            language: Language::English,
            theme: Theme::System,
            path: path.into(),
            last_room: None,
            build: "test",
            hidden: false,
        };
        let mut page = Self { model: Model::new(&birth), now: 0, ids: 0 };
        page.step(|model, ctx| model.signed_in(me(), ctx));
        page
    }

    /// A page that is live in `general`, with `build` beside it.
    fn live() -> Self {
        let mut page = Self::at("/");
        page.welcome(vec![summary(1, "general", 3, 3), summary(2, "build", 5, 2)]);
        page.open(1, 3);
        page.hear(SessionEvent::State(ConnectionState::Live));
        page
    }

    fn step(&mut self, step: impl FnOnce(&mut Model, &mut Ctx<'_>)) -> Vec<Effect> {
        let ids = &mut self.ids;
        let mut new_id = || {
            *ids += 1;
            ClientId::from_bytes([*ids; 16])
        };
        let mut ctx = Ctx { now: Timestamp(self.now), wall: Timestamp(WALL + self.now), new_id: &mut new_id };
        step(&mut self.model, &mut ctx);
        self.model.take_effects()
    }

    fn act(&mut self, action: Action) -> Vec<Effect> {
        self.step(|model, ctx| model.act(action, ctx))
    }

    fn hear(&mut self, event: SessionEvent) -> Vec<Effect> {
        self.step(|model, ctx| model.hear(event, ctx))
    }

    fn state(&mut self) -> State {
        let local = Local { wall: Timestamp(WALL + self.now), utc_offset_min: 0 };
        self.model.publish(Timestamp(self.now), local)
    }

    fn welcome(&mut self, rooms: Vec<RoomSummary>) -> Vec<Effect> {
        self.welcome_as_of(0, rooms)
    }

    /// Welcomes where the person's own stream stands so.
    fn welcome_as_of(&mut self, seq: u64, rooms: Vec<RoomSummary>) -> Vec<Effect> {
        self.hear(SessionEvent::Welcomed {
            you: me(),
            rooms,
            complete: true,
            user: Seq(seq),
            limits: WireLimits::default(),
            server: ServerInfo { epoch: Epoch::from_bytes([1; 16]), build: "1".into(), lsn: Lsn(1) },
            connection: ConnectionId(1),
        })
    }

    fn open(&mut self, room: u8, total: u64) {
        let as_of = Position { epoch: Epoch::from_bytes([1; 16]), seq: Seq(total), check: Check([0; 8]) };
        let snapshot = Snapshot { as_of, total, posts: Vec::new(), people: Vec::new() };
        self.hear(SessionEvent::Opened(Opened {
            room: room_id(room),
            outcome: OpenOutcome::Fresh { snapshot },
            roster: Vec::new(),
            members: 2,
        }));
    }

    fn posted(&mut self, room: u8, seq: u64, by: Person) -> Vec<Effect> {
        self.hear(SessionEvent::Room(RoomEvent {
            room: room_id(room),
            seq: Seq(seq),
            check: Check([0; 8]),
            posts: seq,
            ts: Timestamp(WALL),
            by,
            change: RoomChange::Posted(Posted { client_id: ClientId::from_bytes([99; 16]), body: Some("hi".into()) }),
        }))
    }

    fn answer(&mut self, effects: &[Effect], result: Result<Reply, WireError>) -> Vec<Effect> {
        self.hear(SessionEvent::Answer { tag: tag_of(effects), result })
    }
}

fn tag_of(effects: &[Effect]) -> RequestTag {
    let tag = effects.iter().find_map(|effect| match effect {
        Effect::Session(Command::Request { tag, .. }) => Some(*tag),
        _ => None,
    });
    tag.expect("something was asked")
}

fn gone_to(effects: &[Effect]) -> Option<(&str, bool)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Go { path, replace } => Some((path.as_str(), *replace)),
        _ => None,
    })
}

fn opened(effects: &[Effect]) -> Option<RoomId> {
    effects.iter().find_map(|effect| match effect {
        Effect::Session(Command::Open { room, .. }) => Some(*room),
        _ => None,
    })
}

fn sent(effects: &[Effect]) -> Option<(ClientId, &SendOp)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Session(Command::Send { client_id, op, .. }) => Some((*client_id, op)),
        _ => None,
    })
}

fn item(client_id: ClientId, body: &str) -> OutboxItem {
    OutboxItem {
        client_id,
        room: room_id(1),
        op: SendOp::Post { body: body.into() },
        queued_at: Timestamp(WALL),
        order: 1,
        attempted: false,
        refused: None,
    }
}
