//! A target that the harness starts, pins, stops and cleans up after.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::memory::MemoryBound;
use crate::error::BenchError;
use crate::measure::cores::pin;
use crate::measure::process;
use crate::protocol::admin::Admin;

/// A target has so long from its start to its first answer.
const START_PATIENCE: Duration = Duration::from_secs(180);
/// And so long to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile.
const GLANCE: Duration = Duration::from_millis(5);

/// A target as the command line names it: `[NAME:]KIND[=WHERE]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetSpec {
    /// Its name in results.
    pub name: String,
    kind: Kind,
    /// Lines for its properties, beside those that every target has. Only a Flumen is given any.
    settings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// A Flumen binary; by default the one beside this program.
    Flumen(Option<PathBuf>),
    /// Apache Kafka by scripts/apache-kafka.
    ApacheKafka,
    /// An Apache Kafka that is installed there.
    InstalledKafka(PathBuf),
    /// Any command; {port} and {data} stand for the port to listen on and a folder to use.
    Command(String),
    /// It runs already; it is neither started nor stopped.
    Running(String),
}

impl FromStr for TargetSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (head, place) = text.split_once('=').map_or((text, None), |(head, place)| (head, Some(place)));
        let (name, kind) = head.split_once(':').map_or((None, head), |(name, kind)| (Some(name), kind));
        let (default_name, kind) = match (kind, place) {
            ("flumen", place) => ("Flumen", Kind::Flumen(place.map(PathBuf::from))),
            ("apache-kafka", None) => ("Apache Kafka", Kind::ApacheKafka),
            ("apache-kafka", Some(place)) => ("Apache Kafka", Kind::InstalledKafka(PathBuf::from(place))),
            ("command", Some(command)) => ("command", Kind::Command(command.to_owned())),
            ("running", Some(bootstrap)) => ("running", Kind::Running(bootstrap.to_owned())),
            _ => {
                return Err(format!(
                    "{text}: want [NAME:]flumen[=BINARY], apache-kafka[=FOLDER], command=COMMAND or running=HOST:PORT"
                ));
            }
        };
        Ok(Self { name: name.unwrap_or(default_name).to_owned(), kind, settings: Vec::new() })
    }
}

impl TargetSpec {
    /// Whether it compiles what it runs, and so needs a longer warm-up.
    pub fn is_jvm(&self) -> bool {
        matches!(self.kind, Kind::ApacheKafka | Kind::InstalledKafka(_))
    }

    /// Whether it is a Flumen that is started here, and so understands Flumen's settings.
    pub fn is_flumen(&self) -> bool {
        matches!(self.kind, Kind::Flumen(_))
    }

    /// Whether it is started here; otherwise it runs already, with whatever data and memory it has.
    pub fn is_started_here(&self) -> bool {
        !matches!(self.kind, Kind::Running(_))
    }

    /// The same with settings of Flumen's own, if it is one.
    pub fn with_settings(mut self, settings: &[(&str, u64)]) -> Self {
        if self.is_flumen() {
            self.settings.extend(settings.iter().map(|(key, value)| format!("{key}={value}\n")));
        }
        self
    }

    /// Refuses what is not there.
    pub fn check(&self) -> Result<(), BenchError> {
        let refuse =
            |what: &Path| Err(BenchError::Refused(format!("{}: {} is not there", self.name, what.display())));
        match &self.kind {
            Kind::Flumen(binary) => {
                let binary = flumen_binary(binary.as_ref());
                if binary.exists() { Ok(()) } else { refuse(&binary) }
            }
            Kind::ApacheKafka => apache_kafka_script().map(drop),
            Kind::InstalledKafka(home) if !home.join("bin/kafka-server-start.sh").exists() => refuse(home),
            _ => Ok(()),
        }
    }

