//! Produce (0): batches are checked here, on the connection's core, and appended on their partitions'.
//!
//! [`start`] returns as soon as every batch is placed, or on its way to its core in order; what it returns
//! completes when all are acknowledged. acks=1 and acks=all are the same on one node: durable, where the
//! topic is of class D. acks=0 is placed like any other and gets no answer, but an error ends the
//! connection, so that the client looks for the leader anew.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flumen_engine::batch::{self, BatchError, BatchLimits, BatchSummary, CheckedBatches, Codec};
use flumen_engine::{Append, AppendError, AppendOrigin, Appended, CoreId, Partition, PartitionId};
use flumen_wire::StrBytes;
use flumen_wire::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
    ProduceTopicResponse,
};
use futures_util::future::{LocalBoxFuture, MaybeDone, join_all, maybe_done};
use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use super::{Refusal, RequestContext, RequestFacts, errors};
use crate::messages::Reply;
use crate::metadata::image::Image;
use crate::metadata::topic_config::{Resolver, Treatment};
use crate::metadata::topic_name;
use crate::shard::Shard;

mod rejected;
mod treat;

use treat::Refused;

/// From this version on topics go by their ids.
const TOPIC_IDS_FROM: i16 = 13;

/// The first version in which zstd may be used (KIP-110).
const ZSTD_FROM: i16 = 7;

/// What is said of a batch some of whose records have times that are not accepted.
const INVALID_TIMESTAMP: &str = "One or more records have been rejected due to invalid timestamp";

/// What a client calls itself that may append to internal topics. Kafka: `AdminUtils.ADMIN_CLIENT_ID`.
const ADMIN_CLIENT_ID: &str = "__admin_client";

/// A request that is placed: completes when it is acknowledged; `None` where no answer was asked for. A refusal ends
/// the connection.
pub type Pending = LocalBoxFuture<'static, Result<Option<Answer>, Refusal>>;

/// What a request is answered.
pub struct Answer {
    response: ProduceResponse,
    version: i16,
    correlation_id: i32,
}

impl Answer {
    /// Puts the whole frame behind what is there.
    pub fn put(&self, out: &mut BytesMut) {
        self.response.put(out, self.version, self.correlation_id);
    }
}

/// How an append ended, as it travels back to the connection's core.
struct Outcome {
    /// `None` where nothing was to be appended.
    result: Option<Result<Appended, AppendError>>,
    log_start_offset: i64,
}

impl Outcome {
    fn new(shard: &Shard, partition: &Partition, result: Option<Result<Appended, AppendError>>) -> Self {
        if matches!(result, Some(Err(AppendError::Offline))) {
            shard.end_if_offline();
        }
        Self { result, log_start_offset: partition.log_start_offset().0 }
    }
}

/// One partition of the answer, complete or under way.
enum Progress {
    Answered(ProducePartitionResponse),
    /// On its partition's core.
    Appending {
        index: i32,
        records: Bytes,
        refused: Option<Refused>,
        place: Place,
    },
}

/// Where an append is under way.
enum Place {
    /// On this core.
    Here { partition: Partition, append: Option<MaybeDone<Append>> },
    /// On another: which of that core's call.
    There { core: CoreId, place: usize },
}

/// What goes to another core: partitions, and what is appended to them. Nothing, where a partition is only
/// asked for its log's start, for the answer to a batch that is refused.
type Sent = BTreeMap<CoreId, Vec<(PartitionId, Option<CheckedBatches>)>>;

/// What other cores answered.
type Outcomes = BTreeMap<CoreId, Vec<Option<Outcome>>>;

/// The ways back.
type Elsewhere = BTreeMap<CoreId, MaybeDone<Reply<Vec<Option<Outcome>>>>>;

