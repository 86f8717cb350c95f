//! What a client asks besides sending: each a future that ends in one answer.
//!
//! Must not live here: the order of answers, or sockets. Invariant: every request is authorised against the same moment
//! of the log its answer is read from.

use shared::planted::{Bug, is_planted};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, RoomId, Seq};
use shared::limits::{OUTBOUND_MESSAGE_BYTES, PAGE_EVENTS, PAGE_PEOPLE, PAGE_POSTS, PAGE_ROOMS};
use shared::message::{
    Command, CreateRoom, EventsAfter, Hello, History, ListPeople, ListRooms, MarkRead, OpenRoom, PeopleList, Rename,
    Reply, RoomList,
};
use shared::model::{Empty, EventPage, Member};
use shared::time::Timestamp;

use super::open::{self, Greeting, Plan};
use super::sends::log_refusal;
use crate::ambient::Ambient;
use crate::app::App;
use crate::delivery::Peer;
use crate::log::{Applied, Entry, LogError, Op, Reads, Receipt, StorageError};
use crate::people::names;
use crate::people::tokens::TokenHash;

/// What a page may take of a message; the rest is for the envelope.
const PAGE_BYTES: usize = OUTBOUND_MESSAGE_BYTES * 3 / 4;

/// As how many posts a new name counts: it is told in every room that one is in.
const RENAME_SENDS: u64 = 10;

/// A request being answered.
pub(super) type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What a request came to.
#[derive(Debug)]
pub(super) enum Done {
    /// Answer with this.
    Answer(Result<Reply, WireError>),
    /// Answer only if it was refused.
    Quiet(Result<(), WireError>),
    /// The hello was read; `None` if the sign-in is gone.
    Greeted(Box<Hello>, Option<Box<Greeting>>),
    /// A room was judged.
    Opened(OpenRoom, Box<Plan>),
    /// A room could not be judged; what was begun is to be taken back.
    NotOpened(RoomId, WireError),
    /// The session was looked at again, and ends then; `None` if it is gone.
    Session(Option<Timestamp>),
    /// The log has stopped; its answer is unknown and nothing may be said.
    Unknown,
}

/// Starts answering a request.
pub(super) fn start(app: &Arc<App>, peer: &Arc<Peer>, command: Command) -> Job {
    let (app, peer) = (Arc::clone(app), Arc::clone(peer));
    match command {
        Command::Hello(hello) => Box::pin(greet(app, peer, hello)),
        Command::Open(ask) => Box::pin(open_room(app, peer, ask)),
        Command::History(ask) => Box::pin(async move { answer(history(&app, &peer, ask).await) }),
        Command::Events(ask) => Box::pin(async move { answer(events(&app, &peer, ask).await) }),
        Command::Rooms(ask) => Box::pin(async move { answer(rooms(&app, &peer, ask).await) }),
        Command::FindRoom(ask) => Box::pin(async move { answer(find_room(&app, &peer, ask.name).await) }),
        Command::CreateRoom(ask) => Box::pin(async move { answer(create_room(&app, &peer, ask).await) }),
        Command::Join(ask) => Box::pin(async move { answer(join(&app, &peer, ask.client_id, ask.room).await) }),
        Command::Leave(ask) => Box::pin(async move { answer(leave(&app, &peer, ask.client_id, ask.room).await) }),
        Command::People(ask) => Box::pin(async move { answer(people(app, &peer, ask).await) }),
        Command::Rename(ask) => Box::pin(async move { answer(rename(&app, &peer, ask).await) }),
        Command::Read(ask) => Box::pin(async move { quiet(mark_read(&app, &peer, ask).await) }),
        Command::Typing(ask) => Box::pin(async move { quiet(may_type(&app, &peer, ask.room).await) }),
        // These never get here: the connection answers them itself.
        Command::Beat(_)
        | Command::Post(_)
        | Command::Edit(_)
        | Command::Delete(_)
        | Command::React(_)
        | Command::Shut(_)
        | Command::Unknown(_) => Box::pin(std::future::ready(Done::Unknown)),
    }
}

/// Why a request has no answer to give.
enum Failure {
    Refused(WireError),
    /// See [`Done::Unknown`].
    Unknown,
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::Refused(error)
    }
}

type Outcome<T> = Result<T, Failure>;

