//! Who this person is on a server: the name, the id and the token, kept in the state folder.
//!
//! Must not live here: the outbox. Invariant: a token is in a file only its owner can read, and in no message or log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shared::model::Person;
use unicode_normalization::UnicodeNormalization as _;

use super::files::write;
use super::known_rooms::KnownRooms;
use super::server_url::ServerUrl;

/// Which account was used last, by its id.
const CURRENT: &str = "current";

/// Somebody who is signed in.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Who.
    pub(crate) user: Person,
    /// The bearer token.
    pub(crate) token: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Held by the process that signs in; holds space on the disk for what comes of it.
const DOOR: &str = "sign-in.lock";
/// More than an account and what names it take, in bytes.
const ACCOUNT_BYTES: usize = 8 * 1024;

/// The right to sign in, which one process at a time has. A name that was given and could not be kept would be lost, so
/// the space for it is there before it is asked for.
#[derive(Debug)]
pub(crate) struct Door(File);

impl Drop for Door {
    fn drop(&mut self) {
        // Zeros that stay do no harm.
        let _ = self.0.set_len(0);
    }
}

/// The part of the state folder that belongs to one server.
#[derive(Clone, Debug)]
pub(crate) struct ServerState {
    folder: PathBuf,
}

impl ServerState {
    /// Opens, and makes where needed, the folder of one server.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn open(state: &Path, server: &ServerUrl) -> io::Result<Self> {
        let mut folder = state.join(server.file_name());
        if let Some((old, true)) = Self::find_old(state, server) {
            folder = old;
        }
        let mut maker = fs::DirBuilder::new();
        maker.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut maker, 0o700);
        maker.create(&folder)?;
        Ok(Self { folder })
    }

    /// Finds what an earlier version kept in a folder that may be of this server or of another one, as long as there is no
    /// folder of this version.
    pub(crate) fn find_unclear(state: &Path, server: &ServerUrl) -> Option<PathBuf> {
        Self::find_old(state, server).and_then(|(old, is_clear)| (!is_clear).then_some(old))
    }

    fn find_old(state: &Path, server: &ServerUrl) -> Option<(PathBuf, bool)> {
        let (name, is_clear) = server.old_file_name();
        let old = state.join(name);
        (old.exists() && !state.join(server.file_name()).exists()).then_some((old, is_clear))
    }

    /// Returns the folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Finds the account with this name, or the one used last where no name is given. Of two with one name, which can
    /// only be where the server has lost its people, the one used last, or else the younger.
    pub(crate) fn find(&self, name: Option<&str>) -> Option<Account> {
        let last = fs::read_to_string(self.folder.join(CURRENT)).ok();
        let last = last.and_then(|id| read(&self.folder.join(id.trim()).with_extension("json")));
        let Some(name) = name else { return last };
        let name = plain(name);
        if last.as_ref().is_some_and(|last| plain(&last.user.name) == name) {
            return last;
        }
        let files = fs::read_dir(&self.folder).ok()?.filter_map(Result::ok);
        let named = files.filter_map(|file| read(&file.path())).filter(|account| plain(&account.user.name) == name);
        // Ids grow with time.
        named.max_by_key(|account| account.user.id)
    }

    /// Takes the right to sign in; none while another process has it.
    ///
    /// # Errors
    /// What the system says; also if there is no space for an account.
    pub(crate) fn door(&self) -> io::Result<Option<Door>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(self.folder.join(DOOR))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let mut door = Door(file);
        door.0.write_all(&[0; ACCOUNT_BYTES])?;
        door.0.sync_all()?;
        Ok(Some(door))
    }

    /// Stores an account that came of a sign-in, in the space that was kept for it, and makes it the one used last.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn store_in(&self, door: &Door, account: &Account) -> io::Result<()> {
        door.0.set_len(0)?;
        self.store(account)
    }

    /// Stores an account and makes it the one used last.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn store(&self, account: &Account) -> io::Result<()> {
        let id = account.user.id.to_string();
        write(&self.folder.join(&id).with_extension("json"), &serde_json::to_vec(account)?)?;
        write(&self.folder.join(CURRENT), id.as_bytes())
    }

    /// Forgets an account's token and rooms; what it has not sent stays, and is found no more.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn forget(&self, account: &Account) -> io::Result<()> {
        fs::remove_file(self.folder.join(account.user.id.to_string()).with_extension("json"))?;
        match fs::remove_file(self.rooms_file(account)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Returns where somebody's unsent requests are kept.
    pub(crate) fn outbox(&self, account: &Account) -> PathBuf {
        self.folder.join(format!("outbox-{}", account.user.id))
    }

    /// Returns the rooms somebody has found.
    pub(crate) fn known_rooms(&self, account: &Account) -> KnownRooms {
        KnownRooms::at(self.rooms_file(account))
    }

    fn rooms_file(&self, account: &Account) -> PathBuf {
        self.folder.join(format!("rooms-{}", account.user.id))
    }
}

