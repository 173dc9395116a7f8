//! Opening compressed batches, where their records must be looked at, and compressing them anew, where the
//! topic asks for a codec of its own.
//!
//! Pure, and not for a core's thread: a megabyte takes milliseconds. What a batch may grow to is bounded,
//! whatever it claims. Records are never taken apart: what is compressed anew is the same bytes.

use std::error::Error;
use std::io::{self, Read};
use std::iter::successors;

use flate2::bufread::GzDecoder;
use flumen_engine::batch::{self, BatchHeader, Codec, HEADER_BYTES};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

mod close;

pub use close::{Compression, close};

/// Bytes that a batch may have once it is open.
pub const OPENED_BYTES_MAX: usize = 128 << 20;

/// Where a batch's attributes stand.
const ATTRIBUTES_AT: usize = 21;

/// What xerial's framing of Snappy begins with; two version numbers follow.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;

/// What a frame of Zstandard begins with that decoders skip (RFC 8878, 3.1.2), but for its lowest four bits; its length
/// follows, both little-endian.
const ZSTD_SKIPPABLE_MAGIC: u32 = 0x184d_2a50;

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
        Codec::Gzip => decompress_gzip(records, opened)?,
        Codec::Snappy => decompress_snappy(records, opened)?,
        Codec::Lz4 => read_all(lz4_flex::frame::FrameDecoder::new(records), opened.len(), opened)?,
        Codec::Zstd => decompress_zstd(records, opened)?,
    }
    Ok(())
}

/// Reads a stream to its end; what stands from `start` on is the records'.
fn read_all(decoder: impl Read, start: usize, opened: &mut Vec<u8>) -> Result<(), OpenError> {
    let left = OPENED_BYTES_MAX.saturating_sub(opened.len());
    match decoder.take(left as u64 + 1).read_to_end(opened) {
        Ok(read) if read > left => Err(OpenError::TooLarge),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && opened.len() > start => {
            Err(OpenError::Cut)
        }
        Err(error) => Err(error.into()),
    }
}

/// Member after member. As Java's `GZIPInputStream`, what stands behind a member and does not begin like another one is
/// left alone.
fn decompress_gzip(records: &[u8], opened: &mut Vec<u8>) -> Result<(), OpenError> {
    let start = opened.len();
    let mut member = GzDecoder::new(records);
    loop {
        read_all(&mut member, start, opened)?;
        member = GzDecoder::new(member.into_inner());
        if member.header().is_none() {
            return Ok(());
        }
    }
}

/// Frame after frame, without those that are to be skipped. As zstd's own stream it ends where the last frame is cut:
/// whoever wants more records than there are misses them.
fn decompress_zstd(records: &[u8], opened: &mut Vec<u8>) -> Result<(), OpenError> {
    let start = opened.len();
    let (mut rest, mut decoder) = (records, FrameDecoder::new());
    loop {
        match behind_skippable(rest) {
            Some(behind) => rest = behind,
            None => {
                let frame = StreamingDecoder::new_with_decoder(&mut rest, &mut decoder);
                let read = frame.map_err(|error| io::Error::other(error).into());
                match read.and_then(|frame| read_all(frame, start, opened)) {
                    Err(OpenError::Codec(error)) if is_cut(&error) => return Ok(()),
                    read => read?,
                }
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// What follows the frame at the start of `frames`, if that is one to be skipped; nothing, if that is cut.
fn behind_skippable(frames: &[u8]) -> Option<&[u8]> {
    let (magic, behind) = frames.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*magic) & !0xf != ZSTD_SKIPPABLE_MAGIC {
        return None;
    }
    let Some((length, behind)) = behind.split_first_chunk::<4>() else { return Some(&[]) };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    Some(behind.get(length..).unwrap_or_default())
}

/// Whether a decoder failed because its source ended.
fn is_cut(error: &io::Error) -> bool {
    let reason = error.get_ref().map(|error| error as &(dyn Error + 'static));
    successors(reason, |&error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::UnexpectedEof)
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
        assert_eq!(opened(Codec::Gzip, &gzipped(&plain)).expect("sound"), plain);

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

    fn gzipped(plain: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(plain).expect("into memory");
        gzip.finish().expect("into memory")
    }

    #[test]
    fn gzip_may_have_several_members_and_anything_behind_them() {
        let (first, second) = (gzipped(b"first "), gzipped(b"second"));
        for behind in [&b""[..], &[0; 40], b"junk that is long enough for a header", &second[..7]] {
            let compressed = [&first[..], &second, behind].concat();
            assert_eq!(opened(Codec::Gzip, &compressed).expect("sound"), b"first second");
        }
        let torn = [&first[..], &second[..second.len() - 9]].concat();
        assert!(matches!(opened(Codec::Gzip, &torn), Err(OpenError::Cut)));
        assert!(matches!(opened(Codec::Gzip, b""), Err(OpenError::Codec(_))));
    }

    #[test]
    fn zstd_may_have_several_frames_and_some_to_skip() {
        let frame = |plain: &[u8]| {
            ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
        };
        let skippable = [&0x184d_2a57_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"???"].concat();
        let (first, second) = (frame(b"first "), frame(b"second"));
        let compressed = [&skippable[..], &first, &skippable, &skippable, &second, &skippable].concat();
        assert_eq!(opened(Codec::Zstd, &compressed).expect("sound"), b"first second");
        assert_eq!(opened(Codec::Zstd, &skippable).expect("sound"), b"");
        let length = compressed.len();
        for (cut, plain) in [
            (length - 1, &b"first second"[..]),
            (length - skippable.len() - 1, b"first "),
            (skippable.len() + 2, b""),
            (skippable.len() - 4, b""),
            (0, b""),
        ] {
            assert_eq!(opened(Codec::Zstd, &compressed[..cut]).expect("up to there"), plain, "{cut}");
        }
        assert!(opened(Codec::Zstd, &[&first[..], b"junk"].concat()).is_err());
        // The bound is of all of them together.
        let large = frame(&vec![0; OPENED_BYTES_MAX / 2 + 1]);
        assert!(matches!(opened(Codec::Zstd, &large.repeat(2)), Err(OpenError::TooLarge)));
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
