//! The people of a room, through the public interface: who is listed, in which order, who is here and who writes.

mod common;

use common::{Deed, Room, room, user};
use shared::ids::Seq;
use shared::message::{PeopleList, TYPING_SHOWN_MS, TypingNow};
use shared::model::{Empty, Kicked, Member, OpenOutcome, Opened, Person, RoomChange, RoomEvent};
use shared::roster::{Roster, TYPING_KEPT};
use shared::time::Timestamp;

fn member(number: u8, name: &str, online: bool) -> Member {
    Member { id: user(number), name: name.to_owned(), online }
}

fn opened(head: u64, roster: Vec<Member>, members: u64) -> Opened {
    Opened { room: room(), outcome: OpenOutcome::Recovered { head: Seq(head), missed: 0 }, roster, members }
}

fn event(seq: u64, by: (u8, &str), change: RoomChange) -> RoomEvent {
    let mut room = Room::default();
    room.act(user(by.0), Deed::Post);
    let by = Person { id: user(by.0), name: by.1.to_owned() };
    RoomEvent { seq: Seq(seq), by, change, ..room.events.remove(0) }
}

fn names(roster: &Roster) -> Vec<String> {
    roster.people().map(|member| format!("{}{}", member.name, if member.online { "" } else { " (away)" })).collect()
}

fn typing(number: u8) -> TypingNow {
    TypingNow { room: room(), user: Person { id: user(number), name: format!("user {number}") } }
}

fn three_people() -> Roster {
    let mut roster = Roster::new(user(1), str::to_lowercase);
    let people = vec![member(3, "Zoë", true), member(2, "bo", false), member(1, "Ann", true)];
    roster.opened(&opened(10, people, 3));
    roster
}

#[test]
fn those_here_come_first_then_names_in_order_and_presence_moves_them() {
    let mut roster = three_people();
    assert_eq!(names(&roster), ["Ann", "Zoë", "bo (away)"]);
    assert_eq!((roster.online(), roster.members()), (2, 3));
    let version = roster.version();
    roster.presence(&[member(2, "bo", true), member(1, "Ann", false)]);
    assert_eq!(names(&roster), ["bo", "Zoë", "Ann (away)"]);
    assert!(roster.version() > version);
    assert_eq!(roster.find(user(1)).map(|member| member.online), Some(false));
}

#[test]
fn presence_of_people_of_other_rooms_adds_nobody() {
    let mut roster = three_people();
    let version = roster.version();
    roster.presence(&[member(8, "stranger", true)]);
    roster.presence(&[member(1, "Ann", true)]);
    assert_eq!((roster.len(), roster.version()), (3, version));
}

#[test]
fn joining_leaving_and_being_made_to_leave_are_counted_once() {
    let mut roster = three_people();
    roster.event(&event(9, (4, "dee"), RoomChange::Joined(Empty {})));
    assert_eq!(roster.members(), 3, "the roster was told at 10: it includes what came before");
    let joined = event(11, (4, "dee"), RoomChange::Joined(Empty {}));
    roster.event(&joined);
    roster.event(&joined);
    assert_eq!(names(&roster), ["Ann", "dee", "Zoë", "bo (away)"]);
    assert_eq!(roster.members(), 4);
    roster.event(&event(12, (2, "bo"), RoomChange::Left(Empty {})));
    let zoe = Person { id: user(3), name: "Zoë".to_owned() };
    roster.event(&event(13, (1, "Ann"), RoomChange::Kicked(Kicked { user: zoe })));
    assert_eq!(names(&roster), ["Ann", "dee"]);
    assert_eq!((roster.members(), roster.find(user(3))), (2, None));
}

#[test]
fn a_new_name_moves_a_person_and_keeps_them_here() {
    let mut roster = three_people();
    let mut room = Room::default();
    room.rename(user(3));
    roster.event(&RoomEvent { by: Person { id: user(3), name: "Aaron".to_owned() }, ..room.events.remove(0) });
    assert_eq!(names(&roster), ["Aaron", "Ann", "bo (away)"]);
}

#[test]
fn a_large_room_lists_what_it_was_told_and_counts_all() {
    let mut roster = Roster::new(user(1), str::to_lowercase);
    roster.opened(&opened(10, vec![member(1, "Ann", true)], 300));
    assert_eq!((roster.len(), roster.members()), (1, 300));
    let people = vec![member(5, "eve", false), member(1, "Ann", true)];
    roster.page(&PeopleList { room: room(), people, more: true });
    assert_eq!((names(&roster), roster.members()), (vec!["Ann".to_owned(), "eve (away)".to_owned()], 300));
    roster.event(&event(11, (77, "unlisted"), RoomChange::Left(Empty {})));
    assert_eq!((roster.len(), roster.members()), (2, 299));
}

#[test]
fn typing_runs_out_by_itself_ends_with_the_post_and_never_shows_me() {
    let mut roster = three_people();
    let now = Timestamp(1_000);
    roster.typing(&typing(1), now);
    roster.typing(&typing(2), now);
    roster.typing(&typing(3), now.plus(500));
    let writing = |roster: &Roster, now| roster.writing(now).map(|name| name.to_string()).collect::<Vec<_>>();
    assert_eq!(writing(&roster, now.plus(500)), ["user 2", "user 3"]);
    assert_eq!(roster.next_deadline(now.plus(500)), Some(now.plus(TYPING_SHOWN_MS)));
    assert_eq!(writing(&roster, now.plus(TYPING_SHOWN_MS)), ["user 3"]);
    let mut posted = Room::default();
    posted.act(user(3), Deed::Post);
    roster.event(&posted.events[0]);
    assert_eq!(writing(&roster, now.plus(600)), ["user 2"]);
    roster.presence(&[member(2, "bo", false)]);
    assert_eq!(writing(&roster, now.plus(600)), [""; 0]);
    assert_eq!(roster.next_deadline(now), None);
}

#[test]
fn a_crowd_that_writes_at_once_stays_bounded() {
    let mut roster = three_people();
    for number in 10..=255 {
        roster.typing(&typing(number), Timestamp(0));
    }
    assert_eq!(roster.writing(Timestamp(1)).count(), TYPING_KEPT);
}
