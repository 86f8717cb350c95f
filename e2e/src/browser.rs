//! A real Chromium on a real server: the stage of every page test.
//!
//! Lives here: starting and ending the browser, people with profiles of their own, tabs, typing, what the page shows,
//! and everything the page complained about. Must not live here: expectations of a single test. Invariant: whatever a
//! tab logs as an error, throws, or violates of its policy fails the test, unless the test allowed it by name.

mod eyes;
mod faults;
mod hands;
mod profiler;
mod tab;
mod witness;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chromiumoxide::Browser;
use chromiumoxide::browser::{BrowserConfig, BrowserConfigBuilder};
use chromiumoxide::cdp::browser_protocol::browser::BrowserContextId;
use chromiumoxide::cdp::browser_protocol::target::{CreateBrowserContextParams, CreateTargetParams};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use crate::http::Http;
use crate::proxy::{FaultProxy, Weather};
use crate::server::{ServerOptions, ServerProcess};
use crate::wait;
pub use eyes::Row;
pub use profiler::{Arrival, Heap, Recording, Tasks};
pub use tab::Tab;
pub use witness::Shown;
use witness::{Cut, untruths};

/// Browsers at once in one test executable: two cores carry two.
const BROWSERS: usize = 2;
static TURNS: Semaphore = Semaphore::const_new(BROWSERS);

/// How long Chromium may take to come up.
const LAUNCH_DEADLINE: Duration = Duration::from_secs(60);
/// How long a single command to the browser may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
/// How long the page may take from nothing to usable, in a debug build on a busy machine.
pub const LOAD_DEADLINE: Duration = Duration::from_secs(30);
/// What a tab showed last, in the report of a failed test.
const SHOWN_IN_REPORT: usize = 20;
/// The window: wide enough for both columns, high enough for some thirty rows.
const WINDOW: (u32, u32) = (1280, 1400);

/// Which languages the browser of a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Simplified Chinese.
    Chinese,
}

impl Language {
    fn accept(self) -> &'static str {
        match self {
            Self::English => "en-US",
            Self::Chinese => "zh-CN",
        }
    }
}

/// A server with the built page, and a browser before it.
pub struct Stage {
    /// The server. Behind a lock only because tests borrow the stage while they kill it.
    server: Mutex<ServerProcess>,
    address: SocketAddr,
    proxy: Option<FaultProxy>,
    chromium: Chromium,
    tabs: Mutex<Vec<Tab>>,
    cuts: Mutex<Cuts>,
}

/// The spans in which nothing passed, by what cut the link.
#[derive(Default)]
struct Cuts {
    /// For pages that were opened through the proxy.
    proxy: Vec<Cut>,
    /// For all of them.
    server: Vec<Cut>,
}

impl Stage {
    /// Runs a test on a stage; afterwards, whatever happened, shows what the tabs said if the test failed, and fails it
    /// if they complained.
    ///
    /// # Panics
    /// With the test's own panic, or with the complaints.
    pub async fn run(name: &str, options: ServerOptions, test: impl AsyncFnOnce(&Stage)) {
        let server = options.flag("dist", built_page().display()).start();
        Self::open(server, None).await.play(name, test).await;
    }

    /// As [`Self::run`], with a link whose weather the test makes, at [`Self::proxy`].
    ///
    /// # Panics
    /// With the test's own panic, or with the complaints.
    pub async fn run_with_proxy(name: &str, options: ServerOptions, test: impl AsyncFnOnce(&Stage)) {
        let mut server = options.flag("dist", built_page().display()).start();
        let proxy = FaultProxy::start(server.address()).await;
        // Only now both ports are known, and the page may come from either.
        let (own, through_proxy) = (server.origin(), proxy.origin());
        server.kill();
        server.set_options(|options| options.flag("allow-origin", own).flag("allow-origin", through_proxy));
        server.restart();
        Self::open(server, Some(proxy)).await.play(name, test).await;
    }

    /// As [`Self::run`], in a browser that holds the timers of hidden pages back as the browsers of people do and those of
    /// tests do not: to once a minute, after five minutes.
    ///
    /// # Panics
    /// With the test's own panic, or with the complaints.
    pub async fn run_throttled(name: &str, options: ServerOptions, test: impl AsyncFnOnce(&Stage)) {
        let server = options.flag("dist", built_page().display()).start();
        Self::before(server, None, Chromium::launch_throttled().await).play(name, test).await;
    }

