//! The one computation of the opening handshake (RFC 6455 §4.2.2).
//!
//! Must not live here: reading requests. Invariant: only a key that decodes to sixteen bytes is answered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// The value every server appends to the key (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Computes `Sec-WebSocket-Accept` from `Sec-WebSocket-Key`; `None` if the key is not sixteen bytes in base64.
#[must_use]
pub fn accept_key(key: &str) -> Option<String> {
    let decoded = STANDARD.decode(key).ok()?;
    if decoded.len() != 16 {
        return None;
    }
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID);
    Some(STANDARD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_answered_as_the_rfc_does() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ==").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        for bad in ["", "c2hvcnQ=", "dGhlIHNhbXBsZSBub25jZQ", "not base64 at all!!"] {
            assert_eq!(accept_key(bad), None, "{bad} was taken for a key");
        }
    }
}
