//! What can be done with a post: a bar of buttons beside it, or a sheet after a long press.
//!
//! Must not live here: doing it. Invariant: nothing is deleted by one press.

use std::sync::Arc;

use shared::ids::RoomId;
use shared::timeline::{PostRow, Status};
use web_sys::HtmlDialogElement;
use yew::prelude::*;

use crate::components::button::{Press, entry, icon_button, word_button};
use crate::components::frame::use_frame;
use crate::components::icon::Icon;
use crate::store::Action;
use crate::words::Word;

/// Properties of [`RowActions`].
#[derive(Properties, PartialEq)]
pub struct RowActionsProps {
    /// The post.
    pub post: Arc<PostRow>,
    /// Its room.
    pub room: RoomId,
}

/// One thing that can be done.
struct Choice {
    action: Action,
    icon: Icon,
    text: Word,
    testid: &'static str,
}

/// Lists what can be done with a post as it is now, deleting left out.
fn choices(room: RoomId, post: &PostRow) -> Vec<Choice> {
    let Some(body) = &post.body else { return Vec::new() };
    let mut choices = Vec::new();
    match (&post.status, post.named()) {
        (Status::Sent, Some(named)) if post.mine => {
            choices.push(Choice {
                action: Action::BeginEdit(room, named),
                icon: Icon::Pencil,
                text: Word::Edit,
                testid: "row-edit",
            });
        }
        // Before the first attempt it can be taken back; after it, its outcome is unknown.
        (Status::Queued | Status::Saved, _) => {
            let id = post.client_id;
            choices.push(Choice {
                action: Action::CancelAndEdit(id),
                icon: Icon::Pencil,
                text: Word::Edit,
                testid: "row-edit",
            });
            choices.push(Choice {
                action: Action::Cancel(id),
                icon: Icon::Close,
                text: Word::Cancel,
                testid: "row-cancel",
            });
        }
        (Status::Sent | Status::Sending | Status::Interrupted | Status::Refused(_), _) => {}
    }
    choices.push(Choice {
        action: Action::Copy(body.to_string()),
        icon: Icon::Copy,
        text: Word::Copy,
        testid: "row-copy",
    });
    choices
}

/// What deletes a post, if I may.
fn deletion(room: RoomId, post: &PostRow) -> Option<Action> {
    match (&post.status, post.named()) {
        (Status::Sent, Some(named)) if post.mine && !post.is_deleted() => Some(Action::Delete(room, named)),
        (
            Status::Queued | Status::Saved | Status::Sending | Status::Interrupted | Status::Sent | Status::Refused(_),
            _,
        ) => None,
    }
}

/// Does it at a click, but not at the second of a double click: the first was the question, at the same place.
fn unless_doubled(act: Press) -> Press {
    Callback::from(move |event: MouseEvent| {
        if event.detail() < 2 {
            act.emit(event);
        }
    })
}

/// The bar beside a post.
#[component]
pub fn RowActions(props: &RowActionsProps) -> Html {
    let frame = use_frame();
    let asked = use_state_eq(|| false);
    // A refused post shows its actions in words.
    if matches!(props.post.status, Status::Refused(_)) {
        return Html::default();
    }
    let button = |choice: Choice| {
        let onclick = frame.actions.on(choice.action);
        icon_button("icon-button", choice.testid, choice.icon, frame.word(choice.text), onclick)
    };
    let choices = choices(props.room, &props.post);
    if choices.is_empty() {
        return Html::default();
    }
    let delete = deletion(props.room, &props.post).map(|action| {
        if *asked {
            let text = frame.word(Word::DeleteAsk);
            let sure = unless_doubled(frame.actions.on(action));
            return word_button("icon-button sure", Some("row-delete-confirm"), text, sure);
        }
        let asked = asked.clone();
        let ask = Callback::from(move |_: MouseEvent| asked.set(true));
        icon_button("icon-button danger", "row-delete", Icon::Trash, frame.word(Word::Delete), ask)
    });
    html! {
        <div class="row-actions" role="group" aria-label={frame.word(Word::More)}>
            { for choices.into_iter().map(button) }
            { delete.unwrap_or_default() }
        </div>
    }
}

/// Properties of [`RowSheet`].
#[derive(Properties, PartialEq)]
pub struct RowSheetProps {
    /// The post.
    pub post: Arc<PostRow>,
    /// Its room.
    pub room: RoomId,
    /// Close it.
    pub close: Callback<()>,
}

/// The sheet after a long press.
#[component]
pub fn RowSheet(props: &RowSheetProps) -> Html {
    let frame = use_frame();
    let dialog = use_node_ref();
    let asked = use_state_eq(|| false);
    use_effect_with(dialog.clone(), |dialog| {
        let element = dialog.cast::<HtmlDialogElement>();
        if let Some(element) = &element {
            // Fails only where it is open already.
            let _ = element.show_modal();
        }
        move || {
            if let Some(element) = element {
                element.close();
            }
        }
    });
    let act = |action: Action| {
        let (actions, close) = (frame.actions.clone(), props.close.clone());
        Callback::from(move |_: MouseEvent| {
            close.emit(());
            actions.act(action.clone());
        })
    };
    let choices = choices(props.room, &props.post)
        .into_iter()
        .map(|choice| entry("", Some(choice.testid), choice.icon, frame.word(choice.text), act(choice.action)));
    let delete = deletion(props.room, &props.post).map(|action| {
        let (text, testid) =
            if *asked { (Word::DeleteAsk, "row-delete-confirm") } else { (Word::Delete, "row-delete") };
        let asked_now = asked.clone();
        let onclick =
            if *asked { unless_doubled(act(action)) } else { Callback::from(move |_: MouseEvent| asked_now.set(true)) };
        entry("danger", Some(testid), Icon::Trash, frame.word(text), onclick)
    });
    let close = props.close.reform(|_: MouseEvent| ());
    let oncancel = props.close.reform(|event: Event| event.prevent_default());
    // A browser may close it without asking.
    let onclose = props.close.reform(|_: Event| ());
    // What a finger does in the sheet is nothing to the row it belongs to.
    let stop = Callback::from(|event: TouchEvent| event.stop_propagation());
    html! {
        <dialog ref={dialog} class="sheet-ground" {oncancel} {onclose} onclick={close.clone()} ontouchstart={stop}
            aria-label={frame.word(Word::More)}>
            <div class="sheet">
                <p class="quote" dir="auto">{ props.post.body.as_deref().unwrap_or_default() }</p>
                { for choices }
                { delete.unwrap_or_default() }
                { entry("", None, Icon::Close, frame.word(Word::Close), close) }
            </div>
        </dialog>
    }
}
