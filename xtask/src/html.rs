//! Reads the root index.html the way trunk does, as far as we use it.
//!
//! Lives here: finding the `data-trunk` elements and replacing each by what the browser needs. Must not live here:
//! files and builds ([`crate::page`]). Invariant: an element or attribute that trunk would understand and we would
//! not is an error, so the two ways to build the page cannot drift apart silently.

use crate::error::{Outcome, fail};

/// What the loader reads: where the page's two files are. Trunk.toml has the same words as `pattern_script`.
pub(crate) const PATTERN_SCRIPT: &str = r#"<meta name="holdfast" data-js="{base}{js}" data-wasm="{base}{wasm}">"#;
/// What starts both downloads before the loader runs. Trunk.toml has the same words as `pattern_preload`.
pub(crate) const PATTERN_PRELOAD: &str = concat!(
    r#"<link rel="modulepreload" href="{base}{js}">"#,
    r#"<link rel="preload" as="fetch" type="application/wasm" crossorigin href="{base}{wasm}">"#
);

/// One element that the build replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asset {
    /// The client: its package's Cargo.toml and the profiles to build it with.
    Rust { manifest: String, profile_dev: String, profile_release: String },
    /// A style sheet.
    Css { href: String },
    /// The page's icon.
    Icon { href: String, media_type: String },
    /// A script of ours, an ES module.
    Script { src: String },
    /// A file copied under its own name.
    CopyFile { href: String },
}

/// A piece of index.html: text that stays, or an element to replace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Copied as it is.
    Text(String),
    /// Replaced.
    Asset(Asset),
}

/// Cuts index.html into text and elements to replace.
///
/// # Errors
/// An element with `data-trunk` that we do not understand.
pub(crate) fn parse(html: &str) -> Outcome<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = html;
    let mut text = String::new();
    while let Some(start) = rest.find('<') {
        text.push_str(&rest[..start]);
        rest = &rest[start..];
        if rest.starts_with("<!--") {
            let end = rest.find("-->").map_or(rest.len(), |at| at + 3);
            text.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let Some(end) = rest.find('>').map(|at| at + 1) else { break };
        let (tag, after) = rest.split_at(end);
        let (name, attributes) = attributes(tag);
        if !attributes.iter().any(|(key, _)| key == "data-trunk") {
            text.push_str(tag);
            rest = after;
            continue;
        }
        let asset = asset(&name, &attributes)?;
        rest = match asset {
            Asset::Script { .. } => match after.strip_prefix("</script>") {
                Some(after) => after,
                None => return fail("index.html: a script with data-trunk must be empty and closed by </script>"),
            },
            Asset::Rust { .. } | Asset::Css { .. } | Asset::Icon { .. } | Asset::CopyFile { .. } => after,
        };
        pieces.push(Piece::Text(std::mem::take(&mut text)));
        pieces.push(Piece::Asset(asset));
    }
    text.push_str(rest);
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

/// Puts the names into a pattern of trunk's.
pub(crate) fn fill(pattern: &str, js: &str, wasm: &str) -> String {
    pattern.replace("{base}", "/").replace("{js}", js).replace("{wasm}", wasm)
}

fn asset(name: &str, attributes: &[(String, String)]) -> Outcome<Asset> {
    let get = |wanted: &str| attributes.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.clone());
    let need = |wanted: &str| match get(wanted) {
        Some(value) => Ok(value),
        None => fail(format!("index.html: <{name} data-trunk> lacks {wanted}")),
    };
    let (asset, known): (Asset, &[&str]) = match (name, get("rel").as_deref()) {
        ("link", Some("rust")) => (
            Asset::Rust {
                manifest: need("href")?,
                profile_dev: need("data-cargo-profile-dev")?,
                profile_release: need("data-cargo-profile-release")?,
            },
            &["rel", "href", "data-wasm-opt", "data-cargo-profile-dev", "data-cargo-profile-release"],
        ),
        ("link", Some("css")) => (Asset::Css { href: need("href")? }, &["rel", "href"]),
        ("link", Some("icon")) => {
            (Asset::Icon { href: need("href")?, media_type: need("type")? }, &["rel", "href", "type"])
        }
        ("link", Some("copy-file")) => (Asset::CopyFile { href: need("href")? }, &["rel", "href"]),
        ("script", None) if get("type").as_deref() == Some("module") => {
            (Asset::Script { src: need("src")? }, &["src", "type"])
        }
        (_, rel) => {
            return fail(format!("index.html: <{name} data-trunk rel={rel:?}> is not known to xtask/src/html.rs"));
        }
    };
    for (key, _) in attributes {
        if key != "data-trunk" && !known.contains(&key.as_str()) {
            return fail(format!(
                "index.html: attribute {key} of <{name} data-trunk> is not known to xtask/src/html.rs"
            ));
        }
    }
    Ok(asset)
}

