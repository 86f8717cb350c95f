//! Durable requests on their way: queued, sent in order within a window, settled by an answer.
//!
//! Must not live here: storage, sockets, words. Invariant: an item leaves only by an acknowledgement, its own echo, or
//! the person's wish; a lost connection changes nothing but that it is sent again, under the same key.
//!
//! ```text
//! Waiting ──pump──▶ Sent ──ack or echo──▶ gone
//!    ▲  ▲            │ retryable refusal, `behind`, connection lost
//!    │  └────────────┤
//!    │ retry         │ final refusal
//! Parked ◀───────────┘
//!    └──forget──▶ gone
//! ```

use crate::error::{ErrorCode, WireError};
use crate::ids::{ClientId, RequestId};
use crate::limits::{OUTBOX_ITEMS, SEND_WINDOW};
use crate::message::{Command as WireCommand, SendDelete, SendEdit, SendPost, SendReact};
use crate::planted::{Bug, is_planted};
use crate::sorted::SortedMap;
use crate::time::Timestamp;

use super::item::{OutboxItem, SendOp};

/// An acknowledgement later than this is late, in milliseconds.
pub const ACK_LATE_MS: u64 = 5_000;
/// The wait after a retryable refusal that names none, in milliseconds; doubles up to [`RESEND_CAP_MS`].
pub const RESEND_MS: u64 = 1_000;
/// The longest wait between two tries of a refused item, in milliseconds.
pub const RESEND_CAP_MS: u64 = 30_000;
/// So many internal errors, or closes for what was sent, and an item is parked rather than block the rest.
pub const POISON_TRIES: u32 = 3;
/// No device has queued this many. An order above it is not one that was stored, and counting on from it would end.
const ORDER_CEILING: u64 = u64::MAX / 2;
/// Bytes of an envelope around a post, escapes not counted.
const ENVELOPE_BYTES: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    Waiting,
    Sent { id: RequestId, at: Timestamp },
    Parked,
}

#[derive(Clone, Debug)]
struct Entry {
    item: OutboxItem,
    flight: Flight,
    /// Its number on this connection, once it was sent there.
    n: Option<u64>,
    strikes: u32,
    /// The newest write of this item to the device; zero before the first.
    put_serial: u64,
}

/// What became of a refused item.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AfterRefusal {
    /// It will be sent again.
    Again,
    /// It is parked for good, for this reason.
    Parked(ClientId, WireError),
    /// It was not in flight.
    Unknown,
}

/// An item's order, and its key.
type Place = (u64, ClientId);

/// All unsent items of one client, in order.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    /// By their orders. Two items have the same one where both were found, each written by a life of its own: what is found
    /// keeps its order, since whoever wrote orders anew could be stopped with some of them written.
    entries: SortedMap<Place, Entry>,
    by_id: SortedMap<ClientId, Place>,
    next_order: u64,
    next_n: u64,
    /// The number the server waits for, as it reckons itself: of those refused for now the lowest, but not those refused
    /// for being behind it. If its item has left, the next one takes it over.
    waits_for: Option<u64>,
    in_flight: usize,
    /// Sends of this connection without an answer yet; an echo is none.
    unanswered: usize,
    /// How many may be in flight: one after a refusal that passes, one more with each that is settled. What is sent
    /// behind a refused one is refused, too, and a server counts every message.
    window: usize,
    resend: Option<Timestamp>,
    refusals_in_a_row: u32,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            entries: SortedMap::default(),
            by_id: SortedMap::default(),
            next_order: 0,
            next_n: 0,
            waits_for: None,
            in_flight: 0,
            unanswered: 0,
            window: SEND_WINDOW,
            resend: None,
            refusals_in_a_row: 0,
        }
    }
}

impl Outbox {
    pub(super) fn iter(&self) -> impl Iterator<Item = &OutboxItem> {
        self.entries.values().map(|entry| &entry.item)
    }

    pub(super) fn get(&self, client_id: ClientId) -> Option<&OutboxItem> {
        self.entries.get(self.by_id.get(&client_id)?).map(|entry| &entry.item)
    }

