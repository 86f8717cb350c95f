//! What a connection hands its client of the streams it follows, and of others' news.
//!
//! Must not live here: places in streams (`follow`), or sockets. Invariant: nothing is taken from a stream before the
//! output is empty, so what a slow peer has not taken is a cursor and not a queue.

use std::sync::Arc;
use std::time::Instant;

use shared::close;
use shared::limits::PAGE_PEOPLE;
use shared::message::{Draining, Event, Heads, Message, Presence, ReadMark};
use shared::model::{Head, Member, UserChange, UserEvent};
use shared::planted::{Bug, is_planted};

use super::follow::{self, BURST_BYTES, Found, Pull, Turned};
use super::{Catchup, Connection, Phase, open};
use crate::config::ms;
use crate::delivery::{Letters, Order};
use crate::log::LogError;
use crate::socket::Socket;
use crate::ws::frame;

impl<S: Socket> Connection<S> {
    /// Moves what comes next into an empty output. Returns whether anything moved.
    pub(super) fn pull(&mut self) -> bool {
        let Some(entered) = &mut self.entered else { return false };
        let mut out = self.outlet.lock();
        if self.phase != Phase::Open || (!out.is_empty() && !is_planted(Bug::QueueGrows)) {
            return false;
        }
        let took = match entered.follows.pull(&mut out) {
            Pull::Nothing => {
                if self.page.is_none()
                    && let Some(unsure) = entered.follows.take_unsure()
                {
                    let (app, peer) = (Arc::clone(&self.app), Arc::clone(&entered.peer));
                    self.page = Some(Box::pin(follow::read_heads(app, peer, unsure)));
                }
                false
            }
            Pull::Took => true,
            Pull::Read(ask) if self.page.is_none() => {
                let (app, peer) = (Arc::clone(&self.app), Arc::clone(&entered.peer));
                self.page = Some(Box::pin(follow::read_page(app, peer, ask)));
                false
            }
            // One page at a time; the stream is asked again when this one is turned.
            Pull::Read(ask) => {
                entered.follows.give_back(&mut out, &ask);
                false
            }
        };
        drop(out);
        self.tell_live();
        took
    }

    pub(super) fn tell_live(&mut self) {
        let Some(entered) = self.entered.as_mut().filter(|entered| entered.catching_up == Catchup::Behind) else {
            return;
        };
        let mut out = self.outlet.lock();
        if entered.follows.are_goals_reached(&out) {
            entered.catching_up = Catchup::Told;
            out.push(frame::text(&Message::event(Event::Live(shared::message::Live {})).to_json()));
            out.share();
        }
    }

    pub(super) fn on_found(&mut self, found: Result<Found, LogError>) {
        self.page = None;
        let Some(entered) = &mut self.entered else { return };
        if self.phase != Phase::Open {
            return;
        }
        let page = match found {
            Ok(Found::Page(page)) => page,
            Ok(Found::Heads(heads)) => return entered.follows.found(heads),
            Err(_) => return self.close_with(close::SERVER_ERROR),
        };
        // What a page holds is queued before anybody else may go on from its end.
        let mut out = self.outlet.lock();
        let turned = entered.follows.turn_page(&mut out, page);
        match turned {
            Turned::Stale => {}
            Turned::Frames(frames) => frames.into_iter().for_each(|frame| out.push(frame)),
            Turned::Jumped(plan) => {
                out.push(open::frame_with(&Message::event(Event::Opened(plan.opened)), plan.roster.as_deref()));
            }
            Turned::User(events) => {
                drop(out);
                events.into_iter().for_each(|event| self.on_user_event(event));
                return self.tell_live();
            }
            Turned::Missing => {
                drop(out);
                tracing::error!("the log does not hold an event below its own head");
                return self.close_with(close::SERVER_ERROR);
            }
        }
        drop(out);
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
                presence.rename(user, &named.name);
            }
            UserChange::Unknown(_) => {}
        }
        self.outlet.lock().push(crate::delivery::user_frame(&event));
    }

    pub(super) fn take_letters(&mut self, now: Instant) {
        let Some(entered) = &self.entered else { return };
        let heads_due = self.heads_told.is_none_or(|told| now >= told + ms(self.app.config.timing.coalesce_ms));
        // What comes while the greeting is read is told behind it. What comes while the peer does not keep up waits where it
        // is merged.
        let (letters, left) = match self.phase {
            Phase::Open if self.outlet.lock().bytes() < BURST_BYTES => entered.peer.mailbox.take(heads_due),
            Phase::Hello { .. } | Phase::Greeting | Phase::Open | Phase::Closing { .. } | Phase::Over => {
                let order = entered.peer.mailbox.take_order();
                (order.map(|order| Box::new(Letters { order: Some(order), ..Letters::default() })), false)
            }
        };
        if left && self.heads_due.is_none() {
            self.heads_due = self.heads_told.map(|told| told + ms(self.app.config.timing.coalesce_ms));
        } else if !left {
            self.heads_due = None;
        }
        let Some(letters) = letters else { return };
        let Letters { heads, presence, typing, reads, order } = *letters;
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
        // What is soon stale is shed first: posts would wait behind it when the peer does not keep up.
        if !typing.is_empty() {
            let mut out = self.outlet.lock();
            if !out.is_stalled() {
                typing.into_iter().for_each(|frame| out.push(frame));
            }
        }
        for (room, posts) in reads {
            self.tell(Event::Read(ReadMark { room, posts }));
        }
        let changes: Vec<Member> = presence.into_values().map(Arc::unwrap_or_clone).collect();
        for changes in changes.chunks(PAGE_PEOPLE) {
            self.tell(Event::Presence(Presence { changes: changes.to_vec() }));
        }
        let heads: Vec<Head> = match &self.entered {
            Some(entered) => {
                heads.into_iter().map(|(_, head)| head).filter(|head| !entered.follows.is_open(head.room)).collect()
            }
            None => Vec::new(),
        };
        if !heads.is_empty() {
            self.heads_told = Some(now);
            self.tell(Event::Heads(Heads { heads }));
        }
    }
}
