//! What a person is shown, taken from the session as the page takes it, and what they look at.
//!
//! Must not live here: what must be true of it ([`crate::check`]), or what they write (`people`). Invariant: whatever a
//! session tells is looked at before it is taken.

use shared::ids::{RoomId, Seq};
use shared::message::{Command as WireCommand, History, Reply};
use shared::model::{OpenOutcome, UserChange};
use shared::session::{Command, ConnectionState, Input, RequestTag, SessionEvent};

use super::device::Kind;
use super::host::ASIDE;
use super::{Happening, Held, World, broken, name_of, short};
use crate::heap::{self, Owner};

/// Rows on a screen.
const LOOKS_AT_ONCE: usize = 20;

impl World {
    /// Takes what the session tells, as a page does.
    pub(super) fn show(&mut self, number: usize, event: SessionEvent) -> Held {
        match event {
            SessionEvent::State(state) => {
                self.tell(|_| format!("device {number} shows {state:?}"));
                let is_up =
                    matches!(state, ConnectionState::Live | ConnectionState::Slow | ConnectionState::CatchingUp { .. });
                if !is_up {
                    let now = self.now;
                    if self.devices[number].lost(now) {
                        // After one that lasted it begins anew.
                        self.nudged(number);
                    }
                    crate::check::lost(self, number)?;
                }
                if let ConnectionState::Stopped(_) = state {
                    // The person signs in again.
                    let (life, wait) = (self.devices[number].life, self.chance.between(500, 5_000));
                    self.after(wait, Happening::StartOver { device: number, life });
                }
            }
            SessionEvent::Welcomed { rooms, complete, user, .. } => {
                let (now, newest) = (self.now, self.truth.newest());
                let history = self.current_link(number).map_or(newest, |link| link.history);
                let device = &mut self.devices[number];
                device.welcomed_at = Some(now);
                if complete {
                    device.counts_of = history;
                }
                let replay = device.kind == Kind::Program;
                for (room, opens) in device.rooms_are(&rooms, complete, user) {
                    let command = match opens {
                        true => Command::Open { room, cursor: None, replay },
                        false => Command::Shut { room },
                    };
                    self.input(number, Input::Command(command))?;
                }
            }
            SessionEvent::Opened(opened) => {
                let words = match &opened.outcome {
                    OpenOutcome::Recovered { head, missed } => format!("goes on, {missed} missed, head {head}"),
                    OpenOutcome::Fresh { snapshot } => format!("begins at {}", snapshot.as_of.seq),
                    OpenOutcome::Jumped { snapshot, hole } => {
                        self.counts.jumps += 1;
                        format!("jumps to {} over {hole}", snapshot.as_of.seq)
                    }
                    OpenOutcome::Reset { snapshot, reason } => {
                        self.counts.resets += 1;
                        format!("is reset to {} ({reason:?})", snapshot.as_of.seq)
                    }
                    OpenOutcome::Refused { error } => format!("is refused: {}", error.message),
                };
                self.tell(|_| format!("device {number} in {}: {words}", name_of(opened.room)));
                let history = crate::check::opened(self, number, &opened)?;
                self.devices[number].opened(&opened, history);
                crate::check::newest_rows(self, number, opened.room)?;
            }
            SessionEvent::Room(event) => {
                let history = crate::check::event(self, number, &event)?;
                if let Err(expected) = self.devices[number].event(&event, history) {
                    return broken(format!(
                        "device {number} was given seq {} of {} where {expected:?} comes next",
                        event.seq, event.room
                    ));
                }
                crate::check::newest_rows(self, number, event.room)?;
            }
            SessionEvent::User(event) => self.own_change(number, &event.change, event.seq)?,
            SessionEvent::Queued(item) => {
                let device = &mut self.devices[number];
                device.queued.insert(item.client_id);
                device.tell_timeline(item.room, |timeline| timeline.queued(&item));
                crate::check::newest_rows(self, number, item.room)?;
            }
            SessionEvent::Saved(key) => {
                let device = &mut self.devices[number];
                device.saved.insert(key);
                device.each_timeline(|timeline| timeline.saved(key));
            }
            SessionEvent::Sending(key) => self.devices[number].each_timeline(|timeline| timeline.sending(key)),
            SessionEvent::Interrupted(key) => self.devices[number].each_timeline(|timeline| timeline.interrupted(key)),
            SessionEvent::Acked(ack) => {
                let history = crate::check::acked(self, number, &ack)?;
                let device = &mut self.devices[number];
                device.acked_since_loss += 1;
                if device.stands_at(ack.room).is_none_or(|(given, _)| given < ack.seq) {
                    let newest = device.told_stored.entry((history, ack.room)).or_default();
                    *newest = ack.seq.max(*newest);
                }
                device.queued.remove(&ack.client_id);
                device.acked.insert(ack.client_id, ack.seq);
                device.tell_timeline(ack.room, |timeline| timeline.acked(&ack));
                crate::check::newest_rows(self, number, ack.room)?;
            }
            SessionEvent::Refused { client_id, error } => {
                crate::check::refused(self, number, client_id, &error)?;
                self.tell(|_| format!("device {number}: a send was refused: {}", error.message));
                self.devices[number].each_timeline(|timeline| timeline.refused(client_id, &error));
            }
            SessionEvent::Discarded(key) => {
                crate::check::discarded(self, number, key)?;
                let device = &mut self.devices[number];
                device.queued.remove(&key);
                device.each_timeline(|timeline| timeline.discarded(key));
            }
            SessionEvent::OutboxFull { client_id } => {
                crate::check::outbox_full(self, number)?;
                self.devices[number].discarded.insert(client_id);
            }
            SessionEvent::Answer { tag, result } => self.answered(number, tag, result.ok())?,
            SessionEvent::Diagnostic(line) => {
                if let shared::session::Happened::Waiting { ms } = line.what {
                    let longest = ms == 30_000 || (ms % 1_000 == 0 && (ms / 1_000).is_power_of_two());
                    let waits = &mut self.devices[number].longest_waits;
                    *waits = if longest { *waits + 1 } else { 0 };
                }
                if line.what == shared::session::Happened::Live {
                    self.devices[number].has_caught_up = true;
                }
                crate::check::diagnostic(self, number, &line.what)?;
                self.tell(|_| format!("device {number}: {}", short(&line.what)));
            }
            SessionEvent::Recovered { received, sent } => crate::check::recovered(self, number, received, sent)?,
            SessionEvent::Heads(heads) => {
                let posts = &mut self.devices[number].posts;
                posts.extend(heads.iter().map(|head| (head.room, head.posts)));
            }
            SessionEvent::Read(mark) => {
                let read = self.devices[number].read.entry(mark.room).or_default();
                *read = mark.posts.max(*read);
            }
            SessionEvent::Storage { ok } => self.devices[number].storage_told = ok,
            SessionEvent::Typing(_) | SessionEvent::Presence(_) | SessionEvent::RoundTrip { .. } => {}
        }
        Ok(())
    }

