//! Where a browser's request comes from.
//!
//! Must not live here: who somebody is. Invariant: an Origin is compared whole, never by prefix or suffix.

use axum::http::HeaderMap;
use axum::http::header::ORIGIN;

use crate::app::App;

/// What a request says of where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nothing: not a browser, or a browser's plain navigation.
    Missing,
    /// A page this server serves, in lower case.
    Allowed(String),
    /// Some other page, or one that will not say.
    Foreign,
}

impl Origin {
    pub(super) fn of(app: &App, headers: &HeaderMap) -> Self {
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Self::Missing,
            (Some(origin), None) => match origin.to_str().map(str::to_ascii_lowercase) {
                Ok(origin) if app.origins.contains(&origin) => Self::Allowed(origin),
                Ok(_) | Err(_) => Self::Foreign,
            },
            (Some(_), Some(_)) => Self::Foreign,
        }
    }
}
