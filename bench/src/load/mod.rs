//! One process's share of a load: signing in, connecting, entering rooms, then phases that are measured.
//!
//! Must not live here: frames ([`crate::wire`]), counting ([`crate::board`]), the server's cost. Invariant: the place of a
//! connection says whose it is, in every process and after every return.

mod open;
mod phases;
mod rounds;

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shared::message::OpenRoom;

use self::open::open_many;
pub use self::phases::Phase;
use crate::Fail;
use crate::board::{Board, Seating};
use crate::crowd::{Crowd, Sockets};
use crate::dialect::{Dialect, Holdfast, Plain, Wrapping};
use crate::process;
use crate::wire::{Signed, Target};

/// Threads that sign in and connect.
const OPENERS: usize = 16;
/// Connections that are opened at any moment by a crowd that comes back at once.
const CRUSH: usize = 512;
/// Requests of all connections together that wait for their answers while setting up.
const AT_ONCE: usize = 64;
/// Any one step of setting up.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// So long nothing but heartbeats must come before measuring begins.
const QUIET: Duration = Duration::from_secs(2);
/// The longest a turn waits.
const TURN: Duration = Duration::from_millis(20);
/// Files a process needs besides connections.
const OTHER_FILES: u64 = 64;

/// What the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Holdfast.
    Holdfast,
    /// WebSocket, each text handed on to everybody in the room that the path names.
    Plain,
    /// Socket.IO.
    SocketIo,
}

/// One process's share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// What the server speaks.
    pub kind: Kind,
    /// Eight characters that mark the posts of this run.
    pub run: String,
    /// Clients in all processes together.
    pub clients: usize,
    /// The first one of this process.
    pub first: usize,
    /// How many this process has.
    pub count: usize,
    /// Rooms; client `c` is in room `c % rooms`.
    pub rooms: usize,
    /// How many of each room post.
    pub senders: usize,
    /// Whether members follow their room.
    pub follow: bool,
    /// The first room's name; others are numbered.
    pub room: String,
    /// Rooms besides, of which everybody is a member and which nobody follows.
    pub more_rooms: usize,
}

/// A share of a load, and its connections.
pub struct Load {
    share: Share,
    target: Target,
    people: Vec<Signed>,
    crowd: Crowd,
}

impl Load {
    /// Prepares a load; nothing is sent yet.
    ///
    /// # Errors
    /// [`Fail::Usage`] where the share makes no sense or this process may not open so many files.
    pub fn new(share: Share, target: Target) -> Result<Self, Fail> {
        let files = process::raise_open_files();
        if share.count as u64 + OTHER_FILES > files {
            let words = format!("{} connections need more open files than the {files} allowed: ulimit -n", share.count);
            return Err(Fail::Usage(words));
        }
        let run = share.run.as_bytes().try_into().map_err(|_| Fail::Usage("a run has a mark of eight bytes".into()))?;
        let seating = Seating::of(share.clients, share.rooms, share.senders);
        let dialect = match share.kind {
            Kind::Holdfast => Dialect::Holdfast(Holdfast::new(&share.room, seating.rooms, share.more_rooms)),
            Kind::Plain => Dialect::Plain(Plain::new(Wrapping::None, seating.senders)),
            Kind::SocketIo => Dialect::Plain(Plain::new(Wrapping::SocketIo, seating.senders)),
        };
        let crowd = Crowd::new(dialect, Board::new(run, seating))?;
        Ok(Self { share, target, people: Vec::new(), crowd })
    }

    /// Signs everybody in, where the server knows people.
    ///
    /// # Errors
    /// What the server answered.
    pub fn sign_in(&mut self) -> Result<(), Fail> {
        if self.share.kind != Kind::Holdfast {
            return Ok(());
        }
        let mut people: Vec<Option<Signed>> = vec![None; self.share.count];
        let sign_in = |at: usize| {
            let client = self.share.first + at;
            self.target.sign_in(client, &format!("bench {} {client}", self.share.run))
        };
        open_many(self.share.count, OPENERS, &sign_in, |results| {
            for (at, signed) in results.iter() {
                people[at] = Some(signed?);
            }
            Ok(())
        })?;
        self.people = people.into_iter().flatten().collect();
        Ok(())
    }

    /// Opens all connections and waits until each is greeted.
    ///
    /// # Errors
    /// What the server answered, or that it did not.
    pub fn connect(&mut self) -> Result<(), Fail> {
        self.open_all(OPENERS, &[])?;
        let count = self.share.count;
        self.until("be greeted", |crowd| match &crowd.dialect {
            Dialect::Holdfast(holdfast) => holdfast.setup.welcomed == count,
            Dialect::Plain(plain) => plain.ready == count,
        })
    }

