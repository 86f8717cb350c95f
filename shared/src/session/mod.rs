//! The session: what of a client survives its connections, and the one state machine behind the page and the command
//! line.
//!
//! Lives here: what a session consists of, the state it tells, its deadlines, and routing between the small machines:
//! `link` (one connection after the other), `backoff`, `heartbeat`, `resume` (streams and cursors), `outbox`; `commands`
//! and `hear` say what a wish and a message mean to them. Must not live here: a clock, chance, I/O; a decision that
//! belongs to one of the machines. Invariant: the state it tells is never more hopeful than what it knows, and an input
//! of an older attempt changes nothing.
//!
//! The contract is sans-IO: the driver calls [`Session::handle`] with what happened and the time, performs every
//! [`Output`] in order, and calls again with [`Input::DeadlineReached`] when [`Session::next_deadline`] has come.
//!
//! ```text
//!  Idle ──Start──▶ Opening ──Opened──▶ Greeting ──welcome──▶ Up ──live──▶ caught up
//!                    ▲   │ closed, timed out   │                │ closed, no heartbeat
//!                    │   ▼                     ▼                ▼
//!                    └─ Waiting ◀──────────────┴────────────────┘──4500…4999──▶ Stopped
//!                          ▲ ▼ offline / online
//!                        Offline
//! ```

mod backoff;
mod commands;
mod diagnostic;
mod hear;
mod heartbeat;
mod io;
mod item;
mod jitter;
mod link;
mod outbox;
mod resume;
#[cfg(test)]
mod tests;

use crate::planted::{Bug, is_planted};

pub use backoff::{AT_ONCE_JITTER_MS, BACKOFF_BASE_MS, BACKOFF_CAP_MS, SPREAD_CAP_MS, STABLE_MS};
pub use diagnostic::{Diagnostic, Happened};
pub use heartbeat::{LATE_TIMER_MS, WAKE_ANSWER_MS};
pub use io::*;
pub use item::{OutboxItem, SendOp};
pub use link::{CONNECT_TIMEOUT_MS, DRAIN_WAIT_CAP_MS, RETRY_NOW_SPACING_MS, WELCOME_TIMEOUT_MS};
pub use outbox::{ACK_LATE_MS, POISON_TRIES, RESEND_CAP_MS, RESEND_MS};

use crate::cursor::Position;
use crate::error::{ErrorCode, WireError};
use crate::ids::{AttemptId, ClientId, RequestId, RoomId};
use crate::message::{Command as WireCommand, Message, WireLimits};
use crate::sorted::{SortedMap, SortedSet, sort_few};
use crate::time::Timestamp;

use backoff::Backoff;
use jitter::Jitter;
use link::{Farewell, Link, Pace, Sync};
use outbox::Outbox;
use resume::Resume;

/// What an answer is awaited for.
#[derive(Clone, Debug)]
enum Pending {
    Beat,
    /// And the number it was sent under.
    Send(ClientId, u64),
    /// The newest word about a room: that it is followed, or left.
    Room(RoomId),
    Caller(RequestTag),
}

/// How far a room was read.
#[derive(Clone, Copy, Debug, Default)]
struct ReadTo {
    posts: u64,
    told: Told,
}

/// Whether the server knows of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    No,
    /// It was said on this connection, in this request.
    Said(RequestId),
    /// It has said so itself.
    Taken,
}

