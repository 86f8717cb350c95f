//! What the machine must have, and the exact words when it has not.
//!
//! Lives here: one function per prerequisite, which finds it, gets it where that is safe, or names the command that
//! does. Must not live here: the commands that need them. Invariant: no prerequisite is skipped; what cannot be had
//! ends the command.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Outcome, fail};
use crate::process::{announce, read, root, run};

/// What the page is compiled for.
pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// Makes sure that the toolchain can compile for the browser.
///
/// # Errors
/// The target is missing and could not be added.
pub(crate) fn wasm_target() -> Outcome {
    let sysroot = read(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root()))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(WASM_TARGET).join("lib").is_dir() {
        return Ok(());
    }
    announce(&format!("Adding the target {WASM_TARGET} to the toolchain"));
    let added = run(Command::new("rustup").args(["target", "add", WASM_TARGET]).current_dir(root()));
    if added.is_err() {
        return fail(format!(
            "the Rust toolchain cannot compile for the browser yet, and adding that failed. With a connection to \
             static.rust-lang.org run\n\n    rustup target add {WASM_TARGET}\n\nin this folder; without rustup, \
             install your system's package for that target (Debian: libstd-rust-dev-wasm32)."
        ));
    }
    Ok(())
}

/// Makes sure that a C compiler is there: SQLite is compiled in.
///
/// # Errors
/// There is none.
pub(crate) fn c_compiler() -> Outcome {
    if cfg!(windows) {
        // The toolchain's own linker already needs Visual Studio's tools there.
        return Ok(());
    }
    let named = std::env::var("CC").ok();
    let tried = named.as_deref().unwrap_or("cc");
    if answers(tried, "--version") {
        return Ok(());
    }
    let mend =
        if cfg!(target_os = "macos") { "xcode-select --install" } else { "sudo apt-get install -y gcc libc6-dev" };
    let elsewhere = if cfg!(target_os = "linux") {
        "\n\n(Fedora: sudo dnf install gcc · Alpine: apk add build-base · Arch: sudo pacman -S gcc)"
    } else {
        ""
    };
    fail(format!(
        "no C compiler: `{tried}` cannot be run, and SQLite is compiled into the server. Run\n\n    {mend}{elsewhere}"
    ))
}

/// Whether a program can be run at all.
pub(crate) fn answers(program: &str, argument: &str) -> bool {
    Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Where a program lies, looked for as the shell does.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Debian's names of what a real browser needs: itself, and a font with Chinese.
const BROWSER_PACKAGES: [&str; 2] = ["chromium", "fonts-noto-cjk"];
/// Debian's names of what real faults need: of system calls, of links, of the clock, of disks.
const FAULT_PACKAGES: [&str; 5] = ["strace", "nftables", "iproute2", "libfaketime", "e2fsprogs"];
/// Debian's names of what counts instructions and system calls.
const COUNTING_PACKAGES: [&str; 2] = ["valgrind", "strace"];

/// Finds a Chromium and a font with Chinese characters; on Debian as root it installs what is missing.
///
/// # Errors
/// Something is missing and could not be installed; the words say what to install.
pub(crate) fn browser() -> Outcome<PathBuf> {
    packages(&BROWSER_PACKAGES)?;
    match chromium() {
        Some(path) => Ok(path),
        None => fail("there is no Chromium, although its package is installed; set HOLDFAST_CHROMIUM to its binary"),
    }
}

/// Finds the programs that faults are caused with; on Debian as root it installs what is missing.
///
/// # Errors
/// Something is missing and could not be installed; the words say what to install.
pub(crate) fn fault_tools() -> Outcome {
    packages(&FAULT_PACKAGES)
}

/// Finds the programs that instructions and system calls are counted with; on Debian as root it installs what is missing.
///
/// # Errors
/// Something is missing and could not be installed; the words say what to install.
pub(crate) fn counting_tools() -> Outcome {
    packages(&COUNTING_PACKAGES)
}

fn packages(wanted: &[&'static str]) -> Outcome {
    let missing = |packages: &[&'static str]| -> Vec<&'static str> {
        packages.iter().copied().filter(|package| !has_package(package)).collect()
    };
    let mut lacking = missing(wanted);
    if !lacking.is_empty() && is_debian() && is_root() {
        announce(&format!("Installing {}", lacking.join(", ")));
        let apt =
            |arguments: &[&str]| run(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"));
        apt(&["update", "--quiet"])?;
        let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
        arguments.extend(&lacking);
        apt(&arguments)?;
        lacking = missing(&lacking);
    }
    if lacking.is_empty() {
        return Ok(());
    }
    fail(format!("the tests need {}. Install:\n\n    {}", lacking.join(", "), install_words(&lacking)))
}

/// Whether a package is there, by what it brings. What only Linux has is asked for on Linux alone.
fn has_package(package: &str) -> bool {
    let programs: &[&str] = match package {
        "chromium" => return chromium().is_some(),
        _ if cfg!(not(target_os = "linux")) => return true,
        "fonts-noto-cjk" => return has_chinese_font(),
        "libfaketime" => return FAKETIME_PATHS.iter().any(|path| Path::new(path).is_file()),
        "nftables" => &["nft"],
        "iproute2" => &["ip", "tc", "ss"],
        "e2fsprogs" => &["mkfs.ext4"],
        other => &[other],
    };
    programs.iter().all(|program| find_administrative(program).is_some())
}

/// Where distributions put libfaketime. `e2e/src/clock.rs` looks at the same places.
const FAKETIME_PATHS: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
];

/// As [`find`], and where only administrators look.
fn find_administrative(program: &str) -> Option<PathBuf> {
    let also = ["/usr/sbin", "/sbin"].into_iter().map(|folder| Path::new(folder).join(program));
    find(program).or_else(|| also.into_iter().find(|file| file.is_file()))
}

fn install_words(missing: &[&str]) -> String {
    if cfg!(target_os = "macos") {
        "brew install --cask chromium    (or set HOLDFAST_CHROMIUM to the browser's binary)".to_owned()
    } else if is_debian() {
        format!("sudo apt-get install --yes {}", missing.join(" "))
    } else {
        format!(
            "Chromium or Google Chrome (or set HOLDFAST_CHROMIUM to its binary), a font with Chinese characters \
             (Noto Sans CJK), strace, valgrind, nftables, iproute2, libfaketime, e2fsprogs\n    Fedora: sudo dnf \
             install chromium google-noto-sans-cjk-fonts strace valgrind nftables iproute iproute-tc libfaketime \
             e2fsprogs\n    Arch: sudo pacman -S chromium noto-fonts-cjk strace valgrind nftables iproute2 \
             libfaketime e2fsprogs\n\n\
             missing here: {}",
            missing.join(", ")
        )
    }
}

/// The browser: `HOLDFAST_CHROMIUM`, or the first on the PATH.
fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("HOLDFAST_CHROMIUM").map(PathBuf::from) {
        return named.is_file().then_some(named);
    }
    let mac = Path::new("/Applications/Chromium.app/Contents/MacOS/Chromium");
    ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"]
        .into_iter()
        .find_map(find)
        .or_else(|| mac.is_file().then(|| mac.to_path_buf()))
}

fn has_chinese_font() -> bool {
    Command::new("fc-list")
        .args([":lang=zh-cn", "family"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
}

/// Debian itself: Ubuntu's chromium is a snap, which does not start everywhere.
fn is_debian() -> bool {
    std::fs::read_to_string("/etc/os-release").is_ok_and(|text| text.lines().any(|line| line == "ID=debian"))
}

/// Whether this runs as root, as namespaces, mounts and control groups need.
pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
