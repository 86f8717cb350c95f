//! The list's hands: what it reads from the document and sets in it.
//!
//! Must not live here: what is drawn. Invariant: the document is read as scrolled by the person only while it is settled,
//! that is, measured and scrolled since the last change of rows.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use gloo_events::EventListener;
use gloo_timers::callback::Timeout;
use shared::ids::{RoomId, Seq};
use shared::time::Timestamp;
use shared::timeline::{Row, RowKey, Status, Timeline};
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{HtmlElement, ResizeObserver};
use yew::prelude::*;

use super::TimelineProps;
use super::scroll::{Hold, MARGIN_PX, Scroll};
use crate::components::frame::{document, focus, is_watched};
use crate::store::{Action, Actions, Part};

/// Where the line "New" stands when a room with unread posts is opened: this far below the upper edge. CSS pixels.
const DIVIDER_AT_PX: f64 = 96.0;
/// A row that the arrows went to keeps this distance from the edge. CSS pixels.
const CURSOR_EDGE_PX: f64 = 44.0;

/// A spacer that is wrong by less than this is right: its height is set to the hundredth. CSS pixels.
const SPACER_PX: f64 = 0.005;

/// A person who scrolled by fewer changes than this looks at much the same place.
const LOOK_AT_STEP: u64 = 200;

/// The elements the list works on.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Refs {
    pub(super) scroller: NodeRef,
    pub(super) head: NodeRef,
    pub(super) above: NodeRef,
    pub(super) items: NodeRef,
    pub(super) below: NodeRef,
}

/// What of the scrolling is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// The list follows its end.
    pub(super) at_end: bool,
    /// When the first row seen was written.
    pub(super) day_of: Option<Timestamp>,
}

impl Default for Shown {
    fn default() -> Self {
        Self { at_end: true, day_of: None }
    }
}

/// How far the first placing has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// There was nothing to place yet.
    #[default]
    Empty,
    /// Placed, with heights that are guessed.
    Placed,
    /// Measured: the person scrolls from here on.
    Settled,
    /// Rows changed since it was settled.
    Changed,
}

/// What is known of the list between two drawings.
#[derive(Default)]
pub(super) struct Control {
    pub(super) scroll: Scroll<RowKey>,
    /// The rows in the document.
    pub(super) window: Range<usize>,
    phase: Phase,
    timeline: Option<Part<Timeline>>,
    last: Option<RowKey>,
    /// Posts up to this ordinal were seen, or read before.
    seen: u64,
    /// Posts up to this ordinal were told to be read.
    marked: u64,
    wants_focus: Option<RowKey>,
    /// Where the person was last said to look.
    told: Option<Seq>,
    /// The rows in the document were measured since they were drawn.
    is_measured: bool,
    /// What was seen of the list when it was last measured.
    outline: Option<Outline>,
    /// The heights of the spacers above and below, as they were last set.
    spacers: (f64, f64),
    context: Option<Context>,
}

/// Few sizes by which it shows that any other has changed, but for the rows just drawn. In CSS pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Outline {
    /// The list's own, width and height.
    size: (i32, i32),
    /// Where its upper edge is on the screen.
    top: f64,
    /// The height of what stands above the first row.
    head: f64,
    /// The height of all rows in the document.
    items: f64,
}

/// What the list asks for, and where.
struct Context {
    room: RoomId,
    actions: Actions,
    may_load: bool,
}

impl Control {
    /// Takes over what is to be drawn and decides which rows are.
    ///
    /// Nothing is read from the document here: other parts of the page have been drawn just before, and the browser
    /// would have to lay them out for it. Where the person has scrolled to is told by events, which come before a frame
    /// is drawn.
    pub(super) fn take(&mut self, props: &TimelineProps, actions: &Actions) {
        let (view, timeline) = (&props.view, &props.view.timeline);
        self.is_measured = false;
        let may_load = props.is_live && view.loading.is_none() && view.load_failed.is_none();
        self.context = Some(Context { room: view.room, actions: actions.clone(), may_load });
        if self.timeline.as_ref() != Some(timeline) {
            self.timeline = Some(timeline.clone());
            let key_at = |index: usize| timeline.key(index).expect("rows up to len exist");
            self.scroll.sync(timeline.len(), key_at, |key| timeline.index_of(key));
            // A server that was set back has fewer posts than were seen.
            let newest = newest_first(timeline).find_map(|row| ordinal(&row)).unwrap_or(0);
            self.seen = self.seen.min(newest);
            self.marked = self.marked.min(newest);
            self.follow_own_post(timeline);
        }
        match self.phase {
            Phase::Empty if view.loaded && !timeline.is_empty() => self.place(props),
            Phase::Empty | Phase::Placed => {}
            Phase::Settled | Phase::Changed => self.phase = Phase::Changed,
        }
        self.window = self.scroll.window();
    }

