//! Who is writing.
//!
//! Must not live here: forgetting it ([`shared::roster`]). Invariant: its row is always there, so nothing moves.

use std::rc::Rc;
use std::sync::Arc;

use yew::prelude::*;

use super::frame::use_frame;
use crate::words::{Text, Word};

/// Properties of [`TypingLine`].
#[derive(Properties, PartialEq)]
pub struct TypingProps {
    /// Who, me excluded.
    pub typing: Rc<Vec<Arc<str>>>,
}

/// The line above the composer.
#[component]
pub fn TypingLine(props: &TypingProps) -> Html {
    let frame = use_frame();
    let text = match props.typing.as_slice() {
        [] => None,
        [one] => Some(Text::Typing { who: one.to_string() }),
        [a, b] => Some(Text::TypingTwo { a: a.to_string(), b: b.to_string() }),
        [_, _, _, ..] => Some(Text::Plain(Word::TypingMany)),
    };
    html! {
        <div class="typing" data-testid="typing" aria-live="off" dir="auto">
            { text.map(|text| frame.say(&text)).unwrap_or_default() }
        </div>
    }
}
