//! Unsent requests on this machine: one append-only file of JSON lines for each (server, person, process).
//!
//! Must not live here: when something is sent. Invariant: a change is reported as kept only after `fsync`, and no two
//! processes ever write one file: each locks a slot of its own, and adopts the slots of processes that are gone.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shared::ids::ClientId;
use shared::session::{OutboxItem, Persist};

use super::files::sync_folder;

/// Processes of one person on one machine that may hold an outbox at once.
const SLOTS: usize = 64;
/// Lines beyond those that are needed, before the file is written anew.
const SPARE_LINES: usize = 256;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Put(OutboxItem),
    Remove(ClientId),
}

/// What the lines of a file come to.
#[derive(Default)]
struct Read {
    items: BTreeMap<ClientId, OutboxItem>,
    lines: usize,
    unread: Vec<Vec<u8>>,
}

impl Read {
    fn new(bytes: &[u8]) -> Self {
        let mut this = Self::default();
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            this.lines += 1;
            match serde_json::from_slice(line) {
                Ok(Line::Put(item)) => drop(this.items.insert(item.client_id, item)),
                Ok(Line::Remove(client_id)) => drop(this.items.remove(&client_id)),
                Err(_) if line.ends_with(b"\n") => this.unread.push(line.to_owned()),
                // A process that died while it wrote leaves half a line. It was never reported as kept.
                Err(_) => {}
            }
        }
        this
    }
}

/// The outbox of this process.
#[derive(Debug)]
pub(crate) struct OutboxFile {
    path: PathBuf,
    file: File,
    /// Held as long as the process lives; the system lets go of it when the process dies.
    _lock: File,
    items: BTreeMap<ClientId, OutboxItem>,
    lines: usize,
    /// Whole lines this version cannot read, such as a newer one's. They were reported as kept, so they stay.
    unread: Vec<Vec<u8>>,
    /// Unsent items of processes that ran when this was opened.
    elsewhere: Vec<OutboxItem>,
    /// How many those are, also with nothing unsent.
    others: usize,
    /// A write failed, so the end of the file may be torn.
    is_torn: bool,
}

