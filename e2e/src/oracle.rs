//! What must be true after any fault: acknowledged ⊆ stored, keys unique, places dense, and every place shown once, in
//! the same order to everybody, or inside a hole that is shown.
//!
//! Must not live here: faults. Invariant: it reads what the server stored from the database file itself and believes
//! nothing the server says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use shared::ids::{ClientId, RoomId};

use crate::device::{Seen, Shown};

/// The kind of a post's row in the table of events.
const KIND_POSTED: i64 = 1;

/// A room as the database holds it.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    posts: BTreeMap<u64, Shown>,
    faults: Vec<String>,
}

impl Oracle {
    /// Reads a room out of the database in a data folder, and checks what can be checked of it alone.
    ///
    /// # Panics
    /// If there is no database to read.
    #[must_use]
    pub fn read(data_dir: &Path, room: RoomId) -> Self {
        let path = database_in(data_dir);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db =
            Connection::open_with_flags(&path, flags).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut oracle = Self::default();
        let sound: String =
            db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("the database can be checked");
        if sound != "ok" {
            oracle.faults.push(format!("integrity_check says {sound}"));
        }
        let mut rows = db
            .prepare("SELECT seq, kind, key, body FROM events WHERE room = ?1 ORDER BY seq")
            .expect("the table of events");
        let mut rows = rows.query([room.as_bytes()]).expect("the table of events");
        let mut keys = BTreeMap::new();
        let mut expected = 1;
        while let Some(row) = rows.next().expect("a readable row") {
            let seq = row.get::<_, i64>(0).expect("a place").unsigned_abs();
            if seq != expected {
                oracle.faults.push(format!("place {expected} is missing; {seq} follows"));
            }
            expected = seq + 1;
            if row.get::<_, i64>(1).expect("a kind") != KIND_POSTED {
                continue;
            }
            let key: Vec<u8> = row.get(2).expect("a post has a key");
            let key = ClientId::from_bytes(key.try_into().expect("sixteen bytes"));
            let body: Option<String> = row.get(3).expect("a text or none");
            if let Some(first) = keys.insert(key, seq) {
                oracle.faults.push(format!("key {key} is stored at {first} and at {seq}"));
            }
            oracle.posts.insert(seq, Shown { seq, key, body: body.unwrap_or_default() });
        }
        oracle
    }

    /// Returns the posts in the room, in order.
    pub fn posts(&self) -> impl Iterator<Item = &Shown> {
        self.posts.values()
    }

    /// Judges a sender's journal: what was acknowledged is stored, where it was said to be.
    pub fn judge_acks(&mut self, who: &str, acked: &[(ClientId, u64)]) {
        for (key, seq) in acked {
            match self.posts.get(seq) {
                Some(post) if post.key == *key => {}
                Some(post) => self.faults.push(format!("{who} was told {key} is at {seq}, where {} lies", post.key)),
                None => self.faults.push(format!("{who} was told {key} is at {seq}, where nothing lies")),
            }
        }
    }

    /// Judges what one receiver showed.
    pub fn judge_shown(&mut self, who: &str, seen: &Seen) {
        self.faults.extend(seen.faults.iter().map(|fault| format!("{who}: {fault}")));
        for shown in seen.shown.values() {
            if self.posts.get(&shown.seq) != Some(shown) {
                self.faults.push(format!("{who} showed {shown:?}, stored is {:?}", self.posts.get(&shown.seq)));
            }
        }
        let first = seen.shown.keys().next().copied().unwrap_or(0);
        let missing: BTreeSet<u64> =
            self.posts.keys().filter(|seq| **seq >= first && !seen.shown.contains_key(seq)).copied().collect();
        if missing.len() as u64 != seen.holes {
            self.faults.push(format!("{who} did not show {missing:?} and told of {} posts in holes", seen.holes));
        }
    }

    /// Judges what a page shows: pairs of place and text, in the order of the rows.
    pub fn judge_page(&mut self, who: &str, rows: &[(u64, String)]) {
        let mut last = 0;
        for (seq, body) in rows {
            if *seq <= last {
                self.faults.push(format!("{who}: the row of {seq} stands below that of {last}"));
            }
            last = *seq;
            if self.posts.get(seq).map(|post| &post.body) != Some(body) {
                self.faults.push(format!("{who} shows {body:?} at {seq}, stored is {:?}", self.posts.get(seq)));
            }
        }
    }

    /// Returns what was found so far, for tests of what must be found.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Fails the test if anything was found.
    ///
    /// # Panics
    /// With everything that was found.
    pub fn verdict(self) {
        assert!(self.faults.is_empty(), "the oracle found:\n{}", self.faults.join("\n"));
    }
}

/// Finds the one database in a data folder.
fn database_in(data_dir: &Path) -> std::path::PathBuf {
    let entries = std::fs::read_dir(data_dir).unwrap_or_else(|error| panic!("{}: {error}", data_dir.display()));
    let mut found = entries.filter_map(Result::ok).map(|entry| entry.path());
    found
        .find(|path| path.extension().is_some_and(|ending| ending == "db" || ending == "sqlite"))
        .unwrap_or_else(|| panic!("no database in {}", data_dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::new_id;

    fn stored(keys: &[ClientId]) -> Oracle {
        let posts = (1..).zip(keys).map(|(seq, key)| (seq, Shown { seq, key: *key, body: format!("post {seq}") }));
        Oracle { posts: posts.collect(), faults: Vec::new() }
    }

    fn keys() -> [ClientId; 3] {
        [new_id(), new_id(), new_id()]
    }

    #[test]
    fn a_good_run_passes() {
        let keys = keys();
        let mut oracle = stored(&keys);
        let seen = Seen { shown: oracle.posts.clone(), ..Seen::default() };
        oracle.judge_acks("a", &[(keys[0], 1), (keys[2], 3)]);
        oracle.judge_shown("b", &seen);
        oracle.judge_page("c", &[(1, "post 1".to_owned()), (3, "post 3".to_owned())]);
        oracle.verdict();
    }

    #[test]
    fn a_lost_acknowledged_post_is_found() {
        let keys = keys();
        let mut oracle = stored(&keys[..2]);
        oracle.judge_acks("a", &[(keys[2], 3)]);
        assert_eq!(oracle.faults.len(), 1);
    }

    #[test]
    fn a_post_that_was_not_shown_and_not_in_a_hole_is_found() {
        let mut oracle = stored(&keys());
        let mut shown = oracle.posts.clone();
        shown.remove(&2);
        oracle.judge_shown("a", &Seen { shown: shown.clone(), ..Seen::default() });
        assert_eq!(oracle.faults.len(), 1);
        oracle.judge_shown("a", &Seen { shown, holes: 1, ..Seen::default() });
        assert_eq!(oracle.faults.len(), 1, "a hole that is shown is no fault");
    }

    #[test]
    fn a_page_with_rows_in_another_order_or_with_another_text_is_found() {
        let mut oracle = stored(&keys());
        oracle.judge_page("a", &[(2, "post 2".to_owned()), (1, "post 1".to_owned())]);
        assert_eq!(oracle.faults.len(), 1);
        oracle.judge_page("a", &[(3, "post 2".to_owned())]);
        assert_eq!(oracle.faults.len(), 2);
    }
}
