//! Days of a page in its rooms: which one is shown, followed, unread or left.
//!
//! Must not live here: what is written in them (`composer`). Invariant: an address is answered by a room or by words.

use super::*;

#[test]
fn the_default_room_opens_by_itself() {
    let mut page = Page::at("/");
    let effects = page.welcome(vec![summary(2, "build", 0, 0), summary(1, "general", 0, 0)]);
    assert_eq!(gone_to(&effects), Some(("/r/general", true)));
    assert_eq!(opened(&effects), Some(room_id(1)));
    let state = page.state();
    assert_eq!(state.place, Place::Room(room_id(1)));
    assert_eq!(state.rooms.iter().map(|row| row.summary.name.as_str()).collect::<Vec<_>>(), ["general", "build"]);
}

#[test]
fn the_default_room_is_joined_without_asking_where_one_is_not_in_it() {
    let mut page = Page::at("/");
    let asked = page.welcome(Vec::new());
    assert!(matches!(&page.state().place, Place::Looking { name } if name == "general"));
    let general = RoomSummary { joined: false, ..summary(1, "general", 9, 0) };
    let join = page.answer(&asked, Ok(Reply::Room(general.clone())));
    assert!(
        join.iter()
            .any(|effect| matches!(effect, Effect::Session(Command::Request { command: WireCommand::Join(_), .. })))
    );
    let effects = page.answer(&join, Ok(Reply::Room(RoomSummary { joined: true, ..general })));
    assert_eq!(opened(&effects), Some(room_id(1)));
}

#[test]
fn the_address_of_a_public_room_asks_before_it_joins() {
    let mut page = Page::at("/r/secret%20plans");
    let asked = page.welcome(vec![summary(1, "general", 0, 0)]);
    let found = RoomSummary { joined: false, ..summary(3, "secret plans", 4, 0) };
    let effects = page.answer(&asked, Ok(Reply::Room(found)));
    assert!(effects.is_empty(), "{effects:?}");
    assert!(matches!(page.state().place, Place::Door { busy: false, .. }));
    let join = page.act(Action::Join(room_id(3)));
    assert!(matches!(page.state().place, Place::Door { busy: true, .. }));
    page.answer(&join, Ok(Reply::Room(summary(3, "secret plans", 4, 4))));
    assert_eq!(page.state().place, Place::Room(room_id(3)));
}

#[test]
fn an_address_of_no_room_says_so_and_a_lost_question_is_asked_again() {
    let mut page = Page::at("/r/nowhere");
    let asked = page.welcome(Vec::new());
    page.answer(&asked, Err(WireError::new(ErrorCode::Unavailable, "lost")));
    assert!(matches!(page.state().place, Place::Looking { .. }));
    let again = page.welcome(Vec::new());
    page.answer(&again, Err(WireError::new(ErrorCode::NotFound, "no")));
    assert!(matches!(&page.state().place, Place::Missing { name } if name == "nowhere"));
}

#[test]
fn a_room_is_found_however_its_name_is_written_in_the_address() {
    let mut page = Page::at("/r/General");
    let asked = page.welcome(vec![summary(1, "general", 0, 0)]);
    let effects = page.answer(&asked, Ok(Reply::Room(summary(1, "general", 0, 0))));
    assert_eq!((page.state().place, gone_to(&effects)), (Place::Room(room_id(1)), Some(("/r/general", true))));
}

#[test]
fn unread_counts_what_others_wrote_and_shows_in_the_title() {
    let mut page = Page::live();
    assert_eq!(page.model.title(), "(3) general · Holdfast");
    page.posted(1, 4, other());
    assert_eq!(page.state().unread(), 4);
    let effects = page.act(Action::MarkRead(room_id(1), 4));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Session(Command::MarkRead { posts: 4, .. }))));
    page.posted(1, 5, me());
    assert_eq!(page.state().unread(), 3, "what I wrote I have read");
    page.hear(SessionEvent::Read(shared::message::ReadMark { room: room_id(2), posts: 5 }));
    assert_eq!(page.model.title(), "general · Holdfast");
}

