//! What the session tells, folded into what is shown.
//!
//! Must not live here: what people do (`act`). Invariant: every event of the session is handled; none is asked for
//! twice.

use std::rc::Rc;

use shared::close::StopReason;
use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, RoomId, Seq};
use shared::message::Ack;
use shared::model::{OpenOutcome, Opened, RoomChange, RoomEvent, RoomSummary, UserChange, UserEvent};
use shared::session::{Command, ConnectionState, Diagnostic, Happened, OutboxItem, SendOp, SessionEvent};
use shared::time::Timestamp;

use super::{Ctx, Effect, Item, Model, Setting, Stage, VERSION_EVERY_MS};
use crate::status::{BACK_SHOWN_MS, Back, is_live};
use crate::store::{NoticeKind, PANEL_LINES, PanelLine, Place, RTT_SAMPLES};

impl Model {
    /// Takes what the session tells.
    pub fn hear(&mut self, event: SessionEvent, ctx: &mut Ctx<'_>) {
        match event {
            SessionEvent::State(state) => self.state_is(state, ctx.now),
            SessionEvent::Welcomed { you, rooms, complete, user, limits, server, connection } => {
                self.limits = limits;
                let panel = Rc::make_mut(&mut self.panel);
                panel.connection = Some(connection);
                panel.server = Some(server);
                // The first welcome follows the page's own download: there is nothing newer yet.
                if self.version_checked.is_some_and(|at| ctx.now.since(at) >= VERSION_EVERY_MS) {
                    self.effects.push(Effect::CheckVersion);
                    self.version_checked = Some(ctx.now);
                }
                self.version_checked.get_or_insert(Timestamp(0));
                if self.me.as_ref().is_some_and(|me| me.name != you.name) {
                    self.effects.push(Effect::Remember(Setting::Me(Some(you.clone()))));
                }
                self.me = Some(you);
                self.rooms_are(rooms, complete, user, ctx);
            }
            SessionEvent::Recovered { received, sent } => {
                let bar_was_shown = self.facts.bar_seen || self.facts.bar_shown(ctx.now);
                self.facts.back = Some(Back { at: ctx.now, received, sent, bar_was_shown });
            }
            SessionEvent::Opened(opened) => self.opened(&opened, ctx),
            SessionEvent::Room(event) => self.room_event(&event, ctx),
            SessionEvent::User(event) => self.user_event(event, ctx),
            SessionEvent::Heads(heads) => {
                for head in heads {
                    if let Some(room) = self.rooms.get_mut(&head.room) {
                        room.note_posts(head.seq, head.posts);
                    }
                }
            }
            SessionEvent::Typing(typing) => {
                if let Some(room) = self.rooms.get_mut(&typing.room) {
                    room.roster.change().typing(&typing, ctx.now);
                }
            }
            SessionEvent::Presence(changes) => {
                for room in self.rooms.values_mut().filter(|room| room.loaded) {
                    room.roster.change().presence(&changes);
                }
            }
            SessionEvent::Read(mark) => {
                if let Some(room) = self.rooms.get_mut(&mark.room) {
                    room.note_read(mark.posts);
                }
            }
            SessionEvent::Queued(item) => self.queued(item),
            SessionEvent::Saved(id) => self.stage(id, Stage::Saved),
            SessionEvent::Sending(id) => self.stage(id, Stage::Sending),
            SessionEvent::Interrupted(id) => self.stage(id, Stage::Interrupted),
            SessionEvent::Acked(ack) => self.acked(&ack, ctx.now),
            SessionEvent::Refused { client_id, error } => self.refused(client_id, &error),
            SessionEvent::Discarded(id) => {
                if let Some(item) = self.items.remove(&id)
                    && let Some(room) = self.rooms.get_mut(&item.item.room)
                {
                    room.timeline.change().discarded(id);
                }
                self.refusal_is_over(id);
            }
            SessionEvent::Answer { tag, result } => self.answer(tag, result, ctx),
            // The session tells of changes to what it knew; the shelf, which may have been opened anew since, of each write.
            SessionEvent::Storage { .. } => {}
            SessionEvent::OutboxFull { client_id } => self.outbox_full(client_id),
            SessionEvent::RoundTrip { ms } => {
                let samples = &mut Rc::make_mut(&mut self.panel).round_trips;
                samples.push(ms);
                let surplus = samples.len().saturating_sub(RTT_SAMPLES);
                samples.drain(..surplus);
            }
            SessionEvent::Diagnostic(diagnostic) => self.diagnostic(diagnostic, ctx),
        }
    }

