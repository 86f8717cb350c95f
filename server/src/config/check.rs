//! What of a configuration cannot stand.
//!
//! Must not live here: what is done with a setting. Invariant: a refusal names the flag and what to write instead.

use shared::limits;

use super::{Config, origin};

/// Most sockets that can be asked for.
const SOCKETS_CEILING: usize = 1_000_000;
/// Largest message or request head that can be asked for, in bytes.
const BYTES_CEILING: usize = 16 * 1024 * 1024;
/// Most header fields that can be asked for.
const FIELDS_CEILING: usize = 1_024;

/// Why a configuration cannot be started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first setting that cannot stand, with what to write instead.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |words: String| Err(ConfigError(words));
        for typed in &self.allow_origin {
            let Some(origin) = origin::canonical(typed) else {
                return refuse(format!(
                    "--allow-origin {typed:?} is not an origin. Write scheme, host and, if it is not the usual one, port, and \
                     nothing after it: https://chat.example.org"
                ));
            };
            if origin.starts_with("http://") && !self.insecure_http && !origin::is_loopback(&origin) {
                return refuse(format!(
                    "--allow-origin {origin} is plain HTTP beyond this machine: cookies would travel in the clear. Use https, or \
                     add --insecure-http if you trust the network."
                ));
            }
        }
        let positive: [(&str, u64); 22] = [
            ("--connections", self.sockets.connections as u64),
            ("--pending-per-address", self.sockets.pending_per_address as u64),
            ("--sockets-per-user", self.sockets.sockets_per_user as u64),
            ("--failed-handshakes", u64::from(self.sockets.failed_handshakes)),
            ("--sign-ins", u64::from(self.sockets.sign_ins)),
            ("--backlog", u64::from(self.sockets.backlog)),
            ("--header-read-timeout-ms", self.timing.header_read_timeout_ms),
            ("--pending-life-ms", self.timing.pending_life_ms),
            ("--body-read-timeout-ms", self.timing.body_read_timeout_ms),
            ("--first-frame-timeout-ms", self.timing.first_frame_timeout_ms),
            ("--slow-timeout-ms", self.timing.slow_timeout_ms),
            ("--sweep-ms", self.timing.sweep_ms),
            ("--beat-interval-ms", self.timing.beat_interval_ms),
            ("--beat-hidden-interval-ms", self.timing.beat_hidden_interval_ms),
            ("--beat-answer-ms", self.timing.beat_answer_ms),
            ("--session-ms", self.timing.session_ms),
            ("--posts-burst", self.rates.posts_burst),
            ("--posts-per-s", self.rates.posts_per_s),
            ("--frames-burst", self.rates.frames_burst),
            ("--frames-per-s", self.rates.frames_per_s),
            ("--message-fragments", u64::from(self.sizes.message_fragments)),
            ("--head-fields", self.sizes.head_fields as u64),
        ];
        for (flag, value) in positive {
            if value == 0 {
                return refuse(format!("{flag} must be at least 1."));
            }
        }
        self.check_ceilings()?;
        if self.sizes.message_bytes < limits::POST_BYTES {
            return refuse(format!("--message-bytes must be at least {}, or no post would fit.", limits::POST_BYTES));
        }
        if self.sizes.head_bytes < 8_192 {
            return refuse("--head-bytes must be at least 8192.".into());
        }
        let asked = self.timing.beat_interval_ms.saturating_add(self.timing.beat_answer_ms);
        if self.timing.dead_peer_ms <= asked {
            return refuse(format!(
                "--dead-peer-ms must be over {asked} (--beat-interval-ms and --beat-answer-ms together), or live peers are closed."
            ));
        }
        let asked = self.timing.beat_hidden_interval_ms.saturating_add(self.timing.beat_answer_ms);
        if self.timing.dead_peer_hidden_ms <= asked {
            return refuse(format!(
                "--dead-peer-hidden-ms must be over {asked} (--beat-hidden-interval-ms and --beat-answer-ms together)."
            ));
        }
        Ok(())
    }

    /// Refuses what is far beyond what one machine serves: counted up to these, something is set aside at the start or
    /// for each socket.
    fn check_ceilings(&self) -> Result<(), ConfigError> {
        let bounded: [(&str, usize, usize); 6] = [
            ("--connections", self.sockets.connections, SOCKETS_CEILING),
            ("--pending", self.sockets.pending, SOCKETS_CEILING),
            ("--pending-per-address", self.sockets.pending_per_address, SOCKETS_CEILING),
            ("--message-bytes", self.sizes.message_bytes, BYTES_CEILING),
            ("--head-bytes", self.sizes.head_bytes, BYTES_CEILING),
            ("--head-fields", self.sizes.head_fields, FIELDS_CEILING),
        ];
        for (flag, value, ceiling) in bounded {
            if value > ceiling {
                return Err(ConfigError(format!("{flag} must be at most {ceiling}.")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_setting_that_cannot_stand_is_named() {
        for (arguments, named) in [
            (&["--allow-origin", "*"][..], "--allow-origin"),
            (&["--allow-origin", "chat.example.org"], "--allow-origin"),
            (&["--allow-origin", "https://chat.example.org/"], "--allow-origin"),
            (&["--allow-origin", "https://chat.example.org:"], "--allow-origin"),
            (&["--allow-origin", "https://chat.example.org:web"], "--allow-origin"),
            (&["--allow-origin", "https://::1"], "--allow-origin"),
            (&["--allow-origin", "http://192.0.2.7:8080"], "--insecure-http"),
            (&["--dead-peer-ms", "14000"], "--dead-peer-ms"),
            (&["--posts-per-s", "0"], "--posts-per-s"),
            (&["--failed-handshakes", "0"], "--failed-handshakes"),
            (&["--sign-ins", "0"], "--sign-ins"),
            (&["--body-read-timeout-ms", "0"], "--body-read-timeout-ms"),
            (&["--session-ms", "0"], "--session-ms"),
            (&["--message-fragments", "0"], "--message-fragments"),
            (&["--message-bytes", "100"], "--message-bytes"),
            (&["--connections", "18446744073709551615"], "--connections"),
            (&["--head-fields", "18446744073709551615"], "--head-fields"),
        ] {
            let refused =
                Config::try_parse_from(std::iter::once(&"server").chain(arguments)).unwrap().validate().unwrap_err();
            assert!(refused.0.contains(named), "{refused}");
        }
    }
}
