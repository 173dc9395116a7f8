//! The table of every key that a broker's configuration may contain.
//!
//! Names, types, defaults and ranges are those of Apache Kafka 4.3; what differs is said in the key's
//! documentation. Keys that older versions had are listed too, so that an old file still starts a broker.

use super::key::Key;

mod groups;
mod log;
mod network;
mod node;
mod own;
mod remote;
mod replication;
mod security;
mod transactions;

/// Declares keys: `"name": Type = default, Range; "documentation"`, each optionally `inert`.
macro_rules! keys {
    ($($($inert:ident)? $name:literal : $value_type:ident = $default:tt, $range:expr; $doc:literal)*) => {
        use $crate::config::key::{Default, Effect, Key, Range::*, ValueType};

        pub(super) static KEYS: &[Key] = &[$(Key {
            name: $name,
            value_type: ValueType::$value_type,
            default: keys!(@default $default),
            range: $range,
            effect: keys!(@effect $($inert)?),
            doc: $doc,
        }),*];
    };
    (@default unset) => { Default::Unset };
    (@default $value:literal) => { Default::Value($value) };
    (@effect inert) => { Effect::None };
    (@effect) => { Effect::Yes };
}
use keys;

/// The keys in groups that belong together, each with a title.
pub static GROUPS: [(&str, &[Key]); 9] = [
    ("This broker's own", own::KEYS),
    ("The node", node::KEYS),
    ("Listeners, connections, requests", network::KEYS),
    ("Topics and their logs", log::KEYS),
    ("Groups", groups::KEYS),
    ("Producers and transactions", transactions::KEYS),
    ("Security", security::KEYS),
    ("Replication and quotas", replication::KEYS),
    ("Tiered storage", remote::KEYS),
];

/// Settings of one listener or of a plug-in: Kafka gives them names of the user's own.
const OPEN_PREFIXES: [&str; 3] = ["listener.name.", "rlmm.config.", "rsm.config."];

/// Every key.
pub fn all() -> impl Iterator<Item = &'static Key> {
    GROUPS.iter().flat_map(|(_, keys)| keys.iter())
}

/// The key of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name)
}

/// Whether this is a name that Kafka leaves to the user.
pub fn is_open(name: &str) -> bool {
    OPEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The key whose name is nearest to a mistyped one.
pub fn nearest(name: &str) -> Option<&'static Key> {
    let (distance, key) = all().map(|key| (distance(name, key.name), key)).min_by_key(|(far, _)| *far)?;
    (distance <= 2.max(name.len() / 6)).then_some(key)
}

/// How many characters must be added, removed or replaced (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_defaults_valid() {
        let mut seen = BTreeSet::new();
        for key in all() {
            assert!(seen.insert(key.name), "{} is declared twice", key.name);
            if let Some(default) = key.default_value() {
                assert_eq!(key.check(default), Ok(()), "{}", key.name);
            }
            assert!(key.doc.ends_with('.'), "{}", key.name);
        }
        assert!(seen.len() > 350);
    }

    #[test]
    fn a_mistyped_name_finds_its_key() {
        assert_eq!(nearest("num.partition").map(|key| key.name), Some("num.partitions"));
        assert_eq!(nearest("log.retention.hour").map(|key| key.name), Some("log.retention.hours"));
        assert_eq!(nearest("completely.else"), None);
    }
}
