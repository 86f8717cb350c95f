//! From bytes to commands, and what is answered at once.
//!
//! Must not live here: anything that waits. Invariant: reading stops while there is no room for the answer of what is
//! read; nothing a peer sends is queued without a limit.

use shared::planted::{Bug, is_planted};
use std::cell::RefCell;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

use shared::close;
use shared::error::{ErrorCode, WireError};
use shared::ids::{RequestId, StreamId};
use shared::limits::{OPEN_ROOMS, PENDING_REQUESTS, PROTOCOL_OLDEST};
use shared::message::{
    Beat, BeatAnswer, Body, Command, Event, Hello, Message, Reply, RoomRef, TYPING_EVERY_MS, TypingNow,
};
use shared::model::Person;

use super::bucket::Window;
use super::follow::{BURST_BYTES, Follows};
use super::sends::Send;
use super::{Announced, Catchup, Connection, Entered, FLOOD_WINDOW, Floods, Phase, Whose};
use crate::config::ms;
use crate::delivery::{Mailbox, Order, Peer};
use crate::drain::Phase as ServerPhase;
use crate::socket::Socket;
use crate::ws::{Incoming, frame};

/// Bytes read at once. Nothing of this size is kept by an idle connection.
const READ_BYTES: usize = 4 * 1024;

thread_local! {
    /// What is read into, on each thread one for all its connections: none keeps anything here.
    static READ: RefCell<[u8; READ_BYTES]> = const { RefCell::new([0; READ_BYTES]) };
}

impl<S: Socket> Connection<S> {
    /// Tells whether there is room for what would be read.
    pub(super) fn wants_to_read(&self, now: Instant) -> bool {
        self.unread.is_empty() && self.has_room(now)
    }

