//! States made by hand, chosen by the address: `?mock=room&lang=zh-CN&theme=dark&bar=waiting`. For pictures while the
//! look is worked on; not compiled into a release.
//!
//! Must not live here: anything the running page uses. Invariant: what it shows could have happened.

use std::rc::Rc;

use shared::cursor::{Check, Position};
use shared::error::{ErrorCode, WireError};
use shared::ids::{AttemptId, ClientId, ConnectionId, Epoch, Lsn, RoomId, Seq, UserId};
use shared::message::Ack;
use shared::model::{Member, OpenOutcome, Opened, Person, Post, Reaction, ServerInfo, Snapshot};
use shared::session::{ConnectionState, Happened, OutboxItem, SendOp};
use shared::time::Timestamp;

use crate::status::{Back, Facts};
use crate::store::{
    Dialog, Form, Panel, PanelLine, Phase, Place, RoomsDialog, SignIn, SignInBecause, SignInError, State, StorageState,
    Theme, Weather, mock,
};
use crate::words::{Language, Local};

const HOUR_MS: u64 = 3_600_000;
const LINES: [(u8, &str); 16] = [
    (2, "Morning. The new build is on the test machine, could somebody try it on a train?"),
    (2, "I mean literally on a train: tunnels, dead zones, the works."),
    (3, "我今天下午坐高铁，可以试试。需要看哪些地方？"),
    (2, "Write while it is offline, close the tab, open it again. https://example.org/checklist has the list."),
    (3, "好的 👍"),
    (1, "Two things I saw yesterday:\n1. the bar came a second late once\n2. everything else was fine"),
    (
        4,
        "averyveryverylongwordwithoutanyspaceswhichhastobebrokensomewhereorelsethewholecolumngetswiderthanthescreenandthatwouldbeugly",
    ),
    (4, "🎉"),
    (
        2,
        "Nice! Could you note the time next time? The panel (click on the dot) has a timeline, and “copy diagnostics” takes all of it with it, without any message text.",
    ),
    (1, "Will do."),
    (3, "隧道里断了四十秒，出来以后三条消息都按顺序发出去了，没有重复。"),
    (3, "连接面板里能看到每次断开的原因，很清楚。"),
    (2, "That is the whole point. 🙂"),
    (4, "<b>not bold</b> & \"quotes\" stay text"),
    (1, "See you at four then."),
    (2, "See you!"),
];

/// Makes the state an address asks for, if it asks for one.
#[must_use]
pub fn from_query(query: &str) -> Option<State> {
    let value = |key: &str| {
        query
            .trim_start_matches('?')
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(k, _)| *k == key)
            .map(|(_, v)| v)
    };
    let kind = value("mock")?;
    let mut state = mock();
    state.language = value("lang").map_or(Language::English, Language::from_tag);
    state.theme = match value("theme") {
        Some("dark") => Theme::Dark,
        Some("light") => Theme::Light,
        Some(_) | None => Theme::System,
    };
    state.utc_offset_min = 60;
    let me = UserId::from_bytes([1; 16]);
    match kind {
        "sign-in" => state.phase = Phase::SignIn(SignIn::default()),
        "taken" => {
            let error = WireError::new(ErrorCode::NameTaken, "").suggest("Robin-2");
            let error = Some(SignInError::Refused(error));
            state.phase = Phase::SignIn(SignIn { error, last_name: "Robin".into(), ..SignIn::default() });
        }
        "ended" => {
            let kept = ["This one was on its way.", "未发送的消息也会留在这里。", "half a thought"].map(String::from);
            let because = SignInBecause::Ended;
            let last_name = "Robin".into();
            state.phase = Phase::SignIn(SignIn { last_name, kept: kept.into(), because, ..SignIn::default() });
        }
        "loading" => state.phase = Phase::Loading,
        "door" => state.place = Place::Door { room: state.rooms[1].summary.clone(), busy: false },
        "missing" => state.place = Place::Missing { name: "attic".into() },
        "empty" => {}
        count => fill(&mut state, me, count.parse().unwrap_or(16)),
    }
    if let Some(bar) = value("bar") {
        weather(&mut state, bar);
    }
    if let Some(dialog) = value("dialog") {
        state.dialog = open(&state, dialog);
    }
    state.panel = Rc::new(panel(state.wall));
    Some(state)
}

