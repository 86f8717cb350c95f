//! How the log is read: one moment of it at a time, in pages.
//!
//! Lives here: [`Reads`], implemented by every backend, and the assembly of pages, written once. Must not live here: SQL.
//! Invariant: no call returns more than its limits of rows and bytes, however large the room; a page that has anything
//! to say holds at least one item, so that paging always moves.

use shared::cursor::{Check, Position};
use shared::ids::{Epoch, Lsn, RoomId, Seq, UserId};
use shared::model::{HistoryPage, Person, Post, Reaction, RoomEvent, RoomSummary, Snapshot, UserEvent};
use shared::planted::{Bug, is_planted};
use shared::time::Timestamp;

use super::record::TokenHash;
use super::tables::StorageError;

/// Where a room stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomHead {
    /// Its last change.
    pub position: Position,
    /// How many posts it has had.
    pub posts: u64,
    /// Its last change in the whole log.
    pub lsn: Lsn,
}

/// That somebody is a member of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Since which change of the room.
    pub from_seq: Seq,
}

/// A session that was opened and not revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Whose.
    pub user: UserId,
    /// When it ends. The log keeps no clock: the caller compares.
    pub expires: Timestamp,
}

/// One moment of the log. Every call on the same value sees the same moment.
pub trait Reads {
    /// Names the log.
    fn epoch(&self) -> Epoch;
    /// Returns the last change in the whole log.
    ///
    /// # Errors
    /// As the storage says; so for every call below.
    fn lsn(&self) -> Result<Lsn, StorageError>;

    /// Returns where a room stands; `None` where there is no such room. An ended room has a head.
    fn head(&self, room: RoomId) -> Result<Option<RoomHead>, StorageError>;
    /// Visits posts with a seq below `before`, newest first, until `visit` says no or `limit` have been shown.
    fn posts_before(
        &self,
        room: RoomId,
        before: Seq,
        limit: usize,
        visit: &mut dyn FnMut(Post) -> bool,
    ) -> Result<(), StorageError>;
    /// Visits events with a seq above `after`, oldest first, until `visit` says no or `limit` have been shown.
    fn events_after(
        &self,
        room: RoomId,
        after: Seq,
        limit: usize,
        visit: &mut dyn FnMut(RoomEvent) -> bool,
    ) -> Result<(), StorageError>;
    /// Returns a room's hash chain at `seq`; all zeros before the first change, `None` beyond the last.
    fn check_at(&self, room: RoomId, seq: Seq) -> Result<Option<Check>, StorageError>;

    /// Returns where a user's own stream stands; `None` where there is no such user.
    fn user_head(&self, user: UserId) -> Result<Option<Position>, StorageError>;
    /// Returns up to `limit` events of a user's own stream with a seq above `after`.
    fn user_events(&self, user: UserId, after: Seq, limit: usize) -> Result<Vec<UserEvent>, StorageError>;
    /// Returns a user's hash chain at `seq`, as [`Reads::check_at`] does.
    fn user_check_at(&self, user: UserId, seq: Seq) -> Result<Option<Check>, StorageError>;

    /// Returns the rooms a user is a member of, by name; with `since`, only those whose head, membership or read
    /// position changed after it. At most [`shared::limits::JOINED_ROOMS`].
    fn rooms_of(&self, user: UserId, since: Option<Lsn>) -> Result<Vec<RoomSummary>, StorageError>;
    /// Returns up to `limit` rooms that have not ended and whose name sorts after `after`, as `user` sees them.
    fn rooms_page(&self, user: UserId, after: Option<&str>, limit: usize) -> Result<Vec<RoomSummary>, StorageError>;
    /// Finds a room that has not ended by its name.
    fn room_by_name(&self, name: &str) -> Result<Option<RoomId>, StorageError>;
    /// Returns one room that has not ended, as `user` sees it.
    fn room_summary(&self, user: UserId, room: RoomId) -> Result<Option<RoomSummary>, StorageError>;

