//! What a person does in a window.
//!
//! Must not live here: what no person can do ([`faults`](super::faults)). Invariant: keys, mouse and compositions go the
//! way the browser's own do; nothing is done to the page behind its back.

use chromiumoxide::cdp::browser_protocol::input::{
    DispatchKeyEventParams, DispatchKeyEventType, ImeSetCompositionParams, InsertTextParams,
};
use chromiumoxide::error::CdpError;
use chromiumoxide::keys::get_key_definition;
use tokio::time::timeout;

use super::{COMMAND_DEADLINE, LOAD_DEADLINE, Tab, see};

impl Tab {
    /// Clicks an element with the mouse.
    ///
    /// # Panics
    /// If it is not there or cannot be clicked.
    pub async fn click(&self, test_id: &str) {
        self.wait_for(test_id, LOAD_DEADLINE).await;
        self.click_at(&format!("[data-testid=\"{test_id}\"]")).await;
    }

    /// Clicks the first element a CSS selector finds.
    ///
    /// # Panics
    /// If it is not there or cannot be clicked.
    pub async fn click_at(&self, selector: &str) {
        let click = async {
            self.page.find_element(selector).await?.click().await?;
            Ok::<_, CdpError>(())
        };
        let clicked = timeout(COMMAND_DEADLINE, click).await.unwrap_or(Err(CdpError::Timeout));
        clicked.unwrap_or_else(|error| panic!("clicking {selector}: {error}"));
    }

    /// Moves the mouse over the first such element.
    ///
    /// # Panics
    /// If it is not there.
    pub async fn hover(&self, test_id: &str) {
        let hover = async {
            self.page.find_element(format!("[data-testid=\"{test_id}\"]")).await?.hover().await?;
            Ok::<_, CdpError>(())
        };
        let hovered = timeout(COMMAND_DEADLINE, hover).await.unwrap_or(Err(CdpError::Timeout));
        hovered.unwrap_or_else(|error| panic!("hovering over `{test_id}`: {error}"));
    }

    /// Writes text where the focus is, whatever its characters.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn insert(&self, text: &str) {
        self.command(InsertTextParams::new(text)).await.expect("text goes where the focus is");
    }

    /// Presses and releases a key, as `KeyboardEvent.key` names it.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn press(&self, key: &str) {
        let known = get_key_definition(key).unwrap_or_else(|| panic!("no key is called {key}"));
        let mut down = DispatchKeyEventParams::new(match known.text {
            Some(_) => DispatchKeyEventType::KeyDown,
            None => DispatchKeyEventType::RawKeyDown,
        });
        down.key = Some(known.key.to_owned());
        down.code = Some(known.code.to_owned());
        down.text = known.text.map(str::to_owned);
        down.windows_virtual_key_code = Some(known.key_code);
        self.command(down.clone()).await.expect("a key goes where the focus is");
        down.r#type = DispatchKeyEventType::KeyUp;
        down.text = None;
        self.command(down).await.expect("a key goes where the focus is");
    }

    /// Shows a composition in progress, as an input method does: the text under the cursor is not yet text.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn compose(&self, text: &str) {
        let end = i64::try_from(text.encode_utf16().count()).expect("a short text");
        self.page
            .execute(ImeSetCompositionParams::new(text, end, end))
            .await
            .expect("a composition goes where the focus is");
    }

    /// Presses Enter as an input method reports it during a composition: key code 229.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn press_enter_in_composition(&self) {
        let mut down = DispatchKeyEventParams::new(DispatchKeyEventType::RawKeyDown);
        down.key = Some("Enter".to_owned());
        down.code = Some("Enter".to_owned());
        down.windows_virtual_key_code = Some(229);
        self.command(down.clone()).await.expect("a key goes where the focus is");
        down.r#type = DispatchKeyEventType::KeyUp;
        self.command(down).await.expect("a key goes where the focus is");
    }

    /// Waits until the last composition has ended for so long that an Enter is no part of it: a person takes longer from
    /// choosing a word to sending it, but Safari reports the choosing Enter late.
    pub async fn wait_composed(&self) {
        let ended = "performance.now() - (window.holdfastComposed ?? 0) > 60";
        see(
            "the composition is over",
            COMMAND_DEADLINE,
            async || self.evaluate::<bool>(ended).await,
            |over| *over == Some(true),
        )
        .await;
    }

    /// Types a name, signs in and waits until the page is live.
    pub async fn sign_in(&self, name: &str) {
        self.click("sign-in-name").await;
        self.insert(name).await;
        self.click("sign-in-submit").await;
        self.wait_state("live", LOAD_DEADLINE).await;
        self.wait_for("composer", LOAD_DEADLINE).await;
    }

    /// Writes a post and sends it with Enter.
    pub async fn post(&self, text: &str) {
        self.write(text).await;
        self.press("Enter").await;
    }

    /// Writes into the composer without sending.
    pub async fn write(&self, text: &str) {
        self.click("composer").await;
        self.insert(text).await;
    }

    /// Gives the window another size, in CSS pixels.
    ///
    /// # Panics
    /// If the browser does not take it.
    pub async fn resize(&self, width: i64, height: i64) {
        use chromiumoxide::cdp::browser_protocol::emulation::SetDeviceMetricsOverrideParams;
        let size = SetDeviceMetricsOverrideParams::new(width, height, 1.0, false);
        self.command(size).await.expect("the window takes a size");
    }
}
