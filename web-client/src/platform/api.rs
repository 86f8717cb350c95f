//! The few requests the page makes over plain HTTP.
//!
//! Must not live here: anything the socket can do. Invariant: a request that got no answer is told apart from one that
//! was refused.

use gloo_net::http::{Request, Response};
use serde::{Deserialize, Serialize};
use shared::error::{ErrorCode, WireError};
use shared::model::Person;

use crate::store::SignInError;

/// The answer to everything about sessions. Exactly one is there, or neither where nobody is signed in.
#[derive(Deserialize)]
struct SessionAnswer {
    #[serde(default)]
    user: Option<Person>,
    #[serde(default)]
    error: Option<WireError>,
}

#[derive(Serialize)]
struct SignInForm<'a> {
    name: &'a str,
}

/// What a server says of itself to everybody.
#[derive(Debug, Default, Deserialize)]
pub struct Info {
    /// The page may show its weather switch.
    #[serde(default)]
    pub weather: bool,
}

/// Reads an answer about sessions. That there is none is an answer, too.
fn read_answer(status: u16, text: &str) -> Result<Option<Person>, SignInError> {
    let refused = |error: WireError| match error.code {
        ErrorCode::SignedOut => Ok(None),
        _ => Err(SignInError::Refused(error)),
    };
    if let Ok(SessionAnswer { user, error }) = serde_json::from_str(text)
        && (user.is_some() || error.is_some() || status == 200)
    {
        return error.map_or(Ok(user), refused);
    }
    if let Ok(error) = serde_json::from_str::<WireError>(text) {
        return refused(error);
    }
    match status {
        200..=299 => Ok(None),
        // Whatever stands between says something in its own words: the server was not reached.
        502..=504 => Err(SignInError::Unreachable),
        status => {
            let words = format!("The server answered with status {status}.");
            Err(SignInError::Refused(WireError::new(ErrorCode::from_wire("http"), words)))
        }
    }
}

async fn answer(response: Result<Response, gloo_net::Error>) -> Result<Option<Person>, SignInError> {
    let response = response.map_err(|_| SignInError::Unreachable)?;
    let text = response.text().await.map_err(|_| SignInError::Unreachable)?;
    read_answer(response.status(), &text)
}

/// Asks who is signed in with this browser.
///
/// # Errors
/// If the server was not reached or refused to say.
pub async fn who_am_i() -> Result<Option<Person>, SignInError> {
    answer(Request::get("/api/session").send().await).await
}

/// Signs in under a name. The cookie comes with the answer.
///
/// # Errors
/// If the server was not reached, or refused the name.
pub async fn sign_in(name: &str) -> Result<Person, SignInError> {
    let request = Request::post("/api/session").json(&SignInForm { name }).map_err(|_| SignInError::Unreachable)?;
    match answer(request.send().await).await? {
        Some(person) => Ok(person),
        None => Err(SignInError::Unreachable),
    }
}

/// Ends the session on the server.
///
/// # Errors
/// If the server was not reached or could not end it: the cookie is valid still.
pub async fn sign_out() -> Result<(), SignInError> {
    answer(Request::delete("/api/session").send().await).await.map(drop)
}

/// Asks what the server says of itself.
pub async fn info() -> Option<Info> {
    let response = Request::get("/api/info").send().await.ok()?;
    if !response.ok() {
        return None;
    }
    serde_json::from_str(&response.text().await.ok()?).ok()
}

/// Reads the page as the server serves it now.
pub async fn served_page() -> Option<String> {
    let response = Request::get("/").cache(web_sys::RequestCache::NoStore).send().await.ok()?;
    if !response.ok() {
        return None;
    }
    response.text().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_about_sessions_are_read_whatever_their_status() {
        let person = r#"{"user":{"id":"018f0000-0000-7000-8000-000000000001","name":"Robin"},"token":"t"}"#;
        assert_eq!(read_answer(201, person).unwrap().unwrap().name, "Robin");
        assert_eq!(read_answer(200, r#"{"user":null}"#), Ok(None));
        assert_eq!(read_answer(204, ""), Ok(None));
        let taken = r#"{"code":"name_taken","message":"…","suggestion":"Robin 2"}"#;
        for text in [taken.to_owned(), format!(r#"{{"error":{taken}}}"#)] {
            let Err(SignInError::Refused(error)) = read_answer(409, &text) else { panic!("{text}") };
            assert_eq!(error.suggestion.as_deref(), Some("Robin 2"));
        }
        let full = r#"{"code":"storage_full","message":"…","retryable":true,"retry_after_ms":2000}"#;
        let Err(SignInError::Refused(error)) = read_answer(503, full) else { panic!("nothing was done") };
        assert_eq!(error.code, ErrorCode::StorageFull);
        assert_eq!(read_answer(401, r#"{"code":"signed_out","message":"…"}"#), Ok(None));
        assert_eq!(read_answer(502, "<html>Bad gateway"), Err(SignInError::Unreachable));
        assert!(matches!(read_answer(500, "oops"), Err(SignInError::Refused(_))));
    }
}
