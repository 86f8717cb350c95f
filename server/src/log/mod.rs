//! The log: every durable change, in order, decided by one pure function and committed before anybody hears of it.
//!
//! Lives here: the handle the rest of the server proposes and reads through, and the ways to open a log. Must not live
//! here: sockets, rates, what a name may look like. Invariant: nothing is answered or published before the transaction
//! that holds it has been committed and synced; after a failed commit nothing of it is answered at all.
//!
//! ```text
//! propose ─▶ queue ─▶ writer: everything waiting = one Record = one transaction { apply each entry } ─▶ commit
//!                        └─▶ sink(Published)  ─▶ answers          └─▶ head record beside the database
//! read ─▶ a reader of a bounded pool, one moment of the log
//! ```

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::task::{Context, Poll};
use std::time::Duration;

use shared::ids::{Lsn, UserId};
use shared::message::ReadMark;
use shared::model::{RoomEvent, UserEvent};
use tokio::sync::{oneshot, watch};

pub mod apply;
pub mod chain;
mod memory;
mod pulse;
pub mod reads;
pub mod record;
mod sqlite;
pub mod tables;
mod writer;

pub use chain::{Secret, TextHash};
pub use memory::{Disk, Replica};
pub use reads::{Membership, Reads, RoomHead, SessionRow};
pub use record::{Applied, Entry, GENERAL, Op, Receipt, Record, SYSTEM, SYSTEM_NAME, TokenHash};
pub use sqlite::{DAMAGES_TOLD, Damage, VerifyReport, verify};
pub use tables::{StorageError, StorageErrorKind};
pub use writer::{Fatal, Stepper, Writer};

/// Every limit of the log, with its default.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Proposals that may wait for the writer. One more is answered [`LogError::Busy`].
    pub queue_entries: usize,
    /// Entries one record takes at most.
    pub record_entries: usize,
    /// Bytes of entries one record takes at most; a single larger entry is a record of its own.
    pub record_bytes: usize,
    /// Connections that read. More reads than this wait for one another.
    pub readers: usize,
    /// How often a full log tries whether there is room again.
    pub probe_every: Duration,
    /// How often the head record is synced.
    pub head_sync_every: Duration,
    /// Pages in the write-ahead log from which the writer moves them into the database.
    pub checkpoint_pages: u32,
    /// Starts although the head record tells that acknowledged changes are missing.
    pub accept_loss: bool,
    /// Largest database, in bytes, where an operator wants one. At it the log is full, as on a full disk.
    pub max_bytes: Option<u64>,
    /// The secret of a log that has none yet; drawn where absent. Whoever compares the checks of two logs gives them one.
    pub secret: Option<Secret>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            queue_entries: 8_192,
            record_entries: 512,
            record_bytes: 1024 * 1024,
            readers: 4,
            probe_every: Duration::from_secs(1),
            head_sync_every: Duration::from_millis(10),
            checkpoint_pages: 1_000,
            accept_loss: false,
            max_bytes: None,
            secret: None,
        }
    }
}

/// Why a proposal or a read was not answered by the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogError {
    /// The disk is full. Nothing of the proposal is stored; it heals by itself when there is room.
    Full,
    /// The queue is full, or somebody else holds the database. Nothing of the proposal is stored.
    Busy,
    /// The log has stopped. Whether the proposal is stored is unknown; it must be neither acknowledged nor refused.
    Stopped,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the disk is full",
            Self::Busy => "the log has too much waiting",
            Self::Stopped => "the log has stopped",
        })
    }
}

impl std::error::Error for LogError {}

/// Whether the log takes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Writable,
    /// The disk is full. Reads go on.
    Full,
    /// It has stopped, in order or not.
    Stopped,
}

/// What a record changed, for those who are told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// Changes in rooms, in order within each room.
    pub room_events: Vec<RoomEvent>,
    /// Changes in users' own streams, in order within each.
    pub user_events: Vec<(UserId, UserEvent)>,
    /// Read positions that moved.
    pub reads: Vec<(UserId, ReadMark)>,
    /// Sessions that were ended, and whose they were.
    pub revoked: Vec<(UserId, TokenHash)>,
}

/// A record that was committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The last change of the whole log now.
    pub lsn: Lsn,
    /// What it changed.
    pub effects: Effects,
}

