//! Commands of any kind, with any numbers, from two people on real sockets to a real server.
//!
//! Must not live here: frames that break the framing ([`mod@crate::decoder`]). Invariant checked: every command that
//! has an id is answered once, or its socket is closed with a code of the registry; whatever the server says can be
//! read and keeps its size. A connection whose task panicked would close without a word.

mod words;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::extract::Request;
use clap::Parser as _;
use http_body_util::BodyExt as _;
use server::accept::PeerAddress;
use server::app::App;
use server::config::Config;
use server::ws::frame;
use server::{Server, Storage, http};
use shared::close;
use shared::limits::OUTBOUND_MESSAGE_BYTES;
use shared::message::{Body, Command, Event, Message, Reply};
use shared::model::{OpenOutcome, Opened};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use self::words::{Known, hello};
use crate::runtime::block_on;
use crate::source::Source;

/// Rates are judged elsewhere; here everything is taken.
const FLAGS: [&str; 9] = [
    "server",
    "--frames-burst=1000000",
    "--frames-per-s=1000000",
    "--posts-burst=1000000",
    "--posts-per-s=1000000",
    "--sign-ins=1000000",
    "--pings=1000000",
    "--pending-per-address=1000",
    "--close-wait-ms=50",
];
const TURNS: usize = 60;
/// Commands on their way before their answers are read.
const PIPELINE: usize = 24;
/// An answer that takes longer does not come. Generous: whoever replays this may be slow.
const PATIENCE: Duration = Duration::from_secs(20);
const TEXT: u8 = 0x81;

pub(crate) fn run(bytes: &[u8]) {
    block_on(async {
        let config = Config::try_parse_from(FLAGS).expect("this configuration is fine");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback is there");
        let at = listener.local_addr().expect("it is bound");
        let server = Server::open(listener, config, Storage::Memory).await.expect("a log in memory opens");
        let app = Arc::clone(server.app());
        // Without an orderly goodbye, which takes its time and is none of this target's business.
        tokio::select! {
            ended = server.run(std::future::pending()) => panic!("the server ended by itself: {ended:?}"),
            () = converse(app, at, bytes) => {}
        }
    });
}

async fn converse(app: Arc<App>, at: SocketAddr, bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let mut known = Known::default();
    let mut clients = [Client::enter(&app, at, "Ann").await, Client::enter(&app, at, "Ben").await];
    for turn in 0..TURNS {
        if source.is_empty() {
            break;
        }
        let client = &mut clients[usize::from(source.flag())];
        if client.closed.is_some() {
            client.come_back().await;
        }
        client.turn(&mut source, &mut known).await;
        if turn % PIPELINE == PIPELINE - 1 {
            for client in &mut clients {
                client.hear_all(&mut known).await;
            }
        }
    }
    for client in &mut clients {
        client.hear_all(&mut known).await;
    }
}

/// Somebody with a socket.
struct Client {
    address: SocketAddr,
    token: String,
    socket: TcpStream,
    inbox: Vec<u8>,
    next_id: u64,
    is_greeted: bool,
    /// Commands whose answer is still to come.
    unanswered: BTreeSet<u64>,
    answered: BTreeSet<u64>,
    /// Something that is no command was said, and may have carried any id.
    is_loose: bool,
    closed: Option<u16>,
}

