use super::*;

#[test]
fn a_commit_is_seen_once_it_is_durable() {
    let mut harness = Harness::new();
    let waiter = harness.ask_only("group", commit("", -1, 10));
    assert!(harness.waits(waiter));
    let unseen = harness.ask_only("group", fetch(false));
    let stable = harness.ask_only("group", fetch(true));
    assert!(harness.waits(stable), "who asks for stable offsets waits for what is pending");
    let offset = |answer: &Answer| match answer {
        Answer::Fetch(answer) => answer.topics[0].1[0].offset,
        other => panic!("no answer to OffsetFetch: {other:?}"),
    };
    assert_eq!(offset(&harness.answers[&unseen]), -1);
    harness.flush();
    assert_eq!(offset(&harness.answers[&stable]), 10);
    assert_eq!(harness.committed("group"), 10);
    harness.reload();
    let Answer::Fetch(answer) = harness.answer("group", fetch(false)) else { panic!("no answer") };
    let fetched = &answer.topics[0].1[0];
    assert_eq!((fetched.offset, fetched.leader_epoch, fetched.metadata.as_str()), (10, 5, "kept"));
}

#[test]
fn a_commit_that_failed_never_happened() {
    let mut harness = Harness::new();
    harness.commit("group", "", -1, 1);
    let second = harness.ask_only("group", commit("", -1, 2));
    let third = harness.ask_only("group", commit("", -1, 3));
    harness.flush_one(Ok(()));
    harness.flush_one(Err(ResponseError::CoordinatorNotAvailable));
    let Answer::Commit(failed) = &harness.answers[&third] else { panic!("no answer") };
    assert_eq!(failed.topics[0].1[0].1, Some(ResponseError::CoordinatorNotAvailable));
    assert!(!harness.waits(second));
    let Answer::Fetch(answer) = harness.answer("group", fetch(true)) else { panic!("no answer") };
    assert_eq!(answer.topics[0].1[0].offset, 2);
}

#[test]
fn only_members_of_this_generation_commit() {
    let mut harness = Harness::new();
    let members = harness.stable("group", &["a"]);
    assert_eq!(harness.commit("group", &members[0], 1, 5), None);
    assert_eq!(harness.commit("group", &members[0], 0, 5), Some(ResponseError::IllegalGeneration));
    assert_eq!(harness.commit("group", "nobody", 1, 5), Some(ResponseError::UnknownMemberId));
    assert_eq!(harness.commit("group", "", -1, 5), Some(ResponseError::UnknownMemberId));
    assert_eq!(harness.commit("none", "x", 1, 5), Some(ResponseError::GroupIdNotFound));
    let old = CommitRequest { knows_missing_groups: false, ..commit_request("x", 1, 5) };
    let Answer::Commit(answer) = harness.answer("none", Request::Commit(old)) else { panic!("no answer") };
    assert_eq!(answer.topics[0].1[0].1, Some(ResponseError::IllegalGeneration));

    // While a rebalance is prepared, the generation before may still commit; while it completes, nobody.
    let (_, waiter) = harness.join_new("group", "b");
    assert_eq!(harness.commit("group", &members[0], 1, 6), None);
    let rejoined = harness.ask("group", join(&members[0], "a"));
    assert_eq!(harness.joined(rejoined).generation, 2);
    assert_eq!(harness.joined(waiter).generation, 2);
    assert_eq!(harness.commit("group", &members[0], 2, 7), Some(ResponseError::RebalanceInProgress));
    assert_eq!(harness.committed("group"), 6);
}

#[test]
fn a_commit_keeps_the_session_alive() {
    let mut harness = Harness::new();
    let members = harness.stable("group", &["a"]);
    for offset in 0..5 {
        harness.pass(8_000);
        assert_eq!(harness.commit("group", &members[0], 1, offset), None);
    }
    assert_eq!(harness.state("group"), "Stable");
}

#[test]
fn metadata_and_requests_that_are_too_large_are_refused() {
    let mut harness = Harness::new();
    let mut request = commit_request("", -1, 1);
    request.topics[0].partitions[0].metadata = "x".repeat(4_097);
    request.topics[0].partitions.push(CommitPartition {
        index: 1,
        offset: 2,
        leader_epoch: -1,
        metadata: "é".repeat(4_096),
    });
    let Answer::Commit(answer) = harness.answer("group", Request::Commit(request)) else {
        panic!("no answer")
    };
    assert_eq!(answer.topics[0].1, [(0, Some(ResponseError::OffsetMetadataTooLarge)), (1, None)]);
    let mut request = commit_request("", -1, 1);
    request.topics[0].partitions = (0..40_000)
        .map(|index| CommitPartition { index, offset: 2, leader_epoch: -1, metadata: String::new() })
        .collect();
    let Answer::Commit(answer) = harness.answer("group", Request::Commit(request)) else {
        panic!("no answer")
    };
    assert!(answer.topics[0].1.iter().all(|(_, error)| *error == Some(ResponseError::UnknownServerError)));
}

