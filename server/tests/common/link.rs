//! The server's end of a link that a test holds in its hands, and somebody who reads over it.
//!
//! Must not live here: assertions about behaviour, but that the connection was not given up. Invariant: the connection
//! takes a step only when the test lets it, and its link carries only what the test allows.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};

use server::connection::{Connection, Identity, Step};
use server::log::LogOptions;
use server::people::tokens::Token;
use server::socket::Socket;
use server::ws::frame;
use shared::error::WireError;
use shared::ids::{RequestId, RoomId, Seq};
use shared::message::{Body, Command, Event, Message, OpenRoom, Reply};
use shared::model::{Head, Member, Opened, RoomEvent, UserEvent};
use shared::time::Timestamp;
use tokio::sync::oneshot;

use super::{Client, GENERAL, Running, User, eventually, fresh, hello, post};

/// The server's end of a link that carries what it is allowed to.
#[derive(Clone, Default)]
pub struct Link(Arc<Mutex<Ends>>);

#[derive(Default)]
struct Ends {
    up: VecDeque<u8>,
    /// Comes up behind the next look that finds nothing.
    late: VecDeque<u8>,
    down: Vec<u8>,
    /// Bytes that ever came down.
    carried: usize,
    /// Bytes that may still be written.
    room: usize,
}

impl Link {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap()
    }

    pub fn allow(&self, room: usize) {
        self.ends().room = room;
    }

    /// Has bytes come up right after the server found none.
    pub fn comes_late(&self, bytes: &[u8]) {
        self.ends().late.extend(bytes);
    }

    /// Takes the first byte of each whole frame that came down.
    pub fn opcodes(&self) -> Vec<u8> {
        let mut ends = self.ends();
        let mut opcodes = Vec::new();
        while let Some((_, length)) = whole_message(&ends.down) {
            opcodes.push(ends.down[0]);
            ends.down.drain(..length);
        }
        opcodes
    }

    /// Returns how many bytes have ever come down.
    pub fn carried(&self) -> usize {
        self.ends().carried
    }

    /// Takes the events of rooms that came down; whatever else came is dropped.
    pub fn room_events(&self) -> Vec<RoomEvent> {
        let room_event = |message: Message| match message.body {
            Body::Event(Event::Room(event)) => Some(event),
            _ => None,
        };
        self.messages().into_iter().filter_map(room_event).collect()
    }

    /// Takes the whole messages that came down.
    pub fn messages(&self) -> Vec<Message> {
        let mut ends = self.ends();
        let mut messages = Vec::new();
        while let Some((message, length)) = whole_message(&ends.down) {
            messages.extend(message);
            ends.down.drain(..length);
        }
        messages
    }
}