    /// Starts it on some cores, with its data in `folder` and a bound on its memory if there is to be one, and
    /// waits until it answers. One that runs already is left as it is.
    pub fn start(
        &self,
        cores: &[usize],
        folder: &Path,
        memory_bytes: Option<u64>,
    ) -> Result<RunningTarget, BenchError> {
        let wrong = |source| BenchError::io(format!("make {}", folder.display()), source);
        std::fs::create_dir_all(folder).map_err(wrong)?;
        let data = folder.join("data");
        let port = free_ports()?;
        let began = Instant::now();
        let mut target = RunningTarget {
            name: self.name.clone(),
            bootstrap: format!("127.0.0.1:{port}"),
            pid: None,
            data: Some(data.clone()),
            deletes_soon: matches!(self.kind, Kind::Flumen(_) | Kind::ApacheKafka | Kind::InstalledKafka(_)),
            child: None,
            wipe: None,
            first_answer: Duration::ZERO,
            bound: memory_bytes.filter(|_| self.is_started_here()).map(MemoryBound::make).transpose()?,
        };
        match &self.kind {
            Kind::Flumen(binary) => {
                let properties = folder.join("flumen.properties");
                write(&properties, &(flumen_properties(port, &data) + &self.settings.concat()))?;
                let mut command = Command::new(flumen_binary(binary.as_ref()));
                target.spawn(command.arg(properties), cores, &folder.join("log"))?;
            }
            Kind::ApacheKafka => target.start_by_script(port, cores, &data)?,
            Kind::InstalledKafka(home) => {
                let properties = folder.join("server.properties");
                write(&properties, &kafka_properties(port, &data))?;
                if !data.join("meta.properties").exists() {
                    format_installed(home, &properties)?;
                }
                let mut command = Command::new(home.join("bin/kafka-server-start.sh"));
                command.env("KAFKA_HEAP_OPTS", "-Xms1g -Xmx1g").arg(properties);
                target.spawn(&mut command, cores, &folder.join("log"))?;
            }
            Kind::Command(text) => {
                std::fs::create_dir_all(&data).map_err(wrong)?;
                let text =
                    text.replace("{port}", &port.to_string()).replace("{data}", &data.to_string_lossy());
                let mut command = Command::new("sh");
                command.args(["-c", &format!("exec {text}")]);
                target.spawn(&mut command, cores, &folder.join("log"))?;
            }
            Kind::Running(bootstrap) => {
                target.bootstrap = bootstrap.clone();
                target.data = None;
            }
        }
        target.await_answer(began, &folder.join("log"))?;
        Ok(target)
    }
}

/// A setting of those targets that get settings from here: the files of a topic that was deleted go after a second, not
/// after a minute, when another run is measured. With 0 Apache Kafka looks a thousand times a second.
const FILES_GO_SOON: &str = "log.segment.delete.delay.ms=1000";

/// A target that answers. Dropped, it is killed and cleaned up.
pub struct RunningTarget {
    /// Its name in results.
    pub name: String,
    /// Its address.
    pub bootstrap: String,
    /// Its process, if it is on this machine.
    pub pid: Option<u32>,
    /// Where its data is.
    pub data: Option<PathBuf>,
    /// From its start to its first answer.
    pub first_answer: Duration,
    /// Whether it was told to unlink deleted files soon.
    deletes_soon: bool,
    child: Option<Child>,
    /// The name by which scripts/apache-kafka knows it.
    wipe: Option<String>,
    /// Where it is, if its memory is bound.
    bound: Option<MemoryBound>,
}

