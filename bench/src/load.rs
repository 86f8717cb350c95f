//! One process's share of a load: signing in, connecting, entering rooms, then phases that are measured.
//!
//! Must not live here: frames ([`crate::wire`]), counting ([`crate::board`]), the server's cost. Invariant: the schedule
//! never waits for the server: what is late is late in the figures.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Fail;
use crate::board::{Board, PostFate, Seating, Timetable};
use crate::clock::now_ns;
use crate::crowd::Crowd;
use crate::dialect::{Dialect, Holdfast, Plain, Wrapping};
use crate::process;
use crate::result::PhaseResult;
use crate::wire::{Signed, Target};

/// Threads that sign in and connect.
const OPENERS: usize = 16;
/// Connections opened and not yet taken in.
const OPENED: usize = 256;
/// Tries to sign in or connect before the load gives up.
const TRIES: usize = 5;
/// Requests of all connections together that wait for their answers while setting up.
const AT_ONCE: usize = 64;
/// Any one step of setting up.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// So long nothing but heartbeats must come before measuring begins.
const QUIET: Duration = Duration::from_secs(2);
/// How long deliveries may still come after the last post.
const GRACE: Duration = Duration::from_secs(15);
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
    /// The room's name; several rooms are numbered.
    pub room: String,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing is posted.
    Hold {
        /// How long.
        seconds: f64,
    },
    /// Posts on the clock, whatever the server does, then a wait for what is under way.
    Open {
        /// When, in nanoseconds of [`now_ns`].
        start_ns: u64,
        /// Ticks a second.
        rate: f64,
        /// Posts at each tick.
        burst: usize,
        /// Bytes of text in a post.
        size: usize,
        /// How long.
        seconds: f64,
        /// So many clients, the last ones, stop reading for good.
        deaf: usize,
    },
    /// Every sender waits for its acknowledgement before it posts again; at the end, for the last ones.
    Closed {
        /// Bytes of text in a post.
        size: usize,
        /// How long.
        seconds: f64,
    },
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
            Kind::Holdfast => Dialect::Holdfast(Holdfast::new(&share.room, seating.rooms)),
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
        open_many(self.share.count, &sign_in, |results| {
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
        let (share, target, people, crowd) = (&self.share, &self.target, &self.people, &mut self.crowd);
        let seating = crowd.board.seating;
        let upgrade = |at: usize| {
            let client = share.first + at;
            let room = seating.room_of(client);
            match share.kind {
                Kind::Holdfast => target.upgrade(client, "/ws", Some(&people[at].token), Some(&Holdfast::hello())),
                Kind::Plain => target.upgrade(client, &format!("/{room}"), None, None),
                Kind::SocketIo => {
                    let path = format!("/socket.io/?EIO=4&transport=websocket&room={room}");
                    target.upgrade(client, &path, None, None)
                }
            }
        };
        // In order: the place of a connection says who it is.
        let mut waiting: std::collections::BTreeMap<usize, _> = std::collections::BTreeMap::new();
        open_many(share.count, &upgrade, |results| {
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
        })?;
        let count = self.share.count;
        self.until("be greeted", |crowd| match &crowd.dialect {
            Dialect::Holdfast(holdfast) => holdfast.setup.welcomed == count,
            Dialect::Plain(plain) => plain.ready == count,
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
        self.each("find the room", seating.rooms, |ours, sockets, n| ours.find(sockets, n % count, n), |s| s.found)?;
        let room = |at: usize| seating.room_of(first + at);
        self.each("join the room", count, |ours, sockets, at| ours.join(sockets, at, room(at)), |s| s.joined)?;
        if self.share.follow {
            self.each("open the room", count, |ours, sockets, at| ours.open(sockets, at, room(at)), |s| s.following)?;
            (0..count).for_each(|at| self.crowd.board.followers[room(at)] += 1);
        }
        Ok(())
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
        ask: impl Fn(&Holdfast, &mut crate::crowd::Sockets, usize),
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
        while !done(crowd) {
            if Instant::now() > until {
                return Err(Fail::TimedOut(format!("could not {what} within {STEP_LIMIT:?}")));
            }
            if let Some((code, _)) = crowd.sockets.closed.first_key_value() {
                return Err(Fail::Refused(format!("could not {what}: the server closed with {code}")));
            }
            if let Dialect::Holdfast(Holdfast { setup, .. }) = &mut crowd.dialect
                && let Some((code, words)) = setup.refusal.take()
            {
                return Err(Fail::Refused(format!("could not {what}: {words} ({code})")));
            }
            crowd.turn(TURN)?;
        }
        Ok(())
    }

    /// Runs one phase.
    ///
    /// # Errors
    /// [`Fail::Local`]: what this machine says.
    pub fn phase(&mut self, phase: &Phase) -> Result<PhaseResult, Fail> {
        let own = process::read(std::process::id()).ok();
        let since = Instant::now();
        self.crowd.busy = Duration::ZERO;
        let closed_before = self.crowd.sockets.closed.clone();
        let (strange_before, bytes_before) = (self.crowd.sockets.strange, self.crowd.sockets.bytes);
        match *phase {
            Phase::Hold { seconds } => self.run_for(Duration::from_secs_f64(seconds))?,
            Phase::Open { start_ns, rate, burst, size, seconds, deaf } => {
                self.deafen(deaf);
                self.post_on_the_clock(&Timetable::of(start_ns, rate, burst, seconds), size)?;
            }
            Phase::Closed { size, seconds } => self.post_in_turn(size, seconds)?,
        }
        let wall = since.elapsed();
        let cpu = match (own, process::read(std::process::id()).ok()) {
            (Some(before), Some(after)) => Some(after.cpu.saturating_sub(before.cpu).as_secs_f64()),
            _ => None,
        };
        let sockets = &mut self.crowd.sockets;
        let mut closed = sockets.closed.clone();
        for (code, times) in closed_before {
            *closed.entry(code).or_default() -= times;
        }
        closed.retain(|_, times| *times > 0);
        let is_on_the_clock = matches!(phase, Phase::Open { .. });
        let mut result = PhaseResult::of(&self.crowd.board, self.crowd.dialect.has_acks(), is_on_the_clock);
        (result.closed, result.strange) = (closed, self.crowd.sockets.strange - strange_before);
        (result.wall_s, result.cpu_s) = (wall.as_secs_f64(), cpu);
        result.bytes = self.crowd.sockets.bytes - bytes_before;
        result.busy_s = self.crowd.busy.as_secs_f64();
        Ok(result)
    }

    fn run_for(&mut self, time: Duration) -> Result<(), Fail> {
        self.begin(Vec::new());
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.crowd.turn(TURN)?;
        }
        Ok(())
    }

    fn begin(&mut self, posts: Vec<PostFate>) {
        let numbers_before = self.crowd.board.posts.len();
        self.crowd.board.begin(posts, numbers_before);
        self.crowd.dialect.begin(&self.crowd.board);
    }

    /// Stops the last clients of the whole load from reading, those that are ours.
    fn deafen(&mut self, deaf: usize) {
        let from = self.share.clients.saturating_sub(deaf).saturating_sub(self.share.first);
        for at in from..self.share.count {
            self.crowd.deafen(at);
            let room = self.crowd.board.seating.room_of(self.share.first + at);
            let followers = &mut self.crowd.board.followers[room];
            *followers = followers.saturating_sub(1);
        }
    }

    fn post_on_the_clock(&mut self, table: &Timetable, size: usize) -> Result<(), Fail> {
        let posts = (0..table.posts).map(|place| PostFate { intended: table.due(place), ..PostFate::default() });
        self.begin(posts.collect());
        let ours = self.share.first..self.share.first + self.share.count;
        for place in 0..table.posts {
            let seat = self.crowd.board.seating.seat(place);
            if !ours.contains(&seat.client) {
                continue;
            }
            loop {
                let wait = Duration::from_nanos(table.due(place).saturating_sub(now_ns()));
                if wait.is_zero() {
                    break;
                }
                // The kernel's wait is counted in whole milliseconds; the rest is spent looking.
                let whole = Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(0));
                self.crowd.turn(whole.min(TURN))?;
            }
            self.post(seat.client - self.share.first, seat.room, place, size);
        }
        let until = Instant::now() + GRACE;
        let has_acks = self.crowd.dialect.has_acks();
        let end = table.due(table.posts.saturating_sub(1));
        while Instant::now() < until && (now_ns() < end || !self.crowd.board.is_complete(has_acks)) {
            self.crowd.turn(TURN)?;
        }
        Ok(())
    }

    fn post(&mut self, at: usize, room: usize, place: usize, size: usize) {
        let board = &mut self.crowd.board;
        let number = board.base + place;
        board.posts[place].sent = now_ns();
        let text = self.crowd.dialect.post(room, number, board.body(number, size));
        self.crowd.sockets.send_text(at, text.as_bytes());
    }

    fn post_in_turn(&mut self, size: usize, seconds: f64) -> Result<(), Fail> {
        self.begin(Vec::new());
        let (seating, first) = (self.crowd.board.seating, self.share.first);
        for at in (0..self.share.count).filter(|at| (first + at) / seating.rooms < seating.senders) {
            self.post_next(at, size);
        }
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < until {
            self.crowd.turn(TURN)?;
            for at in std::mem::take(&mut self.crowd.board.answered) {
                self.post_next(at, size);
            }
        }
        let until = Instant::now() + GRACE;
        while Instant::now() < until && !self.crowd.board.is_complete(true) {
            self.crowd.turn(TURN)?;
        }
        Ok(())
    }

    fn post_next(&mut self, at: usize, size: usize) {
        let place = self.crowd.board.posts.len();
        self.crowd.board.posts.push(PostFate { intended: now_ns(), ..PostFate::default() });
        let room = self.crowd.board.seating.room_of(self.share.first + at);
        self.post(at, room, place, size);
    }
}

/// Does something for every client on a few threads, while `take` takes the results as they come.
fn open_many<T: Send>(
    clients: usize,
    open: &(impl Fn(usize) -> Result<T, String> + Sync),
    take: impl FnOnce(&Receiver<(usize, Result<T, String>)>) -> Result<(), String>,
) -> Result<(), Fail> {
    let next = AtomicUsize::new(0);
    let work = |results: SyncSender<(usize, Result<T, String>)>| {
        loop {
            let client = next.fetch_add(1, Ordering::Relaxed);
            if client >= clients {
                return;
            }
            let mut result = open(client);
            for _ in 1..TRIES {
                if result.is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(200));
                result = open(client);
            }
            if results.send((client, result)).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        // Dropped before the threads are waited for, so that they end where a result was refused.
        let (results, taken) = mpsc::sync_channel(OPENED);
        for _ in 0..OPENERS {
            let (results, work) = (results.clone(), &work);
            scope.spawn(move || work(results));
        }
        drop(results);
        let done = take(&taken);
        drop(taken);
        done
    })
    .map_err(Fail::Refused)
}
