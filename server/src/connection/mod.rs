//! One socket, from the upgrade to its end: one task, one owner, one select over a closed enum.
//!
//! Lives here: the loop (`Connection::run`), deadlines, and how it ends. Bytes become
//! messages (`inbound`), messages become sends or requests, streams are pulled by cursor, and everything leaves through one
//! `output::Output`. Must not live here: what a request means (`requests`), order of sends (`sends`), places in
//! streams (`follow`). Invariant: nothing here waits for a peer; a peer that does not read costs what is in its output
//! and a cursor, and one that takes nothing at all is closed.
//!
//! ```text
//! Hello ──hello──▶ Greeting ──welcome──▶ Open ──any end──▶ Closing ──close answered, or time is up──▶ over
//!   └──────────────── timeout, violation, refusal ───────────▲
//! ```

pub mod bucket;
mod follow;
mod inbound;
mod liveness;
mod open;
mod output;
mod requests;
mod sends;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::close;
use shared::error::{ErrorCode, WireError};
use shared::ids::{RequestId, StreamId, UserId};
use shared::limits::PAGE_PEOPLE;
use shared::message::{
    BeatAsked, Closing, Command, Draining, Event, Heads, Message, Presence, ReadMark, Reply, Welcome,
};
use shared::model::{Head, Member, ServerInfo, UserChange, UserEvent};
use shared::time::Timestamp;
use tokio::io::Interest;
use tokio::net::TcpStream;

use self::bucket::{Bucket, Window};
use self::follow::{Follows, Page, Pull, Turned};
use self::liveness::{Action, Liveness};
use self::output::Output;
use self::requests::{Done, Job};
use self::sends::Sends;
use crate::app::{App, SocketCount};
use crate::config::ms;
use crate::delivery::{Letters, Order, Peer};
use crate::drain::Phase as ServerPhase;
use crate::log::{Applied, LogError};
use crate::people::tokens::{self, TokenHash};
use crate::ws::{Decoder, DecoderLimits, frame};

pub(crate) use requests::{free_name, renew_session};

/// Rounds of work before other tasks get their turn.
const ROUNDS: usize = 16;
/// The window in which floods are counted.
const FLOOD_WINDOW: Duration = Duration::from_secs(10);

/// Who a socket belongs to, proven at the upgrade.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The person.
    pub user: UserId,
    /// SHA-256 of the token they showed.
    pub token: TokenHash,
    /// When their session ends.
    pub expires: Timestamp,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing came yet.
    Hello { until: Instant },
    /// The hello is being answered.
    Greeting,
    /// Welcomed.
    Open,
    /// A close frame is on its way, or was answered.
    Closing { until: Instant, answered: bool },
    /// Nothing more is to be done.
    Over,
}

/// What a connection wakes for.
enum Wake {
    Ready,
    Mail,
    Done(Done),
    Sent(Result<Applied, LogError>),
    Paged(Result<Page, LogError>),
    Deadline,
}

type PageJob = Pin<Box<dyn Future<Output = Result<Page, LogError>> + Send>>;

/// A request waiting for its turn.
type Queued = (Option<RequestId>, Command);

/// One socket and everything that belongs to it.
pub struct Connection {
    app: Arc<App>,
    socket: TcpStream,
    decoder: Decoder,
    /// Bytes that were read and wait until there is room for what they ask.
    unread: Bytes,
    output: Output,
    phase: Phase,
    identity: Result<Identity, u16>,
    /// Present from the hello on.
    entered: Option<Entered>,
    sends: Sends,
    requests: VecDeque<Queued>,
    job: Option<(Option<RequestId>, Job)>,
    page: Option<PageJob>,
    liveness: Liveness,
    frames: Bucket,
    refused: Window,
    pings: Window,
    typed: Option<Instant>,
    /// Heads wait for this moment.
    heads_due: Option<Instant>,
    heads_told: Option<Instant>,
    /// When to close because the server restarts.
    drain_at: Option<Instant>,
    /// When the session must be looked at again.
    session_at: Option<Instant>,
    _count: SocketCount,
}

