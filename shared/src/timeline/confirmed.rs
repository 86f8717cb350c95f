//! The committed rows of a room: posts and placeholders by seq, with the holes between them.
//!
//! Must not live here: what is not committed ([`super::local`]). Invariant: every post of the room up to the last known
//! one is a row, or counted in exactly one hole, or counted in [`Confirmed::earlier`]. It holds by construction: posts
//! carry their ordinal, so what lies between two neighbours is a subtraction and never a tally.

use std::collections::VecDeque;
use std::sync::Arc;

use super::row::{Hole, PostRow, Row, RowKey};
use crate::ids::Seq;

/// A row and how many posts lie before it and up to its end.
#[derive(Clone, Debug)]
struct Entry {
    /// Its seq; of a hole, the seq of the row before it.
    seq: Seq,
    before: u64,
    upto: u64,
    row: Row,
}

impl Entry {
    fn is_hole(&self) -> bool {
        matches!(self.row, Row::Hole(_))
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Confirmed {
    entries: VecDeque<Entry>,
    /// The last change known of.
    head: Seq,
    /// How many posts the room has had up to there.
    total: u64,
}

impl Confirmed {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn row(&self, index: usize) -> Option<&Row> {
        self.entries.get(index).map(|entry| &entry.row)
    }

    pub(super) fn head(&self) -> Seq {
        self.head
    }

    /// Returns the seq of the first row.
    pub(super) fn first(&self) -> Option<Seq> {
        self.entries.front().map(|entry| entry.seq)
    }

    /// Returns how many posts lie before the first row.
    pub(super) fn earlier(&self) -> u64 {
        self.entries.front().map_or(self.total, |entry| entry.before)
    }

    /// Returns the index of the row at `seq`, or where it would be.
    fn search(&self, seq: Seq) -> Result<usize, usize> {
        let index = self.entries.partition_point(|entry| entry.seq < seq);
        match self.entries.get(index) {
            Some(entry) if entry.seq == seq => Ok(index),
            Some(_) | None => Err(index),
        }
    }

    /// Returns where a row is. A post is looked for from the end: whoever asks mostly means a new one, and a map beside
    /// the rows would cost more at every copy of the timeline than this does at every look.
    pub(super) fn index_of(&self, key: RowKey) -> Option<usize> {
        match key {
            RowKey::Post { .. } => self.entries.iter().rposition(|entry| entry.row.is(key)),
            RowKey::Unknown { seq } => self.search(seq).ok().filter(|index| self.entries[*index].row.is(key)),
            RowKey::Hole { after } => {
                let next = self.search(after).ok()? + 1;
                self.entries.get(next).is_some_and(|entry| entry.row.is(key)).then_some(next)
            }
        }
    }

    /// Returns the index of the first row at or after `seq`.
    pub(super) fn index_at(&self, seq: Seq) -> usize {
        self.search(seq).unwrap_or_else(|index| index)
    }

    pub(super) fn post(&self, seq: Seq) -> Option<&Arc<PostRow>> {
        self.search(seq).ok().and_then(|index| self.entries[index].row.as_post())
    }

    pub(super) fn post_mut(&mut self, seq: Seq) -> Option<&mut PostRow> {
        let index = self.search(seq).ok()?;
        match &mut self.entries[index].row {
            Row::Post(post) => Some(Arc::make_mut(post)),
            Row::Hole(_) | Row::Unknown(_) => None,
        }
    }

    /// Changes every post that `pick` picks; the others stay the same allocation.
    pub(super) fn change_posts(&mut self, pick: impl Fn(&PostRow) -> bool, change: impl Fn(&mut PostRow)) -> bool {
        let mut changed = false;
        for entry in &mut self.entries {
            if let Row::Post(post) = &mut entry.row
                && pick(post)
            {
                change(Arc::make_mut(post));
                changed = true;
            }
        }
        changed
    }

    /// Puts a row in its place, or in the place of the one that is there, and mends the seams on both sides.
    ///
    /// `upto` counts the room's posts up to this row, itself included.
    pub(super) fn put(&mut self, seq: Seq, upto: u64, row: Row) {
        let before = match &row {
            Row::Post(_) => upto.saturating_sub(1),
            Row::Unknown(_) => upto,
            Row::Hole(_) => return,
        };
        self.total = self.total.max(upto);
        let entry = Entry { seq, before, upto, row };
        match self.search(seq) {
            Ok(index) => self.entries[index] = entry,
            Err(index) => {
                self.entries.insert(index, entry);
                self.mend_after(index);
                self.mend_before(index);
            }
        }
    }

    /// Notes that a page has told every post just before `before`: a hole that still reaches up to there begins later.
    pub(super) fn told_before(&mut self, before: Seq) {
        let index = self.entries.partition_point(|entry| entry.seq < before);
        if let Some(entry) = index.checked_sub(1).and_then(|index| self.entries.get_mut(index))
            && let Row::Hole(hole) = &mut entry.row
        {
            hole.empty_to = hole.empty_to.max(Seq(before.0.saturating_sub(1)));
        }
    }

    /// Moves the head, never back.
    pub(super) fn reach(&mut self, seq: Seq, total: u64) {
        self.head = self.head.max(seq);
        self.total = self.total.max(total);
        match self.entries.back() {
            Some(last) if last.is_hole() => self.mend_before(self.entries.len()),
            Some(last) if last.upto < self.total => self.mend_after(self.entries.len() - 1),
            Some(_) | None => {}
        }
    }

    /// Mends the seam between the row at `index` and the one before it.
    fn mend_before(&mut self, index: usize) {
        let hole = index.checked_sub(1).is_some_and(|previous| self.entries[previous].is_hole());
        if let Some(previous) = index.checked_sub(1 + usize::from(hole)) {
            self.mend_after(previous);
        }
    }

    /// Mends the seam between the row at `index`, which is no hole, and what follows.
    fn mend_after(&mut self, index: usize) {
        let next = index + 1;
        let old = match self.row(next) {
            Some(Row::Hole(hole)) => Some(*hole),
            Some(Row::Post(_) | Row::Unknown(_)) | None => None,
        };
        let was = old.is_some();
        let Entry { seq: after, upto, .. } = self.entries[index];
        let (before, until) = match self.entries.get(next + usize::from(was)) {
            Some(entry) => (entry.seq, entry.before),
            None => (self.head.next(), self.total),
        };
        let missing = until.saturating_sub(upto);
        let empty_to = old.filter(|old| old.after == after).map_or(after, |old| old.empty_to);
        let hole = Hole { after, before, missing, empty_to };
        let hole = Entry { seq: after, before: upto, upto: until, row: Row::Hole(hole) };
        match (was, missing > 0) {
            (true, true) => self.entries[next] = hole,
            (false, true) => self.entries.insert(next, hole),
            (true, false) => drop(self.entries.remove(next)),
            (false, false) => {}
        }
    }

    /// Takes rows away; what they held is counted as a hole, or as earlier. Returns the last change any of them had.
    pub(super) fn take_away(&mut self, range: std::ops::Range<usize>) -> Seq {
        let start = range.start;
        let mut last_change = Seq(0);
        for entry in self.entries.drain(range) {
            if let Row::Post(post) = &entry.row {
                last_change = last_change.max(post.rev);
            }
        }
        if self.entries.get(start).is_some_and(Entry::is_hole) {
            self.entries.remove(start);
        }
        self.mend_before(start);
        last_change
    }
}
