//! The newest events of a stream as finished frames, shared by everybody who follows it.
//!
//! Must not live here: cursors. Invariants: what is kept is dense; a push that would leave a hole starts the tail anew. A
//! text that was taken back is in none of the frames.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::ids::Seq;

/// Most events a tail keeps.
pub const TAIL_EVENTS: usize = 256;
/// Most bytes of frames a tail keeps; its newest frame always stays.
pub const TAIL_BYTES: usize = 256 * 1024;

/// The newest frames of one stream.
#[derive(Debug, Default)]
pub struct Tail {
    frames: VecDeque<(Seq, Bytes)>,
    bytes: usize,
    /// Where a post got another text, and which; `None` where any may have, up to there.
    edits: Vec<(Seq, Option<Seq>)>,
}

/// What a tail has for a cursor.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing after it.
    Nothing,
    /// These frames were taken; the last has this seq.
    UpTo(Seq),
    /// What comes next is older than the tail.
    Below,
}

impl Tail {
    /// Adds the next event.
    pub fn push(&mut self, seq: Seq, frame: Bytes) {
        if self.last().is_some_and(|last| seq != last.next()) {
            self.frames.clear();
            self.bytes = 0;
        }
        self.bytes += frame.len();
        self.frames.push_back((seq, frame));
        while self.frames.len() > TAIL_EVENTS || (self.bytes > TAIL_BYTES && self.frames.len() > 1) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, old)) = self.frames.pop_front() {
            self.bytes -= old.len();
        }
    }

    /// The newest event gives a post another text; `None` where any up to it may, of whichever post.
    pub fn note_edit(&mut self, post: Option<Seq>) {
        let (Some(first), Some(last)) = (self.first(), self.last()) else { return };
        self.edits.retain(|(at, _)| *at >= first);
        self.edits.push((last, post));
    }

    /// Drops every frame with a text of a post, and all before it: whoever stands there reads the log, where it is blank.
    pub fn drop_texts(&mut self, post: Seq) {
        let newest = self.edits.iter().rev().find(|(_, of)| of.is_none_or(|of| of == post));
        let last = newest.map_or(post, |(at, _)| post.max(*at));
        while self.first().is_some_and(|first| first <= last) {
            self.drop_oldest();
        }
    }

    /// Returns the seq of the oldest event that is kept.
    #[must_use]
    pub fn first(&self) -> Option<Seq> {
        self.frames.front().map(|(seq, _)| *seq)
    }

    /// Returns the seq of the newest event.
    #[must_use]
    pub fn last(&self) -> Option<Seq> {
        self.frames.back().map(|(seq, _)| *seq)
    }

    /// Returns how many frames it keeps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Tells whether it keeps none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns how many bytes of frames it keeps.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes frames after `cursor` and up to `until`, as long as `budget` bytes last, but at least one.
    pub fn take(&self, cursor: Seq, until: Seq, budget: usize, mut taken: impl FnMut(Bytes)) -> Found {
        let Some(&(first, _)) = self.frames.front() else { return Found::Nothing };
        if self.last().is_none_or(|last| last <= cursor) || cursor >= until {
            return Found::Nothing;
        }
        if cursor.next() < first {
            return Found::Below;
        }
        let skip = (cursor.0 + 1 - first.0) as usize;
        let (mut left, mut last) = (budget, cursor);
        for (seq, frame) in self.frames.iter().skip(skip) {
            if *seq > until || (frame.len() > left && last != cursor) {
                break;
            }
            left = left.saturating_sub(frame.len());
            last = *seq;
            taken(frame.clone());
        }
        Found::UpTo(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(tail: &Tail, cursor: u64, until: u64, budget: usize) -> (Found, usize) {
        let mut count = 0;
        (tail.take(Seq(cursor), Seq(until), budget, |_| count += 1), count)
    }

    fn tail(seqs: std::ops::RangeInclusive<u64>) -> Tail {
        let mut tail = Tail::default();
        for seq in seqs {
            tail.push(Seq(seq), Bytes::from_static(b"ten bytes!"));
        }
        tail
    }

    #[test]
    fn a_cursor_finds_what_follows_it() {
        let tail = tail(5..=9);
        let all = u64::MAX;
        assert_eq!(taken(&tail, 4, all, 1_000), (Found::UpTo(Seq(9)), 5));
        assert_eq!(taken(&tail, 7, all, 1_000), (Found::UpTo(Seq(9)), 2));
        assert_eq!(taken(&tail, 9, all, 1_000), (Found::Nothing, 0));
        assert_eq!(taken(&tail, 12, all, 1_000), (Found::Nothing, 0));
        assert_eq!(taken(&tail, 3, all, 1_000), (Found::Below, 0));
        assert_eq!(taken(&tail, 4, 6, 1_000), (Found::UpTo(Seq(6)), 2));
        assert_eq!(taken(&tail, 6, 6, 1_000), (Found::Nothing, 0));
        assert_eq!(taken(&tail, 4, all, 25), (Found::UpTo(Seq(6)), 2));
        assert_eq!(taken(&tail, 4, all, 20), (Found::UpTo(Seq(6)), 2));
        assert_eq!(taken(&tail, 4, all, 1), (Found::UpTo(Seq(5)), 1));
        assert_eq!(taken(&Tail::default(), 0, all, 1_000), (Found::Nothing, 0));
    }

    #[test]
    fn a_tail_is_bounded_and_dense() {
        let mut long = tail(1..=1_000);
        assert_eq!(long.frames.len(), TAIL_EVENTS);
        assert_eq!(taken(&long, 1_000 - 256, u64::MAX, usize::MAX), (Found::UpTo(Seq(1_000)), 256));
        long.push(Seq(1_002), Bytes::from_static(b"x"));
        assert_eq!(taken(&long, 1_000, u64::MAX, 1_000), (Found::Below, 0));
        let mut heavy = Tail::default();
        for seq in 1..=4 {
            heavy.push(Seq(seq), Bytes::from(vec![0; TAIL_BYTES / 2]));
        }
        assert_eq!(heavy.frames.len(), 2);
    }

    #[test]
    fn a_text_that_was_taken_back_is_dropped_wherever_it_is() {
        let kept = |tail: &Tail| tail.first().map(|first| (first.0, tail.len(), tail.bytes()));
        let mut tail = tail(5..=9);
        tail.drop_texts(Seq(4));
        assert_eq!(kept(&tail), Some((5, 5, 50)), "older than the tail");
        tail.drop_texts(Seq(6));
        assert_eq!(kept(&tail), Some((7, 3, 30)));
        // The text of an old post, and of another one.
        tail.note_edit(Some(Seq(2)));
        for (seq, post) in [(10, 2), (11, 8)] {
            tail.push(Seq(seq), Bytes::from_static(b"ten bytes!"));
            tail.note_edit(Some(Seq(post)));
        }
        tail.push(Seq(12), Bytes::from_static(b"ten bytes!"));
        tail.drop_texts(Seq(3));
        assert_eq!(kept(&tail), Some((7, 6, 60)));
        tail.drop_texts(Seq(2));
        assert_eq!(kept(&tail), Some((11, 2, 20)));
        // What was read from the log may hold any.
        tail.note_edit(None);
        tail.push(Seq(13), Bytes::from_static(b"ten bytes!"));
        tail.drop_texts(Seq(3));
        assert_eq!(kept(&tail), Some((13, 1, 10)));
        tail.drop_texts(Seq(13));
        assert_eq!(kept(&tail), None);
        for seq in 20..1_000 {
            tail.push(Seq(seq), Bytes::from_static(b"x"));
            tail.note_edit(Some(Seq(1)));
        }
        assert!(tail.edits.len() <= TAIL_EVENTS, "what is known of edits grows");
    }
}
