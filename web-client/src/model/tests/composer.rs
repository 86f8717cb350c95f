//! Days of a page that writes: drafts, sends, edits, and what is taken back.
//!
//! Must not live here: the outbox, which is the session's. Invariant: a text is in the composer or on its way, never in
//! both and never in neither.

use super::*;

/// What [`Page::posted`] tells of as the fourth.
const POSTED: PostRef = PostRef { seq: Seq(4), client_id: Some(ClientId::from_bytes([99; 16])) };

#[test]
fn a_sent_draft_is_emptied_and_its_text_is_in_the_outbox() {
    let mut page = Page::live();
    let room = room_id(1);
    let typed = page.act(Action::SetDraft(room, "hello".into(), DRAWN));
    assert!(typed.iter().any(|effect| matches!(effect, Effect::SaveDraft(_, text) if text == "hello")));
    assert_eq!(page.model.draft_to_store(room), "hello");
    let before = page.state().draft.version;
    let effects = page.act(Action::Send(room, "hello\n".into(), DRAWN));
    assert_eq!(sent(&effects).unwrap().1, &SendOp::Post { body: "hello".into() });
    assert_eq!(page.model.draft_to_store(room), "");
    let draft = page.state().draft;
    assert!(draft.text.is_empty() && draft.version > before);
    assert!(page.model.would_lose(), "not on the device yet");
}

#[test]
fn nothing_but_blanks_is_not_sent() {
    let mut page = Page::live();
    assert!(sent(&page.act(Action::Send(room_id(1), " \n\t".into(), DRAWN))).is_none());
}

#[test]
fn a_post_too_long_stays_in_the_composer() {
    let mut page = Page::live();
    let long = "x".repeat(WireLimits::default().post_bytes as usize + 1);
    page.act(Action::SetDraft(room_id(1), long.clone(), DRAWN));
    assert!(sent(&page.act(Action::Send(room_id(1), long.clone(), DRAWN))).is_none());
    assert_eq!(page.state().draft.text, long);
    assert_eq!(page.state().notices.len(), 1);
}

#[test]
fn closing_the_page_warns_only_until_the_post_is_on_the_device() {
    let mut page = Page::live();
    let effects = page.act(Action::Send(room_id(1), "one".into(), DRAWN));
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
    let effects = page.act(Action::Send(room_id(1), "one".into(), DRAWN));
    let (client_id, _) = sent(&effects).unwrap();
    page.act(Action::SetDraft(room_id(1), "half a thought".into(), DRAWN));
    page.hear(SessionEvent::Queued(item(client_id, "one")));
    page.hear(SessionEvent::Saved(client_id));
    let effects = page.step(|model, _| model.erased());
    assert!(page.model.would_lose());
    assert!(matches!(&effects[..], [Effect::SaveDraft(_, text)] if text == "half a thought"), "{effects:?}");
    page.hear(SessionEvent::Saved(client_id));
    assert!(!page.model.would_lose());
}

#[test]
fn closing_the_page_warns_while_an_edit_differs_from_its_post_for_it_is_never_on_the_device() {
    let mut page = Page::live();
    page.posted(1, 4, me());
    page.act(Action::BeginEdit(room_id(1), POSTED));
    assert!(!page.model.would_lose());
    page.act(Action::SetDraft(room_id(1), "hi, but".into(), DRAWN));
    assert!(page.model.would_lose());
    page.act(Action::OpenRoom(room_id(2)));
    assert!(page.model.would_lose(), "in whichever room");
    page.act(Action::CancelEdit(room_id(1)));
    assert!(!page.model.would_lose());
}

#[test]
fn closing_the_page_warns_of_a_draft_where_the_device_keeps_none() {
    let mut page = Page::live();
    page.step(|model, _| model.storage(false));
    page.act(Action::SetDraft(room_id(2), " \n".into(), DRAWN));
    assert!(!page.model.would_lose());
    page.act(Action::SetDraft(room_id(2), "half a thought".into(), DRAWN));
    assert!(page.model.would_lose());
    page.step(|model, _| model.storage(true));
    assert!(!page.model.would_lose());
}

