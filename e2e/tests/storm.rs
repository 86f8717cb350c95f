//! A server is killed under a crowd: everybody comes back unasked, spread over time, and nothing acknowledged is lost.
//!
//! The crowd are real sessions over real sockets, each a person of their own, all in the room everybody is in. Limits of
//! an address are raised, for they all come from one; with 10,000 every other setting is the default. Needs root.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::campaign::{clients, figure, measure};
use e2e::crew::{PATIENCE, enter, judge, raise_descriptors};
use e2e::device::Seen;
use e2e::network::Network;
use e2e::server::{ServerOptions, ServerProcess};
use e2e::{Device, Http, SignedIn};
use shared::session::{ConnectionState, STABLE_MS};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

/// How many sign in, or connect for the first time, at once.
const AT_ONCE: usize = 32;
/// How many of the crowd post.
const POSTERS: usize = 4;
/// Each of them this often.
const POST_EVERY: Duration = Duration::from_secs(5);
/// From so many clients on the server asks for all of its spread.
const FULL_SPREAD_AT: usize = 10_000;
/// The returns must take at least this long from the first to the last.
const SPREAD: Duration = Duration::from_secs(10);
/// How long everybody together may take to be back.
const BACK: Duration = Duration::from_secs(120);
/// How often it is looked whether this process itself keeps up.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The largest share of the crowd that may come within one second. Three hundred are too few for a fine measure.
fn busiest_share() -> f64 {
    measure(0.25, 0.15)
}

#[test]
fn fault_34_a_crowd_whose_server_was_killed_comes_back_spread_out_and_loses_nothing() {
    let crowd = clients(300, 10_000);
    // A short outage, and one in which most have tried in vain.
    let outages: &[u64] = measure(&[2], &[4, 15]);
    raise_descriptors(crowd);
    let network = Network::connect();
    network.run(async || {
        let options = ServerOptions::new().flag("sign-ins", 1_000_000).flag("pending-per-address", 20_000);
        // Fewer clients would be asked to spread out for less; here they are asked what ten thousand are, and in the
        // ordinary test soon.
        let spread_ms = measure(14_000, 20_000) * FULL_SPREAD_AT / crowd.min(FULL_SPREAD_AT);
        let beat_ms = measure(1_000, 10_000);
        let options = options.flag("reconnect-spread-ms", spread_ms).flag("beat-interval-ms", beat_ms);
        let mut server = network.start(options);
        let devices = assemble(&server, crowd).await;
        for down in outages {
            storm(&network, &mut server, &devices, Duration::from_secs(*down)).await;
        }
    });
}

/// Signs in as many people, then connects a device of each: whoever is there is told of everybody who joins.
async fn assemble(server: &ServerProcess, crowd: usize) -> Vec<Device> {
    let (_, room) = enter(server, "Guide").await;
    let http = Http::new(server.address());
    let mut coming: JoinSet<SignedIn> = JoinSet::new();
    let mut people = Vec::new();
    for number in 0..crowd {
        let http = http.clone();
        coming.spawn_blocking(move || http.sign_in(&format!("Number {number}")));
        if coming.len() == AT_ONCE {
            people.extend(coming.join_next().await);
        }
    }
    people.extend(coming.join_all().await.into_iter().map(Ok));
    let mut devices: Vec<Device> = Vec::new();
    for who in people {
        let who = who.expect("an answer");
        devices.push(Device::start(server.address(), &who, room, BTreeMap::new()));
        if let Some(earlier) = devices.len().checked_sub(AT_ONCE) {
            devices[earlier].wait_live(PATIENCE).await;
        }
    }
    for device in &devices {
        device.wait_live(PATIENCE).await;
    }
    figure(&format!("{} people signed in and live", devices.len()));
    devices
}

