//! From the arguments to a running session: who am I here, and where is my outbox.
//!
//! Must not live here: what a command does with the session. Invariant: a running session is always ended by
//! [`drive`], so the disk holds what it was given before the program leaves.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use directories::ProjectDirs;
use shared::close;
use shared::error::WireError;
use shared::ids::ClientId;
use shared::session::{Command, ConnectionState, Diagnostic, Happened, SessionEvent};
use tokio::time::{Instant, sleep, timeout_at};

use crate::args::Common;
use crate::driver::Client;
use crate::driver::account::{Account, Door, ServerState};
use crate::driver::ids;
use crate::driver::outbox::OutboxFile;
use crate::driver::sign_in::{SignInError, sign_in};
use crate::exit::End;
use crate::terminal::{note, tame};

/// First and longest wait between attempts to sign in.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(15);
/// How often it is looked whether another process has done signing in.
const DOOR_AGAIN: Duration = Duration::from_millis(50);
/// What such a process does for longer is told.
const DOOR_TOLD_AFTER: Duration = Duration::from_secs(1);
const AT_THE_DOOR: &str = "Another holdfast program is signing in here";
/// How long the disk may take, when a command gives up, to store what is to be kept.
pub(crate) const STORED_WITHIN: Duration = Duration::from_secs(10);
/// A deadline for commands that have none: longer than any of them runs.
const NO_DEADLINE: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// Turns a limit into a deadline.
pub(crate) fn deadline(limit: Option<Duration>) -> Instant {
    let now = Instant::now();
    now.checked_add(limit.unwrap_or(NO_DEADLINE).min(NO_DEADLINE)).unwrap_or(now)
}

/// Says, with a space before it, for which room something is kept that nobody could be asked about.
pub(crate) fn last_found_as(wanted: &str) -> String {
    format!(" for the room last found as “{}”", tame(wanted))
}

/// Opens the folder of this server.
///
/// # Errors
/// [`End::Local`] if there is none and none can be made.
pub(crate) fn state_of(common: &Common) -> Result<ServerState, End> {
    let folder: PathBuf = match &common.state_dir {
        Some(folder) => folder.clone(),
        None => ProjectDirs::from("", "", "holdfast")
            .map(|folders| folders.data_dir().to_owned())
            .ok_or_else(|| End::Local("you have no home folder; give --state-dir".into()))?,
    };
    let unclear = ServerState::find_unclear(&folder, &common.server);
    let state = ServerState::open(&folder, &common.server)
        .map_err(|error| End::Local(format!("cannot write {}: {error}; give --state-dir", folder.display())))?;
    if let Some(old) = unclear {
        let (old, new) = (old.display(), state.folder().display());
        note(&format!(
            "An earlier version kept in {old} what may be of {}: if it is, move it to {new}.",
            common.server
        ));
    }
    Ok(state)
}

/// Finds the account to use, and signs in where there is none yet. Tries again while the server is away.
///
/// # Errors
/// [`End::Refused`] if the name is; [`End::TimedOut`] at the deadline; [`End::Interrupted`].
pub(crate) async fn account(common: &Common, state: &ServerState, until: Instant) -> Result<Account, End> {
    match state.find(common.name.as_deref()) {
        Some(account) => Ok(account),
        None => through_the_door(common, state, until, true).await,
    }
}

/// Signs in as somebody new.
///
/// # Errors
/// As [`account`].
pub(crate) async fn new_account(common: &Common, state: &ServerState, until: Instant) -> Result<Account, End> {
    through_the_door(common, state, until, false).await
}

async fn through_the_door(common: &Common, state: &ServerState, until: Instant, is_any: bool) -> Result<Account, End> {
    let is_tried = Cell::new(false);
    let why = || match is_tried.get() {
        true => format!("{} cannot be reached; nothing was sent.", common.server),
        false => format!("{AT_THE_DOOR}; nothing was sent."),
    };
    tokio::select! {
        signed_in = timeout_at(until, sign_in_until_it_works(common, state, is_any, &is_tried)) => {
            signed_in.unwrap_or_else(|_| Err(End::TimedOut(why())))
        }
        () = interrupted() => Err(End::Interrupted(None)),
    }
}

