//! What the kernel says of a process on this machine: CPU time and memory (proc(5)).
//!
//! Invariant: figures of another process only; the bench shares nothing with the server.

use std::fs;
use std::time::Duration;

/// A reading of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// User and system time since it began.
    pub(crate) cpu: Duration,
    /// Resident memory, in bytes.
    pub(crate) rss: u64,
}

/// Reads a process.
///
/// # Errors
/// Words for the person.
#[cfg(target_os = "linux")]
pub(crate) fn read(pid: u32) -> Result<Reading, String> {
    let file = |name: &str| {
        fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(|error| format!("--server-pid {pid}: {error}"))
    };
    let strange = || format!("/proc/{pid} is not as expected");
    let stat = file("stat")?;
    // The second field is a name in brackets, and may hold anything; utime and stime are the 14th and 15th.
    let after_name = &stat[stat.rfind(')').ok_or_else(strange)? + 1..];
    let ticks: Vec<u64> =
        after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    let [user, system] = ticks[..] else { return Err(strange()) };
    let cpu = Duration::from_secs_f64((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64);
    let status = file("status")?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or_else(strange)?;
    let kib: u64 = rss.trim().trim_end_matches("kB").trim().parse().map_err(|_| strange())?;
    Ok(Reading { cpu, rss: kib * 1024 })
}

/// Reads a process; not known how on this system.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub(crate) fn read(_pid: u32) -> Result<Reading, String> {
    let _ = fs::metadata("/");
    Err("--server-pid works on Linux only".into())
}

/// Raises this process's limit of open files to what it may have, and returns it.
#[cfg(unix)]
pub(crate) fn raise_open_files() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it cannot be raised, the old one is what counts.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Returns how many files may be open; not known here.
#[cfg(not(unix))]
pub(crate) fn raise_open_files() -> u64 {
    u64::MAX
}
