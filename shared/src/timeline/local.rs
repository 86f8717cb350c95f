//! What this person has written and the room's events have not brought back yet.
//!
//! Must not live here: committed rows ([`super::confirmed`]). Invariant: an item is here from the moment it is queued
//! until its own event, or a jump over it, has reached the timeline; it is never here and among the committed rows at once.

use std::sync::Arc;

use super::row::{PendingChange, PostRow, RowKey, Status};
use crate::error::WireError;
use crate::ids::{ClientId, Seq, UserId};
use crate::message::Ack;
use crate::model::PostRef;
use crate::planted::{Bug, is_planted};
use crate::session::{OutboxItem, SendOp};
use crate::time::Timestamp;

/// My posts and changes on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Local {
    /// Posts acknowledged before their event came, by seq.
    landed: Vec<Arc<PostRow>>,
    /// Posts not acknowledged, in the order of the outbox.
    unsent: Vec<(u64, Arc<PostRow>)>,
    /// Edits, deletions and reactions, in the order of the outbox.
    changes: Vec<LocalChange>,
}

/// A change of mine, and the seq of its event once that is known.
#[derive(Clone, Debug)]
struct LocalChange {
    order: u64,
    post: PostRef,
    committed: Option<Seq>,
    shown: PendingChange,
}

/// Which committed row shows an item, or that the item is a row of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touched {
    /// No such item.
    Nothing,
    /// A row of its own changed.
    Own,
    /// A change to this post changed.
    Post(Seq),
}

impl Local {
    pub(super) fn len(&self) -> usize {
        self.landed.len() + self.unsent.len()
    }

    pub(super) fn row(&self, index: usize) -> Option<&Arc<PostRow>> {
        match index.checked_sub(self.landed.len()) {
            None => self.landed.get(index),
            Some(index) => self.unsent.get(index).map(|(_, row)| row),
        }
    }

    /// Returns the row of a post that was acknowledged before its event came.
    pub(super) fn landed(&self, seq: Seq) -> Option<&Arc<PostRow>> {
        self.landed.iter().find(|row| row.seq == Some(seq))
    }

    pub(super) fn index_of(&self, key: RowKey) -> Option<usize> {
        (0..self.len()).find(|index| self.row(*index).is_some_and(|row| row.key == key))
    }

    /// Returns the changes of mine that the row of a post shows. A change of a post that another one has taken the place of
    /// is shown on no row.
    pub(super) fn pending(&self, seq: Seq, client_id: ClientId) -> Vec<PendingChange> {
        let is_meant = |post: PostRef| post.seq == seq && post.client_id.is_none_or(|key| key == client_id);
        self.changes.iter().filter(|change| is_meant(change.post)).map(|change| change.shown.clone()).collect()
    }

    /// Takes an item in, or takes its newer state over.
    pub(super) fn queue(&mut self, item: &OutboxItem, me: UserId, name: Arc<str>) -> Touched {
        let status = match (&item.refused, item.attempted) {
            (Some(error), _) => Status::Refused(error.clone()),
            (None, true) => Status::Interrupted,
            (None, false) => Status::Queued,
        };
        // As the outbox has it: two lives may have used one order.
        let place = (item.order, item.client_id);
        match &item.op {
            SendOp::Post { body } => {
                let key = RowKey::Post { by: me, client_id: item.client_id };
                if self.landed.iter().any(|row| row.key == key) {
                    return Touched::Nothing;
                }
                self.unsent.retain(|(_, row)| row.key != key);
                let at = self.unsent.partition_point(|(order, row)| (*order, row.client_id) < place);
                let row = fresh_row(item, body, key, me, name, status);
                self.unsent.insert(at, (item.order, Arc::new(row)));
                Touched::Own
            }
            SendOp::Edit { post, .. } | SendOp::Delete { post } | SendOp::React { post, .. } => {
                self.changes.retain(|change| change.shown.client_id != item.client_id);
                let at = self.changes.partition_point(|change| (change.order, change.shown.client_id) < place);
                let shown = PendingChange { client_id: item.client_id, op: item.op.clone(), status };
                self.changes.insert(at, LocalChange { order: item.order, post: *post, committed: None, shown });
                self.show_on_landed(post.seq);
                Touched::Post(post.seq)
            }
        }
    }

    /// Notes that an item is on the device. The status of one that was already sent has come further than that.
    pub(super) fn saved(&mut self, client_id: ClientId) -> Touched {
        if let Some((_, row)) = self.unsent.iter_mut().find(|(_, row)| row.client_id == client_id) {
            Arc::make_mut(row).is_saved = true;
        }
        self.set_status(client_id, |status| match status {
            Status::Queued => *status = Status::Saved,
            Status::Saved | Status::Sending | Status::Interrupted | Status::Sent | Status::Refused(_) => {}
        })
    }

    /// Notes that the device has lost what it held: no row is on it any more.
    pub(super) fn erased(&mut self) {
        for (_, row) in &mut self.unsent {
            let row = Arc::make_mut(row);
            row.is_saved = false;
            match row.status {
                Status::Saved => row.status = Status::Queued,
                Status::Queued | Status::Sending | Status::Interrupted | Status::Sent | Status::Refused(_) => {}
            }
        }
    }

    /// Notes that an item was written to a socket.
    pub(super) fn sending(&mut self, client_id: ClientId) -> Touched {
        self.set_status(client_id, |status| match status {
            Status::Queued | Status::Saved | Status::Interrupted | Status::Refused(_) => *status = Status::Sending,
            Status::Sending | Status::Sent => {}
        })
    }

