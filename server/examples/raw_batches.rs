//! Measures what the disk and SQLite allow: posts of one batch size put straight into the server's own tables.
//!
//! ```text
//! cargo run --release -p server --example raw_batches -- BATCH SECONDS DIR
//! ```
//!
//! The schema, its indexes and the settings of a durable commit are the server's, and each post's key is looked up first,
//! as the server must. Left out is everything else the server does: deciding, hashing, telling anybody. Prints posts a
//! second; DIR is removed at the end.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, params};
use server::log::{LogOptions, open_sqlite};

const BODY_BYTES: usize = 200;
/// As the server's own `checkpoint_pages`.
const CHECKPOINT_PAGES: i32 = 1_000;
const LARGEST_BATCH: u64 = 100_000;

thread_local! {
    /// Pages in the write-ahead log after the newest commit. SQLite's hook takes a bare function.
    static WAL_PAGES: Cell<i32> = const { Cell::new(0) };
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| arguments.next().ok_or(format!("{name} is missing"));
    let batch = next("BATCH")?.parse::<u64>()?.clamp(1, LARGEST_BATCH);
    let seconds: f64 = next("SECONDS")?.parse()?;
    let dir = PathBuf::from(next("DIR")?);
    if dir.exists() {
        return Err(format!("{} is there already", dir.display()).into());
    }
    // Makes the tables.
    let (_, writer) = open_sqlite(&dir, &LogOptions::default(), |_| {})?;
    writer.shutdown()?;
    let db = Connection::open(dir.join("holdfast.db"))?;
    for (name, value) in [("journal_mode", "wal"), ("synchronous", "FULL"), ("wal_autocheckpoint", "0")] {
        db.pragma_update(None, name, value)?;
    }
    let (posts, took) = fill(&db, batch, Duration::from_secs_f64(seconds))?;
    println!("{:.0} posts/s in batches of {batch}", posts as f64 / took.as_secs_f64());
    drop(db);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Writes batches for so long. Returns how many posts, and how long it took.
fn fill(db: &Connection, batch: u64, time: Duration) -> Result<(u64, Duration), Box<dyn std::error::Error>> {
    let (room, user, chain) = ([1_u8; 16], [2_u8; 16], [3_u8; 8]);
    let body = "x".repeat(BODY_BYTES);
    db.execute(
        "INSERT INTO rooms (id, name, title, maker, ended, seq, chain, posts, members, last_ts, lsn)
         VALUES (?1, 'raw', '', ?2, 0, 0, ?3, 0, 1, 0, 0)",
        params![room, user, chain],
    )?;
    let mut known = db.prepare("SELECT digest, room, seq, ts FROM sends WHERE key = ?1 AND user = ?2")?;
    let mut event = db.prepare(
        "INSERT INTO events (room, seq, lsn, chain, posts, ts, by, name, kind, key, target, detail, body, body_hash, rev,
             text_at)
         VALUES (?1, ?2, ?2, ?3, ?2, ?2, ?4, 'sender', 1, ?5, NULL, NULL, ?6, NULL, ?2, ?2)",
    )?;
    let mut send =
        db.prepare("INSERT INTO sends (key, user, digest, room, seq, ts) VALUES (?1, ?2, ?3, ?4, ?5, ?5)")?;
    let mut head = db.prepare("UPDATE rooms SET seq = ?2, posts = ?2, last_ts = ?2, lsn = ?2 WHERE id = ?1")?;
    let mut record = db.prepare("INSERT INTO records (lsn, chain) VALUES (?1, ?2)")?;
    db.wal_hook(Some(|_, pages| {
        WAL_PAGES.set(pages);
        Ok(())
    }));
    let (digest, begun) = ([4_u8; 32], Instant::now());
    let mut posts = 0_u64;
    while begun.elapsed() < time {
        db.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..batch {
            posts += 1;
            let mut key = [0_u8; 16];
            key[..8].copy_from_slice(&posts.to_be_bytes());
            // Keys made at one moment share their beginning, not their end.
            key[8..].copy_from_slice(&posts.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            let found: Option<i64> = known.query_row(params![key, user], |row| row.get(2)).optional()?;
            assert!(found.is_none(), "a key came twice");
            let seq = i64::try_from(posts)?;
            event.execute(params![room, seq, chain, user, key, body])?;
            send.execute(params![key, user, digest, room, seq])?;
        }
        let seq = i64::try_from(posts)?;
        head.execute(params![room, seq])?;
        record.execute(params![seq, chain])?;
        db.execute_batch("COMMIT")?;
        if WAL_PAGES.replace(0) >= CHECKPOINT_PAGES {
            db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
    }
    Ok((posts, begun.elapsed()))
}
