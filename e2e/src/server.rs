//! The real server binary as a child process: started on port 0, killed, stopped, started again on the same port.
//!
//! Must not live here: anything that speaks to it. Invariant: the child never outlives the test, even if the test is
//! killed, and what it wrote to stderr is shown when the test fails.

mod running;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use self::running::{Running, START_DEADLINE, StartFailed, find_server, is_server, is_there, signal_process};
use crate::wait;

pub(crate) use self::running::{die_with_parent, spawn};

/// How long [`ServerProcess::restart`] waits for its port while somebody else has it. A socket of another test that the
/// system gave this port for its own end is gone within seconds.
pub const PORT_DEADLINE: Duration = Duration::from_secs(20);
/// How often a port that somebody else has is tried again.
const PORT_EVERY: Duration = Duration::from_millis(100);
/// What the command line promises: SIGTERM ends the server within this.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(30);

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    args: Vec<String>,
    wrapper: Vec<String>,
    data_dir: Option<PathBuf>,
    place: Option<Place>,
}

/// Where a server listens that is not on loopback.
#[derive(Clone, Copy, Debug)]
struct Place {
    listens: IpAddr,
    reached: IpAddr,
}

impl ServerOptions {
    /// Starts from the server's own defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one flag with its value.
    #[must_use]
    pub fn flag(mut self, name: &str, value: impl ToString) -> Self {
        self.args.push(format!("--{name}"));
        self.args.push(value.to_string());
        self
    }

    /// Adds one flag that takes no value.
    #[must_use]
    pub fn switch(mut self, name: &str) -> Self {
        self.args.push(format!("--{name}"));
        self
    }

    /// Lets one person post and ask as fast as the machine can, for tests that are not about rates.
    #[must_use]
    pub fn without_rates(self) -> Self {
        self.flag("sign-ins", 100_000)
            .flag("posts-burst", 100_000)
            .flag("posts-per-s", 100_000)
            .flag("frames-burst", 100_000)
            .flag("frames-per-s", 100_000)
    }

    /// Runs the server under another program, such as `strace`.
    #[must_use]
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self
    }

    /// Listens on another address than 127.0.0.1, and is reached under a third.
    #[must_use]
    pub fn at(mut self, listens: IpAddr, reached: IpAddr) -> Self {
        self.place = Some(Place { listens, reached });
        self
    }

    /// Keeps the data in a folder that exists, instead of in a fresh temporary one.
    #[must_use]
    pub fn data_dir(mut self, dir: &Path) -> Self {
        self.data_dir = Some(dir.to_owned());
        self
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// If it does not come up; with its stderr.
    #[must_use]
    pub fn start(self) -> ServerProcess {
        let temporary = self.data_dir.is_none().then(|| tempfile::tempdir().expect("a temporary folder"));
        let data_dir = self
            .data_dir
            .clone()
            .or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned()))
            .expect("one of the two is set");
        let running = Running::start(&self, &data_dir, 0).unwrap_or_else(|failed| panic!("{failed}"));
        ServerProcess {
            data_dir,
            _temporary: temporary,
            old_pid: None,
            address: SocketAddr::new(self.reached(), running.port),
            running: Some(running),
            options: self,
        }
    }
}

impl ServerOptions {
    fn listens(&self) -> IpAddr {
        self.place.map_or(Ipv4Addr::LOCALHOST.into(), |place| place.listens)
    }

    fn reached(&self) -> IpAddr {
        self.place.map_or(Ipv4Addr::LOCALHOST.into(), |place| place.reached)
    }
}

/// A server binary that runs, or ran.
#[derive(Debug)]
pub struct ServerProcess {
    // First, so that the process ends before its folder goes.
    running: Option<Running>,
    options: ServerOptions,
    data_dir: PathBuf,
    _temporary: Option<tempfile::TempDir>,
    address: SocketAddr,
    /// The server's own process before the last stop.
    old_pid: Option<u32>,
}

impl ServerProcess {
    /// Starts a server with its own defaults.
    #[must_use]
    pub fn start() -> Self {
        ServerOptions::new().start()
    }

