//! Threads that step connections while others walk the news to them: the real server, and nothing that looks after
//! whoever was forgotten.
//!
//! Must not live here: streams of one connection (`following`). Invariants: a connection is stepped and never woken from
//! outside, so that it does something only for news it was told of; the sweep does not run. What people do comes from
//! the seed that is printed; how the threads meet is the machine's.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::link::{Link, Reader};
use common::*;
use server::delivery::{Mailbox, Outlet, Peer};
use shared::chance::SplitMix64;
use shared::cursor::Position;
use shared::ids::{ConnectionId, SessionId, StreamId};
use shared::message::{Command, OpenRoom, Reply, RoomRef};
use shared::model::OpenOutcome;
use tokio::runtime::Handle;

const READERS: u64 = 9;
const THREADS: u64 = 3;
const PHASES: u64 = 40;
/// Phases begin no later than this after the first.
const LONGEST: Duration = Duration::from_secs(6);
/// Neither the sweep nor a deadline does anything.
const ALONE: &[&str] =
    &["--coalesce-ms=600000", "--sweep-ms=600000", "--slow-timeout-ms=600000", "--dead-peer-ms=600000"];

/// Somebody whose connection is opened, shut and given up as the dice say.
struct Wanderer<'a> {
    name: String,
    server: &'a Running,
    user: &'a User,
    dice: SplitMix64,
    reader: Reader,
    /// The last event it was given.
    at: Position,
    is_open: bool,
    /// Links that were given up, and how much had come over each.
    gone: Vec<(Link, usize)>,
}

impl<'a> Wanderer<'a> {
    fn ask(&self) -> OpenRoom {
        OpenRoom { replay: true, ..from(GENERAL, self.at) }
    }

    /// Lets the connection do what it can; what comes is next to what came.
    fn step(&mut self) {
        self.reader.step();
        for event in self.reader.posts.drain(..) {
            assert!(self.is_open, "{}: {} came to whoever had shut the room", self.name, event.seq);
            assert_eq!(event.seq, self.at.seq.next(), "{}: not the next", self.name);
            self.at = Position { seq: event.seq, check: event.check, ..self.at };
        }
        assert!(self.reader.jumps.is_empty(), "{}: a program jumped", self.name);
    }

    /// Steps until an answer has come.
    fn answered(&mut self) -> Reply {
        self.reader.link.allow(usize::MAX);
        let since = Instant::now();
        while self.reader.answers.is_empty() {
            assert!(since.elapsed() < PATIENCE, "{}: no answer", self.name);
            self.step();
        }
        self.reader.answers.remove(0)
    }

    fn shut(&mut self) {
        self.reader.say(Command::Shut(RoomRef { room: GENERAL }));
        let done = self.answered();
        assert!(matches!(done, Reply::Done(_)), "{}: {done:?}", self.name);
        self.is_open = false;
    }

    fn open(&mut self) {
        self.is_open = true;
        self.reader.say(Command::Open(self.ask()));
        match self.answered() {
            Reply::Opened(opened) => assert!(matches!(opened.outcome, OpenOutcome::Recovered { .. })),
            other => panic!("{}: {other:?}", self.name),
        }
    }

    /// The connection is over between two words, and another one goes on from where this one was.
    fn come_again(&mut self) {
        let next = Reader::begin(self.server, self.user, self.ask());
        let old = std::mem::replace(&mut self.reader, next);
        let link = old.link.clone();
        drop(old.connection);
        let taken = link.carried();
        self.gone.push((link, taken));
        self.is_open = true;
        let welcome = self.answered();
        assert!(matches!(welcome, Reply::Welcome(_)), "{}: {welcome:?}", self.name);
    }

    fn wander(&mut self) {
        match self.dice.below(40) {
            0 => self.come_again(),
            1 | 2 if self.is_open => self.shut(),
            1..=4 if !self.is_open => self.open(),
            5..=8 => self.reader.link.allow(usize::MAX),
            9 | 10 => {
                let room = self.dice.below(600) as usize;
                self.reader.link.allow(room);
            }
            11 => std::thread::yield_now(),
            _ => self.step(),
        }
    }

