//! What brokers and controllers send each other.

use kafka_protocol::messages::ApiKey;

use super::{
    Kind, Schema, array, boolean, bytes, int8, int16, int32, int64, string, structure, uint16, uuid,
};

/// After Kafka 4.3's message schemas.
pub(super) const SCHEMAS: &[Schema] = &[
    Schema {
        api_key: ApiKey::Vote,
        versions: 0..=2,
        flexible_from: Some(0),
        fields: &[
            string("cluster_id").nullable(),
            int32("voter_id").since(1),
            array(
                "topics",
                &Kind::Structure(&[
                    string("topic_name"),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition_index"),
                            int32("replica_epoch"),
                            int32("replica_id"),
                            uuid("replica_directory_id").since(1),
                            uuid("voter_directory_id").since(1),
                            int32("last_offset_epoch"),
                            int64("last_offset"),
                            boolean("pre_vote").since(2),
                        ]),
                    ),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::BeginQuorumEpoch,
        versions: 0..=1,
        flexible_from: Some(1),
        fields: &[
            string("cluster_id").nullable(),
            int32("voter_id").since(1),
            array(
                "topics",
                &Kind::Structure(&[
                    string("topic_name"),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition_index"),
                            uuid("voter_directory_id").since(1),
                            int32("leader_id"),
                            int32("leader_epoch"),
                        ]),
                    ),
                ]),
            ),
            array("leader_endpoints", &Kind::Structure(&[string("name"), string("host"), uint16("port")]))
                .since(1),
        ],
    },
    Schema {
        api_key: ApiKey::EndQuorumEpoch,
        versions: 0..=1,
        flexible_from: Some(1),
        fields: &[
            string("cluster_id").nullable(),
            array(
                "topics",
                &Kind::Structure(&[
                    string("topic_name"),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition_index"),
                            int32("leader_id"),
                            int32("leader_epoch"),
                            array("preferred_successors", &Kind::Int32).until(0),
                            array(
                                "preferred_candidates",
                                &Kind::Structure(&[int32("candidate_id"), uuid("candidate_directory_id")]),
                            )
                            .since(1),
                        ]),
                    ),
                ]),
            ),
            array("leader_endpoints", &Kind::Structure(&[string("name"), string("host"), uint16("port")]))
                .since(1),
        ],
    },
    Schema {
        api_key: ApiKey::AlterPartition,
        versions: 2..=3,
        flexible_from: Some(0),
        fields: &[
            int32("broker_id"),
            int64("broker_epoch"),
            array(
                "topics",
                &Kind::Structure(&[
                    uuid("topic_id"),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition_index"),
                            int32("leader_epoch"),
                            array("new_isr", &Kind::Int32).until(2),
                            array(
                                "new_isr_with_epochs",
                                &Kind::Structure(&[int32("broker_id"), int64("broker_epoch")]),
                            )
                            .since(3),
                            int8("leader_recovery_state"),
                            int32("partition_epoch"),
                        ]),
                    ),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::Envelope,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[bytes("request_data"), bytes("request_principal").nullable(), bytes("client_host_address")],
    },
    Schema {
        api_key: ApiKey::FetchSnapshot,
        versions: 0..=1,
        flexible_from: Some(0),
        fields: &[
            string("cluster_id").nullable().tagged(0),
            int32("replica_id"),
            int32("max_bytes"),
            array(
                "topics",
                &Kind::Structure(&[
                    string("name"),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition"),
                            int32("current_leader_epoch"),
                            structure("snapshot_id", &[int64("end_offset"), int32("epoch")]),
                            int64("position"),
                            uuid("replica_directory_id").tagged(0).since(1),
                        ]),
                    ),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::BrokerRegistration,
        versions: 0..=4,
        flexible_from: Some(0),
        fields: &[
            int32("broker_id"),
            string("cluster_id"),
            uuid("incarnation_id"),
            array(
                "listeners",
                &Kind::Structure(&[
                    string("name"),
                    string("host"),
                    uint16("port"),
                    int16("security_protocol"),
                ]),
            ),
            array(
                "features",
                &Kind::Structure(&[
                    string("name"),
                    int16("min_supported_version"),
                    int16("max_supported_version"),
                ]),
            ),
            string("rack").nullable(),
            boolean("is_migrating_zk_broker").since(1),
            array("log_dirs", &Kind::Uuid).since(2),
            int64("previous_broker_epoch").since(3),
        ],
    },
    Schema {
        api_key: ApiKey::BrokerHeartbeat,
        versions: 0..=2,
        flexible_from: Some(0),
        fields: &[
            int32("broker_id"),
            int64("broker_epoch"),
            int64("current_metadata_offset"),
            boolean("want_fence"),
            boolean("want_shut_down"),
            array("offline_log_dirs", &Kind::Uuid).tagged(0).since(1),
            array("cordoned_log_dirs", &Kind::Uuid).nullable().tagged(1).since(2),
        ],
    },
    Schema {
        api_key: ApiKey::AllocateProducerIds,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[int32("broker_id"), int64("broker_epoch")],
    },
    Schema {
        api_key: ApiKey::ControllerRegistration,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[
            int32("controller_id"),
            uuid("incarnation_id"),
            boolean("zk_migration_ready"),
            array(
                "listeners",
                &Kind::Structure(&[
                    string("name"),
                    string("host"),
                    uint16("port"),
                    int16("security_protocol"),
                ]),
            ),
            array(
                "features",
                &Kind::Structure(&[
                    string("name"),
                    int16("min_supported_version"),
                    int16("max_supported_version"),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::AssignReplicasToDirs,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[
            int32("broker_id"),
            int64("broker_epoch"),
            array(
                "directories",
                &Kind::Structure(&[
                    uuid("id"),
                    array(
                        "topics",
                        &Kind::Structure(&[
                            uuid("topic_id"),
                            array("partitions", &Kind::Structure(&[int32("partition_index")])),
                        ]),
                    ),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::AddRaftVoter,
        versions: 0..=1,
        flexible_from: Some(0),
        fields: &[
            string("cluster_id").nullable(),
            int32("timeout_ms"),
            int32("voter_id"),
            uuid("voter_directory_id"),
            array("listeners", &Kind::Structure(&[string("name"), string("host"), uint16("port")])),
            boolean("ack_when_committed").since(1),
        ],
    },
    Schema {
        api_key: ApiKey::RemoveRaftVoter,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[string("cluster_id").nullable(), int32("voter_id"), uuid("voter_directory_id")],
    },
    Schema {
        api_key: ApiKey::UpdateRaftVoter,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[
            string("cluster_id").nullable(),
            int32("current_leader_epoch"),
            int32("voter_id"),
            uuid("voter_directory_id"),
            array("listeners", &Kind::Structure(&[string("name"), string("host"), uint16("port")])),
            structure(
                "k_raft_version_feature",
                &[int16("min_supported_version"), int16("max_supported_version")],
            ),
        ],
    },
];
