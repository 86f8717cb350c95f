//! Rules about the tree itself.
//!
//! Lives here: what no compiler checks and a reviewer would have to. Must not live here: anything about behaviour.
//! Invariant: a rule names the file and line that breaks it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Largest file that belongs in the repository.
const FILE_BYTES: u64 = 1_000_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lives in a folder of the workspace")
}

/// Every file that git tracks or would, as a path relative to the root.
fn tracked() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git can be run");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let files: Vec<_> = String::from_utf8(output.stdout)
        .expect("paths are UTF-8")
        .lines()
        .map(PathBuf::from)
        .filter(|path| root().join(path).is_file())
        .collect();
    assert!(files.len() > 20, "only {} files found", files.len());
    files
}

fn texts() -> impl Iterator<Item = (PathBuf, String)> {
    tracked().into_iter().filter_map(|path| {
        let content = std::fs::read(root().join(&path)).expect("a tracked file can be read");
        String::from_utf8(content).ok().map(|text| (path, text))
    })
}

fn rust_files() -> impl Iterator<Item = (PathBuf, String)> {
    texts().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"))
}

fn none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_rust_file_says_what_lives_in_it() {
    let broken: Vec<_> = rust_files()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| format!("{}: begins without a //! comment", path.display()))
        .collect();
    none(&broken);
}

#[test]
fn no_path_or_host_of_the_machine_it_was_written_on() {
    // In two halves each, so that this file keeps its own rule.
    let words = [
        ["/ro", "ot/"].concat(),
        ["/ho", "me/"].concat(),
        ["/wo", "rk/"].concat(),
        ["/tmp/", "team"].concat(),
        ["/Use", "rs/"].concat(),
        ["regi", "stry.npmjs"].concat(),
        [".inter", "nal:"].concat(),
    ];
    let mut broken = Vec::new();
    for (path, text) in texts() {
        for (number, line) in text.lines().enumerate() {
            // `GITHUB_WORKSPACE`-like words are fine; a path begins after a space, a quote or at the line's start.
            for word in &words {
                let found = line.match_indices(word.as_str()).any(|(at, _)| {
                    !line[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || "-_.".contains(before))
                });
                if found {
                    broken.push(format!("{}:{}: {word}", path.display(), number + 1));
                }
            }
        }
    }
    none(&broken);
}

#[test]
fn every_dependency_comes_from_crates_io() {
    let lock = |path| std::fs::read_to_string(root().join(path)).expect("it is there");
    let (ours, fuzzers) = (lock("Cargo.lock"), lock("fuzz/Cargo.lock"));
    let broken: Vec<_> = ours
        .lines()
        .chain(fuzzers.lines())
        .filter(|line| line.starts_with("source = "))
        .filter(|line| *line != r#"source = "registry+https://github.com/rust-lang/crates.io-index""#)
        .map(str::to_owned)
        .collect();
    none(&broken);
}

/// Or building them changes the file under the hands of whoever runs them.
#[test]
fn the_fuzzers_lock_knows_what_our_crates_depend_on() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("it is there");
    let lock = read("fuzz/Cargo.lock");
    let mut broken = Vec::new();
    for (package, folder) in [("shared", "shared"), ("server", "server"), ("fuzz-targets", "fuzz/targets")] {
        let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{package}\"\n")));
        let entry = entry.unwrap_or_default();
        let mut counts = false;
        for line in read(&format!("{folder}/Cargo.toml")).lines() {
            if line.starts_with('[') {
                counts = line == "[dependencies]" || (line.starts_with("[target") && line.ends_with(".dependencies]"));
            } else if let Some((name, _)) = line.split_once(['.', ' ']).filter(|_| counts && !line.starts_with('#'))
                && ![format!("\"{name}\""), format!("\"{name} ")].iter().any(|dependency| entry.contains(dependency))
            {
                broken
                    .push(format!("fuzz/Cargo.lock: {package} depends on {name}; `cargo xtask fuzz close` writes it"));
            }
        }
    }
    none(&broken);
}

#[test]
fn no_test_is_ignored_and_none_focused() {
    let marks = ["#[ign", "ore"].concat();
    let broken: Vec<_> = rust_files()
        .filter(|(_, text)| text.contains(&marks))
        .map(|(path, _)| format!("{}: an ignored test", path.display()))
        .collect();
    none(&broken);
}

#[test]
fn every_local_link_of_a_document_leads_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in texts().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "md")) {
        let folder = root().join(&path).parent().expect("a file lies in a folder").to_path_buf();
        for (number, line) in text.lines().enumerate() {
            for (_, rest) in line.match_indices("](").map(|(at, mark)| line.split_at(at + mark.len())) {
                let link = rest.split([')', ' ']).next().unwrap_or("");
                let file = link.split('#').next().unwrap_or("");
                if file.is_empty() || link.contains("://") || link.starts_with("mailto:") {
                    continue;
                }
                if !folder.join(file).exists() {
                    broken.push(format!("{}:{}: {link}", path.display(), number + 1));
                }
            }
        }
    }
    none(&broken);
}

#[test]
fn no_file_is_too_large() {
    let broken: Vec<_> = tracked()
        .into_iter()
        .filter_map(|path| {
            let bytes = root().join(&path).metadata().expect("a tracked file is there").len();
            (bytes > FILE_BYTES).then(|| format!("{}: {bytes} bytes", path.display()))
        })
        .collect();
    none(&broken);
}

#[test]
fn one_version_of_the_compiler_is_named() {
    let toolchain = std::fs::read_to_string(root().join("rust-toolchain.toml")).expect("it is there");
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("it is there");
    let quoted = |text: &str, start: &str| -> String {
        let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("{start} is missing"));
        rest.split('"').next().unwrap_or("").to_owned()
    };
    let channel = quoted(&toolchain, "channel = \"");
    let oldest = quoted(&manifest, "rust-version = \"");
    assert!(channel == oldest || channel.starts_with(&format!("{oldest}.")), "{channel} and {oldest}");
}

#[test]
fn scripts_end_at_the_first_error() {
    let script = std::fs::read_to_string(root().join(".ci/run")).expect(".ci/run is there");
    assert!(script.starts_with("#!/usr/bin/env bash\n") && script.contains("set -euo pipefail"));
}
