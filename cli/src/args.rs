//! The arguments of every command, and the help that explains them.
//!
//! Must not live here: what a command does. Invariant: every flag has a default that suits a person, and every default
//! is in the help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::driver::server_url::ServerUrl;
use crate::exit;

/// Chat, post and listen from the command line, over a link that may break.
///
/// Everything is sent through an outbox on this machine: what is not acknowledged is sent again after a reconnect, a
/// restart of the server, or the next start of this program, and is never stored twice.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, after_help = exit::HELP, after_long_help = concat_help())]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

fn concat_help() -> String {
    let examples = "\
Examples:
  holdfast chat                                 talk in general
  holdfast --name Ada chat garden               talk in garden, as Ada
  make 2>&1 | tail -n 20 | holdfast post builds -
  holdfast post ops 'backup done' && rm /var/run/backup.pending
  holdfast tail ops --json --since all | jq -r .detail.body
  holdfast outbox                               what is not sent yet";
    format!("{examples}\n\n{}", exit::HELP)
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Address of the server
    #[arg(long, global = true, env = "HOLDFAST_SERVER_URL", default_value = "http://127.0.0.1:8080", value_name = "URL", value_parser = ServerUrl::parse)]
    pub(crate) server: ServerUrl,
    /// Who to be. Default: who signed in last on this server from here, else somebody new under your login name
    #[arg(long, global = true, env = "HOLDFAST_NAME", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Where accounts and unsent posts are kept. Default: your data folder
    #[arg(long, global = true, env = "HOLDFAST_STATE", value_name = "FOLDER")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Talk in a room: shows what is said and the state of the connection, sends what you type
    Chat(ChatArgs),
    /// Post, and exit with 0 only when the server has stored it
    Post(PostArgs),
    /// Print what happens in a room: every change once, in order, across reconnects and restarts
    Tail(TailArgs),
    /// List the rooms of the server
    Rooms(RoomsArgs),
    /// Show, send or discard what is not sent yet
    Outbox(OutboxArgs),
    /// Sign in as somebody new on this server, under --name or your login name
    ///
    /// A name is given once. Where this is interrupted, or the link breaks, before the server's answer has come, the name
    /// may be given to nobody: take another.
    SignIn,
    /// End the session, also on the server, and forget the account on this machine; not while something is unsent
    ///
    /// The name stays taken on the server. Where the server is away, only this machine forgets, and only
    /// if no other holdfast program of this person runs here.
    SignOut,
    /// Measure a server of your own with many clients
    Bench(Box<BenchArgs>),
}

/// Arguments of `chat`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line is a post. /help lists the few commands there are, such as /who and /quit; Ctrl-D ends when all is \
acknowledged, or after --timeout, Ctrl-C at once; what is not acknowledged is kept in the outbox then, as with `post`, \
and it is said how much. Lines may be piped in, and are read as fast as the server stores them: those that begin with a slash and are no \
command are then posts, too.")]
pub(crate) struct ChatArgs {
    /// Name of the room
    #[arg(default_value = "general")]
    pub(crate) room: String,
    /// Make the room if there is none of this name
    #[arg(long)]
    pub(crate) create: bool,
    /// How long to wait at the end of the input for what is not acknowledged yet, such as 500ms, 30s or 5m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// Arguments of `post`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints the seq of each post; with --lines it says the number of each line that is refused, and posts the rest. Without TEXT, and with - as TEXT, reads standard input to its end.

A post that is not acknowledged in time, or when it is interrupted, stays in the outbox, and the next `holdfast` command \
for this server and person sends it, unless --no-keep is given and it was never on the way. Where the server was away from the start, it is kept for \
the room that an earlier command found last under this name; where none did, nothing is kept. The outbox holds 1000 \
posts, and it is said how many are kept and how many are not. To try again from a script without posting twice, give the same --id: \
one id is one post, for ever.")]
pub(crate) struct PostArgs {
    /// Name of the room
    pub(crate) room: String,
    /// The text; - for standard input
    pub(crate) text: Option<String>,
    /// One post for every line that is not empty, in order
    #[arg(long, conflicts_with = "id")]
    pub(crate) lines: bool,
    /// Give up after this long, counted from the end of standard input, such as 500ms, 30s or 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// The post's own id, a UUID: asked twice, posted once
    #[arg(long, value_name = "UUID")]
    pub(crate) id: Option<shared::ids::ClientId>,
    /// Make the room if there is none of this name
    #[arg(long)]
    pub(crate) create: bool,
    /// Take back what was never on the way when the time is up, rather than keep it in the outbox
    #[arg(long)]
    pub(crate) no_keep: bool,
    /// Print no seq
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Arguments of `tail`.
#[derive(Debug, Args)]
#[command(after_help = "\
With --json each line is one event as the server sends it (docs/PROTOCOL.md). If the server's history is found to be \
another one than before, such as after a backup was restored, a line {\"reset\":…} says so, and a note on stderr.

The file of --state is written within a second of a change, and at the end. After a crash or a kill the lines of that \
second may come again.")]
pub(crate) struct TailArgs {
    /// Name of the room
    pub(crate) room: String,
    /// One JSON object a line, every kind of change
    #[arg(long)]
    pub(crate) json: bool,
    /// Start after this seq; all: from the first; now: with what comes
    #[arg(long, value_name = "SEQ|all|now", default_value = "now")]
    pub(crate) since: Since,
    /// End after so many posts
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Keep the place in this file, and go on from it the next time
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// Make the room if there is none of this name
    #[arg(long)]
    pub(crate) create: bool,
    /// End with 3 after this long, such as 30s or 5m, without being done; never where absent
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

/// Where a tail begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// With the first change.
    All,
    /// With what comes.
    Now,
    /// After this change.
    After(u64),
}

impl std::str::FromStr for Since {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" | "0" => Ok(Self::All),
            "now" => Ok(Self::Now),
            number => number.parse().map(Self::After).map_err(|_| format!("{number} is neither a seq, all, nor now")),
        }
    }
}

