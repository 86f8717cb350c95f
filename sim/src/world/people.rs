//! Devices and people: opened, killed and woken; a session's inputs and outputs, done as the page does them.
//!
//! Must not live here: what a device remembers (`device`). Invariant: an output of a session is carried out in the order
//! it came, and nothing else is told to it than what its device could know.

use server::log::GENERAL;
use shared::close;
use shared::cursor::{Check, Position};
use shared::ids::{AttemptId, RoomId, Seq};
use shared::session::{Command, Input, Output, Persist, SendOp};
use shared::time::Timestamp;

use super::device::{Awake, Device, Kind};
use super::host::ASIDE;
use super::wire::{Cargo, Codec, DeviceEnd, Ended, Link, Way, Weather};
use super::{Happening, Held, POISON, World, host};
use crate::heap::{self, Owner};

impl World {
    /// Opens the tab, or starts the program.
    pub(super) fn open_device(&mut self, number: usize) -> Held {
        if self.devices[number].awake != Awake::Closed {
            return Ok(());
        }
        let seed = self.seed;
        self.devices[number].begin_life(seed);
        self.disturb(Some(number));
        self.tell(|_| format!("device {number} is opened"));
        let life = self.devices[number].life;
        self.adopt(number, life)?;
        let device = &self.devices[number];
        if device.kind == Kind::Program {
            let (replay, epoch) = (true, self.host.epoch);
            for room in [GENERAL, ASIDE] {
                let cursor = self.devices[number].places.get(&room).map(|(place, _)| *place).or(Some(Position {
                    epoch,
                    seq: Seq(0),
                    check: Check::default(),
                }));
                self.input(number, Input::Command(Command::Open { room, cursor, replay }))?;
            }
        } else {
            let rooms: Vec<RoomId> = [GENERAL, ASIDE].into_iter().filter(|room| device.wants(*room)).collect();
            for room in rooms {
                self.input(number, Input::Command(Command::Open { room, cursor: None, replay: false }))?;
            }
        }
        if !self.devices[number].has_network && self.chance.once_in(2) {
            self.devices[number].told_offline = true;
            self.input(number, Input::Online(false))?;
        }
        self.input(number, Input::Command(Command::Start))
    }

    /// Takes over what dead tabs of the same browser left.
    pub(super) fn adopt(&mut self, number: usize, life: u64) -> Held {
        if self.devices[number].life != life || !self.devices[number].is_up() {
            return Ok(());
        }
        let shelf = self.devices[number].shelf();
        let kept_by: Vec<u64> = self
            .devices
            .iter()
            .filter(|device| device.awake != Awake::Closed && device.shelf() == shelf)
            .map(Device::partition)
            .collect();
        let mine = self.devices[number].partition();
        let shelf = &mut self.shelves[shelf];
        let orphans: Vec<_> = shelf.items.keys().filter(|(by, _)| !kept_by.contains(by)).copied().collect();
        if orphans.is_empty() {
            return Ok(());
        }
        let mut items = Vec::new();
        for place in orphans {
            if let Some(item) = shelf.items.remove(&place) {
                shelf.items.insert((mine, item.client_id), item.clone());
                items.push(item);
            }
        }
        self.tell(|_| format!("device {number} takes over {} unsent", items.len()));
        self.input(number, Input::Restored { items })
    }

    /// Ends a device's life: what it was writing down is there in part.
    pub(crate) fn end_life(&mut self, number: usize, silent: bool, reopen: u64) {
        let links = self.links_of(number);
        for link in links {
            if let Some(link) = self.links.get_mut(&link) {
                link.device_end = DeviceEnd::Gone;
            }
            if !silent {
                let how = if self.chance.once_in(2) { Ended::Finished } else { Ended::Reset };
                self.send_up(link, Cargo::End(how));
            }
        }
        let done = self.chance.below(self.devices[number].saves.len() as u64 + 1);
        for _ in 0..done {
            if let Some((_, change)) = self.devices[number].saves.pop_front() {
                self.keep(number, change);
            }
        }
        let device = &mut self.devices[number];
        device.saves.clear();
        device.awake = Awake::Closed;
        device.timer += 1;
        device.timer_at = None;
        self.disturb(Some(number));
        self.after(reopen, Happening::Reopen { device: number });
        let shelf = self.devices[number].shelf();
        let siblings: Vec<(usize, u64)> = self
            .devices
            .iter()
            .filter(|other| other.shelf() == shelf)
            .map(|other| (other.number, other.life))
            .collect();
        for (device, life) in siblings {
            let wait = self.chance.below(15_000);
            self.after(wait, Happening::Adopt { device, life });
        }
    }

