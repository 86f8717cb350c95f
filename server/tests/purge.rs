//! Sessions that ended are forgotten; people and their names are not.
//!
//! Must not live here: which sessions one request to the log forgets (`log_contract`). Invariant: where time passes it is
//! the test's own, the wall clock's and the timers' apart.

mod common;

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use common::*;
use server::Storage;
use server::ambient::{Ambient, System};
use server::log::apply::SESSIONS_PER_PURGE;
use server::log::{self, Disk, Entry, LogHandle, LogOptions, Op, Record, Replica, StorageError, TextHash, TokenHash};
use server::people::tokens::Token;
use server::purge::{BATCH_EVERY, KEPT_AFTER_END_MS, ROUND_EVERY};
use shared::ids::{Epoch, UserId};
use shared::model::OpenOutcome;
use shared::time::Timestamp;

/// A disk nothing is wrong with.
struct Sound;

impl Disk for Sound {
    fn write(&mut self, _: &Record) -> Result<(), StorageError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn probe(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// A wall clock that is set.
struct Wall(AtomicU64);

impl Ambient for Wall {
    fn now(&self) -> Instant {
        unreachable!("nothing here waits by it")
    }

    fn wall_clock(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

fn entries(by: UserId, ops: Vec<Op>) -> Vec<Entry> {
    ops.into_iter().map(|op| Entry { ts: Timestamp(1), by, key: (&System as &dyn Ambient).mint_key(), op }).collect()
}

fn named(user: UserId, name: &str) -> Op {
    Op::UserSet { user, name: name.to_owned(), skeleton: server::people::names::skeleton(name) }
}

async fn left(log: &LogHandle, tokens: &[TokenHash]) -> usize {
    let tokens = tokens.to_vec();
    let found =
        move |log: &dyn log::Reads| tokens.iter().map(|token| log.session(token)).collect::<Result<Vec<_>, _>>();
    log.read(found).await.unwrap().into_iter().flatten().count()
}

#[tokio::test(start_paused = true)]
async fn what_has_been_over_for_a_week_goes_at_the_start_and_then_in_every_round() {
    let now = Timestamp(1_000 * 86_400_000);
    let wall = Wall(AtomicU64::new(now.0));
    let replica = Replica::new(Epoch::from_bytes([1; 16]), TextHash::PLAIN);
    let (log, mut writer) =
        log::open_stepped(replica, Box::new(Sound), &LogOptions::default(), |_: &log::Published| {});
    let ann = UserId::from_bytes([2; 16]);
    // Two batches and one that were over a week ago, one that will be in a second, one that ended just now, one that lives.
    let batches = [SESSIONS_PER_PURGE, SESSIONS_PER_PURGE, 1];
    let ended: usize = batches.iter().sum();
    let week_ago = now.0 - KEPT_AFTER_END_MS;
    let mut ends = vec![week_ago; ended];
    ends.extend([week_ago + 1_000, now.0, now.0 + 1]);
    let tokens: Vec<TokenHash> = (0..ends.len()).map(|n| [n as u8; 32]).collect();
    let open =
        |(token, expires): (&TokenHash, &u64)| Op::SessionOpen { token_hash: *token, expires: Timestamp(*expires) };
    let ops = std::iter::once(named(ann, "Ann")).chain(tokens.iter().zip(&ends).map(open)).collect();
    let mut opening = pin!(log.propose_all(entries(ann, ops)));
    assert!(std::future::poll_fn(|context| Poll::Ready(opening.as_mut().poll(context))).await.is_pending());
    assert!(writer.step().unwrap());
    opening.await.unwrap();

    let mut purging = pin!(server::purge::run(&wall, &log));
    // Lets it do all it can at this moment; says how many records it had written.
    let mut settle = async || {
        for written in 0.. {
            let turn = std::future::poll_fn(|context| Poll::Ready(purging.as_mut().poll(context))).await;
            assert!(turn.is_pending(), "it never ends by itself");
            if !writer.step().unwrap() {
                return written;
            }
        }
        unreachable!()
    };
    let mut stay = ends.len();
    for batch in batches {
        assert_eq!(settle().await, 1, "one batch at a time");
        stay -= batch;
        assert_eq!(left(&log, &tokens).await, stay);
        tokio::time::advance(BATCH_EVERY).await;
    }
    assert_eq!((settle().await, stay), (0, 3), "what is younger stays, and nothing is asked for in vain");
    wall.0.fetch_add(1_000, Ordering::Relaxed);
    tokio::time::advance(ROUND_EVERY / 2).await;
    assert_eq!(settle().await, 0, "between two rounds");
    tokio::time::advance(ROUND_EVERY / 2).await;
    assert_eq!((settle().await, left(&log, &tokens).await), (1, 2));
    // A clock that was set back makes nothing older.
    wall.0.store(0, Ordering::Relaxed);
    tokio::time::advance(ROUND_EVERY).await;
    assert_eq!((settle().await, left(&log, &tokens).await), (0, 2));
    wall.0.store(now.0 + 1 + KEPT_AFTER_END_MS, Ordering::Relaxed);
    tokio::time::advance(ROUND_EVERY).await;
    assert_eq!((settle().await, left(&log, &tokens).await), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_forgets_old_sessions_and_keeps_who_wrote_what_and_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let now = System.wall_clock();
    let (ann, gone, lives) = (UserId::from_bytes([2; 16]), Token::mint(&System), Token::mint(&System));
    let tokens: Vec<TokenHash> = (0..2 * SESSIONS_PER_PURGE).map(|n| [n as u8; 32]).chain([gone.hash()]).collect();
    {
        let (log, writer) = log::open_sqlite(folder.path(), &LogOptions::default(), |_: &log::Published| {}).unwrap();
        server::bootstrap(&log, &System).await.unwrap();
        let open = |token_hash, expires| Op::SessionOpen { token_hash, expires };
        let mut ops = vec![named(ann, "Ann"), open(lives.hash(), now.plus(3_600_000)), Op::Join { room: GENERAL }];
        ops.extend(tokens.iter().map(|token| open(*token, Timestamp(1_000))));
        ops.push(Op::Post { room: GENERAL, body: "I was here".into() });
        log.propose_all(entries(ann, ops)).await.unwrap();
        writer.shutdown().unwrap();
    }
    let server = start_at(folder, Storage::Sqlite, FAST).await;
    let began = Instant::now();
    while left(&server.app.log, &tokens).await > 0 {
        assert!(began.elapsed() < PATIENCE, "sessions that ended are still there");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(left(&server.app.log, &[lives.hash()]).await, 1);
    for (token, upgrade) in [(&gone, Some(401)), (&lives, None)] {
        let bearer = format!("Bearer {}", token.reveal());
        assert_eq!(Client::upgrade(server.address, &[("Authorization", &bearer)]).await.err(), upgrade);
    }
    let (status, _, body) = server.http("POST", "/api/session", &[], r#"{"name":"ann"}"#).await;
    assert_eq!(status, 409, "somebody else may pass for Ann: {body}");
    let ben = server.sign_in("Ben").await;
    let (mut ben, _) = ben.connect(&[fresh(GENERAL)]).await;
    let opened = ben.opened().await;
    let OpenOutcome::Fresh { snapshot } = &opened.outcome else { panic!("not fresh: {opened:?}") };
    let post = &snapshot.posts[0];
    assert_eq!((post.by, post.body.as_deref()), (ann, Some("I was here")));
    assert_eq!(snapshot.people.iter().find(|person| person.id == ann).unwrap().name, "Ann");
}
