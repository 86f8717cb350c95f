//! `holdfast tail`: every change of a room once, in order, whatever the connection does.
//!
//! Must not live here: cursors and resuming, which the session does. Invariant: lines are printed in the order of seq,
//! and a hole or a reset, which only another history on the server can make, is told and never silent.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::cursor::{Check, Position};
use shared::ids::{Epoch, RoomId, Seq};
use shared::message::{self, EventsAfter, Reply};
use shared::model::{OpenOutcome, RoomChange, RoomEvent, Snapshot};
use shared::session::{Command, ConnectionState, RequestTag, SessionEvent};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::words::{describe, reset_words};
use crate::again::Again;
use crate::args::{Common, Since, TailArgs};
use crate::connect::{self, KeptRefusals, Trouble};
use crate::driver::{Client, files};
use crate::exit::End;
use crate::room::Found;
use crate::search::Search;
use crate::terminal::{Look, json_line, line, note, stdout_closed};

/// Asks for the check that belongs to `--since SEQ`.
const CHECK_TAG: RequestTag = RequestTag(1);
/// Events between two writes of `--state`, at most.
const STATE_EVERY: u32 = 64;
/// Time between a change of the place and a write of `--state`, at most.
const STATE_WITHIN: Duration = Duration::from_secs(1);

/// Runs the command.
///
/// # Errors
/// See [`End`].
pub(crate) async fn run(common: &Common, args: TailArgs) -> Result<(), End> {
    let until = connect::deadline(args.timeout);
    let stored = args.state.as_deref().map(load).transpose()?.flatten();
    let state = connect::state_of(common)?;
    let account = connect::account(common, &state, until).await?;
    let search = Search::new(&state, &account, &args.room, args.create);
    let client = connect::start(common, &state, account);
    let mut tail = Tail {
        search,
        start: stored.map_or(Start::Since(args.since), Start::Stored),
        room: None,
        epoch: None,
        at: None,
        posts: 0,
        unsaved: 0,
        save_at: None,
        again: Again::default(),
        is_lost: false,
        is_whole: false,
        trouble: Trouble::default(),
        kept: KeptRefusals::default(),
        look: Look::of_stdout(),
        args,
    };
    let outcome = connect::drive(client, async |client| {
        tokio::select! {
            outcome = tail.run(client, until) => outcome,
            () = stdout_closed() => Err(End::ClosedPipe),
        }
    })
    .await;
    tail.save()?;
    outcome
}

/// What `--state` keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    room: RoomId,
    position: Position,
}

fn load(path: &Path) -> Result<Option<Stored>, End> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| End::Local(format!("{} holds no place of a tail: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(End::Local(format!("cannot read {}: {error}", path.display()))),
    }
}

#[derive(Clone, Copy, Debug)]
enum Start {
    Since(Since),
    Stored(Stored),
}

struct Tail {
    args: TailArgs,
    search: Search,
    start: Start,
    room: Option<RoomId>,
    epoch: Option<Epoch>,
    /// The last change printed, once the room is followed.
    at: Option<Position>,
    posts: u64,
    unsaved: u32,
    /// When the place is to be saved, once it has changed.
    save_at: Option<Instant>,
    /// For the question that belongs to `--since SEQ`. The session itself asks to follow a room as often as it takes.
    again: Again,
    is_lost: bool,
    /// Since the connection was lost last, nothing has been missed.
    is_whole: bool,
    trouble: Trouble,
    kept: KeptRefusals,
    look: Look,
}

impl Tail {
    async fn run(&mut self, client: &mut Client, until: Instant) -> Result<(), End> {
        while self.args.count.is_none_or(|count| self.posts < count) {
            let event = tokio::select! {
                event = timeout_at(until, client.next()) => event,
                found = self.search.due() => {
                    self.follow(client, found).await?;
                    continue;
                }
                () = self.again.due() => {
                    self.open(client).await?;
                    continue;
                }
                () = sleep_until(self.save_at.unwrap_or(until)), if self.save_at.is_some() => {
                    self.save()?;
                    continue;
                }
            };
            let event = event.map_err(|_| End::TimedOut(format!("The time is up.{}", self.trouble.words())))??;
            connect::stop_if_stopped(&event)?;
            self.trouble.hear(&event);
            self.kept.hear(&event).iter().for_each(|words| note(words));
            self.note_epoch(&event);
            let found = self.search.offer(&event)?;
            self.follow(client, found).await?;
            self.take(client, event).await?;
        }
        Ok(())
    }

    async fn follow(&mut self, client: &Client, found: Found) -> Result<(), End> {
        match found {
            Found::Wait => Ok(()),
            Found::Later(_) => {
                self.search.tell().iter().for_each(|words| note(words));
                Ok(())
            }
            Found::Ask(command) => Ok(client.command(command).await?),
            Found::Room(room) => {
                self.room = Some(room.room);
                self.open(client).await
            }
        }
    }

    /// Follows the room from where this tail starts, or first asks for what that needs.
    async fn open(&mut self, client: &Client) -> Result<(), End> {
        let (Some(room), Some(epoch)) = (self.room, self.epoch) else { return Ok(()) };
        let cursor = match self.start {
            Start::Stored(stored) if stored.room == room => Some(stored.position),
            Start::Stored(_) => return Err(End::Usage("the file of --state belongs to another room".into())),
            Start::Since(Since::Now) => None,
            Start::Since(Since::All) => Some(Position { epoch, seq: Seq(0), check: Check::default() }),
            Start::Since(Since::After(seq)) => {
                let ask = EventsAfter { room, after: Seq(seq.saturating_sub(1)), limit: Some(1) };
                let command = Command::Request { tag: CHECK_TAG, command: message::Command::Events(ask) };
                self.again.asked();
                return Ok(client.command(command).await?);
            }
        };
        Ok(client.command(Command::Open { room, cursor, replay: true }).await?)
    }

