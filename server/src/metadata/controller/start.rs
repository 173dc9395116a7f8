//! What the controller writes when a node starts and stops: who serves, and who leads.

use uuid::Uuid;

use super::Rules;
use super::configs::{ELIGIBLE_LEADER_REPLICAS_VERSION, MIN_INSYNC_REPLICAS};
use crate::config::ListenerConfig;
use crate::metadata::image::{ConfigResource, Image, METADATA_VERSION, PartitionImage};
use crate::metadata::records::{
    BeginTransaction, BrokerRegistrationChange, Config, EndTransaction, Endpoint, FenceChange, Levels,
    PartitionChange, Record, RegisterBroker, SupportedFeature,
};

/// Who registers.
#[derive(Debug, Clone)]
pub struct Registration<'a> {
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Random for each process.
    pub incarnation_id: Uuid,
    /// What clients are told.
    pub listeners: &'a [ListenerConfig],
    /// The offset that the registration's record will have: Kafka takes it for the epoch.
    pub broker_epoch: i64,
}

/// What an empty log begins with, as a metadata transaction like Kafka's. With eligible leader replicas on,
/// Kafka fixes `min.insync.replicas` for the whole cluster.
pub fn bootstrap(records: &[Record], min_insync_replicas: i32) -> Vec<Record> {
    let name = Some("Bootstrap records".to_owned());
    let mut out = vec![BeginTransaction { name }.into()];
    out.extend_from_slice(records);
    let eligible = |record: &Record| {
        matches!(record, Record::FeatureLevel(feature)
            if feature.name == ELIGIBLE_LEADER_REPLICAS_VERSION && feature.level > 0)
    };
    if records.iter().any(eligible) {
        let all = ConfigResource::all_brokers();
        out.push(
            Config {
                resource_type: all.kind as i8,
                resource_name: all.name,
                name: MIN_INSYNC_REPLICAS.into(),
                value: Some(min_insync_replicas.to_string()),
            }
            .into(),
        );
    }
    out.push(EndTransaction {}.into());
    out
}

/// The features that this broker keeps, each with its lowest and highest level, in the order in which Kafka
/// formats a directory. A new directory finalizes the highest of each, as Kafka 4.3 does, and no other feature:
/// one that is finalized is promised. What is finalized in a directory that Apache Kafka used may be more: it
/// stays finalized, and clients are told only of these.
pub const SUPPORTED_FEATURES: [(&str, i16, i16); 2] = [
    (METADATA_VERSION, Levels::METADATA_VERSION_MIN, Levels::METADATA_VERSION_MAX),
    ("eligible.leader.replicas.version", 0, 1),
];

/// Registers this broker under a new incarnation, fenced as Kafka does, unfences it, and has it lead its
/// partitions in a new epoch.
pub fn register(image: &Image, rules: &Rules<'_>, registration: &Registration<'_>) -> Vec<Record> {
    let endpoints = registration.listeners.iter().map(|listener| Endpoint {
        name: listener.name.clone(),
        host: listener.advertised_host.clone(),
        port: listener.advertised_port,
        security_protocol: 0,
    });
    let features = SUPPORTED_FEATURES.iter().map(|(name, level_min, level_max)| SupportedFeature {
        name: (*name).to_owned(),
        level_min: *level_min,
        level_max: *level_max,
    });
    let broker_epoch = registration.broker_epoch;
    let mut records: Vec<Record> = vec![
        RegisterBroker {
            broker_id: rules.node_id,
            is_migrating_zk_broker: false,
            incarnation_id: registration.incarnation_id,
            broker_epoch,
            endpoints: endpoints.collect(),
            features: features.collect(),
            rack: registration.rack.clone(),
            fenced: true,
            in_controlled_shutdown: false,
            log_directories: vec![rules.directory_id],
            cordoned_log_directories: None,
        }
        .into(),
        fence(rules, broker_epoch, FenceChange::Unfenced, 0),
    ];
    let own = [rules.node_id];
    for topic in image.topics().iter() {
        for (index, partition) in &topic.partitions {
            if !partition.replicas.contains(&rules.node_id) {
                continue;
            }
            records.push(lead(topic.id, *index, partition, &own, rules.directory_id).into());
        }
    }
    records
}

/// Only what is different is named, but always the leader: that begins a new epoch.
fn lead(
    topic_id: Uuid,
    partition_id: i32,
    partition: &PartitionImage,
    own: &[i32],
    directory_id: Uuid,
) -> PartitionChange {
    let in_place = |changed: bool, value: Vec<i32>| changed.then_some(value);
    let directory = partition.directories != [directory_id] && partition.replicas == own;
    PartitionChange {
        partition_id,
        topic_id,
        isr: in_place(partition.isr != own, own.to_vec()),
        leader: Some(own[0]),
        leader_recovery_state: (partition.leader_recovery_state != 0).then_some(0),
        eligible_leader_replicas: in_place(!partition.eligible_leader_replicas.is_empty(), Vec::new()),
        last_known_elr: in_place(!partition.last_known_elr.is_empty(), Vec::new()),
        directories: directory.then(|| vec![directory_id]),
        ..PartitionChange::default()
    }
}

/// A clean stop, as Kafka's controlled shutdown leaves it: nobody leads, this node may lead again, and it is
/// fenced, so that its next process need not wait for a session to end.
pub fn resign(image: &Image, rules: &Rules<'_>, broker_epoch: i64) -> Vec<Record> {
    let mut records = vec![fence(rules, broker_epoch, FenceChange::None, 1)];
    let eligible = image.cluster().feature("eligible.leader.replicas.version") > 0;
    for topic in image.topics().iter() {
        for (index, partition) in &topic.partitions {
            if partition.leader != rules.node_id {
                continue;
            }
            // Without eligible leaders the last in-sync replica stays in sync, so that it can be elected.
            let own = || Some(vec![rules.node_id]);
            let change = PartitionChange {
                partition_id: *index,
                topic_id: topic.id,
                isr: if eligible { Some(Vec::new()) } else { None },
                leader: Some(-1),
                eligible_leader_replicas: if eligible { own() } else { None },
                last_known_elr: if eligible { own() } else { None },
                ..PartitionChange::default()
            };
            records.push(change.into());
        }
    }
    records.push(fence(rules, broker_epoch, FenceChange::Fenced, 0));
    records
}

fn fence(rules: &Rules<'_>, broker_epoch: i64, fence: FenceChange, in_controlled_shutdown: i8) -> Record {
    BrokerRegistrationChange {
        broker_id: rules.node_id,
        broker_epoch,
        fence,
        in_controlled_shutdown,
        log_directories: Vec::new(),
        cordoned_log_directories: None,
    }
    .into()
}
