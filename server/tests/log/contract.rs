//! What every backend must do.

use std::sync::mpsc;

use server::log::reads::Membership;
use server::log::{Applied, GENERAL, Health, LogError, LogOptions, Op, SYSTEM, open_memory};
use shared::cursor::Check;
use shared::error::ErrorCode;
use shared::ids::{Lsn, Seq, UserId};
use shared::limits::JOINED_ROOMS;
use shared::model::{RoomChange, UserChange};
use shared::time::Timestamp;

use super::world::{ALL, World, edit, named, post, react};

macro_rules! contract {
    ($($name:ident,)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::World::sqlite()).await;
            })*
        }
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::World::memory()).await;
            })*
        }
    };
}

contract! {
    every_stream_is_dense_from_one,
    a_repetition_gets_the_first_answer_for_ever,
    the_same_key_with_another_content_is_a_conflict,
    a_refused_request_may_be_asked_again_under_its_key,
    a_repetition_of_a_room_answers_the_first_room,
    ordinals_count_posts_and_nothing_else,
    time_never_runs_backwards_in_a_room,
    only_members_post,
    only_its_author_changes_a_post,
    a_deleted_post_is_gone_for_good,
    an_edit_keeps_place_and_time_of_its_post,
    reactions_are_idempotent_and_keep_their_places,
    one_post_gathers_a_bounded_number_of_reactions,
    leaving_and_coming_back_begins_a_new_stay,
    who_is_kicked_is_no_member,
    a_person_is_a_member_of_a_bounded_number_of_rooms,
    members_are_listed_by_name_in_pages,
    a_name_is_unique_by_what_it_looks_like,
    a_rename_is_told_in_every_room_and_to_oneself,
    rooms_are_listed_by_name_in_pages,
    an_ended_room_gives_its_name_back,
    only_its_maker_changes_a_room,
    what_changed_since_is_told_and_no_more,
    read_positions_merge_by_maximum,
    a_read_position_takes_no_key,
    sessions_are_renewed_and_revoked_by_their_owner,
    a_page_ends_at_its_number_and_at_its_bytes,
    a_page_holds_at_least_one_item,
    pages_of_history_join_without_a_hole,
    a_chain_outlives_a_deletion,
    a_check_names_one_history,
    several_entries_are_one_record,
    nobody_hears_of_what_is_refused,
    concurrent_proposers_keep_their_order,
    the_server_itself_owns_general_and_is_no_member,
    strangers_are_refused,
}

async fn every_stream_is_dense_from_one(world: World) {
    let ann = world.person("Ann").await;
    let (one, two) = (world.room(ann, "one").await, world.room(ann, "two").await);
    for n in 0..5 {
        world.post(ann, one, &format!("one {n}")).await;
        world.post(ann, two, &format!("two {n}")).await;
    }
    for room in [one, two] {
        let seqs: Vec<u64> = world.events(room).await.iter().map(|event| event.seq.0).collect();
        assert_eq!(seqs, (1..=7).collect::<Vec<_>>());
    }
    let mine = world.read(move |log| log.user_events(ann, Seq(0), ALL)).await;
    assert_eq!(mine.iter().map(|event| event.seq.0).collect::<Vec<_>>(), [1, 2, 3]);
    let tail = world.read(move |log| log.user_events(ann, Seq(2), ALL)).await;
    assert_eq!(tail, mine[2..]);
    let head = world.read(move |log| log.user_head(ann)).await.unwrap();
    assert_eq!((head.seq, head.check), (Seq(3), mine[2].check));
}

async fn a_repetition_gets_the_first_answer_for_ever(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let entry = world.entry(ann, post(room, "once"));
    let Applied::Committed(first) = world.log.propose(entry.clone()).await.unwrap() else { panic!("not committed") };
    world.post(ann, room, "another").await;
    let mut again = entry.clone();
    again.ts = Timestamp(entry.ts.0 + 86_400_000);
    assert_eq!(world.log.propose(again.clone()).await.unwrap(), Applied::Duplicate(first));
    world.ok(ann, Op::Delete { room, post: first.seq }).await;
    world.ok(ann, Op::Leave { room }).await;
    assert_eq!(world.log.propose(again).await.unwrap(), Applied::Duplicate(first));
    assert_eq!(world.body(room, first.seq).await, None, "a repetition does not bring a deleted post back");
    assert_eq!(world.snapshot(room).await.total, 2);
}

