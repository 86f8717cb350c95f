//! `cargo xtask bench`: how fast Holdfast is, alone or beside other servers; and the step `cost` of `cargo xtask test`.
//!
//! Lives here: building and installing what is measured. Must not live here: measuring (the crate `bench` does).
//! Invariant: what the other servers need is in the target folder; one that cannot be had is named, and the rest is
//! measured.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use crate::error::{Context, Outcome};
use crate::machine;
use crate::process::{announce, binary, cargo, root, run as run_program, shown, target};
use crate::test::Tally;

/// What `cargo xtask bench` can be told; `cargo xtask bench -- --help` lists it.
#[derive(Args)]
pub(crate) struct Options {
    /// Workloads, --peers (other servers in the same sitting: a C program that does nothing else, Bun, ws, Socket.IO,
    /// gorilla), --plots (draws docs/plots anew, from the workloads ladder, bursts and memory), and what the bench knows
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Asks for the other servers.
const PEERS: &str = "--peers";
/// Asks for the plots.
const PLOTS: &str = "--plots";

/// Runs the command.
///
/// # Errors
/// Ours could not be built or started, or the measuring failed.
pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    let asks_for = |what: &str| options.arguments.iter().any(|argument| argument == what);
    machine::c_compiler()?;
    announce("Building the server and the load");
    let built = ["build", "--release", "--locked", "--package", "server", "--package", "bench"];
    run_program(cargo(&built).args(["--bins", "--example", "raw_batches", "--example", "fill_room"]))?;
    let release = target().join("release");
    let mut bench = Command::new(release.join(binary("holdfast-bench")));
    bench.arg("run");
    bench.arg("--server").arg(release.join(binary("server")));
    bench.arg("--raw").arg(release.join("examples").join(binary("raw_batches")));
    bench.arg("--fill").arg(release.join("examples").join(binary("fill_room")));
    bench.arg("--folder").arg(target().join("bench"));
    if asks_for(PLOTS) {
        bench.arg("--plots").arg(root().join("docs").join("plots"));
    }
    if asks_for(PEERS) {
        for (name, command) in peers()? {
            let command = serde_json::to_string(&command).context("write a command line")?;
            bench.arg("--peer").arg(format!("{name}={command}"));
        }
    }
    bench.args(options.arguments.iter().filter(|argument| ![PEERS, PLOTS].contains(&argument.as_str())));
    announce("Measuring");
    let status = bench.stdin(Stdio::null()).status().context(format!("start `{}`", shown(&bench)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Counts what the release server does, and judges it by bench/budget.txt.
///
/// # Errors
/// It could not be built.
pub(crate) fn cost() -> Outcome<Tally> {
    if !cfg!(target_os = "linux") {
        eprintln!("  counted on Linux only");
        return Ok(Tally::default());
    }
    run_program(&mut cargo(&[
        "build",
        "--release",
        "--locked",
        "--package",
        "server",
        "--package",
        "bench",
        "--bins",
    ]))?;
    let release = target().join("release");
    let mut count = Command::new(release.join(binary("holdfast-bench")));
    count.arg("count").arg("--server").arg(release.join(binary("server")));
    count.arg("--budget").arg(root().join("bench").join("budget.txt"));
    count.arg("--folder").arg(target().join("cost"));
    run_program(&mut count)?;
    Ok(Tally::PASSED)
}

/// The name of a server in tables, and its command line.
type Peer = (&'static str, Vec<String>);

/// Builds and installs the other servers. One that cannot be had is named and left out.
///
/// # Errors
/// The target folder cannot be written.
fn peers() -> Outcome<Vec<Peer>> {
    let (sources, folder) = (root().join("bench").join("peers"), target().join("peers"));
    fs::create_dir_all(&folder).context(format!("create {}", folder.display()))?;
    let mut found = Vec::new();
    announce("Getting the other servers ready");
    for (names, ready) in [
        ("floor", floor(&sources, &folder)),
        ("bun, ws, socket.io", from_npm(&sources, &folder)),
        ("gorilla", gorilla(&sources, &folder)),
    ] {
        match ready {
            Ok(peers) => found.extend(peers),
            Err(why) => eprintln!("  without {names}: {why}"),
        }
    }
    Ok(found)
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

fn attempt(command: &mut Command) -> Result<(), String> {
    run_program(command).map_err(|failure| failure.0)
}

fn floor(sources: &Path, folder: &Path) -> Result<Vec<Peer>, String> {
    let program = folder.join("floor");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    attempt(Command::new(compiler).args(["-O2", "-Wall", "-o"]).arg(&program).arg(sources.join("floor.c")))?;
    Ok(vec![("floor", vec![text(program)])])
}

/// Exact versions are in the package's own file; a lock file would name the host they were had from.
fn from_npm(sources: &Path, folder: &Path) -> Result<Vec<Peer>, String> {
    for program in ["node", "npm"] {
        if !machine::answers(program, "--version") {
            return Err(format!("{program} is not there; install Node.js 20 or later"));
        }
    }
    let (wanted, node) = (sources.join("package.json"), folder.join("node"));
    let installed = node.join("package.json");
    let same =
        |left: &Path, right: &Path| fs::read(left).is_ok_and(|left| fs::read(right).is_ok_and(|right| left == right));
    let bun = node.join("node_modules").join(".bin").join("bun");
    let is_whole = ["ws", "socket.io"].iter().all(|name| node.join("node_modules").join(name).is_dir()) && bun.exists();
    if !same(&wanted, &installed) || !is_whole {
        fs::create_dir_all(&node).map_err(|error| error.to_string())?;
        // Put there last, so that an installation that was cut off is done again.
        let _ = fs::remove_file(&installed);
        let aside = node.join("installing");
        fs::create_dir_all(&aside).map_err(|error| error.to_string())?;
        fs::copy(&wanted, aside.join("package.json")).map_err(|error| error.to_string())?;
        let install = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"];
        attempt(Command::new("npm").args(install).current_dir(&aside))?;
        let _ = fs::remove_dir_all(node.join("node_modules"));
        fs::rename(aside.join("node_modules"), node.join("node_modules")).map_err(|error| error.to_string())?;
        fs::copy(&wanted, &installed).map_err(|error| error.to_string())?;
    }
    let mut peers = Vec::new();
    match machine::answers(&text(&bun), "--version") {
        true => peers.push(("bun", vec![text(bun), text(sources.join("bun.js"))])),
        false => eprintln!("  without bun: its package brought no program for this machine"),
    }
    for (name, file) in [("ws", "ws.cjs"), ("socket.io", "socket-io.cjs")] {
        peers.push((name, vec!["node".to_owned(), text(sources.join(file)), text(&node)]));
    }
    Ok(peers)
}

fn gorilla(sources: &Path, folder: &Path) -> Result<Vec<Peer>, String> {
    let go = ["go", "/usr/local/go/bin/go"].into_iter().find(|program| machine::answers(program, "version"));
    let go = go.ok_or("Go is not there; install 1.22 or later")?;
    let program = folder.join("gorilla");
    attempt(Command::new(go).args(["build", "-o"]).arg(&program).arg(".").current_dir(sources.join("gorilla")))?;
    Ok(vec![("gorilla", vec![text(program)])])
}
