//! What can befall a page, in a real Chromium against the real binary: each test says in words what the person sees. The
//! stage judges besides, for every tab and every moment, that what was shown was true: never live on a link that is cut,
//! no row committed that cannot be, no row twice, no words that do not fit the state.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::browser::{LOAD_DEADLINE, Language, Row, Shown};
use e2e::proxy::Weather;
use e2e::server::ServerOptions;
use e2e::{Client, Oracle, Stage, Tab, wait};
use shared::ids::RoomId;

/// For what a page does in moments, on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// For what takes a backoff.
const PATIENCE: Duration = Duration::from_secs(60);
/// A page that comes back to life looks at its link at once and gives it this long, with room for a busy machine.
const LOOKS_AGAIN: Duration = Duration::from_secs(4);

fn options() -> ServerOptions {
    ServerOptions::new().without_rates()
}

/// Signs a program in and returns it with the id of `general`.
async fn program(stage: &Stage, name: &str) -> (Client, RoomId) {
    let (client, room, _) = Client::join_general(stage.address(), &stage.http().sign_in(name).token).await;
    (client, room)
}

/// Returns a name nobody has.
fn passer_by() -> String {
    let id = e2e::client::new_id().to_string();
    format!("Passer-by {}", &id[id.len() - 12..])
}

/// Posts as somebody else, and returns the place of the last post.
async fn others_post(stage: &Stage, name: &str, bodies: impl IntoIterator<Item = String>) -> u64 {
    let (mut writer, room) = program(stage, name).await;
    writer.post_many(room, bodies).await.last().expect("at least one post").seq.0
}

/// Waits until every tab shows these posts as committed, in this order and no other, and lets the oracle judge them.
async fn judge(stage: &Stage, bodies: &[&str], tabs: &[&Tab]) {
    let mut shown = Vec::new();
    for tab in tabs {
        let whole = |rows: &[Row]| {
            rows.iter().all(|row| row.seq.is_some())
                && rows.iter().map(|row| row.body.as_str()).eq(bodies.iter().copied())
        };
        let rows = tab.wait_rows(&format!("the committed rows {bodies:?}"), PATIENCE, whole).await;
        shown.push(rows.into_iter().filter_map(|row| Some((row.seq?, row.body))).collect::<Vec<_>>());
    }
    let (_, room) = program(stage, &passer_by()).await;
    let mut oracle = stage.with_server(|server| Oracle::read(server.data_dir(), room));
    for (number, rows) in shown.iter().enumerate() {
        oracle.judge_page(&format!("tab {number}"), rows);
    }
    let stored: Vec<_> = oracle.posts().map(|post| post.body.as_str()).collect();
    assert_eq!(stored, bodies);
    oracle.verdict();
}

/// Returns the wall clock in milliseconds, as a page of this machine reads it.
fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs_f64() * 1_000.0
}

/// Waits until something was shown at any time since a moment, however shortly.
async fn wait_shown(tab: &Tab, what: &str, since: f64, good: impl Fn(&Shown) -> bool) -> Shown {
    let look = async || tab.shown().into_iter().find(|shown| shown.at >= since && good(shown));
    wait::see(what, PATIENCE, look, Option::is_some).await.expect("just seen")
}

/// Waits until the bar has said these words since a moment, however shortly.
async fn wait_said(tab: &Tab, words: &str, since: f64) -> Shown {
    let says = |shown: &Shown| shown.bar.as_ref().is_some_and(|bar| bar.contains(words));
    wait_shown(tab, &format!("the bar says {words:?}"), since, says).await
}

/// Asserts that a page which came back to life at `since` did not go on claiming to be live for long: it lost its link,
/// or showed the newest post.
async fn assert_looked_again(tab: &Tab, since: f64, newest: u64) {
    let is_hopeful = |shown: &Shown| matches!(shown.state.as_deref(), Some("live" | "slow" | "catching_up"));
    let honest = |shown: &Shown| shown.sent.contains(&newest) || (shown.state.is_some() && !is_hopeful(shown));
    let shown = wait_shown(tab, "the page looks at its link", since, honest).await;
    let took = shown.at - since;
    assert!(took <= LOOKS_AGAIN.as_secs_f64() * 1_000.0, "it claimed to be live for {took:.0} ms");
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix} {number}")).collect()
}

