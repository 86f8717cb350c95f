//! Links: what is put into them, when it arrives, and how they end.
//!
//! Must not live here: frames (`wire`), or sessions. Invariant: what a way delivers is a prefix of what was put into it,
//! in order, whatever the weather.

use shared::close;
use shared::session::Input;

use super::device::Awake;
use super::host::Phase;
use super::wire::{Cargo, Codec, DeviceEnd, Ended, Frame, Way, Weather};
use super::{Happening, Held, Violation, World};

impl World {
    pub(super) fn delay(&mut self, device: usize) -> u64 {
        let thin = self.now < self.devices[device].thin_until;
        if thin { self.chance.between(100, 3_000) } else { self.chance.between(1, 60) }
    }

    pub(super) fn send_up(&mut self, number: u64, cargo: Cargo) {
        let Some(device) = self.links.get(&number).map(|link| link.device) else { return };
        let delay = self.delay(device);
        let (now, reachable) = (self.now, self.devices[device].has_network);
        let Some(link) = self.links.get_mut(&number) else { return };
        link.up.cargo.push_back(cargo);
        if link.up.weather == Weather::Fair && reachable {
            let at = link.up.last_at.max(now + delay);
            link.up.last_at = at;
            self.after(at - now, Happening::Up { link: number });
        }
    }

    pub(super) fn send_bytes_down(&mut self, number: u64, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        // A network cuts where it likes.
        let cut = self.chance.below(bytes.len() as u64 + 1) as usize;
        let (first, second) = bytes.split_at(cut);
        for part in [first, second] {
            if !part.is_empty() {
                self.send_down(number, Cargo::Bytes(part.to_vec()));
            }
        }
    }

    pub(super) fn send_down(&mut self, number: u64, cargo: Cargo) {
        let Some(device) = self.links.get(&number).map(|link| link.device) else { return };
        let delay = self.delay(device);
        let (now, reachable) = (self.now, self.devices[device].has_network);
        let Some(link) = self.links.get_mut(&number) else { return };
        link.down.cargo.push_back(cargo);
        if link.down.weather == Weather::Fair && reachable {
            let at = link.down.last_at.max(now + delay);
            link.down.last_at = at;
            self.after(at - now, Happening::Down { link: number });
        }
    }

    pub(super) fn arrive_up(&mut self, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        if link.up.weather == Weather::Still || !self.devices[link.device].has_network {
            return;
        }
        let Some(cargo) = link.up.cargo.pop_front() else { return };
        let conn = self.host.running.as_mut().and_then(|running| running.conns.get_mut(&number));
        let Some(conn) = conn else {
            // Nobody there knows this connection.
            if self.host.phase != Phase::Down && !matches!(cargo, Cargo::End(_)) {
                self.send_down(number, Cargo::End(Ended::Reset));
            }
            return self.forget_if_over(number);
        };
        let mut ends = conn.pipe.ends();
        match cargo {
            Cargo::Upgraded => {}
            Cargo::Bytes(bytes) => ends.inbox.extend(bytes),
            Cargo::End(how) => ends.ended = Some(how),
        }
        drop(ends);
        let wait = self.chance.below(3);
        self.plan_turn(number, wait);
    }

    pub(super) fn arrive_down(&mut self, number: u64) -> Held {
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        let device = link.device;
        let is_there = self.devices[device].life == link.life;
        if link.down.weather == Weather::Still
            || !self.devices[device].has_network
            || (is_there && matches!(self.devices[device].awake, Awake::No { .. }))
        {
            return Ok(());
        }
        let Some(cargo) = link.down.cargo.pop_front() else { return Ok(()) };
        if let Cargo::Bytes(bytes) = &cargo
            && let Some(conn) = self.host.running.as_mut().and_then(|running| running.conns.get_mut(&number))
        {
            let mut ends = conn.pipe.ends();
            ends.on_way = ends.on_way.saturating_sub(bytes.len());
            drop(ends);
            self.plan_turn(number, 1);
        }
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        if !is_there || link.device_end == DeviceEnd::Gone {
            self.forget_if_over(number);
            return Ok(());
        }
        link.heard_at = self.now;
        let attempt = link.attempt;
        match cargo {
            Cargo::Upgraded => {
                link.device_end = DeviceEnd::Open;
                self.input(device, Input::Opened { attempt })?;
            }
            Cargo::Bytes(bytes) => {
                link.codec.push(&bytes);
                self.read_frames(number)?;
            }
            Cargo::End(_) => self.closed(number, close::ABNORMAL, String::new())?,
        }
        Ok(())
    }

