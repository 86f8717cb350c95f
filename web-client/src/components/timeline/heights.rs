//! Where every row of a long list lies, though only a few are in the document.
//!
//! Lives here: known and guessed heights, and sums of them in logarithmic time (a Fenwick tree: P. Fenwick, "A new data
//! structure for cumulative frequency tables", 1994). Must not live here: the document. Invariant: a height once
//! measured stays with its key, wherever in the list the key goes.

use std::collections::HashMap;
use std::hash::Hash;

/// What a row is taken for until it is measured, in CSS pixels.
pub const GUESS_PX: f64 = 52.0;

/// The rows' heights, in their order.
#[derive(Debug)]
pub struct Heights<K> {
    keys: Vec<K>,
    /// Not a number where never measured.
    measured: Vec<f64>,
    /// `tree[i]` sums the heights of the `i & -i` rows that end with row `i - 1`.
    tree: Vec<f64>,
}

impl<K> Default for Heights<K> {
    fn default() -> Self {
        Self { keys: Vec::new(), measured: Vec::new(), tree: vec![0.0] }
    }
}

impl<K: Copy + Eq + Hash> Heights<K> {
    /// Returns how many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Tells whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the key of a row.
    #[must_use]
    pub fn key(&self, index: usize) -> Option<K> {
        self.keys.get(index).copied()
    }

    /// Takes over a new list of rows. What begins and ends as before keeps its place without being looked up, also
    /// where rows are gone from the beginning.
    pub fn sync(&mut self, len: usize, key_at: impl Fn(usize) -> K) {
        let first = (len > 0).then(|| key_at(0));
        let gone = first.and_then(|first| self.keys.iter().position(|key| *key == first)).unwrap_or(0);
        let shorter = len.min(self.keys.len() - gone);
        let head = (0..shorter).take_while(|index| self.keys[gone + index] == key_at(*index)).count();
        if gone == 0 && head == len && len == self.keys.len() {
            return;
        }
        let tail =
            (1..=shorter - head).take_while(|back| self.keys[self.keys.len() - back] == key_at(len - back)).count();
        let old = gone + head..self.keys.len() - tail;
        let keys: Vec<K> = (head..len - tail).map(key_at).collect();
        let moved = (0..gone).chain(old.clone()).filter(|_| !keys.is_empty());
        let known: HashMap<K, f64> = moved.map(|index| (self.keys[index], self.measured[index])).collect();
        let measured: Vec<f64> = keys.iter().map(|key| known.get(key).copied().unwrap_or(f64::NAN)).collect();
        self.keys.splice(old.clone(), keys);
        self.measured.splice(old, measured);
        self.keys.drain(..gone);
        self.measured.drain(..gone);
        self.build();
    }

    fn build(&mut self) {
        self.tree.clear();
        self.tree.push(0.0);
        self.tree.extend(self.measured.iter().map(|height| or_guess(*height)));
        for at in 1..self.tree.len() {
            let parent = at + (at & at.wrapping_neg());
            if parent < self.tree.len() {
                self.tree[parent] += self.tree[at];
            }
        }
    }

    /// Takes a measured height. Tells whether it differs from what was known.
    pub fn measure(&mut self, index: usize, height: f64) -> bool {
        let Some(known) = self.measured.get_mut(index) else { return false };
        let difference = height - or_guess(*known);
        let is_new = known.is_nan();
        *known = height;
        if difference.abs() < 0.01 {
            return is_new;
        }
        let mut at = index + 1;
        while at < self.tree.len() {
            self.tree[at] += difference;
            at += at & at.wrapping_neg();
        }
        true
    }

    /// Returns how far a row's upper edge is from the first row's.
    #[must_use]
    pub fn top(&self, index: usize) -> f64 {
        let mut at = index.min(self.keys.len());
        let mut sum = 0.0;
        while at > 0 {
            sum += self.tree[at];
            at &= at - 1;
        }
        sum
    }

    /// Returns the height of all rows.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.top(self.keys.len())
    }

    /// Returns the row that covers this distance from the first row's upper edge; the nearest one where none does.
    #[must_use]
    pub fn row_at(&self, distance: f64) -> usize {
        let mut step = self.tree.len().next_power_of_two() / 2;
        let (mut at, mut left) = (0, distance);
        while step > 0 {
            if at + step < self.tree.len() && self.tree[at + step] <= left {
                at += step;
                left -= self.tree[at];
            }
            step /= 2;
        }
        at.min(self.keys.len().saturating_sub(1))
    }
}

fn or_guess(height: f64) -> f64 {
    if height.is_nan() { GUESS_PX } else { height }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(keys: &[u32]) -> Heights<u32> {
        let mut heights = Heights::default();
        heights.sync(keys.len(), |index| keys[index]);
        heights
    }

    #[test]
    fn sums_and_searches_agree_with_counting() {
        let keys: Vec<u32> = (0..257).collect();
        let mut heights = list(&keys);
        for index in 0..257 {
            heights.measure(index, 10.0 + (index % 7) as f64);
        }
        let mut top = 0.0;
        for index in 0..257 {
            assert!((heights.top(index) - top).abs() < 1e-6, "top of {index}");
            assert_eq!(heights.row_at(top + 0.5), index);
            top += 10.0 + (index % 7) as f64;
        }
        assert!((heights.total() - top).abs() < 1e-6);
        assert_eq!(heights.row_at(1e9), 256);
        assert_eq!(heights.row_at(-5.0), 0);
        assert_eq!(list(&[]).row_at(3.0), 0);
    }

    #[test]
    fn a_measured_height_stays_with_its_key_wherever_it_goes() {
        let mut heights = list(&[5, 6, 7]);
        heights.measure(1, 100.0);
        for rows in [vec![3, 4, 5, 6, 7], vec![5, 6], vec![6], vec![1, 6, 9, 8], vec![9, 1, 8, 6], vec![8, 6, 2]] {
            heights.sync(rows.len(), |index| rows[index]);
            let index = rows.iter().position(|key| *key == 6).unwrap();
            assert!((heights.top(index + 1) - heights.top(index) - 100.0).abs() < 1e-6, "in {rows:?}");
            assert!((heights.total() - 100.0 - (rows.len() - 1) as f64 * GUESS_PX).abs() < 1e-6);
        }
    }

    #[test]
    fn measuring_what_was_guessed_right_is_still_news_once() {
        let mut heights = list(&[1]);
        assert!(heights.measure(0, GUESS_PX));
        assert!(!heights.measure(0, GUESS_PX));
        assert!(!heights.measure(7, 3.0), "there is no such row");
    }
}
