//! The simulator's command line; `cargo xtask sim` builds and calls it.
//!
//! Must not live here: what happens on a day. Invariant: a failing seed is always printed, with how to see it again.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use shared::planted::Bug;
use sim::heap::Counting;
use sim::hours::{self, Hour, Span};
use sim::plan::{KINDS, Plan};
use sim::{Counts, explore, found, run};

#[global_allocator]
static HEAP: Counting = Counting;

/// Lives through bad days in virtual time: the real session, server and log on made-up networks, clocks and disks
#[derive(Debug, Parser)]
#[command(name = "sim", version)]
struct Options {
    /// How many days, one for each seed. Default: 1000; with --mutants as many as it takes, up to 20000 for each
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One seed only, made small if it fails
    #[arg(long)]
    seed: Option<u64>,
    /// Tell the story of that seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Threads. Default: as many as there are cores
    #[arg(long)]
    threads: Option<usize>,
    /// Plant every bug of the list, one after the other, and say how soon each is found
    #[arg(long)]
    mutants: bool,
    /// With --mutants only this bug, by its name
    #[arg(long, value_name = "BUG", requires = "mutants")]
    bug: Option<String>,
    /// Instead of days: every order of the first so many happenings of a small world
    #[arg(long, value_name = "CHOICES")]
    exhaustive: Option<usize>,
    /// Instead of days: one long day of so many hours with ordinary churn, and what is held at the end of each
    #[arg(long)]
    hours: Option<usize>,
    /// Stop after so many seconds
    #[arg(long)]
    seconds: Option<u64>,
}

impl Options {
    fn seeds(&self) -> u64 {
        self.seeds.unwrap_or(if self.mutants { 20_000 } else { 1_000 })
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    // A panic of the product is told with its seed, not by the default hook.
    std::panic::set_hook(Box::new(|_| {}));
    match options.seed {
        _ if options.mutants => mutants(&options),
        _ if options.exhaustive.is_some() => exhaustive(&options, options.exhaustive.unwrap_or_default()),
        _ if options.hours.is_some() => {
            long_day(options.hours.unwrap_or_default(), options.seed.unwrap_or(options.from))
        }
        Some(seed) => one(seed, options.trace),
        None => many(&options),
    }
}

fn one(seed: u64, trace: bool) -> ExitCode {
    let plan = Plan::draw(seed);
    let day = run::live(&plan, trace);
    let (shown, outcome, story) = match &day.outcome {
        Ok(()) => (plan, day.outcome, day.story),
        Err(_) => {
            let small = plan.shrink(|smaller| run::live(smaller, false).outcome.is_err());
            let again = run::live(&small, trace);
            (small, again.outcome, again.story)
        }
    };
    story.iter().for_each(|line| println!("{line}"));
    println!("seed {seed}: {} steps, {} events", shown.steps.len(), day.counts.events);
    match outcome {
        Ok(()) => {
            println!("everything held");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("broken: {}\nby this plan:", violation.0);
            for step in &shown.steps {
                println!("  after {:>6} ms  {:?}", step.after_ms, step.act);
            }
            ExitCode::FAILURE
        }
    }
}

/// Lives through a long day and says what is held at the end of each hour.
fn long_day(hours: usize, seed: u64) -> ExitCode {
    let began = Instant::now();
    println!("seed {seed}; heap in KiB; server without its log and its tails");
    println!(
        "hour server sessions pages   rows conns (most) streams tail frames unsent (most) awaited queued (most)  \
         posts   keys records    log  world"
    );
    let kib = |bytes: usize| bytes / 1024;
    let lived = hours::live(&Span::of_hours(seed, hours), |hour: &Hour| {
        println!(
            "{:>4} {:>6} {:>8} {:>5} {:>6} {:>5} {:>6} {:>7} {:>11} {:>6} {:>6} {:>7} {:>13} {:>6} {:>6} {:>7} {:>6} {:>6}",
            hour.number + 1,
            kib(hour.server_rest()),
            kib(hour.session_bytes),
            kib(hour.page_bytes),
            hour.rows,
            hour.connections,
            hour.most_connections,
            hour.streams,
            hour.tail_frames,
            hour.unsent,
            hour.most_unsent,
            hour.awaited,
            hour.most_queued_bytes,
            hour.posts,
            hour.keys,
            hour.records,
            kib(hour.log_bytes),
            kib(hour.world_bytes),
        );
    });
    println!("{:.1} s", began.elapsed().as_secs_f64());
    match lived {
        Ok(_) => {
            println!("everything held, and nothing gathers");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("broken: {}", violation.0);
            ExitCode::FAILURE
        }
    }
}

/// Plants each bug and looks for the first day on which it shows.
fn mutants(options: &Options) -> ExitCode {
    if !cfg!(feature = "planted") {
        println!("this build has no bugs to plant: use cargo xtask sim --mutants");
        return ExitCode::FAILURE;
    }
    let is_wanted = |bug: &&Bug| options.bug.as_ref().is_none_or(|name| *name == format!("{bug:?}"));
    let bugs: Vec<&Bug> = Bug::ALL.iter().filter(is_wanted).collect();
    if bugs.is_empty() {
        println!("there is no such bug; those there are: {:?}", Bug::ALL);
        return ExitCode::FAILURE;
    }
    let mut missed = 0;
    for bug in &bugs {
        let by_chance = AtomicU64::new(0);
        let (seeds, found) = seeds_until(options, |seed| {
            shared::planted::plant(Some(**bug));
            let words = run::live(&Plan::draw(seed), false).outcome.err()?.0;
            let is_it = found::words_of(**bug).iter().any(|expected| words.contains(expected));
            if !is_it {
                by_chance.fetch_add(1, Ordering::Relaxed);
            }
            is_it.then_some(words)
        });
        let by_chance = match by_chance.into_inner() {
            0 => String::new(),
            days => format!("; {days} days broke by something else first"),
        };
        let name = format!("{bug:?}");
        match found {
            Some((seed, words)) => {
                let words: String = words.chars().take(110).collect();
                println!("found  {name:<20} after {seeds:>6} seeds, by {seed}: {words}{by_chance}");
            }
            None => {
                missed += 1;
                println!("MISSED {name:<20} in {seeds} seeds: {}{by_chance}", bug.words().trim());
            }
        }
    }
    println!("{} of {} found", bugs.len() - missed, bugs.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Walks a small world's whole tree of choices, its first branches shared out among the threads.
fn exhaustive(options: &Options, depth: usize) -> ExitCode {
    let began = Instant::now();
    let deadline = options.seconds.map(|seconds| began + Duration::from_secs(seconds));
    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let starts: Vec<Vec<usize>> = (0..explore::width(&[]))
        .flat_map(|first| (0..explore::width(&[first])).map(move |second| vec![first, second]))
        .collect();
    let next = AtomicU64::new(0);
    let paths = AtomicU64::new(0);
    let failed: Mutex<Option<(Vec<usize>, String)>> = Mutex::default();
    let is_over = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(start) = starts.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let explored = explore::explore(start, depth, || !is_over());
                    paths.fetch_add(explored.paths, Ordering::Relaxed);
                    if let Some((path, violation)) = explored.failure {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some((path, violation.0));
                        return;
                    }
                }
            });
        }
    });
    let paths = paths.load(Ordering::Relaxed);
    let took = began.elapsed().as_secs_f64();
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((path, words)) => {
            println!("broken after {paths} paths, by the choices {path:?}: {words}");
            ExitCode::FAILURE
        }
        None if is_over() => {
            println!("{paths} paths of {depth} choices in {took:.0} s, not all of them; everything held");
            ExitCode::SUCCESS
        }
        None => {
            println!("all {paths} paths of {depth} choices in {took:.0} s; everything held");
            ExitCode::SUCCESS
        }
    }
}

