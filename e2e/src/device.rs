//! A person's device without a screen: the real [`Session`] on a real socket, with a disk that survives its crash.
//!
//! Must not live here: any decision of the session's. Invariant: what was shown is kept as it was shown, with what came
//! twice or out of order, so that a test can judge it afterwards.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use shared::close;
use shared::ids::{AttemptId, ClientId, RoomId, SessionId};
use shared::model::{OpenOutcome, Post, RoomChange};
use shared::session::{
    Command, ConnectionState, Input, OutboxItem, Output, Persist, SendOp, Session, SessionConfig, SessionEvent,
};
use shared::time::Timestamp;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Error as SocketError};

use crate::client::{new_id, now};
use crate::http::SignedIn;
use crate::wait;

/// Messages on their way to one socket. A browser buffers as much.
const OUTGOING: usize = 4_096;
/// Commands and socket events on their way to the session.
const INCOMING: usize = 4_096;
/// What one socket reads at once; thousands of devices fit into one process.
const READ_BYTES: usize = 8 * 1024;
/// How long a socket may take to open before the device calls the attempt failed.
const DIAL_DEADLINE: Duration = Duration::from_secs(15);

/// A post as it was shown when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its place.
    pub seq: u64,
    /// Its key.
    pub key: ClientId,
    /// Its text.
    pub body: String,
}

/// Everything a device has shown and kept.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The state now.
    pub state: Option<ConnectionState>,
    /// Every state there was, in order.
    pub states: Vec<ConnectionState>,
    /// Posts by place.
    pub shown: BTreeMap<u64, Shown>,
    /// What must never happen: an event that came twice or out of order, a place with two contents.
    pub faults: Vec<String>,
    /// Acknowledged keys and their places, in the order the acks came.
    pub acked: Vec<(ClientId, u64)>,
    /// Posts the session has taken into its outbox.
    pub taken: usize,
    /// What lies in the device's outbox on disk.
    pub disk: BTreeMap<ClientId, OutboxItem>,
    /// Posts that lie in holes, as told.
    pub holes: u64,
    /// How often a room started over, with the reasons.
    pub resets: Vec<String>,
    /// What happened to the connection, for the report of a failed test.
    pub happened: Vec<String>,
    /// The last change of the room that was seen.
    pub last_event: u64,
    /// When a socket was asked for, each time.
    pub tried: Vec<Instant>,
    /// When an upgrade was accepted, each time.
    pub opened: Vec<Instant>,
    /// How many attempts have ended.
    pub closed: usize,
    /// How many beats were answered.
    pub beats: usize,
}

/// How a device is switched on, beyond where and as whom.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Which running client it is: the second of two supersedes the first.
    pub session: SessionId,
    /// Whether its sockets are reset when it crashes, as by a machine that restarts, and not closed by the kernel.
    pub resets: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { session: SessionId(new_id().0), resets: false }
    }
}

impl Seen {
    fn show(&mut self, shown: Shown) {
        if let Some(before) = self.shown.insert(shown.seq, shown.clone())
            && before.key != shown.key
        {
            self.faults.push(format!("place {} first held {before:?}, then {shown:?}", shown.seq));
        }
    }

    fn show_snapshot(&mut self, as_of: u64, posts: &[Post]) {
        for post in posts {
            let body = post.body.clone().unwrap_or_default();
            self.show(Shown { seq: post.seq.0, key: post.client_id, body });
        }
        self.last_event = as_of;
    }

