//! The JSON `Message` that one WebSocket text frame carries, and every command, reply and event in it.
//!
//! ```text
//! command   {"id":7,"command":"post","payload":{…}}
//! reply     {"id":7,"success":true,"reply":"ack","payload":{…}}
//! refusal   {"id":7,"success":false,"error":{"code":"rate_limited","message":"…","retryable":true,"retry_after_ms":900}}
//! event     {"event":"room","payload":{…}}
//! ```
//!
//! Must not live here: what either side does with a message. Invariant: unknown fields and unknown tags of a newer peer
//! never fail to parse; a known tag with a malformed payload does, and the error still carries the request id.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::cursor::Position;
use crate::error::{ErrorCode, WireError};
use crate::ids::{ClientId, ConnectionId, Lsn, RequestId, RoomId, Seq, SessionId};
use crate::model::{
    Empty, EventPage, Head, HistoryPage, Member, Opened, Person, RoomEvent, RoomSummary, ServerInfo, UserEvent,
};
use crate::tagged::{self, tagged};
use crate::time::Timestamp;

/// One message, either way.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Pairs a reply with its command. Events have none.
    pub id: Option<RequestId>,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Client to server: do this.
    Command(Command),
    /// Server to client: done.
    Reply(Reply),
    /// Server to client: not done.
    Refusal(WireError),
    /// Server to client: this happened.
    Event(Event),
}

/// Why a text could not be read as a message. Carries the request id where one could be read, so that the sender
/// can be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct BadMessage {
    /// The request to answer.
    pub id: Option<RequestId>,
    /// What to answer.
    pub error: WireError,
}

impl std::fmt::Display for BadMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for BadMessage {}

/// The envelope as it is laid out in JSON.
#[derive(Default, Serialize, Deserialize)]
struct Envelope<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<RequestId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    success: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<WireError>,
}

impl Envelope<'_> {
    fn write(mut self, payload: Option<Result<Box<RawValue>, serde_json::Error>>) -> String {
        self.payload = payload.map(|written| written.expect("our own payloads are JSON"));
        serde_json::to_string(&self).expect("an envelope of strings and JSON is JSON")
    }
}

/// Just enough of a malformed message to answer it.
#[derive(Deserialize)]
struct IdOnly {
    #[serde(default)]
    id: Option<RequestId>,
}

/// The most that is said of why a message cannot be read, in bytes.
const WHY_BYTES: usize = 200;

impl Message {
    /// Makes a command that wants an answer.
    #[must_use]
    pub const fn command(id: RequestId, command: Command) -> Self {
        Self { id: Some(id), body: Body::Command(command) }
    }

    /// Makes the answer to a command that was done.
    #[must_use]
    pub const fn reply(id: Option<RequestId>, reply: Reply) -> Self {
        Self { id, body: Body::Reply(reply) }
    }

    /// Makes the answer to a command that was not done.
    #[must_use]
    pub const fn refusal(id: Option<RequestId>, error: WireError) -> Self {
        Self { id, body: Body::Refusal(error) }
    }

    /// Makes an event.
    #[must_use]
    pub const fn event(event: Event) -> Self {
        Self { id: None, body: Body::Event(event) }
    }

    /// Reads a message, whichever side said it.
    ///
    /// # Errors
    /// [`ErrorCode::BadMessage`] if the text is not JSON, is nested too deeply, is none of the four forms, or is a known
    /// command, reply or event with a malformed payload.
    pub fn parse(text: &str) -> Result<Self, BadMessage> {
        Self::parse_with(text, Command::read)
    }

    /// Reads what a server says. A client that never calls [`Self::parse`] carries no code to read commands.
    ///
    /// # Errors
    /// As [`Self::parse`], and if it is a command.
    pub fn parse_from_server(text: &str) -> Result<Self, BadMessage> {
        Self::parse_with(text, |_, _| Err(serde::de::Error::custom("a server gives no commands")))
    }

