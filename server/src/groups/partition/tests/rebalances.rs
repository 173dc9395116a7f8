use super::*;

#[test]
fn a_dynamic_member_comes_back_with_the_id_it_was_given() {
    let mut harness = Harness::new();
    let (_, waiter) = harness.join_new("group", "a");
    assert!(harness.waits(waiter), "the group waits for more members first");
    harness.pass(2_999);
    assert!(harness.waits(waiter));
    harness.pass(1);
    let answer = harness.joined(waiter);
    assert_eq!((answer.error, answer.generation), (None, 1));
    assert_eq!(answer.leader, answer.member_id);
    assert_eq!(answer.members.len(), 1);
    assert_eq!(harness.state("group"), "CompletingRebalance");
}

#[test]
fn the_initial_delay_is_extended_while_members_keep_coming_up_to_the_rebalance_timeout() {
    let mut harness = Harness::new();
    let mut waiting = Vec::new();
    for client in 0..30 {
        waiting.push(harness.join_new("group", &format!("client-{client:02}")).1);
        harness.pass(2_500);
        if !harness.waits(waiting[0]) {
            break;
        }
    }
    assert!(
        harness.now.monotonic_ms >= 60_000 && harness.now.monotonic_ms <= 66_000,
        "{}",
        harness.now.monotonic_ms
    );
    let answer = harness.joined(waiting[0]);
    assert_eq!(answer.members.len(), waiting.len());
}

#[test]
fn members_are_told_their_assignment_once_it_is_durable() {
    let mut harness = Harness::new();
    let (leader, first) = harness.join_new("group", "a");
    let (follower, second) = harness.join_new("group", "b");
    harness.pass(10_000);
    let (leads, follows) = (harness.joined(first), harness.joined(second));
    assert_eq!((leads.members.len(), follows.members.len()), (2, 0));
    let follower_waits = harness.ask_only("group", sync(&follower, 1, BTreeMap::new()));
    let assignments = [(leader.clone(), Bytes::from("0")), (follower.clone(), Bytes::from("1"))].into();
    let leader_waits = harness.ask_only("group", sync(&leader, 1, assignments));
    assert!(harness.waits(leader_waits) && harness.waits(follower_waits), "nothing is durable yet");
    harness.flush();
    assert_eq!(harness.synced(leader_waits).assignment, "0");
    let answer = harness.synced(follower_waits);
    assert_eq!((answer.assignment, answer.protocol_name.as_deref()), (Bytes::from("1"), Some("range")));
    assert_eq!(harness.state("group"), "Stable");
    // A SyncGroup that is sent again is answered again.
    let again = harness.ask("group", sync(&follower, 1, BTreeMap::new()));
    assert_eq!(harness.synced(again).assignment, "1");
}

#[test]
fn a_member_that_comes_or_goes_makes_everyone_rejoin() {
    let mut harness = Harness::new();
    let members = harness.stable("group", &["a", "b"]);
    let (_, waiter) = harness.join_new("group", "c");
    assert_eq!(harness.heartbeat("group", &members[0], 1), Some(ResponseError::RebalanceInProgress));
    let rejoined: Vec<_> = [("a", 0), ("b", 1)]
        .map(|(client, member)| harness.ask("group", join(&members[member], client)))
        .into();
    let answer = harness.joined(waiter);
    assert_eq!((answer.generation, answer.error), (2, None));
    let leaders: Vec<_> = rejoined.into_iter().map(|waiter| harness.joined(waiter).members.len()).collect();
    assert_eq!(leaders.iter().sum::<usize>(), 3, "one leader, who knows all three");
    assert_eq!(harness.leave("group", &members[1]).members[0].error, None);
    assert_eq!(harness.state("group"), "PreparingRebalance");
    assert_eq!(harness.heartbeat("group", &members[1], 2), Some(ResponseError::UnknownMemberId));
}

