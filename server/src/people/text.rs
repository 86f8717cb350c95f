//! What may be posted: judged once, at the edge, before the log is asked.
//!
//! Must not live here: membership and rates. Invariant: judging a text that was accepted changes nothing.

use shared::error::{ErrorCode, WireError};
use shared::limits::{EMOJI_BYTES, POST_BYTES, POST_GRAPHEMES};
use unicode_normalization::{UnicodeNormalization as _, is_nfc};
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory as _};
use unicode_segmentation::UnicodeSegmentation as _;

/// Judges a post's text and normalises it (NFC).
///
/// # Errors
/// [`ErrorCode::PostEmpty`] or [`ErrorCode::PostTooLong`].
pub fn post(text: String) -> Result<String, WireError> {
    let too_long = || {
        let words = format!("A post is at most {POST_GRAPHEMES} characters and {} KiB.", POST_BYTES / 1024);
        WireError::new(ErrorCode::PostTooLong, words)
    };
    if text.len() > POST_BYTES {
        return Err(too_long());
    }
    let text = if text.is_ascii() || is_nfc(&text) { text } else { text.nfc().collect() };
    if !text.chars().any(is_visible) {
        return Err(WireError::new(ErrorCode::PostEmpty, "A post needs at least one visible character."));
    }
    // Graphemes are at least one byte each, so short texts need no count.
    if text.len() > POST_BYTES || (text.len() > POST_GRAPHEMES && text.graphemes(true).count() > POST_GRAPHEMES) {
        return Err(too_long());
    }
    Ok(text)
}

/// Judges the emoji of a reaction: one grapheme that can be seen.
///
/// # Errors
/// [`ErrorCode::BadMessage`].
pub fn emoji(text: &str) -> Result<(), WireError> {
    let one = text.len() <= EMOJI_BYTES && text.graphemes(true).count() == 1 && text.chars().any(is_visible);
    if one { Ok(()) } else { Err(WireError::new(ErrorCode::BadMessage, "A reaction is one emoji.")) }
}

fn is_visible(c: char) -> bool {
    match c.general_category_group() {
        GeneralCategoryGroup::Letter => !matches!(c, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'),
        GeneralCategoryGroup::Number | GeneralCategoryGroup::Punctuation => true,
        GeneralCategoryGroup::Symbol => c != '\u{2800}',
        GeneralCategoryGroup::Mark | GeneralCategoryGroup::Separator | GeneralCategoryGroup::Other => false,
    }
}

/// Tells characters that turn the direction of the text around them.
#[must_use]
pub fn is_direction_control(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_are_normalised_and_bounded() {
        assert_eq!(post("e\u{301}".into()).as_deref(), Ok("é"));
        assert_eq!(post("  two\nlines ".into()).as_deref(), Ok("  two\nlines "));
        assert_eq!(post("你".repeat(4_000)).map(|text| text.len()), Ok(12_000));
        for (bad, code) in [
            (String::new(), ErrorCode::PostEmpty),
            (" \n\t".into(), ErrorCode::PostEmpty),
            ("\u{200b}\u{202e}\u{feff}".into(), ErrorCode::PostEmpty),
            ("a".repeat(4_001), ErrorCode::PostTooLong),
            ("你".repeat(4_001), ErrorCode::PostTooLong),
            ("a".repeat(16 * 1024 + 1), ErrorCode::PostTooLong),
        ] {
            assert_eq!(post(bad).map_err(|error| error.code), Err(code));
        }
    }

    #[test]
    fn a_reaction_is_one_emoji() {
        for good in ["👍", "👩‍💻", "❤️", "是"] {
            assert_eq!(emoji(good), Ok(()));
        }
        for bad in ["", "👍👍", " ", "\u{200b}"] {
            assert!(emoji(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