    /// Finds the place to begin at: where the person was, or the first unread post, or the end.
    fn place(&mut self, props: &TimelineProps) {
        let (view, timeline) = (&props.view, &props.view.timeline);
        self.phase = Phase::Placed;
        self.seen = view.divider.unwrap_or(0);
        if let Some(Hold::Row { key, offset }) = props.places.borrow().get(&view.room).copied()
            && let Some(index) = timeline.index_of(key)
        {
            self.scroll.hold_row(index, offset);
        } else if let Some(divider) = view.divider
            && let Some(index) = timeline.rows().position(|row| ordinal(&row).is_some_and(|ordinal| ordinal > divider))
        {
            self.scroll.hold_row(index, DIVIDER_AT_PX);
        }
    }

    /// Whoever writes wants to see it.
    fn follow_own_post(&mut self, timeline: &Timeline) {
        let last = timeline.len().checked_sub(1).and_then(|index| timeline.row(index));
        let key = last.as_ref().map(Row::key);
        let is_own = last.as_ref().and_then(Row::as_post).is_some_and(|post| post.mine && post.status != Status::Sent);
        if key != self.last && is_own {
            self.scroll.hold = Hold::End;
        }
        self.last = key;
    }

    /// Reads where the person has scrolled to.
    fn observe(&mut self, refs: &Refs) {
        let Some(scroller) = refs.scroller.cast::<HtmlElement>() else { return };
        if self.outline.is_none_or(|outline| outline.size != size(&scroller)) {
            // It has another size than its rows were measured at: the browser moved it, not the person.
            return;
        }
        self.scroll.observe(f64::from(scroller.scroll_top()), |key| !matches!(key, RowKey::Hole { .. }));
    }

    /// Takes note of a scroll event. Tells whether the rows in the document suffice.
    pub(super) fn scrolled(&mut self, refs: &Refs) -> bool {
        if self.phase != Phase::Settled {
            return true;
        }
        self.observe(refs);
        self.look();
        let is_enough = self.scroll.is_enough(&self.window);
        if !is_enough && !self.holds_focus_in(&self.scroll.window(), refs) {
            // The row with the focus goes out of the document: the list takes it over, so that keys still reach it.
            if let Some(scroller) = refs.scroller.cast::<HtmlElement>() {
                focus(&scroller);
            }
        }
        is_enough
    }

    /// Tells whether the focus is not in a row, or in one that stays.
    fn holds_focus_in(&self, window: &Range<usize>, refs: &Refs) -> bool {
        let (Some(items), Some(active)) =
            (refs.items.cast::<HtmlElement>(), document().and_then(|d| d.active_element()))
        else {
            return true;
        };
        let children = items.children();
        let place =
            (0..children.length()).find(|at| children.item(*at).is_some_and(|item| item.contains(Some(&active))));
        place.is_none_or(|at| window.contains(&(self.window.start + at as usize)))
    }

    /// Measures what was drawn and scrolls so that what is held stays. Tells whether the rows in the document suffice.
    ///
    /// The browser lays out for the first size that is read after a change. So the spacers are set before anything is
    /// read, with the heights that are known, and again only where a row turned out to have another.
    pub(super) fn settle(&mut self, refs: &Refs) -> bool {
        let (Some(scroller), Some(items)) = (refs.scroller.cast::<HtmlElement>(), refs.items.cast::<HtmlElement>())
        else {
            return true;
        };
        self.make_room(refs);
        let size = size(&scroller);
        self.scroll.view = f64::from(size.1);
        if self.is_hidden() {
            // Its rows have no heights, and where it was scrolled to is not told.
            self.outline = None;
            return true;
        }
        let outline = Outline {
            size,
            top: scroller.get_bounding_client_rect().top(),
            head: refs.head.cast::<HtmlElement>().map_or(0.0, |head| head.get_bounding_client_rect().height()),
            items: items.get_bounding_client_rect().height(),
        };
        let before = self.outline.replace(outline);
        self.scroll.head = outline.head;
        if !self.is_measured || before != Some(outline) {
            self.measure(&items);
        }
        if let Some(before) = before {
            self.stay_on_screen(outline.top - before.top);
        }
        if self.phase == Phase::Placed && self.scroll.end() - self.scroll.target() <= super::scroll::FOLLOW_PX {
            self.scroll.hold = Hold::End;
        }
        self.make_room(refs);
        let target = self.scroll.target().round() as i32;
        if scroller.scroll_top() != target {
            scroller.set_scroll_top(target);
        }
        self.scroll.settled_at(f64::from(scroller.scroll_top()));
        let is_enough = self.scroll.is_enough(&self.window);
        if is_enough && self.phase != Phase::Empty {
            self.phase = Phase::Settled;
            self.look();
            self.give_focus(refs);
        }
        is_enough
    }

