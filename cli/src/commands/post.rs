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
use crate::room::{Finder, Found};
use crate::terminal::{line, note};

/// Posts of one call in the outbox at once.
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
    let until = connect::deadline(Some(args.timeout));
    let texts = texts(&args)?;
    let state = connect::state_of(common)?;
    let account = connect::account(common, &state, until).await?;
    let client = connect::start(common, &state, account);
    let mut posting = Posting::new(&args, texts);
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

/// What became of the posts of this call.
struct Posting {
    finder: Finder,
    room: Option<RoomId>,
    waiting: VecDeque<(ClientId, String)>,
    /// In the outbox, and whether it was ever on the way.
    unanswered: BTreeMap<ClientId, bool>,
    refused: Option<WireError>,
    posted: usize,
    /// Posts of earlier calls that were acknowledged meanwhile.
    earlier: usize,
    trouble: Trouble,
    is_quiet: bool,
}

impl Posting {
    fn new(args: &PostArgs, texts: VecDeque<String>) -> Self {
        let key = |_: usize| args.id.unwrap_or_else(ids::client_id);
        Self {
            finder: Finder::new(&args.room, args.create),
            room: None,
            waiting: texts.into_iter().enumerate().map(|(n, text)| (key(n), text)).collect(),
            unanswered: BTreeMap::new(),
            refused: None,
            posted: 0,
            earlier: 0,
            trouble: Trouble::default(),
            is_quiet: args.quiet,
        }
    }

    async fn run(&mut self, client: &mut Client, args: &PostArgs, until: Instant) -> Result<(), End> {
        while !(self.waiting.is_empty() && self.unanswered.is_empty()) {
            self.fill_outbox(client).await?;
            let event = tokio::select! {
                event = timeout_at(until, client.next()) => event,
                () = sleep(ASK_AGAIN), if self.room.is_none() => {
                    let asked = self.finder.ask();
                    self.follow(client, asked).await?;
                    continue;
                }
            };
            match event {
                Ok(event) => self.take(client, event?).await?,
                Err(_) => return Err(self.give_up(client, args).await?),
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

    async fn fill_outbox(&mut self, client: &Client) -> Result<(), End> {
        let Some(room) = self.room else { return Ok(()) };
        while self.unanswered.len() < IN_OUTBOX
            && let Some((client_id, body)) = self.waiting.pop_front()
        {
            // It may be there from an earlier call with the same id.
            if let Entry::Vacant(entry) = self.unanswered.entry(client_id) {
                entry.insert(false);
                client.command(Command::Send { client_id, room, op: SendOp::Post { body }, at: wall() }).await?;
            }
        }
        Ok(())
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
        let found = self.finder.offer(&event)?;
        self.follow(client, found).await?;
        match event {
            SessionEvent::Queued(item) => {
                if let Some((_, body)) = self.waiting.iter().find(|(client_id, _)| *client_id == item.client_id) {
                    if item.op != (SendOp::Post { body: body.clone() }) {
                        return Err(End::Refused("an unsent post has this id already, with another text".into()));
                    }
                    self.unanswered.insert(item.client_id, item.attempted);
                }
            }
            SessionEvent::Sending(client_id) => {
                self.unanswered.entry(client_id).and_modify(|is_attempted| *is_attempted = true);
            }
            SessionEvent::Acked(ack) => match self.unanswered.remove(&ack.client_id) {
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
                    self.refused.get_or_insert(error);
                } else {
                    note(&format!("A post kept from earlier was refused: {error}. See `holdfast outbox`."));
                }
            }
            SessionEvent::OutboxFull { client_id } if self.unanswered.remove(&client_id).is_some() => {
                return Err(End::Local("the outbox is full; see `holdfast outbox`".into()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Says what is known of each post when the time is up.
    async fn give_up(&mut self, client: &Client, args: &PostArgs) -> Result<End, End> {
        let attempted = self.unanswered.values().filter(|&&is_attempted| is_attempted).count();
        let mut kept = self.unanswered.len();
        if args.no_keep {
            for (&client_id, _) in self.unanswered.iter().filter(|&(_, &is_attempted)| !is_attempted) {
                client.command(Command::CancelSend { client_id }).await?;
            }
            kept = attempted;
        }
        let mut words = format!("Not acknowledged within {:?}.{}", args.timeout, self.trouble.words());
        if attempted > 0 && self.trouble.words().is_empty() {
            words += " Why is not known here; /readyz of the server says whether it can store.";
        }
        if kept > 0 {
            words += &format!(" {} kept in the outbox; the next holdfast command here sends it.", posts(kept));
        }
        let dropped = self.waiting.len() + self.unanswered.len() - kept;
        if dropped > 0 {
            words += &format!(" {} not sent and not kept.", posts(dropped));
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