#[test]
fn a_full_outbox_gives_the_text_back_before_what_is_written_since() {
    let mut page = Page::live();
    let effects = page.act(Action::Send(room_id(1), "one".into(), DRAWN));
    let (client_id, _) = sent(&effects).unwrap();
    page.act(Action::SetDraft(room_id(1), "two".into(), DRAWN));
    page.hear(SessionEvent::OutboxFull { client_id });
    assert_eq!(page.state().draft.text, "one\ntwo");
    assert_eq!(page.state().queued, 0);
}

#[test]
fn only_an_item_that_was_never_attempted_is_taken_back_into_the_composer() {
    let mut page = Page::live();
    let effects = page.act(Action::Send(room_id(1), "one".into(), DRAWN));
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
    page.act(Action::SetDraft(room_id(1), "later".into(), DRAWN));
    page.act(Action::BeginEdit(room_id(1), POSTED));
    let draft = page.state().draft;
    assert_eq!((draft.text.as_str(), draft.editing.map(|post| post.seq)), ("hi", Some(Seq(4))));
    assert_eq!(page.model.draft_to_store(room_id(1)), "later", "an edit is not a draft");
    let effects = page.act(Action::Send(room_id(1), "hi!".into(), DRAWN));
    assert_eq!(sent(&effects).unwrap().1, &SendOp::Edit { post: POSTED, body: "hi!".into() });
    assert_eq!(page.state().draft.text, "later");
    page.act(Action::BeginEdit(room_id(1), POSTED));
    let unchanged = page.act(Action::Send(room_id(1), "hi".into(), DRAWN));
    assert!(sent(&unchanged).is_none());
}

#[test]
fn drafts_found_on_the_device_do_not_overwrite_what_is_being_written() {
    let mut page = Page::live();
    page.act(Action::SetDraft(room_id(1), "new".into(), DRAWN));
    let found = SortedMap::from_iter([(room_id(1), "old".to_owned()), (room_id(2), "kept".to_owned())]);
    page.step(|model, _| model.drafts_found(found));
    assert_eq!(page.model.draft_to_store(room_id(1)), "new");
    assert_eq!(page.model.draft_to_store(room_id(2)), "kept");
    assert!(page.state().room(room_id(2)).unwrap().draft);
}

#[test]
fn a_text_that_was_sent_does_not_come_back_as_a_draft_when_the_device_is_opened_again() {
    let found = || SortedMap::from_iter([(room_id(1), "hello".to_owned())]);
    let mut page = Page::live();
    page.step(|model, _| model.drafts_found(found()));
    assert_eq!(page.state().draft.text, "hello");
    page.act(Action::Send(room_id(1), "hello".into(), DRAWN));
    page.step(|model, _| model.drafts_found(found()));
    assert_eq!((page.state().draft.text.as_str(), page.model.draft_to_store(room_id(1))), ("", ""));
    page.step(|model, _| model.signed_out());
    page.step(|model, ctx| model.signed_in(me(), ctx));
    page.step(|model, _| model.drafts_found(found()));
    page.welcome(vec![summary(1, "general", 3, 3)]);
    assert_eq!(page.state().draft.text, "hello", "of another person, nothing is known yet");
}

#[test]
fn a_draft_found_while_a_post_is_edited_waits_for_the_end_of_the_edit() {
    let mut page = Page::live();
    page.posted(1, 4, me());
    page.act(Action::BeginEdit(room_id(1), POSTED));
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
        page.act(Action::BeginEdit(room_id(1), POSTED));
        assert_eq!(page.state().draft.text, from);
        let effects = page.act(Action::Send(room_id(1), to.into(), DRAWN));
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
    let effects = page.act(Action::Send(room_id(1), "one".into(), DRAWN));
    let (client_id, _) = sent(&effects).unwrap();
    page.hear(SessionEvent::Queued(item(client_id, "one")));
    page.act(Action::BeginEdit(room_id(1), POSTED));
    page.act(Action::SetDraft(room_id(1), "hi, but longer".into(), DRAWN));
    page.act(Action::CancelAndEdit(client_id));
    let draft = page.state().draft;
    assert_eq!((draft.text.as_str(), draft.editing.map(|post| post.seq)), ("hi, but longer", Some(Seq(4))));
    page.act(Action::CancelEdit(room_id(1)));
    assert_eq!(page.state().draft.text, "one");
}