    pub(super) fn keep(&mut self, number: usize, change: Persist) -> bool {
        let device = &self.devices[number];
        if !device.keeps {
            return false;
        }
        let (mine, shelf) = (device.partition(), device.shelf());
        let items = &mut self.shelves[shelf].items;
        match change {
            Persist::Put(item) => drop(items.insert((mine, item.client_id), item)),
            Persist::Remove(key) => drop(items.remove(&(mine, key))),
        }
        true
    }

    pub(super) fn saved(&mut self, number: usize, life: u64) -> Held {
        if self.devices[number].life != life || self.devices[number].awake == Awake::Closed {
            return Ok(());
        }
        if !self.devices[number].is_up() {
            // Done and told when it wakes.
            self.after(1_000, Happening::Saved { device: number, life });
            return Ok(());
        }
        let Some((serial, change)) = self.devices[number].saves.pop_front() else { return Ok(()) };
        let ok = self.keep(number, change);
        self.input(number, Input::Persisted { serial, ok })?;
        crate::check::storage(self, number, ok)
    }

    pub(super) fn wake(&mut self, number: usize, life: u64) -> Held {
        let Awake::No { says } = self.devices[number].awake else { return Ok(()) };
        if self.devices[number].life != life {
            return Ok(());
        }
        self.tell(|_| format!("device {number} wakes"));
        self.devices[number].awake = Awake::Yes;
        self.disturb(Some(number));
        for link in self.links_of(number) {
            let waiting = self.links.get(&link).map_or(0, |link| link.down.cargo.len());
            for index in 0..waiting as u64 {
                self.after(1 + index, Happening::Down { link });
            }
        }
        self.plan_timer(number);
        if self.devices[number].has_network && std::mem::take(&mut self.devices[number].told_offline) {
            // What happened to the network meanwhile is told now.
            self.nudged(number);
            self.input(number, Input::Online(true))?;
        }
        if self.devices[number].told_hidden && self.devices[number].hidden_since.is_none() {
            self.devices[number].told_hidden = false;
            self.input(number, Input::Visible(true))?;
        }
        if says {
            self.nudged(number);
            return self.input(number, Input::Woke);
        }
        Ok(())
    }

    pub(super) fn plug(&mut self, number: usize, tells: bool) -> Held {
        self.devices[number].has_network = true;
        self.disturb(Some(number));
        let links: Vec<u64> =
            self.links.iter().filter(|(_, link)| link.device == number).map(|(link, _)| *link).collect();
        for link in links {
            for up in [true, false] {
                let still = self.links.get(&link).map(|link| if up { link.up.weather } else { link.down.weather });
                if still == Some(Weather::Fair) {
                    self.heal(link, up);
                }
            }
        }
        if (tells || self.devices[number].told_offline) && self.devices[number].is_up() {
            self.devices[number].told_offline = false;
            self.nudged(number);
            return self.input(number, Input::Online(true));
        }
        Ok(())
    }

    pub(super) fn show_page(&mut self, number: usize, life: u64) -> Held {
        if self.devices[number].life == life && self.devices[number].hidden_since.take().is_some() {
            self.disturb(Some(number));
            if self.devices[number].is_up() {
                self.nudged(number);
                self.devices[number].told_hidden = false;
                return self.input(number, Input::Visible(true));
            }
        }
        Ok(())
    }

    pub(crate) fn nudged(&mut self, number: usize) {
        let now = self.now;
        let nudges = &mut self.devices[number].nudges;
        nudges.retain(|at| at + 60_000 > now);
        nudges.push_back(now);
    }

    /// How late a session's timer is.
    pub(super) fn lateness(&mut self, number: usize) -> u64 {
        match self.devices[number].hidden_since {
            Some(since) if self.now > since + 300_000 => 60_000 - self.now % 60_000,
            Some(_) => 1_000 - self.now % 1_000,
            None => self.chance.below(20),
        }
    }

