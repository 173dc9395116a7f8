//! S6: a backlog that does not fit into memory is read from its beginning while others produce.

use std::path::{Path, PathBuf};

use super::{Class, Stage};
use crate::compare::Comparison;
use crate::compare::measure::Measure;
use crate::compare::rounds::{Field, RoundSettings, Variant};
use crate::console::note;
use crate::error::BenchError;
use crate::load::settings::{LoadSettings, Rate, StartAt};

const TOPIC: &str = "backlog";

/// Targets of their own, each with a bound on its memory.
pub fn isolation(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    let (memory_bytes, backlog_bytes) =
        if stage.is_quick { (1 << 30, 2 << 30) } else { (2_u64 << 30, 6_u64 << 30) };
    let bound = MemoryBound::make(memory_bytes);
    let rounds = RoundSettings { rounds: stage.field.settings.rounds.min(3), ..stage.field.settings.clone() };
    let mut field = Field::start(&rounds, &stage.field.is_interrupted)?;
    let is_bound = bound.is_some();
    drop(bound);
    let measures = [
        Measure::AckP50,
        Measure::AckP99,
        Measure::AckP999,
        Measure::ConsumedMegabytes,
        Measure::RssMegabytes,
    ];
    let mut variants = Vec::new();
    for nth in 0..field.targets.len() {
        field.fill(nth, TOPIC, 4, backlog_bytes)?;
        for (words, consumers) in [("quiet", 0), ("beside catch-up", 2)] {
            let settings = LoadSettings {
                topic: TOPIC.to_owned(),
                partitions: 4,
                connections: 4,
                rate: Some(Rate::Bytes(20e6)),
                batch_records: 16,
                consumers,
                from: StartAt::Earliest,
                fetch_bytes: 4 << 20,
                overload: true,
                ..stage.base(Class::M)
            };
            let label = format!("{} {words}", field.targets[nth].name);
            variants.push(Variant { label, target: nth, settings });
        }
    }
    let what = format!(
        "20 MB/s in, M, while a backlog of {:.0} GB is read from its beginning",
        backlog_bytes as f64 / 1e9
    );
    let mut case = field.compare_variants("S6", &what, &variants, &measures)?;
    case.notes.push(if is_bound {
        format!("memory of each target bound to {:.1} GB by a cgroup", memory_bytes as f64 / 1e9)
    } else {
        "memory was not bound: no cgroup may be made here, so the backlog may be in the page cache".to_owned()
    });
    let tails = case.row(Measure::AckP999.name(), "ms").map(|row| row.targets.clone()).unwrap_or_default();
    let of = |variant: &Variant| tails.get(&variant.label).map(|spread| spread.median);
    let times = of(&variants[1]).zip(of(&variants[0])).map(|(beside, quiet)| beside / quiet);
    case.judge("ack p99.9, times that without readers: at most 1.5", times, 1.5, false);
    let read = case.row(Measure::ConsumedMegabytes.name(), "MB/s");
    let read = read.and_then(|row| Some(row.targets.get(&variants[1].label)?.median));
    let limit = |id| stage.limits.best(id, "").map(|limit| limit.value);
    let share = read.zip(limit("L5").zip(limit("L6"))).map(|(read, (disk, net))| read / disk.min(net));
    case.judge("read, share of the slower of disk (L5) and sendfile (L6): at least 0.85", share, 0.85, true);
    Ok(vec![case])
}

/// This process in a cgroup of its own, for as long as it starts the targets, which then stay there.
struct MemoryBound {
    home: PathBuf,
}

impl MemoryBound {
    /// `None` where no cgroup of the second kind may be made.
    fn make(memory_bytes: u64) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let home = root.join(own.trim().strip_prefix("0::/")?);
        let group = root.join("flumen-bench");
        let made = std::fs::create_dir_all(&group)
            .and_then(|()| std::fs::write(group.join("memory.max"), memory_bytes.to_string()))
            .and_then(|()| std::fs::write(group.join("cgroup.procs"), std::process::id().to_string()));
        match made {
            Ok(()) => Some(Self { home }),
            Err(error) => {
                note(&format!("memory is not bound: {}: {error}", group.display()));
                None
            }
        }
    }
}

impl Drop for MemoryBound {
    fn drop(&mut self) {
        // Where this fails the load has the same bound, which it does not come near.
        let _ = std::fs::write(self.home.join("cgroup.procs"), std::process::id().to_string());
    }
}
