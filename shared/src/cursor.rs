//! Where a reader stands in a stream, and what to do with the next event it is offered.
//!
//! Must not live here: reading or storing events. Invariant: a cursor moves by exactly one, forwards, on `Deliver`,
//! and by nothing else but an explicit snapshot or reset.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{Epoch, Seq};
use crate::object::object;

/// A short piece of a stream's hash chain at some seq. Two logs that agree on it agree on everything before it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Check(pub [u8; 8]);

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand and in one piece: it is written with every event.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 16];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0xf)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Check({self})")
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = text.as_bytes();
        if bytes.len() != 16 || !bytes.iter().all(u8::is_ascii_hexdigit) {
            return Err(D::Error::custom("a check is 16 hexadecimal digits"));
        }
        let mut check = [0; 8];
        for (place, pair) in check.iter_mut().zip(bytes.chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).map_err(D::Error::custom)?;
            *place = u8::from_str_radix(digits, 16).map_err(D::Error::custom)?;
        }
        Ok(Self(check))
    }
}

/// A place in a stream that can be compared between two logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Position {
    /// Which log.
    pub epoch: Epoch,
    /// The last change included.
    pub seq: Seq,
    /// The stream's hash chain at `seq`.
    pub check: Check,
}

object!(Position { epoch, seq, check });

/// What a cursor says of an event it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The next one: deliver it and [`Cursor::advance`].
    Deliver,
    /// Seen before: ignore it.
    Duplicate,
    /// Something between is missing: ask again from the cursor.
    Gap,
}

/// The last position delivered to one reader of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    position: Position,
}

impl Cursor {
    /// Starts a reader at a position it has proof of: a snapshot's `as_of`, or what it stored.
    #[must_use]
    pub const fn at(position: Position) -> Self {
        Self { position }
    }

    /// Returns the last position delivered.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Returns the seq of the last event delivered.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.position.seq
    }

    /// Says what an event with this seq is to this reader.
    #[must_use]
    pub fn offer(&self, seq: Seq) -> Offer {
        if seq <= self.position.seq {
            Offer::Duplicate
        } else if seq == self.position.seq.next() {
            Offer::Deliver
        } else {
            Offer::Gap
        }
    }

    /// Moves past the event just delivered.
    ///
    /// # Panics
    /// In debug builds, if `seq` was not offered with [`Offer::Deliver`].
    pub fn advance(&mut self, seq: Seq, check: Check) {
        debug_assert_eq!(self.offer(seq), Offer::Deliver);
        self.position.seq = seq;
        self.position.check = check;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor_at(seq: u64) -> Cursor {
        Cursor::at(Position { epoch: Epoch::from_bytes([1; 16]), seq: Seq(seq), check: Check([2; 8]) })
    }

    #[test]
    fn a_cursor_delivers_the_next_ignores_the_old_and_reports_a_gap() {
        let cursor = cursor_at(4);
        assert_eq!(cursor.offer(Seq(3)), Offer::Duplicate);
        assert_eq!(cursor.offer(Seq(4)), Offer::Duplicate);
        assert_eq!(cursor.offer(Seq(5)), Offer::Deliver);
        assert_eq!(cursor.offer(Seq(6)), Offer::Gap);
        assert_eq!(cursor.offer(Seq(u64::MAX)), Offer::Gap);
        assert_eq!(cursor_at(u64::MAX).offer(Seq(u64::MAX)), Offer::Duplicate);
    }

    #[test]
    fn a_check_survives_json_and_refuses_everything_else() {
        let check = Check([0, 1, 0xab, 0xff, 4, 5, 6, 7]);
        let json = serde_json::to_string(&check).unwrap();
        assert_eq!(json, "\"0001abff04050607\"");
        assert_eq!(serde_json::from_str::<Check>(&json).unwrap(), check);
        for bad in
            ["\"\"", "\"0001abff0405060\"", "\"zz01abff04050607\"", "\"+001abff04050607\"", "\"ééabff04050607\"", "7"]
        {
            let parsed = serde_json::from_str::<Check>(bad);
            assert!(parsed.is_err(), "{bad} was taken for a check: {parsed:?}");
        }
    }
}