/// What a connection has once it said hello. Leaves every index when dropped.
struct Entered {
    app: Arc<App>,
    peer: Arc<Peer>,
    name: String,
    follows: Follows,
    catching_up: Catchup,
    presence: Announced,
}

/// Whether the client was told that it is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Catchup {
    Behind,
    Told,
}

/// Whether others count on this connection being here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announced {
    No,
    Yes,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.app.registry.leave(&self.peer);
        if self.presence == Announced::Yes {
            self.app.presence.leave(self.peer.user, Instant::now());
        }
    }
}

impl Connection {
    /// Takes over a socket after its upgrade. `unread` is what came behind the request. An identity that is a close code
    /// instead is told so and closed: a browser cannot see an HTTP status.
    #[must_use]
    pub fn new(app: Arc<App>, socket: TcpStream, unread: Bytes, identity: Result<Identity, u16>) -> Self {
        let now = Instant::now();
        let (sizes, rates, timing) = (app.config.sizes, app.config.rates, app.config.timing);
        let limits =
            DecoderLimits { message_bytes: sizes.message_bytes, fragments: sizes.message_fragments, binary: false };
        Self {
            socket,
            decoder: Decoder::new(limits),
            unread,
            output: Output::default(),
            phase: Phase::Hello { until: now + ms(timing.first_frame_timeout_ms) },
            identity,
            entered: None,
            sends: Sends::default(),
            requests: VecDeque::new(),
            job: None,
            page: None,
            liveness: Liveness::new(&timing, now),
            frames: Bucket::new(rates.frames_burst, rates.frames_per_s, now),
            refused: Window::new(rates.abuse_frames, FLOOD_WINDOW),
            pings: Window::new(rates.pings, FLOOD_WINDOW),
            typed: None,
            heads_due: None,
            heads_told: None,
            drain_at: None,
            session_at: None,
            _count: app.count_socket(),
            app,
        }
    }

    /// Runs the connection to its end.
    pub async fn run(mut self) {
        if let Err(code) = self.identity {
            self.close_with(code);
        }
        loop {
            self.work();
            if self.phase == Phase::Over {
                return;
            }
            match self.next_wake().await {
                Wake::Ready => self.read(),
                Wake::Mail => {}
                Wake::Done(done) => self.on_done(done),
                Wake::Sent(result) => {
                    if let Some(message) = self.sends.finish(result) {
                        self.say(&message);
                    }
                }
                Wake::Paged(page) => self.on_page(page),
                Wake::Deadline => self.on_deadline(Instant::now()),
            }
        }
    }

    /// Does everything that can be done without waiting.
    fn work(&mut self) {
        for _ in 0..ROUNDS {
            let now = Instant::now();
            self.decode(now);
            self.take_letters(now);
            self.start_jobs(now);
            self.end_if_drained(now);
            let pulled = self.pull();
            let had_output = !self.output.is_empty();
            if self.output.write(&self.socket, now).is_err() {
                self.phase = Phase::Over;
            }
            self.end_if_closed();
            // What was in the way of the streams may be gone now.
            let is_free = had_output && self.output.is_empty();
            if !(pulled || is_free) || self.phase == Phase::Over {
                return;
            }
        }
        // More to do: come back after the others.
        if let Some(entered) = &self.entered {
            entered.peer.mailbox.wake();
        }
    }

