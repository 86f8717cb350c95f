//! The maps that records are applied to.
//!
//! Must not live here: any decision of its own, or how the maps are asked (`reads`). Invariant: a map that finds another
//! one's rows by a second key changes with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use shared::ids::{ClientId, Epoch, Lsn, RoomId, Seq, UserId};
use shared::model::{Post, Reaction, RoomSummary};
use shared::time::Timestamp;

use crate::log::apply::apply;
use crate::log::chain::TextHash;
use crate::log::reads::{Reads as _, SessionRow, gather};
use crate::log::record::{Applied, Record, TokenHash};
use crate::log::tables::{
    Body, EventRow, Kind, MemberRow, PostLife, PostRow, PostState, ReactionCount, ReactionPlace, ReadRow, RoomRow,
    RoomState, SendRow, StorageError, Tables, UserEventRow, UserRow,
};
use crate::log::writer::Committed;
use crate::log::{Effects, Published};

/// One reaction to a post.
type Reacted = (ReactionPlace, String, UserId);

/// Everything, in order.
pub(super) struct State {
    pub(super) epoch: Epoch,
    pub(super) texts: TextHash,
    pub(super) lsn: Lsn,
    pub(super) sends: HashMap<(UserId, ClientId), SendRow>,
    pub(super) users: BTreeMap<UserId, UserRow>,
    pub(super) skeletons: HashMap<String, UserId>,
    pub(super) rooms: BTreeMap<RoomId, RoomRow>,
    pub(super) names: BTreeMap<String, RoomId>,
    pub(super) stays: BTreeMap<(RoomId, UserId, Seq), MemberRow>,
    /// Members by name, as they are listed.
    pub(super) listed: BTreeMap<(RoomId, String), UserId>,
    pub(super) joined: BTreeMap<(UserId, RoomId), Lsn>,
    pub(super) events: BTreeMap<(RoomId, Seq), EventRow>,
    pub(super) posts: BTreeMap<(RoomId, Seq), PostState>,
    /// How often posts were edited; absent: never.
    pub(super) edits: BTreeMap<(RoomId, Seq), u64>,
    pub(super) user_events: BTreeMap<(UserId, Seq), UserEventRow>,
    pub(super) reactions: BTreeMap<(RoomId, Seq), Vec<Reacted>>,
    pub(super) sessions: HashMap<TokenHash, SessionRow>,
    /// Sessions by when they end.
    pub(super) ends: BTreeSet<(Timestamp, TokenHash)>,
    pub(super) marks: BTreeMap<(UserId, RoomId), ReadRow>,
}

impl State {
    pub(super) fn new(epoch: Epoch, texts: TextHash) -> Self {
        Self {
            epoch,
            texts,
            lsn: Lsn(0),
            sends: HashMap::new(),
            users: BTreeMap::new(),
            skeletons: HashMap::new(),
            rooms: BTreeMap::new(),
            names: BTreeMap::new(),
            stays: BTreeMap::new(),
            listed: BTreeMap::new(),
            joined: BTreeMap::new(),
            events: BTreeMap::new(),
            posts: BTreeMap::new(),
            edits: BTreeMap::new(),
            user_events: BTreeMap::new(),
            reactions: BTreeMap::new(),
            sessions: HashMap::new(),
            ends: BTreeSet::new(),
            marks: BTreeMap::new(),
        }
    }

    /// Applies a record.
    pub(super) fn take(&mut self, record: &Record) -> Result<Committed, StorageError> {
        let before = self.lsn;
        let mut effects = Effects::default();
        let mut applied = Vec::with_capacity(record.entries.len());
        for entry in &record.entries {
            let lsn = Lsn(self.lsn.0 + 1);
            let outcome = apply(self, entry, lsn, &mut effects)?;
            if matches!(outcome, Applied::Committed(_)) {
                self.lsn = lsn;
            }
            applied.push(outcome);
        }
        let published = (self.lsn != before).then_some(Published { lsn: self.lsn, effects });
        Ok(Committed { applied, published })
    }

    pub(super) fn summary(&self, user: UserId, row: &RoomRow) -> RoomSummary {
        RoomSummary {
            room: row.id,
            name: row.name.clone(),
            title: row.title.clone(),
            joined: self.joined.contains_key(&(user, row.id)),
            members: row.members,
            head: row.seq,
            posts: row.posts,
            read: self.marks.get(&(user, row.id)).map_or(0, |mark| mark.posts),
        }
    }

