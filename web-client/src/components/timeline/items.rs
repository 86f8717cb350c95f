//! What stands in the list: days, the line "New", posts, holes, the beginning.
//!
//! Must not live here: scrolling. Invariant: an item is drawn from its row and the one before it, whatever else is in the
//! document.

use std::sync::Arc;

use shared::ids::Seq;
use shared::timeline::{Hole, PostRow, Row, RowKey, Timeline};
use yew::prelude::*;

use super::TimelineProps;
use super::control::written;
use super::row::PostView;
use crate::components::button::word_button;
use crate::components::frame::Frame;
use crate::store::Action;
use crate::words::{Local, Text, Word, error_words};

/// Posts of one person within this time and day are one group. Milliseconds.
const GROUP_MS: u64 = 5 * 60_000;

/// How a row stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    /// It is the first of its day.
    begins_day: bool,
    /// It is the first one not read when the room was opened.
    begins_new: bool,
    /// It begins a group.
    first: bool,
}

fn standing(timeline: &Timeline, index: usize, row: &Row, divider: Option<u64>, local: Local) -> Standing {
    let before = index.checked_sub(1).and_then(|index| timeline.row(index));
    // A hole has no time: the day before it goes on after it.
    let dated = (0..index).rev().take(2).filter_map(|index| timeline.row(index)).find_map(|row| written(&row));
    let begins_day = match (written(row), dated) {
        (Some(now), Some(then)) => local.day(now) != local.day(then),
        (Some(_), None) => true,
        (None, _) => false,
    };
    let ordinal = |row: &Row| row.as_post().and_then(|post| post.ordinal);
    let begins_new = divider.is_some_and(|divider| {
        // Whatever has none stands between two that are new as well.
        let mut before = (0..index).rev().filter_map(|index| ordinal(&timeline.row(index)?));
        ordinal(row).is_some_and(|n| n > divider) && before.next().is_none_or(|n| n <= divider)
    });
    let follows = match (row.as_post(), before.as_ref().and_then(Row::as_post)) {
        (Some(post), Some(before)) => is_group(before, post),
        (Some(_) | None, _) => false,
    };
    Standing { begins_day, begins_new, first: begins_day || begins_new || !follows }
}

fn is_group(before: &PostRow, post: &PostRow) -> bool {
    before.by == post.by && post.ts.since(before.ts) <= GROUP_MS && before.ts.since(post.ts) <= GROUP_MS
}

/// Draws the item of a row.
pub(super) fn draw_item(frame: &Frame, props: &TimelineProps, index: usize, stop: Option<RowKey>) -> Option<Html> {
    let timeline = &props.view.timeline;
    let row = timeline.row(index)?;
    let standing = standing(timeline, index, &row, props.view.divider, frame.local);
    let is_stop = stop == Some(row.key());
    let drawn = match &row {
        Row::Post(post) => html! {
            <PostView post={Arc::clone(post)} room={props.view.room} first={standing.first} stop={is_stop} me={props.me}
                waits={!props.is_live && post.mine && post.seq.is_none()} editing={post.seq.is_some() && post.seq == props.editing} />
        },
        Row::Hole(hole) => draw_hole(frame, props, hole),
        Row::Unknown(_) => html! { <div class="notice" tabindex="-1">{ frame.word(Word::PostUnknown) }</div> },
    };
    Some(html! {
        <div class="item" key={row.key().to_string()}>
            if standing.begins_day {
                <div class="day" role="separator">{ written(&row).map(|ts| frame.local.day_label(frame.language, ts)).unwrap_or_default() }</div>
            }
            if standing.begins_new { <div class="new-line" role="separator" data-testid="divider">{ frame.word(Word::NewDivider) }</div> }
            { drawn }
        </div>
    })
}

fn draw_hole(frame: &Frame, props: &TimelineProps, hole: &Hole) -> Html {
    html! { <div class="hole" data-testid="hole" data-count={hole.missing.to_string()}>{ missing(frame, props, hole.missing, hole.before) }</div> }
}

