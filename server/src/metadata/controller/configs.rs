//! AlterConfigs and IncrementalAlterConfigs. Kafka: `ConfigurationControlManager`.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;

use super::{AdminError, Decision, Rules};
use crate::config::key::ValueType;
use crate::config::{keys, requirements};
use crate::metadata::image::{ConfigResource, Image, ResourceKind};
use crate::metadata::records;
use crate::metadata::topic_config::{self, list_elements};
use crate::metadata::topic_name;

/// The feature with which partitions have eligible leader replicas (KIP-966).
pub(super) const ELIGIBLE_LEADER_REPLICAS_VERSION: &str = "eligible.leader.replicas.version";
/// How many of a partition's replicas have to be in sync.
pub(super) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// What is done to one key. The numbers are those of IncrementalAlterConfigs (KIP-339).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Sets the value (0).
    Set,
    /// Goes back to what is inherited (1).
    Delete,
    /// Adds elements to a list (2).
    Append,
    /// Takes elements out of a list (3).
    Subtract,
}

impl Change {
    /// The change with this number.
    pub fn from_number(number: i8) -> Option<Self> {
        Some(match number {
            0 => Self::Set,
            1 => Self::Delete,
            2 => Self::Append,
            3 => Self::Subtract,
            _ => return None,
        })
    }
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The key.
    pub name: String,
    /// What is done.
    pub change: Change,
    /// The value; `None` only where it deletes.
    pub value: Option<String>,
}

/// Changes the configuration of one resource, all of it or nothing. With `replace`, as AlterConfigs does,
/// every key that is not named is deleted.
pub fn alter_configs(
    image: &Image,
    rules: &Rules<'_>,
    resource: &ConfigResource,
    changes: &[ConfigChange],
    replace: bool,
) -> Decision<Result<(), AdminError>> {
    match altered(image, rules, resource, changes, replace) {
        Ok(new) => {
            let empty = BTreeMap::new();
            let old = image.configs().of(resource).unwrap_or(&empty);
            let config = |name: &String, value: Option<String>| {
                records::Config {
                    resource_type: resource.kind as i8,
                    resource_name: resource.name.clone(),
                    name: name.clone(),
                    value,
                }
                .into()
            };
            let removed = old.keys().filter(|name| !new.contains_key(*name));
            let set = new.iter().filter(|(name, value)| old.get(*name) != Some(*value));
            let records = removed
                .map(|name| config(name, None))
                .chain(set.map(|(name, value)| config(name, Some(value.clone()))))
                .collect();
            Decision { records, answer: Ok(()) }
        }
        Err(error) => Decision { records: Vec::new(), answer: Err(error) },
    }
}

/// All values of the resource after the changes.
fn altered(
    image: &Image,
    rules: &Rules<'_>,
    resource: &ConfigResource,
    changes: &[ConfigChange],
    replace: bool,
) -> Result<BTreeMap<String, String>, AdminError> {
    check_resource(rules, resource)?;
    let old = image.configs().of(resource).cloned().unwrap_or_default();
    let mut new = if replace { BTreeMap::new() } else { old.clone() };
    for change in changes {
        let name = &change.name;
        match change.change {
            Change::Set => {
                let Some(value) = &change.value else {
                    let why = format!("Null value not supported for : {name}");
                    return Err(AdminError::new(ResponseError::InvalidRequest, why));
                };
                new.insert(name.clone(), value.clone());
            }
            Change::Delete => drop(new.remove(name)),
            Change::Append | Change::Subtract => {
                let value = change_list(image, rules, resource, &old, change)?;
                new.insert(name.clone(), value);
            }
        }
    }
    check_kept(image, resource, &old, &new)?;
    check_values(resource, &old, &new)?;
    // In Kafka's order: what is wrong with the values comes before that they are nobody's.
    check_exists(image, resource)?;
    if resource.kind == ResourceKind::Broker {
        check_requirements(image, rules, resource, &new)?;
    }
    Ok(new)
}

/// Which replicas may lead follows from `min.insync.replicas` of the whole cluster, which is changed, but not taken
/// away (KIP-966). Kafka: `ConfigurationControlManager.isDisallowedClusterMinIsrTransition`.
fn check_kept(
    image: &Image,
    resource: &ConfigResource,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) -> Result<(), AdminError> {
    let is_removed = old.contains_key(MIN_INSYNC_REPLICAS) && !new.contains_key(MIN_INSYNC_REPLICAS);
    let is_needed = image.cluster().feature(ELIGIBLE_LEADER_REPLICAS_VERSION) > 0;
    if is_removed && is_needed && *resource == ConfigResource::all_brokers() {
        let why = "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.";
        return Err(AdminError::new(ResponseError::InvalidConfig, why));
    }
    Ok(())
}