impl OutboxFile {
    /// Locks a free slot in `folder` and takes over what processes that are gone left in theirs.
    ///
    /// # Errors
    /// If the folder cannot be written, or every slot is taken.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut mine: Option<Self> = None;
        let mut elsewhere = Vec::new();
        let mut others = 0;
        for slot in 0..SLOTS {
            let path = folder.join(format!("{slot}.jsonl"));
            if mine.is_some() && !path.exists() {
                continue;
            }
            let Some(lock) = try_lock(&folder.join(format!("{slot}.lock")))? else {
                others += 1;
                if let Ok(bytes) = fs::read(&path) {
                    elsewhere.extend(Read::new(&bytes).items.into_values());
                }
                continue;
            };
            match &mut mine {
                None => mine = Some(Self::load(path, lock)?),
                Some(mine) => mine.adopt(Self::load(path, lock)?)?,
            }
        }
        if let Some(mine) = &mut mine {
            (mine.elsewhere, mine.others) = (elsewhere, others);
        }
        mine.ok_or_else(|| io::Error::other(format!("{SLOTS} other processes of this person are running")))
    }

    /// Returns what is unsent, in the order it was queued.
    pub(crate) fn items(&self) -> Vec<OutboxItem> {
        let mut items: Vec<_> = self.items.values().cloned().collect();
        items.sort_by_key(|item| (item.order, item.queued_at, item.client_id));
        items
    }

    /// Returns how many lines this version cannot read.
    pub(crate) const fn unread(&self) -> usize {
        self.unread.len()
    }

    /// Forgets the lines this version cannot read, with the next write.
    pub(crate) fn discard_unread(&mut self) {
        self.is_torn |= !self.unread.is_empty();
        self.unread.clear();
    }

    /// Returns what is unsent in processes that ran when this outbox was opened.
    pub(crate) fn elsewhere(&self) -> &[OutboxItem] {
        &self.elsewhere
    }

    /// Returns how many other processes of this person ran when this outbox was opened.
    pub(crate) const fn others(&self) -> usize {
        self.others
    }

    /// Writes changes and waits until they are on the disk.
    ///
    /// # Errors
    /// What the system says; then none of the changes is known to be kept.
    pub(crate) fn write(&mut self, changes: Vec<Persist>) -> io::Result<()> {
        let mut text = Vec::new();
        for change in changes {
            let line = match change {
                Persist::Put(item) => {
                    self.items.insert(item.client_id, item.clone());
                    Line::Put(item)
                }
                Persist::Remove(client_id) => {
                    self.items.remove(&client_id);
                    Line::Remove(client_id)
                }
            };
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
            self.lines += 1;
        }
        if self.is_torn || self.lines > self.items.len() + self.unread.len() + SPARE_LINES {
            return self.rewrite();
        }
        self.is_torn = true;
        let bytes = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(&text).and_then(|()| self.file.sync_data()) {
            // What came to the disk of it nevertheless is not kept, for nobody will be told that it is.
            let _ = self.file.set_len(bytes);
            return Err(error);
        }
        self.is_torn = false;
        Ok(())
    }

    fn load(path: PathBuf, lock: File) -> io::Result<Self> {
        let is_new = !path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        if is_new {
            sync_folder(&path)?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let Read { items, lines, unread } = Read::new(&bytes);
        let mut this =
            Self { path, file, _lock: lock, items, lines, unread, elsewhere: Vec::new(), others: 0, is_torn: false };
        // What is written next would become a part of a line without an end.
        this.is_torn = bytes.last().is_some_and(|&byte| byte != b'\n');
        if this.is_torn || (this.lines > this.unread.len() && this.items.is_empty()) {
            this.rewrite()?;
        }
        Ok(this)
    }

    fn adopt(&mut self, mut orphan: Self) -> io::Result<()> {
        if orphan.items.is_empty() && orphan.unread.is_empty() {
            return Ok(());
        }
        self.is_torn |= !orphan.unread.is_empty();
        self.unread.append(&mut orphan.unread);
        self.write(orphan.items().into_iter().map(Persist::Put).collect())?;
        orphan.items.clear();
        orphan.rewrite()
    }

    /// Writes the file anew with what is needed. The old one stays until the new one is safe.
    fn rewrite(&mut self) -> io::Result<()> {
        self.is_torn = true;
        if self.items.is_empty() && self.unread.is_empty() {
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.sync_data()?;
        } else {
            let new_path = self.path.with_extension("new");
            let mut new = File::create(&new_path)?;
            for item in self.items() {
                serde_json::to_writer(&mut new, &Line::Put(item))?;
                new.write_all(b"\n")?;
            }
            self.unread.iter().try_for_each(|line| new.write_all(line))?;
            new.sync_all()?;
            fs::rename(&new_path, &self.path)?;
            sync_folder(&self.path)?;
            self.file = OpenOptions::new().append(true).open(&self.path)?;
        }
        self.lines = self.items.len() + self.unread.len();
        self.is_torn = false;
        Ok(())
    }
}

fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::RoomId;
    use shared::session::SendOp;
    use shared::time::Timestamp;

    use super::*;

    fn item(order: u64) -> OutboxItem {
        OutboxItem {
            client_id: ClientId::from_parts(Timestamp(order), [7; 10]),
            room: RoomId::from_bytes([1; 16]),
            op: SendOp::Post { body: format!("post {order}") },
            queued_at: Timestamp(order),
            order,
            attempted: false,
            refused: None,
        }
    }

    #[test]
    fn what_was_kept_is_there_after_the_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = OutboxFile::open(folder.path()).unwrap();
        outbox.write((1..=3).map(|order| Persist::Put(item(order))).collect()).unwrap();
        outbox.write(vec![Persist::Remove(item(2).client_id)]).unwrap();
        drop(outbox);
        assert_eq!(OutboxFile::open(folder.path()).unwrap().items(), [item(1), item(3)]);
    }

    #[test]
    fn two_processes_never_share_a_file_and_the_second_adopts_what_the_first_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = OutboxFile::open(folder.path()).unwrap();
        first.write(vec![Persist::Put(item(1))]).unwrap();
        let mut second = OutboxFile::open(folder.path()).unwrap();
        assert_eq!(second.items(), [], "the first one still lives, so its posts are its own");
        second.write(vec![Persist::Put(item(2))]).unwrap();
        drop((first, second));
        let third = OutboxFile::open(folder.path()).unwrap();
        assert_eq!(third.items(), [item(1), item(2)]);
        drop(third);
        assert_eq!(OutboxFile::open(folder.path()).unwrap().items(), [item(1), item(2)], "adopted once");
    }

    #[test]
    fn half_a_line_is_forgotten_and_everything_before_it_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = OutboxFile::open(folder.path()).unwrap();
        outbox.write(vec![Persist::Put(item(1))]).unwrap();
        drop(outbox);
        let path = folder.path().join("0.jsonl");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [whole.as_slice(), &whole[..whole.len() / 2]].concat()).unwrap();
        let mut outbox = OutboxFile::open(folder.path()).unwrap();
        assert_eq!(outbox.items(), [item(1)]);
        outbox.write(vec![Persist::Put(item(2))]).unwrap();
        drop(outbox);
        assert_eq!(OutboxFile::open(folder.path()).unwrap().items(), [item(1), item(2)]);
    }

    #[test]
    fn a_line_that_lacks_only_its_end_costs_neither_itself_nor_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = OutboxFile::open(folder.path()).unwrap();
        outbox.write(vec![Persist::Put(item(1))]).unwrap();
        drop(outbox);
        let path = folder.path().join("0.jsonl");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let mut outbox = OutboxFile::open(folder.path()).unwrap();
        outbox.write(vec![Persist::Put(item(2))]).unwrap();
        drop(outbox);
        assert_eq!(OutboxFile::open(folder.path()).unwrap().items(), [item(1), item(2)]);
    }

    #[test]
    fn a_line_this_version_cannot_read_stays_until_it_is_discarded() {
        let folder = tempfile::tempdir().unwrap();
        let newer = b"{\"put_later\":{\"op\":\"poll\"}}\n";
        for slot in [0, 1] {
            fs::write(folder.path().join(format!("{slot}.jsonl")), newer).unwrap();
        }
        for order in 1..=2 {
            let mut outbox = OutboxFile::open(folder.path()).unwrap();
            assert_eq!((outbox.unread(), outbox.items().len()), (2, 0));
            // Also where the file is written anew.
            for _ in 0..=SPARE_LINES {
                outbox.write(vec![Persist::Put(item(order))]).unwrap();
            }
            outbox.write(vec![Persist::Remove(item(order).client_id)]).unwrap();
        }
        let text = fs::read(folder.path().join("0.jsonl")).unwrap();
        assert_eq!(text.windows(newer.len()).filter(|window| window == newer).count(), 2);
        let mut outbox = OutboxFile::open(folder.path()).unwrap();
        outbox.discard_unread();
        outbox.write(Vec::new()).unwrap();
        drop(outbox);
        assert_eq!(OutboxFile::open(folder.path()).unwrap().unread(), 0);
    }

    #[test]
    fn what_running_processes_hold_is_counted_without_what_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = OutboxFile::open(folder.path()).unwrap();
        first.write((1..=3).map(|order| Persist::Put(item(order))).collect()).unwrap();
        first.write(vec![Persist::Remove(item(2).client_id)]).unwrap();
        assert_eq!(OutboxFile::open(folder.path()).unwrap().elsewhere(), [item(1), item(3)]);
        drop(first);
        assert_eq!(OutboxFile::open(folder.path()).unwrap().elsewhere(), []);
    }

    #[test]
    fn the_file_does_not_grow_with_what_has_been_sent() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = OutboxFile::open(folder.path()).unwrap();
        for order in 0..600 {
            outbox.write(vec![Persist::Put(item(order))]).unwrap();
            outbox.write(vec![Persist::Remove(item(order).client_id)]).unwrap();
        }
        let bytes = fs::metadata(folder.path().join("0.jsonl")).unwrap().len();
        assert!(bytes < 100_000, "{bytes} bytes for nothing unsent");
    }
}
