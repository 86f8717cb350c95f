//! Lines shown above what is being typed.
//!
//! Must not live here: the editor. Invariant: whoever shows a line never waits; what there was no place for is counted,
//! and said where it would have stood.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustyline::ExternalPrinter;

use crate::exit::End;
use crate::terminal::line;

/// Lines the editor has not taken. It takes none while it waits for a key, such as in a search or after Ctrl-V.
const LINES: usize = 1_024;
/// How long the last of them may take at the end.
const LAST: Duration = Duration::from_millis(500);

/// Shows lines, on a thread of its own.
pub(super) struct Above {
    lines: Option<SyncSender<String>>,
    left_out: Arc<Mutex<usize>>,
    /// Ends when the thread does.
    done: Receiver<()>,
}

impl Above {
    /// Begins to show lines.
    pub(super) fn start(printer: impl ExternalPrinter + Send + 'static) -> Self {
        Self::start_or(printer, line)
    }

    /// Begins to show lines; `plainly` shows what the editor does not take.
    fn start_or(
        mut printer: impl ExternalPrinter + Send + 'static,
        mut plainly: impl FnMut(&str) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let (lines, waiting) = sync_channel(LINES);
        let (ends, done) = sync_channel(0);
        let left_out = Arc::new(Mutex::new(0));
        let mine = Arc::clone(&left_out);
        std::thread::spawn(move || {
            let _ends: SyncSender<()> = ends;
            while let Some(text) = next(&waiting, &mine) {
                // An editor that has read its last line takes no more; what is to be said until the end still is.
                if printer.print(format!("{text}\n")).is_err() && plainly(&text).is_err() {
                    return;
                }
            }
        });
        Self { lines: Some(lines), left_out, done }
    }

    /// Shows a line as soon as the editor takes it.
    ///
    /// # Errors
    /// [`End::ClosedPipe`] if the terminal is gone.
    pub(super) fn show(&self, text: &str) -> Result<(), End> {
        // Held meanwhile, so that the thread cannot have looked at it just before and sleep now.
        let mut left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lines) = self.lines.as_ref().filter(|_| *left_out == 0) else {
            *left_out += 1;
            return Ok(());
        };
        match lines.try_send(text.to_owned()) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                *left_out += 1;
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => Err(End::ClosedPipe),
        }
    }
}

impl Drop for Above {
    fn drop(&mut self) {
        self.lines = None;
        // An editor that takes none of them is left behind.
        let _ = self.done.recv_timeout(LAST);
    }
}

/// Waits for the next line; after those that were in time comes how many were not.
fn next(waiting: &Receiver<String>, left_out: &Mutex<usize>) -> Option<String> {
    if let Ok(text) = waiting.try_recv() {
        return Some(text);
    }
    let left_out = std::mem::take(&mut *left_out.lock().unwrap_or_else(PoisonError::into_inner));
    match left_out {
        0 => waiting.recv().ok(),
        n => Some(format!("… {n} not shown: the terminal took no more …")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that shows a line when it is let.
    struct Slow {
        taken: SyncSender<String>,
        let_go: Receiver<()>,
    }

    impl ExternalPrinter for Slow {
        fn print(&mut self, text: String) -> rustyline::Result<()> {
            self.taken.send(text).unwrap();
            self.let_go.recv().map_err(|_| rustyline::error::ReadlineError::Eof)
        }
    }

    #[test]
    fn nobody_waits_for_a_terminal_that_takes_nothing_and_what_it_was_not_shown_is_counted() {
        let (taken, takes) = sync_channel(0);
        let (let_go, lets_go) = sync_channel(0);
        let above = Above::start(Slow { taken, let_go: lets_go });
        above.show("0").unwrap();
        assert_eq!(takes.recv().unwrap(), "0\n");
        for n in 1..=LINES + 3 {
            above.show(&n.to_string()).unwrap();
        }
        for n in 1..=LINES {
            let_go.send(()).unwrap();
            assert_eq!(takes.recv().unwrap(), format!("{n}\n"));
            if n == 1 {
                above.show("there is place, but not yet for what comes after what is left out").unwrap();
            }
        }
        let_go.send(()).unwrap();
        assert!(takes.recv().unwrap().contains(" 4 not shown"));
        above.show("after").unwrap();
        let_go.send(()).unwrap();
        assert_eq!(takes.recv().unwrap(), "after\n");
        let_go.send(()).unwrap();
    }
    /// An editor that goes away after its first line.
    struct Gone(SyncSender<String>);

    impl ExternalPrinter for Gone {
        fn print(&mut self, text: String) -> rustyline::Result<()> {
            self.0.try_send(text).map_err(|_| rustyline::error::ReadlineError::Eof)
        }
    }

    #[test]
    fn what_an_editor_that_has_ended_does_not_take_is_shown_without_it() {
        let (taken, takes) = sync_channel(1);
        let (plain, plainly) = sync_channel(0);
        let above = Above::start_or(Gone(taken), move |text| plain.send(text.to_owned()).map_err(io::Error::other));
        above.show("0").unwrap();
        for n in 1..=3 {
            above.show(&n.to_string()).unwrap();
            assert_eq!(plainly.recv().as_deref(), Ok(&*n.to_string()));
        }
        // Where that fails, too, nobody sees anything any more.
        drop(plainly);
        above.show("4").unwrap();
        assert!(above.done.recv().is_err());
        assert!(matches!(above.show("5"), Err(End::ClosedPipe)));
        assert_eq!(takes.iter().collect::<Vec<_>>(), ["0\n"]);
    }
}
