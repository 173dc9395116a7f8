//! Access control, credentials and delegation tokens.

use kafka_protocol::messages::ApiKey;

use super::{Kind, Schema, array, bytes, int8, int32, int64, string};

/// After Kafka 4.3's message schemas.
pub(super) const SCHEMAS: &[Schema] = &[
    Schema {
        api_key: ApiKey::DescribeAcls,
        versions: 1..=3,
        flexible_from: Some(2),
        fields: &[
            int8("resource_type_filter"),
            string("resource_name_filter").nullable(),
            int8("pattern_type_filter"),
            string("principal_filter").nullable(),
            string("host_filter").nullable(),
            int8("operation"),
            int8("permission_type"),
        ],
    },
    Schema {
        api_key: ApiKey::CreateAcls,
        versions: 1..=3,
        flexible_from: Some(2),
        fields: &[array(
            "creations",
            &Kind::Structure(&[
                int8("resource_type"),
                string("resource_name"),
                int8("resource_pattern_type"),
                string("principal"),
                string("host"),
                int8("operation"),
                int8("permission_type"),
            ]),
        )],
    },
    Schema {
        api_key: ApiKey::DeleteAcls,
        versions: 1..=3,
        flexible_from: Some(2),
        fields: &[array(
            "filters",
            &Kind::Structure(&[
                int8("resource_type_filter"),
                string("resource_name_filter").nullable(),
                int8("pattern_type_filter"),
                string("principal_filter").nullable(),
                string("host_filter").nullable(),
                int8("operation"),
                int8("permission_type"),
            ]),
        )],
    },
    Schema {
        api_key: ApiKey::CreateDelegationToken,
        versions: 1..=3,
        flexible_from: Some(2),
        fields: &[
            string("owner_principal_type").nullable().since(3),
            string("owner_principal_name").nullable().since(3),
            array("renewers", &Kind::Structure(&[string("principal_type"), string("principal_name")])),
            int64("max_lifetime_ms"),
        ],
    },
    Schema {
        api_key: ApiKey::RenewDelegationToken,
        versions: 1..=2,
        flexible_from: Some(2),
        fields: &[bytes("hmac"), int64("renew_period_ms")],
    },
    Schema {
        api_key: ApiKey::ExpireDelegationToken,
        versions: 1..=2,
        flexible_from: Some(2),
        fields: &[bytes("hmac"), int64("expiry_time_period_ms")],
    },
    Schema {
        api_key: ApiKey::DescribeDelegationToken,
        versions: 1..=3,
        flexible_from: Some(2),
        fields: &[array("owners", &Kind::Structure(&[string("principal_type"), string("principal_name")]))
            .nullable()],
    },
    Schema {
        api_key: ApiKey::DescribeUserScramCredentials,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[array("users", &Kind::Structure(&[string("name")])).nullable()],
    },
    Schema {
        api_key: ApiKey::AlterUserScramCredentials,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[
            array("deletions", &Kind::Structure(&[string("name"), int8("mechanism")])),
            array(
                "upsertions",
                &Kind::Structure(&[
                    string("name"),
                    int8("mechanism"),
                    int32("iterations"),
                    bytes("salt"),
                    bytes("salted_password"),
                ]),
            ),
        ],
    },
];
