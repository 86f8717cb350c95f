//! Who somebody is: names, tokens, sessions, and what may be written.
//!
//! Must not live here: HTTP, sockets, storage. Invariant: a token is never stored or logged, only its SHA-256 is.

pub mod names;
pub mod text;
pub mod tokens;
