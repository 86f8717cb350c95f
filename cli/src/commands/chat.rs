//! `holdfast chat`: a room in a terminal, with the truth about the connection.
//!
//! Must not live here: reading the terminal ([`super::screen`]), sending ([`crate::driver`]) or ending ([`leaving`]).
//! Invariant: a line that was typed is shown as sent only after its acknowledgement, and as not sent only after the
//! server's refusal.

mod leaving;

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::time::Duration;

use shared::close::StopReason;
use shared::error::WireError;
use shared::ids::{ClientId, RoomId, UserId};
use shared::message::{self, ListPeople, Reply};
use shared::model::{OpenOutcome, RoomChange, RoomEvent, RoomSummary, Snapshot};
use shared::session::{Command, ConnectionState, OutboxItem, RequestTag, SendOp, SessionEvent};
use shared::time::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::screen::{Screen, Typed};
use super::words::{describe, people_words, post_words, reset_words, state_words};
use crate::args::{ChatArgs, Common};
use crate::connect::{self, KeptRefusals, Trouble};
use crate::driver::clock::wall;
use crate::driver::{Client, ids};
use crate::exit::{Early, End};
use crate::room::Found;
use crate::search::Search;
use crate::terminal::{Look, tame};

/// How often waits are looked at.
const TICK: Duration = Duration::from_millis(250);
/// A state that lasts less is not worth a line.
const STATE_SHOWN_AFTER: Duration = Duration::from_secs(1);
/// A post that takes less is not worth a line.
const POST_SHOWN_AFTER: Duration = Duration::from_millis(600);
/// Posts shown of a room that is opened.
const POSTS_AT_START: usize = 20;
/// Lines typed before the room is known, or before the outbox is to have them.
const LINES_HELD: usize = 64;
/// Lines the outbox is given before it has answered the first; of those piped in, before the server has.
const AT_ONCE: usize = 64;
/// The question who is a member.
const WHO: RequestTag = RequestTag(1);

const HELP: &str =
    "/who: members, /state: the connection, /retry: connect at once, /quit: end; // at the start posts one slash.";

/// Runs the command.
///
/// # Errors
/// See [`End`].
pub(crate) async fn run(common: &Common, args: ChatArgs) -> Result<(), End> {
    let state = connect::state_of(common)?;
    let account = connect::account(common, &state, connect::deadline(None)).await?;
    let screen = Screen::open(format!("{}> ", args.room))?;
    let mut chat = Chat {
        me: account.user.id,
        search: Search::new(&state, &account, &args.room, args.create),
        room: None,
        held: VecDeque::new(),
        own: BTreeMap::new(),
        guessed: 0,
        is_storing: true,
        refused: 0,
        state: ConnectionState::Idle,
        state_since: Instant::now(),
        told: None,
        last: 0,
        unread: None,
        ending: None,
        broken: None,
        is_input_over: false,
        stopped: None,
        trouble: Trouble::default(),
        kept: KeptRefusals::default(),
        look: Look::of_stdout(),
        args,
        screen,
    };
    let client = connect::start(common, &state, account);
    connect::see_out(client, async |client| chat.run(client).await).await
}

/// A line of mine that is not acknowledged.
struct Own {
    text: String,
    since: Instant,
    /// The outbox has taken it.
    is_queued: bool,
    is_saved: bool,
    /// The person was told that it waits.
    is_told: bool,
    /// It was in the outbox before this chat.
    is_earlier: bool,
}

struct Chat {
    args: ChatArgs,
    screen: Screen,
    look: Look,
    me: UserId,
    search: Search,
    room: Option<RoomSummary>,
    held: VecDeque<String>,
    own: BTreeMap<ClientId, Own>,
    /// Lines given to the outbox for the room that was meant last, for the server never said which one is meant.
    guessed: usize,
    /// The disk took what it was given last.
    is_storing: bool,
    /// Lines that came to nothing: refused by the server, or not taken by the outbox.
    refused: usize,
    state: ConnectionState,
    state_since: Instant,
    /// The state the person was told last.
    told: Option<ConnectionState>,
    /// Posts of the room that are shown, counted by the room.
    last: u64,
    /// Shown, and not yet told to the server.
    unread: Option<u64>,
    /// The input has ended: leave when all is acknowledged, or then.
    ending: Option<Instant>,
    /// Why the input ended before its end.
    broken: Option<End>,
    /// The input has ended: nothing is typed any more.
    is_input_over: bool,
    stopped: Option<StopReason>,
    trouble: Trouble,
    kept: KeptRefusals,
}

