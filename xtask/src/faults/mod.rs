//! `cargo xtask faults`: every fault and attack of the list, caused for real against the release binary.
//!
//! Lives here: choosing rows, getting what they need, running their tests, one line for each. Must not live here: the
//! list ([`table`]) or the faults (`e2e/tests`). Invariant: a row counts as answered only if every test it names ran and
//! passed.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::error::{Context, Outcome, fail};
use crate::faults::table::{Need, ROWS, Row};
use crate::machine;
use crate::page::{self, Build};
use crate::process::{announce, binary, cargo, run as run_program, target};
use crate::test::Tally;
use crate::test::suites::{self, Environment, Suites};

/// Longest that the tests of one file may take for one row.
const ROW_LIMIT: Duration = Duration::from_secs(30 * 60);
/// What one turn of a loop of faults may take at most, beyond that.
const LOOP_LIMIT: Duration = Duration::from_secs(20);
/// How a test says what it counted and measured.
pub(crate) const FIGURE: &str = "figure: ";

/// What `cargo xtask faults` can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// The rows to run, by name or number.
    names: Vec<String>,
    /// Only list the rows.
    #[arg(long)]
    list: bool,
    /// Run every row.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// How often rows that are loops go round, such as the kills of kill-nine (default: as in the ordinary test).
    #[arg(long)]
    loops: Option<u32>,
    /// The seed of whatever a row leaves to chance (default: the one of the ordinary test).
    #[arg(long)]
    seed: Option<u64>,
    /// How many clients a crowd has, such as that of storm (default: 10,000).
    #[arg(long)]
    clients: Option<u32>,
}

/// What became of a row.
struct Line {
    row: &'static Row,
    tally: Tally,
    seconds: f32,
    figures: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    if options.list {
        ROWS.iter().for_each(show);
        return Ok(ExitCode::SUCCESS);
    }
    let rows = chosen(options)?;
    let environment = prepare(options, &rows)?;
    announce("Building the end-to-end tests");
    let (optimised, ordinary): (Vec<_>, Vec<_>) =
        rows.iter().copied().partition(|row| row.needs.contains(&Need::Optimised));
    let ordinary = if ordinary.is_empty() { None } else { Some(Suites::build_end_to_end()?) };
    let files: BTreeSet<&str> = optimised.iter().flat_map(|row| row.files()).collect();
    let optimised = if files.is_empty() { None } else { Some(Suites::build_optimised(&files)?) };
    let limit = ROW_LIMIT + LOOP_LIMIT * options.loops.unwrap_or(0);
    let mut lines = Vec::new();
    for row in rows {
        announce(&format!("{} {}: {}", row.number, row.name, row.fault));
        let suites = if row.needs.contains(&Need::Optimised) { &optimised } else { &ordinary };
        let suites = suites.as_ref().expect("what is run was built");
        lines.push(perform(row, suites, &environment, limit)?);
    }
    Ok(summary(&lines))
}

fn show(row: &Row) {
    let needs: Vec<&str> = row
        .needs
        .iter()
        .map(|need| match need {
            Need::Root => "root",
            Need::Browser => "Chromium",
            Need::Optimised => "time to build its tests anew",
        })
        .collect();
    println!("{:>2}  {}", row.number, row.name);
    println!("    fault     {}", row.fault);
    println!("    expected  {}", row.expected);
    if !needs.is_empty() {
        println!("    needs     {}", needs.join(", "));
    }
    for (index, test) in row.tests.iter().enumerate() {
        println!("    {:<9} {test}", if index == 0 { "shown by" } else { "" });
    }
}

fn chosen(options: &Options) -> Outcome<Vec<&'static Row>> {
    if options.all {
        return Ok(ROWS.iter().collect());
    }
    if options.names.is_empty() {
        return fail("which faults? Name some, or say --all; `cargo xtask faults --list` shows them");
    }
    let find = |name: &String| match table::find(name) {
        Some(row) => Ok(row),
        None => fail(format!("there is no fault `{name}`; `cargo xtask faults --list` shows them")),
    };
    options.names.iter().map(find).collect()
}