/// Waits for the right to sign in, and says so once where it takes long.
async fn at_the_door(state: &ServerState, is_noted: &mut bool) -> Result<Door, End> {
    let noted_at = Instant::now() + DOOR_TOLD_AFTER;
    loop {
        match state.door() {
            Ok(Some(door)) => return Ok(door),
            Ok(None) => sleep(DOOR_AGAIN).await,
            Err(error) => return Err(End::Local(format!("no account could be kept here: {error}"))),
        }
        if noted_at <= Instant::now() && !std::mem::replace(is_noted, true) {
            note(&format!("{AT_THE_DOOR}; waiting."));
        }
    }
}

async fn sign_in_until_it_works(
    common: &Common,
    state: &ServerState,
    is_any: bool,
    is_tried: &Cell<bool>,
) -> Result<Account, End> {
    let mut name = common.name.clone().unwrap_or_else(login_name);
    let mut wait = RETRY_FIRST;
    let (mut is_told, mut is_noted) = (false, false);
    loop {
        let door = at_the_door(state, &mut is_noted).await?;
        // Another process may have signed in while this one waited for the door.
        if is_any && let Some(account) = state.find(common.name.as_deref()) {
            return Ok(account);
        }
        is_tried.set(true);
        match sign_in(&common.server, &name).await {
            Ok(account) => {
                let kept = state.store_in(&door, &account);
                kept.map_err(|error| End::Local(format!("cannot keep the account: {error}")))?;
                note(&format!("Signed in as {} on {}.", account.user.name, common.server));
                return Ok(account);
            }
            // A name nobody asked for by name may be another one.
            Err(SignInError::Refused(error)) => match error.suggestion.clone() {
                Some(free) if common.name.is_none() && free != name => name = free,
                Some(_) | None => return Err(error.into()),
            },
            Err(SignInError::Strange(why)) => return Err(End::Refused(why)),
            Err(SignInError::Unreachable(why)) => {
                // Others may try meanwhile, even where this process does nothing for long.
                drop(door);
                if !std::mem::replace(&mut is_told, true) {
                    note(&format!("Cannot reach the server, trying again: {why}"));
                }
                // From half the wait to all of it, so that many clients do not come at once.
                let share = 0.5 + f64::from(ids::random::<1>()[0]) / 512.0;
                sleep(wait.mul_f64(share)).await;
                wait = (wait * 2).min(RETRY_LONGEST);
            }
        }
    }
}

fn login_name() -> String {
    ["USER", "LOGNAME", "USERNAME"]
        .iter()
        .find_map(|variable| std::env::var(variable).ok().filter(|name| !name.trim().is_empty()))
        .unwrap_or_else(|| "guest".into())
}

/// Opens the outbox of an account, for a command that is of no use without.
///
/// # Errors
/// [`End::Local`] if it cannot be opened.
pub(crate) fn outbox(state: &ServerState, account: &Account) -> Result<OutboxFile, End> {
    let folder = state.outbox(account);
    OutboxFile::open(&folder)
        .map_err(|error| End::Local(format!("cannot read the outbox in {}: {error}", folder.display())))
}

/// Starts the session of an account, with its outbox; without one, and says so, where it cannot be opened.
pub(crate) fn start(common: &Common, state: &ServerState, account: Account) -> Client {
    let folder = state.outbox(&account);
    let outbox = OutboxFile::open(&folder);
    match &outbox {
        Ok(outbox) if outbox.unread() == 0 => {}
        Ok(_) => note("The outbox holds what this version cannot read; see `holdfast outbox`."),
        Err(error) => note(&format!("Unsent posts cannot be kept in {}: {error}", folder.display())),
    }
    Client::start(common.server.clone(), account, outbox.ok())
}

/// Does some work with a session and ends the session in order, also when interrupted.
///
/// # Errors
/// What the work says, or [`End::Interrupted`].
pub(crate) async fn drive<T>(client: Client, work: impl AsyncFnOnce(&mut Client) -> Result<T, End>) -> Result<T, End> {
    see_out(client, async |client| unless_interrupted(work(client)).await).await
}

