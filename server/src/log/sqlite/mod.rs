//! The log in SQLite: one connection that writes, a few that read, a head record beside the file.
//!
//! Must not live here: decisions about requests. Invariant: a record is one transaction. If anything fails before its
//! `COMMIT` is issued, none of it is stored; if the `COMMIT` itself fails for another reason than a full disk, what is
//! stored is unknown, and nothing is written any more.
//!
//! ```text
//! DIR/holdfast.db (+ -wal, -shm)   the log
//! DIR/holdfast.head                the last committed change, see [`head`]
//! DIR/holdfast.lock                held as long as a server runs here
//! DIR/holdfast.db.schema-N         the log before it was brought to a form above N, see [`backup`]
//! ```

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};
use shared::cursor::Check;
use shared::ids::{Epoch, Lsn};

use self::cache::Cache;
use self::head::{Head, HeadFile};
use self::rows::{Sql, get, storage};
use self::tables::{Transaction, one, write};
use super::apply::apply;
use super::chain::{Secret, TextHash};
use super::record::{Applied, Record};
use super::tables::{StorageError, StorageErrorKind};
use super::writer::{self, Backend, BoxedSink, Committed, Writer};
use super::{Effects, Health, LogHandle, LogOptions, OpenError, Published, chain};

mod backup;
mod cache;
mod head;
mod reads;
mod rows;
mod schema;
mod tables;
mod verify;
mod wal;

pub use verify::{DAMAGES_TOLD, Damage, VerifyReport, verify};

