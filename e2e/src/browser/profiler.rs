//! What a page costs the device it runs on: a slower processor, the tasks of the main thread, memory.
//!
//! Must not live here: what may be cost. Invariant: a window that is measured is not watched, since watching is work on
//! the same thread.

use std::collections::HashSet;

use chromiumoxide::cdp::browser_protocol::emulation::SetCpuThrottlingRateParams;
use chromiumoxide::cdp::browser_protocol::tracing::{
    EndParams, EventDataCollected, EventTracingComplete, StartParams, StartTransferMode, TraceConfig,
};
use chromiumoxide::cdp::js_protocol::heap_profiler::CollectGarbageParams;
use chromiumoxide::cdp::js_protocol::runtime::{GetHeapUsageParams, RemoveBindingParams};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::tab::Tab;
use super::{COMMAND_DEADLINE, witness};

/// Where Chromium tells of tasks and of calls.
const CATEGORIES: [&str; 2] = ["toplevel", "devtools.timeline"];
/// What it calls a task of a thread, a call from the browser into script, and a layout.
const TASK: &str = "ThreadControllerImpl::RunTask";
const CALL: &str = "FunctionCall";
const LAYOUT: &str = "Layout";

/// Notes when the page first said that it is live, and where its module's memory is.
const NOTE: &str = "for (const name of ['instantiate', 'instantiateStreaming']) {
    const original = WebAssembly[name];
    WebAssembly[name] = async (...given) => {
        const made = await original.apply(WebAssembly, given);
        window.holdfastMemory = (made.instance ?? made).exports.memory;
        return made;
    };
}
new MutationObserver((_, observer) => {
    if (document.querySelector('[data-testid=status]')?.dataset.state !== 'live') return;
    window.holdfastLive = performance.now();
    observer.disconnect();
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-state'] })";

/// Reads when the page was first painted and when it was live.
const READ_ARRIVAL: &str = "({
    painted: performance.getEntriesByName('first-paint')[0]?.startTime ?? null, live: window.holdfastLive ?? null })";

/// When a page came up, in milliseconds since its navigation began.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
pub struct Arrival {
    /// The first paint.
    pub painted: f64,
    /// The first moment at which it said that it is live.
    pub live: f64,
}

/// What a page holds after its garbage was collected, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heap {
    /// Objects of scripts.
    pub script: f64,
    /// The module's memory, which never shrinks.
    pub module: f64,
}

/// What main threads did in a span: how long each took, longest first, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tasks {
    /// Tasks, with all that the browser does in them: styles, layout, paint.
    pub whole: Vec<f64>,
    /// Calls of the page's code, with the layout that it asks for.
    pub calls: Vec<f64>,
    /// How often each call made the browser lay the page out, the most first; calls that did not are left out.
    pub layouts: Vec<usize>,
}

/// A recording that runs.
pub struct Recording {
    tab: Tab,
    events: JoinHandle<Vec<Value>>,
}

impl Tab {
    /// Leaves the window unwatched from its next page on, but for what [`Self::arrival`] and [`Self::heap`] tell.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn unwatch(&self) {
        self.life(|life| life.is_unwatched = true);
        self.command(RemoveBindingParams::new(witness::BINDING)).await.expect("the witness goes");
        self.before_load(NOTE).await;
    }

    /// Makes the processor so many times slower for the page; 1 is as it is.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn slow_down(&self, times: f64) {
        self.command(SetCpuThrottlingRateParams::new(times)).await.expect("the processor is slowed down");
    }

    /// Says when the page came up; `None` until it was painted and live.
    pub async fn arrival(&self) -> Option<Arrival> {
        self.evaluate(READ_ARRIVAL).await
    }

    /// Collects the page's garbage and says what it holds.
    ///
    /// # Panics
    /// If the browser does not tell.
    pub async fn heap(&self) -> Heap {
        self.command(CollectGarbageParams::default()).await.expect("garbage is collected");
        let usage = self.command(GetHeapUsageParams::default()).await.expect("the heap is told").result;
        let module = self.evaluate::<f64>("window.holdfastMemory.buffer.byteLength").await.expect("a module");
        Heap { script: usage.used_size + usage.backing_storage_size, module }
    }

    /// Records the tasks of the browser's main threads from now on.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn record_tasks(&self) -> Recording {
        let mut told = self.page.event_listener::<EventDataCollected>().await.expect("a listener");
        let mut over = self.page.event_listener::<EventTracingComplete>().await.expect("a listener");
        let events = tokio::spawn(async move {
            let mut events = Vec::new();
            loop {
                tokio::select! {
                    biased;
                    Some(told) = told.next() => events.extend(told.value.iter().filter(|event| is_wanted(event)).cloned()),
                    _ = over.next() => return events,
                }
            }
        });
        let categories = CATEGORIES.map(str::to_owned).to_vec();
        let config = TraceConfig::builder().included_categories(categories).excluded_categories(["*".to_owned()]);
        let start = StartParams::builder().transfer_mode(StartTransferMode::ReportEvents).trace_config(config.build());
        self.command(start.build()).await.expect("tasks are recorded");
        Recording { tab: self.clone(), events }
    }
}

