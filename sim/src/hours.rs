//! A long day on which nothing may gather: what is held at the end of each hour, and how much of it may be.
//!
//! Must not live here: what happens on the day (`world`). Invariant: what must not grow is compared with itself, a
//! quarter of the day with the last, by limits that are named here; what must grow is told per post.
//!
//! The world's own notes of the day grow with it. Their heap is counted apart (see [`heap`](crate::heap)), and so is
//! the log's, which in this world is in memory.

use std::panic::{AssertUnwindSafe, catch_unwind};

use server::delivery::tail::{TAIL_BYTES, TAIL_EVENTS};
use shared::timeline::ROWS_KEPT;

use crate::run::words_of;
use crate::world::{Violation, World};

/// The people of the world, and the rooms they are in.
const PEOPLE: usize = 2;
const ROOMS: usize = 2;
/// Each of the four devices follows its person's own stream and the first room; all but one follow the second, which
/// that one watches.
const FOLLOWERS: usize = 4 + 4 + 3;
const WATCHERS: usize = 1;
/// Answers that a session at rest may wait for: that to a heartbeat.
const AWAITED: usize = 1;
/// Rows of one timeline: what it keeps, and a twentieth before it lets some go.
const ROWS: usize = ROWS_KEPT + ROWS_KEPT / 20;
/// Connections the server may have at once for each device: the newest, and older ones whose peer is gone until that is
/// noticed.
const CONNECTIONS_EACH: usize = 8;
/// By how much the least there was may differ from one quarter to another, in bytes: spare room of queues and maps.
const SERVER_SLACK: usize = 8 * 1024;
/// As for the server, of all sessions.
const SESSION_SLACK: usize = 2 * 1024;
/// As for the server, of a thousand rows of timelines: what they keep besides rows is shared out among more or fewer.
const PAGE_SLACK: usize = 32 * 1024;
/// By how much keys may grow faster or slower per post from one quarter to another, in percent.
const KEYS_PERCENT: f64 = 10.0;
/// The same for records over a long day.
const RECORDS_PERCENT: f64 = 10.0;
/// The same over a short span. How many sends share a record is chance: over nine of them, quarters differed by up to
/// 10.3.
const RECORDS_PERCENT_SHORT: f64 = 25.0;
/// Hours of so much or more make a long day, in milliseconds.
const LONG_HOUR_MS: u64 = 3_600_000;
/// Between the bytes of a log per key at one time and at another: its maps double.
const DOUBLING: f64 = 2.0;

/// A long day, or one that is shorter and denser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where everything is drawn from.
    pub seed: u64,
    /// How many times it is counted.
    pub hours: usize,
    /// How long it lives between two counts, in milliseconds.
    pub hour_ms: u64,
    /// Between two things that happen, on average, in milliseconds.
    pub pause_ms: u64,
}

impl Span {
    /// A day of so many hours, one thing every three seconds.
    #[must_use]
    pub const fn of_hours(seed: u64, hours: usize) -> Self {
        Self { seed, hours, hour_ms: LONG_HOUR_MS, pause_ms: 3_000 }
    }

    /// Eight stretches of eight minutes, a thing every second.
    #[must_use]
    pub const fn short(seed: u64) -> Self {
        Self { seed, hours: 8, hour_ms: 480_000, pause_ms: 1_000 }
    }

    /// Returns the hours of a quarter. In the first the server is restarted and everybody comes and goes; after it the
    /// server and half of the devices stay, or their ends would hide what gathers.
    #[must_use]
    pub const fn quarter(&self) -> usize {
        self.hours / 4
    }

    const fn records_percent(&self) -> f64 {
        if self.hour_ms < LONG_HOUR_MS { RECORDS_PERCENT_SHORT } else { RECORDS_PERCENT }
    }
}

/// What is held at the end of an hour, at rest; and the most of what is bounded that there was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hour {
    /// Which, from zero.
    pub number: usize,
    /// Heap of the server, its log not counted.
    pub server_bytes: usize,
    /// Heap of all sessions.
    pub session_bytes: usize,
    /// Heap of all timelines.
    pub page_bytes: usize,
    /// Heap of the log.
    pub log_bytes: usize,
    /// Heap of the made-up world.
    pub world_bytes: usize,
    /// Devices that are there.
    pub devices: usize,
    /// Sockets opened since the day began.
    pub came: u64,
    /// Connections that get turns.
    pub connections: usize,
    /// Sockets the server counts.
    pub sockets: usize,
    /// Connections in its index.
    pub registered: usize,
    /// People it says are here.
    pub present: usize,
    /// Streams in its hub, places of followers in them, watchers.
    pub streams: usize,
    /// See `streams`.
    pub followers: usize,
    /// See `streams`.
    pub watchers: usize,
    /// Frames in all tails.
    pub tail_frames: usize,
    /// Their bytes.
    pub tail_bytes: usize,
    /// Items in all outboxes.
    pub unsent: usize,
    /// Answers all sessions wait for.
    pub awaited: usize,
    /// Rows of all timelines.
    pub rows: usize,
    /// Rows of the longest.
    pub longest_rows: usize,
    /// Posts stored.
    pub posts: u64,
    /// Keys of requests that the log keeps: one for each change.
    pub keys: u64,
    /// Records of the log.
    pub records: u64,
    /// The most connections there were.
    pub most_connections: usize,
    /// The most bytes that waited for one peer.
    pub most_queued_bytes: usize,
    /// The most items in one outbox.
    pub most_unsent: usize,
    /// Happenings the world has planned.
    pub planned: usize,
}

