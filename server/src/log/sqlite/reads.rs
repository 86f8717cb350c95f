//! [`Reads`] over a connection inside a read transaction, and the bounded pool of such connections.
//!
//! Must not live here: writes. Invariant: a connection serves one read at a time, and each read sees one moment.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, Row, params};
use shared::cursor::{Check, Position};
use shared::ids::{Epoch, Lsn, RoomId, Seq, UserId};
use shared::limits;
use shared::model::{Person, Post, Reaction, RoomEvent, RoomSummary, UserEvent};
use shared::time::Timestamp;
use tokio::sync::Semaphore;

use super::rows::{self, Sql, get, get_option, storage};
use super::schema;
use super::tables::{all, member_ids, newest_stay, one, session};
use crate::log::reads::{Membership, Reads, RoomHead, SessionRow};
use crate::log::record::TokenHash;
use crate::log::tables::StorageError;
use crate::log::{LogError, OpenError, ReadJob, Readers, chain};

/// Connections that read, each lent to one read at a time.
pub(super) struct Pool {
    path: PathBuf,
    epoch: Epoch,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Pool {
    /// Opens `size` connections.
    pub(super) fn open(path: PathBuf, epoch: Epoch, size: usize) -> Result<Self, OpenError> {
        let idle = (0..size).map(|_| connect(&path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { path, epoch, permits: Arc::new(Semaphore::new(size)), idle: Arc::new(Mutex::new(idle)) })
    }
}

fn connect(path: &std::path::Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(storage)?;
    schema::prepare_reader(&db)?;
    Ok(db)
}

impl Readers for Pool {
    fn run(&self, job: ReadJob) -> Pin<Box<dyn Future<Output = Result<(), LogError>> + Send + '_>> {
        Box::pin(async move {
            let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| LogError::Stopped)?;
            let (idle, path, epoch) = (Arc::clone(&self.idle), self.path.clone(), self.epoch);
            let reading = tokio::task::spawn_blocking(move || {
                let lent = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
                // A read that panicked took its connection with it.
                let db =
                    lent.map_or_else(|| connect(&path), Ok).map_err(|error| StorageError::failed(error.to_string()))?;
                let outcome = at_one_moment(&db, epoch, job);
                if db.is_autocommit() {
                    idle.lock().unwrap_or_else(PoisonError::into_inner).push(db);
                }
                drop(permit);
                outcome
            });
            match reading.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => {
                    tracing::error!(error = %error, "a read failed");
                    Err(LogError::Stopped)
                }
                Err(error) => {
                    tracing::error!(error = %error, "a read panicked");
                    Err(LogError::Stopped)
                }
            }
        })
    }
}

fn at_one_moment(db: &Connection, epoch: Epoch, job: ReadJob) -> Result<(), StorageError> {
    // The moment is that of the first statement inside.
    super::control(db, "BEGIN")?;
    let outcome = job(&Moment { db, epoch });
    let ended = super::control(db, "COMMIT");
    outcome.and(ended)
}

/// One moment of the log.
pub(super) struct Moment<'c> {
    pub(super) db: &'c Connection,
    pub(super) epoch: Epoch,
}

/// Posts, newest first. Told which way to go, for SQLite would rather walk over all the reactions between them.
pub(super) const POSTS_BEFORE: &str = "
    SELECT p.seq, p.rev, p.posts, p.by, p.key, p.ts, COALESCE(t.body, CASE p.text_at WHEN p.seq THEN p.body END), p.edited
    FROM events p INDEXED BY posts LEFT JOIN events t ON t.room = p.room AND t.seq = p.text_at AND p.text_at <> p.seq
    WHERE p.room = ?1 AND p.kind = 1 AND p.seq < ?2 ORDER BY p.seq DESC LIMIT ?3";

const SUMMARY: &str = "
    SELECT r.id, r.name, r.title, s.room IS NOT NULL, r.members, r.seq, r.posts, COALESCE(m.posts, 0)
    FROM rooms r
    LEFT JOIN stays s ON s.user = ?1 AND s.room = r.id AND s.to_seq IS NULL
    LEFT JOIN marks m ON m.user = ?1 AND m.room = r.id";

fn summary(row: &Row<'_>) -> rusqlite::Result<RoomSummary> {
    Ok(RoomSummary {
        room: get(row, 0)?,
        name: row.get(1)?,
        title: row.get(2)?,
        joined: row.get(3)?,
        members: get(row, 4)?,
        head: get(row, 5)?,
        posts: get(row, 6)?,
        read: get(row, 7)?,
    })
}

fn person(row: &Row<'_>) -> rusqlite::Result<Person> {
    Ok(Person { id: get(row, 0)?, name: row.get(1)? })
}

