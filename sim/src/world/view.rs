//! What checks ask of the world: how a device's link is, what was stored when, what anybody was told.
//!
//! Must not live here: what must be true of it ([`crate::check`]). Invariant: asking changes nothing.

use shared::ids::{ClientId, RoomId, Seq, UserId};
use shared::session::SendOp;

use super::World;
use super::device::Device;
use super::host::Phase;
use super::wire::{DeviceEnd, Weather};

/// What checks need to know of a link.
pub(crate) struct LinkView {
    pub(crate) history: usize,
    pub(crate) welcomed: bool,
    pub(crate) live: bool,
    /// Since when, if the server that serves now said so.
    pub(crate) live_at: Option<u64>,
    pub(crate) heard_at: u64,
    pub(crate) gone: bool,
    pub(crate) still: bool,
}

impl World {
    /// Returns for how long nothing has been wrong for a device, in milliseconds; zero while something is.
    pub(crate) fn calm_for(&self, number: usize) -> u64 {
        let link = self.current_link(number);
        if link.is_some_and(|link| !link.still) && self.is_served(number) { self.fair_for(number) } else { 0 }
    }

    /// Returns for how long a link has carried everything while the device was told that it is live, in milliseconds; zero
    /// unless the device is on it, whatever the server thinks of it.
    pub(crate) fn well_for(&self, number: usize, link: u64) -> u64 {
        let device = &self.devices[number];
        let is_current = device.links.last_key_value().is_some_and(|(_, current)| *current == link);
        let live_at = self.current_link(number).filter(|link| is_current && !link.still).and_then(|link| link.live_at);
        live_at.map_or(0, |at| self.fair_for(number).min(self.now.saturating_sub(at)))
    }

    /// Returns for how long nothing has been wrong around a device, in milliseconds, whatever became of its connection; zero
    /// while something is.
    pub(crate) fn fair_for(&self, number: usize) -> u64 {
        let device = &self.devices[number];
        let is_fair = device.has_network
            && device.is_up()
            && self.now >= device.thin_until
            && self.now >= self.paused_until
            && self.host.phase == Phase::Serving;
        let last = self.disturbed_at[number].max(device.thin_until).max(self.paused_until);
        if is_fair { self.now.saturating_sub(last) } else { 0 }
    }

    /// Returns who wrote what under a key; nothing is known of what no server takes.
    pub(crate) fn written(&self, key: ClientId) -> Option<(&Device, Option<&SendOp>)> {
        let mut devices = self.devices.iter();
        devices.find_map(|device| match device.sends.get(&key) {
            Some(op) => Some((device, Some(op))),
            None => device.poison.contains(&key).then_some((device, None)),
        })
    }

    /// Returns what was sent under a key, and for whom, whichever device it was written on.
    pub(crate) fn send_of(&self, key: ClientId) -> Option<(UserId, &SendOp)> {
        self.devices.iter().find_map(|device| Some((device.user, device.sends.get(&key)?)))
    }

    /// Tells whether the server that runs now serves a device's current connection.
    pub(crate) fn is_served(&self, number: usize) -> bool {
        let link = self.devices[number].links.last_key_value().map(|(_, link)| *link);
        let running = self.host.running.as_ref();
        link.is_some_and(|link| running.is_some_and(|running| running.conns.contains_key(&link)))
    }

    /// Returns where a room stood at a moment of the last while.
    pub(crate) fn head_at(&self, room: RoomId, moment: u64) -> Seq {
        let before = self.heads.iter().rev().find(|(at, _)| *at <= moment);
        before.and_then(|(_, heads)| heads.get(&room)).copied().unwrap_or_default()
    }

    /// Tells whether any device was told that a send is stored: a sibling may have sent it.
    pub(crate) fn is_acked_by_anybody(&self, key: ClientId) -> bool {
        self.devices.iter().any(|device| device.acked.contains_key(&key))
    }

    /// Tells whether it was discarded on any device: a sibling may have taken it over.
    pub(crate) fn is_discarded_by_anybody(&self, key: ClientId) -> bool {
        self.devices.iter().any(|device| device.discarded.contains(&key))
    }

    /// Returns a number that depends on all that has happened.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut chance = self.chance.clone();
        chance.any() ^ self.counts.events.rotate_left(32) ^ self.now.rotate_left(48)
    }

    /// Returns the link that the session of a device is on, if it is there.
    pub(crate) fn current_link(&self, number: usize) -> Option<LinkView> {
        let device = &self.devices[number];
        let (_, link) = device.links.last_key_value()?;
        let link = self.links.get(link)?;
        Some(LinkView {
            history: link.history,
            welcomed: link.welcomed,
            live: link.live_at.is_some(),
            live_at: link.live_at.filter(|_| link.start == Some(self.start)),
            heard_at: link.heard_at,
            gone: link.device_end == DeviceEnd::Gone,
            still: link.up.weather == Weather::Still || link.down.weather == Weather::Still,
        })
    }
}