    fn entry_mut(&mut self, client_id: ClientId) -> Option<&mut Entry> {
        self.entries.get_mut(self.by_id.get(&client_id)?)
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= OUTBOX_ITEMS
    }

    /// Puts what comes from now on behind an order that another process of this device holds.
    pub(super) fn begin_behind(&mut self, order: u64) {
        self.next_order = self.next_order.max(order.min(ORDER_CEILING) + 1);
    }

    /// Puts an item at the end. Its order is chosen here: above every one that is known, and not below `at`, the wall clock,
    /// so that it is behind what another tab or process of this device wrote meanwhile, too, as far as the clock was not
    /// set back. Returns false if it is already there.
    pub(super) fn push(&mut self, mut item: OutboxItem, at: Timestamp) -> bool {
        if self.by_id.contains_key(&item.client_id) {
            return false;
        }
        item.order = self.next_order.max(at.0.min(ORDER_CEILING));
        self.insert(item);
        true
    }

    /// Puts an item back where it was among those of the same life. Returns false if it is already there.
    pub(super) fn restore(&mut self, mut item: OutboxItem) -> bool {
        if self.by_id.contains_key(&item.client_id) {
            return false;
        }
        item.order = item.order.min(ORDER_CEILING);
        self.insert(item);
        true
    }

    fn insert(&mut self, item: OutboxItem) {
        self.next_order = self.next_order.max(item.order + 1);
        let place = (item.order, item.client_id);
        let flight = if item.refused.is_some() { Flight::Parked } else { Flight::Waiting };
        self.by_id.insert(item.client_id, place);
        self.entries.insert(place, Entry { item, flight, n: None, strikes: 0, put_serial: 0 });
    }

    fn remove(&mut self, client_id: ClientId) -> Option<Entry> {
        let place = self.by_id.remove(&client_id)?;
        let entry = self.entries.remove(&place)?;
        if self.entries.is_empty() {
            // Most of the time there is nothing to send: what a long queue took is not kept for the next one.
            (self.entries, self.by_id) = Default::default();
        }
        if matches!(entry.flight, Flight::Sent { .. }) {
            self.in_flight -= 1;
        }
        Some(entry)
    }

    /// Tells whether nothing before an item is on its way.
    fn is_first(&self, place: Place) -> bool {
        self.entries.iter().take_while(|(other, _)| **other < place).all(|(_, entry)| entry.flight == Flight::Parked)
    }

    /// Takes an item out that is committed. Returns it once; later answers to it find nothing.
    pub(super) fn settle(&mut self, client_id: ClientId) -> Option<OutboxItem> {
        let entry = self.remove(client_id)?;
        self.refusals_in_a_row = 0;
        self.window = (self.window + 1).min(SEND_WINDOW);
        Some(entry.item)
    }

    /// Takes out an item that was never attempted.
    pub(super) fn cancel(&mut self, client_id: ClientId) -> bool {
        let untouched = self.get(client_id).is_some_and(|item| !item.attempted && item.refused.is_none());
        untouched && self.remove(client_id).is_some()
    }

    /// Takes out a parked item.
    pub(super) fn discard(&mut self, client_id: ClientId) -> bool {
        let parked = self.get(client_id).is_some_and(|item| item.refused.is_some());
        parked && self.remove(client_id).is_some()
    }

    /// Puts a parked item back, at the end.
    pub(super) fn retry(&mut self, client_id: ClientId, at: Timestamp) -> bool {
        if self.get(client_id).is_none_or(|item| item.refused.is_none()) {
            return false;
        }
        let Some(mut entry) = self.remove(client_id) else { return false };
        entry.item.refused = None;
        self.push(entry.item, at)
    }

    /// Finds an item too large for any message and parks it, before it costs the connection.
    pub(super) fn park_oversized(&mut self, client_id: ClientId, message_bytes: u64) -> Option<WireError> {
        let entry = self.entry_mut(client_id)?;
        let body = match &entry.item.op {
            SendOp::Post { body } | SendOp::Edit { body, .. } => body,
            SendOp::Delete { .. } | SendOp::React { .. } => return None,
        };
        // JSON may need six bytes for a control character; a body that fits escaped fits surely.
        let escaped = serde_json::to_string(body).map_or(usize::MAX, |json| json.len());
        if (escaped.saturating_add(ENVELOPE_BYTES) as u64) <= message_bytes {
            return None;
        }
        let error = WireError::new(ErrorCode::PostTooLong, "The post is larger than any message may be.");
        entry.item.refused = Some(error.clone());
        entry.flight = Flight::Parked;
        Some(error)
    }

