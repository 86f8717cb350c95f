//! Every form that crosses the wire or is stored on a device, as a file under `golden/`, in both directions.
//!
//! A change of the wire shows as a changed file. To accept one, run this test with `HOLDFAST_GOLDEN=write` and look at
//! the difference: it rewrites the files, and what docs/PROTOCOL.md quotes of them and of the registries.

mod common;
mod golden_samples;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use golden_samples::{messages, outbox_items};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use shared::close::{AfterClose, REGISTRY, Sender};
use shared::error::{ErrorCode, WireError};
use shared::ids::RequestId;
use shared::message::{Body, Command, Event, Message, Reply};
use shared::model::{RoomChange, UserChange};
use shared::session::OutboxItem;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn protocol() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md")
}

/// JSON that keeps the order of its fields, to lay a text out without changing what it says.
enum Json {
    Scalar(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        macro_rules! scalars {
            ($($visit:ident: $type:ty),*) => {$(
                fn $visit<E>(self, value: $type) -> Result<Json, E> {
                    Ok(Json::Scalar(serde_json::to_string(&value).unwrap()))
                }
            )*};
        }
        impl<'de> Visitor<'de> for Any {
            type Value = Json;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }
            scalars!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Scalar("null".to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Json::Array(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Json::Object(fields))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl Json {
    fn on_one_line(&self) -> String {
        let join = |parts: Vec<String>| parts.join(", ");
        match self {
            Self::Scalar(text) => text.clone(),
            Self::Array(items) => format!("[{}]", join(items.iter().map(Self::on_one_line).collect())),
            Self::Object(fields) => {
                let field = |(name, value): &(String, Self)| format!("\"{name}\": {}", value.on_one_line());
                format!("{{{}}}", join(fields.iter().map(field).collect()))
            }
        }
    }

    fn lay_out(&self, indent: usize, out: &mut String) {
        let line = self.on_one_line();
        let (open, parts, close) = match self {
            _ if line.chars().count() + 2 * indent <= 100 && indent > 0 => return out.push_str(&line),
            Self::Scalar(_) => return out.push_str(&line),
            Self::Array(items) => ('[', items.iter().map(|item| (String::new(), item)).collect::<Vec<_>>(), ']'),
            Self::Object(fields) => {
                ('{', fields.iter().map(|(name, value)| (format!("\"{name}\": "), value)).collect(), '}')
            }
        };
        out.push(open);
        for (number, (name, value)) in parts.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(out, "{comma}\n{:1$}{name}", "", 2 * (indent + 1)).unwrap();
            value.lay_out(indent + 1, out);
        }
        write!(out, "\n{:1$}{close}", "", 2 * indent).unwrap();
    }
}

fn laid_out(json: &str) -> String {
    let mut out = String::new();
    serde_json::from_str::<Json>(json).unwrap().lay_out(0, &mut out);
    out.push('\n');
    out
}

fn close_registry() -> String {
    let row = |meaning: &shared::close::CloseMeaning| {
        serde_json::json!({
            "code": meaning.code, "name": meaning.name, "sender": sender(meaning.sender),
            "after": after(meaning.after), "words": meaning.words,
        })
    };
    serde_json::to_string(&REGISTRY.iter().map(row).collect::<Vec<_>>()).unwrap()
}

fn sender(sender: Sender) -> &'static str {
    match sender {
        Sender::Server => "server",
        Sender::Client => "client",
        Sender::Either => "either",
        Sender::Nobody => "nobody",
    }
}

fn after(after: AfterClose) -> &'static str {
    match after {
        AfterClose::Reconnect => "reconnect",
        AfterClose::ReconnectSlowly => "reconnect slowly",
        AfterClose::Stop(_) => "stop",
    }
}

/// Every file there is to be, and its text.
fn files() -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for (path, message) in messages() {
        assert!(files.insert(path.to_owned(), laid_out(&message.to_json())).is_none(), "{path} is there twice");
    }
    for (path, item) in outbox_items() {
        files.insert(path.to_owned(), laid_out(&serde_json::to_string(&item).unwrap()));
    }
    let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| WireError::new(code.clone(), "…")).collect();
    files.insert("registry/error.json".to_owned(), laid_out(&serde_json::to_string(&codes).unwrap()));
    files.insert("registry/close.json".to_owned(), laid_out(&close_registry()));
    files
}

