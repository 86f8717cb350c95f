//! What an end without a goodbye left in the write-ahead log.
//!
//! Must not live here: what is in it, which is SQLite's. Invariant: what SQLite reads there when the log is opened is on the
//! disk, not only in the kernel's memory.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// Bytes that are written again at once.
const CHUNK: usize = 64 * 1024;

/// Writes a write-ahead log over itself, byte for byte, and syncs it. One that is empty or not there stays so.
///
/// A process that was killed between writing a record and syncing it has left it to the kernel, which writes it when it
/// likes. After a sync that failed it never does: it takes the pages for written, keeps showing them to whoever reads, and
/// later syncs succeed without them. SQLite reads such a record as committed all the same, so whoever asks for it again is
/// told that it is stored; and in a power cut it would take everything with it that was appended behind it since.
///
/// A power cut in the middle of this finds each byte as it was on the disk or as it was in memory, so nothing is lost by it.
///
/// # Errors
/// As the file system says. The log must not be opened then.
pub(super) fn write_again(path: &Path) -> std::io::Result<()> {
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let bytes = write_over(&mut file)?;
    if bytes > 0 {
        file.sync_all()?;
        tracing::info!(bytes, "the server had not ended in good order: its newest changes were synced once more");
    }
    Ok(())
}

/// Returns how many bytes there are.
fn write_over(file: &mut File) -> std::io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut place = 0;
    loop {
        file.seek(SeekFrom::Start(place))?;
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(place);
        }
        file.seek(SeekFrom::Start(place))?;
        file.write_all(&chunk[..read])?;
        place += read as u64;
    }
}
