//! Snapshots and events commute, and both backends are one log: for whatever people do.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use server::log::{Applied, LogOptions, Op, SYSTEM, Secret, SessionRow};
use shared::ids::{RoomId, Seq, UserId};
use shared::model::{Post, Reaction, RoomChange, RoomEvent, Snapshot};
use shared::time::Timestamp;

use super::world::{World, edit, named, post, react};

const PEOPLE: usize = 3;
const TOKENS: u8 = 4;

/// What somebody does; posts are meant by their number among the room's events so far.
#[derive(Clone, Debug)]
enum Deed {
    Post(u8),
    Edit(u64, u8),
    Delete(u64),
    React(u64, u8, bool),
    Join,
    Leave,
    Rename(u8),
    SignIn(u8, u64),
    Renew(u8, u64),
    SignOut(u8),
    /// The server forgets sessions.
    Purge(u64),
}

fn deed() -> impl Strategy<Value = (usize, Deed)> {
    let seq = 3_u64..40;
    let deed = prop_oneof![
        6 => any::<u8>().prop_map(Deed::Post),
        3 => (seq.clone(), any::<u8>()).prop_map(|(seq, n)| Deed::Edit(seq, n)),
        2 => seq.clone().prop_map(Deed::Delete),
        5 => (seq, 0_u8..3, any::<bool>()).prop_map(|(seq, emoji, on)| Deed::React(seq, emoji, on)),
        1 => Just(Deed::Join),
        1 => Just(Deed::Leave),
        1 => (0_u8..4).prop_map(Deed::Rename),
        2 => (0..TOKENS, 0_u64..9).prop_map(|(token, expires)| Deed::SignIn(token, expires)),
        2 => (0..TOKENS, 0_u64..9).prop_map(|(token, expires)| Deed::Renew(token, expires)),
        1 => (0..TOKENS).prop_map(Deed::SignOut),
        2 => (0_u64..9).prop_map(Deed::Purge),
    ];
    (0..PEOPLE, deed)
}

fn op(deed: &Deed, room: RoomId, who: UserId) -> Op {
    match deed {
        Deed::Post(n) => post(room, &format!("post {n}")),
        Deed::Edit(seq, n) => edit(room, Seq(*seq), &format!("edit {n}")),
        Deed::Delete(seq) => Op::Delete { room, post: Seq(*seq).into() },
        Deed::React(seq, emoji, on) => react(room, Seq(*seq), ["👍", "❤️", "🎉"][usize::from(*emoji)], *on),
        Deed::Join => Op::Join { room },
        Deed::Leave => Op::Leave { room },
        Deed::Rename(n) => named(who, &format!("name {n}")),
        Deed::SignIn(token, expires) => Op::SessionOpen { token_hash: [*token; 32], expires: Timestamp(*expires) },
        Deed::Renew(token, expires) => Op::SessionRenew { token_hash: [*token; 32], expires: Timestamp(*expires) },
        Deed::SignOut(token) => Op::SessionRevoke { token_hash: [*token; 32] },
        Deed::Purge(before) => Op::SessionPurge { before: Timestamp(*before) },
    }
}

/// What happened on one backend.
struct Story {
    answers: Vec<Vec<Applied>>,
    snapshots: Vec<Snapshot>,
    events: Vec<RoomEvent>,
    /// After each turn: when the first session ends, and all of them.
    sessions: Vec<(Option<Timestamp>, Vec<Option<SessionRow>>)>,
}

async fn tell(world: &World, turns: &[Vec<(usize, Deed)>]) -> Story {
    let mut people = Vec::new();
    for n in 0..PEOPLE {
        people.push(world.person(&format!("person {n}")).await);
    }
    let room = world.room(people[0], "here").await;
    world.ok(people[1], Op::Join { room }).await;
    let mut story = Story {
        answers: Vec::new(),
        snapshots: vec![world.snapshot(room).await],
        events: Vec::new(),
        sessions: Vec::new(),
    };
    for turn in turns {
        let by = |who: usize, deed: &Deed| if matches!(deed, Deed::Purge(_)) { SYSTEM } else { people[who] };
        let entries =
            turn.iter().map(|(who, deed)| world.entry(by(*who, deed), op(deed, room, people[*who]))).collect();
        story.answers.push(world.log.propose_all(entries).await.unwrap());
        story.snapshots.push(world.snapshot(room).await);
        let sessions = |log: &dyn server::log::Reads| {
            let all = (0..TOKENS).map(|token| log.session(&[token; 32])).collect::<Result<Vec<_>, _>>()?;
            Ok((log.first_session_end()?, all))
        };
        story.sessions.push(world.read(sessions).await);
    }
    story.events = world.events(room).await;
    story
}

