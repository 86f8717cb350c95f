//! Everything an operator can set: one typed schema for flags and environment, validated once at start.
//!
//! Must not live here: reading any of it later from anywhere else. Invariant: every limit is named once, with its unit
//! in its name; after [`Config::validate`] no combination of them can make the server promise what it cannot hold.

mod check;
mod origin;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use ipnet::IpNet;
use shared::limits;
use shared::message::{HeartbeatTerms, WireLimits};

pub use self::check::ConfigError;

/// What `--help` says behind the options.
const AFTER_HELP: &str = "\
In the environment a switch is true or false, and what may be given more than once is separated by commas. What ends in \
-ms is in milliseconds.

Exit codes:
  0  drained after SIGTERM or SIGINT; with --verify: nothing is wrong
  1  cannot start, or the storage failed while serving: start it again
  2  a setting that cannot stand";

/// Holdfast's server: serves the page, the API and the socket from one port.
#[derive(Clone, Debug, Parser)]
#[command(name = "server", version, about, next_line_help = false, after_help = AFTER_HELP)]
pub struct Config {
    /// IP address and port to listen on, such as 0.0.0.0:8080 for every IPv4 address; port 0 takes a free one
    #[arg(long, env = "HOLDFAST_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Folder of the database; made where it is missing. A database of an older form is copied there before it is changed
    #[arg(long, env = "HOLDFAST_DATA_DIR", default_value = "data")]
    pub data_dir: PathBuf,

    /// Folder of the built page, instead of the one inside the program or ./dist
    #[arg(long, env = "HOLDFAST_DIST")]
    pub dist: Option<PathBuf>,

    /// Origin a browser may come from, as people type it, such as https://chat.example.org; may be given more than once.
    /// Default: the listen address's own, of 0.0.0.0 and of :: only this machine's
    #[arg(long = "allow-origin", env = "HOLDFAST_ALLOW_ORIGIN", value_delimiter = ',')]
    pub allow_origin: Vec<String>,

    /// Serve people over plain HTTP beyond this machine. Cookies then travel in the clear; only for a network you trust.
    /// Name the address people type with --allow-origin
    #[arg(long, env = "HOLDFAST_INSECURE_HTTP")]
    pub insecure_http: bool,

    /// Network of a reverse proxy whose X-Forwarded-For is believed, such as 10.0.0.0/8, or 127.0.0.1/32 for one on this
    /// machine; may be given more than once
    #[arg(long = "trusted-proxy", env = "HOLDFAST_TRUSTED_PROXY", value_delimiter = ',')]
    pub trusted_proxy: Vec<IpNet>,

    /// Start although the database is older than what was acknowledged from it; what is missing is lost
    #[arg(long, env = "HOLDFAST_ACCEPT_LOSS")]
    pub accept_loss: bool,

    /// Walk every chain of the database instead of serving, say what is wrong, and exit with 1 if anything is
    #[arg(long)]
    pub verify: bool,

    /// Let the page offer its weather switch, which cuts and slows its own connection. Always on in debug builds
    #[arg(long, env = "HOLDFAST_ALLOW_WEATHER", hide_short_help = true)]
    pub allow_weather: bool,

    /// How logs are written to stderr
    #[arg(long, env = "HOLDFAST_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged, as a tracing filter
    #[arg(long, env = "HOLDFAST_LOG", default_value = "info")]
    pub log: String,

    /// Limits on sockets and their openings.
    #[command(flatten)]
    pub sockets: SocketLimits,

    /// Waits and heartbeats.
    #[command(flatten)]
    pub timing: Timing,

    /// Rates.
    #[command(flatten)]
    pub rates: Rates,

    /// Sizes.
    #[command(flatten)]
    pub sizes: Sizes,

