//! Opening compressed batches, where their records must be looked at, and compressing them anew, where the
//! topic asks for a codec of its own.
//!
//! Pure, and not for a core's thread: a megabyte takes milliseconds. What a batch may grow to is bounded,
//! whatever it claims. Records are never taken apart: what is compressed anew is the same bytes.

use std::io::{self, Read};

use flumen_engine::batch::{self, BatchHeader, Codec, HEADER_BYTES};

mod close;

pub use close::{Compression, close};

/// Bytes that a batch may have once it is open.
pub const OPENED_BYTES_MAX: usize = 128 << 20;

/// Where a batch's attributes stand.
const ATTRIBUTES_AT: usize = 21;

/// What xerial's framing of Snappy begins with; two version numbers follow.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;

/// Why a batch cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is no sound batch.
    #[error(transparent)]
    Batch(#[from] flumen_engine::batch::BatchError),
    /// Its records are not what its codec writes.
    #[error("cannot decompress: {0}")]
    Codec(#[from] io::Error),
    /// The compressed bytes end amid its records.
    #[error("the compressed records end too early")]
    Cut,
    /// It is larger than [`OPENED_BYTES_MAX`].
    #[error("more than {OPENED_BYTES_MAX} bytes")]
    TooLarge,
}

/// The same batch with its records uncompressed, its header made right.
pub fn open(batch: &[u8]) -> Result<Vec<u8>, OpenError> {
    let header = BatchHeader::parse(batch)?;
    let batch = &batch[..header.batch_bytes()];
    let attributes = u16::from_be_bytes([batch[ATTRIBUTES_AT], batch[ATTRIBUTES_AT + 1]]);
    let codec = Codec::of_attributes(attributes.cast_signed())?;
    let mut opened = batch[..HEADER_BYTES].to_vec();
    decompress(codec, &batch[HEADER_BYTES..], &mut opened)?;
    batch::seal(&mut opened, Codec::None, None)?;
    Ok(opened)
}

fn decompress(codec: Codec, records: &[u8], opened: &mut Vec<u8>) -> Result<(), OpenError> {
    match codec {
        Codec::None => opened.extend_from_slice(records),
        Codec::Gzip => read_all(flate2::read::MultiGzDecoder::new(records), opened)?,
        Codec::Snappy => decompress_snappy(records, opened)?,
        Codec::Lz4 => read_all(lz4_flex::frame::FrameDecoder::new(records), opened)?,
        Codec::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(records).map_err(io::Error::other)?;
            read_all(decoder, opened)?;
        }
    }
    Ok(())
}

fn read_all(decoder: impl Read, opened: &mut Vec<u8>) -> Result<(), OpenError> {
    let left = OPENED_BYTES_MAX.saturating_sub(opened.len());
    let start = opened.len();
    match decoder.take(left as u64 + 1).read_to_end(opened) {
        Ok(read) if read > left => Err(OpenError::TooLarge),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && opened.len() > start => {
            Err(OpenError::Cut)
        }
        Err(error) => Err(error.into()),
    }
}

/// Java clients frame Snappy's blocks in xerial's way, others send one bare block.
fn decompress_snappy(records: &[u8], opened: &mut Vec<u8>) -> Result<(), OpenError> {
    if !records.starts_with(&XERIAL_MAGIC) {
        return decompress_block(records, opened);
    }
    let mut rest = records.get(XERIAL_HEADER_BYTES..).ok_or_else(cut)?;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        decompress_block(behind.get(..length).ok_or_else(cut)?, opened)?;
        rest = &behind[length..];
    }
    Ok(())
}

fn decompress_block(block: &[u8], opened: &mut Vec<u8>) -> Result<(), OpenError> {
    let length = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    let start = opened.len();
    if length > OPENED_BYTES_MAX.saturating_sub(start) {
        return Err(OpenError::TooLarge);
    }
    opened.resize(start + length, 0);
    snap::raw::Decoder::new().decompress(block, &mut opened[start..]).map_err(io::Error::other)?;
    Ok(())
}

fn cut() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn opened(codec: Codec, compressed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut opened = Vec::new();
        decompress(codec, compressed, &mut opened).map(|()| opened)
    }

    #[test]
    fn each_codec_is_opened() {
        let plain: Vec<u8> = (0..100_000_u32).flat_map(|number| (number % 251).to_be_bytes()).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).expect("into memory");
        let gzip = gzip.finish().expect("into memory");
        assert_eq!(opened(Codec::Gzip, &gzip).expect("sound"), plain);

        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&plain).expect("into memory");
        let lz4 = lz4.finish().expect("into memory");
        assert_eq!(opened(Codec::Lz4, &lz4).expect("sound"), plain);

        let zstd = ruzstd::encoding::compress_to_vec(&plain[..], ruzstd::encoding::CompressionLevel::Fastest);
        assert_eq!(opened(Codec::Zstd, &zstd).expect("sound"), plain);

        let bare = snap::raw::Encoder::new().compress_vec(&plain).expect("into memory");
        assert_eq!(opened(Codec::Snappy, &bare).expect("sound"), plain);
        let mut framed = [&XERIAL_MAGIC[..], &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
        for piece in plain.chunks(32 << 10) {
            let block = snap::raw::Encoder::new().compress_vec(piece).expect("into memory");
            framed.extend_from_slice(&u32::try_from(block.len()).expect("small").to_be_bytes());
            framed.extend_from_slice(&block);
        }
        assert_eq!(opened(Codec::Snappy, &framed).expect("sound"), plain);
    }

    #[test]
    fn what_is_no_codecs_and_what_grows_too_large_is_refused() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            assert!(opened(codec, b"not compressed at all").is_err(), "{codec:?}");
        }
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let zeros = vec![0; 1 << 20];
        for _ in 0..=(OPENED_BYTES_MAX >> 20) {
            bomb.write_all(&zeros).expect("into memory");
        }
        let bomb = bomb.finish().expect("into memory");
        assert!(matches!(opened(Codec::Gzip, &bomb), Err(OpenError::TooLarge)));
        // A bare Snappy block that claims four gigabytes.
        assert!(opened(Codec::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]).is_err());
    }
}
