//! The pure half of Holdfast, written once and used by the server, the page and the command line.
//!
//! Lives here: the wire ([`message`]), its words ([`ids`], [`cursor`], [`model`], [`close`], [`error`]), the
//! [`session`] that survives reconnects, and the folds that turn its events into what people see ([`timeline`],
//! [`roster`]). Must not live here: a clock, randomness, I/O, a runtime, anything that differs between wasm32 and
//! native. Invariant: every function is a function of its arguments alone, so a bad day can be replayed from a seed.

pub mod chance;
pub mod close;
pub mod cursor;
pub mod error;
pub mod ids;
pub mod limits;
pub mod message;
pub mod model;
pub mod object;
pub mod planted;
pub mod roster;
pub mod session;
pub mod sorted;
pub mod tagged;
pub mod time;
pub mod timeline;
