//! The page: from inside the program, from a folder, or one that says how to build it.
//!
//! Must not live here: building or compressing. Invariant: only names that are listed (inside) or plain (folder) are
//! served, so that no path leads out of the folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::Refusal;
use crate::app::App;

/// A file that was put into the program when it was built.
pub(crate) struct EmbeddedFile {
    pub(crate) path: &'static str,
    pub(crate) identity: &'static [u8],
    pub(crate) brotli: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

const INDEX: &str = "index.html";
/// A file's name holds its hash, so what is behind it never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";
/// Digits of the hash in a file's name; some tools leave its leading zeros out.
const HASH_DIGITS: std::ops::RangeInclusive<usize> = 8..=16;

const NOT_BUILT: &str = include_str!("not_built.html");

/// The page and the policy it runs under.
pub struct Assets {
    source: Source,
}

enum Source {
    /// Inside the program.
    Embedded { files: HashMap<&'static str, &'static EmbeddedFile>, policy: HeaderValue },
    /// In a folder, which may be built anew at any time.
    Folder(PathBuf),
    /// Nowhere.
    Missing,
}

impl Assets {
    /// Finds the page: in the folder that was named, inside the program, or in `./dist`.
    #[must_use]
    pub fn find(named: Option<&Path>) -> Self {
        let embedded = || -> HashMap<_, _> { EMBEDDED.iter().map(|file| (file.path, file)).collect() };
        let default = Path::new("dist");
        let source = match named {
            Some(folder) => Source::Folder(folder.to_owned()),
            None if !EMBEDDED.is_empty() => {
                let files = embedded();
                let index = files.get(INDEX).map_or(&[][..], |file| file.identity);
                let policy = policy(&String::from_utf8_lossy(index));
                Source::Embedded { files, policy }
            }
            None if default.join(INDEX).is_file() => Source::Folder(default.to_owned()),
            None => Source::Missing,
        };
        Self { source }
    }

    /// No page at all, for servers that nobody opens in a browser.
    #[must_use]
    pub const fn none() -> Self {
        Self { source: Source::Missing }
    }

    /// Says where the page is, for logs.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.source {
            Source::Embedded { .. } => "the page inside the program".to_owned(),
            Source::Folder(folder) if folder.join("index.html").is_file() => {
                format!("the page in {}", folder.display())
            }
            Source::Folder(folder) => format!("no page (there is no index.html in {} yet)", folder.display()),
            Source::Missing => "no page (cargo xtask page builds it)".to_owned(),
        }
    }

    /// Returns the policy of everything that is not the page itself.
    pub(super) fn policy(&self) -> HeaderValue {
        match &self.source {
            Source::Embedded { policy, .. } => policy.clone(),
            Source::Folder(_) | Source::Missing => policy(""),
        }
    }
}

/// Writes the Content-Security-Policy of a page (CSP level 3): its own files, and the inline scripts it came with.
fn policy(page: &str) -> HeaderValue {
    let hashes: String = inline_scripts(page)
        .map(|script| format!(" 'sha256-{}'", STANDARD.encode(Sha256::digest(script.as_bytes()))))
        .collect();
    let policy = format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'{hashes}; style-src 'self'; img-src 'self' blob:; \
         font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'; report-uri /api/csp-report"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// Finds the scripts written into a page. Our own pages are plain enough for this.
fn inline_scripts(page: &str) -> impl Iterator<Item = &str> {
    page.split("<script").skip(1).filter_map(|rest| {
        let (attributes, rest) = rest.split_once('>')?;
        let (script, _) = rest.split_once("</script>")?;
        (!attributes.contains("src=") && !script.is_empty()).then_some(script)
    })
}

/// Serves the page and its files. Every path without a dot in its last part is the page's own business.
pub(super) async fn serve(State(app): State<Arc<App>>, request: Request) -> Response {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return ([(ALLOW, "GET, HEAD")], Refusal::method()).into_response();
    }
    let path = request.uri().path().trim_start_matches('/');
    let is_page = !path.rsplit('/').next().is_some_and(|last| last.contains('.')) || path == INDEX;
    let name = match path {
        _ if is_page => INDEX,
        "favicon.ico" => return favicon(&app).await,
        other => other,
    };
    let takes_brotli = takes_brotli(request.headers());
    match &app.assets.source {
        Source::Embedded { files, .. } => match files.get(name) {
            Some(file) => match file.brotli {
                Some(brotli) if takes_brotli => answer(name, brotli.into(), true),
                Some(_) | None => answer(name, file.identity.into(), false),
            },
            None => not_found(),
        },
        Source::Folder(folder) => match read(folder, name, takes_brotli).await {
            Some((bytes, is_brotli)) => {
                let policy = (name == INDEX && !is_brotli).then(|| policy(&String::from_utf8_lossy(&bytes)));
                let mut response = answer(name, bytes.into(), is_brotli);
                if let Some(policy) = policy {
                    response.headers_mut().insert(axum::http::header::CONTENT_SECURITY_POLICY, policy);
                }
                response
            }
            None if name == INDEX => not_built(),
            None => not_found(),
        },
        Source::Missing if name == INDEX => not_built(),
        Source::Missing => not_found(),
    }
}

