use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::primitives::{put_array_count, put_string, put_unsigned_varint};

/// Writes a message that the schema allows, its choices taken from `choices` in turn.
struct Writer {
    out: BytesMut,
    version: i16,
    flexible: bool,
    choices: Vec<u8>,
    next: usize,
    /// Fewer and fewer elements the deeper it goes, so that messages stay small.
    depth: usize,
}

impl Writer {
    fn choose(&mut self, below: usize) -> usize {
        let choice = self.choices.get(self.next % self.choices.len().max(1)).copied().unwrap_or(0);
        self.next += 1;
        // The position goes in as well, or a short list of choices would repeat itself in every field.
        (usize::from(choice) + self.next / self.choices.len().max(1)) % below
    }

    fn structure(&mut self, fields: &'static [Field]) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.is_in(version)) {
            self.value(&field.kind);
        }
        if !self.flexible {
            return;
        }
        let mut known: Vec<_> =
            fields.iter().filter(|field| field.tag.is_some() && field.is_in(self.version)).collect();
        known.retain(|_| self.choose(2) == 1);
        known.sort_by_key(|field| field.tag);
        let unknown = self.choose(2);
        put_unsigned_varint(&mut self.out, (known.len() + unknown) as u32);
        for field in known {
            let outer = std::mem::take(&mut self.out);
            self.value(&field.kind);
            let value = std::mem::replace(&mut self.out, outer);
            put_unsigned_varint(&mut self.out, field.tag.expect("a tagged field"));
            put_unsigned_varint(&mut self.out, value.len() as u32);
            self.out.put_slice(&value);
        }
        if unknown == 1 {
            put_unsigned_varint(&mut self.out, 9_999);
            put_unsigned_varint(&mut self.out, 3);
            self.out.put_slice(b"new");
        }
    }

    fn value(&mut self, kind: &'static Kind) {
        let filler = self.choose(256) as u8;
        match kind {
            Kind::Bool => self.out.put_u8(filler & 1),
            Kind::Int8 => self.out.put_u8(filler),
            Kind::Int16 | Kind::Uint16 => self.out.put_bytes(filler, 2),
            Kind::Int32 => self.out.put_bytes(filler, 4),
            Kind::Int64 | Kind::Float64 => self.out.put_bytes(filler, 8),
            Kind::Uuid => self.out.put_bytes(filler, 16),
            Kind::String => {
                put_string(&mut self.out, Some(&"é".repeat(usize::from(filler % 5))), self.flexible)
            }
            Kind::Bytes => {
                let length = usize::from(filler) * 3;
                put_array_count(&mut self.out, length, self.flexible);
                self.out.put_bytes(filler, length);
            }
            Kind::Array(element) => {
                let count = if self.depth > 3 { 0 } else { self.choose(4 - self.depth) };
                put_array_count(&mut self.out, count, self.flexible);
                self.depth += 1;
                for _ in 0..count {
                    self.value(element);
                }
                self.depth -= 1;
            }
            Kind::Structure(fields) => self.structure(fields),
            Kind::NullableStructure(fields) => {
                if filler & 1 == 0 {
                    self.out.put_i8(-1);
                } else {
                    self.out.put_i8(1);
                    self.structure(fields);
                }
            }
        }
    }
}

fn written(schema: &'static Schema, version: i16, choices: &[u8]) -> Bytes {
    let mut writer = Writer {
        out: BytesMut::new(),
        version,
        flexible: schema.is_flexible(version),
        choices: choices.to_vec(),
        next: 0,
        depth: 0,
    };
    writer.structure(schema.fields);
    writer.out.freeze()
}

/// Every request in every version that can be decoded.
fn decodable() -> impl Iterator<Item = (&'static Schema, i16)> {
    ApiKey::iter().flat_map(|api_key| {
        let schema = Schema::of(api_key).expect("every API has a schema");
        versions(api_key).map(move |version| (schema, version))
    })
}

/// What `kafka-protocol` lists, and neither encodes nor decodes.
fn crate_cannot(api_key: ApiKey, version: i16) -> bool {
    matches!(api_key, ApiKey::OffsetCommit | ApiKey::OffsetFetch) && version == offsets::VERSION
}

