//! One client of one room, and everything on its way to it: events in order, pages, acknowledgements and snapshots when
//! they like.
//!
//! Must not live here: which steps are taken; a test or the fuzzer chooses them. Invariant: whatever arrives was true
//! at some moment of the [`Room`]'s history.

use std::collections::BTreeSet;
use std::sync::Arc;

use shared::error::{ErrorCode, WireError};
use shared::ids::Seq;
use shared::message::Ack;
use shared::model::{HistoryPage, OpenOutcome, Opened, ResetReason};
use shared::session::{OutboxItem, SendOp};
use shared::time::Timestamp;
use shared::timeline::{PostRow, Row, Timeline};

use super::check::{assert_shows, assert_sound, bodies};
use super::room::{Deed, Room, at, client_id, room, user};

/// Who reads.
pub(crate) const ME: u8 = 1;
/// Posts in a page.
pub(crate) const PAGE: usize = 4;

pub(crate) fn opened(outcome: OpenOutcome) -> Opened {
    Opened { room: room(), outcome, roster: Vec::new(), members: 0 }
}

pub(crate) fn item(number: u64, op: SendOp) -> OutboxItem {
    let queued_at = Timestamp(5);
    OutboxItem {
        client_id: client_id(number),
        room: room(),
        op,
        queued_at,
        order: number,
        attempted: false,
        refused: None,
    }
}

pub(crate) fn my_post(number: u64) -> OutboxItem {
    item(number, SendOp::Post { body: format!("mine {number}") })
}

/// What is not marked stale is as the room was when its last event, or a later page, came.
pub(crate) fn assert_true(timeline: &Timeline, model: &Room) {
    for row in timeline.rows() {
        if let Row::Post(row) = row
            && row.ordinal.is_some()
            && !row.stale
        {
            let find = |as_of| model.posts(as_of).into_iter().find(|post| Some(post.seq) == row.seq);
            assert_shows(&row, &find(row.rev).unwrap(), user(ME));
            if let Some(then) = find(timeline.head()) {
                assert!(then.rev <= row.rev, "a change up to {} is missing in {row:?}", timeline.head());
            }
        }
    }
}

/// One thing that happens to the room, to its reader, or on the way.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Somebody does something.
    Act(u8, Deed),
    /// The next event arrives.
    Next,
    /// Events up to the head arrive.
    CatchUp,
    /// An event that came before arrives again.
    Again(usize),
    /// The room is opened anew, from a snapshot taken now; the events go on from there.
    Jump,
    /// The server proves the history another one: start over.
    Reset,
    /// A page is read, before a row or whatever is needed, and stays on its way.
    Ask(Option<usize>),
    /// A page on its way arrives; one in two stays, to arrive again.
    Page(usize, bool),
    /// I write.
    Write,
    /// I edit a row.
    Change(usize),
    /// The server takes the next item of mine, and its acknowledgement is on its way.
    Commit,
    /// An acknowledgement arrives; one in two stays, to arrive again.
    Ack(usize, bool),
    /// The next item of mine is refused.
    Refuse,
    /// A refused item is thrown away.
    Discard,
    /// I look at a row, or follow the end.
    Look(Option<usize>),
}

/// One client of one room, and everything on its way to it.
pub(crate) struct World {
    pub(crate) model: Room,
    pub(crate) timeline: Timeline,
    /// The last event delivered.
    cursor: Seq,
    pages: Vec<(HistoryPage, Seq)>,
    acks: Vec<Ack>,
    outbox: Vec<OutboxItem>,
    refused: Vec<OutboxItem>,
    sent: u64,
}

