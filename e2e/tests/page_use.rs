//! What hands do to a page, in a real Chromium: a phone put aside, keys faster than the page, menus, long texts.

use e2e::page::{SLOW, SOON, create_room, go_to, numbered, options, others_post, program, wait_unread};
use e2e::{Stage, Tab, wait};

/// Waits until an expression is true in the page.
async fn wait_true(tab: &Tab, what: &str, expression: &str) {
    wait::see(what, SOON, async || tab.evaluate::<bool>(expression).await, |is_true| *is_true == Some(true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_a_phone_does_not_show_is_not_read_and_loads_nothing() {
    const COUNT_PAGES: &str = "(() => { window.pages = 0; const send = WebSocket.prototype.send; \
        WebSocket.prototype.send = function (text) { \
            if (String(text).includes('\"history\"')) window.pages += 1; \
            send.call(this, text); }; })()";
    Stage::run("phone-aside", options(), async |stage| {
        let (mut bo, room) = program(stage, "Bo").await;
        bo.post_many(room, numbered("old", 400)).await;
        let ada = stage.person().await.blank().await;
        ada.before_load(COUNT_PAGES).await;
        ada.goto(&stage.origin()).await;
        ada.resize(390, 844).await;
        ada.sign_in("Ada").await;
        ada.wait_sent("old 399", SOON).await;
        ada.click_at(".back").await;
        wait_true(&ada, "the rooms", "document.querySelector('.main').offsetHeight === 0").await;
        let pages = async || ada.evaluate::<u64>("window.pages").await.expect("a number");
        let before = pages().await;
        for unread in 1..=2 {
            bo.post_many(room, [format!("new {unread}")]).await;
            wait_unread(&ada, "general", unread).await;
        }
        assert_eq!(pages().await, before, "what nobody sees asked for older posts");
        go_to(&ada, "general").await;
        wait_unread(&ada, "general", 0).await;
        let below = "(() => { const t = document.querySelector('[data-testid=timeline]'); \
                     return t.clientHeight > 0 && t.scrollHeight - t.clientHeight - t.scrollTop < 2; })()";
        wait_true(&ada, "the newest is in sight", below).await;
        ada.wait_sent("new 2", SOON).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enter_between_two_rooms_posts_to_the_one_it_was_written_for() {
    const ENTER_AT_ONCE: &str = "(() => { const area = document.querySelector('[data-testid=composer]'); \
        new MutationObserver(() => area.dispatchEvent(new KeyboardEvent('keydown', \
            { key: 'Enter', bubbles: true, cancelable: true }))) \
            .observe(area, { attributes: true, attributeFilter: ['placeholder'] }); return true; })()";
    Stage::run("enter-between", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        create_room(&ada, "quiet").await;
        ada.before_load(SLOW).await;
        ada.reload().await;
        ada.wait_state("live", SOON).await;
        ada.write("for the quiet room").await;
        // As soon as the composer is drawn for the other room, before it has taken over that room's text.
        ada.evaluate::<bool>(ENTER_AT_ONCE).await;
        go_to(&ada, "general").await;
        wait::see("the other room's draft", SOON, async || ada.draft().await, String::is_empty).await;
        ada.post("for everybody").await;
        ada.wait_sent("for everybody", SOON).await;
        assert_eq!(ada.bodies().await, ["for everybody"]);
        go_to(&ada, "quiet").await;
        // Where the browser had no turn between, the Enter met an empty draft, and the text still waits for one.
        let quiet = async || [ada.bodies().await.concat(), ada.draft().await];
        let is_there = |[sent, draft]: &[String; 2]| format!("{sent}{draft}") == "for the quiet room";
        wait::see("the text is in the room it was written for", SOON, quiet, is_there).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_follows_its_end_while_one_writes_many_lines() {
    Stage::run("many-lines", options(), async |stage| {
        others_post(stage, "Bo", numbered("post", 60)).await;
        let ada = stage.person().await.signed_in("Ada").await;
        ada.resize(1280, 800).await;
        ada.wait_sent("post 59", SOON).await;
        let is_at_end = "(() => { const t = document.querySelector('[data-testid=timeline]'); \
                         return document.querySelector('[data-testid=jump-end]') === null \
                             && t.scrollTop + t.clientHeight >= t.scrollHeight - 1; })()";
        ada.write("1\n2\n3\n4\n5\n6\n7\n8").await;
        wait_true(&ada, "the end is in sight", is_at_end).await;
        for letter in ["a", "b"] {
            ada.insert(letter).await;
            // What a frame does of itself has been done.
            let frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))";
            ada.evaluate::<bool>(frames).await;
            assert_eq!(ada.evaluate::<bool>(is_at_end).await, Some(true), "the end after {letter:?}");
        }
        ada.press("Enter").await;
        ada.wait_sent("1\n2\n3\n4\n5\n6\n7\n8ab", SOON).await;
        wait_true(&ada, "the end is in sight", is_at_end).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_menu_closes_at_a_press_elsewhere_and_its_dialogs_give_the_focus_back_to_its_button() {
    Stage::run("menus", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        let is_open = async || ada.evaluate::<bool>("document.querySelector('.menu') !== null").await;
        ada.click("room-menu").await;
        wait::see("the menu", SOON, is_open, |open| *open == Some(true)).await;
        ada.click_at("h1").await;
        wait::see("no menu", SOON, is_open, |open| *open == Some(false)).await;
        for (focus, what) in [(".me-button", "its menu"), ("[data-testid=rename]", "the dialog")] {
            ada.evaluate::<()>(&format!("document.querySelector('{focus}').focus()")).await;
            ada.press("Enter").await;
            wait_true(&ada, what, "document.querySelector('.menu, dialog[open]') !== null").await;
        }
        ada.wait_for("rename-name", SOON).await;
        ada.press("Escape").await;
        let is_back = "document.activeElement.matches('.me-button') && !document.querySelector('.menu, dialog')";
        wait_true(&ada, "the focus is on the button", is_back).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_paste_is_not_counted_as_people_count_and_what_is_near_the_limit_is() {
    /// Notes the longest text that was cut into characters as people see them.
    const NOTE: &str = "(() => { const segment = Intl.Segmenter.prototype.segment; window.longest = 0; \
        Intl.Segmenter.prototype.segment = function (text) { \
            window.longest = Math.max(window.longest, text.length); return segment.call(this, text); }; })()";
    Stage::run("huge-paste", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        ada.before_load(NOTE).await;
        ada.reload().await;
        ada.wait_state("live", SOON).await;
        let write = async |text: &str| {
            let write = format!(
                "(() => {{ const area = document.querySelector('[data-testid=composer]'); area.value = {text}; \
                 area.dispatchEvent(new InputEvent('input', {{ bubbles: true }})); return true; }})()"
            );
            ada.evaluate::<bool>(&write).await;
        };
        let counter = async || ada.evaluate::<String>("document.getElementById('composer-counter').textContent").await;
        let says = async |words: &str| {
            wait::see(&format!("{words:?}"), SOON, counter, |seen| seen.as_deref() == Some(words)).await;
        };
        write("'a'.repeat(1_000_000)").await;
        says("996000 characters too long").await;
        assert_eq!(ada.evaluate::<u64>("window.longest").await, Some(0));
        // A family is one character as people count, five in Unicode, and 18 bytes.
        write("'👨‍👩‍👧'.repeat(910)").await;
        says("").await;
        write("'👨‍👩‍👧'.repeat(912)").await;
        says("32 characters too long").await;
        assert_ne!(ada.evaluate::<u64>("window.longest").await, Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_click_of_a_double_click_on_the_bin_deletes_nothing() {
    Stage::run("double-bin", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        ada.post("to be kept").await;
        ada.wait_sent("to be kept", SOON).await;
        ada.hover("row").await;
        ada.click("row-delete").await;
        ada.wait_for("row-delete-confirm", SOON).await;
        let second = "document.querySelector('[data-testid=row-delete-confirm]') \
                      .dispatchEvent(new MouseEvent('click', { bubbles: true, detail: 2 }))";
        ada.evaluate::<bool>(second).await;
        ada.post("afterwards").await;
        ada.wait_sent("afterwards", SOON).await;
        assert_eq!(ada.bodies().await, ["to be kept", "afterwards"]);
        ada.hover("row").await;
        ada.click("row-delete").await;
        ada.click("row-delete-confirm").await;
        let is_gone = |bodies: &Vec<String>| bodies[0].contains("deleted");
        wait::see("the deletion", SOON, async || ada.bodies().await, is_gone).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn escape_closes_the_sheet_of_a_post() {
    Stage::run("sheet-escape", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        ada.post("under my finger").await;
        ada.wait_sent("under my finger", SOON).await;
        let press = "document.querySelector('[data-testid=row]').dispatchEvent(new TouchEvent('touchstart', { bubbles: true }))";
        ada.evaluate::<bool>(press).await;
        wait_true(&ada, "the sheet", "document.querySelector('dialog[open]') !== null").await;
        ada.press("Escape").await;
        wait_true(&ada, "no sheet", "document.querySelector('dialog') === null").await;
    })
    .await;
}
