//! What a bench found, as a table for people and as JSON for programs.
//!
//! Must not live here: measuring. Invariant: what was lost is printed beside what was fast.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::process::Reading;

/// Percentiles of something, in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Percentiles {
    count: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        }
    }
}

/// The server's process over the measured time.
#[derive(Debug, Serialize)]
pub(crate) struct ServerCost {
    /// User and system time, in seconds.
    pub(crate) cpu_s: f64,
    /// Of one core.
    pub(crate) cpu_share: f64,
    /// In microseconds; the kernel's share of sending, and on loopback of receiving, is in it.
    pub(crate) cpu_us_per_delivery: Option<f64>,
    /// In microseconds.
    pub(crate) cpu_us_per_post: Option<f64>,
    /// Resident memory before the connections were opened, in bytes.
    pub(crate) rss_before: u64,
    /// Resident memory at the end, in bytes.
    pub(crate) rss_after: u64,
    /// The difference over the connections, in bytes.
    pub(crate) rss_per_connection: f64,
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
    /// Measured time, in seconds.
    pub(crate) seconds: f64,
    /// Posts sent.
    pub(crate) posts: u64,
    /// Of these, acknowledged.
    pub(crate) acked: u64,
    /// Of these, refused, by code.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Acknowledged a second.
    pub(crate) posts_per_s: f64,
    /// Acknowledged posts times followers.
    pub(crate) expected: u64,
    /// Deliveries of posts.
    pub(crate) deliveries: u64,
    /// Deliveries a second.
    pub(crate) deliveries_per_s: f64,
    /// Expected and not delivered within the grace.
    pub(crate) lost: u64,
    /// Room events that came twice.
    pub(crate) duplicates: u64,
    /// Room events that were skipped on some connection.
    pub(crate) gaps: u64,
    /// Frames nobody expected.
    pub(crate) strange: u64,
    /// Connections that closed meanwhile, by code.
    pub(crate) closed: BTreeMap<u16, usize>,
    /// From the intended time (closed loop: from sending) to the acknowledgement.
    pub(crate) ack_us: Percentiles,
    /// From the intended time to each delivery.
    pub(crate) delivery_us: Percentiles,
    /// From the intended time to the last receiver's delivery.
    pub(crate) last_receiver_us: Percentiles,
    /// How late the generator itself sent. Part of all of the above; if it is large, the generator was the limit.
    pub(crate) lateness_us: Percentiles,
    /// The generator's own CPU time over the measured time, of one core.
    pub(crate) generator_cpu_share: Option<f64>,
    /// The server's process, with `--server-pid`.
    pub(crate) server: Option<ServerCost>,
}

impl Report {
    /// Works out what the server spent.
    pub(crate) fn cost(
        &self,
        at_rest: Reading,
        before: Reading,
        after: Reading,
        measured: Duration,
        connections: usize,
    ) -> ServerCost {
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let per = |n: u64| (n > 0).then(|| cpu * 1e6 / n as f64);
        ServerCost {
            cpu_s: cpu,
            cpu_share: cpu / measured.as_secs_f64(),
            cpu_us_per_delivery: per(self.deliveries),
            cpu_us_per_post: per(self.acked),
            rss_before: at_rest.rss,
            rss_after: after.rss,
            rss_per_connection: (after.rss as f64 - at_rest.rss as f64) / connections.max(1) as f64,
        }
    }

    /// Tells whether anything went missing or came twice.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicates == 0 && self.gaps == 0 && self.strange == 0 && self.closed.is_empty()
    }

    /// Lays the report out for people.
    pub(crate) fn table(&self) -> String {
        let mut lines = vec![match (self.rate_hz, self.burst) {
            (Some(rate), Some(burst)) => format!(
                "{}: {} clients, {} senders, {burst} posts of {} bytes {rate} times a second, {:.1} s",
                self.workload, self.clients, self.senders, self.size, self.seconds
            ),
            _ => format!("{}: {} clients, {:.1} s", self.workload, self.clients, self.seconds),
        }];
        if self.posts > 0 {
            lines.push(format!(
                "  posts         {:>12} sent  {:>12} acknowledged  {:>12.1} /s",
                self.posts, self.acked, self.posts_per_s
            ));
        }
        for (code, n) in &self.refused {
            lines.push(format!("  refused       {n:>12} {code}"));
        }
        if self.expected > 0 {
            lines.push(format!(
                "  deliveries    {:>12} of {} expected  {:>12.1} /s",
                self.deliveries, self.expected, self.deliveries_per_s
            ));
        }
        lines.push(format!(
            "  wrong         {:>12} lost  {} twice  {} skipped  {} strange",
            self.lost, self.duplicates, self.gaps, self.strange
        ));
        for (code, n) in &self.closed {
            lines.push(format!("  closed        {n:>12} connections with {code}"));
        }
        let row = |name: &str, of: &Percentiles| {
            let ms = |us: u64| format!("{:>9.3}", us as f64 / 1_000.0);
            format!("  {name:<13} {} {} {} {} {}", ms(of.p50), ms(of.p90), ms(of.p99), ms(of.p999), ms(of.max))
        };
        if self.posts > 0 {
            lines.push("  ms                  p50       p90       p99     p99.9       max".into());
            lines.push(row("ack", &self.ack_us));
            if self.expected > 0 {
                lines.push(row("delivery", &self.delivery_us));
                lines.push(row("last receiver", &self.last_receiver_us));
            }
            if self.rate_hz.is_some() {
                lines.push(row("(own lateness)", &self.lateness_us));
            }
        }
        if let Some(share) = self.generator_cpu_share {
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
