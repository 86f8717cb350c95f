//! Placeholder.
use crate::args::{BenchArgs, Common};
use crate::exit::End;
pub(crate) fn run(_common: &Common, _args: &BenchArgs) -> Result<(), End> {
    Ok(())
}
