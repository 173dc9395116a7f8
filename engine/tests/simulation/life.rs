//! The lives of a history: start, recover, serve, end.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use flumen_engine::batch::{BatchLimits, batches, check_verbatim};
use flumen_engine::checkpoints::decode_offsets;
use flumen_engine::layout::{CLEAN_SHUTDOWN, RECOVERY_POINT_CHECKPOINT, SegmentFile, SegmentFileKind};
use flumen_engine::storage::sim::{
    DiskStats, FaultPlan, Mutation, Random, SimDirectory, SimDisk, SimRuntime, Stopped,
};
use flumen_engine::storage::{Directory, Runtime};
use flumen_engine::{
    CoreId, Engine, EngineConfig, LeaderEpoch, Offset, OpenPartition, Partition, PartitionId, ProducerId,
    recovery,
};
use futures_util::future::{LocalBoxFuture, join, try_join_all};
use uuid::Uuid;

use crate::client::{Context, Producer, administrator, change, reader, settings};
use crate::follower::Leader;
use crate::model::{Checked, PartitionModel, Trace};
use crate::plan::{End, LifePlan, PartitionPlan, Plan};

/// What a history came to, for the test that a seed replays it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// What the disk did.
    pub disk: DiskStats,
    /// Records sent.
    pub records: u64,
}

/// Which promise is broken on purpose, to see that it is noticed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cheat {
    /// By the disk.
    pub disk: Mutation,
    /// The engine does not know who sent a batch.
    pub forgets_producers: bool,
    /// The engine takes twice the memory that it was given.
    pub doubles_memory: bool,
    /// A follower places what it fetched as a leader would.
    pub rewrites_verbatim: bool,
}

/// What outlives the broker: the disk, the clients, and what is known.
struct World {
    cheat: Cheat,
    disk: SimDisk,
    plan: Plan,
    slots: Vec<Slot>,
    ids: Rc<Cell<u64>>,
    producer_ids: Cell<i64>,
    trace: Trace,
    /// The wall clock at the next start.
    wall_ms: Cell<i64>,
    /// The life before ended cleanly.
    ended_cleanly: Cell<bool>,
    /// What the observer saw that must not be.
    objection: RefCell<Option<String>>,
}

/// A topic of one partition: the partition that it has now, and who writes to it.
struct Slot {
    index: i32,
    plan: PartitionPlan,
    held: RefCell<(Rc<PartitionModel>, Writers)>,
}

/// Who writes to a partition: producers, or the leader that it follows.
#[derive(Clone)]
struct Writers {
    producers: Vec<Rc<Producer>>,
    leader: Option<Rc<Leader>>,
}

impl Slot {
    fn new(index: i32, plan: PartitionPlan, random: &mut Random, producer_ids: &Cell<i64>) -> Self {
        let held = RefCell::new(new_partition(index, &plan, random, producer_ids));
        Self { index, plan, held }
    }

    fn model(&self) -> Rc<PartitionModel> {
        self.held.borrow().0.clone()
    }
}

/// A partition that is not there yet, with its producers.
fn new_partition(
    index: i32,
    plan: &PartitionPlan,
    random: &mut Random,
    producer_ids: &Cell<i64>,
) -> (Rc<PartitionModel>, Writers) {
    let topic = Uuid::from_u64_pair(random.bits(), random.bits());
    let model =
        PartitionModel::new(PartitionId { topic, partition: index }, format!("topic-{index}"), plan.clone());
    let mut producers = Vec::new();
    if plan.replica {
        producer_ids.set(producer_ids.get() + 1);
        let leader = Leader::new(ProducerId(producer_ids.get()), producer_ids.get() % 2 == 0);
        return (Rc::new(model), Writers { producers, leader: Some(Rc::new(leader)) });
    }
    for _ in 0..plan.idempotent {
        producer_ids.set(producer_ids.get() + 1);
        let first_sequence = *random.pick(&[0, i32::MAX - 20]);
        producers.push(Rc::new(Producer::new(Some(ProducerId(producer_ids.get())), first_sequence)));
    }
    for _ in 0..plan.plain {
        producers.push(Rc::new(Producer::new(None, -1)));
    }
    (Rc::new(model), Writers { producers, leader: None })
}

