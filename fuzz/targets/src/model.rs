//! The model of a room and of its reader, as the tests of `shared` use them.
//!
//! Must not live here: a second one. Invariant: what is true of a timeline is said once, for tests and fuzzer alike.
#![allow(dead_code, reason = "the tests of `shared` use the rest")]

#[path = "../../../shared/tests/common/check.rs"]
pub(crate) mod check;
#[path = "../../../shared/tests/common/reader.rs"]
pub(crate) mod reader;
#[path = "../../../shared/tests/common/room.rs"]
pub(crate) mod room;
