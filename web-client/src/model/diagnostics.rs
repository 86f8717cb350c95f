//! What a person can copy and send to an operator: how the connection fared, and nothing of what was said.
//!
//! Invariant: no bodies, no names, no tokens.

use std::fmt::Write as _;

use super::{Ctx, Model};
use crate::words::{Language, Local, happened, state_name};

impl Model {
    /// Writes the diagnostics, in English for whoever reads them.
    #[must_use]
    pub fn diagnostics(&self, ctx: &Ctx<'_>) -> String {
        let utc = Local { wall: ctx.wall, utc_offset_min: 0 };
        let panel = &self.panel;
        let mut text = String::new();
        let samples = &panel.round_trips;
        let server = panel.server.as_ref();
        let connection = panel.connection.map_or_else(|| "none".into(), |connection| connection.to_string());
        let newest = samples.last().map_or_else(|| "none".into(), |ms| format!("{ms} ms"));
        let worst = samples.iter().max().map_or_else(|| "none".into(), |ms| format!("{ms} ms"));
        let heard =
            panel.last_frame.map_or_else(|| "never".into(), |at| format!("{} s ago", ctx.wall.since(at) / 1_000));
        // Writing to a string does not fail.
        let _ = writeln!(text, "Holdfast page {}", panel.build);
        let _ = writeln!(text, "server {}", server.map_or("unknown", |server| server.build.as_str()));
        let _ = writeln!(text, "epoch {}", server.map_or_else(|| "unknown".into(), |server| server.epoch.to_string()));
        let _ = writeln!(
            text,
            "state {}, connection {connection}, attempt {}",
            state_name(&self.facts.state),
            panel.attempt
        );
        let _ = writeln!(text, "round trip {newest} (worst of {}: {worst}), last message {heard}", samples.len());
        let _ = writeln!(
            text,
            "rooms {}, followed {}, unsent {}, refused {}, storage {:?}, hidden {}",
            self.rooms.len(),
            self.followed.len(),
            self.unsent(),
            self.items.len() - self.unsent(),
            self.storage,
            self.hidden,
        );
        let _ = writeln!(text, "hours in UTC:");
        for line in &panel.lines {
            let _ = writeln!(
                text,
                "{} #{} {}",
                utc.hour_and_seconds(line.at),
                line.attempt,
                happened(Language::English, &line.what)
            );
        }
        text
    }
}
