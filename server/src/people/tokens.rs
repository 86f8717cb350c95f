//! Opaque session tokens and freshly minted ids: everything that needs the system's randomness.
//!
//! Must not live here: storing anything. Invariant: a token has 256 bits of the system's randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use shared::ids::{ClientId, RoomId, UserId};
use shared::time::Timestamp;

/// What a client shows to say which session it belongs to.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// SHA-256 of a token, as the log keeps it.
pub type TokenHash = [u8; 32];

impl Token {
    /// Draws a new one.
    ///
    /// # Panics
    /// If the system has no randomness: nothing safe can be done without.
    #[must_use]
    pub fn mint() -> Self {
        Self(URL_SAFE_NO_PAD.encode(random::<32>()))
    }

    /// Reads one that a client showed; `None` if it cannot be one of ours.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == 32).then(|| Self(text.to_owned()))
    }

    /// Returns the text to hand to its owner, and to nobody else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns what is stored of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

/// Draws random bytes.
///
/// # Panics
/// If the system has no randomness.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives randomness");
    bytes
}

/// Reads the wall clock. Used for time stamps only, never for waiting.
#[must_use]
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Mints the key of a request the server makes itself.
#[must_use]
pub fn mint_key() -> ClientId {
    ClientId::from_parts(wall_clock(), random())
}

/// Mints a user's id.
#[must_use]
pub fn mint_user() -> UserId {
    UserId::from_parts(wall_clock(), random())
}

/// Mints a room's id.
#[must_use]
pub fn mint_room() -> RoomId {
    RoomId::from_parts(wall_clock(), random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_never_prints_itself() {
        let token = Token::mint();
        let read = Token::read(token.reveal()).unwrap();
        assert_eq!(read.hash(), token.hash());
        assert!(!format!("{token:?}").contains(token.reveal()));
        for bad in ["", "short", "ümlaut", &"A".repeat(44)] {
            assert!(Token::read(bad).is_none(), "{bad} was taken for a token");
        }
    }
}
