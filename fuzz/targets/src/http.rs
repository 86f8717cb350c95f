//! Requests to the server's HTTP side: sign-in and sign-out, cookies and tokens, upgrades, health, the page.
//!
//! Must not live here: reading the request's own text, which is hyper's. Invariant checked: every request is answered,
//! no answer is the server's fault, each carries the headers that every answer must, a foreign page changes nothing
//! and a refusal is JSON that says why.

use std::net::{IpAddr, Ipv4Addr};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, SET_COOKIE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Method, Response, StatusCode};
use clap::Parser as _;
use http_body_util::BodyExt as _;
use server::accept::PeerAddress;
use server::config::Config;
use server::{Server, Storage, http};
use shared::error::WireError;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::runtime::block_on;
use crate::source::Source;

const OURS: &str = "https://chat.example.org";
const PATHS: [&str; 11] = [
    "/api/session",
    "/api/session",
    "/api/session",
    "/ws",
    "/ws",
    "/api/info",
    "/api/csp-report",
    "/api/other",
    "/healthz",
    "/readyz",
    "/",
];
const METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::DELETE, Method::POST, Method::HEAD, Method::PUT, Method::OPTIONS];
const HEADERS: [&str; 14] = [
    "origin",
    "cookie",
    "authorization",
    "content-type",
    "upgrade",
    "connection",
    "sec-websocket-key",
    "sec-websocket-version",
    "x-forwarded-for",
    "accept-encoding",
    "if-none-match",
    "range",
    "content-length",
    "accept",
];
const VALUES: [&str; 12] = [
    OURS,
    "null",
    "websocket",
    "keep-alive, Upgrade",
    "dGhlIHNhbXBsZSBub25jZQ==",
    "13",
    "application/json",
    "gzip, br;q=0.5",
    "203.0.113.9, 10.0.0.1",
    "__Host-holdfast=x; holdfast=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "Bearer AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "bytes=0-",
];
const REQUESTS: usize = 4;
/// More than any answer is.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

pub(crate) fn run(bytes: &[u8]) {
    block_on(async {
        let config = ["server", "--allow-origin", OURS, "--sign-ins", "1000000", "--failed-handshakes", "1000000"];
        let config = Config::try_parse_from(config).expect("this configuration is fine");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback is there");
        let server = Server::open(listener, config, Storage::Memory).await.expect("a log in memory opens");
        let router = http::router(server.app().clone());
        let mut source = Source::new(bytes);
        let mut shown = None;
        for _ in 0..REQUESTS {
            if source.is_empty() {
                break;
            }
            let Some(request) = request(&mut source, shown.as_ref()) else { continue };
            shown = exchange(&router, request).await.or(shown);
        }
    });
}

/// A request; one that can be written at all. `shown` is a cookie of an earlier answer.
fn request(source: &mut Source<'_>, shown: Option<&HeaderValue>) -> Option<Request> {
    let mut builder = Request::builder().method(source.pick(&METHODS).clone());
    builder = match source.byte() {
        255 => builder.uri(source.text(60)),
        known => builder.uri(PATHS[usize::from(known) % PATHS.len()]),
    };
    for _ in 0..source.below(6) {
        let name = HeaderName::from_static(HEADERS[source.below(HEADERS.len())]);
        let value = match source.byte() {
            tag @ 200.. if let Some(cookie) = shown => {
                let cookie = cookie.to_str().ok()?.split(';').next()?;
                HeaderValue::from_str(&match tag {
                    200..=229 => cookie.to_owned(),
                    _as_a_token => format!("Bearer {}", cookie.split_once('=')?.1),
                })
            }
            tag @ 100.. => HeaderValue::from_str(VALUES[usize::from(tag) % VALUES.len()]),
            _own => HeaderValue::from_bytes(source.bytes(80)),
        };
        builder = builder.header(name, value.ok()?);
    }
    let body = match source.byte() {
        255 => vec![b' '; 5_000],
        tag @ 128.. => format!("{{\"name\":{}}}", serde_json::json!(format!("Ann {tag}"))).into_bytes(),
        _own => source.bytes(200).to_vec(),
    };
    let mut request = builder.body(Body::from(body)).ok()?;
    request.extensions_mut().insert(PeerAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    Some(request)
}

/// Asks, judges the answer, and returns the cookie it sets.
async fn exchange(router: &Router, request: Request) -> Option<HeaderValue> {
    let origins: Vec<_> = request.headers().get_all(ORIGIN).iter().cloned().collect();
    let is_foreign = !origins.is_empty() && !matches!(&origins[..], [origin] if origin == OURS);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = router.clone().oneshot(request).await.expect("the router never fails");
    let asked = format!("{method} {path}");
    let changes = path == "/api/session" && (method == Method::POST || method == Method::DELETE);
    if is_foreign && (changes || (path == "/ws" && response.status() == StatusCode::SWITCHING_PROTOCOLS)) {
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{asked} from {origins:?}");
        assert!(!response.headers().contains_key(SET_COOKIE));
    }
    judge(&asked, response).await
}

async fn judge(asked: &str, response: Response<Body>) -> Option<HeaderValue> {
    let (head, body) = response.into_parts();
    // An upgrade outside a real socket cannot be handed over, and says so.
    let is_upgrade = asked.ends_with("/ws");
    assert!(!head.status.is_server_error() || is_upgrade, "{asked}: {}", head.status);
    assert_eq!(head.headers.get(X_CONTENT_TYPE_OPTIONS).map(HeaderValue::as_bytes), Some(&b"nosniff"[..]), "{asked}");
    let body = body.collect().await.expect("our own bodies come whole").to_bytes();
    assert!(body.len() < ANSWER_BYTES, "{asked}: {} bytes", body.len());
    let is_json = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if is_json && !body.is_empty() {
        serde_json::from_slice::<serde_json::Value>(&body).expect("what is said to be JSON is JSON");
        if head.status.is_client_error() {
            serde_json::from_slice::<WireError>(&body).expect("a refusal is an error of the wire");
        }
    }
    head.headers.get(SET_COOKIE).cloned()
}
