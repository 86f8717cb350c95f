//! Signing in, looking, signing out.
//!
//! Must not live here: what a name may be ([`crate::people::names`]). Invariant: a token leaves the server once, to the
//! one who opened the session: in a cookie no script can read, or, for a program that sent no Origin, in the answer.
//!
//! `POST {"name"}` opens a session for a new person. Whoever holds a valid session and posts their own name is answered
//! with what they have; with another name they become somebody new, and then the old session ends.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use shared::error::{ErrorCode, WireError};
use shared::ids::UserId;
use shared::model::Person;
use shared::time::Timestamp;

use super::origin::Origin;
use super::{Refusal, refuse_while_stopping};
use crate::accept::{PeerAddress, Unanswered};
use crate::app::App;
use crate::config::ms;
use crate::connection::{Identity, free_name, renew_session};
use crate::log::{Applied, Entry, GENERAL, LogError, Op};
use crate::people::names::{self, Name};
use crate::people::tokens::Token;

/// Largest body of a sign-in.
const BODY_BYTES: usize = 4 * 1024;
/// The cookie's name where the page is served over HTTPS. The prefix binds it to this host (RFC 6265bis §4.1.3.2).
const SECURE_COOKIE: &str = "__Host-holdfast";
/// The cookie's name over plain HTTP: browsers refuse the prefix there.
const PLAIN_COOKIE: &str = "holdfast";
/// How long a browser is asked to keep the cookie, in seconds: as long as one keeps any (RFC 6265bis §5.5). How long the
/// session lasts is known here only, and the socket renews it without the browser's knowing.
const COOKIE_S: u64 = 400 * 24 * 3_600;

#[derive(Deserialize)]
struct SignIn {
    name: String,
}

#[derive(Serialize)]
struct Session {
    user: Option<Person>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// Why a request that changes something was not done.
pub(super) enum Failure {
    /// It was refused, and nothing of it is stored.
    Refused(Refusal),
    /// The log has stopped: whether it is stored is not known, and nothing may be said.
    Unknown,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(refusal) => refusal.into_response(),
            Self::Unknown => Extension(Unanswered).into_response(),
        }
    }
}

/// Returns the token of an Authorization header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<Token> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Token::read(token.trim())).flatten()
}

/// How a token was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Bearer,
    Cookie { is_secure: bool },
}

/// Returns the token a request shows, and how.
///
/// The plain cookie is believed only where a page comes over plain HTTP: over HTTPS it can have been planted by a
/// neighbour under the same domain, or by whoever answers its plain HTTP, for somebody to write under the planter's name.
pub(super) fn proof(app: &App, headers: &HeaderMap) -> Option<(Token, Proof)> {
    if let Some(token) = bearer(headers) {
        return Some((token, Proof::Bearer));
    }
    let is_plain = |origin: &String| origin.starts_with("http://");
    let (secure, plain) = match Origin::of(app, headers) {
        Origin::Allowed(origin) => (!is_plain(&origin), is_plain(&origin)),
        // A page that asks for something of its own names no origin.
        Origin::Missing => (true, app.origins.iter().any(is_plain)),
        Origin::Foreign => (false, false),
    };
    [(secure, SECURE_COOKIE, true), (plain, PLAIN_COOKIE, false)]
        .into_iter()
        .filter(|(is_believed, _, _)| *is_believed)
        .find_map(|(_, name, is_secure)| Some((cookie(headers, name)?, Proof::Cookie { is_secure })))
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<Token> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| Token::read(value))
}

/// Says whose a token is, if its session is valid.
///
/// # Errors
/// If the log cannot be read.
pub(super) async fn identify(app: &App, token: &Token) -> Result<Option<Identity>, Refusal> {
    let hash = token.hash();
    let found = app.log.read(move |reads| reads.session(&hash)).await.map_err(unavailable)?;
    let valid = found.filter(|session| session.expires > app.ambient.wall_clock());
    Ok(valid.map(|session| Identity { user: session.user, token: hash, expires: session.expires }))
}

fn unavailable(error: LogError) -> Refusal {
    let (code, words) = match error {
        LogError::Full => (ErrorCode::StorageFull, "The server's disk is full. Nothing was stored."),
        LogError::Busy | LogError::Stopped => (ErrorCode::Unavailable, "The server cannot do this at the moment."),
    };
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, WireError::new(code, words).retry_after(2_000))
}

