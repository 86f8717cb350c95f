//! The root: which page, the announcements of the connection's state, the keys that work everywhere.
//!
//! Must not live here: what a page looks like. Invariant: the element that announces the state is in the document from
//! the first paint to the last, since one that comes with its text is not announced.

use std::rc::Rc;

use gloo_events::{EventListener, EventListenerOptions};
use wasm_bindgen::JsCast;
use web_sys::KeyboardEvent;
use yew::prelude::*;

use super::frame::{Frame, document, focus_id, is_composing};
use super::icon::mark;
use super::notices::notices;
use super::shell::Shell;
use super::sign_in::SignInPage;
use crate::status::Status;
use crate::store::{Action, Actions, Dialog, Phase, RoomRow, State};
use crate::words::{Text, Word};

/// Properties of [`App`].
#[derive(Properties, PartialEq)]
pub struct AppProps {
    /// What to show.
    pub state: Rc<State>,
    /// What people can do.
    pub actions: Actions,
}

/// The whole page.
#[component]
pub fn App(props: &AppProps) -> Html {
    let state = &props.state;
    let frame = Frame::new(state.language, props.actions.clone(), state.wall, state.utc_offset_min);
    use_keys(&props.state, &props.actions);
    let page = match &state.phase {
        Phase::Loading => html! { <div class="boot">{ mark() }</div> },
        Phase::SignIn(form) => html! {
            <>
                <SignInPage form={form.clone()} />
                { notices(&frame, &state.notices) }
            </>
        },
        Phase::Chat => html! { <Shell state={Rc::clone(state)} /> },
    };
    let announced = announced(&state.status).map(|text| frame.say(text));
    html! {
        <ContextProvider<Frame> context={frame}>
            { page }
            <Announcement state={state.status.name} words={announced.map(AttrValue::from)} />
        </ContextProvider<Frame>>
    }
}

/// Returns what is announced: what the bar says, or the pill, without a number that changes with every frame.
fn announced(status: &Status) -> Option<&Text> {
    match status.bar.as_ref().map(|bar| &bar.text).or(status.pill.as_ref()) {
        Some(Text::CatchingUp { .. }) => Some(&Text::Plain(Word::CatchingUpUnknown)),
        text => text,
    }
}

#[derive(Properties, PartialEq)]
struct AnnouncementProps {
    /// The state's name.
    state: &'static str,
    words: Option<AttrValue>,
}

/// Announces the state. A component beside the shell, which draws the bar: Yew draws one level of components after the
/// other and may give the browser a turn in between, and what is announced must not be ahead of what is shown.
#[component]
fn Announcement(props: &AnnouncementProps) -> Html {
    html! { <p class="unseen" role="status" data-testid="status" data-state={props.state}>{ props.words.clone() }</p> }
}

/// Listens to the keys that work everywhere.
#[hook]
fn use_keys(state: &Rc<State>, actions: &Actions) {
    let latest = use_mut_ref(|| Rc::clone(state));
    *latest.borrow_mut() = Rc::clone(state);
    use_effect_with(actions.clone(), move |actions| {
        let actions = actions.clone();
        let listener = document().map(|document| {
            EventListener::new_with_options(
                &document,
                "keydown",
                EventListenerOptions::enable_prevent_default(),
                move |event| {
                    if let Some(event) = event.dyn_ref::<KeyboardEvent>()
                        && handle_key(&latest.borrow(), &actions, event)
                    {
                        event.prevent_default();
                    }
                },
            )
        });
        move || drop(listener)
    });
}

