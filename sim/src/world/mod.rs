//! A world in virtual time: devices with real sessions, links that break, a machine with the real server on it.
//!
//! Lives here: what happens when, and to whom. What must be true of it is in [`crate::check`]; what the plan's acts do in
//! [`acts`]. Must not live here: a decision of the product. Invariant: everything that happens is drawn from the plan, so
//! the same plan gives the same day, to the last byte.

mod acts;
pub(crate) mod device;
pub(crate) mod host;
mod hours;
mod network;
mod people;
mod serving;
mod shown;
mod view;
mod wire;

use std::collections::BTreeMap;

use server::log::GENERAL;
use shared::ids::{Epoch, RoomId, Seq, UserId};
use shared::session::Happened;

use self::device::{Device, Shelf};
use self::host::{Host, Phase};
use self::wire::Link;
use crate::chance::Chance;
use crate::explore::{Choices, Chosen, TOGETHER_MS};
use crate::plan::{DEVICES, KINDS, Plan};
use crate::truth::Truth;

/// Most that may happen in one world, or one hour of a long day; more is a loop that never ends.
const HAPPENINGS: u64 = 400_000;
/// How long the world may take to come to rest once the weather is fair, in milliseconds.
const REST_MS: u64 = 120_000;
/// What a person writes that no server takes.
const POISON: &str = "\u{202e}";

/// Something that happens at a moment.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A device's upgrade request reaches the server's machine.
    Dial {
        link: u64,
    },
    /// Something arrives on a way.
    Up {
        link: u64,
    },
    Down {
        link: u64,
    },
    /// A way carries again.
    Heal {
        link: u64,
        up: bool,
    },
    /// A device's session learns that its socket is gone.
    Closed {
        link: u64,
        code: u16,
        reason: String,
    },
    /// A connection of the server gets its turn.
    Turn {
        link: u64,
    },
    /// The log writes what waits.
    Write,
    /// Hints are given out; the sweep; the roster.
    Hints,
    Sweep {
        start: u64,
    },
    Presence {
        start: u64,
    },
    /// A session's deadline.
    Timer {
        device: usize,
        number: u64,
    },
    /// The oldest write to a device's storage is done.
    Saved {
        device: usize,
        life: u64,
    },
    /// A tab looks for what dead tabs left.
    Adopt {
        device: usize,
        life: u64,
    },
    /// Somebody whose session was stopped signs in again.
    StartOver {
        device: usize,
        life: u64,
    },
    /// A fault is over.
    Wake {
        device: usize,
        life: u64,
    },
    Reopen {
        device: usize,
    },
    Plug {
        device: usize,
        tells: bool,
    },
    Show {
        device: usize,
        life: u64,
    },
    KeepAgain {
        device: usize,
    },
    ServerUp,
    /// The server that was started then ends.
    ServerEnds {
        start: u64,
    },
    DiskRoom,
}

/// How often what happened, over a world.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Happenings.
    pub events: u64,
    /// Acts of each kind that took effect; see [`Act::kind`](crate::plan::Act::kind).
    pub acts: [u64; KINDS],
    /// Posts that are stored at the end of the day.
    pub posts: u64,
    /// Sockets opened.
    pub sockets: u64,
    /// Jumps that were told.
    pub jumps: u64,
    /// Resets that were told.
    pub resets: u64,
    /// Records that a crash found written and not synced.
    pub unsynced: u64,
    /// The longest it took to come to rest, in milliseconds.
    pub longest_rest_ms: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { events: 0, acts: [0; KINDS], posts: 0, sockets: 0, jumps: 0, resets: 0, unsynced: 0, longest_rest_ms: 0 }
    }
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

type Held = Result<(), Violation>;

/// The most there was at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Peak {
    /// Connections of the server.
    connections: usize,
    /// Bytes that waited for one peer.
    queued_bytes: usize,
    /// Posts that one device had not yet sent.
    outbox: usize,
}

/// When something happens, and what.
type Planned = ((u64, u64), Happening);

fn broken(words: impl Into<String>) -> Held {
    Err(Violation(words.into()))
}

