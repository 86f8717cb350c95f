//! What a load does while it is measured.
//!
//! Must not live here: getting there (mod.rs). Invariant: the schedule never waits for the server: what is late is late in
//! the figures.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shared::chance::SplitMix64;

use super::{CRUSH, Load, STEP_LIMIT, TURN};
use crate::board::{Board, PostFate, Timetable};
use crate::clock::now_ns;
use crate::crowd::Crowd;
use crate::dialect::{Dialect, PAGE, Question};
use crate::result::PhaseResult;
use crate::wire::Target;
use crate::{Fail, process};

/// How long deliveries may still come after the last post.
const GRACE: Duration = Duration::from_secs(15);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing is posted.
    Hold {
        /// How long.
        seconds: f64,
    },
    /// Posts on the clock, whatever the server does, then a wait for what is under way.
    Open {
        /// When, in nanoseconds of [`now_ns`].
        start_ns: u64,
        /// Ticks a second.
        rate: f64,
        /// Posts at each tick.
        burst: usize,
        /// Bytes of text in a post.
        size: usize,
        /// How long.
        seconds: f64,
        /// So many clients, the last ones, stop reading for good.
        deaf: usize,
    },
    /// Every client asks, and asks again when it is answered.
    Ask {
        /// What.
        question: Question,
        /// Posts there are; each question is about another place among them.
        posts: u64,
        /// How long.
        seconds: f64,
    },
    /// Every sender waits for its acknowledgement before it posts again; at the end, for the last ones.
    Closed {
        /// Bytes of text in a post.
        size: usize,
        /// How long.
        seconds: f64,
    },
}

impl Load {
    /// Runs one phase.
    ///
    /// # Errors
    /// [`Fail::Local`]: what this machine says.
    pub fn phase(&mut self, phase: &Phase) -> Result<PhaseResult, Fail> {
        let own = process::read(std::process::id()).ok();
        let since = Instant::now();
        self.crowd.busy = Duration::ZERO;
        let closed_before = self.crowd.sockets.closed.clone();
        let (strange_before, bytes_before) = (self.crowd.sockets.strange, self.crowd.sockets.bytes);
        match *phase {
            Phase::Hold { seconds } => self.run_for(Duration::from_secs_f64(seconds))?,
            Phase::Open { start_ns, rate, burst, size, seconds, deaf } => {
                self.deafen(deaf);
                self.post_on_the_clock(&Timetable::of(start_ns, rate, burst, seconds), size)?;
            }
            Phase::Ask { question, posts, seconds } => self.in_turn(Turns::Ask { question, posts }, seconds)?,
            Phase::Closed { size, seconds } => self.in_turn(Turns::Post { size }, seconds)?,
        }
        let wall = since.elapsed();
        let cpu = match (own, process::read(std::process::id()).ok()) {
            (Some(before), Some(after)) => Some(after.cpu.saturating_sub(before.cpu).as_secs_f64()),
            _ => None,
        };
        let sockets = &mut self.crowd.sockets;
        let mut closed = sockets.closed.clone();
        for (code, times) in closed_before {
            *closed.entry(code).or_default() -= times;
        }
        closed.retain(|_, times| *times > 0);
        let is_on_the_clock = matches!(phase, Phase::Open { .. });
        let mut result = PhaseResult::of(&self.crowd.board, self.crowd.dialect.has_acks(), is_on_the_clock);
        (result.closed, result.strange) = (closed, self.crowd.sockets.strange - strange_before);
        (result.wall_s, result.cpu_s) = (wall.as_secs_f64(), cpu);
        result.bytes = self.crowd.sockets.bytes - bytes_before;
        result.busy_s = self.crowd.busy.as_secs_f64();
        Ok(result)
    }

    fn run_for(&mut self, time: Duration) -> Result<(), Fail> {
        self.begin(Vec::new());
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.crowd.turn(TURN)?;
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, posts: Vec<PostFate>) {
        let numbers_before = self.crowd.board.posts.len();
        self.crowd.board.begin(posts, numbers_before);
        self.crowd.dialect.begin(&self.crowd.board);
    }

    /// Stops the last clients of the whole load from reading, those that are ours.
    fn deafen(&mut self, deaf: usize) {
        let from = self.share.clients.saturating_sub(deaf).saturating_sub(self.share.first);
        for at in from..self.share.count {
            self.crowd.deafen(at);
            let room = self.crowd.board.seating.room_of(self.share.first + at);
            let followers = &mut self.crowd.board.followers[room];
            *followers = followers.saturating_sub(1);
        }
    }

