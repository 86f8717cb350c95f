//! From what was committed to the sockets that follow it: streams, their tails, hints.
//!
//! Lives here: who follows which stream and where, the newest frames of each, and waking those who are behind. Must not
//! live here: sockets, or reading the log on somebody's behalf. Invariant: a hint carries no news. Whoever is woken, or
//! not woken, finds what it missed by its cursor: first in the [`tail`], below that in the log.
//!
//! ```text
//! writer thread: publish ─▶ stream.tail, marks it dirty ─▶ hints task ─▶ followers' mailboxes ─▶ connection pulls
//!                                                          sweep task ─▶ followers whose cursor is behind
//! ```

mod hub;
pub mod mailbox;
mod stream;
pub mod tail;

pub use hub::{Hub, ends_membership, room_frame, user_frame};
pub use mailbox::{Letters, Mailbox, Order};
pub use stream::{Follower, Held, Stream};

use shared::ids::{ConnectionId, SessionId, UserId};

use crate::people::tokens::TokenHash;

/// One connection, as others reach it.
#[derive(Debug)]
pub struct Peer {
    /// Which socket.
    pub connection: ConnectionId,
    /// Whose.
    pub user: UserId,
    /// Which running client.
    pub session: SessionId,
    /// Under which sign-in.
    pub token: TokenHash,
    /// Where it is told things.
    pub mailbox: Mailbox,
}
