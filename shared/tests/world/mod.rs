//! A small world: devices with real sessions and timelines, a link that breaks, a server of one room, virtual time.
//!
//! Must not live here: what must be true of it (the tests say that). Invariant: everything that happens is drawn from the
//! seed and the plan, so the same two give the same day.

mod server;

use std::collections::BTreeMap;

use server::{Conn, Server, Verdict};
use shared::close;
use shared::error::{ErrorCode, WireError};
use shared::ids::{AttemptId, ClientId, Seq, SessionId, UserId};
use shared::message::{Command as WireCommand, Draining, Event, History, Message, Reply};
use shared::session::{
    Command, ConnectionState, Input, OutboxItem, Output, Persist, RequestTag, SendOp, Session, SessionConfig,
    SessionEvent,
};
use shared::time::Timestamp;
use shared::timeline::{Row, Timeline};

use super::common::{Deed, client_id, room, user};

pub(crate) const DEVICES: usize = 3;
/// What a person writes that no server takes.
pub(crate) const POISON: &str = "poison";

/// What goes wrong, or happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Somebody writes on a device.
    Write(usize),
    /// Somebody pastes so many posts at once.
    Burst(usize, u64),
    /// Somebody edits a post of theirs.
    Change(usize, usize),
    /// Others do so many things.
    Others(u64),
    /// The connection breaks, noticed by both ends at different times.
    Cut(usize),
    /// The connection swallows everything, upwards or both ways, and says nothing.
    BlackHole(usize, bool),
    /// The server is killed and comes back after so many milliseconds.
    Kill(u64),
    /// The same, with a goodbye.
    Drain(u64),
    /// The device is offline for so long.
    Offline(usize, u64),
    /// The page dies with what it had not saved, and is opened again.
    Crash(usize),
    /// The device sleeps.
    Sleep(usize, u64),
    /// The server answers slowly for so long.
    Slow(u64),
    /// The server refuses for so long, in a way that passes.
    Refuse(u64),
    /// The last event arrives again.
    Again(usize),
    /// Somebody writes what will be refused for good.
    Poison(usize),
    /// The server is restored from a backup that lacks so many of the last changes.
    Restore(u64),
}

impl Fault {
    /// The device it happens on.
    const fn device(self) -> Option<usize> {
        match self {
            Self::Write(device)
            | Self::Burst(device, _)
            | Self::Change(device, _)
            | Self::Cut(device)
            | Self::BlackHole(device, _)
            | Self::Offline(device, _)
            | Self::Crash(device)
            | Self::Sleep(device, _)
            | Self::Again(device)
            | Self::Poison(device) => Some(device),
            Self::Others(_) | Self::Kill(_) | Self::Drain(_) | Self::Slow(_) | Self::Refuse(_) | Self::Restore(_) => {
                None
            }
        }
    }
}

enum Happening {
    Opens { device: usize, life: u64, attempt: AttemptId },
    ToServer { link: Link, text: String },
    ToDevice { link: Link, text: String },
    DeviceHears { link: Link, code: u16 },
    ServerHears { link: Link },
    Saved { device: usize, life: u64, serial: u64, change: Persist },
    Online { device: usize },
    Wakes { device: usize },
    ServerUp,
}

impl Happening {
    /// The device that must be awake for it.
    const fn device(&self) -> Option<usize> {
        match self {
            Self::Opens { device, .. } | Self::Saved { device, .. } | Self::Online { device } => Some(*device),
            Self::ToDevice { link, .. } | Self::DeviceHears { link, .. } => Some(link.device),
            Self::ToServer { .. } | Self::ServerHears { .. } | Self::Wakes { .. } | Self::ServerUp => None,
        }
    }
}

/// One attempt of one life of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    device: usize,
    life: u64,
    attempt: AttemptId,
}

/// What a link does to what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Fair,
    SwallowsUp,
    SwallowsAll,
}

struct Wire {
    weather: Weather,
    /// When the last message of each direction arrives: order is kept.
    up_at: u64,
    down_at: u64,
    device_deaf: bool,
}

