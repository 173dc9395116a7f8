//! Producer ids and transactions.

use kafka_protocol::messages::ApiKey;

use super::{Kind, Schema, array, boolean, int8, int16, int32, int64, string};

/// After Kafka 4.3's message schemas.
pub(super) const SCHEMAS: &[Schema] = &[
    Schema {
        api_key: ApiKey::InitProducerId,
        versions: 0..=6,
        flexible_from: Some(2),
        fields: &[
            string("transactional_id").nullable(),
            int32("transaction_timeout_ms"),
            int64("producer_id").since(3),
            int16("producer_epoch").since(3),
            boolean("enable2_pc").since(6),
            boolean("keep_prepared_txn").since(6),
        ],
    },
    Schema {
        api_key: ApiKey::AddPartitionsToTxn,
        versions: 0..=5,
        flexible_from: Some(3),
        fields: &[
            array(
                "transactions",
                &Kind::Structure(&[
                    string("transactional_id"),
                    int64("producer_id"),
                    int16("producer_epoch"),
                    boolean("verify_only"),
                    array("topics", &Kind::Structure(&[string("name"), array("partitions", &Kind::Int32)])),
                ]),
            )
            .since(4),
            string("v3_and_below_transactional_id").until(3),
            int64("v3_and_below_producer_id").until(3),
            int16("v3_and_below_producer_epoch").until(3),
            array(
                "v3_and_below_topics",
                &Kind::Structure(&[string("name"), array("partitions", &Kind::Int32)]),
            )
            .until(3),
        ],
    },
    Schema {
        api_key: ApiKey::AddOffsetsToTxn,
        versions: 0..=4,
        flexible_from: Some(3),
        fields: &[
            string("transactional_id"),
            int64("producer_id"),
            int16("producer_epoch"),
            string("group_id"),
        ],
    },
    Schema {
        api_key: ApiKey::EndTxn,
        versions: 0..=5,
        flexible_from: Some(3),
        fields: &[
            string("transactional_id"),
            int64("producer_id"),
            int16("producer_epoch"),
            boolean("committed"),
        ],
    },
    Schema {
        api_key: ApiKey::WriteTxnMarkers,
        versions: 1..=2,
        flexible_from: Some(1),
        fields: &[array(
            "markers",
            &Kind::Structure(&[
                int64("producer_id"),
                int16("producer_epoch"),
                boolean("transaction_result"),
                array(
                    "topics",
                    &Kind::Structure(&[string("name"), array("partition_indexes", &Kind::Int32)]),
                ),
                int32("coordinator_epoch"),
                int8("transaction_version").since(2),
            ]),
        )],
    },
    Schema {
        api_key: ApiKey::TxnOffsetCommit,
        versions: 0..=5,
        flexible_from: Some(3),
        fields: &[
            string("transactional_id"),
            string("group_id"),
            int64("producer_id"),
            int16("producer_epoch"),
            int32("generation_id").since(3),
            string("member_id").since(3),
            string("group_instance_id").nullable().since(3),
            array(
                "topics",
                &Kind::Structure(&[
                    string("name"),
                    array(
                        "partitions",
                        &Kind::Structure(&[
                            int32("partition_index"),
                            int64("committed_offset"),
                            int32("committed_leader_epoch").since(2),
                            string("committed_metadata").nullable(),
                        ]),
                    ),
                ]),
            ),
        ],
    },
    Schema {
        api_key: ApiKey::DescribeProducers,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[array(
            "topics",
            &Kind::Structure(&[string("name"), array("partition_indexes", &Kind::Int32)]),
        )],
    },
    Schema {
        api_key: ApiKey::DescribeTransactions,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[array("transactional_ids", &Kind::String)],
    },
    Schema {
        api_key: ApiKey::ListTransactions,
        versions: 0..=2,
        flexible_from: Some(0),
        fields: &[
            array("state_filters", &Kind::String),
            array("producer_id_filters", &Kind::Int64),
            int64("duration_filter").since(1),
            string("transactional_id_pattern").nullable().since(2),
        ],
    },
];
