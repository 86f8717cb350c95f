//! The next frame's [`State`], made from the model. A part that did not change keeps its `Rc`.
//!
//! Must not live here: changing anything but what was published last. Invariant: publishing twice without an input
//! between gives equal states.

use std::rc::Rc;

use shared::ids::RoomId;
use shared::time::Timestamp;

use super::{DEFAULT_ROOM, Model, NOTICES_SHOWN, Stage};
use crate::store::{Dialog, Phase, Place, RoomRow, RoomView, State};
use crate::words::Local;

impl Model {
    /// Makes what is shown now.
    pub fn publish(&mut self, now: Timestamp, local: Local) -> State {
        self.expire_notices(now);
        self.facts.unsent = self.unsent();
        let rows = self.rows();
        if *self.shown_rooms != rows {
            self.shown_rooms = Rc::new(rows);
        }
        let view = self.view(now);
        if self.shown_view.as_deref() != view.as_ref() {
            self.shown_view = view.map(Rc::new);
        }
        // Of those that wait for an answer the oldest; the others have their turn when these have gone.
        let turns = self.notices.iter().enumerate();
        let shown = turns.filter(|(at, (notice, _))| *at < NOTICES_SHOWN || notice.what.refused().is_none());
        let shown = shown.map(|(_, (notice, _))| notice);
        if !self.shown_notices.iter().eq(shown.clone()) {
            self.shown_notices = Rc::new(shown.cloned().collect());
        }
        State {
            phase: self.phase.clone(),
            language: self.language,
            theme: self.theme,
            me: self.me.clone(),
            rooms: Rc::clone(&self.shown_rooms),
            place: self.place.clone(),
            view: self.shown_view.clone(),
            draft: self.current().and_then(|id| self.rooms.get(&id)).map(|room| room.draft.clone()).unwrap_or_default(),
            status: self.facts.status(now, self.language, local),
            connection: self.facts.state.clone(),
            queued: self.facts.unsent,
            refused: self.items.len() - self.facts.unsent,
            storage: self.storage,
            limits: self.limits,
            dialog: self.dialog.clone(),
            panel: Rc::clone(&self.panel),
            notices: Rc::clone(&self.shown_notices),
            wall: local.wall,
            utc_offset_min: local.utc_offset_min,
        }
    }

    /// Returns the page's title.
    #[must_use]
    pub fn title(&self) -> String {
        let unread: u64 = self.rooms.values().map(|room| room.unread()).sum();
        let name = match self.phase {
            Phase::Chat => self.place_name(),
            Phase::Loading | Phase::SignIn(_) => None,
        };
        let place = name.map_or_else(|| "Holdfast".to_owned(), |name| format!("{name} · Holdfast"));
        if unread > 0 { format!("({unread}) {place}") } else { place }
    }

    /// Says when what is shown changes next by time alone.
    #[must_use]
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let typing = self.current().and_then(|id| self.rooms.get(&id)).and_then(|room| room.roster.next_deadline(now));
        let notice = self.notices.iter().filter_map(|(_, until)| *until).min();
        // The panel says how long ago the last message came.
        let panel = (self.dialog == Dialog::Connection).then(|| now.plus(1_000));
        [self.facts.next_change(now), typing, notice, panel].into_iter().flatten().min()
    }

    fn current(&self) -> Option<RoomId> {
        match &self.place {
            Place::Room(room) => Some(*room),
            Place::Nowhere | Place::Looking { .. } | Place::Door { .. } | Place::Missing { .. } => None,
        }
    }

    fn rows(&self) -> Vec<RoomRow> {
        let mut rows: Vec<RoomRow> = self
            .rooms
            .values()
            .map(|room| RoomRow {
                summary: room.summary.clone(),
                unread: room.unread(),
                draft: !room.own_draft().trim().is_empty(),
                unsent: 0,
                refused: 0,
            })
            .collect();
        for item in self.items.values() {
            if let Some(row) = rows.iter_mut().find(|row| row.summary.room == item.item.room) {
                match item.stage {
                    Stage::Queued | Stage::Saved | Stage::Sending | Stage::Interrupted => row.unsent += 1,
                    Stage::Refused => row.refused += 1,
                }
            }
        }
        rows.sort_unstable_by(|a, b| {
            let (a, b) = (&a.summary.name, &b.summary.name);
            (a != DEFAULT_ROOM, a).cmp(&(b != DEFAULT_ROOM, b))
        });
        rows
    }

    fn view(&self, now: Timestamp) -> Option<RoomView> {
        let id = self.current()?;
        let room = self.rooms.get(&id)?;
        Some(RoomView {
            room: id,
            timeline: room.timeline.clone(),
            roster: room.roster.clone(),
            typing: Rc::new(room.roster.writing(now).cloned().collect()),
            divider: room.divider,
            loading: room.loading,
            loaded: room.loaded,
            load_failed: room.load_failed.clone(),
        })
    }
}
