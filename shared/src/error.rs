//! Refusals: what a request is answered with when it is not done.
//!
//! Must not live here: words in a person's language; the page words each code itself. Invariant: a code, once on the
//! wire, keeps its meaning; a peer that does not know one still knows whether to retry.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::object::object;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, retryable: $retryable:literal;)*) => {
        /// Why a request was refused.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// A code of a newer peer.
            Unknown(String),
        }

        impl ErrorCode {
            /// Every code this version knows.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// Returns the code as it is written on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self { $(Self::$name => $text,)* Self::Unknown(text) => text }
            }

            /// Tells whether the same request may succeed later, unchanged.
            #[must_use]
            pub fn is_retryable(&self) -> bool {
                match self { $(Self::$name => $retryable,)* Self::Unknown(_) => false }
            }

            /// Reads a code from the wire.
            #[must_use]
            pub fn from_wire(text: &str) -> Self {
                match text { $($text => Self::$name,)* other => Self::Unknown(other.to_owned()) }
            }
        }
    };
}

error_codes! {
    /// The message is not JSON, too deep, or lacks what its kind requires.
    BadMessage = "bad_message", retryable: false;
    /// The command is not one this server knows.
    UnknownCommand = "unknown_command", retryable: false;
    /// The first frame was not a hello, or a second hello came.
    BadSequence = "bad_sequence", retryable: false;
    /// Client and server share no protocol version.
    BadVersion = "bad_version", retryable: false;
    /// No valid session came with the request.
    SignedOut = "signed_out", retryable: false;
    /// The Origin is not one this server accepts.
    BadOrigin = "bad_origin", retryable: false;
    /// The name is empty, too long, or holds characters names may not.
    NameInvalid = "name_invalid", retryable: false;
    /// Somebody has this name, or one that looks the same. A suggestion comes with it.
    NameTaken = "name_taken", retryable: false;
    /// There is no such thing, or you may not know of it.
    NotFound = "not_found", retryable: false;
    /// You are not a member of this room.
    NotMember = "not_member", retryable: false;
    /// You may not do this.
    Forbidden = "forbidden", retryable: false;
    /// A post needs at least one visible character.
    PostEmpty = "post_empty", retryable: false;
    /// The post is longer than the server takes.
    PostTooLong = "post_too_long", retryable: false;
    /// This id was used before with another content.
    IdConflict = "id_conflict", retryable: false;
    /// A named limit other than a rate is reached.
    LimitReached = "limit_reached", retryable: false;
    /// Too fast. Wait `retry_after_ms`.
    RateLimited = "rate_limited", retryable: true;
    /// An earlier send of this connection was refused retryably; this one waits for it.
    Behind = "behind", retryable: true;
    /// The server's disk is full. It heals by itself when there is room.
    StorageFull = "storage_full", retryable: true;
    /// The server cannot do this at the moment.
    Unavailable = "unavailable", retryable: true;
    /// A bug on the server's side. The socket stays open.
    Internal = "internal", retryable: true;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_wire(&std::borrow::Cow::<'de, str>::deserialize(deserializer)?))
    }
}

/// A refusal as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WireError {
    /// What is wrong, for programs.
    pub code: ErrorCode,
    /// What is wrong and what to do next, in English, for developers and logs.
    pub message: String,
    /// Whether the same request may succeed later. Sent so that unknown codes are understood.
    pub retryable: bool,
    /// How long to wait before trying again, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// A value that would be accepted, such as a free name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

object!(WireError { code, message, retryable = default, retry_after_ms = default, suggestion = default });

impl WireError {
    /// Makes a refusal; whether it is retryable follows from its code.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { retryable: code.is_retryable(), code, message: message.into(), retry_after_ms: None, suggestion: None }
    }

    /// Adds how long to wait.
    #[must_use]
    pub fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// Adds a value that would be accepted.
    #[must_use]
    pub fn suggest(mut self, value: impl Into<String>) -> Self {
        self.suggestion = Some(value.into());
        self
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for WireError {}