impl Recording {
    /// Ends it and returns what it holds.
    ///
    /// # Panics
    /// If the browser does not tell.
    pub async fn end(self) -> Tasks {
        self.tab.command(EndParams::default()).await.expect("the recording ends");
        let events = timeout(COMMAND_DEADLINE, self.events).await.expect("a recording comes whole").expect("no panic");
        tasks(&events)
    }
}

fn is_wanted(event: &Value) -> bool {
    [TASK, CALL, LAYOUT, "thread_name"].iter().any(|name| event["name"] == *name)
}

fn thread(event: &Value) -> (Option<u64>, Option<u64>) {
    (event["pid"].as_u64(), event["tid"].as_u64())
}

fn tasks(events: &[Value]) -> Tasks {
    let names_main = |event: &&Value| event["name"] == "thread_name" && event["args"]["name"] == "CrRendererMain";
    let main: HashSet<_> = events.iter().filter(names_main).map(thread).collect();
    let main = &main;
    let of_main = |name: &'static str| {
        let is_it = move |event: &&Value| event["ph"] == "X" && event["name"] == name && main.contains(&thread(event));
        events.iter().filter(is_it)
    };
    let lengths = |name: &'static str| {
        // In microseconds.
        let us = of_main(name).filter_map(|event| event["dur"].as_f64());
        let mut lengths: Vec<f64> = us.map(|us| us / 1_000.0).collect();
        lengths.sort_by(|left, right| right.total_cmp(left));
        lengths
    };
    let begun = |event: &Value| event["ts"].as_f64().unwrap_or_default();
    let mut moments: Vec<_> = of_main(LAYOUT).map(|event| (thread(event), begun(event))).collect();
    moments.sort_by(|left, right| left.0.cmp(&right.0).then(left.1.total_cmp(&right.1)));
    let layouts_in = |call: &Value| {
        let (from, until) = (begun(call), begun(call) + call["dur"].as_f64().unwrap_or_default());
        let first_at = |at: f64| moments.partition_point(|moment| (moment.0, moment.1) < (thread(call), at));
        first_at(until) - first_at(from)
    };
    let mut layouts: Vec<usize> = of_main(CALL).map(layouts_in).filter(|count| *count > 0).collect();
    layouts.sort_unstable_by(|left, right| right.cmp(left));
    Tasks { whole: lengths(TASK), calls: lengths(CALL), layouts }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tasks_of_the_main_thread_count_and_no_others() {
        let at = |ts: u64, tid: u64, name: &str, dur: u64| json!({ "ph": "X", "name": name, "pid": 1, "tid": tid, "ts": ts, "dur": dur });
        let task = |tid: u64, name: &str, dur: u64| at(0, tid, name, dur);
        let name = |tid: u64, name: &str| json!({ "ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": { "name": name } });
        let events = [
            task(1, TASK, 2_000),
            task(2, TASK, 90_000),
            task(1, TASK, 17_500),
            task(1, CALL, 1_500),
            at(2_000, 1, LAYOUT, 50_000),
            at(10_000, 1, CALL, 1_000),
            at(10_100, 1, LAYOUT, 100),
            at(10_300, 1, LAYOUT, 100),
            at(10_400, 2, LAYOUT, 100),
            name(1, "CrRendererMain"),
            name(2, "Compositor"),
        ];
        assert_eq!(tasks(&events), Tasks { whole: vec![17.5, 2.0], calls: vec![1.5, 1.0], layouts: vec![2] });
    }
}
