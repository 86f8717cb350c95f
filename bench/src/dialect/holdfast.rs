//! Holdfast's protocol as a lean client speaks it: greeted, member, follower; acknowledgements and room events.
//!
//! Must not live here: resuming and outboxes, which are the session's. Invariant: the seq of every room event is the one
//! due on that connection in that room, or it is counted as wrong.

use std::time::{Duration, Instant};

use memchr::memmem;
use shared::error::ErrorCode;
use shared::ids::{ClientId, RequestId, RoomId, SessionId};
use shared::limits::PROTOCOL_VERSION;
use shared::message::{Beat, Body, Command, CreateRoom, Event, FindRoom, Hello, Membership, Message, OpenRoom, Reply};
use shared::model::{OpenOutcome, RoomChange};

use crate::board::{Board, leading_number};
use crate::clock::{random, wall};
use crate::crowd::Sockets;

/// Request ids of posts begin here.
const POSTS_FROM: u64 = 1_000_000;
/// Request ids of finding rooms begin here; below are those of everything else.
const ROOMS_FROM: u64 = 100;
/// Beginning of a room event, up to its room.
const ROOM_EVENT: &[u8] = br#"{"event":"room","payload":{"room":""#;

/// How far the connections have come.
#[derive(Debug, Default)]
pub struct Setup {
    /// Connections that were greeted.
    pub welcomed: usize,
    /// Memberships that were confirmed.
    pub joined: usize,
    /// Rooms that are followed, over all connections.
    pub following: usize,
    /// Rooms that were found or made.
    pub found: usize,
    /// The first refusal.
    pub refusal: Option<(ErrorCode, String)>,
}

/// What is known of the connections.
pub struct Holdfast {
    name: String,
    /// The rooms, once they are known.
    pub rooms: Vec<Option<RoomId>>,
    /// The seq due next, by connection and room.
    due: Vec<Vec<(RoomId, u64)>>,
    /// Random bytes all keys of this process share.
    key: [u8; 10],
    /// How far everybody has come.
    pub setup: Setup,
}

impl Holdfast {
    /// For so many rooms; a single one is called `name`, several are numbered.
    #[must_use]
    pub fn new(name: &str, rooms: usize) -> Self {
        Self {
            name: name.to_lowercase(),
            rooms: vec![None; rooms],
            due: Vec::new(),
            key: random(),
            setup: Setup::default(),
        }
    }

    fn name_of(&self, room: usize) -> String {
        if self.rooms.len() == 1 { self.name.clone() } else { format!("{}-{room}", self.name) }
    }