    /// Most bytes the database may take; 0 for no limit
    #[arg(long, env = "HOLDFAST_MAX_DATABASE_BYTES", default_value_t = 0, hide_short_help = true)]
    pub max_database_bytes: u64,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Limits on sockets and their openings.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Sockets")]
pub struct SocketLimits {
    /// Sockets in all, upgraded or not; fewer where the system allows too few descriptors
    #[arg(long, env = "HOLDFAST_CONNECTIONS", default_value_t = 16_000, hide_short_help = true)]
    pub connections: usize,
    /// Sockets not yet upgraded, in all; 0 for a tenth of --connections
    #[arg(long, env = "HOLDFAST_PENDING", default_value_t = 0, hide_short_help = true)]
    pub pending: usize,
    /// Sockets not yet upgraded from one address (IPv6: from one /64)
    #[arg(long, env = "HOLDFAST_PENDING_PER_ADDRESS", default_value_t = 50, hide_short_help = true)]
    pub pending_per_address: usize,
    /// Upgrades one address may fail at within 10 seconds, and heads it may send that cannot be read
    #[arg(long, env = "HOLDFAST_FAILED_HANDSHAKES", default_value_t = 20, hide_short_help = true)]
    pub failed_handshakes: u32,
    /// New sessions one address may open within 10 seconds
    #[arg(long, env = "HOLDFAST_SIGN_INS", default_value_t = 60, hide_short_help = true)]
    pub sign_ins: u32,
    /// Sockets of one person
    #[arg(long, env = "HOLDFAST_SOCKETS_PER_USER", default_value_t = 20, hide_short_help = true)]
    pub sockets_per_user: usize,
    /// Connections the kernel keeps waiting to be accepted
    #[arg(long, env = "HOLDFAST_BACKLOG", default_value_t = 4_096, hide_short_help = true)]
    pub backlog: u32,
    /// The kernel's send buffer of one socket, in bytes; 0 leaves it to the kernel
    #[arg(long, env = "HOLDFAST_SEND_BUFFER_BYTES", default_value_t = 131_072, hide_short_help = true)]
    pub send_buffer_bytes: usize,
}

/// Waits and heartbeats, in milliseconds.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Timing")]
pub struct Timing {
    /// How long a request's head may take
    #[arg(long, env = "HOLDFAST_HEADER_READ_TIMEOUT_MS", default_value_t = 10_000, hide_short_help = true)]
    pub header_read_timeout_ms: u64,
    /// How long a socket that has not upgraded may go on asking; the answer after that is its last, and may take ten times as long
    #[arg(long, env = "HOLDFAST_PENDING_LIFE_MS", default_value_t = 60_000, hide_short_help = true)]
    pub pending_life_ms: u64,
    /// How long a request's body may take
    #[arg(long, env = "HOLDFAST_BODY_READ_TIMEOUT_MS", default_value_t = 10_000, hide_short_help = true)]
    pub body_read_timeout_ms: u64,
    /// How long the first message may take
    #[arg(long, env = "HOLDFAST_FIRST_FRAME_TIMEOUT_MS", default_value_t = 5_000, hide_short_help = true)]
    pub first_frame_timeout_ms: u64,
    /// How long a reader may take nothing of what waits for it
    #[arg(long, env = "HOLDFAST_SLOW_TIMEOUT_MS", default_value_t = 10_000, hide_short_help = true)]
    pub slow_timeout_ms: u64,
    /// Between heartbeats of a visible page
    #[arg(
        long,
        visible_alias = "ping-interval-ms",
        env = "HOLDFAST_BEAT_INTERVAL_MS",
        default_value_t = 10_000,
        hide_short_help = true
    )]
    pub beat_interval_ms: u64,
    /// Between heartbeats of a hidden page
    #[arg(long, env = "HOLDFAST_BEAT_HIDDEN_INTERVAL_MS", default_value_t = 30_000, hide_short_help = true)]
    pub beat_hidden_interval_ms: u64,
    /// How long the answer to a heartbeat may take
    #[arg(long, env = "HOLDFAST_BEAT_ANSWER_MS", default_value_t = 4_000, hide_short_help = true)]
    pub beat_answer_ms: u64,
    /// How long a visible page may be silent
    #[arg(long, env = "HOLDFAST_DEAD_PEER_MS", default_value_t = 28_000, hide_short_help = true)]
    pub dead_peer_ms: u64,
    /// How long a hidden page may be silent
    #[arg(long, env = "HOLDFAST_DEAD_PEER_HIDDEN_MS", default_value_t = 150_000, hide_short_help = true)]
    pub dead_peer_hidden_ms: u64,
    /// How long somebody without a connection still counts as here
    #[arg(long, env = "HOLDFAST_PRESENCE_GRACE_MS", default_value_t = 10_000, hide_short_help = true)]
    pub presence_grace_ms: u64,
    /// How long comings, goings and heads are collected before they are told
    #[arg(long, env = "HOLDFAST_COALESCE_MS", default_value_t = 1_000, hide_short_help = true)]
    pub coalesce_ms: u64,
    /// Between sweeps that look for readers who missed a hint
    #[arg(long, env = "HOLDFAST_SWEEP_MS", default_value_t = 2_000, hide_short_help = true)]
    pub sweep_ms: u64,
    /// How long a session lasts without use; a week after its end it is removed
    #[arg(long, env = "HOLDFAST_SESSION_MS", default_value_t = 30 * 24 * 3_600_000, hide_short_help = true)]
    pub session_ms: u64,
    /// How long an orderly stop may take in all
    #[arg(long, env = "HOLDFAST_DRAIN_MS", default_value_t = 25_000, hide_short_help = true)]
    pub drain_ms: u64,
    /// How long the peer may take to answer a close frame
    #[arg(long, env = "HOLDFAST_CLOSE_WAIT_MS", default_value_t = 1_000, hide_short_help = true)]
    pub close_wait_ms: u64,
    /// The longest spread of returning clients; reached at 10,000 connections
    #[arg(long, env = "HOLDFAST_RECONNECT_SPREAD_MS", default_value_t = 20_000, hide_short_help = true)]
    pub reconnect_spread_ms: u64,
}

