//! A crowd that comes and goes: people sign in, join, read, post, leave in order or not, and come again.
//!
//! Must not live here: what is measured meanwhile, or how long it lasts. Invariant: whatever one of them was acknowledged
//! and whatever they showed wrongly is kept, also of those who were killed, and what a killed one had not sent is sent by
//! the next one on the same device; so at the end everything that was ever posted must be stored, once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::close::StopReason;
use shared::ids::{ClientId, RoomId, Seq, SessionId};
use shared::message::{Command, History, ListPeople, Membership};
use shared::session::{ConnectionState, Input, OutboxItem};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::campaign::Dice;
use crate::client::new_id;
use crate::crew::PATIENCE;
use crate::device::{Manner, Seen};
use crate::{Client, Device, Http, SignedIn};

/// Nobody stays shorter than this, in milliseconds.
const SHORTEST_MS: u64 = 300;
/// A device is off for at most this part of the longest stay before it comes again.
const AWAY_PART: u64 = 12;
/// One in so many who come is somebody new.
const NEW_ONE_IN: u64 = 4;
/// How long somebody who never answers is waited for. The server's own deadline is 28 s.
const SILENCE: Duration = Duration::from_secs(45);
/// A post as people write them, in bytes.
const POST_BYTES: usize = 120;

/// How somebody goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    /// Closes the socket in order.
    InOrder,
    /// The process is killed; the kernel closes the socket.
    Killed,
    /// The machine goes; the socket is reset.
    Reset,
    /// The same running client connects anew while the old socket stands.
    Replaced,
}

const GOINGS: [Going; 4] = [Going::InOrder, Going::Killed, Going::Reset, Going::Replaced];

/// The crowd.
#[derive(Debug)]
pub struct Churn {
    address: SocketAddr,
    rooms: Vec<RoomId>,
    longest_ms: u64,
    is_over: watch::Receiver<bool>,
    kept: Mutex<Kept>,
    counts: [AtomicU64; GOINGS.len()],
    new_people: AtomicU64,
    signed_out: AtomicU64,
    silent: AtomicU64,
}

/// What is judged at the end.
#[derive(Debug, Default)]
pub struct Kept {
    /// What was acknowledged, by room.
    pub acked: BTreeMap<RoomId, Vec<(ClientId, u64)>>,
    /// What was shown and must never be.
    pub faults: Vec<String>,
    /// How many posts were taken into an outbox; what a device is told in its last moment may not be.
    pub taken: usize,
}

/// One device of the crowd, on or off.
struct Place {
    number: usize,
    room: RoomId,
    who: SignedIn,
    disk: BTreeMap<ClientId, OutboxItem>,
    dice: Dice,
}

impl Churn {
    /// Makes a crowd for a server and some of its rooms. Nobody stays longer than `longest_ms`, and all go home once
    /// `is_over` says so.
    #[must_use]
    pub fn new(address: SocketAddr, rooms: Vec<RoomId>, longest_ms: u64, is_over: watch::Receiver<bool>) -> Self {
        Self {
            address,
            rooms,
            longest_ms,
            is_over,
            kept: Mutex::default(),
            counts: Default::default(),
            new_people: AtomicU64::new(0),
            signed_out: AtomicU64::new(0),
            silent: AtomicU64::new(0),
        }
    }

    /// Lives the life of one device until the crowd goes home. What it has not sent by then, it sends first.
    ///
    /// # Panics
    /// If it is refused, or does not become live in time.
    pub async fn live(&self, number: usize, mut dice: Dice) {
        // People do not all come in the same moment; what happens then is another test.
        self.rest(dice.below(self.longest_ms / AWAY_PART)).await;
        let room = self.rooms[number % self.rooms.len()];
        let who = self.enter(number, room).await;
        let mut place = Place { number, room, who, disk: BTreeMap::new(), dice };
        while !self.rest(place.dice.below(self.longest_ms / AWAY_PART)).await {
            self.visit(&mut place).await;
            if place.disk.is_empty() && place.dice.below(NEW_ONE_IN) == 0 {
                self.be_somebody_else(&mut place).await;
            }
        }
        if !place.disk.is_empty() {
            let device = Device::start(self.address, &place.who, place.room, std::mem::take(&mut place.disk));
            device.wait_live(PATIENCE).await;
            device.wait_settled(PATIENCE).await;
            self.keep(place.number, place.room, &device.crash().await);
        }
    }