    async fn open(server: ServerProcess, proxy: Option<FaultProxy>) -> Self {
        Self::before(server, proxy, Chromium::launch().await)
    }

    fn before(server: ServerProcess, proxy: Option<FaultProxy>, chromium: Chromium) -> Self {
        let address = server.address();
        Self { server: Mutex::new(server), address, proxy, chromium, tabs: Mutex::default(), cuts: Mutex::default() }
    }

    async fn play(self, name: &str, test: impl AsyncFnOnce(&Self)) {
        let stage = self;
        let outcome = AssertUnwindSafe(test(&stage)).catch_unwind().await;
        if outcome.is_err() {
            stage.report(name).await;
        }
        let complaints: Vec<String> = stage.tabs().iter().flat_map(Tab::complaints).collect();
        let mut untruths = stage.untruths();
        for tab in stage.tabs().iter().filter(|_| outcome.is_ok()) {
            untruths.extend(tab.blind_witness().await);
        }
        let Self { chromium, server, .. } = stage;
        chromium.close().await;
        match outcome {
            Err(panic) => {
                let stderr = server.lock().unwrap_or_else(PoisonError::into_inner).stderr();
                eprintln!("--- stderr of the server ---\n{stderr}\n---");
                std::panic::resume_unwind(panic)
            }
            Ok(()) => {
                assert!(complaints.is_empty(), "the page complained:\n{}", complaints.join("\n"));
                assert!(untruths.is_empty(), "the page showed what was not true:\n{}", untruths.join("\n"));
            }
        }
    }

    /// Returns the link between the server and pages opened at [`FaultProxy::origin`].
    ///
    /// # Panics
    /// On a stage without one.
    #[must_use]
    pub fn proxy(&self) -> &FaultProxy {
        self.proxy.as_ref().expect("this stage was opened with `run_with_proxy`")
    }

