//! Starting other programs and telling what they did.
//!
//! Lives here: the workspace's paths and the ways to start a program. Must not live here: which programs a command
//! needs ([`crate::machine`]). Invariant: a program that fails becomes a [`crate::error::Failure`] that shows its
//! command line.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Context, Outcome, fail};

/// The workspace's root, where index.html lives.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lives in a folder of the workspace").to_path_buf()
}

/// Where cargo puts what it builds; `CARGO_TARGET_DIR` is honoured.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The file name of a program on this system.
pub(crate) fn binary(name: &str) -> String {
    format!("{name}{}", std::env::consts::EXE_SUFFIX)
}

/// A cargo command in the workspace's root, of the same toolchain as this one.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// The command line as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs to the end, its output to the terminal, its input closed.
///
/// # Errors
/// The program could not be started or did not succeed.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let status = command.stdin(Stdio::null()).status().context(format!("start `{}`", shown(command)))?;
    if status.success() { Ok(()) } else { fail(format!("`{}` failed ({status})", shown(command))) }
}

/// Runs to the end and returns what it wrote to stdout; stderr goes to the terminal.
///
/// # Errors
/// The program could not be started or did not succeed.
pub(crate) fn read(command: &mut Command) -> Outcome<String> {
    let line = shown(command);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context(format!("start `{line}`"))?;
    if !output.status.success() {
        return fail(format!("`{line}` failed ({})", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Says which step begins, so that no wait is silent.
pub(crate) fn announce(words: &str) {
    eprintln!("\n▸ {words}");
}

/// How often a running program is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How often the last line of a running program is shown.
const SHOW_INTERVAL: Duration = Duration::from_secs(30);

/// Runs to the end with both outputs in `log`, and shows the log's last line now and then. Returns whether it
/// succeeded.
///
/// # Errors
/// The program could not be started, its log not be written, or `limit` passed; then it has been ended.
pub(crate) fn run_logged(command: &mut Command, log: &Path, limit: Duration) -> Outcome<bool> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).context(format!("create {}", folder.display()))?;
    }
    let file = File::create(log).context(format!("create {}", log.display()))?;
    let copy = file.try_clone().context("share the log")?;
    let line = shown(command);
    let mut child =
        command.stdin(Stdio::null()).stdout(file).stderr(copy).spawn().context(format!("start `{line}`"))?;
    let begun = Instant::now();
    let mut told = begun;
    loop {
        if let Some(status) = child.try_wait().context(format!("wait for `{line}`"))? {
            return Ok(status.success());
        }
        if begun.elapsed() > limit {
            child.kill().context(format!("end `{line}`"))?;
            child.wait().context(format!("wait for `{line}`"))?;
            return fail(format!("`{line}` took longer than {} s; see {}", limit.as_secs(), log.display()));
        }
        if told.elapsed() > SHOW_INTERVAL {
            told = Instant::now();
            let text = fs::read(log).unwrap_or_default();
            if let Some(last) = String::from_utf8_lossy(&text).lines().last() {
                eprintln!("  {last}");
            }
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