#[test]
fn every_api_has_a_schema_that_covers_what_can_be_decoded() {
    for (schema, version) in decodable() {
        let api_key = schema.api_key;
        assert!(schema.versions.contains(&version), "{api_key:?} v{version}");
        assert_eq!(schema.is_flexible(version), api_key.request_header_version(version) >= 2, "{api_key:?}");
    }
    assert!(check(ApiKey::Produce, 2, &Bytes::new()).is_err());
    assert!(check(ApiKey::ListOffsets, 12, &Bytes::new()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The schema is right if what it writes is what `kafka-protocol` reads, to the last byte, and writes.
    #[test]
    fn the_walk_ends_where_the_decoder_ends(choices in prop::collection::vec(any::<u8>(), 1..40)) {
        for (schema, version) in decodable() {
            let api_key = schema.api_key;
            let body = written(schema, version, &choices);
            let walked = check(api_key, version, &body);
            prop_assert!(matches!(walked, Ok(bytes) if bytes == body.len()), "{api_key:?} v{version}: {walked:?}");
            let decoded = decode_request(api_key, version, body.clone());
            prop_assert!(decoded.is_ok(), "{api_key:?} v{version}: {decoded:?}");
            if crate_cannot(api_key, version) {
                continue;
            }
            let mut rest = body.clone();
            let codec_version = codec_version(api_key, version);
            prop_assert!(RequestKind::decode(api_key, &mut rest, codec_version).is_ok());
            prop_assert!(rest.is_empty(), "{api_key:?} v{version}: {} bytes left", rest.len());
            let mut again = BytesMut::new();
            // Some defaults may not be written in some versions; the encoder then refuses what it has read.
            if decoded.expect("it is").encode(&mut again, codec_version).is_ok() {
                let again = again.freeze();
                let walked = check(api_key, version, &again);
                prop_assert!(matches!(walked, Ok(bytes) if bytes == again.len()), "{api_key:?} v{version}");
            }
        }
    }

    /// Whatever is accepted, however damaged, decodes or is refused, and is never read beyond its end.
    #[test]
    fn a_damaged_request_is_told_before_it_is_decoded(
        choices in prop::collection::vec(any::<u8>(), 1..40),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for (schema, version) in decodable() {
            let mut body = BytesMut::from(&written(schema, version, &choices)[..]);
            if body.is_empty() {
                continue;
            }
            for (place, byte) in &damage {
                let place = place.index(body.len());
                body[place] = *byte;
            }
            if let Some(cut) = cut {
                body.truncate(cut.index(body.len()));
            }
            let _ = decode_request(schema.api_key, version, body.freeze());
        }
    }

    #[test]
    fn any_bytes_at_all_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let body = Bytes::from(bytes);
        for (schema, version) in decodable() {
            let _ = decode_request(schema.api_key, version, body.clone());
        }
    }
}

#[test]
fn a_count_that_lies_is_told_with_its_place() {
    let body = Bytes::from_static(b"\x7f\xff\xff\xff");
    let error = decode_request(ApiKey::Metadata, 1, body).expect_err("cannot fit");
    assert_eq!(
        error.to_string(),
        "Metadata v1: topics at byte 0: 2147483647 elements of at least 2 bytes, 0 bytes are left"
    );
}

#[test]
fn a_null_is_told_where_there_must_be_none() {
    let null = Bytes::from_static(b"\xff\xff\xff\xff");
    let error = decode_request(ApiKey::Metadata, 0, null.clone()).expect_err("v0 has no null");
    assert_eq!(error.to_string(), "Metadata v0: topics at byte 0: it is null, and must not be");
    assert!(decode_request(ApiKey::Metadata, 1, null).is_ok());
    let null_name = Bytes::from_static(b"\0\0\0\x01\xff\xff");
    assert!(decode_request(ApiKey::Metadata, 1, null_name).is_err());
}

#[test]
fn elements_of_a_request_are_bounded_together() {
    let mut body = BytesMut::new();
    let topics = ELEMENTS_MAX / 2;
    put_array_count(&mut body, topics, true);
    for _ in 0..topics {
        // An empty name, two partitions, no tagged fields.
        body.put_slice(b"\x01\x03");
        body.put_bytes(0, 2 * 13 + 1);
    }
    body.put_slice(b"\0\0\0\0\0");
    let error = decode_request(ApiKey::DeleteRecords, 2, body.freeze()).expect_err("too many");
    assert!(error.to_string().contains("more than 1048576 elements"), "{error}");
}

#[test]
fn bytes_behind_a_request_are_ignored() {
    let body = Bytes::from_static(b"\xff\xff\xff\xffxyz");
    assert!(matches!(decode_request(ApiKey::Metadata, 1, body), Ok(RequestKind::Metadata(_))));
}

#[test]
fn list_offsets_v11_is_coded_as_v10() {
    let schema = Schema::of(ApiKey::ListOffsets).expect("it has a schema");
    let body = written(schema, 11, &[1, 2, 3]);
    assert!(matches!(decode_request(ApiKey::ListOffsets, 11, body), Ok(RequestKind::ListOffsets(_))));
}

#[test]
fn offset_commit_v10_has_ids_for_names() {
    let body = b"\x02g\0\0\0\x05\x02m\0\x02\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\
        \x02\0\0\0\x03\0\0\0\0\0\0\0\x07\0\0\0\x01\x03hi\0\0\0";
    let decoded = decode_request(ApiKey::OffsetCommit, 10, Bytes::from_static(body)).expect("well formed");
    let RequestKind::OffsetCommit(request) = decoded else { panic!("another request") };
    assert_eq!((request.group_id.as_str(), request.member_id.as_str()), ("g", "m"));
    assert_eq!(request.generation_id_or_member_epoch, 5);
    assert_eq!(request.topics[0].topic_id.as_bytes(), &[0x11; 16]);
    let partition = &request.topics[0].partitions[0];
    assert_eq!((partition.partition_index, partition.committed_offset), (3, 7));
    assert_eq!(partition.committed_leader_epoch, 1);
    assert_eq!(partition.committed_metadata.as_deref(), Some("hi"));
}

#[test]
fn offset_fetch_v10_has_ids_for_names() {
    let body =
        b"\x03\x02g\0\xff\xff\xff\xff\x02\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\
        \x03\0\0\0\x04\0\0\0\x05\0\0\x02h\0\xff\xff\xff\xff\0\0\x01\0";
    let decoded = decode_request(ApiKey::OffsetFetch, 10, Bytes::from_static(body)).expect("well formed");
    let RequestKind::OffsetFetch(request) = decoded else { panic!("another request") };
    assert!(request.require_stable);
    let topics = request.groups[0].topics.as_ref().expect("one topic");
    assert_eq!(topics[0].topic_id.as_bytes(), &[0x22; 16]);
    assert_eq!(topics[0].partition_indexes, [4, 5]);
    assert_eq!((request.groups[1].group_id.as_str(), &request.groups[1].topics), ("h", &None));
}

#[test]
fn text_that_is_not_utf8_is_repaired_as_kafka_does() {
    let body = Bytes::from_static(b"\0\0\0\x02\0\x03a\xffb\0\x02ok");
    let decoded = decode_request(ApiKey::Metadata, 1, body).expect("repaired");
    let RequestKind::Metadata(request) = decoded else { panic!("another request") };
    let names: Vec<_> = request.topics.iter().flatten().filter_map(|topic| topic.name.as_ref()).collect();
    assert_eq!((names[0].as_str(), names[1].as_str()), ("a\u{fffd}b", "ok"));
    // Compact, and within a tagged field: the cluster id of Fetch v12.
    let body = [&[0xff; 4][..], &[0; 21], b"\x01\x01\x01", b"\x01\0\x03\x03\xff\xff"].concat();
    let decoded = decode_request(ApiKey::Fetch, 12, Bytes::from(body)).expect("repaired");
    let RequestKind::Fetch(request) = decoded else { panic!("another request") };
    assert_eq!(request.cluster_id.as_deref(), Some("\u{fffd}\u{fffd}"));
}
