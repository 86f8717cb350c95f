//! The frame decoder against a reading of RFC 6455 so plain that it can be checked by eye.
//!
//! Must not live here: the decoder's own way of doing it. Invariant checked: slices do not matter, what is read and why
//! reading ended are what the plain reading says, and no message is over the limit.

use server::ws::{CloseFrame, Decoder, DecoderLimits, Incoming, frame};

use crate::source::Source;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

pub(crate) fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let limits = DecoderLimits {
        message_bytes: *source.pick(&[0, 1, 7, 125, 126, 300, 70_000]),
        fragments: *source.pick(&[1, 2, 8]),
        binary: source.flag(),
    };
    let (step, is_raw) = (1 + usize::from(source.byte()), source.flag());
    let stream = if is_raw { source.rest().to_vec() } else { frames(&mut source) };
    let expected = Reading::of(&stream, limits);
    // Byte by byte takes its time with long streams, which are here for their lengths.
    let least = if stream.len() > 2_000 { step } else { 1 };
    for step in [least, step, stream.len().max(1)] {
        let read = decode(&stream, limits, step);
        assert_eq!(read, expected, "{step} bytes at a time: {stream:02x?}");
    }
}

/// Frames that are mostly right, with something wrong now and then.
fn frames(source: &mut Source<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    while !source.is_empty() && out.len() < 200_000 {
        let opcode = *source.pick(&[TEXT, CONTINUATION, TEXT, CONTINUATION, BINARY, PING, PONG, CLOSE, 0x3, 0xB]);
        let how = source.byte();
        let fin = if how & 0x03 == 0 { 0 } else { 0x80 };
        let reserved = if how & 0xf0 == 0xf0 { 0x40 } else { 0 };
        let mask = [source.byte(), source.byte(), 3, 4];
        let payload = match source.byte() {
            255 => vec![b'a'; 66_000],
            254 => vec![b'a'; 126],
            253 => "語".repeat(60).into_bytes(),
            _own => source.bytes(130).to_vec(),
        };
        let mut frame = frame::masked(fin | reserved | opcode, mask, &payload);
        match how & 0x3c {
            // Unmasked, a length that lies, a length in more bytes than it needs, a frame that ends too soon.
            0x3c => frame[1] &= 0x7f,
            0x38 => frame[1] ^= source.byte() & 0x7f,
            0x34 => frame.splice(1..2, [0x80 | 126, 0, source.byte()]).for_each(drop),
            0x30 => frame.truncate(source.below(8) + 1),
            _right => {}
        }
        out.extend(frame);
    }
    out
}

/// What came, and the close code that ended it, if one did.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    came: Vec<Incoming>,
    violation: Option<u16>,
}

fn decode(stream: &[u8], limits: DecoderLimits, step: usize) -> Reading {
    let mut decoder = Decoder::new(limits);
    let mut reading = Reading { came: Vec::new(), violation: None };
    for mut piece in stream.chunks(step) {
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(incoming)) => reading.came.push(incoming),
                Ok(None) => break,
                Err(violation) => {
                    assert_eq!(reading.violation, None, "a violation after a violation");
                    reading.violation = Some(violation.close_code());
                }
            }
        }
        assert!(piece.is_empty(), "bytes were left behind");
    }
    for incoming in &reading.came {
        let bytes = match incoming {
            Incoming::Text(text) => text.len(),
            Incoming::Binary(bytes) => bytes.len(),
            Incoming::Ping(_) | Incoming::Pong | Incoming::Close(_) => 0,
        };
        assert!(bytes <= limits.message_bytes);
    }
    reading
}

/// A message whose fragments are still coming.
struct Unfinished {
    opcode: u8,
    bytes: Vec<u8>,
    fragments: u32,
}

impl Reading {
    /// Reads a whole stream at once, frame by frame, as far as it goes.
    fn of(stream: &[u8], limits: DecoderLimits) -> Reading {
        let mut came = Vec::new();
        let mut message = None;
        let mut rest = stream;
        loop {
            match one_frame(&mut rest, &mut message, limits) {
                Ok(None) => return Reading { came, violation: None },
                Ok(Some(None)) => {}
                Ok(Some(Some(incoming))) => {
                    let is_last = matches!(incoming, Incoming::Close(_));
                    came.push(incoming);
                    if is_last {
                        return Reading { came, violation: None };
                    }
                }
                Err(code) => return Reading { came, violation: Some(code) },
            }
        }
    }
}

