//! A server in this process, and a WebSocket client small enough to send anything.
//!
//! Must not live here: assertions about behaviour. Invariant: every wait has a deadline, and a failed one says what came
//! instead.
#![allow(dead_code, unreachable_pub)]

pub mod link;
pub mod reader;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser as _;
use server::ambient::{Ambient, System};
use server::app::{App, Parts};
use server::config::Config;
use server::http::assets::Assets;
use server::log::LogHandle;
use server::ws::frame;
use server::{Server, ServerError, Storage};
use shared::cursor::Position;
use shared::error::WireError;
use shared::ids::{ClientId, RequestId, RoomId, Seq, SessionId};
use shared::message::{Ack, Body, Command, Event, Hello, Message, OpenRoom, Reply, SendPost, Welcome};
use shared::model::{OpenOutcome, Opened, Person, RoomEvent};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(15);
pub const GENERAL: RoomId = server::log::GENERAL;

/// Flags that take the rates out of the way.
pub const FAST: &[&str] = &[
    "--posts-burst=1000000",
    "--posts-per-s=1000000",
    "--frames-burst=1000000",
    "--frames-per-s=1000000",
    "--sign-ins=100000",
    "--pending-per-address=100000",
    "--failed-handshakes=100000",
];

/// A running server.
pub struct Running {
    pub address: SocketAddr,
    pub app: Arc<App>,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), ServerError>>,
    folder: tempfile::TempDir,
}

/// Starts a server with its log in memory.
pub async fn start(flags: &[&str]) -> Running {
    start_with(Storage::Memory, flags).await
}

pub async fn start_with(storage: Storage, flags: &[&str]) -> Running {
    start_at(tempfile::tempdir().unwrap(), storage, flags).await
}

/// Starts a server over what a folder holds.
pub async fn start_at(folder: tempfile::TempDir, storage: Storage, flags: &[&str]) -> Running {
    let data = folder.path().to_str().unwrap().to_owned();
    let arguments = ["server", "--listen=127.0.0.1:0", "--data-dir", &data, "--send-buffer-bytes=16384"];
    let config = Config::try_parse_from(arguments.iter().chain(flags)).unwrap();
    config.validate().unwrap();
    let listener: TcpListener = server::accept::bind(config.listen, config.sockets.backlog).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::open(listener, config, storage).await.unwrap();
    let app = Arc::clone(server.app());
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(server.run(async {
        // A dropped sender stops it as well: then the test is over.
        let _ = stopped.await;
    }));
    Running { address, app, stop: Some(stop), ended, folder }
}

/// Serves over a log of the test's own, until the test is over.
pub async fn serve_over(log: LogHandle) -> (SocketAddr, Arc<App>) {
    let config = Config::try_parse_from(["server", "--listen=127.0.0.1:0"]).unwrap();
    let listener = server::accept::bind(config.listen, config.sockets.backlog).unwrap();
    let address = listener.local_addr().unwrap();
    let (hub, registry, assets) = (Arc::default(), Arc::default(), Assets::none());
    let app = App::new(Parts { config, ambient: Arc::new(System), log, hub, registry, assets, origins: Vec::new() });
    tokio::spawn(server::accept::serve(Arc::clone(&app), listener, server::http::router(Arc::clone(&app))));
    (address, app)
}

impl Running {
    /// Asks the server to stop, without waiting.
    pub fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the server has ended.
    pub async fn ended(self) -> Result<(), ServerError> {
        tokio::time::timeout(PATIENCE, self.ended).await.expect("the server ends in time").unwrap()
    }

    /// Waits until the server has ended, and keeps its folder for the next.
    pub async fn ended_over(self) -> tempfile::TempDir {
        tokio::time::timeout(PATIENCE, self.ended).await.expect("the server ends in time").unwrap().unwrap();
        self.folder
    }

    /// Signs somebody in as a native client does.
    pub async fn sign_in(&self, name: &str) -> User {
        let (status, _, body) =
            self.http("POST", "/api/session", &[], &serde_json::json!({ "name": name }).to_string()).await;
        assert_eq!(status, 201, "{body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        User {
            // Read from text, as everything on the wire is.
            person: serde_json::from_str(&body["user"].to_string()).unwrap(),
            token: body["token"].as_str().unwrap().to_owned(),
            address: self.address,
        }
    }

    /// Makes one plain request. Returns status, head and body.
    pub async fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String, String) {
        ask(self.address, method, path, headers, body).await.expect("a whole answer")
    }
}

