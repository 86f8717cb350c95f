//! One post.
//!
//! Must not live here: where it is on the screen. Invariant: a row is a function of its post and four facts about its
//! neighbourhood; a post that did not change is not drawn again.

use std::sync::Arc;

use gloo_timers::callback::Timeout;
use shared::ids::{RoomId, UserId};
use shared::model::PostRef;
use shared::session::SendOp;
use shared::timeline::{PendingChange, PostRow, Status};
use yew::prelude::*;

use super::actions::{RowActions, RowSheet};
use crate::components::button::word_button;
use crate::components::frame::{Frame, avatar, hue, use_frame};
use crate::components::icon::Icon;
use crate::components::text::{draw_text, is_emoji_only};
use crate::store::Action;
use crate::words::{Text, Word, error_words};

/// How long a finger rests on a row before its actions come, in milliseconds.
const LONG_PRESS_MS: u32 = 500;

/// Properties of [`PostView`].
#[derive(Properties)]
pub struct PostProps {
    /// The post.
    pub post: Arc<PostRow>,
    /// Its room.
    pub room: RoomId,
    /// It begins a group: its author and time are shown.
    pub first: bool,
    /// It is the one stop of the list for Tab.
    pub stop: bool,
    /// It is being edited in the composer.
    pub editing: bool,
    /// The connection is not live: what is unsent says in words that it waits.
    pub waits: bool,
    /// Me.
    pub me: Option<UserId>,
}

impl PartialEq for PostProps {
    fn eq(&self, other: &Self) -> bool {
        (Arc::ptr_eq(&self.post, &other.post) || self.post == other.post)
            && (self.room, self.first, self.stop, self.editing, self.waits, self.me)
                == (other.room, other.first, other.stop, other.editing, other.waits, other.me)
    }
}

/// Returns a status as tests and style sheets name it.
const fn status_name(status: &Status) -> &'static str {
    match status {
        Status::Queued | Status::Saved | Status::Interrupted => "queued",
        Status::Sending => "sending",
        Status::Sent => "sent",
        Status::Refused(_) => "refused",
    }
}

/// A post.
#[component]
pub fn PostView(props: &PostProps) -> Html {
    let frame = use_frame();
    let post = &*props.post;
    // Apart, since the focus leaves a row whose button was pressed while the mouse still rests on it.
    let is_pointed = use_state_eq(|| false);
    let is_focused = use_state_eq(|| false);
    let sheet = use_state_eq(|| false);
    let press = use_mut_ref(|| None::<Timeout>);
    let pointed = |value: bool| {
        let is_pointed = is_pointed.clone();
        Callback::from(move |_: MouseEvent| is_pointed.set(value))
    };
    let focused = |value: bool| {
        let is_focused = is_focused.clone();
        Callback::from(move |_: FocusEvent| is_focused.set(value))
    };
    let ontouchstart = {
        let (press, sheet) = (press.clone(), sheet.clone());
        Callback::from(move |_: TouchEvent| {
            let sheet = sheet.clone();
            *press.borrow_mut() = Some(Timeout::new(LONG_PRESS_MS, move || sheet.set(true)));
        })
    };
    let end_press = Callback::from(move |_: TouchEvent| drop(press.borrow_mut().take()));
    let close_sheet = {
        let sheet = sheet.clone();
        Callback::from(move |()| sheet.set(false))
    };
    let is_saved = post.is_saved || post.status == Status::Sent;
    let class = classes!(
        "row",
        props.first.then_some("first"),
        post.is_deleted().then_some("gone"),
        props.editing.then_some("editing-this"),
        match &post.status {
            Status::Queued | Status::Saved | Status::Interrupted => Some("unsent"),
            Status::Refused(_) => Some("refused"),
            Status::Sending | Status::Sent => None,
        }
    );
    let hour = frame.local.hour(post.ts);
    let full = frame.local.moment(frame.language, post.ts);
    html! {
        <div {class} data-testid="row" role="article" tabindex={if props.stop { "0" } else { "-1" }}
            data-key={post.client_id.to_string()} data-seq={post.seq.map(|seq| seq.to_string())}
            data-status={status_name(&post.status)} data-saved={is_saved.then_some("true")}
            onmouseenter={pointed(true)} onmouseleave={pointed(false)} onfocusin={focused(true)} onfocusout={focused(false)}
            {ontouchstart} ontouchmove={end_press.clone()} ontouchcancel={end_press.clone()} ontouchend={end_press}>
            <div class="edge">
                if props.first { { avatar(post.by, &post.name, "") } } else {
                    <time class="meta" title={full.clone()} aria-hidden="true">{ &hour }</time>
                }
            </div>
            <div class="content">
                if props.first {
                    <div class="by">
                        <bdi class={classes!("author", hue(post.by))} data-testid="row-author">{ &*post.name }</bdi>
                        <time class="meta" title={full}>{ hour }</time>
                    </div>
                } else {
                    <span class="unseen"><bdi data-testid="row-author">{ &*post.name }</bdi>{ " " }{ hour }</span>
                }
                { body(&frame, post, props.waits) }
                { reactions(&frame, props) }
                { for post.pending.iter().filter_map(|change| pending(&frame, change)) }
                { delivery(&frame, post, props.waits) }
            </div>
            if *is_pointed || *is_focused || props.stop { <RowActions post={Arc::clone(&props.post)} room={props.room} /> }
            if *sheet { <RowSheet post={Arc::clone(&props.post)} room={props.room} close={close_sheet} /> }
        </div>
    }
}

