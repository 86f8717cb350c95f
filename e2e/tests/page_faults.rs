//! What can befall a page, in a real Chromium against the real binary: each test says in words what the person sees. The
//! stage judges besides, for every tab and every moment, that what was shown was true: never live on a link that is cut,
//! no row committed that cannot be, no row twice, no words that do not fit the state.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::browser::{LOAD_DEADLINE, Language, Row, Shown};
use e2e::page::{
    PATIENCE, SLOW, SOON, judge, numbered, options, others_post, passer_by, program, wait_title, wait_unread,
};
use e2e::proxy::Weather;
use e2e::{Client, Stage, Tab, wait};

/// A page that comes back to life looks at its link at once and gives it this long, with room for a busy machine.
const LOOKS_AGAIN: Duration = Duration::from_secs(4);

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

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_device_is_shown_a_state_and_told_of_it_at_once() {
    const RETRY: &str = "document.querySelector('[data-testid=retry-now]')?.click()";
    const DEATHS: usize = 2;
    const TRIES: usize = 3;
    // The stage judges that the announced state, the bar and the pill never differ, however shortly.
    Stage::run("slow-device", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        ada.before_load(SLOW).await;
        ada.reload().await;
        ada.wait_state("live", LOAD_DEADLINE).await;
        for _ in 0..DEATHS {
            stage.kill_server();
            ada.wait_for("retry-now", PATIENCE).await;
            for _ in 0..TRIES {
                ada.evaluate::<()>(RETRY).await;
            }
            let began = wall_ms();
            stage.restart_server();
            ada.evaluate::<()>(RETRY).await;
            wait_said(&ada, "Back online", began).await;
            ada.wait_state("live", PATIENCE).await;
        }
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
        // It is fewer than she had read, and she reads on.
        let newest = others_post(stage, "Ed", numbered("new", 1)).await;
        ada.wait_rows("the next one", SOON, |rows| rows.last().and_then(|row| row.seq) == Some(newest)).await;
        wait_unread(&ada, "general", 0).await;
        // By now the new history is longer than the one Bo knows: only the chain tells that it is another.
        others_post(stage, "Fay", numbered("new", 9).split_off(1)).await;
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