    fn note(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::State(state) => {
                self.state = Some(state.clone());
                self.states.push(state.clone());
            }
            SessionEvent::Room(event) => {
                if event.seq.0 != self.last_event + 1 {
                    self.faults.push(format!("event {} came after {}", event.seq, self.last_event));
                }
                self.last_event = event.seq.0;
                if let RoomChange::Posted(posted) = &event.change {
                    let body = posted.body.clone().unwrap_or_default();
                    self.show(Shown { seq: event.seq.0, key: posted.client_id, body });
                }
            }
            SessionEvent::Opened(opened) => match &opened.outcome {
                OpenOutcome::Recovered { .. } => {}
                OpenOutcome::Fresh { snapshot } => self.show_snapshot(snapshot.as_of.seq.0, &snapshot.posts),
                OpenOutcome::Jumped { snapshot, hole } => {
                    self.holes += hole;
                    self.show_snapshot(snapshot.as_of.seq.0, &snapshot.posts);
                }
                OpenOutcome::Reset { reason, snapshot } => {
                    self.resets.push(format!("{reason:?}"));
                    self.shown.clear();
                    self.show_snapshot(snapshot.as_of.seq.0, &snapshot.posts);
                }
                OpenOutcome::Refused { error } => self.faults.push(format!("the room was refused: {error}")),
            },
            SessionEvent::Diagnostic(line) => self.happened.push(format!("{} ms: {:?}", line.at.0, line.what)),
            SessionEvent::RoundTrip { .. } => self.beats += 1,
            SessionEvent::Acked(ack) => self.acked.push((ack.client_id, ack.seq.0)),
            _ => {}
        }
    }
}

/// The device while it runs.
#[derive(Debug)]
pub struct Device {
    inputs: mpsc::Sender<Input>,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
    room: RoomId,
    posted: AtomicUsize,
}

impl Device {
    /// Switches it on before a server (or a proxy), with what its disk holds, and follows a room.
    #[must_use]
    pub fn start(address: SocketAddr, who: &SignedIn, room: RoomId, disk: BTreeMap<ClientId, OutboxItem>) -> Self {
        Self::start_as(Manner::default(), address, who, room, disk)
    }

    /// As [`Self::start`], in a manner of the test's choice.
    #[must_use]
    pub fn start_as(
        manner: Manner,
        address: SocketAddr,
        who: &SignedIn,
        room: RoomId,
        disk: BTreeMap<ClientId, OutboxItem>,
    ) -> Self {
        let (inputs, incoming) = mpsc::channel(INCOMING);
        let seed = u64::from_le_bytes(new_id().as_bytes()[8..].try_into().expect("eight bytes"));
        let config = SessionConfig {
            client: "e2e-device".to_owned(),
            session: manner.session,
            user: who.user.id,
            seed,
            hidden: false,
            online: true,
        };
        let items = disk.values().cloned().collect();
        let seen = Arc::new(Mutex::new(Seen { disk, ..Seen::default() }));
        let driver = Driver {
            session: Session::new(config),
            address,
            token: who.token.clone(),
            resets: manner.resets,
            origin: Instant::now(),
            inputs: inputs.clone(),
            sockets: BTreeMap::new(),
            tasks: JoinSet::new(),
            seen: Arc::clone(&seen),
        };
        let start = [
            Input::Restored { items },
            Input::Command(Command::Open { room, cursor: None, replay: false }),
            Input::Command(Command::Start),
        ];
        let task = tokio::spawn(driver.run(start, incoming));
        Self { inputs, seen, task, room, posted: AtomicUsize::new(0) }
    }

    /// Queues a post and returns its key.
    ///
    /// # Panics
    /// If the device is off.
    pub async fn post(&self, body: &str) -> ClientId {
        let client_id = new_id();
        let op = SendOp::Post { body: body.to_owned() };
        self.posted.fetch_add(1, Ordering::Relaxed);
        self.tell(Input::Command(Command::Send { client_id, room: self.room, op, at: now() })).await;
        client_id
    }

    /// Returns the room it follows.
    #[must_use]
    pub fn room(&self) -> RoomId {
        self.room
    }

    /// Tells the session something.
    ///
    /// # Panics
    /// If the device is off.
    pub async fn tell(&self, input: Input) {
        self.inputs.send(input).await.expect("the device is on");
    }

