//! The server's program. For now it only checks its configuration.

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    match server::config::Config::parse().validate() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("server: {error}");
            std::process::ExitCode::from(2)
        }
    }
}
