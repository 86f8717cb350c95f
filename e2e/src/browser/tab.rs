//! One window with the page: going somewhere, and hearing everything it says.
//!
//! Must not live here: the browser's life, what a person does in a window ([`hands`](super::hands)), what it shows
//! ([`eyes`](super::eyes)). Invariant: what the page complains about is heard from before its first byte to its end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::emulation::SetUserAgentOverrideParams;
use chromiumoxide::cdp::browser_protocol::log::{EventEntryAdded, LogEntryLevel};
use chromiumoxide::cdp::browser_protocol::page::{
    AddScriptToEvaluateOnNewDocumentParams, EventFrameStartedNavigating, EventJavascriptDialogOpening,
    HandleJavaScriptDialogParams, NavigateParams, ReloadParams,
};
use chromiumoxide::cdp::js_protocol::runtime::{
    AddBindingParams, ConsoleApiCalledType, EventBindingCalled, EventConsoleApiCalled, EventExceptionThrown,
};
use chromiumoxide::error::CdpError;
use chromiumoxide::types::{Command, CommandResponse};
use futures_util::StreamExt;
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

/// How long the page may take to evaluate an expression; one that is being loaded never does.
const EVALUATE_DEADLINE: Duration = Duration::from_secs(5);

/// How often it is looked whether a note has come.
const NOTED_EVERY: Duration = Duration::from_millis(20);

/// How long a person takes to answer "leave this page?".
const READING_TIME: Duration = Duration::from_millis(300);

/// A window with the page. Clones are the same window.
#[derive(Clone, Debug)]
pub struct Tab {
    pub(super) page: Page,
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
    /// The test has seen for itself that it claims to be live.
    pub(super) is_seen_live: bool,
    /// The witness was sent away.
    pub(super) is_unwatched: bool,
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

    /// Says so if nothing was noted of a page that the test itself has seen live; the note may still be on its way.
    pub(super) async fn blind_witness(&self) -> Option<String> {
        let end = Instant::now() + EVALUATE_DEADLINE;
        while !self.life(|life| life.is_unwatched || witness::are_of_it(&life.shown, life.is_seen_live)) {
            if Instant::now() > end {
                return Some(format!("the witness saw nothing of {}", self.life(|life| life.address.clone())));
            }
            tokio::time::sleep(NOTED_EVERY).await;
        }
        None
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
