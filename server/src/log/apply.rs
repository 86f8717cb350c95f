//! `apply`: what becomes of a request. The only place that decides it, for every backend.
//!
//! Must not live here: a clock, randomness, configuration, SQL; rates, sizes and what a name may look like are judged
//! before. Invariant: everything is checked before anything is written, so a refused entry changes nothing; and the same
//! entries in the same order make the same log, byte for byte.

mod rooms;

use shared::cursor::Check;
use shared::error::{ErrorCode, WireError};
use shared::ids::{Lsn, RoomId, Seq, UserId};
use shared::message::ReadMark;
use shared::model::{
    Deleted, Edited, Named, Person, PostRef, Posted, Reacted, Renamed, RoomChange, RoomEvent, UserChange, UserEvent,
};
use shared::planted::{Bug, is_planted};
use shared::time::Timestamp;

use super::reads::SessionRow;
use super::record::{Applied, Entry, Op, Receipt, SYSTEM, SYSTEM_NAME, TokenHash};
use super::tables::{
    EventRow, MemberRow, PostLife, PostRow, PostState, ReactionPlace, ReadRow, RoomRow, RoomState, SendRow,
    StorageError, Tables, UserEventRow, UserRow,
};
use super::{Effects, chain};

/// Reactions one post gathers at most, so that one post always fits one message.
pub const REACTIONS_PER_POST: u64 = 500;
/// Different emojis under one post.
pub const EMOJIS_PER_POST: u64 = 20;
/// Edits of one post. Its deletion blanks them all in one transaction, behind which everybody waits.
pub const EDITS_PER_POST: u64 = 200;

/// Sessions one request forgets at most. Others wait behind it in its transaction.
pub const SESSIONS_PER_PURGE: usize = 64;

/// A refusal, or a failure of the storage.
enum Stop {
    Refused(WireError),
    Storage(StorageError),
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

fn refuse<T>(code: ErrorCode, words: &str) -> Result<T, Stop> {
    Err(Stop::Refused(WireError::new(code, words)))
}

/// Decides one entry and writes what follows from it. `lsn` is its place in the whole log if it is committed.
///
/// # Errors
/// Only as the storage fails; then the whole record must be rolled back.
pub fn apply(tables: &mut dyn Tables, entry: &Entry, lsn: Lsn, out: &mut Effects) -> Result<Applied, StorageError> {
    let digest = entry.op.digest();
    let keeps_answer = keeps_answer(&entry.op);
    let first = if keeps_answer { tables.send(entry.by, entry.key)? } else { None };
    let forgets = is_planted(Bug::DedupWindow) && matches!(entry.op, Op::Post { .. });
    let forgotten = |first: &SendRow| forgets && entry.ts.since(first.receipt.ts) > 30_000;
    if let Some(first) = first.filter(|first| !forgotten(first)) {
        return Ok(if first.digest == digest {
            Applied::Duplicate(first.receipt)
        } else {
            Applied::Refused(WireError::new(
                ErrorCode::IdConflict,
                "This id was used before for another request. Make a new id for a new request.",
            ))
        });
    }
    let mut turn = Turn { tables, entry, lsn, out };
    match turn.decide() {
        Ok(receipt) => {
            if keeps_answer {
                turn.tables.put_send(entry.by, entry.key, SendRow { digest, receipt })?;
            }
            Ok(Applied::Committed(receipt))
        }
        Err(Stop::Refused(error)) => Ok(Applied::Refused(error)),
        Err(Stop::Storage(error)) => Err(error),
    }
}

/// Whether the first answer is kept. Read positions and the ends of sessions merge by maximum, and what is forgotten is
/// forgotten: a repetition changes nothing that matters, so rows for them would only gather.
const fn keeps_answer(op: &Op) -> bool {
    match op {
        Op::Read { .. } | Op::SessionPurge { .. } | Op::SessionRenew { .. } => false,
        Op::Post { .. }
        | Op::Edit { .. }
        | Op::Delete { .. }
        | Op::React { .. }
        | Op::RoomCreate { .. }
        | Op::RoomSet { .. }
        | Op::RoomDelete { .. }
        | Op::Join { .. }
        | Op::Leave { .. }
        | Op::Kick { .. }
        | Op::UserSet { .. }
        | Op::SessionOpen { .. }
        | Op::SessionRevoke { .. } => true,
    }
}

/// One entry being decided.
struct Turn<'a> {
    tables: &'a mut dyn Tables,
    entry: &'a Entry,
    lsn: Lsn,
    out: &'a mut Effects,
}

