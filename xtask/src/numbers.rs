//! `cargo xtask numbers`: the figures of docs/PERFORMANCE.md, measured on this machine.
//!
//! Lives here: the workloads and the limits raised for them. Must not live here: measuring (`holdfast bench` does).
//! Invariant: every figure comes with the command line it was measured by, on a fresh server with an empty database.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use clap::Args;

use crate::error::{Context, Outcome, fail};
use crate::machine;
use crate::page::{self, Build};
use crate::process::{announce, binary, cargo, run as run_program, shown, target};

/// What `cargo xtask numbers` can be told: nothing yet.
#[derive(Args)]
pub(crate) struct Options {}

/// Every sender posts far more than a person may; every other limit is the default.
const SERVER_OPTIONS: [(&str, &str); 5] = [
    ("--posts-burst", "1000000"),
    ("--posts-per-s", "1000000"),
    ("--frames-burst", "1000000"),
    ("--frames-per-s", "1000000"),
    ("--log", "warn"),
];

/// What is measured, as the arguments of `holdfast bench`.
const WORKLOADS: [(&str, &[&str]); 6] = [
    ("Memory of an idle, signed-in connection", &["--idle", "5000", "--seconds", "5"]),
    ("1,000 in a room, posts one by one", &["--clients", "1000", "--senders", "20", "--rate", "20", "--seconds", "10"]),
    (
        "1,000 in a room, posts in bursts of 16",
        &["--clients", "1000", "--senders", "16", "--rate", "20", "--burst", "16", "--seconds", "10"],
    ),
    ("Durable posts, 1 sender", &["--durable", "--senders", "1", "--seconds", "5"]),
    ("Durable posts, 64 senders", &["--durable", "--senders", "64", "--seconds", "5"]),
    ("Durable posts, 1,024 senders", &["--durable", "--senders", "1024", "--seconds", "5"]),
];

/// Runs the command.
pub(crate) fn run(_options: &Options) -> Outcome<ExitCode> {
    machine::c_compiler()?;
    machine::wasm_target()?;
    announce("Building the server and the command line");
    run_program(&mut cargo(&["build", "--release", "--locked", "--package", "server", "--package", "cli"]))?;
    let release = target().join("release");

    let page = target().join("xtask").join("weighed");
    page::build_into(Build::Release, &page)?;
    println!("\n## The page\n\n{}", page::Weight::of(&page)?);

    for (title, workload) in WORKLOADS {
        announce(title);
        let folder = target().join("xtask").join("numbers");
        let mut server = Server::start(&release.join(binary("server")), &folder.join("data"))?;
        let pid = server.child.id().to_string();
        let mut bench = Command::new(release.join(binary("holdfast")));
        bench.args(["--server", &server.url, "bench"]).args(workload).args(["--server-pid", &pid]);
        println!("\n## {title}\n\n$ {}\n", shown(&bench));
        let outcome = bench.stdin(Stdio::null()).status().context("start holdfast")?;
        server.end();
        if !outcome.success() {
            return fail(format!("`{}` failed ({outcome})", shown(&bench)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A server of our own, ended with this value.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(program: &Path, data: &Path) -> Outcome<Server> {
        match fs::remove_dir_all(data) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(cause).context(format!("empty {}", data.display()));
            }
            Ok(()) | Err(_) => {}
        }
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
        command.args(SERVER_OPTIONS.iter().flat_map(|(name, value)| [name, value]));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context(format!("start `{}`", shown(&command)))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let line = BufReader::new(stdout).lines().next();
        let Some(Ok(line)) = line else {
            child.kill().ok();
            child.wait().ok();
            return fail(format!("`{}` ended before it listened", shown(&command)));
        };
        let Some(url) = line.strip_prefix("listening on ") else {
            child.kill().ok();
            child.wait().ok();
            return fail(format!("the server says {line:?}, not where it listens"));
        };
        Ok(Server { url: url.to_owned(), child })
    }

    /// Its data is of no use to anybody, so it need not drain.
    fn end(&mut self) {
        // Already gone is as good as killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
