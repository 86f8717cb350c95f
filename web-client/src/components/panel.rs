//! The connection panel: what the page knows of its connection, so that anyone can see why it is as it is.
//!
//! Must not live here: collecting it. Invariant: nothing here is a secret or a post; the copied diagnostics are the same.

use std::rc::Rc;

use shared::session::{ConnectionState, Happened};
use shared::time::Timestamp;
use yew::prelude::*;

use super::button::{close_button, entry};
use super::frame::{Frame, use_frame, use_region_focus};
use super::header::tone;
use super::icon::Icon;
use crate::status::Status;
use crate::store::{Action, Panel, Weather};
use crate::words::{Text, Word, happened};

/// The sparkline's own units.
const SPARK: (f64, f64) = (300.0, 44.0);
/// The least the sparkline's height stands for, so that a steady 3 ms does not look like mountains. Milliseconds.
const SPARK_LEAST_MS: u64 = 50;

/// Properties of [`ConnectionPanel`].
#[derive(Properties, PartialEq)]
pub struct PanelProps {
    /// What is known.
    pub panel: Rc<Panel>,
    /// Where the connection stands.
    pub connection: ConnectionState,
    /// What is shown of it elsewhere.
    pub status: Status,
    /// The wall clock.
    pub wall: Timestamp,
    /// Items not yet acknowledged.
    pub queued: usize,
    /// Items refused.
    pub refused: usize,
}

/// The connection panel.
#[component]
pub fn ConnectionPanel(props: &PanelProps) -> Html {
    let frame = use_frame();
    let panel = &props.panel;
    let region = use_region_focus();
    let fact = |name: Word, value: AttrValue| html! { <><dt>{ frame.word(name) }</dt><dd>{ value }</dd></> };
    let not_yet = || frame.word(Word::NotYet);
    let round_trip = panel.round_trips.last().map_or_else(not_yet, |ms| frame.say(&Text::Milliseconds { ms: *ms }));
    let last_frame =
        panel.last_frame.map_or_else(not_yet, |at| frame.say(&Text::SecondsAgo { s: props.wall.since(at) / 1_000 }));
    let connection = panel.connection.map_or_else(not_yet, |id| id.to_string().into());
    let server = panel.server.as_ref().map_or_else(not_yet, |server| server.build.clone().into());
    let close = frame.actions.on(Action::CloseDialog);
    html! {
        <aside ref={region} class="panel" id="panel" tabindex="-1" data-testid="panel" aria-label={frame.word(Word::Connection)}>
            <div class="panel-head">
                <h2>{ frame.word(Word::Connection) }</h2>
                { close_button(&frame, close) }
            </div>
            <div class="panel-body">
                <p class={classes!("state-line", tone(props.status.dot))}>
                    <span class="dot" aria-hidden="true"></span>
                    { frame.say(props.status.bar.as_ref().map_or(&props.status.said, |bar| &bar.text)) }
                </p>
                <div>
                    <dl class="facts">
                        { fact(Word::RoundTrip, round_trip) }
                    </dl>
                    { sparkline(&panel.round_trips) }
                </div>
                <dl class="facts">
                    { fact(Word::LastFrame, last_frame) }
                    { fact(Word::Attempt, panel.attempt.to_string().into()) }
                    { fact(Word::ConnectionNumber, connection) }
                    { fact(Word::ServerBuild, server) }
                    { fact(Word::PageBuild, panel.build.into()) }
                    if props.queued > 0 { { fact(Word::Unsent, frame.say(&Text::QueuedCount { n: props.queued as u64 })) } }
                    if props.refused > 0 { { fact(Word::Refused, frame.say(&Text::RefusedCount { n: props.refused as u64 })) } }
                </dl>
                if let Some(weather) = panel.weather { { weather_switch(&frame, weather) } }
                { entry("button wide", Some("panel-copy"), Icon::Copy, frame.word(Word::CopyDiagnostics),
                    frame.actions.on(Action::CopyDiagnostics)) }
                <section>
                    <h3>{ frame.word(Word::Timeline) }</h3>
                    <ol class="happenings">{ for panel.lines.iter().rev().map(|line| {
                        html! {
                            <li class={classes!(line_tone(&line.what))}>
                                <time>{ frame.local.hour_and_seconds(line.at) }</time>
                                <span>{ happened(frame.language, &line.what) }</span>
                            </li>
                        }
                    }) }</ol>
                </section>
            </div>
        </aside>
    }
}

/// Returns the class of a line of the timeline: losses and recoveries stand out.
const fn line_tone(what: &Happened) -> Option<&'static str> {
    match what {
        Happened::Live | Happened::Resumed { .. } => Some("good"),
        Happened::Closed { .. }
        | Happened::HeartbeatMissed
        | Happened::ResetRoom { .. }
        | Happened::Online(false)
        | Happened::Unreadable { .. } => Some("bad"),
        Happened::Attempted
        | Happened::Opened
        | Happened::Welcomed { .. }
        | Happened::Deduplicated { .. }
        | Happened::Gap { .. }
        | Happened::AckLate
        | Happened::Draining
        | Happened::Waiting { .. }
        | Happened::Online(true)
        | Happened::Visible(_)
        | Happened::Woke => None,
    }
}

fn weather_switch(frame: &Frame, now: Weather) -> Html {
    let choice = |weather: Weather| {
        let (text, value) = match weather {
            Weather::Fair => (Word::WeatherFair, "fair"),
            Weather::Cut => (Word::WeatherCut, "cut"),
            Weather::Frozen => (Word::WeatherFrozen, "frozen"),
            Weather::Slow => (Word::WeatherSlow, "slow"),
        };
        html! {
            <button type="button" data-value={value} aria-pressed={(weather == now).to_string()}
                onclick={frame.actions.on(Action::SetWeather(weather))}>{ frame.word(text) }</button>
        }
    };
    html! {
        <section data-testid="weather">
            <h3>{ frame.word(Word::Weather) }</h3>
            <div class="segments" role="group" aria-label={frame.word(Word::Weather)}>{ for Weather::ALL.map(choice) }</div>
        </section>
    }
}

/// Draws the last round trips, newest at the right.
fn sparkline(samples: &[u64]) -> Html {
    let Some(points) = spark_points(samples) else { return Html::default() };
    let (width, height) = SPARK;
    let first = points.split(',').next().unwrap_or("0").to_owned();
    html! {
        <svg class="spark" viewBox={format!("0 0 {width} {height}")} preserveAspectRatio="none" aria-hidden="true">
            <polygon class="area" points={format!("{first},{height} {points} {width},{height}")} />
            <polyline class="line" points={points} />
        </svg>
    }
}

/// Returns the line's points, if there are enough for a line.
fn spark_points(samples: &[u64]) -> Option<String> {
    if samples.len() < 2 {
        return None;
    }
    let (width, height) = SPARK;
    let most = samples.iter().copied().max().unwrap_or(0).max(SPARK_LEAST_MS) as f64;
    let step = width / (samples.len() - 1) as f64;
    let point = |(index, ms): (usize, &u64)| {
        format!("{:.1},{:.1}", index as f64 * step, height - (*ms as f64 / most) * (height - 4.0) - 2.0)
    };
    Some(samples.iter().enumerate().map(point).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_fills_its_width_and_needs_two_samples() {
        assert_eq!(spark_points(&[7]), None);
        assert_eq!(spark_points(&[0, 50]).as_deref(), Some("0.0,42.0 300.0,2.0"));
        assert_eq!(spark_points(&[0, 0, 0]).as_deref(), Some("0.0,42.0 150.0,42.0 300.0,42.0"));
    }
}
