//! The timeline of one room: a fold of session events into the rows people see.
//!
//! ```text
//!   earlier()        posts before the first row, not loaded
//!   ┌ committed rows, by seq: posts, placeholders, holes between them
//!   ├ my posts that are acknowledged and whose event has not come yet, by seq
//!   └ my posts that are not acknowledged, in the order of the outbox
//! ```
//!
//! Must not live here: sockets, storage, requests; nothing here asks, [`Timeline::needed`] says what to ask for.
//! Invariant: every post of the room up to the last known one is a row, or counted in exactly one hole, or counted in
//! [`Timeline::earlier`]; and no post is two rows. Events of a room come in order, as the session delivers them; snapshots
//! and history pages may come at any moment and any number of times, and the rows are the same.

mod confirmed;
mod local;
mod row;

use std::collections::VecDeque;
use std::sync::Arc;

use self::confirmed::Confirmed;
use self::local::{Local, Touched};
use self::row::{Alter, Change};
pub use self::row::{Hole, PendingChange, PostRow, Row, RowKey, Status, UnknownRow};
use crate::error::WireError;
use crate::ids::{ClientId, Epoch, Seq, UserId};
use crate::message::Ack;
use crate::model::{HistoryPage, OpenOutcome, Opened, Person, Post, RoomChange, RoomEvent, Snapshot};
use crate::planted::{Bug, is_planted};
use crate::session::OutboxItem;
use crate::sorted::{SortedMap, SortedSet};

/// Committed rows one room keeps. Above it, the rows farthest from where the person looks are let go, and are counted as
/// a hole or as earlier posts again.
pub const ROWS_KEPT: usize = 5_000;
/// Changes to posts that are not loaded, kept so that a page read before them can be brought up to date.
pub const CHANGES_KEPT: usize = 1_024;
/// Names one room remembers before it forgets those of people who wrote none of its rows.
pub const NAMES_KEPT: usize = 20_000;

/// The rows of one room. A copy shares what is large, so that a page may keep the one it has drawn.
#[derive(Clone, Debug)]
pub struct Timeline {
    me: UserId,
    rows_kept: usize,
    epoch: Option<Epoch>,
    confirmed: Confirmed,
    local: Local,
    /// Every change after this one has been seen: a post as it stood then or later can be brought up to date.
    seen_since: Seq,
    /// Changes after `seen_since` to posts that were not loaded, or stale, when they came; oldest first.
    changes: Arc<VecDeque<Change>>,
    /// Names, and the seq they were first told at.
    names: Arc<SortedMap<UserId, (Seq, Arc<str>)>>,
    /// The server shows nothing before this seq.
    floor: Seq,
    /// The oldest row the person looks at; absent while they follow the end.
    looking_at: Option<Seq>,
    version: u64,
}

impl Timeline {
    /// Makes the empty timeline of a room, as `me` sees it.
    #[must_use]
    pub fn new(me: UserId) -> Self {
        Self::keeping(me, ROWS_KEPT)
    }

    /// Makes an empty timeline that keeps another number of committed rows.
    #[must_use]
    pub fn keeping(me: UserId, rows_kept: usize) -> Self {
        Self {
            me,
            rows_kept,
            epoch: None,
            confirmed: Confirmed::default(),
            local: Local::default(),
            seen_since: Seq(0),
            changes: Arc::default(),
            names: Arc::default(),
            floor: Seq(0),
            looking_at: None,
            version: 0,
        }
    }

    // What is shown.

