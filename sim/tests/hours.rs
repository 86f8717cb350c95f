//! A dense hour on which nothing may gather; `cargo xtask sim --hours 24` lives through a whole day.

use sim::heap::Counting;
use sim::hours::{self, Hour, Span};

#[global_allocator]
static HEAP: Counting = Counting;

#[test]
fn over_hours_of_ordinary_churn_nothing_gathers_but_the_log() {
    let seed = std::env::var("HOLDFAST_SEED").map_or(0, |seed| seed.parse().expect("HOLDFAST_SEED is a number"));
    println!("HOLDFAST_SEED={seed}");
    let lived = hours::live(&Span::short(seed), |hour| println!("{hour:?}"));
    let hours = lived.unwrap_or_else(|violation| panic!("seed {seed}: {}", violation.0));
    let last = hours.last().expect("there are hours");
    assert!(last.posts > 3_000, "only {} posts", last.posts);
    assert!(last.came > 4 * last.devices as u64, "hardly anybody ever came back: {} sockets", last.came);
    assert!(last.server_bytes > 0 && last.session_bytes > 0 && last.page_bytes > 0, "the heap is not counted");
}

#[test]
fn what_gathers_is_told() {
    let hour = |number: usize| Hour {
        number,
        server_bytes: 400_000,
        session_bytes: 20_000,
        page_bytes: 1_000_000,
        log_bytes: 700_000 * (number + 1),
        world_bytes: 0,
        devices: 4,
        came: 20,
        connections: 4,
        sockets: 4,
        registered: 4,
        present: 2,
        streams: 4,
        followers: 11,
        watchers: 1,
        tail_frames: 512,
        tail_bytes: 100_000,
        unsent: 0,
        awaited: 0,
        rows: 4_000,
        longest_rows: 1_000,
        posts: 1_000 * (number as u64 + 1),
        keys: 1_100 * (number as u64 + 1),
        records: 1_200 * (number as u64 + 1),
        most_connections: 6,
        most_queued_bytes: 0,
        most_unsent: 10,
        planned: 10,
    };
    let judged = |change: fn(&mut Hour)| {
        let mut hours: Vec<Hour> = (0..24).map(hour).collect();
        hours.iter_mut().for_each(change);
        hours::judge(&hours, &Span::of_hours(0, 24)).map_err(|violation| violation.0).err().unwrap_or_default()
    };
    assert_eq!(judged(|_| {}), "");
    assert!(judged(|hour| hour.server_bytes += hour.number * 1_000).contains("server's heap"));
    assert!(judged(|hour| hour.session_bytes += hour.number * 250).contains("sessions' heap"));
    assert!(judged(|hour| hour.page_bytes += hour.number * 20_000).contains("timelines' heap"));
    assert!(judged(|hour| hour.keys += (hour.number as u64).pow(2) * 20).contains("keys a post"));
    assert!(judged(|hour| hour.records += (hour.number as u64).pow(2) * 20).contains("records a post"));
    assert!(judged(|hour| hour.log_bytes *= (hour.number + 1).pow(2)).contains("a key of the log"));
    for (words, change) in [
        ("connections", (|hour| hour.connections += 1) as fn(&mut Hour)),
        ("sockets", |hour| hour.sockets += 1),
        ("index", |hour| hour.registered += 1),
        ("people", |hour| hour.present += 1),
        ("streams", |hour| hour.streams += 1),
        ("followers", |hour| hour.followers += 1),
        ("watchers", |hour| hour.watchers += 1),
        ("unsent", |hour| hour.unsent += 1),
        ("awaited", |hour| hour.awaited = 5),
        ("frames in tails", |hour| hour.tail_frames += 1),
        ("bytes in tails", |hour| hour.tail_bytes += 500_000),
        ("rows", |hour| hour.longest_rows = 5_251),
        ("connections at once", |hour| hour.most_connections = 33),
    ] {
        assert!(judged(change).contains(words), "{words}: {}", judged(change));
    }
}