    /// Returns where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the origin of the page.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does something to the server: kills it, starts it again.
    pub fn with_server<T>(&self, act: impl FnOnce(&mut ServerProcess) -> T) -> T {
        act(&mut self.server.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the weather on the link of the proxy. Pages that were opened through it are judged by it.
    ///
    /// # Panics
    /// On a stage without a proxy.
    pub fn weather(&self, weather: Weather) {
        self.cuts(|cuts| {
            // What a page may claim ends before the link does, and begins after it.
            cuts.proxy.iter_mut().for_each(Cut::end);
            self.proxy().set(weather);
            cuts.proxy.extend(Cut::of(weather));
        });
    }

    /// Ends the server as a crash would. Every page is judged by it.
    pub fn kill_server(&self) {
        self.with_server(ServerProcess::kill);
        self.cuts(|cuts| cuts.server.push(Cut::dead_server()));
    }

    /// Starts the server again.
    pub fn restart_server(&self) {
        self.cuts(|cuts| cuts.server.iter_mut().for_each(Cut::end));
        self.with_server(ServerProcess::restart);
    }

    fn cuts<T>(&self, look: impl FnOnce(&mut Cuts) -> T) -> T {
        look(&mut self.cuts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says what any tab ever showed that was not true.
    fn untruths(&self) -> Vec<String> {
        let through_proxy =
            |address: &str| self.proxy.as_ref().is_some_and(|proxy| address.starts_with(&proxy.origin()));
        let judge = |(number, tab): (usize, &Tab)| {
            let (shown, mut cuts, address) =
                tab.life(|life| (life.shown.clone(), life.cuts.clone(), life.address.clone()));
            self.cuts(|stage| {
                cuts.extend_from_slice(&stage.server);
                if through_proxy(&address) {
                    cuts.extend_from_slice(&stage.proxy);
                }
            });
            untruths(&shown, &cuts).into_iter().map(move |untruth| format!("tab {number}: {untruth}"))
        };
        self.tabs().iter().enumerate().flat_map(judge).collect()
    }

    /// Returns a plain HTTP client for the server.
    #[must_use]
    pub fn http(&self) -> Http {
        Http::new(self.address)
    }

    /// Brings a new person with a fresh profile, who reads English.
    pub async fn person(&self) -> Person<'_> {
        self.person_reading(Language::English).await
    }

    /// Brings a new person with a fresh profile.
    pub async fn person_reading(&self, language: Language) -> Person<'_> {
        Person { stage: self, context: self.chromium.profile().await, language }
    }

    fn tabs(&self) -> Vec<Tab> {
        self.tabs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Prints what every tab logged and shows, and keeps a picture of it.
    async fn report(&self, name: &str) {
        let folder = failures_folder();
        std::fs::create_dir_all(&folder).ok();
        for (number, tab) in self.tabs().iter().enumerate() {
            let picture = folder.join(format!("{name}-{number}.png"));
            let kept = tab.picture(&picture).await;
            eprintln!(
                "--- tab {number} of {name}: {} ---",
                if kept { picture.display().to_string() } else { "closed".to_owned() }
            );
            eprintln!("{}\n---", tab.log().join("\n"));
            let shown = tab.shown();
            for shown in shown.iter().skip(shown.len().saturating_sub(SHOWN_IN_REPORT)) {
                eprintln!("{shown:?}");
            }
        }
    }
}

/// Somebody with a browser profile of their own.
#[derive(Clone)]
pub struct Person<'stage> {
    stage: &'stage Stage,
    context: BrowserContextId,
    language: Language,
}

impl Person<'_> {
    /// Opens the page in a new window.
    pub async fn tab(&self) -> Tab {
        self.tab_at(&self.stage.origin()).await
    }

    /// Opens the page at an address of its own, such as that of a proxy, in a new window.
    pub async fn tab_at(&self, url: &str) -> Tab {
        let tab = self.blank().await;
        tab.goto(url).await;
        tab
    }

    /// Opens a new window without the page, to be prepared.
    pub async fn blank(&self) -> Tab {
        let tab = self.stage.chromium.window(&self.context, self.language).await;
        self.stage.tabs.lock().unwrap_or_else(PoisonError::into_inner).push(tab.clone());
        tab
    }

    /// Opens the page and signs in under a name; returns when it is live.
    pub async fn signed_in(&self, name: &str) -> Tab {
        let tab = self.tab().await;
        tab.sign_in(name).await;
        tab
    }

    /// As [`Self::signed_in`], at an address of its own.
    pub async fn signed_in_at(&self, url: &str, name: &str) -> Tab {
        let tab = self.tab_at(url).await;
        tab.sign_in(name).await;
        tab
    }

    /// As [`Self::signed_in`], through the proxy whose weather the test makes.
    pub async fn signed_in_through_proxy(&self, name: &str) -> Tab {
        self.signed_in_at(&self.stage.proxy().origin(), name).await
    }
}

/// One browser process.
pub struct Chromium {
    browser: Browser,
    handler: JoinHandle<()>,
    profile: tempfile::TempDir,
    _turn: Option<SemaphorePermit<'static>>,
}

/// What a browser for tests is started with, less what keeps it from holding timers back.
const PLAIN: [&str; 11] = [
    "disable-background-networking",
    "disable-breakpad",
    "disable-default-apps",
    "disable-dev-shm-usage",
    "disable-hang-monitor",
    "disable-popup-blocking",
    "disable-sync",
    "no-first-run",
    "enable-automation",
    "password-store=basic",
    "use-mock-keychain",
];

impl Chromium {
    /// Starts one, as soon as it is its turn.
    ///
    /// # Panics
    /// If there is none, or it does not start; with what to do.
    pub async fn launch() -> Self {
        let turn = TURNS.acquire().await.expect("never closed");
        Self::start(Some(turn), |config| config).await
    }

    /// Starts one that holds the timers of hidden pages back. It mostly waits: it takes no turn.
    ///
    /// # Panics
    /// If there is none, or it does not start; with what to do.
    pub async fn launch_throttled() -> Self {
        Self::start(None, |config| config.disable_default_args().args(PLAIN)).await
    }