#[test]
fn all_offsets_of_a_group_are_fetched_at_once() {
    let mut harness = Harness::new();
    let mut request = commit_request("", -1, 1);
    request.topics[0].partitions.push(CommitPartition {
        index: 7,
        offset: 2,
        leader_epoch: -1,
        metadata: String::new(),
    });
    let other = CommitPartition { index: 3, offset: 9, leader_epoch: -1, metadata: String::new() };
    request.topics.push(CommitTopic { name: "other".into(), id: Uuid::nil(), partitions: vec![other] });
    harness.answer("group", Request::Commit(request));
    let all = Request::Fetch(FetchRequest { topics: None, require_stable: false });
    let Answer::Fetch(answer) = harness.answer("group", all.clone()) else { panic!("no answer") };
    let offsets: Vec<_> = answer
        .topics
        .iter()
        .flat_map(|(topic, partitions)| {
            partitions.iter().map(move |offset| (topic.as_str(), offset.partition, offset.offset))
        })
        .collect();
    assert_eq!(offsets, [("other", 3, 9), ("topic", 0, 1), ("topic", 7, 2)]);
    let Answer::Fetch(nothing) = harness.answer("none", all) else { panic!("no answer") };
    assert_eq!((nothing.error, nothing.topics.len()), (None, 0));
}

#[test]
fn offsets_are_deleted_unless_somebody_subscribes_to_the_topic() {
    let mut harness = Harness::new();
    let members = harness.stable("group", &["a"]);
    harness.commit("group", &members[0], 1, 5);
    let delete = || Request::DeleteOffsets(vec![("topic".into(), vec![0, 1])]);
    let deleted = |harness: &mut Harness, group: &str| match harness.answer(group, delete()) {
        Answer::DeleteOffsets(answer) => answer,
        other => panic!("no answer to OffsetDelete: {other:?}"),
    };
    let answer = deleted(&mut harness, "group");
    let subscribed = Some(ResponseError::GroupSubscribedToTopic);
    assert_eq!(answer.results.topics[0].1, [(0, subscribed), (1, subscribed)]);
    harness.leave("group", &members[0]);
    let answer = deleted(&mut harness, "group");
    assert_eq!((answer.error, answer.results.topics[0].1.as_slice()), (None, &[(0, None), (1, None)][..]));
    assert_eq!(harness.committed("group"), -1);
    harness.reload();
    assert_eq!(harness.committed("group"), -1);
    assert_eq!(deleted(&mut harness, "none").error, Some(ResponseError::GroupIdNotFound));
}

#[test]
fn a_group_is_deleted_with_its_offsets_when_it_is_empty() {
    let mut harness = Harness::new();
    let members = harness.stable("group", &["a"]);
    harness.commit("group", &members[0], 1, 5);
    assert_eq!(
        harness.answer("group", Request::Delete),
        Answer::DeleteGroup(Some(ResponseError::NonEmptyGroup))
    );
    harness.leave("group", &members[0]);
    assert_eq!(harness.answer("group", Request::Delete), Answer::DeleteGroup(None));
    assert_eq!((harness.state("group"), harness.committed("group")), ("none", -1));
    harness.reload();
    assert_eq!((harness.state("group"), harness.committed("group")), ("none", -1));
    assert_eq!(
        harness.answer("group", Request::Delete),
        Answer::DeleteGroup(Some(ResponseError::GroupIdNotFound))
    );
}

#[test]
fn offsets_expire_a_week_after_the_last_member_left() {
    const DAY_MS: i64 = 24 * 3_600_000;
    let mut harness = Harness::new();
    let members = harness.stable("group", &["a"]);
    harness.commit("group", &members[0], 1, 5);
    harness.commit("simple", "", -1, 5);
    for _ in 0..8 * 24 * 450 {
        harness.pass(8_000);
        assert_eq!(harness.heartbeat("group", &members[0], 1), None);
    }
    assert_eq!(harness.committed("group"), 5, "a subscribed topic's offset does not expire");
    assert_eq!(harness.state("simple"), "none", "a group without members goes with its offsets");
    harness.leave("group", &members[0]);
    harness.pass(7 * DAY_MS - 1);
    assert_eq!(harness.committed("group"), 5);
    harness.pass(3_600_000);
    assert_eq!(harness.state("group"), "none");
    harness.reload();
    assert_eq!((harness.state("group"), harness.state("simple")), ("none", "none"));
    assert_eq!(harness.partition.next_deadline_ms(), None);
}

