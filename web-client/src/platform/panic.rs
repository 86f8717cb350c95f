//! The error boundary: a panic replaces the page by one that says so.
//!
//! Lives here: a page made of plain DOM, whose buttons are the browser's own functions, since the program is dead by
//! then. Must not live here: anything that needs the program. Invariant: what was written stays on the device; the page
//! says so and offers to load anew.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

use js_sys::{Function, Reflect};
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::{Document, Element};

use super::window::{document, window};

static DEAD: AtomicBool = AtomicBool::new(false);

thread_local! {
    static DIAGNOSTICS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Tells whether the program has panicked: nothing of it may run any more.
#[must_use]
pub fn is_dead() -> bool {
    DEAD.load(Ordering::Relaxed)
}

/// Keeps the diagnostics to be shown after a panic.
pub fn keep_diagnostics(text: String) {
    DIAGNOSTICS.with(|kept| *kept.borrow_mut() = text);
}

/// Puts the hook in place.
pub fn watch() {
    // Yew puts a hook of its own in place unless it is told of another.
    yew::set_custom_panic_hook(Box::new(|info| {
        if !DEAD.swap(true, Ordering::Relaxed) {
            let report = report(info);
            web_sys::console::error_1(&JsValue::from_str(&format!("{info}")));
            // Nothing is left to try if even this fails.
            let _ = show(&document(), &report);
        }
    }));
}

/// Says where it happened. What a panic says may hold what somebody wrote, unless it is a text of the program.
fn report(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map_or_else(|| "somewhere".to_owned(), ToString::to_string);
    let words = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("");
    let diagnostics = DIAGNOSTICS.with(|kept| kept.try_borrow().map(|kept| kept.clone()).unwrap_or_default());
    format!("panic at {place} {words}\n{diagnostics}")
}

fn show(document: &Document, report: &str) -> Result<(), JsValue> {
    let body = document.body().ok_or(JsValue::NULL)?;
    body.set_text_content(None);
    let page = element(document, "main", "")?;
    page.set_class_name("panic");
    page.set_attribute("data-testid", "panic")?;
    page.set_attribute("role", "alert")?;
    for (tag, lang, words) in [
        ("h1", "en", "Something broke in this page"),
        ("p", "en", "Your unsent messages and drafts are kept on this device. Reload to go on."),
        ("h1", "zh-CN", "页面出错了"),
        ("p", "zh-CN", "未发送的消息和草稿仍保存在本设备。请刷新页面以继续。"),
    ] {
        let line = element(document, tag, words)?;
        line.set_attribute("lang", lang)?;
        page.append_child(&line)?;
    }
    let location: JsValue = window().location().into();
    button(document, &page, "Reload · 刷新", "panic-reload", &location, "reload", &JsValue::UNDEFINED)?;
    let clipboard = Reflect::get(&window().navigator(), &"clipboard".into())?;
    if clipboard.is_object() {
        let words = "Copy diagnostics · 复制诊断信息";
        button(document, &page, words, "panic-copy", &clipboard, "writeText", &JsValue::from_str(report))?;
    }
    let details = element(document, "pre", report)?;
    details.set_attribute("tabindex", "0")?;
    page.append_child(&details)?;
    body.append_child(&page)?;
    Ok(())
}

fn element(document: &Document, tag: &str, words: &str) -> Result<Element, JsValue> {
    let element = document.create_element(tag)?;
    if !words.is_empty() {
        element.set_text_content(Some(words));
    }
    Ok(element)
}

/// Adds a button that calls a function of the browser itself.
fn button(
    document: &Document,
    page: &Element,
    words: &str,
    id: &str,
    owner: &JsValue,
    method: &str,
    argument: &JsValue,
) -> Result<(), JsValue> {
    let button = element(document, "button", words)?;
    button.set_attribute("type", "button")?;
    button.set_attribute("data-testid", id)?;
    let method: Function = Reflect::get(owner, &method.into())?.dyn_into()?;
    let bound = method.bind1(owner, argument);
    button.add_event_listener_with_callback("click", bound.unchecked_ref())?;
    page.append_child(&button)?;
    Ok(())
}
