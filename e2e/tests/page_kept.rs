//! What a page keeps when its tab, its storage or its session goes, in a real Chromium against the real binary: nothing is
//! lost that was called saved, and nothing is called saved that is not.

use std::time::Duration;

use e2e::browser::{LOAD_DEADLINE, Language, Row};
use e2e::page::{PATIENCE, SOON, heir_and_dying, judge, numbered, options};
use e2e::proxy::Weather;
use e2e::{Stage, Tab, wait};

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
        let (heir, dying) = heir_and_dying(&person, &numbered("left", 3)).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_was_never_stored_is_not_called_saved_after_its_link_broke_either() {
    Stage::run_with_proxy("denied-interrupted", options(), async |stage| {
        let ada = stage.person().await.blank().await;
        let deny = "Object.defineProperty(window, 'indexedDB', \
                    { get() { throw new DOMException('denied by the test', 'SecurityError'); } })";
        ada.before_load(deny).await;
        ada.goto(&stage.proxy().origin()).await;
        ada.sign_in("Ada").await;
        stage.weather(Weather::BLACK_HOLE);
        ada.post("under way").await;
        ada.wait_rows("it is on its way", SOON, |rows| rows.iter().any(|row| row.status == "sending")).await;
        stage.weather(Weather::Reset);
        ada.wait_rows("it waits again", SOON, |rows| rows.iter().any(|row| row.status == "queued")).await;
        ada.wait_words("row-status", "Waiting to send", SOON).await;
        assert!(ada.rows().await.iter().all(|row| !row.saved));
        stage.weather(Weather::Fair);
        ada.wait_state("live", PATIENCE).await;
        judge(stage, &["under way"], &[&ada]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_clears_from_the_browser_while_it_waits_is_stored_again() {
    Stage::run("storage-cleared", options(), async |stage| {
        let person = stage.person().await;
        let ada = person.signed_in("Ada").await;
        ada.offline(true).await;
        ada.wait_state("offline", SOON).await;
        let texts = numbered("cleared", 3);
        for text in &texts {
            ada.post(text).await;
        }
        ada.write("half a thought").await;
        let kept = async || (ada.stored_items().await.len(), ada.stored_drafts().await.len());
        wait::see("all is on the device", SOON, kept, |kept| *kept == (3, 1)).await;
        ada.clear_storage().await;
        wait::see("all is on the device again", PATIENCE, kept, |kept| *kept == (3, 1)).await;
        ada.wait_rows("and called so", SOON, |rows| rows.iter().all(|row| row.saved)).await;
        ada.crash().await;
        let ada = person.tab().await;
        ada.wait_state("live", PATIENCE).await;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        judge(stage, &texts, &[&ada]).await;
        wait::see("the draft", SOON, async || ada.draft().await, |draft| draft == "half a thought").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tab_killed_while_a_post_is_taken_back_has_its_text_in_the_composer() {
    Stage::run("killed-taking-back", options(), async |stage| {
        let person = stage.person().await;
        let ada = person.signed_in("Ada").await;
        ada.offline(true).await;
        ada.wait_state("offline", SOON).await;
        ada.post("second thoughts").await;
        ada.wait_rows("it is saved", SOON, |rows| rows.iter().any(|row| row.saved)).await;
        // It is killed before a draft has been quiet for long enough to be written by itself.
        let no_quiet = "((later) => { window.setTimeout = (run, ms) => ms === 300 ? 0 : later(run, ms); })(window.setTimeout), true";
        ada.evaluate::<bool>(no_quiet).await;
        ada.hover("row").await;
        ada.click("row-edit").await;
        wait::see("it is no longer unsent", SOON, async || ada.stored_items().await, Vec::is_empty).await;
        ada.crash().await;
        let ada = person.tab().await;
        ada.wait_state("live", PATIENCE).await;
        wait::see("the text", SOON, async || ada.draft().await, |draft| draft == "second thoughts").await;
        assert!(ada.rows().await.is_empty(), "it was taken back");
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