/// As [`drive`], for work that has something to do when it is interrupted, and listens for that itself.
///
/// # Errors
/// What the work says.
pub(crate) async fn see_out<T>(
    mut client: Client,
    work: impl AsyncFnOnce(&mut Client) -> Result<T, End>,
) -> Result<T, End> {
    let outcome = async {
        client.command(Command::Start).await?;
        work(&mut client).await
    }
    .await;
    client.finish().await;
    outcome
}

/// Does some work, and leaves it where it stands when interrupted.
///
/// # Errors
/// What the work says, or [`End::Interrupted`].
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = Result<T, End>>) -> Result<T, End> {
    tokio::select! {
        outcome = work => outcome,
        () = interrupted() => Err(End::Interrupted(None)),
    }
}

/// Waits for Ctrl-C, SIGTERM, or SIGHUP where it is not ignored.
pub(crate) async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let hung_up = async {
            match if is_hangup_ignored() { None } else { signal(SignalKind::hangup()).ok() } {
                Some(mut signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminated.recv() => return,
                _ = hung_up => return,
                Ok(()) = tokio::signal::ctrl_c() => return,
            }
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Under `nohup` the program is to outlive its terminal, and to listen for the signal would undo that. Where the system
/// does not say so in `/proc`, the signal is left to it.
#[cfg(unix)]
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // It is signal 1, the lowest bit. Once there is a handler, it is not ignored.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}

/// Ends a command when the session needs a person.
///
/// # Errors
/// [`End::Stopped`] if it does.
pub(crate) fn stop_if_stopped(event: &SessionEvent) -> Result<(), End> {
    match event {
        SessionEvent::State(ConnectionState::Stopped(reason)) => Err((*reason).into()),
        _ => Ok(()),
    }
}

/// What the server refuses of what earlier commands kept, which whoever gave it could not be told: each when it happens, and
/// the number of those that were refused before once.
#[derive(Debug, Default)]
pub(crate) struct KeptRefusals {
    /// Found refused, and not yet reported so by the session, which does it before anything else.
    found: BTreeSet<ClientId>,
    count: usize,
}

impl KeptRefusals {
    /// Looks at an event for what was found refused, and returns what there is to say of it.
    pub(crate) fn hear(&mut self, event: &SessionEvent) -> Option<String> {
        match event {
            SessionEvent::Queued(item) if item.refused.is_some() => {
                self.found.insert(item.client_id);
                None
            }
            SessionEvent::State(_) => match std::mem::take(&mut self.count) {
                0 => None,
                n => Some(format!("Kept from earlier and refused: {n}. See `holdfast outbox`.")),
            },
            _ => None,
        }
    }

    /// Takes a refusal of what an earlier command kept, and returns what is to be said of it now.
    pub(crate) fn refused(&mut self, client_id: ClientId, error: &WireError) -> Option<String> {
        if self.found.remove(&client_id) {
            self.count += 1;
            return None;
        }
        Some(format!("A post kept from earlier was refused: {error}. See `holdfast outbox`."))
    }
}

/// Remembers why the last connection ended, for the moment when a command gives up.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Option<String>);

impl Trouble {
    /// Looks at an event for a reason.
    pub(crate) fn hear(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::Diagnostic(Diagnostic { what: Happened::Closed { code, reason, by_us: false }, .. }) => {
                let words = close::lookup(*code).map_or("The connection was closed.", |meaning| meaning.words);
                let detail = if reason.is_empty() { String::new() } else { format!(" ({})", tame(reason)) };
                self.0 = Some(format!("{words}{detail}"));
            }
            SessionEvent::State(ConnectionState::Live) => self.0 = None,
            _ => {}
        }
    }

    /// Says what is known, with a space before it; nothing while all is well.
    pub(crate) fn words(&self) -> String {
        self.0.as_ref().map_or(String::new(), |words| format!(" {words}"))
    }
}
