//! A well-behaved WebSocket client that does what the test says and nothing more: no reconnect, no outbox.
//!
//! Must not live here: the `Session`; what must survive a reconnect is tested through the real programs. Invariant:
//! every message received is handed to the test exactly once, in order.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt, StreamExt};
use shared::cursor::Position;
use shared::error::WireError;
use shared::ids::{ClientId, RequestId, RoomId, SessionId};
use shared::limits::PROTOCOL_VERSION;
use shared::message::{Ack, Beat, Body, Command, Event, Hello, Message, OpenRoom, Reply, SendPost, Welcome};
use shared::model::{Opened, RoomEvent};
use shared::time::Timestamp;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, client_async};

/// How long any single answer may take.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Posts of [`Client::post_many`] that wait for their answer at once.
const IN_FLIGHT: usize = 32;

/// Makes an id no other call in this process, and no other process soon, makes.
///
/// # Panics
/// If the clock stands before 1970.
#[must_use]
pub fn new_id() -> ClientId {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let mut random = [0; 10];
    random[..4].copy_from_slice(&std::process::id().to_le_bytes());
    random[4..].copy_from_slice(&COUNTER.fetch_add(1, Ordering::Relaxed).to_be_bytes()[2..]);
    ClientId::from_parts(Timestamp(u64::try_from(now.as_millis()).expect("fits for a long time")), random)
}

/// Returns the wall clock as the wire carries it.
///
/// # Panics
/// If the clock stands before 1970.
#[must_use]
pub fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    Timestamp(u64::try_from(now.as_millis()).expect("fits for a long time"))
}

/// Why a client has no answer.
#[derive(Debug)]
pub enum Lost {
    /// The server closed with this code and words.
    Closed(u16, String),
    /// The connection broke off.
    Broken(String),
    /// Nothing came in time.
    Late,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The client.
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    inbox: VecDeque<Message>,
    next_request: u64,
    session: SessionId,
}

impl Client {
    /// Connects and upgrades with a bearer token; says nothing yet.
    ///
    /// # Errors
    /// What went wrong, where nobody listens or the upgrade is refused.
    pub async fn dial(address: SocketAddr, token: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let mut request = format!("ws://{address}/ws").into_client_request().map_err(|error| error.to_string())?;
        let bearer = format!("Bearer {token}").parse().map_err(|_| "a token is visible ASCII".to_owned())?;
        request.headers_mut().insert("Authorization", bearer);
        let upgrade = timeout(ANSWER_DEADLINE, client_async(request, stream)).await;
        let (socket, _) = upgrade.map_err(|_| "no answer to the upgrade")?.map_err(|error| error.to_string())?;
        Ok(Self { socket, inbox: VecDeque::new(), next_request: 1, session: SessionId(new_id().0) })
    }

    /// Connects, says hello and follows these rooms from their newest posts.
    ///
    /// # Panics
    /// If there is no welcome.
    pub async fn join(address: SocketAddr, token: &str, rooms: &[RoomId]) -> (Self, Welcome) {
        let mut client = Self::dial(address, token).await.expect("the server takes the connection");
        let rooms = rooms.iter().map(|room| OpenRoom { room: *room, cursor: None, replay: false }).collect();
        let welcome = client.hello(rooms).await;
        (client, welcome)
    }

    /// Connects, says hello and follows `general`; returns the room and how it was opened.
    ///
    /// # Panics
    /// If there is no `general`.
    pub async fn join_general(address: SocketAddr, token: &str) -> (Self, RoomId, Opened) {
        let (mut client, welcome) = Self::join(address, token, &[]).await;
        let room = welcome.rooms.iter().find(|room| room.name == "general").expect("everybody is in general").room;
        let opened = client.open(room, None, false).await;
        (client, room, opened)
    }

    /// Takes the identity of an earlier socket: the second of two supersedes the first.
    #[must_use]
    pub fn as_session(mut self, session: SessionId) -> Self {
        self.session = session;
        self
    }