/// One device, its page and its disk.
pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) session: Session,
    pub(crate) timeline: Timeline,
    /// What was written, in order, on all its lives.
    pub(crate) written: Vec<ClientId>,
    pub(crate) poison: Vec<ClientId>,
    /// What the person was told is saved.
    pub(crate) saved: Vec<ClientId>,
    pub(crate) acked: Vec<(ClientId, Seq)>,
    /// Events given to the page in this life and since the last snapshot.
    pub(crate) delivered: Vec<Seq>,
    /// The room's head when the server last welcomed it.
    pub(crate) goal: Seq,
    pub(crate) attempts: u64,
    disk: BTreeMap<ClientId, OutboxItem>,
    life: u64,
    asked: Option<Seq>,
    asleep: bool,
    held: Vec<Happening>,
}

pub(crate) struct World {
    pub(crate) devices: Vec<Device>,
    pub(crate) server: Server,
    pub(crate) now: u64,
    happenings: BTreeMap<(u64, u64), Happening>,
    counter: u64,
    wires: BTreeMap<Link, Wire>,
    slow_until: u64,
    chance: u64,
    fair: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let devices = (0..DEVICES).map(|number| Device::new(number, seed)).collect();
        let mut world = Self {
            devices,
            server: Server::default(),
            now: 1_000,
            happenings: BTreeMap::new(),
            counter: 0,
            wires: BTreeMap::new(),
            slow_until: 0,
            chance: seed | 1,
            fair: false,
        };
        (0..DEVICES).for_each(|device| world.start(device));
        world
    }

    /// A number from zero up to `below`, from the seed.
    fn draw(&mut self, below: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % below.max(1)
    }

    fn after(&mut self, ms: u64, happening: Happening) {
        self.counter += 1;
        self.happenings.insert((self.now + ms, self.counter), happening);
    }

    // ---- time -----------------------------------------------------------------------------------------------------

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, ms: u64) {
        let end = self.now + ms;
        loop {
            let happens = self.happenings.first_key_value().map(|((at, _), _)| *at);
            let due = (0..DEVICES).filter(|device| !self.devices[*device].asleep).filter_map(|device| {
                self.devices[device].session.next_deadline().map(|(at, _)| (at.0.max(self.now), device))
            });
            let due = due.min();
            match (happens, due) {
                (Some(at), due) if at <= end && due.is_none_or(|(deadline, _)| at <= deadline) => {
                    self.now = self.now.max(at);
                    let (_, happening) = self.happenings.pop_first().expect("it was just seen");
                    self.happen(happening);
                }
                (_, Some((at, device))) if at <= end => {
                    // A deadline that is due at once must move on, or time would stand still.
                    self.now = self.now.max(at);
                    self.input(device, Input::DeadlineReached);
                    let next = self.devices[device].session.next_deadline();
                    assert!(
                        next.is_none_or(|(next, _)| next.0 > self.now),
                        "a deadline that does not move on: {next:?}"
                    );
                }
                (_, _) => break,
            }
        }
        self.now = end;
    }

    fn happen(&mut self, happening: Happening) {
        let asleep = happening.device().filter(|device| self.devices[*device].asleep);
        if let Some(device) = asleep {
            // A machine that sleeps hears of it when it wakes.
            return self.devices[device].held.push(happening);
        }
        match happening {
            Happening::Opens { device, life, attempt } => self.open(Link { device, life, attempt }),
            Happening::ToServer { link, text } => {
                if self.server.conns.contains_key(&link) {
                    self.serve(link, &text);
                }
            }
            Happening::ToDevice { link, text } => {
                let carries = self.wires.get(&link).is_some_and(|wire| !wire.device_deaf);
                if carries && self.is_current(link) {
                    self.input(link.device, Input::Received { attempt: link.attempt, text });
                }
            }
            Happening::DeviceHears { link, code } => {
                if let Some(wire) = self.wires.get_mut(&link)
                    && !wire.device_deaf
                {
                    wire.device_deaf = true;
                    if self.is_current(link) {
                        let reason = String::new();
                        self.input(link.device, Input::Closed { attempt: link.attempt, code, reason });
                    }
                }
            }
            Happening::ServerHears { link } => drop(self.server.conns.remove(&link)),
            Happening::Saved { device, life, serial, change } => {
                if self.devices[device].life == life {
                    match change {
                        Persist::Put(item) => drop(self.devices[device].disk.insert(item.client_id, item)),
                        Persist::Remove(key) => drop(self.devices[device].disk.remove(&key)),
                    }
                    self.input(device, Input::Persisted { serial, ok: true });
                }
            }
            Happening::Online { device } => self.input(device, Input::Online(true)),
            Happening::Wakes { device } => {
                self.devices[device].asleep = false;
                self.input(device, Input::Woke);
                for happening in std::mem::take(&mut self.devices[device].held) {
                    self.after(1, happening);
                }
            }
            Happening::ServerUp => self.server.up = true,
        }
    }

    fn is_current(&self, link: Link) -> bool {
        self.devices[link.device].life == link.life
    }

    // ---- the link -------------------------------------------------------------------------------------------------

    fn open(&mut self, link: Link) {
        let (up_at, down_at) = (self.now, self.now);
        self.wires.insert(link, Wire { weather: Weather::Fair, up_at, down_at, device_deaf: false });
        if !self.server.up {
            return self.after(5, Happening::DeviceHears { link, code: close::ABNORMAL });
        }
        self.server.conns.insert(link, Conn::new(self.devices[link.device].user));
        if self.is_current(link) {
            self.input(link.device, Input::Opened { attempt: link.attempt });
        }
    }

    fn carry_up(&mut self, link: Link, text: String) {
        let delay = 1 + self.draw(60);
        let Some(wire) = self.wires.get_mut(&link) else { return };
        if wire.weather != Weather::Fair || wire.device_deaf {
            return;
        }
        wire.up_at = wire.up_at.max(self.now + delay);
        let wait = wire.up_at - self.now;
        self.after(wait, Happening::ToServer { link, text });
    }

    fn carry_down(&mut self, link: Link, message: &Message) {
        let slow = if self.now < self.slow_until { 1_000 + self.draw(7_000) } else { 0 };
        let delay = 1 + self.draw(60) + slow;
        let Some(wire) = self.wires.get_mut(&link) else { return };
        if wire.weather == Weather::SwallowsAll {
            return;
        }
        wire.down_at = wire.down_at.max(self.now + delay);
        let wait = wire.down_at - self.now;
        self.after(wait, Happening::ToDevice { link, text: message.to_json() });
    }

    /// The link is gone; each end notices in its own time, and what was on its way until then arrives.
    fn cut(&mut self, link: Link, code: u16) {
        let (device_notices, server_notices) = (self.draw(80), self.draw(80));
        self.after(device_notices, Happening::DeviceHears { link, code });
        self.after(server_notices, Happening::ServerHears { link });
    }

    fn links(&self, device: usize) -> Vec<Link> {
        self.server.conns.keys().copied().filter(|link| link.device == device).collect()
    }

    // ---- the server -----------------------------------------------------------------------------------------------

    fn serve(&mut self, link: Link, text: &str) {
        let refuse = self.now < self.server.refuse_until && self.draw(2) == 0;
        let head = self.server.room.head();
        let answers = match self.server.take(link, text, refuse, self.now) {
            Verdict::Answer(answers) => answers,
            Verdict::Close(code) => {
                self.server.conns.remove(&link);
                return self.after(1, Happening::DeviceHears { link, code });
            }
        };
        for answer in &answers {
            if matches!(answer.body, shared::message::Body::Reply(Reply::Welcome(_))) && self.is_current(link) {
                self.devices[link.device].goal = head;
            }
            self.carry_down(link, answer);
        }
        self.publish();
    }

    /// Gives every follower what it has not been given.
    fn publish(&mut self) {
        for (link, events) in self.server.undelivered() {
            for event in events {
                self.carry_down(link, &Message::event(Event::Room(event)));
            }
        }
    }

    // ---- the devices ----------------------------------------------------------------------------------------------

    fn start(&mut self, device: usize) {
        let items: Vec<OutboxItem> = self.devices[device].disk.values().cloned().collect();
        if !items.is_empty() {
            self.input(device, Input::Restored { items });
        }
        self.input(device, Input::Command(Command::Open { room: room(), cursor: None, replay: false }));
        self.input(device, Input::Command(Command::Start));
    }

    fn input(&mut self, number: usize, input: Input) {
        let outputs = self.devices[number].session.handle(input, Timestamp(self.now));
        let life = self.devices[number].life;
        for output in outputs {
            match output {
                Output::Open { attempt } => {
                    self.devices[number].attempts += 1;
                    let wait = 1 + self.draw(50);
                    self.after(wait, Happening::Opens { device: number, life, attempt });
                }
                Output::Send { attempt, text } => self.carry_up(Link { device: number, life, attempt }, text),
                Output::Close { attempt, code, .. } => {
                    let link = Link { device: number, life, attempt };
                    self.after(1, Happening::DeviceHears { link, code });
                    self.after(40, Happening::ServerHears { link });
                }
                Output::Persist { serial, change } => {
                    let wait = 5;
                    self.after(wait, Happening::Saved { device: number, life, serial, change });
                }
                Output::Event(event) => self.devices[number].show(event),
            }
        }
        self.read_on(number);
    }

    /// The person looks at everything, once the weather is fair.
    fn read_on(&mut self, number: usize) {
        let device = &mut self.devices[number];
        let live = device.session.state() == ConnectionState::Live;
        if self.fair && live && device.asked.is_none() {
            device.asked = device.timeline.needed(0, device.timeline.len());
            if let Some(before) = device.asked {
                let command = WireCommand::History(History { room: room(), before, limit: None });
                self.input(number, Input::Command(Command::Request { tag: RequestTag(before.0), command }));
            }
        }
    }

    fn write(&mut self, number: usize, op: SendOp) {
        let device = &mut self.devices[number];
        let key = client_id(1_000_000 * (number as u64 + 1) + device.written.len() as u64);
        device.written.push(key);
        if matches!(&op, SendOp::Post { body } if body == POISON) {
            device.poison.push(key);
        }
        let at = Timestamp(self.now);
        self.input(number, Input::Command(Command::Send { client_id: key, room: room(), op, at }));
    }

    // ---- faults ---------------------------------------------------------------------------------------------------

    pub(crate) fn strike(&mut self, fault: Fault) {
        if fault.device().is_some_and(|device| self.devices[device].asleep) {
            return;
        }
        match fault {
            Fault::Write(device) => {
                let body = format!("written on {device} at {}", self.now);
                self.write(device, SendOp::Post { body });
            }
            Fault::Burst(device, count) => {
                for number in 0..count {
                    self.write(device, SendOp::Post { body: format!("{number} of {count} at {}", self.now) });
                }
            }
            Fault::Poison(device) => self.write(device, SendOp::Post { body: POISON.to_owned() }),
            Fault::Change(device, row) => {
                let (timeline, me) = (&self.devices[device].timeline, self.devices[device].user);
                let mine = |row: Row| row.as_post().filter(|row| row.by == me && !row.is_deleted())?.seq;
                let mine: Vec<Seq> = timeline.rows().filter_map(mine).collect();
                if let Some(post) = mine.get(row % mine.len().max(1)).copied() {
                    let body = format!("edited on {device} at {}", self.now);
                    self.write(device, SendOp::Edit { post, body });
                }
            }
            Fault::Others(count) => {
                for _ in 0..count {
                    let (by, pick) = (7 + self.draw(3) as u8, self.draw(1_000) as usize);
                    let deed = match self.draw(8) {
                        0 => Deed::React(pick, 0, true),
                        1 => Deed::Rename,
                        _ => Deed::Post,
                    };
                    self.server.room.act(user(by), deed);
                }
                self.publish();
            }
            Fault::Cut(device) => self.links(device).into_iter().for_each(|link| self.cut(link, close::ABNORMAL)),
            Fault::BlackHole(device, both_ways) => {
                let weather = if both_ways { Weather::SwallowsAll } else { Weather::SwallowsUp };
                for link in self.links(device) {
                    if let Some(wire) = self.wires.get_mut(&link) {
                        wire.weather = weather;
                    }
                }
            }
            Fault::Kill(ms) | Fault::Drain(ms) => {
                let links: Vec<Link> = self.server.conns.keys().copied().collect();
                let said = matches!(fault, Fault::Drain(_));
                for link in links {
                    if said {
                        let reconnect_after_ms = self.draw(2_000);
                        self.carry_down(link, &Message::event(Event::Draining(Draining { reconnect_after_ms })));
                    }
                    self.cut(link, if said { close::RESTART } else { close::ABNORMAL });
                    self.server.conns.remove(&link);
                }
                self.server.up = false;
                self.after(ms, Happening::ServerUp);
            }
            Fault::Offline(device, ms) => {
                self.input(device, Input::Online(false));
                self.after(ms, Happening::Online { device });
            }
            Fault::Crash(device) => {
                self.links(device).into_iter().for_each(|link| self.cut(link, close::ABNORMAL));
                self.devices[device].begin_life(device, self.chance);
                self.start(device);
            }
            Fault::Sleep(device, ms) => {
                self.devices[device].asleep = true;
                self.after(ms, Happening::Wakes { device });
            }
            Fault::Restore(changes) => {
                self.strike(Fault::Kill(1_000));
                // What was acknowledged and is not in the backup is lost with it, and nobody can bring it back.
                let kept = Seq(self.server.room.head().0.saturating_sub(changes));
                self.server.rewind(kept);
            }
            Fault::Slow(ms) => self.slow_until = self.now + ms,
            Fault::Refuse(ms) => self.server.refuse_until = self.now + ms,
            Fault::Again(device) => {
                let Some(last) = self.server.room.events.last().cloned() else { return };
                let mut links = self.links(device);
                links.retain(|link| self.server.is_following(*link));
                for link in links {
                    self.carry_down(link, &Message::event(Event::Room(last.clone())));
                }
            }
        }
    }

    /// Ends every fault and lets the world come to rest by itself.
    pub(crate) fn clear_up(&mut self) {
        self.server.refuse_until = 0;
        self.slow_until = 0;
        self.fair = true;
        // The longest sleep, then the longest heartbeat, backoff and resend after it.
        self.run_for(610_000);
        self.run_for(300_000);
    }
}