/// Does what a key stands for. Tells whether it stood for anything.
fn handle_key(state: &State, actions: &Actions, event: &KeyboardEvent) -> bool {
    if state.phase != Phase::Chat || event.default_prevented() || is_composing(event) {
        return false;
    }
    let command = event.ctrl_key() || event.meta_key();
    match event.key().as_str() {
        "F6" => cycle_regions(event.shift_key()),
        "/" if command => actions.act(Action::Open(Dialog::Help)),
        "k" | "K" if command && !event.shift_key() => actions.act(Action::Open(Dialog::Switcher)),
        // A key that is held down would run through more rooms than a server answers for.
        "ArrowUp" | "ArrowDown" if event.alt_key() && !command && event.repeat() => {}
        key @ ("ArrowUp" | "ArrowDown") if event.alt_key() && !command => {
            let Some(room) = neighbour(state, key == "ArrowDown", event.shift_key()) else { return false };
            actions.act(Action::OpenRoom(room.summary.room));
        }
        "Escape" => match &state.dialog {
            // A dialog has its own Escape, and so has the sheet of a post.
            Dialog::Connection => actions.act(Action::CloseDialog),
            Dialog::None if is_sheet_open() => return false,
            Dialog::None => return mark_read(state, actions),
            Dialog::Rooms(_)
            | Dialog::CreateRoom(_)
            | Dialog::Rename(_)
            | Dialog::SignOut { .. }
            | Dialog::Leave { .. }
            | Dialog::Help
            | Dialog::Switcher => return false,
        },
        _ => return false,
    }
    true
}

fn is_sheet_open() -> bool {
    document().is_some_and(|document| document.query_selector("dialog[open]").is_ok_and(|sheet| sheet.is_some()))
}

fn mark_read(state: &State, actions: &Actions) -> bool {
    let Some(room) = state.current().and_then(|room| state.room(room)) else { return false };
    actions.act(Action::MarkRead(room.summary.room, room.summary.posts));
    true
}

/// Returns the room before or after the one shown, round the list; with `unread`, only rooms with something new.
fn neighbour(state: &State, forwards: bool, unread: bool) -> Option<&RoomRow> {
    let count = state.rooms.len();
    let here = state.rooms.iter().position(|row| Some(row.summary.room) == state.current());
    let from = here.unwrap_or(if forwards { count.checked_sub(1)? } else { 0 });
    (1..=count)
        .map(|step| if forwards { (from + step) % count } else { (from + count - step) % count })
        .map(|index| &state.rooms[index])
        .find(|row| !unread || row.unread > 0)
}

/// The regions of the page in the order of F6. Each is the id of what takes the focus there.
const REGIONS: [&str; 4] = ["rooms", "timeline", "composer", "panel"];

fn cycle_regions(backwards: bool) {
    let active = document().and_then(|document| document.active_element());
    let is_in = |region: &str| {
        active.as_ref().is_some_and(|active| {
            active.closest(&format!("#{region}, [data-region={region}]")).ok().flatten().is_some()
        })
    };
    let count = REGIONS.len();
    let here = REGIONS.iter().position(|region| is_in(region)).unwrap_or(if backwards { 0 } else { count - 1 });
    let _ = (1..=count)
        .map(|step| if backwards { (here + count - step) % count } else { (here + step) % count })
        .any(|index| focus_id(REGIONS[index]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mock;

    #[test]
    fn what_is_announced_does_not_change_with_every_post_that_comes() {
        use crate::status::{Bar, BarKind, Dot};
        let text = Text::CatchingUp { n: 120 };
        let bar = |text| Bar { kind: BarKind::CatchingUp, text, countdown: None, action: None };
        let (said, pill) = (text.clone(), Some(text.clone()));
        let status = Status { name: "catching_up", dot: Dot::Trying, said, pill, bar: None };
        let calm = Some(&Text::Plain(Word::CatchingUpUnknown));
        assert_eq!(announced(&status), calm);
        assert_eq!(announced(&Status { bar: Some(bar(text)), ..status.clone() }), calm);
        let slow = Text::Plain(Word::ServerSlow);
        assert_eq!(announced(&Status { bar: Some(bar(slow.clone())), ..status }), Some(&slow));
    }

    #[test]
    fn the_neighbour_goes_round_and_skips_what_is_read_when_asked() {
        let state = mock();
        let name = |forwards, unread| neighbour(&state, forwards, unread).map(|row| row.summary.name.clone()).unwrap();
        assert_eq!(name(true, false), state.rooms[1].summary.name);
        assert_eq!(name(false, false), state.rooms[2].summary.name);
        let unread: Vec<_> = state.rooms.iter().filter(|row| row.unread > 0).map(|row| &row.summary.name).collect();
        assert_eq!(&name(true, true), unread[0]);
        assert_eq!(&name(false, true), *unread.last().unwrap());
        let alone = State { rooms: Rc::default(), ..mock() };
        assert!(neighbour(&alone, true, false).is_none());
        assert!(neighbour(&alone, false, false).is_none());
    }
}
