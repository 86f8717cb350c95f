//! What a person or a program wants of a session: done, queued, or answered, and each wish only once.

mod common;

use common::device::{Device, welcome};
use common::{Room, client_id, epoch, room, user};
use shared::close;
use shared::cursor::{Check, Position};
use shared::error::{ErrorCode, WireError};
use shared::ids::{Lsn, RoomId, Seq};
use shared::limits::{OPEN_ROOMS, PENDING_REQUESTS};
use shared::message::{
    BeatAnswer, Body, Command as WireCommand, Event, Live, Message, ReadMark, Reply, TYPING_EVERY_MS, Welcome,
};
use shared::model::{Empty, Named, OpenOutcome, Opened, ResetReason, RoomSummary, UserChange, UserEvent};
use shared::session::{Command, ConnectionState, Deadline, Input, Persist, RequestTag, SessionEvent};
use shared::time::Timestamp;

fn commands(messages: &[Message]) -> Vec<WireCommand> {
    let command = |message: &Message| match &message.body {
        Body::Command(command) => Some(command.clone()),
        _ => None,
    };
    messages.iter().filter_map(command).collect()
}

fn ask(tag: u64) -> Command {
    let command = WireCommand::Rooms(shared::message::ListRooms { after: None });
    Command::Request { tag: RequestTag(tag), command }
}

/// Takes the answers that were told, as their tags and whether they are good ones.
fn answers(device: &mut Device) -> Vec<(u64, Result<(), ErrorCode>)> {
    let answer = |event| match event {
        SessionEvent::Answer { tag, result } => Some((tag.0, result.map(drop).map_err(|error| error.code))),
        _ => None,
    };
    device.take_told().into_iter().filter_map(answer).collect()
}

/// The connection is lost, and the next one opens and is welcomed. Returns the hello and what was written after it.
fn return_to(device: &mut Device, welcome: &Welcome) -> (Message, Vec<Message>) {
    device.lose(close::ABNORMAL);
    device.come_back(welcome)
}

#[test]
fn every_request_is_answered_once_and_at_most_so_many_wait() {
    let mut device = Device::at_rest(1, true);
    assert!(device.wish(ask(1)).is_empty());
    assert_eq!(answers(&mut device), [(1, Err(ErrorCode::Unavailable))], "nobody is there who could be asked");

    let mut device = Device::live(&Room::default());
    let asked: Vec<Message> = (0..PENDING_REQUESTS as u64).flat_map(|tag| device.wish(ask(tag))).collect();
    assert_eq!((asked.len(), device.session.awaited()), (PENDING_REQUESTS, PENDING_REQUESTS));
    assert!(answers(&mut device).is_empty());
    assert!(device.wish(ask(900)).is_empty());
    assert_eq!(answers(&mut device), [(900, Err(ErrorCode::LimitReached))]);

    device.hear(&Message::reply(asked[0].id, Reply::Done(Empty {})));
    device.refuse(asked[1].id, WireError::new(ErrorCode::NotFound, "There is none."));
    assert_eq!(answers(&mut device), [(0, Ok(())), (1, Err(ErrorCode::NotFound))]);
    assert_eq!(device.session.awaited(), PENDING_REQUESTS - 2);
    assert_eq!(device.wish(ask(901)).len(), 1, "there is room again");

    device.lose(close::ABNORMAL);
    let lost = answers(&mut device);
    assert_eq!((lost.len(), device.session.awaited()), (PENDING_REQUESTS - 1, 0));
    assert!(lost.iter().all(|(_, result)| *result == Err(ErrorCode::Unavailable)));
}

/// The read positions that were said.
fn reads(messages: &[Message]) -> Vec<(RoomId, u64)> {
    let read = |command| match command {
        WireCommand::Read(mark) => Some((mark.room, mark.posts)),
        _ => None,
    };
    commands(messages).into_iter().filter_map(read).collect()
}

