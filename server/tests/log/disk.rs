//! What only a log on a disk can be asked.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use server::log::{Applied, Health, LogError, LogOptions, Op, OpenError, SYSTEM, verify};
use shared::ids::{RoomId, Seq, UserId};
use shared::time::Timestamp;

use super::world::{ALL, World, edit, named, post, react, until_full, until_health};

const DATABASE: &str = "holdfast.db";
const HEAD: &str = "holdfast.head";

fn outside(dir: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(dir.join(DATABASE)).unwrap()
}

fn reopen(dir: &Path) -> Result<World, OpenError> {
    let world = World::sqlite_at(dir, &LogOptions::default())?;
    world.skip_ids(1_000_000);
    Ok(world)
}

/// Opens although something is missing.
fn accept(dir: &Path) -> World {
    let options = LogOptions { accept_loss: true, ..LogOptions::default() };
    let world = World::sqlite_at(dir, &options).unwrap();
    world.skip_ids(1_000_000);
    world
}

/// Two people, a room, and one of everything.
async fn fill(world: &World) -> (UserId, UserId, RoomId) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let room = world.room(ann, "here").await;
    world.ok(ben, Op::Join { room }).await;
    let first = world.post(ann, room, "first").await;
    let second = world.post(ben, room, "second").await;
    world.ok(ann, edit(room, first, "first, edited")).await;
    world.ok(ben, react(room, first, "👍", true)).await;
    world.ok(ben, Op::Delete { room, post: second.into() }).await;
    world.ok(ann, Op::Read { room, posts: 2 }).await;
    world.ok(ann, named(ann, "Anna")).await;
    (ann, ben, room)
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let world = World::sqlite();
    let (ann, ben, room) = fill(&world).await;
    let entry = world.entry(ann, post(room, "once"));
    let Applied::Committed(first) = world.log.propose(entry.clone()).await.unwrap() else { panic!("not committed") };
    let everything = move |log: &dyn server::log::Reads| {
        let events = log.events(room, Seq(0), ALL, ALL)?;
        let people = (log.user_events(ann, Seq(0), ALL)?, log.user_events(ben, Seq(0), ALL)?);
        let lists = (log.rooms_of(ann, None)?, log.members(room, None, ALL)?);
        Ok((log.epoch(), log.lsn()?, events, people, lists, log.snapshot(room, ALL, ALL)?))
    };
    let before = world.read(everything).await;
    let dir = world.close().unwrap();
    let world = reopen(dir.path()).unwrap();
    assert_eq!(world.read(everything).await, before);
    assert_eq!(world.log.propose(entry).await.unwrap(), Applied::Duplicate(first));
    assert_eq!(world.post(ann, room, "and on").await, first.seq.next());
}

