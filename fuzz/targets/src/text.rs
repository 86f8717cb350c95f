//! Names, titles, posts and reactions, as people type them.
//!
//! Must not live here: who may use them. Invariant checked: what was accepted is accepted again and unchanged, keeps
//! its limits, and a suggestion is itself acceptable.

use server::people::{names, text};
use shared::limits::{EMOJI_BYTES, POST_BYTES};

/// Room in which a name of 32 characters must fit, whatever they are made of.
const NAME_BYTES: usize = 1_024;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(typed) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = names::person(typed) {
        assert_eq!(names::person(&name.shown), Ok(name.clone()), "{typed:?} is not stable as a name");
        assert!(!name.shown.is_empty() && name.shown.len() <= NAME_BYTES);
        assert_eq!(name.shown.trim(), name.shown);
        assert!(!name.shown.chars().any(|c| c.is_control() || text::is_direction_control(c)));
        assert!(!name.skeleton.is_empty(), "{typed:?} looks like nothing");
        let louder = name.shown.to_uppercase();
        if let Ok(louder) = names::person(&louder)
            && louder.shown.to_lowercase() == name.shown.to_lowercase()
        {
            assert_eq!(louder.skeleton, name.skeleton, "{typed:?} and its capitals are two names");
        }
    }
    match names::room(typed) {
        Ok(name) => assert_eq!(names::room(&name).as_deref(), Ok(&*name), "{typed:?} is not stable as a room"),
        Err(error) => {
            if let Some(offered) = error.suggestion {
                assert_eq!(names::room(&offered).as_deref(), Ok(&*offered), "offered for {typed:?}");
            }
        }
    }
    if let Ok(title) = names::title(typed) {
        assert_eq!(names::title(&title).as_deref(), Ok(&*title), "{typed:?} is not stable as a title");
    }
    if let Ok(body) = text::post(typed.to_owned()) {
        assert!(body.len() <= POST_BYTES);
        assert_eq!(text::post(body.clone()).as_deref(), Ok(&*body), "{typed:?} is not stable as a post");
    }
    if text::emoji(typed).is_ok() {
        assert!(typed.len() <= EMOJI_BYTES);
    }
}
