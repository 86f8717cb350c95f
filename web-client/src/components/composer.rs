//! Where a post is written.
//!
//! Must not live here: sending, keeping drafts. Invariant: it is never disabled, whatever the connection does; text leaves
//! it only by being handed over, or when the state says so with a new version of the draft; and Enter that ends a composition sends nothing.

use gloo_events::EventListener;
use shared::ids::RoomId;
use shared::message::WireLimits;
use shared::model::PostRef;
use web_sys::HtmlTextAreaElement;
use yew::prelude::*;

use super::button::word_button;
use super::frame::{document, focus, is_composing, is_phone, use_frame};
use super::icon::Icon;
use crate::store::{Action, Draft};
use crate::words::{Text, Word};

/// Safari ends a composition before it tells of the Enter that ended it. Milliseconds.
const AFTER_COMPOSITION_MS: f64 = 50.0;
/// From this part of the limit on, what is left is counted.
const COUNT_FROM: f64 = 0.9;

/// Properties of [`Composer`].
#[derive(Properties, PartialEq)]
pub struct ComposerProps {
    /// Where to.
    pub room: RoomId,
    /// The room's name.
    pub room_name: String,
    /// What is being written.
    pub draft: Draft,
    /// What the server takes.
    pub limits: WireLimits,
    /// The newest post of mine that can be edited.
    pub last_own: Option<PostRef>,
}

/// How much of what the server takes is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    left: i64,
    is_near: bool,
}

/// The composer.
#[component]
pub fn Composer(props: &ComposerProps) -> Html {
    let frame = use_frame();
    let area = use_node_ref();
    let composed_at = use_mut_ref(|| f64::NEG_INFINITY);
    let is_empty = use_state_eq(|| true);
    let space = use_state_eq(|| Room { left: 0, is_near: false });
    let (room, drawn) = (props.room, props.draft.version);
    // Whose text stands in the field, and which version of it: what is drawn is ahead of it until the effect has run.
    let taken = use_mut_ref(|| (room, drawn));

    let look = {
        let (is_empty, space, limits) = (is_empty.clone(), space.clone(), props.limits);
        move |area: &HtmlTextAreaElement| {
            let text = area.value();
            is_empty.set(text.trim().is_empty());
            space.set(measure(&text, &limits));
            grow(area);
        }
    };
    {
        let (area, look, text, taken) = (area.clone(), look.clone(), props.draft.text.clone(), taken.clone());
        use_effect_with((room, drawn), move |now| {
            *taken.borrow_mut() = *now;
            if let Some(area) = area.cast::<HtmlTextAreaElement>() {
                if area.value() != text {
                    area.set_value(&text);
                }
                look(&area);
            }
        });
    }
    {
        let area = area.clone();
        // A phone's keyboard would cover what one came to read.
        use_effect_with((room, props.draft.editing), move |(_, editing)| {
            if let Some(area) = area.cast::<HtmlTextAreaElement>()
                && (editing.is_some() || !is_phone())
            {
                focus(&area);
                let end = area.value().encode_utf16().count() as u32;
                let _ = area.set_selection_range(end, end);
            }
        });
    }
    {
        // Yew has no listener for it.
        let composed_at = composed_at.clone();
        use_effect_with(area.clone(), move |area| {
            let listener = area.cast::<HtmlTextAreaElement>().map(|area| {
                EventListener::new(&area, "compositionend", move |event| *composed_at.borrow_mut() = event.time_stamp())
            });
            move || drop(listener)
        });
    }
    let oninput = {
        let (actions, area, look, taken) = (frame.actions.clone(), area.clone(), look.clone(), taken.clone());
        Callback::from(move |_: InputEvent| {
            if let Some(area) = area.cast::<HtmlTextAreaElement>() {
                look(&area);
                let (room, drawn) = *taken.borrow();
                actions.act(Action::SetDraft(room, area.value(), drawn));
            }
        })
    };
    let send = {
        let (actions, area, limits, taken) = (frame.actions.clone(), area.clone(), props.limits, taken.clone());
        Callback::from(move |()| {
            let Some(area) = area.cast::<HtmlTextAreaElement>() else { return };
            let text = area.value();
            if text.trim().is_empty() || measure(&text, &limits).left < 0 {
                return;
            }
            // It is handed over: what is typed before the next frame must not be added to it, and a second Enter must
            // not send it again. The end of an edit brings the draft from before back, with the next frame.
            area.set_value("");
            look(&area);
            let (room, drawn) = *taken.borrow();
            actions.act(Action::Send(room, text, drawn));
        })
    };
    let onkeydown = {
        let (actions, send, composed_at) = (frame.actions.clone(), send.clone(), composed_at.clone());
        let (editing, last_own) = (props.draft.editing, props.last_own);
        Callback::from(move |event: KeyboardEvent| {
            let is_composing =
                is_composing(&event) || event.time_stamp() - *composed_at.borrow() < AFTER_COMPOSITION_MS;
            let is_plain = !(event.shift_key() || event.ctrl_key() || event.meta_key() || event.alt_key());
            let is_blank = || event.target_unchecked_into::<HtmlTextAreaElement>().value().is_empty();
            let (room, _) = *taken.borrow();
            match event.key().as_str() {
                _ if is_composing => {}
                "Enter" if event.ctrl_key() || event.meta_key() || (is_plain && !is_phone()) => {
                    event.prevent_default();
                    send.emit(());
                }
                "ArrowUp" if is_plain && editing.is_none() && is_blank() => {
                    if let Some(post) = last_own {
                        event.prevent_default();
                        actions.act(Action::BeginEdit(room, post));
                    }
                }
                "Escape" if editing.is_some() => {
                    event.prevent_default();
                    event.stop_propagation();
                    // As after a send: what is typed before the next frame is no part of the edit.
                    event.target_unchecked_into::<HtmlTextAreaElement>().set_value("");
                    actions.act(Action::CancelEdit(room));
                }
                _ => {}
            }
        })
    };
    let onsubmit = {
        let (send, area) = (send.clone(), area.clone());
        Callback::from(move |event: SubmitEvent| {
            event.prevent_default();
            send.emit(());
            if let Some(area) = area.cast::<HtmlTextAreaElement>() {
                focus(&area);
            }
        })
    };
    let is_editing = props.draft.editing.is_some();
    let is_over = space.left < 0;
    let placeholder = frame.say(&Text::ComposerPlaceholder { room: format!("#{}", props.room_name) });
    let send_text = frame.word(if is_editing { Word::SaveEdit } else { Word::Send });
    html! {
        <form class="composer" {onsubmit} data-region="composer">
            if is_editing {
                <div class="editing">
                    { Icon::Pencil.draw_small() }
                    <span>{ frame.word(Word::Editing) }</span>
                    { word_button("link", Some("edit-cancel"), frame.word(Word::Cancel), frame.actions.on(Action::CancelEdit(room))) }
                </div>
            }
            <div class={classes!("composer-box", is_over.then_some("over"))}>
                <textarea ref={area} id="composer" data-testid="composer" rows="1" dir="auto" enterkeyhint="enter"
                    autocomplete="off" aria-label={placeholder.clone()} {placeholder} {oninput} {onkeydown}
                    aria-describedby="composer-counter" aria-invalid={is_over.to_string()} />
                <span id="composer-counter" class={classes!("meta", "counter", is_over.then_some("over"))}>
                    if is_over {
                        { frame.say(&Text::TooLong { over: space.left.unsigned_abs() }) }
                    } else if space.is_near {
                        { space.left }
                    }
                </span>
                <button type="submit" class={classes!("icon-button", "send", (!*is_empty && !is_over).then_some("ready"))}
                    data-testid="send" aria-label={send_text.clone()} title={send_text}>
                    { if is_editing { Icon::Check.draw() } else { Icon::Send.draw() } }
                </button>
            </div>
        </form>
    }
}

