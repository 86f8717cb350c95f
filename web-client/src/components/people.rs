//! The people of a room.
//!
//! Must not live here: who is here ([`shared::roster`]). Invariant: presence is said in words too, not by colour alone.

use shared::ids::UserId;
use shared::roster::Roster;
use yew::prelude::*;

use super::button::close_button;
use super::frame::{avatar, use_frame, use_region_focus};
use crate::store::Part;
use crate::words::{Text, Word};

/// The most people drawn. The rest are counted.
const DRAWN: usize = 200;

/// Properties of [`PeoplePanel`].
#[derive(Properties, PartialEq)]
pub struct PeopleProps {
    /// The people.
    pub roster: Part<Roster>,
    /// Me.
    pub me: Option<UserId>,
    /// Close the panel.
    pub close: Callback<()>,
}

/// The list of people.
#[component]
pub fn PeoplePanel(props: &PeopleProps) -> Html {
    let frame = use_frame();
    let roster = &props.roster;
    let region = use_region_focus();
    let onkeydown = {
        let close = props.close.clone();
        Callback::from(move |event: KeyboardEvent| {
            if event.key() == "Escape" {
                event.prevent_default();
                close.emit(());
            }
        })
    };
    let drawn = roster.len().min(DRAWN);
    let more = roster.members().saturating_sub(drawn as u64);
    let people = roster.people().take(DRAWN).map(|member| {
        let presence = frame.word(if member.online { Word::Here } else { Word::Away });
        html! {
            <li key={member.id.to_string()} class={classes!("person", (!member.online).then_some("away"))}
                data-testid="person" data-name={member.name.clone()} data-online={member.online.to_string()}>
                <span class="face">
                    { avatar(member.id, &member.name, "small") }
                    if member.online { <span class="here" aria-hidden="true"></span> }
                </span>
                <bdi class="name">{ &member.name }</bdi>
                if props.me == Some(member.id) { <span class="meta">{ frame.word(Word::You) }</span> }
                <span class="unseen">{ presence }</span>
            </li>
        }
    });
    html! {
        <aside ref={region} class="panel" id="panel" tabindex="-1" data-testid="people" aria-label={frame.word(Word::People)} {onkeydown}>
            <div class="panel-head">
                <h2>{ frame.word(Word::People) }</h2>
                { close_button(&frame, props.close.reform(|_: MouseEvent| ())) }
            </div>
            <div class="panel-body">
                <p class="meta">{ frame.say(&Text::HereOf { here: roster.online() as u64, all: roster.members() }) }</p>
                <ul>{ for people }</ul>
                if more > 0 { <p class="meta">{ frame.say(&Text::AndMore { n: more }) }</p> }
            </div>
        </aside>
    }
}
