//! Kafka's primitive types: a reader that never passes the end of its bytes, and the writers.
//!
//! Shapes are those of Kafka's protocol guide. A flexible ("compact") length is an unsigned varint of the
//! length plus one, so that 0 means null; a classic one is an INT16 (strings) or INT32 (bytes and arrays),
//! where −1 means null. Kafka reads every negative length as null, and accepts bytes behind the end of a
//! request; so does this reader.
//!
//! Invariant of [`Reader`]: `position <= body.len()`; a failed read leaves a typed error that says what was
//! read, where, what was needed and what was there.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use thiserror::Error;
use uuid::Uuid;

/// The longest string, in bytes: what the INT16 of a classic one can say. Kafka keeps to it for compact ones.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// The most elements that all arrays of one request may have together. A decoded element is many times
/// larger than the two or three bytes that it may take on the wire; this keeps a request of
/// `socket.request.max.bytes` from becoming gigabytes. Kafka has no such limit; no client comes near it.
pub const ELEMENTS_MAX: usize = 1 << 20;

/// Bytes that are not what Kafka's schema says. The peer's fault, and its connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} at byte {position}: {problem}")]
pub struct ParseError {
    /// The field, by its name in Kafka's schema.
    pub what: &'static str,
    /// Where the field begins, counted from the start of what was given to the reader.
    pub position: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The field reaches past the end.
    #[error("needs {needed} bytes, {left} are left")]
    Truncated {
        /// Bytes that the field takes.
        needed: u64,
        /// Bytes that there are.
        left: usize,
    },
    /// A string longer than [`STRING_BYTES_MAX`].
    #[error("a string of {found} bytes")]
    StringTooLong {
        /// The length as sent.
        found: usize,
    },
    /// A null where the schema allows none.
    #[error("it is null, and must not be")]
    Null,
    /// An array that cannot fit: each element takes some bytes.
    #[error("{count} elements of at least {each} bytes, {left} bytes are left")]
    TooManyElements {
        /// Elements as sent.
        count: u32,
        /// The fewest bytes that one takes.
        each: usize,
        /// Bytes that there are.
        left: usize,
    },
    /// More elements in one request than the decoder takes.
    #[error("more than {limit} elements in one request")]
    ElementLimit {
        /// The limit.
        limit: usize,
    },
    /// A varint of more than five bytes.
    #[error("a varint of more than 5 bytes")]
    VarintTooLong,
    /// A tagged field that its version does not have.
    #[error("tag {tag} does not belong to this version")]
    UnexpectedTag {
        /// The tag.
        tag: u32,
    },
}

/// Reads primitives from a request's body, and slices it without a copy.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    body: &'a Bytes,
    /// Invariant: at most `body.len()`.
    position: usize,
}

macro_rules! fixed_width {
    ($($(#[$doc:meta])* $name:ident -> $type:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(&mut self, what: &'static str) -> Result<$type, ParseError> {
            let bytes = self.array(what)?;
            Ok(<$type>::from_be_bytes(bytes))
        }
    )*};
}

impl<'a> Reader<'a> {
    /// Reads `body` from its first byte.
    pub fn new(body: &'a Bytes) -> Self {
        Self { body, position: 0 }
    }

