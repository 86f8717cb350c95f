//! Days of a page, without a browser: actions and the session's words in, states and effects out.

use std::collections::BTreeMap;

use shared::close::StopReason;
use shared::cursor::{Check, Position};
use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, ConnectionId, Epoch, Lsn, RoomId, Seq, UserId};
use shared::message::{Ack, Command as WireCommand, Reply, WireLimits};
use shared::model::{
    OpenOutcome, Opened, Person, Posted, RoomChange, RoomEvent, RoomSummary, ServerInfo, Snapshot, UserChange,
    UserEvent,
};
use shared::session::{Command, ConnectionState, OutboxItem, RequestTag, SendOp, SessionEvent};
use shared::time::Timestamp;

use super::*;
use crate::store::{Action, Dialog, Form, Place, State};
use crate::words::{Language, Local};

const WALL: u64 = 1_795_000_000_000;

fn me() -> Person {
    Person { id: UserId::from_bytes([7; 16]), name: "Robin".into() }
}

fn other() -> Person {
    Person { id: UserId::from_bytes([8; 16]), name: "Kim".into() }
}

fn room_id(n: u8) -> RoomId {
    RoomId::from_bytes([n; 16])
}

fn summary(n: u8, name: &str, posts: u64, read: u64) -> RoomSummary {
    RoomSummary {
        room: room_id(n),
        name: name.into(),
        title: String::new(),
        joined: true,
        members: 2,
        head: Seq(posts),
        posts,
        read,
    }
}

/// A page and its clock.
struct Page {
    model: Model,
    now: u64,
    ids: u8,
}

impl Page {
    fn at(path: &str) -> Self {
        let birth = Birth {
            now: Timestamp(0),
            language: Language::English,
            theme: Theme::System,
            path: path.into(),
            last_room: None,
            build: "test",
            hidden: false,
        };
        let mut page = Self { model: Model::new(&birth), now: 0, ids: 0 };
        page.step(|model, ctx| model.signed_in(me(), ctx));
        page
    }

    /// A page that is live in `general`, with `build` beside it.
    fn live() -> Self {
        let mut page = Self::at("/");
        page.welcome(vec![summary(1, "general", 3, 3), summary(2, "build", 5, 2)]);
        page.open(1, 3);
        page.hear(SessionEvent::State(ConnectionState::Live));
        page
    }

    fn step(&mut self, step: impl FnOnce(&mut Model, &mut Ctx<'_>)) -> Vec<Effect> {
        let ids = &mut self.ids;
        let mut new_id = || {
            *ids += 1;
            ClientId::from_bytes([*ids; 16])
        };
        let mut ctx = Ctx { now: Timestamp(self.now), wall: Timestamp(WALL + self.now), new_id: &mut new_id };
        step(&mut self.model, &mut ctx);
        self.model.take_effects()
    }

    fn act(&mut self, action: Action) -> Vec<Effect> {
        self.step(|model, ctx| model.act(action, ctx))
    }

    fn hear(&mut self, event: SessionEvent) -> Vec<Effect> {
        self.step(|model, ctx| model.hear(event, ctx))
    }

    fn state(&mut self) -> State {
        let local = Local { wall: Timestamp(WALL + self.now), utc_offset_min: 0 };
        self.model.publish(Timestamp(self.now), local)
    }

    fn welcome(&mut self, rooms: Vec<RoomSummary>) -> Vec<Effect> {
        self.hear(SessionEvent::Welcomed {
            you: me(),
            rooms,
            complete: true,
            limits: WireLimits::default(),
            server: ServerInfo { epoch: Epoch::from_bytes([1; 16]), build: "1".into(), lsn: Lsn(1) },
            connection: ConnectionId(1),
        })
    }

    fn open(&mut self, room: u8, total: u64) {
        let as_of = Position { epoch: Epoch::from_bytes([1; 16]), seq: Seq(total), check: Check([0; 8]) };
        let snapshot = Snapshot { as_of, total, posts: Vec::new(), people: Vec::new() };
        self.hear(SessionEvent::Opened(Opened {
            room: room_id(room),
            outcome: OpenOutcome::Fresh { snapshot },
            roster: Vec::new(),
            members: 2,
        }));
    }

    fn posted(&mut self, room: u8, seq: u64, by: Person) -> Vec<Effect> {
        self.hear(SessionEvent::Room(RoomEvent {
            room: room_id(room),
            seq: Seq(seq),
            check: Check([0; 8]),
            posts: seq,
            ts: Timestamp(WALL),
            by,
            change: RoomChange::Posted(Posted { client_id: ClientId::from_bytes([99; 16]), body: Some("hi".into()) }),
        }))
    }

    fn answer(&mut self, effects: &[Effect], result: Result<Reply, WireError>) -> Vec<Effect> {
        self.hear(SessionEvent::Answer { tag: tag_of(effects), result })
    }
}

fn tag_of(effects: &[Effect]) -> RequestTag {
    let tag = effects.iter().find_map(|effect| match effect {
        Effect::Session(Command::Request { tag, .. }) => Some(*tag),
        _ => None,
    });
    tag.expect("something was asked")
}

fn gone_to(effects: &[Effect]) -> Option<(&str, bool)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Go { path, replace } => Some((path.as_str(), *replace)),
        _ => None,
    })
}