/// Checks and places the request's batches in the order of the calls.
pub async fn start(context: RequestContext, body: Bytes) -> Result<Pending, Refusal> {
    let version = context.request.version;
    let request = ProduceRequest::parse(&body, version).map_err(|error| Refusal::Malformed {
        what: format!("Produce request, version {version}"),
        why: error.to_string(),
    })?;
    let image = context.shard.image();
    let (acks, refused) = (request.acks, refused_as_a_whole(&request));
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut sent = Sent::new();
    for ProduceTopic { name, id, partitions } in merged(request.topics) {
        let topic = match version >= TOPIC_IDS_FROM {
            true => image.topic_by_id(id),
            false => image.topic(&name),
        };
        let is_closed =
            topic.is_some_and(|topic| is_closed(&topic.name, context.request.client_id.as_deref()));
        let mut progress = Vec::with_capacity(partitions.len());
        for ProducePartition { index, records } in partitions {
            let records = records.unwrap_or_default();
            let known = match (&refused, topic) {
                (Some((error, message)), _) => Err(failure(index, *error, message.clone())),
                (None, Some(topic)) if topic.has_partition(index) => {
                    Ok(PartitionId { topic: topic.id, partition: index })
                }
                (None, Some(_)) => Err(failure(index, ResponseError::UnknownTopicOrPartition, None)),
                (None, None) => Err(failure(index, unknown_topic(version), None)),
            };
            let check = || check(index, records.clone(), acks, version, is_closed);
            let checked = known.and_then(|id| Ok((id, Owner::of(&context.shard, &id), check()?)));
            progress.push(match checked {
                Err(answer) => Progress::Answered(answer),
                Ok((id, owner, checked)) => {
                    let checked = match treatment(&context.shard, &image, &checked, id) {
                        // On the heap: few need it, and every connection's task has room for what is not.
                        Some(treatment) => {
                            let name = named(&image, &name, id.topic);
                            Box::pin(treated(&context, checked, treatment, name, id.partition)).await
                        }
                        None => checked,
                    };
                    let (batches, refused) = match checked {
                        Checked::Sound(batches) => (Some(batches), None),
                        Checked::Refused(error) => (None, Some(error)),
                    };
                    match owner.place(id, batches, &mut sent) {
                        Some(place) => Progress::Appending { index, records, refused, place },
                        None => {
                            Progress::Answered(failure(index, ResponseError::UnknownTopicOrPartition, None))
                        }
                    }
                }
            });
        }
        topics.push((name, id, progress));
    }
    let mut elsewhere = Elsewhere::new();
    for (core, batches) in sent {
        let reply = context.shard.begin(core, move |shard| append_all(shard, batches)).await;
        elsewhere.insert(core, maybe_done(reply));
    }
    Ok(Box::pin(Placed { context, image, acks, topics, elsewhere }.finish()))
}

type Topic = (StrBytes, Uuid, Vec<Progress>);

/// A request whose batches are placed, or on their way.
struct Placed {
    context: RequestContext,
    image: Arc<Image>,
    acks: i16,
    topics: Vec<Topic>,
    elsewhere: Elsewhere,
}

impl Placed {
    /// The answer, once everything is acknowledged. One for each request under way, so what only words it has no room
    /// in what waits.
    #[expect(clippy::manual_async_fn, reason = "an async function has room for what it is called with twice")]
    fn finish(mut self) -> impl Future<Output = Result<Option<Answer>, Refusal>> {
        async move {
            self.acknowledged().await;
            self.answer()
        }
    }

    /// Waits until everything is acknowledged.
    async fn acknowledged(&mut self) {
        for reply in self.elsewhere.values_mut() {
            reply.await;
        }
        for progress in self.topics.iter_mut().flat_map(|(_, _, partitions)| partitions) {
            if let Progress::Appending { place: Place::Here { append: Some(append), .. }, .. } = progress {
                append.await;
            }
        }
    }