/// Runs the history of a seed.
pub fn run(seed: u64, cheat: Cheat, trace: Trace) -> Checked<Summary> {
    let (plan, mut random) = Plan::new(seed);
    let disk = SimDisk::new(random.fork());
    disk.set_mutation(cheat.disk);
    let producer_ids = Cell::new(0);
    let slots = plan.partitions.iter().enumerate();
    let slots = slots
        .map(|(index, partition)| Slot::new(index as i32, partition.clone(), &mut random, &producer_ids))
        .collect();
    for (index, partition) in plan.partitions.iter().enumerate() {
        trace.note(|| format!("topic-{index}: {partition:?}"));
    }
    trace.note(|| format!("{:?}", plan.engine));
    let lives = plan.lives.clone();
    let world = Rc::new(World {
        cheat,
        disk,
        plan,
        slots,
        producer_ids,
        ids: Rc::new(Cell::new(1)),
        trace,
        wall_ms: Cell::new(1_700_000_500_000),
        ended_cleanly: Cell::new(true),
        objection: RefCell::new(None),
    });
    for (number, life) in lives.iter().enumerate() {
        world.trace.note(|| format!("=== life {number}: {life:?}"));
        if life.damaged {
            damage(&world, &mut random);
        }
        run_life(&world, life, &mut random)?;
    }
    Ok(Summary { disk: world.disk.stats(), records: world.ids.get() })
}

/// One life, and what its end does to the disk.
fn run_life(world: &Rc<World>, life: &LifePlan, random: &mut Random) -> Checked {
    let runtime = SimRuntime::new(random.fork(), world.wall_ms.get());
    let steps = match life.end {
        End::Close => None,
        End::Kill(steps) | End::PowerCut(steps) => Some(steps),
    };
    world.disk.crash_after(steps);
    world.disk.set_faults(life.faults);
    for slot in &world.slots {
        let model = slot.model();
        if world.plan.settings_change && random.chance(1, 4) {
            // While the broker is down; where the log ends is not known, and does not matter.
            model.set_config(change(random, model.config()), Offset(0));
        }
        model.begin_life();
        model.leader_epoch.set(model.leader_epoch.get() + 1);
    }
    for (path, length, pending) in world.disk.files() {
        world.trace.note(|| format!("  {path}: {length} bytes, {pending} changes pending"));
        if path.ends_with("-checkpoint") {
            let contents = world.disk.contents(Path::new(&path)).unwrap_or_default();
            world.trace.note(|| format!("    {:?}", String::from_utf8_lossy(&contents)));
        }
    }
    let outcome = runtime.run(serve(world.clone(), runtime.clone(), life.clone()));
    runtime.crash();
    runtime.drop_tasks();
    world.wall_ms.set(runtime.wall_ms() + random.range(0..5000) as i64);
    world.disk.set_faults(FaultPlan::default());
    match outcome {
        Ok(closed) => {
            let closed = closed?;
            world.trace.note(|| format!("the life ended, cleanly: {closed}"));
            world.ended_cleanly.set(closed);
            world.disk.kill();
        }
        Err(Stopped::Crashed) => {
            world.trace.note(|| "the life was cut off".to_owned());
            world.ended_cleanly.set(false);
            if matches!(life.end, End::PowerCut(_)) { world.disk.crash() } else { world.disk.kill() }
        }
        Err(Stopped::Objected) => return Err(world.objection.take().unwrap_or_default()),
        Err(stopped) => {
            let waits = world.slots.iter().map(Slot::model);
            let waits = waits.map(|model| {
                let (in_flight, closed) = (model.in_flight.get(), model.closed.get());
                format!("{}: {in_flight} appends wait, being cut: {closed}", model.name)
            });
            return Err(format!("{stopped}; {}", waits.collect::<Vec<_>>().join(", ")));
        }
    }
    Ok(())
}

