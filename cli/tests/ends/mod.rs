//! What a command says and which code it ends with where something is left, or the input or output is not what it was
//! hoped to be.
//!
//! Must not live here: how the program is run. Invariant: code 0 only where nothing of the call is left behind.

use e2e::wait;
use rustix::process::Signal;

use crate::support::{Done, PATIENCE, Person, body, server, wait_for_exit};

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
    assert!(done.stdout.contains("Kept from earlier and refused: 1."), "{done:?}");
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
    assert_eq!(wait_for_exit(&mut sending, "outbox --send").code(), Some(0));
    assert_eq!(ada.ok(&["outbox"]), "");
    assert_eq!(bodies(&ada, 201).len(), 201);
}

/// The number before some words of what a command said; 0 where it did not say it.
fn said(done: &Done, words: &str) -> usize {
    let stderr = done.stderr.replace("1 post ", "1 posts ");
    let before = stderr.split(words).next().filter(|before| before.len() < stderr.len());
    before.map_or(0, |before| before.split_whitespace().next_back().expect("a number").parse().expect("a number"))
}

fn lines(count: usize) -> String {
    (1..=count).map(|n| format!("line {n}\n")).collect()
}

#[test]
fn what_is_called_kept_when_the_session_has_ended_is_in_the_outbox() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    ada.ok(&["post", "garden", "before", "--create"]);
    ada.lose_the_token();
    let done = ada.run(&["post", "garden", "precious"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stderr.contains("1 post kept in the outbox") && done.stderr.contains("sign-in"), "{done:?}");
    let done = ada.run_with(&["chat", "garden"], "one\ntwo\n");
    assert_eq!(done.code, Some(4), "{done:?}");
    assert_eq!(said(&done, " not acknowledged; kept"), ada.listed().len(), "{done:?}");
    assert!(ada.listed().len() <= 3, "{done:?}");
    ada.ok(&["outbox", "--discard"]);
    let done = ada.run_with(&["post", "garden", "--lines"], &lines(200));
    assert_eq!((done.code, said(&done, " posts kept")), (Some(4), 200), "{done:?}");
    assert_eq!(ada.listed(), lines(200).lines().collect::<Vec<_>>());
    assert_eq!(ada.run(&["outbox", "--send"]).code, Some(4));
    ada.ok(&["outbox", "--discard"]);
    // No earlier call has found this one.
    let done = ada.run(&["post", "general", "nowhere"]);
    assert!(done.stderr.contains("1 post not sent and not kept: the server never said"), "{done:?}");
    let done = ada.run(&["post", "garden", "no", "--no-keep"]);
    assert!(done.stderr.contains("1 post not sent and not kept."), "{done:?}");
    assert_eq!(ada.ok(&["outbox"]), "");
}

#[test]
fn posting_that_is_interrupted_says_what_became_of_each_post() {
    const POSTS: usize = 3_000;
    for more in [&[][..], &["--no-keep"]] {
        let server = server();
        let ada = Person::at(&server, "Ada");
        let mut posting = ada.start(&[&["post", "general", "--lines"], more].concat());
        posting.say(&lines(POSTS));
        posting.end_of_input();
        wait::until("something is posted", PATIENCE, || (!posting.stdout().is_empty()).then_some(()));
        server.signal(Signal::STOP);
        posting.interrupt();
        let done = posting.done();
        assert_eq!(done.code, Some(130), "{done:?}");
        let acknowledged = said(&done, " posts acknowledged before that");
        let (kept, dropped) = (said(&done, " posts kept"), said(&done, " posts not sent and not kept"));
        assert_eq!(acknowledged, done.stdout.lines().count(), "{done:?}");
        assert_eq!(acknowledged + kept + dropped, POSTS, "{done:?}");
        assert!(dropped > 0, "{done:?}");
        assert_eq!(ada.listed().len(), kept, "{done:?}");
        let most = if more.is_empty() { shared::limits::OUTBOX_ITEMS } else { 64 };
        assert!(kept <= most, "{done:?}");
        server.signal(Signal::CONT);
        ada.ok(&["outbox", "--send"]);
        let stored = bodies(&ada, acknowledged + kept);
        assert_eq!(stored, lines(acknowledged + kept).lines().collect::<Vec<_>>());
    }
}