#[test]
fn after_the_server_was_set_back_what_comes_is_unread_also_in_a_room_that_was_not_open() {
    let mut page = Page::live();
    page.act(Action::MarkRead(room_id(2), 5));
    page.welcome(vec![summary(1, "general", 3, 3), summary(2, "build", 2, 2)]);
    page.hear(SessionEvent::Heads(vec![shared::model::Head { room: room_id(2), seq: Seq(4), posts: 4 }]));
    assert_eq!(page.state().unread(), 2);
}

#[test]
fn the_new_divider_is_frozen_while_the_room_is_shown() {
    let mut page = Page::live();
    page.act(Action::OpenRoom(room_id(2)));
    assert_eq!(page.state().view.unwrap().divider, Some(2));
    page.act(Action::MarkRead(room_id(2), 5));
    assert_eq!(page.state().view.unwrap().divider, Some(2));
    page.act(Action::OpenRoom(room_id(1)));
    page.act(Action::OpenRoom(room_id(2)));
    assert_eq!(page.state().view.unwrap().divider, None);
}

/// Tells of so many posts in `general`, too many to be told one by one.
fn jumped(page: &mut Page, total: u64) {
    let as_of = Position { epoch: Epoch::from_bytes([1; 16]), seq: Seq(total), check: Check([0; 8]) };
    let snapshot = Snapshot { as_of, total, posts: Vec::new(), people: Vec::new() };
    let outcome = OpenOutcome::Jumped { snapshot, hole: total - 3 };
    page.hear(SessionEvent::Opened(Opened { room: room_id(1), outcome, roster: Vec::new(), members: 2 }));
}

#[test]
fn what_came_while_nobody_looked_is_new_however_it_came() {
    let post = |page: &mut Page| drop(page.posted(1, 4, other()));
    let jump = |page: &mut Page| jumped(page, 900);
    let come: [&dyn Fn(&mut Page); 2] = [&post, &jump];
    for (how, come) in come.into_iter().enumerate() {
        let mut page = Page::live();
        page.step(|model, _| model.visible(false));
        come(&mut page);
        page.step(|model, _| model.visible(true));
        assert_eq!(page.state().view.unwrap().divider, Some(3), "way {how}");
        page.act(Action::MarkRead(room_id(1), 900));
        page.step(|model, _| model.visible(false));
        page.step(|model, _| model.visible(true));
        assert_eq!(page.state().view.unwrap().divider, None, "way {how}");
    }
    let mut page = Page::live();
    page.posted(1, 4, other());
    assert_eq!(page.state().view.unwrap().divider, None, "somebody looks");
    page.act(Action::MarkRead(room_id(1), 4));
    jumped(&mut page, 900);
    assert_eq!(page.state().view.unwrap().divider, Some(4), "the machine slept, with the page shown");
}

#[test]
fn the_room_not_visited_for_longest_is_followed_no_longer() {
    let mut page = Page::at("/");
    let rooms = (1..=ROOMS_FOLLOWED as u8 + 1).map(|n| summary(n, &format!("room-{n:02}"), 0, 0)).collect();
    page.welcome(rooms);
    let mut shut = Vec::new();
    for n in 1..=ROOMS_FOLLOWED as u8 + 1 {
        shut.extend(page.act(Action::OpenRoom(room_id(n))).into_iter().filter_map(|effect| match effect {
            Effect::Session(Command::Shut { room }) => Some(room),
            _ => None,
        }));
    }
    assert_eq!(shut, [room_id(1)]);
    assert_eq!(opened(&page.act(Action::OpenRoom(room_id(1)))), Some(room_id(1)), "followed anew when visited again");
}

#[test]
fn a_room_that_may_not_be_followed_says_so_and_is_asked_for_again_by_a_click_and_by_the_next_welcome() {
    let mut page = Page::live();
    let refuse = |page: &mut Page| {
        let outcome = OpenOutcome::Refused { error: WireError::new(ErrorCode::LimitReached, "too many") };
        page.hear(SessionEvent::Opened(Opened { room: room_id(1), outcome, roster: Vec::new(), members: 0 }));
        let view = page.state().view.unwrap();
        assert!(!view.loaded && view.load_failed.is_some(), "its rows would grow stale unnoticed");
    };
    refuse(&mut page);
    assert_eq!(opened(&page.act(Action::OpenRoom(room_id(1)))), Some(room_id(1)));
    refuse(&mut page);
    let rooms = vec![summary(1, "general", 3, 3), summary(2, "build", 5, 2)];
    assert_eq!(opened(&page.welcome(rooms.clone())), Some(room_id(1)));
    assert_eq!(opened(&page.welcome(rooms)), None, "the session does it");
    page.open(1, 3);
    assert!(page.state().view.unwrap().load_failed.is_none());
}

