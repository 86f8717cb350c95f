//! What people and rooms may be called, and when two names look the same.
//!
//! Must not live here: whether a name is free, which the log decides by its skeleton. Invariant: what [`person`] or
//! [`room`] accepted, it accepts again unchanged.
//!
//! A person's name is NFKC, 1 to 32 graphemes, with single spaces inside and none around, and holds no control,
//! format, private or unassigned character; a zero-width joiner only between emoji; at most eight combining marks
//! after another. A room's name is what stands in its address: lower-case letters and digits of any script, and single
//! hyphens between them; letters without case, such as Chinese characters, are welcome.

use shared::error::{ErrorCode, WireError};
use shared::limits::{NAME_GRAPHEMES, TITLE_GRAPHEMES};
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_properties::{GeneralCategory, UnicodeEmoji as _, UnicodeGeneralCategory as _};
use unicode_segmentation::UnicodeSegmentation as _;

use crate::ambient::Ambient;
use crate::log::SYSTEM_NAME;

/// Most combining marks after one character: enough for every script, too few to drown the line above.
const COMBINING_MARKS: usize = 8;
/// Largest name in bytes, whatever its graphemes hold.
const NAME_BYTES: usize = 256;
/// Largest title in bytes.
const TITLE_BYTES: usize = 1_024;
const ZERO_WIDTH_JOINER: char = '\u{200d}';
const EMOJI_VARIATION: char = '\u{fe0f}';
const KEYCAP: char = '\u{20e3}';

/// A name that may be used, with what it looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As it is shown.
    pub shown: String,
    /// Equal for names that look the same (UTS 39 §4), and for those that differ in case only.
    pub skeleton: String,
}

impl Name {
    /// Refuses the server's own name and what looks like it, as one that is taken: nobody has it in the log.
    ///
    /// # Errors
    /// [`ErrorCode::NameTaken`].
    pub fn must_not_be_the_servers(&self) -> Result<(), WireError> {
        if self.skeleton == skeleton(SYSTEM_NAME) {
            return Err(WireError::new(ErrorCode::NameTaken, "This is the server's own name."));
        }
        Ok(())
    }
}

fn invalid(words: &str) -> WireError {
    WireError::new(ErrorCode::NameInvalid, words)
}

/// Judges a person's name.
///
/// # Errors
/// [`ErrorCode::NameInvalid`], saying what to change.
pub fn person(text: &str) -> Result<Name, WireError> {
    if text.len() > NAME_BYTES * 4 {
        return Err(invalid("A name is at most 32 characters long, and 256 bytes."));
    }
    let normal: String = text.nfkc().collect();
    let shown = normal.split_whitespace().collect::<Vec<_>>().join(" ");
    if shown.is_empty() {
        return Err(invalid("A name needs at least one character."));
    }
    if shown.graphemes(true).count() > NAME_GRAPHEMES || shown.len() > NAME_BYTES {
        return Err(invalid("A name is at most 32 characters long, and 256 bytes."));
    }
    check_characters(&shown)?;
    if !shown.chars().any(|c| c.is_alphanumeric() || is_emoji(c)) {
        return Err(invalid("A name needs at least one letter, digit or emoji."));
    }
    Ok(Name { skeleton: skeleton(&shown), shown })
}

fn check_characters(name: &str) -> Result<(), WireError> {
    let characters: Vec<char> = name.chars().collect();
    let mut marks = 0;
    for (at, &c) in characters.iter().enumerate() {
        marks = if is_combining_mark(c) { marks + 1 } else { 0 };
        if marks > COMBINING_MARKS || (marks == 1 && at == 0) {
            return Err(invalid("A name holds too many marks on one character."));
        }
        let fine = match c.general_category() {
            GeneralCategory::Control
            | GeneralCategory::Surrogate
            | GeneralCategory::PrivateUse
            | GeneralCategory::Unassigned
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator => false,
            GeneralCategory::Format => {
                c == ZERO_WIDTH_JOINER && joins_emoji(&characters, at) || is_tag_of_a_flag(&characters, at)
            }
            GeneralCategory::SpaceSeparator => c == ' ',
            GeneralCategory::NonspacingMark if is_variation(c) => varies(&characters, at),
            _visible => !is_blank_letter(c),
        };
        if !fine {
            return Err(invalid("A name holds a character that cannot be seen or changes how text is read."));
        }
    }
    Ok(())
}

/// Letters, marks and symbols that show as nothing, loved by those who want an empty name.
fn is_blank_letter(c: char) -> bool {
    matches!(
        c,
        '\u{115f}'
            | '\u{1160}'
            | '\u{3164}'
            | '\u{ffa0}'
            | '\u{2800}'
            | '\u{034f}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{fffc}'
            | '\u{16fe4}'
            | '\u{1d159}'
    )
}

