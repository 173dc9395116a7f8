//! What is asked, in order. Every answer is noted with all of its fields.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Request, StrBytes};

use super::client::Client;

const TOPIC: &str = "transcript";
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Script {
    address: String,
    client: Client,
    transcript: String,
    /// Ids that the broker made up, by what they are called here.
    names: Vec<(String, String)>,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A ConsumerProtocolSubscription of one topic.
fn subscription() -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, TOPIC.len() as u8];
    bytes.extend_from_slice(TOPIC.as_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0]);
    bytes.into()
}

fn join(id: &str, member: &str) -> JoinGroupRequest {
    let protocol =
        |name| JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(subscription());
    JoinGroupRequest::default()
        .with_group_id(group(id))
        .with_member_id(text(member))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol("range"), protocol("roundrobin")])
}

fn sync(id: &str, member: &str, generation: i32, assigned: &[(&str, &'static str)]) -> SyncGroupRequest {
    let assignment = |(member, bytes): &(&str, &'static str)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member))
            .with_assignment(Bytes::from_static(bytes.as_bytes()))
    };
    SyncGroupRequest::default()
        .with_group_id(group(id))
        .with_member_id(text(member))
        .with_generation_id(generation)
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(assigned.iter().map(assignment).collect())
}

fn heartbeat(id: &str, member: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group(id))
        .with_member_id(text(member))
        .with_generation_id(generation)
}

fn commit(id: &str, member: &str, generation: i32, offsets: &[(&str, i32, i64)]) -> OffsetCommitRequest {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (name, index, offset) in offsets {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(text("noted")));
        topics.entry(name).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default().with_name(topic(name)).with_partitions(partitions)
    });
    OffsetCommitRequest::default()
        .with_group_id(group(id))
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(topics.collect())
}

fn fetch(id: &str, wanted: Option<&[(&str, &[i32])]>) -> OffsetFetchRequest {
    let topics = wanted.map(|wanted| {
        let topic = |(name, indexes): &(&str, &[i32])| {
            OffsetFetchRequestTopic::default().with_name(topic(name)).with_partition_indexes(indexes.to_vec())
        };
        wanted.iter().map(topic).collect()
    });
    OffsetFetchRequest::default().with_group_id(group(id)).with_topics(topics)
}

fn fetch_groups(wanted: &[(&str, Option<&[i32]>)]) -> OffsetFetchRequest {
    let one = |(id, indexes): &(&str, Option<&[i32]>)| {
        let topics = indexes.map(|indexes| {
            vec![
                OffsetFetchRequestTopics::default()
                    .with_name(topic(TOPIC))
                    .with_partition_indexes(indexes.to_vec()),
            ]
        });
        OffsetFetchRequestGroup::default().with_group_id(group(id)).with_topics(topics)
    };
    OffsetFetchRequest::default().with_groups(wanted.iter().map(one).collect())
}

fn delete_offsets(id: &str, name: &str, indexes: &[i32]) -> OffsetDeleteRequest {
    let partition = |index: &i32| OffsetDeleteRequestPartition::default().with_partition_index(*index);
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(topic(name))
        .with_partitions(indexes.iter().map(partition).collect());
    OffsetDeleteRequest::default().with_group_id(group(id)).with_topics(vec![topic])
}

fn leave(id: &str, member: &str) -> LeaveGroupRequest {
    LeaveGroupRequest::default().with_group_id(group(id)).with_member_id(text(member))
}

fn leave_members(id: &str, members: &[(&str, Option<&str>)]) -> LeaveGroupRequest {
    let member = |(member, instance): &(&str, Option<&str>)| {
        MemberIdentity::default().with_member_id(text(member)).with_group_instance_id(instance.map(text))
    };
    LeaveGroupRequest::default().with_group_id(group(id)).with_members(members.iter().map(member).collect())
}

fn find(keys: &[&str]) -> FindCoordinatorRequest {
    FindCoordinatorRequest::default().with_coordinator_keys(keys.iter().map(|key| text(key)).collect())
}

/// Creates the topics that the script speaks of.
fn create_topics(client: &mut Client) {
    let topic = |name: &str, partitions: i32| {
        CreatableTopic::default()
            .with_name(topic(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
    };
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic(TOPIC, 2), topic("unread", 1)])
        .with_timeout_ms(30_000);
    let answer = client.ask(7, &request);
    assert!(answer.topics.iter().all(|topic| topic.error_code == 0), "the topics are created: {answer:?}");
}

