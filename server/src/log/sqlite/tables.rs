//! [`Tables`] over a connection that is inside a transaction.
//!
//! Must not live here: where a transaction begins or ends. Invariant: every statement is prepared once and reads or
//! writes the rows it names through a key.

use std::cell::RefCell;

use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use shared::ids::{ClientId, RoomId, Seq, UserId};
use shared::time::Timestamp;

use super::cache::Cache;
use super::rows::{self, Sql, get, get_option, storage};
use crate::log::chain::TextHash;
use crate::log::reads::SessionRow;
use crate::log::record::{Receipt, TokenHash};
use crate::log::tables::{
    Body, EventRow, Kind, MemberRow, PostLife, PostRow, PostState, ReactionCount, ReactionPlace, ReadRow, RoomRow,
    RoomState, SendRow, StorageError, Tables, UserEventRow, UserRow,
};

/// The tables, as the writer sees them inside its transaction.
pub(super) struct Transaction<'c> {
    pub(super) db: &'c Connection,
    pub(super) cache: &'c RefCell<Cache>,
    pub(super) texts: &'c TextHash,
}

/// A post's texts: its own and those of its edits. Left to itself SQLite takes the key of the room for good enough, and walks
/// over everything that ever happened there.
const TEXTS: &str = "
    SELECT seq, lsn, body FROM events WHERE room = ?1 AND seq = ?2 AND body IS NOT NULL
    UNION ALL
    SELECT seq, lsn, body FROM events INDEXED BY edits WHERE room = ?1 AND target = ?2 AND kind = 2 AND body IS NOT NULL";

/// A post's edits, counted as far as is asked.
const EDITS: &str = "
    SELECT COUNT(*) FROM
        (SELECT 1 FROM events INDEXED BY edits WHERE room = ?1 AND target = ?2 AND kind = 2 LIMIT ?3)";

/// Members above one, in order of id; an empty one is below all.
const MEMBER_IDS: &str = "
    SELECT user FROM stays WHERE room = ?1 AND user > COALESCE(?2, x'') AND to_seq IS NULL ORDER BY user LIMIT ?3";

/// Reads at most one row.
pub(super) fn one<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StorageError> {
    let mut statement = db.prepare_cached(sql).map_err(storage)?;
    statement.query_row(params, read).optional().map_err(storage)
}

/// Reads all rows a query gives; the query has the limit.
pub(super) fn all<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StorageError> {
    let mut statement = db.prepare_cached(sql).map_err(storage)?;
    let rows = statement.query_map(params, read).map_err(storage)?;
    rows.collect::<rusqlite::Result<_>>().map_err(storage)
}

/// Writes.
pub(super) fn write(db: &Connection, sql: &str, params: impl Params) -> Result<usize, StorageError> {
    db.prepare_cached(sql).map_err(storage)?.execute(params).map_err(storage)
}

/// Returns the newest stay of somebody in a room.
pub(super) fn newest_stay(db: &Connection, room: RoomId, user: UserId) -> Result<Option<MemberRow>, StorageError> {
    one(
        db,
        "SELECT room, user, from_seq, to_seq, lsn FROM stays WHERE room = ?1 AND user = ?2
         ORDER BY from_seq DESC LIMIT 1",
        params![Sql(room), Sql(user)],
        rows::stay,
    )
}

/// Returns members' ids above one, in order.
pub(super) fn member_ids(
    db: &Connection,
    room: RoomId,
    after: Option<UserId>,
    limit: usize,
) -> Result<Vec<UserId>, StorageError> {
    all(db, MEMBER_IDS, params![Sql(room), after.map(Sql), Sql(limit as u64)], |row| get(row, 0))
}

