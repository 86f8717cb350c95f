//! Writing frames (RFC 6455 §5.2), as a server does: unmasked, never fragmented. And as a client does, for what plays one
//! to this server.
//!
//! Must not live here: deciding what to send. Invariant: what is returned is a whole frame, ready for any socket, so
//! one encoding serves every receiver.

use bytes::{BufMut, Bytes, BytesMut};
use shared::close::fit_reason;

/// Opcodes (RFC 6455 §11.8).
pub(crate) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0x0;
    pub(crate) const TEXT: u8 = 0x1;
    pub(crate) const BINARY: u8 = 0x2;
    pub(crate) const CLOSE: u8 = 0x8;
    pub(crate) const PING: u8 = 0x9;
    pub(crate) const PONG: u8 = 0xA;
}

const FIN: u8 = 0x80;
/// Beside a length: the payload is masked.
const MASKED: u8 = 0x80;
/// The longest header a server writes: two bytes and a 64-bit length.
const HEADER_BYTES: usize = 10;
/// The longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_BYTES: usize = 125;

fn frame(opcode: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    out.put_u8(FIN | opcode);
    put_length(&mut out, 0, payload.len());
    out.put_slice(payload);
    out.freeze()
}

/// Writes a length in the fewest bytes.
fn put_length(out: &mut impl BufMut, mask_bit: u8, length: usize) {
    match length {
        short @ 0..=125 => out.put_u8(mask_bit | short as u8),
        medium @ 126..=0xffff => {
            out.put_u8(mask_bit | 126);
            out.put_u16(medium as u16);
        }
        long => {
            out.put_u8(mask_bit | 127);
            out.put_u64(long as u64);
        }
    }
}

/// Writes a frame as a client does: its first byte as given, then its length in the fewest bytes, then masked
/// (RFC 6455 §5.3). The server itself writes none; what plays a client to it does.
#[must_use]
pub fn masked(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    put_length(&mut out, MASKED, payload.len());
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// Writes a text frame.
#[must_use]
pub fn text(payload: &str) -> Bytes {
    frame(opcode::TEXT, payload.as_bytes())
}

/// Writes a binary frame. The wire has none; conformance tests echo them.
#[must_use]
pub fn binary(payload: &[u8]) -> Bytes {
    frame(opcode::BINARY, payload)
}

/// Writes a ping, its payload cut to what a control frame holds.
#[must_use]
pub fn ping(payload: &[u8]) -> Bytes {
    frame(opcode::PING, &payload[..payload.len().min(CONTROL_BYTES)])
}

/// Writes the answer to a ping, its payload cut to what a control frame holds.
#[must_use]
pub fn pong(payload: &[u8]) -> Bytes {
    frame(opcode::PONG, &payload[..payload.len().min(CONTROL_BYTES)])
}

/// Writes a close frame, its reason cut to what fits (RFC 6455 §5.5.1).
#[must_use]
pub fn close(code: u16, reason: &str) -> Bytes {
    let mut payload = Vec::with_capacity(CONTROL_BYTES);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(fit_reason(reason).as_bytes());
    frame(opcode::CLOSE, &payload)
}

/// Writes a close frame without a code, as answer to one that had none.
#[must_use]
pub fn close_empty() -> Bytes {
    frame(opcode::CLOSE, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_the_fewest_bytes() {
        for (length, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (0xffff, vec![0x81, 126, 0xff, 0xff]),
            (0x1_0000, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let written = text(&"x".repeat(length));
            assert_eq!(&written[..header.len()], &header[..], "length {length}");
            assert_eq!(written.len(), header.len() + length);
        }
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let written = close(4000, &"慢".repeat(60));
        assert!(written.len() <= 2 + CONTROL_BYTES);
        assert!(std::str::from_utf8(&written[4..]).is_ok());
    }
}
