//! Holdfast's server.
//!
//! Lives here: the parts and how they start. Must not live here: anything a client could also need ([`shared`]).
//! Invariant: nothing is acknowledged or shown before it is committed.

pub mod config;
pub mod log;
pub mod people;
pub mod ws;
