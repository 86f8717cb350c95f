//! How long a connection lasts: its deadlines, and its end.
//!
//! Must not live here: what is said meanwhile. Invariant: every phase but the last has a deadline, and every end but a
//! broken socket says why, in-band and in its close frame.

use std::time::{Duration, Instant};

use shared::close;
use shared::message::{BeatAsked, Closing, Event};

use super::liveness::Action;
use super::sends::Sends;
use super::{Connection, Phase, Whose, requests};
use crate::config::ms;
use crate::socket::Socket;
use crate::ws::frame;

impl<S: Socket> Connection<S> {
    /// Returns when [`Connection::on_deadline`] has something to do.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        let slow = self.outlet.lock().judged_at(ms(self.app.config.timing.slow_timeout_ms));
        let phase = match self.phase {
            Phase::Closing { until, .. } => return until,
            Phase::Hello { until } => until,
            Phase::Greeting | Phase::Open | Phase::Over => self.liveness.deadline(&self.app.config.timing),
        };
        let drain = self.drain_at.filter(|_| !self.is_drain_due(now));
        let session = self.session_at.filter(|_| self.job.is_none());
        [slow, drain, session, self.heads_due].into_iter().flatten().fold(phase, Instant::min)
    }

    pub(super) fn on_deadline(&mut self, now: Instant) {
        match self.phase {
            Phase::Hello { until } if now >= until => return self.close_with(close::HELLO_TIMEOUT),
            Phase::Closing { until, .. } if now >= until => {
                self.phase = Phase::Over;
                return;
            }
            Phase::Over | Phase::Closing { .. } => return,
            Phase::Hello { .. } | Phase::Greeting | Phase::Open => {}
        }
        let slow = ms(self.app.config.timing.slow_timeout_ms);
        if self.outlet.lock().is_stuck(now, slow) {
            return self.close_with(close::SLOW);
        }
        if matches!(self.phase, Phase::Greeting | Phase::Open) {
            // What came while this process was held up counts as heard in time.
            self.read(now);
            if !matches!(self.phase, Phase::Greeting | Phase::Open) {
                // It ended the connection: nothing follows a close frame.
                return;
            }
            if !self.wants_to_read(now) {
                // Whoever is not listened to is not silent.
                self.liveness.heard(now);
            }
            match self.liveness.act(&self.app.config.timing, now) {
                Action::Wait => {}
                Action::Ask(n) => {
                    self.tell(Event::Beat(BeatAsked { n }));
                    self.outlet.lock().push(frame::ping(&n.to_be_bytes()));
                }
                Action::Dead => return self.close_with(close::NO_HEARTBEAT),
            }
        }
        if self.session_at.is_some_and(|at| now >= at)
            && self.job.is_none()
            && let Some(entered) = &self.entered
        {
            // Looked at again a little later should this attempt come to nothing.
            self.session_at = Some(now + SESSION_AGAIN);
            self.job = Some((None, requests::renew(&self.app, &entered.peer)));
        }
    }

    pub(super) fn is_drain_due(&self, now: Instant) -> bool {
        self.drain_at.is_some_and(|at| now >= at)
    }

    pub(super) fn end_if_drained(&mut self, now: Instant) {
        if self.is_drain_due(now) && self.sends.is_idle() && self.job.is_none() && self.requests.is_empty() {
            self.close_with(close::RESTART);
        }
    }

    /// Closes with a code of the registry, in its words.
    pub(super) fn close_with(&mut self, code: u16) {
        let words = close::lookup(code).map_or("", |meaning| meaning.words);
        self.close(code, words);
    }

    /// Says why in-band, since proxies turn closes into 1006, then closes.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        if matches!(self.phase, Phase::Closing { .. } | Phase::Over) {
            return;
        }
        tracing::debug!(code, reason, user = self.user_for_logs(), "closing a connection");
        if !matches!(code, close::RESTART | close::STORAGE_STOPPED) {
            // What waits would come again after a resume, and whoever was shown out gets nothing more.
            self.outlet.lock().cut();
        }
        self.tell(Event::Closing(Closing { code, reason: reason.to_owned() }));
        self.outlet.lock().push(frame::close(code, reason));
        self.begin_closing(false);
    }

    pub(super) fn begin_closing(&mut self, answered: bool) {
        let until = self.app.ambient.now() + ms(self.app.config.timing.close_wait_ms);
        self.phase = Phase::Closing { until, answered };
        self.outlet.lock().keep();
        self.entered = None;
        self.job = None;
        self.page = None;
        self.requests.clear();
        self.sends = Sends::default();
        self.heads_due = None;
    }

    pub(super) fn end_if_closed(&mut self) {
        let Phase::Closing { answered, .. } = self.phase else { return };
        if !self.outlet.lock().is_empty() {
            return;
        }
        if answered {
            self.phase = Phase::Over;
        } else if !self.is_finished {
            // Whoever reads to the end of the stream has it at once; their answer is still waited for.
            self.is_finished = true;
            if self.socket.finish().is_err() {
                self.phase = Phase::Over;
            }
        }
    }

    fn user_for_logs(&self) -> String {
        match &self.whose {
            Whose::Shown(identity) => identity.user.to_string(),
            Whose::Known(user) => user.to_string(),
            Whose::Refused(_) => String::new(),
        }
    }
}

/// How long to wait before a session that could not be renewed is looked at again.
const SESSION_AGAIN: Duration = Duration::from_secs(30);
