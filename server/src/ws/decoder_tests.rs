//! The decoder against tables of good and bad frames, each fed whole and byte by byte.

use proptest::prelude::*;

use super::*;
use crate::ws::frame;

const LIMITS: DecoderLimits = DecoderLimits { message_bytes: 1_000, fragments: 8, binary: false };

/// Writes a frame as a client does.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    frame::masked(first, [0x11, 0x22, 0x33, 0x44], payload)
}

fn decode(bytes: &[u8], step: usize) -> (Vec<Incoming>, Option<Violation>) {
    let mut decoder = Decoder::new(LIMITS);
    let mut got = Vec::new();
    for piece in bytes.chunks(step) {
        let mut rest = piece;
        loop {
            match decoder.next(&mut rest) {
                Ok(Some(incoming)) => got.push(incoming),
                Ok(None) => break,
                Err(violation) => return (got, Some(violation)),
            }
        }
    }
    (got, None)
}

fn text(words: &str) -> Incoming {
    Incoming::Text(words.to_owned())
}

#[test]
fn whole_messages_are_read_whatever_the_pieces() {
    type Frames = Vec<Vec<u8>>;
    let cases: Vec<(&str, Frames, Vec<Incoming>)> = vec![
        ("text", vec![client(0x81, b"hi")], vec![text("hi")]),
        ("empty text", vec![client(0x81, b"")], vec![text("")]),
        ("medium length", vec![client(0x81, &[b'a'; 300])], vec![text(&"a".repeat(300))]),
        ("two", vec![client(0x81, b"a"), client(0x81, b"b")], vec![text("a"), text("b")]),
        ("fragments", vec![client(0x01, b"a"), client(0x00, b"b"), client(0x80, b"c")], vec![text("abc")]),
        (
            "a character cut by a fragment",
            vec![client(0x01, &"你".as_bytes()[..1]), client(0x80, &"你".as_bytes()[1..])],
            vec![text("你")],
        ),
        (
            "ping between fragments",
            vec![client(0x01, b"a"), client(0x89, b"p"), client(0x80, b"b")],
            vec![Incoming::Ping(b"p".to_vec()), text("ab")],
        ),
        ("pong", vec![client(0x8a, b"x")], vec![Incoming::Pong]),
        ("close without code", vec![client(0x88, b"")], vec![Incoming::Close(None)]),
        (
            "close, and nothing after it",
            vec![client(0x88, b"\x03\xe8bye"), client(0x81, b"late")],
            vec![Incoming::Close(Some(CloseFrame { code: 1000, reason: "bye".into() }))],
        ),
    ];
    for (name, frames, expected) in cases {
        let bytes: Vec<u8> = frames.concat();
        for step in [1, 2, 3, 7, bytes.len()] {
            assert_eq!(decode(&bytes, step), (expected.clone(), None), "{name}, {step} bytes at a time");
        }
    }
}

#[test]
fn every_violation_has_its_close_code() {
    let unmasked = vec![0x81, 2, b'h', b'i'];
    let announced = |length: u64| [&[0x81, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", unmasked, 1002),
        ("reserved bit", client(0xc1, b"x"), 1002),
        ("reserved data opcode", client(0x83, b"x"), 1002),
        ("reserved control opcode", client(0x8b, b"x"), 1002),
        ("long ping", client(0x89, &[0; 126]), 1002),
        ("fragmented ping", client(0x09, b"x"), 1002),
        ("continuation of nothing", client(0x80, b"x"), 1002),
        ("message inside a message", [client(0x01, b"a"), client(0x81, b"b")].concat(), 1002),
        ("length not minimal", vec![0x81, 0x80 | 126, 0, 5, 0, 0, 0, 0], 1002),
        ("length with its highest bit", announced(1 << 63), 1002),
        ("half a close code", client(0x88, b"\x03"), 1002),
        ("close 1005", client(0x88, &1005_u16.to_be_bytes()), 1002),
        ("close 1006", client(0x88, &1006_u16.to_be_bytes()), 1002),
        ("close 1004", client(0x88, &1004_u16.to_be_bytes()), 1002),
        ("close 999", client(0x88, &999_u16.to_be_bytes()), 1002),
        ("close 2999", client(0x88, &2999_u16.to_be_bytes()), 1002),
        ("close 5000", client(0x88, &5000_u16.to_be_bytes()), 1002),
        ("close reason not UTF-8", client(0x88, b"\x03\xe8\xff"), 1007),
        ("binary", client(0x82, b"x"), 1003),
        ("text not UTF-8", client(0x81, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"), 1007),
        ("text ends inside a character", client(0x81, &"你".as_bytes()[..2]), 1007),
        ("over the limit", announced(1_001), 1002),
        ("a length of 2^62", announced(1 << 62), 1009),
        ("over the limit by fragments", [client(0x01, &[b'a'; 900]), client(0x80, &[b'a'; 101])].concat(), 1009),
        ("too many fragments", [client(0x01, b"a"), client(0x00, b"a").repeat(8)].concat(), 1009),
        ("too large, not minimal aside", client(0x81, &[b'a'; 1_001]), 1009),
    ];
    for (name, bytes, code) in cases {
        for step in [1, bytes.len()] {
            let (_, violation) = decode(&bytes, step);
            assert_eq!(violation.map(Violation::close_code), Some(code), "{name}, {step} bytes at a time");
        }
    }
}

#[test]
fn bad_utf8_is_refused_before_the_message_ends() {
    let mut decoder = Decoder::new(LIMITS);
    let frame = client(0x01, b"ok\xff more");
    assert_eq!(decoder.next(&mut &frame[..]), Err(Violation::NotUtf8));
    assert_eq!(decoder.next(&mut &client(0x81, b"after")[..]), Ok(None));
}

#[test]
fn an_announced_length_allocates_nothing() {
    let mut decoder = Decoder::new(DecoderLimits { message_bytes: 64 * 1024, ..LIMITS });
    let header = [&[0x81, 0x80 | 126][..], &60_000_u16.to_be_bytes(), &[0; 4], b"abc"].concat();
    assert_eq!(decoder.next(&mut &header[..]), Ok(None));
    assert!(decoder.message.as_ref().is_some_and(|message| message.bytes.capacity() < 1_024));
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic_or_grow(bytes: Vec<u8>, step in 1_usize..64) {
        let (got, _) = decode(&bytes, step);
        for incoming in got {
            if let Incoming::Text(words) = incoming {
                prop_assert!(words.len() <= LIMITS.message_bytes);
            }
        }
    }

    #[test]
    fn any_text_comes_through_in_any_pieces(words in "\\PC{0,80}", cut in 0_usize..80, step in 1_usize..16) {
        let bytes = words.as_bytes();
        let cut = cut.min(bytes.len());
        let frames = [client(0x01, &bytes[..cut]), client(0x80, &bytes[cut..])].concat();
        prop_assert_eq!(decode(&frames, step), (vec![text(&words)], None));
    }
}
