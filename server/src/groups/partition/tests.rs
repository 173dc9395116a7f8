//! The state machine, event by event; `model` plays random histories against it.

use super::super::messages::Protocol;
use super::super::offsets::{CommitPartition, CommitTopic, FetchAnswer, FetchTopic};
use super::*;
use uuid::Uuid;

mod hostile;
mod model;
mod offsets;
mod rebalances;

/// A partition, its log, and both clocks.
struct Harness {
    partition: GroupPartition,
    now: Now,
    waiters: u64,
    log: Vec<Record>,
    /// Written, not yet durable.
    in_flight: Vec<Write>,
    answers: BTreeMap<Waiter, Answer>,
}

impl Harness {
    fn new() -> Self {
        Self::with(GroupSettings::default())
    }

    fn with(settings: GroupSettings) -> Self {
        Self {
            partition: GroupPartition::new(settings),
            now: Now { monotonic_ms: 0, wall_ms: 1_700_000_000_000 },
            waiters: 0,
            log: Vec::new(),
            in_flight: Vec::new(),
            answers: BTreeMap::new(),
        }
    }

    /// Asks, and leaves what is written in flight.
    fn ask_only(&mut self, group: &str, request: Request) -> Waiter {
        self.waiters += 1;
        let waiter = Waiter(self.waiters);
        let mut effects = Effects::default();
        self.partition.handle(group, request, waiter, self.now, &mut effects);
        self.take(effects);
        waiter
    }

    fn ask(&mut self, group: &str, request: Request) -> Waiter {
        let waiter = self.ask_only(group, request);
        self.flush();
        waiter
    }

    /// Asks what is answered at once.
    fn answer(&mut self, group: &str, request: Request) -> Answer {
        let waiter = self.ask(group, request);
        self.answers.remove(&waiter).expect("it is answered")
    }

    fn take(&mut self, effects: Effects) {
        for (waiter, answer) in effects.answers {
            assert!(self.answers.insert(waiter, answer).is_none(), "{waiter:?} is answered once");
        }
        self.in_flight.extend(effects.writes);
    }

    /// Makes everything durable that was written.
    fn flush(&mut self) {
        while !self.in_flight.is_empty() {
            self.flush_one(Ok(()));
        }
    }

    fn flush_one(&mut self, result: Result<(), ResponseError>) {
        let write = self.in_flight.remove(0);
        let base_offset = i64::try_from(self.log.len()).unwrap();
        if result.is_ok() {
            self.log.extend(write.records);
        }
        let mut effects = Effects::default();
        self.partition.written(write.then, result.map(|()| base_offset), self.now, &mut effects);
        self.take(effects);
    }

    fn pass(&mut self, ms: i64) {
        let until = self.now.monotonic_ms + ms;
        while let Some(next) = self.partition.next_deadline_ms().filter(|next| *next <= until) {
            let step = (next - self.now.monotonic_ms).max(0);
            self.now.monotonic_ms += step;
            self.now.wall_ms += step;
            let mut effects = Effects::default();
            self.partition.time_passed(self.now, &mut effects);
            self.take(effects);
            self.flush();
        }
        self.now.wall_ms += until - self.now.monotonic_ms;
        self.now.monotonic_ms = until;
    }

    /// What a start from the log alone gives.
    fn reload(&mut self) {
        let mut partition = GroupPartition::new(self.partition.settings.clone());
        for (offset, record) in self.log.iter().enumerate() {
            let offset = i64::try_from(offset).unwrap();
            partition.replay(offset, None, &record.key, record.value.as_ref(), self.now).unwrap();
        }
        let mut effects = Effects::default();
        partition.loaded(self.now, &mut effects);
        self.partition = partition;
        self.in_flight.clear();
        self.take(effects);
        self.flush();
    }

    fn joined(&mut self, waiter: Waiter) -> JoinAnswer {
        match self.answers.remove(&waiter) {
            Some(Answer::Join(answer)) => answer,
            other => panic!("no answer to JoinGroup: {other:?}"),
        }
    }

    fn synced(&mut self, waiter: Waiter) -> SyncAnswer {
        match self.answers.remove(&waiter) {
            Some(Answer::Sync(answer)) => answer,
            other => panic!("no answer to SyncGroup: {other:?}"),
        }
    }

    fn waits(&self, waiter: Waiter) -> bool {
        !self.answers.contains_key(&waiter)
    }

