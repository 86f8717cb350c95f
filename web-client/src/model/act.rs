//! What people do, turned into commands to the session and effects.
//!
//! Must not live here: what the session tells (`hear`). Invariant: every [`Action`] is handled; what cannot be done
//! leaves what was written where it was.

use std::rc::Rc;

use shared::error::{ErrorCode, WireError};
use shared::ids::{RoomId, Seq};
use shared::message::{Command as WireCommand, CreateRoom, History, ListRooms, Membership, Rename};
use shared::model::PostRef;
use shared::session::{Command, OutboxItem, SendOp};

use super::{Asked, Ctx, Effect, Item, Model, Setting, Stage};
use crate::store::{Action, Dialog, Form, Phase, Place, RoomsDialog, SignInBecause};

impl Model {
    /// Does what a person asked for.
    pub fn act(&mut self, action: Action, ctx: &mut Ctx<'_>) {
        match action {
            Action::SignIn(name) => {
                if let Phase::SignIn(form) = &mut self.phase
                    && !form.busy
                {
                    form.busy = true;
                    form.error = None;
                    form.last_name.clone_from(&name);
                    self.effects.push(Effect::SignIn(name));
                }
            }
            Action::SignInAgain => {
                let kept = self.left_behind();
                self.ask_to_sign_in(SignInBecause::Ended, None, kept);
            }
            Action::DiscardKept => {
                if let Phase::SignIn(form) = &mut self.phase {
                    form.kept.clear();
                }
                self.forget();
                self.effects.extend([Effect::EndSession, Effect::DiscardKept]);
            }
            Action::SignOut => self.dialog = Dialog::SignOut { unsent: self.to_discard() },
            Action::SignOutForGood => self.sign_out(),
            Action::OpenRoom(room) => self.show_room(room, false, ctx),
            Action::GoTo(path) => self.address_changed(&path, ctx),
            Action::Join(room) => self.join(room, ctx),
            Action::Leave(room) => {
                self.dialog = Dialog::None;
                let client_id = (ctx.new_id)();
                self.ask(Asked::Leave(room), WireCommand::Leave(Membership { client_id, room }));
            }
            Action::CreateRoom { name, title } => {
                self.dialog = Dialog::CreateRoom(Form { busy: true, error: None });
                let client_id = (ctx.new_id)();
                self.ask(Asked::Create, WireCommand::CreateRoom(CreateRoom { client_id, name, title }));
            }
            Action::ListRooms => self.list_rooms(),
            Action::LoadHistory(room, before) => self.load_history(room, before),
            Action::LookAt(room, seq) => {
                if let Some(room) = self.rooms.get_mut(&room) {
                    room.timeline.change().look_at(seq);
                }
            }
            Action::SetDraft(room, text, drawn) => self.set_draft(room, &text, drawn),
            Action::Send(room, text, drawn) => self.send(room, &text, drawn, ctx),
            Action::BeginEdit(room, post) => self.begin_edit(room, post),
            Action::CancelEdit(room) => self.end_edit(room),
            Action::Delete(room, post) => self.queue(room, SendOp::Delete { post }, ctx),
            Action::React(room, post, emoji, on) => self.queue(room, SendOp::React { post, emoji, on }, ctx),
            Action::Cancel(client_id) => self.session(Command::CancelSend { client_id }),
            Action::CancelAndEdit(client_id) => {
                // Only what was never attempted comes back: the outcome of anything else is unknown.
                if let Some(item) = self.items.get(&client_id).filter(|item| !item.item.attempted).cloned()
                    && matches!(item.stage, Stage::Queued | Stage::Saved)
                    && self.give_back(&item.item)
                {
                    self.session(Command::CancelSend { client_id });
                }
            }
            Action::Retry(client_id) => self.session(Command::RetrySend { client_id, at: ctx.wall }),
            Action::Discard(client_id) => self.session(Command::DiscardSend { client_id }),
            Action::DiscardAndEdit(client_id) => {
                if let Some(item) = self.items.get(&client_id).cloned()
                    && item.stage == Stage::Refused
                    && self.give_back(&item.item)
                {
                    self.session(Command::DiscardSend { client_id });
                }
            }
            Action::MarkRead(room, posts) => {
                if let Some(known) = self.rooms.get_mut(&room)
                    && posts > known.summary.read
                {
                    known.note_read(posts);
                    self.session(Command::MarkRead { room, posts });
                }
            }
            Action::Typing(room) => self.session(Command::Typing { room }),
            Action::Rename(name) => {
                self.dialog = Dialog::Rename(Form { busy: true, error: None });
                let client_id = (ctx.new_id)();
                self.ask(Asked::Rename, WireCommand::Rename(Rename { client_id, name }));
            }
            Action::RetryNow => self.session(match self.facts.state {
                shared::session::ConnectionState::Stopped(_) => Command::Start,
                _ => Command::RetryNow,
            }),
            Action::SetLanguage(language) => {
                self.language = language;
                self.effects.push(Effect::Remember(Setting::Language(language)));
            }
            Action::SetTheme(theme) => {
                self.theme = theme;
                self.effects.push(Effect::Remember(Setting::Theme(theme)));
            }
            Action::Open(dialog) => {
                let list = matches!(dialog, Dialog::Rooms(_));
                self.dialog = dialog;
                if list {
                    self.dialog = Dialog::Rooms(RoomsDialog::default());
                    self.list_rooms();
                }
            }
            Action::CloseDialog => self.dialog = Dialog::None,
            Action::CloseNotice(id) => self.notices.retain(|(notice, _)| notice.id != id),
            Action::Copy(text) => self.effects.push(Effect::Copy(text)),
            Action::CopyDiagnostics => {
                let text = self.diagnostics(ctx);
                self.effects.push(Effect::Copy(text));
            }
            Action::SetWeather(weather) => {
                if self.panel.weather.is_some() {
                    Rc::make_mut(&mut self.panel).weather = Some(weather);
                    self.effects.push(Effect::SetWeather(weather));
                }
            }
            Action::Reload => self.effects.push(Effect::Reload),
        }
    }

