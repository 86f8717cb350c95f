//! The order of sends, seen from the wire: numbers, refusals, and items that leave in between.

mod common;

use common::device::Device;
use common::{Room, client_id, room, user};
use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, RoomId, Seq};
use shared::message::{Body, Command as WireCommand, Event, Message};
use shared::model::{OpenOutcome, Opened};
use shared::session::{Command, ConnectionState, Deadline, Input, SessionEvent};

fn numbers(messages: &[Message]) -> Vec<(u64, ClientId)> {
    let post = |message: &Message| match &message.body {
        Body::Command(WireCommand::Post(post)) => Some((post.n.unwrap(), post.client_id)),
        _ => None,
    };
    messages.iter().filter_map(post).collect()
}

fn too_fast() -> WireError {
    WireError::new(ErrorCode::RateLimited, "Too fast.").retry_after(300)
}

fn behind() -> WireError {
    WireError::new(ErrorCode::Behind, "Wait for the one before.")
}

#[test]
fn a_number_whose_post_turned_out_to_be_stored_is_taken_over_by_the_next() {
    let mut model = Room::default();
    let mut device = Device::live(&model);
    let (first, second, third) = (device.write(1), device.write(2), device.write(3));
    device.refuse(first.id, too_fast());
    device.refuse(second.id, behind());
    // The first had been stored on an earlier connection: its own event says so.
    model.post(user(1), client_id(1), "post 1");
    device.hear(&Message::event(Event::Room(model.event(Seq(1)).clone())));
    device.refuse(third.id, behind());
    let again = device.wait();
    assert_eq!(numbers(&again), [(1, client_id(2))], "the server waits for number 1");
    assert_eq!(numbers(&device.acknowledge(&again[0], Seq(2))), [(3, client_id(3))]);
}

#[test]
fn the_same_holds_when_its_event_comes_before_the_refusal() {
    let mut model = Room::default();
    let mut device = Device::live(&model);
    let (first, second) = (device.write(1), device.write(2));
    model.post(user(1), client_id(1), "post 1");
    device.hear(&Message::event(Event::Room(model.event(Seq(1)).clone())));
    device.refuse(first.id, too_fast());
    device.refuse(second.id, behind());
    assert_eq!(numbers(&device.wait()), [(1, client_id(2))]);
}

#[test]
fn a_number_is_taken_over_only_by_what_comes_after_it() {
    let mut model = Room::default();
    let mut device = Device::live(&model);
    let (first, second, third) = (device.write(1), device.write(2), device.write(3));
    device.refuse(first.id, too_fast());
    device.refuse(second.id, behind());
    device.refuse(third.id, behind());
    model.post(user(1), client_id(2), "post 2");
    device.hear(&Message::event(Event::Room(model.event(Seq(1)).clone())));
    let again = device.wait();
    assert_eq!(numbers(&again)[0], (1, client_id(1)), "the server waits for number 1");
}

#[test]
fn a_number_that_was_only_behind_is_not_what_the_server_waits_for() {
    let mut model = Room::default();
    let mut device = Device::live(&model);
    let (first, second, third, fourth) = (device.write(1), device.write(2), device.write(3), device.write(4));
    device.refuse(first.id, too_fast());
    for behind_it in [second.id, third.id, fourth.id] {
        device.refuse(behind_it, behind());
    }
    // The second had been stored on an earlier connection: its own event says so.
    model.post(user(1), client_id(2), "post 2");
    device.hear(&Message::event(Event::Room(model.event(Seq(1)).clone())));
    let again = device.wait();
    assert_eq!(numbers(&again), [(1, client_id(1))], "nothing else before it is answered");
    let rest = device.acknowledge(&again[0], Seq(2));
    device.refuse(rest[0].id, too_fast());
    assert_eq!(numbers(&device.wait()), [], "nor before the one behind it is");
    let at_last = device.refuse(rest[1].id, behind());
    assert_eq!(numbers(&at_last), [(3, client_id(3))], "the server waits for number 3");
}

#[test]
fn what_was_refused_while_another_is_on_its_way_does_not_wake_anybody_for_nothing() {
    let mut device = Device::live(&Room::default());
    let (first, second) = (device.write(1), device.write(2));
    device.refuse(first.id, too_fast());
    // The window is full, so nothing can be sent when the wait is over.
    assert_ne!(device.session.next_deadline().unwrap().1, Deadline::Resend);
    assert_eq!(numbers(&device.wait()), []);
    let again = device.refuse(second.id, behind());
    assert_eq!(numbers(&again), [(1, client_id(1))]);
}

#[test]
fn a_post_set_aside_after_passing_refusals_leaves_its_number_to_the_next() {
    let mut device = Device::live(&Room::default());
    let (mut first, second) = (device.write(1), device.write(2));
    for time in 1..shared::session::POISON_TRIES {
        device.refuse(first.id, WireError::new(ErrorCode::Internal, "A bug."));
        if time == 1 {
            device.refuse(second.id, behind());
        }
        let again = device.wait();
        assert_eq!(numbers(&again), [(1, client_id(1))], "one at a time while the server refuses");
        first = again[0].clone();
    }
    let next = device.refuse(first.id, WireError::new(ErrorCode::Internal, "A bug."));
    assert_eq!(numbers(&next), [(1, client_id(2))]);
}

#[test]
fn what_was_refused_for_now_is_not_on_its_way_once_the_link_is_lost() {
    let mut device = Device::live(&Room::default());
    let (first, second, third) = (device.write(1), device.write(2), device.write(3));
    device.refuse(first.id, too_fast());
    device.refuse(second.id, behind());
    device.refuse(third.id, WireError::new(ErrorCode::Forbidden, "Not here."));
    assert_eq!(numbers(&device.queue(4)), []);
    device.take_told();
    device.lose(shared::close::ABNORMAL);
    let interrupted = |event| match event {
        SessionEvent::Interrupted(client_id) => Some(client_id),
        _ => None,
    };
    let told: Vec<ClientId> = device.take_told().into_iter().filter_map(interrupted).collect();
    assert_eq!(told, [client_id(1), client_id(2)], "not what is refused for good, nor what was never written");
}

#[test]
fn behind_nothing_at_all_is_waited_out_and_not_stormed() {
    let mut device = Device::live(&Room::default());
    let mut only = device.write(1);
    let started = device.now;
    for _ in 0..3 {
        let at_once = device.refuse(only.id, behind());
        assert_eq!(numbers(&at_once), [], "it is sent again at once, for ever");
        only = device.wait()[0].clone();
    }
    assert_eq!(device.now - started, 7_000, "the waits double");
}

#[test]
fn heads_at_the_end_of_counting_in_two_rooms_are_only_far_away() {
    let mut device = Device::live(&Room::default());
    let other = RoomId::from_bytes([8; 16]);
    device.input(Input::Command(Command::Open { room: other, cursor: None, replay: false }));
    let snapshot = Room::default().snapshot(10);
    let far = OpenOutcome::Recovered { head: Seq(u64::MAX), missed: u64::MAX };
    for (room, outcome) in [(other, OpenOutcome::Fresh { snapshot }), (room(), far.clone()), (other, far)] {
        device.hear(&Message::event(Event::Opened(Opened { room, outcome, roster: Vec::new(), members: 0 })));
    }
    assert_eq!(device.session.state(), ConnectionState::CatchingUp { to_go: u64::MAX });
}
