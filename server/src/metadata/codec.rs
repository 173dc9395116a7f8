//! The primitives of Kafka's flexible messages, for the records that the server itself reads and writes.
//!
//! Owns no state. Bytes come from a disk: every length is checked against what is left before anything is
//! allocated, and a failure says where and what.

use bytes::Bytes;
use uuid::Uuid;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end inside a field.
    #[error("at byte {position}: {needed} bytes needed, {left} left")]
    Short {
        /// Where in the message.
        position: usize,
        /// What the field takes.
        needed: usize,
        /// What there is.
        left: usize,
    },
    /// A variable-length integer of more than its 5 bytes.
    #[error("at byte {position}: a variable-length integer without end")]
    Varint {
        /// Where in the message.
        position: usize,
    },
    /// A field that must not be null is.
    #[error("at byte {position}: null where a value is needed")]
    Null {
        /// Where in the message.
        position: usize,
    },
    /// A string that is not UTF-8.
    #[error("at byte {position}: a string that is not UTF-8")]
    NotUtf8 {
        /// Where in the message.
        position: usize,
    },
    /// Bytes behind the end of the message.
    #[error("{left} bytes left behind the message, at byte {position}")]
    Trailing {
        /// Where the message ends.
        position: usize,
        /// How many bytes follow.
        left: usize,
    },
}

/// A cursor over one message.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Invariant: `position <= bytes.len()`.
    position: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Where the next field starts.
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        if length > self.left() {
            return Err(CodecError::Short { position: self.position, needed: length, left: self.left() });
        }
        let taken = &self.bytes[self.position..self.position + length];
        self.position += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// An unsigned variable-length integer of at most 32 bits (UNSIGNED_VARINT).
    pub fn unsigned_varint(&mut self) -> Result<u32, CodecError> {
        let start = self.position;
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array::<1>()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::Varint { position: start })
    }

    /// A compact length: `None` for null, else the length.
    fn compact_length(&mut self) -> Result<Option<usize>, CodecError> {
        Ok(self.unsigned_varint()?.checked_sub(1).map(|length| length as usize))
    }

    /// The tagged fields at the end of a structure: `known` gets the number and the bytes of each and says
    /// whether it took them; others are skipped.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let length = self.unsigned_varint()? as usize;
            let position = self.position;
            let bytes = self.take(length)?;
            let mut field = Reader { bytes, position: 0 };
            known(tag, &mut field).map_err(|error| error.moved_by(position))?;
        }
        Ok(())
    }

    /// Skips all tagged fields.
    pub fn skip_tagged_fields(&mut self) -> Result<(), CodecError> {
        self.tagged_fields(|_, _| Ok(()))
    }

    /// Fails if anything is left.
    pub fn finish(&self) -> Result<(), CodecError> {
        match self.left() {
            0 => Ok(()),
            left => Err(CodecError::Trailing { position: self.position, left }),
        }
    }
}

impl CodecError {
    fn moved_by(self, offset: usize) -> Self {
        match self {
            Self::Short { position, needed, left } => {
                Self::Short { position: position + offset, needed, left }
            }
            Self::Varint { position } => Self::Varint { position: position + offset },
            Self::Null { position } => Self::Null { position: position + offset },
            Self::NotUtf8 { position } => Self::NotUtf8 { position: position + offset },
            Self::Trailing { position, left } => Self::Trailing { position: position + offset, left },
        }
    }
}

/// Appends an unsigned variable-length integer.
pub fn put_unsigned_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Collects tagged fields and writes them in ascending order, as Kafka does; none is one zero byte.
#[derive(Debug, Default)]
pub struct TaggedFields {
    /// Invariant: ascending by tag.
    fields: Vec<(u32, Vec<u8>)>,
}

impl TaggedFields {
    /// Adds `value` unless it is the field's default, which is never written.
    pub fn put<T: Field + PartialEq>(&mut self, tag: u32, value: &T, default: &T) {
        if value == default {
            return;
        }
        assert!(self.fields.last().is_none_or(|(last, _)| *last < tag), "tags are put in order");
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        self.fields.push((tag, bytes));
    }

