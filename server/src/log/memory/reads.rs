//! How the maps are asked.
//!
//! Must not live here: assembling pages, which is the same for every backend. Invariant: nothing here changes a map.

use std::ops::Bound;

use shared::cursor::{Check, Position};
use shared::ids::{Epoch, Lsn, RoomId, Seq, UserId};
use shared::limits;
use shared::model::{Person, Post, RoomEvent, RoomSummary, UserEvent};
use shared::time::Timestamp;

use super::state::State;
use crate::log::chain;
use crate::log::reads::{Membership, Reads, RoomHead, SessionRow};
use crate::log::record::TokenHash;
use crate::log::tables::{RoomState, StorageError, Tables as _};

impl Reads for State {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn lsn(&self) -> Result<Lsn, StorageError> {
        Ok(self.lsn)
    }

    fn head(&self, room: RoomId) -> Result<Option<RoomHead>, StorageError> {
        Ok(self.rooms.get(&room).map(|row| RoomHead {
            position: Position { epoch: self.epoch, seq: row.seq, check: row.check },
            posts: row.posts,
            lsn: row.lsn,
        }))
    }

    fn posts_before(
        &self,
        room: RoomId,
        before: Seq,
        limit: usize,
        visit: &mut dyn FnMut(Post) -> bool,
    ) -> Result<(), StorageError> {
        let posts = self.posts.range((room, Seq(0))..(room, before)).rev().take(limit);
        for (place, _) in posts {
            if let Some(post) = self.events.get(place).and_then(|event| self.stands(event))
                && !visit(post)
            {
                break;
            }
        }
        Ok(())
    }

    fn events_after(
        &self,
        room: RoomId,
        after: Seq,
        limit: usize,
        visit: &mut dyn FnMut(RoomEvent) -> bool,
    ) -> Result<(), StorageError> {
        let events = self.events.range((Bound::Excluded((room, after)), Bound::Included((room, Seq(u64::MAX)))));
        for (_, row) in events.take(limit) {
            if !visit(chain::event(row.clone())?) {
                break;
            }
        }
        Ok(())
    }

    fn check_at(&self, room: RoomId, seq: Seq) -> Result<Option<Check>, StorageError> {
        Ok(match seq {
            Seq(0) => self.rooms.contains_key(&room).then(Check::default),
            seq => self.events.get(&(room, seq)).map(|row| row.check),
        })
    }

    fn user_head(&self, user: UserId) -> Result<Option<Position>, StorageError> {
        Ok(self.users.get(&user).map(|row| Position { epoch: self.epoch, seq: row.seq, check: row.check }))
    }

    fn user_events(&self, user: UserId, after: Seq, limit: usize) -> Result<Vec<UserEvent>, StorageError> {
        let events = self.user_events.range((Bound::Excluded((user, after)), Bound::Included((user, Seq(u64::MAX)))));
        events.take(limit).map(|(_, row)| chain::user_event(row)).collect()
    }

    fn user_check_at(&self, user: UserId, seq: Seq) -> Result<Option<Check>, StorageError> {
        Ok(match seq {
            Seq(0) => self.users.contains_key(&user).then(Check::default),
            seq => self.user_events.get(&(user, seq)).map(|row| row.check),
        })
    }

    fn rooms_of(&self, user: UserId, since: Option<Lsn>) -> Result<Vec<RoomSummary>, StorageError> {
        let mut rooms = Vec::new();
        for room in self.rooms_joined(user)? {
            let Some(row) = self.rooms.get(&room) else { continue };
            let stay = self.joined.get(&(user, room)).copied().unwrap_or_default();
            let mark = self.marks.get(&(user, room)).map_or(Lsn(0), |mark| mark.lsn);
            if since.is_none_or(|since| row.lsn.max(stay).max(mark) > since) {
                rooms.push(self.summary(user, row));
            }
        }
        rooms.sort_by(|a, b| a.name.cmp(&b.name));
        rooms.truncate(limits::JOINED_ROOMS);
        Ok(rooms)
    }

    fn rooms_page(&self, user: UserId, after: Option<&str>, limit: usize) -> Result<Vec<RoomSummary>, StorageError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.names.range::<str, _>((from, Bound::Unbounded)).take(limit);
        Ok(names.filter_map(|(_, room)| self.rooms.get(room)).map(|row| self.summary(user, row)).collect())
    }

    fn room_by_name(&self, name: &str) -> Result<Option<RoomId>, StorageError> {
        Ok(self.names.get(name).copied())
    }

    fn room_summary(&self, user: UserId, room: RoomId) -> Result<Option<RoomSummary>, StorageError> {
        let row = self.rooms.get(&room).filter(|row| row.state == RoomState::Open);
        Ok(row.map(|row| self.summary(user, row)))
    }

    fn member(&self, room: RoomId, user: UserId) -> Result<Option<Membership>, StorageError> {
        let stay = self.stay(room, user)?.filter(|stay| stay.to_seq.is_none());
        Ok(stay.map(|stay| Membership { from_seq: stay.from_seq }))
    }

    fn left_at(&self, room: RoomId, user: UserId) -> Result<Option<Seq>, StorageError> {
        Ok(self.stay(room, user)?.and_then(|stay| stay.to_seq))
    }

    fn members(&self, room: RoomId, after_name: Option<&str>, limit: usize) -> Result<Vec<Person>, StorageError> {
        let start = (room, after_name.unwrap_or("").to_owned());
        let from = if after_name.is_some() { Bound::Excluded(start) } else { Bound::Included(start) };
        let listed = self.listed.range((from, Bound::Unbounded)).take_while(|((of, _), _)| *of == room).take(limit);
        Ok(listed.map(|((_, name), id)| Person { id: *id, name: name.clone() }).collect())
    }

    fn members_among(&self, room: RoomId, people: &[UserId]) -> Result<Vec<Person>, StorageError> {
        let mut among = Vec::new();
        for id in people {
            if self.member(room, *id)?.is_some() {
                among.extend(Reads::user(self, *id)?);
            }
        }
        Ok(among)
    }

    fn member_count(&self, room: RoomId) -> Result<u64, StorageError> {
        Ok(self.rooms.get(&room).map_or(0, |row| row.members))
    }

    fn member_ids(&self, room: RoomId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StorageError> {
        let mut ids: Vec<UserId> = self
            .listed
            .range((room, String::new())..)
            .take_while(|((of, _), _)| *of == room)
            .map(|(_, id)| *id)
            .filter(|id| after.is_none_or(|after| *id > after))
            .collect();
        ids.sort_unstable();
        ids.truncate(limit);
        Ok(ids)
    }

    fn user(&self, user: UserId) -> Result<Option<Person>, StorageError> {
        Ok(self.users.get(&user).map(|row| Person { id: row.id, name: row.name.clone() }))
    }

    fn name_free(&self, skeleton: &str) -> Result<bool, StorageError> {
        Ok(!self.skeletons.contains_key(skeleton))
    }

    fn session(&self, token_hash: &TokenHash) -> Result<Option<SessionRow>, StorageError> {
        Ok(self.sessions.get(token_hash).copied())
    }

    fn first_session_end(&self) -> Result<Option<Timestamp>, StorageError> {
        Ok(self.ends.first().map(|(expires, _)| *expires))
    }
}
