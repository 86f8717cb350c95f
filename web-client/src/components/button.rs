//! Buttons that occur again and again.
//!
//! Must not live here: buttons that have a state. Invariant: a button that is only an icon says in words what it does.

use yew::prelude::*;

use super::frame::Frame;
use super::icon::Icon;
use crate::words::Word;

/// What a press does.
pub type Press = Callback<MouseEvent>;

/// Draws a button of words. `class` is its look: `link`, `button`, `button danger`; `testid` is how tests find it.
pub fn word_button(class: &'static str, testid: Option<&'static str>, words: AttrValue, onclick: Press) -> Html {
    html! { <button type="button" {class} data-testid={testid} {onclick}>{ words }</button> }
}

/// Draws a button of an icon; what it does is told by a screen reader and when the mouse rests on it.
pub fn icon_button(class: &'static str, testid: &'static str, icon: Icon, words: AttrValue, onclick: Press) -> Html {
    html! {
        <button type="button" {class} data-testid={testid} aria-label={words.clone()} title={words} {onclick}>
            { icon.draw() }
        </button>
    }
}

/// Draws a button of an icon and words: an entry of a menu where `class` is empty or `danger`.
pub fn entry(class: &'static str, testid: Option<&'static str>, icon: Icon, words: AttrValue, onclick: Press) -> Html {
    html! { <button type="button" {class} data-testid={testid} {onclick}>{ icon.draw() }{ words }</button> }
}

/// Draws the cross that closes what it stands in.
pub fn close_button(frame: &Frame, onclick: Press) -> Html {
    html! {
        <button type="button" class="icon-button" aria-label={frame.word(Word::Close)} {onclick}>{ Icon::Close.draw() }</button>
    }
}