    /// Words the answer, once everything is acknowledged.
    fn answer(&mut self) -> Result<Option<Answer>, Refusal> {
        let mut outcomes: Outcomes = self
            .elsewhere
            .iter_mut()
            .map(|(core, reply)| (*core, Pin::new(reply).take_output().expect("waited for")))
            .collect();
        let mut response =
            ProduceResponse { topics: Vec::with_capacity(self.topics.len()), ..Default::default() };
        let mut failed = None;
        for (name, id, progress) in std::mem::take(&mut self.topics) {
            let mut partitions = Vec::with_capacity(progress.len());
            for progress in progress {
                let answer = self.word(progress, &name, id, &mut outcomes);
                if answer.error_code != 0 && failed.is_none() {
                    failed = Some(answer.error_code);
                }
                partitions.push(answer);
            }
            response.topics.push(ProduceTopicResponse { name, id, partitions });
        }
        let RequestFacts { version, correlation_id, .. } = self.context.request;
        match (self.acks, failed) {
            (0, None) => Ok(None),
            (0, Some(code)) => Err(Refusal::Unacknowledged(format!("error {code}"))),
            _ => Ok(Some(Answer { response, version, correlation_id })),
        }
    }

    fn word(
        &self,
        progress: Progress,
        name: &str,
        id: Uuid,
        outcomes: &mut Outcomes,
    ) -> ProducePartitionResponse {
        let (index, records, refused, place) = match progress {
            Progress::Answered(answer) => return answer,
            Progress::Appending { index, records, refused, place } => (index, records, refused, place),
        };
        let outcome = match place {
            Place::Here { partition, append } => {
                let result =
                    append.map(|mut append| Pin::new(&mut append).take_output().expect("waited for"));
                Some(Outcome::new(&self.context.shard, &partition, result))
            }
            Place::There { core, place } => {
                outcomes.get_mut(&core).and_then(|outcomes| outcomes[place].take())
            }
        };
        match (outcome, refused) {
            (None, _) => failure(index, ResponseError::UnknownTopicOrPartition, None),
            (Some(outcome), Some(refused)) => refused.word(index, outcome.log_start_offset),
            (Some(outcome), None) => word(index, &records, outcome, || named(&self.image, name, id)),
        }
    }
}

/// Each topic and partition once: of a partition that is named twice the last one counts, as in Kafka.
fn merged(sent: Vec<ProduceTopic>) -> Vec<ProduceTopic> {
    if let [ProduceTopic { partitions, .. }] = &sent[..]
        && partitions.len() == 1
    {
        // By far the most common request.
        return sent;
    }
    let mut topics: Vec<ProduceTopic> = Vec::with_capacity(sent.len());
    let mut places: BTreeMap<(StrBytes, Uuid), usize> = BTreeMap::new();
    for topic in sent {
        match places.entry((topic.name.clone(), topic.id)) {
            Entry::Occupied(place) => topics[*place.get()].partitions.extend(topic.partitions),
            Entry::Vacant(place) => {
                place.insert(topics.len());
                topics.push(topic);
            }
        }
    }
    for partitions in topics.iter_mut().map(|topic| &mut topic.partitions).filter(|all| all.len() > 1) {
        let indexes: BTreeSet<i32> = partitions.iter().map(|partition| partition.index).collect();
        if indexes.len() < partitions.len() {
            let last: BTreeMap<i32, ProducePartition> =
                partitions.drain(..).map(|partition| (partition.index, partition)).collect();
            partitions.extend(last.into_values());
        }
    }
    topics
}

/// What makes Kafka refuse every partition of a request before it looks at any of them: a first batch whose
/// header cannot be one, or a transaction without an id (`RequestUtils.flag` looks at first batches only).
fn refused_as_a_whole(request: &ProduceRequest) -> Option<(ResponseError, Option<String>)> {
    let all = request.topics.iter().flat_map(|topic| &topic.partitions);
    for records in all.filter_map(|partition| partition.records.as_ref()) {
        let Some(overhead) = records.get(..17) else { continue };
        let size = i32::from_be_bytes(overhead[8..12].try_into().expect("four bytes"));
        if size < 14 {
            let message = format!("Record size {size} is less than the minimum record overhead (14)");
            return Some((ResponseError::CorruptMessage, Some(message)));
        }
        let magic = overhead[16] as i8;
        if !(0..=2).contains(&magic) {
            let message = format!("Invalid magic found in record: {magic}");
            return Some((ResponseError::CorruptMessage, Some(message)));
        }
        let is_transactional = magic == 2 && records.get(22).is_some_and(|attributes| attributes & 0x10 != 0);
        if is_transactional && request.transactional_id.is_none() {
            return Some((ResponseError::TransactionalIdAuthorizationFailed, None));
        }
    }
    None
}

