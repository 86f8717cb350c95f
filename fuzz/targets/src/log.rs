//! Entries into the log, in records of any size: what must be true of every history, and that both backends are one
//! log.
//!
//! Must not live here: what an entry does; that is `apply`. Invariant checked: seqs are dense, a key is taken once and
//! answered the same for ever, what was refused leaves no trace, chains and posts agree with the events, and SQLite
//! gives the answers of the twin in memory.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use server::log::{self, Applied, Entry, LogHandle, LogOptions, Op, Receipt, SYSTEM, Secret, SessionRow, Writer};
use shared::ids::{ClientId, RoomId, Seq, UserId};
use shared::model::{Person, PostRef, RoomChange, RoomEvent, RoomSummary, Snapshot, UserEvent};
use shared::time::Timestamp;

use crate::runtime::block_on;
use crate::source::Source;

/// No limit worth the name.
const ALL: usize = 1_000_000;
const RECORDS: usize = 60;
const USERS: u8 = 5;
const ROOMS: u8 = 4;
const TOKENS: u8 = 4;

pub(crate) fn run(bytes: &[u8]) {
    let memory = log::open_memory(&LogOptions::default(), |_: &log::Published| {}).expect("memory opens");
    let teller = block_on(async {
        let mut teller = Teller::new(memory).await;
        for record in records(bytes) {
            teller.tell(record).await;
        }
        teller.check_history();
        teller
    });
    teller.writer.shutdown().expect("memory closes");
}

pub(crate) fn run_beside_sqlite(bytes: &[u8]) {
    let folder = folder();
    let options = LogOptions { secret: Some(Secret([8; 32])), ..LogOptions::default() };
    let memory = log::open_memory(&options, |_: &log::Published| {}).expect("memory opens");
    let database = log::open_sqlite(folder.path(), &options, |_: &log::Published| {}).expect("a new log opens");
    let (twin, sqlite) = block_on(async {
        let (mut twin, mut sqlite) = (Teller::new(memory).await, Teller::new(database).await);
        for record in records(bytes) {
            let (one, other) = (twin.tell(record.clone()).await, sqlite.tell(record.clone()).await);
            assert_eq!(one, other, "the two backends answer {record:?} differently");
        }
        sqlite.check_history();
        assert_eq!(twin.history, sqlite.history);
        (twin, sqlite)
    });
    twin.writer.shutdown().expect("memory closes");
    sqlite.writer.shutdown().expect("SQLite closes");
    let report = log::verify(folder.path()).expect("what was closed can be verified");
    assert_eq!(report.damages, []);
}

/// A folder of its own, in memory where the system has such a place: what is looked for here is no power cut.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder can be made")
}

// What is asked.

fn records(bytes: &[u8]) -> Vec<Vec<Entry>> {
    let mut source = Source::new(bytes);
    let mut records = Vec::new();
    while !source.is_empty() && records.len() < RECORDS {
        let size = 1 + source.below(4);
        records.push((0..size).map(|_| entry(&mut source)).collect());
    }
    records
}

fn user(source: &mut Source<'_>) -> UserId {
    match source.byte() {
        255 => SYSTEM,
        number => UserId::from_bytes([1 + number % USERS; 16]),
    }
}

fn room(source: &mut Source<'_>) -> RoomId {
    RoomId::from_bytes([0xa0 + source.byte() % ROOMS; 16])
}

fn key(source: &mut Source<'_>) -> ClientId {
    // Two bytes: mostly a new key, and an old one where the fuzzer wants it.
    numbered(u16::from_be_bytes([source.byte(), source.byte()]))
}

