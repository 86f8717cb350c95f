//! Measures the log alone: durable posts a second for a number of senders, each of whom waits for its answer.
//!
//! ```text
//! cargo run --release -p server --example log_throughput -- [SENDERS] [SECONDS] [DIR]
//! ```
//!
//! Every answer counted was committed and synced. What is measured is the disk under DIR as much as the program.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use server::log::{Applied, Entry, LogHandle, LogOptions, Op, open_sqlite};
use shared::ids::{ClientId, RoomId, UserId};
use shared::time::Timestamp;

const BODY_BYTES: usize = 300;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let senders: u64 = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let dir = arguments.next().map_or_else(|| std::env::temp_dir().join("holdfast-throughput"), PathBuf::from);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let records = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&records);
    let (log, writer) = open_sqlite(&dir, &LogOptions::default(), move |_| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut waits = runtime.block_on(run(&log, senders, Duration::from_secs(seconds)))?;
    writer.shutdown()?;
    waits.sort_unstable();
    let percentile = |p: usize| waits[(waits.len() - 1) * p / 100];
    println!(
        "{senders} senders: {} posts/s, ack p50 {:?} p99 {:?}, {:.1} posts a record",
        waits.len() as u64 / seconds,
        percentile(50),
        percentile(99),
        waits.len() as f64 / records.load(std::sync::atomic::Ordering::Relaxed) as f64,
    );
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Ids in order of time, as clients make them.
fn key(sender: u64, n: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    bytes[8..].copy_from_slice(&sender.to_be_bytes());
    bytes
}

async fn run(log: &LogHandle, senders: u64, time: Duration) -> Result<Vec<Duration>, Box<dyn std::error::Error>> {
    let room = RoomId::from_bytes([1; 16]);
    for sender in 0..senders {
        let by = UserId::from_bytes(key(sender, 1));
        let name = format!("sender {sender}");
        let entry = |n, op| Entry { ts: Timestamp(1), by, key: ClientId::from_bytes(key(sender, n)), op };
        let enter = if sender == 0 {
            Op::RoomCreate { room, name: "bench".into(), title: String::new() }
        } else {
            Op::Join { room }
        };
        let set = Op::UserSet { user: by, name: name.clone(), skeleton: name };
        log.propose_all(vec![entry(0, set), entry(1, enter)]).await?;
    }
    let until = Instant::now() + time;
    let mut running = tokio::task::JoinSet::new();
    for sender in 0..senders {
        let log = log.clone();
        running.spawn(async move {
            let by = UserId::from_bytes(key(sender, 1));
            let mut waits = Vec::new();
            let mut n = 2;
            while Instant::now() < until {
                let op = Op::Post { room, body: "x".repeat(BODY_BYTES) };
                let entry = Entry { ts: Timestamp(n), by, key: ClientId::from_bytes(key(sender, n)), op };
                let asked = Instant::now();
                match log.propose(entry).await {
                    Ok(Applied::Committed(_)) => waits.push(asked.elapsed()),
                    other => panic!("expected it to be committed: {other:?}"),
                }
                n += 1;
            }
            waits
        });
    }
    let mut all = Vec::new();
    while let Some(waits) = running.join_next().await {
        all.extend(waits?);
    }
    Ok(all)
}
