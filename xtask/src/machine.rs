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

/// Debian's names of what the end-to-end tests need: a browser, a font with Chinese, system call faults.
const DEBIAN_PACKAGES: [&str; 3] = ["chromium", "fonts-noto-cjk", "strace"];

/// Finds a Chromium, a font with Chinese characters and strace; on Debian as root it installs what is missing.
///
/// # Errors
/// Something is missing and could not be installed; the words say what to install.
pub(crate) fn browser() -> Outcome<PathBuf> {
    let mut missing = missing_packages();
    if !missing.is_empty() && is_debian() && is_root() {
        announce(&format!("Installing {}", missing.join(", ")));
        let apt =
            |arguments: &[&str]| run(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"));
        apt(&["update", "--quiet"])?;
        let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
        arguments.extend(&missing);
        apt(&arguments)?;
        missing = missing_packages();
    }
    match (missing.is_empty(), chromium()) {
        (true, Some(path)) => Ok(path),
        _ => fail(format!(
            "the end-to-end tests need {}. Install:\n\n    {}",
            missing.join(", "),
            install_words(&missing)
        )),
    }
}

/// Which of the packages are not there, by what they bring.
fn missing_packages() -> Vec<&'static str> {
    DEBIAN_PACKAGES
        .into_iter()
        .filter(|package| match *package {
            "chromium" => chromium().is_none(),
            "fonts-noto-cjk" => cfg!(target_os = "linux") && !has_chinese_font(),
            _ => cfg!(target_os = "linux") && find(package).is_none(),
        })
        .collect()
}

fn install_words(missing: &[&str]) -> String {
    if cfg!(target_os = "macos") {
        "brew install --cask chromium    (or set HOLDFAST_CHROMIUM to the browser's binary)".to_owned()
    } else if is_debian() {
        format!("sudo apt-get install --yes {}", missing.join(" "))
    } else {
        format!(
            "Chromium or Google Chrome (or set HOLDFAST_CHROMIUM to its binary), a font with Chinese characters \
             (Noto Sans CJK), strace\n    Fedora: sudo dnf install chromium google-noto-sans-cjk-fonts strace\n    \
             Arch: sudo pacman -S chromium noto-fonts-cjk strace\n\nmissing here: {}",
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

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