impl Moment<'_> {
    fn reactions(&self, room: RoomId, post: Seq) -> Result<Vec<Reaction>, StorageError> {
        let all = all(
            self.db,
            "SELECT emoji, user FROM reactions WHERE room = ?1 AND post = ?2 ORDER BY since, at",
            params![Sql(room), Sql(post)],
            |row| Ok((row.get::<_, String>(0)?, get::<UserId>(row, 1)?)),
        )?;
        Ok(crate::log::reads::gather(all.into_iter()))
    }
}

impl Reads for Moment<'_> {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn lsn(&self) -> Result<Lsn, StorageError> {
        let last = one(self.db, "SELECT lsn FROM records ORDER BY lsn DESC LIMIT 1", [], |row| get(row, 0))?;
        Ok(last.unwrap_or_default())
    }

    fn head(&self, room: RoomId) -> Result<Option<RoomHead>, StorageError> {
        one(self.db, "SELECT seq, chain, posts, lsn FROM rooms WHERE id = ?1", params![Sql(room)], |row| {
            let position = Position { epoch: self.epoch, seq: get(row, 0)?, check: get(row, 1)? };
            Ok(RoomHead { position, posts: get(row, 2)?, lsn: get(row, 3)? })
        })
    }

    fn posts_before(
        &self,
        room: RoomId,
        before: Seq,
        limit: usize,
        visit: &mut dyn FnMut(Post) -> bool,
    ) -> Result<(), StorageError> {
        let mut statement = self.db.prepare_cached(POSTS_BEFORE).map_err(storage)?;
        let mut rows = statement.query(params![Sql(room), Sql(before), Sql(limit as u64)]).map_err(storage)?;
        while let Some(row) = rows.next().map_err(storage)? {
            let mut post = post(row).map_err(storage)?;
            post.reactions = self.reactions(room, post.seq)?;
            if !visit(post) {
                break;
            }
        }
        Ok(())
    }

    fn events_after(
        &self,
        room: RoomId,
        after: Seq,
        limit: usize,
        visit: &mut dyn FnMut(RoomEvent) -> bool,
    ) -> Result<(), StorageError> {
        let mut statement = self
            .db
            .prepare_cached(
                "SELECT room, seq, lsn, chain, posts, ts, by, name, kind, key, target, detail, body, body_hash
                 FROM events WHERE room = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
            )
            .map_err(storage)?;
        let mut rows = statement.query(params![Sql(room), Sql(after), Sql(limit as u64)]).map_err(storage)?;
        while let Some(row) = rows.next().map_err(storage)? {
            if !visit(chain::event(rows::event(row).map_err(storage)?)?) {
                break;
            }
        }
        Ok(())
    }

    fn check_at(&self, room: RoomId, seq: Seq) -> Result<Option<Check>, StorageError> {
        if seq == Seq(0) {
            return Ok(self.head(room)?.map(|_| Check::default()));
        }
        one(self.db, "SELECT chain FROM events WHERE room = ?1 AND seq = ?2", params![Sql(room), Sql(seq)], |row| {
            get(row, 0)
        })
    }

    fn user_head(&self, user: UserId) -> Result<Option<Position>, StorageError> {
        one(self.db, "SELECT seq, chain FROM users WHERE id = ?1", params![Sql(user)], |row| {
            Ok(Position { epoch: self.epoch, seq: get(row, 0)?, check: get(row, 1)? })
        })
    }

    fn user_events(&self, user: UserId, after: Seq, limit: usize) -> Result<Vec<UserEvent>, StorageError> {
        let rows = all(
            self.db,
            "SELECT user, seq, lsn, chain, ts, kind, detail FROM user_events WHERE user = ?1 AND seq > ?2
             ORDER BY seq LIMIT ?3",
            params![Sql(user), Sql(after), Sql(limit as u64)],
            rows::user_event,
        )?;
        rows.iter().map(chain::user_event).collect()
    }

    fn user_check_at(&self, user: UserId, seq: Seq) -> Result<Option<Check>, StorageError> {
        if seq == Seq(0) {
            return Ok(self.user_head(user)?.map(|_| Check::default()));
        }
        one(
            self.db,
            "SELECT chain FROM user_events WHERE user = ?1 AND seq = ?2",
            params![Sql(user), Sql(seq)],
            |row| get(row, 0),
        )
    }

    fn rooms_of(&self, user: UserId, since: Option<Lsn>) -> Result<Vec<RoomSummary>, StorageError> {
        all(
            self.db,
            "SELECT r.id, r.name, r.title, 1, r.members, r.seq, r.posts, COALESCE(m.posts, 0)
             FROM stays s JOIN rooms r ON r.id = s.room LEFT JOIN marks m ON m.user = s.user AND m.room = s.room
             WHERE s.user = ?1 AND s.to_seq IS NULL
                 AND (?2 IS NULL OR r.lsn > ?2 OR s.lsn > ?2 OR COALESCE(m.lsn, 0) > ?2)
             ORDER BY r.name LIMIT ?3",
            params![Sql(user), since.map(Sql), Sql(limits::JOINED_ROOMS as u64)],
            summary,
        )
    }

    fn rooms_page(&self, user: UserId, after: Option<&str>, limit: usize) -> Result<Vec<RoomSummary>, StorageError> {
        let sql = joined(SUMMARY, " WHERE r.ended = 0 AND r.name > ?2 ORDER BY r.name LIMIT ?3");
        all(self.db, &sql, params![Sql(user), after.unwrap_or(""), Sql(limit as u64)], summary)
    }

    fn room_by_name(&self, name: &str) -> Result<Option<RoomId>, StorageError> {
        one(self.db, "SELECT id FROM rooms WHERE name = ?1 AND ended = 0", params![name], |row| get(row, 0))
    }

    fn room_summary(&self, user: UserId, room: RoomId) -> Result<Option<RoomSummary>, StorageError> {
        let sql = joined(SUMMARY, " WHERE r.ended = 0 AND r.id = ?2");
        one(self.db, &sql, params![Sql(user), Sql(room)], summary)
    }

    fn member(&self, room: RoomId, user: UserId) -> Result<Option<Membership>, StorageError> {
        let stay = newest_stay(self.db, room, user)?.filter(|stay| stay.to_seq.is_none());
        Ok(stay.map(|stay| Membership { from_seq: stay.from_seq }))
    }

    fn left_at(&self, room: RoomId, user: UserId) -> Result<Option<Seq>, StorageError> {
        Ok(newest_stay(self.db, room, user)?.and_then(|stay| stay.to_seq))
    }

    fn members(&self, room: RoomId, after_name: Option<&str>, limit: usize) -> Result<Vec<Person>, StorageError> {
        all(
            self.db,
            "SELECT user, name FROM stays WHERE room = ?1 AND to_seq IS NULL AND name > ?2 ORDER BY name LIMIT ?3",
            params![Sql(room), after_name.unwrap_or(""), Sql(limit as u64)],
            person,
        )
    }

    fn members_among(&self, room: RoomId, people: &[UserId]) -> Result<Vec<Person>, StorageError> {
        // One statement for all of them: a crowd that returns asks this of hundreds of people each.
        let ids: Vec<String> = people.iter().map(ToString::to_string).collect();
        let ids = serde_json::to_string(&ids).map_err(|error| StorageError::failed(error.to_string()))?;
        all(
            self.db,
            "SELECT s.user, s.name FROM json_each(?2) asked
             CROSS JOIN stays s ON s.room = ?1 AND s.user = unhex(asked.value, '-') AND s.to_seq IS NULL",
            params![Sql(room), ids],
            person,
        )
    }

    fn member_count(&self, room: RoomId) -> Result<u64, StorageError> {
        let found = one(self.db, "SELECT members FROM rooms WHERE id = ?1", params![Sql(room)], |row| get(row, 0))?;
        Ok(found.unwrap_or(0))
    }

    fn member_ids(&self, room: RoomId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StorageError> {
        member_ids(self.db, room, after, limit)
    }

    fn user(&self, user: UserId) -> Result<Option<Person>, StorageError> {
        one(self.db, "SELECT id, name FROM users WHERE id = ?1", params![Sql(user)], person)
    }

    fn name_free(&self, skeleton: &str) -> Result<bool, StorageError> {
        let taken = one(self.db, "SELECT 1 FROM users WHERE skeleton = ?1", params![skeleton], |_| Ok(()))?;
        Ok(taken.is_none())
    }

    fn session(&self, token_hash: &TokenHash) -> Result<Option<SessionRow>, StorageError> {
        session(self.db, token_hash)
    }

    fn first_session_end(&self) -> Result<Option<Timestamp>, StorageError> {
        one(self.db, "SELECT expires FROM sessions ORDER BY expires LIMIT 1", [], |row| get(row, 0))
    }
}

fn post(row: &Row<'_>) -> rusqlite::Result<Post> {
    Ok(Post {
        seq: get(row, 0)?,
        rev: get(row, 1)?,
        ordinal: get(row, 2)?,
        by: get(row, 3)?,
        client_id: get(row, 4)?,
        ts: get(row, 5)?,
        body: row.get(6)?,
        edited: get_option(row, 7)?,
        reactions: Vec::new(),
    })
}

/// Puts a query together; the text is the same every time, so its statement stays prepared.
fn joined(head: &str, tail: &str) -> String {
    format!("{head}{tail}")
}
