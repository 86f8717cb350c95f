//! Skeleton.
use crate::error::Outcome;
use std::process::ExitCode;
/// Skeleton.
#[derive(clap::Args)]
pub(crate) struct Options {}
/// Skeleton.
pub(crate) fn run(_options: &Options) -> Outcome<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
