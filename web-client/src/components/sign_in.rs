//! The first page: a name, and in.
//!
//! Must not live here: accounts. Invariant: what was typed is never thrown away by an answer of the server.

use web_sys::HtmlInputElement;
use yew::prelude::*;

use super::button::word_button;
use super::frame::{Frame, use_frame};
use super::icon::mark;
use super::switches::language_switch;
use crate::store::{Action, SignIn, SignInBecause, SignInError};
use crate::words::{Text, Word, error_words};

/// Properties of [`SignInPage`].
#[derive(Properties, PartialEq)]
pub struct SignInProps {
    /// The form's state.
    pub form: SignIn,
}

/// The sign-in page.
#[component]
pub fn SignInPage(props: &SignInProps) -> Html {
    let frame = use_frame();
    let form = &props.form;
    let name = use_state(|| form.last_name.clone());
    let input = use_node_ref();
    use_effect_with(input.clone(), |input| {
        if let Some(input) = input.cast::<HtmlInputElement>() {
            super::frame::focus(&input);
            input.select();
        }
    });
    let sign_in = {
        let (actions, name, busy) = (frame.actions.clone(), name.clone(), form.busy);
        Callback::from(move |event: SubmitEvent| {
            event.prevent_default();
            if !busy && !name.trim().is_empty() {
                actions.act(Action::SignIn(name.trim().to_owned()));
            }
        })
    };
    let oninput = {
        let name = name.clone();
        Callback::from(move |event: InputEvent| name.set(event.target_unchecked_into::<HtmlInputElement>().value()))
    };
    let because = match form.because {
        SignInBecause::New => None,
        SignInBecause::Ended => Some(Text::SessionEnded { unsent: 0 }),
        SignInBecause::SomebodyElse => Some(Text::Plain(Word::SomebodyElse)),
    };
    let is_empty = name.trim().is_empty();
    html! {
        <main class="solo">
            <form class="card" onsubmit={sign_in} novalidate=true>
                { mark() }
                <h1>{ frame.word(Word::SignInTitle) }</h1>
                if let Some(text) = because {
                    <p class="state-line tone-offline" role="status" data-testid="sign-in-because">{ frame.say(&text) }</p>
                }
                if !form.kept.is_empty() { { draw_kept(&frame, &form.kept) } }
                <div class="field">
                    <label for="sign-in-name">{ frame.word(Word::YourName) }</label>
                    <input ref={input} id="sign-in-name" class="input" data-testid="sign-in-name" name="name"
                        autocomplete="username" autocapitalize="words" spellcheck="false" maxlength="64" dir="auto"
                        value={(*name).clone()} {oninput} aria-invalid={form.error.is_some().to_string()}
                        aria-describedby="sign-in-error" />
                </div>
                <div id="sign-in-error" role="alert">
                    if let Some(error) = &form.error { { draw_error(&frame, error, &name) } }
                </div>
                <button class="button primary wide" type="submit" data-testid="sign-in-submit"
                    aria-disabled={(is_empty || form.busy).to_string()}>
                    { frame.word(if form.busy { Word::Connecting } else { Word::SignIn }) }
                </button>
            </form>
            <div class="solo-foot">{ language_switch(&frame) }</div>
        </main>
    }
}

/// Shows what cannot be sent any more, so that it can at least be copied.
fn draw_kept(frame: &Frame, kept: &[String]) -> Html {
    let text = kept.join("\n\n");
    html! {
        <div class="field">
            <label for="kept">{ frame.word(Word::KeptTitle) }</label>
            <textarea id="kept" class="input kept" data-testid="kept" readonly=true rows="4" dir="auto" value={text.clone()}
                aria-describedby="kept-means" />
            <p id="kept-means" class="hint">{ frame.word(Word::KeptMeans) }</p>
            <div class="kept-actions">
                { word_button("button", Some("kept-copy"), frame.word(Word::Copy), frame.actions.on(Action::Copy(text))) }
                { word_button("button danger", Some("kept-discard"), frame.word(Word::Discard), frame.actions.on(Action::DiscardKept)) }
            </div>
        </div>
    }
}

fn draw_error(frame: &Frame, error: &SignInError, name: &UseStateHandle<String>) -> Html {
    let (words, suggestion) = match error {
        SignInError::Refused(error) => (error_words(frame.language, error).into(), error.suggestion.clone()),
        SignInError::Unreachable => (frame.word(Word::ServerUnreachable), None),
    };
    let take = suggestion.clone().map(|suggestion| {
        let (actions, name) = (frame.actions.clone(), name.clone());
        Callback::from(move |_: MouseEvent| {
            name.set(suggestion.clone());
            actions.act(Action::SignIn(suggestion.clone()));
        })
    });
    html! {
        <p class="problem">
            <span data-testid="sign-in-error">{ words }</span>
            if let Some(suggestion) = suggestion {
                <button type="button" class="link" data-testid="sign-in-suggestion" onclick={take}>
                    { frame.say(&Text::NameSuggestion { name: suggestion }) }
                </button>
            }
        </p>
    }
}