#[test]
fn an_old_client_says_how_long_its_offsets_are_kept() {
    let mut harness = Harness::new();
    let request = CommitRequest { retention_ms: Some(1_000_000), ..commit_request("", -1, 5) };
    harness.answer("group", Request::Commit(request));
    harness.reload();
    harness.pass(900_000);
    assert_eq!(harness.committed("group"), 5);
    harness.pass(1_200_000);
    assert_eq!(harness.state("group"), "none");
}

#[test]
fn by_its_id_a_topic_has_only_offsets_that_were_committed_for_it() {
    let mut harness = Harness::new();
    harness.commit("named", "", -1, 5);
    let mut nameless = commit_request("", -1, 6);
    nameless.topics[0].id = Uuid::nil();
    harness.answer("nameless", Request::Commit(nameless));
    let mut fetched = |group: &str, id: u128, require_stable: bool| {
        let topics = Some(vec![fetch_topic(Uuid::from_u128(id))]);
        match harness.answer(group, Request::Fetch(FetchRequest { topics, require_stable })) {
            Answer::Fetch(answer) => (answer.topics[0].1[0].offset, answer.topics[0].1[0].error),
            other => panic!("no answer to OffsetFetch: {other:?}"),
        }
    };
    for stable in [false, true] {
        assert_eq!(fetched("named", 7, stable), (5, None));
        assert_eq!(fetched("named", 0, stable), (5, None), "by name");
        assert_eq!(fetched("named", 8, stable), (-1, None), "of a topic that had the name before");
        assert_eq!(fetched("nameless", 8, stable), (6, None), "of an older commit, which has no id");
    }
}

#[test]
fn offsets_of_deleted_topics_go() {
    let mut harness = Harness::new();
    harness.commit("group", "", -1, 5);
    harness.commit("other", "", -1, 6);
    let mut effects = Effects::default();
    harness.partition.topics_deleted(&["topic".into()], &mut effects);
    harness.take(effects);
    harness.flush();
    assert_eq!((harness.committed("group"), harness.committed("other")), (-1, -1));
    harness.reload();
    assert_eq!((harness.committed("group"), harness.committed("other")), (-1, -1));
}

#[test]
fn of_each_group_the_offsets_of_all_deleted_topics_go_and_no_others() {
    let mut harness = Harness::new();
    let topics: Vec<String> = (0..20).map(|number| format!("topic-{number}")).collect();
    let committed = |group: &str, topic: &str| {
        let mut request = commit_request("", -1, group.len() as i64);
        request.topics[0].name = topic.into();
        Request::Commit(request)
    };
    for (group, count) in [("few", 2), ("many", 20)] {
        for topic in &topics[..count] {
            harness.answer(group, committed(group, topic));
        }
        // Under way.
        harness.ask_only(group, committed(group, &topics[0]));
    }
    // Fewer than one of the groups has, and more than the other.
    let deleted = ["topic-0", "topic-7", "topic-8", "absent"].map(str::to_owned);
    let mut effects = Effects::default();
    harness.partition.topics_deleted(&deleted, &mut effects);
    assert_eq!(effects.writes.len(), 2, "one for each group");
    harness.take(effects);
    harness.flush();
    for reloaded in [false, true] {
        for (group, count) in [("few", 2), ("many", 20)] {
            let fetch = Request::Fetch(FetchRequest { topics: None, require_stable: false });
            let Answer::Fetch(answer) = harness.answer(group, fetch) else {
                panic!("no answer to OffsetFetch")
            };
            let mut left: Vec<&str> = answer.topics.iter().map(|(name, _)| name.as_str()).collect();
            let mut expected: Vec<&str> = topics[..count].iter().map(String::as_str).collect();
            expected.retain(|name| !deleted.iter().any(|deleted| deleted == name));
            left.sort_unstable();
            expected.sort_unstable();
            assert_eq!(left, expected, "{group}, {reloaded}");
        }
        harness.reload();
    }
}

#[test]
fn what_has_expired_goes_in_turns_and_all_of_it() {
    let mut harness = Harness::new();
    let groups: Vec<String> = (0..2_000).map(|number| format!("group-{number}")).collect();
    for group in &groups {
        harness.commit(group, "", -1, 5);
    }
    harness.now.wall_ms += GroupSettings::default().offsets_retention_ms;
    let mut turns = 0;
    while !harness.partition.is_empty() {
        harness.now.monotonic_ms = harness.partition.next_deadline_ms().expect("there is more to look at");
        let mut effects = Effects::default();
        harness.partition.time_passed(harness.now, &mut effects);
        assert!(effects.writes.len() <= 512, "{} groups in one turn", effects.writes.len());
        harness.take(effects);
        harness.flush();
        turns += 1;
    }
    assert!((4..20).contains(&turns), "{turns}");
    assert!(groups.iter().all(|group| harness.committed(group) == -1));
}

