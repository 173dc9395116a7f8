//! Expectations were asked of Apache Kafka 4.3.1 with its admin client.

use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;

use futures_util::FutureExt;

use super::*;
use crate::config::ListenerConfig;
use crate::metadata::image::ConfigResource;
use crate::metadata::records;

struct Bench {
    image: Image,
    settings: Settings,
    next_id: u128,
}

const DIRECTORY: Uuid = Uuid::from_u128(0xd1);

fn rules(settings: &Settings) -> Rules<'_> {
    let topics = TopicDefaults {
        partitions: 1,
        replication_factor: 1,
        min_insync_replicas: 1,
        auto_create: true,
        deletable: true,
    };
    Rules { node_id: 1, directory_id: DIRECTORY, topics, settings }
}

/// A decision whose pauses wait for nobody.
fn at_once<T>(decision: impl Future<Output = T>) -> T {
    decision.now_or_never().expect("no pause waits")
}

impl Bench {
    fn new() -> Self {
        let settings = Settings::gather(None, [], &[]).expect("valid");
        let mut bench = Self { image: Image::default(), settings, next_id: 1000 };
        let features = [
            records::FeatureLevel { name: "metadata.version".into(), level: 30 }.into(),
            records::FeatureLevel { name: "eligible.leader.replicas.version".into(), level: 1 }.into(),
        ];
        bench.apply(&features);
        bench.register(7);
        bench
    }

    fn register(&mut self, broker_epoch: i64) {
        let listeners = [ListenerConfig {
            name: "PLAINTEXT".into(),
            host: String::new(),
            port: 9092,
            advertised_host: "localhost".into(),
            advertised_port: 9092,
        }];
        let registration = Registration {
            rack: None,
            incarnation_id: Uuid::from_u128(5),
            listeners: &listeners,
            broker_epoch,
        };
        let records = register(&self.image, &rules(&self.settings), &registration);
        self.apply(&records);
    }

    fn apply(&mut self, records: &[Record]) {
        for record in records {
            let bytes = record.to_bytes(self.image.levels());
            let read = Record::read(&bytes).expect("our own record");
            assert_eq!(&read, record, "what is written is read back");
            self.image.apply(record).expect("a decision fits the image it was made for");
        }
    }

    /// `None`, or the error's number and words.
    fn create(&mut self, topic: CreatableTopic) -> Option<(i16, String)> {
        let next = &mut self.next_id;
        let id = || {
            *next += 1;
            Uuid::from_u128(*next)
        };
        let rules = rules(&self.settings);
        let decision = at_once(create_topics(&self.image, &rules, &[topic], false, id, async || ()));
        self.apply(&decision.records);
        told(decision.answer[0].error_code, &decision.answer[0].error_message, decision.records.is_empty())
    }

    fn grow(&mut self, topic: CreatePartitionsTopic) -> Option<(i16, String)> {
        let rules = rules(&self.settings);
        let decision = at_once(create_partitions(&self.image, &rules, &[topic], false, async || ()));
        self.apply(&decision.records);
        told(decision.answer[0].error_code, &decision.answer[0].error_message, decision.records.is_empty())
    }

    fn delete(&mut self, topics: Vec<DeleteTopicState>) -> Vec<(i16, String)> {
        let request = DeleteTopicsRequest::default().with_topics(topics);
        let rules = rules(&self.settings);
        let decision = at_once(delete_topics(&self.image, &rules, &request, async || ()));
        self.apply(&decision.records);
        let message = |message: &Option<StrBytes>| message.as_deref().unwrap_or_default().to_owned();
        decision.answer.iter().map(|result| (result.error_code, message(&result.error_message))).collect()
    }

    fn alter(
        &mut self,
        resource: ConfigResource,
        changes: &[(&str, Change, &str)],
    ) -> Result<(), AdminError> {
        let changes: Vec<ConfigChange> = changes
            .iter()
            .map(|(name, change, value)| ConfigChange {
                name: (*name).into(),
                change: *change,
                value: Some((*value).into()),
            })
            .collect();
        let decision = alter_configs(&self.image, &rules(&self.settings), &resource, &changes, false);
        self.apply(&decision.records);
        decision.answer
    }

    fn value(&self, topic: &str, key: &str) -> Option<&str> {
        self.image.configs().value(&ConfigResource::topic(topic), key)
    }
}

fn told(code: i16, message: &Option<StrBytes>, unchanged: bool) -> Option<(i16, String)> {
    assert_eq!(code != 0, unchanged, "records and only records of what succeeded");
    (code != 0).then(|| (code, message.as_deref().unwrap_or_default().to_owned()))
}

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

