//! What the page shows: one immutable [`State`] for each frame, and the [`Action`]s people take on it.
//!
//! Lives here: the shape of both. Must not live here: how a state comes to be ([`crate::driver`]) or how it looks
//! ([`crate::components`]). Invariant: a component is a function of a `State` alone; it owns no timer, no socket and no
//! copy of what is here.

mod actions;
mod mock;
mod part;
mod state;

pub use actions::{Action, Actions};
pub use mock::mock;
pub use part::Part;
pub use state::*;
