use std::fs;
use std::path::PathBuf;

use flumen_engine::LeaderEpoch;
use flumen_engine::batch::Placement;
use flumen_engine::storage::sim::{Random, SimDirectory, SimDisk, SimRuntime};
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use kafka_protocol::protocol::StrBytes;

use super::*;
use crate::config::NodeConfig;
use crate::metadata::controller::{Change, ConfigChange};
use crate::metadata::image::ConfigResource;
use crate::metadata::topic_name::CONSUMER_OFFSETS;
use crate::metadata::{directory, log};

/// A log in memory, with the bytes that the engine would write.
struct MemoryLog {
    bytes: RefCell<Vec<u8>>,
    /// Where each batch ends.
    ends: RefCell<Vec<usize>>,
    next: Cell<i64>,
    epoch: i32,
    broken: RefCell<Option<AppendError>>,
    /// Where it was rolled.
    rolled: RefCell<Vec<i64>>,
    start: Rc<Cell<i64>>,
}

impl MetadataLog for MemoryLog {
    fn append(&self, batches: CheckedBatches) -> LocalBoxFuture<'static, Result<Appended, AppendError>> {
        if let Some(error) = self.broken.borrow().clone() {
            return std::future::ready(Err(error)).boxed_local();
        }
        let base_offset = Offset(self.next.get());
        let mut bytes = self.bytes.borrow_mut();
        for summary in batches.summaries() {
            let placement = Placement {
                base_offset: Offset(self.next.get()),
                leader_epoch: LeaderEpoch(self.epoch),
                log_append_time: None,
            };
            bytes.extend_from_slice(&batches.placed_header(summary, &placement));
            bytes.extend_from_slice(batches.body(summary));
            self.ends.borrow_mut().push(bytes.len());
            self.next.set(self.next.get() + i64::from(summary.offsets));
        }
        let last_offset = Offset(self.next.get() - 1);
        let (log_append_time, log_start_offset) = (Timestamp(-1), Offset(0));
        let appended = Appended { base_offset, last_offset, log_append_time, log_start_offset };
        std::future::ready(Ok(appended)).boxed_local()
    }

    fn end_offset(&self) -> Offset {
        Offset(self.next.get())
    }

    fn roll(&self) {
        self.rolled.borrow_mut().push(self.next.get());
    }

    fn delete_before(&self, start: Offset) -> LocalBoxFuture<'static, Result<(), ReadError>> {
        assert!(start.0 <= self.next.get(), "nothing is deleted that is not there");
        self.start.set(start.0);
        std::future::ready(Ok(())).boxed_local()
    }
}

#[derive(Default)]
struct Published {
    images: RefCell<Vec<Arc<Image>>>,
    /// Names of folders that cannot be created.
    impossible: RefCell<Vec<String>>,
}

impl Publisher for Published {
    fn publish(&self, image: Arc<Image>) -> LocalBoxFuture<'static, Vec<Unmade>> {
        let mut unmade = Vec::new();
        for topic in image.topics().iter() {
            for index in topic.partitions.keys() {
                let name = format!("{}-{index}", topic.name);
                if self.impossible.borrow().contains(&name) {
                    unmade.push(Unmade { topic_id: topic.id, name, why: "no room".into() });
                }
            }
        }
        self.images.borrow_mut().push(image);
        std::future::ready(unmade).boxed_local()
    }
}

/// One life of a node on a folder.
struct Life {
    runtime: Rc<SimRuntime>,
    controller: Rc<Controller>,
    log: Rc<MemoryLog>,
    published: Rc<Published>,
    disk: SimDisk,
}

fn listeners() -> Vec<ListenerConfig> {
    vec![ListenerConfig {
        name: "PLAINTEXT".into(),
        host: String::new(),
        port: 9092,
        advertised_host: "localhost".into(),
        advertised_port: 9092,
    }]
}

const LOG_FILE: &str = "00000000000000000000.log";

fn live(folder: &std::path::Path) -> Life {
    live_with(folder, &[])
}

