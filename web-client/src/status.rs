//! What is shown of the connection, from where it stands and since when.
//!
//! Lives here: the timing of pill, bar and countdown. Must not live here: a clock, a timer, or words beyond naming a
//! [`Text`]. Invariant: nothing more hopeful than the session's state is ever shown; "back" only after live.

use shared::close::StopReason;
use shared::session::ConnectionState;
use shared::time::Timestamp;

use crate::words::{Language, Local, Text, Word, stop_words};

/// Not live for less than this: nothing is shown. Milliseconds.
pub const PILL_AFTER_MS: u64 = 1_000;
/// Not live for this long: the bar. Milliseconds.
pub const BAR_AFTER_MS: u64 = 5_000;
/// A shorter wait has no countdown. Milliseconds.
pub const COUNTDOWN_FROM_MS: u64 = 5_000;
/// How long "back online" is shown. Milliseconds.
pub const BACK_SHOWN_MS: u64 = 2_000;

/// What the status follows from.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Where the connection stands.
    pub state: ConnectionState,
    /// Session time at which this very state began.
    pub state_since: Timestamp,
    /// Session time at which the connection ceased to be live, or the page began. Only read while it is not live.
    pub lost_since: Timestamp,
    /// The wall clock of the last moment the page was known to be caught up; absent if it never was.
    pub shown_until: Option<Timestamp>,
    /// The bar has been shown since then: it stays until the page is live again.
    pub bar_seen: bool,
    /// The last recovery.
    pub back: Option<Back>,
    /// Whether this device keeps what is unsent; absent where not known yet.
    pub storage_ok: Option<bool>,
    /// Items not yet acknowledged or refused.
    pub unsent: usize,
    /// The welcome named another build of the page than this one.
    pub new_version: bool,
}

/// A recovery after a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Back {
    /// Session time.
    pub at: Timestamp,
    /// Posts of others that came.
    pub received: u64,
    /// Own items acknowledged.
    pub sent: u64,
    /// The bar was shown during the loss: only then is its end told.
    pub bar_was_shown: bool,
}

/// What is shown of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state's name, at once, for programs and style sheets.
    pub name: &'static str,
    /// The dot in the header.
    pub dot: Dot,
    /// The state in a few words, at once, for whoever asks.
    pub said: Text,
    /// The same in the header, where it is due.
    pub pill: Option<Text>,
    /// The bar above the list.
    pub bar: Option<Bar>,
}

/// The dot in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dot {
    /// Live.
    Live,
    /// Being mended.
    Trying,
    /// The device is offline, or the session is not started.
    Offline,
    /// Stopped until the person acts.
    Stopped,
}

/// The bar above the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Its colour and sign; also `data-kind`.
    pub kind: BarKind,
    /// What it says; announced.
    pub text: Text,
    /// What follows it and changes every second; hidden from announcements.
    pub countdown: Option<Text>,
    /// The button.
    pub action: Option<BarAction>,
}

/// What the bar is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// The first connection.
    Connecting,
    /// Behind the head.
    CatchingUp,
    /// Waiting for the next attempt.
    Waiting,
    /// An attempt is being made.
    Trying,
    /// The server said it restarts.
    Restarting,
    /// The device is offline.
    Offline,
    /// The server is slow.
    Slow,
    /// Stopped until the person acts.
    Stopped,
    /// Live again.
    Back,
    /// This device keeps nothing.
    NoStorage,
    /// Another build of the page is served.
    NewVersion,
}

impl BarKind {
    /// Returns its name for `data-kind`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::CatchingUp => "catching_up",
            Self::Waiting => "waiting",
            Self::Trying => "trying",
            Self::Restarting => "restarting",
            Self::Offline => "offline",
            Self::Slow => "slow",
            Self::Stopped => "stopped",
            Self::Back => "back",
            Self::NoStorage => "no_storage",
            Self::NewVersion => "new_version",
        }
    }
}

/// The bar's button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarAction {
    /// [`crate::store::Action::RetryNow`].
    RetryNow,
    /// [`crate::store::Action::SignInAgain`].
    SignIn,
    /// [`crate::store::Action::Reload`].
    Reload,
}

