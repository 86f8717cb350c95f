//! What the command line promises, shown with the real program against the real server.

mod ends;
mod kept;
mod refusals;
mod screens;
mod support;
mod tails;

use std::io::{BufRead as _, BufReader, Read as _};

use e2e::wait;
use rustix::process::Signal;
use support::{PATIENCE, Person, body, posts_in, server, wait_for_exit};

#[test]
fn post_exits_0_only_when_the_server_has_stored_it() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let seq = ada.ok(&["post", "general", "hello 中文"]);
    let posts = ada.posts("general", 1);
    assert_eq!(body(&posts[0]), "hello 中文");
    assert_eq!(posts[0]["seq"].to_string(), seq.trim());

    // A server that is there and answers nothing: not acknowledged, so not 0.
    server.signal(Signal::STOP);
    let done = ada.run(&["post", "general", "into the void", "--timeout", "2s"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    assert_eq!(done.stdout, "", "no seq without an acknowledgement");
    server.signal(Signal::CONT);
    assert_eq!(ada.run(&["post", "general", "after"]).code, Some(0));
}

#[test]
fn post_says_what_was_refused_and_exits_1() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let long = "x".repeat(5_000);
    let done = ada.run(&["post", "general", &long]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("post_too_long"), "{done:?}");
    let done = ada.run(&["post", "no-such-room", "x"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("--create"), "{done:?}");
    assert_eq!(ada.ok(&["outbox"]), "", "what was refused and told is not kept");
    // Somebody else cannot have the name.
    let twin = Person::at(&server, "Ada").run(&["post", "general", "x"]);
    assert_eq!(twin.code, Some(1), "{twin:?}");
    assert!(twin.stderr.contains("name_taken"), "{twin:?}");
}

#[test]
fn post_says_which_lines_were_refused() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let long = "x".repeat(5_000);
    let done = ada.run_with(&["post", "general", "-", "--lines"], &format!("a\n\n{long}\nb\n{long}\n"));
    assert_eq!((done.code, done.stdout.lines().count()), (Some(1), 2), "{done:?}");
    for words in ["Line 3 is refused: post_too_long", "Line 5 is refused: post_too_long"] {
        assert!(done.stderr.contains(words), "{done:?}");
    }
    assert!(done.stderr.contains("2 of 4 posts refused, the first is line 3: post_too_long"), "{done:?}");
    assert!(done.stderr.trim_end().ends_with(" 2 posts acknowledged."), "{done:?}");
    assert_eq!(ada.posts("general", 2).iter().map(body).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn the_same_id_is_one_post_however_often_it_is_asked() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let first = ada.ok(&["post", "general", "once", "--id", id]);
    assert_eq!(ada.ok(&["post", "general", "once", "--id", id]), first);
    let other = ada.run(&["post", "general", "another text", "--id", id]);
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.stderr.contains("id_conflict"), "{other:?}");
}

#[test]
fn lines_are_posted_in_order_and_a_room_is_made_when_asked() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let lines: String = (1..=300).map(|n| format!("line {n}\n")).collect();
    let done = ada.run_with(&["post", "garden", "-", "--lines", "--create"], &lines);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stdout.lines().count(), 300);
    let posts = ada.posts("garden", 300);
    let bodies: Vec<_> = posts.iter().map(body).collect();
    assert_eq!(bodies, lines.lines().collect::<Vec<_>>());
}