    fn post_on_the_clock(&mut self, table: &Timetable, size: usize) -> Result<(), Fail> {
        let posts = (0..table.posts).map(|place| PostFate { intended: table.due(place), ..PostFate::default() });
        self.begin(posts.collect());
        let ours = self.share.first..self.share.first + self.share.count;
        for place in 0..table.posts {
            let seat = self.crowd.board.seating.seat(place);
            if !ours.contains(&seat.client) {
                continue;
            }
            loop {
                let wait = Duration::from_nanos(table.due(place).saturating_sub(now_ns()));
                if wait.is_zero() {
                    break;
                }
                // The kernel's wait is counted in whole milliseconds; the rest is spent looking.
                let whole = Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(0));
                self.crowd.turn(whole.min(TURN))?;
            }
            self.post(seat.client - self.share.first, seat.room, place, size);
        }
        let until = Instant::now() + GRACE;
        let has_acks = self.crowd.dialect.has_acks();
        let end = table.due(table.posts.saturating_sub(1));
        while Instant::now() < until && (now_ns() < end || !self.crowd.board.is_complete(has_acks)) {
            self.crowd.turn(TURN)?;
        }
        Ok(())
    }

    pub(super) fn post(&mut self, at: usize, room: usize, place: usize, size: usize) {
        let board = &mut self.crowd.board;
        let number = board.base + place;
        board.posts[place].sent = now_ns();
        let text = self.crowd.dialect.post(room, number, board.body(number, size));
        self.crowd.sockets.send_text(at, text.as_bytes());
    }

    /// Each of ours does something, waits for the answer, and does it again; at the end the last answers are waited for.
    fn in_turn(&mut self, turns: Turns, seconds: f64) -> Result<(), Fail> {
        self.begin(Vec::new());
        let (seating, first) = (self.crowd.board.seating, self.share.first);
        for at in (0..self.share.count).filter(|at| (first + at) / seating.rooms < seating.senders) {
            self.next_turn(at, turns);
        }
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < until {
            self.crowd.turn(TURN)?;
            for at in std::mem::take(&mut self.crowd.board.answered) {
                self.next_turn(at, turns);
            }
        }
        let until = Instant::now() + GRACE;
        while Instant::now() < until && !turns.are_over(&mut self.crowd.board) {
            self.crowd.turn(TURN)?;
        }
        Ok(())
    }

    fn next_turn(&mut self, at: usize, turns: Turns) {
        let place = self.crowd.board.posts.len();
        self.crowd.board.posts.push(PostFate { intended: now_ns(), ..PostFate::default() });
        match turns {
            Turns::Post { size } => {
                let room = self.crowd.board.seating.room_of(self.share.first + at);
                self.post(at, room, place, size);
            }
            Turns::Ask { question, posts } => {
                self.crowd.board.posts[place].sent = now_ns();
                let number = self.crowd.board.base + place;
                let among = posts.saturating_sub(2 * PAGE).max(1);
                if let Dialect::Holdfast(holdfast) = &self.crowd.dialect {
                    let about = scattered(number as u64) % among + PAGE;
                    holdfast.ask(&mut self.crowd.sockets, at, number, question, about);
                }
            }
        }
    }

    /// Has everybody come back to a server that was started again, all at once and from where they began to follow.
    /// What is told as acknowledgements is how long each took until it had caught up.
    ///
    /// # Errors
    /// What the server answered, or that somebody never followed a room.
    pub fn come_back(&mut self, url: &str) -> Result<PhaseResult, Fail> {
        self.target = Target::at(url).map_err(Fail::Usage)?;
        let Dialect::Holdfast(holdfast) = &mut self.crowd.dialect else {
            return Err(Fail::Usage("only Holdfast's clients come back".into()));
        };
        let rooms = holdfast.come_back().map_err(Fail::Usage)?;
        self.crowd.hang_up()?;
        self.begin(Vec::new());
        let (since, begun) = (Instant::now(), now_ns());
        self.open_all(CRUSH, &rooms)?;
        let until = Instant::now() + STEP_LIMIT;
        let has_all = |crowd: &Crowd| match &crowd.dialect {
            Dialect::Holdfast(holdfast) => holdfast.setup.following == rooms.len(),
            Dialect::Plain(_) => true,
        };
        while Instant::now() < until && !has_all(&self.crowd) {
            self.crowd.turn(TURN)?;
        }
        let Crowd { board, dialect: Dialect::Holdfast(holdfast), .. } = &mut self.crowd else {
            return Err(Fail::Usage("only Holdfast's clients come back".into()));
        };
        let fate = |&acked: &u64| PostFate { intended: begun, sent: begun, acked, ..PostFate::default() };
        board.posts = holdfast.caught_up.iter().map(fate).collect();
        let mut result = PhaseResult::of(board, true, false);
        result.owed = holdfast.owed();
        (result.closed, result.strange) = (self.crowd.sockets.closed.clone(), self.crowd.sockets.strange);
        (result.wall_s, result.bytes) = (since.elapsed().as_secs_f64(), self.crowd.sockets.bytes);
        result.busy_s = self.crowd.busy.as_secs_f64();
        Ok(result)
    }
}

/// What is done again and again.
#[derive(Clone, Copy)]
enum Turns {
    Post { size: usize },
    Ask { question: Question, posts: u64 },
}

impl Turns {
    /// Tells whether nothing is under way any more. An answer comes to whoever asked, and to nobody else.
    fn are_over(self, board: &mut Board) -> bool {
        match self {
            Self::Post { .. } => board.is_complete(true),
            Self::Ask { .. } => board.posts.iter().all(|asked| asked.acked > 0 || asked.is_refused),
        }
    }
}

/// The same numbers in an order without a pattern.
fn scattered(number: u64) -> u64 {
    SplitMix64::new(number).draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_are_asked_about_are_spread() {
        let mut tenths = [0; 10];
        (0..1_000).for_each(|number| tenths[(scattered(number) % 10) as usize] += 1);
        assert!(tenths.iter().all(|&times| times > 60), "{tenths:?}");
    }
}