    fn state_is(&mut self, state: ConnectionState, now: Timestamp) {
        let was_live = is_live(&self.facts.state);
        self.facts.bar_seen |= !was_live && self.facts.bar_shown(now);
        if is_live(&state) && !was_live {
            for room in self.rooms.values_mut() {
                room.load_failed = None;
            }
        }
        if was_live && !is_live(&state) {
            self.facts.lost_since = now;
            self.facts.back = None;
            self.facts.bar_seen = false;
        }
        if state == ConnectionState::Stopped(StopReason::SignedOut)
            && let Some(me) = &self.me
        {
            self.effects.push(Effect::Remember(Setting::NoLonger(me.id)));
        }
        self.facts.state = state;
        self.facts.state_since = now;
    }

    fn rooms_are(&mut self, rooms: Vec<RoomSummary>, complete: bool, as_of: Seq, ctx: &mut Ctx<'_>) {
        if complete {
            let gone: Vec<RoomId> = self
                .rooms
                .keys()
                .copied()
                .filter(|id| !rooms.iter().any(|room| room.room == *id && room.joined))
                .collect();
            for id in gone {
                self.drop_room(id, ctx);
            }
        }
        for room in rooms {
            if room.joined {
                let id = room.room;
                self.put_room(room);
                if let Some(room) = self.rooms.get_mut(&id) {
                    room.listed = as_of;
                }
            } else {
                self.drop_room(room.room, ctx);
            }
        }
        // What was found on the device before is refused in a room that may have been about to come.
        if !std::mem::replace(&mut self.rooms_known, true) {
            self.tell_refused(&|_| true);
        }
        if let Place::Looking { name } = &self.place
            && self.wanted.is_none()
        {
            self.wanted = Some(super::Wanted { name: name.clone(), by_default: false });
        }
        self.resolve(ctx);
        if let Place::Room(id) = self.place {
            self.follow(id);
        }
    }

    fn opened(&mut self, opened: &Opened, ctx: &mut Ctx<'_>) {
        if let OpenOutcome::Refused { error } = &opened.outcome {
            let error = error.clone();
            // The session follows it no longer: what asks for it next is to be heard.
            self.followed.retain(|followed| *followed != opened.room);
            self.empty_room(opened.room);
            if let Some(room) = self.rooms.get_mut(&opened.room) {
                room.load_failed = Some(error.clone());
            }
            if matches!(error.code, ErrorCode::NotMember | ErrorCode::NotFound | ErrorCode::Forbidden) {
                self.drop_room(opened.room, ctx);
            }
            self.refused_notice(error, ctx.now);
            return;
        }
        match &opened.outcome {
            OpenOutcome::Fresh { .. } | OpenOutcome::Reset { .. } => self.await_no_page(opened.room),
            OpenOutcome::Recovered { .. } | OpenOutcome::Jumped { .. } | OpenOutcome::Refused { .. } => {}
        }
        let shown = self.place == Place::Room(opened.room);
        let Some(room) = self.rooms.get_mut(&opened.room) else { return };
        room.timeline.change().opened(opened);
        room.roster.change().opened(opened);
        room.loaded = true;
        room.load_failed = None;
        room.summary.members = opened.members;
        match &opened.outcome {
            OpenOutcome::Recovered { .. } | OpenOutcome::Refused { .. } => {}
            OpenOutcome::Fresh { snapshot } => room.note_posts(snapshot.as_of.seq, snapshot.total),
            OpenOutcome::Jumped { snapshot, .. } => {
                room.note_posts(snapshot.as_of.seq, snapshot.total);
                // So much is missed by those who were away, also where nothing hid the page, as in a machine that slept.
                if shown {
                    room.mark_new();
                }
            }
            OpenOutcome::Reset { reason, snapshot } => {
                room.summary.head = snapshot.as_of.seq;
                room.summary.posts = snapshot.total;
                room.summary.read = room.summary.read.min(snapshot.total);
                room.divider = None;
                self.notice(NoticeKind::RoomReset(*reason), None);
            }
        }
    }

