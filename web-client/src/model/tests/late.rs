//! Days of a page that is answered when the person does something else by then.
//!
//! Must not live here: what the session is told late. Invariant: an answer changes what waits for it and nothing else.

use super::*;
use crate::store::RoomsDialog;

#[test]
fn whoever_went_to_another_room_meanwhile_is_not_taken_out_of_it_by_the_one_they_joined() {
    let mut page = Page::at("/r/garden");
    let asked = page.welcome(vec![summary(1, "general", 0, 0)]);
    page.answer(&asked, Ok(Reply::Room(RoomSummary { joined: false, ..summary(3, "garden", 4, 0) })));
    let join = page.act(Action::Join(room_id(3)));
    page.act(Action::OpenRoom(room_id(1)));
    page.act(Action::SetDraft(room_id(1), "half a sen".into(), DRAWN));
    let effects = page.answer(&join, Ok(Reply::Room(summary(3, "garden", 4, 4))));
    assert_eq!((page.state().place, gone_to(&effects)), (Place::Room(room_id(1)), None));
    assert_eq!(page.state().draft.text, "half a sen");
    assert!(page.state().room(room_id(3)).is_some(), "joined is joined");
}

#[test]
fn an_answer_to_a_form_that_was_closed_closes_no_other_dialog() {
    type Step = fn(&mut Page) -> Vec<Effect>;
    let asks: [(Step, Reply); 2] = [
        (|page| page.act(Action::Rename("Kim".into())), Reply::Done(Default::default())),
        (
            |page| page.act(Action::CreateRoom { name: "garden".into(), title: String::new() }),
            Reply::Room(summary(3, "garden", 0, 0)),
        ),
    ];
    let others = [Dialog::Help, Dialog::Rename(Form::default()), Dialog::CreateRoom(Form::default())];
    for (ask, reply) in &asks {
        for other in &others {
            let refused = || Err(WireError::new(ErrorCode::NameTaken, "taken"));
            for (result, notices) in [(Ok(reply.clone()), 0), (refused(), 1)] {
                let mut page = Page::live();
                let asked = ask(&mut page);
                page.act(Action::CloseDialog);
                page.act(Action::Open(other.clone()));
                page.answer(&asked, result);
                let state = page.state();
                assert_eq!((&state.dialog, state.place), (other, Place::Room(room_id(1))));
                assert_eq!(state.notices.len(), notices, "a refusal is told of all the same");
            }
        }
    }
}

#[test]
fn a_list_that_was_closed_and_opened_again_holds_each_room_once() {
    let mut page = Page::live();
    let open = |page: &mut Page| page.act(Action::Open(Dialog::Rooms(RoomsDialog::default())));
    let first = open(&mut page);
    page.act(Action::CloseDialog);
    let second = open(&mut page);
    let piece = |names: [&str; 2], more| {
        let rooms = names.into_iter().zip(1..).map(|(name, n)| summary(n, name, 0, 0)).collect();
        Ok(Reply::Rooms(shared::message::RoomList { rooms, more }))
    };
    let shown = |page: &mut Page| {
        let Dialog::Rooms(dialog) = page.state().dialog else { panic!("no list") };
        dialog.rooms.iter().map(|room| room.name.clone()).collect::<Vec<_>>()
    };
    page.answer(&first, piece(["a", "b"], true));
    let more = page.act(Action::ListRooms);
    page.answer(&second, piece(["a", "b"], true));
    assert_eq!(shown(&mut page), ["a", "b"]);
    page.answer(&more, piece(["c", "d"], false));
    assert_eq!(shown(&mut page), ["a", "b", "c", "d"]);
}
