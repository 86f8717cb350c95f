//! The one thread that writes: takes everything waiting as the next record, commits it, tells the sink, then answers.
//!
//! Must not live here: how a record is stored, which is the [`Backend`]'s. Invariant: an answer is sent only after
//! `commit` has returned; after a fatal error nothing is answered again.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use super::pulse::{Pulse, Watched};
use super::record::{Applied, Entry, RECORD_VERSION, Record};
use super::tables::{StorageError, StorageErrorKind};
use super::{Health, LogError, LogOptions, OpenError, Published};

/// Where whoever proposed one entry waits.
pub(super) type Answer = oneshot::Sender<Result<Applied, LogError>>;
/// Where whoever proposed several waits.
pub(super) type Answers = oneshot::Sender<Result<Vec<Applied>, LogError>>;
/// Who hears of committed records.
pub(super) type BoxedSink = Box<dyn FnMut(&Published) + Send>;

/// What the writer is handed.
pub(super) enum Work {
    /// Apply this and answer there. Boxed, for the queue has room for its longest work thousands of times.
    Propose(Box<(Entry, Answer)>),
    /// Apply these in one record and answer there.
    ProposeAll(Vec<Entry>, Answers),
    /// Finish what came before, then end.
    Stop,
}

/// A store of records. Lives on the writer's thread.
pub(super) trait Backend: Send + 'static {
    /// Applies a record and commits it. Everything committed is told in [`Committed::published`], unless nothing was.
    ///
    /// # Errors
    /// [`StorageErrorKind::Full`] and [`StorageErrorKind::Busy`] promise that nothing of the record is or will be
    /// stored.
    fn commit(&mut self, record: &Record) -> Result<Committed, StorageError>;
    /// Finds out, by writing, whether there is room again.
    ///
    /// # Errors
    /// As for [`Backend::commit`].
    fn probe(&mut self) -> Result<(), StorageError>;
    /// Does what can wait until the answers are out, such as moving pages.
    ///
    /// # Errors
    /// As for [`Backend::commit`].
    fn tidy(&mut self) -> Result<(), StorageError>;
    /// Ends in good order.
    ///
    /// # Errors
    /// As for [`Backend::commit`].
    fn close(&mut self) -> Result<(), StorageError>;
}

impl<B: Backend + ?Sized> Backend for Box<B> {
    fn commit(&mut self, record: &Record) -> Result<Committed, StorageError> {
        (**self).commit(record)
    }

    fn probe(&mut self) -> Result<(), StorageError> {
        (**self).probe()
    }

    fn tidy(&mut self) -> Result<(), StorageError> {
        (**self).tidy()
    }

    fn close(&mut self) -> Result<(), StorageError> {
        (**self).close()
    }
}

/// What became of a record.
pub(super) struct Committed {
    /// One for each entry, in order.
    pub(super) applied: Vec<Applied>,
    /// What was changed; `None` if nothing was.
    pub(super) published: Option<Published>,
}

/// Why the log stopped for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// The storage's words, for logs.
    pub message: String,
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log stopped, because what is on the disk is no longer known: {}", self.message)
    }
}

impl std::error::Error for Fatal {}

/// The running writer. The server waits on [`Writer::stopped`] beside everything else, and exits non-zero if it comes
/// unasked.
pub struct Writer {
    queue: SyncSender<Work>,
    ended: oneshot::Receiver<Result<(), Fatal>>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Waits until the writer ends. Cancel-safe; to be called again after a result, it says so again only once.
    ///
    /// # Errors
    /// [`Fatal`] if it ended because the storage failed.
    pub async fn stopped(&mut self) -> Result<(), Fatal> {
        (&mut self.ended).await.unwrap_or_else(|_| Err(Fatal { message: "the writer panicked".to_owned() }))
    }

    /// Commits what was proposed before, then ends the writer. Blocks until it has.
    ///
    /// # Errors
    /// [`Fatal`] if the storage failed on the way or before.
    pub fn shutdown(mut self) -> Result<(), Fatal> {
        // A writer that has ended already takes nothing, and says below how it ended.
        let _ = self.queue.send(Work::Stop);
        let panicked = self.thread.join().is_err();
        match self.ended.try_recv() {
            Ok(ended) => ended,
            Err(_) if panicked => Err(Fatal { message: "the writer panicked".to_owned() }),
            Err(_) => Ok(()),
        }
    }
}