#[test]
fn nobody_is_shown_to_another_server_of_the_same_host() {
    let nowhere = Person::new("http://127.0.0.1:1/team/a", "Ada");
    let account = r#"{"user":{"id":"01890a5d-ac96-774b-bcce-b302099a8057","name":"Ada"},"token":"secret"}"#;
    // Makes the folder.
    assert_eq!(nowhere.run(&["outbox"]).code, Some(1));
    let folder = std::fs::read_dir(nowhere.state()).expect("state").next().expect("a server").expect("a folder").path();
    std::fs::write(folder.join("01890a5d-ac96-774b-bcce-b302099a8057.json"), account).expect("written");
    assert_eq!(nowhere.run(&["outbox"]).code, Some(0));
    for other in ["http://127.0.0.1:1/team_a", "http://127.0.0.1:1/team-a", "http://127.0.0.1:1/team/A"] {
        let done = nowhere.run(&["--server", other, "outbox"]);
        assert_eq!(done.code, Some(1), "{other}: {done:?}");
        assert!(done.stderr.contains("nobody is signed in here"), "{done:?}");
    }
    // What an earlier version kept may be of another one, so it is left there, and told of once.
    let old = nowhere.state().join("http-127.0.0.1-1_other_a");
    std::fs::rename(folder, &old).expect("renamed");
    for is_told in [true, false] {
        let done = nowhere.run(&["--server", "http://127.0.0.1:1/other/a", "outbox"]);
        assert_eq!((done.code, done.stderr.contains(old.to_str().expect("text"))), (Some(1), is_told), "{done:?}");
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_exit_code_3() {
    // A port nobody listens on: bound and let go.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let nowhere = Person::new(&format!("http://127.0.0.1:{port}"), "Ada");
    for args in [&["post", "general", "x", "--timeout", "1s"][..], &["rooms", "--timeout", "1s"]] {
        let done = nowhere.run(args);
        assert_eq!(done.code, Some(3), "{args:?}: {done:?}");
    }
    assert_eq!(nowhere.run(&["post"]).code, Some(2));
    assert_eq!(nowhere.run(&["post", "general", "x", "--timeout", "soon"]).code, Some(2));
}

#[test]
fn tail_neither_misses_nor_repeats_while_the_server_is_killed_and_restarted() {
    let mut server = server();
    let (ada, lin) = (Person::at(&server, "Ada"), Person::at(&server, "Lin"));
    ada.ok(&["post", "general", "first"]);
    let lines: String = (1..=600).map(|n| format!("post {n}\n")).collect();
    let tail = lin.start(&["tail", "general", "--json", "--since", "all", "--count", "601"]);
    tail.wait_for("first");
    let mut posting = ada.start(&["post", "general", "-", "--lines", "--timeout", "60s"]);
    posting.say(&lines);
    posting.end_of_input();
    for part in [100, 300] {
        wait::until("some are acknowledged", PATIENCE, || (posting.stdout().lines().count() >= part).then_some(()));
        server.kill();
        server.restart();
    }
    let posted = posting.done();
    assert_eq!(posted.code, Some(0), "{posted:?}");
    let tailed = tail.done();
    assert_eq!(tailed.code, Some(0), "{}", tailed.stderr);
    let seqs: Vec<u64> = tailed
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["seq"].as_u64().expect("a seq"))
        .collect();
    assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "seqs are not dense: {seqs:?}");
    let posts = posts_in(&tailed.stdout);
    let bodies: Vec<_> = posts.iter().map(body).collect();
    assert_eq!(bodies, std::iter::once("first").chain(lines.lines()).collect::<Vec<_>>());
    // What was acknowledged is where the acknowledgement said.
    let acked: Vec<_> = posted.stdout.lines().collect();
    let stored: Vec<_> = posts.iter().skip(1).map(|post| post["seq"].to_string()).collect();
    assert_eq!(acked, stored);
}

#[test]
fn tail_starts_where_it_is_told_and_goes_on_from_its_file() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let seqs: Vec<String> =
        (1..=5).map(|n| ada.ok(&["post", "general", &format!("post {n}")]).trim().to_owned()).collect();
    let after = ada.ok(&["tail", "general", "--json", "--since", &seqs[2], "--count", "2"]);
    assert_eq!(posts_in(&after).iter().map(body).collect::<Vec<_>>(), ["post 4", "post 5"]);
    let place = ada.state().join("place");
    let place = place.to_str().expect("UTF-8");
    let first = ada.ok(&["tail", "general", "--json", "--since", "all", "--count", "3", "--state", place]);
    assert_eq!(posts_in(&first).len(), 3);
    let rest = ada.ok(&["tail", "general", "--json", "--since", "all", "--count", "2", "--state", place]);
    assert_eq!(posts_in(&rest).iter().map(body).collect::<Vec<_>>(), ["post 4", "post 5"]);
    let future = ada.run(&["tail", "general", "--since", "1000000", "--timeout", "20s"]);
    assert_eq!(future.code, Some(1), "{future:?}");
}