fn live_with(folder: &std::path::Path, settings: &[(&str, &str)]) -> Life {
    let node = NodeConfig { id: None, cluster_id: None, rack: None, log_dir: folder.to_owned() };
    let opened = directory::open(&node).expect("a sound directory");
    opened.begin_epoch().expect("written");
    let file = folder.join(METADATA_FOLDER).join(LOG_FILE);
    let bytes = fs::read(file).unwrap_or_default();
    let log = Rc::new(MemoryLog {
        bytes: RefCell::new(bytes),
        ends: RefCell::default(),
        next: Cell::new(opened.loaded.end_offset),
        epoch: opened.epoch,
        broken: RefCell::default(),
        rolled: RefCell::default(),
        start: Rc::default(),
    });
    let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut overrides = vec![
        setting("log.dirs", &folder.display().to_string()),
        setting("metadata.log.max.snapshot.interval.ms", "60000"),
        setting("metadata.max.retention.bytes", "1"),
    ];
    overrides.extend(settings.iter().map(|(key, value)| setting(key, value)));
    let config = BrokerConfig::load(None, [], &overrides, "localhost").expect("valid");
    let runtime = SimRuntime::new(Random::new(7), 1_800_000_000_000);
    let disk = SimDisk::new(Random::new(8));
    disk.place(&PathBuf::from(METADATA_FOLDER).join("partition.metadata"), b"");
    let published = Rc::new(Published::default());
    let parts = ControllerParts {
        config: Arc::new(config),
        opened: Arc::new(opened),
        log: log.clone(),
        publisher: published.clone(),
        directory: SimDirectory::new(runtime.clone(), disk.clone()),
        runtime: runtime.clone(),
    };
    let started = runtime.run(Controller::start(parts, &listeners())).expect("it ends");
    Life { controller: started.expect("it starts"), runtime, log, published, disk }
}

impl Life {
    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.run(work).expect("it ends")
    }

    fn create(&self, name: &str) -> i16 {
        let topic = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_string(name.to_owned())))
            .with_num_partitions(2)
            .with_replication_factor(1);
        let results = self.run(self.controller.create_topics(vec![topic], false)).expect("decided");
        results[0].error_code
    }

    fn snapshots(&self) -> Vec<String> {
        let directory = SimDirectory::new(self.runtime.clone(), self.disk.clone());
        let listed = self.run(async move { directory.list(std::path::Path::new(METADATA_FOLDER)).await });
        let names = listed.expect("listed").into_iter().map(|entry| entry.name);
        names.filter(|name| name.ends_with(".checkpoint")).collect()
    }

    /// What is on the disk after so many bytes of log.
    fn save(&self, folder: &std::path::Path, length: usize) {
        let folder = folder.join(METADATA_FOLDER);
        fs::write(folder.join(LOG_FILE), &self.log.bytes.borrow()[..length]).expect("written");
    }
}

fn names(image: &Image) -> Vec<String> {
    image.topics().iter().map(|topic| topic.name.to_string()).collect()
}

#[test]
fn a_new_node_writes_what_kafka_writes_and_leads() {
    let folder = tempfile::tempdir().expect("a folder");
    let life = live(folder.path());
    let image = life.controller.image();
    assert_eq!(image.levels().metadata_version, 30);
    assert!(image.cluster().broker(1).expect("registered").is_active());
    let value = image.configs().value(&ConfigResource::all_brokers(), "min.insync.replicas");
    assert_eq!(value, Some("1"));
    // LeaderChange 0; Begin 1, two features, Config, End 5; RegisterBroker 6.
    assert_eq!(life.controller.broker_epoch(), 6);
    assert_eq!(image.cluster().broker(1).expect("registered").registration.broker_epoch, 6);
    assert_eq!(life.published.images.borrow().len(), 1);
    assert_eq!(life.create("a"), 0);
    assert_eq!(life.create("a"), ResponseError::TopicAlreadyExists.code());
    assert_eq!(names(life.published.images.borrow().last().expect("published")), ["a"]);
    let deletion =
        DeleteTopicsRequest::default().with_topic_names(vec![TopicName(StrBytes::from_static_str("a"))]);
    let deleted = life.run(life.controller.delete_topics(deletion)).expect("decided");
    assert_eq!(deleted[0].error_code, 0);
    assert_eq!(life.published.images.borrow().len(), 3, "a refusal changes nothing");
}

