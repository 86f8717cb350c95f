//! What one connection is told by others: small, bounded, and merged while it waits.
//!
//! Must not live here: durable events, which are found by cursor. Invariant: a mailbox never grows with how long it is
//! not read; what is dropped is either merged into something newer or ephemeral.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use shared::ids::{RoomId, UserId};
use shared::model::{Head, Member};
use shared::sorted::SortedMap;

/// Most people whose coming or going waits to be told. More are found when the roster is read again.
const PRESENCE_LETTERS: usize = 1_000;
/// Most `typing` frames that wait. The oldest goes first.
const TYPING_LETTERS: usize = 16;

/// What others tell a connection.
#[derive(Debug, Default)]
pub struct Mailbox(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    /// Something may be there.
    rung: bool,
    /// Who waits for that.
    waiting: Option<Waker>,
    /// Made with the first letter: most mailboxes are empty most of the time.
    letters: Option<Box<Letters>>,
}

/// What waits to be told.
#[derive(Debug, Default, PartialEq)]
pub struct Letters {
    /// New heads of rooms that are not followed in full, at most of as many as one person is a member of. In one small
    /// piece: a single one comes to thousands of connections at once, and what memory that takes is not given back.
    pub heads: SortedMap<RoomId, Head>,
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
    /// Looks whether something may be there since it was last looked at; if not, whoever looked last is woken when it is.
    pub fn poll_woken(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inside = self.lock();
        if std::mem::take(&mut inside.rung) {
            return Poll::Ready(());
        }
        match &mut inside.waiting {
            Some(waiting) => waiting.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Wakes the connection: a stream it follows may have news.
    pub fn wake(&self) {
        self.put(|_| true);
    }

    /// Takes everything, leaving the heads where `with_heads` is false; `None` if there is nothing to take. Returns
    /// besides whether heads were left.
    pub fn take(&self, with_heads: bool) -> (Option<Box<Letters>>, bool) {
        let mut inside = self.lock();
        let Some(letters) = &mut inside.letters else { return (None, false) };
        if with_heads || letters.heads.is_empty() {
            return (inside.letters.take(), false);
        }
        if !letters.is_urgent() {
            return (None, true);
        }
        let heads = std::mem::take(&mut letters.heads);
        (inside.letters.replace(Box::new(Letters { heads, ..Letters::default() })), true)
    }

    /// Takes an order to end; everything else waits on.
    pub fn take_order(&self) -> Option<Order> {
        self.lock().letters.as_mut()?.order.take()
    }

    /// Tells of a new head. One that is older than what waits says nothing.
    pub fn head(&self, head: Head) {
        self.put(|inside| {
            let heads = &mut inside.letters().heads;
            if let Some(waiting) = heads.get_mut(&head.room) {
                if waiting.seq < head.seq {
                    *waiting = head;
                }
                return false;
            }
            heads.insert(head.room, head);
            true
        });
    }

    /// Tells who came or went.
    pub fn presence(&self, members: &[Arc<Member>]) {
        self.put(|inside| {
            let letters = inside.letters();
            for member in members {
                if letters.presence.len() < PRESENCE_LETTERS || letters.presence.contains_key(&member.id) {
                    letters.presence.insert(member.id, Arc::clone(member));
                }
            }
            true
        });
    }

    /// Tells who is writing.
    pub fn typing(&self, frame: Bytes) {
        self.put(|inside| {
            let letters = inside.letters();
            if letters.typing.len() >= TYPING_LETTERS {
                letters.typing.pop_front();
            }
            letters.typing.push_back(frame);
            true
        });
    }

    /// Tells of a read position.
    pub fn read(&self, room: RoomId, posts: u64) {
        self.put(|inside| {
            let place = inside.letters().reads.entry(room).or_default();
            *place = posts.max(*place);
            true
        });
    }

    /// Orders the connection to end. An order to close is never taken back by one to drain.
    pub fn order(&self, order: Order) {
        self.put(|inside| {
            let letters = inside.letters();
            match (letters.order, order) {
                (Some(Order::Close(_)), _) => {}
                (None | Some(Order::Drain { .. }), order) => letters.order = Some(order),
            }
            true
        });
    }

    /// Puts something in, and wakes the connection if that says so.
    fn put(&self, put: impl FnOnce(&mut Inside) -> bool) {
        let mut inside = self.lock();
        if !put(&mut inside) {
            return;
        }
        inside.rung = true;
        let waiting = inside.waiting.take();
        drop(inside);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inside> {
        // Nothing panics while holding it; if it did, the letters are still whole.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inside {
    fn letters(&mut self) -> &mut Letters {
        self.letters.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::ids::Seq;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[test]
    fn a_ring_is_heard_once_by_whoever_looked_last() {
        struct Bell(AtomicUsize);
        impl Wake for Bell {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let rings = |bell: &Arc<Bell>| bell.0.load(Ordering::Relaxed);
        let (one, other) = (Arc::new(Bell(AtomicUsize::new(0))), Arc::new(Bell(AtomicUsize::new(0))));
        let mailbox = Mailbox::default();
        let look =
            |bell: &Arc<Bell>| mailbox.poll_woken(&mut Context::from_waker(&Waker::from(Arc::clone(bell)))).is_ready();
        // What rang before anybody looked is found at the first look.
        mailbox.wake();
        mailbox.wake();
        assert!(look(&one) && !look(&one) && !look(&other));
        mailbox.wake();
        mailbox.wake();
        assert_eq!((rings(&one), rings(&other)), (0, 1));
        assert!(look(&other) && !look(&one));
        // A head of a room whose head waits already is no news.
        let head = |seq| Head { room: RoomId::from_bytes([1; 16]), seq: Seq(seq), posts: seq };
        mailbox.head(head(1));
        assert!(look(&one) && !look(&one));
        mailbox.head(head(2));
        assert_eq!((rings(&one), look(&one)), (1, false));
        mailbox.head(head(1));
        assert_eq!(
            mailbox.take(true).0.unwrap().heads.into_iter().map(|(_, head)| head).collect::<Vec<_>>(),
            [head(2)]
        );
    }

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
        let letters = letters.unwrap();
        assert!(left && letters.heads.is_empty());
        assert_eq!(letters.typing.len(), TYPING_LETTERS);
        assert_eq!(letters.reads.get(&room), Some(&999));
        assert_eq!(letters.presence.len(), PRESENCE_LETTERS);
        assert_eq!(letters.order, Some(Order::Close(4500)));
        assert_eq!(mailbox.take(false), (None, true));
        let (letters, left) = mailbox.take(true);
        let letters = letters.unwrap();
        assert!(!left);
        assert_eq!(mailbox.take(false), (None, false));
        assert_eq!(letters.heads.get(&room).map(|head| head.seq), Some(Seq(1_000)));
    }
}