#[test]
fn leaving_the_room_on_screen_shows_another_one() {
    let mut page = Page::live();
    page.act(Action::OpenRoom(room_id(2)));
    page.hear(SessionEvent::User(UserEvent {
        seq: Seq(1),
        check: Check([0; 8]),
        ts: Timestamp(WALL),
        change: UserChange::RoomRemoved(shared::model::RoomRemoved { room: room_id(2) }),
    }));
    assert_eq!(page.state().place, Place::Room(room_id(1)));
}

#[test]
fn a_room_left_and_joined_again_elsewhere_is_as_the_welcome_tells_it() {
    let mut page = Page::live();
    page.act(Action::OpenRoom(room_id(2)));
    page.welcome_as_of(7, vec![summary(1, "general", 3, 3), summary(2, "build", 105, 103)]);
    let mine = |page: &mut Page, seq, change| {
        page.hear(SessionEvent::User(UserEvent { seq: Seq(seq), check: Check([0; 8]), ts: Timestamp(WALL), change }))
    };
    let left = UserChange::RoomRemoved(shared::model::RoomRemoved { room: room_id(2) });
    let (name, title) = ("build".into(), String::new());
    let added = shared::model::RoomAdded { room: room_id(2), name, title, from: Seq(100), posts: 100 };
    let effects = mine(&mut page, 6, left.clone());
    assert!(effects.is_empty(), "{effects:?}");
    mine(&mut page, 7, UserChange::RoomAdded(added));
    assert_eq!((page.state().place, page.state().unread()), (Place::Room(room_id(2)), 2));
    mine(&mut page, 8, left);
    assert_eq!(page.state().place, Place::Room(room_id(1)), "this time for good");
}

#[test]
fn parts_that_did_not_change_are_the_same_parts() {
    let mut page = Page::live();
    let before = page.state();
    page.hear(SessionEvent::RoundTrip { ms: 12 });
    let after = page.state();
    assert!(Rc::ptr_eq(&before.rooms, &after.rooms));
    assert!(Rc::ptr_eq(before.view.as_ref().unwrap(), after.view.as_ref().unwrap()));
    assert!(!Rc::ptr_eq(&before.panel, &after.panel));
    assert!(!before.looks_like(&after));
    page.now += 60_000;
    assert!(after.looks_like(&page.state()), "the clock alone draws nothing");
}

/// The one post there is before the third of a room that had others then.
fn page_of_one() -> Reply {
    let as_of = Position { epoch: Epoch::from_bytes([1; 16]), seq: Seq(3), check: Check([0; 8]) };
    let post = shared::model::Post {
        seq: Seq(2),
        rev: Seq(2),
        ordinal: 2,
        by: other().id,
        client_id: ClientId::from_bytes([77; 16]),
        ts: Timestamp(WALL),
        body: Some("of before".into()),
        edited: None,
        reactions: Vec::new(),
    };
    let people = vec![other()];
    Reply::History(shared::model::HistoryPage { room: room_id(1), posts: vec![post], people, earlier: 1, as_of })
}

