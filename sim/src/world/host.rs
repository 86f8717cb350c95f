//! The server's machine: a disk that may break, and on it the real server without its sockets and threads.
//!
//! Must not live here: links, devices, or when anything happens. Invariant: what survives a crash is what was synced, and
//! of the rest a prefix.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use clap::Parser as _;
use server::ambient::Ambient;
use server::app::{App, Parts};
use server::config::Config;
use server::connection::{Connection, Identity};
use server::delivery::Hub;
use server::http::assets::Assets;
use server::log::{
    Disk, Entry, GENERAL, LogOptions, Op, Pace, Published, Record, Replica, SYSTEM, Stepper, StorageError,
    StorageErrorKind, TokenHash,
};
use server::registry::Registry;
use shared::close;
use shared::ids::{Epoch, RoomId, UserId};
use shared::time::Timestamp;

use super::wire::Pipe;
use crate::chance::Chance;
use crate::heap::{self, Owner};
use crate::truth::TEXTS;

/// The room beside the one everybody is in.
pub(crate) const ASIDE: RoomId = RoomId::from_bytes([0xA5; 16]);
/// Records of the world's beginning, which no backup lacks: two rooms and five sign-ins.
pub(super) const SETTLED: u64 = 7;
/// When the world begins, by the wall clock.
pub(crate) const BEGINNING_MS: u64 = 1_700_000_000_000;

/// The server's settings: the defaults.
static CONFIG: LazyLock<Config> =
    LazyLock::new(|| Config::try_parse_from(["server"]).expect("the defaults are a configuration"));
/// What virtual time is counted from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The server's time and chance.
pub(super) struct Clockwork {
    now_ms: AtomicU64,
    wall_ms: AtomicI64,
    chance: Mutex<Chance>,
    /// How long reads take is drawn from it while a connection has its turn; else they take no time.
    reads: Mutex<Chance>,
    has_turn: AtomicBool,
    /// When the next read that is waited for goes on.
    read_at: AtomicU64,
}

/// Reads take the time of the made-up world.
struct ReadPace(Arc<Clockwork>);

impl Pace for ReadPace {
    fn wait(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clockwork = Arc::clone(&self.0);
        let at = clockwork.now_ms.load(Ordering::Relaxed) + clockwork.draw_read();
        Box::pin(poll_fn(move |_| {
            if clockwork.now_ms.load(Ordering::Relaxed) >= at {
                return Poll::Ready(());
            }
            clockwork.read_at.fetch_min(at, Ordering::Relaxed);
            Poll::Pending
        }))
    }
}

impl Clockwork {
    /// Draws how long the next step of a read takes, in milliseconds: mostly next to nothing, now and then long.
    fn draw_read(&self) -> u64 {
        if !self.has_turn.load(Ordering::Relaxed) {
            return 0;
        }
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        match reads.below(20) {
            0..=11 => 0,
            12..=18 => reads.between(1, 20),
            _ => reads.between(20, 400),
        }
    }

    /// Lets a connection have its turn. Returns what came of it, and in how many milliseconds a read goes on that it waits
    /// for, if it does.
    pub(super) fn turn<T>(&self, step: impl FnOnce() -> T) -> (T, Option<u64>) {
        self.read_at.store(u64::MAX, Ordering::Relaxed);
        self.has_turn.store(true, Ordering::Relaxed);
        let stepped = step();
        self.has_turn.store(false, Ordering::Relaxed);
        let at = self.read_at.load(Ordering::Relaxed);
        (stepped, (at < u64::MAX).then(|| at - self.now_ms.load(Ordering::Relaxed)))
    }

    /// Returns how long it is until a moment, in milliseconds.
    pub(super) fn ms_until(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.now()).as_millis() as u64
    }
}

impl Ambient for Clockwork {
    fn now(&self) -> Instant {
        *START + Duration::from_millis(self.now_ms.load(Ordering::Relaxed))
    }

    fn wall_clock(&self) -> Timestamp {
        let now = BEGINNING_MS + self.now_ms.load(Ordering::Relaxed);
        Timestamp(now.saturating_add_signed(self.wall_ms.load(Ordering::Relaxed)))
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }
}

/// What the disk holds, and how it is.
#[derive(Default)]
pub(super) struct Platter {
    pub(super) records: Vec<Record>,
    pub(super) synced: usize,
    pub(super) is_full: bool,
    pub(super) fails_next_sync: bool,
    pub(super) syncs: u64,
}

#[derive(Clone, Default)]
struct DiskHandle(Arc<Mutex<Platter>>);