    fn parse_with(
        text: &str,
        read_command: impl FnOnce(&str, Option<&RawValue>) -> Result<Command, serde_json::Error>,
    ) -> Result<Self, BadMessage> {
        let refuse = |id, why: &dyn std::fmt::Display| {
            // Why it cannot be read may quote any part of it.
            let mut why = why.to_string();
            if why.len() > WHY_BYTES {
                why.truncate(why.floor_char_boundary(WHY_BYTES));
                why.push('…');
            }
            BadMessage {
                id,
                error: WireError::new(ErrorCode::BadMessage, format!("This message cannot be read: {why}.")),
            }
        };
        // serde reads a struct from an array too; on the wire an object is an object.
        if !tagged::is_object(text) {
            return Err(refuse(None, &"it must be a JSON object"));
        }
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| {
            let id = serde_json::from_str::<IdOnly>(text).ok().and_then(|only| only.id);
            refuse(id, &error)
        })?;
        let id = envelope.id;
        let payload = envelope.payload.as_deref();
        let body = match (envelope.command, envelope.success, envelope.event) {
            (Some(tag), None, None) => read_command(&tag, payload).map(Body::Command),
            (None, Some(true), None) => {
                Reply::read(envelope.reply.as_deref().unwrap_or("done"), payload).map(Body::Reply)
            }
            (None, Some(false), None) => match envelope.error {
                Some(error) => Ok(Body::Refusal(error)),
                None => return Err(refuse(id, &"a refusal needs an error")),
            },
            (None, None, Some(tag)) => Event::read(&tag, payload).map(Body::Event),
            _ => return Err(refuse(id, &"it must be exactly one of a command, a reply or an event")),
        };
        body.map(|body| Self { id, body }).map_err(|error| refuse(id, &error))
    }

    /// Writes the message as JSON.
    ///
    /// # Panics
    /// If an `Unknown` case was made by hand around text that is not JSON; what was parsed always writes.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut envelope = Envelope { id: self.id, ..Envelope::default() };
        let payload = match &self.body {
            Body::Command(command) => return Self::command_json(self.id, command),
            Body::Reply(reply) => {
                envelope.success = Some(true);
                envelope.reply = Some(reply.tag().into());
                Some(reply.payload())
            }
            Body::Refusal(error) => {
                envelope.success = Some(false);
                envelope.error = Some(error.clone());
                None
            }
            Body::Event(event) => {
                envelope.event = Some(event.tag().into());
                Some(event.payload())
            }
        };
        envelope.write(payload)
    }

    /// Writes a command as JSON. A client that never calls [`Self::to_json`] carries no code to write replies and events.
    ///
    /// # Panics
    /// As [`Self::to_json`].
    #[must_use]
    pub fn command_json(id: Option<RequestId>, command: &Command) -> String {
        let envelope = Envelope { id, command: Some(command.tag().into()), ..Envelope::default() };
        envelope.write(Some(command.payload()))
    }
}

tagged! {
    /// What a client asks of the server.
    pub enum Command {
        /// The first message on every socket: who I am and where I stand. Answered with `welcome`.
        Hello(Hello) = "hello",
        /// I am here. Answered with `beat`.
        Beat(Beat) = "beat",
        /// Store this post. Answered with `ack`.
        Post(SendPost) = "post",
        /// Replace the text of a post of mine. Answered with `ack`.
        Edit(SendEdit) = "edit",
        /// Delete a post of mine. Answered with `ack`.
        Delete(SendDelete) = "delete",
        /// React to a post. Answered with `ack`.
        React(SendReact) = "react",
        /// Follow a room in full from a cursor. Answered with `opened`, then its events.
        Open(OpenRoom) = "open",
        /// Follow a room no longer; its head is still told. Answered with `done`.
        Shut(RoomRef) = "shut",
        /// Posts before a seq. Answered with `history`.
        History(History) = "history",
        /// Events after a seq. Answered with `events`.
        Events(EventsAfter) = "events",
        /// A page of all public rooms. Answered with `rooms`.
        Rooms(ListRooms) = "rooms",
        /// Find a room by its name. Answered with `room`.
        FindRoom(FindRoom) = "find_room",
        /// Make a public room and become its first member. Answered with `room`.
        CreateRoom(CreateRoom) = "create_room",
        /// Become a member. Answered with `room`.
        Join(Membership) = "join",
        /// Be a member no longer. Answered with `done`.
        Leave(Membership) = "leave",
        /// A page of a room's members. Answered with `people`.
        People(ListPeople) = "people",
        /// Go by another name. Answered with `done`.
        Rename(Rename) = "rename",
        /// I have read this far. Not answered unless refused; merged by maximum.
        Read(MarkRead) = "read",
        /// I am writing. Not answered unless refused.
        Typing(RoomRef) = "typing",
    }
}

tagged! {
    /// What the server answers when a command was done.
    pub enum Reply {
        /// To `hello`.
        Welcome(Box<Welcome>) = "welcome",
        /// To `beat`.
        Beat(BeatAnswer) = "beat",
        /// To `post`, `edit`, `delete`, `react`: committed.
        Ack(Ack) = "ack",
        /// To `open`.
        Opened(Opened) = "opened",
        /// To `history`.
        History(HistoryPage) = "history",
        /// To `events`.
        Events(EventPage) = "events",
        /// To `rooms`.
        Rooms(RoomList) = "rooms",
        /// To `find_room`, `create_room`, `join`.
        Room(RoomSummary) = "room",
        /// To `people`.
        People(PeopleList) = "people",
        /// To everything that has nothing more to say.
        Done(Empty) = "done",
    }
}

