//! Noticing that a link died, and leaving one alone that is only slow.
//!
//! Must not live here: what follows from it (`link`). Invariant: whoever is silent is asked before they are given up.

use super::*;

#[test]
fn scenario_06_a_black_hole_is_noticed_within_15_s_and_within_9_s_while_a_send_waits() {
    for seed in 0..50 {
        let mut idle = World::live(seed);
        idle.run(seed * 211 % 10_000, |_| false);
        idle.link = Link::BlackHole;
        let noticed = idle.run(60_000, is_waiting);
        assert!(noticed <= 15_000, "seed {seed}: noticed after {noticed} ms");

        let mut busy = World::live(seed);
        busy.link = if seed % 2 == 0 { Link::BlackHole } else { Link::UpLost };
        busy.post(1);
        let noticed = busy.run(60_000, is_waiting);
        assert!(noticed <= 9_000, "seed {seed}: noticed after {noticed} ms");
    }
}

#[test]
fn scenario_06_a_busy_room_does_not_hide_that_the_way_up_is_dead() {
    let mut world = World::live(3);
    world.link = Link::UpLost;
    world.post(1);
    let start = world.now;
    while !is_waiting(&world) && world.now.since(start) < 60_000 {
        world.other_posts();
        world.run(200, is_waiting);
    }
    assert!(world.now.since(start) <= 9_000, "noticed after {} ms", world.now.since(start));
}

#[test]
fn scenario_06_a_slow_server_is_called_slow_and_not_left() {
    let mut world = World::live(1);
    world.acks = false;
    world.post(1);
    world.run(120_000, |_| false);
    assert_eq!(world.session.state(), ConnectionState::Slow);
    assert_eq!(world.attempts.len(), 1, "a server that answers heartbeats must not be left");
    world.acks = true;
    let attempt = world.open.unwrap();
    let ack = Ack { client_id: key(1), room: ROOM, seq: Seq(1), ts: world.now, duplicate: false };
    let id = world.sent.iter().find_map(|(_, message)| match &message.body {
        Body::Command(WireCommand::Post(_)) => message.id,
        _ => None,
    });
    world.input(Input::Received { attempt, text: Message::reply(id, Reply::Ack(ack)).to_json() });
    assert_eq!(world.session.state(), ConnectionState::Live);
}

#[test]
fn scenario_08_after_ten_minutes_of_sleep_the_link_is_probed_at_once_and_live_within_3_s() {
    for seed in 0..100 {
        let mut world = World::live(seed);
        // A large server spreads returns; a machine that woke comes back on its own and need not wait for that.
        world.spread_ms = 20_000;
        world.run(60_000, |_| false);
        // Asleep: no timer fires, and the server has given the socket up without a word reaching us.
        world.now = world.now.plus(600_000);
        world.open = None;
        let beats = world.sent.len();
        world.input(Input::Woke);
        assert!(world.sent.len() > beats, "the probe goes out at once");
        let live = world.run(10_000, |world| world.attempts.len() == 2);
        assert!(live <= 3_000, "seed {seed}: live after {live} ms");
        assert_eq!(world.session.state(), ConnectionState::Live);
    }
}

#[test]
fn scenario_09_a_hidden_page_with_throttled_timers_is_not_disconnected_in_30_minutes() {
    let mut world = World::live(1);
    world.input(Input::Visible(false));
    world.timer_grain_ms = 60_000;
    let mut longest_silence = 0;
    let mut last = world.now;
    for _ in 0..30 {
        let sent = world.sent.len();
        world.run(60_000, |_| false);
        if world.sent.len() > sent {
            longest_silence = longest_silence.max(world.now.since(last));
            last = world.now;
        }
    }
    assert_eq!(world.attempts.len(), 1, "no reconnect");
    assert_eq!(world.session.state(), ConnectionState::Live);
    assert!(longest_silence < 150_000, "the server hears from a hidden page in time: {longest_silence} ms");
}

#[test]
fn asking_again_does_not_put_off_the_answer_that_is_due() {
    let mut world = World::live(1);
    world.link = Link::BlackHole;
    let start = world.now;
    while !is_waiting(&world) && world.now.since(start) < 60_000 {
        let visible = world.session.hidden;
        world.input(Input::Visible(visible));
        world.run(1_500, is_waiting);
    }
    assert!(world.now.since(start) <= 4_500, "noticed after {} ms", world.now.since(start));
}

#[test]
fn a_question_that_is_open_is_neither_asked_again_nor_given_up_before_its_time() {
    let mut world = World::live(1);
    world.link = Link::UpLost;
    world.now = world.session.next_deadline().expect("a beat is due").0;
    world.input(Input::DeadlineReached);
    let beats = world.sent.len();
    let deadline = world.now.plus(world.terms.answer_ms);
    assert_eq!(world.session.next_deadline(), Some((deadline, Deadline::BeatAnswer)));
    world.now = Timestamp(deadline.0 - 1);
    world.input(Input::DeadlineReached);
    world.input(Input::Command(Command::RetryNow));
    assert_eq!((world.session.state(), world.sent.len()), (ConnectionState::Live, beats));
    world.now = deadline;
    world.input(Input::DeadlineReached);
    assert!(is_waiting(&world), "and no later");
}

