//! A load without a clock: one thing after the other, each waited for to its end, so that a count of what the server
//! does is the same each time.
//!
//! Must not live here: anything that is timed (`phases`). Invariant: whatever was not answered or delivered is a failure,
//! never a smaller count.

use std::time::Instant;

use super::{Load, STEP_LIMIT, TURN};
use crate::Fail;
use crate::board::PostFate;
use crate::clock::now_ns;
use crate::dialect::{Dialect, Holdfast};

impl Load {
    /// Posts so many bursts of so many posts, one to each sender in turn. The next burst is posted when the one before is
    /// acknowledged and delivered to everybody.
    ///
    /// # Errors
    /// [`Fail::TimedOut`] where one is not; [`Fail::Refused`] where something came twice, not at all or not in order.
    pub fn rounds(&mut self, bursts: usize, burst: usize, size: usize) -> Result<(), Fail> {
        for _ in 0..bursts {
            let due = PostFate { intended: now_ns(), ..PostFate::default() };
            self.begin(vec![due; burst]);
            for place in 0..burst {
                let seat = self.crowd.board.seating.seat(place);
                self.post(seat.client - self.share.first, seat.room, place, size);
            }
            let until = Instant::now() + STEP_LIMIT;
            while !self.crowd.board.is_complete(true) {
                if Instant::now() > until {
                    return Err(Fail::TimedOut("a post was not delivered to everybody".into()));
                }
                self.crowd.turn(TURN)?;
            }
            let (board, sockets) = (&self.crowd.board, &self.crowd.sockets);
            let refused: u64 = board.refused.values().sum();
            if refused + board.duplicates + board.gaps + sockets.strange + sockets.closed.len() as u64 > 0 {
                return Err(Fail::Refused(format!("posts went wrong: {:?} {:?}", board.refused, sockets.closed)));
            }
        }
        Ok(())
    }

    /// Has the connections say in turn that they live, so often in all; each answer is waited for.
    ///
    /// # Errors
    /// [`Fail::TimedOut`] where one is not answered, [`Fail::Refused`] where the server closed.
    pub fn beats(&mut self, times: usize) -> Result<(), Fail> {
        let answered = |load: &Self| match &load.crowd.dialect {
            Dialect::Holdfast(holdfast) => holdfast.setup.beats,
            Dialect::Plain(_) => usize::MAX,
        };
        let before = answered(self);
        for n in 0..times {
            Holdfast::beat(&mut self.crowd.sockets, n % self.share.count);
            self.until("say that it lives", |crowd| match &crowd.dialect {
                Dialect::Holdfast(holdfast) => holdfast.setup.beats > before + n,
                Dialect::Plain(_) => true,
            })?;
        }
        Ok(())
    }

    /// Drops all connections without a word.
    ///
    /// # Errors
    /// What this machine says.
    pub fn leave(&mut self) -> Result<(), Fail> {
        Ok(self.crowd.hang_up()?)
    }
}
