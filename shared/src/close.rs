//! The close-code registry: who closes with a code, what it means, and what a client does next.
//!
//! Lives here: every code either side sends or expects (RFC 6455 §7.4, and our range 4000–4999). Must not live here:
//! closing anything. Invariant: 4000–4499 reconnect and resume, 4500–4999 stop and tell the person, so an old client
//! acts rightly on a new code by its range alone.

/// What a client does after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AfterClose {
    /// Come back with backoff and resume.
    Reconnect,
    /// Come back, but not within [`SLOW_RECONNECT_MS`]: coming back at once would do harm.
    ReconnectSlowly,
    /// Stop until the person acts.
    Stop(StopReason),
}

/// The least wait after [`AfterClose::ReconnectSlowly`], in milliseconds.
pub const SLOW_RECONNECT_MS: u64 = 10_000;

/// Why a session stopped and needs a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// The session ended or was revoked: sign in again. Unsent posts are kept.
    SignedOut,
    /// The same session came back on a newer socket.
    Superseded,
    /// An operator has banned this person.
    Banned,
    /// The server speaks no version this client speaks: reload the page or update the program.
    BadVersion,
    /// This person has too many connections open.
    TooManyConnections,
    /// The server said stop with a code of a newer version.
    Other,
}

/// One row of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseMeaning {
    /// The code (RFC 6455 §7.4).
    pub code: u16,
    /// A short name, for logs and for people who read code.
    pub name: &'static str,
    /// Who sends it.
    pub sender: Sender,
    /// What the client does.
    pub after: AfterClose,
    /// What happened, in English.
    pub words: &'static str,
}

/// Who closes with a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The server.
    Server,
    /// The client.
    Client,
    /// Either side.
    Either,
    /// Nobody: it stands for a close that carried no code, or none at all.
    Nobody,
}

macro_rules! registry {
    ($($name:ident = $code:literal, $text:literal, $sender:ident, $after:expr, $words:literal;)*) => {
        $(#[doc = concat!("Close code ", stringify!($code), ": ", $words)] pub const $name: u16 = $code;)*
        /// Every code this version knows, in order.
        pub const REGISTRY: &[CloseMeaning] = &[$(CloseMeaning {
            code: $code, name: $text, sender: Sender::$sender, after: $after, words: $words,
        },)*];
    };
}

use AfterClose::{Reconnect, ReconnectSlowly, Stop};

registry! {
    NORMAL = 1000, "normal", Either, Reconnect, "The connection was closed in the ordinary way.";
    GOING_AWAY = 1001, "going_away", Either, Reconnect, "The other side went away.";
    PROTOCOL = 1002, "protocol_error", Server, ReconnectSlowly, "A frame broke the WebSocket protocol.";
    UNSUPPORTED = 1003, "unsupported", Server, ReconnectSlowly, "A binary frame came where text was expected.";
    NO_STATUS = 1005, "no_status", Nobody, Reconnect, "The connection was closed without a reason.";
    ABNORMAL = 1006, "abnormal", Nobody, Reconnect, "The connection broke off without a goodbye.";
    INVALID_UTF8 = 1007, "invalid_utf8", Server, ReconnectSlowly, "A text frame was not UTF-8.";
    POLICY = 1008, "policy", Server, ReconnectSlowly, "The other side refused what was sent.";
    TOO_LARGE = 1009, "too_large", Server, ReconnectSlowly, "A message was larger than the server takes.";
    SERVER_ERROR = 1011, "server_error", Server, Reconnect, "The server hit an unexpected error.";
    RESTART = 1012, "restart", Server, Reconnect, "The server is restarting.";
    TRY_LATER = 1013, "try_later", Server, Reconnect, "The server has no room at the moment.";
    SLOW = 4000, "slow", Server, Reconnect, "This connection made no progress reading for too long.";
    NO_HEARTBEAT = 4001, "no_heartbeat", Either, Reconnect, "Nothing was heard for too long.";
    HELLO_TIMEOUT = 4002, "hello_timeout", Server, Reconnect, "The first message did not come in time.";
    FLOOD = 4003, "flood", Server, ReconnectSlowly, "Far too many messages came in a short time.";
    BAD_SEQUENCE = 4004, "bad_sequence", Either, Reconnect, "A message came where the protocol has no place for it.";
    CONNECT_TIMEOUT = 4005, "connect_timeout", Client, Reconnect, "The server did not answer in time.";
    STORAGE_STOPPED = 4006, "storage_stopped", Server, Reconnect, "The server stopped because its storage failed.";
    SUPERSEDED = 4500, "superseded", Server, Stop(StopReason::Superseded), "The same session connected again.";
    SESSION_EXPIRED = 4501, "session_expired", Server, Stop(StopReason::SignedOut), "The session has expired.";
    SESSION_REVOKED = 4502, "session_revoked", Server, Stop(StopReason::SignedOut), "The session was ended.";
    BANNED = 4503, "banned", Server, Stop(StopReason::Banned), "An operator has banned this person.";
    BAD_VERSION = 4504, "bad_version", Server, Stop(StopReason::BadVersion), "Client and server share no protocol version.";
    TOO_MANY = 4505, "too_many", Server, Stop(StopReason::TooManyConnections), "This person has too many connections open.";
}

/// Looks a code up.
#[must_use]
pub fn lookup(code: u16) -> Option<&'static CloseMeaning> {
    REGISTRY.binary_search_by_key(&code, |meaning| meaning.code).ok().map(|index| &REGISTRY[index])
}

/// Says what a client does after a close it did not ask for. Total: codes nobody registered are judged by range.
#[must_use]
pub fn after_close(code: u16) -> AfterClose {
    match lookup(code) {
        Some(meaning) => meaning.after,
        None if (4500..=4999).contains(&code) => Stop(StopReason::Other),
        None => Reconnect,
    }
}

/// Cuts a reason to what a close frame holds (RFC 6455 §5.5), at a character boundary.
#[must_use]
pub fn fit_reason(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(crate::limits::CLOSE_REASON_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_sorted_and_keeps_to_its_ranges() {
        assert!(REGISTRY.windows(2).all(|pair| pair[0].code < pair[1].code));
        for meaning in REGISTRY {
            let stops = matches!(meaning.after, Stop(_));
            assert_eq!(stops, meaning.code >= 4500, "{} is in the wrong range", meaning.name);
            assert_eq!(lookup(meaning.code), Some(meaning));
        }
    }

    #[test]
    fn a_code_of_a_newer_server_is_judged_by_its_range() {
        assert_eq!(after_close(4499), Reconnect);
        assert_eq!(after_close(4998), Stop(StopReason::Other));
        assert_eq!(after_close(3000), Reconnect);
        assert_eq!(after_close(0), Reconnect);
    }

    #[test]
    fn a_reason_is_cut_to_what_a_close_frame_holds() {
        let long = "重".repeat(100);
        assert!(fit_reason(&long).len() <= crate::limits::CLOSE_REASON_BYTES);
        assert_eq!(fit_reason("short"), "short");
    }
}