fn opened(effects: &[Effect]) -> Option<RoomId> {
    effects.iter().find_map(|effect| match effect {
        Effect::Session(Command::Open { room, .. }) => Some(*room),
        _ => None,
    })
}

fn sent(effects: &[Effect]) -> Option<(ClientId, &SendOp)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Session(Command::Send { client_id, op, .. }) => Some((*client_id, op)),
        _ => None,
    })
}

fn item(client_id: ClientId, body: &str) -> OutboxItem {
    OutboxItem {
        client_id,
        room: room_id(1),
        op: SendOp::Post { body: body.into() },
        queued_at: Timestamp(WALL),
        order: 1,
        attempted: false,
        refused: None,
    }
}

#[test]
fn the_default_room_opens_by_itself() {
    let mut page = Page::at("/");
    let effects = page.welcome(vec![summary(2, "build", 0, 0), summary(1, "general", 0, 0)]);
    assert_eq!(gone_to(&effects), Some(("/r/general", true)));
    assert_eq!(opened(&effects), Some(room_id(1)));
    let state = page.state();
    assert_eq!(state.place, Place::Room(room_id(1)));
    assert_eq!(state.rooms.iter().map(|row| row.summary.name.as_str()).collect::<Vec<_>>(), ["general", "build"]);
}

#[test]
fn the_default_room_is_joined_without_asking_where_one_is_not_in_it() {
    let mut page = Page::at("/");
    let asked = page.welcome(Vec::new());
    assert!(matches!(&page.state().place, Place::Looking { name } if name == "general"));
    let general = RoomSummary { joined: false, ..summary(1, "general", 9, 0) };
    let join = page.answer(&asked, Ok(Reply::Room(general.clone())));
    assert!(
        join.iter()
            .any(|effect| matches!(effect, Effect::Session(Command::Request { command: WireCommand::Join(_), .. })))
    );
    let effects = page.answer(&join, Ok(Reply::Room(RoomSummary { joined: true, ..general })));
    assert_eq!(opened(&effects), Some(room_id(1)));
}

#[test]
fn the_address_of_a_public_room_asks_before_it_joins() {
    let mut page = Page::at("/r/secret%20plans");
    let asked = page.welcome(vec![summary(1, "general", 0, 0)]);
    let found = RoomSummary { joined: false, ..summary(3, "secret plans", 4, 0) };
    let effects = page.answer(&asked, Ok(Reply::Room(found)));
    assert!(effects.is_empty(), "{effects:?}");
    assert!(matches!(page.state().place, Place::Door { busy: false, .. }));
    let join = page.act(Action::Join(room_id(3)));
    assert!(matches!(page.state().place, Place::Door { busy: true, .. }));
    page.answer(&join, Ok(Reply::Room(summary(3, "secret plans", 4, 4))));
    assert_eq!(page.state().place, Place::Room(room_id(3)));
}

