//! What people can do on the page.
//!
//! Must not live here: doing it. Invariant: every wish of a component goes through one [`Action`], so that a day can be
//! replayed from their list.

use shared::ids::{ClientId, RoomId, Seq};
use shared::model::PostRef;
use yew::Callback;

use super::state::{Dialog, Theme, Weather};
use crate::words::Language;

/// One thing a person did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sign in under a name.
    SignIn(String),
    /// Show the sign-in form: the session ended.
    SignInAgain,
    /// Ask whether to sign out: the name is gone for good then.
    SignOut,
    /// Sign out and forget what is unsent.
    SignOutForGood,
    /// Forget what the person whose session ended wrote and nobody can send any more.
    DiscardKept,
    /// Show a room of mine.
    OpenRoom(RoomId),
    /// Follow an address inside the page, `/r/NAME`.
    GoTo(String),
    /// Become a member.
    Join(RoomId),
    /// Be a member no longer.
    Leave(RoomId),
    /// Make a public room and show it.
    CreateRoom {
        /// Its name in addresses.
        name: String,
        /// What it is about.
        title: String,
    },
    /// Ask for (more of) the public rooms.
    ListRooms,
    /// Load posts before this seq: scroll-back, or a hole.
    LoadHistory(RoomId, Seq),
    /// The oldest row on the screen, or nothing while following the end: rows there are the last to be let go.
    LookAt(RoomId, Option<Seq>),
    /// The composer's text changed, which had drawn this [`Draft::version`](super::Draft). Stored, not queued.
    SetDraft(RoomId, String, u64),
    /// Send the composer's text, which had drawn this [`Draft::version`](super::Draft): as a new post, or as the edit that
    /// was begun. The composer is empty then.
    Send(RoomId, String, u64),
    /// Begin to edit a post of mine: its text moves into the composer. Here and below, which post is meant is what the row
    /// said: by now another may stand in its place.
    BeginEdit(RoomId, PostRef),
    /// Give the edit up; the draft from before comes back.
    CancelEdit(RoomId),
    /// Delete a post of mine.
    Delete(RoomId, PostRef),
    /// Add or take back a reaction.
    React(RoomId, PostRef, String, bool),
    /// Take back an item that was never attempted.
    Cancel(ClientId),
    /// As [`Action::Cancel`], and put its text into the composer.
    CancelAndEdit(ClientId),
    /// Queue a refused item again, unchanged.
    Retry(ClientId),
    /// Forget a refused item.
    Discard(ClientId),
    /// As [`Action::Discard`], and put its text into the composer.
    DiscardAndEdit(ClientId),
    /// All up to this many posts of a room has been seen.
    MarkRead(RoomId, u64),
    /// A key was pressed in the composer.
    Typing(RoomId),
    /// Go by another name.
    Rename(String),
    /// Try to connect at once.
    RetryNow,
    /// Speak this language and remember it.
    SetLanguage(Language),
    /// Look like this and remember it.
    SetTheme(Theme),
    /// Open a dialog.
    Open(Dialog),
    /// Close the dialog.
    CloseDialog,
    /// Close a notice.
    CloseNotice(u64),
    /// Put text on the clipboard.
    Copy(String),
    /// Put the diagnostics on the clipboard: no bodies, no tokens.
    CopyDiagnostics,
    /// Change the weather.
    SetWeather(Weather),
    /// Load the page anew.
    Reload,
}

/// Where components send their [`Action`]s. Cheap to clone, equal to its clones.
#[derive(Clone, PartialEq)]
pub struct Actions {
    take: Callback<Action>,
}

impl Actions {
    /// Makes a handle that gives every action to `take`.
    #[must_use]
    pub fn new(take: Callback<Action>) -> Self {
        Self { take }
    }

    /// Makes a handle that does nothing, for pictures and tests.
    #[must_use]
    pub fn none() -> Self {
        Self { take: Callback::noop() }
    }

    /// Does it.
    pub fn act(&self, action: Action) {
        self.take.emit(action);
    }

    /// Makes a callback that does this one thing on any event.
    #[must_use]
    pub fn on<E>(&self, action: Action) -> Callback<E> {
        let take = self.take.clone();
        Callback::from(move |_| take.emit(action.clone()))
    }

    /// Makes a callback that turns an event into an action.
    #[must_use]
    pub fn map<E, F: Fn(E) -> Action + 'static>(&self, make: F) -> Callback<E> {
        let take = self.take.clone();
        Callback::from(move |event| take.emit(make(event)))
    }
}
