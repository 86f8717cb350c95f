//! Any input after any other.
//!
//! Must not live here: what a right order leads to. Invariant: every input is one that a driver or a server could give.

use proptest::prelude::*;

use super::*;

fn input() -> impl Strategy<Value = Input> {
    let attempt = (0_u64..6).prop_map(AttemptId);
    prop_oneof![
        Just(Input::Command(Command::Start)),
        Just(Input::Command(Command::Stop)),
        Just(Input::Command(Command::RetryNow)),
        (0_u8..9).prop_map(|n| Input::Command(Command::Send {
            client_id: key(n),
            room: ROOM,
            op: SendOp::Post { body: "x".to_owned() },
            at: Timestamp(5)
        })),
        (0_u8..9).prop_map(|n| Input::Command(Command::RetrySend { client_id: key(n), at: Timestamp(5) })),
        (0_u8..9).prop_map(|n| Input::Command(Command::DiscardSend { client_id: key(n) })),
        Just(Input::Command(Command::Open { room: ROOM, cursor: None, replay: false })),
        Just(Input::Command(Command::Shut { room: ROOM })),
        (any::<u64>()).prop_map(|posts| Input::Command(Command::MarkRead { room: ROOM, posts })),
        Just(Input::Command(Command::Typing { room: ROOM })),
        attempt.clone().prop_map(|attempt| Input::Opened { attempt }),
        (attempt.clone(), 990_u16..5_010).prop_map(|(attempt, code)| closed(attempt, code)),
        (attempt, 0_usize..8, 0_u64..12)
            .prop_map(|(attempt, which, n)| Input::Received { attempt, text: answer(which, n) }),
        Just(Input::DeadlineReached),
        any::<bool>().prop_map(Input::Online),
        any::<bool>().prop_map(Input::Visible),
        Just(Input::Woke),
        Just(Input::Erased),
        (any::<bool>(), 0_u64..20).prop_map(|(ok, serial)| Input::Persisted { serial, ok }),
    ]
}

fn answer(which: usize, n: u64) -> String {
    let world = World::new(0);
    let id = Some(RequestId(n));
    let message = match which {
        0 | 1 => Message::reply(id, Reply::Welcome(Box::new(world.welcome()))),
        2 => Message::event(Event::Live(Live {})),
        3 => Message::event(Event::Room(world.event(n + 1))),
        4 => Message::event(Event::Opened(world.opened(None))),
        5 => {
            let ack = Ack { client_id: key(n as u8), room: ROOM, seq: Seq(n), ts: Timestamp(1), duplicate: false };
            Message::reply(id, Reply::Ack(ack))
        }
        6 => Message::refusal(id, WireError::new(ErrorCode::RateLimited, "slow").retry_after(n * 1_000)),
        _ => Message::event(Event::Beat(crate::message::BeatAsked { n })),
    };
    message.to_json()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: no panic, limits hold, and the state is never better than the link.
    #[test]
    fn no_sequence_of_inputs_breaks_the_session(inputs in prop::collection::vec((input(), 0_u64..40_000), 1..60)) {
        let mut world = World::new(7);
        let mut last_open = AttemptId(0);
        for (input, ms) in inputs {
            world.now = world.now.plus(ms);
            let outputs = world.session.handle(input, world.now);
            for output in &outputs {
                if let Output::Open { attempt } = output {
                    prop_assert!(*attempt > last_open, "attempts are numbered upwards");
                    last_open = *attempt;
                }
                if let Output::Send { attempt, text } = output {
                    prop_assert_eq!(*attempt, last_open, "only the newest socket is written to");
                    prop_assert!(Message::parse(text).is_ok());
                }
            }
            let live = matches!(world.session.state(), ConnectionState::Live | ConnectionState::Slow);
            prop_assert!(!live || matches!(world.session.link, crate::session::Link::Up(_)));
            prop_assert!(world.session.outbox().count() <= crate::limits::OUTBOX_ITEMS);
            if let Some((at, _)) = world.session.next_deadline() {
                prop_assert!(at.since(world.now) <= 150_000, "no wait without a limit");
            }
        }
    }
}
