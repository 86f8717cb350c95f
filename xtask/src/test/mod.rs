//! `cargo xtask test`: every check and every test there is, in order of cost, one summary at the end.
//!
//! Lives here: the steps, their order, the summary. Must not live here: how one kind of step works ([`suites`] for
//! Rust's test executables, [`tools`] for trunk). Invariant: whatever was asked for and did not run counts as failed.

pub(crate) mod suites;
pub(crate) mod tools;

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use crate::error::{Failure, Outcome, fail};
use crate::machine;
use crate::page::{self, Build};
use crate::process::{announce, cargo, run as run_program, target};
use crate::test::suites::{Environment, Group, Suites};

/// What `cargo xtask test` can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// The steps to run (all without any); of `e2e`, `e2e:NAME` runs the one file e2e/tests/NAME.rs.
    steps: Vec<String>,
    /// Only list the steps.
    #[arg(long)]
    list: bool,
}

/// One step, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The code is formatted.
    Fmt,
    /// No warning of the compiler or clippy, all crates, natively.
    Clippy,
    /// The same for what runs in the browser.
    ClippyWasm,
    /// `shared` builds for the browser by itself.
    SharedWasm,
    /// The documentation builds without a broken link.
    Doc,
    /// All that is tested below compiles.
    Build,
    /// Rules about the tree itself: words, headers, links, pinned versions.
    Tidy,
    /// Unit tests of every crate; the client's run natively.
    Unit,
    /// Tests of a crate through its public interface.
    Integration,
    /// Examples in the documentation.
    Doctest,
    /// The page builds from index.html.
    Page,
    /// The real server, command line and browser: bad input, faults, pages.
    EndToEnd,
    /// What the release server does for a delivery, a post, a heartbeat and an arrival, counted and not timed.
    Cost,
    /// `trunk serve` beside the server, from the same index.html.
    Trunk,
}

const STEPS: [Step; 14] = [
    Step::Fmt,
    Step::Clippy,
    Step::ClippyWasm,
    Step::SharedWasm,
    Step::Doc,
    Step::Build,
    Step::Tidy,
    Step::Unit,
    Step::Integration,
    Step::Doctest,
    Step::Page,
    Step::EndToEnd,
    Step::Cost,
    Step::Trunk,
];

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Fmt => "fmt",
            Step::Clippy => "clippy",
            Step::ClippyWasm => "clippy-wasm",
            Step::SharedWasm => "shared-wasm",
            Step::Doc => "doc",
            Step::Build => "build",
            Step::Tidy => "tidy",
            Step::Unit => "unit",
            Step::Integration => "integration",
            Step::Doctest => "doctest",
            Step::Page => "page",
            Step::EndToEnd => "e2e",
            Step::Cost => "cost",
            Step::Trunk => "trunk",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Step::Fmt => "the code is formatted",
            Step::Clippy => "no warning, all crates",
            Step::ClippyWasm => "no warning in what runs in the browser",
            Step::SharedWasm => "shared builds for the browser by itself",
            Step::Doc => "the documentation has no broken link",
            Step::Build => "all binaries and tests compile",
            Step::Tidy => "rules about the tree: headers, words, links, versions",
            Step::Unit => "unit tests of every crate",
            Step::Integration => "tests of a crate through its public interface",
            Step::Doctest => "examples in the documentation",
            Step::Page => "the page builds",
            Step::EndToEnd => "real server, real command line, real Chromium: bad input, faults, pages",
            Step::Cost => "instructions and system calls of the release server, by a budget",
            Step::Trunk => "trunk serve beside the server, from the same index.html",
        }
    }

    /// The steps whose result this one uses.
    fn needs(self) -> &'static [Step] {
        match self {
            Step::Tidy | Step::Unit | Step::Integration => &[Step::Build],
            Step::EndToEnd | Step::Trunk => &[Step::Build, Step::Page],
            Step::Fmt
            | Step::Clippy
            | Step::ClippyWasm
            | Step::SharedWasm
            | Step::Doc
            | Step::Build
            | Step::Doctest
            | Step::Page
            | Step::Cost => &[],
        }
    }
}

/// What was asked for: steps, and of the end-to-end files possibly only some.
struct Selection {
    steps: Vec<Step>,
    end_to_end: Option<Vec<String>>,
}