fn answer(outcome: Outcome<Reply>) -> Done {
    match outcome {
        Ok(reply) => Done::Answer(Ok(reply)),
        Err(Failure::Refused(error)) => Done::Answer(Err(error)),
        Err(Failure::Unknown) => Done::Unknown,
    }
}

fn quiet(outcome: Outcome<()>) -> Done {
    match outcome {
        Ok(()) => Done::Quiet(Ok(())),
        Err(Failure::Refused(error)) => Done::Quiet(Err(error)),
        Err(Failure::Unknown) => Done::Unknown,
    }
}

/// Reads one moment of the log. A read that fails is told as a fault: it changes nothing and may be asked again.
async fn read<T: Send + 'static>(
    app: &App,
    f: impl FnOnce(&dyn Reads) -> Result<T, StorageError> + Send + 'static,
) -> Outcome<T> {
    app.log.read(f).await.map_err(|error| {
        tracing::warn!(%error, "a read failed");
        unreadable().into()
    })
}

fn unreadable() -> WireError {
    WireError::new(ErrorCode::Internal, "The server could not read its storage.").retry_after(1_000)
}

async fn propose(app: &App, peer: &Peer, key: ClientId, op: Op) -> Outcome<Receipt> {
    match app.log.propose(Entry { ts: app.ambient.wall_clock(), by: peer.user, key, op }).await {
        Ok(Applied::Committed(receipt) | Applied::Duplicate(receipt)) => Ok(receipt),
        Ok(Applied::Refused(error)) => Err(error.into()),
        Err(error) => Err(log_refusal(error).map_or(Failure::Unknown, Failure::Refused)),
    }
}

/// Takes what others will be told of from a person's rate.
fn charge(app: &App, peer: &Peer, sends: u64) -> Result<(), WireError> {
    app.registry.take_sends(peer.user, sends, app.ambient.now()).map_err(too_much)
}

fn too_much(wait: u64) -> WireError {
    WireError::new(ErrorCode::RateLimited, "Too many changes at once. Wait, then ask again.").retry_after(wait)
}

async fn greet(app: Arc<App>, peer: Arc<Peer>, hello: Hello) -> Done {
    let log = app.log.clone();
    let hello = Box::new(hello);
    let asked = hello.clone();
    let found = log.read(move |reads| open::greet(reads, &app.presence, peer.user, &peer.token, &asked)).await;
    match found {
        Ok(greeting) => Done::Greeted(hello, greeting.map(Box::new)),
        Err(_) => Done::Answer(Err(unreadable())),
    }
}

async fn open_room(app: Arc<App>, peer: Arc<Peer>, ask: OpenRoom) -> Done {
    let (log, room) = (app.log.clone(), ask.room);
    let judge = move |reads: &dyn Reads| {
        open::open(reads, &app.presence, peer.user, &ask, open::SNAPSHOT_BYTES).map(|plan| (ask, plan))
    };
    match log.read(judge).await {
        Ok((ask, plan)) => Done::Opened(ask, Box::new(plan)),
        Err(_) => Done::NotOpened(room, unreadable()),
    }
}

/// Checks membership at the moment of a read; the inner result is the refusal.
fn authorise(
    reads: &dyn Reads,
    peer_user: shared::ids::UserId,
    room: RoomId,
) -> Result<Result<(), WireError>, StorageError> {
    Ok(match reads.member(room, peer_user)? {
        Some(_) => Ok(()),
        None => Err(open::refusal(reads, peer_user, room)?),
    })
}

async fn history(app: &App, peer: &Peer, ask: History) -> Outcome<Reply> {
    let user = peer.user;
    let limit = page(ask.limit, PAGE_POSTS);
    let page = read(app, move |reads| {
        if let Err(error) = authorise(reads, user, ask.room)? {
            return Ok(Err(error));
        }
        Ok(reads.history(ask.room, ask.before, limit, PAGE_BYTES)?.ok_or_else(no_room))
    });
    Ok(Reply::History(page.await??))
}