#[test]
fn a_line_of_a_chat_that_is_interrupted_is_kept_and_it_is_said() {
    let mut server = server();
    let ada = Person::at(&server, "Ada");
    ada.ok(&["post", "general", "before"]);
    server.kill();
    for (n, signal) in [Signal::INT, Signal::TERM].into_iter().enumerate() {
        let mut chat = ada.start(&["chat", "general"]);
        chat.say(&format!("important {n}\n/help\n"));
        chat.wait_for("/who: members");
        chat.signal(signal);
        let done = chat.done();
        assert_eq!(done.code, Some(130), "{done:?}");
        assert!(done.stderr.contains(&format!("{} not acknowledged; kept in the outbox.", n + 1)), "{done:?}");
    }
    assert_eq!(ada.listed(), ["important 0", "important 1"]);
}

#[test]
fn what_is_piped_into_a_chat_is_posted_though_nobody_reads_what_it_shows() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let mut chat = ada.start_raw(&["chat", "general"]);
    drop(chat.stdout.take());
    let mut input = chat.stdin.take().expect("its input is open");
    std::io::Write::write_all(&mut input, lines(300).as_bytes()).expect("it reads");
    drop(input);
    assert_eq!(wait_for_exit(&mut chat, "chat").code(), Some(0));
    assert_eq!(bodies(&ada, 300), lines(300).lines().collect::<Vec<_>>());
    assert_eq!(ada.ok(&["outbox"]), "");
}

#[test]
fn posting_waits_for_place_in_an_outbox_that_is_full_and_keeps_the_order() {
    let mut server = server();
    let ada = Person::at(&server, "Ada");
    ada.ok(&["post", "general", "before"]);
    server.kill();
    let all = lines(shared::limits::OUTBOX_ITEMS + 100);
    let (first, last) = all.split_at(all.find("line 1001\n").expect("there"));
    let done = ada.run_with(&["post", "general", "--lines", "--timeout", "500ms"], first);
    assert_eq!(said(&done, " posts kept"), shared::limits::OUTBOX_ITEMS, "{done:?}");
    server.restart();
    let done = ada.run_with(&["post", "general", "--lines"], last);
    assert_eq!((done.code, done.stdout.lines().count()), (Some(0), 100), "{done:?}");
    let mut wanted = vec!["before"];
    wanted.extend(all.lines());
    assert_eq!(bodies(&ada, wanted.len()), wanted);
}

#[test]
fn what_a_server_says_at_the_door_cannot_drive_the_terminal() {
    let door = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let eve = Person::new(&format!("http://{}", door.local_addr().expect("an address")), "Eve");
    let answers = std::thread::spawn(move || {
        let (mut socket, _) = door.accept().expect("somebody comes");
        let mut request = [0; 4_096];
        let read = std::io::Read::read(&mut socket, &mut request).expect("a request");
        assert!(request[..read].starts_with(b"POST /api/session"));
        let json = r#"{"code":"name_taken","message":"\u001b]52;c;eA==\u0007\u001b[2J\u009b31mno","retryable":false}"#;
        let head = format!("HTTP/1.1 409 Conflict\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", json.len());
        std::io::Write::write_all(&mut socket, (head + json).as_bytes()).expect("it reads");
    });
    let done = eve.run(&["sign-in"]);
    answers.join().expect("it was asked");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("no"), "{done:?}");
    assert!(!done.stderr.trim_end().contains(|c: char| c.is_control() && c != '\n'), "{done:?}");
}

