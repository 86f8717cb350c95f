//! The power fails under load. What is there afterwards is what had reached the disk, and everything acknowledged must be
//! among it. Needs root.

use std::panic::{AssertUnwindSafe, catch_unwind};

use std::time::Duration;

use e2e::campaign::{Dice, figure, loops};
use e2e::client::new_id;
use e2e::crew::{PATIENCE, SOON, acks, devices, general, judge_folder, retry_now, settle};
use e2e::disk::Disk;
use e2e::server::{ServerOptions, ServerProcess};
use e2e::{Client, Device, Http, Oracle, wait};
use shared::ids::{ClientId, RoomId};

/// Longer than any sync takes that nobody tampers with.
const LATE: Duration = Duration::from_secs(3);

/// A server whose data lies on a disk, run by some more words before the server's own.
fn options(disk: &Disk, more: &[&str]) -> ServerOptions {
    let wrapper = disk.wrapper();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).chain(more.iter().copied()).collect();
    ServerOptions::new().without_rates().data_dir(&disk.root().join("data")).under(&wrapper)
}

/// Writes two files, of which only one is synced. If the other survives a cut, the cut is none.
fn place_canaries(disk: &Disk, cut: usize) {
    let script = format!(
        "cd '{}' && echo kept > synced-{cut} && echo lost > unsynced-{cut} && sync synced-{cut}",
        disk.root().display()
    );
    disk.run(&["sh", "-c", &script]);
}

fn judge_canaries(disk: &Disk, cut: usize) {
    let read = |name: &str| disk.run(&["sh", "-c", &format!("cat '{}/{name}-{cut}' || true", disk.root().display())]);
    assert_eq!(read("synced"), "kept\n", "the disk lost what was synced to it: it is no disk");
    assert_eq!(read("unsynced"), "", "what was never synced survived the cut: it is no cut");
}

