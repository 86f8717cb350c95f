//! The list of posts: thousands of rows of which about a hundred are in the document.
//!
//! ```text
//! .timeline          scrolls
//!   .lead            pushes few posts down to the composer
//!   .head            the beginning, or what lies before the first row
//!   .spacer          as high as the rows above that are not in the document
//!   .items           the rows of the window, each an .item by its key
//!   .spacer          as high as those below
//! ```
//!
//! Lives here: keeping document and [`scroll::Scroll`] in step. Must not live here: arithmetic (there) or what a row looks
//! like ([`row`]). Invariant: after every change the document is measured and scrolled before it is painted, so what is
//! read never jumps.

pub mod actions;
pub mod announcer;
mod control;
pub mod heights;
mod items;
pub mod row;
pub mod scroll;

use std::cell::RefCell;
use std::rc::Rc;

use shared::ids::{RoomId, Seq, UserId};
use shared::sorted::SortedMap;
use shared::timeline::RowKey;
use yew::prelude::*;

use self::announcer::Announcer;
use self::control::{Control, Refs, Shown};
use self::items::{draw_head, draw_item};
pub use self::row::last_own;
use self::scroll::Hold;
use super::frame::use_frame;
use super::icon::Icon;
use crate::store::RoomView;
use crate::words::{Text, Word};

/// Where a person was in a room when they left it.
pub type Places = Hold<RowKey>;

/// Properties of [`TimelineList`].
#[derive(Properties)]
pub struct TimelineProps {
    /// The room.
    pub view: Rc<RoomView>,
    /// Its name.
    pub room_name: String,
    /// The post that is being edited.
    pub editing: Option<Seq>,
    /// The server answers: older posts can be asked for.
    pub is_live: bool,
    /// Me.
    pub me: Option<UserId>,
    /// Where I was in the rooms I left.
    pub places: Rc<RefCell<SortedMap<RoomId, Places>>>,
}

impl PartialEq for TimelineProps {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.view, &other.view)
            && (&self.room_name, self.editing, self.is_live, self.me)
                == (&other.room_name, other.editing, other.is_live, other.me)
    }
}

/// The list.
#[component]
pub fn TimelineList(props: &TimelineProps) -> Html {
    let frame = use_frame();
    let refs = use_memo((), |()| Refs::default());
    let shown = use_state_eq(Shown::default);
    let cursor = use_state_eq(|| None::<RowKey>);
    let redraw = use_force_update();
    let control = use_mut_ref(Control::default);
    let view = &props.view;
    let timeline = &view.timeline;

    let window = {
        let mut control = control.borrow_mut();
        control.take(props, &frame.actions);
        control.window.clone()
    };

    // Measures, scrolls and looks around; again while what is seen is not all there.
    let settle = {
        let (control, refs, shown, redraw) = (control.clone(), refs.clone(), shown.clone(), redraw.clone());
        Rc::new(move || {
            let mut control = control.borrow_mut();
            let is_enough = control.settle(&refs);
            shown.set(control.shown());
            if !is_enough {
                redraw.force_update();
            }
        })
    };
    {
        let settle = Rc::clone(&settle);
        use_effect(move || settle());
    }
    {
        let (control, refs, places) = (control.clone(), refs.clone(), Rc::clone(&props.places));
        let room = view.room;
        use_effect_with((), move |()| {
            let watch = control::watch(&refs, &control, settle);
            move || {
                drop(watch);
                match control.borrow().scroll.hold {
                    Hold::End => places.borrow_mut().remove(&room),
                    hold @ Hold::Row { .. } => places.borrow_mut().insert(room, hold),
                };
            }
        });
    }
    let onscroll = {
        let (control, refs, shown, redraw) = (control.clone(), refs.clone(), shown.clone(), redraw.clone());
        Callback::from(move |_: Event| {
            let mut control = control.borrow_mut();
            let is_enough = control.scrolled(&refs);
            shown.set(control.shown());
            if !is_enough {
                redraw.force_update();
            }
        })
    };
    let onkeydown = {
        let (control, refs, cursor, redraw) = (control.clone(), refs.clone(), cursor.clone(), redraw.clone());
        Callback::from(move |event: KeyboardEvent| {
            if event.alt_key() || event.ctrl_key() || event.meta_key() || event.shift_key() {
                return;
            }
            let key = control.borrow_mut().key(&event.key(), *cursor, &refs);
            if let Some(key) = key {
                event.prevent_default();
                cursor.set(Some(key));
                redraw.force_update();
            }
        })
    };
    let onjump = {
        let (control, redraw) = (control.clone(), redraw.clone());
        Callback::from(move |_: MouseEvent| {
            control.borrow_mut().scroll.hold = Hold::End;
            redraw.force_update();
        })
    };
    let stop = cursor.filter(|key| timeline.index_of(*key).is_some_and(|index| window.contains(&index)));
    let rows = window.clone().filter_map(|index| draw_item(&frame, props, index, stop));
    let pill = shown.day_of.map(|ts| frame.local.day_label(frame.language, ts));
    let new = if shown.at_end { 0 } else { control.borrow().count_new(timeline) };
    html! {
        <div class="timeline-frame">
            if let Some(day) = pill { <div class="day-pill" aria-hidden="true">{ day }</div> }
            <div ref={refs.scroller.clone()} class="timeline" id="timeline" data-testid="timeline" data-region="timeline"
                role="log" aria-live="off" aria-label={frame.word(Word::Messages)} aria-busy={view.loading.is_some().to_string()}
                tabindex={if stop.is_some() { "-1" } else { "0" }} {onscroll} {onkeydown}>
                <div class="lead"></div>
                <div ref={refs.head.clone()} class="head">{ draw_head(&frame, props) }</div>
                <div ref={refs.above.clone()} class="spacer"></div>
                <div ref={refs.items.clone()} class="items">{ for rows }</div>
                <div ref={refs.below.clone()} class="spacer"></div>
            </div>
            if !shown.at_end {
                <button type="button" class="jump" data-testid="jump-end" onclick={onjump}>
                    { Icon::Down.draw() }
                    <span>{ frame.say(&if new > 0 { Text::NewBelow { n: new } } else { Text::Plain(Word::Newest) }) }</span>
                </button>
            }
            <Announcer timeline={timeline.clone()} loaded={view.loaded} />
        </div>
    }
}
