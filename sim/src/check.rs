//! What must be true, at every moment and at rest.
//!
//! Must not live here: anything that changes the world. Invariant: what is checked is known apart from what is checked:
//! from the truth, from links and from what the person was told, never from the product's own account of itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use server::log::GENERAL;
use shared::close;
use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, RoomId, Seq};
use shared::limits::JUMP_EVENTS;
use shared::message::Ack;
use shared::model::{OpenOutcome, Opened, Post, RoomChange, RoomEvent};
use shared::session::{ConnectionState, Happened, SendOp};
use shared::timeline::{PostRow, Row, Status, Timeline};

use crate::world::device::{Device, Kind};
use crate::world::host::ASIDE;
use crate::world::{Violation, World};

type Held = Result<(), Violation>;

fn broken<T>(words: impl Into<String>) -> Result<T, Violation> {
    Err(Violation(words.into()))
}

/// Most that may wait for one peer: what stops reading, a burst, and two answers as large as they are on these days. What
/// the protocol would allow an answer is so much more that a queue without a bound would not come near it here.
const QUEUED_BYTES: usize = 2 * 64 * 1024 + 2 * 16 * 1024;
/// A visible page notices silence within this, a hidden one within the others, in milliseconds: heartbeat, answer, and
/// how late timers are; a minute each for the beat, its answer and the second chance where they are throttled.
const SILENCE_MS: u64 = 15_500;
const SILENCE_HIDDEN_MS: u64 = 40_000;
const SILENCE_THROTTLED_MS: u64 = 220_000;
/// Whoever is live and undisturbed for this long has been given what was stored before it, in milliseconds.
const DELIVERY_MS: u64 = 7_000;
/// After a disturbance it takes this long until that is asked, in milliseconds.
const CALM_MS: u64 = 10_000;
/// Waits in a row that may be the longest there is: one in hundreds is.
const LONGEST_WAITS: u32 = 3;
/// Rows that are looked at whenever one of them may have changed.
const NEWEST_ROWS: usize = 12;
/// Attempts to connect within a minute, and more for each time it was live or had a reason to try at once.
const ATTEMPTS: usize = 8;
const ATTEMPTS_PER_NUDGE: usize = 4;

/// The bound of what waits for a peer.
pub(crate) fn queue(bytes: usize) -> Held {
    if bytes > QUEUED_BYTES {
        return broken(format!("{bytes} bytes wait for one peer"));
    }
    Ok(())
}

