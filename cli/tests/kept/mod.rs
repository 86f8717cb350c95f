//! What is kept where the server was away from the start, so that nobody could be asked which room is meant.
//!
//! Must not live here: how the program is run. Invariant: whatever a command said is kept is in the outbox, or stored by
//! the server, once; and whatever it said is not kept is in neither.

use std::fs;

use e2e::client::{Client, new_id};
use e2e::server::ServerProcess;
use e2e::wait;
use shared::limits::OUTBOX_ITEMS;
use shared::message::{Command, Membership};

use crate::support::{Done, PATIENCE, Person, body, server};

/// Posts that are given up at once.
fn post(ada: &Person, more: &[&str]) -> Done {
    ada.run(&[&["post", "garden", "--timeout", "500ms"], more].concat())
}

fn post_lines(ada: &Person, lines: &str) -> Done {
    ada.run_with(&["post", "garden", "-", "--lines", "--timeout", "500ms"], lines)
}

fn lines(of: std::ops::RangeInclusive<usize>) -> String {
    of.map(|n| format!("line {n}\n")).collect()
}

/// A server that is away, and somebody who was in `garden` before.
fn away() -> (ServerProcess, Person) {
    let mut server = server();
    let ada = Person::at(&server, "Ada");
    ada.ok(&["post", "garden", "before", "--create"]);
    server.kill();
    (server, ada)
}

fn bodies(ada: &Person, count: usize) -> Vec<String> {
    ada.posts("garden", count).iter().map(|post| body(post).to_owned()).collect()
}

