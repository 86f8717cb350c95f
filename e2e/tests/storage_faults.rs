//! Storage that fails: a disk that is full and empties again, a sync that fails or is slow, a bit that flips, a database
//! from the past.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::campaign::{Dice, figure, loops};
use e2e::client::new_id;
use e2e::crew::{device, general, judge, retry_now, was_lost};
use e2e::proxy::Weather;
use e2e::raw::{self, RawSocket};
use e2e::scene::{long_body, post};
use e2e::server::{ServerOptions, ServerProcess};
use e2e::{Client, Device, FaultProxy, Http, Oracle, Scene, SignedIn, wait};
use serde_json::json;
use shared::error::ErrorCode;
use shared::ids::{ClientId, RoomId};
use shared::message::Command;
use shared::session::ConnectionState;

const SOON: Duration = Duration::from_secs(20);
/// As much as a test of a full disk writes at most before it must be full.
const POSTS_TO_FILL: u64 = 20_000;

/// Posts until the disk is full; returns how many were acknowledged, and checks the refusal.
fn fill(socket: &mut RawSocket, room: &str) -> u64 {
    let body = "x".repeat(3_000);
    for acked in 0..POSTS_TO_FILL {
        let answer = socket.ask(1_000 + acked, "post", &post(room, &body));
        if answer["success"] == false {
            assert_eq!(answer["error"]["code"], "storage_full", "{answer}");
            assert_eq!(answer["error"]["retryable"], true, "{answer}");
            return acked;
        }
    }
    panic!("{POSTS_TO_FILL} posts did not fill the disk");
}

/// Checks what a full server must still do: read, and say that it is not ready.
fn assert_reads_live_on(server: &ServerProcess, socket: &mut RawSocket, room: &str) {
    let history = socket.ask(50, "history", &json!({ "room": room, "before": 1_000_000 }));
    assert_eq!(history["success"], true, "{history}");
    assert!(!history["payload"]["posts"].as_array().expect("posts").is_empty());
    socket.assert_alive();
    let http = Http::new(server.address());
    assert_eq!(http.get("/healthz", &[]).status, 200, "a full disk is no reason to be restarted");
    assert_eq!(http.get("/readyz", &[]).status, 503, "a server that cannot write is not ready");
}

#[test]
fn a_database_at_its_limit_refuses_posts_with_storage_full_and_reads_on() {
    let mut scene = Scene::open(ServerOptions::new().without_rates().flag("max-database-bytes", 1_500_000));
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let room = scene.room.clone();
    let acked = fill(&mut socket, &room);
    assert!(acked > 50, "only {acked} posts in 1.5 MB");
    assert_reads_live_on(&scene.server, &mut socket, &room);
    scene.server.kill();
    scene.server.set_options(|_| ServerOptions::new().without_rates());
    scene.server.restart();
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let answer = socket.ask(10, "post", &post(&room, "there is room again"));
    assert_eq!(answer["success"], true, "{answer}");
    let oracle = Oracle::read(scene.server.data_dir(), room.parse().expect("an id"));
    assert!(oracle.posts().count() as u64 > acked, "acknowledged posts are missing");
    oracle.verdict();
}

/// A small file system of its own for a server, and the file that fills it.
struct SmallDisk {
    server: ServerProcess,
    filler: PathBuf,
    _folder: tempfile::TempDir,
}

/// Above this a file system is not filled by a test.
const SMALL_DISK_BYTES: u64 = 256 << 20;

impl SmallDisk {
    /// As root: a file system in memory that only the server's mount namespace knows. In a container that may not
    /// mount: its `/dev/shm`, if that is small.
    fn start() -> Self {
        let may_mount =
            std::process::Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"]).status();
        if may_mount.is_ok_and(|status| status.success()) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mount = format!("mount -t tmpfs -o size=3m none '{}' && exec \"$@\"", folder.path().display());
            let wrapper = ["unshare", "--mount", "sh", "-c", &mount, "sh"];
            let server = ServerOptions::new().without_rates().data_dir(folder.path()).under(&wrapper).start();
            let seen_from_here = PathBuf::from(format!("/proc/{}/root{}", server.pid(), folder.path().display()));
            return Self { server, filler: seen_from_here.join("filler"), _folder: folder };
        }
        let shm = Path::new("/dev/shm");
        let stat = rustix::fs::statvfs(shm).expect("/dev/shm is there where mounting is forbidden");
        let size = stat.f_blocks * stat.f_frsize;
        assert!(
            size <= SMALL_DISK_BYTES,
            "run this as root, or give it a small /dev/shm to fill (it has {size} bytes)"
        );
        let folder = tempfile::tempdir_in(shm).expect("a folder in /dev/shm");
        let server = ServerOptions::new().without_rates().data_dir(folder.path()).start();
        Self { server, filler: folder.path().join("filler"), _folder: folder }
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = std::fs::File::create(&self.filler).expect("a file on the small disk");
        let chunk = [0; 4096];
        let written =
            (0..SMALL_DISK_BYTES / 4096).take_while(|_| std::io::Write::write_all(&mut file, &chunk).is_ok()).count();
        assert!((written as u64) < SMALL_DISK_BYTES / 4096, "the small disk is not small");
    }

    fn empty(&self) {
        std::fs::remove_file(&self.filler).expect("the filler is there");
    }
}

