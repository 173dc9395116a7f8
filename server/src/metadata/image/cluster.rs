//! Brokers, controllers and finalized features of the image.

use std::collections::BTreeMap;

use super::{ApplyError, METADATA_VERSION};
use crate::metadata::records::{self, FenceChange, Levels, Record};

/// One registered broker. Its epoch is in its registration.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerImage {
    /// As it registered, with every change since: the state that a snapshot holds.
    pub registration: records::RegisterBroker,
}

impl BrokerImage {
    /// Whether it serves clients.
    pub fn is_active(&self) -> bool {
        !self.registration.fenced && !self.registration.in_controlled_shutdown
    }

    /// Its address on the listener of this name.
    pub fn endpoint(&self, listener: &str) -> Option<&records::Endpoint> {
        self.registration.endpoints.iter().find(|endpoint| endpoint.name == listener)
    }
}

/// Who there is, and what all of them keep.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    brokers: BTreeMap<i32, BrokerImage>,
    controllers: BTreeMap<i32, records::RegisterController>,
    /// Invariant: no feature of level 0.
    features: BTreeMap<String, i16>,
}

impl Cluster {
    /// The broker with this id.
    pub fn broker(&self, id: i32) -> Option<&BrokerImage> {
        self.brokers.get(&id)
    }

    /// All registered brokers, by ascending id.
    pub fn brokers(&self) -> impl Iterator<Item = &BrokerImage> {
        self.brokers.values()
    }

    /// All registered controllers, by ascending id.
    pub fn controllers(&self) -> impl Iterator<Item = &records::RegisterController> {
        self.controllers.values()
    }

    /// The finalized level of a feature; 0 for off.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// All finalized features, by ascending name.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, level)| (name.as_str(), *level))
    }

    pub(super) fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        match record {
            Record::RegisterBroker(record) => {
                self.brokers.insert(record.broker_id, BrokerImage { registration: record.clone() });
            }
            Record::UnregisterBroker(record) => {
                self.registered(record.broker_id, record.broker_epoch)?;
                self.brokers.remove(&record.broker_id);
            }
            Record::FenceBroker(record) => {
                self.registered(record.broker_id, record.broker_epoch)?.fenced = true;
            }
            Record::UnfenceBroker(record) => {
                self.registered(record.broker_id, record.broker_epoch)?.fenced = false;
            }
            Record::BrokerRegistrationChange(record) => {
                let broker = self.registered(record.broker_id, record.broker_epoch)?;
                match record.fence {
                    FenceChange::None => {}
                    FenceChange::Unfenced => broker.fenced = false,
                    FenceChange::Fenced => broker.fenced = true,
                }
                if record.in_controlled_shutdown != 0 {
                    broker.in_controlled_shutdown = record.in_controlled_shutdown > 0;
                }
                if !record.log_directories.is_empty() {
                    broker.log_directories.clone_from(&record.log_directories);
                }
                if record.cordoned_log_directories.is_some() {
                    broker.cordoned_log_directories.clone_from(&record.cordoned_log_directories);
                }
            }
            Record::RegisterController(record) => {
                self.controllers.insert(record.controller_id, record.clone());
            }
            Record::FeatureLevel(record) => {
                let known = Levels::METADATA_VERSION_MIN..=Levels::METADATA_VERSION_MAX;
                if record.name == METADATA_VERSION && !known.contains(&record.level) {
                    return Err(ApplyError::MetadataVersion(record.level));
                }
                match record.level {
                    0 => self.features.remove(&record.name),
                    level => self.features.insert(record.name.clone(), level),
                };
            }
            _ => unreachable!("only records about the cluster come here"),
        }
        Ok(())
    }

    fn registered(&mut self, broker: i32, epoch: i64) -> Result<&mut records::RegisterBroker, ApplyError> {
        self.brokers
            .get_mut(&broker)
            .map(|image| &mut image.registration)
            .filter(|registration| registration.broker_epoch == epoch)
            .ok_or(ApplyError::UnknownBroker { broker, epoch })
    }
}
