//! A chat before a terminal: what a person can do there, and how it is left.
//!
//! Must not live here: how the program is run. Invariant: whatever key is pressed, the program goes on and can be ended.

use e2e::wait;
use rustix::process::Signal;

use crate::support::{PATIENCE, Person, Running, body, server};

/// Somebody who chats on a terminal.
fn on_a_terminal(ada: &Person) -> Running {
    let chat = ada.start_on_a_terminal("xterm", &["chat", "general", "--timeout", "10m"]);
    prompted(&chat, 1);
    chat
}

/// Waits for the n-th prompt: what is typed before it is there may go with the line before.
fn prompted(chat: &Running, n: usize) {
    wait::until("a prompt", PATIENCE, || (chat.stdout().matches("\x1b[?2004h").count() >= n).then_some(()));
}

#[test]
fn whoever_leaves_a_chat_can_still_leave_it_at_once() {
    let mut server = server();
    let ada = Person::at(&server, "Ada");
    ada.ok(&["post", "general", "before"]);
    server.kill();
    let mut chat = on_a_terminal(&ada);
    chat.say("unsent\r");
    prompted(&chat, 2);
    chat.say("/quit\r");
    chat.wait_for("Waiting for 1 to be acknowledged");
    prompted(&chat, 3);
    chat.say("too late\r");
    chat.wait_for("not taken, leaving: too late");
    prompted(&chat, 4);
    chat.say("\x03");
    let done = chat.done();
    assert_eq!(done.code, Some(130), "{done:?}");
    assert!(done.stderr.contains("1 not acknowledged; kept in the outbox."), "{done:?}");
    assert_eq!(ada.listed(), ["unsent"]);
}

#[test]
fn a_byte_that_is_no_text_does_not_end_a_chat_and_the_terminal_is_left_as_it_was() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let mut chat = on_a_terminal(&ada);
    chat.wait_for("live");
    chat.say_bytes(b"\xff");
    prompted(&chat, 2);
    chat.say("here\r");
    chat.wait_for("here\u{1b}[32m ✓");
    chat.signal(Signal::TERM);
    let done = chat.done();
    assert_eq!(done.code, Some(130), "{done:?}");
    let (on, off) = (done.stdout.rfind("\x1b[?2004h"), done.stdout.rfind("\x1b[?2004l"));
    assert!(on.is_some() && off > on, "{done:?}");
}

#[test]
fn a_key_that_makes_the_editor_wait_for_another_stops_neither_the_connection_nor_the_end() {
    // Esc, half a sequence, a search, and a key to be taken as it is.
    for key in ["\x1b", "\x1b[", "\x12", "\x16"] {
        let server = server();
        let (ada, lin) = (Person::at(&server, "Ada"), Person::at(&server, "Lin"));
        let mut chat = on_a_terminal(&ada);
        chat.wait_for("live");
        chat.say(key);
        for n in 0..3 {
            lin.ok(&["post", "general", &format!("post {n}")]);
        }
        if key == "\x1b" {
            chat.wait_for("post 2");
        }
        chat.signal(Signal::TERM);
        let done = chat.done();
        assert_eq!(done.code, Some(130), "{key:?}: {done:?}");
    }
}

#[test]
fn a_terminal_without_an_editor_is_enough_for_a_chat() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    for (n, term) in ["dumb", "Emacs"].into_iter().enumerate() {
        let mut chat = ada.start_on_a_terminal(term, &["chat", "general"]);
        chat.wait_for("live");
        chat.say(&format!("said {n}\n"));
        chat.wait_for("✓");
        chat.say("/nothing\n");
        chat.wait_for("There is no /nothing");
        chat.signal(Signal::TERM);
        let done = chat.done();
        assert_eq!(done.code, Some(130), "{done:?}");
        assert!(!done.stdout.contains('\x1b') || term != "dumb", "{done:?}");
    }
    assert_eq!(ada.posts("general", 2).iter().map(body).collect::<Vec<_>>(), ["said 0", "said 1"]);
}