/// Queues an edit of what [`Page::posted`] told of, as the session does, and has it refused.
fn refused_edit(page: &mut Page, body: &str) -> ClientId {
    page.act(Action::BeginEdit(room_id(1), POSTED));
    let effects = page.act(Action::Send(room_id(1), body.into(), DRAWN));
    let (client_id, op) = sent(&effects).unwrap();
    page.hear(SessionEvent::Queued(OutboxItem { op: op.clone(), ..item(client_id, body) }));
    page.hear(SessionEvent::Refused { client_id, error: WireError::new(ErrorCode::Forbidden, "no") });
    client_id
}

#[test]
fn what_is_typed_before_the_end_of_an_edit_is_drawn_comes_behind_the_draft_that_comes_back() {
    let mut page = Page::live();
    page.posted(1, 4, me());
    page.act(Action::SetDraft(room_id(1), "later".into(), DRAWN));
    page.act(Action::BeginEdit(room_id(1), POSTED));
    let drawn = page.state().draft.version;
    page.act(Action::Send(room_id(1), "hi!".into(), drawn));
    let published = page.state().draft;
    assert_eq!(published.text, "later");
    let effects = page.act(Action::SetDraft(room_id(1), "a".into(), drawn));
    assert!(matches!(&effects[0], Effect::SaveDraft(_, text) if text == "later\na"), "{effects:?}");
    assert!(
        page.state().draft.version > published.version,
        "that frame takes it off the screen, the next brings it back"
    );
    page.act(Action::SetDraft(room_id(1), "ab".into(), drawn));
    let draft = page.state().draft;
    assert_eq!((draft.text.as_str(), draft.editing), ("later\nab", None));
    assert!(draft.version > drawn, "it is drawn");
    page.act(Action::SetDraft(room_id(1), "later!".into(), draft.version - 1));
    assert_eq!(page.state().draft.text, "later!", "the frame before had the draft already");
    let draft = page.state().draft;
    page.act(Action::SetDraft(room_id(1), "ab".into(), draft.version));
    assert_eq!(page.state().draft.text, "ab", "what was drawn can be deleted");
}

#[test]
fn what_is_sent_before_the_end_of_an_edit_is_drawn_leaves_the_draft_that_comes_back() {
    let mut page = Page::live();
    page.posted(1, 4, me());
    page.act(Action::SetDraft(room_id(1), "later".into(), DRAWN));
    page.act(Action::BeginEdit(room_id(1), POSTED));
    let drawn = page.state().draft.version;
    page.act(Action::Send(room_id(1), "hi!".into(), drawn));
    page.act(Action::SetDraft(room_id(1), "a".into(), drawn));
    let effects = page.act(Action::Send(room_id(1), "a".into(), drawn));
    assert_eq!(sent(&effects).unwrap().1, &SendOp::Post { body: "a".into() });
    assert_eq!(page.state().draft.text, "later");
    assert_eq!(page.model.draft_to_store(room_id(1)), "later");
}

#[test]
fn what_is_sent_before_the_begin_of_an_edit_is_drawn_is_no_edit() {
    let mut page = Page::live();
    page.posted(1, 4, me());
    let drawn = page.state().draft.version;
    page.act(Action::BeginEdit(room_id(1), POSTED));
    assert!(sent(&page.act(Action::Send(room_id(1), "news".into(), drawn))).is_none());
    let draft = page.state().draft;
    assert_eq!((draft.text.as_str(), draft.editing), ("hi\nnews", Some(POSTED)));
}

#[test]
fn what_is_typed_right_after_an_enter_is_all_there_is_of_the_next_post() {
    let mut page = Page::live();
    let drawn = page.state().draft.version;
    page.act(Action::SetDraft(room_id(1), "one".into(), drawn));
    page.act(Action::Send(room_id(1), "one".into(), drawn));
    page.act(Action::SetDraft(room_id(1), "t".into(), drawn));
    page.act(Action::SetDraft(room_id(1), "tw".into(), drawn));
    assert_eq!(page.state().draft.text, "tw");
}

