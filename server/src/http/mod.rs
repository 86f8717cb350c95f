//! Everything plain HTTP: routes, who may call them, and the headers every answer carries.
//!
//! Must not live here: the socket after its upgrade. Invariant: no state changes for a request whose Origin is not on the
//! list, or that carries a cookie and no Origin at all.

pub mod assets;
mod health;
mod origin;
pub(crate) mod patience;
mod security;
mod session;
mod upgrade;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use shared::error::{ErrorCode, WireError};

use crate::app::App;
use crate::drain::Phase;

/// Builds the routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/ws", get(upgrade::upgrade))
        .route("/api/session", get(session::show).post(session::open).delete(session::end))
        .route("/api/info", get(health::info))
        .route("/api/csp-report", post(security::csp_report))
        .route("/api/{*rest}", get(no_route).post(no_route).put(no_route).delete(no_route))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .method_not_allowed_fallback(async || Refusal::method())
        .fallback(assets::serve)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), security::headers))
        .with_state(app)
}

async fn no_route() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, WireError::new(ErrorCode::NotFound, "There is no such address."))
}

/// Lets nothing begin once the server is about to stop.
fn refuse_while_stopping(app: &App) -> Result<(), Refusal> {
    if app.drain.phase() == Phase::Serving {
        return Ok(());
    }
    let error = WireError::new(ErrorCode::Unavailable, "The server is restarting.").retry_after(1_000);
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error))
}

/// A request that is not done, answered as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    error: WireError,
}

impl Refusal {
    const fn new(status: StatusCode, error: WireError) -> Self {
        Self { status, error }
    }

    /// Answers a method that an address does not take. Which it takes is in the header `Allow` (RFC 9110 §15.5.6).
    fn method() -> Self {
        let words = "This address takes other methods; the header Allow names them.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, WireError::new(ErrorCode::UnknownCommand, words))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(&self.error)).into_response();
        let headers = response.headers_mut();
        if let Some(ms) = self.error.retry_after_ms {
            headers.insert(RETRY_AFTER, ms.div_ceil(1_000).max(1).into());
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(upgrade::VERSION));
        }
        response
    }
}
