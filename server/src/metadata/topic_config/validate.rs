//! Whether a topic may be configured so, and Kafka's words if not.
//!
//! Kafka: `LogConfig.validate`, `ConfigDef.parseType` and its validators.

use std::collections::BTreeMap;

use super::table::{self, INTERNAL_SEGMENT_BYTES};
use crate::config::key::{Key, Range, ValueType};

/// Checks all values that a topic would have of its own. The error is what Kafka answers with
/// INVALID_CONFIG.
pub fn validate(values: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in values {
        if name == INTERNAL_SEGMENT_BYTES {
            check_type(name, ValueType::Int, value)?;
            continue;
        }
        let Some(topic_key) = table::find(name) else {
            return Err(format!("Unknown topic config name: {name}"));
        };
        check(&topic_key.key, value)?;
    }
    let number = |name: &str| values.get(name).and_then(|value| value.trim().parse::<i64>().ok());
    if let (Some(least), Some(most)) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"))
        && least > most
    {
        return Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({least}) > max.compaction.lag.ms ({most})"
        ));
    }
    if values.get("remote.storage.enable").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
        return Err("Tiered Storage functionality is disabled in the broker. \
                    Topic cannot be configured with remote log storage."
            .into());
    }
    Ok(())
}

/// Checks one value against its key's type and range. Kafka's words.
pub fn check(key: &Key, value: &str) -> Result<(), String> {
    let name = key.name;
    check_type(name, key.value_type, value)?;
    let value = value.trim();
    let invalid =
        |value: &str, why: String| Err(format!("Invalid value {value} for configuration {name}: {why}"));
    if matches!(key.value_type, ValueType::Int | ValueType::Short | ValueType::Long) {
        let number: i64 = value.parse().expect("its type was checked");
        return match key.range {
            Range::AtLeast(low) if number < low => invalid(value, format!("Value must be at least {low}")),
            Range::Between(low, _) if number < low => invalid(value, format!("Value must be at least {low}")),
            Range::Between(_, high) if number > high => {
                invalid(value, format!("Value must be no more than {high}"))
            }
            Range::BetweenOr(low, high, other) if number != other && !(low..=high).contains(&number) => {
                invalid(value, format!("Value must be between {low} and {high} or equal to {other}"))
            }
            _ => Ok(()),
        };
    }
    match (key.value_type, key.range) {
        (ValueType::Double, Range::Fraction(low, high)) => {
            let number: f64 = value.parse().expect("its type was checked");
            if number < low {
                return invalid(value, format!("Value must be at least {low}"));
            }
            if number > high {
                return invalid(value, format!("Value must be no more than {high}"));
            }
            Ok(())
        }
        (ValueType::List, range) => {
            let elements = list_elements(value);
            if elements.iter().any(|element| element.is_empty()) {
                return Err(format!("Configuration '{name}' values must not be empty."));
            }
            if let Range::EachOneOf(texts) = range {
                if let Some(other) = elements.iter().find(|element| !texts.contains(element)) {
                    return invalid(other, format!("String must be one of: {}", texts.join(", ")));
                }
            } else if name.ends_with(".replication.throttled.replicas") && !are_throttled(&elements) {
                return invalid(
                    &format!("[{}]", elements.join(", ")),
                    format!(
                        "{name} must be the literal '*' or a list of replicas in the following format: \
                         [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                    ),
                );
            }
            Ok(())
        }
        (_, Range::OneOf(texts)) if !texts.contains(&value) => {
            invalid(value, format!("String must be one of: {}", texts.join(", ")))
        }
        _ => Ok(()),
    }
}

fn check_type(name: &str, value_type: ValueType, value: &str) -> Result<(), String> {
    let trimmed = value.trim();
    let sound = match value_type {
        ValueType::Boolean => trimmed.eq_ignore_ascii_case("true") || trimmed.eq_ignore_ascii_case("false"),
        ValueType::Int => trimmed.parse::<i32>().is_ok(),
        ValueType::Short => trimmed.parse::<i16>().is_ok(),
        ValueType::Long => trimmed.parse::<i64>().is_ok(),
        ValueType::Double => trimmed.parse::<f64>().is_ok(),
        ValueType::String | ValueType::List | ValueType::Class | ValueType::Password => true,
    };
    if sound {
        return Ok(());
    }
    let why = match value_type {
        ValueType::Boolean => "Expected value to be either true or false".to_owned(),
        other => format!("Not a number of type {}", other.to_string().to_ascii_uppercase()),
    };
    Err(format!("Invalid value {trimmed} for configuration {name}: {why}"))
}

/// The elements of a list as Kafka splits it: none of an empty text, and an empty one behind a last comma.
pub fn list_elements(value: &str) -> Vec<&str> {
    let value = value.trim();
    if value.is_empty() { Vec::new() } else { value.split(',').map(str::trim).collect() }
}

/// `*`, or pairs of numbers with a colon between.
fn are_throttled(elements: &[&str]) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    elements == ["*"]
        || elements.iter().all(|element| {
            element
                .split_once(':')
                .is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
        })
}
