//! Opening many connections, or signing many people in, on a few threads.
//!
//! Must not live here: what is opened. Invariant: at most so many results wait, and a thread whose results nobody wants
//! any more ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use crate::Fail;

/// Results that wait to be taken.
const OPENED: usize = 256;
/// Tries to sign in or connect before the load gives up.
const TRIES: usize = 5;
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(200);

/// Does something for every client on so many threads, while `take` takes the results as they come.
pub(super) fn open_many<T: Send>(
    clients: usize,
    threads: usize,
    open: &(impl Fn(usize) -> Result<T, String> + Sync),
    take: impl FnOnce(&Receiver<(usize, Result<T, String>)>) -> Result<(), String>,
) -> Result<(), Fail> {
    let next = AtomicUsize::new(0);
    let work = |results: SyncSender<(usize, Result<T, String>)>| {
        loop {
            let client = next.fetch_add(1, Ordering::Relaxed);
            if client >= clients {
                return;
            }
            let mut result = open(client);
            for _ in 1..TRIES {
                if result.is_ok() {
                    break;
                }
                std::thread::sleep(AGAIN);
                result = open(client);
            }
            if results.send((client, result)).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        // Dropped before the threads are waited for, so that they end where a result was refused.
        let (results, taken) = mpsc::sync_channel(OPENED);
        for _ in 0..threads {
            let (results, work) = (results.clone(), &work);
            scope.spawn(move || work(results));
        }
        drop(results);
        let done = take(&taken);
        drop(taken);
        done
    })
    .map_err(Fail::Refused)
}