tagged! {
    /// What the server says unasked.
    pub enum Event {
        /// A durable change in a room I follow.
        Room(RoomEvent) = "room",
        /// A durable change in what is mine.
        User(UserEvent) = "user",
        /// What became of a room named in the hello; same payload as the `opened` reply.
        Opened(Opened) = "opened",
        /// Every stream named in the hello has reached the head it had at the welcome.
        Live(Live) = "live",
        /// Rooms I do not follow in full have new heads.
        Heads(Heads) = "heads",
        /// A member is writing. Forget it after [`TYPING_SHOWN_MS`].
        Typing(TypingNow) = "typing",
        /// People I can see came or went.
        Presence(Presence) = "presence",
        /// I have read this far, on another connection of mine.
        Read(ReadMark) = "read",
        /// Are you there? Answer with a `beat` that carries `n`.
        Beat(BeatAsked) = "beat",
        /// The server is about to restart: it will close with 1012; come back after the wait told here.
        Draining(Draining) = "draining",
        /// The reason of the close that follows, in-band, since proxies turn closes into 1006.
        Closing(Closing) = "closing",
    }
}

/// How long a `typing` event is shown, in milliseconds.
pub const TYPING_SHOWN_MS: u64 = 6_000;
/// How often a client says it is writing, at most, in milliseconds.
pub const TYPING_EVERY_MS: u64 = 3_000;

/// Payload of `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The newest protocol the client speaks.
    pub protocol: u16,
    /// The client's program and version, for logs.
    pub client: String,
    /// This running client. A second socket of the same one supersedes the first.
    pub session: SessionId,
    /// The page is hidden: beats come more rarely.
    #[serde(default)]
    pub hidden: bool,
    /// Where I stand in my own stream. Absent: the welcome lists everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Position>,
    /// Rooms to follow in full, each from its cursor; at most [`crate::limits::OPEN_ROOMS`].
    #[serde(default)]
    pub rooms: Vec<OpenRoom>,
    /// The last change in the whole log my room list includes. Absent: the welcome lists everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Lsn>,
}

/// Payload of `open`, and one room of a `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRoom {
    /// Which room.
    pub room: RoomId,
    /// Where I stand. Absent: a snapshot, please.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Position>,
    /// Never jump: replay every event, however many.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replay: bool,
}

/// Payload of the `beat` command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The page is hidden.
    #[serde(default)]
    pub hidden: bool,
    /// The number of the server's question this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<u64>,
}

/// Payload of the `beat` reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatAnswer {
    /// The server's wall clock.
    pub now: Timestamp,
    /// See [`Welcome::reconnect_spread_ms`].
    pub reconnect_spread_ms: u64,
}

/// Payload of `post`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendPost {
    /// Its number among this connection's sends, from 1. After a retryable refusal of one, later ones are answered
    /// `behind` until its number comes again. Absent: on its own, in no order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The idempotency key.
    pub client_id: ClientId,
    /// Where.
    pub room: RoomId,
    /// The text.
    pub body: String,
}

/// Payload of `edit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendEdit {
    /// As in [`SendPost::n`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The idempotency key of this edit.
    pub client_id: ClientId,
    /// Where.
    pub room: RoomId,
    /// Which post.
    pub post: Seq,
    /// The new text.
    pub body: String,
}

/// Payload of `delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendDelete {
    /// As in [`SendPost::n`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The idempotency key of this deletion.
    pub client_id: ClientId,
    /// Where.
    pub room: RoomId,
    /// Which post.
    pub post: Seq,
}

/// Payload of `react`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendReact {
    /// As in [`SendPost::n`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The idempotency key of this reaction.
    pub client_id: ClientId,
    /// Where.
    pub room: RoomId,
    /// Which post.
    pub post: Seq,
    /// With what.
    pub emoji: String,
    /// Add it, or take it back.
    pub on: bool,
}

/// A payload that names a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRef {
    /// Which room.
    pub room: RoomId,
}

/// Payload of `history`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Which room.
    pub room: RoomId,
    /// Posts with a seq below this one.
    pub before: Seq,
    /// How many at most; the server's page size where absent or larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Payload of `events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsAfter {
    /// Which room.
    pub room: RoomId,
    /// Events with a seq above this one.
    pub after: Seq,
    /// How many at most; the server's page size where absent or larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Payload of `rooms`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRooms {
    /// Rooms whose name sorts after this one. Absent: from the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Payload of `find_room`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindRoom {
    /// Its name.
    pub name: String,
}

/// Payload of `create_room`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateRoom {
    /// The idempotency key; asked twice, the first room is answered.
    pub client_id: ClientId,
    /// The name in addresses.
    pub name: String,
    /// What it is about.
    #[serde(default)]
    pub title: String,
}

