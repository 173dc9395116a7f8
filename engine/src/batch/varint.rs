//! Zigzag variable-length integers, as Kafka's `ByteUtils` reads and writes them: at most 5 bytes for 32 bits,
//! 10 for 64.

/// Reads a 32-bit integer at `*position` and moves behind it; `None` if it is cut short or too long.
pub(super) fn read_i32(bytes: &[u8], position: &mut usize) -> Option<i32> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.get(*position)?;
        *position += 1;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value >> 1) as i32 ^ -((value & 1) as i32));
        }
    }
    None
}

/// Reads a 64-bit integer at `*position` and moves behind it; `None` if it is cut short or too long.
pub(super) fn read_i64(bytes: &[u8], position: &mut usize) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*position)?;
        *position += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Appends a 32- or 64-bit integer: both have the same encoding where both can hold the value.
pub(super) fn write(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`write`] appends for `value`.
pub(super) fn length(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_goes_there_and_back() {
        for magnitude in 0..63 {
            for value in [0, 1i64 << magnitude, -(1i64 << magnitude), i64::MAX, i64::MIN] {
                let mut bytes = Vec::new();
                write(&mut bytes, value);
                assert_eq!(bytes.len(), length(value), "{value}");
                let mut position = 0;
                assert_eq!(read_i64(&bytes, &mut position), Some(value));
                assert_eq!(position, bytes.len());
                if let Ok(narrow) = i32::try_from(value) {
                    assert_eq!(read_i32(&bytes, &mut 0), Some(narrow));
                }
            }
        }
    }

    #[test]
    fn an_endless_or_cut_integer_is_refused() {
        assert_eq!(read_i32(&[0x80; 16], &mut 0), None);
        assert_eq!(read_i64(&[0xff; 16], &mut 0), None);
        assert_eq!(read_i32(&[0x80], &mut 0), None);
        assert_eq!(read_i64(&[], &mut 0), None);
    }
}
