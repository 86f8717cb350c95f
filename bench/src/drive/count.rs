//! What the server does for a delivery, a post, a heartbeat and an arrival, counted and not timed: instructions of its own
//! under callgrind, system calls under strace, each beside a budget.
//!
//! Lives here: the loads, the sums, the judgement. Must not live here: what makes the load (`bench::load`). Invariant: a
//! figure is a slope between two loads that differ in one thing, so starting and stopping are in none of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bench::Fail;
use bench::clock::random;
use bench::load::{Kind, Load, Share};
use bench::wire::Target;

use super::servers::{Contestant, Cores, Server, empty};
use super::workloads::SIZE;
use crate::CountArgs;

/// A figure may be so much above its budget where the budget says nothing else, in hundredths: what chance does to hash
/// maps and batches.
const ROOM_PERCENT: f64 = 5.0;
/// How often is counted, at most, until the lowest figures keep to the budget.
const ROUNDS: u32 = 3;
/// How long the server may take to end, and an instrument to write what it counted.
const END_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Members of the small and of the large room.
const FEW: usize = 10;
const MANY: usize = 110;
/// Posts one by one of the short and of the long load.
const SHORT: usize = 40;
const LONG: usize = 840;
/// Posts of a burst, each of another sender, and bursts.
const BURST: usize = 16;
const BURSTS: usize = 30;
/// Heartbeats.
const BEATS: usize = 3_000;

/// What is laid on one server from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    members: usize,
    posts: usize,
    bursts: usize,
    beats: usize,
}

/// The loads that every figure is worked out from.
const PLANS: [Plan; 6] = [
    Plan { members: FEW, posts: SHORT, bursts: 0, beats: 0 },
    Plan { members: FEW, posts: LONG, bursts: 0, beats: 0 },
    Plan { members: MANY, posts: SHORT, bursts: 0, beats: 0 },
    Plan { members: MANY, posts: LONG, bursts: 0, beats: 0 },
    Plan { members: MANY, posts: SHORT, bursts: BURSTS, beats: 0 },
    Plan { members: FEW, posts: SHORT, bursts: 0, beats: BEATS },
];

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instrument {
    /// Instructions outside the kernel, by callgrind.
    Instructions,
    /// System calls, by strace.
    Calls,
}

impl Instrument {
    const ALL: [Self; 2] = [Self::Instructions, Self::Calls];

    const fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Calls => "calls",
        }
    }

    /// Whether a figure is worth judging: how many calls an arrival or a burst takes is a matter of what comes together.
    fn judges(self, what: &str) -> bool {
        self == Self::Instructions || matches!(what, "delivery" | "post" | "heartbeat")
    }

    /// The command that runs the server and writes what it counted. It has the server's own process id.
    fn command(self, server: &Path, found: &Path) -> Vec<String> {
        let instrument = match self {
            Self::Instructions => vec![
                "valgrind".to_owned(),
                "--quiet".to_owned(),
                "--tool=callgrind".to_owned(),
                "--fair-sched=yes".to_owned(),
                "--separate-threads=yes".to_owned(),
                format!("--callgrind-out-file={}", found.display()),
            ],
            Self::Calls => {
                ["strace", "-D", "-f", "-c", "-o"].map(str::to_owned).into_iter().chain([text(found)]).collect()
            }
        };
        // One thread for connections: which of several takes what is chance.
        let begin = ["env", "TOKIO_WORKER_THREADS=1"].map(str::to_owned);
        begin.into_iter().chain(instrument).chain([text(server)]).chain(QUIET.map(str::to_owned)).collect()
    }

    /// Reads what it wrote to a file and, where it writes one for each thread, to those named after it; none while that is
    /// not whole.
    fn read(self, found: &Path) -> Option<Counted> {
        match self {
            Self::Instructions => {
                let threads = (1..=THREADS).map_while(|n| {
                    let name = format!("{}-{n:02}", found.file_name()?.to_string_lossy());
                    std::fs::read_to_string(found.with_file_name(name)).ok()
                });
                of_threads(&threads.collect::<Vec<_>>())
            }
            Self::Calls => of_calls(&std::fs::read_to_string(found).ok()?),
        }
    }
}

/// Most threads the server has.
const THREADS: usize = 99;
/// What only the thread that runs connections does much of.
const CONNECTION: &str = "server::connection";