#[test]
fn a_page_that_is_hidden_or_shown_beats_at_its_new_pace_from_then_on() {
    let mut world = World::live(1);
    for (visible, pace) in [(false, world.terms.hidden_interval_ms), (true, world.terms.interval_ms)] {
        world.input(Input::Visible(visible));
        assert_eq!(world.session.next_deadline(), Some((world.now.plus(pace), Deadline::Beat)));
        world.run(3 * pace + 1, |_| false);
        assert_eq!(world.session.state(), ConnectionState::Live);
    }
}

#[test]
fn a_late_timer_asks_once_more_before_it_declares_death() {
    let mut world = World::live(1);
    world.run(10_000, |_| false);
    world.link = Link::UpLost;
    world.now = world.now.plus(1);
    world.input(Input::DeadlineReached);
    let beats = world.sent.len();
    world.now = world.now.plus(60_000);
    world.input(Input::DeadlineReached);
    assert_eq!(world.session.state(), ConnectionState::Live, "a timer held back for a minute proves nothing");
    assert_eq!(world.sent.len(), beats + 1, "it asks again");
    world.now = world.now.plus(60_000);
    world.input(Input::DeadlineReached);
    assert!(is_waiting(&world), "the second miss counts, however late");
}

/// A server of which nothing but a hello is answered by itself.
fn catching_up() -> World {
    let mut world = World::new(1);
    world.behind = true;
    world.input(Input::Command(Command::Open { room: ROOM, cursor: None, replay: false }));
    world.input(Input::Command(Command::Start));
    assert!(matches!(world.session.state(), ConnectionState::CatchingUp { .. }), "{:?}", world.session.state());
    world
}

#[test]
fn scenario_06_a_thin_link_that_still_brings_what_was_missed_is_not_left() {
    let mut world = catching_up();
    world.link = Link::UpLost;
    // The answer to every beat waits behind what was missed.
    for _ in 0..40 {
        world.run(3_900, is_waiting);
        world.other_posts();
        // Here a packet was lost, and what came behind it waits until it was sent again.
        world.run(9_900, is_waiting);
        assert!(!is_waiting(&world), "it was left while it brought something");
        world.other_posts();
    }
    // The server, which judges silence too, has heard from it all the while.
    let beats = world.sent.iter().filter(|(_, message)| matches!(message.body, Body::Command(WireCommand::Beat(_))));
    assert_eq!(beats.count() as u64, 40 * 13_800 / world.terms.interval_ms);
    // When nothing comes any more it is as dead as any other.
    let noticed = world.run(60_000, is_waiting);
    assert!(noticed <= 15_000, "noticed after {noticed} ms");
}

#[test]
fn scenario_06_answers_that_still_come_put_a_verdict_off_and_events_do_not() {
    for answers in [true, false] {
        let mut world = World::live(1);
        world.link = Link::UpLost;
        // Large posts on a thin way up: one is answered every three seconds, and the beat waits behind them all.
        for n in 1..=5 {
            world.post(n);
        }
        let asked: Vec<RequestId> = world.sent.iter().filter_map(|(_, message)| posts(message)).collect();
        let start = world.now;
        for id in asked {
            world.run(3_000, is_waiting);
            let Some(attempt) = world.open.filter(|_| !is_waiting(&world)) else { break };
            let refusal = WireError::new(ErrorCode::PostTooLong, "Too long.");
            let said = if answers {
                Message::refusal(Some(id), refusal)
            } else {
                Message::event(Event::Heads(crate::message::Heads { heads: Vec::new() }))
            };
            world.input(Input::Received { attempt, text: said.to_json() });
        }
        world.run(60_000, is_waiting);
        let noticed = world.now.since(start);
        // The last answer comes after 15 s, the next beat is due 10 s after the connection was last proved.
        let expected = if answers { 15_000..=30_000 } else { 0..=9_000 };
        assert!(expected.contains(&noticed), "answers: {answers}, noticed after {noticed} ms");
    }
}

fn posts(message: &Message) -> Option<RequestId> {
    match message.body {
        Body::Command(WireCommand::Post(_)) => message.id,
        _ => None,
    }
}

#[test]
fn what_comes_after_a_sleep_does_not_put_the_verdict_off() {
    let mut world = catching_up();
    world.link = Link::UpLost;
    world.now = world.now.plus(600_000);
    world.input(Input::Woke);
    let start = world.now;
    while !is_waiting(&world) && world.now.since(start) < 60_000 {
        // Lay in the socket while the machine slept.
        world.other_posts();
        world.run(500, is_waiting);
    }
    assert_eq!(world.now.since(start), crate::session::heartbeat::WAKE_ANSWER_MS);
}
