//! What arrives at a timeline, in any order: first what is true of some room, then whatever a server may say.
//!
//! Must not live here: the room and what must be true of its reader ([`crate::model`]). Invariant checked: for a true
//! room every post is a row, in one hole, or earlier, and what is not marked stale is so; for a lying server, every
//! row can be found and read and the memory stays bounded.

use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, Epoch, RoomId, Seq, UserId};
use shared::message::Ack;
use shared::model::{
    Deleted, Edited, Empty, HistoryPage, OpenOutcome, Opened, Person, Post, Posted, Reacted, Reaction, Renamed,
    ResetReason, RoomChange, RoomEvent, Snapshot,
};
use shared::roster::Roster;
use shared::session::{OutboxItem, SendOp};
use shared::tagged::Unknown;
use shared::time::Timestamp;
use shared::timeline::Timeline;

use crate::model::check::assert_sound;
use crate::model::reader::{Step, World, assert_complete, assert_true};
use crate::model::room::{Deed, user};
use crate::source::Source;

const STEPS: usize = 250;
/// Rows kept where memory is small.
const FEW_ROWS: usize = 20;

pub(crate) fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    match source.byte() {
        0..=99 => true_room(&mut source, 10_000),
        100..=179 => true_room(&mut source, FEW_ROWS),
        _lying => lying_server(&mut source),
    }
}

// A room as it was.

fn true_room(source: &mut Source<'_>, rows_kept: usize) {
    let mut world = World::new(rows_kept);
    for _ in 0..STEPS {
        if source.is_empty() {
            break;
        }
        world.step(&step(source));
        assert_sound(&world.timeline);
        assert_true(&world.timeline, &world.model);
        let own = world.timeline.rows().filter(|row| row.as_post().is_some_and(|post| post.ordinal.is_none())).count();
        assert!(world.timeline.len() - own <= rows_kept + rows_kept / 20 + 2, "it keeps {}", world.timeline.len());
    }
    if rows_kept > FEW_ROWS {
        world.settle();
        assert_complete(&world);
    }
}

fn step(source: &mut Source<'_>) -> Step {
    let some = |source: &mut Source<'_>| source.flag().then(|| usize::from(source.byte()));
    match source.byte() % 32 {
        0..=7 => {
            let by = 2 + source.byte() % 3;
            Step::Act(by, deed(source))
        }
        8..=13 => Step::Next,
        14 => Step::CatchUp,
        15 => Step::Again(usize::from(source.byte())),
        16 => Step::Jump,
        17 => Step::Reset,
        18..=20 => Step::Ask(some(source)),
        21..=23 => Step::Page(usize::from(source.byte()), source.flag()),
        24 | 25 => Step::Write,
        26 => Step::Change(usize::from(source.byte())),
        27 => Step::Commit,
        28 => Step::Ack(usize::from(source.byte()), source.flag()),
        29 => Step::Refuse,
        30 => Step::Discard,
        _look => Step::Look(some(source)),
    }
}

fn deed(source: &mut Source<'_>) -> Deed {
    match source.byte() % 12 {
        0..=4 => Deed::Post,
        5 | 6 => Deed::Edit(usize::from(source.byte())),
        7 => Deed::Delete(usize::from(source.byte())),
        8 => Deed::React(usize::from(source.byte()), source.byte(), source.flag()),
        9 => Deed::Rename,
        10 => Deed::Join,
        _unknown => Deed::Unknown,
    }
}

// A room as no server can have it.

fn lying_server(source: &mut Source<'_>) {
    let mut timeline = Timeline::keeping(user(1), FEW_ROWS);
    let mut roster = Roster::new(user(1), str::to_lowercase);
    let mut own = 0;
    for _ in 0..STEPS {
        if source.is_empty() {
            break;
        }
        match source.byte() % 16 {
            0..=4 => {
                let event = event(source);
                timeline.event(&event);
                roster.event(&event);
            }
            5 | 6 => {
                let opened = opened(source);
                timeline.opened(&opened);
                roster.opened(&opened);
            }
            7 | 8 => timeline.history(&page(source), Seq(source.number())),
            9 | 10 => {
                own += 1;
                timeline.queued(&item(source));
            }
            11 => timeline.acked(&ack(source)),
            12 => match source.byte() % 4 {
                0 => timeline.saved(client_id(source)),
                1 => timeline.sending(client_id(source)),
                2 => timeline.interrupted(client_id(source)),
                _discard => timeline.discarded(client_id(source)),
            },
            13 => timeline.refused(client_id(source), &WireError::new(ErrorCode::NotMember, "no")),
            14 => timeline.look_at(source.flag().then(|| Seq(source.number()))),
            _name => timeline.call_me(&source.text(8)),
        }
        check_readable(&timeline, own);
    }
}

