//! How a client gets from where it stands to the head: judged against one moment of the log.
//!
//! Must not live here: sockets, or delivering what follows. Invariant: nothing is recovered half silently. The outcome
//! names one of: everything follows, a snapshot is all there is, a hole that is counted, a reset with its reason.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use shared::cursor::Position;
use shared::error::{ErrorCode, WireError};
use shared::ids::{Epoch, Lsn, RoomId, Seq, UserId};
use shared::limits::{JUMP_EVENTS, OUTBOUND_MESSAGE_BYTES, PAGE_PEOPLE, PAGE_POSTS};
use shared::message::{Hello, Message, OpenRoom};
use shared::model::{Member, OpenOutcome, Opened, Person, ResetReason, RoomSummary, Snapshot};
use shared::planted::{Bug, is_planted};

use crate::log::{Reads, RoomHead, StorageError};
use crate::people::tokens::TokenHash;
use crate::presence::Presence;
use crate::rosters::Moment;
use crate::ws::frame;

/// What a snapshot may take of a message that also holds a roster.
pub(super) const SNAPSHOT_BYTES: usize = OUTBOUND_MESSAGE_BYTES / 2;
/// What the snapshots of one greeting may take together. They wait at once for a peer that may never read them.
const GREETING_BYTES: usize = 4 * OUTBOUND_MESSAGE_BYTES;

/// What to answer to `open`, and where to go on from.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) opened: Opened,
    /// The roster as JSON where the room is large; that of `opened` is empty then.
    pub(super) roster: Option<Arc<str>>,
    /// Delivery goes on after this seq; `None` where refused.
    pub(super) from: Option<Seq>,
    /// The room's head at that moment.
    pub(super) head: Seq,
}

/// Everything a hello is answered with, read at one moment.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) you: Person,
    pub(super) epoch: Epoch,
    pub(super) lsn: Lsn,
    pub(super) user: Position,
    /// Where the user's own stream is followed from, if its cursor was good.
    pub(super) user_from: Option<Seq>,
    pub(super) rooms: Vec<RoomSummary>,
    pub(super) rooms_complete: bool,
    /// Every room the user is a member of.
    pub(super) members: Vec<RoomId>,
    pub(super) plans: Vec<Plan>,
}

/// Reads what a hello is answered with; `None` if the sign-in or the user is gone.
pub(super) fn greet(
    reads: &dyn Reads,
    presence: &Presence,
    user: UserId,
    token: &TokenHash,
    hello: &Hello,
) -> Result<Option<Greeting>, StorageError> {
    let is_signed_in = reads.session(token)?.is_some_and(|session| session.user == user);
    let (Some(you), Some(head), true) = (reads.user(user)?, reads.user_head(user)?, is_signed_in) else {
        return Ok(None);
    };
    let (epoch, lsn) = (reads.epoch(), reads.lsn()?);
    let user_from = match hello.user {
        None => None,
        Some(cursor) => match judge_cursor(epoch, head.seq, cursor, reads.user_check_at(user, cursor.seq)?) {
            None => Some(cursor.seq),
            Some(reason) => {
                alarm(reason, "user", user.to_string(), cursor, head.seq);
                None
            }
        },
    };
    let since = hello.since.filter(|since| user_from.is_some() && *since <= lsn);
    let all = reads.rooms_of(user, None)?;
    let members = all.iter().map(|room| room.room).collect();
    let mut rooms = if since.is_some() { reads.rooms_of(user, since)? } else { all };
    fit(&mut rooms);
    let share = (GREETING_BYTES / hello.rooms.len().max(1)).min(SNAPSHOT_BYTES);
    let plans = hello.rooms.iter().map(|ask| open(reads, presence, user, ask, share)).collect::<Result<_, _>>()?;
    let rooms_complete = since.is_none();
    Ok(Some(Greeting { you, epoch, lsn, user: head, user_from, rooms, rooms_complete, members, plans }))
}

/// Leaves titles out where a list with them would be larger than a message may be.
fn fit(rooms: &mut [RoomSummary]) {
    let titles: usize = rooms.iter().map(|room| room.title.len()).sum();
    if titles > OUTBOUND_MESSAGE_BYTES / 4 {
        rooms.iter_mut().for_each(|room| room.title.clear());
    }
}

