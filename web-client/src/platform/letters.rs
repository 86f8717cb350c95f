//! Upper and lower case, by the browser's tables: those of the standard library weigh as much as a fortieth of the page.
//!
//! Must not live here: what case means for a name, which is the server's. Invariant: the same as the standard library
//! says, which is what native tests hear.

/// Returns a text in lower case.
#[must_use]
pub fn lower(text: &str) -> String {
    #[cfg(target_arch = "wasm32")]
    return js_sys::JsString::from(text).to_lower_case().into();
    #[cfg(not(target_arch = "wasm32"))]
    text.to_lowercase()
}

/// Returns a text in upper case.
#[must_use]
pub fn upper(text: &str) -> String {
    #[cfg(target_arch = "wasm32")]
    return js_sys::JsString::from(text).to_upper_case().into();
    #[cfg(not(target_arch = "wasm32"))]
    text.to_uppercase()
}