#[test]
fn a_silent_member_is_removed_and_the_others_rebalance() {
    let mut harness = Harness::new();
    let members = harness.stable("group", &["a", "b"]);
    harness.pass(6_000);
    assert_eq!(harness.heartbeat("group", &members[0], 1), None);
    harness.pass(6_000);
    assert_eq!(harness.state("group"), "PreparingRebalance");
    assert_eq!(harness.heartbeat("group", &members[0], 1), Some(ResponseError::RebalanceInProgress));
    assert_eq!(harness.heartbeat("group", &members[1], 1), Some(ResponseError::UnknownMemberId));
    let waiter = harness.ask("group", join(&members[0], "a"));
    assert_eq!(harness.joined(waiter).members.len(), 1);
}

#[test]
fn a_rebalance_goes_on_without_those_who_do_not_rejoin() {
    let mut harness = Harness::new();
    let members = harness.stable("group", &["a", "b"]);
    let (_, waiter) = harness.join_new("group", "c");
    for _ in 0..12 {
        harness.pass(5_000);
        let expected = if harness.state("group") == "PreparingRebalance" {
            ResponseError::RebalanceInProgress
        } else {
            ResponseError::UnknownMemberId
        };
        for member in &members {
            assert_eq!(harness.heartbeat("group", member, 1), Some(expected));
        }
    }
    let answer = harness.joined(waiter);
    assert_eq!((answer.generation, answer.members.len()), (2, 1));
}

#[test]
fn a_member_that_does_not_sync_is_removed_after_the_rebalance_timeout() {
    let mut harness = Harness::new();
    let (first, first_waits) = harness.join_new("group", "a");
    let (second, second_waits) = harness.join_new("group", "b");
    harness.pass(6_000);
    let leader = harness.joined(first_waits).leader;
    harness.joined(second_waits);
    let silent = if leader == first { second } else { first };
    let waiter = harness.ask("group", sync(&leader, 1, BTreeMap::new()));
    assert_eq!(harness.synced(waiter).error, None);
    for _ in 0..12 {
        harness.pass(5_000);
        harness.heartbeat("group", &leader, 1);
        harness.heartbeat("group", &silent, 1);
    }
    assert_eq!(harness.state("group"), "PreparingRebalance");
    assert_eq!(harness.heartbeat("group", &silent, 1), Some(ResponseError::UnknownMemberId));
}

#[test]
fn a_group_is_empty_when_the_last_member_is_gone_and_comes_to_life_again() {
    let mut harness = Harness::new();
    let members = harness.stable("group", &["a"]);
    harness.leave("group", &members[0]);
    assert_eq!(harness.state("group"), "Empty");
    assert_eq!(harness.partition.group("group").unwrap().generation(), 2);
    harness.reload();
    assert_eq!(
        (harness.state("group"), harness.partition.group("group").unwrap().generation()),
        ("Empty", 2)
    );
    let (_, waiter) = harness.join_new("group", "b");
    harness.pass(3_000);
    assert_eq!(harness.joined(waiter).generation, 3);
}

#[test]
fn a_static_member_keeps_its_assignment_across_a_restart_and_fences_its_former_self() {
    let mut harness = Harness::new();
    let first = harness.ask("group", Request::Join(join_static("", "instance")));
    harness.pass(3_000);
    let before = harness.joined(first);
    assert_eq!(before.error, None, "a static member needs no second round");
    let assignments: BTreeMap<_, _> = [(before.member_id.clone(), Bytes::from("all"))].into();
    let request = SyncRequest {
        generation: 1,
        member_id: before.member_id.clone(),
        instance_id: Some("instance".into()),
        protocol_type: None,
        protocol_name: None,
        assignments,
    };
    let waiter = harness.ask("group", Request::Sync(request.clone()));
    assert_eq!(harness.synced(waiter).assignment, "all");

    let again = harness.ask_only("group", Request::Join(join_static("", "instance")));
    assert!(harness.waits(again), "its new id is not durable yet");
    harness.flush();
    let after = harness.joined(again);
    assert_eq!((after.error, after.generation, after.skip_assignment), (None, 1, true));
    assert_ne!(after.member_id, before.member_id);
    assert_eq!(after.leader, after.member_id);
    assert_eq!(after.members.len(), 1);
    assert_eq!(harness.state("group"), "Stable");

    let fenced = harness.ask("group", Request::Sync(request.clone()));
    assert_eq!(harness.synced(fenced).error, Some(ResponseError::FencedInstanceId));
    let old =
        HeartbeatRequest { generation: 1, member_id: before.member_id, instance_id: Some("instance".into()) };
    assert_eq!(
        harness.answer("group", Request::Heartbeat(old)),
        Answer::Heartbeat(Some(ResponseError::FencedInstanceId))
    );
    harness.reload();
    let request = SyncRequest { member_id: after.member_id, ..request };
    let waiter = harness.ask("group", Request::Sync(request));
    assert_eq!(harness.synced(waiter).assignment, "all");
}