/// The value of a list with elements added or taken out, starting from the effective one.
fn change_list(
    image: &Image,
    rules: &Rules<'_>,
    resource: &ConfigResource,
    old: &BTreeMap<String, String>,
    change: &ConfigChange,
) -> Result<String, AdminError> {
    let name = change.name.as_str();
    let verb = if change.change == Change::Append { "APPEND" } else { "SUBTRACT" };
    let not_a_list = || {
        let message = format!("Can't {verb} to key {name} because its type is not LIST.");
        AdminError::new(ResponseError::InvalidConfig, message)
    };
    let key = match resource.kind {
        ResourceKind::Topic => topic_config::find(name).map(|topic_key| topic_key.key),
        _ => keys::find(name).copied(),
    };
    if key.is_none_or(|key| key.value_type != ValueType::List) {
        return Err(not_a_list());
    }
    let current = old.get(name).cloned().unwrap_or_else(|| {
        if resource.kind == ResourceKind::Topic {
            let values = rules.resolver(image).values(old);
            values.into_iter().find(|(topic_key, _)| topic_key.key.name == name).map(|(_, value)| value)
        } else {
            rules.settings.value(name).map(str::to_owned)
        }
        .unwrap_or_default()
    });
    let mut elements = list_elements(&current);
    for element in list_elements(change.value.as_deref().unwrap_or_default()) {
        let position = elements.iter().position(|other| *other == element);
        match (change.change, position) {
            (Change::Append, None) => elements.push(element),
            (Change::Subtract, Some(position)) => drop(elements.remove(position)),
            _ => {}
        }
    }
    Ok(elements.join(","))
}

fn check_resource(rules: &Rules<'_>, resource: &ConfigResource) -> Result<(), AdminError> {
    match resource.kind {
        ResourceKind::Topic if resource.name.is_empty() => {
            Err(AdminError::new(ResponseError::InvalidRequest, "Default topic resources are not allowed."))
        }
        ResourceKind::Topic => topic_name::validate(&resource.name)
            .map_err(|why| AdminError::new(ResponseError::InvalidTopicException, why)),
        ResourceKind::Broker if resource.name.is_empty() => Ok(()),
        ResourceKind::Broker => match resource.name.parse::<i32>() {
            Ok(id) if id == rules.node_id => Ok(()),
            // Each broker takes only what is for itself, as in Kafka (`ConfigAdminManager`).
            Ok(_) => Err(AdminError::new(
                ResponseError::InvalidRequest,
                format!("Unexpected broker id, expected {}, but received {}", rules.node_id, resource.name),
            )),
            Err(_) => Err(AdminError::new(
                ResponseError::InvalidRequest,
                format!("Node id must be an integer, but it is: {}", resource.name),
            )),
        },
        ResourceKind::BrokerLogger | ResourceKind::ClientMetrics | ResourceKind::Group => {
            Err(AdminError::new(ResponseError::InvalidRequest, "Unsupported config resource type"))
        }
    }
}

fn check_exists(image: &Image, resource: &ConfigResource) -> Result<(), AdminError> {
    if resource.kind == ResourceKind::Topic && image.topic(&resource.name).is_none() {
        let why = format!("The topic '{}' does not exist.", resource.name);
        return Err(AdminError::new(ResponseError::UnknownTopicOrPartition, why));
    }
    Ok(())
}

fn check_values(
    resource: &ConfigResource,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) -> Result<(), AdminError> {
    if resource.kind == ResourceKind::Topic {
        return topic_config::validate(new).map_err(|why| AdminError::new(ResponseError::InvalidConfig, why));
    }
    let changed: Vec<&String> =
        new.iter().filter(|(name, value)| old.get(*name) != Some(*value)).map(|(name, _)| name).collect();
    let fixed: Vec<&str> = changed
        .iter()
        .map(|name| name.as_str())
        .filter(|name| keys::find(name).is_some() && !topic_config::is_dynamic(name))
        .collect();
    let invalid = |why: String| AdminError::new(ResponseError::InvalidRequest, why);
    if !fixed.is_empty() {
        return Err(invalid(format!("Cannot update these configs dynamically: [{}]", fixed.join(", "))));
    }
    for name in changed {
        if let Some(key) = keys::find(name) {
            topic_config::check(key, &new[name]).map_err(invalid)?;
        }
    }
    Ok(())
}

/// Checks what would count for a broker together, once the resource has its new values: a default that breaks a
/// requirement is accepted where the broker has a value of its own, as in Kafka.
fn check_requirements(
    image: &Image,
    rules: &Rules<'_>,
    resource: &ConfigResource,
    new: &BTreeMap<String, String>,
) -> Result<(), AdminError> {
    let of_all = ConfigResource::all_brokers();
    let own = if *resource == of_all { ConfigResource::broker(rules.node_id) } else { resource.clone() };
    let values = |of: &ConfigResource| if of == resource { Some(new) } else { image.configs().of(of) };
    let (own, of_all) = (values(&own), values(&of_all));
    let dynamic = |key: &str| own.and_then(|values| values.get(key)).or_else(|| of_all?.get(key));
    let counts = |key: &str| dynamic(key).map(String::as_str).or_else(|| rules.settings.value(key));
    requirements::check(counts).map_err(|unmet| {
        let why = format!("requirement failed: {}", unmet.requirement);
        AdminError::new(ResponseError::InvalidRequest, why)
    })
}
