//! The head record: the last committed change of the whole log, in a file beside the database.
//!
//! SQLite cannot tell a write-ahead log that lost its end from one that was always shorter; this can. Must not live here:
//! what follows from a mismatch. Invariant: the head is written after the commit it names, so it is never ahead of a
//! whole database, and a head that is ahead proves a loss.
//!
//! Two slots are written in turn, so that a write torn by a power cut leaves the one before.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use shared::cursor::Check;
use shared::ids::{Epoch, Lsn};

const SLOT_BYTES: usize = 128;
const SLOTS: usize = 2;
const FORM: &str = "holdfast-head 1";

/// What the head record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Which log.
    pub(super) epoch: Epoch,
    /// The last change.
    pub(super) lsn: Lsn,
    /// The chain of the whole log there.
    pub(super) check: Check,
}

impl Head {
    fn line(&self) -> String {
        let said = format!("{FORM} {} {:020} {}", self.epoch, self.lsn.0, self.check);
        let seal = seal(&said);
        let line = format!("{said} {seal}");
        format!("{line:<width$}\n", width = SLOT_BYTES - 1)
    }

    fn parse(slot: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(slot).ok()?.trim_end();
        let (said, sealed) = line.rsplit_once(' ')?;
        if sealed != seal(said).to_string() {
            return None;
        }
        let mut words = said.strip_prefix(FORM)?.split_whitespace();
        let epoch = words.next()?.parse().ok()?;
        let lsn = Lsn(words.next()?.parse().ok()?);
        let check = serde_json::from_value(words.next()?.into()).ok()?;
        Some(Self { epoch, lsn, check })
    }
}

fn seal(said: &str) -> Check {
    let hash = Sha256::digest(said.as_bytes());
    let mut seal = [0; 8];
    seal.copy_from_slice(&hash[..8]);
    Check(seal)
}

/// Reads the head record. `Ok(None)` if there is no such file, or one that nothing was written to: a first start that was
/// cut short leaves it empty, or as zeros where the power failed.
///
/// # Errors
/// As the file system says; a file with no readable slot is [`std::io::ErrorKind::InvalidData`].
pub(super) fn read(path: &Path) -> std::io::Result<Option<Head>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take((SLOT_BYTES * SLOTS) as u64).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let newest = bytes.chunks(SLOT_BYTES).filter_map(Head::parse).max_by_key(|head| head.lsn);
    newest.map(Some).ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "no slot of it can be read"))
}

/// Writes the head record, and has it synced off the writer's path.
pub(super) struct HeadFile {
    file: File,
    slot: usize,
    dirty: Option<SyncSender<()>>,
    syncer: Option<JoinHandle<()>>,
}

impl HeadFile {
    /// Makes the file say `head`, in both slots, synced; then starts the thread that keeps it synced.
    ///
    /// # Errors
    /// As the file system says.
    pub(super) fn create(path: &Path, head: Head, sync_every: Duration) -> std::io::Result<Self> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        file.write_all(head.line().repeat(SLOTS).as_bytes())?;
        file.set_len((SLOT_BYTES * SLOTS) as u64)?;
        file.sync_all()?;
        let synced = file.try_clone()?;
        // One waiting hint says as much as many.
        let (dirty, hints) = sync_channel(1);
        let syncer = std::thread::Builder::new()
            .name("log-head".to_owned())
            .spawn(move || keep_synced(&synced, &hints, sync_every))?;
        Ok(Self { file, slot: 0, dirty: Some(dirty), syncer: Some(syncer) })
    }

    /// Writes the head. It is synced within about the interval given to [`HeadFile::create`].
    ///
    /// # Errors
    /// As the file system says. The head then stays behind, which is safe: it guards less, and never falsely.
    pub(super) fn write(&mut self, head: Head) -> std::io::Result<()> {
        write_at(&mut self.file, head.line().as_bytes(), (self.slot * SLOT_BYTES) as u64)?;
        self.slot = (self.slot + 1) % SLOTS;
        if let Some(dirty) = &self.dirty {
            match dirty.try_send(()) {
                Ok(()) | Err(TrySendError::Full(())) => {}
                Err(TrySendError::Disconnected(())) => {
                    return Err(std::io::Error::other("the head record is no longer synced"));
                }
            }
        }
        Ok(())
    }
}

impl Drop for HeadFile {
    fn drop(&mut self) {
        // Dropping the sender ends the thread after a last sync.
        self.dirty = None;
        if let Some(syncer) = self.syncer.take()
            && syncer.join().is_err()
        {
            tracing::error!("the thread that syncs the head record panicked");
        }
    }
}

/// Writes all of it at a place, in one call where the system has one.
#[cfg(unix)]
fn write_at(file: &mut File, bytes: &[u8], place: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, place)
}

#[cfg(not(unix))]
fn write_at(file: &mut File, bytes: &[u8], place: u64) -> std::io::Result<()> {
    use std::io::{Seek as _, SeekFrom};
    file.seek(SeekFrom::Start(place))?;
    file.write_all(bytes)
}

fn keep_synced(file: &File, hints: &Receiver<()>, every: Duration) {
    // A hint that waits when the writer ends is still received.
    while hints.recv().is_ok() {
        if let Err(error) = file.sync_data() {
            tracing::error!(error = %error, "the head record could not be synced; the newest changes are unguarded");
            return;
        }
        std::thread::sleep(every);
    }
}
