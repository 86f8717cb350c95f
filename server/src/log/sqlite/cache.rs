//! The rows nearly every request asks for, kept by the writer between its statements and its records.
//!
//! Must not live here: anything readers see. Invariant: the writer is the only one who writes, so what is kept is what
//! the tables hold, but for rooms' heads that moved in this record; those are written by `flush` before the commit, and
//! whatever was taken back is forgotten whole.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, params};
use shared::ids::{RoomId, UserId};

use super::rows::Sql;
use super::tables::write;
use crate::log::tables::{MemberRow, RoomRow, StorageError, UserRow};

/// Rows of each kind that are kept; at more, all are forgotten and read again. As many as a table of 8,192 places takes:
/// who wrote lately is far fewer, and whoever only came in must not cost memory for long.
const ROWS_KEPT: usize = 7_000;

/// See the module.
#[derive(Default)]
pub(super) struct Cache {
    pub(super) rooms: HashMap<RoomId, RoomRow>,
    pub(super) users: HashMap<UserId, UserRow>,
    /// The newest stay of each, or that there never was one.
    pub(super) stays: HashMap<(RoomId, UserId), Option<MemberRow>>,
    moved: BTreeSet<RoomId>,
}

impl Cache {
    /// Takes a room whose head alone moved. Says no if more than that changed, or nobody knows: then it must be written.
    pub(super) fn move_head(&mut self, row: &RoomRow) -> bool {
        let Some(kept) = self.rooms.get_mut(&row.id) else { return false };
        if kept.name != row.name || kept.title != row.title || kept.state != row.state {
            return false;
        }
        kept.clone_from(row);
        self.moved.insert(row.id);
        true
    }

    /// Takes a room that was just written.
    pub(super) fn keep_room(&mut self, row: &RoomRow) {
        self.moved.remove(&row.id);
        self.rooms.insert(row.id, row.clone());
    }

    /// Writes the heads that moved.
    pub(super) fn flush(&mut self, db: &Connection) -> Result<(), StorageError> {
        while let Some(id) = self.moved.pop_first() {
            let Some(row) = self.rooms.get(&id) else { continue };
            write(
                db,
                "UPDATE rooms SET seq = ?2, chain = ?3, posts = ?4, members = ?5, last_ts = ?6, lsn = ?7 WHERE id = ?1",
                params![
                    Sql(row.id),
                    Sql(row.seq),
                    Sql(row.check),
                    Sql(row.posts),
                    Sql(row.members),
                    Sql(row.last_ts),
                    Sql(row.lsn)
                ],
            )?;
        }
        Ok(())
    }

    /// Forgets everything: what the tables hold is no longer what is kept.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Keeps within the limit. Between records only.
    pub(super) fn trim(&mut self) {
        if self.rooms.len().max(self.users.len()).max(self.stays.len()) > ROWS_KEPT {
            self.forget();
        }
    }
}