impl Turn<'_> {
    fn decide(&mut self) -> Result<Receipt, Stop> {
        match &self.entry.op {
            Op::Post { room, body } => self.post(*room, body),
            Op::Edit { room, post, body } => self.edit(*room, *post, body),
            Op::Delete { room, post } => self.delete(*room, *post),
            Op::React { room, post, emoji, on } => self.react(*room, *post, emoji, *on),
            Op::RoomCreate { room, name, title } => self.room_create(*room, name, title),
            Op::RoomSet { room, name, title } => self.room_set(*room, name, title),
            Op::RoomDelete { room } => self.room_delete(*room),
            Op::Join { room } => self.join(*room),
            Op::Leave { room } => self.leave(*room),
            Op::Kick { room, user } => self.kick(*room, *user),
            Op::UserSet { user, name, skeleton } => self.user_set(*user, name, skeleton),
            Op::SessionOpen { token_hash, expires } => self.session_open(token_hash, *expires),
            Op::SessionRenew { token_hash, expires } => self.session_renew(token_hash, *expires),
            Op::SessionRevoke { token_hash } => self.session_revoke(token_hash),
            Op::SessionPurge { before } => self.session_purge(*before),
            Op::Read { room, posts } => self.read(*room, *posts),
        }
    }

    // Who asks, and of what.

    fn author(&self) -> Result<UserRow, Stop> {
        match self.tables.user(self.entry.by)? {
            Some(user) => Ok(user),
            None if self.entry.by == SYSTEM => Ok(UserRow {
                id: SYSTEM,
                name: SYSTEM_NAME.to_owned(),
                skeleton: String::new(),
                seq: Seq(0),
                check: Check::default(),
                last_ts: Timestamp(0),
            }),
            None => refuse(ErrorCode::SignedOut, "There is no such user. Sign in again."),
        }
    }

    fn open_room(&self, room: RoomId) -> Result<RoomRow, Stop> {
        match self.tables.room(room)? {
            Some(row) => match row.state {
                RoomState::Open => Ok(row),
                RoomState::Ended => refuse(ErrorCode::NotFound, "This room has ended."),
            },
            None => refuse(ErrorCode::NotFound, "There is no such room."),
        }
    }

    fn present_stay(&self, room: RoomId, user: UserId) -> Result<Option<MemberRow>, Stop> {
        Ok(self.tables.stay(room, user)?.filter(|stay| stay.to_seq.is_none()))
    }

    fn as_member(&self, room: RoomId) -> Result<(UserRow, RoomRow), Stop> {
        let author = self.author()?;
        let row = self.open_room(room)?;
        match self.present_stay(room, author.id)? {
            Some(_) => Ok((author, row)),
            None => refuse(ErrorCode::NotMember, "You are not a member of this room. Join it first."),
        }
    }

    fn as_maker(&self, room: RoomId) -> Result<(UserRow, RoomRow), Stop> {
        let author = self.author()?;
        let row = self.open_room(room)?;
        if row.maker == author.id {
            Ok((author, row))
        } else {
            refuse(ErrorCode::Forbidden, "Only who made this room may do this.")
        }
    }

    fn kept_post(&self, room: RoomId, named: PostRef) -> Result<PostRow, Stop> {
        match self.tables.post(room, named.seq)? {
            Some(post) if named.client_id.is_some_and(|key| key != post.key) && !is_planted(Bug::AnyPostStruck) => {
                refuse(
                    ErrorCode::NotFound,
                    "Another post has taken its place: the room's history is not the one it was.",
                )
            }
            Some(post) => match post.life {
                PostLife::Kept => Ok(post),
                PostLife::Deleted => refuse(ErrorCode::NotFound, "This post was deleted."),
            },
            None => refuse(ErrorCode::NotFound, "There is no such post."),
        }
    }

    fn own_post(&self, room: RoomId, named: PostRef) -> Result<PostRow, Stop> {
        let post = self.kept_post(room, named)?;
        if post.by == self.entry.by {
            Ok(post)
        } else {
            refuse(ErrorCode::Forbidden, "Only its author may change a post.")
        }
    }

    // What follows.

    /// Adds an event to a room and moves its head.
    fn append(&mut self, room: &mut RoomRow, by: &UserRow, change: RoomChange) -> Result<Receipt, Stop> {
        let columns = chain::columns(&change);
        room.seq = room.seq.next();
        room.last_ts = room.last_ts.max(self.entry.ts);
        room.lsn = self.lsn;
        let mut row = EventRow {
            room: room.id,
            seq: room.seq,
            lsn: self.lsn,
            check: Check::default(),
            posts: room.posts,
            ts: room.last_ts,
            by: by.id,
            name: by.name.clone(),
            kind: columns.kind,
            key: columns.key,
            target: columns.target,
            detail: columns.detail,
            body: columns.body,
        };
        row.check = chain::room_check(self.tables.texts(), room.check, &row);
        room.check = row.check;
        self.tables.append_event(&row)?;
        self.tables.put_room(room)?;
        let by = Person { id: by.id, name: by.name.clone() };
        self.out.room_events.push(RoomEvent {
            room: room.id,
            seq: room.seq,
            check: room.check,
            posts: room.posts,
            ts: room.last_ts,
            by,
            change,
        });
        Ok(Receipt { room: Some(room.id), seq: room.seq, ts: room.last_ts })
    }

    /// Adds an event to a user's own stream and moves its head.
    fn append_user(&mut self, user: &mut UserRow, change: UserChange) -> Result<Receipt, Stop> {
        let (kind, detail) = chain::user_columns(&change);
        user.seq = user.seq.next();
        user.last_ts = user.last_ts.max(self.entry.ts);
        let mut row = UserEventRow {
            user: user.id,
            seq: user.seq,
            lsn: self.lsn,
            check: Check::default(),
            ts: user.last_ts,
            kind,
            detail,
        };
        row.check = chain::user_check(user.check, &row);
        user.check = row.check;
        self.tables.append_user_event(&row)?;
        self.tables.put_user(user)?;
        let event = UserEvent { seq: user.seq, check: user.check, ts: user.last_ts, change };
        self.out.user_events.push((user.id, event));
        Ok(Receipt { room: None, seq: user.seq, ts: user.last_ts })
    }

    fn move_post(&mut self, room: RoomId, post: Seq, state: PostState) -> Result<(), Stop> {
        Ok(self.tables.put_post_state(room, post, state)?)
    }

    // The requests.

    fn post(&mut self, room: RoomId, body: &str) -> Result<Receipt, Stop> {
        let (author, mut row) = self.as_member(room)?;
        row.posts += 1;
        let posted = Posted { client_id: self.entry.key, body: Some(body.to_owned()) };
        self.append(&mut row, &author, RoomChange::Posted(posted))
    }

    fn edit(&mut self, room: RoomId, named: PostRef, body: &str) -> Result<Receipt, Stop> {
        let (author, mut row) = self.as_member(room)?;
        let (found, post) = (self.own_post(room, named)?, named.seq);
        // Most posts were never edited, and need not be counted.
        if found.state.edited.is_some() && self.tables.edit_count(room, post, EDITS_PER_POST)? >= EDITS_PER_POST {
            return refuse(ErrorCode::LimitReached, "This post was edited as often as a post can be.");
        }
        let edited = Edited { post, body: Some(body.to_owned()) };
        let receipt = self.append(&mut row, &author, RoomChange::Edited(edited))?;
        let state = PostState { rev: receipt.seq, text_at: receipt.seq, edited: Some(receipt.ts) };
        self.move_post(room, post, state)?;
        Ok(receipt)
    }

    fn delete(&mut self, room: RoomId, named: PostRef) -> Result<Receipt, Stop> {
        let (author, mut row) = self.as_member(room)?;
        let (found, post) = (self.own_post(room, named)?, named.seq);
        let receipt = self.append(&mut row, &author, RoomChange::Deleted(Deleted { post }))?;
        self.tables.blank_post(room, post)?;
        self.tables.clear_reactions(room, post)?;
        self.move_post(room, post, PostState { rev: receipt.seq, edited: None, ..found.state })?;
        Ok(receipt)
    }

    fn react(&mut self, room: RoomId, named: PostRef, emoji: &str, on: bool) -> Result<Receipt, Stop> {
        let (author, mut row) = self.as_member(room)?;
        let (found, post) = (self.kept_post(room, named)?, named.seq);
        let before = self.tables.reaction(room, post, emoji, author.id)?;
        if before.is_some() == on || is_planted(Bug::ReactionIgnored) {
            let seq = before.unwrap_or(found.state.rev);
            return Ok(Receipt { room: Some(room), seq, ts: row.last_ts });
        }
        let count = self.tables.reaction_count(room, post, emoji)?;
        let full = count.all >= REACTIONS_PER_POST || (count.since.is_none() && count.emojis >= EMOJIS_PER_POST);
        if on && full {
            return refuse(ErrorCode::LimitReached, "This post has as many reactions as a post can have.");
        }
        let reacted = Reacted { post, emoji: emoji.to_owned(), on };
        let receipt = self.append(&mut row, &author, RoomChange::Reacted(reacted))?;
        if on {
            let place = ReactionPlace { since: count.since.unwrap_or(receipt.seq), at: receipt.seq };
            self.tables.put_reaction(room, post, emoji, author.id, place)?;
        } else {
            self.tables.remove_reaction(room, post, emoji, author.id)?;
        }
        self.move_post(room, post, PostState { rev: receipt.seq, ..found.state })?;
        Ok(receipt)
    }

    fn user_set(&mut self, user: UserId, name: &str, skeleton: &str) -> Result<Receipt, Stop> {
        if self.entry.by != user || user == SYSTEM {
            return refuse(ErrorCode::Forbidden, "You may only name yourself.");
        }
        if self.tables.user_by_skeleton(skeleton)?.is_some_and(|holder| holder != user) {
            return refuse(ErrorCode::NameTaken, "Somebody has this name, or one that looks the same.");
        }
        let named = UserChange::Named(Named { name: name.to_owned() });
        let Some(mut row) = self.tables.user(user)? else {
            let mut row = UserRow {
                id: user,
                name: name.to_owned(),
                skeleton: skeleton.to_owned(),
                seq: Seq(0),
                check: Check::default(),
                last_ts: Timestamp(0),
            };
            return self.append_user(&mut row, named);
        };
        if row.name == name {
            return Ok(Receipt { room: None, seq: row.seq, ts: row.last_ts });
        }
        let was = std::mem::replace(&mut row.name, name.to_owned());
        skeleton.clone_into(&mut row.skeleton);
        let receipt = self.append_user(&mut row, named)?;
        for room in self.tables.rooms_joined(user)? {
            let (Some(mut room), Some(stay)) = (self.tables.room(room)?, self.present_stay(room, user)?) else {
                continue;
            };
            self.tables.put_stay(&stay, name)?;
            self.append(&mut room, &row, RoomChange::Renamed(Renamed { was: was.clone() }))?;
        }
        Ok(receipt)
    }

    fn session_open(&mut self, token: &TokenHash, expires: Timestamp) -> Result<Receipt, Stop> {
        let author = self.author()?;
        if self.tables.session(token)?.is_some_and(|session| session.user != author.id) {
            return refuse(ErrorCode::Forbidden, "This session is somebody else's.");
        }
        self.tables.put_session(token, SessionRow { user: author.id, expires })?;
        Ok(Receipt { room: None, seq: author.seq, ts: self.entry.ts })
    }

    /// Whoever asks has looked whether it is there; it may have ended since.
    fn session_renew(&mut self, token: &TokenHash, expires: Timestamp) -> Result<Receipt, Stop> {
        let author = self.author()?;
        let Some(session) = self.tables.session(token)?.filter(|session| session.user == author.id) else {
            return refuse(ErrorCode::SignedOut, "This session has ended. Sign in again.");
        };
        let expires = session.expires.max(expires);
        self.tables.put_session(token, SessionRow { expires, ..session })?;
        Ok(Receipt { room: None, seq: author.seq, ts: self.entry.ts })
    }

    fn session_revoke(&mut self, token: &TokenHash) -> Result<Receipt, Stop> {
        let author = self.author()?;
        // Somebody else's session answers like one that does not exist.
        if self.tables.session(token)?.is_some_and(|session| session.user == author.id) {
            self.tables.remove_session(token)?;
            self.out.revoked.push((author.id, *token));
        }
        Ok(Receipt { room: None, seq: author.seq, ts: self.entry.ts })
    }

    /// Nobody is told: whoever is connected under such a session was shown out when it ended.
    fn session_purge(&mut self, before: Timestamp) -> Result<Receipt, Stop> {
        let author = self.author()?;
        if author.id != SYSTEM {
            return refuse(ErrorCode::Forbidden, "Only the server itself forgets sessions.");
        }
        for token in self.tables.sessions_ended(before, SESSIONS_PER_PURGE)? {
            self.tables.remove_session(&token)?;
        }
        Ok(Receipt { room: None, seq: author.seq, ts: self.entry.ts })
    }

    fn read(&mut self, room: RoomId, posts: u64) -> Result<Receipt, Stop> {
        let (author, row) = self.as_member(room)?;
        let receipt = Receipt { room: Some(room), seq: row.seq, ts: row.last_ts };
        let posts = posts.min(row.posts);
        if self.tables.read_mark(author.id, room)?.is_some_and(|mark| mark.posts >= posts) {
            return Ok(receipt);
        }
        self.tables.put_read_mark(author.id, room, ReadRow { posts, lsn: self.lsn })?;
        self.out.reads.push((author.id, ReadMark { room, posts }));
        Ok(receipt)
    }
}