    /// Tells whether there is room for another command and its answer.
    fn has_room(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Hello { .. } | Phase::Closing { answered: false, .. } => true,
            Phase::Open => {
                self.sends.has_room()
                    && self.requests.len() < PENDING_REQUESTS
                    && self.outlet.lock().bytes() < self.answer_bytes()
                    && !self.is_drain_due(now)
            }
            // The hello is answered before anything else is read.
            Phase::Greeting | Phase::Closing { answered: true, .. } | Phase::Over => false,
        }
    }

    /// Returns how much may wait to be written before nothing more is read or answered.
    pub(super) fn answer_bytes(&self) -> usize {
        self.app.config.sizes.pending_reply_bytes + BURST_BYTES
    }

    /// Reads what has come, once. Returns whether anything had.
    pub(super) fn read(&mut self, now: Instant) -> bool {
        if !self.wants_to_read(now) {
            return false;
        }
        READ.with_borrow_mut(|buffer| {
            match self.socket.try_read(buffer) {
                Ok(0) => self.phase = Phase::Over,
                Ok(count) => self.decode_slice(&buffer[..count], now),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return false,
                Err(_) => self.phase = Phase::Over,
            }
            true
        })
    }

    /// Decodes what was read earlier and had no room.
    pub(super) fn decode(&mut self, now: Instant) {
        if !self.unread.is_empty() && self.has_room(now) {
            let unread = std::mem::take(&mut self.unread);
            self.decode_slice(&unread, now);
        }
    }

    fn decode_slice(&mut self, mut bytes: &[u8], now: Instant) {
        while !bytes.is_empty() {
            if !self.has_room(now) {
                self.unread = bytes.into();
                return;
            }
            match self.decoder.next(&mut bytes) {
                Ok(Some(incoming)) => self.on_incoming(incoming, now),
                Ok(None) => return,
                Err(violation) => return self.close(violation.close_code(), violation.words()),
            }
        }
    }

    fn on_incoming(&mut self, incoming: Incoming, now: Instant) {
        if let Phase::Closing { .. } = self.phase {
            if let (Incoming::Close(_), Phase::Closing { until, .. }) = (&incoming, self.phase) {
                self.phase = Phase::Closing { until, answered: true };
            }
            return;
        }
        match incoming {
            Incoming::Text(text) => self.on_text(&text, now),
            // The decoder refuses these on the wire.
            Incoming::Binary(_) => self.close_with(close::UNSUPPORTED),
            Incoming::Ping(payload) => {
                if self.floods().pings.is_over(now) {
                    return self.close(close::POLICY, "Far too many pings.");
                }
                self.outlet.lock().push(frame::pong(&payload));
            }
            Incoming::Pong => {
                if self.floods().pings.is_over(now) {
                    self.close(close::POLICY, "Far too many pongs.");
                }
            }
            Incoming::Close(close) => {
                let code = close.as_ref().map(|close| close.code);
                tracing::debug!(code, "the peer closed");
                let mut out = self.outlet.lock();
                out.cut();
                out.push(code.map_or_else(frame::close_empty, |code| frame::close(code, "")));
                drop(out);
                self.begin_closing(true);
            }
        }
    }

    fn floods(&mut self) -> &mut Floods {
        let rates = &self.app.config.rates;
        self.floods.get_or_insert_with(|| {
            Box::new(Floods {
                refused: Window::new(rates.abuse_frames, FLOOD_WINDOW),
                pings: Window::new(rates.pings, FLOOD_WINDOW),
            })
        })
    }

    fn on_text(&mut self, text: &str, now: Instant) {
        self.liveness.heard(now);
        let over = self.frames.take(now).err();
        if over.is_some() && self.floods().refused.is_over(now) {
            return self.close_with(close::FLOOD);
        }
        let message = match Message::parse(text) {
            Ok(message) => message,
            Err(bad) if matches!(self.phase, Phase::Hello { .. }) => {
                self.say(&Message::refusal(bad.id, bad.error));
                return self.close_keeping(close::BAD_SEQUENCE);
            }
            Err(bad) => return self.say(&Message::refusal(bad.id, bad.error)),
        };
        let id = message.id;
        let command = match message.body {
            Body::Command(command) => command,
            Body::Reply(_) | Body::Refusal(_) | Body::Event(_) => {
                let error = WireError::new(ErrorCode::BadMessage, "A client sends commands only.");
                return self.say(&Message::refusal(id, error));
            }
        };
        match (self.phase, command) {
            (Phase::Hello { .. }, Command::Hello(hello)) => self.on_hello(id, hello, now),
            (Phase::Hello { .. }, _) => {
                let error = WireError::new(ErrorCode::BadSequence, "The first message must be a hello.");
                self.say(&Message::refusal(id, error));
                self.close_keeping(close::BAD_SEQUENCE);
            }
            (_, command) => self.on_command(id, command, over, now),
        }
    }

    fn on_hello(&mut self, id: Option<RequestId>, mut hello: Hello, now: Instant) {
        let Whose::Shown(identity) = &self.whose else { return };
        let identity = **identity;
        let mut named = HashSet::new();
        hello.rooms.retain(|ask| named.insert(ask.room));
        if hello.protocol < PROTOCOL_OLDEST {
            let error = WireError::new(
                ErrorCode::BadVersion,
                format!("This server speaks versions from {PROTOCOL_OLDEST} on."),
            );
            self.say(&Message::refusal(id, error));
            return self.close_keeping(close::BAD_VERSION);
        }
        if hello.rooms.len() > OPEN_ROOMS {
            let error =
                WireError::new(ErrorCode::LimitReached, format!("At most {OPEN_ROOMS} rooms can be open at once."));
            self.say(&Message::refusal(id, error));
            return self.close_keeping(close::BAD_SEQUENCE);
        }
        let peer = Arc::new(Peer {
            connection: self.app.next_connection(),
            user: identity.user,
            session: hello.session,
            token: identity.token,
            mailbox: Mailbox::default(),
            outlet: Arc::clone(&self.outlet),
        });
        let config = &self.app.config;
        if self.app.registry.enter(&peer, config.sockets.sockets_per_user, &config.rates, now).is_err() {
            return self.close_with(close::TOO_MANY);
        }
        match self.app.drain.phase() {
            ServerPhase::Serving => {}
            ServerPhase::Draining => {
                peer.mailbox.order(Order::Drain { reconnect_after_ms: 0, close_after_ms: 0 });
            }
            ServerPhase::Failed => peer.mailbox.order(Order::Close(close::STORAGE_STOPPED)),
        }
        // Subscribe first, read second: what comes between is found twice and not missed.
        let mut follows = Follows::new(Arc::clone(&self.app), Arc::clone(&peer));
        let mut out = self.outlet.lock();
        follows.begin(&mut out, StreamId::User(identity.user), true);
        for room in &hello.rooms {
            follows.begin(&mut out, StreamId::Room(room.room), room.replay);
        }
        drop(out);
        self.entered = Some(Entered {
            app: Arc::clone(&self.app),
            peer,
            follows,
            catching_up: Catchup::Behind,
            presence: Announced::No,
        });
        self.liveness.set_hidden(hello.hidden);
        self.phase = Phase::Greeting;
        self.requests.push_back((id, Command::Hello(hello)));
    }

    /// Acts on a command of a welcomed client. `over` is how long to wait where it came over the rate.
    fn on_command(&mut self, id: Option<RequestId>, command: Command, over: Option<u64>, now: Instant) {
        let too_fast = |wait| {
            WireError::new(ErrorCode::RateLimited, "Too many messages at once. Wait, then send again.")
                .retry_after(wait)
        };
        match (command, id) {
            // Heartbeats are answered at any rate: they are how the peer knows that the link lives.
            (Command::Beat(beat), id) => self.on_beat(id, beat),
            (Command::Typing(_), _) if over.is_some() => {}
            (Command::Typing(typing), id) => self.on_typing(id, typing, now),
            (Command::Hello(_), id) => {
                let error = WireError::new(ErrorCode::BadSequence, "A second hello on one connection.");
                self.say(&Message::refusal(id, error));
            }
            (Command::Unknown(unknown), id) => {
                let words = format!("This server does not know the command {:?}.", cut(&unknown.kind));
                self.say(&Message::refusal(id, WireError::new(ErrorCode::UnknownCommand, words)));
            }
            (Command::Read(read), id) => match over {
                Some(wait) => self.say(&Message::refusal(id, too_fast(wait))),
                None => self.requests.push_back((id, Command::Read(read))),
            },
            (_, None) => {
                let error =
                    WireError::new(ErrorCode::BadMessage, "This command needs an id, so that it can be answered.");
                self.say(&Message::refusal(None, error));
            }
            (command, Some(id)) => match (Send::of(id, command), over) {
                (Ok(send), None) => self.sends.push(send),
                (Ok(send), Some(wait)) => {
                    let refusal = self.sends.refuse(&send, too_fast(wait));
                    self.say(&refusal);
                }
                (Err(_), Some(wait)) => self.say(&Message::refusal(Some(id), too_fast(wait))),
                (Err(request), None) => self.requests.push_back((Some(id), *request)),
            },
        }
    }

    fn on_beat(&mut self, id: Option<RequestId>, beat: Beat) {
        self.liveness.set_hidden(beat.hidden);
        // An answer to our question needs none itself unless it has an id.
        if (id.is_some() || beat.answers.is_none()) && !is_planted(Bug::BeatUnanswered) {
            let reconnect_spread_ms = self.app.config.reconnect_spread_ms(self.app.sockets());
            self.say(&Message::reply(
                id,
                Reply::Beat(BeatAnswer { now: self.app.ambient.wall_clock(), reconnect_spread_ms }),
            ));
        }
    }

    fn on_typing(&mut self, id: Option<RequestId>, typing: RoomRef, now: Instant) {
        let Some(entered) = &self.entered else { return };
        if !entered.follows.is_open_to_member(typing.room) {
            // Told to members who follow a room by members who follow it; anybody else may be owed a refusal.
            return self.requests.push_back((id, Command::Typing(typing)));
        }
        if self.typed.is_some_and(|last| now < last + ms(TYPING_EVERY_MS)) {
            return;
        }
        self.typed = Some(now);
        let Some(name) = self.app.presence.name(entered.peer.user) else { return };
        let user = Person { id: entered.peer.user, name };
        let frame = frame::text(&Message::event(Event::Typing(TypingNow { room: typing.room, user })).to_json());
        self.app.hub.for_members(typing.room, |peer| {
            if peer.user != entered.peer.user {
                peer.mailbox.typing(frame.clone());
            }
        });
    }

    /// Closes without cutting off the refusal that was just said.
    pub(super) fn close_keeping(&mut self, code: u16) {
        if self.outlet.lock().write(self.app.ambient.now()).is_err() {
            self.phase = Phase::Over;
        }
        self.close_with(code);
    }
}

/// Cuts what a peer wrote to what is worth repeating.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}
