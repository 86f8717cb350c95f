//! The server's program: arguments, logs, signals.
//!
//! Must not live here: anything a test would want to start without a process. Invariant: stdout holds exactly one line,
//! `listening on http://HOST:PORT`; everything else goes to stderr.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use server::config::{Config, LogFormat};
use server::{Server, Storage, accept, descriptors};
use tracing_subscriber::EnvFilter;

/// Exit code where the configuration cannot stand.
const BAD_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(error) = config.validate() {
        eprintln!("server: {error}");
        return ExitCode::from(BAD_CONFIG);
    }
    if let Err(error) = start_logs(&config) {
        eprintln!("server: --log {:?} is not a filter: {error}", config.log);
        return ExitCode::from(BAD_CONFIG);
    }
    if config.verify {
        return verify(&config.data_dir);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("server: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            tracing::error!("{words}");
            eprintln!("server: {words}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to stderr. The writers escape control characters of what peers sent.
fn start_logs(config: &Config) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(&config.log)?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => logs.with_ansi(false).init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}

/// Walks the database and prints what was found.
fn verify(folder: &std::path::Path) -> ExitCode {
    match server::log::verify(folder) {
        Ok(report) => {
            let mut lines: Vec<String> =
                report.damages.iter().map(|damage| format!("damage: {}", damage.message)).collect();
            lines.push(format!("{} events in {} streams up to change {}", report.events, report.streams, report.lsn));
            // The exit code says it too, should nobody read this.
            let _ = writeln!(std::io::stdout(), "{}", lines.join("\n"));
            if report.damages.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("server: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

async fn serve(mut config: Config) -> Result<(), String> {
    let asked = config.sockets.connections;
    config.sockets.connections = descriptors::make_room(asked);
    if config.sockets.connections < asked {
        tracing::warn!(
            "{} sockets at most, not {asked}: the system allows no more descriptors. Raise the hard limit (ulimit -Hn, or \
             LimitNOFILE= of systemd), or lower --connections",
            config.sockets.connections
        );
    }
    let listener = accept::bind(config.listen, config.sockets.backlog)
        .map_err(|error| format!("cannot listen on {}: {error}", config.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let shutdown = shutdown().map_err(|error| error.to_string())?;
    warn_of_plain_http(&config, address);
    let folder = config.data_dir.clone();
    let server = Server::open(listener, config, Storage::Sqlite)
        .await
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    tracing::info!(origins = ?server.app().origins, "serving {}", server.app().assets.describe());
    {
        let mut stdout = std::io::stdout().lock();
        // Nobody may be reading it; the server serves all the same.
        let _ = writeln!(stdout, "listening on http://{address}").and_then(|()| stdout.flush());
    }
    server.run(shutdown).await.map_err(|error| error.to_string())
}

/// Listens for the signals that ask for an orderly stop. Listens from the call on, not only once it is awaited.
#[cfg(unix)]
fn shutdown() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn shutdown() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

fn warn_of_plain_http(config: &Config, address: std::net::SocketAddr) {
    let is_local = address.ip().is_loopback();
    let has_tls = config.allow_origin.iter().any(|origin| origin.starts_with("https://"));
    match (is_local, config.insecure_http, has_tls) {
        (true, _, _) | (false, false, true) => {}
        (false, true, _) => {
            tracing::warn!(
                "serving people over plain HTTP: posts and cookies can be read and changed by anybody on the network"
            );
            if address.ip().is_unspecified() && config.allow_origin.is_empty() {
                tracing::warn!(
                    "only pages opened on this machine may sign in: name the address that people type with --allow-origin http://…"
                );
            }
        }
        (false, false, false) => tracing::warn!(
            "listening beyond this machine without TLS: pages from elsewhere are refused. Put a TLS proxy in front and name \
             its origin with --allow-origin https://…, or, in a network you trust, add --insecure-http and name the address that \
             people type with --allow-origin http://…"
        ),
    }
}