async fn the_same_key_with_another_content_is_a_conflict(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let room = world.room(ann, "here").await;
    world.ok(ben, Op::Join { room }).await;
    let entry = world.entry(ann, post(room, "this"));
    world.log.propose(entry.clone()).await.unwrap();
    for op in [post(room, "that"), edit(room, Seq(3), "this"), Op::Leave { room }] {
        let mut other = entry.clone();
        other.op = op;
        let Applied::Refused(error) = world.log.propose(other).await.unwrap() else { panic!("not refused") };
        assert_eq!(error.code, ErrorCode::IdConflict);
    }
    let mut hers = entry;
    hers.by = ben;
    hers.op = post(room, "Ben's own");
    let answer = world.log.propose(hers).await.unwrap();
    assert!(matches!(answer, Applied::Committed(_)), "another person's key is another key: {answer:?}");
}

async fn a_refused_request_may_be_asked_again_under_its_key(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let room = world.room(ann, "here").await;
    let entry = world.entry(ben, post(room, "let me in"));
    assert!(matches!(world.log.propose(entry.clone()).await.unwrap(), Applied::Refused(_)));
    world.ok(ben, Op::Join { room }).await;
    assert!(matches!(world.log.propose(entry).await.unwrap(), Applied::Committed(_)));
}

async fn a_repetition_of_a_room_answers_the_first_room(world: World) {
    let ann = world.person("Ann").await;
    let create = |room| Op::RoomCreate { room, name: "here".into(), title: String::new() };
    let entry = world.entry(ann, create(world.room_id()));
    let Applied::Committed(first) = world.log.propose(entry.clone()).await.unwrap() else { panic!("not committed") };
    let mut again = entry.clone();
    again.op = create(world.room_id());
    assert_eq!(world.log.propose(again).await.unwrap(), Applied::Duplicate(first));
    assert_eq!(world.refused(ann, create(world.room_id())).await, ErrorCode::NameTaken);
}

async fn ordinals_count_posts_and_nothing_else(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let first = world.post(ann, room, "one").await;
    world.ok(ann, edit(room, first, "uno")).await;
    world.ok(ann, react(room, first, "👍", true)).await;
    let second = world.post(ann, room, "two").await;
    world.ok(ann, Op::Delete { room, post: first }).await;
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
    for op in [post(room, "no"), edit(room, seq, "no"), Op::Delete { room, post: seq }, react(room, seq, "👍", true)]
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
    assert_eq!(world.refused(ben, Op::Delete { room, post: seq }).await, ErrorCode::Forbidden);
    assert_eq!(world.refused(ann, edit(room, Seq(1), "not a post")).await, ErrorCode::NotFound);
    assert_eq!(world.refused(ann, edit(room, Seq(999), "not there")).await, ErrorCode::NotFound);
    assert_eq!(world.body(room, seq).await.as_deref(), Some("mine"));
}

