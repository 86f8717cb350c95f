//! Holdfast's page, compiled to WebAssembly.
//!
//! Lives here: the only owner of the [`shared::session::Session`] in a browser ([`driver`]), the page's own state machine
//! ([`model`]), what is shown of it ([`store`], [`status`], [`words`], [`components`]) and the browser's own things
//! ([`platform`]). Must not live here: rules of the conversation, which are `shared`'s. Invariant: `model`, `store`,
//! `status` and `words` are pure and tested natively; whatever touches the document is in the other three.

pub mod components;
pub mod driver;
pub mod model;
pub mod platform;
pub mod status;
pub mod store;
pub mod words;

pub use driver::start;