    /// Returns what it has shown and kept so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Looks at what it has shown and kept, without copying it.
    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&lock(&self.seen))
    }

    /// Waits until what it has shown and kept is as wanted.
    pub async fn wait(&self, what: &str, deadline: Duration, good: impl Fn(&Seen) -> bool) {
        // The words are made only where they will be read: what happened in a long test is long.
        let look = || self.look(|seen| if good(seen) { None } else { Some(SummaryOf(&self.seen)) });
        wait::while_some(what, deadline, look).await;
    }

    /// Waits until everything it was told to post is acknowledged.
    pub async fn wait_settled(&self, deadline: Duration) {
        // Until the session has taken a post, an empty outbox says nothing of it.
        let posted = self.posted.load(Ordering::Relaxed);
        let settled = |seen: &Seen| seen.taken >= posted && seen.disk.is_empty();
        self.wait("everything it sent is acknowledged", deadline, settled).await;
    }

    /// Waits until it claims to be live.
    pub async fn wait_live(&self, deadline: Duration) {
        self.wait("the device is live", deadline, |seen| seen.state == Some(ConnectionState::Live)).await;
    }

    /// Ends it as a crash does: nothing more is written, its sockets break. Returns what its disk holds.
    pub async fn crash(self) -> Seen {
        self.task.abort();
        // Cancelled, as was asked.
        self.task.await.ok();
        lock(&self.seen).clone()
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a failed wait shows of a device.
struct SummaryOf<'a>(&'a Mutex<Seen>);

impl std::fmt::Debug for SummaryOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&summary(&lock(self.0)))
    }
}

fn summary(seen: &Seen) -> String {
    format!(
        "{:?}, {} posts up to {:?}, {} acks, {} unsent, {} faults; {:#?}",
        seen.state,
        seen.shown.len(),
        seen.shown.keys().next_back(),
        seen.acked.len(),
        seen.disk.len(),
        seen.faults.len(),
        seen.happened
    )
}

/// The only owner of the session.
struct Driver {
    session: Session,
    address: SocketAddr,
    token: String,
    resets: bool,
    origin: Instant,
    inputs: mpsc::Sender<Input>,
    sockets: BTreeMap<AttemptId, mpsc::Sender<Outgoing>>,
    tasks: JoinSet<()>,
    seen: Arc<Mutex<Seen>>,
}

enum Outgoing {
    Text(String),
    Close(u16, &'static str),
}

impl Driver {
    async fn run(mut self, start: impl IntoIterator<Item = Input>, mut incoming: mpsc::Receiver<Input>) {
        for input in start {
            self.handle(input);
        }
        loop {
            let due = self.session.next_deadline().map(|(at, _)| self.origin + Duration::from_millis(at.0));
            let input = tokio::select! {
                input = incoming.recv() => match input {
                    Some(input) => input,
                    None => return,
                },
                () = sleep_until(due.unwrap_or(self.origin).into()), if due.is_some() => Input::DeadlineReached,
            };
            self.handle(input);
        }
    }

    /// Feeds one input and whatever follows from it at once.
    fn handle(&mut self, input: Input) {
        let mut todo = vec![input];
        while let Some(input) = todo.pop() {
            match input {
                Input::Opened { .. } => lock(&self.seen).opened.push(Instant::now()),
                Input::Closed { .. } => lock(&self.seen).closed += 1,
                _ => {}
            }
            let at = Timestamp(u64::try_from(self.origin.elapsed().as_millis()).expect("a short test"));
            for output in self.session.handle(input, at) {
                match output {
                    Output::Open { attempt } => self.open(attempt),
                    Output::Send { attempt, text } => self.write(attempt, Outgoing::Text(text)),
                    Output::Close { attempt, code, reason } => {
                        self.write(attempt, Outgoing::Close(code, reason));
                        self.sockets.remove(&attempt);
                    }
                    Output::Persist { serial, change } => {
                        let mut seen = lock(&self.seen);
                        match change {
                            Persist::Put(item) => {
                                if seen.disk.insert(item.client_id, item).is_none() {
                                    seen.taken += 1;
                                }
                            }
                            Persist::Remove(key) => drop(seen.disk.remove(&key)),
                        }
                        drop(seen);
                        todo.push(Input::Persisted { serial, ok: true });
                    }
                    Output::Event(event) => lock(&self.seen).note(&event),
                }
            }
        }
    }

