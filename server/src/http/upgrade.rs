//! The opening handshake of the socket (RFC 6455 §4.2).
//!
//! Must not live here: frames. Invariant: nobody is upgraded from a foreign page, and a socket is authenticated before it
//! exists; a browser that is not signed in is upgraded only to be told so.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::close;
use shared::error::{ErrorCode, WireError};

use super::origin::Origin;
use super::{refuse, session};
use crate::accept::{Handover, HandoverSlot, PeerAddress};
use crate::app::App;
use crate::drain::Phase;
use crate::ws::accept::accept_key;

/// The version of RFC 6455.
const VERSION: &str = "13";

pub(super) async fn upgrade(State(app): State<Arc<App>>, request: Request) -> Response {
    let address = request.extensions().get::<PeerAddress>().copied();
    let now = Instant::now();
    if address.is_some_and(|address| app.addresses.is_failing(address.0, now)) {
        let error = WireError::new(ErrorCode::RateLimited, "Too many failed attempts to connect from your address.");
        return refuse(StatusCode::TOO_MANY_REQUESTS, &error.retry_after(10_000));
    }
    match judge(&app, request).await {
        Ok(response) => response,
        Err(response) => {
            if let Some(address) = address
                && response.status().is_client_error()
            {
                app.addresses.failed(address.0, now);
            }
            response
        }
    }
}

async fn judge(app: &Arc<App>, mut request: Request<Body>) -> Result<Response, Response> {
    let accept = handshake(request.headers())?;
    if app.drain.phase() != Phase::Serving {
        let error = WireError::new(ErrorCode::Unavailable, "The server is restarting.").retry_after(1_000);
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, &error));
    }
    let origin = Origin::of(app, request.headers());
    let forbidden = |words: &str| Err(refuse(StatusCode::FORBIDDEN, &WireError::new(ErrorCode::BadOrigin, words)));
    let proof = match origin {
        Origin::Foreign => {
            tracing::warn!(origin = ?request.headers().get("origin"), "an upgrade from a foreign page was refused");
            return forbidden("This page may not connect. The server's --allow-origin names those that may.");
        }
        // Without an Origin only a token counts: a cookie could be sent by anything.
        Origin::Missing => session::bearer(request.headers()),
        Origin::Allowed(_) => session::shown(request.headers()),
    };
    let identity = match proof {
        Some(token) => {
            session::identify(app, &token).await.map_err(|error| refuse(StatusCode::SERVICE_UNAVAILABLE, &error))?
        }
        None if origin == Origin::Missing && !request.headers().contains_key(AUTHORIZATION) => {
            return forbidden("Without an Origin a socket needs an Authorization header.");
        }
        None => None,
    };
    let identity = match (identity, origin) {
        (Some(identity), _) => Ok(identity),
        // A browser cannot see an HTTP status of an upgrade; it is told in-band and closed.
        (None, Origin::Allowed(_)) => Err(close::SESSION_EXPIRED),
        (None, Origin::Missing | Origin::Foreign) => {
            let error = WireError::new(ErrorCode::SignedOut, "This token is not, or no longer, valid. Sign in again.");
            return Err(refuse(StatusCode::UNAUTHORIZED, &error));
        }
    };
    let Some(slot) = request.extensions().get::<HandoverSlot>().cloned() else {
        return Err(StatusCode::INTERNAL_SERVER_ERROR.into_response());
    };
    slot.put(Handover { upgrade: hyper::upgrade::on(&mut request), identity });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// Checks the handshake's own headers (RFC 6455 §4.2.1) and computes the answer to its key.
fn handshake(headers: &HeaderMap) -> Result<HeaderValue, Response> {
    let bad = |words: &str| refuse(StatusCode::BAD_REQUEST, &WireError::new(ErrorCode::BadMessage, words));
    if !has_token(headers, &UPGRADE, "websocket") || !has_token(headers, &CONNECTION, "upgrade") {
        let mut response = refuse(
            StatusCode::UPGRADE_REQUIRED,
            &WireError::new(ErrorCode::BadMessage, "Only WebSocket is spoken here."),
        );
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return Err(response);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes() != VERSION.as_bytes()) {
        let mut response =
            refuse(StatusCode::UPGRADE_REQUIRED, &WireError::new(ErrorCode::BadMessage, "Version 13 is spoken here."));
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        return Err(response);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()).and_then(accept_key);
    key.and_then(|accept| HeaderValue::from_str(&accept).ok()).ok_or_else(|| bad("Sec-WebSocket-Key is not a key."))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}