/// A name without what the server does not tell names apart by, so whoever asks for either of two asks for one.
fn plain(name: &str) -> String {
    let name: String = name.nfkc().flat_map(char::to_lowercase).nfkc().collect();
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn read(path: &Path) -> Option<Account> {
    if path.extension()? != "json" {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use shared::ids::UserId;

    use super::*;

    #[test]
    fn an_account_is_found_by_name_and_its_token_is_nobody_elses() {
        let state = tempfile::tempdir().unwrap();
        let server = ServerUrl::parse("http://h:1").unwrap();
        let here = ServerState::open(state.path(), &server).unwrap();
        for (n, name) in [(1, "Ada"), (2, "Lin")] {
            let user = Person { id: UserId::from_bytes([n; 16]), name: name.into() };
            here.store(&Account { user, token: format!("token-{n}") }).unwrap();
        }
        assert_eq!(here.find(Some("Ada")).unwrap().token, "token-1");
        assert_eq!(here.find(None).unwrap().token, "token-2", "the one used last");
        assert!(here.find(Some("Eve")).is_none());
        let zoe = Person { id: UserId::from_bytes([3; 16]), name: "Zo\u{eb} B".into() };
        here.store(&Account { user: zoe, token: "token-3".into() }).unwrap();
        for name in [" Ada ", "ada"] {
            assert_eq!(here.find(Some(name)).unwrap().token, "token-1");
        }
        assert_eq!(here.find(Some("Zoe\u{308}  B")).unwrap().token, "token-3");
        let lin = Person { id: UserId::from_bytes([2; 16]), name: "Lin".into() };
        here.store(&Account { user: lin, token: "token-2".into() }).unwrap();
        let elsewhere = ServerState::open(state.path(), &ServerUrl::parse("http://h:2").unwrap()).unwrap();
        assert!(elsewhere.find(None).is_none());
        assert!(!format!("{:?}", here.find(None)).contains("token-2"));
        #[cfg(unix)]
        for file in fs::read_dir(&here.folder).unwrap() {
            let mode = std::os::unix::fs::PermissionsExt::mode(&file.unwrap().metadata().unwrap().permissions());
            assert_eq!(mode & 0o077, 0);
        }
    }

    #[test]
    fn what_an_earlier_version_kept_is_found_where_it_can_be_of_no_other_server() {
        let state = tempfile::tempdir().unwrap();
        for (address, old, is_found) in [
            ("https://h/team", "https-h-443_team", true),
            ("http://[::1]:8080", "http-___1_-8080", true),
            ("https://h/team/a", "https-h-443_team_a", false),
            ("https://h/team_a", "https-h-443_team_a", false),
        ] {
            let (old, server) = (state.path().join(old), ServerUrl::parse(address).unwrap());
            fs::create_dir_all(&old).unwrap();
            let unclear = (!is_found).then_some(&old);
            assert_eq!(ServerState::find_unclear(state.path(), &server).as_ref(), unclear, "{address}");
            let here = ServerState::open(state.path(), &server).unwrap();
            assert_eq!(here.folder == old, is_found, "{address}");
            assert_eq!(ServerState::find_unclear(state.path(), &server), None, "{address}");
        }
    }

    #[test]
    fn of_two_accounts_with_one_name_the_one_signed_in_last_is_found() {
        let state = tempfile::tempdir().unwrap();
        let here = ServerState::open(state.path(), &ServerUrl::parse("http://h:1").unwrap()).unwrap();
        for n in 1..=8 {
            let user = Person { id: UserId::from_bytes([n; 16]), name: "Ada".into() };
            here.store(&Account { user, token: format!("token-{n}") }).unwrap();
            assert_eq!(here.find(Some("Ada")).unwrap().token, format!("token-{n}"));
        }
        let lin = Person { id: UserId::from_bytes([3; 16]), name: "Lin".into() };
        here.store(&Account { user: lin, token: "token".into() }).unwrap();
        assert_eq!(here.find(Some("Ada")).unwrap().token, "token-8", "the younger");
    }

    #[test]
    fn who_is_forgotten_leaves_no_token_and_no_rooms() {
        let state = tempfile::tempdir().unwrap();
        let here = ServerState::open(state.path(), &ServerUrl::parse("http://h:1").unwrap()).unwrap();
        for has_rooms in [false, true] {
            let user = Person { id: UserId::from_bytes([1; 16]), name: "Ada".into() };
            let ada = Account { user, token: "token".into() };
            here.store(&ada).unwrap();
            if has_rooms {
                write(&here.rooms_file(&ada), b"[]").unwrap();
            }
            here.forget(&ada).unwrap();
            assert!(here.find(None).is_none() && here.find(Some("Ada")).is_none());
            assert!(!here.rooms_file(&ada).exists());
        }
    }
}