    /// Writes the count and the fields.
    pub fn write(self, out: &mut Vec<u8>) {
        put_unsigned_varint(out, self.fields.len() as u32);
        for (tag, bytes) in self.fields {
            put_unsigned_varint(out, tag);
            put_unsigned_varint(out, bytes.len() as u32);
            out.extend_from_slice(&bytes);
        }
    }
}

/// A type of Kafka's message language, in its flexible (compact) form.
pub trait Field: Sized {
    /// Reads one value.
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError>;
    /// Appends the value.
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! big_endian_fields {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
                Ok(<$type>::from_be_bytes(reader.array()?))
            }
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}
big_endian_fields!(i8, u16, i16, i32, i64, f64);

impl Field for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(reader.array::<1>()?[0] != 0)
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Field for Uuid {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Uuid::from_bytes(reader.array()?))
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Field for Option<String> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let position = reader.position();
        let Some(length) = reader.compact_length()? else { return Ok(None) };
        match std::str::from_utf8(reader.take(length)?) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(CodecError::NotUtf8 { position }),
        }
    }
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(text) => text.write(out),
        }
    }
}

impl Field for String {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let position = reader.position();
        Option::<String>::read(reader)?.ok_or(CodecError::Null { position })
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_unsigned_varint(out, self.len() as u32 + 1);
        out.extend_from_slice(self.as_bytes());
    }
}

impl Field for Bytes {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let position = reader.position();
        let length = reader.compact_length()?.ok_or(CodecError::Null { position })?;
        Ok(Bytes::copy_from_slice(reader.take(length)?))
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_unsigned_varint(out, self.len() as u32 + 1);
        out.extend_from_slice(self);
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let Some(count) = reader.compact_length()? else { return Ok(None) };
        // Every element takes at least one byte, so a false count cannot ask for more than there is.
        if count > reader.left() {
            return Err(CodecError::Short {
                position: reader.position(),
                needed: count,
                left: reader.left(),
            });
        }
        (0..count).map(|_| T::read(reader)).collect::<Result<Vec<T>, _>>().map(Some)
    }
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(elements) => elements.write(out),
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let position = reader.position();
        Option::<Vec<T>>::read(reader)?.ok_or(CodecError::Null { position })
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_unsigned_varint(out, self.len() as u32 + 1);
        for element in self {
            element.write(out);
        }
    }
}

/// Declares a structure whose fields are written in order, followed by no tagged fields of its own.
macro_rules! message {
    ($(#[$doc:meta])* pub struct $name:ident {
        $($(#[$field_doc:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $crate::metadata::codec::Field for $name {
            fn read(
                reader: &mut $crate::metadata::codec::Reader<'_>,
            ) -> Result<Self, $crate::metadata::codec::CodecError> {
                let message = Self {
                    $($field: <$type as $crate::metadata::codec::Field>::read(reader)?,)*
                };
                reader.skip_tagged_fields()?;
                Ok(message)
            }
            fn write(&self, out: &mut Vec<u8>) {
                $($crate::metadata::codec::Field::write(&self.$field, out);)*
                out.push(0);
            }
        }
    };
}
pub(crate) use message;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_and_have_an_end() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u32::MAX] {
            let mut bytes = Vec::new();
            put_unsigned_varint(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.unsigned_varint(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
        }
        assert_eq!(Reader::new(&[0xff; 9]).unsigned_varint(), Err(CodecError::Varint { position: 0 }));
    }

    #[test]
    fn a_false_count_allocates_nothing() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        assert!(matches!(Vec::<i32>::read(&mut Reader::new(&bytes)), Err(CodecError::Short { .. })));
    }

    #[test]
    fn an_unknown_tag_is_skipped_and_an_error_inside_one_is_located() {
        let bytes = [1, 9, 2, 0xaa, 0xbb];
        assert_eq!(Reader::new(&bytes).skip_tagged_fields(), Ok(()));
        let error = Reader::new(&bytes)
            .tagged_fields(|_, field| i32::read(field).map(drop))
            .expect_err("two bytes are no int32");
        assert_eq!(error, CodecError::Short { position: 3, needed: 4, left: 2 });
    }
}
