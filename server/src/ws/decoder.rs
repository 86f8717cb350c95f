//! Reading what a client sends (RFC 6455 §5), incrementally, from slices of any size.
//!
//! Must not live here: answering. Invariant: nothing is allocated for a length that was only announced, and after a
//! [`Violation`] or a close frame the decoder yields nothing more.
//!
//! ```text
//! Head ──(2..14 bytes)──▶ Payload ──(announced bytes)──▶ Head
//!   └──────────── violation, or close frame ───────────▶ Ended
//! ```

use super::frame::{CONTROL_BYTES, opcode};

/// What the decoder bounds.
#[derive(Clone, Copy, Debug)]
pub struct DecoderLimits {
    /// Largest message, all fragments together, in bytes.
    pub message_bytes: usize,
    /// Most fragments of one message.
    pub fragments: u32,
    /// Whether binary messages are read; the wire has none.
    pub binary: bool,
}

/// Something whole that came from the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A text message, all fragments joined.
    Text(String),
    /// A binary message; only where [`DecoderLimits::binary`] allows it.
    Binary(Vec<u8>),
    /// A ping with its payload, to be answered by a pong with the same.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// A close frame, with its code and reason if it had any.
    Close(Option<CloseFrame>),
}

/// The contents of a close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The code, one that may travel on the wire.
    pub code: u16,
    /// The peer's words.
    pub reason: String,
}

/// What the peer did wrong. Each has its close code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A frame breaks RFC 6455; the words say how.
    Protocol(&'static str),
    /// Text that is not UTF-8.
    NotUtf8,
    /// A message over the limit, judged by its announced length, or in too many pieces.
    TooLarge,
    /// A binary message where text is spoken.
    Binary,
}

impl Violation {
    /// Returns the close code that answers it.
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Protocol(_) => shared::close::PROTOCOL,
            Self::NotUtf8 => shared::close::INVALID_UTF8,
            Self::TooLarge => shared::close::TOO_LARGE,
            Self::Binary => shared::close::UNSUPPORTED,
        }
    }

    /// Returns the words that go with the code.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Protocol(words) => words,
            Self::NotUtf8 => "A text frame was not UTF-8.",
            Self::TooLarge => "A message was larger than the server takes.",
            Self::Binary => "A binary frame came where text was expected.",
        }
    }
}

/// The longest header a client writes: two bytes, a 64-bit length, a mask.
const HEADER_BYTES: usize = 14;

#[derive(Debug)]
enum State {
    /// Collecting a header.
    Head { bytes: [u8; HEADER_BYTES], have: usize },
    /// Inside a frame's payload.
    Payload(Frame),
    /// Nothing more is read.
    Ended,
}

const HEAD: State = State::Head { bytes: [0; HEADER_BYTES], have: 0 };

#[derive(Debug)]
struct Frame {
    part: Part,
    fin: bool,
    remaining: usize,
    mask: [u8; 4],
    /// How many payload bytes were unmasked so far.
    at: usize,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Data,
    Ping,
    Pong,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

/// A message whose fragments are still coming.
#[derive(Debug)]
struct Assembly {
    kind: Kind,
    bytes: Vec<u8>,
    /// How much of `bytes` is known to be UTF-8.
    valid: usize,
    fragments: u32,
}

/// Reads one peer's frames.
#[derive(Debug)]
pub struct Decoder {
    limits: DecoderLimits,
    state: State,
    message: Option<Assembly>,
    control: Vec<u8>,
}

impl Decoder {
    /// Makes a decoder at the start of a stream.
    #[must_use]
    pub const fn new(limits: DecoderLimits) -> Self {
        Self { limits, state: HEAD, message: None, control: Vec::new() }
    }

