//! How many descriptors the process may have, and how many of them sockets may take.
//!
//! Must not live here: what is done with a socket that does not fit ([`crate::accept`]). Invariant: the files of the log and
//! of the page, and those who are told that there is no room, have descriptors left when every socket has one.

use crate::accept::FAREWELLS;

/// What the server takes beside sockets: 26 where nobody is connected, and files of the page while they are read.
const FILES: u64 = 64;

/// Raises the limit of descriptors to what so many sockets need, as far as the system lets us. Returns how many sockets
/// fit.
#[must_use]
pub fn make_room(sockets: usize) -> usize {
    fit(sockets, raise(sockets as u64 + reserve(u64::MAX)))
}

/// How many descriptors are not for sockets, where there are so many in all.
fn reserve(limit: u64) -> u64 {
    // Where there are next to none, whoever is connected is worth more than a word to whoever is not.
    (FILES + FAREWELLS as u64).min(limit / 2)
}

fn fit(sockets: usize, limit: u64) -> usize {
    let room = usize::try_from(limit - reserve(limit)).unwrap_or(usize::MAX);
    sockets.min(room).max(1)
}

/// Raises the limit to `wanted`, or as far as it goes. Returns what it is then.
#[cfg(unix)]
fn raise(wanted: u64) -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|current| current < wanted.min(most)) {
        limit.current = Some(wanted.min(most));
        // Where it cannot be raised, the old one is what counts.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// There is no such limit here.
#[cfg(not(unix))]
const fn raise(_wanted: u64) -> u64 {
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_farewells_keep_theirs_and_of_very_few_sockets_get_half() {
        assert_eq!(fit(16_000, u64::MAX), 16_000);
        assert_eq!(fit(16_000, 16_128), 16_000);
        assert_eq!(fit(16_000, 1_024), 896);
        assert_eq!((fit(16_000, 64), fit(16_000, 1)), (32, 1));
    }
}
