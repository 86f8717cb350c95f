//! The driver: the only owner of the session and of the model. It runs their inputs and performs what they ask for.
//!
//! Lives here: the order of things. Must not live here: decisions. Invariant: one input is run at a time, to its end;
//! what is asked for meanwhile waits its turn, so nothing is ever entered twice.
//!
//! ```text
//! components ──Action──▶ Model ──Effect──▶ driver ──Command──▶ Session ──Output──▶ driver ──▶ socket, shelf, timer
//!      ▲                   ▲                                      │ Event               │
//!      └──────State────────┴──────────────────────────────────────┘◀────────Input───────┘
//! ```

mod boot;
mod frame;
mod keep;
mod watch;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use gloo_timers::callback::Timeout;
use gloo_timers::future::TimeoutFuture;
use shared::ids::{ClientId, SessionId};
use shared::model::Person;
use shared::session::{Command, Input, Output, Session, SessionConfig, SessionEvent};
use shared::time::Timestamp;
use wasm_bindgen_futures::{JsFuture, spawn_local};

use crate::model::{Ctx, Effect, Model, Setting};
use crate::platform::clock::{Clock, Reading, browser_clocks};
use crate::platform::socket::Sockets;
use crate::platform::{api, panic, settings, window};
use crate::store::Action;
use crate::words::Local;

pub use boot::start;
use keep::Keeper;

/// A timer this much later than it was set for means that the machine slept or the page was frozen, in milliseconds.
const GAP_VISIBLE_MS: u64 = 20_000;
/// The same while the page is hidden, whose timers come once a minute.
const GAP_HIDDEN_MS: u64 = 90_000;
/// The longest a timer is set for, in milliseconds; so a gap shows even while nothing is due.
const LONGEST_TIMER_MS: u64 = 15_000;

/// How long after a return the page looks for a newer version of itself, at least and at most, in milliseconds.
const VERSION_CHECK_MS: (u32, u32) = (500, 10_000);

/// What the page calls itself in the server's logs.
const CLIENT: &str = concat!("holdfast-page ", env!("CARGO_PKG_VERSION"));

/// Something to run.
enum Work {
    Act(Action),
    Input(Input),
    Call(Box<dyn FnOnce(&mut Inner)>),
}

/// The driver, as everything that has to call it holds it.
#[derive(Clone)]
pub(crate) struct Driver {
    inner: Rc<RefCell<Inner>>,
    queue: Rc<RefCell<VecDeque<Work>>>,
    running: Rc<Cell<bool>>,
}

/// What the driver owns.
struct Inner {
    handle: Option<Driver>,
    clock: Clock,
    /// The clock told of a sleep that the session has not been told of yet.
    woke: bool,
    model: Model,
    session: Option<Session>,
    sockets: Sockets,
    keeper: Keeper,
    frame: frame::Frame,
    timer: Option<Timeout>,
    timer_due: Option<Timestamp>,
    /// Counts sessions of this page: what was begun for an earlier one is not applied to a later one.
    era: u64,
}

impl Driver {
    /// Runs an action of a person.
    pub(crate) fn act(&self, action: Action) {
        self.push(Work::Act(action));
    }

    /// Runs an input of the session.
    fn input(&self, input: Input) {
        self.push(Work::Input(input));
    }

    /// Runs a piece of the driver's own work in its turn.
    fn call(&self, work: impl FnOnce(&mut Inner) + 'static) {
        self.push(Work::Call(Box::new(work)));
    }

    fn push(&self, work: Work) {
        if panic::is_dead() {
            return;
        }
        self.queue.borrow_mut().push_back(work);
        if self.running.replace(true) {
            return;
        }
        // Bounded by what the browser delivers in one turn: nothing that is run here waits for anything.
        loop {
            let Some(work) = self.queue.borrow_mut().pop_front() else { break };
            self.inner.borrow_mut().run(work);
        }
        self.inner.borrow_mut().after();
        self.running.set(false);
    }
}

/// Draws a new id.
fn new_id(wall: Timestamp) -> ClientId {
    ClientId::from_parts(wall, random())
}

/// Draws random bytes.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // A browser without randomness would also be without WebSockets; an id of zeros is refused as used, not lost.
    let _ = getrandom::fill(&mut bytes);
    bytes
}

