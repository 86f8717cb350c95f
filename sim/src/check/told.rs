//! What else a device is told: answers, what came back with a connection, whether its storage takes anything.
//!
//! Must not live here: rooms and sends. Invariant: what is told once is judged when it is told; what stays on the screen is
//! judged at rest.

use shared::ids::ClientId;

use super::{Held, broken};
use crate::world::World;

/// What is answered as done was applied, and was so then.
pub(crate) fn done(world: &World, number: usize, key: ClientId) -> Held {
    let Some(link) = world.current_link(number) else { return broken("an answer without a connection") };
    if !world.truth.history(link.history).is_done(world.devices[number].user, key) {
        return broken(format!("device {number} was told that {key} is done, and it is not"));
    }
    Ok(())
}

/// Whoever comes back is told how many posts of others came, and how much of their own was stored. Where a room began anew
/// or jumped meanwhile, nobody can tell so well.
pub(crate) fn recovered(world: &World, number: usize, received: u64, sent: u64) -> Held {
    let device = &world.devices[number];
    let Some(link) = world.current_link(number) else { return broken("come back without a connection") };
    if sent != device.acked_since_loss {
        return broken(format!("device {number} was told that {sent} were sent, of {}", device.acked_since_loss));
    }
    let history = world.truth.history(link.history);
    let mut came = 0;
    for (room, from) in &device.at_loss {
        let Some(shown) = device.rooms.get(room).filter(|shown| shown.is_open) else { continue };
        let (Some(from), Some(given)) = (from, shown.given) else { return Ok(()) };
        let (all, own) = history.posts_between(*room, *from, given, device.user);
        came += all - own;
    }
    if received != came {
        return broken(format!("device {number} was told that {received} posts of others came, and {came} did"));
    }
    Ok(())
}

/// The person is told what their device said last: that it takes what is unsent, or does not.
pub(crate) fn storage(world: &World, number: usize, took: bool) -> Held {
    let told = world.devices[number].storage_told;
    if told != took {
        return broken(format!("device {number} takes what is kept: {took}, and its person is told: {told}"));
    }
    Ok(())
}
