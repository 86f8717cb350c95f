//! Everything the project does to itself: `cargo xtask run`, `page`, `test`, `dist`, `bench`,
//! `autobahn`, `fuzz`, `faults`, `soak`, `sim`.
//!
//! Lives here: the commands, and what each needs from the machine. Must not live here: anything the server, the page
//! or the command line need at run time. Invariant: a command either does what it says or ends with a non-zero code
//! and one paragraph that names what is missing and the command that mends it; nothing is skipped quietly.

mod autobahn;
mod bench;
mod dist;
mod error;
mod faults;
mod fuzz;
mod html;
mod machine;
mod order;
mod page;
mod process;
mod run;
mod sim;
mod small;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Failure;

/// What the project does to itself.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the page and the server, start them on <http://127.0.0.1:8080>.
    Run(run::Options),
    /// Build the page from index.html into dist/.
    Page(page::Options),
    /// Run every check and every test, in order of cost; or only the steps named.
    Test(test::Options),
    /// Build what is released: one server binary with the page inside, and the command line.
    Dist(dist::Options),
    /// Measure how fast the server is, alone or beside other servers.
    Bench(bench::Options),
    /// Let the Autobahn test suite judge the server's WebSocket framing.
    Autobahn(autobahn::Options),
    /// Let a fuzzer look for input that breaks what reads foreign bytes.
    Fuzz(fuzz::Options),
    /// Cause every fault and attack of the list for real, against the release binary.
    Faults(faults::Options),
    /// Let the server live among people who come and go for an hour, and look whether anything of it grows.
    Soak(soak::Options),
    /// Live through bad days in virtual time: the real session, server and log on made-up networks, clocks and disks.
    Sim(sim::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Page(options) => page::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Dist(options) => dist::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Autobahn(options) => autobahn::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Faults(options) => faults::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Sim(options) => sim::run(&options),
    };
    match outcome {
        Ok(code) => code,
        Err(Failure(words)) => {
            eprintln!("\nerror: {words}");
            ExitCode::FAILURE
        }
    }
}
