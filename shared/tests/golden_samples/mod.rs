//! One of everything that crosses the wire, by the golden file that shows it.

use std::fmt::Write as _;

use shared::close;
use shared::cursor::{Check, Position};
use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, ConnectionId, Epoch, Lsn, RequestId, RoomId, Seq, SessionId, UserId};
use shared::limits;
use shared::message::{
    Ack, Beat, BeatAnswer, BeatAsked, Closing, Command, CreateRoom, Draining, Event, EventsAfter, FindRoom, Heads,
    HeartbeatTerms, Hello, History, ListPeople, ListRooms, Live, MarkRead, Membership, Message, OpenRoom, PeopleList,
    Presence, ReadMark, Rename, Reply, RoomList, RoomRef, SendDelete, SendEdit, SendPost, SendReact, TYPING_EVERY_MS,
    TYPING_SHOWN_MS, TypingNow, Welcome, WireLimits,
};
use shared::model::{
    Deleted, Edited, Empty, EventPage, Head, HistoryPage, Kicked, Member, Named, OpenOutcome, Opened, Person, Post,
    PostRef, Posted, Reacted, Reaction, Renamed, ResetReason, RoomAdded, RoomChange, RoomEvent, RoomRemoved,
    RoomSummary, RoomTitle, ServerInfo, Snapshot, UserChange, UserEvent,
};
use shared::session::{self, OutboxItem, SendOp};
use shared::tagged::Unknown;
use shared::time::Timestamp;

/// A time-ordered id of a given moment, told apart by its last byte.
fn id_bytes(last: u8) -> (Timestamp, [u8; 10]) {
    (Timestamp(1_767_225_600_000), [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, last])
}

macro_rules! id {
    ($type:ident, $last:literal) => {{
        let (now, random) = id_bytes($last);
        $type::from_parts(now, random)
    }};
}

fn ada() -> Person {
    Person { id: id!(UserId, 0xa1), name: "Ada".to_owned() }
}

fn lin() -> Person {
    Person { id: id!(UserId, 0xa2), name: "林".to_owned() }
}

fn room() -> RoomId {
    id!(RoomId, 0xb1)
}

fn key() -> ClientId {
    id!(ClientId, 0xc1)
}

fn ts(seconds: u64) -> Timestamp {
    Timestamp(1_767_225_600_000 + seconds * 1_000)
}

fn check(seq: u64) -> Check {
    Check((0x0123_4567_89ab_cd00 + seq).to_be_bytes())
}

fn position(seq: u64) -> Position {
    Position { epoch: id!(Epoch, 0xe1), seq: Seq(seq), check: check(seq) }
}

fn post(seq: u64, ordinal: u64, by: &Person, body: &str) -> Post {
    Post {
        seq: Seq(seq),
        rev: Seq(seq),
        ordinal,
        by: by.id,
        client_id: key(),
        ts: ts(seq),
        body: Some(body.to_owned()),
        edited: None,
        reactions: Vec::new(),
    }
}

/// Two posts: one edited and reacted to, one deleted.
fn posts() -> Vec<Post> {
    let reactions = vec![Reaction { emoji: "👍".to_owned(), by: vec![ada().id, lin().id] }];
    let edited = Post { rev: Seq(44), edited: Some(ts(43)), reactions, ..post(41, 38, &lin(), "今天见。See you.") };
    let deleted = Post { rev: Seq(45), body: None, client_id: id!(ClientId, 0xc2), ..post(42, 39, &ada(), "") };
    vec![edited, deleted]
}

fn snapshot() -> Snapshot {
    Snapshot { as_of: position(45), total: 39, posts: posts(), people: vec![ada(), lin()] }
}

fn summary() -> RoomSummary {
    RoomSummary {
        room: room(),
        name: "general".to_owned(),
        title: "Everybody".to_owned(),
        joined: true,
        members: 2,
        head: Seq(45),
        posts: 39,
        read: 37,
    }
}

fn members() -> Vec<Member> {
    let member = |person: Person, online| Member { id: person.id, name: person.name, online };
    vec![member(ada(), true), member(lin(), false)]
}

