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

/// Tags of the finder's requests begin here. A command that makes requests of its own uses smaller ones.
const FIRST_TAG: u64 = 1 << 32;

/// Finds one room, makes it if asked to, and becomes a member.
#[derive(Debug)]
pub(crate) struct Finder {
    wanted: String,
    make: Option<ClientId>,
    join: ClientId,
    step: Step,
    /// The last question. Answers to earlier ones come too late to matter.
    asked: RequestTag,
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
    /// Refused for the moment.
    Later(WireError),
    /// Ask this.
    Ask(Command),
    /// Here it is.
    Room(RoomSummary),
}

impl Finder {
    /// Starts looking for a room by its name or id.
    pub(crate) fn new(wanted: &str, make: bool) -> Self {
        let wanted = wanted.strip_prefix('#').unwrap_or(wanted).to_lowercase();
        Self {
            wanted,
            make: make.then(ids::client_id),
            join: ids::client_id(),
            step: Step::Find,
            asked: RequestTag(FIRST_TAG),
        }
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
            // Asked while the connection was lost: ask again once all is well.
            SessionEvent::State(ConnectionState::Live) => Ok(self.ask()),
            SessionEvent::Answer { tag, result } if *tag == self.asked => match result {
                Ok(Reply::Room(room)) => Ok(self.found(room)),
                Ok(_) => Ok(Found::Wait),
                Err(error) => self.refused(error),
            },
            _ => Ok(Found::Wait),
        }
    }

    /// Asks again what has not been answered.
    pub(crate) fn ask(&mut self) -> Found {
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
        self.asked = RequestTag(self.asked.0 + 1);
        Found::Ask(Command::Request { tag: self.asked, command })
    }

    /// Returns the name or id that is looked for, in small letters and without the sign before it.
    pub(crate) fn wanted(&self) -> &str {
        &self.wanted
    }

    /// Tells whether the server has said nothing of the room so far.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.step == Step::Find
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
            (_, _) if error.retryable => Ok(Found::Later(error.clone())),
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

    fn answer(finder: &Finder, result: Result<Reply, WireError>) -> SessionEvent {
        SessionEvent::Answer { tag: finder.asked, result }
    }

    fn command(found: Found) -> message::Command {
        match found {
            Found::Ask(Command::Request { command, .. }) => command,
            Found::Ask(_) | Found::Wait | Found::Later(_) | Found::Room(_) => panic!("nothing was asked"),
        }
    }

    fn asked(found: Found) -> &'static str {
        match found {
            Found::Ask(Command::Request { command: message::Command::FindRoom(_), .. }) => "find",
            Found::Ask(Command::Request { command: message::Command::CreateRoom(_), .. }) => "create",
            Found::Ask(Command::Request { command: message::Command::Join(_), .. }) => "join",
            Found::Ask(_) => "something else",
            Found::Wait => "wait",
            Found::Later(_) => "later",
            Found::Room(_) => "room",
        }
    }

    #[test]
    fn a_room_that_is_not_joined_is_joined_once_however_often_it_is_asked() {
        let mut finder = Finder::new("#Garden", false);
        let live = SessionEvent::State(ConnectionState::Live);
        assert_eq!(asked(finder.offer(&live).unwrap()), "find");
        let found = answer(&finder, Ok(Reply::Room(room(false))));
        let first = command(finder.offer(&found).unwrap());
        let later = answer(&finder, Err(WireError::new(ErrorCode::Unavailable, "not connected")));
        assert_eq!(asked(finder.offer(&later).unwrap()), "later");
        let second = command(finder.offer(&live).unwrap());
        assert_eq!(first, second, "the same key");
        let joined = answer(&finder, Ok(Reply::Room(room(true))));
        assert_eq!(asked(finder.offer(&joined).unwrap()), "room");
        assert_eq!(asked(finder.offer(&live).unwrap()), "wait");
    }

    #[test]
    fn a_room_that_is_not_there_is_made_only_when_asked_to() {
        let missing = |finder: &Finder| answer(finder, Err(WireError::new(ErrorCode::NotFound, "no such room")));
        let mut finder = Finder::new("garden", false);
        finder.ask();
        let gone = missing(&finder);
        assert!(finder.offer(&gone).is_err());
        let mut finder = Finder::new("garden", true);
        finder.ask();
        let early = missing(&finder);
        finder.ask();
        let late = missing(&finder);
        assert_eq!(asked(finder.offer(&early).unwrap()), "wait", "it was asked again since");
        assert_eq!(asked(finder.offer(&late).unwrap()), "create");
        let taken = answer(&finder, Err(WireError::new(ErrorCode::NameTaken, "just now")));
        assert_eq!(asked(finder.offer(&taken).unwrap()), "find");
        let found = answer(&finder, Ok(Reply::Room(room(false))));
        assert_eq!(asked(finder.offer(&found).unwrap()), "join");
    }
}