    /// The next byte to be read, counted from the start of the body.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.body.len() - self.position
    }

    /// What has been read since `start`, a position from before.
    pub fn read_since(&self, start: usize) -> &'a [u8] {
        &self.body[start..self.position]
    }

    /// An error about the field that starts here.
    pub fn error(&self, what: &'static str, problem: Problem) -> ParseError {
        ParseError { what, position: self.position, problem }
    }

    /// Passes over `length` bytes; an error if there are fewer.
    pub fn skip(&mut self, what: &'static str, length: usize) -> Result<(), ParseError> {
        if length > self.left() {
            return Err(self.error(what, Problem::Truncated { needed: length as u64, left: self.left() }));
        }
        self.position += length;
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ParseError> {
        let start = self.position;
        self.skip(what, N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.body[start..self.position]);
        Ok(bytes)
    }

    fixed_width! {
        /// INT8.
        int8 -> i8;
        /// INT16, big-endian as all of Kafka's.
        int16 -> i16;
        /// INT32.
        int32 -> i32;
        /// INT64.
        int64 -> i64;
    }

    /// UUID: 16 bytes, the most significant first.
    pub fn uuid(&mut self, what: &'static str) -> Result<Uuid, ParseError> {
        Ok(Uuid::from_bytes(self.array(what)?))
    }

    /// UNSIGNED_VARINT: groups of seven bits, the lowest first, at most five bytes.
    pub fn unsigned_varint(&mut self, what: &'static str) -> Result<u32, ParseError> {
        let start = self.position;
        let mut value = 0u32;
        for group in 0..5 {
            let [byte] = self.array(what)?;
            // Bits above the 32nd fall off, as they do in Kafka.
            value |= u32::from(byte & 0x7f) << (7 * group);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ParseError { what, position: start, problem: Problem::VarintTooLong })
    }

    /// The next `length` bytes, sharing the body's memory.
    pub fn slice(&mut self, what: &'static str, length: usize) -> Result<Bytes, ParseError> {
        let start = self.position;
        self.skip(what, length)?;
        Ok(self.body.slice(start..self.position))
    }

    /// The length of a STRING or COMPACT_STRING; `None` for null. The bytes themselves are not proven.
    pub fn string_length(&mut self, what: &'static str, flexible: bool) -> Result<Option<usize>, ParseError> {
        if !flexible {
            return Ok(usize::try_from(self.int16(what)?).ok());
        }
        let start = self.position;
        match self.compact_length(what)? {
            Some(found) if found > STRING_BYTES_MAX => {
                Err(ParseError { what, position: start, problem: Problem::StringTooLong { found } })
            }
            length => Ok(length),
        }
    }

    /// The length of BYTES or COMPACT_BYTES, or the count of an ARRAY; `None` for null. The bytes
    /// themselves are not proven.
    pub fn bytes_length(&mut self, what: &'static str, flexible: bool) -> Result<Option<usize>, ParseError> {
        if flexible {
            return self.compact_length(what);
        }
        Ok(usize::try_from(self.int32(what)?).ok())
    }

    fn compact_length(&mut self, what: &'static str) -> Result<Option<usize>, ParseError> {
        Ok(self.unsigned_varint(what)?.checked_sub(1).map(|length| length as usize))
    }

    /// A string that may be null. Bytes that are not UTF-8 become U+FFFD, as in Kafka.
    pub fn nullable_string(
        &mut self,
        what: &'static str,
        flexible: bool,
    ) -> Result<Option<StrBytes>, ParseError> {
        let Some(length) = self.string_length(what, flexible)? else { return Ok(None) };
        let bytes = self.slice(what, length)?;
        Ok(Some(
            StrBytes::from_utf8(bytes.clone())
                .unwrap_or_else(|_| StrBytes::from_string(String::from_utf8_lossy(&bytes).into_owned())),
        ))
    }

    /// A string that may not be null.
    pub fn string(&mut self, what: &'static str, flexible: bool) -> Result<StrBytes, ParseError> {
        let start = self.position;
        self.nullable_string(what, flexible)?.ok_or(ParseError {
            what,
            position: start,
            problem: Problem::Null,
        })
    }

    /// Bytes or records that may be null, sharing the body's memory.
    pub fn nullable_bytes(
        &mut self,
        what: &'static str,
        flexible: bool,
    ) -> Result<Option<Bytes>, ParseError> {
        match self.bytes_length(what, flexible)? {
            None => Ok(None),
            Some(length) => Ok(Some(self.slice(what, length)?)),
        }
    }

    /// The count of an array that may not be null, proven to fit: each of its elements takes at least
    /// `element_bytes_min` bytes.
    pub fn array_count(
        &mut self,
        what: &'static str,
        flexible: bool,
        element_bytes_min: usize,
    ) -> Result<usize, ParseError> {
        let start = self.position;
        self.nullable_array_count(what, flexible, element_bytes_min)?.ok_or(ParseError {
            what,
            position: start,
            problem: Problem::Null,
        })
    }

    /// As [`Self::array_count`], of an array that may be null.
    pub fn nullable_array_count(
        &mut self,
        what: &'static str,
        flexible: bool,
        element_bytes_min: usize,
    ) -> Result<Option<usize>, ParseError> {
        let start = self.position;
        let Some(count) = self.bytes_length(what, flexible)? else { return Ok(None) };
        let each = element_bytes_min.max(1);
        if count > self.left() / each {
            let problem = Problem::TooManyElements { count: count as u32, each, left: self.left() };
            return Err(ParseError { what, position: start, problem });
        }
        Ok(Some(count))
    }

    /// The tagged fields at the end of a flexible structure. `known` gets each tag with the reader at the
    /// start of its value, and answers whether it has read it; what it has not is skipped by its length.
    ///
    /// As in Kafka, a known field is as long as its own schema says, and its stated length is not compared.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool, ParseError>,
    ) -> Result<(), ParseError> {
        let count = self.unsigned_varint("tagged fields")?;
        for _ in 0..count {
            let tag = self.unsigned_varint("tag")?;
            let length = self.unsigned_varint("tagged field")? as usize;
            if !known(tag, self)? {
                self.skip("tagged field", length)?;
            }
        }
        Ok(())
    }

    /// Passes over tagged fields, of which none is known.
    pub fn skip_tagged_fields(&mut self) -> Result<(), ParseError> {
        self.tagged_fields(|_, _| Ok(false))
    }
}

/// Bytes that are not UTF-8, as text: what is broken becomes U+FFFD, as in Java. A character may grow from one
/// byte to three, so the text is cut where it would be longer than a string may be.
pub(crate) fn repaired_text(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.truncate(text.floor_char_boundary(STRING_BYTES_MAX));
    text
}

