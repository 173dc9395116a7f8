//! Classic and consumer groups.

use kafka_protocol::messages::ApiKey;

use super::{Kind, Schema, array, boolean, bytes, int8, int32, int64, string, uuid};

/// After Kafka 4.3's message schemas.
pub(super) const SCHEMAS: &[Schema] = &[
    Schema {
        api_key: ApiKey::OffsetCommit,
        versions: 2..=10,
        flexible_from: Some(8),
        fields: &[
            string("group_id"),
            int32("generation_id_or_member_epoch"),
            string("member_id"),
            string("group_instance_id").nullable().since(7),
            int64("retention_time_ms").until(4),
            array(
                "topics",
                &Kind::Structure(&[
                    string("name").until(9),
                    uuid("topic_id").since(10),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition_index"),
                            int64("committed_offset"),
                            int32("committed_leader_epoch").since(6),
                            string("committed_metadata").nullable(),
                        ]),
                    ),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::OffsetFetch,
        versions: 1..=10,
        flexible_from: Some(6),
        fields: &[
            string("group_id").until(7),
            array("topics", &Kind::Structure(&[string("name"), array("partition_indexes", &Kind::Int32)]))
                .nullable_since(2)
                .until(7),
            array(
                "groups",
                &Kind::Structure(&[
                    string("group_id"),
                    string("member_id").nullable().since(9),
                    int32("member_epoch").since(9),
                    array(
                        "topics",
                        &Kind::Structure(&[
                            string("name").until(9),
                            uuid("topic_id").since(10),
                            array("partition_indexes", &Kind::Int32),
                        ]),
                    )
                    .nullable(),
                ]),
            )
            .since(8),
            boolean("require_stable").since(7),
        ],
    },
    Schema {
        api_key: ApiKey::FindCoordinator,
        versions: 0..=6,
        flexible_from: Some(3),
        fields: &[
            string("key").until(3),
            int8("key_type").since(1),
            array("coordinator_keys", &Kind::String).since(4),
        ],
    },
    Schema {
        api_key: ApiKey::JoinGroup,
        versions: 0..=9,
        flexible_from: Some(6),
        fields: &[
            string("group_id"),
            int32("session_timeout_ms"),
            int32("rebalance_timeout_ms").since(1),
            string("member_id"),
            string("group_instance_id").nullable().since(5),
            string("protocol_type"),
            array("protocols", &Kind::Structure(&[string("name"), bytes("metadata")])),
            string("reason").nullable().since(8),
        ],
    },
    Schema {
        api_key: ApiKey::Heartbeat,
        versions: 0..=4,
        flexible_from: Some(4),
        fields: &[
            string("group_id"),
            int32("generation_id"),
            string("member_id"),
            string("group_instance_id").nullable().since(3),
        ],
    },
    Schema {
        api_key: ApiKey::LeaveGroup,
        versions: 0..=5,
        flexible_from: Some(4),
        fields: &[
            string("group_id"),
            string("member_id").until(2),
            array(
                "members",
                &Kind::Structure(&[
                    string("member_id"),
                    string("group_instance_id").nullable(),
                    string("reason").nullable().since(5),
                ]),
            )
            .since(3),
        ],
    },
    Schema {
        api_key: ApiKey::SyncGroup,
        versions: 0..=5,
        flexible_from: Some(4),
        fields: &[
            string("group_id"),
            int32("generation_id"),
            string("member_id"),
            string("group_instance_id").nullable().since(3),
            string("protocol_type").nullable().since(5),
            string("protocol_name").nullable().since(5),
            array("assignments", &Kind::Structure(&[string("member_id"), bytes("assignment")])),
        ],
    },
    Schema {
        api_key: ApiKey::DescribeGroups,
        versions: 0..=6,
        flexible_from: Some(5),
        fields: &[array("groups", &Kind::String), boolean("include_authorized_operations").since(3)],
    },
    Schema {
        api_key: ApiKey::ListGroups,
        versions: 0..=5,
        flexible_from: Some(3),
        fields: &[
            array("states_filter", &Kind::String).since(4),
            array("types_filter", &Kind::String).since(5),
        ],
    },
    Schema {
        api_key: ApiKey::DeleteGroups,
        versions: 0..=2,
        flexible_from: Some(2),
        fields: &[array("groups_names", &Kind::String)],
    },
    Schema {
        api_key: ApiKey::OffsetDelete,
        versions: 0..=0,
        flexible_from: None,
        fields: &[
            string("group_id"),
            array(
                "topics",
                &Kind::Structure(&[
                    string("name"),
                    array("partitions", &Kind::Structure(&[int32("partition_index")])),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::ConsumerGroupHeartbeat,
        versions: 0..=1,
        flexible_from: Some(0),
        fields: &[
            string("group_id"),
            string("member_id"),
            int32("member_epoch"),
            string("instance_id").nullable(),
            string("rack_id").nullable(),
            int32("rebalance_timeout_ms"),
            array("subscribed_topic_names", &Kind::String).nullable(),
            string("subscribed_topic_regex").nullable().since(1),
            string("server_assignor").nullable(),
            array(
                "topic_partitions",
                &Kind::Structure(&[uuid("topic_id"), array("partitions", &Kind::Int32)]),
            )
            .nullable(),
        ],
    },
    Schema {
        api_key: ApiKey::ConsumerGroupDescribe,
        versions: 0..=1,
        flexible_from: Some(0),
        fields: &[array("group_ids", &Kind::String), boolean("include_authorized_operations")],
    },
];
