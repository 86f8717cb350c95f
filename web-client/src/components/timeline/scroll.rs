//! What a reader of a long list is held to, and which rows have to be in the document for it.
//!
//! Lives here: the arithmetic of scrolling. Must not live here: the document. Invariant: whatever happens to the rows
//! above, below or between, the row that is held stays where it is on the screen, or the end stays at the bottom.

use std::hash::Hash;
use std::ops::Range;

use super::heights::Heights;

/// Within this distance of the end the list follows it, in CSS pixels.
pub const FOLLOW_PX: f64 = 100.0;
/// How much more than what is seen is in the document, above and below, in CSS pixels.
pub const OVERSCAN_PX: f64 = 900.0;
/// How near the edge of what is in the document may come to what is seen before more is put there, in CSS pixels.
pub const MARGIN_PX: f64 = 350.0;
/// The most rows in the document, unless more are seen at once: in a list higher than 3,000 CSS pixels.
pub const MAX_ROWS: usize = 120;
/// Scrolled by less than this is not scrolled: browsers round to whole device pixels.
const ROUNDING_PX: f64 = 1.0;

/// What stays where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hold<K> {
    /// The end of the list, at the bottom of the view.
    End,
    /// A row, with its upper edge this far below the upper edge of the view.
    Row {
        /// Which.
        key: K,
        /// How far, in CSS pixels; negative where it is partly scrolled out.
        offset: f64,
    },
}

/// The scrolling of one list.
#[derive(Debug)]
pub struct Scroll<K> {
    /// The rows.
    pub heights: Heights<K>,
    /// What is held.
    pub hold: Hold<K>,
    /// The height of the view.
    pub view: f64,
    /// The height of what stands above the first row.
    pub head: f64,
    /// Where the document was last told to scroll to, or seen to be.
    at: f64,
    /// The index of the row held, as of the last look.
    held: usize,
}

impl<K: Copy + Eq + Hash> Default for Scroll<K> {
    fn default() -> Self {
        Self { heights: Heights::default(), hold: Hold::End, view: 0.0, head: 0.0, at: 0.0, held: 0 }
    }
}

impl<K: Copy + Eq + Hash> Scroll<K> {
    /// Takes over new rows. Where the row held is gone, the row that came after it is held in its stead.
    pub fn sync(&mut self, len: usize, key_at: impl Fn(usize) -> K, find: impl Fn(K) -> Option<usize>) {
        let Hold::Row { key, offset } = self.hold else {
            self.heights.sync(len, key_at);
            return;
        };
        let followers: Vec<K> =
            (self.held..self.heights.len()).take(MAX_ROWS).filter_map(|i| self.heights.key(i)).collect();
        self.heights.sync(len, key_at);
        let kept = std::iter::once(key).chain(followers).find_map(|key| find(key).map(|index| (key, index)));
        match kept {
            Some((key, index)) => {
                self.held = index;
                self.hold = Hold::Row { key, offset };
            }
            None => self.hold = Hold::End,
        }
    }

    /// Holds a row at an offset.
    pub fn hold_row(&mut self, index: usize, offset: f64) {
        if let Some(key) = self.heights.key(index) {
            self.held = index;
            self.hold = Hold::Row { key, offset };
        }
    }

    /// Takes note of where a person has scrolled to. `may_hold` tells which rows are good to hold: not a hole, which
    /// vanishes when it fills. Tells whether anything moved.
    pub fn observe(&mut self, scroll_top: f64, may_hold: impl Fn(K) -> bool) -> bool {
        if (scroll_top - self.at).abs() < ROUNDING_PX {
            return false;
        }
        self.at = scroll_top;
        if self.end() - scroll_top <= FOLLOW_PX {
            self.hold = Hold::End;
            return true;
        }
        let first = self.heights.row_at(scroll_top - self.head);
        let candidates = first..self.heights.len().min(first + MAX_ROWS);
        let index = candidates.clone().find(|index| self.heights.key(*index).is_some_and(&may_hold)).unwrap_or(first);
        self.hold_row(index, self.head + self.heights.top(index) - scroll_top);
        true
    }

