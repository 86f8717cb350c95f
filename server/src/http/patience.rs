//! A socket as HTTP is spoken on it: a peer that takes nothing of an answer for a while is given up.
//!
//! Must not live here: how requests are read, which has timeouts of its own. Invariant: as long as something waits to be
//! written there is an alarm, and only what the peer took puts it off.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::socket::Stall;

/// A socket that fails when its peer takes nothing for too long.
pub(crate) struct Patient {
    socket: TokioIo<TcpStream>,
    patience: Duration,
    /// Made when something has to wait: most answers do not.
    wait: Option<(Stall, Pin<Box<Sleep>>)>,
}

impl Patient {
    pub(crate) fn new(socket: TcpStream, patience: Duration) -> Self {
        Self { socket: TokioIo::new(socket), patience, wait: None }
    }

    /// Returns the socket itself.
    pub(crate) fn into_inner(self) -> TcpStream {
        self.socket.into_inner()
    }

    /// Judges a write that may have to wait.
    fn judge(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.wait = None;
            return written;
        }
        let patience = self.patience;
        let socket = self.socket.inner();
        let (stall, alarm) = self.wait.get_or_insert_with(|| {
            (Stall::begin(Instant::now().into_std(), socket), Box::pin(tokio::time::sleep(patience)))
        });
        while alarm.as_mut().poll(context).is_ready() {
            if stall.is_over(Instant::now().into_std(), patience, socket) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            alarm.as_mut().reset(stall.judged_at(patience).into());
        }
        Poll::Pending
    }
}

impl Read for Patient {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(context, buffer)
    }
}

impl Write for Patient {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(context, bytes);
        this.judge(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(context, pieces);
        this.judge(context, written)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::socket::{LEAST_TAKEN, Socket as _};

    const PATIENCE: Duration = Duration::from_secs(10);
    /// As installed.
    const OUR_BUFFER: usize = 128 * 1_024;
    /// Far less, so that the kernel takes nothing more for long while the peer reads.
    const PEER_BUFFER: u32 = 4 * 1_024;

    fn write(ours: &mut Patient) -> Poll<io::Result<usize>> {
        Pin::new(ours).poll_write(&mut Context::from_waker(Waker::noop()), &[7; 16 * 1_024])
    }

    #[tokio::test]
    async fn whoever_reads_slowly_is_waited_for_and_whoever_does_not_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpSocket::new_v4().unwrap();
        theirs.set_recv_buffer_size(PEER_BUFFER).unwrap();
        let (theirs, ours) = tokio::join!(theirs.connect(listener.local_addr().unwrap()), listener.accept());
        let (mut theirs, ours) = (theirs.unwrap(), ours.unwrap().0);
        socket2::SockRef::from(&ours).set_send_buffer_size(OUR_BUFFER).unwrap();
        let mut ours = Patient::new(ours, PATIENCE);
        while write(&mut ours).is_ready() {}
        tokio::time::pause();
        for _ in 0..3 {
            let before = ours.socket.inner().unacknowledged().unwrap();
            while ours.socket.inner().unacknowledged().unwrap() + LEAST_TAKEN > before {
                theirs.read_exact(&mut [0; 256]).await.unwrap();
            }
            tokio::time::advance(PATIENCE + Duration::from_millis(1)).await;
            let wrote = write(&mut ours);
            assert!(wrote.is_pending(), "the peer has taken some of it: {wrote:?}");
        }
        tokio::time::advance(PATIENCE + Duration::from_millis(1)).await;
        assert!(matches!(write(&mut ours), Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut));
    }
}
