//! Fills the room `bench` of an empty database with posts, as fast as the log takes them.
//!
//! ```text
//! cargo run --release -p server --example fill_room -- POSTS DIR
//! ```
//!
//! They go through the log like any other, so the chain over them holds.

use std::path::PathBuf;

use server::log::{Applied, Entry, LogOptions, Op, open_sqlite};
use shared::ids::{ClientId, RoomId, UserId};
use shared::time::Timestamp;

/// Posts of one proposal, at most what one record takes.
const BATCH: u64 = 512;
/// Bytes of text in a post.
const BODY_BYTES: usize = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let posts: u64 = arguments.next().ok_or("POSTS is missing")?.parse()?;
    let dir = PathBuf::from(arguments.next().ok_or("DIR is missing")?);
    let (log, writer) = open_sqlite(&dir, &LogOptions::default(), |_| {})?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (by, room) = (UserId::from_bytes([7; 16]), RoomId::from_bytes([8; 16]));
    let entry = |n: u64, op| {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&n.to_be_bytes());
        Entry { ts: Timestamp(n), by, key: ClientId::from_parts(Timestamp(n), random), op }
    };
    let set = Op::UserSet { user: by, name: "Filler".into(), skeleton: "filler".into() };
    let make = Op::RoomCreate { room, name: "bench".into(), title: "for measuring".into() };
    runtime.block_on(log.propose_all(vec![entry(1, set), entry(2, make)]))?;
    let mut stored = 0;
    while stored < posts {
        let batch = stored..posts.min(stored + BATCH);
        let body = |n: u64| format!("{n} {}", "x".repeat(BODY_BYTES))[..BODY_BYTES].to_owned();
        let entries = batch.clone().map(|n| entry(n + 3, Op::Post { room, body: body(n) })).collect();
        let applied = runtime.block_on(log.propose_all(entries))?;
        if let Some(other) = applied.iter().find(|applied| !matches!(applied, Applied::Committed(_))) {
            return Err(format!("a post was not committed: {other:?}").into());
        }
        stored = batch.end;
    }
    drop(log);
    writer.shutdown()?;
    println!("{stored} posts");
    Ok(())
}
