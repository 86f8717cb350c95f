//! The switches for language and appearance.
//!
//! Must not live here: remembering the choice. Invariant: each language is named in itself, so that nobody is locked
//! into one they cannot read.

use yew::prelude::*;

use super::frame::Frame;
use crate::store::{Action, Theme};
use crate::words::{Language, Word};

/// Chooses the language of the page.
pub fn language_switch(frame: &Frame) -> Html {
    let choice = |language: Language| {
        html! {
            <button type="button" lang={language.tag()} data-testid="language" data-value={language.tag()}
                aria-pressed={(language == frame.language).to_string()}
                onclick={frame.actions.on(Action::SetLanguage(language))}>
                { language.own_name() }
            </button>
        }
    };
    html! {
        <div class="segments" role="group" aria-label={frame.word(Word::Language)}>
            { for Language::ALL.map(choice) }
        </div>
    }
}

/// Chooses light or dark; `now` is the choice so far.
pub fn theme_switch(frame: &Frame, now: Theme) -> Html {
    let choice = |(theme, text): (Theme, Word)| {
        html! {
            <button type="button" aria-pressed={(theme == now).to_string()}
                onclick={frame.actions.on(Action::SetTheme(theme))}>
                { frame.word(text) }
            </button>
        }
    };
    let choices =
        [(Theme::System, Word::ThemeSystem), (Theme::Light, Word::ThemeLight), (Theme::Dark, Word::ThemeDark)];
    html! {
        <div class="segments" role="group" aria-label={frame.word(Word::Theme)}>{ for choices.map(choice) }</div>
    }
}
