//! What anyone expects of a chat at once, in a real Chromium: rooms, people, unread counts, one's own posts, one's own name.

use e2e::browser::{LOAD_DEADLINE, Row};
use e2e::page::{self, SOON, create_room, go_to, program, wait_path, wait_title, wait_unread};
use e2e::server::ServerOptions;
use e2e::{Client, Stage, wait};
use shared::message::{Command, RoomRef};

fn options() -> ServerOptions {
    page::options().flag("coalesce-ms", 100)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_made_by_one_joined_by_another_at_its_address_and_left_again() {
    Stage::run("rooms", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        create_room(&ada, "garden").await;
        ada.post("the roses are out").await;
        ada.wait_sent("the roses are out", SOON).await;
        let bo = stage.person().await.signed_in("Bo").await;
        bo.goto(&format!("{}/r/garden", stage.origin())).await;
        bo.click("join").await;
        bo.wait_sent("the roses are out", SOON).await;
        bo.post("I come and look").await;
        ada.wait_sent("I come and look", SOON).await;
        bo.click("room-menu").await;
        bo.click("room-leave").await;
        bo.click("leave-confirm").await;
        wait::see("the room is gone from the list", SOON, async || bo.count("room").await, |count| *count == 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_rooms_can_be_narrowed_down_by_name_and_topic() {
    Stage::run("room-filter", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        for room in ["garden", "kitchen"] {
            create_room(&ada, room).await;
        }
        ada.click("room-browse").await;
        let entries = "[...document.querySelectorAll('[data-testid=room-entry]')].map((entry) => entry.dataset.name)";
        let listed = async || ada.evaluate::<Vec<String>>(entries).await.unwrap_or_default();
        wait::see("all are listed", SOON, listed, |names| *names == ["garden", "general", "kitchen"]).await;
        ada.click("room-filter").await;
        ada.insert("#GAR").await;
        wait::see("one is left", SOON, listed, |names| *names == ["garden"]).await;
        ada.insert("age").await;
        wait::see("none is left", SOON, listed, Vec::is_empty).await;
        ada.wait_words("dialog", "No listed room matches.", SOON).await;
    })
    .await;
}

/// Keyboards repeat a key that is held some thirty times a second, and each room is opened, and another left.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_held_down_goes_to_the_next_room_and_not_through_all() {
    Stage::run("room-keys", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        create_room(&ada, "garden").await;
        let key = |repeat: bool| {
            let down =
                format!("{{ key: 'ArrowDown', altKey: true, repeat: {repeat}, bubbles: true, cancelable: true }}");
            format!(
                "(() => {{ const key = new KeyboardEvent('keydown', {down}); document.body.dispatchEvent(key);
                return [key.defaultPrevented, location.pathname]; }})()"
            )
        };
        let pressed = async |repeat| ada.evaluate::<(bool, String)>(&key(repeat)).await.expect("the page answers");
        assert_eq!(pressed(true).await, (true, "/r/garden".to_owned()));
        assert_eq!(pressed(false).await, (true, "/r/general".to_owned()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unread_is_counted_in_the_list_and_in_the_title_until_it_is_seen() {
    Stage::run("unread", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        create_room(&ada, "quiet").await;
        let token = stage.http().sign_in("Bo").token;
        let (mut bo, general, _) = Client::join_general(stage.address(), &token).await;
        bo.post_many(general, (0..3).map(|number| format!("post {number}"))).await;
        wait_unread(&ada, "general", 3).await;
        wait_title(&ada, "(3) ").await;
        go_to(&ada, "general").await;
        ada.wait_sent("post 2", SOON).await;
        wait_unread(&ada, "general", 0).await;
        wait_title(&ada, "general").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sees_who_is_here_and_who_is_typing() {
    Stage::run("presence", options().flag("presence-grace-ms", 500), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        let token = stage.http().sign_in("Bo").token;
        let (mut bo, general, _) = Client::join_general(stage.address(), &token).await;
        if ada.count("person").await == 0 {
            ada.click("people-open").await;
        }
        let here = "document.querySelector('[data-testid=person][data-name=Bo]')?.dataset.online ?? ''";
        let look = async || ada.evaluate::<String>(here).await.unwrap_or_default();
        wait::see("Bo is here", SOON, look, |seen| seen == "true").await;
        bo.send(Command::Typing(RoomRef { room: general })).await.expect("a connection");
        let typing = async || ada.text("typing").await.unwrap_or_default();
        wait::see("Bo is typing", SOON, typing, |text| text.contains("Bo")).await;
        wait::see("Bo has stopped", SOON, typing, |text| !text.contains("Bo")).await;
        bo.close().await;
        wait::see("Bo is gone", SOON, look, |seen| seen == "false").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_edits_and_deletes_ones_own_post_and_everybody_sees_it() {
    Stage::run("edit-delete", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        let bo = stage.person().await.signed_in("Bo").await;
        ada.post("frist").await;
        ada.wait_sent("frist", SOON).await;
        bo.wait_sent("frist", SOON).await;
        assert_eq!(bo.count("row-edit").await, 0);
        ada.hover("row").await;
        ada.click("row-edit").await;
        wait::see("the text stands in the composer", SOON, async || ada.draft().await, |draft| draft == "frist").await;
        ada.evaluate::<bool>("document.querySelector('[data-testid=composer]').select(), true").await;
        ada.insert("first").await;
        ada.press("Enter").await;
        let shows = |wanted: &'static str| move |bodies: &Vec<String>| bodies.iter().any(|body| body.contains(wanted));
        for tab in [&ada, &bo] {
            wait::see("the edit", SOON, async || tab.bodies().await, shows("first")).await;
        }
        // The mouse has rested on the row all the while: what can be done with it is there without another move.
        ada.click("row-delete").await;
        ada.click("row-delete-confirm").await;
        for tab in [&ada, &bo] {
            wait::see("the deletion", SOON, async || tab.bodies().await, shows("deleted")).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_was_refused_can_be_had_back_in_the_composer() {
    Stage::run("refused-edit", options(), async |stage| {
        let person = stage.person().await;
        let (editing, deleting) = (person.signed_in("Ada").await, person.tab().await);
        editing.post("first").await;
        let post = deleting.wait_sent("first", LOAD_DEADLINE).await;
        editing.wait_sent("first", SOON).await;
        editing.offline(true).await;
        editing.wait_state("offline", SOON).await;
        editing.press("ArrowUp").await;
        editing.wait_for("edit-cancel", SOON).await;
        editing.post(", and more").await;
        deleting.hover("row").await;
        deleting.click("row-delete").await;
        deleting.click("row-delete-confirm").await;
        let gone = |rows: &[Row]| rows.iter().any(|row| row.seq == post.seq && row.body != "first");
        deleting.wait_rows("it is deleted", SOON, gone).await;
        editing.offline(false).await;
        editing.wait_for("change-edit", page::PATIENCE).await;
        editing.click("change-edit").await;
        wait::see("the text", SOON, async || editing.draft().await, |draft| draft == "first, and more").await;
        wait::see("the device forgets it", SOON, async || editing.stored_items().await, Vec::is_empty).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_gets_a_suggestion_at_the_door_and_when_renaming() {
    Stage::run("names", options(), async |stage| {
        let _ada = stage.person().await.signed_in("Ada").await;
        let bo = stage.person().await.tab().await;
        // Chromium logs every refused request as an error of the page.
        bo.allow("status of 409");
        bo.click("sign-in-name").await;
        bo.insert("Ada").await;
        bo.click("sign-in-submit").await;
        bo.wait_for("sign-in-error", SOON).await;
        // Taking the suggestion is signing in.
        bo.click("sign-in-suggestion").await;
        bo.wait_state("live", LOAD_DEADLINE).await;
        let name = bo.text("me").await.expect("one's own name is shown");
        assert!(name != "Ada" && name.starts_with("Ada"), "{name}");
        bo.click("me").await;
        bo.click("rename").await;
        bo.click("rename-name").await;
        bo.evaluate::<bool>("document.querySelector('[data-testid=rename-name]').select(), true").await;
        bo.insert("Boris").await;
        bo.click("rename-submit").await;
        wait::see("the new name", SOON, async || bo.text("me").await, |name| name.as_deref() == Some("Boris")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_asks_first_and_says_what_is_lost() {
    Stage::run("sign-out", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        ada.offline(true).await;
        ada.wait_state("offline", SOON).await;
        ada.post("not sent yet").await;
        ada.wait_rows("it is saved", SOON, |rows| rows.iter().any(|row| row.saved)).await;
        ada.click("me").await;
        ada.click("sign-out").await;
        ada.wait_for("sign-out-confirm", SOON).await;
        assert_eq!(ada.bodies().await, ["not sent yet"], "nothing is discarded unasked");
        ada.offline(false).await;
        ada.press("Escape").await;
        ada.wait_sent("not sent yet", LOAD_DEADLINE).await;
        ada.click("me").await;
        ada.click("sign-out").await;
        ada.wait_for("sign-out-confirm", SOON).await;
        let question = ada.evaluate::<String>("document.querySelector('dialog[open]').textContent").await.unwrap();
        assert!(question.contains("not even you") && !question.contains("not sent"), "{question}");
        ada.click("sign-out-confirm").await;
        ada.wait_for("sign-in-submit", SOON).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_that_a_full_disk_refuses_leaves_everything_as_it_was() {
    Stage::run("sign-out-refused", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        let full = "window.fetch = ((fetch) => (request) => request.method !== 'DELETE' ? fetch(request) : \
                    Promise.resolve(new Response('{\"code\":\"storage_full\",\"message\":\"\"}', { status: 503 })))(window.fetch), true";
        ada.evaluate::<bool>(full).await;
        ada.write("half a thought").await;
        let kept = async || ada.stored_drafts().await;
        wait::see("the draft is on the device", SOON, kept, |drafts| drafts == &["half a thought"]).await;
        ada.click("me").await;
        ada.click("sign-out").await;
        ada.click("sign-out-confirm").await;
        ada.wait_words("notice", "The server's disk is full. It goes on by itself once there is room.", SOON).await;
        ada.reload().await;
        ada.wait_state("live", LOAD_DEADLINE).await;
        wait::see("the draft", SOON, async || ada.draft().await, |draft| draft == "half a thought").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sent_text_does_not_come_back_as_a_draft() {
    Stage::run("no-ghost-draft", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        ada.post("said once").await;
        ada.wait_sent("said once", SOON).await;
        // A page that is put away writes whatever it still meant to keep, and what it wrote is done in order.
        ada.hide().await;
        let kept = async || (ada.stored_items().await, ada.stored_drafts().await);
        wait::see("the device keeps nothing", SOON, kept, |(items, drafts)| items.is_empty() && drafts.is_empty())
            .await;
        ada.show().await;
        ada.reload().await;
        ada.wait_sent("said once", LOAD_DEADLINE).await;
        assert_eq!(ada.draft().await, "");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_follows_its_end_follows_it_in_a_window_of_another_size_too() {
    // How far the list's end is from the last row that can be seen, in pixels.
    const BELOW: &str = "(() => { const t = document.querySelector('[data-testid=timeline]'); \
                         return t.scrollHeight - t.clientHeight - t.scrollTop; })()";
    Stage::run("resized-list", options(), async |stage| {
        let token = stage.http().sign_in("Writer").token;
        let (mut writer, room, _) = Client::join_general(stage.address(), &token).await;
        let long = "a sentence long enough to take several lines in a narrow window and few in a wide one ".repeat(3);
        writer.post_many(room, (0..30).map(|number| format!("{long}{number}"))).await;
        let ada = stage.person().await.signed_in("Ada").await;
        ada.wait_sent(&format!("{long}29"), SOON).await;
        let below = async || ada.evaluate::<f64>(BELOW).await;
        let is_at_end = |below: &Option<f64>| below.is_some_and(|below| below < 2.0);
        let sizes = [(390, 844), (768, 900), (1280, 1400), (390, 844), (1280, 800), (390, 844), (768, 900)];
        for (number, (width, height)) in sizes.into_iter().enumerate() {
            ada.resize(width, height).await;
            wait::see(&format!("the end is in sight at {width} x {height}"), SOON, below, is_at_end).await;
            let words = format!("number {number}, written at {width} x {height}");
            writer.post_many(room, [words.clone()]).await;
            ada.wait_sent(&words, SOON).await;
            wait::see(&format!("what was {words} is in sight"), SOON, below, is_at_end).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enter_pressed_twice_at_the_end_of_an_edit_sends_nothing_but_the_edit() {
    Stage::run("edit-enter-twice", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        ada.post("frist").await;
        ada.wait_sent("frist", SOON).await;
        ada.click("composer").await;
        ada.press("ArrowUp").await;
        wait::see("the text stands in the composer", SOON, async || ada.draft().await, |draft| draft == "frist").await;
        ada.insert(" first").await;
        // Faster than a frame, as a worn key is.
        let twice = "(() => { const area = document.querySelector('[data-testid=composer]'); \
                     for (const _ of [1, 2]) area.dispatchEvent(new KeyboardEvent('keydown', \
                     { key: 'Enter', bubbles: true, cancelable: true })); return true; })()";
        ada.evaluate::<bool>(twice).await;
        ada.post("last").await;
        ada.wait_sent("last", SOON).await;
        let bodies = ada.bodies().await;
        assert_eq!(bodies.len(), 2, "{bodies:?}");
        assert!(bodies[0].starts_with("frist first"), "{bodies:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_does_not_know_its_rooms_yet_does_not_say_there_are_none() {
    Stage::run("rooms-unknown", options(), async |stage| {
        let tab = stage.person().await.signed_in("Ada").await;
        // Nobody answers, and nobody refuses.
        let silent = "window.WebSocket = class extends EventTarget { readyState = 0; send() {} close() {} }";
        tab.before_load(silent).await;
        tab.reload().await;
        let read = "document.getElementById('app').innerText";
        let shown = async || tab.evaluate::<String>(read).await.unwrap_or_default();
        let said = wait::see("it says that it waits", SOON, shown, |shown| shown.contains("Loading…")).await;
        assert!(!said.contains("No rooms yet."), "{said}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_words_twice_are_announced_twice() {
    Stage::run("announced-twice", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        let heard = "(() => { window.heard = []; new MutationObserver(() => { \
                     const said = document.querySelector('.timeline-frame > p[role=status]').textContent; \
                     if (said) window.heard.push(said); }).observe( \
                     document.querySelector('.timeline-frame > p[role=status]'), \
                     { childList: true, characterData: true, subtree: true }); return true; })()";
        ada.evaluate::<bool>(heard).await;
        let (mut bo, room) = program(stage, "Bo").await;
        let told = async || ada.evaluate::<Vec<String>>("window.heard").await.unwrap_or_default();
        for times in 1..=2 {
            bo.post_many(room, ["ok".to_owned()]).await;
            wait::see("it is announced", SOON, told, |told| told.len() == times).await;
        }
        assert_eq!(told().await, ["Bo: ok", "Bo: ok"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enter_that_ends_a_composition_chooses_no_room() {
    Stage::run("switcher-composition", options(), async |stage| {
        let ada = stage.person().await.signed_in("Ada").await;
        create_room(&ada, "build").await;
        ada.evaluate::<bool>(
            "document.dispatchEvent(new KeyboardEvent('keydown', { key: 'k', ctrlKey: true, bubbles: true })), true",
        )
        .await;
        ada.wait_for("dialog", SOON).await;
        // As Safari reports it: the composition is over, and only the code says that the key belonged to it.
        let enter = "document.querySelector('[role=combobox]').dispatchEvent(new KeyboardEvent('keydown', \
                     { key: 'Enter', keyCode: 229, bubbles: true, cancelable: true }))";
        assert_eq!(ada.evaluate::<bool>(enter).await, Some(true), "the key was taken");
        assert_eq!(ada.count("dialog").await, 1);
        wait_path(&ada, "/r/build").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_refused_in_a_room_left_meanwhile_is_told_of_and_can_be_copied_or_deleted() {
    Stage::run("refused-in-a-left-room", options(), async |stage| {
        let person = stage.person().await;
        let writing = person.signed_in("Ada").await;
        create_room(&writing, "garden").await;
        let leaving = person.tab_at(&format!("{}/r/garden", stage.origin())).await;
        leaving.wait_state("live", LOAD_DEADLINE).await;
        writing.offline(true).await;
        writing.wait_state("offline", SOON).await;
        writing.post("the roses are out").await;
        leaving.click("room-menu").await;
        leaving.click("room-leave").await;
        leaving.click("leave-confirm").await;
        wait_path(&leaving, "/r/general").await;
        writing.offline(false).await;
        let words = "Not sent: You are not in this room. “the roses are out”";
        writing.wait_words("notice", words, page::PATIENCE).await;
        writing.click("notice-discard").await;
        wait::see("the notice goes", SOON, async || writing.count("notice").await, |count| *count == 0).await;
        wait::see("the device forgets it", SOON, async || writing.stored_items().await, Vec::is_empty).await;
    })
    .await;
}
