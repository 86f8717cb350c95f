//! What comes in streams: gaps, repetitions, rooms that start over.
//!
//! Must not live here: what is sent. Invariant: an event is given once, in order, or its absence is told.

use super::*;

#[test]
fn scenario_16_a_lost_hint_shows_as_a_gap_and_is_repaired_without_a_reconnect() {
    let mut world = World::live(1);
    world.other_posts();
    let attempt = world.open.unwrap();
    // Two are committed; only the second is told.
    world.stored.push((key(254), "theirs".to_owned()));
    world.stored.push((key(254), "theirs".to_owned()));
    world.head = 3;
    world.say(attempt, Message::event(Event::Room(world.event(3))));
    world.drain();
    assert_eq!(world.shown_seqs(), [1, 2, 3]);
    assert_eq!(world.attempts.len(), 1);
    assert_eq!(world.session.state(), ConnectionState::Live);
}

#[test]
fn a_gap_is_not_called_live_until_it_is_filled() {
    let mut world = World::live(1);
    let attempt = world.open.unwrap();
    world.stored = vec![(key(254), String::new()); 2];
    world.head = 2;
    world.link = Link::UpLost;
    world.say(attempt, Message::event(Event::Room(world.event(2))));
    world.drain();
    assert!(matches!(world.session.state(), ConnectionState::CatchingUp { .. }));
}

#[test]
fn an_event_that_comes_twice_is_shown_once() {
    let mut world = World::live(1);
    world.other_posts();
    let attempt = world.open.unwrap();
    for _ in 0..3 {
        world.say(attempt, Message::event(Event::Room(world.event(1))));
    }
    world.drain();
    assert_eq!(world.shown_seqs(), [1]);
}

#[test]
fn scenario_18_a_lurker_that_never_received_anything_resumes_without_loss() {
    let mut world = World::live(1);
    world.run(3_600_000, |_| false);
    assert_eq!(world.attempts.len(), 1);
    world.close(close::ABNORMAL);
    world.other_posts();
    world.run(5_000, |world| world.session.state() == ConnectionState::Live);
    assert_eq!(world.shown_seqs(), [1]);
}

#[test]
fn a_reset_room_starts_over_from_the_snapshot() {
    let mut world = World::live(1);
    for _ in 0..5 {
        world.other_posts();
    }
    let attempt = world.open.unwrap();
    let snapshot = Snapshot { as_of: position(2), total: 2, posts: vec![], people: vec![] };
    let outcome = OpenOutcome::Reset { reason: ResetReason::Ahead, snapshot };
    let opened = Opened { room: ROOM, outcome, roster: vec![], members: 0 };
    world.say(attempt, Message::event(Event::Opened(opened)));
    world.say(attempt, Message::event(Event::Room(RoomEvent { seq: Seq(3), ..world.event(3) })));
    world.drain();
    assert_eq!(world.shown_seqs(), [1, 2, 3, 4, 5, 3]);
    assert_eq!(world.session.position(ROOM), Some(position(3)));
}

#[test]
fn a_message_that_cannot_be_read_is_noted_and_nothing_else() {
    let mut world = World::live(1);
    let attempt = world.open.unwrap();
    for text in ["", "{", "[]", "{\"event\":\"room\",\"payload\":7}", "{\"event\":\"from_the_future\",\"payload\":{}}"]
    {
        world.input(Input::Received { attempt, text: text.to_owned() });
    }
    assert_eq!(world.session.state(), ConnectionState::Live);
}

#[test]
fn a_log_that_ends_before_what_it_acknowledged_is_reset_although_it_holds_the_cursor() {
    let mut world = World::live(1);
    world.acks = false;
    world.post(1);
    let attempt = world.open.expect("a socket is open");
    let id = world.sent.iter().find_map(|(_, message)| match &message.body {
        Body::Command(WireCommand::Post(_)) => message.id,
        _ => None,
    });
    let ack = Ack { client_id: key(1), room: ROOM, seq: Seq(1), ts: world.now, duplicate: false };
    world.input(Input::Received { attempt, text: Message::reply(id, Reply::Ack(ack)).to_json() });
    // The event does not get through, and what comes back is a backup without the post.
    world.close(close::ABNORMAL);
    world.run(5_000, |world| world.session.state() == ConnectionState::Live);
    assert_eq!(world.session.state(), ConnectionState::Live);
    let outcomes: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            SessionEvent::Opened(opened) => Some(&opened.outcome),
            _ => None,
        })
        .collect();
    assert!(
        matches!(outcomes[..], [OpenOutcome::Fresh { .. }, OpenOutcome::Reset { reason: ResetReason::Ahead, .. }]),
        "{outcomes:?}"
    );
    // Said once: the log that is there now goes on from its own end.
    world.other_posts();
    world.close(close::ABNORMAL);
    world.run(5_000, |world| world.session.state() == ConnectionState::Live);
    assert!(matches!(
        world.events.iter().rev().find_map(|(_, event)| match event {
            SessionEvent::Opened(opened) => Some(&opened.outcome),
            _ => None,
        }),
        Some(OpenOutcome::Recovered { .. })
    ));
}