    /// Takes note of where the document really is after it was told to scroll.
    pub fn settled_at(&mut self, scroll_top: f64) {
        self.at = scroll_top;
    }

    /// Returns the farthest a person can scroll.
    #[must_use]
    pub fn end(&self) -> f64 {
        (self.head + self.heights.total() - self.view).max(0.0)
    }

    /// Returns where the document must be scrolled to so that what is held stays where it is.
    #[must_use]
    pub fn target(&self) -> f64 {
        match self.hold {
            Hold::End => self.end(),
            Hold::Row { offset, .. } => (self.head + self.heights.top(self.held) - offset).clamp(0.0, self.end()),
        }
    }

    /// Tells whether the list follows its end.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.hold == Hold::End
    }

    /// Returns the rows that are seen, at least in part.
    #[must_use]
    pub fn seen(&self) -> Range<usize> {
        self.around(0.0)
    }

    /// Returns the rows that ought to be in the document.
    #[must_use]
    pub fn window(&self) -> Range<usize> {
        let wide = self.around(OVERSCAN_PX);
        if wide.len() <= MAX_ROWS {
            return wide;
        }
        // Many low rows: what is needed is in the middle, and what the limit leaves is above and below.
        let needed = self.needed();
        let spare = MAX_ROWS.saturating_sub(needed.len()) / 2;
        let first = needed.start.saturating_sub(spare);
        first..wide.end.min(first + MAX_ROWS).max(needed.end)
    }

    /// Tells whether these rows are enough to have in the document for now.
    #[must_use]
    pub fn is_enough(&self, window: &Range<usize>) -> bool {
        let needed = self.needed();
        window.start <= needed.start && needed.end <= window.end
    }

    /// Returns the rows that have to be in the document: the near ones where they are few enough, else those seen.
    fn needed(&self) -> Range<usize> {
        let near = self.near(MARGIN_PX);
        if near.len() <= MAX_ROWS { near } else { self.seen() }
    }

    /// Returns the rows that are seen, and those within this distance of them.
    #[must_use]
    pub fn near(&self, distance: f64) -> Range<usize> {
        self.around(distance)
    }

    fn around(&self, more: f64) -> Range<usize> {
        if self.heights.is_empty() {
            return 0..0;
        }
        let from = self.target() - self.head;
        self.heights.row_at(from - more)..self.heights.row_at(from + self.view + more) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scroll(rows: &[u32], height: f64, view: f64) -> Scroll<u32> {
        let mut scroll = Scroll { view, ..Scroll::default() };
        set(&mut scroll, rows);
        for index in 0..rows.len() {
            scroll.heights.measure(index, height);
        }
        scroll
    }

    fn set(scroll: &mut Scroll<u32>, rows: &[u32]) {
        scroll.sync(rows.len(), |index| rows[index], |key| rows.iter().position(|row| *row == key));
    }

    /// Where a row is on the screen.
    fn on_screen(scroll: &Scroll<u32>, rows: &[u32], key: u32) -> f64 {
        let index = rows.iter().position(|row| *row == key).unwrap();
        scroll.head + scroll.heights.top(index) - scroll.target()
    }

    #[test]
    fn the_end_is_followed_only_from_within_a_hundred_pixels() {
        let rows: Vec<u32> = (0..100).collect();
        let mut list = scroll(&rows, 20.0, 400.0);
        assert!((list.target() - 1_600.0).abs() < 1e-6);
        list.observe(1_500.0, |_| true);
        assert!(list.is_at_end());
        list.observe(1_499.0, |_| true);
        assert!(!list.is_at_end());
        list.observe(1_600.0, |_| true);
        assert!(list.is_at_end());
    }

    #[test]
    fn what_is_read_stays_in_place_whatever_comes_above_below_and_between() {
        let rows: Vec<u32> = (100..200).collect();
        let mut list = scroll(&rows, 20.0, 400.0);
        list.observe(707.0, |_| true);
        let place = on_screen(&list, &rows, 135);
        assert!((place - (-7.0)).abs() < 1e-6);

        let with_history: Vec<u32> = (50..200).collect();
        set(&mut list, &with_history);
        assert!((on_screen(&list, &with_history, 135) - place).abs() < 1e-6, "history came above");
        list.heights.measure(3, 300.0);
        assert!((on_screen(&list, &with_history, 135) - place).abs() < 1e-6, "a row above grew");

        let with_new: Vec<u32> = (50..230).collect();
        set(&mut list, &with_new);
        assert!((on_screen(&list, &with_new, 135) - place).abs() < 1e-6, "posts came below");

        let without_some: Vec<u32> = (50..130).chain(135..230).collect();
        set(&mut list, &without_some);
        assert!((on_screen(&list, &without_some, 135) - place).abs() < 1e-6, "rows above went");

        let moved: Vec<u32> = (50..130).chain(135..140).chain(150..230).chain([145]).collect();
        set(&mut list, &moved);
        assert!((on_screen(&list, &moved, 135) - place).abs() < 1e-6, "an acknowledged row took its place");
    }

    #[test]
    fn when_the_row_held_goes_the_next_one_takes_its_place() {
        let rows: Vec<u32> = (0..100).collect();
        let mut list = scroll(&rows, 20.0, 400.0);
        list.observe(600.0, |_| true);
        let without: Vec<u32> = (0..30).chain(32..100).collect();
        set(&mut list, &without);
        assert!((on_screen(&list, &without, 32)).abs() < 1e-6);
        set(&mut list, &[]);
        assert!(list.is_at_end(), "with nothing left to hold");
    }

    #[test]
    fn a_hole_is_not_held_because_it_vanishes_when_it_fills() {
        let rows: Vec<u32> = (0..100).collect();
        let mut list = scroll(&rows, 20.0, 400.0);
        list.observe(600.0, |key| key != 30);
        let filled: Vec<u32> = (0..30).chain(1_000..1_050).chain(31..100).collect();
        set(&mut list, &filled);
        assert!((on_screen(&list, &filled, 31) - 20.0).abs() < 1e-6);
    }

    #[test]
    fn few_rows_are_in_the_document_however_many_there_are() {
        let rows: Vec<u32> = (0..100_000).collect();
        for height in [1.0, 20.0, 200.0] {
            let mut list = scroll(&rows, height, 900.0);
            for at in [0.0, 5_000.0, 49_999.0, f64::MAX] {
                list.observe(at.min(list.end()), |_| true);
                let (seen, window) = (list.seen(), list.window());
                assert!(window.len() <= MAX_ROWS.max(seen.len()), "{} rows of {height} px", window.len());
                assert!(list.is_enough(&window));
                assert!(window.start <= seen.start && seen.end <= window.end, "{seen:?} in {window:?}");
            }
        }
    }

    #[test]
    fn the_rows_asked_for_are_enough_and_reach_the_end_in_a_list_of_any_height() {
        let rows: Vec<u32> = (0..1_000).collect();
        for height in [26.5, 30.0] {
            for view in (100..6_000).step_by(10) {
                let mut list = scroll(&rows, height, f64::from(view));
                assert_eq!(list.window().end, 1_000, "the newest in {view} px");
                for at in [0.0, 1_234.0, 13_000.0, list.end()] {
                    list.observe(at, |_| true);
                    assert!(list.is_enough(&list.window()), "rows of {height} px from {at} in {view} px");
                    assert!(view > 3_000 || list.window().len() <= MAX_ROWS);
                }
            }
        }
    }

    #[test]
    fn scrolling_within_the_margin_needs_no_new_rows() {
        let rows: Vec<u32> = (0..1_000).collect();
        let mut list = scroll(&rows, 20.0, 400.0);
        list.observe(9_000.0, |_| true);
        let window = list.window();
        list.observe(9_500.0, |_| true);
        assert!(list.is_enough(&window));
        list.observe(9_600.0, |_| true);
        assert!(!list.is_enough(&window));
    }

    #[test]
    fn rounding_by_the_browser_is_not_scrolling() {
        let rows: Vec<u32> = (0..100).collect();
        let mut list = scroll(&rows, 20.0, 400.0);
        list.observe(700.4, |_| true);
        let held = list.hold;
        list.settled_at(700.0);
        assert!(!list.observe(700.4, |_| true));
        assert_eq!(list.hold, held);
    }
}
