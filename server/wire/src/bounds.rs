//! Proves the lengths in a request before anything decodes it.
//!
//! `kafka-protocol` reserves memory for whatever count it reads, so twenty bytes that claim two thousand
//! million topics would end the process. Here a walk over the request's schema, which allocates nothing for a
//! sound request, proves first that every string, array and structure fits into the bytes that there are, and
//! that all arrays together have no more than [`ELEMENTS_MAX`] elements. What passes, the decoder may trust.
//!
//! Work is linear in the request's length: every step passes at least one byte, and schemas do not recurse.
//!
//! Invariant: a body that [`check`] accepts is walked exactly as far as `kafka-protocol` will decode.

mod offsets;
mod schema;

use std::ops::{Range, RangeInclusive};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind};
use thiserror::Error;

use crate::primitives::{ELEMENTS_MAX, ParseError, Problem, Reader, put_string, repaired_text};
use schema::{Field, Kind, Schema};

/// A request that cannot be decoded. As in Kafka, its connection ends.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// There is no such version of this request, or nothing that decodes it.
    #[error("{api_key:?} v{version} cannot be decoded")]
    UnsupportedVersion {
        /// Which API.
        api_key: ApiKey,
        /// The version asked for.
        version: i16,
    },
    /// A length that lies, or a field that is cut short.
    #[error("{api_key:?} v{version}: {source}")]
    Malformed {
        /// Which API.
        api_key: ApiKey,
        /// Its version.
        version: i16,
        /// What, where, expected and found.
        source: ParseError,
    },
    /// In bounds, but refused by the decoder all the same.
    #[error("{api_key:?} v{version}: {reason}")]
    Refused {
        /// Which API.
        api_key: ApiKey,
        /// Its version.
        version: i16,
        /// The decoder's words.
        reason: String,
    },
}

/// Proves the bounds of a request's body, then decodes it. Bytes behind the request are ignored, as Kafka
/// ignores them.
///
/// Text that is not UTF-8 is repaired with U+FFFD, as Kafka repairs it; the decoder would refuse it.
pub fn decode_request(api_key: ApiKey, version: i16, mut body: Bytes) -> Result<RequestKind, DecodeError> {
    let walk = walk(api_key, version, &body)?;
    if !walk.broken_texts.is_empty() {
        body = repaired(&body, &walk.broken_texts, walk.flexible);
    }
    let malformed = |source| DecodeError::Malformed { api_key, version, source };
    match (api_key, version) {
        (ApiKey::OffsetCommit, offsets::VERSION) => {
            offsets::decode_commit(&body).map(RequestKind::OffsetCommit).map_err(malformed)
        }
        (ApiKey::OffsetFetch, offsets::VERSION) => {
            offsets::decode_fetch(&body).map(RequestKind::OffsetFetch).map_err(malformed)
        }
        _ => RequestKind::decode(api_key, &mut body, codec_version(api_key, version))
            .map_err(|error| DecodeError::Refused { api_key, version, reason: format!("{error:#}") }),
    }
}

/// The versions of a request that [`decode_request`] decodes. What is served may be less.
pub fn versions(api_key: ApiKey) -> RangeInclusive<i16> {
    match api_key {
        ApiKey::ListOffsets => 1..=11,
        // v6 is unstable in Kafka, and not in the crate.
        ApiKey::InitProducerId => 0..=5,
        _ => {
            let versions = api_key.valid_versions();
            versions.min..=versions.max
        }
    }
}

/// The version under which `kafka-protocol` codes a message: where Kafka has raised the number without
/// touching a byte of the layout, the highest that the crate knows.
pub fn codec_version(api_key: ApiKey, version: i16) -> i16 {
    match (api_key, version) {
        // v11 only allows another special timestamp (KIP-1023).
        (ApiKey::ListOffsets, 11) => 10,
        _ => version,
    }
}

/// Proves the bounds of a request's body; says how many of its bytes the request takes.
pub fn check(api_key: ApiKey, version: i16, body: &Bytes) -> Result<usize, DecodeError> {
    walk(api_key, version, body).map(|walk| walk.reader.position())
}

fn walk(api_key: ApiKey, version: i16, body: &Bytes) -> Result<Walk<'_>, DecodeError> {
    let schema = Schema::of(api_key)
        .filter(|schema| versions(api_key).contains(&version) && schema.versions.contains(&version))
        .ok_or(DecodeError::UnsupportedVersion { api_key, version })?;
    let mut walk = Walk {
        reader: Reader::new(body),
        version,
        flexible: schema.is_flexible(version),
        elements: 0,
        broken_texts: Vec::new(),
    };
    walk.structure(schema.fields).map_err(|source| DecodeError::Malformed { api_key, version, source })?;
    Ok(walk)
}

/// The body with sound text in the place of each broken one. The stated length of a tagged field around it
/// may then be wrong; nobody compares it (see [`Walk::tagged`]).
fn repaired(body: &Bytes, broken_texts: &[BrokenText], flexible: bool) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 2 * broken_texts.len());
    let mut copied = 0;
    for broken in broken_texts {
        out.extend_from_slice(&body[copied..broken.length_at]);
        let text = repaired_text(&body[broken.text.clone()]);
        put_string(&mut out, Some(&text), flexible);
        copied = broken.text.end;
    }
    out.extend_from_slice(&body[copied..]);
    out.freeze()
}