#[test]
fn a_full_disk_refuses_posts_with_storage_full_reads_on_and_heals_by_itself() {
    let disk = SmallDisk::start();
    let address = disk.server.address();
    let token = Http::new(address).sign_in("Ada").token;
    let (mut socket, welcome) = RawSocket::open_and_greet(address, &token);
    let room = welcome["rooms"][0]["room"].as_str().expect("general").to_owned();
    let first = socket.ask(10, "post", &post(&room, "while there was room"));
    assert_eq!(first["success"], true, "{first}");
    disk.fill();
    fill(&mut socket, &room);
    assert_reads_live_on(&disk.server, &mut socket, &room);
    disk.empty();
    let mut id = 100_000;
    wait::until("the server heals by itself", SOON, || {
        id += 1;
        let answer = socket.ask(id, "post", &post(&room, "there is room again"));
        (answer["success"] == true).then_some(())
    });
    wait::until("it is ready again", SOON, || (Http::new(address).get("/readyz", &[]).status == 200).then_some(()));
}

/// The system calls of a test are counted by each thread, so the start is given some that succeed.
const SYNCS_THAT_SUCCEED: u32 = 25;

/// A server whose syncs are tampered with by strace, and somebody who posts to it.
struct Tampered {
    server: ServerProcess,
    who: SignedIn,
    client: Client,
    room: RoomId,
}

impl Tampered {
    async fn start(inject: &str) -> Self {
        let strace = std::process::Command::new("strace").arg("-V").output();
        assert!(strace.is_ok(), "this test tampers with syncs by strace: `apt-get install strace`");
        let wrapper = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", inject];
        let server = ServerOptions::new().without_rates().under(&wrapper).start();
        let who = Http::new(server.address()).sign_in("Ada");
        let (client, room, _) = Client::join_general(server.address(), &who.token).await;
        Self { server, who, client, room }
    }
}

/// Why a post has no acknowledgement.
#[derive(Debug, PartialEq)]
enum Unanswered {
    /// No answer came in time.
    Late,
    Refused(ErrorCode),
    /// The connection ended.
    Gone,
}

/// Longer than any sync takes that nobody tampers with.
const LATE: Duration = Duration::from_secs(3);

/// Posts until a post is not acknowledged in time. Returns the keys and places of those that were, its key, and why.
async fn post_until_unanswered(
    client: &mut Client,
    room: RoomId,
    time: Duration,
) -> (Vec<(ClientId, u64)>, ClientId, Unanswered) {
    let mut acked = Vec::new();
    loop {
        let key = new_id();
        let body = format!("post {}", acked.len());
        match tokio::time::timeout(time, client.post_as(key, room, &body)).await {
            Ok(Ok(Ok(ack))) => acked.push((key, ack.seq.0)),
            Ok(Ok(Err(refusal))) => return (acked, key, Unanswered::Refused(refusal.code)),
            Ok(Err(_)) => return (acked, key, Unanswered::Gone),
            Err(_) => return (acked, key, Unanswered::Late),
        }
        assert!(acked.len() < 1_000, "every post was acknowledged");
    }
}

#[tokio::test]
async fn a_failed_sync_is_answered_to_nobody_and_stops_the_server() {
    let inject = format!("inject=fdatasync,fsync:error=EIO:when={SYNCS_THAT_SUCCEED}+");
    let Tampered { mut server, who, mut client, room } = Tampered::start(&inject).await;
    let (acked, unanswered, ending) = post_until_unanswered(&mut client, room, SOON).await;
    match ending {
        Unanswered::Refused(code) => {
            assert_eq!(code, ErrorCode::Unavailable, "an outcome that is unknown was called a refusal");
        }
        Unanswered::Gone => {}
        Unanswered::Late => panic!("a sync that failed was waited for"),
    }
    let status = server.wait_for_exit(SOON);
    assert!(!status.success(), "the server left as if all were well: {status}");
    server.set_options(|_| ServerOptions::new().without_rates());
    server.restart();
    let mut oracle = Oracle::read(server.data_dir(), room);
    oracle.judge_acks("Ada", &acked);
    oracle.verdict();
    let (mut client, ..) = Client::join_general(server.address(), &who.token).await;
    let body = format!("post {}", acked.len());
    let settled = client.post_as(unanswered, room, &body).await.expect("a connection").expect("an ack");
    assert_eq!(
        settled.seq.0,
        acked.last().map_or(settled.seq.0, |(_, seq)| seq + 1),
        "the retry is one row, in its place"
    );
}

