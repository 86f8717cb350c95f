//! The server's turns: connections, the log, hints, sweep and presence, each at a moment of its own.
//!
//! Must not live here: what the server does in its turn, which is the product. Invariant: whoever could have something to
//! do gets a turn within milliseconds, in any order.

use std::sync::Arc;

use server::connection::Step as Turned;
use server::log::GENERAL;

use super::host::{ASIDE, Phase};
use super::wire::{Cargo, Ended};
use super::{Happening, Held, Violation, World};
use crate::heap::{self, Owner};

impl World {
    pub(super) fn begin_serving(&mut self) {
        self.start += 1;
        let start = self.start;
        self.write_at = None;
        self.after(2_000, Happening::Sweep { start });
    }

    pub(super) fn server_up(&mut self) -> Held {
        if self.host.phase != Phase::Down {
            return Ok(());
        }
        self.tell(|_| "the server starts".to_owned());
        self.host.start().map_err(Violation)?;
        self.learn()?;
        if std::mem::take(&mut self.signs_in_again) {
            let tokens: Vec<_> = self.devices.iter().map(|device| (device.user, device.token)).collect();
            for (user, token) in tokens {
                // On a full disk they cannot yet: once more at the next chance.
                self.signs_in_again |= self.host.sign_in(user, token).is_err();
            }
            self.learn()?;
        }
        self.begin_serving();
        Ok(())
    }

    /// Takes what has been synced into the truth.
    pub(super) fn learn(&mut self) -> Held {
        let before = self.truth.taken();
        {
            let platter = self.host.platter();
            self.truth.follow(&platter.records[..platter.synced]).map_err(Violation)?;
        }
        if self.truth.taken() != before {
            let now = self.truth.now();
            let heads = [GENERAL, ASIDE].into_iter().map(|room| (room, now.head(room))).collect();
            self.heads.push((self.now, heads));
            let old = self.heads.iter().take_while(|(at, _)| at + 20_000 < self.now).count();
            self.heads.drain(..old.saturating_sub(1));
        }
        Ok(())
    }

    pub(super) fn dial(&mut self, number: u64) {
        let Some(link) = self.links.get(&number) else { return };
        let (user, token) = (self.devices[link.device].user, self.devices[link.device].token);
        self.counts.sockets += 1;
        if self.host.accept(number, user, token) {
            if let Some(link) = self.links.get_mut(&number) {
                (link.history, link.start) = (self.truth.newest(), Some(self.start));
            }
            self.send_down(number, Cargo::Upgraded);
            self.plan_turn(number, 0);
        } else {
            self.send_down(number, Cargo::End(Ended::Reset));
        }
    }

    /// Plans a connection's next turn, unless an earlier one is planned.
    pub(super) fn plan_turn(&mut self, link: u64, wait: u64) {
        let at = self.now + wait;
        let Some(conn) = self.host.running.as_mut().and_then(|running| running.conns.get_mut(&link)) else { return };
        if conn.turn_at.is_none_or(|planned| planned > at || planned < self.now) {
            conn.turn_at = Some(at);
            self.after(wait, Happening::Turn { link });
        }
    }

    /// Every connection may have something to do.
    pub(super) fn stir(&mut self) {
        let links: Vec<u64> = self.host.running.iter().flat_map(|running| running.conns.keys().copied()).collect();
        for link in links {
            let wait = self.chance.below(4);
            self.plan_turn(link, wait);
        }
    }

    pub(super) fn turn(&mut self, number: u64) -> Held {
        let (now, paused) = (self.now, self.now < self.paused_until);
        let Some(running) = &mut self.host.running else { return Ok(()) };
        let Some(conn) = running.conns.get_mut(&number) else { return Ok(()) };
        if conn.turn_at.is_none_or(|planned| planned > now) || paused {
            return Ok(());
        }
        conn.turn_at = None;
        let had_input = { !conn.pipe.ends().inbox.is_empty() };
        let clockwork = Arc::clone(&self.host.clockwork);
        let (turned, read_in) = clockwork.turn(|| heap::of(Owner::Server, || conn.connection.step()));
        let bytes = std::mem::take(&mut conn.pipe.ends().outbox);
        conn.pipe.ends().on_way += bytes.len();
        crate::check::queue(conn.connection.queued_bytes())?;
        self.peak.queued_bytes = self.peak.queued_bytes.max(conn.connection.queued_bytes());
        self.peak.connections = self.peak.connections.max(running.conns.len());
        match turned {
            Turned::Over => {
                running.conns.remove(&number);
                self.send_bytes_down(number, bytes);
                self.send_down(number, Cargo::End(Ended::Finished));
                self.plan_presence();
                self.stir();
            }
            Turned::Until(at) => {
                let wait = self.host.clockwork.ms_until(at).max(1);
                self.plan_turn(number, wait.min(read_in.unwrap_or(u64::MAX)));
                self.send_bytes_down(number, bytes);
            }
        }
        if had_input {
            self.plan_write();
            self.plan_presence();
            self.stir_others(number);
        }
        Ok(())
    }

