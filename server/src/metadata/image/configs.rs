//! Dynamic configuration of the image: what was set on top of files and defaults.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ApplyError;
use super::shared_map::SharedMap;
use crate::metadata::records;

/// What a configuration applies to. The numbers are those of ConfigRecord and of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum ResourceKind {
    /// A topic, by name.
    Topic = 2,
    /// A broker by id, or all brokers by the empty name.
    Broker = 4,
    /// The loggers of a broker.
    BrokerLogger = 8,
    /// A subscription to client metrics (KIP-714).
    ClientMetrics = 16,
    /// A group.
    Group = 32,
}

impl ResourceKind {
    /// The kind with this number.
    pub fn from_number(number: i8) -> Option<Self> {
        [Self::Topic, Self::Broker, Self::BrokerLogger, Self::ClientMetrics, Self::Group]
            .into_iter()
            .find(|kind| *kind as i8 == number)
    }
}

/// One thing that can be configured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigResource {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its name; empty for the default of all brokers.
    pub name: String,
}

impl ConfigResource {
    /// The topic of this name.
    pub fn topic(name: &str) -> Self {
        Self { kind: ResourceKind::Topic, name: name.to_owned() }
    }

    /// The broker with this id.
    pub fn broker(id: i32) -> Self {
        Self { kind: ResourceKind::Broker, name: id.to_string() }
    }

    /// The default of all brokers.
    pub fn all_brokers() -> Self {
        Self { kind: ResourceKind::Broker, name: String::new() }
    }
}

/// The values that were set, by resource and key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Configs {
    /// Invariant: no resource without a key.
    by_resource: SharedMap<ConfigResource, Arc<BTreeMap<String, String>>>,
}

impl Configs {
    /// What is set for a resource; `None` for nothing.
    pub fn of(&self, resource: &ConfigResource) -> Option<&BTreeMap<String, String>> {
        self.by_resource.get(resource).map(Arc::as_ref)
    }

    /// The value of one key of a resource.
    pub fn value(&self, resource: &ConfigResource, key: &str) -> Option<&str> {
        self.of(resource)?.get(key).map(String::as_str)
    }

    /// The resources that something else is set for in `newer`.
    pub fn changes<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = &'a ConfigResource> + use<'a> {
        self.by_resource.changes(&newer.by_resource, Arc::ptr_eq).map(|(resource, ..)| resource)
    }

    /// All resources for which something is set.
    pub fn iter(&self) -> impl Iterator<Item = (&ConfigResource, &BTreeMap<String, String>)> {
        self.by_resource.iter().map(|(resource, values)| (resource, values.as_ref()))
    }

    pub(super) fn apply(&mut self, record: &records::Config) -> Result<(), ApplyError> {
        let kind = ResourceKind::from_number(record.resource_type)
            .ok_or(ApplyError::UnknownResource(record.resource_type))?;
        let resource = ConfigResource { kind, name: record.resource_name.clone() };
        match &record.value {
            Some(value) => {
                let (name, value) = (record.name.clone(), value.clone());
                match self.by_resource.get_mut(&resource) {
                    Some(values) => drop(Arc::make_mut(values).insert(name, value)),
                    None => {
                        drop(self.by_resource.insert(resource, Arc::new(BTreeMap::from([(name, value)]))))
                    }
                }
            }
            None => {
                if let Some(values) = self.by_resource.get_mut(&resource) {
                    Arc::make_mut(values).remove(&record.name);
                    if values.is_empty() {
                        self.by_resource.remove(&resource);
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, resource: &ConfigResource) {
        self.by_resource.remove(resource);
    }
}
