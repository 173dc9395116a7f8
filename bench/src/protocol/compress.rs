//! The codecs of record batches, at the levels that clients use by default.

use std::io::Write;

use bytes::{BufMut, BytesMut};
use clap::ValueEnum;
use kafka_protocol::records::Compression;
use serde::{Deserialize, Serialize};

/// How a producer compresses its batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// gzip, level 6.
    Gzip,
    /// Snappy, in the framing of snappy-java.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard, its fastest level.
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

/// Appends the compressed records to `out`.
pub fn compress(records: &[u8], out: &mut BytesMut, codec: Compression) -> std::io::Result<()> {
    match codec {
        Compression::None => out.put_slice(records),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out.writer(), flate2::Compression::default());
            encoder.write_all(records)?;
            encoder.finish()?;
        }
        Compression::Snappy => snappy(records, out)?,
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(out.writer());
            encoder.write_all(records)?;
            encoder.finish().map_err(std::io::Error::other)?;
        }
        Compression::Zstd => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            out.put_slice(&ruzstd::encoding::compress_to_vec(records, level));
        }
    }
    Ok(())
}

/// snappy-java's stream: a header of 16 bytes, then blocks of at most 32 KiB behind their lengths.
fn snappy(records: &[u8], out: &mut BytesMut) -> std::io::Result<()> {
    const BLOCK_BYTES: usize = 32 * 1024;
    out.put_slice(b"\x82SNAPPY\0");
    out.put_i32(1);
    out.put_i32(1);
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block).map_err(std::io::Error::other)?;
        out.put_i32(compressed.len() as i32);
        out.put_slice(&compressed);
    }
    Ok(())
}
