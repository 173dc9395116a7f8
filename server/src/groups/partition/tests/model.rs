//! Random histories of members that come, go, fall silent and die, commits, lost writes and restarts.
//!
//! What must hold in each: no two members own one partition in one generation; a generation is assigned once;
//! a committed offset is what the last acknowledged commit said, also after a start from the log alone;
//! nobody waits for ever.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const PARTITIONS: u8 = 6;

#[derive(Debug, Clone)]
enum Step {
    /// A client does the next thing that its state asks for.
    Act(usize),
    /// A client stops without a word, and starts again as a new one.
    Die(usize),
    /// A client leaves.
    Leave(usize),
    /// A client commits an offset.
    Commit(usize),
    /// Time passes.
    Pass(i64),
    /// The next write becomes durable.
    Flush,
    /// The broker dies: what is not durable is lost.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..5usize).prop_map(Step::Act),
        1 => (0..5usize).prop_map(Step::Die),
        1 => (0..5usize).prop_map(Step::Leave),
        4 => (0..5usize).prop_map(Step::Commit),
        3 => prop_oneof![Just(100i64), Just(3_000), Just(11_000), Just(61_000)].prop_map(Step::Pass),
        6 => Just(Step::Flush),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..300)
}

/// What a client believes.
#[derive(Debug, Clone, Default)]
struct Client {
    instance: Option<String>,
    member: String,
    generation: i32,
    waiting: Option<(Waiter, bool)>,
    joined: bool,
    owned: Option<BTreeSet<u8>>,
}

struct World {
    harness: Harness,
    clients: Vec<Client>,
    /// Generation → what each member was given in it.
    owners: BTreeMap<i32, BTreeMap<String, BTreeSet<u8>>>,
    acknowledged: i64,
    attempted: i64,
    committing: Vec<(Waiter, i64)>,
}

impl World {
    fn new() -> Self {
        let client = |index: usize| Client {
            instance: (index % 2 == 1).then(|| format!("instance-{index}")),
            ..Client::default()
        };
        let clients = (0..5).map(client).collect();
        Self {
            harness: Harness::new(),
            clients,
            owners: BTreeMap::new(),
            acknowledged: -1,
            attempted: 0,
            committing: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Act(index) => self.act(index),
            Step::Die(index) => {
                let instance = self.clients[index].instance.clone();
                self.clients[index] = Client { instance, ..Client::default() };
            }
            Step::Leave(index) => {
                let client = &self.clients[index];
                let leaving = LeavingMember {
                    member_id: client.member.clone(),
                    instance_id: client.instance.clone(),
                    reason: None,
                };
                self.harness.ask_only("group", Request::Leave(vec![leaving]));
                self.clients[index] =
                    Client { instance: self.clients[index].instance.clone(), ..Client::default() };
            }
            Step::Commit(index) => {
                let client = &self.clients[index];
                self.attempted += 1;
                let mut request = commit_request(&client.member, client.generation.max(0), self.attempted);
                request.instance_id.clone_from(&client.instance);
                let waiter = self.harness.ask_only("group", Request::Commit(request));
                self.committing.push((waiter, self.attempted));
            }
            Step::Pass(ms) => self.harness.pass(ms),
            Step::Flush if self.harness.in_flight.is_empty() => {}
            Step::Flush => self.harness.flush_one(Ok(())),
            Step::Crash => self.crash(),
        }
        self.read_answers();
    }

    fn crash(&mut self) {
        self.harness.answers.clear();
        self.harness.reload();
        for client in &mut self.clients {
            // Its connection broke; it tries again with what it knows.
            client.waiting = None;
            client.joined = client.owned.is_some();
        }
        self.committing.clear();
        let durable = self.harness.committed("group");
        assert!(
            durable >= self.acknowledged,
            "{durable} after a restart, {} was acknowledged",
            self.acknowledged
        );
        self.acknowledged = durable;
    }

