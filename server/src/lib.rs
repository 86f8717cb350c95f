//! Holdfast's server.
//!
//! Lives here: the parts and how they start and stop. Must not live here: anything a client could also need
//! ([`shared`]). Invariant: nothing is acknowledged or shown before it is committed, and no socket outlives [`run`].

pub mod accept;
pub mod ambient;
pub mod app;
pub mod config;
pub mod connection;
pub mod delivery;
pub mod descriptors;
pub mod drain;
pub mod http;
pub mod log;
pub mod people;
pub mod presence;
pub mod purge;
pub mod registry;
pub mod rooms;
pub mod rosters;
pub mod socket;
pub mod ws;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use shared::ids::ClientId;
use shared::time::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::ambient::{Ambient, System};
use crate::app::{App, Parts};
use crate::config::{Config, ms};
use crate::delivery::Hub;
use crate::http::assets::Assets;
use crate::log::{Applied, Entry, Fatal, GENERAL, LogHandle, LogOptions, Op, OpenError, Published, SYSTEM, Writer};
use crate::registry::Registry;

/// Where the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In the configured folder.
    Sqlite,
    /// In memory, for tests: it ends with the server.
    Memory,
}

/// Why the server ended other than in good order.
#[derive(Debug)]
pub enum ServerError {
    /// The log could not be opened.
    Open(OpenError),
    /// The log refused the room everybody is in.
    Bootstrap(String),
    /// The storage failed while serving.
    Storage(Fatal),
    /// The system failed.
    Io(std::io::Error),
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Bootstrap(words) => f.write_str(words),
            Self::Storage(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ServerError {}

/// A server that is ready to run.
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    writer: Writer,
}

impl Server {
    /// Opens the log and makes everything ready. Nothing is accepted before [`Server::run`].
    ///
    /// # Errors
    /// If the log cannot be opened.
    pub async fn open(listener: TcpListener, config: Config, storage: Storage) -> Result<Self, ServerError> {
        let address = listener.local_addr().map_err(ServerError::Io)?;
        let (hub, registry) = (Arc::new(Hub::default()), Arc::new(Registry::default()));
        let sink = {
            let (hub, registry) = (Arc::clone(&hub), Arc::clone(&registry));
            move |published: &Published| publish(&hub, &registry, published)
        };
        let options = log_options(&config);
        let (log, writer) = match storage {
            Storage::Memory => log::open_memory(&options, sink),
            Storage::Sqlite => {
                let folder = config.data_dir.clone();
                let opening = tokio::task::spawn_blocking(move || log::open_sqlite(&folder, &options, sink));
                opening.await.map_err(|error| ServerError::Io(std::io::Error::other(error)))?
            }
        }
        .map_err(ServerError::Open)?;
        bootstrap(&log, &System).await?;
        let (assets, origins) = (Assets::find(config.dist.as_deref()), config.origins(address));
        let app = App::new(Parts { config, ambient: Arc::new(System), log, hub, registry, assets, origins });
        Ok(Self { app, listener, writer })
    }

    /// Returns what every part of the server can reach.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Serves until `shutdown` ends, then says goodbye.
    ///
    /// # Errors
    /// [`ServerError::Storage`] if the storage failed: nothing more can be promised then.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self { app, listener, mut writer } = self;
        let router = http::router(Arc::clone(&app));
        let serving = accept::serve(Arc::clone(&app), listener, router);
        let mut keepers = keep(&app);
        let keeping = async {
            // They run until dropped; one that fails is a bug, and ends the server as one.
            if let Some(Err(error)) = keepers.join_next().await
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        };
        let ending = async {
            let failed = tokio::select! {
                () = shutdown => {
                    drain::drain(&app).await;
                    None
                }
                stopped = writer.stopped() => Some(stopped),
            };
            if failed.is_some() {
                drain::fail(&app).await;
            }
            failed
        };
        // The accept loop owns every socket; ending it here ends what is left of them.
        let failed = tokio::select! {
            failed = ending => failed,
            () = serving => None,
            () = keeping => None,
        };
        keepers.shutdown().await;
        match failed {
            Some(Err(fatal)) => Err(ServerError::Storage(fatal)),
            Some(Ok(())) => Err(ServerError::Storage(Fatal { message: "the log ended unasked".to_owned() })),
            None => {
                let ended = tokio::task::spawn_blocking(move || writer.shutdown()).await;
                ended.map_err(|error| ServerError::Io(std::io::Error::other(error)))?.map_err(ServerError::Storage)
            }
        }
    }
}