    /// Takes the next item to send, if the window is open and no refusal is being waited out. The caller chose `id`.
    pub(super) fn next_send(&mut self, id: RequestId, now: Timestamp) -> Option<(ClientId, u64, WireCommand)> {
        if self.in_flight >= self.window || self.is_silent() || self.resend.is_some_and(|resend| now < resend) {
            return None;
        }
        self.resend = None;
        let (_, entry) = self.entries.iter_mut().find(|(_, entry)| entry.flight == Flight::Waiting)?;
        let n = match (entry.n, self.waits_for) {
            (Some(own), Some(vacant)) => own.min(vacant),
            (Some(n), None) | (None, Some(n)) => n,
            (None, None) => {
                self.next_n += 1;
                self.next_n
            }
        };
        entry.n = Some(n);
        entry.flight = Flight::Sent { id, at: now };
        let command = wire_command(&entry.item, n);
        entry.item.attempted = true;
        self.in_flight += 1;
        self.unanswered += 1;
        Some((entry.item.client_id, n, command))
    }

    /// Tells whether nothing more is sent before all that was is answered. While the server waits for a number, it alone is
    /// under way: what came behind it could be judged after it, and before what it was to be behind.
    const fn is_silent(&self) -> bool {
        self.waits_for.is_some() && self.unanswered > 0
    }

