//! Fetch in two phases: ask the owners how much there is, share out the bytes, take them; or leave watches
//! until there is enough.
//!
//! On the connection's core; what a partition's owner does for another core runs over there as one call for
//! all of its partitions. Nothing polls: a fetch that waits costs its watches and a timer. A session's watches
//! outlive the fetch, and bring into the next one what there was news of.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use flumen_engine::{Available, LeaderEpoch, Offset, PartitionId, Read, ReadError, ReadLimit, Watches};
use flumen_ring::Socket;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};
use kafka_protocol::error::ResponseError;

use super::super::epochs::check_leader_epoch;
use super::super::errors;
use crate::fetch_watches::{SessionWatches, Target, WatchedPartitions};
use crate::memory::Held;
use crate::messages::Reply;
use crate::owners;
use crate::shard::Shard;
use crate::time_slice::TimeSlice;

/// A wait of at least this long also watches for the peer's end.
const HANG_UP_WATCHED_FROM: Duration = Duration::from_secs(5);

/// So many partitions take some microseconds.
pub const PARTITIONS_AT_A_TIME: usize = 32;

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
    /// What there is from the wanted offset on, no more than was asked for.
    pub available: Available,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The last stable offset.
    pub last_stable_offset: Offset,
    /// The log's start.
    pub log_start_offset: Offset,
    /// The epoch and its end from which a follower's log differs.
    pub diverging: Option<(LeaderEpoch, Offset)>,
}

impl Standing {
    /// Whether only news can bring more.
    pub fn is_exhausted(&self) -> bool {
        self.available.bytes == 0 && self.diverging.is_none()
    }
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

/// A partition that was asked about, and where it stands.
type Surveyed = (Target, Result<Standing, ResponseError>);

/// Gathers what `targets` have, and what there is news of among what is watched, waiting up to the bound. In the
/// order of service, with the memory that the answer holds.
pub async fn gather(
    shard: &Rc<Shard>,
    mut targets: Vec<Target>,
    bounds: &Bounds,
    watches: Option<&SessionWatches>,
    socket: &Socket,
) -> (Vec<(Target, Gathered)>, Held) {
    let deadline = shard.ring().turn_began() + bounds.wait_max;
    loop {
        let surveyed = survey(shard, targets, bounds.limit, watches).await;
        let failed = surveyed.iter().any(|(_, standing)| match standing {
            Ok(standing) => standing.diverging.is_some(),
            Err(_) => true,
        });
        let standings =
            surveyed.iter().filter_map(|(target, standing)| Some((target, standing.as_ref().ok()?)));
        let available = readable_bytes(standings.map(|(target, at)| (at.available, target.bytes_max)));
        let enough = available >= bounds.bytes_min || available >= bounds.bytes_max;
        let nothing_to_wait_for = surveyed.is_empty() && watches.is_none();
        if failed || enough || nothing_to_wait_for || shard.ring().turn_began() >= deadline {
            return take(shard, surveyed, bounds).await;
        }
        if !wait(shard, &surveyed, bounds, watches, deadline, socket).await {
            return take(shard, surveyed, bounds).await;
        }
        targets = surveyed.into_iter().map(|(target, _)| target).collect();
    }
}

/// Bytes that an answer would have, of what there is and may be taken of each partition in the order of service.
fn readable_bytes(partitions: impl Iterator<Item = (Available, usize)>) -> usize {
    partitions.fold(0, |sum, (available, bytes_max)| sum + share(&available, bytes_max, sum == 0))
}

/// Bytes that one partition gives. The first one that has anything gives its first batch whole, however large that is,
/// so that a consumer goes on (KIP-74).
fn share(available: &Available, bytes_max: usize, is_first: bool) -> usize {
    let within = available.bytes.min(bytes_max);
    match available.first_batch_bytes {
        Some(first) if is_first => within.max(first),
        _ => within,
    }
}

/// Asks every owner where its partitions stand, and those that are watched for news.
async fn survey(
    shard: &Rc<Shard>,
    targets: Vec<Target>,
    limit: ReadLimit,
    watches: Option<&SessionWatches>,
) -> Vec<Surveyed> {
    let (here, mut elsewhere) = owners::here_and_elsewhere(shard, targets, |target| target.id);
    for core in watches.map(SessionWatches::cores).into_iter().flatten() {
        elsewhere.entry(core).or_default();
    }
    let is_alone = elsewhere.is_empty();
    let mut replies = Vec::new();
    for (core, given) in elsewhere {
        let visit = watches.map(|watches| watches.visit(shard, core));
        let asked = shard.begin(core, move |shard| async move {
            let watched = visit.and_then(|visit| shard.visitors().watched(visit));
            survey_here(&shard, given, limit, watched.as_deref()).await
        });
        replies.push(asked.await);
    }
    let given = here.len();
    let mut surveyed = survey_here(shard, here, limit, watches.map(|watches| &**watches.here())).await;
    for reply in replies {
        surveyed.extend(reply.await);
    }
    if !is_alone || surveyed.len() > given {
        surveyed.sort_unstable_by_key(|(target, _)| target.place);
    }
    surveyed
}

async fn survey_here(
    shard: &Shard,
    given: Vec<Target>,
    limit: ReadLimit,
    watched: Option<&RefCell<WatchedPartitions>>,
) -> Vec<Surveyed> {
    let slice = TimeSlice::of(shard.ring());
    let looked_at = match watched {
        Some(watched) => watched.borrow_mut().look_at(shard.engine(), given),
        None => given,
    };
    let mut surveyed = Vec::with_capacity(looked_at.len());
    for target in looked_at {
        surveyed.push((target, stand(shard, &target, limit)));
        if surveyed.len().is_multiple_of(PARTITIONS_AT_A_TIME) {
            slice.pause().await;
        }
    }
    surveyed
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
            return Ok(standing(Available::default(), Some((epoch, end))));
        }
    }
    let available = partition
        .available(target.offset, target.bytes_max, limit)
        .map_err(|error| errors::of_read(&error))?;
    Ok(standing(available, None))
}

