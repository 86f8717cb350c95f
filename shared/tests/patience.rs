//! How long a session waits, for what, and what it says meanwhile: attempts, deadlines, heartbeats.

mod common;

use common::device::{Device, welcome};
use common::{Room, room};
use shared::close;
use shared::error::{ErrorCode, WireError};
use shared::ids::AttemptId;
use shared::message::{BeatAnswer, Body, Closing, Command as WireCommand, Event, Message, Reply};
use shared::session::{CONNECT_TIMEOUT_MS, LATE_TIMER_MS, WELCOME_TIMEOUT_MS};
use shared::session::{Command, ConnectionState, Deadline, Happened, Input, SessionEvent};
use shared::time::Timestamp;

fn beats(messages: &[Message]) -> Vec<Message> {
    let is_beat = |message: &&Message| matches!(message.body, Body::Command(WireCommand::Beat(_)));
    messages.iter().filter(is_beat).cloned().collect()
}

fn answer(device: &mut Device, beat: &Message) {
    let answer = BeatAnswer { now: Timestamp(0), reconnect_spread_ms: 0 };
    device.hear(&Message::reply(beat.id, Reply::Beat(answer)));
}

fn state(device: &Device) -> ConnectionState {
    device.session.state()
}

/// Returns how long it is until the next deadline.
fn wait_of(device: &Device) -> u64 {
    device.session.next_deadline().unwrap().0.0 - device.now
}

#[test]
fn without_a_network_a_start_waits_for_it() {
    let mut device = Device::at_rest(1, false);
    device.wish(Command::Start);
    assert_eq!((state(&device), device.attempt), (ConnectionState::Offline, AttemptId(0)));
    device.input(Input::Online(true));
    device.wait();
    assert_eq!((state(&device), device.attempt), (ConnectionState::Connecting, AttemptId(1)));
}

#[test]
fn attempts_are_counted_and_only_the_first_ever_is_called_connecting() {
    let mut device = Device::at_rest(1, true);
    device.wish(Command::Start);
    assert_eq!(state(&device), ConnectionState::Connecting);
    for attempts in 1..4 {
        device.lose(close::ABNORMAL);
        assert!(matches!(state(&device), ConnectionState::Waiting { attempts: of, .. } if of == attempts));
        device.wait();
        assert_eq!(state(&device), ConnectionState::Trying { attempts: attempts + 1, restarting: false });
    }
    let mut device = Device::live(&Room::default());
    device.now += 60_000;
    device.lose(close::ABNORMAL);
    device.wait();
    assert!(matches!(state(&device), ConnectionState::Trying { .. }), "they know what being live is");
}

#[test]
fn the_first_return_is_spread_as_the_server_asked_and_later_ones_are_no_sooner_than_half_of_that() {
    let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
    for seed in 0..300 {
        let mut device = Device::at_rest(seed, true);
        device.wish(Command::Start);
        let mut spread = welcome();
        spread.reconnect_spread_ms = 10_000;
        device.greet(&spread);
        device.lose(close::ABNORMAL);
        firsts.push(wait_of(&device));
        device.wait();
        device.lose(close::ABNORMAL);
        seconds.push(wait_of(&device));
    }
    let range = |waits: &[u64]| (waits.iter().min().copied().unwrap(), waits.iter().max().copied().unwrap());
    let ((first_least, first_most), (least, most)) = (range(&firsts), range(&seconds));
    assert!(
        (500..1_000).contains(&first_least) && (9_000..=10_000).contains(&first_most),
        "{first_least} {first_most}"
    );
    assert!((5_000..5_200).contains(&least) && (9_800..=10_000).contains(&most), "{least} {most}");
}

#[test]
fn a_deadline_that_has_not_come_changes_nothing_and_one_that_has_does() {
    let mut device = Device::at_rest(1, true);
    let early = |device: &mut Device, ms| {
        let before = state(device);
        device.now += ms;
        assert!(device.input(Input::DeadlineReached).is_empty());
        assert_eq!(state(device), before, "a timer that fires early is not the time");
    };
    device.wish(Command::Start);
    early(&mut device, CONNECT_TIMEOUT_MS - 1);
    device.wait();
    assert_eq!(device.shut, [AttemptId(1)]);
    let waits = wait_of(&device);
    early(&mut device, waits - 1);
    device.wait();
    assert_eq!(device.attempt, AttemptId(2));
    device.input(Input::Opened { attempt: AttemptId(2) });
    early(&mut device, WELCOME_TIMEOUT_MS - 1);
    device.wait();
    assert_eq!(device.shut, [AttemptId(1), AttemptId(2)]);
}

#[test]
fn stopping_closes_the_socket() {
    let mut device = Device::live(&Room::default());
    device.wish(Command::Stop);
    assert_eq!((state(&device), &device.shut[..]), (ConnectionState::Idle, &[AttemptId(1)][..]));
}