impl Hour {
    /// Returns what the server holds besides its log and its tails, which have bounds of their own, in bytes.
    #[must_use]
    pub const fn server_rest(&self) -> usize {
        self.server_bytes.saturating_sub(self.tail_bytes)
    }
}

/// Lives through a span and calls `each` with every hour.
///
/// # Errors
/// What must not be, in words.
pub fn live(span: &Span, mut each: impl FnMut(&Hour)) -> Result<Vec<Hour>, Violation> {
    let mut world = World::new(span.seed, false)?;
    let mut hours = Vec::with_capacity(span.hours);
    for number in 0..span.hours {
        let lived = catch_unwind(AssertUnwindSafe(|| world.live_hour(span, number)));
        let hour = lived.unwrap_or_else(|panic| Err(words_of(&*panic)))?;
        each(&hour);
        hours.push(hour);
    }
    judge(&hours, span)?;
    Ok(hours)
}

/// One figure of an hour.
type Figure<T> = fn(&Hour) -> T;

/// Says whether anything gathers that must not.
///
/// # Errors
/// What does, in words.
pub fn judge(hours: &[Hour], span: &Span) -> Result<(), Violation> {
    let quarter = span.quarter();
    for hour in hours {
        at_rest(hour).map_err(|words| Violation(format!("after hour {}: {words}", hour.number + 1)))?;
    }
    if quarter == 0 {
        return Ok(());
    }
    let (second, last) = (&hours[quarter..2 * quarter], &hours[hours.len() - quarter..]);
    let flat: [(&str, usize, Figure<usize>); 3] = [
        ("the server's heap, its log and its tails not counted", SERVER_SLACK, Hour::server_rest),
        ("the sessions' heap", SESSION_SLACK, |hour| hour.session_bytes),
        ("the timelines' heap of a thousand rows", PAGE_SLACK, |hour| hour.page_bytes * 1_000 / hour.rows.max(1)),
    ];
    for (name, slack, what) in flat {
        let least = |hours: &[Hour]| hours.iter().map(what).min().unwrap_or(0);
        let (before, after) = (least(second), least(last));
        if after > before + slack {
            return Err(Violation(format!("{name} grows: {before} bytes in the second quarter, {after} in the last")));
        }
    }
    let slopes: [(&str, f64, Figure<u64>); 2] =
        [("keys", KEYS_PERCENT, |hour| hour.keys), ("records", span.records_percent(), |hour| hour.records)];
    let before_second = hours[quarter - 1];
    let before_last = hours[hours.len() - quarter - 1];
    for (name, percent, what) in slopes {
        let slope = |from: &Hour, to: &[Hour]| {
            let Some(to) = to.last() else { return 0.0 };
            (what(to) - what(from)) as f64 / (to.posts - from.posts).max(1) as f64
        };
        let (before, after) = (slope(&before_second, second), slope(&before_last, last));
        if (after / before - 1.0).abs() * 100.0 > percent {
            return Err(Violation(format!("{before:.3} {name} a post in the second quarter, {after:.3} in the last")));
        }
    }
    let per_key = |hours: &[Hour]| hours.last().map_or(0.0, |hour| hour.log_bytes as f64 / hour.keys as f64);
    let (before, after) = (per_key(second), per_key(last));
    if after > before * DOUBLING {
        return Err(Violation(format!("a key of the log takes {before:.0} bytes at first and {after:.0} at the end")));
    }
    Ok(())
}

/// What an hour may have left behind, whichever it is.
fn at_rest(hour: &Hour) -> Result<(), String> {
    let exact = [
        ("connections", hour.connections, hour.devices),
        ("sockets", hour.sockets, hour.devices),
        ("connections in the index", hour.registered, hour.devices),
        ("people who are here", hour.present, PEOPLE),
        ("streams", hour.streams, PEOPLE + ROOMS),
        ("followers", hour.followers, FOLLOWERS),
        ("watchers", hour.watchers, WATCHERS),
        ("unsent items", hour.unsent, 0),
    ];
    if let Some((name, held, right)) = exact.into_iter().find(|(_, held, right)| held != right) {
        return Err(format!("{held} {name} where there are {right}"));
    }
    let bounded = [
        ("awaited answers", hour.awaited, hour.devices * AWAITED),
        // Fewer where a text was deleted not long ago: it is in none.
        ("frames in tails", hour.tail_frames, ROOMS * TAIL_EVENTS),
        ("bytes in tails", hour.tail_bytes, ROOMS * TAIL_BYTES),
        ("rows of a timeline", hour.longest_rows, ROWS),
        ("connections at once", hour.most_connections, hour.devices * CONNECTIONS_EACH),
    ];
    match bounded.into_iter().find(|(_, held, most)| held > most) {
        Some((name, held, most)) => Err(format!("{held} {name}, and {most} is the most there may be")),
        None => Ok(()),
    }
}