    async fn next_wake(&mut self) -> Wake {
        let deadline = self.deadline();
        let interest = match (self.wants_to_read(), self.output.is_empty()) {
            (true, true) => Some(Interest::READABLE),
            (true, false) => Some(Interest::READABLE | Interest::WRITABLE),
            (false, false) => Some(Interest::WRITABLE),
            (false, true) => None,
        };
        let Self { socket, entered, job, sends, page, .. } = self;
        let ready = async {
            match interest {
                // An error shows again at the read or write that follows.
                Some(interest) => drop(socket.ready(interest).await),
                None => std::future::pending().await,
            }
        };
        let mail = async {
            match entered {
                Some(entered) => entered.peer.mailbox.woken().await,
                None => std::future::pending().await,
            }
        };
        let has_send = sends.is_in_flight();
        tokio::select! {
            () = ready => Wake::Ready,
            () = mail => Wake::Mail,
            done = poll_fn(|context| match job {
                Some((_, job)) => job.as_mut().poll(context),
                None => std::task::Poll::Pending,
            }) => Wake::Done(done),
            result = sends.answered(), if has_send => Wake::Sent(result),
            read = poll_fn(|context| match page {
                Some(page) => page.as_mut().poll(context),
                None => std::task::Poll::Pending,
            }) => Wake::Paged(read),
            () = tokio::time::sleep_until(deadline.into()) => Wake::Deadline,
        }
    }

    /// Queues a message for the peer.
    fn say(&mut self, message: &Message) {
        self.output.push(frame::text(&message.to_json()));
    }

    fn tell(&mut self, event: Event) {
        self.say(&Message::event(event));
    }

    // ---- streams -----------------------------------------------------------------------------------------------

    /// Moves what comes next into an empty output. Returns whether anything moved.
    fn pull(&mut self) -> bool {
        if self.phase != Phase::Open || !self.output.is_empty() {
            return false;
        }
        let Some(entered) = &mut self.entered else { return false };
        let output = &mut self.output;
        let took = match entered.follows.pull(|frame| output.push(frame)) {
            Pull::Nothing => false,
            Pull::Took => true,
            Pull::Read(ask) if self.page.is_none() => {
                let (app, peer) = (Arc::clone(&self.app), Arc::clone(&entered.peer));
                self.page = Some(Box::pin(follow::read_page(app, peer, ask)));
                false
            }
            // One page at a time; the stream is asked again when this one is turned.
            Pull::Read(ask) => {
                entered.follows.give_back(&ask);
                false
            }
        };
        self.tell_live();
        took
    }

    fn tell_live(&mut self) {
        if let Some(entered) = &mut self.entered
            && entered.catching_up == Catchup::Behind
            && entered.follows.are_goals_reached()
        {
            entered.catching_up = Catchup::Told;
            self.tell(Event::Live(shared::message::Live {}));
        }
    }

    fn on_page(&mut self, page: Result<Page, LogError>) {
        self.page = None;
        let Some(entered) = &mut self.entered else { return };
        if self.phase != Phase::Open {
            return;
        }
        let Ok(page) = page else {
            self.close_with(close::SERVER_ERROR);
            return;
        };
        match entered.follows.turn_page(page) {
            Turned::Stale => {}
            Turned::Frames(frames) => frames.into_iter().for_each(|frame| self.output.push(frame)),
            Turned::User(events) => events.into_iter().for_each(|event| self.on_user_event(event)),
            Turned::Jumped(plan) => self.tell(Event::Opened(plan.opened)),
            Turned::Missing => {
                tracing::error!("the log does not hold an event below its own head");
                self.close_with(close::SERVER_ERROR);
            }
        }
        self.tell_live();
    }

    /// Acts on a change in what is the person's own, and passes it on.
    fn on_user_event(&mut self, event: UserEvent) {
        let Some(entered) = &mut self.entered else { return };
        let (presence, user) = (&self.app.presence, entered.peer.user);
        match &event.change {
            UserChange::RoomAdded(added) => {
                entered.follows.set_member(added.room, true);
                presence.set_member(user, added.room, true);
            }
            UserChange::RoomRemoved(removed) => {
                entered.follows.set_member(removed.room, false);
                presence.set_member(user, removed.room, false);
            }
            UserChange::Named(named) => {
                entered.name.clone_from(&named.name);
                presence.rename(user, &named.name);
            }
            UserChange::Unknown(_) => {}
        }
        self.output.push(crate::delivery::user_frame(&event));
    }