#[test]
fn an_address_of_no_room_says_so_and_a_lost_question_is_asked_again() {
    let mut page = Page::at("/r/nowhere");
    let asked = page.welcome(Vec::new());
    page.answer(&asked, Err(WireError::new(ErrorCode::Unavailable, "lost")));
    assert!(matches!(page.state().place, Place::Looking { .. }));
    let again = page.welcome(Vec::new());
    page.answer(&again, Err(WireError::new(ErrorCode::NotFound, "no")));
    assert!(matches!(&page.state().place, Place::Missing { name } if name == "nowhere"));
}

#[test]
fn a_sent_draft_is_emptied_and_its_text_is_in_the_outbox() {
    let mut page = Page::live();
    let room = room_id(1);
    let typed = page.act(Action::SetDraft(room, "hello".into()));
    assert!(typed.iter().any(|effect| matches!(effect, Effect::SaveDraft(_, text) if text == "hello")));
    assert_eq!(page.model.draft_to_store(room), "hello");
    let before = page.state().draft.version;
    let effects = page.act(Action::Send(room, "hello\n".into()));
    assert_eq!(sent(&effects).unwrap().1, &SendOp::Post { body: "hello".into() });
    assert_eq!(page.model.draft_to_store(room), "");
    let draft = page.state().draft;
    assert!(draft.text.is_empty() && draft.version > before);
    assert!(page.model.would_lose(), "not on the device yet");
}

#[test]
fn nothing_but_blanks_is_not_sent() {
    let mut page = Page::live();
    assert!(sent(&page.act(Action::Send(room_id(1), " \n\t".into()))).is_none());
}

#[test]
fn a_post_too_long_stays_in_the_composer() {
    let mut page = Page::live();
    let long = "x".repeat(WireLimits::default().post_bytes as usize + 1);
    page.act(Action::SetDraft(room_id(1), long.clone()));
    assert!(sent(&page.act(Action::Send(room_id(1), long.clone()))).is_none());
    assert_eq!(page.state().draft.text, long);
    assert_eq!(page.state().notices.len(), 1);
}

#[test]
fn closing_the_page_warns_only_until_the_post_is_on_the_device() {
    let mut page = Page::live();
    let effects = page.act(Action::Send(room_id(1), "one".into()));
    let (client_id, _) = sent(&effects).unwrap();
    page.hear(SessionEvent::Queued(item(client_id, "one")));
    page.hear(SessionEvent::Sending(client_id));
    assert!(page.model.would_lose());
    page.hear(SessionEvent::Saved(client_id));
    assert!(!page.model.would_lose());
    assert_eq!(page.state().queued, 1);
    page.hear(SessionEvent::Acked(Ack {
        client_id,
        room: room_id(1),
        seq: Seq(4),
        ts: Timestamp(WALL),
        duplicate: false,
    }));
    assert_eq!(page.state().queued, 0);
}

#[test]
fn a_full_outbox_gives_the_text_back_before_what_is_written_since() {
    let mut page = Page::live();
    let effects = page.act(Action::Send(room_id(1), "one".into()));
    let (client_id, _) = sent(&effects).unwrap();
    page.act(Action::SetDraft(room_id(1), "two".into()));
    page.hear(SessionEvent::OutboxFull { client_id });
    assert_eq!(page.state().draft.text, "one\ntwo");
    assert_eq!(page.state().queued, 0);
}

#[test]
fn only_an_item_that_was_never_attempted_is_taken_back_into_the_composer() {
    let mut page = Page::live();
    let effects = page.act(Action::Send(room_id(1), "one".into()));
    let (client_id, _) = sent(&effects).unwrap();
    page.hear(SessionEvent::Queued(item(client_id, "one")));
    page.hear(SessionEvent::Sending(client_id));
    assert!(page.act(Action::CancelAndEdit(client_id)).is_empty());
    assert_eq!(page.state().draft.text, "");
}

