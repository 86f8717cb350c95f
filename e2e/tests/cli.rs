//! The command line against the real server, across its crash.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use e2e::server::{ServerOptions, ServerProcess, beside_this_test};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// Finds the command line: `HOLDFAST_CLI`, or the one built into the same target folder as this test.
fn holdfast() -> PathBuf {
    let path = std::env::var_os("HOLDFAST_CLI").map_or_else(|| beside_this_test("holdfast"), PathBuf::from);
    assert!(path.is_file(), "{} does not exist; build it with `cargo build -p cli`", path.display());
    path
}

/// A person with a terminal: a name, and a folder for what it keeps.
struct Terminal<'a> {
    server: &'a ServerProcess,
    name: &'static str,
    folder: &'a Path,
}

impl Terminal<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(holdfast());
        let state = self.folder.join(self.name);
        command
            .args(arguments)
            .args(["--server", &self.server.origin(), "--name", self.name, "--state-dir"])
            .arg(state);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the command line starts")
    }

    fn post(&self, text: &str) {
        let output = self.run(&["post", "general", text]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A `tail` that runs, and the lines it prints.
struct Tail {
    child: Child,
    lines: Receiver<String>,
}

impl Tail {
    fn start(terminal: &Terminal<'_>) -> Self {
        let mut child = terminal.command(&["tail", "general", "--json", "--since", "all"]).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (print, lines) = sync_channel(1_000);
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| print.send(line)));
        Self { child, lines }
    }

    /// Returns the text of the next post and its place.
    fn next_post(&self) -> (u64, String) {
        loop {
            let line = self.lines.recv_timeout(SOON).expect("the next line of `tail`");
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            if event["change"] == "posted" {
                let body = event["detail"]["body"].as_str().expect("a text").to_owned();
                return (event["seq"].as_u64().expect("a place"), body);
            }
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn s04_what_one_terminal_posts_another_tails_once_and_in_order_across_a_crash() {
    let mut server = ServerOptions::new().without_rates().start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let post = |server: &ServerProcess, text: &str| Terminal { server, name: "Ada", folder: folder.path() }.post(text);
    post(&server, "before anybody listens");
    let tail = Tail::start(&Terminal { server: &server, name: "Bo", folder: folder.path() });
    let (first, body) = tail.next_post();
    assert_eq!(body, "before anybody listens");
    post(&server, "while it listens");
    let (second, body) = tail.next_post();
    assert_eq!(body, "while it listens");
    server.kill();
    server.restart();
    post(&server, "after the crash");
    let (third, body) = tail.next_post();
    assert_eq!(body, "after the crash");
    assert!(first < second && second < third);
}

#[test]
fn a_post_is_called_done_only_when_it_is_acknowledged_and_is_sent_once_however_often_it_is_asked() {
    let mut server = ServerOptions::new().without_rates().start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let id = e2e::client::new_id().to_string();
    let ask = |server: &ServerProcess, timeout: &str| {
        Terminal { server, name: "Ada", folder: folder.path() }.run(&[
            "post",
            "general",
            "once",
            "--id",
            &id,
            "--timeout",
            timeout,
        ])
    };
    Terminal { server: &server, name: "Ada", folder: folder.path() }.post("hello");
    server.kill();
    let down = ask(&server, "2s");
    assert_eq!(
        down.status.code(),
        Some(3),
        "a server that is down acknowledged: {}",
        String::from_utf8_lossy(&down.stderr)
    );
    server.restart();
    let up = ask(&server, "20s");
    assert_eq!(up.status.code(), Some(0), "{}", String::from_utf8_lossy(&up.stderr));
    let again = ask(&server, "20s");
    assert_eq!((again.status.code(), &again.stdout), (Some(0), &up.stdout), "another place for the same id");
}
