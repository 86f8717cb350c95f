//! The byte stream under a connection, as little of it as a connection needs.
//!
//! Must not live here: frames. Invariant: nothing here waits; what cannot be done now is `WouldBlock`.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use socket2::SockRef;
#[cfg(target_os = "linux")]
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A stream of bytes that is read and written without waiting.
pub trait Socket: Send + Sync + 'static {
    /// Reads what has come; 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has come.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes what fits of one piece.
    ///
    /// # Errors
    /// `WouldBlock` if nothing fits.
    fn try_write(&self, frame: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(frame)])
    }
    /// Writes what fits of several pieces in a row.
    ///
    /// # Errors
    /// `WouldBlock` if nothing fits.
    fn try_write_vectored(&self, frames: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Says that nothing more will be written. What the peer sends can still be read.
    ///
    /// # Errors
    /// As the system says; the socket is of no use then.
    fn finish(&self) -> io::Result<()>;
    /// Returns how many bytes that were written the peer has not acknowledged; `None` where that is not known.
    fn unacknowledged(&self) -> Option<usize> {
        None
    }
}

/// Whoever takes less than this, in all the time there is for it, takes nothing. In bytes.
pub const LEAST_TAKEN: usize = 1_024;

/// A socket that takes nothing more of what waits. The kernel takes more only when a good part of its buffer is free, tens
/// of kilobytes, which a thin link needs long for; so what counts is what the peer acknowledges meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    since: Instant,
    unacknowledged: Option<usize>,
}

impl Stall {
    /// Begins now.
    pub fn begin(now: Instant, socket: &dyn Socket) -> Self {
        Self { since: now, unacknowledged: socket.unacknowledged() }
    }

    /// Returns when it is to be judged.
    #[must_use]
    pub fn judged_at(&self, patience: Duration) -> Instant {
        self.since + patience
    }

    /// Tells whether the peer has had its time and taken nothing. Whoever took some has as much time again.
    pub fn is_over(&mut self, now: Instant, patience: Duration, socket: &dyn Socket) -> bool {
        if now < self.judged_at(patience) {
            return false;
        }
        let left = socket.unacknowledged();
        let took = self.unacknowledged.zip(left).is_some_and(|(before, left)| left + LEAST_TAKEN <= before);
        if took {
            *self = Self { since: now, unacknowledged: left };
        }
        !took
    }
}