#[test]
fn after_a_reset_no_more_is_said_to_be_read_than_there_is_and_what_was_read_since_is_said() {
    let mut model = Room::default();
    (1..=5).for_each(|key| _ = model.post(user(2), client_id(key), "restored"));
    let mark = |device: &mut Device, posts| device.wish(Command::MarkRead { room: room(), posts });
    let mut device = Device::live(&Room::default());
    mark(&mut device, 9);
    device.open_room(OpenOutcome::Reset { reason: ResetReason::Ahead, snapshot: model.snapshot(10) });
    assert_eq!(reads(&mark(&mut device, 6)), [(room(), 6)]);

    // The server may have forgotten a position that it had said to know, and says how many posts there are in a room that
    // is not followed.
    let mut device = Device::live(&Room::default());
    mark(&mut device, 9);
    device.hear(&Message::event(Event::Read(ReadMark { room: room(), posts: 9 })));
    let summary = |posts, read| RoomSummary {
        room: room(),
        name: "general".to_owned(),
        title: String::new(),
        joined: true,
        members: 1,
        head: Seq(posts),
        posts,
        read,
    };
    for (posts, read, said) in [(9, 9, None), (9, 3, Some(9)), (5, 3, Some(5)), (5, 5, None)] {
        let (_, after) = return_to(&mut device, &Welcome { rooms: vec![summary(posts, read)], ..welcome() });
        assert_eq!(reads(&after), Vec::from_iter(said.map(|posts| (room(), posts))));
    }
}

#[test]
fn what_was_read_is_said_when_it_grows_and_again_on_every_new_connection() {
    let mut device = Device::live(&Room::default());
    let mark = |device: &mut Device, posts| device.wish(Command::MarkRead { room: room(), posts });
    assert_eq!(reads(&mark(&mut device, 5)), [(room(), 5)]);
    assert_eq!(reads(&mark(&mut device, 5)), []);
    assert_eq!(reads(&mark(&mut device, 4)), []);
    assert_eq!(reads(&mark(&mut device, 6)), [(room(), 6)]);

    device.lose(close::ABNORMAL);
    assert_eq!(reads(&mark(&mut device, 9)), [], "it is kept for later");
    let (_, said) = return_to(&mut device, &welcome());
    assert_eq!(reads(&said), [(room(), 9)]);
    let (_, said) = return_to(&mut device, &welcome());
    assert_eq!(reads(&said), [(room(), 9)], "the server may not have heard it");
}

#[test]
fn what_the_server_knows_to_be_read_is_not_said_again_and_the_rest_not_all_at_once() {
    let marks = |messages: &[Message]| {
        commands(messages).into_iter().filter(|command| matches!(command, WireCommand::Read(_))).count()
    };
    let mut device = Device::live(&Room::default());
    let (known, rooms) = (RoomId::from_bytes([7; 16]), 100..120);
    for room in std::iter::once(known).chain(rooms.map(|number| RoomId::from_bytes([number; 16]))) {
        device.wish(Command::MarkRead { room, posts: 3 });
    }
    device.hear(&Message::event(Event::Read(ReadMark { room: known, posts: 3 })));
    let (_, said) = return_to(&mut device, &welcome());
    assert_eq!(marks(&said), 16);
    let beat = device.wait();
    let answer = BeatAnswer { now: Timestamp(0), reconnect_spread_ms: 0 };
    assert_eq!(
        marks(&device.hear(&Message::reply(beat[0].id, Reply::Beat(answer)))),
        4,
        "20 in all, without the known one"
    );
}

#[test]
fn a_read_position_refused_for_now_is_said_again_after_the_next_beat() {
    let mut device = Device::live(&Room::default());
    let (refused, forbidden) = (another(), RoomId::from_bytes([7; 16]));
    let mark = |device: &mut Device, room| device.wish(Command::MarkRead { room, posts: 3 })[0].id;
    let (first, second) = (mark(&mut device, refused), mark(&mut device, forbidden));
    device.refuse(first, too_fast());
    device.refuse(second, WireError::new(ErrorCode::NotMember, "Join it first."));
    let answer =
        |beat: &Message| Message::reply(beat.id, Reply::Beat(BeatAnswer { now: Timestamp(0), reconnect_spread_ms: 0 }));
    let beat = device.wait();
    assert_eq!(reads(&device.hear(&answer(&beat[0]))), [(refused, 3)]);
    let beat = device.wait();
    assert_eq!(reads(&device.hear(&answer(&beat[0]))), [], "once, if it is taken");
}

