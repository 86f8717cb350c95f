//! The figures that are told of a phase, by name, with their units and which is better.
//!
//! Must not live here: measuring, laying out. Invariant: CPU per delivery is never told without the wait of the last
//! receiver in the same run.

use std::collections::BTreeMap;

use bench::process::Reading;
use bench::result::Outcome;

use super::workloads::Telling;

/// A kind of figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its key in JSON, unit at its end.
    pub(crate) key: &'static str,
    /// Its heading.
    pub(crate) heading: &'static str,
    /// Digits behind the point.
    pub(crate) digits: usize,
    /// Whether ours is told as a ratio to each of the others.
    pub(crate) is_compared: bool,
}

const fn column(key: &'static str, heading: &'static str, digits: usize, is_compared: bool) -> Column {
    Column { key, heading, digits, is_compared }
}

const WRONG: Column = column("wrong", "wrong", 0, false);

/// The columns of a table.
pub(crate) fn columns(telling: Telling) -> &'static [Column] {
    const DELIVERY: [Column; 9] = [
        column("cpu_us_per_delivery", "CPU µs/delivery", 2, true),
        column("last_p50_ms", "last p50 ms", 1, false),
        column("last_p99_ms", "last p99 ms", 1, true),
        column("ack_p99_ms", "ack p99 ms", 1, false),
        column("server_cpu_percent", "server %", 0, false),
        column("load_busy_percent", "load %", 0, false),
        column("lateness_p99_ms", "sent late ms", 2, false),
        column("bytes_per_delivery", "bytes each", 0, false),
        WRONG,
    ];
    const IDLE: [Column; 5] = [
        column("rss_kib_per_connection", "RSS KiB each", 2, true),
        column("slab_kib_per_connection", "slab KiB each*", 2, false),
        column("rss_mib", "RSS MiB", 1, false),
        column("server_cpu_percent", "server %", 2, false),
        WRONG,
    ];
    const DURABLE: [Column; 6] = [
        column("posts_per_s", "posts/s", 0, true),
        column("ack_p50_ms", "ack p50 ms", 2, false),
        column("ack_p99_ms", "ack p99 ms", 2, false),
        column("cpu_us_per_post", "CPU µs/post", 1, false),
        column("server_cpu_percent", "server %", 0, false),
        WRONG,
    ];
    const STALLED: [Column; 5] = [
        column("cpu_us_per_delivery", "CPU µs/delivery", 2, true),
        column("last_p50_ms", "last p50 ms", 1, false),
        column("last_p99_ms", "last p99 ms", 1, true),
        column("last_p99_over_before", "p99 over none stalled", 2, false),
        WRONG,
    ];
    const RESUMED: [Column; 7] = [
        column("server_cpu_s", "server CPU s", 2, false),
        column("wall_s", "all back s", 2, false),
        column("ack_p50_ms", "one back p50 ms", 0, false),
        column("ack_p99_ms", "p99 ms", 0, false),
        column("events", "events", 0, false),
        column("listen_overflows", "listen overflows", 0, false),
        WRONG,
    ];
    const SCALE: [Column; 6] = [
        column("cpu_us_per_delivery", "CPU µs/delivery", 2, true),
        column("cpu_us_per_post", "CPU µs/post", 0, false),
        column("last_p99_ms", "last p99 ms", 1, false),
        column("ack_p99_ms", "ack p99 ms", 1, false),
        column("rss_kib_per_connection", "RSS KiB each", 2, false),
        WRONG,
    ];
    const ASKED: [Column; 6] = [
        column("posts_per_s", "answers/s", 0, false),
        column("ack_p50_ms", "p50 ms", 3, false),
        column("ack_p99_ms", "p99 ms", 3, false),
        column("cpu_us_per_post", "CPU µs/answer", 1, false),
        column("server_cpu_percent", "server %", 0, false),
        WRONG,
    ];
    match telling {
        Telling::Nothing => &[],
        Telling::Stalled => &STALLED,
        Telling::Resumed => &RESUMED,
        Telling::Scale => &SCALE,
        Telling::Asked => &ASKED,
        Telling::Delivery => &DELIVERY,
        Telling::Idle | Telling::Used => &IDLE,
        Telling::Durable => &DURABLE,
    }
}

/// What is told under a table.
pub(crate) fn footnote(telling: Telling) -> Option<&'static str> {
    matches!(telling, Telling::Idle | Telling::Used)
        .then_some("* the kernel's small memory of the whole machine, so both ends of each connection")
}

/// Later than this, p99 in milliseconds, posts were not sent when they were due.
const LATE_MS: u64 = 20;
/// Busier than this, of one core, the load had no time left.
const BUSY: f64 = 0.9;

/// Whether the load was the limit of a run, so that it says little of the server.
pub(crate) fn is_load_bound(outcome: &Outcome) -> bool {
    outcome.lateness_us.p99 > LATE_MS * 1_000 || outcome.load_busy_share > BUSY
}