/// One walk over one body.
struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    /// Elements of all arrays so far. Invariant: at most [`ELEMENTS_MAX`].
    elements: usize,
    /// Strings that are not UTF-8, in their order.
    broken_texts: Vec<BrokenText>,
}

/// A string that is not UTF-8.
struct BrokenText {
    /// Where its length starts.
    length_at: usize,
    /// The bytes behind its length.
    text: Range<usize>,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &'static [Field]) -> Result<(), ParseError> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.is_in(version)) {
            self.field(field)?;
        }
        if !self.flexible {
            return Ok(());
        }
        let tagged_count = self.reader.unsigned_varint("tagged fields")?;
        for _ in 0..tagged_count {
            self.tagged(fields)?;
        }
        Ok(())
    }

    /// One tagged field. A known one is as long as its schema says, whatever its stated length, since that
    /// is how Kafka and the decoder read it.
    fn tagged(&mut self, fields: &'static [Field]) -> Result<(), ParseError> {
        let tag = self.reader.unsigned_varint("tag")?;
        let length = self.reader.unsigned_varint("tagged field")? as usize;
        match fields.iter().find(|field| field.tag == Some(tag)) {
            Some(field) if field.is_in(self.version) => self.field(field),
            Some(field) => Err(self.reader.error(field.name, Problem::UnexpectedTag { tag })),
            None => {
                self.count("tagged fields", 1)?;
                self.reader.skip("tagged field", length)
            }
        }
    }

    fn field(&mut self, field: &'static Field) -> Result<(), ParseError> {
        self.value(field.name, &field.kind, self.version >= field.nullable_from)
    }

    fn value(
        &mut self,
        name: &'static str,
        kind: &'static Kind,
        may_be_null: bool,
    ) -> Result<(), ParseError> {
        let start = self.reader.position();
        let is_there = match kind {
            Kind::String => self.string(name)?,
            Kind::Bytes => self.bytes(name)?,
            Kind::Array(element) => self.array(name, element)?,
            _ => self.fixed(name, kind).map(|()| true)?,
        };
        if !is_there && !may_be_null {
            return Err(ParseError { what: name, position: start, problem: Problem::Null });
        }
        Ok(())
    }

    /// A value that has no length in front.
    fn fixed(&mut self, name: &'static str, kind: &'static Kind) -> Result<(), ParseError> {
        match kind {
            Kind::Bool | Kind::Int8 => self.reader.skip(name, 1),
            Kind::Int16 | Kind::Uint16 => self.reader.skip(name, 2),
            Kind::Int32 => self.reader.skip(name, 4),
            Kind::Int64 | Kind::Float64 => self.reader.skip(name, 8),
            Kind::Uuid => self.reader.skip(name, 16),
            Kind::String | Kind::Bytes | Kind::Array(_) => unreachable!("these have a length"),
            Kind::Structure(fields) => self.structure(fields),
            Kind::NullableStructure(fields) => match self.reader.int8(name)? {
                // The decoder takes 1 for a structure, and everything else for null.
                1 => self.structure(fields),
                _ => Ok(()),
            },
        }
    }

    /// Says whether there is one; otherwise it is null. So do the next two.
    fn string(&mut self, name: &'static str) -> Result<bool, ParseError> {
        let length_at = self.reader.position();
        let Some(length) = self.reader.string_length(name, self.flexible)? else { return Ok(false) };
        let start = self.reader.position();
        self.reader.skip(name, length)?;
        if std::str::from_utf8(self.reader.read_since(start)).is_err() {
            self.broken_texts.push(BrokenText { length_at, text: start..start + length });
        }
        Ok(true)
    }

    fn bytes(&mut self, name: &'static str) -> Result<bool, ParseError> {
        let Some(length) = self.reader.bytes_length(name, self.flexible)? else { return Ok(false) };
        self.reader.skip(name, length).map(|()| true)
    }

    fn array(&mut self, name: &'static str, element: &'static Kind) -> Result<bool, ParseError> {
        let element_bytes_min = self.bytes_min(element);
        let count = self.reader.nullable_array_count(name, self.flexible, element_bytes_min)?;
        let Some(count) = count else { return Ok(false) };
        self.count(name, count)?;
        for _ in 0..count {
            self.value(name, element, false)?;
        }
        Ok(true)
    }

    fn count(&mut self, name: &'static str, count: usize) -> Result<(), ParseError> {
        if count > ELEMENTS_MAX - self.elements {
            return Err(self.reader.error(name, Problem::ElementLimit { limit: ELEMENTS_MAX }));
        }
        self.elements += count;
        Ok(())
    }

    /// The fewest bytes that a value can take in this version.
    fn bytes_min(&self, kind: &Kind) -> usize {
        match kind {
            Kind::Bool | Kind::Int8 | Kind::NullableStructure(_) => 1,
            Kind::Int16 | Kind::Uint16 => 2,
            Kind::Int32 => 4,
            Kind::Int64 | Kind::Float64 => 8,
            Kind::Uuid => 16,
            Kind::String => {
                if self.flexible {
                    1
                } else {
                    2
                }
            }
            Kind::Bytes | Kind::Array(_) => {
                if self.flexible {
                    1
                } else {
                    4
                }
            }
            Kind::Structure(fields) => {
                let inline = fields.iter().filter(|field| field.tag.is_none() && field.is_in(self.version));
                inline.map(|field| self.bytes_min(&field.kind)).sum::<usize>() + usize::from(self.flexible)
            }
        }
    }
}

#[cfg(test)]
mod tests;
