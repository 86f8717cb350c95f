//! The durable requests of one connection, in the order they were sent.
//!
//! Must not live here: rates of other messages, or sockets. Invariant: at most one is in the log's hands at a time, and
//! after a retryable refusal of a numbered one no later one is taken before it comes again; so what a client sent in an
//! order is committed in that order or not at all.

use shared::planted::{Bug, is_planted};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, RequestId, RoomId};
use shared::limits::SEND_WINDOW;
use shared::message::{Ack, Command, Message, Reply};
use shared::model::PostRef;

use crate::app::App;
use crate::delivery::Peer;
use crate::log::{Answered, Applied, Entry, LogError, Op};
use crate::people::text;

/// A durable request as it came.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) id: RequestId,
    pub(super) n: Option<u64>,
    pub(super) key: ClientId,
    pub(super) room: RoomId,
    pub(super) op: Op,
}

impl Send {
    /// Reads a durable request out of a command; gives every other command back.
    pub(super) fn of(id: RequestId, command: Command) -> Result<Self, Box<Command>> {
        let (n, key, room, op) = match command {
            Command::Post(send) => (send.n, send.client_id, send.room, Op::Post { room: send.room, body: send.body }),
            Command::Edit(send) => {
                let post = PostRef { seq: send.post, client_id: send.post_client_id };
                let op = Op::Edit { room: send.room, post, body: send.body };
                (send.n, send.client_id, send.room, op)
            }
            Command::Delete(send) => {
                let post = PostRef { seq: send.post, client_id: send.post_client_id };
                (send.n, send.client_id, send.room, Op::Delete { room: send.room, post })
            }
            Command::React(send) => {
                let post = PostRef { seq: send.post, client_id: send.post_client_id };
                let op = Op::React { room: send.room, post, emoji: send.emoji, on: send.on };
                (send.n, send.client_id, send.room, op)
            }
            other @ (Command::Hello(_)
            | Command::Beat(_)
            | Command::Open(_)
            | Command::Shut(_)
            | Command::History(_)
            | Command::Events(_)
            | Command::Rooms(_)
            | Command::FindRoom(_)
            | Command::CreateRoom(_)
            | Command::Join(_)
            | Command::Leave(_)
            | Command::People(_)
            | Command::Rename(_)
            | Command::Read(_)
            | Command::Typing(_)
            | Command::Unknown(_)) => return Err(Box::new(other)),
        };
        Ok(Self { id, n, key, room, op })
    }
}

struct InFlight {
    id: RequestId,
    n: Option<u64>,
    key: ClientId,
    room: RoomId,
    /// The log's answer, or why it was not asked.
    answered: Result<Answered, LogError>,
}

/// The durable requests of one connection.
#[derive(Default)]
pub(super) struct Sends {
    queue: VecDeque<Send>,
    /// Boxed, for most connections have none most of the time.
    in_flight: Option<Box<InFlight>>,
    /// The number of the send that was refused retryably and must come again first.
    waits_for: Option<u64>,
}

