//! What those who watch the server ask.
//!
//! Must not live here: anything a person could be told apart by. Invariant: `/readyz` says yes only if a post could be
//! stored now.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use crate::app::App;
use crate::drain::Phase;
use crate::log::Health;

/// How long the log may be at one record before nobody is told that a post could be stored now: far more than the slowest
/// disk takes for the largest, and about as long as a proxy takes to ask again.
const RECORD_AT_MOST: Duration = Duration::from_secs(3);

pub(super) async fn alive() -> &'static str {
    "alive\n"
}

pub(super) async fn ready(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    match (app.drain.phase(), app.log.health()) {
        // A disk that hangs says nothing, and health is only what was last said.
        (Phase::Serving, Health::Writable) if app.log.busy_for() > RECORD_AT_MOST => {
            (StatusCode::SERVICE_UNAVAILABLE, "the storage does not answer\n")
        }
        (Phase::Serving, Health::Writable) => (StatusCode::OK, "ready\n"),
        (Phase::Draining | Phase::Failed, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        (Phase::Serving, Health::Full) => (StatusCode::SERVICE_UNAVAILABLE, "the disk is full\n"),
        (Phase::Serving, Health::Stopped) => (StatusCode::SERVICE_UNAVAILABLE, "the storage has stopped\n"),
    }
}

#[derive(Serialize)]
pub(super) struct Info {
    name: &'static str,
    build: &'static str,
    protocol: u16,
    /// The page may offer its weather switch.
    weather: bool,
    /// Sockets upgraded now.
    connections: usize,
    /// Tasks of the runtime that have not ended: a few of the server's own, and one or two for each socket.
    tasks: usize,
    /// Reports of pages that broke their Content-Security-Policy since the start.
    csp_reports: u64,
}

pub(super) async fn info(State(app): State<Arc<App>>) -> Json<Info> {
    Json(Info {
        name: "holdfast",
        build: app.build(),
        protocol: shared::limits::PROTOCOL_VERSION,
        weather: app.config.allow_weather || cfg!(debug_assertions),
        connections: app.sockets(),
        tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        csp_reports: app.csp_reports.load(Ordering::Relaxed),
    })
}