    /// Takes bytes from the front of `input` until something is whole or `input` is empty (`None`).
    ///
    /// # Errors
    /// The peer's [`Violation`]; the decoder has ended then.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        let result = self.advance(input);
        if matches!(result, Err(_) | Ok(Some(Incoming::Close(_)))) {
            self.state = State::Ended;
            self.message = None;
            *input = &[];
        }
        result
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        loop {
            match &mut self.state {
                State::Ended => {
                    *input = &[];
                    return Ok(None);
                }
                State::Head { bytes, have } => {
                    let needed = header_length(&bytes[..*have]);
                    if *have < needed {
                        let take = (needed - *have).min(input.len());
                        if take == 0 {
                            return Ok(None);
                        }
                        bytes[*have..*have + take].copy_from_slice(&input[..take]);
                        *have += take;
                        *input = &input[take..];
                        if *have == 2 {
                            check_start(bytes[0], bytes[1])?;
                        }
                    } else {
                        let header = *bytes;
                        self.state = State::Payload(self.begin(&header)?);
                    }
                }
                State::Payload(frame) if frame.remaining > 0 => {
                    let take = frame.remaining.min(input.len());
                    if take == 0 {
                        return Ok(None);
                    }
                    let target = match frame.part {
                        Part::Data => match &mut self.message {
                            Some(message) => &mut message.bytes,
                            None => return Err(Violation::Protocol("A continuation came without a beginning.")),
                        },
                        Part::Ping | Part::Pong | Part::Close => &mut self.control,
                    };
                    let start = target.len();
                    target.extend_from_slice(&input[..take]);
                    unmask(&mut target[start..], frame.mask, frame.at);
                    frame.at += take;
                    frame.remaining -= take;
                    *input = &input[take..];
                    if let (Part::Data, Some(message)) = (frame.part, &mut self.message) {
                        message.validate()?;
                    }
                }
                State::Payload(frame) => {
                    let (part, fin) = (frame.part, frame.fin);
                    self.state = HEAD;
                    if let Some(incoming) = self.finish(part, fin)? {
                        return Ok(Some(incoming));
                    }
                }
            }
        }
    }

    /// Judges a whole header and makes ready for its payload.
    fn begin(&mut self, header: &[u8; HEADER_BYTES]) -> Result<Frame, Violation> {
        let fin = header[0] & 0x80 != 0;
        let (announced, mask_at) = match header[1] & 0x7f {
            126 => (u64::from(u16::from_be_bytes([header[2], header[3]])), 4),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&header[2..10]);
                (u64::from_be_bytes(length), 10)
            }
            short => (u64::from(short), 2),
        };
        if announced > i64::MAX as u64 {
            return Err(Violation::Protocol("A length has its highest bit set."));
        }
        if (mask_at == 4 && announced < 126) || (mask_at == 10 && announced < 0x1_0000) {
            return Err(Violation::Protocol("A length was not written in the fewest bytes."));
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&header[mask_at..mask_at + 4]);
        let part = match header[0] & 0x0f {
            opcode::PING => Part::Ping,
            opcode::PONG => Part::Pong,
            opcode::CLOSE => Part::Close,
            data => {
                self.begin_data(data, announced)?;
                Part::Data
            }
        };
        // Within the message limit, or at most 125 for a control frame: it fits a usize.
        Ok(Frame { part, fin, remaining: announced as usize, mask, at: 0 })
    }

    fn begin_data(&mut self, opcode: u8, announced: u64) -> Result<(), Violation> {
        let kind = match opcode {
            opcode::TEXT => Some(Kind::Text),
            opcode::BINARY => Some(Kind::Binary),
            _continuation => None,
        };
        match (kind, &mut self.message) {
            (Some(_), Some(_)) => return Err(Violation::Protocol("A message began inside another.")),
            (None, None) => return Err(Violation::Protocol("A continuation came without a beginning.")),
            (None, Some(message)) => {
                message.fragments += 1;
                if message.fragments > self.limits.fragments {
                    return Err(Violation::TooLarge);
                }
            }
            (Some(Kind::Binary), None) if !self.limits.binary => return Err(Violation::Binary),
            (Some(kind), None) => {
                self.message = Some(Assembly { kind, bytes: Vec::new(), valid: 0, fragments: 1 });
            }
        }
        let so_far = self.message.as_ref().map_or(0, |message| message.bytes.len()) as u64;
        if so_far.saturating_add(announced) > self.limits.message_bytes as u64 {
            return Err(Violation::TooLarge);
        }
        Ok(())
    }

    /// A frame is complete.
    fn finish(&mut self, part: Part, fin: bool) -> Result<Option<Incoming>, Violation> {
        match part {
            Part::Data if !fin => Ok(None),
            Part::Data => match self.message.take() {
                None => Ok(None),
                Some(message) => match message.kind {
                    Kind::Binary => Ok(Some(Incoming::Binary(message.bytes))),
                    Kind::Text if message.valid != message.bytes.len() => Err(Violation::NotUtf8),
                    Kind::Text => String::from_utf8(message.bytes)
                        .map(|text| Some(Incoming::Text(text)))
                        .map_err(|_| Violation::NotUtf8),
                },
            },
            Part::Ping => Ok(Some(Incoming::Ping(std::mem::take(&mut self.control)))),
            Part::Pong => {
                self.control.clear();
                Ok(Some(Incoming::Pong))
            }
            Part::Close => read_close(&std::mem::take(&mut self.control)).map(|close| Some(Incoming::Close(close))),
        }
    }
}