impl Inner {
    fn driver(&self) -> Driver {
        self.handle.clone().expect("the handle is put in at once after the driver is made")
    }

    fn read_clock(&mut self) -> Reading {
        let (monotonic, wall) = browser_clocks();
        let reading = self.clock.read(monotonic, wall);
        self.woke |= reading.woke;
        reading
    }

    fn local(&self, wall: Timestamp) -> Local {
        Local { wall, utc_offset_min: window::utc_offset_min() }
    }

    fn run(&mut self, work: Work) {
        let reading = self.read_clock();
        if std::mem::take(&mut self.woke) {
            self.session_input(Input::Woke, reading);
        }
        match work {
            Work::Act(action) => {
                self.with_model(reading, |model, ctx| model.act(action, ctx));
            }
            Work::Input(input) => self.session_input(input, reading),
            Work::Call(work) => work(self),
        }
        self.perform_effects(reading);
    }

    fn with_model(&mut self, reading: Reading, step: impl FnOnce(&mut Model, &mut Ctx<'_>)) {
        let mut make = || new_id(reading.wall);
        let mut ctx = Ctx { now: reading.now, wall: reading.wall, new_id: &mut make };
        step(&mut self.model, &mut ctx);
    }

    fn session_input(&mut self, input: Input, reading: Reading) {
        if matches!(input, Input::Received { .. }) {
            self.model.frame_came(reading.wall);
        }
        let Some(session) = &mut self.session else { return };
        let outputs = session.handle(input, reading.now);
        self.perform_outputs(outputs, reading);
    }

    /// Performs what the session asks for, in its order. Writes go in parallel with sending, all of one input in one
    /// transaction.
    fn perform_outputs(&mut self, outputs: Vec<Output>, reading: Reading) {
        let mut writes = Vec::new();
        for output in outputs {
            match output {
                Output::Open { attempt } => self.sockets.open(attempt),
                Output::Send { attempt, text } => self.sockets.send(attempt, text),
                Output::Close { attempt, code, reason } => self.sockets.close(attempt, code, reason),
                Output::Persist { serial, change } => writes.push((serial, change)),
                Output::Event(event) => {
                    let diagnostic = matches!(event, SessionEvent::Diagnostic(_));
                    self.with_model(reading, |model, ctx| {
                        model.hear(event, ctx);
                        if diagnostic {
                            panic::keep_diagnostics(model.diagnostics(ctx));
                        }
                    });
                }
            }
        }
        if !writes.is_empty() {
            self.keep(writes);
        }
    }

    fn perform_effects(&mut self, reading: Reading) {
        // An effect may make another, such as a command that is refused at once; each makes fewer than it takes.
        loop {
            let effects = self.model.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.perform(effect, reading);
            }
        }
    }

    fn perform(&mut self, effect: Effect, reading: Reading) {
        match effect {
            Effect::Session(command) => self.session_input(Input::Command(command), reading),
            Effect::Go { path, replace } => window::go(&path, replace),
            Effect::SaveDraft(room, text) => self.keep_draft(room, text),
            Effect::Remember(setting) => {
                settings::remember(&setting);
                match setting {
                    Setting::Language(_) | Setting::Theme(_) => {
                        window::dress(self.model.language(), self.model.theme())
                    }
                    Setting::Me(_) | Setting::NoLonger(_) | Setting::LastRoom(_) => {}
                }
            }
            Effect::SignIn(name) => self.sign_in(name),
            Effect::SignOut => self.sign_out(),
            Effect::EndSession => self.end_session(),
            Effect::DiscardKept => self.discard_kept(),
            Effect::Copy(text) => self.copy(&text),
            Effect::Reload => self.reload(),
            Effect::SetWeather(weather) => self.sockets.set_weather(weather),
            Effect::CheckVersion => self.check_version(),
        }
    }

    /// What is due after everything that waited has run: the timer and the next frame.
    fn after(&mut self) {
        let now = self.read_clock().now;
        let session = self.session.as_ref().and_then(|session| session.next_deadline()).map(|(at, _)| at);
        let model = self.model.next_change(now);
        let due = [session, model, Some(now.plus(LONGEST_TIMER_MS))].into_iter().flatten().min();
        if let Some(due) = due
            && self.timer_due != Some(due)
        {
            self.set_timer(due, now);
        }
        self.ask_for_frame();
    }

