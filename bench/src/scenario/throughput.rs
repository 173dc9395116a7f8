//! Scenarios of how much goes through, and what it costs: S1, S2, S3, S5, S7.

use super::{Class, Stage};
use crate::compare::Comparison;
use crate::compare::measure::Measure;
use crate::compare::verdict::Against;
use crate::compare::verdict::Wanted::{AtLeast, AtMost};
use crate::error::BenchError;
use crate::load::settings::{LoadSettings, Rate};

/// What each target has written before it is measured in bulk.
const FILL_BYTES: u64 = 2 << 30;

/// Two batches of 64 KiB for a partition, and something over, as connections do not keep step.
const TOUCH_BYTES: u64 = 200_000;

/// How many requests a connection of S1 has in flight: one, as an echo has; as many as Kafka's producer has by default
/// (`max.in.flight.requests.per.connection`); and more, as of clients that have no bound of their own.
const TINY_DEPTHS: [usize; 3] = [1, 5, 20];
const TINY_DEPTHS_QUICK: [usize; 2] = [1, 5];

/// S1: 64 connections, one record of 100 bytes in each request.
pub fn tiny_requests(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    let measures = [Measure::RequestsPerSecond, Measure::CpuPerRequest, Measure::AckP50, Measure::AckP99];
    let mut cases = Vec::new();
    let depths = if stage.is_quick { &TINY_DEPTHS_QUICK[..] } else { &TINY_DEPTHS };
    for &depth in depths {
        for (class, wanted) in [(Class::M, 12.0), (Class::D, 50.0)] {
            let load = LoadSettings { depth: Some(depth), ..tiny(stage, class) };
            let letter = class.letter();
            let (name, in_flight) = match depth {
                1 => (format!("S1-{letter}"), String::new()),
                _ => (format!("S1-{letter}-{depth}"), format!("{depth} requests in flight, ")),
            };
            let what = format!("64 connections, {in_flight}one record of 100 B a request, {letter}");
            let mut case = stage.field()?.compare(&name, &what, &load, &measures)?;
            let requests = Measure::RequestsPerSecond.figure();
            case.judge_against_peer(requests, wanted);
            if class == Class::M && depth == 1 {
                let echo = stage.limits.best("L7", "64 connections").map(|limit| limit.value);
                case.judge_against(requests, Against::new("L7", echo), AtLeast(0.6));
            }
            cases.push(case);
        }
    }
    Ok(cases)
}

/// S2: batches of 256 KiB into 8 partitions, in memory. What a broker takes when it has just started costs more than
/// what comes afterwards; so each has written for a while before.
pub fn bulk_ingest(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    const TOPIC: &str = "bulk";
    let load = LoadSettings { topic: TOPIC.to_owned(), ..bulk(stage, Class::M, 250) };
    stage.field()?.fill(&load, FILL_BYTES)?;
    let measures = [Measure::CpuPerGb, Measure::ProducedMegabytes, Measure::AckP99, Measure::WrittenPerByte];
    let what = "8 connections, 2 requests in flight, batches of 250 records of 1 KiB, M";
    let mut case = stage.field()?.compare("S2-M", what, &load, &measures)?;
    let cost = Measure::CpuPerGb.figure();
    case.judge_against_peer(cost, 15.0);
    let pipeline = stage.limits.best("L8", "").and_then(|limit| limit.cpu_seconds_per_gb);
    case.judge_against(cost, Against::new("L8", pipeline), AtLeast(0.8));
    stage.field()?.delete(TOPIC)?;
    Ok(vec![case])
}

/// S3: batches of 16 KiB, each acknowledged after a flush, into 1 to 512 partitions.
pub fn durable_ingest(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    let measures = [
        Measure::ProducedMegabytes,
        Measure::CpuPerGb,
        Measure::AckP50,
        Measure::AckP99,
        Measure::FlushesPerSecond,
        Measure::WrittenPerByte,
    ];
    // What a byte costs without the flush is measured with one number of partitions.
    const IN_MEMORY_PARTITIONS: i32 = 64;
    let steps: &[i32] = if stage.is_quick { &[64] } else { &[1, 16, 64, 512] };
    let load = LoadSettings { partitions: IN_MEMORY_PARTITIONS, ..bulk(stage, Class::M, 15) };
    let what = format!(
        "8 connections, 2 requests in flight, batches of 16 KiB, {IN_MEMORY_PARTITIONS} partitions, M"
    );
    let in_memory = stage.field()?.compare("S3-M-64", &what, &load, &measures)?;
    let mut cases = Vec::new();
    for partitions in steps {
        let load = LoadSettings { partitions: *partitions, ..bulk(stage, Class::D, 15) };
        let what =
            format!("8 connections, 2 requests in flight, batches of 16 KiB, {partitions} partitions, D");
        let mut case = stage.field()?.compare(&format!("S3-D-{partitions}"), &what, &load, &measures)?;
        case.judge_against_peer(Measure::ProducedMegabytes.figure(), 40.0);
        let commit = stage.limits.best("L4", "64 KiB").and_then(|limit| limit.latency.as_ref());
        for (measure, limit, times) in [
            (Measure::AckP50, commit.and_then(|commit| commit.p50_us), 1.5),
            (Measure::AckP99, commit.and_then(|commit| commit.p99_us), 2.0),
        ] {
            let limit = Against::new("L4", limit.map(|us| us / 1e3));
            case.judge_against(measure.figure(), limit, AtMost(times));
        }
        if *partitions == IN_MEMORY_PARTITIONS {
            let in_memory = Against::new("M", in_memory.ours(Measure::CpuPerGb.figure()));
            case.judge_against(Measure::CpuPerGb.figure(), in_memory, AtMost(1.3));
        }
        cases.push(case);
    }
    cases.push(in_memory);
    Ok(cases)
}

