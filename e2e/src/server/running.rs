//! One process of the server binary, from its start to its end, and finding and signalling it.
//!
//! Must not live here: what a test does with a server. Invariant: a process that is dropped is killed and waited for, and
//! one whose parent dies is killed by the system.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{ServerOptions, server_binary};

/// How long the server may take to print its address. Generous: a cold debug binary on a busy machine.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long the last words of a server that did not start may take to come.
const LAST_WORDS_DEADLINE: Duration = Duration::from_secs(5);
/// What the server says of a port that is taken, as the system words it.
const PORT_TAKEN: &str = "Address already in use";
/// Lines of stderr kept for the report.
const STDERR_LINES: usize = 400;

/// Why a server did not come up.
#[derive(Debug)]
pub(super) enum StartFailed {
    /// Its port belongs to somebody else; with the server's words.
    PortTaken(String),
    /// Anything else.
    Other(String),
}

impl std::fmt::Display for StartFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PortTaken(words) | Self::Other(words) => f.write_str(words),
        }
    }
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) port: u16,
    stderr: Arc<Mutex<Vec<String>>>,
    /// Disconnected at the end of stderr.
    stderr_ended: Receiver<()>,
    /// Somebody waited for the child.
    pub(super) exited: bool,
}

impl Running {
    pub(super) fn start(options: &ServerOptions, data_dir: &Path, port: u16) -> Result<Self, StartFailed> {
        let listen = SocketAddr::new(options.listens(), port);
        let server = server_binary();
        let mut line = die_with_parent();
        line.extend(options.wrapper.iter().cloned());
        if !options.wrapper.is_empty() {
            line.extend(die_with_parent());
        }
        line.push(server.display().to_string());
        let (program, arguments) = line.split_first().expect("the server at least");
        let mut command = Command::new(program);
        command.args(arguments).args(["--listen", &listen.to_string(), "--data-dir"]).arg(data_dir).args(&options.args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command).unwrap_or_else(|error| panic!("{} does not start: {error}", server.display()));

        let stderr = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&stderr);
        let pipe = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (at_end, stderr_ended) = mpsc::sync_channel(0);
        std::thread::spawn(move || {
            let _at_end: SyncSender<()> = at_end;
            for line in pipe.lines().map_while(Result::ok) {
                let mut lines = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == STDERR_LINES {
                    lines.remove(0);
                }
                lines.push(line);
            }
        });
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut running = Self { child, port, stderr, stderr_ended, exited: false };
        running.port = running.await_address(stdout)?.port();
        Ok(running)
    }

    /// Reads stdout until the one line other programs rely on.
    fn await_address(&mut self, stdout: impl BufRead + Send + 'static) -> Result<SocketAddr, StartFailed> {
        let (found, listening) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("listening on http://") {
                    // The receiver may have given up waiting; the rest of stdout is still drained.
                    found.try_send(address.trim().to_owned()).ok();
                }
            }
        });
        match listening.recv_timeout(START_DEADLINE) {
            Ok(address) => {
                address.parse().map_err(|_| StartFailed::Other(format!("the server says it listens on {address:?}")))
            }
            Err(RecvTimeoutError::Timeout) => {
                Err(StartFailed::Other(format!("no `listening on` within {START_DEADLINE:?}\n{}", self.stderr())))
            }
            Err(RecvTimeoutError::Disconnected) => {
                // What it said last may still be on its way. Nothing ever comes on the channel: it ends.
                self.stderr_ended.recv_timeout(LAST_WORDS_DEADLINE).ok();
                let words = format!("the server ended before it listened\n{}", self.stderr());
                let is_port = words.contains(PORT_TAKEN);
                Err(if is_port { StartFailed::PortTaken(words) } else { StartFailed::Other(words) })
            }
        }
    }

    pub(super) fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.exited {
            // Already gone is as good as killed.
            self.child.kill().ok();
            self.child.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("--- stderr of the server ---\n{}\n---", self.stderr());
        }
    }
}

/// Finds the server's own process: this one, or one below it.
pub(super) fn find_server(top: u32) -> Option<u32> {
    let mut line = vec![top];
    while let Some(pid) = line.pop() {
        if is_server(pid) {
            return Some(pid);
        }
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        line.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    None
}

/// Tells whether a process runs the server binary. One that has ended and was not waited for does not.
pub(super) fn is_server(pid: u32) -> bool {
    let binary = server_binary().canonicalize().expect("the server binary is there");
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary)
}

/// Tells whether there is such a process, be it one that nobody has waited for.
pub(super) fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

pub(super) fn signal_process(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("a child of ours takes signals");
}

/// The start of a command line whose process dies when the one that started it does. Linux only.
pub(crate) fn die_with_parent() -> Vec<String> {
    if cfg!(target_os = "linux") { ["setpriv", "--pdeathsig", "KILL"].map(str::to_owned).into() } else { Vec::new() }
}

/// What the spawner thread is asked: a command, and where its child goes.
type SpawnRequest = (Command, SyncSender<std::io::Result<Child>>);

/// Starts a process from one thread that lives as long as this test executable. "Parent" in `PR_SET_PDEATHSIG` means
/// the *thread* that forked, and threads of a test harness and of a runtime come and go.
pub(crate) fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<SyncSender<SpawnRequest>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, todo): (_, Receiver<SpawnRequest>) = mpsc::sync_channel(16);
        std::thread::spawn(move || {
            for (mut command, answer) in todo {
                answer.send(command.spawn()).ok();
            }
        });
        requests
    });
    let (answer, child) = mpsc::sync_channel(1);
    spawner.send((command, answer)).expect("the spawner lives as long as the process");
    child.recv().expect("the spawner answers")
}