impl DiskHandle {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for DiskHandle {
    fn write(&mut self, record: &Record) -> Result<(), StorageError> {
        let mut platter = self.platter();
        if platter.is_full {
            return Err(StorageError { kind: StorageErrorKind::Full, message: "no space left".to_owned() });
        }
        heap::of(Owner::World, || platter.records.push(record.clone()));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let mut platter = self.platter();
        if std::mem::take(&mut platter.fails_next_sync) {
            return Err(StorageError { kind: StorageErrorKind::Failed, message: "input/output error".to_owned() });
        }
        platter.synced = platter.records.len();
        platter.syncs += 1;
        Ok(())
    }

    fn probe(&mut self) -> Result<(), StorageError> {
        if self.platter().is_full {
            return Err(StorageError { kind: StorageErrorKind::Full, message: "no space left".to_owned() });
        }
        Ok(())
    }
}

/// One connection of the server, and when it wants its turn.
pub(super) struct Conn {
    pub(super) connection: Connection<Pipe>,
    pub(super) pipe: Pipe,
    /// The turn that is planned; others are out of date.
    pub(super) turn_at: Option<u64>,
}

/// The running server.
pub(super) struct Running {
    pub(super) app: Arc<App>,
    pub(super) writer: Stepper,
    pub(super) conns: BTreeMap<u64, Conn>,
}

/// What the server does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// It says goodbye, or its storage failed; it takes nobody and ends soon.
    Ending,
    Down,
}

/// The machine.
pub(super) struct Host {
    pub(super) clockwork: Arc<Clockwork>,
    disk: DiskHandle,
    pub(super) running: Option<Running>,
    pub(super) phase: Phase,
    pub(super) epoch: Epoch,
    /// The log stopped while somebody waited for it.
    pub(super) failed: bool,
}

/// Runs what never waits for anything but the log.
fn drive<T>(future: impl Future<Output = T>, writer: &mut Stepper, failed: &mut bool) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..3 {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(done);
        }
        if writer.step().is_err() {
            *failed = true;
            return None;
        }
    }
    None
}

impl Host {
    pub(super) fn new(seed: u64, epoch: Epoch) -> Self {
        let chance = Mutex::new(Chance::new(seed ^ 0x005E_4BE4));
        let clockwork = Clockwork {
            now_ms: AtomicU64::new(0),
            wall_ms: AtomicI64::new(0),
            chance,
            reads: Mutex::new(Chance::new(seed ^ 0x0004_EAD5)),
            has_turn: AtomicBool::new(false),
            read_at: AtomicU64::new(u64::MAX),
        };
        Self {
            clockwork: Arc::new(clockwork),
            disk: DiskHandle::default(),
            running: None,
            phase: Phase::Down,
            epoch,
            failed: false,
        }
    }

    pub(super) fn set_now(&self, now: u64) {
        self.clockwork.now_ms.store(now, Ordering::Relaxed);
    }

    /// Lets the wall clock jump.
    pub(super) fn jump(&self, by_ms: i64) {
        self.clockwork.wall_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    pub(super) fn platter(&self) -> MutexGuard<'_, Platter> {
        self.disk.platter()
    }

    /// Starts the server on what the disk holds.
    ///
    /// # Errors
    /// In words, if it does not start.
    pub(super) fn start(&mut self) -> Result<(), String> {
        heap::of(Owner::Server, || self.boot())
    }

    fn boot(&mut self) -> Result<(), String> {
        let mut replica = Replica::new(self.epoch, TEXTS);
        for record in &self.platter().records {
            replica.take(record).map_err(|error| format!("the log does not open: {error}"))?;
        }
        let (hub, registry) = (Arc::new(Hub::default()), Arc::new(Registry::default()));
        let sink = {
            let (hub, registry) = (Arc::clone(&hub), Arc::clone(&registry));
            move |published: &Published| server::publish(&hub, &registry, published)
        };
        let (log, mut writer) =
            server::log::open_stepped(replica, Box::new(self.disk.clone()), &LogOptions::default(), sink);
        let log = log.paced(ReadPace(Arc::clone(&self.clockwork)));
        let ambient: Arc<dyn Ambient> = Arc::clone(&self.clockwork) as _;
        let booted = drive(server::bootstrap(&log, &*ambient), &mut writer, &mut self.failed);
        booted.ok_or("the first room is not made")?.map_err(|error| error.to_string())?;
        let (config, assets) = (CONFIG.clone(), Assets::none());
        let app = App::new(Parts { config, ambient, log, hub, registry, assets, origins: Vec::new() });
        self.running = Some(Running { app, writer, conns: BTreeMap::new() });
        self.phase = Phase::Serving;
        Ok(())
    }