/// Waits for the coordinator of a group.
fn find_coordinator(client: &mut Client, id: &str) {
    let deadline = Instant::now() + PATIENCE;
    while client.ask(4, &find(&[id])).coordinators[0].error_code != 0
        || client.ask(9, &fetch_groups(&[(id, Some(&[0]))])).groups[0].error_code != 0
    {
        assert!(Instant::now() < deadline, "there is a coordinator in time");
        thread::yield_now();
    }
}

/// Commits, deletes the topic, creates it again: nobody starts where the old one ended.
pub fn delete_the_topic_of_offsets(address: &str) {
    let mut client = Client::connect(address);
    create_topics(&mut client);
    find_coordinator(&mut client, "reader");
    let both = [(TOPIC, 0, 100), ("unread", 0, 7)];
    assert_eq!(client.ask(9, &commit("reader", "", -1, &both)).topics[0].partitions[0].error_code, 0);
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic(TOPIC)]).with_timeout_ms(30_000);
    assert_eq!(client.ask(5, &request).responses[0].error_code, 0);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let fetched = client.ask(9, &fetch_groups(&[("reader", None)]));
        let left: Vec<_> = fetched.groups[0].topics.iter().map(|topic| topic.name.to_string()).collect();
        if left == ["unread"] {
            break;
        }
        assert!(Instant::now() < deadline, "the offsets go in time: {left:?}");
    }
}

/// A stable group and offsets, as they were acknowledged.
pub struct Left {
    member: String,
    generation: i32,
    offset: i64,
}

impl Left {
    /// Leaves a stable group behind, and some groups that only commit.
    pub fn behind(address: &str) -> Self {
        let mut client = Client::connect(address);
        create_topics(&mut client);
        find_coordinator(&mut client, "survivor");
        let member = client.ask(9, &join("survivor", "")).member_id.to_string();
        let generation = client.ask(9, &join("survivor", &member)).generation_id;
        let synced = client.ask(5, &sync("survivor", &member, generation, &[(&member, "everything")]));
        assert_eq!(synced.error_code, 0);
        let mut left = Self { member, generation, offset: 0 };
        left.commit(&mut client);
        left
    }

    fn commit(&mut self, client: &mut Client) {
        self.offset += 1;
        for (id, member, generation) in self.groups() {
            let answer = client.ask(9, &commit(&id, &member, generation, &[(TOPIC, 0, self.offset)]));
            assert_eq!(answer.topics[0].partitions[0].error_code, 0, "{id}");
        }
    }

    fn groups(&self) -> Vec<(String, String, i32)> {
        let simple = (0..20).map(|index| (format!("simple-{index}"), String::new(), -1));
        simple.chain([("survivor".to_owned(), self.member.clone(), self.generation)]).collect()
    }

    /// Everything is there after a restart; then commits once more.
    pub fn is_there(&mut self, address: &str) {
        let mut client = Client::connect(address);
        for (id, _, _) in self.groups() {
            find_coordinator(&mut client, &id);
            let fetched = client.ask(9, &fetch_groups(&[(&id, Some(&[0]))]));
            assert_eq!(fetched.groups[0].topics[0].partitions[0].committed_offset, self.offset, "{id}");
        }
        let beat = client.ask(4, &heartbeat("survivor", &self.member, self.generation));
        assert_eq!(beat.error_code, 0, "the member is still one");
        let synced = client.ask(5, &sync("survivor", &self.member, self.generation, &[]));
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"everything"[..]));
        self.commit(&mut client);
    }
}

impl Script {
    /// Plays everything against the broker at `address`, which has no groups yet.
    pub fn play(address: &str) -> String {
        let client = Client::connect(address);
        let mut script =
            Self { address: address.to_owned(), client, transcript: String::new(), names: Vec::new() };
        create_topics(&mut script.client);
        script.before_there_is_a_coordinator();
        script.find_the_coordinator();
        for version in 0..=9 {
            script.live_and_let_die(version);
        }
        script.two_members();
        script.static_members();
        script.bad_joins();
        script.bad_syncs_and_heartbeats();
        script.commits();
        script.topic_ids();
        script.offsets_that_go();
        script.lists_and_descriptions();
        script.deleted_groups();
        script.transcript
    }

    fn section(&mut self, title: &str) {
        let _ = writeln!(self.transcript, "\n# {title}");
    }

