//! Dialogs: forms, questions, help.
//!
//! Must not live here: what follows from an answer. Invariant: while a dialog is open the focus stays in it, and when it
//! closes the focus is where it was; both are the browser's own modal `<dialog>`.

use std::rc::Rc;

use shared::limits;
use shared::model::RoomSummary;
use web_sys::{HtmlDialogElement, HtmlElement, HtmlInputElement};
use yew::prelude::*;

use super::button::{close_button, word_button};
use super::frame::{Frame, document, focus, is_composing, use_frame};
use super::icon::Icon;
use crate::model::path_of_room;
use crate::platform::letters::lower;
use crate::store::{Action, Dialog, Form, RoomRow, RoomsDialog, State};
use crate::words::{Text, Word, error_words};

/// Draws the open dialog, if one is.
pub fn open_dialog(frame: &Frame, state: &State) -> Html {
    match &state.dialog {
        // The connection panel stands beside the room, not over it.
        Dialog::None | Dialog::Connection => Html::default(),
        Dialog::Rooms(rooms) => {
            html! { <Modal title={frame.word(Word::BrowseRooms)}><RoomList dialog={rooms.clone()} /></Modal> }
        }
        Dialog::CreateRoom(form) => {
            html! { <Modal title={frame.word(Word::CreateRoom)}><CreateRoom form={form.clone()} /></Modal> }
        }
        Dialog::Rename(form) => {
            let name = state.me.as_ref().map(|me| me.name.clone()).unwrap_or_default();
            html! { <Modal title={frame.word(Word::Rename)}><Rename form={form.clone()} {name} /></Modal> }
        }
        Dialog::SignOut { unsent } => {
            let (question, go) = match *unsent {
                0 => (None, Word::SignOut),
                n => (Some(frame.say(&Text::SignOutUnsent { n: n as u64 })), Word::SignOutAndDiscard),
            };
            html! {
                <Modal title={frame.word(Word::SignOut)}>
                    { question.map(|question| html! { <p>{ question }</p> }).unwrap_or_default() }
                    <p class="muted">{ frame.word(Word::SignOutMeans) }</p>
                    { answers(frame, Word::Cancel, go, Action::SignOutForGood, "sign-out-confirm") }
                </Modal>
            }
        }
        Dialog::Leave { room } => {
            let row = state.rooms.iter().find(|row| row.summary.room == *room);
            let name = row.map(|row| format!("#{}", row.summary.name)).unwrap_or_default();
            html! {
                <Modal title={frame.say(&Text::LeaveRoom { room: name })}>
                    <p class="muted">{ frame.word(Word::LeaveMeans) }</p>
                    { answers(frame, Word::Cancel, Word::Leave, Action::Leave(*room), "leave-confirm") }
                </Modal>
            }
        }
        Dialog::Help => html! { <Modal title={frame.word(Word::Shortcuts)}>{ help(frame) }</Modal> },
        Dialog::Switcher => {
            html! { <Modal title={frame.word(Word::SwitchRoom)}><Switcher rooms={Rc::clone(&state.rooms)} /></Modal> }
        }
    }
}

#[derive(Properties, PartialEq)]
struct ModalProps {
    title: AttrValue,
    children: Html,
}

#[component]
fn Modal(props: &ModalProps) -> Html {
    let frame = use_frame();
    let dialog = use_node_ref();
    use_effect_with(dialog.clone(), |dialog| {
        let before = document().and_then(|document| document.active_element());
        let element = dialog.cast::<HtmlDialogElement>();
        if let Some(element) = &element {
            // Fails only where it is open already.
            let _ = element.show_modal();
            let first = element.query_selector("[data-first], input").ok().flatten();
            if let Some(first) = first.and_then(|first| wasm_bindgen::JsCast::dyn_into::<HtmlElement>(first).ok()) {
                focus(&first);
            }
        }
        move || {
            if let Some(element) = element {
                element.close();
            }
            if let Some(before) = before.and_then(|before| wasm_bindgen::JsCast::dyn_into::<HtmlElement>(before).ok()) {
                focus(&before);
            }
        }
    });
    let oncancel = {
        let actions = frame.actions.clone();
        Callback::from(move |event: Event| {
            event.prevent_default();
            actions.act(Action::CloseDialog);
        })
    };
    // A browser may close it without asking, at a second Escape.
    let onclose = frame.actions.on(Action::CloseDialog);
    // The backdrop is the dialog element itself; everything inside is in a child.
    let onclick = {
        let (actions, dialog) = (frame.actions.clone(), dialog.clone());
        Callback::from(move |event: MouseEvent| {
            if event.target_dyn_into::<HtmlDialogElement>().is_some_and(|target| dialog.cast() == Some(target)) {
                actions.act(Action::CloseDialog);
            }
        })
    };
    html! {
        <dialog ref={dialog} class="dialog" aria-labelledby="dialog-title" {oncancel} {onclose} {onclick} data-testid="dialog">
            <div class="dialog-frame">
                <div class="dialog-head">
                    <h2 id="dialog-title">{ &props.title }</h2>
                    { close_button(&frame, frame.actions.on(Action::CloseDialog)) }
                </div>
                <div class="dialog-body">{ props.children.clone() }</div>
            </div>
        </dialog>
    }
}

