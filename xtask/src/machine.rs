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