/// Marks that choose a form of what stands before them and show as nothing themselves.
fn is_variation(c: char) -> bool {
    matches!(c, '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Tells whether there is a form to choose: of an emoji, a keycap, a Chinese character or another letter without case.
fn varies(characters: &[char], at: usize) -> bool {
    let before = characters[..at].last().copied();
    before.is_some_and(|c| is_emoji(c) || c.general_category() == GeneralCategory::OtherLetter)
        || characters.get(at + 1) == Some(&KEYCAP)
}

fn joins_emoji(characters: &[char], at: usize) -> bool {
    let before = characters[..at].iter().rev().find(|&&c| c != EMOJI_VARIATION);
    let after = characters.get(at + 1);
    before.copied().is_some_and(is_emoji) && after.copied().is_some_and(is_emoji)
}

/// Digits and `#` count as emoji in Unicode, since keycaps are made of them; not here.
fn is_emoji(c: char) -> bool {
    !c.is_ascii() && c.is_emoji_char()
}

/// The flags of England, Scotland and Wales are spelt in invisible tags after a black flag.
fn is_tag_of_a_flag(characters: &[char], at: usize) -> bool {
    let is_tag = |c: char| ('\u{e0020}'..='\u{e007f}').contains(&c);
    is_tag(characters[at]) && characters[..at].iter().rev().find(|&&c| !is_tag(c)) == Some(&'\u{1f3f4}')
}

/// Returns what a name looks like: equal for names a reader could take for one another.
#[must_use]
pub fn skeleton(name: &str) -> String {
    // Case first, so that a capital and what it resembles meet; and again after, for what the prototypes brought. Through
    // the capitals, since some letters have several small forms: Σ is σ, and ς at a word's end.
    let capitals = name.chars().flat_map(char::to_uppercase);
    let folded: String = capitals.flat_map(char::to_lowercase).filter(|c| !c.is_whitespace()).collect();
    let prototypes: String = unicode_security::skeleton(&folded).collect();
    let lowered: String = prototypes.chars().flat_map(char::to_lowercase).collect();
    // A capital I is an l to the eye and an i to whoever types it: all three are one.
    unicode_security::skeleton(&lowered).map(|c| if c == 'i' { 'l' } else { c }).collect()
}

/// Offers names like one that is taken, best first.
pub fn suggestions<'a>(name: &str, ambient: &'a dyn Ambient) -> impl Iterator<Item = Name> + use<'a> {
    let base: Vec<&str> = name.graphemes(true).take(NAME_GRAPHEMES - 5).collect();
    let base = base.concat();
    let drawn = move || u32::from(u16::from_ne_bytes(ambient.random())) % 9_000 + 1_000;
    (2..=9_u32)
        .chain(std::iter::repeat_with(drawn).take(8))
        .filter_map(move |number| person(&format!("{} {number}", base.trim_end())).ok())
}

/// Judges a room's name.
///
/// # Errors
/// [`ErrorCode::NameInvalid`], with a name that would do where one can be made.
pub fn room(text: &str) -> Result<String, WireError> {
    if text.len() > NAME_BYTES * 4 {
        return Err(invalid("A room's name is at most 32 characters long, and 256 bytes."));
    }
    let normal = address(text);
    let slug = slug(&normal);
    if slug.is_empty() {
        return Err(invalid("A room's name needs at least one letter or digit."));
    }
    if slug == normal && is_short(&slug) {
        return Ok(slug);
    }
    let shorter: Vec<&str> = slug.graphemes(true).take(NAME_GRAPHEMES).collect();
    // What was left out may have stood between a letter and its mark, which are one character now.
    let shorter = address(shorter.concat().trim_matches('-'));
    let mut refusal =
        invalid("A room's name is lower-case letters and digits with hyphens between, at most 32 characters.");
    if is_short(&shorter) && self::slug(&shorter) == shorter && address(&shorter) == shorter {
        refusal = refusal.suggest(&shorter);
    }
    Err(refusal)
}

fn address(text: &str) -> String {
    text.nfkc().flat_map(char::to_lowercase).nfkc().collect()
}

fn is_short(name: &str) -> bool {
    name.graphemes(true).count() <= NAME_GRAPHEMES && name.len() <= NAME_BYTES
}