#[test]
fn offsets_under_way_go_too_when_their_topic_is_deleted() {
    let mut harness = Harness::new();
    harness.commit("group", "", -1, 5);
    let waiters = ["group", "other"].map(|group| harness.ask_only(group, commit("", -1, 6)));
    let mut effects = Effects::default();
    harness.partition.topics_deleted(&["topic".into()], &mut effects);
    harness.take(effects);
    harness.flush();
    assert!(waiters.iter().all(|waiter| !harness.waits(*waiter)));
    assert_eq!((harness.committed("group"), harness.committed("other")), (-1, -1));
    harness.reload();
    assert_eq!((harness.committed("group"), harness.committed("other")), (-1, -1));
}

#[test]
fn offsets_in_a_transaction_count_from_its_marker_on() {
    let mut harness = Harness::new();
    harness.commit("group", "", -1, 5);
    let value = |offset| OffsetValue { offset }.record();
    let replay = |harness: &mut Harness, at: i64, producer: Option<i64>, record: &Record| {
        let now = harness.now;
        harness.partition.replay(at, producer, &record.key, record.value.as_ref(), now).unwrap();
    };
    replay(&mut harness, 10, Some(7), &value(50));
    assert_eq!(harness.committed("group"), 5);
    let Answer::Fetch(answer) = harness.answer("group", fetch(true)) else { panic!("no answer") };
    assert_eq!(answer.topics[0].1[0].error, Some(ResponseError::UnstableOffsetCommit));
    harness.partition.replay_marker(7, true);
    assert_eq!(harness.committed("group"), 50);
    replay(&mut harness, 20, Some(7), &value(60));
    harness.partition.replay_marker(7, false);
    assert_eq!(harness.committed("group"), 50);
    // A later commit outside of the transaction wins over an earlier one inside of it.
    replay(&mut harness, 30, Some(7), &value(70));
    replay(&mut harness, 31, None, &value(80));
    harness.partition.replay_marker(7, true);
    assert_eq!(harness.committed("group"), 80);
}

struct OffsetValue {
    offset: i64,
}

impl OffsetValue {
    fn record(&self) -> Record {
        let commit = super::super::super::records::OffsetCommit {
            offset: self.offset,
            leader_epoch: -1,
            metadata: String::new(),
            commit_ms: 0,
            expire_ms: None,
            topic_id: Uuid::nil(),
        };
        Record::offset("group", "topic", 0, &commit)
    }
}

#[test]
fn a_group_of_the_newer_protocol_keeps_its_offsets_and_becomes_a_classic_one_when_joined() {
    let mut harness = Harness::new();
    let key = |version: u8, rest: &[u8]| Bytes::from([&[0, version, 0, 5], &b"group"[..], rest].concat());
    let value = Bytes::from_static(&[0, 0]);
    let keys = [key(3, b""), key(5, &[0, 1, b'm']), key(8, &[0, 1, b'm'])];
    for key in &keys {
        harness.log.push(Record { key: key.clone(), value: Some(value.clone()) });
    }
    harness.log.push(OffsetValue { offset: 4 }.record());
    harness.reload();
    assert_eq!(harness.committed("group"), 4);
    let listed = harness.partition.list();
    assert_eq!((listed.len(), listed[0].group_type, listed[0].state), (1, "consumer", "Empty"));
    let before = harness.log.len();
    harness.stable("group", &["a"]);
    let taken_back: Vec<_> =
        harness.log[before..before + 3].iter().map(|record| (record.key[1], record.value.clone())).collect();
    assert_eq!(taken_back, [(8, None), (5, None), (3, None)]);
    assert_eq!(harness.committed("group"), 4);
    harness.reload();
    assert_eq!((harness.state("group"), harness.committed("group")), ("Stable", 4));
}

#[test]
fn what_could_not_be_deleted_is_still_there() {
    let mut harness = Harness::new();
    harness.commit("group", "", -1, 5);
    let failed = Some(ResponseError::CoordinatorNotAvailable);
    let waiter = harness.ask_only("group", Request::Delete);
    harness.flush_one(Err(ResponseError::CoordinatorNotAvailable));
    assert_eq!(harness.answers.remove(&waiter), Some(Answer::DeleteGroup(failed)));
    assert_eq!((harness.state("group"), harness.committed("group")), ("Empty", 5));
    let waiter = harness.ask_only("group", Request::DeleteOffsets(vec![("topic".into(), vec![0])]));
    harness.flush_one(Err(ResponseError::CoordinatorNotAvailable));
    let Some(Answer::DeleteOffsets(answer)) = harness.answers.remove(&waiter) else { panic!("no answer") };
    assert_eq!(answer.error, failed);
    assert_eq!(harness.committed("group"), 5);
    assert_eq!(harness.answer("group", Request::Delete), Answer::DeleteGroup(None));
}
