//! The numbers of sends between a session and a server that refuses at random: nothing overtakes, and nothing waits for ever.
//!
//! Must not live here: single cases (`sending`). Invariant: the server here keeps its mark as `server/src/connection/sends.rs`
//! does, and says everything in the order in which it decided it.

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::device::Device;
use common::{Room, client_id, room, user};
use shared::chance::SplitMix64;
use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, RequestId, Seq};
use shared::message::{Ack, BeatAnswer, Body, Command as WireCommand, Event, Message, Reply};
use shared::session::Deadline;
use shared::time::Timestamp;

/// Walks in the ordinary test.
const WALKS: u64 = 3_000;
/// Posts of a walk.
const POSTS: u64 = 8;
/// Steps in which anything may be refused; then the server takes all, and everything must come to an end.
const WILD_STEPS: u64 = 150;
const STEPS: u64 = 3_000;

struct Walk {
    chance: SplitMix64,
    device: Device,
    model: Room,
    written: u64,
    up: VecDeque<Message>,
    down: VecDeque<Message>,
    queue: VecDeque<(RequestId, u64, ClientId)>,
    in_flight: Option<(RequestId, ClientId)>,
    waits_for: Option<u64>,
    /// Stored, by key, with its place.
    stored: BTreeMap<ClientId, Seq>,
    /// Events of what was stored on an earlier connection, which come as the room is caught up with.
    owed: VecDeque<Seq>,
    refused_for_good: BTreeSet<ClientId>,
    is_wild: bool,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let model = Room::default();
        let device = Device::live(&model);
        let mut walk = Self {
            chance: SplitMix64::new(seed),
            device,
            model,
            written: 0,
            up: VecDeque::new(),
            down: VecDeque::new(),
            queue: VecDeque::new(),
            in_flight: None,
            waits_for: None,
            stored: BTreeMap::new(),
            owed: VecDeque::new(),
            refused_for_good: BTreeSet::new(),
            is_wild: true,
        };
        for key in 1..=walk.chance.below(4) {
            let seq = walk.model.post(user(1), client_id(key), &format!("post {key}"));
            walk.stored.insert(client_id(key), seq);
            walk.owed.push_back(seq);
        }
        walk
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.is_wild && self.chance.below(times) == 0
    }

    fn step(&mut self) {
        match self.chance.below(8) {
            0 if self.written < POSTS => {
                self.written += 1;
                let sent = self.device.queue(self.written);
                self.up.extend(sent);
            }
            1 | 2 => self.arrive(),
            3 => self.judge(),
            4 => self.finish(),
            5 => self.catch_up(),
            6 if self.device.session.next_deadline().is_some_and(|(_, why)| why == Deadline::Resend) => {
                self.pass_time()
            }
            _ => self.deliver(),
        }
        if self.is_quiet() {
            self.pass_time();
        }
    }

    fn is_quiet(&self) -> bool {
        self.up.is_empty() && self.down.is_empty() && self.queue.is_empty() && self.in_flight.is_none()
    }

    fn pass_time(&mut self) {
        let sent = self.device.wait();
        self.up.extend(sent);
    }

    fn deliver(&mut self) {
        let Some(message) = self.down.pop_front() else { return };
        let sent = self.device.hear(&message);
        self.up.extend(sent);
    }

    fn arrive(&mut self) {
        let Some(message) = self.up.pop_front() else { return };
        match (message.body, message.id) {
            (Body::Command(WireCommand::Post(post)), Some(id)) => {
                let n = post.n.unwrap();
                if self.once_in(6) {
                    // Too many messages: refused at once, past all that waits.
                    self.refuse(id, n, ErrorCode::RateLimited);
                } else {
                    self.queue.push_back((id, n, post.client_id));
                }
            }
            (Body::Command(WireCommand::Beat(_)), Some(id)) => {
                let answer = BeatAnswer { now: Timestamp(0), reconnect_spread_ms: 0 };
                self.down.push_back(Message::reply(Some(id), Reply::Beat(answer)));
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    fn refuse(&mut self, id: RequestId, n: u64, code: ErrorCode) {
        let error = WireError::new(code, "Not now.").retry_after(200);
        self.waits_for = Some(self.waits_for.map_or(n, |first| first.min(n)));
        self.down.push_back(Message::refusal(Some(id), error));
    }

    fn judge(&mut self) {
        if self.in_flight.is_some() {
            return;
        }
        let Some((id, n, key)) = self.queue.pop_front() else { return };
        match self.waits_for {
            Some(first) if n > first => {
                self.down.push_back(Message::refusal(Some(id), WireError::new(ErrorCode::Behind, "Behind.")));
                return;
            }
            Some(first) if n == first => self.waits_for = None,
            _ => {}
        }
        if self.once_in(4) {
            let code = if self.once_in(4) { ErrorCode::Internal } else { ErrorCode::RateLimited };
            self.refuse(id, n, code);
        } else if self.once_in(12) && !self.stored.contains_key(&key) {
            self.refused_for_good.insert(key);
            self.down.push_back(Message::refusal(Some(id), WireError::new(ErrorCode::NotMember, "Not a member.")));
        } else {
            self.in_flight = Some((id, key));
        }
    }

    fn finish(&mut self) {
        let Some((id, key)) = self.in_flight.take() else { return };
        let (seq, duplicate) = match self.stored.get(&key) {
            Some(seq) => (*seq, true),
            None => {
                while !self.owed.is_empty() {
                    self.catch_up();
                }
                let seq = self.model.post(user(1), key, "post");
                let above = self.stored.keys().find(|other| **other > key);
                assert_eq!(above, None, "{key} was overtaken");
                self.stored.insert(key, seq);
                (seq, false)
            }
        };
        let ack = Ack { client_id: key, room: room(), seq, ts: Timestamp(0), duplicate };
        let ack = Message::reply(Some(id), Reply::Ack(ack));
        let event = (!duplicate).then(|| Message::event(Event::Room(self.model.event(seq).clone())));
        if self.chance.below(2) == 0 {
            self.down.extend(event);
            self.down.push_back(ack);
        } else {
            self.down.push_back(ack);
            self.down.extend(event);
        }
    }

    fn catch_up(&mut self) {
        if let Some(seq) = self.owed.pop_front() {
            self.down.push_back(Message::event(Event::Room(self.model.event(seq).clone())));
        }
    }

    fn is_over(&self) -> bool {
        self.written == POSTS && self.device.session.outbox().all(|item| item.refused.is_some())
    }
}

#[test]
fn whatever_is_refused_nothing_overtakes_and_nothing_waits_for_ever() {
    let first = std::env::var("HOLDFAST_SEED").map_or(0, |seed| seed.parse().expect("HOLDFAST_SEED is a number"));
    for seed in first..first + WALKS {
        println!("HOLDFAST_SEED={seed}");
        let mut walk = Walk::new(seed);
        let mut steps = 0;
        while !walk.is_over() {
            walk.is_wild = steps < WILD_STEPS;
            walk.step();
            steps += 1;
            let (mark, unsent) = (walk.waits_for, walk.device.session.outbox().count());
            assert!(steps < STEPS, "the server waits for {mark:?}, and {unsent} are unsent");
        }
        for key in (1..=POSTS).map(client_id) {
            let is_parked = walk.device.session.outbox().any(|item| item.client_id == key);
            assert!(walk.stored.contains_key(&key) || is_parked, "{key} is lost");
        }
    }
}