/// Looks at seeds on all threads until one fails. Returns how many it took, and the first by number.
fn seeds_until(options: &Options, fails: impl Fn(u64) -> Option<String> + Sync) -> (u64, Option<(u64, String)>) {
    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let next = AtomicU64::new(options.from);
    let found: Mutex<Option<(u64, String)>> = Mutex::default();
    let lock = || found.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while lock().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.from.saturating_add(options.seeds()) {
                        return;
                    }
                    if let Some(words) = fails(seed) {
                        let mut found = lock();
                        if found.as_ref().is_none_or(|(first, _)| seed < *first) {
                            *found = Some((seed, words));
                        }
                    }
                }
            });
        }
    });
    let found = lock().take();
    let looked = found.as_ref().map_or(options.seeds(), |(seed, _)| seed - options.from + 1);
    (looked, found)
}

/// What has been lived through so far.
#[derive(Default)]
struct Sum {
    days: u64,
    counts: Counts,
    failures: Vec<(u64, String)>,
}

/// What all threads share.
struct Shared {
    next: AtomicU64,
    end: u64,
    stop: AtomicBool,
    sum: Mutex<Sum>,
}

fn many(options: &Options) -> ExitCode {
    let began = Instant::now();
    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let shared = Shared {
        next: AtomicU64::new(options.from),
        end: options.from.saturating_add(options.seeds()),
        stop: AtomicBool::new(false),
        sum: Mutex::default(),
    };
    let deadline = options.seconds.map(|seconds| began + Duration::from_secs(seconds));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&shared, deadline));
        }
    });
    let Sum { days, counts, mut failures } = shared.sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    report(days, &counts, began.elapsed());
    if let Some((seed, words)) = failures.first() {
        println!("\nbroken, first by seed {seed}: {words}\nsee it with: cargo xtask sim --seed {seed} --trace");
        for (seed, words) in failures.iter().skip(1) {
            println!("also by seed {seed}: {words}");
        }
        return ExitCode::FAILURE;
    }
    println!("\neverything held");
    ExitCode::SUCCESS
}

fn work(shared: &Shared, deadline: Option<Instant>) {
    let mut counts = Counts::default();
    let mut days = 0;
    let mut failures = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= shared.end {
            break;
        }
        let day = run::live(&Plan::draw(seed), false);
        counts.add(&day.counts);
        days += 1;
        if let Err(violation) = day.outcome {
            failures.push((seed, violation.0));
            if failures.len() >= 5 {
                shared.stop.store(true, Ordering::Relaxed);
            }
        }
    }
    let mut sum = shared.sum.lock().unwrap_or_else(PoisonError::into_inner);
    sum.days += days;
    sum.counts.add(&counts);
    sum.failures.extend(failures);
}

fn report(days: u64, counts: &Counts, took: Duration) {
    let minutes = took.as_secs_f64() / 60.0;
    println!(
        "{days} seeds in {:.1} s: {:.0} a minute, {:.0} events each",
        took.as_secs_f64(),
        days as f64 / minutes,
        counts.events as f64 / days.max(1) as f64
    );
    let mut kinds: Vec<(&str, u64)> = (0..KINDS).map(|kind| (sim::plan::kind_name(kind), counts.acts[kind])).collect();
    kinds.extend([
        ("(sockets asked for)", counts.sockets),
        ("(posts stored)", counts.posts),
        ("(jumps told)", counts.jumps),
        ("(resets told)", counts.resets),
        ("(records a crash found unsynced)", counts.unsynced),
        ("(longest way to rest, in ms)", counts.longest_rest_ms),
    ]);
    for (name, count) in kinds {
        println!("  {name:<34} {count:>12}");
    }
}