/// Shares out the bytes in the order of service, and reads.
async fn take(
    shard: &Rc<Shard>,
    surveyed: Vec<Surveyed>,
    bounds: &Bounds,
) -> (Vec<(Target, Gathered)>, Held) {
    // Judged only now, and counted before the reads: however many wait for the same records, each sees what the
    // others are about to hold.
    let memory = shard.answer_memory();
    let mut left = bounds.bytes_max.min(memory.answer_bytes_max());
    let mut held = memory.hold(0);
    let mut planned = 0;
    let mut first = true;
    let mut wanted: Vec<(usize, PartitionRead)> = Vec::new();
    for (index, (target, standing)) in surveyed.iter().enumerate() {
        let Ok(standing) = standing else { continue };
        let bytes_max = target.bytes_max.min(left);
        // One whose first batch does not fit leaves its share to those behind it, as in Kafka.
        let fits =
            bytes_max > 0 && standing.available.first_batch_bytes.is_none_or(|first| first <= bytes_max);
        if standing.available.bytes == 0 || !(fits || first) {
            continue;
        }
        wanted.push((
            index,
            PartitionRead { target: *target, bytes_max, at_least_one: first, limit: bounds.limit },
        ));
        let share = share(&standing.available, bytes_max, first);
        left = left.saturating_sub(share);
        planned += share;
        first = false;
    }
    held.resize(planned);
    let mut gathered: Vec<(Target, Gathered)> = surveyed
        .into_iter()
        .map(|(target, standing)| (target, standing.map_or_else(Gathered::Failed, Gathered::Nothing)))
        .collect();
    for (index, read) in read_all(shard, wanted).await {
        let (target, outcome) = &mut gathered[index];
        *outcome = match read {
            Ok(read) if read.slices.is_empty() => continue,
            Ok(read) => Gathered::Records(read),
            Err(error) => {
                if matches!(error, ReadError::Corrupt { .. } | ReadError::Storage(_)) {
                    tracing::error!(partition = %target.id, %error, "a fetch failed");
                }
                Gathered::Failed(errors::of_read(&error))
            }
        };
    }
    (gathered, held)
}

#[derive(Debug, Clone, Copy)]
struct PartitionRead {
    target: Target,
    bytes_max: usize,
    at_least_one: bool,
    limit: ReadLimit,
}