/// Reads callgrind's file of each thread.
fn of_threads(threads: &[String]) -> Option<Counted> {
    let totals = threads.iter().map(|file| {
        let total: f64 = file.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()?;
        Some((file.matches(CONNECTION).count(), total))
    });
    let totals: Vec<(usize, f64)> = totals.collect::<Option<_>>()?;
    let (_, connections) = *totals.iter().max_by_key(|(named, _)| *named)?;
    let all = totals.iter().map(|(_, total)| total).sum();
    Some(BTreeMap::from([(CONNECTIONS.to_owned(), connections), (TOTAL.to_owned(), all)]))
}

/// Calls that depend on when threads run: how they wait for each other, what the allocator gives back meanwhile, and the
/// head of the log, which is synced by the clock.
const BY_CHANCE: [&str; 6] = ["futex", "clock_nanosleep", "fdatasync", "madvise", "mprotect", "rt_sigprocmask"];

/// Reads strace's table: "% time, seconds, usecs/call, calls, errors or nothing, name"; the last row is the sum.
fn of_calls(table: &str) -> Option<Counted> {
    let rows = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(((*words.last()?).to_owned(), words.get(3)?.parse().ok()?))
    });
    let mut counted: Counted = rows.collect();
    let by_chance: f64 = BY_CHANCE.iter().filter_map(|name| counted.get(*name)).sum();
    *counted.get_mut(TOTAL)? -= by_chance;
    Some(counted)
}

/// What would come whenever it likes is kept away: heartbeats, and telling who is here.
const QUIET: [&str; 12] = [
    "--coalesce-ms",
    "3600000",
    "--presence-grace-ms",
    "3600000",
    "--sweep-ms",
    "3600000",
    "--beat-interval-ms",
    "3600000",
    "--dead-peer-ms",
    "7200000",
    "--drain-ms",
    "1",
];
/// The name of the sum in what was counted.
const TOTAL: &str = "total";
/// The name of what the thread of the connections did.
const CONNECTIONS: &str = "connections";

/// Counts by name, and their sum.
type Counted = BTreeMap<String, f64>;

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Counts, and judges. Returns whether everything is within its budget.
///
/// # Errors
/// An instrument is missing, the server failed, or the budget cannot be read.
pub(crate) fn run(args: &CountArgs) -> Result<bool, Fail> {
    let budget = std::fs::read_to_string(&args.budget)
        .map_err(|error| Fail::Usage(format!("{}: {error}", args.budget.display())))?;
    let budget = Budget::parse(&budget).map_err(Fail::Usage)?;
    let mut lowest = Vec::new();
    for round in 1..=ROUNDS {
        lowest = lower(lowest, counted_once(args)?);
        let (words, is_kept) = budget.judge(&lowest);
        println!("{words}");
        if is_kept {
            return Ok(true);
        }
        if round < ROUNDS {
            println!("\nCounting once more: chance adds to a figure, and a change that costs more does so each time.");
        }
    }
    Ok(false)
}

/// The lower of what was found before and what was found now, figure by figure.
fn lower(before: Vec<Figure>, now: Vec<Figure>) -> Vec<Figure> {
    if before.is_empty() {
        return now;
    }
    before.into_iter().zip(now).map(|((name, before), (_, now))| (name, before.min(now))).collect()
}

fn counted_once(args: &CountArgs) -> Result<Vec<Figure>, Fail> {
    // Side by side: a count does not depend on what else the machine does.
    let found: Vec<Result<(Vec<Figure>, String), Fail>> = std::thread::scope(|scope| {
        let threads = Instrument::ALL.map(|instrument| scope.spawn(move || figures(args, instrument)));
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(Fail::Local("a thread panicked".into()))))
            .collect()
    });
    let mut figures = Vec::new();
    for found in found {
        let (some, words) = found?;
        print!("{words}");
        figures.extend(some);
    }
    Ok(figures)
}

/// A figure: its name, and how much.
type Figure = (String, f64);