/// Readings around a phase.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readings {
    /// The server before anybody connected.
    pub(crate) at_rest: Reading,
    /// The server when the phase began.
    pub(crate) before: Reading,
    /// The server when nothing was under way any more.
    pub(crate) after: Reading,
    /// The kernel's small memory before anybody connected and at the end, in bytes.
    pub(crate) slab: Option<(u64, u64)>,
    /// Connections that nobody accepted in time, on the whole machine.
    pub(crate) overflows: Option<u64>,
    /// Of the phase that was told before: how long the last receivers waited, p99 in milliseconds.
    pub(crate) last_p99_before: Option<f64>,
    /// Connections.
    pub(crate) connections: usize,
}

/// Works the figures of a phase out. What cannot be known is left out.
pub(crate) fn of(telling: Telling, outcome: &Outcome, readings: &Readings) -> BTreeMap<&'static str, f64> {
    let cpu = readings.after.cpu.saturating_sub(readings.before.cpu).as_secs_f64();
    let each = readings.connections.max(1) as f64;
    let grown = |before: u64, after: u64| (after as f64 - before as f64) / 1024.0 / each;
    let ms = |us: u64| us as f64 / 1_000.0;
    let per = |sum: f64, n: u64| (n > 0).then(|| sum / n as f64);
    let wrong = outcome.lost + outcome.duplicates + outcome.gaps + outcome.strange;
    let closed: usize = outcome.closed.values().sum();
    let has_acks = outcome.ack_us.count > 0;
    let has_last = outcome.last_receiver_us.count > 0;
    let last_p99 = has_last.then(|| ms(outcome.last_receiver_us.p99));
    let all = [
        ("cpu_us_per_delivery", per(cpu * 1e6, outcome.deliveries)),
        ("cpu_us_per_post", per(cpu * 1e6, outcome.acked)),
        ("last_p50_ms", has_last.then(|| ms(outcome.last_receiver_us.p50))),
        ("last_p99_ms", last_p99),
        ("last_p99_over_before", last_p99.zip(readings.last_p99_before).map(|(now, before)| now / before)),
        ("server_cpu_s", Some(cpu)),
        ("wall_s", Some(outcome.wall_s)),
        ("events", Some(outcome.events as f64)),
        ("listen_overflows", readings.overflows.map(|times| times as f64)),
        ("ack_p50_ms", has_acks.then(|| ms(outcome.ack_us.p50))),
        ("ack_p99_ms", has_acks.then(|| ms(outcome.ack_us.p99))),
        ("server_cpu_percent", Some(cpu / outcome.wall_s * 100.0)),
        ("load_busy_percent", Some(outcome.load_busy_share * 100.0)),
        ("lateness_p99_ms", Some(ms(outcome.lateness_us.p99))),
        ("bytes_per_delivery", per(outcome.bytes as f64, outcome.deliveries)),
        ("posts_per_s", Some(outcome.acked as f64 / outcome.seconds)),
        ("rss_kib_per_connection", Some(grown(readings.at_rest.rss, readings.after.rss))),
        ("slab_kib_per_connection", readings.slab.map(|(before, after)| grown(before, after))),
        ("rss_mib", Some(readings.after.rss as f64 / 1_048_576.0)),
        ("wrong", Some((wrong + closed as u64) as f64)),
    ];
    let told = |key: &str| columns(telling).iter().any(|column| column.key == key);
    all.into_iter().filter(|(key, _)| told(key)).filter_map(|(key, value)| Some((key, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn cpu_is_that_of_the_window_and_memory_that_of_the_connections() {
        let reading = |cpu_ms, rss| Reading { cpu: Duration::from_millis(cpu_ms), rss };
        let readings = Readings {
            at_rest: reading(0, 1 << 20),
            before: reading(1_000, 3 << 20),
            after: reading(1_500, 11 << 20),
            slab: None,
            overflows: None,
            last_p99_before: None,
            connections: 1_024,
        };
        let outcome = Outcome { deliveries: 100_000, acked: 100, seconds: 5.0, wall_s: 5.0, ..Outcome::default() };
        let delivery = of(Telling::Delivery, &outcome, &readings);
        assert_eq!(delivery["cpu_us_per_delivery"], 5.0);
        assert_eq!(delivery["server_cpu_percent"], 10.0);
        assert!(!delivery.contains_key("last_p99_ms"), "nobody received anything");
        assert_eq!(of(Telling::Idle, &outcome, &readings)["rss_kib_per_connection"], 10.0);
        assert_eq!(of(Telling::Durable, &outcome, &readings)["posts_per_s"], 20.0);
    }

    #[test]
    fn a_run_whose_load_was_late_or_busy_is_told_from_others() {
        let with = |p99, load_busy_share| {
            let lateness_us = bench::stats::Percentiles { p99, ..Default::default() };
            Outcome { lateness_us, load_busy_share, ..Outcome::default() }
        };
        assert!(!is_load_bound(&with(1_000, 0.5)));
        assert!(is_load_bound(&with(50_000, 0.1)) && is_load_bound(&with(0, 0.95)));
    }

    #[test]
    fn cpu_per_delivery_stands_beside_the_last_receivers_wait() {
        let keys: Vec<_> = columns(Telling::Delivery).iter().map(|column| column.key).collect();
        assert!(keys.contains(&"cpu_us_per_delivery") && keys.contains(&"last_p99_ms"));
    }
}
