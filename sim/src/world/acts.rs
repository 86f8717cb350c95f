//! What each act of a plan does to the world, and how every fault ends.
//!
//! Must not live here: when acts come, or what must be true after them. Invariant: an act that cannot take place, on a
//! device that is closed or a server that is down, does nothing and is not counted.

use server::log::{GENERAL, Op};
use shared::ids::{ClientId, RoomId, UserId};
use shared::message::{Command as WireCommand, Membership, Rename};
use shared::model::PostRef;
use shared::session::{Command, Input, RequestTag, SendOp};
use shared::timeline::Row;

use super::device::Awake;
use super::host::{ASIDE, Phase};
use super::wire::{Cargo, Ended, Weather};
use super::{Happening, Held, POISON, Violation, World};
use crate::heap::{self, Owner};
use crate::plan::{Act, Side};

/// How far clocks jump, in milliseconds.
const JUMP_MS: i64 = 2 * 3_600_000;
/// Requests that are not durable have these tags.
const TAGS: u64 = 1 << 40;

impl World {
    /// Lets an act take place.
    pub(crate) fn act(&mut self, act: Act) -> Held {
        if let Some(device) = act.device()
            && !self.devices[device].is_up()
        {
            return Ok(());
        }
        let server = self.host.phase == Phase::Serving;
        let took_place = match act {
            Act::Kill { .. }
            | Act::PowerCut { .. }
            | Act::Drain { .. }
            | Act::Pause { .. }
            | Act::FailedSync { .. }
            | Act::Restore { .. }
            | Act::Crowd { .. }
            | Act::Revoke { .. } => server,
            _ => true,
        };
        if !took_place {
            return Ok(());
        }
        self.counts.acts[act.kind()] += 1;
        self.tell(|_| format!("* {act:?}"));
        match act.device() {
            Some(device) => self.act_on_device(device, act),
            None => self.act_on_server(act),
        }
    }

