//! What the browser tells of itself, turned into inputs: network, visibility, sleep, the address, other tabs, the end.
//!
//! Must not live here: what follows from it. Invariant: every way a page can come back to life leads to
//! [`Input::Woke`], which costs one probe.

use shared::session::Input;
use wasm_bindgen::JsCast as _;
use web_sys::{EventTarget, StorageEvent};

use super::keep::Found;
use super::{Driver, Inner};
use crate::platform::{settings, window};

/// Puts all listeners in place.
pub(super) fn listen(driver: &Driver) {
    let (page, document) = (window::window(), window::document());

    for (name, online) in [("online", true), ("offline", false)] {
        let driver = driver.clone();
        window::listen(&page, name, move |_| driver.input(Input::Online(online)));
    }
    // Out of the back-forward cache, or thawed: what changed meanwhile was not told.
    for (target, name) in [(AsRef::<EventTarget>::as_ref(&page), "pageshow"), (document.as_ref(), "resume")] {
        let driver = driver.clone();
        window::listen(target, name, move |_| driver.call(Inner::came_back));
    }

    let shown = driver.clone();
    window::listen(&document, "visibilitychange", move |_| {
        let visible = !window::is_hidden();
        shown.call(move |inner| inner.visibility(visible));
    });

    let gone = driver.clone();
    window::listen(&page, "pagehide", move |_| {
        gone.call(|inner| {
            inner.flush_drafts();
            inner.say_gone();
        });
    });

    let leaving = driver.clone();
    window::listen(&page, "beforeunload", move |event| {
        let would_lose = leaving.inner.try_borrow().is_ok_and(|inner| inner.model.would_lose());
        if would_lose {
            event.prevent_default();
        }
    });

    let moved = driver.clone();
    window::listen(&page, "popstate", move |_| {
        let path = window::path();
        moved.call(move |inner| {
            let reading = inner.read_clock();
            inner.with_model(reading, |model, ctx| model.address_changed(&path, ctx));
        });
    });

    let other = driver.clone();
    window::listen(&page, "storage", move |event| {
        let Some(event) = event.dyn_ref::<StorageEvent>() else { return };
        if event.key().as_deref() == Some(settings::ME) {
            let who = event.new_value().as_deref().and_then(settings::person);
            other.call(move |inner| inner.model.signed_in_elsewhere(who.as_ref()));
        }
    });
}

impl Inner {
    fn came_back(&mut self) {
        let reading = self.read_clock();
        self.session_input(Input::Online(window::is_online()), reading);
        self.session_input(Input::Visible(!window::is_hidden()), reading);
        self.session_input(Input::Woke, reading);
    }

    fn visibility(&mut self, visible: bool) {
        let reading = self.read_clock();
        self.model.visible(visible);
        self.session_input(Input::Visible(visible), reading);
        if visible {
            self.look_for_orphans(Found::Later);
        } else {
            self.flush_drafts();
        }
    }
}