    /// Asks and notes the answer.
    fn note<Q: Request>(&mut self, what: &str, version: i16, request: &Q) -> Q::Response
    where
        Q::Response: Debug + Clone,
    {
        let response = self.client.ask(version, request);
        self.write(what, version, &response);
        response
    }

    fn write(&mut self, what: &str, version: i16, response: &impl Debug) {
        let mut line = format!("{response:?}");
        for noise in [", unknown_tagged_fields: {}", "throttle_time_ms: 0, ", "throttle_time_ms: 0"] {
            line = line.replace(noise, "");
        }
        for (id, name) in &self.names {
            line = line.replace(id.as_str(), name);
        }
        let _ = writeln!(self.transcript, "{what} v{version}: {line}");
    }

    fn name(&mut self, id: &str, name: &str) {
        self.names.push((id.to_owned(), format!("<{name}>")));
    }

    fn other(&self) -> Client {
        Client::connect(&self.address)
    }

    /// Joins as a new dynamic member; version 4 and above takes two requests. Notes nothing.
    fn joined(&mut self, id: &str, name: &str) -> (String, i32) {
        let first = self.client.ask(9, &join(id, ""));
        let member = first.member_id.to_string();
        self.name(&member, name);
        let second = self.client.ask(9, &join(id, &member));
        assert_eq!(second.error_code, 0, "a member joins");
        (member, second.generation_id)
    }

    /// A stable group of one member.
    fn stable(&mut self, id: &str, name: &str) -> (String, i32) {
        let (member, generation) = self.joined(id, name);
        let answer = self.client.ask(5, &sync(id, &member, generation, &[(&member, "everything")]));
        assert_eq!(answer.error_code, 0, "a member syncs");
        (member, generation)
    }

    fn before_there_is_a_coordinator(&mut self) {
        self.section("before there is a coordinator");
        self.note("join", 9, &join("early", ""));
        self.note("sync", 5, &sync("early", "member", 1, &[]));
        self.note("heartbeat", 4, &heartbeat("early", "member", 1));
        self.note("leave", 5, &leave_members("early", &[("member", None)]));
        self.note("commit", 9, &commit("early", "", -1, &[(TOPIC, 0, 1)]));
        self.note("commit of nothing", 9, &commit("early", "", -1, &[]));
        self.note("fetch", 1, &fetch("early", Some(&[(TOPIC, &[0])])));
        self.note("fetch", 5, &fetch("early", Some(&[(TOPIC, &[0])])));
        self.note("fetch", 9, &fetch_groups(&[("early", Some(&[0]))]));
        self.note("list", 5, &ListGroupsRequest::default());
        self.note("describe", 6, &DescribeGroupsRequest::default().with_groups(vec![group("early")]));
        self.note("delete", 2, &DeleteGroupsRequest::default().with_groups_names(vec![group("early")]));
        self.note("delete offsets", 0, &delete_offsets("early", TOPIC, &[0]));
    }

    fn find_the_coordinator(&mut self) {
        find_coordinator(&mut self.client, "early");
        self.section("the coordinator");
        let port = self.address.rsplit(':').next().expect("an address has a port").to_owned();
        self.name(&format!("port: {port}"), "port");
        for version in 0..=3 {
            self.note("find", version, &FindCoordinatorRequest::default().with_key(text("somebody")));
        }
        for version in 4..=6 {
            self.note("find", version, &find(&["somebody", "", "somebody"]));
        }
    }