#[test]
fn an_old_client_that_leads_is_told_of_another_leader_when_it_comes_back() {
    let mut harness = Harness::new();
    let old = || JoinRequest { supports_skipping_assignment: false, ..join_static("", "instance") };
    let first = harness.ask("group", Request::Join(old()));
    harness.pass(3_000);
    let before = harness.joined(first);
    let waiter = harness.ask(
        "group",
        Request::Sync(SyncRequest {
            generation: 1,
            member_id: before.member_id.clone(),
            instance_id: Some("instance".into()),
            protocol_type: None,
            protocol_name: None,
            assignments: BTreeMap::new(),
        }),
    );
    assert_eq!(harness.synced(waiter).error, None);
    let again = harness.ask("group", Request::Join(old()));
    let after = harness.joined(again);
    assert_eq!((after.leader, after.skip_assignment, after.members.len()), (before.member_id, false, 0));
}

#[test]
fn a_static_member_whose_new_id_cannot_be_kept_stays_who_it_was() {
    let mut harness = Harness::new();
    let first = harness.ask("group", Request::Join(join_static("", "instance")));
    harness.pass(3_000);
    let before = harness.joined(first).member_id;
    let waiter = harness.ask("group", sync(&before, 1, BTreeMap::new()));
    assert_eq!(harness.synced(waiter).error, None);
    let again = harness.ask_only("group", Request::Join(join_static("", "instance")));
    harness.flush_one(Err(ResponseError::CoordinatorNotAvailable));
    let answer = harness.joined(again);
    assert_eq!(answer.error, Some(ResponseError::CoordinatorNotAvailable));
    assert_eq!(harness.heartbeat("group", &before, 1), None);
}

