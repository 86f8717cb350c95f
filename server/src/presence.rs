//! Who is here. Counted by connection, told by person, never stored.
//!
//! Must not live here: sockets, or people's names for good. Invariant: between two changes that are told of one person,
//! at least one of their connections came, or all of them were gone for the whole grace period.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::ids::{RoomId, UserId};
use shared::model::Member;
use tokio::sync::Notify;

use crate::delivery::Hub;
use crate::rooms::RoomSet;
use crate::rosters::Rosters;

/// Who is here.
#[derive(Debug)]
pub struct Presence {
    grace: Duration,
    coalesce: Duration,
    changed: Notify,
    /// How often something was told, or somebody forgotten.
    told: AtomicU64,
    /// Rosters that hold until something is told.
    pub rosters: Rosters,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    here: HashMap<UserId, Here>,
    /// Whose change has not been told yet.
    untold: HashSet<UserId>,
}

#[derive(Debug)]
struct Here {
    name: Box<str>,
    rooms: RoomSet,
    connections: u32,
    /// When the last connection went.
    left: Option<Instant>,
    /// Whether others were told that this person is here.
    told: bool,
}

impl Presence {
    /// Nobody is here.
    #[must_use]
    pub fn new(grace: Duration, coalesce: Duration) -> Self {
        Self {
            grace,
            coalesce,
            changed: Notify::new(),
            told: AtomicU64::new(0),
            rosters: Rosters::default(),
            inner: Mutex::default(),
        }
    }

    /// A connection of this person came.
    pub fn enter(&self, user: UserId, name: &str, rooms: impl IntoIterator<Item = RoomId>) {
        let mut inner = self.lock();
        let here = inner.here.entry(user).or_insert_with(|| Here {
            name: Box::default(),
            rooms: RoomSet::default(),
            connections: 0,
            left: None,
            told: false,
        });
        here.name = name.into();
        here.rooms = rooms.into_iter().collect();
        here.connections += 1;
        here.left = None;
        if !here.told {
            inner.untold.insert(user);
            self.changed.notify_one();
        }
    }

    /// A connection of this person went.
    pub fn leave(&self, user: UserId, now: Instant) {
        if let Some(here) = self.lock().here.get_mut(&user) {
            here.connections = here.connections.saturating_sub(1);
            if here.connections == 0 {
                here.left = Some(now);
                self.changed.notify_one();
            }
        }
    }

    /// A person goes by another name.
    pub fn rename(&self, user: UserId, name: &str) {
        if let Some(here) = self.lock().here.get_mut(&user) {
            here.name = name.into();
        }
    }

    /// Returns the name of a person who is here.
    #[must_use]
    pub fn name(&self, user: UserId) -> Option<String> {
        self.lock().here.get(&user).map(|here| here.name.to_string())
    }

    /// Returns in how many rooms a person is who is here.
    #[must_use]
    pub fn room_count(&self, user: UserId) -> usize {
        self.lock().here.get(&user).map_or(0, |here| here.rooms.len())
    }

    /// A person became a member of a room, or is one no longer.
    pub fn set_member(&self, user: UserId, room: RoomId, member: bool) {
        if let Some(here) = self.lock().here.get_mut(&user) {
            if member {
                here.rooms.insert(room);
            } else {
                here.rooms.remove(room);
            }
        }
    }

    /// Tells whether a person is here, the grace period counted in.
    #[must_use]
    pub fn is_here(&self, user: UserId) -> bool {
        self.lock().here.contains_key(&user)
    }

    /// Returns up to `limit` people of a room who are here.
    #[must_use]
    pub fn in_room(&self, room: RoomId, limit: usize) -> Vec<UserId> {
        let inner = self.lock();
        inner.here.iter().filter(|(_, here)| here.rooms.contains(room)).map(|(user, _)| *user).take(limit).collect()
    }

