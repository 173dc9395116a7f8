//! The members of one classic group: who there is, who leads, what all of them support, who waits.
//!
//! Pure data of the core that owns the group. Invariants: a static instance maps to a member that exists;
//! `protocol_support` counts each member's protocols once; `awaiting_join` counts the members whose
//! JoinGroup is parked; the leader, if any, is a member.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use super::messages::{JoinRequest, Protocol, Waiter};
use super::timers::TimerId;

/// One member of a classic group.
#[derive(Debug, Clone)]
pub struct Member {
    /// The member's id, given by the coordinator.
    pub id: Rc<str>,
    /// `group.instance.id`; a member that has one is static (KIP-345).
    pub instance_id: Option<String>,
    /// The client id of its requests.
    pub client_id: String,
    /// Its address, as Kafka prints it.
    pub client_host: String,
    /// How long it may take to rejoin, milliseconds.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent, milliseconds.
    pub session_timeout_ms: i32,
    /// In the order of its preference.
    pub protocols: Vec<Protocol>,
    /// What it was assigned in this generation; empty until the leader's word is durable.
    pub assignment: Bytes,
    /// Its parked JoinGroup.
    pub joining: Option<Waiter>,
    /// Its parked SyncGroup.
    pub syncing: Option<Waiter>,
    /// It has not completed its first join: a parked JoinGroup does not keep it alive for ever.
    pub is_new: bool,
    /// When its session ends.
    pub session: Option<TimerId>,
}

impl Member {
    /// A member that joins.
    pub fn new(id: Rc<str>, request: &JoinRequest) -> Self {
        Self {
            id,
            instance_id: request.instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            is_new: true,
            session: None,
        }
    }

    /// Whether a parked request says that the member is alive. One that never completed a join may be
    /// a connection that is gone, so it does not count.
    pub fn is_kept_alive_by_waiting(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    /// The member's metadata for `protocol`.
    pub fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols.iter().find(|supported| supported.name == protocol).map(|found| &found.metadata)
    }
}

/// What a static member was before another instance took its place.
#[derive(Debug)]
pub struct StaticMemberBefore {
    /// Its id.
    pub id: Rc<str>,
    /// Its protocols.
    pub protocols: Vec<Protocol>,
    /// Its rebalance timeout, milliseconds.
    pub rebalance_timeout_ms: i32,
    /// Its session timeout, milliseconds.
    pub session_timeout_ms: i32,
}

/// Everyone in a group.
#[derive(Debug, Default)]
pub struct Roster {
    members: BTreeMap<Rc<str>, Member>,
    static_members: BTreeMap<String, Rc<str>>,
    protocol_support: BTreeMap<String, usize>,
    awaiting_join: usize,
    leader: Option<Rc<str>>,
}

impl Roster {
    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Everyone, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The ids of all members.
    pub fn ids(&self) -> Vec<Rc<str>> {
        self.members.keys().cloned().collect()
    }