#[test]
fn a_page_asked_for_before_a_room_was_opened_anew_changes_nothing_and_is_asked_for_again() {
    let reset = |page: &mut Page| {
        let as_of = Position { epoch: Epoch::from_bytes([1; 16]), seq: Seq(3), check: Check([1; 8]) };
        let snapshot = Snapshot { as_of, total: 2, posts: Vec::new(), people: Vec::new() };
        page.hear(SessionEvent::Opened(Opened {
            room: room_id(1),
            outcome: OpenOutcome::Reset { reason: shared::model::ResetReason::Forked, snapshot },
            roster: Vec::new(),
            members: 2,
        }));
    };
    let enter_again = |page: &mut Page| page.open(1, 3);
    let leave_and_join = |page: &mut Page| {
        let change = UserChange::RoomRemoved(shared::model::RoomRemoved { room: room_id(1) });
        page.hear(SessionEvent::User(UserEvent { seq: Seq(1), check: Check([0; 8]), ts: Timestamp(WALL), change }));
        page.welcome(vec![summary(1, "general", 3, 3), summary(2, "build", 5, 2)]);
        page.act(Action::OpenRoom(room_id(1)));
        page.open(1, 3);
    };
    let forget_and_visit = |page: &mut Page| {
        let rooms = (1..=ROOMS_FOLLOWED as u8 + 1).map(|n| summary(n, &format!("room-{n:02}"), 3, 3)).collect();
        page.welcome(rooms);
        (1..=ROOMS_FOLLOWED as u8 + 1).for_each(|n| drop(page.act(Action::OpenRoom(room_id(n)))));
        page.act(Action::OpenRoom(room_id(1)));
        page.open(1, 3);
    };
    let opened_anew: [&dyn Fn(&mut Page); 4] = [&reset, &enter_again, &leave_and_join, &forget_and_visit];
    for (how, open_anew) in opened_anew.into_iter().enumerate() {
        let mut page = Page::live();
        let asked = page.act(Action::LoadHistory(room_id(1), Seq(3)));
        open_anew(&mut page);
        let before = page.state().view.unwrap();
        assert_eq!((before.room, before.loading), (room_id(1), None), "way {how}");
        let again = page.act(Action::LoadHistory(room_id(1), Seq(3)));
        page.answer(&asked, Ok(page_of_one()));
        let after = page.state().view.unwrap();
        assert_eq!(after.timeline.version(), before.timeline.version(), "way {how}");
        assert_eq!((after.timeline.len(), after.loading), (before.timeline.len(), Some(Seq(3))), "way {how}");
        page.answer(&again, Ok(page_of_one()));
        let loaded = page.state().view.unwrap();
        assert!(loaded.timeline.post(Seq(2)).is_some() && loaded.loading.is_none(), "way {how}");
    }
}

#[test]
fn a_page_asked_for_before_a_jump_is_shown_where_it_belongs() {
    let mut page = Page::live();
    let asked = page.act(Action::LoadHistory(room_id(1), Seq(3)));
    let as_of = Position { epoch: Epoch::from_bytes([1; 16]), seq: Seq(900), check: Check([0; 8]) };
    let snapshot = Snapshot { as_of, total: 800, posts: Vec::new(), people: Vec::new() };
    page.hear(SessionEvent::Opened(Opened {
        room: room_id(1),
        outcome: OpenOutcome::Jumped { snapshot, hole: 800 },
        roster: Vec::new(),
        members: 2,
    }));
    assert!(page.act(Action::LoadHistory(room_id(1), Seq(3))).is_empty(), "one page at a time");
    page.answer(&asked, Ok(page_of_one()));
    let view = page.state().view.unwrap();
    assert!(view.timeline.post(Seq(2)).is_some_and(|post| post.stale) && view.loading.is_none());
}

/// Removes a room as leaving it in another tab does.
fn removed(page: &mut Page, room: u8) {
    let change = UserChange::RoomRemoved(shared::model::RoomRemoved { room: room_id(room) });
    page.hear(SessionEvent::User(UserEvent { seq: Seq(1), check: Check([0; 8]), ts: Timestamp(WALL), change }));
}

#[test]
fn a_room_joined_again_has_the_draft_it_was_left_with() {
    let mut page = Page::live();
    let found = SortedMap::from_iter([(room_id(1), "old".to_owned()), (room_id(2), "gone".to_owned())]);
    page.step(|model, _| model.drafts_found(found));
    page.act(Action::SetDraft(room_id(1), "old and new".into(), DRAWN));
    page.act(Action::SetDraft(room_id(2), String::new(), DRAWN));
    removed(&mut page, 1);
    removed(&mut page, 2);
    page.welcome(vec![summary(1, "general", 3, 3), summary(2, "build", 5, 2)]);
    assert_eq!(page.model.draft_to_store(room_id(1)), "old and new");
    assert_eq!(page.model.draft_to_store(room_id(2)), "", "it was emptied before");
}

