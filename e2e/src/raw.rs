//! A TCP socket that speaks HTTP and WebSocket by hand, for everything a well-behaved client never sends.
//!
//! Must not live here: retries or good manners. Invariant: what is sent is exactly the bytes the test wrote.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shared::close::CloseMeaning;
use socket2::{Domain, Socket, Type};

/// How long any single answer may take.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// A receive buffer a few frames fill.
const SMALL_BUFFER_BYTES: usize = 4 * 1024;
/// A key for the handshake; any sixteen bytes in base64 do (RFC 6455 §4.1).
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The mask this client uses. A fixed one is as good as any for a test.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The kinds of frames (RFC 6455 §5.2).
pub mod opcode {
    /// Continues a message.
    pub const CONTINUATION: u8 = 0;
    /// Begins a text message.
    pub const TEXT: u8 = 1;
    /// Begins a binary message.
    pub const BINARY: u8 = 2;
    /// Ends the connection.
    pub const CLOSE: u8 = 8;
    /// Asks for a pong.
    pub const PING: u8 = 9;
    /// Answers a ping.
    pub const PONG: u8 = 10;
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether the message ends here.
    pub fin: bool,
    /// Which kind.
    pub opcode: u8,
    /// What it carries, unmasked.
    pub payload: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a close frame.
    Closed {
        /// Its code; 1005 where it had none.
        code: u16,
        /// Its words.
        reason: String,
    },
    /// Without one.
    Dropped,
}

impl Ending {
    /// Returns the name of the code in the registry.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Closed { code, .. } => {
                shared::close::lookup(*code).map_or("unregistered", |CloseMeaning { name, .. }| *name)
            }
            Self::Dropped => "dropped",
        }
    }
}

/// An HTTP answer's head, as text.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Status line and headers.
    pub text: String,
}

/// The socket.
#[derive(Debug)]
pub struct RawSocket {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl RawSocket {
    /// Connects, and sends nothing.
    ///
    /// # Panics
    /// If nobody listens.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, ANSWER_DEADLINE).expect("the server listens"))
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_write_timeout(Some(ANSWER_DEADLINE)).expect("a TCP socket");
        Self { stream, buffer: Vec::new() }
    }

