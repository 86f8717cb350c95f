//! One room as the page holds it, and how an address becomes a room.
//!
//! Must not live here: rows and people (`shared::timeline`, `shared::roster`). Invariant: a room followed has been asked
//! for exactly once; the session asks again after every reconnect and every refusal that passes.

use shared::ids::{RoomId, Seq, UserId};
use shared::message::{Command as WireCommand, FindRoom};
use shared::model::{PostRef, RoomSummary};
use shared::roster::Roster;
use shared::session::{Command, SendOp};
use shared::timeline::{Status, Timeline};

use super::{Asked, Ctx, DEFAULT_ROOM, Effect, Item, Model, ROOMS_FOLLOWED, Setting, Stage};
use crate::platform::letters::lower;
use crate::store::{Draft, Part, Place};
use shared::error::WireError;

/// A room of mine.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) summary: RoomSummary,
    /// Where my own stream stood when a welcome listed the room last; zero if none has.
    pub(super) listed: Seq,
    pub(super) timeline: Part<Timeline>,
    pub(super) roster: Part<Roster>,
    pub(super) draft: Draft,
    /// So many bytes at the beginning of the draft's text came by other hands than the composer's, which holds only what
    /// follows them until it has drawn the draft's version.
    pub(super) ahead: usize,
    /// The draft of a new post while a post is being edited.
    pub(super) aside: String,
    pub(super) divider: Option<u64>,
    pub(super) loading: Option<Seq>,
    pub(super) load_failed: Option<WireError>,
    pub(super) loaded: bool,
}

impl Room {
    fn new(summary: RoomSummary, me: UserId) -> Self {
        Self {
            summary,
            listed: Seq(0),
            timeline: Part::new(Timeline::new(me)),
            roster: Part::new(Roster::new(me, lower)),
            draft: Draft::default(),
            ahead: 0,
            aside: String::new(),
            divider: None,
            loading: None,
            load_failed: None,
            loaded: false,
        }
    }

    pub(super) fn unread(&self) -> u64 {
        self.summary.posts.saturating_sub(self.summary.read)
    }

    /// Draws the line before what is new to somebody who comes back, unless there is one already.
    pub(super) fn mark_new(&mut self) {
        if self.unread() > 0 {
            self.divider.get_or_insert(self.summary.read);
        }
    }

    /// Returns the draft of a new post, also while a post is being edited.
    pub(super) fn own_draft(&self) -> &str {
        if self.draft.editing.is_some() { &self.aside } else { &self.draft.text }
    }

    /// Puts a text into the composer; its first `ahead` bytes are not there yet.
    pub(super) fn put(&mut self, text: String, ahead: usize, version: u64) {
        self.ahead = ahead;
        self.draft.text = text;
        self.draft.version = version;
    }

    /// Notes which version of the draft the composer has drawn, and replaces what it held of the draft.
    pub(super) fn retype(&mut self, text: &str, drawn: u64) {
        if drawn >= self.draft.version || text.as_bytes().starts_with(&self.draft.text.as_bytes()[..self.ahead]) {
            self.ahead = 0;
        }
        self.draft.text.truncate(self.ahead);
        if self.ahead > 0 && !text.is_empty() {
            self.draft.text.push('\n');
        }
        self.draft.text.push_str(text);
    }

    /// Puts the text of an edit into the composer, and the draft aside.
    pub(super) fn begin_edit(&mut self, post: PostRef, body: String, version: u64) {
        let before = std::mem::take(&mut self.draft.text);
        if self.draft.editing.replace(post).is_none() {
            self.aside = before;
        }
        let ahead = body.len();
        self.put(body, ahead, version);
    }

    /// Returns the text that an edit of a post of mine begins with: as the last edit on its way leaves it.
    pub(super) fn text_to_edit(&self, post: PostRef) -> Option<&str> {
        let key = post.client_id?;
        let row = self.timeline.post(post.seq).filter(|row| row.mine && row.client_id == key)?;
        let on_its_way = row.pending.iter().rev().find_map(|change| match (&change.op, &change.status) {
            (_, Status::Refused(_)) => None,
            (SendOp::Edit { body, .. }, _) => Some(body.as_str()),
            (SendOp::Post { .. } | SendOp::Delete { .. } | SendOp::React { .. }, _) => None,
        });
        row.body.as_deref().map(|body| on_its_way.unwrap_or(body))
    }

