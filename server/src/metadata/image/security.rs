//! Quotas, access control entries and credentials of the image: kept whole, so that no snapshot loses what
//! another Kafka wrote.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::metadata::records::{self, Record};

/// A quota's entity: its types and names, sorted.
type QuotaKey = Vec<(String, Option<String>)>;

/// Who may do what, and how much.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Security {
    quotas: BTreeMap<QuotaKey, BTreeMap<String, f64>>,
    entries: BTreeMap<Uuid, records::AccessControlEntry>,
    scram: BTreeMap<(String, i8), records::UserScramCredential>,
    tokens: BTreeMap<String, records::DelegationToken>,
}

impl Security {
    /// Whether any access control entry was made: without an authorizer it would go unenforced.
    pub fn has_access_control_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::ClientQuota(record) => self.apply_quota(record),
            Record::AccessControlEntry(record) => {
                self.entries.insert(record.id, record.clone());
            }
            Record::RemoveAccessControlEntry(record) => {
                self.entries.remove(&record.id);
            }
            Record::UserScramCredential(record) => {
                self.scram.insert((record.name.clone(), record.mechanism), record.clone());
            }
            Record::RemoveUserScramCredential(record) => {
                self.scram.remove(&(record.name.clone(), record.mechanism));
            }
            Record::DelegationToken(record) => {
                self.tokens.insert(record.token_id.clone(), record.clone());
            }
            Record::RemoveDelegationToken(record) => {
                self.tokens.remove(&record.token_id);
            }
            _ => unreachable!("only records about security come here"),
        }
    }

    fn apply_quota(&mut self, record: &records::ClientQuota) {
        let mut entity: QuotaKey =
            record.entity.iter().map(|part| (part.entity_type.clone(), part.entity_name.clone())).collect();
        entity.sort();
        if !record.remove {
            self.quotas.entry(entity).or_default().insert(record.key.clone(), record.value);
        } else if let Some(quotas) = self.quotas.get_mut(&entity) {
            quotas.remove(&record.key);
            if quotas.is_empty() {
                self.quotas.remove(&entity);
            }
        }
    }

    /// The quotas as records.
    pub(super) fn quota_records(&self) -> impl Iterator<Item = Record> {
        self.quotas.iter().flat_map(|(entity, quotas)| {
            quotas.iter().map(|(key, value)| {
                let entity = entity.iter().map(|(entity_type, entity_name)| records::QuotaEntity {
                    entity_type: entity_type.clone(),
                    entity_name: entity_name.clone(),
                });
                let entity = entity.collect();
                records::ClientQuota { entity, key: key.clone(), value: *value, remove: false }.into()
            })
        })
    }

    /// The access control entries, credentials and tokens as records.
    pub(super) fn other_records(&self) -> impl Iterator<Item = Record> {
        let entries = self.entries.values().cloned().map(Record::from);
        let scram = self.scram.values().cloned().map(Record::from);
        entries.chain(scram).chain(self.tokens.values().cloned().map(Record::from))
    }
}
