//! The bar above the list: what is wrong, in words, and what can be done.
//!
//! Must not live here: when it is due ([`crate::status`]), its announcement ([`super::app`]). Invariant: it has a grid row
//! of its own; the list keeps its place, and digits that count down are hidden from screen readers.

use yew::prelude::*;

use super::button::word_button;
use super::frame::Frame;
use super::icon::Icon;
use crate::status::{Bar, BarAction, BarKind};
use crate::store::Action;
use crate::words::Word;

/// Draws the bar, if it is due, or the empty row where it would be.
pub fn status_bar(frame: &Frame, bar: Option<&Bar>) -> Html {
    let Some(bar) = bar else { return html! { <div class="status-bar"></div> } };
    let (tone, icon) = match bar.kind {
        BarKind::Back => ("tone-ok", Icon::Check),
        BarKind::Connecting | BarKind::CatchingUp => ("tone-busy", Icon::Retry),
        BarKind::Slow | BarKind::NoStorage => ("tone-warn", Icon::Warning),
        BarKind::Waiting | BarKind::Trying | BarKind::Restarting | BarKind::Offline => ("tone-offline", Icon::Offline),
        BarKind::Stopped => ("tone-warn", Icon::Warning),
        BarKind::NewVersion => ("tone-busy", Icon::Down),
    };
    let button = bar.action.map(|action| {
        let (action, text, testid) = match action {
            BarAction::RetryNow => (Action::RetryNow, Word::RetryNow, "retry-now"),
            BarAction::SignIn => (Action::SignInAgain, Word::SignInAgain, "sign-in-again"),
            BarAction::Reload => (Action::Reload, Word::Reload, "reload"),
        };
        word_button("link", Some(testid), frame.word(text), frame.actions.on(action))
    });
    html! {
        <div class="status-bar">
            <div class={classes!("status", tone)} data-testid="status-bar" data-kind={bar.kind.name()}>
                { icon.draw() }
                <span class="said">
                    { frame.say(&bar.text) }
                    if let Some(countdown) = &bar.countdown {
                        <span class="digits" aria-hidden="true">{ " " }{ frame.say(countdown) }</span>
                    }
                </span>
                { button.unwrap_or_default() }
            </div>
        </div>
    }
}
