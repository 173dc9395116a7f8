//! The broker's life: checks, directory, replay; one pinned thread per core; listening; the clean stop.
//!
//! The main thread prepares what all cores share, starts them, and waits. Core 0 carries the controller and
//! the listeners, hears the stop signal and leads the stop: nobody new is let in, connections end, every
//! core's engine closes, and the directory is sealed last, so that Apache Kafka could start on it.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use flumen_engine::storage::uring::{LogDirectory, LogDirectoryError, RingRuntime};
use flumen_engine::{
    ClosedCore, CoreId, Engine, EngineConfig, LeaderEpoch, OpenError, RecoveredJournal, RecoveryError,
    recovery,
};
use flumen_ring::process::{StopSignals, raise_descriptor_limit};
use flumen_ring::{Helper, Reactor, ReactorConfig, Ring, SetupError, topology};
use futures_util::future::{AbortHandle, Either, abortable, join_all, select};

use crate::budget::MemoryBudget;
use crate::config::{BrokerConfig, ListenerConfig};
use crate::groups::route;
use crate::listener::{self, Admission, BindError};
use crate::messages::Mailboxes;
use crate::metadata::controller::{Controller, ControllerError, ControllerParts};
use crate::metadata::directory::{self, DirectoryError, Opened};
use crate::metadata::image::Image;
use crate::placement::{self, ToAllCores};
use crate::shard::{Shard, ShardParts};

/// Descriptors below which a broker soon runs out of them.
const DESCRIPTORS_MIN: u64 = 4096;

/// How often a stop looks whether the disk is still full, and how often it does so before it gives up.
const FULL_LOOK: Duration = Duration::from_secs(1);
const FULL_LOOKS: usize = 5;

/// How long a stop waits for answers to leave.
const ANSWERING_TIME: Duration = Duration::from_secs(2);

