//! Which room was found last under which name, for the moment when nobody can be asked: one small file for each account.
//!
//! Must not live here: when a room is remembered and when that is used ([`crate::search`]). Invariant: the file is replaced
//! as a whole, readable by its owner only, and as none when it is damaged. It is a memory, not a promise: of two processes
//! that write at once, one may undo what the other learnt, and a later call learns it again.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::ids::RoomId;
use shared::model::RoomSummary;

use super::files::write;

/// Names remembered of one account; the one found longest ago goes first.
const NAMES: usize = 256;
/// Bytes of the file that are read, at most: more than so many names take.
const FILE_BYTES: u64 = 1024 * 1024;

/// A name, and the room it led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    name: String,
    room: RoomId,
}

/// The rooms one account has found. Each call reads the file anew, for another process may have written it.
#[derive(Clone, Debug)]
pub(crate) struct KnownRooms {
    path: PathBuf,
}

impl KnownRooms {
    /// Rooms remembered in this file. It need not be there.
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Finds a room that was found under this name, or that has this id.
    pub(crate) fn find(&self, wanted: &str) -> Option<RoomId> {
        let id = wanted.parse().ok();
        self.load().iter().rev().find(|known| known.name == wanted || Some(known.room) == id).map(|known| known.room)
    }

    /// Remembers a room under its name and under the one it was asked for by.
    ///
    /// # Errors
    /// What the system says; then what was remembered before still is.
    pub(crate) fn remember(&self, wanted: &str, room: &RoomSummary) -> io::Result<()> {
        // A room is asked for by its id as well, and found by that under any name.
        let asked = (wanted.parse::<RoomId>().is_err() && wanted != room.name).then_some(wanted);
        let names = [Some(room.name.as_str()), asked].into_iter().flatten();
        let news: Vec<_> = names.map(|name| Known { name: name.to_owned(), room: room.room }).collect();
        let known = self.load();
        if news.iter().all(|new| known.contains(new)) {
            return Ok(());
        }
        // Of one room only its newest names, of one name only its newest room.
        let is_old = |old: &Known| old.room != room.room && news.iter().all(|new| new.name != old.name);
        let mut known: Vec<_> = known.into_iter().filter(is_old).chain(news.iter().cloned()).collect();
        known.drain(..known.len().saturating_sub(NAMES));
        self.store(&known)
    }

    /// Forgets what was remembered under this name or id.
    ///
    /// # Errors
    /// What the system says; then it is still remembered.
    pub(crate) fn forget(&self, wanted: &str) -> io::Result<()> {
        let Some(room) = self.find(wanted) else { return Ok(()) };
        let known: Vec<_> =
            self.load().into_iter().filter(|known| known.room != room && known.name != wanted).collect();
        self.store(&known)
    }

    fn load(&self) -> Vec<Known> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(FILE_BYTES).read_to_end(&mut bytes));
        read.ok().and_then(|_| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn store(&self, known: &[Known]) -> io::Result<()> {
        write(&self.path, &serde_json::to_vec(known)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use shared::ids::Seq;

    use super::*;

    fn room(n: u16, name: &str) -> RoomSummary {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        RoomSummary {
            room: RoomId::from_bytes(id),
            name: name.into(),
            title: String::new(),
            joined: true,
            members: 1,
            head: Seq(1),
            posts: 0,
            read: 0,
        }
    }

    #[test]
    fn a_room_is_known_by_its_name_by_the_one_it_was_asked_for_by_and_by_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownRooms::at(folder.path().join("rooms"));
        let tea = room(1, "tea");
        assert_eq!(known.find("tea"), None);
        known.remember("ｔｅａ", &tea).unwrap();
        for wanted in ["tea", "ｔｅａ", &tea.room.to_string()] {
            assert_eq!(known.find(wanted), Some(tea.room), "{wanted}");
        }
        assert_eq!(known.find(&room(2, "").room.to_string()), None);
        #[cfg(unix)]
        {
            let mode = fs::metadata(&known.path).unwrap().permissions();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o077, 0);
        }
        known.forget("tea").unwrap();
        assert_eq!((known.find("ｔｅａ"), known.find(&tea.room.to_string())), (None, None));
    }

    #[test]
    fn a_name_leads_to_the_room_it_was_given_last_and_an_old_name_of_a_room_to_none() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownRooms::at(folder.path().join("rooms"));
        known.remember("tea", &room(1, "tea")).unwrap();
        known.remember("tea", &room(2, "tea")).unwrap();
        assert_eq!(known.find("tea"), Some(room(2, "").room));
        known.remember("coffee", &room(2, "coffee")).unwrap();
        assert_eq!((known.find("tea"), known.find("coffee")), (None, Some(room(2, "").room)));
    }

    #[test]
    fn only_so_many_names_are_remembered_and_nothing_is_left_of_a_write_that_failed() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownRooms::at(folder.path().join("rooms"));
        for n in 0..=u16::try_from(NAMES).unwrap() {
            known.remember(&format!("room-{n}"), &room(n, &format!("room-{n}"))).unwrap();
        }
        assert_eq!(known.load().len(), NAMES);
        assert_eq!((known.find("room-0"), known.find("room-1")), (None, Some(room(1, "").room)));
        let gone = KnownRooms::at(known.path.join("no folder"));
        assert!(gone.remember("tea", &room(1, "tea")).is_err() && gone.forget("tea").is_ok());
        let taken = KnownRooms::at(folder.path().join("taken"));
        fs::create_dir(&taken.path).unwrap();
        assert!(taken.remember("tea", &room(1, "tea")).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "what was begun is gone");
        // What is known already is not written again: the file is not another one.
        #[cfg(unix)]
        {
            let file = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&known.path).unwrap());
            let before = file();
            known.remember("room-1", &room(1, "room-1")).unwrap();
            assert_eq!(file(), before);
        }
    }

    #[test]
    fn a_damaged_file_is_as_none_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownRooms::at(folder.path().join("rooms"));
        known.remember("tea", &room(1, "tea")).unwrap();
        let whole = fs::read(&known.path).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"", b"{}", b"[{\"name\":1}]", b"\xff"] {
            fs::write(&known.path, damaged).unwrap();
            assert_eq!(known.find("tea"), None);
            known.forget("tea").unwrap();
            known.remember("tea", &room(2, "tea")).unwrap();
            assert_eq!(known.find("tea"), Some(room(2, "").room));
        }
    }
}
