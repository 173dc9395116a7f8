//! Record batches as a producer makes them: random records, encoded once. What changes from one sending to the
//! next is patched in place: the stamp of the intended send time, the producer's sequence, and the checksum.
//!
//! ```text
//!  0  base offset     i64    16  magic 2        i8     35  maximum timestamp i64
//!  8  batch length    i32    17  checksum       u32    43  producer id       i64
//! 12  leader epoch    i32    21  attributes     i16    51  producer epoch    i16
//!                            23  last delta     i32    53  base sequence     i32
//!                            27  base timestamp i64    57  record count      i32
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{
    NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};

pub use super::compress::Codec;
use super::compress::compress;
use crate::clock::Moment;
use crate::error::BenchError;

/// Bytes in front of a batch's records.
pub const HEADER_BYTES: usize = 61;

/// A stamp: eight bytes to know it by, and the intended send time in nanoseconds.
pub const STAMP_BYTES: usize = 16;
const STAMP_MAGIC: [u8; 8] = *b"\xf1\x0eBENCH\x01";

/// The shape of a batch.
#[derive(Clone, Debug)]
pub struct BatchShape {
    /// Records in it.
    pub records: usize,
    /// Bytes of each value.
    pub record_bytes: usize,
    /// Different keys, or none at all.
    pub keys: Option<u64>,
    /// How it is compressed.
    pub codec: Codec,
    /// The share of each value that is zero, so that it compresses.
    pub compressible: f64,
    /// Whether its first record begins with a stamp.
    pub is_stamped: bool,
}

/// One batch with the time of now and without a producer id. The same seed gives the same records.
pub fn encode(shape: &BatchShape, seed: u64) -> Result<Bytes, BenchError> {
    let mut random = Random::new(seed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let records: Vec<_> = (0..shape.records as i64)
        .map(|offset| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset,
            // The encoder begins a new batch where offsets and sequences do not go on together.
            sequence: NO_SEQUENCE + offset as i32,
            timestamp: now,
            key: shape.keys.map(|keys| Bytes::from(format!("key-{:012}", random.next() % keys.max(1)))),
            value: Some(value(shape, offset == 0, &mut random)),
            headers: IndexMap::new(),
        })
        .collect();
    let options = RecordEncodeOptions { version: 2, compression: shape.codec.into() };
    let mut out = BytesMut::new();
    let compressor = |records: &mut BytesMut, out: &mut BytesMut, codec| Ok(compress(records, out, codec)?);
    RecordBatchEncoder::encode_with_custom_compression(&mut out, &records, &options, Some(compressor))
        .map_err(BenchError::codec)?;
    Ok(out.freeze())
}

fn value(shape: &BatchShape, is_first: bool, random: &mut Random) -> Bytes {
    let mut out = BytesMut::with_capacity(shape.record_bytes + 8);
    if is_first && shape.is_stamped {
        out.put_slice(&STAMP_MAGIC);
        out.put_u64(0);
    }
    let random_bytes = (shape.record_bytes as f64 * (1.0 - shape.compressible)) as usize;
    while out.len() < random_bytes {
        out.put_u64(random.next());
    }
    out.resize(shape.record_bytes, 0);
    out.freeze()
}

/// Xorshift: incompressible, and the same in every run.
pub struct Random(u64);