fn body(frame: &Frame, post: &PostRow, waits: bool) -> Html {
    let Some(text) = &post.body else {
        return html! { <div class="body" data-testid="row-body">{ frame.word(Word::PostDeleted) }</div> };
    };
    html! {
        <div class={classes!("body", is_emoji_only(text).then_some("huge"))}>
            <span data-testid="row-body" dir="auto">{ draw_text(text) }</span>
            if let Some(edited) = post.edited {
                <span class="edited" title={frame.local.moment(frame.language, edited)}>{ format!("({})", frame.word(Word::PostEdited)) }</span>
            }
            if post.mine { { sign(frame, post, waits) } }
        </div>
    }
}

/// Says behind the text how far a post of mine has come. It takes no place: an acknowledgement changes no height.
fn sign(frame: &Frame, post: &PostRow, waits: bool) -> Html {
    let (class, icon, text) = match &post.status {
        Status::Queued | Status::Saved | Status::Interrupted if !waits => ("late", Icon::Clock, waiting_word(post)),
        Status::Sending => ("late", Icon::Clock, Word::PostSending),
        Status::Sent => ("done", Icon::Check, Word::PostSent),
        Status::Queued | Status::Saved | Status::Interrupted | Status::Refused(_) => return Html::default(),
    };
    let words = frame.word(text);
    html! {
        <span class={classes!("sign", class)} title={words.clone()} data-testid="row-status">
            { icon.draw_small() }<span class="words">{ words }</span>
        </span>
    }
}

/// Says what a post waits for. It is called saved only where it is.
fn waiting_word(post: &PostRow) -> Word {
    if post.is_saved { Word::PostQueued } else { Word::PostWaiting }
}

fn reactions(frame: &Frame, props: &PostProps) -> Html {
    let post = &*props.post;
    let (Some(named), false) = (post.named(), post.reactions.is_empty()) else { return Html::default() };
    let one = |reaction: &shared::model::Reaction| {
        let is_mine = props.me.is_some_and(|me| reaction.by.contains(&me));
        let toggle = Action::React(props.room, named, reaction.emoji.clone(), !is_mine);
        html! {
            <button type="button" class="reaction" aria-pressed={is_mine.to_string()} onclick={frame.actions.on(toggle)}>
                <span>{ &reaction.emoji }</span><span>{ reaction.by.len() }</span>
            </button>
        }
    };
    html! { <div class="reactions">{ for post.reactions.iter().map(one) }</div> }
}

/// Says under the text what a post of mine waits for, or why it was refused.
fn delivery(frame: &Frame, post: &PostRow, waits: bool) -> Html {
    if !post.mine {
        return Html::default();
    }
    let line = |text: Word| {
        html! {
            <div class="after late" data-testid="row-status">{ Icon::Clock.draw_small() }<span>{ frame.word(text) }</span></div>
        }
    };
    match &post.status {
        Status::Queued | Status::Saved | Status::Interrupted if waits => line(waiting_word(post)),
        Status::Queued | Status::Saved | Status::Interrupted | Status::Sending | Status::Sent => Html::default(),
        Status::Refused(error) => {
            let reason = error_words(frame.language, error);
            let (id, body) = (post.client_id, post.body.as_deref().unwrap_or_default().to_owned());
            let button = |action: Action, text: Word, testid: &'static str| {
                word_button("link", Some(testid), frame.word(text), frame.actions.on(action))
            };
            html! {
                <div class="after" role="alert">
                    <span class="why" data-testid="row-status">{ Icon::Warning.draw_small() }{ frame.say(&Text::PostRefused { reason }) }</span>
                    { button(Action::Retry(id), Word::Retry, "row-retry") }
                    { button(Action::DiscardAndEdit(id), Word::Edit, "row-edit") }
                    { button(Action::Copy(body), Word::Copy, "row-copy") }
                    { button(Action::Discard(id), Word::Delete, "row-discard") }
                </div>
            }
        }
    }
}

/// Says how far a change of mine to a post has come. A reaction shows itself.
fn pending(frame: &Frame, change: &PendingChange) -> Option<Html> {
    let what = match &change.op {
        SendOp::Edit { .. } => Word::EditPending,
        SendOp::Delete { .. } => Word::DeletePending,
        SendOp::React { .. } | SendOp::Post { .. } => Word::PostSending,
    };
    let id = change.client_id;
    Some(match &change.status {
        Status::Sent => return None,
        Status::Queued | Status::Saved | Status::Sending | Status::Interrupted => html! {
            <div key={id.to_string()} class="after late">{ Icon::Clock.draw_small() }<span>{ frame.word(what) }</span></div>
        },
        Status::Refused(error) => {
            let reason = error_words(frame.language, error);
            html! {
                <div key={id.to_string()} class="after bad" role="alert">
                    <span class="why">{ Icon::Warning.draw_small() }{ frame.say(&Text::ChangeRefused { reason }) }</span>
                    { word_button("link", None, frame.word(Word::Retry), frame.actions.on(Action::Retry(id))) }
                    if let SendOp::Edit { .. } = &change.op {
                        { word_button("link", Some("change-edit"), frame.word(Word::Edit), frame.actions.on(Action::DiscardAndEdit(id))) }
                    }
                    { word_button("link", None, frame.word(Word::Dismiss), frame.actions.on(Action::Discard(id))) }
                </div>
            }
        }
    })
}

/// Names the newest post of mine that can be edited.
#[must_use]
pub fn last_own(timeline: &shared::timeline::Timeline) -> Option<PostRef> {
    /// How far back to look: further up one would not find it again either.
    const LOOK_BACK: usize = 200;
    (0..timeline.len())
        .rev()
        .take(LOOK_BACK)
        .filter_map(|index| timeline.row(index))
        .find_map(|row| row.as_post().filter(|post| post.mine && !post.is_deleted()).and_then(|post| post.named()))
}