/// Texts that are not what this version writes, and the file that says what they mean.
const TOLERATED: &[(&str, &str)] = &[
    ("tolerated/unknown_fields.json", "command/post.json"),
    ("tolerated/fields_in_any_order.json", "command/post.json"),
    ("tolerated/escaped_tag.json", "command/post.json"),
    ("tolerated/no_payload.json", "command/beat.json"),
    ("tolerated/reply_without_a_tag.json", "reply/done.json"),
    ("tolerated/unknown_field_in_a_change.json", "event/room-posted.json"),
];

/// Texts that are refused, the request that is answered, and what its error says.
const REFUSED: &[(&str, Option<u64>, &str)] = &[
    ("refused/known_command_without_its_fields.json", Some(7), "missing field"),
    ("refused/two_forms_at_once.json", Some(7), "exactly one"),
    ("refused/no_form.json", Some(7), "exactly one"),
    ("refused/refusal_without_an_error.json", Some(7), "needs an error"),
    ("refused/id_that_is_no_number.json", None, "invalid type"),
    ("refused/check_that_is_no_hexadecimal.json", Some(1), "16 hexadecimal digits"),
];

/// Rewrites the files, once, if that was asked for.
fn accept_changes() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if std::env::var("HOLDFAST_GOLDEN").is_ok_and(|how| how == "write") {
            for (path, text) in files() {
                let file = golden().join(path);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, text).unwrap();
            }
            let document = std::fs::read_to_string(protocol()).unwrap();
            std::fs::write(protocol(), with_quotes(&document).0).unwrap();
        }
    });
}

fn read(path: &str) -> String {
    let file = golden().join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn names_on_disk() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in std::fs::read_dir(golden()).unwrap() {
        let folder = folder.unwrap().path();
        for file in std::fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            names.insert(file.strip_prefix(golden()).unwrap().to_string_lossy().replace('\\', "/"));
        }
    }
    names
}

#[test]
fn every_form_is_written_as_its_golden_file_says() {
    accept_changes();
    for (path, text) in files() {
        assert_eq!(read(&path), text, "the wire has changed: golden/{path} (see the top of this test)");
    }
    let mut known: BTreeSet<String> = files().into_keys().collect();
    known.extend(TOLERATED.iter().map(|(path, _)| (*path).to_owned()));
    known.extend(REFUSED.iter().map(|(path, ..)| (*path).to_owned()));
    assert_eq!(names_on_disk(), known, "a golden file belongs to nothing, or is missing");
}

#[test]
fn every_golden_file_reads_back_as_what_was_written() {
    accept_changes();
    for (path, message) in messages() {
        let parsed = Message::parse(&read(path)).unwrap();
        assert_eq!(laid_out(&parsed.to_json()), laid_out(&message.to_json()), "golden/{path}");
        // The payload of an unknown tag is kept as text, so it equals only itself.
        assert!(parsed == message || path.starts_with("unknown/"), "golden/{path} reads as {parsed:?}");
    }
    for (path, item) in outbox_items() {
        assert_eq!(serde_json::from_str::<OutboxItem>(&read(path)).unwrap(), item, "golden/{path}");
    }
    for error in serde_json::from_str::<Vec<WireError>>(&read("registry/error.json")).unwrap() {
        assert!(ErrorCode::ALL.contains(&error.code));
    }
}

#[test]
fn what_a_newer_peer_adds_is_tolerated() {
    accept_changes();
    for (path, meaning) in TOLERATED {
        assert_eq!(Message::parse(&read(path)), Message::parse(&read(meaning)), "golden/{path}");
        assert_ne!(read(path), read(meaning), "golden/{path} is nothing special");
    }
}

#[test]
fn what_cannot_be_read_is_answered_with_its_request_id() {
    accept_changes();
    for (path, id, why) in REFUSED {
        let bad = Message::parse(&read(path)).expect_err(path);
        assert_eq!((bad.id, bad.error.code), (id.map(RequestId), ErrorCode::BadMessage), "golden/{path}");
        assert!(bad.error.message.contains(why), "golden/{path}: {}", bad.error.message);
    }
}

#[test]
fn every_tag_has_a_file() {
    accept_changes();
    let on_disk = names_on_disk();
    let has = |folder: &str, tag: &str| {
        let [plain, variant] = [format!("{folder}/{tag}.json"), format!("{folder}/{tag}-")];
        assert!(on_disk.iter().any(|name| *name == plain || name.starts_with(&variant)), "golden/{plain} is missing");
    };
    Command::TAGS.iter().for_each(|tag| has("command", tag));
    Reply::TAGS.iter().for_each(|tag| has("reply", tag));
    Event::TAGS.iter().for_each(|tag| has("event", tag));
    RoomChange::TAGS.iter().for_each(|tag| has("event", &format!("room-{tag}")));
    UserChange::TAGS.iter().for_each(|tag| has("event", &format!("user-{tag}")));
    for code in ErrorCode::ALL {
        assert!(read("registry/error.json").contains(&format!("\"{code}\"")));
    }
}