    /// The first message of a connection.
    #[must_use]
    pub fn hello() -> String {
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            client: concat!("holdfast-bench/", env!("CARGO_PKG_VERSION")).into(),
            session: SessionId::from_parts(wall(), random()),
            hidden: false,
            user: None,
            rooms: Vec::new(),
            since: None,
        };
        Message::command(RequestId(0), Command::Hello(hello)).to_json()
    }

    /// Asks for a room by its name; if there is none, it is made.
    pub fn find(&self, sockets: &mut Sockets, at: usize, room: usize) {
        send(sockets, at, ROOMS_FROM + room as u64, Command::FindRoom(FindRoom { name: self.name_of(room) }));
    }

    /// Makes a connection a member of a room that is known.
    pub fn join(&self, sockets: &mut Sockets, at: usize, room: usize) {
        let Some(room) = self.rooms[room] else { return };
        let client_id = ClientId::from_parts(wall(), random());
        send(sockets, at, 2, Command::Join(Membership { client_id, room }));
    }

    /// Has a connection follow a room that is known.
    pub fn open(&self, sockets: &mut Sockets, at: usize, room: usize) {
        let Some(room) = self.rooms[room] else { return };
        send(sockets, at, 2, Command::Open(OpenRoom { room, cursor: None, replay: false }));
    }

    pub(super) fn joined(&mut self, at: usize) {
        self.due.resize_with(self.due.len().max(at + 1), Vec::new);
    }

    pub(super) fn beat(sockets: &mut Sockets, at: usize) {
        send(sockets, at, 1, Command::Beat(Beat::default()));
    }

    pub(super) fn post(&self, room: usize, number: usize, body: &str) -> String {
        let mut key = self.key;
        for (place, byte) in key.iter_mut().zip((number as u64).to_be_bytes()) {
            *place ^= byte;
        }
        let client_id = ClientId::from_parts(wall(), key);
        let room = self.rooms[room].map(|room| room.to_string()).unwrap_or_default();
        let id = POSTS_FROM + number as u64;
        format!(
            r#"{{"id":{id},"command":"post","payload":{{"client_id":"{client_id}","room":"{room}","body":"{body}"}}}}"#
        )
    }

    /// Deals with a message: the two that come by the million are recognised by their bytes, all others are parsed.
    pub(super) fn text(&mut self, sockets: &mut Sockets, board: &mut Board, at: usize, text: &[u8], now: u64) {
        if let Some(rest) = text.strip_prefix(ROOM_EVENT)
            && let Some(seq) = number_after(rest, br#""seq":"#)
        {
            sockets.last_news = Instant::now();
            return match self.due_in(at, rest) {
                Some(due) => delivered(board, due, seq, text, now),
                None => sockets.strange += 1,
            };
        } else if let Some(rest) = text.strip_prefix(br#"{"id":"#.as_slice())
            && memmem::find(&text[..text.len().min(64)], br#""reply":"ack""#).is_some()
            && let Some(number) = leading_number(rest).and_then(post_number)
        {
            return board.acked(at, number, now);
        }
        match std::str::from_utf8(text).ok().and_then(|text| Message::parse(text).ok()) {
            Some(message) => self.message(sockets, board, at, message, now),
            None => sockets.strange += 1,
        }
    }

    /// Where the seq due in a room is kept; `rest` begins with the room's id.
    fn due_in(&mut self, at: usize, rest: &[u8]) -> Option<&mut u64> {
        match self.due[at].as_mut_slice() {
            // Whoever follows one room need not read its name a million times.
            [(_, due)] => Some(due),
            many => {
                let room: RoomId = std::str::from_utf8(rest.get(..36)?).ok()?.parse().ok()?;
                let place = many.binary_search_by_key(&room, |(room, _)| *room).ok()?;
                Some(&mut many[place].1)
            }
        }
    }

    fn message(&mut self, sockets: &mut Sockets, board: &mut Board, at: usize, message: Message, now: u64) {
        let id = message.id.map_or(0, |id| id.0);
        let asked_room = id.checked_sub(ROOMS_FROM).filter(|&room| room < self.rooms.len() as u64);
        match message.body {
            Body::Reply(Reply::Welcome(welcome)) => {
                self.setup.welcomed += 1;
                sockets.beat_every = Some(Duration::from_millis(welcome.heartbeat.interval_ms));
                sockets.last_news = Instant::now();
            }
            Body::Reply(Reply::Room(room)) => match asked_room {
                Some(place) => {
                    self.rooms[place as usize] = Some(room.room);
                    self.setup.found += 1;
                }
                None => self.setup.joined += usize::from(room.joined),
            },
            Body::Reply(Reply::Opened(opened)) | Body::Event(Event::Opened(opened)) => {
                sockets.last_news = Instant::now();
                match opened.outcome {
                    OpenOutcome::Fresh { snapshot } => {
                        let rooms = &mut self.due[at];
                        let place = rooms.partition_point(|(room, _)| *room < opened.room);
                        rooms.insert(place, (opened.room, snapshot.as_of.seq.0 + 1));
                        self.setup.following += 1;
                    }
                    OpenOutcome::Refused { error } => self.refused(error.code, error.message),
                    OpenOutcome::Recovered { .. } | OpenOutcome::Jumped { .. } | OpenOutcome::Reset { .. } => {
                        sockets.strange += 1;
                    }
                }
            }
            Body::Reply(Reply::Ack(_)) => {
                if let Some(number) = post_number(id) {
                    board.acked(at, number, now);
                }
            }
            Body::Refusal(error) => match (post_number(id), asked_room, error.code) {
                (Some(number), _, code) => board.refused(at, number, code.to_string()),
                (None, Some(place), ErrorCode::NotFound) => {
                    let client_id = ClientId::from_parts(wall(), random());
                    let name = self.name_of(place as usize);
                    let make = CreateRoom { client_id, name, title: "for measuring".into() };
                    send(sockets, at, id, Command::CreateRoom(make));
                }
                (None, _, code) => self.refused(code, error.message),
            },
            Body::Event(Event::Room(event)) => {
                sockets.last_news = Instant::now();
                let body = match &event.change {
                    RoomChange::Posted(posted) => posted.body.as_deref().unwrap_or_default(),
                    _ => "",
                };
                match self.due[at].iter_mut().find(|(room, _)| *room == event.room) {
                    Some((_, due)) => delivered(board, due, event.seq.0, body.as_bytes(), now),
                    None => sockets.strange += 1,
                }
            }
            Body::Event(Event::Beat(asked)) => {
                send(sockets, at, 1, Command::Beat(Beat { hidden: false, answers: Some(asked.n) }));
            }
            Body::Event(Event::Heads(_) | Event::Presence(_)) => sockets.last_news = Instant::now(),
            Body::Reply(_) | Body::Event(_) => {}
            Body::Command(_) => sockets.strange += 1,
        }
    }

    fn refused(&mut self, code: ErrorCode, words: String) {
        self.setup.refusal.get_or_insert((code, words));
    }
}

fn send(sockets: &mut Sockets, at: usize, id: u64, command: Command) {
    sockets.send_text(at, Message::command(RequestId(id), command).to_json().as_bytes());
}

fn post_number(id: u64) -> Option<usize> {
    id.checked_sub(POSTS_FROM).and_then(|number| usize::try_from(number).ok())
}

fn delivered(board: &mut Board, due: &mut u64, seq: u64, text: &[u8], now: u64) {
    board.events += 1;
    if seq < *due {
        board.duplicates += 1;
        return;
    }
    board.gaps += seq - *due;
    *due = seq + 1;
    if let Some(number) = board.number_in(text) {
        board.delivered(number, now);
    }
}

/// Reads the digits that follow a pattern.
fn number_after(text: &[u8], pattern: &[u8]) -> Option<u64> {
    leading_number(&text[memmem::find(text, pattern)? + pattern.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{PostFate, Seating};

    #[test]
    fn a_seq_that_is_not_due_is_counted() {
        let mut board = Board::new(*b"abcd1234", Seating::of(1, 1, 1));
        board.begin(vec![PostFate::default(); 4], 0);
        let mut due = 7;
        let text = |number| format!("abcd1234.{number}.");
        delivered(&mut board, &mut due, 7, text(0).as_bytes(), 1);
        delivered(&mut board, &mut due, 7, text(0).as_bytes(), 1);
        delivered(&mut board, &mut due, 10, text(3).as_bytes(), 1);
        assert_eq!((board.events, board.duplicates, board.gaps, due), (3, 1, 2, 11));
        assert_eq!(board.posts.iter().map(|post| post.deliveries).collect::<Vec<_>>(), [1, 0, 0, 1]);
    }

    #[test]
    fn the_events_of_the_wire_begin_as_the_short_way_expects() {
        let golden = include_str!("../../../shared/golden/event/room-posted.json");
        let compact = Message::parse(golden).unwrap().to_json();
        let rest = compact.as_bytes().strip_prefix(ROOM_EVENT).expect("the beginning of a room event");
        assert_eq!(number_after(rest, br#""seq":"#), Some(46));
        assert!(rest.starts_with(b"019b76da-a800-7020-b040-5060708090b1"));
    }

    #[test]
    fn whoever_follows_many_rooms_has_a_seq_due_in_each() {
        let room = |n: u8| RoomId::from_parts(shared::time::Timestamp(u64::from(n)), [n; 10]);
        let mut holdfast = Holdfast::new("x", 3);
        holdfast.joined(0);
        holdfast.due[0] = vec![(room(1), 10), (room(2), 20), (room(3), 30)];
        assert_eq!(holdfast.due_in(0, room(2).to_string().as_bytes()), Some(&mut 20));
        assert_eq!(holdfast.due_in(0, room(4).to_string().as_bytes()), None);
        assert_eq!(holdfast.due_in(0, b"short"), None);
    }
}
