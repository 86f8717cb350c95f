//! What one process found in a phase, and what all of them found together.
//!
//! Must not live here: measuring, tables. Invariant: what was lost is counted from the posts, never from what a process
//! believes to have received.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::board::{Board, PostFate, Seating};
use crate::stats::{Counts, Percentiles, histogram};

/// A post, as it travels between processes: intended, sent, acknowledged, last delivery, deliveries, refused.
type Fate = (u64, u64, u64, u64, u32, bool);

/// What one process found in one phase.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PhaseResult {
    /// Posts on the clock, all of them, whoever sent them. None in a closed loop.
    fates: Vec<Fate>,
    /// Connections of this process that follow and read, by room.
    followers: Vec<u32>,
    has_acks: bool,
    deliveries: Counts,
    /// Posts of a closed loop, and those of them that were acknowledged.
    posts: u64,
    acks: Counts,
    acked: u64,
    events: u64,
    duplicates: u64,
    gaps: u64,
    refused: BTreeMap<String, u64>,
    /// Connections that closed meanwhile, by code.
    pub closed: BTreeMap<u16, usize>,
    /// Frames nobody expected.
    pub strange: u64,
    /// The time from the beginning until nothing was under way any more, in seconds.
    pub wall_s: f64,
    /// This process's own CPU time, in seconds.
    pub cpu_s: Option<f64>,
    /// Time it spent on what came, in seconds.
    pub busy_s: f64,
    /// Bytes it read.
    pub bytes: u64,
    /// Events that somebody who came back is still owed.
    pub owed: u64,
}

impl PhaseResult {
    /// Reads the board. Posts on the clock are told one by one, for every process knows them.
    #[must_use]
    pub fn of(board: &Board, has_acks: bool, is_on_the_clock: bool) -> Self {
        let mut result = Self {
            followers: board.followers.clone(),
            has_acks,
            deliveries: Counts::from(&board.deliveries),
            events: board.events,
            duplicates: board.duplicates,
            gaps: board.gaps,
            refused: board.refused.clone(),
            ..Self::default()
        };
        if is_on_the_clock {
            let fate = |p: &PostFate| (p.intended, p.sent, p.acked, p.last, p.deliveries, p.is_refused);
            result.fates = board.posts.iter().map(fate).collect();
        } else {
            let mut acks = histogram();
            for post in board.posts.iter().filter(|post| post.acked > 0) {
                acks.saturating_record(post.acked.saturating_sub(post.intended) / 1_000);
                result.acked += 1;
            }
            (result.acks, result.posts) = (Counts::from(&acks), board.posts.len() as u64);
        }
        result
    }
}

/// What all processes found in one phase.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// The time that counts, in seconds: of posts on the clock, as long as they were due.
    pub seconds: f64,
    /// From the beginning until the last delivery, in seconds.
    pub wall_s: f64,
    /// Posts sent.
    pub posts: u64,
    /// Of these, acknowledged; where nothing is acknowledged, all.
    pub acked: u64,
    /// Refused, by code.
    pub refused: BTreeMap<String, u64>,
    /// Deliveries due: for each acknowledged post, the followers of its room.
    pub expected: u64,
    /// Deliveries of posts.
    pub deliveries: u64,
    /// Due and not delivered within the grace.
    pub lost: u64,
    /// Deliveries that came twice.
    pub duplicates: u64,
    /// Deliveries that were skipped, or came out of order.
    pub gaps: u64,
    /// Frames nobody expected.
    pub strange: u64,
    /// Connections that closed meanwhile, by code.
    pub closed: BTreeMap<u16, usize>,
    /// Changes received, posts and others.
    pub events: u64,
    /// Bytes read, in all.
    pub bytes: u64,
    /// From the intended time (closed loop: from sending) to the acknowledgement.
    pub ack_us: Percentiles,
    /// From the intended time to each delivery.
    pub delivery_us: Percentiles,
    /// From the intended time to the last receiver's delivery.
    pub last_receiver_us: Percentiles,
    /// How late the load itself sent. Part of all of the above; if it is large, the load was the limit.
    pub lateness_us: Percentiles,
    /// CPU time of the load over the whole time, of one core.
    pub load_cpu_share: Option<f64>,
    /// Time the load spent on what came, of one core: near 1, the load was the limit.
    pub load_busy_share: f64,
}