impl Tables for Transaction<'_> {
    fn texts(&self) -> &TextHash {
        self.texts
    }

    fn send(&self, by: UserId, key: ClientId) -> Result<Option<SendRow>, StorageError> {
        one(
            self.db,
            "SELECT digest, room, seq, ts FROM sends WHERE key = ?1 AND user = ?2",
            params![Sql(key), Sql(by)],
            |row| {
                let receipt = Receipt { room: get_option(row, 1)?, seq: get(row, 2)?, ts: get(row, 3)? };
                Ok(SendRow { digest: row.get(0)?, receipt })
            },
        )
    }

    fn put_send(&mut self, by: UserId, key: ClientId, row: SendRow) -> Result<(), StorageError> {
        let SendRow { digest, receipt: Receipt { room, seq, ts } } = row;
        write(
            self.db,
            "INSERT INTO sends (key, user, digest, room, seq, ts) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![Sql(key), Sql(by), digest, room.map(Sql), Sql(seq), Sql(ts)],
        )?;
        Ok(())
    }

    fn user(&self, id: UserId) -> Result<Option<UserRow>, StorageError> {
        const SQL: &str = "SELECT id, name, skeleton, seq, chain, last_ts FROM users WHERE id = ?1";
        if let Some(row) = self.cache.borrow().users.get(&id) {
            return Ok(Some(row.clone()));
        }
        let found = one(self.db, SQL, params![Sql(id)], rows::user)?;
        self.cache.borrow_mut().users.extend(found.iter().map(|row| (id, row.clone())));
        Ok(found)
    }

    fn user_by_skeleton(&self, skeleton: &str) -> Result<Option<UserId>, StorageError> {
        one(self.db, "SELECT id FROM users WHERE skeleton = ?1", params![skeleton], |row| get(row, 0))
    }

    fn put_user(&mut self, row: &UserRow) -> Result<(), StorageError> {
        write(
            self.db,
            "INSERT INTO users (id, name, skeleton, seq, chain, last_ts) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO UPDATE SET name = ?2, skeleton = ?3, seq = ?4, chain = ?5, last_ts = ?6",
            params![Sql(row.id), row.name, row.skeleton, Sql(row.seq), Sql(row.check), Sql(row.last_ts)],
        )?;
        self.cache.borrow_mut().users.insert(row.id, row.clone());
        Ok(())
    }

    fn room(&self, id: RoomId) -> Result<Option<RoomRow>, StorageError> {
        const SQL: &str = "SELECT id, name, title, maker, ended, seq, chain, posts, members, last_ts, lsn
                           FROM rooms WHERE id = ?1";
        if let Some(row) = self.cache.borrow().rooms.get(&id) {
            return Ok(Some(row.clone()));
        }
        let found = one(self.db, SQL, params![Sql(id)], rows::room)?;
        self.cache.borrow_mut().rooms.extend(found.iter().map(|row| (id, row.clone())));
        Ok(found)
    }

    fn room_by_name(&self, name: &str) -> Result<Option<RoomId>, StorageError> {
        one(self.db, "SELECT id FROM rooms WHERE name = ?1 AND ended = 0", params![name], |row| get(row, 0))
    }

    fn put_room(&mut self, row: &RoomRow) -> Result<(), StorageError> {
        if self.cache.borrow_mut().move_head(row) {
            return Ok(());
        }
        let ended = match row.state {
            RoomState::Open => 0,
            RoomState::Ended => 1,
        };
        write(
            self.db,
            "INSERT INTO rooms (id, name, title, maker, ended, seq, chain, posts, members, last_ts, lsn)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (id) DO UPDATE SET name = ?2, title = ?3, ended = ?5, seq = ?6, chain = ?7, posts = ?8,
                 members = ?9, last_ts = ?10, lsn = ?11",
            params![
                Sql(row.id),
                row.name,
                row.title,
                Sql(row.maker),
                ended,
                Sql(row.seq),
                Sql(row.check),
                Sql(row.posts),
                Sql(row.members),
                Sql(row.last_ts),
                Sql(row.lsn)
            ],
        )?;
        self.cache.borrow_mut().keep_room(row);
        Ok(())
    }

    fn stay(&self, room: RoomId, user: UserId) -> Result<Option<MemberRow>, StorageError> {
        if let Some(kept) = self.cache.borrow().stays.get(&(room, user)) {
            return Ok(*kept);
        }
        let found = newest_stay(self.db, room, user)?;
        self.cache.borrow_mut().stays.insert((room, user), found);
        Ok(found)
    }

    fn put_stay(&mut self, row: &MemberRow, name: &str) -> Result<(), StorageError> {
        write(
            self.db,
            "INSERT INTO stays (room, user, from_seq, to_seq, lsn, name) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (room, user, from_seq) DO UPDATE SET to_seq = ?4, lsn = ?5, name = ?6",
            params![Sql(row.room), Sql(row.user), Sql(row.from_seq), row.to_seq.map(Sql), Sql(row.lsn), name],
        )?;
        self.cache.borrow_mut().stays.insert((row.room, row.user), Some(*row));
        Ok(())
    }

    fn rooms_joined(&self, user: UserId) -> Result<Vec<RoomId>, StorageError> {
        all(
            self.db,
            "SELECT room FROM stays WHERE user = ?1 AND to_seq IS NULL ORDER BY room LIMIT ?2",
            params![Sql(user), Sql(shared::limits::JOINED_ROOMS as u64)],
            |row| get(row, 0),
        )
    }

    fn members_of(&self, room: RoomId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StorageError> {
        member_ids(self.db, room, after, limit)
    }

    fn append_event(&mut self, row: &EventRow) -> Result<(), StorageError> {
        let (body, hash) = match &row.body {
            Body::None => (None, None),
            Body::Text(text) => (Some(text), None),
            Body::Blanked(hash) => (None, Some(hash)),
        };
        let post = (row.kind == Kind::Posted).then_some(Sql(row.seq));
        write(
            self.db,
            "INSERT INTO events (room, seq, lsn, chain, posts, ts, by, name, kind, key, target, detail, body, body_hash,
                 rev, text_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?15)",
            params![
                Sql(row.room),
                Sql(row.seq),
                Sql(row.lsn),
                Sql(row.check),
                Sql(row.posts),
                Sql(row.ts),
                Sql(row.by),
                row.name,
                row.kind.code(),
                row.key.map(Sql),
                row.target.map(Sql),
                row.detail,
                body,
                hash,
                post
            ],
        )?;
        Ok(())
    }

    fn append_user_event(&mut self, row: &UserEventRow) -> Result<(), StorageError> {
        write(
            self.db,
            "INSERT INTO user_events (user, seq, lsn, chain, ts, kind, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                Sql(row.user),
                Sql(row.seq),
                Sql(row.lsn),
                Sql(row.check),
                Sql(row.ts),
                row.kind.code(),
                row.detail
            ],
        )?;
        Ok(())
    }

    fn post(&self, room: RoomId, seq: Seq) -> Result<Option<PostRow>, StorageError> {
        one(
            self.db,
            "SELECT by, body_hash IS NULL, rev, text_at, edited, key FROM events WHERE room = ?1 AND seq = ?2 AND kind = 1",
            params![Sql(room), Sql(seq)],
            |row| {
                let life = if row.get(1)? { PostLife::Kept } else { PostLife::Deleted };
                let state = PostState { rev: get(row, 2)?, text_at: get(row, 3)?, edited: get_option(row, 4)? };
                Ok(PostRow { by: get(row, 0)?, key: get(row, 5)?, life, state })
            },
        )
    }

    fn edit_count(&self, room: RoomId, seq: Seq, most: u64) -> Result<u64, StorageError> {
        let found = one(self.db, EDITS, params![Sql(room), Sql(seq), Sql(most)], |row| get(row, 0))?;
        Ok(found.unwrap_or_default())
    }

    fn put_post_state(&mut self, room: RoomId, seq: Seq, state: PostState) -> Result<(), StorageError> {
        write(
            self.db,
            "UPDATE events SET rev = ?3, text_at = ?4, edited = ?5 WHERE room = ?1 AND seq = ?2 AND kind = 1",
            params![Sql(room), Sql(seq), Sql(state.rev), Sql(state.text_at), state.edited.map(Sql)],
        )?;
        Ok(())
    }

    fn blank_post(&mut self, room: RoomId, seq: Seq) -> Result<(), StorageError> {
        let texts = all(self.db, TEXTS, params![Sql(room), Sql(seq)], |row| {
            Ok((get::<Seq>(row, 0)?, self.texts.of(get(row, 1)?, row.get_ref(2)?.as_str()?)))
        })?;
        for (at, hash) in texts {
            write(
                self.db,
                "UPDATE events SET body = NULL, body_hash = ?3 WHERE room = ?1 AND seq = ?2",
                params![Sql(room), Sql(at), hash],
            )?;
        }
        Ok(())
    }

    fn reaction(&self, room: RoomId, post: Seq, emoji: &str, user: UserId) -> Result<Option<Seq>, StorageError> {
        one(
            self.db,
            "SELECT at FROM reactions WHERE room = ?1 AND post = ?2 AND emoji = ?3 AND user = ?4",
            params![Sql(room), Sql(post), emoji, Sql(user)],
            |row| get(row, 0),
        )
    }

    fn reaction_count(&self, room: RoomId, post: Seq, emoji: &str) -> Result<ReactionCount, StorageError> {
        let found = one(
            self.db,
            "SELECT COUNT(*), COUNT(DISTINCT emoji), MIN(since) FILTER (WHERE emoji = ?3)
             FROM reactions WHERE room = ?1 AND post = ?2",
            params![Sql(room), Sql(post), emoji],
            |row| Ok(ReactionCount { all: get(row, 0)?, emojis: get(row, 1)?, since: get_option(row, 2)? }),
        )?;
        Ok(found.unwrap_or_default())
    }

    fn put_reaction(
        &mut self,
        room: RoomId,
        post: Seq,
        emoji: &str,
        user: UserId,
        place: ReactionPlace,
    ) -> Result<(), StorageError> {
        write(
            self.db,
            "INSERT INTO reactions (room, post, emoji, user, since, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![Sql(room), Sql(post), emoji, Sql(user), Sql(place.since), Sql(place.at)],
        )?;
        Ok(())
    }

    fn remove_reaction(&mut self, room: RoomId, post: Seq, emoji: &str, user: UserId) -> Result<(), StorageError> {
        write(
            self.db,
            "DELETE FROM reactions WHERE room = ?1 AND post = ?2 AND emoji = ?3 AND user = ?4",
            params![Sql(room), Sql(post), emoji, Sql(user)],
        )?;
        Ok(())
    }

    fn clear_reactions(&mut self, room: RoomId, post: Seq) -> Result<(), StorageError> {
        write(self.db, "DELETE FROM reactions WHERE room = ?1 AND post = ?2", params![Sql(room), Sql(post)])?;
        Ok(())
    }

    fn session(&self, token: &TokenHash) -> Result<Option<SessionRow>, StorageError> {
        session(self.db, token)
    }

    fn put_session(&mut self, token: &TokenHash, row: SessionRow) -> Result<(), StorageError> {
        write(
            self.db,
            "INSERT INTO sessions (token_hash, user, expires) VALUES (?1, ?2, ?3)
             ON CONFLICT (token_hash) DO UPDATE SET user = ?2, expires = ?3",
            params![token, Sql(row.user), Sql(row.expires)],
        )?;
        Ok(())
    }

    fn remove_session(&mut self, token: &TokenHash) -> Result<(), StorageError> {
        write(self.db, "DELETE FROM sessions WHERE token_hash = ?1", params![token])?;
        Ok(())
    }

    fn sessions_ended(&self, before: Timestamp, limit: usize) -> Result<Vec<TokenHash>, StorageError> {
        all(
            self.db,
            "SELECT token_hash FROM sessions WHERE expires <= ?1 ORDER BY expires, token_hash LIMIT ?2",
            params![Sql(before), Sql(limit as u64)],
            |row| row.get(0),
        )
    }

    fn read_mark(&self, user: UserId, room: RoomId) -> Result<Option<ReadRow>, StorageError> {
        one(
            self.db,
            "SELECT posts, lsn FROM marks WHERE user = ?1 AND room = ?2",
            params![Sql(user), Sql(room)],
            |row| Ok(ReadRow { posts: get(row, 0)?, lsn: get(row, 1)? }),
        )
    }

    fn put_read_mark(&mut self, user: UserId, room: RoomId, row: ReadRow) -> Result<(), StorageError> {
        write(
            self.db,
            "INSERT INTO marks (user, room, posts, lsn) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (user, room) DO UPDATE SET posts = ?3, lsn = ?4",
            params![Sql(user), Sql(room), Sql(row.posts), Sql(row.lsn)],
        )?;
        Ok(())
    }
}