/// Starts the writer's thread. `health` is what is known of the backend.
pub(super) fn start(
    backend: impl Backend,
    options: &LogOptions,
    sink: BoxedSink,
    health: Health,
) -> Result<(SyncSender<Work>, Watched, Writer), OpenError> {
    let (queue, work) = sync_channel(options.queue_entries);
    let (health, watched) = watch::channel(health);
    let pulse = Pulse::new();
    let watched = Watched { health: watched, pulse: pulse.clone() };
    let (end, ended) = oneshot::channel();
    let mut writing = Writing { backend, sink, work, health, pulse, options: options.clone() };
    let thread = std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || {
        let outcome = writing.run();
        writing.health.send_replace(Health::Stopped);
        // Nobody may be listening: then `shutdown` was not asked either, and the process is going.
        let _ = end.send(outcome);
    })?;
    Ok((queue.clone(), watched, Writer { queue, ended, thread }))
}

/// A writer without a thread, for whoever keeps the time themselves.
pub struct Stepper {
    writing: Writing<Box<dyn Backend>>,
}

impl Stepper {
    /// Writes everything that waits as one record, or looks whether a full disk has room again. Returns whether there was
    /// anything to do.
    ///
    /// # Errors
    /// [`Fatal`] if the storage failed. The log has stopped then, and is to be dropped.
    pub fn step(&mut self) -> Result<bool, Fatal> {
        self.writing.turn_now().map_err(|error| {
            self.writing.health.send_replace(Health::Stopped);
            fatal(error)
        })
    }
}

/// Makes a writer that is stepped.
pub(super) fn stepped(
    backend: Box<dyn Backend>,
    options: &LogOptions,
    sink: BoxedSink,
) -> (SyncSender<Work>, Watched, Stepper) {
    let (queue, work) = sync_channel(options.queue_entries);
    let (health, watched) = watch::channel(Health::Writable);
    let pulse = Pulse::new();
    let watched = Watched { health: watched, pulse: pulse.clone() };
    (queue, watched, Stepper { writing: Writing { backend, sink, work, health, pulse, options: options.clone() } })
}

/// What the thread owns.
struct Writing<B> {
    backend: B,
    sink: BoxedSink,
    work: Receiver<Work>,
    health: watch::Sender<Health>,
    pulse: Pulse,
    options: LogOptions,
}

/// A proposer, and which of the record's entries are theirs.
enum Waiting {
    /// The next.
    One(Answer),
    /// So many that are next.
    All(Answers, usize),
}

impl Waiting {
    /// Answers from what became of the entries. Whoever stopped waiting finds the answer under the same key when they ask
    /// again.
    fn answer(self, applied: &mut impl Iterator<Item = Applied>) {
        match self {
            // One for each entry, always.
            Self::One(answer) => drop(applied.next().map(|applied| answer.send(Ok(applied)))),
            Self::All(answers, count) => drop(answers.send(Ok(applied.take(count).collect()))),
        }
    }

    /// Says that nothing was stored. Whoever stopped waiting asks again.
    fn refuse(self, error: LogError) {
        match self {
            Self::One(answer) => drop(answer.send(Err(error))),
            Self::All(answers, _) => drop(answers.send(Err(error))),
        }
    }
}

/// What one turn of the loop ends with.
enum Turn {
    Again,
    End,
}

impl<B: Backend> Writing<B> {
    fn run(&mut self) -> Result<(), Fatal> {
        loop {
            match self.turn() {
                Ok(Turn::Again) => {}
                Ok(Turn::End) => return self.backend.close().map_err(fatal),
                Err(error) => return Err(fatal(error)),
            }
        }
    }

