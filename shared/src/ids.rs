//! Typed identifiers, so that a room can never be passed where a user is meant.
//!
//! Must not live here: making them, which needs randomness. Invariant: what is printed parses back to the same id.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a time-ordered id (UUIDv7, RFC 9562) from the moment and ten random bytes the caller drew.
            #[must_use]
            pub fn from_parts(now: Timestamp, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(now.0, &random).into_uuid())
            }

            /// Returns the sixteen bytes, in network order.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Reads an id back from sixteen bytes in network order.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// An identity. Its name is an attribute that can change or be released.
    UserId
}
uuid_id! {
    /// An ordered conversation.
    RoomId
}
uuid_id! {
    /// The idempotency key a client makes for one durable request, when its draft begins.
    ClientId
}
uuid_id! {
    /// One running client (a tab, a process). Kept in memory only: a duplicated tab makes a new one.
    SessionId
}
uuid_id! {
    /// Names the log. It changes only when the log is another one.
    Epoch
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// Pairs an answer with its request. Chosen by the client, unique on one connection.
    RequestId
}
number_id! {
    /// One socket, as the server counts them.
    ConnectionId
}
number_id! {
    /// One attempt of a session to connect. Inputs of an older attempt are ignored.
    AttemptId
}
number_id! {
    /// The dense order of changes in one stream, from 1. Zero means "before the first".
    Seq
}
number_id! {
    /// The place of a change in the whole log of one server, across all streams. Not dense within a stream.
    Lsn
}

impl Seq {
    /// Returns the next sequence number, saturating: a peer may send any.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What has an order of its own: a room, or everything that is one user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    /// Changes in a room.
    Room(RoomId),
    /// Changes in what is mine: rooms added and removed, my name.
    User(UserId),
}