impl Assembly {
    /// Checks what came since the last time; a character may still be cut off at the end.
    fn validate(&mut self) -> Result<(), Violation> {
        if self.kind == Kind::Binary {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.valid..]) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(Violation::NotUtf8),
        }
        Ok(())
    }
}

/// How long the header is, as far as its first bytes tell.
fn header_length(have: &[u8]) -> usize {
    match have {
        [] | [_] => 2,
        [_, second, ..] => match second & 0x7f {
            126 => 8,
            127 => 14,
            _short => 6,
        },
    }
}

/// Judges what the first two bytes already tell.
fn check_start(first: u8, second: u8) -> Result<(), Violation> {
    if first & 0x70 != 0 {
        return Err(Violation::Protocol("A reserved bit is set and no extension was agreed on."));
    }
    match first & 0x0f {
        opcode::CONTINUATION | opcode::TEXT | opcode::BINARY => {}
        opcode::CLOSE | opcode::PING | opcode::PONG => {
            if first & 0x80 == 0 {
                return Err(Violation::Protocol("A control frame was fragmented."));
            }
            if usize::from(second & 0x7f) > CONTROL_BYTES {
                return Err(Violation::Protocol("A control frame was longer than 125 bytes."));
            }
        }
        _reserved => return Err(Violation::Protocol("An opcode is reserved.")),
    }
    if second & 0x80 == 0 {
        return Err(Violation::Protocol("A client's frame was not masked."));
    }
    Ok(())
}

fn read_close(payload: &[u8]) -> Result<Option<CloseFrame>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Violation::Protocol("A close frame held half a code.")),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !may_travel(code) {
        return Err(Violation::Protocol("A close code may not travel."));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
    Ok(Some(CloseFrame { code, reason: reason.to_owned() }))
}

/// Tells whether a code may be in a close frame (RFC 6455 §7.4, and the IANA registry since).
const fn may_travel(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Unmasks in place (RFC 6455 §5.3); `at` is the place of the first byte within the payload.
fn unmask(bytes: &mut [u8], mask: [u8; 4], at: usize) {
    let mut turned = mask;
    turned.rotate_left(at % 4);
    let word = u32::from_ne_bytes(turned);
    let mut chunks = bytes.chunks_exact_mut(4);
    for chunk in &mut chunks {
        let mut four = [0; 4];
        four.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u32::from_ne_bytes(four) ^ word).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(turned) {
        *byte ^= key;
    }
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