    /// Returns a number that grows whenever anything shown changes.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Returns how many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.confirmed.len() + self.local.len()
    }

    /// Tells whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a row by its place in the list.
    #[must_use]
    pub fn row(&self, index: usize) -> Option<Row> {
        match index.checked_sub(self.confirmed.len()) {
            None => self.confirmed.row(index).cloned(),
            Some(index) => self.local.row(index).map(|row| Row::Post(Arc::clone(row))),
        }
    }

    /// Returns what a row is known by, by its place in the list.
    #[must_use]
    pub fn key(&self, index: usize) -> Option<RowKey> {
        match index.checked_sub(self.confirmed.len()) {
            None => self.confirmed.row(index).map(Row::key),
            Some(index) => self.local.row(index).map(|row| row.key),
        }
    }

    /// Iterates over all rows, in order.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        (0..self.len()).filter_map(|index| self.row(index))
    }

    /// Returns the place of a row in the list.
    #[must_use]
    pub fn index_of(&self, key: RowKey) -> Option<usize> {
        let local = || self.local.index_of(key).map(|index| self.confirmed.len() + index);
        self.confirmed.index_of(key).or_else(local)
    }

    /// Returns the place in the list of the first committed row at or after a seq.
    #[must_use]
    pub fn index_at(&self, seq: Seq) -> usize {
        self.confirmed.index_at(seq)
    }

    /// Returns the row of a committed post, where it is loaded; also of one of mine whose event has not come yet.
    #[must_use]
    pub fn post(&self, seq: Seq) -> Option<&Arc<PostRow>> {
        self.confirmed.post(seq).or_else(|| self.local.landed(seq))
    }

    /// Returns how many posts lie before the first row and can be loaded.
    #[must_use]
    pub fn earlier(&self) -> u64 {
        match self.confirmed.first().unwrap_or(self.confirmed.head().next()) {
            first if first <= self.floor => 0,
            _ => self.confirmed.earlier(),
        }
    }

    /// Returns the seq of the last change known of.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.confirmed.head()
    }

    /// Returns the name somebody goes by, as far as this room has told it.
    #[must_use]
    pub fn name_of(&self, user: UserId) -> Option<&str> {
        self.names.get(&user).map(|(_, name)| &**name)
    }

    /// Says which history the rows from `first` up to `last` (excluded) need: the `before` of the request that fills the
    /// lowest hole among them, else refreshes stale posts, else loads what lies before the first row. A hole in the lower
    /// half is filled from above, since whoever sees it there reads downwards; any other from below.
    #[must_use]
    pub fn needed(&self, first: usize, last: usize) -> Option<Seq> {
        let middle = first + last.saturating_sub(first) / 2;
        let rows = (first..last.min(self.confirmed.len())).rev();
        let mut stale = None;
        for (index, row) in rows.filter_map(|index| Some((index, self.confirmed.row(index)?))) {
            match row {
                Row::Hole(hole) if hole.before > self.floor && index > middle => return Some(hole.before_from_above()),
                Row::Hole(hole) if hole.before > self.floor => return Some(hole.before),
                Row::Post(post) if post.stale => stale = stale.or(post.seq.map(Seq::next)),
                Row::Hole(_) | Row::Post(_) | Row::Unknown(_) => {}
            }
        }
        let earlier = || {
            let before = self.confirmed.first().unwrap_or(self.confirmed.head().next());
            (first == 0 && self.earlier() > 0).then_some(before)
        };
        stale.filter(|before| *before > self.floor).or_else(earlier)
    }

    /// Tells the timeline where the person looks, so that rows there are the last to be let go: the oldest row on the
    /// screen, or nothing while they follow the end.
    pub fn look_at(&mut self, oldest_shown: Option<Seq>) {
        self.looking_at = oldest_shown;
    }

    // What the server tells.

    /// Takes in what became of opening the room.
    pub fn opened(&mut self, opened: &Opened) {
        match &opened.outcome {
            OpenOutcome::Recovered { .. } | OpenOutcome::Refused { .. } => {}
            OpenOutcome::Jumped { snapshot, .. } => self.snapshot(snapshot),
            OpenOutcome::Fresh { snapshot } => {
                // No cursor was compared: nothing says that what is shown here is of the same history.
                if self.confirmed.head() > Seq(0) {
                    self.forget_committed();
                }
                self.snapshot(snapshot);
            }
            OpenOutcome::Reset { snapshot, .. } => {
                self.forget_committed();
                self.snapshot(snapshot);
            }
        }
        self.version += 1;
    }

    fn forget_committed(&mut self) {
        self.confirmed = Confirmed::default();
        self.local.forget_acknowledged();
        self.seen_since = Seq(0);
        self.changes = Arc::default();
        let my_name = self.names.get(&self.me).map(|(_, name)| (self.me, (Seq(0), Arc::clone(name))));
        self.names = Arc::new(my_name.into_iter().collect());
        self.floor = Seq(0);
        self.looking_at = None;
    }

    fn snapshot(&mut self, snapshot: &Snapshot) {
        let as_of = snapshot.as_of.seq;
        self.epoch = Some(snapshot.as_of.epoch);
        if as_of > self.confirmed.head() {
            self.missed_up_to(as_of);
        }
        self.meet(&snapshot.people, as_of);
        for post in &snapshot.posts {
            self.take(post, as_of);
        }
        self.reach(as_of, snapshot.total);
        self.let_go();
    }

    /// Takes in a change of the room. Events come in order; one that came before does nothing.
    pub fn event(&mut self, event: &RoomEvent) {
        let head = self.confirmed.head();
        if event.seq > head.next() {
            self.missed_up_to(Seq(event.seq.0 - 1));
        }
        self.meet(std::slice::from_ref(&event.by), event.seq);
        if let Some((post, what)) = Alter::of(&event.change) {
            self.alter(Change { seq: event.seq, post, by: event.by.id, ts: event.ts, what });
        } else if let RoomChange::Posted(posted) = &event.change {
            let post = Post {
                seq: event.seq,
                rev: event.seq,
                ordinal: event.posts,
                by: event.by.id,
                client_id: posted.client_id,
                ts: event.ts,
                body: posted.body.clone(),
                edited: None,
                reactions: Vec::new(),
            };
            self.take(&post, event.seq);
        } else if let RoomChange::Unknown(unknown) = &event.change
            && event.seq > head
        {
            let row = UnknownRow { seq: event.seq, kind: unknown.kind.clone(), by: event.by.id, ts: event.ts };
            self.confirmed.put(event.seq, event.posts, Row::Unknown(Arc::new(row)));
        }
        self.reach(event.seq, event.posts);
        self.let_go();
        self.version += 1;
    }

    /// Takes in a page of older posts that was asked for with `before`. What it tells from there on, or beyond the last
    /// known change, is left out: that comes as an event, and until then would stand above what was acknowledged before it.
    pub fn history(&mut self, page: &HistoryPage, before: Seq) {
        if self.epoch.is_some_and(|epoch| epoch != page.as_of.epoch) {
            return;
        }
        let was_first = self.confirmed.first();
        let before = before.min(self.confirmed.head().next());
        self.meet(&page.people, page.as_of.seq);
        for post in page.posts.iter().filter(|post| post.seq < before) {
            self.take(post, page.as_of.seq);
        }
        self.confirmed.told_before(before);
        let first = page.posts.first().map_or(before, |post| post.seq.min(before));
        if page.earlier == 0 {
            self.floor = self.floor.max(first);
        }
        if self.looking_at.is_none() || was_first.is_none_or(|seq| first < seq) {
            // Whoever asked for it looks there.
            self.looking_at = Some(first);
        }
        self.let_go();
        self.version += 1;
    }

    // What the person does.

    /// Shows an item of the outbox, new or found on the device; or takes over that it will be tried again.
    pub fn queued(&mut self, item: &OutboxItem) {
        let key = RowKey::Post { by: self.me, client_id: item.client_id };
        if self.confirmed.index_of(key).is_none() {
            let name = self.known_name(self.me);
            let touched = self.local.queue(item, self.me, name);
            self.touched(touched);
        }
    }

    /// Notes that an item is on the device for good.
    pub fn saved(&mut self, client_id: ClientId) {
        let touched = self.local.saved(client_id);
        self.touched(touched);
    }

    /// Notes that the device has lost everything that was there for good.
    pub fn erased(&mut self) {
        self.local.erased();
        self.version += 1;
    }

    /// Notes that an item was written to a socket.
    pub fn sending(&mut self, client_id: ClientId) {
        let touched = self.local.sending(client_id);
        self.touched(touched);
    }

    /// Notes that an item's connection was lost before its answer came: it waits to be sent again.
    pub fn interrupted(&mut self, client_id: ClientId) {
        let touched = self.local.interrupted(client_id);
        self.touched(touched);
    }

    /// Notes that an item is committed; a post takes its place by seq.
    pub fn acked(&mut self, ack: &Ack) {
        let touched = self.local.acked(ack, self.confirmed.head());
        self.touched(touched);
    }

    /// Notes that an item was refused for good.
    pub fn refused(&mut self, client_id: ClientId, error: &WireError) {
        let touched = self.local.refused(client_id, error);
        self.touched(touched);
    }

    /// Forgets an item that was taken back or thrown away.
    pub fn discarded(&mut self, client_id: ClientId) {
        let touched = self.local.discard(client_id);
        self.touched(touched);
    }

    /// Notes the name I go by, before this room has told it.
    pub fn call_me(&mut self, name: &str) {
        let me = Person { id: self.me, name: name.to_owned() };
        self.meet(&[me], self.confirmed.head());
        self.version += 1;
    }

    // How it is done.

    fn touched(&mut self, touched: Touched) {
        match touched {
            Touched::Nothing => return,
            Touched::Own => {}
            Touched::Post(post) => self.show_pending(post),
        }
        self.version += 1;
    }

    fn show_pending(&mut self, seq: Seq) {
        if let Some(row) = self.confirmed.post_mut(seq) {
            row.pending = self.local.pending(seq, row.client_id);
        }
    }

    /// Takes in a post as it stood at `as_of`, and brings it up to date.
    fn take(&mut self, post: &Post, as_of: Seq) {
        let stale = as_of < self.seen_since;
        if let Some(row) = self.confirmed.post(post.seq)
            && row.rev >= post.rev
            && (stale || !row.stale)
        {
            return;
        }
        let mut row = PostRow::confirmed(post, self.me, self.known_name(post.by), stale);
        for change in self.changes.iter().filter(|change| change.post == post.seq) {
            row.apply(change);
        }
        row.pending = self.local.pending(post.seq, post.client_id);
        self.local.came_back(row.key);
        self.confirmed.put(post.seq, post.ordinal, Row::Post(Arc::new(row)));
    }

    /// Changes a post, and remembers the change if the post is not here to keep it.
    fn alter(&mut self, change: Change) {
        let row = self.confirmed.post(change.post);
        let keeps_it = row.is_some_and(|row| !row.stale);
        if row.is_some_and(|row| change.seq > row.rev)
            && let Some(row) = self.confirmed.post_mut(change.post)
        {
            row.apply(&change);
        }
        let newest = self.changes.back().map_or(self.seen_since, |newest| newest.seq);
        if !keeps_it && change.seq > newest {
            let changes = Arc::make_mut(&mut self.changes);
            if changes.len() == CHANGES_KEPT
                && let Some(oldest) = changes.pop_front()
            {
                self.seen_since = self.seen_since.max(oldest.seq);
            }
            changes.push_back(change);
        }
    }

    /// Notes that changes up to `seq` were never seen: what is loaded may be out of date.
    fn missed_up_to(&mut self, seq: Seq) {
        self.seen_since = self.seen_since.max(seq);
        self.changes = Arc::default();
        self.confirmed.change_posts(|row| !row.stale, |row| row.stale = true);
    }

    fn reach(&mut self, seq: Seq, total: u64) {
        self.confirmed.reach(seq, total);
        if !self.local.is_settled() {
            for post in self.local.reached(self.confirmed.head()) {
                self.show_pending(post);
            }
        }
    }

    fn known_name(&self, user: UserId) -> Arc<str> {
        self.names.get(&user).map_or_else(|| Arc::from(""), |(_, name)| Arc::clone(name))
    }

    /// Learns names as they were at a seq; a later name wins, and every row of that person takes it over.
    fn meet(&mut self, people: &[Person], at: Seq) {
        for person in people {
            let known = self.names.get(&person.id);
            let is_kept = known.is_some() && is_planted(Bug::NameKept);
            if is_kept || known.is_some_and(|(told, name)| *told > at || **name == *person.name) {
                continue;
            }
            let name: Arc<str> = Arc::from(person.name.as_str());
            Arc::make_mut(&mut self.names).insert(person.id, (at, Arc::clone(&name)));
            self.confirmed.change_posts(|row| row.by == person.id, |row| row.name = Arc::clone(&name));
            if person.id == self.me {
                self.local.rename(&name);
            }
        }
        if self.names.len() > NAMES_KEPT {
            self.forget_names();
        }
    }

    fn forget_names(&mut self) {
        let authors = self.rows().filter_map(|row| row.as_post().map(|post| post.by));
        let needed: SortedSet<UserId> = authors.chain([self.me]).collect();
        Arc::make_mut(&mut self.names).retain(|user, _| needed.contains(user));
    }

    /// Keeps the number of committed rows bounded. The oldest go first; where the person looks at old ones, those stay
    /// with their surroundings, and what lies between them and the newest becomes a hole.
    fn let_go(&mut self) {
        let slack = self.rows_kept / 20;
        if self.confirmed.len() <= self.rows_kept + slack {
            return;
        }
        let around = self.rows_kept / 5;
        let over = |timeline: &Self| timeline.confirmed.len().saturating_sub(timeline.rows_kept);
        let looked_at = self.looking_at.map(|seq| self.confirmed.index_at(seq));
        let from_top = looked_at.map_or(usize::MAX, |index| index.saturating_sub(around)).min(over(self));
        self.take_away(0..from_top);
        let too_many = over(self);
        if let Some(index) = looked_at.filter(|_| too_many > 0) {
            let start = index - from_top + around;
            let end = (start + too_many).min(self.confirmed.len().saturating_sub(around));
            if start < end {
                self.take_away(start..end);
            }
        }
    }

    fn take_away(&mut self, range: std::ops::Range<usize>) {
        if !range.is_empty() {
            // A page read before the last change of a row that is gone would bring it back as it was.
            let last_change = self.confirmed.take_away(range);
            self.seen_since = self.seen_since.max(last_change);
        }
    }
}
