//! Fetch in two phases: ask the owners how much there is, share out the bytes, take them; or leave watches
//! until there is enough.
//!
//! On the connection's core; what a partition's owner does for another core runs over there as one call for
//! all of its partitions. Nothing polls: a fetch that waits costs its watches and a timer.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use flumen_engine::{CoreId, LeaderEpoch, Offset, PartitionId, Read, ReadError, ReadLimit, Watch};
use flumen_ring::Socket;
use futures_util::future::{LocalBoxFuture, join_all};
use kafka_protocol::error::ResponseError;

use super::super::epochs::check_leader_epoch;
use super::super::errors;
use crate::memory::Held;
use crate::shard::Shard;

/// A wait of at least this long also watches for the peer's end.
const HANG_UP_WATCHED_FROM: Duration = Duration::from_secs(5);

/// One partition of a fetch.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Which one.
    pub id: PartitionId,
    /// The first offset wanted.
    pub offset: Offset,
    /// Bytes to take at most.
    pub bytes_max: usize,
    /// The leader epoch that the client knows; −1 for none.
    pub leader_epoch: i32,
    /// The epoch of the last record that a follower has; −1 for none.
    pub last_fetched_epoch: i32,
}

/// What a whole fetch is bounded by.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes below which it waits.
    pub bytes_min: usize,
    /// Bytes to take at most, a first batch apart.
    pub bytes_max: usize,
    /// How long it waits.
    pub wait_max: Duration,
    /// How far it sees.
    pub limit: ReadLimit,
}

/// Where a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Bytes there are from the wanted offset on, no more than were asked for.
    pub available: usize,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The last stable offset.
    pub last_stable_offset: Offset,
    /// The log's start.
    pub log_start_offset: Offset,
    /// The epoch and its end from which a follower's log differs.
    pub diverging: Option<(LeaderEpoch, Offset)>,
}

/// What came of one partition.
#[derive(Debug)]
pub enum Gathered {
    /// Nothing new.
    Nothing(Standing),
    /// Records.
    Records(Read),
    /// An error of Kafka's.
    Failed(ResponseError),
}

/// Gathers what `targets` have, waiting up to the bound. In the order of the targets, with the memory that the
/// answer holds.
pub async fn gather(
    shard: &Rc<Shard>,
    targets: &[Target],
    bounds: &Bounds,
    socket: &Socket,
) -> (Vec<Gathered>, Held) {
    let deadline = shard.ring().now() + bounds.wait_max;
    loop {
        let standings = survey(shard, targets, bounds.limit).await;
        let failed = standings.iter().any(|standing| match standing {
            Ok(standing) => standing.diverging.is_some(),
            Err(_) => true,
        });
        let available: usize = standings.iter().flatten().map(|standing| standing.available).sum();
        let enough = available >= bounds.bytes_min || available >= bounds.bytes_max;
        if failed || enough || targets.is_empty() || shard.ring().now() >= deadline {
            return take(shard, targets, standings, bounds).await;
        }
        if !wait(shard, targets, &standings, bounds, deadline, socket).await {
            return take(shard, targets, standings, bounds).await;
        }
    }
}

type Standings = Vec<Result<Standing, ResponseError>>;

/// Asks every owner where its partitions stand.
async fn survey(shard: &Rc<Shard>, targets: &[Target], limit: ReadLimit) -> Standings {
    let elsewhere = by_core(shard, targets.iter().enumerate());
    let mut standings: Vec<Option<Result<Standing, ResponseError>>> = vec![None; targets.len()];
    for (place, target) in targets.iter().enumerate() {
        if shard.core_of(&target.id) == shard.core() {
            standings[place] = Some(stand(shard, target, limit));
        }
    }
    let mut replies = Vec::new();
    for (core, places) in elsewhere {
        let asked: Vec<Target> = places.iter().map(|place| targets[*place]).collect();
        let reply = shard
            .begin(core, move |shard| async move {
                asked.iter().map(|target| stand(&shard, target, limit)).collect::<Standings>()
            })
            .await;
        replies.push((places, reply));
    }
    for (places, reply) in replies {
        for (place, standing) in places.into_iter().zip(reply.await) {
            standings[place] = Some(standing);
        }
    }
    standings.into_iter().map(|standing| standing.expect("every target has an owner")).collect()
}

