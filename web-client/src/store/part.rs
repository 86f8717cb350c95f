//! A part of the state that is compared by what it is, not by what is in it.
//!
//! Must not live here: anything about its content. Invariant: two equal parts show the same; a part that was changed is
//! another part.

use std::ops::Deref;
use std::rc::Rc;

/// A shared part of the state, equal only to itself. Cheap to clone and to compare, whatever its size.
#[derive(Debug, Default)]
pub struct Part<T>(Rc<T>);

impl<T> Part<T> {
    /// Makes a part.
    #[must_use]
    pub fn new(content: T) -> Self {
        Self(Rc::new(content))
    }
}

impl<T: Clone> Part<T> {
    /// Returns the content to change it; what was handed out before stays as it was.
    pub fn change(&mut self) -> &mut T {
        Rc::make_mut(&mut self.0)
    }
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> PartialEq for Part<T> {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