#[test]
fn after_a_crash_at_any_batch_the_next_life_has_what_was_published_up_to_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let life = live(folder.path());
    for name in ["a", "b"] {
        life.create(name);
    }
    let (images, ends) = (life.published.images.borrow().clone(), life.log.ends.borrow().clone());
    // Each change is one batch, and each image was published behind one.
    for (index, image) in images.iter().rev().enumerate() {
        let end = ends[ends.len() - 1 - index];
        life.save(folder.path(), end);
        let next = live(folder.path());
        let now = next.controller.image();
        assert_eq!(names(&now), names(image));
        assert!(now.epoch() > image.epoch());
        for topic in now.topics().iter() {
            let before = image.topic(&topic.name).expect("there before");
            assert_eq!(topic.id, before.id);
            assert_eq!(topic.partitions[&0].leader_epoch, before.partitions[&0].leader_epoch + 1);
        }
        // A torn batch behind it changes nothing.
        if let Some(torn) = ends.get(ends.len() - index).map(|next| next - 1) {
            life.save(folder.path(), torn);
            assert_eq!(names(&live(folder.path()).controller.image()), names(image));
        }
    }
}

#[test]
fn a_clean_stop_leaves_the_partitions_and_nothing_is_written_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let life = live(folder.path());
    life.create("a");
    life.run(life.controller.stop()).expect("stopped");
    let refused = life.run(life.controller.create_topics(Vec::new(), false));
    assert_eq!(refused.map_err(|refused| refused.error), Err(ResponseError::NotController));
    let length = life.log.bytes.borrow().len();
    life.save(folder.path(), length);
    let next = live(folder.path());
    let partition = next.controller.image().topic("a").expect("a").partitions[&1].clone();
    assert_eq!((partition.leader, partition.leader_epoch, partition.isr), (1, 2, vec![1]));
}

#[test]
fn a_failed_append_ends_the_controller_and_a_full_disk_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let life = live(folder.path());
    let create = || {
        let topic = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_static_str("a")))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let created = life.run(life.controller.create_topics(vec![topic], false));
        created.map(|results| results[0].error_code).map_err(|failed| failed.error)
    };
    life.log.broken.replace(Some(AppendError::NoSpace));
    assert_eq!(create(), Err(ResponseError::KafkaStorageError));
    assert_eq!(names(&life.controller.image()), Vec::<String>::new());
    life.log.broken.replace(None);
    assert_eq!(create(), Ok(0));
    life.log.broken.replace(Some(AppendError::Offline));
    assert!(life.run(life.controller.allocate_producer_ids()).is_err());
    life.log.broken.replace(None);
    let refused = life.run(life.controller.allocate_producer_ids()).map_err(|refused| refused.error);
    assert_eq!(refused, Err(ResponseError::NotController));
    assert_eq!(names(&life.controller.image()), ["a"]);
}

#[test]
fn a_topic_without_a_place_for_each_partition_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let life = live(folder.path());
    life.published.impossible.replace(vec!["a-1".into()]);
    assert_eq!(life.create("a"), ResponseError::KafkaStorageError.code());
    assert_eq!(life.create("b"), 0);
    assert_eq!(names(life.published.images.borrow().last().expect("published")), ["b"]);
    let length = life.log.bytes.borrow().len();
    life.save(folder.path(), length);
    assert_eq!(names(&live(folder.path()).controller.image()), ["b"]);
    life.published.impossible.take();
    assert_eq!(life.create("a"), 0);
}

#[test]
fn partitions_without_a_place_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let life = live(folder.path());
    assert_eq!(life.create("a"), 0);
    life.published.impossible.replace(vec!["a-2".into()]);
    let more = CreatePartitionsTopic::default()
        .with_name(TopicName(StrBytes::from_static_str("a")))
        .with_count(3)
        .with_assignments(None);
    let results = life.run(life.controller.create_partitions(vec![more], false)).expect("decided");
    assert_eq!(results[0].error_code, ResponseError::KafkaStorageError.code());
    assert_eq!(names(&life.controller.image()), ["a"], "its other partitions stay");
}

#[test]
fn producer_ids_are_given_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let life = live(folder.path());
    assert_eq!(life.run(life.controller.allocate_producer_ids()), Ok(0));
    assert_eq!(life.run(life.controller.allocate_producer_ids()), Ok(1000));
    let length = life.log.bytes.borrow().len();
    life.save(folder.path(), length);
    let next = live(folder.path());
    assert_eq!(next.run(next.controller.allocate_producer_ids()), Ok(2000));
}