    /// Connects, says hello, opens the first room and then never reads or says anything, again and again.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn fall_silent(&self, number: usize) {
        let who = self.sign_in(&format!("Silent {number}")).await;
        loop {
            let (client, ..) = Client::join_general(self.address, &who.token).await;
            self.silent.fetch_add(1, Ordering::Relaxed);
            let is_over = self.rest(u64::try_from(SILENCE.as_millis()).expect("short")).await;
            drop(client);
            if is_over {
                return;
            }
        }
    }

    /// Returns what was kept, and a line about what happened.
    ///
    /// # Panics
    /// If somebody of the crowd did.
    #[must_use]
    pub fn into_kept(self) -> (Kept, String) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [in_order, killed, reset, replaced] = self.counts.each_ref().map(count);
        let words = format!(
            "{} visits: {in_order} ended in order, {killed} killed, {reset} reset, {replaced} replaced; {} fell silent; \
             {} people signed in, {} signed out",
            in_order + killed + reset + replaced,
            count(&self.silent),
            count(&self.new_people),
            count(&self.signed_out),
        );
        (self.kept.into_inner().expect("nobody panicked"), words)
    }

    /// One visit of a device, from switching it on to the way it goes.
    async fn visit(&self, place: &mut Place) {
        let going = GOINGS[usize::try_from(place.dice.below(GOINGS.len() as u64)).expect("few")];
        let manner = Manner { resets: going == Going::Reset, ..Manner::default() };
        let disk = std::mem::take(&mut place.disk);
        let device = Device::start_as(manner, self.address, &place.who, place.room, disk);
        device.wait_live(PATIENCE).await;
        self.post(&device).await;
        self.rest(SHORTEST_MS + place.dice.below(self.longest_ms)).await;
        // The last one is often on its way when the device goes.
        self.post(&device).await;
        let seen = match going {
            Going::InOrder => {
                device.wait_settled(PATIENCE).await;
                device.tell(Input::Command(shared::session::Command::Stop)).await;
                let is_off =
                    |seen: &Seen| seen.state == Some(ConnectionState::Idle) && seen.closed >= seen.opened.len();
                device.wait("the device has closed its sockets", PATIENCE, is_off).await;
                device.crash().await
            }
            Going::Killed | Going::Reset => device.crash().await,
            Going::Replaced => {
                device.wait_settled(PATIENCE).await;
                self.replace(manner.session, place, &device).await;
                device.crash().await
            }
        };
        self.counts[GOINGS.iter().position(|known| *known == going).expect("one of them")]
            .fetch_add(1, Ordering::Relaxed);
        self.keep(place.number, place.room, &seen);
        place.disk = seen.disk;
    }

    /// Connects as the same running client, and waits until the old one has learnt of it.
    async fn replace(&self, session: SessionId, place: &Place, old: &Device) {
        let manner = Manner { session, ..Manner::default() };
        let new = Device::start_as(manner, self.address, &place.who, place.room, BTreeMap::new());
        new.wait_live(PATIENCE).await;
        let is_superseded = |seen: &Seen| seen.state == Some(ConnectionState::Stopped(StopReason::Superseded));
        old.wait("the old socket is superseded", PATIENCE, is_superseded).await;
        self.keep(place.number, place.room, &new.crash().await);
    }

    /// Writes something.
    pub async fn post(&self, device: &Device) {
        let mut body = format!("{} ", new_id());
        body.extend(std::iter::repeat_n('x', POST_BYTES.saturating_sub(body.len())));
        device.post(&body).await;
    }

    fn keep(&self, number: usize, room: RoomId, seen: &Seen) {
        let mut kept = self.kept.lock().expect("nobody panicked");
        kept.acked.entry(room).or_default().extend(&seen.acked);
        kept.taken += seen.taken;
        kept.faults.extend(seen.faults.iter().map(|fault| format!("device {number}: {fault}")));
    }

    /// Ends a session, or forgets it as who loses a phone does, and comes as somebody new.
    async fn be_somebody_else(&self, place: &mut Place) {
        if place.dice.below(2) == 0 {
            let (address, token) = (self.address, place.who.token.clone());
            let bearer = format!("Bearer {token}");
            let end = move || Http::new(address).delete("/api/session", &[("Authorization", &bearer)]).status;
            assert_eq!(spawn_blocking(end).await.expect("an answer"), 204, "a session ends when it is told to");
            self.signed_out.fetch_add(1, Ordering::Relaxed);
        }
        place.who = self.enter(place.number, place.room).await;
    }

    async fn sign_in(&self, name: &str) -> SignedIn {
        let (address, name) = (self.address, name.to_owned());
        self.new_people.fetch_add(1, Ordering::Relaxed);
        spawn_blocking(move || Http::new(address).sign_in(&name)).await.expect("an answer")
    }

    /// Signs in as somebody new, joins a room, looks round in it and goes.
    ///
    /// # Panics
    /// If any of it is refused.
    pub async fn enter(&self, number: usize, room: RoomId) -> SignedIn {
        let id = new_id().to_string();
        let who = self.sign_in(&format!("{number} {}", &id[id.len() - 20..])).await;
        let (mut client, _) = Client::join(self.address, &who.token, &[]).await;
        let asked = [
            Command::Join(Membership { client_id: new_id(), room }),
            Command::History(History { room, before: Seq(1_000), limit: None }),
            Command::People(ListPeople { room, after: None }),
        ];
        for command in asked {
            client.ask(command).await.expect("a connection").expect("an answer");
        }
        client.close().await;
        who
    }

    /// Waits, and says whether the crowd goes home.
    async fn rest(&self, ms: u64) -> bool {
        let mut is_over = self.is_over.clone();
        let over = async { is_over.wait_for(|over| *over).await.is_ok() };
        tokio::time::timeout(Duration::from_millis(ms), over).await.is_ok()
    }
}
