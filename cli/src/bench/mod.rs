//! `holdfast bench`: many lean clients against a server of one's own.
//!
//! Lives here: setting the crowd up, the schedule, the end. Must not live here: frames ([`wire`]), counting
//! ([`crowd`]). Invariant: the schedule never waits for the server: what is late is late in the figures.

mod crowd;
mod process;
mod report;
mod wire;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use shared::error::ErrorCode;
use shared::ids::{ClientId, RoomId};
use shared::limits::{POST_BYTES, PROTOCOL_VERSION};
use shared::message::{Command, CreateRoom, FindRoom, Hello, Membership, Message, OpenRoom};

use self::crowd::{Crowd, FIRST_POST, PostFate, histogram};
use self::process::Reading;
use self::report::{Percentiles, Report};
use self::wire::{Signed, Target};
use crate::args::{BenchArgs, Common};
use crate::driver::clock::wall;
use crate::driver::ids;
use crate::exit::End;
use crate::terminal::{line, note};

/// Threads that sign in and connect.
const OPENERS: usize = 16;
/// Connections opened and not yet taken in.
const OPENED: usize = 256;
/// Tries to sign in or connect before the bench gives up.
const TRIES: usize = 5;
/// Connections that ask for something at once while setting up.
const AT_ONCE: usize = 64;
/// Any one step of setting up.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// So long nothing but heartbeats must come before measuring begins.
const QUIET: Duration = Duration::from_secs(2);
/// How long deliveries may still come after the last post.
const GRACE: Duration = Duration::from_secs(15);
/// The longest a turn waits.
const TURN: Duration = Duration::from_millis(20);
/// Closed loop: runs so long before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// Files this process needs besides connections.
const OTHER_FILES: u64 = 64;