async fn a_deleted_post_is_gone_for_good(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let seq = world.post(ann, room, "secret one").await;
    world.ok(ann, edit(room, seq, "secret two")).await;
    world.ok(ann, edit(room, seq, "secret three")).await;
    world.ok(ann, react(room, seq, "👍", true)).await;
    let deletion = world.ok(ann, Op::Delete { room, post: seq }).await;
    let snapshot = world.snapshot(room).await;
    let gone = &snapshot.posts[0];
    assert_eq!((gone.seq, gone.rev, gone.ordinal), (seq, deletion.seq, 1));
    assert_eq!((&gone.body, gone.edited, gone.reactions.len()), (&None, None, 0));
    let told = serde_json::to_string(&world.events(room).await).unwrap();
    assert!(!told.contains("secret"), "{told}");
    for op in [edit(room, seq, "back"), react(room, seq, "👍", true), Op::Delete { room, post: seq }] {
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

async fn leaving_and_coming_back_begins_a_new_stay(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let room = world.room(ann, "here").await;
    let joined = world.ok(ben, Op::Join { room }).await;
    assert_eq!(world.ok(ben, Op::Join { room }).await.seq, joined.seq, "joining twice changes nothing");
    let member = move |user| move |log: &dyn server::log::Reads| log.member(room, user);
    assert_eq!(world.read(member(ben)).await, Some(Membership { from_seq: joined.seq }));
    world.ok(ben, Op::Leave { room }).await;
    assert_eq!(world.read(member(ben)).await, None);
    assert_eq!(world.read(move |log| log.member_count(room)).await, 1);
    world.post(ann, room, "while he was gone").await;
    let back = world.ok(ben, Op::Join { room }).await;
    assert!(back.seq > joined.seq);
    assert_eq!(world.read(member(ben)).await, Some(Membership { from_seq: back.seq }));
    assert_eq!(world.read(move |log| log.member_count(room)).await, 2);
    let summary = world.read(move |log| log.room_summary(ben, room)).await.unwrap();
    assert_eq!((summary.joined, summary.posts, summary.read), (true, 1, 1), "what came before counts as read");
    let changes: Vec<_> = world.read(move |log| log.user_events(ben, Seq(0), ALL)).await;
    let tags: Vec<_> = changes.iter().map(|event| event.change.tag()).collect();
    assert_eq!(tags, ["named", "room_added", "room_removed", "room_added"]);
    let UserChange::RoomAdded(added) = &changes[3].change else { panic!("not added") };
    assert_eq!((added.room, added.from, added.posts), (room, back.seq, 1));
}

async fn who_is_kicked_is_no_member(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let room = world.room(ann, "here").await;
    world.ok(ben, Op::Join { room }).await;
    assert_eq!(world.refused(ben, Op::Kick { room, user: ann }).await, ErrorCode::Forbidden);
    assert_eq!(world.refused(ann, Op::Kick { room, user: ann }).await, ErrorCode::Forbidden);
    assert_eq!(world.refused(ann, Op::Kick { room, user: world.user_id() }).await, ErrorCode::NotFound);
    world.ok(ann, Op::Kick { room, user: ben }).await;
    assert_eq!(world.refused(ben, post(room, "still here")).await, ErrorCode::NotMember);
    let events = world.events(room).await;
    let RoomChange::Kicked(kicked) = &events.last().unwrap().change else { panic!("not kicked") };
    assert_eq!((kicked.user.id, kicked.user.name.as_str()), (ben, "Ben"));
    assert_eq!(world.read(move |log| log.member_ids(room, None, ALL)).await, [ann]);
}

async fn a_person_is_a_member_of_a_bounded_number_of_rooms(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let create = |n: usize| {
        let op = Op::RoomCreate { room: world.room_id(), name: format!("room-{n}"), title: String::new() };
        world.entry(ann, op)
    };
    for first in (0..JOINED_ROOMS).step_by(200) {
        let applied = world.log.propose_all((first..first + 200).map(create).collect()).await.unwrap();
        assert!(applied.iter().all(|one| matches!(one, Applied::Committed(_))));
    }
    let bens = world.room(ben, "bens").await;
    let name = "one-more".to_owned();
    let create = Op::RoomCreate { room: world.room_id(), name, title: String::new() };
    assert_eq!(world.refused(ann, create).await, ErrorCode::LimitReached);
    assert_eq!(world.refused(ann, Op::Join { room: bens }).await, ErrorCode::LimitReached);
    let left = world.read(move |log| log.rooms_of(ann, None)).await[0].room;
    world.ok(ann, Op::Leave { room: left }).await;
    world.ok(ann, Op::Join { room: bens }).await;
}

async fn members_are_listed_by_name_in_pages(world: World) {
    let mut people = Vec::new();
    for name in ["Dee", "Ann", "Eve", "Cat", "Ben"] {
        people.push(world.person(name).await);
    }
    let room = world.room(people[0], "here").await;
    for person in &people[1..] {
        world.ok(*person, Op::Join { room }).await;
    }
    let page = move |after: Option<&'static str>| {
        move |log: &dyn server::log::Reads| {
            Ok(log.members(room, after, 2)?.into_iter().map(|one| one.name).collect::<Vec<_>>())
        }
    };
    assert_eq!(world.read(page(None)).await, ["Ann", "Ben"]);
    assert_eq!(world.read(page(Some("Ben"))).await, ["Cat", "Dee"]);
    assert_eq!(world.read(page(Some("Dee"))).await, ["Eve"]);
    let ids = world.read(move |log| log.member_ids(room, None, 3)).await;
    let rest = world
        .read({
            let last = ids[2];
            move |log| log.member_ids(room, Some(last), 3)
        })
        .await;
    people.sort();
    assert_eq!([ids, rest].concat(), people);
}

async fn a_name_is_unique_by_what_it_looks_like(world: World) {
    let ann = world.person("Ann").await;
    let other = world.user_id();
    assert_eq!(world.refused(other, named(other, "ANN")).await, ErrorCode::NameTaken);
    assert_eq!(world.refused(other, named(ann, "Bea")).await, ErrorCode::Forbidden);
    assert!(!world.read(|log| log.name_free("ann")).await);
    world.ok(ann, named(ann, "Bea")).await;
    assert!(world.read(|log| log.name_free("ann")).await);
    world.ok(other, named(other, "ANN")).await;
    assert_eq!(world.read(move |log| log.user(ann)).await.unwrap().name, "Bea");
}

async fn a_rename_is_told_in_every_room_and_to_oneself(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let (one, two) = (world.room(ann, "one").await, world.room(ann, "two").await);
    let left = world.room(ben, "left").await;
    world.ok(ann, Op::Join { room: left }).await;
    world.ok(ann, Op::Leave { room: left }).await;
    world.post(ann, one, "as Ann").await;
    world.ok(ann, named(ann, "Zoe")).await;
    world.ok(ann, named(ann, "Zoe")).await;
    for room in [one, two] {
        let events = world.events(room).await;
        let last = events.last().unwrap();
        let RoomChange::Renamed(renamed) = &last.change else { panic!("not renamed: {last:?}") };
        assert_eq!((renamed.was.as_str(), last.by.name.as_str(), last.by.id), ("Ann", "Zoe", ann));
        assert_eq!(events.iter().filter(|event| matches!(event.change, RoomChange::Renamed(_))).count(), 1);
        let names = world.read(move |log| log.members(room, None, ALL)).await;
        assert_eq!(names[0].name, "Zoe");
    }
    assert!(!world.events(left).await.iter().any(|event| matches!(event.change, RoomChange::Renamed(_))));
    let posted = &world.events(one).await[2];
    assert_eq!(posted.by.name, "Ann", "an event keeps the name of its moment");
    assert_eq!(world.snapshot(one).await.people[0].name, "Zoe", "a snapshot has the present name");
    let mine = world.read(move |log| log.user_events(ann, Seq(0), ALL)).await;
    let UserChange::Named(name) = &mine.last().unwrap().change else { panic!("not named") };
    assert_eq!(name.name, "Zoe");
}

async fn rooms_are_listed_by_name_in_pages(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    for name in ["delta", "alpha", "charlie", "bravo"] {
        world.room(ann, name).await;
    }
    let page = move |after: Option<&'static str>| {
        move |log: &dyn server::log::Reads| {
            Ok(log
                .rooms_page(ben, after, 3)?
                .into_iter()
                .map(|room| (room.name, room.joined, room.members))
                .collect::<Vec<_>>())
        }
    };
    let row = |name: &str| (name.to_owned(), false, 1);
    assert_eq!(world.read(page(None)).await, [row("alpha"), row("bravo"), row("charlie")]);
    assert_eq!(world.read(page(Some("charlie"))).await, [row("delta")]);
    assert!(world.read(move |log| log.room_by_name("bravo")).await.is_some());
    assert!(world.read(move |log| log.room_by_name("echo")).await.is_none());
    let names: Vec<_> =
        world.read(move |log| log.rooms_of(ann, None)).await.into_iter().map(|room| room.name).collect();
    assert_eq!(names, ["alpha", "bravo", "charlie", "delta"]);
    assert_eq!(world.read(move |log| log.rooms_of(ben, None)).await, []);
}