#[test]
fn an_edit_borrows_the_composer_and_gives_the_draft_back() {
    let mut page = Page::live();
    page.posted(1, 4, me());
    page.act(Action::SetDraft(room_id(1), "later".into()));
    page.act(Action::BeginEdit(room_id(1), Seq(4)));
    let draft = page.state().draft;
    assert_eq!((draft.text.as_str(), draft.editing), ("hi", Some(Seq(4))));
    assert_eq!(page.model.draft_to_store(room_id(1)), "later", "an edit is not a draft");
    let effects = page.act(Action::Send(room_id(1), "hi!".into()));
    assert_eq!(sent(&effects).unwrap().1, &SendOp::Edit { post: Seq(4), body: "hi!".into() });
    assert_eq!(page.state().draft.text, "later");
    page.act(Action::BeginEdit(room_id(1), Seq(4)));
    let unchanged = page.act(Action::Send(room_id(1), "hi".into()));
    assert!(sent(&unchanged).is_none());
}

#[test]
fn unread_counts_what_others_wrote_and_shows_in_the_title() {
    let mut page = Page::live();
    assert_eq!(page.model.title(), "(3) general · Holdfast");
    page.posted(1, 4, other());
    assert_eq!(page.state().unread(), 4);
    let effects = page.act(Action::MarkRead(room_id(1), 4));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Session(Command::MarkRead { posts: 4, .. }))));
    page.posted(1, 5, me());
    assert_eq!(page.state().unread(), 3, "what I wrote I have read");
    page.hear(SessionEvent::Read(shared::message::ReadMark { room: room_id(2), posts: 5 }));
    assert_eq!(page.model.title(), "general · Holdfast");
}

#[test]
fn the_new_divider_is_frozen_while_the_room_is_shown() {
    let mut page = Page::live();
    page.act(Action::OpenRoom(room_id(2)));
    assert_eq!(page.state().view.unwrap().divider, Some(2));
    page.act(Action::MarkRead(room_id(2), 5));
    assert_eq!(page.state().view.unwrap().divider, Some(2));
    page.act(Action::OpenRoom(room_id(1)));
    page.act(Action::OpenRoom(room_id(2)));
    assert_eq!(page.state().view.unwrap().divider, None);
}

#[test]
fn the_room_not_visited_for_longest_is_followed_no_longer() {
    let mut page = Page::at("/");
    let rooms = (1..=ROOMS_FOLLOWED as u8 + 1).map(|n| summary(n, &format!("room-{n:02}"), 0, 0)).collect();
    page.welcome(rooms);
    let mut shut = Vec::new();
    for n in 1..=ROOMS_FOLLOWED as u8 + 1 {
        shut.extend(page.act(Action::OpenRoom(room_id(n))).into_iter().filter_map(|effect| match effect {
            Effect::Session(Command::Shut { room }) => Some(room),
            _ => None,
        }));
    }
    assert_eq!(shut, [room_id(1)]);
    assert_eq!(opened(&page.act(Action::OpenRoom(room_id(1)))), Some(room_id(1)), "followed anew when visited again");
}

#[test]
fn leaving_the_room_on_screen_shows_another_one() {
    let mut page = Page::live();
    page.act(Action::OpenRoom(room_id(2)));
    page.hear(SessionEvent::User(UserEvent {
        seq: Seq(1),
        check: Check([0; 8]),
        ts: Timestamp(WALL),
        change: UserChange::RoomRemoved(shared::model::RoomRemoved { room: room_id(2) }),
    }));
    assert_eq!(page.state().place, Place::Room(room_id(1)));
}

#[test]
fn a_refused_name_stays_in_its_dialog_with_a_suggestion() {
    let mut page = Page::live();
    let effects = page.act(Action::Rename("Kim".into()));
    assert!(matches!(page.state().dialog, Dialog::Rename(Form { busy: true, .. })));
    page.answer(&effects, Err(WireError::new(ErrorCode::NameTaken, "taken").suggest("Kim 2")));
    let Dialog::Rename(form) = page.state().dialog else { panic!("the dialog is gone") };
    assert_eq!(form.error.unwrap().suggestion.as_deref(), Some("Kim 2"));
}

