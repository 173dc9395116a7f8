//! Where a partition's replicas go, and CreatePartitions.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{AdminError, Decision, RECORDS_PER_REQUEST_MAX, Rules};
use crate::metadata::image::Image;
use crate::metadata::records::{self, Record};

/// The record of a new partition with these replicas, of which the active ones are in sync.
pub(super) fn new_partition(
    image: &Image,
    rules: &Rules<'_>,
    topic_id: Uuid,
    index: i32,
    replicas: &[i32],
) -> Result<Record, AdminError> {
    let is_active = |id: &i32| image.cluster().broker(*id).is_some_and(|broker| broker.is_active());
    let isr: Vec<i32> = replicas.iter().copied().filter(is_active).collect();
    let Some(leader) = isr.first().copied() else {
        return Err(AdminError::new(
            ResponseError::InvalidReplicaAssignment,
            format!(
                "All brokers specified in the manual partition assignment for partition {index} are fenced \
                 or in controlled shutdown."
            ),
        ));
    };
    let directories = replicas
        .iter()
        .map(|id| if *id == rules.node_id { rules.directory_id } else { Uuid::nil() })
        .collect();
    Ok(records::Partition {
        partition_id: index,
        topic_id,
        replicas: replicas.to_vec(),
        isr,
        removing_replicas: Vec::new(),
        adding_replicas: Vec::new(),
        leader,
        leader_recovery_state: 0,
        leader_epoch: 0,
        partition_epoch: 0,
        directories,
        eligible_leader_replicas: None,
        last_known_elr: None,
    }
    .into())
}

/// The replicas of partition `index`, spread over the registered brokers.
pub(super) fn place(image: &Image, index: i32, replication_factor: i16) -> Result<Vec<i32>, AdminError> {
    let brokers: Vec<i32> = image.cluster().brokers().map(|broker| broker.registration.broker_id).collect();
    let refused = |why: String| {
        AdminError::new(
            ResponseError::InvalidReplicationFactor,
            format!("Unable to replicate the partition {replication_factor} time(s): {why}"),
        )
    };
    let count = usize::try_from(replication_factor).expect("the factor was checked");
    if !image.cluster().brokers().any(|broker| broker.is_active()) {
        return Err(refused("All brokers are currently fenced.".into()));
    }
    if count > brokers.len() {
        return Err(refused(format!(
            "The target replication factor of {count} cannot be reached because only {} broker(s) are \
             registered or some brokers have all their log directories cordoned.",
            brokers.len()
        )));
    }
    let first = usize::try_from(index).expect("partitions count from 0");
    Ok((0..count).map(|replica| brokers[(first + replica) % brokers.len()]).collect())
}

/// Checks an assignment that the user made. `count` is that of the topic's other partitions.
pub(super) fn check_assignment(
    image: &Image,
    replicas: &[i32],
    count: Option<usize>,
) -> Result<(), AdminError> {
    let refused = |why: String| Err(AdminError::new(ResponseError::InvalidReplicaAssignment, why));
    if replicas.is_empty() {
        return refused("The manual partition assignment includes an empty replica list.".into());
    }
    let mut seen = BTreeSet::new();
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    for id in sorted {
        if image.cluster().broker(id).is_none() {
            return refused(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
        if !seen.insert(id) {
            return refused(format!(
                "The manual partition assignment includes the broker {id} more than once."
            ));
        }
    }
    match count.filter(|count| *count != replicas.len()) {
        Some(count) => refused(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not \
             consistent with previous partitions, which have {count} replica(s).",
            replicas.len()
        )),
        None => Ok(()),
    }
}

/// CreatePartitions; `pause` comes between two steps. Kafka: `ReplicationControlManager.createPartitions`.
pub async fn create_partitions(
    image: &Image,
    rules: &Rules<'_>,
    topics: &[CreatePartitionsTopic],
    validate_only: bool,
    pause: impl AsyncFn(),
) -> Decision<Vec<CreatePartitionsTopicResult>> {
    let mut records = Vec::new();
    let (mut names, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for topic in topics {
        if !names.insert(&topic.name) {
            twice.insert(&topic.name);
        }
        pause().await;
    }
    let mut answer: Vec<CreatePartitionsTopicResult> = Vec::new();
    for topic in topics.iter().filter(|topic| !twice.contains(&topic.name)) {
        let done = grow(image, rules, topic, records.len(), &pause).await;
        answer.push(result(topic.name.clone(), done.map(|mut added| records.append(&mut added))));
        pause().await;
    }
    answer.extend(twice.into_iter().map(|name| {
        let error = AdminError::new(ResponseError::InvalidRequest, "Duplicate topic name.");
        result(name.clone(), Err(error))
    }));
    if validate_only {
        records.clear();
    }
    Decision { records, answer }
}

fn result(
    name: kafka_protocol::messages::TopicName,
    done: Result<(), AdminError>,
) -> CreatePartitionsTopicResult {
    let result = CreatePartitionsTopicResult::default().with_name(name).with_error_message(None);
    match done {
        Ok(()) => result,
        Err(error) => result
            .with_error_code(error.error.code())
            .with_error_message(error.message.map(StrBytes::from_string)),
    }
}

async fn grow(
    image: &Image,
    rules: &Rules<'_>,
    topic: &CreatePartitionsTopic,
    records_before: usize,
    pause: impl AsyncFn(),
) -> Result<Vec<Record>, AdminError> {
    let name = topic.name.as_str();
    let Some(existing) = image.topic(name) else {
        return Err(AdminError { error: ResponseError::UnknownTopicOrPartition, message: None });
    };
    let current = existing.partitions.len() as i32;
    let refused = |why: String| Err(AdminError::new(ResponseError::InvalidPartitions, why));
    if topic.count == current {
        return refused(format!("Topic already has {current} partition(s)."));
    }
    if topic.count < current {
        return refused(format!(
            "The topic {name} currently has {current} partition(s); {} would not be an increase.",
            topic.count
        ));
    }
    let additional = (topic.count - current) as usize;
    if let Some(assignments) = topic.assignments.as_ref().filter(|given| given.len() != additional) {
        return Err(AdminError::new(
            ResponseError::InvalidReplicaAssignment,
            format!(
                "Attempted to add {additional} additional partition(s), but only {} assignment(s) were \
                 specified.",
                assignments.len()
            ),
        ));
    }
    if records_before + additional > RECORDS_PER_REQUEST_MAX {
        let message = "Excessively large number of partitions per request.";
        return Err(AdminError::new(ResponseError::PolicyViolation, message));
    }
    let replication_factor = existing.partitions.values().next().map_or(1, |first| first.replicas.len());
    let mut records = Vec::with_capacity(additional);
    for (added, index) in (current..topic.count).enumerate() {
        let replicas = match &topic.assignments {
            Some(assignments) => {
                let replicas: Vec<i32> = assignments[added].broker_ids.iter().map(|id| id.0).collect();
                check_assignment(image, &replicas, Some(replication_factor))?;
                replicas
            }
            None => place(image, index, i16::try_from(replication_factor).unwrap_or(i16::MAX))?,
        };
        records.push(new_partition(image, rules, existing.id, index, &replicas)?);
        pause().await;
    }
    Ok(records)
}
