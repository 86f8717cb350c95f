//! The one error of this crate: words for the person at the terminal.
//!
//! Lives here: [`Failure`] and how causes become words. Must not live here: printing. Invariant: the words say what
//! was attempted and, where we know it, the command that mends it.

use std::fmt::Display;

/// Why a command could not be finished, in words.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

/// What every step returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Ends with the given words.
pub(crate) fn fail<T>(words: impl Into<String>) -> Outcome<T> {
    Err(Failure(words.into()))
}

/// Puts what was attempted before the cause.
pub(crate) trait Context<T> {
    /// `attempt` completes "could not …".
    fn context(self, attempt: impl Display) -> Outcome<T>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    fn context(self, attempt: impl Display) -> Outcome<T> {
        self.map_err(|cause| Failure(format!("could not {attempt}: {cause}")))
    }
}