fn open_room(seq: Option<u64>, replay: bool) -> OpenRoom {
    OpenRoom { room: room(), cursor: seq.map(position), replay }
}

fn opened(outcome: OpenOutcome) -> Opened {
    Opened { room: room(), outcome, roster: members(), members: 2 }
}

fn change(seq: u64, by: Person, change: RoomChange) -> RoomEvent {
    RoomEvent { room: room(), seq: Seq(seq), check: check(seq), posts: 40, ts: ts(seq), by, change }
}

fn posted() -> RoomChange {
    RoomChange::Posted(Posted { client_id: key(), body: Some("Hello, 世界".to_owned()) })
}

fn title() -> RoomTitle {
    RoomTitle { name: "general".to_owned(), title: "Everybody".to_owned() }
}

fn unknown(kind: &str, raw: &str) -> Unknown {
    Unknown { kind: kind.to_owned(), raw: raw.to_owned() }
}

fn commands() -> Vec<(&'static str, Command)> {
    let (client_id, room, post) = (key(), room(), Seq(41));
    let hello = Hello {
        protocol: limits::PROTOCOL_VERSION,
        client: "web 0.1.0".to_owned(),
        session: id!(SessionId, 0xd1),
        hidden: false,
        user: None,
        rooms: Vec::new(),
        since: None,
    };
    let rooms = vec![open_room(Some(45), false)];
    let resume = Hello { user: Some(position(3)), rooms, since: Some(Lsn(1_201)), ..hello.clone() };
    let post_client_id = Some(id!(ClientId, 0xc2));
    let body = "See you today.".to_owned();
    let emoji = "👍".to_owned();
    let react = SendReact { n: Some(4), client_id, room, post, post_client_id: None, emoji, on: true };
    vec![
        ("command/hello.json", Command::Hello(hello)),
        ("command/hello-resume.json", Command::Hello(resume)),
        ("command/beat.json", Command::Beat(Beat { hidden: false, answers: None })),
        ("command/beat-answer.json", Command::Beat(Beat { hidden: true, answers: Some(4) })),
        ("command/post.json", Command::Post(SendPost { n: Some(1), client_id, room, body: "Hello, 世界".to_owned() })),
        ("command/edit.json", Command::Edit(SendEdit { n: Some(2), client_id, room, post, post_client_id, body })),
        ("command/delete.json", Command::Delete(SendDelete { n: Some(3), client_id, room, post, post_client_id })),
        ("command/react.json", Command::React(react)),
        ("command/open.json", Command::Open(open_room(None, false))),
        ("command/open-replay.json", Command::Open(open_room(Some(45), true))),
        ("command/shut.json", Command::Shut(RoomRef { room })),
        ("command/history.json", Command::History(History { room, before: Seq(41), limit: Some(50) })),
        ("command/events.json", Command::Events(EventsAfter { room, after: Seq(45), limit: None })),
        ("command/rooms.json", Command::Rooms(ListRooms { after: Some("general".to_owned()) })),
        ("command/find_room.json", Command::FindRoom(FindRoom { name: "general".to_owned() })),
        (
            "command/create_room.json",
            Command::CreateRoom(CreateRoom { client_id, name: "tea".to_owned(), title: "Green and black".to_owned() }),
        ),
        ("command/join.json", Command::Join(Membership { client_id, room })),
        ("command/leave.json", Command::Leave(Membership { client_id, room })),
        ("command/people.json", Command::People(ListPeople { room, after: None })),
        ("command/rename.json", Command::Rename(Rename { client_id, name: "Ada L.".to_owned() })),
        ("command/read.json", Command::Read(MarkRead { room, posts: 39 })),
        ("command/typing.json", Command::Typing(RoomRef { room })),
        ("unknown/command.json", Command::Unknown(unknown("dance", r#"{"tempo":120}"#))),
    ]
}

fn replies() -> Vec<(&'static str, Reply)> {
    let room = room();
    let welcome = Welcome {
        protocol: limits::PROTOCOL_VERSION,
        server: ServerInfo { epoch: id!(Epoch, 0xe1), build: "0.1.0".to_owned(), lsn: Lsn(1_207) },
        connection: ConnectionId(17),
        you: ada(),
        now: ts(60),
        heartbeat: HeartbeatTerms::default(),
        reconnect_spread_ms: 0,
        limits: WireLimits::default(),
        draining: false,
        user: position(3),
        user_recovered: false,
        rooms_complete: true,
        rooms: vec![summary()],
    };
    let ack = Ack { client_id: key(), room, seq: Seq(46), ts: ts(46), duplicate: false };
    let as_of = position(45);
    let history = HistoryPage { room, as_of, posts: posts(), people: vec![ada(), lin()], earlier: 37 };
    let events = EventPage { room, events: vec![change(46, ada(), posted())], head: Seq(46) };
    vec![
        ("reply/welcome.json", Reply::Welcome(Box::new(welcome))),
        ("reply/beat.json", Reply::Beat(BeatAnswer { now: ts(70), reconnect_spread_ms: 0 })),
        ("reply/ack.json", Reply::Ack(ack)),
        ("reply/ack-duplicate.json", Reply::Ack(Ack { duplicate: true, ..ack })),
        ("reply/opened-fresh.json", Reply::Opened(opened(OpenOutcome::Fresh { snapshot: snapshot() }))),
        ("reply/history.json", Reply::History(history)),
        ("reply/events.json", Reply::Events(events)),
        ("reply/rooms.json", Reply::Rooms(RoomList { rooms: vec![summary()], more: false })),
        ("reply/room.json", Reply::Room(summary())),
        ("reply/people.json", Reply::People(PeopleList { room, people: members(), more: false })),
        ("reply/done.json", Reply::Done(Empty {})),
        ("unknown/reply.json", Reply::Unknown(unknown("danced", r#"{"steps":12}"#))),
    ]
}

fn changes() -> Vec<(&'static str, RoomEvent)> {
    let (post, empty) = (Seq(41), Empty {});
    let edited = Edited { post, body: Some("See you today.".to_owned()) };
    let reacted = Reacted { post, emoji: "👍".to_owned(), on: true };
    let renamed = Person { name: "Ada L.".to_owned(), ..ada() };
    vec![
        ("event/room-posted.json", change(46, ada(), posted())),
        ("event/room-edited.json", change(47, lin(), RoomChange::Edited(edited))),
        ("event/room-deleted.json", change(48, lin(), RoomChange::Deleted(Deleted { post }))),
        ("event/room-reacted.json", change(49, ada(), RoomChange::Reacted(reacted))),
        ("event/room-created.json", RoomEvent { posts: 0, ..change(1, ada(), RoomChange::Created(title())) }),
        ("event/room-set.json", change(50, ada(), RoomChange::Set(title()))),
        ("event/room-ended.json", change(51, ada(), RoomChange::Ended(empty))),
        ("event/room-joined.json", change(52, lin(), RoomChange::Joined(empty))),
        ("event/room-left.json", change(53, lin(), RoomChange::Left(empty))),
        ("event/room-kicked.json", change(54, ada(), RoomChange::Kicked(Kicked { user: lin() }))),
        ("event/room-renamed.json", change(55, renamed, RoomChange::Renamed(Renamed { was: "Ada".to_owned() }))),
        ("unknown/change.json", change(56, lin(), RoomChange::Unknown(unknown("pinned", r#"{"post":41}"#)))),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let room = room();
    let user = |change| Event::User(UserEvent { seq: Seq(4), check: check(4), ts: ts(4), change });
    let (name, title) = ("general".to_owned(), "Everybody".to_owned());
    let added = RoomAdded { room, name, title, from: Seq(12), posts: 9 };
    let refused = WireError::new(ErrorCode::NotMember, "Join the room first.");
    let recovered = OpenOutcome::Recovered { head: Seq(45), missed: 4 };
    let jumped = OpenOutcome::Jumped { snapshot: snapshot(), hole: 30 };
    let reset = OpenOutcome::Reset { reason: ResetReason::Forked, snapshot: snapshot() };
    let nobody = Opened { roster: Vec::new(), members: 0, ..opened(OpenOutcome::Refused { error: refused }) };
    vec![
        ("event/user-room_added.json", user(UserChange::RoomAdded(added))),
        ("event/user-room_removed.json", user(UserChange::RoomRemoved(RoomRemoved { room }))),
        ("event/user-named.json", user(UserChange::Named(Named { name: "Ada L.".to_owned() }))),
        ("event/opened-recovered.json", Event::Opened(opened(recovered))),
        ("event/opened-jumped.json", Event::Opened(opened(jumped))),
        ("event/opened-reset.json", Event::Opened(opened(reset))),
        ("event/opened-refused.json", Event::Opened(nobody)),
        ("event/live.json", Event::Live(Live {})),
        ("event/heads.json", Event::Heads(Heads { heads: vec![Head { room, seq: Seq(46), posts: 40 }] })),
        ("event/typing.json", Event::Typing(TypingNow { room, user: lin() })),
        ("event/presence.json", Event::Presence(Presence { changes: members() })),
        ("event/read.json", Event::Read(ReadMark { room, posts: 39 })),
        ("event/beat.json", Event::Beat(BeatAsked { n: 4 })),
        ("event/draining.json", Event::Draining(Draining { reconnect_after_ms: 1_400 })),
        ("event/closing.json", Event::Closing(Closing { code: close::RESTART, reason: "restarting".to_owned() })),
        ("unknown/event.json", Event::Unknown(unknown("weather", r#"{"sky":"clear"}"#))),
    ]
}

/// Every message, by its file.
pub(crate) fn messages() -> Vec<(&'static str, Message)> {
    let id = RequestId(7);
    let mut all = Vec::new();
    all.extend(commands().into_iter().map(|(path, command)| {
        let id = if matches!(command, Command::Hello(_)) { RequestId(1) } else { id };
        (path, Message::command(id, command))
    }));
    all.extend(replies().into_iter().map(|(path, reply)| {
        let id = if matches!(reply, Reply::Welcome(_)) { RequestId(1) } else { id };
        (path, Message::reply(Some(id), reply))
    }));
    all.extend(changes().into_iter().map(|(path, change)| (path, Message::event(Event::Room(change)))));
    all.extend(events().into_iter().map(|(path, event)| (path, Message::event(event))));
    let error =
        WireError::new(ErrorCode::RateLimited, "Too many posts in a short time. Wait a moment.").retry_after(900);
    all.push(("refusal/rate_limited.json", Message::refusal(Some(id), error)));
    let error = WireError::new(ErrorCode::NameTaken, "Somebody goes by this name.").suggest("Ada 2");
    all.push(("refusal/name_taken.json", Message::refusal(Some(id), error)));
    let error =
        WireError::new(ErrorCode::BadMessage, "This message cannot be read: expected value at line 1 column 1.");
    all.push(("refusal/without_id.json", Message::refusal(None, error)));
    let newer = WireError {
        code: ErrorCode::Unknown("slow_mode".to_owned()),
        retryable: true,
        ..WireError::new(ErrorCode::Internal, "This room takes one post a minute.").retry_after(41_000)
    };
    all.push(("unknown/error.json", Message::refusal(Some(id), newer)));
    all
}

/// What a device stores of the outbox, by its file.
pub(crate) fn outbox_items() -> Vec<(&'static str, OutboxItem)> {
    let at = PostRef::from(Seq(41));
    let named = PostRef { client_id: Some(id!(ClientId, 0xc2)), ..at };
    let item = |order, op| OutboxItem {
        client_id: key(),
        room: room(),
        op,
        queued_at: ts(46),
        order,
        attempted: false,
        refused: None,
    };
    let error = WireError::new(ErrorCode::NotMember, "Join the room first.");
    let parked = item(5, SendOp::Post { body: "Hello, 世界".to_owned() });
    vec![
        ("outbox/post.json", item(1, SendOp::Post { body: "Hello, 世界".to_owned() })),
        ("outbox/edit.json", item(2, SendOp::Edit { post: at, body: "See you today.".to_owned() })),
        ("outbox/delete.json", item(3, SendOp::Delete { post: named })),
        ("outbox/react.json", item(4, SendOp::React { post: named, emoji: "👍".to_owned(), on: true })),
        ("outbox/post-refused.json", OutboxItem { attempted: true, refused: Some(error), ..parked }),
    ]
}

/// The limits of the wire as a table.
pub(crate) fn limits_table() -> String {
    let rows: &[(&str, String)] = &[
        ("message a client sends, bytes", limits::INBOUND_MESSAGE_BYTES.to_string()),
        ("message the server sends, bytes", limits::OUTBOUND_MESSAGE_BYTES.to_string()),
        ("post, bytes of UTF-8", limits::POST_BYTES.to_string()),
        ("post, grapheme clusters", limits::POST_GRAPHEMES.to_string()),
        ("name of a person or room, grapheme clusters", limits::NAME_GRAPHEMES.to_string()),
        ("title of a room, grapheme clusters", limits::TITLE_GRAPHEMES.to_string()),
        ("emoji of a reaction, bytes of UTF-8", limits::EMOJI_BYTES.to_string()),
        ("posts in a snapshot or history page", limits::PAGE_POSTS.to_string()),
        ("events in a page", limits::PAGE_EVENTS.to_string()),
        ("rooms in a page", limits::PAGE_ROOMS.to_string()),
        ("people in a page or roster", limits::PAGE_PEOPLE.to_string()),
        ("rooms one connection follows in full", limits::OPEN_ROOMS.to_string()),
        ("rooms one person is a member of", limits::JOINED_ROOMS.to_string()),
        ("events behind, above which a room jumps", limits::JUMP_EVENTS.to_string()),
        ("sends that wait for their answer", limits::SEND_WINDOW.to_string()),
        ("other requests that wait for their answer", limits::PENDING_REQUESTS.to_string()),
        ("reason of a close frame, bytes", limits::CLOSE_REASON_BYTES.to_string()),
        ("depth of JSON", limits::JSON_DEPTH.to_string()),
    ];
    table("limit", rows)
}

/// The times a client keeps to, as a table, in milliseconds.
pub(crate) fn times_table() -> String {
    let terms = HeartbeatTerms::default();
    let rows: &[(&str, String)] = &[
        ("for the socket to open", session::CONNECT_TIMEOUT_MS.to_string()),
        ("for the welcome after the hello", session::WELCOME_TIMEOUT_MS.to_string()),
        ("between beats, page visible (told in the welcome)", terms.interval_ms.to_string()),
        ("between beats, page hidden (told in the welcome)", terms.hidden_interval_ms.to_string()),
        ("for the answer to a beat (told in the welcome)", terms.answer_ms.to_string()),
        ("for the answer to a beat right after a wake", session::WAKE_ANSWER_MS.to_string()),
        ("a timer later than this was held back", session::LATE_TIMER_MS.to_string()),
        ("until an acknowledgement is late and the link is probed", session::ACK_LATE_MS.to_string()),
        ("first reconnect wait, upper end", session::BACKOFF_BASE_MS.to_string()),
        ("longest reconnect wait", session::BACKOFF_CAP_MS.to_string()),
        ("least reconnect wait after \"reconnect slowly\"", close::SLOW_RECONNECT_MS.to_string()),
        ("longest spread a client believes", session::SPREAD_CAP_MS.to_string()),
        ("longest announced restart a client believes", session::DRAIN_WAIT_CAP_MS.to_string()),
        ("a connection that lasted this long clears the backoff", session::STABLE_MS.to_string()),
        ("\"at once\" is drawn from zero to this", session::AT_ONCE_JITTER_MS.to_string()),
        ("first wait after a retryable refusal without `retry_after_ms`", session::RESEND_MS.to_string()),
        ("longest wait after a retryable refusal", session::RESEND_CAP_MS.to_string()),
        ("between two `typing` commands, at least", TYPING_EVERY_MS.to_string()),
        ("a `typing` event is shown", TYPING_SHOWN_MS.to_string()),
    ];
    table("time, ms", rows)
}

fn table(head: &str, rows: &[(&str, String)]) -> String {
    let mut table = format!("| {head} | value |\n|---|---|\n");
    for (name, value) in rows {
        writeln!(table, "| {name} | {value} |").unwrap();
    }
    table
}
