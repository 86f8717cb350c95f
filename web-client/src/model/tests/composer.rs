//! Days of a page that writes: drafts, sends, edits, and what is taken back.
//!
//! Must not live here: the outbox, which is the session's. Invariant: a text is in the composer or on its way, never in
//! both and never in neither.

use super::*;

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
fn closing_the_page_warns_again_once_the_device_has_lost_the_post() {
    let mut page = Page::live();
    let effects = page.act(Action::Send(room_id(1), "one".into()));
    let (client_id, _) = sent(&effects).unwrap();
    page.act(Action::SetDraft(room_id(1), "half a thought".into()));
    page.hear(SessionEvent::Queued(item(client_id, "one")));
    page.hear(SessionEvent::Saved(client_id));
    let effects = page.step(|model, _| model.erased());
    assert!(page.model.would_lose());
    assert!(matches!(&effects[..], [Effect::SaveDraft(_, text)] if text == "half a thought"), "{effects:?}");
    page.hear(SessionEvent::Saved(client_id));
    assert!(!page.model.would_lose());
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
    assert_eq!((draft.text.as_str(), draft.editing.map(|post| post.seq)), ("hi", Some(Seq(4))));
    assert_eq!(page.model.draft_to_store(room_id(1)), "later", "an edit is not a draft");
    let effects = page.act(Action::Send(room_id(1), "hi!".into()));
    let meant = PostRef { seq: Seq(4), client_id: Some(ClientId::from_bytes([99; 16])) };
    assert_eq!(sent(&effects).unwrap().1, &SendOp::Edit { post: meant, body: "hi!".into() });
    assert_eq!(page.state().draft.text, "later");
    page.act(Action::BeginEdit(room_id(1), Seq(4)));
    let unchanged = page.act(Action::Send(room_id(1), "hi".into()));
    assert!(sent(&unchanged).is_none());
}

#[test]
fn drafts_found_on_the_device_do_not_overwrite_what_is_being_written() {
    let mut page = Page::live();
    page.act(Action::SetDraft(room_id(1), "new".into()));
    let found = SortedMap::from_iter([(room_id(1), "old".to_owned()), (room_id(2), "kept".to_owned())]);
    page.step(|model, _| model.drafts_found(found));
    assert_eq!(page.model.draft_to_store(room_id(1)), "new");
    assert_eq!(page.model.draft_to_store(room_id(2)), "kept");
    assert!(page.state().room(room_id(2)).unwrap().draft);
}

#[test]
fn a_draft_found_while_a_post_is_edited_waits_for_the_end_of_the_edit() {
    let mut page = Page::live();
    page.posted(1, 4, me());
    page.act(Action::BeginEdit(room_id(1), Seq(4)));
    page.step(|model, _| model.drafts_found(SortedMap::from_iter([(room_id(1), "kept".to_owned())])));
    assert_eq!(page.state().draft.text, "hi");
    // What is stored with the next post is this, so it must not be empty.
    assert_eq!(page.model.draft_to_store(room_id(1)), "kept");
    page.act(Action::CancelEdit(room_id(1)));
    assert_eq!(page.state().draft.text, "kept");
}

#[test]
fn an_edit_goes_on_from_the_one_that_is_still_on_its_way() {
    let mut page = Page::live();
    page.posted(1, 4, me());
    let edit = |page: &mut Page, from: &str, to: &str| {
        page.act(Action::BeginEdit(room_id(1), Seq(4)));
        assert_eq!(page.state().draft.text, from);
        let effects = page.act(Action::Send(room_id(1), to.into()));
        let (client_id, op) = sent(&effects)?;
        let queued = OutboxItem { op: op.clone(), order: u64::from(page.ids), ..item(client_id, to) };
        page.hear(SessionEvent::Queued(queued));
        Some(client_id)
    };
    let first = edit(&mut page, "hi", "ho").unwrap();
    assert_eq!(edit(&mut page, "ho", "ho"), None, "unchanged");
    edit(&mut page, "ho", "hi").expect("back to the text from before is a change of the edit on its way");
    page.hear(SessionEvent::Refused { client_id: first, error: WireError::new(ErrorCode::Forbidden, "no") });
    assert_eq!(edit(&mut page, "hi", "hi"), None, "a refused edit is not on its way");
}

#[test]
fn a_text_taken_back_while_a_post_is_edited_waits_beside_the_edit() {
    let mut page = Page::live();
    page.posted(1, 4, me());
    let effects = page.act(Action::Send(room_id(1), "one".into()));
    let (client_id, _) = sent(&effects).unwrap();
    page.hear(SessionEvent::Queued(item(client_id, "one")));
    page.act(Action::BeginEdit(room_id(1), Seq(4)));
    page.act(Action::SetDraft(room_id(1), "hi, but longer".into()));
    page.act(Action::CancelAndEdit(client_id));
    let draft = page.state().draft;
    assert_eq!((draft.text.as_str(), draft.editing.map(|post| post.seq)), ("hi, but longer", Some(Seq(4))));
    page.act(Action::CancelEdit(room_id(1)));
    assert_eq!(page.state().draft.text, "one");
}
