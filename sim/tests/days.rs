//! Days that everybody lives through with every change; `cargo xtask sim` lives through many more.

use sim::plan::{Act, Plan, Step};
use sim::{explore, run};

/// Days in the ordinary test.
const DAYS: u64 = 240;

/// Returns `HOLDFAST_SEED`, from which days are drawn, or zero.
fn first_seed() -> u64 {
    std::env::var("HOLDFAST_SEED").map_or(0, |seed| seed.parse().expect("HOLDFAST_SEED is a number"))
}

fn assert_holds(plan: &Plan) {
    let day = run::live(plan, false);
    if let Err(violation) = day.outcome {
        panic!("seed {}: {}\nsee it with: cargo xtask sim --seed {} --trace", plan.seed, violation.0, plan.seed);
    }
}

/// Lives through every second day of the ordinary test, so that two tests use two cores.
fn live_through(half: u64) {
    let first = first_seed();
    println!("HOLDFAST_SEED={first}");
    (first..first + DAYS).filter(|seed| seed % 2 == half).for_each(|seed| assert_holds(&Plan::draw(seed)));
}

#[test]
fn on_any_bad_day_everything_holds() {
    live_through(0);
}

#[test]
fn on_any_other_bad_day_everything_holds_too() {
    live_through(1);
}

#[test]
fn in_a_small_world_every_order_of_what_comes_first_ends_well() {
    let explored = explore::explore(&[], 4, || true);
    assert_eq!(explored.failure, None);
    assert!(explored.paths > 500, "only {} paths", explored.paths);
}

#[test]
fn the_same_plan_gives_the_same_day() {
    for seed in first_seed()..first_seed() + 10 {
        let plan = Plan::draw(seed);
        let (one, other) = (run::live(&plan, true), run::live(&plan, true));
        assert_eq!(one.fingerprint, other.fingerprint, "seed {seed}");
        assert_eq!(one.story, other.story, "seed {seed}");
    }
}

/// Makes a plan of a seed and what happened.
fn plan(seed: u64, steps: &[(u64, Act)]) -> Plan {
    Plan { seed, steps: steps.iter().map(|(after_ms, act)| Step { after_ms: *after_ms, act: *act }).collect() }
}

#[test]
fn unsent_posts_keep_their_order_when_a_second_crash_comes_while_they_are_found() {
    assert_holds(&plan(
        1_056_208,
        &[
            (28, Act::Kill { ms: 2_874 }),
            (45, Act::Post { device: 1 }),
            (37, Act::Post { device: 1 }),
            (149, Act::Crash { device: 1, ms: 236 }),
            (247, Act::PowerOff { device: 1, ms: 86_819 }),
        ],
    ));
    assert_holds(&plan(
        1_029_527,
        &[
            (1_580, Act::Burst { device: 0, posts: 10 }),
            (1_679, Act::NoStorage { device: 0, ms: 41_549 }),
            (6_267, Act::Restore { records: 25, ms: 2_638 }),
            (20_032, Act::Crash { device: 0, ms: 2_170 }),
        ],
    ));
}

#[test]
fn unsent_posts_keep_their_order_when_the_clock_jumps_back_between_them() {
    assert_holds(&plan(
        1940,
        &[
            (4, Act::Unplugged { device: 1, ms: 12_443 }),
            (83, Act::Post { device: 1 }),
            (193, Act::DeviceClock { device: 1, ahead: false }),
            (90, Act::Post { device: 1 }),
            (67, Act::Crash { device: 1, ms: 18_163 }),
        ],
    ));
}

#[test]
fn a_post_that_was_acknowledged_and_lost_with_a_backup_is_not_shown_although_its_event_never_came() {
    assert_holds(&plan(
        10_087_224,
        &[
            (32, Act::BlackHole { device: 3, way: sim::plan::Side::Both }),
            (43, Act::Post { device: 3 }),
            (76, Act::Post { device: 3 }),
            (32, Act::Post { device: 0 }),
            (9, Act::Crash { device: 3, ms: 12_990 }),
            (22, Act::Post { device: 0 }),
            (43, Act::Post { device: 1 }),
            (23, Act::PostAside { device: 0 }),
            (71, Act::Offline { device: 0, ms: 38_831 }),
            (191, Act::Restore { records: 20, ms: 9_174 }),
        ],
    ));
}

