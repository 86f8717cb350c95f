//! Posts: their places, their changes, their pages, and the chain over them.
//!
//! Must not live here: who may be in a room. Invariant: a post keeps its place, whatever becomes of it.

use server::log::chain::room_check;
use server::log::tables::{Body, EventRow, Kind};
use server::log::{Applied, Op, TextHash};
use shared::cursor::Check;
use shared::error::ErrorCode;
use shared::ids::{ClientId, Lsn, Seq, UserId};
use shared::model::{PostRef, RoomChange, RoomEvent};
use shared::time::Timestamp;

use super::super::world::{ALL, World, edit, post, react};

contract! {
    ordinals_count_posts_and_nothing_else,
    time_never_runs_backwards_in_a_room,
    only_members_post,
    only_its_author_changes_a_post,
    what_names_a_post_by_its_key_too_strikes_no_other,
    a_deleted_post_is_gone_for_good,
    an_edit_keeps_place_and_time_of_its_post,
    reactions_are_idempotent_and_keep_their_places,
    one_post_gathers_a_bounded_number_of_reactions,
    a_post_is_edited_a_bounded_number_of_times_and_deleted_all_the_same,
    a_page_ends_at_its_number_and_at_its_bytes,
    a_page_holds_at_least_one_item,
    pages_of_history_join_without_a_hole,
    a_chain_outlives_a_deletion,
    a_check_names_one_history,
    a_deleted_text_is_not_found_by_trying,
}

async fn ordinals_count_posts_and_nothing_else(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let first = world.post(ann, room, "one").await;
    world.ok(ann, edit(room, first, "uno")).await;
    world.ok(ann, react(room, first, "👍", true)).await;
    let second = world.post(ann, room, "two").await;
    world.ok(ann, Op::Delete { room, post: first.into() }).await;
    let third = world.post(ann, room, "three").await;
    let snapshot = world.snapshot(room).await;
    let ordinals: Vec<_> = snapshot.posts.iter().map(|post| (post.seq, post.ordinal)).collect();
    assert_eq!(ordinals, [(first, 1), (second, 2), (third, 3)]);
    assert_eq!(snapshot.total, 3);
    let counts: Vec<u64> = world.events(room).await.iter().map(|event| event.posts).collect();
    assert_eq!(counts, [0, 0, 1, 1, 1, 2, 2, 3]);
}

async fn time_never_runs_backwards_in_a_room(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let mut late = world.entry(ann, post(room, "the clock is ahead"));
    late.ts = Timestamp(9_000_000);
    world.log.propose(late).await.unwrap();
    let receipt = world.ok(ann, post(room, "the clock was set back")).await;
    assert_eq!(receipt.ts, Timestamp(9_000_000));
    let times: Vec<_> = world.events(room).await.iter().map(|event| event.ts).collect();
    assert!(times.is_sorted());
}

async fn only_members_post(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let room = world.room(ann, "here").await;
    let seq = world.post(ann, room, "mine").await;
    for op in
        [post(room, "no"), edit(room, seq, "no"), Op::Delete { room, post: seq.into() }, react(room, seq, "👍", true)]
    {
        assert_eq!(world.refused(ben, op).await, ErrorCode::NotMember);
    }
    assert_eq!(world.refused(ben, Op::Leave { room }).await, ErrorCode::NotMember);
    assert_eq!(world.refused(ben, Op::Read { room, posts: 1 }).await, ErrorCode::NotMember);
    assert_eq!(world.refused(ben, post(world.room_id(), "nowhere")).await, ErrorCode::NotFound);
    world.ok(ben, Op::Join { room }).await;
    world.post(ben, room, "yes").await;
}

async fn only_its_author_changes_a_post(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let room = world.room(ann, "here").await;
    world.ok(ben, Op::Join { room }).await;
    let seq = world.post(ann, room, "mine").await;
    assert_eq!(world.refused(ben, edit(room, seq, "his")).await, ErrorCode::Forbidden);
    assert_eq!(world.refused(ben, Op::Delete { room, post: seq.into() }).await, ErrorCode::Forbidden);
    assert_eq!(world.refused(ann, edit(room, Seq(1), "not a post")).await, ErrorCode::NotFound);
    assert_eq!(world.refused(ann, edit(room, Seq(999), "not there")).await, ErrorCode::NotFound);
    assert_eq!(world.body(room, seq).await.as_deref(), Some("mine"));
}