/// The world.
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) chance: Chance,
    pub(crate) devices: Vec<Device>,
    host: Host,
    pub(crate) truth: Truth,
    pub(crate) counts: Counts,
    /// What is told of the day, if somebody listens.
    pub(crate) story: Option<Vec<String>>,
    shelves: Vec<Shelf>,
    links: BTreeMap<u64, Link>,
    queue: BTreeMap<(u64, u64), Happening>,
    counter: u64,
    link_counter: u64,
    /// Counts the server's starts: what was planned for an earlier one is void.
    start: u64,
    write_at: Option<u64>,
    hints_lost_until: u64,
    disk_slow_until: u64,
    paused_until: u64,
    /// The last moment something was not as it should be, by device; everybody's faults count for each.
    pub(crate) disturbed_at: Vec<u64>,
    /// Where rooms stood when, lately.
    pub(crate) heads: Vec<(u64, BTreeMap<RoomId, Seq>)>,
    /// A backup was restored that may be older than somebody's sign-in.
    signs_in_again: bool,
    fair: bool,
    seed: u64,
    /// Happenings that may still come before it is a loop, counted from the first.
    happenings: u64,
    /// What was settled has been forgotten: a key may be nobody's.
    pub(crate) forgets: bool,
    /// How many of the newest rows people look at.
    pub(crate) looks_at: usize,
    /// The most there was of what is bounded, since somebody last looked.
    peak: Peak,
    /// Who says what happens next, where it is not the time.
    pub(crate) choices: Option<Choices>,
}

impl World {
    /// Makes a world in which the server runs and everybody's tab has just been opened.
    pub(crate) fn new(seed: u64, tells: bool) -> Result<Self, Violation> {
        let all: Vec<usize> = (0..DEVICES).collect();
        Self::of(seed, &all, tells)
    }

    /// The same, in which only some devices are ever opened.
    pub(crate) fn of(seed: u64, opened: &[usize], tells: bool) -> Result<Self, Violation> {
        let epoch = Epoch::from_bytes([7; 16]);
        let mut world = Self {
            now: 1_000,
            chance: Chance::new(seed),
            devices: (0..DEVICES).map(|number| Device::new(number, seed)).collect(),
            host: Host::new(seed, epoch),
            truth: Truth::new(epoch),
            counts: Counts::default(),
            story: tells.then(Vec::new),
            shelves: vec![Shelf::default(); 3],
            links: BTreeMap::new(),
            queue: BTreeMap::new(),
            counter: 0,
            link_counter: 0,
            start: 0,
            write_at: None,
            hints_lost_until: 0,
            disk_slow_until: 0,
            paused_until: 0,
            disturbed_at: vec![0; DEVICES],
            heads: Vec::new(),
            signs_in_again: false,
            fair: false,
            seed,
            happenings: HAPPENINGS,
            forgets: false,
            looks_at: usize::MAX,
            peak: Peak::default(),
            choices: None,
        };
        world.host.set_now(world.now);
        world.host.start().map_err(Violation)?;
        let mut people: Vec<_> = Vec::new();
        for device in &world.devices {
            people.push((device.user, format!("person{}", device.user.as_bytes()[0]), device.token));
        }
        people.push((UserId::from_bytes([9; 16]), "crowd".to_owned(), [9; 32]));
        host::settle(&mut world.host, &people).map_err(Violation)?;
        world.learn()?;
        world.begin_serving();
        for device in opened {
            world.open_device(*device)?;
        }
        Ok(world)
    }

    // ---- time -----------------------------------------------------------------------------------------------------

    pub(crate) fn after(&mut self, ms: u64, happening: Happening) {
        self.counter += 1;
        // What happens in one millisecond happens in any order.
        let tie = self.chance.below(1 << 20) << 40 | self.counter;
        self.queue.insert((self.now + ms, tie), happening);
    }

