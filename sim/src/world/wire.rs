//! A link between a device and the server: bytes in order, each way with its own weather; and the device's end of the
//! framing.
//!
//! Must not live here: when anything arrives (`world`), or the server's framing, which is the real one. Invariant: what
//! a way delivers is a prefix of what was put into it, in order.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use server::socket::Socket;
use server::ws::frame;
use shared::ids::AttemptId;

use crate::heap::{self, Owner};

/// Bytes that a way takes before its sender has to wait.
pub(super) const WINDOW: usize = 32 * 1024;

/// The server's end of a link, as its connection sees it.
#[derive(Clone, Default)]
pub(super) struct Pipe(Arc<Mutex<Ends>>);

#[derive(Default)]
pub(super) struct Ends {
    /// What has arrived and was not read.
    pub(super) inbox: VecDeque<u8>,
    /// Nothing more will arrive; with an error if the link was reset.
    pub(super) ended: Option<Ended>,
    /// What was written and not yet sent off.
    pub(super) outbox: Vec<u8>,
    /// Bytes sent off and not yet taken by the other end.
    pub(super) on_way: usize,
}

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// In order.
    Finished,
    /// By a reset.
    Reset,
}

impl Pipe {
    pub(super) fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Socket for Pipe {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ends = self.ends();
        if ends.inbox.is_empty() {
            return match ends.ended {
                None => Err(io::ErrorKind::WouldBlock.into()),
                Some(Ended::Finished) => Ok(0),
                Some(Ended::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
            };
        }
        let count = buffer.len().min(ends.inbox.len());
        for (to, from) in buffer.iter_mut().zip(ends.inbox.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn try_write_vectored(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut ends = self.ends();
        if ends.ended == Some(Ended::Reset) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut room = WINDOW.saturating_sub(ends.on_way + ends.outbox.len());
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut written = 0;
        for frame in frames {
            let count = room.min(frame.len());
            // The server asks for this, and the network holds it.
            heap::of(Owner::World, || ends.outbox.extend_from_slice(&frame[..count]));
            (room, written) = (room - count, written + count);
        }
        Ok(written)
    }

    /// Nobody sees it: a device acts on the close frame that went before.
    fn finish(&self) -> io::Result<()> {
        Ok(())
    }
}

/// What travels on a way.
#[derive(Clone, Debug)]
pub(super) enum Cargo {
    /// The upgrade was granted.
    Upgraded,
    /// Bytes of frames.
    Bytes(Vec<u8>),
    /// The end.
    End(Ended),
}

/// One direction of a link.
#[derive(Debug, Default)]
pub(super) struct Way {
    pub(super) cargo: VecDeque<Cargo>,
    /// When the last of it arrives.
    pub(super) last_at: u64,
    pub(super) weather: Weather,
}

/// What a way does to what it carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Weather {
    #[default]
    Fair,
    /// Carries nothing, and says nothing.
    Still,
}

/// How far the device's end of a link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceEnd {
    Opening,
    Open,
    /// The session was told that it is gone.
    Gone,
}

/// One attempt of one life of one device, and what became of it.
pub(super) struct Link {
    pub(super) device: usize,
    pub(super) life: u64,
    pub(super) attempt: AttemptId,
    pub(super) up: Way,
    pub(super) down: Way,
    pub(super) device_end: DeviceEnd,
    pub(super) codec: Codec,
    /// Which history of the log the server had when it took the connection.
    pub(super) history: usize,
    /// Which of the server's starts took it, if one did.
    pub(super) start: Option<u64>,
    /// The device has seen these; the second when.
    pub(super) welcomed: bool,
    pub(super) live_at: Option<u64>,
    /// The device's session has closed it.
    pub(super) is_left: bool,
    /// When the device last received anything.
    pub(super) heard_at: u64,
}

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Text(String),
    Ping(Vec<u8>),
    Pong,
    Close(u16, String),
}

/// Reads the server's frames (RFC 6455 §5.2), and writes a client's.
#[derive(Debug, Default)]
pub(super) struct Codec {
    buffer: Vec<u8>,
}

impl Codec {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next whole frame.
    ///
    /// # Errors
    /// In words, if the server broke the framing.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, String> {
        let Some(&[first, second]) = self.buffer.first_chunk::<2>() else { return Ok(None) };
        let (header, length) = match second {
            126 => match self.buffer.get(2..4) {
                Some(bytes) => (4, usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))),
                None => return Ok(None),
            },
            127 => match self.buffer.get(2..10).and_then(|bytes| bytes.first_chunk::<8>()) {
                Some(bytes) => (10, u64::from_be_bytes(*bytes) as usize),
                None => return Ok(None),
            },
            short @ 0..=125 => (2, usize::from(short)),
            _masked => return Err("the server masked a frame".to_owned()),
        };
        if self.buffer.len() < header + length {
            return Ok(None);
        }
        let payload: Vec<u8> = self.buffer.drain(..header + length).skip(header).collect();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| "a text that is not UTF-8".to_owned());
        Ok(Some(match first {
            0x81 => Frame::Text(text(payload)?),
            0x88 if payload.len() >= 2 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Frame::Close(code, text(payload[2..].to_vec())?)
            }
            0x88 => Frame::Close(1005, String::new()),
            0x89 => Frame::Ping(payload),
            0x8A => Frame::Pong,
            other => return Err(format!("a frame that begins with {other:#x}")),
        }))
    }

    pub(super) fn text(text: &str) -> Vec<u8> {
        Self::masked(0x81, text.as_bytes())
    }

    pub(super) fn pong(payload: &[u8]) -> Vec<u8> {
        Self::masked(0x8A, payload)
    }

    pub(super) fn close(code: u16) -> Vec<u8> {
        Self::masked(0x88, &code.to_be_bytes())
    }

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
        frame::masked(first, MASK, payload)
    }
}