    fn room_event(&mut self, event: &RoomEvent, ctx: &mut Ctx<'_>) {
        let mine = self.me.as_ref().is_some_and(|me| me.id == event.by.id);
        let kicked = matches!(&event.change, RoomChange::Kicked(kicked)
            if self.me.as_ref().is_some_and(|me| me.id == kicked.user.id));
        if matches!(event.change, RoomChange::Ended(_)) || kicked {
            self.drop_room(event.room, ctx);
            return;
        }
        let Some(room) = self.rooms.get_mut(&event.room) else { return };
        room.timeline.change().event(event);
        room.roster.change().event(event);
        room.note_posts(event.seq, event.posts);
        room.summary.members = room.roster.members();
        match &event.change {
            RoomChange::Posted(_) => {
                // What I write I have read, if I had read what came before it.
                if mine && room.summary.read + 1 == event.posts {
                    room.note_read(event.posts);
                    self.session(Command::MarkRead { room: event.room, posts: event.posts });
                }
            }
            RoomChange::Created(title) | RoomChange::Set(title) => {
                room.summary.name = title.name.clone();
                room.summary.title = title.title.clone();
            }
            RoomChange::Edited(_)
            | RoomChange::Deleted(_)
            | RoomChange::Reacted(_)
            | RoomChange::Ended(_)
            | RoomChange::Joined(_)
            | RoomChange::Left(_)
            | RoomChange::Kicked(_)
            | RoomChange::Renamed(_)
            | RoomChange::Unknown(_) => {}
        }
    }

    fn user_event(&mut self, event: UserEvent, ctx: &mut Ctx<'_>) {
        match event.change {
            UserChange::RoomAdded(added) => {
                if self.rooms.contains_key(&added.room) {
                    return;
                }
                self.put_room(RoomSummary {
                    room: added.room,
                    name: added.name.clone(),
                    title: added.title,
                    joined: true,
                    members: 0,
                    head: added.from,
                    posts: added.posts,
                    read: added.posts,
                });
                if self.place_name().as_ref() == Some(&added.name) {
                    self.show_room(added.room, true, ctx);
                }
            }
            UserChange::RoomRemoved(removed) => {
                // A room that a welcome listed after I had left it is one I have come back to.
                if self.rooms.get(&removed.room).is_some_and(|room| room.listed < event.seq) {
                    self.drop_room(removed.room, ctx);
                }
            }
            UserChange::Named(named) => {
                let Some(me) = &mut self.me else { return };
                me.name.clone_from(&named.name);
                let me = me.clone();
                for room in self.rooms.values_mut() {
                    room.timeline.change().call_me(&me.name);
                }
                self.effects.push(Effect::Remember(Setting::Me(Some(me))));
            }
            UserChange::Unknown(_) => {}
        }
    }

    fn queued(&mut self, item: OutboxItem) {
        self.refusal_is_over(item.client_id);
        let stage = if item.refused.is_some() { Stage::Refused } else { Stage::Queued };
        let saved = self.items.get(&item.client_id).is_some_and(|known| known.saved);
        let item = Item { item, stage, saved };
        if let Some(room) = self.rooms.get_mut(&item.item.room) {
            item.show(&mut room.timeline);
        }
        self.items.insert(item.item.client_id, item);
    }

    /// An item that was refused is gone, or tried again: nothing is to be told of it any more.
    fn refusal_is_over(&mut self, id: ClientId) {
        self.notices.retain(|(notice, _)| notice.what.refused() != Some(id));
    }

    fn stage(&mut self, id: ClientId, stage: Stage) {
        let Some(item) = self.items.get_mut(&id) else { return };
        item.saved |= stage == Stage::Saved;
        let timeline = self.rooms.get_mut(&item.item.room).map(|room| room.timeline.change());
        match (&stage, timeline) {
            (Stage::Saved, Some(timeline)) => timeline.saved(id),
            (Stage::Sending, Some(timeline)) => timeline.sending(id),
            (Stage::Interrupted, Some(timeline)) => timeline.interrupted(id),
            (Stage::Queued | Stage::Refused, Some(_)) | (_, None) => {}
        }
        item.item.attempted |= stage == Stage::Sending;
        // A row that is already on its way stays so when it is saved.
        if stage != Stage::Saved || item.stage == Stage::Queued {
            item.stage = stage;
        }
    }

