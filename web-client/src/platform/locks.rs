//! Which tabs are alive, by Web Locks: a tab holds a lock named by its id for as long as it lives.
//!
//! Without locks (plain HTTP that is not localhost) a tab writes now and then when it was last alive. Must not live here:
//! what a dead tab leaves behind. Invariant: a living tab is never taken for dead where there are locks; where there are
//! none it may be, and then a post is sent by two tabs under one id, which the server stores once.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::settings;
use super::window::window;

/// A tab that has not said it is alive for this long is dead, where there are no locks. Timers of hidden tabs come once
/// a minute. Milliseconds.
pub const DEAD_AFTER_MS: u64 = 150_000;

fn manager() -> Option<(JsValue, Function)> {
    let locks = Reflect::get(&window().navigator(), &"locks".into()).ok()?;
    let request = Reflect::get(&locks, &"request".into()).ok()?.dyn_into().ok()?;
    Some((locks, request))
}

/// Tells whether this page has locks.
#[must_use]
pub fn available() -> bool {
    manager().is_some()
}

/// A lock that is held until this is dropped.
pub struct Held {
    release: Function,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.release.call0(&JsValue::NULL);
    }
}

/// Waits for the lock of a tab; absent where there are no locks.
pub async fn take(tab: &str) -> Option<Held> {
    let (locks, request) = manager()?;
    let release: Rc<RefCell<Option<Function>>> = Rc::default();
    let until_released = {
        let release = Rc::clone(&release);
        Promise::new(&mut |resolve, _| *release.borrow_mut() = Some(resolve))
    };
    let granted = Promise::new(&mut |resolve, reject| {
        let until_released = until_released.clone();
        let on_granted = Closure::once_into_js(move |_lock: JsValue| -> JsValue {
            let _ = resolve.call0(&JsValue::NULL);
            until_released.into()
        });
        let asked = request.call2(&locks, &format!("holdfast.tab.{tab}").into(), &on_granted);
        match asked.and_then(|promise| promise.dyn_into::<Promise>()) {
            // Refused outright, as in a document without an origin.
            Ok(promise) => {
                let ignore = Closure::once_into_js(|_: JsValue| {});
                let refused = Closure::once_into_js(move |why: JsValue| {
                    let _ = reject.call1(&JsValue::NULL, &why);
                });
                let then: Option<Function> =
                    Reflect::get(&promise, &"then".into()).ok().and_then(|then| then.dyn_into().ok());
                if let Some(then) = then {
                    let _ = then.call2(&promise, &ignore, &refused);
                }
            }
            Err(why) => {
                let _ = reject.call1(&JsValue::NULL, &why);
            }
        }
    });
    JsFuture::from(granted).await.ok()?;
    let release = release.borrow_mut().take()?;
    Some(Held { release })
}

/// Whole milliseconds: printing fractions would bring a printer of floating point into the page.
fn wall_ms() -> u64 {
    js_sys::Date::now() as u64
}

/// Says that this tab is alive, where there are no locks.
pub fn say_alive(tab: &str) {
    settings::write(&format!("{}{tab}", settings::TAB), Some(&wall_ms().to_string()));
}

/// Says that a tab is gone, where there are no locks.
pub fn say_gone(tab: &str) {
    settings::write(&format!("{}{tab}", settings::TAB), None);
}

/// Tells whether a tab has not been heard of for long, where there are no locks.
#[must_use]
pub fn seems_dead(tab: &str) -> bool {
    let said = settings::read(&format!("{}{tab}", settings::TAB)).and_then(|at| at.parse::<u64>().ok());
    said.is_none_or(|at| wall_ms().abs_diff(at) > DEAD_AFTER_MS)
}
