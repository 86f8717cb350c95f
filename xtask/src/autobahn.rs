//! `cargo xtask autobahn`: the Autobahn test suite's fuzzing client against the server's framing.
//!
//! Lives here: getting the suite, starting the echo, judging the report. Must not live here: framing, or the echo
//! (server/examples/echo.rs). Invariant: it succeeds only if every case that was asked for has a verdict, and none of
//! them another than OK, NON-STRICT, INFORMATIONAL or UNIMPLEMENTED, for the behaviour and for the close alike.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::error::{Context, Outcome, fail};
use crate::machine;
use crate::process::{announce, binary, cargo, read, run as run_program, run_logged, shown, target};

/// The suite, as PyPI has it. The last one; it is Python 2.
const SUITE: &str = "autobahntestsuite==0.8.2";
/// The last line of virtualenv that can make an environment of Python 2.
const VIRTUALENV: &str = "virtualenv<20.22";
/// The longest a run may take.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// How the echo is called in the report.
const AGENT: &str = "holdfast";

/// What `cargo xtask autobahn` can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// Cases to run, such as 7.* (all without any).
    cases: Vec<String>,
    /// Cases to leave out.
    #[arg(long)]
    exclude: Vec<String>,
}

/// The suite's own names of its sections.
const SECTIONS: [(&str, &str); 11] = [
    ("1", "Framing"),
    ("2", "Pings and pongs"),
    ("3", "Reserved bits"),
    ("4", "Opcodes"),
    ("5", "Fragmentation"),
    ("6", "UTF-8"),
    ("7", "Close"),
    ("9", "Limits and speed"),
    ("10", "Automatic fragmentation"),
    ("12", "Compression"),
    ("13", "Compression, other parameters"),
];

/// Runs the command.
pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    machine::c_compiler()?;
    let folder = target().join("xtask").join("autobahn");
    let python = suite(&folder)?;
    announce("Building the echo around the server's framing");
    run_program(&mut cargo(&["build", "--release", "--locked", "--package", "server", "--example", "echo"]))?;
    let echo = Echo::start(&target().join("release").join("examples").join(binary("echo")))?;
    let reports = folder.join("reports");
    clear(&reports)?;
    let cases = if options.cases.is_empty() { vec!["*".to_owned()] } else { options.cases.clone() };
    let spec = json!({
        "outdir": reports,
        "servers": [{ "agent": AGENT, "url": format!("ws://{}/ws", echo.address), "origin": echo.origin() }],
        "cases": cases,
        "exclude-cases": options.exclude,
        "exclude-agent-cases": {},
    });
    let spec_file = folder.join("spec.json");
    fs::write(&spec_file, spec.to_string()).context(format!("write {}", spec_file.display()))?;
    announce("Running the suite");
    let mut client = Command::new(python.with_file_name("wstest"));
    client.args(["--mode", "fuzzingclient", "--spec"]).arg(&spec_file);
    let log = folder.join("wstest.log");
    if !run_logged(&mut client, &log, LIMIT)? {
        return fail(format!("`{}` failed; see {}", shown(&client), log.display()));
    }
    drop(echo);
    let asked = asked(&fs::read_to_string(&log).context(format!("read {}", log.display()))?);
    let table = Table::of(&reports.join("index.json"))?;
    println!("{}\n\n{table}", versions(&python)?);
    println!("Every case with its frames: {}", reports.join("index.html").display());
    for failure in &table.failures {
        println!("failed: {failure}");
    }
    match asked {
        Some(asked) if asked == table.cases => {}
        asked => return fail(format!("{asked:?} cases were asked for and {} have a verdict", table.cases)),
    }
    Ok(if table.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many cases the client says it will run.
fn asked(log: &str) -> Option<usize> {
    let (_, rest) = log.split_once("Ok, will run ")?;
    rest.split(' ').next()?.parse().ok()
}

/// What happened case by case, counted by section.
#[derive(Debug, Default)]
struct Table {
    sections: BTreeMap<u32, BTreeMap<String, usize>>,
    failures: Vec<String>,
    cases: usize,
}

/// Verdicts that stand.
const FINE: [&str; 4] = ["OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"];

impl Table {
    fn of(index: &Path) -> Outcome<Table> {
        let text = fs::read_to_string(index).context(format!("read {}", index.display()))?;
        let report: Value = serde_json::from_str(&text).context("understand the suite's report")?;
        Table::read(&report)
    }

    fn read(report: &Value) -> Outcome<Table> {
        let Some(cases) = report[AGENT].as_object() else { return fail("the suite's report names no case") };
        let mut table = Table::default();
        for (case, verdict) in cases {
            let section = case.split('.').next().and_then(|section| section.parse().ok()).unwrap_or_default();
            let said = |field: &str| verdict[field].as_str().unwrap_or("nothing").to_owned();
            let (behaviour, close) = (said("behavior"), said("behaviorClose"));
            if ![&behaviour, &close].into_iter().all(|said| FINE.contains(&said.as_str())) {
                table.failures.push(format!("{case}: {behaviour}, close {close}"));
            }
            *table.sections.entry(section).or_default().entry(behaviour).or_default() += 1;
            table.cases += 1;
        }
        Ok(table)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| section | cases | OK | NON-STRICT | INFORMATIONAL | UNIMPLEMENTED | failed |")?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|")?;
        let mut row = |name: &str, verdicts: &BTreeMap<String, usize>| {
            let all: usize = verdicts.values().sum();
            let fine = FINE.map(|verdict| verdicts.get(verdict).copied().unwrap_or_default());
            let [ok, non_strict, informational, unimplemented] = fine;
            let failed = all - fine.iter().sum::<usize>();
            writeln!(f, "| {name} | {all} | {ok} | {non_strict} | {informational} | {unimplemented} | {failed} |")
        };
        let mut total = BTreeMap::new();
        for (section, verdicts) in &self.sections {
            let number = section.to_string();
            let known = SECTIONS.iter().find(|(known, _)| *known == number);
            row(&format!("{number} {}", known.map_or("", |(_, name)| name)), verdicts)?;
            for (verdict, count) in verdicts {
                *total.entry(verdict.clone()).or_default() += count;
            }
        }
        row("all", &total)
    }
}

