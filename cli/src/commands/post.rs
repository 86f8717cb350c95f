//! `holdfast post`: done only when the server has stored it.
//!
//! Must not live here: retrying, which the session does. Invariant: exit code 0 means that every post of this call was
//! acknowledged; a seq is printed for each, in order.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::io::Read as _;
use std::pin::pin;

use shared::close::StopReason;
use shared::error::WireError;
use shared::ids::{ClientId, RoomId};
use shared::limits::{OUTBOX_ITEMS, POST_BYTES};
use shared::message::Ack;
use shared::session::{Command, ConnectionState, SendOp, SessionEvent};
use tokio::time::{Instant, timeout_at};

use crate::args::{Common, PostArgs};
use crate::connect::{self, KeptRefusals, Trouble};
use crate::driver::clock::wall;
use crate::driver::{Client, ids};
use crate::exit::{Early, End};
use crate::room::Found;
use crate::search::Search;
use crate::terminal::{line, note};

/// Posts of one call that wait for an answer at once; when the time is up, those that wait for the disk.
const IN_OUTBOX: usize = 64;
/// Bytes read from standard input, at most, with `--lines`.
const INPUT_BYTES: u64 = 64 * 1024 * 1024;
/// Posts of one call, at most.
const INPUT_LINES: usize = 1_000_000;

/// Runs the command.
///
/// # Errors
/// See [`End`].
pub(crate) async fn run(common: &Common, args: PostArgs) -> Result<(), End> {
    let texts = texts(&args)?;
    // Whoever writes to standard input may take as long as they like.
    let until = connect::deadline(Some(args.timeout));
    let state = connect::state_of(common)?;
    let account = connect::account(common, &state, until).await?;
    let search = Search::new(&state, &account, &args.room, args.create);
    let client = connect::start(common, &state, account);
    let mut posting = Posting::new(&args, search, texts);
    connect::see_out(client, async |client| posting.run(client, &args, until).await).await
}

/// Reads what is to be posted, each with the number of its line.
fn texts(args: &PostArgs) -> Result<Vec<(usize, String)>, End> {
    let text = match args.text.as_deref() {
        Some("-") | None => read_input(args.lines)?,
        Some(text) => text.to_owned(),
    };
    let texts = if args.lines {
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        if lines.clone().nth(INPUT_LINES).is_some() {
            return Err(End::Usage(format!("there are more than {INPUT_LINES} lines to post")));
        }
        lines.map(|(n, line)| (n, line.to_owned())).collect()
    } else {
        vec![(1, text.trim_end_matches(['\r', '\n']).to_owned())]
    };
    match texts.iter().all(|(_, text)| text.trim().is_empty()) {
        true => Err(End::Usage("there is nothing to post".into())),
        false => Ok(texts),
    }
}