    /// Measures the rows in the document.
    fn measure(&mut self, items: &HtmlElement) {
        self.is_measured = true;
        let children = items.children();
        for at in 0..children.length() {
            if let Some(item) = children.item(at) {
                self.scroll.heights.measure(self.window.start + at as usize, item.get_bounding_client_rect().height());
            }
        }
    }

    /// Makes the spacers as high as the rows that are not in the document, where they are not.
    fn make_room(&mut self, refs: &Refs) {
        let above = self.scroll.heights.top(self.window.start);
        let below = self.scroll.heights.total() - self.scroll.heights.top(self.window.end);
        let spacers = [(&refs.above, &mut self.spacers.0, above), (&refs.below, &mut self.spacers.1, below)];
        for (spacer, set, height) in spacers {
            if (height - *set).abs() >= SPACER_PX {
                *set = height;
                set_height(spacer, height);
            }
        }
    }

    /// Says roughly where the person looks, so that rows there are kept: at the end, or how far up.
    fn tell_place(&mut self) {
        let (Some(timeline), Some(context)) = (&self.timeline, &self.context) else { return };
        let oldest = self.scroll.seen().filter_map(|index| timeline.row(index)).find_map(|row| row.as_post()?.seq);
        let place = if self.scroll.is_at_end() { None } else { oldest };
        let is_far = match (self.told, place) {
            (None, None) => false,
            (Some(told), Some(place)) => told.0.abs_diff(place.0) > LOOK_AT_STEP,
            (None, Some(_)) | (Some(_), None) => true,
        };
        if is_far {
            self.told = place;
            context.actions.act(Action::LookAt(context.room, place));
        }
    }

    /// Keeps what is read in its place on the screen when the list itself moves: a bar came or went above it.
    fn stay_on_screen(&mut self, moved: f64) {
        if let Hold::Row { offset, .. } = &mut self.scroll.hold {
            *offset -= moved;
        }
    }

    /// Tells whether nothing of the list is on the screen: a phone shows the rooms.
    fn is_hidden(&self) -> bool {
        self.scroll.view < 1.0
    }

    /// Asks for what is missing around what is seen, and tells what was read.
    fn look(&mut self) {
        if self.is_hidden() {
            return;
        }
        let (Some(timeline), Some(context)) = (&self.timeline, &self.context) else { return };
        let near = self.scroll.near(MARGIN_PX);
        if context.may_load
            && let Some(before) = timeline.needed(near.start, near.end)
        {
            context.actions.act(Action::LoadHistory(context.room, before));
        }
        self.tell_place();
        let (Some(timeline), Some(context)) = (&self.timeline, &self.context) else { return };
        if !is_watched() {
            return;
        }
        let seen = self.scroll.seen();
        let last = seen.rev().filter_map(|index| timeline.row(index)).find_map(|row| ordinal(&row));
        self.seen = self.seen.max(last.unwrap_or(0));
        if self.seen > self.marked {
            self.marked = self.seen;
            context.actions.act(Action::MarkRead(context.room, self.seen));
        }
    }

    /// Counts the posts of others below what was seen.
    pub(super) fn count_new(&self, timeline: &Timeline) -> u64 {
        newest_first(timeline)
            .take_while(|row| ordinal(row).is_none_or(|ordinal| ordinal > self.seen))
            .filter(|row| row.as_post().is_some_and(|post| !post.mine))
            .count() as u64
    }

    /// Says what of the scrolling is drawn.
    pub(super) fn shown(&self) -> Shown {
        // At the end it is not shown. The first row of all brings its own day with it.
        let is_below_it = !self.scroll.is_at_end() && self.scroll.seen().start > 0;
        let first = self.timeline.as_ref().filter(|_| is_below_it).and_then(|timeline| {
            self.scroll.seen().filter_map(|index| timeline.row(index)).find_map(|row| written(&row))
        });
        Shown { at_end: self.scroll.is_at_end(), day_of: first }
    }

