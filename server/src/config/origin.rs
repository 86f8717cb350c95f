//! Origins as people type them and as browsers send them.
//!
//! Must not live here: which are allowed, or what a request says. Invariant: what [`canonical`] returns it returns again
//! unchanged, so that a browser's word and an operator's are the same text.

/// Writes an origin as browsers do: the usual port is left out.
pub(super) fn write(scheme: &str, host: &str, port: u16) -> String {
    match (scheme, port) {
        ("http", 80) | ("https", 443) => format!("{scheme}://{host}"),
        _other => format!("{scheme}://{host}:{port}"),
    }
}

/// Reads an origin as somebody typed it and returns it as browsers write it (RFC 6454 §6.1): in lower case, without the
/// usual port. `None` if it is not one.
pub(super) fn canonical(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    // The colons of an IPv6 address are inside its brackets.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse::<u16>().ok()?)),
        Some(_) | None => (rest, None),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => format!("[{}]", address.parse::<std::net::Ipv6Addr>().ok()?),
        None => host.to_owned(),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_host = host.starts_with('[') || (!host.is_empty() && host.bytes().all(is_name));
    let usual = if scheme == "http" { 80 } else { 443 };
    is_host.then(|| write(scheme, &host, port.unwrap_or(usual)))
}

/// Tells whether an origin as [`canonical`] writes it is on this machine.
pub(super) fn is_loopback(origin: &str) -> bool {
    let host = origin.trim_start_matches("http://");
    let host = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    matches!(host, "localhost" | "[::1]")
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_known_however_people_type_it() {
        for (typed, sent) in [
            ("https://Chat.Example.org:443", "https://chat.example.org"),
            ("HTTP://localhost:80", "http://localhost"),
            ("https://chat.example.org:80", "https://chat.example.org:80"),
            ("https://[2001:DB8:0:0::1]:8443", "https://[2001:db8::1]:8443"),
            ("http://[::1]", "http://[::1]"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ] {
            let origin = canonical(typed);
            assert_eq!(origin.as_deref(), Some(sent));
            assert_eq!(canonical(sent), origin);
        }
        for typed in
            ["https://chat.example.org:", "https://chat.example.org:web", "https://::1", "https://", "https://a b"]
        {
            assert_eq!(canonical(typed), None, "{typed}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for origin in ["http://localhost:8080", "http://[::1]", "http://[::1]:80", "http://127.0.0.9:1"] {
            assert!(is_loopback(origin), "{origin}");
        }
        for origin in ["http://127.0.0.1.example.org", "http://localhost.example.org", "http://192.0.2.7:8080"] {
            assert!(!is_loopback(origin), "{origin}");
        }
    }
}
