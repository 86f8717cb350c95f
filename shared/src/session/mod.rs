//! The session: what of a client survives its connections, and the one state machine behind the page and the command
//! line.
//!
//! Lives here: routing between the small machines ([`backoff`], [`heartbeat`], [`resume`], [`outbox`]) and the state of
//! the link. Must not live here: a clock, chance, I/O; a decision that belongs to one of the machines. Invariant: the
//! state it tells is never more hopeful than what it knows, and an input of an older attempt changes nothing.
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
mod heartbeat;
mod io;
mod jitter;
mod outbox;
mod resume;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use backoff::{AT_ONCE_JITTER_MS, BACKOFF_BASE_MS, BACKOFF_CAP_MS, SPREAD_CAP_MS, STABLE_MS};
pub use heartbeat::{LATE_TIMER_MS, WAKE_ANSWER_MS};
pub use io::*;
pub use outbox::{ACK_LATE_MS, POISON_TRIES, RESEND_CAP_MS, RESEND_MS};

use crate::close::{self, AfterClose, StopReason};
use crate::cursor::Position;
use crate::error::{ErrorCode, WireError};
use crate::ids::{AttemptId, ClientId, RequestId, RoomId};
use crate::limits::{PENDING_REQUESTS, PROTOCOL_VERSION};
use crate::message::{
    Ack, Beat, Body, Command as WireCommand, Event, Hello, MarkRead, Message, Reply, RoomRef, TYPING_EVERY_MS, Welcome,
    WireLimits,
};
use crate::model::{OpenOutcome, Opened, RoomChange, RoomEvent};
use crate::time::Timestamp;

use backoff::Backoff;
use heartbeat::{Heartbeat, Pulse};
use jitter::Jitter;
use outbox::{AfterRefusal, Outbox};
use resume::{FirstLoss, Resume, Verdict};

/// How long a socket may take to open, in milliseconds.
pub const CONNECT_TIMEOUT_MS: u64 = 10_000;
/// How long the welcome may take, in milliseconds.
pub const WELCOME_TIMEOUT_MS: u64 = 8_000;
/// Two attempts of an impatient person lie at least this far apart, in milliseconds.
pub const RETRY_NOW_SPACING_MS: u64 = 500;
/// The longest wait before a return that a draining server's word is taken for, in milliseconds.
pub const DRAIN_WAIT_CAP_MS: u64 = 60_000;

/// The state of the link.
#[derive(Clone, Debug)]
enum Link {
    Idle,
    Offline,
    Waiting { until: Timestamp, not_before: Timestamp },
    Opening { attempt: AttemptId, deadline: Timestamp },
    Greeting { attempt: AttemptId, deadline: Timestamp, hello: RequestId },
    Up(Box<Up>),
    Stopped(StopReason),
}

/// A connection that was welcomed.
#[derive(Clone, Debug)]
struct Up {
    attempt: AttemptId,
    since: Timestamp,
    heartbeat: Heartbeat,
    sync: Sync,
    pace: Pace,
}

/// How far a welcomed connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    /// The server has not said `live` yet.
    CatchingUp,
    /// It has; whether every cursor is at its target is asked of [`Resume`].
    SaidLive,
    /// Both, and told.
    Live,
}

/// Whether acknowledgements keep pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Good,
    /// An acknowledgement is late and the link is being probed.
    Probing,
    /// It is late although the link lives.
    Slow,
}

/// What an answer is awaited for.
#[derive(Clone, Debug)]
enum Pending {
    Beat,
    Send(ClientId),
    Open(RoomId),
    Caller(RequestTag),
}

