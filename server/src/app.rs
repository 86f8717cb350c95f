//! What every part of the server can reach.
//!
//! Must not live here: behaviour beyond counting. Invariant: built once at start and shared; whatever changes in it has
//! one owner named by its field.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use shared::ids::ConnectionId;
use tokio::sync::Notify;

use crate::accept::Addresses;
use crate::ambient::Ambient;
use crate::config::Config;
use crate::delivery::Hub;
use crate::drain::Drain;
use crate::http::assets::Assets;
use crate::log::LogHandle;
use crate::presence::Presence;
use crate::registry::Registry;

/// What every part of the server can reach.
pub struct App {
    /// What the operator set.
    pub config: Config,
    /// Time and chance.
    pub ambient: Arc<dyn Ambient>,
    /// The log.
    pub log: LogHandle,
    /// Streams and who follows them.
    pub hub: Arc<Hub>,
    /// Connections by person and sign-in.
    pub registry: Arc<Registry>,
    /// Who is here.
    pub presence: Presence,
    /// Whether the server is about to stop.
    pub drain: Drain,
    /// What addresses have done lately.
    pub addresses: Addresses,
    /// The page.
    pub assets: Assets,
    /// Origins browsers may come from, in lower case.
    pub origins: Vec<String>,
    /// Reports of pages that broke their Content-Security-Policy.
    pub csp_reports: AtomicU64,
    /// Told when a connection or a request has gone, so that a drain can wait for the last.
    pub gone: Notify,
    sockets: AtomicUsize,
    requests: AtomicUsize,
    connections: AtomicU64,
}

/// One upgraded socket, counted for as long as this lives.
pub struct SocketCount(Arc<App>);

impl Drop for SocketCount {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::AcqRel);
        self.0.gone.notify_one();
    }
}

/// One socket that has asked for something over HTTP, counted for as long as this lives.
pub struct RequestCount(Arc<App>);

impl Drop for RequestCount {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
        self.0.gone.notify_one();
    }
}

/// The parts an [`App`] is built of.
pub struct Parts {
    /// See [`App::config`].
    pub config: Config,
    /// See [`App::ambient`].
    pub ambient: Arc<dyn Ambient>,
    /// See [`App::log`].
    pub log: LogHandle,
    /// See [`App::hub`].
    pub hub: Arc<Hub>,
    /// See [`App::registry`].
    pub registry: Arc<Registry>,
    /// See [`App::assets`].
    pub assets: Assets,
    /// See [`App::origins`].
    pub origins: Vec<String>,
}

impl App {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let timing = parts.config.timing;
        Arc::new(Self {
            presence: Presence::new(crate::config::ms(timing.presence_grace_ms), crate::config::ms(timing.coalesce_ms)),
            drain: Drain::default(),
            addresses: Addresses::new(&parts.config.sockets),
            config: parts.config,
            ambient: parts.ambient,
            log: parts.log,
            hub: parts.hub,
            registry: parts.registry,
            assets: parts.assets,
            origins: parts.origins,
            csp_reports: AtomicU64::new(0),
            gone: Notify::new(),
            sockets: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            connections: AtomicU64::new(0),
        })
    }

    /// Counts an upgraded socket.
    #[must_use]
    pub fn count_socket(self: &Arc<Self>) -> SocketCount {
        self.sockets.fetch_add(1, Ordering::AcqRel);
        SocketCount(Arc::clone(self))
    }

    /// Returns how many upgraded sockets there are.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Acquire)
    }

    /// Counts a socket that asks for something over HTTP.
    #[must_use]
    pub fn count_request(self: &Arc<Self>) -> RequestCount {
        // In one order with the drain's phase: either the drain waits for it, or it finds that the drain has begun.
        self.requests.fetch_add(1, Ordering::SeqCst);
        RequestCount(Arc::clone(self))
    }

    /// Tells whether nobody is left to wait for: no socket that has upgraded, and none in a request.
    #[must_use]
    pub fn is_deserted(&self) -> bool {
        // Requests first: one that upgrades is counted there until it is counted among the sockets.
        self.requests.load(Ordering::SeqCst) == 0 && self.sockets() == 0
    }

    /// Numbers a new connection.
    #[must_use]
    pub fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Returns the server's version and build.
    #[must_use]
    pub const fn build(&self) -> &'static str {
        match option_env!("HOLDFAST_BUILD") {
            Some(build) => build,
            None => env!("CARGO_PKG_VERSION"),
        }
    }
}