impl Socket for TcpStream {
    /// A read that does not fill the buffer has drained the socket, and what comes next is another event (epoll(7)); so
    /// the runtime is told at once that there is no more, which saves a look round and a call that finds nothing.
    #[cfg(target_os = "linux")]
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = None;
        let more = self.try_io(Interest::READABLE, || {
            let count = rustix::net::recv(self, &mut *buffer, rustix::net::RecvFlags::DONTWAIT)?.0;
            if count == 0 || count == buffer.len() {
                return Ok(count);
            }
            read = Some(count);
            // Within the same call, so that news after the read are not forgotten with it.
            Err(io::ErrorKind::WouldBlock.into())
        });
        read.map_or(more, Ok)
    }

    #[cfg(not(target_os = "linux"))]
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, buffer)
    }

    /// Past the runtime's notes of readiness, which lie elsewhere in memory for each socket: only where the kernel takes
    /// nothing must the runtime know, so that it can be waited for.
    #[cfg(target_os = "linux")]
    fn try_write(&self, frame: &[u8]) -> io::Result<usize> {
        match rustix::net::send(self, frame, rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::AGAIN) => Self::try_write(self, frame),
            sent => Ok(sent?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn try_write(&self, frame: &[u8]) -> io::Result<usize> {
        Self::try_write(self, frame)
    }

    fn try_write_vectored(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::try_write_vectored(self, frames)
    }

    fn finish(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }

    /// SIOCOUTQ of tcp(7).
    #[cfg(target_os = "linux")]
    #[allow(unsafe_code, reason = "no crate asks this for us")]
    fn unacknowledged(&self) -> Option<usize> {
        use std::ffi::c_int;

        use rustix::ioctl::{Getter, Opcode, ioctl};
        // SAFETY: the kernel writes one int for it (TIOCOUTQ has the same number).
        let bytes = unsafe { ioctl(self, Getter::<{ libc::TIOCOUTQ as Opcode }, c_int>::new()) };
        usize::try_from(bytes.ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    fn is_would_block(result: io::Result<usize>) -> bool {
        matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    #[tokio::test]
    async fn whatever_comes_in_pieces_is_read_to_its_end() {
        let (ours, mut theirs) = pair().await;
        let mut buffer = [0; 8];
        for round in 0..200_usize {
            let sent = vec![round as u8; 1 + round % 20];
            theirs.write_all(&sent).await.unwrap();
            let mut got = Vec::new();
            while got.len() < sent.len() {
                ours.readable().await.unwrap();
                match Socket::try_read(&ours, &mut buffer) {
                    Ok(count) => got.extend_from_slice(&buffer[..count]),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            assert_eq!(got, sent, "round {round}");
        }
        assert!(is_would_block(Socket::try_read(&ours, &mut buffer)));
        // The end that came with the last bytes is not lost with them.
        theirs.write_all(b"bye").await.unwrap();
        drop(theirs);
        let mut got = Vec::new();
        loop {
            ours.readable().await.unwrap();
            match Socket::try_read(&ours, &mut buffer) {
                Ok(0) => break,
                Ok(count) => got.extend_from_slice(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(got, b"bye");
    }

    #[tokio::test]
    async fn a_socket_that_takes_nothing_is_waited_for() {
        let (ours, mut theirs) = pair().await;
        let frame = vec![7; 64 * 1024];
        let mut sent = 0;
        loop {
            match Socket::try_write(&ours, &frame) {
                Ok(count) => sent += count,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        // The runtime knows that it is full: it is not woken before the peer reads.
        let mut writable = std::pin::pin!(ours.writable());
        assert!(
            std::future::poll_fn(|context| std::task::Poll::Ready(writable.as_mut().poll(context).is_pending())).await
        );
        let mut read = vec![0; sent];
        tokio::join!(async { theirs.read_exact(&mut read).await.unwrap() }, async { writable.await.unwrap() });
        assert!(Socket::try_write(&ours, &frame).unwrap() > 0);
    }

    /// Takes nothing; so many bytes are not acknowledged.
    struct Full(Option<usize>);

    impl Socket for Full {
        fn try_read(&self, _buffer: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn try_write_vectored(&self, _frames: &[IoSlice<'_>]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn finish(&self) -> io::Result<()> {
            Ok(())
        }

        fn unacknowledged(&self) -> Option<usize> {
            self.0
        }
    }

    #[test]
    fn whoever_takes_some_in_time_is_not_stuck_however_long_the_kernel_takes_no_more() {
        const PATIENCE: Duration = Duration::from_secs(10);
        let start = Instant::now();
        let mut left = 200_000;
        let mut stall = Stall::begin(start, &Full(Some(left)));
        let mut now = start;
        for _ in 0..100 {
            assert_eq!(stall.judged_at(PATIENCE), now + PATIENCE);
            assert!(!stall.is_over(now + PATIENCE - Duration::from_millis(1), PATIENCE, &Full(Some(left))));
            (now, left) = (now + PATIENCE, left - LEAST_TAKEN);
            assert!(!stall.is_over(now, PATIENCE, &Full(Some(left))), "it took {LEAST_TAKEN} bytes");
        }
        now += PATIENCE;
        assert!(stall.is_over(now, PATIENCE, &Full(Some(left - LEAST_TAKEN + 1))), "a trickle is nothing");
        // Where nobody knows, only time counts.
        let mut unknown = Stall::begin(start, &Full(None));
        assert!(unknown.is_over(start + PATIENCE, PATIENCE, &Full(None)));
    }

    #[tokio::test]
    async fn what_the_peer_has_not_acknowledged_is_known() {
        let (ours, mut theirs) = pair().await;
        assert_eq!(ours.unacknowledged(), Some(0));
        let frame = vec![7; 64 * 1024];
        let mut sent = 0;
        while let Ok(count) = Socket::try_write(&ours, &frame) {
            sent += count;
        }
        let full = ours.unacknowledged().unwrap();
        assert!(full > 0 && full <= sent, "{full} of {sent}");
        let mut read = vec![0; sent];
        theirs.read_exact(&mut read).await.unwrap();
        while ours.unacknowledged().unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
