//! What a list shows: a row is a post, a hole, or a placeholder for a change this version does not know.
//!
//! Lives here: the rows themselves and how one change alters one post. Must not live here: which rows there are and in
//! which order ([`super::Timeline`]). Invariant: a row that did not change stays the same allocation, so that a page
//! finds out by comparing pointers.

use crate::planted::{Bug, is_planted};
use std::fmt;
use std::sync::Arc;

use crate::error::WireError;
use crate::ids::{ClientId, Seq, UserId};
use crate::model::{Post, PostRef, Reaction, RoomChange};
use crate::session::SendOp;
use crate::time::Timestamp;

/// One row of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A post.
    Post(Arc<PostRow>),
    /// Posts that exist and are not here.
    Hole(Hole),
    /// A change of a newer server.
    Unknown(Arc<UnknownRow>),
}

impl Row {
    /// Returns what the row is known by as long as it exists.
    #[must_use]
    pub fn key(&self) -> RowKey {
        match self {
            Self::Post(post) => post.key,
            Self::Hole(hole) => RowKey::Hole { after: hole.after },
            Self::Unknown(unknown) => RowKey::Unknown { seq: unknown.seq },
        }
    }

    /// Tells whether this is the row known by `key`.
    #[must_use]
    pub fn is(&self, key: RowKey) -> bool {
        match self {
            Self::Post(post) => post.key == key,
            Self::Hole(_) | Self::Unknown(_) => self.key() == key,
        }
    }

    /// Returns the post, where the row is one.
    #[must_use]
    pub fn as_post(&self) -> Option<&Arc<PostRow>> {
        match self {
            Self::Post(post) => Some(post),
            Self::Hole(_) | Self::Unknown(_) => None,
        }
    }
}

/// What a row is known by. It never changes: not on the acknowledgement, not on an edit, not when a hole fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// A post: two people may have made the same [`ClientId`], one person cannot.
    Post {
        /// Its author.
        by: UserId,
        /// The key its author sent it under.
        client_id: ClientId,
    },
    /// The hole that begins after this seq.
    Hole {
        /// The last change before it.
        after: Seq,
    },
    /// The unknown change at this seq.
    Unknown {
        /// Its place.
        seq: Seq,
    },
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Post { by, client_id } => write!(f, "{client_id}-{by}"),
            Self::Hole { after } => write!(f, "hole-{after}"),
            Self::Unknown { seq } => write!(f, "unknown-{seq}"),
        }
    }
}

/// A post as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostRow {
    /// What the row is known by.
    pub key: RowKey,
    /// The key its author sent it under.
    pub client_id: ClientId,
    /// Its place in the room; absent until it is committed.
    pub seq: Option<Seq>,
    /// The seq of its last change; zero until the room's events have reached it.
    pub rev: Seq,
    /// How many posts the room had when this one came, itself included; absent until the room's events have reached it.
    pub ordinal: Option<u64>,
    /// Its author.
    pub by: UserId,
    /// The name the author goes by now.
    pub name: Arc<str>,
    /// When the server took it; until then, when it was queued.
    pub ts: Timestamp,
    /// The text; absent once deleted.
    pub body: Option<Arc<str>>,
    /// When it was last edited.
    pub edited: Option<Timestamp>,
    /// Who reacted with what, in the order the first of each came.
    pub reactions: Vec<Reaction>,
    /// How far it has come.
    pub status: Status,
    /// Not committed, and on this device for good, however far it has come.
    pub is_saved: bool,
    /// I wrote it.
    pub mine: bool,
    /// Changes may have been missed while this client was far behind; [`super::Timeline::needed`] says how to refresh it.
    pub stale: bool,
    /// Changes of mine that are on their way. The row shows what is committed; these say what is being saved.
    pub pending: Vec<PendingChange>,
}

/// How far a post or a change of mine has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// In memory only.
    Queued,
    /// On this device for good.
    Saved,
    /// Written to a socket; the outcome is unknown.
    Sending,
    /// The connection was lost before the answer came: the outcome is unknown, and it is sent again under the same key.
    Interrupted,
    /// Committed by the server.
    Sent,
    /// Refused by the server for good.
    Refused(WireError),
}

/// An edit, a deletion or a reaction of mine that is not in the row yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingChange {
    /// The key it is sent under.
    pub client_id: ClientId,
    /// What it does.
    pub op: SendOp,
    /// How far it has come.
    pub status: Status,
}

