//! Many connections on one thread: reads whatever comes, writes what the kernel takes, keeps frames whole.
//!
//! Must not live here: the schedule, or what a message means ([`crate::dialect`]). Invariant: an event of the kernel is
//! read to its end before the next wait, so a delivery is stamped when it could first be read.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::board::Board;
use crate::clock::now_ns;
use crate::dialect::Dialect;
use crate::wire::{Frame, decode, encode};

/// Read at once from one socket, in bytes.
const READ_BYTES: usize = 256 * 1024;
/// Sockets looked at in one turn.
const EVENTS: usize = 1_024;
/// What the kernel keeps for a connection that does not read, in bytes.
const DEAF_BYTES: usize = 4_096;
/// How often due beats are looked for.
const BEATS_EVERY: Duration = Duration::from_millis(250);

/// One connection.
struct Conn {
    stream: mio::net::TcpStream,
    /// The start of a frame whose end has not come.
    partial: Vec<u8>,
    /// The parts so far of a message in fragments.
    parts: Vec<u8>,
    unsent: Vec<u8>,
    next_beat: Instant,
    is_open: bool,
    /// Reads nothing any more, and lets the server find out.
    is_deaf: bool,
}

/// The sockets, as a dialect sees them.
pub struct Sockets {
    poll: Poll,
    conns: Vec<Conn>,
    mask: u32,
    /// How often each connection says that it lives; never where absent.
    pub beat_every: Option<Duration>,
    /// When something other than a beat came last.
    pub last_news: Instant,
    /// Connections that closed, by code.
    pub closed: BTreeMap<u16, usize>,
    /// Bytes read.
    pub bytes: u64,
    /// Frames nobody expected.
    pub strange: u64,
}

impl Sockets {
    /// Returns how many connections there are, closed ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// Sends a text on one connection; what the kernel does not take waits for it.
    pub fn send_text(&mut self, at: usize, text: &[u8]) {
        self.send_frame(at, 1, text);
    }

    fn send_frame(&mut self, at: usize, opcode: u8, payload: &[u8]) {
        self.mask = self.mask.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        encode(opcode, payload, self.mask.to_le_bytes(), &mut self.conns[at].unsent);
        self.flush(at);
    }