/// Where a partition of this core stands.
fn stand(shard: &Shard, target: &Target, limit: ReadLimit) -> Result<Standing, ResponseError> {
    let partition = shard.partition(&target.id).ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_leader_epoch(&partition, target.leader_epoch)?;
    let standing = |available, diverging| Standing {
        available,
        high_watermark: partition.high_watermark(),
        last_stable_offset: partition.last_stable_offset(),
        log_start_offset: partition.log_start_offset(),
        diverging,
    };
    if target.last_fetched_epoch >= 0 {
        let end = partition.end_offset_for_epoch(LeaderEpoch(target.last_fetched_epoch));
        let (epoch, end) = end.ok_or(ResponseError::OffsetOutOfRange)?;
        if epoch.0 < target.last_fetched_epoch || end < target.offset {
            return Ok(standing(0, Some((epoch, end))));
        }
    }
    let available = partition
        .available(target.offset, target.bytes_max, limit)
        .map_err(|error| errors::of_read(&error))?;
    Ok(standing(available, None))
}

/// Shares out the bytes in the targets' order, and reads.
async fn take(
    shard: &Rc<Shard>,
    targets: &[Target],
    standings: Standings,
    bounds: &Bounds,
) -> (Vec<Gathered>, Held) {
    // Judged only now, and counted before the reads: however many wait for the same records, each sees what the
    // others are about to hold.
    let memory = shard.answer_memory();
    let mut left = bounds.bytes_max.min(memory.answer_bytes_max());
    let mut held = memory.hold(0);
    let mut planned = 0;
    let mut first = true;
    let mut wanted: Vec<(usize, Wanted)> = Vec::new();
    for (place, (target, standing)) in targets.iter().zip(&standings).enumerate() {
        let Ok(standing) = standing else { continue };
        if standing.available == 0 || (left == 0 && !first) {
            continue;
        }
        let bytes_max = target.bytes_max.min(left);
        wanted.push((place, Wanted { target: *target, bytes_max, at_least_one: first, limit: bounds.limit }));
        let share = bytes_max.min(standing.available);
        left -= share;
        planned += share;
        first = false;
    }
    held.resize(planned);
    let mut gathered: Vec<Gathered> = standings
        .into_iter()
        .map(|standing| standing.map_or_else(Gathered::Failed, Gathered::Nothing))
        .collect();
    for (place, read) in read_all(shard, wanted).await {
        gathered[place] = match read {
            Ok(read) if read.slices.is_empty() => continue,
            Ok(read) => Gathered::Records(read),
            Err(error) => {
                if matches!(error, ReadError::Corrupt { .. } | ReadError::Storage(_)) {
                    tracing::error!(partition = %targets[place].id, %error, "a fetch failed");
                }
                Gathered::Failed(errors::of_read(&error))
            }
        };
    }
    (gathered, held)
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    target: Target,
    bytes_max: usize,
    at_least_one: bool,
    limit: ReadLimit,
}

async fn read_all(shard: &Rc<Shard>, wanted: Vec<(usize, Wanted)>) -> Vec<(usize, Result<Read, ReadError>)> {
    let mut here = Vec::new();
    let mut elsewhere: BTreeMap<CoreId, Vec<(usize, Wanted)>> = BTreeMap::new();
    for (place, wanted) in wanted {
        match shard.core_of(&wanted.target.id) {
            core if core == shard.core() => here.push((place, wanted)),
            core => elsewhere.entry(core).or_default().push((place, wanted)),
        }
    }
    let mut replies = Vec::new();
    for (core, wanted) in elsewhere {
        replies.push(shard.begin(core, move |shard| async move { read_here(&shard, wanted).await }).await);
    }
    let mut reads = read_here(shard, here).await;
    for reply in replies {
        reads.extend(reply.await);
    }
    reads
}

