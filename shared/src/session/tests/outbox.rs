//! What is sent: kept, in order, once, and parked where it is refused for good.
//!
//! Must not live here: the link under it. Invariant: an item leaves the device when its outcome is known, not before.

use super::*;

fn puts(outputs: &[Output]) -> Vec<(u64, ClientId)> {
    let put = |output: &Output| match output {
        Output::Persist { serial, change: Persist::Put(item) } => Some((*serial, item.client_id)),
        Output::Persist { change: Persist::Remove(_), .. }
        | Output::Open { .. }
        | Output::Send { .. }
        | Output::Close { .. }
        | Output::Event(_) => None,
    };
    outputs.iter().filter_map(put).collect()
}

#[test]
fn scenario_04_a_resend_after_a_day_settles_with_the_first_ack() {
    let mut world = World::live(1);
    world.stored.push((key(5), "post 5".to_owned()));
    world.head = 1;
    let yesterday = Timestamp(world.now.0 - 86_400);
    let item = OutboxItem {
        client_id: key(5),
        room: ROOM,
        op: SendOp::Post { body: "post 5".to_owned() },
        queued_at: yesterday,
        order: 3,
        attempted: true,
        refused: None,
    };
    world.input(Input::Restored { items: vec![item] });
    let acks: Vec<_> = world.events.iter().filter(|(_, event)| matches!(event, SessionEvent::Acked(_))).collect();
    assert!(matches!(&acks[..], [(_, SessionEvent::Acked(ack))] if ack.duplicate && ack.seq == Seq(1)), "{acks:?}");
    assert_eq!(world.session.outbox().count(), 0);
}

#[test]
fn scenario_05_restored_posts_are_sent_in_order_without_a_click() {
    let mut world = World::new(1);
    let items: Vec<_> = (0..20)
        .rev()
        .map(|n| OutboxItem {
            client_id: key(n),
            room: ROOM,
            op: SendOp::Post { body: format!("post {n}") },
            queued_at: Timestamp(50 + u64::from(n) / 7),
            order: u64::from(n),
            attempted: n < 3,
            refused: None,
        })
        .collect();
    world.input(Input::Restored { items });
    world.input(Input::Command(Command::Open { room: ROOM, cursor: None, replay: false }));
    world.input(Input::Command(Command::Start));
    assert_eq!(world.acked(), (0..20).map(key).collect::<Vec<_>>());
    assert_eq!(world.stored.iter().map(|(key, _)| *key).collect::<Vec<_>>(), (0..20).map(key).collect::<Vec<_>>());
    assert_eq!(world.session.outbox().count(), 0);
}

#[test]
fn restored_posts_keep_their_order_although_the_clock_ran_backwards_between_them() {
    let mut world = World::new(1);
    let item = |n: u8| OutboxItem {
        client_id: key(n),
        room: ROOM,
        op: SendOp::Post { body: format!("post {n}") },
        queued_at: Timestamp(7_200_000 - 1_000 * u64::from(n)),
        order: u64::from(n),
        attempted: false,
        refused: None,
    };
    world.input(Input::Restored { items: (1..=5).map(item).collect() });
    world.input(Input::Command(Command::Open { room: ROOM, cursor: None, replay: false }));
    world.input(Input::Command(Command::Start));
    assert_eq!(world.acked(), (1..=5).map(key).collect::<Vec<_>>());
}

#[test]
fn scenario_22_a_flood_is_slowed_by_soft_refusals_and_keeps_its_order() {
    let mut world = World::live(1);
    world.acks = false;
    for n in 1..=5 {
        world.post(n);
    }
    let ids: Vec<_> = world
        .sent
        .iter()
        .filter(|(_, message)| matches!(message.body, Body::Command(WireCommand::Post(_))))
        .map(|(_, message)| message.id)
        .collect();
    assert_eq!(ids.len(), 5);
    let attempt = world.open.unwrap();
    world.sent.clear();
    let limited = WireError::new(ErrorCode::RateLimited, "too fast").retry_after(2_000);
    world.say(attempt, Message::refusal(ids[0], limited));
    for id in &ids[1..] {
        world.say(attempt, Message::refusal(*id, WireError::new(ErrorCode::Behind, "behind")));
    }
    world.acks = true;
    world.drain();
    assert!(world.acked().is_empty(), "nothing is sent before the wait is over");
    let waited = world.run(10_000, |world| !world.acked().is_empty());
    assert_eq!(waited, 2_000);
    assert_eq!(world.acked(), (1..=5).map(key).collect::<Vec<_>>());
    let numbers: Vec<_> = world
        .sent
        .iter()
        .filter_map(|(_, message)| match &message.body {
            Body::Command(WireCommand::Post(post)) => post.n,
            _ => None,
        })
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5], "the same numbers come again");
    assert_eq!(world.attempts.len(), 1);
}