/// Rates.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Rates")]
pub struct Rates {
    /// Posts, edits, deletions and reactions of one person at once, and rooms made, joined and left; a new name counts as
    /// ten
    #[arg(long, env = "HOLDFAST_POSTS_BURST", default_value_t = 10, hide_short_help = true)]
    pub posts_burst: u64,
    /// The same, a second, after the burst
    #[arg(long, env = "HOLDFAST_POSTS_PER_S", default_value_t = 5, hide_short_help = true)]
    pub posts_per_s: u64,
    /// Messages of one connection at once
    #[arg(long, env = "HOLDFAST_FRAMES_BURST", default_value_t = 60, hide_short_help = true)]
    pub frames_burst: u64,
    /// The same, a second, after the burst
    #[arg(long, env = "HOLDFAST_FRAMES_PER_S", default_value_t = 20, hide_short_help = true)]
    pub frames_per_s: u64,
    /// Messages over the rate within 10 seconds that are no longer answered but closed for
    #[arg(long, env = "HOLDFAST_ABUSE_FRAMES", default_value_t = 300, hide_short_help = true)]
    pub abuse_frames: u64,
    /// Pings and pongs within 10 seconds
    #[arg(long, env = "HOLDFAST_PINGS", default_value_t = 20, hide_short_help = true)]
    pub pings: u64,
}

/// Sizes.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Sizes")]
pub struct Sizes {
    /// Largest message a client may send, in bytes
    #[arg(long, env = "HOLDFAST_MESSAGE_BYTES", default_value_t = limits::INBOUND_MESSAGE_BYTES, hide_short_help = true)]
    pub message_bytes: usize,
    /// Most fragments of one message
    #[arg(long, env = "HOLDFAST_MESSAGE_FRAGMENTS", default_value_t = 1_024, hide_short_help = true)]
    pub message_fragments: u32,
    /// Answers kept for a connection before its reading stops, in bytes
    #[arg(long, env = "HOLDFAST_PENDING_REPLY_BYTES", default_value_t = 65_536, hide_short_help = true)]
    pub pending_reply_bytes: usize,
    /// A request's head, in bytes
    #[arg(long, env = "HOLDFAST_HEAD_BYTES", default_value_t = 16_384, hide_short_help = true)]
    pub head_bytes: usize,
    /// Header fields of a request
    #[arg(long, env = "HOLDFAST_HEAD_FIELDS", default_value_t = 64, hide_short_help = true)]
    pub head_fields: usize,
}

impl Config {
    /// Returns the origins browsers may come from when listening on `address`.
    #[must_use]
    pub fn origins(&self, address: SocketAddr) -> Vec<String> {
        if !self.allow_origin.is_empty() {
            return self.allow_origin.iter().filter_map(|text| origin::canonical(text)).collect();
        }
        // A development server passes requests on under its own port. In a release that port may be anybody's, and browsers
        // send cookies to every port of a host.
        self.own_origins(address, cfg!(debug_assertions).then_some(DEV_SERVER_PORT))
    }