/// The client's half of the bargain, as plainly as it can be said.
fn fold(snapshot: &Snapshot, events: &[RoomEvent]) -> Vec<Post> {
    let mut posts: BTreeMap<Seq, Post> = snapshot.posts.iter().map(|post| (post.seq, post.clone())).collect();
    for event in events {
        let about = match &event.change {
            RoomChange::Posted(posted) => {
                posts.entry(event.seq).or_insert_with(|| Post {
                    seq: event.seq,
                    rev: event.seq,
                    ordinal: event.posts,
                    by: event.by.id,
                    client_id: posted.client_id,
                    ts: event.ts,
                    body: posted.body.clone(),
                    edited: None,
                    reactions: Vec::new(),
                });
                continue;
            }
            RoomChange::Edited(edited) => edited.post,
            RoomChange::Deleted(deleted) => deleted.post,
            RoomChange::Reacted(reacted) => reacted.post,
            _ => continue,
        };
        let Some(post) = posts.get_mut(&about).filter(|post| event.seq > post.rev) else { continue };
        post.rev = event.seq;
        match &event.change {
            RoomChange::Edited(edited) => {
                post.body.clone_from(&edited.body);
                post.edited = Some(event.ts);
            }
            RoomChange::Deleted(_) => {
                (post.body, post.edited) = (None, None);
                post.reactions.clear();
            }
            RoomChange::Reacted(reacted) => {
                let who = event.by.id;
                if reacted.on {
                    match post.reactions.iter_mut().find(|reaction| reaction.emoji == reacted.emoji) {
                        Some(reaction) => reaction.by.push(who),
                        None => post.reactions.push(Reaction { emoji: reacted.emoji.clone(), by: vec![who] }),
                    }
                } else {
                    for reaction in post.reactions.iter_mut().filter(|reaction| reaction.emoji == reacted.emoji) {
                        reaction.by.retain(|by| *by != who);
                    }
                    post.reactions.retain(|reaction| !reaction.by.is_empty());
                }
            }
            _ => {}
        }
    }
    posts.into_values().collect()
}

#[test]
fn snapshots_and_events_commute_and_both_backends_are_one_log() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let turns = prop::collection::vec(prop::collection::vec(deed(), 1..8), 1..8);
    // A failure prints the smallest deeds that show it: they are the seed.
    runner
        .run(&turns, |turns| {
            runtime.block_on(async {
                let options = LogOptions { secret: Some(Secret([8; 32])), ..LogOptions::default() };
                let (memory, sqlite) = (World::memory_with(&options), World::sqlite_with(&options));
                let (twin, story) = (tell(&memory, &turns).await, tell(&sqlite, &turns).await);
                prop_assert_eq!(&twin.answers, &story.answers);
                prop_assert_eq!(&twin.events, &story.events);
                prop_assert_eq!(&twin.sessions, &story.sessions);
                let last = story.snapshots.last().unwrap();
                for (snapshot, twins) in story.snapshots.iter().zip(&twin.snapshots) {
                    prop_assert_eq!(&snapshot.posts, &twins.posts);
                    prop_assert_eq!(&snapshot.people, &twins.people);
                    prop_assert_eq!(snapshot.as_of.check, twins.as_of.check);
                    let after = story.events.iter().position(|event| event.seq > snapshot.as_of.seq);
                    let after = &story.events[after.unwrap_or(story.events.len())..];
                    prop_assert_eq!(&fold(snapshot, after), &last.posts, "events after a snapshot");
                    prop_assert_eq!(&fold(snapshot, &story.events), &last.posts, "all events over a snapshot");
                }
                let directory = sqlite.close().unwrap();
                let report = server::log::verify(directory.path()).unwrap();
                prop_assert_eq!(report.damages, []);
                Ok(())
            })
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