fn numbered(number: u16) -> ClientId {
    let mut bytes = [0xcc; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    ClientId::from_bytes(bytes)
}

/// A moment of the server's own clock: no peer sends one, and SQLite's numbers end at half of ours.
fn moment(source: &mut Source<'_>) -> Timestamp {
    Timestamp(source.number() >> 1)
}

fn name(source: &mut Source<'_>) -> String {
    match source.byte() {
        255 => source.text(20),
        number => format!("name {}", number % 7),
    }
}

fn entry(source: &mut Source<'_>) -> Entry {
    let op = op(source);
    let by = match (&op, source.flag()) {
        (Op::UserSet { user, .. }, false) => *user,
        (_, _) => user(source),
    };
    Entry { ts: moment(source), by, key: key(source), op }
}

fn op(source: &mut Source<'_>) -> Op {
    let post = |source: &mut Source<'_>| {
        let number = source.number();
        PostRef { seq: Seq(number), client_id: (number % 4 == 3).then(|| numbered(number as u16)) }
    };
    match source.byte() % 24 {
        0..=5 => Op::Post { room: room(source), body: source.text(16) },
        6 | 7 => Op::Edit { room: room(source), post: post(source), body: source.text(16) },
        8 => Op::Delete { room: room(source), post: post(source) },
        9 | 10 => {
            let emoji = (*source.pick(&["👍", "❤️", "🎉"])).to_owned();
            Op::React { room: room(source), post: post(source), emoji, on: source.flag() }
        }
        11 | 12 => {
            let room = room(source);
            let name = name(source);
            Op::RoomCreate { room, name, title: source.text(8) }
        }
        13 => Op::RoomSet { room: room(source), name: name(source), title: source.text(8) },
        14 => Op::RoomDelete { room: room(source) },
        15 | 16 => Op::Join { room: room(source) },
        17 => Op::Leave { room: room(source) },
        18 => Op::Kick { room: room(source), user: user(source) },
        19 | 20 => {
            let name = name(source);
            Op::UserSet { user: user(source), skeleton: name.to_lowercase(), name }
        }
        21 => Op::SessionOpen { token_hash: [source.byte() % TOKENS; 32], expires: moment(source) },
        22 => Op::SessionRevoke { token_hash: [source.byte() % TOKENS; 32] },
        _more => match source.byte() {
            255 => Op::SessionPurge { before: moment(source) },
            number => Op::Read { room: RoomId::from_bytes([0xa0 + number % ROOMS; 16]), posts: source.number() },
        },
    }
}

// What must hold.

/// A log, and what it has answered so far.
struct Teller {
    log: LogHandle,
    writer: Writer,
    answers: HashMap<(UserId, ClientId), (Op, Receipt)>,
    /// What could be read after the last record.
    history: History,
}

/// Everything that can be read.
#[derive(Debug, Default, PartialEq)]
struct History {
    rooms: Vec<(Vec<RoomEvent>, Option<Snapshot>, Vec<Person>)>,
    users: Vec<(Vec<UserEvent>, Vec<RoomSummary>)>,
    sessions: Vec<Option<SessionRow>>,
    first_end: Option<Timestamp>,
}

impl Teller {
    async fn new((log, writer): (LogHandle, Writer)) -> Self {
        let mut teller = Self { log, writer, answers: HashMap::new(), history: History::default() };
        teller.history = teller.history().await;
        teller
    }

    /// Asks for a record and judges the answers.
    async fn tell(&mut self, record: Vec<Entry>) -> Vec<Applied> {
        let answers = self.log.propose_all(record.clone()).await.expect("the log takes it");
        assert_eq!(answers.len(), record.len());
        for (entry, answer) in record.iter().zip(&answers) {
            if matches!(entry.op, Op::Read { .. } | Op::SessionPurge { .. }) {
                assert!(!matches!(answer, Applied::Duplicate(_)), "what keeps no answer has kept one: {entry:?}");
                continue;
            }
            let known = self.answers.get(&(entry.by, entry.key));
            match answer {
                Applied::Committed(receipt) => {
                    assert_eq!(known, None, "a key is taken twice: {entry:?}");
                    self.answers.insert((entry.by, entry.key), (entry.op.clone(), *receipt));
                }
                Applied::Duplicate(receipt) => {
                    let (op, first) = known.expect("a duplicate of something");
                    assert_eq!((op.digest(), first), (entry.op.digest(), receipt), "another answer than the first");
                }
                Applied::Refused(error) => assert!(!error.message.is_empty()),
            }
        }
        let history = self.history().await;
        if answers.iter().all(|answer| matches!(answer, Applied::Refused(_) | Applied::Duplicate(_))) {
            assert_eq!(history, self.history, "what was refused or known has left a trace: {record:?}");
        }
        self.history = history;
        answers
    }