async fn an_ended_room_gives_its_name_back(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let room = world.room(ann, "here").await;
    world.ok(ben, Op::Join { room }).await;
    assert_eq!(world.refused(ben, Op::RoomDelete { room }).await, ErrorCode::Forbidden);
    world.ok(ann, Op::RoomDelete { room }).await;
    assert!(matches!(world.events(room).await.last().unwrap().change, RoomChange::Ended(_)));
    assert_eq!(world.refused(ann, post(room, "anybody?")).await, ErrorCode::NotFound);
    assert_eq!(world.refused(ben, Op::Join { room }).await, ErrorCode::NotFound);
    assert_eq!(world.read(move |log| log.room_summary(ben, room)).await, None);
    assert_eq!(world.read(move |log| log.rooms_of(ben, None)).await, []);
    assert_eq!(world.read(move |log| log.member(room, ben)).await, None);
    for user in [ann, ben] {
        let mine = world.read(move |log| log.user_events(user, Seq(0), ALL)).await;
        assert!(matches!(mine.last().unwrap().change, UserChange::RoomRemoved(_)));
    }
    world.room(ben, "here").await;
}

async fn only_its_maker_changes_a_room(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let (room, taken) = (world.room(ann, "here").await, world.room(ben, "taken").await);
    let set = |room, name: &str| Op::RoomSet { room, name: name.into(), title: "About this".into() };
    assert_eq!(world.refused(ben, set(room, "there")).await, ErrorCode::Forbidden);
    assert_eq!(world.refused(ann, set(room, "taken")).await, ErrorCode::NameTaken);
    world.ok(ann, set(room, "there")).await;
    let summary = world.read(move |log| log.room_summary(ann, room)).await.unwrap();
    assert_eq!((summary.name.as_str(), summary.title.as_str()), ("there", "About this"));
    assert_eq!(world.read(move |log| log.room_by_name("here")).await, None);
    world.ok(ben, set(taken, "here")).await;
}

