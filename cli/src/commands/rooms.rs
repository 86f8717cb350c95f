//! `holdfast rooms`: what there is to join.
//!
//! Must not live here: joining. Invariant: every page is asked for until there is no more, or the time is up.

use shared::message::{self, ListRooms, Reply};
use shared::model::RoomSummary;
use shared::session::{Command, ConnectionState, RequestTag, SessionEvent};
use tokio::time::{Instant, timeout_at};

use crate::again::Again;
use crate::args::{Common, RoomsArgs};
use crate::connect::{self, KeptRefusals, Trouble};
use crate::driver::Client;
use crate::exit::End;
use crate::terminal::{Look, json_line, line, note, tame};

const TAG: RequestTag = RequestTag(1);

/// Runs the command.
///
/// # Errors
/// See [`End`].
pub(crate) async fn run(common: &Common, args: RoomsArgs) -> Result<(), End> {
    let until = connect::deadline(Some(args.timeout));
    let state = connect::state_of(common)?;
    let account = connect::account(common, &state, until).await?;
    let client = connect::start(common, &state, account);
    let rooms = connect::drive(client, async |client| list(client, common, until).await).await?;
    print(&rooms, args.json)
}

async fn list(client: &mut Client, common: &Common, until: Instant) -> Result<Vec<RoomSummary>, End> {
    let mut rooms: Vec<RoomSummary> = Vec::new();
    let mut trouble = Trouble::default();
    let mut kept = KeptRefusals::default();
    let mut again = Again::default();
    // One question at a time, or a page could come twice.
    let mut is_asked = false;
    loop {
        let event = tokio::select! {
            event = timeout_at(until, client.next()) => event,
            () = again.due() => {
                again.asked();
                is_asked = true;
                ask(client, &rooms).await?;
                continue;
            }
        };
        let event = event
            .map_err(|_| End::TimedOut(format!("{} did not answer in time.{}", common.server, trouble.words())))??;
        trouble.hear(&event);
        kept.hear(&event).iter().for_each(|words| note(words));
        connect::stop_if_stopped(&event)?;
        match event {
            SessionEvent::Refused { client_id, error } => {
                kept.refused(client_id, &error).iter().for_each(|words| note(words));
            }
            // After a lost connection, go on after the last room that is known.
            SessionEvent::State(ConnectionState::Live) if !is_asked => {
                again.asked();
                is_asked = true;
                ask(client, &rooms).await?;
            }
            SessionEvent::Answer { tag: TAG, result: Ok(Reply::Rooms(page)) } => {
                let is_last = !page.more || page.rooms.is_empty();
                rooms.extend(page.rooms);
                if is_last {
                    return Ok(rooms);
                }
                ask(client, &rooms).await?;
            }
            SessionEvent::Answer { tag: TAG, result: Err(error) } if error.retryable => {
                is_asked = false;
                again.refused(&error);
            }
            SessionEvent::Answer { tag: TAG, result: Err(error) } => return Err(error.into()),
            _ => {}
        }
    }
}

async fn ask(client: &Client, rooms: &[RoomSummary]) -> Result<(), End> {
    let after = rooms.last().map(|room| room.name.clone());
    let command = message::Command::Rooms(ListRooms { after });
    Ok(client.command(Command::Request { tag: TAG, command }).await?)
}

fn print(rooms: &[RoomSummary], is_json: bool) -> Result<(), End> {
    let look = Look::of_stdout();
    for room in rooms {
        if is_json {
            json_line(room)?;
            continue;
        }
        let unread = room.posts.saturating_sub(room.read);
        let standing = match (room.joined, unread) {
            (false, _) => look.faint("not joined"),
            (true, 0) => look.faint("all read"),
            (true, unread) => look.warn(&format!("{unread} unread")),
        };
        let name = look.bold(&format!("{:<24}", tame(&room.name)));
        let (posts, members, title) = (room.posts, room.members, tame(&room.title));
        line(format!("{name} {posts:>8} posts {members:>6} members  {standing}  {title}").trim_end())?;
    }
    Ok(())
}
