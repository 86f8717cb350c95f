//! A server of one room: a history, and what it looks like at any moment.
//!
//! Must not live here: anything of the code under test but its words. Invariant: every question is answered by
//! replaying the whole history.

use shared::cursor::{Check, Position};
use shared::ids::{ClientId, Epoch, RoomId, Seq, UserId};
use shared::model::{
    Deleted, Edited, Empty, HistoryPage, Person, Post, Posted, Reacted, Reaction, Renamed, RoomChange, RoomEvent,
    Snapshot,
};
use shared::tagged::Unknown;
use shared::time::Timestamp;

pub(crate) fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

pub(crate) fn room() -> RoomId {
    RoomId::from_bytes([9; 16])
}

pub(crate) fn epoch() -> Epoch {
    Epoch::from_bytes([7; 16])
}

pub(crate) fn client_id(number: u64) -> ClientId {
    ClientId::from_bytes(u128::from(number).to_be_bytes())
}

pub(crate) fn at(seq: Seq) -> Timestamp {
    Timestamp(1_000_000 + seq.0 * 1_000)
}

/// What somebody does, with everything open chosen by number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    Post,
    Edit(usize),
    Delete(usize),
    React(usize, u8, bool),
    Rename,
    Join,
    Unknown,
}

/// A server of one room: its events, and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) events: Vec<RoomEvent>,
    renames: u64,
    /// Names by user, as they are now.
    names: std::collections::BTreeMap<UserId, String>,
}

impl Room {
    pub(crate) fn head(&self) -> Seq {
        Seq(self.events.len() as u64)
    }

    pub(crate) fn position(&self, seq: Seq) -> Position {
        Position { epoch: epoch(), seq, check: self.check(seq) }
    }

    /// A piece of the chain of everything that happened up to a seq.
    pub(crate) fn check(&self, seq: Seq) -> Check {
        seq.0.checked_sub(1).map_or(Check::default(), |_| self.event(seq).check)
    }

    /// Forgets everything after a seq, as a server does that was restored from an older state.
    pub(crate) fn rewind(&mut self, seq: Seq) {
        self.events.retain(|event| event.seq <= seq);
    }

    pub(crate) fn event(&self, seq: Seq) -> &RoomEvent {
        &self.events[usize::try_from(seq.0).unwrap() - 1]
    }

    pub(crate) fn total(&self, as_of: Seq) -> u64 {
        as_of.0.checked_sub(1).map_or(0, |_| self.event(as_of).posts)
    }

    fn push(&mut self, by: UserId, change: RoomChange) -> Seq {
        let seq = self.head().next();
        let posted = matches!(change, RoomChange::Posted(_));
        let posts = self.total(self.head()) + u64::from(posted);
        let name = self.names.entry(by).or_insert_with(|| format!("user {by}")).clone();
        let by = Person { id: by, name };
        // FNV-1a over the check before and what happened: enough to tell two histories apart.
        let said = format!("{}{by:?}{change:?}", self.check(self.head()));
        let fold = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let check = Check(said.bytes().fold(0xcbf2_9ce4_8422_2325, fold).to_be_bytes());
        self.events.push(RoomEvent { room: room(), seq, check, posts, ts: at(seq), by, change });
        seq
    }

    pub(crate) fn post(&mut self, by: UserId, client_id: ClientId, body: &str) -> Seq {
        self.push(by, RoomChange::Posted(Posted { client_id, body: Some(body.to_owned()) }))
    }

    pub(crate) fn edit(&mut self, by: UserId, post: Seq, body: &str) -> Seq {
        self.push(by, RoomChange::Edited(Edited { post, body: Some(body.to_owned()) }))
    }

    pub(crate) fn rename(&mut self, by: UserId) {
        self.renames += 1;
        let was = self.names.insert(by, format!("renamed {}", self.renames)).unwrap_or_default();
        self.push(by, RoomChange::Renamed(Renamed { was }));
    }

