//! The image as the clients of one listener see it; what Metadata, DescribeCluster and
//! DescribeTopicPartitions have in common.

use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::metadata::image::{BrokerImage, Image, PartitionImage};
use crate::metadata::records::Endpoint;

/// Every operation on a topic, one bit each (KIP-430): READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE,
/// DESCRIBE_CONFIGS, ALTER_CONFIGS. Without an authorizer everybody may do everything.
pub const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// Every operation on the cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS,
/// IDEMPOTENT_WRITE.
pub const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// The image through one listener.
pub struct ClusterView<'a> {
    /// What is seen.
    pub image: &'a Image,
    listener: &'a str,
}

impl<'a> ClusterView<'a> {
    /// Through the listener of this name.
    pub fn new(image: &'a Image, listener: &'a str) -> Self {
        Self { image, listener }
    }

    /// Brokers that serve, with their address on this listener.
    pub fn active(&self) -> impl Iterator<Item = (&'a BrokerImage, &'a Endpoint)> + use<'a> {
        let listener = self.listener;
        let active = self.image.cluster().brokers().filter(|broker| !broker.registration.fenced);
        active.filter_map(move |broker| Some((broker, broker.endpoint(listener)?)))
    }

    /// A broker's address on this listener.
    pub fn endpoint(&self, broker: &'a BrokerImage) -> Option<&'a Endpoint> {
        broker.endpoint(self.listener)
    }

    /// Who is told to be the controller: any broker that serves, for it finds the controller itself.
    pub fn controller(&self) -> i32 {
        self.active().next().map_or(-1, |(broker, _)| broker.registration.broker_id)
    }

    /// Whether the broker serves on any listener.
    pub fn is_registered(&self, id: i32) -> bool {
        self.image.cluster().broker(id).is_some_and(|broker| !broker.registration.fenced)
    }

    fn is_reached(&self, id: i32) -> bool {
        self.active().any(|(broker, _)| broker.registration.broker_id == id)
    }

    /// The partition's leader; −1 if there is none on this listener.
    pub fn leader(&self, partition: &PartitionImage) -> i32 {
        if self.is_reached(partition.leader) { partition.leader } else { -1 }
    }

    /// The partition's replicas that do not serve on this listener.
    pub fn offline(&self, partition: &PartitionImage) -> Vec<BrokerId> {
        partition.replicas.iter().copied().filter(|id| !self.is_reached(*id)).map(BrokerId).collect()
    }
}

/// A text for a response.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's name for a response.
pub fn topic_text(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Broker ids for a response.
pub fn broker_ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

#[cfg(test)]
pub(super) mod fixture {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;
    use uuid::Uuid;

    use crate::metadata::image::Image;
    use crate::metadata::records::{Endpoint, FeatureLevel, Partition, Record, RegisterBroker, Topic};

    pub const TOPIC_ID: Uuid = Uuid::from_u128(0x77);

    fn endpoint(name: &str, host: &str, port: u16) -> Endpoint {
        Endpoint { name: name.into(), host: host.into(), port, security_protocol: 0 }
    }

    /// One broker with two listeners; `t` with two partitions; `__consumer_offsets`.
    pub fn image() -> Image {
        let broker = RegisterBroker {
            broker_id: 1,
            is_migrating_zk_broker: false,
            incarnation_id: Uuid::from_u128(3),
            broker_epoch: 5,
            endpoints: vec![
                endpoint("PLAINTEXT", "plain.example", 9092),
                endpoint("OUTSIDE", "out.example", 29092),
            ],
            features: vec![],
            rack: Some("r1".into()),
            fenced: false,
            in_controlled_shutdown: false,
            log_directories: vec![],
            cordoned_log_directories: None,
        };
        let offsets = Uuid::from_u128(0x78);
        let records: [Record; 7] = [
            FeatureLevel { name: "metadata.version".into(), level: 30 }.into(),
            broker.into(),
            Topic { name: "t".into(), topic_id: TOPIC_ID }.into(),
            Partition::single(TOPIC_ID, 0).into(),
            Partition::single(TOPIC_ID, 1).into(),
            Topic { name: "__consumer_offsets".into(), topic_id: offsets }.into(),
            Partition::single(offsets, 0).into(),
        ];
        let mut image = Image::default();
        for record in &records {
            image.apply(record).expect("they agree");
        }
        image
    }

    /// The response can be written in this version.
    pub fn encodes(response: &impl Encodable, version: i16) {
        response.encode(&mut BytesMut::new(), version).expect("encodes");
    }
}
