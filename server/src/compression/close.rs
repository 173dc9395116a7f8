//! The way back: records under the codec that their topic asks for.

use std::io::{self, Write};

use flumen_engine::Timestamp;
use flumen_engine::batch::{self, BatchError, Codec, HEADER_BYTES};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use ruzstd::encoding::CompressionLevel;

use super::{XERIAL_HEADER_BYTES, XERIAL_MAGIC};

/// Bytes of a block in xerial's framing of Snappy, as the Java clients and Kafka write it.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// How a topic wants its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// The codec; `None` for uncompressed.
    pub codec: Codec,
    /// `compression.gzip.level`, 1 to 9; the other codecs have one level here.
    pub gzip_level: u32,
}

/// A batch of uncompressed records with the same records compressed, and `max_timestamp` as the largest of them.
pub fn close(opened: &[u8], to: &Compression, max_timestamp: Timestamp) -> Result<Vec<u8>, BatchError> {
    let Some((header, records)) = opened.split_at_checked(HEADER_BYTES) else {
        return Err(BatchError::NoBatch { length: opened.len() });
    };
    let mut closed = header.to_vec();
    compress(to, records, &mut closed).expect("memory takes everything");
    batch::seal(&mut closed, to.codec, Some(max_timestamp))?;
    Ok(closed)
}

fn compress(to: &Compression, records: &[u8], closed: &mut Vec<u8>) -> io::Result<()> {
    match to.codec {
        Codec::None => closed.extend_from_slice(records),
        Codec::Gzip => {
            let level = flate2::Compression::new(to.gzip_level);
            let mut encoder = flate2::write::GzEncoder::new(closed, level);
            encoder.write_all(records)?;
            encoder.finish()?;
        }
        Codec::Snappy => {
            closed.extend_from_slice(&XERIAL_MAGIC);
            closed.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
            const { assert!(XERIAL_MAGIC.len() + 8 == XERIAL_HEADER_BYTES) };
            let mut encoder = snap::raw::Encoder::new();
            for block in records.chunks(XERIAL_BLOCK_BYTES) {
                let block = encoder.compress_vec(block).map_err(io::Error::other)?;
                let length = u32::try_from(block.len()).map_err(io::Error::other)?;
                closed.extend_from_slice(&length.to_be_bytes());
                closed.extend_from_slice(&block);
            }
        }
        Codec::Lz4 => {
            // Java's reader takes no other blocks than independent ones.
            let frame = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
            let mut encoder = FrameEncoder::with_frame_info(frame, closed);
            encoder.write_all(records)?;
            encoder.finish().map_err(io::Error::other)?;
        }
        Codec::Zstd => ruzstd::encoding::compress(records, closed, CompressionLevel::Fastest),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flumen_engine::batch::{BatchBuilder, BatchLimits};
    use proptest::prelude::*;

    use super::super::open;
    use super::*;

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// Whatever the records are, they come back byte for byte, under a header that every check passes.
        #[test]
        fn what_was_closed_opens_again(
            values in prop::collection::vec((any::<u8>(), 0..70_000_usize, any::<bool>()), 1..6),
            gzip_level in 1..10_u32,
        ) {
            let mut builder = BatchBuilder::new();
            for (index, (seed, length, is_regular)) in values.iter().enumerate() {
                let value: Vec<u8> = (0..*length)
                    .map(|at| if *is_regular { *seed } else { (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed })
                    .collect();
                builder.append(Timestamp(1_000 + index as i64), Some(b"key"), Some(&value), &[]);
            }
            let plain = builder.build();
            for codec in CODECS {
                let to = Compression { codec, gzip_level };
                let closed = close(&plain, &to, Timestamp(7_777)).expect("closed");
                let limits = BatchLimits { max_message_bytes: u32::MAX };
                let checked = batch::check(Bytes::from(closed.clone()), &limits).expect("a sound batch");
                let summary = checked.summaries()[0];
                prop_assert_eq!((summary.codec, summary.records as usize), (codec, values.len()));
                let opened = open(&closed).expect("opened");
                prop_assert_eq!(&opened[HEADER_BYTES..], &plain[HEADER_BYTES..]);
            }
        }
    }

    #[test]
    fn a_batch_without_a_header_is_refused() {
        let to = Compression { codec: Codec::Gzip, gzip_level: 6 };
        assert!(close(b"short", &to, Timestamp(0)).is_err());
    }
}
