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
