//! A lean client's half of RFC 6455 and just enough HTTP: no task, no allocation for a frame that is counted and dropped.
//!
//! Must not live here: sockets that are polled, or what a message means. Invariant: a frame is handed on whole, or stays
//! in the buffer.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde::Deserialize;
use socket2::{Domain, Socket, Type};

use crate::clock::random;

/// Connections from one loopback address: below what a server allows one address while they open.
const CLIENTS_PER_ADDRESS: usize = 40;
/// Any one step of opening a connection.
const STEP_LIMIT: Duration = Duration::from_secs(30);
/// Largest head or body of an HTTP answer, in bytes.
const ANSWER_BYTES: usize = 64 * 1024;
/// Header fields of an answer.
const FIELDS: usize = 64;

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole text message.
    Text(&'a [u8]),
    /// The beginning of one in fragments (RFC 6455 §5.4).
    Begin(&'a [u8]),
    /// Its next part, and whether that is the last.
    Next(&'a [u8], bool),
    /// A ping, to be answered with the same bytes.
    Ping(&'a [u8]),
    /// A close, with its code.
    Close(u16),
    /// Anything else.
    Strange,
}

/// Takes one frame off the front of a buffer; none while it is incomplete. Returns its length with it.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (length, head): (usize, usize) = match second {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        short => (usize::from(short & 0x7f), 2),
    };
    let payload = bytes.get(head..head.checked_add(length)?)?;
    let frame = match first {
        0x81 => Frame::Text(payload),
        0x01 => Frame::Begin(payload),
        0x00 => Frame::Next(payload, false),
        0x80 => Frame::Next(payload, true),
        0x89 => Frame::Ping(payload),
        0x88 => Frame::Close(payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]))),
        _ => Frame::Strange,
    };
    Some((frame, head + length))
}

/// Appends a masked frame (RFC 6455 §5.3). The mask need not be unpredictable between a bench and its own server.
pub fn encode(opcode: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        short @ 0..=125 => out.push(0x80 | short as u8),
        medium @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// Where a bench connects to.
#[derive(Clone, Debug)]
pub struct Target {
    address: SocketAddr,
    host: String,
    base: String,
}

impl Target {
    /// Looks a server up; `base` is what stands before every path.
    ///
    /// # Errors
    /// Words for the person.
    pub fn find(host: &str, port: u16, base: &str) -> Result<Self, String> {
        use std::net::ToSocketAddrs as _;
        let bare = host.trim_matches(['[', ']']);
        let mut addresses = (bare, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
        let address = addresses.next().ok_or_else(|| format!("{host} has no address"))?;
        Ok(Self { address, host: format!("{host}:{port}"), base: base.to_owned() })
    }

    /// Looks up a server that said where it listens, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// Words for the person.
    pub fn at(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url} does not begin with http://"))?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| format!("{url} names no port"))?;
        Self::find(host, port.parse().map_err(|error| format!("{url}: {error}"))?, "")
    }

    /// Tells whether the server is on this machine.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Connects as client number `client`; on IPv4 loopback from one of many addresses, since ports are few.
    fn connect(&self, client: usize) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
        if let IpAddr::V4(ip) = self.address.ip()
            && ip.is_loopback()
        {
            let place = client / CLIENTS_PER_ADDRESS;
            let from =
                Ipv4Addr::new(127, 1 + (place / 62_500) as u8, (place / 250 % 250) as u8, 1 + (place % 250) as u8);
            socket.bind(&SocketAddr::from((from, 0)).into())?;
        }
        socket.connect_timeout(&self.address.into(), STEP_LIMIT)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STEP_LIMIT))?;
        stream.set_write_timeout(Some(STEP_LIMIT))?;
        Ok(stream)
    }

    /// Signs a new person in.
    ///
    /// # Errors
    /// Words with what the server answered.
    pub fn sign_in(&self, client: usize, name: &str) -> Result<Signed, String> {
        let mut stream = self.connect(client).map_err(|error| error.to_string())?;
        let body = serde_json::json!({ "name": name }).to_string();
        let head = format!(
            "POST {}/api/session HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.base,
            self.host,
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES as u64).read_to_end(&mut answer).map_err(|error| error.to_string())?;
        let (status, end) = read_head(&answer)?.ok_or("the answer to the sign-in ended early")?;
        let text = String::from_utf8_lossy(&answer[end..]);
        match status {
            200..=299 => serde_json::from_str(&text).map_err(|error| format!("{error} in {text}")),
            _ => Err(format!("sign-in answered HTTP {status}: {}", text.trim())),
        }
    }

    /// Opens a WebSocket, and says hello if there is one. Returns what came after the upgrade as well.
    ///
    /// # Errors
    /// Words with what the server answered.
    pub fn upgrade(
        &self,
        client: usize,
        path: &str,
        token: Option<&str>,
        hello: Option<&str>,
    ) -> Result<(TcpStream, Vec<u8>), String> {
        let mut stream = self.connect(client).map_err(|error| error.to_string())?;
        let who = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!(
            "GET {}{path} HTTP/1.1\r\nHost: {}\r\n{who}Upgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: aG9sZGZhc3QtYmVuY2ghIQ==\r\n\r\n",
            self.base, self.host
        );
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        loop {
            let read = stream.read(&mut part).map_err(|error| error.to_string())?;
            if read == 0 || answer.len() > ANSWER_BYTES {
                return Err(format!("the upgrade was answered with {}", String::from_utf8_lossy(&answer)));
            }
            answer.extend_from_slice(&part[..read]);
            match read_head(&answer)? {
                Some((101, end)) => {
                    answer.drain(..end);
                    break;
                }
                Some((status, _)) => return Err(format!("the upgrade was answered with HTTP {status}")),
                None => {}
            }
        }
        if let Some(hello) = hello {
            let mut frame = Vec::new();
            encode(1, hello.as_bytes(), random(), &mut frame);
            stream.write_all(&frame).map_err(|error| error.to_string())?;
        }
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        Ok((stream, answer))
    }
}