/// Copies the files of a folder that is not in use.
fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().expect("a file has a name"))).expect("a copy");
        }
    }
}

/// Puts the files of one folder in the place of those of another.
fn put_back(backup: &Path, into: &Path) {
    for entry in std::fs::read_dir(into).expect("a folder") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("a file that may go");
    }
    copy_files(backup, into);
}

/// Tries to start a server that may refuse; returns the words it refused with.
fn try_restart(server: &mut ServerProcess) -> Result<(), String> {
    let started = catch_unwind(AssertUnwindSafe(|| server.restart()));
    started.map_err(|panic| *panic.downcast::<String>().expect("the harness tells why"))
}

#[tokio::test]
async fn fault_08_killed_between_the_sync_and_the_ack_the_retry_gets_the_seq_that_was_committed() {
    // The sync happens; then the thread that asked for it stands still for longer than the test takes.
    let inject = format!("inject=fdatasync,fsync:delay_exit=60000000:when={SYNCS_THAT_SUCCEED}+");
    let Tampered { mut server, who, mut client, room } = Tampered::start(&inject).await;
    let (mut acked, unanswered, ending) = post_until_unanswered(&mut client, room, LATE).await;
    assert_eq!(ending, Unanswered::Late, "the sync did not stand still");
    server.kill();
    let copy = tempfile::tempdir().expect("a temporary folder");
    copy_files(server.data_dir(), copy.path());
    let oracle = Oracle::read(copy.path(), room);
    let committed = oracle.posts().find(|post| post.key == unanswered).map(|post| post.seq);
    let committed = committed.expect("what was synced before the kill is committed");
    server.set_options(|_| ServerOptions::new().without_rates());
    server.restart();
    let (mut client, ..) = Client::join_general(server.address(), &who.token).await;
    let retried = client.post_as(unanswered, room, &format!("post {}", acked.len())).await;
    let retried = retried.expect("a connection").expect("an ack");
    assert_eq!((retried.seq.0, retried.duplicate), (committed, true), "the retry is another post");
    acked.push((unanswered, retried.seq.0));
    let mut oracle = Oracle::read(server.data_dir(), room);
    oracle.judge_acks("Ada", &acked);
    assert_eq!(oracle.posts().count(), acked.len());
    oracle.verdict();
}