/// Takes the power away from a server and its disk, and brings the disk back.
fn cut(server: &mut ServerProcess, disk: &mut Disk) {
    server.freeze();
    let dead = disk.fail();
    server.kill();
    *disk = dead.revive();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_10_no_acknowledged_post_is_lost_in_a_power_cut() {
    const BURST: u64 = 15;
    let cuts = loops(5);
    let mut dice = Dice::seeded(10);
    let mut disk = Disk::format();
    let mut server = options(&disk, &[]).start();
    let room = general(&server).await;
    let devices = devices(&server, &["Ada", "Bo", "Cy"]).await;
    let devices: Vec<&Device> = devices.iter().collect();
    for number in 1..=cuts {
        place_canaries(&disk, number);
        let before = acks(&devices);
        for (who, device) in devices.iter().enumerate() {
            for post in 0..BURST {
                device.post(&format!("post {post} of device {who} before cut {number}")).await;
            }
        }
        let enough = before + 1 + usize::try_from(dice.below(BURST * 3)).expect("few");
        wait::see("some of the burst is acknowledged", SOON, async || acks(&devices), |now| *now >= enough).await;
        cut(&mut server, &mut disk);
        judge_canaries(&disk, number);
        server.set_options(|_| options(&disk, &[]));
        server.restart();
        retry_now(&devices).await;
        for device in &devices {
            device.wait_live(PATIENCE).await;
        }
    }
    settle(&devices).await;
    server.kill();
    let salvaged = disk.salvage(&disk.root().join("data"));
    judge_folder(salvaged.path(), room, &devices).await;
    let total = Oracle::read(salvaged.path(), room).posts().count();
    assert_eq!(total, cuts * 3 * usize::try_from(BURST).expect("few"), "every post of every burst is stored once");
    figure(&format!("{cuts} power cuts; {total} posts, {} acknowledged; lost 0, doubled 0", acks(&devices)));
}

/// The same cut, with a server whose syncs answer success and do nothing, as one that forgot them would.
#[tokio::test(flavor = "multi_thread")]
async fn fault_10_a_server_whose_syncs_do_nothing_is_found_out() {
    let mut disk = Disk::format();
    let inject = "inject=fdatasync,fsync:retval=0";
    let lying = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", inject];
    let mut server = options(&disk, &lying).start();
    let who = Http::new(server.address()).sign_in("Ada");
    let (mut client, room, _) = Client::join_general(server.address(), &who.token).await;
    // Its folder and first posts reach the disk, so that it is the newest posts that are at stake.
    client.post_many(room, (0..50).map(|number| format!("synced by somebody else {number}"))).await;
    disk.run(&["sync", "--file-system", disk.root().to_str().expect("a plain name")]);
    let mut acked = Vec::new();
    for number in 0..50 {
        let key = e2e::client::new_id();
        let ack =
            client.post_as(key, room, &format!("unsynced {number}")).await.expect("a connection").expect("an ack");
        acked.push((key, ack.seq.0));
    }
    cut(&mut server, &mut disk);
    let salvaged = disk.salvage(&disk.root().join("data"));
    server.set_options(|_| options(&disk, &[]));
    let started = catch_unwind(AssertUnwindSafe(|| server.restart()));
    let mut oracle = Oracle::read(salvaged.path(), room);
    oracle.judge_acks("Ada", &acked);
    let lost = oracle.faults().len();
    assert!(lost > 0, "the harness does not notice a server that does not sync");
    figure(&format!(
        "without syncs {lost} of {} acknowledged posts were lost; the next start {}",
        acked.len(),
        if started.is_ok() { "took what was left for the whole" } else { "was refused" }
    ));
}

/// Posts until one is not acknowledged; returns its key and text.
async fn post_until_the_disk_refuses(
    client: &mut Client,
    room: RoomId,
    acked: &mut Vec<(ClientId, u64)>,
) -> (ClientId, String) {
    for number in 0..1_000 {
        let (key, body) = (new_id(), format!("post {number} {}", "x".repeat(2_000)));
        match tokio::time::timeout(SOON, client.post_as(key, room, &body)).await.expect("an answer, or the end") {
            Ok(Ok(ack)) => acked.push((key, ack.seq.0)),
            Ok(Err(_)) | Err(_) => return (key, body),
        }
    }
    panic!("the disk refused nothing");
}

/// A sync that failed is not made up for by the next: the kernel takes what it could not write for written, and shows it to
/// whoever reads. What is acknowledged after the restart must be on the disk all the same.
#[tokio::test(flavor = "multi_thread")]
async fn fault_12_nothing_that_is_acknowledged_after_a_failed_sync_is_lost_in_a_power_cut() {
    let mut disk = Disk::format_thin();
    let mut server = options(&disk, &[]).start();
    let who = Http::new(server.address()).sign_in("Ada");
    let (mut client, room, _) = Client::join_general(server.address(), &who.token).await;
    let mut acked = Vec::new();
    disk.starve();
    let (key, body) = post_until_the_disk_refuses(&mut client, room, &mut acked).await;
    assert!(!server.wait_for_exit(SOON).success(), "a sync failed, and the server left as if all were well");
    disk.feed();
    server.restart();
    let (mut client, ..) = Client::join_general(server.address(), &who.token).await;
    let again = client.post_as(key, room, &body).await.expect("a connection").expect("an ack");
    acked.push((key, again.seq.0));
    for number in 0..5 {
        let key = new_id();
        let ack = client.post_as(key, room, &format!("later {number}")).await.expect("a connection").expect("an ack");
        acked.push((key, ack.seq.0));
    }
    cut(&mut server, &mut disk);
    server.set_options(|_| options(&disk, &[]));
    server.restart();
    server.kill();
    let salvaged = disk.salvage(&disk.root().join("data"));
    let mut oracle = Oracle::read(salvaged.path(), room);
    oracle.judge_acks("Ada", &acked);
    oracle.verdict();
    figure(&format!("{} posts acknowledged around a failed sync and a power cut; lost 0", acked.len()));
}

/// As soon as somebody is told that their post is there, it is on the disk, whoever wrote it there.
#[tokio::test(flavor = "multi_thread")]
async fn fault_12_what_a_killed_server_never_synced_is_on_the_disk_before_it_is_said_to_be_stored() {
    /// Each thread's syncs are counted by itself; at its start a server has fewer.
    const SYNCS_THAT_SUCCEED: u32 = 25;
    let mut disk = Disk::format();
    let inject = format!("inject=fdatasync,fsync:delay_enter=60000000:when={SYNCS_THAT_SUCCEED}+");
    let slow = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", &inject];
    let mut server = options(&disk, &slow).start();
    let who = Http::new(server.address()).sign_in("Ada");
    let (mut client, room, _) = Client::join_general(server.address(), &who.token).await;
    let mut acked = Vec::new();
    let waiting = loop {
        let (key, body) = (new_id(), format!("post {}", acked.len()));
        match tokio::time::timeout(LATE, client.post_as(key, room, &body)).await {
            Ok(answer) => acked.push((key, answer.expect("a connection").expect("an ack").seq.0)),
            Err(_) => break (key, body),
        }
        assert!(acked.len() < 1_000, "no sync stood still");
    };
    server.kill();
    server.set_options(|_| options(&disk, &[]));
    server.restart();
    let (mut client, ..) = Client::join_general(server.address(), &who.token).await;
    let again = client.post_as(waiting.0, room, &waiting.1).await.expect("a connection").expect("an ack");
    assert!(again.duplicate, "it had been written before the kill");
    acked.push((waiting.0, again.seq.0));
    cut(&mut server, &mut disk);
    let salvaged = disk.salvage(&disk.root().join("data"));
    let mut oracle = Oracle::read(salvaged.path(), room);
    oracle.judge_acks("Ada", &acked);
    oracle.verdict();
}