#[test]
fn signing_out_asks_only_while_something_is_unsent() {
    let mut page = Page::live();
    assert!(page.act(Action::SignOut).iter().any(|effect| matches!(effect, Effect::SignOut)));
    let effects = page.act(Action::Send(room_id(1), "one".into()));
    let (client_id, _) = sent(&effects).unwrap();
    page.hear(SessionEvent::Queued(item(client_id, "one")));
    assert!(page.act(Action::SignOut).is_empty());
    assert_eq!(page.state().dialog, Dialog::SignOut { unsent: 1 });
    assert!(page.act(Action::SignOutAndDiscard).iter().any(|effect| matches!(effect, Effect::SignOut)));
}

#[test]
fn somebody_elses_sign_in_stops_this_page_and_keeps_its_posts() {
    let mut page = Page::live();
    let effects = page.act(Action::Send(room_id(1), "one".into()));
    page.hear(SessionEvent::Queued(item(sent(&effects).unwrap().0, "one")));
    let effects = page.step(|model, _| model.signed_in_elsewhere(Some(&me())));
    assert!(effects.is_empty(), "the same person in another tab is no news");
    let effects = page.step(|model, _| model.signed_in_elsewhere(Some(&other())));
    assert!(matches!(effects[..], [Effect::Remember(Setting::NoLonger(_)), Effect::EndSession]));
    let Phase::SignIn(form) = page.state().phase else { panic!("no form") };
    assert_eq!((form.because, form.kept), (SignInBecause::SomebodyElse, vec!["one".to_owned()]));
}

#[test]
fn an_ended_session_is_forgotten_by_the_browser_but_not_what_is_unsent() {
    let mut page = Page::live();
    let effects = page.hear(SessionEvent::State(ConnectionState::Stopped(StopReason::SignedOut)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Remember(Setting::NoLonger(id)) if *id == me().id)));
    assert_eq!(page.state().status.bar.unwrap().text, crate::words::Text::SessionEnded { unsent: 0 });
}

#[test]
fn what_an_ended_session_can_no_longer_send_is_shown_in_order_until_it_is_discarded() {
    let mut page = Page::live();
    for text in ["one", "two"] {
        let effects = page.act(Action::Send(room_id(1), text.into()));
        let (client_id, _) = sent(&effects).unwrap();
        page.now += 1;
        page.hear(SessionEvent::Queued(OutboxItem { order: page.now, ..item(client_id, text) }));
    }
    page.act(Action::React(room_id(1), Seq(1), "👍".into(), true));
    page.act(Action::SetDraft(room_id(2), "half a thought".into()));
    page.hear(SessionEvent::State(ConnectionState::Stopped(StopReason::SignedOut)));
    page.act(Action::SignInAgain);
    let Phase::SignIn(form) = page.state().phase else { panic!("no form") };
    assert_eq!(
        (form.because, form.kept),
        (SignInBecause::Ended, ["one", "two", "half a thought"].map(String::from).into())
    );
    let effects = page.act(Action::DiscardKept);
    assert!(matches!(effects[..], [Effect::EndSession, Effect::DiscardKept]), "{effects:?}");
    let Phase::SignIn(form) = page.state().phase else { panic!("no form") };
    assert!(form.kept.is_empty() && !page.model.would_lose());
}

#[test]
fn what_a_session_left_that_ended_before_this_page_began_is_shown_too() {
    let mut page = Page::at("/");
    page.step(|model, _| model.ask_to_sign_in(SignInBecause::New, None, Vec::new()));
    page.step(|model, _| model.kept_found(Vec::new()));
    let Phase::SignIn(form) = page.state().phase else { panic!("no form") };
    assert_eq!(form.because, SignInBecause::New);
    page.step(|model, _| model.kept_found(vec!["old".into()]));
    let Phase::SignIn(form) = page.state().phase else { panic!("no form") };
    assert_eq!((form.because, form.kept), (SignInBecause::Ended, vec!["old".to_owned()]));
}

