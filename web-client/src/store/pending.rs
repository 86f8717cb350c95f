//! Stands in for `shared::timeline` and `shared::roster` until they are there.

/// A room's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline;

/// A room's people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster;
