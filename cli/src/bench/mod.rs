//! `holdfast bench`: many lean clients against a server of one's own.
//!
//! Lives here: which workload the arguments mean, and the report. Must not live here: the load, which is the crate
//! [`mod@bench`]'s. Invariant: a server elsewhere is not loaded unless its owner says so.

mod report;

use std::time::Instant;

use bench::board::Seating;
use bench::clock::{now_ns, random};
use bench::load::{Kind, Load, Phase, Share};
use bench::process::{self, Reading};
use bench::result::Outcome;
use bench::wire::Target;
use shared::limits::POST_BYTES;

use self::report::{Report, ServerCost};
use crate::args::{BenchArgs, Common};
use crate::exit::End;
use crate::terminal::{line, note};

/// How long before the first post is due, in nanoseconds.
const LEAD_NS: u64 = 10_000_000;
/// Closed loop: runs so long before it is measured, in seconds.
const WARM_UP_S: f64 = 1.0;

impl From<bench::Fail> for End {
    fn from(fail: bench::Fail) -> Self {
        match fail {
            bench::Fail::Usage(words) => Self::Usage(words),
            bench::Fail::Refused(words) => Self::Refused(words),
            bench::Fail::TimedOut(words) => Self::TimedOut(words),
            bench::Fail::Local(words) => Self::Local(words),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// See [`End`]; [`End::Refused`] also where anything was lost or came twice.
pub(crate) fn run(common: &Common, args: &BenchArgs) -> Result<(), End> {
    let server = &common.server;
    if server.is_secure() {
        return Err(End::Usage("a bench speaks no TLS: it would measure that; give an http address".into()));
    }
    let target = Target::find(server.host(), server.port(), server.base()).map_err(End::Usage)?;
    if !target.is_here() && !args.i_own_this_server {
        return Err(End::Usage(format!("{server} is not on this machine; see --i-own-this-server")));
    }
    let report = measure(args, target)?;
    if args.json {
        line(&serde_json::to_string_pretty(&report).map_err(|error| End::Local(error.to_string()))?)?;
    } else {
        line(&report.table())?;
    }
    match report.outcome.is_clean() {
        true => Ok(()),
        false => Err(End::Refused("not every delivery came once; see above".into())),
    }
}

fn check(args: &BenchArgs, clients: usize) -> Result<(), End> {
    let usage = |words: String| Err(End::Usage(words));
    if clients == 0 || args.senders == 0 || args.burst == 0 {
        return usage("--clients, --senders, --burst and --idle must be at least 1".into());
    }
    if !(args.rate > 0.0 && args.rate <= 100_000.0 && args.seconds > 0.0 && args.seconds <= 86_400.0) {
        return usage("--rate must lie in 0–100000 and --seconds in 0–86400".into());
    }
    if !(32..=POST_BYTES).contains(&args.size) {
        return usage(format!("--size must lie in 32–{POST_BYTES}"));
    }
    Ok(())
}

/// Ends a bench whose senders were closed before it began: it would measure nothing.
fn still_there(warm_up: &Outcome) -> Result<(), End> {
    match warm_up.closed.is_empty() {
        true => Ok(()),
        false => Err(End::Refused(format!(
            "the server closed senders for posting too fast (refused: {:?}). Start it with higher --posts-burst, \
             --posts-per-s, --frames-burst and --frames-per-s",
            warm_up.refused
        ))),
    }
}

fn measure(args: &BenchArgs, target: Target) -> Result<Report, End> {
    let clients = match (args.idle, args.durable) {
        (Some(idle), _) => idle,
        (None, true) => args.senders,
        (None, false) => args.clients,
    };
    check(args, clients)?;
    let is_open = args.idle.is_none() && !args.durable;
    let seating = Seating::of(clients, 1, args.senders);
    let share = Share {
        kind: Kind::Holdfast,
        run: format!("{:08x}", u32::from_le_bytes(random())),
        clients,
        first: 0,
        count: clients,
        rooms: 1,
        senders: args.senders,
        follow: is_open,
        room: args.room.clone(),
        more_rooms: 0,
    };
    let mut load = Load::new(share, target)?;
    note(&format!("signing in {clients} people …"));
    load.sign_in()?;
    let reading =
        || -> Result<Option<Reading>, End> { args.server_pid.map(process::read).transpose().map_err(End::Usage) };
    let at_rest = reading()?;
    note("connecting …");
    load.connect()?;
    if args.idle.is_none() {
        note("entering the room …");
        load.enter()?;
    }
    load.settle()?;
    note("measuring …");
    let (size, seconds) = (args.size, args.seconds);
    let (phase, workload) = match (args.idle, args.durable) {
        (Some(_), _) => (Phase::Hold { seconds }, "idle connections"),
        (None, true) => {
            let warm_up = load.phase(&Phase::Closed { size, seconds: WARM_UP_S })?;
            still_there(&Outcome::of(&[warm_up], seating, WARM_UP_S))?;
            (Phase::Closed { size, seconds }, "durable posts, closed loop")
        }
        (None, false) => {
            let start_ns = now_ns() + LEAD_NS;
            (
                Phase::Open { start_ns, rate: args.rate, burst: args.burst, size, seconds, deaf: 0 },
                "one room, open loop",
            )
        }
    };
    let (before, since) = (reading()?, Instant::now());
    let result = load.phase(&phase)?;
    let (after, measured) = (reading()?, since.elapsed());
    let outcome = Outcome::of(&[result], seating, seconds);
    let server = match (at_rest, before, after) {
        (Some(at_rest), Some(before), Some(after)) => {
            Some(ServerCost::of(&outcome, at_rest, before, after, measured, clients))
        }
        _ => None,
    };
    Ok(Report {
        workload,
        clients,
        senders: seating.senders,
        rate_hz: is_open.then_some(args.rate),
        burst: is_open.then_some(args.burst),
        size,
        posts_per_s: outcome.acked as f64 / outcome.seconds,
        deliveries_per_s: outcome.deliveries as f64 / outcome.seconds,
        outcome,
        server,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_that_were_closed_in_the_warm_up_end_a_bench_with_what_to_raise() {
        assert!(still_there(&Outcome::default()).is_ok());
        let closed = Outcome { closed: [(4003, 2)].into(), ..Outcome::default() };
        let End::Refused(words) = still_there(&closed).unwrap_err() else { panic!("another end") };
        assert!(words.contains("--posts-per-s"), "{words}");
    }
}