    fn gathered(&self, room: RoomId, post: Seq) -> Vec<Reaction> {
        let all = self.reactions.get(&(room, post)).into_iter().flatten();
        gather(all.map(|(_, emoji, user)| (emoji.clone(), *user)))
    }

    /// Returns a post as it stands; `seq` must be one's.
    pub(super) fn stands(&self, event: &EventRow) -> Option<Post> {
        let state = self.posts.get(&(event.room, event.seq))?;
        let text = self.events.get(&(event.room, state.text_at)).map(|row| &row.body);
        Some(Post {
            seq: event.seq,
            rev: state.rev,
            ordinal: event.posts,
            by: event.by,
            client_id: event.key?,
            ts: event.ts,
            body: match text {
                Some(Body::Text(text)) => Some(text.clone()),
                Some(Body::None | Body::Blanked(_)) | None => None,
            },
            edited: state.edited,
            reactions: self.gathered(event.room, event.seq),
        })
    }
}

impl Tables for State {
    fn texts(&self) -> &TextHash {
        &self.texts
    }

    fn send(&self, by: UserId, key: ClientId) -> Result<Option<SendRow>, StorageError> {
        Ok(self.sends.get(&(by, key)).copied())
    }

    fn put_send(&mut self, by: UserId, key: ClientId, row: SendRow) -> Result<(), StorageError> {
        self.sends.insert((by, key), row);
        Ok(())
    }

    fn user(&self, id: UserId) -> Result<Option<UserRow>, StorageError> {
        Ok(self.users.get(&id).cloned())
    }

    fn user_by_skeleton(&self, skeleton: &str) -> Result<Option<UserId>, StorageError> {
        Ok(self.skeletons.get(skeleton).copied())
    }

    fn put_user(&mut self, row: &UserRow) -> Result<(), StorageError> {
        if let Some(before) = self.users.insert(row.id, row.clone()) {
            self.skeletons.remove(&before.skeleton);
        }
        self.skeletons.insert(row.skeleton.clone(), row.id);
        Ok(())
    }

    fn room(&self, id: RoomId) -> Result<Option<RoomRow>, StorageError> {
        Ok(self.rooms.get(&id).cloned())
    }

    fn room_by_name(&self, name: &str) -> Result<Option<RoomId>, StorageError> {
        Ok(self.names.get(name).copied())
    }

    fn put_room(&mut self, row: &RoomRow) -> Result<(), StorageError> {
        if let Some(before) = self.rooms.insert(row.id, row.clone())
            && before.state == RoomState::Open
        {
            self.names.remove(&before.name);
        }
        if row.state == RoomState::Open {
            self.names.insert(row.name.clone(), row.id);
        }
        Ok(())
    }

    fn stay(&self, room: RoomId, user: UserId) -> Result<Option<MemberRow>, StorageError> {
        let stays = self.stays.range((room, user, Seq(0))..=(room, user, Seq(u64::MAX)));
        Ok(stays.last().map(|(_, row)| *row))
    }

    fn put_stay(&mut self, row: &MemberRow, name: &str) -> Result<(), StorageError> {
        self.stays.insert((row.room, row.user, row.from_seq), *row);
        self.listed.retain(|(room, _), user| *room != row.room || *user != row.user);
        if row.to_seq.is_none() {
            self.listed.insert((row.room, name.to_owned()), row.user);
            self.joined.insert((row.user, row.room), row.lsn);
        } else {
            self.joined.remove(&(row.user, row.room));
        }
        Ok(())
    }

    fn rooms_joined(&self, user: UserId) -> Result<Vec<RoomId>, StorageError> {
        let rooms = self.joined.range((user, RoomId::from_bytes([0; 16]))..);
        Ok(rooms.take_while(|((of, _), _)| *of == user).map(|((_, room), _)| *room).collect())
    }