    fn turn(&mut self) -> Result<Turn, StorageError> {
        let health = *self.health.borrow();
        let first = match health {
            Health::Full => match self.work.recv_timeout(self.options.probe_every) {
                Ok(work) => work,
                Err(RecvTimeoutError::Timeout) => {
                    self.probe()?;
                    return Ok(Turn::Again);
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(Turn::End),
            },
            Health::Writable | Health::Stopped => match self.work.recv() {
                Ok(work) => work,
                Err(_) => return Ok(Turn::End),
            },
        };
        self.pulse.begin();
        let turn = self.write(first);
        self.pulse.end();
        turn
    }

    /// As [`Writing::turn`], without waiting. Tells whether anything was there to do.
    fn turn_now(&mut self) -> Result<bool, StorageError> {
        let health = *self.health.borrow();
        match self.work.try_recv() {
            Ok(work) => self.write(work).map(|_| true),
            Err(_) if health == Health::Full => self.probe().map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Writes a record of everything that waits.
    fn write(&mut self, first: Work) -> Result<Turn, StorageError> {
        let (entries, answers, turn) = self.gather(first);
        if !entries.is_empty() {
            self.commit(entries, answers)?;
        }
        Ok(turn)
    }

    /// Takes everything waiting, up to the limits of a record.
    fn gather(&self, first: Work) -> (Vec<Entry>, Vec<Waiting>, Turn) {
        let (mut entries, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut next = Ok(first);
        loop {
            match next {
                Ok(Work::Propose(proposal)) => {
                    let (entry, answer) = *proposal;
                    bytes += entry.op.weight();
                    answers.push(Waiting::One(answer));
                    entries.push(entry);
                }
                Ok(Work::ProposeAll(asked, answer)) => {
                    bytes += asked.iter().map(|entry| entry.op.weight()).sum::<usize>();
                    answers.push(Waiting::All(answer, asked.len()));
                    entries.extend(asked);
                }
                Ok(Work::Stop) | Err(TryRecvError::Disconnected) => return (entries, answers, Turn::End),
                Err(TryRecvError::Empty) => return (entries, answers, Turn::Again),
            }
            if entries.len() >= self.options.record_entries || bytes >= self.options.record_bytes {
                return (entries, answers, Turn::Again);
            }
            next = self.work.try_recv();
        }
    }

    fn commit(&mut self, entries: Vec<Entry>, answers: Vec<Waiting>) -> Result<(), StorageError> {
        let record = Record { v: RECORD_VERSION, entries };
        let refusal = match self.backend.commit(&record) {
            Ok(committed) => {
                if let Some(published) = &committed.published {
                    self.set_health(Health::Writable);
                    (self.sink)(published);
                }
                let mut applied = committed.applied.into_iter();
                answers.into_iter().for_each(|waiting| waiting.answer(&mut applied));
                return self.tidy();
            }
            Err(error) => match error.kind {
                StorageErrorKind::Full => {
                    self.set_health(Health::Full);
                    LogError::Full
                }
                StorageErrorKind::Busy => LogError::Busy,
                // The answers are dropped unsent.
                StorageErrorKind::Failed => return Err(error),
            },
        };
        answers.into_iter().for_each(|waiting| waiting.refuse(refusal));
        Ok(())
    }

    fn tidy(&mut self) -> Result<(), StorageError> {
        match self.backend.tidy() {
            Err(error) if error.kind == StorageErrorKind::Failed => Err(error),
            // What could not be tidied now is tried again after the next record.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn probe(&mut self) -> Result<(), StorageError> {
        match self.backend.probe() {
            Ok(()) => self.set_health(Health::Writable),
            Err(error) => match error.kind {
                StorageErrorKind::Full | StorageErrorKind::Busy => {}
                StorageErrorKind::Failed => return Err(error),
            },
        }
        Ok(())
    }

    fn set_health(&self, to: Health) {
        self.health.send_if_modified(|health| {
            let changed = *health != to;
            if changed {
                match to {
                    Health::Writable => tracing::info!("the log takes writes again"),
                    Health::Full => tracing::error!("the disk is full: nothing is stored until there is room"),
                    Health::Stopped => tracing::info!("the log has stopped"),
                }
            }
            *health = to;
            changed
        });
    }
}

fn fatal(error: StorageError) -> Fatal {
    tracing::error!(error = %error, "the log stops");
    Fatal { message: error.message }
}

#[cfg(test)]
mod tests {
    use shared::ids::{ClientId, Lsn, RoomId, Seq, UserId};
    use shared::time::Timestamp;

    use super::*;
    use crate::log::record::{Op, Receipt};
    use crate::log::{Effects, LogHandle, ReadJob, Readers};

    /// A store that commits what it is told to, and counts what it is asked.
    struct Scripted {
        outcomes: Vec<Option<StorageErrorKind>>,
        probes: Vec<Option<StorageErrorKind>>,
    }

    fn outcome(script: &mut Vec<Option<StorageErrorKind>>) -> Result<(), StorageError> {
        match script.remove(0) {
            None => Ok(()),
            Some(kind) => Err(StorageError { kind, message: format!("{kind:?}, as scripted") }),
        }
    }

    impl Backend for Scripted {
        fn commit(&mut self, record: &Record) -> Result<Committed, StorageError> {
            outcome(&mut self.outcomes)?;
            let receipt = Receipt { room: None, seq: Seq(1), ts: Timestamp(1) };
            let applied = record.entries.iter().map(|_| Applied::Committed(receipt)).collect();
            Ok(Committed { applied, published: Some(Published { lsn: Lsn(1), effects: Effects::default() }) })
        }

        fn probe(&mut self) -> Result<(), StorageError> {
            outcome(&mut self.probes)
        }

        fn tidy(&mut self) -> Result<(), StorageError> {
            Ok(())
        }

        fn close(&mut self) -> Result<(), StorageError> {
            Ok(())
        }
    }

    /// Nobody reads here.
    struct NoReaders;

    impl Readers for NoReaders {
        fn run(&self, _: ReadJob) -> std::pin::Pin<Box<dyn Future<Output = Result<(), LogError>> + Send + '_>> {
            Box::pin(std::future::ready(Err(LogError::Stopped)))
        }
    }

    fn scripted(
        outcomes: &[Option<StorageErrorKind>],
        probes: &[Option<StorageErrorKind>],
        sink: impl FnMut(&Published) + Send + 'static,
    ) -> (LogHandle, Writer) {
        let backend = Scripted { outcomes: outcomes.to_vec(), probes: probes.to_vec() };
        let options = LogOptions { probe_every: std::time::Duration::from_millis(1), ..LogOptions::default() };
        let (queue, watched, writer) = start(backend, &options, Box::new(sink), Health::Writable).unwrap();
        (LogHandle { queue, watched, readers: std::sync::Arc::new(NoReaders) }, writer)
    }

    fn entry() -> Entry {
        let (by, key) = (UserId::from_bytes([1; 16]), ClientId::from_bytes([2; 16]));
        Entry { ts: Timestamp(1), by, key, op: Op::Join { room: RoomId::from_bytes([3; 16]) } }
    }

    #[tokio::test]
    async fn a_commit_of_unknown_outcome_is_neither_acknowledged_nor_refused_and_stops_the_log() {
        let (told, heard) = std::sync::mpsc::channel();
        let script = [None, Some(StorageErrorKind::Failed)];
        let (log, mut writer) = scripted(&script, &[], move |published| told.send(published.lsn).unwrap());
        assert!(matches!(log.propose(entry()).await, Ok(Applied::Committed(_))));
        assert_eq!(log.propose(entry()).await, Err(LogError::Stopped));
        let fatal = writer.stopped().await.unwrap_err();
        assert!(fatal.message.contains("as scripted"), "{fatal}");
        assert_eq!(log.propose(entry()).await, Err(LogError::Stopped), "nothing is taken any more");
        assert_eq!(log.health(), Health::Stopped);
        assert_eq!(heard.iter().count(), 1, "nothing of it is published");
    }

    #[tokio::test]
    async fn a_full_disk_refuses_and_heals_by_its_own_probe() {
        let full = Some(StorageErrorKind::Full);
        let (log, writer) = scripted(&[full, None], &[full, full, Some(StorageErrorKind::Busy), None], |_| {});
        assert_eq!(log.propose(entry()).await, Err(LogError::Full));
        let mut health = log.watch_health();
        health.wait_for(|health| *health == Health::Writable).await.unwrap();
        assert!(matches!(log.propose(entry()).await, Ok(Applied::Committed(_))));
        writer.shutdown().unwrap();
    }

    #[tokio::test]
    async fn a_probe_that_fails_otherwise_stops_the_log() {
        let (log, mut writer) = scripted(&[Some(StorageErrorKind::Full)], &[Some(StorageErrorKind::Failed)], |_| {});
        assert_eq!(log.propose(entry()).await, Err(LogError::Full));
        writer.stopped().await.unwrap_err();
        assert_eq!(log.health(), Health::Stopped);
    }

    #[tokio::test]
    async fn whoever_else_holds_the_database_costs_an_answer_and_no_health() {
        let (log, writer) = scripted(&[Some(StorageErrorKind::Busy), None], &[], |_| {});
        assert_eq!(log.propose(entry()).await, Err(LogError::Busy));
        assert_eq!(log.health(), Health::Writable);
        assert!(matches!(log.propose(entry()).await, Ok(Applied::Committed(_))));
        writer.shutdown().unwrap();
    }
}
