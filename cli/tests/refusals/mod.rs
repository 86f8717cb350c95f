//! What a server refuses for the moment, for there is too much of it.
//!
//! Must not live here: how the program is run. Invariant: it is asked again when the server said, whatever happens meanwhile.

use e2e::client::{Client, new_id};
use e2e::http::Http;
use e2e::server::ServerOptions;
use e2e::wait;
use shared::message::{Command, CreateRoom};

use crate::support::{PATIENCE, Person, server};

#[test]
fn a_room_that_is_refused_for_the_moment_is_entered_though_another_is_never_quiet() {
    let server = ServerOptions::new().flag("sign-ins", 100).flag("posts-burst", 1).flag("posts-per-s", 1).start();
    let people @ [ada, ben, lin] = &["Ada", "Ben", "Lin"].map(|name| Person::at(&server, name));
    lin.ok(&["post", "garden", "there", "--create"]);
    people.iter().for_each(|person| drop(person.ok(&["post", "general", "here"])));
    // As often as its rate lets it, and beyond the end of this test.
    let mut posting = lin.start(&["post", "general", "--lines", "--timeout", "5m"]);
    posting.say(&"again\n".repeat(200));
    posting.end_of_input();
    wait::until("posts", PATIENCE, || (posting.stdout().lines().count() > 1).then_some(()));
    // Each has just spent what it had, so its entry is refused, unless this machine is very slow.
    ada.ok(&["post", "general", "before"]);
    let done = ada.run(&["post", "garden", "in time"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    ben.ok(&["post", "general", "before"]);
    let done = ben.run(&["tail", "garden", "--since", "all", "--count", "2", "--timeout", "30s"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.matches("Waiting to enter “garden”").count() <= 1, "{done:?}");
    assert!(posting.stdout().lines().count() < 200, "it was never quiet");
}

#[test]
fn rooms_are_listed_as_fast_as_the_server_lets() {
    const ROOMS: usize = 350;
    let mut server = server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let token = Http::new(server.address()).sign_in("Lin").token;
    runtime.block_on(async {
        let (mut lin, _) = Client::join(server.address(), &token, &[]).await;
        for n in 1..ROOMS {
            let room = CreateRoom { client_id: new_id(), name: format!("room-{n}"), title: String::new() };
            lin.ask(Command::CreateRoom(room)).await.expect("an answer").expect("made");
        }
        lin.close().await;
    });
    server.kill();
    server.set_options(|_| ServerOptions::new().flag("frames-burst", 3).flag("frames-per-s", 1));
    server.restart();
    let listed = Person::at(&server, "Ada").ok(&["rooms", "--json"]);
    let mut names: Vec<_> = listed.lines().map(|line| line.split("\"name\":").nth(1).expect("a name")).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!((listed.lines().count(), names.len()), (ROOMS, ROOMS));
}
