//! A disk of its own whose power can fail: an ext4 file system in a file, mounted where only its own processes see it.
//!
//! Must not live here: databases. Invariant: after [`Disk::fail`] only what was written to the device is there, which
//! holds everything that was synced; what the kernel had promised to write later is gone. Needs root.
//!
//! The copy is taken while the writers stand still, so a sync that was under way has ended: a cut in the middle of one
//! sync is not shown by this.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use crate::holder::{Holder, Space};

/// How large the disk is.
const SIZE: &str = "64M";
/// The file system writes by itself as late as it can be told, so that what is not synced is lost.
const MOUNT_OPTIONS: &str = "loop,commit=300";

/// A thin disk, its size in MiB, and the memory that holds it: small, to be filled quickly.
const THIN_MIB: &str = "48";
const THIN_MEMORY: &str = "size=110m";
/// The file system goes on when the device refused data, and leaves it to whoever wrote them, as others do.
const THIN_MOUNT_OPTIONS: &str = "commit=300,data_err=ignore,errors=continue";

/// The disk, while it has power.
#[derive(Debug)]
pub struct Disk {
    holder: Holder,
    folder: Rc<tempfile::TempDir>,
    image: PathBuf,
    number: u32,
}

impl Disk {
    /// Makes an empty one.
    ///
    /// # Panics
    /// Where it may not: it needs root, loop devices and `mkfs.ext4`.
    #[must_use]
    pub fn format() -> Self {
        let folder = Rc::new(tempfile::tempdir().expect("a temporary folder"));
        std::fs::create_dir(folder.path().join("disk")).expect("a folder");
        let image = folder.path().join("image-0");
        run(&["truncate", "--size", SIZE, &text(&image)]);
        run(&["mkfs.ext4", "-q", "-F", &text(&image)]);
        Self::mount(folder, image, 0)
    }

    /// Makes an empty one that has promised more room than there is: [`Disk::starve`] takes what it still needs, and then the
    /// device refuses whatever is written where nothing was, until [`Disk::feed`].
    ///
    /// # Panics
    /// As [`Disk::format`].
    #[must_use]
    pub fn format_thin() -> Self {
        let folder = Rc::new(tempfile::tempdir().expect("a temporary folder"));
        for name in ["disk", "memory"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let image = folder.path().join("memory/image-0");
        let disk = Self { holder: Holder::start(Space::Mount), folder, image, number: 0 };
        let memory = text(&disk.memory());
        disk.holder.run(&["mount", "-t", "tmpfs", "-o", THIN_MEMORY, "none", &memory]);
        // Blocks of a page, written one at a time: of a larger write that fails half-way, a loop device says that it went
        // well. The file system's own blocks have their room, so that it is only data that is refused.
        let script = "set -e; cd \"$1\"; dd if=/dev/zero of=sparse bs=1M count=$3 status=none; \
                      mkfs.ext4 -q -b 4096 -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 sparse; \
                      cp --sparse=never sparse image-0; rm sparse; device=$(losetup --find --show image-0); \
                      echo 4 > /sys/block/${device#/dev/}/queue/max_sectors_kb; mount -o \"$4\" $device \"$2\"; \
                      losetup --detach $device";
        disk.holder.run(&["sh", "-c", script, "sh", &memory, &text(&disk.root()), THIN_MIB, THIN_MOUNT_OPTIONS]);
        disk
    }

    /// Where the device of a thin disk is kept, and what takes its room.
    fn memory(&self) -> PathBuf {
        self.folder.path().join("memory")
    }

    /// Takes the room that a thin disk has promised and not needed yet.
    ///
    /// # Panics
    /// If there is still room then, or the disk is no thin one.
    pub fn starve(&self) {
        let script = "sync --file-system \"$1\" && fstrim \"$1\" && ! cat /dev/zero > \"$2\"/filler";
        self.holder.run(&["sh", "-c", script, "sh", &text(&self.root()), &text(&self.memory())]);
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// If it was not taken.
    pub fn feed(&self) {
        self.holder.run(&["rm", &text(&self.memory().join("filler"))]);
    }

    fn mount(folder: Rc<tempfile::TempDir>, image: PathBuf, number: u32) -> Self {
        let disk = Self { holder: Holder::start(Space::Mount), folder, image, number };
        disk.holder.run(&["mount", "-o", MOUNT_OPTIONS, &text(&disk.image), &text(&disk.root())]);
        disk
    }

    /// Returns the folder it is mounted at, as its own processes see it. The same after a power cut.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Returns the start of a command line whose process sees the disk.
    #[must_use]
    pub fn wrapper(&self) -> Vec<String> {
        self.holder.wrapper()
    }

    /// Runs a program that sees the disk.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, line: &[&str]) -> String {
        self.holder.run(line)
    }

    /// Takes the power away: what the device holds now is all that will be there. Every writer must stand still.
    ///
    /// # Panics
    /// If the device cannot be copied.
    #[must_use]
    pub fn fail(&self) -> DeadDisk {
        let number = self.number + 1;
        let image = self.folder.path().join(format!("image-{number}"));
        self.holder.run(&["cp", "--sparse=always", &text(&self.image), &text(&image)]);
        DeadDisk { folder: Rc::clone(&self.folder), image, number }
    }

    /// Copies a folder of the disk to where everybody sees it.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn salvage(&self, path: &Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().expect("a temporary folder");
        for entry in std::fs::read_dir(self.holder.seen(path)).expect("a folder on the disk") {
            let file = entry.expect("an entry").path();
            if file.is_file() {
                std::fs::copy(&file, copy.path().join(file.file_name().expect("a name"))).expect("a copy");
            }
        }
        copy
    }
}

/// The disk, after its power failed.
#[derive(Debug)]
pub struct DeadDisk {
    folder: Rc<tempfile::TempDir>,
    image: PathBuf,
    number: u32,
}

impl DeadDisk {
    /// Brings the power back.
    ///
    /// # Panics
    /// If the file system cannot be mounted.
    #[must_use]
    pub fn revive(self) -> Disk {
        Disk::mount(self.folder, self.image, self.number)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The last image goes with the folder; the earlier ones would only pile up.
        std::fs::remove_file(&self.image).ok();
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a temporary folder has a plain name").to_owned()
}

fn run(line: &[&str]) {
    let output = Command::new(line[0]).args(&line[1..]).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{} (e2fsprogs, coreutils): {error}", line[0]));
    assert!(output.status.success(), "{line:?} failed: {}", String::from_utf8_lossy(&output.stderr));
}