/// The two buttons of a question; the safe one has the focus.
fn answers(frame: &Frame, stay: Word, go: Word, action: Action, testid: &'static str) -> Html {
    html! {
        <div class="dialog-actions">
            { word_button("button danger", Some(testid), frame.word(go), frame.actions.on(action)) }
            <button type="button" class="button primary" data-first="" onclick={frame.actions.on(Action::CloseDialog)}>
                { frame.word(stay) }
            </button>
        </div>
    }
}

/// The refusal of a form, with the value the server suggests instead.
fn problem(frame: &Frame, form: &Form, take: impl Fn(String) + 'static) -> Html {
    let Some(error) = &form.error else { return html! { <div role="alert"></div> } };
    let suggestion = error.suggestion.clone().map(|suggestion| {
        let text = frame.say(&Text::NameSuggestion { name: suggestion.clone() });
        let onclick = Callback::from(move |_: MouseEvent| take(suggestion.clone()));
        word_button("link", Some("form-suggestion"), text, onclick)
    });
    html! {
        <div role="alert">
            <p class="problem"><span data-testid="form-error">{ error_words(frame.language, error) }</span>{ suggestion.unwrap_or_default() }</p>
        </div>
    }
}

/// A callback that keeps what is typed.
fn keep(value: &UseStateHandle<String>) -> Callback<InputEvent> {
    let value = value.clone();
    Callback::from(move |event: InputEvent| value.set(event.target_unchecked_into::<HtmlInputElement>().value()))
}

#[derive(Properties, PartialEq)]
struct RenameProps {
    form: Form,
    name: String,
}

#[component]
fn Rename(props: &RenameProps) -> Html {
    let frame = use_frame();
    let name = use_state(|| props.name.clone());
    let submit = {
        let (actions, busy) = (frame.actions.clone(), props.form.busy);
        move |name: String| {
            if !busy && !name.trim().is_empty() {
                actions.act(Action::Rename(name.trim().to_owned()));
            }
        }
    };
    let take = {
        let (submit, name) = (submit.clone(), name.clone());
        move |suggestion: String| {
            name.set(suggestion.clone());
            submit(suggestion);
        }
    };
    let onsubmit = {
        let name = name.clone();
        Callback::from(move |event: SubmitEvent| {
            event.prevent_default();
            submit((*name).clone());
        })
    };
    html! {
        <form class="stack-wide" {onsubmit} novalidate=true>
            <div class="field">
                <label for="rename-name">{ frame.word(Word::NewName) }</label>
                <input id="rename-name" class="input" data-testid="rename-name" autocomplete="off" spellcheck="false" dir="auto"
                    value={(*name).clone()} oninput={keep(&name)} aria-invalid={props.form.error.is_some().to_string()} />
            </div>
            { problem(&frame, &props.form, take) }
            <div class="dialog-actions">
                <button type="submit" class="button primary" data-testid="rename-submit" aria-disabled={props.form.busy.to_string()}>
                    { frame.word(Word::Save) }
                </button>
            </div>
        </form>
    }
}

#[derive(Properties, PartialEq)]
struct CreateRoomProps {
    form: Form,
}