/// Starts the broker, serves, and stops it; whether it was stopped cleanly.
async fn serve(world: Rc<World>, runtime: Rc<SimRuntime>, life: LifePlan) -> Checked<bool> {
    let directory = SimDirectory::new(runtime.clone(), world.disk.clone());
    let faulty = life.faults != FaultPlan::default() || life.damaged;
    let engines = match open(&world, &runtime, &directory, &life).await {
        Ok(engines) => engines,
        Err(reason) if faulty => {
            world.trace.note(|| format!("not started: {reason}"));
            return Ok(false);
        }
        Err(reason) => return Err(format!("not started: {reason}")),
    };
    let mut served = Vec::new();
    for slot in &world.slots {
        let model = slot.model();
        let engine = &engines[core_of(model.id, life.cores)];
        let Some(partition) = engine.partition(&model.id) else {
            if faulty || !model.created.get() {
                continue;
            }
            return Err(format!("{} is not there after the start", model.name));
        };
        if partition.is_offline() && !faulty {
            return Err(format!("{} is offline after the start", model.name));
        }
        if life.damaged {
            model.check_damaged(&partition).await?;
            continue;
        }
        let (start, end) = (partition.log_start_offset(), partition.log_end_offset());
        world.trace.note(|| format!("{}: opened with {start}..{end}", model.name));
        if partition.is_offline() {
            continue;
        }
        model.check_recovered(&partition, world.ended_cleanly.get()).await?;
        served.push((model.clone(), partition));
    }
    if life.damaged {
        return Ok(false);
    }
    world.ended_cleanly.set(false);
    observe(&world, &runtime, &engines);
    if let Some(after) = life.stops_after {
        let stopped = stop_at_work(&world, &runtime, &life, &directory, engines, served, after).await?;
        return judge_stop(&world, &directory, stopped, faulty).await;
    }
    work(&world, &runtime, &life, &engines, &served).await?;
    check_offline(&engines)?;
    for (model, partition) in &served {
        if model.deleted.get() {
            continue;
        }
        if partition.is_offline() {
            if !faulty {
                return Err(format!("{} went offline", model.name));
            }
            continue;
        }
        model.check_watermarks(partition)?;
        model.read_all(partition).await?;
        for _ in 0..3 {
            let timestamp = model.pick_time(runtime.with_random(Random::bits));
            model.check_time(partition, timestamp).await?;
        }
    }
    let expected_ends = ends_of(&served);
    drop(served);
    let closed = close(&directory, engines).await;
    judge_stop(&world, &directory, closed.map(|()| expected_ends), faulty).await
}

/// Where each partition's log ends.
type Ends = Vec<(String, Offset)>;

fn ends_of(served: &[(Rc<PartitionModel>, Partition)]) -> Ends {
    let there = served.iter().filter(|(model, _)| !model.deleted.get());
    there.map(|(model, partition)| (model.name.clone(), partition.log_end_offset())).collect()
}

/// Whether a life ended cleanly; what it left is what a clean stop leaves.
async fn judge_stop(
    world: &World,
    directory: &Rc<SimDirectory>,
    stopped: Result<Ends, String>,
    faulty: bool,
) -> Checked<bool> {
    match stopped {
        Ok(expected_ends) => {
            check_clean_directory(world, directory, &expected_ends)
                .await
                .or_else(|reason| if faulty { Ok(()) } else { Err(reason) })?;
            Ok(true)
        }
        Err(reason) if faulty => {
            world.trace.note(|| format!("not closed: {reason}"));
            Ok(false)
        }
        Err(reason) => Err(format!("not closed: {reason}")),
    }
}

/// Stops the broker `after` a while, whatever its clients are at; where the logs ended, if that succeeded.
async fn stop_at_work(
    world: &Rc<World>,
    runtime: &Rc<SimRuntime>,
    life: &LifePlan,
    directory: &Rc<SimDirectory>,
    engines: Vec<Engine>,
    served: Vec<(Rc<PartitionModel>, Partition)>,
    after: Duration,
) -> Checked<Result<Ends, String>> {
    let stop = async {
        runtime.sleep(after).await;
        world.trace.note(|| "the stop begins".to_owned());
        served.iter().for_each(|(model, _)| model.stopping.set(true));
        let closed = close(directory, engines.clone()).await;
        world.trace.note(|| "the stop is done".to_owned());
        closed
    };
    let (worked, closed) = join(work(world, runtime, life, &engines, &served), stop).await;
    worked?;
    Ok(closed.map(|()| ends_of(&served)))
}

