//! Whether the link is alive: when to ask, and when no answer means death.
//!
//! Must not live here: sending, or what follows from death. Invariant: an answer is missed only if the timer that says
//! so was on time. A late timer (hidden tab, sleeping machine) asks once more instead, because the answer may be
//! waiting behind it.
//!
//! ```text
//!          due / wake / late ack            answered
//! Resting ───────────────────────▶ Asked ─────────────▶ Resting
//!                                    │ deadline, timer late and first time: ask again
//!                                    │ deadline, on time: dead
//! ```

use crate::ids::RequestId;
use crate::message::HeartbeatTerms;
use crate::planted::{Bug, is_planted};
use crate::time::Timestamp;

/// A timer later than this was held back, in milliseconds.
pub const LATE_TIMER_MS: u64 = 2_000;
/// How long an answer may take right after a wake, in milliseconds: the link is most likely dead, and somebody waits.
pub const WAKE_ANSWER_MS: u64 = 1_500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Resting { due: Timestamp },
    Asked { id: RequestId, at: Timestamp, deadline: Timestamp, question: Question },
}

/// Why the link was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// It was due.
    Routine,
    /// The timer that should have judged the last answer came late.
    SecondChance,
    /// The machine slept or the page was frozen.
    Wake,
}

/// What a heartbeat wants when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// Nothing yet.
    Rest,
    /// Send a beat and call [`Heartbeat::asked`].
    Ask,
    /// The answer is overdue by a timer that was on time.
    Dead,
    /// The same after a wake: the loss is this device's own, so nobody else comes back at the same moment.
    DeadSinceWake,
}

/// The heartbeat of one connection.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat {
    terms: HeartbeatTerms,
    hidden: bool,
    state: State,
}

impl Heartbeat {
    pub(super) fn new(terms: HeartbeatTerms, hidden: bool, now: Timestamp) -> Self {
        let mut heartbeat = Self { terms, hidden, state: State::Resting { due: now } };
        heartbeat.rest(now);
        heartbeat
    }

    fn rest(&mut self, now: Timestamp) {
        let interval = if self.hidden { self.terms.hidden_interval_ms } else { self.terms.interval_ms };
        self.state = State::Resting { due: now.plus(interval.max(1)) };
    }

    pub(super) fn set_hidden(&mut self, hidden: bool) {
        self.hidden = hidden;
    }

    pub(super) const fn deadline(&self) -> Timestamp {
        match self.state {
            State::Resting { due } => due,
            State::Asked { deadline, .. } => deadline,
        }
    }

    pub(super) const fn is_waiting_for_answer(&self) -> bool {
        matches!(self.state, State::Asked { .. })
    }

    /// Looks at the time.
    pub(super) fn poll(&mut self, now: Timestamp) -> Pulse {
        match self.state {
            State::Resting { due } if is_planted(Bug::LateTimer) && now >= due.plus(self.terms.answer_ms) => {
                Pulse::Dead
            }
            State::Resting { due } if now >= due => Pulse::Ask,
            State::Resting { .. } => Pulse::Rest,
            State::Asked { deadline, .. } if now < deadline => Pulse::Rest,
            State::Asked { deadline, question: Question::Routine, .. } if now.since(deadline) > LATE_TIMER_MS => {
                Pulse::Ask
            }
            State::Asked { question: Question::Wake, .. } => Pulse::DeadSinceWake,
            State::Asked { question: Question::Routine | Question::SecondChance, .. } => Pulse::Dead,
        }
    }

    /// Notes that a beat was sent as request `id`. A question that is open and not overdue stays: asking again must not
    /// put off its deadline.
    pub(super) fn asked(&mut self, id: RequestId, now: Timestamp) {
        let question = match self.state {
            State::Asked { deadline, .. } if now < deadline => return,
            State::Asked { .. } => Question::SecondChance,
            State::Resting { .. } => Question::Routine,
        };
        self.state = State::Asked { id, at: now, deadline: now.plus(self.terms.answer_ms), question };
    }

    /// As [`Self::asked`], after a wake: the answer must come soon, and the next miss counts.
    pub(super) fn asked_on_wake(&mut self, id: RequestId, now: Timestamp) {
        let deadline = now.plus(WAKE_ANSWER_MS.min(self.terms.answer_ms));
        self.state = State::Asked { id, at: now, deadline, question: Question::Wake };
    }

    /// Notes an answer; returns the round trip in milliseconds if it was to the last question.
    pub(super) fn answered(&mut self, id: RequestId, now: Timestamp) -> Option<u64> {
        match self.state {
            State::Asked { id: asked, at, .. } if asked == id => {
                self.rest(now);
                Some(now.since(at))
            }
            State::Asked { .. } | State::Resting { .. } => None,
        }
    }
}
