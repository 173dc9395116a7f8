//! Topics, configurations, features and the cluster.

use kafka_protocol::messages::ApiKey;

use super::{Kind, Schema, array, boolean, float64, int8, int16, int32, string, uuid};

/// After Kafka 4.3's message schemas.
pub(super) const SCHEMAS: &[Schema] = &[
    Schema {
        api_key: ApiKey::CreateTopics,
        versions: 2..=7,
        flexible_from: Some(5),
        fields: &[
            array(
                "topics",
                &Kind::Structure(&[
                    string("name"),
                    int32("num_partitions"),
                    int16("replication_factor"),
                    array(
                        "assignments",
                        &Kind::Structure(&[int32("partition_index"), array("broker_ids", &Kind::Int32)]),
                    ),
                    array("configs", &Kind::Structure(&[string("name"), string("value").nullable()])),
                ]),
            ),
            int32("timeout_ms"),
            boolean("validate_only"),
        ],
    },
    Schema {
        api_key: ApiKey::DeleteTopics,
        versions: 1..=6,
        flexible_from: Some(4),
        fields: &[
            array("topics", &Kind::Structure(&[string("name").nullable(), uuid("topic_id")])).since(6),
            array("topic_names", &Kind::String).until(5),
            int32("timeout_ms"),
        ],
    },
    Schema {
        api_key: ApiKey::DescribeConfigs,
        versions: 1..=4,
        flexible_from: Some(4),
        fields: &[
            array(
                "resources",
                &Kind::Structure(&[
                    int8("resource_type"),
                    string("resource_name"),
                    array("configuration_keys", &Kind::String).nullable(),
                ]),
            ),
            boolean("include_synonyms"),
            boolean("include_documentation").since(3),
        ],
    },
    Schema {
        api_key: ApiKey::AlterConfigs,
        versions: 0..=2,
        flexible_from: Some(2),
        fields: &[
            array(
                "resources",
                &Kind::Structure(&[
                    int8("resource_type"),
                    string("resource_name"),
                    array("configs", &Kind::Structure(&[string("name"), string("value").nullable()])),
                ]),
            ),
            boolean("validate_only"),
        ],
    },
    Schema {
        api_key: ApiKey::AlterReplicaLogDirs,
        versions: 1..=2,
        flexible_from: Some(2),
        fields: &[array(
            "dirs",
            &Kind::Structure(&[
                string("path"),
                array("topics", &Kind::Structure(&[string("name"), array("partitions", &Kind::Int32)])),
            ]),
        )],
    },
    Schema {
        api_key: ApiKey::DescribeLogDirs,
        versions: 1..=5,
        flexible_from: Some(2),
        fields: &[array("topics", &Kind::Structure(&[string("topic"), array("partitions", &Kind::Int32)]))
            .nullable()],
    },
    Schema {
        api_key: ApiKey::CreatePartitions,
        versions: 0..=3,
        flexible_from: Some(2),
        fields: &[
            array(
                "topics",
                &Kind::Structure(&[
                    string("name"),
                    int32("count"),
                    array("assignments", &Kind::Structure(&[array("broker_ids", &Kind::Int32)])).nullable(),
                ]),
            ),
            int32("timeout_ms"),
            boolean("validate_only"),
        ],
    },
    Schema {
        api_key: ApiKey::ElectLeaders,
        versions: 0..=2,
        flexible_from: Some(2),
        fields: &[
            int8("election_type").since(1),
            array(
                "topic_partitions",
                &Kind::Structure(&[string("topic"), array("partitions", &Kind::Int32)]),
            )
            .nullable(),
            int32("timeout_ms"),
        ],
    },
    Schema {
        api_key: ApiKey::IncrementalAlterConfigs,
        versions: 0..=1,
        flexible_from: Some(1),
        fields: &[
            array(
                "resources",
                &Kind::Structure(&[
                    int8("resource_type"),
                    string("resource_name"),
                    array(
                        "configs",
                        &Kind::Structure(&[
                            string("name"),
                            int8("config_operation"),
                            string("value").nullable(),
                        ]),
                    ),
                ]),
            ),
            boolean("validate_only"),
        ],
    },
    Schema {
        api_key: ApiKey::AlterPartitionReassignments,
        versions: 0..=1,
        flexible_from: Some(0),
        fields: &[
            int32("timeout_ms"),
            boolean("allow_replication_factor_change").since(1),
            array(
                "topics",
                &Kind::Structure(&[
                    string("name"),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition_index"),
                            array("replicas", &Kind::Int32).nullable(),
                        ]),
                    ),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::ListPartitionReassignments,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[
            int32("timeout_ms"),
            array("topics", &Kind::Structure(&[string("name"), array("partition_indexes", &Kind::Int32)]))
                .nullable(),
        ],
    },
    Schema {
        api_key: ApiKey::DescribeClientQuotas,
        versions: 0..=1,
        flexible_from: Some(1),
        fields: &[
            array(
                "components",
                &Kind::Structure(&[string("entity_type"), int8("match_type"), string("match").nullable()]),
            ),
            boolean("strict"),
        ],
    },
    Schema {
        api_key: ApiKey::AlterClientQuotas,
        versions: 0..=1,
        flexible_from: Some(1),
        fields: &[
            array(
                "entries",
                &Kind::Structure(&[
                    array(
                        "entity",
                        &Kind::Structure(&[string("entity_type"), string("entity_name").nullable()]),
                    ),
                    array("ops", &Kind::Structure(&[string("key"), float64("value"), boolean("remove")])),
                ]),
            ),
            boolean("validate_only"),
        ],
    },
    Schema {
        api_key: ApiKey::DescribeQuorum,
        versions: 0..=2,
        flexible_from: Some(0),
        fields: &[array(
            "topics",
            &Kind::Structure(&[
                string("topic_name"),
                array("partitions", &Kind::Structure(&[int32("partition_index")])),
            ]),
        )],
    },
    Schema {
        api_key: ApiKey::UpdateFeatures,
        versions: 0..=2,
        flexible_from: Some(0),
        fields: &[
            int32("timeout_ms"),
            array(
                "feature_updates",
                &Kind::Structure(&[
                    string("feature"),
                    int16("max_version_level"),
                    boolean("allow_downgrade").until(0),
                    int8("upgrade_type").since(1),
                ]),
            ),
            boolean("validate_only").since(1),
        ],
    },
    Schema {
        api_key: ApiKey::DescribeCluster,
        versions: 0..=2,
        flexible_from: Some(0),
        fields: &[
            boolean("include_cluster_authorized_operations"),
            int8("endpoint_type").since(1),
            boolean("include_fenced_brokers").since(2),
        ],
    },
    Schema {
        api_key: ApiKey::UnregisterBroker,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[int32("broker_id")],
    },
    Schema {
        api_key: ApiKey::ListConfigResources,
        versions: 0..=1,
        flexible_from: Some(0),
        fields: &[array("resource_types", &Kind::Int8).since(1)],
    },
];
