//! One module a command. Must not live here: the session's behaviour, or arguments.

mod above;
pub(crate) mod chat;
pub(crate) mod outbox;
pub(crate) mod post;
pub(crate) mod rooms;
mod screen;
pub(crate) mod sign_in;
pub(crate) mod tail;
mod words;