/// Bytes that an UNSIGNED_VARINT takes, 1 to 5.
pub fn unsigned_varint_bytes(value: u32) -> usize {
    (38 - value.leading_zeros() as usize).max(7) / 7
}

/// Writes an UNSIGNED_VARINT.
pub fn put_unsigned_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes the count of an array.
pub fn put_array_count(out: &mut BytesMut, count: usize, flexible: bool) {
    let count = u32::try_from(count).expect("an answer's arrays are bounded by its request");
    if flexible {
        put_unsigned_varint(out, count + 1);
    } else {
        out.put_u32(count);
    }
}

/// Writes a string; `None` is null. A classic string longer than an INT16 can say is cut at a character.
pub fn put_string(out: &mut BytesMut, value: Option<&str>, flexible: bool) {
    let Some(value) = value else {
        match flexible {
            true => out.put_u8(0),
            false => out.put_i16(-1),
        }
        return;
    };
    let value = &value[..value.floor_char_boundary(STRING_BYTES_MAX)];
    match flexible {
        true => put_unsigned_varint(out, value.len() as u32 + 1),
        false => out.put_i16(value.len() as i16),
    }
    out.put_slice(value.as_bytes());
}

/// Writes an empty set of tagged fields where the version is flexible.
pub fn put_no_tagged_fields(out: &mut BytesMut, flexible: bool) {
    if flexible {
        out.put_u8(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_kafkas_guide_says() {
        let body = Bytes::from_static(b"\x00\x03abc\xff\xff\x04abc\x00\x00\x00\x00\x02hi");
        let mut reader = Reader::new(&body);
        assert_eq!(reader.string("a", false).expect("three letters").as_str(), "abc");
        assert_eq!(reader.nullable_string("b", false).expect("null"), None);
        assert_eq!(reader.string("c", true).expect("three letters").as_str(), "abc");
        assert_eq!(reader.nullable_string("d", true).expect("null"), None);
        assert_eq!(reader.nullable_bytes("e", false).expect("two bytes").as_deref(), Some(&b"hi"[..]));
        assert_eq!(reader.left(), 0);
    }

    #[test]
    fn says_what_where_and_how_much() {
        let body = Bytes::from_static(b"\x00\x09abc");
        let error = Reader::new(&body).string("topic", false).expect_err("too short");
        assert_eq!(error.to_string(), "topic at byte 2: needs 9 bytes, 3 are left");
        let body = Bytes::from_static(b"\xff\xfe");
        assert_eq!(Reader::new(&body).nullable_string("topic", false).expect("as null"), None);
        assert_eq!(Reader::new(&body).string("topic", false).expect_err("null").problem, Problem::Null);
        let body = Bytes::from_static(b"\x81\x80\x02");
        let error = Reader::new(&body).nullable_string("topic", true).expect_err("too long");
        assert_eq!(error.problem, Problem::StringTooLong { found: 32_768 });
        let body = Bytes::from_static(b"\x7f\xff\xff\xff");
        let error = Reader::new(&body).array_count("topics", false, 4).expect_err("cannot fit");
        assert_eq!(error.problem, Problem::TooManyElements { count: i32::MAX as u32, each: 4, left: 0 });
        let body = Bytes::from_static(&[0x80; 6]);
        let error = Reader::new(&body).unsigned_varint("count").expect_err("too long");
        assert_eq!((error.position, error.problem), (0, Problem::VarintTooLong));
    }

    #[test]
    fn a_string_that_is_not_utf8_is_repaired_as_java_does() {
        let body = Bytes::from_static(b"\x00\x03a\xffb");
        assert_eq!(Reader::new(&body).string("topic", false).expect("repaired").as_str(), "a\u{fffd}b");
    }

    #[test]
    fn a_string_too_long_for_its_length_is_cut_at_a_character() {
        let long = "é".repeat(20_000);
        let mut out = BytesMut::new();
        put_string(&mut out, Some(&long), false);
        let body = out.freeze();
        assert_eq!(Reader::new(&body).string("message", false).expect("fits").len(), 32_766);
    }

    proptest! {
        #[test]
        fn varints_round_trip(value: u32) {
            let mut out = BytesMut::new();
            put_unsigned_varint(&mut out, value);
            prop_assert_eq!(out.len(), unsigned_varint_bytes(value));
            let body = out.freeze();
            let mut reader = Reader::new(&body);
            prop_assert_eq!(reader.unsigned_varint("value"), Ok(value));
            prop_assert_eq!(reader.left(), 0);
        }

        #[test]
        fn strings_round_trip(value in proptest::option::of(".{0,40}"), flexible: bool) {
            let mut out = BytesMut::new();
            put_string(&mut out, value.as_deref(), flexible);
            let body = out.freeze();
            let read = Reader::new(&body).nullable_string("value", flexible).expect("as written");
            prop_assert_eq!(read.as_deref(), value.as_deref());
        }
    }
}