/// S5: 100 MB/s in, to one consumer and to eight that all read everything.
pub fn tail_fanout(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    let measures = [
        Measure::ConsumedMegabytes,
        Measure::CpuPerGb,
        Measure::EndToEndP50,
        Measure::EndToEndP99,
        Measure::DeviceReadMegabytes,
    ];
    let mut cases = Vec::new();
    let fans: &[usize] = if stage.is_quick { &[8] } else { &[1, 8] };
    for groups in fans.iter().copied() {
        let load = LoadSettings {
            connections: 4,
            rate: Some(Rate::Bytes(100e6)),
            batch_records: 64,
            partitions: 4,
            consumers: 1,
            groups,
            overload: true,
            ..stage.base(Class::M)
        };
        let what = format!("100 MB/s in by batches of 64 KiB, {groups} consumers of all of it, M");
        let mut case = stage.field()?.compare(&format!("S5-{groups}"), &what, &load, &measures)?;
        if groups == 8 {
            let cost = Measure::CpuPerGb.figure();
            case.judge_against_peer(cost, 8.0);
            let sendfile = stage.limits.best("L6", "").and_then(|limit| limit.cpu_seconds_per_gb);
            case.judge_against(cost, Against::new("L6", sendfile), AtLeast(0.8));
            case.judge(Measure::DeviceReadMegabytes.figure(), AtMost(1.0));
        }
        cases.push(case);
    }
    Ok(cases)
}

/// S7: 50 producers into ever more partitions. Each of them has two batches before: with the second, Apache Kafka
/// writes the first entry of the partition's indexes, which can take it tens of milliseconds of CPU time, and with a
/// thousand partitions nothing else would be measured.
pub fn many_partitions(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    let measures = [
        Measure::RecordsPerSecond,
        Measure::AckP99,
        Measure::AckP999,
        Measure::FlushesPerSecond,
        Measure::WrittenPerByte,
        Measure::RssMegabytes,
    ];
    let steps: &[i32] = if stage.is_quick { &[1, 1000] } else { &[1, 100, 1000, 4000] };
    let mut cases = Vec::new();
    for (class, wanted) in [(Class::M, 0.8), (Class::D, 0.6)] {
        let mut with_one = None;
        for partitions in steps {
            let load = LoadSettings {
                topic: format!("many-{}-{partitions}", class.letter()),
                connections: 50,
                depth: Some(2),
                partitions: *partitions,
                batch_records: 4,
                ..stage.base(class)
            };
            stage.field()?.fill(&load, *partitions as u64 * TOUCH_BYTES)?;
            let letter = class.letter();
            let what =
                format!("50 producers, 4 records of 1 KiB a request, {partitions} partitions, {letter}");
            let name = format!("S7-{letter}-{partitions}");
            let mut case = stage.field()?.compare(&name, &what, &load, &measures)?;
            let rate = Measure::RecordsPerSecond.figure();
            if *partitions == 1000 {
                case.judge_against(rate, Against::new("one partition", with_one), AtLeast(wanted));
            }
            with_one = with_one.or(case.ours(rate));
            stage.field()?.delete(&load.topic)?;
            cases.push(case);
        }
    }
    Ok(cases)
}

/// The load of S1.
pub fn tiny(stage: &Stage, class: Class) -> LoadSettings {
    LoadSettings { connections: 64, record_bytes: 100, ..stage.base(class) }
}

/// Batches of so many records of 1 KiB, as S2 and S3 have them.
pub fn bulk(stage: &Stage, class: Class, batch_records: usize) -> LoadSettings {
    LoadSettings { connections: 8, depth: Some(2), batch_records, ..stage.base(class) }
}