/// What a person took back is found by no later life, though the device would not take its removal at once.
#[test]
fn what_was_taken_back_is_removed_from_the_device_when_it_takes_something_again() {
    let mut device = Device::at_rest(1, false);
    device.wish(Command::Start);
    for key in [1, 2] {
        device.queue(key);
    }
    let stored = device.take_writes();
    let persisted = |device: &mut Device, serial, ok| device.input(Input::Persisted { serial, ok });
    for (serial, _) in &stored {
        persisted(&mut device, *serial, true);
    }
    device.wish(Command::CancelSend { client_id: client_id(1) });
    let removal = device.take_writes();
    assert_eq!(removal[0].1, Persist::Remove(client_id(1)));
    persisted(&mut device, removal[0].0, false);
    assert_eq!(device.take_writes(), [], "it is not tried without end");
    device.queue(3);
    let next = device.take_writes();
    persisted(&mut device, next[0].0, true);
    let again = device.take_writes();
    assert_eq!(again.iter().map(|(_, change)| change.clone()).collect::<Vec<_>>(), [Persist::Remove(client_id(1))]);
    // Nor is it taken over, should it be found before that.
    let Some((_, Persist::Put(found))) = stored.into_iter().next() else { panic!("it was stored first") };
    device.input(Input::Restored { items: vec![found] });
    assert!(device.session.outbox().all(|item| item.client_id != client_id(1)));
    persisted(&mut device, again[0].0, true);
    assert!(device.take_writes().iter().all(|(_, change)| *change == Persist::Remove(client_id(1))));
}

#[test]
fn typing_is_said_every_three_seconds_and_only_while_live() {
    let mut device = Device::live(&Room::default());
    let typing = Command::Typing { room: room() };
    assert_eq!(commands(&device.wish(typing.clone())).len(), 1);
    device.now += TYPING_EVERY_MS - 1;
    assert_eq!(commands(&device.wish(typing.clone())), []);
    device.now += 1;
    assert_eq!(commands(&device.wish(typing.clone())).len(), 1);
    return_to(&mut device, &welcome());
    assert!(matches!(device.session.state(), ConnectionState::CatchingUp { .. }));
    device.now += TYPING_EVERY_MS;
    assert_eq!(commands(&device.wish(typing.clone())), []);
    device.open_room(OpenOutcome::Recovered { head: Seq(0), missed: 0 });
    device.hear(&Message::event(Event::Live(Live {})));
    assert_eq!(commands(&device.wish(typing)).len(), 1, "what was not said does not count");
}

#[test]
fn a_room_is_asked_for_once_and_left_once_and_too_many_push_out_the_one_opened_longest_ago() {
    let open = |number: u8| {
        let room = RoomId::from_bytes([number; 16]);
        Command::Open { room, cursor: None, replay: false }
    };
    let mut device = Device::live(&Room::default());
    assert!(device.wish(Command::Open { room: room(), cursor: None, replay: false }).is_empty());
    let rest = 100..100 + OPEN_ROOMS as u8 - 1;
    for number in rest.clone() {
        assert_eq!(device.wish(open(number)).len(), 1, "there is room for it");
    }
    // The first two are wanted again, so the third is the one that nobody has asked for longest.
    assert!(device.wish(Command::Open { room: room(), cursor: None, replay: false }).is_empty());
    assert!(device.wish(open(rest.start)).is_empty());
    let pushed = commands(&device.wish(open(99)));
    let third = RoomId::from_bytes([rest.start + 1; 16]);
    assert!(matches!(&pushed[..], [WireCommand::Shut(shut), WireCommand::Open(_)] if shut.room == third), "{pushed:?}");

    let shut = commands(&device.wish(Command::Shut { room: room() }));
    assert!(matches!(&shut[..], [WireCommand::Shut(shut)] if shut.room == room()), "{shut:?}");
    assert!(device.wish(Command::Shut { room: room() }).is_empty());
    assert_eq!(device.wish(Command::Open { room: room(), cursor: None, replay: false }).len(), 1);
}

fn too_fast() -> WireError {
    WireError::new(ErrorCode::RateLimited, "Too fast.").retry_after(300)
}

fn another() -> RoomId {
    RoomId::from_bytes([8; 16])
}

fn open_another() -> Command {
    Command::Open { room: another(), cursor: None, replay: false }
}

/// Takes what was told of opened rooms.
fn opened(device: &mut Device) -> Vec<Opened> {
    let opened = |event| match event {
        SessionEvent::Opened(opened) => Some(opened),
        _ => None,
    };
    device.take_told().into_iter().filter_map(opened).collect()
}