// --- The network ------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_offline_says_what_it_kept_and_afterwards_what_came_and_went() {
    Stage::run("offline-words", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        let began = wall_ms();
        ada.offline(true).await;
        let said =
            wait_said(&ada, "You're offline. You can keep writing; messages are saved on this device", began).await;
        assert!(said.at - began < 2_000.0, "said only after {:.0} ms", said.at - began);
        for text in ["mine 0", "mine 1"] {
            ada.post(text).await;
        }
        ada.wait_words("row-status", "Saved here, waiting to send", SOON).await;
        others_post(stage, "Bo", numbered("theirs", 3)).await;
        ada.offline(false).await;
        wait_said(&ada, "Back online. 3 new, 2 sent.", began).await;
        ada.wait_state("live", PATIENCE).await;
        judge(stage, &["theirs 0", "theirs 1", "theirs 2", "mine 0", "mine 1"], &[&ada]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_missed_posts_are_the_newest_at_once_and_a_counted_hole_that_fills() {
    const MISSED: usize = 10_000;
    Stage::run("missed-10000", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        ada.post("before").await;
        ada.wait_sent("before", SOON).await;
        ada.offline(true).await;
        ada.wait_state("offline", SOON).await;
        let newest = others_post(stage, "Bo", numbered("missed", MISSED)).await;
        ada.offline(false).await;
        ada.wait_state("live", PATIENCE).await;
        let rows = ada.rows().await;
        assert_eq!(rows.last().and_then(|row| row.seq), Some(newest), "live, and the newest is not there");
        // Its number and its words are read in one moment: it fills by itself once it is on the screen.
        let look = "(() => { document.querySelector('[data-testid=timeline]').scrollTop = 0; \
                    const hole = document.querySelector('[data-testid=hole]'); \
                    return hole && [Number(hole.dataset.count), hole.textContent]; })()";
        let hole = async || ada.evaluate::<Option<(usize, String)>>(look).await.flatten();
        let (missing, said) = wait::see("the hole", SOON, hole, Option::is_some).await.expect("just seen");
        assert!(said.contains(&format!("{missing} earlier messages not loaded.")), "{said:?} of {missing}");
        // What is neither in the hole nor on the screen has been loaded: every post is one or the other.
        assert!((MISSED - 500..MISSED).contains(&missing), "a hole of {missing}");
        let fills = |now: &Option<(usize, String)>| now.as_ref().is_some_and(|(now, _)| *now < missing);
        wait::see("the hole fills without a reload", SOON, hole, fills).await;
        ada.wait_state("live", SOON).await;
    })
    .await;
}

// --- The page asleep --------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_thawed_page_looks_at_its_link_at_once_and_catches_up() {
    Stage::run("freeze", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        ada.write("half a thought").await;
        ada.freeze().await;
        others_post(stage, "Bo", numbered("meanwhile", 2)).await;
        // Another server process answers when the page wakes: the old link cannot be what it believes in.
        stage.with_server(|server| {
            server.kill();
            server.restart();
        });
        let newest = others_post(stage, "Cy", numbered("afterwards", 2)).await;
        let woke = wall_ms();
        ada.thaw().await;
        assert_looked_again(&ada, woke, newest).await;
        ada.wait_state("live", PATIENCE).await;
        assert_eq!(ada.draft().await, "half a thought");
        judge(stage, &["meanwhile 0", "meanwhile 1", "afterwards 0", "afterwards 1"], &[&ada]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_frozen_longer_than_its_server_waits_for_it_comes_back_whole() {
    let options = options()
        .flag("beat-interval-ms", 1_000)
        .flag("beat-hidden-interval-ms", 1_000)
        .flag("beat-answer-ms", 1_000)
        .flag("dead-peer-ms", 3_000)
        .flag("dead-peer-hidden-ms", 3_000)
        .flag("presence-grace-ms", 500);
    Stage::run("freeze-dropped", options, async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        ada.freeze().await;
        // Ada is away for everybody once the server has given her socket up.
        let online = async || newcomer_sees(stage, "Ada").await;
        wait::see("the server has let go of the frozen page", PATIENCE, online, |online| *online == Some(false)).await;
        let newest = others_post(stage, "Bo", ["while you slept".to_owned()]).await;
        let woke = wall_ms();
        ada.thaw().await;
        assert_looked_again(&ada, woke, newest).await;
        ada.wait_state("live", PATIENCE).await;
        judge(stage, &["while you slept"], &[&ada]).await;
    })
    .await;
}

/// Tells whether somebody is here, as the server tells a newcomer.
async fn newcomer_sees(stage: &Stage, name: &str) -> Option<bool> {
    let token = stage.http().sign_in(&passer_by()).token;
    let (_, _, opened) = Client::join_general(stage.address(), &token).await;
    opened.roster.iter().find(|member| member.name == name).map(|member| member.online)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_from_the_back_forward_cache_looks_at_its_link_at_once_and_catches_up() {
    Stage::run("bfcache", options(), async |stage| {
        let ada = stage.person().await.blank().await;
        ada.before_load("addEventListener('pageshow', (event) => { window.wasCached = event.persisted; })").await;
        ada.goto(&stage.origin()).await;
        ada.sign_in("Ada").await;
        ada.write("half a thought").await;
        ada.evaluate::<bool>("location.assign('/healthz'), true").await;
        let away = async || ada.evaluate::<String>("location.pathname").await.unwrap_or_default();
        wait::see("another page", SOON, away, |path| path == "/healthz").await;
        let newest = others_post(stage, "Bo", numbered("meanwhile", 2)).await;
        let back = wall_ms();
        ada.travel(-1).await;
        ada.wait_for("composer", LOAD_DEADLINE).await;
        assert_eq!(ada.evaluate::<bool>("window.wasCached").await, Some(true), "Chromium kept no copy of the page");
        assert_looked_again(&ada, back, newest).await;
        ada.wait_state("live", PATIENCE).await;
        wait::see("the draft", SOON, async || ada.draft().await, |draft| draft == "half a thought").await;
        judge(stage, &["meanwhile 0", "meanwhile 1"], &[&ada]).await;
        ada.press("Enter").await;
        judge(stage, &["meanwhile 0", "meanwhile 1", "half a thought"], &[&ada]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_slept_finds_out_at_once_that_its_link_died_and_is_live_when_it_is_back() {
    // After a sleep every timer is overdue; here none is, so the next must not be far.
    let options = options().flag("beat-interval-ms", 2_000).flag("dead-peer-ms", 7_000);
    Stage::run_with_proxy("sleep", options, async |stage| {
        let ada = stage.person().await.blank().await;
        // The wall clock counts sleep, the monotonic one of most machines does not.
        ada.before_load(
            "(() => { const now = Date.now.bind(Date); window.slept = 0; Date.now = () => now() + window.slept; })()",
        )
        .await;
        ada.goto(&stage.proxy().origin()).await;
        ada.sign_in("Ada").await;
        stage.weather(Weather::BLACK_HOLE);
        let slept = Instant::now();
        ada.evaluate::<bool>("window.slept = 600_000, true").await;
        ada.wait_state_in(&["waiting", "trying"], SOON).await;
        assert!(slept.elapsed() < LOOKS_AGAIN, "the dead link was noticed only after {:?}", slept.elapsed());
        ada.wait_words("status-bar", "Can't reach the server.", SOON).await;
        others_post(stage, "Bo", ["good morning".to_owned()]).await;
        stage.weather(Weather::Fair);
        ada.wait_state("live", PATIENCE).await;
        judge(stage, &["good morning"], &[&ada]).await;
    })
    .await;
}

/// Counts timers of one second, each set by the one before.
const TICK: &str = "window.ticks = 0; (function tick() { setTimeout(() => { window.ticks += 1; tick(); }, 1000); })()";
/// Holds timers of a hidden page back to once in ten seconds: Chromium's minute, six times as fast. As Chromium, it spares
/// those that are due at once.
const HOLD_BACK: &str = "(() => { const set = window.setTimeout; const every = 10_000; \
    window.setTimeout = (run, ms = 0, ...rest) => { \
        const now = performance.now(); \
        const wait = document.hidden && ms > 0 ? Math.ceil((now + ms) / every) * every - now : ms; \
        return set(run, wait, ...rest); }; })()";

/// A minute and more of the throttling that [`HOLD_BACK`] imitates: with heartbeats six times as fast, a server that
/// gives a hidden page up after a sixth of its time, and no real minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_page_with_throttled_timers_stays_connected_and_counts_what_comes() {
    let options = options()
        .flag("beat-interval-ms", 2_000)
        .flag("beat-hidden-interval-ms", 5_000)
        .flag("dead-peer-ms", 7_000)
        .flag("dead-peer-hidden-ms", 25_000);
    Stage::run("hidden", options, async |stage| {
        stay_hidden(stage, &format!("{HOLD_BACK}; {TICK}"), Duration::ZERO, Duration::from_secs(30)).await;
    })
    .await;
}

/// The real thing, where `HOLDFAST_HIDDEN_S` gives it the time: Chromium begins to throttle after five minutes, so from
/// 370 on it shows more than the test above. Without, it shows a moment of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_page_stays_connected_as_long_as_it_is_watched() {
    const GRACE: Duration = Duration::from_secs(300);
    let given = std::env::var("HOLDFAST_HIDDEN_S").ok();
    let hidden_for = given.map_or(10, |text| text.parse().expect("HOLDFAST_HIDDEN_S is a number of seconds"));
    Stage::run_throttled("hidden-for-real", options(), async |stage| {
        stay_hidden(stage, TICK, GRACE, Duration::from_secs(hidden_for)).await;
    })
    .await;
}

/// Hides a page, lets time pass in which posts come, and shows it again: it was live all the while, in its own view and
/// in the server's. After `grace` its timers are held back.
async fn stay_hidden(stage: &Stage, script: &str, grace: Duration, hidden_for: Duration) {
    let ada = stage.person().await.blank().await;
    ada.before_load(script).await;
    ada.goto(&stage.origin()).await;
    ada.sign_in("Ada").await;
    let since = wall_ms();
    ada.go_behind().await;
    others_post(stage, "Bo", numbered("early", 3)).await;
    wait_title(&ada, "(3) general").await;
    let ticks = async || ada.evaluate::<u64>("window.ticks").await.expect("a hidden page answers");
    tokio::time::sleep(grace.min(hidden_for)).await;
    let (before, held_back_for) = (ticks().await, hidden_for.saturating_sub(grace));
    tokio::time::sleep(held_back_for).await;
    let ticked = ticks().await - before;
    assert!(ticked <= held_back_for.as_secs() / 5, "{ticked} ticks in {held_back_for:?}: timers were not held back");
    others_post(stage, "Cy", numbered("late", 2)).await;
    wait_title(&ada, "(5) general").await;
    ada.show().await;
    let shown = ada.shown().into_iter().filter(|shown| shown.at >= since);
    let states: Vec<String> = shown.filter_map(|shown| shown.state).collect();
    assert!(states.iter().all(|state| state == "live"), "a hidden page was not always live: {states:?}");
    ada.click("panel-open").await;
    ada.wait_words("panel", "Welcomed as connection", SOON).await;
    let welcomes = ada.text("panel").await.unwrap_or_default().matches("Welcomed as connection").count();
    assert_eq!(welcomes, 1, "the page had to connect again");
    judge(stage, &["early 0", "early 1", "early 2", "late 0", "late 1"], &[&ada]).await;
}

async fn wait_title(tab: &Tab, start: &str) {
    let look = async || tab.evaluate::<String>("document.title").await.unwrap_or_default();
    wait::see(&format!("the title begins with {start:?}"), SOON, look, |title| title.starts_with(start)).await;
}

// --- The tab killed ---------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_tab_killed_right_after_enter_has_its_text_in_the_outbox_or_still_in_the_composer() {
    Stage::run_with_proxy("kill-after-enter", options(), async |stage| {
        let person = stage.person().await;
        let mut ada = person.signed_in_through_proxy("Ada").await;
        let texts = numbered("killed", 5);
        for (number, text) in texts.iter().enumerate() {
            stage.weather(Weather::BLACK_HOLE);
            ada.write(text).await;
            let kept = async || ada.stored_drafts().await;
            wait::see("the draft is on the device", SOON, kept, |drafts| drafts.contains(text)).await;
            // Sooner and later after the key.
            let kill = async {
                tokio::time::sleep(Duration::from_millis(4 * number as u64)).await;
                ada.crash().await;
            };
            let enter = "document.querySelector('[data-testid=composer]').dispatchEvent(new KeyboardEvent('keydown', \
                         { key: 'Enter', bubbles: true, cancelable: true })), true";
            tokio::join!(ada.evaluate::<bool>(enter), kill);
            stage.weather(Weather::Fair);
            ada = person.tab_at(&stage.proxy().origin()).await;
            ada.wait_state("live", PATIENCE).await;
            let whereabouts = async || {
                let is_row = ada.rows().await.iter().any(|row| row.body == *text && row.seq.is_some());
                (is_row, ada.draft().await == *text)
            };
            let found = wait::see("the text is there", PATIENCE, whereabouts, |(row, draft)| *row || *draft).await;
            match found {
                (true, true) => panic!("{text:?} was sent and stands in the composer"),
                (true, false) => {}
                (false, _) => ada.press("Enter").await,
            }
            ada.wait_sent(text, PATIENCE).await;
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        judge(stage, &texts, &[&ada]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_tab_left_is_sent_by_the_other_which_says_so() {
    Stage::run("lock-holder-killed", options(), async |stage| {
        let person = stage.person().await;
        let heir = person.signed_in("Ada").await;
        let dying = person.tab().await;
        dying.wait_state("live", LOAD_DEADLINE).await;
        dying.offline(true).await;
        dying.wait_state("offline", SOON).await;
        for text in numbered("left", 3) {
            dying.post(&text).await;
        }
        dying.wait_rows("all three are saved", SOON, |rows| rows.iter().filter(|row| row.saved).count() == 3).await;
        dying.crash().await;
        // It looks for dead tabs now and then.
        heir.wait_words("notice", "3 messages of a closed tab are sent from here.", PATIENCE).await;
        judge(stage, &["left 0", "left 1", "left 2"], &[&heir]).await;
    })
    .await;
}

// --- Nowhere to store -------------------------------------------------------------------------------------------------

const NO_STORAGE: &str = "This browser can't store unsent messages. Keep this tab open until they're sent.";

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_denies_storage_is_told_of_and_nothing_is_called_saved() {
    Stage::run("storage-denied", options(), async |stage| {
        let ada = stage.person().await.blank().await;
        let deny = "Object.defineProperty(window, 'indexedDB', \
                    { get() { throw new DOMException('denied by the test', 'SecurityError'); } })";
        ada.before_load(deny).await;
        ada.goto(&stage.origin()).await;
        ada.sign_in("Ada").await;
        stage.kill_server();
        ada.wait_state_in(&["waiting", "trying"], SOON).await;
        ada.post("only in this tab").await;
        ada.wait_words("status-bar", NO_STORAGE, SOON).await;
        ada.wait_words("row-status", "Waiting to send", SOON).await;
        assert!(!ada.text("row-status").await.unwrap_or_default().contains("Saved"), "nothing was saved");
        assert!(ada.rows().await.iter().all(|row| !row.saved));
        ada.offline(true).await;
        let offline = "You're offline. You can keep writing; keep this tab open until your messages are sent.";
        ada.wait_words("status-bar", offline, SOON).await;
        ada.offline(false).await;
        stage.restart_server();
        ada.wait_state("live", PATIENCE).await;
        judge(stage, &["only in this tab"], &[&ada]).await;
        let gone = async || ada.text("status-bar").await.unwrap_or_default();
        wait::see("the warning is gone once all is sent", SOON, gone, |said| !said.contains(NO_STORAGE)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_device_is_told_of_until_there_is_room_and_then_keeps_what_it_did_not_take() {
    Stage::run("storage-full", options(), async |stage| {
        let ada = stage.person().await.blank().await;
        // A device without room aborts what was about to be committed. Chromium's own quota does not bind the profiles
        // of tests, which are in memory.
        let fill = "(() => { const commit = IDBTransaction.prototype.commit; window.isFull = true; \
                    IDBTransaction.prototype.commit = function () { return window.isFull ? this.abort() : commit.call(this); }; })()";
        ada.before_load(fill).await;
        ada.goto(&stage.origin()).await;
        ada.sign_in("Ada").await;
        stage.kill_server();
        ada.wait_state_in(&["waiting", "trying"], SOON).await;
        ada.post("no room for this").await;
        ada.wait_words("status-bar", NO_STORAGE, SOON).await;
        ada.wait_words("row-status", "Waiting to send", SOON).await;
        assert!(ada.rows().await.iter().all(|row| !row.saved));
        ada.evaluate::<bool>("window.isFull = false, true").await;
        ada.post("room again").await;
        let saved = |rows: &[Row]| rows.len() == 2 && rows.iter().all(|row| row.saved);
        ada.wait_rows("with room again, both are saved", SOON, saved).await;
        ada.wait_words("row-status", "Saved here, waiting to send", SOON).await;
        let said = ada.text("status-bar").await.unwrap_or_default();
        assert!(!said.contains(NO_STORAGE), "{said:?}");
        stage.restart_server();
        ada.wait_state("live", PATIENCE).await;
        judge(stage, &["no room for this", "room again"], &[&ada]).await;
    })
    .await;
}

// --- Another server ---------------------------------------------------------------------------------------------------

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a plain file");
    }
}

fn empty_folder(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        std::fs::remove_file(entry.path()).expect("a plain file");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_restored_from_an_older_backup_is_told_of_and_shown_as_it_is_now() {
    Stage::run("older-backup", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        let bo = stage.person_reading(Language::Chinese).await.signed_in("小波").await;
        others_post(stage, "Cy", numbered("kept", 3)).await;
        let backup = tempfile::tempdir().expect("a temporary folder");
        stage.kill_server();
        stage.with_server(|server| copy_folder(server.data_dir(), backup.path()));
        stage.restart_server();
        let lost = others_post(stage, "Di", numbered("lost", 5)).await;
        for tab in [&ada, &bo] {
            tab.wait_rows("all eight", PATIENCE, |rows| rows.last().and_then(|row| row.seq) == Some(lost)).await;
        }
        bo.offline(true).await;
        bo.wait_state("offline", SOON).await;
        stage.kill_server();
        stage.with_server(|server| {
            empty_folder(server.data_dir());
            copy_folder(backup.path(), server.data_dir());
        });
        stage.restart_server();
        let words = "The server was restored from an older state. The room was loaded anew.";
        ada.wait_words("notice", words, PATIENCE).await;
        judge(stage, &["kept 0", "kept 1", "kept 2"], &[&ada]).await;
        // By now the new history is longer than the one Bo knows: only the chain tells that it is another.
        others_post(stage, "Ed", numbered("new", 9)).await;
        bo.offline(false).await;
        bo.wait_words("notice", "服务器的历史记录与此处显示的不同，房间已重新加载。", PATIENCE).await;
        let mut all = vec!["kept 0", "kept 1", "kept 2"];
        let new = numbered("new", 9);
        all.extend(new.iter().map(String::as_str));
        judge(stage, &all, &[&ada, &bo]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_too_old_for_its_server_asks_for_a_reload_that_keeps_drafts_and_unsent_posts() {
    Stage::run("older-page", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        // The page of one version ago, as the server hears it.
        let older = "(() => { const send = WebSocket.prototype.send; WebSocket.prototype.send = function (text) { \
                     send.call(this, String(text).replace('\"protocol\":1', '\"protocol\":0')); }; })()";
        stage.kill_server();
        ada.wait_state_in(&["waiting", "trying"], SOON).await;
        ada.post("unsent").await;
        ada.wait_words("row-status", "Saved here, waiting to send", SOON).await;
        ada.write("half a thought").await;
        ada.evaluate::<bool>(&format!("{older}, true")).await;
        stage.restart_server();
        ada.wait_words("status-bar", "A new version is ready. Drafts and unsent messages are kept.", PATIENCE).await;
        assert_eq!(ada.state().await, "stopped");
        // Loaded anew before a pause in which a draft would be kept.
        ada.write(" and a half").await;
        ada.click("reload").await;
        let text = "half a thought and a half";
        wait::see("the draft is back", LOAD_DEADLINE, async || ada.draft().await, |draft| draft == text).await;
        ada.wait_state("live", PATIENCE).await;
        judge(stage, &["unsent"], &[&ada]).await;
    })
    .await;
}

// --- What people write ------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn names_titles_and_texts_that_are_scripts_are_shown_as_they_are_and_do_nothing() {
    /// At most 32 characters, as names are.
    const NAMES: [&str; 4] =
        ["<img src=x onerror=owned()>", "\"><svg onload=owned()>", "javascript:owned()", "{{7*7}}${7*7}"];
    const TEXTS: [&str; 8] = [
        "<script>owned()</script>",
        "</textarea><img src=x onerror=owned()>",
        "<iframe srcdoc='<script>parent.owned()</script>'>",
        "https://example.org/\"onmouseover=\"owned()",
        "https://example.org/<svg/onload=owned()>",
        "data:text/html,<script>owned()</script>",
        "<a href=javascript:owned()>x</a> <style>*{display:none}</style>",
        "<math><mtext></form><form><mglyph><style></math><img src onerror=owned()>",
    ];
    Stage::run("scripts", options(), async |stage| {
        let watch = "window.owned = () => { window.isOwned = true; }";
        let reader = stage.person().await.blank().await;
        reader.before_load(watch).await;
        reader.goto(&stage.origin()).await;
        reader.sign_in(NAMES[0]).await;
        assert_eq!(reader.text("me").await.as_deref(), Some(NAMES[0]));
        let mut all = Vec::new();
        for name in &NAMES[1..] {
            let (mut writer, room) = program(stage, name).await;
            for text in TEXTS {
                writer.post(room, text).await.expect("a connection").expect("an ack");
                all.push(text);
            }
        }
        let authors =
            |rows: &[Row]| NAMES[1..].iter().all(|name| rows.iter().any(|row| row.author.as_deref() == Some(name)));
        reader.wait_rows("all are shown under their names", SOON, authors).await;
        judge(stage, &all, &[&reader]).await;
        reader.click("room-create-open").await;
        reader.click("room-create-name").await;
        reader.insert("scripts").await;
        reader.click("room-create-title").await;
        reader.insert("<img src=x onerror=owned()>").await;
        reader.click("room-create-submit").await;
        let about = async || reader.evaluate::<String>("document.querySelector('.about')?.textContent ?? ''").await;
        wait::see("the topic", SOON, about, |about| about.as_deref() == Some("<img src=x onerror=owned()>")).await;
        reader.click("people-open").await;
        reader.wait_for("people", SOON).await;
        assert_eq!(reader.evaluate::<bool>("'isOwned' in window").await, Some(false));
        let foreign = "document.querySelectorAll('#app iframe, #app img, #app style, #app [onerror], #app [onload], \
                       #app [onmouseover], #app a[href^=javascript], #app a[href^=data]').length";
        assert_eq!(reader.evaluate::<u64>(foreign).await, Some(0));
        let info = stage.http().get("/api/info", &[]).json();
        assert_eq!(info["csp_reports"], 0, "the browser reported a violation of the policy: {info}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enter_that_chooses_a_word_of_a_japanese_composition_sends_nothing_in_either_order_of_events() {
    Stage::run("composition-japanese", options(), async |stage| {
        let tab = stage.person().await.signed_in("由紀").await;
        tab.click("composer").await;
        for step in ["k", "か", "かn", "かん", "かんじ", "漢字"] {
            tab.compose(step).await;
        }
        tab.press_enter_in_composition().await;
        tab.insert("漢字").await;
        for step in ["を", "を", "をかく", "を書く"] {
            tab.compose(step).await;
        }
        tab.press_enter_in_composition().await;
        tab.insert("を書く").await;
        // Safari ends the composition first, and tells then of the Enter that ended it, as an ordinary key.
        let safari = "(() => { const area = document.querySelector('[data-testid=composer]'); \
                      area.dispatchEvent(new CompositionEvent('compositionend', { bubbles: true, data: 'を書く' })); \
                      area.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', keyCode: 13, bubbles: true, cancelable: true })); \
                      return area.value; })()";
        assert_eq!(tab.evaluate::<String>(safari).await.as_deref(), Some("漢字を書く"));
        assert!(tab.rows().await.is_empty(), "Enter that chose a word sent something");
        tab.wait_composed().await;
        tab.press("Enter").await;
        judge(stage, &["漢字を書く"], &[&tab]).await;
    })
    .await;
}

// --- The session ended ------------------------------------------------------------------------------------------------

/// What is said to somebody whose session ended.
struct Ended {
    language: Language,
    name: &'static str,
    bar: &'static str,
    form: &'static str,
    why: &'static str,
    copied: &'static str,
}

const ENDED: [Ended; 2] = [
    Ended {
        language: Language::English,
        name: "Ada",
        bar: "Your session ended before 2 messages were sent. Sign in again; you can copy them first.",
        form: "Your session ended. Sign in again.",
        why: "Signing in makes you a new person here, so these can't be sent for you. Copy what you need.",
        copied: "Copied",
    },
    Ended {
        language: Language::Chinese,
        name: "小明",
        bar: "登录已失效，有 2 条消息未发送。请重新登录，登录前可复制这些消息。",
        form: "登录已失效，请重新登录。",
        why: "重新登录后你将是新的用户，这些内容无法代为发送，请复制需要的部分。",
        copied: "已复制",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn what_an_ended_session_cannot_send_any_more_can_be_copied_until_it_is_discarded() {
    Stage::run_with_proxy("session-ended", options(), async |stage| {
        for words in ENDED {
            let person = stage.person_reading(words.language).await;
            let tab = person.blank().await;
            // As on plain HTTP in a network of one's own, where browsers give a page no clipboard.
            tab.before_load("Object.defineProperty(navigator, 'clipboard', { value: undefined })").await;
            tab.goto(&stage.proxy().origin()).await;
            tab.sign_in(words.name).await;
            stage.weather(Weather::Reset);
            tab.wait_state_in(&["waiting", "trying"], SOON).await;
            for text in ["one", "two"] {
                tab.post(text).await;
            }
            tab.wait_rows("both are saved", SOON, |rows| rows.iter().filter(|row| row.saved).count() == 2).await;
            tab.write("half a thought").await;
            wait::see(
                "the draft is on the device",
                SOON,
                async || tab.stored_drafts().await,
                |drafts| !drafts.is_empty(),
            )
            .await;
            // The same cookie at another origin: the session ends without this tab.
            let other = person.tab().await;
            other.wait_state("live", LOAD_DEADLINE).await;
            other.evaluate::<u16>("fetch('/api/session', { method: 'DELETE' }).then((answer) => answer.status)").await;
            other.close().await;
            stage.weather(Weather::Fair);
            tab.wait_words("status-bar", words.bar, PATIENCE).await;
            tab.click("sign-in-again").await;
            assert_kept(&tab, &words).await;
            tab.click("kept-copy").await;
            tab.wait_words("notice", words.copied, SOON).await;
            // A reload forgets who was signed in, and still knows what they wrote.
            tab.reload().await;
            assert_kept(&tab, &words).await;
            tab.click("kept-discard").await;
            wait::see("it is gone", SOON, async || tab.count("kept").await, |count| *count == 0).await;
            let left = async || (tab.stored_items().await, tab.stored_drafts().await);
            wait::see("the device forgets it", SOON, left, |(items, drafts)| items.is_empty() && drafts.is_empty())
                .await;
            tab.close().await;
        }
    })
    .await;
}

async fn assert_kept(tab: &Tab, words: &Ended) {
    let text = async || tab.evaluate::<String>("document.querySelector('[data-testid=kept]')?.value ?? ''").await;
    let wanted = "one\n\ntwo\n\nhalf a thought";
    wait::see("what cannot be sent is shown", SOON, text, |text| text.as_deref() == Some(wanted)).await;
    tab.wait_words("sign-in-because", words.form, SOON).await;
    let means = tab.evaluate::<String>("document.getElementById('kept-means')?.textContent ?? ''").await;
    assert_eq!(means.as_deref(), Some(words.why));
}
