//! The forms that are kept for ever: every request of every version, and the hash chains over them.
//!
//! `HOLDFAST_BLESS=1` writes a missing file; one that differs is never overwritten.

use std::path::PathBuf;

use server::log::record::RECORD_VERSION;
use server::log::{Entry, Op, Record, Replica, Secret, TextHash};
use shared::ids::{ClientId, Epoch, Lsn, RoomId, Seq, UserId};
use shared::model::PostRef;
use shared::time::Timestamp;

use super::world::{ALL, World, edit, named, post, react};

fn compare(name: &str, written: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log").join(name);
    match std::fs::read_to_string(&path) {
        Ok(golden) => assert_eq!(golden, written, "{name} changed; a released form never does"),
        Err(_) if std::env::var_os("HOLDFAST_BLESS").is_some() => std::fs::write(&path, written).unwrap(),
        Err(error) => panic!("{name}: {error}; it should hold\n{written}"),
    }
}

/// The requests by the version that brought them.
fn ops() -> [(u16, Vec<(&'static str, Op)>); 4] {
    let (room, user, post) = (RoomId::from_bytes([0x20; 16]), UserId::from_bytes([0x30; 16]), PostRef::from(Seq(7)));
    let (name, title, emoji) = (String::from("plans"), String::from("What next?"), String::from("👍"));
    let body = String::from("Zeile 1\n第二行 \"quoted\"");
    let all = vec![
        ("post", Op::Post { room, body: body.clone() }),
        ("edit", Op::Edit { room, post, body: body.clone() }),
        ("delete", Op::Delete { room, post }),
        ("react", Op::React { room, post, emoji: emoji.clone(), on: true }),
        ("room_create", Op::RoomCreate { room, name: name.clone(), title: title.clone() }),
        ("room_set", Op::RoomSet { room, name, title }),
        ("room_delete", Op::RoomDelete { room }),
        ("join", Op::Join { room }),
        ("leave", Op::Leave { room }),
        ("kick", Op::Kick { room, user }),
        ("user_set", Op::UserSet { user, name: "Ann".into(), skeleton: "ann".into() }),
        ("session_open", Op::SessionOpen { token_hash: [0xab; 32], expires: Timestamp(1_800_000_000_000) }),
        ("session_revoke", Op::SessionRevoke { token_hash: [0xab; 32] }),
        ("read", Op::Read { room, posts: 12 }),
    ];
    let newer = vec![("session_purge", Op::SessionPurge { before: Timestamp(1_800_000_000_000) })];
    let renew = Op::SessionRenew { token_hash: [0xab; 32], expires: Timestamp(1_800_000_000_000) };
    let renew = vec![("session_renew", renew)];
    let post = PostRef { client_id: Some(ClientId::from_parts(Timestamp(1_700_000_000_000), [0x40; 10])), ..post };
    let newest = vec![
        ("edit", Op::Edit { room, post, body: body.clone() }),
        ("delete", Op::Delete { room, post }),
        ("react", Op::React { room, post, emoji: emoji.clone(), on: true }),
    ];
    for (name, op) in all.iter().chain(&newer).chain(&renew).chain(&newest) {
        // A new request breaks this match, and is a new version of the record.
        let expected = match op {
            Op::Post { .. } => "post",
            Op::Edit { .. } => "edit",
            Op::Delete { .. } => "delete",
            Op::React { .. } => "react",
            Op::RoomCreate { .. } => "room_create",
            Op::RoomSet { .. } => "room_set",
            Op::RoomDelete { .. } => "room_delete",
            Op::Join { .. } => "join",
            Op::Leave { .. } => "leave",
            Op::Kick { .. } => "kick",
            Op::UserSet { .. } => "user_set",
            Op::SessionOpen { .. } => "session_open",
            Op::SessionRevoke { .. } => "session_revoke",
            Op::SessionPurge { .. } => "session_purge",
            Op::SessionRenew { .. } => "session_renew",
            Op::Read { .. } => "read",
        };
        assert_eq!(*name, expected);
    }
    [(1, all), (2, newer), (3, renew), (4, newest)]
}

#[test]
fn every_request_is_written_and_read_as_ever() {
    for (v, name, op) in ops().into_iter().flat_map(|(v, ops)| ops.into_iter().map(move |(name, op)| (v, name, op))) {
        let entry = Entry {
            ts: Timestamp(1_700_000_000_000),
            by: UserId::from_bytes([0x10; 16]),
            key: ClientId::from_bytes([0x40; 16]),
            op,
        };
        let record = Record { v, entries: vec![entry] };
        let written = format!("{}\n", serde_json::to_string_pretty(&record).unwrap());
        compare(&format!("record-v{v}-{name}.json"), &written);
        assert_eq!(serde_json::from_str::<Record>(&written).unwrap(), record);
    }
}

#[test]
fn what_a_request_asks_is_digested_as_ever() {
    for (v, ops) in ops() {
        let line = |(name, op): &(&str, Op)| {
            let digest: String = op.digest().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{name} {digest}\n")
        };
        compare(&format!("digests-v{v}.txt"), &ops.iter().map(line).collect::<String>());
    }
}

/// A short life, as entries: what there is of it in rooms and in people's own streams.
fn life(world: &World) -> (Vec<Entry>, RoomId, [UserId; 2]) {
    let mut entries = Vec::new();
    let mut ask = |by, op| entries.push(world.entry(by, op));
    let [ann, ben] = ["Ann", "Ben"].map(|name| {
        let user = world.user_id();
        ask(user, named(user, name));
        user
    });
    let room = world.room_id();
    ask(ann, Op::RoomCreate { room, name: "plans".into(), title: String::new() });
    ask(ben, Op::Join { room });
    ask(ann, post(room, "第一"));
    let seq = Seq(4);
    ask(ann, edit(room, seq, "二"));
    ask(ben, react(room, seq, "👍", true));
    ask(ann, Op::RoomSet { room, name: "done".into(), title: "Over".into() });
    ask(ann, named(ann, "Zoe"));
    ask(ann, Op::Delete { room, post: seq.into() });
    ask(ann, Op::Kick { room, user: ben });
    ask(ben, Op::Join { room });
    ask(ben, Op::Leave { room });
    ask(ann, Op::RoomDelete { room });
    (entries, room, [ann, ben])
}

/// Version 2 has the secret of the log in the hash of a text.
#[test]
fn the_same_requests_make_the_same_chains_as_ever() {
    let keyed = TextHash::keyed(Secret([7; 32]), Lsn(0));
    for (name, texts) in [("chains-v1.txt", TextHash::PLAIN), ("chains-v2.txt", keyed)] {
        let (entries, room, people) = life(&World::memory());
        let mut log = Replica::new(Epoch::from_bytes([1; 16]), texts);
        let asked = entries.len();
        for entry in entries {
            log.take(&Record { v: RECORD_VERSION, entries: vec![entry] }).unwrap().expect("each changes something");
        }
        assert_eq!(log.reads().lsn().unwrap(), Lsn(asked as u64));
        let mut lines = String::new();
        for event in log.reads().events(room, Seq(0), ALL, ALL).unwrap() {
            lines += &format!("room {} {} {}\n", event.seq, event.change.tag(), event.check);
        }
        for user in people {
            for event in log.reads().user_events(user, Seq(0), ALL).unwrap() {
                lines += &format!("user {} {} {}\n", event.seq, event.change.tag(), event.check);
            }
        }
        compare(name, &lines);
    }
}
