//! The tables, and the settings the promise rests on.
//!
//! Must not live here: queries. Invariant: a migration, once released, never changes; a new form is a new migration,
//! and the old one is copied before.
//!
//! Ids are their sixteen bytes, checks their eight. The event table is the log. Beside the row of a post's event stands
//! how the post is now (`rev`, `text_at`, `edited`); nothing else of a row moves, but that a deletion blanks `body` and
//! leaves `body_hash`.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite_migration::{M, Migrations};

use super::{backup, storage};
use crate::log::OpenError;
use crate::log::tables::StorageError;

/// Marks the file as ours: "hold".
const APPLICATION_ID: i32 = 0x686f_6c64;
/// How long a reader or the writer waits for whoever else holds the file, such as a backup tool, in milliseconds.
pub(super) const BUSY_WAIT_MS: u64 = 2_000;
/// Statements each connection keeps prepared.
const STATEMENTS_KEPT: usize = 96;

const V1: &str = "
CREATE TABLE log (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch BLOB NOT NULL
) STRICT;

-- One row for each record: the last change of the whole log after it, and the chain there.
CREATE TABLE records (
    lsn INTEGER PRIMARY KEY,
    chain BLOB NOT NULL
) STRICT;

CREATE TABLE users (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    skeleton TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL,
    chain BLOB NOT NULL,
    last_ts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE user_events (
    user BLOB NOT NULL,
    seq INTEGER NOT NULL,
    lsn INTEGER NOT NULL,
    chain BLOB NOT NULL,
    ts INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (user, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE rooms (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    title TEXT NOT NULL,
    maker BLOB NOT NULL,
    ended INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    chain BLOB NOT NULL,
    posts INTEGER NOT NULL,
    members INTEGER NOT NULL,
    last_ts INTEGER NOT NULL,
    lsn INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX rooms_by_name ON rooms (name) WHERE ended = 0;

CREATE TABLE events (
    room BLOB NOT NULL,
    seq INTEGER NOT NULL,
    lsn INTEGER NOT NULL,
    chain BLOB NOT NULL,
    posts INTEGER NOT NULL,
    ts INTEGER NOT NULL,
    by BLOB NOT NULL,
    name TEXT NOT NULL,
    kind INTEGER NOT NULL,
    key BLOB,
    target INTEGER,
    detail TEXT,
    body TEXT,
    body_hash BLOB,
    rev INTEGER,
    text_at INTEGER,
    edited INTEGER,
    PRIMARY KEY (room, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX posts ON events (room, seq) WHERE kind = 1;
CREATE INDEX edits ON events (room, target) WHERE kind = 2;

CREATE TABLE stays (
    room BLOB NOT NULL,
    user BLOB NOT NULL,
    from_seq INTEGER NOT NULL,
    to_seq INTEGER,
    lsn INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (room, user, from_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_name ON stays (room, name) WHERE to_seq IS NULL;
CREATE INDEX rooms_joined ON stays (user, room) WHERE to_seq IS NULL;

CREATE TABLE reactions (
    room BLOB NOT NULL,
    post INTEGER NOT NULL,
    emoji TEXT NOT NULL,
    user BLOB NOT NULL,
    since INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (room, post, emoji, user)
) STRICT, WITHOUT ROWID;

-- Keys are made in order of time: with the key first, new rows lie side by side.
CREATE TABLE sends (
    key BLOB NOT NULL,
    user BLOB NOT NULL,
    digest BLOB NOT NULL,
    room BLOB,
    seq INTEGER NOT NULL,
    ts INTEGER NOT NULL,
    PRIMARY KEY (key, user)
) STRICT, WITHOUT ROWID;

CREATE TABLE marks (
    user BLOB NOT NULL,
    room BLOB NOT NULL,
    posts INTEGER NOT NULL,
    lsn INTEGER NOT NULL,
    PRIMARY KEY (user, room)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    token_hash BLOB PRIMARY KEY,
    user BLOB NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Written and emptied by a full log to learn whether there is room again.
CREATE TABLE probe (
    id INTEGER PRIMARY KEY,
    filler BLOB NOT NULL
) STRICT;
";

/// Sessions that ended are found by when they did.
const V2: &str = "CREATE INDEX sessions_by_end ON sessions (expires);";

/// The secret in the hashes of texts, and from which change on it is in them: see [`TextHash`](crate::log::TextHash). It is
/// drawn when the log is opened.
const V3: &str = "
ALTER TABLE log ADD COLUMN secret BLOB;
ALTER TABLE log ADD COLUMN secret_from INTEGER;
";

const STEPS: &[M<'static>] = &[M::up(V1), M::up(V2), M::up(V3)];
/// The first form whose logs have a secret.
pub(super) const SECRET_SINCE: usize = 3;

/// Brings the database of a file up to date. One of an older form is copied first.
///
/// # Errors
/// [`OpenError::NewerSchema`] if it is ahead of this version, [`OpenError::Backup`] if it could not be copied.
pub(super) fn migrate(db: &mut Connection, file: &Path) -> Result<(), OpenError> {
    take_steps(db, file, STEPS)
}

/// Returns the number of a database's form, 0 for one that has none yet.
///
/// # Errors
/// [`OpenError::NewerSchema`] if this version does not know it.
pub(super) fn known_version(db: &Connection) -> Result<usize, OpenError> {
    version_among(db, STEPS)
}

fn version_among(db: &Connection, steps: &[M<'_>]) -> Result<usize, OpenError> {
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(storage)?;
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    if found > steps.len() {
        return Err(OpenError::NewerSchema { found, known: steps.len() });
    }
    Ok(found)
}

/// Takes the steps a database lacks, all of them or none.
fn take_steps(db: &mut Connection, file: &Path, steps: &[M<'_>]) -> Result<(), OpenError> {
    let found = version_among(db, steps)?;
    if found > 0 && found < steps.len() {
        backup::ensure(db, file, found)?;
    }
    Migrations::from_slice(steps)
        .to_latest(db)
        .map_err(|error| StorageError::failed(format!("the tables could not be brought up to date: {error}")))?;
    // Only where it is not there yet: to write what is there would need room, and a full disk is no reason not to start.
    let marked: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(storage)?;
    if marked != APPLICATION_ID {
        db.pragma_update(None, "application_id", APPLICATION_ID).map_err(storage)?;
    }
    Ok(())
}

/// Sets up the writer's connection and reads every setting back.
///
/// # Errors
/// [`OpenError::Pragma`] if SQLite did not take one.
pub(super) fn prepare_writer(db: &Connection) -> Result<(), OpenError> {
    prepare(db)?;
    insist(db, "journal_mode", "wal", "wal")?;
    insist(db, "synchronous", "FULL", "2")?;
    // Only macOS knows these: there fsync alone does not reach the disk.
    insist(db, "fullfsync", "1", "1")?;
    insist(db, "checkpoint_fullfsync", "1", "1")?;
    // What is deleted is overwritten. FAST would leave it on pages that came free, where long texts lie.
    insist(db, "secure_delete", "ON", "1")?;
    // A failed sync while pages are moved must be seen, which SQLite's own habit of moving them would hide.
    insist(db, "wal_autocheckpoint", "0", "0")
}

/// What a reader keeps of the pages it read, in KiB behind a minus: SQLite's own measure. Whatever is written makes it forget
/// them all, and the system has them in memory anyway; so more would be memory for little.
const READER_CACHE: &str = "-256";

/// Sets up a reader's connection.
///
/// # Errors
/// [`OpenError::Pragma`] if SQLite did not take a setting.
pub(super) fn prepare_reader(db: &Connection) -> Result<(), OpenError> {
    prepare(db)?;
    insist(db, "cache_size", READER_CACHE, READER_CACHE)?;
    insist(db, "query_only", "1", "1")
}

fn prepare(db: &Connection) -> Result<(), OpenError> {
    db.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    db.busy_timeout(std::time::Duration::from_millis(BUSY_WAIT_MS)).map_err(storage)?;
    // The writer moves pages itself; after a failure nothing may touch the files any more, closing included.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(storage)?;
    // Plans do not depend on what is asked for. Otherwise a statement is compiled anew each time other values are bound to
    // it, which was half of what reading a greeting cost.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(storage)?;
    insist(db, "temp_store", "MEMORY", "2")
}

fn insist(db: &Connection, name: &'static str, value: &str, wanted: &str) -> Result<(), OpenError> {
    db.pragma_update(None, name, value).map_err(storage)?;
    let found: rusqlite::types::Value = db.pragma_query_value(None, name, |row| row.get(0)).map_err(storage)?;
    let found = match found {
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Text(text) => text,
        other => format!("{other:?}"),
    };
    if found.eq_ignore_ascii_case(wanted) {
        Ok(())
    } else {
        Err(OpenError::Pragma { name, wanted: wanted.to_owned(), found })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_storage_that_does_not_take_a_setting_is_refused() {
        // A database in memory knows no write-ahead log, and SQLite says nothing of it unless asked.
        let db = Connection::open_in_memory().unwrap();
        let Err(OpenError::Pragma { name, wanted, found }) = prepare_writer(&db) else { panic!("it was taken") };
        assert_eq!((name, wanted.as_str(), found.as_str()), ("journal_mode", "wal", "memory"));
    }

    #[test]
    fn the_migrations_are_well_formed() {
        Migrations::from_slice(STEPS).validate().unwrap();
    }

    const NEWER: &str = "CREATE TABLE newer (id INTEGER PRIMARY KEY) STRICT";
    const CHANGE: &str = "INSERT INTO records (lsn, chain) VALUES (?1, zeroblob(8))";

    /// A database of the first form with one change in it, and where its copy will lie.
    fn old(folder: &Path) -> (Connection, PathBuf, PathBuf) {
        let file = folder.join("log.db");
        let mut db = Connection::open(&file).unwrap();
        prepare_writer(&db).unwrap();
        take_steps(&mut db, &file, &[M::up(V1)]).unwrap();
        db.execute(CHANGE, [1]).unwrap();
        let copy = folder.join("log.db.schema-1");
        assert!(!copy.exists(), "a new database is copied");
        (db, file, copy)
    }

    /// The form of a database, its last change, and whether the newer table is there.
    fn stands(db: &Connection) -> (usize, i64, bool) {
        let last = db.query_row("SELECT MAX(lsn) FROM records", [], |row| row.get(0)).unwrap();
        (version_among(db, &[M::up(V1), M::up(NEWER)]).unwrap(), last, db.table_exists(None, "newer").unwrap())
    }

    /// Tries, and returns the words it was refused with.
    fn refused(db: &mut Connection, file: &Path) -> String {
        let Err(error) = take_steps(db, file, &[M::up(V1), M::up(NEWER)]) else { panic!("it was changed") };
        assert!(matches!(error, OpenError::Backup { found: 1, .. }), "{error}");
        assert_eq!(stands(db), (1, 1, false), "it was changed without a copy");
        error.to_string()
    }

    #[test]
    fn an_older_database_is_copied_before_it_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (mut db, file, copy) = old(folder.path());
        #[cfg(unix)]
        let mode = {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        take_steps(&mut db, &file, &[M::up(V1), M::up(NEWER)]).unwrap();
        assert_eq!(stands(&db), (2, 1, true));
        assert_eq!(stands(&Connection::open(&copy).unwrap()), (1, 1, false));
        #[cfg(unix)]
        assert_eq!(mode(&copy), 0o600, "others may read the copy who may not read the database");
        db.execute(CHANGE, [2]).unwrap();
        take_steps(&mut db, &file, &[M::up(V1), M::up(NEWER)]).unwrap();
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.filter(|name| !name.to_string_lossy().ends_with("-shm")).collect();
        names.sort();
        assert_eq!(names, ["log.db", "log.db-wal", "log.db.schema-1"], "one copy, and nothing half written");
    }

    #[test]
    fn what_cannot_be_copied_is_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (mut db, file, copy) = old(folder.path());
        let in_the_way = folder.path().join("log.db.schema-1.partial");
        std::fs::create_dir(&in_the_way).unwrap();
        let words = refused(&mut db, &file);
        assert!(words.contains("make room") && words.contains(copy.to_str().unwrap()), "{words}");
        assert!(!words.contains("cannot be used"), "more is wrong than there is: {words}");
        std::fs::remove_dir(&in_the_way).unwrap();
        // What a start that was killed has left is no copy.
        std::fs::write(&in_the_way, "half").unwrap();
        take_steps(&mut db, &file, &[M::up(V1), M::up(NEWER)]).unwrap();
        assert_eq!(stands(&Connection::open(&copy).unwrap()), (1, 1, false));
    }

    #[test]
    fn a_file_under_the_name_of_the_copy_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (mut db, file, copy) = old(folder.path());
        std::fs::write(&copy, "somebody's notes").unwrap();
        assert!(refused(&mut db, &file).contains("move it away"));
        assert_eq!(std::fs::read(&copy).unwrap(), b"somebody's notes");
        std::fs::remove_file(&copy).unwrap();
        // Nor is a copy of another moment.
        db.execute_batch(&format!("VACUUM INTO '{}'", copy.display())).unwrap();
        Connection::open(&copy).unwrap().execute(CHANGE, [2]).unwrap();
        assert!(refused(&mut db, &file).contains("something else"));
        assert_eq!(stands(&Connection::open(&copy).unwrap()), (1, 2, false));
    }

    #[test]
    fn a_change_that_fails_is_tried_again_over_the_copy_that_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let (mut db, file, copy) = old(folder.path());
        let fails = take_steps(&mut db, &file, &[M::up(V1), M::up(NEWER), M::up("CREATE TABLE log (id INTEGER)")]);
        assert!(matches!(fails, Err(OpenError::Storage(_))), "{fails:?}");
        assert_eq!(stands(&db), (1, 1, false), "all steps or none");
        let made = std::fs::read(&copy).unwrap();
        take_steps(&mut db, &file, &[M::up(V1), M::up(NEWER)]).unwrap();
        assert_eq!(stands(&db), (2, 1, true));
        assert_eq!(std::fs::read(&copy).unwrap(), made);
    }
}
