//! Who is writing.
//!
//! Must not live here: forgetting it ([`shared::roster`]). Invariant: its row is always there, so nothing moves.

use std::sync::Arc;

use yew::prelude::*;

use super::frame::Frame;
use crate::words::{Text, Word};

/// Draws the line above the composer: who is writing, me excluded.
pub fn typing_line(frame: &Frame, typing: &[Arc<str>]) -> Html {
    let text = match typing {
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