/// The name and the attributes of one start tag, values without their quotes. Values hold no `>`.
fn attributes(tag: &str) -> (String, Vec<(String, String)>) {
    let inner = tag.trim_start_matches('<').trim_end_matches('>').trim_end_matches('/');
    let (name, mut rest) = inner.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((inner, ""));
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return (name.to_ascii_lowercase(), found);
        }
        let key_end = rest.find(|c: char| c == '=' || c.is_ascii_whitespace()).unwrap_or(rest.len());
        let (key, after) = rest.split_at(key_end);
        let mut value = "";
        rest = after;
        if let Some(after) = after.strip_prefix('=') {
            let quote = after.chars().next().filter(|c| *c == '"' || *c == '\'');
            let (start, until) = match quote {
                Some(quote) => (1, after[1..].find(quote).map_or(after.len(), |at| at + 1)),
                None => (0, after.find(|c: char| c.is_ascii_whitespace()).unwrap_or(after.len())),
            };
            value = &after[start..until];
            rest = after.get(until + start..).unwrap_or("");
        }
        found.push((key.to_ascii_lowercase(), value.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::root;

    #[test]
    fn reads_the_real_index_html() {
        let html = std::fs::read_to_string(root().join("index.html")).expect("index.html is there");
        let pieces = parse(&html).expect("every data-trunk element is known");
        let assets: Vec<_> = pieces.iter().filter(|piece| matches!(piece, Piece::Asset(_))).collect();
        assert!(assets.iter().any(
            |piece| matches!(piece, Piece::Asset(Asset::Rust { manifest, .. }) if manifest == "web-client/Cargo.toml")
        ));
        assert!(assets.iter().any(|piece| matches!(piece, Piece::Asset(Asset::Css { .. }))));
        assert!(assets.iter().any(|piece| matches!(piece, Piece::Asset(Asset::Icon { .. }))));
        assert!(assets.iter().any(|piece| matches!(piece, Piece::Asset(Asset::Script { .. }))));
    }

    #[test]
    fn keeps_text_and_comments_and_cuts_out_elements() {
        let pieces =
            parse("<p>a<!-- <link data-trunk rel=\"no\"> --><link data-trunk rel='css' href=x.css />b").unwrap();
        assert_eq!(
            pieces,
            [
                Piece::Text("<p>a<!-- <link data-trunk rel=\"no\"> -->".into()),
                Piece::Asset(Asset::Css { href: "x.css".into() }),
                Piece::Text("b".into()),
            ]
        );
    }

    #[test]
    fn refuses_what_only_trunk_would_understand() {
        assert!(parse("<link data-trunk rel=\"sass\" href=\"x.scss\">").is_err());
        assert!(parse("<link data-trunk rel=\"css\" href=\"x.css\" data-inline>").is_err());
        assert!(parse("<link data-trunk rel=\"css\">").is_err());
        assert!(parse("<script data-trunk type=\"module\" src=\"x.js\">alert()</script>").is_err());
    }

    #[test]
    fn trunk_writes_the_same_elements() {
        let trunk = std::fs::read_to_string(root().join("Trunk.toml")).expect("Trunk.toml is there");
        assert!(trunk.contains(&format!("pattern_script = '{PATTERN_SCRIPT}'")));
        assert!(trunk.contains(&format!("pattern_preload = '{PATTERN_PRELOAD}'")));
    }

    #[test]
    fn the_page_has_no_inline_script_or_style() {
        let html = std::fs::read_to_string(root().join("index.html")).expect("index.html is there");
        assert!(!html.contains("<script>") && !html.contains("<style") && !html.contains("style=\""));
    }
}
