//! What a window shows.
//!
//! Must not live here: what was shown before ([`witness`](super::witness)). Invariant: elements are found by
//! `data-testid`, so words and looks are free to change; words are only compared where the words are what the test is
//! about.

use std::path::Path;
use std::time::Duration;

use chromiumoxide::page::ScreenshotParams;
use serde::Deserialize;

use super::witness::LIVE;
use super::{Tab, see};

/// Reads every row that is in the DOM, in the order it is laid out.
const READ_ROWS: &str = "[...document.querySelectorAll('[data-testid=row]')].map((row) => ({
    key: row.dataset.key ?? '',
    seq: row.dataset.seq ? Number(row.dataset.seq) : null,
    status: row.dataset.status ?? '',
    saved: row.dataset.saved === 'true',
    author: row.querySelector('[data-testid=row-author]')?.textContent ?? null,
    body: row.querySelector('[data-testid=row-body]')?.textContent ?? '',
}))";

/// A row of the page as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// Its identity, which never changes.
    pub key: String,
    /// Its place, once committed.
    pub seq: Option<u64>,
    /// `queued`, `sending`, `sent` or `refused`.
    pub status: String,
    /// Whether it says that it is stored on the device.
    pub saved: bool,
    /// Whose it is; absent where grouped under the row above.
    pub author: Option<String>,
    /// The text as shown.
    pub body: String,
}

impl Tab {
    /// Returns the text of an element; `None` where there is none.
    pub async fn text(&self, test_id: &str) -> Option<String> {
        self.evaluate::<Option<String>>(&format!(
            "document.querySelector('[data-testid=\"{test_id}\"]')?.textContent ?? null"
        ))
        .await
        .flatten()
    }

    /// Waits until an element says these words, among others.
    pub async fn wait_words(&self, test_id: &str, words: &str, deadline: Duration) {
        let look = async || self.text(test_id).await.unwrap_or_default();
        see(&format!("`{test_id}` says {words:?}"), deadline, look, |text| text.contains(words)).await;
    }

    /// Returns an attribute of an element; `None` where either is missing.
    pub async fn attribute(&self, test_id: &str, attribute: &str) -> Option<String> {
        let read =
            format!("document.querySelector('[data-testid=\"{test_id}\"]')?.getAttribute('{attribute}') ?? null");
        self.evaluate::<Option<String>>(&read).await.flatten()
    }

    /// Returns how many elements there are.
    pub async fn count(&self, test_id: &str) -> usize {
        self.evaluate(&format!("document.querySelectorAll('[data-testid=\"{test_id}\"]').length")).await.unwrap_or(0)
    }

    /// Waits until an element is there.
    pub async fn wait_for(&self, test_id: &str, deadline: Duration) {
        see(&format!("`{test_id}` appears"), deadline, async || self.count(test_id).await, |count| *count > 0).await;
    }

    /// Returns what stands in the composer.
    pub async fn draft(&self) -> String {
        self.evaluate("document.querySelector('[data-testid=composer]')?.value ?? ''").await.unwrap_or_default()
    }

    /// Returns every row in the DOM, in the order it is laid out.
    pub async fn rows(&self) -> Vec<Row> {
        self.evaluate(READ_ROWS).await.unwrap_or_default()
    }

    /// Returns the texts of the rows in the DOM.
    pub async fn bodies(&self) -> Vec<String> {
        self.rows().await.into_iter().map(|row| row.body).collect()
    }

    /// Waits until the rows are as wanted, and returns them.
    pub async fn wait_rows(&self, what: &str, deadline: Duration, good: impl Fn(&[Row]) -> bool) -> Vec<Row> {
        see(what, deadline, async || self.rows().await, |rows| good(rows)).await
    }

    /// Waits until exactly one row shows this text and is committed; returns it.
    ///
    /// # Panics
    /// If there is none in time, or more than one.
    pub async fn wait_sent(&self, text: &str, deadline: Duration) -> Row {
        let sent = |row: &Row| row.body == text && row.seq.is_some();
        let rows = self.wait_rows(&format!("{text:?} is shown as sent"), deadline, |rows| rows.iter().any(sent)).await;
        let mut found = rows.into_iter().filter(|row| row.body == text);
        let row = found.next().expect("just seen");
        assert_eq!(found.next(), None, "{text:?} is shown twice");
        row
    }

    /// Returns the connection state the page claims.
    pub async fn state(&self) -> String {
        self.attribute("status", "data-state").await.unwrap_or_default()
    }

    /// Waits until the page claims a connection state.
    pub async fn wait_state(&self, state: &str, deadline: Duration) {
        see(&format!("the state `{state}`"), deadline, async || self.state().await, |seen| seen == state).await;
        self.life(|life| life.is_seen_live |= state == LIVE);
    }

    /// Waits until the page claims one of these connection states, and returns which.
    pub async fn wait_state_in(&self, states: &[&str], deadline: Duration) -> String {
        see(
            &format!("one of the states {states:?}"),
            deadline,
            async || self.state().await,
            |seen| states.contains(&seen.as_str()),
        )
        .await
    }

    /// Keeps a picture of the window; says whether there was one to take.
    pub async fn picture(&self, path: &Path) -> bool {
        let picture =
            tokio::time::timeout(Duration::from_secs(5), self.page.save_screenshot(ScreenshotParams::default(), path))
                .await;
        matches!(picture, Ok(Ok(_)))
    }
}
