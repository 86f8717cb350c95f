//! What the page costs the device it runs on, in a room with a long history in which much is written.
//!
//! Must not live here: how that is measured (`e2e::browser`). Invariant: the ordinary test judges what does not depend on
//! time; times are judged in the campaign alone (`cargo xtask page --measure`), with the page that is released.

use std::time::{Duration, Instant};

use e2e::browser::LOAD_DEADLINE;
use e2e::campaign::{figure, is_campaign, measure, soak};
use e2e::page::{PATIENCE, options, program};
use e2e::{Stage, wait};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Posts a second while the page is looked at.
const POSTS_PER_S: u64 = 50;
/// Rows in the document at any time.
const ROWS_AT_ONCE: usize = 150;
/// How much slower the processor is while the page arrives.
const SLOWER: f64 = 4.0;
/// From the first paint to live, in milliseconds.
const ARRIVAL_MS: f64 = 1_000.0;
/// The longest call of the page's code on the main thread, in milliseconds.
const TASK_MS: f64 = 16.0;
/// Of how many calls that make the browser lay the page out one may do so more than once: a size was read, something
/// changed, and a size was read again.
const ONE_IN: usize = 10;
/// For how long tasks are recorded: a record of ten minutes does not fit.
const RECORDED: Duration = Duration::from_secs(30);
/// Until then the page fills the part of the room that it keeps, 5,000 rows; then it must not grow.
const FILLING: Duration = Duration::from_secs(150);
/// How much more it may hold at the end than once it was full, in MiB.
const GROWTH_MIB: f64 = 3.0;
/// How often the rows are counted, and how often the heap is.
const LOOKS: u32 = 100;
const HEAPS: u32 = 10;

const MIB: f64 = 1024.0 * 1024.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_room_with_a_long_history_costs_the_page_little() {
    let history = measure(1_000, 100_000);
    let lasts = soak(Duration::from_secs(6));
    Stage::run("busy-room", options(), async |stage| {
        let (mut writer, room) = program(stage, "Writer").await;
        writer.post_many(room, (0..history).map(|number| format!("post {number} of a long history"))).await;
        writer.forget_inbox();
        let person = stage.person().await;
        person.signed_in("Reader").await.close().await;

        let slow = person.blank().await;
        slow.unwatch().await;
        slow.slow_down(measure(1.0, SLOWER)).await;
        slow.goto(&stage.origin()).await;
        let arrival =
            wait::see("the page is live", LOAD_DEADLINE, async || slow.arrival().await, Option::is_some).await;
        let arrival = arrival.expect("it is there");
        slow.close().await;
        figure(&format!("first paint after {:.0} ms, live after {:.0} ms", arrival.painted, arrival.live));

        let tab = person.blank().await;
        tab.unwatch().await;
        tab.goto(&stage.origin()).await;
        tab.wait_state("live", LOAD_DEADLINE).await;
        let (begun, posts) = (Instant::now(), lasts.as_secs() * POSTS_PER_S);
        let writes = async {
            let mut clock = interval(Duration::from_secs(1) / POSTS_PER_S as u32);
            clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for number in 0..posts {
                clock.tick().await;
                writer.post(room, &format!("news {number}")).await.expect("a connection").expect("an ack");
                writer.forget_inbox();
            }
        };
        let looks = async {
            let recording = tab.record_tasks().await;
            sleep(RECORDED.min(lasts / 2)).await;
            let tasks = recording.end().await;
            let (mut most_rows, mut heaps) = (0, Vec::new());
            let mut clock = interval(lasts / LOOKS);
            for look in (1..=LOOKS).take_while(|_| begun.elapsed() < lasts) {
                clock.tick().await;
                most_rows = most_rows.max(tab.count("row").await);
                if look % (LOOKS / HEAPS) == 0 {
                    heaps.push((begun.elapsed(), tab.heap().await));
                }
            }
            (tasks, most_rows, heaps)
        };
        let ((), (tasks, most_rows, heaps)) = tokio::join!(writes, looks);
        let took = begun.elapsed();
        tab.wait_sent(&format!("news {}", posts - 1), PATIENCE).await;
        let over = |lengths: &[f64]| lengths.iter().filter(|length| **length > TASK_MS).count();
        let longest = |lengths: &[f64]| lengths.first().copied().unwrap_or_default();
        figure(&format!(
            "{posts} posts in {:.0} s into a room of {history}: at most {most_rows} rows in the document",
            took.as_secs_f64()
        ));
        for (what, lengths) in
            [("calls of the page's code", &tasks.calls), ("tasks with all that the browser does", &tasks.whole)]
        {
            figure(&format!(
                "of {} {what} {} took more than {TASK_MS} ms, the longest {:.1} ms",
                lengths.len(),
                over(lengths),
                longest(lengths)
            ));
        }
        let again = tasks.layouts.iter().filter(|count| **count > 1).count();
        let laid_out = tasks.layouts.len();
        figure(&format!("of {laid_out} calls that made the browser lay the page out {again} did so more than once"));
        for (at, heap) in &heaps {
            let (script, module) = (heap.script / MIB, heap.module / MIB);
            figure(&format!("after {:.0} s: scripts hold {script:.1} MiB, the module {module:.1}", at.as_secs_f64()));
        }
        assert!(!tasks.whole.is_empty() && !tasks.calls.is_empty() && laid_out > 0, "nothing was recorded");
        assert!(most_rows <= ROWS_AT_ONCE, "{most_rows} rows were in the document at once");
        assert!(again * ONE_IN <= laid_out, "{again} of {laid_out} calls laid the page out more than once");
        if is_campaign() {
            let late = arrival.live - arrival.painted;
            assert!(late <= ARRIVAL_MS, "{late:.0} ms from the first paint to live");
            assert_eq!(
                over(&tasks.calls),
                0,
                "calls longer than {TASK_MS} ms: {:?}",
                &tasks.calls[..over(&tasks.calls)]
            );
            let held = |(_, heap): &(Duration, e2e::browser::Heap)| (heap.script + heap.module) / MIB;
            let full = heaps.iter().find(|(at, _)| *at >= FILLING.min(lasts / 2)).expect("it was full");
            let end = heaps.last().expect("an end");
            assert!(held(end) <= held(full) + GROWTH_MIB, "{:.1} MiB became {:.1}", held(full), held(end));
        }
    })
    .await;
}
