//! Many connections on one thread: reads whatever comes, answers what must be answered, counts deliveries.
//!
//! Must not live here: the schedule, or what is printed. Invariant: every room event of every connection is checked
//! against the seq that is due there, so a loss, a repetition or a gap cannot be missed.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use memchr::memmem;
use mio::{Events, Interest, Poll, Token};
use shared::error::ErrorCode;
use shared::ids::{RequestId, RoomId};
use shared::message::{Beat, Body, Command, Event, Message, Reply};
use shared::model::{OpenOutcome, RoomChange};

use super::wire::{Frame, decode, encode};

/// Read at once from one socket, in bytes.
const READ_BYTES: usize = 256 * 1024;
/// Sockets looked at in one turn.
const EVENTS: usize = 1_024;
/// How often due beats are looked for.
const BEATS_EVERY: Duration = Duration::from_millis(250);
/// Highest latency that is told apart, in microseconds.
const LONGEST_US: u64 = 120_000_000;
/// Request ids of posts begin here; below are those of setting up.
pub(crate) const FIRST_POST: u64 = 1_000_000;

/// A histogram of microseconds, three digits exact.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("these bounds are valid")
}

/// What is known of one post.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PostFate {
    /// When it should have been sent, since the start, in nanoseconds.
    pub(crate) intended: u64,
    /// When it was.
    pub(crate) sent: u64,
    /// When its acknowledgement came; zero where none did.
    pub(crate) acked: u64,
    /// When the last delivery so far came.
    pub(crate) last: u64,
    /// How many receivers have it.
    pub(crate) deliveries: u32,
}

/// One connection.
struct Conn {
    stream: mio::net::TcpStream,
    /// The start of a frame whose end has not come.
    partial: Vec<u8>,
    unsent: Vec<u8>,
    /// The seq due next; none while the room is not followed.
    due: Option<u64>,
    next_beat: Instant,
    is_open: bool,
}

/// What has been counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Connections that were greeted.
    pub(crate) welcomed: usize,
    /// Connections that became members.
    pub(crate) joined: usize,
    /// Connections that follow the room.
    pub(crate) following: usize,
    /// Connections that closed, by code.
    pub(crate) closed: BTreeMap<u16, usize>,
    /// Room events.
    pub(crate) events: u64,
    /// Room events that came before.
    pub(crate) duplicates: u64,
    /// Room events that were skipped.
    pub(crate) gaps: u64,
    /// Frames nobody expected.
    pub(crate) strange: u64,
    /// Refusals of posts, by code.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// The room, once it is known.
    pub(crate) room: Option<RoomId>,
    /// Refusals while setting up.
    pub(crate) setup_refusal: Option<(ErrorCode, String)>,
    /// Connections whose answer makes them send again (closed loop).
    pub(crate) answered: Vec<usize>,
}

/// All connections.
pub(crate) struct Crowd {
    poll: Poll,
    events: Events,
    conns: Vec<Conn>,
    buffer: Vec<u8>,
    started: Instant,
    next_beats: Instant,
    beat_every: Duration,
    last_news: Instant,
    mask: u32,
    run: [u8; 8],
    /// What was counted.
    pub(crate) tally: Tally,
    /// The posts of the schedule, by number.
    pub(crate) posts: Vec<PostFate>,
    /// Intended time to each delivery, in microseconds.
    pub(crate) deliveries: Histogram<u64>,
}

