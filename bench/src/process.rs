//! What the kernel says of a process and of this machine (proc(5)), and which cores a process may use.
//!
//! Must not live here: what is done with the figures. Invariant: figures of another process only; the load shares
//! nothing with the server.

use std::fs;
use std::time::Duration;

/// A reading of one process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// User and system time of all its threads since it began.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub rss: u64,
}

/// Reads a process.
///
/// # Errors
/// Words for the person.
#[cfg(target_os = "linux")]
pub fn read(pid: u32) -> Result<Reading, String> {
    let file = |name: &str| {
        fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(|error| format!("process {pid}: {error}"))
    };
    let strange = || format!("/proc/{pid} is not as expected");
    let ticks = ticks(&file("stat")?).ok_or_else(strange)?;
    let cpu = Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64);
    let rss = kib(&file("status")?, "VmRSS:").ok_or_else(strange)? * 1024;
    Ok(Reading { cpu, rss })
}

/// Reads a process; not known how on this system.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn read(_pid: u32) -> Result<Reading, String> {
    let _ = (fs::metadata("/"), Duration::ZERO, ticks(""), kib("", ""), count("", ""));
    Err("a process can be read on Linux only".into())
}

/// The ticks of user and system time in a `stat` file. The second field is a name in brackets, and may hold anything;
/// utime and stime are the 14th and 15th.
fn ticks(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// A figure of a `status` or `meminfo` file, in KiB.
fn kib(file: &str, name: &str) -> Option<u64> {
    let rest = file.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().trim_end_matches("kB").trim().parse().ok()
}

/// A counter of a `netstat` file: a line of names, below it a line of figures.
fn count(file: &str, name: &str) -> Option<u64> {
    let lines: Vec<&str> = file.lines().collect();
    lines.chunks(2).find_map(|pair| {
        let [names, figures] = pair else { return None };
        let place = names.split_whitespace().position(|found| found == name)?;
        figures.split_whitespace().nth(place)?.parse().ok()
    })
}

/// Returns how often this machine dropped a connection because nobody accepted in time, since it started.
#[must_use]
pub fn listen_overflows() -> Option<u64> {
    count(&fs::read_to_string("/proc/net/netstat").ok()?, "ListenOverflows")
}

/// Returns the kernel's own small memory of the whole machine, in bytes: both ends of every socket are in it.
#[must_use]
pub fn slab() -> Option<u64> {
    Some(kib(&fs::read_to_string("/proc/meminfo").ok()?, "Slab:")? * 1024)
}

/// Returns the cores this process may use.
#[cfg(target_os = "linux")]
#[must_use]
pub fn cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

/// Returns the cores this process may use; not known here.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn cores() -> Vec<usize> {
    Vec::new()
}

/// Keeps this thread, and every process it starts from now on, to some cores.
///
/// # Errors
/// What the system says.
#[cfg(target_os = "linux")]
pub fn keep_to(cores: &[usize]) -> std::io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    rustix::thread::sched_setaffinity(None, &set)?;
    Ok(())
}

/// Does nothing: not known how on this system.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
pub fn keep_to(_cores: &[usize]) -> std::io::Result<()> {
    Ok(())
}

/// Asks a process to end in good order.
///
/// # Errors
/// What the system says.
#[cfg(unix)]
pub fn ask_to_end(pid: u32) -> std::io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or(std::io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
}

/// Asks a process to end in good order; not known how on this system.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub fn ask_to_end(_pid: u32) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Raises this process's limit of open files to what it may have, and returns it.
#[cfg(unix)]
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it cannot be raised, the old one is what counts.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Returns how many files may be open; not known here.
#[cfg(not(unix))]
pub fn raise_open_files() -> u64 {
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a b) c) 1) S 1 7 7 0 -1 4194560 100 0 0 0 12 30 99 98 20 0 4 0 100 1 2";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a) S 1"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn figures_are_found_by_name() {
        assert_eq!(kib("Name:\tx\nVmRSS:\t    1234 kB\n", "VmRSS:"), Some(1_234));
        assert_eq!(kib("VmRSS: many kB", "VmRSS:"), None);
        let netstat = "TcpExt: A ListenOverflows B\nTcpExt: 1 22 3\nIpExt: C D\nIpExt: 4 5\n";
        assert_eq!(count(netstat, "ListenOverflows"), Some(22));
        assert_eq!(count(netstat, "D"), Some(5));
        assert_eq!(count(netstat, "E"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_can_be_read() {
        let reading = read(std::process::id()).unwrap();
        assert!(reading.rss > 100_000, "{reading:?}");
        assert!(!cores().is_empty());
    }
}
