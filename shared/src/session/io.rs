//! What goes into a [`Session`](super::Session) and what comes out: its whole contract with the world.
//!
//! Must not live here: behaviour. Invariant: everything a driver must do is an [`Output`]; everything it must tell is an
//! [`Input`]; there is no other channel.

use super::diagnostic::Diagnostic;
use super::item::{OutboxItem, SendOp};
use crate::close::StopReason;
use crate::cursor::Position;
use crate::error::WireError;
use crate::ids::{AttemptId, ClientId, ConnectionId, RoomId, Seq, SessionId, UserId};
use crate::message::{self, Ack, ReadMark, Reply, TypingNow, WireLimits};
use crate::model::{Head, Member, Opened, Person, RoomEvent, RoomSummary, ServerInfo, UserEvent};
use crate::time::Timestamp;

/// What a session is told once, at birth.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The program and its version, for the server's logs.
    pub client: String,
    /// This running client; made anew by every tab and process.
    pub session: SessionId,
    /// Whose outbox this is. A welcome for anybody else stops the session: nothing is ever sent as somebody else.
    pub user: UserId,
    /// Seeds the jitter.
    pub seed: u64,
    /// The page is hidden at birth.
    pub hidden: bool,
    /// The device believes to be online at birth.
    pub online: bool,
}

/// Everything that can happen to a session.
#[derive(Clone, Debug)]
pub enum Input {
    /// The person or the program wants something.
    Command(Command),
    /// The socket of an attempt is open. Proves nothing about the server.
    Opened {
        /// Which.
        attempt: AttemptId,
    },
    /// A text message came.
    Received {
        /// On which attempt's socket.
        attempt: AttemptId,
        /// The message.
        text: String,
    },
    /// The socket of an attempt is gone, or never opened. Comes once an attempt, also after [`Output::Close`].
    Closed {
        /// Which.
        attempt: AttemptId,
        /// The code; 1006 where the connection broke off, 1005 where none was given.
        code: u16,
        /// The peer's words.
        reason: String,
    },
    /// The time [`Session::next_deadline`](super::Session::next_deadline) named has come; may be late by any amount, or early.
    DeadlineReached,
    /// The device says it is online (a reason to try) or offline (believed).
    Online(bool),
    /// The page is visible or hidden.
    Visible(bool),
    /// The machine slept, or the page was frozen or cached: look at once whether the link still lives.
    Woke,
    /// A [`Output::Persist`] is done.
    Persisted {
        /// Which.
        serial: u64,
        /// It is on the device for good.
        ok: bool,
    },
    /// Unsent items found on the device, this tab's or an orphan's. Sent without a click, by the orders they were stored
    /// with, among those that are already queued; where two have the same one, by their keys.
    Restored {
        /// In any order.
        items: Vec<OutboxItem>,
    },
    /// What was on the device is gone, or may be, and it takes something again: everything unsent is written anew.
    Erased,
}

/// What a person or a program can want.
#[derive(Clone, Debug)]
pub enum Command {
    /// Connect, and stay connected. Also after a stop, once the reason for it is mended.
    Start,
    /// Close for good; what is unsent stays on the device.
    Stop,
    /// Try at once.
    RetryNow,
    /// Queue a durable request.
    Send {
        /// Made for it, once and for ever.
        client_id: ClientId,
        /// Where.
        room: RoomId,
        /// What.
        op: SendOp,
        /// The wall clock, shown until the server's time is known.
        at: Timestamp,
    },
    /// Take back an item that was never attempted. Ignored once it was: its outcome is unknown.
    CancelSend {
        /// Which.
        client_id: ClientId,
    },
    /// Queue a refused item again, unchanged.
    RetrySend {
        /// Which.
        client_id: ClientId,
        /// The wall clock: it goes behind what was written before.
        at: Timestamp,
    },
    /// Forget a refused item.
    DiscardSend {
        /// Which.
        client_id: ClientId,
    },
    /// Follow a room in full. Opened again after every reconnect from its cursor.
    Open {
        /// Which.
        room: RoomId,
        /// Where to start; a snapshot where absent.
        cursor: Option<Position>,
        /// Never jump over missed events.
        replay: bool,
    },
    /// Follow a room no longer.
    Shut {
        /// Which.
        room: RoomId,
    },
    /// Ask something that is not durable. Answered with [`SessionEvent::Answer`], refused at once when not connected.
    Request {
        /// Comes back with the answer.
        tag: RequestTag,
        /// What: `history`, `events`, `rooms`, `find_room`, `create_room`, `join`, `leave`, `people`, `rename`.
        command: message::Command,
    },
    /// I have read this far. Remembered and said when connected.
    MarkRead {
        /// Which room.
        room: RoomId,
        /// How many of its posts.
        posts: u64,
    },
    /// A key was pressed. Said at most every [`message::TYPING_EVERY_MS`], and only when live.
    Typing {
        /// Where.
        room: RoomId,
    },
}

/// A number the caller chooses to know its answer by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestTag(pub u64);

