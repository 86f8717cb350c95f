//! One window with the page: what a person does in it and what it shows.
//!
//! Must not live here: the browser's life. Invariant: elements are found by `data-testid`, so words and looks are free to
//! change; words are only compared where the words are what the test is about.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::emulation::SetUserAgentOverrideParams;
use chromiumoxide::cdp::browser_protocol::input::{
    DispatchKeyEventParams, DispatchKeyEventType, ImeSetCompositionParams, InsertTextParams,
};
use chromiumoxide::cdp::browser_protocol::log::{EventEntryAdded, LogEntryLevel};
use chromiumoxide::cdp::browser_protocol::page::{
    AddScriptToEvaluateOnNewDocumentParams, EventFrameStartedNavigating, EventJavascriptDialogOpening,
    HandleJavaScriptDialogParams, NavigateParams, ReloadParams,
};
use chromiumoxide::cdp::js_protocol::runtime::{
    AddBindingParams, ConsoleApiCalledType, EventBindingCalled, EventConsoleApiCalled, EventExceptionThrown,
};
use chromiumoxide::error::CdpError;
use chromiumoxide::keys::get_key_definition;
use chromiumoxide::page::ScreenshotParams;
use chromiumoxide::types::{Command, CommandResponse};
use futures_util::StreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::witness::{self, Cut, Shown};
use super::{COMMAND_DEADLINE, LOAD_DEADLINE, Said, SharedSaid, see};

/// Turns a violation of the page's own policy into an error that is seen like any other.
const REPORT_VIOLATIONS: &str = "document.addEventListener('securitypolicyviolation', (e) => \
    console.error(`CSP violated: ${e.violatedDirective} by ${e.blockedURI} at ${e.sourceFile}:${e.lineNumber}`))";

/// Notes when a composition ended last.
const NOTE_COMPOSITIONS: &str =
    "document.addEventListener('compositionend', (e) => { window.holdfastComposed = e.timeStamp; })";

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

/// How long the page may take to evaluate an expression; one that is being loaded never does.
const EVALUATE_DEADLINE: Duration = Duration::from_secs(5);

/// How long a person takes to answer "leave this page?".
const READING_TIME: Duration = Duration::from_millis(300);

/// A window with the page. Clones are the same window.
#[derive(Clone, Debug)]
pub struct Tab {
    page: Page,
    said: SharedSaid,
    life: Arc<Mutex<Life>>,
}

/// What a tab has shown since it was opened, and what of its own cut it off.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// The address it was opened at.
    pub(super) address: String,
    pub(super) shown: Vec<Shown>,
    pub(super) cuts: Vec<Cut>,
}

impl Tab {
    /// Takes an empty window and hears everything it will say, from before the first byte of the page.
    pub(super) async fn listen(page: Page, language: &str) -> Self {
        let tab = Self { page, said: SharedSaid::default(), life: Arc::default() };
        tab.hear().await;
        tab.watch().await;
        let agent = tab.page.user_agent().await.expect("a browser has a user agent");
        let mut identity = SetUserAgentOverrideParams::new(agent);
        identity.accept_language = Some(language.to_owned());
        tab.command(identity).await.expect("the language is set");
        tab.before_load(REPORT_VIOLATIONS).await;
        tab.before_load(NOTE_COMPOSITIONS).await;
        tab
    }

    /// Notes what the page shows at every moment, from its first to its last.
    async fn watch(&self) {
        let mut told = self.page.event_listener::<EventBindingCalled>().await.expect("a listener");
        self.command(AddBindingParams::new(witness::BINDING)).await.expect("the page can tell");
        self.before_load(witness::SCRIPT).await;
        let life = Arc::clone(&self.life);
        // Ends with the window.
        tokio::spawn(async move {
            while let Some(event) = told.next().await {
                if event.name == witness::BINDING
                    && let Ok(shown) = serde_json::from_str(&event.payload)
                {
                    life.lock().unwrap_or_else(PoisonError::into_inner).shown.push(shown);
                }
            }
        });
    }

