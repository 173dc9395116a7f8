//! Ids as Kafka writes them: 16 bytes in URL-safe base64 without padding (`org.apache.kafka.common.Uuid`).

use flumen_engine::layout::{decode_uuid, encode_uuid};
use uuid::Uuid;

/// The id of the metadata topic, which is no random one.
pub const METADATA_TOPIC_ID: Uuid = Uuid::from_u128(1);

/// The text form of `id`.
pub fn format(id: Uuid) -> String {
    encode_uuid(id)
}

/// The id in `text`; `None` if it is none.
pub fn parse(text: &str) -> Option<Uuid> {
    decode_uuid(text)
}

/// A random id such as Kafka takes: not one of the reserved ones, and no text that begins with a dash, which
/// a command line would take for an option.
pub fn random() -> Uuid {
    loop {
        let id = Uuid::new_v4();
        if id.as_u128() > 100 && !format(id).starts_with('-') {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_kafkas() {
        assert_eq!(format(METADATA_TOPIC_ID), "AAAAAAAAAAAAAAAAAAAAAQ");
        let plain = Uuid::from_u128(0x8b2b_757c_e2a4_440a_b723_1721_7451_237b);
        assert_eq!(format(plain), "iyt1fOKkRAq3IxchdFEjew");
        for _ in 0..100 {
            let id = random();
            assert_eq!(parse(&format(id)), Some(id));
        }
    }
}
