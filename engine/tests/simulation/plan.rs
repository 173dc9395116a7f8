//! What a history does, as its seed decides before it begins.

use std::time::Duration;

use flumen_engine::storage::sim::{FaultPlan, Random};
use flumen_engine::{CoreId, EngineConfig, LogConfig};

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A clean stop.
    Close,
    /// The process is killed after so many operations of the disk; the machine lives.
    Kill(u64),
    /// The power is cut after so many operations of the disk.
    PowerCut(u64),
}

/// One life.
#[derive(Debug, Clone)]
pub struct LifePlan {
    /// On how many cores.
    pub cores: u16,
    /// How it ends.
    pub end: End,
    /// What fails in it.
    pub faults: FaultPlan,
    /// How many operations each client tries.
    pub operations: u64,
    /// The stop begins while the clients are still at work, so long after their begin.
    pub stops_after: Option<Duration>,
    /// Bits of the disk flip before it starts: then it only has to serve nothing wrong.
    pub damaged: bool,
}

/// One partition.
#[derive(Debug, Clone)]
pub struct PartitionPlan {
    /// Its log's settings, at first.
    pub config: LogConfig,
    /// How many idempotent producers write to it.
    pub idempotent: usize,
    /// How many others do.
    pub plain: usize,
    /// The largest batch that its clients send, roughly.
    pub batch_bytes_max: u64,
    /// The file is cut to the acknowledged bytes at any time.
    pub exact: bool,
    /// It follows a leader elsewhere: batches come as they are.
    pub replica: bool,
}

/// One history.
#[derive(Debug, Clone)]
pub struct Plan {
    /// One after the other.
    pub lives: Vec<LifePlan>,
    /// All that there are at first.
    pub partitions: Vec<PartitionPlan>,
    /// Bounds of each core's engine; the core is set later.
    pub engine: EngineConfig,
    /// Whether an administrator deletes records, truncates, and deletes partitions.
    pub administrator: bool,
    /// Whether the partitions' settings change now and then.
    pub settings_change: bool,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> (Self, Random) {
        let mut random = Random::new(seed);
        let mut plan = Self::drawn(&mut random);
        let before_last = plan.lives.len() - 1;
        hurry(&mut plan.lives[..before_last], &mut Random::new(!seed));
        grow(&mut plan.engine, &mut Random::new(seed.rotate_left(32)));
        gather(&mut plan, &mut Random::new(seed.rotate_left(16)));
        (plan, random)
    }

    fn drawn(random: &mut Random) -> Self {
        let with_faults = random.chance(1, 3);
        let mut lives: Vec<_> = (0..random.range(1..6)).map(|_| LifePlan::new(random, with_faults)).collect();
        // The last one tells whether all that was acknowledged is still there.
        lives.push(LifePlan {
            cores: 1,
            end: End::Close,
            faults: FaultPlan::default(),
            operations: 3,
            stops_after: None,
            damaged: random.chance(1, 8),
        });
        let mut engine = EngineConfig::new(CoreId(0), 1);
        engine.cache_bytes = *random.pick(&[1 << 20, 2 << 20, 8 << 20]);
        engine.journal_bytes = 1 << 20;
        engine.dirty_bytes_max = *random.pick(&[256 << 10, 1 << 20]);
        engine.bulk_bytes_min = *random.pick(&[4 << 10, 16 << 10, 64 << 10]);
        let partitions = (0..random.range(1..5)).map(|_| PartitionPlan::new(random)).collect();
        let (administrator, settings_change) = (random.chance(2, 3), random.chance(1, 2));
        Self { lives, partitions, engine, administrator, settings_change }
    }
}

/// Has the stop of some lives begin early. Of a randomness of its own: the other histories stay what they are.
fn hurry(lives: &mut [LifePlan], random: &mut Random) {
    for life in lives {
        if random.chance(1, 4) {
            let micros = *random.pick(&[10_000, 1_000_000, 300_000_000]);
            life.stops_after = Some(Duration::from_micros(random.range(0..micros)));
        }
    }
}

/// Has the journal grow while it is in use. As above.
fn grow(engine: &mut EngineConfig, random: &mut Random) {
    if random.chance(1, 4) {
        engine.journal_prepared_bytes = 512 << 10;
        engine.journal_bytes = *random.pick(&[1 << 20, 4 << 20]);
    }
}

/// Has partitions flushed together however few they are, at times on a file system to which others write. As above.
fn gather(plan: &mut Plan, random: &mut Random) {
    if random.chance(1, 2) {
        plan.engine.flushed_together_min = random.range(1..4) as usize;
        for life in &mut plan.lives {
            if random.chance(1, 4) {
                life.faults.sync_all_micros = *random.pick(&[90_000, 110_000, 3_000_000]);
            }
        }
    }
}

impl LifePlan {
    fn new(random: &mut Random, with_faults: bool) -> Self {
        let steps = match random.index(4) {
            // In the middle of the recovery.
            0 => random.range(1..60),
            1 => random.range(60..400),
            _ => random.range(400..3000),
        };
        let end = match random.index(8) {
            0 => End::Close,
            1 | 2 => End::Kill(steps),
            _ => End::PowerCut(steps),
        };
        let mut faults = FaultPlan::default();
        if with_faults && random.chance(1, 2) {
            match random.index(6) {
                0 => faults.write_per_million = 3000,
                1 => faults.flush_per_million = 3000,
                2 => faults.capacity_bytes = random.range(1 << 20..5 << 20),
                3 => faults.read_per_million = 20_000,
                4 => {
                    faults.capacity_bytes = random.range(1 << 20..5 << 20);
                    faults.write_per_million = 1000;
                }
                _ => {
                    faults.write_per_million = 500;
                    faults.flush_per_million = 500;
                    faults.read_per_million = 1000;
                    faults.name_per_million = 500;
                }
            }
        }
        let operations = *random.pick(&[5, 20, 60]);
        let cores = random.range(1..5) as u16;
        Self { cores, end, faults, operations, stops_after: None, damaged: false }
    }
}

impl PartitionPlan {
    /// A random partition.
    pub fn new(random: &mut Random) -> Self {
        let config = random_config(random);
        let is_durable = config.flush_messages == 1;
        Self {
            config,
            idempotent: random.index(3),
            plain: random.index(2),
            batch_bytes_max: *random.pick(&[200, 2000, 12_000]),
            exact: is_durable && random.chance(1, 8),
            replica: random.chance(1, 6),
        }
    }
}

/// A log's settings: of the durable class in four of five.
pub fn random_config(random: &mut Random) -> LogConfig {
    let mut config = LogConfig {
        segment_bytes: *random.pick(&[16 << 10, 64 << 10, 256 << 10]),
        index_interval_bytes: *random.pick(&[0, 512, 4096]),
        segment_index_bytes: *random.pick(&[10 << 20, 240]),
        file_delete_delay_ms: *random.pick(&[0, 1000, 60_000]),
        log_append_time: random.chance(1, 6),
        // The clients' clock has nothing to do with the broker's.
        timestamp_after_max_ms: i64::MAX,
        retention_ms: -1,
        ..LogConfig::default()
    };
    if random.chance(1, 5) {
        config.flush_messages = *random.pick(&[i64::MAX, 2, 20]);
        config.flush_ms = *random.pick(&[i64::MAX, 500]);
    }
    if random.chance(1, 4) {
        config.segment_ms = 60_000;
    }
    match random.index(6) {
        0 => config.retention_bytes = *random.pick(&[0, 50 << 10, 300 << 10]),
        1 => config.retention_ms = *random.pick(&[1000, 600_000]),
        _ => {}
    }
    config
}
