//! The real page in a real Chromium against the real binary. Every test also fails if the page logs an error, throws, or
//! violates its policy.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::browser::{LOAD_DEADLINE, Language, Row};
use e2e::page::{PATIENCE, SOON, heir_and_dying, judge_count, numbered, options, program};
use e2e::proxy::Weather;
use e2e::{Stage, Tab, wait};

/// A page looks for posts of dead tabs more often than this.
const LOOKS_FOR_ORPHANS: Duration = Duration::from_secs(17);

/// Asserts that the own rows with this prefix stand in the order they were written.
fn assert_in_order(rows: &[Row], prefix: &str, count: usize) {
    let written: Vec<String> =
        rows.iter().map(|row| row.body.clone()).filter(|body| body.starts_with(prefix)).collect();
    let wanted: Vec<String> = (0..count).map(|number| format!("{prefix}{number}")).collect();
    assert_eq!(written, wanted);
}

// --- Ordinary days ----------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_first_message_is_sent_from_a_fresh_profile() {
    Stage::run("first-message", options(), async |stage| {
        let tab = stage.person().await.signed_in("Ada").await;
        tab.post("Hello, world").await;
        let row = tab.wait_sent("Hello, world", SOON).await;
        assert_eq!(row.status, "sent");
        assert_eq!(row.author.as_deref(), Some("Ada"));
        assert_eq!(tab.draft().await, "", "the composer is empty after sending");
        judge_count(stage, 1, &[&tab]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_see_each_others_posts_in_the_same_order() {
    Stage::run("same-order", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        let bo = stage.person_reading(Language::Chinese).await.signed_in("阿波").await;
        for number in 0..8 {
            let (of_ada, of_bo) = (format!("ada {number}"), format!("波 {number}"));
            tokio::join!(ada.post(&of_ada), bo.post(&of_bo));
        }
        judge_count(stage, 16, &[&ada, &bo]).await;
        assert_in_order(&ada.rows().await, "ada ", 8);
        assert_in_order(&bo.rows().await, "波 ", 8);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_keeps_its_key_from_the_echo_to_its_place() {
    Stage::run_with_proxy("stable-key", options(), async |stage| {
        let tab = stage.person().await.signed_in_through_proxy("Ada").await;
        stage.weather(Weather::Frozen);
        tab.post("on its way").await;
        let echo = tab.wait_rows("the local echo", SOON, |rows| rows.len() == 1).await.remove(0);
        assert_eq!(echo.seq, None, "nothing was acknowledged yet");
        stage.weather(Weather::Fair);
        let sent = tab.wait_sent("on its way", PATIENCE).await;
        assert_eq!(sent.key, echo.key);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_survives_a_reload() {
    Stage::run("reload-signed-in", options(), async |stage| {
        let tab = stage.person().await.signed_in("Ada").await;
        tab.post("before").await;
        tab.wait_sent("before", SOON).await;
        tab.reload().await;
        tab.wait_state("live", LOAD_DEADLINE).await;
        tab.wait_sent("before", SOON).await;
        tab.post("after").await;
        judge_count(stage, 2, &[&tab]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stays_longer_than_a_session_lasts_without_use_is_still_who_they_are_after_a_reload() {
    const LIFE: Duration = Duration::from_secs(4);
    let options = options().flag("session-ms", LIFE.as_millis());
    Stage::run("longer-than-a-session", options, async |stage| {
        let tab = stage.person().await.signed_in("Ada").await;
        let expires = async || tab.page().get_cookies().await.expect("cookies").pop().expect("a cookie").expires;
        let first = expires().await;
        // What is waited for is the end of the session, had nobody renewed it.
        tokio::time::sleep(LIFE + LIFE / 4).await;
        tab.wait_state("live", SOON).await;
        tab.reload().await;
        tab.wait_state("live", LOAD_DEADLINE).await;
        tab.post("still Ada").await;
        tab.wait_sent("still Ada", SOON).await;
        assert!(expires().await > first, "each socket has the browser keep the cookie from then on");
        judge_count(stage, 1, &[&tab]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_never_html() {
    Stage::run("text-not-html", options(), async |stage| {
        let corpus = [
            "<script>window.owned = 1</script>",
            "<img src=x onerror=\"window.owned = 1\">",
            "<svg onload=\"window.owned = 1\">",
            "[click](javascript:window.owned=1)",
            "javascript:window.owned=1",
            "\u{202e}gnirts desrever",
            "a & b < c > d \"e\" 'f'",
        ];
        let tab = stage.person().await.signed_in("Eve").await;
        for text in corpus {
            tab.post(text).await;
            tab.wait_sent(text, SOON).await;
        }
        assert_eq!(tab.evaluate::<bool>("'owned' in window").await, Some(false));
        let bad_links = "[...document.querySelectorAll('[data-testid=row] a')].filter((a) => !/^(https?|mailto):/.test(a.href)).length";
        assert_eq!(tab.evaluate::<u64>(bad_links).await, Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_survives_a_reload() {
    Stage::run("draft", options(), async |stage| {
        let tab = stage.person().await.signed_in("Ada").await;
        tab.write("half a thought").await;
        // A draft is kept when the person pauses, not at every key.
        let kept = async || tab.stored_drafts().await;
        wait::see("the draft is on the device", SOON, kept, |drafts| *drafts == ["half a thought"]).await;
        tab.reload().await;
        tab.wait_for("composer", LOAD_DEADLINE).await;
        wait::see("the draft is back", SOON, async || tab.draft().await, |draft| draft == "half a thought").await;
        assert!(tab.rows().await.is_empty(), "a draft is no post");
    })
    .await;
}

// --- Writing Chinese --------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn enter_during_a_composition_does_not_send_and_after_it_does() {
    Stage::run("composition", options(), async |stage| {
        let tab = stage.person_reading(Language::Chinese).await.signed_in("小明").await;
        tab.click("composer").await;
        tab.compose("ni hao").await;
        tab.press_enter_in_composition().await;
        tab.compose("你好").await;
        tab.press_enter_in_composition().await;
        tab.insert("你好").await;
        wait::see(
            "the composed text stands in the composer",
            SOON,
            async || tab.draft().await,
            |draft| draft == "你好",
        )
        .await;
        assert!(tab.rows().await.is_empty(), "Enter during a composition sent something");
        tab.wait_composed().await;
        tab.press("Enter").await;
        tab.wait_sent("你好", SOON).await;
        judge_count(stage, 1, &[&tab]).await;
    })
    .await;
}

// --- Bad days ---------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn scenario_03_a_server_killed_in_a_burst_loses_nothing_and_the_pages_come_back_by_themselves() {
    Stage::run("kill-in-burst", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        let bo = stage.person().await.signed_in("Bo").await;
        for number in 0..6 {
            ada.post(&format!("ada {number}")).await;
            bo.post(&format!("bo {number}")).await;
        }
        stage.kill_server();
        for number in 6..10 {
            ada.post(&format!("ada {number}")).await;
            bo.post(&format!("bo {number}")).await;
        }
        let lost = ["waiting", "trying"];
        ada.wait_state_in(&lost, SOON).await;
        bo.wait_state_in(&lost, SOON).await;
        stage.restart_server();
        ada.wait_state("live", PATIENCE).await;
        bo.wait_state("live", PATIENCE).await;
        judge_count(stage, 20, &[&ada, &bo]).await;
        assert_in_order(&bo.rows().await, "ada ", 10);
        assert_in_order(&ada.rows().await, "bo ", 10);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_06_a_black_holed_link_is_noticed_shown_and_healed_without_a_duplicate() {
    Stage::run_with_proxy("black-hole", options(), async |stage| {
        let ada = stage.person().await.signed_in_through_proxy("Ada").await;
        let bo = stage.person().await.signed_in("Bo").await;
        ada.post("before").await;
        bo.wait_sent("before", SOON).await;
        stage.weather(Weather::BLACK_HOLE);
        let began = std::time::Instant::now();
        ada.post("into the dark").await;
        bo.post("from the light").await;
        ada.wait_state_in(&["waiting", "trying", "connecting"], SOON).await;
        // Nine seconds is the promise while a send waits; the rest is for a busy machine.
        assert!(began.elapsed() < Duration::from_secs(12), "noticed only after {:?}", began.elapsed());
        let echo = ada.rows().await.pop().expect("the local echo");
        assert_eq!((echo.body.as_str(), echo.seq), ("into the dark", None));
        assert_ne!(echo.status, "refused", "the network never makes a post refused");
        ada.wait_for("status-bar", SOON).await;
        stage.weather(Weather::Fair);
        ada.wait_state("live", PATIENCE).await;
        judge_count(stage, 3, &[&ada, &bo]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_06_a_late_original_and_its_retry_are_one_row() {
    Stage::run_with_proxy("late-original", options(), async |stage| {
        let ada = stage.person().await.signed_in_through_proxy("Ada").await;
        stage.weather(Weather::Frozen);
        ada.post("held up").await;
        ada.wait_state_in(&["waiting", "trying", "connecting"], SOON).await;
        stage.weather(Weather::Fair);
        ada.wait_state("live", PATIENCE).await;
        judge_count(stage, 1, &[&ada]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_01_offline_is_shown_at_once_writing_goes_on_and_all_is_sent_when_back() {
    Stage::run("offline", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        let bo = stage.person().await.signed_in("Bo").await;
        ada.offline(true).await;
        ada.wait_state("offline", Duration::from_secs(2)).await;
        for number in 0..5 {
            ada.post(&format!("offline {number}")).await;
            bo.post(&format!("online {number}")).await;
        }
        let saved = |rows: &[Row]| {
            rows.iter().filter(|row| row.body.starts_with("offline")).all(|row| row.saved && row.seq.is_none())
        };
        ada.wait_rows("the posts are saved on this device", SOON, |rows| rows.len() == 5 && saved(rows)).await;
        ada.offline(false).await;
        ada.wait_state("live", PATIENCE).await;
        judge_count(stage, 10, &[&ada, &bo]).await;
        assert_in_order(&bo.rows().await, "offline ", 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_in_the_middle_of_sending_loses_and_doubles_nothing() {
    Stage::run_with_proxy("reload-mid-send", options(), async |stage| {
        let ada = stage.person().await.signed_in_through_proxy("Ada").await;
        for number in 0..5 {
            // As fast as a page can be left: nothing waits for the acknowledgement.
            ada.post(&format!("going {number}")).await;
            ada.reload().await;
            ada.wait_for("composer", LOAD_DEADLINE).await;
        }
        ada.wait_rows("all five are there", PATIENCE, |rows| rows.len() == 5).await;
        // What the page wrote arrives late, after its retry; or never, so that only what the device kept can arrive.
        for (text, weather) in [("held up", Weather::Frozen), ("swallowed", Weather::BLACK_HOLE)] {
            stage.weather(weather);
            ada.post(text).await;
            let is_on_its_way = |rows: &[Row]| rows.iter().any(|row| row.body == text && row.status == "sending");
            ada.wait_rows("it is on its way", SOON, is_on_its_way).await;
            ada.reload_while(|| stage.weather(Weather::Fair)).await;
            ada.wait_state("live", PATIENCE).await;
            ada.wait_sent(text, PATIENCE).await;
        }
        judge_count(stage, 7, &[&ada]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_05_a_tab_closed_with_20_queued_posts_sends_them_in_order_when_opened_again() {
    Stage::run("close-with-queue", options(), async |stage| {
        let person = stage.person().await;
        let ada = person.signed_in("Ada").await;
        stage.kill_server();
        ada.wait_state_in(&["waiting", "trying"], SOON).await;
        for number in 0..20 {
            ada.post(&format!("queued {number}")).await;
        }
        ada.wait_rows("all twenty are saved", SOON, |rows| rows.len() == 20 && rows.iter().all(|row| row.saved)).await;
        ada.close().await;
        stage.restart_server();
        let again = person.tab().await;
        again.wait_state("live", PATIENCE).await;
        judge_count(stage, 20, &[&again]).await;
        assert_in_order(&again.rows().await, "queued ", 20);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_of_one_person_do_not_send_twice() {
    Stage::run("two-tabs", options(), async |stage| {
        let person = stage.person().await;
        let one = person.signed_in("Ada").await;
        let two = person.tab().await;
        two.wait_state("live", LOAD_DEADLINE).await;
        stage.kill_server();
        one.wait_state_in(&["waiting", "trying"], SOON).await;
        for number in 0..5 {
            one.post(&format!("one {number}")).await;
            two.post(&format!("two {number}")).await;
        }
        stage.restart_server();
        one.wait_state("live", PATIENCE).await;
        two.wait_state("live", PATIENCE).await;
        judge_count(stage, 10, &[&one, &two]).await;
        assert_in_order(&one.rows().await, "one ", 5);
        assert_in_order(&one.rows().await, "two ", 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_of_a_tab_that_died_are_adopted_by_the_one_that_lives() {
    Stage::run("adoption", options(), async |stage| {
        let person = stage.person().await;
        let (heir, dying) = heir_and_dying(&person, &numbered("left behind", 3)).await;
        let what = "the living tab sends what another still holds";
        wait::never(what, LOOKS_FOR_ORPHANS, async || heir.rows().await, |rows| !rows.is_empty()).await;
        dying.close().await;
        judge_count(stage, 3, &[&heir]).await;
        assert_in_order(&heir.rows().await, "left behind ", 3);
    })
    .await;
}

// --- A long room ------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn scrolling_back_through_5000_posts_shows_every_one_and_keeps_the_page_small() {
    const POSTS: usize = 5_000;
    /// Rows in the DOM at any time: some screens full, not thousands.
    const ROWS_AT_ONCE: usize = 200;
    Stage::run("scroll-back", options(), async |stage| {
        let (mut writer, room) = program(stage, "Writer").await;
        writer.post_many(room, (0..POSTS).map(|number| format!("post {number}"))).await;
        let tab = stage.person().await.signed_in("Reader").await;
        tab.wait_sent(&format!("post {}", POSTS - 1), SOON).await;
        let mut seen = BTreeMap::new();
        let mut most = 0;
        let end = std::time::Instant::now() + Duration::from_secs(240);
        while seen.len() < POSTS {
            assert!(std::time::Instant::now() < end, "only {} of {POSTS} posts came up, from {:?}", seen.len(), seen.first_key_value());
            let rows = tab.rows().await;
            most = most.max(rows.len());
            let places: Vec<u64> = rows.iter().filter_map(|row| row.seq).collect();
            assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "rows out of order: {places:?}");
            for (seq, body) in rows.iter().filter_map(|row| Some((row.seq?, &row.body))) {
                let before = seen.insert(seq, body.clone());
                assert!(before.is_none_or(|before| before == *body), "place {seq} changed its text");
            }
            let up = "(() => { const t = document.querySelector('[data-testid=timeline]'); t.scrollTop -= t.clientHeight * 0.8; return t.scrollTop; })()";
            tab.evaluate::<f64>(up).await;
        }
        assert!(most <= ROWS_AT_ONCE, "{most} rows were in the DOM at once");
        let texts: Vec<&String> = seen.values().collect();
        assert!(texts.iter().copied().eq(&(0..POSTS).map(|number| format!("post {number}")).collect::<Vec<_>>()));
        // Somebody far up is not dragged to the end by what comes, and is told of it.
        // The first writer has been silent for so long that its connection may have been given up.
        let (mut late, room) = program(stage, "Late writer").await;
        late.post(room, "the newest").await.expect("a connection").expect("an ack");
        tab.wait_for("jump-end", SOON).await;
        assert!(!tab.bodies().await.contains(&"the newest".to_owned()));
        tab.click("jump-end").await;
        tab.wait_sent("the newest", SOON).await;
    })
    .await;
}

// --- Words ------------------------------------------------------------------------------------------------------------

/// What the page says in one language.
struct Words {
    language: Language,
    name: &'static str,
    cannot_reach: &'static str,
    retry_now: &'static str,
    offline: &'static str,
    back: &'static str,
    restarting: &'static str,
    reconnecting: &'static str,
    saved: &'static str,
}

const WORDS: [Words; 2] = [
    Words {
        language: Language::English,
        name: "Ada",
        cannot_reach: "Can't reach the server.",
        retry_now: "Retry now",
        offline: "You're offline. You can keep writing; messages are saved on this device and sent when you're back.",
        back: "Back online.",
        restarting: "The server is restarting. Back in a moment.",
        reconnecting: "Reconnecting…",
        saved: "Saved here, waiting to send",
    },
    Words {
        language: Language::Chinese,
        name: "小明",
        cannot_reach: "无法连接服务器",
        retry_now: "立即重试",
        offline: "当前处于离线状态。可以继续输入，消息会保存在本设备，联网后自动发送。",
        back: "已恢复连接。",
        restarting: "服务器正在重启，马上恢复。",
        reconnecting: "正在重新连接…",
        saved: "已保存在本设备，等待发送",
    },
];

async fn wait_text(tab: &Tab, test_id: &str, words: &str) {
    tab.wait_words(test_id, words, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_24_the_state_is_said_in_english_and_in_chinese() {
    Stage::run("state-words", options(), async |stage| {
        for words in WORDS {
            let tab = stage.person_reading(words.language).await.signed_in(words.name).await;
            tab.offline(true).await;
            wait_text(&tab, "status-bar", words.offline).await;
            tab.post("written offline").await;
            wait_text(&tab, "row-status", words.saved).await;
            tab.offline(false).await;
            wait_text(&tab, "status-bar", words.back).await;
            tab.wait_state("live", PATIENCE).await;

            stage.kill_server();
            wait_text(&tab, "status-pill", words.reconnecting).await;
            wait_text(&tab, "status-bar", words.cannot_reach).await;
            wait_text(&tab, "status-bar", words.retry_now).await;
            stage.restart_server();
            // By hand, unless the page has come back by itself in this very moment.
            tab.evaluate::<bool>("document.querySelector('[data-testid=retry-now]')?.click() ?? true").await;
            wait_text(&tab, "status-bar", words.back).await;
            tab.wait_state("live", PATIENCE).await;

            stage.with_server(|server| {
                server.terminate();
                server.wait_for_exit(e2e::server::DRAIN_DEADLINE);
            });
            wait_text(&tab, "status-bar", words.restarting).await;
            stage.restart_server();
            tab.wait_state("live", PATIENCE).await;
            tab.close().await;
        }
    })
    .await;
}
