//! Everything plain HTTP: routes, who may call them, and the headers every answer carries.
//!
//! Must not live here: the socket after its upgrade. Invariant: no state changes for a request whose Origin is not on the
//! list, or that carries a cookie and no Origin at all.

pub mod assets;
mod health;
mod origin;
mod security;
mod session;
mod upgrade;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use shared::error::{ErrorCode, WireError};

use crate::app::App;

/// Builds the routes.
#[must_use]
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/ws", get(upgrade::upgrade))
        .route("/api/session", get(session::show).post(session::open).delete(session::end))
        .route("/api/info", get(health::info))
        .route("/api/csp-report", post(security::csp_report))
        .route("/api/{*rest}", get(no_route).post(no_route).put(no_route).delete(no_route))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(assets::serve)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), security::headers))
        .with_state(app)
}

async fn no_route() -> Response {
    refuse(StatusCode::NOT_FOUND, &WireError::new(ErrorCode::NotFound, "There is no such address."))
}

/// Answers with a refusal as JSON.
fn refuse(status: StatusCode, error: &WireError) -> Response {
    let mut response = (status, axum::Json(error)).into_response();
    if let Some(ms) = error.retry_after_ms {
        let seconds = ms.div_ceil(1_000).max(1);
        response.headers_mut().insert(axum::http::header::RETRY_AFTER, seconds.into());
    }
    response
}
