//! Share groups (KIP-932), and the state that their coordinator keeps.

use kafka_protocol::messages::ApiKey;

use super::{Kind, Schema, array, boolean, int8, int16, int32, int64, string, uuid};

/// After Kafka 4.3's message schemas.
pub(super) const SCHEMAS: &[Schema] = &[
    Schema {
        api_key: ApiKey::ShareGroupHeartbeat,
        versions: 1..=1,
        flexible_from: Some(0),
        fields: &[
            string("group_id"),
            string("member_id"),
            int32("member_epoch"),
            string("rack_id").nullable(),
            array("subscribed_topic_names", &Kind::String).nullable(),
        ],
    },
    Schema {
        api_key: ApiKey::ShareGroupDescribe,
        versions: 1..=1,
        flexible_from: Some(0),
        fields: &[array("group_ids", &Kind::String), boolean("include_authorized_operations")],
    },
    Schema {
        api_key: ApiKey::ShareFetch,
        versions: 1..=2,
        flexible_from: Some(0),
        fields: &[
            string("group_id").nullable(),
            string("member_id").nullable(),
            int32("share_session_epoch"),
            int32("max_wait_ms"),
            int32("min_bytes"),
            int32("max_bytes"),
            int32("max_records"),
            int32("batch_size"),
            int8("share_acquire_mode").since(2),
            boolean("is_renew_ack").since(2),
            array(
                "topics",
                &Kind::Structure(&[
                    uuid("topic_id"),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition_index"),
                            array(
                                "acknowledgement_batches",
                                &Kind::Structure(&[
                                    int64("first_offset"),
                                    int64("last_offset"),
                                    array("acknowledge_types", &Kind::Int8),
                                ]),
                            ),
                        ]),
                    ),
                ]),
            ),
            array(
                "forgotten_topics_data",
                &Kind::Structure(&[uuid("topic_id"), array("partitions", &Kind::Int32)]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::ShareAcknowledge,
        versions: 1..=2,
        flexible_from: Some(0),
        fields: &[
            string("group_id").nullable(),
            string("member_id").nullable(),
            int32("share_session_epoch"),
            boolean("is_renew_ack").since(2),
            array(
                "topics",
                &Kind::Structure(&[
                    uuid("topic_id"),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition_index"),
                            array(
                                "acknowledgement_batches",
                                &Kind::Structure(&[
                                    int64("first_offset"),
                                    int64("last_offset"),
                                    array("acknowledge_types", &Kind::Int8),
                                ]),
                            ),
                        ]),
                    ),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::InitializeShareGroupState,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[
            string("group_id"),
            array(
                "topics",
                &Kind::Structure(&[
                    uuid("topic_id"),
                    array(
                        "partitions",
                        &Kind::Structure(&[int32("partition"), int32("state_epoch"), int64("start_offset")]),
                    ),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::ReadShareGroupState,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[
            string("group_id"),
            array(
                "topics",
                &Kind::Structure(&[
                    uuid("topic_id"),
                    array("partitions", &Kind::Structure(&[int32("partition"), int32("leader_epoch")])),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::WriteShareGroupState,
        versions: 0..=1,
        flexible_from: Some(0),
        fields: &[
            string("group_id"),
            array(
                "topics",
                &Kind::Structure(&[
                    uuid("topic_id"),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition"),
                            int32("state_epoch"),
                            int32("leader_epoch"),
                            int64("start_offset"),
                            int32("delivery_complete_count").since(1),
                            array(
                                "state_batches",
                                &Kind::Structure(&[
                                    int64("first_offset"),
                                    int64("last_offset"),
                                    int8("delivery_state"),
                                    int16("delivery_count"),
                                ]),
                            ),
                        ]),
                    ),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::DeleteShareGroupState,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[
            string("group_id"),
            array(
                "topics",
                &Kind::Structure(&[
                    uuid("topic_id"),
                    array("partitions", &Kind::Structure(&[int32("partition")])),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::ReadShareGroupStateSummary,
        versions: 0..=1,
        flexible_from: Some(0),
        fields: &[
            string("group_id"),
            array(
                "topics",
                &Kind::Structure(&[
                    uuid("topic_id"),
                    array("partitions", &Kind::Structure(&[int32("partition"), int32("leader_epoch")])),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::DescribeShareGroupOffsets,
        versions: 0..=1,
        flexible_from: Some(0),
        fields: &[array(
            "groups",
            &Kind::Structure(&[
                string("group_id"),
                array("topics", &Kind::Structure(&[string("topic_name"), array("partitions", &Kind::Int32)]))
                    .nullable(),
            ]),
        )],
    },
    Schema {
        api_key: ApiKey::AlterShareGroupOffsets,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[
            string("group_id"),
            array(
                "topics",
                &Kind::Structure(&[
                    string("topic_name"),
                    array("partitions", &Kind::Structure(&[int32("partition_index"), int64("start_offset")])),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::DeleteShareGroupOffsets,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[string("group_id"), array("topics", &Kind::Structure(&[string("topic_name")]))],
    },
];
