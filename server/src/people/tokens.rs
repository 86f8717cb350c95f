//! Opaque session tokens.
//!
//! Must not live here: storing anything. Invariant: a token has 256 bits of the system's randomness.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::ambient::Ambient;

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
    #[must_use]
    pub fn mint(ambient: &dyn Ambient) -> Self {
        Self(URL_SAFE_NO_PAD.encode(ambient.random::<32>()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_never_prints_itself() {
        let token = Token::mint(&crate::ambient::System);
        let read = Token::read(token.reveal()).unwrap();
        assert_eq!(read.hash(), token.hash());
        assert!(!format!("{token:?}").contains(token.reveal()));
        for bad in ["", "short", "ümlaut", &"A".repeat(44)] {
            assert!(Token::read(bad).is_none(), "{bad} was taken for a token");
        }
    }
}