impl RunningTarget {
    /// Whether files of a topic that was deleted are still there, and will go soon.
    pub fn is_deleting(&self) -> bool {
        let entries = self.data.as_ref().filter(|_| self.deletes_soon).and_then(|data| data.read_dir().ok());
        entries.is_some_and(|mut entries| {
            entries.any(|entry| {
                entry.is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with("-delete"))
            })
        })
    }

    fn spawn(&mut self, command: &mut Command, cores: &[usize], log: &Path) -> Result<(), BenchError> {
        let child = match &self.bound {
            Some(bound) => spawn(&mut bound.around(command), cores, log),
            None => spawn(command, cores, log),
        };
        self.child = Some(child?);
        Ok(())
    }

    fn start_by_script(&mut self, port: u16, cores: &[usize], data: &Path) -> Result<(), BenchError> {
        let name = format!("bench-{}-{port}", std::process::id());
        let cores: Vec<_> = cores.iter().map(usize::to_string).collect();
        let mut command = Command::new(apache_kafka_script()?);
        command.args(["start", "-n", &name, "-p", &port.to_string(), "-o", FILES_GO_SOON, "-d"]).arg(data);
        if !cores.is_empty() {
            command.args(["-c", &cores.join(",")]);
        }
        if std::env::var_os("KAFKA_HEAP").is_none() {
            command.env("KAFKA_HEAP", "-Xms1g -Xmx1g");
        }
        if let Some(bound) = &self.bound {
            command = bound.around(&command);
        }
        // Also one that never answers is to be stopped.
        self.wipe = Some(name);
        let output = command.output().map_err(|source| BenchError::io("run scripts/apache-kafka", source))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(BenchError::Refused(format!("Apache Kafka did not start: {words}")));
        }
        let words = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        self.pid = words.rsplit_once("pid ").and_then(|(_, pid)| pid.parse().ok());
        Ok(())
    }

    fn await_answer(&mut self, began: Instant, log: &Path) -> Result<(), BenchError> {
        loop {
            match Admin::connect(&self.bootstrap) {
                Ok(admin) => {
                    self.first_answer = began.elapsed();
                    let child = self.child.as_ref().map(Child::id);
                    self.pid = self.pid.or_else(|| process::listening_on(admin.address())).or(child);
                    return Ok(());
                }
                Err(error) if began.elapsed() > START_PATIENCE || self.child.is_none() => return Err(error),
                Err(_) => {}
            }
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                let words = std::fs::read_to_string(log).unwrap_or_default();
                let end: Vec<_> = words.lines().rev().take(5).collect();
                let end = end.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(BenchError::Refused(format!("{} ended with {status}:\n{end}", self.name)));
            }
            std::thread::park_timeout(GLANCE);
        }
    }

    /// Stops it as its users do, and waits for it. Its data stays.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Kills it at once. Its data stays.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    fn end(&mut self, signal: Signal) {
        let Some(pid) = self.pid.take() else { return };
        if self.child.is_none() && self.wipe.is_none() {
            return;
        }
        let Some(process) = Pid::from_raw(pid as i32) else { return };
        // It may be gone already.
        let _ = kill_process(process, signal);
        let began = Instant::now();
        while self.is_alive(pid) {
            if began.elapsed() > STOP_PATIENCE {
                let _ = kill_process(process, Signal::KILL);
            }
            std::thread::park_timeout(GLANCE);
        }
    }

    fn is_alive(&mut self, pid: u32) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            // Nobody may have fetched what is left of it.
            None => std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"))),
        }
    }
}

impl Drop for RunningTarget {
    fn drop(&mut self) {
        self.kill();
        if let (Some(name), Ok(script)) = (&self.wipe, apache_kafka_script()) {
            let _ = Command::new(script).args(["wipe", "-n", name]).stderr(Stdio::null()).status();
        }
    }
}

/// Starts a command on cores: a child stays where its parent's thread is.
fn spawn(command: &mut Command, cores: &[usize], log: &Path) -> Result<Child, BenchError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let log = File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(|source| BenchError::io("open a log", source))?;
    let errors = log.try_clone().map_err(|source| BenchError::io("open a log", source))?;
    // Ctrl-C is for this program, not for what it measures.
    command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
    std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            if !cores.is_empty() {
                pin(cores)?;
            }
            command.spawn().map_err(|source| BenchError::io(format!("start {program}"), source))
        });
        starter.join().expect("starting does not panic")
    })
}

