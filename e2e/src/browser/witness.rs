//! What a tab has shown at every moment of its life, and whether it was true.
//!
//! Lives here: the script that notes every change of what is shown, the spans in which the link was cut, and the rules
//! that compare both. Must not live here: making faults. Invariant: a note leaves the page at once, so neither a reload
//! nor a crash loses one; and the rules believe what cut the link, not what the page says of it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::proxy::Weather;

/// The function by which the page tells the test.
pub(super) const BINDING: &str = "holdfastWitness";

/// Notes what is shown whenever it changes: the words of the connection, rows that became committed, rows shown twice.
pub(super) const SCRIPT: &str = "(() => {
    const tell = window.holdfastWitness;
    if (!tell || window !== window.top) return;
    const now = Date.now.bind(Date);
    const known = new Map();
    let last = '';
    const text = (id) => document.querySelector(`[data-testid=${id}]`)?.textContent ?? null;
    const look = () => {
        const sent = [], doubled = [], keys = new Set(), places = new Set();
        for (const row of document.querySelectorAll('[data-testid=row]')) {
            const { key, seq } = row.dataset;
            if (keys.has(key) || (seq && places.has(seq))) doubled.push(`${key} at ${seq}`);
            keys.add(key);
            if (!seq) continue;
            places.add(seq);
            if (known.get(seq) !== key) { known.set(seq, key); sent.push(Number(seq)); }
        }
        const shown = {
            state: (document.querySelector('[data-testid=panel-open]')
                && document.querySelector('[data-testid=status]')?.dataset.state) ?? null,
            kind: document.querySelector('[data-testid=status-bar]')?.dataset.kind ?? null,
            bar: text('status-bar'), pill: text('status-pill'), sent, doubled,
        };
        const told = JSON.stringify(shown);
        if (told === last) return;
        last = JSON.stringify({ ...shown, sent: [] });
        tell(JSON.stringify({ at: now(), ...shown }));
    };
    new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true,
        attributes: true, attributeFilter: ['data-state', 'data-kind', 'data-seq', 'data-key'] });
})()";

/// The state of a page that is where its server is.
pub(super) const LIVE: &str = "live";

/// What was shown from one moment to the next.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Shown {
    /// The wall clock, in milliseconds.
    pub at: f64,
    /// The state's name; absent while there is no page, or nothing but a form to sign in.
    pub state: Option<String>,
    /// What the bar is about.
    pub kind: Option<String>,
    /// What the bar says.
    pub bar: Option<String>,
    /// What the pill says.
    pub pill: Option<String>,
    /// Places of rows that became committed just now.
    pub sent: Vec<u64>,
    /// Rows that stand in the document twice.
    pub doubled: Vec<String>,
}

impl Shown {
    /// From now on nothing is shown: there is no page any more.
    pub(super) fn nothing() -> Self {
        Self { at: wall_ms(), ..Self::default() }
    }
}

/// A span in which nothing passed between a tab and the server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cut {
    /// What cut it, for words.
    what: &'static str,
    /// The wall clock, in milliseconds.
    from: f64,
    /// The same; absent while it lasts.
    until: Option<f64>,
    /// For how long the page may still believe that the link stands.
    notice: Duration,
    /// Nothing came down either, so nothing can become committed.
    is_silent: bool,
}

/// A refused or reset connection is seen at once; the rest is for a busy machine.
const NOTICE_CLOSED: Duration = Duration::from_secs(4);
/// Fifteen seconds is the promise for a link that is silently dead; the rest is for a busy machine.
const NOTICE_SILENT: Duration = Duration::from_secs(18);
/// What was on its way when the link was cut may still arrive.
const IN_FLIGHT_MS: f64 = 1_000.0;

/// Returns the wall clock, as the page of this machine reads it.
fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs_f64() * 1_000.0
}