    fn set_timer(&mut self, due: Timestamp, now: Timestamp) {
        let driver = self.driver();
        // Rounded up, or a timer that comes a fraction early would be set again and again.
        let wait = u32::try_from(due.since(now)).unwrap_or(u32::MAX).min(LONGEST_TIMER_MS as u32) + 1;
        self.timer_due = Some(due);
        self.timer = Some(Timeout::new(wait, move || driver.call(move |inner| inner.timer_came(due))));
    }

    fn timer_came(&mut self, due: Timestamp) {
        self.timer = None;
        self.timer_due = None;
        let reading = self.read_clock();
        let gap = if window::is_hidden() { GAP_HIDDEN_MS } else { GAP_VISIBLE_MS };
        if reading.now.since(due) > gap {
            self.session_input(Input::Woke, reading);
        }
        let session_due =
            self.session.as_ref().and_then(Session::next_deadline).is_some_and(|(at, _)| at <= reading.now);
        if session_due {
            self.session_input(Input::DeadlineReached, reading);
        }
    }

    /// Starts the session of a person.
    fn start_session(&mut self, me: Person) {
        self.era += 1;
        let reading = self.read_clock();
        let user = me.id;
        self.session = Some(Session::new(SessionConfig {
            client: CLIENT.into(),
            session: SessionId::from_parts(reading.wall, random()),
            user,
            seed: u64::from_le_bytes(random()),
            hidden: window::is_hidden(),
            online: window::is_online(),
        }));
        self.with_model(reading, |model, ctx| model.signed_in(me, ctx));
        self.session_input(Input::Command(Command::Start), reading);
        self.open_shelf(user);
    }

    /// Drops the session without a word; what is unsent stays on the device.
    fn end_session(&mut self) {
        let reading = self.read_clock();
        self.session_input(Input::Command(Command::Stop), reading);
        self.session = None;
        self.era += 1;
        self.close_shelf();
    }

    fn sign_in(&mut self, name: String) {
        let driver = self.driver();
        spawn_local(async move {
            let result = api::sign_in(&name).await;
            driver.call(move |inner| match result {
                Ok(me) => {
                    inner.end_session();
                    inner.start_session(me);
                }
                Err(error) => inner.model.sign_in_failed(error),
            });
        });
    }

    fn sign_out(&mut self) {
        let driver = self.driver();
        spawn_local(async move {
            let result = api::sign_out().await;
            driver.call(move |inner| match result {
                Ok(()) => {
                    if let Some(user) = inner.model.me().map(|me| me.id) {
                        inner.wipe_shelf(user);
                    }
                    inner.end_session();
                    inner.model.signed_out();
                }
                // As long as the server has not done it the cookie is valid: the person is told, and stays.
                Err(error) => {
                    let now = inner.read_clock().now;
                    inner.model.sign_out_failed(error, now);
                }
            });
        });
    }

    fn copy(&mut self, text: &str) {
        let Some(promise) = window::copy(text) else { return };
        let driver = self.driver();
        spawn_local(async move {
            if JsFuture::from(promise).await.is_ok() {
                driver.call(|inner| {
                    let now = inner.read_clock().now;
                    inner.model.copied(now);
                });
            }
        });
    }

    fn check_version(&mut self) {
        let Some(mine) = boot::own_script() else { return };
        let driver = self.driver();
        // Spread, or all pages of a server that came back would ask at once.
        let wait =
            VERSION_CHECK_MS.0 + u32::from(u16::from_le_bytes(random())) % (VERSION_CHECK_MS.1 - VERSION_CHECK_MS.0);
        spawn_local(async move {
            TimeoutFuture::new(wait).await;
            if let Some(page) = api::served_page().await
                && !page.contains(&mine)
            {
                driver.call(|inner| inner.model.new_version());
            }
        });
    }

    /// Learns who is signed in, where this browser does not remember.
    fn ask_who_am_i(&mut self) {
        let driver = self.driver();
        spawn_local(async move {
            let result = api::who_am_i().await;
            driver.call(move |inner| match result {
                Ok(Some(me)) => inner.start_session(me),
                Ok(None) | Err(_) => inner.ask_for_a_name(),
            });
        });
    }
}