/// Tells whether a state counts as connected: the link is up and what is shown is current.
#[must_use]
pub const fn is_live(state: &ConnectionState) -> bool {
    matches!(state, ConnectionState::Live | ConnectionState::Slow)
}

impl Facts {
    /// Tells whether the bar is about the connection now. Remembered until the recovery.
    #[must_use]
    pub fn bar_shown(&self, now: Timestamp) -> bool {
        match &self.state {
            ConnectionState::Idle | ConnectionState::Live => false,
            ConnectionState::Slow | ConnectionState::Offline | ConnectionState::Stopped(_) => true,
            ConnectionState::Connecting
            | ConnectionState::CatchingUp { .. }
            | ConnectionState::Waiting { .. }
            | ConnectionState::Trying { .. } => self.bar_seen || now.since(self.lost_since) >= BAR_AFTER_MS,
        }
    }

    /// Says what to show.
    #[must_use]
    pub fn status(&self, now: Timestamp, language: Language, local: Local) -> Status {
        let bar = if self.bar_shown(now) { self.connection_bar(now, language, local) } else { self.other_bar(now) };
        let bar = bar.map(|bar| self.warned(bar));
        let pill_due = !is_live(&self.state) && now.since(self.lost_since) >= PILL_AFTER_MS;
        Status {
            name: crate::words::state_name(&self.state),
            dot: self.dot(),
            said: self.said(),
            pill: pill_due
                .then(|| self.said())
                .filter(|_| !matches!(self.state, ConnectionState::Idle | ConnectionState::Stopped(_))),
            bar,
        }
    }