    /// Returns a number that is another one when comings or goings were told since. Whoever asks this, then who is here,
    /// and finds this number again later has been told everything that changed in between or will be.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::Acquire)
    }

    /// Returns how many people are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().here.len()
    }

    /// Tells whether nobody is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells comings and goings to those who can see them, collected for a while. Runs until dropped.
    pub async fn run(&self, hub: &Hub) {
        loop {
            let next = self.tell(hub, Instant::now());
            match next {
                Some(next) => tokio::select! {
                    () = tokio::time::sleep_until(next.into()) => {}
                    () = self.changed.notified() => tokio::time::sleep(self.coalesce).await,
                },
                None => {
                    self.changed.notified().await;
                    tokio::time::sleep(self.coalesce).await;
                }
            }
        }
    }

    /// Tells what has changed by `now`, and returns when somebody's grace period ends next.
    pub fn tell(&self, hub: &Hub, now: Instant) -> Option<Instant> {
        let mut told: Vec<(Member, RoomSet)> = Vec::new();
        let mut next = None::<Instant>;
        {
            let mut inner = self.lock();
            let Inner { here, untold } = &mut *inner;
            let before = here.len();
            for user in untold.drain() {
                if let Some(here) = here.get_mut(&user) {
                    here.told = true;
                    told.push((Member { id: user, name: here.name.to_string(), online: true }, here.rooms.clone()));
                }
            }
            here.retain(|user, here| {
                let Some(left) = here.left else { return true };
                let until = left + self.grace;
                if until > now {
                    next = Some(next.map_or(until, |next| next.min(until)));
                    return true;
                }
                if here.told {
                    let rooms = std::mem::take(&mut here.rooms);
                    told.push((
                        Member { id: *user, name: std::mem::take(&mut here.name).into(), online: false },
                        rooms,
                    ));
                }
                false
            });
            if !told.is_empty() || here.len() != before {
                // Before anybody is told: a roster from before must not be handed to whoever follows only after that.
                self.told.fetch_add(1, Ordering::AcqRel);
            }
        }
        // By room, so that a crowd that returns takes each mailbox once and not once for each of them.
        let mut by_room: BTreeMap<RoomId, Vec<Arc<Member>>> = BTreeMap::new();
        for (member, rooms) in told {
            let member = Arc::new(member);
            for room in rooms.iter() {
                by_room.entry(room).or_default().push(Arc::clone(&member));
            }
        }
        for (room, members) in by_room {
            hub.for_followers(room, |peer| peer.mailbox.presence(&members));
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use shared::ids::{ConnectionId, SessionId, StreamId};

    use crate::delivery::{Mailbox, Peer};

    fn told(peer: &Peer) -> Vec<bool> {
        peer.mailbox.take(true).0.unwrap_or_default().presence.values().map(|member| member.online).collect()
    }

    #[test]
    fn a_blip_within_the_grace_period_is_not_told_and_a_departure_is_told_once() {
        let hub = Hub::default();
        let (room, user) = (RoomId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
        let watcher = Arc::new(Peer {
            connection: ConnectionId(1),
            user: UserId::from_bytes([3; 16]),
            session: SessionId::from_bytes([4; 16]),
            token: [0; 32],
            mailbox: Mailbox::default(),
            outlet: Arc::default(),
        });
        hub.follow(StreamId::Room(room), &watcher);
        let presence = Presence::new(Duration::from_secs(10), Duration::from_secs(1));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);

        presence.enter(user, "Ann", [room]);
        presence.enter(user, "Ann", [room]);
        assert_eq!(presence.tell(&hub, at(0)), None);
        assert_eq!(told(&watcher), [true]);

        presence.leave(user, at(1_000));
        assert_eq!(presence.tell(&hub, at(1_000)), None);
        presence.leave(user, at(2_000));
        assert_eq!(presence.tell(&hub, at(2_000)), Some(at(12_000)));
        presence.enter(user, "Ann", [room]);
        assert_eq!(presence.tell(&hub, at(30_000)), None);
        assert!(told(&watcher).is_empty() && presence.is_here(user));

        presence.leave(user, at(31_000));
        assert_eq!(presence.tell(&hub, at(40_999)), Some(at(41_000)));
        assert_eq!(presence.tell(&hub, at(41_000)), None);
        assert_eq!(told(&watcher), [false]);
        assert!(!presence.is_here(user) && presence.is_empty());
        assert_eq!(presence.tell(&hub, at(90_000)), None);
        assert!(told(&watcher).is_empty());
    }
}
