//! From what was committed to the sockets that follow it: streams, their tails, the fan-out, hints.
//!
//! Lives here: who follows which stream and where, the newest frames of each, handing them to those who stand right
//! before them, and waking everybody else. Must not live here: reading from sockets, or reading the log on somebody's
//! behalf. Invariant: a hint carries no news. Whoever is woken, or not woken, finds what it missed by its cursor: first
//! in the [`tail`], below that in the log.
//!
//! ```text
//! writer thread: publish ─▶ stream.tail, marks it ─▶ hints task: a walk over the followers
//!                              stands right before the news, nothing waits ─▶ outlet ─▶ socket
//!                              anybody else ─▶ mailbox ─▶ the connection's task pulls by its cursor
//!                           sweep task ─▶ mailboxes of those whose cursor is behind
//! ```

mod followers;
mod hub;
pub mod mailbox;
pub mod outlet;
mod stream;
pub mod tail;
mod walk;

pub use followers::Follower;
pub use hub::{Hub, room_frame, user_frame};
pub use mailbox::{Letters, Mailbox, Order};
pub use outlet::{Out, Outlet};
pub use stream::{Held, Stream};

use std::sync::Arc;

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
    /// Its way out.
    pub outlet: Arc<Outlet>,
}
