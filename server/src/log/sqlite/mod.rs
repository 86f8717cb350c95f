//! The log in SQLite.

use std::path::Path;

use shared::ids::Lsn;

use super::tables::StorageError;
use super::writer::BoxedSink;
use super::{LogHandle, LogOptions, OpenError, Writer};

/// What `verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Events whose chain was followed.
    pub events: u64,
    /// Streams they belong to.
    pub streams: u64,
    /// The last change in the whole log.
    pub lsn: Lsn,
    /// Everything that is wrong, at most [`DAMAGES_TOLD`].
    pub damages: Vec<Damage>,
}

/// How many damages a report names.
pub const DAMAGES_TOLD: usize = 100;

/// One thing that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where, and what.
    pub message: String,
}

/// Walks every chain of a log that no server has open.
///
/// # Errors
/// See [`OpenError`]; damage is no error but a finding.
pub fn verify(_dir: &Path) -> Result<VerifyReport, OpenError> {
    Err(OpenError::Storage(StorageError::failed("not yet")))
}

pub(super) fn open(_dir: &Path, _options: &LogOptions, _sink: BoxedSink) -> Result<(LogHandle, Writer), OpenError> {
    Err(OpenError::Storage(StorageError::failed("not yet")))
}