/// Checks that a request that changes something was not made by somebody else's page.
fn check_origin(app: &App, headers: &HeaderMap) -> Result<Origin, Refusal> {
    let origin = Origin::of(app, headers);
    let is_fine = match origin {
        Origin::Allowed(_) => true,
        Origin::Missing => !headers.contains_key(COOKIE),
        Origin::Foreign => false,
    };
    if is_fine {
        return Ok(origin);
    }
    let words = "This page may not do that. The server's --allow-origin names those that may.";
    Err(Refusal::new(StatusCode::FORBIDDEN, WireError::new(ErrorCode::BadOrigin, words)))
}

pub(super) async fn show(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let nobody = || Ok(axum::Json(Session { user: None, expires: None, token: None }).into_response());
    let Some((token, proof)) = proof(&app, &headers) else { return nobody() };
    let Some(identity) = identify(&app, &token).await? else { return nobody() };
    let user = identity.user;
    let Some(person) = app.log.read(move |reads| reads.user(user)).await.map_err(unavailable)? else { return nobody() };
    // Use keeps a session alive. If it cannot be renewed now, it can be later.
    let expires = renew_session(&app, user, identity.token).await.ok().flatten().unwrap_or(identity.expires);
    let session = Session { user: Some(person), expires: Some(expires), token: None };
    let mut response = axum::Json(session).into_response();
    date_cookie(&mut response, &token, proof);
    Ok(response)
}

/// Has the browser keep the cookie from now on, where the session was shown by one.
pub(super) fn date_cookie(response: &mut Response, token: &Token, proof: Proof) {
    if let Proof::Cookie { is_secure } = proof {
        set_cookie(response, is_secure, Some(token));
    }
}

pub(super) async fn open(
    State(app): State<Arc<App>>,
    Extension(address): Extension<PeerAddress>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    refuse_while_stopping(&app)?;
    sign_in(&app, address, &headers, body).await
}

async fn sign_in(app: &App, address: PeerAddress, headers: &HeaderMap, body: Body) -> Result<Response, Failure> {
    let origin = check_origin(app, headers)?;
    if app.addresses.is_signing_in_too_often(address.0, app.ambient.now()) {
        let error = WireError::new(ErrorCode::RateLimited, "Too many new sessions from your address. Wait a little.");
        return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, error.retry_after(10_000)).into());
    }
    let asked = read_body(app, body).await?;
    let name = names::person(&asked.name).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error))?;
    let other = match current(app, headers, &name).await? {
        Current::Same(answer) => return Ok(answer),
        Current::Other(identity) => Some(identity),
        Current::Nobody => None,
    };
    let token = Token::mint(&*app.ambient);
    let expires = app.ambient.wall_clock().plus(app.config.timing.session_ms);
    let person = enter(app, &name, &token, expires).await?;
    tracing::info!(user = %person.id, "somebody signed in");
    if let Some(Identity { user, token, .. }) = other
        && propose(app, user, [Op::SessionRevoke { token_hash: token }]).await.is_err()
    {
        // Who they are now is stored; without its token they could never show it.
        tracing::warn!(%user, "the session before could not be ended");
    }
    let mut session = Session { user: Some(person), expires: Some(expires), token: None };
    let is_browser = match &origin {
        Origin::Allowed(_) | Origin::Foreign => true,
        Origin::Missing => {
            session.token = Some(token.reveal().to_owned());
            false
        }
    };
    let mut response = (StatusCode::CREATED, axum::Json(session)).into_response();
    if is_browser {
        let is_secure = matches!(&origin, Origin::Allowed(origin) if origin.starts_with("https://"));
        set_cookie(&mut response, is_secure, Some(&token));
    }
    Ok(response)
}

async fn read_body(app: &App, body: Body) -> Result<SignIn, Refusal> {
    let bad = |status, words: &str| Refusal::new(status, WireError::new(ErrorCode::BadMessage, words));
    let reading = axum::body::to_bytes(body, BODY_BYTES);
    let body = match tokio::time::timeout(ms(app.config.timing.body_read_timeout_ms), reading).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return Err(bad(StatusCode::PAYLOAD_TOO_LARGE, "A sign-in takes at most 4 KiB.")),
        Err(_) => return Err(bad(StatusCode::REQUEST_TIMEOUT, "The body did not come in time.")),
    };
    serde_json::from_slice(&body).map_err(|_| bad(StatusCode::BAD_REQUEST, "A sign-in is {\"name\":\"…\"}."))
}

