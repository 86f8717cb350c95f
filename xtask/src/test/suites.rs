//! Rust's test executables: built once, started one by one, counted.
//!
//! Lives here: what cargo built, which group an executable belongs to, reading `test result:` lines. Must not live
//! here: what the tests need from the machine. Invariant: an executable that ends without a result, runs too long or
//! ignores a test counts as failed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::{Context, Outcome, fail};
use crate::process::{cargo, read, shown, target};
use crate::test::Tally;

/// Longest that one test executable may take.
const SUITE_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How often a running executable is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How much of a failed executable's output is shown.
const SHOWN_LINES: usize = 200;

/// Variables that the tests read.
#[derive(Debug, Default)]
pub(crate) struct Environment(BTreeMap<&'static str, OsString>);

impl Environment {
    /// Without any variable.
    pub(crate) fn new() -> Environment {
        Environment::default()
    }

    /// Sets one.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.0.insert(name, value.into());
    }
}

/// Which executables a step runs.
pub(crate) enum Group {
    /// Rules about the tree.
    Tidy,
    /// Tests inside the crates.
    Unit,
    /// Files under `tests/` of every crate but e2e.
    Integration,
    /// Files under e2e/tests, all or those named.
    EndToEnd(Option<Vec<String>>),
    /// The one that drives trunk.
    Trunk,
}

/// One test executable.
#[derive(Debug, Clone)]
struct Suite {
    package: String,
    name: String,
    is_integration: bool,
    is_binary: bool,
    executable: PathBuf,
    folder: PathBuf,
}

impl Suite {
    fn label(&self) -> String {
        if self.is_integration || self.is_binary {
            format!("{}:{}", self.package, self.name)
        } else {
            self.package.clone()
        }
    }

    fn belongs(&self, group: &Group) -> bool {
        let place = (self.package.as_str(), self.name.as_str(), self.is_integration);
        match group {
            Group::Tidy => place == ("xtask", "tidy", true),
            Group::Trunk => place == ("e2e", "trunk", true),
            Group::Unit => !self.is_integration,
            Group::Integration => self.is_integration && self.package != "e2e" && !self.belongs(&Group::Tidy),
            Group::EndToEnd(files) => {
                self.is_integration
                    && self.package == "e2e"
                    && !self.belongs(&Group::Trunk)
                    && files.as_ref().is_none_or(|files| files.contains(&self.name))
            }
        }
    }

    /// Runs it from its crate's folder, as cargo does.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }

    /// Cheap before dear: bad input and faults need no browser.
    fn cost(&self) -> (usize, String) {
        const ORDER: [&str; 6] = ["bad_input", "cli", "scenarios", "kill", "fault", "page"];
        let rank = ORDER.iter().position(|start| self.name.starts_with(start)).unwrap_or(ORDER.len());
        (rank, self.label())
    }
}

/// Everything cargo built for the tests.
pub(crate) struct Suites {
    suites: Vec<Suite>,
    binaries: BTreeMap<String, PathBuf>,
}

impl Suites {
    /// Builds all binaries and tests of the workspace in one go, so that every crate is compiled once.
    ///
    /// # Errors
    /// Something does not compile.
    pub(crate) fn build() -> Outcome<Suites> {
        Suites::built_with(&["--workspace", "--lib", "--bins", "--tests"])
    }

    /// Builds only the end-to-end tests.
    ///
    /// # Errors
    /// Something does not compile.
    pub(crate) fn build_end_to_end() -> Outcome<Suites> {
        Suites::built_with(&["--package", "e2e", "--tests"])
    }

    /// Builds some files of the end-to-end tests, optimised and with every check of a debug build.
    ///
    /// # Errors
    /// Something does not compile.
    pub(crate) fn build_optimised(files: &BTreeSet<&str>) -> Outcome<Suites> {
        let tests = files.iter().flat_map(|file| ["--test", file]);
        let what: Vec<&str> = ["--package", "e2e", "--profile", "sim"].into_iter().chain(tests).collect();
        Suites::built_with(&what)
    }

    fn built_with(what: &[&str]) -> Outcome<Suites> {
        let mut command = cargo(&["build", "--locked", "--message-format", "json-render-diagnostics"]);
        let messages = read(command.args(what))?;
        let mut built = Suites { suites: Vec::new(), binaries: BTreeMap::new() };
        for line in messages.lines() {
            let message: Value = serde_json::from_str(line).context("understand cargo's output")?;
            built.note(&message);
        }
        built.suites.sort_by_key(Suite::cost);
        Ok(built)
    }

    fn note(&mut self, message: &Value) {
        let Some(executable) = message["executable"].as_str().map(PathBuf::from) else { return };
        let (Some(name), Some(manifest)) = (message["target"]["name"].as_str(), message["manifest_path"].as_str())
        else {
            return;
        };
        let folder = Path::new(manifest).parent().unwrap_or(Path::new("")).to_path_buf();
        let package = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if message["profile"]["test"].as_bool() == Some(true) {
            let kind = message["target"]["kind"][0].as_str();
            self.suites.push(Suite {
                package,
                name: name.to_owned(),
                is_integration: kind == Some("test"),
                is_binary: kind == Some("bin"),
                executable,
                folder,
            });
        } else {
            self.binaries.insert(name.to_owned(), executable);
        }
    }

    /// Where a binary of the workspace is.
    ///
    /// # Errors
    /// There is none of that name.
    pub(crate) fn binary(&self, name: &str) -> Outcome<PathBuf> {
        match self.binaries.get(name) {
            Some(path) => Ok(path.clone()),
            None => fail(format!("the workspace has no binary `{name}`")),
        }
    }

