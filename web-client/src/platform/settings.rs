//! What this browser remembers, whoever uses it: `localStorage`, since the first frame needs it at once.
//!
//! Must not live here: anything unsent ([`super::shelf`]). Invariant: a browser that remembers nothing works the same,
//! and forgets.

use shared::ids::UserId;
use shared::model::Person;
use web_sys::Storage;

use super::window::window;
use crate::model::Setting;
use crate::store::Theme;
use crate::words::Language;

const LANGUAGE: &str = "holdfast.language";
const THEME: &str = "holdfast.theme";
/// Who is signed in here. Other tabs hear of a change by the `storage` event.
pub const ME: &str = "holdfast.me";
/// Whose session ended here last, without signing out: what they wrote is still on the device.
const ENDED: &str = "holdfast.ended";
const LAST_ROOM: &str = "holdfast.room";
/// Before the id of a tab: when it was last alive, where there are no locks.
pub const TAB: &str = "holdfast.tab.";

fn storage() -> Option<Storage> {
    window().local_storage().ok().flatten()
}

/// Reads a value.
#[must_use]
pub fn read(key: &str) -> Option<String> {
    storage()?.get_item(key).ok().flatten()
}

/// Writes or removes a value. Fails silently: what is lost is convenience.
pub fn write(key: &str, value: Option<&str>) {
    let Some(storage) = storage() else { return };
    let _ = match value {
        Some(value) => storage.set_item(key, value),
        None => storage.remove_item(key),
    };
}

/// Remembers a setting.
pub fn remember(setting: &Setting) {
    match setting {
        Setting::Language(language) => write(LANGUAGE, Some(language.tag())),
        Setting::Theme(Theme::System) => write(THEME, None),
        Setting::Theme(Theme::Light) => write(THEME, Some("light")),
        Setting::Theme(Theme::Dark) => write(THEME, Some("dark")),
        Setting::Me(me) => {
            let json = me.as_ref().and_then(|me| serde_json::to_string(me).ok());
            if read(ME) != json {
                write(ME, json.as_deref());
            }
        }
        Setting::NoLonger(user) => {
            write(ENDED, Some(&user.to_string()));
            if me().is_some_and(|me| me.id == *user) {
                write(ME, None);
            }
        }
        Setting::LastRoom(name) => write(LAST_ROOM, Some(name)),
    }
}

/// Returns the language chosen here.
#[must_use]
pub fn language() -> Option<Language> {
    read(LANGUAGE).map(|tag| Language::from_tag(&tag))
}

/// Returns the look chosen here.
#[must_use]
pub fn theme() -> Theme {
    match read(THEME).as_deref() {
        Some("light") => Theme::Light,
        Some("dark") => Theme::Dark,
        _ => Theme::System,
    }
}

/// Reads who a value of [`ME`] names.
#[must_use]
pub fn person(json: &str) -> Option<Person> {
    serde_json::from_str(json).ok()
}

/// Returns who was signed in here last.
#[must_use]
pub fn me() -> Option<Person> {
    person(&read(ME)?)
}

/// Returns whose session ended here last, without signing out.
#[must_use]
pub fn ended() -> Option<UserId> {
    read(ENDED)?.parse().ok()
}

/// Forgets whose session ended here last.
pub fn forget_ended() {
    write(ENDED, None);
}

/// Returns the room shown last.
#[must_use]
pub fn last_room() -> Option<String> {
    read(LAST_ROOM)
}
