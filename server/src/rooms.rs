//! A few rooms: those that one person is a member of.
//!
//! Must not live here: what is in them. Invariant: in order, none twice; nothing is set aside for rooms that are not there,
//! since every connection keeps one of these.

use shared::ids::RoomId;

/// A set of rooms in one piece of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomSet(Vec<RoomId>);

impl RoomSet {
    /// Adds a room. Returns whether it was not there.
    pub fn insert(&mut self, room: RoomId) -> bool {
        match self.0.binary_search(&room) {
            Ok(_) => false,
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, room);
                true
            }
        }
    }

    /// Removes a room. Returns whether it was there.
    pub fn remove(&mut self, room: RoomId) -> bool {
        let place = self.0.binary_search(&room);
        place.map(|place| self.0.remove(place)).is_ok()
    }

    /// Tells whether a room is there.
    #[must_use]
    pub fn contains(&self, room: RoomId) -> bool {
        self.0.binary_search(&room).is_ok()
    }

    /// Returns how many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the rooms in order.
    pub fn iter(&self) -> impl Iterator<Item = RoomId> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<RoomId> for RoomSet {
    fn from_iter<I: IntoIterator<Item = RoomId>>(rooms: I) -> Self {
        let mut rooms: Vec<RoomId> = rooms.into_iter().collect();
        rooms.sort_unstable();
        rooms.dedup();
        rooms.shrink_to_fit();
        Self(rooms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_in_order_and_none_is_there_twice() {
        let room = |n: u8| RoomId::from_bytes([n; 16]);
        let mut rooms: RoomSet = [3, 1, 3, 2].map(room).into_iter().collect();
        assert_eq!(rooms.iter().collect::<Vec<_>>(), [1, 2, 3].map(room));
        assert!(!rooms.insert(room(2)) && rooms.insert(room(0)));
        assert!(rooms.remove(room(1)) && !rooms.remove(room(1)) && !rooms.contains(room(1)));
        assert_eq!(rooms.iter().collect::<Vec<_>>(), [0, 2, 3].map(room));
    }
}
