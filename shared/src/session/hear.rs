//! What the server says, and what follows from it.
//!
//! Must not live here: whether the link is alive (`link`, `heartbeat`). Invariant: a message that cannot be read, or has
//! no place here, is noted and changes nothing.

use crate::close;
use crate::error::{ErrorCode, WireError};
use crate::ids::{AttemptId, RequestId, RoomId};
use crate::message::{Ack, Body, Event, Message, Reply, Welcome};
use crate::model::{OpenOutcome, Opened, RoomChange, RoomEvent};
use crate::planted::{Bug, is_planted};
use crate::time::Timestamp;

use super::diagnostic::Happened;
use super::heartbeat::Heartbeat;
use super::io::SessionEvent;
use super::link::{Link, Pace, Sync, Up};
use super::outbox::AfterRefusal;
use super::resume::{Heard, Verdict};
use super::{Pending, ReadTo, Session, Told};

impl Session {
    pub(super) fn handle_received(&mut self, attempt: AttemptId, text: &str, now: Timestamp) {
        if self.current_attempt() != Some(attempt) && !is_planted(Bug::StaleSocket) {
            return;
        }
        let message = match Message::parse_from_server(text) {
            Ok(message) => message,
            Err(bad) => return self.note(Happened::Unreadable { why: bad.error.message }, now),
        };
        if is_planted(Bug::Flapping)
            && let Link::Up(up) = &self.link
            && (2_000..9_000).contains(&now.since(up.since))
        {
            return self.give_up(close::BAD_SEQUENCE, "flapping", now);
        }
        if let Link::Up(up) = &mut self.link
            && up.sync != Sync::Live
        {
            // Nobody is told "live" meanwhile.
            up.heartbeat.brought(now);
        }
        match (message.body, message.id) {
            (Body::Event(event), _) => self.handle_event(event, now),
            (Body::Reply(reply), Some(id)) => self.handle_reply(id, reply, now),
            (Body::Refusal(error), Some(id)) => self.handle_refusal(id, error, now),
            (Body::Refusal(error), None) => self.note(Happened::Unreadable { why: error.to_string() }, now),
            (Body::Reply(_), None) => self.note(Happened::Unreadable { why: "a reply without an id".to_owned() }, now),
            (Body::Command(_), _) => self.note(Happened::Unreadable { why: "a command from a server".to_owned() }, now),
        }
        self.check_pace(now);
    }

    pub(super) fn handle_reply(&mut self, id: RequestId, reply: Reply, now: Timestamp) {
        if let Link::Greeting { hello, .. } = self.link {
            if id == hello
                && let Reply::Welcome(welcome) = reply
            {
                self.welcomed(*welcome, now);
            }
            return;
        }
        let pending = self.pending.remove(&id);
        self.answered(pending.as_ref(), matches!(reply, Reply::Ack(_)), now);
        match (pending, reply) {
            (Some(Pending::Beat), Reply::Beat(answer)) => {
                self.backoff.set_spread(answer.reconnect_spread_ms);
                self.beat_answered(id, now);
            }
            (Some(Pending::Send(..)), Reply::Ack(mut ack)) => {
                if is_planted(Bug::OldestSettled)
                    && let Some(oldest) = self.outbox.iter().next()
                {
                    ack.client_id = oldest.client_id;
                }
                self.settle(ack);
            }
            (Some(Pending::Room(_)), Reply::Opened(opened)) => self.room_opened(opened, now),
            (Some(Pending::Room(room)), Reply::Done(_)) if !self.resume.is_open(room) => {}
            (Some(Pending::Caller(tag)), reply) => self.emit(SessionEvent::Answer { tag, result: Ok(reply) }),
            (None, _) => {}
            (Some(Pending::Beat | Pending::Send(..) | Pending::Room(_)), reply) => {
                self.note(Happened::Unreadable { why: format!("an answer of the wrong kind: {}", reply.tag()) }, now);
            }
        }
    }

