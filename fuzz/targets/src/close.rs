//! Close frames: what a peer puts into one, and what we do.
//!
//! Must not live here: the frames around them ([`mod@crate::decoder`]). Invariant checked: a close frame is answered
//! by a code that may travel, and whatever the reason, ours fits its frame and is text.

use server::ws::{Decoder, DecoderLimits, Incoming, Violation, frame};
use shared::close::{self, AfterClose, StopReason};
use shared::limits::CLOSE_REASON_BYTES;

use crate::source::Source;

const LIMITS: DecoderLimits = DecoderLimits { message_bytes: 1_024, fragments: 8, binary: false };
/// FIN and the opcode of a close.
const CLOSE: u8 = 0x88;

pub(crate) fn run(bytes: &[u8]) {
    peers(bytes);
    ours(bytes);
}

/// A peer's close frame with these contents.
fn peers(bytes: &[u8]) {
    let contents = &bytes[..bytes.len().min(frame::CONTROL_BYTES)];
    let mut decoder = Decoder::new(LIMITS);
    let input = frame::masked(CLOSE, [7, 77, 177, 217], contents);
    match decoder.next(&mut &input[..]) {
        Ok(Some(Incoming::Close(None))) => assert!(contents.is_empty()),
        Ok(Some(Incoming::Close(Some(close)))) => {
            assert_eq!(contents, [&close.code.to_be_bytes(), close.reason.as_bytes()].concat());
            assert!(may_travel(close.code), "{} was taken", close.code);
        }
        Err(Violation::Protocol(_)) => {
            let code = contents.first_chunk().map(|code| u16::from_be_bytes(*code));
            assert!(code.is_none_or(|code| !may_travel(code)), "{code:?} was refused");
        }
        Err(Violation::NotUtf8) => assert!(std::str::from_utf8(&contents[2..]).is_err()),
        other => panic!("a close frame became {other:?}"),
    }
    assert_eq!(decoder.next(&mut &frame::masked(0x81, [0; 4], b"late")[..]), Ok(None), "something came after a close");
}

/// RFC 6455 §7.4.1 and the IANA registry, as a list of what may not.
fn may_travel(code: u16) -> bool {
    (1_000..=4_999).contains(&code) && !(1_015..3_000).contains(&code) && !(1_004..=1_006).contains(&code)
}

/// Our own close, and what a client does with it.
fn ours(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let code = u16::from_be_bytes([source.byte(), source.byte()]);
    let reason = String::from_utf8_lossy(source.rest()).into_owned();
    let fitted = close::fit_reason(&reason);
    assert!(fitted.len() <= CLOSE_REASON_BYTES && reason.starts_with(fitted));
    assert!(fitted.len() + 4 > CLOSE_REASON_BYTES || fitted == reason, "more was cut than had to be");
    let written = frame::close(code, &reason);
    assert_eq!(written[0], CLOSE);
    assert_eq!(usize::from(written[1]), written.len() - 2);
    assert!(written.len() <= 2 + frame::CONTROL_BYTES);
    assert_eq!(&written[4..], fitted.as_bytes());
    match close::after_close(code) {
        AfterClose::Stop(StopReason::Other) => assert!((4_500..=4_999).contains(&code)),
        AfterClose::Stop(_) => assert!(close::lookup(code).is_some_and(|meaning| meaning.code == code)),
        AfterClose::Reconnect | AfterClose::ReconnectSlowly => assert!(!(4_500..=4_999).contains(&code)),
    }
}
