//! Requests that no sound client sends, in any order, with writes that fail: nothing panics, nobody is answered
//! twice, nobody waits for ever, and what was acknowledged is in the log.

use proptest::prelude::*;

use super::super::super::offsets::{CommitPartition, CommitTopic};
use super::*;

/// Who speaks: nobody, somebody made up, or one of the members that ids were given to.
#[derive(Debug, Clone)]
enum Who {
    Nobody,
    Stranger,
    Given(usize),
}

#[derive(Debug, Clone)]
enum Step {
    Join { who: Who, instance: Option<usize>, protocols: Vec<usize>, consumer: bool, old: bool },
    Sync { who: Who, instance: Option<usize>, generation: i32 },
    Heartbeat { who: Who, instance: Option<usize>, generation: i32 },
    Leave { who: Vec<(Who, Option<usize>)> },
    Commit { who: Who, generation: i32 },
    DeleteOffsets,
    Delete,
    Describe,
    Pass(i64),
    Written(bool),
    TopicDeleted,
    Reload,
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        3 => Just(Who::Nobody),
        1 => Just(Who::Stranger),
        8 => (0..6usize).prop_map(Who::Given),
    ]
}

fn instance() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![3 => Just(None), 2 => (0..2usize).prop_map(Some)]
}

/// Before, now, after, none; counted from the group's own.
fn generation() -> impl Strategy<Value = i32> {
    prop_oneof![1 => Just(-1), 8 => Just(0), 1 => Just(1), 1 => Just(-100)]
}

fn step() -> impl Strategy<Value = Step> {
    let protocols = proptest::collection::vec(0..3usize, 0..3);
    prop_oneof![
        8 => (who(), instance(), protocols, prop::bool::weighted(0.9), any::<bool>()).prop_map(
            |(who, instance, protocols, consumer, old)| Step::Join { who, instance, protocols, consumer, old }
        ),
        6 => (who(), instance(), generation())
            .prop_map(|(who, instance, generation)| Step::Sync { who, instance, generation }),
        4 => (who(), instance(), generation())
            .prop_map(|(who, instance, generation)| Step::Heartbeat { who, instance, generation }),
        2 => proptest::collection::vec((who(), instance()), 0..3).prop_map(|who| Step::Leave { who }),
        3 => (who(), generation()).prop_map(|(who, generation)| Step::Commit { who, generation }),
        1 => Just(Step::DeleteOffsets),
        1 => Just(Step::Delete),
        1 => Just(Step::Describe),
        3 => prop_oneof![Just(10i64), Just(3_000), Just(10_001), Just(60_001), Just(301_000)].prop_map(Step::Pass),
        8 => prop::bool::weighted(0.85).prop_map(Step::Written),
        1 => Just(Step::TopicDeleted),
        1 => Just(Step::Reload),
    ]
}

struct World {
    harness: Harness,
    given: Vec<String>,
    waiting: Vec<Waiter>,
}

impl World {
    fn member(&self, who: &Who) -> String {
        match who {
            Who::Nobody => String::new(),
            Who::Stranger => "stranger".into(),
            Who::Given(index) => {
                let count = self.given.len();
                // The latest ones are the likeliest to be members.
                if count == 0 { "stranger".into() } else { self.given[count - 1 - index % count].clone() }
            }
        }
    }

    fn generation(&self, offset: i32) -> i32 {
        self.harness.partition.group("group").map_or(0, |group| group.generation()) + offset
    }

