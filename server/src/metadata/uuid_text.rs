//! Kafka's text form of a UUID: its 16 bytes in the URL-safe base64 alphabet, without padding (22 characters).
//!
//! Kafka: `org.apache.kafka.common.Uuid`.

use uuid::Uuid;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The id of the metadata topic, which is no random one.
pub const METADATA_TOPIC_ID: Uuid = Uuid::from_u128(1);

/// The text form of `id`.
pub fn format(id: Uuid) -> String {
    let mut text = String::with_capacity(22);
    for group in id.as_bytes().chunks(3) {
        let mut bits = [0; 3];
        bits[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
        for position in 0..=group.len() {
            text.push(ALPHABET[(bits >> (18 - 6 * position)) as usize & 63] as char);
        }
    }
    text
}

/// The id in `text`, padded or not; `None` if it is none.
pub fn parse(text: &str) -> Option<Uuid> {
    let text = text.trim_end_matches('=');
    if text.len() != 22 {
        return None;
    }
    let mut value = 0u128;
    for (position, byte) in text.bytes().enumerate() {
        let digit = ALPHABET.iter().position(|letter| *letter == byte)? as u128;
        // 22 digits are 132 bits; the last four must be zero.
        if position < 21 {
            value = value << 6 | digit;
        } else if digit & 15 == 0 {
            value = value << 2 | digit >> 4;
        } else {
            return None;
        }
    }
    Some(Uuid::from_u128(value))
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
        assert_eq!(parse("iyt1fOKkRAq3IxchdFEjew"), Some(plain));
        for _ in 0..100 {
            let id = random();
            assert_eq!(parse(&format(id)), Some(id));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "AAAAAAAAAAAAAAAAAAAAAR", "AAAAAAAAAAAAAAAAAAAA+Q", "AAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
