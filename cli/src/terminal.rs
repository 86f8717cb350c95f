//! What people and pipes see: lines on stdout and stderr, colours only where they are wanted.
//!
//! Must not live here: what is said. Invariant: nothing a server or another person sent reaches a terminal with its
//! control characters alive, and no write ever panics.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use shared::time::Timestamp;

/// Where lines go and how they look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    colours: bool,
}

impl Look {
    /// Decides for stdout: colours on a terminal, unless `NO_COLOR` is set (no-color.org) or the terminal is dumb.
    pub(crate) fn of_stdout() -> Self {
        Self::decide(io::stdout().is_terminal())
    }

    fn decide(is_terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colours: is_terminal && !refused && !dumb }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Something beside the matter.
    pub(crate) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// A name.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Something done.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Something to know.
    pub(crate) fn warn(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Something refused.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }
}

/// Prints a line, with one write as far as the system takes it: others may write to the same pipe or file.
///
/// # Errors
/// What the system says; a closed pipe is an end, not a fault.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(format!("{text}\n").as_bytes())?;
    out.flush()
}

/// Prints a value as one line of JSON.
///
/// # Errors
/// As [`line()`], and if the value has no such form.
pub(crate) fn json_line(value: &impl Serialize) -> io::Result<()> {
    line(&escape(serde_json::to_string(value)?))
}

/// Says something beside the output, tamed, with one write as [`line()`]. Whether anybody hears it does not matter.
pub(crate) fn note(text: &str) {
    let _ = io::stderr().lock().write_all(format!("{}\n", tame(text)).as_bytes());
}

/// Tells what could drive a terminal or reorder a line.
fn is_wild(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes in a JSON text what JSON lets stand and a terminal should not see. It can only be in strings.
fn escape(json: String) -> String {
    if !json.contains(is_wild) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match is_wild(c) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => escaped.push(c),
        }
    }
    escaped
}

/// Makes text of others harmless to a terminal: control characters become pictures of themselves (U+2400 ff.), and
/// characters that reorder the line are shown by number. Further lines are indented.
pub(crate) fn tame(text: &str) -> Cow<'_, str> {
    if !text.contains(is_wild) {
        return Cow::Borrowed(text);
    }
    let mut tamed = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => tamed.push_str("\n    "),
            '\t' => tamed.push('\t'),
            '\r' => {}
            '\0'..='\x1f' => tamed.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}')),
            '\x7f' => tamed.push('\u{2421}'),
            c if is_wild(c) => tamed.push_str(&format!("<U+{:04X}>", u32::from(c))),
            c => tamed.push(c),
        }
    }
    Cow::Owned(tamed)
}

/// Formats a moment of the wall clock as the local time of day.
pub(crate) fn time_of_day(at: Timestamp) -> String {
    let moment = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(
        || "--:--:--".to_owned(),
        |moment| moment.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string(),
    )
}

/// Waits, on a thread of its own, until nobody reads stdout any more; for ever if it is a file.
pub(crate) async fn stdout_closed() {
    let (told, hears) = tokio::sync::oneshot::channel();
    // The thread ends with the process; it holds nothing.
    std::thread::spawn(move || {
        if wait_for_closed_stdout() {
            let _ = told.send(());
        } else {
            std::mem::forget(told);
        }
    });
    if hears.await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
fn wait_for_closed_stdout() -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    loop {
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => {}
            polled_well => {
                let seen = polled[0].revents();
                return polled_well.is_ok() && seen.intersects(PollFlags::ERR | PollFlags::HUP);
            }
        }
    }
}

#[cfg(not(unix))]
fn wait_for_closed_stdout() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_send_cannot_drive_the_terminal() {
        assert_eq!(tame("plain 中文 🙂"), "plain 中文 🙂");
        let tamed = tame("a\x1b[2Jb\x07\r\u{9b}31m\u{202e}c\nd");
        assert!(!tamed.contains(['\x1b', '\x07', '\r', '\u{9b}', '\u{202e}']), "{tamed:?}");
        assert!(tamed.ends_with("c\n    d"), "{tamed:?}");
    }
    #[test]
    fn a_line_of_json_cannot_either_and_says_the_same() {
        let wild = "a\x1b[2J\x7f\u{9b}31m\u{202e}é🙂\n";
        let text = escape(serde_json::to_string(wild).unwrap());
        assert!(!text.contains(is_wild), "{text:?}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), wild);
    }
}