    fn request(&self, step: &Step) -> Option<Request> {
        let instance = |index: &Option<usize>| index.map(|index| format!("instance-{index}"));
        Some(match step {
            Step::Join { who, instance: static_id, protocols, consumer, old } => {
                let mut names: Vec<_> = protocols.clone();
                names.dedup();
                names.sort_unstable();
                names.dedup();
                let protocol = |index: &usize| Protocol {
                    name: format!("protocol-{index}"),
                    metadata: subscription("x"),
                };
                Request::Join(JoinRequest {
                    instance_id: instance(static_id),
                    protocols: names.iter().map(protocol).collect(),
                    protocol_type: if *consumer { "consumer".into() } else { "connect".into() },
                    requires_known_member_id: !old,
                    supports_skipping_assignment: !old,
                    ..join_request(&self.member(who), "client")
                })
            }
            Step::Sync { who, instance: static_id, generation } => {
                let assignments =
                    self.given.iter().map(|member| (member.clone(), Bytes::from("all"))).collect();
                Request::Sync(SyncRequest {
                    generation: self.generation(*generation),
                    member_id: self.member(who),
                    instance_id: instance(static_id),
                    protocol_type: None,
                    protocol_name: None,
                    assignments,
                })
            }
            Step::Heartbeat { who, instance: static_id, generation } => {
                Request::Heartbeat(HeartbeatRequest {
                    generation: self.generation(*generation),
                    member_id: self.member(who),
                    instance_id: instance(static_id),
                })
            }
            Step::Leave { who } => {
                let leaving = |(who, static_id): &(Who, Option<usize>)| LeavingMember {
                    member_id: self.member(who),
                    instance_id: instance(static_id),
                    reason: None,
                };
                Request::Leave(who.iter().map(leaving).collect())
            }
            Step::Commit { who, generation } => {
                let partition =
                    |index| CommitPartition { index, offset: 5, leader_epoch: -1, metadata: String::new() };
                let topic = CommitTopic {
                    name: "topic".into(),
                    id: Uuid::nil(),
                    partitions: (0..2).map(partition).collect(),
                };
                let mut request = commit_request(&self.member(who), self.generation(*generation), 1);
                request.topics = vec![topic];
                Request::Commit(request)
            }
            Step::DeleteOffsets => Request::DeleteOffsets(vec![("topic".into(), vec![0, 7])]),
            Step::Delete => Request::Delete,
            Step::Describe => Request::Describe,
            Step::Pass(_) | Step::Written(_) | Step::TopicDeleted | Step::Reload => return None,
        })
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Pass(ms) => self.harness.pass(*ms),
            Step::Written(_) if self.harness.in_flight.is_empty() => {}
            Step::Written(sound) => {
                let failed = Err(ResponseError::CoordinatorNotAvailable);
                self.harness.flush_one(if *sound { Ok(()) } else { failed });
            }
            Step::TopicDeleted => {
                let mut effects = Effects::default();
                self.harness.partition.topics_deleted(&["topic".into()], &mut effects);
                self.harness.take(effects);
            }
            Step::Reload => {
                self.harness.reload();
                self.waiting.clear();
            }
            request => {
                let request = self.request(request).expect("the others are requests");
                let waiter = self.harness.ask_only("group", request);
                self.waiting.push(waiter);
            }
        }
        self.collect();
    }

    fn collect(&mut self) {
        let Self { harness, given, waiting } = self;
        waiting.retain(|waiter| match harness.answers.remove(waiter) {
            Some(Answer::Join(answer)) => {
                if !answer.member_id.is_empty() && !given.contains(&answer.member_id) {
                    given.push(answer.member_id);
                }
                false
            }
            answer => answer.is_none(),
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn no_requests_break_a_group(steps in proptest::collection::vec(step(), 1..200)) {
        let settings = GroupSettings { size_max: 3, ..GroupSettings::default() };
        let mut world = World { harness: Harness::with(settings), given: Vec::new(), waiting: Vec::new() };
        for step in &steps {
            world.step(step);
        }
        // Sessions, rebalances and the joins of new members all end in time.
        world.harness.flush();
        for _ in 0..20 {
            world.harness.pass(301_000);
            world.collect();
        }
        prop_assert!(world.waiting.is_empty(), "{:?} wait for ever", world.waiting);
        let state = world.harness.state("group");
        prop_assert!(matches!(state, "Empty" | "none"), "{state} although nobody is there");
        world.harness.reload();
        prop_assert_eq!(world.harness.state("group"), state);
    }
}