/// Starts what keeps the connections informed and the log tidy. Each is a task of its own: telling a crowd who has come takes a while, in
/// which the door must stay open.
fn keep(app: &Arc<App>) -> JoinSet<()> {
    let mut keepers = JoinSet::new();
    let [hints, sweep, presence, tidies, purges] = std::array::from_fn(|_| Arc::clone(app));
    keepers.spawn(async move { hints.hub.run_hints().await });
    keepers.spawn(async move { sweep.hub.run_sweep(&sweep.log, ms(sweep.config.timing.sweep_ms)).await });
    keepers.spawn(async move { presence.presence.run(&presence.hub).await });
    keepers.spawn(async move { tidy(&tidies).await });
    keepers.spawn(async move { purge::run(&*purges.ambient, &purges.log).await });
    keepers
}

/// Serves on a listener until `shutdown` ends.
///
/// # Errors
/// See [`ServerError`].
pub async fn run(
    listener: TcpListener,
    config: Config,
    storage: Storage,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    Server::open(listener, config, storage).await?.run(shutdown).await
}

/// Tells everybody concerned of what was committed. Runs on the writer's thread.
pub fn publish(hub: &Hub, registry: &Registry, published: &Published) {
    hub.publish(published);
    for (user, mark) in &published.effects.reads {
        registry.for_user(*user, |peer| peer.mailbox.read(mark.room, mark.posts));
    }
    for (user, token) in &published.effects.revoked {
        registry.revoke(*user, token);
    }
}

fn log_options(config: &Config) -> LogOptions {
    LogOptions {
        accept_loss: config.accept_loss,
        max_bytes: (config.max_database_bytes > 0).then_some(config.max_database_bytes),
        ..LogOptions::default()
    }
}

/// Between two rounds of forgetting people who are gone.
const TIDY_EVERY: Duration = Duration::from_secs(30);

async fn tidy(app: &App) {
    let mut ticks = tokio::time::interval(TIDY_EVERY);
    loop {
        ticks.tick().await;
        app.registry.tidy(app.ambient.now());
    }
}

/// Makes the room everybody is in, the first time.
///
/// # Errors
/// If the log refuses it or has stopped, or has no room for it and it was never made.
pub async fn bootstrap(log: &LogHandle, ambient: &dyn Ambient) -> Result<(), ServerError> {
    // The same key each time: what was done at the first start is not done again.
    let key = ClientId::from_parts(Timestamp(0), [0; 10]);
    let op = Op::RoomCreate { room: GENERAL, name: "general".to_owned(), title: String::new() };
    match log.propose(Entry { ts: ambient.wall_clock(), by: SYSTEM, key, op }).await {
        Ok(Applied::Committed(_) | Applied::Duplicate(_)) => Ok(()),
        Ok(Applied::Refused(error)) => Err(ServerError::Bootstrap(error.to_string())),
        // A full disk heals, but the room must have been made before: whoever signs in enters it, and somebody else might
        // take its name.
        Err(error @ (log::LogError::Full | log::LogError::Busy)) => match log.read(|reads| reads.head(GENERAL)).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(ServerError::Bootstrap(format!("the first room cannot be made: {error}"))),
            Err(_) => Err(ServerError::Bootstrap("the storage failed at the first read".to_owned())),
        },
        Err(log::LogError::Stopped) => Err(ServerError::Bootstrap("the storage failed at the first write".to_owned())),
    }
}