#[test]
fn a_room_visited_again_says_of_its_unsent_posts_what_it_said_before() {
    use shared::timeline::{Row, Status};
    let mut page = Page::at("/");
    page.welcome((1..=ROOMS_FOLLOWED as u8 + 1).map(|n| summary(n, &format!("room-{n:02}"), 0, 0)).collect());
    page.act(Action::OpenRoom(room_id(1)));
    page.open(1, 0);
    for (order, body) in ["in memory", "saved", "on its way", "interrupted"].into_iter().enumerate() {
        let effects = page.act(Action::Send(room_id(1), body.into(), DRAWN));
        let (client_id, _) = sent(&effects).unwrap();
        page.hear(SessionEvent::Queued(OutboxItem { order: order as u64, ..item(client_id, body) }));
        if order > 0 {
            page.hear(SessionEvent::Saved(client_id));
        }
        if order > 1 {
            page.hear(SessionEvent::Sending(client_id));
        }
        if order > 2 {
            page.hear(SessionEvent::Interrupted(client_id));
        }
    }
    let said = |page: &mut Page| -> Vec<Status> {
        let view = page.state().view.unwrap();
        view.timeline.rows().filter_map(|row: Row| row.as_post().map(|post| post.status.clone())).collect()
    };
    let before = said(&mut page);
    assert_eq!(before, [Status::Queued, Status::Saved, Status::Sending, Status::Interrupted]);
    (2..=ROOMS_FOLLOWED as u8 + 1).for_each(|n| drop(page.act(Action::OpenRoom(room_id(n)))));
    page.act(Action::OpenRoom(room_id(1)));
    assert_eq!(said(&mut page), before);
}

#[test]
fn a_post_refused_in_a_room_that_is_gone_is_told_of_and_can_be_copied() {
    let mut page = Page::live();
    let effects = page.act(Action::Send(room_id(1), "lost?".into(), DRAWN));
    let (client_id, _) = sent(&effects).unwrap();
    page.hear(SessionEvent::Queued(item(client_id, "lost?")));
    removed(&mut page, 1);
    let error = WireError::new(ErrorCode::NotMember, "no member");
    page.hear(SessionEvent::Refused { client_id, error: error.clone() });
    let told = page.state().notices.iter().map(|notice| notice.what.clone()).collect::<Vec<_>>();
    assert_eq!(told, [crate::store::NoticeKind::PostRefused { client_id, error, body: "lost?".into() }]);
    page.now += 60_000;
    assert_eq!(page.state().notices.len(), 1, "until somebody has seen it");
    page.hear(SessionEvent::Discarded(client_id));
    assert!(page.state().notices.is_empty());
}

#[test]
fn a_refused_post_found_on_the_device_is_told_of_only_where_no_row_does() {
    let mut page = Page::at("/");
    let error = WireError::new(ErrorCode::NotMember, "no member");
    for n in [1, 9] {
        let client_id = ClientId::from_bytes([100 + n; 16]);
        let refused = Some(error.clone());
        page.hear(SessionEvent::Queued(OutboxItem { room: room_id(n), refused, ..item(client_id, "old") }));
        page.hear(SessionEvent::Refused { client_id, error: error.clone() });
    }
    assert!(page.state().notices.is_empty(), "the rooms are not known yet");
    let told = |page: &mut Page| -> Vec<ClientId> {
        let notices = page.state().notices;
        let told = notices.iter().filter_map(|notice| match &notice.what {
            crate::store::NoticeKind::PostRefused { client_id, .. } => Some(*client_id),
            _ => None,
        });
        told.collect()
    };
    page.welcome(vec![summary(1, "general", 0, 0)]);
    assert_eq!(told(&mut page), [ClientId::from_bytes([109; 16])]);
    page.welcome(vec![summary(1, "general", 0, 0)]);
    assert_eq!(told(&mut page).len(), 1, "once");
    removed(&mut page, 1);
    assert_eq!(told(&mut page).len(), 2, "the row is gone with its room");
    page.hear(SessionEvent::Queued(OutboxItem { room: room_id(9), ..item(ClientId::from_bytes([109; 16]), "old") }));
    assert_eq!(told(&mut page), [ClientId::from_bytes([101; 16])], "tried again");
}
