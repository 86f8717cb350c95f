//! What the main pane shows where there is no room of mine.
//!
//! Must not live here: finding or joining rooms. Invariant: every such place says what can be done next.

use shared::model::RoomSummary;
use yew::prelude::*;

use super::frame::use_frame;
use crate::store::{Action, Dialog, RoomsDialog};
use crate::words::{Text, Word};

/// Properties of [`Door`].
#[derive(Properties, PartialEq)]
pub struct DoorProps {
    /// The room.
    pub room: RoomSummary,
    /// Joining was asked.
    pub busy: bool,
}

/// A room one may join.
#[component]
pub fn Door(props: &DoorProps) -> Html {
    let frame = use_frame();
    let room = &props.room;
    let name = format!("#{}", room.name);
    html! {
        <div class="pane blank" data-testid="door" id="timeline" tabindex="-1">
            <h2><bdi>{ &name }</bdi></h2>
            if !room.title.is_empty() { <p dir="auto">{ &room.title }</p> }
            <p>{ frame.say(&Text::NotMember { room: name.clone() }) }</p>
            <p class="meta">{ frame.say(&Text::Members { n: room.members }) }</p>
            <button type="button" class="button primary" data-testid="join" aria-disabled={props.busy.to_string()}
                onclick={frame.actions.on(Action::Join(room.room))}>
                { frame.say(&Text::JoinRoom { room: name.clone() }) }
            </button>
        </div>
    }
}

/// Properties of [`Missing`].
#[derive(Properties, PartialEq)]
pub struct MissingProps {
    /// The name in the address.
    pub name: String,
}

/// No such room.
#[component]
pub fn Missing(props: &MissingProps) -> Html {
    let frame = use_frame();
    html! {
        <div class="pane blank" data-testid="missing" id="timeline" tabindex="-1">
            <h2>{ frame.say(&Text::NoSuchRoom { room: format!("#{}", props.name) }) }</h2>
            <button type="button" class="button" onclick={frame.actions.on(Action::Open(Dialog::Rooms(RoomsDialog::default())))}>
                { frame.word(Word::BrowseRooms) }
            </button>
        </div>
    }
}

/// Properties of [`Waiting`].
#[derive(Properties, PartialEq)]
pub struct WaitingProps {
    /// There are rooms to choose from.
    pub has_rooms: bool,
    /// A room is being looked for.
    pub is_looking: bool,
}

/// Nothing yet.
#[component]
pub fn Waiting(props: &WaitingProps) -> Html {
    let frame = use_frame();
    let text = match (props.is_looking, props.has_rooms) {
        (true, _) => Word::Loading,
        (false, true) => Word::ChooseRoom,
        (false, false) => Word::NoRooms,
    };
    html! { <div class="pane blank" id="timeline" tabindex="-1"><p>{ frame.word(text) }</p></div> }
}
