//! What a configuration key declares about itself: the one table that parsing, DescribeConfigs, `flumen
//! config` and the reference page are made from.
//!
//! Pure. Kafka: `org.apache.kafka.common.config.ConfigDef`.

use std::fmt;

/// The type of a key's value. Kafka: `ConfigDef.Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// `true` or `false`, in any case.
    Boolean,
    /// Any text.
    String,
    /// A 32-bit integer.
    Int,
    /// A 16-bit integer.
    Short,
    /// A 64-bit integer.
    Long,
    /// A floating-point number.
    Double,
    /// Texts, separated by commas.
    List,
    /// The name of a Java class; kept as text.
    Class,
    /// A text that is never shown.
    Password,
}

impl ValueType {
    /// The number of this type in DescribeConfigs (KIP-569).
    pub fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    fn with_article(self) -> String {
        let article = if self == Self::Int { "an" } else { "a" };
        format!("{article} {self}")
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Int => "int",
            Self::Short => "short",
            Self::Long => "long",
            Self::Double => "double",
            Self::List => "list",
            Self::Class => "class",
            Self::Password => "password",
        })
    }
}

/// What a value may be, beyond its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// Whatever the type can hold.
    Any,
    /// No less than this.
    AtLeast(i64),
    /// No less than the first, or the second.
    AtLeastOr(i64, i64),
    /// Within both bounds.
    Between(i64, i64),
    /// Within both bounds, or this other number.
    BetweenOr(i64, i64, i64),
    /// A floating-point number within both bounds.
    Fraction(f64, f64),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// One of these texts, in any case.
    OneOfAnyCase(&'static [&'static str]),
    /// A list, each element one of these texts.
    EachOneOf(&'static [&'static str]),
    /// At least one character or element, and no element without a character.
    NotEmpty,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::AtLeast(low) => write!(f, "at least {low}"),
            Self::AtLeastOr(low, other) => write!(f, "at least {low}, or {other}"),
            Self::Between(low, high) => write!(f, "{low} to {high}"),
            Self::BetweenOr(low, high, other) => write!(f, "{low} to {high}, or {other}"),
            Self::Fraction(low, high) => write!(f, "{low} to {high}"),
            Self::OneOf([""]) => f.write_str("empty"),
            Self::OneOf([only]) => f.write_str(only),
            Self::OneOf(texts) => write!(f, "one of {}", texts.join(", ")),
            Self::OneOfAnyCase(texts) => write!(f, "one of {} (in any case)", texts.join(", ")),
            Self::EachOneOf(texts) => write!(f, "a list of {}", texts.join(", ")),
            Self::NotEmpty => f.write_str("not empty"),
        }
    }
}

/// What a key is worth when nobody sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// Nothing: Kafka's `null`. Another key, or the code, decides.
    Unset,
    /// This text.
    Value(&'static str),
}

/// What setting a key does in this broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What its documentation says.
    Yes,
    /// Nothing: accepted, so that a file for Apache Kafka can be used as it is, and said once at start.
    None,
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Its name in `server.properties` or in a topic's configuration.
    pub name: &'static str,
    /// The type of its value.
    pub value_type: ValueType,
    /// Its value when unset.
    pub default: Default,
    /// What its value may be.
    pub range: Range,
    /// Whether it does anything here.
    pub effect: Effect,
    /// One or two sentences: what it means, in which unit.
    pub doc: &'static str,
}

/// A value that a key cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}={shown}: {expected}")]
pub struct InvalidValue {
    /// The key.
    pub key: String,
    /// The value as it was given; hidden for a password.
    pub shown: String,
    /// What would be valid.
    pub expected: String,
}

