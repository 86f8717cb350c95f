//! Keeps docs/SCENARIOS.md honest: every scenario is there, and every test it names exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The rows the table must have.
const SCENARIOS: [u32; 22] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 20, 22, 24, 25, 10];
/// The rows of the ground: S1 to this.
const GROUND: u32 = 19;
/// Crates whose tests may be named.
const CRATES: [&str; 5] = ["shared", "server", "sim", "cli", "e2e"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the workspace")
}

/// One row of the table.
struct Row {
    name: String,
    tests: Vec<String>,
    broken: String,
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(root().join("docs/SCENARIOS.md")).expect("docs/SCENARIOS.md is there");
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows = text.lines().filter(|line| line.starts_with('|')).map(cells).filter(|cells| cells.len() == 4);
    rows.filter(|cells| cells[0].chars().any(|c| c.is_ascii_digit()))
        .map(|cells| Row {
            name: cells[0].clone(),
            tests: cells[2].split('`').skip(1).step_by(2).map(str::to_owned).collect(),
            broken: cells[3].clone(),
        })
        .collect()
}

/// Collects every test of a crate as `crate::file::test`. Folders count, `tests`, `mod` and `lib` do not: where in a
/// file a test stands is nobody's business.
fn tests_of(krate: &str, found: &mut BTreeSet<String>) {
    for part in ["src", "tests"] {
        let folder = root().join(krate).join(part);
        for file in rust_files(&folder) {
            let inside = file.strip_prefix(&folder).expect("found in it").with_extension("");
            let path = inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
            let path: Vec<String> =
                path.filter(|part| !["tests", "mod", "lib", "main"].contains(&part.as_str())).collect();
            let text = std::fs::read_to_string(&file).expect("a source file");
            for name in tests_in(&text) {
                let whole = [krate].into_iter().chain(path.iter().map(String::as_str)).chain([name]);
                found.insert(whole.collect::<Vec<_>>().join("::"));
            }
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false if path.extension().is_some_and(|ending| ending == "rs") => vec![path],
            false => Vec::new(),
        })
        .collect()
}

/// Finds the functions that stand under a test attribute.
fn tests_in(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if is_test && !line.starts_with("#[") && !line.starts_with("//") {
            let signature = line.strip_prefix("async ").unwrap_or(line);
            found.extend(signature.strip_prefix("fn ").and_then(|rest| rest.split('(').next()));
            is_test = false;
        }
    }
    found
}

#[test]
fn every_scenario_is_listed_once() {
    let named: Vec<String> = rows().into_iter().map(|row| row.name).collect();
    let ground = (1..=GROUND).map(|number| format!("S{number}"));
    for wanted in ground.chain(SCENARIOS.map(|number| number.to_string())) {
        assert_eq!(named.iter().filter(|name| **name == wanted).count(), 1, "{wanted} in docs/SCENARIOS.md");
    }
}

#[test]
fn every_test_named_in_the_table_exists() {
    let mut known = BTreeSet::new();
    CRATES.iter().for_each(|krate| tests_of(krate, &mut known));
    let mut missing = Vec::new();
    for row in rows() {
        assert!(!row.tests.is_empty(), "{} names no test", row.name);
        assert!(!row.broken.is_empty(), "{} says nothing of a deliberate break; write — where none was made", row.name);
        missing.extend(
            row.tests.into_iter().filter(|test| !known.contains(test)).map(|test| format!("{}: {test}", row.name)),
        );
    }
    assert!(missing.is_empty(), "docs/SCENARIOS.md names tests that do not exist:\n{}", missing.join("\n"));
}

#[test]
fn the_search_for_tests_finds_tests_and_nothing_else() {
    let text = "fn helper() {}\n#[test]\nfn one() {}\n#[tokio::test(flavor = \"multi_thread\")]\n#[expect(x)]\n// why\nasync fn two() {}\n";
    assert_eq!(tests_in(text), ["one", "two"]);
}