    pub(super) fn stir_others(&mut self, but: u64) {
        let links: Vec<u64> = self
            .host
            .running
            .iter()
            .flat_map(|running| running.conns.keys().copied())
            .filter(|link| *link != but)
            .collect();
        for link in links {
            let wait = self.chance.below(4);
            self.plan_turn(link, wait);
        }
    }

    pub(super) fn plan_write(&mut self) {
        if self.write_at.is_none() {
            let slow = self.now < self.disk_slow_until;
            let wait = if slow { self.chance.between(200, 4_000) } else { self.chance.between(1, 5) };
            self.write_at = Some(self.now + wait);
            self.after(wait, Happening::Write);
        }
    }

    pub(super) fn plan_presence(&mut self) {
        let start = self.start;
        if !self.queue.values().any(|planned| matches!(planned, Happening::Presence { start: of } if *of == start)) {
            self.after(1_000, Happening::Presence { start });
        }
    }

    pub(super) fn write(&mut self) -> Held {
        if self.write_at.is_none_or(|planned| planned > self.now) {
            return Ok(());
        }
        self.write_at = None;
        let Some(running) = &mut self.host.running else { return Ok(()) };
        let wrote = heap::of(Owner::Server, || running.writer.step());
        self.learn()?;
        match wrote {
            Ok(false) => {}
            Ok(true) => {
                if self.now < self.hints_lost_until {
                    if let Some(running) = &self.host.running {
                        running.app.hub.lose_marked();
                    }
                } else {
                    let wait = self.chance.below(5);
                    self.after(wait, Happening::Hints);
                }
                let is_full = self.host.platter().is_full;
                if is_full {
                    self.write_at = Some(self.now + 1_000);
                    self.after(1_000, Happening::Write);
                } else {
                    self.plan_write();
                }
                self.stir();
            }
            Err(_) => self.fail(),
        }
        Ok(())
    }

    /// The log has stopped: the server says so, and ends.
    pub(super) fn fail(&mut self) {
        self.tell(|_| "the log stops".to_owned());
        if let Some(running) = &self.host.running {
            heap::of(Owner::Server, || server::drain::begin_failed(&running.app));
        }
        self.host.phase = Phase::Ending;
        self.disturb(None);
        let start = self.start;
        self.after(2_000, Happening::ServerEnds { start });
        self.stir();
    }

    pub(super) fn hint(&mut self) {
        if let Some(running) = &self.host.running {
            heap::of(Owner::Server, || running.app.hub.walk_marked());
            self.stir();
        }
    }

    pub(super) fn sweep(&mut self, start: u64) {
        if start != self.start {
            return;
        }
        if let Some(running) = &self.host.running {
            let (hub, registry) = (&running.app.hub, &running.app.registry);
            heap::of(Owner::Server, || {
                hub.wake_late();
                // The server does this now and then; it is as good at any time.
                registry.tidy(running.app.ambient.now());
            });
            let every = running.app.config.timing.sweep_ms;
            self.after(every, Happening::Sweep { start });
            self.stir();
        }
    }

    pub(super) fn presence(&mut self, start: u64) {
        if start != self.start {
            return;
        }
        let Some(running) = &self.host.running else { return };
        let app = &running.app;
        let next = heap::of(Owner::Server, || app.presence.tell(&app.hub, app.ambient.now()));
        if let Some(next) = next {
            let wait = self.host.clockwork.ms_until(next).max(1);
            self.after(wait, Happening::Presence { start });
        }
        self.stir();
    }

    /// Ends the server. Its peers are told by resets unless its machine lost power.
    pub(crate) fn stop_server(&mut self, silent: bool, up_again: Option<u64>) -> Held {
        let keeps = self.chance.any();
        let mut unsynced = 0;
        let links = self.host.stop(|waiting| {
            unsynced = waiting as u64;
            (keeps % (waiting as u64 + 1)) as usize
        });
        self.counts.unsynced += unsynced;
        self.start += 1;
        self.write_at = None;
        self.disturb(None);
        for link in links {
            if !silent {
                self.send_down(link, Cargo::End(Ended::Reset));
            }
        }
        if let Some(wait) = up_again {
            self.after(wait, Happening::ServerUp);
        }
        self.learn()
    }
}
