//! The answers to Produce (versions 3 to 12) and Fetch (4 to 12), read in place without an allocation.

use thiserror::Error;

/// An answer that is not as Kafka's message definition says.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an answer is not well-formed at byte {0}")]
pub struct Malformed(usize);

/// What a broker says about one partition of a Produce request.
#[derive(Debug, PartialEq, Eq)]
pub struct Produced {
    /// Which partition.
    pub partition: i32,
    /// Kafka's error code; 0 if all went well.
    pub error_code: i16,
}

/// What a broker says about one partition of a Fetch request.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetched<'a> {
    /// Which partition.
    pub partition: i32,
    /// Kafka's error code; 0 if all went well.
    pub error_code: i16,
    /// The first offset that is there.
    pub log_start_offset: i64,
    /// Batches, the last of which may be cut.
    pub records: &'a [u8],
}

/// The number of the request that a frame answers.
pub fn correlation_id(frame: &[u8]) -> Result<i32, Malformed> {
    Fields::new(frame, false).i32()
}

/// Reads a whole answer to Produce, without its size.
pub fn produce(frame: &[u8], version: i16, mut each: impl FnMut(Produced)) -> Result<(), Malformed> {
    let mut fields = Fields::new(frame, version >= 9);
    fields.header()?;
    for _ in 0..fields.array()? {
        fields.string()?;
        for _ in 0..fields.array()? {
            let partition = fields.i32()?;
            let error_code = fields.i16()?;
            fields.skip(if version >= 5 { 24 } else { 16 })?;
            if version >= 8 {
                for _ in 0..fields.array()? {
                    fields.i32()?;
                    fields.string()?;
                    fields.tags()?;
                }
                fields.string()?;
            }
            fields.tags()?;
            each(Produced { partition, error_code });
        }
        fields.tags()?;
    }
    Ok(())
}

/// Reads a whole answer to Fetch, without its size; gives the error code of the whole.
pub fn fetch<'a>(frame: &'a [u8], version: i16, mut each: impl FnMut(Fetched<'a>)) -> Result<i16, Malformed> {
    let mut fields = Fields::new(frame, version >= 12);
    fields.header()?;
    fields.i32()?;
    let mut whole_error_code = 0;
    if version >= 7 {
        whole_error_code = fields.i16()?;
        fields.i32()?;
    }
    for _ in 0..fields.array()? {
        fields.string()?;
        for _ in 0..fields.array()? {
            let partition = fields.i32()?;
            let error_code = fields.i16()?;
            fields.skip(16)?;
            let log_start_offset = if version >= 5 { fields.i64()? } else { 0 };
            for _ in 0..fields.array()? {
                fields.skip(16)?;
                fields.tags()?;
            }
            if version >= 11 {
                fields.i32()?;
            }
            let records = fields.bytes()?;
            fields.tags()?;
            each(Fetched { partition, error_code, log_start_offset, records });
        }
        fields.tags()?;
    }
    Ok(whole_error_code)
}