    fn members_of(&self, room: RoomId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StorageError> {
        self.member_ids(room, after, limit)
    }

    fn append_event(&mut self, row: &EventRow) -> Result<(), StorageError> {
        if row.kind == Kind::Posted {
            let state = PostState { rev: row.seq, text_at: row.seq, edited: None };
            self.posts.insert((row.room, row.seq), state);
        }
        if let (Kind::Edited, Some(post)) = (row.kind, row.target) {
            *self.edits.entry((row.room, post)).or_default() += 1;
        }
        self.events.insert((row.room, row.seq), row.clone());
        Ok(())
    }

    fn append_user_event(&mut self, row: &UserEventRow) -> Result<(), StorageError> {
        self.user_events.insert((row.user, row.seq), row.clone());
        Ok(())
    }

    fn post(&self, room: RoomId, seq: Seq) -> Result<Option<PostRow>, StorageError> {
        let (Some(event), Some(state)) = (self.events.get(&(room, seq)), self.posts.get(&(room, seq))) else {
            return Ok(None);
        };
        let life = match event.body {
            Body::Text(_) => PostLife::Kept,
            Body::None | Body::Blanked(_) => PostLife::Deleted,
        };
        let Some(key) = event.key else { return Ok(None) };
        Ok(Some(PostRow { by: event.by, key, life, state: *state }))
    }

    fn edit_count(&self, room: RoomId, seq: Seq, most: u64) -> Result<u64, StorageError> {
        Ok(self.edits.get(&(room, seq)).map_or(0, |edits| *edits.min(&most)))
    }

    fn put_post_state(&mut self, room: RoomId, seq: Seq, state: PostState) -> Result<(), StorageError> {
        self.posts.insert((room, seq), state);
        Ok(())
    }

    fn blank_post(&mut self, room: RoomId, seq: Seq) -> Result<(), StorageError> {
        let texts = self.texts;
        for (_, row) in self.events.range_mut((room, seq)..=(room, Seq(u64::MAX))) {
            if (row.seq == seq || (row.kind == Kind::Edited && row.target == Some(seq)))
                && let Body::Text(text) = &row.body
            {
                row.body = Body::Blanked(texts.of(row.lsn, text));
            }
        }
        Ok(())
    }

    fn reaction(&self, room: RoomId, post: Seq, emoji: &str, user: UserId) -> Result<Option<Seq>, StorageError> {
        let all = self.reactions.get(&(room, post)).into_iter().flatten();
        Ok(all.clone().find(|(_, with, by)| with == emoji && *by == user).map(|(place, _, _)| place.at))
    }

    fn reaction_count(&self, room: RoomId, post: Seq, emoji: &str) -> Result<ReactionCount, StorageError> {
        let groups = self.gathered(room, post);
        let all = self.reactions.get(&(room, post)).into_iter().flatten();
        Ok(ReactionCount {
            all: all.clone().count() as u64,
            emojis: groups.len() as u64,
            since: all.clone().find(|(_, with, _)| with == emoji).map(|(place, _, _)| place.since),
        })
    }

    fn put_reaction(
        &mut self,
        room: RoomId,
        post: Seq,
        emoji: &str,
        user: UserId,
        place: ReactionPlace,
    ) -> Result<(), StorageError> {
        let all = self.reactions.entry((room, post)).or_default();
        all.push((place, emoji.to_owned(), user));
        all.sort_by_key(|(place, _, _)| *place);
        Ok(())
    }

    fn remove_reaction(&mut self, room: RoomId, post: Seq, emoji: &str, user: UserId) -> Result<(), StorageError> {
        if let Some(all) = self.reactions.get_mut(&(room, post)) {
            all.retain(|(_, with, by)| with != emoji || *by != user);
        }
        Ok(())
    }

    fn clear_reactions(&mut self, room: RoomId, post: Seq) -> Result<(), StorageError> {
        self.reactions.remove(&(room, post));
        Ok(())
    }

    fn session(&self, token: &TokenHash) -> Result<Option<SessionRow>, StorageError> {
        Ok(self.sessions.get(token).copied())
    }

    fn put_session(&mut self, token: &TokenHash, row: SessionRow) -> Result<(), StorageError> {
        if let Some(before) = self.sessions.insert(*token, row) {
            self.ends.remove(&(before.expires, *token));
        }
        self.ends.insert((row.expires, *token));
        Ok(())
    }

    fn remove_session(&mut self, token: &TokenHash) -> Result<(), StorageError> {
        if let Some(row) = self.sessions.remove(token) {
            self.ends.remove(&(row.expires, *token));
        }
        Ok(())
    }

    fn sessions_ended(&self, before: Timestamp, limit: usize) -> Result<Vec<TokenHash>, StorageError> {
        let ended = self.ends.iter().take_while(|(expires, _)| *expires <= before);
        Ok(ended.take(limit).map(|(_, token)| *token).collect())
    }

    fn read_mark(&self, user: UserId, room: RoomId) -> Result<Option<ReadRow>, StorageError> {
        Ok(self.marks.get(&(user, room)).copied())
    }

    fn put_read_mark(&mut self, user: UserId, room: RoomId, row: ReadRow) -> Result<(), StorageError> {
        self.marks.insert((user, room), row);
        Ok(())
    }
}
