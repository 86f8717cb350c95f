//! What happens in a room, and where the connection stands, in words for people.
//!
//! Must not live here: when something is said. Invariant: pure, and what others wrote is tamed.

use shared::message::PeopleList;
use shared::model::{Post, ResetReason, RoomChange, RoomEvent, Snapshot};
use shared::session::ConnectionState;
use shared::time::Timestamp;

use crate::exit::stop_words;
use crate::terminal::{Look, tame, time_of_day};

/// Says why a room's history starts over.
pub(super) const fn reset_words(reason: ResetReason) -> &'static str {
    match reason {
        ResetReason::Epoch => "the server has another log",
        ResetReason::Ahead => "the server was restored from an older state",
        ResetReason::Forked => "the server was restored from an older state and has gone on since",
        ResetReason::Pruned => "the server does not keep what came after the last change seen",
        ResetReason::Rejoined => "the membership began anew",
    }
}

/// Words a change for people; none for what is not worth a line.
pub(super) fn describe(event: &RoomEvent, look: Look) -> Option<String> {
    let when = look.faint(&time_of_day(event.ts));
    let name = tame(&event.by.name);
    let plain = |words: &str| Some(format!("{when} {}", look.faint(&format!("— {name} {words}"))));
    match &event.change {
        RoomChange::Posted(posted) => {
            let body = posted.body.as_deref().map_or_else(|| look.faint("(deleted)"), |body| tame(body).into_owned());
            Some(format!("{when} {} {body}", look.bold(&format!("{name}:"))))
        }
        RoomChange::Edited(edited) => {
            let body = tame(edited.body.as_deref().unwrap_or("(deleted)")).into_owned();
            plain(&format!("edited {}: {body}", edited.post))
        }
        RoomChange::Deleted(deleted) => plain(&format!("deleted {}", deleted.post)),
        RoomChange::Reacted(reacted) if reacted.on => plain(&format!("{} to {}", tame(&reacted.emoji), reacted.post)),
        RoomChange::Reacted(_) => None,
        RoomChange::Created(room) => plain(&format!("created {}", tame(&room.name))),
        RoomChange::Set(room) => plain(&format!("changed the room: {} {}", tame(&room.name), tame(&room.title))),
        RoomChange::Ended(_) => plain("ended the room"),
        RoomChange::Joined(_) => plain("joined"),
        RoomChange::Left(_) => plain("left"),
        RoomChange::Kicked(kicked) => plain(&format!("removed {}", tame(&kicked.user.name))),
        RoomChange::Renamed(renamed) => plain(&format!("was {}", tame(&renamed.was))),
        RoomChange::Unknown(unknown) => {
            plain(&format!("did something newer than this program: {}", tame(&unknown.kind)))
        }
    }
}

/// Words a post of a snapshot.
pub(super) fn post_words(snapshot: &Snapshot, post: &Post, look: Look) -> String {
    let name = snapshot.people.iter().find(|person| person.id == post.by).map_or("?", |person| &person.name);
    let body = post.body.as_deref().map_or_else(|| look.faint("(deleted)"), |body| tame(body).into_owned());
    format!("{} {} {body}", look.faint(&time_of_day(post.ts)), look.bold(&format!("{}:", tame(name))))
}

/// Words who is a member, and who of them is there.
pub(super) fn people_words(list: &PeopleList) -> String {
    let name = |here: bool| {
        let names = list.people.iter().filter(move |member| member.online == here);
        names.map(|member| tame(&member.name).into_owned()).collect::<Vec<_>>().join(", ")
    };
    let more = if list.more { ", and more" } else { "" };
    format!("here: {}\naway: {}{more}", name(true), name(false))
}

/// Words a state for people.
pub(super) fn state_words(state: &ConnectionState, now: Timestamp) -> String {
    let restarting = "The server is restarting. Back in a moment.";
    match state {
        ConnectionState::Idle => "not connected".into(),
        ConnectionState::Connecting => "connecting…".into(),
        ConnectionState::CatchingUp { to_go } => format!("catching up… {to_go} to go"),
        ConnectionState::Live => "live".into(),
        ConnectionState::Slow => "The server is slow to answer. Your lines are kept and will be confirmed.".into(),
        ConnectionState::Waiting { restarting: true, .. } | ConnectionState::Trying { restarting: true, .. } => {
            restarting.into()
        }
        ConnectionState::Waiting { until, .. } => {
            format!("Can't reach the server. Retrying in {} s.", until.since(now).div_ceil(1_000))
        }
        ConnectionState::Trying { .. } => "Can't reach the server. Trying now…".into(),
        ConnectionState::Offline => "You're offline. Lines are saved here and sent when you're back.".into(),
        ConnectionState::Stopped(reason) => stop_words(*reason).into(),
    }
}
