//! A menu that opens beside its button.
//!
//! Must not live here: what is in it. Invariant: it closes on Escape, on a click elsewhere and when the focus leaves it,
//! and on Escape the focus is back on its button.

use web_sys::{HtmlElement, Node};
use yew::prelude::*;

/// A menu.
#[derive(Clone)]
pub struct Menu {
    open: UseStateHandle<bool>,
    /// The element that holds the button and the menu.
    pub root: NodeRef,
}

/// Makes a closed menu.
#[hook]
pub fn use_menu() -> Menu {
    Menu { open: use_state_eq(|| false), root: use_node_ref() }
}

impl Menu {
    /// Tells whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.open
    }

    /// Closes it.
    pub fn close(&self) {
        self.open.set(false);
    }

    /// Opens or closes it at a click.
    #[must_use]
    pub fn toggle(&self) -> Callback<MouseEvent> {
        let open = self.open.clone();
        Callback::from(move |_| open.set(!*open))
    }

    /// Closes it on Escape.
    #[must_use]
    pub fn onkeydown(&self) -> Callback<KeyboardEvent> {
        let menu = self.clone();
        Callback::from(move |event: KeyboardEvent| {
            if event.key() == "Escape" && menu.is_open() {
                event.prevent_default();
                event.stop_propagation();
                menu.close();
                let button = menu
                    .root
                    .cast::<HtmlElement>()
                    .and_then(|root| root.query_selector("[aria-expanded]").ok().flatten());
                if let Some(button) = button.and_then(|button| wasm_bindgen::JsCast::dyn_into(button).ok()) {
                    super::frame::focus(&button);
                }
            }
        })
    }

    /// Closes it when the focus goes elsewhere.
    #[must_use]
    pub fn onfocusout(&self) -> Callback<FocusEvent> {
        let menu = self.clone();
        Callback::from(move |event: FocusEvent| {
            let to = event.related_target().and_then(|to| wasm_bindgen::JsCast::dyn_into::<Node>(to).ok());
            let is_inside = menu.root.cast::<Node>().is_some_and(|root| root.contains(to.as_ref()));
            // A press on something that takes no focus, inside the menu, leaves it open.
            if !is_inside && to.is_some() {
                menu.close();
            }
        })
    }
}