    fn act_on_device(&mut self, device: usize, act: Act) -> Held {
        let life = self.devices[device].life;
        match act {
            Act::Post { .. } => {
                let body = format!("from {device} at {}", self.now);
                self.write_op(device, GENERAL, SendOp::Post { body })?;
            }
            Act::Burst { posts, .. } => {
                for number in 0..posts {
                    let body = format!("{number} of {posts} from {device} at {}", self.now);
                    self.write_op(device, GENERAL, SendOp::Post { body })?;
                }
            }
            Act::PostAside { .. } => {
                let body = format!("aside, from {device} at {}", self.now);
                self.write_op(device, ASIDE, SendOp::Post { body })?;
            }
            Act::Edit { pick, .. } => {
                if let Some(post) = self.pick_post(device, pick, true) {
                    let body = format!("edited on {device} at {}", self.now);
                    self.write_op(device, GENERAL, SendOp::Edit { post, body })?;
                }
            }
            Act::Delete { pick, .. } => {
                if let Some(post) = self.pick_post(device, pick, true) {
                    self.write_op(device, GENERAL, SendOp::Delete { post })?;
                }
            }
            Act::React { pick, .. } => {
                if let Some(post) = self.pick_post(device, pick, false) {
                    let op = SendOp::React { post, emoji: "👍".to_owned(), on: pick % 3 != 0 };
                    self.write_op(device, GENERAL, op)?;
                }
            }
            Act::Poison { .. } => self.write_op(device, GENERAL, SendOp::Post { body: POISON.to_owned() })?,
            Act::Move { .. } => {
                let client_id = self.devices[device].next_key(&mut self.chance);
                let ask = Membership { client_id, room: ASIDE };
                let command = if self.devices[device].joined.contains(&ASIDE) {
                    WireCommand::Leave(ask)
                } else {
                    WireCommand::Join(ask)
                };
                self.request(device, client_id, command)?;
            }
            Act::Rename { .. } => {
                let client_id = self.devices[device].next_key(&mut self.chance);
                let name =
                    format!("person {} {}", self.devices[device].user.as_bytes()[0], self.chance.below(1_000_000));
                self.request(device, client_id, WireCommand::Rename(Rename { client_id, name }))?;
            }
            Act::Type { .. } => {
                self.input(device, Input::Command(Command::Typing { room: GENERAL }))?;
                let seen = self.devices[device].rooms.get(&GENERAL).map(|shown| (shown.history, shown.given));
                let seen =
                    seen.and_then(|(history, given)| Some(self.truth.history(history).posts_up_to(GENERAL, given?)));
                let posts = self.chance.below(50).min(seen.unwrap_or(0));
                let read = self.devices[device].read.entry(GENERAL).or_default();
                *read = posts.max(*read);
                self.input(device, Input::Command(Command::MarkRead { room: GENERAL, posts }))?;
            }
            Act::LookBack { pick, .. } => self.look_back(device, pick)?,
            Act::Retry { .. } => {
                self.nudged(device);
                self.input(device, Input::Command(Command::RetryNow))?;
            }
            Act::Cut { .. } => {
                self.disturb(Some(device));
                for link in self.links_of(device) {
                    self.send_up(link, Cargo::End(Ended::Reset));
                    self.send_down(link, Cargo::End(Ended::Reset));
                }
            }
            Act::Stall { way, ms, .. } => self.still(device, way, Some(ms)),
            Act::BlackHole { way, .. } => self.still(device, way, None),
            Act::Thin { ms, .. } => {
                let until = self.now + ms;
                self.devices[device].thin_until = until;
                self.disturb(Some(device));
            }
            Act::Offline { ms, .. } => {
                self.devices[device].has_network = false;
                self.disturb(Some(device));
                self.after(ms, Happening::Plug { device, tells: true });
                self.devices[device].told_offline = true;
                self.input(device, Input::Online(false))?;
            }
            Act::Unplugged { ms, .. } => {
                self.devices[device].has_network = false;
                self.disturb(Some(device));
                self.after(ms, Happening::Plug { device, tells: false });
            }
            Act::Hide { ms, .. } => {
                let now = self.now;
                self.devices[device].hidden_since.get_or_insert(now);
                self.after(ms, Happening::Show { device, life });
                self.devices[device].told_hidden = true;
                self.input(device, Input::Visible(false))?;
            }
            Act::Sleep { ms, .. } | Act::Freeze { ms, .. } => {
                let says = matches!(act, Act::Sleep { .. }) || self.chance.once_in(2);
                self.devices[device].awake = Awake::No { says };
                self.disturb(Some(device));
                self.after(ms, Happening::Wake { device, life });
            }
            Act::Crash { ms, .. } => self.end_life(device, false, ms),
            Act::PowerOff { ms, .. } => self.end_life(device, true, ms),
            Act::NoStorage { ms, .. } => {
                self.devices[device].keeps = false;
                self.after(ms, Happening::KeepAgain { device });
            }
            Act::Revoke { .. } => self.revoke(device)?,
            Act::DeviceClock { ahead, .. } => self.devices[device].wall_ms += if ahead { JUMP_MS } else { -JUMP_MS },
            Act::Crowd { .. }
            | Act::Kill { .. }
            | Act::PowerCut { .. }
            | Act::Drain { .. }
            | Act::Pause { .. }
            | Act::ServerClock { .. }
            | Act::SlowDisk { .. }
            | Act::FullDisk { .. }
            | Act::FailedSync { .. }
            | Act::LoseHints { .. }
            | Act::Restore { .. } => {}
        }
        Ok(())
    }

    fn act_on_server(&mut self, act: Act) -> Held {
        let now = self.now;
        match act {
            Act::Crowd { posts } => self.crowd(GENERAL, posts)?,
            Act::Kill { ms } => self.stop_server(false, Some(ms))?,
            Act::PowerCut { ms } => self.stop_server(true, Some(ms))?,
            Act::Drain { ms } => {
                if let Some(running) = &self.host.running {
                    heap::of(Owner::Server, || server::drain::begin(&running.app));
                }
                // Whoever is shown out comes back when the server said, not when their own wait is over.
                (0..self.devices.len()).for_each(|device| self.nudged(device));
                self.host.phase = Phase::Ending;
                self.disturb(None);
                self.stir();
                let (start, wait) = (self.start, self.chance.between(500, 3_000));
                self.after(wait, Happening::ServerEnds { start });
                self.after(wait + ms, Happening::ServerUp);
            }
            Act::Pause { ms } => {
                self.paused_until = self.paused_until.max(now + ms);
                self.disturb(None);
            }
            Act::ServerClock { ahead } => self.host.jump(if ahead { JUMP_MS } else { -JUMP_MS }),
            Act::SlowDisk { ms } => self.disk_slow_until = now + ms,
            Act::FullDisk { ms } => {
                self.host.platter().is_full = true;
                self.after(ms, Happening::DiskRoom);
            }
            Act::FailedSync { ms } => {
                self.host.platter().fails_next_sync = true;
                // Whatever is written next meets it.
                self.after(ms + 2_500, Happening::ServerUp);
            }
            Act::LoseHints { ms } => self.hints_lost_until = now + ms,
            Act::Restore { records, ms } => self.restore(records, ms)?,
            _ => {}
        }
        Ok(())
    }

