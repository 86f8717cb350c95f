//! What is unsent, on this device for good: a thin wrapper around IndexedDB.
//!
//! Lives here: the outbox (one partition for each tab of each person) and the drafts. Must not live here: what is done
//! with them. Invariant: every write is one transaction of strict durability, begun in the order of the calls; it is told
//! as done only when it is complete. IndexedDB belongs to an origin, so a shelf never mixes two servers.

use js_sys::{Array, Promise, Reflect};
use shared::ids::{ClientId, RoomId, UserId};
use shared::session::{OutboxItem, SendOp};
use shared::sorted::{SortedMap, SortedSet, sort_few};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{IdbDatabase, IdbFactory, IdbKeyRange, IdbObjectStore, IdbRequest, IdbTransaction};

use super::window::window;

const NAME: &str = "holdfast";
const VERSION: u32 = 1;
/// `[user, tab, client id]` → the item as JSON.
const OUTBOX: &str = "outbox";
/// `[user, room]` → the text.
const DRAFTS: &str = "drafts";

/// A change to what is kept.
#[derive(Clone, Debug)]
pub enum Change {
    /// Keep an item.
    Put(OutboxItem),
    /// Forget an item.
    Remove(ClientId),
    /// Keep a room's draft, or forget it where it is empty.
    Draft(RoomId, String),
}

/// The shelf of one person in one tab.
#[derive(Clone)]
pub struct Shelf {
    db: IdbDatabase,
    user: String,
    tab: String,
}

fn key(parts: &[&str]) -> JsValue {
    parts.iter().map(|part| JsValue::from_str(part)).collect::<Array>().into()
}

/// Everything below a prefix: an array sorts after every text.
fn below(parts: &[&str]) -> Result<IdbKeyRange, JsValue> {
    let end: Array = parts.iter().map(|part| JsValue::from_str(part)).collect();
    end.push(&Array::new());
    IdbKeyRange::bound(&key(parts), &end)
}

/// A promise for the end of a request.
fn result_of(request: &IdbRequest) -> Promise {
    Promise::new(&mut |resolve, reject| {
        request.set_onsuccess(Some(&resolve));
        request.set_onerror(Some(&reject));
    })
}

/// A promise for the end of a transaction.
fn end_of(transaction: &IdbTransaction) -> Promise {
    Promise::new(&mut |resolve, reject| {
        transaction.set_oncomplete(Some(&resolve));
        transaction.set_onabort(Some(&reject));
    })
}

async fn read(request: IdbRequest) -> Result<JsValue, JsValue> {
    JsFuture::from(result_of(&request)).await?;
    request.result()
}

impl Shelf {
    /// Opens the shelf of a person in a tab. `lost` is called when it can be used no longer and what was on it may be gone:
    /// the person cleared what the browser keeps, the browser lost its storage, or a newer page changes the shelf's shape.
    ///
    /// # Errors
    /// What the browser says: no IndexedDB, private browsing, no room, a corrupt profile.
    pub async fn open(user: UserId, tab: &str, lost: Box<dyn FnOnce()>) -> Result<Self, JsValue> {
        let factory: IdbFactory =
            window().indexed_db()?.ok_or_else(|| JsValue::from_str("this browser has no IndexedDB"))?;
        let request = factory.open_with_u32(NAME, VERSION)?;
        let upgrade = {
            let request = request.clone();
            Closure::once_into_js(move || {
                let Ok(db) = request.result().and_then(|db| db.dyn_into::<IdbDatabase>()) else { return };
                let names = db.object_store_names();
                for name in [OUTBOX, DRAFTS] {
                    if !names.contains(name) {
                        // A store that could not be made shows in the first transaction that names it.
                        let _ = db.create_object_store(name);
                    }
                }
            })
        };
        request.set_onupgradeneeded(Some(upgrade.unchecked_ref()));
        let db: IdbDatabase = read(request.into()).await?.dyn_into()?;
        // A newer page in another tab must be able to change the shelf's shape.
        let closing = db.clone();
        // Called once: a shelf that is closed from here hears of nothing any more.
        let close = Closure::once_into_js(move || {
            closing.close();
            lost();
        });
        db.set_onversionchange(Some(close.unchecked_ref()));
        db.set_onclose(Some(close.unchecked_ref()));
        Ok(Self { db, user: user.to_string(), tab: tab.to_owned() })
    }

    /// Closes it; `lost` is not called any more.
    pub fn close(&self) {
        self.db.close();
    }

    fn transaction(&self, writes: bool) -> Result<IdbTransaction, JsValue> {
        let names: Array = [OUTBOX, DRAFTS].into_iter().map(JsValue::from_str).collect();
        let options = js_sys::Object::new();
        Reflect::set(&options, &"durability".into(), &"strict".into())?;
        let begin: js_sys::Function = Reflect::get(&self.db, &"transaction".into())?.dyn_into()?;
        let mode = if writes { "readwrite" } else { "readonly" };
        begin.call3(&self.db, &names, &mode.into(), &options)?.dyn_into()
    }