/// Hears of every committed record on the writer's thread, before the proposers do. It must not block.
pub trait Sink: FnMut(&Published) + Send + 'static {}
impl<F: FnMut(&Published) + Send + 'static> Sink for F {}

/// The log, as everybody uses it.
#[derive(Clone)]
pub struct LogHandle {
    queue: SyncSender<writer::Work>,
    watched: pulse::Watched,
    readers: Arc<dyn Readers>,
}

/// What becomes of a change that was asked for: committed, refused, or known before. Dropping it does not take the change
/// back.
#[derive(Debug)]
pub struct Answered(oneshot::Receiver<Result<Applied, LogError>>);

impl Future for Answered {
    type Output = Result<Applied, LogError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A writer that stops drops what waits: its outcome is unknown.
        Pin::new(&mut self.0).poll(context).map(|answered| answered.unwrap_or(Err(LogError::Stopped)))
    }
}

/// Runs a read on some backend's view of one moment.
trait Readers: Send + Sync {
    /// Runs `job` on another thread if it may block.
    fn run(&self, job: ReadJob) -> Pin<Box<dyn Future<Output = Result<(), LogError>> + Send + '_>>;
}

/// Makes every read take time, for whoever runs the server in a time of their own.
pub trait Pace: Send + Sync + 'static {
    /// Waits, once before a read is made and once before it answers.
    fn wait(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Readers that take the time a pace says.
struct PacedReaders {
    readers: Arc<dyn Readers>,
    pace: Box<dyn Pace>,
}

impl Readers for PacedReaders {
    fn run(&self, job: ReadJob) -> Pin<Box<dyn Future<Output = Result<(), LogError>> + Send + '_>> {
        Box::pin(async move {
            self.pace.wait().await;
            let done = self.readers.run(job).await;
            self.pace.wait().await;
            done
        })
    }
}

/// A read that keeps its own answer.
type ReadJob = Box<dyn FnOnce(&dyn Reads) -> Result<(), StorageError> + Send>;

impl LogHandle {
    /// Asks for a change and waits until it is committed, refused or known before.
    ///
    /// Dropping the future does not take the proposal back.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn propose(&self, entry: Entry) -> Result<Applied, LogError> {
        self.submit(entry)?.await
    }

    /// Asks for a change at once; the answer can be waited for, or not.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn submit(&self, entry: Entry) -> Result<Answered, LogError> {
        let (answer, answered) = oneshot::channel();
        self.enqueue(writer::Work::Propose(Box::new((entry, answer))))?;
        Ok(Answered(answered))
    }

    /// Asks for several changes in one record: all are stored or none. Each is decided after the ones before it, and on
    /// its own: a refused one does not take the others back.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn propose_all(&self, entries: Vec<Entry>) -> Result<Vec<Applied>, LogError> {
        let (answer, answered) = oneshot::channel();
        self.enqueue(writer::Work::ProposeAll(entries, answer))?;
        // A writer that stops drops what waits: its outcome is unknown.
        answered.await.unwrap_or(Err(LogError::Stopped))
    }

    fn enqueue(&self, work: writer::Work) -> Result<(), LogError> {
        self.queue.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => LogError::Busy,
            TrySendError::Disconnected(_) => LogError::Stopped,
        })
    }

    /// Reads one moment of the log. What `propose` has answered before is in it.
    ///
    /// # Errors
    /// [`LogError::Stopped`] if the storage failed to answer; that alone does not stop the log.
    pub async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&dyn Reads) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, LogError> {
        let (answer, mut answered) = oneshot::channel();
        let job: ReadJob = Box::new(move |reads| {
            let found = f(reads)?;
            // Nobody waits for it any more: that is what a closed connection looks like.
            let _ = answer.send(found);
            Ok(())
        });
        self.readers.run(job).await?;
        answered.try_recv().map_err(|_| LogError::Stopped)
    }

    /// The same log, read at a pace.
    #[must_use]
    pub fn paced(self, pace: impl Pace) -> Self {
        let readers = Arc::new(PacedReaders { readers: self.readers, pace: Box::new(pace) });
        Self { readers, ..self }
    }

    /// Returns whether the log takes anything.
    #[must_use]
    pub fn health(&self) -> Health {
        *self.watched.health.borrow()
    }

    /// Returns a view of the health that can be waited on.
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.watched.health.clone()
    }

    /// Returns how long the writer has been at the record it is at; nothing while it waits for the next. A writer that is
    /// stepped takes no time.
    #[must_use]
    pub fn busy_for(&self) -> Duration {
        self.watched.pulse.busy_for()
    }
}

