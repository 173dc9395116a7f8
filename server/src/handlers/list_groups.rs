//! ListGroups (16): the groups of all cores, by state and type.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, RequestContext};
use crate::groups::{messages, route};
use crate::time_slice::TimeSlice;

/// Versions that are served.
pub const VERSIONS: RangeInclusive<i16> = 0..=5;

/// Lists groups.
pub async fn handle(
    context: &RequestContext,
    request: ListGroupsRequest,
) -> Result<ListGroupsResponse, Refusal> {
    let groups = match route::list(&context.shard).await {
        Ok(groups) => groups,
        Err(error) => return Ok(ListGroupsResponse::default().with_error_code(error.code())),
    };
    let slice = TimeSlice::of(context.shard.ring());
    // Kafka trims states, and types not.
    let states_filter =
        Filter::of(&request.states_filter, |state| state.trim_matches(|character| character <= ' '));
    let types_filter = Filter::of(&request.types_filter, |name| name);
    let mut listed = Vec::new();
    for group in groups {
        if states_filter.passes(group.state) && types_filter.passes(group.group_type) {
            listed.push(respond(group));
        }
        slice.pause().await;
    }
    Ok(ListGroupsResponse::default().with_groups(listed))
}

/// What a client wants to see; without any words, everything.
struct Filter {
    /// In small letters.
    wanted: BTreeSet<String>,
    is_empty: bool,
}

/// No state and no type is longer, and no longer word passes anything.
const WORD_BYTES_MAX: usize = 32;

impl Filter {
    fn of(words: &[StrBytes], trimmed: impl Fn(&str) -> &str) -> Self {
        let some = words.iter().map(|word| trimmed(word)).filter(|word| word.len() <= WORD_BYTES_MAX);
        Self { wanted: some.map(str::to_ascii_lowercase).collect(), is_empty: words.is_empty() }
    }

    fn passes(&self, value: &str) -> bool {
        self.is_empty || self.wanted.contains(&value.to_ascii_lowercase())
    }
}

fn respond(group: messages::ListedGroup) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(group.group_id)))
        .with_protocol_type(StrBytes::from_string(group.protocol_type))
        .with_group_state(StrBytes::from_static_str(group.state))
        .with_group_type(StrBytes::from_static_str(group.group_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_passes_what_it_names_in_any_letters() {
        let words = |words: &[&'static str]| -> Vec<StrBytes> {
            words.iter().map(|word| StrBytes::from_static_str(word)).collect()
        };
        let filter = Filter::of(&words(&["STABLE", " empty"]), str::trim);
        assert!(filter.passes("Stable") && filter.passes("Empty") && !filter.passes("Dead"));
        assert!(Filter::of(&[], |word| word).passes("Dead"));
        let long = Filter::of(&words(&["a word that is longer than any state could ever be"]), |word| word);
        assert!(!long.passes("Stable"), "it names something");
    }
}
