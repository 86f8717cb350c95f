//! The page's own state machine: what people do and what the session tells go in, the next
//! [`State`](crate::store::State) and [`Effect`]s come out.
//!
//! Lives here: rooms, drafts, dialogs, the address, what is asked and not answered yet. Must not live here: a clock,
//! chance, the browser, or rules of the conversation (`shared::session`). Invariant: pure and total, so every day of a
//! page can be replayed in a native test.

mod act;
mod answers;
mod diagnostics;
mod hear;
mod kept;
mod publish;
mod rooms;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, RoomId, Seq, UserId};
use shared::message::WireLimits;
use shared::model::Person;
use shared::session::{Command, ConnectionState, OutboxItem, RequestTag};
use shared::sorted::SortedMap;
use shared::time::Timestamp;

use crate::status::Facts;
use crate::store::{
    Dialog, Notice, NoticeKind, Panel, Phase, Place, RoomRow, RoomView, SignIn, SignInBecause, SignInError,
    StorageState, Theme, Weather,
};
use crate::words::Language;
use rooms::Room;
pub use rooms::path_of_room;

/// The room shown where the address names none.
pub const DEFAULT_ROOM: &str = "general";
/// Rooms followed in full at once; the one not visited for longest is followed no longer.
pub const ROOMS_FOLLOWED: usize = 16;
/// How long a notice that needs no answer is shown, in milliseconds.
pub const NOTICE_SHOWN_MS: u64 = 5_000;
/// A page that keeps losing its connection looks for a newer version of itself at most this often, in milliseconds.
pub const VERSION_EVERY_MS: u64 = 60_000;
/// Notices shown at once, and one more. Of those that tell of a refused item the oldest are shown and the others wait their
/// turn, for nothing else may show that item; of the rest the oldest goes.
pub const NOTICES_SHOWN: usize = 4;

/// What the driver must do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Give a command to the session.
    Session(Command),
    /// Show another address.
    Go {
        /// Path, beginning with a slash.
        path: String,
        /// In place of the present one rather than after it.
        replace: bool,
    },
    /// Keep a room's draft on the device; an empty one is forgotten.
    SaveDraft(RoomId, String),
    /// Remember a setting of this browser.
    Remember(Setting),
    /// Ask the server for a session under this name.
    SignIn(String),
    /// End the session; forget the unsent items of this person.
    SignOut,
    /// Drop the session of this page without a word to the server.
    EndSession,
    /// Forget what the device keeps of the person whose session ended here last.
    DiscardKept,
    /// Put text on the clipboard.
    Copy(String),
    /// Load the page anew.
    Reload,
    /// Change what the socket suffers.
    SetWeather(Weather),
    /// Look whether the server serves another build of the page.
    CheckVersion,
}

/// What a browser remembers, whoever uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The language.
    Language(Language),
    /// Light or dark.
    Theme(Theme),
    /// Who is signed in here; absent after signing out.
    Me(Option<Person>),
    /// This person's session ended: no longer signed in, unless somebody else is by now. Who it was is remembered, for
    /// what they wrote is still on the device.
    NoLonger(UserId),
    /// The room shown last.
    LastRoom(String),
}

/// What the model needs from outside for one step.
pub struct Ctx<'a> {
    /// Session time.
    pub now: Timestamp,
    /// The wall clock.
    pub wall: Timestamp,
    /// Makes a new id.
    pub new_id: &'a mut dyn FnMut() -> ClientId,
}

/// What a page begins with.
#[derive(Clone, Debug)]
pub struct Birth {
    /// Session time.
    pub now: Timestamp,
    /// From the settings, else from the browser.
    pub language: Language,
    /// From the settings.
    pub theme: Theme,
    /// The path of the address.
    pub path: String,
    /// The room shown last.
    pub last_room: Option<String>,
    /// The page's own build.
    pub build: &'static str,
    /// The page is hidden at birth.
    pub hidden: bool,
}

/// What an answer is awaited for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Find {
        name: String,
        join: bool,
    },
    Join(RoomId),
    Leave(RoomId),
    Create,
    /// The rooms after this one.
    List(Option<String>),
    History {
        room: RoomId,
        before: Seq,
    },
    Rename,
}

/// How far an item of the outbox has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    Saved,
    Sending,
    Interrupted,
    Refused,
}

/// An item of the outbox, as the page knows it.
#[derive(Clone, Debug)]
struct Item {
    item: OutboxItem,
    stage: Stage,
    /// On the device for good at least once: closing the tab does not lose it.
    saved: bool,
}

