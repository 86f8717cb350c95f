//! Our own RFC 6455 framing, server side, without I/O.
//!
//! Lives here: turning bytes into messages ([`decoder`]) and messages into frames ([`frame`]), and the arithmetic of the
//! opening handshake ([`accept`]). Must not live here: sockets, clocks, or what a message means. Invariant: a peer
//! can make the decoder allocate no more than the message limit, whatever length it announces.

pub mod accept;
pub mod decoder;
pub mod frame;

pub use decoder::{CloseFrame, Decoder, DecoderLimits, Incoming, Violation};
