//! The servers that are measured: how each is started, and where it said it listens.
//!
//! Must not live here: what is measured. Invariant: every run has a fresh process.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bench::load::Kind;
use bench::process::Reading;
use bench::{Fail, process};

/// Every sender posts far more than a person may; every other limit is the default.
const OUR_OPTIONS: [&str; 10] = [
    "--posts-burst",
    "1000000",
    "--posts-per-s",
    "1000000",
    "--frames-burst",
    "1000000",
    "--frames-per-s",
    "1000000",
    "--log",
    "warn",
];
/// The name of ours in every table.
pub(crate) const OURS: &str = "holdfast";

/// A server that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    /// Its name in tables.
    pub(crate) name: String,
    /// What it speaks.
    pub(crate) kind: Kind,
    /// Its command line.
    pub(crate) command: Vec<String>,
}

impl Contestant {
    /// Ours.
    pub(crate) fn ours(binary: &Path) -> Self {
        Self { name: OURS.into(), kind: Kind::Holdfast, command: vec![binary.to_string_lossy().into_owned()] }
    }

    /// Another one, from `NAME=["program","argument",…]`. Socket.IO has a wrapping of its own, known by its name.
    ///
    /// # Errors
    /// Words for the person.
    pub(crate) fn peer(text: &str) -> Result<Self, Fail> {
        let usage = |words: String| Fail::Usage(words);
        let (name, command) = text.split_once('=').ok_or_else(|| usage(format!("{text} is not NAME=JSON")))?;
        let command: Vec<String> =
            serde_json::from_str(command).map_err(|error| usage(format!("the command of {name}: {error}")))?;
        if command.is_empty() {
            return Err(usage(format!("{name} has no command")));
        }
        let kind = if name == "socket.io" { Kind::SocketIo } else { Kind::Plain };
        Ok(Self { name: name.to_owned(), kind, command })
    }

    /// Whether it is ours.
    pub(crate) fn is_ours(&self) -> bool {
        self.kind == Kind::Holdfast
    }
}

/// Which cores belong to whom.
#[derive(Clone, Debug)]
pub(crate) struct Cores {
    /// The server's.
    pub(crate) server: Vec<usize>,
    /// The load's.
    pub(crate) load: Vec<usize>,
}

impl Cores {
    /// Gives the first so many cores to the server; with 0, all to both.
    ///
    /// # Errors
    /// [`Fail::Usage`] where nothing is left for the load.
    pub(crate) fn split(all: Vec<usize>, server_cores: usize) -> Result<Self, Fail> {
        if server_cores == 0 || all.is_empty() {
            return Ok(Self { server: all.clone(), load: all });
        }
        if server_cores >= all.len() {
            let words = format!("{} cores, {server_cores} for the server: none is left for the load", all.len());
            return Err(Fail::Usage(format!("{words}; --server-cores 0 shares them")));
        }
        Ok(Self { server: all[..server_cores].to_vec(), load: all[server_cores..].to_vec() })
    }
}

/// A server that runs, ended with this value.
pub(crate) struct Server {
    child: Child,
    /// Where it said it listens.
    pub(crate) url: String,
    pid: u32,
}

impl Server {
    /// Starts one, ours on the data of a folder.
    ///
    /// # Errors
    /// It does not start, or does not say where it listens.
    pub(crate) fn start(contestant: &Contestant, folder: &Path, data: &Path, cores: &Cores) -> Result<Self, Fail> {
        let log = File::create(folder.join(format!("{}.log", contestant.name)))?;
        let mut command = Command::new(&contestant.command[0]);
        command.args(&contestant.command[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        if contestant.is_ours() {
            command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data).args(OUR_OPTIONS);
        }
        process::keep_to(&cores.server)?;
        let child = command.spawn();
        process::keep_to(&cores.load)?;
        let mut child = child.map_err(|error| Fail::Local(format!("{}: {error}", contestant.command[0])))?;
        let line = child.stdout.take().and_then(|stdout| BufReader::new(stdout).lines().next());
        let pid = child.id();
        // Made before the line is read, so that the process ends with it whatever the line says.
        let mut server = Self { child, url: String::new(), pid };
        match line {
            Some(Ok(line)) if line.starts_with("listening on http://") => {
                server.url = line["listening on ".len()..].trim_end_matches('/').to_owned();
                Ok(server)
            }
            Some(Ok(line)) => Err(Fail::Local(format!("{} says {line:?}, not where it listens", contestant.name))),
            Some(Err(_)) | None => Err(Fail::Local(format!("{} ended before it listened", contestant.name))),
        }
    }
}

impl Server {
    /// What the kernel says of it now.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn reading(&self) -> Result<Reading, Fail> {
        process::read(self.pid).map_err(Fail::Local)
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// It does not end in time, or not in good order.
    pub(crate) fn end(mut self, limit: Duration) -> Result<(), Fail> {
        process::ask_to_end(self.pid)?;
        let until = Instant::now() + limit;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(Fail::Local(format!("the server ended with {status}"))),
                None if Instant::now() > until => return Err(Fail::TimedOut("the server does not end".into())),
                None => std::thread::sleep(LOOK_EVERY),
            }
        }
    }
}

/// Between two looks whether a server has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Drop for Server {
    /// Its data is of no use to anybody, so it need not drain; already gone is as good as killed.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Removes a folder and everything in it; one that is not there is empty already.
///
/// # Errors
/// What the system says.
pub(crate) fn empty(folder: &PathBuf) -> Result<(), Fail> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_and_a_command() {
        let bun = Contestant::peer(r#"bun=["bun","a=b.js"]"#).unwrap();
        assert_eq!((bun.name.as_str(), bun.kind, bun.command.len()), ("bun", Kind::Plain, 2));
        assert_eq!(Contestant::peer(r#"socket.io=["node"]"#).unwrap().kind, Kind::SocketIo);
        for bad in ["bun", "bun=[]", "bun=node", "bun={}"] {
            assert!(Contestant::peer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn server_and_load_have_no_core_in_common() {
        let cores = Cores::split(vec![0, 1, 2], 1).unwrap();
        assert_eq!((cores.server, cores.load), (vec![0], vec![1, 2]));
        assert!(Cores::split(vec![0], 1).is_err());
        let shared = Cores::split(vec![0, 1], 0).unwrap();
        assert_eq!(shared.server, shared.load);
    }
}
