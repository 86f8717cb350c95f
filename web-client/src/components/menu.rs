//! A menu that opens beside its button.
//!
//! Must not live here: what is in it. Invariant: it closes on Escape, on a press elsewhere and when the focus leaves it;
//! on Escape and when something was chosen the focus is back on its button, so a dialog gives it back there too.

use gloo_events::EventListener;
use wasm_bindgen::JsCast;
use web_sys::{EventTarget, HtmlElement, Node};
use yew::prelude::*;

use super::frame::{document, focus};
use crate::store::{Action, Actions};

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
    let menu = Menu { open: use_state_eq(|| false), root: use_node_ref() };
    let watching = menu.clone();
    use_effect_with(menu.is_open(), move |is_open| {
        // Safari gives a button that is pressed no focus, and what takes none gives none away: then no focus leaves.
        let listener = document().filter(|_| *is_open).map(|document| {
            EventListener::new(&document, "pointerdown", move |event| watching.close_outside(event.target()))
        });
        move || drop(listener)
    });
    menu
}

impl Menu {
    /// Tells whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.open
    }

    /// Closes it, with the focus on its button.
    fn close(&self) {
        self.open.set(false);
        let root = self.root.cast::<HtmlElement>();
        let button = root.and_then(|root| root.query_selector("[aria-expanded]").ok().flatten());
        if let Some(button) = button.and_then(|button| button.dyn_into().ok()) {
            focus(&button);
        }
    }

    /// Closes it when something happens at an element that is not in it.
    fn close_outside(&self, at: Option<EventTarget>) {
        let at = at.and_then(|at| at.dyn_into::<Node>().ok());
        if at.is_some() && !self.root.cast::<Node>().is_some_and(|root| root.contains(at.as_ref())) {
            self.open.set(false);
        }
    }

    /// Closes it at a click, and does this.
    #[must_use]
    pub fn choose(&self, actions: &Actions, action: Action) -> Callback<MouseEvent> {
        let (menu, actions) = (self.clone(), actions.clone());
        Callback::from(move |_| {
            menu.close();
            actions.act(action.clone());
        })
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
            }
        })
    }

    /// Closes it when the focus goes elsewhere.
    #[must_use]
    pub fn onfocusout(&self) -> Callback<FocusEvent> {
        let menu = self.clone();
        Callback::from(move |event: FocusEvent| menu.close_outside(event.related_target()))
    }
}
