//! `holdfast sign-in` and `holdfast sign-out`.
//!
//! Must not live here: how a token is kept. Invariant: nobody is forgotten who has something unsent here,
//! since nothing would find it any more.

use std::time::Duration;

use crate::args::Common;
use crate::connect;
use crate::driver;
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

/// Ends the session on the server, and forgets the account on this machine.
///
/// # Errors
/// [`End::Refused`] if there is none, or something of it is unsent.
pub(crate) async fn sign_out(common: &Common) -> Result<(), End> {
    let state = connect::state_of(common)?;
    let account = state.find(common.name.as_deref()).ok_or_else(|| End::Refused("nobody is signed in here".into()))?;
    let outbox = connect::outbox(&state, &account)?;
    let here = outbox.items().len() + outbox.unread();
    if here > 0 {
        let words =
            format!("{here} unsent, so still signed in; `holdfast outbox --send` sends it, --discard deletes it");
        return Err(End::Refused(words));
    }
    if !outbox.elsewhere().is_empty() {
        let words = "unsent and held by other holdfast programs that run, so still signed in";
        return Err(End::Refused(format!("{} {words}: end them first", outbox.elsewhere().len())));
    }
    let ended = driver::sign_in::sign_out(&common.server, &account).await;
    if let Err(why) = &ended
        && outbox.others() > 0
    {
        // They would go on, and what they keep would be found by nobody. Else the server ends them.
        let words =
            "the server is away, and other holdfast programs of this person run, so still signed in: end them first";
        return Err(End::Refused(format!("{words} ({why})")));
    }
    state.forget(&account).map_err(|error| End::Local(format!("cannot forget the account: {error}")))?;
    note(&match ended {
        Ok(()) => format!("Signed out {} from {}.", account.user.name, common.server),
        Err(why) => {
            format!("{} is forgotten here; the session on the server lasts until it expires: {why}", account.user.name)
        }
    });
    Ok(())
}