fn topic(text: &str, partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(name(text))
        .with_num_partitions(partitions)
        .with_replication_factor(replication_factor)
}

fn assigned(text: &str, assignments: &[(i32, &[i32])]) -> CreatableTopic {
    let assignments = assignments.iter().map(|(index, brokers)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*index)
            .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect())
    });
    topic(text, -1, -1).with_assignments(assignments.collect())
}

fn error(error: ResponseError, message: &str) -> Option<(i16, String)> {
    Some((error.code(), message.to_owned()))
}

#[test]
fn names_are_refused_as_kafka_does() {
    use ResponseError::{InvalidRequest, InvalidTopicException, TopicAlreadyExists};
    let mut bench = Bench::new();
    let characters = |name: &str| {
        format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII \
             alphanumerics, '.', '_' and '-'"
        )
    };
    for (name, message) in [
        ("", "Topic name is invalid: the empty string is not allowed".to_owned()),
        (".", "Topic name is invalid: '.' is not allowed".to_owned()),
        ("..", "Topic name is invalid: '..' is not allowed".to_owned()),
        ("a b", characters("a b")),
        ("a/b", characters("a/b")),
        ("ä", characters("ä")),
    ] {
        assert_eq!(bench.create(topic(name, 1, 1)), error(InvalidTopicException, &message), "{name}");
    }
    let long = "x".repeat(250);
    let message =
        format!("Topic name is invalid: the length of '{long}' is longer than the max allowed length 249");
    assert_eq!(bench.create(topic(&long, 1, 1)), error(InvalidTopicException, &message));
    assert_eq!(bench.create(topic(&long[1..], 1, 1)), None);
    let message = "Creation of internal topic __cluster_metadata is prohibited.";
    assert_eq!(bench.create(topic("__cluster_metadata", 1, 1)), error(InvalidRequest, message));
    for fine in ["__consumer_offsets", "ok_name-1", "col.lide"] {
        assert_eq!(bench.create(topic(fine, 1, 1)), None, "{fine}");
    }
    let message = "Topic 'col_lide' collides with existing topic: col.lide";
    assert_eq!(bench.create(topic("col_lide", 1, 1)), error(InvalidTopicException, message));
    let message = "Topic 'col.lide' already exists.";
    assert_eq!(bench.create(topic("col.lide", 1, 1)), error(TopicAlreadyExists, message));
}

#[test]
fn counts_and_assignments_are_refused_as_kafka_does() {
    use ResponseError::{
        InvalidPartitions, InvalidReplicaAssignment, InvalidReplicationFactor, InvalidRequest,
        PolicyViolation,
    };
    let mut bench = Bench::new();
    for partitions in [-2, 0] {
        let message = "Number of partitions was set to an invalid non-positive value.";
        assert_eq!(bench.create(topic("np", partitions, 1)), error(InvalidPartitions, message));
    }
    for factor in [-2, 0] {
        let message = "Replication factor must be larger than 0, or -1 to use the default value.";
        assert_eq!(bench.create(topic("rf", 1, factor)), error(InvalidReplicationFactor, message));
    }
    let message = "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be \
                   reached because only 1 broker(s) are registered or some brokers have all their log \
                   directories cordoned.";
    assert_eq!(bench.create(topic("rf", 1, 2)), error(InvalidReplicationFactor, message));
    let message = "Excessively large number of partitions per request.";
    assert_eq!(bench.create(topic("np", 2_000_000_000, 1)), error(PolicyViolation, message));
    let missing = "The manual partition assignment includes broker 2, but no such broker is registered.";
    let gap = "partitions should be a consecutive 0-based integer sequence";
    let twice = "The manual partition assignment includes the broker 1 more than once.";
    let empty = "The manual partition assignment includes an empty replica list.";
    for (assignments, message) in [
        (&[(0, &[1][..]), (2, &[1])][..], gap),
        (&[(1, &[1][..])], gap),
        (&[(0, &[2][..])], missing),
        (&[(0, &[1, 1][..])], twice),
        (&[(0, &[][..])], empty),
    ] {
        let refused = bench.create(assigned("ra", assignments));
        assert_eq!(refused, error(InvalidReplicaAssignment, message), "{assignments:?}");
    }
    let both = assigned("ra", &[(0, &[1])]).with_num_partitions(1);
    let message = "A manual partition assignment was specified, but numPartitions was not set to -1.";
    assert_eq!(bench.create(both), error(InvalidRequest, message));
    assert_eq!(bench.create(assigned("ra", &[(1, &[1]), (0, &[1])])), None);
    assert_eq!(bench.image.topic("ra").map(|topic| topic.partitions.len()), Some(2));
    assert_eq!(bench.create(topic("defaults", -1, -1)), None);
    assert_eq!(bench.image.topic("defaults").map(|topic| topic.partitions.len()), Some(1));
}