    /// Says when [`Facts::status`] changes next by time alone.
    #[must_use]
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let pending = |at: Timestamp| (at > now).then_some(at);
        let lost = match &self.state {
            ConnectionState::Idle | ConnectionState::Live | ConnectionState::Slow | ConnectionState::Stopped(_) => None,
            ConnectionState::Offline => pending(self.lost_since.plus(PILL_AFTER_MS)),
            ConnectionState::Connecting
            | ConnectionState::CatchingUp { .. }
            | ConnectionState::Waiting { .. }
            | ConnectionState::Trying { .. } => {
                pending(self.lost_since.plus(PILL_AFTER_MS)).or_else(|| pending(self.lost_since.plus(BAR_AFTER_MS)))
            }
        };
        let tick = match &self.state {
            ConnectionState::Waiting { until, .. } if self.has_countdown(*until) && *until > now => {
                let left = until.since(now);
                Some(now.plus(if left.is_multiple_of(1_000) { 1_000 } else { left % 1_000 }))
            }
            _ => None,
        };
        let back = self.back.and_then(|back| pending(back.at.plus(BACK_SHOWN_MS)));
        [lost, tick, back].into_iter().flatten().min()
    }

    fn has_countdown(&self, until: Timestamp) -> bool {
        until.since(self.state_since) >= COUNTDOWN_FROM_MS
    }

    fn dot(&self) -> Dot {
        match &self.state {
            ConnectionState::Live => Dot::Live,
            ConnectionState::Connecting
            | ConnectionState::CatchingUp { .. }
            | ConnectionState::Slow
            | ConnectionState::Waiting { .. }
            | ConnectionState::Trying { .. } => Dot::Trying,
            ConnectionState::Idle | ConnectionState::Offline => Dot::Offline,
            ConnectionState::Stopped(_) => Dot::Stopped,
        }
    }

    fn said(&self) -> Text {
        Text::Plain(match &self.state {
            ConnectionState::CatchingUp { to_go } => return catching_up(*to_go),
            ConnectionState::Live => Word::StateLive,
            ConnectionState::Slow => Word::StateSlow,
            ConnectionState::Stopped(_) => Word::StateStopped,
            ConnectionState::Idle | ConnectionState::Offline => Word::StateOffline,
            ConnectionState::Waiting { restarting: true, .. } | ConnectionState::Trying { restarting: true, .. } => {
                Word::RestartingShort
            }
            ConnectionState::Waiting { restarting: false, .. } | ConnectionState::Trying { restarting: false, .. }
                if self.shown_until.is_some() =>
            {
                Word::Reconnecting
            }
            ConnectionState::Connecting | ConnectionState::Waiting { .. } | ConnectionState::Trying { .. } => {
                Word::Connecting
            }
        })
    }

    fn connection_bar(&self, now: Timestamp, language: Language, local: Local) -> Option<Bar> {
        let bar = |kind, text, action| Some(Bar { kind, text, countdown: None, action });
        let retry = Some(BarAction::RetryNow);
        match &self.state {
            ConnectionState::Idle | ConnectionState::Live => None,
            ConnectionState::Connecting => bar(BarKind::Connecting, Text::Plain(Word::Connecting), None),
            ConnectionState::CatchingUp { to_go } => bar(BarKind::CatchingUp, catching_up(*to_go), None),
            ConnectionState::Slow => bar(BarKind::Slow, Text::Plain(Word::ServerSlow), None),
            ConnectionState::Waiting { restarting: true, .. } | ConnectionState::Trying { restarting: true, .. } => {
                bar(BarKind::Restarting, Text::Plain(Word::Restarting), retry)
            }
            ConnectionState::Waiting { until, restarting: false, .. } => {
                let text = match self.shown_until {
                    Some(at) => Text::CantReachShowing { time: local.moment(language, at) },
                    None => Text::Plain(Word::CantReach),
                };
                let countdown =
                    self.has_countdown(*until).then(|| Text::RetryingIn { s: until.since(now).div_ceil(1_000) });
                Some(Bar { kind: BarKind::Waiting, text, countdown, action: retry })
            }
            ConnectionState::Trying { restarting: false, .. } => {
                bar(BarKind::Trying, Text::Plain(Word::CantReachTrying), None)
            }
            ConnectionState::Offline => {
                let kept = self.storage_ok != Some(false);
                bar(
                    BarKind::Offline,
                    if kept { Text::Plain(Word::Offline) } else { Text::Plain(Word::OfflineNoStorage) },
                    retry,
                )
            }
            ConnectionState::Stopped(reason) => {
                let (text, action) = match reason {
                    StopReason::SignedOut => {
                        (Text::SessionEnded { unsent: self.unsent as u64 }, Some(BarAction::SignIn))
                    }
                    StopReason::BadVersion => (Text::Plain(Word::NewVersion), Some(BarAction::Reload)),
                    StopReason::Banned => (Text::Stopped { why: stop_words(language, *reason) }, None),
                    StopReason::Superseded | StopReason::TooManyConnections | StopReason::Other => {
                        (Text::Stopped { why: stop_words(language, *reason) }, retry)
                    }
                };
                bar(BarKind::Stopped, text, action)
            }
        }
    }

    /// While the server is out of reach and something would be lost with the tab, that is what the bar says.
    fn warned(&self, bar: Bar) -> Bar {
        let would_lose = self.storage_ok == Some(false) && self.unsent > 0;
        match bar.kind {
            BarKind::Waiting | BarKind::Trying | BarKind::Restarting | BarKind::Slow if would_lose => {
                Bar { text: Text::Plain(Word::NoStorage), ..bar }
            }
            BarKind::Connecting
            | BarKind::CatchingUp
            | BarKind::Waiting
            | BarKind::Trying
            | BarKind::Restarting
            | BarKind::Offline
            | BarKind::Slow
            | BarKind::Stopped
            | BarKind::Back
            | BarKind::NoStorage
            | BarKind::NewVersion => bar,
        }
    }

    /// What the bar says while it has nothing to say of the connection.
    fn other_bar(&self, now: Timestamp) -> Option<Bar> {
        let bar = |kind, text, action| Some(Bar { kind, text, countdown: None, action });
        if let Some(back) = self.back
            && back.bar_was_shown
            && self.state == ConnectionState::Live
            && now.since(back.at) < BACK_SHOWN_MS
        {
            return bar(BarKind::Back, Text::BackOnline { received: back.received, sent: back.sent }, None);
        }
        if self.storage_ok == Some(false) && (self.unsent > 0 || !is_live(&self.state)) {
            return bar(BarKind::NoStorage, Text::Plain(Word::NoStorage), None);
        }
        if self.new_version {
            return bar(BarKind::NewVersion, Text::Plain(Word::NewVersion), Some(BarAction::Reload));
        }
        None
    }
}

