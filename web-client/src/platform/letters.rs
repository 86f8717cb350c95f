//! Letters of all scripts, by the browser's tables: those of the standard library would be a thirtieth of the page.
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

/// Tells whether a character is a letter or a digit of any script.
#[must_use]
pub fn is_letter_or_digit(c: char) -> bool {
    #[cfg(target_arch = "wasm32")]
    return js_sys::RegExp::new(r"[\p{Alphabetic}\p{N}]", "u").test(c.encode_utf8(&mut [0; 4]));
    #[cfg(not(target_arch = "wasm32"))]
    c.is_alphanumeric()
}