/// Arguments of `rooms`.
#[derive(Debug, Args)]
pub(crate) struct RoomsArgs {
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Give up after this long, such as 500ms, 30s or 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// Arguments of `outbox`.
#[derive(Debug, Args)]
pub(crate) struct OutboxArgs {
    /// Send it, and exit with 0 only when nothing is left
    #[arg(long, conflicts_with = "discard")]
    pub(crate) send: bool,
    /// Delete it
    #[arg(long)]
    pub(crate) discard: bool,
    /// Give up after this long, such as 500ms, 30s or 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Posts on an open-loop schedule: each has an intended time, and every latency counts from it, so a server that falls \
behind cannot hide it. Receivers count every delivery and check that each seq comes once, in order. --durable is a closed \
loop instead: each sender waits for its acknowledgement before it posts again.

The server limits posts and connections of each person and address. Start it with higher ones for a bench (--posts-burst, \
--posts-per-s, --frames-burst, --frames-per-s, --sign-ins, --pending-per-address; see server --help), and say so beside \
the figures. Only a server on this machine is accepted, unless you say that it is yours.")]
pub(crate) struct BenchArgs {
    /// Connections that follow the room
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) clients: usize,
    /// Of these, how many post, in turn; with --durable, how many post at once
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) senders: usize,
    /// Ticks a second of the schedule
    #[arg(long, default_value_t = 20.0, value_name = "HZ")]
    pub(crate) rate: f64,
    /// Posts at every tick
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) burst: usize,
    /// How long to post
    #[arg(long, default_value_t = 10.0, value_name = "S")]
    pub(crate) seconds: f64,
    /// Bytes of text in a post
    #[arg(long, default_value_t = 200, value_name = "BYTES")]
    pub(crate) size: usize,
    /// The room; made if there is none of this name
    #[arg(long, default_value = "bench")]
    pub(crate) room: String,
    /// Closed loop: only senders, following nothing, each waiting for its acknowledgement
    #[arg(long, conflicts_with = "idle")]
    pub(crate) durable: bool,
    /// Only open so many signed-in connections, and report the server's memory
    #[arg(long, value_name = "N")]
    pub(crate) idle: Option<usize>,
    /// The server's process on this machine: reports its CPU time and memory
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Accept a server on another machine
    #[arg(long)]
    pub(crate) i_own_this_server: bool,
}

/// Reads `500ms`, `30s`, `5m`, `2h` or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| format!("{text} is not a time such as 30s"))?;
    let seconds = match unit {
        "ms" => number / 1_000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        other => return Err(format!("{other} is not ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_read_with_their_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "5y", "-1s", "1e400s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