    fn note_epoch(&mut self, event: &SessionEvent) {
        if let SessionEvent::Welcomed { server, .. } = event {
            self.epoch = Some(server.epoch);
        }
    }

    async fn take(&mut self, client: &Client, event: SessionEvent) -> Result<(), End> {
        match event {
            SessionEvent::State(state) => self.tell_state(&state),
            SessionEvent::Refused { client_id, error } => {
                self.kept.refused(client_id, &error).iter().for_each(|words| note(words));
            }
            SessionEvent::Answer { tag: CHECK_TAG, result: Ok(Reply::Events(page)) } => {
                let Some(event) = page.events.first() else {
                    return Err(End::Refused(format!("the room has no such change yet; its last is {}", page.head)));
                };
                let epoch = self.epoch.unwrap_or_else(|| Epoch::from_bytes([0; 16]));
                self.start = Start::Stored(Stored {
                    room: page.room,
                    position: Position { epoch, seq: event.seq, check: event.check },
                });
                self.open(client).await?;
            }
            SessionEvent::Answer { tag: CHECK_TAG, result: Err(error) } if error.retryable => {
                self.again.refused(&error)
            }
            SessionEvent::Answer { tag: CHECK_TAG, result: Err(error) } => return Err(error.into()),
            SessionEvent::Opened(opened) if Some(opened.room) == self.room => self.opened(opened.outcome)?,
            SessionEvent::Room(event) if Some(event.room) == self.room => self.changed(&event)?,
            _ => {}
        }
        Ok(())
    }

    fn opened(&mut self, outcome: OpenOutcome) -> Result<(), End> {
        match outcome {
            OpenOutcome::Recovered { .. } => {
                if let (None, Start::Stored(stored)) = (self.at, self.start) {
                    self.at = Some(stored.position);
                }
            }
            OpenOutcome::Fresh { snapshot } => self.is_at(snapshot.as_of),
            OpenOutcome::Jumped { snapshot, hole } => {
                self.skipped("jumped", &format!("{hole} posts are not given"), Some(hole), &snapshot)?;
            }
            OpenOutcome::Reset { reason, snapshot } => {
                let code = serde_json::to_value(reason).ok();
                let code = code.as_ref().and_then(|code| code.as_str()).unwrap_or("reset");
                self.skipped(code, reset_words(reason), None, &snapshot)?;
            }
            OpenOutcome::Refused { error } => return Err(error.into()),
        }
        Ok(())
    }

    /// The server cannot give every change: says so, and goes on from what it has.
    fn skipped(&mut self, code: &str, words: &str, hole: Option<u64>, snapshot: &Snapshot) -> Result<(), End> {
        self.is_at(snapshot.as_of);
        self.is_whole = false;
        note(&format!("The history starts over: {words}. Going on after seq {}.", snapshot.as_of.seq));
        if self.args.json {
            json_line(&serde_json::json!({ "reset": code, "hole": hole, "as_of": snapshot.as_of }))?;
        }
        Ok(())
    }

    fn changed(&mut self, event: &RoomEvent) -> Result<(), End> {
        if self.args.json {
            json_line(event)?;
        } else if let Some(text) = describe(event, self.look) {
            line(&text)?;
        }
        if let Some(epoch) = self.epoch {
            self.is_at(Position { epoch, seq: event.seq, check: event.check });
        }
        self.posts += u64::from(matches!(event.change, RoomChange::Posted(_)));
        self.unsaved += 1;
        if self.unsaved >= STATE_EVERY {
            self.save()?;
        }
        Ok(())
    }

    fn is_at(&mut self, place: Position) {
        self.at = Some(place);
        self.save_at.get_or_insert_with(|| Instant::now() + STATE_WITHIN);
    }

    /// Keeps the place, as a whole or not at all.
    fn save(&mut self) -> Result<(), End> {
        self.save_at = None;
        self.unsaved = 0;
        let (Some(path), Some(room), Some(position)) = (&self.args.state, self.room, self.at) else { return Ok(()) };
        let text = serde_json::to_vec(&Stored { room, position }).unwrap_or_default();
        files::write(path, &text).map_err(|error| End::Local(format!("cannot write {}: {error}", path.display())))
    }

    fn tell_state(&mut self, state: &ConnectionState) {
        match state {
            ConnectionState::Waiting { .. } | ConnectionState::Offline if !self.is_lost => {
                self.is_lost = true;
                self.is_whole = self.at.is_some();
                // Who begins with what comes begins only when the room is open.
                let is_begun = self.is_whole || !matches!(self.start, Start::Since(Since::Now));
                let then = if is_begun { "; what is missed comes then" } else { "" };
                note(&format!("Not connected, trying again{then}.{}", self.trouble.words()));
            }
            ConnectionState::Live if self.is_lost => {
                self.is_lost = false;
                note(if self.is_whole { "Live again; nothing was missed." } else { "Live again." });
            }
            _ => {}
        }
    }
}
