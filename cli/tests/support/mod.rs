//! Runs the real `holdfast` against the real server, with a state folder of its own and a deadline for everything.
//!
//! Must not live here: tests. Invariant: no child outlives its test, and what it printed is shown when the test fails.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use e2e::server::{ServerOptions, ServerProcess};
use e2e::wait;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A person at a command line.
#[derive(Debug)]
pub(crate) struct Person {
    state: tempfile::TempDir,
    server: String,
    name: String,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A server whose rates are no obstacle.
pub(crate) fn server() -> ServerProcess {
    ServerOptions::new().without_rates().start()
}

impl Person {
    pub(crate) fn new(server: &str, name: &str) -> Self {
        let state = tempfile::tempdir().expect("a temporary folder");
        Self { state, server: server.to_owned(), name: name.to_owned() }
    }

    pub(crate) fn at(server: &ServerProcess, name: &str) -> Self {
        Self::new(&server.origin(), name)
    }

    /// The same person with a copy of the account as it is now, and nothing else.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new(&self.server, &self.name);
        let account = self.state_file(|name| name.ends_with(".json"));
        let to = copy.state().join(account.strip_prefix(self.state()).expect("within the state"));
        std::fs::create_dir(to.parent().expect("a folder")).expect("made");
        std::fs::copy(account, to).expect("copied");
        copy
    }

    pub(crate) fn state(&self) -> &Path {
        self.state.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        // Which signals are ignored is inherited; whoever starts the tests may ignore some (`nohup`).
        let mut command = Command::new("/usr/bin/env");
        command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_holdfast")]);
        self.within(command, args)
    }

    fn within(&self, mut command: Command, args: &[&str]) -> Command {
        command.args(args).env_clear().env("HOME", self.state.path()).env("RUST_BACKTRACE", "1");
        command.env("HOLDFAST_SERVER_URL", &self.server).env("HOLDFAST_STATE", self.state.path());
        command.env("HOLDFAST_NAME", &self.name);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.run_with(args, "")
    }

    /// Runs a command with something to read.
    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Done {
        let mut running = self.start(args);
        running.say(input);
        running.end_of_input();
        running.done()
    }

    /// Runs a command that can write no file beyond so many blocks of 512 bytes, with something to read.
    pub(crate) fn run_on_a_full_disk(&self, blocks: u32, args: &[&str], input: &str) -> Done {
        // A signal that is ignored stays so: the write fails after a part of it, as on a disk that is full.
        self.run_after(&format!("trap '' XFSZ; ulimit -f {blocks}"), args, input)
    }

    /// Runs a command as a shell does after some words, with something to read.
    pub(crate) fn run_after(&self, words: &str, args: &[&str], input: &str) -> Done {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("{words}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_holdfast")]);
        let mut running = Running::start(self.within(shell, args), format!("{words}; holdfast {args:?}"));
        running.say(input);
        running.end_of_input();
        running.done()
    }

    /// Runs a command that must end well, and returns what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, Some(0), "holdfast {args:?}: {done:?}");
        done.stdout
    }

    /// Starts a command.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command(args), format!("holdfast {args:?}"))
    }

    /// Starts a command before a terminal of a kind.
    pub(crate) fn start_on_a_terminal(&self, kind: &str, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.env("TERM", kind);
        Running::start_on_a_terminal(command, format!("holdfast {args:?} on a terminal, {kind}"))
    }

    /// A file or folder of the one account in the state, by how its name begins or ends.
    pub(crate) fn state_file(&self, is_it: impl Fn(&str) -> bool) -> PathBuf {
        let folder =
            std::fs::read_dir(self.state()).expect("state").next().expect("a server").expect("a folder").path();
        let mut files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        files.find(|path| is_it(&name(path))).expect("a file of the account")
    }

    /// Gives the one account a token that is well-formed, and nobody's.
    pub(crate) fn lose_the_token(&self) {
        let account = self.state_file(|name| name.ends_with(".json"));
        let text = std::fs::read_to_string(&account).expect("an account");
        let mut json: Value = serde_json::from_str(&text).expect("JSON");
        json["token"] = "A".repeat(43).into();
        std::fs::write(&account, json.to_string()).expect("written");
    }

    /// The texts of what `holdfast outbox` lists, in its order.
    pub(crate) fn listed(&self) -> Vec<String> {
        let text = self.ok(&["outbox"]);
        text.lines().map(|line| line.rsplit_once(": ").expect("a text").1.to_owned()).collect()
    }

    /// Starts a command whose output the test reads itself.
    pub(crate) fn start_raw(&self, args: &[&str]) -> Child {
        self.command(args).spawn().expect("holdfast starts")
    }

    /// Starts a command that prints onto something of the test's own.
    pub(crate) fn start_onto(&self, args: &[&str], stdout: OwnedFd) -> Child {
        self.command(args).stdout(stdout).spawn().expect("holdfast starts")
    }

    /// Reads every post of a room, in order.
    pub(crate) fn posts(&self, room: &str, count: usize) -> Vec<Value> {
        let count = count.to_string();
        let text = self.ok(&["tail", room, "--json", "--since", "all", "--count", &count, "--timeout", "60s"]);
        posts_in(&text)
    }
}

