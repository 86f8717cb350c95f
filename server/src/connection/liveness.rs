//! Whether the other end is alive, judged by what the application says. Pongs prove nothing: a frozen page answers them.
//!
//! Must not live here: clocks or sockets. Invariant: a peer is declared dead only after it was asked and kept silent.
//!
//! ```text
//! heard ──interval + answer──▶ asked ──until the limit since it was last heard──▶ dead
//!   ▲──────────anything────────┘
//! ```

use std::time::{Duration, Instant};

use shared::planted::{Bug, is_planted};

use crate::config::{Timing, ms};

/// What to do about a silent peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing yet.
    Wait,
    /// Ask, with this number.
    Ask(u64),
    /// It is gone.
    Dead,
}

/// The judge of one peer. How patient it is is handed in, for it is the same for all.
#[derive(Debug)]
pub(super) struct Liveness {
    heard: Instant,
    hidden: bool,
    asked: Option<Instant>,
    questions: u64,
}

impl Liveness {
    pub(super) const fn new(now: Instant) -> Self {
        Self { heard: now, hidden: false, asked: None, questions: 0 }
    }

    /// Something came that only the application can have sent.
    pub(super) fn heard(&mut self, now: Instant) {
        if is_planted(Bug::SpeakerClosed) {
            return;
        }
        self.heard = now;
        self.asked = None;
    }

    /// The page was shown or hidden.
    pub(super) const fn set_hidden(&mut self, hidden: bool) {
        self.hidden = hidden;
    }

    /// Returns when to call [`Liveness::act`] next.
    pub(super) fn deadline(&self, timing: &Timing) -> Instant {
        self.ask_at(timing).min(self.dead_at(timing))
    }

    /// Says what to do now.
    pub(super) fn act(&mut self, timing: &Timing, now: Instant) -> Action {
        // A question that was never asked was never ignored: a process that slept asks before it judges.
        if now >= self.dead_at(timing) && self.asked.is_some() {
            return Action::Dead;
        }
        if now >= self.ask_at(timing) {
            if self.asked.is_none() && now >= self.dead_at(timing) {
                let patience = ms(timing.dead_peer_ms).saturating_sub(ask_after(timing, false));
                self.heard = now.checked_sub(self.limit(timing).saturating_sub(patience)).unwrap_or(now);
            }
            self.asked = Some(now);
            self.questions += 1;
            return Action::Ask(self.questions);
        }
        Action::Wait
    }

    fn dead_at(&self, timing: &Timing) -> Instant {
        self.heard + self.limit(timing)
    }

    fn ask_at(&self, timing: &Timing) -> Instant {
        self.asked.unwrap_or(self.heard) + ask_after(timing, self.hidden)
    }

    const fn limit(&self, timing: &Timing) -> Duration {
        ms(if self.hidden { timing.dead_peer_hidden_ms } else { timing.dead_peer_ms })
    }
}

/// How long after the last sign of life a page is asked.
const fn ask_after(timing: &Timing, hidden: bool) -> Duration {
    let interval_ms = if hidden { timing.beat_hidden_interval_ms } else { timing.beat_interval_ms };
    ms(interval_ms.saturating_add(timing.beat_answer_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn judge() -> (Liveness, Timing, Instant) {
        let config = crate::config::Config::try_parse_from(["server"]).unwrap();
        let start = Instant::now();
        (Liveness::new(start), config.timing, start)
    }

    /// Follows the deadlines for a while and lists what was done, in seconds.
    fn history(judge: &mut Liveness, timing: &Timing, start: Instant) -> Vec<(u64, Action)> {
        let mut done = Vec::new();
        while done.last().is_none_or(|(_, action)| *action != Action::Dead) && done.len() < 20 {
            let now = judge.deadline(timing);
            done.push((now.duration_since(start).as_secs(), judge.act(timing, now)));
        }
        done
    }

    #[test]
    fn a_silent_visible_page_is_asked_and_freed_within_thirty_seconds() {
        let (mut judge, timing, start) = judge();
        assert_eq!(history(&mut judge, &timing, start), [(14, Action::Ask(1)), (28, Action::Dead)]);
    }

    #[test]
    fn a_silent_hidden_page_is_freed_after_150_seconds() {
        let (mut judge, timing, start) = judge();
        judge.set_hidden(true);
        let done = history(&mut judge, &timing, start);
        assert_eq!(done.first(), Some(&(34, Action::Ask(1))));
        assert_eq!(done.last(), Some(&(150, Action::Dead)));
    }

    #[test]
    fn an_answer_starts_over() {
        let (mut judge, timing, start) = judge();
        let later = start + Duration::from_secs(14);
        assert_eq!(judge.act(&timing, later), Action::Ask(1));
        judge.heard(later + Duration::from_secs(13));
        assert_eq!(judge.act(&timing, start + Duration::from_secs(30)), Action::Wait);
    }

    #[test]
    fn a_process_that_slept_asks_before_it_judges() {
        let (mut judge, timing, start) = judge();
        let woken = start + Duration::from_secs(600);
        assert_eq!(judge.act(&timing, woken), Action::Ask(1));
        assert_eq!(judge.act(&timing, woken + Duration::from_secs(1)), Action::Wait);
        assert_eq!(judge.act(&timing, woken + Duration::from_secs(15)), Action::Dead);
    }
}
