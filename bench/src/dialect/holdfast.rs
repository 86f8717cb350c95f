//! Holdfast's protocol as a lean client speaks it: greeted, member, follower; acknowledgements and room events.
//!
//! Must not live here: resuming and outboxes, which are the session's. Invariant: the seq of every room event is the one
//! due on that connection in that room, or it is counted as wrong.

use std::time::{Duration, Instant};

use memchr::memmem;
use serde::{Deserialize, Serialize};
use shared::error::ErrorCode;
use shared::ids::{ClientId, RequestId, RoomId, Seq, SessionId};
use shared::limits::PROTOCOL_VERSION;
use shared::message::{
    Beat, Body, Command, CreateRoom, Event, EventsAfter, FindRoom, Hello, History, Membership, Message, OpenRoom, Reply,
};
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
    /// Heartbeats that were answered.
    pub beats: usize,
    /// The first refusal.
    pub refusal: Option<(ErrorCode, String)>,
}

/// What is asked of a room again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// A page of [`PAGE`] posts before some place.
    History,
    /// A page of [`PAGE`] events after some place, as whoever resumes reads them.
    Events,
    /// The newest of the room, as whoever enters is shown it.
    Open,
}

/// Posts of a page that is asked for.
pub const PAGE: u64 = 50;

/// What is known of the connections.
pub struct Holdfast {
    name: String,
    /// The rooms, once they are known.
    pub rooms: Vec<Option<RoomId>>,
    /// The seq due next, by connection and room.
    due: Vec<Vec<(RoomId, u64)>>,
    /// Where each connection began to follow, for whoever comes back from there.
    began: Vec<Option<OpenRoom>>,
    /// Where each connection that comes back has caught up; 0 where it has, or need not.
    target: Vec<u64>,
    /// When each connection that came back had caught up.
    pub caught_up: Vec<u64>,
    /// Random bytes all keys of this process share.
    key: [u8; 10],
    /// How far everybody has come.
    pub setup: Setup,
}

impl Holdfast {
    /// For so many rooms, and more that nobody follows; the first is called `name`, the others are numbered.
    #[must_use]
    pub fn new(name: &str, rooms: usize, more: usize) -> Self {
        Self {
            name: name.to_lowercase(),
            rooms: vec![None; rooms + more],
            due: Vec::new(),
            began: Vec::new(),
            target: Vec::new(),
            caught_up: Vec::new(),
            key: random(),
            setup: Setup::default(),
        }
    }

    fn name_of(&self, room: usize) -> String {
        if room == 0 { self.name.clone() } else { format!("{}-{room}", self.name) }
    }