/// Runs the command.
///
/// # Errors
/// See [`End`]; [`End::Refused`] also where anything was lost or came twice.
pub(crate) fn run(common: &Common, args: &BenchArgs) -> Result<(), End> {
    let target = Target::find(&common.server).map_err(End::Usage)?;
    if !target.is_here() && !args.i_own_this_server {
        return Err(End::Usage(format!("{} is not on this machine; see --i-own-this-server", common.server)));
    }
    let bench = Bench::check(args, target)?;
    let report = bench.run()?;
    if args.json {
        line(&serde_json::to_string_pretty(&report).map_err(|error| End::Local(error.to_string()))?)?;
    } else {
        line(&report.table())?;
    }
    match report.is_clean() {
        true => Ok(()),
        false => Err(End::Refused("not every delivery came once; see above".into())),
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Workload {
    /// One room that everybody follows, posts on the clock.
    Room,
    /// Senders that follow nothing, each waiting for its acknowledgement.
    Durable,
    /// Connections that are signed in and do nothing.
    Idle,
}

struct Bench<'a> {
    args: &'a BenchArgs,
    workload: Workload,
    target: Target,
    clients: usize,
    senders: usize,
    /// Marks this run's posts.
    run: [u8; 8],
    /// Random bytes all keys of this run share.
    key: [u8; 10],
}

/// Readings of the server at the three moments that matter.
struct Readings {
    at_rest: Option<Reading>,
    before: Option<Reading>,
    own: Option<Reading>,
    since: Instant,
}

impl<'a> Bench<'a> {
    fn check(args: &'a BenchArgs, target: Target) -> Result<Self, End> {
        let (workload, clients) = match (args.idle, args.durable) {
            (Some(idle), _) => (Workload::Idle, idle),
            (None, true) => (Workload::Durable, args.senders),
            (None, false) => (Workload::Room, args.clients),
        };
        let files = process::raise_open_files();
        let usage = |words: String| Err(End::Usage(words));
        if clients == 0 || args.senders == 0 || args.burst == 0 {
            return usage("--clients, --senders, --burst and --idle must be at least 1".into());
        }
        if clients as u64 + OTHER_FILES > files {
            return usage(format!("{clients} connections need more open files than the {files} allowed: ulimit -n"));
        }
        if !(args.rate > 0.0 && args.rate <= 100_000.0 && args.seconds > 0.0 && args.seconds <= 86_400.0) {
            return usage("--rate must lie in 0–100000 and --seconds in 0–86400".into());
        }
        if !(32..=POST_BYTES).contains(&args.size) {
            return usage(format!("--size must lie in 32–{POST_BYTES}"));
        }
        let run = format!("{:08x}", u32::from_le_bytes(ids::random()));
        let run = run.as_bytes().try_into().map_err(|_| End::Local("no mark for this run".into()))?;
        Ok(Self { args, workload, target, clients, senders: args.senders.min(clients), run, key: ids::random() })
    }

    fn run(&self) -> Result<Report, End> {
        note(&format!("signing in {} people …", self.clients));
        let people = self.sign_in()?;
        let at_rest = self.reading()?;
        note("connecting …");
        let mut crowd = Crowd::new(self.run).map_err(local)?;
        self.connect(&mut crowd, &people)?;
        let room = match self.workload {
            Workload::Idle => None,
            Workload::Durable => Some(self.enter(&mut crowd)?),
            Workload::Room => {
                let room = self.enter(&mut crowd)?;
                self.open(&mut crowd, room)?;
                Some(room)
            }
        };
        self.until(&mut crowd, "fall quiet", |crowd| crowd.quiet_for() > QUIET)?;
        note("measuring …");
        let readings = self.readings(at_rest)?;
        match (self.workload, room) {
            (Workload::Room, Some(room)) => self.schedule(&mut crowd, room)?,
            (Workload::Durable, Some(room)) => return self.durable(&mut crowd, room, at_rest),
            (Workload::Room | Workload::Durable | Workload::Idle, _) => self.idle(&mut crowd)?,
        }
        self.report(&crowd, &readings)
    }

    fn readings(&self, at_rest: Option<Reading>) -> Result<Readings, End> {
        let (before, own) = (self.reading()?, process::read(std::process::id()).ok());
        Ok(Readings { at_rest, before, own, since: Instant::now() })
    }

    fn open(&self, crowd: &mut Crowd, room: RoomId) -> Result<(), End> {
        note("opening the room …");
        let open = || Command::Open(OpenRoom { room, cursor: None, replay: false });
        self.each(crowd, "open the room", open, |crowd| crowd.tally.following)
    }

    /// Has every connection ask for something, a few at a time: a server is not to be remembered by the crush at its
    /// door, which is another workload.
    fn each(
        &self,
        crowd: &mut Crowd,
        what: &str,
        ask: impl Fn() -> Command,
        done: impl Fn(&Crowd) -> usize,
    ) -> Result<(), End> {
        for at in 0..self.clients {
            crowd.send(at, 2, ask());
            self.until(crowd, what, |crowd| done(crowd) + AT_ONCE > at)?;
        }
        self.until(crowd, what, |crowd| done(crowd) == self.clients)
    }

    fn name(&self, client: usize) -> String {
        format!("bench {} {client}", String::from_utf8_lossy(&self.run))
    }

    fn reading(&self) -> Result<Option<Reading>, End> {
        self.args.server_pid.map(process::read).transpose().map_err(End::Usage)
    }

    fn sign_in(&self) -> Result<Vec<Signed>, End> {
        let mut people: Vec<Option<Signed>> = vec![None; self.clients];
        let sign_in = |client: usize| self.target.sign_in(client, &self.name(client));
        open_many(self.clients, &sign_in, |results| {
            for (client, signed) in results.iter() {
                people[client] = Some(signed?);
            }
            Ok(())
        })?;
        Ok(people.into_iter().flatten().collect())
    }

    fn connect(&self, crowd: &mut Crowd, people: &[Signed]) -> Result<(), End> {
        let upgrade = |client: usize| {
            let hello = Hello {
                protocol: PROTOCOL_VERSION,
                client: concat!("holdfast-bench/", env!("CARGO_PKG_VERSION")).into(),
                session: ids::session_id(),
                hidden: false,
                user: None,
                rooms: Vec::new(),
                since: None,
            };
            let hello = Message::command(shared::ids::RequestId(0), Command::Hello(hello)).to_json();
            self.target.upgrade(client, &people[client].token, &hello)
        };
        open_many(self.clients, &upgrade, |results| {
            while crowd.len() < self.clients {
                match results.recv_timeout(Duration::from_millis(1)) {
                    Ok((_, opened)) => {
                        let (stream, first_bytes) = opened?;
                        crowd.add(stream, first_bytes).map_err(|error| error.to_string())?;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                crowd.turn(Duration::ZERO).map_err(|error| error.to_string())?;
            }
            Ok(())
        })?;
        self.until(crowd, "be greeted", |crowd| crowd.tally.welcomed == self.clients)
    }

    /// Finds or makes the room and makes everybody a member.
    fn enter(&self, crowd: &mut Crowd) -> Result<RoomId, End> {
        let name = self.args.room.to_lowercase();
        let answered = |crowd: &mut Crowd| crowd.tally.room.is_some() || crowd.tally.setup_refusal.is_some();
        crowd.send(0, 2, Command::FindRoom(FindRoom { name: name.clone() }));
        self.until_any(crowd, "find the room", answered)?;
        if let Some((ErrorCode::NotFound, _)) = crowd.tally.setup_refusal {
            crowd.tally.setup_refusal = None;
            let make = CreateRoom { client_id: ids::client_id(), name, title: "for measuring".into() };
            crowd.send(0, 2, Command::CreateRoom(make));
            self.until_any(crowd, "make the room", answered)?;
        }
        let room = match (crowd.tally.room, crowd.tally.setup_refusal.take()) {
            (Some(room), _) => room,
            (None, Some((code, message))) => return Err(End::Refused(format!("{message} ({code})"))),
            (None, None) => return Err(End::TimedOut("there is no room".into())),
        };
        crowd.tally.joined = 0;
        let join = || Command::Join(Membership { client_id: ids::client_id(), room });
        self.each(crowd, "join the room", join, |crowd| crowd.tally.joined)?;
        Ok(room)
    }

    fn until(&self, crowd: &mut Crowd, what: &str, done: impl Fn(&mut Crowd) -> bool) -> Result<(), End> {
        self.until_any(crowd, what, done)?;
        match crowd.tally.setup_refusal.take() {
            Some((code, message)) => Err(End::Refused(format!("could not {what}: {message} ({code})"))),
            None => Ok(()),
        }
    }

    fn until_any(&self, crowd: &mut Crowd, what: &str, done: impl Fn(&mut Crowd) -> bool) -> Result<(), End> {
        let until = Instant::now() + STEP_LIMIT;
        while !done(crowd) {
            if Instant::now() > until {
                return Err(End::TimedOut(format!("could not {what} within {STEP_LIMIT:?}: {:?}", crowd.tally)));
            }
            if let Some((code, _)) = crowd.tally.closed.first_key_value() {
                return Err(End::Refused(format!("could not {what}: the server closed with {code}")));
            }
            if crowd.tally.setup_refusal.is_some() {
                return Ok(());
            }
            crowd.turn(TURN).map_err(local)?;
        }
        Ok(())
    }

    fn idle(&self, crowd: &mut Crowd) -> Result<(), End> {
        let until = Instant::now() + Duration::from_secs_f64(self.args.seconds);
        while Instant::now() < until {
            crowd.turn(TURN).map_err(local)?;
        }
        Ok(())
    }

    /// Posts on the clock, whatever the server does, and waits for what is under way.
    fn schedule(&self, crowd: &mut Crowd, room: RoomId) -> Result<(), End> {
        let ticks = (self.args.seconds * self.args.rate).ceil().max(1.0) as u64;
        let step = 1e9 / self.args.rate;
        let start = crowd.now() + 10_000_000;
        for tick in 0..ticks {
            let intended = start + (tick as f64 * step) as u64;
            loop {
                let wait = Duration::from_nanos(intended.saturating_sub(crowd.now()));
                if wait.is_zero() {
                    break;
                }
                // The kernel's wait is counted in whole milliseconds; the rest is spent looking.
                let whole = Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(0));
                crowd.turn(whole.min(TURN)).map_err(local)?;
            }
            for _ in 0..self.args.burst {
                self.post(crowd, crowd.posts.len() % self.senders, room, intended);
            }
        }
        let until = Instant::now() + GRACE;
        while Instant::now() < until && !self.is_complete(crowd) {
            crowd.turn(TURN).map_err(local)?;
        }
        Ok(())
    }

    fn is_complete(&self, crowd: &Crowd) -> bool {
        let refused: u64 = crowd.tally.refused.values().sum();
        let done = |post: &PostFate| post.acked > 0 && post.deliveries as usize == crowd.tally.following;
        crowd.posts.iter().filter(|post| done(post)).count() as u64 + refused >= crowd.posts.len() as u64
    }

    fn post(&self, crowd: &mut Crowd, at: usize, room: RoomId, intended: u64) {
        let number = crowd.posts.len();
        crowd.posts.push(PostFate { intended, sent: crowd.now(), acked: 0, last: 0, deliveries: 0 });
        let mut body = format!("{}.{number}.", String::from_utf8_lossy(&self.run));
        body.extend(std::iter::repeat_n('x', self.args.size.saturating_sub(body.len())));
        let mut key = self.key;
        for (place, byte) in key.iter_mut().zip((number as u64).to_be_bytes()) {
            *place ^= byte;
        }
        let client_id = ClientId::from_parts(wall(), key);
        let id = FIRST_POST + number as u64;
        crowd.send_text(
            at,
            format!(r#"{{"id":{id},"command":"post","payload":{{"client_id":"{client_id}","room":"{room}","body":"{body}"}}}}"#)
                .as_bytes(),
        );
    }

    /// Every sender waits for its acknowledgement before it posts again.
    fn durable(&self, crowd: &mut Crowd, room: RoomId, at_rest: Option<Reading>) -> Result<Report, End> {
        for at in 0..self.senders {
            self.post(crowd, at, room, crowd.now());
        }
        self.keep_posting(crowd, room, WARM_UP)?;
        let readings = self.readings(at_rest)?;
        let since = crowd.now();
        self.keep_posting(crowd, room, Duration::from_secs_f64(self.args.seconds))?;
        // Counted are the posts acknowledged within the measured time, whenever they were sent.
        crowd.posts.retain(|post| post.acked >= since || post.acked == 0);
        self.report(crowd, &readings)
    }

    fn keep_posting(&self, crowd: &mut Crowd, room: RoomId, time: Duration) -> Result<(), End> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            crowd.turn(TURN).map_err(local)?;
            for at in std::mem::take(&mut crowd.tally.answered) {
                self.post(crowd, at, room, crowd.now());
            }
        }
        Ok(())
    }

    fn report(&self, crowd: &Crowd, readings: &Readings) -> Result<Report, End> {
        let measured = readings.since.elapsed();
        let after = self.reading()?;
        let own_after = process::read(std::process::id()).ok();
        let mut acks = histogram();
        let mut last = histogram();
        let mut late = histogram();
        let us = |from: u64, to: u64| to.saturating_sub(from) / 1_000;
        let following = crowd.tally.following as u64;
        let (mut acked, mut deliveries, mut lost) = (0, 0, 0);
        for post in &crowd.posts {
            late.saturating_record(us(post.intended, post.sent));
            deliveries += u64::from(post.deliveries);
            if post.acked > 0 {
                acked += 1;
                acks.saturating_record(us(post.intended, post.acked));
                lost += following.saturating_sub(u64::from(post.deliveries));
            }
            if u64::from(post.deliveries) == following && following > 0 {
                last.saturating_record(us(post.intended, post.last));
            }
        }
        let seconds = match self.workload {
            Workload::Room => self.args.seconds,
            Workload::Durable | Workload::Idle => measured.as_secs_f64(),
        };
        let percentiles = |of: &Histogram<u64>| Percentiles::from(of);
        let is_open = self.workload == Workload::Room;
        let mut report = Report {
            workload: match self.workload {
                Workload::Idle => "idle connections",
                Workload::Durable => "durable posts, closed loop",
                Workload::Room => "one room, open loop",
            },
            clients: self.clients,
            senders: self.senders,
            rate_hz: is_open.then_some(self.args.rate),
            burst: is_open.then_some(self.args.burst),
            size: self.args.size,
            seconds,
            posts: crowd.posts.len() as u64,
            acked,
            refused: crowd.tally.refused.clone(),
            posts_per_s: acked as f64 / seconds,
            expected: acked * following,
            deliveries,
            deliveries_per_s: deliveries as f64 / seconds,
            lost,
            duplicates: crowd.tally.duplicates,
            gaps: crowd.tally.gaps,
            strange: crowd.tally.strange,
            closed: crowd.tally.closed.clone(),
            ack_us: percentiles(&acks),
            delivery_us: percentiles(&crowd.deliveries),
            last_receiver_us: percentiles(&last),
            lateness_us: percentiles(&late),
            generator_cpu_share: match (readings.own, own_after) {
                (Some(before), Some(after)) => {
                    Some(after.cpu.saturating_sub(before.cpu).as_secs_f64() / measured.as_secs_f64())
                }
                _ => None,
            },
            server: None,
        };
        if let (Some(at_rest), Some(before), Some(after)) = (readings.at_rest, readings.before, after) {
            report.server = Some(report.cost(at_rest, before, after, measured, self.clients));
        }
        Ok(report)
    }
}

fn local(error: std::io::Error) -> End {
    End::Local(error.to_string())
}

/// Does something for every client on a few threads, while `take` takes the results as they come.
fn open_many<T: Send>(
    clients: usize,
    open: &(impl Fn(usize) -> Result<T, String> + Sync),
    take: impl FnOnce(&Receiver<(usize, Result<T, String>)>) -> Result<(), String>,
) -> Result<(), End> {
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
    .map_err(End::Refused)
}