    fn acked(&mut self, ack: &Ack, now: Timestamp) {
        let known = self.items.remove(&ack.client_id).is_some();
        // Acknowledgements of what was queued meanwhile follow the recovery closely: they belong to what it tells.
        if let Some(back) = self.facts.back.as_mut().filter(|back| known && now.since(back.at) < BACK_SHOWN_MS) {
            back.sent += 1;
        }
        if let Some(room) = self.rooms.get_mut(&ack.room) {
            room.timeline.change().acked(ack);
        }
    }

    fn refused(&mut self, client_id: ClientId, error: &WireError) {
        let Some(item) = self.items.get_mut(&client_id) else { return };
        item.stage = Stage::Refused;
        item.item.refused = Some(error.clone());
        let is_change = !matches!(item.item.op, SendOp::Post { .. });
        if let Some(room) = self.rooms.get_mut(&item.item.room) {
            room.timeline.change().refused(client_id, error);
        }
        if is_change {
            self.notice(NoticeKind::ChangeRefused { client_id, error: error.clone() }, None);
        } else if self.rooms_known {
            self.tell_refused(&|item| item.client_id == client_id);
        }
    }

    /// Tells of those refused posts that no row tells of, since their room is none of mine any more.
    pub(super) fn tell_refused(&mut self, pick: &dyn Fn(&OutboxItem) -> bool) {
        let lost = self.items.values().map(|item| &item.item).filter(|item| pick(item));
        let lost = lost.filter(|item| !self.rooms.contains_key(&item.room));
        let told = lost.filter_map(|item| {
            let (SendOp::Post { body }, Some(error)) = (&item.op, &item.refused) else { return None };
            let (client_id, error, body) = (item.client_id, error.clone(), body.clone());
            Some((client_id, NoticeKind::PostRefused { client_id, error, body }))
        });
        for (id, what) in told.collect::<Vec<_>>() {
            self.refusal_is_over(id);
            self.notice(what, None);
        }
    }

    /// Nothing was queued: the text goes back where it came from.
    fn outbox_full(&mut self, client_id: ClientId) {
        if let Some(item) = self.items.remove(&client_id) {
            self.give_back(&item.item);
        }
        self.notice(NoticeKind::OutboxFull, None);
    }

    /// Puts an item's text back into the composer, before what is being written there. Tells whether it could: one edit is
    /// written at a time.
    pub(super) fn give_back(&mut self, item: &OutboxItem) -> bool {
        let (body, editing) = match &item.op {
            SendOp::Post { body } => (body, None),
            SendOp::Edit { post, body } => (body, Some(*post)),
            SendOp::Delete { .. } | SendOp::React { .. } => return false,
        };
        let Some(room) = self.rooms.get_mut(&item.room) else { return false };
        self.draft_version += 1;
        match editing {
            Some(_) if room.draft.editing.is_some() => return false,
            Some(post) => room.begin_edit(post, body.clone(), self.draft_version),
            None => {
                let own = room.own_draft();
                let text = if own.trim().is_empty() { body.clone() } else { format!("{body}\n{own}") };
                // An edit that is being written stays: the text waits beside it.
                if room.draft.editing.is_some() {
                    room.aside.clone_from(&text);
                } else {
                    let ahead = if room.ahead > 0 { text.len() } else { body.len() };
                    room.put(text.clone(), ahead, self.draft_version);
                }
                self.effects.push(Effect::SaveDraft(item.room, text));
            }
        }
        true
    }

    fn diagnostic(&mut self, diagnostic: Diagnostic, ctx: &Ctx<'_>) {
        let panel = Rc::make_mut(&mut self.panel);
        panel.attempt = panel.attempt.max(diagnostic.attempt);
        if matches!(diagnostic.what, Happened::Closed { .. }) {
            panel.connection = None;
        }
        let at = Timestamp(ctx.wall.0.saturating_sub(ctx.now.since(diagnostic.at)));
        panel.lines.push(PanelLine { at, attempt: diagnostic.attempt, what: diagnostic.what });
        let surplus = panel.lines.len().saturating_sub(PANEL_LINES);
        panel.lines.drain(..surplus);
    }

    /// Forgets notices whose time is over.
    pub(super) fn expire_notices(&mut self, now: Timestamp) {
        self.notices.retain(|(_, until)| until.is_none_or(|until| until > now));
    }
}