async fn read_all(
    shard: &Rc<Shard>,
    wanted: Vec<(usize, PartitionRead)>,
) -> Vec<(usize, Result<Read, ReadError>)> {
    let (here, elsewhere) = owners::here_and_elsewhere(shard, wanted, |(_, wanted)| wanted.target.id);
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

async fn read_here(
    shard: &Shard,
    wanted: Vec<(usize, PartitionRead)>,
) -> Vec<(usize, Result<Read, ReadError>)> {
    let reads = wanted.into_iter().map(async |(index, wanted)| {
        let PartitionRead { target, bytes_max, at_least_one, limit } = wanted;
        let read = match shard.partition(&target.id) {
            Some(partition) => partition.read(target.offset, bytes_max, at_least_one, limit).await,
            None => Err(ReadError::Deleted),
        };
        if matches!(read, Err(ReadError::Offline | ReadError::Storage(_))) {
            shard.end_if_offline();
        }
        (index, read)
    });
    join_all(reads).await
}

/// Waits for news of any partition. Says whether to look again: not when the peer has gone.
async fn wait(
    shard: &Rc<Shard>,
    surveyed: &[Surveyed],
    bounds: &Bounds,
    watches: Option<&SessionWatches>,
    deadline: Instant,
    socket: &Socket,
) -> bool {
    let (mut here, mut elsewhere) = match watches {
        Some(watches) => await_session(shard, watches),
        None => await_once(shard, surveyed),
    };
    let mut time = shard.ring().sleep_until(deadline);
    let mut hung_up: Option<LocalBoxFuture<'_, ()>> = match bounds.wait_max >= HANG_UP_WATCHED_FROM {
        true => Some(Box::pin(async {
            // An error here shows again when the answer is sent.
            let _ = socket.hung_up().await;
        })),
        false => None,
    };
    poll_fn(|context| {
        let news = here.as_mut().poll(context).is_ready()
            || elsewhere.iter_mut().any(|reply| Pin::new(reply).poll(context).is_ready());
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

/// Completes with news of this core's partitions; and what does of other cores'.
type News = (LocalBoxFuture<'static, ()>, Vec<Reply<()>>);

/// Waits for news of what a session watches.
fn await_session(shard: &Rc<Shard>, watches: &SessionWatches) -> News {
    let here = watches.here().borrow().news().boxed_local();
    let elsewhere = watches.cores().into_iter().map(|core| {
        let visit = watches.visit(shard, core);
        shard.wait_for(core, move |shard| async move {
            // A session that has ended waits for nothing here.
            if let Some(watched) = shard.visitors().watched(visit) {
                let news = watched.borrow().news();
                news.await;
            }
        })
    });
    (here, elsewhere.collect())
}

/// Waits for news behind what was found, for this once.
fn await_once(shard: &Rc<Shard>, surveyed: &[Surveyed]) -> News {
    let known = surveyed.iter().map(|(target, standing)| {
        (target.id, standing.as_ref().map_or(Offset(0), |standing| standing.high_watermark))
    });
    let (here, elsewhere) = owners::here_and_elsewhere(shard, known, |(id, _)| *id);
    let here = match here.is_empty() {
        false => watch_all(shard.clone(), here).boxed_local(),
        true => std::future::pending().boxed_local(),
    };
    let elsewhere = elsewhere
        .into_iter()
        .map(|(core, known)| shard.wait_for(core, move |shard| watch_all(shard, known)))
        .collect();
    (here, elsewhere)
}

/// Completes when one of this core's partitions is no longer as it was known.
async fn watch_all(shard: Rc<Shard>, known: Vec<(PartitionId, Offset)>) {
    let (mut watches, slice) = (Watches::default(), TimeSlice::of(shard.ring()));
    for (number, (id, seen)) in (1..).zip(known) {
        if number % PARTITIONS_AT_A_TIME == 0 {
            slice.pause().await;
        }
        match shard.partition(&id) {
            Some(partition) if partition.high_watermark() == seen => watches.watch(&partition),
            _ => return,
        }
    }
    watches.news().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(bytes: usize, first: Option<usize>) -> Available {
        Available { bytes, first_batch_bytes: first }
    }

    #[test]
    fn the_first_batch_of_all_counts_whole() {
        let nothing = (Available::default(), 100);
        let large = (there(100, Some(7_000)), 100);
        let several = (there(90, Some(30)), 100);
        for (partitions, bytes) in [
            (vec![nothing, nothing], 0),
            (vec![nothing, large], 7_000),
            (vec![large, large, several], 7_000 + 100 + 90),
            (vec![several, large], 90 + 100),
            (vec![(there(100, None), 100)], 100),
        ] {
            assert_eq!(readable_bytes(partitions.into_iter()), bytes);
        }
    }
}