/// Somebody who is signed in.
#[derive(Clone, Debug, Deserialize)]
pub struct Signed {
    /// The bearer token.
    pub token: String,
}

fn read_head(bytes: &[u8]) -> Result<Option<(u16, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes).map_err(|error| error.to_string())? {
        httparse::Status::Complete(end) => Ok(response.code.map(|code| (code, end))),
        httparse::Status::Partial => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_whole_or_not_at_all() {
        for length in [0_usize, 1, 125, 126, 65_535, 65_536] {
            let mut masked = Vec::new();
            encode(1, &vec![b'x'; length], [0; 4], &mut masked);
            // A server's frame is the same without the mask.
            let head = masked.len() - length - 4;
            let mut frame = masked[..head].to_vec();
            frame[1] &= 0x7f;
            frame.extend_from_slice(&masked[head + 4..]);
            for cut in [0, 1, 2, frame.len() / 2, frame.len() - 1] {
                assert!(decode(&frame[..cut.min(frame.len() - 1)]).is_none());
            }
            let (Frame::Text(text), taken) = decode(&frame).unwrap() else { panic!("{length}") };
            assert_eq!((text.len(), taken), (length, frame.len()));
        }
        assert_eq!(decode(&[0x88, 2, 0x03, 0xe8]), Some((Frame::Close(1000), 4)));
        assert_eq!(decode(&[0x01, 1, b'a']), Some((Frame::Begin(b"a"), 3)));
        assert_eq!(decode(&[0x80, 1, b'b']), Some((Frame::Next(b"b", true), 3)));
        assert_eq!(decode(&[0x89, 0]), Some((Frame::Ping(&[]), 2)));
        assert!(decode(&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255]).is_none());
    }

    #[test]
    fn a_server_is_found_where_it_says_it_listens() {
        assert!(Target::at("http://127.0.0.1:8080").unwrap().is_here());
        assert!(!Target::at("http://192.0.2.1:80").unwrap().is_here());
        for bad in ["127.0.0.1:80", "http://127.0.0.1", "http://127.0.0.1:x"] {
            assert!(Target::at(bad).is_err(), "{bad}");
        }
    }
}