    /// The member with this id.
    pub fn get(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    /// The member with this id. Its protocols and its parked JoinGroup are changed by the methods below only.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    /// Whether there is a member with this id.
    pub fn contains(&self, id: &str) -> bool {
        self.members.contains_key(id)
    }

    /// The member that a static instance is now.
    pub fn static_member(&self, instance_id: &str) -> Option<&Rc<str>> {
        self.static_members.get(instance_id)
    }

    /// How many members are static.
    pub fn static_len(&self) -> usize {
        self.static_members.len()
    }

    /// The leader's id.
    pub fn leader(&self) -> Option<&Rc<str>> {
        self.leader.as_ref()
    }

    /// Takes the leader as it was read from the log.
    pub fn restore_leader(&mut self, leader: Option<Rc<str>>) {
        self.leader = leader.filter(|id| self.members.contains_key(id)).or(self.leader.take());
    }

    /// Whether this member leads.
    pub fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    /// How many members' JoinGroup is parked.
    pub fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    /// The longest rebalance timeout, milliseconds.
    pub fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance_timeout_ms)).max().unwrap_or(0).max(0)
    }

    /// Adds a member; the first one leads.
    pub fn add(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            let before = self.static_members.insert(instance_id.clone(), member.id.clone());
            assert!(before.is_none(), "a static instance is one member");
        }
        self.count_support(&member.protocols, true);
        self.awaiting_join += usize::from(member.joining.is_some());
        self.leader.get_or_insert_with(|| member.id.clone());
        let before = self.members.insert(member.id.clone(), member);
        assert!(before.is_none(), "a member id is given once");
    }

    /// Takes a member out; if it led, another member leads.
    pub fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.count_support(&member.protocols, false);
        self.awaiting_join -= usize::from(member.joining.is_some());
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Gives a static member another id. What waits under the old one is the caller's to answer.
    pub fn rename(&mut self, old_id: &str, new_id: Rc<str>) {
        let mut member = self.members.remove(old_id).expect("only a member is renamed");
        self.awaiting_join -= usize::from(member.joining.take().is_some());
        member.syncing = None;
        member.id = new_id.clone();
        let instance_id = member.instance_id.as_ref().expect("only a static member is renamed");
        self.static_members.insert(instance_id.clone(), new_id.clone());
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        self.members.insert(new_id, member);
    }

    /// Takes over what a member says of itself when it joins again.
    pub fn update(
        &mut self,
        id: &str,
        protocols: Vec<Protocol>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
    ) {
        let mut member = self.members.remove(id).expect("only a member is updated");
        self.count_support(&member.protocols, false);
        self.count_support(&protocols, true);
        member.protocols = protocols;
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        self.members.insert(member.id.clone(), member);
    }

    /// Parks a member's JoinGroup. Returns the one that was parked before.
    pub fn park_join(&mut self, id: &str, waiter: Waiter) -> Option<Waiter> {
        let member = self.members.get_mut(id).expect("only a member's join is parked");
        let before = member.joining.replace(waiter);
        self.awaiting_join += usize::from(before.is_none());
        before
    }

    /// Takes a member's parked JoinGroup to answer it.
    pub fn take_join(&mut self, id: &str) -> Option<Waiter> {
        let waiter = self.members.get_mut(id)?.joining.take()?;
        self.awaiting_join -= 1;
        Some(waiter)
    }

    /// Members, static or not, whose JoinGroup is not parked.
    pub fn not_joining(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.joining.is_none())
    }

    /// Makes somebody lead who has rejoined, if the leader has not. False when nobody can.
    pub fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = self.leader.as_ref().and_then(|id| self.members.get(id)) else { return false };
        if leader.joining.is_some() {
            return true;
        }
        let Some(joined) = self.members.values().find(|member| member.joining.is_some()) else {
            return false;
        };
        self.leader = Some(joined.id.clone());
        true
    }

    /// Whether one of these protocols is supported by every member.
    pub fn has_common_protocol<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        names.any(|name| self.support(name) == self.members.len())
    }

    /// The protocol that most members prefer among those that all support; of equals, the leader's choice.
    /// None when nobody is there, or they have nothing in common.
    pub fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            *votes.entry(self.vote(member)?).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        let of_leader =
            self.leader.as_ref().and_then(|id| self.members.get(id)).and_then(|leader| self.vote(leader));
        of_leader
            .filter(|choice| votes[choice] == most)
            .or_else(|| votes.iter().find(|(_, count)| **count == most).map(|(name, _)| *name))
            .map(str::to_owned)
    }

    fn vote<'a>(&self, member: &'a Member) -> Option<&'a str> {
        let names = member.protocols.iter().map(|protocol| protocol.name.as_str());
        names.into_iter().find(|name| self.support(name) == self.members.len())
    }

    fn support(&self, name: &str) -> usize {
        self.protocol_support.get(name).copied().unwrap_or(0)
    }

    fn count_support(&mut self, protocols: &[Protocol], joins: bool) {
        for protocol in protocols {
            if joins {
                *self.protocol_support.entry(protocol.name.clone()).or_default() += 1;
                continue;
            }
            let count = self.protocol_support.get_mut(&protocol.name).expect("every member was counted");
            *count -= 1;
            if *count == 0 {
                self.protocol_support.remove(&protocol.name);
            }
        }
    }
}