async fn what_names_a_post_by_its_key_too_strikes_no_other(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let posted = world.post(ann, room, "as it is").await;
    let key = world.snapshot(room).await.posts[0].client_id;
    let (same, other) = (PostRef { seq: posted, client_id: Some(key) }, ClientId::from_bytes([0x77; 16]));
    let lost = PostRef { client_id: Some(other), ..same };
    let (body, emoji) = ("changed".to_owned(), "👍".to_owned());
    for op in [
        Op::Edit { room, post: lost, body: body.clone() },
        Op::React { room, post: lost, emoji: emoji.clone(), on: true },
        Op::Delete { room, post: lost },
    ] {
        assert_eq!(world.refused(ann, op).await, ErrorCode::NotFound);
    }
    assert_eq!(world.body(room, posted).await.as_deref(), Some("as it is"));
    for op in [
        Op::Edit { room, post: same, body },
        Op::React { room, post: same, emoji, on: true },
        Op::Delete { room, post: same },
    ] {
        world.ok(ann, op).await;
    }
    assert_eq!(world.body(room, posted).await, None);
}

async fn a_deleted_post_is_gone_for_good(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let seq = world.post(ann, room, "secret one").await;
    world.ok(ann, edit(room, seq, "secret two")).await;
    world.ok(ann, edit(room, seq, "secret three")).await;
    world.ok(ann, react(room, seq, "👍", true)).await;
    let deletion = world.ok(ann, Op::Delete { room, post: seq.into() }).await;
    let snapshot = world.snapshot(room).await;
    let gone = &snapshot.posts[0];
    assert_eq!((gone.seq, gone.rev, gone.ordinal), (seq, deletion.seq, 1));
    assert_eq!((&gone.body, gone.edited, gone.reactions.len()), (&None, None, 0));
    let told = serde_json::to_string(&world.events(room).await).unwrap();
    assert!(!told.contains("secret"), "{told}");
    for op in [edit(room, seq, "back"), react(room, seq, "👍", true), Op::Delete { room, post: seq.into() }] {
        assert_eq!(world.refused(ann, op).await, ErrorCode::NotFound);
    }
}

async fn an_edit_keeps_place_and_time_of_its_post(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let posted = world.ok(ann, post(room, "teh")).await;
    let edited = world.ok(ann, edit(room, posted.seq, "the")).await;
    let found = world.snapshot(room).await.posts.remove(0);
    assert_eq!((found.seq, found.ts, found.rev, found.edited), (posted.seq, posted.ts, edited.seq, Some(edited.ts)));
    assert_eq!(found.body.as_deref(), Some("the"));
    let events = world.events(room).await;
    let RoomChange::Posted(original) = &events[2].change else { panic!("not a post") };
    assert_eq!(original.body.as_deref(), Some("teh"), "an event is replayed as it was");
}

async fn reactions_are_idempotent_and_keep_their_places(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let room = world.room(ann, "here").await;
    world.ok(ben, Op::Join { room }).await;
    let seq = world.post(ann, room, "well?").await;
    let first = world.ok(ann, react(room, seq, "👍", true)).await;
    let again = world.ok(ann, react(room, seq, "👍", true)).await;
    assert_eq!(again.seq, first.seq, "saying what holds already changes nothing");
    world.ok(ben, react(room, seq, "❤️", true)).await;
    world.ok(ben, react(room, seq, "👍", true)).await;
    world.ok(ann, react(room, seq, "👍", false)).await;
    world.ok(ann, react(room, seq, "👍", false)).await;
    let shown = |post: &shared::model::Post| -> Vec<(String, Vec<UserId>)> {
        post.reactions.iter().map(|reaction| (reaction.emoji.clone(), reaction.by.clone())).collect()
    };
    let found = world.snapshot(room).await.posts.remove(0);
    assert_eq!(shown(&found), [("👍".into(), vec![ben]), ("❤️".into(), vec![ben])], "an emoji in use keeps its place");
    world.ok(ben, react(room, seq, "👍", false)).await;
    let last = world.ok(ann, react(room, seq, "👍", true)).await;
    let found = world.snapshot(room).await.posts.remove(0);
    assert_eq!(shown(&found), [("❤️".into(), vec![ben]), ("👍".into(), vec![ann])], "one that was gone comes last");
    assert_eq!(found.rev, last.seq);
    let events = world.events(room).await;
    assert_eq!(events.iter().filter(|event| matches!(event.change, RoomChange::Reacted(_))).count(), 6);
}