async fn events(app: &App, peer: &Peer, ask: EventsAfter) -> Outcome<Reply> {
    let user = peer.user;
    let limit = page(ask.limit, PAGE_EVENTS);
    let page = read(app, move |reads| {
        if let Err(error) = authorise(reads, user, ask.room)? {
            return Ok(Err(error));
        }
        let head = reads.head(ask.room)?.map_or(Seq(0), |head| head.position.seq);
        let events = reads.events(ask.room, ask.after, limit, PAGE_BYTES)?;
        Ok(Ok(EventPage { room: ask.room, events, head }))
    });
    Ok(Reply::Events(page.await??))
}

/// Returns how many items a page holds.
fn page(asked: Option<u32>, most: usize) -> usize {
    asked.map_or(most, |asked| (asked as usize).clamp(1, most))
}

fn no_room() -> WireError {
    WireError::new(ErrorCode::NotFound, "There is no such room.")
}

async fn rooms(app: &App, peer: &Peer, ask: ListRooms) -> Outcome<Reply> {
    let user = peer.user;
    let mut rooms = read(app, move |reads| reads.rooms_page(user, ask.after.as_deref(), PAGE_ROOMS + 1)).await?;
    let more = rooms.len() > PAGE_ROOMS;
    rooms.truncate(PAGE_ROOMS);
    Ok(Reply::Rooms(RoomList { rooms, more }))
}

async fn find_room(app: &App, peer: &Peer, name: String) -> Outcome<Reply> {
    let user = peer.user;
    // However it is typed, a name that could be a room's is looked for in the form rooms have.
    let name = names::room(&name).unwrap_or(name);
    let found = read(app, move |reads| match reads.room_by_name(&name)? {
        Some(room) => reads.room_summary(user, room),
        None => Ok(None),
    });
    Ok(Reply::Room(found.await?.ok_or_else(no_room)?))
}

async fn summary(app: &App, peer: &Peer, room: RoomId) -> Outcome<Reply> {
    let user = peer.user;
    let found = read(app, move |reads| reads.room_summary(user, room)).await?;
    Ok(Reply::Room(found.ok_or_else(no_room)?))
}

async fn create_room(app: &App, peer: &Peer, ask: CreateRoom) -> Outcome<Reply> {
    let (name, title) = (names::room(&ask.name)?, names::title(&ask.title)?);
    charge(app, peer, 1)?;
    let room = app.ambient.mint_room();
    let receipt = match propose(app, peer, ask.client_id, Op::RoomCreate { room, name: name.clone(), title }).await {
        Err(Failure::Refused(error)) if error.code == ErrorCode::NameTaken => {
            return Err(suggest_room(app, name, error).await?.into());
        }
        other => other?,
    };
    summary(app, peer, receipt.room.unwrap_or(room)).await
}

