//! `holdfast post`: done only when the server has stored it.
//!
//! Must not live here: retrying, which the session does. Invariant: exit code 0 means that every post of this call was
//! acknowledged; a seq is printed for each, in order.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::io::Read as _;
use std::time::Duration;

use shared::error::WireError;
use shared::ids::{ClientId, RoomId};
use shared::limits::POST_BYTES;
use shared::session::{Command, SendOp, SessionEvent};
use tokio::time::{Instant, sleep, timeout_at};

use crate::args::{Common, PostArgs};
use crate::connect::{self, Trouble};
use crate::driver::clock::wall;
use crate::driver::{Client, ids};
use crate::exit::End;
use crate::room::Found;
use crate::search::Search;
use crate::terminal::{line, note};

/// Posts of one call that wait for an answer at once; when the time is up, those that wait for the disk.
const IN_OUTBOX: usize = 64;
/// How often an unanswered look-up of the room is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Bytes read from standard input, at most, with `--lines`.
const INPUT_BYTES: u64 = 64 * 1024 * 1024;

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
    connect::drive(client, async |client| posting.run(client, &args, until).await).await
}

fn texts(args: &PostArgs) -> Result<VecDeque<String>, End> {
    let text = match args.text.as_deref() {
        Some("-") | None => read_input(args.lines)?,
        Some(text) => text.to_owned(),
    };
    let texts: VecDeque<String> = if args.lines {
        text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
    } else {
        VecDeque::from([text.trim_end_matches(['\r', '\n']).to_owned()])
    };
    match texts.iter().all(|text| text.trim().is_empty()) {
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

/// A post in the outbox.
struct Own {
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
    waiting: VecDeque<(ClientId, String)>,
    unanswered: BTreeMap<ClientId, Own>,
    /// Those the outbox had no place for.
    overflow: usize,
    /// The disk took what it was given last.
    is_storing: bool,
    refused: Option<WireError>,
    posted: usize,
    /// Posts of earlier calls that were acknowledged meanwhile.
    earlier: usize,
    trouble: Trouble,
    is_quiet: bool,
}

impl Posting {
    fn new(args: &PostArgs, search: Search, texts: VecDeque<String>) -> Self {
        let key = |_: usize| args.id.unwrap_or_else(ids::client_id);
        Self {
            search,
            room: None,
            waiting: texts.into_iter().enumerate().map(|(n, text)| (key(n), text)).collect(),
            unanswered: BTreeMap::new(),
            overflow: 0,
            is_storing: true,
            refused: None,
            posted: 0,
            earlier: 0,
            trouble: Trouble::default(),
            is_quiet: args.quiet,
        }
    }

    async fn run(&mut self, client: &mut Client, args: &PostArgs, until: Instant) -> Result<(), End> {
        while !(self.waiting.is_empty() && self.unanswered.is_empty()) {
            if let Some(room) = self.room {
                while self.unanswered.len() < IN_OUTBOX && self.queue_next(client, room).await? {}
            }
            let event = tokio::select! {
                event = timeout_at(until, client.next()) => event,
                () = sleep(ASK_AGAIN), if self.room.is_none() => {
                    let asked = self.search.ask();
                    self.follow(client, asked).await?;
                    continue;
                }
            };
            match event {
                Ok(event) => {
                    self.take(client, event?).await?;
                    if self.overflow > 0 {
                        return Err(End::Local("the outbox is full; see `holdfast outbox`".into()));
                    }
                }
                Err(_) => {
                    // Nobody said which room is meant: it is the one that was meant last.
                    let remembered = if self.room.is_none() && !args.no_keep { self.search.remembered() } else { None };
                    self.keep(client, remembered).await?;
                    // The answers may have come in this very moment.
                    if self.overflow > 0 || !(self.waiting.is_empty() && self.unanswered.is_empty()) {
                        return Err(self.give_up(client, args, remembered).await?);
                    }
                }
            }
        }
        if self.earlier > 0 {
            note(&format!("{} kept from earlier: sent as well.", posts(self.earlier)));
        }
        match self.refused.take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Puts the next post into the outbox. Returns false after the last.
    async fn queue_next(&mut self, client: &Client, room: RoomId) -> Result<bool, End> {
        let Some((client_id, body)) = self.waiting.pop_front() else { return Ok(false) };
        match self.unanswered.entry(client_id) {
            Entry::Vacant(entry) => {
                entry.insert(Own { room, is_attempted: false, is_saved: false });
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
            Found::Wait => {}
            Found::Ask(command) => client.command(command).await?,
            Found::Room(room) => self.room = Some(room.room),
        }
        Ok(())
    }

    async fn take(&mut self, client: &Client, event: SessionEvent) -> Result<(), End> {
        connect::stop_if_stopped(&event)?;
        self.trouble.hear(&event);
        let found = self.search.offer(&event)?;
        self.follow(client, found).await?;
        match event {
            SessionEvent::Queued(item) => {
                if let Some((_, body)) = self.waiting.iter().find(|(client_id, _)| *client_id == item.client_id) {
                    if item.op != (SendOp::Post { body: body.clone() }) {
                        return Err(End::Refused("an unsent post has this id already, with another text".into()));
                    }
                    let own = Own { room: item.room, is_attempted: item.attempted, is_saved: false };
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
            SessionEvent::Acked(ack) => match self.unanswered.remove(&ack.client_id) {
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
            },
            SessionEvent::Refused { client_id, error } => {
                if self.unanswered.remove(&client_id).is_some() {
                    client.command(Command::DiscardSend { client_id }).await?;
                    // What was refused in an earlier call is asked again in this one.
                    if !self.is_waiting(client_id) {
                        self.refused.get_or_insert(error);
                    }
                } else {
                    note(&format!("A post kept from earlier was refused: {error}. See `holdfast outbox`."));
                }
            }
            SessionEvent::OutboxFull { client_id } if self.unanswered.remove(&client_id).is_some() => {
                self.overflow += 1
            }
            _ => {}
        }
        Ok(())
    }

    fn is_waiting(&self, client_id: ClientId) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == client_id)
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

    /// Says what is known of each post when the time is up.
    async fn give_up(&self, client: &Client, args: &PostArgs, remembered: Option<RoomId>) -> Result<End, End> {
        let attempted = self.unanswered.values().filter(|own| own.is_attempted).count();
        let (mut kept, mut taken_back, mut unsaved) = (0, 0, 0);
        for (&client_id, own) in &self.unanswered {
            match own {
                Own { is_attempted: false, .. } if args.no_keep => taken_back += 1,
                Own { is_saved: true, .. } => {
                    kept += 1;
                    continue;
                }
                Own { is_saved: false, .. } => unsaved += 1,
            }
            // Ignored once it was on the way.
            client.command(Command::CancelSend { client_id }).await?;
        }
        let unkept = self.waiting.iter().filter(|(client_id, _)| !self.unanswered.contains_key(client_id)).count();
        let mut words = format!("Not acknowledged within {:?}.{}", args.timeout, self.trouble.words());
        if attempted > 0 && self.trouble.words().is_empty() {
            words += " Why is not known here; /readyz of the server says whether it can store.";
        }
        if kept > 0 {
            let room = remembered.map_or(String::new(), |_| connect::last_found_as(&args.room));
            let next = format!("the next holdfast command here sends {}", it(kept));
            words += &format!(" {} kept in the outbox{room}; {next}.", posts(kept));
        }
        if unsaved > 0 {
            let why = format!("this machine did not store {}", it(unsaved));
            words += &format!(" {} not acknowledged and not kept: {why}.", posts(unsaved));
        }
        let why = match (self.overflow, self.room.or(remembered), args.no_keep) {
            (1.., _, _) => ": the outbox is full",
            (0, None, false) => ": the server never said which room is meant",
            (0, Some(_), _) | (0, None, true) => "",
        };
        let dropped = unkept + taken_back + self.overflow;
        if dropped > 0 {
            words += &format!(" {} not sent and not kept{why}.", posts(dropped));
        }
        if let Some(error) = &self.refused {
            words += &format!(" Refused, the first because: {error}.");
        }
        if self.posted > 0 {
            words += &format!(" {} acknowledged before that.", posts(self.posted));
        }
        Ok(End::TimedOut(words))
    }
}

fn posts(n: usize) -> String {
    if n == 1 { "1 post".into() } else { format!("{n} posts") }
}

const fn it(n: usize) -> &'static str {
    if n == 1 { "it" } else { "them" }
}
