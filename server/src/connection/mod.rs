//! One socket, from the upgrade to its end: one task, one owner, and one place that looks for what has come.
//!
//! Lives here: the loop (`Connection::run`, polled by hand, or `Connection::step` for whoever keeps the time), and the way
//! of a request. Bytes become messages (`inbound`), messages become sends or requests, streams are pulled by cursor
//! (`streams`), and everything leaves through one [`Outlet`] until the end (`lifetime`). Must not live here: what a request
//! means (`requests`), order of sends (`sends`), places in streams (`follow`). Invariant: nothing here waits for a peer; a
//! peer that does not read costs what is in its output and a cursor, and one that takes nothing at all is closed.
//!
//! ```text
//! Hello ──hello──▶ Greeting ──welcome──▶ Open ──any end──▶ Closing ──close answered, or time is up──▶ over
//!   └──────────────── timeout, violation, refusal ───────────▲
//! ```

pub mod bucket;
mod follow;
mod greeting;
mod inbound;
mod lifetime;
mod liveness;
mod open;
mod requests;
mod sends;
mod streams;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::close;
use shared::error::{ErrorCode, WireError};
use shared::ids::{RequestId, Seq, StreamId, UserId};
use shared::message::{Command, Event, Message, Reply};
use shared::time::Timestamp;
use tokio::net::TcpStream;

use self::bucket::{Bucket, Window};
use self::follow::{Follows, Found};
use self::liveness::Liveness;
use self::requests::{Done, Job};
use self::sends::Sends;
use crate::app::{App, SocketCount};
use crate::config::ms;
use crate::delivery::{Outlet, Peer};
use crate::log::{Applied, LogError};
use crate::people::tokens::TokenHash;
use crate::socket::Socket;
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

/// Whose a socket is, as far as that must still be known.
#[derive(Clone, Debug)]
enum Whose {
    /// Who they said they are, until they are welcomed.
    Shown(Box<Identity>),
    /// Nobody's that may come in: the code to close it with.
    Refused(u16),
    /// This person's. What was shown is with the [`Peer`].
    Known(UserId),
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
    Found(Result<Found, LogError>),
    Deadline,
}

/// What [`Connection::step`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing more until then, unless something comes.
    Until(Instant),
    /// The connection is over; drop it.
    Over,
}

type PageJob = Pin<Box<dyn Future<Output = Result<Found, LogError>> + Send>>;

/// A request waiting for its turn.
type Queued = (Option<RequestId>, Command);

/// One socket and everything that belongs to it.
pub struct Connection<S = TcpStream> {
    app: Arc<App>,
    socket: Arc<S>,
    decoder: Decoder,
    /// Bytes that were read and wait until there is room for what they ask.
    unread: Box<[u8]>,
    outlet: Arc<Outlet>,
    /// Nothing more will be written, and the peer was told so.
    is_finished: bool,
    phase: Phase,
    whose: Whose,
    /// Present from the hello on.
    entered: Option<Entered>,
    sends: Sends,
    requests: VecDeque<Queued>,
    job: Option<(Option<RequestId>, Job)>,
    page: Option<PageJob>,
    liveness: Liveness,
    frames: Bucket,
    /// Made when the first comes: most peers never ping, and are never too fast.
    floods: Option<Box<Floods>>,
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

/// What comes of one peer that should be rare.
struct Floods {
    /// Messages beyond the rate.
    refused: Window,
    /// Pings and pongs.
    pings: Window,
}

/// What a connection has once it said hello. Leaves every index when dropped.
struct Entered {
    app: Arc<App>,
    peer: Arc<Peer>,
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
            self.app.presence.leave(self.peer.user, self.app.ambient.now());
        }
    }
}

