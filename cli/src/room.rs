//! From a room's name, as a person types it, to the room as a member.
//!
//! Must not live here: following the room. Invariant: a pure machine: events in, commands out; each durable request
//! keeps its key when it is asked again, so a repeated join or creation is one.

use shared::error::{ErrorCode, WireError};
use shared::ids::{ClientId, RoomId};
use shared::message::{self, CreateRoom, FindRoom, Membership, Reply};
use shared::model::RoomSummary;
use shared::session::{Command, ConnectionState, RequestTag, SessionEvent};

use crate::driver::ids;

/// The tag of the finder's requests. A command that makes requests of its own uses others.
const TAG: RequestTag = RequestTag(0);

/// Finds one room, makes it if asked to, and becomes a member.
#[derive(Debug)]
pub(crate) struct Finder {
    wanted: String,
    make: Option<ClientId>,
    join: ClientId,
    step: Step,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Find,
    Make,
    Join(RoomId),
    Done,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing yet.
    Wait,
    /// Ask this.
    Ask(Command),
    /// Here it is.
    Room(RoomSummary),
}

impl Finder {
    /// Starts looking for a room by its name or id.
    pub(crate) fn new(wanted: &str, make: bool) -> Self {
        let wanted = wanted.strip_prefix('#').unwrap_or(wanted).to_lowercase();
        Self { wanted, make: make.then(ids::client_id), join: ids::client_id(), step: Step::Find }
    }

    /// Takes an event.
    ///
    /// # Errors
    /// The server's refusal, for good.
    pub(crate) fn offer(&mut self, event: &SessionEvent) -> Result<Found, WireError> {
        if self.step == Step::Done {
            return Ok(Found::Wait);
        }
        match event {
            SessionEvent::Welcomed { rooms, .. } => match rooms.iter().find(|room| self.is_wanted(room)) {
                Some(room) => Ok(self.found(room)),
                None => Ok(self.ask()),
            },
            // Asked while the connection was lost, or refused for the moment: ask again once all is well.
            SessionEvent::State(ConnectionState::Live) => Ok(self.ask()),
            SessionEvent::Answer { tag, result } if *tag == TAG => match result {
                Ok(Reply::Room(room)) => Ok(self.found(room)),
                Ok(_) => Ok(Found::Wait),
                Err(error) => self.refused(error),
            },
            _ => Ok(Found::Wait),
        }
    }

    /// Asks again what has not been answered; for the moment after a refusal for the moment.
    pub(crate) fn ask(&self) -> Found {
        let command = match self.step {
            Step::Find => match self.wanted.parse() {
                Ok(room) => message::Command::Join(Membership { client_id: self.join, room }),
                Err(_) => message::Command::FindRoom(FindRoom { name: self.wanted.clone() }),
            },
            Step::Make => message::Command::CreateRoom(CreateRoom {
                client_id: self.make.unwrap_or(self.join),
                name: self.wanted.clone(),
                title: String::new(),
            }),
            Step::Join(room) => message::Command::Join(Membership { client_id: self.join, room }),
            Step::Done => return Found::Wait,
        };
        Found::Ask(Command::Request { tag: TAG, command })
    }

    fn is_wanted(&self, room: &RoomSummary) -> bool {
        room.joined && (room.name == self.wanted || room.room.to_string() == self.wanted)
    }

    fn found(&mut self, room: &RoomSummary) -> Found {
        if room.joined {
            self.step = Step::Done;
            return Found::Room(room.clone());
        }
        self.step = Step::Join(room.room);
        self.ask()
    }

    fn refused(&mut self, error: &WireError) -> Result<Found, WireError> {
        match (&error.code, &self.step) {
            (_, _) if error.retryable => Ok(Found::Wait),
            (ErrorCode::NotFound, Step::Find) if self.make.is_some() => {
                self.step = Step::Make;
                Ok(self.ask())
            }
            (ErrorCode::NotFound, Step::Find) => Err(WireError {
                message: format!("There is no room “{}”; --create makes it.", self.wanted),
                ..error.clone()
            }),
            // Somebody else made it meanwhile.
            (ErrorCode::NameTaken, Step::Make) => {
                self.step = Step::Find;
                Ok(self.ask())
            }
            _ => Err(error.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::Seq;

    use super::*;

    fn room(joined: bool) -> RoomSummary {
        RoomSummary {
            room: RoomId::from_bytes([3; 16]),
            name: "garden".into(),
            title: String::new(),
            joined,
            members: 1,
            head: Seq(1),
            posts: 0,
            read: 0,
        }
    }

    fn answer(result: Result<Reply, WireError>) -> SessionEvent {
        SessionEvent::Answer { tag: TAG, result }
    }

    fn asked(found: Found) -> &'static str {
        match found {
            Found::Ask(Command::Request { command: message::Command::FindRoom(_), .. }) => "find",
            Found::Ask(Command::Request { command: message::Command::CreateRoom(_), .. }) => "create",
            Found::Ask(Command::Request { command: message::Command::Join(_), .. }) => "join",
            Found::Ask(_) => "something else",
            Found::Wait => "wait",
            Found::Room(_) => "room",
        }
    }

    #[test]
    fn a_room_that_is_not_joined_is_joined_once_however_often_it_is_asked() {
        let mut finder = Finder::new("#Garden", false);
        let live = SessionEvent::State(ConnectionState::Live);
        assert_eq!(asked(finder.offer(&live).unwrap()), "find");
        let Found::Ask(first) = finder.offer(&answer(Ok(Reply::Room(room(false))))).unwrap() else { panic!() };
        let unavailable = WireError::new(ErrorCode::Unavailable, "not connected");
        assert_eq!(asked(finder.offer(&answer(Err(unavailable))).unwrap()), "wait");
        let Found::Ask(second) = finder.offer(&live).unwrap() else { panic!() };
        assert_eq!(format!("{first:?}"), format!("{second:?}"), "the same key");
        assert_eq!(asked(finder.offer(&answer(Ok(Reply::Room(room(true))))).unwrap()), "room");
        assert_eq!(asked(finder.offer(&live).unwrap()), "wait");
    }

    #[test]
    fn a_room_that_is_not_there_is_made_only_when_asked_to() {
        let missing = || answer(Err(WireError::new(ErrorCode::NotFound, "no such room")));
        assert!(Finder::new("garden", false).offer(&missing()).is_err());
        let mut finder = Finder::new("garden", true);
        assert_eq!(asked(finder.offer(&missing()).unwrap()), "create");
        let taken = answer(Err(WireError::new(ErrorCode::NameTaken, "just now")));
        assert_eq!(asked(finder.offer(&taken).unwrap()), "find");
        assert_eq!(asked(finder.offer(&answer(Ok(Reply::Room(room(false))))).unwrap()), "join");
    }
}