async fn one_post_gathers_a_bounded_number_of_reactions(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let seq = world.post(ann, room, "well?").await;
    let all: Vec<_> = (0..server::log::apply::EMOJIS_PER_POST)
        .map(|n| world.entry(ann, react(room, seq, &format!("e{n}"), true)))
        .collect();
    let answers = world.log.propose_all(all).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Applied::Committed(_))));
    assert_eq!(world.refused(ann, react(room, seq, "one more", true)).await, ErrorCode::LimitReached);
    world.ok(ann, react(room, seq, "e0", false)).await;
    world.ok(ann, react(room, seq, "one more", true)).await;
}

async fn a_post_is_edited_a_bounded_number_of_times_and_deleted_all_the_same(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let (seq, other) = (world.post(ann, room, "well?").await, world.post(ann, room, "and?").await);
    let all = (0..server::log::apply::EDITS_PER_POST).map(|n| world.entry(ann, edit(room, seq, &format!("edit {n}"))));
    let last = format!("edit {}", server::log::apply::EDITS_PER_POST - 1);
    let answers = world.log.propose_all(all.collect()).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Applied::Committed(_))));
    assert_eq!(world.refused(ann, edit(room, seq, "one more")).await, ErrorCode::LimitReached);
    assert_eq!(world.body(room, seq).await.as_deref(), Some(last.as_str()));
    world.ok(ann, edit(room, other, "each post has its own")).await;
    world.ok(ann, Op::Delete { room, post: seq.into() }).await;
    let kept = |event: &&shared::model::RoomEvent| match &event.change {
        RoomChange::Posted(posted) => event.seq == seq && posted.body.is_some(),
        RoomChange::Edited(edited) => edited.post == seq && edited.body.is_some(),
        _ => false,
    };
    assert_eq!(world.events(room).await.iter().find(kept), None, "a text is left");
}

async fn a_page_ends_at_its_number_and_at_its_bytes(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let entries: Vec<_> = (0..30).map(|n| world.entry(ann, post(room, &format!("{n:01000}")))).collect();
    world.log.propose_all(entries).await.unwrap();
    let few = world.read(move |log| log.snapshot(room, 7, ALL)).await.unwrap();
    assert_eq!(few.posts.iter().map(|post| post.ordinal).collect::<Vec<_>>(), (24..=30).collect::<Vec<_>>());
    assert_eq!((few.total, few.earlier()), (30, 23));
    for bytes in [2_000, 5_000, 12_345] {
        let page = world.read(move |log| log.snapshot(room, ALL, bytes)).await.unwrap();
        let size = serde_json::to_string(&(&page.posts, &page.people)).unwrap().len();
        assert!(size <= bytes + 8 && size + 1_500 > bytes, "{size} bytes of {bytes}");
        assert_eq!(page.posts.last().unwrap().ordinal, 30, "the newest are kept");
        let events = world.read(move |log| log.events(room, Seq(2), ALL, bytes)).await;
        let size = serde_json::to_string(&events).unwrap().len();
        assert!(size <= bytes + 8 && size + 1_500 > bytes, "{size} bytes of {bytes}");
        assert_eq!(events[0].seq, Seq(3));
    }
    assert_eq!(world.read(move |log| log.events(room, Seq(10), 4, ALL)).await.len(), 4);
    assert_eq!(world.read(move |log| log.events(room, Seq(999), 4, ALL)).await, []);
}

async fn a_page_holds_at_least_one_item(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    world.post(ann, room, &"long ".repeat(500)).await;
    world.post(ann, room, &"longer ".repeat(500)).await;
    let page = world.read(move |log| log.snapshot(room, 50, 10)).await.unwrap();
    assert_eq!((page.posts.len(), page.people.len()), (1, 0));
    assert_eq!(world.read(move |log| log.events(room, Seq(2), 50, 10)).await.len(), 1);
    let none = world
        .read({
            let nowhere = world.room_id();
            move |log| log.snapshot(nowhere, 50, 10)
        })
        .await;
    assert_eq!(none, None);
}

