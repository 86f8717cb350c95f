//! The timeline against a model: whatever arrives in whatever order, people see what the room holds.

mod common;

use std::sync::Arc;

use common::check::{assert_sound, bodies};
use common::reader::{ME, PAGE, Step, World, assert_complete, assert_true, item, my_post, opened};
use common::{Deed, Room, at, client_id, room, runner, user};
use proptest::collection::vec;
use proptest::prelude::*;
use shared::error::{ErrorCode, WireError};
use shared::ids::Seq;
use shared::message::Ack;
use shared::model::{HistoryPage, OpenOutcome, Opened, PostRef, ResetReason, Snapshot};
use shared::session::{OutboxItem, SendOp};
use shared::timeline::{Row, RowKey, Status, Timeline};

fn fresh(snapshot: Snapshot) -> Opened {
    opened(OpenOutcome::Fresh { snapshot })
}

fn ack(number: u64, seq: Seq) -> Ack {
    Ack { client_id: client_id(number), room: room(), seq, ts: at(seq), duplicate: false }
}

fn deeds() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => Just(Deed::Post),
        2 => any::<usize>().prop_map(Deed::Edit),
        1 => any::<usize>().prop_map(Deed::Delete),
        2 => (any::<usize>(), any::<u8>(), any::<bool>()).prop_map(|(post, emoji, on)| Deed::React(post, emoji, on)),
        1 => Just(Deed::Rename),
        1 => Just(Deed::Join),
        1 => Just(Deed::Unknown),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (2..5_u8, deeds()).prop_map(|(by, deed)| Step::Act(by, deed)),
        10 => Just(Step::Next),
        2 => Just(Step::CatchUp),
        2 => any::<usize>().prop_map(Step::Again),
        2 => Just(Step::Jump),
        1 => Just(Step::Reset),
        5 => any::<Option<usize>>().prop_map(Step::Ask),
        5 => any::<(usize, bool)>().prop_map(|(page, stays)| Step::Page(page, stays)),
        3 => Just(Step::Write),
        1 => any::<usize>().prop_map(Step::Change),
        3 => Just(Step::Commit),
        3 => any::<(usize, bool)>().prop_map(|(ack, stays)| Step::Ack(ack, stays)),
        1 => Just(Step::Refuse),
        1 => Just(Step::Discard),
        1 => any::<Option<usize>>().prop_map(Step::Look),
    ]
}