impl Outcome {
    /// Puts the processes' results of one phase together.
    #[must_use]
    pub fn of(results: &[PhaseResult], seating: Seating, asked_seconds: f64) -> Self {
        let mut whole = Self::default();
        let (mut acks, mut deliveries) = (histogram(), histogram());
        let mut followers = vec![0_u64; seating.rooms];
        let mut cpu = Some(0.0);
        let mut busy = 0.0;
        for result in results {
            result.deliveries.add_to(&mut deliveries);
            result.acks.add_to(&mut acks);
            whole.acked += result.acked;
            whole.posts += result.posts;
            whole.duplicates += result.duplicates;
            whole.gaps += result.gaps;
            whole.strange += result.strange;
            whole.bytes += result.bytes;
            whole.lost += result.owed;
            whole.events += result.events;
            for (code, times) in &result.refused {
                *whole.refused.entry(code.clone()).or_default() += times;
            }
            for (code, times) in &result.closed {
                *whole.closed.entry(*code).or_default() += times;
            }
            for (sum, count) in followers.iter_mut().zip(&result.followers) {
                *sum += u64::from(*count);
            }
            whole.wall_s = whole.wall_s.max(result.wall_s);
            cpu = cpu.zip(result.cpu_s).map(|(sum, own)| sum + own);
            busy += result.busy_s;
        }
        whole.delivery_us = Percentiles::from(&deliveries);
        whole.ack_us = Percentiles::from(&acks);
        whole.seconds = whole.wall_s;
        let wall = whole.wall_s.max(f64::MIN_POSITIVE);
        (whole.load_cpu_share, whole.load_busy_share) = (cpu.map(|cpu| cpu / wall), busy / wall);
        let posts = results.iter().map(|result| result.fates.len()).max().unwrap_or(0);
        if posts > 0 {
            whole.seconds = asked_seconds;
            whole.merge_posts(results, seating, &followers, posts);
        }
        whole
    }

    fn merge_posts(&mut self, results: &[PhaseResult], seating: Seating, followers: &[u64], posts: usize) {
        let (mut acks, mut last, mut late) = (histogram(), histogram(), histogram());
        let us = |from: u64, to: u64| to.saturating_sub(from) / 1_000;
        let has_acks = results.iter().any(|result| result.has_acks);
        for place in 0..posts {
            let (mut post, mut got) = (PostFate::default(), 0_u64);
            for &(intended, sent, acked, last, deliveries, is_refused) in
                results.iter().filter_map(|result| result.fates.get(place))
            {
                post.intended = intended;
                post.sent = post.sent.max(sent);
                post.acked = post.acked.max(acked);
                post.last = post.last.max(last);
                post.is_refused |= is_refused;
                got += u64::from(deliveries);
            }
            if post.sent == 0 {
                continue;
            }
            self.posts += 1;
            self.deliveries += got;
            late.saturating_record(us(post.intended, post.sent));
            let due = followers[seating.seat(place).room];
            if post.acked > 0 {
                acks.saturating_record(us(post.intended, post.acked));
            }
            if post.acked > 0 || !has_acks {
                self.acked += 1;
                self.expected += due;
                self.lost += due.saturating_sub(got);
            }
            if got >= due && due > 0 {
                last.saturating_record(us(post.intended, post.last));
            }
        }
        let percentiles = |of: &Histogram<u64>| Percentiles::from(of);
        (self.ack_us, self.last_receiver_us) = (percentiles(&acks), percentiles(&last));
        self.lateness_us = percentiles(&late);
    }

    /// Tells whether anything went missing or came twice.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicates == 0 && self.gaps == 0 && self.strange == 0 && self.closed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that has two followers, and sent the posts that it is told.
    fn process(posts: &[(u64, u64, u32)]) -> PhaseResult {
        let mut board = Board::new(*b"abcd1234", Seating::of(4, 1, 2));
        board.followers[0] = 2;
        let fate = |&(sent, acked, deliveries): &(u64, u64, u32)| PostFate {
            intended: 1_000_000,
            sent,
            acked,
            last: if deliveries > 0 { 3_000_000 + sent } else { 0 },
            deliveries,
            is_refused: false,
        };
        board.begin(posts.iter().map(fate).collect(), 0);
        PhaseResult::of(&board, true, true)
    }

    #[test]
    fn the_parts_of_two_processes_are_one_whole() {
        let first = process(&[(1_500_000, 2_000_000, 2), (0, 0, 2), (1_000_000, 0, 0)]);
        let second = process(&[(0, 0, 2), (1_000_000, 2_500_000, 1), (0, 0, 0)]);
        let whole = Outcome::of(&[first, second], Seating::of(4, 1, 2), 10.0);
        assert_eq!((whole.posts, whole.acked, whole.expected), (3, 2, 8));
        // One receiver has not got the second post; the third was never acknowledged, so nobody was owed it.
        assert_eq!((whole.deliveries, whole.lost), (7, 1));
        assert_eq!(whole.last_receiver_us.count, 1);
        assert!(whole.last_receiver_us.max >= 3_500, "{:?}", whole.last_receiver_us);
        assert_eq!((whole.lateness_us.count, whole.ack_us.count), (3, 2));
        assert!(!whole.is_clean() && whole.seconds == 10.0);
    }

    #[test]
    fn a_server_that_acknowledges_nothing_owes_every_post() {
        let mut result = process(&[(1_000_000, 0, 2), (1_000_000, 0, 1)]);
        result.has_acks = false;
        let whole = Outcome::of(&[result], Seating::of(2, 1, 2), 1.0);
        assert_eq!((whole.acked, whole.expected, whole.lost), (2, 4, 1));
    }

    #[test]
    fn a_result_survives_its_way_between_processes() {
        let result = process(&[(1_500_000, 2_000_000, 2)]);
        let text = serde_json::to_string(&result).unwrap();
        let back: PhaseResult = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }
}
