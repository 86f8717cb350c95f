//! What must be so once all is said and done.
//!
//! Must not live here: what must be so before. Invariant: what is awaited is named, so that a world that does not come to
//! rest says for what.

use std::collections::BTreeSet;

use server::log::GENERAL;
use shared::ids::{ClientId, RoomId, Seq};
use shared::model::Post;
use shared::session::{ConnectionState, SendOp};
use shared::timeline::{PostRow, Row, Status, Timeline};

use super::{Held, broken};
use crate::world::device::{Device, Kind};
use crate::world::host::ASIDE;
use crate::world::{Violation, World};

/// Tells whether all is said and done.
pub(crate) fn is_at_rest(world: &World) -> bool {
    awaited(world).is_none()
}

/// Says what is still to come, if anything is.
pub(crate) fn awaited(world: &World) -> Option<String> {
    let devices = || world.devices.iter().filter(|device| device.life > 0);
    // What is cheap to ask first: this is asked after everything that happens.
    devices().find_map(|device| connection(world, device)).or_else(|| devices().find_map(|device| rooms(world, device)))
}

/// Says what a device's connection and its outbox still wait for.
fn connection(world: &World, device: &Device) -> Option<String> {
    let is_live = device.session.state() == ConnectionState::Live;
    if !device.is_settled() || !world.is_served(device.number) || !is_live {
        return Some(format!("device {} is {:?}", device.number, device.session.state()));
    }
    let unsent = device.session.outbox().filter(|item| item.refused.is_none()).count();
    (unsent > 0).then(|| format!("device {} has {unsent} unsent", device.number))
}

/// Says which room a device does not follow as it should, or of what it does not show what is so.
fn rooms(world: &World, device: &Device) -> Option<String> {
    let number = device.number;
    for room in [GENERAL, ASIDE] {
        let summary = world.truth.replica.reads().room_summary(device.user, room).ok().flatten()?;
        let shown = device.rooms.get(&room).filter(|shown| shown.is_open);
        if summary.joined != device.joined.contains(&room) {
            return Some(format!("device {number} does not know whether its person is a member of {room}"));
        }
        if shown.is_some() != (summary.joined && device.wants(room)) {
            return Some(format!(
                "device {number} follows {room}: {}, and should: {}",
                shown.is_some(),
                summary.joined
            ));
        }
        if let Some(shown) = shown
            && (shown.asked.is_some() || shown.given != Some(summary.head) || shown.needed(world.looks_at).is_some())
        {
            let (given, head, asked) = (shown.given, summary.head, shown.asked);
            return Some(format!("device {number} is at {given:?} of {room}, which is at {head}, and asks {asked:?}"));
        }
        // Whoever goes on in a history that is another is not told of rooms that the backup had set back.
        if device.counts_of != world.truth.newest() {
            continue;
        }
        if summary.joined && shown.is_none() && device.posts.get(&room) != Some(&summary.posts) {
            let told = device.posts.get(&room);
            return Some(format!("device {number} counts {told:?} posts of {room}, which has {}", summary.posts));
        }
        let told = device.read.get(&room);
        // What was read stays read on the page although a backup does not know it.
        let is_set_back = world.truth.newest() > 0;
        if summary.joined && told != Some(&summary.read) && !(is_set_back && told > Some(&summary.read)) {
            return Some(format!("device {number} counts {told:?} read of {room}, and {} are", summary.read));
        }
    }
    None
}

/// At rest everything is stored once, and shown to everybody the same, as far back as people look.
pub(crate) fn at_rest(world: &World) -> Held {
    for device in world.devices.iter().filter(|device| device.life > 0) {
        // A program begins where it was, and has given everything before away.
        let is_shown = device.kind != Kind::Program;
        for (room, shown) in device.rooms.iter().filter(|(_, shown)| shown.is_open && is_shown) {
            shows(world, device, *room, &shown.timeline)?;
        }
        let kept: BTreeSet<ClientId> = device.session.outbox().map(|item| item.client_id).collect();
        if device.queued != kept {
            return broken(format!(
                "device {} was told that {:?} is queued, and {kept:?} is",
                device.number, device.queued
            ));
        }
    }
    let parked: BTreeSet<ClientId> =
        world.devices.iter().flat_map(|device| device.session.outbox().map(|item| item.client_id)).collect();
    for device in &world.devices {
        for key in &device.poison {
            if let Some(place) = world.truth.now().place(device.user, *key) {
                return broken(format!(
                    "{key} of device {} is what no server takes, and is at {place:?}",
                    device.number
                ));
            }
        }
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
    let reads = world.truth.replica.reads();
    let posts = reads.snapshot(room, newest, usize::MAX).map_err(words)?;
    let posts = posts.map(|snapshot| snapshot.posts).unwrap_or_default();
    if shown.len() != posts.len() {
        return broken(format!("device {} shows {} of {} posts of {room}", device.number, shown.len(), posts.len()));
    }
    let mut named = BTreeSet::new();
    for (row, post) in shown.iter().zip(&posts) {
        if !is_shown_as(row, post) {
            return broken(format!("device {} shows {row:?}, stored is {post:?}", device.number));
        }
        // Whoever has left may have taken another name since, which nobody here is told of.
        if named.insert(post.by) && reads.member(room, post.by).map_err(words)?.is_some() {
            let name = reads.user(post.by).map_err(words)?.map(|person| person.name);
            if timeline.name_of(post.by) != name.as_deref() {
                let told = timeline.name_of(post.by);
                return broken(format!("device {} calls {} {told:?}, who is {name:?}", device.number, post.by));
            }
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