impl Sends {
    /// Tells whether another one may be queued.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < SEND_WINDOW
    }

    /// Tells whether nothing is queued or in the log's hands.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_none()
    }

    pub(super) fn push(&mut self, send: Send) {
        self.queue.push_back(send);
    }

    /// Refuses a send at once for a reason that passes; later ones wait for it.
    pub(super) fn refuse(&mut self, send: &Send, error: WireError) -> Message {
        self.refused(send.n, &error);
        Message::refusal(Some(send.id), error)
    }

    /// Takes from the queue until the log has one, answering those that do not get that far.
    pub(super) fn start(&mut self, app: &App, peer: &Peer, now: Instant, mut answer: impl FnMut(Message)) {
        while self.in_flight.is_none() {
            let Some(send) = self.queue.pop_front() else {
                // What a full window of them takes is not kept by everybody who ever wrote.
                return self.queue.shrink_to_fit();
            };
            match self.judge(send, app, peer, now) {
                Ok(in_flight) => self.in_flight = Some(Box::new(in_flight)),
                Err((id, n, error)) => {
                    self.refused(n, &error);
                    answer(Message::refusal(Some(id), error));
                }
            }
        }
    }

    fn judge(
        &mut self,
        send: Send,
        app: &App,
        peer: &Peer,
        now: Instant,
    ) -> Result<InFlight, (RequestId, Option<u64>, WireError)> {
        let Send { id, n, key, room, op } = send;
        match (self.waits_for, n) {
            (Some(first), Some(n)) if n > first && !is_planted(Bug::OrderIgnored) => {
                let words = format!("Send {first} of this connection was refused for now; send it again first.");
                // Its own refusal must not move the mark: `first` stays what is waited for.
                return Err((id, None, WireError::new(ErrorCode::Behind, words)));
            }
            (Some(first), Some(n)) if n == first => self.waits_for = None,
            (None | Some(_), None | Some(_)) => {}
        }
        let op = match op {
            Op::Post { room, body } => text::post(body).map(|body| Op::Post { room, body }),
            Op::Edit { room, post, body } => text::post(body).map(|body| Op::Edit { room, post, body }),
            Op::React { room, post, emoji, on } => text::emoji(&emoji).map(|()| Op::React { room, post, emoji, on }),
            other => Ok(other),
        };
        let op = op.map_err(|error| (id, n, error))?;
        app.registry.take_sends(peer.user, 1, now).map_err(|wait| {
            let error = WireError::new(ErrorCode::RateLimited, "Too many posts at once. Wait, then send again.");
            (id, n, error.retry_after(wait))
        })?;
        let entry = Entry { ts: app.ambient.wall_clock(), by: peer.user, key, op };
        Ok(InFlight { id, n, key, room, answered: app.log.submit(entry) })
    }

    /// Looks for the log's answer to the one it has.
    pub(super) fn poll_answered(&mut self, context: &mut Context<'_>) -> Poll<Result<Applied, LogError>> {
        match self.in_flight.as_mut().map(|in_flight| &mut in_flight.answered) {
            Some(Ok(answered)) => Pin::new(answered).poll(context),
            Some(Err(error)) => Poll::Ready(Err(*error)),
            None => Poll::Pending,
        }
    }

    /// Makes the client's answer of the log's. `None` where nothing may be said: the log has stopped.
    pub(super) fn finish(&mut self, result: Result<Applied, LogError>) -> Option<Message> {
        let InFlight { id, n, key, room, answered: _ } = *self.in_flight.take()?;
        let (receipt, duplicate) = match result {
            Ok(Applied::Committed(receipt)) => (receipt, false),
            Ok(Applied::Duplicate(receipt)) => (receipt, true),
            Ok(Applied::Refused(error)) => return Some(self.refuse_late(id, n, error)),
            Err(error) => return log_refusal(error).map(|error| self.refuse_late(id, n, error)),
        };
        let room = receipt.room.unwrap_or(room);
        let ack = Ack { client_id: key, room, seq: receipt.seq, ts: receipt.ts, duplicate };
        Some(Message::reply(Some(id), Reply::Ack(ack)))
    }

    fn refuse_late(&mut self, id: RequestId, n: Option<u64>, error: WireError) -> Message {
        self.refused(n, &error);
        Message::refusal(Some(id), error)
    }

    fn refused(&mut self, n: Option<u64>, error: &WireError) {
        if let (true, Some(n)) = (error.retryable, n) {
            self.waits_for = Some(self.waits_for.map_or(n, |first| first.min(n)));
        }
    }
}

/// How long to wait until a full disk may have room, in milliseconds.
const FULL_RETRY_MS: u64 = 2_000;
/// How long to wait until a full queue may have room, in milliseconds.
const BUSY_RETRY_MS: u64 = 500;

/// Words a proposal's failure for the client. `None` where its outcome is unknown and nothing may be said.
pub(super) fn log_refusal(error: LogError) -> Option<WireError> {
    match error {
        LogError::Full => {
            let words = "The server's disk is full. Nothing was stored; it is tried again when there is room.";
            Some(WireError::new(ErrorCode::StorageFull, words).retry_after(FULL_RETRY_MS))
        }
        LogError::Busy => {
            let words = "The server has too much to write at the moment. Nothing was stored.";
            Some(WireError::new(ErrorCode::Unavailable, words).retry_after(BUSY_RETRY_MS))
        }
        LogError::Stopped => None,
    }
}