impl Selection {
    fn of(names: &[String]) -> Outcome<Selection> {
        if names.is_empty() {
            return Ok(Selection { steps: STEPS.to_vec(), end_to_end: None });
        }
        let mut wanted = Vec::new();
        let mut files = Vec::new();
        let mut all_files = false;
        for name in names {
            let (step, file) = name.split_once(':').map_or((name.as_str(), None), |(step, file)| (step, Some(file)));
            let Some(step) = STEPS.into_iter().find(|known| known.name() == step) else {
                return fail(format!("there is no step `{name}`; `cargo xtask test --list` names them"));
            };
            match (step, file) {
                (Step::EndToEnd, Some(file)) => files.push(file.to_owned()),
                (Step::EndToEnd, None) => all_files = true,
                (_, Some(_)) => return fail(format!("`{name}`: only e2e can be followed by a file's name")),
                (_, None) => {}
            }
            wanted.extend(step.needs());
            wanted.push(step);
        }
        let steps = STEPS.into_iter().filter(|step| wanted.contains(step)).collect();
        Ok(Selection { steps, end_to_end: (!files.is_empty() && !all_files).then_some(files) })
    }

    fn has(&self, step: Step) -> bool {
        self.steps.contains(&step)
    }
}

/// How many passed and failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Tally {
    pub(crate) const PASSED: Tally = Tally { passed: 1, failed: 0 };
    pub(crate) const FAILED: Tally = Tally { passed: 0, failed: 1 };

    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// One line of the summary.
struct Line {
    name: &'static str,
    tally: Tally,
    seconds: f32,
}

