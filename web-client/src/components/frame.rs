//! What nearly every component needs: the language, the actions, and a few ways to the document.
//!
//! Must not live here: state. Invariant: reading the document never fails a render; where there is none, nothing happens.

use shared::ids::UserId;
use shared::time::Timestamp;
use wasm_bindgen::JsCast;
use web_sys::{Document, HtmlElement};
use yew::prelude::*;

use crate::platform::letters::upper;
use crate::store::Actions;
use crate::words::{Language, Local, Text, Word};

/// Local midnights lie at multiples of this everywhere, so a wall clock cut down to it still has its day.
const QUARTER_MS: u64 = 900_000;
/// What browsers report for a key that belongs to a composition.
const COMPOSING_KEY: u32 = 229;
/// Under this width the page is one pane.
pub const PHONE: &str = "(max-width: 767px)";

/// What a component may do and how it speaks. A context, so that it need not be handed down.
#[derive(Clone, PartialEq)]
pub struct Frame {
    /// The language.
    pub language: Language,
    /// What people can do.
    pub actions: Actions,
    /// The person's time zone, and the wall clock to the quarter of an hour: good for days, not for seconds.
    pub local: Local,
}

impl Frame {
    /// Makes a frame; equal to the last one for a quarter of an hour.
    #[must_use]
    pub fn new(language: Language, actions: Actions, wall: Timestamp, utc_offset_min: i32) -> Self {
        let wall = Timestamp(wall.0 - wall.0 % QUARTER_MS);
        Self { language, actions, local: Local { wall, utc_offset_min } }
    }

    /// Says a word.
    #[must_use]
    pub fn word(&self, word: Word) -> AttrValue {
        self.language.word(word).into()
    }

    /// Says a text.
    #[must_use]
    pub fn say(&self, text: &Text) -> AttrValue {
        self.language.say(text).into()
    }
}

/// Returns the frame.
///
/// # Panics
/// Outside of [`super::App`], which provides it.
#[hook]
pub fn use_frame() -> Frame {
    use_context().expect("every component is inside App")
}

/// Returns the document.
#[must_use]
pub fn document() -> Option<Document> {
    web_sys::window()?.document()
}

/// Moves the focus to an element, without scrolling to it.
pub fn focus(element: &HtmlElement) {
    let options = web_sys::FocusOptions::new();
    options.set_prevent_scroll(true);
    // An element that went meanwhile cannot be focused, and need not be.
    let _ = element.focus_with_options(&options);
}

/// Moves the focus to the element with this id. Tells whether there is one.
pub fn focus_id(id: &str) -> bool {
    let element = document().and_then(|document| document.get_element_by_id(id));
    let element = element.and_then(|element| element.dyn_into::<HtmlElement>().ok());
    element.inspect(focus).is_some()
}

/// Tells whether a key belongs to a composition. Safari says so of the Enter that ends one by its code alone.
#[must_use]
pub fn is_composing(event: &KeyboardEvent) -> bool {
    event.is_composing() || event.key_code() == COMPOSING_KEY
}

/// Gives a region that a person opened the focus, and gives it back when the region goes.
#[hook]
pub fn use_region_focus() -> NodeRef {
    let region = use_node_ref();
    use_effect_with(region.clone(), |region| {
        let before = document().and_then(|document| document.active_element());
        let region = region.cast::<HtmlElement>();
        if let Some(region) = &region {
            focus(region);
        }
        move || {
            let active = document().and_then(|document| document.active_element());
            let is_left = region.is_some_and(|region| region.contains(active.as_deref()));
            if let Some(before) = before.filter(|_| is_left).and_then(|before| before.dyn_into::<HtmlElement>().ok()) {
                focus(&before);
            }
        }
    });
    region
}

/// Tells whether the window is as narrow as a phone.
#[must_use]
pub fn is_phone() -> bool {
    web_sys::window().and_then(|window| window.match_media(PHONE).ok().flatten()).is_some_and(|query| query.matches())
}

/// Tells whether somebody is looking: the page is visible and has the focus.
#[must_use]
pub fn is_watched() -> bool {
    document().is_some_and(|document| !document.hidden() && document.has_focus().unwrap_or(false))
}

/// Returns the class that colours a person, the same everywhere.
#[must_use]
pub fn hue(user: UserId) -> String {
    // FNV-1a, so that ids that differ little differ in colour too.
    let hash =
        user.as_bytes().iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("hue-{}", (hash >> 16) % 8)
}

/// Draws the sign of a person: the first character of their name, in their colour.
pub fn avatar(user: UserId, name: &str, class: &'static str) -> Html {
    let first = name.chars().next().map(|c| upper(c.encode_utf8(&mut [0; 4]))).unwrap_or_default();
    html! { <span class={classes!("avatar", class, hue(user))} aria-hidden="true">{ first }</span> }
}
