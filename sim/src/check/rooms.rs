//! What a device is given of a room: its events, what it is opened with, pages of older posts, and the newest rows.
//!
//! Must not live here: what it sends (`sends`), or what must be so in the end (`rest`). Invariant: whatever a device is
//! given is what is stored in the history of the log that its connection was taken in.

use std::sync::Arc;

use shared::ids::{ClientId, RoomId, Seq};
use shared::limits::JUMP_EVENTS;
use shared::model::{HistoryPage, OpenOutcome, Opened, Post, RoomChange, RoomEvent};
use shared::timeline::PostRow;

use super::{Held, broken};
use crate::truth::History;
use crate::world::device::{Device, Kind};
use crate::world::host::ASIDE;
use crate::world::{Violation, World};

/// Rows that are looked at whenever one of them may have changed.
const NEWEST_ROWS: usize = 12;

/// An event given to a device is the one that is stored there, and its person may see it. Returns in which history.
pub(crate) fn event(world: &World, number: usize, event: &RoomEvent) -> Result<usize, Violation> {
    let device = &world.devices[number];
    let Some(link) = world.current_link(number) else { return broken("an event without a connection") };
    let history = world.truth.history(link.history);
    match history.event(event.room, event.seq) {
        Some(stored) if **stored == *event || is_erased(history, stored, event) => {}
        Some(stored) => return broken(format!("device {number} was given {event:?}, stored is {stored:?}")),
        None => return broken(format!("device {number} was given what is not stored: {event:?}")),
    }
    if event.room == ASIDE && history.left_at(ASIDE, device.user).is_some_and(|left| event.seq > left) {
        return broken(format!("device {number} was given seq {} of a room its person had left", event.seq));
    }
    // Where the room was opened after the deletion; what was on its way before may still come.
    let opened_at = device.rooms.get(&event.room).filter(|shown| shown.history == link.history).map(|shown| shown.goal);
    let deleted = post_of_text(event).and_then(|post| history.deleted_at(event.room, post));
    if deleted.is_some_and(|deleted| opened_at >= Some(deleted)) {
        return broken(format!("device {number} was given a text that had been deleted: {event:?}"));
    }
    Ok(link.history)
}

/// Who stood somewhere goes on from there, is told of a hole as large as it is, or begins anew because the history is
/// another or they were away; a program never jumps. Only members are let in, and what they are shown is what was there.
/// Returns in which history the room was opened.
pub(crate) fn opened(world: &World, number: usize, opened: &Opened) -> Result<usize, Violation> {
    let device = &world.devices[number];
    let Some(link) = world.current_link(number) else { return broken("a room was opened without a connection") };
    let (room, history) = (opened.room, world.truth.history(link.history));
    if device.kind == Kind::Program && matches!(opened.outcome, OpenOutcome::Jumped { .. }) {
        return broken(format!("device {number} asked for every event and was made to jump"));
    }
    let (as_of, snapshot) = match &opened.outcome {
        OpenOutcome::Recovered { head, .. } => (*head, None),
        OpenOutcome::Fresh { snapshot }
        | OpenOutcome::Jumped { snapshot, .. }
        | OpenOutcome::Reset { snapshot, .. } => (snapshot.as_of.seq, Some(snapshot)),
        OpenOutcome::Refused { .. } => return Ok(link.history),
    };
    may_see(history, device, room, as_of)?;
    if let Some(snapshot) = snapshot {
        let total = history.posts_up_to(room, as_of);
        if snapshot.total != total {
            return broken(format!("device {number} was told of {} posts of {room}, of {total}", snapshot.total));
        }
        posts_are(history, device, room, as_of, as_of.next(), &snapshot.posts)?;
    }
    let Some((given, of)) = device.stands_at(room) else { return Ok(link.history) };
    let has_cause =
        has_lost(world, device, room, given, of, link.history) || history.has_left_after(room, device.user, given);
    match &opened.outcome {
        OpenOutcome::Fresh { .. } | OpenOutcome::Reset { .. } if !has_cause => {
            broken(format!("device {number} stood at {given} of {room} and begins anew without a cause"))
        }
        OpenOutcome::Jumped { snapshot, .. } if snapshot.as_of.seq.0 <= given.0 + JUMP_EVENTS => {
            broken(format!("device {number} jumps from {given} of {room} to {}, which is near", snapshot.as_of.seq))
        }
        OpenOutcome::Jumped { snapshot, hole } => {
            let missed = history.posts_up_to(room, snapshot.as_of.seq) - history.posts_up_to(room, given);
            let left_out = missed.saturating_sub(snapshot.posts.len() as u64);
            if *hole != left_out {
                return broken(format!("device {number} was told of a hole of {hole} posts, and it is {left_out}"));
            }
            Ok(link.history)
        }
        OpenOutcome::Fresh { .. }
        | OpenOutcome::Reset { .. }
        | OpenOutcome::Recovered { .. }
        | OpenOutcome::Refused { .. } => Ok(link.history),
    }
}

/// Tells whether a backup that was restored since had lost what a device was given of a room, or was told is stored.
fn has_lost(world: &World, device: &Device, room: RoomId, given: Seq, of: usize, now: usize) -> bool {
    let lost = |of: usize, seq: Seq| (of + 1..=now).any(|later| seq > world.truth.history(later).inherited(room));
    lost(of, given) || device.told_stored.iter().any(|((told_of, at), seq)| *at == room && lost(*told_of, *seq))
}

