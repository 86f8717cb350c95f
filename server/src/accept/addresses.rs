//! What addresses have done lately, and how much of the door is their share.
//!
//! Must not live here: sockets. Invariant: whoever has a whole IPv6 network has one share, as whoever has one IPv4
//! address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::SocketLimits;
use crate::connection::bucket::Window;

/// In which failed handshakes and sign-ins of an address are counted.
const ADDRESS_WINDOW: Duration = Duration::from_secs(10);
/// Addresses remembered at most. Beyond, the idle are forgotten first.
const ADDRESSES: usize = 100_000;

/// Whose share a socket is counted against: an IPv4 address, or the /64 an IPv6 address lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share(IpAddr);

impl Share {
    /// Returns whose share an address is part of.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IpAddr::V4(address)),
            IpAddr::V6(address) => {
                let mut segments = address.segments();
                segments[4..].fill(0);
                Self(IpAddr::V6(segments.into()))
            }
        }
    }
}

/// What addresses have done lately.
pub struct Addresses {
    pending_limit: usize,
    failed_limit: u32,
    sign_in_limit: u32,
    inner: Mutex<HashMap<Share, Address>>,
}

struct Address {
    pending: usize,
    failed: Window,
    broken: Window,
    sign_ins: Window,
}

impl Addresses {
    /// Nothing has been done yet.
    #[must_use]
    pub fn new(limits: &SocketLimits) -> Self {
        Self {
            pending_limit: limits.pending_per_address,
            failed_limit: limits.failed_handshakes,
            sign_in_limit: limits.sign_ins,
            inner: Mutex::default(),
        }
    }

    fn with<T>(&self, share: Share, f: impl FnOnce(&mut Address) -> T) -> T {
        let mut inner = self.lock();
        if inner.len() >= ADDRESSES && !inner.contains_key(&share) {
            let now = Instant::now();
            inner.retain(|_, address| !address.is_idle(now));
        }
        f(inner.entry(share).or_insert_with(|| Address {
            pending: 0,
            failed: Window::new(self.failed_limit.into(), ADDRESS_WINDOW),
            broken: Window::new(self.failed_limit.into(), ADDRESS_WINDOW),
            sign_ins: Window::new(self.sign_in_limit.into(), ADDRESS_WINDOW),
        }))
    }

    /// Counts a socket that has not upgraded, unless its address has too many.
    pub(super) fn enter(&self, share: Share) -> bool {
        self.with(share, |address| {
            let fits = address.pending < self.pending_limit;
            address.pending += usize::from(fits);
            fits
        })
    }

    pub(super) fn leave(&self, share: Share, now: Instant) {
        let mut inner = self.lock();
        if let Some(address) = inner.get_mut(&share) {
            address.pending = address.pending.saturating_sub(1);
            if address.is_idle(now) {
                inner.remove(&share);
            }
        }
    }

    /// Tells whether an address has failed at too many upgrades lately.
    #[must_use]
    pub fn is_failing(&self, address: IpAddr, now: Instant) -> bool {
        self.lock().get(&Share::of(address)).is_some_and(|address| address.failed.is_exhausted(now))
    }

    /// Counts a failed upgrade.
    pub fn failed(&self, address: IpAddr, now: Instant) {
        self.with(Share::of(address), |address| address.failed.is_over(now));
    }

    /// Tells whether an address has sent too many heads lately that nobody could read.
    pub(super) fn is_babbling(&self, share: Share, now: Instant) -> bool {
        self.lock().get(&share).is_some_and(|address| address.broken.is_exhausted(now))
    }

    /// Counts a head that nobody could read. No browser and no client of ours ever sends one.
    pub(super) fn babbled(&self, share: Share, now: Instant) {
        self.with(share, |address| address.broken.is_over(now));
    }

    /// Counts a new session. Returns whether there were too many.
    pub fn is_signing_in_too_often(&self, address: IpAddr, now: Instant) -> bool {
        self.with(Share::of(address), |address| address.sign_ins.is_over(now))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Share, Address>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Address {
    fn is_idle(&self, now: Instant) -> bool {
        self.pending == 0 && self.failed.is_empty(now) && self.broken.is_empty(now) && self.sign_ins.is_empty(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_share() {
        let share = |text: &str| Share::of(text.parse().unwrap());
        assert_eq!(share("2001:db8:1:2:3:4:5:6"), share("2001:db8:1:2::1"));
        assert_ne!(share("2001:db8:1:2::1"), share("2001:db8:1:3::1"));
        assert_eq!(share("::ffff:192.0.2.1"), share("192.0.2.1"));
        assert_ne!(share("192.0.2.1"), share("192.0.2.2"));
    }
}