fn fill(state: &mut State, me: UserId, count: u64) {
    let names = ["", "Robin", "Ada", "林小雨", "Söğüt"];
    let people: Vec<Person> =
        (1..=4_u8).map(|n| Person { id: UserId::from_bytes([n; 16]), name: names[usize::from(n)].into() }).collect();
    let wall = state.wall;
    let post = |n: u64| {
        let (by, text) = LINES[(n as usize - 1) % LINES.len()];
        Post {
            seq: Seq(n + 40),
            rev: Seq(n + 40),
            ordinal: n + 37,
            by: UserId::from_bytes([by; 16]),
            client_id: ClientId::from_parts(Timestamp(n), [by; 10]),
            ts: Timestamp(wall.0 - 26 * HOUR_MS + n * 26 * HOUR_MS / (count + 1)),
            body: (n % 16 != 13).then(|| text.to_owned()),
            edited: (n % 16 == 6).then_some(wall),
            reactions: if n % 16 == 11 {
                vec![
                    Reaction { emoji: "🚄".into(), by: vec![me, people[1].id] },
                    Reaction { emoji: "👍".into(), by: vec![people[3].id] },
                ]
            } else {
                Vec::new()
            },
        }
    };
    let as_of = Position { epoch: Epoch::from_bytes([7; 16]), seq: Seq(count + 40), check: Check::default() };
    let snapshot =
        Snapshot { as_of, total: count + 37, posts: (1..=count).map(post).collect(), people: people.clone() };
    let online = |n: usize| n != 3;
    let roster: Vec<Member> = people
        .iter()
        .enumerate()
        .map(|(n, person)| Member { id: person.id, name: person.name.clone(), online: online(n) })
        .collect();
    let room = RoomId::from_bytes([1; 16]);
    let opened = Opened { room, outcome: OpenOutcome::Fresh { snapshot }, members: 4, roster };
    let Some(view) = &mut state.view else { return };
    let view = Rc::make_mut(view);
    let timeline = view.timeline.change();
    timeline.opened(&opened);
    timeline.call_me("Robin");
    for (n, body) in
        ["This one is on its way.", "", "未发送的消息也会留在这里。", "One more, later."].iter().enumerate()
    {
        let client_id = ClientId::from_parts(wall, [n as u8 + 50; 10]);
        let body = if body.is_empty() { "x".repeat(60) } else { (*body).to_owned() };
        let item = OutboxItem {
            client_id,
            room,
            op: SendOp::Post { body },
            queued_at: wall,
            order: n as u64,
            attempted: false,
            refused: None,
        };
        timeline.queued(&item);
        match n {
            0 => timeline.sending(client_id),
            1 => timeline.refused(client_id, &WireError::new(ErrorCode::PostTooLong, "")),
            _ => timeline.saved(client_id),
        }
    }
    let client_id = ClientId::from_parts(wall, [99; 10]);
    let edit = SendOp::Edit { post: Seq(55).into(), body: "See you at five then.".into() };
    timeline.queued(&OutboxItem {
        client_id,
        room,
        op: edit,
        queued_at: wall,
        order: 9,
        attempted: false,
        refused: None,
    });
    timeline.acked(&Ack {
        client_id: ClientId::from_parts(wall, [1; 10]),
        room,
        seq: Seq(1),
        ts: wall,
        duplicate: false,
    });
    view.roster.change().opened(&opened);
    view.divider = (count > 3).then_some(count + 37 - 3);
    view.typing = Rc::new(vec!["Ada".into()]);
    let mut rooms = (*state.rooms).clone();
    rooms[0].unsent = 2;
    rooms[0].refused = 1;
    rooms[0].summary.title = "Everything about the build · 关于新版本".into();
    state.rooms = Rc::new(rooms);
}

