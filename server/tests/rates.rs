//! How much one person can have everybody else told.
//!
//! Must not live here: how a rate is counted (`connection::bucket`), or the order of refused sends (`connection`).
//! Invariant: time is measured, not assumed: a slow machine is allowed what it was slow for.

mod common;

use std::time::Instant;

use common::*;
use server::log::{Applied, Entry, Op};
use shared::error::{ErrorCode, WireError};
use shared::ids::{Lsn, Seq};
use shared::message::{Command, CreateRoom, History, MarkRead, Membership, Rename, Reply};
use shared::time::Timestamp;

const BURST: usize = 10;
const FLAGS: &[&str] = &["--posts-burst=10", "--posts-per-s=1"];

/// How many of these answers say yes; every other says to wait.
fn done(answers: &[Result<Reply, WireError>]) -> usize {
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(error.code, ErrorCode::RateLimited, "{error}");
        assert!(error.retry_after_ms.is_some_and(|ms| ms > 0), "it does not say how long to wait");
    }
    answers.iter().filter(|answer| answer.is_ok()).count()
}

#[tokio::test]
async fn rooms_made_joined_and_left_count_as_posts_do_over_all_connections_of_a_person() {
    let server = start(FLAGS).await;
    let ann = server.sign_in("Ann").await;
    let [mut first, mut second] = [ann.connect(&[]).await.0, ann.connect(&[]).await.0];
    let begun = Instant::now();
    let mut answers = Vec::new();
    for number in 0..BURST {
        let room = CreateRoom { client_id: key(), name: format!("room-{number}"), title: String::new() };
        answers.push(first.ask(Command::CreateRoom(room)).await);
        answers.push(second.ask(Command::Leave(Membership { client_id: key(), room: GENERAL })).await);
        answers.push(second.ask(Command::Join(Membership { client_id: key(), room: GENERAL })).await);
        // Somebody who left is refused for that, once they are not too fast.
        if let Err(error) = second.post(post("x")).await {
            answers.extend((error.code == ErrorCode::RateLimited).then_some(Err(error)));
        }
    }
    answers.retain(|answer| !matches!(answer, Err(error) if error.code == ErrorCode::NotMember));
    let (done, came) = (done(&answers), begun.elapsed().as_secs() as usize + 1);
    assert!((1..=BURST + came).contains(&done), "{done} of {} in {came} s", answers.len());
    let (mut bob, _) = server.sign_in("Bob").await.connect(&[]).await;
    bob.post(post("nobody else waits")).await.unwrap();
}

#[tokio::test]
async fn a_new_name_counts_as_many_for_every_room_is_told() {
    let server = start(FLAGS).await;
    let (mut ann, _) = server.sign_in("Ann").await.connect(&[]).await;
    let begun = Instant::now();
    let mut answers = Vec::new();
    for number in 0..5 {
        answers.push(ann.ask(Command::Rename(Rename { client_id: key(), name: format!("Ann {number}") })).await);
    }
    let (done, came) = (done(&answers), begun.elapsed().as_secs() as usize + 1);
    assert!((1..=1 + came.div_ceil(BURST)).contains(&done), "{done} in {came} s");
    let rename = |name: &str| Command::Rename(Rename { client_id: key(), name: name.to_owned() });
    assert_eq!(ann.ask(rename("\u{200b}")).await.unwrap_err().code, ErrorCode::NameInvalid, "it costs nothing");
    // Nobody is told of a name that is taken, and whoever takes what is offered does not wait.
    let (mut bob, _) = server.sign_in("Bob").await.connect(&[]).await;
    server.sign_in("Cora").await;
    let taken = bob.ask(rename("CORA")).await.unwrap_err();
    bob.ask(rename(&taken.suggestion.expect("a name that is free"))).await.unwrap();
}

#[tokio::test]
async fn a_new_name_counts_for_each_room_it_is_told_in() {
    const ROOMS: usize = 600;
    let server = start(FAST).await;
    let (ann, _bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let room =
        |n| Op::RoomCreate { room: server.app.ambient.mint_room(), name: format!("room-{n}"), title: String::new() };
    let entry = |n| Entry { ts: Timestamp(1), by: ann.person.id, key: key(), op: room(n) };
    let made = server.app.log.propose_all((1..ROOMS).map(entry).collect()).await.unwrap();
    assert!(made.iter().all(|applied| matches!(applied, Applied::Committed(_))));
    let (mut a, _) = ann.enter().await;
    let rename = |name: &str| Command::Rename(Rename { client_id: key(), name: name.to_owned() });
    // What is not told anywhere costs nothing.
    for _ in 0..3 {
        assert_eq!(a.ask(rename("Bob")).await.unwrap_err().code, ErrorCode::NameTaken);
    }
    a.ask(rename("Anna")).await.unwrap();
    let error = a.ask(rename("Ann")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::RateLimited, "1,200 events within a moment");
    assert!(error.retry_after_ms.is_some_and(|ms| (30_000..=40_000).contains(&ms)), "{error:?}");
}

#[tokio::test]
async fn what_was_read_before_is_not_stored_again_however_often_it_is_said() {
    const SAID: usize = 50;
    let server = start(FAST).await;
    let ann = server.sign_in("Ann").await;
    let (mut a, _) = ann.enter().await;
    let stored = async || server.app.log.read(|reads| reads.lsn()).await.unwrap();
    a.post(post("first")).await.unwrap();
    let before = stored().await;
    // Nothing, over and over; then as many as there are, twice, and more than there are.
    for posts in std::iter::repeat_n(0, SAID).chain([1, 1, 1_000]) {
        a.send(Command::Read(MarkRead { room: GENERAL, posts })).await;
    }
    // One request after another: by this answer all of them have been.
    a.ask(Command::History(History { room: GENERAL, before: Seq(1), limit: None })).await.unwrap();
    assert_eq!(stored().await, Lsn(before.0 + 1), "one read position was news");
}
