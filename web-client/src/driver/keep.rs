//! Keeping what is unsent on the device, and taking over what dead tabs left.
//!
//! Must not live here: IndexedDB itself ([`crate::platform::shelf`]). Invariant: writes are begun in the order they were
//! asked for; while the shelf is still being opened they wait, and never more than the session's own bounds allow.

use std::cell::RefCell;
use std::rc::Rc;

use gloo_timers::callback::{Interval, Timeout};
use gloo_timers::future::TimeoutFuture;
use shared::ids::{ClientId, RoomId, UserId};
use shared::session::{Input, Persist, SendOp};
use shared::sorted::{SortedMap, SortedSet};
use wasm_bindgen_futures::{JsFuture, spawn_local};

use super::{Driver, Inner, random};
use crate::platform::locks::{self, Held};
use crate::platform::shelf::{Change, Shelf};
use crate::platform::{settings, window};
use crate::store::SignInBecause;

/// A draft is written when nothing was typed for this long, in milliseconds.
const DRAFT_QUIET_MS: u32 = 300;
/// A reload waits at most this long for what is being written, in milliseconds.
const RELOAD_WAIT_MS: u32 = 1_000;
/// A shelf that does not open for this long does not open, in milliseconds.
const OPEN_TIMEOUT_MS: u32 = 5_000;
/// How often tabs that died meanwhile are looked for, in milliseconds.
const LOOK_FOR_ORPHANS_MS: u32 = 15_000;

/// What keeps things on the device.
pub(super) struct Keeper {
    /// This tab, in memory only: a duplicated tab makes another.
    tab: String,
    shelf: ShelfState,
    /// Drafts to be written.
    drafts: SortedMap<RoomId, String>,
    draft_timer: Option<Timeout>,
    /// Items this tab has begun to keep.
    kept: SortedSet<ClientId>,
    /// Tabs whose lock is waited for.
    watched: Rc<RefCell<SortedSet<String>>>,
    /// Held as long as the page lives.
    lock: Option<Held>,
    /// Looks for orphans; says that this tab is alive, where there are no locks.
    interval: Option<Interval>,
}

/// When a tab that left items was found: at the start it is this page before its reload, or yesterday's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    AtStart,
    Later,
}

enum ShelfState {
    Closed,
    /// Writes that wait for it.
    Opening(Vec<(u64, Persist)>),
    Ready(Shelf),
    Failed,
}

impl Keeper {
    pub(super) fn new() -> Self {
        Self {
            tab: random::<8>().iter().map(|byte| format!("{byte:02x}")).collect(),
            shelf: ShelfState::Closed,
            drafts: SortedMap::default(),
            draft_timer: None,
            kept: SortedSet::default(),
            watched: Rc::default(),
            lock: None,
            interval: None,
        }
    }

    pub(super) fn tab(&self) -> &str {
        &self.tab
    }

    fn take_drafts(&mut self, changes: &mut Vec<Change>) {
        let drafts = std::mem::take(&mut self.drafts);
        changes.extend(drafts.into_iter().map(|(room, text)| Change::Draft(room, text)));
    }
}

impl Inner {
    /// Opens the shelf of a person, then brings back drafts and unsent items.
    pub(super) fn open_shelf(&mut self, user: UserId) {
        self.keeper.shelf = ShelfState::Opening(Vec::new());
        let (driver, tab, era) = (self.driver(), self.keeper.tab.clone(), self.era);
        let needs_lock = self.keeper.lock.is_none();
        spawn_local(async move {
            // The lock first: a partition whose tab has no lock is anybody's.
            let lock = if needs_lock { locks::take(&tab).await } else { None };
            let lost = {
                let driver = driver.clone();
                Box::new(move || driver.call(move |inner| inner.shelf_lost(era)))
            };
            let opened = open_in_time(user, tab, lost).await;
            driver.call(move |inner| {
                inner.keeper.lock = inner.keeper.lock.take().or(lock);
                if inner.era == era {
                    inner.shelf_opened(opened);
                }
            });
        });
    }

    fn shelf_opened(&mut self, opened: Option<(Shelf, SortedMap<RoomId, String>)>) {
        let ShelfState::Opening(waiting) = std::mem::replace(&mut self.keeper.shelf, ShelfState::Failed) else {
            return;
        };
        self.model.storage(opened.is_some());
        if let Some((shelf, drafts)) = opened {
            self.keeper.shelf = ShelfState::Ready(shelf);
            self.model.drafts_found(drafts);
        }
        if !waiting.is_empty() {
            self.keep(waiting);
        }
        self.look_for_orphans(Found::AtStart);
        let driver = self.driver();
        self.keeper.interval = Some(Interval::new(LOOK_FOR_ORPHANS_MS, move || {
            driver.call(|inner| inner.look_for_orphans(Found::Later));
        }));
    }

    /// What was on the shelf may be gone with it.
    fn shelf_lost(&mut self, era: u64) {
        if self.era == era && matches!(self.keeper.shelf, ShelfState::Ready(_)) {
            self.model.erased();
            self.open_shelf_again();
        }
    }