const DATABASE: &str = "holdfast.db";
/// SQLite's own name for the write-ahead log of [`DATABASE`].
const WAL: &str = "holdfast.db-wal";
const HEAD: &str = "holdfast.head";
const LOCK: &str = "holdfast.lock";
const PROBE: &str = "holdfast.probe";
/// What a full log tries to write to learn whether there is room again, in bytes.
const PROBE_BYTES: usize = 64 * 1024;
/// Moves pages without waiting for anybody.
const MOVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";
/// Moves all pages, waiting for who reads older ones, so that the next record is written to the beginning of the write-ahead
/// log again.
const RESTART: &str = "PRAGMA wal_checkpoint(RESTART)";
/// From so many times [`LogOptions::checkpoint_pages`] on, and after as many more each time that did not help, readers are
/// waited for. Without that the file grows for as long as there is always somebody who began to read before the last record.
const RESTART_TIMES: u32 = 16;
/// How long they are waited for at most, in milliseconds: some times the longest page. Nothing is written meanwhile.
const RESTART_WAIT_MS: u64 = 250;
/// Moves all pages and gives the room of the write-ahead log back.
const SQUEEZE: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// Opens the log kept in a directory.
pub(super) fn open(dir: &Path, options: &LogOptions, sink: BoxedSink) -> Result<(LogHandle, Writer), OpenError> {
    std::fs::create_dir_all(dir)?;
    let lock = take_lock(dir)?;
    let path = dir.join(DATABASE);
    look_for_database(dir)?;
    wal::write_again(&dir.join(WAL))?;
    let mut db = Connection::open_with_flags(
        &path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(storage)?;
    schema::prepare_writer(&db)?;
    if schema::known_version(&db)? == 0 {
        schema::migrate(&mut db, &path)?;
    }
    let epoch = epoch(&db)?;
    let (lsn, check) = last(&db)?;
    let found = Head { epoch, lsn, check };
    compare(&db, dir, &found, options)?;
    // Only now: what is refused is left in the form it has, and what lacks its end is not what a copy should hold.
    schema::migrate(&mut db, &path)?;
    let texts = texts(&db, lsn, options)?;
    let head = HeadFile::create(&dir.join(HEAD), found, options.head_sync_every)?;
    sync_dir(dir)?;
    if let Some(bytes) = options.max_bytes {
        cap(&db, bytes)?;
    }
    db.wal_hook(Some(|_, pages| {
        WAL_PAGES.set(u32::try_from(pages).unwrap_or(0));
        Ok(())
    }));
    let pool = reads::Pool::open(path, epoch, options.readers)?;
    let mut backend = Sqlite {
        db,
        cache: RefCell::default(),
        dir: dir.to_owned(),
        epoch,
        texts,
        lsn,
        check,
        head: Some(head),
        checkpoint_pages: options.checkpoint_pages,
        restart_pages: options.checkpoint_pages.saturating_mul(RESTART_TIMES),
        _lock: lock,
    };
    let health = first_look(&mut backend)?;
    let (queue, watched, writer) = writer::start(backend, options, sink, health)?;
    Ok((LogHandle { queue, watched, readers: Arc::new(pool) }, writer))
}

thread_local! {
    /// Pages in the write-ahead log after the newest commit of this thread. SQLite's hook takes a bare function.
    static WAL_PAGES: Cell<u32> = const { Cell::new(0) };
}

/// Finds out, by writing, what can be said of the log before anybody asks for a change.
fn first_look(backend: &mut Sqlite) -> Result<Health, OpenError> {
    let Err(error) = backend.probe() else { return Ok(Health::Writable) };
    match error.kind {
        StorageErrorKind::Full => {
            tracing::error!("the disk is full: nothing is stored until there is room");
            Ok(Health::Full)
        }
        // Somebody else has it for a moment, such as a backup tool.
        StorageErrorKind::Busy => Ok(Health::Writable),
        StorageErrorKind::Failed => Err(error.into()),
    }
}

/// Refuses a folder whose database is gone and whose rest is not. SQLite would make a new one and throw away the end of the
/// old, which its write-ahead log still holds.
fn look_for_database(dir: &Path) -> Result<(), OpenError> {
    if holds(dir, DATABASE)? {
        return Ok(());
    }
    for beside in [HEAD, WAL] {
        if holds(dir, beside)? {
            return Err(OpenError::NoDatabase { beside });
        }
    }
    Ok(())
}

/// Tells whether a file is there and not empty.
fn holds(dir: &Path, name: &str) -> std::io::Result<bool> {
    match std::fs::metadata(dir.join(name)) {
        Ok(file) => Ok(file.len() > 0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn take_lock(dir: &Path) -> Result<File, OpenError> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::Locked),
        Err(std::fs::TryLockError::Error(error)) => Err(OpenError::Io(error)),
    }
}

/// Makes new names in a directory survive a power cut.
fn sync_dir(dir: &Path) -> std::io::Result<()> {
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

fn cap(db: &Connection, bytes: u64) -> Result<(), OpenError> {
    let page: u64 = db.pragma_query_value(None, "page_size", |row| get(row, 0)).map_err(storage)?;
    let pages = i64::try_from((bytes / page).max(1)).unwrap_or(i64::MAX);
    db.pragma_update(None, "max_page_count", pages).map_err(storage)?;
    Ok(())
}

/// Returns the log's name, giving it one the first time.
fn epoch(db: &Connection) -> Result<Epoch, OpenError> {
    if let Some(epoch) = one(db, "SELECT epoch FROM log", [], |row| get(row, 0))? {
        return Ok(epoch);
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    let epoch = Epoch::from_bytes(bytes);
    write(db, "INSERT INTO log (id, epoch) VALUES (1, ?1)", params![Sql(epoch)])?;
    Ok(epoch)
}

/// Returns how the log hashes its texts, giving it a secret the first time: what is stored from then on is hashed with it.
fn texts(db: &Connection, last: Lsn, options: &LogOptions) -> Result<TextHash, OpenError> {
    if let Some(found) = known_texts(db)? {
        return Ok(found);
    }
    let (secret, from) = (options.secret.map_or_else(Secret::draw, Ok)?, Lsn(last.0 + 1));
    write(db, "UPDATE log SET secret = ?1, secret_from = ?2", params![secret.0, Sql(from)])?;
    Ok(TextHash::keyed(secret, from))
}

/// Returns how a log with a secret hashes its texts.
fn known_texts(db: &Connection) -> Result<Option<TextHash>, StorageError> {
    one(db, "SELECT secret, secret_from FROM log WHERE secret IS NOT NULL", [], |row| {
        Ok(TextHash::keyed(Secret(row.get(0)?), get(row, 1)?))
    })
}

/// Returns the last record's place and chain.
fn last(db: &Connection) -> Result<(Lsn, Check), StorageError> {
    let found = one(db, "SELECT lsn, chain FROM records ORDER BY lsn DESC LIMIT 1", [], |row| {
        Ok((get(row, 0)?, get(row, 1)?))
    })?;
    Ok(found.unwrap_or_default())
}

/// Compares the database with its head record: one row.
fn compare(db: &Connection, dir: &Path, found: &Head, options: &LogOptions) -> Result<(), OpenError> {
    let verdict = judge(db, dir, found)?;
    match verdict {
        Ok(()) => Ok(()),
        Err(error) if options.accept_loss => {
            tracing::warn!(reason = %error, "starting all the same, as told: going on from what is there");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn judge(db: &Connection, dir: &Path, found: &Head) -> Result<Result<(), OpenError>, OpenError> {
    let head = match head::read(&dir.join(HEAD)) {
        Ok(Some(head)) => head,
        // Nothing was committed yet, so nothing can be missing.
        Ok(None) if found.lsn == Lsn(0) => return Ok(Ok(())),
        Ok(None) => return Ok(Err(OpenError::NoHead { reason: format!("{HEAD} is empty or not there") })),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            return Ok(Err(OpenError::NoHead { reason: error.to_string() }));
        }
        Err(error) => return Err(OpenError::Io(error)),
    };
    if head.lsn > found.lsn {
        return Ok(Err(OpenError::Behind { head: head.lsn, database: found.lsn }));
    }
    let there = match head.lsn {
        Lsn(0) => Some(Check::default()),
        lsn => one(db, "SELECT chain FROM records WHERE lsn = ?1", params![Sql(lsn)], |row| get(row, 0))?,
    };
    Ok(if head.epoch == found.epoch && there == Some(head.check) {
        Ok(())
    } else {
        Err(OpenError::Forked { at: head.lsn })
    })
}

/// Runs a statement that begins or ends a transaction.
fn control(db: &Connection, sql: &str) -> Result<(), StorageError> {
    db.prepare_cached(sql).map_err(storage)?.execute([]).map_err(storage).map(drop)
}

/// What the writer's thread owns.
struct Sqlite {
    db: Connection,
    cache: RefCell<Cache>,
    dir: PathBuf,
    epoch: Epoch,
    texts: TextHash,
    lsn: Lsn,
    check: Check,
    head: Option<HeadFile>,
    checkpoint_pages: u32,
    /// Pages in the write-ahead log from which readers are waited for.
    restart_pages: u32,
    _lock: File,
}

/// A record applied inside its transaction, not yet committed.
struct Pending {
    applied: Vec<Applied>,
    effects: Effects,
    lsn: Lsn,
    check: Check,
}

impl Sqlite {
    /// Everything up to, but not including, the commit.
    fn apply_all(&self, record: &Record) -> Result<Pending, StorageError> {
        let mut effects = Effects::default();
        let mut applied = Vec::with_capacity(record.entries.len());
        let mut lsn = self.lsn;
        let mut events = Vec::new();
        for entry in &record.entries {
            let next = Lsn(lsn.0 + 1);
            let (rooms, users) = (effects.room_events.len(), effects.user_events.len());
            let mut tables = Transaction { db: &self.db, cache: &self.cache, texts: &self.texts };
            let outcome = apply(&mut tables, entry, next, &mut effects)?;
            match outcome {
                Applied::Committed(_) => lsn = next,
                Applied::Duplicate(_) | Applied::Refused(_) => {}
            }
            events.extend(effects.room_events[rooms..].iter().map(|event| (next, event.check)));
            events.extend(effects.user_events[users..].iter().map(|(_, event)| (next, event.check)));
            applied.push(outcome);
        }
        let mut check = self.check;
        if lsn != self.lsn {
            self.cache.borrow_mut().flush(&self.db)?;
            check = chain::log_check(self.check, lsn, &mut events);
            write(&self.db, "INSERT INTO records (lsn, chain) VALUES (?1, ?2)", params![Sql(lsn), Sql(check)])?;
        }
        Ok(Pending { applied, effects, lsn, check })
    }

    /// Takes everything since `BEGIN` back. A failure before the commit is one of a full disk if the disk says so.
    fn take_back(&self, error: StorageError) -> StorageError {
        self.cache.borrow_mut().forget();
        if !self.db.is_autocommit()
            && let Err(worse) = control(&self.db, "ROLLBACK")
        {
            return StorageError::failed(format!("{error}; and the transaction could not be taken back: {worse}"));
        }
        match error.kind {
            StorageErrorKind::Failed if disk_is_full(&self.dir) => {
                StorageError { kind: StorageErrorKind::Full, ..error }
            }
            StorageErrorKind::Failed | StorageErrorKind::Full | StorageErrorKind::Busy => error,
        }
    }

    /// Commits. Here, and only here, an error can mean that nobody knows.
    fn end(&self) -> Result<(), StorageError> {
        let Err(error) = control(&self.db, "COMMIT") else { return Ok(()) };
        self.cache.borrow_mut().forget();
        match error.kind {
            // SQLite takes the transaction back when a page cannot be written for want of room (the frame that commits
            // is written last), and when it cannot get its lock.
            StorageErrorKind::Full | StorageErrorKind::Busy => {
                if !self.db.is_autocommit() {
                    control(&self.db, "ROLLBACK")?;
                }
                Err(error)
            }
            StorageErrorKind::Failed => Err(error),
        }
    }

    fn transact<T>(&self, inside: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
        let done =
            control(&self.db, "BEGIN IMMEDIATE").and_then(|()| inside()).map_err(|error| self.take_back(error))?;
        self.end()?;
        Ok(done)
    }

    /// Moves pages from the write-ahead log into the database, as far as readers let it. Returns whether they let it do all
    /// that was asked.
    ///
    /// A sync that fails here must never be tried again: the kernel forgets what it could not write, a second sync
    /// succeeds, and the write-ahead log that still has it would be dropped.
    fn checkpoint(&self, sql: &str) -> Result<bool, StorageError> {
        let mut statement = self.db.prepare_cached(sql).map_err(storage)?;
        let moved = statement.query_row([], |row| row.get::<_, bool>(0)).map_err(storage);
        match moved {
            Ok(was_in_the_way) => Ok(!was_in_the_way),
            Err(error) => match error.kind {
                StorageErrorKind::Full | StorageErrorKind::Busy => Ok(false),
                StorageErrorKind::Failed => Err(error),
            },
        }
    }

    /// Waits for who reads, but not for long, and has the write-ahead log begin anew. Returns whether it does.
    fn restart(&self) -> Result<bool, StorageError> {
        let wait = |ms| self.db.busy_timeout(Duration::from_millis(ms)).map_err(storage);
        wait(RESTART_WAIT_MS)?;
        let begins = self.checkpoint(RESTART)?;
        wait(schema::BUSY_WAIT_MS)?;
        Ok(begins)
    }
}

impl Backend for Sqlite {
    fn commit(&mut self, record: &Record) -> Result<Committed, StorageError> {
        control(&self.db, "BEGIN IMMEDIATE").map_err(|error| self.take_back(error))?;
        let pending = self.apply_all(record).map_err(|error| self.take_back(error))?;
        if pending.lsn == self.lsn {
            control(&self.db, "ROLLBACK")?;
            return Ok(Committed { applied: pending.applied, published: None });
        }
        self.end()?;
        self.lsn = pending.lsn;
        self.check = pending.check;
        if let Some(head) = &mut self.head
            && let Err(error) = head.write(Head { epoch: self.epoch, lsn: self.lsn, check: self.check })
        {
            tracing::error!(error = %error, "the head record could not be written; the newest changes are unguarded");
        }
        let published = Published { lsn: pending.lsn, effects: pending.effects };
        Ok(Committed { applied: pending.applied, published: Some(published) })
    }

    fn probe(&mut self) -> Result<(), StorageError> {
        // The log's own pages may be most of what fills the disk.
        self.checkpoint(SQUEEZE)?;
        self.transact(|| {
            let sql = "INSERT OR REPLACE INTO probe (id, filler) VALUES (1, zeroblob(?1))";
            write(&self.db, sql, params![Sql(PROBE_BYTES as u64)])
        })?;
        self.transact(|| write(&self.db, "DELETE FROM probe", []))?;
        Ok(())
    }

    fn tidy(&mut self) -> Result<(), StorageError> {
        self.cache.get_mut().trim();
        if WAL_PAGES.get() < self.checkpoint_pages {
            return Ok(());
        }
        let pages = WAL_PAGES.replace(0);
        let most = self.checkpoint_pages.saturating_mul(RESTART_TIMES);
        if pages < most {
            self.restart_pages = most;
        }
        if pages < self.restart_pages {
            return self.checkpoint(MOVE).map(drop);
        }
        if !self.restart()? {
            // Somebody reads for longer than that, such as a tool that makes a copy. Not every record waits for them.
            self.restart_pages = pages.saturating_add(most);
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), StorageError> {
        self.head = None;
        self.checkpoint(SQUEEZE).map(drop)
    }
}

/// Tells whether a small file cannot be written for want of room.
fn disk_is_full(dir: &Path) -> bool {
    let path = dir.join(PROBE);
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&[0xa5; PROBE_BYTES])?;
        file.sync_all()
    });
    // Left behind, it is overwritten by the next one.
    let _ = std::fs::remove_file(&path);
    written
        .is_err_and(|error| matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
}