    /// Notes that the send with the number `n` was answered, whether its item is still here or not. `is_done` says that it
    /// need not come again.
    pub(super) fn answered(&mut self, n: u64, is_done: bool) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if is_done {
            self.waits_for = self.waits_for.filter(|waits_for| *waits_for != n);
        }
    }

    /// Takes a refusal of the send `id`, which had the number `n`.
    pub(super) fn refused(
        &mut self,
        client_id: ClientId,
        id: RequestId,
        n: u64,
        error: WireError,
        now: Timestamp,
    ) -> AfterRefusal {
        if error.retryable && error.code != ErrorCode::Behind {
            // The server does so even if the item has left: its echo may have come first.
            self.waits_for = Some(self.waits_for.map_or(n, |waits_for| waits_for.min(n)));
        }
        let Some(entry) = self.entry_mut(client_id) else { return AfterRefusal::Unknown };
        if !matches!(entry.flight, Flight::Sent { id: in_flight, .. } if in_flight == id) {
            return AfterRefusal::Unknown;
        }
        let poison = matches!(error.code, ErrorCode::Internal | ErrorCode::Unknown(_));
        if poison {
            entry.strikes += 1;
        }
        if error.retryable && is_planted(Bug::ClearedOnRefusal) {
            self.remove(client_id);
            return AfterRefusal::Unknown;
        }
        let parked = !error.retryable || entry.strikes >= POISON_TRIES || is_planted(Bug::ParkedOnRefusal);
        if parked {
            entry.flight = Flight::Parked;
            entry.item.refused = Some(error.clone());
        } else {
            entry.flight = Flight::Waiting;
        }
        let place = (entry.item.order, client_id);
        self.in_flight -= 1;
        if parked {
            return AfterRefusal::Parked(client_id, error);
        }
        if error.code != ErrorCode::Behind || self.is_first(place) {
            self.window = 1;
            let doubled = (RESEND_MS << self.refusals_in_a_row.min(8)).min(RESEND_CAP_MS);
            self.refusals_in_a_row = self.refusals_in_a_row.saturating_add(1);
            let wait = error.retry_after_ms.unwrap_or(doubled).clamp(1, RESEND_CAP_MS);
            let resend = now.plus(wait);
            self.resend = Some(self.resend.map_or(resend, |earlier| earlier.max(resend)));
        }
        AfterRefusal::Again
    }

    /// Notes that the connection is gone: everything in flight waits again. `blamed` says that the close was for what
    /// was sent; the oldest in flight is then struck, and parked after [`POISON_TRIES`]. Returns what was sent on it and
    /// waits now, also after a refusal that passes, and what was parked.
    pub(super) fn lost(&mut self, blamed: Option<WireError>) -> (Vec<ClientId>, Option<(ClientId, WireError)>) {
        if is_planted(Bug::DroppedOnLoss) || is_planted(Bug::ChangeDropped) {
            let is_kept = |item: &OutboxItem| is_planted(Bug::ChangeDropped) && matches!(item.op, SendOp::Post { .. });
            self.entries.retain(|_, entry| !matches!(entry.flight, Flight::Sent { .. }) || is_kept(&entry.item));
            self.by_id.retain(|_, place| self.entries.contains_key(place));
        }
        let mut parked = None;
        let mut interrupted = Vec::new();
        let mut blamed = blamed;
        for entry in self.entries.values_mut() {
            let was_sent = entry.n.take().is_some();
            if matches!(entry.flight, Flight::Sent { .. }) {
                entry.flight = Flight::Waiting;
                if let Some(error) = blamed.take() {
                    entry.strikes += 1;
                    if entry.strikes >= POISON_TRIES {
                        entry.flight = Flight::Parked;
                        entry.item.refused = Some(error.clone());
                        parked = Some((entry.item.client_id, error));
                    }
                }
            }
            if was_sent && entry.flight == Flight::Waiting {
                interrupted.push(entry.item.client_id);
            }
        }
        self.in_flight = 0;
        self.unanswered = 0;
        self.window = SEND_WINDOW;
        self.waits_for = None;
        self.next_n = 0;
        self.resend = None;
        self.refusals_in_a_row = 0;
        (interrupted, parked)
    }

    /// Returns when sending goes on after a refusal.
    pub(super) fn resend_at(&self) -> Option<Timestamp> {
        let waiting = self.entries.values().any(|entry| entry.flight == Flight::Waiting);
        self.resend.filter(|_| waiting && self.in_flight < self.window && !self.is_silent())
    }

    /// Returns when the oldest send becomes late.
    pub(super) fn late_at(&self) -> Option<Timestamp> {
        let sent = self.entries.values().filter_map(|entry| match entry.flight {
            Flight::Sent { at, .. } => Some(at),
            Flight::Waiting | Flight::Parked => None,
        });
        sent.min().map(|at| at.plus(ACK_LATE_MS))
    }

    /// Notes which write carries the newest form of an item.
    pub(super) fn put(&mut self, client_id: ClientId, serial: u64) {
        if let Some(entry) = self.entry_mut(client_id) {
            entry.put_serial = serial;
        }
    }

    /// Finds the item whose newest form was written by `serial`.
    pub(super) fn written(&self, serial: u64) -> Option<ClientId> {
        self.entries.values().find(|entry| entry.put_serial == serial).map(|entry| entry.item.client_id)
    }
}

fn wire_command(item: &OutboxItem, n: u64) -> WireCommand {
    let OutboxItem { client_id, room, op, .. } = item;
    let (mut client_id, room, n) = (*client_id, *room, Some(n));
    if is_planted(Bug::NewKeyOnResend) && item.attempted {
        client_id = ClientId::from_parts(item.queued_at.plus(1), [1; 10]);
    }
    match op {
        SendOp::Post { body } => WireCommand::Post(SendPost { n, client_id, room, body: body.clone() }),
        SendOp::Edit { post, body } => {
            let (post, post_client_id) = (post.seq, post.client_id);
            WireCommand::Edit(SendEdit { n, client_id, room, post, post_client_id, body: body.clone() })
        }
        SendOp::Delete { post } => {
            let (post, post_client_id) = (post.seq, post.client_id);
            WireCommand::Delete(SendDelete { n, client_id, room, post, post_client_id })
        }
        SendOp::React { post, emoji, on } => {
            let (post, post_client_id, emoji, on) = (post.seq, post.client_id, emoji.clone(), *on);
            WireCommand::React(SendReact { n, client_id, room, post, post_client_id, emoji, on })
        }
    }
}
