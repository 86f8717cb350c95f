//! What a running server holds, measured now and then, and whether it stays flat.
//!
//! Must not live here: what keeps the server busy meanwhile. Invariant: the server is believed in one figure only, its
//! number of tasks; everything else is told by the kernel, the file system and the database itself.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::{Http, ServerProcess};

/// What memory may grow by between two windows: a share, and what an allocator keeps more of on one day than another.
const MEMORY_GROWTH: f64 = 0.10;
const MEMORY_NOISE_KIB: f64 = 3.0 * 1024.0;
/// What the number of tasks, sockets and descriptors may differ by: how many clients there are in a minute varies.
const COUNT_GROWTH: f64 = 0.15;
const COUNT_NOISE: f64 = 8.0;
/// What a stored post may cost more than before, in bytes of the database.
const POST_GROWTH: f64 = 0.15;

/// One look at a server.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Since the first look.
    pub at: Duration,
    /// Upgraded sockets, as the server tells.
    pub connections: f64,
    /// Tasks of the runtime that have not ended, as the server tells.
    pub tasks: f64,
    /// Threads of the process.
    pub threads: f64,
    /// Open descriptors.
    pub descriptors: f64,
    /// Those of them that are sockets.
    pub sockets: f64,
    /// Resident memory in KiB.
    pub resident_kib: f64,
    /// The part of it that is no file: heap and stacks.
    pub anonymous_kib: f64,
    /// Bytes of the database, what still lies in its write-ahead log included.
    pub database_bytes: f64,
    /// Bytes of the file of its write-ahead log.
    pub wal_bytes: f64,
    /// Posts stored.
    pub posts: f64,
    /// Sessions stored.
    pub sessions: f64,
    /// People stored.
    pub people: f64,
}

impl Sample {
    /// Looks now. Blocks for as long as the server takes to answer a request, and the database to be counted.
    ///
    /// # Panics
    /// If the server is gone or the kernel does not tell.
    #[must_use]
    pub fn take(server: &ServerProcess, at: Duration) -> Self {
        let pid = server.server_pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("/proc tells of our child");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("a field of every process");
            line.split_whitespace().nth(1).and_then(|value| value.parse().ok()).expect("a number")
        };
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("/proc tells").flatten();
        let open: Vec<_> = open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
        let is_socket = |path: &&std::path::PathBuf| path.to_string_lossy().starts_with("socket:");
        let told = Http::new(server.address()).get("/api/info", &[]).json();
        let told = |name: &str| told[name].as_f64().expect("a number");
        let db = database(server.data_dir());
        let count = |what: &str| {
            db.query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get::<_, u32>(0)).expect("a table")
        };
        let pragma =
            |name: &str| f64::from(db.pragma_query_value(None, name, |row| row.get::<_, u32>(0)).expect("a number"));
        Self {
            at,
            connections: told("connections"),
            tasks: told("tasks"),
            threads: field("Threads:"),
            descriptors: as_f64(open.len()),
            sockets: as_f64(open.iter().filter(is_socket).count()),
            resident_kib: field("VmRSS:"),
            anonymous_kib: field("RssAnon:"),
            database_bytes: pragma("page_count") * pragma("page_size"),
            wal_bytes: size_of(&server.data_dir().join("holdfast.db-wal")),
            posts: count("events WHERE kind = 1").into(),
            sessions: count("sessions").into(),
            people: count("users").into(),
        }
    }

    /// The names of [`Self::row`]'s cells.
    pub const HEADER: &str = "minute | connections | tasks | threads | descriptors | sockets | resident MiB | \
                              anonymous MiB | posts | people | sessions | database MiB | write-ahead log MiB";

    /// Tells it as a row of a table.
    #[must_use]
    pub fn row(&self) -> String {
        let mib = |kib: f64| format!("{:.1}", kib / 1024.0);
        let counts = [self.connections, self.tasks, self.threads, self.descriptors, self.sockets];
        let stored = [self.posts, self.people, self.sessions];
        let mut cells = vec![format!("{:.1}", self.at.as_secs_f64() / 60.0)];
        cells.extend(counts.iter().map(|count| format!("{count:.0}")));
        cells.extend([mib(self.resident_kib), mib(self.anonymous_kib)]);
        cells.extend(stored.iter().map(|count| format!("{count:.0}")));
        cells.extend([mib(self.database_bytes / 1024.0), mib(self.wal_bytes / 1024.0)]);
        cells.join(" | ")
    }
}

fn size_of(path: &Path) -> f64 {
    std::fs::metadata(path).map_or(0.0, |found| as_f64(usize::try_from(found.len()).expect("fits this machine")))
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("less than four thousand millions"))
}

fn database(data_dir: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(data_dir.join("holdfast.db"), flags).expect("a database")
}

