//! Requests to the server's HTTP side: sign-in and sign-out, cookies and tokens, upgrades, health, the page.
//!
//! Must not live here: reading the request's own text, which is hyper's. Invariant checked: every request is answered,
//! no answer is the server's fault, each carries the headers that every answer must, a foreign page changes nothing,
//! a refusal is JSON that says why, and nobody but our own proxies is believed about where a request came from.

use std::net::{IpAddr, Ipv4Addr};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, SET_COOKIE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use clap::Parser as _;
use http_body_util::BodyExt as _;
use server::accept::{PeerAddress, client_address};
use server::config::Config;
use server::{Server, Storage, http};
use shared::error::WireError;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::runtime::block_on;
use crate::source::Source;

const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");
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
            let request = request(&mut source, shown.as_ref());
            came_from(request.headers());
            shown = exchange(&router, request).await.or(shown);
        }
    });
}

/// A request, whatever the bytes: what hyper would not let through is made into what it does. `shown` is a cookie of an
/// earlier answer.
fn request(source: &mut Source<'_>, shown: Option<&HeaderValue>) -> Request {
    let mut builder = Request::builder().method(source.pick(&METHODS).clone());
    builder = match source.byte() {
        255 => builder.uri(uri(source.bytes(60))),
        known => builder.uri(PATHS[usize::from(known) % PATHS.len()]),
    };
    for _ in 0..source.below(6) {
        let name = HeaderName::from_static(HEADERS[source.below(HEADERS.len())]);
        let value = match source.byte() {
            tag @ 200.. if let Some(cookie) = shown => {
                let cookie = cookie.to_str().expect("our own cookie is ASCII").split(';').next().unwrap_or_default();
                HeaderValue::from_str(&match tag {
                    200..=229 => cookie.to_owned(),
                    _as_a_token => format!("Bearer {}", cookie.split_once('=').expect("a cookie has a value").1),
                })
            }
            tag @ 100.. => HeaderValue::from_str(VALUES[usize::from(tag) % VALUES.len()]),
            _own => HeaderValue::from_bytes(&source.bytes(80).iter().map(|byte| passable(*byte)).collect::<Vec<_>>()),
        };
        builder = builder.header(name, value.expect("a value that may be sent"));
    }
    let body = match source.byte() {
        255 => vec![b' '; 5_000],
        tag @ 128.. => format!("{{\"name\":{}}}", serde_json::json!(format!("Ann {tag}"))).into_bytes(),
        _own => source.bytes(200).to_vec(),
    };
    let mut request = builder.body(Body::from(body)).expect("a request that may be sent");
    request.extensions_mut().insert(PeerAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    request
}

/// A byte as it may stand in a header.
const fn passable(byte: u8) -> u8 {
    match byte {
        b'\t' | 0x20..=0x7e | 0x80.. => byte,
        0x7f => b'~',
        control => control | 0x20,
    }
}

/// An address as it is typed, or the path whose bytes these are.
fn uri(bytes: &[u8]) -> Uri {
    let typed = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    let encoded = || bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
    typed.unwrap_or_else(|| format!("/{}", encoded()).parse().expect("a path of escapes is one"))
}

/// What is said of where a request came from: believed of our own proxies only, and only as far as they wrote it.
fn came_from(headers: &HeaderMap) {
    const OUR_PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
    const FORGED: &[u8] = b"198.51.100.9, \xff";
    let config = Config::try_parse_from(["server", "--trusted-proxy", "10.0.0.0/8,2001:db8::/32"]);
    let proxies = config.expect("this configuration is fine").trusted_proxy;
    let found = |socket, lines: &HeaderMap| client_address(&proxies, socket, lines);
    assert_eq!(found(STRANGER, headers), STRANGER, "a stranger was believed");
    let client = found(OUR_PROXY, headers);
    assert!(client == OUR_PROXY || !proxies.iter().any(|network| network.contains(&client)), "{client} is a proxy");
    let forged = || HeaderValue::from_bytes(FORGED).expect("a value that may be sent");
    let (mut before, mut after) = (HeaderMap::new(), headers.clone());
    before.append(FORWARDED, forged());
    before.extend(headers.get_all(FORWARDED).iter().map(|line| (FORWARDED, line.clone())));
    after.append(FORWARDED, forged());
    assert_eq!(found(OUR_PROXY, &before), client, "what a client wrote itself changed who it is");
    assert_eq!(found(OUR_PROXY, &after), OUR_PROXY, "a line that cannot be read was passed over");
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