impl World {
    pub(crate) fn new(rows_kept: usize) -> Self {
        let (model, timeline) = (Room::default(), Timeline::keeping(user(ME), rows_kept));
        let (pages, acks, outbox, refused) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { model, timeline, cursor: Seq(0), pages, acks, outbox, refused, sent: 0 }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match *step {
            Step::Act(by, deed) => self.model.act(user(by), deed),
            Step::Next => drop(self.next()),
            Step::CatchUp => while self.next() {},
            Step::Again(number) if self.cursor > Seq(0) => {
                let seq = Seq(1 + number as u64 % self.cursor.0);
                self.timeline.event(self.model.event(seq));
            }
            Step::Jump => {
                self.cursor = self.model.head();
                let snapshot = self.model.snapshot(PAGE);
                self.timeline.opened(&opened(OpenOutcome::Jumped { snapshot, hole: 0 }));
            }
            Step::Reset => {
                self.cursor = self.model.head();
                let snapshot = self.model.snapshot(PAGE);
                self.timeline.opened(&opened(OpenOutcome::Reset { reason: ResetReason::Forked, snapshot }));
            }
            Step::Ask(row) => {
                let seq = |row| match self.timeline.row(row) {
                    Some(Row::Post(post)) => post.seq,
                    Some(Row::Hole(hole)) => Some(hole.before),
                    Some(Row::Unknown(unknown)) => Some(unknown.seq),
                    None => None,
                };
                let len = self.timeline.len();
                let before = row.map_or_else(|| self.timeline.needed(0, len), |row| seq(row % len.max(1)));
                if let Some(before) = before {
                    self.pages.push((self.model.history(before, PAGE), before));
                }
            }
            Step::Page(number, stays) if !self.pages.is_empty() => {
                let at = number % self.pages.len();
                let (page, before) = if stays { self.pages[at].clone() } else { self.pages.remove(at) };
                self.timeline.history(&page, before);
            }
            Step::Write => {
                self.sent += 1;
                self.queue(my_post(self.sent));
            }
            Step::Change(row) => {
                let picked = self.timeline.row(row % self.timeline.len().max(1));
                if let Some(post) = picked.as_ref().and_then(Row::as_post).and_then(|post| post.seq) {
                    self.sent += 1;
                    self.queue(item(self.sent, SendOp::Edit { post: post.into(), body: "edited by me".to_owned() }));
                }
            }
            Step::Commit => self.commit(),
            Step::Ack(number, stays) if !self.acks.is_empty() => {
                let at = number % self.acks.len();
                let ack = if stays { self.acks[at] } else { self.acks.remove(at) };
                self.timeline.acked(&ack);
            }
            Step::Refuse if !self.outbox.is_empty() => {
                let item = self.outbox.remove(0);
                self.timeline.refused(item.client_id, &WireError::new(ErrorCode::NotMember, "no"));
                self.refused.push(item);
            }
            Step::Discard if !self.refused.is_empty() => {
                self.timeline.discarded(self.refused.remove(0).client_id);
            }
            Step::Look(row) => {
                let post = row.and_then(|row| self.timeline.row(row % self.timeline.len().max(1)));
                self.timeline.look_at(post.as_ref().and_then(Row::as_post).and_then(|post| post.seq));
            }
            Step::Again(_) | Step::Page(..) | Step::Ack(..) | Step::Refuse | Step::Discard => {}
        }
    }

    pub(crate) fn next(&mut self) -> bool {
        let more = self.cursor < self.model.head();
        if more {
            self.cursor = self.cursor.next();
            self.timeline.event(self.model.event(self.cursor));
        }
        more
    }

    fn queue(&mut self, item: OutboxItem) {
        self.timeline.queued(&item);
        self.timeline.saved(item.client_id);
        self.timeline.sending(item.client_id);
        self.outbox.push(item);
    }

    fn commit(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        let item = self.outbox.remove(0);
        let seq = match &item.op {
            SendOp::Post { body } => self.model.post(user(ME), item.client_id, body),
            SendOp::Edit { post, body } => {
                let deleted = self.model.posts(self.model.head()).iter().any(|p| p.seq == post.seq && p.body.is_none());
                if deleted {
                    self.timeline.refused(item.client_id, &WireError::new(ErrorCode::NotFound, "gone"));
                    return self.refused.push(item);
                }
                self.model.edit(user(ME), post.seq, body)
            }
            SendOp::Delete { .. } | SendOp::React { .. } => unreachable!("not written here"),
        };
        let duplicate = false;
        self.acks.push(Ack { client_id: item.client_id, room: room(), seq, ts: at(seq), duplicate });
    }

    /// Lets everything arrive, and asks for whatever is needed until nothing is.
    pub(crate) fn settle(&mut self) {
        while self.next() {}
        for ack in std::mem::take(&mut self.acks) {
            self.timeline.acked(&ack);
        }
        for (page, before) in std::mem::take(&mut self.pages) {
            self.timeline.history(&page, before);
            assert_sound(&self.timeline);
        }
        for _ in 0..1_000 {
            let Some(before) = self.timeline.needed(0, self.timeline.len()) else { return };
            self.timeline.history(&self.model.history(before, PAGE), before);
            assert_sound(&self.timeline);
            assert_true(&self.timeline, &self.model);
        }
        panic!("it never had enough: {:#?}", bodies(&self.timeline));
    }
}

/// The rows are the model's posts, then what is still on its way; names are those of today; nothing is marked stale.
pub(crate) fn assert_complete(world: &World) {
    let World { model, timeline, outbox, refused, .. } = world;
    let posts = model.posts(model.head());
    let rows: Vec<Arc<PostRow>> = timeline.rows().filter_map(|row| row.as_post().cloned()).collect();
    let (committed, mine) = rows.split_at(posts.len());
    for (row, post) in committed.iter().zip(&posts) {
        assert_shows(row, post, user(ME));
        assert!(!row.stale);
        let name = model.people(model.head()).into_iter().find(|person| person.id == row.by).unwrap().name;
        assert_eq!(*row.name, *name);
        assert_eq!(timeline.name_of(row.by), Some(&*name));
    }
    let mut on_their_way: Vec<&OutboxItem> = outbox.iter().chain(refused).collect();
    on_their_way.sort_by_key(|item| item.order);
    let waiting: Vec<_> = mine.iter().map(|row| row.client_id).collect();
    let is_post = |item: &&&OutboxItem| matches!(item.op, SendOp::Post { .. });
    assert_eq!(waiting, on_their_way.iter().filter(is_post).map(|item| item.client_id).collect::<Vec<_>>());
    let pending: BTreeSet<_> = rows.iter().flat_map(|row| &row.pending).map(|change| change.client_id).collect();
    let changes: BTreeSet<_> = on_their_way.iter().filter(|item| !is_post(item)).map(|item| item.client_id).collect();
    assert_eq!(pending, changes);
}
