//! The opening handshake of the socket (RFC 6455 §4.2).
//!
//! Must not live here: frames. Invariant: nobody is upgraded from a foreign page, and a socket is authenticated before it
//! exists; a browser that is not signed in is upgraded only to be told so.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use shared::close;
use shared::error::{ErrorCode, WireError};

use super::origin::Origin;
use super::{Refusal, refuse_while_stopping, session};
use crate::accept::{Handover, HandoverSlot, PeerAddress};
use crate::app::App;
use crate::connection::Identity;
use crate::ws::accept::accept_key;

/// The version of RFC 6455.
pub(super) const VERSION: &str = "13";

pub(super) async fn upgrade(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let address = request.extensions().get::<PeerAddress>().copied();
    let origin = request.headers().get(ORIGIN).cloned();
    let (refusal, address) = match (judge(&app, request).await, address) {
        (Err(refusal), Some(address)) if refusal.status.is_client_error() => (refusal, address.0),
        (judged, _) => return judged,
    };
    // Only now: an address is many people's, and a page from anywhere makes the browser of one of them fail as often as it
    // likes. Whoever may come in does.
    let now = app.ambient.now();
    if app.addresses.is_failing(address, now) {
        let error = WireError::new(ErrorCode::RateLimited, "Too many failed attempts to connect from your address.");
        return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, error.retry_after(10_000)));
    }
    app.addresses.failed(address, now);
    if refusal.status == StatusCode::FORBIDDEN && origin.is_some() {
        tracing::warn!(?origin, "an upgrade from a foreign page was refused");
    }
    Err(refusal)
}

async fn judge(app: &Arc<App>, mut request: Request<Body>) -> Result<Response, Refusal> {
    let accept = handshake(&request)?;
    refuse_while_stopping(app)?;
    let identity = identify(app, request.headers()).await?;
    // Whoever stays renews the session over the socket, and their page may never ask for anything else.
    let shown = identity.as_ref().ok().and_then(|_| session::proof(app, request.headers()));
    let Some(slot) = request.extensions().get::<HandoverSlot>().cloned() else {
        let error = WireError::new(ErrorCode::Internal, "This socket cannot be upgraded.");
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error));
    };
    slot.put(Handover { upgrade: hyper::upgrade::on(&mut request), identity });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some((token, proof)) = shown {
        session::date_cookie(&mut response, &token, proof);
    }
    Ok(response)
}

/// Says whose the socket is, or with which code a page is closed that is not signed in: a browser cannot see the HTTP
/// status of an upgrade, so it is told in-band.
async fn identify(app: &App, headers: &HeaderMap) -> Result<Result<Identity, u16>, Refusal> {
    let forbidden = |words: &str| Refusal::new(StatusCode::FORBIDDEN, WireError::new(ErrorCode::BadOrigin, words));
    match Origin::of(app, headers) {
        Origin::Foreign => {
            Err(forbidden("This page may not connect. The server's --allow-origin names those that may."))
        }
        Origin::Allowed(_) => match session::proof(app, headers) {
            Some((token, _)) => Ok(session::identify(app, &token).await?.ok_or(close::SESSION_EXPIRED)),
            None => Ok(Err(close::SESSION_EXPIRED)),
        },
        // Without an Origin only a token counts: a cookie could be sent by anything.
        Origin::Missing if !headers.contains_key(AUTHORIZATION) => {
            Err(forbidden("Without an Origin a socket needs an Authorization header."))
        }
        Origin::Missing => {
            let found = match session::bearer(headers) {
                Some(token) => session::identify(app, &token).await?,
                None => None,
            };
            let error = WireError::new(ErrorCode::SignedOut, "This token is not, or no longer, valid. Sign in again.");
            found.map(Ok).ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, error))
        }
    }
}

/// Checks the handshake itself (RFC 6455 §4.2.1) and computes the answer to its key.
fn handshake(request: &Request<Body>) -> Result<HeaderValue, Refusal> {
    let refuse = |status, words: &str| Refusal::new(status, WireError::new(ErrorCode::BadMessage, words));
    // The router takes a HEAD for a GET.
    if request.method() != Method::GET || request.version() < Version::HTTP_11 {
        return Err(refuse(StatusCode::BAD_REQUEST, "A WebSocket begins with a GET of HTTP/1.1."));
    }
    let headers = request.headers();
    if !headers.contains_key(HOST) {
        return Err(refuse(StatusCode::BAD_REQUEST, "The Host header is missing."));
    }
    if !has_token(headers, &UPGRADE, "websocket") || !has_token(headers, &CONNECTION, "upgrade") {
        return Err(refuse(StatusCode::UPGRADE_REQUIRED, "Only WebSocket is spoken here."));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes() != VERSION.as_bytes()) {
        return Err(refuse(StatusCode::UPGRADE_REQUIRED, "Version 13 is spoken here."));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()).and_then(accept_key);
    key.and_then(|accept| HeaderValue::from_str(&accept).ok())
        .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is not a key."))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}
