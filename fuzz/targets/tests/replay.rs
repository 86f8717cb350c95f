//! Every input of fuzz/corpus, through its target: what a fuzzer once found stays found, on the pinned compiler.
//!
//! Lives here: the replay, and that targets, their files and their inputs belong together. Must not live here: a target.
//! Invariant: the same inputs in every run, in the same order.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use fuzz_targets::TARGETS;

/// Largest corpus of all targets together, in bytes: it is read by people who clone this, not by the fuzzer only.
const CORPUS_BYTES: u64 = 500_000;

fn fuzz() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in fuzz")
}

/// The files of a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    files.sort();
    files
}

fn stems(folder: &str) -> BTreeSet<String> {
    let stem = |file: &PathBuf| file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    files(&fuzz().join(folder)).iter().filter_map(stem).collect()
}

#[test]
fn every_input_that_was_kept_breaks_no_promise() {
    for target in TARGETS {
        let begun = Instant::now();
        let inputs = files(&fuzz().join("corpus").join(target.name));
        assert!(!inputs.is_empty(), "{} has no input", target.name);
        (target.run)(&[]);
        for input in &inputs {
            let bytes = fs::read(input).expect("an input can be read");
            // Told before, so that a failure names its input.
            println!("{}", input.strip_prefix(fuzz()).expect("inputs lie in fuzz").display());
            (target.run)(&bytes);
        }
        println!("{}: {} inputs in {:.1} s", target.name, inputs.len(), begun.elapsed().as_secs_f32());
    }
}

#[test]
fn targets_their_files_and_their_inputs_belong_together() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(stems("fuzz_targets"), names);
    assert_eq!(stems("corpus"), names);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("it is there");
    for name in &names {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
    let bytes: u64 = names
        .iter()
        .flat_map(|name| files(&fuzz().join("corpus").join(name)))
        .map(|file| file.metadata().expect("an input is there").len())
        .sum();
    assert!(bytes <= CORPUS_BYTES, "{bytes} bytes of corpus");
}