async fn what_changed_since_is_told_and_no_more(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let (one, two) = (world.room(ann, "one").await, world.room(ann, "two").await);
    world.ok(ben, Op::Join { room: one }).await;
    world.ok(ben, Op::Join { room: two }).await;
    let since = |lsn: Lsn| {
        move |log: &dyn server::log::Reads| {
            Ok(log.rooms_of(ben, Some(lsn))?.into_iter().map(|room| room.room).collect::<Vec<_>>())
        }
    };
    let lsn = world.read(|log| log.lsn()).await;
    assert_eq!(world.read(since(lsn)).await, []);
    world.post(ann, two, "news").await;
    assert_eq!(world.read(since(lsn)).await, [two]);
    let lsn = world.read(|log| log.lsn()).await;
    world.ok(ben, Op::Read { room: one, posts: 0 }).await;
    assert_eq!(world.read(since(lsn)).await, [], "a mark that moves nothing changes nothing");
    world.ok(ben, Op::Read { room: two, posts: 1 }).await;
    assert_eq!(world.read(since(lsn)).await, [two]);
    assert_eq!(world.read(since(Lsn(0))).await.len(), 2);
    assert_eq!(world.read(move |log| log.head(two)).await.unwrap().posts, 1);
}

async fn read_positions_merge_by_maximum(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let room = world.room(ann, "here").await;
    world.ok(ben, Op::Join { room }).await;
    for _ in 0..3 {
        world.post(ann, room, "unread").await;
    }
    world.published.lock().unwrap().clear();
    for (posts, stands) in [(2, 2), (1, 2), (2, 2), (99, 3)] {
        world.ok(ben, Op::Read { room, posts }).await;
        assert_eq!(world.read(move |log| log.room_summary(ben, room)).await.unwrap().read, stands);
    }
    let told: Vec<u64> = world
        .published
        .lock()
        .unwrap()
        .iter()
        .flat_map(|one| one.effects.reads.iter().map(|(_, mark)| mark.posts).collect::<Vec<_>>())
        .collect();
    assert_eq!(told, [2, 3], "only what moved is told");
}

