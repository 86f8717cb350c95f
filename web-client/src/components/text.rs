//! The text of a post as virtual DOM: links become links, everything else stays text.
//!
//! Lives here: where a link begins and ends. Must not live here: Markdown. Invariant: the pieces, put together, are
//! exactly the text that came; nothing of a post is ever parsed as HTML, and no address but http, https and mailto
//! becomes a link.

use yew::prelude::*;

use crate::platform::letters::is_letter_or_digit;

/// A piece of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As it is, line breaks included.
    Plain(&'a str),
    /// An address that is its own text.
    Link(&'a str),
}

/// The beginnings of what may become a link.
const SCHEMES: [&str; 3] = ["https://", "http://", "mailto:"];
/// The most links of one post that are made; what follows stays text.
const MAX_LINKS: usize = 200;
/// Posts of up to this many emoji and nothing else are shown large.
const HUGE_EMOJI: usize = 6;

/// Cuts a text into pieces.
#[must_use]
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut plain_from = 0;
    let mut at = 0;
    let mut links = 0;
    while at < text.len() && links < MAX_LINKS {
        if let Some(length) = link_length(text, at) {
            if plain_from < at {
                pieces.push(Piece::Plain(&text[plain_from..at]));
            }
            pieces.push(Piece::Link(&text[at..at + length]));
            at += length;
            plain_from = at;
            links += 1;
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    if plain_from < text.len() {
        pieces.push(Piece::Plain(&text[plain_from..]));
    }
    pieces
}

/// Returns how long the link is that begins at `at`, if one does.
fn link_length(text: &str, at: usize) -> Option<usize> {
    let rest = &text[at..];
    // Most characters begin no scheme; look at one byte before comparing.
    if !matches!(rest.as_bytes().first(), Some(b'h' | b'H' | b'm' | b'M')) {
        return None;
    }
    let scheme =
        SCHEMES.iter().find(|scheme| rest.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme)))?;
    // `xhttp://` is a word of its own; a Chinese character before a link is no such thing.
    if text[..at].chars().next_back().is_some_and(|before| before.is_ascii_alphanumeric()) {
        return None;
    }
    let address = &rest[scheme.len()..];
    let end = address.find(ends_link).unwrap_or(address.len());
    let address = trim_tail(&address[..end]);
    let host_begins = address.chars().next()?;
    let is_whole = match *scheme {
        "mailto:" => address.split_once('@').is_some_and(|(who, host)| !who.is_empty() && host.contains('.')),
        _ => is_letter_or_digit(host_begins) || host_begins == '[',
    };
    is_whole.then_some(scheme.len() + address.len())
}

/// Tells whether a character cannot be part of an address as people write it: white space, controls, characters that
/// turn the direction of text, quotes and brackets that enclose, and the punctuation of Chinese and Japanese.
fn ends_link(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '<' | '>' | '"' | '`' | '{' | '}' | '|' | '\\' | '^')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        || matches!(c, '\u{2018}'..='\u{201f}' | '\u{3000}'..='\u{303f}' | '\u{ff01}' | '\u{ff08}' | '\u{ff09}')
        || matches!(c, '\u{ff0c}' | '\u{ff0e}' | '\u{ff1a}' | '\u{ff1b}' | '\u{ff1f}' | '\u{2026}')
}

/// Leaves out the punctuation after an address, and closing brackets that were opened before it.
fn trim_tail(address: &str) -> &str {
    let count = |bracket: char| address.matches(bracket).count();
    let mut round = count(')').saturating_sub(count('('));
    let mut square = count(']').saturating_sub(count('['));
    address.trim_end_matches(|last: char| match last {
        '.' | ',' | ':' | ';' | '!' | '?' | '\'' | '*' | '_' | '~' => true,
        ')' => take_one(&mut round),
        ']' => take_one(&mut square),
        _ => false,
    })
}

/// Takes one of what is left, if anything is.
fn take_one(left: &mut usize) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