async fn pages_of_history_join_without_a_hole(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    for n in 0..23 {
        let seq = world.post(ann, room, &n.to_string()).await;
        world.ok(ann, react(room, seq, "👀", true)).await;
    }
    let newest = world.read(move |log| log.snapshot(room, 5, ALL)).await.unwrap();
    let mut seen: Vec<u64> = newest.posts.iter().rev().map(|post| post.ordinal).collect();
    let mut before = newest.posts[0].seq;
    loop {
        let page = world.read(move |log| log.history(room, before, 5, ALL)).await.unwrap();
        let Some(first) = page.posts.first() else {
            assert_eq!(page.earlier, 0);
            break;
        };
        assert_eq!(page.earlier, first.ordinal - 1);
        assert_eq!(page.people.len(), 1);
        seen.extend(page.posts.iter().rev().map(|post| post.ordinal));
        before = first.seq;
    }
    assert_eq!(seen, (1..=23).rev().collect::<Vec<_>>());
}

async fn a_chain_outlives_a_deletion(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let seq = world.post(ann, room, "to be deleted").await;
    world.ok(ann, edit(room, seq, "still to be deleted")).await;
    world.post(ann, room, "to stay").await;
    let before = world.events(room).await;
    world.ok(ann, Op::Delete { room, post: seq.into() }).await;
    let after = world.events(room).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.check, after.check);
        let at = world
            .read({
                let seq = before.seq;
                move |log| log.check_at(room, seq)
            })
            .await;
        assert_eq!(at, Some(before.check));
    }
    assert_eq!(world.read(move |log| log.check_at(room, Seq(0))).await, Some(Check::default()));
    assert_eq!(world.read(move |log| log.check_at(room, Seq(99))).await, None);
    let head = world.read(move |log| log.head(room)).await.unwrap();
    assert_eq!(head.position.check, after.last().unwrap().check);
    assert_eq!(world.snapshot(room).await.as_of, head.position);
    assert_eq!(world.read(move |log| log.user_check_at(ann, Seq(0))).await, Some(Check::default()));
}

async fn a_check_names_one_history(world: World) {
    let ann = world.person("Ann").await;
    let (one, two) = (world.room(ann, "one").await, world.room(ann, "two").await);
    for room in [one, two] {
        world.post(ann, room, "the same").await;
    }
    let mut checks: Vec<_> = [world.events(one).await, world.events(two).await].concat();
    checks.sort_by_key(|event| event.check.0);
    checks.dedup_by_key(|event| event.check);
    assert_eq!(checks.len(), 6, "no two places share a check");
}

/// The columns of an event that has no more of them, as somebody who was told of it can fill them in, but for two.
fn guessed(event: &RoomEvent, lsn: Lsn, body: Body) -> EventRow {
    let (kind, key) = match &event.change {
        RoomChange::Posted(posted) => (Kind::Posted, Some(posted.client_id)),
        _ => (Kind::Joined, None),
    };
    EventRow {
        room: event.room,
        seq: event.seq,
        lsn,
        check: Check::default(),
        posts: event.posts,
        ts: event.ts,
        by: event.by.id,
        name: event.by.name.clone(),
        kind,
        key,
        target: None,
        detail: None,
        body,
    }
}

async fn a_deleted_text_is_not_found_by_trying(world: World) {
    let (ann, mallory) = (world.person("Ann").await, world.person("Mallory").await);
    let room = world.room(ann, "here").await;
    let seq = world.post(ann, room, "0000").await;
    world.ok(ann, Op::Delete { room, post: seq.into() }).await;
    let joined = world.ok(mallory, Op::Join { room }).await.seq;
    let told = world.events(room).await;
    let find = |seq: Seq, bodies: &[Body]| {
        let at = told.iter().position(|event| event.seq == seq).unwrap();
        let (before, event) = (&told[at - 1], &told[at]);
        (1..=told.len() as u64 + 4).map(Lsn).find(|lsn| {
            let fits = |body: &Body| {
                let row = guessed(event, *lsn, body.clone());
                room_check(&TextHash::PLAIN, before.check, &row) == event.check
            };
            bodies.iter().any(fits)
        })
    };
    assert!(
        find(joined, &[Body::None]).is_some(),
        "whatever has no text can be made again: the way it is tried is right"
    );
    let all: Vec<_> = (0..10_000).map(|code| Body::Text(format!("{code:04}"))).collect();
    assert_eq!(find(seq, &all), None, "whoever comes later reads what was deleted");
}
