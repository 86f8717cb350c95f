//! The start of a page.
//!
//! Must not live here: anything that happens twice. Invariant: a person who was signed in here sees their page at once,
//! and is asked for a name only if the server says so.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wasm_bindgen_futures::spawn_local;
use yew::{Callback, Component, Context, Html, Properties, html};

use super::frame::Frame;
use super::keep::Keeper;
use super::{Driver, Inner, watch};
use crate::components::App;
use crate::model::{Birth, Model};
use crate::platform::clock::{Clock, browser_clocks};
use crate::platform::socket::Sockets;
use crate::platform::{api, panic, settings, window};
use crate::store::{Actions, State};
use crate::words::Language;

/// The build of this page, for the panel and the diagnostics.
const BUILD: &str = env!("CARGO_PKG_VERSION");

/// The root of the page: holds the newest state and hands it down.
struct Root {
    state: Rc<State>,
}

#[derive(Clone, PartialEq, Properties)]
struct RootProps {
    first: Rc<State>,
    actions: Actions,
}

impl Component for Root {
    type Message = Rc<State>;
    type Properties = RootProps;

    fn create(ctx: &Context<Self>) -> Self {
        Self { state: Rc::clone(&ctx.props().first) }
    }

    fn update(&mut self, _ctx: &Context<Self>, state: Rc<State>) -> bool {
        self.state = state;
        true
    }

    fn view(&self, ctx: &Context<Self>) -> Html {
        html! { <App state={Rc::clone(&self.state)} actions={ctx.props().actions.clone()} /> }
    }
}

/// Returns the address of the script this page was loaded with, by which a newer page is told apart.
pub(super) fn own_script() -> Option<String> {
    let named = window::document().query_selector("meta[name=holdfast]").ok().flatten()?;
    named.get_attribute("data-wasm").or_else(|| named.get_attribute("data-js"))
}

/// Starts the page.
///
/// # Panics
/// If the document has no place for it.
pub fn start() {
    panic::watch();
    #[cfg(debug_assertions)]
    if let Some(state) = crate::components::mock::from_query(&window::query()) {
        window::dress(state.language, state.theme);
        let root = window::document().get_element_by_id("app").expect("index.html has a place for the page");
        let props = RootProps { first: Rc::new(state), actions: Actions::none() };
        yew::Renderer::<Root>::with_root_and_props(root, props).render();
        return;
    }
    let (monotonic, wall) = browser_clocks();
    let mut clock = Clock::new(monotonic, wall);
    let reading = clock.read(monotonic, wall);
    let language = settings::language().unwrap_or_else(|| Language::from_tag(&window::browser_language()));
    let theme = settings::theme();
    window::dress(language, theme);
    let mut model = Model::new(&Birth {
        now: reading.now,
        language,
        theme,
        path: window::path(),
        last_room: settings::last_room(),
        build: BUILD,
        hidden: window::is_hidden(),
    });
    let local = crate::words::Local { wall: reading.wall, utc_offset_min: window::utc_offset_min() };
    let first = Rc::new(model.publish(reading.now, local));

    let driver = Driver::empty(clock, model);
    let acting = driver.clone();
    let actions = Actions::new(Callback::from(move |action| acting.act(action)));
    let root = window::document().get_element_by_id("app").expect("index.html has a place for the page");
    root.set_text_content(None);
    let page = yew::Renderer::<Root>::with_root_and_props(root, RootProps { first, actions }).render();
    driver.inner.borrow_mut().frame = Frame::new(Callback::from(move |state| page.send_message(state)));

    watch::listen(&driver);
    // After a panic the page must still be able to say so: tried in development with `?panic`.
    if cfg!(debug_assertions) && window::query().contains("panic") {
        gloo_timers::callback::Timeout::new(500, || panic!("asked for by ?panic")).forget();
    }
    driver.call(|inner| match settings::me() {
        Some(me) => inner.start_session(me),
        None => inner.ask_who_am_i(),
    });
    allow_weather(driver);
}

/// Shows the weather switch where the server allows it. A page built for development always has it.
fn allow_weather(driver: Driver) {
    spawn_local(async move {
        let allowed = cfg!(debug_assertions) || api::info().await.is_some_and(|info| info.weather);
        if allowed {
            driver.call(|inner| inner.model.allow_weather());
        }
    });
}

impl Driver {
    fn empty(clock: Clock, model: Model) -> Self {
        // What a socket tells goes through a handle that exists only once the driver does.
        let handle: Rc<RefCell<Option<Driver>>> = Rc::default();
        let tell = {
            let handle = Rc::clone(&handle);
            Rc::new(move |input| {
                let driver = handle.borrow().clone();
                if let Some(driver) = driver {
                    driver.input(input);
                }
            })
        };
        let inner = Inner {
            handle: None,
            clock,
            woke: false,
            model,
            session: None,
            sockets: Sockets::new(window::socket_url(), tell),
            keeper: Keeper::new(),
            frame: Frame::new(Callback::noop()),
            timer: None,
            timer_due: None,
            era: 0,
        };
        let driver =
            Self { inner: Rc::new(RefCell::new(inner)), queue: Rc::default(), running: Rc::new(Cell::new(false)) };
        driver.inner.borrow_mut().handle = Some(driver.clone());
        *handle.borrow_mut() = Some(driver.clone());
        driver
    }
}