/// Tells whether a text is a few emoji and nothing else.
#[must_use]
pub fn is_emoji_only(text: &str) -> bool {
    let mut count = 0;
    for c in text.chars() {
        match c {
            // Joiners, variation selectors, skin tones: parts of the emoji before them.
            '\u{200d}' | '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' => {}
            '\u{1f300}'..='\u{1faff}' | '\u{2600}'..='\u{27bf}' | '\u{1f1e6}'..='\u{1f1ff}' => count += 1,
            ' ' => {}
            _ => return false,
        }
    }
    (1..=HUGE_EMOJI).contains(&count)
}

/// Turns a post's text into virtual DOM.
pub fn draw_text(text: &str) -> Html {
    pieces(text)
        .into_iter()
        .map(|piece| match piece {
            Piece::Plain(plain) => html! { { plain } },
            Piece::Link(address) => html! {
                <a href={address.to_owned()} target="_blank" rel="noopener noreferrer nofollow">{ address }</a>
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(text: &str) -> Vec<&str> {
        let pieces = pieces(text);
        let whole: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Plain(text) | Piece::Link(text) => *text,
            })
            .collect();
        assert_eq!(whole, text, "pieces must add up to the text");
        pieces
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Link(link) => Some(link),
                Piece::Plain(_) => None,
            })
            .collect()
    }

    #[test]
    fn addresses_become_links_and_the_sentence_around_them_does_not() {
        for (text, expected) in [
            ("see https://example.org/a?b=c#d.", vec!["https://example.org/a?b=c#d"]),
            ("(http://example.org)", vec!["http://example.org"]),
            (
                "https://en.wikipedia.org/wiki/Rust_(language), yes",
                vec!["https://en.wikipedia.org/wiki/Rust_(language)"],
            ),
            ("HTTPS://EXAMPLE.ORG!", vec!["HTTPS://EXAMPLE.ORG"]),
            ("mailto:a@example.org;", vec!["mailto:a@example.org"]),
            ("看https://example.org/路径。谢谢", vec!["https://example.org/路径"]),
            ("见\u{ff08}https://example.org\u{ff09}\u{ff0c}好", vec!["https://example.org"]),
            ("http://[::1]:8080/x http://b.example", vec!["http://[::1]:8080/x", "http://b.example"]),
            ("line\nhttps://a.example\nline", vec!["https://a.example"]),
        ] {
            assert_eq!(links(text), expected, "in {text:?}");
        }
    }

    #[test]
    fn nothing_else_becomes_a_link() {
        for text in [
            "",
            "javascript:alert(1)",
            "data:text/html,x",
            "xhttps://example.org",
            "https://",
            "https://.",
            "http://\u{202e}gro.elpmaxe",
            "mailto:",
            "mailto:nobody",
            "hm",
            "<a href=\"x\">",
            "ftp://example.org",
        ] {
            assert_eq!(links(text), Vec::<&str>::new(), "in {text:?}");
        }
    }

    #[test]
    fn a_link_ends_before_what_turns_the_direction_of_text() {
        assert_eq!(links("https://a.example/\u{202e}moc"), vec!["https://a.example/"]);
    }

    #[test]
    fn a_text_of_many_links_is_cut_in_bounded_time() {
        let text = "http://a.example ".repeat(5_000);
        assert_eq!(links(&text).len(), MAX_LINKS);
        let brackets = format!("http://a.example/{}", ")".repeat(10_000));
        assert_eq!(links(&brackets), vec!["http://a.example/"]);
    }

    #[test]
    fn a_few_emoji_alone_are_shown_large() {
        assert!(is_emoji_only("👍"));
        assert!(is_emoji_only("👩🏽‍💻 🎉"));
        assert!(!is_emoji_only("👍 ok"));
        assert!(!is_emoji_only(""));
        assert!(!is_emoji_only("🎉🎉🎉🎉🎉🎉🎉"));
        assert!(!is_emoji_only("7"));
    }
}
