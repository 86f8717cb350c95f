//! Whether the link is alive: when to ask, and when no answer means death.
//!
//! Must not live here: sending, or what follows from death. Invariant: an answer is missed only if the timer that says
//! so was on time. A late timer (hidden tab, sleeping machine) asks once more instead, because the answer may be
//! waiting behind it. On a thin link it waits behind what else is under way: progress puts the deadline off.
//!
//! ```text
//!          due / wake / late ack            answered
//! Resting ───────────────────────▶ Asked ─────────────▶ Resting
//!                                    │ progress: the deadline moves
//!                                    │ deadline, timer late and first time: ask again
//!                                    │ deadline, on time: dead
//! ```

use crate::ids::RequestId;
use crate::message::HeartbeatTerms;
use crate::planted::{Bug, is_planted};
use crate::time::Timestamp;

/// A timer later than this was held back, in milliseconds.
pub const LATE_TIMER_MS: u64 = 2_000;
/// How long the link may be silent while it brings what was missed, in milliseconds: where one packet is lost, all that
/// came behind it waits for it, on a thin link for many seconds. Less than 15 s, by which any dead link is noticed.
pub(super) const CATCHING_UP_SILENCE_MS: u64 = 10_000;
/// How long an answer may take right after a wake, in milliseconds: the link is most likely dead, and somebody waits.
pub const WAKE_ANSWER_MS: u64 = 1_500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Resting {
        due: Timestamp,
    },
    /// `again` is when to beat once more although the answer is still awaited: the server judges silence too.
    Asked {
        id: RequestId,
        at: Timestamp,
        deadline: Timestamp,
        again: Timestamp,
        question: Question,
    },
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
        self.state = State::Resting { due: self.next_beat(now) };
    }

    fn next_beat(&self, now: Timestamp) -> Timestamp {
        let interval = if self.hidden { self.terms.hidden_interval_ms } else { self.terms.interval_ms };
        now.plus(interval.max(1))
    }

    pub(super) fn set_hidden(&mut self, hidden: bool) {
        self.hidden = hidden;
    }

    pub(super) fn deadline(&self) -> Timestamp {
        match self.state {
            State::Resting { due } => due,
            State::Asked { deadline, again, .. } => deadline.min(again),
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
            State::Asked { deadline, again, .. } if now < deadline => {
                if now >= again {
                    Pulse::Ask
                } else {
                    Pulse::Rest
                }
            }
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
        let next_beat = self.next_beat(now);
        let question = match &mut self.state {
            State::Asked { deadline, again, .. } if now < *deadline => {
                *again = next_beat;
                return;
            }
            State::Asked { .. } => Question::SecondChance,
            State::Resting { .. } => Question::Routine,
        };
        let deadline = now.plus(self.terms.answer_ms);
        self.state = State::Asked { id, at: now, deadline, again: next_beat, question };
    }

    /// As [`Self::asked`], after a wake: the answer must come soon, and the next miss counts.
    pub(super) fn asked_on_wake(&mut self, id: RequestId, now: Timestamp) {
        let deadline = now.plus(WAKE_ANSWER_MS.min(self.terms.answer_ms));
        self.state = State::Asked { id, at: now, deadline, again: self.next_beat(now), question: Question::Wake };
    }

    /// Notes that another question was answered: the answer to the beat may wait behind it, and has its time anew.
    pub(super) fn answered_another(&mut self, now: Timestamp) {
        self.put_off(now, self.terms.answer_ms);
    }

    /// Notes that something of what was missed has come: the answer waits behind the rest of it.
    pub(super) fn brought(&mut self, now: Timestamp) {
        self.put_off(now, self.terms.answer_ms.max(CATCHING_UP_SILENCE_MS));
    }

    /// Not after a wake: what comes then may have lain here all along.
    fn put_off(&mut self, now: Timestamp, ms: u64) {
        if let State::Asked { deadline, question: Question::Routine | Question::SecondChance, .. } = &mut self.state
            && now < *deadline
        {
            *deadline = (*deadline).max(now.plus(ms));
        }
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
