//! What a bench found, as a table for people and as JSON for programs.
//!
//! Must not live here: measuring. Invariant: what was lost is printed beside what was fast.

use std::time::Duration;

use bench::process::Reading;
use bench::result::Outcome;
use bench::stats::Percentiles;
use serde::Serialize;

/// The server's process over the measured time.
#[derive(Debug, Serialize)]
pub(crate) struct ServerCost {
    /// User and system time, in seconds.
    cpu_s: f64,
    /// Of one core.
    cpu_share: f64,
    /// In microseconds; the kernel's share of sending, and on loopback of receiving, is in it.
    cpu_us_per_delivery: Option<f64>,
    /// In microseconds.
    cpu_us_per_post: Option<f64>,
    /// Resident memory before the connections were opened, in bytes.
    rss_before: u64,
    /// Resident memory at the end, in bytes.
    rss_after: u64,
    /// The difference over the connections, in bytes.
    rss_per_connection: f64,
}

impl ServerCost {
    /// Works out what the server spent.
    pub(crate) fn of(
        outcome: &Outcome,
        at_rest: Reading,
        before: Reading,
        after: Reading,
        measured: Duration,
        connections: usize,
    ) -> Self {
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let per = |n: u64| (n > 0).then(|| cpu * 1e6 / n as f64);
        Self {
            cpu_s: cpu,
            cpu_share: cpu / measured.as_secs_f64(),
            cpu_us_per_delivery: per(outcome.deliveries),
            cpu_us_per_post: per(outcome.acked),
            rss_before: at_rest.rss,
            rss_after: after.rss,
            rss_per_connection: (after.rss as f64 - at_rest.rss as f64) / connections.max(1) as f64,
        }
    }
}

/// Everything a bench found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Which workload, and which loop.
    pub(crate) workload: &'static str,
    /// Connections.
    pub(crate) clients: usize,
    /// Of these, how many posted.
    pub(crate) senders: usize,
    /// Ticks a second; none in a closed loop.
    pub(crate) rate_hz: Option<f64>,
    /// Posts a tick; none in a closed loop.
    pub(crate) burst: Option<usize>,
    /// Bytes of text in a post.
    pub(crate) size: usize,
    /// Acknowledged a second.
    pub(crate) posts_per_s: f64,
    /// Deliveries a second.
    pub(crate) deliveries_per_s: f64,
    /// What became of the posts.
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// The server's process, with `--server-pid`.
    pub(crate) server: Option<ServerCost>,
}

impl Report {
    /// Lays the report out for people.
    pub(crate) fn table(&self) -> String {
        let of = &self.outcome;
        let mut lines = vec![match (self.rate_hz, self.burst) {
            (Some(rate), Some(burst)) => format!(
                "{}: {} clients, {} senders, {burst} posts of {} bytes {rate} times a second, {:.1} s",
                self.workload, self.clients, self.senders, self.size, of.seconds
            ),
            _ => format!("{}: {} clients, {:.1} s", self.workload, self.clients, of.seconds),
        }];
        if of.posts > 0 {
            lines.push(format!(
                "  posts         {:>12} sent  {:>12} acknowledged  {:>12.1} /s",
                of.posts, of.acked, self.posts_per_s
            ));
        }
        for (code, n) in &of.refused {
            lines.push(format!("  refused       {n:>12} {code}"));
        }
        if of.expected > 0 {
            lines.push(format!(
                "  deliveries    {:>12} of {} expected  {:>12.1} /s",
                of.deliveries, of.expected, self.deliveries_per_s
            ));
        }
        lines.push(format!(
            "  wrong         {:>12} lost  {} twice  {} skipped  {} strange",
            of.lost, of.duplicates, of.gaps, of.strange
        ));
        for (code, n) in &of.closed {
            lines.push(format!("  closed        {n:>12} connections with {code}"));
        }
        let row = |name: &str, of: &Percentiles| {
            let ms = |us: u64| format!("{:>9.3}", us as f64 / 1_000.0);
            format!("  {name:<13} {} {} {} {} {}", ms(of.p50), ms(of.p90), ms(of.p99), ms(of.p999), ms(of.max))
        };
        if of.posts > 0 {
            lines.push("  ms                  p50       p90       p99     p99.9       max".into());
            lines.push(row("ack", &of.ack_us));
            if of.expected > 0 {
                lines.push(row("delivery", &of.delivery_us));
                lines.push(row("last receiver", &of.last_receiver_us));
            }
            if self.rate_hz.is_some() {
                lines.push(row("(own lateness)", &of.lateness_us));
            }
        }
        if let Some(share) = of.load_cpu_share {
            lines.push(format!("  generator     {:>11.1} % of a core", share * 100.0));
        }
        if let Some(server) = &self.server {
            let us = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |us| format!("{us:.2} µs"));
            lines.push(format!(
                "  server        {:>11.1} % of a core  {} per delivery  {} per post",
                server.cpu_share * 100.0,
                us(server.cpu_us_per_delivery),
                us(server.cpu_us_per_post)
            ));
            lines.push(format!(
                "  server memory {:>9.1} MiB before, {:.1} MiB after: {:.2} KiB a connection",
                server.rss_before as f64 / 1_048_576.0,
                server.rss_after as f64 / 1_048_576.0,
                server.rss_per_connection / 1_024.0
            ));
        }
        lines.join("\n")
    }
}
