//! The two ends of `holdfast chat`: lines that are typed, and lines that are shown above them.
//!
//! Must not live here: what a line means. Invariant: the terminal is left as it was found, however the chat ends.

use std::io::{self, BufRead, IsTerminal as _, Read as _, Write as _};

use rustyline::DefaultEditor;
use rustyline::config::Configurer as _;
use rustyline::error::ReadlineError;
use shared::limits::POST_BYTES;
use tokio::sync::mpsc;

use super::above::Above;
use crate::exit::End;
use crate::terminal::line;

/// Lines typed, or piped in, and not yet taken. Whoever types more waits.
const LINES: usize = 64;
/// How long after an escape more of a key may come, in milliseconds. Until then the editor shows nothing.
const KEY_MS: u16 = 100;
/// Terminals the editor does not edit on.
const SIMPLE: [&str; 3] = ["dumb", "cons25", "emacs"];

/// What comes from the person.
#[derive(Debug)]
pub(crate) enum Typed {
    /// A line.
    Line(String),
    /// Ctrl-D, or the end of the input.
    End,
    /// The input cannot be read further; nothing comes after it.
    Broken(End),
    /// Ctrl-C.
    Interrupt,
}

/// Where lines come from and go to.
pub(crate) struct Screen {
    typed: mpsc::Receiver<Typed>,
    above: Option<Above>,
    /// A person sits before it.
    is_terminal: bool,
    /// Nobody reads what is shown any more.
    is_unseen: bool,
    _as_found: AsFound,
}

impl Screen {
    /// Begins to read lines: with an editor on a terminal that can do it, plainly otherwise.
    ///
    /// # Errors
    /// [`End::Local`] if the terminal cannot be used.
    pub(crate) fn open(prompt: String) -> Result<Self, End> {
        let mut as_found = AsFound::look();
        let (lines, typed) = mpsc::channel(LINES);
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let mut above = None;
        // The threads end with the process: a read of the terminal cannot be called off.
        if is_terminal && !is_simple() {
            let no_terminal = |error: ReadlineError| End::Local(format!("cannot use the terminal: {error}"));
            as_found.is_edited = true;
            let mut editor = DefaultEditor::new().map_err(no_terminal)?;
            editor.set_keyseq_timeout(Some(KEY_MS));
            above = Some(Above::start(editor.create_external_printer().map_err(no_terminal)?));
            std::thread::spawn(move || read_terminal(&mut editor, &prompt, &lines));
        } else {
            std::thread::spawn(move || read_plain(&lines));
        }
        Ok(Self { typed, above, is_terminal, is_unseen: false, _as_found: as_found })
    }

    /// Waits for the next line; [`Typed::End`] for ever after the last. Cancel-safe.
    pub(crate) async fn typed(&mut self) -> Typed {
        self.typed.recv().await.unwrap_or(Typed::End)
    }

    /// Shows a line, above what is being typed. Where nobody reads any more, what is piped in is posted all the same.
    ///
    /// # Errors
    /// [`End::ClosedPipe`] if the terminal is gone; [`End::Local`] if a file cannot be written.
    pub(crate) fn show(&mut self, text: &str) -> Result<(), End> {
        match &mut self.above {
            Some(above) => above.show(text),
            None if self.is_unseen => Ok(()),
            None => match line(text).map_err(End::from) {
                Err(End::ClosedPipe) => {
                    self.is_unseen = true;
                    Ok(())
                }
                shown => shown,
            },
        }
    }

    /// Tells whether a person types who cannot see what is said.
    pub(crate) fn is_unseen_by_a_person(&self) -> bool {
        self.is_unseen && io::stdin().is_terminal()
    }

    /// Tells whether a person sits before it.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.is_terminal
    }
}

fn is_simple() -> bool {
    std::env::var("TERM").is_ok_and(|term| SIMPLE.iter().any(|simple| simple.eq_ignore_ascii_case(&term)))
}

fn read_terminal(editor: &mut DefaultEditor, prompt: &str, lines: &mpsc::Sender<Typed>) {
    loop {
        let typed = match editor.readline(prompt) {
            Ok(text) => {
                // A line that cannot be remembered can still be sent.
                let _ = editor.add_history_entry(&text);
                Typed::Line(text)
            }
            Err(ReadlineError::Interrupted) => Typed::Interrupt,
            // What was typed or pasted holds a byte that is no text: the line is lost, the chat is not.
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => continue,
            Err(_) => Typed::End,
        };
        let is_last = !matches!(typed, Typed::Line(_));
        if lines.blocking_send(typed).is_err() || is_last {
            return;
        }
    }
}

fn read_plain(lines: &mpsc::Sender<Typed>) {
    let mut input = io::stdin().lock();
    loop {
        let typed = read_line(&mut input).unwrap_or_else(Typed::Broken);
        let is_last = !matches!(typed, Typed::Line(_));
        if lines.blocking_send(typed).is_err() || is_last {
            return;
        }
    }
}

/// Reads a line of text, as long as a post may be at most.
fn read_line(input: &mut impl BufRead) -> Result<Typed, End> {
    let mut bytes = Vec::new();
    // One more for the end of the line, and one to tell a line that is longer.
    let read = input.take(POST_BYTES as u64 + 2).read_until(b'\n', &mut bytes);
    let read = read.map_err(|error| End::Local(format!("cannot read standard input: {error}")))?;
    if read == 0 {
        return Ok(Typed::End);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.len() > POST_BYTES {
        return Err(End::Usage(format!("a line of standard input is longer than {POST_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| End::Usage("standard input is not UTF-8".into()))?;
    Ok(Typed::Line(text))
}

/// The terminal's settings before anything changed them; put back when dropped.
struct AsFound {
    /// An editor was used on it.
    is_edited: bool,
    #[cfg(unix)]
    settings: Option<rustix::termios::Termios>,
}

impl AsFound {
    fn look() -> Self {
        Self {
            is_edited: false,
            #[cfg(unix)]
            settings: rustix::termios::tcgetattr(io::stdin()).ok(),
        }
    }
}

impl Drop for AsFound {
    fn drop(&mut self) {
        // The editor has the terminal mark what is pasted.
        if self.is_edited {
            let mut out = io::stdout().lock();
            let _ = out.write_all(b"\x1b[?2004l").and_then(|()| out.flush());
        }
        #[cfg(unix)]
        if let Some(settings) = &self.settings {
            let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, settings);
        }
    }
}