/// A partition that a known topic does not have is unknown as such, in every version.
fn unknown_topic(version: i16) -> ResponseError {
    match version >= TOPIC_IDS_FROM {
        true => ResponseError::UnknownTopicId,
        false => ResponseError::UnknownTopicOrPartition,
    }
}

/// Whether this client may not append to the topic: what the broker keeps for itself nobody else writes. As Kafka's
/// `ReplicaManager.appendToLocalLog`.
fn is_closed(topic: &str, client_id: Option<&str>) -> bool {
    topic_name::is_internal(topic) && client_id != Some(ADMIN_CLIENT_ID)
}

/// What the topic is called, also where the request has its id only; words about its records say it.
fn named<'a>(image: &'a Image, name: &'a str, id: Uuid) -> &'a str {
    match name {
        "" => image.topic_by_id(id).map_or("", |topic| &topic.name),
        name => name,
    }
}

/// What the check of a batch says, where its partition has a word too.
enum Checked {
    /// To be appended.
    Sound(CheckedBatches),
    /// Not to be appended; Kafka finds that in the log, and its answer has the log's start.
    Refused(Refused),
}

/// Everything that can be said of a batch without its partition's log. Where the topic `is_closed` to the client, that
/// is said of whatever could be a batch.
fn check(
    index: i32,
    records: Bytes,
    acks: i16,
    version: i16,
    is_closed: bool,
) -> Result<Checked, ProducePartitionResponse> {
    if !(-1..=1).contains(&acks) {
        return Err(failure(index, ResponseError::InvalidRequiredAcks, None));
    }
    // Its owner knows how large it may be.
    let limits = BatchLimits { max_message_bytes: u32::MAX };
    let checked = match batch::check(records, &limits) {
        Ok(checked) => checked,
        Err(error) if is_closed && is_found_by_append(&error) => {
            return Err(failure(index, ResponseError::InvalidTopicException, None));
        }
        Err(error) if is_found_in_log(&error) => {
            return Ok(Checked::Refused(Refused::plain(errors::of_batch(&error))));
        }
        Err(error) => return Err(failure(index, errors::of_batch(&error), None)),
    };
    for summary in checked.summaries() {
        if summary.codec == Codec::Zstd && version < ZSTD_FROM {
            return Err(failure(index, ResponseError::UnsupportedCompressionType, None));
        }
        if is_closed {
            return Err(failure(index, ResponseError::InvalidTopicException, None));
        }
        if summary.transactional {
            return Err(failure(index, ResponseError::TransactionalIdAuthorizationFailed, None));
        }
    }
    Ok(Checked::Sound(checked))
}

/// What has to be done to a batch before it is appended. Few topics ask for something; and few clients' batches, who
/// alone pay for the look into the topic's configuration.
fn treatment(shard: &Shard, image: &Image, checked: &Checked, id: PartitionId) -> Option<Treatment> {
    let Checked::Sound(batches) = checked else { return None };
    let treatment = shard.treatment(&id.topic).or_else(|| {
        batches.summaries().iter().any(BatchSummary::is_misdated).then_some(())?;
        let (topic, config) = (image.topic_by_id(id.topic)?, shard.config());
        Some(Resolver::new(&config.settings, image, config.node_id()).topic(&topic.name).1)
    })?;
    batches.summaries().iter().any(|summary| treatment.concerns(summary)).then_some(treatment)
}

/// Does it, off this core.
async fn treated(
    context: &RequestContext,
    checked: Checked,
    treatment: Treatment,
    topic: &str,
    index: i32,
) -> Checked {
    let Checked::Sound(batches) = checked else { return checked };
    let topic = topic.to_owned();
    let treating = move || treat::treat(batches, &treatment, &topic, index);
    match context.shard.compute().run(treating).await {
        Ok(batches) => Checked::Sound(batches),
        Err(refused) => Checked::Refused(refused),
    }
}