#[test]
fn scenario_25_one_poison_post_is_parked_and_the_rest_goes_on() {
    let mut world = World::live(1);
    world.acks = false;
    for n in 1..=3 {
        world.post(n);
    }
    let attempt = world.open.unwrap();
    let poison = world.sent.iter().find_map(|(_, message)| match &message.body {
        Body::Command(WireCommand::Post(post)) if post.client_id == key(1) => message.id,
        _ => None,
    });
    world.say(attempt, Message::refusal(poison, WireError::new(ErrorCode::PostTooLong, "no")));
    world.drain();
    assert_eq!(world.refused(), [key(1)]);
    world.acks = true;
    world.close(close::ABNORMAL);
    world.run(5_000, |world| world.acked().len() == 2);
    assert_eq!(world.acked(), [key(2), key(3)]);
    let left: Vec<_> = world.session.outbox().map(|item| (item.client_id, item.refused.is_some())).collect();
    assert_eq!(left, [(key(1), true)], "parked, not lost");
    world.input(Input::Command(Command::RetrySend { client_id: key(1), at: Timestamp(1) }));
    assert_eq!(world.acked(), [key(2), key(3), key(1)]);
}

#[test]
fn scenario_25_a_post_that_breaks_every_connection_is_parked_after_three_tries() {
    let mut world = World::live(1);
    world.acks = false;
    world.post(1);
    world.post(2);
    for _ in 0..POISON_TRIES {
        world.run(120_000, |world| world.open.is_some());
        world.close(close::TOO_LARGE);
    }
    assert_eq!(world.refused(), [key(1)]);
    world.acks = true;
    world.run(120_000, |world| !world.acked().is_empty());
    assert_eq!(world.acked(), [key(2)]);
}

#[test]
fn a_post_too_large_for_any_message_never_costs_the_connection() {
    let mut world = World::live(1);
    let op = SendOp::Post { body: "\u{1}".repeat(20_000) };
    world.input(Input::Command(Command::Send { client_id: key(1), room: ROOM, op, at: world.now }));
    world.post(2);
    assert_eq!(world.refused(), [key(1)]);
    assert_eq!(world.acked(), [key(2)]);
}

#[test]
fn a_send_is_stored_while_it_is_sent_and_saved_is_told_only_after_the_transaction() {
    let mut world = World::live(1);
    world.acks = false;
    let outputs = world.session.handle(
        Input::Command(Command::Send {
            client_id: key(1),
            room: ROOM,
            op: SendOp::Post { body: "hi".to_owned() },
            at: world.now,
        }),
        world.now,
    );
    let put = outputs.iter().find_map(|output| match output {
        Output::Persist { serial, change: Persist::Put(item) } => Some((*serial, item.attempted)),
        _ => None,
    });
    let (serial, attempted) = put.expect("it is stored");
    assert!(attempted, "one write says both that it exists and that it may have reached the server");
    assert!(outputs.iter().any(|output| matches!(output, Output::Send { .. })), "it is sent in parallel");
    assert!(!outputs.contains(&Output::Event(SessionEvent::Saved(key(1)))));
    let outputs = world.session.handle(Input::Persisted { serial, ok: true }, world.now);
    assert_eq!(outputs, [Output::Event(SessionEvent::Saved(key(1)))]);
}

#[test]
fn a_device_that_cannot_store_is_told_once_and_sending_goes_on() {
    let mut world = World::live(1);
    world.acks = false;
    let _ = world.session.handle(Input::Persisted { serial: 99, ok: false }, world.now);
    let outputs = world.session.handle(Input::Persisted { serial: 100, ok: false }, world.now);
    assert_eq!(outputs, []);
    world.acks = true;
    world.post(1);
    assert_eq!(world.acked(), [key(1)]);
    assert!(
        world.events.iter().any(|(_, event)| *event == SessionEvent::Storage { ok: true }),
        "and told when it heals"
    );
}