/// Finds a session.
pub(super) fn session(db: &Connection, token: &TokenHash) -> Result<Option<SessionRow>, StorageError> {
    one(db, "SELECT user, expires FROM sessions WHERE token_hash = ?1", params![token], |row| {
        Ok(SessionRow { user: get(row, 0)?, expires: get(row, 1)? })
    })
}

#[cfg(test)]
mod tests {
    use super::super::reads::POSTS_BEFORE;
    use super::super::schema;
    use super::*;

    /// Says how SQLite would go about a statement.
    fn plan(db: &Connection, sql: &str) -> String {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let (mut rows, mut plan) = (statement.raw_query(), String::new());
        while let Some(step) = rows.next().unwrap() {
            plan += &format!("{}\n", step.get::<_, String>(3).unwrap());
        }
        plan
    }

    #[test]
    fn what_is_asked_of_a_room_is_found_without_walking_over_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log.db");
        let mut db = Connection::open(&file).unwrap();
        schema::prepare_writer(&db).unwrap();
        schema::migrate(&mut db, &file).unwrap();
        for (sql, ways) in [
            (TEXTS, &["PRIMARY KEY (room=? AND seq=?)", "INDEX edits (room=? AND target=?)"][..]),
            (MEMBER_IDS, &["PRIMARY KEY (room=? AND user>?)"]),
            (POSTS_BEFORE, &["p USING INDEX posts (room=? AND seq<?)", "t USING PRIMARY KEY (room=? AND seq=?)"]),
        ] {
            let plan = plan(&db, sql);
            assert!(ways.iter().all(|way| plan.contains(way)), "{plan}");
            assert!(!plan.contains("(room=?)") && !plan.contains("SCAN"), "{plan}");
        }
    }
}
