//! A control group: how much processor and memory a server gets.
//!
//! Must not live here: tests. Invariant: the group is gone with the value, and holds nothing but what was started in it.
//! Needs root. Both forms that Linux has are known: one hierarchy for each controller, and one for all.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where Linux shows control groups.
const ROOT: &str = "/sys/fs/cgroup";
/// Over which a share of the processor is given out, in microseconds.
const PERIOD_US: u64 = 100_000;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// Time on a processor.
    Cpu,
    /// Memory.
    Memory,
}

impl Controller {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

/// The group.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    is_unified: bool,
}

impl Cgroup {
    /// Makes a group without limits.
    ///
    /// # Panics
    /// Where this process may not.
    #[must_use]
    pub fn make(controller: Controller) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let is_unified = Path::new(ROOT).join("cgroup.controllers").is_file();
        let parent = if is_unified { PathBuf::from(ROOT) } else { Path::new(ROOT).join(controller.name()) };
        if is_unified {
            // May be on already, or be refused; then the group has no limits to write, which is told below.
            std::fs::write(parent.join("cgroup.subtree_control"), format!("+{}", controller.name())).ok();
        }
        let name = format!("holdfast-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}. Run this as root", path.display()));
        Self { path, is_unified }
    }

    /// Returns the start of a command line whose process is in the group.
    #[must_use]
    pub fn wrapper(&self) -> Vec<String> {
        let enter = format!("echo $$ > '{}' && exec \"$@\"", self.path.join("cgroup.procs").display());
        ["sh", "-c", &enter, "sh"].map(str::to_owned).into()
    }

    /// Gives the group this share of one processor.
    pub fn limit_cpu(&self, percent: u64) {
        let quota = PERIOD_US * percent / 100;
        if self.is_unified {
            self.write("cpu.max", &format!("{quota} {PERIOD_US}"));
        } else {
            self.write("cpu.cfs_period_us", &PERIOD_US.to_string());
            self.write("cpu.cfs_quota_us", &quota.to_string());
        }
    }

    /// Says how often the group was made to wait because its share was used up.
    ///
    /// # Panics
    /// If the kernel does not tell.
    #[must_use]
    pub fn times_held_back(&self) -> u64 {
        let stat = std::fs::read_to_string(self.path.join("cpu.stat")).expect("the group's statistics");
        let count = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("no count in {stat:?}"))
    }

    /// Gives the group no more than this much memory beyond what it has, swap included.
    ///
    /// # Panics
    /// If the kernel does not take it.
    pub fn limit_growth(&self, bytes: u64) {
        let (usage, limit) = if self.is_unified {
            ("memory.current", "memory.max")
        } else {
            ("memory.usage_in_bytes", "memory.limit_in_bytes")
        };
        let used = std::fs::read_to_string(self.path.join(usage)).expect("the group's usage");
        let used: u64 = used.trim().parse().expect("a number of bytes");
        self.write(limit, &(used + bytes).to_string());
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path.join(file);
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{text} to {}: {error}", path.display()));
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Refused while a process is in it; then the kernel keeps an empty folder, which harms nobody.
        std::fs::remove_dir(&self.path).ok();
    }
}
