//! `cargo xtask dist`: what is handed to an operator.
//!
//! Lives here: the release builds and where they go. Must not live here: what the binaries do. Invariant: the server
//! in the folder carries the page of the same tree inside, and needs no file beside it.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use crate::error::{Context, Outcome};
use crate::machine;
use crate::page::{self, Build};
use crate::process::{announce, binary, cargo, run as run_program, target};

/// What `cargo xtask dist` can be told: nothing yet.
#[derive(Args)]
pub(crate) struct Options {}

/// Runs the command.
pub(crate) fn run(_options: &Options) -> Outcome<ExitCode> {
    machine::c_compiler()?;
    machine::wasm_target()?;
    let into = target().join("dist");
    fs::create_dir_all(&into).context(format!("create {}", into.display()))?;

    let page = target().join("xtask").join("embed");
    page::build_into(Build::Release, &page)?;
    let (plain, compressed) = compress(&page)?;

    announce("Building the server with the page inside, and the command line");
    run_program(
        cargo(&["build", "--release", "--locked", "--package", "server", "--package", "cli"])
            .env("HOLDFAST_EMBED", &page),
    )?;
    announce("Done");
    for name in ["server", "holdfast"] {
        let from = target().join("release").join(binary(name));
        let to = into.join(binary(name));
        let bytes = fs::copy(&from, &to).context(format!("copy {}", from.display()))?;
        println!("{:>10}  {}", megabytes(bytes), to.display());
    }
    println!("page inside the server: {} as it is, {} brotli", megabytes(plain), megabytes(compressed));
    Ok(ExitCode::SUCCESS)
}

/// Puts `NAME.br` beside every file; returns the bytes before and after.
fn compress(page: &Path) -> Outcome<(u64, u64)> {
    announce("Compressing the page");
    let mut bytes = (0, 0);
    for path in page::files(page)? {
        let content = fs::read(page.join(&path)).context(format!("read {}", path.display()))?;
        let compressed = page::brotli(&content);
        bytes.0 += content.len() as u64;
        bytes.1 += compressed.len() as u64;
        let name = page.join(format!("{}.br", path.display()));
        fs::write(&name, compressed).context(format!("write {}", name.display()))?;
    }
    Ok(bytes)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