    /// A full queue means a socket that has stood still for thousands of messages; the session's deadlines judge it.
    fn write(&self, attempt: AttemptId, what: Outgoing) {
        if let Some(socket) = self.sockets.get(&attempt) {
            socket.try_send(what).ok();
        }
    }

    fn open(&mut self, attempt: AttemptId) {
        lock(&self.seen).tried.push(Instant::now());
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        self.sockets.insert(attempt, outgoing);
        let way = Way { address: self.address, token: self.token.clone(), resets: self.resets };
        self.tasks.spawn(serve(attempt, way, queue, self.inputs.clone()));
        // What ended is forgotten, or a long test would keep every socket there ever was.
        while self.tasks.try_join_next().is_some() {}
    }
}

/// Lives as long as one socket and ends by telling how it closed.
async fn serve(attempt: AttemptId, way: Way, mut queue: mpsc::Receiver<Outgoing>, inputs: mpsc::Sender<Input>) {
    let (code, reason) = converse(attempt, &way, &mut queue, &inputs).await;
    // Fails only where the device was switched off.
    inputs.send(Input::Closed { attempt, code, reason }).await.ok();
}

type Ended = (u16, String);

fn small() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(READ_BYTES)
}

/// How a socket is opened.
struct Way {
    address: SocketAddr,
    token: String,
    resets: bool,
}

async fn converse(
    attempt: AttemptId,
    Way { address, token, resets }: &Way,
    queue: &mut mpsc::Receiver<Outgoing>,
    inputs: &mpsc::Sender<Input>,
) -> Ended {
    let broken = |error: &dyn std::fmt::Display| (close::ABNORMAL, error.to_string());
    let mut request = format!("ws://{address}/ws").into_client_request().expect("an address makes an URL");
    request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().expect("a token is visible ASCII"));
    let dial = async {
        let stream = TcpStream::connect(address).await.map_err(|error| broken(&error))?;
        if *resets {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).map_err(|error| broken(&error))?;
        }
        match client_async_with_config(request, stream, Some(small())).await {
            Ok((socket, _)) => Ok(socket),
            Err(SocketError::Http(answer)) if answer.status() == 401 => Err((close::SESSION_EXPIRED, "401".to_owned())),
            Err(error) => Err(broken(&error)),
        }
    };
    let mut socket = match timeout(DIAL_DEADLINE, dial).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(ended)) => return ended,
        Err(late) => return broken(&late),
    };
    inputs.send(Input::Opened { attempt }).await.ok();
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(tungstenite::Message::Text(text))) => {
                    inputs.send(Input::Received { attempt, text: text.to_string() }).await.ok();
                }
                Some(Ok(tungstenite::Message::Close(frame))) => {
                    let said = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                    return said.unwrap_or((close::NO_STATUS, String::new()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return broken(&error),
                None => return broken(&"end of stream"),
            },
            what = queue.recv() => match what {
                Some(Outgoing::Text(text)) => {
                    if let Err(error) = socket.send(tungstenite::Message::text(text)).await {
                        return broken(&error);
                    }
                }
                Some(Outgoing::Close(code, reason)) => {
                    let frame = tungstenite::protocol::CloseFrame { code: code.into(), reason: reason.into() };
                    socket.close(Some(frame)).await.ok();
                    return (code, reason.to_owned());
                }
                None => return (close::NORMAL, String::new()),
            },
        }
    }
}