async fn suggest_room(app: &App, name: String, error: WireError) -> Outcome<WireError> {
    let free = read(app, move |reads| {
        for number in 2..=20 {
            if let Ok(candidate) = names::room(&format!("{name}-{number}"))
                && reads.room_by_name(&candidate)?.is_none()
            {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    });
    Ok(match free.await? {
        Some(free) => error.suggest(free),
        None => error,
    })
}

async fn join(app: &App, peer: &Peer, key: ClientId, room: RoomId) -> Outcome<Reply> {
    charge(app, peer, 1)?;
    propose(app, peer, key, Op::Join { room }).await?;
    summary(app, peer, room).await
}

async fn leave(app: &App, peer: &Peer, key: ClientId, room: RoomId) -> Outcome<Reply> {
    charge(app, peer, 1)?;
    if !is_planted(Bug::LeaveIgnored) {
        propose(app, peer, key, Op::Leave { room }).await?;
    }
    Ok(Reply::Done(Empty {}))
}

async fn people(app: Arc<App>, peer: &Peer, ask: ListPeople) -> Outcome<Reply> {
    let (user, room) = (peer.user, ask.room);
    let found = read(&app, move |reads| {
        if let Err(error) = authorise(reads, user, room)? {
            return Ok(Err(error));
        }
        reads.members(room, ask.after.as_deref(), PAGE_PEOPLE + 1).map(Ok)
    });
    let found = found.await??;
    let more = found.len() > PAGE_PEOPLE;
    let people = found
        .into_iter()
        .take(PAGE_PEOPLE)
        .map(|person| Member { online: app.presence.is_here(person.id), id: person.id, name: person.name })
        .collect();
    Ok(Reply::People(PeopleList { room, people, more }))
}

async fn rename(app: &App, peer: &Peer, ask: Rename) -> Outcome<Reply> {
    let name = names::person(&ask.name)?;
    charge(app, peer, RENAME_SENDS)?;
    let rooms = app.presence.room_count(peer.user) as u64;
    if let Err(wait) = app.registry.take_renamed(peer.user, rooms, app.ambient.now()) {
        app.registry.give_sends_back(peer.user, RENAME_SENDS);
        return Err(too_much(wait).into());
    }
    let asked = match name.must_not_be_the_servers() {
        Ok(()) => {
            let op = Op::UserSet { user: peer.user, name: name.shown.clone(), skeleton: name.skeleton };
            propose(app, peer, ask.client_id, op).await
        }
        Err(error) => Err(error.into()),
    };
    match asked {
        Ok(_) => Ok(Reply::Done(Empty {})),
        Err(Failure::Refused(error)) if error.code == ErrorCode::NameTaken => {
            // Nobody was told of it, and whoever takes the name that is offered shall not have to wait.
            app.registry.give_sends_back(peer.user, RENAME_SENDS);
            app.registry.give_renamed_back(peer.user, rooms);
            let (shown, ambient) = (name.shown, Arc::clone(&app.ambient));
            let free = read(app, move |reads| free_name(reads, &shown, &*ambient)).await?;
            Err(free.map_or(error.clone(), |free| error.suggest(free)).into())
        }
        Err(failure) => Err(failure),
    }
}

/// Finds a free name like one that is taken.
pub(crate) fn free_name(reads: &dyn Reads, taken: &str, ambient: &dyn Ambient) -> Result<Option<String>, StorageError> {
    for name in names::suggestions(taken, ambient) {
        if reads.name_free(&name.skeleton)? {
            return Ok(Some(name.shown));
        }
    }
    Ok(None)
}

async fn mark_read(app: &App, peer: &Peer, ask: MarkRead) -> Outcome<()> {
    let user = peer.user;
    let stands = read(app, move |reads| reads.room_summary(user, ask.room)).await?;
    // Nothing would change, but the log would grow by a change for ever.
    if stands.is_some_and(|stands| stands.joined && stands.read >= ask.posts.min(stands.posts)) {
        return Ok(());
    }
    let op = Op::Read { room: ask.room, posts: ask.posts };
    propose(app, peer, app.ambient.mint_key(), op).await.map(|_| ())
}

async fn may_type(app: &App, peer: &Peer, room: RoomId) -> Outcome<()> {
    let user = peer.user;
    Ok(read(app, move |reads| authorise(reads, user, room)).await??)
}

/// Renews a session in place, and says when it ends now. One that has ended is not brought back.
pub(super) fn renew(app: &Arc<App>, peer: &Arc<Peer>) -> Job {
    let (app, peer) = (Arc::clone(app), Arc::clone(peer));
    Box::pin(async move {
        match renew_session(&app, peer.user, peer.token).await {
            Ok(expires) => Done::Session(expires),
            // Tried again when it is about to end.
            Err(LogError::Full | LogError::Busy) => Done::Quiet(Ok(())),
            Err(LogError::Stopped) => Done::Unknown,
        }
    })
}

/// Renews a session whose life is half over, and returns when it ends; `None` if it has ended or is gone.
///
/// # Errors
/// As the log says.
pub(crate) async fn renew_session(
    app: &App,
    user: shared::ids::UserId,
    token_hash: TokenHash,
) -> Result<Option<Timestamp>, LogError> {
    let now = app.ambient.wall_clock();
    let found = app.log.read(move |reads| reads.session(&token_hash)).await?;
    let Some(session) = found.filter(|session| session.user == user && session.expires > now) else { return Ok(None) };
    let life = app.config.timing.session_ms;
    if session.expires.since(now) > life / 2 {
        return Ok(Some(session.expires));
    }
    let expires = now.plus(life);
    let op = Op::SessionRenew { token_hash, expires };
    match app.log.propose(Entry { ts: now, by: user, key: app.ambient.mint_key(), op }).await? {
        Applied::Committed(_) | Applied::Duplicate(_) => Ok(Some(expires)),
        // It was ended in between.
        Applied::Refused(_) => Ok(None),
    }
}
