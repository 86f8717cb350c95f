//! `cargo xtask run`: from a fresh clone to a page one can open.
//!
//! Lives here: what must be there, what is built, and handing over to the server. Must not live here: how the page is
//! built ([`crate::page`]). Invariant: the server takes this process over, so a signal sent to the command reaches
//! the server itself, which drains and ends with code 0.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::Args;

use crate::error::{Failure, Outcome, fail};
use crate::machine;
use crate::page::{self, Build};
use crate::process::{announce, binary, cargo, root, run as run_program, shown, target};

/// What `cargo xtask run` can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// The port on 127.0.0.1.
    #[arg(long, default_value_t = 8080, conflicts_with = "listen")]
    port: u16,
    /// The address and port, for a server that others reach too (see --help of the server for its conditions).
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// The folder that holds the server's data.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// Build with optimisations: slower to build, what the numbers in docs/PERFORMANCE.md are for.
    #[arg(long)]
    release: bool,
    /// Further options for the server, after `--`.
    #[arg(last = true)]
    server_options: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    let begun = Instant::now();
    let address = options.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), options.port));
    free(address)?;
    machine::c_compiler()?;
    machine::wasm_target()?;

    page::build_into(if options.release { Build::Release } else { Build::Dev }, &root().join("dist"))?;
    let server = server(options.release)?;
    free(address)?;
    announce(&format!(
        "Ready after {:.0} s. Open the address below in two browsers; Ctrl-C stops the server.",
        begun.elapsed().as_secs_f32()
    ));

    let mut command = Command::new(server);
    command
        .current_dir(root())
        .arg("--listen")
        .arg(address.to_string())
        .arg("--data-dir")
        .arg(&options.data_dir)
        .args(&options.server_options);
    replace(&mut command)
}

/// Builds the server and returns its path.
///
/// # Errors
/// It does not compile.
fn server(release: bool) -> Outcome<PathBuf> {
    announce("Building the server");
    let mut command = cargo(&["build", "--package", "server", "--locked"]);
    if release {
        command.arg("--release");
    }
    run_program(&mut command)?;
    Ok(target().join(if release { "release" } else { "debug" }).join(binary("server")))
}

/// Whether the server will be able to listen, asked before anything is built.
fn free(address: SocketAddr) -> Outcome {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(cause) if cause.kind() == std::io::ErrorKind::AddrInUse => fail(format!(
            "port {} on {} is taken by another program (another `cargo xtask run`?). Stop it, or choose another \
             port:\n\n    cargo xtask run --port {}",
            address.port(),
            address.ip(),
            if address.port() == 8080 { 8090 } else { 8080 },
        )),
        Err(cause) => fail(format!("cannot listen on {address}: {cause}")),
    }
}

#[cfg(unix)]
fn replace(command: &mut Command) -> Outcome<ExitCode> {
    use std::os::unix::process::CommandExt;
    let cause = command.exec();
    Err(Failure(format!("could not start `{}`: {cause}", shown(command))))
}

#[cfg(not(unix))]
fn replace(command: &mut Command) -> Outcome<ExitCode> {
    let status = command.status().map_err(|cause| Failure(format!("could not start `{}`: {cause}", shown(command))))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_told_with_the_command_that_mends_it() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let Err(Failure(words)) = free(holder.local_addr().expect("it is bound")) else {
            panic!("the port is taken");
        };
        assert!(words.contains("is taken") && words.contains("cargo xtask run --port"), "{words}");
    }
}