/// Lets everybody post, kills the server, starts it again after a while, and judges the return.
async fn storm(network: &Network, server: &mut ServerProcess, devices: &[Device], down: Duration) {
    // Everybody has been told how many they are by then, and every count of attempts has started over.
    let heard: Vec<usize> = devices.iter().map(|device| device.look(|seen| seen.beats)).collect();
    for (device, heard) in devices.iter().zip(heard) {
        device.wait("a beat is answered", PATIENCE, |seen| seen.beats > heard).await;
    }
    sleep(measure(Duration::ZERO, Duration::from_millis(STABLE_MS))).await;
    let attempts = || devices.iter().map(|device| device.look(|seen| seen.closed)).sum::<usize>();
    let (dropped, before) = (network.dropped_at_the_door(), attempts());
    let storm = async {
        sleep(POST_EVERY / 2).await;
        let killed = Instant::now();
        server.kill();
        sleep(down).await;
        server.restart();
        let could = Instant::now();
        returns(devices, killed).await;
        (killed, could, server.cpu_time())
    };
    let mut lag = Duration::ZERO;
    let (killed, could, cpu) = tokio::select! {
        done = storm => done,
        () = write(&devices[..POSTERS]) => unreachable!("they write for ever"),
        () = watch_the_clock(&mut lag) => unreachable!("it is watched for ever"),
    };
    let everybody: Vec<&Device> = devices.iter().collect();
    let room = devices[0].room();
    judge(server, room, &everybody).await;
    let back = in_order(devices, |seen| *seen.opened.iter().find(|opened| **opened > killed).expect("it is back"));
    // The attempt that succeeded: the last before the upgrade was accepted.
    let asked = in_order(devices, |seen| {
        let opened = seen.opened.iter().find(|opened| **opened > killed).expect("it is back");
        *seen.tried.iter().rev().find(|tried| *tried <= opened).expect("it asked")
    });
    let (took, busiest, asking) = (spread(&back), busiest(&back), busiest(&asked));
    let acked: usize = devices.iter().map(|device| device.look(|seen| seen.acked.len())).sum();
    let dropped = network.dropped_at_the_door() - dropped;
    let first = back.first().expect("a crowd").saturating_duration_since(could);
    let last = back.last().expect("a crowd").saturating_duration_since(could);
    figure(&format!(
        "{} clients, server killed and away for {:.0} s: back from {:.1} to {:.1} s after it listened, {:.1} % in the \
         busiest second ({:.1} % asked in one); {} attempts in vain; {dropped} dropped at the door; {:.1} s of the server's processor time until \
         all were live; {acked} posts acknowledged, lost 0, doubled 0; this process at most {:.0} ms late; load {}",
        devices.len(),
        down.as_secs_f64(),
        first.as_secs_f64(),
        last.as_secs_f64(),
        busiest * 100.0,
        asking * 100.0,
        attempts() - before - devices.len(),
        cpu.as_secs_f64(),
        lag.as_secs_f64() * 1e3,
        std::fs::read_to_string("/proc/loadavg").expect("/proc tells").split(' ').next().expect("a number"),
    ));
    figure(&format!("returns in each second: {:?}", by_second(&back)));
    assert_eq!(dropped, 0, "the queue at the door overflowed");
    assert!(took >= SPREAD, "all were back within {took:?}");
    assert!(busiest <= busiest_share(), "{:.1} % came within one second: {:?}", busiest * 100.0, by_second(&back));
}

/// Lets some post again and again.
async fn write(posters: &[Device]) {
    let mut ticks = interval(POST_EVERY);
    for number in 0_u64.. {
        ticks.tick().await;
        for device in posters {
            device.post(&format!("number {number} of a poster, whatever happens")).await;
        }
    }
}

/// Notes by how much this process is late at most: what it is late by is in everything it measures.
async fn watch_the_clock(lag: &mut Duration) {
    loop {
        let begun = Instant::now();
        sleep(LOOK_EVERY).await;
        *lag = (*lag).max(begun.elapsed().saturating_sub(LOOK_EVERY));
    }
}

/// Waits until everybody is live again.
async fn returns(devices: &[Device], killed: Instant) {
    let all_back = async {
        for device in devices {
            let is_back = |seen: &Seen| {
                seen.state == Some(ConnectionState::Live) && seen.opened.last().is_some_and(|opened| *opened > killed)
            };
            device.wait("the device is back", BACK, is_back).await;
        }
    };
    timeout(BACK, all_back).await.expect("everybody is back in time");
}

/// Returns one moment of each device, in order of time.
fn in_order(devices: &[Device], of: impl Fn(&Seen) -> Instant) -> Vec<Instant> {
    let mut moments: Vec<Instant> = devices.iter().map(|device| device.look(&of)).collect();
    moments.sort_unstable();
    moments
}

/// From the first return to the last.
fn spread(back: &[Instant]) -> Duration {
    back.last().expect("a crowd").duration_since(*back.first().expect("a crowd"))
}

/// The largest share of the returns that lies within any one second.
fn busiest(back: &[Instant]) -> f64 {
    let within = |from: usize| back.partition_point(|at| at.duration_since(back[from]) < Duration::from_secs(1)) - from;
    let most = (0..back.len()).map(within).max().expect("a crowd");
    f64::from(u32::try_from(most).expect("few")) / f64::from(u32::try_from(back.len()).expect("few"))
}

/// How many came in each second after the first.
fn by_second(back: &[Instant]) -> Vec<usize> {
    let mut seconds = Vec::new();
    for at in back {
        let second = usize::try_from(at.duration_since(back[0]).as_secs()).expect("few");
        seconds.resize(seconds.len().max(second + 1), 0);
        seconds[second] += 1;
    }
    seconds
}