#[test]
fn an_unknown_tag_of_a_newer_peer_is_kept_whole() {
    accept_changes();
    for path in ["unknown/command.json", "unknown/reply.json", "unknown/event.json", "unknown/change.json"] {
        let text = read(path);
        let message = Message::parse(&text).unwrap();
        let unknown = match &message.body {
            Body::Command(Command::Unknown(unknown))
            | Body::Reply(Reply::Unknown(unknown))
            | Body::Event(Event::Unknown(unknown)) => unknown.kind.clone(),
            Body::Event(Event::Room(event)) => event.change.tag().to_owned(),
            _ => panic!("golden/{path} is known"),
        };
        assert!(text.contains(&unknown));
        assert_eq!(laid_out(&message.to_json()), laid_out(&text));
    }
}

// ---- docs/PROTOCOL.md -----------------------------------------------------------------------------------------------

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// What a marked place of the document holds: a golden file, or a table made from a registry.
fn quoted(marker: &str) -> Option<String> {
    if let Some(path) = marker.strip_prefix("golden: ") {
        return Some(format!("```json\n{}```\n", read(path)));
    }
    match marker {
        "table: close codes" => {
            let mut table =
                "| code | name | sent by | the client then | what happened |\n|---|---|---|---|---|\n".to_owned();
            for row in REGISTRY {
                let (sender, after) = (sender(row.sender), after(row.after));
                writeln!(table, "| {} | `{}` | {sender} | {after} | {} |", row.code, row.name, row.words).unwrap();
            }
            Some(table)
        }
        "table: limits" => Some(golden_samples::limits_table()),
        "table: times" => Some(golden_samples::times_table()),
        _ => None,
    }
}

/// Replaces what stands between `<!-- marker -->` and `<!-- end -->`; returns the document and the markers found.
fn with_quotes(document: &str) -> (String, BTreeSet<String>) {
    let mut out = String::new();
    let mut markers = BTreeSet::new();
    let mut rest = document;
    while let Some((before, after)) = rest.split_once("<!-- ") {
        let (marker, after) = after.split_once(" -->\n").expect("a marker ends with its line");
        writeln!(out, "{before}<!-- {marker} -->").unwrap();
        rest = after;
        if let Some(text) = quoted(marker) {
            let (_, after) = after.split_once("<!-- end -->\n").unwrap_or_else(|| panic!("{marker} has no end"));
            writeln!(out, "{text}<!-- end -->").unwrap();
            rest = after;
            markers.insert(marker.to_owned());
        }
    }
    out.push_str(rest);
    (out, markers)
}

#[test]
fn the_protocol_document_quotes_every_golden_file_exactly() {
    accept_changes();
    let document = std::fs::read_to_string(protocol()).expect("docs/PROTOCOL.md is there");
    let (with_quotes, markers) = with_quotes(&document);
    for (number, (is, should)) in document.lines().zip(with_quotes.lines()).enumerate() {
        assert_eq!(is, should, "docs/PROTOCOL.md, line {}: not what the code says", number + 1);
    }
    assert_eq!(document, with_quotes);
    let quoted_nowhere = ["tolerated/", "refused/", "registry/"];
    for path in files().into_keys().filter(|path| !quoted_nowhere.iter().any(|folder| path.starts_with(folder))) {
        assert!(markers.contains(&format!("golden: {path}")), "docs/PROTOCOL.md does not quote golden/{path}");
    }
    for table in ["table: close codes", "table: limits", "table: times"] {
        assert!(markers.contains(table), "docs/PROTOCOL.md lacks the {table}");
    }
}

#[test]
fn the_protocol_document_explains_every_error_and_no_other() {
    accept_changes();
    let document = std::fs::read_to_string(protocol()).expect("docs/PROTOCOL.md is there");
    let (_, section) = document.split_once("\n## Errors\n").expect("a section on errors");
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(rows.len(), ErrorCode::ALL.len(), "one row for each error");
    for (row, code) in rows.iter().zip(ErrorCode::ALL) {
        let start = format!("| `{code}` | {} | ", yes(code.is_retryable()));
        assert!(row.starts_with(&start), "expected a row that begins with {start:?}, got {row:?}");
    }
}