/// Reads the first frame, where it is whole: its message if it is a text, and its length.
fn whole_message(bytes: &[u8]) -> Option<(Option<Message>, usize)> {
    let (start, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(start..start + length)?;
    let message = (bytes[0] == 0x81).then(|| Message::parse(std::str::from_utf8(payload).unwrap()).unwrap());
    Some((message, start + length))
}

impl Socket for Link {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ends = self.ends();
        let count = buffer.len().min(ends.up.len());
        if count == 0 {
            ends.up = std::mem::take(&mut ends.late);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer.iter_mut().zip(ends.up.drain(..count)).for_each(|(to, from)| *to = from);
        Ok(count)
    }

    fn try_write_vectored(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut ends = self.ends();
        if ends.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.iter().copied()).take(ends.room).collect();
        ends.room -= bytes.len();
        ends.carried += bytes.len();
        ends.down.extend(&bytes);
        Ok(bytes.len())
    }

    fn finish(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Somebody who reads over such a link.
pub struct Reader {
    pub link: Link,
    pub connection: Connection<Link>,
    pub posts: Vec<RoomEvent>,
    /// What was told instead of posts: the room as it is by now.
    pub jumps: Vec<Opened>,
    pub typing: usize,
    /// How often heads of rooms that are not open were told.
    pub heads: usize,
    /// The last head of each of them.
    pub head_of: BTreeMap<RoomId, Head>,
    /// Who came or went.
    pub presence: Vec<Member>,
    /// Read positions that another connection moved, in posts.
    pub reads: Vec<u64>,
    pub live: bool,
    pub user_events: Vec<UserEvent>,
    /// Answers to what was asked.
    pub answers: Vec<Reply>,
    /// What was refused.
    pub refusals: Vec<WireError>,
}

impl Reader {
    /// Says hello, follows `general`, and is live.
    pub async fn enter(server: &Running, user: &User) -> Self {
        Self::enter_with(server, user, fresh(GENERAL)).await
    }

    pub async fn enter_with(server: &Running, user: &User, ask: OpenRoom) -> Self {
        let mut reader = Self::begin(server, user, ask);
        eventually("the reader is live", || reader.step().live).await;
        reader
    }

    /// Has said hello, which the connection has not read yet.
    pub fn begin(server: &Running, user: &User, ask: OpenRoom) -> Self {
        Self::begin_with(server, user, &[ask])
    }

    /// Has said hello and named these rooms in it, as [`Self::begin`].
    pub fn begin_with(server: &Running, user: &User, rooms: &[OpenRoom]) -> Self {
        let token = Token::read(&user.token).unwrap().hash();
        let identity = Identity { user: user.person.id, token, expires: Timestamp(u64::MAX >> 12) };
        let link = Link::default();
        let app = Arc::clone(&server.app);
        let connection = Connection::new(app, link.clone(), bytes::Bytes::new(), Ok(identity));
        let mut reader = Self {
            link,
            connection,
            posts: Vec::new(),
            jumps: Vec::new(),
            typing: 0,
            heads: 0,
            head_of: BTreeMap::new(),
            presence: Vec::new(),
            reads: Vec::new(),
            live: false,
            user_events: Vec::new(),
            answers: Vec::new(),
            refusals: Vec::new(),
        };
        reader.say(Command::Hello(hello(rooms)));
        reader.link.allow(usize::MAX);
        reader
    }

    /// Says something, which the connection reads at its next step.
    pub fn say(&mut self, command: Command) {
        let text = Message::command(RequestId(1), command).to_json();
        self.link.ends().up.extend(frame::masked(0x81, [7; 4], text.as_bytes()));
    }

    /// Lets the connection do what it can, and takes what came of it.
    pub fn step(&mut self) -> &Self {
        assert_ne!(self.connection.step(), Step::Over, "the connection was given up");
        for message in self.link.messages() {
            match message.body {
                Body::Event(Event::Live(_)) => self.live = true,
                Body::Event(Event::Typing(_)) => self.typing += 1,
                Body::Event(Event::Heads(told)) => {
                    self.heads += 1;
                    self.head_of.extend(told.heads.into_iter().map(|head| (head.room, head)));
                }
                Body::Event(Event::Presence(told)) => self.presence.extend(told.changes),
                Body::Event(Event::Read(mark)) => self.reads.push(mark.posts),
                Body::Event(Event::User(event)) => self.user_events.push(event),
                Body::Event(Event::Room(event)) => self.posts.push(event),
                Body::Event(Event::Opened(opened)) if self.live => self.jumps.push(opened),
                Body::Event(Event::Closing(closing)) => panic!("closed: {closing:?}"),
                Body::Reply(reply) => self.answers.push(reply),
                Body::Refusal(error) => self.refusals.push(error),
                _ => {}
            }
        }
        self
    }

    /// Waits for the answer to an opening.
    pub async fn opened(&mut self) -> Opened {
        let mut opened = None;
        eventually("a room is opened", || {
            self.step();
            opened = self.answers.drain(..).find_map(|reply| match reply {
                Reply::Opened(opened) => Some(opened),
                _ => None,
            });
            opened.is_some()
        })
        .await;
        opened.unwrap()
    }
}

/// Every reader of the log, until this is dropped.
pub struct Held(#[expect(dead_code, reason = "its end is what the readers wait for")] Vec<mpsc::Sender<()>>);

impl Held {
    pub async fn hold(server: &Running) -> Self {
        let mut ends = Vec::new();
        for _ in 0..LogOptions::default().readers {
            let (end, ended) = mpsc::channel();
            let (begin, begun) = oneshot::channel();
            let log = server.app.log.clone();
            tokio::spawn(async move {
                log.read(move |_| {
                    begin.send(()).unwrap();
                    Ok(ended.recv().is_ok())
                })
                .await
            });
            begun.await.unwrap();
            ends.push(end);
        }
        Self(ends)
    }
}

/// Several write at once, so that a sync of the log stores more than one post. Returns the last seq.
pub async fn write(writers: &mut [Client], posts: u64) -> Seq {
    let share = posts / writers.len() as u64;
    for writer in &mut *writers {
        for n in 1..share {
            writer.send(Command::Post(post(&format!("{n}")))).await;
        }
    }
    let mut last = Seq(0);
    for writer in writers {
        last = last.max(writer.post(post("the last of them")).await.unwrap().seq);
    }
    last
}
