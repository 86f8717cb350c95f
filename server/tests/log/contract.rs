//! What every backend must do. Each theme lists its functions; each function is asked of SQLite and of the twin in memory.
//! Here are rooms and the people in them; the rest is in files by theme.
//!
//! Must not live here: what only a disk can be asked. Invariant: a function that is in no list is not used, and the
//! compiler says so.

use server::log::reads::Membership;
use server::log::{Applied, GENERAL, Op, SYSTEM};
use shared::error::ErrorCode;
use shared::ids::{Lsn, Seq};
use shared::limits::JOINED_ROOMS;
use shared::model::{RoomChange, UserChange};

use super::world::{ALL, World, named, post};

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

// Behind the macro, which they use.
mod posts;
mod requests;

contract! {
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
    the_server_itself_owns_general_and_is_no_member,
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
    let (left, stranger) = (people[1], world.person("Fay").await);
    world.ok(left, Op::Leave { room }).await;
    let asked = [stranger, people[3], left, world.user_id(), people[0]];
    let among = world.read(move |log| log.members_among(room, &asked)).await;
    let mut among: Vec<_> = among.into_iter().map(|one| one.id).collect();
    among.sort();
    assert_eq!(among, [people[0], people[3]]);
    assert!(world.read(move |log| log.members_among(room, &[])).await.is_empty());
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