/// Whether Kafka finds this only when it begins to append, and not while it looks through the request.
fn is_found_by_append(error: &BatchError) -> bool {
    matches!(error, BatchError::TooLarge { .. } | BatchError::Checksum { .. }) || is_found_in_log(error)
}

/// Whether Kafka finds this only while it appends.
fn is_found_in_log(error: &BatchError) -> bool {
    match error {
        BatchError::BaseOffset { .. }
        | BatchError::Count { .. }
        | BatchError::Control
        | BatchError::Sequence { .. }
        | BatchError::UnknownCodec { .. }
        | BatchError::InvalidRecord { .. }
        | BatchError::Compressed => true,
        BatchError::NoBatch { .. }
        | BatchError::MoreThanOneBatch
        | BatchError::OldMagic { .. }
        | BatchError::InvalidMagic { .. }
        | BatchError::InvalidLength { .. }
        | BatchError::TooLarge { .. }
        | BatchError::Checksum { .. } => false,
    }
}

fn failure_free(index: i32) -> ProducePartitionResponse {
    ProducePartitionResponse::error(index, 0, None)
}

fn failure(index: i32, error: ResponseError, message: Option<String>) -> ProducePartitionResponse {
    ProducePartitionResponse::error(index, error.code(), message)
}

/// Where a partition lives.
enum Owner {
    /// On this core; `None` if it is not there.
    Here(Option<Partition>),
    There(CoreId),
}

impl Owner {
    /// What is looked at of a partition of this core comes into the processor's caches from now on, while the batch is
    /// checked: with many partitions it is in none.
    fn of(shard: &Shard, id: &PartitionId) -> Self {
        let core = shard.core_of(id);
        if core != shard.core() {
            return Self::There(core);
        }
        let partition = shard.partition(id);
        partition.iter().for_each(Partition::prefetch);
        Self::Here(partition)
    }

    /// Appends here, or puts the batches with those for their owner's core. `None` if there is no such partition.
    fn place(self, id: PartitionId, batches: Option<CheckedBatches>, sent: &mut Sent) -> Option<Place> {
        match self {
            Self::Here(partition) => {
                let partition = partition?;
                let append =
                    batches.map(|batches| maybe_done(partition.append(batches, AppendOrigin::Client)));
                Some(Place::Here { partition, append })
            }
            Self::There(core) => {
                let batch = sent.entry(core).or_default();
                batch.push((id, batches));
                Some(Place::There { core, place: batch.len() - 1 })
            }
        }
    }
}

/// Appends to the partitions of this core for a connection of another one. All are placed before the first
/// one is waited for.
fn append_all(
    shard: Rc<Shard>,
    batches: Vec<(PartitionId, Option<CheckedBatches>)>,
) -> impl Future<Output = Vec<Option<Outcome>>> {
    let appends: Vec<_> = batches
        .into_iter()
        .map(|(id, batches)| {
            let partition = shard.partition(&id)?;
            let append = batches.map(|batches| partition.append(batches, AppendOrigin::Client));
            Some((partition, append))
        })
        .collect();
    async move {
        let outcomes = appends.into_iter().map(async |appending| {
            let (partition, append) = appending?;
            let result = match append {
                Some(append) => Some(append.await),
                None => None,
            };
            Some(Outcome::new(&shard, &partition, result))
        });
        join_all(outcomes).await
    }
}

