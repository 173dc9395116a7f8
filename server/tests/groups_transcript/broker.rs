//! The real binary on a directory of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running broker; killed when it is dropped.
pub struct Broker {
    process: Child,
    /// Where it listens.
    pub address: String,
}

impl Broker {
    pub fn start(directory: &Path, settings: &[&str]) -> Self {
        let directory = format!("log.dirs={}", directory.display());
        // A test need not care for the file system that it runs on.
        let small =
            ["flumen.io.direct=false", "listeners=PLAINTEXT://127.0.0.1:0", "flumen.journal.bytes=4194304"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_flumen"));
        for setting in [directory.as_str()].iter().chain(&small).chain(settings) {
            command.args(["--override", setting]);
        }
        let mut process = command.env_remove("RUST_LOG").stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("it listens before it ends").unwrap();
            if let Some((_, rest)) = line.split_once("listening on PLAINTEXT://") {
                break rest.split_once(',').unwrap().0.to_owned();
            }
        };
        // Nobody reads the rest; the pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address }
    }
}

impl Drop for Broker {
    /// SIGKILL: nothing is flushed, nothing is closed.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
