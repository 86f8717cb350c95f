//! One state for each frame: what changed is gathered, and handed to the components once.
//!
//! Must not live here: what is in a state. Invariant: a page that is hidden, where no frame is ever drawn, is brought up
//! to date all the same.

use std::rc::Rc;

use gloo_timers::callback::Timeout;
use wasm_bindgen::closure::Closure;
use yew::Callback;

use super::Inner;
use crate::platform::window;
use crate::store::State;

/// A frame that is not drawn within this is not waited for, in milliseconds.
const FRAME_LATE_MS: u32 = 100;

/// The frame that is being waited for.
pub(super) struct Frame {
    show: Callback<Rc<State>>,
    draw: Option<Closure<dyn FnMut(f64)>>,
    late: Option<Timeout>,
    asked: bool,
    shown: Option<Rc<State>>,
}

impl Frame {
    pub(super) fn new(show: Callback<Rc<State>>) -> Self {
        Self { show, draw: None, late: None, asked: false, shown: None }
    }
}

impl Inner {
    /// Asks for the next frame, unless it is asked for already.
    pub(super) fn ask_for_frame(&mut self) {
        if std::mem::replace(&mut self.frame.asked, true) {
            return;
        }
        let driver = self.driver();
        if window::is_hidden() {
            self.frame.late = Some(Timeout::new(0, move || driver.draw()));
            return;
        }
        let late = driver.clone();
        self.frame.late = Some(Timeout::new(FRAME_LATE_MS, move || late.draw()));
        let draw = self.frame.draw.get_or_insert_with(|| Closure::new(move |_| driver.draw()));
        window::on_next_frame(draw);
    }

    /// Hands the present state to the components.
    fn draw(&mut self) {
        if !std::mem::replace(&mut self.frame.asked, false) {
            return;
        }
        self.frame.late = None;
        let reading = self.read_clock();
        let local = self.local(reading.wall);
        let state = self.model.publish(reading.now, local);
        window::set_title(&self.model.title());
        if self.frame.shown.as_deref().is_some_and(|shown| shown.looks_like(&state)) {
            return;
        }
        let state = Rc::new(state);
        self.frame.shown = Some(Rc::clone(&state));
        self.frame.show.emit(state);
    }
}

impl super::Driver {
    /// Draws outside the queue: it changes nothing that is run there, and asks for no further frame.
    fn draw(&self) {
        if !crate::platform::panic::is_dead()
            && let Ok(mut inner) = self.inner.try_borrow_mut()
        {
            inner.draw();
        }
    }
}