    pub(super) fn answered(&mut self, number: usize, tag: RequestTag, reply: Option<Reply>) -> Held {
        if let Some(key) = self.devices[number].requests.remove(&tag)
            && reply.is_some()
        {
            crate::check::done(self, number, key)?;
        }
        if let Some(Reply::History(asked)) = &reply {
            let rooms = self.devices[number].rooms.get(&asked.room).and_then(|shown| shown.asked);
            if let Some(before) = rooms.filter(|before| tag == page_tag(asked.room, *before)) {
                crate::check::page(self, number, before, asked)?;
            }
        }
        for (room, shown) in &mut self.devices[number].rooms {
            let Some(before) = shown.asked.filter(|before| tag == page_tag(*room, *before)) else { continue };
            shown.asked = None;
            if let Some(Reply::History(page)) = &reply {
                heap::of(Owner::Page, || shown.timeline.history(page, before));
            }
        }
        Ok(())
    }

    pub(super) fn own_change(&mut self, number: usize, change: &UserChange, seq: Seq) -> Held {
        let Some((room, opens)) = self.devices[number].own_change(change, seq) else { return Ok(()) };
        let replay = self.devices[number].kind == Kind::Program;
        if opens {
            self.input(number, Input::Command(Command::Open { room, cursor: None, replay }))
        } else {
            self.input(number, Input::Command(Command::Shut { room }))
        }
    }

    /// The person reads everything, once the weather is fair.
    pub(super) fn read_on(&mut self, number: usize) -> Held {
        if !self.fair || self.devices[number].session.state() != ConnectionState::Live {
            return Ok(());
        }
        let mut asks = Vec::new();
        for (room, shown) in &mut self.devices[number].rooms {
            if shown.asked.is_none()
                && shown.is_open
                && let Some(before) = shown.needed(self.looks_at)
            {
                shown.asked = Some(before);
                asks.push((*room, before));
            }
        }
        for (room, before) in asks {
            let command = WireCommand::History(History { room, before, limit: None });
            self.input(number, Input::Command(Command::Request { tag: page_tag(room, before), command }))?;
        }
        Ok(())
    }

    /// The person looks at older posts, at a place drawn by number.
    pub(super) fn look_back(&mut self, number: usize, pick: u64) -> Held {
        let rooms = self.devices[number].rooms.iter_mut().filter(|(_, shown)| shown.is_open && shown.asked.is_none());
        let mut rooms: Vec<_> = rooms.collect();
        let count = rooms.len() as u64;
        let Some((room, shown)) = rooms.get_mut((pick % count.max(1)) as usize) else { return Ok(()) };
        let place = pick / count;
        let first = (place % (shown.timeline.len() as u64 + 1)) as usize;
        let drawn = Seq(1 + place % shown.given.unwrap_or_default().0.max(1));
        let before = shown.timeline.needed(first, first + LOOKS_AT_ONCE).unwrap_or(drawn);
        shown.asked = Some(before);
        let (room, command) = (**room, History { room: **room, before, limit: None });
        let (tag, command) = (page_tag(room, before), WireCommand::History(command));
        self.input(number, Input::Command(Command::Request { tag, command }))
    }
}

/// Makes the tag of a request for a page.
fn page_tag(room: RoomId, before: Seq) -> RequestTag {
    RequestTag(before.0 * 2 + u64::from(room == ASIDE))
}