    /// Ends the server at once. What was written and not synced is on the disk in part, if `keeps` says how much.
    pub(super) fn stop(&mut self, keeps: impl FnOnce(usize) -> usize) -> Vec<u64> {
        let conns = self.running.take().map(|running| running.conns.into_keys().collect()).unwrap_or_default();
        self.phase = Phase::Down;
        let mut platter = self.platter();
        let kept = platter.synced + keeps(platter.records.len() - platter.synced);
        platter.records.truncate(kept);
        platter.synced = kept;
        platter.fails_next_sync = false;
        conns
    }

    /// Returns how many bytes of heap a log of the records that are on the disk takes; it is as the server's own.
    ///
    /// # Errors
    /// In words, if a record does not apply.
    pub(super) fn weigh_log(&self) -> Result<usize, String> {
        let before = heap::live(Owner::Scratch);
        let weigh = || {
            let mut replica = Replica::new(self.epoch, TEXTS);
            for record in &self.platter().records {
                drop(replica.take(record).map_err(|error| format!("a record does not apply: {error}"))?);
            }
            Ok(heap::live(Owner::Scratch) - before)
        };
        heap::of(Owner::Scratch, weigh)
    }

    /// Stores what people need before they can come: themselves, their sign-in, the rooms.
    ///
    /// # Errors
    /// In words, if the log does not take it.
    pub(super) fn propose(&mut self, by: UserId, ops: Vec<Op>) -> Result<(), String> {
        let clockwork = Arc::clone(&self.clockwork);
        let running = self.running.as_mut().ok_or("the server is down")?;
        let ambient: &dyn Ambient = &*clockwork;
        let ts = ambient.wall_clock();
        let entries = ops.into_iter().map(|op| Entry { ts, by, key: ambient.mint_key(), op }).collect();
        let log = running.app.log.clone();
        let proposed = async move { log.propose_all(entries).await };
        let applied = heap::of(Owner::Server, || drive(proposed, &mut running.writer, &mut self.failed));
        match applied {
            Some(Ok(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    /// Opens a session, or renews it.
    ///
    /// # Errors
    /// In words, if the log does not take it.
    pub(super) fn sign_in(&mut self, user: UserId, token_hash: TokenHash) -> Result<(), String> {
        let expires = Timestamp(BEGINNING_MS + 90 * 86_400_000);
        self.propose(user, vec![Op::SessionOpen { token_hash, expires }])
    }

    /// Takes a device's connection, as the upgrade does.
    pub(super) fn accept(&mut self, link: u64, user: UserId, token: TokenHash) -> bool {
        heap::of(Owner::Server, || self.take(link, user, token))
    }

    fn take(&mut self, link: u64, user: UserId, token: TokenHash) -> bool {
        let Phase::Serving = self.phase else { return false };
        let now = (&*self.clockwork as &dyn Ambient).wall_clock();
        let Some(running) = &mut self.running else { return false };
        let log = running.app.log.clone();
        let found = drive(
            async move { log.read(move |reads| reads.session(&token)).await },
            &mut running.writer,
            &mut self.failed,
        );
        let session = found.and_then(Result::ok).flatten().filter(|session| session.expires > now);
        let identity = match session {
            Some(session) if session.user == user => Ok(Identity { user, token, expires: session.expires }),
            Some(_) | None => Err(close::SESSION_EXPIRED),
        };
        let pipe = heap::of(Owner::World, Pipe::default);
        let connection = Connection::new(Arc::clone(&running.app), pipe.clone(), bytes::Bytes::new(), identity);
        heap::of(Owner::World, || running.conns.insert(link, Conn { connection, pipe, turn_at: None }));
        true
    }
}

/// What the world begins with.
///
/// # Errors
/// In words, if the log does not take it.
pub(super) fn settle(host: &mut Host, people: &[(UserId, String, TokenHash)]) -> Result<(), String> {
    let create = Op::RoomCreate { room: ASIDE, name: "aside".to_owned(), title: String::new() };
    host.propose(SYSTEM, vec![create])?;
    for (user, name, token_hash) in people {
        let ops = vec![
            Op::UserSet { user: *user, name: name.clone(), skeleton: name.to_lowercase() },
            Op::SessionOpen { token_hash: *token_hash, expires: Timestamp(BEGINNING_MS + 90 * 86_400_000) },
            Op::Join { room: GENERAL },
            Op::Join { room: ASIDE },
        ];
        host.propose(*user, ops)?;
    }
    Ok(())
}
