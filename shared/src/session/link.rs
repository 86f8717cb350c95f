//! The link: the life of one connection after the other, and what follows from its loss.
//!
//! Lives here: [`Link`], its transitions, timeouts, and when to probe. Must not live here: what messages mean
//! (`hear`), or how long to wait (`backoff`). Invariant: at most one attempt is current; whatever names another is ignored.

use crate::close::{self, AfterClose, StopReason};
use crate::error::{ErrorCode, WireError};
use crate::ids::{AttemptId, RequestId};
use crate::limits::PROTOCOL_VERSION;
use crate::message::{Beat, Command as WireCommand, Hello};
use crate::time::Timestamp;

use super::backoff::{AT_ONCE_JITTER_MS, STABLE_MS};
use super::diagnostic::Happened;
use super::heartbeat::{Heartbeat, Pulse};
use super::io::{Output, SessionEvent};
use super::resume::FirstLoss;
use super::{Pending, Session, Told, not_connected};

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
pub(super) enum Link {
    Idle,
    /// No attempt before this, also once the device is back: the server asked for it.
    Offline {
        not_before: Timestamp,
    },
    Waiting {
        until: Timestamp,
        not_before: Timestamp,
    },
    Opening {
        attempt: AttemptId,
        deadline: Timestamp,
    },
    Greeting {
        attempt: AttemptId,
        deadline: Timestamp,
        hello: RequestId,
    },
    Up(Box<Up>),
    Stopped(StopReason),
}

/// A connection that was welcomed.
#[derive(Clone, Debug)]
pub(super) struct Up {
    pub(super) attempt: AttemptId,
    pub(super) since: Timestamp,
    pub(super) heartbeat: Heartbeat,
    pub(super) sync: Sync,
    pub(super) pace: Pace,
}

/// How far a welcomed connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// The server has not said `live` yet.
    CatchingUp,
    /// It has; whether every cursor is at its target is asked of [`Resume`](super::resume::Resume).
    SaidLive,
    /// Both, and told.
    Live,
}

/// Whether a connection stood long enough to count as one that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasted {
    Yes,
    No,
}

/// Whether acknowledgements keep pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Good,
    /// An acknowledgement is late and the link is being probed.
    Probing,
    /// It is late although the link lives.
    Slow,
}

/// What is remembered of a connection while it is being lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Farewell {
    /// A close announced in-band: proxies turn the close itself into 1006.
    pub(super) announced: Option<(u16, String)>,
    /// A restart announced, and the wait the server asked for.
    pub(super) restart_ms: Option<u64>,
}

impl Session {
    pub(super) fn open(&mut self, now: Timestamp) {
        self.attempt = AttemptId(self.attempt.0 + 1);
        self.attempt_at = now;
        self.backoff.attempted();
        self.farewell = Farewell::default();
        let attempt = self.attempt;
        self.link = Link::Opening { attempt, deadline: now.plus(CONNECT_TIMEOUT_MS) };
        self.note(Happened::Attempted, now);
        self.out.push(Output::Open { attempt });
    }

    pub(super) fn handle_opened(&mut self, attempt: AttemptId, now: Timestamp) {
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
        self.write(hello, &WireCommand::Hello(greeting));
    }

