//! Starts that a bad end came before: on a disk that is full, on what a killed server left.
//!
//! Must not live here: what fails while a server runs (`storage_faults`), and power that fails (`power_cut`).

use std::time::Duration;

use e2e::holder::{Holder, Space};
use e2e::raw::RawSocket;
use e2e::scene::post;
use e2e::server::ServerOptions;
use e2e::{Client, Http, Oracle, wait};
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_server_that_is_started_on_a_full_disk_says_so_reads_on_and_heals_by_itself() {
    // A disk that outlives its server: in memory, in a mount namespace of its own.
    let (folder, space) = (tempfile::tempdir().expect("a temporary folder"), Holder::start(Space::Mount));
    space.run(&["mount", "-t", "tmpfs", "-o", "size=3m", "none", folder.path().to_str().expect("a plain name")]);
    let wrapper = space.wrapper();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let options = ServerOptions::new().without_rates().data_dir(folder.path()).under(&wrapper);
    let mut server = options.start();
    let token = Http::new(server.address()).sign_in("Ada").token;
    let (mut socket, welcome) = RawSocket::open_and_greet(server.address(), &token);
    let room = welcome["rooms"][0]["room"].as_str().expect("general").to_owned();
    let first = socket.ask(10, "post", &post(&room, "while there was room"));
    assert_eq!(first["success"], true, "{first}");
    server.terminate();
    server.wait_for_exit(e2e::server::DRAIN_DEADLINE);
    let filler = folder.path().join("filler");
    let filler = filler.to_str().expect("a plain name");
    space.run(&["sh", "-c", "! cat /dev/zero > \"$1\"", "sh", filler]);
    server.restart();
    let (mut socket, _) = RawSocket::open_and_greet(server.address(), &token);
    let history = socket.ask(50, "history", &json!({ "room": room, "before": 1_000_000 }));
    assert_eq!(history["payload"]["posts"][0]["body"], "while there was room", "{history}");
    let status = |path: &str| Http::new(server.address()).get(path, &[]).status;
    assert_eq!((status("/healthz"), status("/readyz")), (200, 503), "it is no reason to be restarted, nor is it ready");
    let answer = socket.ask(60, "post", &post(&room, "no room"));
    assert_eq!(answer["error"]["code"], "storage_full", "{answer}");
    space.run(&["rm", filler]);
    wait::until("it is ready again", SOON, || (status("/readyz") == 200).then_some(()));
    let answer = socket.ask(61, "post", &post(&room, "there is room again"));
    assert_eq!(answer["success"], true, "{answer}");
}

/// A process that was killed may have left changes that only the kernel's memory holds, and a sync that failed leaves them
/// there for good. So every byte is written once more and synced, before SQLite reads any of it.
#[tokio::test]
async fn what_a_killed_server_left_is_written_once_more_and_synced_before_it_is_read() {
    let mut server = ServerOptions::new().without_rates().start();
    let who = Http::new(server.address()).sign_in("Ada");
    let (mut client, room, _) = Client::join_general(server.address(), &who.token).await;
    client.post_many(room, (0..20).map(|number| format!("post {number}"))).await;
    server.kill();
    let log = server.data_dir().join("holdfast.db-wal");
    let left = std::fs::read(&log).expect("a killed server leaves its write-ahead log");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trace = folder.path().join("trace");
    let trace = trace.to_str().expect("a plain name");
    let calls = "trace=openat,read,pread64,write,pwrite64,fsync,fdatasync,ftruncate";
    server.set_options(|options| options.under(&["strace", "-f", "-qq", "-y", "-o", trace, "-e", calls]));
    server.restart();
    let (_client, ..) = Client::join_general(server.address(), &who.token).await;
    let trace = std::fs::read_to_string(trace).expect("the trace");
    let calls: Vec<&str> = trace.lines().filter(|line| line.contains("holdfast.db-wal")).collect();
    let is_sync = |line: &&str| line.contains("fsync(") || line.contains("fdatasync(");
    let synced = calls.iter().position(is_sync).expect("it is synced");
    let written = |line: &&str| {
        let bytes = line.rsplit_once("= ").and_then(|(_, bytes)| bytes.trim().parse::<usize>().ok());
        if line.contains("write(") { bytes.unwrap_or(0) } else { 0 }
    };
    assert_eq!(calls[..synced].iter().map(written).sum::<usize>(), left.len(), "{:#?}", &calls[..=synced]);
    assert!(!calls[..synced].iter().any(|line| line.contains("pread64(")), "SQLite read it first: {calls:#?}");
    let mut oracle = Oracle::read(server.data_dir(), room);
    assert_eq!(oracle.posts().count(), 20);
    oracle.judge_acks("Ada", &[]);
    oracle.verdict();
}