impl Cut {
    /// Begins the cut that a weather is, if it is one.
    pub(super) fn of(weather: Weather) -> Option<Self> {
        let (what, notice, is_silent) = match weather {
            Weather::Fair | Weather::Delayed { .. } | Weather::Rough { .. } | Weather::Thin { .. } => return None,
            Weather::Reset => ("the link was reset", NOTICE_CLOSED, true),
            Weather::Frozen => ("the link stood still", NOTICE_SILENT, true),
            Weather::BlackHole { down, .. } => ("the link swallowed everything", NOTICE_SILENT, down),
        };
        Some(Self { what, from: wall_ms(), until: None, notice, is_silent })
    }

    /// Begins the cut that a dead server is.
    pub(super) fn dead_server() -> Self {
        Self { what: "the server was dead", from: wall_ms(), until: None, notice: NOTICE_CLOSED, is_silent: true }
    }

    /// Begins the cut that a device without a network is.
    pub(super) fn offline() -> Self {
        Self { what: "the device was offline", from: wall_ms(), until: None, notice: NOTICE_CLOSED, is_silent: true }
    }

    /// Ends it.
    pub(super) fn end(&mut self) {
        self.until.get_or_insert_with(wall_ms);
    }
}

/// Which bars fit a state. The bar of a state that is not live may come late, and what is not about the connection may
/// stand in its place until then.
fn fits(state: &str, kind: Option<&str>) -> bool {
    let Some(kind) = kind else { return !matches!(state, "offline" | "stopped" | "slow") };
    let own: &[&str] = match state {
        "live" => &["back", "no_storage", "new_version"],
        "slow" => &["slow"],
        "connecting" => &["connecting", "no_storage", "new_version"],
        "catching_up" => &["catching_up", "no_storage", "new_version"],
        "waiting" => &["waiting", "restarting", "no_storage", "new_version"],
        "trying" => &["trying", "restarting", "no_storage", "new_version"],
        "offline" => &["offline"],
        "stopped" => &["stopped"],
        "idle" => &["no_storage", "new_version"],
        _ => &[],
    };
    own.contains(&kind)
}

/// Tells whether a state says that the server answers.
fn is_hopeful(state: &str) -> bool {
    matches!(state, "live" | "slow" | "catching_up")
}

/// Tells whether the notes are of what a page shows: where a test has seen that it claims to be live, they say so. Notes of
/// nothing would find nothing.
pub(super) fn are_of_it(shown: &[Shown], is_seen_live: bool) -> bool {
    !is_seen_live || shown.iter().any(|shown| shown.state.as_deref() == Some(LIVE))
}