    /// Returns where it listens; the same after a restart.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the origin of its page.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the folder with its database.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Returns the id of the process that was started (the wrapper's, where there is one).
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running().child.id()
    }

    /// Returns the id of the server's own process, also where it was started under another program.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn server_pid(&self) -> u32 {
        find_server(self.pid()).unwrap_or_else(|| panic!("no server runs under process {}", self.pid()))
    }

    /// Returns the time the server has spent on a processor, as Linux accounts it.
    ///
    /// # Panics
    /// Where `/proc` does not say.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        /// What `/proc` counts in, on every Linux there is (`getconf CLK_TCK`).
        const TICK: Duration = Duration::from_millis(10);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.server_pid())).expect("/proc tells");
        // The second field is a name in brackets, which may hold spaces.
        let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u32>().expect("a number"));
        TICK * ticks.sum::<u32>()
    }

    /// Returns what it wrote to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.running.as_ref().map(Running::stderr).unwrap_or_default()
    }

    /// Ends it with SIGKILL, as a crash would, and waits until it is gone, also from under another program.
    ///
    /// # Panics
    /// If it does not go.
    pub fn kill(&mut self) {
        let server = self.running.as_ref().and_then(|running| find_server(running.child.id()));
        if let Some(pid) = server {
            signal_process(pid, Signal::KILL);
        }
        drop(self.running.take());
        self.old_pid = server.or(self.old_pid);
        if let Some(pid) = server {
            wait::until("the killed server is gone", START_DEADLINE, || (!is_there(pid)).then_some(()));
        }
    }

    /// Tells whether it has ended by itself.
    ///
    /// # Panics
    /// If it was ended already.
    pub fn has_ended(&mut self) -> bool {
        let running = self.running.as_mut().expect("the server was started");
        running.child.try_wait().expect("a child of ours").is_some()
    }

    /// Sends SIGTERM and returns at once.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.running().child);
        kill_process(pid, signal).expect("a child of ours takes signals");
    }

    /// Stops the server with SIGSTOP, as a machine that hangs does, and waits until every thread of it stands still.
    ///
    /// # Panics
    /// If one does not.
    pub fn freeze(&self) {
        let pid = self.server_pid();
        signal_process(pid, Signal::STOP);
        let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).expect("the server's threads");
        let stands = |stat: &str| matches!(stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]), Some("T" | "t"));
        wait::until("every thread of the server stands still", START_DEADLINE, || {
            let stats = threads().flatten().map(|thread| std::fs::read_to_string(thread.path().join("stat")));
            stats.flatten().all(|stat| stands(&stat)).then_some(())
        });
    }

    /// Lets a frozen server go on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn thaw(&self) {
        signal_process(self.server_pid(), Signal::CONT);
    }

    /// Waits for it to end by itself, and says how.
    ///
    /// # Panics
    /// If it still runs after `deadline`.
    pub fn wait_for_exit(&mut self, deadline: Duration) -> ExitStatus {
        let mut running = self.running.take().expect("the server runs");
        self.old_pid = find_server(running.child.id()).or(self.old_pid);
        let status = wait::until("the server exits", deadline, || running.child.try_wait().expect("a child of ours"));
        running.exited = true;
        status
    }

    /// Starts it again on the same port with the same data. Waits up to [`PORT_DEADLINE`] for a port that somebody else
    /// took meanwhile.
    ///
    /// # Panics
    /// If it still runs, does not come up, or does not get its port.
    pub fn restart(&mut self) {
        self.try_restart(PORT_DEADLINE).unwrap_or_else(|failed| panic!("{failed}"));
    }

    /// As [`Self::restart`], with a patience of one's own for a port that somebody else has.
    ///
    /// # Errors
    /// In words, if it does not come up.
    ///
    /// # Panics
    /// If it was not stopped, or its old process does not go.
    pub fn try_restart(&mut self, patience: Duration) -> Result<(), String> {
        assert!(self.running.is_none(), "kill or stop the server before starting it again");
        if let Some(pid) = self.old_pid {
            // Whoever has the port after this is somebody else.
            wait::until("the server before is gone", START_DEADLINE, || (!is_server(pid)).then_some(()));
        }
        let end = Instant::now() + patience;
        loop {
            match Running::start(&self.options, &self.data_dir, self.address.port()) {
                Ok(running) => {
                    self.running = Some(running);
                    return Ok(());
                }
                Err(failed @ StartFailed::Other(_)) => return Err(failed.to_string()),
                Err(StartFailed::PortTaken(words)) if Instant::now() >= end => {
                    return Err(format!("{} was somebody else's for {patience:?}\n{words}", self.address));
                }
                Err(StartFailed::PortTaken(_)) => std::thread::sleep(PORT_EVERY),
            }
        }
    }

    /// Changes the flags a later [`Self::restart`] uses.
    pub fn set_options(&mut self, change: impl FnOnce(ServerOptions) -> ServerOptions) {
        self.options = change(std::mem::take(&mut self.options));
    }

    /// Returns the resident memory in KiB, as Linux accounts it.
    ///
    /// # Panics
    /// Where `/proc` does not say.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.server_pid())).expect("/proc tells of our child");
        let line =
            status.lines().find(|line| line.starts_with("VmRSS:")).expect("a running process has a resident size");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server runs")
    }
}

/// Finds the server binary: `HOLDFAST_SERVER`, or the one built into the same target folder as this test.
///
/// # Panics
/// If there is none; with the command that builds it.
#[must_use]
pub fn server_binary() -> PathBuf {
    let path = std::env::var_os("HOLDFAST_SERVER").map_or_else(|| beside_this_test("server"), PathBuf::from);
    assert!(
        path.is_file(),
        "{} does not exist; build it with `cargo build -p server`, or use `cargo xtask test`",
        path.display()
    );
    path
}

/// Returns the path of a binary of this workspace, built into the same target folder as this test.
///
/// # Panics
/// If the test does not know its own path.
#[must_use]
pub fn beside_this_test(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let deps = test.parent().expect("a test lies in a folder");
    let profile = if deps.ends_with("deps") { deps.parent().expect("deps lies in a folder") } else { deps };
    profile.join(name)
}