    fn act(&mut self, index: usize) {
        let client = self.clients[index].clone();
        if client.waiting.is_some() {
            return;
        }
        let name = format!("client-{index}");
        if !client.joined {
            let request =
                JoinRequest { instance_id: client.instance.clone(), ..join_request(&client.member, &name) };
            let waiter = self.harness.ask_only("group", Request::Join(request));
            self.clients[index].owned = None;
            self.clients[index].waiting = Some((waiter, true));
        } else if client.owned.is_none() {
            let assignments = self.assign(&client.member);
            let mut request = match sync(&client.member, client.generation, assignments) {
                Request::Sync(request) => request,
                _ => unreachable!(),
            };
            request.instance_id.clone_from(&client.instance);
            let waiter = self.harness.ask_only("group", Request::Sync(request));
            self.clients[index].waiting = Some((waiter, false));
        } else {
            let request = HeartbeatRequest {
                generation: client.generation,
                member_id: client.member.clone(),
                instance_id: client.instance.clone(),
            };
            let waiter = self.harness.ask_only("group", Request::Heartbeat(request));
            self.harness.flush();
            match self.harness.answers.remove(&waiter) {
                Some(Answer::Heartbeat(None)) => {}
                Some(Answer::Heartbeat(Some(ResponseError::RebalanceInProgress))) => {
                    self.clients[index].joined = false
                }
                _ => self.clients[index] = Client { instance: client.instance, ..Client::default() },
            }
        }
    }

    /// As an assignor does, from whom the leader was told of.
    fn assign(&self, member: &str) -> BTreeMap<String, Bytes> {
        let group = self.harness.partition.group("group");
        let Some(group) = group.filter(|group| group.roster().is_leader(member)) else {
            return BTreeMap::new();
        };
        let mut assignments: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let ids = group.roster().ids();
        for partition in 0..PARTITIONS {
            let owner = &ids[usize::from(partition) % ids.len()];
            assignments.entry(owner.to_string()).or_default().push(partition);
        }
        assignments.into_iter().map(|(member, partitions)| (member, Bytes::from(partitions))).collect()
    }

    fn read_answers(&mut self) {
        for index in 0..self.clients.len() {
            let Some((waiter, joining)) = self.clients[index].waiting else { continue };
            let Some(answer) = self.harness.answers.remove(&waiter) else { continue };
            let client = &mut self.clients[index];
            client.waiting = None;
            match answer {
                Answer::Join(answer) if joining => match answer.error {
                    None => {
                        client.member = answer.member_id;
                        client.generation = answer.generation;
                        client.joined = true;
                    }
                    Some(ResponseError::MemberIdRequired) => client.member = answer.member_id,
                    Some(ResponseError::RebalanceInProgress) => {}
                    Some(_) => client.member = String::new(),
                },
                Answer::Sync(answer) => match answer.error {
                    None => {
                        let owned: BTreeSet<u8> = answer.assignment.iter().copied().collect();
                        let generation = self.owners.entry(client.generation).or_default();
                        let name = client.instance.clone().unwrap_or_else(|| client.member.clone());
                        for (other, theirs) in generation.iter().filter(|(other, _)| **other != name) {
                            assert!(
                                theirs.is_disjoint(&owned),
                                "{name} and {other} own the same in {}",
                                client.generation
                            );
                        }
                        let before = generation.insert(name, owned.clone());
                        assert!(
                            before.is_none_or(|before| before == owned),
                            "one generation is assigned once"
                        );
                        client.owned = Some(owned);
                    }
                    Some(ResponseError::RebalanceInProgress) => client.joined = false,
                    Some(_) => *client = Client { instance: client.instance.clone(), ..Client::default() },
                },
                other => panic!("an answer to something else: {other:?}"),
            }
        }
        let answers = &mut self.harness.answers;
        for (waiter, offset) in std::mem::take(&mut self.committing) {
            match answers.remove(&waiter) {
                Some(Answer::Commit(answer)) if answer.topics[0].1[0].1.is_none() => {
                    self.acknowledged = offset
                }
                Some(_) => {}
                None => self.committing.push((waiter, offset)),
            }
        }
        let all = FetchRequest { topics: Some(vec![fetch_topic(Uuid::nil())]), require_stable: false };
        let FetchAnswer { topics, .. } = self.harness.partition.offsets.fetch("group", &all);
        let visible = topics[0].1[0].offset;
        assert_eq!(visible, self.acknowledged, "what was acknowledged is what is seen");
    }

    /// In the end, left alone with time, the members that act find a generation.
    fn settle(&mut self) {
        for _ in 0..60 {
            for index in 0..self.clients.len() {
                self.act(index);
                self.harness.flush();
                self.read_answers();
            }
            self.harness.pass(3_000);
            self.read_answers();
        }
        assert_eq!(self.harness.state("group"), "Stable");
        let all: Vec<u8> =
            self.clients.iter().flat_map(|client| client.owned.clone().unwrap_or_default()).collect();
        let mut sorted = all.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..PARTITIONS).collect::<Vec<_>>(), "every partition has one owner");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_history_breaks_a_group(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
    }
}