    /// A group's whole life, with the requests that a client of this JoinGroup version sends.
    fn live_and_let_die(&mut self, version: i16) {
        self.section(&format!("a group by JoinGroup version {version}"));
        let id = format!("life-{version}");
        let commit_version = version.max(2);
        let mut answer = self.client.ask(version, &join(&id, ""));
        let member = answer.member_id.to_string();
        self.name(&member, "member");
        if version >= 4 {
            self.write("join", version, &answer);
            answer = self.client.ask(version, &join(&id, &member));
        }
        self.write("join", version, &answer);
        let generation = answer.generation_id;
        let mut syncing = sync(&id, &member, generation, &[(&member, "everything")]);
        if version.min(5) < 5 {
            syncing = syncing.with_protocol_type(None).with_protocol_name(None);
        }
        self.note("sync", version.min(5), &syncing);
        self.note("sync again", version.min(5), &syncing.clone().with_assignments(Vec::new()));
        self.note("heartbeat", version.min(4), &heartbeat(&id, &member, generation));
        self.note(
            "commit",
            commit_version,
            &commit(&id, &member, generation, &[(TOPIC, 0, 5), (TOPIC, 1, 6)]),
        );
        if version >= 8 {
            self.note("fetch", version, &fetch_groups(&[(&id, Some(&[0, 1, 2]))]));
            self.note("fetch all", version, &fetch_groups(&[(&id, None)]));
        } else {
            self.note("fetch", version.max(1), &fetch(&id, Some(&[(TOPIC, &[0, 1, 2])])));
            if version >= 2 {
                self.note("fetch all", version, &fetch(&id, None));
            }
        }
        let wanted = DescribeGroupsRequest::default().with_groups(vec![group(&id)]);
        self.note("describe", version.min(6), &wanted);
        self.note("rejoin as the leader", version, &join(&id, &member));
        self.note("heartbeat of the generation before", version.min(4), &heartbeat(&id, &member, generation));
        if version >= 3 {
            self.note("leave", version.min(5), &leave_members(&id, &[(&member, None), ("stranger", None)]));
        } else {
            self.note("leave", version, &leave(&id, &member));
            self.note("leave again", version, &leave(&id, &member));
        }
        self.note("describe", version.min(6), &wanted);
        self.note(
            "delete",
            version.min(2),
            &DeleteGroupsRequest::default().with_groups_names(vec![group(&id)]),
        );
        self.note("describe", version.min(6), &wanted);
    }

    fn two_members(&mut self) {
        self.section("two members");
        let (first, generation) = self.stable("two", "first");
        let mut second = self.other();
        let answer = second.ask(9, &join("two", ""));
        let second_id = answer.member_id.to_string();
        self.name(&second_id, "second");
        second.send(9, &join("two", &second_id));
        let deadline = Instant::now() + PATIENCE;
        while self.client.ask(4, &heartbeat("two", &first, generation)).error_code == 0 {
            assert!(Instant::now() < deadline, "the rebalance begins in time");
        }
        self.note("heartbeat during a rebalance", 4, &heartbeat("two", &first, generation));
        self.note("commit during a rebalance", 9, &commit("two", &first, generation, &[(TOPIC, 0, 1)]));
        self.note("sync during a rebalance", 5, &sync("two", &first, generation, &[]));
        let wanted = DescribeGroupsRequest::default().with_groups(vec![group("two")]);
        let described = self.client.ask(6, &wanted);
        self.write("state", 6, &described.groups[0].group_state);
        let mut answer = self.client.ask(9, &join("two", &first));
        answer.members.sort_by_key(|member| member.member_id != text(&first));
        self.write("rejoin of the leader", 9, &answer);
        let generation = answer.generation_id;
        let answer = second.receive::<JoinGroupRequest>(9);
        self.write("join of the second", 9, &answer);
        self.note("commit before the sync", 9, &commit("two", &first, generation, &[(TOPIC, 0, 2)]));
        second.send(5, &sync("two", &second_id, generation, &[]));
        let described = self.client.ask(6, &wanted);
        self.write("state", 6, &described.groups[0].group_state);
        self.note(
            "sync of the leader",
            5,
            &sync("two", &first, generation, &[(&first, "one half"), (&second_id, "the other")]),
        );
        let answer = second.receive::<SyncGroupRequest>(5);
        self.write("sync of the second", 5, &answer);
        let answer = second.ask(9, &join("two", &second_id));
        self.write("rejoin of a follower that changed nothing", 9, &answer);
        let answer = second.ask(5, &leave_members("two", &[(&second_id, None)]));
        self.write("leave of the second", 5, &answer);
        self.note("heartbeat after it left", 4, &heartbeat("two", &first, generation));
        self.note("leave of the first", 5, &leave_members("two", &[(&first, None)]));
        self.note("describe", 6, &wanted);
    }