impl<S: Socket> Connection<S> {
    /// Takes over a socket after its upgrade. `unread` is what came behind the request. An identity that is a close code
    /// instead is told so and closed: a browser cannot see an HTTP status.
    #[must_use]
    pub fn new(app: Arc<App>, socket: S, unread: Bytes, identity: Result<Identity, u16>) -> Self {
        let now = app.ambient.now();
        let (sizes, rates, timing) = (app.config.sizes, app.config.rates, app.config.timing);
        let socket = Arc::new(socket);
        let outlet = Arc::new(Outlet::new(Arc::clone(&socket) as Arc<dyn Socket>));
        let limits =
            DecoderLimits { message_bytes: sizes.message_bytes, fragments: sizes.message_fragments, binary: false };
        Self {
            socket,
            decoder: Decoder::new(limits),
            unread: Box::from(&*unread),
            outlet,
            is_finished: false,
            phase: Phase::Hello { until: now + ms(timing.first_frame_timeout_ms) },
            whose: identity.map_or_else(Whose::Refused, |identity| Whose::Shown(Box::new(identity))),
            entered: None,
            sends: Sends::default(),
            requests: VecDeque::new(),
            job: None,
            page: None,
            liveness: Liveness::new(now),
            frames: Bucket::new(rates.frames_burst, rates.frames_per_s, now),
            floods: None,
            typed: None,
            heads_due: None,
            heads_told: None,
            drain_at: None,
            session_at: None,
            _count: app.count_socket(),
            app,
        }
    }

    /// Does what there is cause for by now, as [`Connection::run`] does between two waits, and says until when there is
    /// nothing more to do unless something comes. For whoever keeps the time themselves.
    pub fn step(&mut self) -> Step {
        let mut context = Context::from_waker(Waker::noop());
        if matches!(self.phase, Phase::Hello { .. }) || !self.outlet.lock().is_empty() {
            self.work();
        }
        loop {
            if self.phase == Phase::Over {
                return Step::Over;
            }
            let now = self.app.ambient.now();
            if let Poll::Ready(wake) = self.poll_wake(&mut context) {
                self.on_wake(wake, now);
            } else if self.read(now) {
                // Decoded as it was read.
            } else if self.deadline(now) <= now {
                self.on_deadline(now);
            } else {
                return Step::Until(self.deadline(now));
            }
            self.work();
        }
    }

    fn on_wake(&mut self, wake: Wake, now: Instant) {
        match wake {
            Wake::Ready => drop(self.read(now)),
            Wake::Mail => {}
            Wake::Done(done) => self.on_done(done),
            Wake::Sent(result) => {
                if let Some(message) = self.sends.finish(result) {
                    self.say(&message);
                }
            }
            Wake::Found(found) => self.on_found(found),
            Wake::Deadline => self.on_deadline(now),
        }
    }

    /// Does what can be done without waiting. Returns whether there is more, which others have their turn before.
    fn work(&mut self) -> bool {
        if let (Phase::Hello { .. }, &Whose::Refused(code)) = (self.phase, &self.whose) {
            self.close_with(code);
        }
        for _ in 0..ROUNDS {
            let now = self.app.ambient.now();
            self.decode(now);
            self.take_letters(now);
            self.start_jobs(now);
            self.end_if_drained(now);
            let pulled = self.pull();
            let mut out = self.outlet.lock();
            let had_output = !out.is_empty();
            if out.write(now).is_err() {
                self.phase = Phase::Over;
            }
            // What was in the way of the streams may be gone now.
            let is_free = had_output && out.is_empty();
            drop(out);
            self.end_if_closed();
            if !(pulled || is_free) || self.phase == Phase::Over {
                return false;
            }
        }
        if let Some(entered) = &self.entered {
            entered.peer.mailbox.wake();
        }
        true
    }

    /// Looks whether anything but the socket and the time has come. News that are there are written before an answer that
    /// may be about them: whoever leaves hears of it, then that it is done. Most news are walked around and do not come
    /// this way.
    fn poll_wake(&mut self, context: &mut Context<'_>) -> Poll<Wake> {
        if let Some(entered) = &self.entered
            && entered.peer.mailbox.poll_woken(context).is_ready()
        {
            return Poll::Ready(Wake::Mail);
        }
        if let Some((_, job)) = &mut self.job
            && let Poll::Ready(done) = job.as_mut().poll(context)
        {
            return Poll::Ready(Wake::Done(done));
        }
        if let Poll::Ready(result) = self.sends.poll_answered(context) {
            return Poll::Ready(Wake::Sent(result));
        }
        if let Some(page) = &mut self.page
            && let Poll::Ready(read) = page.as_mut().poll(context)
        {
            return Poll::Ready(Wake::Found(read));
        }
        Poll::Pending
    }

