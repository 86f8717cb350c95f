//! How the program ends: exit codes, and the one error type every command returns.
//!
//! Must not live here: printing. Invariant: a code, once documented in `--help`, keeps its meaning.

use std::io;

use shared::close::StopReason;
use shared::error::WireError;

use crate::driver::DriverGone;

/// What `--help` says of exit codes.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done; for post: acknowledged, so stored by the server
  1    refused by the server, or something asked for is not there
  2    wrong usage
  3    not done in time, or the server cannot be reached
  4    signed out, banned, or stopped by the server in another way that needs you
  5    trouble on this machine, such as a folder that cannot be written
  130  interrupted";

/// Why a command ended before it was done.
#[derive(Debug)]
pub(crate) enum End {
    /// The server said no, or it is not there.
    Refused(String),
    /// The arguments make no sense together.
    Usage(String),
    /// Out of time.
    TimedOut(String),
    /// The session needs a person.
    Stopped(String),
    /// This machine.
    Local(String),
    /// Ctrl-C or SIGTERM, and what there is to say of what is left.
    Interrupted(Option<String>),
    /// Nobody reads what we print any more: the quiet end of `holdfast … | head`.
    ClosedPipe,
}

impl End {
    /// Returns the exit code.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::TimedOut(_) => 3,
            Self::Stopped(_) => 4,
            Self::Local(_) => 5,
            Self::Interrupted(_) => 130,
        }
    }

    /// Returns what to tell the person, if anything.
    pub(crate) fn words(&self) -> Option<&str> {
        match self {
            Self::Refused(words)
            | Self::Usage(words)
            | Self::TimedOut(words)
            | Self::Stopped(words)
            | Self::Local(words) => Some(words),
            Self::Interrupted(words) => words.as_deref(),
            Self::ClosedPipe => None,
        }
    }
}

/// Why a command ends while something it was given is not acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Early {
    /// Out of time.
    OutOfTime,
    /// The session needs a person.
    Stopped(StopReason),
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// The outbox holds nothing but what was refused, so there will be no place in it.
    Full,
}

impl Early {
    /// Makes an end of it, with what becomes of the rest.
    pub(crate) fn with(self, rest: &str) -> End {
        let words = |why: &str| format!("{why} {rest}").trim_end().to_owned();
        match self {
            Self::OutOfTime => End::TimedOut(rest.to_owned()),
            Self::Stopped(reason) => End::Stopped(words(stop_words(reason))),
            Self::Interrupted => End::Interrupted((!rest.is_empty()).then(|| words("Interrupted."))),
            Self::Full => End::Local(words("The outbox is full of what was refused; see `holdfast outbox`.")),
        }
    }
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        let hint = error.suggestion.map_or(String::new(), |free| format!(" “{free}” would be accepted."));
        Self::Refused(format!("{}{hint} ({})", error.message, error.code))
    }
}

impl From<DriverGone> for End {
    fn from(_: DriverGone) -> Self {
        Self::Local("the session ended unexpectedly; this is a bug".into())
    }
}

/// For writing to stdout; other errors of the system are worded where they happen.
impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Local(format!("cannot write: {error}")),
        }
    }
}

impl From<StopReason> for End {
    fn from(reason: StopReason) -> Self {
        Self::Stopped(stop_words(reason).to_owned())
    }
}

/// Says why a session stopped, and what to do.
pub(crate) const fn stop_words(reason: StopReason) -> &'static str {
    match reason {
        StopReason::SignedOut => "Your session ended. Sign in again with `holdfast sign-in`.",
        StopReason::Superseded => "The same session connected again elsewhere.",
        StopReason::Banned => "An operator has banned this person.",
        StopReason::BadVersion => "The server speaks no version this program speaks: update holdfast.",
        StopReason::TooManyConnections => "This person has too many connections open: close some.",
        StopReason::Other => "The server said stop, with a code this version does not know: update holdfast.",
    }
}
