//! The power fails under load. What is there afterwards is what had reached the disk, and everything acknowledged must be
//! among it. Needs root.

use std::panic::{AssertUnwindSafe, catch_unwind};

use e2e::campaign::{Dice, figure, loops};
use e2e::crew::{PATIENCE, SOON, acks, devices, general, judge_folder, retry_now, settle};
use e2e::disk::Disk;
use e2e::server::{ServerOptions, ServerProcess};
use e2e::{Client, Device, Http, Oracle, wait};

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
