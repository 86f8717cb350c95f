//! Holdfast's page, compiled to WebAssembly.
//!
//! Lives here: the only owner of the [`shared::session::Session`] in a browser ([`driver`]), what it shows ([`store`],
//! [`status`], [`words`]) and the browser's own things ([`platform`]). Must not live here: rules of the conversation,
//! which are `shared`'s. Invariant: everything but `platform` and `driver` is pure and tested natively.

pub mod components;
pub mod driver;
pub mod model;
pub mod platform;
pub mod status;
pub mod store;
pub mod words;

pub use driver::start;
