//! `cargo xtask fuzz`: libFuzzer over everything that reads foreign bytes.
//!
//! Lives here: building the fuzzers, running them for a time, and keeping what they found. Must not live here: a target
//! (fuzz/targets). Invariant: what a fuzzer learns goes into the target folder; the committed corpus changes only when
//! asked to, and every finding ends the command with a non-zero code and the input's path.
//!
//! The fuzzers are built by the pinned compiler, without a sanitizer: the code under test is safe Rust, where a broken
//! promise is a panic, and a fuzzer without one is twice as fast.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{mem, thread};

use clap::Args;

use crate::error::{Context, Outcome, fail};
use crate::machine;
use crate::process::{announce, binary, read, root, run as run_program, run_logged, target};
use crate::test::tools;

/// The cargo-fuzz that the fuzzers are known to build with.
const CARGO_FUZZ_VERSION: &str = "0.13.2";
/// The longest one input may take, in seconds.
const INPUT_SECONDS: u32 = 10;
/// The most memory a fuzzer may take, in MiB.
const MEMORY_MIB: u32 = 2_048;
/// What a fuzzer is given beyond its time, to start and to end.
const GRACE: Duration = Duration::from_secs(120);
/// The largest input that is kept in the repository, in bytes.
const KEPT_BYTES: u64 = 4_096;
/// The most inputs that are added to what is kept of one target.
const KEPT_FILES: usize = 300;
/// The most that is kept of one target, in bytes.
const KEPT_TOTAL: u64 = 40 * 1024;

