//! The state of one frame. Parts that change apart are behind their own `Rc`, so that a component whose part did not
//! change is not drawn again.
//!
//! Must not live here: behaviour. Invariant: everything shown is here, worded nowhere: words are made at the last moment
//! by [`crate::words`].

use std::rc::Rc;
use std::sync::Arc;

use shared::error::WireError;
use shared::ids::{AttemptId, ClientId, ConnectionId, RoomId, Seq, UserId};
use shared::message::WireLimits;
use shared::model::{Person, PostRef, RoomSummary, ServerInfo};
use shared::roster::Roster;
use shared::session::{ConnectionState, Happened};
use shared::time::Timestamp;
use shared::timeline::Timeline;

use super::part::Part;
use crate::status::Status;
use crate::words::Language;

/// Everything the page shows.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// How far the person has come.
    pub phase: Phase,
    /// The language of the page.
    pub language: Language,
    /// Light or dark.
    pub theme: Theme,
    /// Who I am; absent until signed in.
    pub me: Option<Person>,
    /// Rooms I am a member of, in the order of the sidebar.
    pub rooms: Rc<Vec<RoomRow>>,
    /// What the main pane shows.
    pub place: Place,
    /// The room in the main pane; absent where [`State::place`] is no room of mine.
    pub view: Option<Rc<RoomView>>,
    /// What is being written in the room in the main pane.
    pub draft: Draft,
    /// What is shown of the connection, ready to be worded.
    pub status: Status,
    /// Where the connection stands, as the session says it.
    pub connection: ConnectionState,
    /// Items not yet acknowledged and not refused, in all rooms.
    pub queued: usize,
    /// Items refused for good, in all rooms.
    pub refused: usize,
    /// Whether this device keeps what is unsent.
    pub storage: StorageState,
    /// What the server takes; checked before sending, so that a person is told at once.
    pub limits: WireLimits,
    /// The open dialog.
    pub dialog: Dialog,
    /// What the connection panel shows. Its samples move on every heartbeat.
    pub panel: Rc<Panel>,
    /// A short message to show once, newest last.
    pub notices: Rc<Vec<Notice>>,
    /// The wall clock at this frame, for "today" and "yesterday".
    pub wall: Timestamp,
    /// Minutes to add to UTC for the person's own time.
    pub utc_offset_min: i32,
}

impl State {
    /// Tells whether drawing the other one would change nothing: only the clock has moved.
    #[must_use]
    pub fn looks_like(&self, other: &Self) -> bool {
        // The connection panel says how long ago something was.
        self.dialog != Dialog::Connection && Self { wall: other.wall, ..self.clone() } == *other
    }

    /// Finds a joined room.
    #[must_use]
    pub fn room(&self, id: RoomId) -> Option<&RoomRow> {
        self.rooms.iter().find(|row| row.summary.room == id)
    }

    /// Returns the id of the room in the main pane.
    #[must_use]
    pub fn current(&self) -> Option<RoomId> {
        match &self.place {
            Place::Room(room) => Some(*room),
            Place::Nowhere | Place::Looking { .. } | Place::Door { .. } | Place::Missing { .. } => None,
        }
    }

    /// Returns how many posts are unread in all rooms.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.rooms.iter().map(|row| row.unread).sum()
    }

    /// Tells whether a post or anything else is by the person at this page.
    #[must_use]
    pub fn is_me(&self, user: UserId) -> bool {
        self.me.as_ref().is_some_and(|me| me.id == user)
    }
}

/// How far the person has come.
///
/// ```text
/// Loading ──► SignIn ◄──► Chat
///    └────────────────────▲
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The page looks whether there is a session.
    Loading,
    /// A name is wanted.
    SignIn(SignIn),
    /// Signed in.
    Chat,
}

/// The sign-in form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignIn {
    /// The form was sent and waits for its answer.
    pub busy: bool,
    /// Why the last try failed; may carry a suggestion.
    pub error: Option<SignInError>,
    /// What the person whose session ended wrote and nobody can send any more: a new sign-in is a new person.
    pub kept: Vec<String>,
    /// The name that was used here last.
    pub last_name: String,
    /// Why the person has to sign in (again).
    pub because: SignInBecause,
}

/// Why a person sees the sign-in form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignInBecause {
    /// They were never here, or signed out.
    #[default]
    New,
    /// Their session ended.
    Ended,
    /// Another tab signed in as somebody else, so that this page stopped.
    SomebodyElse,
}

/// Why signing in failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInError {
    /// The server said no.
    Refused(WireError),
    /// The server was not reached.
    Unreachable,
}

/// Light or dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// As the system says.
    #[default]
    System,
    /// Always light.
    Light,
    /// Always dark.
    Dark,
}

/// One row of the sidebar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRow {
    /// The room, with its newest counts.
    pub summary: RoomSummary,
    /// Posts unread.
    pub unread: u64,
    /// Something is being written in it.
    pub draft: bool,
    /// Items not yet acknowledged in it.
    pub unsent: usize,
    /// Items refused in it.
    pub refused: usize,
}

/// What the main pane shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nothing yet: the rooms are not known.
    #[default]
    Nowhere,
    /// A room of mine.
    Room(RoomId),
    /// The room of an address is being looked for.
    Looking {
        /// Its name.
        name: String,
    },
    /// A public room I am not a member of: ask, then join.
    Door {
        /// The room.
        room: RoomSummary,
        /// Joining was asked and waits for its answer.
        busy: bool,
    },
    /// No such room, or I may not know of it.
    Missing {
        /// The name in the address.
        name: String,
    },
}