impl Crowd {
    /// Makes an empty crowd; `run` marks its posts.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new(run: [u8; 8]) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            conns: Vec::new(),
            buffer: vec![0; READ_BYTES],
            started: now,
            next_beats: now,
            beat_every: Duration::from_secs(10),
            last_news: now,
            mask: 0x9e37_79b9,
            run,
            tally: Tally::default(),
            posts: Vec::new(),
            deliveries: histogram(),
        })
    }

    /// Returns how many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.conns.len()
    }

    /// Returns nanoseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Returns how long nothing but beats has come.
    pub(crate) fn quiet_for(&self) -> Duration {
        self.last_news.elapsed()
    }

    /// Takes in a connection that has said hello.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn add(&mut self, stream: TcpStream, first_bytes: Vec<u8>) -> io::Result<()> {
        let mut stream = mio::net::TcpStream::from_std(stream);
        let at = self.conns.len();
        self.poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        // Spread over the interval, as real clients are.
        let next_beat = Instant::now() + self.beat_every.mul_f64((at % 997) as f64 / 997.0);
        let (partial, unsent) = (first_bytes, Vec::new());
        self.conns.push(Conn { stream, partial, unsent, due: None, next_beat, is_open: true });
        self.read(at);
        Ok(())
    }

    /// Sends a command on one connection.
    pub(crate) fn send(&mut self, at: usize, id: u64, command: Command) {
        self.send_text(at, Message::command(RequestId(id), command).to_json().as_bytes());
    }

    /// Sends a text on one connection; what the kernel does not take waits for it.
    pub(crate) fn send_text(&mut self, at: usize, text: &[u8]) {
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
                Err(_) => self.closed(at, 1006),
            }
        }
    }

    /// Waits for something to happen, at most so long, and deals with it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn turn(&mut self, most: Duration) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, Some(most));
        if polled.is_ok() {
            for event in &events {
                let at = event.token().0;
                if event.is_writable() {
                    self.flush(at);
                }
                if event.is_readable() {
                    self.read(at);
                }
            }
        }
        self.events = events;
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let now = Instant::now();
        if now >= self.next_beats {
            self.next_beats = now + BEATS_EVERY;
            for at in 0..self.conns.len() {
                if self.conns[at].is_open && self.conns[at].next_beat <= now {
                    self.conns[at].next_beat = now + self.beat_every;
                    self.send(at, 1, Command::Beat(Beat::default()));
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, at: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while self.conns[at].is_open {
            match self.conns[at].stream.read(&mut buffer) {
                Ok(0) => self.closed(at, 1006),
                Ok(read) => {
                    self.tally.bytes += read as u64;
                    self.take_bytes(at, &buffer[..read]);
                    // A short read means that there is no more (epoll(7)); the next arrival is an event again.
                    if read < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.closed(at, 1006),
            }
        }
        self.buffer = buffer;
    }

    fn take_bytes(&mut self, at: usize, bytes: &[u8]) {
        let now = self.now();
        if self.conns[at].partial.is_empty() {
            let taken = self.take_frames(at, bytes, now);
            self.conns[at].partial.extend_from_slice(&bytes[taken..]);
        } else {
            let mut joined = std::mem::take(&mut self.conns[at].partial);
            joined.extend_from_slice(bytes);
            let taken = self.take_frames(at, &joined, now);
            if taken < joined.len() {
                joined.drain(..taken);
                self.conns[at].partial = joined;
            }
        }
    }

    fn take_frames(&mut self, at: usize, bytes: &[u8], now: u64) -> usize {
        let mut taken = 0;
        while let Some((frame, length)) = decode(&bytes[taken..]) {
            taken += length;
            match frame {
                Frame::Text(text) => self.take_text(at, text, now),
                Frame::Ping(payload) => self.send_frame(at, 10, payload),
                Frame::Close(code) => self.closed(at, code),
                Frame::Strange => self.tally.strange += 1,
            }
        }
        taken
    }

    fn closed(&mut self, at: usize, code: u16) {
        if std::mem::replace(&mut self.conns[at].is_open, false) {
            *self.tally.closed.entry(code).or_default() += 1;
        }
    }

    /// Deals with a message: the two that come by the million are recognised by their bytes, all others are parsed.
    fn take_text(&mut self, at: usize, text: &[u8], now: u64) {
        if text.starts_with(br#"{"event":"room","#) {
            if let Some(seq) = number_after(text, br#""seq":"#) {
                self.last_news = Instant::now();
                return self.delivered(at, seq, self.number_of(text), now);
            }
        } else if let Some(rest) = text.strip_prefix(br#"{"id":"#.as_slice())
            && memmem::find(&text[..text.len().min(64)], br#""reply":"ack""#).is_some()
            && let Some(id) = number_after(rest, b"")
        {
            return self.acked(at, id, now);
        }
        match std::str::from_utf8(text).ok().and_then(|text| Message::parse(text).ok()) {
            Some(message) => self.take_message(at, message, now),
            None => self.tally.strange += 1,
        }
    }

    fn take_message(&mut self, at: usize, message: Message, now: u64) {
        let id = message.id.map_or(0, |id| id.0);
        match message.body {
            Body::Reply(Reply::Welcome(welcome)) => {
                self.tally.welcomed += 1;
                self.beat_every = Duration::from_millis(welcome.heartbeat.interval_ms);
                self.last_news = Instant::now();
            }
            Body::Reply(Reply::Room(room)) => {
                self.tally.room = Some(room.room);
                self.tally.joined += usize::from(room.joined);
            }
            Body::Reply(Reply::Opened(opened)) | Body::Event(Event::Opened(opened)) => {
                self.last_news = Instant::now();
                match opened.outcome {
                    OpenOutcome::Fresh { snapshot } => {
                        self.conns[at].due = Some(snapshot.as_of.seq.0 + 1);
                        self.tally.following += 1;
                    }
                    OpenOutcome::Refused { error } => self.tally.setup_refusal = Some((error.code, error.message)),
                    OpenOutcome::Recovered { .. } | OpenOutcome::Jumped { .. } | OpenOutcome::Reset { .. } => {
                        self.tally.strange += 1;
                    }
                }
            }
            Body::Reply(Reply::Ack(_)) => self.acked(at, id, now),
            Body::Refusal(error) if id >= FIRST_POST => {
                *self.tally.refused.entry(error.code.to_string()).or_default() += 1;
                self.tally.answered.push(at);
            }
            Body::Refusal(error) => self.tally.setup_refusal = Some((error.code, error.message)),
            Body::Event(Event::Room(event)) => {
                self.last_news = Instant::now();
                let number = match &event.change {
                    RoomChange::Posted(posted) => {
                        posted.body.as_deref().and_then(|body| self.number_of(body.as_bytes()))
                    }
                    _ => None,
                };
                self.delivered(at, event.seq.0, number, now);
            }
            Body::Event(Event::Beat(asked)) => {
                self.send(at, 1, Command::Beat(Beat { hidden: false, answers: Some(asked.n) }));
            }
            Body::Event(Event::Heads(_) | Event::Presence(_)) => self.last_news = Instant::now(),
            Body::Reply(_) | Body::Event(_) => {}
            Body::Command(_) => self.tally.strange += 1,
        }
    }

    fn delivered(&mut self, at: usize, seq: u64, number: Option<usize>, now: u64) {
        let Some(due) = self.conns[at].due else { return self.tally.strange += 1 };
        self.tally.events += 1;
        if seq < due {
            self.tally.duplicates += 1;
            return;
        }
        self.tally.gaps += seq - due;
        self.conns[at].due = Some(seq + 1);
        if let Some(post) = number.and_then(|number| self.posts.get_mut(number)) {
            post.deliveries += 1;
            post.last = now;
            let us = now.saturating_sub(post.intended) / 1_000;
            self.deliveries.saturating_record(us);
        }
    }

    fn acked(&mut self, at: usize, id: u64, now: u64) {
        if let Some(post) = id.checked_sub(FIRST_POST).and_then(|number| self.posts.get_mut(number as usize)) {
            post.acked = now;
            self.tally.answered.push(at);
        }
    }

    /// Finds the number of one of our posts in a message.
    fn number_of(&self, text: &[u8]) -> Option<usize> {
        let found = memmem::find(text, &self.run)?;
        number_after(&text[found + self.run.len()..], b".").map(|number| number as usize)
    }
}

/// Reads the digits that follow a pattern.
fn number_after(text: &[u8], pattern: &[u8]) -> Option<u64> {
    let start = memmem::find(text, pattern)? + pattern.len();
    let digits = text[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[start..start + digits]).ok()?.parse().ok()
}
