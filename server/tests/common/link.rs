//! The server's end of a link that a test holds in its hands, and somebody who reads over it.
//!
//! Must not live here: assertions about behaviour, but that the connection was not given up. Invariant: the connection
//! takes a step only when the test lets it, and its link carries only what the test allows.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

use server::connection::{Connection, Identity, Step};
use server::people::tokens::Token;
use server::socket::Socket;
use server::ws::frame;
use shared::ids::RequestId;
use shared::message::{Body, Command, Event, Message, OpenRoom, Reply};
use shared::model::{Member, Opened, RoomEvent};
use shared::time::Timestamp;

use super::{GENERAL, Running, User, eventually, fresh, hello};

/// The server's end of a link that carries what it is allowed to.
#[derive(Clone, Default)]
pub struct Link(Arc<Mutex<Ends>>);

#[derive(Default)]
struct Ends {
    up: VecDeque<u8>,
    down: Vec<u8>,
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
        short @ 0..=125 => (2, usize::from(short)),
        other => panic!("a length that is not expected here: {other}"),
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
    /// Who came or went.
    pub presence: Vec<Member>,
    pub live: bool,
    /// Answers to what was asked.
    pub answers: Vec<Reply>,
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
            presence: Vec::new(),
            live: false,
            answers: Vec::new(),
        };
        reader.say(Command::Hello(hello(&[ask])));
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
                Body::Event(Event::Presence(told)) => self.presence.extend(told.changes),
                Body::Event(Event::Room(event)) => self.posts.push(event),
                Body::Event(Event::Opened(opened)) if self.live => self.jumps.push(opened),
                Body::Event(Event::Closing(closing)) => panic!("closed: {closing:?}"),
                Body::Reply(reply) => self.answers.push(reply),
                Body::Refusal(error) => panic!("refused: {error:?}"),
                _ => {}
            }
        }
        self
    }
}
