//! What a device sends: what became of it, by what it was told.
//!
//! Must not live here: what it is given (`rooms`). Invariant: an acknowledgement and a refusal are judged by the log, when
//! they are told.

use server::log::GENERAL;
use shared::error::{ErrorCode, WireError};
use shared::ids::ClientId;
use shared::limits::OUTBOX_ITEMS;
use shared::message::Ack;
use shared::model::{Reaction, RoomChange};
use shared::session::SendOp;

use super::rooms::posted_key;
use super::{Held, broken};
use crate::truth::{History, changed_post};
use crate::world::host::ASIDE;
use crate::world::{Violation, World};

/// What is acknowledged is stored, there. Returns in which history.
pub(crate) fn acked(world: &World, number: usize, ack: &Ack) -> Result<usize, Violation> {
    let device = &world.devices[number];
    let Some(link) = world.current_link(number) else { return broken("an acknowledgement without a connection") };
    let history = world.truth.history(link.history);
    let Some(event) = history.event(ack.room, ack.seq) else {
        return broken(format!(
            "device {number}: {} was acknowledged at seq {}, which is not stored",
            ack.client_id, ack.seq
        ));
    };
    let Some((user, op)) = world.send_of(ack.client_id) else {
        if world.forgets && world.written(ack.client_id).is_none() {
            return Ok(link.history);
        }
        return broken(format!("device {number}: {} was acknowledged, and no server takes it", ack.client_id));
    };
    let is_there = match (op, history.place(device.user, ack.client_id)) {
        (_, Some(place)) => place == (ack.room, ack.seq) && is_what_was_sent(&event.change, op),
        // It was so already: what is told is the last change of the post.
        (SendOp::React { post, emoji, on }, None) => {
            (event.seq == post.seq || changed_post(&event.change) == Some(post.seq))
                && history.post_at(ack.room, post.seq, ack.seq).is_some_and(|post| {
                    let by_them = |reaction: &Reaction| reaction.emoji == *emoji && reaction.by.contains(&device.user);
                    post.reactions.iter().any(by_them) == *on
                })
        }
        (SendOp::Post { .. } | SendOp::Edit { .. } | SendOp::Delete { .. }, None) => false,
    };
    if let SendOp::Edit { post, .. } | SendOp::Delete { post } | SendOp::React { post, .. } = op
        && let Some(meant) = post.client_id
        && posted_key(history.event(ack.room, post.seq)) != Some(meant)
    {
        return broken(format!(
            "device {number}: {} was meant for another post than that at {}",
            ack.client_id, post.seq
        ));
    }
    if user != device.user || !is_there {
        return broken(format!(
            "device {number}: {} was acknowledged at seq {} and is not there: {op:?}, {event:?}",
            ack.client_id, ack.seq
        ));
    }
    Ok(link.history)
}

/// Tells whether a change is what somebody sent. A text may have been erased since.
fn is_what_was_sent(change: &RoomChange, op: &SendOp) -> bool {
    let is_text = |stored: &Option<String>, sent: &String| stored.as_ref().is_none_or(|stored| stored == sent);
    match (change, op) {
        (RoomChange::Posted(posted), SendOp::Post { body }) => is_text(&posted.body, body),
        (RoomChange::Edited(edited), SendOp::Edit { post, body }) => {
            edited.post == post.seq && is_text(&edited.body, body)
        }
        (RoomChange::Deleted(deleted), SendOp::Delete { post }) => deleted.post == post.seq,
        (RoomChange::Reacted(reacted), SendOp::React { post, emoji, on }) => {
            reacted.post == post.seq && reacted.emoji == *emoji && reacted.on == *on
        }
        _ => false,
    }
}

/// Nothing is taken back or forgotten that the person did not discard.
pub(crate) fn discarded(world: &World, number: usize, key: ClientId) -> Held {
    if !world.devices[number].discarded.contains(&key) {
        return broken(format!("device {number}: {key} was discarded, and nobody wished it"));
    }
    Ok(())
}

/// An outbox takes as many as it says.
pub(crate) fn outbox_full(world: &World, number: usize) -> Held {
    let held = world.devices[number].session.outbox().count();
    if held < OUTBOX_ITEMS {
        return broken(format!("device {number} says that its outbox is full, with {held}"));
    }
    Ok(())
}

/// A refusal for good has a cause in the world: what no server takes, a room whose member the person was not, or a change to
/// a post that was deleted, or whose place another took.
pub(crate) fn refused(world: &World, number: usize, key: ClientId, error: &WireError) -> Held {
    let Some((device, op)) = world.written(key) else {
        if world.forgets {
            return Ok(());
        }
        return broken(format!("device {number} was told of a refusal of {key}, which nobody wrote"));
    };
    let Some((of, aside)) = device.written_at.get(&key).copied() else { return Ok(()) };
    let room = device.written.iter().find(|(_, keys)| keys.contains(&key)).map_or(GENERAL, |((_, room), _)| *room);
    let mut since = (of..=world.truth.newest()).map(|later| (later, world.truth.history(later)));
    let was_out = |(later, history): (usize, &History)| {
        let began = if later == of { aside } else { history.inherited(ASIDE) };
        history.was_out_since(ASIDE, device.user, began)
    };
    let has_cause = match (&error.code, op) {
        (ErrorCode::PostEmpty, None) => true,
        (ErrorCode::NotMember, Some(_)) => room == ASIDE && since.any(was_out),
        (
            ErrorCode::NotFound,
            Some(SendOp::Edit { post, .. } | SendOp::Delete { post } | SendOp::React { post, .. }),
        ) => since.any(|(_, history)| {
            history.deleted_at(room, post.seq).is_some() || posted_key(history.event(room, post.seq)) != post.client_id
        }),
        _ => false,
    };
    if has_cause {
        return Ok(());
    }
    broken(format!("device {number}: {key} was refused for good without a cause: {error:?}, {op:?}"))
}