#[component]
fn CreateRoom(props: &CreateRoomProps) -> Html {
    let frame = use_frame();
    let name = use_state(String::new);
    let title = use_state(String::new);
    let submit = {
        let (actions, title, busy) = (frame.actions.clone(), title.clone(), props.form.busy);
        move |name: String| {
            let name = name.trim().trim_start_matches('#').to_owned();
            if !busy && !name.is_empty() {
                actions.act(Action::CreateRoom { name, title: title.trim().to_owned() });
            }
        }
    };
    let take = {
        let (submit, name) = (submit.clone(), name.clone());
        move |suggestion: String| {
            name.set(suggestion.clone());
            submit(suggestion);
        }
    };
    let onsubmit = {
        let name = name.clone();
        Callback::from(move |event: SubmitEvent| {
            event.prevent_default();
            submit((*name).clone());
        })
    };
    html! {
        <form class="stack-wide" {onsubmit} novalidate=true>
            <div class="field">
                <label for="room-name">{ frame.word(Word::RoomName) }</label>
                <input id="room-name" class="input" data-testid="room-create-name" autocomplete="off" autocapitalize="none"
                    spellcheck="false" dir="auto" value={(*name).clone()} oninput={keep(&name)}
                    aria-invalid={props.form.error.is_some().to_string()} />
            </div>
            <div class="field">
                <label for="room-title">{ frame.word(Word::RoomTitle) }</label>
                <input id="room-title" class="input" data-testid="room-create-title" autocomplete="off" dir="auto"
                    maxlength={(limits::TITLE_GRAPHEMES * 2).to_string()} value={(*title).clone()} oninput={keep(&title)} />
            </div>
            { problem(&frame, &props.form, take) }
            <div class="dialog-actions">
                <button type="submit" class="button primary" data-testid="room-create-submit"
                    aria-disabled={props.form.busy.to_string()}>{ frame.word(Word::Create) }</button>
            </div>
        </form>
    }
}

#[derive(Properties, PartialEq)]
struct RoomListProps {
    dialog: RoomsDialog,
}

#[component]
fn RoomList(props: &RoomListProps) -> Html {
    let frame = use_frame();
    let dialog = &props.dialog;
    let wanted = use_state(String::new);
    let found: Vec<&RoomSummary> = dialog.rooms.iter().filter(|room| is_wanted(room, &wanted)).collect();
    let entry = |room: &RoomSummary| {
        let action = if room.joined { Action::OpenRoom(room.room) } else { Action::GoTo(path_of_room(&room.name)) };
        let actions = frame.actions.clone();
        let open = Callback::from(move |_: MouseEvent| {
            actions.act(Action::CloseDialog);
            actions.act(action.clone());
        });
        html! {
            <li key={room.room.to_string()}>
                <button type="button" class="room-entry" data-testid="room-entry" data-name={room.name.clone()}
                    onclick={open}>
                    <span class="what">
                        <bdi class="label">{ format!("#{}", room.name) }</bdi>
                        if !room.title.is_empty() { <span class="hint" dir="auto">{ &room.title }</span> }
                    </span>
                    <span class="meta">{ frame.say(&Text::Members { n: room.members }) }</span>
                    if room.joined { <span class="meta">{ Icon::Check.draw_small() }<span class="unseen">{ frame.word(Word::YouAreIn) }</span></span> }
                </button>
            </li>
        }
    };
    html! {
        <>
            <input class="input" type="search" data-testid="room-filter" autocomplete="off" autocapitalize="none"
                spellcheck="false" dir="auto" aria-label={frame.word(Word::FilterRooms)}
                placeholder={frame.word(Word::FilterRooms)} value={(*wanted).clone()} oninput={keep(&wanted)} />
            <ul class="room-entries">{ for found.iter().copied().map(entry) }</ul>
            if dialog.busy { <p class="hint" role="status">{ frame.word(Word::Loading) }</p> }
            if !dialog.busy && dialog.rooms.is_empty() && dialog.error.is_none() {
                <p class="hint">{ frame.word(Word::NoRooms) }</p>
            }
            if found.is_empty() && !dialog.rooms.is_empty() {
                <p class="hint" role="status">{ frame.word(Word::NoRoomMatches) }</p>
            }
            if let Some(error) = &dialog.error { <p class="problem" role="alert">{ error_words(frame.language, error) }</p> }
            if !dialog.busy && (dialog.more || dialog.error.is_some()) {
                { word_button("button", None, frame.word(if dialog.error.is_some() { Word::Retry } else { Word::More }),
                    frame.actions.on(Action::ListRooms)) }
            }
        </>
    }
}

