//! What a person or a program wants of a session.
//!
//! Must not live here: what the network does (`link`), what the server says (`hear`). Invariant: a command never fails
//! silently; it is done, queued, or answered.

use crate::close;
use crate::cursor::Position;
use crate::error::{ErrorCode, WireError};
use crate::ids::{ClientId, RequestId, RoomId};
use crate::limits::{OUTBOX_ITEMS, PENDING_REQUESTS};
use crate::message::{Command as WireCommand, MarkRead, RoomRef, TYPING_EVERY_MS};
use crate::time::Timestamp;

use super::io::{Command, ConnectionState, RequestTag, SessionEvent};
use super::item::OutboxItem;
use super::link::{Link, RETRY_NOW_SPACING_MS};
use super::{Pending, ReadTo, Session, Told, not_connected};

/// Read positions said at once. A server counts every message, and refuses posts, too, when there are too many.
const READS_AT_ONCE: u64 = 16;
/// Between two of them after that, in milliseconds. What is not said waits for the next, or for an answered beat.
const READ_EVERY_MS: u64 = 250;

impl Session {
    pub(super) fn handle_command(&mut self, command: Command, now: Timestamp) {
        match command {
            Command::Start => match self.link {
                Link::Idle | Link::Stopped(_) if self.online => self.open(now),
                Link::Idle | Link::Stopped(_) => self.link = Link::Offline { not_before: now },
                Link::Offline { .. }
                | Link::Waiting { .. }
                | Link::Opening { .. }
                | Link::Greeting { .. }
                | Link::Up(_) => {}
            },
            Command::Stop => {
                self.drop_socket(close::NORMAL, "bye");
                self.lose(None, now);
                self.backoff.reset();
                self.link = Link::Idle;
            }
            Command::RetryNow => match self.link {
                Link::Offline { .. } | Link::Waiting { .. } => {
                    let earliest = self.attempt_at.plus(RETRY_NOW_SPACING_MS);
                    if now >= earliest {
                        self.open(now);
                    } else {
                        self.link = Link::Waiting { until: earliest, not_before: earliest };
                    }
                }
                Link::Up(_) => self.probe(now),
                Link::Idle | Link::Opening { .. } | Link::Greeting { .. } | Link::Stopped(_) => {}
            },
            Command::Send { client_id, room, op, at } => {
                // A link found dead now must not swallow what is about to be sent.
                self.handle_deadline(now);
                self.queue(OutboxItem {
                    client_id,
                    room,
                    op,
                    queued_at: at,
                    order: 0,
                    attempted: false,
                    refused: None,
                });
            }
            Command::CancelSend { client_id } => {
                if self.outbox.cancel(client_id) {
                    self.forget(client_id);
                }
            }
            Command::DiscardSend { client_id } => {
                if self.outbox.discard(client_id) {
                    self.forget(client_id);
                }
            }
            Command::RetrySend { client_id, at } => {
                if self.outbox.retry(client_id, at) {
                    self.requeued(client_id);
                }
            }
            Command::Open { room, cursor, replay } => self.open_room(room, cursor, replay, now),
            Command::Shut { room } => {
                if self.resume.shut(room) {
                    self.tell_of_room(room, now);
                }
            }
            Command::Request { tag, command } => self.request(tag, command),
            Command::MarkRead { room, posts } => {
                let read = self.reads.get_or_default(room);
                if posts > read.posts {
                    *read = ReadTo { posts, told: Told::No };
                    self.say_reads(now);
                }
            }
            Command::Typing { room } => {
                let lately = self.typed.get(&room).is_some_and(|at| now.since(*at) < TYPING_EVERY_MS);
                if !lately && self.state() == ConnectionState::Live {
                    self.typed.insert(room, now);
                    self.send_unanswered(WireCommand::Typing(RoomRef { room }));
                }
            }
        }
    }

    pub(super) fn queue(&mut self, item: OutboxItem) {
        let (client_id, at) = (item.client_id, item.queued_at);
        if self.outbox.is_full() {
            self.emit(SessionEvent::OutboxFull { client_id });
        } else if self.outbox.push(item, at) {
            self.requeued(client_id);
        }
    }