    /// Returns which running client this is.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Says hello and returns the welcome.
    ///
    /// # Panics
    /// If there is none.
    pub async fn hello(&mut self, rooms: Vec<OpenRoom>) -> Welcome {
        self.try_hello(rooms).await.unwrap_or_else(|other| panic!("no welcome but {other}"))
    }

    /// As [`Self::hello`], where the server may be gone or refuse.
    ///
    /// # Errors
    /// What came instead of a welcome.
    pub async fn try_hello(&mut self, rooms: Vec<OpenRoom>) -> Result<Welcome, String> {
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            client: "e2e".to_owned(),
            session: self.session,
            hidden: false,
            user: None,
            rooms,
            since: None,
        };
        match self.ask(Command::Hello(hello)).await {
            Ok(Ok(Reply::Welcome(welcome))) => Ok(*welcome),
            other => Err(format!("{other:?}")),
        }
    }

    /// Follows a room from a cursor and returns how.
    ///
    /// # Panics
    /// If it is not opened.
    pub async fn open(&mut self, room: RoomId, cursor: Option<Position>, replay: bool) -> Opened {
        match self.ask(Command::Open(OpenRoom { room, cursor, replay })).await {
            Ok(Ok(Reply::Opened(opened))) => opened,
            other => panic!("the room was not opened: {other:?}"),
        }
    }

    /// Sends a command without waiting for its answer; returns the id the answer will carry.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn send(&mut self, command: Command) -> Result<RequestId, Lost> {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let text = Message::command(id, command).to_json();
        self.socket.send(tungstenite::Message::text(text)).await.map_err(|error| Lost::Broken(error.to_string()))?;
        Ok(id)
    }

    /// Sends a command and waits for its answer; keeps everything else that comes for later.
    ///
    /// # Errors
    /// If the connection is gone or no answer comes in time.
    pub async fn ask(&mut self, command: Command) -> Result<Result<Reply, WireError>, Lost> {
        let id = self.send(command).await?;
        self.answer(id).await
    }

    /// Waits for the answer to an earlier [`Self::send`].
    ///
    /// # Errors
    /// If the connection is gone or no answer comes in time.
    pub async fn answer(&mut self, id: RequestId) -> Result<Result<Reply, WireError>, Lost> {
        let is_answer = |message: &Message| message.id == Some(id);
        if let Some(place) = self.inbox.iter().position(is_answer) {
            return Ok(into_answer(self.inbox.remove(place).expect("just found").body));
        }
        let waiting = async {
            loop {
                let message = self.receive().await?;
                if is_answer(&message) {
                    return Ok(into_answer(message.body));
                }
                self.inbox.push_back(message);
            }
        };
        timeout(ANSWER_DEADLINE, waiting).await.unwrap_or(Err(Lost::Late))
    }

    /// Posts and waits for the acknowledgement.
    ///
    /// # Errors
    /// If the connection is gone or no answer comes in time.
    pub async fn post(&mut self, room: RoomId, body: &str) -> Result<Result<Ack, WireError>, Lost> {
        self.post_as(new_id(), room, body).await
    }

    /// Posts under a key of the test's choice and waits for the acknowledgement.
    ///
    /// # Errors
    /// If the connection is gone or no answer comes in time.
    ///
    /// # Panics
    /// If the answer is neither an ack nor a refusal.
    pub async fn post_as(
        &mut self,
        client_id: ClientId,
        room: RoomId,
        body: &str,
    ) -> Result<Result<Ack, WireError>, Lost> {
        let post = SendPost { n: None, client_id, room, body: body.to_owned() };
        match self.ask(Command::Post(post)).await? {
            Ok(Reply::Ack(ack)) => Ok(Ok(ack)),
            Err(refusal) => Ok(Err(refusal)),
            Ok(other) => panic!("a post was answered with {other:?}"),
        }
    }

    /// Posts many texts in order, several in flight at once, and returns where each went.
    ///
    /// # Panics
    /// If one is refused or the connection is lost.
    pub async fn post_many(&mut self, room: RoomId, bodies: impl IntoIterator<Item = String>) -> Vec<Ack> {
        let mut waiting = VecDeque::new();
        let mut acks = Vec::new();
        let mut bodies = bodies.into_iter();
        loop {
            while waiting.len() < IN_FLIGHT
                && let Some(body) = bodies.next()
            {
                let post = SendPost { n: None, client_id: new_id(), room, body };
                waiting.push_back(self.send(Command::Post(post)).await.expect("the connection stands"));
            }
            let Some(id) = waiting.pop_front() else { return acks };
            match self.answer(id).await.expect("the connection stands") {
                Ok(Reply::Ack(ack)) => acks.push(ack),
                other => panic!("a post was answered with {other:?}"),
            }
        }
    }

    /// Forgets what came and was not asked for.
    pub fn forget_inbox(&mut self) {
        self.inbox.clear();
    }

    /// Returns the next message that is not an answer somebody waited for.
    ///
    /// # Errors
    /// If the connection is gone or nothing comes in time.
    pub async fn next(&mut self, deadline: Duration) -> Result<Message, Lost> {
        match self.inbox.pop_front() {
            Some(message) => Ok(message),
            None => timeout(deadline, self.receive()).await.unwrap_or(Err(Lost::Late)),
        }
    }

    /// Reads on until a message is what the test wants, and returns what it made of it. Others are dropped.
    ///
    /// # Errors
    /// If the connection is gone or it does not come in time.
    pub async fn expect<T>(&mut self, deadline: Duration, mut want: impl FnMut(&Body) -> Option<T>) -> Result<T, Lost> {
        let waiting = async {
            loop {
                let message = match self.inbox.pop_front() {
                    Some(message) => message,
                    None => self.receive().await?,
                };
                if let Some(found) = want(&message.body) {
                    return Ok(found);
                }
            }
        };
        timeout(deadline, waiting).await.unwrap_or(Err(Lost::Late))
    }

    /// Returns the next durable change in a room. Others are dropped.
    ///
    /// # Errors
    /// If the connection is gone or none comes in time.
    pub async fn next_room_event(&mut self, deadline: Duration) -> Result<RoomEvent, Lost> {
        self.expect(deadline, |body| match body {
            Body::Event(Event::Room(event)) => Some(event.clone()),
            _ => None,
        })
        .await
    }

    /// Reads until the connection ends and says with which code. A connection that broke off counts as 1006.
    ///
    /// # Panics
    /// If it does not end within `deadline`.
    pub async fn closed_with(&mut self, deadline: Duration) -> u16 {
        match self.expect(deadline, |_| None::<()>).await {
            Err(Lost::Closed(code, _)) => code,
            Err(Lost::Broken(_)) => shared::close::ABNORMAL,
            other => panic!("the server did not close within {deadline:?}: {other:?}"),
        }
    }

    /// Closes in the ordinary way.
    pub async fn close(mut self) {
        // The peer may be gone already, which is as good.
        self.socket.close(None).await.ok();
    }

    /// Reads one message. Answers the server's beats by the way.
    async fn receive(&mut self) -> Result<Message, Lost> {
        loop {
            match self.socket.next().await {
                Some(Ok(tungstenite::Message::Text(text))) => {
                    let message = Message::parse(&text).unwrap_or_else(|bad| panic!("the server sent {text}: {bad}"));
                    if let Body::Event(Event::Beat(asked)) = message.body {
                        self.send(Command::Beat(Beat { hidden: false, answers: Some(asked.n) })).await?;
                    }
                    return Ok(message);
                }
                Some(Ok(tungstenite::Message::Close(frame))) => {
                    let CloseFrame { code, reason } = frame.unwrap_or(CloseFrame {
                        code: shared::close::NO_STATUS.into(),
                        reason: tungstenite::Utf8Bytes::default(),
                    });
                    return Err(Lost::Closed(code.into(), reason.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Lost::Broken(error.to_string())),
                None => return Err(Lost::Broken("end of stream".to_owned())),
            }
        }
    }
}

fn into_answer(body: Body) -> Result<Reply, WireError> {
    match body {
        Body::Reply(reply) => Ok(reply),
        Body::Refusal(error) => Err(error),
        Body::Command(_) | Body::Event(_) => {
            panic!("an answer is a reply or a refusal, not {body:?}")
        }
    }
}