impl Chat {
    async fn run(&mut self, client: &mut Client) -> Result<(), End> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut interrupted = pin!(connect::interrupted());
        loop {
            if let Some(reason) = self.stopped {
                return self.end_early(client, Early::Stopped(reason)).await;
            }
            self.send_held(client).await?;
            if self.ending.is_none() && self.screen.is_unseen_by_a_person() {
                self.begin_to_end()?;
            }
            if let Some(until) = self.ending {
                if self.is_settled() {
                    return self.leave();
                }
                if Instant::now() >= until {
                    return self.end_early(client, Early::OutOfTime).await;
                }
            }
            tokio::select! {
                event = client.next() => self.take(client, event?).await?,
                typed = self.screen.typed(), if self.is_listening() => match typed {
                    Typed::Interrupt => return self.end_early(client, Early::Interrupted).await,
                    typed => self.typed(client, typed).await?,
                },
                found = self.search.due() => self.follow(client, found).await?,
                _ = ticks.tick() => self.tick(client).await?,
                () = &mut interrupted => return self.end_early(client, Early::Interrupted).await,
            }
        }
    }

    /// A person is always heard, for they may want to leave at once, but for the moment the outbox needs; a pipe waits
    /// until there is place for more.
    fn is_listening(&self) -> bool {
        let has_place = self.held.len() < LINES_HELD;
        let is_heard = match self.screen.is_terminal() {
            true => has_place || self.room.is_none() || self.ending.is_some(),
            false => has_place && self.ending.is_none(),
        };
        is_heard && !self.is_input_over
    }

    async fn typed(&mut self, client: &Client, typed: Typed) -> Result<(), End> {
        let text = match typed {
            Typed::Line(text) => text,
            typed @ (Typed::End | Typed::Interrupt | Typed::Broken(_)) => {
                self.is_input_over = true;
                if let Typed::Broken(why) = typed {
                    self.broken = Some(why);
                }
                return self.begin_to_end();
            }
        };
        if self.ending.is_some() || self.held.len() >= LINES_HELD {
            let why = if self.ending.is_some() { "leaving" } else { "too many lines wait" };
            return self.screen.show(&self.look.warn(&format!("  ! not taken, {why}: {}", tame(&text))));
        }
        match text.trim() {
            "" => Ok(()),
            "/quit" => self.begin_to_end(),
            "/retry" => Ok(client.command(Command::RetryNow).await?),
            "/state" => {
                let words = format!("{}{}", state_words(&self.state, client.now()), self.trouble.words());
                self.screen.show(&self.look.faint(&words))
            }
            "/help" => self.screen.show(&self.look.faint(HELP)),
            "/who" => self.ask_who(client).await,
            command if command.starts_with('/') && !command.starts_with("//") && self.screen.is_terminal() => {
                self.screen.show(&self.look.warn(&format!("There is no {}. {HELP}", tame(command))))
            }
            _ => {
                let escaped = self.screen.is_terminal() && text.starts_with("//");
                self.held.push_back(if escaped { text[1..].to_owned() } else { text });
                Ok(())
            }
        }
    }

    async fn ask_who(&mut self, client: &Client) -> Result<(), End> {
        let Some(room) = &self.room else { return self.screen.show("not connected yet") };
        let command = message::Command::People(ListPeople { room: room.room, after: None });
        Ok(client.command(Command::Request { tag: WHO, command }).await?)
    }

    /// Gives the outbox what is held, as far as it is to have it. A person is told what it does not take; a pipe can wait.
    async fn send_held(&mut self, client: &Client) -> Result<(), End> {
        let Some(room) = self.room.as_ref().map(|room| room.room) else { return Ok(()) };
        while !self.held.is_empty()
            && self.own.values().filter(|own| !own.is_queued).count() < AT_ONCE
            && (self.screen.is_terminal() || self.own.len() < AT_ONCE)
        {
            self.send_next(client, room).await?;
        }
        Ok(())
    }

    async fn send_next(&mut self, client: &Client, room: RoomId) -> Result<(), End> {
        let Some(body) = self.held.pop_front() else { return Ok(()) };
        let client_id = ids::client_id();
        self.remember(client_id, body.clone(), false);
        Ok(client.command(Command::Send { client_id, room, op: SendOp::Post { body }, at: wall() }).await?)
    }

    fn remember(&mut self, client_id: ClientId, text: String, is_earlier: bool) {
        let since = Instant::now();
        let own = Own { text, since, is_queued: is_earlier, is_saved: is_earlier, is_told: is_earlier, is_earlier };
        self.own.insert(client_id, own);
    }

    async fn follow(&mut self, client: &Client, found: Found) -> Result<(), End> {
        match found {
            Found::Wait => Ok(()),
            Found::Later(_) => match self.search.tell() {
                Some(words) => self.screen.show(&self.look.warn(&tame(&words))),
                None => Ok(()),
            },
            Found::Ask(command) => Ok(client.command(command).await?),
            Found::Room(room) => {
                client.command(Command::Open { room: room.room, cursor: None, replay: false }).await?;
                self.room = Some(room);
                Ok(())
            }
        }
    }

    async fn take(&mut self, client: &Client, event: SessionEvent) -> Result<(), End> {
        self.trouble.hear(&event);
        if let Some(words) = self.kept.hear(&event) {
            self.screen.show(&self.look.bad(&format!("  ! {words}")))?;
        }
        let found = self.search.offer(&event)?;
        self.follow(client, found).await?;
        let here = self.room.as_ref().map(|room| room.room);
        match event {
            SessionEvent::State(state) => self.stands(state),
            SessionEvent::Recovered { received, sent } if self.told.is_some() => {
                let words = format!("Back online. {received} new, {sent} sent.");
                self.told = Some(ConnectionState::Live);
                self.screen.show(&self.look.good(&words))
            }
            SessionEvent::Opened(opened) if Some(opened.room) == here => self.opened(opened.outcome),
            SessionEvent::Room(event) if Some(event.room) == here => self.changed(&event),
            SessionEvent::Queued(item) => self.queued(item),
            SessionEvent::Saved(client_id) => {
                self.own.entry(client_id).and_modify(|own| own.is_saved = true);
                Ok(())
            }
            SessionEvent::Acked(ack) => match self.own.remove(&ack.client_id) {
                Some(own) if own.is_told => {
                    self.screen.show(&self.look.good(&format!("  ✓ sent: {}", tame(&own.text))))
                }
                _ => Ok(()),
            },
            SessionEvent::Refused { client_id, error } => {
                let own = self.own.remove(&client_id).filter(|own| !own.is_earlier);
                let Some(Own { text, .. }) = own else { return self.refused_earlier(client_id, &error) };
                self.refused += 1;
                self.screen.show(&self.look.bad(&format!("  ! not sent: {} {}", tame(&error.message), tame(&text))))?;
                Ok(client.command(Command::DiscardSend { client_id }).await?)
            }
            SessionEvent::OutboxFull { client_id } => {
                self.refused += 1;
                let text = self.own.remove(&client_id).map_or(String::new(), |own| own.text);
                self.screen.show(&self.look.bad(&format!("  ! the outbox is full, not kept: {}", tame(&text))))
            }
            SessionEvent::Storage { ok } => {
                self.is_storing = ok;
                match ok {
                    true => Ok(()),
                    false => self.screen.show(
                        &self.look.warn("Unsent lines cannot be kept on this machine; stay until they are sent."),
                    ),
                }
            }
            SessionEvent::Answer { tag: WHO, result } => self.tell_who(result),
            _ => Ok(()),
        }
    }

    fn queued(&mut self, item: OutboxItem) -> Result<(), End> {
        if let Some(own) = self.own.get_mut(&item.client_id) {
            own.is_queued = true;
            return Ok(());
        }
        if item.refused.is_some() {
            return Ok(());
        }
        let SendOp::Post { body } = item.op else { return Ok(()) };
        let words = format!("  ○ from earlier, waiting to be sent: {}", tame(&body));
        self.remember(item.client_id, body, true);
        self.screen.show(&self.look.faint(&words))
    }

    /// What no line of this chat is stays where it is, to be seen.
    fn refused_earlier(&mut self, client_id: ClientId, error: &WireError) -> Result<(), End> {
        if self.kept.refused(client_id, error).is_none() {
            return Ok(());
        }
        let words = format!("  ! kept from earlier and refused: {} See `holdfast outbox`.", tame(&error.message));
        self.screen.show(&self.look.bad(&words))
    }

    fn tell_who(&mut self, result: Result<Reply, WireError>) -> Result<(), End> {
        match result {
            Ok(Reply::People(list)) => self.screen.show(&self.look.faint(&people_words(&list))),
            Ok(_) => Ok(()),
            Err(error) => self.screen.show(&self.look.warn(&tame(&error.message))),
        }
    }

    fn opened(&mut self, outcome: OpenOutcome) -> Result<(), End> {
        match outcome {
            OpenOutcome::Recovered { .. } => Ok(()),
            OpenOutcome::Fresh { snapshot } => self.show_posts(&snapshot, POSTS_AT_START),
            OpenOutcome::Jumped { snapshot, hole } => {
                self.screen.show(&self.look.faint(&format!("… {hole} earlier posts not shown …")))?;
                self.show_posts(&snapshot, usize::MAX)
            }
            OpenOutcome::Reset { reason, snapshot } => {
                self.last = 0;
                self.screen
                    .show(&self.look.warn(&format!("The room's history starts over here: {}.", reset_words(reason))))?;
                self.show_posts(&snapshot, POSTS_AT_START)
            }
            OpenOutcome::Refused { error } => Err(error.into()),
        }
    }

    fn show_posts(&mut self, snapshot: &Snapshot, most: usize) -> Result<(), End> {
        let skipped = snapshot.posts.len().saturating_sub(most);
        for post in snapshot.posts.iter().skip(skipped).filter(|post| post.ordinal > self.last) {
            self.screen.show(&post_words(snapshot, post, self.look))?;
        }
        self.shown(snapshot.total);
        Ok(())
    }

    fn changed(&mut self, event: &RoomEvent) -> Result<(), End> {
        let Some(mut text) = describe(event, self.look) else { return Ok(()) };
        if event.by.id == self.me && matches!(event.change, RoomChange::Posted(_)) {
            text += &self.look.good(" ✓");
        }
        self.shown(event.posts);
        self.screen.show(&text)
    }

    fn shown(&mut self, posts: u64) {
        self.last = self.last.max(posts);
        self.unread = Some(self.last);
    }

    fn stands(&mut self, state: ConnectionState) -> Result<(), End> {
        if let ConnectionState::Stopped(reason) = state {
            self.stopped = Some(reason);
        }
        if state != self.state {
            self.state = state;
            self.state_since = Instant::now();
        }
        Ok(())
    }

    async fn tick(&mut self, client: &Client) -> Result<(), End> {
        if let (Some(posts), Some(room)) = (self.unread.take(), &self.room) {
            client.command(Command::MarkRead { room: room.room, posts }).await?;
        }
        self.tell_state(client.now())?;
        self.tell_waits()
    }

    /// Says where the connection stands, once it has stood so for a while; and that it is live again only where
    /// something else was said before.
    fn tell_state(&mut self, now: Timestamp) -> Result<(), End> {
        let is_fine = matches!(self.state, ConnectionState::Live | ConnectionState::Idle);
        if self.told.as_ref() == Some(&self.state) || (!is_fine && self.state_since.elapsed() < STATE_SHOWN_AFTER) {
            return Ok(());
        }
        let words = match &self.state {
            ConnectionState::Idle => return Ok(()),
            ConnectionState::Live => self.look.good("— live"),
            state => self.look.warn(&format!("— {}", state_words(state, now))),
        };
        self.told = Some(self.state.clone());
        self.screen.show(&words)
    }

    fn tell_waits(&mut self) -> Result<(), End> {
        let is_live = matches!(self.state, ConnectionState::Live | ConnectionState::Slow);
        for own in self.own.values_mut() {
            if own.is_told || own.since.elapsed() < POST_SHOWN_AFTER || (!is_live && !own.is_saved) {
                continue;
            }
            own.is_told = true;
            let words = if is_live { "… sending" } else { "○ saved here, waiting to be sent" };
            self.screen.show(&self.look.faint(&format!("  {words}: {}", tame(&own.text))))?;
        }
        Ok(())
    }
}