    /// Tells and stores an item that has just been put at the outbox's end.
    pub(super) fn requeued(&mut self, client_id: ClientId) {
        self.dirty.insert(client_id);
        self.announce(client_id);
    }

    /// Tells of an item that is in the outbox now.
    pub(super) fn announce(&mut self, client_id: ClientId) {
        let Some(item) = self.outbox.get(client_id).cloned() else { return };
        self.emit(SessionEvent::Queued(item));
        if let Some(error) = self.outbox.park_oversized(client_id, self.limits.message_bytes) {
            self.dirty.insert(client_id);
            self.emit(SessionEvent::Refused { client_id, error });
        }
    }

    pub(super) fn forget(&mut self, client_id: ClientId) {
        let serial = self.remove_stored(client_id);
        if self.forgotten.len() < OUTBOX_ITEMS {
            self.forgotten.insert(client_id, Some(serial));
        }
        self.emit(SessionEvent::Discarded(client_id));
    }

    pub(super) fn open_room(&mut self, room: RoomId, cursor: Option<Position>, replay: bool, now: Timestamp) {
        let again = self.resume.is_open(room);
        if let Some(evicted) = self.resume.open(room, cursor, replay) {
            self.tell_of_room(evicted, now);
        }
        if !again {
            self.tell_of_room(room, now);
        }
    }

    /// Asks for a room, if it is followed, or leaves it. A hello that is on its way does not say so any more: it is said
    /// after the welcome.
    pub(super) fn tell_of_room(&mut self, room: RoomId, now: Timestamp) {
        let ask = self.resume.ask(room);
        if !matches!(self.link, Link::Up(_)) {
            return self.resume.tell_later(room, 0, now);
        }
        self.resume.told(room);
        // What is answered to an older word of it does not say how it stands after this one.
        self.pending.retain(|_, pending| !matches!(pending, Pending::Room(other) if *other == room));
        let command = ask.map_or(WireCommand::Shut(RoomRef { room }), WireCommand::Open);
        self.send_request(command, Pending::Room(room));
    }

    /// Says again of a room what was refused for now.
    pub(super) fn say_again(&mut self, now: Timestamp) {
        if matches!(self.link, Link::Up(_))
            && let Some(room) = self.resume.next_again(now)
        {
            self.tell_of_room(room, now);
        }
    }

    pub(super) fn request(&mut self, tag: RequestTag, command: WireCommand) {
        let callers = self.pending.values().filter(|pending| matches!(pending, Pending::Caller(_))).count();
        let refusal = match &self.link {
            Link::Up(_) if callers < PENDING_REQUESTS => None,
            Link::Up(_) => Some(WireError::new(ErrorCode::LimitReached, "Too many requests wait for their answer.")),
            Link::Idle
            | Link::Offline { .. }
            | Link::Waiting { .. }
            | Link::Opening { .. }
            | Link::Greeting { .. }
            | Link::Stopped(_) => Some(not_connected()),
        };
        match refusal {
            None => self.send_request(command, Pending::Caller(tag)),
            Some(error) => self.emit(SessionEvent::Answer { tag, result: Err(error) }),
        }
    }

    pub(super) fn say_reads(&mut self, now: Timestamp) {
        if !matches!(self.link, Link::Up(_)) {
            return;
        }
        self.reads_due = self.reads_due.max(now);
        let left = READS_AT_ONCE.saturating_sub(self.reads_due.since(now).div_ceil(READ_EVERY_MS)) as usize;
        let mut marks = Vec::new();
        for (room, read) in self.reads.iter_mut().filter(|(_, read)| read.told == Told::No && read.posts > 0).take(left)
        {
            self.request = RequestId(self.request.0 + 1);
            read.told = Told::Said(self.request);
            marks.push((self.request, MarkRead { room: *room, posts: read.posts }));
        }
        self.reads_due = self.reads_due.plus(READ_EVERY_MS * marks.len() as u64);
        for (id, mark) in marks {
            self.write(id, &WireCommand::Read(mark));
        }
    }

    /// Notes how far the server knows that a room was read: it is not told so again.
    pub(super) fn read_taken(&mut self, room: RoomId, posts: u64) {
        if let Some(read) = self.reads.get_mut(&room)
            && read.posts <= posts
        {
            read.told = Told::Taken;
        }
    }
}
