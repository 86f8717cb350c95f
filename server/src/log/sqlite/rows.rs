//! Rows to and from SQLite's values, and what its errors mean.
//!
//! Must not live here: queries. Invariant: a number that does not fit, or a column of another form than was written, is
//! a failure of the storage, never a panic.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, Row};
use shared::cursor::Check;
use shared::ids::{ClientId, Epoch, Lsn, RoomId, Seq, UserId};
use shared::time::Timestamp;

use crate::log::tables::{
    Body, EventRow, Kind, MemberRow, RoomRow, RoomState, StorageError, StorageErrorKind, UserEventRow, UserRow,
};

/// Says what an error of SQLite means. Failures of input and output are `Failed` here; only the writer can know better.
pub(super) fn storage(error: rusqlite::Error) -> StorageError {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StorageErrorKind::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StorageErrorKind::Busy,
        Some(_) | None => StorageErrorKind::Failed,
    };
    let code = error.sqlite_error().map_or(0, |error| error.extended_code);
    StorageError { kind, message: format!("SQLite: {error} (code {code})") }
}

/// A value of ours as SQLite holds it.
pub(super) struct Sql<T>(pub(super) T);

macro_rules! as_blob {
    ($($name:ident),*) => {$(
        impl ToSql for Sql<$name> {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.0.as_bytes())))
            }
        }

        impl FromSql for Sql<$name> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                <[u8; 16]>::column_result(value).map(|bytes| Self($name::from_bytes(bytes)))
            }
        }
    )*};
}
as_blob!(UserId, RoomId, ClientId, Epoch);

macro_rules! as_integer {
    ($($name:ident),*) => {$(
        impl ToSql for Sql<$name> {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(integer(self.0.0))
            }
        }

        impl FromSql for Sql<$name> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                Sql::<u64>::column_result(value).map(|number| Self($name(number.0)))
            }
        }
    )*};
}
as_integer!(Seq, Lsn, Timestamp);

/// Nothing counts beyond what SQLite can hold; what asks for more asks for everything.
fn integer(number: u64) -> ToSqlOutput<'static> {
    ToSqlOutput::from(i64::try_from(number).unwrap_or(i64::MAX))
}

impl ToSql for Sql<u64> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(integer(self.0))
    }
}

impl FromSql for Sql<u64> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = value.as_i64()?;
        u64::try_from(number).map(Self).map_err(|_| FromSqlError::OutOfRange(number))
    }
}

impl ToSql for Sql<Check> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0.0)))
    }
}

impl FromSql for Sql<Check> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 8]>::column_result(value).map(|bytes| Self(Check(bytes)))
    }
}

impl FromSql for Sql<Kind> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let code = u8::column_result(value)?;
        Kind::from_code(code).map(Self).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

/// Reads a column as one of our types.
pub(super) fn get<T>(row: &Row<'_>, at: usize) -> rusqlite::Result<T>
where
    Sql<T>: FromSql,
{
    row.get::<_, Sql<T>>(at).map(|value| value.0)
}

/// Reads a column that may be null as one of our types.
pub(super) fn get_option<T>(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<T>>
where
    Sql<T>: FromSql,
{
    row.get::<_, Option<Sql<T>>>(at).map(|value| value.map(|value| value.0))
}

/// Reads `id, name, skeleton, seq, chain, last_ts`.
pub(super) fn user(row: &Row<'_>) -> rusqlite::Result<UserRow> {
    Ok(UserRow {
        id: get(row, 0)?,
        name: row.get(1)?,
        skeleton: row.get(2)?,
        seq: get(row, 3)?,
        check: get(row, 4)?,
        last_ts: get(row, 5)?,
    })
}

/// Reads `id, name, title, maker, ended, seq, chain, posts, members, last_ts, lsn`.
pub(super) fn room(row: &Row<'_>) -> rusqlite::Result<RoomRow> {
    Ok(RoomRow {
        id: get(row, 0)?,
        name: row.get(1)?,
        title: row.get(2)?,
        maker: get(row, 3)?,
        state: if row.get(4)? { RoomState::Ended } else { RoomState::Open },
        seq: get(row, 5)?,
        check: get(row, 6)?,
        posts: get(row, 7)?,
        members: get(row, 8)?,
        last_ts: get(row, 9)?,
        lsn: get(row, 10)?,
    })
}

/// Reads `room, user, from_seq, to_seq, lsn`.
pub(super) fn stay(row: &Row<'_>) -> rusqlite::Result<MemberRow> {
    Ok(MemberRow {
        room: get(row, 0)?,
        user: get(row, 1)?,
        from_seq: get(row, 2)?,
        to_seq: get_option(row, 3)?,
        lsn: get(row, 4)?,
    })
}

/// Reads `room, seq, lsn, chain, posts, ts, by, name, kind, key, target, detail, body, body_hash`.
pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    let body: Option<String> = row.get(12)?;
    let hash: Option<[u8; 32]> = row.get(13)?;
    Ok(EventRow {
        room: get(row, 0)?,
        seq: get(row, 1)?,
        lsn: get(row, 2)?,
        check: get(row, 3)?,
        posts: get(row, 4)?,
        ts: get(row, 5)?,
        by: get(row, 6)?,
        name: row.get(7)?,
        kind: get(row, 8)?,
        key: get_option(row, 9)?,
        target: get_option(row, 10)?,
        detail: row.get(11)?,
        body: match (body, hash) {
            (_, Some(hash)) => Body::Blanked(hash),
            (Some(text), None) => Body::Text(text),
            (None, None) => Body::None,
        },
    })
}

/// Reads `user, seq, lsn, chain, ts, kind, detail`.
pub(super) fn user_event(row: &Row<'_>) -> rusqlite::Result<UserEventRow> {
    Ok(UserEventRow {
        user: get(row, 0)?,
        seq: get(row, 1)?,
        lsn: get(row, 2)?,
        check: get(row, 3)?,
        ts: get(row, 4)?,
        kind: get(row, 5)?,
        detail: row.get(6)?,
    })
}
