//! What the fuzz targets call, and what replays their corpora: arbitrary bytes in, a panic if a rule breaks.

use bytes::Bytes;

use crate::groups::records::{read_group, read_key, read_offset};
use crate::metadata::image::Image;
use crate::metadata::records::{Levels, Record};

/// A target's name, which is its corpus', and what it does with one input.
pub type Target = (&'static str, fn(&[u8]));

/// The targets of this crate.
pub const TARGETS: &[Target] = &[
    ("metadata_record", metadata_record),
    ("metadata_image", metadata_image),
    ("group_record", group_record),
];

const LEVELS: Levels = Levels { metadata_version: Levels::METADATA_VERSION_MAX };

/// The value of a record in `__cluster_metadata-0`.
pub fn metadata_record(data: &[u8]) {
    let Ok(record) = Record::read(data) else { return };
    let written = record.to_bytes(LEVELS);
    let again = Record::read(&written).expect("what is written is read");
    // Not the records themselves: a NaN in a quota is not equal to itself.
    assert_eq!(again.to_bytes(LEVELS), written);
}

/// Records one after the other, each behind its length in two bytes, applied to an empty image.
pub fn metadata_image(data: &[u8]) {
    let mut image = Image::default();
    let mut rest = data;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((value, behind)) = behind.split_at_checked(length) else { return };
        rest = behind;
        if let Ok(record) = Record::read(value) {
            let _ = image.apply(&record);
        }
    }
}

/// A record of `__consumer_offsets`: the same bytes as key, as committed offset and as generation.
pub fn group_record(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let _ = read_key(&bytes);
    let _ = read_offset(&bytes);
    let _ = read_group(&bytes);
}
