//! The people of one room: who is a member, who is here, who is writing.
//!
//! Lives here: the fold of the roster told at opening, membership changes, presence and typing. Must not live here:
//! reading positions, or people of other rooms. Invariant: the list is always in order, those here first and then by
//! name, and holds nobody twice; and a membership change that the roster already included is not counted again.

use std::sync::Arc;

use crate::ids::{Seq, UserId};
use crate::message::{PeopleList, TYPING_SHOWN_MS, TypingNow};
use crate::model::{Member, OpenOutcome, Opened, RoomChange, RoomEvent};
use crate::sorted::SortedMap;
use crate::time::Timestamp;

/// Members one room lists. Of a larger room it lists the first it was told of, and counts the rest.
pub const PEOPLE_KEPT: usize = 5_000;
/// People shown as writing at once; further ones are not remembered.
pub const TYPING_KEPT: usize = 32;

/// What the list is ordered by: those here first, then by name as people compare names, then by id.
type Place = (bool, String, UserId);

/// The people of one room.
#[derive(Clone, Debug)]
pub struct Roster {
    me: UserId,
    /// Writes a name as it is compared.
    fold: fn(&str) -> String,
    list: Vec<(Place, Arc<Member>)>,
    places: SortedMap<UserId, Place>,
    members: u64,
    /// Membership changes up to here are in the list.
    as_of: Seq,
    typing: SortedMap<UserId, (Timestamp, Arc<str>)>,
    version: u64,
}

impl Roster {
    /// Makes the empty roster of a room, as `me` sees it. Names are compared as `fold` writes them, in lower case.
    #[must_use]
    pub fn new(me: UserId, fold: fn(&str) -> String) -> Self {
        Self {
            me,
            fold,
            list: Vec::new(),
            places: SortedMap::default(),
            members: 0,
            as_of: Seq(0),
            typing: SortedMap::default(),
            version: 0,
        }
    }

    /// Returns a number that grows whenever anything shown changes, but for typing that only runs out.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Returns how many members the room has, listed or not.
    #[must_use]
    pub const fn members(&self) -> u64 {
        self.members
    }

    /// Returns how many members are listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Tells whether nobody is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns a listed member by place.
    #[must_use]
    pub fn member(&self, index: usize) -> Option<&Arc<Member>> {
        self.list.get(index).map(|(_, member)| member)
    }

    /// Iterates over the listed members: those here first, then by name.
    pub fn people(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.list.iter().map(|(_, member)| member)
    }

    /// Finds a listed member.
    #[must_use]
    pub fn find(&self, user: UserId) -> Option<&Arc<Member>> {
        let place = self.places.get(&user)?;
        self.list.binary_search_by(|(other, _)| other.cmp(place)).ok().map(|index| &self.list[index].1)
    }

    /// Returns how many of the listed members are here.
    #[must_use]
    pub fn online(&self) -> usize {
        self.list.partition_point(|((away, ..), _)| !away)
    }

    /// Takes in what became of opening the room: its roster replaces what was known.
    pub fn opened(&mut self, opened: &Opened) {
        self.as_of = match &opened.outcome {
            OpenOutcome::Recovered { head, .. } => *head,
            OpenOutcome::Fresh { snapshot }
            | OpenOutcome::Jumped { snapshot, .. }
            | OpenOutcome::Reset { snapshot, .. } => snapshot.as_of.seq,
            OpenOutcome::Refused { .. } => return,
        };
        self.list.clear();
        self.places.clear();
        self.typing.clear();
        for member in &opened.roster {
            self.put(member.clone());
        }
        self.members = opened.members.max(self.list.len() as u64);
        self.version += 1;
    }

    /// Takes in a page of members.
    pub fn page(&mut self, page: &PeopleList) {
        for member in &page.people {
            self.put(member.clone());
        }
        self.members = self.members.max(self.list.len() as u64);
        self.version += 1;
    }