/// Tells whether a room has what is looked for in its name or topic.
fn is_wanted(room: &RoomSummary, wanted: &str) -> bool {
    let wanted = lower(wanted.trim().trim_start_matches('#'));
    room.name.contains(&wanted) || lower(&room.title).contains(&wanted)
}

#[derive(Properties, PartialEq)]
struct SwitcherProps {
    rooms: Rc<Vec<RoomRow>>,
}

/// The most rooms the switcher offers at once.
const OFFERED: usize = 8;

#[component]
fn Switcher(props: &SwitcherProps) -> Html {
    let frame = use_frame();
    let wanted = use_state(String::new);
    let chosen = use_state_eq(|| 0_usize);
    let needle = lower(wanted.trim().trim_start_matches('#'));
    let found: Vec<&RoomRow> =
        props.rooms.iter().filter(|row| row.summary.name.contains(&needle)).take(OFFERED).collect();
    let at = (*chosen).min(found.len().saturating_sub(1));
    let onkeydown = {
        let (actions, chosen, count) = (frame.actions.clone(), chosen.clone(), found.len());
        let room = found.get(at).map(|row| row.summary.room);
        Callback::from(move |event: KeyboardEvent| {
            match event.key().as_str() {
                _ if is_composing(&event) => return,
                "ArrowDown" => chosen.set((at + 1) % count.max(1)),
                "ArrowUp" => chosen.set((at + count.max(1) - 1) % count.max(1)),
                "Enter" => {
                    if let Some(room) = room {
                        actions.act(Action::CloseDialog);
                        actions.act(Action::OpenRoom(room));
                    }
                }
                _ => return,
            }
            event.prevent_default();
        })
    };
    let options = found.iter().enumerate().map(|(index, row)| {
        let (actions, room) = (frame.actions.clone(), row.summary.room);
        let onclick = Callback::from(move |_: MouseEvent| {
            actions.act(Action::CloseDialog);
            actions.act(Action::OpenRoom(room));
        });
        html! {
            <li key={row.summary.room.to_string()} id={format!("switch-{index}")} role="option"
                aria-selected={(index == at).to_string()} class="option" {onclick}>
                <bdi class="label">{ format!("#{}", row.summary.name) }</bdi>
                if row.unread > 0 { <span class="badge">{ row.unread }</span> }
            </li>
        }
    });
    html! {
        <div {onkeydown}>
            <input class="input" role="combobox" aria-expanded="true" aria-controls="switch-list" autocomplete="off" dir="auto"
                aria-activedescendant={format!("switch-{at}")} aria-label={frame.word(Word::SwitchRoom)}
                value={(*wanted).clone()} oninput={keep(&wanted)} />
            <ul id="switch-list" role="listbox" class="room-entries" aria-label={frame.word(Word::Rooms)}>{ for options }</ul>
        </div>
    }
}

fn help(frame: &Frame) -> Html {
    let line = |(keys, text): (&[&str], Word)| {
        html! {
            <>
                <dt>{ frame.word(text) }</dt>
                <dd>{ for keys.iter().map(|key| html! { <><kbd>{ *key }</kbd>{ " " }</> }) }</dd>
            </>
        }
    };
    let lines: [(&[&str], Word); 11] = [
        (&["Enter"], Word::KeySend),
        (&["Shift", "Enter"], Word::KeyNewLine),
        (&["↑"], Word::KeyEditLast),
        (&["Ctrl", "K"], Word::SwitchRoom),
        (&["Alt", "↑ ↓"], Word::KeyRooms),
        (&["Alt", "Shift", "↑ ↓"], Word::KeyUnread),
        (&["F6"], Word::KeyRegions),
        (&["↑ ↓"], Word::KeyMessages),
        (&["End"], Word::KeyNewest),
        (&["Esc"], Word::KeyMarkRead),
        (&["Ctrl", "/"], Word::KeyHelp),
    ];
    html! { <dl class="keys">{ for lines.into_iter().map(line) }</dl> }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mock;

    #[test]
    fn a_room_is_found_by_a_part_of_its_name_or_topic_whatever_the_case() {
        let state = mock();
        let room = RoomSummary { title: "What broke".into(), ..state.rooms[1].summary.clone() };
        for wanted in ["", " #BUI", "build", "BROKE"] {
            assert!(is_wanted(&room, wanted), "{wanted:?}");
        }
        assert!(!is_wanted(&room, "general"));
        assert!(is_wanted(&state.rooms[2].summary, "讨论"));
    }
}