/// Everything a run of the steps knows.
struct Run {
    selection: Selection,
    environment: Environment,
    suites: Option<Suites>,
    failed_steps: Vec<Step>,
    lines: Vec<Line>,
    failures: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    if options.list {
        for step in STEPS {
            println!("{:<12} {}", step.name(), step.purpose());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let selection = Selection::of(&options.steps)?;
    let environment = prepare(&selection)?;
    let mut run =
        Run { selection, environment, suites: None, failed_steps: Vec::new(), lines: Vec::new(), failures: Vec::new() };
    for step in run.selection.steps.clone() {
        run.take(step);
    }
    Ok(run.summary())
}

/// Finds or gets what the steps need, before the first of them begins.
fn prepare(selection: &Selection) -> Outcome<Environment> {
    machine::c_compiler()?;
    machine::wasm_target()?;
    let mut environment = Environment::new();
    if selection.has(Step::EndToEnd) || selection.has(Step::Trunk) {
        environment.set("HOLDFAST_CHROMIUM", machine::browser()?);
    }
    if selection.has(Step::EndToEnd) {
        machine::fault_tools()?;
    }
    if selection.has(Step::Cost) {
        machine::counting_tools()?;
    }
    Ok(environment)
}

impl Run {
    fn take(&mut self, step: Step) {
        announce(&format!("{}: {}", step.name(), step.purpose()));
        let begun = Instant::now();
        let missing = step.needs().iter().find(|needed| self.failed_steps.contains(needed));
        let outcome = match missing {
            Some(needed) => fail(format!("not run, because the step {} failed", needed.name())),
            None => self.perform(step),
        };
        let tally = match outcome {
            Ok(tally) => tally,
            Err(Failure(words)) => {
                eprintln!("  failed: {words}");
                self.failures.push(format!("{}: {words}", step.name()));
                Tally::FAILED
            }
        };
        if tally.failed > 0 {
            self.failed_steps.push(step);
        }
        self.lines.push(Line { name: step.name(), tally, seconds: begun.elapsed().as_secs_f32() });
    }

    fn perform(&mut self, step: Step) -> Outcome<Tally> {
        match step {
            Step::Fmt => check(&["fmt", "--all", "--check"], &[]),
            Step::Clippy => {
                check(&["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"], &[])
            }
            Step::ClippyWasm => check(
                &[
                    "clippy",
                    "--package",
                    "shared",
                    "--package",
                    "web-client",
                    "--target",
                    machine::WASM_TARGET,
                    "--profile",
                    "wasm-dev",
                    "--locked",
                    "--",
                    "--deny",
                    "warnings",
                ],
                &[],
            ),
            Step::SharedWasm => check(
                &[
                    "build",
                    "--package",
                    "shared",
                    "--target",
                    machine::WASM_TARGET,
                    "--profile",
                    "wasm-dev",
                    "--locked",
                ],
                &[],
            ),
            Step::Doc => check(
                &["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"],
                // Private items are documented, so links to them hold; clap's help is written for terminals.
                &[(
                    "RUSTDOCFLAGS",
                    "--deny warnings --allow rustdoc::private_intra_doc_links --allow rustdoc::bare_urls",
                )],
            ),
            Step::Build => {
                let suites = Suites::build()?;
                self.environment.set("HOLDFAST_SERVER", suites.binary("server")?);
                self.environment.set("HOLDFAST_CLI", suites.binary("holdfast")?);
                self.suites = Some(suites);
                Ok(Tally::PASSED)
            }
            Step::Tidy => self.suites(&Group::Tidy),
            Step::Unit => self.suites(&Group::Unit),
            Step::Integration => self.suites(&Group::Integration),
            Step::Doctest => {
                let mut command = cargo(&["test", "--workspace", "--doc", "--locked"]);
                let (tally, names) = suites::counted(&mut command, "doctest", &self.environment)?;
                self.failures.extend(names);
                Ok(tally)
            }
            Step::Page => {
                // Its own folder, so that the tests neither depend on nor disturb the ./dist of whoever works here.
                let folder = target().join("xtask").join("page");
                page::build_into(Build::Dev, &folder)?;
                self.environment.set("HOLDFAST_DIST", folder);
                Ok(Tally::PASSED)
            }
            Step::EndToEnd => self.suites(&Group::EndToEnd(self.selection.end_to_end.clone())),
            Step::Cost => crate::bench::cost(),
            Step::Trunk => {
                tools::trunk(&mut self.environment)?;
                self.suites(&Group::Trunk)
            }
        }
    }

    fn suites(&mut self, group: &Group) -> Outcome<Tally> {
        let Some(suites) = &self.suites else {
            return fail("not run, because nothing was built");
        };
        let (tally, names) = suites.run(group, &self.environment)?;
        self.failures.extend(names);
        Ok(tally)
    }

    /// Prints the summary; its last line is `N passed, N failed`.
    fn summary(&self) -> ExitCode {
        println!("\n{:<12} {:>9} {:>7} {:>7}", "step", "seconds", "passed", "failed");
        let mut total = Tally::default();
        for line in &self.lines {
            println!("{:<12} {:>9.1} {:>7} {:>7}", line.name, line.seconds, line.tally.passed, line.tally.failed);
            total.add(line.tally);
        }
        if !self.failures.is_empty() {
            println!("\nfailed:");
            for failure in &self.failures {
                println!("  {failure}");
            }
        }
        println!("\n{} passed, {} failed", total.passed, total.failed);
        if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A step that is one cargo command.
fn check(arguments: &[&str], environment: &[(&str, &str)]) -> Outcome<Tally> {
    run_program(cargo(arguments).envs(environment.iter().copied()))?;
    Ok(Tally::PASSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(selection: &Selection) -> Vec<&'static str> {
        selection.steps.iter().map(|step| step.name()).collect()
    }

    #[test]
    fn nothing_named_means_everything() {
        assert_eq!(Selection::of(&[]).unwrap().steps.len(), STEPS.len());
    }

    #[test]
    fn a_named_step_brings_what_it_needs_in_order() {
        let selection = Selection::of(&["e2e:faults".into(), "fmt".into()]).unwrap();
        assert_eq!(names(&selection), ["fmt", "build", "page", "e2e"]);
        assert_eq!(selection.end_to_end, Some(vec!["faults".to_owned()]));
    }

    #[test]
    fn the_whole_of_e2e_wins_over_one_file() {
        assert_eq!(Selection::of(&["e2e:faults".into(), "e2e".into()]).unwrap().end_to_end, None);
    }

    #[test]
    fn an_unknown_step_is_refused() {
        assert!(Selection::of(&["nonsense".into()]).is_err());
        assert!(Selection::of(&["fmt:x".into()]).is_err());
    }
}
