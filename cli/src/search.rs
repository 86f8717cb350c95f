//! Looking for a room, with what earlier calls have found in mind.
//!
//! Must not live here: what is asked ([`crate::room`]), and the file ([`crate::driver::known_rooms`]). Invariant: what is
//! remembered is used only while the server has said nothing of the room, and forgotten when it says otherwise.

use shared::error::{ErrorCode, WireError};
use shared::ids::RoomId;
use shared::session::SessionEvent;

use crate::again::Again;
use crate::driver::account::{Account, ServerState};
use crate::driver::known_rooms::KnownRooms;
use crate::room::{Finder, Found};

/// A finder that remembers what it found.
#[derive(Debug)]
pub(crate) struct Search {
    finder: Finder,
    known: KnownRooms,
    again: Again,
    /// The last refusal for the moment, but for those that only say that there is no connection.
    refused: Option<WireError>,
    is_told: bool,
}

impl Search {
    /// Starts looking for a room by its name or id, as [`Finder::new`].
    pub(crate) fn new(state: &ServerState, account: &Account, wanted: &str, make: bool) -> Self {
        let (finder, known) = (Finder::new(wanted, make), state.known_rooms(account));
        Self { finder, known, again: Again::default(), refused: None, is_told: false }
    }

    /// Takes an event.
    ///
    /// # Errors
    /// As [`Finder::offer`].
    pub(crate) fn offer(&mut self, event: &SessionEvent) -> Result<Found, WireError> {
        let found = self.finder.offer(event);
        match &found {
            Ok(Found::Ask(_)) => self.again.asked(),
            Ok(Found::Later(error)) => {
                self.again.refused(error);
                self.refused = Some(error.clone()).filter(|error| error.code != ErrorCode::Unavailable);
            }
            Ok(Found::Wait | Found::Room(_)) | Err(_) => {}
        }
        let wanted = self.finder.wanted();
        // A folder that cannot be written costs what could have been kept in a later call, which says so then.
        let _ = match &found {
            Ok(Found::Room(room)) => self.known.remember(wanted, room),
            // There is no such room, or I am not in it.
            Ok(Found::Ask(_)) if !self.finder.is_unanswered() => self.known.forget(wanted),
            Err(error) if error.code == ErrorCode::NotFound => self.known.forget(wanted),
            Ok(Found::Ask(_)) if self.is_left(event) => self.known.forget(wanted),
            Ok(Found::Ask(_) | Found::Wait | Found::Later(_)) | Err(_) => Ok(()),
        };
        found
    }

    /// Waits until what was refused for the moment is to be asked again, and returns the question. Cancel-safe.
    pub(crate) async fn due(&mut self) -> Found {
        self.again.due().await;
        self.again.asked();
        self.finder.ask()
    }

    /// Why the room is not found or entered although the server has answered.
    pub(crate) fn why(&self) -> Option<String> {
        match &self.refused {
            Some(error) => Some(format!("the room could not be entered yet: {error}")),
            None if self.finder.is_unanswered() => None,
            None => Some("the room was found, and not entered yet".into()),
        }
    }

    /// Says, once, that the room is refused for the moment.
    pub(crate) fn tell(&mut self) -> Option<String> {
        let error = self.refused.as_ref().filter(|_| !self.is_told)?;
        self.is_told = true;
        Some(format!("Waiting to enter “{}”: {}", self.finder.wanted(), error.message))
    }

    /// The room that was meant by this name or id last, where the server has said nothing of it in this call.
    pub(crate) fn remembered(&self) -> Option<RoomId> {
        self.finder.is_unanswered().then(|| self.known.find(self.finder.wanted())).flatten()
    }