    /// Returns whether, and since when, a user is a member of a room.
    fn member(&self, room: RoomId, user: UserId) -> Result<Option<Membership>, StorageError>;
    /// Returns which change of a room ended the last stay of a user there; `None` for a member, and for whoever never was.
    fn left_at(&self, room: RoomId, user: UserId) -> Result<Option<Seq>, StorageError>;
    /// Returns up to `limit` members whose name sorts after `after_name`, in order of name.
    fn members(&self, room: RoomId, after_name: Option<&str>, limit: usize) -> Result<Vec<Person>, StorageError>;
    /// Returns those of some people who are members, in any order.
    fn members_among(&self, room: RoomId, people: &[UserId]) -> Result<Vec<Person>, StorageError>;
    /// Returns how many members a room has.
    fn member_count(&self, room: RoomId) -> Result<u64, StorageError>;
    /// Returns up to `limit` members' ids above `after`, in order of id.
    fn member_ids(&self, room: RoomId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StorageError>;

    /// Returns somebody under their present name.
    fn user(&self, user: UserId) -> Result<Option<Person>, StorageError>;
    /// Tells whether nobody has a name with this skeleton.
    fn name_free(&self, skeleton: &str) -> Result<bool, StorageError>;
    /// Finds a session by the hash of its token. It may have expired.
    fn session(&self, token_hash: &TokenHash) -> Result<Option<SessionRow>, StorageError>;
    /// Returns when the session that ends first does, or did; `None` where there is no session.
    fn first_session_end(&self) -> Result<Option<Timestamp>, StorageError>;

    /// Returns the newest posts of a room: at most `limit` and at most `max_bytes` as JSON, but at least one if there is
    /// one; `None` where there is no such room.
    fn snapshot(&self, room: RoomId, limit: usize, max_bytes: usize) -> Result<Option<Snapshot>, StorageError> {
        let Some(head) = self.head(room)? else { return Ok(None) };
        let (posts, people) = self.page(room, Seq(u64::MAX), limit, max_bytes)?;
        Ok(Some(Snapshot { as_of: head.position, total: head.posts, posts, people }))
    }

    /// Returns posts with a seq below `before`, the newest of them, within the limits of [`Reads::snapshot`].
    fn history(
        &self,
        room: RoomId,
        before: Seq,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Option<HistoryPage>, StorageError> {
        let Some(head) = self.head(room)? else { return Ok(None) };
        let (mut posts, people) = self.page(room, before, limit, max_bytes)?;
        if is_planted(Bug::PageTorn) && posts.len() > 2 {
            posts.remove(1);
        }
        let earlier = posts.first().map_or(0, |post| post.ordinal.saturating_sub(1));
        Ok(Some(HistoryPage { room, as_of: head.position, posts, people, earlier }))
    }

    /// Returns events with a seq above `after`: at most `limit` and at most `max_bytes` as JSON, but at least one if
    /// there is one.
    fn events(&self, room: RoomId, after: Seq, limit: usize, max_bytes: usize) -> Result<Vec<RoomEvent>, StorageError> {
        let mut events = Vec::new();
        let mut budget = Budget::of(max_bytes);
        self.events_after(room, after, limit, &mut |event| {
            let fits = budget.take(json_bytes(&event)) || events.is_empty();
            if fits {
                events.push(event);
            }
            fits
        })?;
        Ok(events)
    }

    /// Returns the posts before a seq, oldest first, and the people in them. See [`Reads::snapshot`].
    #[doc(hidden)]
    fn page(
        &self,
        room: RoomId,
        before: Seq,
        limit: usize,
        max_bytes: usize,
    ) -> Result<(Vec<Post>, Vec<Person>), StorageError> {
        let mut posts: Vec<Post> = Vec::new();
        let mut people: Vec<Person> = Vec::new();
        let mut budget = Budget::of(max_bytes);
        let mut failed = None;
        self.posts_before(room, before, limit, &mut |post| {
            let mut bytes = json_bytes(&post);
            let mut newcomers: Vec<Person> = Vec::new();
            for id in std::iter::once(post.by).chain(post.reactions.iter().flat_map(|reaction| reaction.by.clone())) {
                if people.iter().chain(&newcomers).any(|person| person.id == id) {
                    continue;
                }
                match self.user(id) {
                    Ok(Some(person)) => newcomers.push(person),
                    Ok(None) => {}
                    Err(error) => {
                        failed = Some(error);
                        return false;
                    }
                }
            }
            let names: usize = newcomers.iter().map(json_bytes).sum();
            bytes += names;
            if budget.take(bytes) {
                people.append(&mut newcomers);
                posts.push(post);
                return true;
            }
            if posts.is_empty() {
                // One post always fits a message (its text and its reactions are bounded); its reactors' names may not.
                let mut left = max_bytes.saturating_sub(bytes - names);
                newcomers.retain(|person| {
                    let size = json_bytes(person);
                    let fits = size <= left;
                    left -= if fits { size } else { 0 };
                    fits
                });
                people = newcomers;
                posts.push(post);
            }
            false
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        posts.reverse();
        Ok((posts, people))
    }
}

/// What is left of a page's bytes.
struct Budget {
    left: usize,
}

impl Budget {
    const fn of(bytes: usize) -> Self {
        Self { left: bytes }
    }

    /// Takes an item's bytes and its comma, if they are there.
    const fn take(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes + 1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                self.left = 0;
                false
            }
        }
    }
}

/// Counts what an item takes as JSON without keeping it.
fn json_bytes<T: serde::Serialize>(item: &T) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, item).expect("our own types are JSON and counting never fails");
    count.0
}

/// Groups reactions, given in order of their places, by emoji.
pub(super) fn gather(all: impl Iterator<Item = (String, UserId)>) -> Vec<Reaction> {
    let mut groups: Vec<Reaction> = Vec::new();
    for (emoji, user) in all {
        match groups.iter_mut().find(|group| group.emoji == emoji) {
            Some(group) => group.by.push(user),
            None => groups.push(Reaction { emoji, by: vec![user] }),
        }
    }
    groups
}