#[test]
fn a_room_refused_for_now_is_asked_for_again_from_where_it_stands_and_is_not_called_live() {
    let mut model = Room::default();
    let mut device = Device::live(&model);
    (1..=2).for_each(|key| _ = model.post(user(2), client_id(key), "meanwhile"));
    let mut asked = device.hear(&Message::event(Event::Room(model.event(Seq(2)).clone())));
    device.take_told();
    // The first of them is what a read of the server's storage that failed is answered with.
    for error in [WireError::new(ErrorCode::Internal, "It failed.").retry_after(700), too_fast()] {
        let wait = error.retry_after_ms.unwrap();
        assert_eq!(device.refuse(asked[0].id, error), []);
        assert_eq!(device.session.state(), ConnectionState::CatchingUp { to_go: 0 });
        assert_eq!(device.session.next_deadline(), Some((Timestamp(device.now + wait), Deadline::Room)));
        asked = device.wait();
        let [WireCommand::Open(open)] = &commands(&asked)[..] else { panic!("{asked:?}") };
        assert_eq!((open.room, open.cursor), (room(), Some(model.position(Seq(0)))));
    }
    assert_eq!(opened(&mut device), [], "it is followed all the time");
    let outcome = OpenOutcome::Recovered { head: Seq(2), missed: 2 };
    let answer = Opened { room: room(), outcome, roster: Vec::new(), members: 0 };
    device.hear(&Message::reply(asked[0].id, Reply::Opened(answer)));
    (1..=2).for_each(|seq| drop(device.hear(&Message::event(Event::Room(model.event(Seq(seq)).clone())))));
    assert_eq!(device.session.state(), ConnectionState::Live);
    assert_eq!((device.session.position(room()), device.session.awaited()), (Some(model.position(Seq(2))), 0));
}

#[test]
fn many_rooms_refused_for_now_are_asked_for_one_by_one_the_newest_first_and_for_good_is_for_good() {
    let mut device = Device::live(&Room::default());
    let rooms: Vec<RoomId> = (100..110).map(|number| RoomId::from_bytes([number; 16])).collect();
    let open = |room: &RoomId| Command::Open { room: *room, cursor: None, replay: false };
    let asked: Vec<Message> = rooms.iter().flat_map(|room| device.wish(open(room))).collect();
    device.take_told();
    for message in &asked {
        device.refuse(message.id, too_fast());
    }
    assert_eq!(device.session.state(), ConnectionState::Live, "nothing that is shown is stale");
    let began = device.now;
    let mut again = Vec::new();
    for _ in &rooms {
        let said = device.wait();
        let [WireCommand::Open(open)] = &commands(&said)[..] else { panic!("{said:?}") };
        again.push(open.room);
        device.refuse(said[0].id, WireError::new(ErrorCode::NotMember, "Join it first."));
    }
    assert!(again.iter().rev().eq(&rooms), "{again:?}");
    assert_eq!(device.now - began, 300 + 100 * (rooms.len() as u64 - 1));
    let told = opened(&mut device);
    assert!(told.iter().all(|opened| matches!(opened.outcome, OpenOutcome::Refused { .. })), "{told:?}");
    assert_eq!(told.len(), rooms.len());
    assert_ne!(device.session.next_deadline().unwrap().1, Deadline::Room);
}

#[test]
fn a_room_whose_leaving_was_refused_is_left_again_and_what_it_kept_from_being_opened_is_opened_then() {
    let mut device = Device::live(&Room::default());
    let left = device.wish(Command::Shut { room: room() });
    device.refuse(left[0].id, too_fast());
    let asked = device.wish(open_another());
    assert_eq!(commands(&asked).len(), 1, "what is wished now waits for nothing");
    device.take_told();
    device.refuse(asked[0].id, WireError::new(ErrorCode::LimitReached, "One that was left counts."));
    let left = device.wait();
    assert!(matches!(&commands(&left)[..], [WireCommand::Shut(shut)] if shut.room == room()), "{left:?}");
    device.hear(&Message::reply(left[0].id, Reply::Done(Empty {})));
    let asked = commands(&device.wait());
    assert!(matches!(&asked[..], [WireCommand::Open(open)] if open.room == another()), "{asked:?}");
    assert_eq!(device.take_told(), []);
    assert_eq!(device.session.awaited(), 1);
}