    /// The server has named every room I am in, and not the one that is remembered.
    fn is_left(&self, event: &SessionEvent) -> bool {
        let SessionEvent::Welcomed { rooms, complete: true, .. } = event else { return false };
        self.known.find(self.finder.wanted()).is_some_and(|known| rooms.iter().all(|room| room.room != known))
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::{ConnectionId, Epoch, Lsn, Seq, UserId};
    use shared::message::{Reply, WireLimits};
    use shared::model::{Person, RoomSummary, ServerInfo};
    use shared::session::{Command, RequestTag};

    use super::*;
    use crate::driver::server_url::ServerUrl;

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

    fn welcome(rooms: Vec<RoomSummary>, complete: bool) -> SessionEvent {
        SessionEvent::Welcomed {
            you: ada(),
            rooms,
            complete,
            user: Seq(1),
            limits: WireLimits::default(),
            server: ServerInfo { epoch: Epoch::from_bytes([1; 16]), build: String::new(), lsn: Lsn(1) },
            connection: ConnectionId(2),
        }
    }

    fn ada() -> Person {
        Person { id: UserId::from_bytes([1; 16]), name: "Ada".into() }
    }

    fn tag(found: Result<Found, WireError>) -> RequestTag {
        match found {
            Ok(Found::Ask(Command::Request { tag, .. })) => tag,
            other => panic!("nothing was asked: {other:?}"),
        }
    }

    #[test]
    fn a_room_is_remembered_from_call_to_call_until_the_server_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let state = ServerState::open(folder.path(), &ServerUrl::parse("http://h:1").unwrap()).unwrap();
        let account = Account { user: ada(), token: String::new() };
        let search = |make| Search::new(&state, &account, "#Garden", make);
        let answer = |tag, result| SessionEvent::Answer { tag, result };
        let no_room = || Err(WireError::new(ErrorCode::NotFound, "no such room"));
        let find = || {
            let mut found = search(false);
            assert_eq!(found.remembered(), None);
            assert!(matches!(found.offer(&welcome(vec![room(true)], false)), Ok(Found::Room(_))));
            assert_eq!(found.remembered(), None, "it was found in this call: nothing to remember");
            assert_eq!(search(false).remembered(), Some(room(true).room));
        };
        // Not named among those that changed, or not named for the moment: that says nothing.
        find();
        let mut unsure = search(false);
        let asked = tag(unsure.offer(&welcome(Vec::new(), false)));
        let later = answer(asked, Err(WireError::new(ErrorCode::Unavailable, "later")));
        assert!(matches!(unsure.offer(&later), Ok(Found::Later(_))));
        assert_eq!(unsure.remembered(), Some(room(true).room));
        assert_eq!((unsure.why(), unsure.tell()), (None, None), "only the connection is missing");
        // Refused for the moment by the server, which is told once.
        let mut busy = search(false);
        let asked = tag(busy.offer(&welcome(Vec::new(), false)));
        let asked = tag(busy.offer(&answer(asked, Ok(Reply::Room(room(false))))));
        assert_eq!(busy.why().unwrap(), "the room was found, and not entered yet");
        let later = answer(asked, Err(WireError::new(ErrorCode::RateLimited, "Too many.")));
        assert!(matches!(busy.offer(&later), Ok(Found::Later(_))));
        assert_eq!(busy.why().unwrap(), "the room could not be entered yet: rate_limited: Too many.");
        assert_eq!(busy.tell().unwrap(), "Waiting to enter “garden”: Too many.");
        assert_eq!(busy.tell(), None);
        find();
        // Not among all of mine.
        let mut left = search(false);
        tag(left.offer(&welcome(Vec::new(), true)));
        assert_eq!((left.remembered(), search(false).remembered()), (None, None));
        // There, and I am not in it.
        find();
        let mut outside = search(false);
        let asked = tag(outside.offer(&welcome(Vec::new(), false)));
        tag(outside.offer(&answer(asked, Ok(Reply::Room(room(false))))));
        assert_eq!((outside.remembered(), search(false).remembered()), (None, None));
        // Not there, whether it is to be made or not.
        for make in [false, true] {
            find();
            let mut gone = search(make);
            let asked = tag(gone.offer(&welcome(Vec::new(), false)));
            assert_eq!(gone.offer(&answer(asked, no_room())).is_err(), !make);
            assert_eq!(search(false).remembered(), None);
        }
    }
}