/// What is remembered of a connection while it is being lost.
#[derive(Clone, Debug, Default)]
struct Farewell {
    /// A close announced in-band: proxies turn the close itself into 1006.
    announced: Option<(u16, String)>,
    /// A restart announced, and the wait the server asked for.
    restart_ms: Option<u64>,
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
    pending: BTreeMap<RequestId, Pending>,
    farewell: Farewell,
    restarting: bool,
    limits: WireLimits,
    reads: BTreeMap<RoomId, u64>,
    unsaid_reads: BTreeSet<RoomId>,
    typed: BTreeMap<RoomId, Timestamp>,
    sent_since_loss: u64,
    serial: u64,
    storage_ok: bool,
    told: ConnectionState,
    dirty: BTreeSet<ClientId>,
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
            pending: BTreeMap::new(),
            farewell: Farewell::default(),
            restarting: false,
            limits: WireLimits::default(),
            reads: BTreeMap::new(),
            unsaid_reads: BTreeSet::new(),
            typed: BTreeMap::new(),
            sent_since_loss: 0,
            serial: 0,
            storage_ok: true,
            told: ConnectionState::Idle,
            dirty: BTreeSet::new(),
            out: Vec::new(),
            config,
        }
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
        }
        self.pump(now);
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
            Link::Idle | Link::Offline | Link::Stopped(_) => None,
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
                [Some((up.heartbeat.deadline(), beat)), late, resend].into_iter().flatten().min()
            }
        }
    }

    /// Returns where the connection stands.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        let (attempts, restarting) = (self.backoff.attempts(), self.restarting);
        match &self.link {
            Link::Idle => ConnectionState::Idle,
            Link::Offline => ConnectionState::Offline,
            Link::Stopped(reason) => ConnectionState::Stopped(*reason),
            Link::Waiting { until, .. } => ConnectionState::Waiting { until: *until, attempts, restarting },
            Link::Opening { .. } | Link::Greeting { .. } if !self.ever_live && attempts <= 1 => {
                ConnectionState::Connecting
            }
            Link::Opening { .. } | Link::Greeting { .. } => ConnectionState::Trying { attempts, restarting },
            Link::Up(up) => match (up.sync, self.resume.to_go(), up.pace) {
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

    /// Returns where a followed room stands: what a program stores to go on from there.
    #[must_use]
    pub fn position(&self, room: RoomId) -> Option<Position> {
        self.resume.position(room)
    }

    // ---- commands -------------------------------------------------------------------------------------------------

    fn handle_command(&mut self, command: Command, now: Timestamp) {
        match command {
            Command::Start => match self.link {
                Link::Idle | Link::Stopped(_) if self.online => self.open(now),
                Link::Idle | Link::Stopped(_) => self.link = Link::Offline,
                Link::Offline | Link::Waiting { .. } | Link::Opening { .. } | Link::Greeting { .. } | Link::Up(_) => {}
            },
            Command::Stop => {
                self.drop_socket(close::NORMAL, "bye");
                self.lose(None);
                self.backoff.reset();
                self.link = Link::Idle;
            }
            Command::RetryNow => match self.link {
                Link::Offline | Link::Waiting { .. } => {
                    let earliest = self.attempt_at.plus(RETRY_NOW_SPACING_MS);
                    if now >= earliest {
                        self.open(now);
                    } else {
                        self.link = Link::Waiting { until: earliest, not_before: earliest };
                    }
                }
                Link::Up(_) => self.probe(now),
                Link::Idle | Link::Opening { .. } | Link::Greeting { .. } | Link::Stopped(_) => {}
            },
            Command::Send { client_id, room, op, at } => {
                // A link found dead now must not swallow what is about to be sent.
                self.handle_deadline(now);
                self.queue(OutboxItem {
                    client_id,
                    room,
                    op,
                    queued_at: at,
                    order: 0,
                    attempted: false,
                    refused: None,
                });
            }
            Command::CancelSend { client_id } => {
                if self.outbox.cancel(client_id) {
                    self.forget(client_id);
                }
            }
            Command::DiscardSend { client_id } => {
                if self.outbox.discard(client_id) {
                    self.forget(client_id);
                }
            }
            Command::RetrySend { client_id } => {
                if self.outbox.retry(client_id) {
                    self.requeued(client_id);
                }
            }
            Command::Open { room, cursor, replay } => self.open_room(room, cursor, replay),
            Command::Shut { room } => {
                if self.resume.shut(room) {
                    self.send_unanswered(WireCommand::Shut(RoomRef { room }));
                }
            }
            Command::Request { tag, command } => self.request(tag, command),
            Command::MarkRead { room, posts } => {
                let read = self.reads.entry(room).or_default();
                if posts > *read {
                    *read = posts;
                    self.unsaid_reads.insert(room);
                    self.say_reads();
                }
            }
            Command::Typing { room } => {
                let lately = self.typed.get(&room).is_some_and(|at| now.since(*at) < TYPING_EVERY_MS);
                if !lately && self.state() == ConnectionState::Live {
                    self.typed.insert(room, now);
                    self.send_unanswered(WireCommand::Typing(RoomRef { room }));
                }
            }
        }
    }

    fn queue(&mut self, item: OutboxItem) {
        let client_id = item.client_id;
        if self.outbox.is_full() {
            self.emit(SessionEvent::OutboxFull { client_id });
        } else if self.outbox.push(item) {
            self.requeued(client_id);
        }
    }

    /// Tells and stores an item that has just been put at the outbox's end.
    fn requeued(&mut self, client_id: ClientId) {
        let Some(item) = self.outbox.get(client_id).cloned() else { return };
        self.emit(SessionEvent::Queued(item));
        self.dirty.insert(client_id);
        if let Some(error) = self.outbox.park_oversized(client_id, self.limits.message_bytes) {
            self.emit(SessionEvent::Refused { client_id, error });
        }
    }

    fn forget(&mut self, client_id: ClientId) {
        self.remove_stored(client_id);
        self.emit(SessionEvent::Discarded(client_id));
    }

    fn open_room(&mut self, room: RoomId, cursor: Option<Position>, replay: bool) {
        let again = self.resume.is_open(room);
        if let Some(evicted) = self.resume.open(room, cursor, replay) {
            self.send_unanswered(WireCommand::Shut(RoomRef { room: evicted }));
        }
        if !again {
            self.ask_for_room(room);
        }
    }

    fn ask_for_room(&mut self, room: RoomId) {
        if matches!(self.link, Link::Up(_))
            && let Some(open) = self.resume.ask(room)
        {
            self.send_request(WireCommand::Open(open), Pending::Open(room));
        }
    }

    fn request(&mut self, tag: RequestTag, command: WireCommand) {
        let callers = self.pending.values().filter(|pending| matches!(pending, Pending::Caller(_))).count();
        let refusal = match &self.link {
            Link::Up(_) if callers < PENDING_REQUESTS => None,
            Link::Up(_) => Some(WireError::new(ErrorCode::LimitReached, "Too many requests wait for their answer.")),
            Link::Idle
            | Link::Offline
            | Link::Waiting { .. }
            | Link::Opening { .. }
            | Link::Greeting { .. }
            | Link::Stopped(_) => Some(not_connected()),
        };
        match refusal {
            None => self.send_request(command, Pending::Caller(tag)),
            Some(error) => self.emit(SessionEvent::Answer { tag, result: Err(error) }),
        }
    }

    fn say_reads(&mut self) {
        if !matches!(self.link, Link::Up(_)) {
            return;
        }
        for room in std::mem::take(&mut self.unsaid_reads) {
            let posts = self.reads.get(&room).copied().unwrap_or_default();
            self.send_unanswered(WireCommand::Read(MarkRead { room, posts }));
        }
    }

    // ---- the link -------------------------------------------------------------------------------------------------

    fn open(&mut self, now: Timestamp) {
        self.attempt = AttemptId(self.attempt.0 + 1);
        self.attempt_at = now;
        self.backoff.attempted();
        self.farewell = Farewell::default();
        let attempt = self.attempt;
        self.link = Link::Opening { attempt, deadline: now.plus(CONNECT_TIMEOUT_MS) };
        self.note(Happened::Attempted, now);
        self.out.push(Output::Open { attempt });
    }

    fn handle_opened(&mut self, attempt: AttemptId, now: Timestamp) {
        let Link::Opening { attempt: current, .. } = self.link else { return };
        if attempt != current {
            return;
        }
        self.note(Happened::Opened, now);
        let hello = self.next_request();
        self.link = Link::Greeting { attempt, deadline: now.plus(WELCOME_TIMEOUT_MS), hello };
        let mut greeting = Hello {
            protocol: PROTOCOL_VERSION,
            client: self.config.client.clone(),
            session: self.config.session,
            hidden: self.hidden,
            user: None,
            rooms: Vec::new(),
            since: None,
        };
        self.resume.fill_hello(&mut greeting);
        self.write(&Message::command(hello, WireCommand::Hello(greeting)));
    }

    fn handle_closed(&mut self, attempt: AttemptId, code: u16, reason: String, now: Timestamp) {
        if self.current_attempt() != Some(attempt) {
            return;
        }
        // The in-band word is the truer one: a proxy may have put its own code in place of the server's.
        let (code, reason) = match self.farewell.announced.take() {
            Some(announced) if matches!(code, close::ABNORMAL | close::NO_STATUS | close::NORMAL) => announced,
            Some(_) | None => (code, reason),
        };
        self.note(Happened::Closed { code, reason, by_us: false }, now);
        self.restarting |= code == close::RESTART;
        self.after_loss(close::after_close(code), code, now);
    }

    /// Gives a connection up that the peer has not closed.
    fn give_up(&mut self, code: u16, why: &'static str, now: Timestamp) {
        self.note(Happened::Closed { code, reason: why.to_owned(), by_us: true }, now);
        self.drop_socket(code, why);
        self.after_loss(close::after_close(code), code, now);
    }

    fn drop_socket(&mut self, code: u16, reason: &'static str) {
        if let Some(attempt) = self.current_attempt() {
            self.out.push(Output::Close { attempt, code, reason });
        }
    }

    fn after_loss(&mut self, after: AfterClose, code: u16, now: Timestamp) {
        if let Link::Up(up) = &self.link
            && now.since(up.since) >= STABLE_MS
        {
            // The connection lasted, so its loss counts as the first failure again.
            self.backoff.reset();
            self.backoff.attempted();
        }
        self.lose(blame(code));
        let least = match after {
            AfterClose::Stop(reason) => {
                self.link = Link::Stopped(reason);
                return;
            }
            AfterClose::Reconnect => 0,
            AfterClose::ReconnectSlowly => close::SLOW_RECONNECT_MS + self.jitter.between(0, close::SLOW_RECONNECT_MS),
        };
        if !self.online {
            self.link = Link::Offline;
            return;
        }
        let asked = self.farewell.restart_ms.map(|ms| ms.min(DRAIN_WAIT_CAP_MS));
        let wait = asked.unwrap_or_else(|| self.backoff.draw(&mut self.jitter)).max(least);
        let not_before = now.plus(asked.unwrap_or(0).max(least));
        self.link = Link::Waiting { until: now.plus(wait), not_before };
        self.note(Happened::Waiting { ms: wait }, now);
    }

    /// Forgets everything that was tied to the connection.
    fn lose(&mut self, blamed: Option<WireError>) {
        let first = match &self.link {
            Link::Up(up) if up.sync == Sync::Live => FirstLoss::Yes,
            Link::Up(_)
            | Link::Idle
            | Link::Offline
            | Link::Waiting { .. }
            | Link::Opening { .. }
            | Link::Greeting { .. }
            | Link::Stopped(_) => FirstLoss::Again,
        };
        if first == FirstLoss::Yes {
            self.sent_since_loss = 0;
        }
        self.resume.lost(first);
        let (interrupted, parked) = self.outbox.lost(blamed);
        for client_id in interrupted {
            self.emit(SessionEvent::Interrupted(client_id));
        }
        if let Some((client_id, error)) = parked {
            self.dirty.insert(client_id);
            self.emit(SessionEvent::Refused { client_id, error });
        }
        self.unsaid_reads.extend(self.reads.keys().copied());
        for pending in std::mem::take(&mut self.pending).into_values() {
            if let Pending::Caller(tag) = pending {
                self.emit(SessionEvent::Answer { tag, result: Err(not_connected()) });
            }
        }
    }

    fn handle_deadline(&mut self, now: Timestamp) {
        match &mut self.link {
            Link::Waiting { until, .. } if now >= *until => self.open(now),
            Link::Opening { deadline, .. } if now >= *deadline => {
                self.give_up(close::CONNECT_TIMEOUT, "no connection in time", now);
            }
            Link::Greeting { deadline, .. } if now >= *deadline => {
                self.give_up(close::CONNECT_TIMEOUT, "no welcome in time", now);
            }
            Link::Up(up) => {
                match up.heartbeat.poll(now) {
                    Pulse::Rest => {}
                    Pulse::Ask => self.beat(None, now),
                    Pulse::Dead => {
                        self.note(Happened::HeartbeatMissed, now);
                        return self.give_up(close::NO_HEARTBEAT, "no heartbeat", now);
                    }
                    Pulse::DeadSinceWake => {
                        self.note(Happened::HeartbeatMissed, now);
                        self.give_up(close::NO_HEARTBEAT, "no heartbeat", now);
                        return self.hurry(now);
                    }
                }
                self.check_pace(now);
            }
            Link::Idle
            | Link::Offline
            | Link::Waiting { .. }
            | Link::Opening { .. }
            | Link::Greeting { .. }
            | Link::Stopped(_) => {}
        }
    }

    /// An acknowledgement that is late makes the link prove that it lives.
    fn check_pace(&mut self, now: Timestamp) {
        let late = self.outbox.late_at().is_some_and(|at| now >= at);
        let Link::Up(up) = &mut self.link else { return };
        match (late, up.pace) {
            (false, _) => up.pace = Pace::Good,
            (true, Pace::Probing | Pace::Slow) => {}
            (true, Pace::Good) => {
                up.pace = Pace::Probing;
                self.note(Happened::AckLate, now);
                self.probe(now);
            }
        }
    }

    fn handle_online(&mut self, online: bool, now: Timestamp) {
        if self.online == online {
            return;
        }
        self.online = online;
        self.note(Happened::Online(online), now);
        match (&self.link, online) {
            (Link::Idle | Link::Stopped(_), _) => {}
            (Link::Offline, true) => {
                let wait = self.jitter.between(0, AT_ONCE_JITTER_MS);
                self.link = Link::Waiting { until: now.plus(wait), not_before: now };
            }
            (Link::Waiting { .. } | Link::Opening { .. } | Link::Greeting { .. }, true) => self.hurry(now),
            (Link::Up(_), true) => self.probe(now),
            (Link::Offline, false) => {}
            (Link::Waiting { .. } | Link::Opening { .. } | Link::Greeting { .. } | Link::Up(_), false) => {
                self.drop_socket(close::NORMAL, "offline");
                self.lose(None);
                self.link = Link::Offline;
            }
        }
    }

    fn handle_visible(&mut self, visible: bool, now: Timestamp) {
        if self.hidden != visible {
            return;
        }
        self.hidden = !visible;
        self.note(Happened::Visible(visible), now);
        if let Link::Up(up) = &mut self.link {
            // Said even while an answer is awaited: the server judges silence by it.
            up.heartbeat.set_hidden(!visible);
            self.beat(None, now);
        } else if visible {
            self.hurry(now);
        }
    }

    fn handle_woke(&mut self, now: Timestamp) {
        self.note(Happened::Woke, now);
        match &mut self.link {
            Link::Up(_) => {
                let id = self.send_beat(None);
                if let Link::Up(up) = &mut self.link {
                    up.heartbeat.asked_on_wake(id, now);
                }
            }
            // What was begun before the sleep is stale; its timers are far in the past.
            Link::Opening { .. } | Link::Greeting { .. } | Link::Waiting { .. } => {
                self.handle_deadline(now);
                self.hurry(now);
            }
            Link::Idle | Link::Offline | Link::Stopped(_) => {}
        }
    }

    /// Shortens a wait to "at once", but not below what the server asked for.
    fn hurry(&mut self, now: Timestamp) {
        if let Link::Waiting { until, not_before } = &mut self.link {
            let soon = now.plus(self.jitter.between(0, AT_ONCE_JITTER_MS));
            *until = (*until).min(soon.max(*not_before));
        }
    }

    /// Makes the link prove at once that it lives.
    fn probe(&mut self, now: Timestamp) {
        if let Link::Up(up) = &self.link
            && !up.heartbeat.is_waiting_for_answer()
        {
            self.beat(None, now);
        }
    }

    fn beat(&mut self, answers: Option<u64>, now: Timestamp) {
        let id = self.send_beat(answers);
        if let Link::Up(up) = &mut self.link {
            up.heartbeat.asked(id, now);
        }
    }

    fn send_beat(&mut self, answers: Option<u64>) -> RequestId {
        let id = self.next_request();
        self.pending.insert(id, Pending::Beat);
        self.write(&Message::command(id, WireCommand::Beat(Beat { hidden: self.hidden, answers })));
        id
    }

    // ---- what the server says ---------------------------------------------------------------------------------------

    fn handle_received(&mut self, attempt: AttemptId, text: &str, now: Timestamp) {
        if self.current_attempt() != Some(attempt) {
            return;
        }
        let message = match Message::parse(text) {
            Ok(message) => message,
            Err(bad) => return self.note(Happened::Unreadable { why: bad.error.message }, now),
        };
        match (message.body, message.id) {
            (Body::Event(event), _) => self.handle_event(event, now),
            (Body::Reply(reply), Some(id)) => self.handle_reply(id, reply, now),
            (Body::Refusal(error), Some(id)) => self.handle_refusal(id, error, now),
            (Body::Refusal(error), None) => self.note(Happened::Unreadable { why: error.to_string() }, now),
            (Body::Reply(_), None) => self.note(Happened::Unreadable { why: "a reply without an id".to_owned() }, now),
            (Body::Command(_), _) => self.note(Happened::Unreadable { why: "a command from a server".to_owned() }, now),
        }
        self.check_pace(now);
    }

    fn handle_reply(&mut self, id: RequestId, reply: Reply, now: Timestamp) {
        if let Link::Greeting { hello, .. } = self.link {
            if id == hello
                && let Reply::Welcome(welcome) = reply
            {
                self.welcomed(*welcome, now);
            }
            return;
        }
        match (self.pending.remove(&id), reply) {
            (Some(Pending::Beat), Reply::Beat(answer)) => {
                self.backoff.set_spread(answer.reconnect_spread_ms);
                self.beat_answered(id, now);
            }
            (Some(Pending::Send(_)), Reply::Ack(ack)) => self.settle(ack),
            (Some(Pending::Open(_)), Reply::Opened(opened)) => self.room_opened(opened, now),
            (Some(Pending::Caller(tag)), reply) => self.emit(SessionEvent::Answer { tag, result: Ok(reply) }),
            (None, _) => {}
            (Some(Pending::Beat | Pending::Send(_) | Pending::Open(_)), reply) => {
                self.note(Happened::Unreadable { why: format!("an answer of the wrong kind: {}", reply.tag()) }, now);
            }
        }
    }

    fn welcomed(&mut self, welcome: Welcome, now: Timestamp) {
        let Link::Greeting { attempt, .. } = self.link else { return };
        if welcome.you.id != self.config.user {
            // Somebody else signed in with this browser. What is unsent belongs to whom wrote it.
            self.give_up(close::SESSION_REVOKED, "another user", now);
            return;
        }
        self.note(Happened::Welcomed { connection: welcome.connection }, now);
        self.backoff.set_spread(welcome.reconnect_spread_ms);
        self.limits = welcome.limits;
        self.resume.welcomed(&welcome);
        self.link = Link::Up(Box::new(Up {
            attempt,
            since: now,
            heartbeat: Heartbeat::new(welcome.heartbeat, self.hidden, now),
            sync: Sync::CatchingUp,
            pace: Pace::Good,
        }));
        self.emit(SessionEvent::Welcomed {
            you: welcome.you,
            rooms: welcome.rooms,
            complete: welcome.rooms_complete,
            limits: welcome.limits,
            server: welcome.server,
            connection: welcome.connection,
        });
        self.say_reads();
    }

    fn handle_refusal(&mut self, id: RequestId, error: WireError, now: Timestamp) {
        if let Link::Greeting { hello, .. } = self.link {
            if id == hello {
                // The server closes with the code that says what to do.
                self.note(Happened::Unreadable { why: error.to_string() }, now);
            }
            return;
        }
        match self.pending.remove(&id) {
            Some(Pending::Send(client_id)) => match self.outbox.refused(client_id, id, error, now) {
                AfterRefusal::Parked(client_id, error) => {
                    self.dirty.insert(client_id);
                    self.emit(SessionEvent::Refused { client_id, error });
                }
                AfterRefusal::Again | AfterRefusal::Unknown => {}
            },
            Some(Pending::Open(room)) => {
                let outcome = OpenOutcome::Refused { error };
                self.room_opened(Opened { room, outcome, roster: Vec::new(), members: 0 }, now);
            }
            Some(Pending::Caller(tag)) => self.emit(SessionEvent::Answer { tag, result: Err(error) }),
            // A refused beat is an answer all the same: the way up works.
            Some(Pending::Beat) => self.beat_answered(id, now),
            None => {}
        }
    }

    fn beat_answered(&mut self, id: RequestId, now: Timestamp) {
        let late = self.outbox.late_at().is_some_and(|at| now >= at);
        let Link::Up(up) = &mut self.link else { return };
        let round_trip = up.heartbeat.answered(id, now);
        if round_trip.is_some() && late && up.pace == Pace::Probing {
            up.pace = Pace::Slow;
        }
        if let Some(ms) = round_trip {
            self.emit(SessionEvent::RoundTrip { ms });
        }
    }

    fn handle_event(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Draining(draining) => {
                self.farewell.restart_ms = Some(draining.reconnect_after_ms);
                self.restarting = true;
                self.note(Happened::Draining, now);
                return;
            }
            Event::Closing(closing) => {
                self.farewell.announced = Some((closing.code, closing.reason));
                return;
            }
            Event::Room(_)
            | Event::User(_)
            | Event::Opened(_)
            | Event::Live(_)
            | Event::Heads(_)
            | Event::Typing(_)
            | Event::Presence(_)
            | Event::Read(_)
            | Event::Beat(_)
            | Event::Unknown(_) => {}
        }
        if !matches!(self.link, Link::Up(_)) {
            return;
        }
        match event {
            Event::Room(event) => self.room_event(event, now),
            Event::User(event) => match self.resume.offer_user(&event) {
                Verdict::Deliver => self.emit(SessionEvent::User(event)),
                Verdict::Drop => {}
                Verdict::Gap { .. } => self.give_up(close::BAD_SEQUENCE, "a gap in the user stream", now),
            },
            Event::Opened(opened) => self.room_opened(opened, now),
            Event::Live(_) => {
                if let Link::Up(up) = &mut self.link
                    && up.sync == Sync::CatchingUp
                {
                    up.sync = Sync::SaidLive;
                }
            }
            Event::Heads(heads) => self.emit(SessionEvent::Heads(heads.heads)),
            Event::Typing(typing) => self.emit(SessionEvent::Typing(typing)),
            Event::Presence(presence) => self.emit(SessionEvent::Presence(presence.changes)),
            Event::Read(mark) => self.emit(SessionEvent::Read(mark)),
            Event::Beat(asked) => self.beat(Some(asked.n), now),
            Event::Draining(_) | Event::Closing(_) | Event::Unknown(_) => {}
        }
    }

    fn room_event(&mut self, event: RoomEvent, now: Timestamp) {
        match self.resume.offer_room(&event) {
            Verdict::Deliver => {
                if event.by.id == self.config.user
                    && let RoomChange::Posted(posted) = &event.change
                {
                    let (client_id, room, seq, ts) = (posted.client_id, event.room, event.seq, event.ts);
                    self.settle(Ack { client_id, room, seq, ts, duplicate: false });
                }
                self.emit(SessionEvent::Room(event));
            }
            Verdict::Drop => {}
            Verdict::Gap { expected } => {
                self.note(Happened::Gap { room: event.room, expected, got: event.seq }, now);
                self.ask_for_room(event.room);
            }
        }
    }

    fn room_opened(&mut self, opened: Opened, now: Timestamp) {
        let room = opened.room;
        let followed = self.resume.is_open(room);
        if let Some(missed) = self.resume.opened(&opened)
            && missed > 0
        {
            self.note(Happened::Resumed { missed }, now);
        }
        if let OpenOutcome::Reset { reason, .. } = &opened.outcome {
            self.note(Happened::ResetRoom { room, reason: *reason }, now);
        }
        if followed {
            self.emit(SessionEvent::Opened(opened));
        }
    }

    /// Takes a committed item out of the outbox, whichever of ack and echo came first.
    fn settle(&mut self, ack: Ack) {
        if self.outbox.settle(ack.client_id).is_some() {
            self.sent_since_loss += 1;
            self.remove_stored(ack.client_id);
            self.emit(SessionEvent::Acked(ack));
        }
    }

    /// Declares the connection live once the server has said so and every cursor is where it should be.
    fn settle_sync(&mut self, now: Timestamp) {
        let caught_up = self.resume.to_go() == Some(0);
        let Link::Up(up) = &mut self.link else { return };
        if up.sync != Sync::SaidLive || !caught_up {
            return;
        }
        up.sync = Sync::Live;
        self.restarting = false;
        self.note(Happened::Live, now);
        let events = std::mem::take(&mut self.resume.duplicates);
        if events > 0 {
            self.note(Happened::Deduplicated { events }, now);
        }
        if self.ever_live {
            let sent = self.sent_since_loss;
            let received = self.resume.posts_since_loss().saturating_sub(sent);
            self.emit(SessionEvent::Recovered { received, sent });
        }
        self.ever_live = true;
    }

    // ---- the device -------------------------------------------------------------------------------------------------

    fn handle_persisted(&mut self, serial: u64, ok: bool) {
        if ok != self.storage_ok {
            self.storage_ok = ok;
            self.emit(SessionEvent::Storage { ok });
        }
        if ok && let Some(client_id) = self.outbox.written(serial) {
            self.emit(SessionEvent::Saved(client_id));
        }
    }

    fn handle_restored(&mut self, mut items: Vec<OutboxItem>) {
        items.sort_by_key(|item| (item.queued_at, item.order, item.client_id));
        let last = items.iter().map(|item| item.order).max().unwrap_or_default();
        self.outbox.start_order_at(last + 1);
        for item in items {
            let (client_id, refused) = (item.client_id, item.refused.clone());
            if self.outbox.push(item) {
                self.requeued(client_id);
                self.emit(SessionEvent::Saved(client_id));
                if let Some(error) = refused {
                    self.emit(SessionEvent::Refused { client_id, error });
                }
            }
        }
    }

    fn flush_puts(&mut self) {
        for client_id in std::mem::take(&mut self.dirty) {
            if let Some(item) = self.outbox.get(client_id).cloned() {
                let serial = self.persist(Persist::Put(item));
                self.outbox.put(client_id, serial);
            }
        }
    }

    fn remove_stored(&mut self, client_id: ClientId) {
        self.dirty.remove(&client_id);
        self.persist(Persist::Remove(client_id));
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
            let Some((client_id, command)) = self.outbox.next_send(id, now) else { return };
            self.request = id;
            self.pending.insert(id, Pending::Send(client_id));
            self.dirty.insert(client_id);
            self.write(&Message::command(id, command));
            self.emit(SessionEvent::Sending(client_id));
        }
    }

    fn send_request(&mut self, command: WireCommand, pending: Pending) {
        let id = self.next_request();
        self.pending.insert(id, pending);
        self.write(&Message::command(id, command));
    }

    fn send_unanswered(&mut self, command: WireCommand) {
        if matches!(self.link, Link::Up(_)) {
            let id = self.next_request();
            self.write(&Message::command(id, command));
        }
    }

    fn write(&mut self, message: &Message) {
        if let Some(attempt) = self.current_attempt() {
            self.out.push(Output::Send { attempt, text: message.to_json() });
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
            Link::Idle | Link::Offline | Link::Waiting { .. } | Link::Stopped(_) => None,
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

/// Says whether a close was for what was sent.
fn blame(code: u16) -> Option<WireError> {
    let blamed =
        matches!(code, close::PROTOCOL | close::UNSUPPORTED | close::INVALID_UTF8 | close::POLICY | close::TOO_LARGE);
    blamed.then(|| WireError::new(ErrorCode::BadMessage, "The server closed the connection each time this was sent."))
}
