//! What a command says and which code it ends with where something is left, or the input or output is not what it was
//! hoped to be.
//!
//! Must not live here: how the program is run. Invariant: code 0 only where nothing of the call is left behind.

use crate::support::{Done, Person, body, server};

fn bodies(person: &Person, count: usize) -> Vec<String> {
    person.posts("general", count).iter().map(|post| body(post).to_owned()).collect()
}

#[test]
fn the_time_for_a_post_begins_when_it_has_been_read() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    ada.ok(&["rooms"]);
    let mut posting = ada.start(&["post", "general", "-", "--timeout", "3s"]);
    // Longer than the limit, for whatever writes it.
    std::thread::sleep(std::time::Duration::from_millis(3_100));
    posting.say("built\n");
    posting.end_of_input();
    let done = posting.done();
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn a_chat_whose_input_is_no_text_sends_what_came_before_and_does_not_end_well() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let long = [b"three\n".as_slice(), &[b'x'; 20_000], b"\nfour\n"].concat();
    for (input, words) in [(b"one\r\ntwo\n\xff\xfe\nlost\n".to_vec(), "not UTF-8"), (long, "longer than")] {
        let mut chat = ada.start(&["chat", "general"]);
        chat.say_bytes(&input);
        chat.end_of_input();
        let done = chat.done();
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains(words), "{done:?}");
    }
    assert_eq!(bodies(&ada, 3), ["one", "two", "three"]);
    assert_eq!(ada.ok(&["outbox"]), "");
}

/// Somebody who has a post in the outbox that the server has refused.
fn with_a_refused_post() -> (e2e::server::ServerProcess, Person) {
    let mut server = server();
    let ada = Person::at(&server, "Ada");
    ada.ok(&["post", "general", "before"]);
    server.kill();
    let done = ada.run(&["post", "general", &"x".repeat(4_500), "--timeout", "500ms"]);
    assert!(done.stderr.contains("1 post kept"), "{done:?}");
    server.restart();
    let done = ada.run(&["post", "general", "after"]);
    assert!(done.stderr.contains("A post kept from earlier was refused"), "{done:?}");
    (server, ada)
}

#[test]
fn a_post_refused_earlier_is_neither_deleted_nor_counted_by_a_chat_and_is_something_left() {
    let (_server, ada) = with_a_refused_post();
    let done = ada.run_with(&["chat", "general"], "hi\n");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("kept from earlier and refused"), "{done:?}");
    assert!(ada.ok(&["outbox"]).contains(": xxx"), "it is still there");
    let Done { code, stderr, .. } = ada.run(&["outbox", "--send"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("refused earlier and still here: 1"), "{stderr}");
    assert!(ada.ok(&["outbox"]).contains(": xxx"), "it is still there");
    assert_eq!(bodies(&ada, 3), ["before", "after", "hi"]);
}

#[test]
fn an_outbox_is_sent_to_its_end_though_nobody_reads_the_numbers() {
    let mut server = server();
    let ada = Person::at(&server, "Ada");
    ada.ok(&["post", "general", "before"]);
    server.kill();
    let lines: String = (1..=200).map(|n| format!("line {n}\n")).collect();
    let done = ada.run_with(&["post", "general", "--lines", "--timeout", "500ms"], &lines);
    assert!(done.stderr.contains("200 posts kept"), "{done:?}");
    server.restart();
    let mut sending = ada.start_raw(&["outbox", "--send"]);
    drop(sending.stdout.take());
    assert_eq!(crate::support::wait_for_exit(&mut sending, "outbox --send").code(), Some(0));
    assert_eq!(ada.ok(&["outbox"]), "");
    assert_eq!(bodies(&ada, 201).len(), 201);
}
