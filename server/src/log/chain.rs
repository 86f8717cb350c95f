//! Hash chains, and the two directions between an event as it travels and the row it is stored as.
//!
//! Must not live here: reading or storing rows. Invariant: a chain covers everything of a row but its text, of which it
//! covers a hash; so a text can be blanked and the chain still holds. Who is told checks cannot find a text by them.
//!
//! ```text
//! check(n) = first 8 bytes of SHA-256( check(n-1) ‖ header(n) ‖ hash(text(n)) ),   check(0) = 0
//! header   = every other column, in order, numbers big-endian, texts with their length before them
//! hash     = SHA-256( secret of the log ‖ text ), see [`TextHash`]
//! ```

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use shared::cursor::Check;
use shared::ids::{ClientId, Lsn, Seq};
use shared::model::{
    Deleted, Edited, Empty, Kicked, Person, Posted, Reacted, Renamed, RoomChange, RoomEvent, RoomTitle, UserChange,
    UserEvent,
};

use super::record::Fields;
use super::tables::{Body, EventRow, Kind, StorageError, UserEventRow};

/// Tells the chains of rooms, of users and of the whole log apart.
const ROOM: u8 = 1;
const USER: u8 = 2;
const LOG: u8 = 3;

/// What only the log itself knows: it goes into the hash of every text, and is never told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl Secret {
    /// Draws one.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub(super) fn draw() -> std::io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How a log hashes its texts. Everybody in a room is told the checks on both sides of a text, so without a secret short texts
/// could be tried until one fits, deleted ones as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextHash {
    secret: Option<Secret>,
    from: Lsn,
}

impl TextHash {
    /// Of a log that has no secret yet.
    pub const PLAIN: Self = Self { secret: None, from: Lsn(0) };

    /// With a secret from a change of the whole log on; what was stored before it keeps the hash it had.
    #[must_use]
    pub const fn keyed(secret: Secret, from: Lsn) -> Self {
        Self { secret: Some(secret), from }
    }

    /// Hashes a text that is stored at a place in the whole log. The secret stands first and has a fixed length: nothing is
    /// ever told of the hash but what another hash makes of it, so nobody has one to go on from, and HMAC would add nothing.
    #[must_use]
    pub fn of(&self, at: Lsn, text: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        if let Some(Secret(bytes)) = self.secret.filter(|_| at >= self.from) {
            hash.update(bytes);
        }
        hash.update(text.as_bytes());
        hash.finalize().into()
    }
}

/// Continues a room's chain over a row. The row's own `check` is not looked at.
#[must_use]
pub fn room_check(texts: &TextHash, before: Check, row: &EventRow) -> Check {
    let mut fields = Fields::new();
    fields.tag(ROOM).check(before).id(row.room.as_bytes()).number(row.seq.0).number(row.lsn.0).number(row.posts);
    fields.number(row.ts.0).id(row.by.as_bytes()).text(&row.name).tag(row.kind.code());
    fields.bytes(row.key.as_ref().map_or(&[], |key| key.as_bytes().as_slice()));
    fields.number(row.target.map_or(0, |target| target.0));
    fields.text(row.detail.as_deref().unwrap_or(""));
    match &row.body {
        Body::None => fields.tag(0),
        Body::Text(text) => fields.tag(1).bytes(&texts.of(row.lsn, text)),
        Body::Blanked(hash) => fields.tag(1).bytes(hash),
    };
    fields.finish()
}

/// Continues a user's chain over a row. The row's own `check` is not looked at.
#[must_use]
pub fn user_check(before: Check, row: &UserEventRow) -> Check {
    let mut fields = Fields::new();
    fields.tag(USER).check(before).id(row.user.as_bytes()).number(row.seq.0).number(row.lsn.0).number(row.ts.0);
    fields.tag(row.kind.code()).text(&row.detail);
    fields.finish()
}

/// Continues the chain of the whole log over a record: the events it made, each as its lsn and its check in its own
/// stream, in the order of these two.
#[must_use]
pub fn log_check(before: Check, last: Lsn, events: &mut [(Lsn, Check)]) -> Check {
    events.sort_unstable_by_key(|(lsn, check)| (*lsn, check.0));
    let mut fields = Fields::new();
    fields.tag(LOG).check(before).number(last.0);
    for (lsn, check) in events {
        fields.number(lsn.0).check(*check);
    }
    fields.finish()
}

impl Fields {
    fn check(&mut self, check: Check) -> &mut Self {
        self.0.update(check.0);
        self
    }

    fn finish(self) -> Check {
        let hash = self.0.finalize();
        let mut check = [0; 8];
        check.copy_from_slice(&hash[..8]);
        Check(check)
    }
}

/// The columns that hold a change.
pub(super) struct Columns {
    pub(super) kind: Kind,
    pub(super) key: Option<ClientId>,
    pub(super) target: Option<Seq>,
    pub(super) detail: Option<String>,
    pub(super) body: Body,
}

