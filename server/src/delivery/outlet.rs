//! The way out of one connection: what waits to be written to its socket, and whether the peer takes it. Shared by the
//! connection's task, which may write anything, and by the fan-out of the streams it follows, which writes what is new
//! in them if nothing else waits.
//!
//! Must not live here: choosing what to write. Invariants: frames leave under one lock, so they never mix; only whole
//! frames are queued and only the first may be partly written, so the queue can be cut behind it at any time without
//! breaking the framing; cursors of followers move only in the hands of whoever holds this lock.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::socket::{Socket, Stall};
use bytes::{Buf as _, Bytes};

/// Frames handed to the kernel in one call.
const SLICES: usize = 64;

/// The way out of one connection. The default is that of one that is over.
#[derive(Debug, Default)]
pub struct Outlet(Mutex<Out>);

/// The way out, in somebody's hands.
#[derive(Default)]
pub struct Out {
    /// Gone when the connection is over.
    socket: Option<Arc<dyn Socket>>,
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// The first frame is partly written.
    partial: bool,
    /// The kernel takes nothing of what waits.
    stall: Option<Stall>,
    /// Whether others than the connection's task may write.
    shares: bool,
}

/// What became of frames that were handed straight to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handed {
    /// The kernel has all of it.
    All,
    /// The kernel has some of it; the rest waits, and the connection's task must see to it.
    Some,
    /// Nothing was taken: it is for the connection's task.
    Nothing,
}

impl Outlet {
    /// Makes the way out over a socket. Nobody but the connection's task writes before [`Out::share`].
    #[must_use]
    pub fn new(socket: Arc<dyn Socket>) -> Self {
        Self(Mutex::new(Out { socket: Some(socket), ..Out::default() }))
    }

    /// Takes the way out into one's hands. Whoever has it does nothing that waits, and does not take it again.
    pub fn lock(&self) -> MutexGuard<'_, Out> {
        // Nothing panics while holding it but by a bug; what is queued is whole frames even then.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at it from outside.
    pub(super) fn is_at_hand(&self) -> bool {
        !self.0.is_poisoned()
    }

    /// As [`Outlet::lock`], unless somebody has it.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Out>> {
        match self.0.try_lock() {
            Ok(out) => Some(out),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Out {
    /// Lets the fan-out write from now on: the connection has been told everything that it must be told first.
    pub fn share(&mut self) {
        self.shares = true;
    }

    /// Lets nobody but the connection's task write any more.
    pub fn keep(&mut self) {
        self.shares = false;
    }

    /// Lets go of the socket; nothing can be written any more.
    pub fn close(&mut self) {
        *self = Self::default();
    }

    /// Writes frames without queueing them, if that is allowed and nothing waits; what the kernel does not take of them
    /// is queued. `joined` is all of them in one piece.
    pub(super) fn hand(&mut self, joined: &[u8], frames: &[Bytes]) -> Handed {
        let Some(socket) = self.socket.as_ref().filter(|_| self.shares && self.frames.is_empty()) else {
            return Handed::Nothing;
        };
        match socket.try_write(joined) {
            Ok(written) if written == joined.len() => Handed::All,
            // An error shows again when the connection's task writes.
            Ok(0) | Err(_) => Handed::Nothing,
            Ok(written) => {
                frames.iter().for_each(|frame| self.push(frame.clone()));
                self.took(written);
                Handed::Some
            }
        }
    }

    /// Queues a frame.
    pub fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Tells whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns how many bytes wait.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tells whether what waits is not taken at the moment.
    #[must_use]
    pub const fn is_stalled(&self) -> bool {
        self.stall.is_some()
    }

    /// Returns when [`Out::is_stuck`] is to be asked, if what waits is not taken.
    #[must_use]
    pub fn judged_at(&self, patience: Duration) -> Option<Instant> {
        self.stall.map(|stall| stall.judged_at(patience))
    }

    /// Tells whether the peer has taken nothing for so long.
    pub fn is_stuck(&mut self, now: Instant, patience: Duration) -> bool {
        match (&mut self.stall, &self.socket) {
            (Some(stall), Some(socket)) => stall.is_over(now, patience, &**socket),
            (None, _) | (_, None) => false,
        }
    }

    /// Forgets everything but what is partly written.
    pub fn cut(&mut self) {
        self.frames.truncate(usize::from(self.partial));
        self.bytes = self.frames.front().map_or(0, Bytes::len);
    }

    /// Writes as much as the kernel takes.
    ///
    /// # Errors
    /// As the socket says; it is of no use then.
    pub fn write(&mut self, now: Instant) -> io::Result<()> {
        while let Some(first) = self.frames.front() {
            let Some(socket) = &self.socket else { return Err(io::ErrorKind::NotConnected.into()) };
            let taken = if self.frames.len() == 1 {
                socket.try_write(first)
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let mut count = 0;
                for (slice, frame) in slices.iter_mut().zip(&self.frames) {
                    *slice = IoSlice::new(frame);
                    count += 1;
                }
                socket.try_write_vectored(&slices[..count])
            };
            match taken {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.took(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stall.get_or_insert_with(|| Stall::begin(now, &**socket));
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn took(&mut self, mut written: usize) {
        self.bytes -= written;
        self.stall = None;
        while written > 0 {
            let Some(first) = self.frames.front_mut() else { break };
            if written < first.len() {
                first.advance(written);
                self.partial = true;
                return;
            }
            written -= first.len();
            self.frames.pop_front();
            self.partial = false;
        }
        if self.frames.is_empty() {
            // Most of the time nothing waits; the space for it is not kept.
            self.frames = VecDeque::new();
        }
    }
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socket, frames, bytes, partial, stall, shares } = self;
        f.debug_struct("Out")
            .field("open", &socket.is_some())
            .field("frames", &frames.len())
            .field("bytes", bytes)
            .field("partial", partial)
            .field("stall", stall)
            .field("shares", shares)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_cut_behind_what_is_partly_written() {
        let mut output = Out::default();
        for _ in 0..3 {
            output.push(Bytes::from_static(b"frame"));
        }
        output.took(7);
        assert_eq!((output.bytes(), output.frames.len()), (8, 2));
        output.cut();
        assert_eq!((output.bytes(), output.frames.len()), (3, 1));
        output.took(3);
        assert!(output.is_empty());
        output.push(Bytes::from_static(b"frame"));
        output.push(Bytes::from_static(b"frame"));
        // To the very end of a frame.
        output.took(5);
        output.cut();
        assert!(output.is_empty() && output.bytes() == 0);
    }
}