/// Reads one field after the other. `flexible`: compact lengths, and tagged fields behind each structure.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    flexible: bool,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8], flexible: bool) -> Self {
        Self { bytes, at: 0, flexible }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let taken = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(Malformed(self.at))?;
        self.at += count;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(drop)
    }

    fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into().expect("two bytes")))
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    fn unsigned_varint(&mut self) -> Result<usize, Malformed> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed(self.at))
    }

    /// The correlation id, and the header's tagged fields.
    fn header(&mut self) -> Result<(), Malformed> {
        self.i32()?;
        self.tags()
    }

    /// An array's length; null is empty.
    fn array(&mut self) -> Result<usize, Malformed> {
        if self.flexible {
            return Ok(self.unsigned_varint()?.saturating_sub(1));
        }
        Ok(usize::try_from(self.i32()?).unwrap_or(0))
    }

    /// A string of any kind, passed over.
    fn string(&mut self) -> Result<(), Malformed> {
        let length = if self.flexible {
            self.unsigned_varint()?.saturating_sub(1)
        } else {
            usize::try_from(self.i16()?).unwrap_or(0)
        };
        self.skip(length)
    }

    /// Bytes; null is empty.
    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.array()?;
        self.take(length)
    }

    fn tags(&mut self) -> Result<(), Malformed> {
        if self.flexible {
            for _ in 0..self.unsigned_varint()? {
                self.unsigned_varint()?;
                let length = self.unsigned_varint()?;
                self.skip(length)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction, FetchableTopicResponse, PartitionData,
    };
    use kafka_protocol::messages::produce_response::{
        BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
    };
    use kafka_protocol::messages::{FetchResponse, ProduceResponse, ProducerId, ResponseHeader, TopicName};
    use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};

    use super::*;

    fn frame<R: Encodable + HeaderVersion>(response: &R, version: i16) -> Bytes {
        let mut out = BytesMut::new();
        let header = ResponseHeader::default().with_correlation_id(77);
        header.encode(&mut out, R::header_version(version)).expect("it encodes");
        response.encode(&mut out, version).expect("it encodes");
        out.freeze()
    }

    fn name() -> TopicName {
        TopicName(StrBytes::from_static_str("topic"))
    }

    #[test]
    fn produce_is_read_in_every_version() {
        for version in 3..=12 {
            let mut odd = PartitionProduceResponse::default().with_index(5).with_error_code(56);
            if version >= 8 {
                let record = BatchIndexAndErrorMessage::default()
                    .with_batch_index(1)
                    .with_batch_index_error_message(Some(StrBytes::from_static_str("bad")));
                odd = odd
                    .with_record_errors(vec![record])
                    .with_error_message(Some(StrBytes::from_static_str("worse")));
            }
            let fine = PartitionProduceResponse::default().with_index(6).with_base_offset(9);
            let topic =
                TopicProduceResponse::default().with_name(name()).with_partition_responses(vec![odd, fine]);
            let frame = frame(&ProduceResponse::default().with_responses(vec![topic]), version);
            assert_eq!(correlation_id(&frame), Ok(77));
            let mut seen = Vec::new();
            produce(&frame, version, |produced| seen.push(produced)).expect("well-formed");
            let wanted = [(5, 56), (6, 0)].map(|(partition, error_code)| Produced { partition, error_code });
            assert_eq!(seen, wanted, "version {version}");
            for cut in 0..frame.len() - 5 {
                assert!(produce(&frame[..cut], version, |_| ()).is_err(), "version {version}, cut at {cut}");
            }
        }
    }

    #[test]
    fn fetch_is_read_in_every_version() {
        for version in 4..=12 {
            let aborted = AbortedTransaction::default().with_producer_id(ProducerId(1)).with_first_offset(2);
            let partition = PartitionData::default()
                .with_partition_index(3)
                .with_high_watermark(100)
                .with_log_start_offset(if version >= 5 { 8 } else { -1 })
                .with_aborted_transactions(Some(vec![aborted]))
                .with_records(Some(Bytes::from_static(b"batches")));
            let empty =
                PartitionData::default().with_partition_index(4).with_error_code(1).with_records(None);
            let topic =
                FetchableTopicResponse::default().with_topic(name()).with_partitions(vec![partition, empty]);
            let frame = frame(&FetchResponse::default().with_responses(vec![topic]), version);
            let mut seen = Vec::new();
            assert_eq!(fetch(&frame, version, |fetched| seen.push(fetched)), Ok(0));
            assert_eq!((seen[0].partition, seen[0].records), (3, &b"batches"[..]), "version {version}");
            assert_eq!(seen[0].log_start_offset, if version >= 5 { 8 } else { 0 });
            assert_eq!((seen[1].partition, seen[1].error_code, seen[1].records.len()), (4, 1, 0));
            for cut in 0..frame.len() - 1 {
                assert!(fetch(&frame[..cut], version, |_| ()).is_err(), "version {version}, cut at {cut}");
            }
        }
    }
}