/// Words how an append ended.
fn word<'a>(
    index: i32,
    records: &Bytes,
    outcome: Outcome,
    topic: impl FnOnce() -> &'a str,
) -> ProducePartitionResponse {
    let Outcome { result, log_start_offset } = outcome;
    let error = match result.expect("sound batches are appended") {
        Ok(appended) => {
            return ProducePartitionResponse {
                base_offset: appended.base_offset.0,
                log_append_time_ms: appended.log_append_time.0,
                log_start_offset,
                ..failure_free(index)
            };
        }
        Err(error) => error,
    };
    let mut answer = failure(index, errors::of_append(&error), None);
    let is_told_without_log = matches!(
        error,
        AppendError::TooLarge { .. } | AppendError::LargerThanSegment { .. } | AppendError::Deleted
    );
    if !is_told_without_log {
        answer.log_start_offset = log_start_offset;
    }
    match &error {
        AppendError::KeylessOnCompacted => {
            answer.record_errors = rejected::keyless(records, topic(), index);
            answer.error_message = Some(rejected::keyless_summary(&answer.record_errors));
        }
        AppendError::InvalidTimestamp { timestamp, earliest, latest } => {
            let accepted = earliest.0..=latest.0;
            answer.record_errors = rejected::out_of_time(records, timestamp.0, &accepted);
            answer.error_message = Some(INVALID_TIMESTAMP.into());
        }
        AppendError::AppendTimeOfClient => {
            answer.record_errors = rejected::dated_by_client(records);
            answer.error_message = Some(INVALID_TIMESTAMP.into());
        }
        _ => {}
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_topics_are_closed_to_all_but_the_admin_client() {
        for topic in
            [topic_name::CONSUMER_OFFSETS, topic_name::TRANSACTION_STATE, topic_name::SHARE_GROUP_STATE]
        {
            assert!(is_closed(topic, None));
            assert!(is_closed(topic, Some("__admin_client-1")));
            assert!(!is_closed(topic, Some("__admin_client")));
        }
        assert!(!is_closed("__of_a_client", None));
    }

    #[test]
    fn what_waits_for_an_acknowledgement_is_small() {
        fn bytes_of_returned<R>(_: impl Fn(Placed) -> R) -> usize {
            size_of::<R>()
        }
        let bytes = bytes_of_returned(Placed::finish);
        assert!(bytes <= 256, "{bytes} bytes, for each request under way");
    }

    #[test]
    fn each_partition_comes_once_and_its_last_batch_counts() {
        let topic = |name: &'static str, partitions: &[(i32, &'static [u8])]| ProduceTopic {
            name: StrBytes::from_static_str(name),
            id: Uuid::nil(),
            partitions: partitions
                .iter()
                .map(|(index, records)| ProducePartition {
                    index: *index,
                    records: Some(Bytes::from_static(records)),
                })
                .collect(),
        };
        let one = vec![topic("a", &[(7, b"1")])];
        assert_eq!(merged(one.clone()), one);
        let sent =
            vec![topic("a", &[(2, b"1"), (1, b"2")]), topic("b", &[(0, b"3")]), topic("a", &[(2, b"4")])];
        assert_eq!(merged(sent), [topic("a", &[(1, b"2"), (2, b"4")]), topic("b", &[(0, b"3")])]);
    }

    #[test]
    fn a_closed_topic_is_told_of_whatever_could_be_a_batch() {
        let batch = |length: usize| {
            let mut batch = batch::BatchBuilder::new();
            batch.append(flumen_engine::Timestamp(1), None, Some(&[7; 10]), &[]);
            let mut bytes = batch.build().to_vec();
            bytes.truncate(length);
            bytes
        };
        let sound = batch(usize::MAX);
        let mut wrong = sound.clone();
        wrong[20] ^= 1;
        let code = |records: Vec<u8>, acks: i16, is_closed: bool| {
            check(3, records.into(), acks, 8, is_closed).err().map_or(0, |answer| answer.error_code)
        };
        let closed = ResponseError::InvalidTopicException.code();
        assert_eq!((code(sound.clone(), 1, true), code(sound.clone(), 1, false)), (closed, 0));
        assert_eq!(code(wrong.clone(), 1, true), closed);
        assert_eq!(code(wrong, 1, false), ResponseError::CorruptMessage.code());
        assert_eq!(code(batch(30), 1, true), ResponseError::InvalidRecord.code());
        assert_eq!(code(sound, 5, true), ResponseError::InvalidRequiredAcks.code());
    }
}