    pub(super) fn welcomed(&mut self, welcome: Welcome, now: Timestamp) {
        let Link::Greeting { attempt, .. } = self.link else { return };
        if welcome.you.id != self.config.user {
            // Somebody else signed in with this browser. What is unsent belongs to whom wrote it.
            self.give_up(close::SESSION_REVOKED, "another user", now);
            return;
        }
        self.note(Happened::Welcomed { connection: welcome.connection }, now);
        self.backoff.set_spread(welcome.reconnect_spread_ms);
        self.limits = welcome.limits;
        self.resume.welcomed(&welcome);
        self.link = Link::Up(Box::new(Up {
            attempt,
            since: now,
            heartbeat: Heartbeat::new(welcome.heartbeat, self.hidden, now),
            sync: Sync::CatchingUp,
            pace: Pace::Good,
        }));
        for room in &welcome.rooms {
            if let Some(read) = self.reads.get_mut(&room.room) {
                // A server that was set back has fewer posts, and has forgotten what it was told.
                read.posts = read.posts.min(room.posts);
                read.told = if read.posts <= room.read { Told::Taken } else { Told::No };
            }
        }
        self.emit(SessionEvent::Welcomed {
            you: welcome.you,
            rooms: welcome.rooms,
            complete: welcome.rooms_complete,
            user: welcome.user.seq,
            limits: welcome.limits,
            server: welcome.server,
            connection: welcome.connection,
        });
        // The server counts anew.
        self.reads_due = now;
        self.say_reads(now);
    }

    pub(super) fn handle_refusal(&mut self, id: RequestId, error: WireError, now: Timestamp) {
        if let Link::Greeting { hello, .. } = self.link {
            if id == hello {
                // The server closes with the code that says what to do.
                self.note(Happened::Unreadable { why: error.to_string() }, now);
            }
            return;
        }
        let pending = self.pending.remove(&id);
        self.answered(pending.as_ref(), !error.retryable, now);
        match pending {
            Some(Pending::Send(client_id, n)) => match self.outbox.refused(client_id, id, n, error, now) {
                AfterRefusal::Parked(client_id, error) => {
                    self.dirty.insert(client_id);
                    self.emit(SessionEvent::Refused { client_id, error });
                }
                AfterRefusal::Again | AfterRefusal::Unknown => {}
            },
            Some(Pending::Room(room)) => self.room_refused(room, error, now),
            Some(Pending::Caller(tag)) => self.emit(SessionEvent::Answer { tag, result: Err(error) }),
            // A refused beat is an answer all the same: the way up works.
            Some(Pending::Beat) => self.beat_answered(id, now),
            // A read position is answered only so. It is said again with the next one, or after a beat.
            None if error.retryable => {
                for read in self.reads.values_mut().filter(|read| read.told == Told::Said(id)) {
                    read.told = Told::No;
                }
            }
            None => {}
        }
    }

    /// An answer to anything shows that the way up carries what was asked before a beat that waits behind it. `is_done` says
    /// that it need not be asked again.
    fn answered(&mut self, asked: Option<&Pending>, is_done: bool, now: Timestamp) {
        if let Some(Pending::Send(_, n)) = asked {
            self.outbox.answered(*n, is_done);
        }
        if let (Some(_), Link::Up(up)) = (asked, &mut self.link) {
            up.heartbeat.answered_another(now);
        }
    }

    pub(super) fn beat_answered(&mut self, id: RequestId, now: Timestamp) {
        let late = self.outbox.late_at().is_some_and(|at| now >= at);
        let Link::Up(up) = &mut self.link else { return };
        let round_trip = up.heartbeat.answered(id, now);
        if round_trip.is_some() && late && up.pace == Pace::Probing {
            up.pace = Pace::Slow;
        }
        self.say_reads(now);
        if let Some(ms) = round_trip {
            self.emit(SessionEvent::RoundTrip { ms });
        }
    }