/// Judges what became of a client's place in a room. A snapshot takes `most` bytes, or holds one post.
pub(super) fn open(
    reads: &dyn Reads,
    presence: &Presence,
    user: UserId,
    ask: &OpenRoom,
    most: usize,
) -> Result<Plan, StorageError> {
    let room = ask.room;
    let (head, membership) = (reads.head(room)?, reads.member(room, user)?);
    let (Some(head), Some(membership)) = (head, membership) else {
        let error = refusal(reads, user, room)?;
        let opened = Opened { room, outcome: OpenOutcome::Refused { error }, roster: Vec::new(), members: 0 };
        return Ok(Plan { opened, roster: None, from: None, head: Seq(0) });
    };
    let (outcome, from) = match ask.cursor {
        None => fresh(snapshot(reads, room, &head, most)?),
        Some(cursor) => match judge_room(reads, ask, cursor, &head, membership.from_seq)? {
            Verdict::Recovered { missed } => (OpenOutcome::Recovered { head: head.position.seq, missed }, cursor.seq),
            Verdict::TooFar => jump(reads, room, cursor.seq, &head, most)?,
            Verdict::Reset(reason) => {
                alarm(reason, "room", room.to_string(), cursor, head.position.seq);
                let snapshot = snapshot(reads, room, &head, most)?;
                let from = snapshot.as_of.seq;
                (OpenOutcome::Reset { reason, snapshot }, from)
            }
        },
    };
    let members = reads.member_count(room)?;
    let (roster, written) = if members > PAGE_PEOPLE as u64 {
        (Vec::new(), Some(written_roster(reads, presence, room, user, head.position.seq)?))
    } else {
        (roster(reads, presence, room, user, members)?, None)
    };
    let opened = Opened { room, outcome, roster, members };
    Ok(Plan { opened, roster: written, from: Some(from), head: head.position.seq })
}

/// Writes a message about a room that was opened, with its roster in the place of the empty one.
pub(super) fn frame_with(message: &Message, roster: Option<&str>) -> Bytes {
    /// Quotes in anybody's text are escaped, so this stands where it is meant and nowhere else.
    const EMPTY: &str = r#""roster":[]"#;
    let mut json = message.to_json();
    if let (Some(roster), Some(place)) = (roster, json.rfind(EMPTY)) {
        json.replace_range(place + EMPTY.len() - 2..place + EMPTY.len(), roster);
    }
    frame::text(&json)
}

/// Says why somebody who is not a member may not follow a room.
pub(super) fn refusal(reads: &dyn Reads, user: UserId, room: RoomId) -> Result<WireError, StorageError> {
    Ok(match reads.room_summary(user, room)? {
        Some(_) => WireError::new(ErrorCode::NotMember, "You are not a member of this room. Join it first."),
        None => WireError::new(ErrorCode::NotFound, "There is no such room."),
    })
}

fn fresh(snapshot: Snapshot) -> (OpenOutcome, Seq) {
    let from = snapshot.as_of.seq;
    (OpenOutcome::Fresh { snapshot }, from)
}

fn jump(
    reads: &dyn Reads,
    room: RoomId,
    cursor: Seq,
    head: &RoomHead,
    most: usize,
) -> Result<(OpenOutcome, Seq), StorageError> {
    let snapshot = snapshot(reads, room, head, most)?;
    let mut posts = 0;
    if let Some(before) = cursor.0.checked_sub(1) {
        reads.events_after(room, Seq(before), 1, &mut |event| {
            posts = event.posts;
            false
        })?;
    }
    let from = snapshot.as_of.seq;
    Ok((OpenOutcome::Jumped { hole: snapshot.earlier().saturating_sub(posts), snapshot }, from))
}

fn snapshot(reads: &dyn Reads, room: RoomId, head: &RoomHead, most: usize) -> Result<Snapshot, StorageError> {
    let nothing = || Snapshot { as_of: head.position, total: head.posts, posts: Vec::new(), people: Vec::new() };
    Ok(reads.snapshot(room, PAGE_POSTS, most)?.unwrap_or_else(nothing))
}

enum Verdict {
    Recovered { missed: u64 },
    TooFar,
    Reset(ResetReason),
}

fn judge_room(
    reads: &dyn Reads,
    ask: &OpenRoom,
    cursor: Position,
    head: &RoomHead,
    member_from: Seq,
) -> Result<Verdict, StorageError> {
    let head_seq = head.position.seq;
    if let Some(reason) = judge_cursor(reads.epoch(), head_seq, cursor, reads.check_at(ask.room, cursor.seq)?) {
        return Ok(Verdict::Reset(reason));
    }
    if !ask.replay && cursor.seq > Seq(0) && cursor.seq < member_from {
        return Ok(Verdict::Reset(ResetReason::Rejoined));
    }
    let missed = head_seq.0 - cursor.seq.0;
    let replay = ask.replay && !is_planted(Bug::ReplayIgnored);
    Ok(if missed > JUMP_EVENTS && !replay { Verdict::TooFar } else { Verdict::Recovered { missed } })
}