async fn a_read_position_takes_no_key(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    world.post(ann, room, "one").await;
    let mut entry = world.entry(ann, Op::Read { room, posts: 0 });
    for posts in [0, 0, 1] {
        entry.op = Op::Read { room, posts };
        assert!(matches!(world.log.propose(entry.clone()).await, Ok(Applied::Committed(_))), "{posts} read");
    }
    entry.op = post(room, "under the same key");
    assert!(matches!(world.log.propose(entry).await, Ok(Applied::Committed(_))), "the key is free");
}

async fn sessions_are_renewed_and_revoked_by_their_owner(world: World) {
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let token = [7; 32];
    let session = move |log: &dyn server::log::Reads| Ok(log.session(&token)?.map(|row| (row.user, row.expires.0)));
    let open = |expires| Op::SessionOpen { token_hash: token, expires: Timestamp(expires) };
    assert_eq!(world.read(session).await, None);
    world.ok(ann, open(100)).await;
    world.ok(ann, open(200)).await;
    assert_eq!(world.read(session).await, Some((ann, 200)));
    assert_eq!(world.refused(ben, open(300)).await, ErrorCode::Forbidden);
    world.ok(ben, Op::SessionRevoke { token_hash: token }).await;
    assert_eq!(world.read(session).await, Some((ann, 200)), "nobody ends somebody else's");
    world.published.lock().unwrap().clear();
    world.ok(ann, Op::SessionRevoke { token_hash: token }).await;
    assert_eq!(world.read(session).await, None);
    assert_eq!(world.published.lock().unwrap()[0].effects.revoked, [token]);
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
    world.ok(ann, Op::Delete { room, post: seq }).await;
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

async fn several_entries_are_one_record(world: World) {
    let ann = world.user_id();
    let room = world.room_id();
    let entries = vec![
        world.entry(ann, named(ann, "Ann")),
        world.entry(ann, Op::SessionOpen { token_hash: [1; 32], expires: Timestamp(1) }),
        world.entry(ann, Op::RoomCreate { room, name: "here".into(), title: String::new() }),
        world.entry(ann, post(world.room_id(), "nowhere")),
        world.entry(ann, post(room, "here")),
    ];
    let answers = world.log.propose_all(entries).await.unwrap();
    let committed: Vec<bool> = answers.iter().map(|answer| matches!(answer, Applied::Committed(_))).collect();
    assert_eq!(committed, [true, true, true, false, true]);
    let published = world.published.lock().unwrap().clone();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].effects.room_events, world.events(room).await);
    assert_eq!(published[0].lsn, world.read(|log| log.lsn()).await);
}

async fn nobody_hears_of_what_is_refused(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let entry = world.entry(ann, post(room, "once"));
    world.log.propose(entry.clone()).await.unwrap();
    let (lsn, before) = (world.read(|log| log.lsn()).await, world.published.lock().unwrap().len());
    world.log.propose(entry).await.unwrap();
    world.refused(ann, post(world.room_id(), "nowhere")).await;
    assert_eq!(world.published.lock().unwrap().len(), before);
    assert_eq!(world.read(|log| log.lsn()).await, lsn);
    assert_eq!(world.log.health(), Health::Writable);
}

async fn concurrent_proposers_keep_their_order(world: World) {
    const PROPOSERS: u64 = 16;
    const POSTS: u64 = 20;
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let mut proposers = tokio::task::JoinSet::new();
    for p in 0..PROPOSERS {
        let log = world.log.clone();
        let entries: Vec<_> = (0..POSTS).map(|n| world.entry(ann, post(room, &format!("{p} {n}")))).collect();
        proposers.spawn(async move {
            // All of one proposer's are on their way at once, proposed in order.
            let mut waiting = Vec::new();
            for entry in entries {
                let mut answer = Box::pin({
                    let log = log.clone();
                    async move { log.propose(entry).await }
                });
                let now = std::future::poll_fn(|context| std::task::Poll::Ready(answer.as_mut().poll(context))).await;
                assert!(now.is_pending());
                waiting.push(answer);
            }
            for answer in waiting {
                assert!(matches!(answer.await, Ok(Applied::Committed(_))));
            }
        });
    }
    while let Some(done) = proposers.join_next().await {
        done.unwrap();
    }
    let snapshot = world.snapshot(room).await;
    assert_eq!(snapshot.total, PROPOSERS * POSTS);
    for p in 0..PROPOSERS {
        let of = format!("{p} ");
        let bodies = snapshot.posts.iter().filter_map(|post| post.body.as_deref());
        let order: Vec<u64> = bodies.filter_map(|body| body.strip_prefix(&of)).map(|n| n.parse().unwrap()).collect();
        assert_eq!(order, (0..POSTS).collect::<Vec<_>>(), "proposer {p}");
    }
    let published = world.published.lock().unwrap();
    let told: Vec<u64> = published.iter().flat_map(|one| &one.effects.room_events).map(|event| event.seq.0).collect();
    assert!(told.is_sorted(), "what is published is in order");
    assert!(published.len() < usize::try_from(PROPOSERS * POSTS).unwrap(), "what waits together is committed together");
}

