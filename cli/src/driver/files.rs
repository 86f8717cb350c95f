//! Files that are replaced as a whole, and names that last.
//!
//! Must not live here: what is in a file. Invariant: whoever reads a file finds the old content or the new, also after a
//! power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces a file as a whole; only its owner may read it from the first byte on.
///
/// # Errors
/// What the system says; then the old content stays.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Behind the whole name, so that no two files have one between them.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&new).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    });
    if written.is_err() {
        // What was begun must not gather on a disk that is full.
        let _ = fs::remove_file(&new);
    }
    written.and_then(|()| sync_folder(path))
}

/// Makes a new name last: it is in the folder, and the folder has its own `fsync`.
///
/// # Errors
/// What the system says.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder)?.sync_all()
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_whose_names_differ_only_in_the_end_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let paths =
            ["pl", "pl.a", "pl.new", &format!("pl.new-{}", std::process::id())].map(|name| folder.path().join(name));
        for path in &paths {
            write(path, path.to_str().unwrap().as_bytes()).unwrap();
        }
        for path in &paths {
            assert_eq!(fs::read(path).unwrap(), path.to_str().unwrap().as_bytes());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), paths.len(), "nothing else is left");
    }
}
