//! What the end-to-end tests stand on: the real server binary, clients that behave and clients that do not, a link that
//! breaks on command, a real browser, and an oracle that knows what must be true afterwards.
//!
//! Must not live here: tests (they are in `tests/`), or anything the product itself uses. Invariant: nothing here waits
//! by sleeping for a while and hoping; every wait is for a condition, with a deadline and words for when it passes.

pub mod browser;
pub mod campaign;
pub mod cgroup;
pub mod churn;
pub mod client;
pub mod clock;
pub mod crew;
pub mod device;
pub mod disk;
pub mod gauge;
pub mod holder;
pub mod http;
pub mod load;
pub mod network;
pub mod oracle;
pub mod page;
pub mod proxy;
pub mod raw;
pub mod scene;
pub mod server;
pub mod wait;

pub use browser::{Stage, Tab};
pub use client::Client;
pub use device::Device;
pub use http::{Http, SignedIn};
pub use oracle::Oracle;
pub use proxy::{FaultProxy, Weather};
pub use raw::RawSocket;
pub use scene::Scene;
pub use server::ServerProcess;