#[tokio::test]
async fn fault_15_a_flipped_bit_in_the_write_ahead_log_is_noticed_at_the_start() {
    let flips = loops(6);
    let mut dice = Dice::seeded(15);
    let mut server = ServerOptions::new().without_rates().start();
    let who = Http::new(server.address()).sign_in("Ada");
    let (mut client, room, _) = Client::join_general(server.address(), &who.token).await;
    let mut acked = Vec::new();
    for number in 0..40 {
        let key = new_id();
        let ack = client.post_as(key, room, &format!("post {number}")).await.expect("a connection").expect("an ack");
        acked.push((key, ack.seq.0));
    }
    server.kill();
    let whole = tempfile::tempdir().expect("a temporary folder");
    copy_files(server.data_dir(), whole.path());
    let log = server.data_dir().join("holdfast.db-wal");
    let length = std::fs::metadata(&log).expect("a killed server leaves its write-ahead log").len();
    assert!(length > 40 * 4_096, "only {length} bytes in the write-ahead log");
    let mut refused = 0;
    for flip in 0..flips {
        put_back(whole.path(), server.data_dir());
        let mut bytes = std::fs::read(&log).expect("the write-ahead log");
        // The first is in its head, the last in its last commit, the others where chance takes them.
        let place = match flip {
            0 => 20,
            1 => length - 100,
            _ => dice.below(length),
        };
        bytes[usize::try_from(place).expect("fits")] ^= 1 << dice.below(8);
        std::fs::write(&log, bytes).expect("the write-ahead log");
        match try_restart(&mut server) {
            Err(words) => {
                assert!(words.contains("--accept-loss"), "the way out is not named: {words}");
                refused += 1;
            }
            Ok(()) => {
                let mut oracle = Oracle::read(server.data_dir(), room);
                oracle.judge_acks(&format!("Ada, bit flipped at {place} of {length}"), &acked);
                oracle.verdict();
                server.kill();
            }
        }
    }
    assert!(refused > 0, "no flip ever struck");
    figure(&format!("{flips} bits flipped in {length} bytes: {refused} starts refused, every other one lost nothing"));
    put_back(whole.path(), server.data_dir());
    server.restart();
    let mut oracle = Oracle::read(server.data_dir(), room);
    oracle.judge_acks("Ada", &acked);
    oracle.verdict();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_16_a_folder_from_the_past_resets_only_who_has_seen_more_and_raises_an_alarm() {
    let mut server = ServerOptions::new().without_rates().start();
    let proxy = FaultProxy::start(server.address()).await;
    let ahead = device(&server, server.address(), "Ahead").await;
    let behind = device(&server, proxy.address(), "Behind").await;
    let room = general(&server).await;
    for number in 0..10 {
        ahead.post(&format!("kept {number}")).await;
    }
    judge(&server, room, &[&ahead, &behind]).await;
    proxy.set(Weather::Reset);
    behind.wait("the cut is seen", SOON, |seen| seen.state != Some(ConnectionState::Live)).await;
    server.kill();
    let backup = tempfile::tempdir().expect("a temporary folder");
    copy_files(server.data_dir(), backup.path());
    server.restart();
    retry_now(&[&ahead]).await;
    for number in 0..10 {
        ahead.post(&format!("lost {number}")).await;
    }
    ahead.wait("all are acknowledged", SOON, |seen| seen.acked.len() == 20).await;
    ahead.wait("all are shown", SOON, |seen| seen.shown.len() == 20).await;
    server.kill();
    put_back(backup.path(), server.data_dir());
    server.restart();
    proxy.set(Weather::Fair);
    retry_now(&[&ahead, &behind]).await;
    ahead.wait("it is told that the room starts over", SOON, |seen| !seen.resets.is_empty()).await;
    for (number, device) in [&ahead, &behind].into_iter().enumerate() {
        device.wait_live(SOON).await;
        device.post(&format!("after the loss {number}")).await;
    }
    let whole = |seen: &e2e::device::Seen| seen.shown.len() == 12;
    for device in [&ahead, &behind] {
        device.wait("ten that were kept and two new ones", SOON, whole).await;
    }
    assert_eq!(behind.seen().resets, Vec::<String>::new(), "who had not seen more was reset, too");
    wait::until("an alarm", SOON, || server.stderr().contains("ERROR").then_some(()));
    let mut oracle = Oracle::read(server.data_dir(), room);
    oracle.judge_shown("ahead", &ahead.seen());
    oracle.judge_shown("behind", &behind.seen());
    oracle.verdict();
}

#[tokio::test]
async fn a_database_from_the_past_is_not_started_with_until_the_loss_is_accepted() {
    let mut server = ServerOptions::new().without_rates().start();
    let who = Http::new(server.address()).sign_in("Ada");
    let (mut client, room, _) = Client::join_general(server.address(), &who.token).await;
    client.post_many(room, (0..10).map(|number| format!("kept {number}"))).await;
    server.terminate();
    server.wait_for_exit(e2e::server::DRAIN_DEADLINE);
    let backup = tempfile::tempdir().expect("a temporary folder");
    copy_files(server.data_dir(), backup.path());
    server.restart();
    let (mut client, ..) = Client::join_general(server.address(), &who.token).await;
    client.post_many(room, (0..10).map(|number| format!("lost {number}"))).await;
    client.ask(Command::Rooms(Default::default())).await.expect("a connection").expect("rooms");
    server.terminate();
    server.wait_for_exit(e2e::server::DRAIN_DEADLINE);

    // The database alone comes back; the record beside it remembers.
    for entry in std::fs::read_dir(backup.path()).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        if name.contains(".db") || name.contains(".sqlite") {
            std::fs::copy(&path, server.data_dir().join(&name)).expect("a copy");
        }
    }
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| server.restart()));
    let words = refused.expect_err("an old database was started with");
    let words = words.downcast_ref::<String>().expect("the harness tells why");
    assert!(words.contains("--accept-loss"), "the way out is not named: {words}");
    server.set_options(|options| options.switch("accept-loss"));
    server.restart();
    let (mut client, ..) = Client::join_general(server.address(), &who.token).await;
    client.post(room, "after the loss").await.expect("a connection").expect("an ack");
}