    /// As [`Self::connect`], from another of this machine's addresses 127.0.0.0/8.
    ///
    /// # Panics
    /// If nobody listens.
    #[must_use]
    pub fn connect_from(stranger: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((stranger, 0)).into()).expect("an address of loopback");
        socket.connect(&address.into()).expect("the server listens");
        Self::over(TcpStream::from(socket))
    }

    /// As [`Self::connect`], with so small a receive buffer that a server soon cannot write more.
    ///
    /// # Panics
    /// If nobody listens.
    #[must_use]
    pub fn connect_with_small_buffer(address: SocketAddr) -> Self {
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM, None).expect("a socket");
        // The window is agreed on at the handshake, so the buffer is set before it.
        socket.set_recv_buffer_size(SMALL_BUFFER_BYTES).expect("a TCP socket");
        socket.connect(&address.into()).expect("the server listens");
        Self::over(TcpStream::from(socket))
    }

    /// As [`Self::open_and_greet`], with a small receive buffer.
    ///
    /// # Panics
    /// If there is no welcome.
    #[must_use]
    pub fn open_and_greet_with_small_buffer(address: SocketAddr, token: &str) -> (Self, Value) {
        let mut socket = Self::connect_with_small_buffer(address);
        let head = socket.upgrade(address, &[("Authorization", &format!("Bearer {token}"))]);
        assert_eq!(head.status, 101, "the upgrade was refused: {}", head.text);
        socket.send_json(&hello());
        let welcome = socket.expect_json("the welcome", |message| message["reply"] == "welcome");
        (socket, welcome["payload"].clone())
    }

    /// Connects and upgrades with a bearer token, as a native client does.
    ///
    /// # Panics
    /// If the server refuses.
    #[must_use]
    pub fn open(address: SocketAddr, token: &str) -> Self {
        let mut socket = Self::connect(address);
        let head = socket.upgrade(address, &[("Authorization", &format!("Bearer {token}"))]);
        assert_eq!(head.status, 101, "the upgrade was refused: {}", head.text);
        socket
    }

    /// As [`Self::open`], and says hello. Returns the welcome's payload too.
    ///
    /// # Panics
    /// If there is no welcome.
    #[must_use]
    pub fn open_and_greet(address: SocketAddr, token: &str) -> (Self, Value) {
        let mut socket = Self::open(address, token);
        socket.send_json(&hello());
        let welcome = socket.expect_json("the welcome", |message| message["reply"] == "welcome");
        (socket, welcome["payload"].clone())
    }

    /// Asks for the upgrade of `/ws` with these headers added and reads the answer's head.
    ///
    /// # Panics
    /// If there is none.
    pub fn upgrade(&mut self, address: SocketAddr, headers: &[(&str, &str)]) -> Head {
        self.try_upgrade(address, headers).expect("an HTTP answer to the upgrade")
    }

    /// As [`Self::upgrade`]; `None` where the connection ends without an answer.
    pub fn try_upgrade(&mut self, address: SocketAddr, headers: &[(&str, &str)]) -> Option<Head> {
        let mut request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        self.send_bytes(request.as_bytes());
        self.read_head()
    }

    /// Writes bytes as they are. A peer that closes meanwhile is no error here; what it said is read afterwards.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            let gone = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
            assert!(gone, "writing to the server: {error}");
        }
    }

    /// Tries to write bytes and says whether the peer still took them.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends one masked frame.
    pub fn send_frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) {
        self.send_bytes(&frame(fin, opcode, payload));
    }

    /// Sends one text message.
    pub fn send_text(&mut self, text: &str) {
        self.send_frame(true, opcode::TEXT, text.as_bytes());
    }

    /// Sends one JSON message.
    pub fn send_json(&mut self, message: &Value) {
        self.send_text(&message.to_string());
    }

    /// Returns a second handle of the same socket, to write from another thread.
    ///
    /// # Panics
    /// If the system has no descriptor left.
    #[must_use]
    pub fn second_handle(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("a descriptor"), buffer: Vec::new() }
    }

    /// Says that nothing more will be written.
    pub fn finish_writing(&self) {
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Reads an HTTP head; `None` where the connection ends, or nothing comes, before it is whole.
    pub fn read_head(&mut self) -> Option<Head> {
        let end = Instant::now() + ANSWER_DEADLINE;
        loop {
            if let Some(length) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.buffer[..length]).into_owned();
                self.buffer.drain(..length + 4);
                let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
                return Some(Head { status, text });
            }
            if !matches!(self.fill(end), Ok(1..)) {
                return None;
            }
        }
    }

    /// Tells whether the server ends the connection within a time, whatever it says before that.
    pub fn is_ended_within(&mut self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        loop {
            match self.fill(end) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// Reads one frame; `None` where the connection ended without another.
    ///
    /// # Panics
    /// If neither happens before `deadline`.
    pub fn read_frame(&mut self, deadline: Duration) -> Option<Frame> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(frame) = take_frame(&mut self.buffer) {
                return Some(frame);
            }
            match self.fill(end) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset) => {
                    return None;
                }
                Err(error) => panic!("no frame within {deadline:?}: {error}"),
            }
        }
    }

    /// Reads messages until one satisfies `good`, and returns it.
    ///
    /// # Panics
    /// If none comes in time or the connection ends.
    pub fn expect_json(&mut self, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + ANSWER_DEADLINE;
        let mut seen = Vec::new();
        while Instant::now() < end {
            let Some(frame) = self.read_frame(ANSWER_DEADLINE) else {
                panic!("the connection ended before {what}; {}", brief(&seen))
            };
            match frame.opcode {
                opcode::TEXT => {
                    let message: Value = serde_json::from_slice(&frame.payload).expect("the server sends JSON");
                    if good(&message) {
                        return message;
                    }
                    seen.push(message);
                }
                opcode::CLOSE => panic!("closed before {what}: {:?}; {}", ending(&frame.payload), brief(&seen)),
                _ => {}
            }
        }
        panic!("{what} did not come; {}", brief(&seen))
    }

    /// Sends a command and returns the server's answer, whatever it is.
    ///
    /// # Panics
    /// If none comes.
    pub fn ask(&mut self, id: u64, command: &str, payload: &Value) -> Value {
        self.send_json(&json!({ "id": id, "command": command, "payload": payload }));
        self.expect_json("the answer", |message| message["id"] == id)
    }

    /// Shows that the socket lives: a beat is answered.
    ///
    /// # Panics
    /// If it is not.
    pub fn assert_alive(&mut self) {
        let answer = self.ask(999_999, "beat", &json!({}));
        assert_eq!(answer["success"], true, "a beat was refused: {answer}");
    }

    /// Reads until the connection ends and says how.
    ///
    /// # Panics
    /// If it does not end within `deadline`.
    pub fn ending(&mut self, deadline: Duration) -> Ending {
        let end = Instant::now() + deadline;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the server did not close within {deadline:?}");
            match self.read_frame(left) {
                None => return Ending::Dropped,
                Some(frame) if frame.opcode == opcode::CLOSE => return ending(&frame.payload),
                Some(_) => {}
            }
        }
    }

    /// Reads at most this many bytes, as a slow reader does, and keeps them for later.
    ///
    /// # Panics
    /// If the connection is gone.
    pub fn read_some(&mut self, most: usize) {
        let mut bytes = vec![0; most];
        self.stream.set_read_timeout(Some(ANSWER_DEADLINE)).expect("a TCP socket");
        let read = self.stream.read(&mut bytes).expect("a slow reader is served");
        assert!(read > 0, "a slow reader was closed");
        self.buffer.extend_from_slice(&bytes[..read]);
    }

    /// Reads and forgets every whole message that has come, and waits for nothing.
    ///
    /// # Panics
    /// If the connection is gone.
    pub fn read_what_is_there(&mut self) {
        self.stream.set_nonblocking(true).expect("a TCP socket");
        let mut chunk = [0; 16 * 1024];
        let last = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break io::ErrorKind::UnexpectedEof,
                Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
                Err(error) => break error.kind(),
            }
        };
        self.stream.set_nonblocking(false).expect("a TCP socket");
        assert_eq!(last, io::ErrorKind::WouldBlock, "the connection is gone");
        while let Some(frame) = take_frame(&mut self.buffer) {
            assert_ne!(frame.opcode, opcode::CLOSE, "closed: {:?}", ending(&frame.payload));
        }
    }

    /// Reads once; returns how many bytes came, zero at the end of the stream.
    fn fill(&mut self, end: Instant) -> io::Result<usize> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 16 * 1024];
        let read = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(read)
    }
}