/// Payload of `join` and `leave`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The idempotency key.
    pub client_id: ClientId,
    /// Which room.
    pub room: RoomId,
}

/// Payload of `people`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPeople {
    /// Which room.
    pub room: RoomId,
    /// Members whose name sorts after this one. Absent: from the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Payload of `rename`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rename {
    /// The idempotency key.
    pub client_id: ClientId,
    /// The new name.
    pub name: String,
}

/// Payload of the `read` command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkRead {
    /// Which room.
    pub room: RoomId,
    /// How many of its posts are read, as counted by [`RoomEvent::posts`].
    pub posts: u64,
}

/// Payload of `welcome`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol both sides use from here on.
    pub protocol: u16,
    /// The server and its log.
    pub server: ServerInfo,
    /// This socket.
    pub connection: ConnectionId,
    /// Who I am here.
    pub you: Person,
    /// The server's wall clock.
    pub now: Timestamp,
    /// How often to beat, and how long an answer may take.
    pub heartbeat: HeartbeatTerms,
    /// Over how long to spread a return after a lost connection, in milliseconds; grows with the number of clients.
    pub reconnect_spread_ms: u64,
    /// What the server takes.
    pub limits: WireLimits,
    /// The server is about to restart.
    #[serde(default)]
    pub draining: bool,
    /// Where my own stream stands now. Events up to here follow if my cursor was good, and are in `rooms` if not.
    pub user: Position,
    /// Whether my own stream's cursor was good.
    pub user_recovered: bool,
    /// Whether `rooms` is everything I am a member of, and not only what changed since [`Hello::since`].
    pub rooms_complete: bool,
    /// Rooms I am a member of.
    pub rooms: Vec<RoomSummary>,
}

/// How heartbeats go. Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatTerms {
    /// Between beats of a visible page.
    pub interval_ms: u64,
    /// Between beats of a hidden page.
    pub hidden_interval_ms: u64,
    /// How long an answer may take.
    pub answer_ms: u64,
}

impl Default for HeartbeatTerms {
    fn default() -> Self {
        Self { interval_ms: 10_000, hidden_interval_ms: 30_000, answer_ms: 4_000 }
    }
}

/// What the server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireLimits {
    /// Largest message a client may send, in bytes.
    pub message_bytes: u64,
    /// Largest post, in bytes of UTF-8.
    pub post_bytes: u64,
    /// Longest post, in grapheme clusters.
    pub post_graphemes: u64,
    /// Posts a client may send at once before the rate applies.
    pub posts_burst: u64,
    /// Posts a second after that.
    pub posts_per_s: u64,
    /// Rooms a client may follow in full.
    pub open_rooms: u64,
}

impl Default for WireLimits {
    fn default() -> Self {
        use crate::limits;
        Self {
            message_bytes: limits::INBOUND_MESSAGE_BYTES as u64,
            post_bytes: limits::POST_BYTES as u64,
            post_graphemes: limits::POST_GRAPHEMES as u64,
            posts_burst: 10,
            posts_per_s: 5,
            open_rooms: limits::OPEN_ROOMS as u64,
        }
    }
}

/// Payload of `ack`: the request is committed. A duplicate gets the first one's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The key of the request.
    pub client_id: ClientId,
    /// Where.
    pub room: RoomId,
    /// The seq of the change it made. For a post, its place for ever.
    pub seq: Seq,
    /// When the server took it.
    pub ts: Timestamp,
    /// It was committed before; this is the first answer again.
    #[serde(default)]
    pub duplicate: bool,
}

/// Payload of the `rooms` reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomList {
    /// In order of name.
    pub rooms: Vec<RoomSummary>,
    /// There are more after the last.
    pub more: bool,
}

/// Payload of the `people` reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeopleList {
    /// Which room.
    pub room: RoomId,
    /// In order of name.
    pub people: Vec<Member>,
    /// There are more after the last.
    pub more: bool,
}

/// Payload of `live`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {}

/// Payload of `heads`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    /// Those that changed.
    pub heads: Vec<Head>,
}

/// Payload of the `typing` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingNow {
    /// Where.
    pub room: RoomId,
    /// Who.
    pub user: Person,
}

/// Payload of `presence`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Who came or went, and how it stands now.
    pub changes: Vec<Member>,
}

/// Payload of the `read` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadMark {
    /// Which room.
    pub room: RoomId,
    /// How many of its posts are read.
    pub posts: u64,
}

/// Payload of the `beat` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatAsked {
    /// To be answered in [`Beat::answers`].
    pub n: u64,
}

/// Payload of `draining`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// How long this client waits after the close before it comes back, in milliseconds.
    pub reconnect_after_ms: u64,
}

/// Payload of `closing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The code of the close frame that follows.
    pub code: u16,
    /// Words for logs.
    pub reason: String,
}
