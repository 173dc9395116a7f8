//! From settings and a target to what each thread will do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use kafka_protocol::messages::{FetchRequest, ProduceRequest};

use super::consumer::ConsumerPlan;
use super::placement;
use super::producer::{ProducerPlan, Schedule};
use super::settings::{LoadSettings, StartAt};
use super::thread::ThreadPlan;
use crate::error::BenchError;
use crate::protocol::admin::{Admin, by_leader};
use crate::protocol::requests::{FetchTemplate, ProduceTemplate};

/// Makes the topic, and the plan of each thread. `pid` is the target's, if it is known.
pub fn prepare(
    settings: &LoadSettings,
    admin: &mut Admin,
    pid: Option<u32>,
) -> Result<Vec<ThreadPlan>, BenchError> {
    let leaders = by_leader(&admin.prepare_topic(&settings.wanted_topic()?)?);
    let leaders: Vec<_> = leaders.into_iter().collect();
    let mut threads: Vec<_> = (0..settings.threads).map(|nth| empty_thread(settings, nth)).collect();
    for index in 0..settings.connections {
        let thread = index % settings.threads;
        threads[thread].producers.push(producer(settings, admin, pid, &leaders, index)?);
    }
    let background = |nth| ThreadPlan { is_in_background: true, ..empty_thread(settings, nth) };
    let mut readers: Vec<_> = (0..settings.consumer_threads).map(background).collect();
    for (index, consumer) in consumers(settings, admin, &leaders)?.into_iter().enumerate() {
        let reading = if readers.is_empty() { &mut threads } else { &mut readers };
        let thread = index % reading.len();
        reading[thread].consumers.push(consumer);
    }
    threads.append(&mut readers);
    Ok(threads)
}

fn empty_thread(settings: &LoadSettings, nth: usize) -> ThreadPlan {
    ThreadPlan {
        producers: Vec::new(),
        consumers: Vec::new(),
        is_in_background: false,
        core: (!settings.cores.is_empty()).then(|| settings.cores[nth % settings.cores.len()]),
        // Consumers of another process are not waited for.
        groups: if settings.consumers > 0 { settings.groups as u64 } else { 0 },
        patience: Duration::from_secs_f64(settings.patience),
        bytes_max: settings.bytes_max.unwrap_or(u64::MAX),
    }
}

/// Connection `index` produces to one leader, to a share of its partitions: the connections of a leader share
/// them out, and where there are more connections than partitions, several have the same.
fn producer(
    settings: &LoadSettings,
    admin: &mut Admin,
    pid: Option<u32>,
    leaders: &[(SocketAddr, Vec<i32>)],
    index: usize,
) -> Result<ProducerPlan, BenchError> {
    let (leader, partitions) = &leaders[index % leaders.len()];
    let sharers = (settings.connections - index % leaders.len()).div_ceil(leaders.len());
    let (stream, share) = match settings.wrong_core {
        None => (None, share(partitions, index / leaders.len(), sharers)),
        Some(wrong) => {
            let pid = pid.ok_or_else(|| {
                BenchError::Refused("--wrong-core: the target is not on this machine".to_owned())
            })?;
            let (target, place) = ((*leader, partitions.as_slice()), (settings.topic.as_str(), pid));
            // A target that deals its connections out in turn has some of either kind on each core.
            let is_wrong = (index as f64) < wrong * settings.connections as f64;
            let (stream, partition) = placement::place(admin, target, place, index, is_wrong)?;
            (Some(stream), vec![partition])
        }
    };
    let version = admin.version::<ProduceRequest>(3..=12)?;
    let identity = settings.idempotent.then(|| admin.producer_identity()).transpose()?;
    let shape = settings.batch_shape();
    let templates = share.chunks(settings.request_batches).enumerate().map(|(nth, partitions)| {
        let seed = settings.seed.wrapping_add((index * 10_007 + nth * 101) as u64);
        ProduceTemplate::new(&settings.topic, partitions, &shape, settings.acks, version, identity, seed)
    });
    Ok(ProducerPlan {
        leader: *leader,
        stream,
        templates: templates.collect::<Result<_, _>>()?,
        version,
        depth: settings.depth(),
        acks: settings.acks,
        schedule: settings.requests_per_second().map(|requests_per_second| Schedule {
            requests_per_second,
            index,
            connections: settings.connections,
        }),
        is_awaited: shape.is_stamped && settings.consumers > 0 && settings.from == StartAt::Latest,
    })
}

/// The share of sharer `nth`: every item belongs to somebody, and nobody goes without.
fn share(items: &[i32], nth: usize, sharers: usize) -> Vec<i32> {
    if sharers >= items.len() {
        return vec![items[nth % items.len()]];
    }
    items.iter().copied().skip(nth).step_by(sharers).collect()
}

fn consumers(
    settings: &LoadSettings,
    admin: &Admin,
    leaders: &[(SocketAddr, Vec<i32>)],
) -> Result<Vec<ConsumerPlan>, BenchError> {
    if settings.consumers + settings.stalled == 0 {
        return Ok(Vec::new());
    }
    let version = admin.version::<FetchRequest>(4..=12)?;
    let mut offsets = BTreeMap::new();
    for (leader, partitions) in leaders {
        let is_earliest = settings.from == StartAt::Earliest || settings.again;
        let found = Admin::offsets(*leader, &settings.topic, partitions, is_earliest)?;
        offsets.extend(partitions.iter().copied().zip(found));
    }
    let plan = |leader: SocketAddr, partitions: Vec<i32>, is_stalled: bool| {
        let shape = settings.fetch_shape();
        let start = |partition: &i32| if is_stalled { 0 } else { offsets[partition] };
        Ok(ConsumerPlan {
            leader,
            offsets: partitions.iter().map(start).collect(),
            template: FetchTemplate::new(&settings.topic, &partitions, &shape, version)?,
            partitions,
            version,
            again: settings.again,
            is_stalled,
        })
    };
    let mut plans = Vec::new();
    for _ in 0..settings.groups {
        for nth in 0..settings.consumers {
            for (leader, partitions) in leaders {
                // More consumers than partitions: those too many have nothing to do, as in a real group.
                let share: Vec<_> =
                    partitions.iter().copied().skip(nth).step_by(settings.consumers).collect();
                if !share.is_empty() {
                    plans.push(plan(*leader, share, false)?);
                }
            }
        }
    }
    for nth in 0..settings.stalled {
        let (leader, partitions) = &leaders[nth % leaders.len()];
        let mut stalled = plan(*leader, vec![partitions[nth % partitions.len()]], true)?;
        let from = stalled.offsets.clone();
        stalled.template.prepare(0, &from);
        plans.push(stalled);
    }
    Ok(plans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_belongs_to_somebody_and_nobody_goes_without() {
        let items: Vec<i32> = (0..10).collect();
        for sharers in 1..25 {
            let shares: Vec<_> = (0..sharers).map(|nth| share(&items, nth, sharers)).collect();
            assert!(shares.iter().all(|share| !share.is_empty()), "{sharers} sharers");
            let mut all: Vec<_> = shares.concat();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all, items, "{sharers} sharers");
        }
    }
}
