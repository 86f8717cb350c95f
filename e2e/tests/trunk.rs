//! The other way to work on the page: `trunk serve` beside the server, from the same index.html.
//!
//! Lives here: trunk as a child process with the repository's own Trunk.toml. Must not live here: tests of the page
//! itself. Invariant: only the server's port and the folders are changed in Trunk.toml, so its own port, proxies, policy
//! and patterns are the ones under test.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::server::{ServerOptions, ServerProcess};
use e2e::{Http, Stage, wait};
use serde_json::json;

/// Where Trunk.toml serves the page; the server allows this origin by default.
const TRUNK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
/// How long trunk may take: it compiles the page, from scratch where nothing was built before.
const BUILD_DEADLINE: Duration = Duration::from_secs(600);
/// How long a post may take to everybody.
const POST_DEADLINE: Duration = Duration::from_secs(20);

/// `trunk serve`, ended with this value.
struct Trunk {
    child: Child,
    folder: tempfile::TempDir,
}

impl Trunk {
    /// Starts it before a server and waits for its page.
    fn serve(server: SocketAddr) -> Trunk {
        if let Err(error) = TcpListener::bind(TRUNK) {
            panic!(
                "{TRUNK} is taken, by a `trunk serve` of yours? This test needs the port that Trunk.toml names: {error}"
            );
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("Trunk.toml");
        std::fs::write(&config, changed(server, &folder.path().join("dist"))).expect("it can be written");
        let log = std::fs::File::create(folder.path().join("log")).expect("it can be written");
        let mut command = dying_with_us(&trunk());
        command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .current_dir(root())
            .env("TRUNK_SKIP_VERSION_CHECK", "true")
            .env("NO_COLOR", "true")
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a second handle"))
            .stdout(log);
        let child = command.spawn().expect("trunk can be started");
        let mut trunk = Trunk { child, folder };
        let page = Http::new(TRUNK);
        wait::until("trunk serves the page", BUILD_DEADLINE, || {
            if let Some(status) = trunk.child.try_wait().expect("a child of ours") {
                panic!("trunk ended with {status}\n{}", trunk.log());
            }
            // Before it has built the page it listens on nothing.
            TcpStream::connect(TRUNK).ok()?;
            (page.get("/", &[]).status == 200).then_some(())
        });
        trunk
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- trunk ---\n{}\n---", self.log());
        }
    }
}

/// The repository's Trunk.toml with another server behind it and absolute folders.
fn changed(server: SocketAddr, dist: &Path) -> String {
    let mut text = std::fs::read_to_string(root().join("Trunk.toml")).expect("Trunk.toml is there");
    assert!(text.contains(&format!("port = {}\n", TRUNK.port())), "Trunk.toml no longer serves on {TRUNK}");
    let mut replace = |from: String, to: String| {
        assert!(text.contains(&from), "Trunk.toml no longer says {from}");
        text = text.replace(&from, &to);
    };
    replace("127.0.0.1:8080".into(), server.to_string());
    replace("dist = \"dist\"".into(), format!("dist = {dist:?}"));
    for name in ["index.html", "web-client", "shared"] {
        replace(format!("\"{name}\""), format!("{:?}", root().join(name)));
    }
    text
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the workspace").to_path_buf()
}

/// `HOLDFAST_TRUNK`, or the one on the PATH.
fn trunk() -> PathBuf {
    let program = std::env::var_os("HOLDFAST_TRUNK").map_or_else(|| PathBuf::from("trunk"), PathBuf::from);
    let there = Command::new(&program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|end| end.success());
    assert!(there, "trunk cannot be run; `cargo xtask test trunk` installs it into target/tools");
    program
}

/// On Linux a child that ends when the thread that started it does, so that no trunk outlives a killed test.
fn dying_with_us(program: &Path) -> Command {
    if cfg!(target_os = "linux") {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// The Content-Security-Policy of the page there, without nonces.
fn policy(address: SocketAddr) -> BTreeSet<String> {
    let header = Http::new(address).get("/", &[]).header("content-security-policy").unwrap_or_default().to_owned();
    let words = |directive: &str| {
        directive.split_whitespace().filter(|word| !word.starts_with("'nonce-")).collect::<Vec<_>>().join(" ")
    };
    header.split(';').map(words).filter(|directive| !directive.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_on_trunk_serve_and_on_the_server_chat_with_each_other() {
    Stage::run("trunk", ServerOptions::new(), async |stage| {
        let server = stage.address();
        let _trunk = tokio::task::spawn_blocking(move || Trunk::serve(server)).await.expect("trunk serves");
        let policies = [TRUNK, server].map(policy);
        assert_eq!(policies[0], policies[1], "trunk serve sends another policy than the server");
        let ada = stage.person().await.signed_in_at(&format!("http://{TRUNK}"), "Ada").await;
        let grace = stage.person().await.signed_in("Grace").await;
        ada.post("from port 8081").await;
        ada.wait_sent("from port 8081", POST_DEADLINE).await;
        grace.post("from port 8080").await;
        grace.wait_sent("from port 8080", POST_DEADLINE).await;
        let wanted = ["from port 8081", "from port 8080"];
        for tab in [&ada, &grace] {
            tab.wait_rows("both posts in the order of the log", POST_DEADLINE, |rows| {
                rows.iter().map(|row| row.body.as_str()).eq(wanted)
            })
            .await;
        }
    })
    .await;
}

#[test]
fn the_origin_of_trunk_serve_is_allowed_without_a_flag() {
    let server = ServerProcess::start();
    let http = Http::new(server.address());
    for origin in ["http://127.0.0.1:8081", "http://localhost:8081"] {
        let answer = http.post("/api/session", &json!({"name": "Ada"}), &[("Origin", origin)]);
        assert!(answer.status != 403, "{origin}: {answer:?}");
    }
    let answer = http.post("/api/session", &json!({"name": "Eve"}), &[("Origin", "http://127.0.0.1:9999")]);
    assert_eq!(answer.status, 403, "{answer:?}");
}