/// Makes one plain request on a socket of its own. Returns status, head and body, or nothing where the socket ended
/// without a whole head, or nobody took it.
pub async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<(u16, String, String)> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    let mut answer = Vec::new();
    let asking = async {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(request.as_bytes()).await?;
        socket.read_to_end(&mut answer).await
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("an answer in time").ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some((status, head.to_ascii_lowercase(), body.to_owned()))
}

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct User {
    pub person: Person,
    pub token: String,
    address: SocketAddr,
}

impl User {
    /// Opens a socket without a word on it.
    pub async fn socket(&self) -> Client {
        let bearer = format!("Bearer {}", self.token);
        Client::upgrade(self.address, &[("Authorization", &bearer)]).await.expect("an upgrade")
    }

    /// Opens a socket and says hello, following the given rooms.
    pub async fn connect(&self, rooms: &[OpenRoom]) -> (Client, Welcome) {
        let mut client = self.socket().await;
        let welcome = client.hello(hello(rooms)).await;
        (client, welcome)
    }

    /// Opens a socket, follows `general` from a snapshot and waits until it is live. Returns the snapshot's position.
    pub async fn enter(&self) -> (Client, Position) {
        let (mut client, _) = self.connect(&[fresh(GENERAL)]).await;
        let opened = client.opened().await;
        let position = as_of(&opened);
        client.live().await;
        (client, position)
    }
}

pub fn as_of(opened: &Opened) -> Position {
    match &opened.outcome {
        OpenOutcome::Fresh { snapshot }
        | OpenOutcome::Jumped { snapshot, .. }
        | OpenOutcome::Reset { snapshot, .. } => snapshot.as_of,
        other => panic!("no snapshot in {other:?}"),
    }
}

pub fn fresh(room: RoomId) -> OpenRoom {
    OpenRoom { room, cursor: None, replay: false }
}

pub fn from(room: RoomId, cursor: Position) -> OpenRoom {
    OpenRoom { room, cursor: Some(cursor), replay: false }
}

pub fn hello(rooms: &[OpenRoom]) -> Hello {
    Hello {
        protocol: shared::limits::PROTOCOL_VERSION,
        client: "test".into(),
        session: SessionId::from_parts(System.wall_clock(), ambient().random()),
        hidden: false,
        user: None,
        rooms: rooms.to_vec(),
        since: None,
    }
}

pub fn key() -> ClientId {
    ClientId::from_parts(System.wall_clock(), ambient().random())
}

pub fn post(body: &str) -> SendPost {
    SendPost { n: None, client_id: key(), room: GENERAL, body: body.into() }
}

/// What came on a socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    Message(Message),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    /// The socket ended.
    End,
}

/// One socket to a server.
pub struct Client {
    pub socket: TcpStream,
    /// The head of the answer to the upgrade.
    pub head: String,
    buffer: Vec<u8>,
}

static REQUESTS: AtomicU64 = AtomicU64::new(1);

impl Client {
    /// Upgrades, or returns the status that came instead.
    pub async fn upgrade(address: SocketAddr, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let mut request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let socket = TcpStream::connect(address).await.unwrap();
        let mut client = Self { socket, head: String::new(), buffer: Vec::new() };
        client.socket.write_all(request.as_bytes()).await.unwrap();
        let end = loop {
            if let Some(end) = client.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(client.fill().await, "the socket ended within the answer's head");
        };
        let head = String::from_utf8_lossy(&client.buffer[..end]).into_owned();
        client.buffer.drain(..end);
        match head.split(' ').nth(1).unwrap().parse().unwrap() {
            101 => {
                assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
                client.head = head;
                Ok(client)
            }
            status => Err(status),
        }
    }

