//! A peer can send anything: what comes back is a message or an error that can be answered, never a panic.

mod common;
#[allow(dead_code, reason = "the golden test uses the rest")]
mod golden_samples;

use common::{runner, user};
use golden_samples::messages;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use shared::error::ErrorCode;
use shared::ids::{RequestId, Seq};
use shared::message::{Body, Event, Message, Reply};
use shared::roster::Roster;
use shared::timeline::Timeline;

/// Reads a text, and writes again what could be read.
fn read(text: &str) -> Result<Message, (Option<RequestId>, ErrorCode)> {
    let message = Message::parse(text).map_err(|bad| (bad.id, bad.error.code))?;
    let written = message.to_json();
    assert_eq!(Message::parse(&written).as_ref(), Ok(&message), "what was read does not survive writing: {text}");
    Ok(message)
}

/// Gives a message to the folds, as a client would.
fn fold(message: &Message, timeline: &mut Timeline, roster: &mut Roster) {
    match &message.body {
        Body::Event(Event::Room(event)) => {
            timeline.event(event);
            roster.event(event);
        }
        Body::Event(Event::Opened(opened)) | Body::Reply(Reply::Opened(opened)) => {
            timeline.opened(opened);
            roster.opened(opened);
        }
        Body::Reply(Reply::History(page)) => timeline.history(page, page.posts.first().map_or(Seq(0), |post| post.seq)),
        Body::Reply(Reply::Ack(ack)) => timeline.acked(ack),
        Body::Event(Event::Presence(presence)) => roster.presence(&presence.changes),
        _ => {}
    }
}

/// One change to a text: cut, doubled, replaced, or a number or word blown up.
fn mutate(text: &str, how: u8, at: Index, len: usize, with: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let start = at.index(chars.len() + 1);
    let end = (start + len).min(chars.len());
    let (head, middle, tail): (String, String, String) =
        (chars[..start].iter().collect(), chars[start..end].iter().collect(), chars[end..].iter().collect());
    match how % 4 {
        0 => head + &tail,
        1 => format!("{head}{middle}{middle}{tail}"),
        2 => format!("{head}{with}{tail}"),
        _ => {
            let number = |c: char| if c.is_ascii_digit() { with } else { "" };
            let swapped: String = middle.chars().map(|c| format!("{}{c}", number(c))).collect();
            head + &swapped + &tail
        }
    }
}

const NASTY: &[&str] = &[
    "1e400",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "null",
    "true",
    "{}",
    "[]",
    "\"",
    "\\ud800",
    "\u{0}",
    "\u{202e}",
    "\\u0000",
    "[[[[",
    "{\"a\":",
    ",",
    "1.5",
    "\"id\":7,",
    "\"payload\":null",
    "9999999999999999999999",
];

