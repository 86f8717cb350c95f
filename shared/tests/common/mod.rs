//! What the tests of the pure crate share: a seed that can be given back, and a server of one room made of a `Vec`.
//!
//! Lives here: the seed; [`device`] is one session at its socket, [`room`] the server, [`check`] what must be true of a
//! timeline, [`reader`] one client of the room. The last three know no test framework: the fuzzer drives them, too. Invariant: the model knows nothing of
//! the code under test; it replays the whole history for every question.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

pub(crate) mod check;
pub(crate) mod device;
pub(crate) mod reader;
pub(crate) mod room;

use std::hash::{BuildHasher, Hasher};

use proptest::test_runner::{Config, RngSeed, TestRunner};

pub(crate) use room::{Deed, Room, at, client_id, epoch, room, user};

/// Makes a runner whose seed is printed, and taken from `HOLDFAST_SEED` if that is set; `HOLDFAST_CASES` sets how many
/// cases it tries, for a long night.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let seed = match std::env::var("HOLDFAST_SEED") {
        Ok(text) => text.parse().expect("HOLDFAST_SEED is a number"),
        Err(_) => std::hash::RandomState::new().build_hasher().finish(),
    };
    println!("HOLDFAST_SEED={seed}");
    let cases = std::env::var("HOLDFAST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(cases);
    TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    })
}