/// Gets what the rows need, and builds what they break.
fn prepare(options: &Options, rows: &[&Row]) -> Outcome<Environment> {
    let need = |wanted: Need| rows.iter().filter(move |row| row.needs.contains(&wanted));
    if !cfg!(target_os = "linux") {
        return fail("faults are caused with what Linux has: namespaces, strace, /proc. Run this on Linux");
    }
    if !machine::is_root()
        && let Some(row) = need(Need::Root).next()
    {
        return fail(format!("{} needs root, for namespaces, mounts or control groups. Run this as root", row.name));
    }
    machine::c_compiler()?;
    machine::fault_tools()?;
    let mut environment = Environment::new();
    announce("Building the server, as it is released");
    run_program(&mut cargo(&["build", "--release", "--locked", "--package", "server"]))?;
    environment.set("HOLDFAST_SERVER", target().join("release").join(binary("server")));
    if need(Need::Browser).next().is_some() {
        environment.set("HOLDFAST_CHROMIUM", machine::browser()?);
        machine::wasm_target()?;
        let folder = target().join("xtask").join("page");
        page::build_into(Build::Dev, &folder)?;
        environment.set("HOLDFAST_DIST", folder);
    }
    environment.set("HOLDFAST_CAMPAIGN", "1");
    if let Some(loops) = options.loops {
        environment.set("HOLDFAST_LOOPS", loops.to_string());
    }
    if let Some(seed) = options.seed {
        environment.set("HOLDFAST_SEED", seed.to_string());
    }
    if let Some(clients) = options.clients {
        environment.set("HOLDFAST_CLIENTS", clients.to_string());
    }
    Ok(environment)
}

/// Runs the tests of one row, file by file and one at a time.
fn perform(row: &'static Row, suites: &Suites, environment: &Environment, limit: Duration) -> Outcome<Line> {
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (file, test) in row.tests.iter().filter_map(|test| test.split_once("::")) {
        files.entry(file).or_default().push(test);
    }
    let begun = Instant::now();
    let mut line = Line { row, tally: Tally::default(), seconds: 0.0, figures: Vec::new() };
    for (file, tests) in files {
        let label = format!("fault:{}:{file}", row.name);
        let mut command = suites.end_to_end(file)?;
        command.args(["--exact", "--test-threads", "1", "--show-output"]).args(&tests);
        let (mut tally, _) = suites::counted_within(limit, &mut command, &label, environment)?;
        // A test that was named and did not run shows nothing.
        tally.failed += tests.len().saturating_sub(tally.passed + tally.failed);
        line.tally.add(tally);
        let log = suites::log_of(&label);
        let output = fs::read(&log).context(format!("read {}", log.display()))?;
        let output = String::from_utf8_lossy(&output).into_owned();
        line.figures.extend(output.lines().filter_map(|line| line.strip_prefix(FIGURE)).map(str::to_owned));
    }
    line.seconds = begun.elapsed().as_secs_f32();
    Ok(line)
}

/// Prints a line for each row; the last says how many were answered as written.
fn summary(lines: &[Line]) -> ExitCode {
    println!();
    for Line { row, tally, seconds, figures } in lines {
        let outcome = if tally.failed == 0 { "ok    " } else { "FAILED" };
        println!(
            "{outcome} {:>2} {:<20} {} of {} tests, {seconds:.1} s",
            row.number,
            row.name,
            tally.passed,
            row.tests.len()
        );
        figures.iter().for_each(|figure| println!("          {figure}"));
    }
    let failed = lines.iter().filter(|line| line.tally.failed > 0).count();
    println!("\n{} answered as written, {failed} not", lines.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    fn options(names: &[&str]) -> Options {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Options { names, list: false, all: false, loops: None, seed: None, clients: None }
    }

    #[test]
    fn rows_are_chosen_by_name_and_by_number() {
        let rows = chosen(&options(&["kill-nine", "10"])).expect("both are there");
        assert_eq!(rows.iter().map(|row| row.name).collect::<Vec<_>>(), ["kill-nine", "power-cut"]);
        assert_eq!(chosen(&Options { all: true, ..options(&[]) }).expect("all").len(), ROWS.len());
    }

    #[test]
    fn what_is_not_in_the_list_is_refused_with_the_way_to_it() {
        for names in [&["no-such-fault"][..], &[]] {
            let Err(Failure(words)) = chosen(&options(names)) else { panic!("{names:?} was taken") };
            assert!(words.contains("--list"), "{words}");
        }
    }
}