    /// Moves to another row by a key. Returns the row to stand on.
    pub(super) fn key(&mut self, key: &str, from: Option<RowKey>, refs: &Refs) -> Option<RowKey> {
        let timeline = self.timeline.clone()?;
        self.observe(refs);
        let last = timeline.len().checked_sub(1)?;
        let from = from.and_then(|key| timeline.index_of(key));
        let to = match (key, from) {
            ("ArrowUp", Some(index)) => index.saturating_sub(1),
            ("ArrowUp", None) => self.scroll.seen().end.saturating_sub(1),
            ("ArrowDown", Some(index)) => (index + 1).min(last),
            ("ArrowDown", None) => self.scroll.seen().start,
            ("Home", _) => 0,
            ("End", _) => last,
            _ => return None,
        };
        let key = self.scroll.heights.key(to)?;
        self.reveal(to);
        self.wants_focus = Some(key);
        Some(key)
    }

    /// Scrolls so that a row is seen, and no more than that.
    fn reveal(&mut self, index: usize) {
        let at = self.scroll.target() - self.scroll.head;
        let (top, bottom) = (self.scroll.heights.top(index), self.scroll.heights.top(index + 1));
        if index + 1 == self.scroll.heights.len() {
            self.scroll.hold = Hold::End;
        } else if top < at + CURSOR_EDGE_PX {
            self.scroll.hold_row(index, CURSOR_EDGE_PX);
        } else if bottom > at + self.scroll.view {
            self.scroll.hold_row(index, self.scroll.view - (bottom - top));
        }
    }

    fn give_focus(&mut self, refs: &Refs) {
        let (Some(key), Some(timeline)) = (self.wants_focus.take(), &self.timeline) else { return };
        let place = timeline.index_of(key).and_then(|index| index.checked_sub(self.window.start));
        let item = place.and_then(|at| refs.items.cast::<HtmlElement>()?.children().item(u32::try_from(at).ok()?));
        let row = item.and_then(|item| item.query_selector("[tabindex], button").ok().flatten());
        if let Some(row) = row.and_then(|row| row.dyn_into::<HtmlElement>().ok()) {
            focus(&row);
        }
    }
}

fn newest_first(timeline: &Timeline) -> impl Iterator<Item = Row> + '_ {
    (0..timeline.len()).rev().filter_map(|index| timeline.row(index))
}

fn ordinal(row: &Row) -> Option<u64> {
    row.as_post().and_then(|post| post.ordinal)
}

/// Returns when a row was written.
pub(super) fn written(row: &Row) -> Option<Timestamp> {
    match row {
        Row::Post(post) => Some(post.ts),
        Row::Unknown(unknown) => Some(unknown.ts),
        Row::Hole(_) => None,
    }
}

fn size(element: &HtmlElement) -> (i32, i32) {
    (element.client_width(), element.client_height())
}

fn set_height(spacer: &NodeRef, height: f64) {
    if let Some(spacer) = spacer.cast::<HtmlElement>() {
        // Through the CSSOM: a style attribute would be against the policy. It refuses nothing it is asked here.
        let _ = spacer.style().set_property("height", &format!("{height:.2}px"));
    }
}

/// Watches what the list cannot see by itself until dropped: sizes that change, and the person who comes back.
pub(super) struct Watch {
    observer: Option<ResizeObserver>,
    _resized: Closure<dyn FnMut()>,
    _listeners: Vec<EventListener>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(observer) = &self.observer {
            observer.disconnect();
        }
    }
}

/// Starts watching.
pub(super) fn watch(refs: &Refs, control: &Rc<RefCell<Control>>, settle: Rc<dyn Fn()>) -> Watch {
    let resized = {
        let (control, refs, later) = (Rc::clone(control), refs.clone(), RefCell::new(None::<Timeout>));
        Closure::<dyn FnMut()>::new(move || {
            // Sizes changed after layout and before paint: what is held is put back in place within the same frame.
            // Drawing more rows waits for the next task, for what an observer changes it is told of again.
            if !control.borrow_mut().settle(&refs) {
                let settle = Rc::clone(&settle);
                *later.borrow_mut() = Some(Timeout::new(0, move || settle()));
            }
        })
    };
    let observer = ResizeObserver::new(resized.as_ref().unchecked_ref()).ok();
    if let Some(observer) = &observer {
        for element in [&refs.scroller, &refs.items, &refs.head].into_iter().filter_map(NodeRef::cast::<HtmlElement>) {
            observer.observe(&element);
        }
    }
    let came_back = |control: &Rc<RefCell<Control>>| {
        let control = Rc::clone(control);
        move |_: &Event| control.borrow_mut().look()
    };
    let mut listeners = Vec::new();
    if let (Some(window), Some(document)) = (web_sys::window(), document()) {
        listeners.push(EventListener::new(&window, "focus", came_back(control)));
        listeners.push(EventListener::new(&document, "visibilitychange", came_back(control)));
    }
    Watch { observer, _resized: resized, _listeners: listeners }
}
