//! How a chat ends, and what becomes then of the lines that are not acknowledged.
//!
//! Must not live here: when it ends early. Invariant: what is called kept is on the disk.

use shared::session::Command;
use tokio::time::timeout_at;

use super::Chat;
use crate::connect;
use crate::driver::Client;
use crate::exit::{Early, End};

impl Chat {
    pub(super) fn is_settled(&self) -> bool {
        self.own.is_empty() && self.held.is_empty()
    }

    /// Keeps what is left and says what becomes of it.
    pub(super) async fn end_early(&mut self, client: &mut Client, why: Early) -> Result<(), End> {
        let refused = self.refused;
        connect::unless_interrupted(self.keep(client)).await?;
        let is_left = !self.is_settled() || self.refused > refused;
        match why {
            // The answers have come in this very moment.
            Early::OutOfTime if !is_left => self.leave(),
            why => Err(why.with(&if is_left { self.left_behind(why) } else { String::new() })),
        }
    }

    /// Waits until the disk holds the lines that are not acknowledged, or does not take them. Those of a room that was
    /// never found go where its name led last.
    async fn keep(&mut self, client: &mut Client) -> Result<(), End> {
        let found = self.room.as_ref().map(|room| room.room);
        if let Some(room) = found.or_else(|| self.search.remembered()) {
            self.guessed = if found.is_none() { self.held.len() } else { 0 };
            while !self.held.is_empty() {
                self.send_next(client, room).await?;
            }
        }
        let until = connect::deadline(Some(connect::STORED_WITHIN));
        while self.is_storing && self.own.values().any(|own| !own.is_saved) {
            match timeout_at(until, client.next()).await {
                Ok(event) => self.take(client, event?).await?,
                Err(_) => break,
            }
        }
        for (&client_id, _) in self.own.iter().filter(|(_, own)| !own.is_saved) {
            // Ignored once it was on the way.
            client.command(Command::CancelSend { client_id }).await?;
        }
        Ok(())
    }

    /// Says what becomes of the lines that are not acknowledged.
    fn left_behind(&self, why: Early) -> String {
        let (when, see) = match why {
            Early::OutOfTime => (" in time", "."),
            Early::Interrupted => ("", "."),
            Early::Stopped(_) | Early::Full => ("", "; `holdfast outbox` under this name shows it."),
        };
        let kept = self.own.values().filter(|own| own.is_saved).count();
        let unsaved = self.own.len() - kept;
        let mut words = Vec::new();
        if kept > 0 {
            words.push(format!("{kept} not acknowledged{when}; kept in the outbox{see}"));
        }
        if kept > 0 && self.guessed > 0 {
            words.push(format!("What was typed now is kept{}.", connect::last_found_as(&self.args.room)));
        }
        if unsaved > 0 {
            words.push(format!("{unsaved} not acknowledged and not kept: this machine did not store it."));
        }
        if !self.held.is_empty() {
            let why = self.search.why().unwrap_or("the server never answered".into());
            words.push(format!("{} not sent and not kept: {why}.", self.held.len()));
        }
        if self.refused > 0 {
            words.push(format!("{} not sent, as said above.", self.refused));
        }
        if let Some(why) = self.broken.as_ref().and_then(End::words) {
            words.push(format!("Not read to its end: {why}."));
        }
        words.join(" ")
    }

    pub(super) fn leave(&mut self) -> Result<(), End> {
        if let Some(why) = self.broken.take() {
            return Err(why);
        }
        match self.refused {
            // A person has read it; a script has only the exit code.
            n if n > 0 && !self.screen.is_terminal() => Err(End::Refused(format!("{n} not sent"))),
            _ => Ok(()),
        }
    }

    /// Leaves when all is acknowledged, or when the time for it is up. Not longer if it is asked for again.
    pub(super) fn begin_to_end(&mut self) -> Result<(), End> {
        if self.ending.is_some() {
            return Ok(());
        }
        self.ending = Some(connect::deadline(Some(self.args.timeout)));
        if !self.screen.is_terminal() || self.is_settled() {
            return Ok(());
        }
        let words = format!("Waiting for {} to be acknowledged. Ctrl-C leaves now.", self.own.len() + self.held.len());
        self.screen.show(&self.look.faint(&words))
    }
}
