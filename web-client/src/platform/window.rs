//! The window: what it tells, and what the page may do to it.
//!
//! Must not live here: what follows from it. Invariant: listeners live as long as the page; each is put once.

use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::{Document, Event, EventTarget, HtmlElement, HtmlTextAreaElement, Window};

use crate::store::Theme;
use crate::words::Language;

/// Returns the window.
///
/// # Panics
/// Outside a browser's window, where no page is.
#[must_use]
pub fn window() -> Window {
    web_sys::window().expect("a page runs in a window")
}

/// Returns the document.
///
/// # Panics
/// Outside a browser's window, where no page is.
#[must_use]
pub fn document() -> Document {
    window().document().expect("a window has a document")
}

/// Calls `take` on every event of this name, as long as the page lives.
pub fn listen(target: &EventTarget, name: &str, take: impl FnMut(Event) + 'static) {
    let closure = Closure::<dyn FnMut(Event)>::new(take);
    // A browser without this event is a browser in which it never comes.
    let _ = target.add_event_listener_with_callback(name, closure.as_ref().unchecked_ref());
    closure.forget();
}

/// Tells whether the page is hidden.
#[must_use]
pub fn is_hidden() -> bool {
    document().hidden()
}

/// Tells whether the device believes to be online.
#[must_use]
pub fn is_online() -> bool {
    window().navigator().on_line()
}

/// Returns the path of the address.
#[must_use]
pub fn path() -> String {
    window().location().pathname().unwrap_or_default()
}

/// Returns the query of the address, with its question mark.
#[must_use]
pub fn query() -> String {
    window().location().search().unwrap_or_default()
}

/// Returns the address of the server's socket.
#[must_use]
pub fn socket_url() -> String {
    let location = window().location();
    let secure = location.protocol().is_ok_and(|protocol| protocol == "https:");
    let scheme = if secure { "wss" } else { "ws" };
    format!("{scheme}://{}/ws", location.host().unwrap_or_default())
}

/// Shows another address without loading anything.
pub fn go(path: &str, replace: bool) {
    if self::path() == path {
        return;
    }
    let Ok(history) = window().history() else { return };
    let done = if replace {
        history.replace_state_with_url(&JsValue::NULL, "", Some(path))
    } else {
        history.push_state_with_url(&JsValue::NULL, "", Some(path))
    };
    // Browsers refuse more than about a hundred in half a minute; the page goes on under the old address.
    let _ = done;
}

/// Sets the title, if it is another one.
pub fn set_title(title: &str) {
    let document = document();
    if document.title() != title {
        document.set_title(title);
    }
}

/// Sets language and look of the whole document.
pub fn dress(language: Language, theme: Theme) {
    let Some(root) = document().document_element() else { return };
    let _ = root.set_attribute("lang", language.tag());
    let _ = match theme {
        Theme::System => root.remove_attribute("data-theme"),
        Theme::Light => root.set_attribute("data-theme", "light"),
        Theme::Dark => root.set_attribute("data-theme", "dark"),
    };
}

/// Returns the browser's preferred language tag.
#[must_use]
pub fn browser_language() -> String {
    window().navigator().language().unwrap_or_default()
}

/// Returns how many minutes to add to UTC for the person's own time.
#[must_use]
pub fn utc_offset_min() -> i32 {
    -(js_sys::Date::new_0().get_timezone_offset() as i32)
}

/// Loads the page anew.
pub fn reload() {
    let _ = window().location().reload();
}

/// Puts text on the clipboard; absent where the browser does not let this page.
#[must_use]
pub fn copy(text: &str) -> Option<Promise> {
    give_to_clipboard(text).or_else(|| copy_selected(text).map(|()| Promise::resolve(&JsValue::UNDEFINED)))
}

/// Over plain HTTP there is no clipboard to give to, but what is selected can be copied.
fn copy_selected(text: &str) -> Option<()> {
    let document = document();
    let before = document.active_element()?;
    // An open dialog takes the focus from everything outside of it.
    let host = before.closest("dialog").ok().flatten().or_else(|| document.body().map(Into::into))?;
    let area: HtmlTextAreaElement = document.create_element("textarea").ok()?.dyn_into().ok()?;
    area.set_value(text);
    area.set_class_name("unseen");
    host.append_child(&area).ok()?;
    area.select();
    let command =
        Reflect::get(&document, &"execCommand".into()).ok().and_then(|found| found.dyn_into::<Function>().ok());
    let copied = command.and_then(|command| command.call1(&document, &"copy".into()).ok());
    area.remove();
    if let Ok(before) = before.dyn_into::<HtmlElement>() {
        // What had the focus is still there: nothing ran in between.
        let _ = before.focus();
    }
    (copied?.as_bool() == Some(true)).then_some(())
}

fn give_to_clipboard(text: &str) -> Option<Promise> {
    let clipboard = Reflect::get(&window().navigator(), &"clipboard".into()).ok()?;
    let write: Function = Reflect::get(&clipboard, &"writeText".into()).ok()?.dyn_into().ok()?;
    write.call1(&clipboard, &text.into()).ok()?.dyn_into().ok()
}

/// Calls `draw` before the next frame is drawn.
pub fn on_next_frame(draw: &Closure<dyn FnMut(f64)>) {
    let _ = window().request_animation_frame(draw.as_ref().unchecked_ref());
}
