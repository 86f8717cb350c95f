//! What one connection is told by others: small, bounded, and merged while it waits.
//!
//! Must not live here: durable events, which are found by cursor. Invariant: a mailbox never grows with how long it is
//! not read; what is dropped is either merged into something newer or ephemeral.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use shared::ids::{RoomId, UserId};
use shared::model::{Head, Member};
use tokio::sync::Notify;

/// Most people whose coming or going waits to be told. More are found when the roster is read again.
const PRESENCE_LETTERS: usize = 1_000;
/// Most `typing` frames that wait. The oldest goes first.
const TYPING_LETTERS: usize = 16;

/// What others tell a connection.
#[derive(Debug, Default)]
pub struct Mailbox {
    wake: Notify,
    letters: Mutex<Letters>,
}

/// What waits to be told.
#[derive(Debug, Default)]
pub struct Letters {
    /// New heads of rooms that are not followed in full.
    pub heads: BTreeMap<RoomId, Head>,
    /// People who came or went.
    pub presence: BTreeMap<UserId, Arc<Member>>,
    /// Finished `typing` frames.
    pub typing: VecDeque<Bytes>,
    /// Read positions moved by another connection of the same user.
    pub reads: BTreeMap<RoomId, u64>,
    /// An order to end.
    pub order: Option<Order>,
}

/// Tells a connection to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Say `draining` now, and close as restarting after a while.
    Drain {
        /// How long the client waits before it comes back, in milliseconds.
        reconnect_after_ms: u64,
        /// How long to go on before closing, in milliseconds.
        close_after_ms: u64,
    },
    /// Close at once with this code.
    Close(u16),
}

impl Letters {
    fn is_urgent(&self) -> bool {
        self.order.is_some() || !(self.presence.is_empty() && self.typing.is_empty() && self.reads.is_empty())
    }
}

impl Mailbox {
    /// Waits until something may be there. Cancel-safe.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Wakes the connection: a stream it follows may have news.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Takes everything, leaving the heads where `with_heads` is false. Returns whether heads were left.
    pub fn take(&self, with_heads: bool) -> (Letters, bool) {
        let mut letters = self.lock();
        let heads = if with_heads { BTreeMap::new() } else { std::mem::take(&mut letters.heads) };
        let taken = std::mem::replace(&mut *letters, Letters { heads, ..Letters::default() });
        let left = !letters.heads.is_empty();
        (taken, left)
    }

    /// Takes an order to end; everything else waits on.
    pub fn take_order(&self) -> Option<Order> {
        self.lock().order.take()
    }

    /// Tells of a new head.
    pub fn head(&self, head: Head) {
        let first = self.lock().heads.insert(head.room, head).is_none();
        if first {
            self.wake();
        }
    }

    /// Tells who came or went.
    pub fn presence(&self, members: &[Arc<Member>]) {
        let mut letters = self.lock();
        for member in members {
            if letters.presence.len() < PRESENCE_LETTERS || letters.presence.contains_key(&member.id) {
                letters.presence.insert(member.id, Arc::clone(member));
            }
        }
        drop(letters);
        self.wake();
    }

    /// Tells who is writing.
    pub fn typing(&self, frame: Bytes) {
        let mut letters = self.lock();
        if letters.typing.len() >= TYPING_LETTERS {
            letters.typing.pop_front();
        }
        letters.typing.push_back(frame);
        drop(letters);
        self.wake();
    }

    /// Tells of a read position.
    pub fn read(&self, room: RoomId, posts: u64) {
        let mut letters = self.lock();
        let place = letters.reads.entry(room).or_default();
        *place = posts.max(*place);
        drop(letters);
        self.wake();
    }

    /// Orders the connection to end. An order to close is never taken back by one to drain.
    pub fn order(&self, order: Order) {
        let mut letters = self.lock();
        match (letters.order, order) {
            (Some(Order::Close(_)), _) => {}
            (None | Some(Order::Drain { .. }), order) => letters.order = Some(order),
        }
        drop(letters);
        self.wake();
    }

    /// Tells whether something waits that is told at once.
    #[must_use]
    pub fn has_urgent(&self) -> bool {
        self.lock().is_urgent()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Letters> {
        // Nothing panics while holding it; if it did, the letters are still whole.
        self.letters.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::ids::Seq;

    #[test]
    fn letters_merge_and_stay_bounded() {
        let mailbox = Mailbox::default();
        let room = RoomId::from_bytes([1; 16]);
        for seq in 1..=1_000 {
            mailbox.head(Head { room, seq: Seq(seq), posts: seq });
            mailbox.typing(Bytes::from_static(b"x"));
            mailbox.read(room, 1_000 - seq);
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(seq * 7).to_be_bytes());
            for last in [0, 1] {
                id[15] = last;
                mailbox.presence(&[Arc::new(Member { id: UserId::from_bytes(id), name: String::new(), online: true })]);
            }
        }
        mailbox.order(Order::Close(4500));
        mailbox.order(Order::Drain { reconnect_after_ms: 0, close_after_ms: 0 });
        let (letters, left) = mailbox.take(false);
        assert!(left && letters.heads.is_empty());
        assert_eq!(letters.typing.len(), TYPING_LETTERS);
        assert_eq!(letters.reads.get(&room), Some(&999));
        assert_eq!(letters.presence.len(), PRESENCE_LETTERS);
        assert_eq!(letters.order, Some(Order::Close(4500)));
        let (letters, left) = mailbox.take(true);
        assert!(!left);
        assert_eq!(letters.heads.get(&room).map(|head| head.seq), Some(Seq(1_000)));
    }
}