#[test]
fn an_assignment_that_cannot_be_kept_makes_everyone_rejoin() {
    let mut harness = Harness::new();
    let (member, waiter) = harness.join_new("group", "a");
    harness.pass(3_000);
    harness.joined(waiter);
    let waiter = harness.ask_only("group", sync(&member, 1, BTreeMap::new()));
    harness.flush_one(Err(ResponseError::CoordinatorNotAvailable));
    assert_eq!(harness.synced(waiter).error, Some(ResponseError::CoordinatorNotAvailable));
    assert_eq!(harness.state("group"), "PreparingRebalance");
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance() {
    let mut harness = Harness::new();
    let first = harness.ask("group", Request::Join(join_static("", "instance")));
    harness.pass(3_000);
    harness.joined(first);
    let named = |instance: &str| LeavingMember {
        member_id: String::new(),
        instance_id: Some(instance.into()),
        reason: None,
    };
    let Answer::Leave(answer) =
        harness.answer("group", Request::Leave(vec![named("nobody"), named("instance")]))
    else {
        panic!("no answer to LeaveGroup")
    };
    let errors: Vec<_> = answer.members.iter().map(|member| member.error).collect();
    assert_eq!(errors, [Some(ResponseError::UnknownMemberId), None]);
    assert_eq!(harness.state("group"), "Empty");
}

#[test]
fn the_protocol_is_one_that_all_support_and_most_prefer() {
    let mut harness = Harness::new();
    let named = |names: &[&str]| {
        names
            .iter()
            .map(|name| Protocol { name: name.to_string(), metadata: subscription(name) })
            .collect::<Vec<_>>()
    };
    let mut join_with = |names: &[&str], client: &str| {
        let request = JoinRequest {
            protocols: named(names),
            requires_known_member_id: false,
            ..join_request("", client)
        };
        harness.ask("group", Request::Join(request))
    };
    let first = join_with(&["range", "roundrobin", "sticky"], "a");
    let second = join_with(&["sticky", "roundrobin"], "b");
    let third = join_with(&["sticky", "roundrobin", "other"], "c");
    let stranger = join_with(&["other"], "d");
    harness.pass(10_000);
    assert_eq!(harness.joined(stranger).error, Some(ResponseError::InconsistentGroupProtocol));
    for waiter in [first, second, third] {
        assert_eq!(harness.joined(waiter).protocol_name.as_deref(), Some("sticky"));
    }
}

#[test]
fn a_group_is_empty_once_its_last_member_left_whoever_was_given_an_id() {
    let mut harness = Harness::new();
    let members = harness.stable("group", &["a"]);
    let waiter = harness.ask("group", join("", "b"));
    let id = harness.joined(waiter).member_id;
    assert_eq!(harness.leave("group", &members[0]).members[0].error, None);
    assert_eq!(harness.state("group"), "Empty");
    // The id is still good.
    let waiter = harness.ask("group", join(&id, "b"));
    harness.pass(6_000);
    assert_eq!(harness.joined(waiter).error, None);
}

#[test]
fn bad_requests_are_refused_as_kafka_refuses_them() {
    let mut harness = Harness::with(GroupSettings { size_max: 2, ..GroupSettings::default() });
    let refused = |harness: &mut Harness, group: &str, request: JoinRequest| {
        let waiter = harness.ask(group, Request::Join(request));
        harness.joined(waiter).error
    };
    let members = harness.stable("group", &["a", "b"]);
    let check = |group: &str, session_timeout_ms: i32| {
        let request = JoinRequest { session_timeout_ms, ..join_request("", "x") };
        request.check(group, &GroupSettings::default()).err()
    };
    assert_eq!(check("", 10_000), Some(ResponseError::InvalidGroupId));
    for (session_timeout_ms, error) in
        [(0, true), (5_999, true), (6_000, false), (1_800_000, false), (1_800_001, true)]
    {
        assert_eq!(check("group", session_timeout_ms).is_some(), error, "{session_timeout_ms}");
    }
    assert_eq!(
        refused(&mut harness, "group", join_request("nobody", "x")),
        Some(ResponseError::GroupMaxSizeReached)
    );
    assert_eq!(
        refused(&mut harness, "group", join_request("", "x")),
        Some(ResponseError::GroupMaxSizeReached)
    );
    assert_eq!(
        refused(&mut harness, "none", join_request("nobody", "x")),
        Some(ResponseError::UnknownMemberId)
    );
    let other = JoinRequest { protocol_type: "connect".into(), ..join_request(&members[0], "a") };
    assert_eq!(refused(&mut harness, "group", other), Some(ResponseError::InconsistentGroupProtocol));
    let huge = Protocol { name: "range".into(), metadata: Bytes::from(vec![0; 2 << 20]) };
    let huge = JoinRequest { protocols: vec![huge], ..join_request("", "x") };
    assert_eq!(refused(&mut harness, "fresh", huge), Some(ResponseError::UnknownServerError));
    let nothing = JoinRequest { protocols: Vec::new(), ..join_request("", "x") };
    assert_eq!(refused(&mut harness, "fresh", nothing), Some(ResponseError::InconsistentGroupProtocol));

    for (group, member, generation, error) in [
        ("none", "x", 1, ResponseError::UnknownMemberId),
        ("group", "x", 1, ResponseError::UnknownMemberId),
        ("group", members[0].as_str(), 9, ResponseError::IllegalGeneration),
    ] {
        let waiter = harness.ask(group, sync(member, generation, BTreeMap::new()));
        assert_eq!(harness.synced(waiter).error, Some(error), "{group}/{member}/{generation}");
    }
    let wrong = SyncRequest {
        generation: 1,
        member_id: members[0].clone(),
        instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("sticky".into()),
        assignments: BTreeMap::new(),
    };
    let waiter = harness.ask("group", Request::Sync(wrong));
    assert_eq!(harness.synced(waiter).error, Some(ResponseError::InconsistentGroupProtocol));
    assert_eq!(harness.heartbeat("none", "x", 1), Some(ResponseError::UnknownMemberId));
    assert_eq!(harness.heartbeat("group", &members[0], 2), Some(ResponseError::IllegalGeneration));
    assert_eq!(harness.leave("none", "x").members[0].error, Some(ResponseError::UnknownMemberId));
    assert_eq!(harness.leave("group", "x").members[0].error, Some(ResponseError::UnknownMemberId));
}

#[test]
fn a_member_that_never_comes_back_for_its_id_is_forgotten() {
    let mut harness = Harness::new();
    let waiter = harness.ask("group", join("", "a"));
    harness.joined(waiter);
    assert_eq!(harness.partition.group("group").unwrap().pending_joins.len(), 1);
    harness.pass(10_000);
    assert_eq!(harness.partition.group("group").unwrap().pending_joins.len(), 0);
    assert_eq!(harness.state("group"), "Empty");
}

#[test]
fn a_group_that_was_loaded_is_stable_and_its_members_have_a_session_to_show_up() {
    let mut harness = Harness::new();
    let members = harness.stable("group", &["a", "b"]);
    harness.reload();
    assert_eq!(harness.state("group"), "Stable");
    assert_eq!(harness.heartbeat("group", &members[0], 1), None);
    harness.pass(9_000);
    assert_eq!(harness.heartbeat("group", &members[0], 1), None);
    harness.pass(2_000);
    assert_eq!(harness.heartbeat("group", &members[0], 1), Some(ResponseError::RebalanceInProgress));
    assert_eq!(harness.heartbeat("group", &members[1], 1), Some(ResponseError::UnknownMemberId));
}

#[test]
fn groups_are_described_and_listed() {
    let mut harness = Harness::new();
    harness.stable("group", &["a"]);
    harness.commit("simple", "", -1, 3);
    let Answer::Describe(described) = harness.answer("group", Request::Describe) else {
        panic!("no description")
    };
    assert_eq!(
        (described.state, described.protocol.as_str(), described.members.len()),
        ("Stable", "range", 1)
    );
    assert_eq!(described.members[0].metadata, subscription("a"));
    assert_eq!(described.members[0].assignment, "a");
    let Answer::Describe(missing) = harness.answer("none", Request::Describe) else {
        panic!("no description")
    };
    assert_eq!((missing.error, missing.state), (Some(ResponseError::GroupIdNotFound), "Dead"));
    let listed: Vec<_> = harness
        .partition
        .list()
        .into_iter()
        .map(|group| (group.group_id, group.state, group.protocol_type))
        .collect();
    assert_eq!(
        listed,
        [("group".into(), "Stable", "consumer".into()), ("simple".into(), "Empty", String::new())]
    );
}

#[test]
fn whoever_waits_is_answered_when_the_partition_goes_away() {
    let mut harness = Harness::new();
    let (_, waiter) = harness.join_new("group", "a");
    let partition = std::mem::replace(&mut harness.partition, GroupPartition::new(GroupSettings::default()));
    let mut effects = Effects::default();
    partition.unload(ResponseError::NotCoordinator, harness.now, &mut effects);
    harness.take(effects);
    assert_eq!(harness.joined(waiter).error, Some(ResponseError::NotCoordinator));
}

#[test]
fn an_idle_partition_sets_no_timer() {
    let mut harness = Harness::new();
    assert_eq!(harness.partition.next_deadline_ms(), None);
    harness.answer("group", Request::Describe);
    assert_eq!(harness.partition.next_deadline_ms(), None);
    harness.commit("group", "", -1, 1);
    assert_eq!(harness.partition.next_deadline_ms(), Some(600_000));
}

#[test]
fn when_the_limit_was_lowered_the_last_ones_to_rejoin_are_turned_away() {
    let mut harness = Harness::new();
    let members = harness.stable("group", &["a", "b", "c", "d"]);
    harness.partition.settings.size_max = 2;
    harness.reload();
    assert_eq!(harness.state("group"), "PreparingRebalance", "it has to shrink");
    let waiters: Vec<_> = members
        .iter()
        .zip(["a", "b", "c", "d"])
        .map(|(member, client)| harness.ask("group", join(member, client)))
        .collect();
    let refused = Some(ResponseError::GroupMaxSizeReached);
    assert_eq!((harness.joined(waiters[2]).error, harness.joined(waiters[3]).error), (refused, refused));
    harness.pass(60_000);
    assert_eq!((harness.joined(waiters[0]).generation, harness.joined(waiters[1]).generation), (2, 2));
    assert_eq!(harness.partition.group("group").unwrap().roster().len(), 2);
}

#[test]
fn static_members_that_do_not_rejoin_stay_until_their_sessions_end() {
    let mut harness = Harness::new();
    let long = |instance| JoinRequest { session_timeout_ms: 100_000, ..join_static("", instance) };
    let waiters = ["one", "two"].map(|instance| harness.ask("group", Request::Join(long(instance))));
    harness.pass(6_000);
    let statics = waiters.map(|waiter| harness.joined(waiter));
    assert_eq!(statics[0].generation, 1);
    for answer in &statics {
        let waiter = harness.ask_only("group", sync(&answer.member_id, 1, BTreeMap::new()));
        harness.flush();
        let _ = waiter;
    }
    let (dynamic, waiter) = harness.join_new("group", "c");
    harness.pass(60_000);
    let answer = harness.joined(waiter);
    assert_eq!((answer.generation, answer.members.len()), (2, 3), "the static members are still there");
    assert_eq!(answer.leader, dynamic, "somebody leads who is there");
    harness.leave("group", &statics[0].member_id);
    harness.pass(60_000);
    assert_eq!(harness.state("group"), "PreparingRebalance", "the other static one is waited for");
    harness.pass(60_000);
    assert_eq!(harness.state("group"), "Empty", "nobody rejoined, and all sessions ended");
}

#[test]
fn a_leader_that_dies_before_it_assigns_makes_the_others_rejoin() {
    let mut harness = Harness::new();
    let (first, first_waits) = harness.join_new("group", "a");
    let (second, second_waits) = harness.join_new("group", "b");
    harness.pass(6_000);
    let leader = harness.joined(first_waits).leader;
    harness.joined(second_waits);
    let follower = if leader == first { second } else { first };
    let waiter = harness.ask("group", sync(&follower, 1, BTreeMap::new()));
    harness.pass(10_000);
    assert_eq!(harness.synced(waiter).error, Some(ResponseError::RebalanceInProgress));
    let client = if leader == follower { "a" } else { "b" };
    let again = harness.ask("group", join(&follower, client));
    let answer = harness.joined(again);
    assert_eq!((answer.generation, answer.leader), (2, follower));
}

#[test]
fn a_pending_member_holds_up_the_rebalance_until_it_comes_leaves_or_expires() {
    let mut harness = Harness::new();
    let members = harness.stable("group", &["a"]);
    let (_, second) = harness.join_new("group", "b");
    let asked = harness.ask("group", join("", "c"));
    let pending = harness.joined(asked).member_id;
    let first = harness.ask("group", join(&members[0], "a"));
    assert!(harness.waits(first) && harness.waits(second), "the third one was promised a place");
    assert_eq!(harness.leave("group", &pending).members[0].error, None);
    assert_eq!((harness.joined(first).generation, harness.joined(second).generation), (2, 2));
}
