//! Load for a server of one's own: many lean connections on one thread, posts on a clock, every delivery counted.
//!
//! Lives here: what `holdfast bench` and `cargo xtask bench` share. Must not live here: comparing servers, which is the
//! program's (main.rs). Invariant: the load shares nothing with the server but the socket; a figure never comes without
//! the count of what was lost.

pub mod board;
pub mod clock;
pub mod crowd;
pub mod dialect;
pub mod load;
pub mod process;
pub mod result;
pub mod stats;
pub mod wire;

/// Why a load could not be laid on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fail {
    /// The arguments make no sense together.
    Usage(String),
    /// The server said no.
    Refused(String),
    /// Out of time.
    TimedOut(String),
    /// This machine.
    Local(String),
}

impl std::fmt::Display for Fail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Usage(words) | Self::Refused(words) | Self::TimedOut(words) | Self::Local(words)) = self;
        f.write_str(words)
    }
}

impl std::error::Error for Fail {}

impl From<std::io::Error> for Fail {
    fn from(error: std::io::Error) -> Self {
        Self::Local(error.to_string())
    }
}