/// The page's own state machine.
pub struct Model {
    phase: Phase,
    language: Language,
    theme: Theme,
    me: Option<Person>,
    rooms: SortedMap<RoomId, Box<Room>>,
    rooms_known: bool,
    place: Place,
    /// The room an address asked for, not yet resolved.
    wanted: Option<Wanted>,
    /// Rooms followed, the last visited last.
    followed: Vec<RoomId>,
    items: SortedMap<ClientId, Item>,
    asked: SortedMap<RequestTag, Asked>,
    next_tag: u64,
    facts: Facts,
    storage: StorageState,
    limits: WireLimits,
    dialog: Dialog,
    panel: Rc<Panel>,
    notices: Vec<(Notice, Option<Timestamp>)>,
    next_notice: u64,
    /// When the page last looked for a newer version of itself; never before its first welcome.
    version_checked: Option<Timestamp>,
    hidden: bool,
    drafts: SortedMap<RoomId, String>,
    /// The device has told of the drafts of whoever is signed in.
    drafts_known: bool,
    draft_version: u64,
    effects: Vec<Effect>,
    shown_rooms: Rc<Vec<RoomRow>>,
    shown_view: Option<Rc<RoomView>>,
    shown_notices: Rc<Vec<Notice>>,
}

/// A room an address asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    /// Nobody named it: it is the default, joined without asking.
    by_default: bool,
}

impl Model {
    /// Makes the model of a fresh page.
    #[must_use]
    pub fn new(birth: &Birth) -> Self {
        let wanted = rooms::room_of_path(&birth.path).map_or_else(
            || Wanted { name: birth.last_room.clone().unwrap_or_else(|| DEFAULT_ROOM.into()), by_default: true },
            |name| Wanted { name, by_default: false },
        );
        Self {
            phase: Phase::Loading,
            language: birth.language,
            theme: birth.theme,
            me: None,
            rooms: SortedMap::default(),
            rooms_known: false,
            place: Place::Nowhere,
            wanted: Some(wanted),
            followed: Vec::new(),
            items: SortedMap::default(),
            asked: SortedMap::default(),
            next_tag: 0,
            facts: Facts {
                state: ConnectionState::Idle,
                state_since: birth.now,
                lost_since: birth.now,
                shown_until: None,
                bar_seen: false,
                back: None,
                storage_ok: None,
                unsent: 0,
                new_version: false,
            },
            storage: StorageState::Opening,
            limits: WireLimits::default(),
            dialog: Dialog::None,
            panel: Rc::new(Panel { build: birth.build, ..Panel::default() }),
            notices: Vec::new(),
            next_notice: 0,
            version_checked: None,
            hidden: birth.hidden,
            drafts: SortedMap::default(),
            drafts_known: false,
            draft_version: 0,
            effects: Vec::new(),
            shown_rooms: Rc::default(),
            shown_view: None,
            shown_notices: Rc::default(),
        }
    }

    /// Takes what there is to do since it was last asked.
    #[must_use]
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Returns who is signed in.
    #[must_use]
    pub fn me(&self) -> Option<&Person> {
        self.me.as_ref()
    }

    /// Returns the language of the page.
    #[must_use]
    pub fn language(&self) -> Language {
        self.language
    }

    /// Returns how the page should look.
    #[must_use]
    pub fn theme(&self) -> Theme {
        self.theme
    }