#[test]
fn drafts_found_on_the_device_do_not_overwrite_what_is_being_written() {
    let mut page = Page::live();
    page.act(Action::SetDraft(room_id(1), "new".into()));
    let found = BTreeMap::from([(room_id(1), "old".to_owned()), (room_id(2), "kept".to_owned())]);
    page.step(|model, _| model.drafts_found(found));
    assert_eq!(page.model.draft_to_store(room_id(1)), "new");
    assert_eq!(page.model.draft_to_store(room_id(2)), "kept");
    assert!(page.state().room(room_id(2)).unwrap().draft);
}

#[test]
fn being_back_is_told_only_after_a_bar() {
    let mut page = Page::live();
    page.now = 10_000;
    page.hear(SessionEvent::State(ConnectionState::Trying { attempts: 1, restarting: false }));
    page.now = 12_000;
    page.hear(SessionEvent::Recovered { received: 1, sent: 0 });
    page.hear(SessionEvent::State(ConnectionState::Live));
    assert_eq!(page.state().status.bar, None, "two seconds were a pill");
    page.now = 20_000;
    page.hear(SessionEvent::State(ConnectionState::Offline));
    page.now = 20_500;
    page.hear(SessionEvent::State(ConnectionState::Trying { attempts: 1, restarting: false }));
    assert!(page.state().status.bar.is_some(), "the bar does not flicker");
    page.now = 21_000;
    page.hear(SessionEvent::Recovered { received: 4, sent: 2 });
    page.hear(SessionEvent::State(ConnectionState::Live));
    assert_eq!(page.state().status.bar.unwrap().text, crate::words::Text::BackOnline { received: 4, sent: 2 });
    page.now = 23_000;
    assert_eq!(page.state().status.bar, None);
}

#[test]
fn parts_that_did_not_change_are_the_same_parts() {
    let mut page = Page::live();
    let before = page.state();
    page.hear(SessionEvent::RoundTrip { ms: 12 });
    let after = page.state();
    assert!(Rc::ptr_eq(&before.rooms, &after.rooms));
    assert!(Rc::ptr_eq(before.view.as_ref().unwrap(), after.view.as_ref().unwrap()));
    assert!(!Rc::ptr_eq(&before.panel, &after.panel));
    assert!(!before.looks_like(&after));
    page.now += 60_000;
    assert!(after.looks_like(&page.state()), "the clock alone draws nothing");
}

#[test]
fn a_page_that_comes_back_looks_for_a_newer_version_of_itself_at_most_once_a_minute() {
    let mut page = Page::at("/");
    let mut looks_at = |now| {
        page.now = now;
        page.welcome(Vec::new()).iter().any(|effect| matches!(effect, Effect::CheckVersion))
    };
    assert!(!looks_at(1_000), "the first welcome follows the download");
    assert!(looks_at(61_000));
    assert!(!looks_at(90_000));
    assert!(looks_at(121_000));
    assert!(page.state().status.bar.is_none());
    page.hear(SessionEvent::State(ConnectionState::Live));
    page.model.new_version();
    let bar = page.state().status.bar.unwrap();
    assert_eq!((bar.text, bar.action), (crate::words::Text::NewVersion, Some(crate::status::BarAction::Reload)));
}

#[test]
fn diagnostics_hold_neither_bodies_nor_names() {
    let mut page = Page::live();
    page.act(Action::SetDraft(room_id(1), "a secret draft".into()));
    page.act(Action::Send(room_id(1), "a secret post".into()));
    page.hear(SessionEvent::Diagnostic(shared::session::Diagnostic {
        at: Timestamp(0),
        attempt: shared::ids::AttemptId(3),
        what: shared::session::Happened::Closed { code: 1012, reason: "drain".into(), by_us: false },
    }));
    let effects = page.act(Action::CopyDiagnostics);
    let [Effect::Copy(text)] = &effects[..] else { panic!("{effects:?}") };
    assert!(text.contains("#3 Closed by the other side, 1012") && text.contains("unsent 1"), "{text}");
    for secret in ["secret", "Robin", "general"] {
        assert!(!text.contains(secret), "{text}");
    }
}
