//! The runtime that targets with sockets run in.
//!
//! Must not live here: what runs. Invariant: a target leaves nothing running behind, and writing to a socket that the
//! other side has closed is an error as in any Rust program, also where the fuzzer's main function is none.

use std::sync::Once;

static ONCE: Once = Once::new();

/// Runs a future to its end, and everything it has started with it.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        ONCE.call_once(|| {
            // Rust's own start ignores this signal; libFuzzer's does not, and would end at a closed socket.
            #[cfg(unix)]
            drop(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::pipe()));
        });
        future.await
    })
}