async fn the_server_itself_owns_general_and_is_no_member(world: World) {
    let create = Op::RoomCreate { room: GENERAL, name: "general".into(), title: "Everybody".into() };
    world.ok(SYSTEM, create).await;
    assert_eq!(world.read(|log| log.member_count(GENERAL)).await, 0);
    assert_eq!(world.refused(SYSTEM, Op::Join { room: GENERAL }).await, ErrorCode::Forbidden);
    let ann = world.person("Ann").await;
    world.ok(ann, Op::Join { room: GENERAL }).await;
    world.post(ann, GENERAL, "hello").await;
    assert_eq!(world.read(|log| log.member_count(GENERAL)).await, 1);
    assert_eq!(world.refused(ann, Op::RoomDelete { room: GENERAL }).await, ErrorCode::Forbidden);
}

async fn strangers_are_refused(world: World) {
    let ann = world.person("Ann").await;
    let room = world.room(ann, "here").await;
    let stranger = world.user_id();
    for op in [
        post(room, "hello"),
        Op::Join { room },
        Op::RoomCreate { room: world.room_id(), name: "theirs".into(), title: String::new() },
        Op::SessionOpen { token_hash: [9; 32], expires: Timestamp(1) },
    ] {
        assert_eq!(world.refused(stranger, op).await, ErrorCode::SignedOut);
    }
}

#[tokio::test]
async fn a_full_queue_answers_busy_and_the_rest_goes_on() {
    let (entered, wait_entered) = mpsc::channel::<()>();
    let (release, wait_release) = mpsc::channel::<()>();
    let options = LogOptions { queue_entries: 2, ..LogOptions::default() };
    let (log, writer) = open_memory(&options, move |_| {
        let _ = entered.send(());
        let _ = wait_release.recv();
    })
    .unwrap();
    let entry = |n: u8| {
        let user = UserId::from_bytes([n; 16]);
        let key = shared::ids::ClientId::from_bytes([n; 16]);
        server::log::Entry { ts: Timestamp(1), by: user, key, op: named(user, &format!("user {n}")) }
    };
    let propose = |n: u8| {
        tokio::spawn({
            let log = log.clone();
            let entry = entry(n);
            async move { log.propose(entry).await }
        })
    };
    let first = propose(1);
    tokio::task::spawn_blocking(move || wait_entered.recv().unwrap()).await.unwrap();
    // The writer is inside the sink: two fit the queue, the third does not.
    let mut waiting: Vec<_> = (2..=3).map(|n| Box::pin(log.propose(entry(n)))).collect();
    for answer in &mut waiting {
        let now = std::future::poll_fn(|context| std::task::Poll::Ready(answer.as_mut().poll(context))).await;
        assert!(now.is_pending());
    }
    assert_eq!(log.propose(entry(4)).await, Err(LogError::Busy));
    drop(release);
    assert!(matches!(first.await.unwrap(), Ok(Applied::Committed(_))));
    for answer in waiting {
        assert!(matches!(answer.await, Ok(Applied::Committed(_))));
    }
    tokio::task::spawn_blocking(|| writer.shutdown()).await.unwrap().unwrap();
    assert_eq!(log.propose(entry(5)).await, Err(LogError::Stopped));
    assert_eq!(log.health(), Health::Stopped);
}