/// Lets the field grow with its text. Its limits are in the style sheet.
fn grow(area: &HtmlTextAreaElement) {
    let style = area.style();
    let list = document().and_then(|document| document.get_element_by_id("timeline"));
    let scrolled_to = list.as_ref().map(|list| list.scroll_top());
    // The CSSOM refuses nothing it is asked here, and a field of the wrong height is no reason to stop.
    let _ = style.set_property("height", "auto");
    let _ = style.set_property("height", &format!("{}px", area.scroll_height()));
    // While the field was low the list was higher, and may have been moved: nobody scrolled it.
    if let (Some(list), Some(top)) = (list, scrolled_to) {
        list.set_scroll_top(top);
    }
}

/// Counts what is left. Characters as people count them are never more than Unicode's, so the cheap count decides alone
/// until it comes near the limit; and far beyond it, where counting as people do would take longer than a key may.
fn measure(text: &str, limits: &WireLimits) -> Room {
    let limit = i64::try_from(limits.post_graphemes).unwrap_or(i64::MAX);
    let most_bytes = i64::try_from(limits.post_bytes).unwrap_or(i64::MAX);
    let bytes_over = text.len() as i64 - most_bytes;
    let near = (limit as f64 * COUNT_FROM) as usize;
    let scalars = if text.len() <= near { 0 } else { text.chars().count() };
    let count = if scalars <= near || bytes_over > most_bytes { scalars } else { graphemes(text).unwrap_or(scalars) };
    let left = limit - count as i64;
    // Rare: few characters of very many bytes. What is over is told in bytes then.
    if bytes_over > 0 && left >= 0 {
        return Room { left: -bytes_over, is_near: true };
    }
    Room { left, is_near: count > near }
}

#[cfg(target_arch = "wasm32")]
fn graphemes(text: &str) -> Option<usize> {
    use wasm_bindgen::{JsCast, JsValue};
    let segmenter = js_sys::Intl::Segmenter::new(&js_sys::Array::new(), &js_sys::Object::new().unchecked_into());
    let segments: JsValue = segmenter.segment(text).into();
    js_sys::try_iter(&segments).ok().flatten().map(Iterator::count)
}

#[cfg(not(target_arch = "wasm32"))]
fn graphemes(_text: &str) -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_only_near_the_limit() {
        let limits = WireLimits { post_graphemes: 100, post_bytes: 400, ..WireLimits::default() };
        assert!(!measure("", &limits).is_near);
        assert!(!measure(&"a".repeat(90), &limits).is_near);
        assert_eq!(measure(&"a".repeat(91), &limits), Room { left: 9, is_near: true });
        assert_eq!(measure(&"重".repeat(101), &limits).left, -1);
        assert_eq!(measure(&"👍".repeat(100), &limits), Room { left: 0, is_near: true });
        let wide = WireLimits { post_bytes: 100, ..limits };
        assert_eq!(measure(&"重".repeat(40), &wide).left, -20, "too many bytes");
    }
}
