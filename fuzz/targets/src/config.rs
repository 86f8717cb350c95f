//! The server's flags, and a server started with whatever passed.
//!
//! The environment is read through the same parsers as the flags, so it needs no target of its own. Must not live here:
//! a list of the flags; they are asked of the parser. Invariant checked: flags are read or refused in words; whatever
//! [`Config::validate`] lets through starts, answers a request or closes it, and stops.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use clap::{CommandFactory as _, Parser as _};
use server::config::{Config, ms};
use server::{Server, Storage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::runtime::block_on;
use crate::source::Source;

const VALUES: [&str; 14] = [
    "0",
    "1",
    "18446744073709551615",
    "4294967295",
    "8192",
    "20000",
    "https://chat.example.org",
    "http://[::1]:8080",
    "10.0.0.0/8",
    "127.0.0.1:0",
    "json",
    "info,server=debug",
    "-1",
    "http://localhost",
];
const FLAGS: usize = 6;
/// How long one answer is waited for. Some of what may be set means that there is none.
const PATIENCE: Duration = Duration::from_millis(200);

pub(crate) fn run(bytes: &[u8]) {
    let command = Config::command();
    let flags: Vec<String> =
        command.get_arguments().filter_map(|flag| Some(format!("--{}", flag.get_long()?))).collect();
    let mut source = Source::new(bytes);
    let mut arguments = vec![OsString::from("server")];
    for _ in 0..FLAGS {
        if source.is_empty() {
            break;
        }
        arguments.push(match source.byte() {
            255 => source.text(40).into(),
            known => flags[usize::from(known) % flags.len()].clone().into(),
        });
        arguments.push(match source.byte() {
            tag @ 0..=127 => VALUES[usize::from(tag) % VALUES.len()].into(),
            128..=191 => source.number().to_string().into(),
            192..=199 => continue,
            _own => source.text(60).into(),
        });
    }
    let config = match Config::try_parse_from(&arguments) {
        Ok(config) => config,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    match config.validate() {
        Ok(()) => holds(config),
        Err(error) => assert!(error.0.starts_with("--") && error.0.len() < 1_000, "{error}"),
    }
}

/// What a configuration promises once it has passed.
fn holds(config: Config) {
    for address in ["127.0.0.1:80", "[::1]:8080", "0.0.0.0:443", "192.0.2.7:8080"] {
        for origin in config.origins(address.parse().expect("an address")) {
            assert!(origin.starts_with("http") && !origin.ends_with('/') && !origin.contains('*'), "{origin}");
            assert_eq!(origin, origin.to_ascii_lowercase());
        }
    }
    let terms = config.heartbeat();
    assert!(config.timing.dead_peer_ms - terms.interval_ms > terms.answer_ms);
    assert!(config.timing.dead_peer_hidden_ms - terms.hidden_interval_ms > terms.answer_ms);
    for connections in [0, 51, 9_999, usize::MAX] {
        assert!(config.reconnect_spread_ms(connections) <= config.timing.reconnect_spread_ms);
    }
    assert!(config.wire_limits().message_bytes >= shared::limits::POST_BYTES as u64);
    let timing = config.timing;
    for wait in [
        timing.header_read_timeout_ms,
        timing.body_read_timeout_ms,
        timing.first_frame_timeout_ms,
        timing.slow_timeout_ms,
        timing.beat_interval_ms,
        timing.dead_peer_ms,
        timing.dead_peer_hidden_ms,
        timing.session_ms,
        timing.drain_ms,
        timing.close_wait_ms,
    ] {
        assert!(Instant::now().checked_add(ms(wait)).is_some(), "a wait of {wait} ms has no end");
    }
    block_on(start(config));
}

/// Starts a server, asks it whether it lives, and stops it.
async fn start(config: Config) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    let server = Server::open(listener, config, Storage::Memory).await.expect("what was validated opens");
    let asking = async {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        socket.read_to_end(&mut Vec::new()).await
    };
    let asked = async {
        // Whether it answers depends on what was set; that it does not fall over does not.
        let _ = tokio::time::timeout(PATIENCE, asking).await;
    };
    server.run(asked).await.expect("it stops in good order");
}
