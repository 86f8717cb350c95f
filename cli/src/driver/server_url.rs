//! The address of a server, and what is derived from it.
//!
//! Must not live here: connecting. Invariant: two spellings of one address have one key, so one outbox, and
//! two addresses have two, so that no server is shown the token of another.

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

    /// Returns a name for files that belong to this server, and to no other.
    pub(crate) fn file_name(&self) -> String {
        let mut name = String::new();
        for byte in self.key().bytes() {
            match is_plain(byte) {
                true => name.push(char::from(byte)),
                false => name.push_str(&format!("%{byte:02X}")),
            }
        }
        name
    }

    /// Returns the name that earlier versions gave these files, and whether no other address had the same one.
    pub(crate) fn old_file_name(&self) -> (String, bool) {
        // An underscore stood for itself and for everything else: `a-1_b` could be a host, or one with its port and a path.
        let is_whole = |host: &str| !host.contains('-') && host.bytes().all(|byte| is_plain(byte) || byte == b'_');
        let is_host_clear = self.host.starts_with('[') || self.host.bytes().all(is_plain) || is_whole(&self.host);
        let path = self.base.strip_prefix('/').unwrap_or_default();
        let is_clear = is_host_clear && path.bytes().all(is_plain);
        (self.key().bytes().map(|byte| if is_plain(byte) { char::from(byte) } else { '_' }).collect(), is_clear)
    }

    fn key(&self) -> String {
        format!("{}-{}-{}{}", if self.secure { "https" } else { "http" }, self.host, self.port, self.base)
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

/// Tells what stands for itself in the name of a file.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.base)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
    fn two_addresses_never_have_one_key() {
        let addresses = [
            "http://h/team/a",
            "http://h/team_a",
            "http://h/team%2Fa",
            "http://h/team-a",
            "http://h/team",
            "http://h:8080/team",
            "http://h-80/team",
            "https://h:80/team",
            "http://h_80",
            "http://h-80_b",
            "http://h/b-80",
            "http://[::1]",
            "http://[1::]",
        ];
        let urls = addresses.map(|text| ServerUrl::parse(text).unwrap());
        let keys: BTreeSet<_> = urls.iter().map(ServerUrl::file_name).collect();
        assert_eq!(keys.len(), addresses.len(), "{keys:?}");
        assert!(
            keys.contains("http-h-80%2Fteam%5Fa") && !keys.iter().any(|key| key.contains(['/', ':', '_'])),
            "{keys:?}"
        );
        // A name of earlier versions is used only by whom it can be meant for.
        let clear = |url: &ServerUrl| Some(url.old_file_name()).filter(|(_, is_clear)| *is_clear);
        let old: Vec<_> = urls.iter().filter_map(clear).collect();
        assert_eq!(old.len(), 9, "{old:?}");
        assert_eq!(old.iter().collect::<BTreeSet<_>>().len(), old.len(), "{old:?}");
    }

    #[test]
    fn what_is_no_address_is_refused_with_words() {
        for bad in ["ftp://h", "http://", "http://me:secret@h", "http://h:99999", "a b"] {
            assert!(ServerUrl::parse(bad).is_err(), "{bad} was taken");
        }
    }
}
