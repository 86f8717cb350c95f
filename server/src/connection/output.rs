//! What waits to be written to one socket, and whether the peer takes it.
//!
//! Must not live here: choosing what to write. Invariant: only whole frames are queued and only the first may be partly
//! written, so the queue can be cut behind it at any time without breaking the framing.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Instant;

use super::socket::Socket;
use bytes::{Buf as _, Bytes};

/// Frames handed to the kernel in one call.
const SLICES: usize = 64;

/// Frames on their way to one socket.
#[derive(Debug, Default)]
pub(super) struct Output {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// The first frame is partly written.
    partial: bool,
    /// Since when the kernel has taken nothing of what waits.
    stalled: Option<Instant>,
}

impl Output {
    pub(super) fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns how many bytes wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns since when the peer has taken nothing.
    pub(super) const fn stalled_since(&self) -> Option<Instant> {
        self.stalled
    }

    /// Forgets everything but what is partly written.
    pub(super) fn cut(&mut self) {
        self.frames.truncate(usize::from(self.partial));
        self.bytes = self.frames.front().map_or(0, Bytes::len);
    }

    /// Writes as much as the kernel takes.
    ///
    /// # Errors
    /// As the socket says; it is of no use then.
    pub(super) fn write(&mut self, socket: &impl Socket, now: Instant) -> io::Result<()> {
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(&self.frames) {
                *slice = IoSlice::new(frame);
                count += 1;
            }
            match socket.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.took(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stalled.get_or_insert(now);
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
        self.stalled = None;
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_cut_behind_what_is_partly_written() {
        let mut output = Output::default();
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
        output.cut();
        assert!(output.is_empty() && output.bytes() == 0);
    }
}