/// A client's side of the conversation, across all its connections.
#[derive(Clone, Debug)]
pub struct Session {
    config: SessionConfig,
    link: Link,
    online: bool,
    hidden: bool,
    ever_live: bool,
    attempt: AttemptId,
    attempt_at: Timestamp,
    request: RequestId,
    jitter: Jitter,
    backoff: Backoff,
    resume: Resume,
    outbox: Outbox,
    pending: SortedMap<RequestId, Pending>,
    farewell: Farewell,
    restarting: bool,
    limits: WireLimits,
    reads: SortedMap<RoomId, ReadTo>,
    /// When every read position that was said would have had its turn.
    reads_due: Timestamp,
    typed: SortedMap<RoomId, Timestamp>,
    sent_since_loss: u64,
    serial: u64,
    storage_ok: bool,
    told: ConnectionState,
    dirty: SortedSet<ClientId>,
    /// Items whose newest form the device did not take; at most the outbox.
    unwritten: SortedSet<ClientId>,
    /// What the person took back or threw away and may still be on the device, with the write that removes it; none if that
    /// failed. Left there it would be found by a later life, and sent. At most as many as the outbox holds.
    forgotten: SortedMap<ClientId, Option<u64>>,
    out: Vec<Output>,
}

impl Session {
    /// Makes a session at rest; [`Command::Start`] connects it.
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        Self {
            link: Link::Idle,
            online: config.online,
            hidden: config.hidden,
            ever_live: false,
            attempt: AttemptId(0),
            attempt_at: Timestamp(0),
            request: RequestId(0),
            jitter: Jitter::new(config.seed),
            backoff: Backoff::new(),
            resume: Resume::default(),
            outbox: Outbox::default(),
            pending: SortedMap::default(),
            farewell: Farewell::default(),
            restarting: false,
            limits: WireLimits::default(),
            reads: SortedMap::default(),
            reads_due: Timestamp(0),
            typed: SortedMap::default(),
            sent_since_loss: 0,
            serial: 0,
            storage_ok: true,
            told: ConnectionState::Idle,
            dirty: SortedSet::default(),
            unwritten: SortedSet::default(),
            forgotten: SortedMap::default(),
            out: Vec::new(),
            config,
        }
    }

    /// Puts what is queued from now on behind `order`, the highest that other processes of this device hold. For a driver
    /// that can see it; otherwise the wall clock alone decides between what two lives write.
    pub fn begin_behind(&mut self, order: u64) {
        self.outbox.begin_behind(order);
    }

    /// Takes one input and says what to do, in order.
    #[must_use]
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Vec<Output> {
        match input {
            Input::Command(command) => self.handle_command(command, now),
            Input::Opened { attempt } => self.handle_opened(attempt, now),
            Input::Received { attempt, text } => self.handle_received(attempt, &text, now),
            Input::Closed { attempt, code, reason } => self.handle_closed(attempt, code, reason, now),
            Input::DeadlineReached => self.handle_deadline(now),
            Input::Online(online) => self.handle_online(online, now),
            Input::Visible(visible) => self.handle_visible(visible, now),
            Input::Woke => self.handle_woke(now),
            Input::Persisted { serial, ok } => self.handle_persisted(serial, ok),
            Input::Restored { items } => self.handle_restored(items),
            Input::Erased => self.handle_erased(),
        }
        self.pump(now);
        self.say_again(now);
        self.settle_sync(now);
        self.flush_puts();
        let state = self.state();
        if state != self.told {
            self.told = state.clone();
            self.emit(SessionEvent::State(state));
        }
        std::mem::take(&mut self.out)
    }

    /// Says when [`Input::DeadlineReached`] is due next, and why.
    #[must_use]
    pub fn next_deadline(&self) -> Option<(Timestamp, Deadline)> {
        match &self.link {
            Link::Idle | Link::Offline { .. } | Link::Stopped(_) => None,
            Link::Waiting { until, .. } => Some((*until, Deadline::Reconnect)),
            Link::Opening { deadline, .. } => Some((*deadline, Deadline::Connect)),
            Link::Greeting { deadline, .. } => Some((*deadline, Deadline::Welcome)),
            Link::Up(up) => {
                let beat = match up.heartbeat.is_waiting_for_answer() {
                    true => Deadline::BeatAnswer,
                    false => Deadline::Beat,
                };
                let late = self.outbox.late_at().filter(|_| up.pace == Pace::Good).map(|at| (at, Deadline::AckLate));
                let resend = self.outbox.resend_at().map(|at| (at, Deadline::Resend));
                let again = self.resume.again_at().map(|at| (at, Deadline::Room));
                [Some((up.heartbeat.deadline(), beat)), late, resend, again].into_iter().flatten().min()
            }
        }
    }

    /// Returns where the connection stands.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        let (attempts, restarting) = (self.backoff.attempts(), self.restarting);
        match &self.link {
            Link::Idle => ConnectionState::Idle,
            Link::Offline { .. } => ConnectionState::Offline,
            Link::Stopped(reason) => ConnectionState::Stopped(*reason),
            Link::Waiting { until, .. } => ConnectionState::Waiting { until: *until, attempts, restarting },
            Link::Greeting { .. } if is_planted(Bug::LiveOnOpen) => ConnectionState::Live,
            Link::Opening { .. } | Link::Greeting { .. } if !self.ever_live && attempts <= 1 => {
                ConnectionState::Connecting
            }
            Link::Opening { .. } | Link::Greeting { .. } => ConnectionState::Trying { attempts, restarting },
            Link::Up(up) => match (up.sync, self.resume.to_go(), up.pace) {
                _ if is_planted(Bug::LiveWhileBehind) => ConnectionState::Live,
                (Sync::Live, Some(0), Pace::Good | Pace::Probing) => ConnectionState::Live,
                (Sync::Live, Some(0), Pace::Slow) => ConnectionState::Slow,
                (Sync::CatchingUp | Sync::SaidLive | Sync::Live, to_go, _) => {
                    ConnectionState::CatchingUp { to_go: to_go.unwrap_or(0) }
                }
            },
        }
    }

    /// Iterates over unsent and refused items, in order.
    pub fn outbox(&self) -> impl Iterator<Item = &OutboxItem> {
        self.outbox.iter()
    }

    /// Returns how many answers are awaited, for counting.
    #[must_use]
    pub fn awaited(&self) -> usize {
        self.pending.len()
    }

    /// Returns where a followed room stands: what a program stores to go on from there.
    #[must_use]
    pub fn position(&self, room: RoomId) -> Option<Position> {
        self.resume.position(room)
    }

    // ---- the device -------------------------------------------------------------------------------------------------

    fn handle_persisted(&mut self, serial: u64, ok: bool) {
        if ok != self.storage_ok {
            self.storage_ok = ok;
            self.emit(SessionEvent::Storage { ok });
        }
        match (self.outbox.written(serial), ok) {
            (Some(client_id), true) => {
                self.unwritten.remove(&client_id);
                self.emit(SessionEvent::Saved(client_id));
            }
            (Some(client_id), false) => {
                self.unwritten.insert(client_id);
            }
            (None, _) => {}
        }
        if ok {
            self.forgotten.retain(|_, removal| *removal != Some(serial));
        }
        for removal in self.forgotten.values_mut().filter(|removal| **removal == Some(serial)) {
            *removal = None;
        }
        // A device that takes something again is asked for the rest: until then its healing would be half a truth.
        if ok {
            self.dirty.extend(std::mem::take(&mut self.unwritten));
            let left: Vec<ClientId> = self.forgotten.iter().filter(|(_, it)| it.is_none()).map(|(id, _)| *id).collect();
            for client_id in left {
                let serial = self.remove_stored(client_id);
                self.forgotten.insert(client_id, Some(serial));
            }
        }
    }

    fn handle_restored(&mut self, mut items: Vec<OutboxItem>) {
        // By the order they were written in, not by the wall clock, which may have jumped between two of them. Among items
        // of two tabs, which did not know of each other, it is the clock's; that is good enough.
        items = sort_few(items, |item| (item.order, item.queued_at, item.client_id));
        if is_planted(Bug::ClockOrder) {
            items = sort_few(items, |item| item.queued_at);
        }
        for item in items {
            let (client_id, refused) = (item.client_id, item.refused.clone());
            if self.forgotten.contains_key(&client_id) {
                let serial = self.remove_stored(client_id);
                self.forgotten.insert(client_id, Some(serial));
                continue;
            }
            let is_new = match is_planted(Bug::ClockOrder) {
                true => {
                    let at = item.queued_at;
                    self.outbox.push(item, at)
                }
                false => self.outbox.restore(item),
            };
            if is_new {
                self.announce(client_id);
                self.emit(SessionEvent::Saved(client_id));
                if let Some(error) = refused {
                    self.emit(SessionEvent::Refused { client_id, error });
                }
            }
        }
    }

    fn handle_erased(&mut self) {
        self.dirty.extend(self.outbox.iter().map(|item| item.client_id));
        // Whether what was being removed is gone, nobody will say.
        for removal in self.forgotten.values_mut() {
            *removal = None;
        }
    }

    fn flush_puts(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        for client_id in sort_few(dirty, |client_id| self.outbox.get(*client_id).map(|item| item.order)) {
            self.put(client_id);
        }
    }

    /// Writes an item to the device as it is now.
    fn put(&mut self, client_id: ClientId) {
        if let Some(item) = self.outbox.get(client_id).cloned() {
            let serial = self.persist(Persist::Put(item));
            self.outbox.put(client_id, serial);
        }
    }

    fn remove_stored(&mut self, client_id: ClientId) -> u64 {
        self.dirty.remove(&client_id);
        self.unwritten.remove(&client_id);
        self.persist(Persist::Remove(client_id))
    }

    fn persist(&mut self, change: Persist) -> u64 {
        self.serial += 1;
        self.out.push(Output::Persist { serial: self.serial, change });
        self.serial
    }

    // ---- writing ----------------------------------------------------------------------------------------------------

    /// Sends what the outbox lets go.
    fn pump(&mut self, now: Timestamp) {
        while matches!(self.link, Link::Up(_)) {
            let id = RequestId(self.request.0 + 1);
            let Some((client_id, n, command)) = self.outbox.next_send(id, now) else { return };
            self.request = id;
            self.pending.insert(id, Pending::Send(client_id, n));
            self.dirty.insert(client_id);
            if is_planted(Bug::RemovedWhenSent) {
                self.remove_stored(client_id);
            }
            self.write(id, &command);
            self.emit(SessionEvent::Sending(client_id));
        }
    }

    fn send_request(&mut self, command: WireCommand, pending: Pending) {
        let id = self.next_request();
        self.pending.insert(id, pending);
        self.write(id, &command);
    }

    fn send_unanswered(&mut self, command: WireCommand) {
        if matches!(self.link, Link::Up(_)) {
            let id = self.next_request();
            self.write(id, &command);
        }
    }

    fn write(&mut self, id: RequestId, command: &WireCommand) {
        if let Some(attempt) = self.current_attempt() {
            self.out.push(Output::Send { attempt, text: Message::command_json(Some(id), command) });
        }
    }

    fn next_request(&mut self) -> RequestId {
        self.request = RequestId(self.request.0 + 1);
        self.request
    }

    fn current_attempt(&self) -> Option<AttemptId> {
        match &self.link {
            Link::Opening { attempt, .. } | Link::Greeting { attempt, .. } => Some(*attempt),
            Link::Up(up) => Some(up.attempt),
            Link::Idle | Link::Offline { .. } | Link::Waiting { .. } | Link::Stopped(_) => None,
        }
    }

    fn emit(&mut self, event: SessionEvent) {
        self.out.push(Output::Event(event));
    }

    fn note(&mut self, what: Happened, now: Timestamp) {
        let attempt = self.attempt;
        self.emit(SessionEvent::Diagnostic(Diagnostic { at: now, attempt, what }));
    }
}

fn not_connected() -> WireError {
    WireError::new(ErrorCode::Unavailable, "There is no connection to the server. Try again once it is back.")
}