async fn read_here(shard: &Shard, wanted: Vec<(usize, Wanted)>) -> Vec<(usize, Result<Read, ReadError>)> {
    let reads = wanted.into_iter().map(async |(place, wanted)| {
        let Wanted { target, bytes_max, at_least_one, limit } = wanted;
        let read = match shard.partition(&target.id) {
            Some(partition) => partition.read(target.offset, bytes_max, at_least_one, limit).await,
            None => Err(ReadError::Deleted),
        };
        if matches!(read, Err(ReadError::Offline | ReadError::Storage(_))) {
            shard.end_if_offline();
        }
        (place, read)
    });
    join_all(reads).await
}

/// Waits for news of any target. Says whether to look again: not when the peer has gone.
async fn wait(
    shard: &Rc<Shard>,
    targets: &[Target],
    standings: &Standings,
    bounds: &Bounds,
    deadline: Instant,
    socket: &Socket,
) -> bool {
    let known = targets.iter().zip(standings).map(|(target, standing)| {
        let seen = standing.as_ref().map_or(Offset(0), |standing| standing.high_watermark);
        (target.id, seen)
    });
    let mut watches: Vec<Watch> = Vec::new();
    let mut elsewhere: BTreeMap<CoreId, Vec<(PartitionId, Offset)>> = BTreeMap::new();
    for (id, seen) in known {
        match shard.core_of(&id) {
            core if core == shard.core() => match shard.partition(&id) {
                Some(partition) => watches.push(partition.watch(seen)),
                None => return true,
            },
            core => elsewhere.entry(core).or_default().push((id, seen)),
        }
    }
    let mut replies: Vec<_> = elsewhere
        .into_iter()
        .map(|(core, known)| shard.wait_for(core, move |shard| watch_all(shard, known)))
        .collect();
    let mut time = shard.ring().sleep_until(deadline);
    let mut hung_up: Option<LocalBoxFuture<'_, ()>> = match bounds.wait_max >= HANG_UP_WATCHED_FROM {
        true => Some(Box::pin(async {
            // An error here shows again when the answer is sent.
            let _ = socket.hung_up().await;
        })),
        false => None,
    };
    poll_fn(|context| {
        let news = watches.iter_mut().any(|watch| Pin::new(watch).poll(context).is_ready())
            || replies.iter_mut().any(|reply| Pin::new(reply).poll(context).is_ready());
        if news || Pin::new(&mut time).poll(context).is_ready() {
            return Poll::Ready(true);
        }
        match hung_up.as_mut().map(|hung_up| hung_up.as_mut().poll(context)) {
            Some(Poll::Ready(())) => Poll::Ready(false),
            _ => Poll::Pending,
        }
    })
    .await
}

/// Waits for news of any of this core's partitions, for a connection of another core.
async fn watch_all(shard: Rc<Shard>, known: Vec<(PartitionId, Offset)>) {
    let mut watches = Vec::with_capacity(known.len());
    for (id, seen) in known {
        match shard.partition(&id) {
            Some(partition) => watches.push(partition.watch(seen)),
            None => return,
        }
    }
    poll_fn(|context| match watches.iter_mut().any(|watch| Pin::new(watch).poll(context).is_ready()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

fn by_core<'a>(
    shard: &Shard,
    targets: impl Iterator<Item = (usize, &'a Target)>,
) -> BTreeMap<CoreId, Vec<usize>> {
    let mut cores: BTreeMap<CoreId, Vec<usize>> = BTreeMap::new();
    for (place, target) in targets {
        let core = shard.core_of(&target.id);
        if core != shard.core() {
            cores.entry(core).or_default().push(place);
        }
    }
    cores
}