impl Key {
    /// The default as text, if there is one.
    pub fn default_value(&self) -> Option<&'static str> {
        match self.default {
            Default::Unset => None,
            Default::Value(value) => Some(value),
        }
    }

    /// Whether a value must never be shown, neither in a log nor to a client.
    pub fn is_sensitive(&self) -> bool {
        self.value_type == ValueType::Password
    }

    /// Checks that `value` has this key's type and lies in its range.
    pub fn check(&self, value: &str) -> Result<(), InvalidValue> {
        let value = value.trim();
        if self.holds(value) { Ok(()) } else { Err(self.invalid(value)) }
    }

    /// The error that says that `value` will not do.
    pub fn invalid(&self, value: &str) -> InvalidValue {
        let shown = if self.is_sensitive() { "[hidden]".into() } else { value.to_string() };
        let expected = match self.range {
            Range::OneOf(&[_]) => format!("must be {}: anything else is not served", self.range),
            Range::EachOneOf(_) => format!("must be {}", self.range),
            Range::NotEmpty => "must not be empty: give it a value, or leave it out".to_string(),
            Range::Any => format!("must be {}", self.value_type.with_article()),
            range => format!("must be {}, {range}", self.value_type.with_article()),
        };
        InvalidValue { key: self.name.to_string(), shown, expected }
    }

    fn holds(&self, value: &str) -> bool {
        match self.value_type {
            ValueType::Boolean => match self.range {
                Range::OneOf(texts) => texts.contains(&value.to_ascii_lowercase().as_str()),
                _ => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
            },
            ValueType::Int => value.parse::<i32>().is_ok_and(|number| self.holds_number(number.into())),
            ValueType::Short => value.parse::<i16>().is_ok_and(|number| self.holds_number(number.into())),
            ValueType::Long => value.parse::<i64>().is_ok_and(|number| self.holds_number(number)),
            ValueType::Double => value.parse::<f64>().is_ok_and(|number| match self.range {
                Range::Fraction(low, high) => (low..=high).contains(&number),
                Range::Any => !number.is_nan(),
                _ => false,
            }),
            ValueType::String | ValueType::Class | ValueType::Password => match self.range {
                Range::OneOf(texts) => texts.contains(&value),
                Range::OneOfAnyCase(texts) => texts.iter().any(|text| text.eq_ignore_ascii_case(value)),
                Range::NotEmpty => !value.is_empty(),
                _ => true,
            },
            ValueType::List => match self.range {
                Range::EachOneOf(texts) => elements(value).all(|element| texts.contains(&element)),
                Range::OneOf(texts) => texts.contains(&value),
                Range::NotEmpty => value.split(',').all(|element| !element.trim().is_empty()),
                _ => true,
            },
        }
    }

    fn holds_number(&self, number: i64) -> bool {
        match self.range {
            Range::AtLeast(low) => number >= low,
            Range::AtLeastOr(low, other) => number >= low || number == other,
            Range::Between(low, high) => (low..=high).contains(&number),
            Range::BetweenOr(low, high, other) => (low..=high).contains(&number) || number == other,
            _ => true,
        }
    }
}

/// The elements of a list value: separated by commas, without the space around them, empty ones left out.
pub fn elements(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value_type: ValueType, range: Range) -> Key {
        Key { name: "k", value_type, default: Default::Unset, range, effect: Effect::Yes, doc: "" }
    }

    #[test]
    fn a_value_is_checked_against_type_and_range() {
        let partitions = key(ValueType::Int, Range::AtLeast(1));
        assert_eq!(partitions.check(" 3 "), Ok(()));
        let error = partitions.check("0").expect_err("zero is below the range");
        assert_eq!(error.to_string(), "k=0: must be an int, at least 1");
        assert!(partitions.check("2147483648").is_err());
        assert!(partitions.check("three").is_err());
        assert_eq!(key(ValueType::Boolean, Range::Any).check("TRUE"), Ok(()));
        assert!(key(ValueType::Boolean, Range::Any).check("yes").is_err());
        let policy = key(ValueType::List, Range::EachOneOf(&["compact", "delete"]));
        assert_eq!(policy.check("delete, compact"), Ok(()));
        assert!(policy.check("delete,purge").is_err());
        let level = key(ValueType::Int, Range::BetweenOr(1, 9, -1));
        assert!(level.check("-1").is_ok() && level.check("9").is_ok() && level.check("0").is_err());
        assert!(key(ValueType::Double, Range::Fraction(0.0, 1.0)).check("1.5").is_err());
        let bytes = key(ValueType::Long, Range::AtLeastOr(16, -1));
        assert!(bytes.check("-1").is_ok() && bytes.check("16").is_ok());
        assert_eq!(bytes.invalid("0").expected, "must be a long, at least 16, or -1");
        let only = key(ValueType::Boolean, Range::OneOf(&["false"])).invalid("true");
        assert_eq!(only.expected, "must be false: anything else is not served");
        assert_eq!(policy.invalid("purge").expected, "must be a list of compact, delete");
    }

    #[test]
    fn an_empty_list_is_no_default() {
        let directories = key(ValueType::List, Range::NotEmpty);
        assert_eq!(directories.check("/a, /b"), Ok(()));
        for empty in ["", " ", ",", "/a,", "/a,,/b"] {
            let error = directories.check(empty).expect_err("nothing is named");
            assert_eq!(error.expected, "must not be empty: give it a value, or leave it out", "{empty:?}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let error = key(ValueType::Password, Range::NotEmpty).invalid("hunter2");
        assert!(!error.to_string().contains("hunter2"));
    }
}