    /// Begins to write; all of it or nothing. The transaction has begun when this returns, so that writes keep their
    /// order; the promise ends with it.
    ///
    /// # Errors
    /// What the browser says if it does not even begin.
    pub fn write(&self, changes: &[Change]) -> Result<Promise, JsValue> {
        let transaction = self.transaction(true)?;
        let (outbox, drafts) = (transaction.object_store(OUTBOX)?, transaction.object_store(DRAFTS)?);
        for change in changes {
            match change {
                Change::Put(item) => {
                    let json = serde_json::to_string(item).map_err(|error| JsValue::from_str(&error.to_string()))?;
                    outbox.put_with_key(&json.into(), &self.item_key(item.client_id))?;
                }
                Change::Remove(client_id) => {
                    outbox.delete(&self.item_key(*client_id))?;
                }
                Change::Draft(room, text) if text.is_empty() => {
                    drafts.delete(&key(&[&self.user, &room.to_string()]))?;
                }
                Change::Draft(room, text) => {
                    drafts.put_with_key(&text.as_str().into(), &key(&[&self.user, &room.to_string()]))?;
                }
            }
        }
        let end = end_of(&transaction);
        // Without it the browser would wait for this page to hear of each request, and forget all of it if the page went.
        commit(&transaction)?;
        Ok(end)
    }

    fn item_key(&self, client_id: ClientId) -> JsValue {
        key(&[&self.user, &self.tab, &client_id.to_string()])
    }

    /// Reads all drafts of this person.
    ///
    /// # Errors
    /// What the browser says.
    pub async fn drafts(&self) -> Result<SortedMap<RoomId, String>, JsValue> {
        let store = self.transaction(false)?.object_store(DRAFTS)?;
        let range = below(&[&self.user])?;
        let (keys, values) = (store.get_all_keys_with_key(&range)?, store.get_all_with_key(&range)?);
        let (keys, values) = (Array::from(&read(keys).await?), Array::from(&read(values).await?));
        let pairs = keys.iter().zip(values.iter());
        Ok(pairs.filter_map(|(key, text)| Some((part(&key, 1)?.parse().ok()?, text.as_string()?))).collect())
    }

    /// Lists the other tabs that have left items of this person, alive or not.
    ///
    /// # Errors
    /// What the browser says.
    pub async fn other_tabs(&self) -> Result<SortedSet<String>, JsValue> {
        let store = self.transaction(false)?.object_store(OUTBOX)?;
        let keys = read(store.get_all_keys_with_key(&below(&[&self.user])?.into())?).await?;
        let tabs = Array::from(&keys).iter().filter_map(|key| part(&key, 1)).collect::<SortedSet<_>>();
        Ok(tabs.into_iter().filter(|tab| *tab != self.tab).collect())
    }

    /// Moves everything of a dead tab into this one's partition and returns it. The caller holds the dead tab's lock.
    ///
    /// # Errors
    /// What the browser says; then nothing was moved.
    pub async fn take_over(&self, tab: &str) -> Result<Vec<OutboxItem>, JsValue> {
        let transaction = self.transaction(true)?;
        let end = end_of(&transaction);
        let store: IdbObjectStore = transaction.object_store(OUTBOX)?;
        let range = below(&[&self.user, tab])?;
        let (keys, values) = (store.get_all_keys_with_key(&range)?, store.get_all_with_key(&range)?);
        // Both answers are awaited inside the transaction: it stays open as long as it has requests.
        let (keys, values) = (Array::from(&read(keys).await?), Array::from(&read(values).await?));
        let mut items = Vec::new();
        for (old_key, value) in keys.iter().zip(values.iter()) {
            let Some(client_id) = part(&old_key, 2) else { continue };
            store.put_with_key(&value, &key(&[&self.user, &self.tab, &client_id]))?;
            store.delete(&old_key)?;
            // What this version cannot read stays on the device for one that can.
            items.extend(value.as_string().and_then(|json| serde_json::from_str(&json).ok()));
        }
        JsFuture::from(end).await?;
        Ok(items)
    }

    /// Reads what this person wrote and was not sent, in all tabs, in its order, then the drafts.
    ///
    /// # Errors
    /// What the browser says.
    pub async fn texts(&self) -> Result<Vec<String>, JsValue> {
        let store = self.transaction(false)?.object_store(OUTBOX)?;
        let values = Array::from(&read(store.get_all_with_key(&below(&[&self.user])?.into())?).await?);
        let read_item = |value: JsValue| serde_json::from_str::<OutboxItem>(&value.as_string()?).ok();
        let items = values.iter().filter_map(read_item);
        let texts = sort_few(items, |item| (item.queued_at, item.order)).into_iter().filter_map(|item| match item.op {
            SendOp::Post { body } | SendOp::Edit { body, .. } => Some(body),
            SendOp::Delete { .. } | SendOp::React { .. } => None,
        });
        let texts: Vec<String> = texts.collect();
        let drafts = self.drafts().await?.into_iter().map(|(_, text)| text).filter(|text| !text.trim().is_empty());
        Ok(texts.into_iter().chain(drafts).collect())
    }

    /// Forgets everything of this person.
    ///
    /// # Errors
    /// What the browser says; then nothing was forgotten.
    pub async fn wipe(&self) -> Result<(), JsValue> {
        let transaction = self.transaction(true)?;
        let range: JsValue = below(&[&self.user])?.into();
        transaction.object_store(OUTBOX)?.delete(&range)?;
        transaction.object_store(DRAFTS)?.delete(&range)?;
        JsFuture::from(end_of(&transaction)).await.map(|_| ())
    }
}

/// Tells the browser that a transaction is whole.
#[expect(deprecated, reason = "web-sys marks it so; the standard does not (Indexed Database API 3.0, §4.10)")]
fn commit(transaction: &IdbTransaction) -> Result<(), JsValue> {
    transaction.commit()
}

/// Reads one part of a key.
fn part(key: &JsValue, index: u32) -> Option<String> {
    key.dyn_ref::<Array>()?.get(index).as_string()
}