#[test]
fn a_created_topic_has_kafkas_records_in_kafkas_order() {
    let bench = Bench::new();
    let config = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("cleanup.policy"))
        .with_value(Some(StrBytes::from_static_str("compact")));
    let asked = [topic("configured", 2, 1).with_configs(vec![config])];
    let id = Uuid::from_u128(9);
    let rules = rules(&bench.settings);
    let decision = at_once(create_topics(&bench.image, &rules, &asked, false, || id, async || ()));
    let names: Vec<String> = decision
        .records
        .iter()
        .map(|record| format!("{record:?}").split('(').next().expect("a name").to_owned())
        .collect();
    assert_eq!(names, ["Topic", "Config", "Partition", "Partition"]);
    let Record::Partition(partition) = &decision.records[3] else { panic!("a partition") };
    assert_eq!((partition.partition_id, partition.leader, partition.leader_epoch), (1, 1, 0));
    assert_eq!((&partition.isr, &partition.directories), (&vec![1], &vec![DIRECTORY]));
    let answer = &decision.answer[0];
    assert_eq!((answer.num_partitions, answer.replication_factor, answer.topic_id), (2, 1, id));
    assert_eq!(answer.error_message, None, "as Kafka says no error, and not an empty one");
    let configs = answer.configs.as_ref().expect("configs");
    let policy = configs.iter().find(|config| &*config.name == "cleanup.policy").expect("in the list");
    assert_eq!((policy.value.as_deref(), policy.config_source), (Some("compact"), 1));
    let validated = at_once(create_topics(&bench.image, &rules, &asked, true, || id, async || ()));
    assert_eq!((validated.records.len(), validated.answer), (0, decision.answer));
}

#[test]
fn duplicates_in_one_request_are_refused_and_the_others_done() {
    let bench = Bench::new();
    let asked = [topic("a", 1, 1), topic("b", 1, 1), topic("a", 1, 1)];
    let rules = rules(&bench.settings);
    let decision = at_once(create_topics(&bench.image, &rules, &asked, false, Uuid::new_v4, async || ()));
    let answers: Vec<_> =
        decision.answer.iter().map(|result| (result.name.to_string(), result.error_code)).collect();
    assert_eq!(answers, [("b".to_owned(), 0), ("a".to_owned(), ResponseError::InvalidRequest.code())]);
}

#[test]
fn partitions_grow_as_in_kafka() {
    use ResponseError::{InvalidPartitions, InvalidReplicaAssignment, UnknownTopicOrPartition};
    let mut bench = Bench::new();
    bench.create(topic("t", 1, 1));
    let to = |count: i32| {
        CreatePartitionsTopic::default().with_name(name("t")).with_count(count).with_assignments(None)
    };
    let with = |count: i32, assignments: &[&[i32]]| {
        let assignments = assignments.iter().map(|brokers| {
            let brokers = brokers.iter().map(|id| BrokerId(*id)).collect();
            CreatePartitionsAssignment::default().with_broker_ids(brokers)
        });
        to(count).with_assignments(Some(assignments.collect()))
    };
    let fewer = "The topic t currently has 1 partition(s); 0 would not be an increase.";
    assert_eq!(bench.grow(to(0)), error(InvalidPartitions, fewer));
    assert_eq!(bench.grow(to(1)), error(InvalidPartitions, "Topic already has 1 partition(s)."));
    let short = "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.";
    assert_eq!(bench.grow(with(3, &[&[1]])), error(InvalidReplicaAssignment, short));
    let missing = "The manual partition assignment includes broker 2, but no such broker is registered.";
    assert_eq!(bench.grow(with(2, &[&[2]])), error(InvalidReplicaAssignment, missing));
    let twice = "The manual partition assignment includes the broker 1 more than once.";
    assert_eq!(bench.grow(with(2, &[&[1, 1]])), error(InvalidReplicaAssignment, twice));
    assert_eq!(bench.grow(to(2).with_name(name("nope"))), error(UnknownTopicOrPartition, ""));
    assert_eq!(bench.grow(to(3)), None);
    assert_eq!(bench.grow(with(4, &[&[1]])), None);
    assert_eq!(bench.image.topic("t").map(|topic| topic.partitions.len()), Some(4));
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    use ResponseError::{InvalidRequest, UnknownTopicId, UnknownTopicOrPartition};
    let mut bench = Bench::new();
    bench.create(topic("a", 1, 1));
    bench.create(topic("b", 1, 1));
    bench.alter(ConfigResource::topic("a"), &[("retention.ms", Change::Set, "5")]).expect("altered");
    let id = bench.image.topic("b").expect("b").id;
    let by_name = |text: &str| DeleteTopicState::default().with_name(Some(name(text)));
    let by_id = |id: Uuid| DeleteTopicState::default().with_topic_id(id);
    let told = bench.delete(vec![
        by_name("a"),
        by_id(id),
        by_name("nope"),
        by_id(Uuid::from_u128(77)),
        DeleteTopicState::default(),
        by_name("x").with_topic_id(id),
    ]);
    let expected = [
        (0, ""),
        (0, ""),
        (UnknownTopicOrPartition.code(), "This server does not host this topic-partition."),
        (UnknownTopicId.code(), "This server does not host this topic ID."),
        (InvalidRequest.code(), "Neither topic name nor id were specified."),
        (InvalidRequest.code(), "You may not specify both topic name and topic id."),
    ];
    assert_eq!(told, expected.map(|(code, message)| (code, message.to_owned())));
    assert_eq!((bench.image.topics().count(), bench.value("a", "retention.ms")), (0, None));
    bench.create(topic("a", 1, 1));
    let twice = bench.delete(vec![by_name("a"), by_name("a")]);
    assert_eq!(twice, [(InvalidRequest.code(), "Duplicate topic name.".to_owned())]);
}

