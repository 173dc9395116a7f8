//! The load: connections on a few threads, each with its requests in flight, for a stated time.
//!
//! An open loop sends at a rate, whatever the answers do, and counts from the moment a request fell due. In a
//! closed loop a connection sends its next request when one of its `depth` is answered; a target that stalls is
//! then asked less, and the percentiles say nothing about users who do not wait.

pub mod settings;
pub mod tally;

mod collector;
mod connection;
mod consumer;
mod pacer;
mod placement;
mod plan;
mod producer;
pub mod sweep;
mod thread;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use self::collector::{Collector, Target};
use self::settings::LoadSettings;
use self::tally::Shared;
use self::thread::{Message, ThreadPlan, Timing};
use crate::clock::Moment;
use crate::console::Progress;
use crate::error::BenchError;
use crate::hlog;
use crate::measure::{cores, device, environment::Environment, process};
use crate::protocol::admin::Admin;
use crate::result::LoadResult;

/// Descriptors that this program has for other things than connections.
const OTHER_DESCRIPTORS: u64 = 64;
/// From the word to begin until the first request falls due.
const LEAD_TIME: Duration = Duration::from_millis(20);
/// Connections open one after the other; a target has so long for all of them.
const OPENING_PATIENCE: Duration = Duration::from_secs(120);

/// What came of a run: the result, and its latencies second by second.
pub struct Outcome {
    /// The result.
    pub result: LoadResult,
    /// The lines of its interval log.
    log: Vec<u8>,
}

impl Outcome {
    /// Writes NAME.json and NAME.hlog into a folder that is made if need be.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(), BenchError> {
        let wrong = |source| BenchError::io(format!("write into {}", folder.display()), source);
        std::fs::create_dir_all(folder).map_err(wrong)?;
        let json = serde_json::to_string_pretty(&self.result).map_err(BenchError::codec)?;
        std::fs::write(folder.join(format!("{name}.json")), json).map_err(wrong)?;
        std::fs::write(folder.join(format!("{name}.hlog")), &self.log).map_err(wrong)
    }
}

/// Runs a load to its end, or until `is_interrupted`.
pub fn run(
    settings: &LoadSettings,
    progress: &Progress,
    is_interrupted: &Arc<AtomicBool>,
) -> Result<Outcome, BenchError> {
    settings.check()?;
    pin_beside(&settings.cores)?;
    let connections = settings.connections + settings.consumers * settings.groups + settings.stalled;
    process::allow_descriptors(connections as u64 + OTHER_DESCRIPTORS)?;
    let mut admin = Admin::connect(&settings.bootstrap)?;
    let pid = settings.pid.or_else(|| process::listening_on(admin.address()));
    if let (Some(data), Some(bytes)) = (&settings.data, settings.bytes_expected()) {
        device::expect_room(data, bytes)?;
    }
    if let Some(folder) = &settings.out {
        device::expect_room(folder, 1 << 20)?;
    }
    let environment = Environment::observe(settings.data.as_deref());
    let plans = plan::prepare(settings, &mut admin, pid)?;
    let threads = Threads::start(plans)?;
    let timing = threads.begin(settings)?;
    let started = SystemTime::now() + timing.counts_from.since(Moment::now());
    let target = Target::new(pid, settings.data.as_deref());
    let mut collector = Collector::new(settings, timing, target, threads.count());
    let refusal = threads.collect(&mut collector, progress, is_interrupted);
    progress.finish();
    let shared = threads.finish();
    if settings.delete_topic {
        admin.delete_topic(&settings.topic)?;
    }
    refusal?;
    let result = collector.result(settings, environment, started, &shared, is_interrupted.load(Relaxed));
    let mut log = Vec::new();
    hlog::write(&mut log, &format!("flumen-bench {}", settings.label), started, collector.log_lines())?;
    Ok(Outcome { result, log })
}

/// Refuses cores that this machine does not have, or does not let us use. The calling thread, which waits nearly
/// always, stays beside the load, away from the target.
fn pin_beside(wanted: &[usize]) -> Result<(), BenchError> {
    for core in wanted {
        cores::pin(&[*core])?;
    }
    if wanted.is_empty() { Ok(()) } else { cores::pin(wanted) }
}

/// The threads of a run.
struct Threads {
    messages: Receiver<Message>,
    starts: Vec<mpsc::Sender<Timing>>,
    handles: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Threads {
    /// Starts them, and waits until all connections are open.
    fn start(plans: Vec<ThreadPlan>) -> Result<Self, BenchError> {
        let shared = Arc::new(Shared::default());
        let (tell, messages) = mpsc::channel();
        let mut threads = Self { messages, starts: Vec::new(), handles: Vec::new(), shared };
        for (nth, plan) in plans.into_iter().enumerate() {
            let (tell, shared) = (tell.clone(), threads.shared.clone());
            let (start, started) = mpsc::channel();
            let handle = std::thread::Builder::new()
                .name(format!("load-{nth}"))
                .spawn(move || thread::run(plan, tell, started, shared))
                .map_err(|source| BenchError::io("start a thread", source))?;
            threads.handles.push(handle);
            threads.starts.push(start);
        }
        for _ in 0..threads.handles.len() {
            match threads.messages.recv_timeout(OPENING_PATIENCE) {
                Ok(Message::Ready) => {}
                Ok(Message::Done { failure: Some(failure), .. }) => return Err(failure),
                _ => return Err(BenchError::Silent("the connections did not open".to_owned())),
            }
        }
        Ok(threads)
    }

    fn count(&self) -> usize {
        self.handles.len()
    }

    fn begin(&self, settings: &LoadSettings) -> Result<Timing, BenchError> {
        let start = Moment::now().after(LEAD_TIME);
        let counts_from = start.after(settings.warmup_time());
        let timing = Timing { start, counts_from, ends: counts_from.after(settings.measured_time()) };
        for thread in &self.starts {
            thread.send(timing).map_err(|_| BenchError::Broker("a thread of the load died".to_owned()))?;
        }
        Ok(timing)
    }

    /// Takes in what the threads tell until all are done. A refusal ends them early.
    fn collect(
        &self,
        collector: &mut Collector,
        progress: &Progress,
        is_interrupted: &AtomicBool,
    ) -> Result<(), BenchError> {
        let mut refusal = Ok(());
        while !collector.is_done() {
            match self.messages.recv_timeout(collector.until_next_sample()) {
                Ok(message) => {
                    if let Some(line) = collector.take(message) {
                        progress.show(&line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // A thread died without a word: its panic is on the terminal.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            collector.sample();
            if is_interrupted.load(Relaxed) {
                self.shared.is_stopped.store(true, Relaxed);
            }
            if refusal.is_ok() {
                refusal = collector.check_warmup();
                if refusal.is_err() {
                    self.shared.is_stopped.store(true, Relaxed);
                }
            }
        }
        refusal
    }

    fn finish(self) -> Arc<Shared> {
        drop(self.starts);
        for handle in self.handles {
            // A panic has been printed; the result says what is missing.
            let _ = handle.join();
        }
        self.shared
    }
}
