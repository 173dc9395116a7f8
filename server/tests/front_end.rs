//! The real binary from outside: how it starts, what it refuses, what it answers to bytes that are no request,
//! how it stops.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A running broker; killed when it is dropped.
struct Broker {
    process: Child,
    port: u16,
}

fn command(directory: &Path, settings: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flumen"));
    // A test need not care for the file system that it runs on.
    let own = [format!("log.dirs={}", directory.display()), "flumen.io.direct=false".into()];
    for setting in own.iter().map(String::as_str).chain(settings.iter().copied()) {
        command.args(["--override", setting]);
    }
    command.env_remove("RUST_LOG").stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

impl Broker {
    fn start(directory: &Path, settings: &[&str]) -> Self {
        let small = ["listeners=PLAINTEXT://127.0.0.1:0", "flumen.cores=2", "flumen.journal.bytes=4194304"];
        let mut process =
            command(directory, &[&small[..], settings].concat()).spawn().expect("the binary starts");
        let log = BufReader::new(process.stderr.take().expect("standard error is piped"));
        let mut lines = log.lines();
        let port = loop {
            let line = lines.next().expect("it listens before it ends").expect("the log is text");
            if let Some((_, rest)) = line.split_once("listening on PLAINTEXT://127.0.0.1:") {
                let port = rest.split_once(',').expect("then what is advertised").0;
                break port.parse().expect("a port");
            }
        };
        // Nobody reads the rest; the pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, port }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream
    }

    /// Sends bytes and reads until the broker has answered `bytes_min` or closed.
    fn ask(&self, bytes: &[u8], bytes_min: usize) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("sent");
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while answer.len() < bytes_min {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => answer.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("neither an answer nor an end: {error}"),
            }
        }
        answer
    }

    fn assert_serves(&self) {
        let answer = self.ask(API_VERSIONS, 14);
        assert_eq!(&answer[4..10], [0, 0, 0, 7, 0, 0], "correlation id 7, no error");
    }

    fn stop(mut self) -> bool {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().expect("it is our child") {
                return status.success();
            }
            std::thread::yield_now();
        }
        panic!("it does not stop");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// ApiVersions v0, correlation id 7, client id "x".
const API_VERSIONS: &[u8] = &[0, 0, 0, 11, 0, 18, 0, 0, 0, 0, 0, 7, 0, 1, b'x'];

fn refused(directory: &Path, settings: &[&str]) -> String {
    let Output { status, stderr, .. } = command(directory, settings).output().expect("the binary runs");
    assert!(!status.success(), "it must not start");
    String::from_utf8(stderr).expect("messages are text")
}

#[test]
fn it_starts_answers_and_stops_cleanly_twice() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for _ in 0..2 {
        let broker = Broker::start(directory.path(), &[]);
        broker.assert_serves();
        assert!(broker.stop());
    }
}

#[test]
fn what_is_no_request_ends_its_connection_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = Broker::start(directory.path(), &[]);
    let frames: [&[u8]; 8] = [
        &[0xff, 0xff, 0xff, 0xff],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        &[0, 0, 0, 1, 0],
        &[0, 0, 0, 4, 0, 18, 0, 0],
        // An API that does not exist, and one of controllers only.
        &[0, 0, 0, 10, 3, 231, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 0, 0, 10, 0, 52, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for frame in frames {
        assert_eq!(broker.ask(frame, 1), [0_u8; 0], "{frame:?}");
        broker.assert_serves();
    }
}

#[test]
fn half_a_frame_and_a_thousand_idle_connections_disturb_nobody() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = Broker::start(directory.path(), &[]);
    let mut held: Vec<TcpStream> = (0..1000).map(|_| broker.connect()).collect();
    for stream in held.iter_mut().step_by(2) {
        // A megabyte of Produce is announced, and nothing comes.
        stream.write_all(&[0, 15, 66, 64, 0, 0]).expect("sent");
    }
    broker.assert_serves();
    drop(held);
    broker.assert_serves();
}

#[test]
fn a_version_to_come_is_answered_in_version_zero() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = Broker::start(directory.path(), &[]);
    let answer = broker.ask(&[0, 0, 0, 12, 0, 18, 0, 99, 0, 0, 0, 7, 0, 1, b'x', 0], 20);
    assert_eq!(answer, [0, 0, 0, 16, 0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
}

#[test]
fn a_start_that_cannot_work_says_why() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let error = refused(directory.path(), &["num.partition=3"]);
    assert!(error.contains("num.partition=3") && error.contains("did you mean num.partitions"), "{error}");
    let error = refused(directory.path(), &["num.partitions=many"]);
    assert!(error.contains("num.partitions=many") && error.contains("at least 1"), "{error}");
    let error = refused(directory.path(), &["listeners=PLAINTEXT://0.0.0.0:0"]);
    assert!(error.contains("advertised.listeners"), "{error}");

    let broker = Broker::start(directory.path(), &[]);
    let other = tempfile::tempdir().expect("a temporary directory");
    let taken = format!("listeners=PLAINTEXT://127.0.0.1:{}", broker.port);
    let error = refused(other.path(), &[&taken]);
    assert!(error.contains("the port is in use"), "{error}");
    let error = refused(directory.path(), &["listeners=PLAINTEXT://127.0.0.1:0"]);
    assert!(error.contains(".lock"), "{error}");
    std::fs::write(other.path().join("letter.txt"), "not Kafka's").expect("written");
    let foreign = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(foreign.path().join("letter.txt"), "not Kafka's").expect("written");
    let error = refused(foreign.path(), &["listeners=PLAINTEXT://127.0.0.1:0"]);
    assert!(error.contains("letter.txt"), "{error}");
}
