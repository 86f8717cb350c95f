//! What became of each post: when it was due, sent, acknowledged, and delivered to how many.
//!
//! Must not live here: frames, sockets, the wait for the next post. Invariant: when a post is due is worked out from its
//! number alone, so every process of a load knows it without being told.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use memchr::memmem;

use crate::stats::histogram;

/// Most posts of one phase, in all processes together.
pub const POSTS: usize = 50_000_000;

/// Posts on a clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timetable {
    /// When the first is due, in nanoseconds of [`crate::clock::now_ns`].
    pub start_ns: u64,
    /// Ticks a second.
    pub rate: f64,
    /// Posts at each tick.
    pub burst: usize,
    /// How many posts there are.
    pub posts: usize,
}

impl Timetable {
    /// Makes the timetable of so many seconds: at least one tick.
    #[must_use]
    pub fn of(start_ns: u64, rate: f64, burst: usize, seconds: f64) -> Self {
        let ticks = (seconds * rate).ceil().max(1.0) as usize;
        Self { start_ns, rate, burst, posts: ticks.saturating_mul(burst).min(POSTS) }
    }

    /// When the post of this place is due, whatever has become of the ones before it.
    #[must_use]
    pub fn due(&self, place: usize) -> u64 {
        let tick = place / self.burst.max(1);
        self.start_ns + (tick as f64 * 1e9 / self.rate) as u64
    }
}

/// Who posts where: posts go round the rooms, and in each room round its senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seating {
    /// Clients in all processes together.
    pub clients: usize,
    /// Rooms; client `c` is in room `c % rooms`.
    pub rooms: usize,
    /// How many of each room post.
    pub senders: usize,
}

/// Where one post belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its room.
    pub room: usize,
    /// Which of the room's senders posts it.
    pub slot: usize,
    /// How many posts this sender has posted there before it.
    pub turn: usize,
    /// The client that posts it.
    pub client: usize,
}

impl Seating {
    /// Makes one in which every sender exists.
    #[must_use]
    pub fn of(clients: usize, rooms: usize, senders: usize) -> Self {
        let rooms = rooms.clamp(1, clients.max(1));
        Self { clients, rooms, senders: senders.clamp(1, (clients / rooms).max(1)) }
    }

    /// Where the post of this place belongs.
    #[must_use]
    pub fn seat(&self, place: usize) -> Seat {
        let (room, round) = (place % self.rooms, place / self.rooms);
        let slot = round % self.senders;
        Seat { room, slot, turn: round / self.senders, client: room + self.rooms * slot }
    }

    /// The room of a client.
    #[must_use]
    pub fn room_of(&self, client: usize) -> usize {
        client % self.rooms
    }
}

/// What is known of one post. Times are those of [`crate::clock::now_ns`], zero where it has not happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PostFate {
    /// When it should have been sent.
    pub intended: u64,
    /// When it was, by this process.
    pub sent: u64,
    /// When its acknowledgement came.
    pub acked: u64,
    /// Whether it was refused.
    pub is_refused: bool,
    /// When the last delivery so far came.
    pub last: u64,
    /// How many receivers of this process have it.
    pub deliveries: u32,
}

/// All posts of the phase that runs, and what was counted of them.
#[derive(Debug)]
pub struct Board {
    run: [u8; 8],
    /// Posts of earlier phases: the number of the first one of this phase.
    pub base: usize,
    /// Who posts where.
    pub seating: Seating,
    /// The posts of this phase.
    pub posts: Vec<PostFate>,
    /// Posts before this one are done.
    done: usize,
    /// Connections of this process that follow a room and read, by room.
    pub followers: Vec<u32>,
    /// Intended time to each delivery, in microseconds.
    pub deliveries: Histogram<u64>,
    /// Deliveries, of posts and of other changes.
    pub events: u64,
    /// Deliveries that came before.
    pub duplicates: u64,
    /// Deliveries that were skipped.
    pub gaps: u64,
    /// Refusals of posts, by code.
    pub refused: BTreeMap<String, u64>,
    /// Connections whose answer lets them post again (closed loop).
    pub answered: Vec<usize>,
}

impl Board {
    /// Makes an empty board; `run` marks its posts.
    #[must_use]
    pub fn new(run: [u8; 8], seating: Seating) -> Self {
        Self {
            run,
            base: 0,
            seating,
            posts: Vec::new(),
            done: 0,
            followers: vec![0; seating.rooms],
            deliveries: histogram(),
            events: 0,
            duplicates: 0,
            gaps: 0,
            refused: BTreeMap::new(),
            answered: Vec::new(),
        }
    }

    /// Forgets the phase before and begins the next, whose posts are numbered after it.
    pub fn begin(&mut self, posts: Vec<PostFate>, numbers_before: usize) {
        self.base += numbers_before;
        self.posts = posts;
        self.done = 0;
        self.deliveries.reset();
        (self.events, self.duplicates, self.gaps) = (0, 0, 0);
        self.refused.clear();
        self.answered.clear();
    }