#[test]
fn a_restart_is_told_as_one_until_they_are_live_again() {
    let mut device = Device::live(&Room::default());
    device.lose(close::RESTART);
    assert!(matches!(state(&device), ConnectionState::Waiting { restarting: true, .. }));
    device.wait();
    device.lose(close::ABNORMAL);
    assert!(matches!(state(&device), ConnectionState::Waiting { restarting: true, .. }), "it is still the same one");
    let mut device = Device::live(&Room::default());
    device.lose(close::ABNORMAL);
    assert!(matches!(state(&device), ConnectionState::Waiting { restarting: false, .. }));
}

#[test]
fn the_word_said_in_band_yields_to_a_code_of_the_server_itself() {
    let mut device = Device::live(&Room::default());
    let closing = Closing { code: close::RESTART, reason: String::new() };
    device.hear(&Message::event(Event::Closing(closing)));
    device.lose(close::SESSION_REVOKED);
    assert!(matches!(state(&device), ConnectionState::Stopped(_)), "{:?}", state(&device));
}

#[test]
fn a_hello_that_is_refused_is_noted_and_another_refusal_is_not() {
    let mut device = Device::at_rest(1, true);
    device.wish(Command::Start);
    let hello = device.input(Input::Opened { attempt: AttemptId(1) });
    let noted = |device: &mut Device| {
        let is_note = |event: &SessionEvent| matches!(event, SessionEvent::Diagnostic(line) if matches!(line.what, Happened::Unreadable { .. }));
        device.take_told().iter().filter(|event| is_note(event)).count()
    };
    let other = hello[0].id.map(|id| shared::ids::RequestId(id.0 + 1));
    device.refuse(other, WireError::new(ErrorCode::Internal, "A bug."));
    assert_eq!(noted(&mut device), 0);
    device.refuse(hello[0].id, WireError::new(ErrorCode::Internal, "A bug."));
    assert_eq!(noted(&mut device), 1);
}

#[test]
fn an_answer_to_an_older_beat_is_not_the_answer_to_the_newest() {
    let mut device = Device::live(&Room::default());
    let first = beats(&device.wait()).remove(0);
    assert_eq!(device.session.next_deadline().unwrap().1, Deadline::BeatAnswer);
    // A wake asks anew while the first is unanswered.
    let second = beats(&device.input(Input::Woke)).remove(0);
    device.take_told();
    answer(&mut device, &first);
    assert_eq!(device.session.next_deadline().unwrap().1, Deadline::BeatAnswer, "the newest is still open");
    assert_eq!(device.take_told(), []);
    device.now += 7;
    answer(&mut device, &second);
    assert_eq!(device.session.next_deadline().unwrap().1, Deadline::Beat);
    assert_eq!(device.take_told(), [SessionEvent::RoundTrip { ms: 7 }]);
}

#[test]
fn a_timer_is_late_only_after_so_long() {
    for (late_ms, asks) in [(0, false), (LATE_TIMER_MS, false), (LATE_TIMER_MS + 1, true)] {
        let mut device = Device::live(&Room::default());
        assert_eq!(beats(&device.wait()).len(), 1);
        device.now = device.session.next_deadline().unwrap().0.0 + late_ms;
        let asked = beats(&device.input(Input::DeadlineReached)).len() == 1;
        assert_eq!((asked, device.shut.is_empty()), (asks, asks), "late by {late_ms} ms");
    }
}

#[test]
fn asked_again_at_the_very_deadline_it_is_a_second_chance() {
    let mut device = Device::live(&Room::default());
    assert_eq!(beats(&device.wait()).len(), 1);
    // Shown or hidden, the page beats at once, also when the answer before is due this millisecond.
    device.now = device.session.next_deadline().unwrap().0.0;
    let due = device.now;
    assert_eq!(beats(&device.input(Input::Visible(false))).len(), 1);
    assert!(device.session.next_deadline().unwrap().0.0 > due, "the new question has its own time");
}

#[test]
fn a_slow_server_is_called_slow_only_once_it_answered_the_probe_of_a_late_ack() {
    let mut device = Device::live(&Room::default());
    device.write(1);
    let mut probes = Vec::new();
    while probes.is_empty() {
        probes = beats(&device.wait());
    }
    assert_eq!(state(&device), ConnectionState::Live);
    // An answer to something else is not the probe's.
    let stranger = Message::refusal(Some(shared::ids::RequestId(9_999)), WireError::new(ErrorCode::Internal, "?"));
    device.hear(&stranger);
    assert_eq!(state(&device), ConnectionState::Live);
    // The machine wakes, and the link is asked once more: the answer to the older question does not count.
    let newest = beats(&device.input(Input::Woke)).remove(0);
    answer(&mut device, &probes[0]);
    assert_eq!(state(&device), ConnectionState::Live);
    answer(&mut device, &newest);
    assert_eq!(state(&device), ConnectionState::Slow);

    let mut device = Device::live(&Room::default());
    let beat = beats(&device.wait()).remove(0);
    device.wish(Command::MarkRead { room: room(), posts: 1 });
    answer(&mut device, &beat);
    assert_eq!(state(&device), ConnectionState::Live, "an answer in time to an ordinary beat");
}