fn core_of(id: PartitionId, cores: u16) -> usize {
    id.partition as usize % usize::from(cores)
}

/// Recovers, opens every core's engine, and creates the partitions that are not there yet.
async fn open(
    world: &World,
    runtime: &Rc<SimRuntime>,
    directory: &Rc<SimDirectory>,
    life: &LifePlan,
) -> Result<Vec<Engine>, String> {
    // All that the journals may hold, or a part of it.
    let memory_bytes = world.plan.engine.cache_bytes as u64 / 8;
    let recovered = recovery::replay(runtime.clone(), directory.clone(), memory_bytes)
        .await
        .map_err(|error| format!("recovery: {error}"))?;
    let mut engines = Vec::new();
    for core in 0..life.cores {
        let mut config = world.plan.engine.clone();
        if world.cheat.doubles_memory {
            config.cache_bytes *= 2;
            config.dirty_bytes_max *= 2;
        }
        config.core = CoreId(core);
        config.cores = life.cores;
        let models: Vec<_> = world.slots.iter().map(Slot::model).collect();
        let mine = models.iter().filter(|model| core_of(model.id, life.cores) == usize::from(core));
        let known: Vec<_> = mine.clone().filter(|model| model.created.get()).map(|it| to_open(it)).collect();
        let engine = Engine::open(runtime.clone(), directory.clone(), config, known, recovered.clone())
            .await
            .map_err(|error| format!("core {core}: {error}"))?;
        for model in mine.filter(|model| !model.created.get()) {
            engine
                .create_partition(to_open(model))
                .await
                .map_err(|error| format!("{}: {error}", model.name))?;
            model.created.set(true);
        }
        engines.push(engine);
    }
    Ok(engines)
}

fn to_open(model: &PartitionModel) -> OpenPartition {
    OpenPartition {
        id: model.id,
        name: model.name.clone(),
        config: model.config(),
        leader_epoch: LeaderEpoch(model.leader_epoch.get()),
        exact: model.plan.exact,
    }
}

/// Runs every client to its end. The first check that fails ends all.
async fn work(
    world: &Rc<World>,
    runtime: &Rc<SimRuntime>,
    life: &LifePlan,
    engines: &[Engine],
    served: &[(Rc<PartitionModel>, Partition)],
) -> Checked {
    let context = Context {
        runtime: runtime.clone(),
        trace: world.trace.clone(),
        ids: world.ids.clone(),
        cheat: world.cheat,
        operations: life.operations,
        is_prompt: life.faults == FaultPlan::default() && !life.cores.is_multiple_of(2),
    };
    let mut clients: Vec<LocalBoxFuture<'static, Checked>> = Vec::new();
    for (model, partition) in served {
        let engine = engines[core_of(model.id, life.cores)].clone();
        let writers = world.slots[model.id.partition as usize].held.borrow().1.clone();
        for producer in writers.producers {
            let context = context.clone();
            let (model, partition) = (model.clone(), partition.clone());
            clients.push(Box::pin(async move { producer.run(context, model, partition).await }));
        }
        if let Some(leader) = writers.leader {
            let context = context.clone();
            let (model, partition) = (model.clone(), partition.clone());
            clients.push(Box::pin(async move { leader.run(context, model, partition).await }));
        }
        if world.plan.settings_change {
            let (model, partition) = (model.clone(), partition.clone());
            clients.push(Box::pin(settings(context.clone(), model, partition, engine.clone())));
        }
        clients.push(Box::pin(reader(context.clone(), model.clone(), partition.clone())));
        if world.plan.administrator {
            clients.push(Box::pin(administrator(context.clone(), model.clone(), partition.clone())));
            clients.push(Box::pin(delete_and_create(world.clone(), context.clone(), engine, model.clone())));
        }
    }
    clients.push(Box::pin(free_space(world.clone(), context, life.faults)));
    try_join_all(clients).await?;
    Ok(())
}

/// Makes room on a disk that is too small, after a while: whatever waits for that must go on then.
async fn free_space(world: Rc<World>, context: Context, faults: FaultPlan) -> Checked {
    if faults.capacity_bytes > 0 {
        let seconds = context.runtime.with_random(|random| random.range(0..60));
        context.runtime.sleep(Duration::from_secs(seconds)).await;
        context.trace.note(|| "there is space again".to_owned());
        world.disk.set_faults(FaultPlan { capacity_bytes: 0, ..faults });
    }
    Ok(())
}