#[test]
fn what_a_full_device_did_not_take_is_written_once_it_takes_something_again() {
    let mut world = World::live(1);
    world.close(close::ABNORMAL);
    let mut queue = |n| {
        let (client_id, op) = (key(n), SendOp::Post { body: "hi".to_owned() });
        let send = Command::Send { client_id, room: ROOM, op, at: world.now };
        let outputs = world.session.handle(Input::Command(send), world.now);
        puts(&outputs)[0].0
    };
    let (first, second) = (queue(1), queue(2));
    assert_eq!(world.session.handle(Input::Persisted { serial: first, ok: false }, world.now).len(), 1, "told");
    let outputs = world.session.handle(Input::Persisted { serial: second, ok: true }, world.now);
    let again = puts(&outputs);
    assert_eq!(again.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [key(1)]);
    let outputs = world.session.handle(Input::Persisted { serial: again[0].0, ok: true }, world.now);
    assert_eq!(outputs, [Output::Event(SessionEvent::Saved(key(1)))]);
}

#[test]
fn what_an_erased_device_had_is_written_anew_in_order_and_told_as_saved_again() {
    let mut world = World::live(1);
    world.close(close::ABNORMAL);
    for n in [2, 1] {
        let (client_id, op) = (key(n), SendOp::Post { body: "hi".to_owned() });
        let send = Command::Send { client_id, room: ROOM, op, at: world.now };
        let (serial, _) = puts(&world.session.handle(Input::Command(send), world.now))[0];
        let outputs = world.session.handle(Input::Persisted { serial, ok: true }, world.now);
        assert_eq!(outputs, [Output::Event(SessionEvent::Saved(client_id))]);
    }
    let again = puts(&world.session.handle(Input::Erased, world.now));
    assert_eq!(again.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [key(2), key(1)]);
    let outputs = world.session.handle(Input::Persisted { serial: again[1].0, ok: true }, world.now);
    assert_eq!(outputs, [Output::Event(SessionEvent::Saved(key(1)))]);
}

#[test]
fn a_post_whose_connection_was_lost_is_told_to_wait_again() {
    let mut world = World::live(1);
    world.acks = false;
    world.post(1);
    world.close(close::ABNORMAL);
    let told: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            SessionEvent::Sending(id) => Some(("sending", *id)),
            SessionEvent::Interrupted(id) => Some(("interrupted", *id)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [("sending", key(1)), ("interrupted", key(1))], "it is not called sending without a socket");
}

#[test]
fn a_full_outbox_says_so_and_takes_nothing_more() {
    let mut world = World::new(1);
    let post = |n: usize| {
        let client_id = ClientId::from_bytes((n as u128).to_be_bytes());
        let op = SendOp::Post { body: "waits".to_owned() };
        Input::Command(Command::Send { client_id, room: ROOM, op, at: Timestamp(1) })
    };
    (0..OUTBOX_ITEMS).for_each(|n| world.input(post(n)));
    assert!(!world.events.iter().any(|(_, event)| matches!(event, SessionEvent::OutboxFull { .. })));
    world.input(post(OUTBOX_ITEMS));
    let client_id = ClientId::from_bytes((OUTBOX_ITEMS as u128).to_be_bytes());
    assert_eq!(world.events.last(), Some(&(world.now, SessionEvent::OutboxFull { client_id })));
    assert_eq!((world.session.outbox().count(), world.persisted.len()), (OUTBOX_ITEMS, OUTBOX_ITEMS));
}

#[test]
fn what_is_queued_after_a_restore_is_ordered_behind_what_was_stored() {
    let mut world = World::new(1);
    world.post(1);
    let mut items: Vec<OutboxItem> = world.session.outbox().cloned().collect();
    items[0].order = 1_000_000_000;
    let mut later = World::new(1);
    later.input(Input::Restored { items });
    later.post(2);
    let orders: Vec<u64> = later.session.outbox().map(|item| item.order).collect();
    assert_eq!(orders, [1_000_000_000, 1_000_000_001], "though the clock says less");
}