/// Counts with one instrument. Returns what it came to, and words about what it consists of.
fn figures(args: &CountArgs, instrument: Instrument) -> Result<(Vec<Figure>, String), Fail> {
    let counted = PLANS
        .into_iter()
        .enumerate()
        .map(|(at, plan)| count(args, instrument, at, plan))
        .collect::<Result<Vec<_>, _>>()?;
    let sum = |name: &str| -> Vec<f64> {
        counted.iter().map(|counts| counts.get(name).copied().unwrap_or_default()).collect()
    };
    let apart = match instrument {
        Instrument::Instructions => sum(CONNECTIONS),
        Instrument::Calls => sum(TOTAL),
    };
    let figures = slopes(&sum(TOTAL), &apart).into_iter().filter(|(what, _)| instrument.judges(what));
    let figures = figures.map(|(what, figure)| (format!("{}.{what}", instrument.name()), figure)).collect();
    let mut words = String::new();
    if instrument == Instrument::Calls {
        let names: std::collections::BTreeSet<&String> = counted.iter().flat_map(BTreeMap::keys).collect();
        for name in names.into_iter().filter(|name| *name != TOTAL) {
            let parts = slopes(&sum(name), &sum(name))
                .map(|(what, figure)| (figure.abs() >= 0.05).then(|| format!("{what} {figure:.2}")));
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            if !parts.is_empty() {
                // Writing to a string cannot fail.
                let _ = writeln!(words, "  {name}: {}", parts.join(", "));
            }
        }
    }
    Ok((figures, words))
}