impl Device {
    fn new(number: usize, seed: u64) -> Self {
        let user = user(number as u8 + 1);
        Self {
            user,
            session: Session::new(config(user, number, 0, seed)),
            timeline: Timeline::new(user),
            written: Vec::new(),
            poison: Vec::new(),
            saved: Vec::new(),
            acked: Vec::new(),
            delivered: Vec::new(),
            goal: Seq(0),
            attempts: 0,
            disk: BTreeMap::new(),
            life: 0,
            asked: None,
            asleep: false,
            held: Vec::new(),
        }
    }

    fn begin_life(&mut self, number: usize, seed: u64) {
        self.life += 1;
        self.session = Session::new(config(self.user, number, self.life, seed));
        self.timeline = Timeline::new(self.user);
        self.delivered.clear();
        self.goal = Seq(0);
        self.asked = None;
    }

    fn show(&mut self, event: SessionEvent) {
        let timeline = &mut self.timeline;
        match event {
            SessionEvent::Opened(opened) => {
                timeline.opened(&opened);
                self.delivered.clear();
            }
            SessionEvent::Room(event) => {
                timeline.event(&event);
                self.delivered.push(event.seq);
            }
            SessionEvent::Queued(item) => timeline.queued(&item),
            SessionEvent::Saved(key) => {
                timeline.saved(key);
                self.saved.push(key);
            }
            SessionEvent::Sending(key) => timeline.sending(key),
            SessionEvent::Interrupted(key) => timeline.interrupted(key),
            SessionEvent::Acked(ack) => {
                timeline.acked(&ack);
                self.acked.push((ack.client_id, ack.seq));
            }
            SessionEvent::Refused { client_id, error } => timeline.refused(client_id, &error),
            SessionEvent::Discarded(key) => timeline.discarded(key),
            SessionEvent::Answer { tag, result } => {
                self.asked = None;
                if let Ok(Reply::History(page)) = result {
                    timeline.history(&page, Seq(tag.0));
                }
            }
            _ => {}
        }
    }
}

fn config(user: UserId, number: usize, life: u64, seed: u64) -> SessionConfig {
    let mut session = [number as u8; 16];
    session[8..].copy_from_slice(&life.to_be_bytes());
    SessionConfig {
        client: "a test".to_owned(),
        session: SessionId::from_bytes(session),
        user,
        seed: seed.wrapping_add(number as u64).wrapping_add(life),
        hidden: false,
        online: true,
    }
}

/// A refusal that passes.
fn refusal() -> WireError {
    WireError::new(ErrorCode::RateLimited, "Too fast.").retry_after(300)
}