/// Browsers ask for this by themselves, and log an error where there is none.
async fn favicon(app: &App) -> Response {
    let icon = |name: &str| name.starts_with("icon") && name.ends_with(".svg");
    match &app.assets.source {
        Source::Embedded { files, .. } => {
            let found = files.iter().find(|(name, _)| icon(name));
            found.map_or_else(no_icon, |(name, file)| answer(name, file.identity.into(), false))
        }
        Source::Folder(_) | Source::Missing => no_icon(),
    }
}

fn no_icon() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "There is no such file.\n").into_response()
}

fn not_built() -> Response {
    (StatusCode::OK, [(CONTENT_TYPE, "text/html; charset=utf-8"), (CACHE_CONTROL, ASK_AGAIN)], NOT_BUILT)
        .into_response()
}

/// Tells whether a name stays within the folder, whatever the file system makes of it.
fn is_plain(name: &str) -> bool {
    name.split('/').all(|part| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    })
}

async fn read(folder: &Path, name: &str, takes_brotli: bool) -> Option<(Vec<u8>, bool)> {
    if !is_plain(name) || name.ends_with(".br") {
        return None;
    }
    let path = folder.join(name);
    let read = tokio::task::spawn_blocking(move || {
        let mut compressed = path.clone().into_os_string();
        compressed.push(".br");
        // The page itself is read as it is, so that its policy can be made of it.
        if takes_brotli
            && !path.ends_with(INDEX)
            && let Ok(bytes) = std::fs::read(compressed)
        {
            return Some((bytes, true));
        }
        std::fs::read(path).ok().map(|bytes| (bytes, false))
    });
    read.await.ok().flatten()
}

fn answer(name: &str, bytes: std::borrow::Cow<'static, [u8]>, is_brotli: bool) -> Response {
    let body = match bytes {
        std::borrow::Cow::Borrowed(bytes) => bytes::Bytes::from_static(bytes),
        std::borrow::Cow::Owned(bytes) => bytes::Bytes::from(bytes),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(if is_hashed(name) { FOR_EVER } else { ASK_AGAIN }));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if is_brotli {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("br"));
    }
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        _unknown => "application/octet-stream",
    }
}

/// Tells whether a file's name holds its hash: a hyphen and its hexadecimal digits.
fn is_hashed(name: &str) -> bool {
    let stem = name.rsplit('/').next().unwrap_or(name);
    stem.split('-').skip(1).any(|part| {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        HASH_DIGITS.contains(&digits) && matches!(part.as_bytes().get(digits), Some(b'.' | b'_'))
    })
}

fn takes_brotli(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            parts.next() == Some("br") && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_hash_are_kept_for_ever() {
        for name in
            ["web-client-0123456789abcdef.js", "web-client-0123456789abcdef_bg.wasm", "holdfast-0123456789abcdef.css"]
        {
            assert!(is_hashed(name), "{name}");
        }
        for name in ["index.html", "icon.svg", "web-client.js", "a-0123.js", "snippets/x-1/inline0.js"] {
            assert!(!is_hashed(name), "{name}");
        }
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for name in [
            "../secret.txt",
            "a/../../b.js",
            ".git/config.x",
            "a//b.js",
            "/etc/passwd.x",
            "a\\b.js",
            "%2e%2e/x.js",
            "a/./b.js",
        ] {
            assert!(!is_plain(name), "{name}");
        }
        assert!(is_plain("snippets/web-client-1/inline0.js"));
    }

    #[test]
    fn every_inline_script_is_allowed_by_its_hash_and_no_other() {
        let page = "<script type=\"module\" src=\"/a.js\"></script><script>start()</script>";
        assert_eq!(inline_scripts(page).collect::<Vec<_>>(), ["start()"]);
        let written = policy(page);
        let written = written.to_str().unwrap();
        assert_eq!(written.matches("sha256-").count(), 1);
        assert!(written.contains("style-src 'self';") && !written.contains("unsafe-inline"));
    }

    #[test]
    fn brotli_is_sent_to_those_who_take_it() {
        let takes = |value: &'static str| {
            takes_brotli(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(takes("gzip, br") && takes("br;q=0.5") && !takes("gzip") && !takes("br;q=0") && !takes("brr"));
    }
}