/// The versions the result was made with.
fn versions(python: &Path) -> Outcome<String> {
    let words = "import platform, pkg_resources as p; print(', '.join(['%s %s' % (n, p.get_distribution(n).version) \
                 for n in ('autobahntestsuite', 'autobahn', 'Twisted')] + ['Python ' + platform.python_version()]))";
    Ok(read(Command::new(python).args(["-c", words]))?.trim().to_owned())
}

/// Makes sure that the suite is there; returns the Python it is installed for.
fn suite(folder: &Path) -> Outcome<PathBuf> {
    let environment = folder.join("python");
    let python = environment.join("bin").join("python");
    if python.with_file_name("wstest").is_file() {
        return Ok(python);
    }
    let Some(python_2) = python_2() else {
        return fail(format!(
            "the Autobahn test suite is written in Python 2, and no Python 2.7 was found. Install one and run this \
             again:\n\n    pyenv install 2.7.18\n\n(or build it from python.org's sources; Debian has had none since \
             version 12). It is looked for as python2.7 and python2 on the PATH, under pyenv's versions, and as the \
             program that HOLDFAST_PYTHON2 names. The suite itself, {SUITE}, is then fetched from PyPI into {}.",
            folder.display()
        ));
    };
    if !machine::answers("python3", "--version") {
        return fail(
            "python3 is needed to prepare the Autobahn test suite. Run\n\n    sudo apt-get install python3-pip",
        );
    }
    announce(&format!("Getting {SUITE} into {}", folder.display()));
    clear(&environment)?;
    let tool = folder.join("virtualenv");
    run_program(
        Command::new("python3").args(["-m", "pip", "install", "--quiet", "--target"]).args([&tool]).arg(VIRTUALENV),
    )?;
    let mut make = Command::new("python3");
    make.env("PYTHONPATH", &tool).args(["-m", "virtualenv", "--quiet", "--python"]).args([&python_2, &environment]);
    run_program(&mut make)?;
    run_program(Command::new(&python).args(["-m", "pip", "install", "--quiet", SUITE]))?;
    Ok(python)
}

/// A Python 2.7 that runs.
fn python_2() -> Option<PathBuf> {
    let named = std::env::var_os("HOLDFAST_PYTHON2").map(PathBuf::from);
    let pyenv = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".pyenv")))
        .and_then(|root| fs::read_dir(root.join("versions")).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin").join("python2.7")));
    let on_path = ["python2.7", "python2"].into_iter().filter_map(machine::find);
    named.into_iter().chain(on_path).chain(pyenv).find(|python| is_python_2(python))
}

/// Whether a program is a Python 2.7: a name alone may be a stand-in that only says so.
fn is_python_2(python: &Path) -> bool {
    let question = "import sys; sys.exit(sys.version_info[:2] != (2, 7))";
    let asked = Command::new(python)
        .args(["-c", question])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok_and(|status| status.success())
}

fn clear(folder: &Path) -> Outcome {
    match fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(cause).context(format!("empty {}", folder.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The echo, ended with this value.
struct Echo {
    child: Child,
    address: String,
}

impl Echo {
    fn start(program: &Path) -> Outcome<Echo> {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context(format!("start `{}`", shown(&command)))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut echo = Echo { child, address: String::new() };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("read where the echo listens")?;
        match line.trim().strip_prefix("listening on http://") {
            Some(address) => address.clone_into(&mut echo.address),
            None => return fail(format!("the echo says {line:?}, not where it listens")),
        }
        Ok(echo)
    }

    /// The one origin the echo upgrades.
    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_stands_only_if_its_behaviour_and_its_close_do() {
        let report = json!({ AGENT: {
            "1.1.1": { "behavior": "OK", "behaviorClose": "OK" },
            "2.10": { "behavior": "OK", "behaviorClose": "UNCLEAN" },
            "7.1.6": { "behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL" },
            "10.1.1": { "behavior": "FAILED", "behaviorClose": "OK" },
            "12.1.1": { "behavior": "UNIMPLEMENTED" },
        }});
        let table = Table::read(&report).unwrap();
        assert_eq!(table.cases, 5);
        let failed: Vec<_> = table.failures.iter().filter_map(|words| words.split(':').next()).collect();
        assert_eq!(failed, ["10.1.1", "12.1.1", "2.10"]);
        let rows = table.to_string();
        assert!(rows.contains("| 10 Automatic fragmentation | 1 | 0 | 0 | 0 | 0 | 1 |"), "{rows}");
        assert!(rows.ends_with("| all | 5 | 2 | 0 | 1 | 1 | 1 |\n"), "{rows}");
        assert!(Table::read(&json!({})).is_err());
    }

    #[test]
    fn the_client_says_how_many_cases_it_runs() {
        assert_eq!(asked("Autobahn\nOk, will run 301 test cases against 1 servers\n"), Some(301));
        assert_eq!(asked("nothing"), None);
    }
}