    fn static_members(&mut self) {
        self.section("static members");
        let instance = |member: &str| join("static", member).with_group_instance_id(Some(text("instance")));
        for version in 5..=9 {
            let answer = self.client.ask(version, &instance(""));
            self.name(&answer.member_id, &format!("static {version}"));
            self.write("join", version, &answer);
            if version == 5 {
                let member = answer.member_id.to_string();
                let request = sync("static", &member, answer.generation_id, &[(&member, "everything")]);
                self.note("sync", 5, &request.with_group_instance_id(Some(text("instance"))));
            }
        }
        let old = self.names.iter().find(|(_, name)| name == "<static 5>").expect("it joined").0.clone();
        let new = self.names.iter().find(|(_, name)| name == "<static 9>").expect("it joined").0.clone();
        let named = |member: &str, instance: &str| {
            heartbeat("static", member, 1).with_group_instance_id(Some(text(instance)))
        };
        self.note("heartbeat of the fenced", 4, &named(&old, "instance"));
        self.note("heartbeat of the current", 4, &named(&new, "instance"));
        self.note("heartbeat of a stranger", 4, &named(&new, "stranger"));
        self.note("join of the fenced", 9, &instance(&old));
        let stranger = join("static", "somebody").with_group_instance_id(Some(text("stranger")));
        self.note("join of a stranger", 9, &stranger);
        let syncing = sync("static", &old, 1, &[]).with_group_instance_id(Some(text("instance")));
        self.note("sync of the fenced", 5, &syncing);
        let committing =
            commit("static", &old, 1, &[(TOPIC, 0, 1)]).with_group_instance_id(Some(text("instance")));
        self.note("commit of the fenced", 9, &committing);
        let syncing = sync("static", &new, 1, &[]).with_group_instance_id(Some(text("instance")));
        self.note("sync of the current", 5, &syncing);
        let answer = self.client.ask(6, &DescribeGroupsRequest::default().with_groups(vec![group("static")]));
        self.write("describe", 6, &answer);
        self.note("leave of the fenced", 5, &leave_members("static", &[(&old, Some("instance"))]));
        self.note(
            "leave by instance",
            5,
            &leave_members("static", &[("", Some("stranger")), ("", Some("instance"))]),
        );
    }

    fn bad_joins(&mut self) {
        self.section("joins that are refused");
        let (member, _) = self.stable("bad", "member");
        self.note("empty group id", 9, &join("", ""));
        for timeout in [-1, 0, 5_999, 1_800_001] {
            self.note(
                &format!("session timeout {timeout}"),
                9,
                &join("bad", "").with_session_timeout_ms(timeout),
            );
        }
        self.note("unknown member of no group", 9, &join("nothing", "somebody"));
        self.note("unknown member", 9, &join("bad", "somebody"));
        self.note("no protocols", 9, &join("bad", "").with_protocols(Vec::new()));
        self.note("no protocols, new group", 9, &join("fresh", "").with_protocols(Vec::new()));
        self.note("no protocol type, new group", 9, &join("fresh", "").with_protocol_type(text("")));
        self.note("another protocol type", 9, &join("bad", "").with_protocol_type(text("connect")));
        self.note(
            "another protocol type of a member",
            6,
            &join("bad", &member).with_protocol_type(text("connect")),
        );
        let protocol =
            JoinGroupRequestProtocol::default().with_name(text("own")).with_metadata(subscription());
        self.note("another protocol", 9, &join("bad", "").with_protocols(vec![protocol]));
        self.section("more members than the limit of 3");
        let mut parked = Vec::new();
        for _ in 0..2 {
            let mut other = self.other();
            let id = other.ask(9, &join("bad", "")).member_id;
            other.send(9, &join("bad", &id));
            parked.push(other);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer =
                self.client.ask(6, &DescribeGroupsRequest::default().with_groups(vec![group("bad")]));
            if answer.groups[0].members.len() == 3 {
                break;
            }
            assert!(Instant::now() < deadline, "three members join in time");
        }
        self.client.send(9, &join("bad", &member));
        let answers: Vec<i16> =
            parked.iter_mut().map(|client| client.receive::<JoinGroupRequest>(9).error_code).collect();
        self.write("the others", 9, &answers);
        let answer = self.client.receive::<JoinGroupRequest>(9);
        self.write("the first", 9, &answer.error_code);
        self.note("the fourth", 3, &join("bad", ""));
    }