/// Now and then, deletes a topic and creates it again with the same name.
async fn delete_and_create(
    world: Rc<World>,
    context: Context,
    engine: Engine,
    model: Rc<PartitionModel>,
) -> Checked {
    if !context.chance(1, 12) {
        return Ok(());
    }
    for _ in 0..8 {
        context.pause().await;
    }
    // The metadata says so first: whatever happens from here, the old one is no more.
    model.deleted.set(true);
    let slot = &world.slots[model.id.partition as usize];
    let fresh = context
        .runtime
        .with_random(|random| new_partition(slot.index, &slot.plan, random, &world.producer_ids));
    let created = fresh.0.clone();
    created.leader_epoch.set(model.leader_epoch.get());
    *slot.held.borrow_mut() = fresh;
    let deleted = engine.delete_partition(&model.id).await;
    context.trace.note(|| format!("{}: deleted: {deleted:?}", model.name));
    if deleted.is_err() {
        return Ok(());
    }
    let result = engine.create_partition(to_open(&created)).await;
    context.trace.note(|| format!("{}: created again: {:?}", model.name, result.as_ref().err()));
    if let Ok(partition) = result {
        created.created.set(true);
        created.read_all(&partition).await?;
        if partition.log_end_offset() != Offset(0) {
            return Err(format!("{}: created anew, and ends at {}", model.name, partition.log_end_offset()));
        }
    }
    Ok(())
}

/// Flips bits of what is durable. Base offset, length and epoch of a batch are left alone: no checksum covers
/// them, and a log that was flushed is not read again.
fn damage(world: &World, random: &mut Random) {
    let files = world.disk.files();
    if files.is_empty() {
        return;
    }
    for _ in 0..random.range(1..4) {
        let (path, length, _) = random.pick(&files).clone();
        if length == 0 {
            continue;
        }
        let position = random.range(0..length);
        if path.ends_with(".log") && in_uncovered_header(world, &path, position as usize) {
            continue;
        }
        let flipped = world.disk.flip_bit(Path::new(&path), position..position + 1);
        world.trace.note(|| format!("a bit of byte {position} of {path} flips: {flipped}"));
    }
}

fn in_uncovered_header(world: &World, path: &str, position: usize) -> bool {
    let Some(contents) = world.disk.contents(Path::new(path)) else { return true };
    let mut start = 0;
    for batch in batches(&contents) {
        let Ok((_, batch)) = batch else { return true };
        if (start..start + 21).contains(&position) {
            return true;
        }
        start += batch.len();
    }
    false
}

/// Has it looked after, between any two steps of this life, that memory stays within what the engines were given.
fn observe(world: &Rc<World>, runtime: &Rc<SimRuntime>, engines: &[Engine]) {
    let (world, engines) = (world.clone(), engines.to_vec());
    runtime.observe(move || match check_bounds(&world.plan.engine, &engines) {
        Ok(()) => true,
        Err(reason) => {
            *world.objection.borrow_mut() = Some(reason);
            false
        }
    });
}

fn check_bounds(config: &EngineConfig, engines: &[Engine]) -> Checked {
    // A last block that is cut off an exact partition's file is dirty again.
    let dirty_bytes_max = config.dirty_bytes_max as u64 + (16 << 10);
    for engine in engines {
        let stats = engine.stats();
        if stats.cache_bytes_used > config.cache_bytes as u64 {
            return Err(format!("the cache holds {} bytes", stats.cache_bytes_used));
        }
        if stats.dirty_bytes > dirty_bytes_max {
            return Err(format!("{} bytes are dirty", stats.dirty_bytes));
        }
    }
    Ok(())
}

/// A log directory that is offline takes all of its partitions along.
fn check_offline(engines: &[Engine]) -> Checked {
    for engine in engines.iter().filter(|engine| engine.directory_offline()) {
        if let Some(partition) = engine.partitions().iter().find(|partition| !partition.is_offline()) {
            return Err(format!("{} is online, its directory is not", partition.name()));
        }
    }
    Ok(())
}

