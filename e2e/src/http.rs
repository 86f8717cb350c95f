//! Plain HTTP against the server: sign-in and the few pages that are not the socket.
//!
//! Invariant: a status is data, never an error; only a connection that fails is.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::model::Person;

/// An answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// Returns a header's first value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Reads the body as JSON; `null` where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Returns the code of the refusal in the body, empty where there is none.
    #[must_use]
    pub fn error_code(&self) -> String {
        let body = self.json();
        let code = body.pointer("/error/code").or_else(|| body.pointer("/code"));
        code.and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// A session as a native client gets it.
#[derive(Clone, Debug, Deserialize)]
pub struct SignedIn {
    /// The bearer token.
    pub token: String,
    /// Whose it is.
    pub user: Person,
}

/// An HTTP client for one server. Every request is a connection of its own.
#[derive(Clone, Debug)]
pub struct Http {
    agent: ureq::Agent,
    origin: String,
}

impl Http {
    /// Makes a client.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .max_idle_connections(0)
            .max_redirects(0)
            .build();
        Self { agent: config.new_agent(), origin: format!("http://{address}") }
    }

    /// Gets a path.
    ///
    /// # Panics
    /// If no answer comes.
    #[must_use]
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = headers
            .iter()
            .fold(self.agent.get(format!("{}{path}", self.origin)), |request, (k, v)| request.header(*k, *v));
        read(request.call().unwrap_or_else(|error| panic!("GET {path}: {error}")))
    }

    /// Posts JSON to a path.
    ///
    /// # Panics
    /// If no answer comes.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let request = headers
            .iter()
            .fold(self.agent.post(format!("{}{path}", self.origin)), |request, (k, v)| request.header(*k, *v));
        read(request.send_json(body).unwrap_or_else(|error| panic!("POST {path}: {error}")))
    }

    /// Deletes what a path names.
    ///
    /// # Panics
    /// If no answer comes.
    #[must_use]
    pub fn delete(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let start = self.agent.delete(format!("{}{path}", self.origin));
        let request = headers.iter().fold(start, |request, (k, v)| request.header(*k, *v));
        read(request.call().unwrap_or_else(|error| panic!("DELETE {path}: {error}")))
    }

    /// Opens a session under a name, as a native client does.
    ///
    /// # Panics
    /// If the server refuses; with its answer.
    #[must_use]
    pub fn sign_in(&self, name: &str) -> SignedIn {
        let answer = self.post("/api/session", &json!({ "name": name }), &[]);
        let signed_in = serde_json::from_str(&answer.body);
        signed_in.unwrap_or_else(|_| panic!("signing in as {name:?} gave {}: {}", answer.status, answer.body))
    }
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    let headers = response
        .headers()
        .iter()
        .map(|(k, v)| (k.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
        .collect();
    let body = response.body_mut().read_to_string().unwrap_or_default();
    Answer { status: response.status().as_u16(), headers, body }
}
