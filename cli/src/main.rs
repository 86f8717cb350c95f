//! `holdfast`, the command line: chat, post, tail, rooms, outbox, bench, and signing in and out.
//!
//! Lives here: the way in and the way out. Must not live here: anything a command does. Invariant: the program ends by
//! returning a documented exit code, never by a panic on a closed pipe.

mod again;
mod args;
mod bench;
mod commands;
mod connect;
mod driver;
mod exit;
mod room;
mod search;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::exit::End;

fn main() -> ExitCode {
    let Cli { common, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; to a closed pipe they are not an error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(async {
                match command {
                    Command::Chat(args) => commands::chat::run(&common, args).await,
                    Command::Post(args) => commands::post::run(&common, args).await,
                    Command::Tail(args) => commands::tail::run(&common, args).await,
                    Command::Rooms(args) => commands::rooms::run(&common, args).await,
                    Command::Outbox(args) => commands::outbox::run(&common, args).await,
                    Command::SignIn => commands::sign_in::sign_in(&common).await,
                    Command::SignOut => commands::sign_in::sign_out(&common).await,
                    Command::Bench(args) => bench::run(&common, &args),
                }
            });
            // A name look-up or a read of the terminal that is still under way must not hold the program.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(End::Local(format!("cannot start: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(end) => {
            if let Some(words) = end.words() {
                terminal::note(&format!("holdfast: {words}"));
            }
            ExitCode::from(end.code())
        }
    }
}
