//! A wall clock that jumps while the server runs, by libfaketime.
//!
//! Must not live here: tests. Invariant: only the wall clock is touched; the clock that waits are measured with is the
//! machine's own.

use std::path::{Path, PathBuf};

/// Where distributions put the library.
const LIBRARIES: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
];

/// The clock of one server.
#[derive(Debug)]
pub struct WallClock {
    folder: tempfile::TempDir,
}

impl WallClock {
    /// Makes one that shows the machine's time.
    ///
    /// # Panics
    /// If there is no temporary folder.
    #[must_use]
    pub fn new() -> Self {
        let clock = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        clock.shift_hours(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("shift")
    }

    /// Moves it this far from the machine's time.
    ///
    /// # Panics
    /// If the shift cannot be written.
    pub fn shift_hours(&self, hours: i32) {
        // Replaced as a whole, so that nobody reads half of it.
        let fresh = self.folder.path().join("fresh");
        std::fs::write(&fresh, format!("{hours:+}h\n")).expect("a file");
        std::fs::rename(&fresh, self.file()).expect("the same folder");
    }

    /// Returns the start of a command line whose process goes by this clock.
    ///
    /// # Panics
    /// If libfaketime is not installed.
    #[must_use]
    pub fn wrapper(&self) -> Vec<String> {
        let library = LIBRARIES.into_iter().find(|path| Path::new(path).is_file());
        let library = library.expect("this test moves the clock with libfaketime: `apt-get install libfaketime`");
        [
            "env".to_owned(),
            format!("LD_PRELOAD={library}"),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file().display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "DONT_FAKE_MONOTONIC=1".to_owned(),
        ]
        .into()
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}