#[test]
fn whatever_arrives_in_any_order_and_twice_the_rows_become_what_the_room_holds() {
    let run = |steps: Vec<Step>| {
        let mut world = World::new(10_000);
        for step in &steps {
            world.step(step);
            assert_sound(&world.timeline);
            assert_true(&world.timeline, &world.model);
        }
        world.settle();
        assert_complete(&world);
        Ok(())
    };
    runner(800).run(&vec(steps(), 0..90), run).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_small_memory_lets_rows_go_and_still_accounts_for_every_post() {
    let kept = 20;
    let run = |steps: Vec<Step>| {
        let mut world = World::new(kept);
        for step in &steps {
            world.step(step);
            assert_sound(&world.timeline);
            assert_true(&world.timeline, &world.model);
            let own = world.timeline.rows().filter(|row| row.as_post().is_some_and(|post| post.ordinal.is_none()));
            let own = own.count();
            assert!(world.timeline.len() - own <= kept + kept / 20 + 2, "it keeps {}", world.timeline.len());
        }
        Ok(())
    };
    runner(250).run(&vec(steps(), 0..250), run).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_row_keeps_its_key_and_takes_its_place_when_the_ack_comes_before_the_event() {
    let mut model = Room::default();
    model.act(user(2), Deed::Post);
    let mut timeline = Timeline::new(user(ME));
    timeline.opened(&fresh(model.snapshot(PAGE)));
    timeline.queued(&my_post(1));
    timeline.queued(&my_post(2));
    let key = RowKey::Post { by: user(ME), client_id: client_id(2) };
    assert_eq!(timeline.index_of(key), Some(2));
    model.act(user(3), Deed::Post);
    let seq = model.post(user(ME), client_id(2), "mine 2");

    timeline.acked(&ack(2, seq));
    assert_eq!(bodies(&timeline), ["post at 1", "mine 2", "mine 1"]);
    assert_eq!(timeline.row(1).unwrap().as_post().unwrap().status, Status::Sent);
    timeline.event(model.event(Seq(2)));
    assert_eq!(bodies(&timeline), ["post at 1", "post at 2", "mine 2", "mine 1"]);
    timeline.event(model.event(Seq(3)));
    timeline.acked(&ack(2, seq));
    assert_eq!(bodies(&timeline), ["post at 1", "post at 2", "mine 2", "mine 1"]);
    assert_eq!(timeline.index_of(key), Some(2));
}

#[test]
fn a_page_that_tells_of_more_than_is_known_does_not_stand_above_what_was_acknowledged_before_it() {
    let mut model = Room::default();
    model.act(user(2), Deed::Post);
    let mut timeline = Timeline::new(user(ME));
    timeline.opened(&fresh(model.snapshot(PAGE)));
    timeline.queued(&my_post(1));
    let seq = model.post(user(ME), client_id(1), "mine 1");
    timeline.acked(&ack(1, seq));
    for _ in 0..PAGE {
        model.act(user(3), Deed::Post);
    }

    // The last of the room, mine not among them.
    timeline.history(&model.history(model.head().next(), PAGE), model.head().next());
    assert_sound(&timeline);
    assert_eq!(bodies(&timeline), ["post at 1", "mine 1"]);
    for seq in 2..=model.head().0 {
        timeline.event(model.event(Seq(seq)));
        assert_sound(&timeline);
    }
    assert_eq!(bodies(&timeline), ["post at 1", "mine 1", "post at 3", "post at 4", "post at 5", "post at 6"]);
}

#[test]
fn an_event_before_its_ack_settles_the_row_and_the_ack_adds_nothing() {
    let mut model = Room::default();
    let mut timeline = Timeline::new(user(ME));
    timeline.queued(&my_post(1));
    model.post(user(ME), client_id(1), "mine 1");
    timeline.event(model.event(Seq(1)));
    assert_eq!(bodies(&timeline), ["mine 1"]);
    let before = timeline.row(0);
    timeline.acked(&ack(1, Seq(1)));
    timeline.queued(&my_post(1));
    assert_eq!((bodies(&timeline), timeline.row(0)), (vec!["mine 1".to_owned()], before));
}

#[test]
fn an_acknowledged_post_that_lies_in_a_hole_is_counted_there_and_nowhere_else() {
    let mut model = Room::default();
    let mut timeline = Timeline::new(user(ME));
    model.act(user(2), Deed::Post);
    timeline.opened(&fresh(model.snapshot(PAGE)));
    timeline.queued(&my_post(1));
    let seq = model.post(user(ME), client_id(1), "mine 1");
    (0..6).for_each(|_| model.act(user(2), Deed::Post));
    timeline.opened(&opened(OpenOutcome::Jumped { snapshot: model.snapshot(2), hole: 5 }));
    assert_eq!(bodies(&timeline), ["post at 1", "(5 missing)", "post at 7", "post at 8", "mine 1"]);
    timeline.acked(&ack(1, seq));
    assert_eq!(bodies(&timeline), ["post at 1", "(5 missing)", "post at 7", "post at 8"]);
    timeline.history(&model.history(Seq(7), 3), Seq(7));
    let filled = ["post at 1", "(2 missing)", "post at 4", "post at 5", "post at 6", "post at 7", "post at 8"];
    assert_eq!(bodies(&timeline), filled);
    timeline.history(&model.history(Seq(4), 3), Seq(4));
    assert_eq!(timeline.len(), 8);
    assert_eq!(bodies(&timeline)[..3], ["post at 1", "mine 1", "post at 3"]);
}

#[test]
fn posts_from_before_a_jump_are_marked_until_a_page_has_refreshed_them() {
    let mut model = Room::default();
    (0..3).for_each(|_| model.act(user(2), Deed::Post));
    let mut timeline = Timeline::new(user(ME));
    timeline.opened(&fresh(model.snapshot(PAGE)));
    model.act(user(2), Deed::Delete(1));
    (0..9).for_each(|_| model.act(user(2), Deed::Post));
    timeline.opened(&opened(OpenOutcome::Jumped { snapshot: model.snapshot(2), hole: 7 }));
    let stale =
        |timeline: &Timeline| timeline.rows().filter(|row| row.as_post().is_some_and(|post| post.stale)).count();
    assert_eq!(stale(&timeline), 3);
    assert_eq!(bodies(&timeline)[1], "post at 2");

    let len = timeline.len();
    assert_eq!(timeline.needed(0, len), Some(Seq(12)), "the hole comes first");
    assert_eq!(timeline.needed(0, 2), Some(Seq(3)), "then what is on the screen and may be out of date");
    timeline.history(&model.history(Seq(3), 2), Seq(3));
    assert_eq!((stale(&timeline), &*bodies(&timeline)[1]), (1, "(deleted)"));
    assert_eq!(timeline.needed(0, 2), None);
}

#[test]
fn a_reset_replaces_what_is_committed_and_keeps_what_is_not() {
    let mut old = Room::default();
    (0..9).for_each(|_| old.act(user(2), Deed::Post));
    let mut timeline = Timeline::new(user(ME));
    timeline.opened(&fresh(old.snapshot(PAGE)));
    timeline.queued(&my_post(1));
    let mut restored = Room::default();
    restored.post(user(3), client_id(77), "another history");
    let snapshot = restored.snapshot(PAGE);
    timeline.opened(&opened(OpenOutcome::Reset { reason: ResetReason::Forked, snapshot }));
    assert_eq!(bodies(&timeline), ["another history", "mine 1"]);
    assert_eq!((timeline.head(), timeline.earlier()), (Seq(1), 0));
    assert_sound(&timeline);
}

#[test]
fn a_post_acknowledged_in_a_history_that_was_lost_does_not_stay_as_sent() {
    let mut model = Room::default();
    (0..9).for_each(|_| model.act(user(2), Deed::Post));
    let mut timeline = Timeline::new(user(ME));
    timeline.opened(&fresh(model.snapshot(PAGE)));
    timeline.queued(&my_post(1));
    timeline.queued(&my_post(2));
    timeline.acked(&ack(1, Seq(10)));
    model.rewind(Seq(3));
    let snapshot = model.snapshot(PAGE);
    timeline.opened(&opened(OpenOutcome::Reset { reason: ResetReason::Ahead, snapshot }));
    assert_eq!(bodies(&timeline), ["post at 1", "post at 2", "post at 3", "mine 2"]);
}

#[test]
fn a_change_of_mine_is_marked_while_it_is_saved_and_reverts_by_doing_nothing() {
    let mut model = Room::default();
    let mut timeline = Timeline::new(user(ME));
    model.post(user(ME), client_id(1), "as it was");
    timeline.event(model.event(Seq(1)));
    let edit = item(2, SendOp::Edit { post: Seq(1).into(), body: "as it will be".to_owned() });
    let row = |timeline: &Timeline| timeline.post(Seq(1)).unwrap().clone();

    timeline.queued(&edit);
    assert_eq!((row(&timeline).body.as_deref(), row(&timeline).pending.len()), (Some("as it was"), 1));
    timeline.refused(client_id(2), &WireError::new(ErrorCode::Forbidden, "no"));
    assert!(matches!(row(&timeline).pending[0].status, Status::Refused(_)));
    timeline.discarded(client_id(2));
    assert_eq!((row(&timeline).body.as_deref(), row(&timeline).pending.len()), (Some("as it was"), 0));

    timeline.queued(&edit);
    let seq = model.edit(user(ME), Seq(1), "as it will be");
    timeline.acked(&ack(2, seq));
    assert_eq!(row(&timeline).pending[0].status, Status::Sent, "committed, and its event is on its way");
    timeline.event(model.event(seq));
    assert_eq!((row(&timeline).body.as_deref(), row(&timeline).pending.len()), (Some("as it will be"), 0));
}

#[test]
fn a_change_is_shown_on_the_post_it_is_meant_for_and_on_no_other_in_its_place() {
    let edit = |number, key| {
        let post = PostRef { seq: Seq(1), client_id: key };
        item(number, SendOp::Edit { post, body: format!("edit {number}") })
    };
    let pending = |timeline: &Timeline| -> Vec<_> {
        timeline.post(Seq(1)).unwrap().pending.iter().map(|change| change.client_id).collect()
    };
    let mut timeline = Timeline::new(user(ME));
    let mut model = Room::default();
    model.post(user(ME), client_id(7), "mine");
    timeline.opened(&fresh(model.snapshot(PAGE)));
    timeline.queued(&edit(20, Some(client_id(7))));
    timeline.refused(client_id(20), &WireError::new(ErrorCode::Forbidden, "no"));
    timeline.queued(&edit(21, Some(client_id(7))));
    // An older version of the page did not say which post it meant.
    timeline.queued(&edit(22, None));
    assert_eq!(pending(&timeline), [20, 21, 22].map(client_id));

    let mut restored = Room::default();
    restored.post(user(ME), client_id(77), "mine, too");
    let snapshot = restored.snapshot(PAGE);
    timeline.opened(&opened(OpenOutcome::Reset { reason: ResetReason::Forked, snapshot }));
    assert_eq!(pending(&timeline), [client_id(22)]);
    timeline.sending(client_id(21));
    assert_eq!(pending(&timeline), [client_id(22)], "nor when it comes further");
    let history = restored.history(Seq(2), PAGE);
    timeline.history(&history, Seq(2));
    timeline.queued(&edit(23, Some(client_id(77))));
    assert_eq!(pending(&timeline), [22, 23].map(client_id));

    // The same of a post of mine that is acknowledged and whose event has not come.
    let mut timeline = Timeline::new(user(ME));
    timeline.opened(&fresh(Room::default().snapshot(PAGE)));
    timeline.queued(&edit(20, Some(client_id(7))));
    timeline.queued(&my_post(1));
    timeline.acked(&ack(1, Seq(1)));
    assert_eq!(pending(&timeline), []);
    timeline.queued(&edit(21, Some(client_id(1))));
    timeline.sending(client_id(20));
    assert_eq!(pending(&timeline), [client_id(21)]);
}

#[test]
fn what_two_lives_wrote_under_one_order_is_shown_in_the_order_in_which_it_is_sent() {
    let edit = |number| item(number, SendOp::Edit { post: Seq(1).into(), body: format!("edit {number}") });
    let mut timeline = Timeline::new(user(ME));
    let mut model = Room::default();
    model.post(user(ME), client_id(90), "mine");
    timeline.opened(&fresh(model.snapshot(PAGE)));
    for (order, number) in [(0, 9), (0, 1), (1, 3), (0, 5)] {
        timeline.queued(&OutboxItem { order, ..my_post(number) });
        timeline.queued(&OutboxItem { order, ..edit(10 + number) });
    }
    assert_eq!(bodies(&timeline), ["mine", "mine 1", "mine 5", "mine 9", "mine 3"]);
    let row = timeline.post(Seq(1)).unwrap();
    let pending: Vec<_> = row.pending.iter().map(|change| change.client_id).collect();
    assert_eq!(pending, [11, 15, 19, 13].map(client_id));
}

#[test]
fn a_row_is_called_saved_only_while_the_device_has_it_however_far_it_has_come() {
    let mut timeline = Timeline::new(user(ME));
    for number in 1..=3 {
        timeline.queued(&my_post(number));
    }
    let said = |timeline: &Timeline| -> Vec<(Status, bool)> {
        let rows = timeline.rows();
        rows.filter_map(|row| row.as_post().map(|post| (post.status.clone(), post.is_saved))).collect()
    };
    timeline.sending(client_id(1));
    timeline.interrupted(client_id(1));
    timeline.sending(client_id(2));
    timeline.saved(client_id(2));
    timeline.interrupted(client_id(2));
    timeline.saved(client_id(3));
    assert_eq!(
        said(&timeline),
        [(Status::Interrupted, false), (Status::Interrupted, true), (Status::Saved, true)],
        "the first was never on the device"
    );
    let version = timeline.version();
    timeline.erased();
    assert_eq!(said(&timeline), [(Status::Interrupted, false), (Status::Interrupted, false), (Status::Queued, false)]);
    assert!(timeline.version() > version);
}

#[test]
fn rows_that_did_not_change_stay_the_same_allocation() {
    let mut model = Room::default();
    (0..50).for_each(|_| model.act(user(2), Deed::Post));
    let mut timeline = Timeline::new(user(ME));
    timeline.opened(&fresh(model.snapshot(50)));
    let before: Vec<Row> = timeline.rows().collect();
    let version = timeline.version();
    model.act(user(3), Deed::React(7, 0, true));
    timeline.event(model.event(Seq(51)));
    assert!(timeline.version() > version);
    let same = |(old, new): &(&Row, Row)| Arc::ptr_eq(old.as_post().unwrap(), new.as_post().unwrap());
    assert_eq!(before.iter().zip(timeline.rows()).filter(same).count(), 49);
}

#[test]
fn a_hot_room_stays_bounded_and_the_place_one_reads_is_not_pulled_away() {
    let mut model = Room::default();
    (0..400).for_each(|_| model.act(user(2), Deed::Post));
    let mut timeline = Timeline::keeping(user(ME), 100);
    timeline.opened(&fresh(model.snapshot(50)));
    for _ in 0..4 {
        let before = timeline.needed(0, 10).unwrap();
        timeline.history(&model.history(before, 50), before);
    }
    let reading = timeline.row(0).unwrap();
    for seq in 401..=600 {
        model.act(user(2), Deed::Post);
        timeline.event(model.event(Seq(seq)));
        assert!(timeline.len() <= 106);
        assert_sound(&timeline);
    }
    assert_eq!(timeline.index_of(reading.key()), Some(0), "the row on the screen is still the first");
    assert!(bodies(&timeline).iter().any(|row| row.ends_with("missing)")));
    timeline.look_at(None);
    for seq in 601..=800 {
        model.act(user(2), Deed::Post);
        timeline.event(model.event(Seq(seq)));
        assert!(timeline.len() <= 105);
    }
    assert_sound(&timeline);
    assert_eq!(timeline.earlier(), 800 - timeline.len() as u64);
}

#[test]
fn a_server_that_shows_no_more_ends_the_scroll_back() {
    let mut model = Room::default();
    (0..20).for_each(|_| model.act(user(2), Deed::Post));
    let mut timeline = Timeline::new(user(ME));
    timeline.opened(&fresh(model.snapshot(5)));
    assert_eq!((timeline.earlier(), timeline.needed(0, 5)), (15, Some(Seq(16))));
    let empty = HistoryPage { posts: Vec::new(), earlier: 0, ..model.history(Seq(16), 5) };
    timeline.history(&empty, Seq(16));
    assert_eq!((timeline.earlier(), timeline.needed(0, 5)), (0, None));
}

#[test]
fn a_page_read_before_a_row_changed_and_was_let_go_does_not_pass_for_new() {
    let mut model = Room::default();
    (0..10).for_each(|_| model.act(user(2), Deed::Post));
    let mut timeline = Timeline::keeping(user(ME), 20);
    timeline.opened(&fresh(model.snapshot(10)));
    let on_its_way = model.history(Seq(5), PAGE);
    model.act(user(2), Deed::Edit(0));
    (0..30).for_each(|_| model.act(user(2), Deed::Post));
    (11..=41).for_each(|seq| timeline.event(model.event(Seq(seq))));
    assert!(timeline.post(Seq(1)).is_none(), "it was let go");
    timeline.history(&on_its_way, Seq(5));
    assert_true(&timeline, &model);
    assert!(timeline.post(Seq(1)).is_some_and(|row| row.stale));
}

#[test]
fn the_whole_room_can_be_read_up_and_down_in_a_small_memory() {
    let mut model = Room::default();
    (0..100).for_each(|_| model.act(user(2), Deed::Post));
    // More changes without a post than one page's worth of seqs.
    (0..60).for_each(|_| [true, false].into_iter().for_each(|on| model.act(user(3), Deed::React(99, 0, on))));
    (0..200).for_each(|_| model.act(user(2), Deed::Post));
    let mut timeline = Timeline::keeping(user(ME), 100);
    timeline.opened(&fresh(model.snapshot(50)));
    let load = |timeline: &mut Timeline, top: usize| {
        timeline.look_at(timeline.row(top).as_ref().and_then(Row::as_post).and_then(|post| post.seq));
        if let Some(before) = timeline.needed(top, top + 10) {
            timeline.history(&model.history(before, 50), before);
        }
        assert!(timeline.len() <= 107, "{} rows are kept", timeline.len());
    };
    for _ in 0..20 {
        load(&mut timeline, 0);
    }
    assert_sound(&timeline);
    let ordinal = |row: Option<Row>| row.as_ref().and_then(Row::as_post).and_then(|post| post.ordinal);
    assert_eq!((timeline.earlier(), ordinal(timeline.row(0))), (0, Some(1)));

    let mut on_top = timeline.row(0).unwrap();
    for expected in 2..=300 {
        let mut tries = 0;
        let next = loop {
            let top = timeline.index_of(on_top.key()).expect("what is looked at is not let go");
            load(&mut timeline, top);
            let top = timeline.index_of(on_top.key()).expect("what is looked at is not let go");
            match timeline.row(top + 1) {
                Some(row @ Row::Post(_)) => break row,
                other => assert!(tries < 9, "post {expected} does not come: {other:?}"),
            }
            tries += 1;
        };
        assert_eq!(ordinal(Some(next.clone())), Some(expected));
        on_top = next;
    }
    assert_sound(&timeline);
}

#[test]
fn a_hole_that_begins_with_changes_and_no_posts_still_fills_from_above() {
    let mut model = Room::default();
    (0..3).for_each(|_| model.act(user(2), Deed::Post));
    let mut timeline = Timeline::new(user(ME));
    timeline.opened(&fresh(model.snapshot(50)));
    (0..60).for_each(|_| [true, false].into_iter().for_each(|on| model.act(user(3), Deed::React(0, 0, on))));
    (0..80).for_each(|_| model.act(user(2), Deed::Post));
    timeline.opened(&opened(OpenOutcome::Jumped { snapshot: model.snapshot(2), hole: 78 }));
    for _ in 0..5 {
        let at = timeline.rows().position(|row| matches!(row, Row::Hole(_))).unwrap_or(0);
        if let Some(before) = timeline.needed(at.saturating_sub(8), at + 2) {
            timeline.history(&model.history(before, 50), before);
        }
        assert_sound(&timeline);
    }
    assert_eq!((timeline.len(), timeline.earlier()), (83, 0));
}