/// A hello of a client that follows nothing yet.
#[must_use]
pub fn hello() -> Value {
    let session = crate::client::new_id();
    json!({ "id": 1, "command": "hello", "payload": { "protocol": 1, "client": "e2e", "session": session } })
}

/// Lays out one masked frame.
#[must_use]
pub fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(u8::from(fin) << 7 | opcode, 0x80, payload.len());
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Lays out one frame without the mask a client owes (RFC 6455 §5.1).
#[must_use]
pub fn unmasked_frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(u8::from(fin) << 7 | opcode, 0, payload.len());
    bytes.extend(payload);
    bytes
}

/// Lays out the head of a masked frame that announces any length, without its payload.
#[must_use]
pub fn announcement(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | 127];
    bytes.extend(length.to_be_bytes());
    bytes.extend(MASK);
    bytes
}

fn head(first: u8, mask_bit: u8, length: usize) -> Vec<u8> {
    match length {
        0..=125 => vec![first, mask_bit | u8::try_from(length).expect("below 126")],
        126..=0xffff => {
            let short = u16::try_from(length).expect("below 64 KiB").to_be_bytes();
            vec![first, mask_bit | 126, short[0], short[1]]
        }
        _ => {
            let mut bytes = vec![first, mask_bit | 127];
            bytes.extend((length as u64).to_be_bytes());
            bytes
        }
    }
}

/// Says what was seen instead, in a few lines.
fn brief(seen: &[Value]) -> String {
    let last = seen.iter().rev().take(5).map(|message| message.to_string().chars().take(300).collect::<String>());
    format!("{} others came, the last: {:#?}", seen.len(), last.collect::<Vec<_>>())
}

/// Takes the first whole frame of a server out of a buffer.
fn take_frame(buffer: &mut Vec<u8>) -> Option<Frame> {
    let &[first, second, ..] = buffer.as_slice() else {
        return None;
    };
    assert_eq!(second & 0x80, 0, "a server never masks (RFC 6455 §5.1)");
    assert_eq!(first & 0x70, 0, "no extension was agreed on, so the reserved bits are zero");
    let (start, length) = match second {
        126 => (4, usize::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?))),
        127 => {
            (10, usize::try_from(u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?)).expect("fits this machine"))
        }
        short => (2, usize::from(short)),
    };
    let payload = buffer.get(start..start + length)?.to_vec();
    buffer.drain(..start + length);
    Some(Frame { fin: first & 0x80 != 0, opcode: first & 0x0f, payload })
}

fn ending(payload: &[u8]) -> Ending {
    match payload {
        [high, low, reason @ ..] => Ending::Closed {
            code: u16::from_be_bytes([*high, *low]),
            reason: String::from_utf8_lossy(reason).into_owned(),
        },
        _ => Ending::Closed { code: shared::close::NO_STATUS, reason: String::new() },
    }
}