#[test]
fn configs_are_altered_as_in_kafka() {
    use Change::{Append, Delete, Set, Subtract};
    let mut bench = Bench::new();
    bench.create(topic("t", 1, 1));
    let t = || ConfigResource::topic("t");
    bench.alter(t(), &[("retention.ms", Set, "5")]).expect("set");
    assert_eq!(bench.value("t", "retention.ms"), Some("5"));
    bench.alter(t(), &[("retention.ms", Delete, "")]).expect("deleted");
    assert_eq!(bench.value("t", "retention.ms"), None);
    bench.alter(t(), &[("cleanup.policy", Append, "compact")]).expect("appended to the default");
    assert_eq!(bench.value("t", "cleanup.policy"), Some("delete,compact"));
    bench.alter(t(), &[("cleanup.policy", Subtract, "delete")]).expect("taken out");
    assert_eq!(bench.value("t", "cleanup.policy"), Some("compact"));
    bench.alter(t(), &[("nope", Delete, "")]).expect("Kafka takes it");
    for (change, message) in [
        (("retention.ms", Append, "5"), "Can't APPEND to key retention.ms because its type is not LIST."),
        (("nope", Append, "x"), "Can't APPEND to key nope because its type is not LIST."),
        (("nope", Set, "x"), "Unknown topic config name: nope"),
        (
            ("retention.ms", Set, "x"),
            "Invalid value x for configuration retention.ms: Not a number of type LONG",
        ),
        (
            ("cleanup.policy", Append, "bla"),
            "Invalid value bla for configuration cleanup.policy: String must be one of: compact, delete",
        ),
    ] {
        let expected = AdminError::new(ResponseError::InvalidConfig, message);
        assert_eq!(bench.alter(t(), &[change]), Err(expected));
    }
    let refused = bench.alter(ConfigResource::topic("nope"), &[("retention.ms", Set, "5")]);
    let message = "The topic 'nope' does not exist.";
    assert_eq!(refused, Err(AdminError::new(ResponseError::UnknownTopicOrPartition, message)));
    let broker = || ConfigResource::broker(1);
    bench.alter(broker(), &[("log.retention.ms", Set, "5"), ("nope", Set, "5")]).expect("Kafka takes both");
    for (change, message) in [
        (("num.partitions", Set, "3"), "Cannot update these configs dynamically: [num.partitions]"),
        (
            ("log.retention.ms", Set, "x"),
            "Invalid value x for configuration log.retention.ms: Not a number of type LONG",
        ),
    ] {
        let expected = AdminError::new(ResponseError::InvalidRequest, message);
        assert_eq!(bench.alter(broker(), &[change]), Err(expected));
    }
}

