//! Where a tail begins and goes on, and what it says of it.
//!
//! Must not live here: how the program is run. Invariant: a tail says that nothing was missed only where nothing was.

use std::fs;
use std::os::unix::net::UnixDatagram;

use e2e::wait;
use rustix::process::Signal;

use crate::support::{PATIENCE, Person, body, posts_in, server, wait_for_exit};

#[test]
fn the_place_is_kept_while_nothing_happens_so_nothing_comes_twice_after_a_kill() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let place = ada.state().join("pl.new");
    let args = ["tail", "general", "--json", "--state", place.to_str().expect("UTF-8")];
    // It has printed nothing yet, and its place is kept all the same.
    let tail = ada.start(&args);
    wait::until("a place", PATIENCE, || place.exists().then_some(()));
    tail.kill();
    for n in 0..2 {
        let last = ada.ok(&["post", "general", &format!("post {n}")]);
        let tail = ada.start(&args);
        tail.wait_for(&format!("\"post {n}\""));
        let seq = format!("\"seq\":{},", last.trim());
        wait::until("the place", PATIENCE, || {
            fs::read_to_string(&place).is_ok_and(|text| text.contains(&seq)).then_some(())
        });
        if n == 0 {
            tail.kill();
        } else {
            tail.signal(Signal::HUP);
            assert_eq!(tail.done().code, Some(130));
        }
    }
    ada.ok(&["post", "general", "post 2"]);
    let rest = ada.ok(&[&args[..], &["--count", "1"]].concat());
    assert_eq!(posts_in(&rest).iter().map(body).collect::<Vec<_>>(), ["post 2"]);
    let left: Vec<_> =
        fs::read_dir(ada.state()).expect("state").map(|file| file.expect("a file").file_name()).collect();
    assert_eq!(left.len(), 2, "nothing beside the place and the folder of the server: {left:?}");
}

#[test]
fn who_begins_with_what_comes_is_not_told_that_nothing_was_missed_before_the_beginning() {
    let mut server = server();
    let ada = Person::at(&server, "Ada");
    ada.ok(&["post", "general", "before"]);
    server.kill();
    let place = ada.state().join("place");
    let tail = ada.start(&["tail", "general", "--state", place.to_str().expect("UTF-8")]);
    tail.wait_for("Not connected, trying again.");
    server.restart();
    tail.wait_for("Live again.");
    wait::until("a beginning", PATIENCE, || place.exists().then_some(()));
    assert!(!tail.stderr().contains("missed"), "{}", tail.stderr());
    server.kill();
    tail.wait_for("trying again; what is missed comes then.");
    server.restart();
    tail.wait_for("Live again; nothing was missed.");
}

#[test]
fn a_long_line_is_one_write_so_lines_of_two_programs_on_one_pipe_do_not_mix() {
    let server = server();
    let ada = Person::at(&server, "Ada");
    let texts = ["x".repeat(3_000), "short".to_owned()];
    for text in &texts {
        ada.ok(&["post", "general", text]);
    }
    // Each write is a message of its own here.
    let (ours, theirs) = UnixDatagram::pair().expect("a pair of sockets");
    ours.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let mut tail = ada.start_onto(&["tail", "general", "--json", "--since", "all", "--count", "2"], theirs.into());
    let mut told = String::new();
    while posts_in(&told).len() < texts.len() {
        let mut message = [0; 64 * 1024];
        let bytes = ours.recv(&mut message).expect("a message");
        let text = std::str::from_utf8(&message[..bytes]).expect("UTF-8");
        assert!(text.ends_with('\n') && text.lines().count() == 1, "no line, or more: {text:?}");
        told.push_str(text);
    }
    assert_eq!(posts_in(&told).iter().map(body).collect::<Vec<_>>(), texts);
    assert_eq!(wait_for_exit(&mut tail, "tail").code(), Some(0));
}
