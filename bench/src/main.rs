//! `holdfast-bench`: servers started one after the other, loaded alike, and compared.
//!
//! Lives here: the arguments. Must not live here: building and installing what is measured, which is `cargo xtask
//! bench`'s. Invariant: two figures that are compared come from the same sitting, run beside run.

mod drive;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::drive::Workload;

#[derive(Parser)]
#[command(name = "holdfast-bench", about = "Measures Holdfast, and other servers beside it")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run workloads and print what came of them.
    Run(Box<RunArgs>),
    /// Count what the server does for a delivery, a post, a heartbeat and an arrival, and judge it by a budget.
    Count(CountArgs),
    /// Be one process of a load; orders come on standard input. Started by `run`.
    Load,
}

/// What to run.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// What to measure; all but those for the plots where none is named
    #[arg(value_enum)]
    workloads: Vec<Workload>,
    /// The server's binary
    #[arg(long, value_name = "FILE")]
    server: PathBuf,
    /// Another server to measure beside it: its name and its command line, as a JSON array
    #[arg(long = "peer", value_name = "NAME=JSON")]
    peers: Vec<String>,
    /// The program that writes batches straight into the tables
    #[arg(long, value_name = "FILE")]
    raw: Option<PathBuf>,
    /// The program that fills a room with posts
    #[arg(long, value_name = "FILE")]
    fill: Option<PathBuf>,
    /// Where data and logs of the servers go
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// How often each is run, in turn with the others
    #[arg(long, default_value_t = 5, value_name = "N")]
    runs: usize,
    /// How long each run is measured
    #[arg(long, default_value_t = 10.0, value_name = "S")]
    seconds: f64,
    /// Cores the server is kept to, the load has the others; 0 keeps nobody to any
    #[arg(long, default_value_t = 1, value_name = "N")]
    server_cores: usize,
    /// Write everything that was found there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the plots into this folder
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
}

/// What to count.
#[derive(Args, Clone, Debug)]
pub(crate) struct CountArgs {
    /// The server's binary
    #[arg(long, value_name = "FILE")]
    server: PathBuf,
    /// What each figure may be
    #[arg(long, value_name = "FILE")]
    budget: PathBuf,
    /// Where data, logs and what the instruments wrote go
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(args) => drive::run(&args),
        Command::Count(args) => drive::count(&args),
        Command::Load => drive::worker(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fail) => {
            eprintln!("\nerror: {fail}");
            ExitCode::FAILURE
        }
    }
}