    /// Lets somebody do something; a deed that is not possible at the moment is not done.
    pub(crate) fn act(&mut self, by: UserId, deed: Deed) {
        let standing: Vec<Post> = self.posts(self.head()).into_iter().filter(|post| post.body.is_some()).collect();
        let pick = |number: usize| (!standing.is_empty()).then(|| standing[number % standing.len()].clone());
        let next = self.head().next();
        match deed {
            Deed::Post => drop(self.post(by, client_id(1_000_000 + next.0), &format!("post at {next}"))),
            Deed::Edit(number) => {
                if let Some(post) = pick(number) {
                    self.edit(post.by, post.seq, &format!("edited at {next}"));
                }
            }
            Deed::Delete(number) => {
                if let Some(post) = pick(number) {
                    self.push(post.by, RoomChange::Deleted(Deleted { post: post.seq }));
                }
            }
            Deed::React(number, emoji, on) => {
                if let Some(post) = pick(number) {
                    let emoji = ["👍", "🎉"][usize::from(emoji % 2)].to_owned();
                    let has = post.reactions.iter().any(|there| there.emoji == emoji && there.by.contains(&by));
                    if has != on {
                        self.push(by, RoomChange::Reacted(Reacted { post: post.seq, emoji, on }));
                    }
                }
            }
            Deed::Rename => self.rename(by),
            Deed::Join => drop(self.push(by, RoomChange::Joined(Empty {}))),
            Deed::Unknown => {
                let unknown = Unknown { kind: "pinned".to_owned(), raw: "{}".to_owned() };
                self.push(by, RoomChange::Unknown(unknown));
            }
        }
    }

    /// All posts as they stood at a seq.
    pub(crate) fn posts(&self, as_of: Seq) -> Vec<Post> {
        let mut posts: Vec<Post> = Vec::new();
        for event in self.events.iter().take_while(|event| event.seq <= as_of) {
            let target = match &event.change {
                RoomChange::Posted(posted) => {
                    posts.push(Post {
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
                RoomChange::Edited(Edited { post, .. })
                | RoomChange::Deleted(Deleted { post })
                | RoomChange::Reacted(Reacted { post, .. }) => *post,
                _ => continue,
            };
            let post = posts.iter_mut().find(|post| post.seq == target).unwrap();
            post.rev = event.seq;
            match &event.change {
                RoomChange::Edited(edited) => {
                    post.body.clone_from(&edited.body);
                    post.edited = Some(event.ts);
                }
                RoomChange::Deleted(_) => (post.body, post.edited, post.reactions) = (None, None, Vec::new()),
                RoomChange::Reacted(Reacted { emoji, on: true, .. }) => {
                    match post.reactions.iter_mut().find(|there| there.emoji == *emoji) {
                        Some(there) => there.by.push(event.by.id),
                        None => post.reactions.push(Reaction { emoji: emoji.clone(), by: vec![event.by.id] }),
                    }
                }
                RoomChange::Reacted(Reacted { emoji, on: false, .. }) => {
                    for there in &mut post.reactions {
                        there.by.retain(|by| there.emoji != *emoji || *by != event.by.id);
                    }
                    post.reactions.retain(|there| !there.by.is_empty());
                }
                _ => unreachable!("only changes of posts come here"),
            }
        }
        posts
    }

    /// The names at a seq of everybody who has done anything.
    pub(crate) fn people(&self, as_of: Seq) -> Vec<Person> {
        let mut people = std::collections::BTreeMap::new();
        for event in self.events.iter().take_while(|event| event.seq <= as_of) {
            people.insert(event.by.id, event.by.name.clone());
        }
        people.into_iter().map(|(id, name)| Person { id, name }).collect()
    }

    pub(crate) fn snapshot(&self, limit: usize) -> Snapshot {
        let as_of = self.head();
        let mut posts = self.posts(as_of);
        posts.drain(..posts.len().saturating_sub(limit));
        Snapshot { as_of: self.position(as_of), total: self.total(as_of), posts, people: self.people(as_of) }
    }

    pub(crate) fn history(&self, before: Seq, limit: usize) -> HistoryPage {
        let as_of = self.head();
        let mut posts: Vec<Post> = self.posts(as_of).into_iter().filter(|post| post.seq < before).collect();
        let earlier = posts.len().saturating_sub(limit);
        posts.drain(..earlier);
        let people = self.people(as_of);
        HistoryPage { room: room(), as_of: self.position(as_of), posts, people, earlier: earlier as u64 }
    }
}
