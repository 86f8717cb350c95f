//! Tells a screen reader of new posts.
//!
//! Must not live here: the list, whose rows come and go by scrolling and are announced by nothing. Invariant: a burst is
//! announced once, and history never.

use std::rc::Rc;

use gloo_timers::callback::Timeout;
use shared::ids::Seq;
use shared::timeline::{Row, Timeline};
use yew::prelude::*;

use crate::components::frame::use_frame;
use crate::store::Part;
use crate::words::Text;

/// Posts within this time are one burst. Milliseconds.
const BURST_MS: u32 = 900;
/// The longest post that is read out whole, in characters.
const READ_OUT: usize = 300;

/// Properties of [`Announcer`].
#[derive(Properties, PartialEq)]
pub struct AnnouncerProps {
    /// The room's rows.
    pub timeline: Part<Timeline>,
    /// The rows that were there when the room was opened have come.
    pub loaded: bool,
}

/// What came since the last announcement.
#[derive(Default)]
struct Waiting {
    /// Posts up to here are told, or were there before.
    told: Option<Seq>,
    count: u64,
    newest: String,
    timer: Option<Timeout>,
    /// How many announcements there were.
    number: u32,
}

/// An element that is heard and not seen.
#[component]
pub fn Announcer(props: &AnnouncerProps) -> Html {
    let frame = use_frame();
    let said = use_state(<(u32, AttrValue)>::default);
    let waiting = use_mut_ref(Waiting::default);
    {
        let (said, waiting, loaded) = (said.clone(), Rc::clone(&waiting), props.loaded);
        use_effect_with(props.timeline.clone(), move |timeline| {
            let mut state = waiting.borrow_mut();
            let Some(told) = state.told else {
                state.told = loaded.then(|| timeline.head());
                return;
            };
            state.told = Some(told.max(timeline.head()));
            let rows = (0..timeline.len()).rev().filter_map(|index| timeline.row(index));
            let is_new = |row: &Row| row.as_post().is_none_or(|post| post.seq.is_none_or(|seq| seq > told));
            let new: Vec<_> =
                rows.take_while(is_new).filter_map(|row| row.as_post().cloned()).filter(|post| !post.mine).collect();
            let Some(newest) = new.first() else { return };
            let body: String = newest.body.as_deref().unwrap_or_default().chars().take(READ_OUT).collect();
            state.newest = format!("{}: {body}", newest.name);
            state.count += new.len() as u64;
            if state.timer.is_none() {
                let waiting = Rc::clone(&waiting);
                state.timer = Some(Timeout::new(BURST_MS, move || {
                    let mut state = waiting.borrow_mut();
                    state.timer = None;
                    let words = match std::mem::take(&mut state.count) {
                        1 => std::mem::take(&mut state.newest).into(),
                        n => frame.say(&Text::NewMessages { n }),
                    };
                    state.number += 1;
                    said.set((state.number, words));
                }));
            }
        });
    }
    let (number, words) = &*said;
    // An element of its own, since words that do not change are not announced again.
    html! { <p class="unseen" role="status" aria-live="polite"><span key={*number}>{ words.clone() }</span></p> }
}