#[test]
fn posts_of_two_tabs_are_in_the_order_they_were_written_in_whichever_tab_finds_the_others() {
    let mut tabs = [World::new(1), World::new(1)];
    // The clock goes back within a tab: what the person wrote there later stays later.
    for (n, tab, at) in [(1, 0, 1_000), (2, 0, 1_001), (3, 0, 900), (4, 1, 1_010), (5, 0, 1_020), (6, 1, 1_020)] {
        let op = SendOp::Post { body: format!("post {n}") };
        tabs[tab].input(Input::Command(Command::Send { client_id: key(n), room: ROOM, op, at: Timestamp(at) }));
    }
    let [mut one, mut two] = tabs;
    let found = |world: &World| Input::Restored { items: world.session.outbox().cloned().collect() };
    let (of_one, of_two) = (found(&one), found(&two));
    one.input(of_two);
    two.input(of_one);
    for world in [one, two] {
        let keys: Vec<_> = world.session.outbox().map(|item| item.client_id).collect();
        assert_eq!(keys, (1..=6).map(key).collect::<Vec<_>>());
    }
}

#[test]
fn a_post_that_is_tried_again_or_begun_behind_others_is_at_the_end_of_the_device() {
    let mut world = World::new(1);
    let no = WireError::new(ErrorCode::PostTooLong, "no");
    let item = OutboxItem {
        client_id: key(1),
        room: ROOM,
        op: SendOp::Post { body: "post 1".to_owned() },
        queued_at: Timestamp(5),
        order: 5,
        attempted: true,
        refused: Some(no),
    };
    world.input(Input::Restored { items: vec![item] });
    // Another tab has written until 1,999.
    world.input(Input::Command(Command::RetrySend { client_id: key(1), at: Timestamp(2_000) }));
    assert_eq!(world.session.outbox().map(|item| item.order).collect::<Vec<_>>(), [2_000]);
    // The clock is behind what another process holds.
    world.session.begin_behind(1_000_000_000);
    world.session.begin_behind(7);
    world.post(2);
    let orders: Vec<_> = world.session.outbox().map(|item| (item.client_id, item.order)).collect();
    assert_eq!(orders, [(key(1), 2_000), (key(2), 1_000_000_001)]);
}

#[test]
fn found_posts_keep_the_order_of_each_life_and_none_is_written_anew() {
    let item = |n: u8, order| OutboxItem {
        client_id: key(n),
        room: ROOM,
        op: SendOp::Post { body: format!("post {n}") },
        queued_at: Timestamp(u64::from(n)),
        order,
        attempted: false,
        refused: None,
    };
    let mut two_tabs = World::new(1);
    two_tabs.input(Input::Restored { items: vec![item(2, 2), item(1, 1), item(3, 1), item(4, 2)] });
    two_tabs.post(5);
    let orders: Vec<_> = two_tabs.session.outbox().map(|item| (item.client_id, item.order)).collect();
    assert_eq!(orders, [(key(1), 1), (key(3), 1), (key(2), 2), (key(4), 2), (key(5), two_tabs.now.0)]);
    let written: Vec<_> = two_tabs.persisted.iter().collect();
    assert!(matches!(written[..], [Persist::Put(new)] if new.client_id == key(5)), "{written:?}");
}

#[test]
fn only_an_item_that_was_never_attempted_can_be_taken_back() {
    let mut world = World::live(1);
    world.link = Link::BlackHole;
    world.post(1);
    world.input(Input::Command(Command::CancelSend { client_id: key(1) }));
    assert_eq!(world.session.outbox().count(), 1, "its outcome is unknown");
    world.close(close::ABNORMAL);
    world.post(2);
    world.input(Input::Command(Command::CancelSend { client_id: key(2) }));
    assert_eq!(world.session.outbox().map(|item| item.client_id).collect::<Vec<_>>(), [key(1)]);
    assert!(world.persisted.contains(&Persist::Remove(key(2))));
}

#[test]
fn an_outbox_is_never_sent_as_somebody_else() {
    let mut world = World::new(1);
    world.post(1);
    world.session.config.user = OTHER;
    world.input(Input::Command(Command::Start));
    assert_eq!(world.session.state(), ConnectionState::Stopped(StopReason::SignedOut));
    assert!(world.stored.is_empty());
    assert_eq!(world.session.outbox().count(), 1, "kept for whom it belongs to");
}
