//! A log under test, with people in it and everything it published.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use server::log::{self, Applied, Entry, LogError, LogHandle, LogOptions, Op, Published, Reads, Receipt, Writer};
use shared::error::ErrorCode;
use shared::ids::{ClientId, RoomId, Seq, UserId};
use shared::model::{RoomEvent, Snapshot};
use shared::time::Timestamp;

/// No limit worth the name.
pub(crate) const ALL: usize = 1_000_000;

/// A log under test.
pub(crate) struct World {
    pub(crate) log: LogHandle,
    pub(crate) published: Arc<Mutex<Vec<Published>>>,
    writer: Option<Writer>,
    dir: Option<tempfile::TempDir>,
    ids: AtomicU64,
    now: AtomicU64,
}

fn sink(published: &Arc<Mutex<Vec<Published>>>) -> impl FnMut(&Published) + Send + 'static {
    let published = Arc::clone(published);
    move |one: &Published| published.lock().unwrap().push(one.clone())
}

impl World {
    pub(crate) fn memory() -> Self {
        Self::memory_with(&LogOptions::default())
    }

    pub(crate) fn memory_with(options: &LogOptions) -> Self {
        let published = Arc::default();
        let (log, writer) = log::open_memory(options, sink(&published)).unwrap();
        Self::around(log, writer, published, None)
    }

    pub(crate) fn sqlite() -> Self {
        Self::sqlite_with(&LogOptions::default())
    }

    pub(crate) fn sqlite_with(options: &LogOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self::sqlite_at(dir.path(), options).unwrap();
        world.dir = Some(dir);
        world
    }

    pub(crate) fn sqlite_at(dir: &Path, options: &LogOptions) -> Result<Self, log::OpenError> {
        let published = Arc::default();
        let (log, writer) = log::open_sqlite(dir, options, sink(&published))?;
        Ok(Self::around(log, writer, published, None))
    }

    fn around(
        log: LogHandle,
        writer: Writer,
        published: Arc<Mutex<Vec<Published>>>,
        dir: Option<tempfile::TempDir>,
    ) -> Self {
        Self { log, published, writer: Some(writer), dir, ids: AtomicU64::new(1), now: AtomicU64::new(1_000) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.as_ref().expect("a log on a disk").path()
    }

    /// Closes the log in good order and gives its directory back.
    pub(crate) fn close(mut self) -> Option<tempfile::TempDir> {
        self.writer.take().unwrap().shutdown().unwrap();
        self.dir.take()
    }

    /// Makes ids that are never used twice, the same in every run.
    fn number(&self) -> [u8; 16] {
        let n = self.ids.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0x10; 16];
        bytes[8..].copy_from_slice(&n.to_be_bytes());
        bytes
    }

    /// Keeps the ids of this world apart from those of another life of the same log.
    pub(crate) fn skip_ids(&self, n: u64) {
        self.ids.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn key(&self) -> ClientId {
        ClientId::from_bytes(self.number())
    }

    pub(crate) fn room_id(&self) -> RoomId {
        RoomId::from_bytes(self.number())
    }

    pub(crate) fn user_id(&self) -> UserId {
        UserId::from_bytes(self.number())
    }

    pub(crate) fn entry(&self, by: UserId, op: Op) -> Entry {
        Entry { ts: Timestamp(self.now.fetch_add(10, Ordering::Relaxed)), by, key: self.key(), op }
    }

    pub(crate) async fn apply(&self, by: UserId, op: Op) -> Applied {
        self.log.propose(self.entry(by, op)).await.unwrap()
    }

    pub(crate) async fn ok(&self, by: UserId, op: Op) -> Receipt {
        match self.apply(by, op).await {
            Applied::Committed(receipt) => receipt,
            other => panic!("expected it to be committed: {other:?}"),
        }
    }

    pub(crate) async fn refused(&self, by: UserId, op: Op) -> ErrorCode {
        match self.apply(by, op).await {
            Applied::Refused(error) => error.code,
            other => panic!("expected a refusal: {other:?}"),
        }
    }

    pub(crate) async fn person(&self, name: &str) -> UserId {
        let user = self.user_id();
        self.ok(user, named(user, name)).await;
        user
    }

    pub(crate) async fn room(&self, by: UserId, name: &str) -> RoomId {
        let room = self.room_id();
        self.ok(by, Op::RoomCreate { room, name: name.to_owned(), title: String::new() }).await;
        room
    }

    pub(crate) async fn post(&self, by: UserId, room: RoomId, body: &str) -> Seq {
        self.ok(by, post(room, body)).await.seq
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&dyn Reads) -> Result<T, log::StorageError> + Send + 'static,
    ) -> T {
        self.log.read(f).await.unwrap()
    }

    pub(crate) async fn events(&self, room: RoomId) -> Vec<RoomEvent> {
        self.read(move |log| log.events(room, Seq(0), ALL, ALL)).await
    }

    pub(crate) async fn snapshot(&self, room: RoomId) -> Snapshot {
        self.read(move |log| log.snapshot(room, ALL, ALL)).await.expect("the room exists")
    }

    pub(crate) async fn body(&self, room: RoomId, seq: Seq) -> Option<String> {
        self.snapshot(room).await.posts.into_iter().find(|post| post.seq == seq).expect("the post exists").body
    }
}

pub(crate) fn post(room: RoomId, body: &str) -> Op {
    Op::Post { room, body: body.to_owned() }
}

pub(crate) fn named(user: UserId, name: &str) -> Op {
    Op::UserSet { user, name: name.to_owned(), skeleton: name.to_lowercase() }
}

pub(crate) fn react(room: RoomId, post: Seq, emoji: &str, on: bool) -> Op {
    Op::React { room, post: post.into(), emoji: emoji.to_owned(), on }
}

pub(crate) fn edit(room: RoomId, post: Seq, body: &str) -> Op {
    Op::Edit { room, post: post.into(), body: body.to_owned() }
}

/// Waits until the log's health is as wanted, or fails after ten seconds.
pub(crate) async fn until_health(log: &LogHandle, wanted: log::Health) {
    let mut health = log.watch_health();
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), health.wait_for(|now| *now == wanted)).await;
    waited.expect("the health changes in time").expect("the log runs");
}

/// Fills a log until it says it is full.
pub(crate) async fn until_full(world: &World, by: UserId, room: RoomId) -> u64 {
    let body = "x".repeat(4_000);
    for stored in 0..10_000 {
        match world.log.propose(world.entry(by, post(room, &body))).await {
            Ok(Applied::Committed(_)) => {}
            Err(LogError::Full) => return stored,
            other => panic!("expected it to be committed or full: {other:?}"),
        }
    }
    panic!("the log never filled");
}
