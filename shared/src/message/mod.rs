//! The JSON `Message` that one WebSocket text frame carries, and every command, reply and event in it.
//!
//! ```text
//! command   {"id":7,"command":"post","payload":{…}}
//! reply     {"id":7,"success":true,"reply":"ack","payload":{…}}
//! refusal   {"id":7,"success":false,"error":{"code":"rate_limited","message":"…","retryable":true,"retry_after_ms":900}}
//! event     {"event":"room","payload":{…}}
//! ```
//!
//! Lives here: the envelope, and the three lists of what can be in it; what each of them carries is in `command`,
//! `reply` and `event`. Must not live here: what either side does with a message. Invariant: unknown fields and unknown
//! tags of a newer peer never fail to parse; a known tag with a malformed payload does, and the error still carries the
//! request id.

mod command;
mod event;
mod reply;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{ErrorCode, WireError};
use crate::ids::RequestId;
use crate::model::{Empty, EventPage, HistoryPage, Opened, RoomEvent, RoomSummary, UserEvent};
use crate::object::object;
use crate::tagged::{self, Payload, tagged};

pub use command::{
    Beat, CreateRoom, EventsAfter, FindRoom, Hello, History, ListPeople, ListRooms, MarkRead, Membership, OpenRoom,
    Rename, RoomRef, SendDelete, SendEdit, SendPost, SendReact,
};
pub use event::{
    BeatAsked, Closing, Draining, Heads, Live, Presence, ReadMark, TYPING_EVERY_MS, TYPING_SHOWN_MS, TypingNow,
};
pub use reply::{Ack, BeatAnswer, HeartbeatTerms, PeopleList, RoomList, Welcome, WireLimits};

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

/// The envelope as it is read. Derived, unlike what it carries: a server reads it with every message.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    id: Option<RequestId>,
    #[serde(default)]
    command: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    success: Option<bool>,
    #[serde(default)]
    reply: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    event: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, borrow)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<WireError>,
}

/// A message being written: each field straight to its place.
struct Writing(Vec<u8>);

impl Writing {
    fn new(id: Option<RequestId>) -> Self {
        let mut text = Vec::with_capacity(MESSAGE_BYTES);
        text.push(b'{');
        let writing = Self(text);
        match id {
            Some(id) => writing.field("id", &id),
            None => writing,
        }
    }

    fn field<T: Serialize + ?Sized>(mut self, name: &'static str, value: &T) -> Self {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        serde_json::to_writer(&mut self.0, value).expect("our own types are JSON");
        self
    }

    fn end(mut self) -> String {
        self.0.push(b'}');
        String::from_utf8(self.0).expect("JSON is UTF-8")
    }
}

/// What is set aside for a message that is written, in bytes: most fit, a post of some length with all that is beside it.
const MESSAGE_BYTES: usize = 512;

/// Just enough of a malformed message to answer it.
struct IdOnly {
    id: Option<RequestId>,
}

object!(IdOnly { id = default });

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
        let payload = envelope.payload;
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
        let text = Writing::new(self.id);
        match &self.body {
            Body::Command(command) => return Self::command_json(self.id, command),
            Body::Reply(reply) => {
                text.field("success", &true).field("reply", reply.tag()).field("payload", &Payload(reply))
            }
            Body::Refusal(error) => text.field("success", &false).field("error", error),
            Body::Event(event) => text.field("event", event.tag()).field("payload", &Payload(event)),
        }
        .end()
    }

    /// Writes a command as JSON. A client that never calls [`Self::to_json`] carries no code to write replies and events.
    ///
    /// # Panics
    /// As [`Self::to_json`].
    #[must_use]
    pub fn command_json(id: Option<RequestId>, command: &Command) -> String {
        Writing::new(id).field("command", command.tag()).field("payload", &Payload(command)).end()
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