    /// The text of a post: its mark and number, filled up to `size` bytes.
    #[must_use]
    pub fn body(&self, number: usize, size: usize) -> String {
        let mut body = format!("{}.{number}.", String::from_utf8_lossy(&self.run));
        body.extend(std::iter::repeat_n('x', size.saturating_sub(body.len())));
        body
    }

    /// Finds the number of one of our posts in a message.
    #[must_use]
    pub fn number_in(&self, text: &[u8]) -> Option<usize> {
        // The mark alone may stand in a name as well.
        let mut mark = [b'.'; 9];
        mark[..8].copy_from_slice(&self.run);
        let found = memmem::find(text, &mark)?;
        leading_number(&text[found + mark.len()..]).and_then(|number| usize::try_from(number).ok())
    }

    /// Notes a delivery of a post.
    pub fn delivered(&mut self, number: usize, now: u64) {
        if let Some(post) = number.checked_sub(self.base).and_then(|place| self.posts.get_mut(place)) {
            post.deliveries += 1;
            post.last = now;
            self.deliveries.saturating_record(now.saturating_sub(post.intended) / 1_000);
        }
    }

    /// Notes an acknowledgement, which came on connection `at`.
    pub fn acked(&mut self, at: usize, number: usize, now: u64) {
        if let Some(post) = number.checked_sub(self.base).and_then(|place| self.posts.get_mut(place)) {
            post.acked = now;
            self.answered.push(at);
        }
    }

    /// Notes a refusal, which came on connection `at`.
    pub fn refused(&mut self, at: usize, number: usize, code: String) {
        *self.refused.entry(code).or_default() += 1;
        if let Some(post) = number.checked_sub(self.base).and_then(|place| self.posts.get_mut(place)) {
            post.is_refused = true;
        }
        self.answered.push(at);
    }

    /// Tells whether every post is where it should be: delivered to all receivers of this process, and answered where
    /// this process sent it to a server that answers.
    pub fn is_complete(&mut self, has_acks: bool) -> bool {
        while let Some(post) = self.posts.get(self.done) {
            let answered = !has_acks || post.sent == 0 || post.acked > 0;
            let followers = self.followers[self.seating.seat(self.done).room];
            if !(post.is_refused || (answered && post.deliveries >= followers)) {
                return false;
            }
            self.done += 1;
        }
        true
    }
}

/// Reads the digits a text begins with.
#[must_use]
pub fn leading_number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_is_due_when_the_clock_says_not_when_the_one_before_was_done() {
        let table = Timetable::of(1_000, 320.0 / 16.0, 16, 2.0);
        assert_eq!(table.posts, 640);
        assert_eq!((table.due(0), table.due(15)), (1_000, 1_000));
        assert_eq!((table.due(16), table.due(639)), (50_001_000, 39 * 50_000_000 + 1_000));
        // No drift, however odd the rate: the tick is multiplied, not added up.
        let odd = Timetable::of(0, 3.0, 1, 1_000.0);
        assert_eq!(odd.due(2_997), 999_000_000_000);
        assert_eq!(Timetable::of(0, 0.1, 1, 1.0).posts, 1);
    }

    #[test]
    fn posts_go_round_the_rooms_and_in_each_round_its_senders() {
        let seating = Seating::of(10, 5, 2);
        let seats: Vec<_> = (0..10).map(|place| seating.seat(place)).collect();
        assert_eq!(seats.iter().map(|seat| seat.room).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
        assert_eq!(seats.iter().map(|seat| seat.client).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(seats.iter().all(|seat| seating.room_of(seat.client) == seat.room));
        assert_eq!(seating.seat(10), Seat { room: 0, slot: 0, turn: 1, client: 0 });
        // There are never more senders than members.
        assert_eq!(Seating::of(3, 1, 20).senders, 3);
    }

    #[test]
    fn a_number_is_found_in_whatever_surrounds_it() {
        let mut board = Board::new(*b"abcd1234", Seating::of(2, 1, 1));
        let body = board.body(71, 40);
        assert_eq!(body.len(), 40);
        assert_eq!(board.number_in(format!(r#"42["m","{body}"]"#).as_bytes()), Some(71));
        assert_eq!(board.number_in(format!(r#"{{"name":"bench abcd1234 1","body":"{body}"}}"#).as_bytes()), Some(71));
        assert_eq!(board.number_in(b"abcd1234x71."), None);
        assert_eq!(board.number_in(b"abcd1234.x"), None);
        board.followers[0] = 2;
        board.begin(vec![PostFate { intended: 1_000, sent: 1, ..PostFate::default() }], 71);
        board.delivered(71, 5_000);
        assert!(!board.is_complete(false));
        board.delivered(71, 6_000);
        assert!(board.is_complete(false) && board.posts[0].last == 6_000);
    }

    #[test]
    fn a_post_without_its_acknowledgement_is_not_done() {
        let mut board = Board::new(*b"abcd1234", Seating::of(2, 1, 1));
        board.begin(vec![PostFate { intended: 1, sent: 1, ..PostFate::default() }; 2], 0);
        board.acked(0, 0, 9);
        assert!(!board.is_complete(true));
        board.refused(0, 1, "too_long".into());
        assert!(board.is_complete(true));
        assert_eq!(board.answered, [0, 0]);
    }
}
