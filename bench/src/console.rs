//! What goes to the terminal. Results go to the standard output, all else to the standard error.

use std::io::{IsTerminal, Write, stderr};

/// Prints a result.
#[expect(clippy::print_stdout, reason = "the result is the program's output")]
pub fn result(text: &str) {
    println!("{text}");
}

/// A line about what is going on.
#[expect(clippy::print_stderr, reason = "a command-line program says what it does")]
pub fn note(text: &str) {
    eprintln!("{text}");
}

/// Says what went wrong.
pub fn complain(error: &dyn std::fmt::Display) {
    note(&format!("flumen-bench: {error}"));
}

/// One line that is written over and over on a terminal, and plain lines elsewhere.
pub struct Progress {
    is_terminal: bool,
    is_silent: bool,
}

impl Progress {
    /// `is_silent`: show nothing.
    pub fn new(is_silent: bool) -> Self {
        Self { is_terminal: stderr().is_terminal(), is_silent }
    }

    /// Shows how far it is.
    pub fn show(&self, line: &str) {
        if self.is_silent {
            return;
        }
        if self.is_terminal {
            // To the line's start, the text, and nothing left of what was there.
            let _ = write!(stderr(), "\r{line}\x1b[K");
            let _ = stderr().flush();
        } else {
            note(line);
        }
    }

    /// Ends the line, so that other text follows below.
    pub fn finish(&self) {
        if self.is_terminal && !self.is_silent {
            let _ = writeln!(stderr());
        }
    }
}
