//! The shape of every request: which fields, in which versions, in which order.
//!
//! Only what bounds need is told: names (for errors), widths, versions, tags, and where a null may be. What a
//! default is, is the decoder's business.

mod admin;
mod data;
mod groups;
mod quorum;
mod security;
mod session;
mod share;
mod transactions;

use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;

/// One request, in all of its versions.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) api_key: ApiKey,
    pub(super) versions: RangeInclusive<i16>,
    /// The first version with compact lengths and tagged fields, if there is one.
    pub(super) flexible_from: Option<i16>,
    pub(super) fields: &'static [Field],
}

/// One field of a structure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The versions that have it: from, until, both included.
    pub(super) versions: (i16, i16),
    /// The first version in which it may be null; `i16::MAX` for never. Structures tell by their kind.
    pub(super) nullable_from: i16,
    /// Where it is not in line, but among the tagged fields.
    pub(super) tag: Option<u32>,
}

/// What a field is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Array(&'static Kind),
    Structure(&'static [Field]),
    /// An INT8 before it says whether it is there: 1, or −1.
    NullableStructure(&'static [Field]),
}

impl Schema {
    /// The schema of a request; none where Kafka has no such request.
    pub(super) fn of(api_key: ApiKey) -> Option<&'static Self> {
        SCHEMAS.iter().flat_map(|schemas| schemas.iter()).find(|schema| schema.api_key == api_key)
    }

    pub(super) fn is_flexible(&self, version: i16) -> bool {
        self.flexible_from.is_some_and(|from| version >= from)
    }
}

const SCHEMAS: &[&[Schema]] = &[
    data::SCHEMAS,
    groups::SCHEMAS,
    session::SCHEMAS,
    admin::SCHEMAS,
    transactions::SCHEMAS,
    share::SCHEMAS,
    security::SCHEMAS,
    quorum::SCHEMAS,
];

impl Field {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, versions: (0, i16::MAX), nullable_from: i16::MAX, tag: None }
    }

    /// The first version that has it.
    const fn since(mut self, version: i16) -> Self {
        self.versions.0 = version;
        self
    }

    /// The last version that has it.
    const fn until(mut self, version: i16) -> Self {
        self.versions.1 = version;
        self
    }

    /// The first and the last version that have it.
    const fn between(self, from: i16, until: i16) -> Self {
        self.since(from).until(until)
    }

    /// It may be null.
    const fn nullable(self) -> Self {
        self.nullable_since(0)
    }

    /// It may be null from this version on.
    const fn nullable_since(mut self, version: i16) -> Self {
        self.nullable_from = version;
        self
    }

    const fn tagged(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    pub(super) fn is_in(&self, version: i16) -> bool {
        (self.versions.0..=self.versions.1).contains(&version)
    }
}

macro_rules! field_of_kind {
    ($($name:ident: $kind:ident),* $(,)?) => {$(
        const fn $name(name: &'static str) -> Field {
            Field::new(name, Kind::$kind)
        }
    )*};
}

field_of_kind! {
    boolean: Bool,
    int8: Int8,
    int16: Int16,
    uint16: Uint16,
    int32: Int32,
    int64: Int64,
    float64: Float64,
    uuid: Uuid,
    string: String,
    bytes: Bytes,
}

const fn array(name: &'static str, element: &'static Kind) -> Field {
    Field::new(name, Kind::Array(element))
}

const fn structure(name: &'static str, fields: &'static [Field]) -> Field {
    Field::new(name, Kind::Structure(fields))
}

const fn nullable_structure(name: &'static str, fields: &'static [Field]) -> Field {
    Field::new(name, Kind::NullableStructure(fields))
}