    /// Is given everything up to there, with nobody's help.
    fn catch_up(&mut self, last: u64) {
        if !self.is_open {
            self.open();
        }
        self.reader.link.allow(usize::MAX);
        let since = Instant::now();
        while self.at.seq.0 < last {
            assert!(since.elapsed() < PATIENCE, "{}: stands at {} and was not told of {last}", self.name, self.at.seq);
            self.step();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_threads_meet_everybody_is_given_every_event_once_in_order_and_nobody_is_forgotten() {
    let seed: u64 = std::env::var("HOLDFAST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("HOLDFAST_SEED={seed}");
    let mut dice = SplitMix64::new(seed);
    let server = start(&[FAST, ALONE].concat()).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let (mut a, at) = ann.enter().await;
    let mut wanderers = Vec::new();
    for number in 0..READERS {
        let reader = Reader::enter_with(&server, &bob, OpenRoom { replay: true, ..from(GENERAL, at) }).await;
        wanderers.push(Wanderer {
            name: format!("seed {seed}, reader {number}"),
            server: &server,
            user: &bob,
            dice: SplitMix64::new(dice.draw()),
            reader,
            at,
            is_open: true,
            gone: Vec::new(),
        });
        wanderers.last_mut().unwrap().reader.answers.clear();
    }
    let (began, handle) = (Instant::now(), Handle::current());
    for _ in 0..PHASES {
        if began.elapsed() > LONGEST {
            break;
        }
        // Nobody knows the last seq before it is committed.
        let last = AtomicU64::new(0);
        tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                for some in wanderers.chunks_mut((READERS / THREADS) as usize) {
                    let (last, handle) = (&last, &handle);
                    scope.spawn(move || {
                        let _runtime = handle.enter();
                        while last.load(Ordering::Acquire) == 0 {
                            some.iter_mut().for_each(Wanderer::wander);
                        }
                        let last = last.load(Ordering::Acquire);
                        some.iter_mut().for_each(|wanderer| wanderer.catch_up(last));
                    });
                }
                let wrote = handle.block_on(async {
                    for _ in 0..dice.below(4) {
                        for _ in 0..dice.below(12) {
                            a.send(Command::Post(post("one of several"))).await;
                        }
                        a.post(post("and one")).await.unwrap();
                    }
                    a.post(post("the last")).await.unwrap().seq.0
                });
                last.store(wrote, Ordering::Release);
            });
        });
    }
    for (link, taken) in wanderers.iter().flat_map(|wanderer| &wanderer.gone) {
        assert_eq!(link.carried(), *taken, "something came over a link that was over");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_larger_than_one_thread_walks_is_handed_every_event_once() {
    // More than eight groups, and few posts for each: a slow machine has to read all of it, too.
    const CROWD: u64 = 520;
    let server = start(&[FAST, ALONE].concat()).await;
    let ann = server.sign_in("Ann").await;
    let (mut a, at) = ann.enter().await;
    let follow = |number: u64| {
        let link = Link::default();
        link.allow(usize::MAX);
        let peer = std::sync::Arc::new(Peer {
            connection: ConnectionId(1_000_000 + number),
            user: ann.person.id,
            session: SessionId::from_bytes([0; 16]),
            token: [0; 32],
            mailbox: Mailbox::default(),
            outlet: std::sync::Arc::new(Outlet::new(std::sync::Arc::new(link.clone()))),
        });
        let (_, follower) = server.app.hub.follow(StreamId::Room(GENERAL), &peer);
        let mut out = peer.outlet.lock();
        out.share();
        follower.stand_at(&mut out, at.seq);
        link
    };
    let crowd: Vec<Link> = (0..CROWD).map(follow).collect();
    let mut told = vec![at.seq.0; CROWD as usize];
    for posts in [1, 8, 1] {
        for _ in 1..posts {
            a.send(Command::Post(post("one of several"))).await;
        }
        let last = a.post(post("the last of them")).await.unwrap().seq.0;
        eventually("the crowd has all of it", || {
            for (link, told) in crowd.iter().zip(&mut told) {
                for event in link.room_events() {
                    assert_eq!(event.seq.0, *told + 1);
                    *told += 1;
                }
            }
            told.iter().all(|told| *told == last)
        })
        .await;
    }
}