/// Lays a change out in columns.
///
/// # Panics
/// On a change this version does not know: the log never writes one.
pub(super) fn columns(change: &RoomChange) -> Columns {
    let text = |body: &Option<String>| body.as_ref().map_or(Body::None, |body| Body::Text(body.clone()));
    let plain = |kind| Columns { kind, key: None, target: None, detail: None, body: Body::None };
    match change {
        RoomChange::Posted(Posted { client_id, body }) => {
            Columns { key: Some(*client_id), body: text(body), ..plain(Kind::Posted) }
        }
        RoomChange::Edited(Edited { post, body }) => {
            Columns { target: Some(*post), body: text(body), ..plain(Kind::Edited) }
        }
        RoomChange::Deleted(Deleted { post }) => Columns { target: Some(*post), ..plain(Kind::Deleted) },
        RoomChange::Reacted(reacted) => {
            let detail = json(&Reaction { emoji: reacted.emoji.clone(), on: reacted.on });
            Columns { target: Some(reacted.post), detail: Some(detail), ..plain(Kind::Reacted) }
        }
        RoomChange::Created(title) => Columns { detail: Some(json(title)), ..plain(Kind::Created) },
        RoomChange::Set(title) => Columns { detail: Some(json(title)), ..plain(Kind::Set) },
        RoomChange::Ended(Empty {}) => plain(Kind::Ended),
        RoomChange::Joined(Empty {}) => plain(Kind::Joined),
        RoomChange::Left(Empty {}) => plain(Kind::Left),
        RoomChange::Kicked(kicked) => Columns { detail: Some(json(kicked)), ..plain(Kind::Kicked) },
        RoomChange::Renamed(renamed) => Columns { detail: Some(json(renamed)), ..plain(Kind::Renamed) },
        RoomChange::Unknown(unknown) => unreachable!("the log was asked to store the unknown change {}", unknown.kind),
    }
}

/// Lays a change in a user's own stream out in columns.
///
/// # Panics
/// On a change this version does not know: the log never writes one.
pub(super) fn user_columns(change: &UserChange) -> (Kind, String) {
    match change {
        UserChange::RoomAdded(added) => (Kind::RoomAdded, json(added)),
        UserChange::RoomRemoved(removed) => (Kind::RoomRemoved, json(removed)),
        UserChange::Named(named) => (Kind::Named, json(named)),
        UserChange::Unknown(unknown) => unreachable!("the log was asked to store the unknown change {}", unknown.kind),
    }
}

/// What a reaction keeps beside its post.
#[derive(serde::Serialize, serde::Deserialize)]
struct Reaction {
    emoji: String,
    on: bool,
}

/// Reads an event back as it travels. A blanked text is absent.
///
/// # Errors
/// If the row was not written by [`columns`].
pub(super) fn event(row: EventRow) -> Result<RoomEvent, StorageError> {
    let body = match row.body {
        Body::Text(text) => Some(text),
        Body::None | Body::Blanked(_) => None,
    };
    let missing = || StorageError::failed(format!("event {} of room {} lacks a column", row.seq, row.room));
    let target = row.target.ok_or_else(missing);
    let detail = row.detail.as_deref();
    let change = match row.kind {
        Kind::Posted => RoomChange::Posted(Posted { client_id: row.key.ok_or_else(missing)?, body }),
        Kind::Edited => RoomChange::Edited(Edited { post: target?, body }),
        Kind::Deleted => RoomChange::Deleted(Deleted { post: target? }),
        Kind::Reacted => {
            let Reaction { emoji, on } = read(detail)?;
            RoomChange::Reacted(Reacted { post: target?, emoji, on })
        }
        Kind::Created => RoomChange::Created(read::<RoomTitle>(detail)?),
        Kind::Set => RoomChange::Set(read::<RoomTitle>(detail)?),
        Kind::Ended => RoomChange::Ended(Empty {}),
        Kind::Joined => RoomChange::Joined(Empty {}),
        Kind::Left => RoomChange::Left(Empty {}),
        Kind::Kicked => RoomChange::Kicked(read::<Kicked>(detail)?),
        Kind::Renamed => RoomChange::Renamed(read::<Renamed>(detail)?),
        Kind::RoomAdded | Kind::RoomRemoved | Kind::Named => {
            return Err(StorageError::failed(format!("event {} of room {} belongs to a user", row.seq, row.room)));
        }
    };
    let by = Person { id: row.by, name: row.name };
    Ok(RoomEvent { room: row.room, seq: row.seq, check: row.check, posts: row.posts, ts: row.ts, by, change })
}

/// Reads an event of a user's own stream back as it travels.
///
/// # Errors
/// If the row was not written by [`user_columns`].
pub(super) fn user_event(row: &UserEventRow) -> Result<UserEvent, StorageError> {
    let detail = Some(row.detail.as_str());
    let change = match row.kind {
        Kind::RoomAdded => UserChange::RoomAdded(read(detail)?),
        Kind::RoomRemoved => UserChange::RoomRemoved(read(detail)?),
        Kind::Named => UserChange::Named(read(detail)?),
        Kind::Posted
        | Kind::Edited
        | Kind::Deleted
        | Kind::Reacted
        | Kind::Created
        | Kind::Set
        | Kind::Ended
        | Kind::Joined
        | Kind::Left
        | Kind::Kicked
        | Kind::Renamed => {
            return Err(StorageError::failed(format!("event {} of user {} belongs to a room", row.seq, row.user)));
        }
    };
    Ok(UserEvent { seq: row.seq, check: row.check, ts: row.ts, change })
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own types are JSON")
}

fn read<T: DeserializeOwned>(detail: Option<&str>) -> Result<T, StorageError> {
    serde_json::from_str(detail.unwrap_or("{}"))
        .map_err(|error| StorageError::failed(format!("the log holds a malformed event: {error}")))
}