impl Client {
    /// Signs in and connects.
    async fn enter(app: &Arc<App>, at: SocketAddr, name: &str) -> Self {
        let body = HttpBody::from(format!("{{\"name\":\"{name}\"}}"));
        let mut request = Request::post("/api/session").body(body).expect("a request can be written");
        request.extensions_mut().insert(PeerAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let response = http::router(Arc::clone(app)).oneshot(request).await.expect("the router never fails");
        let body = response.into_body().collect().await.expect("our own bodies come whole").to_bytes();
        let session: serde_json::Value = serde_json::from_slice(&body).expect("a session is JSON");
        let token = session["token"].as_str().expect("a program is told its token").to_owned();
        let socket = connect(at, &token).await;
        Self {
            address: at,
            token,
            socket,
            inbox: Vec::new(),
            next_id: 0,
            is_greeted: false,
            unanswered: BTreeSet::new(),
            answered: BTreeSet::new(),
            is_loose: false,
            closed: None,
        }
    }

    async fn come_back(&mut self) {
        self.socket = connect(self.address, &self.token).await;
        self.inbox.clear();
        self.unanswered.clear();
        (self.is_greeted, self.is_loose, self.closed) = (false, false, None);
    }

    /// Says one thing.
    async fn turn(&mut self, source: &mut Source<'_>, known: &mut Known) {
        if !self.is_greeted && source.byte() < 250 {
            self.is_greeted = true;
            let hello = Command::Hello(hello(source, known));
            return self.command(hello, true).await;
        }
        match source.byte() {
            255 => {
                self.is_loose = true;
                let text = source.text(200);
                self.write(text.as_bytes()).await;
            }
            tag => {
                let command = known.command(source);
                self.command(command, tag < 250).await;
            }
        }
    }

    async fn command(&mut self, command: Command, has_id: bool) {
        self.next_id += 1;
        let id = has_id.then_some(shared::ids::RequestId(self.next_id));
        let is_answered = !matches!(command, Command::Read(_) | Command::Typing(_));
        if has_id && is_answered {
            self.unanswered.insert(self.next_id);
        }
        self.write(Message::command_json(id, &command).as_bytes()).await;
    }

    async fn write(&mut self, text: &[u8]) {
        // A socket the server has closed says why when it is read.
        let _ = self.socket.write_all(&frame::masked(TEXT, [1, 2, 3, 4], text)).await;
    }

    /// Reads until every command is answered, or the socket is closed.
    async fn hear_all(&mut self, known: &mut Known) {
        while self.closed.is_none() && !self.unanswered.is_empty() {
            let mut buffer = [0; 16 * 1024];
            let reading = tokio::time::timeout(PATIENCE, self.socket.read(&mut buffer)).await;
            let count = reading.unwrap_or_else(|_| panic!("no answer to {:?}", self.unanswered));
            // Without a close frame before it, an end is the end of a task that fell over.
            let count = count.unwrap_or(0);
            assert!(count > 0, "the connection ended without a word");
            self.inbox.extend_from_slice(&buffer[..count]);
            while let Some((first, payload)) = self.next_frame() {
                self.hear(first, &payload, known);
            }
        }
    }

    fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, short, ..] = self.inbox[..] else { return None };
        let extended = match short {
            126 => 2,
            127 => 8,
            _short => 0,
        };
        let header = self.inbox.get(2..2 + extended)?;
        let length = match extended {
            0 => usize::from(short),
            _extended => header.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
        };
        let payload = self.inbox.get(2 + extended..2 + extended + length)?.to_vec();
        self.inbox.drain(..2 + extended + length);
        Some((first, payload))
    }

    fn hear(&mut self, first: u8, payload: &[u8], known: &mut Known) {
        match first {
            TEXT => {}
            0x88 => {
                let code = payload.first_chunk().map_or(close::NO_STATUS, |code| u16::from_be_bytes(*code));
                assert!(close::lookup(code).is_some(), "closed with {code}");
                self.closed = Some(code);
                return;
            }
            _ping_or_pong => return,
        }
        let text = std::str::from_utf8(payload).expect("a server says text");
        assert!(text.len() <= OUTBOUND_MESSAGE_BYTES, "a message of {} bytes", text.len());
        let message = Message::parse_from_server(text).expect("what a server says can be read");
        if let (Some(id), Body::Reply(_) | Body::Refusal(_)) = (message.id, &message.body) {
            let is_first = self.answered.insert(id.0);
            assert!(is_first || self.is_loose, "answered twice: {text}");
            self.unanswered.remove(&id.0);
        }
        match message.body {
            Body::Reply(Reply::Welcome(welcome)) => known.positions.push(welcome.user),
            Body::Reply(Reply::Opened(opened)) | Body::Event(Event::Opened(opened)) => note(opened, known),
            Body::Reply(Reply::Room(room)) => known.rooms.push(room.room),
            Body::Reply(Reply::Ack(ack)) => known.seqs.push(ack.seq),
            Body::Reply(_) | Body::Refusal(_) | Body::Event(_) | Body::Command(_) => {}
        }
    }
}

fn note(opened: Opened, known: &mut Known) {
    match opened.outcome {
        OpenOutcome::Fresh { snapshot }
        | OpenOutcome::Jumped { snapshot, .. }
        | OpenOutcome::Reset { snapshot, .. } => known.positions.push(snapshot.as_of),
        OpenOutcome::Recovered { .. } | OpenOutcome::Refused { .. } => {}
    }
}

async fn connect(address: SocketAddr, token: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.expect("the server listens");
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("the upgrade is answered"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    socket
}