    /// Opens the shelf anew, and writes everything unsent once more.
    fn open_shelf_again(&mut self) {
        let Some(user) = self.model.me().map(|me| me.id) else { return };
        self.open_shelf(user);
        let reading = self.read_clock();
        self.session_input(Input::Erased, reading);
    }

    /// Lets go of the shelf of a person.
    pub(super) fn close_shelf(&mut self) {
        self.flush_drafts();
        self.keeper.shelf = ShelfState::Closed;
        self.keeper.drafts.clear();
        self.keeper.kept.clear();
        self.keeper.interval = None;
        self.keeper.watched = Rc::default();
    }

    /// Forgets everything that is on the device of a person, whose shelf may be closed, or still be opened.
    pub(super) fn wipe_shelf(&mut self, user: UserId) {
        self.keeper.drafts.clear();
        let ready = match &self.keeper.shelf {
            ShelfState::Ready(shelf) => Some(shelf.clone()),
            ShelfState::Closed | ShelfState::Opening(_) | ShelfState::Failed => None,
        };
        let tab = self.keeper.tab.clone();
        spawn_local(async move {
            let shelf = match ready {
                Some(shelf) => Ok(shelf),
                None => Shelf::open(user, &tab, Box::new(|| {})).await,
            };
            // If it fails, the items stay under the name of a person who cannot come back: never sent. Of a session that
            // ended by itself they are shown again the next time somebody is asked for a name.
            if let Ok(shelf) = shelf
                && shelf.wipe().await.is_ok()
                && settings::ended() == Some(user)
            {
                settings::forget_ended();
            }
        });
    }

    /// Shows the sign-in form, with what is still on the device of somebody whose session ended.
    pub(super) fn ask_for_a_name(&mut self) {
        self.model.ask_to_sign_in(SignInBecause::New, None, Vec::new());
        let Some(user) = settings::ended() else { return };
        let (driver, tab) = (self.driver(), self.keeper.tab.clone());
        spawn_local(async move {
            let kept = match Shelf::open(user, &tab, Box::new(|| {})).await {
                Ok(shelf) => shelf.texts().await.unwrap_or_default(),
                Err(_) => Vec::new(),
            };
            driver.call(move |inner| inner.model.kept_found(kept));
        });
    }

    /// Forgets what is on the device of whose session ended here last.
    pub(super) fn discard_kept(&mut self) {
        if let Some(user) = settings::ended() {
            self.wipe_shelf(user);
        }
    }

    /// Writes what the session asks to be kept, and tells it when it is done.
    pub(super) fn keep(&mut self, writes: Vec<(u64, Persist)>) {
        if let ShelfState::Opening(waiting) = &mut self.keeper.shelf {
            waiting.extend(writes);
            return;
        }
        let serials: Vec<u64> = writes.iter().map(|(serial, _)| *serial).collect();
        let mut changes = Vec::with_capacity(writes.len() + 1);
        for (_, persist) in writes {
            match persist {
                Persist::Put(item) => {
                    // The draft became the post: both change together, or a crash would show the text twice or never.
                    if self.keeper.kept.insert(item.client_id) && matches!(item.op, SendOp::Post { .. }) {
                        let draft = self.model.draft_to_store(item.room).to_owned();
                        self.keeper.drafts.remove(&item.room);
                        changes.push(Change::Draft(item.room, draft));
                    }
                    changes.push(Change::Put(item));
                }
                Persist::Remove(client_id) => {
                    self.keeper.kept.remove(&client_id);
                    changes.push(Change::Remove(client_id));
                }
            }
        }
        // What was taken back is a draft again: it must not be in neither place.
        self.keeper.take_drafts(&mut changes);
        self.write(&changes, serials);
    }

    fn write(&mut self, changes: &[Change], serials: Vec<u64>) {
        let begun = match &self.keeper.shelf {
            ShelfState::Ready(shelf) => shelf.write(changes).ok(),
            ShelfState::Closed | ShelfState::Opening(_) | ShelfState::Failed => None,
        };
        let draft_of = |change: &Change| match change {
            Change::Draft(room, _) => Some(*room),
            Change::Put(_) | Change::Remove(_) => None,
        };
        let drafts: Vec<RoomId> = changes.iter().filter_map(draft_of).collect();
        // The session hears of every write; none of its own has this serial.
        let serials = if serials.is_empty() { vec![u64::MAX] } else { serials };
        let (driver, era) = (self.driver(), self.era);
        spawn_local(async move {
            let ok = match begun {
                Some(end) => JsFuture::from(end).await.is_ok(),
                None => false,
            };
            driver.call(move |inner| {
                if inner.era == era {
                    let reading = inner.read_clock();
                    inner.model.storage(ok);
                    // Written with what is written next: a sent text must not stay on the device as a draft.
                    for room in drafts.into_iter().filter(|_| !ok) {
                        let draft = inner.model.draft_to_store(room).to_owned();
                        inner.keeper.drafts.insert(room, draft);
                    }
                    for serial in serials {
                        inner.session_input(Input::Persisted { serial, ok }, reading);
                    }
                }
            });
        });
    }