fn weather(state: &mut State, kind: &str) {
    let now = Timestamp(1_000_000);
    let lost = Timestamp(1_000_000 - 9_000);
    let connection = match kind {
        "connecting" => ConnectionState::Connecting,
        "catching_up" => ConnectionState::CatchingUp { to_go: 120 },
        "waiting" | "pill" => ConnectionState::Waiting { until: now.plus(7_000), attempts: 3, restarting: false },
        "restarting" => ConnectionState::Waiting { until: now.plus(7_000), attempts: 3, restarting: true },
        "trying" => ConnectionState::Trying { attempts: 3, restarting: false },
        "offline" => ConnectionState::Offline,
        "slow" => ConnectionState::Slow,
        "stopped" => ConnectionState::Stopped(shared::close::StopReason::SignedOut),
        _ => ConnectionState::Live,
    };
    let back = (kind == "back").then_some(Back { at: now, received: 12, sent: 2, bar_was_shown: true });
    let facts = Facts {
        state: connection.clone(),
        state_since: lost,
        lost_since: if kind == "pill" { Timestamp(now.0 - 2_000) } else { lost },
        shown_until: Some(state.wall),
        back,
        storage_ok: Some(kind != "no_storage"),
        unsent: 2,
        new_version: kind == "new_version",
        bar_seen: false,
    };
    state.storage = if kind == "no_storage" { StorageState::Failed } else { StorageState::Ready };
    state.status = facts.status(now, state.language, Local { wall: state.wall, utc_offset_min: state.utc_offset_min });
    state.connection = connection;
}

fn open(state: &State, kind: &str) -> Dialog {
    match kind {
        "rooms" => {
            let mut rooms: Vec<_> = state.rooms.iter().map(|row| row.summary.clone()).collect();
            rooms[2].joined = false;
            rooms[1].title = "What broke, and who mends it".into();
            Dialog::Rooms(RoomsDialog { rooms: Rc::new(rooms), more: true, busy: false, error: None })
        }
        "create" => Dialog::CreateRoom(Form {
            busy: false,
            error: Some(WireError::new(ErrorCode::NameTaken, "").suggest("build-2")),
        }),
        "rename" => Dialog::Rename(Form::default()),
        "sign-out" => Dialog::SignOut { unsent: 2 },
        "leave" => Dialog::Leave { room: state.rooms[0].summary.room },
        "panel" => Dialog::Connection,
        "help" => Dialog::Help,
        "switcher" => Dialog::Switcher,
        _ => Dialog::None,
    }
}

fn panel(wall: Timestamp) -> Panel {
    let at = |s: u64| Timestamp(wall.0 - 60_000 + s * 1_000);
    let line = |s: u64, attempt: u64, what: Happened| PanelLine { at: at(s), attempt: AttemptId(attempt), what };
    let connection = ConnectionId(4_711);
    Panel {
        round_trips: (0..60_u64).map(|n| 24 + (n * 7) % 11 + if n % 17 == 0 { 60 } else { 0 }).collect(),
        last_frame: Some(Timestamp(wall.0 - 3_000)),
        attempt: AttemptId(3),
        connection: Some(connection),
        server: Some(ServerInfo { epoch: Epoch::from_bytes([7; 16]), build: "0.1.0 (1f3a9c2)".into(), lsn: Lsn(812) }),
        build: "0.1.0",
        lines: vec![
            line(0, 1, Happened::Attempted),
            line(0, 1, Happened::Opened),
            line(1, 1, Happened::Welcomed { connection: ConnectionId(4_702) }),
            line(1, 1, Happened::Live),
            line(20, 1, Happened::HeartbeatMissed),
            line(21, 1, Happened::Closed { code: 4001, reason: "no answer to a heartbeat".into(), by_us: true }),
            line(21, 1, Happened::Waiting { ms: 1_400 }),
            line(23, 2, Happened::Attempted),
            line(24, 2, Happened::Closed { code: 1006, reason: String::new(), by_us: false }),
            line(24, 2, Happened::Waiting { ms: 2_900 }),
            line(27, 3, Happened::Attempted),
            line(28, 3, Happened::Welcomed { connection }),
            line(28, 3, Happened::Resumed { missed: 12 }),
            line(29, 3, Happened::Deduplicated { events: 1 }),
            line(29, 3, Happened::Live),
        ],
        weather: Some(Weather::Fair),
    }
}