/// Says what of all that was shown was not true.
pub(super) fn untruths(shown: &[Shown], cuts: &[Cut]) -> Vec<String> {
    let mut found = Vec::new();
    let mut committed = BTreeMap::new();
    for (index, now) in shown.iter().enumerate() {
        let until = shown.get(index + 1).map_or(f64::INFINITY, |next| next.at);
        for place in &now.sent {
            committed.entry(*place).or_insert(now.at);
        }
        if !now.doubled.is_empty() {
            found.push(format!("rows shown twice: {:?}", now.doubled));
        }
        let Some(state) = now.state.as_deref() else { continue };
        if !fits(state, now.kind.as_deref()) {
            found.push(format!("the bar {:?} says {:?} in the state {state}", now.kind, now.bar));
        }
        if let Some(pill) = now.pill.as_deref().filter(|_| matches!(state, "live" | "slow" | "stopped")) {
            found.push(format!("the pill says {pill:?} in the state {state}"));
        }
        for cut in cuts.iter().filter(|_| is_hopeful(state)) {
            let noticed_by = cut.from + cut.notice.as_secs_f64() * 1_000.0;
            let over = until.min(cut.until.unwrap_or(f64::INFINITY)) - now.at.max(noticed_by);
            let before = index.checked_sub(1).and_then(|before| shown[before].state.as_deref());
            let is_in_cut = now.at > cut.from + IN_FLIGHT_MS && cut.until.is_none_or(|until| now.at < until);
            if is_in_cut && before.is_some_and(|before| !is_hopeful(before)) {
                found.push(format!("the state became {state} while {}", cut.what));
            }
            // A tab that still shows it when the test ends shows it for ever: that is found too.
            if over > 0.0 {
                found.push(format!("{state} was shown for {over:.0} ms too long while {}", cut.what));
            }
        }
    }
    for (place, at) in committed {
        for cut in cuts.iter().filter(|cut| cut.is_silent) {
            if at > cut.from + IN_FLIGHT_MS && cut.until.is_none_or(|until| at < until) {
                found.push(format!("place {place} was shown as committed while {}", cut.what));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(at: f64, state: &str, kind: Option<&str>) -> Shown {
        Shown { at, state: Some(state.to_owned()), kind: kind.map(str::to_owned), ..Shown::default() }
    }

    fn cut(from: f64, until: f64) -> Cut {
        Cut { from, until: Some(until), ..Cut::dead_server() }
    }

    #[test]
    fn a_page_that_notices_in_time_and_is_live_only_afterwards_tells_the_truth() {
        let day = [
            shown(0.0, "live", None),
            shown(12_000.0, "waiting", None),
            shown(15_000.0, "waiting", Some("waiting")),
            shown(31_000.0, "live", Some("back")),
            shown(33_000.0, "live", None),
        ];
        assert_eq!(untruths(&day, &[cut(10_000.0, 30_000.0)]), Vec::<String>::new());
    }

    #[test]
    fn live_on_a_cut_link_is_found() {
        let late = [shown(0.0, "live", None), shown(15_000.0, "waiting", None)];
        assert_eq!(untruths(&late, &[cut(10_000.0, 30_000.0)]).len(), 1);
        let early = [shown(0.0, "waiting", None), shown(29_000.0, "live", None)];
        assert_eq!(untruths(&early, &[cut(10_000.0, 30_000.0)]).len(), 2);
        let hasty = [shown(0.0, "live", None), shown(10_100.0, "trying", None), shown(12_000.0, "live", None)];
        assert_eq!(untruths(&hasty, &[cut(10_000.0, 13_000.0)]).len(), 1, "what was noticed is not unnoticed");
        let never = [shown(0.0, "live", None)];
        assert_eq!(untruths(&never, &[Cut { until: None, ..cut(10_000.0, 0.0) }]).len(), 1);
        assert!(untruths(&never, &[cut(10_000.0, 13_000.0)]).is_empty(), "a blip nobody has to notice");
    }

    #[test]
    fn a_row_that_becomes_committed_on_a_dead_link_is_found_and_one_in_flight_is_not() {
        let row = |at| Shown { sent: vec![7], ..shown(at, "waiting", None) };
        assert!(untruths(&[row(10_500.0)], &[cut(10_000.0, 30_000.0)]).is_empty());
        assert_eq!(untruths(&[row(12_000.0)], &[cut(10_000.0, 30_000.0)]).len(), 1);
        assert!(untruths(&[row(30_500.0)], &[cut(10_000.0, 30_000.0)]).is_empty());
    }

    #[test]
    fn notes_of_nothing_are_no_notes_of_a_page_that_was_seen_live() {
        let blind = [Shown::default(), Shown { bar: Some("Reconnecting…".to_owned()), ..Shown::default() }];
        assert!(!are_of_it(&blind, true) && !are_of_it(&[], true));
        assert!(are_of_it(&blind, false) && are_of_it(&[shown(0.0, "live", None)], true));
    }

    #[test]
    fn words_that_do_not_fit_the_state_and_doubled_rows_are_found() {
        assert_eq!(untruths(&[shown(0.0, "live", Some("waiting"))], &[]).len(), 1);
        assert_eq!(untruths(&[shown(0.0, "offline", None)], &[]).len(), 1);
        let pill = Shown { pill: Some("Reconnecting…".to_owned()), ..shown(0.0, "live", None) };
        assert_eq!(untruths(&[pill], &[]).len(), 1);
        let ahead = [shown(0.0, "trying", Some("waiting")), shown(1.0, "trying", Some("trying"))];
        assert_eq!(untruths(&ahead, &[]).len(), 1, "a bar that is a moment behind the state");
        let doubled = Shown { doubled: vec!["a at 1".to_owned()], ..shown(0.0, "live", None) };
        assert_eq!(untruths(&[doubled], &[]).len(), 1);
        assert!(untruths(&[Shown::default()], &[]).is_empty(), "no page says nothing");
    }
}
