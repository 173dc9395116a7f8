//! The log on standard error, which may be a full disk, a closed pipe, or one that nobody reads: a thread of its own
//! writes it, and whoever reports something never waits. What nobody takes in time is lost, and counted.

use std::io::{self, IsTerminal, Write};
use std::process;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// So many lines wait to be written.
const LINES_MAX: usize = 16_384;

/// The process's own, once it is started.
static STARTED: OnceLock<LogOutput> = OnceLock::new();

/// Has everything that is reported from now on written; `RUST_LOG` chooses what, in tracing's syntax. Starts a thread.
///
/// # Panics
/// If it was started before.
pub fn start() {
    let output = LogOutput::to(io::stderr());
    let (filter, misunderstood) = filter();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(output.lines.clone())
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    assert!(STARTED.set(output).is_ok(), "it was started before");
    if let Some(why) = misunderstood {
        tracing::warn!("RUST_LOG is not understood, and info is logged: {why}");
    }
}

/// Writes a line, as it is.
pub fn say(line: &str) {
    if let Some(output) = STARTED.get() {
        output.say(line);
    }
}

/// Waits until what was reported is written, for about a second; nothing is written any more.
pub fn finish() {
    if let Some(output) = STARTED.get() {
        output.finish();
    }
}

/// Ends the process at once, but for what it has reported: that is written first, if somebody takes it.
pub fn exit(code: i32) -> ! {
    finish();
    process::exit(code)
}

struct LogOutput {
    lines: NonBlocking,
    thread: Mutex<Option<WorkerGuard>>,
}

impl LogOutput {
    fn to(writer: impl Write + Send + 'static) -> Self {
        let builder = NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).thread_name("flumen-log");
        let (lines, guard) = builder.finish(writer);
        Self { lines, thread: Mutex::new(Some(guard)) }
    }

    fn say(&self, line: &str) {
        // It is queued or lost; nothing can fail.
        let _ = self.lines.clone().write_all(format!("{line}\n").as_bytes());
    }

    fn finish(&self) {
        let lost = self.lines.error_counter().dropped_lines();
        if lost > 0 {
            self.say(&format!("{lost} lines of the log were lost: nobody took them in time"));
        }
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// What `RUST_LOG` asks for, or info; and what is wrong with it.
fn filter() -> (EnvFilter, Option<String>) {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    if asked.is_empty() {
        return (EnvFilter::new("info"), None);
    }
    match EnvFilter::try_new(&asked) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(format!("{asked}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::time::{Duration, Instant};

    use super::*;

    /// Takes lines for as long as it is let.
    struct Pipe {
        taken: Arc<Mutex<Vec<u8>>>,
        open: mpsc::Receiver<()>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // A closed channel is an open pipe.
            let _ = self.open.recv();
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe() -> (LogOutput, Arc<Mutex<Vec<u8>>>, mpsc::Sender<()>) {
        let (opener, open) = mpsc::channel();
        let taken = Arc::default();
        (LogOutput::to(Pipe { taken: Arc::clone(&taken), open }), taken, opener)
    }

    #[test]
    fn everything_is_there_once_it_is_finished() {
        let (output, taken, opener) = pipe();
        drop(opener);
        (0..1000).for_each(|number| output.say(&number.to_string()));
        output.finish();
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(*taken.lock().unwrap(), expected.as_bytes());
    }

    #[test]
    fn nobody_waits_for_a_pipe_that_nobody_reads() {
        let (output, taken, opener) = pipe();
        let began = Instant::now();
        (0..2 * LINES_MAX).for_each(|_| output.say("line"));
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(output.lines.error_counter().dropped_lines() >= LINES_MAX - 1);
        // Read again at last, it goes on.
        drop(opener);
        output.finish();
        assert!(taken.lock().unwrap().len() >= LINES_MAX * 5);
    }

    #[test]
    fn what_cannot_be_written_is_nobodys_trouble() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has one");
        let output = LogOutput::to(full);
        (0..10).for_each(|_| output.say("line"));
        output.finish();
    }
}