    pub(crate) fn tell(&mut self, words: impl FnOnce(&Self) -> String) {
        if self.story.is_some() {
            let line = format!("{:>9} ms  {}", self.now, words(self));
            if let Some(story) = &mut self.story {
                story.push(line);
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, ms: u64) -> Held {
        let end = self.now + ms;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.happen_next()?;
        }
        self.set_now(end);
        Ok(())
    }

    fn set_now(&mut self, now: u64) {
        self.now = self.now.max(now);
        self.host.set_now(self.now);
    }

    fn happen_next(&mut self) -> Held {
        let Some(((at, _), happening)) = self.take_next()? else { return Ok(()) };
        self.set_now(at);
        self.counts.events += 1;
        if self.counts.events > self.happenings {
            return broken("too much happens: something goes round in a circle");
        }
        self.happen(happening)?;
        if std::mem::take(&mut self.host.failed) {
            self.fail();
        }
        self.check_states()
    }

    /// Takes the next happening from the queue, or another that comes together with it if somebody chooses.
    fn take_next(&mut self) -> Result<Option<Planned>, Violation> {
        while let Some(mut choices) = self.choices.take() {
            let first = self.queue.first_key_value().map_or(0, |((at, _), _)| *at);
            let together = self.queue.range(..(first + TOGETHER_MS, 0)).count();
            let chosen = choices.choose(together);
            self.choices = Some(choices);
            match chosen {
                None => break,
                Some(Chosen::Fault(act)) => self.act(act)?,
                Some(Chosen::Next(number)) => {
                    let key = self.queue.keys().nth(number).copied();
                    return Ok(key.and_then(|key| self.queue.remove(&key).map(|happening| (key, happening))));
                }
            }
        }
        Ok(self.queue.pop_first())
    }

    fn happen(&mut self, happening: Happening) -> Held {
        if self.now < self.paused_until
            && matches!(
                happening,
                Happening::Dial { .. }
                    | Happening::Turn { .. }
                    | Happening::Write
                    | Happening::Hints
                    | Happening::Sweep { .. }
                    | Happening::Presence { .. }
            )
        {
            let wait = self.paused_until - self.now + self.chance.below(5);
            if let Happening::Turn { link } = happening {
                self.plan_turn(link, wait);
            } else {
                if matches!(happening, Happening::Write) {
                    self.write_at = Some(self.now + wait);
                }
                self.after(wait, happening);
            }
            return Ok(());
        }
        match happening {
            Happening::Dial { link } => self.dial(link),
            Happening::Up { link } => self.arrive_up(link),
            Happening::Down { link } => self.arrive_down(link)?,
            Happening::Heal { link, up } => self.heal(link, up),
            Happening::Closed { link, code, reason } => self.closed(link, code, reason)?,
            Happening::Turn { link } => self.turn(link)?,
            Happening::Write => self.write()?,
            Happening::Hints => self.hint(),
            Happening::Sweep { start } => self.sweep(start),
            Happening::Presence { start } => self.presence(start),
            Happening::Timer { device, number } => self.timer(device, number)?,
            Happening::Saved { device, life } => self.saved(device, life)?,
            Happening::Adopt { device, life } => self.adopt(device, life)?,
            Happening::StartOver { device, life } => {
                let device = &self.devices[device];
                if device.life == life && device.is_up() {
                    let number = device.number;
                    self.end_life(number, false, 100);
                } else if device.life == life && !device.is_closed() {
                    let device = device.number;
                    self.after(1_000, Happening::StartOver { device, life });
                }
            }
            Happening::Wake { device, life } => self.wake(device, life)?,
            Happening::Reopen { device } => self.open_device(device)?,
            Happening::Plug { device, tells } => self.plug(device, tells)?,
            Happening::Show { device, life } => self.show_page(device, life)?,
            Happening::KeepAgain { device } => self.devices[device].keeps = true,
            Happening::ServerUp => self.server_up()?,
            Happening::ServerEnds { start } => {
                if start == self.start && self.host.phase != Phase::Down {
                    self.stop_server(false, Some(1_000))?;
                }
            }
            Happening::DiskRoom => self.host.platter().is_full = false,
        }
        Ok(())
    }

    /// Notes that something is not as it should be, for one device or all.
    pub(crate) fn disturb(&mut self, device: Option<usize>) {
        match device {
            Some(device) => self.disturbed_at[device] = self.now,
            None => self.disturbed_at.iter_mut().for_each(|at| *at = self.now),
        }
    }

    // ---- the end --------------------------------------------------------------------------------------------------

    /// Lives through a plan, and comes to rest.
    pub(crate) fn live(&mut self, plan: &Plan) -> Held {
        for step in &plan.steps {
            self.run_for(step.after_ms)?;
            self.act(step.act)?;
            if std::mem::take(&mut self.host.failed) {
                self.fail();
            }
            self.check_states()?;
        }
        self.host.failed = false;
        self.come_to_rest()
    }

    /// Ends every fault, waits until all is said and done, and looks at what came of it.
    pub(crate) fn come_to_rest(&mut self) -> Held {
        self.be_fair()?;
        self.rest_and_look()
    }

    /// Waits until all is said and done, and looks at what came of it.
    pub(crate) fn rest_and_look(&mut self) -> Held {
        self.rest()?;
        self.counts.posts = self.truth.now().posts();
        crate::check::at_rest(self)
    }

    /// Ends every fault.
    pub(crate) fn be_fair(&mut self) -> Held {
        self.tell(|_| "the weather is fair from here on".to_owned());
        self.fair = true;
        self.end_all_faults()
    }

    /// Waits until all is said and done.
    fn rest(&mut self) -> Held {
        let (began, end) = (self.now, self.now + REST_MS);
        while !crate::check::is_at_rest(self) {
            if self.now > end || self.queue.is_empty() {
                let why = crate::check::awaited(self).unwrap_or_default();
                return broken(format!("it does not come to rest within {REST_MS} ms: {why}"));
            }
            self.happen_next()?;
        }
        self.counts.longest_rest_ms = self.counts.longest_rest_ms.max(self.now - began);
        Ok(())
    }

    fn check_states(&self) -> Held {
        crate::check::states(self)
    }
}

/// Returns what a room is called in a story.
fn name_of(room: RoomId) -> &'static str {
    if room == GENERAL { "general" } else { "aside" }
}

fn short(what: &Happened) -> String {
    let mut words = format!("{what:?}");
    words.truncate(words.floor_char_boundary(160));
    words
}
