//! The rooms, and the person at this page.
//!
//! Must not live here: the order of rooms, counting what is unread. Invariant: a room is a link with an address, so it
//! opens in a new tab as any link does.

use std::rc::Rc;

use shared::ids::RoomId;
use shared::model::Person;
use yew::prelude::*;

use super::button::{entry, icon_button};
use super::frame::{avatar, use_frame};
use super::icon::{Icon, mark};
use super::menu::use_menu;
use super::switches::{language_switch, theme_switch};
use crate::model::path_of_room;
use crate::store::{Action, Dialog, Form, RoomRow, RoomsDialog, Theme};
use crate::words::{Text, Word};

/// The greatest number a badge spells out.
const BADGE_MAX: u64 = 99;

/// Properties of [`Sidebar`].
#[derive(Properties, PartialEq)]
pub struct SidebarProps {
    /// Rooms of mine.
    pub rooms: Rc<Vec<RoomRow>>,
    /// The server has said which they are.
    pub is_known: bool,
    /// Me.
    pub me: Option<Person>,
    /// The room shown.
    pub current: Option<RoomId>,
    /// Light or dark.
    pub theme: Theme,
    /// A room was chosen: a phone shows it, even if it was the current one.
    pub opened: Callback<()>,
}

/// The sidebar.
#[component]
pub fn Sidebar(props: &SidebarProps) -> Html {
    let frame = use_frame();
    let rooms = props.rooms.iter().map(|row| {
        let current = props.current == Some(row.summary.room);
        html! { <RoomLink key={row.summary.room.to_string()} row={row.clone()} {current} opened={props.opened.clone()} /> }
    });
    let browse = frame.actions.on(Action::Open(Dialog::Rooms(RoomsDialog::default())));
    let create = frame.actions.on(Action::Open(Dialog::CreateRoom(Form::default())));
    html! {
        <nav class="sidebar" data-region="rooms" aria-label={frame.word(Word::Rooms)}>
            <div class="sidebar-head">{ mark() }<span class="name">{ "Holdfast" }</span></div>
            <div class="rooms">
                <div class="rooms-title">
                    <h2>{ frame.word(Word::Rooms) }</h2>
                    <span>
                        { icon_button("icon-button", "room-browse", Icon::Search, frame.word(Word::BrowseRooms), browse) }
                        { icon_button("icon-button", "room-create-open", Icon::Plus, frame.word(Word::CreateRoom), create) }
                    </span>
                </div>
                <ul>{ for rooms }</ul>
                if props.is_known && props.rooms.is_empty() { <p class="hint rooms-none">{ frame.word(Word::NoRooms) }</p> }
            </div>
            if let Some(me) = &props.me { <Me me={me.clone()} theme={props.theme} /> }
        </nav>
    }
}

#[derive(Properties, PartialEq)]
struct RoomLinkProps {
    row: RoomRow,
    current: bool,
    opened: Callback<()>,
}

#[component]
fn RoomLink(props: &RoomLinkProps) -> Html {
    let frame = use_frame();
    let row = &props.row;
    let onclick = {
        let (actions, opened, room) = (frame.actions.clone(), props.opened.clone(), row.summary.room);
        Callback::from(move |event: MouseEvent| {
            if event.button() == 0 && !(event.ctrl_key() || event.meta_key() || event.shift_key()) {
                event.prevent_default();
                actions.act(Action::OpenRoom(room));
                opened.emit(());
            }
        })
    };
    let is_unread = row.unread > 0;
    let badge = if row.unread > BADGE_MAX { format!("{BADGE_MAX}+") } else { row.unread.to_string() };
    let sign = |icon: Icon, text: &Text| html! { <span title={frame.say(text)}>{ icon.draw_small() }<span class="unseen">{ frame.say(text) }</span></span> };
    html! {
        <li data-testid="room" data-name={row.summary.name.clone()} data-unread={row.unread.to_string()}>
            <a class={classes!("room-link", is_unread.then_some("unread"))} href={path_of_room(&row.summary.name)}
                id={props.current.then_some("rooms")} aria-current={props.current.then_some("page")} {onclick}>
                <span class="hash" aria-hidden="true">{ "#" }</span>
                <bdi class="label">{ &row.summary.name }</bdi>
                if row.refused > 0 {
                    <span class="refused">{ sign(Icon::Warning, &Text::RefusedCount { n: row.refused as u64 }) }</span>
                }
                if row.unsent > 0 {
                    <span class="late">{ sign(Icon::Clock, &Text::QueuedCount { n: row.unsent as u64 }) }</span>
                }
                if row.draft && !props.current { { sign(Icon::Pencil, &Text::Plain(Word::HasDraft)) } }
                if is_unread {
                    <span class="badge" aria-hidden="true">{ badge }</span>
                    <span class="unseen">{ frame.say(&Text::Unread { n: row.unread }) }</span>
                }
            </a>
        </li>
    }
}

#[derive(Properties, PartialEq)]
struct MeProps {
    me: Person,
    theme: Theme,
}

#[component]
fn Me(props: &MeProps) -> Html {
    let frame = use_frame();
    let menu = use_menu();
    let choose = |action: Action| menu.choose(&frame.actions, action);
    html! {
        <div class="me" ref={menu.root.clone()} onkeydown={menu.onkeydown()} onfocusout={menu.onfocusout()}>
            if menu.is_open() {
                <div class="menu me-menu" role="group" aria-label={frame.word(Word::Menu)}>
                    <div class="choice">{ language_switch(&frame) }</div>
                    <div class="choice">{ theme_switch(&frame, props.theme) }</div>
                    <hr />
                    { entry("", Some("rename"), Icon::Pencil, frame.word(Word::Rename),
                        choose(Action::Open(Dialog::Rename(Form::default())))) }
                    { entry("", None, Icon::Help, frame.word(Word::Shortcuts), choose(Action::Open(Dialog::Help))) }
                    { entry("danger", Some("sign-out"), Icon::SignOut, frame.word(Word::SignOut), choose(Action::SignOut)) }
                </div>
            }
            <button type="button" class="me-button" aria-haspopup="true" aria-expanded={menu.is_open().to_string()}
                onclick={menu.toggle()}>
                { avatar(props.me.id, &props.me.name, "small") }
                <bdi class="name" data-testid="me">{ &props.me.name }</bdi>
                { Icon::More.draw() }
            </button>
        </div>
    }
}