/// Opens the log kept in a directory, making it where there is none.
///
/// # Errors
/// See [`OpenError`]. Nothing is opened then.
pub fn open_sqlite(dir: &Path, options: &LogOptions, sink: impl Sink) -> Result<(LogHandle, Writer), OpenError> {
    sqlite::open(dir, options, Box::new(sink))
}

/// Opens an empty log in memory: the twin that tests run against.
///
/// # Errors
/// [`OpenError::Io`] if no thread can be started or no randomness drawn.
pub fn open_memory(options: &LogOptions, sink: impl Sink) -> Result<(LogHandle, Writer), OpenError> {
    memory::open(options, Box::new(sink))
}

/// Opens a log in memory where a replica has come to, on a disk of the caller's and without a thread: it writes when it
/// is stepped. For whoever runs the server in a time of their own.
pub fn open_stepped(
    replica: Replica,
    disk: Box<dyn Disk>,
    options: &LogOptions,
    sink: impl Sink,
) -> (LogHandle, Stepper) {
    memory::open_stepped(replica, disk, options, Box::new(sink))
}

/// Why a log was not opened. The words are for the operator who has to act.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it open.
    Locked,
    /// A newer version wrote it.
    NewerSchema {
        /// What it was written with.
        found: usize,
        /// The newest this version knows.
        known: usize,
    },
    /// An older version wrote it, and no copy of it could be put beside it before it is changed.
    Backup {
        /// What it was written with.
        found: usize,
        /// Where the copy should lie.
        copy: PathBuf,
        /// Why it does not, and what to do.
        reason: String,
    },
    /// SQLite did not take a setting the promise rests on.
    Pragma {
        /// Which.
        name: &'static str,
        /// What was asked.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// The head record tells of changes the database does not have.
    Behind {
        /// The last change that was acknowledged.
        head: Lsn,
        /// The last change that is there.
        database: Lsn,
    },
    /// The head record and the database tell of different histories.
    Forked {
        /// Where they differ.
        at: Lsn,
    },
    /// There is no database, but what lay beside one.
    NoDatabase {
        /// The file that is there.
        beside: &'static str,
    },
    /// There is a database and no head record that can be read.
    NoHead {
        /// What is wrong with it.
        reason: String,
    },
    /// The storage failed.
    Storage(StorageError),
    /// The file system failed.
    Io(std::io::Error),
}

const ACCEPT: &str = "If you restored a backup on purpose, start once with --accept-loss: the server then goes on from \
                      what is there, and clients that saw more are told so.";

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => {
                f.write_str("another server has this data directory open; stop it, or choose another directory")
            }
            Self::NewerSchema { found, known } => write!(
                f,
                "the database was written by a newer version (schema {found}; this version knows up to {known}); \
                 run that version, or restore a backup made before it"
            ),
            Self::Backup { found, copy, reason } => write!(
                f,
                "the database has an older form (schema {found}), of which a copy is kept before it is changed, but there \
                 is none at {}: {reason}. Nothing was changed",
                copy.display()
            ),
            Self::Pragma { name, wanted, found } => write!(
                f,
                "SQLite did not take {name} = {wanted} (it is {found}); without it acknowledged posts could be lost in \
                 a power cut, so the server does not start; use a local file system"
            ),
            Self::Behind { head, database } => write!(
                f,
                "the database ends at change {database}, but change {head} was acknowledged: posts are missing. {ACCEPT}"
            ),
            Self::Forked { at } => write!(
                f,
                "the database has another history at change {at} than the one that was acknowledged. {ACCEPT}"
            ),
            Self::NoDatabase { beside } => write!(
                f,
                "the database is missing or empty, but {beside} is here, so there was one. Nothing was changed. Put the \
                 database in its place; to begin a new one, or to restore one without what lay beside it, choose an empty \
                 directory"
            ),
            Self::NoHead { reason } => write!(
                f,
                "the file that guards the database against loss is missing or unreadable ({reason}), so nobody can tell \
                 whether posts are missing. {ACCEPT}"
            ),
            Self::Storage(error) => write!(f, "the database cannot be used: {error}"),
            Self::Io(error) => write!(f, "the data directory cannot be used: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<StorageError> for OpenError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}