/// Asked of Apache Kafka 4.3.1, by its configs tool.
#[test]
fn dynamic_values_must_fit_together_as_in_kafka() {
    use Change::{Delete, Set};
    let mut bench = Bench::new();
    let (broker, all) = (|| ConfigResource::broker(1), ConfigResource::all_brokers);
    let refused = |message: &str| {
        let message = format!("requirement failed: {message}");
        Err(AdminError::new(ResponseError::InvalidRequest, message))
    };
    let retention = refused("log.retention.ms must be unlimited (-1) or, greater than or equal to 1");
    let roll = refused("log.roll.ms must be greater than or equal to 1");
    for resource in [broker, all] {
        assert_eq!(bench.alter(resource(), &[("log.retention.ms", Set, "0")]), retention);
        assert_eq!(bench.alter(resource(), &[("log.roll.ms", Set, "0")]), roll);
        let jitter = refused("log.roll.jitter.ms must be greater than or equal to 0");
        assert_eq!(bench.alter(resource(), &[("log.roll.jitter.ms", Set, "-1")]), jitter);
    }
    bench.alter(broker(), &[("log.retention.ms", Set, "-7")]).expect("any negative number is for ever");
    bench.alter(all(), &[("log.retention.ms", Set, "0")]).expect("it does not count for this broker");
    assert_eq!(bench.alter(broker(), &[("log.retention.ms", Delete, "")]), retention);
    bench.alter(all(), &[("log.retention.ms", Delete, "")]).expect("deleted");
    bench.alter(broker(), &[("log.retention.ms", Delete, "")]).expect("nothing bad lies below it");
}

#[test]
fn replicas_in_sync_of_the_cluster_are_not_taken_away() {
    use Change::{Delete, Set};
    let mut bench = Bench::new();
    let key = configs::MIN_INSYNC_REPLICAS;
    let all = ConfigResource::all_brokers;
    let feature = |level| {
        let name = configs::ELIGIBLE_LEADER_REPLICAS_VERSION.into();
        records::FeatureLevel { name, level }.into()
    };
    bench.apply(&[feature(0)]);
    bench.alter(all(), &[(key, Set, "2")]).expect("set");
    bench.alter(all(), &[(key, Delete, "")]).expect("nothing depends on it");
    bench.apply(&[feature(1)]);
    bench.alter(all(), &[(key, Delete, "")]).expect("it is not there");
    bench.alter(all(), &[(key, Set, "2")]).expect("set");
    let message = "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.";
    let refused = bench.alter(all(), &[(key, Delete, "")]);
    assert_eq!(refused, Err(AdminError::new(ResponseError::InvalidConfig, message)));
    bench.alter(all(), &[(key, Set, "1")]).expect("changed");
}

#[test]
fn a_start_leads_in_a_new_epoch_and_a_stop_leaves_what_kafka_leaves() {
    let mut bench = Bench::new();
    bench.create(topic("t", 2, 1));
    let state = |bench: &Bench| {
        let partition = bench.image.topic("t").and_then(|t| t.partition(1)).expect("t-1").clone();
        (partition.leader, partition.leader_epoch, partition.isr, partition.eligible_leader_replicas)
    };
    assert_eq!(state(&bench), (1, 0, vec![1], vec![]));
    // A start after a crash: the leader is named again.
    bench.register(20);
    assert_eq!(state(&bench), (1, 1, vec![1], vec![]));
    let records = resign(&bench.image, &rules(&bench.settings), 20);
    bench.apply(&records);
    assert_eq!(state(&bench), (-1, 2, vec![], vec![1]));
    assert!(!bench.image.cluster().broker(1).expect("registered").is_active());
    let Record::PartitionChange(change) = &records[1] else { panic!("a partition change") };
    assert_eq!(change.last_known_elr, Some(vec![1]), "as in Kafka's own log");
    bench.register(30);
    assert_eq!(state(&bench), (1, 3, vec![1], vec![]));
    assert!(bench.image.cluster().broker(1).expect("registered").is_active());
}

#[test]
fn an_empty_log_begins_like_kafkas() {
    let features =
        [records::FeatureLevel { name: "eligible.leader.replicas.version".into(), level: 1 }.into()];
    let records = bootstrap(&features, 1);
    assert_eq!(records.len(), 4);
    // The bytes at offset 8 of Kafka's own log.
    let config = records[2].to_bytes(crate::metadata::records::Levels { metadata_version: 30 });
    let golden =
        include_str!("../golden/records.txt").lines().find(|line| line.starts_with("8 ")).expect("there");
    let hex: String = config.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(golden, format!("8 Config {hex}"));
}