    fn bad_syncs_and_heartbeats(&mut self) {
        self.section("syncs, heartbeats and leaves that are refused");
        let (member, generation) = self.stable("good", "member");
        for (what, id, who, when) in [
            ("empty group id", "", "somebody", 1),
            ("no group", "nothing", "somebody", 1),
            ("unknown member", "good", "somebody", generation),
            ("another generation", "good", member.as_str(), generation + 1),
        ] {
            self.note(&format!("sync: {what}"), 5, &sync(id, who, when, &[]));
            self.note(&format!("heartbeat: {what}"), 4, &heartbeat(id, who, when));
            self.note(&format!("commit: {what}"), 9, &commit(id, who, when, &[(TOPIC, 0, 1)]));
            self.note(&format!("commit: {what}"), 8, &commit(id, who, when, &[(TOPIC, 0, 1)]));
            if who == "somebody" {
                self.note(&format!("leave: {what}"), 2, &leave(id, who));
                self.note(&format!("leave: {what}"), 5, &leave_members(id, &[(who, None), ("", None)]));
            }
        }
        let unnamed = sync("good", &member, generation, &[]).with_protocol_name(None);
        self.note("sync: no protocol", 5, &unnamed);
        let other = sync("good", &member, generation, &[]).with_protocol_name(Some(text("sticky")));
        self.note("sync: another protocol", 5, &other);
        let other = sync("good", &member, generation, &[]).with_protocol_type(Some(text("connect")));
        self.note("sync: another protocol type", 5, &other);
    }

