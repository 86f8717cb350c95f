//! `cargo xtask soak`: the release server among people who come and go, for an hour; what it holds, minute by minute.
//!
//! Must not live here: the people, or what may grow (`e2e/tests/soak.rs`). Invariant: figures are shown whether the
//! judgement over them is good or not.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::error::{Context, Outcome, fail};
use crate::faults::FIGURE;
use crate::machine;
use crate::process::{announce, binary, cargo, run as run_program, run_logged, target};
use crate::test::suites::{self, Suites};

/// The file of e2e/tests that does it.
const FILE: &str = "soak";
/// What making ready, going home and the judgement may take beyond the time asked for.
const ASIDE: Duration = Duration::from_secs(15 * 60);

/// What `cargo xtask soak` can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// How long the people come and go.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    if !cfg!(target_os = "linux") {
        return fail("what a process holds is read from /proc. Run this on Linux");
    }
    machine::c_compiler()?;
    campaign(FILE, options.minutes, "minutes of coming and going", &[])
}

/// Runs a file of e2e/tests against the release server for so many minutes, and shows its figures.
///
/// # Errors
/// Something does not build, or what was measured was judged to be bad.
pub(crate) fn campaign(file: &'static str, minutes: u64, of: &str, more: &[(&str, &Path)]) -> Outcome<ExitCode> {
    announce("Building the server, as it is released");
    run_program(&mut cargo(&["build", "--release", "--locked", "--package", "server"]))?;
    announce("Building the people");
    let suites = Suites::build_optimised(&BTreeSet::from([file]))?;
    announce(&format!("{minutes} {of}"));
    let mut command = suites.end_to_end(file)?;
    command
        .args(["--nocapture"])
        .env("HOLDFAST_SERVER", target().join("release").join(binary("server")))
        .env("HOLDFAST_CAMPAIGN", "1")
        .env("HOLDFAST_MINUTES", minutes.to_string())
        .envs(more.iter().copied());
    let log = suites::log_of(file);
    let is_good = run_logged(&mut command, &log, Duration::from_secs(minutes * 60) + ASIDE)?;
    let output = fs::read(&log).context(format!("read {}", log.display()))?;
    let output = String::from_utf8_lossy(&output);
    output.lines().filter_map(|line| line.strip_prefix(FIGURE)).for_each(|figure| println!("{figure}"));
    if !is_good {
        return fail(format!("a limit was passed, or something was lost; {} says what", log.display()));
    }
    Ok(ExitCode::SUCCESS)
}
