//! What the server answers to what the page asked for.
//!
//! Must not live here: asking (`act`, `rooms`). Invariant: an answer changes what waits for it; whoever does something else
//! by then is left to it.

use std::rc::Rc;

use shared::error::{ErrorCode, WireError};
use shared::ids::RoomId;
use shared::message::{Command as WireCommand, Membership, Reply};
use shared::model::RoomSummary;
use shared::session::RequestTag;

use super::{Asked, Ctx, Model};
use crate::store::{Dialog, Form, Place, RoomsDialog};

impl Model {
    pub(super) fn answer(&mut self, tag: RequestTag, result: Result<Reply, WireError>, ctx: &mut Ctx<'_>) {
        let Some(asked) = self.asked.remove(&tag) else { return };
        match (asked, result) {
            (Asked::Find { name, join }, Ok(Reply::Room(room))) => self.found(&name, room, join, ctx),
            (Asked::Find { name, .. }, Err(error)) => {
                if matches!(self.place, Place::Looking { .. }) && error.code == ErrorCode::NotFound {
                    self.place = Place::Missing { name };
                }
                // Any other refusal leaves the page looking; it asks again at the next welcome.
            }
            (Asked::Join(id), Ok(Reply::Room(room))) => {
                self.put_room(RoomSummary { joined: true, ..room });
                if self.door(id).is_some() {
                    self.show_room(id, false, ctx);
                }
            }
            (Asked::Create, Ok(Reply::Room(room))) => {
                let id = room.room;
                self.put_room(RoomSummary { joined: true, ..room });
                if self.form(&Asked::Create).is_some() {
                    self.dialog = Dialog::None;
                    self.show_room(id, false, ctx);
                }
            }
            (Asked::Leave(room), Ok(_)) => self.drop_room(room, ctx),
            (Asked::Rename, Ok(_)) => {
                if self.form(&Asked::Rename).is_some() {
                    self.dialog = Dialog::None;
                }
            }
            (Asked::List(after), Ok(Reply::Rooms(list))) => {
                if let Some(dialog) = self.list(after.as_ref()) {
                    Rc::make_mut(&mut dialog.rooms).extend(list.rooms);
                    dialog.more = list.more;
                    dialog.busy = false;
                    dialog.error = None;
                }
            }
            (Asked::History { room, before }, Ok(Reply::History(page))) => {
                if let Some(room) = self.rooms.get_mut(&room) {
                    room.timeline.change().history(&page, before);
                    room.loading = None;
                    room.load_failed = None;
                }
            }
            (Asked::History { room, .. }, Err(error)) => {
                if let Some(room) = self.rooms.get_mut(&room) {
                    room.loading = None;
                    room.load_failed = Some(error);
                }
            }
            (asked @ (Asked::Create | Asked::Rename), Err(error)) => match self.form(&asked) {
                Some(form) => *form = Form { busy: false, error: Some(error) },
                None => self.refused_notice(error, ctx.now),
            },
            (Asked::List(after), Err(error)) => {
                if let Some(dialog) = self.list(after.as_ref()) {
                    dialog.busy = false;
                    dialog.error = Some(error);
                }
            }
            (Asked::Join(id), Err(error)) => {
                if let Some(busy) = self.door(id) {
                    *busy = false;
                }
                self.refused_notice(error, ctx.now);
            }
            (Asked::Leave(_), Err(error)) => self.refused_notice(error, ctx.now),
            (Asked::Find { .. } | Asked::Join(_) | Asked::Create | Asked::List(_) | Asked::History { .. }, Ok(_)) => {
                let error = WireError::new(ErrorCode::BadMessage, "The server answered something else than was asked.");
                self.refused_notice(error, ctx.now);
            }
        }
    }

    /// Returns whether the door of a room is waited at, if that is where one is.
    fn door(&mut self, id: RoomId) -> Option<&mut bool> {
        match &mut self.place {
            Place::Door { room, busy } if room.room == id => Some(busy),
            _ => None,
        }
    }

    /// Returns the form that waits for an answer, if it is still open.
    fn form(&mut self, asked: &Asked) -> Option<&mut Form> {
        match (asked, &mut self.dialog) {
            (Asked::Create, Dialog::CreateRoom(form)) | (Asked::Rename, Dialog::Rename(form)) => {
                Some(form).filter(|form| form.busy)
            }
            _ => None,
        }
    }

    /// Returns the list of rooms that goes on after this one, if it is open.
    fn list(&mut self, after: Option<&String>) -> Option<&mut RoomsDialog> {
        match &mut self.dialog {
            Dialog::Rooms(dialog) => Some(dialog).filter(|dialog| dialog.rooms.last().map(|room| &room.name) == after),
            _ => None,
        }
    }

    /// Shows what was found under a name, which may be written otherwise than the room's own.
    fn found(&mut self, asked: &str, room: RoomSummary, join: bool, ctx: &mut Ctx<'_>) {
        let looked_for = matches!(&self.place, Place::Looking { name } if name == asked);
        if room.joined {
            let id = room.room;
            self.put_room(room);
            if looked_for {
                self.show_room(id, true, ctx);
            }
        } else if looked_for {
            let id = room.room;
            self.place = Place::Door { room, busy: join };
            if join {
                let client_id = (ctx.new_id)();
                self.ask(Asked::Join(id), WireCommand::Join(Membership { client_id, room: id }));
            }
        }
    }
}
