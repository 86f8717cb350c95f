//! Every text of the page, in English and Simplified Chinese, side by side.
//!
//! Lives here: words. Must not live here: when they are shown ([`crate::status`]). Invariant: a [`Text`] has words in
//! both languages or the build breaks; so has every error code, close code and stop reason of `shared`.

mod connection;
mod dates;
mod errors;
mod table;
mod word;

use std::borrow::Cow;

use shared::time::Timestamp;

pub use connection::{close_words, happened, state_name, stop_words};
pub use dates::{Local, civil_from_days};
pub use errors::{error_words, reset_words};
pub use table::Text;
pub use word::Word;

/// A language of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
}

impl Language {
    /// All of them, in the order of the switch.
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// Returns the language tag (BCP 47) for `<html lang>`, the switch and the settings.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-CN",
        }
    }

    /// Returns the language's own name.
    #[must_use]
    pub const fn own_name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Chinese => "简体中文",
        }
    }

    /// Picks the page's language from a tag such as a browser's: anything Chinese is Chinese, the rest English.
    #[must_use]
    pub fn from_tag(tag: &str) -> Self {
        let primary = tag.split(['-', '_']).next().unwrap_or("");
        if primary.eq_ignore_ascii_case("zh") { Self::Chinese } else { Self::English }
    }

    /// Says a word.
    #[must_use]
    pub fn word(self, word: Word) -> &'static str {
        let [english, chinese] = word.both();
        match self {
            Self::English => english,
            Self::Chinese => chinese,
        }
    }

    /// Says a text.
    #[must_use]
    pub fn say(self, text: &Text) -> Cow<'static, str> {
        match self {
            Self::English => text.english(),
            Self::Chinese => text.chinese(),
        }
    }

    /// Says a moment, short: the hour of today, else the day too.
    #[must_use]
    pub fn moment(self, at: Timestamp, local: Local) -> String {
        local.moment(self, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_chosen_from_the_browsers_tag() {
        for (tag, language) in [
            ("zh-CN", Language::Chinese),
            ("zh", Language::Chinese),
            ("ZH-hant-TW", Language::Chinese),
            ("zh_CN", Language::Chinese),
            ("en-GB", Language::English),
            ("fr", Language::English),
            ("", Language::English),
            ("zhuang", Language::English),
        ] {
            assert_eq!(Language::from_tag(tag), language, "{tag:?}");
        }
    }
}
