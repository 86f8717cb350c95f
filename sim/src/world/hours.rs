//! A long day: ordinary churn, hour by hour, and at the end of each a calm while in which what is held is counted.
//!
//! Must not live here: how much may be held (`crate::hours`). Invariant: what is counted is counted at rest, with
//! everybody there, so two counts differ by what has gathered between them and by nothing else.

use server::delivery::tail::TAIL_EVENTS;
use server::log::GENERAL;
use shared::ids::Lsn;
use shared::session::{Command, Input};

use super::device::Device;
use super::host::ASIDE;
use super::{HAPPENINGS, Held, Peak, Violation, World};
use crate::chance::Chance;
use crate::check;
use crate::heap::{self, Owner};
use crate::hours::{Hour, Span};
use crate::plan::{Act, DEVICES, Side};

/// For so long before an hour is counted only posts come, in milliseconds: longer than a hidden page that is gone is
/// waited for, and its name after it.
const CALM_MS: u64 = 200_000;
/// Whatever was asked for is answered within this, in milliseconds.
const SETTLED_MS: u64 = 10_000;
/// How many of the newest rows people look at on a long day.
const LOOKS_AT: usize = 50;
/// Devices that come and go all day. The others stay after the first quarter, so that what gathers in them can be seen.
const COMING_AND_GOING: u64 = 2;

impl World {
    /// Lives through the next hour, and counts.
    pub(crate) fn live_hour(&mut self, span: &Span, number: usize) -> Result<Hour, Violation> {
        self.looks_at = LOOKS_AT;
        self.peak = Peak::default();
        self.happenings = self.counts.events + HAPPENINGS;
        let end = self.now + span.hour_ms;
        let settles = number >= span.quarter();
        while self.now + CALM_MS < end {
            let (wait, act) = (self.chance.below(2 * span.pause_ms), ordinary(&mut self.chance, settles));
            self.lives_on(wait, act)?;
        }
        self.be_fair()?;
        self.rest()?;
        // The log has seen by then that its disk has room.
        self.run_for(SETTLED_MS)?;
        self.tidy_up()?;
        self.fair = false;
        while self.now < end {
            let (wait, act) = (self.chance.below(2 * span.pause_ms), written(&mut self.chance));
            self.lives_on(wait, act)?;
        }
        self.fair = true;
        self.rest()?;
        self.fair = false;
        check::at_rest(self)?;
        self.devices.iter_mut().for_each(Device::forget_settled);
        self.forgets = true;
        self.count_hour(number)
    }

    /// People come back to the room they may have left, and discard what was refused; a crowd fills the tails, which
    /// begin anew when everybody leaves.
    fn tidy_up(&mut self) -> Held {
        for device in 0..self.devices.len() {
            let parked: Vec<_> = self.devices[device].session.outbox().map(|item| item.client_id).collect();
            for client_id in parked {
                self.devices[device].discarded.insert(client_id);
                self.input(device, Input::Command(Command::DiscardSend { client_id }))?;
            }
        }
        for device in [0, 2] {
            if !self.devices[device].joined.contains(&ASIDE) {
                self.act(Act::Move { device })?;
            }
        }
        self.run_for(SETTLED_MS)?;
        self.rest()?;
        [GENERAL, ASIDE].into_iter().try_for_each(|room| self.crowd(room, TAIL_EVENTS as u64))
    }

    fn lives_on(&mut self, wait_ms: u64, act: Act) -> Held {
        self.run_for(wait_ms)?;
        self.act(act)?;
        if std::mem::take(&mut self.host.failed) {
            self.fail();
        }
        let unsent = self.devices.iter().map(|device| device.session.outbox().count()).max();
        self.peak.outbox = self.peak.outbox.max(unsent.unwrap_or(0));
        Ok(())
    }

