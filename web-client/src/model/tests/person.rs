//! Days of a page and its person: names, sessions that end, and what the page says of itself.
//!
//! Must not live here: rooms. Invariant: what one person wrote is never sent or shown as somebody else's.

use super::*;

#[test]
fn whoever_signs_in_after_somebody_signed_out_is_shown_the_same_room() {
    let mut page = Page::live();
    page.act(Action::OpenRoom(room_id(2)));
    page.step(|model, _| model.signed_out());
    page.step(|model, ctx| model.signed_in(me(), ctx));
    let effects = page.welcome(vec![summary(1, "general", 3, 3), summary(2, "build", 5, 2)]);
    assert_eq!((page.state().place.clone(), opened(&effects)), (Place::Room(room_id(2)), Some(room_id(2))));
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
fn signing_out_asks_first_and_says_how_much_it_discards() {
    let mut page = Page::live();
    assert!(page.act(Action::SignOut).is_empty());
    assert_eq!(page.state().dialog, Dialog::SignOut { unsent: 0 });
    page.act(Action::CloseDialog);
    let effects = page.act(Action::Send(room_id(1), "one".into(), DRAWN));
    let (client_id, _) = sent(&effects).unwrap();
    page.hear(SessionEvent::Queued(item(client_id, "one")));
    assert!(page.act(Action::SignOut).is_empty());
    assert_eq!(page.state().dialog, Dialog::SignOut { unsent: 1 });
    page.hear(SessionEvent::Refused { client_id, error: WireError::new(ErrorCode::PostTooLong, "no") });
    page.act(Action::SetDraft(room_id(1), "half a thought".into(), DRAWN));
    page.act(Action::React(room_id(1), Seq(1).into(), "👍".into(), true));
    page.act(Action::SignOut);
    assert_eq!(page.state().dialog, Dialog::SignOut { unsent: 3 }, "what was refused and a draft go, too");
    assert!(page.act(Action::SignOutForGood).iter().any(|effect| matches!(effect, Effect::SignOut)));
}

#[test]
fn somebody_elses_sign_in_stops_this_page_and_keeps_its_posts() {
    let mut page = Page::live();
    let effects = page.act(Action::Send(room_id(1), "one".into(), DRAWN));
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
        let effects = page.act(Action::Send(room_id(1), text.into(), DRAWN));
        let (client_id, _) = sent(&effects).unwrap();
        page.now += 1;
        page.hear(SessionEvent::Queued(OutboxItem { order: page.now, ..item(client_id, text) }));
    }
    page.act(Action::React(room_id(1), Seq(1).into(), "👍".into(), true));
    page.act(Action::SetDraft(room_id(2), "half a thought".into(), DRAWN));
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
    assert_eq!((bar.text, bar.action), (crate::words::Word::NewVersion.into(), Some(crate::status::BarAction::Reload)));
}

#[test]
fn diagnostics_hold_neither_bodies_nor_names() {
    let mut page = Page::live();
    page.act(Action::SetDraft(room_id(1), "a secret draft".into(), DRAWN));
    page.act(Action::Send(room_id(1), "a secret post".into(), DRAWN));
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

#[test]
fn the_last_write_says_whether_the_device_keeps_what_is_unsent() {
    use crate::store::StorageState;
    let mut page = Page::live();
    page.hear(SessionEvent::State(ConnectionState::Offline));
    page.step(|model, _| model.storage(false));
    page.step(|model, _| model.storage(true));
    let promised = page.state().status;
    page.step(|model, _| model.storage(false));
    // What the session tells is of a change, and may be of before the shelf was opened anew.
    page.hear(SessionEvent::Storage { ok: true });
    assert_eq!(page.state().storage, StorageState::Failed);
    assert_ne!(page.state().status, promised);
}

#[test]
fn no_refused_text_is_pushed_away_by_other_notices_and_each_has_its_turn() {
    use crate::store::NoticeKind;
    let mut page = Page::live();
    let leave = |page: &mut Page| {
        let change = UserChange::RoomRemoved(shared::model::RoomRemoved { room: room_id(1) });
        page.hear(SessionEvent::User(UserEvent { seq: Seq(1), check: Check([0; 8]), ts: Timestamp(WALL), change }));
    };
    leave(&mut page);
    let ids: Vec<ClientId> = (100..108).map(|n| ClientId::from_bytes([n; 16])).collect();
    for id in &ids {
        page.hear(SessionEvent::Queued(item(*id, "lost?")));
        let error = WireError::new(ErrorCode::NotMember, "no member");
        page.hear(SessionEvent::Refused { client_id: *id, error });
    }
    let shown = |page: &mut Page| -> Vec<Option<ClientId>> {
        page.state().notices.iter().map(|notice| notice.what.refused()).collect()
    };
    let told = |ids: &[ClientId]| ids.iter().copied().map(Some).collect::<Vec<_>>();
    assert_eq!(shown(&mut page), told(&ids[..NOTICES_SHOWN]));
    for _ in 0..20 {
        page.step(|model, ctx| model.copied(ctx.now));
        page.step(|model, ctx| model.sign_out_failed(SignInError::Unreachable, ctx.now));
    }
    let last = page.state().notices.last().unwrap().clone();
    assert!(matches!(last.what, NoticeKind::Refused(_)), "{last:?}");
    assert_eq!(shown(&mut page), [told(&ids[..NOTICES_SHOWN]), vec![None]].concat());
    page.now += NOTICE_SHOWN_MS;
    page.welcome(vec![summary(1, "general", 3, 3), summary(2, "build", 5, 2)]);
    leave(&mut page);
    for at in 0..ids.len() {
        assert_eq!(shown(&mut page), told(&ids[at..ids.len().min(at + NOTICES_SHOWN)]));
        page.hear(SessionEvent::Discarded(ids[at]));
    }
    assert!(page.state().notices.is_empty());
}
