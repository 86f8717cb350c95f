//! Signing in and out over HTTP: `POST` and `DELETE /api/session`.
//!
//! Must not live here: where the token is kept. Invariant: one call is one request; whether to try again is the
//! caller's to decide, by [`SignInError`].

use std::time::Duration;

use serde::Deserialize;
use shared::error::WireError;
use shared::model::Person;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::account::Account;
use super::server_url::ServerUrl;

/// A whole request, name look-up included.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES: u64 = 64 * 1024;

/// Why nobody is signed in.
#[derive(Debug)]
pub(crate) enum SignInError {
    /// The server says no.
    Refused(WireError),
    /// The server cannot be reached, or cannot do it at the moment.
    Unreachable(String),
    /// What answers there is not a Holdfast server, or one that speaks another version.
    Strange(String),
}

impl std::fmt::Display for SignInError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "{}", error.message),
            Self::Unreachable(why) | Self::Strange(why) => f.write_str(why),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    user: Person,
    token: Option<String>,
}

/// Opens a session under a name.
///
/// # Errors
/// See [`SignInError`].
pub(crate) async fn sign_in(server: &ServerUrl, name: &str) -> Result<Account, SignInError> {
    let (server, name) = (server.clone(), name.to_owned());
    let asked = tokio::task::spawn_blocking(move || ask(&server, &name)).await;
    asked.unwrap_or_else(|error| Err(SignInError::Strange(error.to_string())))
}

/// Ends the session of an account on its server, and with it every connection it has.
///
/// # Errors
/// Why nobody knows whether it has ended.
pub(crate) async fn sign_out(server: &ServerUrl, account: &Account) -> Result<(), String> {
    let (server, bearer) = (server.clone(), format!("Bearer {}", account.token));
    let asked = tokio::task::spawn_blocking(move || {
        let response = agent(&server).delete(server.api("session")).header("Authorization", bearer).call();
        match response.map_err(|error| format!("{server}: {error}"))?.status() {
            // That the session is over already is as good.
            status if status.is_success() || status == 401 => Ok(()),
            status => Err(format!("{server}: HTTP {status}")),
        }
    });
    asked.await.unwrap_or_else(|error| Err(error.to_string()))
}

fn agent(server: &ServerUrl) -> ureq::Agent {
    let mut config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(REQUEST_LIMIT));
    // The socket takes no proxy either, so one of the environment could only let somebody in who then stays outside.
    config = config.proxy(None);
    if server.is_secure() {
        // The same roots as the socket's: those of the system.
        let found = rustls_native_certs::load_native_certs().certs;
        let roots: Vec<_> = found.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        config = config.tls_config(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build());
    }
    config.build().new_agent()
}

fn ask(server: &ServerUrl, name: &str) -> Result<Account, SignInError> {
    // A server without a proxy before it answers a TLS greeting with something that rustls names, but nobody recognises.
    let hint = if server.is_secure() { " (the server itself speaks only http; https needs a proxy)" } else { "" };
    let unreachable = |error: ureq::Error| SignInError::Unreachable(format!("{server}: {error}{hint}"));
    let sent = agent(server).post(server.api("session")).send_json(serde_json::json!({ "name": name }));
    let mut response = sent.map_err(unreachable)?;
    let status = response.status();
    let text = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_string().map_err(unreachable)?;
    if status.is_success() {
        let strange = |why: &str| SignInError::Strange(format!("{server} answered strangely: {why}"));
        let answer: Answer = serde_json::from_str(&text).map_err(|error| strange(&error.to_string()))?;
        let token = answer.token.ok_or_else(|| strange("it gave no token"))?;
        return Ok(Account { user: answer.user, token });
    }
    match serde_json::from_str::<WireError>(&text) {
        Ok(error) if !error.retryable => Err(SignInError::Refused(error)),
        Ok(error) => Err(SignInError::Unreachable(error.message)),
        Err(_) if status.is_server_error() => Err(SignInError::Unreachable(format!("{server}: HTTP {status}"))),
        Err(_) => Err(SignInError::Strange(format!("{server} is no Holdfast server: HTTP {status}"))),
    }
}
