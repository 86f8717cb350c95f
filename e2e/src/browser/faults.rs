//! What can befall a window beside its network: frozen, hidden, thrown out of memory, killed, without room to store.
//!
//! Must not live here: expectations. Invariant: a verb returns when the browser says that it is so, not a while later.

use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::browser::{
    Bounds, GetWindowForTargetParams, SetWindowBoundsParams, WindowState,
};
use chromiumoxide::cdp::browser_protocol::page::{
    CrashParams, GetNavigationHistoryParams, NavigateToHistoryEntryParams, SetWebLifecycleStateParams,
    SetWebLifecycleStateState,
};
use chromiumoxide::cdp::browser_protocol::storage::ClearDataForOriginParams;
use tokio::time::timeout;

use super::tab::Tab;
use super::{Shown, see};

/// For what the browser does by itself.
const DEADLINE: Duration = Duration::from_secs(20);
/// A renderer that was told to crash answers nothing.
const CRASH_WAIT: Duration = Duration::from_secs(2);

/// Reads the texts of every draft the device keeps, or of every unsent item.
const READ_STORE: &str = "(async (store) => {
    const known = await indexedDB.databases();
    if (!known.some(({ name }) => name === 'holdfast')) return [];
    const result = (request) => new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
    const db = await result(indexedDB.open('holdfast'));
    try {
        return await result(db.transaction(store).objectStore(store).getAll());
    } finally {
        db.close();
    }
})";

impl Tab {
    /// Freezes the page, as a phone does with what is not looked at: no script runs, and nothing tells the server.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn freeze(&self) {
        let frozen = SetWebLifecycleStateParams::new(SetWebLifecycleStateState::Frozen);
        self.command(frozen).await.expect("the page is frozen");
    }

    /// Lets a frozen page run again and be seen.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn thaw(&self) {
        let active = SetWebLifecycleStateParams::new(SetWebLifecycleStateState::Active);
        self.command(active).await.expect("the page is thawed");
        // A thawed page stays hidden until its window was.
        self.hide().await;
        self.show().await;
    }

    /// Puts the window away and waits until the page knows.
    pub async fn hide(&self) {
        self.window_is(WindowState::Minimized).await;
        self.wait_visibility("hidden").await;
    }

    /// Opens another tab before this one in the same window, and waits until the page knows.
    pub async fn go_behind(&self) {
        self.evaluate::<bool>("open('about:blank', '_blank', 'noopener'), true").await;
        self.wait_visibility("hidden").await;
    }

    /// Brings the window back and waits until the page knows.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn show(&self) {
        self.window_is(WindowState::Normal).await;
        self.page().bring_to_front().await.expect("the window comes to the front");
        self.wait_visibility("visible").await;
    }

    async fn window_is(&self, state: WindowState) {
        let window = self.command(GetWindowForTargetParams::default()).await.expect("a tab has a window");
        let bounds = Bounds::builder().window_state(state).build();
        self.command(SetWindowBoundsParams::new(window.result.window_id, bounds)).await.expect("a window can be moved");
    }

    async fn wait_visibility(&self, wanted: &str) {
        let look = async || self.evaluate::<String>("document.visibilityState").await.unwrap_or_default();
        see(&format!("the page is {wanted}"), DEADLINE, look, |seen| seen == wanted).await;
    }

    /// Kills the page where it stands: no script of it runs any more, not even a last one.
    pub async fn crash(&self) {
        // There is nobody left to answer.
        timeout(CRASH_WAIT, self.page().execute(CrashParams::default())).await.ok();
        self.life(|life| life.shown.push(Shown::nothing()));
    }

    /// Goes back or forward in the window's history, by so many steps.
    ///
    /// # Panics
    /// If there is no such entry.
    pub async fn travel(&self, steps: i64) {
        let history = self.command(GetNavigationHistoryParams::default()).await.expect("a window has a history").result;
        let at = usize::try_from(history.current_index + steps).expect("an entry before or after");
        let entry = history.entries.get(at).expect("an entry before or after").id;
        self.command(NavigateToHistoryEntryParams::new(entry)).await.expect("the browser goes there");
    }

    /// Clears what the browser keeps in IndexedDB for this page, as a person may in its settings.
    ///
    /// # Panics
    /// If the browser does not do it.
    pub async fn clear_storage(&self) {
        let origin = self.evaluate::<String>("location.origin").await.expect("a page has an origin");
        self.command(ClearDataForOriginParams::new(origin, "indexeddb")).await.expect("the browser clears it");
    }

    /// Returns the texts of every draft the device keeps.
    pub async fn stored_drafts(&self) -> Vec<String> {
        self.evaluate(&format!("{READ_STORE}('drafts')")).await.unwrap_or_default()
    }

    /// Returns every unsent item the device keeps, as it is stored.
    pub async fn stored_items(&self) -> Vec<String> {
        self.evaluate(&format!("{READ_STORE}('outbox')")).await.unwrap_or_default()
    }
}
