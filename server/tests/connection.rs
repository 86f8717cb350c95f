//! How connections begin, live and end: who may enter, what is refused, and with which code.

mod common;

use std::time::Duration;

use common::*;
use server::Storage;
use server::people::tokens::Token;
use shared::close;
use shared::error::ErrorCode;
use shared::ids::{RoomId, Seq};
use shared::limits::{POST_BYTES, SEND_WINDOW};
use shared::message::{
    Beat, Body, Command, Event, MarkRead, Membership, Message, Rename, Reply, RoomRef, SendEdit, SendPost,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_pages_of_this_server_and_holders_of_a_token_may_upgrade() {
    let server = start(FAST).await;
    let ann = server.sign_in("Ann").await;
    let own = format!("http://127.0.0.1:{}", server.address.port());
    let (bearer, cookie) = (format!("Bearer {}", ann.token), format!("holdfast={}", ann.token));
    let long = format!("{own}.evil.example");
    type Headers<'a> = Vec<(&'a str, &'a str)>;
    let cases: Vec<(&str, Headers<'_>, u16)> = vec![
        ("nothing", vec![], 403),
        ("a cookie without an Origin", vec![("Cookie", &cookie)], 403),
        ("a foreign Origin", vec![("Origin", "http://evil.example"), ("Cookie", &cookie)], 403),
        ("a null Origin", vec![("Origin", "null"), ("Cookie", &cookie)], 403),
        ("an Origin that only begins like ours", vec![("Origin", &long), ("Cookie", &cookie)], 403),
        ("a foreign Origin with a token", vec![("Origin", "http://evil.example"), ("Authorization", &bearer)], 403),
        ("two Origins", vec![("Origin", &own), ("Origin", "http://evil.example"), ("Cookie", &cookie)], 403),
        ("a bad token", vec![("Authorization", "Bearer AAAA")], 401),
    ];
    for (name, headers, status) in cases {
        assert_eq!(Client::upgrade(server.address, &headers).await.err(), Some(status), "{name}");
    }
    for headers in [vec![("Origin", own.as_str()), ("Cookie", &cookie)], vec![("Authorization", &bearer)]] {
        let mut client = Client::upgrade(server.address, &headers).await.unwrap();
        assert_eq!(client.hello(hello(&[])).await.you, ann.person);
    }
    let mut stranger = Client::upgrade(server.address, &[("Origin", &own)]).await.unwrap();
    assert_eq!(stranger.closed().await, (close::SESSION_EXPIRED, Some(close::SESSION_EXPIRED)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_changes_nothing_for_a_foreign_page() {
    let server = start(FAST).await;
    let ann = server.sign_in("Ann").await;
    let own = format!("http://127.0.0.1:{}", server.address.port());
    let cookie = format!("other=1; holdfast={}", ann.token);
    for headers in [vec![("Origin", "http://evil.example"), ("Cookie", &cookie)], vec![("Cookie", cookie.as_str())]] {
        let (status, _, _) = server.http("DELETE", "/api/session", &headers, "").await;
        assert_eq!(status, 403);
        let (status, _, _) = server.http("POST", "/api/session", &headers, "{\"name\":\"Eve\"}").await;
        assert_eq!(status, 403);
    }
    let ours = [("Origin", own.as_str()), ("Cookie", cookie.as_str())];
    let (status, _, body) = server.http("GET", "/api/session", &ours, "").await;
    assert!(status == 200 && body.contains("Ann"), "{body}");
    let (status, head, body) = server.http("POST", "/api/session", &ours, "{\"name\":\"Bob\"}").await;
    assert!(status == 201 && head.contains("httponly; samesite=strict") && !body.contains("token"), "{head} {body}");
    let (_, _, body) = server.http("GET", "/api/session", &ours, "").await;
    assert!(body.contains("\"user\":null"), "the old session outlived the new one: {body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_unique_by_their_looks_and_a_free_one_is_suggested() {
    let server = start(FAST).await;
    server.sign_in("Ann").await;
    for (name, status) in [("ANN", 409), ("Αnn", 409), ("", 400), ("a\u{202e}b", 400), ("holdfast", 409), ("Anna", 201)]
    {
        let body = serde_json::json!({ "name": name }).to_string();
        let (got, _, body) = server.http("POST", "/api/session", &[], &body).await;
        assert_eq!(got, status, "{name}: {body}");
        assert_eq!(body.contains("suggestion"), status == 409, "{body}");
    }
    let (mut bob, _) = server.sign_in("Bob").await.connect(&[]).await;
    let rename = |name: &str| Command::Rename(Rename { client_id: key(), name: name.into() });
    for taken in ["aNN", "Holdfast"] {
        let refused = bob.ask(rename(taken)).await.expect_err(taken);
        assert!(refused.code == ErrorCode::NameTaken && refused.suggestion.is_some());
    }
    assert!(matches!(bob.ask(rename("Robert")).await, Ok(Reply::Done(_))));
    server.sign_in("Bob").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broken_frame_is_closed_with_its_code_and_the_server_goes_on() {
    let server = start(FAST).await;
    let ann = server.sign_in("Ann").await;
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", vec![0x81, 2, b'h', b'i'], close::PROTOCOL),
        ("reserved bit", vec![0xf1, 0x80, 0, 0, 0, 0], close::PROTOCOL),
        ("reserved opcode", vec![0x83, 0x80, 0, 0, 0, 0], close::PROTOCOL),
        ("long ping", vec![0x89, 0xfe, 0, 126, 0, 0, 0, 0], close::PROTOCOL),
        ("binary", vec![0x82, 0x81, 0, 0, 0, 0, b'x'], close::UNSUPPORTED),
        ("invalid UTF-8", vec![0x81, 0x81, 0, 0, 0, 0, 0xff], close::INVALID_UTF8),
        ("2^62 bytes", [&[0x81, 0xff][..], &(1_u64 << 62).to_be_bytes(), &[0; 4]].concat(), close::TOO_LARGE),
        ("64 KiB and one", [&[0x81, 0xff][..], &65_537_u64.to_be_bytes(), &[0; 4]].concat(), close::TOO_LARGE),
        (
            "one-byte fragments",
            [&[0x01, 0x80, 0, 0, 0, 0][..], &[0x00, 0x81, 0, 0, 0, 0, b'x'].repeat(2_000)].concat(),
            close::TOO_LARGE,
        ),
    ];
    for (name, bytes, code) in cases {
        for welcomed in [false, true] {
            let mut client = if welcomed { ann.enter().await.0 } else { ann.socket().await };
            client.raw(&bytes).await;
            assert_eq!(client.closed().await, (code, Some(code)), "{name}, welcomed: {welcomed}");
        }
    }
    let (mut a, _) = ann.enter().await;
    a.post(post("still here")).await.unwrap();
    eventually("only the last socket is left", || server.app.sockets() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_messages_are_answered_on_an_open_socket() {
    let server = start(FAST).await;
    let (mut a, _) = server.sign_in("Ann").await.enter().await;
    let deep = format!("{{\"id\":3,\"command\":\"beat\",\"payload\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let cases: Vec<(&str, Option<u64>, ErrorCode)> = vec![
        ("not json", None, ErrorCode::BadMessage),
        ("{\"id\":1,\"command\":\"juggle\",\"payload\":{}}", Some(1), ErrorCode::UnknownCommand),
        ("{\"id\":2,\"command\":\"post\",\"payload\":{\"body\":7}}", Some(2), ErrorCode::BadMessage),
        (&deep, Some(3), ErrorCode::BadMessage),
        ("{\"id\":4,\"event\":\"beat\",\"payload\":{\"n\":1}}", Some(4), ErrorCode::BadMessage),
        ("{\"command\":\"rooms\"}", None, ErrorCode::BadMessage),
        ("{\"id\":5,\"command\":\"beat\",\"payload\":1e400}", Some(5), ErrorCode::BadMessage),
        ("{\"id\":6,\"command\":\"find_room\",\"payload\":{\"name\":\"\\ud800\"}}", Some(6), ErrorCode::BadMessage),
    ];
    for (text, id, code) in cases {
        a.text(text).await;
        let refusal = a.until("a refusal", |came| match came {
            Came::Message(Message { id, body: Body::Refusal(error) }) => Some((id.map(|id| id.0), error.code.clone())),
            _ => None,
        });
        assert_eq!(refusal.await, (id, code), "{}", &text[..text.len().min(60)]);
    }
    let refused =
        |result: Result<_, shared::error::WireError>| result.map(|_: shared::message::Ack| ()).unwrap_err().code;
    assert_eq!(refused(a.post(post("  ")).await), ErrorCode::PostEmpty);
    assert_eq!(refused(a.post(post(&"x".repeat(POST_BYTES + 1))).await), ErrorCode::PostTooLong);
    assert_eq!(refused(a.post(post(&"x".repeat(4_001))).await), ErrorCode::PostTooLong);
    let nowhere = RoomId::from_bytes([9; 16]);
    assert_eq!(refused(a.post(SendPost { room: nowhere, ..post("x") }).await), ErrorCode::NotFound);
    let join = a.ask(Command::Join(Membership { client_id: key(), room: nowhere })).await;
    assert_eq!(join.unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(a.ask(Command::Typing(RoomRef { room: nowhere })).await.unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(a.ask(Command::Hello(hello(&[]))).await.unwrap_err().code, ErrorCode::BadSequence);
    a.post(post("still here")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_message_must_come_in_time_and_be_a_hello() {
    let server = start(&[FAST, &["--first-frame-timeout-ms=100"]].concat()).await;
    let ann = server.sign_in("Ann").await;
    assert_eq!(ann.socket().await.closed().await.0, close::HELLO_TIMEOUT);
    let mut client = ann.socket().await;
    client.send(Command::Beat(Beat::default())).await;
    assert_eq!(client.closed().await, (close::BAD_SEQUENCE, Some(close::BAD_SEQUENCE)));
    let mut client = ann.socket().await;
    let old = client.ask(Command::Hello(shared::message::Hello { protocol: 0, ..hello(&[]) })).await;
    assert_eq!(old.unwrap_err().code, ErrorCode::BadVersion);
    assert_eq!(client.closed().await.0, close::BAD_VERSION);
    let mut client = ann.socket().await;
    let newer = shared::message::Hello { protocol: 7, ..hello(&[]) };
    assert_eq!(client.hello(newer).await.protocol, shared::limits::PROTOCOL_VERSION);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_connection_ends_at_once_for_whoever_reads_on_and_is_freed_by_their_end() {
    // Nobody waits this long here: what ends, ends because of what was said.
    let server = start(&[FAST, &["--close-wait-ms=600000", "--first-frame-timeout-ms=100"]].concat()).await;
    let ann = server.sign_in("Ann").await;
    let (mut broken, _) = ann.enter().await;
    broken.raw(&[0x81, 0x01, b'x']).await;
    broken.until("the close", |came| matches!(came, Came::Close(close::PROTOCOL, _)).then_some(())).await;
    assert_eq!(broken.next().await, Came::End);
    broken.raw(b"still talking").await;
    assert_eq!(server.app.sockets(), 1, "the peer has not ended yet");
    drop(broken);
    eventually("a peer's end frees the connection", || server.app.sockets() == 0).await;

    let mut late = ann.socket().await;
    late.until("the close", |came| matches!(came, Came::Close(close::HELLO_TIMEOUT, _)).then_some(())).await;
    assert_eq!(late.next().await, Came::End);
    late.frame(0x88, &close::HELLO_TIMEOUT.to_be_bytes()).await;
    eventually("a peer's answer frees the connection", || server.app.sockets() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_asked_and_closed_and_one_that_beats_is_not() {
    let flags = ["--beat-interval-ms=100", "--beat-answer-ms=50", "--dead-peer-ms=400"];
    let server = start(&[FAST, &flags].concat()).await;
    let ann = server.sign_in("Ann").await;
    let ((mut silent, _), (mut lively, _)) = (ann.enter().await, ann.enter().await);
    let beating = tokio::spawn(async move {
        for _ in 0..20 {
            let n = lively
                .event("a question", |event| if let Event::Beat(beat) = event { Some(beat.n) } else { None })
                .await;
            lively.send(Command::Beat(Beat { hidden: false, answers: Some(n) })).await;
        }
        lively
    });
    silent.event("a question", |event| matches!(event, Event::Beat(_)).then_some(())).await;
    assert_eq!(silent.closed().await, (close::NO_HEARTBEAT, Some(close::NO_HEARTBEAT)));
    let mut lively = beating.await.unwrap();
    assert!(matches!(lively.ask(Command::Beat(Beat::default())).await, Ok(Reply::Beat(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_session_supersedes_itself_and_nobody_has_too_many_sockets() {
    let server = start(&[FAST, &["--sockets-per-user=3"]].concat()).await;
    let ann = server.sign_in("Ann").await;
    let mine = hello(&[]);
    let mut old = ann.socket().await;
    old.hello(mine.clone()).await;
    let mut new = ann.socket().await;
    new.hello(mine).await;
    assert_eq!(old.closed().await, (close::SUPERSEDED, Some(close::SUPERSEDED)));
    eventually("the old one has left", || server.app.registry.len() == 1).await;
    let others = [ann.connect(&[]).await, ann.connect(&[]).await];
    let mut one_more = ann.socket().await;
    one_more.send(Command::Hello(hello(&[]))).await;
    assert_eq!(one_more.closed().await, (close::TOO_MANY, Some(close::TOO_MANY)));
    drop(others);
    new.ask(Command::Beat(Beat::default())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_session_is_silenced_and_an_expiring_one_renewed_while_it_is_used() {
    let server = start(&[FAST, &["--session-ms=1500"]].concat()).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut b, _)) = (ann.enter().await, bob.enter().await);
    let bearer = format!("Bearer {}", ann.token);
    let (status, _, _) = server.http("DELETE", "/api/session", &[("Authorization", &bearer)], "").await;
    assert_eq!(status, 204);
    let closed = tokio::time::timeout(Duration::from_secs(1), a.closed()).await.expect("silent within a second");
    assert_eq!(closed, (close::SESSION_REVOKED, Some(close::SESSION_REVOKED)));
    assert_eq!(Client::upgrade(server.address, &[("Authorization", &bearer)]).await.err(), Some(401));
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_millis(4_000) {
        b.post(post("still here")).await.unwrap();
        assert_eq!(
            b.next_within(Duration::from_millis(100)).await.filter(|came| matches!(came, Came::Close(..) | Came::End)),
            None
        );
    }
    bob.connect(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_used_only_in_the_second_half_of_its_life_is_renewed() {
    let life = Duration::from_secs(4);
    let server = start(&[FAST, &["--session-ms=4000"]].concat()).await;
    let begun = tokio::time::Instant::now();
    let ann = server.sign_in("Ann").await;
    let hash = Token::read(&ann.token).expect("a token").hash();
    let expires = async || server.app.log.read(move |reads| reads.session(&hash)).await.unwrap().unwrap().expires;
    let first = expires().await;
    tokio::time::sleep_until(begun + life / 2 + Duration::from_millis(200)).await;
    let _here = ann.connect(&[]).await;
    let mut now = expires().await;
    while now == first {
        assert!(begun.elapsed() < life, "the session ended while it was used");
        now = expires().await;
    }
    assert!(now > first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_fast_is_refused_with_a_wait_and_order_holds_until_the_refused_comes_again() {
    let server = start(&["--posts-burst=3", "--posts-per-s=10"]).await;
    let (mut a, at) = server.sign_in("Ann").await.enter().await;
    let sends: Vec<SendPost> = (1..=8).map(|n| SendPost { n: Some(n), ..post(&format!("{n}")) }).collect();
    for send in &sends {
        a.send(Command::Post(send.clone())).await;
    }
    let mut codes = Vec::new();
    while codes.len() < 8 {
        codes.push(
            a.until("an answer", |came| match came {
                Came::Message(Message { body: Body::Reply(Reply::Ack(_)), .. }) => Some(None),
                Came::Message(Message { body: Body::Refusal(error), .. }) => Some(Some(error.clone())),
                _ => None,
            })
            .await,
        );
    }
    let limited = codes[3].clone().expect("the fourth is too fast");
    assert!(codes[..3].iter().all(Option::is_none) && limited.code == ErrorCode::RateLimited);
    assert!(limited.retry_after_ms.is_some_and(|ms| ms > 0 && ms <= 100));
    assert!(
        codes[4..].iter().all(|code| code.as_ref().is_some_and(|error| error.code == ErrorCode::Behind)),
        "{codes:?}"
    );
    let mut last = Seq(0);
    for send in &sends[3..] {
        loop {
            match a.post(send.clone()).await {
                Ok(ack) => break last = ack.seq,
                Err(error) => tokio::time::sleep(Duration::from_millis(error.retry_after_ms.unwrap())).await,
            }
        }
    }
    let Reply::Events(page) = a
        .ask(Command::Events(shared::message::EventsAfter { room: GENERAL, after: at.seq, limit: None }))
        .await
        .unwrap()
    else {
        panic!("no events")
    };
    assert_eq!(texts(&page.events), (1..=8).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(page.head, last);
    // A permanent refusal lets later ones go on.
    let empty = SendPost { n: Some(9), ..post(" ") };
    assert_eq!(a.post(empty).await.unwrap_err().code, ErrorCode::PostEmpty);
    tokio::time::sleep(Duration::from_millis(120)).await;
    a.post(SendPost { n: Some(10), ..post("10") }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_are_closed_and_a_full_window_is_not_one() {
    let server = start(&["--posts-burst=1000", "--posts-per-s=1000", "--abuse-frames=100"]).await;
    let ann = server.sign_in("Ann").await;
    let (mut a, _) = ann.enter().await;
    for n in 0..SEND_WINDOW {
        a.send(Command::Post(SendPost { n: Some(n as u64 + 1), ..post("x") })).await;
    }
    for _ in 0..SEND_WINDOW {
        a.until("an ack", |came| {
            matches!(came, Came::Message(Message { body: Body::Reply(Reply::Ack(_)), .. })).then_some(())
        })
        .await;
    }
    let (mut pinging, _) = ann.enter().await;
    for _ in 0..21 {
        pinging.frame(0x89, b"").await;
    }
    assert_eq!(pinging.closed().await.0, close::POLICY);
    for _ in 0..400 {
        a.text("{\"id\":1,\"command\":\"rooms\",\"payload\":{}}").await;
    }
    assert_eq!(a.closed().await.0, close::FLOOD);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coming_and_going_is_told_once_and_a_blip_not_at_all() {
    let server = start(&[FAST, &["--presence-grace-ms=300", "--coalesce-ms=10"]].concat()).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let (mut a, _) = ann.enter().await;
    let told = |event: &Event| match event {
        Event::Presence(presence) => {
            presence.changes.iter().find(|member| member.id == bob.person.id).map(|member| member.online)
        }
        _ => None,
    };
    let (b, _) = bob.enter().await;
    assert!(a.event("Bob comes", told).await);
    drop(b);
    let (b, _) = bob.enter().await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    a.post(post("marker")).await.unwrap();
    drop(b);
    let mut changes = Vec::new();
    changes.push(a.event("Bob goes", told).await);
    assert_eq!(changes, [false], "a blip was told");
    eventually("nobody else is here", || server.app.presence.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_and_reading_reach_those_they_concern() {
    let server = start(FAST).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut b, _), (mut phone, _)) = (ann.enter().await, bob.enter().await, ann.enter().await);
    a.send(Command::Typing(RoomRef { room: GENERAL })).await;
    let who = b
        .event("typing", |event| if let Event::Typing(typing) = event { Some(typing.user.clone()) } else { None })
        .await;
    assert_eq!(who, ann.person);
    b.post(post("hi")).await.unwrap();
    a.send(Command::Read(MarkRead { room: GENERAL, posts: 1 })).await;
    let mark = phone.event("a read mark", |event| if let Event::Read(mark) = event { Some(*mark) } else { None }).await;
    assert_eq!((mark.room, mark.posts), (GENERAL, 1));
    let (_, welcome) = ann.connect(&[]).await;
    assert_eq!((welcome.rooms[0].posts, welcome.rooms[0].read), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_posts_can_be_edited_and_deleted_and_others_cannot() {
    let server = start_with(Storage::Sqlite, FAST).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut b, _)) = (ann.enter().await, bob.enter().await);
    let seq = a.post(post("first")).await.unwrap().seq;
    let edit = |body: &str| {
        Command::Edit(SendEdit {
            n: None,
            client_id: key(),
            room: GENERAL,
            post: seq,
            post_client_id: None,
            body: body.into(),
        })
    };
    assert!(matches!(a.ask(edit("second")).await, Ok(Reply::Ack(_))));
    assert_eq!(b.ask(edit("mine now")).await.unwrap_err().code, ErrorCode::Forbidden);
    assert_eq!(a.ask(edit("")).await.unwrap_err().code, ErrorCode::PostEmpty);
    let delete = Command::Delete(shared::message::SendDelete {
        n: None,
        client_id: key(),
        room: GENERAL,
        post: seq,
        post_client_id: None,
    });
    assert!(matches!(a.ask(delete).await, Ok(Reply::Ack(_))));
    let (_, opened) = (0, b.open(fresh(GENERAL)).await);
    match opened.outcome {
        shared::model::OpenOutcome::Fresh { snapshot } => assert_eq!(snapshot.posts[0].body, None),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_server_says_so_answers_what_is_in_flight_and_ends() {
    let mut server = start_with(Storage::Sqlite, FAST).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let ((mut a, _), (mut b, _)) = (ann.enter().await, bob.enter().await);
    for _ in 0..10 {
        a.send(Command::Post(post("in flight"))).await;
    }
    server.begin_stop();
    b.event("the notice", |event| matches!(event, Event::Draining(_)).then_some(())).await;
    let (status, _, _) = server.http("GET", "/readyz", &[], "").await;
    assert_eq!(status, 503);
    let mut acks = 0;
    let (mut noticed, mut told) = (false, None);
    let code = loop {
        match a.next().await {
            Came::Message(Message { body: Body::Reply(Reply::Ack(_)), .. }) => acks += 1,
            Came::Message(Message { body: Body::Event(Event::Draining(_)), .. }) => noticed = true,
            Came::Message(Message { body: Body::Event(Event::Closing(closing)), .. }) => told = Some(closing.code),
            Came::Close(code, _) => break code,
            Came::End => panic!("cut off"),
            Came::Message(_) | Came::Ping(_) | Came::Pong(_) => {}
        }
    };
    assert_eq!((acks, noticed, told, code), (10, true, Some(close::RESTART), close::RESTART));
    assert_eq!(b.closed().await.0, close::RESTART);
    server.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_of_requests_are_bounded_in_time_and_size_and_sockets_per_address() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let flags = ["--header-read-timeout-ms=200", "--pending-per-address=3"];
    let server = start(&flags).await;
    let answer = |bytes: Vec<u8>| async move {
        let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
        // The server may answer and close before everything was sent.
        let _ = socket.write_all(&bytes).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("an end in time");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert!(answer(large.into_bytes()).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(70));
    assert!(answer(many.into_bytes()).await.starts_with("HTTP/1.1 431"));
    let started = std::time::Instant::now();
    answer(b"GET / HTTP/1.1\r\nHost:".to_vec()).await;
    assert!(started.elapsed() >= Duration::from_millis(150));

    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(tokio::net::TcpStream::connect(server.address).await.unwrap());
    }
    let refused = answer(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec()).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("Retry-After"), "{refused}");
    drop(held);
}
