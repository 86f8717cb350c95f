//! The fan-out: one batch of a stream's news, handed to everybody who stands right before it.
//!
//! Must not live here: finding what somebody missed. Invariant: a follower is handed a batch only if its cursor is the
//! batch's base, nothing else waits for its socket and its membership reaches the batch's end; anybody else is woken and
//! finds the same by cursor. So a walk may be late, be cut short or not happen, and nothing is lost or doubled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use shared::ids::Seq;

use super::followers::{Follower, Group};
use super::outlet::Handed;

/// Bytes of a batch, unless one frame is larger.
pub(super) const BATCH_BYTES: usize = 64 * 1024;

/// One batch, and whom it is for.
#[derive(Debug)]
pub(super) struct Walk {
    /// The seq before the first of the batch.
    base: Seq,
    /// The last seq of the batch.
    last: Seq,
    frames: Vec<Bytes>,
    /// The frames in one piece, so that the kernel copies from one place.
    joined: Bytes,
    groups: Vec<Arc<Group>>,
    /// The group that nobody has begun yet.
    next: AtomicUsize,
}

impl Walk {
    pub(super) fn new(base: Seq, last: Seq, frames: Vec<Bytes>, groups: Vec<Arc<Group>>) -> Self {
        let joined = match frames.as_slice() {
            [only] => only.clone(),
            many => Bytes::from(many.concat()),
        };
        Self { base, last, frames, joined, groups, next: AtomicUsize::new(0) }
    }

    /// Returns how many groups there are in all.
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Hands the batch to one more group. Several threads may do so at once. Returns how many followers it had; `None`
    /// when there is no group left.
    pub(super) fn step(&self) -> Option<usize> {
        let group = self.groups.get(self.next.fetch_add(1, Ordering::Relaxed))?;
        // Followers lie all over the memory. Looked at in a row, they are fetched from there side by side.
        std::hint::black_box(group.iter().filter(|(_, follower)| follower.is_at_hand()).count());
        group.iter().for_each(|(_, follower)| self.hand_to(follower));
        Some(group.len())
    }