    fn commits(&mut self) {
        self.section("commits");
        self.note("without members", 9, &commit("simple", "", -1, &[(TOPIC, 0, 10), (TOPIC, 1, 11)]));
        self.note(
            "what is not there",
            9,
            &commit("simple", "", -1, &[(TOPIC, 0, 12), (TOPIC, 9, 1), ("missing", 0, 1)]),
        );
        self.note("nothing that is there", 9, &commit("simple", "", -1, &[("missing", 0, 1)]));
        self.note("empty group id", 9, &commit("", "", -1, &[(TOPIC, 0, 3)]));
        let mut large = commit("simple", "", -1, &[(TOPIC, 0, 13), (TOPIC, 1, 14)]);
        large.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(4_097)));
        large.topics[0].partitions[1].committed_metadata = None;
        large.topics[0].partitions[1].committed_leader_epoch = 7;
        self.note("large metadata", 9, &large);
        self.note("a member of nothing", 9, &commit("simple", "somebody", 1, &[(TOPIC, 0, 1)]));
        self.note("without members, into a live group", 9, &commit("good", "", -1, &[(TOPIC, 0, 1)]));
        for version in [1, 2, 5, 7] {
            self.note("fetch", version, &fetch("simple", Some(&[(TOPIC, &[0, 1, 9]), ("missing", &[0])])));
        }
        self.note("fetch, empty group id", 7, &fetch("", Some(&[(TOPIC, &[0])])));
        self.note("fetch of nobody", 7, &fetch("nobody", Some(&[(TOPIC, &[0])])));
        self.note("fetch of nobody", 7, &fetch("nobody", None));
        let stable = fetch_groups(&[("simple", None), ("nobody", None), ("simple", Some(&[1]))])
            .with_require_stable(true);
        self.note("fetch of several", 8, &stable);
        self.note("fetch of several", 9, &stable);
    }

    /// Version 10 of OffsetCommit and OffsetFetch, which the codec cannot write.
    fn topic_ids(&mut self) {
        self.section("topic ids");
        let topics = vec![metadata_request::MetadataRequestTopic::default().with_name(Some(topic(TOPIC)))];
        let metadata = self.client.ask(12, &MetadataRequest::default().with_topics(Some(topics)));
        let id = metadata.topics[0].topic_id;
        self.name(&id.to_string(), "topic id");
        for (what, id) in [("commit", *id.as_bytes()), ("commit to an unknown id", [7; 16])] {
            // Group, generation, member, instance; one topic with two partitions, the second not there.
            let mut body = b"\x04ids\xff\xff\xff\xff\x01\x00\x02".to_vec();
            body.extend_from_slice(&id);
            body.extend_from_slice(b"\x03\0\0\0\0\0\0\0\0\0\0\0\x21\xff\xff\xff\xff\x03hi\0");
            body.extend_from_slice(b"\0\0\0\x09\0\0\0\0\0\0\0\x22\xff\xff\xff\xff\0\0\0\0");
            self.client.send_body::<OffsetCommitRequest>(10, &body);
            let answer = self.client.receive::<OffsetCommitRequest>(10);
            self.write(what, 10, &answer);
        }
        // Group, member, member epoch; topics, or null for all; require stable.
        let group = b"\x02\x04ids\0\xff\xff\xff\xff";
        let named = [
            &group[..],
            b"\x03",
            id.as_bytes(),
            b"\x03\0\0\0\0\0\0\0\x01\0",
            &[7; 16],
            b"\x02\0\0\0\0\0\0\0\0",
        ];
        let all = [&group[..], b"\0\0\0\0"];
        for (what, body) in [("fetch", named.concat()), ("fetch all", all.concat())] {
            self.client.send_body::<OffsetFetchRequest>(10, &body);
            let answer = self.client.receive::<OffsetFetchRequest>(10);
            self.write(what, 10, &answer);
        }
    }

    fn offsets_that_go(&mut self) {
        self.section("offsets that go");
        let (member, generation) = self.stable("going", "member");
        self.note("commit", 9, &commit("going", &member, generation, &[(TOPIC, 0, 1), ("unread", 0, 1)]));
        self.note("subscribed", 0, &delete_offsets("going", TOPIC, &[0, 1]));
        self.note("not subscribed", 0, &delete_offsets("going", "unread", &[0]));
        self.note("missing topic", 0, &delete_offsets("going", "missing", &[0]));
        self.note("missing partition", 0, &delete_offsets("going", TOPIC, &[0, 9]));
        self.note("missing group", 0, &delete_offsets("nobody", TOPIC, &[0]));
        self.note("empty group id", 0, &delete_offsets("", TOPIC, &[0]));
        self.note("fetch", 9, &fetch_groups(&[("going", None)]));
        self.note("leave", 5, &leave_members("going", &[(&member, None)]));
        self.note("of an empty group", 0, &delete_offsets("going", TOPIC, &[0, 1]));
        self.note("fetch", 9, &fetch_groups(&[("going", None)]));
        let connect = |member: &str| join("connect", member).with_protocol_type(text("connect"));
        let id = self.client.ask(9, &connect("")).member_id.to_string();
        self.client.ask(9, &connect(&id));
        self.note("of a live group that is not of consumers", 0, &delete_offsets("connect", TOPIC, &[0]));
    }

    fn lists_and_descriptions(&mut self) {
        self.section("lists");
        for version in 0..=5 {
            let answer = self.client.ask(version, &ListGroupsRequest::default());
            self.write_list("all", version, answer);
        }
        for (states, types) in [
            (vec!["stable"], vec![]),
            (vec!["EMPTY", "nonsense"], vec![]),
            (vec!["nonsense"], vec![]),
            (vec![], vec!["classic"]),
            (vec![], vec!["consumer"]),
            (vec![], vec!["nonsense"]),
            (vec!["CompletingRebalance"], vec!["Classic"]),
        ] {
            let wanted = |names: &[&str]| names.iter().map(|name| text(name)).collect();
            let request = ListGroupsRequest::default()
                .with_states_filter(wanted(&states))
                .with_types_filter(wanted(&types));
            let answer = self.client.ask(5, &request);
            self.write_list(&format!("{states:?} {types:?}"), 5, answer);
        }
        self.section("descriptions");
        for version in 0..=6 {
            let wanted = DescribeGroupsRequest::default()
                .with_groups(vec![group("good")])
                .with_include_authorized_operations(version >= 3);
            self.note("describe", version, &wanted);
            for missing in ["nobody", ""] {
                let missing = DescribeGroupsRequest::default().with_groups(vec![group(missing)]);
                self.note("describe what is not there", version, &missing);
            }
        }
    }

    fn write_list(&mut self, what: &str, version: i16, mut answer: ListGroupsResponse) {
        answer.groups.sort_by_key(|group| group.group_id.to_string());
        self.write(what, version, &answer);
    }

    fn deleted_groups(&mut self) {
        self.section("groups that go");
        let delete = |ids: &[&str]| {
            DeleteGroupsRequest::default().with_groups_names(ids.iter().map(|id| group(id)).collect())
        };
        for version in 0..=2 {
            self.note("live", version, &delete(&["good"]));
            self.note("missing", version, &delete(&["nobody"]));
        }
        self.note("empty id", 2, &delete(&[""]));
        let answer = self.client.ask(2, &delete(&["simple", "simple", "good", "nobody"]));
        let mut results = answer.results.clone();
        results.sort_by_key(|result| result.group_id.to_string());
        self.write("several", 2, &results);
        self.note("fetch", 9, &fetch_groups(&[("simple", None), ("simple", Some(&[0]))]));
        self.note("again", 2, &delete(&["simple"]));
    }
}
