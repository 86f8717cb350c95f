//! The browser's own things, each behind a few functions: time, sockets, storage, locks, the window.
//!
//! Lives here: everything that calls JavaScript, but for components. Must not live here: a decision about the
//! conversation. Invariant: nothing here is awaited while something else must go on, and nothing here panics because a
//! browser lacks a thing: it says so.

pub mod api;
pub mod clock;
pub mod letters;
pub mod locks;
pub mod panic;
pub mod settings;
pub mod shelf;
pub mod socket;
pub mod window;