#[tokio::test]
async fn every_setting_the_promise_rests_on_is_in_force() {
    let world = World::sqlite();
    fill(&world).await;
    let mode: String = outside(world.path()).pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_second_server_is_refused() {
    let world = World::sqlite();
    assert!(matches!(reopen(world.path()), Err(OpenError::Locked)));
    assert!(matches!(verify(world.path()), Err(OpenError::Locked)));
    let dir = world.close().unwrap();
    reopen(dir.path()).unwrap();
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let world = World::sqlite();
    let dir = world.close().unwrap();
    outside(dir.path()).pragma_update(None, "user_version", 99).unwrap();
    let Err(error) = reopen(dir.path()) else { panic!("it started") };
    assert!(matches!(error, OpenError::NewerSchema { found: 99, known: 3 }), "{error}");
    assert!(error.to_string().contains("newer version"));
    let Err(error) = verify(dir.path()) else { panic!("it was judged") };
    assert!(matches!(error, OpenError::NewerSchema { found: 99, .. }), "{error}");
    let version: i64 = outside(dir.path()).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

/// What the first released form looked like, with one of everything in it.
fn first_form() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    outside(dir.path()).execute_batch(include_str!("../golden/log/schema-1.sql")).unwrap();
    std::fs::write(dir.path().join(HEAD), include_str!("../golden/log/schema-1.head")).unwrap();
    dir
}

/// Every table and index, as it was made.
fn form(db: &rusqlite::Connection) -> Vec<(String, Option<String>)> {
    let mut statement = db.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn a_log_of_the_first_form_is_copied_brought_up_to_date_and_goes_on() {
    let dir = first_form();
    let old = form(&outside(dir.path()));
    assert_eq!(verify(dir.path()).unwrap().damages, [], "it can be verified as it is");
    let world = reopen(dir.path()).unwrap();
    let id = |n| [0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0, 0, 0, 0, 0, 0, 0, n];
    let (ann, room) = (UserId::from_bytes(id(1)), RoomId::from_bytes(id(5)));
    let snapshot = world.snapshot(room).await;
    let bodies: Vec<_> = snapshot.posts.iter().map(|post| post.body.as_deref()).collect();
    assert_eq!(bodies, [Some("first, edited"), None]);
    assert_eq!(world.read(move |log| log.user(ann)).await.unwrap().name, "Anna");
    assert_eq!(world.post(ann, room, "and on").await, snapshot.as_of.seq.next());
    world.ok(SYSTEM, Op::SessionPurge { before: Timestamp(3_000) }).await;
    let tokens = |log: &dyn server::log::Reads| {
        [7, 8, 9].map(|n| log.session(&[n; 32]).map(|found| found.is_some())).into_iter().collect::<Result<Vec<_>, _>>()
    };
    assert_eq!(world.read(tokens).await, [false, true, false]);
    world.close();
    assert_eq!(verify(dir.path()).unwrap().damages, []);

    let copy = rusqlite::Connection::open(dir.path().join("holdfast.db.schema-1")).unwrap();
    let counts = "SELECT (SELECT COUNT(*) FROM sessions), (SELECT MAX(seq) FROM events)";
    let (sessions, last): (u32, i64) = copy.query_row(counts, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!((form(&copy), sessions, last), (old, 3, snapshot.as_of.seq.0 as i64), "as it was before");
    let fresh = World::sqlite();
    assert_eq!(form(&outside(dir.path())), form(&outside(fresh.path())), "both ways to the newest form lead there");
    let names = std::fs::read_dir(fresh.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.into_iter().any(|name| name.contains("schema")), "a new log is copied");
    // The copy in the place of the database is a log again, which lacks what came after it.
    drop(copy);
    std::fs::rename(dir.path().join("holdfast.db.schema-1"), dir.path().join(DATABASE)).unwrap();
    assert!(matches!(reopen(dir.path()), Err(OpenError::Behind { .. })));
    assert_eq!(accept(dir.path()).snapshot(room).await.total, snapshot.total);
}

/// A number and some bytes of each row.
fn numbered(dir: &Path, sql: &str) -> Vec<(i64, Vec<u8>)> {
    let db = outside(dir);
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn a_log_that_had_no_secret_keeps_its_checks_and_has_one_from_then_on() {
    const CHECKS: &str = "SELECT lsn, chain FROM events ORDER BY lsn, room, seq";
    const SECRET: &str = "SELECT secret_from, secret FROM log";
    let dir = first_form();
    let second = "CREATE INDEX sessions_by_end ON sessions (expires); PRAGMA user_version = 2";
    outside(dir.path()).execute_batch(second).unwrap();
    assert_eq!(verify(dir.path()).unwrap().damages, [], "it can be verified as it is");
    let old = numbered(dir.path(), CHECKS);

    let world = reopen(dir.path()).unwrap();
    let id = |n| [0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0, 0, 0, 0, 0, 0, 0, n];
    let (ann, room) = (UserId::from_bytes(id(1)), RoomId::from_bytes(id(5)));
    let last = world.read(|log| log.lsn()).await;
    let first = world.snapshot(room).await.posts[0].seq;
    let seq = world.post(ann, room, "and on").await;
    world.post(ann, room, "and what stays").await;
    for post in [first, seq] {
        world.ok(ann, Op::Delete { room, post: post.into() }).await;
    }
    world.close();
    assert_eq!(verify(dir.path()).unwrap().damages, [], "texts of both kinds, there and deleted");
    assert_eq!(numbered(dir.path(), CHECKS)[..old.len()], old, "what clients remember is what is there");
    assert!(dir.path().join("holdfast.db.schema-2").exists(), "it was not copied");
    let given = numbered(dir.path(), SECRET);
    assert!(matches!(&given[..], [(from, secret)] if *from as u64 == last.0 + 1 && secret.len() == 32), "{given:?}");

    let world = reopen(dir.path()).unwrap();
    world.skip_ids(1_000_000);
    world.post(ann, room, "and further on").await;
    world.close();
    assert_eq!(numbered(dir.path(), SECRET), given);
    outside(dir.path()).execute("UPDATE log SET secret = zeroblob(32)", []).unwrap();
    assert!(!verify(dir.path()).unwrap().damages.is_empty(), "another secret fits as well");
}

#[tokio::test]
async fn a_log_of_an_old_form_that_cannot_be_copied_is_not_opened() {
    let dir = first_form();
    let copy = dir.path().join("holdfast.db.schema-1");
    std::fs::write(&copy, "mine").unwrap();
    let Err(error) = reopen(dir.path()) else { panic!("it started") };
    assert!(matches!(error, OpenError::Backup { found: 1, .. }), "{error}");
    assert!(error.to_string().contains(copy.to_str().unwrap()), "{error}");
    let version: i64 = outside(dir.path()).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!((version, std::fs::read(&copy).unwrap().as_slice()), (1, &b"mine"[..]));
    std::fs::remove_file(&copy).unwrap();
    reopen(dir.path()).unwrap();
}

#[tokio::test]
async fn a_database_that_lost_its_end_is_refused_until_the_loss_is_accepted() {
    let world = World::sqlite();
    let (ann, _, room) = fill(&world).await;
    let dir = world.close().unwrap();
    let old = std::fs::read(dir.path().join(DATABASE)).unwrap();
    let world = reopen(dir.path()).unwrap();
    let epoch = world.read(|log| Ok(log.epoch())).await;
    let lost = world.post(ann, room, "acknowledged").await;
    world.close();
    std::fs::write(dir.path().join(DATABASE), old).unwrap();

    let Err(error) = reopen(dir.path()) else { panic!("it started") };
    let OpenError::Behind { head, database } = &error else { panic!("{error}") };
    assert_eq!(head.0, database.0 + 1);
    assert!(error.to_string().contains("--accept-loss"), "{error}");
    assert!(!verify(dir.path()).unwrap().damages.is_empty());

    let world = accept(dir.path());
    assert_eq!(world.read(|log| Ok(log.epoch())).await, epoch, "it is still the same log");
    assert_eq!(world.post(ann, room, "something else").await, lost, "its place is taken by another");
    world.close();
    reopen(dir.path()).unwrap();
}

#[tokio::test]
async fn a_database_with_another_history_is_refused() {
    let world = World::sqlite();
    let (ann, _, room) = fill(&world).await;
    let dir = world.close().unwrap();
    let fork = tempfile::tempdir().unwrap();
    for name in [DATABASE, HEAD] {
        std::fs::copy(dir.path().join(name), fork.path().join(name)).unwrap();
    }
    for (path, text) in [(dir.path(), "one way"), (fork.path(), "another way")] {
        let world = reopen(path).unwrap();
        world.post(ann, room, text).await;
        world.close();
    }
    std::fs::copy(fork.path().join(DATABASE), dir.path().join(DATABASE)).unwrap();
    assert!(matches!(reopen(dir.path()), Err(OpenError::Forked { .. })));
    let damages = verify(dir.path()).unwrap().damages;
    assert!(matches!(&damages[..], [one] if one.message.contains("another history")), "{damages:?}");
    accept(dir.path()).close();
    assert_eq!(verify(dir.path()).unwrap().damages, []);
}

#[tokio::test]
async fn a_database_whose_guard_is_gone_is_refused() {
    let world = World::sqlite();
    fill(&world).await;
    let dir = world.close().unwrap();
    let head = std::fs::read(dir.path().join(HEAD)).unwrap();
    std::fs::remove_file(dir.path().join(HEAD)).unwrap();
    assert!(matches!(reopen(dir.path()), Err(OpenError::NoHead { .. })));
    std::fs::write(dir.path().join(HEAD), "nonsense").unwrap();
    assert!(matches!(reopen(dir.path()), Err(OpenError::NoHead { .. })));
    // A write torn by a power cut spoils one slot, not both.
    let mut torn = head;
    torn[..100].fill(0);
    std::fs::write(dir.path().join(HEAD), torn).unwrap();
    reopen(dir.path()).unwrap();
}

/// What lies in a folder, and how much.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut files: Vec<_> = entries.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect();
    files.sort();
    files
}

#[tokio::test]
async fn where_the_database_is_missing_nothing_takes_its_place() {
    let world = World::sqlite();
    let (_, _, room) = fill(&world).await;
    let events = world.events(room).await;
    let killed = tempfile::tempdir().unwrap();
    for name in [DATABASE, "holdfast.db-wal", HEAD, "holdfast.lock"] {
        std::fs::copy(world.path().join(name), killed.path().join(name)).unwrap();
    }
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::rename(killed.path().join(DATABASE), elsewhere.path().join(DATABASE)).unwrap();
    let left = files(killed.path());
    for is_empty in [false, true] {
        let Err(error) = reopen(killed.path()) else { panic!("it started") };
        assert!(matches!(error, OpenError::NoDatabase { .. }), "{error}");
        let options = LogOptions { accept_loss: true, ..LogOptions::default() };
        assert!(World::sqlite_at(killed.path(), &options).is_err(), "its end was thrown away");
        if is_empty {
            std::fs::remove_file(killed.path().join(DATABASE)).unwrap();
        }
        assert!(files(killed.path()) == left, "what is left of the log was touched");
        std::fs::File::create(killed.path().join(DATABASE)).unwrap();
    }
    std::fs::rename(elsewhere.path().join(DATABASE), killed.path().join(DATABASE)).unwrap();
    assert_eq!(reopen(killed.path()).unwrap().events(room).await, events);
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_is_no_reason_to_refuse_the_next() {
    for made in [&b""[..], &[0; 256]] {
        let dir = tempfile::tempdir().unwrap();
        World::sqlite_at(dir.path(), &LogOptions::default()).unwrap().close();
        std::fs::write(dir.path().join(HEAD), made).unwrap();
        assert_eq!(verify(dir.path()).unwrap().damages, []);
        let world = reopen(dir.path()).unwrap();
        fill(&world).await;
        world.close();
        std::fs::write(dir.path().join(HEAD), made).unwrap();
        assert!(matches!(reopen(dir.path()), Err(OpenError::NoHead { .. })), "there is something to lose now");
    }
}

#[tokio::test]
async fn a_log_that_lacks_its_end_is_refused_in_the_form_it_has() {
    let dir = first_form();
    let head = dir.path().join(HEAD);
    outside(dir.path()).execute("DELETE FROM records WHERE lsn = (SELECT MAX(lsn) FROM records)", []).unwrap();
    assert!(matches!(reopen(dir.path()), Err(OpenError::Behind { .. })));
    std::fs::remove_file(&head).unwrap();
    assert!(matches!(reopen(dir.path()), Err(OpenError::NoHead { .. })));
    let version: i64 = outside(dir.path()).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 1, "it was changed all the same");
    assert!(!dir.path().join("holdfast.db.schema-1").exists(), "what lacks its end lies where the copy belongs");
}

#[tokio::test]
async fn a_killed_process_leaves_a_log_that_starts() {
    let world = World::sqlite();
    let (_, _, room) = fill(&world).await;
    let events = world.events(room).await;
    // What the disk holds at this moment is what a kill would leave: the log still open, its pages not yet moved.
    let left = tempfile::tempdir().unwrap();
    for name in [DATABASE, "holdfast.db-wal", HEAD] {
        std::fs::copy(world.path().join(name), left.path().join(name)).unwrap();
    }
    assert_eq!(reopen(left.path()).unwrap().events(room).await, events);

    // The same with the end of the write-ahead log gone: SQLite alone would not notice.
    let cut = tempfile::tempdir().unwrap();
    for name in [DATABASE, "holdfast.db-wal", HEAD] {
        std::fs::copy(world.path().join(name), cut.path().join(name)).unwrap();
    }
    let wal = std::fs::OpenOptions::new().write(true).open(cut.path().join("holdfast.db-wal")).unwrap();
    wal.set_len(wal.metadata().unwrap().len() - 4_096).unwrap();
    assert!(matches!(reopen(cut.path()), Err(OpenError::Behind { .. })));
}

#[tokio::test]
async fn a_deleted_text_is_in_no_file_of_the_folder() {
    const MARK: &[u8] = b"what-nobody-should-read";
    let world = World::sqlite();
    let (ann, ben, room) = fill(&world).await;
    // On one page, on pages of their own, and between what stays.
    for repeats in [1, 30, 400, 600] {
        let text = "what-nobody-should-read ".repeat(repeats);
        let seq = world.post(ann, room, &text).await;
        world.post(ben, room, &"what stays ".repeat(repeats)).await;
        world.ok(ann, edit(room, seq, &text)).await;
        world.ok(ben, react(room, seq, "👍", true)).await;
        world.ok(ann, Op::Delete { room, post: seq.into() }).await;
    }
    let dir = world.close().unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        let held = std::fs::read(&path).unwrap().windows(MARK.len()).filter(|bytes| *bytes == MARK).count();
        assert_eq!(held, 0, "{} still holds it", path.display());
    }
    assert_eq!(verify(dir.path()).unwrap().damages, []);
    // What an operator does for what may be left of older deletions.
    outside(dir.path()).execute_batch("VACUUM").unwrap();
    assert_eq!(verify(dir.path()).unwrap().damages, []);
    assert_eq!(reopen(dir.path()).unwrap().snapshot(room).await.total, 2 + 4 * 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_stays_small_however_much_is_read() {
    /// How long a slow page takes to read.
    const READ: Duration = Duration::from_millis(5);
    const POSTS: usize = 500;
    let options = LogOptions { checkpoint_pages: 20, ..LogOptions::default() };
    let world = World::sqlite_with(&options);
    let (ann, _, room) = fill(&world).await;
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..options.readers)
        .map(|_| {
            let (log, stop) = (world.log.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let read = log.read(|reads| {
                        let lsn = reads.lsn()?;
                        std::thread::sleep(READ);
                        Ok(lsn)
                    });
                    read.await.unwrap();
                }
            })
        })
        .collect();
    let (file, mut most) = (world.path().join("holdfast.db-wal"), 0);
    for n in 0..POSTS {
        world.post(ann, room, &format!("{n}")).await;
        most = most.max(std::fs::metadata(&file).unwrap().len());
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    // From 16 times as many pages on readers are waited for, and here and there that may take too long.
    let bound = u64::from(options.checkpoint_pages) * 16 * (4_096 + 24);
    assert!(most < 3 * bound, "the file grew to {most} bytes, where it should begin anew at {bound}");
    assert_eq!(world.snapshot(room).await.total, 2 + POSTS as u64);
    let dir = world.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().damages, []);
}

#[tokio::test]
async fn verify_finds_what_was_tampered_with() {
    let world = World::sqlite();
    let (_, _, room) = fill(&world).await;
    let dir = world.close().unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.damages, []);
    assert!(report.events > 10 && report.streams == 3, "{report:?}");
    for tampering in [
        "UPDATE events SET body = 'forged' WHERE body = 'first'",
        "UPDATE events SET body_hash = zeroblob(32) WHERE body_hash IS NOT NULL",
        "UPDATE events SET ts = ts + 1 WHERE seq = 4",
        "DELETE FROM events WHERE seq = 6",
        "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)",
        "UPDATE user_events SET detail = '{\"name\":\"Eve\"}' WHERE seq = 1",
        "UPDATE records SET chain = zeroblob(8) WHERE lsn = 3",
    ] {
        let copy = tempfile::tempdir().unwrap();
        for name in [DATABASE, HEAD] {
            std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
        }
        let changed = outside(copy.path()).execute(tampering, []).unwrap();
        assert!(changed > 0, "{tampering}");
        assert!(!verify(copy.path()).unwrap().damages.is_empty(), "{tampering} of room {room} went unseen");
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_heals_by_itself() {
    let options =
        LogOptions { max_bytes: Some(1024 * 1024), probe_every: Duration::from_millis(5), ..LogOptions::default() };
    let world = World::sqlite_with(&options);
    let (ann, _, room) = fill(&world).await;
    // Something else takes up room, and will give it back.
    let other = outside(world.path());
    other.execute("INSERT INTO probe (id, filler) VALUES (2, zeroblob(300000))", []).unwrap();
    let before = world.snapshot(room).await.total;
    let stored = until_full(&world, ann, room).await;
    assert_eq!(world.log.health(), Health::Full);
    let entry = world.entry(ann, post(room, &"x".repeat(9_000)));
    assert_eq!(world.log.propose(entry.clone()).await, Err(LogError::Full));
    assert_eq!(world.snapshot(room).await.total, before + stored, "what was acknowledged is there, and no more");
    other.execute("DELETE FROM probe", []).unwrap();
    until_health(&world.log, Health::Writable).await;
    assert!(matches!(world.log.propose(entry).await, Ok(Applied::Committed(_))), "the same request goes through");
    assert_eq!(world.snapshot(room).await.total, before + stored + 1);
    let dir = world.close().unwrap();
    drop(other);
    assert_eq!(verify(dir.path()).unwrap().damages, []);
}
