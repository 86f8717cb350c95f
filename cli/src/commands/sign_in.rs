//! `holdfast sign-in` and `holdfast sign-out`.
//!
//! Must not live here: how a token is kept. Invariant: signing out never deletes what is unsent.

use std::time::Duration;

use crate::args::Common;
use crate::connect;
use crate::exit::End;
use crate::terminal::note;

/// How long to try.
const LIMIT: Duration = Duration::from_secs(30);

/// Signs in as somebody new.
///
/// # Errors
/// See [`End`].
pub(crate) async fn sign_in(common: &Common) -> Result<(), End> {
    let state = connect::state_of(common)?;
    connect::new_account(common, &state, connect::deadline(Some(LIMIT))).await.map(drop)
}

/// Forgets the account on this machine.
///
/// # Errors
/// [`End::Refused`] if there is none.
pub(crate) fn sign_out(common: &Common) -> Result<(), End> {
    let state = connect::state_of(common)?;
    let account = state.find(common.name.as_deref()).ok_or_else(|| End::Refused("nobody is signed in here".into()))?;
    state.forget(&account).map_err(|error| End::Local(format!("cannot forget the account: {error}")))?;
    note(&format!("Signed out {} from {}.", account.user.name, common.server));
    Ok(())
}