    // ---- others' news ------------------------------------------------------------------------------------------

    fn take_letters(&mut self, now: Instant) {
        let Some(entered) = &self.entered else { return };
        let heads_due = self.heads_told.is_none_or(|told| now >= told + ms(self.app.config.timing.coalesce_ms));
        let (letters, left) = entered.peer.mailbox.take(heads_due);
        if left && self.heads_due.is_none() {
            self.heads_due = self.heads_told.map(|told| told + ms(self.app.config.timing.coalesce_ms));
        } else if !left {
            self.heads_due = None;
        }
        let Letters { heads, presence, typing, reads, order } = letters;
        match order {
            Some(Order::Close(code)) => return self.close_with(code),
            Some(Order::Drain { reconnect_after_ms, close_after_ms }) if self.drain_at.is_none() => {
                self.drain_at = Some(now + ms(close_after_ms));
                self.tell(Event::Draining(Draining { reconnect_after_ms }));
            }
            Some(Order::Drain { .. }) | None => {}
        }
        if self.phase != Phase::Open {
            return;
        }
        // What is ephemeral is shed first when the peer does not keep up.
        if self.output.bytes() <= follow::BURST_BYTES {
            typing.into_iter().for_each(|frame| self.output.push(frame));
        }
        for (room, posts) in reads {
            self.tell(Event::Read(ReadMark { room, posts }));
        }
        let changes: Vec<Member> = presence.into_values().collect();
        for changes in changes.chunks(PAGE_PEOPLE) {
            self.tell(Event::Presence(Presence { changes: changes.to_vec() }));
        }
        let heads: Vec<Head> = match &self.entered {
            Some(entered) => heads.into_values().filter(|head| !entered.follows.is_open(head.room)).collect(),
            None => Vec::new(),
        };
        if !heads.is_empty() {
            self.heads_told = Some(now);
            self.tell(Event::Heads(Heads { heads }));
        }
    }

    // ---- requests ----------------------------------------------------------------------------------------------

