//! Walks every chain of a log at rest.
//!
//! Must not live here: mending. Invariant: reads only, and one stream at a time.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};
use shared::cursor::Check;
use shared::ids::{Lsn, RoomId, Seq, UserId};

use super::head::Head;
use super::rows::{self, Sql, get, storage};
use super::tables::{all, one};
use super::{DATABASE, judge, known_texts, last, schema, take_lock};
use crate::log::tables::StorageError;
use crate::log::{OpenError, TextHash, chain};

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Events whose chain was followed.
    pub events: u64,
    /// Streams they belong to.
    pub streams: u64,
    /// The last change in the whole log.
    pub lsn: Lsn,
    /// What is wrong, the first [`DAMAGES_TOLD`] of it.
    pub damages: Vec<Damage>,
}

/// How many damages a report names.
pub const DAMAGES_TOLD: usize = 100;

/// One thing that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where, and what.
    pub message: String,
}

impl VerifyReport {
    fn tell(&mut self, message: String) {
        if self.damages.len() < DAMAGES_TOLD {
            self.damages.push(Damage { message });
        }
    }

    /// Counts an event and compares it with what its stream makes of it.
    fn see(&mut self, place: &str, expected: (Seq, Check), found: (Seq, Check)) {
        self.events += 1;
        if expected.0 != found.0 {
            self.tell(format!("{place}: event {} comes where {} should", found.0, expected.0));
        } else if expected.1 != found.1 {
            self.tell(format!("{place}: event {} is not what was committed", found.0));
        }
    }
}

/// Walks every chain of a log that no server has open: each event against its stream, each stream against its head, each
/// record against the log, and the log against its head record.
///
/// # Errors
/// See [`OpenError`]; damage is no error but a finding.
pub fn verify(dir: &Path) -> Result<VerifyReport, OpenError> {
    let _lock = take_lock(dir)?;
    let db = connect(dir)?;
    let texts = match schema::known_version(&db)? < schema::SECRET_SINCE {
        true => TextHash::PLAIN,
        // A start that was cut short may have left none.
        false => known_texts(&db)?.unwrap_or(TextHash::PLAIN),
    };
    let mut report = VerifyReport::default();
    let sound: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(storage)?;
    if sound != "ok" {
        report.tell(format!("SQLite: {sound}"));
    }
    rooms(&db, &texts, &mut report)?;
    users(&db, &mut report)?;
    records(&db, &mut report)?;
    let (lsn, check) = last(&db)?;
    report.lsn = lsn;
    match one(&db, "SELECT epoch FROM log", [], |row| get(row, 0))? {
        Some(epoch) => {
            if let Err(error) = judge(&db, dir, &Head { epoch, lsn, check })? {
                report.tell(error.to_string());
            }
        }
        None => report.tell("the log has no name".to_owned()),
    }
    Ok(report)
}

fn connect(dir: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(dir.join(DATABASE), flags).map_err(storage)?;
    schema::prepare_reader(&db)?;
    // Events are put in the order of the whole log: however many there are, on the disk and not in memory.
    db.pragma_update(None, "temp_store", "FILE").map_err(storage)?;
    // One long read, unlike a reader's: SQLite's own measure, 2 MiB.
    db.pragma_update(None, "cache_size", -2_000).map_err(storage)?;
    Ok(db)
}

fn rooms(db: &Connection, texts: &TextHash, report: &mut VerifyReport) -> Result<(), StorageError> {
    let heads = all(db, "SELECT id, seq, chain FROM rooms ORDER BY id", [], |row| {
        Ok((get::<RoomId>(row, 0)?, get::<Seq>(row, 1)?, get::<Check>(row, 2)?))
    })?;
    for (room, seq, check) in heads {
        report.streams += 1;
        let place = format!("room {room}");
        let mut before = (Seq(0), Check::default());
        let mut statement = db
            .prepare_cached(
                "SELECT room, seq, lsn, chain, posts, ts, by, name, kind, key, target, detail, body, body_hash
                 FROM events WHERE room = ?1 ORDER BY seq",
            )
            .map_err(storage)?;
        let mut found = statement.query(params![Sql(room)]).map_err(storage)?;
        while let Some(row) = found.next().map_err(storage)? {
            let event = rows::event(row).map_err(storage)?;
            let expected = (before.0.next(), chain::room_check(texts, before.1, &event));
            before = (event.seq, event.check);
            report.see(&place, expected, before);
        }
        if before != (seq, check) {
            report.tell(format!("{place}: its head is {seq}, its last event {}", before.0));
        }
    }
    Ok(())
}

fn users(db: &Connection, report: &mut VerifyReport) -> Result<(), StorageError> {
    let heads = all(db, "SELECT id, seq, chain FROM users ORDER BY id", [], |row| {
        Ok((get::<UserId>(row, 0)?, get::<Seq>(row, 1)?, get::<Check>(row, 2)?))
    })?;
    for (user, seq, check) in heads {
        report.streams += 1;
        let place = format!("user {user}");
        let mut before = (Seq(0), Check::default());
        let mut statement = db
            .prepare_cached(
                "SELECT user, seq, lsn, chain, ts, kind, detail FROM user_events WHERE user = ?1 ORDER BY seq",
            )
            .map_err(storage)?;
        let mut found = statement.query(params![Sql(user)]).map_err(storage)?;
        while let Some(row) = found.next().map_err(storage)? {
            let event = rows::user_event(row).map_err(storage)?;
            let expected = (before.0.next(), chain::user_check(before.1, &event));
            before = (event.seq, event.check);
            report.see(&place, expected, before);
        }
        if before != (seq, check) {
            report.tell(format!("{place}: its head is {seq}, its last event {}", before.0));
        }
    }
    Ok(())
}

/// Follows the chain of the whole log, record by record.
fn records(db: &Connection, report: &mut VerifyReport) -> Result<(), StorageError> {
    let mut statement = db
        .prepare_cached("SELECT lsn, chain FROM events UNION ALL SELECT lsn, chain FROM user_events ORDER BY 1")
        .map_err(storage)?;
    let mut events = statement.query([]).map_err(storage)?;
    let mut waiting: Option<(Lsn, Check)> = None;
    let mut records = db.prepare_cached("SELECT lsn, chain FROM records ORDER BY lsn").map_err(storage)?;
    let mut records = records.query([]).map_err(storage)?;
    let mut before = Check::default();
    while let Some(record) = records.next().map_err(storage)? {
        let (lsn, check): (Lsn, Check) = (get(record, 0).map_err(storage)?, get(record, 1).map_err(storage)?);
        let mut inside: Vec<(Lsn, Check)> = waiting.take_if(|event| event.0 <= lsn).into_iter().collect();
        while waiting.is_none()
            && let Some(row) = events.next().map_err(storage)?
        {
            let event = (get(row, 0).map_err(storage)?, get(row, 1).map_err(storage)?);
            if event.0 <= lsn {
                inside.push(event);
            } else {
                waiting = Some(event);
            }
        }
        if chain::log_check(before, lsn, &mut inside) != check {
            report.tell(format!("the record that ends at {lsn} does not hold what was committed"));
        }
        before = check;
    }
    if waiting.is_some() || events.next().map_err(storage)?.is_some() {
        report.tell("there are events after the last record".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_log_is_put_in_order_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        Connection::open(folder.path().join(DATABASE)).unwrap().pragma_update(None, "user_version", 3).unwrap();
        let db = connect(folder.path()).unwrap();
        let kept_in: i64 = db.pragma_query_value(None, "temp_store", |row| row.get(0)).unwrap();
        assert_eq!(kept_in, 1, "0 and 2 may be memory");
    }
}
