//! What every backend of the log must do, asked of SQLite and of the twin in memory by the same functions; then what only
//! a log on a disk can be asked.
//!
//! Invariant: a test talks to the log through its public interface and waits on answers, never on time.

mod log {
    mod contract;
    mod disk;
    mod golden;
    mod property;
    mod world;
}
