//! The address of a server, and what is derived from it.
//!
//! Must not live here: connecting. Invariant: two spellings of one address have one key, so one outbox.

use std::fmt;

use tokio_tungstenite::tungstenite::http::Uri;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    secure: bool,
    host: String,
    port: u16,
    base: String,
}

impl ServerUrl {
    /// Reads an address such as `https://chat.example.org`; `http` where no scheme is given.
    ///
    /// # Errors
    /// Words for the person who typed it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = with_scheme.parse().map_err(|error| format!("{text} is not an address: {error}"))?;
        let secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(format!("{text}: the address must begin with http:// or https://")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(format!("{text} names no host"))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("a password in an address would end up in logs; use --name".into());
        }
        // A port out of range is left out by the parser rather than refused.
        let after_host = uri.authority().map_or("", |authority| &authority.as_str()[host.len()..]);
        if !after_host.is_empty() && uri.port_u16().is_none() {
            return Err(format!("{text}: {} is no port", after_host.trim_start_matches(':')));
        }
        Ok(Self {
            secure,
            host: host.to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Returns the address of the socket.
    pub(crate) fn socket(&self) -> String {
        format!("{}://{}:{}{}/ws", if self.secure { "wss" } else { "ws" }, self.host, self.port, self.base)
    }

    /// Returns the address of something under the API.
    pub(crate) fn api(&self, path: &str) -> String {
        format!("{self}/api/{path}")
    }

    /// Returns a name for files that belong to this server.
    pub(crate) fn file_name(&self) -> String {
        let text = format!("{}-{}-{}{}", if self.secure { "https" } else { "http" }, self.host, self.port, self.base);
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' }).collect()
    }

    /// Returns the host, an IPv6 address in brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Tells whether TLS is spoken.
    pub(crate) const fn is_secure(&self) -> bool {
        self.secure
    }

    /// Returns the path everything lies under; empty at the root.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_have_one_key() {
        let keys: Vec<_> = ["http://Chat.example:80/", "chat.example", "ws://chat.example"]
            .iter()
            .map(|text| ServerUrl::parse(text).unwrap().file_name())
            .collect();
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "{keys:?}");
        assert_eq!(ServerUrl::parse("https://h/x/").unwrap().socket(), "wss://h:443/x/ws");
        assert_eq!(ServerUrl::parse("http://[::1]:8080").unwrap().api("session"), "http://[::1]:8080/api/session");
    }

    #[test]
    fn what_is_no_address_is_refused_with_words() {
        for bad in ["ftp://h", "http://", "http://me:secret@h", "http://h:99999", "a b"] {
            assert!(ServerUrl::parse(bad).is_err(), "{bad} was taken");
        }
    }
}