    /// Returns how many bytes wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.outlet.lock().bytes()
    }

    /// Queues a message for the peer.
    fn say(&mut self, message: &Message) {
        self.outlet.lock().push(frame::text(&message.to_json()));
    }

    fn tell(&mut self, event: Event) {
        self.say(&Message::event(event));
    }

    fn start_jobs(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Greeting | Phase::Open) {
            return;
        }
        let most = self.answer_bytes();
        let is_leaving = self.is_drain_due(now);
        let Some(entered) = &mut self.entered else { return };
        let mut answers = Vec::new();
        self.sends.start(&self.app, &entered.peer, now, |message| answers.push(message));
        while self.job.is_none() {
            if self.requests.is_empty() {
                // Requests are rare after the first; the space for them is not kept.
                self.requests.shrink_to_fit();
                break;
            }
            // What was asked for together is answered as far as the answers are taken: one may be large, and many can be
            // asked for before the first is there.
            if self.outlet.lock().bytes() >= most && !is_leaving {
                break;
            }
            let Some((id, command)) = self.requests.pop_front() else { break };
            if let Command::Shut(shut) = command {
                entered.follows.stop(&mut self.outlet.lock(), StreamId::Room(shut.room));
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
                entered.follows.begin(&mut self.outlet.lock(), room, ask.replay);
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
                let message = Message::reply(id, Reply::Opened(plan.opened));
                self.outlet.lock().push(open::frame_with(&message, plan.roster.as_deref()));
                self.follow_from(StreamId::Room(ask.room), plan.from, plan.head, None);
            }
            Done::NotOpened(room, error) => {
                self.say(&Message::refusal(id, error));
                self.follow_from(StreamId::Room(room), None, Seq(0), None);
            }
            Done::Session(Some(expires)) if expires > self.app.ambient.wall_clock() => {
                self.session_was_looked_at(expires)
            }
            Done::Session(_) => self.close_with(close::SESSION_EXPIRED),
            Done::Unknown => {}
        }
    }

    fn follow_from(&mut self, id: StreamId, from: Option<Seq>, head: Seq, goal: Option<Seq>) {
        let Some(entered) = &mut self.entered else { return };
        let out = &mut self.outlet.lock();
        match from {
            Some(from) => entered.follows.start(out, id, from, head, goal),
            None => entered.follows.stop(out, id),
        }
    }
}

impl Connection {
    /// Runs the connection to its end. Boxed, because a future keeps the space for an argument beside that for the value
    /// it becomes.
    pub async fn run(mut self: Box<Self>) {
        // One for the whole connection: to set it later costs next to nothing, to make another does.
        let mut alarm = pin!(tokio::time::sleep_until(self.app.ambient.now().into()));
        loop {
            let more = self.work();
            if self.phase == Phase::Over {
                return;
            }
            if more {
                tokio::task::yield_now().await;
            }
            let now = self.app.ambient.now();
            let deadline = self.deadline(now).into();
            if deadline != alarm.deadline() {
                alarm.as_mut().reset(deadline);
            }
            let (read, write) = (self.wants_to_read(now), !self.outlet.lock().is_empty());
            let next = poll_fn(|context| {
                let inside = self.poll_wake(context);
                if let Poll::Ready(Wake::Done(_) | Wake::Sent(_) | Wake::Found(_)) = inside {
                    return inside;
                }
                // Neither a busy peer nor a busy mailbox holds up what is due, and a busy mailbox is no reason not to read.
                // What the mailbox woke for is found whatever comes of this.
                if alarm.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Wake::Deadline);
                }
                // An error shows again at the read or write that follows.
                let readable = read && self.socket.poll_read_ready(context).is_ready();
                let writable = write && self.socket.poll_write_ready(context).is_ready();
                if readable || writable { Poll::Ready(Wake::Ready) } else { inside }
            });
            let wake = next.await;
            self.on_wake(wake, self.app.ambient.now());
        }
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        // Whoever still knows the outlet must not keep the socket open.
        self.outlet.lock().close();
    }
}