fn may_see(history: &History, device: &Device, room: RoomId, as_of: Seq) -> Held {
    if history.is_member_at(room, device.user, as_of) {
        return Ok(());
    }
    broken(format!("device {} was shown {as_of} of {room}, where its person was no member", device.number))
}

/// A page of older posts is what was there, for members only. Returns whether it is of the history that is shown.
pub(crate) fn page(world: &World, number: usize, before: Seq, page: &HistoryPage) -> Held {
    let device = &world.devices[number];
    let Some(link) = world.current_link(number) else { return broken("a page without a connection") };
    let (room, as_of, history) = (page.room, page.as_of.seq, world.truth.history(link.history));
    may_see(history, device, room, as_of)?;
    posts_are(history, device, room, as_of, before, &page.posts)?;
    let earlier = page.posts.first().map_or(0, |post| post.ordinal - 1);
    if page.earlier != earlier {
        return broken(format!("device {number} was told of {} earlier posts of {room}, of {earlier}", page.earlier));
    }
    Ok(())
}

/// Posts are the newest before a place, without a gap, and each as it stood at a moment.
fn posts_are(history: &History, device: &Device, room: RoomId, as_of: Seq, before: Seq, posts: &[Post]) -> Held {
    let number = device.number;
    if history.event(room, as_of).is_none() {
        return broken(format!("device {number} was shown {room} as of {as_of}, which is not stored"));
    }
    let mut ordinal = history.posts_up_to(room, as_of.min(Seq(before.0.saturating_sub(1))));
    if posts.is_empty() && ordinal > 0 {
        return broken(format!("device {number} was shown no posts of {room} before {before}, of {ordinal}"));
    }
    for post in posts.iter().rev() {
        let stored = history.post_at(room, post.seq, as_of);
        if post.ordinal != ordinal || stored.as_ref() != Some(post) {
            return broken(format!("device {number} was shown {post:?}, as of {as_of}; stored was {stored:?}"));
        }
        ordinal -= 1;
    }
    Ok(())
}

/// The newest rows of a room that is followed are each shown once, in order, and what has come with its event is stored there.
pub(crate) fn newest_rows(world: &World, number: usize, room: RoomId) -> Held {
    let Some(shown) = world.devices[number].rooms.get(&room).filter(|shown| shown.is_open) else { return Ok(()) };
    let (rows, history) = (shown.timeline.len(), world.truth.history(shown.history));
    let newest = (rows.saturating_sub(NEWEST_ROWS)..rows).filter_map(|index| shown.timeline.row(index));
    let mut keys = Vec::with_capacity(NEWEST_ROWS);
    let mut last = Seq(0);
    let elsewhere = world.current_link(number).is_none_or(|link| link.history != shown.history);
    for row in newest {
        if keys.contains(&row.key()) {
            return broken(format!("device {number} shows {} twice", row.key()));
        }
        keys.push(row.key());
        let Some(post) = row.as_post() else { continue };
        let Some(seq) = post.seq else { continue };
        // Acknowledged in another history, and the room is not answered yet: soon it is shown as it is there.
        if post.ordinal.is_none() && elsewhere {
            continue;
        }
        if seq <= last {
            return broken(format!("device {number} shows seq {seq} of {room} below {last}"));
        }
        last = seq;
        if post.ordinal.is_some() && history.event(room, seq).is_none_or(|event| !is_of(event, post)) {
            return broken(format!("device {number} shows at {seq} of {room} what is not stored there: {post:?}"));
        }
    }
    Ok(())
}

/// Tells whether a row is that of the post an event made.
fn is_of(event: &RoomEvent, row: &PostRow) -> bool {
    matches!(&event.change, RoomChange::Posted(posted) if posted.client_id == row.client_id) && event.by.id == row.by
}

/// Returns the key of the post an event made.
pub(super) fn posted_key(event: Option<&Arc<RoomEvent>>) -> Option<ClientId> {
    match &event?.change {
        RoomChange::Posted(posted) => Some(posted.client_id),
        _ => None,
    }
}

/// Returns which post an event holds a text of.
fn post_of_text(event: &RoomEvent) -> Option<Seq> {
    match &event.change {
        RoomChange::Posted(posted) => posted.body.is_some().then_some(event.seq),
        RoomChange::Edited(edited) => edited.body.is_some().then_some(edited.post),
        _ => None,
    }
}

/// Tells whether an event is the stored one without its text, which a deletion has erased since.
fn is_erased(history: &History, stored: &RoomEvent, given: &RoomEvent) -> bool {
    if post_of_text(stored).is_none_or(|post| history.deleted_at(stored.room, post).is_none()) {
        return false;
    }
    let mut stored = stored.clone();
    match (&mut stored.change, &given.change) {
        (RoomChange::Posted(stored), RoomChange::Posted(given)) if given.body.is_none() => stored.body = None,
        (RoomChange::Edited(stored), RoomChange::Edited(given)) if given.body.is_none() => stored.body = None,
        _ => return false,
    }
    stored == *given
}
