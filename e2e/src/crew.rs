//! People with devices in one room, and the judgement over all of them.
//!
//! Must not live here: faults. Invariant: judged are the database, each sender's journal and what each receiver showed,
//! after everybody has come to rest.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use shared::ids::RoomId;
use shared::session::{Command, ConnectionState, Input};

use crate::client::new_id;
use crate::device::Seen;
use crate::{Client, Device, Http, Oracle, ServerProcess, SignedIn};

/// For what takes moments on an idle machine.
pub const SOON: Duration = Duration::from_secs(20);
/// For what takes a while on a busy one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Signs somebody in and tells where `general` is.
pub async fn enter(server: &ServerProcess, name: &str) -> (SignedIn, RoomId) {
    let who = Http::new(server.address()).sign_in(name);
    let (client, room, _) = Client::join_general(server.address(), &who.token).await;
    client.close().await;
    (who, room)
}

/// Starts a device for somebody new, whose way to the server leads over `via`, and waits until it is live.
pub async fn device(server: &ServerProcess, via: SocketAddr, name: &str) -> Device {
    let (who, room) = enter(server, name).await;
    let device = Device::start(via, &who, room, BTreeMap::new());
    device.wait_live(SOON).await;
    device
}

/// Starts a device each for people of these names, straight to the server.
pub async fn devices(server: &ServerProcess, names: &[&str]) -> Vec<Device> {
    let mut devices = Vec::new();
    for name in names {
        devices.push(device(server, server.address(), name).await);
    }
    devices
}

/// Returns how many posts of all devices are acknowledged.
#[must_use]
pub fn acks(devices: &[&Device]) -> usize {
    devices.iter().map(|device| device.look(|seen| seen.acked.len())).sum()
}

/// Returns the room everybody is in.
pub async fn general(server: &ServerProcess) -> RoomId {
    let id = new_id().to_string();
    enter(server, &format!("Guide {}", &id[id.len() - 12..])).await.1
}

/// Clears the wait for the next attempt, as a person's "retry now" does, so that loops of faults are quick.
pub async fn retry_now(devices: &[&Device]) {
    for device in devices {
        device.tell(Input::Command(Command::RetryNow)).await;
    }
}

/// Tells whether a device ever took its connection for lost.
#[must_use]
pub fn was_lost(seen: &Seen) -> bool {
    let lost =
        |state: &ConnectionState| matches!(state, ConnectionState::Waiting { .. } | ConnectionState::Trying { .. });
    seen.states.iter().any(lost)
}

/// Waits until everything that was queued is acknowledged and every device is live.
pub async fn settle(devices: &[&Device]) {
    for device in devices {
        device.wait_settled(PATIENCE).await;
        device.wait_live(PATIENCE).await;
    }
}

/// Waits until every device has shown what is stored, and gives everything to the oracle.
///
/// # Panics
/// With everything the oracle found.
pub async fn judge(server: &ServerProcess, room: RoomId, devices: &[&Device]) {
    settle(devices).await;
    judge_folder(server.data_dir(), room, devices).await;
}

/// As [`judge`], with the database in another folder than the server says, such as a copy of it.
///
/// # Panics
/// With everything the oracle found.
pub async fn judge_folder(data_dir: &Path, room: RoomId, devices: &[&Device]) {
    let newest = Oracle::read(data_dir, room).posts().last().map_or(0, |post| post.seq);
    for device in devices {
        // What lies before it was shown, or lies in a hole, or the oracle finds it missing.
        let whole = |seen: &Seen| seen.shown.keys().next_back().copied().unwrap_or(0) >= newest;
        device.wait("the newest post is shown", PATIENCE, whole).await;
    }
    let mut oracle = Oracle::read(data_dir, room);
    for (number, device) in devices.iter().enumerate() {
        let seen = device.seen();
        oracle.judge_acks(&format!("device {number}"), &seen.acked);
        oracle.judge_shown(&format!("device {number}"), &seen);
    }
    oracle.verdict();
}

/// Lets this process, and the servers it starts, have a descriptor for each of so many connections.
///
/// # Panics
/// If it may not; with the limit that stands in the way.
pub fn raise_descriptors(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// What a process needs beside its connections.
    const OTHERS: u64 = 1_000;
    let limit = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + OTHERS;
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // Only root may go beyond the maximum.
    raised.unwrap_or_else(|error| panic!("{connections} connections need {wanted} descriptors, {limit:?}: {error}"));
}
