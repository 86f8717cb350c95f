//! What this device keeps of what was written: drafts and unsent items, found, lost, and left behind.
//!
//! Must not live here: writing it (`driver`). Invariant: nothing is called saved that is only here.

use shared::ids::RoomId;
use shared::session::{OutboxItem, SendOp};
use shared::sorted::{SortedMap, sort_few};
use shared::time::Timestamp;

use super::{Effect, Model, NOTICE_SHOWN_MS, Stage};
use crate::store::{NoticeKind, Phase, SignInBecause, StorageState};

impl Model {
    /// Returns what a draft is now, to be stored together with the post it became.
    #[must_use]
    pub fn draft_to_store(&self, room: RoomId) -> &str {
        self.rooms.get(&room).map_or_else(|| self.drafts.get(&room).map_or("", String::as_str), |room| room.own_draft())
    }

    /// Tells whether closing the page now would lose something: an item that is not on the device, an edit that was begun,
    /// which never is, or a draft where the device keeps none.
    #[must_use]
    pub fn would_lose(&self) -> bool {
        self.items.values().any(|item| !item.saved && item.stage != Stage::Refused)
            || !self.begun_edits().is_empty()
            || (self.storage == StorageState::Failed && !self.own_drafts().is_empty())
    }

    /// Returns what was made of the posts that are being edited, where it is something else than before.
    fn begun_edits(&self) -> Vec<&str> {
        let begun = self.rooms.values().filter_map(|room| {
            let (post, text) = (room.draft.editing?, room.draft.text.as_str());
            (room.text_to_edit(post) != Some(text)).then_some(text)
        });
        begun.collect()
    }

    /// Returns the drafts of new posts.
    fn own_drafts(&self) -> Vec<&str> {
        let unopened = self.drafts.iter().filter(|(room, _)| !self.rooms.contains_key(room));
        let drafts = self.rooms.values().map(|room| room.own_draft()).chain(unopened.map(|(_, text)| text.as_str()));
        drafts.filter(|text| !text.trim().is_empty()).collect()
    }

    /// Takes in the drafts found on the device, once for each person. What is being written meanwhile is newer, and so is all
    /// the page knows from then on: a draft that is still there when the device is asked again may have been sent.
    pub fn drafts_found(&mut self, drafts: SortedMap<RoomId, String>) {
        if std::mem::replace(&mut self.drafts_known, true) {
            return;
        }
        for (id, text) in drafts.iter() {
            if let Some(room) = self.rooms.get_mut(id)
                && room.own_draft().is_empty()
            {
                if room.draft.editing.is_some() {
                    room.aside.clone_from(text);
                } else {
                    self.draft_version += 1;
                    room.put(text.clone(), text.len(), self.draft_version);
                }
            }
        }
        self.drafts = drafts;
    }

    /// Takes in what was found on the device of somebody whose session ended before this page began.
    pub fn kept_found(&mut self, kept: Vec<String>) {
        if let Phase::SignIn(form) = &mut self.phase
            && form.kept.is_empty()
            && !kept.is_empty()
        {
            form.kept = kept;
            form.because = SignInBecause::Ended;
        }
    }

    /// Returns what was written here and cannot be sent once the session has ended: unsent texts in their order, edits that
    /// were begun, drafts.
    pub(super) fn left_behind(&self) -> Vec<String> {
        let items = self.items.values().map(|item| &item.item);
        let texts =
            sort_few(items, |item| (item.queued_at, item.order)).into_iter().filter_map(|item| text_of(&item.op));
        texts.chain(self.begun_edits()).chain(self.own_drafts()).map(str::to_owned).collect()
    }

    /// Counts what signing out discards: what is left behind, and changes without a text.
    pub(super) fn to_discard(&self) -> usize {
        self.left_behind().len() + self.items.values().filter(|item| text_of(&item.item.op).is_none()).count()
    }

    /// Notes whether the device keeps what is unsent.
    pub fn storage(&mut self, ok: bool) {
        self.storage = if ok { StorageState::Ready } else { StorageState::Failed };
        self.facts.storage_ok = Some(ok);
    }

    /// Notes that the device has lost what it kept.
    pub fn erased(&mut self) {
        for room in self.rooms.values_mut() {
            room.timeline.change().erased();
            if !room.own_draft().is_empty() {
                self.effects.push(Effect::SaveDraft(room.summary.room, room.own_draft().to_owned()));
            }
        }
        for item in self.items.values_mut() {
            item.saved = false;
            if item.stage == Stage::Saved {
                item.stage = Stage::Queued;
            }
        }
    }

    /// Notes that items of a closed tab, or of this one before it was reloaded, are sent from here now.
    pub fn adopted(&mut self, items: &[OutboxItem], now: Timestamp, later: bool) {
        for item in items {
            if let Some(known) = self.items.get_mut(&item.client_id) {
                known.saved = true;
            }
        }
        let posts = items.iter().filter(|item| item.refused.is_none()).count();
        if later && posts > 0 {
            self.notice(NoticeKind::Adopted(posts), Some(now.plus(NOTICE_SHOWN_MS)));
        }
    }
}

/// Returns what somebody wrote in a request, if it holds any text.
fn text_of(op: &SendOp) -> Option<&str> {
    match op {
        SendOp::Post { body } | SendOp::Edit { body, .. } => Some(body),
        SendOp::Delete { .. } | SendOp::React { .. } => None,
    }
}