#[test]
fn what_is_wished_of_rooms_while_a_hello_is_on_its_way_is_said_after_the_welcome() {
    let mut device = Device::live(&Room::default());
    device.lose(close::ABNORMAL);
    while !matches!(device.session.state(), ConnectionState::Trying { .. }) {
        device.wait();
    }
    let hello = device.input(Input::Opened { attempt: device.attempt });
    assert_eq!(device.wish(Command::Shut { room: room() }), []);
    assert_eq!(device.wish(open_another()), []);
    let left = commands(&device.hear(&Message::reply(hello[0].id, Reply::Welcome(Box::new(welcome())))));
    assert!(matches!(&left[..], [WireCommand::Shut(shut)] if shut.room == room()), "{left:?}");
    let asked = commands(&device.wait());
    assert!(matches!(&asked[..], [WireCommand::Open(open)] if open.room == another()), "{asked:?}");
}

#[test]
fn an_answer_to_an_older_word_of_a_room_does_not_say_how_it_stands() {
    let mut device = Device::live(&Room::default());
    let first = device.wish(open_another());
    device.wish(Command::Shut { room: another() });
    let second = device.wish(open_another());
    device.take_told();
    // Refused at once, past the two that wait for their turn: the server ends with the room left.
    device.refuse(second[0].id, too_fast());
    let outcome = OpenOutcome::Fresh { snapshot: Room::default().snapshot(10) };
    let answer = Opened { room: another(), outcome, roster: Vec::new(), members: 0 };
    device.hear(&Message::reply(first[0].id, Reply::Opened(answer)));
    assert_eq!(opened(&mut device), []);
    let asked = commands(&device.wait());
    assert!(matches!(&asked[..], [WireCommand::Open(open)] if open.room == another()), "{asked:?}");
}

#[test]
fn only_an_item_that_was_refused_for_good_can_be_discarded() {
    let mut device = Device::live(&Room::default());
    let sent = device.write(1);
    let discard = Command::DiscardSend { client_id: client_id(1) };
    device.wish(discard.clone());
    device.wish(Command::DiscardSend { client_id: client_id(2) });
    assert_eq!(device.session.outbox().count(), 1, "it may be stored already");
    device.refuse(sent.id, WireError::new(ErrorCode::Forbidden, "Not here."));
    device.take_told();
    device.wish(discard);
    assert_eq!(device.session.outbox().count(), 0);
    assert_eq!(device.take_told(), [SessionEvent::Discarded(client_id(1))]);
}

#[test]
fn my_own_stream_goes_on_where_it_was_or_where_the_server_says() {
    let stand = |seq| Position { epoch: epoch(), seq: Seq(seq), check: Check([seq as u8; 8]) };
    let named = |seq| {
        let change = UserChange::Named(Named { name: format!("name {seq}") });
        let (check, ts) = (Check([seq as u8; 8]), Timestamp(seq));
        Message::event(Event::User(UserEvent { seq: Seq(seq), check, ts, change }))
    };
    let told = |device: &mut Device| {
        let seq = |event| match event {
            SessionEvent::User(event) => Some(event.seq.0),
            _ => None,
        };
        device.take_told().into_iter().filter_map(seq).collect::<Vec<_>>()
    };
    let stands = |hello: &Message| match &hello.body {
        Body::Command(WireCommand::Hello(hello)) => (hello.user, hello.since),
        other => panic!("no hello: {other:?}"),
    };
    let mut first = welcome();
    (first.user, first.server.lsn) = (stand(5), Lsn(50));
    let mut device = Device::at_rest(1, true);
    device.wish(Command::Start);
    let (hello, _) = device.greet(&first);
    assert_eq!(stands(&hello), (None, None));
    device.hear(&named(5));
    device.hear(&named(6));
    assert_eq!(told(&mut device), [6]);

    let mut second = welcome();
    (second.user, second.server.lsn) = (stand(8), Lsn(80));
    let (hello, _) = return_to(&mut device, &second);
    assert_eq!(stands(&hello), (Some(stand(6)), Some(Lsn(50))));
    assert_eq!(device.session.state(), ConnectionState::CatchingUp { to_go: 2 });
    for seq in [6, 7, 8] {
        device.hear(&named(seq));
    }
    device.hear(&Message::event(Event::Live(Live {})));
    let all = device.take_told();
    let seqs = all.iter().filter_map(|event| match event {
        SessionEvent::User(event) => Some(event.seq.0),
        _ => None,
    });
    assert_eq!(seqs.collect::<Vec<_>>(), [7, 8]);
    let noted = notes(all);
    assert!(noted.contains("Deduplicated { events: 2 }"), "{noted}");

    let mut third = welcome();
    (third.user, third.user_recovered) = (stand(3), false);
    return_to(&mut device, &third);
    device.hear(&named(4));
    assert_eq!(told(&mut device), [4], "another history: it starts over");
}