/// A port that is free, and the next one too: Kafka's controller takes it.
fn free_ports() -> Result<u16, BenchError> {
    for _ in 0..100 {
        let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = bound.map_err(|source| BenchError::io("find a free port", source))?.port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
    Err(BenchError::Refused("no two ports are free".to_owned()))
}

fn write(path: &Path, text: &str) -> Result<(), BenchError> {
    std::fs::write(path, text).map_err(|source| BenchError::io(format!("write {}", path.display()), source))
}

fn flumen_binary(given: Option<&PathBuf>) -> PathBuf {
    let beside = || std::env::current_exe().ok()?.parent().map(|folder| folder.join("flumen"));
    given
        .cloned()
        .or_else(|| std::env::var_os("FLUMEN_BINARY").map(PathBuf::from))
        .or_else(beside)
        .unwrap_or_default()
}

/// scripts/apache-kafka of the checkout in which this program was built, or of the one we stand in.
fn apache_kafka_script() -> Result<PathBuf, BenchError> {
    let places = [std::env::current_exe().ok(), std::env::current_dir().ok()];
    let above = places.iter().flatten().flat_map(|place| place.ancestors());
    above
        .map(|folder| folder.join("scripts/apache-kafka"))
        .find(|script| script.exists())
        .ok_or_else(|| BenchError::Refused("scripts/apache-kafka is not found from here".to_owned()))
}

fn flumen_properties(port: u16, data: &Path) -> String {
    format!(
        "{FILES_GO_SOON}\nprocess.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://127.0.0.1:{port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={}\n",
        data.display()
    )
}

fn kafka_properties(port: u16, data: &Path) -> String {
    format!(
        "{FILES_GO_SOON}\nprocess.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\nlog.dirs={}\n",
        data.display(),
        controller = port + 1,
    )
}

fn format_installed(home: &Path, properties: &Path) -> Result<(), BenchError> {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(home.join("bin/kafka-storage.sh"));
        let output = command.args(arguments).output();
        output.map_err(|source| BenchError::io("run kafka-storage.sh", source))
    };
    let id = String::from_utf8_lossy(&run(&["random-uuid"])?.stdout).trim().to_owned();
    let formatted = run(&["format", "-t", &id, "-c", &properties.to_string_lossy()])?;
    if formatted.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&formatted.stderr).trim().to_owned();
    Err(BenchError::Refused(format!("kafka-storage.sh format: {words}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_named_by_their_kind_or_by_a_name() {
        let spec = |text: &str| text.parse::<TargetSpec>().expect("a target");
        assert_eq!(spec("flumen").name, "Flumen");
        assert_eq!(spec("apache-kafka").kind, Kind::ApacheKafka);
        assert!(spec("apache-kafka=/opt/kafka").is_jvm());
        let before = spec("before:flumen=/tmp/flumen");
        assert_eq!((before.name.as_str(), before.is_jvm()), ("before", false));
        assert_eq!(spec("x:command=broker --port {port} --dir={data}").name, "x");
        assert_eq!(spec("running=host:9092").kind, Kind::Running("host:9092".to_owned()));
        assert!("redpanda".parse::<TargetSpec>().is_err());
    }

    #[test]
    fn only_a_flumen_is_given_settings_of_flumen() {
        let told = |text: &str| {
            let spec: TargetSpec = text.parse().expect("a target");
            spec.with_settings(&[("flumen.cache.bytes", 7)]).settings.concat()
        };
        assert_eq!(told("before:flumen=/tmp/flumen"), "flumen.cache.bytes=7\n");
        assert_eq!(told("apache-kafka"), "");
        assert_eq!(told("running=host:9092"), "");
    }

    #[test]
    fn a_command_that_ends_at_once_is_told_with_its_last_words() {
        let folder = std::env::temp_dir().join(format!("flumen-bench-target-{}", std::process::id()));
        let spec: TargetSpec = "x:command=sh -c 'echo no such luck; exit 3'".parse().expect("a target");
        let error = spec.start(&[], &folder, None).err().expect("it does not answer").to_string();
        assert!(error.contains("no such luck") && error.contains('3'), "{error}");
        std::fs::remove_dir_all(folder).expect("it was made");
    }
}
