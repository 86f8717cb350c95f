//! The page of somebody signed in: rooms, the room, what stands beside it.
//!
//! Must not live here: what is in the regions. Invariant: regions keep their elements whatever the connection does, so
//! focus and scroll stay.

use std::cell::RefCell;
use std::rc::Rc;

use shared::ids::RoomId;
use shared::sorted::SortedMap;
use yew::prelude::*;

use super::composer::Composer;
use super::dialogs::open_dialog;
use super::door::{door, missing, waiting};
use super::frame::{Frame, focus_id, use_frame};
use super::header::{Header, header};
use super::notices::notices;
use super::panel::ConnectionPanel;
use super::people::PeoplePanel;
use super::sidebar::Sidebar;
use super::status_bar::status_bar;
use super::timeline::{Places, TimelineList};
use super::typing::typing_line;
use crate::status::is_live;
use crate::store::{Action, Dialog, Place, State};
use crate::words::Word;

/// Properties of [`Shell`].
#[derive(Properties, PartialEq)]
pub struct ShellProps {
    /// What to show.
    pub state: Rc<State>,
}

/// What a phone shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pane {
    Rooms,
    Room,
}

/// The shell.
#[component]
pub fn Shell(props: &ShellProps) -> Html {
    let frame = use_frame();
    let state = &props.state;
    let pane = use_state_eq(|| Pane::Room);
    let people = use_state_eq(|| false);
    let places = use_mut_ref(SortedMap::<RoomId, Places>::default);
    let current = state.current();
    // Where the person went elsewhere, a phone shows it.
    {
        let pane = pane.clone();
        use_effect_with(place_key(&state.place), move |_| pane.set(Pane::Room));
    }
    let to_rooms = Callback::from({
        let pane = pane.clone();
        move |()| pane.set(Pane::Rooms)
    });
    let to_room = Callback::from({
        let pane = pane.clone();
        move |()| pane.set(Pane::Room)
    });
    let toggle_people = Callback::from({
        let (people, actions, is_connection) =
            (people.clone(), frame.actions.clone(), state.dialog == Dialog::Connection);
        move |()| {
            if is_connection {
                actions.act(Action::CloseDialog);
            }
            people.set(is_connection || !*people);
        }
    });
    let skip = Callback::from(|event: MouseEvent| {
        event.prevent_default();
        focus_id("timeline");
    });
    let is_connection = state.dialog == Dialog::Connection;
    let panel = match &state.view {
        _ if is_connection => Some(html! {
            <ConnectionPanel panel={Rc::clone(&state.panel)} connection={state.connection.clone()}
                status={state.status.clone()} wall={state.wall} queued={state.queued} refused={state.refused} />
        }),
        Some(view) if *people => Some(html! {
            <PeoplePanel roster={view.roster.clone()} me={state.me.as_ref().map(|me| me.id)} close={toggle_people.clone()} />
        }),
        Some(_) | None => None,
    };
    let head = Header {
        row: current.and_then(|room| state.room(room)).cloned(),
        place: state.place.clone(),
        status: state.status.clone(),
        roster: state.view.as_ref().map(|view| view.roster.clone()),
        people: *people && !is_connection,
        is_panel: is_connection,
        back: to_rooms,
        toggle_people,
    };
    let data_pane = match *pane {
        Pane::Rooms => "rooms",
        Pane::Room => "room",
    };
    html! {
        <div class="app">
            <a class="skip" href="#timeline" onclick={skip}>{ frame.word(Word::SkipToMessages) }</a>
            <div class={classes!("shell", panel.is_some().then_some("with-panel"))} data-pane={data_pane}>
                <Sidebar rooms={Rc::clone(&state.rooms)} is_known={state.place != Place::Nowhere} me={state.me.clone()}
                    current={current} theme={state.theme} opened={to_room} />
                <main class="main">
                    { header(&frame, &head) }
                    { status_bar(&frame, state.status.bar.as_ref()) }
                    { main_pane(&frame, state, &places) }
                </main>
                { panel.unwrap_or_default() }
            </div>
            { notices(&frame, &state.notices) }
            { open_dialog(&frame, state) }
        </div>
    }
}

/// What tells one place from another, its progress left out.
fn place_key(place: &Place) -> String {
    match place {
        Place::Nowhere => String::new(),
        Place::Room(room) => room.to_string(),
        Place::Looking { name } | Place::Missing { name } => name.clone(),
        Place::Door { room, .. } => room.name.clone(),
    }
}

fn main_pane(frame: &Frame, state: &State, places: &Rc<RefCell<SortedMap<RoomId, Places>>>) -> Html {
    match (&state.place, &state.view) {
        (Place::Room(room), Some(view)) => {
            let name = state.room(*room).map(|row| row.summary.name.clone()).unwrap_or_default();
            let key = room.to_string();
            html! {
                <>
                    <TimelineList key={format!("list-{key}")} view={Rc::clone(view)} room_name={name.clone()}
                        editing={state.draft.editing.map(|post| post.seq)} is_live={is_live(&state.connection)}
                        me={state.me.as_ref().map(|me| me.id)} places={Rc::clone(places)} />
                    { typing_line(frame, &view.typing) }
                    <Composer room={*room} room_name={name} draft={state.draft.clone()} limits={state.limits}
                        last_own={super::timeline::last_own(&view.timeline)} />
                </>
            }
        }
        (Place::Door { room, busy }, _) => door(frame, room, *busy),
        (Place::Missing { name }, _) => missing(frame, name),
        (Place::Nowhere | Place::Looking { .. } | Place::Room(_), _) => waiting(frame),
    }
}
