//! `holdfast outbox`: what is not sent yet, for the person to see and to decide.
//!
//! Must not live here: the file's form. Invariant: nothing is discarded without `--discard`.

use std::collections::BTreeSet;

use shared::ids::ClientId;
use shared::session::{ConnectionState, OutboxItem, Persist, SendOp, SessionEvent};
use tokio::time::{Instant, timeout_at};

use crate::args::{Common, OutboxArgs};
use crate::connect::{self, Trouble};
use crate::driver::Client;
use crate::exit::{Early, End};
use crate::terminal::{line, note, tame, time_of_day};

/// Runs the command.
///
/// # Errors
/// See [`End`].
pub(crate) async fn run(common: &Common, args: OutboxArgs) -> Result<(), End> {
    let state = connect::state_of(common)?;
    let account = state.find(common.name.as_deref()).ok_or_else(|| End::Refused("nobody is signed in here".into()))?;
    let mut outbox = connect::outbox(&state, &account)?;
    let items = outbox.items();
    let unread = outbox.unread();
    let (refused_elsewhere, elsewhere): (Vec<_>, Vec<_>) =
        outbox.elsewhere().iter().cloned().partition(|item| item.refused.is_some());
    if unread > 0 {
        note(&format!("Kept by another version of this program, or damaged, and not read: {unread}."));
    }
    if !elsewhere.is_empty() {
        note(&format!("Held by other holdfast programs that run, which send it: {}.", elsewhere.len()));
    }
    if !refused_elsewhere.is_empty() {
        let held = "Refused, and held by other holdfast programs that run, so not to be discarded before they end";
        note(&format!("{held}: {}.", refused_elsewhere.len()));
    }
    if args.discard {
        let changes = items.iter().map(|item| Persist::Remove(item.client_id)).collect();
        outbox.discard_unread();
        outbox.write(changes).map_err(|error| End::Local(format!("cannot discard: {error}")))?;
        note(&format!("Discarded: {}.", items.len() + unread));
        return Ok(());
    }
    if items.is_empty() && unread == 0 && outbox.elsewhere().is_empty() {
        note("Nothing is waiting to be sent.");
        return Ok(());
    }
    if !args.send {
        let listed = items.iter().chain(&refused_elsewhere);
        return listed.map(describe).try_for_each(|text| line(&text).map_err(End::from));
    }
    let until = connect::deadline(Some(args.timeout));
    let client = Client::start(common.server.clone(), account, Some(outbox));
    let unsent: BTreeSet<_> = items.iter().filter(|item| item.refused.is_none()).map(|item| item.client_id).collect();
    let refused = items.len() - unsent.len() + refused_elsewhere.len();
    connect::drive(client, async |client| send(client, unsent, until).await).await?;
    match (refused, unread, elsewhere.len()) {
        (0, 0, 0) => Ok(()),
        (0, 0, n) => Err(End::TimedOut(format!("held by other holdfast programs: {n}"))),
        (0, n, _) => Err(End::Local(format!("not read and still here: {n}; --discard deletes what is here"))),
        (n, _, _) => Err(End::Refused(format!("refused earlier and still here: {n}; --discard deletes what is here"))),
    }
}

async fn send(client: &mut Client, mut unsent: BTreeSet<ClientId>, until: Instant) -> Result<(), End> {
    let mut refused = None;
    let mut trouble = Trouble::default();
    while !unsent.is_empty() {
        let event = timeout_at(until, client.next()).await.map_err(|_| {
            End::TimedOut(format!("Not acknowledged in time: {}; kept.{}", unsent.len(), trouble.words()))
        })??;
        trouble.hear(&event);
        match event {
            SessionEvent::State(ConnectionState::Stopped(reason)) => {
                return Err(Early::Stopped(reason).with(&format!("Not acknowledged: {}; kept.", unsent.len())));
            }
            SessionEvent::Acked(ack) if unsent.remove(&ack.client_id) => {
                // It is stored; that nobody reads the seq changes nothing.
                let _ = line(&ack.seq.to_string());
            }
            SessionEvent::Refused { client_id, error } if unsent.remove(&client_id) => {
                refused.get_or_insert(error);
            }
            _ => {}
        }
    }
    refused.map_or(Ok(()), |error| Err(error.into()))
}

fn describe(item: &OutboxItem) -> String {
    let what = match &item.op {
        SendOp::Post { body } => tame(body).into_owned(),
        SendOp::Edit { post, body } => format!("edit {}: {}", post.seq, tame(body)),
        SendOp::Delete { post } => format!("delete {}", post.seq),
        SendOp::React { post, emoji, .. } => format!("{} to {}", tame(emoji), post.seq),
    };
    let standing = match (&item.refused, item.attempted) {
        (Some(error), _) => format!("refused: {}", tame(&error.message)),
        (None, true) => "sent, not acknowledged".into(),
        (None, false) => "not sent".into(),
    };
    format!("{} {} {standing}: {what}", time_of_day(item.queued_at), item.client_id)
}