#[test]
fn internal_topics_are_created_once_and_as_kafka_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let life = live(folder.path());
    for _ in 0..2 {
        life.run(life.controller.ensure_internal_topic(CONSUMER_OFFSETS)).expect("there");
    }
    let image = life.controller.image();
    assert_eq!(image.topic(CONSUMER_OFFSETS).map(|topic| topic.partitions.len()), Some(50));
    let resource = ConfigResource::topic(CONSUMER_OFFSETS);
    let configs = image.configs().of(&resource).expect("configured");
    let configs: Vec<_> = configs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let expected =
        [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")];
    assert_eq!(configs, expected);
}

#[test]
fn a_log_that_grew_gets_a_snapshot_that_loads() {
    let folder = tempfile::tempdir().expect("a folder");
    let life = live(folder.path());
    life.create("a");
    assert_eq!(life.snapshots(), Vec::<String>::new());
    life.controller.state.borrow_mut().bytes_since_snapshot = 20 << 20;
    life.create("b");
    let image = life.controller.image();
    let name = log::snapshot_name(image.offset() + 1, image.epoch());
    let written = life.disk.contents(&PathBuf::from(METADATA_FOLDER).join(&name)).expect("a snapshot");
    let other = tempfile::tempdir().expect("a folder");
    fs::write(other.path().join(name), written).expect("written");
    assert_eq!(log::load(other.path()).expect("a sound snapshot").image, image);
}

#[test]
fn the_log_goes_once_two_snapshots_stand_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let life = live(folder.path());
    let mut ends = Vec::new();
    for name in ["a", "b", "c", "d"] {
        life.run(life.runtime.sleep(Duration::from_secs(61)));
        life.create(name);
        ends.push(life.log.next.get());
        life.create(&format!("{name}-soon-after"));
    }
    assert_eq!(life.log.rolled.take(), ends, "the log is rolled where a snapshot ends");
    assert_eq!(life.log.start.get(), ends[2]);
    let epoch = life.controller.image().epoch();
    assert_eq!(life.snapshots(), [log::snapshot_name(ends[2], epoch), log::snapshot_name(ends[3], epoch)]);
}

#[test]
fn a_start_alone_leads_to_a_snapshot_when_one_is_due() {
    let folder = tempfile::tempdir().expect("a folder");
    live(folder.path()).create("a");
    for bytes in ["1", "20971520"] {
        let life = live_with(folder.path(), &[("metadata.log.max.record.bytes.between.snapshots", bytes)]);
        life.run(life.runtime.sleep(Duration::from_secs(1)));
        let image = life.controller.image();
        let expected = vec![log::snapshot_name(image.offset() + 1, image.epoch())];
        assert_eq!(life.snapshots(), if bytes == "1" { expected } else { Vec::new() }, "{bytes}");
    }
}

#[test]
fn what_a_request_configures_is_one_batch_or_nothing_where_it_is_too_much() {
    let folder = tempfile::tempdir().expect("a folder");
    let life = live(folder.path());
    let set = |name: &str, keys: usize| {
        let change = |key: usize| ConfigChange {
            name: if keys == 1 { "retention.ms".into() } else { format!("key-{key}") },
            change: Change::Set,
            value: Some("1".into()),
        };
        let resource = if keys == 1 { ConfigResource::topic(name) } else { ConfigResource::broker(1) };
        (resource, (0..keys).map(change).collect::<Vec<_>>())
    };
    for name in ["a", "b"] {
        life.create(name);
    }
    let published = life.published.images.borrow().len();
    let asked = vec![set("a", 1), set("absent", 1), set("b", 1)];
    let done = life.run(life.controller.alter_configs(asked, false, false)).expect("decided");
    let failed: Vec<_> = done.iter().map(|done| done.as_ref().err().map(|error| error.error)).collect();
    assert_eq!(failed, [None, Some(ResponseError::UnknownTopicOrPartition), None]);
    assert_eq!(life.published.images.borrow().len(), published + 1);
    let too_much = vec![set("a", 1), set("", RECORDS_PER_REQUEST_MAX + 1)];
    let done = life.run(life.controller.alter_configs(too_much, false, false)).expect("decided");
    assert_eq!(done, [Err(AdminError::too_large()), Err(AdminError::too_large())]);
    assert_eq!(life.published.images.borrow().len(), published + 1);
}