    /// Takes in a change of the room. One that the roster already includes does nothing.
    pub fn event(&mut self, event: &RoomEvent) {
        match &event.change {
            RoomChange::Posted(_) => self.stopped_typing(event.by.id),
            RoomChange::Joined(_) if event.seq > self.as_of => self.joined(event),
            RoomChange::Left(_) if event.seq > self.as_of => self.left(event.by.id),
            RoomChange::Kicked(kicked) if event.seq > self.as_of => self.left(kicked.user.id),
            RoomChange::Renamed(_) => self.renamed(event.by.id, &event.by.name),
            RoomChange::Joined(_)
            | RoomChange::Left(_)
            | RoomChange::Kicked(_)
            | RoomChange::Edited(_)
            | RoomChange::Deleted(_)
            | RoomChange::Reacted(_)
            | RoomChange::Created(_)
            | RoomChange::Set(_)
            | RoomChange::Ended(_)
            | RoomChange::Unknown(_) => {}
        }
        self.as_of = self.as_of.max(event.seq);
    }

    /// Takes in who came or went. People who are not listed here are somebody else's business.
    pub fn presence(&mut self, changes: &[Member]) {
        for change in changes {
            let known = self.find(change.id).is_some_and(|member| **member != *change);
            if known {
                self.put(change.clone());
                self.version += 1;
            }
            if !change.online {
                self.stopped_typing(change.id);
            }
        }
    }

    /// Takes in that somebody is writing.
    pub fn typing(&mut self, typing: &TypingNow, now: Timestamp) {
        self.typing.retain(|_, (until, _)| *until > now);
        let known = self.typing.contains_key(&typing.user.id);
        if typing.user.id != self.me && (known || self.typing.len() < TYPING_KEPT) {
            let shown_until = now.plus(TYPING_SHOWN_MS);
            self.typing.insert(typing.user.id, (shown_until, Arc::from(typing.user.name.as_str())));
            self.version += u64::from(!known);
        }
    }

    /// Iterates over the names of those who are writing now.
    pub fn writing(&self, now: Timestamp) -> impl Iterator<Item = &Arc<str>> {
        self.typing.values().filter(move |(until, _)| *until > now).map(|(_, name)| name)
    }

    /// Says when the next of those who are writing is no longer shown.
    #[must_use]
    pub fn next_deadline(&self, now: Timestamp) -> Option<Timestamp> {
        self.typing.values().map(|(until, _)| *until).filter(|until| *until > now).min()
    }

    fn joined(&mut self, event: &RoomEvent) {
        // Whoever joins is here; presence says so only of those one could see before.
        let member = Member { id: event.by.id, name: event.by.name.clone(), online: true };
        if !self.places.contains_key(&member.id) {
            self.members = self.members.saturating_add(1);
        }
        self.put(member);
        self.version += 1;
    }

    fn left(&mut self, user: UserId) {
        self.members = self.members.saturating_sub(1);
        self.remove(user);
        self.stopped_typing(user);
        self.version += 1;
    }

    fn renamed(&mut self, user: UserId, name: &str) {
        if let Some(member) = self.find(user).filter(|member| member.name != name) {
            let member = Member { name: name.to_owned(), ..(**member).clone() };
            self.put(member);
            self.version += 1;
        }
        if let Some((_, shown)) = self.typing.get_mut(&user) {
            *shown = Arc::from(name);
        }
    }

    fn stopped_typing(&mut self, user: UserId) {
        if self.typing.remove(&user).is_some() {
            self.version += 1;
        }
    }

    fn put(&mut self, member: Member) {
        self.remove(member.id);
        if self.list.len() < PEOPLE_KEPT {
            let place = (!member.online, (self.fold)(&member.name), member.id);
            let index = self.list.partition_point(|(other, _)| *other < place);
            self.places.insert(member.id, place.clone());
            self.list.insert(index, (place, Arc::new(member)));
        }
    }

    fn remove(&mut self, user: UserId) {
        if let Some(place) = self.places.remove(&user)
            && let Ok(index) = self.list.binary_search_by(|(other, _)| other.cmp(&place))
        {
            self.list.remove(index);
        }
    }
}