/// Works the figures out of the counts of [`PLANS`]: for a post to a room, `a post + members × a delivery`. What storing
/// has no part in is taken from the counts of the connections `apart`.
fn slopes(all: &[f64], apart: &[f64]) -> [(&'static str, f64); 5] {
    let posts = (LONG - SHORT) as f64;
    let (few, many) = ((all[1] - all[0]) / posts, (all[3] - all[2]) / posts);
    let delivery = ((apart[3] - apart[2]) - (apart[1] - apart[0])) / posts / (MANY - FEW) as f64;
    let arrived = |at: usize, post: f64| all[at] - SHORT as f64 * post;
    [
        ("delivery", delivery),
        ("post", few - FEW as f64 * delivery),
        ("post_of_a_burst_to_110", (all[4] - all[2]) / (BURSTS * BURST) as f64),
        ("heartbeat", (apart[5] - apart[0]) / BEATS as f64),
        ("arrival", (arrived(2, many) - arrived(0, few)) / (MANY - FEW) as f64),
    ]
}

/// Runs one load from the start of the server to its end.
fn count(args: &CountArgs, instrument: Instrument, at: usize, plan: Plan) -> Result<Counted, Fail> {
    let folder = args.folder.join(format!("{}-{at}", instrument.name()));
    empty(&folder)?;
    std::fs::create_dir_all(&folder)?;
    let found: PathBuf = folder.join("counted");
    let command = instrument.command(&args.server, &found);
    let contestant = Contestant { name: instrument.name().into(), kind: Kind::Holdfast, command };
    let everywhere = Cores { server: bench::process::cores(), load: bench::process::cores() };
    let server = Server::start(&contestant, &folder, &folder.join("data"), &everywhere)?;
    let share = Share {
        kind: Kind::Holdfast,
        run: format!("{:08x}", u32::from_le_bytes(random())),
        clients: plan.members,
        first: 0,
        count: plan.members,
        rooms: 1,
        senders: BURST,
        follow: true,
        room: "bench".into(),
        more_rooms: 0,
    };
    let mut load = Load::new(share, Target::at(&server.url).map_err(Fail::Usage)?)?;
    load.sign_in()?;
    load.connect()?;
    load.enter()?;
    load.rounds(plan.posts, 1, SIZE)?;
    load.rounds(plan.bursts, BURST, SIZE)?;
    load.beats(plan.beats)?;
    load.leave()?;
    server.end(END_LIMIT)?;
    // strace writes when all that it watched has ended.
    let until = Instant::now() + END_LIMIT;
    loop {
        let counted = instrument.read(&found);
        match counted {
            Some(counted) => {
                empty(&folder.join("data"))?;
                return Ok(counted);
            }
            None if Instant::now() > until => {
                return Err(Fail::TimedOut(format!("{} holds no count; see the log beside it", found.display())));
            }
            None => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// What each figure may be: so much, and so many hundredths more.
#[derive(Debug, PartialEq)]
struct Budget(BTreeMap<String, (f64, f64)>);

impl Budget {
    /// Reads lines of a name, a figure, and where it is not the usual one how much room there is above it, as in `10%`.
    /// What follows a `#` is for people.
    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let figures = lines.filter(|line| !line.is_empty()).map(|line| {
            let wrong = || format!("the budget's line {line:?} is not a name and a figure");
            let words: Vec<&str> = line.split_whitespace().collect();
            let figure = |text: &str| text.replace(',', "").parse::<f64>().map_err(|_| wrong());
            match words.as_slice() {
                [name, most] => Ok(((*name).to_owned(), (figure(most)?, ROOM_PERCENT))),
                [name, most, room] => {
                    let room = room.strip_suffix('%').ok_or_else(wrong)?;
                    Ok(((*name).to_owned(), (figure(most)?, figure(room)?)))
                }
                _ => Err(wrong()),
            }
        });
        figures.collect::<Result<_, String>>().map(Self)
    }

    /// Sets the figures beside the budget. Returns a table, and whether all are kept and every one has a line.
    fn judge(&self, figures: &[Figure]) -> (String, bool) {
        let mut table = format!("\n{:<38} {:>12} {:>12}", "counted", "figure", "budget");
        let mut is_kept = true;
        for (name, figure) in figures {
            let line = match self.0.get(name) {
                Some(&(budget, room)) => {
                    let percent = (figure / budget - 1.0) * 100.0;
                    // Another kind of processor has other instructions.
                    let is_judged = cfg!(target_arch = "x86_64") || !name.starts_with(Instrument::Instructions.name());
                    let is_over = is_judged && percent > room;
                    let words = if is_over { "TOO MUCH" } else { "" };
                    is_kept &= !is_over;
                    format!("{budget:>12.1} {percent:>+7.1}% {words}")
                }
                None => {
                    is_kept = false;
                    "no line in the budget".to_owned()
                }
            };
            let _ = write!(table, "\n{name:<38} {figure:>12.1} {line}");
        }
        (table, is_kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_find_what_a_load_was_made_of() {
        let made = |plan: Plan| {
            let posts = plan.posts as f64 * (70.0 + plan.members as f64 * 3.0);
            9_000.0 + plan.members as f64 * 11.0 + posts + (plan.bursts * BURST) as f64 * 5.0 + plan.beats as f64 * 2.0
        };
        let counts = PLANS.map(made);
        let found = slopes(&counts, &counts);
        assert_eq!(
            found.map(|(_, figure)| figure.round()),
            [3.0, 70.0, 5.0, 2.0, 11.0],
            "delivery, post, post of a burst, heartbeat, arrival"
        );
    }

    #[test]
    fn the_lowest_counts() {
        let figures = |delivery, post| vec![("delivery".to_owned(), delivery), ("post".to_owned(), post)];
        let first = lower(Vec::new(), figures(190.0, 9.0));
        assert_eq!(lower(first, figures(140.0, 11.0)), figures(140.0, 9.0));
    }

    #[test]
    fn what_an_instrument_wrote_is_read_when_it_is_whole() {
        let thread = |names: &str, total: u64| format!("events: Ir\nfn=(1) {names}\n1 20\n\ntotals: {total}\n");
        let threads = [thread("main", 1), thread("server::connection::a server::connection::b", 20), thread("c", 300)];
        let counted = of_threads(&threads).unwrap();
        assert_eq!((counted[CONNECTIONS], counted[TOTAL]), (20.0, 321.0));
        assert!(of_threads(&["events: Ir\n".to_owned()]).is_none() && of_threads(&[]).is_none());
        let strace = "% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n \
            60.00    0.000300           3       100        10 sendto\n \
            40.00    0.000200           4        50           write\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            0.00    0.000000           0         7           futex\n\
            100.00    0.000500           3       157        10 total\n";
        let counted = of_calls(strace).unwrap();
        assert_eq!((counted["sendto"], counted["futex"], counted[TOTAL]), (100.0, 7.0, 150.0));
        assert!(of_calls("% time seconds\n").is_none());
    }

    #[test]
    fn a_figure_beyond_its_budget_or_without_one_is_told() {
        let budget = Budget::parse("# name figure\ninstructions.post 1,000 # one\ncalls.post 10 20%\n").unwrap();
        let judge = |post: f64| budget.judge(&[("instructions.post".into(), post)]).1;
        assert!(judge(1_049.0) && judge(10.0) && !judge(1_051.0));
        assert!(budget.judge(&[("calls.post".into(), 11.9)]).1 && !budget.judge(&[("calls.post".into(), 12.1)]).1);
        let (words, is_kept) = budget.judge(&[("calls.other".into(), 1.0)]);
        assert!(!is_kept && words.contains("no line"), "{words}");
        assert!(Budget::parse("instructions.post").is_err() && Budget::parse("a b c").is_err());
    }
}
