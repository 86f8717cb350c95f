//! The log's twin in memory: the same `apply` over maps. Tests run the server on it.
//!
//! Lives here: the log on it, and the disk under it; the maps are in `state`, how they are asked in `reads`. Must not live
//! here: any decision of its own. Invariant: what the contract suite asks of SQLite holds here, but for
//! surviving the process.

mod reads;
mod state;

use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use shared::ids::{Epoch, Lsn};
use shared::planted::{Bug, is_planted};

use self::state::State;
use super::chain::{Secret, TextHash};
use super::reads::Reads;
use super::record::Record;
use super::tables::StorageError;
use super::writer::{self, Backend, BoxedSink, Committed, Stepper, Writer};
use super::{Health, LogError, LogHandle, LogOptions, OpenError, Published, ReadJob, Readers};

/// Where the twin's records go before they are applied, as a database goes to its disk. It may be slow, full or broken.
pub trait Disk: Send + 'static {
    /// Writes a record behind those before.
    ///
    /// # Errors
    /// [`StorageErrorKind::Full`](super::StorageErrorKind::Full) and `Busy` promise that nothing of it is or will be there.
    fn write(&mut self, record: &Record) -> Result<(), StorageError>;
    /// Makes what was written survive everything.
    ///
    /// # Errors
    /// [`StorageErrorKind::Failed`](super::StorageErrorKind::Failed): whether it is there is unknown.
    fn sync(&mut self) -> Result<(), StorageError>;
    /// Tells whether there is room again.
    ///
    /// # Errors
    /// As for [`Disk::write`].
    fn probe(&mut self) -> Result<(), StorageError>;
}

/// Records are forgotten.
struct Nowhere;

impl Disk for Nowhere {
    fn write(&mut self, _: &Record) -> Result<(), StorageError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn probe(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Opens an empty log.
pub(super) fn open(options: &LogOptions, sink: BoxedSink) -> Result<(LogHandle, Writer), OpenError> {
    let mut epoch = [0; 16];
    getrandom::fill(&mut epoch).map_err(|error| std::io::Error::other(error.to_string()))?;
    let secret = options.secret.map_or_else(Secret::draw, Ok)?;
    let state = State::new(Epoch::from_bytes(epoch), TextHash::keyed(secret, Lsn(0)));
    let state = Arc::new(RwLock::new(state));
    let memory = Memory { state: Arc::clone(&state), disk: Box::new(Nowhere) };
    let (queue, watched, writer) = writer::start(memory, options, sink, Health::Writable)?;
    Ok((LogHandle { queue, watched, readers: Arc::new(MemoryReaders { state }) }, writer))
}

/// Opens the log that a replica has come to, without a thread.
pub(super) fn open_stepped(
    replica: Replica,
    disk: Box<dyn Disk>,
    options: &LogOptions,
    sink: BoxedSink,
) -> (LogHandle, Stepper) {
    let state = Arc::new(RwLock::new(replica.state));
    let memory = Memory { state: Arc::clone(&state), disk };
    let (queue, watched, stepper) = writer::stepped(Box::new(memory), options, sink);
    (LogHandle { queue, watched, readers: Arc::new(MemoryReaders { state }) }, stepper)
}

/// What records make, one after the other: the same records make the same.
pub struct Replica {
    state: State,
}

impl Replica {
    /// Begins a log that hashes its texts in some way.
    #[must_use]
    pub fn new(epoch: Epoch, texts: TextHash) -> Self {
        Self { state: State::new(epoch, texts) }
    }

    /// Applies the next record, and returns what it changed; `None` if that is nothing.
    ///
    /// # Errors
    /// If what was applied before contradicts itself.
    pub fn take(&mut self, record: &Record) -> Result<Option<Published>, StorageError> {
        Ok(self.state.take(record)?.published)
    }

    /// Returns what can be asked of it.
    #[must_use]
    pub const fn reads(&self) -> &dyn Reads {
        &self.state
    }
}

struct Memory {
    state: Arc<RwLock<State>>,
    disk: Box<dyn Disk>,
}

impl Backend for Memory {
    fn commit(&mut self, record: &Record) -> Result<Committed, StorageError> {
        let take = || self.state.write().unwrap_or_else(PoisonError::into_inner).take(record);
        if is_planted(Bug::AckBeforeCommit) {
            let taken = take();
            drop(self.disk.write(record).and_then(|()| self.disk.sync()));
            return taken;
        }
        if is_planted(Bug::PublishBeforeCommit) {
            let taken = take();
            self.disk.write(record)?;
            self.disk.sync()?;
            return taken;
        }
        self.disk.write(record)?;
        if !is_planted(Bug::NoSync) {
            self.disk.sync().map_err(|mut error| {
                if is_planted(Bug::FailedSyncRefused) {
                    error.kind = super::StorageErrorKind::Full;
                }
                error
            })?;
        }
        take()
    }

    fn probe(&mut self) -> Result<(), StorageError> {
        self.disk.probe()
    }

    fn tidy(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn close(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

struct MemoryReaders {
    state: Arc<RwLock<State>>,
}

impl Readers for MemoryReaders {
    fn run(&self, job: ReadJob) -> Pin<Box<dyn Future<Output = Result<(), LogError>> + Send + '_>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let outcome = job(&*state).map_err(|error| {
            tracing::error!(error = %error, "a read failed");
            LogError::Stopped
        });
        Box::pin(std::future::ready(outcome))
    }
}
