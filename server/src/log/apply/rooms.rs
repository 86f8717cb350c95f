//! What becomes of requests about rooms and about who is in them.
//!
//! Must not live here: what becomes of posts. Invariant: as of all of [`apply`](super): checked first, written after.

use shared::cursor::Check;
use shared::error::ErrorCode;
use shared::ids::{RoomId, Seq, UserId};
use shared::limits;
use shared::model::{Empty, Kicked, Person, RoomAdded, RoomChange, RoomRemoved, RoomTitle, UserChange};
use shared::time::Timestamp;

use super::{Stop, Turn, refuse};
use crate::log::record::{Receipt, SYSTEM};
use crate::log::tables::{MemberRow, ReadRow, RoomRow, RoomState, UserRow};

/// Members whose stays one turn of ending a room closes.
const MEMBERS_AT_ONCE: usize = 1_000;

impl Turn<'_> {
    pub(super) fn room_create(&mut self, room: RoomId, name: &str, title: &str) -> Result<Receipt, Stop> {
        let mut author = self.author()?;
        if self.tables.room_by_name(name)?.is_some() {
            return refuse(ErrorCode::NameTaken, "There is a room of this name. Join it, or choose another name.");
        }
        if self.tables.room(room)?.is_some() {
            return refuse(ErrorCode::IdConflict, "There is a room with this id. Ask again with another.");
        }
        self.check_joined(&author)?;
        let mut row = RoomRow {
            id: room,
            name: name.to_owned(),
            title: title.to_owned(),
            maker: author.id,
            state: RoomState::Open,
            seq: Seq(0),
            check: Check::default(),
            posts: 0,
            members: 0,
            last_ts: Timestamp(0),
            lsn: self.lsn,
        };
        let created = RoomTitle { name: name.to_owned(), title: title.to_owned() };
        let receipt = self.append(&mut row, &author, RoomChange::Created(created))?;
        if author.id != SYSTEM {
            self.enter(&mut row, &mut author)?;
        }
        Ok(receipt)
    }

    pub(super) fn room_set(&mut self, room: RoomId, name: &str, title: &str) -> Result<Receipt, Stop> {
        let (author, mut row) = self.as_maker(room)?;
        if self.tables.room_by_name(name)?.is_some_and(|holder| holder != room) {
            return refuse(ErrorCode::NameTaken, "There is a room of this name. Choose another name.");
        }
        name.clone_into(&mut row.name);
        title.clone_into(&mut row.title);
        let set = RoomTitle { name: name.to_owned(), title: title.to_owned() };
        self.append(&mut row, &author, RoomChange::Set(set))
    }

    pub(super) fn room_delete(&mut self, room: RoomId) -> Result<Receipt, Stop> {
        let (author, mut row) = self.as_maker(room)?;
        row.state = RoomState::Ended;
        row.members = 0;
        let receipt = self.append(&mut row, &author, RoomChange::Ended(Empty {}))?;
        let mut after = None;
        loop {
            let members = self.tables.members_of(room, after, MEMBERS_AT_ONCE)?;
            let Some(last) = members.last() else { return Ok(receipt) };
            after = Some(*last);
            for member in members {
                self.close_stay(room, member, receipt.seq)?;
            }
        }
    }

    pub(super) fn join(&mut self, room: RoomId) -> Result<Receipt, Stop> {
        let mut author = self.author()?;
        let mut row = self.open_room(room)?;
        if let Some(stay) = self.present_stay(room, author.id)? {
            return Ok(Receipt { room: Some(room), seq: stay.from_seq, ts: row.last_ts });
        }
        if author.id == SYSTEM {
            return refuse(ErrorCode::Forbidden, "The server is a member of no room.");
        }
        self.check_joined(&author)?;
        self.enter(&mut row, &mut author)
    }

    fn check_joined(&self, user: &UserRow) -> Result<(), Stop> {
        if self.tables.rooms_joined(user.id)?.len() >= limits::JOINED_ROOMS {
            return refuse(
                ErrorCode::LimitReached,
                "You are a member of as many rooms as you can be. Leave one first.",
            );
        }
        Ok(())
    }

    fn enter(&mut self, room: &mut RoomRow, user: &mut UserRow) -> Result<Receipt, Stop> {
        room.members += 1;
        let receipt = self.append(room, user, RoomChange::Joined(Empty {}))?;
        let stay = MemberRow { room: room.id, user: user.id, from_seq: receipt.seq, to_seq: None, lsn: self.lsn };
        self.tables.put_stay(&stay, &user.name)?;
        self.tables.put_read_mark(user.id, room.id, ReadRow { posts: room.posts, lsn: self.lsn })?;
        let added = RoomAdded {
            room: room.id,
            name: room.name.clone(),
            title: room.title.clone(),
            from: receipt.seq,
            posts: room.posts,
        };
        self.append_user(user, UserChange::RoomAdded(added))?;
        Ok(receipt)
    }

    pub(super) fn leave(&mut self, room: RoomId) -> Result<Receipt, Stop> {
        let (author, mut row) = self.as_member(room)?;
        row.members = row.members.saturating_sub(1);
        let receipt = self.append(&mut row, &author, RoomChange::Left(Empty {}))?;
        self.close_stay(room, author.id, receipt.seq)?;
        Ok(receipt)
    }

    pub(super) fn kick(&mut self, room: RoomId, user: UserId) -> Result<Receipt, Stop> {
        let (author, mut row) = self.as_maker(room)?;
        let (Some(_), Some(kicked)) = (self.present_stay(room, user)?, self.tables.user(user)?) else {
            return refuse(ErrorCode::NotFound, "There is no such member.");
        };
        if user == author.id {
            return refuse(ErrorCode::Forbidden, "Leave the room instead.");
        }
        row.members = row.members.saturating_sub(1);
        let person = Person { id: kicked.id, name: kicked.name };
        let receipt = self.append(&mut row, &author, RoomChange::Kicked(Kicked { user: person }))?;
        self.close_stay(room, user, receipt.seq)?;
        Ok(receipt)
    }

    /// Ends somebody's stay at a seq and tells their own stream.
    fn close_stay(&mut self, room: RoomId, user: UserId, at: Seq) -> Result<(), Stop> {
        let (Some(mut stay), Some(mut row)) = (self.present_stay(room, user)?, self.tables.user(user)?) else {
            return Ok(());
        };
        stay.to_seq = Some(at);
        stay.lsn = self.lsn;
        self.tables.put_stay(&stay, &row.name)?;
        self.append_user(&mut row, UserChange::RoomRemoved(RoomRemoved { room }))?;
        Ok(())
    }
}
