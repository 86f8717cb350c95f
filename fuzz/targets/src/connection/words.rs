//! Commands with any contents, some of which the server has named before.
//!
//! Must not live here: sending them. Invariant: what is made here can be written and read.

use server::log::GENERAL;
use shared::cursor::{Check, Position};
use shared::ids::{ClientId, Epoch, Lsn, RoomId, Seq, SessionId};
use shared::message::{
    Beat, Command, CreateRoom, EventsAfter, FindRoom, Hello, History, ListPeople, ListRooms, MarkRead, Membership,
    OpenRoom, Rename, RoomRef, SendDelete, SendEdit, SendPost, SendReact,
};

use crate::source::Source;

/// What the server has named so far.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) rooms: Vec<RoomId>,
    pub(super) positions: Vec<Position>,
    pub(super) seqs: Vec<Seq>,
}

/// A hello of any version, with any cursors.
pub(super) fn hello(source: &mut Source<'_>, known: &Known) -> Hello {
    Hello {
        protocol: if source.byte() < 240 { 1 } else { source.number() as u16 },
        client: source.text(8),
        session: SessionId::from_bytes([source.byte() % 3; 16]),
        hidden: source.flag(),
        user: known.position(source),
        rooms: (0..source.below(4)).map(|_| known.open(source)).collect(),
        since: source.flag().then(|| Lsn(source.number())),
    }
}

fn key(source: &mut Source<'_>) -> ClientId {
    numbered(source.byte())
}

fn numbered(number: u8) -> ClientId {
    let mut bytes = [0xcc; 16];
    bytes[0] = number;
    ClientId::from_bytes(bytes)
}

/// Under which key a post is said to have been written, if that is said.
fn named(post: Seq) -> Option<ClientId> {
    (post.0 % 4 == 3).then(|| numbered(post.0 as u8))
}

fn text(source: &mut Source<'_>) -> String {
    match source.byte() {
        250 => "\u{1}".repeat(9_000),
        251 => "語".repeat(4_000),
        252 => "a".repeat(17_000),
        _own => source.text(24),
    }
}

fn name(source: &mut Source<'_>) -> String {
    match source.byte() {
        tag @ 0..=199 => format!("name-{}", tag % 5),
        _own => text(source),
    }
}

impl Known {
    fn room(&self, source: &mut Source<'_>) -> RoomId {
        match source.byte() {
            0..=159 => GENERAL,
            160..=239 if !self.rooms.is_empty() => *source.pick(&self.rooms),
            other => RoomId::from_bytes([other; 16]),
        }
    }

    fn seq(&self, source: &mut Source<'_>) -> Seq {
        if source.flag() && !self.seqs.is_empty() { *source.pick(&self.seqs) } else { Seq(source.number()) }
    }

    fn position(&self, source: &mut Source<'_>) -> Option<Position> {
        match source.byte() {
            0..=79 => None,
            tag @ 80..=199 if !self.positions.is_empty() => {
                let mut position = *source.pick(&self.positions);
                if tag > 150 {
                    position.seq = Seq(source.number());
                }
                Some(position)
            }
            _made => Some(Position {
                epoch: Epoch::from_bytes([source.byte(); 16]),
                seq: Seq(source.number()),
                check: Check([source.byte(); 8]),
            }),
        }
    }

    fn open(&self, source: &mut Source<'_>) -> OpenRoom {
        OpenRoom { room: self.room(source), cursor: self.position(source), replay: source.flag() }
    }

    fn send(&self, source: &mut Source<'_>) -> Command {
        let n = (source.byte() > 200).then(|| source.number());
        let (client_id, room) = (key(source), self.room(source));
        match source.byte() % 8 {
            0 | 1 => {
                let post = self.seq(source);
                Command::Edit(SendEdit { n, client_id, room, post, post_client_id: named(post), body: text(source) })
            }
            2 => {
                let post = self.seq(source);
                Command::Delete(SendDelete { n, client_id, room, post, post_client_id: named(post) })
            }
            3 => {
                let (post, emoji) = (self.seq(source), source.text(8));
                Command::React(SendReact {
                    n,
                    client_id,
                    room,
                    post,
                    post_client_id: named(post),
                    emoji,
                    on: source.flag(),
                })
            }
            _post => Command::Post(SendPost { n, client_id, room, body: text(source) }),
        }
    }

    /// Any command but the first.
    pub(super) fn command(&self, source: &mut Source<'_>) -> Command {
        let limit = |source: &mut Source<'_>| source.flag().then(|| source.number() as u32);
        match source.byte() % 24 {
            0..=7 => self.send(source),
            8 | 9 => Command::Open(self.open(source)),
            10 => Command::Shut(RoomRef { room: self.room(source) }),
            11 | 12 => {
                let (room, before) = (self.room(source), self.seq(source));
                Command::History(History { room, before, limit: limit(source) })
            }
            13 | 14 => {
                let (room, after) = (self.room(source), self.seq(source));
                Command::Events(EventsAfter { room, after, limit: limit(source) })
            }
            15 => Command::Rooms(ListRooms { after: source.flag().then(|| name(source)) }),
            16 => Command::FindRoom(FindRoom { name: name(source) }),
            17 => {
                let client_id = key(source);
                Command::CreateRoom(CreateRoom { client_id, name: name(source), title: text(source) })
            }
            18 => Command::Join(Membership { client_id: key(source), room: self.room(source) }),
            19 => Command::Leave(Membership { client_id: key(source), room: self.room(source) }),
            20 => {
                let room = self.room(source);
                Command::People(ListPeople { room, after: source.flag().then(|| name(source)) })
            }
            21 => Command::Rename(Rename { client_id: key(source), name: name(source) }),
            22 => match source.byte() % 4 {
                0 => Command::Read(MarkRead { room: self.room(source), posts: source.number() }),
                1 => Command::Typing(RoomRef { room: self.room(source) }),
                2 => Command::Hello(hello(source, self)),
                _beat => Command::Beat(Beat { hidden: source.flag(), answers: limit(source).map(u64::from) }),
            },
            _unknown => Command::Unknown(shared::tagged::Unknown {
                kind: source.text(80),
                raw: if source.flag() { "{}".to_owned() } else { "null".to_owned() },
            }),
        }
    }
}