    /// Keeps a draft, once nothing more is typed for a moment.
    pub(super) fn keep_draft(&mut self, room: RoomId, text: String) {
        self.keeper.drafts.insert(room, text);
        let driver = self.driver();
        self.keeper.draft_timer = Some(Timeout::new(DRAFT_QUIET_MS, move || driver.call(Inner::flush_drafts)));
    }

    /// Writes the drafts that wait. Also when the page is hidden: it may never be shown again.
    pub(super) fn flush_drafts(&mut self) {
        self.keeper.draft_timer = None;
        if let ShelfState::Ready(_) = self.keeper.shelf
            && !self.keeper.drafts.is_empty()
        {
            let mut changes = Vec::new();
            self.keeper.take_drafts(&mut changes);
            self.write(&changes, Vec::new());
        }
    }

    /// Loads the page anew, once everything that was begun to be written is on the device.
    pub(super) fn reload(&mut self) {
        self.flush_drafts();
        // An empty write ends after all that were begun before it.
        let last = match &self.keeper.shelf {
            ShelfState::Ready(shelf) => shelf.write(&[]).ok(),
            ShelfState::Closed | ShelfState::Opening(_) | ShelfState::Failed => None,
        };
        spawn_local(async move {
            if let Some(end) = last {
                // A device that does not answer must not keep an old page alive.
                futures_util::future::select(JsFuture::from(end), TimeoutFuture::new(RELOAD_WAIT_MS)).await;
            }
            window::reload();
        });
    }

    /// Looks for other tabs that left items, and waits for each to die: the dead are taken over at once.
    pub(super) fn look_for_orphans(&mut self, found: Found) {
        if found == Found::Later && matches!(self.keeper.shelf, ShelfState::Failed) {
            // A device that was too slow, or denied it, may have changed its mind.
            self.open_shelf_again();
        }
        // Those that waited for the shelf, or that it did not take: nothing else may be written for long.
        self.flush_drafts();
        let ShelfState::Ready(shelf) = &self.keeper.shelf else { return };
        if !locks::available() {
            locks::say_alive(&self.keeper.tab);
        }
        let (driver, shelf, watched, era) = (self.driver(), shelf.clone(), Rc::clone(&self.keeper.watched), self.era);
        spawn_local(async move {
            let Ok(tabs) = shelf.other_tabs().await else { return };
            for tab in tabs {
                if watched.borrow_mut().insert(tab.clone()) {
                    spawn_local(take_over(driver.clone(), shelf.clone(), tab, Rc::clone(&watched), era, found));
                }
            }
        });
    }

    pub(super) fn say_gone(&mut self) {
        if !locks::available() {
            locks::say_gone(self.keeper.tab());
        }
    }
}

/// Opens a shelf and reads its drafts, or gives up.
async fn open_in_time(
    user: UserId,
    tab: String,
    lost: Box<dyn FnOnce()>,
) -> Option<(Shelf, SortedMap<RoomId, String>)> {
    let open = Box::pin(async move {
        let shelf = Shelf::open(user, &tab, lost).await.ok()?;
        let drafts = shelf.drafts().await.ok()?;
        Some((shelf, drafts))
    });
    match futures_util::future::select(open, TimeoutFuture::new(OPEN_TIMEOUT_MS)).await {
        futures_util::future::Either::Left((opened, _)) => opened,
        futures_util::future::Either::Right((_, late)) => {
            // The browser goes on opening it, and what is open and never closed keeps a newer page from changing its shape.
            spawn_local(async {
                if let Some((shelf, _)) = late.await {
                    shelf.close();
                }
            });
            None
        }
    }
}

/// Waits until a tab is dead and takes over what it left.
async fn take_over(
    driver: Driver,
    shelf: Shelf,
    tab: String,
    watched: Rc<RefCell<SortedSet<String>>>,
    era: u64,
    found: Found,
) {
    let began = js_sys::Date::now();
    let lock = locks::take(&tab).await;
    let is_dead = lock.is_some() || (!locks::available() && locks::seems_dead(&tab));
    // Taken over while the lock is held: no other tab does the same.
    let items = if is_dead { shelf.take_over(&tab).await.unwrap_or_default() } else { Vec::new() };
    drop(lock);
    watched.borrow_mut().remove(&tab);
    if items.is_empty() {
        return;
    }
    let waited = found == Found::Later || js_sys::Date::now() - began > f64::from(OPEN_TIMEOUT_MS);
    driver.call(move |inner| {
        // For another person by now: what was moved is found again when they come back.
        if inner.era != era {
            return;
        }
        let reading = inner.read_clock();
        inner.keeper.kept.extend(items.iter().map(|item| item.client_id));
        inner.session_input(Input::Restored { items: items.clone() }, reading);
        inner.model.adopted(&items, reading.now, waited);
    });
}
