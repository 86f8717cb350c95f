//! What the tests of the page have in common: programs that write beside it, and the judgement over what tabs show.
//!
//! Must not live here: what a tab can do ([`crate::browser`]). Invariant: judged is what is stored, and every tab shows
//! that, in that order and nothing else.

use shared::ids::RoomId;

use crate::browser::{LOAD_DEADLINE, Person, Row};
use crate::client::new_id;
use crate::server::ServerOptions;
use crate::{Client, Oracle, Stage, Tab, wait};

pub use crate::crew::{PATIENCE, SOON};

/// A wall clock by which every step takes 20 ms: Yew then gives the browser a turn wherever it may.
pub const SLOW: &str = "(() => {
    const now = Date.now.bind(Date);
    let step = 0;
    Date.now = () => now() + 20 * (step = (step + 1) % 50);
})()";

/// A server for a stage, on which nobody is too fast.
#[must_use]
pub fn options() -> ServerOptions {
    ServerOptions::new().without_rates()
}

/// Signs a program in and returns it with the id of `general`.
pub async fn program(stage: &Stage, name: &str) -> (Client, RoomId) {
    let (client, room, _) = Client::join_general(stage.address(), &stage.http().sign_in(name).token).await;
    (client, room)
}

/// Returns a name nobody has.
#[must_use]
pub fn passer_by() -> String {
    let id = new_id().to_string();
    format!("Passer-by {}", &id[id.len() - 12..])
}

/// Posts as somebody else, and returns the place of the last post.
///
/// # Panics
/// If there is none.
pub async fn others_post(stage: &Stage, name: &str, bodies: impl IntoIterator<Item = String>) -> u64 {
    let (mut writer, room) = program(stage, name).await;
    writer.post_many(room, bodies).await.last().expect("at least one post").seq.0
}

/// Makes texts that tell their number.
#[must_use]
pub fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix} {number}")).collect()
}

/// Opens two tabs of one person. The second goes offline and keeps these posts; returned are both, the first first.
pub async fn heir_and_dying(person: &Person<'_>, bodies: &[String]) -> (Tab, Tab) {
    let heir = person.signed_in("Ada").await;
    let dying = person.tab().await;
    dying.wait_state("live", LOAD_DEADLINE).await;
    dying.offline(true).await;
    dying.wait_state("offline", SOON).await;
    for body in bodies {
        dying.post(body).await;
    }
    let saved = |rows: &[Row]| rows.iter().filter(|row| row.saved).count() == bodies.len();
    dying.wait_rows("all of them are saved", SOON, saved).await;
    (heir, dying)
}

/// Waits until the window's title begins like this.
pub async fn wait_title(tab: &Tab, start: &str) {
    let look = async || tab.evaluate::<String>("document.title").await.unwrap_or_default();
    wait::see(&format!("the title begins with {start:?}"), SOON, look, |title| title.starts_with(start)).await;
}

/// Waits until a room of the list counts this many unread posts.
pub async fn wait_unread(tab: &Tab, room: &str, unread: u64) {
    let read = format!("document.querySelector('[data-testid=room][data-name=\"{room}\"]')?.dataset.unread ?? ''");
    let look = async || tab.evaluate::<String>(&read).await.unwrap_or_default();
    wait::see(&format!("{room} counts {unread} unread"), SOON, look, |seen| *seen == unread.to_string()).await;
}

/// Makes a room and goes to it.
pub async fn create_room(tab: &Tab, name: &str) {
    tab.click("room-create-open").await;
    tab.click("room-create-name").await;
    tab.insert(name).await;
    tab.click("room-create-submit").await;
    wait_path(tab, &format!("/r/{name}")).await;
}

/// Waits until the page is at this address.
pub async fn wait_path(tab: &Tab, path: &str) {
    let look = async || tab.evaluate::<String>("location.pathname").await.unwrap_or_default();
    wait::see(&format!("the address {path}"), SOON, look, |seen| seen == path).await;
}

/// Clicks a room in the list.
pub async fn go_to(tab: &Tab, room: &str) {
    tab.click_at(&format!("[data-testid=room][data-name=\"{room}\"] a")).await;
    wait_path(tab, &format!("/r/{room}")).await;
}

/// Waits until every tab shows these posts as committed, in this order and no other, and lets the oracle judge them.
///
/// # Panics
/// With everything the oracle found, or if other posts are stored.
pub async fn judge(stage: &Stage, bodies: &[&str], tabs: &[&Tab]) {
    let as_wanted = |rows: &[Row]| rows.iter().map(|row| row.body.as_str()).eq(bodies.iter().copied());
    let stored = judge_rows(stage, &format!("the committed rows {bodies:?}"), as_wanted, tabs).await;
    assert_eq!(stored, bodies);
}

/// As [`judge`], for any posts, as long as there are so many.
///
/// # Panics
/// With everything the oracle found, or if more or fewer posts are stored.
pub async fn judge_count(stage: &Stage, posts: usize, tabs: &[&Tab]) {
    let what = format!("{posts} committed rows and no other");
    let stored = judge_rows(stage, &what, |rows| rows.len() == posts, tabs).await;
    assert_eq!(stored.len(), posts, "stored are {stored:?}");
}

/// Waits until every tab shows rows as wanted, all committed; lets the oracle judge them, and returns the stored texts.
async fn judge_rows(stage: &Stage, what: &str, wanted: impl Fn(&[Row]) -> bool, tabs: &[&Tab]) -> Vec<String> {
    let whole = |rows: &[Row]| rows.iter().all(|row| row.seq.is_some()) && wanted(rows);
    let mut shown: Vec<Vec<(u64, String)>> = Vec::new();
    for tab in tabs {
        let rows = tab.wait_rows(what, PATIENCE, whole).await;
        shown.push(rows.into_iter().filter_map(|row| Some((row.seq?, row.body))).collect());
    }
    let (_, room) = program(stage, &passer_by()).await;
    let mut oracle = stage.with_server(|server| Oracle::read(server.data_dir(), room));
    for (number, rows) in shown.iter().enumerate() {
        oracle.judge_page(&format!("tab {number}"), rows);
        assert_eq!(rows, &shown[0], "two pages show different orders");
    }
    let stored = oracle.posts().map(|post| post.body.clone()).collect();
    oracle.verdict();
    stored
}