/// Says how many posts are missing before a seq, and offers to load them.
fn missing(frame: &Frame, props: &TimelineProps, count: u64, before: Seq) -> Html {
    let view = &props.view;
    let load = frame.actions.on(Action::LoadHistory(view.room, before));
    html! {
        <>
            if let Some(error) = &view.load_failed { <span>{ error_words(frame.language, error) }</span> } else {
                <span>{ frame.say(&Text::Hole { n: count }) }</span>
            }
            if view.loading.is_some() {
                <span aria-hidden="true">{ frame.word(Word::Loading) }</span>
            } else {
                { word_button("link", Some("hole-load"), frame.word(Word::Load), load) }
            }
        </>
    }
}

/// Draws what stands before the first row.
pub(super) fn draw_head(frame: &Frame, props: &TimelineProps) -> Html {
    let (view, timeline) = (&props.view, &props.view.timeline);
    if !view.loaded {
        let words = match &view.load_failed {
            Some(error) => error_words(frame.language, error).into(),
            None => frame.word(Word::Loading),
        };
        return html! { <div class="beginning"><p>{ words }</p></div> };
    }
    let earlier = timeline.earlier();
    if earlier > 0 {
        let before = timeline.needed(0, 0).unwrap_or_else(|| timeline.head().next());
        return html! {
            <div class="hole quiet" data-testid="earlier" data-count={earlier.to_string()}>{ missing(frame, props, earlier, before) }</div>
        };
    }
    html! {
        <div class="beginning">
            <h2>{ frame.say(&Text::Beginning { room: format!("#{}", props.room_name) }) }</h2>
            if timeline.is_empty() { <p>{ frame.word(Word::EmptyRoom) }</p> }
        </div>
    }
}

#[cfg(test)]
mod tests {
    use shared::cursor::{Check, Position};
    use shared::ids::{ClientId, Epoch, RoomId, UserId};
    use shared::model::{OpenOutcome, Opened, Post, Snapshot};
    use shared::time::Timestamp;

    use super::*;

    /// The newest three of so many posts.
    fn newest(total: u64) -> Snapshot {
        let post = |n: u64| Post {
            seq: Seq(n),
            rev: Seq(n),
            ordinal: n,
            by: UserId::from_bytes([8; 16]),
            client_id: ClientId::from_bytes([n as u8; 16]),
            ts: Timestamp(n),
            body: Some("hi".into()),
            edited: None,
            reactions: Vec::new(),
        };
        let as_of = Position { epoch: Epoch::from_bytes([1; 16]), seq: Seq(total), check: Check([0; 8]) };
        Snapshot { as_of, total, posts: (total - 2..=total).map(post).collect(), people: Vec::new() }
    }

    #[test]
    fn the_line_before_what_is_new_is_there_once_also_around_a_hole() {
        let mut timeline = Timeline::new(UserId::from_bytes([7; 16]));
        let mut open = |outcome| {
            timeline.opened(&Opened { room: RoomId::from_bytes([1; 16]), outcome, roster: Vec::new(), members: 2 });
        };
        open(OpenOutcome::Fresh { snapshot: newest(3) });
        open(OpenOutcome::Jumped { snapshot: newest(100), hole: 94 });
        let local = Local { wall: Timestamp(0), utc_offset_min: 0 };
        let lines = |divider| {
            let rows = timeline.rows().enumerate();
            let lines = rows.filter(|(index, row)| standing(&timeline, *index, row, Some(divider), local).begins_new);
            lines.map(|(index, _)| index).collect::<Vec<_>>()
        };
        assert!(timeline.len() == 7 && matches!(timeline.row(3), Some(Row::Hole(_))));
        for (divider, line) in [(0, 0), (2, 2), (3, 4), (50, 4), (98, 5)] {
            assert_eq!(lines(divider), [line], "{divider} are read");
        }
        assert!(lines(100).is_empty());
    }
}