    async fn history(&self) -> History {
        let users: Vec<UserId> = (1..=USERS).map(|number| UserId::from_bytes([number; 16])).collect();
        let read = move |log: &dyn log::Reads| {
            let mut history = History { first_end: log.first_session_end()?, ..History::default() };
            for token in 0..TOKENS {
                history.sessions.push(log.session(&[token; 32])?);
            }
            for number in 0..ROOMS {
                let room = RoomId::from_bytes([0xa0 + number; 16]);
                let mut snapshot = log.snapshot(room, ALL, ALL)?;
                if let Some(snapshot) = &mut snapshot {
                    // Each log has a name of its own.
                    snapshot.as_of.epoch = shared::ids::Epoch::from_bytes([0; 16]);
                }
                history.rooms.push((log.events(room, Seq(0), ALL, ALL)?, snapshot, log.members(room, None, ALL)?));
            }
            for user in users {
                history.users.push((log.user_events(user, Seq(0), ALL)?, log.rooms_of(user, None)?));
            }
            Ok(history)
        };
        self.log.read(read).await.expect("the log can be read")
    }

    /// Judges everything that can be read now.
    fn check_history(&self) {
        let history = &self.history;
        for (events, snapshot, members) in &history.rooms {
            check_room(events, snapshot.as_ref(), members);
            for event in events {
                if let RoomChange::Posted(posted) = &event.change {
                    let (_, receipt) = &self.answers[&(event.by.id, posted.client_id)];
                    assert_eq!((receipt.room, receipt.seq, receipt.ts), (Some(event.room), event.seq, event.ts));
                }
            }
        }
        let ends = history.sessions.iter().flatten().map(|session| session.expires);
        assert_eq!(history.first_end, ends.min(), "not the first end of a session");
        for (events, rooms) in &history.users {
            for (at, event) in events.iter().enumerate() {
                assert_eq!(event.seq, Seq(at as u64 + 1), "a user's own stream has a gap");
            }
            assert!(rooms.iter().all(|room| room.joined && room.read <= room.posts), "{rooms:?}");
        }
    }
}

fn check_room(events: &[RoomEvent], snapshot: Option<&Snapshot>, members: &[Person]) {
    let mut posts: BTreeMap<Seq, (&RoomEvent, bool)> = BTreeMap::new();
    let mut present: i64 = 0;
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event.seq, Seq(at as u64 + 1), "a room has a gap");
        match &event.change {
            RoomChange::Posted(_) => drop(posts.insert(event.seq, (event, true))),
            RoomChange::Deleted(deleted) => {
                posts.get_mut(&deleted.post).expect("only a post is deleted").1 = false;
            }
            RoomChange::Joined(_) => present += 1,
            RoomChange::Left(_) | RoomChange::Kicked(_) => present -= 1,
            RoomChange::Ended(_) => present = 0,
            RoomChange::Edited(_)
            | RoomChange::Reacted(_)
            | RoomChange::Renamed(_)
            | RoomChange::Created(_)
            | RoomChange::Set(_)
            | RoomChange::Unknown(_) => {}
        }
        assert_eq!(event.posts, posts.len() as u64, "posts are miscounted");
    }
    assert_eq!(members.len() as i64, present, "members are miscounted");
    let Some(snapshot) = snapshot else { return assert!(events.is_empty(), "events of no room") };
    assert_eq!(snapshot.as_of.seq, Seq(events.len() as u64));
    assert_eq!(snapshot.total, posts.len() as u64);
    assert_eq!(snapshot.posts.len(), posts.len());
    for (post, (seq, (event, is_kept))) in snapshot.posts.iter().zip(&posts) {
        assert_eq!((post.seq, post.ordinal, post.by), (*seq, event.posts, event.by.id));
        assert_eq!(post.body.is_some(), *is_kept, "a deleted post has a text, or a kept one has none");
    }
}