    /// Notes how many posts there are and how many are read; neither ever shrinks but by a reset.
    pub(super) fn note_posts(&mut self, head: Seq, posts: u64) {
        self.summary.head = self.summary.head.max(head);
        self.summary.posts = self.summary.posts.max(posts);
    }

    pub(super) fn note_read(&mut self, posts: u64) {
        self.summary.read = self.summary.read.max(posts);
    }
}

impl Item {
    /// Shows it among the rows of its room, as far as it has come.
    pub(super) fn show(&self, timeline: &mut Part<Timeline>) {
        let timeline = timeline.change();
        timeline.queued(&self.item);
        match self.stage {
            Stage::Saved => timeline.saved(self.item.client_id),
            Stage::Sending => timeline.sending(self.item.client_id),
            // Said by the item itself.
            Stage::Queued | Stage::Interrupted | Stage::Refused => {}
        }
    }
}

/// Returns the room an address names, if it names one.
pub(super) fn room_of_path(path: &str) -> Option<String> {
    let name = path.strip_prefix("/r/")?.trim_end_matches('/');
    (!name.is_empty()).then(|| decode(name))
}

/// Returns the address of a room.
#[must_use]
pub fn path_of_room(name: &str) -> String {
    let mut path = String::from("/r/");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

/// Decodes percent-encoding (RFC 3986 §2.1); what is not decodable stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        if first == b'%'
            && let (Some(high), Some(low)) = (hex(0), hex(1))
        {
            bytes.push((high * 16 + low) as u8);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

impl Model {
    /// Returns the name of what the main pane shows.
    pub(super) fn place_name(&self) -> Option<String> {
        match &self.place {
            Place::Nowhere => None,
            Place::Room(id) => self.rooms.get(id).map(|room| room.summary.name.clone()),
            Place::Looking { name } | Place::Missing { name } => Some(name.clone()),
            Place::Door { room, .. } => Some(room.name.clone()),
        }
    }

    /// Adds a room of mine, or brings it up to date.
    pub(super) fn put_room(&mut self, summary: RoomSummary) {
        let Some(me) = &self.me else { return };
        if let Some(room) = self.rooms.get_mut(&summary.room) {
            // A server that was set back has fewer posts than were read.
            let read = room.summary.read.max(summary.read).min(summary.posts);
            room.summary = RoomSummary { read, ..summary };
            return;
        }
        let id = summary.room;
        let mut room = Room::new(summary, me.id);
        room.timeline.change().call_me(&me.name);
        if let Some(text) = self.drafts.get(&id) {
            self.draft_version += 1;
            room.put(text.clone(), 0, self.draft_version);
        }
        for item in self.items.values().filter(|item| item.item.room == id) {
            item.show(&mut room.timeline);
        }
        self.rooms.insert(id, Box::new(room));
    }

    /// Forgets a room I am no longer in.
    pub(super) fn drop_room(&mut self, id: RoomId, ctx: &mut Ctx<'_>) {
        self.await_no_page(id);
        let Some(room) = self.rooms.remove(&id) else { return };
        self.drafts.insert(id, room.own_draft().to_owned());
        self.tell_refused(&|item| item.room == id);
        if let Some(at) = self.followed.iter().position(|followed| *followed == id) {
            self.followed.remove(at);
            self.session(Command::Shut { room: id });
        }
        if self.place == Place::Room(id) {
            let other = self.rooms.values().find(|room| room.summary.name == DEFAULT_ROOM);
            let other = other.or_else(|| self.rooms.values().next());
            match other.map(|room| room.summary.room) {
                Some(other) => self.show_room(other, true, ctx),
                None => {
                    self.place = Place::Door { room: RoomSummary { joined: false, ..room.summary }, busy: false };
                }
            }
        }
    }

    /// Turns what an address asked for into a place, as far as it is known.
    pub(super) fn resolve(&mut self, ctx: &mut Ctx<'_>) {
        let Some(wanted) = self.wanted.clone() else { return };
        let found = self.rooms.values().find(|room| room.summary.name == wanted.name).map(|room| room.summary.room);
        if let Some(id) = found {
            self.wanted = None;
            self.show_room(id, wanted.by_default, ctx);
            return;
        }
        if !self.rooms_known {
            return;
        }
        self.wanted = None;
        self.place = Place::Looking { name: wanted.name.clone() };
        let command = WireCommand::FindRoom(FindRoom { name: wanted.name.clone() });
        self.ask(Asked::Find { name: wanted.name, join: wanted.by_default }, command);
    }

    /// Shows a room of mine; its address takes the place of the present one, or follows it.
    pub(super) fn show_room(&mut self, id: RoomId, replace: bool, _ctx: &mut Ctx<'_>) {
        let Some(name) = self.rooms.get(&id).map(|room| room.summary.name.clone()) else { return };
        if self.place != Place::Room(id) {
            if let Place::Room(before) = self.place
                && let Some(before) = self.rooms.get_mut(&before)
            {
                before.divider = None;
                before.timeline.change().look_at(None);
            }
            self.place = Place::Room(id);
            self.draft_version += 1;
            let version = self.draft_version;
            if let Some(room) = self.rooms.get_mut(&id) {
                room.divider = (room.unread() > 0).then_some(room.summary.read);
                room.draft.version = version;
                room.ahead = 0;
            }
            self.effects.push(Effect::Remember(Setting::LastRoom(name.clone())));
        }
        self.effects.push(Effect::Go { path: path_of_room(&name), replace });
        self.follow(id);
    }

    /// Follows a room in full, and the one not visited for longest no longer.
    pub(super) fn follow(&mut self, id: RoomId) {
        if let Some(at) = self.followed.iter().position(|followed| *followed == id) {
            self.followed.remove(at);
            self.followed.push(id);
            return;
        }
        self.followed.push(id);
        self.session(Command::Open { room: id, cursor: None, replay: false });
        if self.followed.len() > ROOMS_FOLLOWED {
            let oldest = self.followed.remove(0);
            self.session(Command::Shut { room: oldest });
            self.empty_room(oldest);
        }
    }

    /// Pages were asked for beside rows that are no more; what comes of them is nothing to those that begin anew.
    pub(super) fn await_no_page(&mut self, id: RoomId) {
        self.asked.retain(|_, asked| !matches!(asked, Asked::History { room, .. } if *room == id));
        if let Some(room) = self.rooms.get_mut(&id) {
            room.loading = None;
        }
    }

    /// Lets go of a room's rows: without events they would grow stale unnoticed.
    pub(super) fn empty_room(&mut self, id: RoomId) {
        self.await_no_page(id);
        let Some(me) = self.me.clone() else { return };
        let Some(room) = self.rooms.get_mut(&id) else { return };
        room.timeline = Part::new(Timeline::new(me.id));
        room.timeline.change().call_me(&me.name);
        room.roster = Part::new(Roster::new(me.id, lower));
        room.loaded = false;
        for item in self.items.values().filter(|item| item.item.room == id) {
            item.show(&mut room.timeline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_its_room_name_are_the_same_thing_twice() {
        for name in ["general", "a-b_c", "重构讨论", "50% off/day", "é"] {
            assert_eq!(room_of_path(&path_of_room(name)).as_deref(), Some(name), "{name}");
        }
        assert_eq!(path_of_room("general"), "/r/general");
    }

    #[test]
    fn an_address_that_names_no_room_names_none() {
        for path in ["/", "", "/r/", "/r", "/rooms/x"] {
            assert_eq!(room_of_path(path), None, "{path}");
        }
        assert_eq!(room_of_path("/r/100%").as_deref(), Some("100%"));
        assert_eq!(room_of_path("/r/%zz").as_deref(), Some("%zz"));
        assert_eq!(room_of_path("/r/%ff").as_deref(), Some("%ff"), "not UTF-8");
        assert_eq!(room_of_path("/r/general/").as_deref(), Some("general"));
    }
}