    /// Runs a script in every document of this window from now on, before the page's own.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn before_load(&self, script: &str) {
        self.command(AddScriptToEvaluateOnNewDocumentParams::new(script)).await.expect("the script is set");
    }

    /// Looks at the life of the tab so far.
    pub(super) fn life<T>(&self, look: impl FnOnce(&mut Life) -> T) -> T {
        look(&mut self.life.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns everything it has shown so far, oldest first.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        self.life(|life| life.shown.clone())
    }

    async fn hear(&self) {
        self.page.enable_runtime().await.expect("the console can be heard");
        self.page.enable_log().await.expect("the log can be heard");
        let mut console = self.page.event_listener::<EventConsoleApiCalled>().await.expect("a listener");
        let mut thrown = self.page.event_listener::<EventExceptionThrown>().await.expect("a listener");
        let mut entries = self.page.event_listener::<EventEntryAdded>().await.expect("a listener");
        let said = self.said.clone();
        // Each ends with the window.
        tokio::spawn(async move {
            while let Some(event) = console.next().await {
                let words: Vec<String> = event.args.iter().map(words_of).collect();
                let bad = matches!(event.r#type, ConsoleApiCalledType::Error | ConsoleApiCalledType::Assert);
                Said::note(&said, format!("console.{:?}: {}", event.r#type, words.join(" ")), bad);
            }
        });
        let mut dialogs = self.page.event_listener::<EventJavascriptDialogOpening>().await.expect("a listener");
        let (said, page) = (self.said.clone(), self.page.clone());
        tokio::spawn(async move {
            while let Some(event) = dialogs.next().await {
                Said::note(&said, format!("dialog {:?}: {}", event.r#type, event.message), false);
                // Nobody answers a question faster than this, and until it is answered the page stands still.
                tokio::time::sleep(READING_TIME).await;
                // Fails where the window went meanwhile.
                page.execute(HandleJavaScriptDialogParams::new(true)).await.ok();
            }
        });
        let said = self.said.clone();
        tokio::spawn(async move {
            while let Some(event) = thrown.next().await {
                let details = &event.exception_details;
                let exception =
                    details.exception.as_ref().and_then(|object| object.description.clone()).unwrap_or_default();
                Said::note(&said, format!("exception: {} {exception}", details.text), true);
            }
        });
        let said = self.said.clone();
        tokio::spawn(async move {
            while let Some(event) = entries.next().await {
                let entry = &event.entry;
                let line =
                    format!("log {:?}: {} {}", entry.source, entry.text, entry.url.as_deref().unwrap_or_default());
                Said::note(&said, line, entry.level == LogEntryLevel::Error);
            }
        });
    }

    /// Lets the page log errors with these words, because the test provokes them.
    pub fn allow(&self, words: &str) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).allowed.push(words.to_owned());
    }

    /// Returns the complaints so far.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).complaints.clone()
    }

    /// Returns everything it logged so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).log.clone()
    }

    /// Goes to an address and waits until the page has loaded.
    ///
    /// # Panics
    /// If the browser cannot even try, or the page does not load.
    pub async fn goto(&self, url: &str) {
        self.life(|life| url.clone_into(&mut life.address));
        self.leave().await;
        self.command(NavigateParams::new(url)).await.unwrap_or_else(|error| panic!("going to {url}: {error}"));
        self.arrive().await;
    }

    /// Loads the page again and waits until it has loaded.
    ///
    /// # Panics
    /// If the browser cannot even try, or the page does not load.
    pub async fn reload(&self) {
        self.leave().await;
        self.command(ReloadParams::default()).await.unwrap_or_else(|error| panic!("reloading: {error}"));
        self.arrive().await;
    }

    /// As [`Self::reload`]; does something as soon as the browser has left the page and waits for the new one.
    ///
    /// # Panics
    /// If the browser cannot even try, or the page does not load.
    pub async fn reload_while(&self, act: impl FnOnce()) {
        let mut begun = self.page.event_listener::<EventFrameStartedNavigating>().await.expect("a listener");
        let begins = async {
            timeout(LOAD_DEADLINE, begun.next()).await.expect("the reload begins");
            act();
        };
        tokio::join!(self.reload(), begins);
    }

    /// Gives the browser a command. During a load an answer may never come.
    pub(super) async fn command<C: Command>(&self, command: C) -> Result<CommandResponse<C::Response>, String> {
        let name = command.identifier();
        match timeout(COMMAND_DEADLINE, self.page.execute(command)).await {
            Ok(answer) => answer.map_err(|error| format!("{name}: {error}")),
            Err(_) => Err(format!("{name}: no answer")),
        }
    }

    /// Marks the document that is about to go.
    async fn leave(&self) {
        self.evaluate::<bool>("window.isLeaving = true").await;
    }

    /// Waits for a document without the mark.
    async fn arrive(&self) {
        let loaded = async || self.evaluate::<bool>("document.readyState === 'complete' && !window.isLeaving").await;
        see("the page loads", LOAD_DEADLINE, loaded, |loaded| *loaded == Some(true)).await;
    }

    /// Closes the window as a person does.
    ///
    /// # Panics
    /// If it is closed already.
    pub async fn close(&self) {
        let closed = timeout(COMMAND_DEADLINE, self.page.clone().close()).await.unwrap_or(Err(CdpError::Timeout));
        closed.unwrap_or_else(|error| panic!("closing the window: {error}"));
        self.life(|life| life.shown.push(Shown::nothing()));
    }

    /// Evaluates an expression in the page; `None` where the page is not there to answer, as during a load.
    pub async fn evaluate<T: DeserializeOwned>(&self, expression: &str) -> Option<T> {
        timeout(EVALUATE_DEADLINE, self.page.evaluate(expression)).await.ok()?.ok()?.into_value().ok()
    }

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

    /// Clicks an element with the mouse.
    ///
    /// # Panics
    /// If it is not there or cannot be clicked.
    pub async fn click(&self, test_id: &str) {
        self.wait_for(test_id, LOAD_DEADLINE).await;
        self.click_at(&format!("[data-testid=\"{test_id}\"]")).await;
    }

    /// Clicks the first element a CSS selector finds.
    ///
    /// # Panics
    /// If it is not there or cannot be clicked.
    pub async fn click_at(&self, selector: &str) {
        let click = async {
            self.page.find_element(selector).await?.click().await?;
            Ok::<_, CdpError>(())
        };
        let clicked = timeout(COMMAND_DEADLINE, click).await.unwrap_or(Err(CdpError::Timeout));
        clicked.unwrap_or_else(|error| panic!("clicking {selector}: {error}"));
    }

    /// Moves the mouse over the first such element.
    ///
    /// # Panics
    /// If it is not there.
    pub async fn hover(&self, test_id: &str) {
        let hover = async {
            self.page.find_element(format!("[data-testid=\"{test_id}\"]")).await?.hover().await?;
            Ok::<_, CdpError>(())
        };
        let hovered = timeout(COMMAND_DEADLINE, hover).await.unwrap_or(Err(CdpError::Timeout));
        hovered.unwrap_or_else(|error| panic!("hovering over `{test_id}`: {error}"));
    }

    /// Writes text where the focus is, whatever its characters.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn insert(&self, text: &str) {
        self.command(InsertTextParams::new(text)).await.expect("text goes where the focus is");
    }

    /// Presses and releases a key, as `KeyboardEvent.key` names it.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn press(&self, key: &str) {
        let known = get_key_definition(key).unwrap_or_else(|| panic!("no key is called {key}"));
        let mut down = DispatchKeyEventParams::new(match known.text {
            Some(_) => DispatchKeyEventType::KeyDown,
            None => DispatchKeyEventType::RawKeyDown,
        });
        down.key = Some(known.key.to_owned());
        down.code = Some(known.code.to_owned());
        down.text = known.text.map(str::to_owned);
        down.windows_virtual_key_code = Some(known.key_code);
        self.command(down.clone()).await.expect("a key goes where the focus is");
        down.r#type = DispatchKeyEventType::KeyUp;
        down.text = None;
        self.command(down).await.expect("a key goes where the focus is");
    }

    /// Shows a composition in progress, as an input method does: the text under the cursor is not yet text.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn compose(&self, text: &str) {
        let end = i64::try_from(text.encode_utf16().count()).expect("a short text");
        self.page
            .execute(ImeSetCompositionParams::new(text, end, end))
            .await
            .expect("a composition goes where the focus is");
    }

    /// Presses Enter as an input method reports it during a composition: key code 229.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn press_enter_in_composition(&self) {
        let mut down = DispatchKeyEventParams::new(DispatchKeyEventType::RawKeyDown);
        down.key = Some("Enter".to_owned());
        down.code = Some("Enter".to_owned());
        down.windows_virtual_key_code = Some(229);
        self.command(down.clone()).await.expect("a key goes where the focus is");
        down.r#type = DispatchKeyEventType::KeyUp;
        self.command(down).await.expect("a key goes where the focus is");
    }

    /// Waits until the last composition has ended for so long that an Enter is no part of it: a person takes longer from
    /// choosing a word to sending it, but Safari reports the choosing Enter late.
    pub async fn wait_composed(&self) {
        let ended = "performance.now() - (window.holdfastComposed ?? 0) > 60";
        see(
            "the composition is over",
            COMMAND_DEADLINE,
            async || self.evaluate::<bool>(ended).await,
            |over| *over == Some(true),
        )
        .await;
    }

    /// Types a name, signs in and waits until the page is live.
    pub async fn sign_in(&self, name: &str) {
        self.click("sign-in-name").await;
        self.insert(name).await;
        self.click("sign-in-submit").await;
        self.wait_state("live", LOAD_DEADLINE).await;
        self.wait_for("composer", LOAD_DEADLINE).await;
    }

    /// Writes a post and sends it with Enter.
    pub async fn post(&self, text: &str) {
        self.write(text).await;
        self.press("Enter").await;
    }

    /// Writes into the composer without sending.
    pub async fn write(&self, text: &str) {
        self.click("composer").await;
        self.insert(text).await;
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

    /// Cuts the device's network, or gives it back.
    ///
    /// # Panics
    /// If the browser does not take it.
    #[expect(
        deprecated,
        reason = "the pair of commands that replaces it is newer than the Chromium many have installed"
    )]
    pub async fn offline(&self, offline: bool) {
        use chromiumoxide::cdp::browser_protocol::network::EmulateNetworkConditionsParams;
        let conditions = EmulateNetworkConditionsParams::new(offline, 0.0, -1.0, -1.0);
        if !offline {
            self.life(|life| life.cuts.iter_mut().for_each(Cut::end));
        }
        self.command(conditions).await.expect("the network is emulated");
        if offline {
            self.life(|life| life.cuts.push(Cut::offline()));
        }
    }

    /// Gives the window another size, in CSS pixels.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn resize(&self, width: i64, height: i64) {
        use chromiumoxide::cdp::browser_protocol::emulation::SetDeviceMetricsOverrideParams;
        let size = SetDeviceMetricsOverrideParams::new(width, height, 1.0, false);
        self.command(size).await.expect("the window takes a size");
    }

    /// Keeps a picture of the window; says whether there was one to take.
    pub async fn picture(&self, path: &Path) -> bool {
        let picture =
            tokio::time::timeout(Duration::from_secs(5), self.page.save_screenshot(ScreenshotParams::default(), path))
                .await;
        matches!(picture, Ok(Ok(_)))
    }

    /// Gives everything else the browser can do.
    #[must_use]
    pub fn page(&self) -> &Page {
        &self.page
    }
}

/// Puts a console argument into words.
fn words_of(object: &chromiumoxide::cdp::js_protocol::runtime::RemoteObject) -> String {
    match (&object.value, &object.description) {
        (Some(serde_json::Value::String(text)), _) => text.clone(),
        (Some(value), _) => value.to_string(),
        (None, Some(description)) => description.clone(),
        (None, None) => String::new(),
    }
}