#[test]
fn what_was_meant_for_a_post_that_was_lost_with_a_backup_does_not_strike_the_one_that_took_its_place() {
    assert_holds(&plan(
        200_040_537,
        &[
            (1_830, Act::Post { device: 2 }),
            (165, Act::Restore { records: 9, ms: 3_233 }),
            (2_114, Act::Delete { device: 2, pick: 2_628_825_259_811_938_732 }),
            (448, Act::Post { device: 2 }),
            (2_378, Act::SlowDisk { ms: 16_647 }),
            (386, Act::Stall { device: 2, way: sim::plan::Side::Down, ms: 28_563 }),
        ],
    ));
}

#[test]
fn what_was_meant_for_a_lost_post_strikes_no_other_after_a_crash_of_a_device_that_could_not_store_its_refusal() {
    assert_holds(&plan(
        200_245_064,
        &[
            (88, Act::Post { device: 3 }),
            (638, Act::Restore { records: 2, ms: 5_999 }),
            (408, Act::Edit { device: 3, pick: 8_983_142_386_381_011_684 }),
            (1_038, Act::NoStorage { device: 3, ms: 16_880 }),
            (22, Act::Freeze { device: 2, ms: 320_621 }),
            (1_240, Act::Retry { device: 3 }),
            (1_972, Act::Post { device: 3 }),
            (4_113, Act::Crash { device: 3, ms: 2_228 }),
        ],
    ));
}

#[test]
fn unsent_posts_keep_their_order_when_a_device_takes_some_of_what_is_written_while_they_are_found_and_then_crashes() {
    assert_holds(&plan(
        500_020_594,
        &[
            (441, Act::FullDisk { ms: 15_726 }),
            (16, Act::SlowDisk { ms: 23_789 }),
            (244, Act::Burst { device: 3, posts: 14 }),
            (164, Act::Thin { device: 0, ms: 40_659 }),
            (134, Act::Move { device: 2 }),
            (404, Act::Offline { device: 3, ms: 21_203 }),
            (177, Act::Post { device: 1 }),
            (85, Act::PostAside { device: 0 }),
            (818, Act::Kill { ms: 2_908 }),
            (92, Act::Cut { device: 0 }),
            (487, Act::Post { device: 0 }),
            (93, Act::PowerOff { device: 3, ms: 83_940 }),
            (632, Act::Burst { device: 1, posts: 35 }),
            (403, Act::PowerOff { device: 1, ms: 8_232 }),
            (2_220, Act::NoStorage { device: 0, ms: 1_648 }),
            (1_655, Act::Crash { device: 0, ms: 7_975 }),
        ],
    ));
}

#[test]
fn nobody_waits_for_ever_behind_a_number_that_was_sent_under_another() {
    assert_holds(&plan(
        200_253_138,
        &[
            (32, Act::Burst { device: 1, posts: 54 }),
            (68, Act::PowerOff { device: 2, ms: 24_982 }),
            (44, Act::Thin { device: 1, ms: 56_009 }),
            (0, Act::Crowd { posts: 289 }),
            (49, Act::BlackHole { device: 1, way: sim::plan::Side::Both }),
            (38, Act::Post { device: 3 }),
            (61, Act::Post { device: 0 }),
            (12, Act::SlowDisk { ms: 26_971 }),
            (30, Act::NoStorage { device: 1, ms: 7_267 }),
        ],
    ));
}

#[test]
fn what_was_shown_of_a_room_is_forgotten_when_it_is_entered_anew() {
    assert_holds(&plan(
        10_093_299,
        &[
            (77_909, Act::Move { device: 1 }),
            (2_865, Act::Post { device: 2 }),
            (28_796, Act::Crowd { posts: 131 }),
            (20_967, Act::Post { device: 2 }),
            (10_861, Act::PostAside { device: 3 }),
            (30_933, Act::Move { device: 1 }),
            (70_383, Act::Post { device: 2 }),
            (35_039, Act::Post { device: 3 }),
            (13_361, Act::Restore { records: 7, ms: 4_150 }),
            (19_377, Act::Move { device: 0 }),
            (3_756, Act::Stall { device: 1, way: sim::plan::Side::Both, ms: 33_202 }),
        ],
    ));
}