/// Finds the posts among the events a tail printed.
pub(crate) fn posts_in(text: &str) -> Vec<Value> {
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
    events.filter(|event| event["change"] == "posted").collect()
}

/// The text of a post.
pub(crate) fn body(post: &Value) -> &str {
    post["detail"]["body"].as_str().expect("a post has a text")
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// What it reads, or the other side of its terminal.
    stdin: Option<File>,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    what: String,
}

impl Running {
    fn start(mut command: Command, what: String) -> Self {
        let mut child = command.spawn().expect("holdfast starts");
        let stdout = keep(child.stdout.take().expect("stdout is piped"));
        let stderr = keep(child.stderr.take().expect("stderr is piped"));
        let stdin = child.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        Self { child, stdin, stdout, stderr, what }
    }

    /// Starts a command before a terminal; what it shows is its stdout.
    fn start_on_a_terminal(mut command: Command, what: String) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("a terminal of ours");
        let name = ptsname(&ours, Vec::new()).expect("a name");
        let path = Path::new(OsStr::from_bytes(name.as_bytes()));
        let theirs = File::options().read(true).write(true).open(path).expect("the other side");
        command.stdin(theirs.try_clone().expect("a copy")).stdout(theirs);
        let mut child = command.spawn().expect("holdfast starts");
        // What holds the terminal's other side would keep its end from being seen.
        drop(command);
        let ours = File::from(ours);
        let stdout = keep_chunks(ours.try_clone().expect("a copy"));
        let stderr = keep(child.stderr.take().expect("stderr is piped"));
        Self { child, stdin: Some(ours), stdout, stderr, what }
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.say_bytes(text.as_bytes());
    }

    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        // It may have ended already; its exit code is what the test looks at.
        self.stdin.as_mut().expect("its input is open").write_all(bytes).ok();
    }

    pub(crate) fn end_of_input(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has printed something.
    pub(crate) fn wait_for(&self, text: &str) {
        wait::until(&format!("{} prints {text:?}", self.what), PATIENCE, || {
            (self.stdout().contains(text) || self.stderr().contains(text)).then_some(())
        });
    }

    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .expect("a child of ours takes signals");
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a child of ours can be killed");
        self.child.wait().expect("a child of ours");
    }

    /// Waits for its end.
    pub(crate) fn done(mut self) -> Done {
        let status = wait_for_exit(&mut self.child, &self.what);
        // The pipes end with the process; the readers are done a moment later.
        wait::until("the output is read", PATIENCE, || (Arc::strong_count(&self.stdout) == 1).then_some(()));
        wait::until("the errors are read", PATIENCE, || (Arc::strong_count(&self.stderr) == 1).then_some(()));
        let done = Done { code: status.code(), stdout: self.stdout(), stderr: self.stderr() };
        assert!(!done.stderr.contains("panicked"), "{}: {}", self.what, done.stderr);
        done
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}--- its stderr ---\n{}---", self.what, self.stdout(), self.stderr());
        }
    }
}

/// Waits for a child's end.
pub(crate) fn wait_for_exit(child: &mut Child, what: &str) -> ExitStatus {
    wait::until(&format!("{what} ends"), PATIENCE, || child.try_wait().expect("a child of ours"))
}

fn keep(pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let kept = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&kept);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut text = into.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&line);
            text.push('\n');
        }
    });
    kept
}

/// As [`keep`], for what comes without ends of lines.
fn keep_chunks(mut terminal: File) -> Arc<Mutex<String>> {
    let kept = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&kept);
    std::thread::spawn(move || {
        let mut chunk = [0; 4_096];
        // An error is its end: nobody has the other side open any more.
        while let Ok(read @ 1..) = terminal.read(&mut chunk) {
            into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
    });
    kept
}