    fn hand_to(&self, follower: &Follower) {
        // Whoever has the outlet is the connection itself, and may have looked at the stream before the news came.
        let Some(mut out) = follower.outlet.try_lock() else { return follower.peer.mailbox.wake() };
        match follower.cursor(&out) {
            Some(cursor) if cursor == self.base && follower.until() >= self.last => {
                let handed = out.hand(&self.joined, &self.frames);
                if handed != Handed::Nothing {
                    follower.stand_at(&mut out, self.last);
                }
                drop(out);
                if handed != Handed::All {
                    follower.peer.mailbox.wake();
                }
            }
            Some(cursor) if cursor >= self.last => {}
            Some(_) | None => {
                drop(out);
                follower.peer.mailbox.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, IoSlice};
    use std::sync::Mutex;
    use std::task::{Context, Waker};
    use std::time::Instant;

    use shared::ids::{ConnectionId, RoomId, SessionId, StreamId, UserId};

    use super::*;
    use crate::delivery::stream::Does;
    use crate::delivery::{Mailbox, Outlet, Peer, Stream};
    use crate::socket::Socket;

    /// Takes so many bytes, then no more.
    #[derive(Default)]
    struct Narrow {
        room: Mutex<usize>,
        taken: Mutex<Vec<u8>>,
    }

    impl Socket for Narrow {
        fn try_read(&self, _buffer: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn try_write(&self, frame: &[u8]) -> io::Result<usize> {
            let mut room = self.room.lock().unwrap();
            let count = frame.len().min(*room);
            *room -= count;
            self.taken.lock().unwrap().extend_from_slice(&frame[..count]);
            if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }

        fn try_write_vectored(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
            self.try_write(&frames.iter().flat_map(|frame| frame.iter().copied()).collect::<Vec<_>>())
        }

        fn finish(&self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Reader {
        socket: Arc<Narrow>,
        follower: Arc<Follower>,
    }

    impl Reader {
        /// Follows a stream from a seq on, over a socket that takes so many bytes.
        fn new(stream: &Stream, number: u64, at: u64, room: usize) -> Self {
            let socket = Arc::new(Narrow { room: Mutex::new(room), taken: Mutex::default() });
            let outlet = Arc::new(Outlet::new(Arc::clone(&socket) as Arc<dyn Socket>));
            let peer = Arc::new(Peer {
                connection: ConnectionId(number),
                user: UserId::from_bytes([number as u8; 16]),
                session: SessionId::from_bytes([0; 16]),
                token: [0; 32],
                mailbox: Mailbox::default(),
                outlet,
            });
            let follower = stream.follow(peer, Seq(0));
            let mut out = follower.outlet.lock();
            out.share();
            follower.stand_at(&mut out, Seq(at));
            drop(out);
            Self { socket, follower }
        }

        fn taken(&self) -> String {
            String::from_utf8(self.socket.taken.lock().unwrap().clone()).unwrap()
        }

        /// Tells whether it was woken since the last time this was asked.
        fn was_woken(&self) -> bool {
            self.follower.peer.mailbox.poll_woken(&mut Context::from_waker(Waker::noop())).is_ready()
        }

        fn cursor(&self) -> Option<u64> {
            self.follower.cursor(&self.follower.outlet.lock()).map(|seq| seq.0)
        }
    }

    fn stream() -> Stream {
        Stream::new(StreamId::Room(RoomId::from_bytes([1; 16])))
    }

    fn append(stream: &Stream, seq: u64, frame: &'static str) {
        stream.append(Seq(seq), seq, Some(Bytes::from_static(frame.as_bytes())), Does::Nothing);
    }

    fn walk(stream: &Stream) {
        assert!(stream.begin_walk().is_some());
        while let Some(walk) = stream.next_walk() {
            while walk.step().is_some() {}
        }
    }

    #[test]
    fn those_right_before_the_news_are_handed_it_and_nobody_else() {
        let stream = stream();
        let ready = Reader::new(&stream, 1, 4, 100);
        let behind = Reader::new(&stream, 2, 3, 100);
        let ahead = Reader::new(&stream, 3, 6, 100);
        let opening = Reader::new(&stream, 4, 4, 100);
        opening.follower.stand_aside(&mut opening.follower.outlet.lock());
        let waiting = Reader::new(&stream, 5, 4, 100);
        waiting.follower.outlet.lock().push(Bytes::from_static(b"reply"));
        let catching_up = Reader::new(&stream, 6, 4, 100);
        catching_up.follower.outlet.lock().keep();
        append(&stream, 5, "five");
        append(&stream, 6, "six");
        walk(&stream);
        assert_eq!((ready.taken().as_str(), ready.cursor()), ("fivesix", Some(6)));
        assert!(!ready.was_woken() && !ahead.was_woken(), "for nothing");
        for (reader, cursor) in [(behind, Some(3)), (opening, None), (waiting, Some(4)), (catching_up, Some(4))] {
            assert_eq!((reader.taken().as_str(), reader.cursor()), ("", cursor));
            assert!(reader.was_woken(), "whoever stands at {cursor:?} is left to the sweep");
        }
        assert_eq!((ahead.taken().as_str(), ahead.cursor()), ("", Some(6)));
        // Walked around once is walked around.
        walk(&stream);
        assert_eq!(ready.taken(), "fivesix");
    }

    #[test]
    fn what_a_socket_does_not_take_waits_in_whole_frames() {
        let stream = stream();
        let (narrow, shut) = (Reader::new(&stream, 1, 0, 7), Reader::new(&stream, 2, 0, 0));
        ["one.", "two.", "three."].into_iter().zip(1..).for_each(|(frame, seq)| append(&stream, seq, frame));
        walk(&stream);
        assert_eq!((narrow.taken().as_str(), narrow.cursor()), ("one.two", Some(3)));
        assert_eq!((shut.taken().as_str(), shut.cursor()), ("", Some(0)));
        assert!(narrow.was_woken() && shut.was_woken(), "nobody writes what waits");
        let mut out = narrow.follower.outlet.lock();
        assert_eq!(out.bytes(), ".three.".len());
        // The frame that is partly written is written to its end even when the rest is forgotten.
        out.cut();
        *narrow.socket.room.lock().unwrap() = 100;
        out.write(Instant::now()).unwrap();
        drop(out);
        assert_eq!(narrow.taken(), "one.two.");
    }

    #[test]
    fn a_room_that_nobody_follows_keeps_no_frames() {
        let stream = stream();
        let frames = || {
            let mut held = crate::delivery::Held::default();
            stream.add_to(&mut held);
            held.tail_frames
        };
        assert!(!stream.is_followed());
        stream.append(Seq(1), 1, None, Does::Nothing);
        let reader = Reader::new(&stream, 1, 1, 100);
        assert!(stream.is_followed());
        append(&stream, 2, "two.");
        // Whoever began to follow before an event that came without its frame finds it in the log.
        let late = Reader::new(&stream, 2, 1, 100);
        stream.append(Seq(3), 3, None, Does::Nothing);
        assert_eq!(stream.take(Seq(1), Seq(9), 100, |_| {}), crate::delivery::tail::Found::Below);
        append(&stream, 4, "four.");
        walk(&stream);
        assert_eq!((reader.taken(), late.taken(), frames()), (String::new(), String::new(), 1));
        stream.watch(Arc::clone(&late.follower.peer));
        assert!(stream.leave(ConnectionId(1)));
        assert_eq!(frames(), 1);
        stream.leave(ConnectionId(2));
        assert_eq!(frames(), 0);
    }

    #[test]
    fn what_was_read_from_the_log_is_no_news_unless_it_was_read_before_it_came() {
        let page = |frames: &[(u64, &'static str)]| -> Vec<(Seq, Bytes)> {
            frames.iter().map(|(seq, frame)| (Seq(*seq), Bytes::from_static(frame.as_bytes()))).collect()
        };
        let stream = stream();
        stream.saw_head(Seq(2));
        stream.keep_page(&page(&[(1, "one.")]));
        assert_eq!(stream.take(Seq(0), Seq(9), 100, |_| {}), crate::delivery::tail::Found::Below, "not to the head");
        stream.keep_page(&page(&[(1, "one."), (2, "two.")]));
        let (reader, late) = (Reader::new(&stream, 1, 2, 100), Reader::new(&stream, 2, 1, 100));
        // The second was committed, and read, before it came this way.
        append(&stream, 2, "two.");
        walk(&stream);
        assert_eq!((reader.taken().as_str(), late.taken().as_str()), ("", "two."));

        let stream = self::stream();
        stream.saw_head(Seq(2));
        stream.keep_page(&page(&[(1, "one."), (2, "two.")]));
        let (reader, late) = (Reader::new(&stream, 1, 2, 100), Reader::new(&stream, 2, 1, 100));
        append(&stream, 3, "three.");
        walk(&stream);
        assert_eq!((reader.taken().as_str(), late.taken().as_str()), ("three.", ""));
        // What came this way is not given up for a page that was read meanwhile.
        stream.keep_page(&page(&[(3, "three.")]));
        // Whoever is behind finds all of it by their cursor.
        let mut found = Vec::new();
        stream.take(Seq(1), Seq(9), 100, |frame| found.extend_from_slice(&frame));
        assert_eq!(found, b"two.three.");
    }

    #[test]
    fn a_watcher_is_told_how_many_posts_there_were_as_of_the_seq_that_is_told() {
        for is_taken in [false, true] {
            let stream = stream();
            let watcher = Reader::new(&stream, 1, 0, 0).follower.peer.clone();
            stream.watch_only(Arc::clone(&watcher));
            let told = || watcher.mailbox.take(true).0.map(|letters| letters.heads.into_iter().next().unwrap().1);
            append(&stream, 4, "four.");
            // The fifth is committed, and somebody has read of it.
            stream.saw_head(Seq(5));
            stream.begin_walk();
            if is_taken {
                let head = told().unwrap();
                assert_eq!((head.seq, head.posts), (Seq(4), 4));
            }
            append(&stream, 5, "five.");
            stream.begin_walk();
            let head = told().unwrap();
            assert_eq!((head.seq, head.posts), (Seq(5), 5), "taken: {is_taken}");
        }
    }

    #[test]
    fn a_watcher_is_told_by_the_sweep_of_what_a_lost_hint_kept_from_them() {
        let stream = stream();
        let watcher = Reader::new(&stream, 1, 0, 0).follower.peer.clone();
        stream.watch_only(Arc::clone(&watcher));
        let told = || watcher.mailbox.take(true).0.map(|letters| letters.heads.into_iter().next().unwrap().1);
        append(&stream, 4, "four.");
        stream.wake_late();
        let head = told().expect("nobody walked it around");
        assert_eq!((head.seq, head.posts), (Seq(4), 4));
        stream.wake_late();
        assert!(told().is_none(), "told once");
    }

    #[test]
    fn whoever_left_is_handed_nothing_by_a_walk_that_had_begun() {
        let stream = stream();
        let (stays, leaves, gone) =
            (Reader::new(&stream, 1, 0, 100), Reader::new(&stream, 2, 0, 100), Reader::new(&stream, 3, 0, 100));
        append(&stream, 1, "one.");
        stream.append(Seq(2), 2, Some(Bytes::from_static(b"left.")), Does::EndMembership(UserId::from_bytes([2; 16])));
        append(&stream, 3, "secret.");
        stream.begin_walk();
        let walk = stream.next_walk().unwrap();
        // Over before the walk comes by.
        gone.follower.outlet.lock().close();
        stream.leave(ConnectionId(3));
        while walk.step().is_some() {}
        assert_eq!(stays.taken(), "one.left.secret.");
        assert_eq!((leaves.taken(), leaves.follower.until()), (String::new(), Seq(2)));
        assert_eq!(gone.taken(), "");
    }

    #[test]
    fn many_threads_hand_a_batch_to_everybody_once() {
        const READERS: u64 = 1_000;
        let stream = stream();
        let readers: Vec<_> = (0..READERS).map(|number| Reader::new(&stream, number, 0, 100)).collect();
        for leaves in (0..READERS).step_by(3) {
            stream.leave(ConnectionId(leaves));
        }
        append(&stream, 1, "news");
        assert_eq!(stream.begin_walk(), Some(666));
        assert_eq!(stream.begin_walk(), None, "somebody walks already");
        let walk = stream.next_walk().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| while walk.step().is_some() {});
            }
        });
        assert!(stream.next_walk().is_none());
        for (reader, number) in readers.iter().zip(0..READERS) {
            assert_eq!(reader.taken(), if number % 3 == 0 { "" } else { "news" }, "reader {number}");
        }
    }
}