    fn own_origins(&self, address: SocketAddr, development: Option<u16>) -> Vec<String> {
        let port = address.port();
        let mut origins = Vec::new();
        if address.ip().is_loopback() || address.ip().is_unspecified() {
            for host in ["localhost", "127.0.0.1", "[::1]"] {
                origins.extend(std::iter::once(port).chain(development).map(|port| origin::write("http", host, port)));
            }
        }
        if !address.ip().is_unspecified() && (address.ip().is_loopback() || self.insecure_http) {
            let host = match address.ip() {
                std::net::IpAddr::V4(ip) => ip.to_string(),
                std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            };
            origins.push(origin::write("http", &host, port));
        }
        origins.sort();
        origins.dedup();
        origins
    }

    /// Returns how heartbeats go, as the welcome tells it.
    #[must_use]
    pub const fn heartbeat(&self) -> HeartbeatTerms {
        HeartbeatTerms {
            interval_ms: self.timing.beat_interval_ms,
            hidden_interval_ms: self.timing.beat_hidden_interval_ms,
            answer_ms: self.timing.beat_answer_ms,
        }
    }

    /// Returns what the server takes, as the welcome tells it.
    #[must_use]
    pub fn wire_limits(&self) -> WireLimits {
        WireLimits {
            message_bytes: self.sizes.message_bytes as u64,
            posts_burst: self.rates.posts_burst,
            posts_per_s: self.rates.posts_per_s,
            ..WireLimits::default()
        }
    }

    /// Returns over how long this many clients should spread their return, in milliseconds: nothing for a few, all of
    /// [`Timing::reconnect_spread_ms`] at 10,000 connections.
    #[must_use]
    pub fn reconnect_spread_ms(&self, connections: usize) -> u64 {
        if connections <= SPREAD_FROM {
            return 0;
        }
        let share = connections.min(SPREAD_FULL_AT) as u64;
        self.timing.reconnect_spread_ms.saturating_mul(share) / SPREAD_FULL_AT as u64
    }
}

/// Up to this many connections come back all at once.
const SPREAD_FROM: usize = 50;
/// From this many connections on the spread is at its longest.
const SPREAD_FULL_AT: usize = 10_000;
/// Where `trunk serve` shows the page during development.
const DEV_SERVER_PORT: u16 = 8081;

impl SocketLimits {
    /// Returns how many sockets may be open and not yet upgraded.
    #[must_use]
    pub fn pending_in_all(&self) -> usize {
        if self.pending == 0 { (self.connections / 10).max(self.pending_per_address) } else { self.pending }
    }
}

/// Makes a duration of a setting in milliseconds.
#[must_use]
pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Config {
        Config::try_parse_from(std::iter::once(&"server").chain(arguments)).unwrap()
    }

    #[test]
    fn the_defaults_are_valid_and_keep_what_is_written_of_them() {
        let config = config(&[]);
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.heartbeat(), HeartbeatTerms::default());
        assert_eq!(config.wire_limits(), WireLimits::default());
        assert!(config.timing.dead_peer_ms <= 30_000 && config.timing.drain_ms < 30_000);
    }

    #[test]
    fn loopback_allows_its_names_at_its_port_and_in_development_at_one_more() {
        let origins = config(&[]).origins("127.0.0.1:8080".parse().unwrap());
        for origin in ["http://localhost:8080", "http://127.0.0.1:8081", "http://[::1]:8080"] {
            assert!(origins.iter().any(|known| known == origin), "{origin} is missing in {origins:?}");
        }
        let released = config(&[]).own_origins("127.0.0.1:8080".parse().unwrap(), None);
        assert_eq!(released, ["http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:8080"]);
        let chosen = config(&["--allow-origin", "https://Chat.example.org"]).origins("127.0.0.1:8080".parse().unwrap());
        assert_eq!(chosen, ["https://chat.example.org"]);
        let beyond = "192.0.2.7:80".parse().unwrap();
        assert!(config(&[]).origins(beyond).is_empty());
        assert_eq!(config(&["--insecure-http"]).origins(beyond), ["http://192.0.2.7"]);
    }

    #[test]
    fn the_spread_grows_with_the_number_of_connections() {
        let config = config(&[]);
        assert_eq!(config.reconnect_spread_ms(5), 0);
        assert_eq!(config.reconnect_spread_ms(1_000), 2_000);
        assert_eq!(config.reconnect_spread_ms(10_000), 20_000);
        assert_eq!(config.reconnect_spread_ms(50_000), 20_000);
    }
}
