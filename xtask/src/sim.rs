//! `cargo xtask sim`: bad days in virtual time, many of them or one with its story.
//!
//! Must not live here: the simulator (`sim/`). Invariant: what is run was built from this tree, optimised and with every
//! check of a debug build.

use std::process::{Command, ExitCode};

use clap::Args;

use crate::error::{Context, Outcome};
use crate::machine;
use crate::process::{announce, binary, cargo, run as run_program, target};

/// What `cargo xtask sim` can be told; `cargo xtask sim -- --help` lists it.
#[derive(Args)]
pub(crate) struct Options {
    /// Passed on to the simulator
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    machine::c_compiler()?;
    announce("Building the simulator");
    let plants = options.arguments.iter().any(|argument| argument == "--mutants");
    let mut build = cargo(&["build", "--locked", "--profile", "sim", "--package", "sim"]);
    let mut folder = target();
    if plants {
        // Apart, so that nobody takes one for the other.
        folder = folder.join("planted");
        build.args(["--features", "planted", "--target-dir"]).arg(&folder);
    }
    run_program(&mut build)?;
    let program = folder.join("sim").join(binary("sim"));
    let status = Command::new(&program).args(&options.arguments).status();
    let status = status.context(format!("{} cannot be started", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
