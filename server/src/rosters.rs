//! The rosters of large rooms as they are written on the wire, kept for a moment: a crowd that comes at once is shown the
//! same people.
//!
//! Must not live here: who is here ([`crate::presence`]), or who is a member. Invariant: a roster is handed out only while
//! the room stands where it stood and nobody's coming or going was told since; so whoever follows the room before they ask
//! is told of everything that the roster does not show.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use shared::ids::{RoomId, Seq, UserId};
use shared::model::Member;

/// Most rooms of which one is kept. One more, and all are forgotten: they are read again when they are asked for.
const ROOMS: usize = 64;

/// A moment in which a roster holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Where the room stands: whoever comes, goes or takes another name moves it.
    pub seq: Seq,
    /// How often it had been told who is here.
    pub told: u64,
}

#[derive(Debug)]
struct Kept {
    at: Moment,
    /// Those who are shown as not here.
    away: Vec<UserId>,
    json: Arc<str>,
}

/// The rosters that are kept.
#[derive(Debug, Default)]
pub struct Rosters {
    kept: Mutex<HashMap<RoomId, Kept>>,
}

impl Rosters {
    /// Returns the roster of a room as JSON if it holds at this moment, for somebody whom it does not show as away.
    #[must_use]
    pub fn find(&self, room: RoomId, at: Moment, me: UserId) -> Option<Arc<str>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.get(&room).filter(|kept| kept.at == at && !kept.away.contains(&me))?;
        Some(Arc::clone(&kept.json))
    }

    /// Keeps the roster of a room.
    pub fn keep(&self, room: RoomId, at: Moment, roster: &[Member], json: &Arc<str>) {
        let away = roster.iter().filter(|member| !member.online).map(|member| member.id).collect();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= ROOMS && !kept.contains_key(&room) {
            kept.clear();
        }
        kept.insert(room, Kept { at, away, json: Arc::clone(json) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roster_is_kept_for_its_moment_and_not_for_whom_it_shows_as_away() {
        let rosters = Rosters::default();
        let [here, away, other] = [1, 2, 3].map(|n| UserId::from_bytes([n; 16]));
        let member = |id, online| Member { id, name: String::new(), online };
        let (room, at) = (RoomId::from_bytes([9; 16]), Moment { seq: Seq(7), told: 3 });
        rosters.keep(room, at, &[member(here, true), member(away, false)], &Arc::from("[]"));
        assert!(rosters.find(room, at, here).is_some() && rosters.find(room, at, other).is_some());
        assert!(rosters.find(room, at, away).is_none());
        assert!(rosters.find(room, Moment { seq: Seq(8), ..at }, here).is_none());
        assert!(rosters.find(room, Moment { told: 4, ..at }, here).is_none());
        for n in 0..ROOMS as u8 {
            rosters.keep(RoomId::from_bytes([n + 100; 16]), at, &[], &Arc::from("[]"));
        }
        assert!(rosters.find(room, at, here).is_none());
        assert!(rosters.kept.lock().unwrap().len() <= ROOMS);
    }
}