    pub(super) fn handle_event(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Draining(draining) => {
                self.farewell.restart_ms = Some(draining.reconnect_after_ms);
                self.restarting = true;
                self.note(Happened::Draining, now);
                return;
            }
            Event::Closing(closing) => {
                self.farewell.announced = Some((closing.code, closing.reason));
                return;
            }
            Event::Room(_)
            | Event::User(_)
            | Event::Opened(_)
            | Event::Live(_)
            | Event::Heads(_)
            | Event::Typing(_)
            | Event::Presence(_)
            | Event::Read(_)
            | Event::Beat(_)
            | Event::Unknown(_) => {}
        }
        if !matches!(self.link, Link::Up(_)) {
            return;
        }
        match event {
            Event::Room(event) => self.room_event(event, now),
            Event::User(event) => match self.resume.offer_user(&event) {
                Verdict::Deliver if is_planted(Bug::OwnChangeLost) => {}
                Verdict::Deliver => self.emit(SessionEvent::User(event)),
                Verdict::Drop => {}
                Verdict::Gap { .. } => self.give_up(close::BAD_SEQUENCE, "a gap in the user stream", now),
            },
            Event::Opened(opened) => self.room_opened(opened, now),
            Event::Live(_) => {
                if let Link::Up(up) = &mut self.link
                    && up.sync == Sync::CatchingUp
                {
                    up.sync = Sync::SaidLive;
                }
            }
            Event::Heads(heads) => self.emit(SessionEvent::Heads(heads.heads)),
            Event::Typing(typing) => self.emit(SessionEvent::Typing(typing)),
            Event::Presence(presence) => self.emit(SessionEvent::Presence(presence.changes)),
            Event::Read(mark) => {
                self.read_taken(mark.room, mark.posts);
                self.emit(SessionEvent::Read(mark));
            }
            Event::Beat(asked) => self.beat(Some(asked.n), now),
            Event::Draining(_) | Event::Closing(_) | Event::Unknown(_) => {}
        }
    }

    pub(super) fn room_event(&mut self, event: RoomEvent, now: Timestamp) {
        match self.resume.offer_room(&event, self.config.user) {
            Verdict::Deliver => {
                if event.by.id == self.config.user
                    && let RoomChange::Posted(posted) = &event.change
                {
                    let (client_id, room, seq, ts) = (posted.client_id, event.room, event.seq, event.ts);
                    self.settle(Ack { client_id, room, seq, ts, duplicate: false });
                }
                self.emit(SessionEvent::Room(event));
            }
            Verdict::Drop => {}
            Verdict::Gap { expected } => {
                self.note(Happened::Gap { room: event.room, expected, got: event.seq }, now);
                self.tell_of_room(event.room, now);
            }
        }
    }

    pub(super) fn room_opened(&mut self, opened: Opened, now: Timestamp) {
        let room = opened.room;
        if let OpenOutcome::Refused { error } = opened.outcome {
            if self.resume.is_open(room) {
                self.room_refused(room, error, now);
            }
            return;
        }
        match self.resume.opened(opened, self.config.user) {
            Heard::NotFollowed => {}
            Heard::Lost => self.tell_of_room(room, now),
            Heard::Goes(opened, missed) => {
                if missed > 0 {
                    self.note(Happened::Resumed { missed }, now);
                }
                if let OpenOutcome::Reset { reason, snapshot } = &opened.outcome {
                    self.note(Happened::ResetRoom { room, reason: *reason }, now);
                    if let Some(read) = self.reads.get_mut(&room) {
                        *read = ReadTo { posts: read.posts.min(snapshot.total), told: Told::No };
                    }
                }
                self.emit(SessionEvent::Opened(opened));
            }
        }
    }

    /// A refusal that passes is waited out: what is shown of a room that is followed may be stale until it goes on, and one
    /// that was left still counts as open there.
    fn room_refused(&mut self, room: RoomId, error: WireError, now: Timestamp) {
        // No more are followed than the server takes: it counts one that was left and does not know it yet.
        let counts_left =
            error.code == ErrorCode::LimitReached && self.resume.followed() as u64 <= self.limits.open_rooms;
        if error.retryable || counts_left {
            self.resume.refused(room, error.retry_after_ms, now);
        } else if self.resume.shut(room) {
            let outcome = OpenOutcome::Refused { error };
            self.emit(SessionEvent::Opened(Opened { room, outcome, roster: Vec::new(), members: 0 }));
        }
    }

    /// Takes a committed item out of the outbox, whichever of ack and echo came first.
    pub(super) fn settle(&mut self, ack: Ack) {
        if self.outbox.settle(ack.client_id).is_some() {
            self.sent_since_loss += 1;
            self.remove_stored(ack.client_id);
            self.resume.acknowledged(ack.room, ack.seq);
            self.emit(SessionEvent::Acked(ack));
        }
    }

    /// Declares the connection live once the server has said so and every cursor is where it should be.
    pub(super) fn settle_sync(&mut self, now: Timestamp) {
        let caught_up = self.resume.to_go() == Some(0);
        let Link::Up(up) = &mut self.link else { return };
        if up.sync != Sync::SaidLive || !caught_up {
            return;
        }
        up.sync = Sync::Live;
        self.restarting = false;
        self.note(Happened::Live, now);
        let events = std::mem::take(&mut self.resume.duplicates);
        if events > 0 {
            self.note(Happened::Deduplicated { events }, now);
        }
        if self.ever_live {
            let sent = self.sent_since_loss;
            let taken = if is_planted(Bug::SentTaken) { sent } else { 0 };
            let received = self.resume.received_since_loss().saturating_sub(taken);
            self.emit(SessionEvent::Recovered { received, sent });
        }
        self.ever_live = true;
    }
}