#[test]
fn coming_back_tells_how_much_was_received_and_sent_and_what_came_twice() {
    let mut model = Room::default();
    let mut device = Device::live(&model);
    device.lose(close::ABNORMAL);
    device.queue(1);
    device.queue(2);
    while !matches!(device.session.state(), ConnectionState::Trying { .. }) {
        device.wait();
    }
    let (_, sent) = device.greet(&welcome());
    assert_eq!(sent.len(), 2);
    model.post(user(2), client_id(9), "meanwhile");
    model.post(user(1), client_id(1), "post 1");
    model.post(user(1), client_id(2), "post 2");
    device.open_room(OpenOutcome::Recovered { head: Seq(3), missed: 3 });
    for seq in [1, 2, 2, 3, 3, 3] {
        device.hear(&Message::event(Event::Room(model.event(Seq(seq)).clone())));
    }
    device.hear(&Message::event(Event::Live(Live {})));
    let told = device.take_told();
    assert!(told.contains(&SessionEvent::Recovered { received: 1, sent: 2 }), "{told:#?}");
    let noted = notes(told);
    assert!(noted.contains("Resumed { missed: 3 }") && noted.contains("Deduplicated { events: 3 }"), "{noted}");

    return_to(&mut device, &welcome());
    device.open_room(OpenOutcome::Recovered { head: Seq(3), missed: 0 });
    device.hear(&Message::event(Event::Live(Live {})));
    let told = device.take_told();
    assert!(told.contains(&SessionEvent::Recovered { received: 0, sent: 0 }), "{told:#?}");
    let noted = notes(told);
    assert!(noted.contains("Live") && !noted.contains("Resumed") && !noted.contains("Deduplicated"), "{noted}");
}

#[test]
fn what_was_sent_before_a_second_loss_is_counted_when_they_are_live_again() {
    let mut model = Room::default();
    let mut device = Device::live(&model);
    device.lose(close::ABNORMAL);
    device.queue(1);
    return_to(&mut device, &welcome());
    model.post(user(1), client_id(1), "post 1");
    device.open_room(OpenOutcome::Recovered { head: Seq(1), missed: 1 });
    device.hear(&Message::event(Event::Room(model.event(Seq(1)).clone())));
    // Lost once more before the server said that they are live.
    return_to(&mut device, &welcome());
    device.open_room(OpenOutcome::Recovered { head: Seq(1), missed: 0 });
    device.take_told();
    device.hear(&Message::event(Event::Live(Live {})));
    let told = device.take_told();
    assert!(told.contains(&SessionEvent::Recovered { received: 0, sent: 1 }), "{told:#?}");
}

#[test]
fn an_answer_to_opening_a_room_counts_like_any_other() {
    let mut device = Device::live(&Room::default());
    let other = RoomId::from_bytes([8; 16]);
    let asked = device.wish(Command::Open { room: other, cursor: None, replay: false });
    let snapshot = Room::default().snapshot(10);
    let opened = Opened { room: other, outcome: OpenOutcome::Fresh { snapshot }, roster: Vec::new(), members: 0 };
    device.take_told();
    device.hear(&Message::reply(asked[0].id, Reply::Opened(opened.clone())));
    assert_eq!(device.take_told(), [SessionEvent::Opened(opened)]);
    assert_eq!(device.session.awaited(), 0);
}

/// What was noted for whoever looks for a fault, as words.
fn notes(told: Vec<SessionEvent>) -> String {
    let note = |event| match event {
        SessionEvent::Diagnostic(line) => Some(format!("{:?}", line.what)),
        _ => None,
    };
    told.into_iter().filter_map(note).collect::<Vec<_>>().join("; ")
}