    pub(super) fn plan_timer(&mut self, number: usize) {
        let device = &self.devices[number];
        let Some((deadline, _)) = device.session.next_deadline() else { return };
        let wait = deadline.0.saturating_sub(device.time(self.now).0);
        let late = self.lateness(number);
        let at = self.now + wait + late;
        let device = &mut self.devices[number];
        if device.timer_at.is_none_or(|planned| planned > at || planned < self.now) {
            device.timer += 1;
            device.timer_at = Some(at);
            let number_of = device.timer;
            self.after(at - self.now, Happening::Timer { device: number, number: number_of });
        }
    }

    pub(super) fn timer(&mut self, number: usize, planned: u64) -> Held {
        let device = &mut self.devices[number];
        if device.timer != planned {
            return Ok(());
        }
        device.timer_at = None;
        if device.is_up() {
            self.input(number, Input::DeadlineReached)?;
        }
        Ok(())
    }

    /// Gives a session an input, and does what it says.
    pub(crate) fn input(&mut self, number: usize, input: Input) -> Held {
        let time = self.devices[number].time(self.now);
        let session = &mut self.devices[number].session;
        let outputs = heap::of(Owner::Session, || session.handle(input, time));
        for output in outputs {
            match output {
                Output::Open { attempt } => self.open_link(number, attempt),
                Output::Send { attempt, text } => {
                    if let Some(link) = self.devices[number].links.get(&attempt).copied() {
                        self.send_up(link, Cargo::Bytes(Codec::text(&text)));
                    }
                }
                Output::Close { attempt, code, .. } => {
                    if let Some(link) = self.devices[number].links.get(&attempt).copied() {
                        crate::check::given_up(self, number, link, &format!("gave up, with {code},"))?;
                        self.link_is_left(link);
                        self.send_up(link, Cargo::Bytes(Codec::close(code)));
                        self.send_up(link, Cargo::End(Ended::Finished));
                        // A peer that is gone does not answer the close, and the socket lingers.
                        let longest = if self.chance.once_in(3) { 40_000 } else { 50 };
                        let wait = self.chance.between(1, longest);
                        self.after(wait, Happening::Closed { link, code, reason: String::new() });
                    }
                }
                Output::Persist { serial, change } => {
                    let life = self.devices[number].life;
                    self.devices[number].saves.push_back((serial, change));
                    let wait = self.chance.between(1, 40);
                    self.after(wait, Happening::Saved { device: number, life });
                }
                Output::Event(event) => self.show(number, event)?,
            }
        }
        self.plan_timer(number);
        self.read_on(number)
    }

    pub(super) fn open_link(&mut self, number: usize, attempt: AttemptId) {
        self.link_counter += 1;
        let (link, now) = (self.link_counter, self.now);
        let device = &mut self.devices[number];
        device.links.insert(attempt, link);
        device.attempts.retain(|at| at + 60_000 > now);
        device.attempts.push_back(now);
        let (life, has_network) = (device.life, device.has_network);
        self.links.insert(
            link,
            Link {
                device: number,
                life,
                attempt,
                up: Way::default(),
                down: Way::default(),
                device_end: DeviceEnd::Opening,
                codec: Codec::default(),
                history: self.truth.newest(),
                start: None,
                welcomed: false,
                live_at: None,
                is_left: false,
                heard_at: now,
            },
        );
        let wait = self.delay(number);
        if has_network {
            self.after(wait, Happening::Dial { link });
        } else if self.chance.once_in(2) {
            self.after(wait, Happening::Closed { link, code: close::ABNORMAL, reason: String::new() });
        }
        // Else nothing answers, and the session has to notice.
    }

    /// The person writes.
    pub(crate) fn write_op(&mut self, number: usize, room: RoomId, op: SendOp) -> Held {
        let (history, aside) = (self.truth.newest(), self.truth.now().head(ASIDE));
        let device = &mut self.devices[number];
        let key = device.next_key(&mut self.chance);
        device.written_at.insert(key, (history, aside));
        let is_poison = matches!(&op, SendOp::Post { body } if body == POISON);
        let life = device.life;
        if is_poison {
            device.poison.insert(key);
        } else {
            device.written.entry((life, room)).or_default().push(key);
            device.sends.insert(key, op.clone());
        }
        let at = Timestamp((host::BEGINNING_MS + self.now).saturating_add_signed(device.wall_ms));
        self.input(number, Input::Command(Command::Send { client_id: key, room, op, at }))
    }
}