    fn state(&self, group: &str) -> &'static str {
        self.partition.group(group).map_or("none", |group| group.state().name())
    }

    /// A new dynamic member of version 4 and above: it asks for an id and comes back with it.
    fn join_new(&mut self, group: &str, client: &str) -> (String, Waiter) {
        let first = self.ask(group, join("", client));
        let answer = self.joined(first);
        assert_eq!(answer.error, Some(ResponseError::MemberIdRequired));
        let waiter = self.ask(group, join(&answer.member_id, client));
        (answer.member_id, waiter)
    }

    /// A stable group with these clients as members, in this order; the first one leads.
    fn stable(&mut self, group: &str, clients: &[&str]) -> Vec<String> {
        let joining: Vec<_> = clients.iter().map(|client| self.join_new(group, client)).collect();
        self.pass(6_000);
        let mut members = Vec::new();
        let mut syncing = Vec::new();
        for (member, waiter) in joining {
            let answer = self.joined(waiter);
            assert_eq!(answer.error, None);
            let assignments = if answer.leader == member {
                clients.iter().zip(&answer.members)
            } else {
                [].iter().zip(&[])
            };
            let assignments = assignments
                .map(|(client, joined)| (joined.member_id.clone(), Bytes::from(client.to_string())))
                .collect();
            syncing.push(self.ask(group, sync(&member, answer.generation, assignments)));
            members.push(member);
        }
        for waiter in syncing {
            assert_eq!(self.synced(waiter).error, None);
        }
        assert_eq!(self.state(group), "Stable");
        members
    }

    fn heartbeat(&mut self, group: &str, member: &str, generation: i32) -> Option<ResponseError> {
        let request = HeartbeatRequest { generation, member_id: member.into(), instance_id: None };
        match self.answer(group, Request::Heartbeat(request)) {
            Answer::Heartbeat(error) => error,
            other => panic!("no answer to Heartbeat: {other:?}"),
        }
    }

    fn leave(&mut self, group: &str, member: &str) -> LeaveAnswer {
        let leaving = LeavingMember { member_id: member.into(), instance_id: None, reason: None };
        match self.answer(group, Request::Leave(vec![leaving])) {
            Answer::Leave(answer) => answer,
            other => panic!("no answer to LeaveGroup: {other:?}"),
        }
    }

    fn commit(&mut self, group: &str, member: &str, generation: i32, offset: i64) -> Option<ResponseError> {
        match self.answer(group, commit(member, generation, offset)) {
            Answer::Commit(answer) => answer.topics[0].1[0].1,
            other => panic!("no answer to OffsetCommit: {other:?}"),
        }
    }

    fn committed(&mut self, group: &str) -> i64 {
        match self.answer(group, fetch(false)) {
            Answer::Fetch(FetchAnswer { topics, .. }) => topics[0].1[0].offset,
            other => panic!("no answer to OffsetFetch: {other:?}"),
        }
    }
}

fn protocols(client: &str) -> Vec<Protocol> {
    vec![Protocol { name: "range".into(), metadata: subscription(client) }]
}

/// A ConsumerProtocolSubscription of the topic `topic`; the client's name tells members apart.
fn subscription(client: &str) -> Bytes {
    let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, 5];
    bytes.extend_from_slice(b"topic");
    bytes.extend_from_slice(&u32::try_from(client.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(client.as_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0]);
    bytes.into()
}

fn join_request(member: &str, client: &str) -> JoinRequest {
    JoinRequest {
        member_id: member.into(),
        instance_id: None,
        client_id: client.into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: "consumer".into(),
        protocols: protocols(client),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        new_member_id: format!("{client}-{}", Uuid::new_v4()),
        requires_known_member_id: true,
        supports_skipping_assignment: true,
        reason: None,
    }
}

fn join(member: &str, client: &str) -> Request {
    Request::Join(join_request(member, client))
}

fn join_static(member: &str, instance: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance.into()), ..join_request(member, instance) }
}

fn sync(member: &str, generation: i32, assignments: BTreeMap<String, Bytes>) -> Request {
    Request::Sync(SyncRequest {
        generation,
        member_id: member.into(),
        instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments,
    })
}

fn commit_request(member: &str, generation: i32, offset: i64) -> CommitRequest {
    let partition = CommitPartition { index: 0, offset, leader_epoch: 5, metadata: "kept".into() };
    CommitRequest {
        generation,
        member_id: member.into(),
        instance_id: None,
        retention_ms: None,
        knows_missing_groups: true,
        topics: vec![CommitTopic {
            name: "topic".into(),
            id: Uuid::from_u128(7),
            partitions: vec![partition],
        }],
        image_offset: 0,
    }
}

fn commit(member: &str, generation: i32, offset: i64) -> Request {
    Request::Commit(commit_request(member, generation, offset))
}

fn fetch_topic(id: Uuid) -> FetchTopic {
    FetchTopic { name: "topic".into(), id, partitions: vec![0] }
}

fn fetch(require_stable: bool) -> Request {
    Request::Fetch(FetchRequest { topics: Some(vec![fetch_topic(Uuid::nil())]), require_stable })
}