/// Who asks to sign in.
enum Current {
    /// Nobody yet.
    Nobody,
    /// Somebody of the name they ask for: the answer is the session there is.
    Same(Response),
    /// Somebody of another name, whose session ends once they are somebody new, and not if they are refused: who was
    /// under it can never come back.
    Other(Identity),
}

async fn current(app: &App, headers: &HeaderMap, name: &Name) -> Result<Current, Refusal> {
    let Some((token, _)) = proof(app, headers) else { return Ok(Current::Nobody) };
    let Some(identity) = identify(app, &token).await? else { return Ok(Current::Nobody) };
    let user = identity.user;
    let person = app.log.read(move |reads| reads.user(user)).await.map_err(unavailable)?;
    if let Some(person) = person.filter(|person| names::skeleton(&person.name) == name.skeleton) {
        let session = Session { user: Some(person), expires: Some(identity.expires), token: None };
        return Ok(Current::Same(axum::Json(session).into_response()));
    }
    Ok(Current::Other(identity))
}

/// Makes a person, a session and a membership of the room everybody is in, all at once.
async fn enter(app: &App, name: &Name, token: &Token, expires: Timestamp) -> Result<Person, Failure> {
    if let Err(error) = name.must_not_be_the_servers() {
        return Err(name_taken(app, name, error).await?.into());
    }
    let user = app.ambient.mint_user();
    let (shown, skeleton) = (name.shown.clone(), name.skeleton.clone());
    let ops = [
        Op::UserSet { user, name: shown.clone(), skeleton },
        Op::SessionOpen { token_hash: token.hash(), expires },
        Op::Join { room: GENERAL },
    ];
    for applied in propose(app, user, ops).await? {
        match applied {
            Applied::Committed(_) | Applied::Duplicate(_) => {}
            // Nobody by this id exists then, so what came after it was refused too.
            Applied::Refused(error) if error.code == ErrorCode::NameTaken => {
                return Err(name_taken(app, name, error).await?.into());
            }
            Applied::Refused(error) => {
                tracing::error!(%error, "a new person could not be let in");
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).into());
            }
        }
    }
    Ok(Person { id: user, name: shown })
}

/// Refuses a name that is taken, with one that is free.
async fn name_taken(app: &App, name: &Name, error: WireError) -> Result<Refusal, Refusal> {
    let (shown, ambient) = (name.shown.clone(), Arc::clone(&app.ambient));
    let free = app.log.read(move |reads| free_name(reads, &shown, &*ambient)).await.map_err(unavailable)?;
    let error = match free {
        Some(free) => error.suggest(free),
        None => error,
    };
    Ok(Refusal::new(StatusCode::CONFLICT, error))
}

/// Proposes several requests of one person at once.
async fn propose(app: &App, by: UserId, ops: impl IntoIterator<Item = Op>) -> Result<Vec<Applied>, Failure> {
    let ts = app.ambient.wall_clock();
    let entries = ops.into_iter().map(|op| Entry { ts, by, key: app.ambient.mint_key(), op }).collect();
    app.log.propose_all(entries).await.map_err(|error| match error {
        LogError::Stopped => Failure::Unknown,
        LogError::Full | LogError::Busy => unavailable(error).into(),
    })
}

pub(super) async fn end(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Failure> {
    refuse_while_stopping(&app)?;
    check_origin(&app, &headers)?;
    if let Some((token, _)) = proof(&app, &headers)
        && let Some(identity) = identify(&app, &token).await?
    {
        propose(&app, identity.user, [Op::SessionRevoke { token_hash: identity.token }]).await?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    for is_secure in [true, false] {
        set_cookie(&mut response, is_secure, None);
    }
    Ok(response)
}

/// Sets or clears the cookie.
fn set_cookie(response: &mut Response, is_secure: bool, token: Option<&Token>) {
    let (name, secure) = if is_secure { (SECURE_COOKIE, "; Secure") } else { (PLAIN_COOKIE, "") };
    let (value, age_s) = token.map_or(("", 0), |token| (token.reveal(), COOKIE_S));
    let cookie = format!("{name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}");
    // Our own tokens are letters, digits, hyphens and underscores.
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}