#[test]
fn a_closed_pipe_ends_every_command_quietly() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    ada.ok(&["post", "general", "one"]);
    // Idle, so that only the pipe itself can tell.
    let mut tail = ada.start_raw(&["tail", "general", "--since", "all"]);
    let mut stdout = BufReader::new(tail.stdout.take().expect("stdout is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    assert!(!line.contains('\x1b'), "colours in a pipe: {line:?}");
    drop(stdout);
    assert_eq!(wait_for_exit(&mut tail, "tail").code(), Some(0));
    for args in [&["--help"][..], &["rooms"], &["post", "general", "two"], &["tail", "general", "--since", "all"]] {
        let mut child = ada.start_raw(args);
        drop((child.stdout.take(), child.stdin.take()));
        let code = wait_for_exit(&mut child, "a command without a reader").code();
        let mut stderr = String::new();
        child.stderr.take().expect("stderr is piped").read_to_string(&mut stderr).expect("text");
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        assert_eq!(code, Some(0), "{args:?}: {stderr}");
    }
    assert_eq!(ada.posts("general", 2).len(), 2, "stored, although nobody read the seq");
}

#[test]
fn the_outbox_survives_the_program_being_killed() {
    let mut server = server();
    let ada = Person::at(&server, "Ada");
    let mut chat = ada.start(&["chat", "general"]);
    chat.wait_for("live");
    server.kill();
    chat.wait_for("Can't reach the server");
    chat.say("one\ntwo\nthree\n");
    for text in ["one", "two", "three"] {
        chat.wait_for(&format!("saved here, waiting to be sent: {text}"));
    }
    chat.kill();
    let listed = ada.ok(&["outbox"]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    server.restart();
    let sent = ada.run(&["outbox", "--send"]);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert_eq!(ada.posts("general", 3).iter().map(body).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert_eq!(ada.ok(&["outbox"]), "");
}

#[test]
fn what_was_not_acknowledged_in_time_goes_out_with_the_next_command_and_once() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let mut chat = ada.start(&["chat", "general", "--timeout", "1s"]);
    chat.wait_for("live");
    server.signal(Signal::STOP);
    chat.say("kept\n");
    chat.end_of_input();
    let done = chat.done();
    assert_eq!(done.code, Some(3), "{done:?}");
    server.signal(Signal::CONT);
    assert_eq!(ada.run(&["post", "general", "next"]).code, Some(0));
    // It may have been on its way already; once it is, whichever way it came.
    let posts = ada.posts("general", 2);
    let mut bodies: Vec<_> = posts.iter().map(body).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["kept", "next"]);
    assert_eq!(ada.ok(&["outbox"]), "");
}

#[test]
fn chat_does_not_call_kept_what_it_could_put_in_no_room() {
    let mut server = server();
    let ada = Person::at(&server, "Ada");
    ada.ok(&["rooms"]);
    server.kill();
    let done = ada.run_with(&["chat", "general", "--timeout", "1s"], "one\ntwo\n");
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains("2 not sent and not kept") && !done.stderr.contains("outbox"), "{done:?}");
    assert_eq!(ada.ok(&["outbox"]), "");
}

#[test]
fn chat_posts_what_is_piped_in_and_shows_what_others_say() {
    let server = server();
    let (ada, lin) = (Person::at(&server, "Ada"), Person::at(&server, "Lin"));
    let mut watching = lin.start(&["chat", "general"]);
    watching.wait_for("live");
    let done = ada.run_with(&["chat", "general"], "hello\nfrom a pipe\n");
    assert_eq!(done.code, Some(0), "{done:?}");
    watching.wait_for("Ada: from a pipe");
    watching.say("seen\n");
    watching.wait_for("Lin: seen ✓");
    watching.interrupt();
    assert_eq!(watching.done().code, Some(130));
    assert_eq!(ada.posts("general", 3).iter().map(body).collect::<Vec<_>>(), ["hello", "from a pipe", "seen"]);
}

#[test]
fn a_session_that_ended_is_exit_code_4() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    ada.ok(&["rooms"]);
    ada.lose_the_token();
    let done = ada.run(&["post", "general", "x"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stderr.contains("sign-in"), "{done:?}");
}

#[test]
fn rooms_lists_every_room_once() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    for n in 0..3 {
        ada.ok(&["post", &format!("room-{n}"), "hello", "--create"]);
    }
    let text = ada.ok(&["rooms", "--json"]);
    let mut names: Vec<String> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["name"].as_str().expect("a name").into()
        })
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["general", "room-0", "room-1", "room-2"]);
}

#[test]
fn bench_counts_every_delivery() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let pid = server.pid().to_string();
    let text = ada.ok(&[
        "bench",
        "--clients",
        "20",
        "--senders",
        "5",
        "--rate",
        "20",
        "--burst",
        "4",
        "--seconds",
        "1",
        "--json",
        "--server-pid",
        &pid,
    ]);
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["posts"], 80);
    assert_eq!(report["acked"], 80);
    assert_eq!(report["deliveries"], 80 * 20);
    let durable = ada.ok(&["bench", "--durable", "--senders", "4", "--seconds", "1", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&durable).expect("JSON");
    assert!(report["acked"].as_u64().expect("a number") > 0, "{report}");
    let idle = ada.ok(&["bench", "--idle", "10", "--seconds", "1", "--json", "--server-pid", &pid]);
    assert!(idle.contains("rss_per_connection"));
}

#[test]
fn bench_takes_no_server_elsewhere_without_being_told_whose_it_is() {
    let done = Person::new("http://192.0.2.1:80", "Ada").run(&["bench", "--clients", "1"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("--i-own-this-server"), "{done:?}");
}