    /// Returns how many items are neither acknowledged nor refused.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.items.values().filter(|item| item.stage != Stage::Refused).count()
    }

    /// Notes that somebody is signed in: the session is about to start. What was of somebody else is forgotten.
    pub fn signed_in(&mut self, me: Person, ctx: &Ctx<'_>) {
        if self.me.as_ref().is_some_and(|known| known.id != me.id) || self.me.is_none() {
            self.forget();
        }
        self.effects.push(Effect::Remember(Setting::Me(Some(me.clone()))));
        self.me = Some(me);
        self.phase = Phase::Chat;
        self.facts.state_since = ctx.now;
        self.facts.lost_since = ctx.now;
    }

    /// Notes that the server was not reached by signing out, or could not do it: the cookie would stay valid, so nothing was
    /// signed out.
    pub fn sign_out_failed(&mut self, error: SignInError, now: Timestamp) {
        let error = match error {
            SignInError::Refused(error) => error,
            SignInError::Unreachable => WireError::new(ErrorCode::Unavailable, "The server was not reached."),
        };
        self.refused_notice(error, now);
    }

    /// Shows the sign-in form.
    pub fn ask_to_sign_in(&mut self, because: SignInBecause, last_name: Option<String>, kept: Vec<String>) {
        let last_name = last_name.or_else(|| self.me.as_ref().map(|me| me.name.clone())).unwrap_or_default();
        self.phase = Phase::SignIn(SignIn { busy: false, error: None, kept, last_name, because });
        self.dialog = Dialog::None;
    }

    /// Notes that signing in failed.
    pub fn sign_in_failed(&mut self, error: SignInError) {
        if let Phase::SignIn(form) = &mut self.phase {
            form.busy = false;
            form.error = Some(error);
        }
    }

    /// Notes that the session was ended on the server, or that it could not be told.
    pub fn signed_out(&mut self) {
        let last_name = self.me.as_ref().map(|me| me.name.clone());
        self.forget();
        self.me = None;
        self.effects.push(Effect::Remember(Setting::Me(None)));
        self.ask_to_sign_in(SignInBecause::New, last_name, Vec::new());
    }

    /// Notes that another tab signed in as somebody else, or signed out: this page must not go on under the same cookie.
    pub fn signed_in_elsewhere(&mut self, who: Option<&Person>) {
        let same = who.is_some_and(|who| self.me.as_ref().is_some_and(|me| me.id == who.id));
        if self.me.is_none() || same {
            return;
        }
        let kept = self.left_behind();
        let because = if who.is_some() { SignInBecause::SomebodyElse } else { SignInBecause::Ended };
        self.ask_to_sign_in(because, None, kept);
        let ended = self.me.as_ref().map(|me| Effect::Remember(Setting::NoLonger(me.id)));
        self.effects.extend(ended.into_iter().chain([Effect::EndSession]));
    }

    /// Notes that the address changed by the browser's own buttons.
    pub fn address_changed(&mut self, path: &str, ctx: &mut Ctx<'_>) {
        let name = rooms::room_of_path(path);
        let by_default = name.is_none();
        self.wanted = Some(Wanted { name: name.unwrap_or_else(|| DEFAULT_ROOM.into()), by_default });
        self.resolve(ctx);
    }

    /// Notes that the page is shown or hidden.
    pub fn visible(&mut self, visible: bool) {
        self.hidden = !visible;
        let Place::Room(id) = self.place else { return };
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if visible {
            room.mark_new();
        } else if room.unread() == 0 {
            room.divider = None;
        }
    }

    /// Notes that something came from the server.
    pub fn frame_came(&mut self, wall: Timestamp) {
        Rc::make_mut(&mut self.panel).last_frame = Some(wall);
        if crate::status::is_live(&self.facts.state) {
            self.facts.shown_until = Some(wall);
        }
    }

    /// Notes that the server serves another build of the page.
    pub fn new_version(&mut self) {
        self.facts.new_version = true;
    }

    /// Allows the weather switch.
    pub fn allow_weather(&mut self) {
        let panel = Rc::make_mut(&mut self.panel);
        panel.weather = panel.weather.or(Some(Weather::Fair));
    }

    /// Shows that something was copied.
    pub fn copied(&mut self, now: Timestamp) {
        self.notice(NoticeKind::Copied, Some(now.plus(NOTICE_SHOWN_MS)));
    }

    fn notice(&mut self, what: NoticeKind, until: Option<Timestamp>) {
        self.next_notice += 1;
        if self.notices.len() >= NOTICES_SHOWN
            && let Some(oldest) = self.notices.iter().position(|(known, _)| known.what.refused().is_none())
        {
            self.notices.remove(oldest);
        }
        self.notices.push((Notice { id: self.next_notice, what }, until));
    }

    fn refused_notice(&mut self, error: WireError, now: Timestamp) {
        self.notice(NoticeKind::Refused(error), Some(now.plus(NOTICE_SHOWN_MS)));
    }

    fn session(&mut self, command: Command) {
        self.effects.push(Effect::Session(command));
    }

    fn ask(&mut self, asked: Asked, command: shared::message::Command) {
        self.next_tag += 1;
        let tag = RequestTag(self.next_tag);
        self.asked.insert(tag, asked);
        self.session(Command::Request { tag, command });
    }

    /// Forgets everything that belongs to a person.
    fn forget(&mut self) {
        // Whoever comes next is where this one was. A room is known by its name only as long as it is known.
        let by_default = matches!(self.place, Place::Room(_) | Place::Door { .. });
        let here = self.place_name().map(|name| Wanted { name, by_default });
        self.wanted = self.wanted.take().or(here);
        self.rooms.clear();
        self.rooms_known = false;
        self.followed.clear();
        self.items.clear();
        self.asked.clear();
        self.drafts.clear();
        self.drafts_known = false;
        self.dialog = Dialog::None;
        self.notices.clear();
        self.place = Place::Nowhere;
        self.facts.state = ConnectionState::Idle;
        self.facts.back = None;
        self.facts.bar_seen = false;
        self.facts.shown_until = None;
    }
}