/// An event given to a device is the one that is stored there, and its person may see it. Returns in which history.
pub(crate) fn event(world: &World, number: usize, event: &RoomEvent) -> Result<usize, Violation> {
    let device = &world.devices[number];
    let Some(link) = world.current_link(number) else { return broken("an event without a connection") };
    let history = world.truth.history(link.history);
    match history.event(event.room, event.seq) {
        Some(stored) if **stored == *event || is_erased(stored, event) => {}
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
/// another or they were away; a program never jumps. Returns in which history the room was opened.
pub(crate) fn opened(world: &World, number: usize, opened: &Opened) -> Result<usize, Violation> {
    let device = &world.devices[number];
    let Some(link) = world.current_link(number) else { return broken("a room was opened without a connection") };
    let (room, history) = (opened.room, world.truth.history(link.history));
    if device.kind == Kind::Program && matches!(opened.outcome, OpenOutcome::Jumped { .. }) {
        return broken(format!("device {number} asked for every event and was made to jump"));
    }
    let Some((given, of)) = device.stands_at(room) else { return Ok(link.history) };
    let has_cause = of != link.history || history.has_left_after(room, device.user, given);
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

/// Returns which post an event holds a text of.
fn post_of_text(event: &RoomEvent) -> Option<Seq> {
    match &event.change {
        RoomChange::Posted(posted) => posted.body.is_some().then_some(event.seq),
        RoomChange::Edited(edited) => edited.body.is_some().then_some(edited.post),
        _ => None,
    }
}

/// Tells whether an event is the stored one without its text, which a deletion has erased since.
fn is_erased(stored: &RoomEvent, given: &RoomEvent) -> bool {
    let mut stored = stored.clone();
    match (&mut stored.change, &given.change) {
        (RoomChange::Posted(stored), RoomChange::Posted(given)) if given.body.is_none() => stored.body = None,
        (RoomChange::Edited(stored), RoomChange::Edited(given)) if given.body.is_none() => stored.body = None,
        _ => return false,
    }
    stored == *given
}

/// What is acknowledged is stored, there.
pub(crate) fn acked(world: &World, number: usize, ack: &Ack) -> Held {
    let device = &world.devices[number];
    let Some(link) = world.current_link(number) else { return broken("an acknowledgement without a connection") };
    let history = world.truth.history(link.history);
    let Some(event) = history.event(ack.room, ack.seq) else {
        return broken(format!(
            "device {number}: {} was acknowledged at seq {}, which is not stored",
            ack.client_id, ack.seq
        ));
    };
    let Some((user, op)) = world.send_of(ack.client_id) else { return Ok(()) };
    let is_there = match (op, history.place(device.user, ack.client_id)) {
        (_, Some(place)) => place == (ack.room, ack.seq) && is_what_was_sent(&event.change, op),
        // It was so already: what is told is the last change of the post.
        (SendOp::React { post, .. }, None) => event.seq == post.seq || changed_post(&event.change) == Some(post.seq),
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
    Ok(())
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

/// Returns the key of the post an event made.
fn posted_key(event: Option<&Arc<RoomEvent>>) -> Option<ClientId> {
    match &event?.change {
        RoomChange::Posted(posted) => Some(posted.client_id),
        _ => None,
    }
}

/// Returns which post a change alters.
fn changed_post(change: &RoomChange) -> Option<Seq> {
    match change {
        RoomChange::Edited(edited) => Some(edited.post),
        RoomChange::Deleted(deleted) => Some(deleted.post),
        RoomChange::Reacted(reacted) => Some(reacted.post),
        _ => None,
    }
}

/// A link that is well is neither given up by its device nor closed on it.
pub(crate) fn given_up(world: &World, number: usize, link: u64, how: &str) -> Held {
    if world.well_for(number, link) > CALM_MS {
        return broken(format!("device {number} {how} a link that is well"));
    }
    Ok(())
}

/// A refusal for good is for what was said, never because something else had been said under its key.
pub(crate) fn refused(number: usize, key: ClientId, error: &WireError) -> Held {
    if error.code == ErrorCode::IdConflict {
        return broken(format!("device {number}: what stands behind {key} was changed"));
    }
    Ok(())
}

/// Who sends as fast as the server lets them is slowed down, and never thrown out for it.
pub(crate) fn closed(number: usize, code: u16) -> Held {
    if code == close::FLOOD {
        return broken(format!("device {number} was closed for a flood"));
    }
    Ok(())
}

/// A link that carries everything in time is not given up for silence.
pub(crate) fn diagnostic(world: &World, number: usize, what: &Happened) -> Held {
    if world.devices[number].longest_waits > LONGEST_WAITS {
        return broken(format!("device {number} waited the longest time there is again and again: nothing is drawn"));
    }
    if matches!(what, Happened::HeartbeatMissed) && world.calm_for(number) > CALM_MS + SILENCE_MS {
        return broken(format!("device {number} missed a heartbeat on a link that is well"));
    }
    Ok(())
}

/// The state that is shown is true. Called after everything that happens.
pub(crate) fn states(world: &World) -> Held {
    for device in &world.devices {
        if device.is_closed() {
            continue;
        }
        storm(device)?;
        if device.is_live() {
            live(world, device)?;
        }
    }
    Ok(())
}

fn storm(device: &Device) -> Held {
    if device.attempts.len() > ATTEMPTS + ATTEMPTS_PER_NUDGE * device.nudges.len() {
        return broken(format!(
            "device {} tried {} times within a minute, with {} reasons to",
            device.number,
            device.attempts.len(),
            device.nudges.len()
        ));
    }
    Ok(())
}

fn live(world: &World, device: &Device) -> Held {
    let number = device.number;
    let Some(link) = world.current_link(number) else {
        return broken(format!("device {number} shows that it is live and has no connection"));
    };
    if !link.welcomed || !link.live || link.gone {
        return broken(format!("device {number} shows that it is live and was not told so on this connection"));
    }
    if !device.is_awake() {
        return Ok(());
    }
    let silent = world.now - link.heard_at.max(world.disturbed_at[number]);
    let limit = match device.hidden_for(world.now) {
        None => SILENCE_MS,
        Some(ms) if ms < 300_000 => SILENCE_HIDDEN_MS,
        Some(_) => SILENCE_THROTTLED_MS,
    };
    if silent > limit {
        return broken(format!("device {number} shows that it is live after {silent} ms of silence"));
    }
    for (room, shown) in device.rooms.iter().filter(|(_, shown)| shown.is_open) {
        let given = shown.given.unwrap_or(Seq(0));
        if given < shown.goal {
            return broken(format!(
                "device {number} shows that it is live at {given}, and {} was promised",
                shown.goal
            ));
        }
        if world.calm_for(number) > CALM_MS {
            let stored = world.head_at(*room, world.now - DELIVERY_MS);
            if given < stored && device.joined.contains(room) {
                return broken(format!(
                    "device {number} is live and calm at {given} of {room}, and {stored} was stored {DELIVERY_MS} ms ago"
                ));
            }
        }
    }
    Ok(())
}

/// Tells whether all is said and done.
pub(crate) fn is_at_rest(world: &World) -> bool {
    world.devices.iter().filter(|device| device.life > 0).all(|device| {
        device.is_settled()
            && world.is_served(device.number)
            && device.session.state() == ConnectionState::Live
            && device.session.outbox().all(|item| item.refused.is_some())
            && device.rooms.iter().all(|(room, shown)| {
                !shown.is_open
                    || (shown.asked.is_none()
                        && shown.given == Some(world.truth.now().head(*room))
                        && shown.needed(world.looks_at).is_none())
            })
    })
}

/// At rest everything is stored once, and shown to everybody the same, as far back as people look.
pub(crate) fn at_rest(world: &World) -> Held {
    for device in world.devices.iter().filter(|device| device.life > 0) {
        // A program begins where it was, and has given everything before away.
        let is_shown = device.kind != Kind::Program;
        for (room, shown) in device.rooms.iter().filter(|(_, shown)| shown.is_open && is_shown) {
            shows(world, device, *room, &shown.timeline)?;
        }
        if !device.rooms.get(&GENERAL).is_some_and(|shown| shown.is_open) {
            return broken(format!("device {} does not follow the room everybody is in", device.number));
        }
    }
    let parked: BTreeSet<ClientId> =
        world.devices.iter().flat_map(|device| device.session.outbox().map(|item| item.client_id)).collect();
    for device in &world.devices {
        for ((life, room), keys) in &device.written {
            let mut last = Seq(0);
            for key in keys {
                let stored = world.truth.now().place(device.user, *key);
                // A reaction that changes nothing is acknowledged and leaves nothing.
                let leaves_something = !matches!(device.sends.get(key), Some(SendOp::React { .. }));
                let told = device.acked.contains_key(key) || world.is_acked_by_anybody(*key);
                let gone = world.is_discarded_by_anybody(*key) || parked.contains(key) || told;
                let came_back = world.truth.came_back(device.user, *key);
                match stored {
                    Some(_) if told && came_back => {}
                    Some((at, seq)) => {
                        if at != *room || seq <= last {
                            return broken(format!("{key} of device {} in life {life} is out of order", device.number));
                        }
                        last = seq;
                    }
                    None if told && leaves_something && !world.truth.was_lost(device.user, *key) => {
                        return broken(format!("{key} of device {} was acknowledged and is not stored", device.number));
                    }
                    None if device.saved.contains(key) && !gone => {
                        return broken(format!("{key} of device {} was saved, and is lost", device.number));
                    }
                    None => {}
                }
                if let (Some(acked), Some((_, seq))) = (device.acked.get(key), stored)
                    && *acked != seq
                    && !came_back
                {
                    return broken(format!("{key} was acknowledged at {acked} and is stored at {seq}"));
                }
            }
        }
    }
    Ok(())
}

/// A timeline shows every post of a room once, in order, as it stands, and nothing else, where people look.
fn shows(world: &World, device: &Device, room: RoomId, timeline: &Timeline) -> Held {
    let words = |error| Violation(format!("the replica cannot be read: {error}"));
    let first = timeline.len().saturating_sub(world.looks_at);
    let rows: Vec<_> = (first..timeline.len()).filter_map(|index| timeline.row(index)).collect();
    let shown: Vec<_> = rows.iter().filter_map(Row::as_post).filter(|row| row.seq.is_some()).collect();
    let newest = if first == 0 { usize::MAX } else { shown.len() };
    let posts = world.truth.replica.reads().snapshot(room, newest, usize::MAX).map_err(words)?;
    let posts = posts.map(|snapshot| snapshot.posts).unwrap_or_default();
    if shown.len() != posts.len() {
        return broken(format!("device {} shows {} of {} posts of {room}", device.number, shown.len(), posts.len()));
    }
    for (row, post) in shown.iter().zip(&posts) {
        if !is_shown_as(row, post) {
            return broken(format!("device {} shows {row:?}, stored is {post:?}", device.number));
        }
    }
    // What is still said to be on its way is what was refused for good.
    let is_parked = |key| device.session.outbox().any(|item| item.client_id == key && item.refused.is_some());
    for row in rows.iter().filter_map(Row::as_post) {
        if row.seq.is_none() && !is_parked(row.client_id) {
            return broken(format!("device {} shows beside what is stored what is nowhere: {row:?}", device.number));
        }
        if let Some(pending) = row.pending.iter().find(|pending| !is_parked(pending.client_id)) {
            return broken(format!("device {} shows a change as on its way that is not: {pending:?}", device.number));
        }
    }
    Ok(())
}

fn is_shown_as(row: &PostRow, post: &Post) -> bool {
    row.seq == Some(post.seq)
        && row.ordinal == Some(post.ordinal)
        && row.rev == post.rev
        && row.by == post.by
        && row.client_id == post.client_id
        && row.body.as_deref() == post.body.as_deref()
        && row.edited == post.edited
        && row.reactions == post.reactions
        && row.status == Status::Sent
}