fn catching_up(to_go: u64) -> Text {
    if to_go == 0 { Text::Plain(Word::CatchingUpUnknown) } else { Text::CatchingUp { n: to_go } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(100_000);

    fn facts(state: ConnectionState) -> Facts {
        Facts {
            state,
            state_since: START,
            lost_since: START,
            shown_until: None,
            bar_seen: false,
            back: None,
            storage_ok: Some(true),
            unsent: 0,
            new_version: false,
        }
    }

    fn shown(facts: &Facts, after_ms: u64) -> Status {
        facts.status(START.plus(after_ms), Language::English, Local::default())
    }

    fn waiting(wait_ms: u64) -> ConnectionState {
        ConnectionState::Waiting { until: START.plus(wait_ms), attempts: 3, restarting: false }
    }

    #[test]
    fn a_loss_is_silent_for_a_second_a_pill_for_four_and_then_a_bar() {
        let facts = Facts {
            shown_until: Some(Timestamp(0)),
            ..facts(ConnectionState::Trying { attempts: 1, restarting: false })
        };
        assert_eq!((shown(&facts, 999).pill, shown(&facts, 999).bar), (None, None));
        assert_eq!(
            (shown(&facts, 1_000).pill, shown(&facts, 1_000).bar),
            (Some(Text::Plain(Word::Reconnecting)), None)
        );
        assert_eq!(shown(&facts, 4_999).bar, None);
        assert_eq!(shown(&facts, 5_000).bar.unwrap().text, Text::Plain(Word::CantReachTrying));
        assert_eq!(facts.next_change(START), Some(START.plus(1_000)));
        assert_eq!(facts.next_change(START.plus(1_000)), Some(START.plus(5_000)));
        assert_eq!(facts.next_change(START.plus(5_000)), None);
    }

    #[test]
    fn the_first_load_says_connecting_not_reconnecting() {
        assert_eq!(shown(&facts(ConnectionState::Connecting), 1_500).pill, Some(Text::Plain(Word::Connecting)));
        assert_eq!(shown(&facts(waiting(800)), 1_500).pill, Some(Text::Plain(Word::Connecting)));
    }

    #[test]
    fn whoever_asks_is_told_the_state_itself_also_before_a_pill_is_due() {
        for (state, words) in [
            (ConnectionState::Connecting, "Connecting…"),
            (ConnectionState::CatchingUp { to_go: 7 }, "Catching up… 7 to go"),
            (ConnectionState::Live, "Connected"),
            (ConnectionState::Slow, "Connected, slow to answer"),
            (ConnectionState::Offline, "Offline"),
            (ConnectionState::Stopped(StopReason::Other), "Disconnected"),
        ] {
            let status = shown(&facts(state), 0);
            assert_eq!((status.said.english(), status.pill), (words.into(), None));
        }
    }

    #[test]
    fn offline_is_told_at_once_and_promises_storage_only_where_there_is_some() {
        assert_eq!(shown(&facts(ConnectionState::Offline), 0).bar.unwrap().text, Text::Plain(Word::Offline));
        let bare = Facts { storage_ok: Some(false), ..facts(ConnectionState::Offline) };
        assert_eq!(shown(&bare, 0).bar.unwrap().text, Text::Plain(Word::OfflineNoStorage));
    }

    #[test]
    fn a_bar_once_shown_stays_until_the_page_is_live() {
        let facts = Facts { bar_seen: true, ..facts(ConnectionState::CatchingUp { to_go: 7 }) };
        assert_eq!(shown(&facts, 0).bar.unwrap().text, Text::CatchingUp { n: 7 });
        assert_eq!(shown(&Facts { state: ConnectionState::Live, ..facts }, 0).bar, None);
    }

    #[test]
    fn only_a_wait_of_five_seconds_counts_down() {
        let long = Facts { lost_since: Timestamp(0), shown_until: Some(Timestamp(0)), ..facts(waiting(7_000)) };
        let bar = shown(&long, 0).bar.unwrap();
        assert_eq!(bar.text, Text::CantReachShowing { time: "00:00".into() });
        assert_eq!(bar.countdown, Some(Text::RetryingIn { s: 7 }));
        assert_eq!(bar.action, Some(BarAction::RetryNow));
        assert_eq!(shown(&long, 6_001).bar.unwrap().countdown, Some(Text::RetryingIn { s: 1 }));
        assert_eq!(long.next_change(START.plus(1)), Some(START.plus(1_000)));
        assert_eq!(long.next_change(START.plus(1_000)), Some(START.plus(2_000)));
        let short = Facts { lost_since: Timestamp(0), ..facts(waiting(4_999)) };
        assert_eq!(shown(&short, 0).bar.unwrap().countdown, None);
        assert_eq!(short.next_change(START.plus(1)), None);
    }

    #[test]
    fn being_back_is_told_for_two_seconds_and_only_if_the_bar_was_shown() {
        let back = Back { at: START, received: 3, sent: 2, bar_was_shown: true };
        let told = Facts { back: Some(back), ..facts(ConnectionState::Live) };
        assert_eq!(shown(&told, 0).bar.unwrap().kind, BarKind::Back);
        assert_eq!(shown(&told, 1_999).bar.unwrap().text, Text::BackOnline { received: 3, sent: 2 });
        assert_eq!(shown(&told, 2_000).bar, None);
        assert_eq!(told.next_change(START), Some(START.plus(2_000)));
        let quiet = Facts { back: Some(Back { bar_was_shown: false, ..back }), ..facts(ConnectionState::Live) };
        assert_eq!(shown(&quiet, 0).bar, None);
        let lost_again = Facts { state: ConnectionState::Trying { attempts: 1, restarting: false }, ..told };
        assert_eq!(shown(&lost_again, 0).bar, None, "never more hopeful than the state");
    }

    #[test]
    fn a_restart_says_so_while_waiting_and_while_trying() {
        for state in [
            ConnectionState::Waiting { until: START.plus(9_000), attempts: 0, restarting: true },
            ConnectionState::Trying { attempts: 1, restarting: true },
        ] {
            let bar = shown(&facts(state), 6_000).bar.unwrap();
            assert_eq!((bar.text, bar.countdown), (Text::Plain(Word::Restarting), None));
        }
    }

    #[test]
    fn every_stop_says_what_to_do() {
        for (reason, action) in [
            (StopReason::SignedOut, Some(BarAction::SignIn)),
            (StopReason::Superseded, Some(BarAction::RetryNow)),
            (StopReason::Banned, None),
            (StopReason::BadVersion, Some(BarAction::Reload)),
            (StopReason::TooManyConnections, Some(BarAction::RetryNow)),
            (StopReason::Other, Some(BarAction::RetryNow)),
        ] {
            let status = shown(&facts(ConnectionState::Stopped(reason)), 0);
            assert_eq!(status.bar.unwrap().action, action, "{reason:?}");
            assert_eq!(status.dot, Dot::Stopped);
        }
    }

    #[test]
    fn without_storage_a_live_page_warns_only_while_something_is_unsent() {
        let idle = Facts { storage_ok: Some(false), ..facts(ConnectionState::Live) };
        assert_eq!(shown(&idle, 0).bar, None);
        let busy = Facts { unsent: 1, ..idle };
        assert_eq!(shown(&busy, 0).bar.unwrap().text, Text::Plain(Word::NoStorage));
        let lost = Facts { state: waiting(9_000), lost_since: Timestamp(0), ..busy };
        let bar = shown(&lost, 0).bar.unwrap();
        assert_eq!(
            (bar.kind, bar.text, bar.action),
            (BarKind::Waiting, Text::Plain(Word::NoStorage), Some(BarAction::RetryNow))
        );
    }
}