    fn count_hour(&self, number: usize) -> Result<Hour, Violation> {
        let Some(running) = &self.host.running else { return Err(Violation("nobody serves".to_owned())) };
        let held = running.app.hub.held();
        let rooms = || self.devices.iter().flat_map(|device| device.rooms.values());
        let log_bytes = self.host.weigh_log().map_err(Violation)?;
        let lsn = self.truth.replica.reads().lsn().unwrap_or(Lsn(0)).0;
        Ok(Hour {
            number,
            server_bytes: heap::live(Owner::Server).saturating_sub(log_bytes),
            session_bytes: heap::live(Owner::Session),
            page_bytes: heap::live(Owner::Page),
            log_bytes,
            world_bytes: heap::live(Owner::World),
            devices: self.devices.len(),
            came: self.counts.sockets,
            connections: running.conns.len(),
            sockets: running.app.sockets(),
            registered: running.app.registry.len(),
            present: running.app.presence.len(),
            streams: held.streams,
            followers: held.followers,
            watchers: held.watchers,
            tail_frames: held.tail_frames,
            tail_bytes: held.tail_bytes,
            unsent: self.devices.iter().map(|device| device.session.outbox().count()).sum(),
            awaited: self.devices.iter().map(|device| device.session.awaited()).sum(),
            rows: rooms().map(|shown| shown.timeline.len()).sum(),
            longest_rows: rooms().map(|shown| shown.timeline.len()).max().unwrap_or(0),
            posts: self.truth.now().posts(),
            keys: lsn,
            records: self.truth.taken() as u64,
            most_connections: self.peak.connections,
            most_queued_bytes: self.peak.queued_bytes,
            most_unsent: self.peak.outbox,
            planned: self.queue.len(),
        })
    }
}

/// Draws what people write, and nothing else.
fn written(chance: &mut Chance) -> Act {
    let device = chance.below(DEVICES as u64) as usize;
    match chance.below(100) {
        0..=71 => Act::Post { device },
        72..=89 => Act::PostAside { device },
        90 | 91 => Act::Edit { device, pick: chance.any() },
        92 => Act::Delete { device, pick: chance.any() },
        93..=95 => Act::React { device, pick: chance.any() },
        _ => Act::Type { device },
    }
}

/// Draws what happens on an ordinary day. Once it `settles` the server and half of the devices stay.
fn ordinary(chance: &mut Chance, settles: bool) -> Act {
    if !chance.once_in(20) {
        return written(chance);
    }
    let device = chance.below(DEVICES as u64) as usize;
    let leaving = if settles { chance.below(COMING_AND_GOING) as usize } else { device };
    let way = *chance.pick(&[Side::Up, Side::Down, Side::Both]);
    match chance.below(if settles { 32 } else { 36 }) {
        0..=4 => Act::Crash { device: leaving, ms: chance.between(10, 60_000) },
        5 => Act::PowerOff { device: leaving, ms: chance.between(1_000, 120_000) },
        6 => Act::Revoke { device: leaving },
        7..=9 => Act::Cut { device },
        10 | 11 => Act::Stall { device, way, ms: chance.between(100, 20_000) },
        12 | 13 => Act::BlackHole { device, way },
        14 => Act::Thin { device, ms: chance.between(1_000, 60_000) },
        15 | 16 => Act::Offline { device, ms: chance.between(1_000, 120_000) },
        17 => Act::Unplugged { device, ms: chance.between(1_000, 120_000) },
        18..=20 => Act::Hide { device, ms: chance.between(1_000, 1_200_000) },
        21 | 22 => Act::Sleep { device, ms: chance.between(1_000, 600_000) },
        23 => Act::Freeze { device, ms: chance.between(1_000, 600_000) },
        24 => Act::Move { device },
        25 => Act::Rename { device },
        26 => Act::Poison { device },
        27 => Act::Retry { device },
        28 => Act::Burst { device, posts: chance.between(5, 20) },
        29 => Act::NoStorage { device, ms: chance.between(1_000, 60_000) },
        30 => Act::FullDisk { ms: chance.between(100, 20_000) },
        31 => Act::LoseHints { ms: chance.between(1_000, 30_000) },
        32 => Act::Kill { ms: chance.between(10, 20_000) },
        33 => Act::Drain { ms: chance.between(10, 20_000) },
        34 => Act::PowerCut { ms: chance.between(1_000, 60_000) },
        _ => Act::FailedSync { ms: chance.between(100, 20_000) },
    }
}
