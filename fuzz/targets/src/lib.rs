//! What reads foreign bytes, each as one function of bytes.
//!
//! Lives here: the functions a fuzzer calls (`cargo xtask fuzz`), which the ordinary test `replay` calls with every
//! input of fuzz/corpus. Must not live here: anything a program needs. Invariant: a function returns for every byte
//! string; it panics if, and only if, a promise is broken.

mod close;
mod config;
mod connection;
mod decoder;
mod http;
mod log;
mod message;
mod model;
mod runtime;
mod session;
mod source;
mod stored;
mod text;
mod timeline;

/// One function of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its file in fuzz/fuzz_targets and of its folder in fuzz/corpus.
    pub name: &'static str,
    /// Panics if a promise is broken.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident: $run:path, $words:literal;)*) => {
        $(#[doc = $words] pub fn $name(bytes: &[u8]) { $run(bytes) })*
        /// Every target, by name.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $run },)*];
    };
}

targets! {
    close: self::close::run, "Close frames and close codes, both ways.";
    config: self::config::run, "The server's flags, and a server started with whatever passed.";
    connection: self::connection::run, "Commands of any kind from two people on real sockets to a real server.";
    decoder: self::decoder::run, "The frame decoder, in any slices, against a plain reading of RFC 6455.";
    http: self::http::run, "Requests to the server's HTTP side: sign-in, cookies, upgrades, the page.";
    log: self::log::run, "Entries into the log in memory: what must be true of every history.";
    log_sqlite: self::log::run_beside_sqlite, "The same entries into SQLite: the same answers and the same history.";
    message: self::message::run, "Messages, as either side reads them.";
    session: self::session::run, "Any inputs in any order into a client's session.";
    stored: self::stored::run, "What a device finds stored: unsent items, cursors, who was signed in.";
    text: self::text::run, "Names, titles, posts and reactions, as people type them.";
    timeline: self::timeline::run, "What arrives at a timeline, true or not, in any order.";
}
