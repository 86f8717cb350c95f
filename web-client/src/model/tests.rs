//! Days of a page.