    /// Notes that an item's connection was lost before its answer came.
    pub(super) fn interrupted(&mut self, client_id: ClientId) -> Touched {
        self.set_status(client_id, |status| match status {
            Status::Sending => *status = Status::Interrupted,
            Status::Queued | Status::Saved | Status::Interrupted | Status::Sent | Status::Refused(_) => {}
        })
    }

    /// Notes that an item was refused for good.
    pub(super) fn refused(&mut self, client_id: ClientId, error: &WireError) -> Touched {
        self.set_status(client_id, |status| *status = Status::Refused(error.clone()))
    }

    fn set_status(&mut self, client_id: ClientId, set: impl Fn(&mut Status)) -> Touched {
        if let Some((_, row)) = self.unsent.iter_mut().find(|(_, row)| row.client_id == client_id) {
            set(&mut Arc::make_mut(row).status);
            return Touched::Own;
        }
        let Some(change) = self.changes.iter_mut().find(|change| change.shown.client_id == client_id) else {
            return Touched::Nothing;
        };
        set(&mut change.shown.status);
        let post = change.post.seq;
        self.show_on_landed(post);
        Touched::Post(post)
    }

    /// Takes an acknowledgement in. `head` is how far the room's events have come: an item at or below it has had its
    /// event, or lies in a hole, and is no longer kept here.
    pub(super) fn acked(&mut self, ack: &Ack, head: Seq) -> Touched {
        let is_forgotten = |row: &PostRow| row.client_id == ack.client_id && !is_planted(Bug::EchoKept);
        if let Some(at) = self.unsent.iter().position(|(_, row)| is_forgotten(row)) {
            let (_, mut row) = self.unsent.remove(at);
            if ack.seq > head {
                let landed = Arc::make_mut(&mut row);
                landed.seq = Some(ack.seq);
                landed.ts = ack.ts;
                landed.status = Status::Sent;
                landed.pending = self.pending(ack.seq, ack.client_id);
                let at = self.landed.partition_point(|other| other.seq < row.seq);
                self.landed.insert(at, row);
            }
            return Touched::Own;
        }
        let Some(at) = self.changes.iter().position(|change| change.shown.client_id == ack.client_id) else {
            return Touched::Nothing;
        };
        let post = self.changes[at].post.seq;
        if ack.seq > head {
            self.changes[at].committed = Some(ack.seq);
            self.changes[at].shown.status = Status::Sent;
        } else {
            self.changes.remove(at);
        }
        self.show_on_landed(post);
        Touched::Post(post)
    }

    /// Forgets an item.
    pub(super) fn discard(&mut self, client_id: ClientId) -> Touched {
        if let Some(at) = self.unsent.iter().position(|(_, row)| row.client_id == client_id) {
            self.unsent.remove(at);
            return Touched::Own;
        }
        let Some(at) = self.changes.iter().position(|change| change.shown.client_id == client_id) else {
            return Touched::Nothing;
        };
        let post = self.changes.remove(at).post.seq;
        self.show_on_landed(post);
        Touched::Post(post)
    }

    /// Forgets the row of a post that is now among the committed ones.
    pub(super) fn came_back(&mut self, key: RowKey) {
        self.landed.retain(|row| row.key != key);
        self.unsent.retain(|(_, row)| row.key != key || is_planted(Bug::EchoKept));
    }

    /// Forgets what the room's events have passed; returns the posts whose pending changes are now in them.
    pub(super) fn reached(&mut self, head: Seq) -> Vec<Seq> {
        self.landed.retain(|row| row.seq > Some(head));
        let mut settled = Vec::new();
        self.changes.retain(|change| {
            let passed = change.committed.is_some_and(|seq| seq <= head);
            if passed {
                settled.push(change.post.seq);
            }
            !passed
        });
        settled
    }

    /// Forgets what was acknowledged in a history that is no longer the room's: its events will never come.
    pub(super) fn forget_acknowledged(&mut self) {
        self.landed.clear();
        self.changes.retain(|change| change.committed.is_none());
    }

    /// Tells whether nothing waits for an event.
    pub(super) fn is_settled(&self) -> bool {
        self.landed.is_empty() && self.changes.iter().all(|change| change.committed.is_none())
    }

    /// Gives my rows the name I go by now.
    pub(super) fn rename(&mut self, name: &Arc<str>) {
        for row in self.landed.iter_mut().chain(self.unsent.iter_mut().map(|(_, row)| row)) {
            Arc::make_mut(row).name = Arc::clone(name);
        }
    }

    fn show_on_landed(&mut self, post: Seq) {
        if let Some(at) = self.landed.iter().position(|row| row.seq == Some(post)) {
            let pending = self.pending(post, self.landed[at].client_id);
            Arc::make_mut(&mut self.landed[at]).pending = pending;
        }
    }
}

/// Makes the row of a post that is not committed.
fn fresh_row(item: &OutboxItem, body: &str, key: RowKey, me: UserId, name: Arc<str>, status: Status) -> PostRow {
    PostRow {
        key,
        client_id: item.client_id,
        seq: None,
        rev: Seq(0),
        ordinal: None,
        by: me,
        name,
        ts: Timestamp(item.queued_at.0),
        body: Some(Arc::from(body)),
        edited: None,
        reactions: Vec::new(),
        status,
        is_saved: false,
        mine: true,
        stale: false,
        pending: Vec::new(),
    }
}
