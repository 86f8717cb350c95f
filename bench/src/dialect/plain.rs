//! Servers that hand every text on as it came: the C floor, Bun, `ws`, gorilla, and Socket.IO in its wrapping.
//!
//! Must not live here: how they are started. Invariant: each receiver must get every sender's posts in that sender's
//! order, each once; there is no seq that could say more.

use crate::board::Board;
use crate::crowd::Sockets;

/// What stands around a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// Nothing; several texts in one frame are told apart by newlines.
    None,
    /// Engine.IO 4 and Socket.IO 5: an event of the name `m`.
    SocketIo,
}

/// What is known of the connections.
pub struct Plain {
    wrapping: Wrapping,
    /// How often each sender of the room was heard, by connection and slot.
    turns: Vec<u32>,
    slots: usize,
    conns: usize,
    /// Connections that may post and receive.
    pub ready: usize,
}

impl Plain {
    /// For rooms with so many senders each.
    #[must_use]
    pub fn new(wrapping: Wrapping, senders: usize) -> Self {
        Self { wrapping, turns: Vec::new(), slots: senders, conns: 0, ready: 0 }
    }

    pub(super) fn joined(&mut self, at: usize) {
        self.conns = self.conns.max(at + 1);
        self.turns.resize(self.conns * self.slots, 0);
        if self.wrapping == Wrapping::None {
            self.ready += 1;
        }
    }

    pub(super) fn begin(&mut self, board: &Board) {
        self.slots = board.seating.senders;
        self.turns = vec![0; self.conns * self.slots];
    }

    pub(super) fn post(&self, body: String) -> String {
        match self.wrapping {
            Wrapping::None => body,
            Wrapping::SocketIo => format!(r#"42["m","{body}"]"#),
        }
    }

    pub(super) fn text(&mut self, sockets: &mut Sockets, board: &mut Board, at: usize, text: &[u8], now: u64) {
        match self.wrapping {
            Wrapping::None => {
                for part in text.split(|&byte| byte == b'\n') {
                    self.part(sockets, board, at, part, now);
                }
            }
            Wrapping::SocketIo => match text {
                [b'4', b'2', ..] => self.part(sockets, board, at, text, now),
                [b'0', ..] => sockets.send_text(at, b"40"),
                [b'4', b'0', ..] => self.ready += 1,
                b"2" => sockets.send_text(at, b"3"),
                _ => sockets.strange += 1,
            },
        }
    }

    fn part(&mut self, sockets: &mut Sockets, board: &mut Board, at: usize, text: &[u8], now: u64) {
        sockets.last_news = std::time::Instant::now();
        match board.number_in(text) {
            // Of a phase that is over.
            Some(number) if number < board.base => sockets.strange += 1,
            Some(number) => self.heard(board, at, number, now),
            None => sockets.strange += 1,
        }
    }

    fn heard(&mut self, board: &mut Board, at: usize, number: usize, now: u64) {
        board.events += 1;
        let seat = board.seating.seat(number - board.base);
        let due = &mut self.turns[at * self.slots + seat.slot];
        if seat.turn < *due as usize {
            board.duplicates += 1;
            return;
        }
        board.gaps += (seat.turn - *due as usize) as u64;
        *due = u32::try_from(seat.turn + 1).unwrap_or(u32::MAX);
        board.delivered(number, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{PostFate, Seating};

    #[test]
    fn a_repetition_and_a_gap_are_counted() {
        let mut board = Board::new(*b"abcd1234", Seating::of(4, 1, 2));
        board.begin(vec![PostFate::default(); 8], 10);
        let mut plain = Plain::new(Wrapping::None, 2);
        (0..2).for_each(|at| plain.joined(at));
        plain.begin(&board);
        // Senders 0 and 1 in turn; another order between senders is allowed.
        for number in [11, 10, 12, 13] {
            plain.heard(&mut board, 1, number, 1);
        }
        assert_eq!((board.events, board.duplicates, board.gaps), (4, 0, 0));
        plain.heard(&mut board, 1, 12, 1);
        assert_eq!((board.duplicates, board.gaps), (1, 0));
        plain.heard(&mut board, 1, 16, 1);
        assert_eq!((board.duplicates, board.gaps), (1, 1));
        // One sender's later post before an earlier one: a gap, then a repetition.
        plain.heard(&mut board, 1, 14, 1);
        assert_eq!((board.duplicates, board.gaps), (2, 1));
        assert_eq!(board.posts.iter().map(|post| post.deliveries).sum::<u32>(), 5);
    }
}