#[test]
fn a_text_taken_back_is_not_lost_to_what_is_typed_before_it_is_drawn() {
    let mut page = Page::live();
    let effects = page.act(Action::Send(room_id(1), "öne".into(), DRAWN));
    let (client_id, _) = sent(&effects).unwrap();
    page.hear(SessionEvent::Queued(item(client_id, "öne")));
    let drawn = page.state().draft.version;
    page.act(Action::SetDraft(room_id(1), "tw".into(), drawn));
    page.act(Action::CancelAndEdit(client_id));
    page.act(Action::SetDraft(room_id(1), "two".into(), drawn));
    assert_eq!(page.state().draft.text, "öne\ntwo");
}

#[test]
fn a_refused_edit_is_kept_while_another_is_being_written() {
    let mut page = Page::live();
    page.posted(1, 4, me());
    let refused = refused_edit(&mut page, "ho");
    page.act(Action::BeginEdit(room_id(1), POSTED));
    page.act(Action::SetDraft(room_id(1), "half an edit".into(), DRAWN));
    assert!(page.act(Action::DiscardAndEdit(refused)).is_empty());
    assert_eq!(page.state().draft.text, "half an edit");
    page.act(Action::CancelEdit(room_id(1)));
    assert!(!page.act(Action::DiscardAndEdit(refused)).is_empty());
    let draft = page.state().draft;
    assert_eq!((draft.text.as_str(), draft.editing), ("ho", Some(POSTED)));
}

/// A post of mine that is acknowledged as the fourth and whose event has not come.
fn landed(page: &mut Page) -> PostRef {
    let effects = page.act(Action::Send(room_id(1), "mine".into(), DRAWN));
    let (client_id, _) = sent(&effects).unwrap();
    page.hear(SessionEvent::Queued(item(client_id, "mine")));
    page.hear(SessionEvent::Sending(client_id));
    let (room, ts) = (room_id(1), Timestamp(WALL));
    page.hear(SessionEvent::Acked(Ack { client_id, room, seq: Seq(4), ts, duplicate: false }));
    let view = page.state().view.unwrap();
    let row = view.timeline.rows().last();
    row.as_ref().and_then(|row| row.as_post()).and_then(|post| post.named()).expect("its row names it")
}

#[test]
fn an_acknowledged_post_is_named_by_its_key_also_before_its_event() {
    let mut page = Page::live();
    let post = landed(&mut page);
    assert!(post.client_id.is_some() && post.seq == Seq(4), "{post:?}");
    let effects = page.act(Action::Delete(room_id(1), post));
    assert_eq!(sent(&effects).unwrap().1, &SendOp::Delete { post });
    page.act(Action::BeginEdit(room_id(1), post));
    let draft = page.state().draft;
    assert_eq!((draft.text.as_str(), draft.editing), ("mine", Some(post)));
}

#[test]
fn what_is_done_to_a_row_means_that_post_also_where_another_has_taken_its_place() {
    let mut page = Page::live();
    let post = landed(&mut page);
    let as_of = Position { epoch: Epoch::from_bytes([1; 16]), seq: Seq(3), check: Check([1; 8]) };
    let snapshot = Snapshot { as_of, total: 3, posts: Vec::new(), people: Vec::new() };
    let outcome = OpenOutcome::Reset { reason: shared::model::ResetReason::Forked, snapshot };
    page.hear(SessionEvent::Opened(Opened { room: room_id(1), outcome, roster: Vec::new(), members: 2 }));
    page.posted(1, 4, me());
    let view = page.state().view.unwrap();
    assert_eq!(view.timeline.post(Seq(4)).unwrap().named(), Some(POSTED));
    let effects = page.act(Action::React(room_id(1), post, "👍".into(), true));
    assert_eq!(sent(&effects).unwrap().1, &SendOp::React { post, emoji: "👍".into(), on: true });
    page.act(Action::BeginEdit(room_id(1), post));
    assert_eq!(page.state().draft.editing, None, "that post is not here");
}