/// Posts that exist and are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The last change shown before it.
    pub after: Seq,
    /// The first change shown after it. A history page before this seq fills the hole from below.
    pub before: Seq,
    /// How many posts are missing, exactly.
    pub missing: u64,
    /// None of them lies up to this seq, as far as pages have told.
    pub empty_to: Seq,
}

impl Hole {
    /// Returns the `before` of the history page that fills the hole from above, for somebody who reads downwards.
    #[must_use]
    pub fn before_from_above(&self) -> Seq {
        let page = crate::limits::PAGE_POSTS as u64;
        Seq(self.empty_to.0.saturating_add(page + 1)).min(self.before)
    }
}

/// A change of a newer server: its place is kept, its meaning is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRow {
    /// Its place.
    pub seq: Seq,
    /// What the newer server calls it.
    pub kind: String,
    /// Who did it.
    pub by: UserId,
    /// When.
    pub ts: Timestamp,
}

impl PostRow {
    /// Names the post, so that no other can be meant; absent until it is committed.
    #[must_use]
    pub fn named(&self) -> Option<PostRef> {
        self.seq.map(|seq| PostRef { seq, client_id: Some(self.client_id) })
    }

    /// Makes the row of a post as the server tells it.
    pub(super) fn confirmed(post: &Post, me: UserId, name: Arc<str>, stale: bool) -> Self {
        Self {
            key: RowKey::Post { by: post.by, client_id: post.client_id },
            client_id: post.client_id,
            seq: Some(post.seq),
            rev: post.rev,
            ordinal: Some(post.ordinal),
            by: post.by,
            name,
            ts: post.ts,
            body: post.body.as_deref().map(Arc::from),
            edited: post.edited.filter(|_| post.body.is_some()),
            reactions: if post.body.is_some() { post.reactions.clone() } else { Vec::new() },
            status: Status::Sent,
            is_saved: false,
            mine: post.by == me,
            stale,
            pending: Vec::new(),
        }
    }

    /// Tells whether the text is gone.
    #[must_use]
    pub const fn is_deleted(&self) -> bool {
        self.body.is_none()
    }

    /// Applies a change to this post, unless it is in it already. Tells whether anything changed.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        if change.seq <= self.rev {
            return false;
        }
        self.rev = change.seq;
        match &change.what {
            Alter::Edit(body) => {
                self.body = body.as_deref().map(Arc::from);
                self.edited = Some(change.ts);
            }
            Alter::Delete => {
                self.body = None;
                self.edited = None;
                self.reactions.clear();
            }
            Alter::React { emoji, on } => react(&mut self.reactions, emoji, change.by, *on),
        }
        true
    }
}

/// Adds or takes back one reaction. An emoji keeps its place until nobody is left under it.
fn react(reactions: &mut Vec<Reaction>, emoji: &str, by: UserId, on: bool) {
    let found = reactions.iter().position(|reaction| reaction.emoji == emoji);
    match (found, on) {
        (Some(index), true) if !reactions[index].by.contains(&by) => reactions[index].by.push(by),
        (None, true) => reactions.push(Reaction { emoji: emoji.to_owned(), by: vec![by] }),
        (Some(index), false) => {
            reactions[index].by.retain(|user| *user != by);
            if reactions[index].by.is_empty() {
                reactions.remove(index);
            }
        }
        (Some(_), true) | (None, false) => {}
    }
}

/// A change to one post, cut out of its event.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) seq: Seq,
    pub(super) post: Seq,
    pub(super) by: UserId,
    pub(super) ts: Timestamp,
    pub(super) what: Alter,
}

/// What a change does to its post.
#[derive(Clone, Debug)]
pub(super) enum Alter {
    Edit(Option<String>),
    Delete,
    React { emoji: String, on: bool },
}

impl Alter {
    /// Cuts the change of a post out of a room's change, where it is one.
    pub(super) fn of(change: &RoomChange) -> Option<(Seq, Self)> {
        match change {
            RoomChange::Edited(_) if is_planted(Bug::EditIgnored) => None,
            RoomChange::Edited(edited) => Some((edited.post, Self::Edit(edited.body.clone()))),
            RoomChange::Deleted(deleted) => Some((deleted.post, Self::Delete)),
            RoomChange::Reacted(reacted) => {
                Some((reacted.post, Self::React { emoji: reacted.emoji.clone(), on: reacted.on }))
            }
            RoomChange::Posted(_)
            | RoomChange::Created(_)
            | RoomChange::Set(_)
            | RoomChange::Ended(_)
            | RoomChange::Joined(_)
            | RoomChange::Left(_)
            | RoomChange::Kicked(_)
            | RoomChange::Renamed(_)
            | RoomChange::Unknown(_) => None,
        }
    }
}