    fn start_jobs(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Greeting | Phase::Open) {
            return;
        }
        let Some(entered) = &mut self.entered else { return };
        let mut answers = Vec::new();
        self.sends.start(&self.app, &entered.peer, now, |message| answers.push(message));
        while self.job.is_none() {
            let Some((id, command)) = self.requests.pop_front() else { break };
            if let Command::Shut(shut) = command {
                entered.follows.stop(StreamId::Room(shut.room));
                answers.push(Message::reply(id, Reply::Done(shared::model::Empty {})));
                continue;
            }
            if let Command::Open(ask) = &command {
                let room = StreamId::Room(ask.room);
                if !entered.follows.is_open(ask.room) && entered.follows.open_rooms() >= shared::limits::OPEN_ROOMS {
                    let words = format!("At most {} rooms can be open at once.", shared::limits::OPEN_ROOMS);
                    answers.push(Message::refusal(id, WireError::new(ErrorCode::LimitReached, words)));
                    continue;
                }
                // Subscribe first, read second: what comes between is found twice and not missed.
                entered.follows.begin(room, ask.replay);
            }
            self.job = Some((id, requests::start(&self.app, &entered.peer, command)));
        }
        answers.iter().for_each(|message| self.say(message));
    }

    fn on_done(&mut self, done: Done) {
        let Some((id, _)) = self.job.take() else { return };
        match done {
            Done::Answer(Ok(reply)) => self.say(&Message::reply(id, reply)),
            Done::Answer(Err(error)) => {
                let greeting = self.phase == Phase::Greeting;
                self.say(&Message::refusal(id, error));
                if greeting {
                    self.close_keeping(close::SERVER_ERROR);
                }
            }
            Done::Quiet(Ok(())) => {}
            Done::Quiet(Err(error)) => self.say(&Message::refusal(id, error)),
            Done::Greeted(hello, Some(greeting)) => self.welcome(id, &hello, *greeting),
            Done::Greeted(_, None) => self.close_with(close::SESSION_REVOKED),
            Done::Opened(ask, plan) => {
                self.say(&Message::reply(id, Reply::Opened(plan.opened)));
                self.follow_from(StreamId::Room(ask.room), plan.from, plan.head, None);
            }
            Done::Session(Some(expires)) if expires > tokens::wall_clock() => self.session_lasts_until(expires),
            Done::Session(_) => self.close_with(close::SESSION_EXPIRED),
            Done::Unknown => {}
        }
    }

    fn follow_from(
        &mut self,
        id: StreamId,
        from: Option<shared::ids::Seq>,
        head: shared::ids::Seq,
        goal: Option<shared::ids::Seq>,
    ) {
        let Some(entered) = &mut self.entered else { return };
        match from {
            Some(from) => entered.follows.start(id, from, head, goal),
            None => entered.follows.stop(id),
        }
    }

    fn welcome(&mut self, id: Option<RequestId>, hello: &shared::message::Hello, greeting: open::Greeting) {
        let Some(entered) = &mut self.entered else { return };
        let (app, user) = (Arc::clone(&self.app), entered.peer.user);
        entered.name.clone_from(&greeting.you.name);
        entered.follows.set_members(greeting.members.iter().copied());
        app.presence.enter(user, &greeting.you.name, greeting.members);
        entered.presence = Announced::Yes;
        let welcome = Welcome {
            protocol: hello.protocol.min(shared::limits::PROTOCOL_VERSION),
            server: ServerInfo { epoch: greeting.epoch, build: app.build().to_owned(), lsn: greeting.lsn },
            connection: entered.peer.connection,
            you: greeting.you,
            now: tokens::wall_clock(),
            heartbeat: app.config.heartbeat(),
            reconnect_spread_ms: app.config.reconnect_spread_ms(app.sockets()),
            limits: app.config.wire_limits(),
            draining: app.drain.phase() != ServerPhase::Serving,
            user: greeting.user,
            user_recovered: greeting.user_from.is_some(),
            rooms_complete: greeting.rooms_complete,
            rooms: greeting.rooms,
        };
        self.phase = Phase::Open;
        self.say(&Message::reply(id, Reply::Welcome(Box::new(welcome))));
        let head = greeting.user.seq;
        self.follow_from(StreamId::User(user), Some(greeting.user_from.unwrap_or(head)), head, Some(head));
        for plan in greeting.plans {
            let room = StreamId::Room(plan.opened.room);
            self.tell(Event::Opened(plan.opened));
            self.follow_from(room, plan.from, plan.head, Some(plan.head));
        }
        if let Ok(identity) = self.identity {
            self.session_lasts_until(identity.expires);
        }
        self.tell_live();
    }

    /// Plans to look at the session when half of its life is over, or when it ends.
    fn session_lasts_until(&mut self, expires: Timestamp) {
        let left = expires.since(tokens::wall_clock());
        let half = self.app.config.timing.session_ms / 2;
        let wait = if left > half { left - half } else { left };
        self.session_at = Some(Instant::now() + ms(wait.saturating_add(1)));
    }

    // ---- deadlines ---------------------------------------------------------------------------------------------

    fn deadline(&self) -> Instant {
        let slow = self.output.stalled_since().map(|since| since + ms(self.app.config.timing.slow_timeout_ms));
        let phase = match self.phase {
            Phase::Closing { until, .. } => return until,
            Phase::Hello { until } => until,
            Phase::Greeting | Phase::Open | Phase::Over => self.liveness.deadline(),
        };
        let drain = self.drain_at.filter(|_| !self.is_drain_due(Instant::now()));
        let session = self.session_at.filter(|_| self.job.is_none());
        [slow, drain, session, self.heads_due].into_iter().flatten().fold(phase, Instant::min)
    }

    fn on_deadline(&mut self, now: Instant) {
        match self.phase {
            Phase::Hello { until } if now >= until => return self.close_with(close::HELLO_TIMEOUT),
            Phase::Closing { until, .. } if now >= until => {
                self.phase = Phase::Over;
                return;
            }
            Phase::Over | Phase::Closing { .. } => return,
            Phase::Hello { .. } | Phase::Greeting | Phase::Open => {}
        }
        let slow = ms(self.app.config.timing.slow_timeout_ms);
        if self.output.stalled_since().is_some_and(|since| now >= since + slow) {
            return self.close_with(close::SLOW);
        }
        if matches!(self.phase, Phase::Greeting | Phase::Open) {
            // What came while this process was held up counts as heard in time.
            self.read();
            if !self.wants_to_read() {
                // Whoever is not listened to is not silent.
                self.liveness.heard(now);
            }
            match self.liveness.act(now) {
                Action::Wait => {}
                Action::Ask(n) => {
                    self.tell(Event::Beat(BeatAsked { n }));
                    self.output.push(frame::ping(&n.to_be_bytes()));
                }
                Action::Dead => return self.close_with(close::NO_HEARTBEAT),
            }
        }
        if self.session_at.is_some_and(|at| now >= at)
            && self.job.is_none()
            && let Some(entered) = &self.entered
        {
            // Looked at again a little later should this attempt come to nothing.
            self.session_at = Some(now + SESSION_AGAIN);
            self.job = Some((None, requests::renew(&self.app, &entered.peer)));
        }
    }

    // ---- the end -----------------------------------------------------------------------------------------------

    fn is_drain_due(&self, now: Instant) -> bool {
        self.drain_at.is_some_and(|at| now >= at)
    }

    fn end_if_drained(&mut self, now: Instant) {
        if self.is_drain_due(now) && self.sends.is_idle() && self.job.is_none() && self.requests.is_empty() {
            self.close_with(close::RESTART);
        }
    }

    /// Closes with a code of the registry, in its words.
    fn close_with(&mut self, code: u16) {
        let words = close::lookup(code).map_or("", |meaning| meaning.words);
        self.close(code, words);
    }

    /// Says why in-band, since proxies turn closes into 1006, then closes.
    fn close(&mut self, code: u16, reason: &str) {
        if matches!(self.phase, Phase::Closing { .. } | Phase::Over) {
            return;
        }
        tracing::debug!(code, reason, user = self.user_for_logs(), "closing a connection");
        if !matches!(code, close::RESTART | close::STORAGE_STOPPED) {
            // What waits would come again after a resume, and whoever was shown out gets nothing more.
            self.output.cut();
        }
        self.tell(Event::Closing(Closing { code, reason: reason.to_owned() }));
        self.output.push(frame::close(code, reason));
        self.begin_closing(false);
    }

    fn begin_closing(&mut self, answered: bool) {
        let until = Instant::now() + ms(self.app.config.timing.close_wait_ms);
        self.phase = Phase::Closing { until, answered };
        self.entered = None;
        self.job = None;
        self.page = None;
        self.requests.clear();
        self.sends = Sends::default();
        self.heads_due = None;
    }

    fn end_if_closed(&mut self) {
        if let Phase::Closing { answered: true, .. } = self.phase
            && self.output.is_empty()
        {
            self.phase = Phase::Over;
        }
    }

    fn user_for_logs(&self) -> String {
        self.identity.as_ref().map_or_else(|_| String::new(), |identity| identity.user.to_string())
    }
}

/// How long to wait before a session that could not be renewed is looked at again.
const SESSION_AGAIN: Duration = Duration::from_secs(30);