fn read_input(is_lines: bool) -> Result<String, End> {
    let limit = if is_lines { INPUT_BYTES } else { POST_BYTES as u64 };
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| End::Local(format!("cannot read standard input: {error}")))?;
    if bytes.len() as u64 > limit {
        return Err(End::Usage(format!("standard input is longer than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| End::Usage("standard input is not UTF-8".into()))
}

/// A post that is not in the outbox yet.
struct Waiting {
    client_id: ClientId,
    /// The line of the input it is, from 1.
    line: usize,
    body: String,
}

/// A post in the outbox.
struct Own {
    line: usize,
    room: RoomId,
    /// It was on the way at least once, so its outcome is unknown.
    is_attempted: bool,
    /// It is on the disk, and outlives this program.
    is_saved: bool,
}

/// What became of the posts of this call.
struct Posting {
    search: Search,
    room: Option<RoomId>,
    waiting: VecDeque<Waiting>,
    /// Posts of this call.
    asked: usize,
    unanswered: BTreeMap<ClientId, Own>,
    /// What the outbox holds, of earlier calls, too, and whether it was refused.
    in_outbox: BTreeMap<ClientId, bool>,
    /// Those the outbox had no place for, where it was not known to be full.
    overflow: usize,
    /// Those that were taken out of the outbox again, untouched.
    taken_back: usize,
    stopped: Option<StopReason>,
    /// The disk took what it was given last.
    is_storing: bool,
    refused: usize,
    /// The first that was refused: which line it is, and why.
    first_refusal: Option<(usize, WireError)>,
    posted: usize,
    /// Posts of earlier calls that were acknowledged meanwhile.
    earlier: usize,
    trouble: Trouble,
    kept: KeptRefusals,
    is_quiet: bool,
}

impl Posting {
    fn new(args: &PostArgs, search: Search, texts: Vec<(usize, String)>) -> Self {
        let new = |(line, body)| Waiting { client_id: args.id.unwrap_or_else(ids::client_id), line, body };
        Self {
            search,
            room: None,
            asked: texts.len(),
            waiting: texts.into_iter().map(new).collect(),
            unanswered: BTreeMap::new(),
            in_outbox: BTreeMap::new(),
            overflow: 0,
            taken_back: 0,
            stopped: None,
            is_storing: true,
            refused: 0,
            first_refusal: None,
            posted: 0,
            earlier: 0,
            trouble: Trouble::default(),
            kept: KeptRefusals::default(),
            is_quiet: args.quiet,
        }
    }

    async fn run(&mut self, client: &mut Client, args: &PostArgs, until: Instant) -> Result<(), End> {
        let mut interrupted = pin!(connect::interrupted());
        while !self.is_done() {
            if let Some(room) = self.room {
                while self.unanswered.len() < IN_OUTBOX && self.queue_next(client, room).await? {}
            }
            let why = match self.stopped {
                Some(reason) => Early::Stopped(reason),
                None if self.is_stuck() => Early::Full,
                None => tokio::select! {
                    event = timeout_at(until, client.next()) => match event {
                        Ok(event) => {
                            self.take(client, event?).await?;
                            continue;
                        }
                        Err(_) => Early::OutOfTime,
                    },
                    found = self.search.due(), if self.room.is_none() => {
                        self.follow(client, found).await?;
                        continue;
                    }
                    () = &mut interrupted => Early::Interrupted,
                },
            };
            // Nobody said which room is meant: it is the one that was meant last.
            let guessed = if self.room.is_none() { self.search.remembered() } else { None };
            let room = if args.no_keep { None } else { self.room.or(guessed) };
            connect::unless_interrupted(self.keep(client, room)).await?;
            connect::unless_interrupted(self.take_back(client, args.no_keep)).await?;
            // The answers may have come in this very moment.
            if self.overflow + self.taken_back > 0 || !self.is_done() {
                return Err(why.with(&self.left_behind(args, why, guessed)));
            }
        }
        if self.earlier > 0 {
            note(&format!("{} kept from earlier: sent as well.", posts(self.earlier)));
        }
        match (self.refusals(), self.first_refusal.take()) {
            (Some(words), _) => Err(End::Refused(format!("{words} {} acknowledged.", posts(self.posted)))),
            (None, Some((_, error))) => Err(error.into()),
            (None, None) => Ok(()),
        }
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.unanswered.is_empty()
    }

    /// Says how many of several posts were refused, and why the first.
    fn refusals(&self) -> Option<String> {
        let (line, error) = self.first_refusal.as_ref().filter(|_| self.asked > 1)?;
        let (refused, asked) = (self.refused, self.asked);
        Some(format!("{refused} of {asked} posts refused, the first is line {line}: {error}"))
    }

    fn is_full(&self) -> bool {
        self.in_outbox.len() >= OUTBOX_ITEMS
    }

    /// Nothing that is in the outbox will ever leave it by itself.
    fn is_stuck(&self) -> bool {
        self.room.is_some() && self.is_full() && self.in_outbox.values().all(|&is_refused| is_refused)
    }

    /// Puts the next post into the outbox. Returns false after the last, and where there is no place for another.
    async fn queue_next(&mut self, client: &Client, room: RoomId) -> Result<bool, End> {
        let is_there = |waiting: &Waiting| self.in_outbox.contains_key(&waiting.client_id);
        if self.is_full() && !self.waiting.front().is_some_and(is_there) {
            return Ok(false);
        }
        let Some(Waiting { client_id, line, body }) = self.waiting.pop_front() else { return Ok(false) };
        match self.unanswered.entry(client_id) {
            Entry::Vacant(entry) => {
                entry.insert(Own { line, room, is_attempted: false, is_saved: false });
                self.in_outbox.insert(client_id, false);
                client.command(Command::Send { client_id, room, op: SendOp::Post { body }, at: wall() }).await?;
            }
            // It is there from an earlier call with the same id.
            Entry::Occupied(entry) if entry.get().room == room => {}
            Entry::Occupied(_) => {
                return Err(End::Refused("an unsent post has this id already, in another room".into()));
            }
        }
        Ok(true)
    }

    async fn follow(&mut self, client: &Client, found: Found) -> Result<(), End> {
        match found {
            Found::Wait | Found::Later(_) => {}
            Found::Ask(command) => client.command(command).await?,
            Found::Room(room) => self.room = Some(room.room),
        }
        Ok(())
    }

    async fn take(&mut self, client: &Client, event: SessionEvent) -> Result<(), End> {
        self.trouble.hear(&event);
        self.kept.hear(&event).iter().for_each(|words| note(words));
        let found = self.search.offer(&event)?;
        self.follow(client, found).await?;
        match event {
            SessionEvent::State(ConnectionState::Stopped(reason)) => self.stopped = Some(reason),
            SessionEvent::Queued(item) => {
                self.in_outbox.insert(item.client_id, item.refused.is_some());
                // Only one whose id was given can be there already, and it is the only one.
                if let Some(waiting) = self.waiting.front().filter(|waiting| waiting.client_id == item.client_id) {
                    if item.op != (SendOp::Post { body: waiting.body.clone() }) {
                        return Err(End::Refused("an unsent post has this id already, with another text".into()));
                    }
                    let own =
                        Own { line: waiting.line, room: item.room, is_attempted: item.attempted, is_saved: false };
                    self.unanswered.insert(item.client_id, own);
                }
            }
            SessionEvent::Sending(client_id) => {
                self.unanswered.entry(client_id).and_modify(|own| own.is_attempted = true);
            }
            SessionEvent::Saved(client_id) => {
                self.unanswered.entry(client_id).and_modify(|own| own.is_saved = true);
            }
            SessionEvent::Storage { ok } => self.is_storing = ok,
            SessionEvent::Acked(ack) => self.acked(ack),
            SessionEvent::Discarded(client_id) => {
                self.in_outbox.remove(&client_id);
                self.taken_back += usize::from(self.unanswered.remove(&client_id).is_some());
            }
            SessionEvent::Refused { client_id, error } => {
                self.in_outbox.insert(client_id, true);
                if let Some(own) = self.unanswered.remove(&client_id) {
                    client.command(Command::DiscardSend { client_id }).await?;
                    // What was refused in an earlier call is asked again in this one.
                    if !self.is_waiting(client_id) {
                        self.note_refusal(own.line, error);
                    }
                } else {
                    self.kept.refused(client_id, &error).iter().for_each(|words| note(words));
                }
            }
            SessionEvent::OutboxFull { client_id } => {
                self.in_outbox.remove(&client_id);
                self.overflow += usize::from(self.unanswered.remove(&client_id).is_some());
            }
            _ => {}
        }
        Ok(())
    }

    fn note_refusal(&mut self, line: usize, error: WireError) {
        self.refused += 1;
        if self.asked > 1 {
            note(&format!("Line {line} is refused: {error}"));
        }
        self.first_refusal.get_or_insert((line, error));
    }

    fn acked(&mut self, ack: Ack) {
        self.in_outbox.remove(&ack.client_id);
        match self.unanswered.remove(&ack.client_id) {
            // From an earlier call. It is asked again, and the answer says whether it was for this room.
            Some(_) if self.is_waiting(ack.client_id) => {}
            Some(_) => {
                self.posted += 1;
                if !self.is_quiet {
                    // It is stored; that nobody reads the seq changes nothing.
                    let _ = line(&ack.seq.to_string());
                }
            }
            None => self.earlier += 1,
        }
    }

    /// Only one whose id was given can have been in the outbox while it waits, and it is the only one.
    fn is_waiting(&self, client_id: ClientId) -> bool {
        self.waiting.front().is_some_and(|waiting| waiting.client_id == client_id)
    }

    /// Waits until the disk holds what is in the outbox, or does not take it. With a room, first puts there what waits,
    /// in order and as far as there is place.
    async fn keep(&mut self, client: &mut Client, room: Option<RoomId>) -> Result<(), End> {
        let until = connect::deadline(Some(connect::STORED_WITHIN));
        loop {
            if let Some(room) = room {
                while self.overflow == 0 && self.unsaved() < IN_OUTBOX && self.queue_next(client, room).await? {}
            }
            if self.unsaved() == 0 || !self.is_storing {
                return Ok(());
            }
            match timeout_at(until, client.next()).await {
                Ok(event) => self.take(client, event?).await?,
                Err(_) => return Ok(()),
            }
        }
    }

    fn unsaved(&self) -> usize {
        self.unanswered.values().filter(|own| !own.is_saved).count()
    }

    /// Takes back what is not to be kept, or could not be, as far as it was never on the way; waits until it is known
    /// whether it was.
    async fn take_back(&mut self, client: &mut Client, is_all: bool) -> Result<(), End> {
        let untouched = |own: &Own| !own.is_attempted && (is_all || !own.is_saved);
        for (&client_id, _) in self.unanswered.iter().filter(|(_, own)| untouched(own)) {
            // Ignored once it was on the way.
            client.command(Command::CancelSend { client_id }).await?;
        }
        let until = connect::deadline(Some(connect::STORED_WITHIN));
        while self.unanswered.values().any(untouched) {
            match timeout_at(until, client.next()).await {
                Ok(event) => self.take(client, event?).await?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Says what is known of each post when the end comes early.
    fn left_behind(&self, args: &PostArgs, why: Early, guessed: Option<RoomId>) -> String {
        let attempted = self.unanswered.values().filter(|own| own.is_attempted).count();
        let kept = self.unanswered.values().filter(|own| own.is_saved).count();
        let unsaved = self.unanswered.len() - kept + if args.no_keep { 0 } else { self.taken_back };
        let taken_back = if args.no_keep { self.taken_back } else { 0 };
        let is_kept = |waiting: &&Waiting| self.unanswered.contains_key(&waiting.client_id);
        let unkept = self.waiting.len() - self.waiting.iter().filter(is_kept).count();
        let mut words = String::new();
        if let Early::OutOfTime = why {
            words += &format!("Not acknowledged within {:?}.{}", args.timeout, self.trouble.words());
            if attempted > 0 && self.trouble.words().is_empty() {
                words += " Why is not known here; /readyz of the server says whether it can store.";
            }
        }
        if kept > 0 {
            let room = guessed.map_or(String::new(), |_| connect::last_found_as(&args.room));
            let next = match why {
                Early::Stopped(_) => format!("`holdfast outbox` under this name shows {}", it(kept)),
                _ => format!("the next holdfast command here sends {}", it(kept)),
            };
            words += &format!(" {} kept in the outbox{room}; {next}.", posts(kept));
        }
        if unsaved > 0 {
            let why = format!("this machine did not store {}", it(unsaved));
            words += &format!(" {} not acknowledged and not kept: {why}.", posts(unsaved));
        }
        let because = match self.room.or(guessed) {
            _ if args.no_keep => String::new(),
            _ if self.overflow > 0 || self.is_full() => ": the outbox is full".into(),
            None => format!(": {}", self.search.why().unwrap_or("the server never said which room is meant".into())),
            Some(_) => String::new(),
        };
        let dropped = unkept + taken_back + self.overflow;
        if dropped > 0 {
            words += &format!(" {} not sent and not kept{because}.", posts(dropped));
        }
        if let Some(refusals) = self.refusals() {
            words += &format!(" {refusals}");
        }
        if self.posted > 0 {
            words += &format!(" {} acknowledged before that.", posts(self.posted));
        }
        words.trim_start().to_owned()
    }
}

fn posts(n: usize) -> String {
    if n == 1 { "1 post".into() } else { format!("{n} posts") }
}

const fn it(n: usize) -> &'static str {
    if n == 1 { "it" } else { "them" }
}
