//! What a client is told when it comes back: how much it missed, and whether what it was told before still holds.

mod common;

use common::device::{Device, welcome};
use common::{Room, client_id, room, user};
use shared::close;
use shared::ids::Seq;
use shared::message::{Ack, Body, Command as WireCommand, Event, Live, Message, Reply};
use shared::model::{OpenOutcome, PostRef};
use shared::session::{Command, SendOp, SessionEvent};
use shared::time::Timestamp;

#[test]
fn what_is_sent_and_is_no_post_takes_nothing_from_what_was_received() {
    let mut model = Room::default();
    model.post(user(2), client_id(90), "before");
    let mut device = Device::live(&model);
    device.lose(close::ABNORMAL);
    for number in [1, 2] {
        let post = PostRef { seq: Seq(1), client_id: None };
        let op = SendOp::React { post, emoji: "👍".to_owned(), on: number == 1 };
        device.wish(Command::Send { client_id: client_id(number), room: room(), op, at: Timestamp(0) });
    }
    let (_, sent) = device.come_back(&welcome());
    assert_eq!(sent.len(), 2);
    for number in [91, 92, 93] {
        model.post(user(2), client_id(number), "meanwhile");
    }
    device.open_room(OpenOutcome::Recovered { head: Seq(4), missed: 3 });
    for (number, message) in [1, 2].into_iter().zip(&sent) {
        let ack = Ack { client_id: client_id(number), room: room(), seq: Seq(1), ts: Timestamp(1), duplicate: false };
        device.hear(&Message::reply(message.id, Reply::Ack(ack)));
    }
    for seq in 2..=4 {
        device.hear(&Message::event(Event::Room(model.event(Seq(seq)).clone())));
    }
    device.hear(&Message::event(Event::Live(Live {})));
    let told = device.take_told();
    assert!(told.contains(&SessionEvent::Recovered { received: 3, sent: 2 }), "{told:#?}");
}

#[test]
fn ones_own_posts_in_a_jump_are_not_counted_as_received() {
    let mut model = Room::default();
    let mut device = Device::live(&model);
    device.lose(close::ABNORMAL);
    device.come_back(&welcome());
    for number in 1..=5 {
        model.post(user(if number > 3 { 1 } else { 2 }), client_id(number), "meanwhile");
    }
    device.open_room(OpenOutcome::Jumped { snapshot: model.snapshot(10), hole: 0 });
    device.hear(&Message::event(Event::Live(Live {})));
    let told = device.take_told();
    assert!(told.contains(&SessionEvent::Recovered { received: 3, sent: 0 }), "{told:#?}");
}

#[test]
fn a_program_that_begins_where_it_was_is_not_told_of_the_whole_room_as_received() {
    let mut model = Room::default();
    for number in 1..=5 {
        model.post(user(2), client_id(number), "before");
    }
    let cursor = Some(model.position(Seq(5)));
    let mut device = Device::at_rest(1, true);
    device.wish(Command::Open { room: room(), cursor, replay: true });
    device.wish(Command::Start);
    device.greet(&welcome());
    device.open_room(OpenOutcome::Recovered { head: Seq(5), missed: 0 });
    device.hear(&Message::event(Event::Live(Live {})));
    device.lose(close::ABNORMAL);
    device.come_back(&welcome());
    model.post(user(2), client_id(6), "meanwhile");
    device.open_room(OpenOutcome::Recovered { head: Seq(6), missed: 1 });
    device.hear(&Message::event(Event::Room(model.event(Seq(6)).clone())));
    device.hear(&Message::event(Event::Live(Live {})));
    let told = device.take_told();
    assert!(told.contains(&SessionEvent::Recovered { received: 1, sent: 0 }), "{told:#?}");
}

#[test]
fn what_was_acknowledged_and_whose_event_never_came_is_remembered_over_more_than_one_loss() {
    let mut device = Device::live(&Room::default());
    let post = device.write(1);
    device.acknowledge(&post, Seq(1));
    device.lose(close::ABNORMAL);
    device.come_back(&welcome());
    device.open_room(OpenOutcome::Recovered { head: Seq(1), missed: 1 });
    // Lost again before the event came; and then a backup takes the place of what was there.
    device.lose(close::ABNORMAL);
    device.come_back(&welcome());
    let outcome = OpenOutcome::Recovered { head: Seq(0), missed: 0 };
    let opened = shared::model::Opened { room: room(), outcome, roster: Vec::new(), members: 0 };
    let asked = device.hear(&Message::event(Event::Opened(opened)));
    let asks_anew =
        |message: &Message| matches!(&message.body, Body::Command(WireCommand::Open(ask)) if ask.cursor.is_none());
    assert!(asked.iter().any(asks_anew), "the post is still shown as sent: {asked:?}");
}