/// Something the driver must do.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Output {
    /// Open a socket and tell [`Input::Opened`] or [`Input::Closed`] with this number.
    Open {
        /// The number.
        attempt: AttemptId,
    },
    /// Write a text message.
    Send {
        /// To which attempt's socket.
        attempt: AttemptId,
        /// The message.
        text: String,
    },
    /// Close the socket of an attempt. The session no longer cares for it.
    Close {
        /// Which.
        attempt: AttemptId,
        /// With which code.
        code: u16,
        /// With which words.
        reason: &'static str,
    },
    /// Write to the device and tell [`Input::Persisted`]. Order matters.
    Persist {
        /// Counts from 1.
        serial: u64,
        /// What to write.
        change: Persist,
    },
    /// Something to show.
    Event(SessionEvent),
}

/// A change to what is stored on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Persist {
    /// Store or replace an item. For a new post, the room's draft goes in the same transaction.
    Put(OutboxItem),
    /// Remove an item.
    Remove(ClientId),
}

/// Where the connection stands. Always true; never more hopeful than what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Not started, or stopped by [`Command::Stop`].
    Idle,
    /// The first connection is being made.
    Connecting,
    /// Welcomed, and behind the head.
    CatchingUp {
        /// Events still to come, as far as known.
        to_go: u64,
    },
    /// Welcomed, caught up, and the last heartbeat answered in time.
    Live,
    /// As live, but an acknowledgement is late while heartbeats are answered: the server is slow.
    Slow,
    /// Lost; the next attempt comes at `until`.
    Waiting {
        /// Session time.
        until: Timestamp,
        /// Attempts since the connection was lost.
        attempts: u32,
        /// The server said it is restarting.
        restarting: bool,
    },
    /// Lost; an attempt is being made.
    Trying {
        /// Attempts since the connection was lost, this one included.
        attempts: u32,
        /// The server said it is restarting.
        restarting: bool,
    },
    /// The device says it is offline.
    Offline,
    /// Stopped until the person acts.
    Stopped(StopReason),
}

/// Something to show or to fold into what is shown.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionEvent {
    /// The connection stands differently now.
    State(ConnectionState),
    /// The server greeted.
    Welcomed {
        /// Who I am.
        you: Person,
        /// Rooms I am a member of.
        rooms: Vec<RoomSummary>,
        /// Whether these are all of them; else merge.
        complete: bool,
        /// Where my own stream stood: what it tells up to here is in `rooms`, and may follow all the same.
        user: Seq,
        /// What the server takes.
        limits: WireLimits,
        /// The server.
        server: ServerInfo,
        /// This socket.
        connection: ConnectionId,
    },
    /// Connected again after a loss that could be seen, and caught up.
    Recovered {
        /// Posts of others that came meanwhile.
        received: u64,
        /// Own items acknowledged since.
        sent: u64,
    },
    /// A room is followed; its snapshot, if there is one, replaces or joins what is shown.
    Opened(Opened),
    /// The next change of a followed room. Every one exactly once, in order.
    Room(RoomEvent),
    /// The next change in what is mine.
    User(UserEvent),
    /// New heads of rooms that are not followed in full.
    Heads(Vec<Head>),
    /// Somebody is writing.
    Typing(TypingNow),
    /// People came or went.
    Presence(Vec<Member>),
    /// Read on another connection of mine.
    Read(ReadMark),
    /// An item is in the outbox: show its echo. Also for restored ones.
    Queued(OutboxItem),
    /// An item is on the device for good.
    Saved(ClientId),
    /// An item was written to a socket; its outcome is unknown until it is acknowledged or refused.
    Sending(ClientId),
    /// The connection that an item was written to was lost before it was taken, or refused for good. It waits and is sent
    /// again, under the same key.
    Interrupted(ClientId),
    /// An item is committed.
    Acked(Ack),
    /// An item was refused for good and is parked.
    Refused {
        /// Which.
        client_id: ClientId,
        /// Why.
        error: WireError,
    },
    /// An item was taken back or forgotten by the person.
    Discarded(ClientId),
    /// The answer to a [`Command::Request`].
    Answer {
        /// The caller's number.
        tag: RequestTag,
        /// The server's answer.
        result: Result<Reply, WireError>,
    },
    /// The device can, or cannot, keep unsent items.
    Storage {
        /// It can.
        ok: bool,
    },
    /// The outbox is full: nothing was queued.
    OutboxFull {
        /// The item that was not.
        client_id: ClientId,
    },
    /// A round trip was measured, in milliseconds.
    RoundTrip {
        /// How long the answer took.
        ms: u64,
    },
    /// A line for the connection's timeline.
    Diagnostic(Diagnostic),
}

/// Which wait ends at [`Session::next_deadline`](super::Session::next_deadline).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// The socket must be open.
    Connect,
    /// The welcome must have come.
    Welcome,
    /// A beat is due.
    Beat,
    /// A beat must have been answered.
    BeatAnswer,
    /// An acknowledgement is late.
    AckLate,
    /// The next attempt.
    Reconnect,
    /// The outbox may go on after a retryable refusal.
    Resend,
    /// A room is asked for again, or left, after a retryable refusal.
    Room,
}
