//! What people see: Yew function components, each a function of a part of the [`State`](crate::store::State).
//!
//! Lives here: markup, focus, scrolling. Must not live here: words ([`crate::words`]), timing of the connection's state
//! ([`crate::status`]), anything durable. Invariant: text of people only ever becomes text nodes, and no `style`
//! attribute is written, so `style-src 'self'` holds; what has to be computed is set through the CSSOM.

pub mod app;
pub mod button;
pub mod composer;
pub mod dialogs;
pub mod door;
pub mod frame;
pub mod header;
pub mod icon;
pub mod menu;
#[cfg(debug_assertions)]
pub mod mock;
pub mod notices;
pub mod panel;
pub mod people;
pub mod shell;
pub mod sidebar;
pub mod sign_in;
pub mod status_bar;
pub mod switches;
pub mod text;
pub mod timeline;
pub mod typing;

pub use app::{App, AppProps};
