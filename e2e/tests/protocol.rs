//! What a client can rely on, crossed from outside against the real binary: exchanges, replies, rooms, presence, closes,
//! logs. Named by the rows of the list the project grew from.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::campaign::figure;
use e2e::client::{Lost, new_id};
use e2e::raw::{self, RawSocket};
use e2e::scene::{long_body, post};
use e2e::server::{ServerOptions, ServerProcess};
use e2e::{Client, Http, Scene, wait};
use serde_json::{Value, json};
use shared::ids::{RequestId, RoomId, Seq};
use shared::message::{
    Body, Command, CreateRoom, Event, FindRoom, History, ListPeople, ListRooms, MarkRead, Membership, Reply, RoomRef,
    SendDelete, SendEdit,
};
use shared::model::{OpenOutcome, RoomChange, RoomSummary, UserChange};

const SOON: Duration = Duration::from_secs(20);
/// Long enough for something wrong to come, on a quiet server.
const A_MOMENT: Duration = Duration::from_millis(500);

fn server() -> ServerProcess {
    ServerOptions::new().without_rates().flag("coalesce-ms", 50).start()
}

async fn join(server: &ServerProcess, name: &str) -> (Client, RoomId) {
    let who = Http::new(server.address()).sign_in(name);
    let (client, room, _) = Client::join_general(server.address(), &who.token).await;
    (client, room)
}

async fn create_room(client: &mut Client, name: &str) -> RoomSummary {
    let create = CreateRoom { client_id: new_id(), name: name.to_owned(), title: String::new() };
    match client.ask(Command::CreateRoom(create)).await {
        Ok(Ok(Reply::Room(room))) => room,
        other => panic!("no room {name}: {other:?}"),
    }
}

async fn done(client: &mut Client, command: Command) {
    let answer = client.ask(command).await;
    assert!(matches!(answer, Ok(Ok(_))), "{answer:?}");
}

#[test]
fn s01_a_connection_lives_through_a_thousand_exchanges_until_somebody_closes_it() {
    let mut scene = Scene::open(ServerOptions::new().without_rates());
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    for id in 10..1_010 {
        let answer = socket.ask(id, "beat", &json!({}));
        assert_eq!(answer["success"], true, "{answer}");
    }
    socket.send_frame(true, raw::opcode::CLOSE, &1_000_u16.to_be_bytes());
    assert_eq!(socket.ending(SOON).name(), "normal");
    scene.assert_the_others_live();
}

#[test]
fn s02_every_answer_carries_its_request_id_and_says_success_or_error() {
    let scene = Scene::open(ServerOptions::new().without_rates());
    let room = scene.room.clone();
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    // All sent before any answer is read, so an answer can only be told apart by its id.
    for id in 10..20 {
        socket.send_json(&json!({ "id": id, "command": "beat", "payload": {} }));
        socket
            .send_json(&json!({ "id": id + 100, "command": "history", "payload": { "room": new_id(), "before": 1 } }));
        let post = json!({ "client_id": new_id(), "room": room, "body": "x" });
        socket.send_json(&json!({ "id": id + 200, "command": "post", "payload": post }));
    }
    let mut answered = BTreeSet::new();
    while answered.len() < 30 {
        let answer = socket.expect_json("an answer", |message| message.get("id").is_some());
        let id = answer["id"].as_u64().expect("a number");
        assert!(answered.insert(id), "{id} was answered twice");
        match id / 100 {
            0 => assert_eq!((&answer["success"], &answer["reply"]), (&json!(true), &json!("beat"))),
            1 => assert_eq!((&answer["success"], &answer["error"]["code"]), (&json!(false), &json!("not_found"))),
            _ => assert_eq!((&answer["success"], &answer["reply"]), (&json!(true), &json!("ack"))),
        }
    }
}