/// A room in the main pane.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomView {
    /// Which.
    pub room: RoomId,
    /// Its posts, holes and unacknowledged items.
    pub timeline: Part<Timeline>,
    /// Who is in it and who is here.
    pub roster: Part<Roster>,
    /// The names of those who are writing, me excluded.
    pub typing: Rc<Vec<Arc<str>>>,
    /// The "New" divider stands before the first post with a greater ordinal; frozen until the room is left.
    pub divider: Option<u64>,
    /// Older posts are being loaded before this seq.
    pub loading: Option<Seq>,
    /// The room has been opened at least once: an empty timeline is an empty room.
    pub loaded: bool,
    /// Loading older posts failed; "Load" tries again.
    pub load_failed: Option<WireError>,
}

/// What is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// The text. Belongs to the composer once it has been taken over; compare [`Draft::version`].
    pub text: String,
    /// Changes when the text was changed by other hands than the composer's: room changed, sent, edit begun.
    pub version: u64,
    /// An edit of a post of mine rather than a new post.
    pub editing: Option<PostRef>,
}

/// Whether this device keeps what is unsent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageState {
    /// Not known yet.
    #[default]
    Opening,
    /// It does.
    Ready,
    /// It does not: keep the tab open until all is sent.
    Failed,
}

/// The open dialog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Dialog {
    /// None.
    #[default]
    None,
    /// All public rooms.
    Rooms(RoomsDialog),
    /// A form for a new room.
    CreateRoom(Form),
    /// A form for another name.
    Rename(Form),
    /// Really sign out?
    SignOut {
        /// How many items, edits that were begun and drafts would be lost.
        unsent: usize,
    },
    /// Really leave a room?
    Leave {
        /// Which.
        room: RoomId,
    },
    /// The connection panel.
    Connection,
    /// Keys and help.
    Help,
    /// The room switcher (Ctrl/⌘ K).
    Switcher,
}

/// The list of public rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomsDialog {
    /// Those listed so far, in order of name.
    pub rooms: Rc<Vec<RoomSummary>>,
    /// There are more after the last.
    pub more: bool,
    /// The list is being asked for.
    pub busy: bool,
    /// Why the last request failed.
    pub error: Option<WireError>,
}

/// A small form that waits for the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// It was sent and waits for its answer.
    pub busy: bool,
    /// Why the last try failed; may carry a suggestion.
    pub error: Option<WireError>,
}

/// What the connection panel shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Panel {
    /// Newest last, at most [`RTT_SAMPLES`], milliseconds.
    pub round_trips: Vec<u64>,
    /// The wall clock when the last frame came.
    pub last_frame: Option<Timestamp>,
    /// The number of the newest attempt.
    pub attempt: AttemptId,
    /// The socket, as the server counts it.
    pub connection: Option<ConnectionId>,
    /// The server.
    pub server: Option<ServerInfo>,
    /// This page's own build.
    pub build: &'static str,
    /// Newest last, at most [`PANEL_LINES`].
    pub lines: Vec<PanelLine>,
    /// The weather switch; absent where this server does not allow it.
    pub weather: Option<Weather>,
}

/// How many round trips the panel keeps.
pub const RTT_SAMPLES: usize = 60;
/// How many lines the panel keeps.
pub const PANEL_LINES: usize = 200;

/// One line of the connection's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanelLine {
    /// The wall clock when it happened.
    pub at: Timestamp,
    /// Which attempt it is about.
    pub attempt: AttemptId,
    /// What happened.
    pub what: Happened,
}

/// What the page does to its own socket, so that anyone can watch it heal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    #[default]
    Fair,
    /// The socket is cut now, and every attempt fails.
    Cut,
    /// Nothing passes either way; the socket stays open.
    Frozen,
    /// Every frame takes [`SLOW_MS`] longer each way.
    Slow,
}

/// How long [`Weather::Slow`] holds a frame, in milliseconds.
pub const SLOW_MS: u32 = 2_000;

impl Weather {
    /// All of them, in the order of the switch.
    pub const ALL: [Self; 4] = [Self::Fair, Self::Cut, Self::Frozen, Self::Slow];
}

/// A short message to show once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Grows; the key of its row and what [`super::Action::CloseNotice`] names.
    pub id: u64,
    /// What it says.
    pub what: NoticeKind,
}

/// What a notice says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// A request was refused.
    Refused(WireError),
    /// The outbox is full: nothing was queued, the text is back in the composer.
    OutboxFull,
    /// Something was copied.
    Copied,
    /// A room started over, and why.
    RoomReset(shared::model::ResetReason),
    /// Posts of a closed tab were taken over.
    Adopted(usize),
    /// An edit, deletion or reaction was refused.
    ChangeRefused {
        /// Which.
        client_id: ClientId,
        /// Why.
        error: WireError,
    },
    /// A post was refused whose room is gone from here, and with it the row that would say so.
    PostRefused {
        /// Which.
        client_id: ClientId,
        /// Why.
        error: WireError,
        /// What was written.
        body: String,
    },
}

impl NoticeKind {
    /// Returns the item of the outbox whose refusal it tells of.
    #[must_use]
    pub fn refused(&self) -> Option<ClientId> {
        match self {
            Self::ChangeRefused { client_id, .. } | Self::PostRefused { client_id, .. } => Some(*client_id),
            Self::Refused(_) | Self::OutboxFull | Self::Copied | Self::RoomReset(_) | Self::Adopted(_) => None,
        }
    }
}