    /// The first message of a connection, which follows these rooms from where they say.
    #[must_use]
    pub fn hello(rooms: Vec<OpenRoom>) -> String {
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            client: concat!("holdfast-bench/", env!("CARGO_PKG_VERSION")).into(),
            session: SessionId::from_parts(wall(), random()),
            hidden: false,
            user: None,
            rooms,
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

    /// Asks something whose answer is noted as that of post `number`.
    pub fn ask(&self, sockets: &mut Sockets, at: usize, number: usize, question: Question, place: u64) {
        let Some(room) = self.rooms[0] else { return };
        let limit = Some(PAGE as u32);
        let command = match question {
            Question::History => Command::History(History { room, before: Seq(place + PAGE + 1), limit }),
            Question::Events => Command::Events(EventsAfter { room, after: Seq(place), limit }),
            Question::Open => Command::Open(OpenRoom { room, cursor: None, replay: false }),
        };
        send(sockets, at, POSTS_FROM + number as u64, command);
    }

    /// Forgets all connections but for where they began to follow; they are to come back from there. Returns their rooms.
    ///
    /// # Errors
    /// Words where one never followed a room.
    pub fn come_back(&mut self) -> Result<Vec<OpenRoom>, String> {
        let rooms: Option<Vec<_>> = self.began.iter().cloned().collect();
        let rooms = rooms.ok_or("somebody who is to come back never followed a room")?;
        self.due = rooms.iter().map(|open| vec![(open.room, open.cursor.map_or(0, |at| at.seq.0) + 1)]).collect();
        self.target = vec![u64::MAX; rooms.len()];
        (self.caught_up, self.setup) = (vec![0; rooms.len()], Setup::default());
        Ok(rooms)
    }

    /// How many events connections that came back are still owed; one of whom nothing is known is owed [`PAGE`].
    #[must_use]
    pub fn owed(&self) -> u64 {
        let owed = |at: usize| match self.target[at] {
            0 => 0,
            u64::MAX => PAGE,
            target => self.due[at].first().map_or(PAGE, |(_, due)| (target + 1).saturating_sub(*due)),
        };
        (0..self.target.len()).map(owed).sum()
    }

    /// Notes that a connection may have caught up.
    fn look(&mut self, at: usize, now: u64) {
        if let (Some(&target), [(_, due)]) = (self.target.get(at), self.due[at].as_slice())
            && target > 0
            && *due > target
        {
            (self.target[at], self.caught_up[at]) = (0, now);
            self.setup.following += 1;
        }
    }

    pub(super) fn joined(&mut self, at: usize) {
        let count = self.due.len().max(at + 1);
        self.due.resize_with(count, Vec::new);
        self.began.resize(count, None);
    }

    pub(crate) fn beat(sockets: &mut Sockets, at: usize) {
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
            match self.due_in(at, rest) {
                Some(due) => delivered(board, due, seq, text, now),
                None => sockets.strange += 1,
            }
            return self.look(at, now);
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
                        let (rooms, due) = (&mut self.due[at], snapshot.as_of.seq.0 + 1);
                        match rooms.binary_search_by_key(&opened.room, |(room, _)| *room) {
                            Ok(place) => rooms[place].1 = due,
                            Err(place) => rooms.insert(place, (opened.room, due)),
                        }
                        let cursor = Some(snapshot.as_of);
                        self.began[at] = Some(OpenRoom { room: opened.room, cursor, replay: false });
                        match post_number(id) {
                            Some(number) => board.acked(at, number, now),
                            None => self.setup.following += 1,
                        }
                    }
                    OpenOutcome::Refused { error } => self.refused(error.code, error.message),
                    OpenOutcome::Recovered { head, missed } => {
                        // Whoever comes back was left exactly so many behind.
                        board.gaps += PAGE.saturating_sub(missed);
                        if let Some(target) = self.target.get_mut(at) {
                            *target = head.0;
                        }
                        self.look(at, now);
                    }
                    OpenOutcome::Jumped { .. } | OpenOutcome::Reset { .. } => {
                        sockets.strange += 1;
                    }
                }
            }
            Body::Reply(Reply::Ack(_)) => {
                if let Some(number) = post_number(id) {
                    board.acked(at, number, now);
                }
            }
            Body::Reply(Reply::Beat(_)) => self.setup.beats += 1,
            Body::Reply(Reply::History(page)) => answered(board, at, id, page.posts.len(), now),
            Body::Reply(Reply::Events(page)) => answered(board, at, id, page.events.len(), now),
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
                self.look(at, now);
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

/// Notes the answer to a question; a page that is not full is one with a gap.
fn answered(board: &mut Board, at: usize, id: u64, posts: usize, now: u64) {
    if let Some(number) = post_number(id) {
        board.gaps += PAGE.saturating_sub(posts as u64);
        board.acked(at, number, now);
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
    use shared::cursor::{Check, Position};
    use shared::ids::Epoch;

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
    fn whoever_comes_back_is_owed_what_they_missed_until_they_have_it() {
        let room = RoomId::from_parts(shared::time::Timestamp(1), [1; 10]);
        let mut board = Board::new(*b"abcd1234", Seating::of(1, 1, 1));
        let mut holdfast = Holdfast::new("x", 1, 0);
        holdfast.joined(0);
        assert!(holdfast.come_back().is_err());
        let cursor = Position { epoch: Epoch::from_bytes([1; 16]), seq: Seq(7), check: Check::default() };
        holdfast.began[0] = Some(OpenRoom { room, cursor: Some(cursor), replay: false });
        assert_eq!(holdfast.come_back().unwrap().len(), 1);
        assert_eq!(holdfast.owed(), PAGE);
        holdfast.target[0] = 7 + PAGE;
        for seq in 8..=7 + PAGE {
            assert_eq!((holdfast.owed(), holdfast.caught_up[0]), (8 + PAGE - seq, 0));
            delivered(&mut board, &mut holdfast.due[0][0].1, seq, b"", 3);
            holdfast.look(0, 3);
        }
        assert_eq!((holdfast.owed(), holdfast.caught_up[0], holdfast.setup.following), (0, 3, 1));
    }

    #[test]
    fn whoever_follows_many_rooms_has_a_seq_due_in_each() {
        let room = |n: u8| RoomId::from_parts(shared::time::Timestamp(u64::from(n)), [n; 10]);
        let mut holdfast = Holdfast::new("x", 3, 0);
        holdfast.joined(0);
        holdfast.due[0] = vec![(room(1), 10), (room(2), 20), (room(3), 30)];
        assert_eq!(holdfast.due_in(0, room(2).to_string().as_bytes()), Some(&mut 20));
        assert_eq!(holdfast.due_in(0, room(4).to_string().as_bytes()), None);
        assert_eq!(holdfast.due_in(0, b"short"), None);
    }
}