#[test]
fn s03_the_page_the_api_and_the_socket_come_from_one_port() {
    let scene = Scene::open(ServerOptions::new());
    let page = scene.http.get("/", &[]);
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    let policy = page.header("content-security-policy").expect("a policy is served with the page");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe-inline"), "{policy}");
    assert_eq!(scene.http.get("/healthz", &[]).status, 200);
    assert_eq!(scene.http.get("/readyz", &[]).status, 200);
    let deep = scene.http.get("/r/general", &[]);
    assert_eq!((deep.status, deep.body), (200, page.body), "a room's address is the page");
    assert_eq!(scene.http.get("/api/no-such-thing", &[]).status, 404);
    assert_eq!(scene.http.get("/../../etc/passwd", &[]).body.find("root:"), None);
    assert_eq!(scene.upgrade(&[("Authorization", &format!("Bearer {}", scene.token))]).status, 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn s07_thirty_two_people_posting_at_once_are_put_in_one_order_that_all_see() {
    const PEOPLE: usize = 32;
    const POSTS: usize = 20;
    let server = server();
    let mut clients = Vec::new();
    for person in 0..PEOPLE {
        clients.push(join(&server, &format!("Person {person}")).await);
    }
    let mut tasks = Vec::new();
    for (person, (mut client, room)) in clients.into_iter().enumerate() {
        tasks.push(tokio::spawn(async move {
            client.post_many(room, (0..POSTS).map(|number| format!("{person} says {number}"))).await;
            let mut seen = Vec::new();
            while seen.len() < PEOPLE * POSTS {
                let event = client.next_room_event(SOON).await.expect("every event");
                if let RoomChange::Posted(posted) = event.change {
                    seen.push((event.seq, posted.client_id));
                }
            }
            seen
        }));
    }
    let mut views = Vec::new();
    for task in tasks {
        views.push(task.await.expect("a client"));
    }
    assert!(views[0].windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(views.iter().all(|view| *view == views[0]), "two people saw different orders");
}

#[tokio::test]
async fn s09_a_post_reaches_everybody_in_the_room_and_nobody_else() {
    let server = server();
    let (mut ada, general) = join(&server, "Ada").await;
    let (mut bo, _) = join(&server, "Bo").await;
    let (mut cy, _) = join(&server, "Cy").await;
    let side = create_room(&mut ada, "side-room").await.room;
    done(&mut bo, Command::Join(Membership { client_id: new_id(), room: side })).await;
    ada.open(side, None, false).await;
    bo.open(side, None, false).await;
    for client in [&mut ada, &mut bo, &mut cy] {
        client.forget_inbox();
    }
    let ack = ada.post(side, "for the two of us").await.expect("a connection").expect("an ack");
    let heard = bo.next_room_event(SOON).await.expect("the post");
    assert_eq!((heard.room, heard.seq), (side, ack.seq));
    let leaked = cy.next_room_event(A_MOMENT).await;
    assert!(leaked.is_err(), "somebody outside heard {leaked:?}");
    let refused = cy.post(side, "let me in").await.expect("a connection").expect_err("a refusal");
    assert_eq!(refused.code, shared::error::ErrorCode::NotMember);
    ada.post(general, "for all").await.expect("a connection").expect("an ack");
    assert_eq!(cy.next_room_event(SOON).await.expect("the post").room, general);
}

#[tokio::test]
async fn s11_leaving_is_told_once_and_ends_delivery() {
    let server = server();
    let (mut ada, _) = join(&server, "Ada").await;
    let (mut bo, _) = join(&server, "Bo").await;
    let room = create_room(&mut ada, "short-stay").await.room;
    ada.open(room, None, false).await;
    done(&mut bo, Command::Join(Membership { client_id: new_id(), room })).await;
    bo.open(room, None, false).await;
    done(&mut bo, Command::Leave(Membership { client_id: new_id(), room })).await;
    let mut changes = Vec::new();
    while let Ok(event) = ada.next_room_event(A_MOMENT).await {
        if event.room == room && event.by.name == "Bo" {
            changes.push(event.change.tag().to_owned());
        }
    }
    assert_eq!(changes, ["joined", "left"]);
    bo.forget_inbox();
    ada.post(room, "behind their back").await.expect("a connection").expect("an ack");
    let heard = bo.next_room_event(A_MOMENT).await;
    assert!(heard.is_err(), "somebody who left heard {heard:?}");
    let asked =
        bo.ask(Command::History(History { room, before: Seq(1_000), limit: None })).await.expect("a connection");
    assert!(asked.is_err(), "somebody who left read on: {asked:?}");
}

#[tokio::test]
async fn s12_what_a_newer_client_says_beside_the_known_is_ignored_and_its_new_commands_are_answered() {
    let server = server();
    let token = Http::new(server.address()).sign_in("Ada").token;
    let (mut socket, _) = RawSocket::open_and_greet(server.address(), &token);
    socket.send_text(r#"{"id":5,"command":"beat","payload":{"mood":"fine"},"trace":"abc","extra":{"a":[1,2,{}]}}"#);
    let answer = socket.expect_json("the answer", |message| message["id"] == 5);
    assert_eq!(answer["success"], true, "{answer}");
    assert_eq!(socket.ask(6, "fly", &json!({}))["error"]["code"], "unknown_command");
    socket.assert_alive();
}

#[test]
fn s13_a_close_is_answered_in_kind_whatever_its_code_and_the_server_lives_on() {
    let mut scene = Scene::open(ServerOptions::new().without_rates());
    for code in [1_000_u16, 1_001, 3_000, 4_999] {
        let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
        socket.send_frame(true, raw::opcode::CLOSE, &[&code.to_be_bytes()[..], b"bye"].concat());
        let ending = socket.ending(SOON);
        assert!(matches!(ending, raw::Ending::Closed { code: echoed, .. } if echoed == code), "{code}: {ending:?}");
    }
    for bad in [
        &[0x03][..],
        &999_u16.to_be_bytes(),
        &1_005_u16.to_be_bytes(),
        &1_006_u16.to_be_bytes(),
        &5_000_u16.to_be_bytes(),
    ] {
        let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
        socket.send_frame(true, raw::opcode::CLOSE, bad);
        assert_eq!(socket.ending(SOON).name(), "protocol_error", "{bad:?}");
    }
    scene.assert_the_others_live();
}

#[test]
fn s14_idle_sockets_cost_little_memory() {
    const SOCKETS: usize = 300;
    let scene = Scene::open(ServerOptions::new().without_rates().flag("sockets-per-user", 1_000));
    let before = scene.server.resident_kib();
    let sockets: Vec<RawSocket> =
        (0..SOCKETS).map(|_| RawSocket::open_and_greet(scene.address(), &scene.token).0).collect();
    let each = scene.server.resident_kib().saturating_sub(before) / sockets.len() as u64;
    // A debug build's; the number that is promised is measured on a release build.
    assert!(each < 100, "an idle socket costs {each} KiB");
}

#[test]
fn s15_an_abnormal_end_is_logged_with_its_code_and_without_bodies_or_tokens() {
    let mut scene = Scene::open(ServerOptions::new().flag("log-format", "json").flag("log", "debug"));
    let secret = "a body nobody may read in a log";
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    let room = scene.room.clone();
    let ack = socket.ask(9, "post", &json!({ "client_id": new_id(), "room": room, "body": secret }));
    assert_eq!(ack["success"], true, "{ack}");
    socket.send_frame(true, raw::opcode::TEXT, b"\xff");
    assert_eq!(socket.ending(SOON).name(), "invalid_utf8");
    // Its digits may stand anywhere, in a moment or in an address: it is looked for as what it is.
    let is_close = |entry: &Value| entry["fields"]["code"] == 1_007;
    wait::until("the close is logged", SOON, || {
        let log = scene.server.stderr();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).any(|entry| is_close(&entry)).then_some(())
    });
    let log = scene.server.stderr();
    assert!(!log.contains(secret), "a body is in the log");
    assert!(!log.contains(&scene.token), "a token is in the log");
    scene.assert_the_others_live();
}

#[test]
fn s17_a_client_that_writes_without_reading_is_slowed_down_and_not_lost() {
    /// Requests whose answers are some 25 MB, far more than all buffers hold.
    const ASKED: u64 = 400;
    /// Posts of 16 KB, which are in every answer.
    const POSTS: u64 = 4;
    /// For how long nothing is read, while the server could answer all of them.
    const UNREAD_FOR: Duration = Duration::from_secs(3);
    const FLAT_KIB: u64 = 12 * 1024;
    let scene = Scene::open(ServerOptions::new().without_rates());
    let (mut socket, _) = RawSocket::open_and_greet_with_small_buffer(scene.address(), &scene.token);
    let room = scene.room.clone();
    for id in 2..2 + POSTS {
        let ack = socket.ask(id, "post", &post(&room, &long_body()));
        assert_eq!(ack["success"], true, "{ack}");
    }
    let before = scene.server.resident_kib();
    let mut writer = socket.second_handle();
    let writing = std::thread::spawn(move || {
        for id in 10..10 + ASKED {
            writer.send_json(&json!({ "id": id, "command": "history", "payload": { "room": room, "before": 1_000 } }));
        }
    });
    let (mut grown, began) = (0, Instant::now());
    while began.elapsed() < UNREAD_FOR {
        grown = scene.server.resident_kib().saturating_sub(before).max(grown);
        assert!(grown < FLAT_KIB, "memory grew by {grown} KiB for answers that nobody reads");
        std::thread::sleep(Duration::from_millis(20));
    }
    figure(&format!("{ASKED} answers of 64 KB and more that nobody read: memory {grown} KiB more"));
    for id in 10..10 + ASKED {
        let answer = socket.expect_json("the next answer", |message| message.get("id").is_some());
        assert_eq!(answer["id"], id, "answers came out of order or were lost");
        assert_eq!(answer["payload"]["posts"].as_array().map(Vec::len), Some(POSTS as usize));
    }
    writing.join().expect("all was written");
}

#[tokio::test]
async fn s18_rooms_are_made_found_listed_joined_and_left() {
    let server = server();
    let (mut ada, general) = join(&server, "Ada").await;
    let (mut bo, _) = join(&server, "Bo").await;
    let made = create_room(&mut ada, "books").await;
    assert!(made.joined);
    let added = ada
        .expect(SOON, |body| match body {
            Body::Event(Event::User(event)) => match &event.change {
                UserChange::RoomAdded(added) => Some(added.name.clone()),
                _ => None,
            },
            _ => None,
        })
        .await;
    assert_eq!(added.expect("one's own stream tells"), "books");
    let found = match bo.ask(Command::FindRoom(FindRoom { name: "books".to_owned() })).await {
        Ok(Ok(Reply::Room(room))) => room,
        other => panic!("{other:?}"),
    };
    assert_eq!((found.room, found.joined), (made.room, false));
    let listed = match bo.ask(Command::Rooms(ListRooms::default())).await {
        Ok(Ok(Reply::Rooms(list))) => list.rooms.into_iter().map(|room| room.room).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert!(listed.contains(&made.room) && listed.contains(&general));
    let taken = CreateRoom { client_id: new_id(), name: "Books".to_owned(), title: String::new() };
    let taken = bo.ask(Command::CreateRoom(taken)).await.expect("a connection");
    assert!(taken.is_err(), "two rooms of one name: {taken:?}");
    done(&mut bo, Command::Join(Membership { client_id: new_id(), room: made.room })).await;
    let people = match bo.ask(Command::People(ListPeople { room: made.room, after: None })).await {
        Ok(Ok(Reply::People(list))) => {
            list.people.into_iter().map(|member| (member.name, member.online)).collect::<BTreeSet<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(people, BTreeSet::from([("Ada".to_owned(), true), ("Bo".to_owned(), true)]));
    done(&mut bo, Command::Leave(Membership { client_id: new_id(), room: made.room })).await;
}

#[tokio::test]
async fn creating_a_room_twice_under_one_key_makes_one_room() {
    let server = server();
    let (mut ada, _) = join(&server, "Ada").await;
    let create = CreateRoom { client_id: new_id(), name: "once".to_owned(), title: "only".to_owned() };
    let first = ada.ask(Command::CreateRoom(create.clone())).await;
    let again = ada.ask(Command::CreateRoom(create)).await;
    let id = |answer: Result<Result<Reply, _>, _>| match answer {
        Ok(Ok(Reply::Room(room))) => room.room,
        other => panic!("{other:?}"),
    };
    assert_eq!(id(first), id(again));
}

#[tokio::test]
async fn an_edit_and_a_deletion_reach_everybody_and_only_the_author_may() {
    let server = server();
    let (mut ada, room) = join(&server, "Ada").await;
    let (mut bo, _) = join(&server, "Bo").await;
    let post = ada.post(room, "frist").await.expect("a connection").expect("an ack").seq;
    let edit = |body: &str| {
        Command::Edit(SendEdit {
            n: None,
            client_id: new_id(),
            room,
            post,
            post_client_id: None,
            body: body.to_owned(),
        })
    };
    done(&mut ada, edit("first")).await;
    let edited = bo
        .expect(SOON, |body| match body {
            Body::Event(Event::Room(event)) => match &event.change {
                RoomChange::Edited(edited) => Some((edited.post, edited.body.clone())),
                _ => None,
            },
            _ => None,
        })
        .await
        .expect("the edit is told");
    assert_eq!(edited, (post, Some("first".to_owned())));
    let foreign = bo.ask(edit("hacked")).await.expect("a connection").expect_err("a refusal");
    assert_eq!(foreign.code, shared::error::ErrorCode::Forbidden);
    done(&mut ada, Command::Delete(SendDelete { n: None, client_id: new_id(), room, post, post_client_id: None }))
        .await;
    let page = match bo.ask(Command::History(History { room, before: Seq(post.0 + 1), limit: None })).await {
        Ok(Ok(Reply::History(page))) => page,
        other => panic!("{other:?}"),
    };
    let deleted = page.posts.iter().find(|shown| shown.seq == post).expect("its place stays");
    assert_eq!(deleted.body, None, "the text of a deleted post is still told");
}

#[tokio::test]
async fn unread_counts_follow_what_was_read_on_any_connection() {
    let server = server();
    let token = Http::new(server.address()).sign_in("Ada").token;
    let (mut phone, room, _) = Client::join_general(server.address(), &token).await;
    let (mut desk, _, _) = Client::join_general(server.address(), &token).await;
    let (mut bo, _) = join(&server, "Bo").await;
    bo.post_many(room, (0..5).map(|number| format!("post {number}"))).await;
    let posts =
        |rooms: &[RoomSummary]| rooms.iter().find(|found| found.room == room).map(|found| (found.posts, found.read));
    let (_, welcome) = Client::join(server.address(), &token, &[]).await;
    let (total, read) = posts(&welcome.rooms).expect("general");
    assert_eq!(total - read, 5);
    phone.send(Command::Read(MarkRead { room, posts: total })).await.expect("a connection");
    let told = desk
        .expect(SOON, |body| match body {
            Body::Event(Event::Read(mark)) => Some(mark.posts),
            _ => None,
        })
        .await;
    assert_eq!(told.expect("the other connection is told"), total);
    let (_, welcome) = Client::join(server.address(), &token, &[]).await;
    assert_eq!(posts(&welcome.rooms), Some((total, total)));
}

#[tokio::test]
async fn typing_is_told_to_the_others_and_stored_nowhere() {
    let server = server();
    let (mut ada, room) = join(&server, "Ada").await;
    let (mut bo, _) = join(&server, "Bo").await;
    ada.send(Command::Typing(RoomRef { room })).await.expect("a connection");
    let who = bo
        .expect(SOON, |body| match body {
            Body::Event(Event::Typing(typing)) => Some(typing.user.name.clone()),
            _ => None,
        })
        .await;
    assert_eq!(who.expect("it is told"), "Ada");
    let (mut late, _) = join(&server, "Late").await;
    let told = late.expect(A_MOMENT, |body| matches!(body, Body::Event(Event::Typing(_))).then_some(())).await;
    assert!(told.is_err(), "typing was replayed");
}

#[tokio::test]
async fn history_pages_back_to_the_first_post_without_a_gap() {
    let server = server();
    let (mut ada, room) = join(&server, "Ada").await;
    ada.post_many(room, (0..230).map(|number| format!("post {number}"))).await;
    let (mut reader, _) =
        Client::join(server.address(), &Http::new(server.address()).sign_in("Reader").token, &[]).await;
    let opened = reader.open(room, None, false).await;
    let OpenOutcome::Fresh { snapshot } = opened.outcome else { panic!("{opened:?}") };
    let mut bodies: Vec<String> = snapshot.posts.iter().filter_map(|post| post.body.clone()).collect();
    let (mut before, mut earlier) = (snapshot.posts[0].seq, snapshot.earlier());
    while earlier > 0 {
        let page = match reader.ask(Command::History(History { room, before, limit: None })).await {
            Ok(Ok(Reply::History(page))) => page,
            other => panic!("{other:?}"),
        };
        assert_eq!(page.earlier + page.posts.len() as u64, earlier, "a gap between two pages");
        bodies.splice(0..0, page.posts.iter().filter_map(|post| post.body.clone()));
        (before, earlier) = (page.posts[0].seq, page.earlier);
    }
    assert!(bodies.iter().eq(&(0..230).map(|number| format!("post {number}")).collect::<Vec<_>>()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_signed_out_is_silent_within_a_second_and_never_comes_back() {
    const SILENT: Duration = Duration::from_secs(1);
    let server = server();
    let token = Http::new(server.address()).sign_in("Ada").token;
    let (mut ada, room, _) = Client::join_general(server.address(), &token).await;
    // Somebody posts all the while, so that there is always something to be heard.
    let (mut bo, _) = join(&server, "Bo").await;
    let posting = tokio::spawn(async move {
        for number in 0.. {
            bo.post(room, &format!("post {number}")).await.expect("a connection").expect("an ack");
            bo.forget_inbox();
        }
    });
    ada.next_room_event(SOON).await.expect("a post");
    let (address, spent) = (server.address(), token.clone());
    let sign_out = move || Http::new(address).delete("/api/session", &[("Authorization", &format!("Bearer {spent}"))]);
    let answer = tokio::task::spawn_blocking(sign_out).await.expect("an answer");
    let ended = Instant::now();
    assert!(answer.status < 300, "{} {}", answer.status, answer.body);
    let lost = loop {
        match ada.next_room_event(SOON).await {
            Ok(_) => {
                let heard = ended.elapsed();
                assert!(heard < SILENT, "it still hears what is posted {heard:?} after it was signed out");
            }
            Err(lost) => break lost,
        }
    };
    assert!(matches!(lost, Lost::Closed(shared::close::SESSION_REVOKED, _)), "{lost}");
    assert!(ended.elapsed() < SILENT, "it was closed {:?} after it was signed out", ended.elapsed());
    assert!(Client::dial(server.address(), &token).await.is_err(), "a revoked token opened a socket");
    assert!(!posting.is_finished(), "nobody else may notice");
    posting.abort();
}

#[test]
fn request_ids_are_echoed_up_to_the_largest() {
    let scene = Scene::open(ServerOptions::new());
    let (mut socket, _) = RawSocket::open_and_greet(scene.address(), &scene.token);
    for id in [0, 1, RequestId(u64::MAX >> 11).0, u64::MAX] {
        assert_eq!(socket.ask(id, "beat", &json!({}))["success"], true);
    }
}
