//! Whole bad days in virtual time: real sessions and timelines on a link that breaks, against a model of the server.
//!
//! Whatever happened, once the weather is fair again every device is live by itself, everything that was saved on a
//! device is stored exactly once and in the order it was written, and every timeline shows what the room holds.
//! A failure prints a seed (`HOLDFAST_SEED`) and the smallest plan that still fails.

mod common;
mod world;

use common::check::{assert_shows, assert_sound};
use common::runner;
use proptest::collection::vec;
use proptest::prelude::*;
use shared::ids::{ClientId, Seq};
use shared::session::ConnectionState;
use shared::timeline::Row;
use world::{DEVICES, Fault, World};

fn faults() -> impl Strategy<Value = Fault> {
    let device = 0..DEVICES;
    prop_oneof![
        10 => device.clone().prop_map(Fault::Write),
        1 => (device.clone(), 2..80_u64).prop_map(|(device, count)| Fault::Burst(device, count)),
        2 => (device.clone(), any::<usize>()).prop_map(|(device, row)| Fault::Change(device, row)),
        3 => (1..20_u64).prop_map(Fault::Others),
        3 => device.clone().prop_map(Fault::Cut),
        2 => (device.clone(), any::<bool>()).prop_map(|(device, both_ways)| Fault::BlackHole(device, both_ways)),
        1 => (100..20_000_u64).prop_map(Fault::Kill),
        1 => (100..20_000_u64).prop_map(Fault::Drain),
        1 => (device.clone(), 100..60_000_u64).prop_map(|(device, ms)| Fault::Offline(device, ms)),
        1 => device.clone().prop_map(Fault::Crash),
        1 => (device.clone(), 1_000..600_000_u64).prop_map(|(device, ms)| Fault::Sleep(device, ms)),
        2 => (100..5_000_u64).prop_map(Fault::Slow),
        2 => (100..5_000_u64).prop_map(Fault::Refuse),
        1 => device.clone().prop_map(Fault::Again),
        1 => device.prop_map(Fault::Poison),
        1 => (1..30_u64).prop_map(Fault::Restore),
    ]
}

/// Checks that hold in the middle of the worst day.
fn assert_true_now(world: &World) {
    for device in &world.devices {
        assert_sound(&device.timeline);
        if device.session.state() == ConnectionState::Live {
            assert!(device.timeline.head() >= device.goal, "live, and behind what the server had at the welcome");
        }
    }
}

fn assert_good_end(world: &World) {
    let head = world.server.room.head();
    let posts = world.server.room.posts(head);
    for device in &world.devices {
        assert_eq!(device.session.state(), ConnectionState::Live);
        let rows: Vec<Row> = device.timeline.rows().collect();
        let shown: Vec<_> = rows.iter().filter_map(Row::as_post).filter(|row| row.seq.is_some()).collect();
        assert_eq!(shown.len(), posts.len(), "every post is shown once");
        shown.iter().zip(&posts).for_each(|(row, post)| assert_shows(row, post, device.user));

        let stored: Vec<ClientId> =
            posts.iter().filter(|post| post.by == device.user).map(|post| post.client_id).collect();
        let parked: Vec<ClientId> =
            device.session.outbox().filter(|item| item.refused.is_some()).map(|item| item.client_id).collect();
        assert_eq!(device.session.outbox().count(), parked.len(), "all that was not refused is sent");
        assert!(
            stored.is_sorted_by_key(|key| device.written.iter().position(|written| written == key)),
            "out of order"
        );
        let was_lost = |key: &ClientId| world.server.lost.contains(&(device.user, *key));
        let told = |key: &ClientId| device.acked.iter().any(|(acked, _)| acked == key);
        let gone = |key: &ClientId| device.poison.contains(key) || (was_lost(key) && told(key));
        let settled = |key: &ClientId| world.server.has(device.user, *key) || parked.contains(key);
        let missing = |key: &&ClientId| !settled(key) && !gone(key);
        let lost: Vec<&ClientId> = device.saved.iter().filter(missing).collect();
        assert!(lost.is_empty(), "saved on the device and neither stored nor refused: {lost:?}");
        let acked_elsewhere = device.acked.iter().filter(|(key, _)| !was_lost(key)).find(|(key, seq)| {
            posts.iter().any(|post| post.client_id == *key && post.by == device.user && post.seq != *seq)
        });
        assert_eq!(acked_elsewhere, None, "acknowledged at one place and stored at another");
        let delivered_twice = device.delivered.windows(2).find(|pair| pair[1] <= pair[0]);
        assert_eq!(delivered_twice, None, "an event was given to the page twice or out of order");
    }
    assert_eq!(world.server.floods, 0, "an honest client was closed for a flood");
    let mut keys: Vec<_> = posts.iter().map(|post| (post.by, post.client_id)).collect();
    keys.sort();
    assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "stored twice");
}

#[test]
fn after_any_bad_day_nothing_is_lost_doubled_or_reordered_and_all_devices_agree() {
    let plan = (any::<u64>(), vec((1..4_000_u64, faults()), 0..40));
    let run = |(seed, plan): (u64, Vec<(u64, Fault)>)| {
        let mut world = World::new(seed);
        for (pause_ms, fault) in plan {
            world.run_for(pause_ms);
            assert_true_now(&world);
            world.strike(fault);
            assert_true_now(&world);
        }
        world.clear_up();
        assert_true_now(&world);
        assert_good_end(&world);
        Ok(())
    };
    runner(400).run(&plan, run).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_quiet_day_is_quiet() {
    let mut world = World::new(1);
    world.run_for(3_600_000);
    world.strike(Fault::Write(0));
    world.run_for(1_000);
    assert_good_end(&world);
    let device = &world.devices[0];
    assert_eq!((device.attempts, device.delivered.last()), (1, Some(&Seq(1))));
}
