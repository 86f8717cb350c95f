//! The list of posts.

pub mod heights;
pub mod scroll;