/// What must hold even where nothing is true.
fn check_readable(timeline: &Timeline, own: usize) {
    let len = timeline.len();
    assert_eq!(timeline.rows().count(), len);
    // Between two rows there is at most one hole, and one page may come over the slack.
    assert!(len <= 2 * (FEW_ROWS + FEW_ROWS / 20 + 8) + own, "{len} rows, {own} of them mine at most");
    for index in 0..len {
        assert!(timeline.row(index).is_some_and(|row| timeline.index_of(row.key()).is_some()));
        assert!(timeline.needed(index, index + 10).is_none_or(|before| before > Seq(0)));
    }
    assert!(timeline.row(len).is_none());
    assert!(timeline.index_at(Seq(u64::MAX)) <= len);
}

fn client_id(source: &mut Source<'_>) -> ClientId {
    ClientId::from_bytes([source.byte() % 16; 16])
}

fn who(source: &mut Source<'_>) -> UserId {
    user(source.byte() % 4)
}

fn people(source: &mut Source<'_>) -> Vec<Person> {
    (0..source.below(3)).map(|_| Person { id: who(source), name: source.text(4) }).collect()
}

fn posts(source: &mut Source<'_>) -> Vec<Post> {
    (0..source.below(6)).map(|_| post(source)).collect()
}

fn post(source: &mut Source<'_>) -> Post {
    Post {
        seq: Seq(source.number()),
        rev: Seq(source.number()),
        ordinal: source.number(),
        by: who(source),
        client_id: client_id(source),
        ts: Timestamp(source.number()),
        body: source.flag().then(|| source.text(4)),
        edited: source.flag().then(|| Timestamp(source.number())),
        reactions: (0..source.below(3))
            .map(|_| Reaction { emoji: source.text(4), by: (0..source.below(3)).map(|_| who(source)).collect() })
            .collect(),
    }
}

fn position(source: &mut Source<'_>) -> shared::cursor::Position {
    shared::cursor::Position {
        epoch: Epoch::from_bytes([source.byte() % 2; 16]),
        seq: Seq(source.number()),
        check: shared::cursor::Check([0; 8]),
    }
}

fn snapshot(source: &mut Source<'_>) -> Snapshot {
    Snapshot { as_of: position(source), total: source.number(), posts: posts(source), people: people(source) }
}

fn page(source: &mut Source<'_>) -> HistoryPage {
    let (as_of, posts, people) = (position(source), posts(source), people(source));
    HistoryPage { room: RoomId::from_bytes([9; 16]), as_of, posts, people, earlier: source.number() }
}

fn opened(source: &mut Source<'_>) -> Opened {
    let outcome = match source.byte() % 4 {
        0 => OpenOutcome::Fresh { snapshot: snapshot(source) },
        1 => OpenOutcome::Jumped { snapshot: snapshot(source), hole: source.number() },
        2 => OpenOutcome::Reset { reason: ResetReason::Forked, snapshot: snapshot(source) },
        _recovered => OpenOutcome::Recovered { head: Seq(source.number()), missed: source.number() },
    };
    Opened { room: RoomId::from_bytes([9; 16]), outcome, roster: Vec::new(), members: source.number() }
}

fn event(source: &mut Source<'_>) -> RoomEvent {
    let change = match source.byte() % 8 {
        0..=2 => RoomChange::Posted(Posted { client_id: client_id(source), body: Some(source.text(4)) }),
        3 => RoomChange::Edited(Edited { post: Seq(source.number()), body: Some(source.text(4)) }),
        4 => RoomChange::Deleted(Deleted { post: Seq(source.number()) }),
        5 => RoomChange::Reacted(Reacted { post: Seq(source.number()), emoji: source.text(4), on: source.flag() }),
        6 => match source.byte() % 3 {
            0 => RoomChange::Renamed(Renamed { was: source.text(4) }),
            1 => RoomChange::Joined(Empty {}),
            _left => RoomChange::Left(Empty {}),
        },
        _unknown => RoomChange::Unknown(Unknown { kind: source.text(4), raw: "{}".to_owned() }),
    };
    RoomEvent {
        room: RoomId::from_bytes([9; 16]),
        seq: Seq(source.number()),
        check: shared::cursor::Check([0; 8]),
        posts: source.number(),
        ts: Timestamp(source.number()),
        by: Person { id: who(source), name: source.text(4) },
        change,
    }
}

fn item(source: &mut Source<'_>) -> OutboxItem {
    let op = match source.byte() % 4 {
        0 | 1 => SendOp::Post { body: source.text(4) },
        2 => SendOp::Edit { post: Seq(source.number()).into(), body: source.text(4) },
        _delete => SendOp::Delete { post: Seq(source.number()).into() },
    };
    OutboxItem {
        client_id: client_id(source),
        room: RoomId::from_bytes([9; 16]),
        op,
        queued_at: Timestamp(source.number()),
        order: source.number(),
        attempted: source.flag(),
        refused: None,
    }
}

fn ack(source: &mut Source<'_>) -> Ack {
    let (seq, ts) = (Seq(source.number()), Timestamp(source.number()));
    Ack { client_id: client_id(source), room: RoomId::from_bytes([9; 16]), seq, ts, duplicate: source.flag() }
}
