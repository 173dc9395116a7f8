//! Records and offsets: what producers, consumers and followers send.

use kafka_protocol::messages::ApiKey;

use super::{
    Kind, Schema, array, boolean, bytes, int8, int16, int32, int64, nullable_structure, string, structure,
    uuid,
};

/// After Kafka 4.3's message schemas.
pub(super) const SCHEMAS: &[Schema] = &[
    Schema {
        api_key: ApiKey::Produce,
        versions: 3..=13,
        flexible_from: Some(9),
        fields: &[
            string("transactional_id").nullable(),
            int16("acks"),
            int32("timeout_ms"),
            array(
                "topic_data",
                &Kind::Structure(&[
                    string("name").until(12),
                    uuid("topic_id").since(13),
                    array("partition_data", &Kind::Structure(&[int32("index"), bytes("records").nullable()])),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::Fetch,
        versions: 4..=18,
        flexible_from: Some(12),
        fields: &[
            string("cluster_id").nullable().tagged(0).since(12),
            int32("replica_id").until(14),
            structure("replica_state", &[int32("replica_id"), int64("replica_epoch")]).tagged(1).since(15),
            int32("max_wait_ms"),
            int32("min_bytes"),
            int32("max_bytes"),
            int8("isolation_level"),
            int32("session_id").since(7),
            int32("session_epoch").since(7),
            array(
                "topics",
                &Kind::Structure(&[
                    string("topic").until(12),
                    uuid("topic_id").since(13),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition"),
                            int32("current_leader_epoch").since(9),
                            int64("fetch_offset"),
                            int32("last_fetched_epoch").since(12),
                            int64("log_start_offset").since(5),
                            int32("partition_max_bytes"),
                            uuid("replica_directory_id").tagged(0).since(17),
                            int64("high_watermark").tagged(1).since(18),
                        ]),
                    ),
                ]),
            ),
            array(
                "forgotten_topics_data",
                &Kind::Structure(&[
                    string("topic").until(12),
                    uuid("topic_id").since(13),
                    array("partitions", &Kind::Int32),
                ]),
            )
            .since(7),
            string("rack_id").since(11),
        ],
    },
    Schema {
        api_key: ApiKey::ListOffsets,
        versions: 1..=11,
        flexible_from: Some(6),
        fields: &[
            int32("replica_id"),
            int8("isolation_level").since(2),
            array(
                "topics",
                &Kind::Structure(&[
                    string("name"),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition_index"),
                            int32("current_leader_epoch").since(4),
                            int64("timestamp"),
                        ]),
                    ),
                ]),
            ),
            int32("timeout_ms").since(10),
        ],
    },
    Schema {
        api_key: ApiKey::Metadata,
        versions: 0..=13,
        flexible_from: Some(9),
        fields: &[
            array(
                "topics",
                &Kind::Structure(&[uuid("topic_id").since(10), string("name").nullable_since(10)]),
            )
            .nullable_since(1),
            boolean("allow_auto_topic_creation").since(4),
            boolean("include_cluster_authorized_operations").between(8, 10),
            boolean("include_topic_authorized_operations").since(8),
        ],
    },
    Schema {
        api_key: ApiKey::DeleteRecords,
        versions: 0..=2,
        flexible_from: Some(2),
        fields: &[
            array(
                "topics",
                &Kind::Structure(&[
                    string("name"),
                    array("partitions", &Kind::Structure(&[int32("partition_index"), int64("offset")])),
                ]),
            ),
            int32("timeout_ms"),
        ],
    },
    Schema {
        api_key: ApiKey::OffsetForLeaderEpoch,
        versions: 2..=4,
        flexible_from: Some(4),
        fields: &[
            int32("replica_id").since(3),
            array(
                "topics",
                &Kind::Structure(&[
                    string("topic"),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition"),
                            int32("current_leader_epoch"),
                            int32("leader_epoch"),
                        ]),
                    ),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::DescribeTopicPartitions,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[
            array("topics", &Kind::Structure(&[string("name")])),
            int32("response_partition_limit"),
            nullable_structure("cursor", &[string("topic_name"), int32("partition_index")]),
        ],
    },
];
