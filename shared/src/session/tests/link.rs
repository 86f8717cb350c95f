//! Connecting, being thrown out, and coming back.
//!
//! Must not live here: noticing that a link died (`heartbeat`). Invariant: the state told is never more hopeful than the
//! link.

use super::*;

#[test]
fn s05_a_lost_connection_comes_back_and_resumes_where_it_was() {
    let mut world = World::live(1);
    world.other_posts();
    world.close(close::ABNORMAL);
    world.other_posts();
    world.other_posts();
    assert!(is_waiting(&world));
    world.run(5_000, |world| world.session.state() == ConnectionState::Live);
    assert_eq!(world.session.state(), ConnectionState::Live);
    assert_eq!(world.shown_seqs(), [1, 2, 3]);
    let recovered = world.events.iter().any(|(_, event)| *event == SessionEvent::Recovered { received: 2, sent: 0 });
    assert!(recovered, "{:?}", world.events);
}

#[test]
fn s02_the_socket_being_open_is_not_yet_live() {
    let mut world = World::new(1);
    world.link = Link::UpLost;
    world.input(Input::Command(Command::Start));
    assert_eq!(world.session.state(), ConnectionState::Connecting);
    world.run(WELCOME_TIMEOUT_MS + 1, is_waiting);
    assert!(is_waiting(&world), "no welcome in time must end the attempt");
}

#[test]
fn scenario_13_every_close_code_drives_the_action_in_the_registry() {
    for code in (1000..1016).chain(3000..3005).chain(4000..5000) {
        let mut world = World::live(u64::from(code));
        world.run(STABLE_MS, |_| false);
        world.close(code);
        let state = world.session.state();
        match (close::after_close(code), &state) {
            (AfterClose::Stop(reason), ConnectionState::Stopped(stopped)) => assert_eq!(reason, *stopped, "{code}"),
            (AfterClose::Reconnect, ConnectionState::Waiting { until, .. }) => {
                assert!(until.since(world.now) <= BACKOFF_BASE_MS, "{code}: {state:?}");
            }
            (AfterClose::ReconnectSlowly, ConnectionState::Waiting { until, .. }) => {
                assert!(until.since(world.now) >= close::SLOW_RECONNECT_MS, "{code}: {state:?}");
            }
            (after, state) => panic!("{code}: {after:?} led to {state:?}"),
        }
        if code >= 4500 {
            world.run(600_000, |_| false);
            assert_eq!(world.attempts.len(), 1, "{code}: a stop stays a stop");
        }
    }
}

#[test]
fn s19_the_reason_said_in_band_survives_a_proxy_that_turns_closes_into_1006() {
    let mut world = World::live(1);
    let attempt = world.open.unwrap();
    let closing = Closing { code: close::SESSION_REVOKED, reason: "revoked".to_owned() };
    world.say(attempt, Message::event(Event::Closing(closing)));
    world.drain();
    world.close(close::ABNORMAL);
    assert_eq!(world.session.state(), ConnectionState::Stopped(StopReason::SignedOut));
}

#[test]
fn scenario_15_inputs_of_an_older_attempt_change_nothing() {
    let mut world = World::live(1);
    let old = world.open.unwrap();
    world.close(close::ABNORMAL);
    world.run(5_000, |world| world.open.is_some());
    assert_eq!(world.session.state(), ConnectionState::Live);
    world.input(closed(old, close::SUPERSEDED));
    world.input(Input::Opened { attempt: old });
    let late = Message::event(Event::Room(RoomEvent { seq: Seq(1), ..world.event(1) }));
    world.input(Input::Received { attempt: old, text: late.to_json() });
    assert_eq!(world.session.state(), ConnectionState::Live);
    assert_eq!(world.shown_seqs(), Vec::<u64>::new());
}

#[test]
fn scenario_24_the_state_tells_the_truth_through_a_bad_hour() {
    let mut world = World::new(11);
    assert_eq!(world.session.state(), ConnectionState::Idle);
    world.link = Link::BlackHole;
    world.input(Input::Command(Command::Start));
    assert_eq!(world.session.state(), ConnectionState::Connecting);
    world.run(CONNECT_TIMEOUT_MS + 1, is_waiting);
    assert!(is_waiting(&world));
    world.input(Input::Online(false));
    assert_eq!(world.session.state(), ConnectionState::Offline);
    world.run(600_000, |_| false);
    assert_eq!(world.session.state(), ConnectionState::Offline, "offline is believed");
    world.link = Link::Good;
    world.input(Input::Online(true));
    assert!(is_waiting(&world), "online is only a reason to try");
    let back = world.run(10_000, |world| world.session.state() == ConnectionState::Live);
    assert!(back <= AT_ONCE_JITTER_MS);
    world.input(Input::Command(Command::Stop));
    assert_eq!(world.session.state(), ConnectionState::Idle);
    // Every change was told, in order, and nothing else.
    let told: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            SessionEvent::State(state) => Some(state.clone()),
            _ => None,
        })
        .collect();
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
    assert_eq!(told.last(), Some(&ConnectionState::Idle));
}

#[test]
fn retry_now_works_while_the_device_claims_to_be_offline() {
    let mut world = World::live(1);
    world.input(Input::Online(false));
    world.run(60_000, |_| false);
    world.input(Input::Command(Command::RetryNow));
    assert_eq!(world.session.state(), ConnectionState::Live, "what works is true, whatever the device says");
}