/// Why the broker did not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The log directory cannot be used.
    #[error(transparent)]
    Directory(#[from] LogDirectoryError),
    /// It is not this node's, or its metadata cannot be read.
    #[error(transparent)]
    Foreign(#[from] DirectoryError),
    /// io_uring cannot be used.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The journals of the life before cannot be read.
    #[error(
        "cannot recover the log directory: {0}. Nothing that was acknowledged is given up: look at the disk, then start \
         again"
    )]
    Recovery(#[from] RecoveryError),
    /// A core's engine cannot be opened.
    #[error("cannot open the partitions: {0}")]
    Open(#[from] OpenError),
    /// A listener cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The controller cannot begin.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// The system refused something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// It ran, but could not stop cleanly.
    #[error("did not stop cleanly: {0}; nothing acknowledged is lost, and the next start recovers")]
    Stop(String),
}

/// Runs the broker until a signal tells it to stop.
pub fn run(mut config: BrokerConfig, signals: StopSignals) -> Result<(), BrokerError> {
    let descriptors = raise_descriptor_limit().map_err(system("raise the limit of descriptors"))?;
    if descriptors < DESCRIPTORS_MIN {
        tracing::warn!(
            descriptors,
            "few descriptors (ulimit -n): each connection and open segment takes one"
        );
    }
    let log_directory = LogDirectory::open(&config.node.log_dir, config.resources.direct_io)?;
    let reactor = Reactor::new(ReactorConfig::default())?;
    // A directory that was stopped cleanly, by Apache Kafka perhaps, stays so if this start comes to nothing.
    reactor.run(listener::check(&reactor.ring(), &config.network.listeners))?;
    let mut opened = directory::open(&config.node)?;
    config.node.id = Some(opened.identity.node_id);
    config.node.cluster_id = Some(opened.identity.cluster_id.clone());
    let cores = config
        .resources
        .cores
        .unwrap_or_else(|| u16::try_from(topology::available_parallelism()).unwrap_or(u16::MAX).min(256));
    let budget = MemoryBudget::new(&config, topology::memory_limit_bytes(), cores);
    let (runtime, files) = (RingRuntime::new(&reactor.ring()), log_directory.attach(&reactor.ring()));
    let mut recovered = reactor.run(recovery::replay(runtime, files, budget.cache_bytes))?;
    drop(reactor);
    opened.reload()?;
    opened.set_aside_strays(&mut recovered)?;
    opened.begin_epoch()?;
    let opened = Arc::new(opened);

    let available = topology::allowed_cores();
    let warnings = budget.warnings(&config);
    let plan = Plan::new(config, cores, budget, log_directory, recovered, opened.clone())?;
    tracing::info!(
        node_id = plan.config.node_id(),
        cluster_id = %opened.identity.cluster_id,
        directory = %plan.config.node.log_dir.display(),
        formatted = opened.formatted,
        cores,
        cache_mib = plan.budget.cache_bytes >> 20,
        "starting"
    );
    for warning in warnings {
        tracing::warn!("{warning}");
    }

    let (report, reports) = mpsc::channel();
    let mut signals = Some(signals);
    for (core, mailboxes) in (0..cores).map(CoreId).zip(Mailboxes::connect(cores)) {
        // With more cores than the machine has, several share one.
        let processor = available.get(usize::from(core.0) % available.len().max(1)).copied();
        let start = CoreStart {
            core,
            processor,
            plan: plan.clone(),
            mailboxes,
            report: report.clone(),
            signals: if core.0 == 0 { signals.take() } else { None },
        };
        start.spawn().map_err(system("start a core's thread"))?;
    }
    drop(report);
    for report in reports {
        match report {
            Report::Started(core) => tracing::debug!(%core, "started"),
            // Whatever other cores still hold goes with the process, at once: nothing of it is needed.
            Report::Ended(result) => return result,
        }
    }
    Err(BrokerError::Stop("every core ended without a word".into()))
}

/// What a core tells the main thread.
enum Report {
    Started(CoreId),
    /// The broker is at its end: it could not start, or core 0 has stopped it.
    Ended(Result<(), BrokerError>),
}

/// Brings a directory that was not stopped cleanly to the state of a clean stop, without serving anybody: the
/// journals are folded into Kafka's own files, so that Apache Kafka, too, can start on it.
pub fn recover(mut config: BrokerConfig) -> Result<(), BrokerError> {
    let log_directory = LogDirectory::open(&config.node.log_dir, config.resources.direct_io)?;
    let opened = directory::open(&config.node)?;
    config.node.id = Some(opened.identity.node_id);
    let reactor = Reactor::new(ReactorConfig::default())?;
    let ring = reactor.ring();
    let files = log_directory.attach(&ring);
    reactor.run(async {
        let budget = MemoryBudget::new(&config, topology::memory_limit_bytes(), 1);
        let runtime = RingRuntime::new(&ring);
        let recovered = recovery::replay(runtime, files.clone(), budget.cache_bytes).await?;
        let plan = Plan::new(config, 1, budget, log_directory.clone(), recovered, Arc::new(opened))?;
        let core = CoreId(0);
        // Nothing is written to the metadata log: the next start begins the next epoch.
        let epoch = LeaderEpoch(plan.opened.loaded.last_epoch);
        let partitions = placement::partitions_of(core, 1, &plan.config, &plan.image, epoch);
        let engine = Engine::open(
            RingRuntime::new(&ring),
            files.clone(),
            plan.engine_config(core),
            partitions,
            plan.recovered.clone(),
        )
        .await?;
        let closed = engine.close().await.map_err(|error| BrokerError::Stop(error.to_string()))?;
        // No epoch: this was no clean stop, and Kafka need not take it for one (KIP-966).
        let sealed = recovery::seal(files.clone(), vec![closed], -1).await;
        sealed.map_err(|error| BrokerError::Stop(error.to_string()))?;
        tracing::info!(directory = %plan.config.node.log_dir.display(), "recovered and sealed");
        Ok(())
    })
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> BrokerError {
    move |source| BrokerError::System { what, source }
}

/// What every core starts from.
#[derive(Clone)]
struct Plan {
    config: Arc<BrokerConfig>,
    cores: u16,
    log_directory: LogDirectory,
    recovered: RecoveredJournal,
    opened: Arc<Opened>,
    compute: Helper,
    image: Arc<Image>,
    controller_epoch: LeaderEpoch,
    budget: MemoryBudget,
}

impl Plan {
    fn new(
        mut config: BrokerConfig,
        cores: u16,
        budget: MemoryBudget,
        log_directory: LogDirectory,
        recovered: RecoveredJournal,
        opened: Arc<Opened>,
    ) -> Result<Self, BrokerError> {
        let compute = Helper::start("flumen-compute").map_err(system("start the helper thread"))?;
        config.network.request_bytes_max = budget.request_bytes_max;
        Ok(Self {
            config: Arc::new(config),
            cores,
            log_directory,
            recovered,
            image: Arc::new(opened.loaded.image.clone()),
            controller_epoch: LeaderEpoch(opened.epoch),
            opened,
            compute,
            budget,
        })
    }

    fn share(&self, bytes: u64) -> usize {
        usize::try_from(bytes / u64::from(self.cores)).unwrap_or(usize::MAX)
    }

    fn engine_config(&self, core: CoreId) -> EngineConfig {
        let cache_bytes = self.share(self.budget.cache_bytes);
        EngineConfig {
            cache_bytes,
            journal_bytes: self.config.resources.journal_bytes,
            retention_check_interval: self.config.retention_check_interval,
            producer_expiration_check_interval: self.config.producer_expiration_check_interval,
            dirty_bytes_max: (cache_bytes / 2).min(self.config.resources.journal_bytes as usize / 2),
            ..EngineConfig::new(core, self.cores)
        }
    }
}

/// What one core's thread takes with it.
struct CoreStart {
    core: CoreId,
    processor: Option<usize>,
    plan: Plan,
    mailboxes: Mailboxes,
    report: mpsc::Sender<Report>,
    /// Core 0 only.
    signals: Option<StopSignals>,
}

impl CoreStart {
    fn spawn(self) -> io::Result<()> {
        thread::Builder::new().name(format!("flumen-core-{}", self.core)).spawn(move || self.run()).map(drop)
    }

    fn run(self) {
        let report = self.report.clone();
        if let Some(Err(error)) = self.processor.map(topology::pin_current) {
            tracing::warn!(core = %self.core, %error, "cannot pin the core's thread; it runs unpinned");
        }
        let reactor = match Reactor::new(ReactorConfig::default()) {
            Ok(reactor) => reactor,
            Err(error) => {
                // The main thread waits for it.
                let _ = report.send(Report::Ended(Err(error.into())));
                return;
            }
        };
        let ring = reactor.ring();
        reactor.run(async move {
            let ended = self.live(ring).await;
            // Before all that the tasks hold is dropped: nobody waits for that.
            let _ = report.send(Report::Ended(ended));
            std::future::pending::<()>().await;
        });
    }

    /// Runs the core. Only core 0 comes to an end by itself, when it has stopped the broker.
    async fn live(self, ring: Ring) -> Result<(), BrokerError> {
        let Self { core, plan, mailboxes, report, signals, .. } = self;
        let shard = start(core, &plan, mailboxes, &ring).await?;
        let Some(signals) = signals else {
            let _ = report.send(Report::Started(core));
            return std::future::pending().await;
        };
        let listening = listen(&shard, &plan).await?;
        let _ = report.send(Report::Started(core));
        let waiting = Helper::start("flumen-signals").map_err(system("start the signals' thread"))?;
        let signals = Arc::new(signals);
        let first = signals.clone();
        let signal = waiting.run(move || first.wait()).await;
        tracing::info!(signal, "stopping; a second signal ends it at once");
        drop(listening);
        let again = async {
            let signal = waiting.run(move || signals.wait()).await;
            Err(BrokerError::Stop(format!("{signal} came a second time")))
        };
        let full = async {
            stays_full(&shard).await;
            Err(BrokerError::Stop("the disk is full, or no more files can be opened".to_owned()))
        };
        match select(pin!(stop(&shard, &plan)), select(pin!(again), pin!(full))).await {
            Either::Left((stopped, _)) => stopped,
            Either::Right((given_up, _)) => given_up.factor_first().0,
        }
    }
}

/// Opens a core's engine and starts its shard.
async fn start(
    core: CoreId,
    plan: &Plan,
    mailboxes: Mailboxes,
    ring: &Ring,
) -> Result<Rc<Shard>, BrokerError> {
    let engine = Engine::open(
        RingRuntime::new(ring),
        plan.log_directory.attach(ring),
        plan.engine_config(core),
        placement::partitions_of(core, plan.cores, &plan.config, &plan.image, plan.controller_epoch),
        plan.recovered.clone(),
    )
    .await?;
    let (links, receivers) = mailboxes.attach(ring);
    let parts = ShardParts {
        core,
        cores: plan.cores,
        config: plan.config.clone(),
        ring: ring.clone(),
        engine,
        image: plan.image.clone(),
        links,
        compute: plan.compute.clone(),
        request_memory_bytes: plan.share(plan.budget.request_bytes),
        answer_memory_bytes: plan.share(plan.budget.answer_bytes),
    };
    let shard = Shard::start(parts, receivers);
    let watching = shard.clone();
    ring.spawn(async move {
        watching.engine().offline().await;
        watching.end_if_offline();
    });
    placement::host_groups(&shard);
    Ok(shard)
}

/// Binds every listener and accepts on them.
async fn listen(shard: &Rc<Shard>, plan: &Plan) -> Result<Listening, BrokerError> {
    // Every other core takes messages before a client is let in.
    for core in shard.cores() {
        shard.call(core, |_| async {}).await;
    }
    plan.recovered.let_go();
    let admission = Admission::new(usize::from(plan.cores), &plan.config.network);
    let admission = Rc::new(RefCell::new(admission));
    // Bound first, so that the registration names the ports; accepting once there is something to answer.
    let mut bound = Vec::new();
    for config in &plan.config.network.listeners {
        bound.push(listener::bind(shard, config.clone())?);
    }
    let configs: Vec<ListenerConfig> = bound.iter().map(|(_, config)| config.clone()).collect();
    lead(shard, plan, &configs).await?;
    let mut accepting = Vec::new();
    for (listeners, config) in bound {
        let config = Arc::new(config);
        for listener in listeners {
            let accept = listener::accept(shard.clone(), listener, config.clone(), admission.clone());
            let (accept, handle) = abortable(accept);
            shard.ring().spawn(async move {
                // Aborted is how it ends.
                let _ = accept.await;
            });
            accepting.push(handle);
        }
    }
    for listener in &configs {
        tracing::info!(
            "listening on {}://{}:{}, advertised as {}:{}",
            listener.name,
            listener.host,
            listener.port,
            listener.advertised_host,
            listener.advertised_port
        );
    }
    tracing::info!("{}", durability(plan.config.log.flush_messages));
    Ok(Listening { accepting })
}

/// What an acknowledgement promises, unless a topic's own `flush.messages` says otherwise.
fn durability(flush_messages: i64) -> String {
    match flush_messages {
        1 => "durable: a record is acknowledged once it is on the disk and the device's cache was flushed"
            .into(),
        i64::MAX => {
            "not durable: a record is acknowledged once it is in memory (log.flush.interval.messages)".into()
        }
        many => {
            format!("flushed every {many} records, acknowledged before that (log.flush.interval.messages)")
        }
    }
}

/// Begins the controller's epoch: this broker registers and leads its partitions on every core.
async fn lead(shard: &Rc<Shard>, plan: &Plan, listeners: &[ListenerConfig]) -> Result<(), BrokerError> {
    let log = shard.partition(&placement::METADATA_PARTITION).expect("opened with core 0's engine");
    let parts = ControllerParts {
        config: plan.config.clone(),
        opened: plan.opened.clone(),
        log: Rc::new(log),
        publisher: Rc::new(ToAllCores::from(shard)),
        directory: plan.log_directory.attach(shard.ring()),
        runtime: RingRuntime::new(shard.ring()),
    };
    shard.set_controller(Controller::start(parts, listeners).await?);
    Ok(())
}

/// The listeners; dropping it closes them.
struct Listening {
    accepting: Vec<AbortHandle>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.accepting.iter().for_each(AbortHandle::abort);
    }
}

/// Completes once partitions cannot have been written for so long that a stop, which writes, will not come to its end.
async fn stays_full(shard: &Rc<Shard>) {
    let mut looks = 0;
    while looks < FULL_LOOKS {
        shard.ring().sleep(FULL_LOOK).await;
        let full =
            shard.cores().map(|core| shard.call(core, |shard| async move { shard.engine().is_full() }));
        looks = if join_all(full).await.contains(&true) { looks + 1 } else { 0 };
    }
}

/// Has no more requests read, and closes the connections once what was asked is answered and producers have read it:
/// who has no answer asks again, and a member whose connection just breaks takes its time to look for another
/// coordinator.
async fn end_connections(shard: &Rc<Shard>) {
    let answered = shard.cores().map(|core| {
        shard.call(core, |shard| async move {
            shard.connections().cease();
            // Whoever does not take its answers by then had time enough.
            let _ = shard.ring().timeout(ANSWERING_TIME, shard.connections().answered()).await;
        })
    });
    join_all(answered).await;
    for core in shard.cores() {
        shard.call(core, |shard| async move { shard.connections().close_all() }).await;
    }
}

/// Lets groups go, ends connections, closes every core's engine, seals the directory.
async fn stop(shard: &Rc<Shard>, plan: &Plan) -> Result<(), BrokerError> {
    route::stop(shard).await;
    end_connections(shard).await;
    let mut closed: Vec<ClosedCore> = Vec::new();
    let mut failed = None;
    if let Some(controller) = shard.controller()
        && let Err(error) = controller.stop().await
    {
        failed = Some(error.to_string());
    }
    let closing = shard.cores().map(|core| {
        shard.call(core, |shard| async move {
            shard.tell_turns();
            shard.engine().clone().close().await
        })
    });
    for result in join_all(closing).await {
        match result {
            Ok(core) => closed.push(core),
            Err(error) => failed = Some(error.to_string()),
        }
    }
    if failed.is_none() {
        let broker_epoch = shard.controller().map_or(-1, |controller| controller.broker_epoch());
        let sealed = recovery::seal(plan.log_directory.attach(shard.ring()), closed, broker_epoch).await;
        failed = sealed.err().map(|error| error.to_string());
    }
    match failed {
        None => {
            tracing::info!("stopped");
            Ok(())
        }
        Some(why) => Err(BrokerError::Stop(why)),
    }
}