async fn close(directory: &Rc<SimDirectory>, engines: Vec<Engine>) -> Result<(), String> {
    let mut closed = Vec::new();
    for engine in engines {
        closed.push(engine.close().await.map_err(|error| error.to_string())?);
    }
    recovery::seal(directory.clone(), closed, 1).await.map_err(|error| error.to_string())
}

/// After a clean stop the directory is one that Kafka starts on.
async fn check_clean_directory(
    world: &World,
    directory: &Rc<SimDirectory>,
    ends: &[(String, Offset)],
) -> Checked {
    let top = directory.list(Path::new("")).await.map_err(|error| error.to_string())?;
    if !top.iter().any(|entry| entry.name == CLEAN_SHUTDOWN) {
        return Err(format!("no {CLEAN_SHUTDOWN} after a clean stop"));
    }
    if let Some(folder) = top.iter().find(|entry| entry.is_directory && !entry.name.contains('-')) {
        return Err(format!("Kafka does not know the folder {}", folder.name));
    }
    if top.iter().any(|entry| entry.name == "flumen-journal") {
        return Err("a journal after a clean stop".to_owned());
    }
    let text = directory.read(Path::new(RECOVERY_POINT_CHECKPOINT), 1 << 20).await;
    let text = text.map_err(|error| error.to_string())?;
    let recovery_points = decode_offsets(&text).map_err(|error| error.to_string())?;
    for (name, end) in ends {
        let point = recovery_points.iter().find(|it| format!("{}-{}", it.topic, it.partition) == *name);
        if point.map(|it| it.offset) != Some(*end) {
            return Err(format!("{name}: recovery point {point:?}, ends at {end}"));
        }
        let has_gaps = world.slots.iter().any(|slot| slot.model().name == *name && slot.plan.replica);
        check_segments(directory, name, *end, has_gaps).await?;
    }
    let unflushed: Vec<_> = world.disk.files().into_iter().filter(|(_, _, pending)| *pending > 0).collect();
    let unflushed: Vec<_> = unflushed.iter().filter(|(path, ..)| path.ends_with(".log")).collect();
    if !unflushed.is_empty() {
        return Err(format!("not flushed at a clean stop: {unflushed:?}"));
    }
    Ok(())
}

/// Every segment holds whole batches to its last byte, and they follow one another, perhaps with gaps between them.
async fn check_segments(directory: &Rc<SimDirectory>, name: &str, end: Offset, has_gaps: bool) -> Checked {
    let files = directory.list(Path::new(name)).await.map_err(|error| error.to_string())?;
    let mut segments: Vec<_> = files.iter().filter_map(|file| SegmentFile::parse(&file.name)).collect();
    segments.retain(|file| *file == SegmentFile::live(file.offset, SegmentFileKind::Log));
    segments.sort();
    let mut next = None;
    for segment in &segments {
        let path = Path::new(name).join(segment.name());
        let log = directory.read(&path, 64 << 20).await.map_err(|error| error.to_string())?;
        let expected = *next.get_or_insert(segment.offset);
        if segment.offset != expected {
            return Err(format!("{name}: a segment at {}, not {expected}", segment.offset));
        }
        if log.is_empty() {
            continue;
        }
        let length = log.len();
        let sound: usize = batches(&log).map_while(Result::ok).map(|(_, batch)| batch.len()).sum();
        let limits = BatchLimits { max_message_bytes: u32::MAX };
        let checked = check_verbatim(log.into(), &limits)
            .map_err(|error| format!("{} at {sound} of {length}: {error}", path.display()))?;
        if checked.length() != length {
            return Err(format!("{}: {} of {length} bytes are batches", path.display(), checked.length()));
        }
        for summary in checked.summaries() {
            let is_due = Some(summary.base_offset) == next;
            if !(is_due || has_gaps && Some(summary.base_offset) > next) {
                return Err(format!("{}: {} where {next:?} was due", path.display(), summary.base_offset));
            }
            next = Some(Offset(summary.last_offset().0 + 1));
        }
    }
    match next {
        None if end == Offset(0) => Ok(()),
        Some(next) if next == end => Ok(()),
        next => Err(format!("{name}: files end at {next:?}, the log at {end}")),
    }
}