/// Returns what each table and index of a database takes, in bytes, the largest first.
///
/// # Panics
/// If the database cannot be read.
#[must_use]
pub fn bytes_by_table(data_dir: &Path) -> Vec<(String, u64)> {
    let db = database(data_dir);
    let mut rows = db.prepare("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC").expect("dbstat");
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

/// What the middle sample of a window says, figure by figure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// See [`Sample::anonymous_kib`].
    pub anonymous_kib: f64,
    /// See [`Sample::resident_kib`].
    pub resident_kib: f64,
    /// See [`Sample::tasks`].
    pub tasks: f64,
    /// See [`Sample::threads`].
    pub threads: f64,
    /// See [`Sample::sockets`].
    pub sockets: f64,
    /// See [`Sample::descriptors`].
    pub descriptors: f64,
    /// By how much the database grew for each post stored in the window, in bytes.
    pub bytes_a_post: f64,
}

impl Window {
    /// Sums up the samples of a window.
    ///
    /// # Panics
    /// If there are fewer than two.
    #[must_use]
    pub fn of(samples: &[Sample]) -> Self {
        let median = |of: fn(&Sample) -> f64| {
            let mut values: Vec<f64> = samples.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let (first, last) = (samples.first().expect("samples"), samples.last().expect("samples"));
        Self {
            anonymous_kib: median(|sample| sample.anonymous_kib),
            resident_kib: median(|sample| sample.resident_kib),
            tasks: median(|sample| sample.tasks),
            threads: median(|sample| sample.threads),
            sockets: median(|sample| sample.sockets),
            descriptors: median(|sample| sample.descriptors),
            bytes_a_post: (last.database_bytes - first.database_bytes) / (last.posts - first.posts).max(1.0),
        }
    }

    /// The figures of this window and a later one, with what each may grow by: a share, and a number on top.
    fn beside(&self, later: &Self) -> [(&'static str, f64, f64, f64, f64); 7] {
        let count = |name, before, after| (name, before, after, COUNT_GROWTH, COUNT_NOISE);
        let memory = |name, before, after| (name, before, after, MEMORY_GROWTH, MEMORY_NOISE_KIB);
        [
            memory("anonymous memory, KiB", self.anonymous_kib, later.anonymous_kib),
            memory("resident memory, KiB", self.resident_kib, later.resident_kib),
            count("tasks", self.tasks, later.tasks),
            count("threads", self.threads, later.threads),
            count("sockets", self.sockets, later.sockets),
            count("descriptors", self.descriptors, later.descriptors),
            ("bytes of the database a post", self.bytes_a_post, later.bytes_a_post, POST_GROWTH, 0.0),
        ]
    }

    /// Tells this window and a later one as a table.
    #[must_use]
    pub fn rows_until(&self, later: &Self) -> Vec<String> {
        let row = |(name, before, after, share, noise): (&str, f64, f64, f64, f64)| {
            format!("| {name} | {before:.0} | {after:.0} | {:.0} |", before * (1.0 + share) + noise)
        };
        let head = ["| median | minutes 10–20 of 60 | the last 10 | limit |", "|---|--:|--:|--:|"].map(str::to_owned);
        head.into_iter().chain(self.beside(later).map(row)).collect()
    }

    /// Says what is not flat between this window and a later one.
    #[must_use]
    pub fn growth_until(&self, later: &Self) -> Vec<String> {
        let grown =
            |(_, before, after, share, noise): &(_, f64, f64, f64, f64)| *after > before * (1.0 + share) + noise;
        let figures = self.beside(later);
        let words = figures.iter().filter(|figure| grown(figure));
        words.map(|(name, before, after, ..)| format!("{name}: from {before:.0} to {after:.0}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour of a server, sampled each minute, which grows as `grow` says.
    fn hour(grow: impl Fn(f64, &mut Sample)) -> Vec<Sample> {
        let sample = |minute: u32| {
            let minute = f64::from(minute);
            let mut sample = Sample {
                anonymous_kib: 40_000.0 + 300.0 * (minute * 7.0 % 5.0),
                resident_kib: 50_000.0,
                tasks: 400.0 + minute * 3.0 % 11.0,
                threads: 8.0,
                sockets: 200.0,
                descriptors: 230.0,
                posts: 200.0 * minute,
                database_bytes: 200.0 * minute * 900.0,
                ..Sample::default()
            };
            grow(minute, &mut sample);
            sample
        };
        (0..60).map(sample).collect()
    }

    fn judged(samples: &[Sample]) -> Vec<String> {
        Window::of(&samples[10..20]).growth_until(&Window::of(&samples[50..]))
    }

    #[test]
    fn an_hour_that_only_stores_is_flat() {
        assert!(judged(&hour(|_, _| {})).is_empty());
    }

    #[test]
    fn each_kind_of_leak_is_found() {
        let leaks: [fn(f64, &mut Sample); 5] = [
            |minute, sample| sample.anonymous_kib += 300.0 * minute,
            |minute, sample| sample.tasks += 4.0 * minute,
            |minute, sample| sample.sockets += 4.0 * minute,
            |minute, sample| sample.descriptors += 4.0 * minute,
            |minute, sample| sample.database_bytes += 1_000.0 * minute * minute,
        ];
        for leak in leaks {
            assert_eq!(judged(&hour(leak)).len(), 1);
        }
    }
}