#[test]
fn a_proxy_of_the_environment_is_taken_neither_by_the_sign_in_nor_by_the_socket() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let proxied = "export http_proxy=http://127.0.0.1:9 all_proxy=http://127.0.0.1:9";
    let done = ada.run_after(proxied, &["post", "general", "x", "--timeout", "5s"], "");
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn what_another_program_holds_is_no_empty_outbox() {
    let mut server = server();
    let ada = Person::at(&server, "Ada");
    let mut chat = ada.start(&["chat", "general"]);
    chat.wait_for("live");
    server.kill();
    chat.wait_for("Can't reach the server");
    chat.say("mine\n");
    chat.wait_for("saved here, waiting to be sent: mine");
    for (args, code) in [(&["outbox"][..], 0), (&["outbox", "--send"], 3), (&["outbox", "--discard"], 0)] {
        let done = ada.run(args);
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.stderr.contains("other holdfast programs"), "{done:?}");
        assert!(!done.stderr.contains("Nothing is waiting"), "{done:?}");
    }
    server.restart();
    chat.end_of_input();
    assert_eq!(chat.done().code, Some(0));
    assert_eq!(bodies(&ada, 1), ["mine"]);
}

#[test]
fn first_calls_at_once_are_one_person() {
    let server = server();
    let twin = Person::at(&server, "Twin");
    let posting: Vec<_> = (0..6).map(|n| twin.start(&["post", "general", &format!("post {n}")])).collect();
    for one in posting {
        let done = one.done();
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    assert_eq!(bodies(&twin, 6).len(), 6);
}

#[test]
fn no_name_is_asked_for_that_could_not_be_kept() {
    let server = server();
    let dora = Person::at(&server, "Dora");
    let done = dora.run_on_a_full_disk(1, &["post", "general", "x"], "");
    assert_eq!(done.code, Some(5), "{done:?}");
    assert_eq!(dora.run(&["post", "general", "x"]).code, Some(0));
}

#[test]
fn more_lines_than_one_call_posts_are_refused_before_the_first() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let done = ada.run_with(&["post", "general", "--lines"], &"x\n".repeat(1_000_001));
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{done:?}");
    assert!(done.stderr.contains("1000000 lines"), "{done:?}");
}

#[test]
fn lines_piped_into_a_chat_wait_for_a_server_that_stands_still_and_come_in_order() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let mut chat = ada.start(&["chat", "general", "--timeout", "60s"]);
    chat.wait_for("live");
    server.signal(Signal::STOP);
    let all = lines(shared::limits::OUTBOX_ITEMS + 100);
    chat.say(&all);
    chat.end_of_input();
    chat.wait_for(": line 64\n");
    server.signal(Signal::CONT);
    let done = chat.done();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(bodies(&ada, all.lines().count()), all.lines().collect::<Vec<_>>());
}

#[test]
fn who_waits_behind_another_program_that_signs_in_says_so() {
    // It takes whoever comes, and never answers.
    let door = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let ada = Person::new(&format!("http://{}", door.local_addr().expect("an address")), "Ada");
    let first = ada.start(&["chat", "general"]);
    let _held = door.accept().expect("somebody comes");
    first.signal(Signal::STOP);
    let done = ada.run(&["post", "general", "x", "--timeout", "2s"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains("Another holdfast program is signing in here; waiting."), "{done:?}");
    assert!(done.stderr.contains("is signing in here; nothing was sent."), "{done:?}");
    assert!(!done.stderr.contains("reached"), "{done:?}");
}

#[test]
fn a_program_that_waits_for_a_server_lets_others_try_meanwhile() {
    let mut server = server();
    server.kill();
    let ada = Person::at(&server, "Ada");
    let first = ada.start(&["chat", "general"]);
    first.wait_for("Cannot reach the server");
    let door = std::fs::File::open(ada.state_file(|name| name == "sign-in.lock")).expect("a file");
    wait::until("the door is free", PATIENCE, || door.try_lock().ok());
    let done = ada.run(&["post", "general", "x", "--timeout", "500ms"]);
    assert!(done.stderr.contains("is signing in here; nothing was sent."), "{done:?}");
    drop(door);
    server.restart();
    assert_eq!(ada.run(&["post", "general", "x"]).code, Some(0));
    first.wait_for("Ada: x");
}
