//! The byte stream under a connection, as little of it as a connection needs.
//!
//! Must not live here: frames. Invariant: nothing here waits; what cannot be done now is `WouldBlock`.

use std::io::{self, IoSlice};
use std::net::Shutdown;

use socket2::SockRef;
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
}

impl Socket for TcpStream {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, buffer)
    }

    fn try_write(&self, frame: &[u8]) -> io::Result<usize> {
        Self::try_write(self, frame)
    }

    fn try_write_vectored(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::try_write_vectored(self, frames)
    }

    fn finish(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }
}
