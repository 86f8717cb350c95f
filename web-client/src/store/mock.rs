//! A [`State`] made by hand, for pictures and tests of components.
//!
//! Must not live here: anything the running page uses. Invariant: what it shows could have happened.

use std::rc::Rc;

use shared::ids::{RoomId, Seq, UserId};
use shared::message::WireLimits;
use shared::model::{Person, RoomSummary};
use shared::roster::Roster;
use shared::session::ConnectionState;
use shared::time::Timestamp;
use shared::timeline::Timeline;

use super::part::Part;
use super::state::{Dialog, Draft, Panel, Phase, Place, RoomRow, RoomView, State, StorageState, Theme};
use crate::platform::letters::lower;
use crate::status::{Dot, Status};
use crate::words::{Language, Word};

/// Makes the state of somebody signed in, live, in a room called `general` among three.
#[must_use]
pub fn mock() -> State {
    let me_id = UserId::from_bytes([1; 16]);
    let me = Person { id: me_id, name: "Robin".into() };
    let rooms = [("general", 0, 0), ("build", 12, 5), ("重构讨论", 3, 3)];
    let rows = rooms.iter().zip(1_u8..).map(|((name, posts, read), n)| RoomRow {
        summary: RoomSummary {
            room: RoomId::from_bytes([n; 16]),
            name: (*name).into(),
            title: String::new(),
            joined: true,
            members: 4,
            head: Seq(*posts + 1),
            posts: *posts,
            read: *read,
        },
        unread: posts - read,
        draft: n == 3,
        unsent: 0,
        refused: 0,
    });
    let current = RoomId::from_bytes([1; 16]);
    State {
        phase: Phase::Chat,
        language: Language::English,
        theme: Theme::System,
        me: Some(me),
        rooms: Rc::new(rows.collect()),
        place: Place::Room(current),
        view: Some(Rc::new(RoomView {
            room: current,
            timeline: Part::new(Timeline::new(me_id)),
            roster: Part::new(Roster::new(me_id, lower)),
            typing: Rc::default(),
            divider: None,
            loading: None,
            loaded: true,
            load_failed: None,
        })),
        draft: Draft::default(),
        status: Status { name: "live", dot: Dot::Live, said: Word::StateLive.into(), pill: None, bar: None },
        connection: ConnectionState::Live,
        queued: 0,
        refused: 0,
        storage: StorageState::Ready,
        limits: WireLimits::default(),
        dialog: Dialog::None,
        panel: Rc::new(Panel::default()),
        notices: Rc::default(),
        wall: Timestamp(1_795_000_000_000),
        utc_offset_min: 0,
    }
}
