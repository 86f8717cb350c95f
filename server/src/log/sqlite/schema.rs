//! The tables, and the settings the promise rests on.
//!
//! Must not live here: queries. Invariant: a migration, once released, never changes; a new form is a new migration.
//!
//! Ids are their sixteen bytes, checks their eight. The event table is the log. Beside the row of a post's event stands
//! how the post is now (`rev`, `text_at`, `edited`); nothing else of a row moves, but that a deletion blanks `body` and
//! leaves `body_hash`.

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite_migration::{M, Migrations};

use super::storage;
use crate::log::OpenError;
use crate::log::tables::StorageError;

/// Marks the file as ours: "hold".
const APPLICATION_ID: i32 = 0x686f_6c64;
/// How long a reader or the writer waits for whoever else holds the file, such as a backup tool, in milliseconds.
const BUSY_WAIT_MS: u64 = 2_000;
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

const STEPS: &[M<'static>] = &[M::up(V1)];

/// Brings a database up to date.
///
/// # Errors
/// [`OpenError::NewerSchema`] if it is ahead of this version.
pub(super) fn migrate(db: &mut Connection) -> Result<(), OpenError> {
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(storage)?;
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    if found > STEPS.len() {
        return Err(OpenError::NewerSchema { found, known: STEPS.len() });
    }
    Migrations::from_slice(STEPS)
        .to_latest(db)
        .map_err(|error| StorageError::failed(format!("the tables could not be brought up to date: {error}")))?;
    db.pragma_update(None, "application_id", APPLICATION_ID).map_err(storage)?;
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
    // A failed sync while pages are moved must be seen, which SQLite's own habit of moving them would hide.
    insist(db, "wal_autocheckpoint", "0", "0")
}

/// Sets up a reader's connection.
///
/// # Errors
/// [`OpenError::Pragma`] if SQLite did not take a setting.
pub(super) fn prepare_reader(db: &Connection) -> Result<(), OpenError> {
    prepare(db)?;
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
}