    pub(super) fn read_frames(&mut self, number: u64) -> Held {
        loop {
            let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
            if link.device_end == DeviceEnd::Gone {
                return Ok(());
            }
            let (device, attempt, now) = (link.device, link.attempt, self.now);
            match link.codec.next().map_err(Violation)? {
                None => return Ok(()),
                Some(Frame::Text(text)) => {
                    link.welcomed |= text.contains("\"welcome\"");
                    if text.contains("\"live\"") {
                        link.live_at.get_or_insert(now);
                    }
                    self.input(device, Input::Received { attempt, text })?;
                }
                // The browser answers, not the page.
                Some(Frame::Ping(payload)) => self.send_up(number, Cargo::Bytes(Codec::pong(&payload))),
                Some(Frame::Pong) => {}
                Some(Frame::Close(code, reason)) => {
                    self.send_up(number, Cargo::Bytes(Codec::close(code)));
                    self.send_up(number, Cargo::End(Ended::Finished));
                    return self.closed(number, code, reason);
                }
            }
        }
    }

    pub(super) fn closed(&mut self, number: u64, code: u16, reason: String) -> Held {
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        if link.device_end == DeviceEnd::Gone {
            return Ok(());
        }
        let (device, attempt, life, is_left) = (link.device, link.attempt, link.life, link.is_left);
        crate::check::closed(device, code)?;
        if !is_left {
            crate::check::given_up(self, device, number, &format!("lost, with {code},"))?;
        }
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        if self.devices[device].life == life && matches!(self.devices[device].awake, Awake::No { .. }) {
            // Learnt when it wakes.
            self.after(1_000, Happening::Closed { link: number, code, reason });
            return Ok(());
        }
        link.device_end = DeviceEnd::Gone;
        if self.devices[device].life == life && self.devices[device].is_up() {
            self.input(device, Input::Closed { attempt, code, reason })?;
        }
        self.forget_if_over(number);
        Ok(())
    }

    /// Notes that the device's session has closed a link.
    pub(super) fn link_is_left(&mut self, number: u64) {
        if let Some(link) = self.links.get_mut(&number) {
            link.is_left = true;
        }
    }

    pub(super) fn forget_if_over(&mut self, number: u64) {
        let served = self.host.running.as_ref().is_some_and(|running| running.conns.contains_key(&number));
        let over = self.links.get(&number).is_some_and(|link| {
            link.device_end == DeviceEnd::Gone && link.up.cargo.is_empty() && link.down.cargo.is_empty()
        });
        if over && !served {
            self.links.remove(&number);
        }
    }

    /// Lets a way carry again what it held.
    pub(super) fn heal(&mut self, number: u64, up: bool) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&number) else { return };
        let way: &mut Way = if up { &mut link.up } else { &mut link.down };
        way.weather = Weather::Fair;
        way.last_at = now;
        let waiting = way.cargo.len();
        self.disturb_link(number);
        for index in 0..waiting as u64 {
            let happening = if up { Happening::Up { link: number } } else { Happening::Down { link: number } };
            self.after(1 + index, happening);
        }
    }

    pub(super) fn disturb_link(&mut self, number: u64) {
        if let Some(device) = self.links.get(&number).map(|link| link.device) {
            self.disturb(Some(device));
        }
    }

    pub(crate) fn links_of(&self, device: usize) -> Vec<u64> {
        let life = self.devices[device].life;
        self.links
            .iter()
            .filter(|(_, link)| link.device == device && link.life == life)
            .map(|(number, _)| *number)
            .collect()
    }
}
