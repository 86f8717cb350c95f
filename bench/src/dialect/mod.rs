//! What the servers speak inside their frames.
//!
//! Must not live here: sockets, the schedule. Invariant: every delivery of every connection is checked against the one
//! that is due there, so a loss, a repetition or a change of order cannot be missed.

mod holdfast;
mod plain;

pub use holdfast::{Holdfast, PAGE, Question, Setup};
pub use plain::{Plain, Wrapping};

use crate::board::Board;
use crate::crowd::Sockets;

/// One of them.
pub enum Dialect {
    /// Ours.
    Holdfast(Holdfast),
    /// A server that hands every text on to everybody in the room.
    Plain(Plain),
}

impl Dialect {
    /// Whether a post is answered.
    #[must_use]
    pub fn has_acks(&self) -> bool {
        matches!(self, Self::Holdfast(_))
    }

    /// Makes room for a connection.
    pub fn joined(&mut self, at: usize) {
        match self {
            Self::Holdfast(holdfast) => holdfast.joined(at),
            Self::Plain(plain) => plain.joined(at),
        }
    }

    /// Deals with a text.
    pub fn text(&mut self, sockets: &mut Sockets, board: &mut Board, at: usize, text: &[u8], now: u64) {
        match self {
            Self::Holdfast(holdfast) => holdfast.text(sockets, board, at, text, now),
            Self::Plain(plain) => plain.text(sockets, board, at, text, now),
        }
    }

    /// Says that a connection lives.
    pub fn beat(&mut self, sockets: &mut Sockets, at: usize) {
        match self {
            Self::Holdfast(_) => Holdfast::beat(sockets, at),
            // Their servers ask, or do not care.
            Self::Plain(_) => {}
        }
    }

    /// Writes the text of a post.
    #[must_use]
    pub fn post(&self, room: usize, number: usize, body: String) -> String {
        match self {
            Self::Holdfast(holdfast) => holdfast.post(room, number, &body),
            Self::Plain(plain) => plain.post(body),
        }
    }

    /// Begins a phase: numbers begin anew.
    pub fn begin(&mut self, board: &Board) {
        match self {
            // A seq goes on.
            Self::Holdfast(_) => {}
            Self::Plain(plain) => plain.begin(board),
        }
    }
}
