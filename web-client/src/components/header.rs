//! The header of the main pane: which room, who, and how the connection stands.
//!
//! Must not live here: when a pill is due ([`crate::status`]). Invariant: the dot is a shape as well as a colour, and
//! its button says the state in words.

use yew::prelude::*;

use shared::roster::Roster;

use super::button::entry;
use super::frame::{Frame, use_frame};
use super::icon::Icon;
use super::menu::use_menu;
use crate::status::{Dot, Status};
use crate::store::{Action, Dialog, Part, Place, RoomRow};
use crate::words::{Text, Word};

/// The header. Drawn by the shell itself, as the bar is: what stands in a component of its own may be drawn a turn of the
/// browser later, and the pill must not be behind the state that is announced.
pub struct Header {
    /// The room shown, if it is one of mine.
    pub row: Option<RoomRow>,
    /// What the main pane shows.
    pub place: Place,
    /// What is shown of the connection.
    pub status: Status,
    /// The people of the room.
    pub roster: Option<Part<Roster>>,
    /// The list of people is shown.
    pub people: bool,
    /// The connection panel is shown.
    pub is_panel: bool,
    /// Back to the rooms, on a phone.
    pub back: Callback<()>,
    /// Show or hide the people.
    pub toggle_people: Callback<()>,
}

/// Returns the class that colours a dot and what goes with it.
#[must_use]
pub const fn tone(dot: Dot) -> &'static str {
    match dot {
        Dot::Live => "tone-ok",
        Dot::Trying => "tone-busy",
        Dot::Offline => "tone-offline",
        Dot::Stopped => "tone-stopped",
    }
}

/// Draws the header.
pub fn header(frame: &Frame, props: &Header) -> Html {
    let back = props.back.reform(|_: MouseEvent| ());
    let (name, about) = match (&props.row, &props.place) {
        (Some(row), _) => (row.summary.name.clone(), row.summary.title.clone()),
        (None, Place::Door { room, .. }) => (room.name.clone(), room.title.clone()),
        (None, Place::Looking { name } | Place::Missing { name }) => (name.clone(), String::new()),
        (None, Place::Nowhere | Place::Room(_)) => (String::new(), String::new()),
    };
    html! {
        <header class="room-header">
            <button type="button" class="icon-button back" aria-label={frame.word(Word::Rooms)} onclick={back}>
                { Icon::Back.draw() }
            </button>
            <div class="titles">
                <h1>
                    if !name.is_empty() { <span class="hash" aria-hidden="true">{ "#" }</span><bdi>{ name }</bdi> }
                </h1>
                if !about.is_empty() { <p class="about" dir="auto" title={about.clone()}>{ about }</p> }
            </div>
            { link_state(frame, props) }
            if let Some(roster) = &props.roster {
                <button type="button" class="icon-button counted" data-testid="people-open"
                    aria-expanded={props.people.to_string()} title={frame.word(Word::People)}
                    onclick={props.toggle_people.reform(|_: MouseEvent| ())}>
                    { Icon::People.draw() }
                    <span aria-hidden="true">{ roster.members() }</span>
                    <span class="unseen">{ frame.say(&Text::Members { n: roster.members() }) }</span>
                </button>
            }
            if let Some(row) = &props.row { <RoomMenu row={row.clone()} /> }
        </header>
    }
}

fn link_state(frame: &Frame, props: &Header) -> Html {
    let status = &props.status;
    let action = if props.is_panel { Action::CloseDialog } else { Action::Open(Dialog::Connection) };
    let label = format!("{}: {}", frame.word(Word::Connection), frame.say(&status.said));
    html! {
        <button type="button" class={classes!("link-state", tone(status.dot), status.pill.is_some().then_some("pill"),
            status.bar.is_some().then_some("told"))}
            data-testid="panel-open" aria-label={label.clone()} title={label} aria-expanded={props.is_panel.to_string()}
            onclick={frame.actions.on(action)}>
            <span class="dot" aria-hidden="true"></span>
            if let Some(pill) = &status.pill {
                <span class="words" data-testid="status-pill" aria-hidden="true">{ frame.say(pill) }</span>
            }
        </button>
    }
}

#[derive(Properties, PartialEq)]
struct RoomMenuProps {
    row: RoomRow,
}

#[component]
fn RoomMenu(props: &RoomMenuProps) -> Html {
    let frame = use_frame();
    let menu = use_menu();
    let summary = &props.row.summary;
    let choose = |action: Action| menu.choose(&frame.actions, action);
    html! {
        <div class="anchor" ref={menu.root.clone()} onkeydown={menu.onkeydown()} onfocusout={menu.onfocusout()}>
            <button type="button" class="icon-button" data-testid="room-menu" aria-haspopup="true"
                aria-expanded={menu.is_open().to_string()} aria-label={frame.word(Word::More)}
                title={frame.word(Word::More)} onclick={menu.toggle()}>
                { Icon::More.draw() }
            </button>
            if menu.is_open() {
                <div class="menu drop" role="group" aria-label={frame.word(Word::More)}>
                    { entry("", None, Icon::Check, frame.word(Word::MarkAllRead), choose(Action::MarkRead(summary.room, summary.posts))) }
                    { entry("danger", Some("room-leave"), Icon::SignOut, frame.word(Word::Leave),
                        choose(Action::Open(Dialog::Leave { room: summary.room }))) }
                </div>
            }
        </div>
    }
}
