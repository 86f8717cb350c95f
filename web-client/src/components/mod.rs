//! What people see: Yew function components, each a function of a part of the [`State`](crate::store::State).
//!
//! Lives here: markup, focus, scrolling. Must not live here: words ([`crate::words`]), timing of the connection's state
//! ([`crate::status`]), anything durable. Invariant: text of people only ever becomes text nodes, and no `style`
//! attribute is written, so `style-src 'self'` holds; what has to be computed is set through the CSSOM.

pub mod icon;
pub mod text;
pub mod timeline;
