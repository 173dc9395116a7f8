//! The session itself: versions, authentication, telemetry.

use kafka_protocol::messages::ApiKey;

use super::{Schema, boolean, bytes, int8, int32, string, uuid};

/// After Kafka 4.3's message schemas.
pub(super) const SCHEMAS: &[Schema] = &[
    Schema {
        api_key: ApiKey::SaslHandshake,
        versions: 0..=1,
        flexible_from: None,
        fields: &[string("mechanism")],
    },
    Schema {
        api_key: ApiKey::ApiVersions,
        versions: 0..=4,
        flexible_from: Some(3),
        fields: &[string("client_software_name").since(3), string("client_software_version").since(3)],
    },
    Schema {
        api_key: ApiKey::SaslAuthenticate,
        versions: 0..=2,
        flexible_from: Some(2),
        fields: &[bytes("auth_bytes")],
    },
    Schema {
        api_key: ApiKey::GetTelemetrySubscriptions,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[uuid("client_instance_id")],
    },
    Schema {
        api_key: ApiKey::PushTelemetry,
        versions: 0..=0,
        flexible_from: Some(0),
        fields: &[
            uuid("client_instance_id"),
            int32("subscription_id"),
            boolean("terminating"),
            int8("compression_type"),
            bytes("metrics"),
        ],
    },
];
