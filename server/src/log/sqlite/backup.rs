//! The copy of a database that is written beside it before its form is changed.
//!
//! Must not live here: the changes themselves, which are `schema`'s. Invariant: a file under a copy's name is whole and
//! synced, and the server never writes to it again.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags};
use shared::cursor::Check;
use shared::ids::{Epoch, Lsn};

use super::rows::{get, storage};
use super::tables::one;
use super::{last, sync_dir};
use crate::log::OpenError;
use crate::log::tables::StorageError;

/// What a copy is called until it is whole. A start that was cut short may leave one; the next overwrites it.
const PARTIAL: &str = ".partial";

/// Makes sure that a copy of a database lies beside it, under its name and the number of its form.
///
/// # Errors
/// [`OpenError::Backup`] if there is none afterwards. The database is untouched then, and so is whatever file bears the
/// name.
pub(super) fn ensure(db: &Connection, database: &Path, schema: usize) -> Result<(), OpenError> {
    let copy = beside(database, &format!(".schema-{schema}"));
    let outcome = copy.try_exists().map_err(|error| error.to_string()).and_then(|is_there| match is_there {
        // An earlier start came as far as this, and not to the end of the change.
        true => adopt(db, &copy),
        false => {
            tracing::info!(copy = %copy.display(), "copying the database before its form is changed");
            let partial = beside(&copy, PARTIAL);
            write(db, database, &partial, &copy).map_err(|error| {
                // Left behind, it would take the room that is missing.
                let _ = std::fs::remove_file(&partial);
                format!("{error}; make room for it, or let the server write there, and start again")
            })
        }
    });
    outcome.map_err(|reason| OpenError::Backup { found: schema, copy, reason })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Takes a file that is there already for the copy, if it is one of this very state.
fn adopt(db: &Connection, copy: &Path) -> Result<(), String> {
    let why = match is_copy(db, copy) {
        Ok(true) => return sync_name(copy).map_err(|error| error.to_string()),
        Ok(false) => "holds something else".to_owned(),
        Err(error) => format!("cannot be read ({error})"),
    };
    Err(format!("a file of this name is there already and {why}; move it away, and start again"))
}

fn write(db: &Connection, database: &Path, partial: &Path, copy: &Path) -> Result<(), Box<dyn Error>> {
    // It holds what the database holds, so whoever may not read that may not read this.
    File::create(partial)?.set_permissions(std::fs::metadata(database)?.permissions())?;
    let name = ToSqlOutput::Borrowed(ValueRef::Text(partial.as_os_str().as_encoded_bytes()));
    db.execute("VACUUM INTO ?1", [name]).map_err(storage)?;
    if !is_copy(db, partial)? {
        return Err(StorageError::failed("what was written is not what was read").into());
    }
    OpenOptions::new().write(true).open(partial)?.sync_all()?;
    std::fs::rename(partial, copy)?;
    Ok(sync_name(copy)?)
}

fn sync_name(file: &Path) -> std::io::Result<()> {
    file.parent().map_or(Ok(()), sync_dir)
}

/// Tells whether a file holds the same log at the same change, in the same form.
fn is_copy(db: &Connection, file: &Path) -> Result<bool, StorageError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(file, flags).map_err(storage)?;
    Ok(state(&copy)? == state(db)?)
}

/// What tells two databases apart.
#[derive(PartialEq)]
struct State {
    schema: i64,
    epoch: Option<Epoch>,
    last: (Lsn, Check),
}

/// Reads old forms, too: these tables are in all of them.
fn state(db: &Connection) -> Result<State, StorageError> {
    Ok(State {
        schema: db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(storage)?,
        epoch: one(db, "SELECT epoch FROM log", [], |row| get(row, 0))?,
        last: last(db)?,
    })
}