/// Each sync takes this much longer once the disk is slow, in microseconds.
const SLOW_SYNC_US: u32 = 7_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn scenario_06_a_server_with_a_slow_disk_is_called_slow_and_not_left() {
    let inject = format!("inject=fdatasync,fsync:delay_enter={SLOW_SYNC_US}:when={SYNCS_THAT_SUCCEED}+");
    let wrapper = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", &inject];
    let server = ServerOptions::new().without_rates().under(&wrapper).start();
    let who = Http::new(server.address()).sign_in("Ada");
    let (client, room, _) = Client::join_general(server.address(), &who.token).await;
    client.close().await;
    let device = e2e::Device::start(server.address(), &who, room, Default::default());
    device.wait_live(SOON).await;
    let slow = |seen: &e2e::device::Seen| seen.states.contains(&ConnectionState::Slow);
    let mut posts = 0;
    while !device.look(slow) {
        device.post(&format!("post {posts}")).await;
        posts += 1;
        let settled = |seen: &e2e::device::Seen| seen.acked.len() == posts || slow(seen);
        device.wait("an ack, or the word that the server is slow", SOON, settled).await;
        assert!(posts < 1_000, "no sync ever was slow");
    }
    device.wait("the last ack", Duration::from_secs(60), |seen| seen.acked.len() == posts).await;
    device.wait_live(SOON).await;
    let left =
        |state: &ConnectionState| matches!(state, ConnectionState::Waiting { .. } | ConnectionState::Trying { .. });
    let states = device.seen().states;
    assert!(!states.iter().any(left), "a server that was only slow was left: {states:?}");
}

/// Writes far more posts than the disk takes, without waiting for an answer, and returns how much memory the server
/// needed meanwhile beyond `before`, in KiB.
fn grown_under_a_hasty_writer(server: &ServerProcess, room: RoomId, before: u64) -> u64 {
    /// Posts of 16 KB: without a bound, 32 MB.
    const POSTS: u64 = 2_000;
    const WATCHED: Duration = Duration::from_secs(4);
    let token = Http::new(server.address()).sign_in("Hasty").token;
    let (socket, _) = RawSocket::open_and_greet(server.address(), &token);
    let mut writer = socket.second_handle();
    let room = room.to_string();
    // Ends with the test's server, if it is held up until then.
    std::thread::spawn(move || {
        let body = long_body();
        (10..10 + POSTS)
            .map(|id| json!({ "id": id, "command": "post", "payload": post(&room, &body) }).to_string())
            .all(|text| writer.try_send_bytes(&raw::frame(true, raw::opcode::TEXT, text.as_bytes())).is_ok())
    });
    let (mut grown, began) = (0, Instant::now());
    while began.elapsed() < WATCHED {
        grown = grown.max(server.resident_kib().saturating_sub(before));
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(socket);
    grown
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_13_a_disk_that_takes_200_ms_for_a_sync_costs_time_and_no_memory() {
    /// Each sync, in microseconds.
    const SYNC_US: u32 = 200_000;
    const POSTS: usize = 30;
    let inject = format!("inject=fdatasync,fsync:delay_enter={SYNC_US}");
    let wrapper = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", &inject];
    let server = ServerOptions::new().without_rates().under(&wrapper).start();
    let mut devices = Vec::new();
    for name in ["Ada", "Bo", "Cy"] {
        devices.push(device(&server, server.address(), name).await);
    }
    let devices: Vec<&Device> = devices.iter().collect();
    let (before, began) = (server.resident_kib(), Instant::now());
    for number in 0..POSTS {
        for device in &devices {
            device.post(&format!("post {number}")).await;
        }
    }
    let room = general(&server).await;
    judge(&server, room, &devices).await;
    let took = began.elapsed();
    // A connection stores one post with each sync: were it quicker, the disk would not have been slow.
    let least = Duration::from_micros(u64::from(SYNC_US)) * u32::try_from(POSTS).expect("few");
    assert!(took >= least, "{POSTS} syncs of a connection took {took:?}, and a slow disk takes {least:?}");
    for device in &devices {
        assert!(!device.look(was_lost), "a slow disk cost a connection: {:#?}", device.seen().happened);
    }
    let grown = grown_under_a_hasty_writer(&server, room, before);
    assert!(grown < 12 * 1024, "memory grew by {grown} KiB");
    figure(&format!(
        "{} posts acknowledged in {:.1} s with 200 ms a sync; memory {grown} KiB more while somebody wrote 32 MB at once",
        POSTS * devices.len(),
        took.as_secs_f32()
    ));
}
