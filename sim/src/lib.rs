//! A world in virtual time, in which Holdfast lives through bad days.
//!
//! The clients are the real [`Session`](shared::session::Session) and timelines, the server is the real connection,
//! log, delivery and presence, and the bytes between them are real frames. Made up are the time, the network, the disks
//! and the people. One thread runs it all, and one seed decides everything: the same plan gives the same day.
//!
//! Lives here: plans ([`plan`]), the world, what must be true ([`check`]) of it, runs of many ([`run`]), and a long
//! day on which nothing may gather ([`hours`]). Must not live here: a second copy of anything the product does.
//! Invariant: nothing in here asks the system for time or chance.

mod chance;
mod check;
pub mod explore;
pub mod found;
pub mod heap;
pub mod hours;
pub mod plan;
pub mod run;
mod truth;
mod world;

pub use chance::Chance;
pub use plan::Plan;
pub use world::{Counts, Violation};
