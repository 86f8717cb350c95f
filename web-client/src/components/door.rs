//! What the main pane shows where there is no room of mine.
//!
//! Must not live here: finding or joining rooms. Invariant: every such place says what can be done next.

use shared::model::RoomSummary;
use yew::prelude::*;

use super::button::word_button;
use super::frame::Frame;
use crate::store::{Action, Dialog, RoomsDialog};
use crate::words::{Text, Word};

/// Draws a room one may join; `busy` once joining was asked.
pub fn door(frame: &Frame, room: &RoomSummary, busy: bool) -> Html {
    let name = format!("#{}", room.name);
    html! {
        <div class="pane blank" data-testid="door" id="timeline" tabindex="-1">
            <h2><bdi>{ &name }</bdi></h2>
            if !room.title.is_empty() { <p dir="auto">{ &room.title }</p> }
            <p>{ frame.say(&Text::NotMember { room: name.clone() }) }</p>
            <p class="meta">{ frame.say(&Text::Members { n: room.members }) }</p>
            <button type="button" class="button primary" data-testid="join" aria-disabled={busy.to_string()}
                onclick={frame.actions.on(Action::Join(room.room))}>
                { frame.say(&Text::JoinRoom { room: name.clone() }) }
            </button>
        </div>
    }
}

/// Draws that there is no room of this name.
pub fn missing(frame: &Frame, name: &str) -> Html {
    let browse = frame.actions.on(Action::Open(Dialog::Rooms(RoomsDialog::default())));
    html! {
        <div class="pane blank" data-testid="missing" id="timeline" tabindex="-1">
            <h2>{ frame.say(&Text::NoSuchRoom { room: format!("#{}", name) }) }</h2>
            { word_button("button", None, frame.word(Word::BrowseRooms), browse) }
        </div>
    }
}

/// Draws that what is to be shown is not known yet.
pub fn waiting(frame: &Frame) -> Html {
    html! { <div class="pane blank" id="timeline" tabindex="-1"><p>{ frame.word(Word::Loading) }</p></div> }
}
