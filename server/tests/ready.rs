//! Whether the server says that it could store a post now.
//!
//! Must not live here: disks that are full or fail (`e2e`). Invariant: the writer goes on when the test lets it.

mod common;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::*;
use server::ambient::{Ambient, System};
use server::log::{self, Applied, Entry, LogOptions, Op, Published};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_writer_hangs_is_not_ready_until_it_goes_on() {
    let (release, held) = mpsc::channel::<()>();
    // Told within the turn of the writer that commits.
    let sink = move |_: &Published| held.recv().unwrap();
    let (log, writer) = log::open_memory(&LogOptions::default(), sink).unwrap();
    let (address, app) = serve_over(log).await;
    let ready = async || ask(address, "GET", "/readyz", &[], "").await.expect("an answer");
    assert_eq!(ready().await.0, 200);
    let ambient: &dyn Ambient = &System;
    let user = ambient.mint_user();
    let op = Op::UserSet { user, name: "Ann".to_owned(), skeleton: "ann".to_owned() };
    let entry = Entry { ts: ambient.wall_clock(), by: user, key: key(), op };
    let stored = app.log.submit(entry).unwrap();
    let since = Instant::now();
    let (words, took) = loop {
        match ready().await {
            (200, ..) => {
                assert!(since.elapsed() < PATIENCE, "it is called ready while nothing is stored");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (503, _, words) => break (words, since.elapsed()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(words, "the storage does not answer\n");
    assert!(took.as_secs() >= 2, "a moment is no reason: {took:?}");
    release.send(()).unwrap();
    assert!(matches!(stored.await, Ok(Applied::Committed(_))));
    eventually("the writer waits for work again", || app.log.busy_for().is_zero()).await;
    assert_eq!(ready().await.0, 200);
    writer.shutdown().unwrap();
}
