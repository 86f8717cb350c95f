//! Randomness: ids and seeds, which the pure half of the project may not make for itself.
//!
//! Invariant: drawn from the operating system, every time.

use shared::ids::{ClientId, SessionId};

use super::clock::wall;

/// Draws bytes from the operating system.
///
/// # Panics
/// If the operating system has none to give; nothing could be sent safely then.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Makes the key of a durable request.
pub(crate) fn client_id() -> ClientId {
    ClientId::from_parts(wall(), random())
}

/// Makes the id of this running client.
pub(crate) fn session_id() -> SessionId {
    SessionId::from_parts(wall(), random())
}

/// Draws a seed for jitter.
pub(crate) fn seed() -> u64 {
    u64::from_le_bytes(random())
}