impl Random {
    /// Different seeds give different numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Where the stamp's time stands in a whole batch that has one.
pub fn stamp_at(batch: &[u8]) -> Option<usize> {
    let magic_at = first_value_at(batch)?;
    (batch.get(magic_at..magic_at + 8)? == STAMP_MAGIC).then_some(magic_at + 8)
}

/// The intended send time in a batch's stamp.
pub fn stamp(batch: &[u8]) -> Option<Moment> {
    let at = stamp_at(batch)?;
    let nanos = batch.get(at..at + 8)?;
    Some(Moment::from_nanos(u64::from_be_bytes(nanos.try_into().expect("eight bytes"))))
}

/// Where the first record's value begins. Only uncompressed batches show it.
fn first_value_at(batch: &[u8]) -> Option<usize> {
    if batch.len() < HEADER_BYTES || batch[22] & 7 != 0 {
        return None;
    }
    let mut at = HEADER_BYTES;
    let _length = varint(batch, &mut at)?;
    at += 1;
    let _timestamp_delta = varint(batch, &mut at)?;
    let _offset_delta = varint(batch, &mut at)?;
    let key_bytes = varint(batch, &mut at)?;
    at += usize::try_from(key_bytes).unwrap_or(0);
    varint(batch, &mut at)?;
    Some(at)
}

/// A zigzag varint of up to 64 bits.
fn varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Sets the stamp's time. [`seal`] must follow.
pub fn set_stamp(batch: &mut [u8], at: usize, intended: Moment) {
    batch[at..at + 8].copy_from_slice(&intended.nanos().to_be_bytes());
}

/// Makes it an idempotent producer's batch. [`seal`] must follow.
pub fn set_producer(batch: &mut [u8], id: i64, epoch: i16, sequence: i32) {
    batch[43..51].copy_from_slice(&id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
}

/// Computes the checksum anew.
pub fn seal(batch: &mut [u8]) {
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
}

/// One whole batch out of a fetch's answer, by its header.
pub struct BatchView<'a> {
    /// All of it.
    pub bytes: &'a [u8],
    /// The offset behind it.
    pub next_offset: i64,
    /// Its records.
    pub records: u64,
}

/// The whole batches in an answer; the last one may be cut, and is then not among them.
pub fn whole_batches(mut records: &[u8]) -> impl Iterator<Item = BatchView<'_>> {
    std::iter::from_fn(move || {
        let field = |at: usize| Some(i32::from_be_bytes(records.get(at..at + 4)?.try_into().ok()?));
        let base_offset = i64::from_be_bytes(records.get(..8)?.try_into().ok()?);
        let (last_delta, count) = (field(23)?, field(57)?);
        let whole = usize::try_from(field(8)?).ok()?.checked_add(12)?;
        let bytes = records.get(..whole)?;
        records = &records[whole..];
        let next_offset = base_offset + i64::from(last_delta) + 1;
        Some(BatchView { bytes, next_offset, records: count.max(0) as u64 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::records::RecordBatchDecoder;

    fn shape() -> BatchShape {
        BatchShape {
            records: 10,
            record_bytes: 100,
            keys: None,
            codec: Codec::None,
            compressible: 0.0,
            is_stamped: true,
        }
    }

    #[test]
    fn a_stamp_is_read_back_and_the_checksum_holds() {
        for keys in [None, Some(7)] {
            let mut batch = encode(&BatchShape { keys, ..shape() }, 5).expect("it encodes").to_vec();
            let at = stamp_at(&batch).expect("it is stamped");
            set_stamp(&mut batch, at, Moment::from_nanos(123_456_789));
            set_producer(&mut batch, 77, 3, 1000);
            seal(&mut batch);
            assert_eq!(stamp(&batch), Some(Moment::from_nanos(123_456_789)));
            let decoded = RecordBatchDecoder::decode(&mut Bytes::from(batch)).expect("the checksum holds");
            assert_eq!(decoded.records.len(), 10);
            assert_eq!((decoded.records[9].producer_id, decoded.records[9].sequence), (77, 1009));
        }
    }

    #[test]
    fn without_a_stamp_none_is_found() {
        let plain = encode(&BatchShape { is_stamped: false, ..shape() }, 5).expect("it encodes");
        assert_eq!(stamp(&plain), None);
        let compressed = encode(&BatchShape { codec: Codec::Lz4, ..shape() }, 5).expect("it encodes");
        assert_eq!(stamp(&compressed), None);
        assert_eq!(stamp(&plain[..20]), None);
    }

    #[test]
    fn every_codec_is_read_back() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let shape = BatchShape { codec, compressible: 0.8, record_bytes: 5000, ..shape() };
            let batch = encode(&shape, 1).expect("it encodes");
            assert!(batch.len() < 10 * 5000 / 2, "{codec:?} does not compress: {} bytes", batch.len());
            assert_eq!(whole_batches(&batch).map(|batch| batch.records).sum::<u64>(), 10);
        }
    }

    #[test]
    fn a_cut_batch_is_left_out() {
        let batch = encode(&shape(), 1).expect("it encodes");
        let cut = [&batch[..], &batch[..70]].concat();
        assert_eq!(whole_batches(&cut).map(|batch| batch.next_offset).collect::<Vec<_>>(), [10]);
        assert_eq!(whole_batches(&batch[..60]).count(), 0);
    }

    #[test]
    fn the_same_seed_gives_the_same_records() {
        let one = encode(&shape(), 5).expect("it encodes");
        assert_eq!(one[HEADER_BYTES..], encode(&shape(), 5).expect("it encodes")[HEADER_BYTES..]);
        assert_ne!(one[HEADER_BYTES..], encode(&shape(), 6).expect("it encodes")[HEADER_BYTES..]);
    }
}