    fn sign_out(&mut self) {
        self.dialog = Dialog::None;
        self.effects.push(Effect::SignOut);
    }

    fn join(&mut self, room: RoomId, ctx: &mut Ctx<'_>) {
        if let Place::Door { busy, .. } = &mut self.place {
            *busy = true;
        }
        if matches!(self.dialog, Dialog::Rooms(_)) {
            self.dialog = Dialog::None;
        }
        let client_id = (ctx.new_id)();
        self.ask(Asked::Join(room), WireCommand::Join(Membership { client_id, room }));
    }

    fn list_rooms(&mut self) {
        let Dialog::Rooms(dialog) = &mut self.dialog else { return };
        if dialog.busy {
            return;
        }
        dialog.busy = true;
        dialog.error = None;
        let after = dialog.rooms.last().map(|room| room.name.clone());
        self.ask(Asked::List(after.clone()), WireCommand::Rooms(ListRooms { after }));
    }

    fn load_history(&mut self, id: RoomId, before: Seq) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if room.loading.is_some() {
            return;
        }
        room.loading = Some(before);
        room.load_failed = None;
        self.ask(Asked::History { room: id, before }, WireCommand::History(History { room: id, before, limit: None }));
    }

    fn set_draft(&mut self, id: RoomId, text: &str, drawn: u64) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let before = room.draft.text.len();
        room.retype(text, drawn);
        if drawn < room.draft.version {
            // The next frame shows what has become of it.
            self.draft_version += 1;
            room.draft.version = self.draft_version;
        }
        let grew = room.draft.text.len() > before;
        if room.draft.editing.is_none() {
            self.effects.push(Effect::SaveDraft(id, room.draft.text.clone()));
        }
        if grew {
            self.session(Command::Typing { room: id });
        }
    }

    fn send(&mut self, id: RoomId, text: &str, drawn: u64, ctx: &mut Ctx<'_>) {
        let body = text.trim_end().trim_start_matches(['\n', '\r']);
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if body.trim().is_empty() {
            return;
        }
        self.draft_version += 1;
        let version = self.draft_version;
        let is_too_long = body.len() as u64 > self.limits.post_bytes;
        // What was written before an edit began is no edit.
        let is_edit_unseen = room.draft.editing.is_some() && drawn < room.draft.version;
        // The composer has let go of the text: what stays of the draft is not there.
        room.retype(if is_too_long || is_edit_unseen { text } else { "" }, drawn);
        room.ahead = room.draft.text.len();
        room.draft.version = version;
        match room.draft.editing {
            _ if is_too_long => {
                let error = WireError::new(ErrorCode::PostTooLong, "Longer than the server takes.");
                self.refused_notice(error, ctx.now);
            }
            Some(_) if is_edit_unseen => {}
            Some(post) => {
                let unchanged = room.text_to_edit(post).is_some_and(|known| known == body);
                self.end_edit(id);
                if !unchanged {
                    self.queue(id, SendOp::Edit { post, body: body.into() }, ctx);
                }
            }
            None => {
                self.drafts.remove(&id);
                // The stored draft goes in the same transaction that stores the post.
                self.queue(id, SendOp::Post { body: body.into() }, ctx);
            }
        }
    }

    fn queue(&mut self, room: RoomId, op: SendOp, ctx: &mut Ctx<'_>) {
        let client_id = (ctx.new_id)();
        // Known here before the session has taken it, so that nothing is lost if it does not.
        let item = OutboxItem {
            client_id,
            room,
            op: op.clone(),
            queued_at: ctx.wall,
            order: u64::MAX,
            attempted: false,
            refused: None,
        };
        self.items.insert(client_id, Item { item, stage: Stage::Queued, saved: false });
        self.session(Command::Send { client_id, room, op, at: ctx.wall });
    }

    fn begin_edit(&mut self, id: RoomId, post: PostRef) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let Some(body) = room.text_to_edit(post).map(str::to_owned) else { return };
        self.draft_version += 1;
        room.begin_edit(post, body, self.draft_version);
    }

    fn end_edit(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if room.draft.editing.take().is_some() {
            self.draft_version += 1;
            let text = std::mem::take(&mut room.aside);
            let ahead = text.len();
            room.put(text, ahead, self.draft_version);
        }
    }
}
