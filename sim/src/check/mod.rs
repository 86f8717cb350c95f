//! What must be true, at every moment and at rest.
//!
//! Lives here: connections, and the state that is shown of them. What a device is given of rooms is in [`rooms`], what
//! becomes of what it sends in [`sends`], what else it is told in [`told`], the quiet end in [`rest`]. Must not live here:
//! anything that changes the world. Invariant: what is checked is known apart from what is checked:
//! from the truth, from links and from what the person was told, never from the product's own account of itself.

mod rest;
mod rooms;
mod sends;
mod told;

use shared::close;
use shared::ids::Seq;
use shared::session::Happened;

pub(crate) use self::rest::{at_rest, awaited, is_at_rest};
pub(crate) use self::rooms::{event, newest_rows, opened, page};
pub(crate) use self::sends::{acked, discarded, outbox_full, refused};
pub(crate) use self::told::{done, recovered, storage};
use crate::world::device::Device;
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
/// Attempts to connect within a minute, and more for each connection that lasted or reason to try at once.
const ATTEMPTS: usize = 8;
const ATTEMPTS_PER_NUDGE: usize = 4;
/// Whoever is not disturbed for this long loses at most one connection in as long, in milliseconds.
const FLAPS_MS: u64 = 60_000;

/// The bound of what waits for a peer.
pub(crate) fn queue(bytes: usize) -> Held {
    if bytes > QUEUED_BYTES {
        return broken(format!("{bytes} bytes wait for one peer"));
    }
    Ok(())
}

/// A link that is well is neither given up by its device nor closed on it.
pub(crate) fn given_up(world: &World, number: usize, link: u64, how: &str) -> Held {
    if world.well_for(number, link) > CALM_MS {
        return broken(format!("device {number} {how} a link that is well"));
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

/// Connections do not come and go where nothing disturbs them.
pub(crate) fn lost(world: &World, number: usize) -> Held {
    let (device, now) = (&world.devices[number], world.now);
    let lately = device.losses.iter().filter(|at| **at + FLAPS_MS > now).count();
    if lately > 1 && world.fair_for(number) > FLAPS_MS {
        return broken(format!("device {number} lost {lately} connections within a minute in which nothing was wrong"));
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