/// What `cargo xtask fuzz` can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// The target (all, one after the other, without any).
    target: Option<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// How many targets run side by side. More than the machine has cores make each try less in its minutes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// Only list the targets.
    #[arg(long)]
    list: bool,
    /// Afterwards, add some of what it has learnt to fuzz/corpus: the fewest inputs that reach what those there do not.
    #[arg(long)]
    keep: bool,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    let all = targets()?;
    if options.list {
        all.iter().for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    let chosen: Vec<&String> = match &options.target {
        None => all.iter().collect(),
        Some(name) => all.iter().filter(|known| *known == name).collect(),
    };
    if chosen.is_empty() {
        return fail(format!("there is no such target; there are {}", all.join(", ")));
    }
    let fuzzers = build(options.target.as_deref())?;
    let results = side_by_side(&chosen, options.jobs, |name| {
        let fuzzer = Fuzzer::of(&fuzzers, name)?;
        announce(&format!("{name}, {} minutes", options.minutes));
        let result = fuzzer.run(options.minutes)?;
        println!("{result}");
        if options.keep && result.found.is_none() {
            fuzzer.keep()?;
        }
        Ok(result)
    })?;
    println!("\n| target | minutes | inputs tried | a second | edges | corpus | found |");
    println!("|---|--:|--:|--:|--:|--:|---|");
    results.iter().for_each(|result| println!("{}", result.row()));
    let found: Vec<_> = results.iter().filter_map(|result| result.found.as_ref()).collect();
    for input in &found {
        println!(
            "\n{} breaks a promise. What it says is in the log beside it; to hold it for good, put it into \
             fuzz/corpus/ under its target's name, see `cargo test -p fuzz-targets` fail, and mend what it shows.",
            input.display()
        );
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does the same with each of the names, `jobs` at a time; what came of each, in their order. After the first that fails
/// no other is begun.
fn side_by_side<T: Send>(names: &[&String], jobs: u8, each: impl Fn(&str) -> Outcome<T> + Sync) -> Outcome<Vec<T>> {
    let waiting = Mutex::new(names.iter().enumerate());
    let results = Mutex::new(Vec::new());
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let Some((index, name)) = locked(&waiting).next() else { break };
                    let result = each(name);
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    locked(&results).push((index, result));
                }
            });
        }
    });
    let mut results = mem::take(&mut *locked(&results));
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// What a lock guards, also after another thread has panicked with it: the scope panics then.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every target, by the file that gives it its bytes.
fn targets() -> Outcome<Vec<String>> {
    let folder = root().join("fuzz").join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).context(format!("read {}", folder.display()))? {
        let path = entry.context(format!("read {}", folder.display()))?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Builds one fuzzer or all; returns the folder they are in.
fn build(name: Option<&str>) -> Outcome<PathBuf> {
    machine::c_compiler()?;
    if !machine::answers("c++", "--version") {
        return fail("no C++ compiler: libFuzzer is compiled in. Run\n\n    sudo apt-get install -y g++");
    }
    let cargo_fuzz = tools::tool("cargo-fuzz", "cargo-fuzz", CARGO_FUZZ_VERSION, &["--locked"])?;
    announce("Building the fuzzers");
    let folder = target().join("fuzz");
    let mut command = Command::new(cargo_fuzz);
    command.args(["fuzz", "build", "--fuzz-dir", "fuzz", "--sanitizer", "none", "--target-dir"]).arg(&folder);
    command.args(name).current_dir(root());
    run_program(&mut command)?;
    let about = read(Command::new("rustc").arg("-vV").current_dir(root()))?;
    let Some(host) = about.lines().find_map(|line| line.strip_prefix("host: ")) else {
        return fail("rustc does not say for which machine it compiles");
    };
    Ok(folder.join(host).join("release"))
}

/// One fuzzer and its folders.
struct Fuzzer {
    name: String,
    program: PathBuf,
    /// What it has learnt on this machine.
    learnt: PathBuf,
    /// What is committed.
    kept: PathBuf,
    log: PathBuf,
}

impl Fuzzer {
    fn of(fuzzers: &Path, name: &str) -> Outcome<Fuzzer> {
        let ours = target().join("xtask").join("fuzz");
        let fuzzer = Fuzzer {
            name: name.to_owned(),
            program: fuzzers.join(binary(name)),
            learnt: ours.join("corpus").join(name),
            kept: root().join("fuzz").join("corpus").join(name),
            log: ours.join(format!("{name}.log")),
        };
        for folder in [&fuzzer.learnt, &fuzzer.kept] {
            fs::create_dir_all(folder).context(format!("create {}", folder.display()))?;
        }
        Ok(fuzzer)
    }

    fn run(&self, minutes: f64) -> Outcome<Ran> {
        let time = Duration::from_secs_f64(minutes * 60.0);
        let found = target().join("xtask").join("fuzz").join(format!("{}-", self.name));
        let mut command = Command::new(&self.program);
        command.args([
            format!("-max_total_time={}", time.as_secs().max(1)),
            format!("-timeout={INPUT_SECONDS}"),
            format!("-rss_limit_mb={MEMORY_MIB}"),
            format!("-artifact_prefix={}", found.display()),
            "-print_final_stats=1".to_owned(),
        ]);
        let dictionary = root().join("fuzz").join("dictionaries").join(format!("{}.dict", self.name));
        if dictionary.is_file() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        command.args([&self.learnt, &self.kept]).current_dir(root());
        let is_fine = run_logged(&mut command, &self.log, time + GRACE)?;
        let log = fs::read(&self.log).context(format!("read {}", self.log.display()))?;
        let mut ran = Ran::of(&self.name, minutes, &String::from_utf8_lossy(&log));
        if !is_fine && ran.found.is_none() {
            // It ended without an input to show for it; the log says why.
            ran.found = Some(self.log.clone());
        }
        Ok(ran)
    }

    /// Takes over the fewest and shortest learnt inputs that reach what the kept ones do not.
    fn keep(&self) -> Outcome {
        fs::create_dir_all(&self.kept).context(format!("create {}", self.kept.display()))?;
        let merged = self.learnt.with_extension("merged");
        if merged.exists() {
            fs::remove_dir_all(&merged).context(format!("empty {}", merged.display()))?;
        }
        fs::create_dir_all(&merged).context(format!("create {}", merged.display()))?;
        let mut command = Command::new(&self.program);
        command.args(["-set_cover_merge=1", &format!("-rss_limit_mb={MEMORY_MIB}")]);
        command.args([&merged, &self.kept, &self.learnt]).current_dir(root());
        let log = self.log.with_extension("merge.log");
        if !run_logged(&mut command, &log, GRACE * 5)? {
            return fail(format!("what {} has learnt could not be merged; see {}", self.name, log.display()));
        }
        let size = |file: &Path| file.metadata().map_or(u64::MAX, |about| about.len());
        let files = |folder: &Path| -> Outcome<Vec<PathBuf>> {
            let entries = fs::read_dir(folder).context(format!("read {}", folder.display()))?;
            let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.sort_by_key(|file| size(file));
            Ok(files)
        };
        let mut total: u64 = files(&self.kept)?.iter().map(|file| size(file)).sum();
        // Short and long ones alike: the short say what they are, the long go far.
        let merged = files(&merged)?;
        for file in merged.iter().step_by(merged.len().div_ceil(KEPT_FILES).max(1)) {
            let into = self.kept.join(file.file_name().unwrap_or_default());
            if size(file) <= KEPT_BYTES && total + size(file) <= KEPT_TOTAL && !into.exists() {
                total += size(file);
                fs::copy(file, &into).context(format!("write {}", into.display()))?;
            }
        }
        Ok(())
    }
}

/// What a fuzzer did.
#[derive(Debug, Default, PartialEq)]
struct Ran {
    name: String,
    minutes: f64,
    tried: u64,
    a_second: u64,
    edges: u64,
    corpus: u64,
    found: Option<PathBuf>,
}

impl Ran {
    fn of(name: &str, minutes: f64, log: &str) -> Ran {
        let statistic = |name: &str| {
            let line = log.lines().rev().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
            line.and_then(|rest| rest.trim_start_matches(':').trim().parse().ok()).unwrap_or_default()
        };
        // "#123 NEW cov: 10 ft: 12 corp: 3/45b …"
        let progress = log.lines().rev().find(|line| line.starts_with('#') && line.contains(" cov: ")).unwrap_or("");
        let after = |word: &str| {
            let rest = progress.split_once(word).map_or("", |(_, rest)| rest);
            rest.split([' ', '/']).next().and_then(|number| number.parse().ok()).unwrap_or_default()
        };
        let written =
            log.lines().find_map(|line| line.split_once("Test unit written to ").map(|(_, path)| path.trim()));
        Ran {
            name: name.to_owned(),
            minutes,
            tried: statistic("number_of_executed_units"),
            a_second: statistic("average_exec_per_sec"),
            edges: after(" cov: "),
            corpus: after(" corp: "),
            found: written.map(PathBuf::from),
        }
    }

    fn row(&self) -> String {
        let Ran { name, minutes, tried, a_second, edges, corpus, found } = self;
        let found = if found.is_some() { "yes" } else { "nothing" };
        format!("| {name} | {minutes} | {tried} | {a_second} | {edges} | {corpus} | {found} |")
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ran { tried, a_second, edges, corpus, .. } = self;
        write!(f, "  {tried} inputs, {a_second} a second; {edges} edges reached by {corpus} inputs")?;
        match &self.found {
            Some(input) => write!(f, "; FOUND {}", input.display()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fuzzer_did_is_read_from_its_log() {
        let log = "#2\tINITED cov: 3 ft: 4 corp: 1/1b exec/s: 0 rss: 30Mb\n\
                   #91\tNEW    cov: 120 ft: 240 corp: 17/300b lim: 4 exec/s: 0 rss: 31Mb L: 3/4 MS: 1 ChangeBit-\n\
                   thread panicked\nTest unit written to found/decoder-crash-1\n\
                   stat::number_of_executed_units: 92\nstat::average_exec_per_sec:     46\n";
        let ran = Ran::of("decoder", 1.0, log);
        let found = Some(PathBuf::from("found/decoder-crash-1"));
        let expected =
            Ran { name: "decoder".into(), minutes: 1.0, tried: 92, a_second: 46, edges: 120, corpus: 17, found };
        assert_eq!(ran, expected);
        assert_eq!(Ran::of("decoder", 1.0, "").found, None);
    }

    #[test]
    fn each_target_runs_once_and_is_told_in_its_place_however_many_run_at_once() {
        let names: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        let names: Vec<&String> = names.iter().collect();
        for jobs in [1, 3, 12] {
            let told = side_by_side(&names, jobs, |name| Ok(name.to_owned())).expect("none fails");
            assert_eq!(told, ["0", "1", "2", "3", "4", "5", "6"], "{jobs} at once");
        }
        let begun = Mutex::new(Vec::new());
        let one_fails = |name: &str| {
            locked(&begun).push(name.to_owned());
            if name == "2" { fail("it does") } else { Ok(()) }
        };
        assert!(side_by_side(&names, 1, one_fails).is_err());
        assert_eq!(*locked(&begun), ["0", "1", "2"], "none after the one that failed");
    }

    #[test]
    fn every_target_has_a_name() {
        let targets = targets().expect("the folder is there");
        assert!(targets.iter().any(|name| name == "decoder"), "{targets:?}");
    }
}