/// Reads one frame. `Ok(None)`: it is not all there and nothing is wrong so far. `Ok(Some(None))`: it is, and no
/// message is whole yet.
fn one_frame(
    rest: &mut &[u8],
    message: &mut Option<Unfinished>,
    limits: DecoderLimits,
) -> Result<Option<Option<Incoming>>, u16> {
    let [first, second, ..] = **rest else { return Ok(None) };
    let (fin, opcode, is_control) = (first & 0x80 != 0, first & 0x0f, first & 0x08 != 0);
    let known = [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG].contains(&opcode);
    let short = second & 0x7f;
    if first & 0x70 != 0 || !known || second & 0x80 == 0 || (is_control && (!fin || short > 125)) {
        return Err(1002);
    }
    let extended = match short {
        126 => 2,
        127 => 8,
        _short => 0,
    };
    let Some(header) = rest.get(..2 + extended + 4) else { return Ok(None) };
    let announced = match extended {
        0 => u64::from(short),
        _extended => header[2..2 + extended].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    let is_fewest = match extended {
        2 => announced > 125,
        8 => announced > 0xffff && announced >> 63 == 0,
        _short => true,
    };
    if !is_fewest {
        return Err(1002);
    }
    if !is_control {
        judge_beginning(opcode, announced, message, limits)?;
    }
    let mask = &header[2 + extended..];
    let sent = &rest[header.len()..];
    let there = sent.len().min(announced as usize);
    let payload: Vec<u8> = sent[..there].iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    if let Some(message) = message.as_mut().filter(|_| !is_control) {
        message.bytes.extend(&payload);
        if message.opcode == TEXT && std::str::from_utf8(&message.bytes).is_err_and(|error| error.error_len().is_some())
        {
            return Err(1007);
        }
    }
    if there < announced as usize {
        return Ok(None);
    }
    *rest = &sent[there..];
    whole(opcode, fin, payload, message).map(Some)
}

fn judge_beginning(
    opcode: u8,
    announced: u64,
    message: &mut Option<Unfinished>,
    limits: DecoderLimits,
) -> Result<(), u16> {
    match (opcode, &mut *message) {
        (CONTINUATION, None) | (TEXT | BINARY, Some(_)) => return Err(1002),
        (CONTINUATION, Some(message)) => {
            message.fragments += 1;
            if message.fragments > limits.fragments {
                return Err(1009);
            }
        }
        (BINARY, None) if !limits.binary => return Err(1003),
        (_, None) => *message = Some(Unfinished { opcode, bytes: Vec::new(), fragments: 1 }),
        (_, Some(_)) => unreachable!("no other opcode carries data"),
    }
    let so_far = message.as_ref().map_or(0, |message| message.bytes.len());
    if so_far as u64 + announced > limits.message_bytes as u64 { Err(1009) } else { Ok(()) }
}

/// A frame is all there.
fn whole(opcode: u8, fin: bool, payload: Vec<u8>, message: &mut Option<Unfinished>) -> Result<Option<Incoming>, u16> {
    match opcode {
        PING => Ok(Some(Incoming::Ping(payload))),
        PONG => Ok(Some(Incoming::Pong)),
        CLOSE => match payload.split_first_chunk() {
            None if payload.is_empty() => Ok(Some(Incoming::Close(None))),
            None => Err(1002),
            Some((code, reason)) => {
                let code = u16::from_be_bytes(*code);
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    return Err(1002);
                }
                let reason = String::from_utf8(reason.to_vec()).map_err(|_| 1007_u16)?;
                Ok(Some(Incoming::Close(Some(CloseFrame { code, reason }))))
            }
        },
        _data if !fin => Ok(None),
        _data => match message.take() {
            Some(Unfinished { opcode: TEXT, bytes, .. }) => {
                String::from_utf8(bytes).map(|text| Some(Incoming::Text(text))).map_err(|_| 1007)
            }
            Some(Unfinished { bytes, .. }) => Ok(Some(Incoming::Binary(bytes))),
            None => unreachable!("a message was begun"),
        },
    }
}
