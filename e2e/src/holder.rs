//! A process that does nothing but keep namespaces of its own alive, and the ways into them.
//!
//! Must not live here: what is set up in a namespace. Invariant: whatever lies in the namespaces goes with the holder,
//! and the holder with the test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::server::{die_with_parent, spawn};
use crate::wait;

/// How long making namespaces may take.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// No test takes longer.
const SLEEP_SECONDS: &str = "14400";

/// Which namespace is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Devices, addresses, rules.
    Network,
    /// What is mounted.
    Mount,
}

impl Space {
    fn option(self) -> &'static str {
        match self {
            Self::Network => "--net",
            Self::Mount => "--mount",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Network => "net",
            Self::Mount => "mnt",
        }
    }
}

/// The process.
#[derive(Debug)]
pub struct Holder {
    child: Child,
    space: Space,
}

impl Holder {
    /// Makes a namespace.
    ///
    /// # Panics
    /// Where this process may not: it needs root.
    #[must_use]
    pub fn start(space: Space) -> Self {
        let mut line = die_with_parent();
        line.extend(["unshare", space.option(), "--", "sleep", SLEEP_SECONDS].map(str::to_owned));
        let (program, arguments) = line.split_first().expect("a program");
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = spawn(command).expect("`unshare` is there (util-linux)");
        let mut holder = Self { child, space };
        let ours = std::fs::read_link(format!("/proc/self/ns/{}", space.file())).expect("a namespace of our own");
        wait::until("a namespace is made", START_DEADLINE, || {
            let ended = holder.child.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "no namespace could be made. Run this as root, outside of a sealed container");
            std::fs::read_link(holder.path()).is_ok_and(|theirs| theirs != ours).then_some(())
        });
        holder
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/{}", self.child.id(), self.space.file()).into()
    }

    /// Returns the namespace itself, for threads that enter it.
    ///
    /// # Panics
    /// If the holder is gone.
    #[must_use]
    pub fn open(&self) -> File {
        File::open(self.path()).expect("the holder lives")
    }

    /// Returns a path in the namespace as it is seen from here. A program that follows links by itself must not be given
    /// it: to such a one the root of another namespace looks like its own.
    #[must_use]
    pub fn seen(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.child.id())).join(inside)
    }

    /// Returns the start of a command line that runs inside.
    #[must_use]
    pub fn wrapper(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("{}={}", self.space.option(), self.path().display()), "--".to_owned()]
    }

    /// Runs a program inside and returns what it wrote to stdout.
    ///
    /// # Panics
    /// If it fails; with its words.
    pub fn run(&self, line: &[&str]) -> String {
        let wrapper = self.wrapper();
        let output = Command::new(&wrapper[0]).args(&wrapper[1..]).args(line).stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("nsenter (util-linux): {error}"));
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line:?} failed: {words}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