    pub(super) fn handle_closed(&mut self, attempt: AttemptId, code: u16, reason: String, now: Timestamp) {
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
    pub(super) fn give_up(&mut self, code: u16, why: &'static str, now: Timestamp) {
        self.note(Happened::Closed { code, reason: why.to_owned(), by_us: true }, now);
        self.drop_socket(code, why);
        self.after_loss(close::after_close(code), code, now);
    }

    pub(super) fn drop_socket(&mut self, code: u16, reason: &'static str) {
        if let Some(attempt) = self.current_attempt() {
            self.out.push(Output::Close { attempt, code, reason });
        }
    }

    pub(super) fn after_loss(&mut self, after: AfterClose, code: u16, now: Timestamp) {
        if self.lose(blame(code), now) == Lasted::Yes {
            // Its loss counts as the first failure again.
            self.backoff.attempted();
        }
        let least = match after {
            AfterClose::Stop(reason) => {
                self.link = Link::Stopped(reason);
                return;
            }
            AfterClose::Reconnect => 0,
            AfterClose::ReconnectSlowly => close::SLOW_RECONNECT_MS + self.jitter.between(0, close::SLOW_RECONNECT_MS),
        };
        let asked = self.asked_wait();
        let not_before = now.plus(asked.unwrap_or(0).max(least));
        if !self.online {
            self.link = Link::Offline { not_before };
            return;
        }
        let wait = asked.unwrap_or_else(|| self.backoff.draw(&mut self.jitter)).max(least);
        self.link = Link::Waiting { until: now.plus(wait), not_before };
        self.note(Happened::Waiting { ms: wait }, now);
    }

    /// Returns how long a server that is going asked to be left alone, in milliseconds.
    fn asked_wait(&self) -> Option<u64> {
        self.farewell.restart_ms.map(|ms| ms.min(DRAIN_WAIT_CAP_MS))
    }

    /// Forgets everything that was tied to the connection, and the failures before it if it has lasted.
    pub(super) fn lose(&mut self, blamed: Option<WireError>, now: Timestamp) -> Lasted {
        let lasted = match &self.link {
            Link::Up(up) if now.since(up.since) >= STABLE_MS => Lasted::Yes,
            _ => Lasted::No,
        };
        if lasted == Lasted::Yes {
            self.backoff.reset();
        }
        let first = match &self.link {
            Link::Up(up) if up.sync == Sync::Live => FirstLoss::Yes,
            Link::Up(_)
            | Link::Idle
            | Link::Offline { .. }
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
        for read in self.reads.values_mut().filter(|read| matches!(read.told, Told::Said(_))) {
            read.told = Told::No;
        }
        for (_, pending) in std::mem::take(&mut self.pending) {
            if let Pending::Caller(tag) = pending {
                self.emit(SessionEvent::Answer { tag, result: Err(not_connected()) });
            }
        }
        lasted
    }

    pub(super) fn handle_deadline(&mut self, now: Timestamp) {
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
            | Link::Offline { .. }
            | Link::Waiting { .. }
            | Link::Opening { .. }
            | Link::Greeting { .. }
            | Link::Stopped(_) => {}
        }
    }

    /// An acknowledgement that is late makes the link prove that it lives.
    pub(super) fn check_pace(&mut self, now: Timestamp) {
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

    pub(super) fn handle_online(&mut self, online: bool, now: Timestamp) {
        if self.online == online {
            return;
        }
        self.online = online;
        self.note(Happened::Online(online), now);
        match (&self.link, online) {
            (Link::Idle | Link::Stopped(_), _) => {}
            (Link::Offline { not_before }, true) => {
                let not_before = *not_before;
                let soon = now.plus(self.jitter.between(0, AT_ONCE_JITTER_MS));
                self.link = Link::Waiting { until: soon.max(not_before), not_before };
            }
            (Link::Waiting { .. } | Link::Opening { .. } | Link::Greeting { .. }, true) => self.hurry(now),
            (Link::Up(_), true) => self.probe(now),
            (Link::Offline { .. }, false) => {}
            (Link::Waiting { .. } | Link::Opening { .. } | Link::Greeting { .. } | Link::Up(_), false) => {
                self.drop_socket(close::NORMAL, "offline");
                let not_before = match &self.link {
                    Link::Waiting { not_before, .. } => *not_before,
                    _ => now.plus(self.asked_wait().unwrap_or(0)),
                };
                self.lose(None, now);
                self.link = Link::Offline { not_before };
            }
        }
    }

    pub(super) fn handle_visible(&mut self, visible: bool, now: Timestamp) {
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

    pub(super) fn handle_woke(&mut self, now: Timestamp) {
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
            Link::Idle | Link::Offline { .. } | Link::Stopped(_) => {}
        }
    }

    /// Shortens a wait to "at once", but not below what the server asked for.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        if let Link::Waiting { until, not_before } = &mut self.link {
            let soon = now.plus(self.jitter.between(0, AT_ONCE_JITTER_MS));
            *until = (*until).min(soon.max(*not_before));
        }
    }

    /// Makes the link prove at once that it lives.
    pub(super) fn probe(&mut self, now: Timestamp) {
        if let Link::Up(up) = &self.link
            && !up.heartbeat.is_waiting_for_answer()
        {
            self.beat(None, now);
        }
    }

    pub(super) fn beat(&mut self, answers: Option<u64>, now: Timestamp) {
        let id = self.send_beat(answers);
        if let Link::Up(up) = &mut self.link {
            up.heartbeat.asked(id, now);
        }
    }

    pub(super) fn send_beat(&mut self, answers: Option<u64>) -> RequestId {
        let id = self.next_request();
        self.pending.insert(id, Pending::Beat);
        self.write(id, &WireCommand::Beat(Beat { hidden: self.hidden, answers }));
        id
    }
}

/// Says whether a close was for what was sent.
fn blame(code: u16) -> Option<WireError> {
    let blamed =
        matches!(code, close::PROTOCOL | close::UNSUPPORTED | close::INVALID_UTF8 | close::POLICY | close::TOO_LARGE);
    blamed.then(|| WireError::new(ErrorCode::BadMessage, "The server closed the connection each time this was sent."))
}