    async fn start(
        turn: Option<SemaphorePermit<'static>>,
        change: impl FnOnce(BrowserConfigBuilder) -> BrowserConfigBuilder,
    ) -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder");
        let config = BrowserConfig::builder()
            .chrome_executable(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/chromium.sh")))
            .env("HOLDFAST_CHROMIUM_PATH", chromium_path().display().to_string())
            .no_sandbox()
            .new_headless_mode()
            .user_data_dir(profile.path())
            .launch_timeout(LAUNCH_DEADLINE)
            .request_timeout(COMMAND_DEADLINE)
            .window_size(WINDOW.0, WINDOW.1)
            .viewport(None);
        let config = change(config).build().expect("the path of the wrapper is given");
        let (browser, mut events) =
            Browser::launch(config).await.unwrap_or_else(|error| panic!("Chromium does not start: {error}"));
        // Ends with the browser, which every test closes.
        let handler = tokio::spawn(async move { while events.next().await.is_some() {} });
        Self { browser, handler, profile, _turn: turn }
    }

    /// Makes a profile that knows nothing yet.
    ///
    /// # Panics
    /// If the browser makes none.
    pub async fn profile(&self) -> BrowserContextId {
        self.browser.create_browser_context(CreateBrowserContextParams::default()).await.expect("a fresh profile")
    }

    /// Opens an empty window.
    ///
    /// # Panics
    /// If the browser opens none.
    pub async fn window(&self, profile: &BrowserContextId, language: Language) -> Tab {
        let mut blank = CreateTargetParams::new("about:blank");
        blank.browser_context_id = Some(profile.clone());
        // A window of its own stays visible; a tab behind another is hidden and hears clicks seconds late.
        blank.new_window = Some(true);
        let page = self.browser.new_page(blank).await.expect("a new window");
        Tab::listen(page, language.accept()).await
    }

    /// Ends it and waits until it is gone.
    pub async fn close(mut self) {
        // A browser that is gone already is closed well enough; its profile goes with `profile`.
        self.browser.close().await.ok();
        self.browser.wait().await.ok();
        self.handler.abort();
        // Chromium's helpers may still hold a file for a moment; what is left lies in the temporary folder.
        self.profile.close().ok();
    }
}

/// Finds Chromium.
///
/// # Panics
/// If there is none; with what to install. A page test is never skipped.
fn chromium_path() -> PathBuf {
    const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
    if let Some(path) = std::env::var_os("HOLDFAST_CHROMIUM") {
        return path.into();
    }
    let folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let found =
        NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "page tests need Chromium, and none of {NAMES:?} is on the PATH. Debian: `apt-get install chromium fonts-noto-cjk`. \
             Fedora: `dnf install chromium google-noto-sans-cjk-fonts`. Or set HOLDFAST_CHROMIUM to its path."
        )
    })
}

/// Finds the built page: `HOLDFAST_DIST`, or `dist` in the root of the workspace.
///
/// # Panics
/// If it is not there; with the command that builds it.
fn built_page() -> PathBuf {
    let given = std::env::var_os("HOLDFAST_DIST").map(PathBuf::from);
    let dist = given.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../dist")));
    assert!(
        dist.join("index.html").is_file(),
        "no built page in {}; use `cargo xtask test`, which builds it",
        dist.display()
    );
    dist
}

/// Where pictures of failed page tests are kept.
fn failures_folder() -> PathBuf {
    crate::server::beside_this_test("e2e-failures")
}

/// What a tab has said: everything, and what of it is a complaint.
#[derive(Debug, Default)]
struct Said {
    log: Vec<String>,
    complaints: Vec<String>,
    allowed: Vec<String>,
}

type SharedSaid = Arc<Mutex<Said>>;

impl Said {
    fn note(said: &SharedSaid, line: String, complaint: bool) {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if complaint && !is_link_noise(&line) && !said.allowed.iter().any(|allowed| line.contains(allowed)) {
            said.complaints.push(line.clone());
        }
        said.log.push(line);
    }
}

/// Chromium itself logs every failed connection as an error. On a link that breaks on purpose that is no complaint.
fn is_link_noise(line: &str) -> bool {
    let websocket = line.contains("WebSocket connection to") && line.contains("failed");
    websocket || line.contains("net::ERR_")
}

/// Waits until a tab shows what is wanted; names what it waited for.
async fn see<T: std::fmt::Debug>(
    what: &str,
    deadline: Duration,
    look: impl AsyncFnMut() -> T,
    good: impl Fn(&T) -> bool,
) -> T {
    wait::see(what, deadline, look, good).await
}