    async fn fill(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match tokio::time::timeout(PATIENCE, self.socket.read(&mut bytes)).await.expect("something in time") {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                true
            }
        }
    }

    /// Writes a frame as a client does.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        self.raw(&frame::masked(first, [0xa5, 0x5a, 0x0f, 0xf0], payload)).await;
    }

    /// Writes bytes. That the other end has closed shows at the next read.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    pub async fn text(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes()).await;
    }

    /// Sends a command and returns its request id.
    pub async fn send(&mut self, command: Command) -> RequestId {
        let id = RequestId(REQUESTS.fetch_add(1, Ordering::Relaxed));
        self.text(&Message::command(id, command).to_json()).await;
        id
    }

    /// Waits for the next thing to come.
    pub async fn next(&mut self) -> Came {
        loop {
            if let Some(came) = self.parse() {
                return came;
            }
            if !self.fill().await {
                return Came::End;
            }
        }
    }

    /// Waits for something for at most this long.
    pub async fn next_within(&mut self, wait: Duration) -> Option<Came> {
        tokio::time::timeout(wait, self.next()).await.ok()
    }

    fn parse(&mut self) -> Option<Came> {
        let buffer = &self.buffer;
        let (length, start) = match *buffer.get(1)? {
            126 => (usize::from(u16::from_be_bytes([*buffer.get(2)?, *buffer.get(3)?])), 4),
            127 => (u64::from_be_bytes(buffer.get(2..10)?.try_into().unwrap()) as usize, 10),
            short => (usize::from(short), 2),
        };
        let payload = buffer.get(start..start + length)?.to_vec();
        let first = buffer[0];
        self.buffer.drain(..start + length);
        Some(match first {
            0x81 => Came::Message(Message::parse(std::str::from_utf8(&payload).unwrap()).unwrap()),
            0x88 if payload.is_empty() => Came::Close(1005, String::new()),
            0x88 => Came::Close(
                u16::from_be_bytes([payload[0], payload[1]]),
                String::from_utf8(payload[2..].to_vec()).unwrap(),
            ),
            0x89 => Came::Ping(payload),
            0x8a => Came::Pong(payload),
            other => panic!("a server does not send {other:#x}"),
        })
    }

    /// Reads on until `pick` takes something; everything else is ignored.
    pub async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&Came) -> Option<T>) -> T {
        let mut ignored = Vec::new();
        let wait = async {
            loop {
                let came = self.next().await;
                if let Some(found) = pick(&came) {
                    return found;
                }
                assert!(came != Came::End, "the socket ended before {what}; came: {ignored:?}");
                ignored.push(came);
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!("no {what} in time; came: {ignored:?}"),
        }
    }

    pub async fn answer(&mut self, id: RequestId) -> Result<Reply, WireError> {
        self.until("an answer", |came| match came {
            Came::Message(message) if message.id == Some(id) => match &message.body {
                Body::Reply(reply) => Some(Ok(reply.clone())),
                Body::Refusal(error) => Some(Err(error.clone())),
                other => panic!("an answer that is none: {other:?}"),
            },
            _ => None,
        })
        .await
    }

    pub async fn ask(&mut self, command: Command) -> Result<Reply, WireError> {
        let id = self.send(command).await;
        self.answer(id).await
    }

    pub async fn hello(&mut self, hello: Hello) -> Welcome {
        match self.ask(Command::Hello(hello)).await.unwrap() {
            Reply::Welcome(welcome) => *welcome,
            other => panic!("no welcome but {other:?}"),
        }
    }

    pub async fn post(&mut self, send: SendPost) -> Result<Ack, WireError> {
        match self.ask(Command::Post(send)).await? {
            Reply::Ack(ack) => Ok(ack),
            other => panic!("no ack but {other:?}"),
        }
    }

    pub async fn open(&mut self, ask: OpenRoom) -> Opened {
        match self.ask(Command::Open(ask)).await.unwrap() {
            Reply::Opened(opened) => opened,
            other => panic!("not opened but {other:?}"),
        }
    }

    pub async fn event<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        self.until(what, |came| match came {
            Came::Message(Message { body: Body::Event(event), .. }) => pick(event),
            _ => None,
        })
        .await
    }

    pub async fn opened(&mut self) -> Opened {
        self.event("opened", |event| match event {
            Event::Opened(opened) => Some(opened.clone()),
            _ => None,
        })
        .await
    }

    pub async fn live(&mut self) {
        self.event("live", |event| matches!(event, Event::Live(_)).then_some(())).await;
    }

    pub async fn room_event(&mut self) -> RoomEvent {
        self.event("a room event", |event| match event {
            Event::Room(event) => Some(event.clone()),
            _ => None,
        })
        .await
    }

    /// Reads room events until one with this seq.
    pub async fn events_to(&mut self, seq: Seq) -> Vec<RoomEvent> {
        let mut events = Vec::new();
        while events.last().is_none_or(|event: &RoomEvent| event.seq < seq) {
            events.push(self.room_event().await);
        }
        events
    }

    /// Waits for the close. Returns its code and the one that was told in-band.
    pub async fn closed(&mut self) -> (u16, Option<u16>) {
        let mut told = None;
        loop {
            match self.next().await {
                Came::Close(code, _) => {
                    self.frame(0x88, &code.to_be_bytes()).await;
                    return (code, told);
                }
                Came::Message(Message { body: Body::Event(Event::Closing(closing)), .. }) => told = Some(closing.code),
                Came::End => return (1006, told),
                Came::Message(_) | Came::Ping(_) | Came::Pong(_) => {}
            }
        }
    }
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Returns the texts of posts among events.
pub fn texts(events: &[RoomEvent]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match &event.change {
            shared::model::RoomChange::Posted(posted) => posted.body.clone(),
            _ => None,
        })
        .collect()
}

fn ambient() -> &'static dyn Ambient {
    &System
}
