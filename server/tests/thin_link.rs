//! What goes over a link that carries less than there is to say: posts, all of them, before anything that is soon stale.
//!
//! Must not live here: links that really are thin (`e2e`). Invariant: the reader's connection takes a step only when the
//! test lets it, and its link carries only what the test allows, so that nothing depends on time.

mod common;

use std::sync::Arc;
use std::time::Instant;

use common::link::Reader;
use common::*;
use server::Storage;
use server::connection::Step;
use server::ws::frame;
use shared::ids::UserId;
use shared::message::{Beat, Command, OpenRoom, RoomRef};
use shared::model::{Member, OpenOutcome, Opened};

/// Posts that wait behind the link: more than a connection hands out at once.
const POSTS: usize = 60;
const POST_BYTES: usize = 2_000;
/// Posts that are missed: more than a person is sent one by one.
const MISSED: u64 = 700;
/// What the link carries between two steps once it carries anything.
const TRICKLE_BYTES: usize = 700;
/// What may wait in all: answers, what is handed out at once, and one round of what others told.
const MOST_WAITING: usize = 256 * 1024;

/// Somebody types; afterwards everybody's connection has been told.
async fn types(user: &User) {
    let (mut client, _) = user.enter().await;
    client.send(Command::Typing(RoomRef { room: GENERAL })).await;
    client.ask(Command::Beat(Beat::default())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_thin_link_typing_is_shed_first_and_every_post_arrives() {
    // Of presence nothing is told: on a slow machine it would wait behind the link before any post does.
    let server = start(&[FAST, &["--slow-timeout-ms=60000", "--coalesce-ms=600000"]].concat()).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let mut reader = Reader::enter(&server, &server.sign_in("Cid").await).await;
    // Both stay, so that nobody comes or goes meanwhile.
    let ((mut a, at), _stays) = (ann.enter().await, bob.enter().await);
    types(&bob).await;
    eventually("a link with room carries typing", || reader.step().typing == 1).await;

    reader.link.allow(0);
    let sends: Vec<String> = (0..POSTS).map(|n| format!("{n} {}", "x".repeat(POST_BYTES))).collect();
    for body in &sends {
        a.post(post(body)).await.unwrap();
    }
    eventually("posts wait behind the link", || {
        reader.step();
        reader.connection.queued_bytes() > POST_BYTES
    })
    .await;
    let waiting = reader.connection.queued_bytes();
    for _ in 0..3 {
        types(&bob).await;
        reader.step();
    }
    assert_eq!(reader.connection.queued_bytes(), waiting, "something was put behind the posts that wait");

    eventually("every post has come", || {
        reader.link.allow(TRICKLE_BYTES);
        reader.step().posts.len() >= POSTS
    })
    .await;
    assert_eq!(texts(&reader.posts), sends);
    assert!(reader.posts.iter().zip(1..).all(|(event, n)| event.seq.0 == at.seq.0 + n), "the seqs are dense");
    assert_eq!(reader.typing, 1, "typing took room from the posts");

    reader.link.allow(usize::MAX);
    eventually("nothing waits", || reader.step().connection.queued_bytes() == 0).await;
    types(&bob).await;
    eventually("with room there is typing again", || reader.step().typing == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_tell_waits_where_it_is_merged_and_not_behind_a_link_that_trickles() {
    let server = start(&[FAST, &["--slow-timeout-ms=60000", "--dead-peer-ms=600000"]].concat()).await;
    let bob = server.sign_in("Bob").await;
    let mut reader = Reader::enter(&server, &bob).await;
    let people: Vec<Arc<Member>> = (0..100)
        .map(|n| Arc::new(Member { id: UserId::from_bytes([n; 16]), name: "x".repeat(40), online: n % 2 == 0 }))
        .collect();
    let mut most = 0;
    for n in 0..200 {
        server.app.hub.for_followers(GENERAL, |peer| {
            peer.mailbox.presence(&people);
            peer.mailbox.read(GENERAL, n);
        });
        reader.link.allow(TRICKLE_BYTES);
        reader.step();
        most = most.max(reader.connection.queued_bytes());
    }
    assert!(most < MOST_WAITING, "{most} bytes waited");
    reader.link.allow(usize::MAX);
    eventually("the rest has come", || reader.step().reads.last() == Some(&199)).await;
    assert!(people.iter().all(|person| reader.presence.iter().any(|told| told.id == person.id)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_while_a_greeting_is_read_comes_behind_it() {
    // A log in memory answers at once.
    let server = start_with(Storage::Sqlite, FAST).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let mut reader = Reader::begin(&server, &ann, fresh(GENERAL));
    // The hello is taken, and the log asked.
    reader.step();
    let told = Arc::new(Member { id: bob.person.id, name: "Bob".to_owned(), online: true });
    server.app.hub.for_followers(GENERAL, |peer| peer.mailbox.presence(&[Arc::clone(&told)]));
    // Letters are looked at before the answer of the log.
    reader.step();
    eventually("the reader is live", || reader.step().live).await;
    eventually("the reader was told", || reader.step().presence.iter().any(|member| member.id == told.id)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn far_behind_on_a_standing_link_a_person_jumps_and_a_program_gets_every_event() {
    let server = start(&[FAST, &["--slow-timeout-ms=60000"]].concat()).await;
    let ann = server.sign_in("Ann").await;
    let mut person = Reader::enter(&server, &server.sign_in("Bob").await).await;
    let replay = OpenRoom { replay: true, ..fresh(GENERAL) };
    let mut program = Reader::enter_with(&server, &server.sign_in("Cid").await, replay).await;
    let (mut a, _) = ann.enter().await;
    let at = a.post(post("before")).await.unwrap().seq;
    for reader in [&mut person, &mut program] {
        eventually("both stand at the head", || reader.step().posts.last().is_some_and(|event| event.seq == at)).await;
        reader.posts.clear();
        reader.link.allow(0);
    }

    let mut last = at;
    for n in 0..MISSED {
        last = a.post(post(&format!("{n}"))).await.unwrap().seq;
        person.step();
        program.step();
    }
    for reader in [&person, &program] {
        reader.link.allow(usize::MAX);
    }
    eventually("the person is told where the room stands", || !person.step().jumps.is_empty()).await;
    match &person.jumps[..] {
        [Opened { outcome: OpenOutcome::Jumped { snapshot, hole }, .. }] => {
            assert_eq!(snapshot.as_of.seq, last);
            let told = person.posts.len() as u64 + hole + snapshot.posts.len() as u64;
            assert_eq!(told, MISSED, "the hole is as large as what is not shown");
        }
        other => panic!("not one jump but {other:?}"),
    }
    eventually("the program has come to the head", || {
        program.step().posts.last().is_some_and(|event| event.seq == last)
    })
    .await;
    assert!(program.posts.iter().zip(at.0 + 1..).all(|(event, seq)| event.seq.0 == seq), "the seqs are dense");
    assert_eq!((program.posts.len() as u64, program.jumps.len()), (MISSED, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_follows_a_close_that_came_of_what_was_read_at_the_last_moment() {
    let flags = ["--beat-interval-ms=1", "--beat-answer-ms=1", "--dead-peer-ms=600000"];
    let server = start(&[FAST, &flags].concat()).await;
    let mut reader = Reader::enter(&server, &server.sign_in("Bob").await).await;
    let Step::Until(asks_at) = reader.connection.step() else { panic!("over") };
    // A reserved opcode, which comes when the connection has found nothing and is about to ask whether anybody is there.
    reader.link.opcodes();
    reader.link.comes_late(&frame::masked(0x83, [7; 4], b""));
    while Instant::now() < asks_at {
        std::thread::yield_now();
    }
    reader.connection.step();
    let opcodes = reader.link.opcodes();
    assert!(opcodes.contains(&0x88), "not closed: {opcodes:x?}");
    assert_eq!(opcodes.last(), Some(&0x88), "something follows the close: {opcodes:x?}");
}
