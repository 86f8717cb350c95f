//! The headers every answer carries, and the reports of pages that broke them.
//!
//! Must not live here: routes. Invariant: no answer leaves without them, refusals included.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::middleware::Next;
use axum::response::Response;

use crate::app::App;
use crate::config::ms;

/// Largest report that is read.
const REPORT_BYTES: usize = 8 * 1024;
/// Reports written to the log; the rest is only counted.
const REPORTS_LOGGED: u64 = 100;

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

pub(super) async fn headers(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(PERMISSIONS_POLICY, HeaderValue::from_static("camera=(), geolocation=(), microphone=()"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert_with(|| app.assets.policy());
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Counts a report and logs the first ones. What they say was written by a browser at a page's request: it is cut,
/// and its control characters are escaped by the log.
pub(super) async fn csp_report(State(app): State<Arc<App>>, body: Body) -> StatusCode {
    let reading = axum::body::to_bytes(body, REPORT_BYTES);
    let report = match tokio::time::timeout(ms(app.config.timing.body_read_timeout_ms), reading).await {
        Ok(Ok(report)) => report,
        Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE,
        Err(_) => return StatusCode::REQUEST_TIMEOUT,
    };
    if app.csp_reports.fetch_add(1, Ordering::Relaxed) < REPORTS_LOGGED {
        let found = serde_json::from_slice::<serde_json::Value>(&report).unwrap_or_default();
        let field = |name: &str| {
            found["csp-report"][name].as_str().map(|text| text[..text.floor_char_boundary(200)].to_owned())
        };
        tracing::warn!(
            directive = field("effective-directive").or_else(|| field("violated-directive")),
            blocked = field("blocked-uri"),
            source = field("source-file"),
            "a page broke its Content-Security-Policy"
        );
    }
    StatusCode::NO_CONTENT
}