    fn request(&mut self, device: usize, key: ClientId, command: WireCommand) -> Held {
        let tag = RequestTag(TAGS + self.chance.below(TAGS));
        self.devices[device].requests.insert(tag, key);
        self.input(device, Input::Command(Command::Request { tag, command }))
    }

    fn pick_post(&self, device: usize, pick: u64, mine: bool) -> Option<PostRef> {
        let device = &self.devices[device];
        let shown = device.rooms.get(&GENERAL)?;
        let fits = |row: Row| {
            let row = row.as_post().filter(|row| (row.by == device.user || !mine) && !row.is_deleted())?;
            Some(PostRef { seq: row.seq?, client_id: Some(row.client_id) })
        };
        let posts: Vec<_> = shown.timeline.rows().filter_map(fits).collect();
        posts.get(usize::try_from(pick % (posts.len() as u64).max(1)).ok()?).copied()
    }

    fn still(&mut self, device: usize, way: Side, heals_after: Option<u64>) {
        self.disturb(Some(device));
        for number in self.links_of(device) {
            let Some(link) = self.links.get_mut(&number) else { continue };
            if way != Side::Down {
                link.up.weather = Weather::Still;
            }
            if way != Side::Up {
                link.down.weather = Weather::Still;
            }
            if let Some(ms) = heals_after {
                if way != Side::Down {
                    self.after(ms, Happening::Heal { link: number, up: true });
                }
                if way != Side::Up {
                    self.after(ms, Happening::Heal { link: number, up: false });
                }
            }
        }
    }

    fn revoke(&mut self, device: usize) -> Held {
        let (user, token_hash) = (self.devices[device].user, self.devices[device].token);
        if self.host.propose(user, vec![Op::SessionRevoke { token_hash }]).is_err() {
            // The log does not take it now; nobody was signed out.
            return Ok(());
        }
        self.disturb(Some(device));
        let token = &mut self.devices[device].token;
        token[31] = token[31].wrapping_add(1);
        let token = *token;
        // A full disk in between: they are told to sign in again until they can.
        let _ = self.host.sign_in(user, token);
        self.learn()?;
        self.stir();
        Ok(())
    }

    pub(super) fn crowd(&mut self, room: RoomId, posts: u64) -> Held {
        let by = UserId::from_bytes([9; 16]);
        let ops = (0..posts).map(|number| Op::Post { room, body: format!("{number} of a crowd's {posts}") });
        // Refused by a full disk like anybody's.
        let _ = self.host.propose(by, ops.collect());
        self.learn()?;
        self.after(1, Happening::Hints);
        self.stir();
        Ok(())
    }

    /// Puts an older state of the disk in the place of the newest.
    fn restore(&mut self, records: u64, ms: u64) -> Held {
        self.stop_server(false, Some(ms))?;
        let mut platter = self.host.platter();
        let kept = (platter.records.len() as u64).saturating_sub(records).max(super::host::SETTLED) as usize;
        platter.records.truncate(kept);
        platter.synced = platter.records.len();
        let records = platter.records.clone();
        drop(platter);
        self.signs_in_again = true;
        self.truth.begin_again(&records).map_err(Violation)?;
        self.heads.clear();
        Ok(())
    }

    /// Ends every fault that is still there, but links that are dead stay dead, and a pause of the server runs out.
    pub(super) fn end_all_faults(&mut self) -> Held {
        self.hints_lost_until = self.now;
        self.disk_slow_until = self.now;
        {
            let mut platter = self.host.platter();
            platter.is_full = false;
            platter.fails_next_sync = false;
        }
        self.after(1, Happening::ServerUp);
        self.disturb(None);
        for device in 0..self.devices.len() {
            self.devices[device].thin_until = self.now;
            self.devices[device].keeps = true;
            let life = self.devices[device].life;
            if !self.devices[device].has_network {
                self.plug(device, true)?;
            }
            self.wake(device, life)?;
            self.show_page(device, life)?;
            if self.devices[device].life > 0 {
                self.after(1, Happening::Reopen { device });
            }
            // Whoever was thrown out is let in again.
            if self.host.phase == Phase::Serving {
                let (user, token) = (self.devices[device].user, self.devices[device].token);
                self.host.sign_in(user, token).map_err(Violation)?;
            } else {
                self.signs_in_again = true;
            }
        }
        self.learn()
    }
}