/// Says why a cursor is worthless, if it is.
fn judge_cursor(
    epoch: Epoch,
    head: Seq,
    cursor: Position,
    check: Option<shared::cursor::Check>,
) -> Option<ResetReason> {
    if cursor.epoch != epoch {
        return Some(ResetReason::Epoch);
    }
    if cursor.seq > head {
        return Some(ResetReason::Ahead);
    }
    match check {
        _ if cursor.seq == Seq(0) => None,
        None => Some(ResetReason::Pruned),
        Some(check) if check != cursor.check && !is_planted(Bug::ForkAccepted) => Some(ResetReason::Forked),
        Some(_) if is_planted(Bug::ResetForNothing) => Some(ResetReason::Forked),
        Some(_) => None,
    }
}

/// A client that saw what this log does not hold proves that acknowledged history was lost.
fn alarm(reason: ResetReason, kind: &'static str, id: String, cursor: Position, head: Seq) {
    match reason {
        ResetReason::Ahead | ResetReason::Forked => tracing::error!(
            kind,
            id,
            cursor = cursor.seq.0,
            head = head.0,
            ?reason,
            "ALARM: a client holds history this log does not have; the database was restored from an older state or damaged"
        ),
        ResetReason::Epoch | ResetReason::Pruned | ResetReason::Rejoined => {
            tracing::info!(kind, id, cursor = cursor.seq.0, head = head.0, ?reason, "a cursor was reset");
        }
    }
}

/// Returns the roster of a large room as JSON. A crowd that comes at once has it read and written once.
fn written_roster(
    reads: &dyn Reads,
    presence: &Presence,
    room: RoomId,
    me: UserId,
    seq: Seq,
) -> Result<Arc<str>, StorageError> {
    let at = Moment { seq, told: presence.told() };
    if let Some(kept) = presence.rosters.find(room, at, me) {
        return Ok(kept);
    }
    let roster = roster(reads, presence, room, me, u64::MAX)?;
    let json = serde_json::to_string(&roster).map_err(|error| StorageError::failed(error.to_string()))?;
    let json = Arc::from(json);
    // Where it shows somebody as here because they ask, it is theirs alone.
    if presence.is_here(me) || !roster.iter().any(|member| member.id == me) {
        presence.rosters.keep(room, at, &roster, &json);
    }
    Ok(json)
}

/// Returns some of a room's members, those who are here first. `count` is how many there are in all.
///
/// Whoever asks is here, whether others have been told already or not.
fn roster(
    reads: &dyn Reads,
    presence: &Presence,
    room: RoomId,
    me: UserId,
    count: u64,
) -> Result<Vec<Member>, StorageError> {
    let mut roster: Vec<Member> = Vec::new();
    if count > PAGE_PEOPLE as u64 {
        let here = reads.members_among(room, &presence.in_room(room, PAGE_PEOPLE))?;
        roster.extend(here.into_iter().map(|person| Member { id: person.id, name: person.name, online: true }));
    }
    if roster.len() < PAGE_PEOPLE {
        let listed: HashSet<UserId> = roster.iter().map(|member| member.id).collect();
        let others = reads.members(room, None, PAGE_PEOPLE)?.into_iter().filter(|person| !listed.contains(&person.id));
        roster.extend(others.take(PAGE_PEOPLE - listed.len()).map(|person| Member {
            online: person.id == me || presence.is_here(person.id),
            id: person.id,
            name: person.name,
        }));
    }
    roster.sort_by(|one, other| other.online.cmp(&one.online).then_with(|| one.name.cmp(&other.name)));
    Ok(roster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::message::{Event, Message};

    #[test]
    fn a_roster_that_was_written_before_stands_where_it_belongs() {
        let member =
            |n: u8| Member { id: UserId::from_bytes([n; 16]), name: r#"A "roster":[] B"#.into(), online: true };
        let error = WireError::new(ErrorCode::NotFound, r#"no "roster":[] here"#);
        let opened = |roster| Opened {
            room: RoomId::from_bytes([1; 16]),
            outcome: OpenOutcome::Refused { error: error.clone() },
            roster,
            members: 300,
        };
        let roster = vec![member(2), member(3)];
        let written = serde_json::to_string(&roster).unwrap();
        let found = frame_with(&Message::event(Event::Opened(opened(Vec::new()))), Some(&written));
        let wanted = frame_with(&Message::event(Event::Opened(opened(roster))), None);
        assert_eq!(found, wanted);
    }
}