    /// Opens all connections; each says that it follows its room of `rooms`, where there are any.
    fn open_all(&mut self, threads: usize, rooms: &[OpenRoom]) -> Result<(), Fail> {
        let (share, target, people, crowd) = (&self.share, &self.target, &self.people, &mut self.crowd);
        let seating = crowd.board.seating;
        let upgrade = |at: usize| {
            let client = share.first + at;
            let room = seating.room_of(client);
            match share.kind {
                Kind::Holdfast => {
                    let hello = Holdfast::hello(rooms.get(at).cloned().into_iter().collect());
                    target.upgrade(client, "/ws", Some(&people[at].token), Some(&hello))
                }
                Kind::Plain => target.upgrade(client, &format!("/{room}"), None, None),
                Kind::SocketIo => {
                    let path = format!("/socket.io/?EIO=4&transport=websocket&room={room}");
                    target.upgrade(client, &path, None, None)
                }
            }
        };
        // In order: the place of a connection says who it is.
        let mut waiting: std::collections::BTreeMap<usize, _> = std::collections::BTreeMap::new();
        open_many(share.count, threads, &upgrade, |results| {
            while crowd.sockets.len() < share.count {
                match results.recv_timeout(Duration::from_millis(1)) {
                    Ok((at, opened)) => drop(waiting.insert(at, opened?)),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) if waiting.is_empty() => break,
                    Err(RecvTimeoutError::Disconnected) => {}
                }
                while let Some((stream, first_bytes)) = waiting.remove(&crowd.sockets.len()) {
                    crowd.add(stream, first_bytes).map_err(|error| error.to_string())?;
                }
                crowd.turn(Duration::ZERO).map_err(|error| error.to_string())?;
            }
            Ok(())
        })
    }

    /// Finds or makes the rooms, makes everybody a member, and has them follow if they are to.
    ///
    /// # Errors
    /// What the server answered, or that it did not.
    pub fn enter(&mut self) -> Result<(), Fail> {
        let (count, first, seating) = (self.share.count, self.share.first, self.crowd.board.seating);
        if matches!(self.crowd.dialect, Dialect::Plain(_)) {
            (0..count).for_each(|at| self.crowd.board.followers[seating.room_of(first + at)] += 1);
            return Ok(());
        }
        let more = self.share.more_rooms;
        let rooms = seating.rooms + more;
        self.each("find the room", rooms, |ours, sockets, n| ours.find(sockets, n % count, n), |s| s.found)?;
        let room = |at: usize| seating.room_of(first + at);
        self.each("join the room", count, |ours, sockets, at| ours.join(sockets, at, room(at)), |s| s.joined)?;
        let join_more = |ours: &Holdfast, sockets: &mut Sockets, n: usize| {
            ours.join(sockets, n / more, seating.rooms + n % more);
        };
        self.each("join more rooms", count * more, join_more, |s| s.joined)?;
        if self.share.follow {
            self.each("open the room", count, |ours, sockets, at| ours.open(sockets, at, room(at)), |s| s.following)?;
            (0..count).for_each(|at| self.crowd.board.followers[room(at)] += 1);
        }
        Ok(())
    }

    /// Deals with what comes for a moment, and sends the heartbeats that are due.
    ///
    /// # Errors
    /// What this machine says.
    pub fn wait(&mut self) -> Result<(), Fail> {
        Ok(self.crowd.turn(TURN)?)
    }

    /// Waits until nothing but heartbeats has come for a while.
    ///
    /// # Errors
    /// [`Fail::TimedOut`] where it does not fall quiet.
    pub fn settle(&mut self) -> Result<(), Fail> {
        self.until("fall quiet", |crowd| crowd.sockets.last_news.elapsed() > QUIET)
    }

    /// Has requests sent, a few at a time: a server is not to be remembered by the crush at its door, which is another
    /// workload.
    fn each(
        &mut self,
        what: &str,
        times: usize,
        ask: impl Fn(&Holdfast, &mut Sockets, usize),
        done: impl Fn(&crate::dialect::Setup) -> usize,
    ) -> Result<(), Fail> {
        let far = |crowd: &Crowd| match &crowd.dialect {
            Dialect::Holdfast(holdfast) => done(&holdfast.setup),
            Dialect::Plain(_) => usize::MAX,
        };
        let before = far(&self.crowd);
        for n in 0..times {
            if let Dialect::Holdfast(holdfast) = &self.crowd.dialect {
                ask(holdfast, &mut self.crowd.sockets, n);
            }
            self.until(what, |crowd| far(crowd) + AT_ONCE > before + n)?;
        }
        self.until(what, |crowd| far(crowd) >= before + times)
    }

    fn until(&mut self, what: &str, done: impl Fn(&Crowd) -> bool) -> Result<(), Fail> {
        let until = Instant::now() + STEP_LIMIT;
        let crowd = &mut self.crowd;
        loop {
            if let Some((code, times)) = crowd.sockets.closed.first_key_value() {
                return Err(Fail::Refused(format!("could not {what}: the server closed {times} with {code}")));
            }
            if done(crowd) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(Fail::TimedOut(format!("could not {what} within {STEP_LIMIT:?}")));
            }
            if let Dialect::Holdfast(Holdfast { setup, .. }) = &mut crowd.dialect
                && let Some((code, words)) = setup.refusal.take()
            {
                return Err(Fail::Refused(format!("could not {what}: {words} ({code})")));
            }
            crowd.turn(TURN)?;
        }
    }
}
