//! What the others notice while somebody attacks: how long their posts take, and how much memory the server needs.
//!
//! Must not live here: attacks. Invariant: an attack is measured against the same attack on another server of the same
//! kind that nobody uses, so that the processor time it takes from everybody is not counted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::campaign::{figure, measure};
use crate::client::new_id;
use crate::raw::RawSocket;
use crate::server::ServerOptions;
use crate::{Http, Scene};

/// What an attack may cost in memory, in KiB.
const FLAT_KIB: u64 = 16 * 1024;
/// How much later a post may be answered than beside the same attack on somebody else.
const UNMOVED: f64 = 1.5;
/// Below this a difference is the machine's own noise: a few syncs of a disk. In the ordinary test, which shares the
/// machine with other work and runs a slow build, it is more.
const NOISE: Duration = Duration::from_millis(5);
const ORDINARY_NOISE: Duration = Duration::from_millis(500);
/// Rounds against each of the two servers, taken in turns, in a campaign.
const ROUNDS: u32 = 3;
/// How often the bystander says that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at the server's memory.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whom an attack strikes.
#[derive(Debug)]
pub struct Target<'a> {
    /// Where it listens.
    pub address: SocketAddr,
    /// A token of the attacker's.
    pub token: &'a str,
    /// A room; where [`Self::is_used`], a busy one.
    pub room: &'a str,
    /// Whether this is the server that others use.
    pub is_used: bool,
    is_over: &'a AtomicBool,
}

impl Target<'_> {
    /// Tells whether the round is over, so that a long strike may end early.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// An attack, as it is repeated by every attacker until the round is over.
#[derive(Clone, Copy)]
pub struct Attack {
    /// What it is called in the figures.
    pub name: &'static str,
    /// How many attack at once.
    pub attackers: usize,
    /// How long a round takes.
    pub round: Duration,
    /// One strike: causes harm, and checks that the server ended it in time and with the right words.
    pub strike: fn(&Target<'_>),
}

/// What one round showed.
#[derive(Default)]
struct Round {
    waits: Vec<Duration>,
    peak_kib: u64,
    strikes: u64,
}

/// Attacks a server that is used and one that is not, in turns, and judges what the users of the first noticed.
///
/// # Panics
/// If memory grew, or the others' posts were answered later than beside the same attack on the unused one.
pub fn assert_costs_the_others_nothing(attack: Attack, options: &ServerOptions) {
    let mut used = Scene::open(options.clone());
    let unused = Scene::open(options.clone());
    let mut poster = RawSocket::open_and_greet(used.address(), &used.http.sign_in("Poster").token).0;
    // What a first attack makes the allocator keep is no growth, nor is a cache that fills once.
    let warm = round(&mut used, None, &mut poster, attack);
    let before = used.server.resident_kib();
    let (mut aside, mut under) = (Round::default(), Round::default());
    for _ in 0..measure(1, ROUNDS) {
        aside.add(round(&mut used, Some(&unused), &mut poster, attack));
        under.add(round(&mut used, None, &mut poster, attack));
    }
    let (base, p99) = (aside.p99(), under.p99());
    let grown = under.peak_kib.saturating_sub(before);
    figure(&format!(
        "{}: {} strikes; p99 of the others' acks {:.2} ms, {:.2} ms beside the same attack on an unused server ({} and {} \
         posts); memory at most {} KiB above the {} KiB before",
        attack.name,
        under.strikes,
        p99.as_secs_f64() * 1e3,
        base.as_secs_f64() * 1e3,
        under.waits.len(),
        aside.waits.len(),
        grown,
        before,
    ));
    assert!(warm.strikes + under.strikes > 0, "no strike came to its end");
    assert!(grown <= FLAT_KIB, "memory grew by {grown} KiB");
    let allowed = base.mul_f64(UNMOVED).max(base + measure(ORDINARY_NOISE, NOISE));
    assert!(p99 <= allowed, "the others' p99 went from {base:?} to {p99:?}");
    used.assert_the_others_live();
}

impl Round {
    fn add(&mut self, other: Self) {
        self.waits.extend(other.waits);
        self.peak_kib = self.peak_kib.max(other.peak_kib);
        self.strikes += other.strikes;
    }

    fn p99(&self) -> Duration {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        waits[waits.len() * 99 / 100]
    }
}

/// Posts for a while on the used server while the attack strikes it, or `elsewhere`.
fn round(used: &mut Scene, elsewhere: Option<&Scene>, poster: &mut RawSocket, attack: Attack) -> Round {
    let (is_over, strikes) = (AtomicBool::new(false), AtomicU64::new(0));
    let struck = elsewhere.unwrap_or(used);
    let (address, room) = (struck.address(), struck.room.clone());
    let tokens: Vec<String> = (0..attack.attackers).map(|_| fresh_token(&struck.http)).collect();
    let mut round = Round::default();
    std::thread::scope(|scope| {
        let (is_over, strikes, room) = (&is_over, &strikes, room.as_str());
        for token in &tokens {
            let target = Target { address, token, room, is_used: elsewhere.is_none(), is_over };
            scope.spawn(move || {
                while !target.is_over() {
                    (attack.strike)(&target);
                    strikes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let end = Instant::now() + attack.round;
        // Over also where this thread panics, or the attackers would never be joined.
        let _over = Over(is_over);
        let mut looked = Instant::now();
        let mut beaten = None::<Instant>;
        while Instant::now() < end {
            if beaten.is_none_or(|beaten| beaten.elapsed() > BEAT_EVERY) {
                beaten = Some(Instant::now());
                used.bystander.assert_alive();
            }
            round.waits.push(post(poster, &used.room));
            used.bystander.read_what_is_there();
            if looked.elapsed() > LOOK_EVERY {
                looked = Instant::now();
                round.peak_kib = round.peak_kib.max(used.server.resident_kib());
            }
        }
    });
    round.strikes = strikes.into_inner();
    round
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn fresh_token(http: &Http) -> String {
    let id = new_id().to_string();
    http.sign_in(&format!("Attacker {}", &id[id.len() - 12..])).token
}

fn post(poster: &mut RawSocket, room: &str) -> Duration {
    let id = crate::client::now().0;
    let payload: Value = json!({ "client_id": new_id(), "room": room, "body": "x".repeat(1_000) });
    let began = Instant::now();
    let answer = poster.ask(id, "post", &payload);
    assert_eq!(answer["success"], true, "{answer}");
    began.elapsed()
}