    fn flush(&mut self, at: usize) {
        while self.conns[at].is_open && !self.conns[at].unsent.is_empty() {
            let conn = &mut self.conns[at];
            match conn.stream.write(&conn.unsent) {
                // An idle connection holds no buffer.
                Ok(written) if written == conn.unsent.len() => conn.unsent = Vec::new(),
                Ok(written) => drop(conn.unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.close(at, 1006),
            }
        }
    }

    fn close(&mut self, at: usize, code: u16) {
        if std::mem::replace(&mut self.conns[at].is_open, false) {
            *self.closed.entry(code).or_default() += 1;
        }
    }
}

/// All connections, what they speak, and what was counted.
pub struct Crowd {
    /// The sockets.
    pub sockets: Sockets,
    /// What they speak.
    pub dialect: Dialect,
    /// What became of the posts.
    pub board: Board,
    /// Time spent on what came, rather than waiting for it.
    pub busy: Duration,
    events: Events,
    buffer: Vec<u8>,
    next_beats: Instant,
}

impl Crowd {
    /// Makes an empty crowd.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(dialect: Dialect, board: Board) -> io::Result<Self> {
        let now = Instant::now();
        let sockets = Sockets {
            poll: Poll::new()?,
            conns: Vec::new(),
            mask: 0x9e37_79b9,
            beat_every: None,
            last_news: now,
            closed: BTreeMap::new(),
            bytes: 0,
            strange: 0,
        };
        Ok(Self {
            sockets,
            dialect,
            board,
            busy: Duration::ZERO,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; READ_BYTES],
            next_beats: now,
        })
    }

    /// Takes in a connection that was upgraded.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&mut self, stream: TcpStream, first_bytes: Vec<u8>) -> io::Result<()> {
        let mut stream = mio::net::TcpStream::from_std(stream);
        let at = self.sockets.len();
        self.sockets.poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        // Spread over the interval, as real clients are.
        let every = self.sockets.beat_every.unwrap_or(Duration::from_secs(10));
        let next_beat = Instant::now() + every.mul_f64((at % 997) as f64 / 997.0);
        self.sockets.conns.push(Conn {
            stream,
            partial: Vec::new(),
            parts: Vec::new(),
            unsent: Vec::new(),
            next_beat,
            is_open: true,
            is_deaf: false,
        });
        self.dialect.joined(at);
        self.take_bytes(at, &first_bytes);
        self.read(at);
        Ok(())
    }

    /// Makes a connection stop reading for good. Its kernel takes little more either, so that the server soon feels it.
    pub fn deafen(&mut self, at: usize) {
        let conn = &mut self.sockets.conns[at];
        conn.is_deaf = true;
        // A kernel that keeps its buffer only makes the server feel it later.
        let _ = socket2::SockRef::from(&conn.stream).set_recv_buffer_size(DEAF_BYTES);
    }

    /// Drops all connections without a word.
    ///
    /// # Errors
    /// What the system says.
    pub fn hang_up(&mut self) -> io::Result<()> {
        self.sockets.conns.clear();
        self.sockets.poll = Poll::new()?;
        self.sockets.closed.clear();
        (self.sockets.bytes, self.sockets.strange, self.busy) = (0, 0, Duration::ZERO);
        Ok(())
    }

    /// Waits for something to happen, at most so long, and deals with it.
    ///
    /// # Errors
    /// What the system says.
    pub fn turn(&mut self, most: Duration) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.sockets.poll.poll(&mut events, Some(most));
        let since = Instant::now();
        if polled.is_ok() {
            for event in &events {
                let at = event.token().0;
                if event.is_writable() {
                    self.sockets.flush(at);
                }
                if event.is_readable() {
                    self.read(at);
                }
            }
        }
        if !events.is_empty() {
            self.busy += since.elapsed();
        }
        self.events = events;
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.beat();
        Ok(())
    }

    fn beat(&mut self) {
        let now = Instant::now();
        let (Some(every), true) = (self.sockets.beat_every, now >= self.next_beats) else { return };
        self.next_beats = now + BEATS_EVERY;
        for at in 0..self.sockets.len() {
            let conn = &mut self.sockets.conns[at];
            if conn.is_open && conn.next_beat <= now {
                conn.next_beat = now + every;
                self.dialect.beat(&mut self.sockets, at);
            }
        }
    }

    fn read(&mut self, at: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while self.sockets.conns[at].is_open && !self.sockets.conns[at].is_deaf {
            match self.sockets.conns[at].stream.read(&mut buffer) {
                Ok(0) => self.sockets.close(at, 1006),
                Ok(read) => {
                    self.sockets.bytes += read as u64;
                    self.take_bytes(at, &buffer[..read]);
                    // A short read means that there is no more (epoll(7)); the next arrival is an event again.
                    if read < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.sockets.close(at, 1006),
            }
        }
        self.buffer = buffer;
    }

    fn take_bytes(&mut self, at: usize, bytes: &[u8]) {
        let now = now_ns();
        if self.sockets.conns[at].partial.is_empty() {
            let taken = self.take_frames(at, bytes, now);
            self.sockets.conns[at].partial.extend_from_slice(&bytes[taken..]);
        } else {
            let mut joined = std::mem::take(&mut self.sockets.conns[at].partial);
            joined.extend_from_slice(bytes);
            let taken = self.take_frames(at, &joined, now);
            if taken < joined.len() {
                joined.drain(..taken);
                self.sockets.conns[at].partial = joined;
            }
        }
    }

    fn take_frames(&mut self, at: usize, bytes: &[u8], now: u64) -> usize {
        let mut taken = 0;
        while let Some((frame, length)) = decode(&bytes[taken..]) {
            taken += length;
            match frame {
                Frame::Text(text) => self.dialect.text(&mut self.sockets, &mut self.board, at, text, now),
                Frame::Begin(part) => self.sockets.conns[at].parts = part.to_vec(),
                Frame::Next(part, is_last) => {
                    self.sockets.conns[at].parts.extend_from_slice(part);
                    if is_last {
                        let text = std::mem::take(&mut self.sockets.conns[at].parts);
                        self.dialect.text(&mut self.sockets, &mut self.board, at, &text, now);
                    }
                }
                Frame::Ping(payload) => self.sockets.send_frame(at, 10, payload),
                Frame::Close(code) => self.sockets.close(at, code),
                Frame::Strange => self.sockets.strange += 1,
            }
        }
        taken
    }
}