#[test]
fn arbitrary_text_is_read_or_refused() {
    let run = |text: String| read(&text).map(drop).or(Ok(()));
    runner(4_000).run(&any::<String>(), run).unwrap_or_else(|error| panic!("{error}"));
    let jsonish = vec(
        prop_oneof![proptest::sample::select(NASTY.to_vec()).prop_map(str::to_owned), "[{}\\[\\]:,\" a-z0-9\\\\]{0,6}"],
        0..24,
    );
    let run = |parts: Vec<String>| read(&parts.concat()).map(drop).or(Ok(()));
    runner(4_000).run(&jsonish, run).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_message_damaged_anywhere_is_read_or_refused_and_harms_no_fold() {
    let samples: Vec<String> = messages().iter().map(|(_, message)| message.to_json()).collect();
    let damage = (any::<u8>(), any::<Index>(), 0..12_usize, proptest::sample::select(NASTY.to_vec()));
    let cases = (any::<Index>(), vec(damage, 1..4));
    let run = |(which, damages): (Index, Vec<(u8, Index, usize, &str)>)| {
        let mut text = which.get(&samples).clone();
        for (how, at, len, with) in damages {
            text = mutate(&text, how, at, len, with);
        }
        let (mut timeline, mut roster) = (Timeline::new(user(1)), Roster::new(user(1), str::to_lowercase));
        if let Ok(message) = read(&text) {
            for _ in 0..2 {
                fold(&message, &mut timeline, &mut roster);
            }
            assert_eq!(timeline.rows().count(), timeline.len());
        }
        Ok(())
    };
    runner(12_000).run(&cases, run).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn hostile_messages_in_any_order_and_number_harm_no_fold() {
    // The numbers of every sample are replaced by extreme ones, so that seqs and ordinals contradict each other.
    let samples: Vec<String> = messages().iter().map(|(_, message)| message.to_json()).collect();
    let extreme =
        proptest::sample::select(vec!["0", "1", "2", "44", "45", "18446744073709551614", "18446744073709551615"]);
    let cases = vec((any::<Index>(), vec(extreme, 1..6)), 1..30);
    let run = |chosen: Vec<(Index, Vec<&str>)>| {
        let (mut timeline, mut roster) = (Timeline::keeping(user(1), 20), Roster::new(user(1), str::to_lowercase));
        for (which, numbers) in chosen {
            if let Ok(message) = Message::parse(&with_numbers(which.get::<String>(&samples), &numbers)) {
                fold(&message, &mut timeline, &mut roster);
            }
            for index in 0..timeline.len() {
                assert!(timeline.needed(index, index + 10).is_none_or(|before| before > Seq(0)));
                assert!(timeline.row(index).is_some_and(|row| !row.key().to_string().is_empty()));
            }
        }
        Ok(())
    };
    runner(1_500).run(&cases, run).unwrap_or_else(|error| panic!("{error}"));
}

/// Replaces the numbers behind `seq`, `rev`, `ordinal`, `posts`, `total`, `post` and `earlier`, in turn.
fn with_numbers(json: &str, numbers: &[&str]) -> String {
    let mut out = String::new();
    let mut next = numbers.iter().cycle();
    let mut rest = json;
    while let Some(at) = rest.find("\":") {
        let (head, tail) = rest.split_at(at + 2);
        out.push_str(head);
        let name = head[..head.len() - 2].rsplit('"').next().unwrap_or_default();
        let digits = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let counts = ["seq", "rev", "ordinal", "posts", "total", "post", "earlier"].contains(&name);
        if counts && digits > 0 {
            out.push_str(next.next().unwrap());
        } else {
            out.push_str(&tail[..digits]);
        }
        rest = &tail[digits..];
    }
    out + rest
}

#[test]
fn json_ten_thousand_deep_is_refused_or_skipped_and_never_recursed_into() {
    let depth = 10_000;
    let arrays = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let unfinished = "[".repeat(1_000_000);
    for deep in [&arrays, &objects, &unfinished] {
        let unreadable = Err((None, ErrorCode::BadMessage));
        assert_eq!(read(deep), unreadable);
        for place in ["id", "command", "success", "error"] {
            assert_eq!(read(&format!("{{\"{place}\":{deep},\"event\":\"live\"}}")), unreadable, "{place}");
        }
        let post = format!("{{\"id\":7,\"command\":\"post\",\"payload\":{deep}}}");
        assert!(matches!(read(&post), Err((_, ErrorCode::BadMessage))));
    }
    for deep in [&arrays, &objects] {
        // What nobody reads is skipped without recursion, so its depth costs nothing.
        let field = format!("{{\"id\":7,\"command\":\"beat\",\"later\":{deep}}}");
        assert_eq!(read(&field), read(r#"{"id":7,"command":"beat"}"#));
        let unknown = format!("{{\"id\":7,\"command\":\"dance\",\"payload\":{deep}}}");
        assert!(matches!(read(&unknown), Ok(Message { id: Some(RequestId(7)), .. })));
        let inside = format!("{{\"id\":7,\"command\":\"rename\",\"payload\":{{\"name\":{deep}}}}}");
        assert_eq!(read(&inside), Err((Some(RequestId(7)), ErrorCode::BadMessage)));
    }
}

#[test]
fn duplicate_keys_huge_numbers_and_lone_surrogates_are_refused() {
    let cases: &[(&str, Option<u64>)] = &[
        (r#"{"id":7,"id":8,"command":"beat"}"#, None),
        (r#"{"id":7,"command":"beat","command":"post"}"#, Some(7)),
        (r#"{"id":7,"command":"beat","payload":{"hidden":true,"hidden":false}}"#, Some(7)),
        (r#"{"id":1e400,"command":"beat"}"#, None),
        (
            r#"{"id":7,"command":"history","payload":{"room":"019b76da-a800-7020-b040-5060708090b1","before":1e400}}"#,
            Some(7),
        ),
        (r#"{"id":7,"command":"beat","payload":{"answers":-1}}"#, Some(7)),
        (r#"{"id":7,"command":"beat","payload":{"answers":18446744073709551616}}"#, Some(7)),
        (r#"{"id":7,"command":"find_room","payload":{"name":"\ud800"}}"#, Some(7)),
        (r#"{"id":7,"command":"\udfff"}"#, Some(7)),
        (
            r#"{"id":7,"command":"join","payload":{"client_id":"zzz","room":"019b76da-a800-7020-b040-5060708090b1"}}"#,
            Some(7),
        ),
        (r#"{"id":7,"command":"beat"} {"id":8,"command":"beat"}"#, None),
        ("", None),
        ("null", None),
        ("[]", None),
        (r#"[7,"beat"]"#, None),
        (r#"{"id":7,"command":"rename","payload":["019b76da-a800-7020-b040-5060708090c1","Ada"]}"#, Some(7)),
        ("\u{feff}{\"id\":7,\"command\":\"beat\"}", None),
    ];
    for (text, _) in cases {
        let refused = read(text).expect_err(text);
        assert_eq!(refused.1, ErrorCode::BadMessage, "{text}");
    }
    let answered: Vec<_> = cases.iter().map(|(text, _)| read(text).expect_err(text).0).collect();
    let expected: Vec<_> = cases.iter().map(|(_, id)| id.map(RequestId)).collect();
    assert_eq!(answered, expected, "the request id is given back wherever it can be read");
}

#[test]
fn an_unknown_field_of_any_value_is_ignored_unread() {
    for value in ["1e400", "-0.0", "123456789012345678901234567890", "\"\\u0000\"", "[[[]]]"] {
        let text = format!("{{\"id\":7,\"later\":{value},\"command\":\"beat\",\"payload\":{{\"later\":{value}}}}}");
        assert_eq!(read(&text), read(r#"{"id":7,"command":"beat"}"#), "{value}");
    }
}