    /// Runs a group's executables and names what failed.
    ///
    /// # Errors
    /// The group has no executable, or one could not be started.
    pub(crate) fn run(&self, group: &Group, environment: &Environment) -> Outcome<(Tally, Vec<String>)> {
        let chosen: Vec<_> = self.suites.iter().filter(|suite| suite.belongs(group)).collect();
        if let Group::EndToEnd(Some(files)) = group {
            for file in files {
                if !chosen.iter().any(|suite| suite.name == *file) {
                    return fail(format!("there is no file e2e/tests/{file}.rs"));
                }
            }
        }
        if chosen.is_empty() {
            return fail("there is no test of this kind");
        }
        let mut total = Tally::default();
        let mut failures = Vec::new();
        for suite in chosen {
            let (tally, names) = counted(&mut suite.command(), &suite.label(), environment)?;
            total.add(tally);
            failures.extend(names);
        }
        Ok((total, failures))
    }

    /// Returns the command that runs the executable of one file e2e/tests/FILE.rs.
    ///
    /// # Errors
    /// There is none of that name.
    pub(crate) fn end_to_end(&self, file: &str) -> Outcome<Command> {
        match self.suites.iter().find(|suite| suite.package == "e2e" && suite.is_integration && suite.name == file) {
            Some(suite) => Ok(suite.command()),
            None => fail(format!("there is no file e2e/tests/{file}.rs")),
        }
    }
}

/// Runs one program that prints `test result:` lines, its output into a log, and counts.
///
/// # Errors
/// It could not be started, or its log not be written.
pub(crate) fn counted(command: &mut Command, label: &str, environment: &Environment) -> Outcome<(Tally, Vec<String>)> {
    counted_within(SUITE_LIMIT, command, label, environment)
}

/// Where the output of what [`counted`] runs under this label lies.
pub(crate) fn log_of(label: &str) -> PathBuf {
    target().join("xtask").join("logs").join(format!("{}.log", label.replace(':', "-")))
}

/// As [`counted`], with another time after which the program is ended and counts as failed.
///
/// # Errors
/// It could not be started, or its log not be written.
pub(crate) fn counted_within(
    limit: Duration,
    command: &mut Command,
    label: &str,
    environment: &Environment,
) -> Outcome<(Tally, Vec<String>)> {
    let log = log_of(label);
    let logs = log.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(logs).context(format!("create {}", logs.display()))?;
    let file = File::create(&log).context(format!("create {}", log.display()))?;
    let copy = file.try_clone().context("share the log")?;

    eprint!("  {label} … ");
    let begun = Instant::now();
    let mut child = command
        .envs(&environment.0)
        .env("RUST_BACKTRACE", "1")
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .spawn()
        .context(format!("start `{}`", shown(command)))?;
    let status = loop {
        if let Some(status) = child.try_wait().context("wait for a test")? {
            break Some(status);
        }
        if begun.elapsed() > limit {
            child.kill().context("end a test that takes too long")?;
            child.wait().context("wait for a test")?;
            break None;
        }
        std::thread::sleep(POLL_INTERVAL);
    };

    let output = String::from_utf8_lossy(&fs::read(&log).context(format!("read {}", log.display()))?).into_owned();
    let mut reading = Reading::of(&output);
    match status {
        None => reading.fail(format!("took longer than {} s", limit.as_secs())),
        Some(status) if !status.success() && reading.tally.failed == 0 => reading.fail(format!("ended with {status}")),
        Some(_) if reading.results == 0 => reading.fail("ended without a result".to_owned()),
        Some(_) => {}
    }
    eprintln!(
        "{} passed, {} failed ({:.1} s)",
        reading.tally.passed,
        reading.tally.failed,
        begun.elapsed().as_secs_f32()
    );
    if reading.tally.failed > 0 {
        let lines: Vec<_> = output.lines().collect();
        for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
            eprintln!("    {line}");
        }
        eprintln!("  (all of it: {})", log.display());
    }
    Ok((reading.tally, reading.failures.into_iter().map(|name| format!("{label}: {name}")).collect()))
}

/// What the output of a test executable says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reading {
    results: usize,
    tally: Tally,
    failures: Vec<String>,
}

impl Reading {
    fn of(output: &str) -> Reading {
        let mut reading = Reading::default();
        for line in output.lines() {
            if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
                reading.failures.push(name.to_owned());
            }
            // Output of a test may stand before the result on the same line.
            let Some((_, result)) = line.split_once("test result: ") else { continue };
            reading.results += 1;
            reading.tally.passed += number_before(result, " passed");
            reading.tally.failed += number_before(result, " failed");
            for _ in 0..number_before(result, " ignored") {
                reading.fail("a test is ignored".to_owned());
            }
        }
        reading
    }

    fn fail(&mut self, words: String) {
        self.tally.failed += 1;
        self.failures.push(words);
    }
}

fn number_before(text: &str, word: &str) -> usize {
    let Some((before, _)) = text.split_once(word) else { return 0 };
    before.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_the_results_and_names_what_failed() {
        let output = "running 2 tests\ntest a::b ... ok\ntest a::c ... FAILED\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: ok. 30 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let reading = Reading::of(output);
        assert_eq!(reading.tally, Tally { passed: 31, failed: 1 });
        assert_eq!(reading.failures, ["a::c"]);
        assert_eq!(reading.results, 2);
    }

    #[test]
    fn an_ignored_test_is_a_failed_one() {
        let reading = Reading::of("test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out\n");
        assert_eq!(reading.tally, Tally { passed: 1, failed: 2 });
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_ends_without_a_result_has_failed() {
        let (tally, failures) =
            counted(&mut Command::new("true"), "xtask-no-result", &Environment::new()).expect("true can be started");
        assert_eq!(tally, Tally::FAILED);
        assert_eq!(failures, ["xtask-no-result: ended without a result"]);
    }
}