/// Keeps letters, digits and as many of their marks as can be read; everything else becomes one hyphen between.
fn slug(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut marks = 0;
    for c in text.chars() {
        marks = if is_combining_mark(c) { marks + 1 } else { 0 };
        let has_place = marks == 0 || (!out.is_empty() && !out.ends_with('-'));
        if is_variation(c) || marks > COMBINING_MARKS {
            // Whoever reads the name would not miss it.
        } else if has_place && (marks > 0 || c.is_alphanumeric()) && !is_blank_letter(c) {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.truncate(out.trim_end_matches('-').len());
    out
}

/// Judges a room's title: one line, may be empty.
///
/// # Errors
/// [`ErrorCode::NameInvalid`].
pub fn title(text: &str) -> Result<String, WireError> {
    if text.len() > TITLE_BYTES {
        return Err(invalid("A title is at most 120 characters long."));
    }
    let shown = text.nfc().collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ");
    // Normalising may make it longer.
    if shown.len() > TITLE_BYTES || shown.graphemes(true).count() > TITLE_GRAPHEMES {
        return Err(invalid("A title is at most 120 characters long."));
    }
    if shown.chars().any(|c| c.is_control() || super::text::is_direction_control(c)) {
        return Err(invalid("A title holds a character that cannot be seen or changes how text is read."));
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_stand_and_are_normalised() {
        for (typed, shown) in [
            ("Ann", "Ann"),
            ("  Ann   Lee ", "Ann Lee"),
            ("王小明", "王小明"),
            ("Ａｎｎ", "Ann"),
            ("Zoë", "Zoë"),
            ("さくら", "さくら"),
            ("👩‍💻", "👩‍💻"),
            ("Ann 🏴󠁧󠁢󠁷󠁬󠁳󠁿", "Ann 🏴󠁧󠁢󠁷󠁬󠁳󠁿"),
            ("नमस्ते", "नमस्ते"),
            ("7", "7"),
            ("葛\u{e0100}城", "葛\u{e0100}城"),
            ("Ann ❤\u{fe0f}", "Ann ❤\u{fe0f}"),
            ("1\u{fe0f}\u{20e3}", "1\u{fe0f}\u{20e3}"),
        ] {
            let name = person(typed).unwrap_or_else(|error| panic!("{typed:?} was refused: {error}"));
            assert_eq!(name.shown, shown);
            assert_eq!(person(&name.shown), Ok(name.clone()), "{typed:?} is not stable");
        }
    }

    #[test]
    fn names_that_hide_or_mislead_are_refused() {
        let drowned = format!("a{}", "\u{0301}".repeat(10));
        let long = "a".repeat(33);
        for bad in [
            "",
            "   ",
            "\u{200b}",
            "a\u{200b}b",
            "a\u{202e}b",
            "a\u{2066}b",
            "a\u{0}b",
            "a\u{1b}[31m",
            "a\u{200d}b",
            "\u{3164}",
            "\u{feff}a",
            "\u{e000}",
            "---",
            "\u{0301}a",
            &drowned,
            &long,
            "a\u{ad}b",
            "a\u{fe0f}b",
            "a\u{e0100}",
            "a\u{1d159}",
            "a\u{fffc}b",
            "a\u{16fe4}",
        ] {
            assert_eq!(person(bad).map_err(|error| error.code), Err(ErrorCode::NameInvalid), "{bad:?} was accepted");
        }
    }

    #[test]
    fn names_that_look_the_same_have_one_skeleton() {
        let looks = |text: &str| person(text).unwrap().skeleton;
        for (one, other) in [
            ("Ann", "ANN"),
            ("paypal", "pаypаl"),
            ("Ann Lee", "AnnLee"),
            ("scope", "ѕсоре"),
            ("Il", "ll"),
            ("O0", "OO"),
            ("Ας", "ΑΣ"),
        ] {
            assert_eq!(looks(one), looks(other), "{one} and {other} look the same");
        }
        for (one, other) in [("Ann", "Anna"), ("王小明", "王小朋")] {
            assert_ne!(looks(one), looks(other), "{one} and {other} look different");
        }
    }

    #[test]
    fn a_suggestion_is_itself_a_good_name() {
        for taken in ["Ann", &"x".repeat(32), "王小明"] {
            let offered: Vec<Name> = suggestions(taken, &crate::ambient::System).collect();
            assert!(offered.len() >= 8, "{taken}");
            for name in offered {
                assert_eq!(person(&name.shown), Ok(name.clone()));
                assert_ne!(name.skeleton, skeleton(taken));
            }
        }
    }

    #[test]
    fn rooms_have_names_fit_for_an_address() {
        for (typed, name) in
            [("general", "general"), ("General", "general"), ("読書会", "読書会"), ("项目-2", "项目-2"), ("é", "é")]
        {
            assert_eq!(room(typed).as_deref(), Ok(name));
        }
        for (typed, suggestion) in [
            ("my room", Some("my-room")),
            ("--a--", Some("a")),
            ("a/b", Some("a-b")),
            ("gener\u{fe0f}al", Some("general")),
            ("general\u{e0100}", Some("general")),
            ("\u{345}a", Some("a")),
            ("///", None),
            ("", None),
        ] {
            let refused = room(typed).unwrap_err();
            assert_eq!((refused.code, refused.suggestion.as_deref()), (ErrorCode::NameInvalid, suggestion), "{typed}");
        }
        let offered = room(&format!("x{}", "\u{301}".repeat(10))).unwrap_err().suggestion.unwrap();
        assert_eq!((offered.chars().count(), room(&offered)), (1 + COMBINING_MARKS, Ok(offered.clone())));
    }

    #[test]
    fn a_title_that_normalising_makes_too_long_is_refused() {
        let longer = format!("a{}", "\u{344}".repeat(TITLE_BYTES / 3));
        assert!(longer.len() < TITLE_BYTES && longer.nfc().collect::<String>().len() > TITLE_BYTES);
        assert_eq!(title(&longer).unwrap_err().code, ErrorCode::NameInvalid);
    }
}
