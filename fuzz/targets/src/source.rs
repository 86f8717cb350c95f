//! A fuzzer's bytes as choices.
//!
//! Must not live here: what is chosen. Invariant: every byte string is a list of choices, and one changed byte changes
//! few of them; once the bytes are used up, every choice is the first.

/// Reads choices off a byte string.
pub(crate) struct Source<'a> {
    rest: &'a [u8],
}

/// Numbers at which counting goes wrong.
const EXTREMES: [u64; 12] = [
    0,
    1,
    2,
    255,
    256,
    65_535,
    i64::MAX as u64,
    i64::MAX as u64 + 1,
    u64::MAX - 2,
    u64::MAX - 1,
    u64::MAX,
    1_000_000_000_000,
];

impl<'a> Source<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((first, rest)) => {
                self.rest = rest;
                *first
            }
            None => 0,
        }
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Chooses below a small number, which must not be zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    pub(crate) fn pick<'b, T>(&mut self, from: &'b [T]) -> &'b T {
        &from[self.below(from.len())]
    }

    /// Chooses a number: mostly a small one, now and then one at which counting goes wrong.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            tag @ 0..=199 => u64::from(tag),
            tag @ 200..=239 => EXTREMES[usize::from(tag - 200) % EXTREMES.len()],
            _eight_bytes => {
                let mut bytes = [0; 8];
                bytes.fill_with(|| self.byte());
                u64::from_be_bytes(bytes)
            }
        }
    }

    /// Takes up to `most` bytes, at most 255.
    pub(crate) fn bytes(&mut self, most: u8) -> &'a [u8] {
        let length = usize::from(self.byte().min(most)).min(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// Takes a text of up to `most` bytes.
    pub(crate) fn text(&mut self, most: u8) -> String {
        String::from_utf8_lossy(self.bytes(most)).into_owned()
    }
}
