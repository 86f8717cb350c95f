//! The limits both sides must agree on, and the version of the protocol. Limits an operator may change live in the
//! server's configuration and are told in the welcome; these are their ceilings and defaults.
//!
//! Invariant: every limit is named here once, with its unit in its name.

/// The protocol this crate speaks. The server also speaks the one before.
pub const PROTOCOL_VERSION: u16 = 1;
/// The oldest protocol the server still speaks.
pub const PROTOCOL_OLDEST: u16 = 1;

/// Largest message a client may send.
pub const INBOUND_MESSAGE_BYTES: usize = 64 * 1024;
/// Largest message the server sends. A page ends early rather than pass it.
pub const OUTBOUND_MESSAGE_BYTES: usize = 256 * 1024;
/// Largest post, as UTF-8.
pub const POST_BYTES: usize = 16 * 1024;
/// Longest post, as people count characters (grapheme clusters, UAX 29).
pub const POST_GRAPHEMES: usize = 4_000;
/// Longest name of a person or a room.
pub const NAME_GRAPHEMES: usize = 32;
/// Longest title of a room.
pub const TITLE_GRAPHEMES: usize = 120;
/// Largest emoji of a reaction, as UTF-8.
pub const EMOJI_BYTES: usize = 64;
/// Posts in one snapshot or history page.
pub const PAGE_POSTS: usize = 50;
/// Events in one page of catch-up.
pub const PAGE_EVENTS: usize = 256;
/// Rooms a client may follow in full at once.
pub const OPEN_ROOMS: usize = 64;
/// Rooms a person may be a member of.
pub const JOINED_ROOMS: usize = 1_000;
/// Rooms in one page of a listing.
pub const PAGE_ROOMS: usize = 100;
/// People in one page of a roster.
pub const PAGE_PEOPLE: usize = 200;
/// Further behind than this, a person's room jumps to the newest posts and shows a hole.
pub const JUMP_EVENTS: u64 = 300;
/// Sends of one client that may wait for their answer at once.
pub const SEND_WINDOW: usize = 16;
/// Unsent posts one client keeps.
pub const OUTBOX_ITEMS: usize = 1_000;
/// Requests of one client that may wait for their answer at once, sends not counted.
pub const PENDING_REQUESTS: usize = 64;
/// A close frame's reason, as UTF-8 (RFC 6455 §5.5 leaves 123 bytes).
pub const CLOSE_REASON_BYTES: usize = 123;
/// Deepest JSON either side reads (what serde_json stops at).
pub const JSON_DEPTH: usize = 128;