#[test]
fn posts_are_kept_for_the_room_last_found_under_the_name_and_sent_once_in_order() {
    let (mut server, ada) = away();
    let done = post_lines(&ada, "one\ntwo\n");
    assert_eq!((done.code, done.stdout.as_str()), (Some(3), ""), "{done:?}");
    assert!(done.stderr.contains("2 posts kept in the outbox for the room last found as “garden”"), "{done:?}");
    assert!(!done.stderr.contains("not kept"), "{done:?}");
    let done = post(&ada, &["three"]);
    assert!(done.stderr.contains("1 post kept"), "{done:?}");
    assert_eq!(ada.listed(), ["one", "two", "three"]);
    server.restart();
    let done = ada.run(&["post", "#Garden", "four"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(bodies(&ada, 5), ["before", "one", "two", "three", "four"]);
    assert_eq!(ada.ok(&["outbox"]), "");
}

#[test]
fn lines_of_a_chat_are_kept_for_the_room_last_found_under_the_name() {
    let (mut server, ada) = away();
    let done = ada.run_with(&["chat", "garden", "--timeout", "500ms"], "one\ntwo\n");
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains("2 not acknowledged in time; kept in the outbox."), "{done:?}");
    assert!(!done.stderr.contains("not kept"), "{done:?}");
    assert_eq!(ada.listed(), ["one", "two"]);
    server.restart();
    assert_eq!(ada.run(&["outbox", "--send"]).code, Some(0));
    assert_eq!(bodies(&ada, 3), ["before", "one", "two"]);
}

#[test]
fn nothing_is_kept_for_a_room_that_was_never_found_or_when_asked_not_to() {
    let (_server, ada) = away();
    let done = ada.run(&["post", "general", "x", "--timeout", "500ms"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains("1 post not sent and not kept: the server never said which room"), "{done:?}");
    let done = post(&ada, &["x", "--no-keep"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains("1 post not sent and not kept."), "{done:?}");
    // What is remembered is damaged: as good as nothing.
    fs::write(ada.state_file(|name| name.starts_with("rooms-")), "[{\"name\":").expect("written");
    let done = post(&ada, &["x"]);
    assert!(done.stderr.contains("1 post not sent and not kept: the server never said"), "{done:?}");
    assert_eq!(ada.ok(&["outbox"]), "");
}

#[test]
fn of_ten_thousand_lines_as_many_are_kept_as_the_outbox_holds_the_first_ones() {
    let (mut server, ada) = away();
    let done = post_lines(&ada, &lines(1..=10_000));
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains(&format!("{OUTBOX_ITEMS} posts kept")), "{done:?}");
    let rest = 10_000 - OUTBOX_ITEMS;
    assert!(done.stderr.contains(&format!("{rest} posts not sent and not kept: the outbox is full.")), "{done:?}");
    assert_eq!(ada.listed(), lines(1..=OUTBOX_ITEMS).lines().collect::<Vec<_>>());
    let done = post(&ada, &["one more"]);
    assert!(done.stderr.contains("1 post not sent and not kept: the outbox is full."), "{done:?}");
    let done = ada.run_with(&["chat", "garden", "--timeout", "500ms"], "one more\n");
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stdout.contains("the outbox is full, not kept: one more"), "{done:?}");
    assert_eq!(ada.listed().len(), OUTBOX_ITEMS);
    // Full of what was refused, so also while the server is there.
    server.restart();
    leave(&server, &ada, "garden");
    assert_eq!(ada.run(&["outbox", "--send"]).code, Some(1));
    assert_eq!(ada.run(&["post", "general", "x"]).code, Some(5));
    ada.ok(&["outbox", "--discard"]);
    assert_eq!(ada.run(&["post", "general", "x"]).code, Some(0));
}

#[test]
fn nothing_is_called_kept_where_nothing_can_be_stored() {
    let (_server, ada) = away();
    let outbox = ada.state_file(|name| name.starts_with("outbox-"));
    fs::remove_dir_all(&outbox).expect("removed");
    // Not a folder, so it cannot be written, whoever runs this.
    fs::write(&outbox, "").expect("written");
    let done = post(&ada, &["x"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains("1 post not acknowledged and not kept") && !done.stderr.contains("next"), "{done:?}");
    let done = ada.run_with(&["chat", "garden", "--timeout", "500ms"], "x\n");
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains("1 not acknowledged and not kept"), "{done:?}");
}

#[test]
fn on_a_disk_that_fills_up_what_is_called_kept_is_and_the_rest_is_not() {
    let (_server, ada) = away();
    // Nor is there place for another file, in which it could be written anew.
    fs::create_dir(ada.state_file(|name| name.starts_with("outbox-")).join("0.new")).expect("a folder");
    let all = lines(1..=200);
    let args = ["post", "garden", "-", "--lines", "--timeout", "500ms"];
    let done = ada.run_on_a_full_disk(40, &args, &all);
    assert_eq!(done.code, Some(3), "{done:?}");
    let words: Vec<_> = done.stderr.split_whitespace().collect();
    let posts: Vec<usize> =
        words.windows(2).filter(|pair| pair[1] == "posts").map(|pair| pair[0].parse().expect("a number")).collect();
    assert!(done.stderr.contains("this machine did not store them"), "{done:?}");
    assert_eq!(posts.iter().sum::<usize>(), 200, "{done:?}");
    assert!(done.stderr.contains("posts kept in the outbox"), "{done:?}");
    assert_eq!(ada.listed(), all.lines().take(posts[0]).collect::<Vec<_>>(), "{done:?}");
}

#[test]
fn calls_that_run_at_once_keep_what_each_of_them_says() {
    let (mut server, ada) = away();
    let mut running: Vec<_> =
        (0..3).map(|_| ada.start(&["post", "garden", "-", "--lines", "--timeout", "500ms"])).collect();
    for (n, call) in running.iter_mut().enumerate() {
        call.say(&(1..=100).map(|line| format!("{n}-{line:03}\n")).collect::<String>());
        call.end_of_input();
    }
    for call in running {
        let done = call.done();
        assert!(done.code == Some(3) && done.stderr.contains("100 posts kept"), "{done:?}");
    }
    server.restart();
    assert_eq!(ada.run(&["outbox", "--send"]).code, Some(0));
    let posted = bodies(&ada, 301);
    for n in 0..3 {
        let of_one: Vec<_> = posted.iter().filter(|text| text.starts_with(&format!("{n}-"))).collect();
        assert!(of_one.len() == 100 && of_one.is_sorted(), "{of_one:?}");
    }
}

#[test]
fn the_same_id_is_kept_once_and_posted_once() {
    let (mut server, ada) = away();
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    for _ in 0..2 {
        let done = post(&ada, &["once", "--id", id]);
        assert!(done.stderr.contains("1 post kept") && !done.stderr.contains("not kept"), "{done:?}");
    }
    let done = post(&ada, &["another text", "--id", id]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(ada.listed(), ["once"]);
    server.restart();
    // The id is taken in another room.
    let done = ada.run(&["post", "general", "once", "--id", id]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let seq = ada.ok(&["post", "garden", "once", "--id", id]);
    let posts = ada.posts("garden", 2);
    assert_eq!((body(&posts[1]), format!("{}\n", posts[1]["seq"])), ("once", seq));
}

#[test]
fn a_post_kept_for_a_room_that_was_left_meanwhile_is_refused_and_stays_to_be_seen() {
    let (mut server, ada) = away();
    let id = "01890a5d-ac96-774b-bcce-b302099a8058";
    assert!(post(&ada, &["too late", "--id", id]).stderr.contains("1 post kept"));
    server.restart();
    leave(&server, &ada, "garden");
    let done = ada.run(&["post", "general", "elsewhere"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("A post kept from earlier was refused"), "{done:?}");
    assert!(ada.ok(&["outbox"]).contains("refused: "));
    assert_eq!(ada.listed(), ["too late"]);
    // Whoever asks for the same post again enters the room, and it is posted.
    let done = ada.run(&["post", "garden", "too late", "--id", id]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(ada.ok(&["outbox"]), "");
    assert_eq!(bodies(&ada, 2), ["before", "too late"]);
}

#[test]
fn nobody_is_signed_out_who_has_something_unsent_and_then_also_by_the_server() {
    let (mut server, ada) = away();
    let thief = ada.copy();
    let chat = ada.start(&["chat", "garden"]);
    chat.wait_for("Can't reach");
    assert!(post(&ada, &["kept"]).stderr.contains("1 post kept"));
    let done = ada.run(&["sign-out"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("1 unsent") && done.stderr.contains("--discard"), "{done:?}");
    assert_eq!(ada.listed(), ["kept"]);
    // Held by a program that runs: not to be discarded either.
    let holder = ada.start(&["tail", "garden"]);
    holder.wait_for("Not connected");
    let done = ada.run(&["sign-out"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("1 unsent and held by other"), "{done:?}");
    holder.kill();
    ada.ok(&["outbox", "--discard"]);
    server.restart();
    chat.wait_for("live");
    thief.ok(&["rooms"]);
    let done = ada.run(&["sign-out"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("Signed out Ada"), "{done:?}");
    assert_eq!(chat.done().code, Some(4), "what ran as Ada ends");
    assert_eq!(thief.run(&["rooms"]).code, Some(4), "the token is good for nothing");
    assert_eq!(ada.run(&["sign-out"]).code, Some(1));
}

#[test]
fn who_signs_out_while_the_server_is_away_is_told_that_its_session_lasts() {
    let (_server, ada) = away();
    // What it is given yet would be found by nobody.
    let chat = ada.start(&["chat", "garden"]);
    chat.wait_for("Can't reach");
    let done = ada.run(&["sign-out"]);
    assert!(done.code == Some(1) && done.stderr.contains("end them first"), "{done:?}");
    chat.kill();
    let done = ada.run(&["sign-out"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("forgotten here; the session on the server lasts until it expires"), "{done:?}");
    assert_eq!(ada.run(&["outbox"]).code, Some(1));
}

#[test]
fn posts_made_one_after_the_other_keep_their_order_though_a_program_that_runs_holds_the_first() {
    let (mut server, ada) = away();
    for text in ["one", "two", "three"] {
        assert!(post(&ada, &[text]).stderr.contains("1 post kept"));
    }
    // The clock was a day ahead until here.
    let path = ada.state_file(|name| name.starts_with("outbox-")).join("0.jsonl");
    let ahead = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        for time in ["order", "queued_at"] {
            line["put"][time] = (line["put"][time].as_u64().expect("a time") + 86_400_000).into();
        }
        format!("{line}\n")
    };
    let kept = fs::read_to_string(&path).expect("an outbox");
    fs::write(&path, kept.lines().map(ahead).collect::<String>()).expect("written");
    let tail = ada.start(&["tail", "garden"]);
    tail.wait_for("Not connected");
    assert!(post(&ada, &["four"]).stderr.contains("1 post kept"));
    tail.kill();
    assert_eq!(ada.listed(), ["one", "two", "three", "four"]);
    server.restart();
    assert_eq!(ada.run(&["outbox", "--send"]).code, Some(0));
    assert_eq!(bodies(&ada, 5), ["before", "one", "two", "three", "four"]);
}

#[test]
fn a_kept_post_that_is_refused_while_another_program_holds_it_is_told_and_not_called_on_its_way() {
    let (mut server, ada) = away();
    assert!(post(&ada, &[&"x".repeat(4_500)]).stderr.contains("1 post kept"));
    let tail = ada.start(&["tail", "garden"]);
    tail.wait_for("Not connected");
    assert!(ada.run(&["outbox"]).stderr.contains("which send it: 1."));
    server.restart();
    tail.wait_for("A post kept from earlier was refused: post_too_long");
    // It is told when it happens, and on the disk a moment later.
    let done = wait::until("the refusal is on the disk", PATIENCE, || {
        let done = ada.run(&["outbox"]);
        (!done.stderr.contains("which send it")).then_some(done)
    });
    assert!(done.stdout.contains(" refused: ") && done.stderr.contains("Refused, and held by other"), "{done:?}");
    assert_eq!(ada.run(&["outbox", "--send"]).code, Some(1));
    tail.kill();
    // Whoever comes next is told again, of all in one line: they are still there.
    server.kill();
    assert!(post(&ada, &[&"y".repeat(4_500)]).stderr.contains("1 post kept"));
    server.restart();
    assert_eq!(ada.run(&["outbox", "--send"]).code, Some(1));
    for _ in 0..2 {
        assert_eq!(ada.run(&["rooms"]).stderr, "Kept from earlier and refused: 2. See `holdfast outbox`.\n");
    }
    let done = ada.run(&["post", "garden", "short"]);
    assert_eq!(done.stderr, "Kept from earlier and refused: 2. See `holdfast outbox`.\n");
    ada.ok(&["outbox", "--discard"]);
    assert_eq!(ada.run(&["rooms"]).stderr, "");
}

/// Leaves a room as another device of the same person would.
fn leave(server: &ServerProcess, ada: &Person, name: &str) {
    let account = fs::read_to_string(ada.state_file(|name| name.ends_with(".json"))).expect("an account");
    let account: serde_json::Value = serde_json::from_str(&account).expect("JSON");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let token = account["token"].as_str().expect("a token");
        let (mut device, welcome) = Client::join(server.address(), token, &[]).await;
        let room = welcome.rooms.iter().find(|room| room.name == name).expect("a member").room;
        let left = device.ask(Command::Leave(Membership { client_id: new_id(), room })).await;
        left.expect("an answer").expect("left");
        device.close().await;
    });
}

#[test]
fn a_program_killed_while_it_keeps_leaves_the_first_of_its_lines() {
    let (_server, ada) = away();
    let all = lines(1..=900);
    let mut posting = ada.start(&["post", "garden", "-", "--lines", "--timeout", "500ms"]);
    posting.say(&all);
    posting.end_of_input();
    let outbox = ada.state_file(|name| name.starts_with("outbox-"));
    wait::until("something is kept", PATIENCE, || {
        fs::read_to_string(outbox.join("0.jsonl")).is_ok_and(|text| text.contains("line 1\"")).then_some(())
    });
    posting.kill();
    let kept = ada.listed();
    assert!(!kept.is_empty() && all.lines().take(kept.len()).eq(kept.iter().map(String::as_str)), "{kept:?}");
}
