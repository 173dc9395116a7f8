use std::collections::BTreeMap;
use std::rc::Rc;

use flumen_wire::StrBytes;
use flumen_wire::fetch::{FetchTopic, ForgottenTopic};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const ROOMY: SessionLimits = SessionLimits { sessions_max: 1000, partitions_max: 100_000 };
const NAMES: i16 = 12;
const IDS: i16 = 13;
const TOPIC: Uuid = Uuid::from_u128(7);

/// Sessions whose watches are told apart by who holds them.
type Sessions = FetchSessions<Watches>;

#[derive(Clone, Debug, Default)]
struct Watches(Rc<()>);

fn sessions(sessions_max: usize, partitions_max: usize) -> Sessions {
    Sessions::new(SessionLimits { sessions_max, partitions_max }, 7)
}

fn partition(index: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition {
        index,
        current_leader_epoch: -1,
        fetch_offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        max_bytes: 1000,
        replica_directory_id: Uuid::nil(),
        high_watermark: i64::MAX,
    }
}

/// A request for partitions (index, offset) of one topic, that forgets others of it.
fn request(session: (i32, i32), wanted: &[(i32, i64)], forgotten: &[i32]) -> FetchRequest {
    let name = StrBytes::from_static_str("t");
    FetchRequest {
        cluster_id: None,
        replica_id: -1,
        replica_epoch: -1,
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: i32::MAX,
        isolation_level: 0,
        session_id: session.0,
        session_epoch: session.1,
        topics: vec![FetchTopic {
            name: name.clone(),
            id: Uuid::nil(),
            partitions: wanted.iter().map(|&(index, offset)| partition(index, offset)).collect(),
        }],
        forgotten: vec![ForgottenTopic { name, id: Uuid::nil(), partitions: forgotten.to_vec() }],
        rack_id: StrBytes::new(),
    }
}

/// The same request by topic id.
fn by_ids(mut request: FetchRequest) -> FetchRequest {
    for topic in &mut request.topics {
        (topic.name, topic.id) = (StrBytes::new(), TOPIC);
    }
    for topic in &mut request.forgotten {
        (topic.name, topic.id) = (StrBytes::new(), TOPIC);
    }
    request
}

fn key(index: i32) -> PartitionKey {
    PartitionKey { topic: StrBytes::new(), topic_id: TOPIC, index }
}

fn answer(index: i32, high_watermark: i64, records_bytes: usize) -> FetchPartitionResponse {
    FetchPartitionResponse {
        high_watermark,
        last_stable_offset: high_watermark,
        log_start_offset: 0,
        records_bytes,
        ..FetchPartitionResponse::error(index, 0)
    }
}

fn indexes(context: &FetchContext) -> Vec<i32> {
    context.partitions.iter().map(|wanted| wanted.key.index).collect()
}

/// The answers to what the context wants; whoever got no records has got everything.
fn found(context: &FetchContext, reply: impl Fn(i32) -> FetchPartitionResponse) -> Vec<Found> {
    context.partitions.iter().map(|wanted| found_one(&wanted.key, reply(wanted.key.index))).collect()
}

fn found_one(key: &PartitionKey, answer: FetchPartitionResponse) -> Found {
    let is_exhausted = answer.records_bytes == 0 && answer.error_code == 0;
    Found { key: key.clone(), answer, is_exhausted }
}

/// Serves a request with the same answer for every partition.
fn serve(
    sessions: &mut Sessions,
    request: &FetchRequest,
    now_ms: i64,
    reply: impl Fn(i32) -> FetchPartitionResponse,
) -> (Vec<i32>, Finished, Vec<i32>) {
    let context = sessions.begin(request, NAMES, now_ms, true).expect("the session is good");
    let found = found(&context, reply);
    let finished = sessions.finish(&context, &found, now_ms);
    let told = finished.included.iter().map(|&at| found[at].key.index).collect();
    (indexes(&context), finished, told)
}

#[test]
fn a_session_is_opened_continued_and_closed() {
    let mut sessions = Sessions::new(ROOMY, 1);
    let (served, opened, told) =
        serve(&mut sessions, &request((0, 0), &[(0, 5), (1, 6)], &[]), 0, |i| answer(i, 10, 0));
    assert_eq!((served, told), (vec![0, 1], vec![0, 1]));
    let id = opened.session_id;
    assert!(id > 0);
    // Nothing has changed: both are served, neither is told.
    let (served, finished, told) = serve(&mut sessions, &request((id, 1), &[], &[]), 1, |i| answer(i, 10, 0));
    assert_eq!((served, told, finished.session_id), (vec![0, 1], vec![], id));
    // A high watermark has moved on one.
    let (_, _, told) =
        serve(&mut sessions, &request((id, 2), &[], &[]), 2, |i| answer(i, 10 + i64::from(i), 0));
    assert_eq!(told, [1]);
    // Another is added, one is forgotten, one has another offset.
    let context = sessions
        .begin(&request((id, 3), &[(2, 0), (1, 99)], &[0]), NAMES, 3, true)
        .expect("the session is good");
    assert_eq!(indexes(&context), [1, 2]);
    assert_eq!(context.partitions[0].partition.fetch_offset, 99);
    // Final: everything that is asked for, and the session is gone.
    let (served, finished, _) =
        serve(&mut sessions, &request((id, -1), &[(7, 0)], &[]), 4, |i| answer(i, 0, 0));
    assert_eq!((served, finished.session_id), (vec![7], 0));
    assert_eq!((sessions.session_count(), sessions.partition_count()), (0, 0));
    let error = sessions.begin(&request((id, 4), &[], &[]), NAMES, 5, true).expect_err("closed");
    assert_eq!(error, SessionError::IdNotFound);
}

#[test]
fn a_full_fetch_without_partitions_opens_a_session_too() {
    let mut sessions = Sessions::new(ROOMY, 1);
    let (_, opened, _) = serve(&mut sessions, &request((0, 0), &[], &[]), 0, |i| answer(i, 0, 0));
    assert!(opened.session_id > 0);
    // The next one, still without any, closes it.
    let (_, finished, _) =
        serve(&mut sessions, &request((opened.session_id, 1), &[], &[]), 0, |i| answer(i, 0, 0));
    assert_eq!((finished.session_id, sessions.session_count()), (0, 0));
}

#[test]
fn a_full_fetch_replaces_the_session_that_it_names() {
    let mut sessions = Sessions::new(ROOMY, 1);
    let (_, first, _) = serve(&mut sessions, &request((0, 0), &[(0, 0)], &[]), 0, |i| answer(i, 0, 0));
    let (_, second, _) =
        serve(&mut sessions, &request((first.session_id, 0), &[(0, 0)], &[]), 0, |i| answer(i, 0, 0));
    assert_ne!(first.session_id, second.session_id);
    assert_eq!(sessions.session_count(), 1);
}

#[test]
fn a_repeated_or_overtaken_request_is_told_by_its_epoch() {
    let mut sessions = Sessions::new(ROOMY, 1);
    let (_, opened, _) = serve(&mut sessions, &request((0, 0), &[(0, 0)], &[]), 0, |i| answer(i, 0, 0));
    let id = opened.session_id;
    let waiting = sessions.begin(&request((id, 1), &[], &[]), NAMES, 1, true).expect("the session is good");
    let error = sessions.begin(&request((id, 1), &[], &[]), NAMES, 2, true).expect_err("repeated");
    assert_eq!(error, SessionError::InvalidEpoch);
    // The next request comes before the waiting one is answered.
    let next = sessions.begin(&request((id, 2), &[], &[]), NAMES, 3, true).expect("the session is good");
    let late = sessions.finish(&waiting, &found(&waiting, |i| answer(i, 1, 1)), 4);
    assert_eq!((late.error, late.included), (Some(SessionError::InvalidEpoch), vec![]));
    assert_eq!(sessions.finish(&next, &found(&next, |i| answer(i, 1, 1)), 5).error, None);
}

#[test]
fn a_watched_session_looks_at_what_it_cannot_be_told_of() {
    let mut sessions = Sessions::new(ROOMY, 1);
    let all = [(0, 0), (1, 0), (2, 0)];
    let mut poll = |session, version, wanted: &[(i32, i64)], can_watch, with_records: i32| {
        let request = match version {
            NAMES => request(session, wanted, &[]),
            _ => by_ids(request(session, wanted, &[])),
        };
        let context = sessions.begin(&request, version, 0, can_watch).expect("the session is good");
        let found = found(&context, |index| answer(index, 10, usize::from(index == with_records)));
        let id = sessions.finish(&context, &found, 0).session_id;
        (id, indexes(&context), context.settled)
    };
    let (id, ..) = poll((0, 0), IDS, &all, true, 9);
    // Nobody watched when it was opened.
    assert_eq!(poll((id, 1), IDS, &[], true, 9), (id, vec![0, 1, 2], 0));
    assert_eq!(poll((id, 2), IDS, &[], true, 9), (id, vec![], 3));
    // What the client wants anew, and what is left to give, until it has nothing more.
    assert_eq!(poll((id, 3), IDS, &[(1, 5)], true, 1), (id, vec![1], 2));
    assert_eq!(poll((id, 4), IDS, &[], true, 9), (id, vec![1], 2));
    assert_eq!(poll((id, 5), IDS, &[], true, 9), (id, vec![], 3));
    // On another core, and back.
    assert_eq!(poll((id, 6), IDS, &[], false, 9), (id, vec![0, 2, 1], 0));
    assert_eq!(poll((id, 7), IDS, &[], true, 9), (id, vec![0, 2, 1], 0));
    assert_eq!(poll((id, 8), IDS, &[], true, 9), (id, vec![], 3));
    // A name may come to mean another topic.
    let (id, ..) = poll((0, 0), NAMES, &all, true, 9);
    for epoch in 1..4 {
        assert_eq!(poll((id, epoch), NAMES, &[], true, 9), (id, vec![0, 1, 2], 0));
    }
}

#[test]
fn names_and_ids_do_not_mix() {
    let mut sessions = Sessions::new(ROOMY, 1);
    let (_, opened, _) = serve(&mut sessions, &request((0, 0), &[(0, 0)], &[]), 0, |i| answer(i, 0, 0));
    let error = sessions.begin(&request((opened.session_id, 1), &[], &[]), IDS, 1, true).expect_err("ids");
    assert_eq!((error, error.code()), (SessionError::TopicId, 106));
}

#[test]
fn an_error_is_told_each_time_and_its_end_as_well() {
    let mut sessions = Sessions::new(ROOMY, 1);
    let (_, opened, _) = serve(&mut sessions, &request((0, 0), &[(0, 0)], &[]), 0, |i| answer(i, 10, 0));
    let id = opened.session_id;
    for epoch in 1..=2 {
        let (_, _, told) =
            serve(&mut sessions, &request((id, epoch), &[], &[]), 1, |i| FetchPartitionResponse::error(i, 6));
        assert_eq!(told, [0]);
    }
    let (_, _, told) = serve(&mut sessions, &request((id, 3), &[], &[]), 1, |i| answer(i, 10, 0));
    assert_eq!(told, [0], "the error is over");
    let (_, _, told) = serve(&mut sessions, &request((id, 4), &[], &[]), 1, |i| answer(i, 10, 0));
    assert_eq!(told, [0; 0]);
}

#[test]
fn partitions_that_got_records_wait_behind_the_others() {
    let mut sessions = Sessions::new(ROOMY, 1);
    let all = [(0, 0), (1, 0), (2, 0)];
    let (_, opened, _) = serve(&mut sessions, &request((0, 0), &all, &[]), 0, |i| answer(i, 10, 0));
    let id = opened.session_id;
    serve(&mut sessions, &request((id, 1), &[], &[]), 1, |i| answer(i, 10, usize::from(i == 0)));
    let (served, _, _) =
        serve(&mut sessions, &request((id, 2), &[], &[]), 1, |i| answer(i, 10, usize::from(i == 1)));
    assert_eq!(served, [1, 2, 0]);
    let (served, _, _) = serve(&mut sessions, &request((id, 3), &[], &[]), 1, |i| answer(i, 10, 0));
    assert_eq!(served, [2, 0, 1]);
}

#[test]
fn a_partition_named_twice_is_served_once_with_the_last_wish() {
    let mut sessions = Sessions::new(ROOMY, 1);
    let twice = request((0, -1), &[(3, 1), (4, 1), (3, 2)], &[]);
    let context = sessions.begin(&twice, NAMES, 0, true).expect("no session");
    assert_eq!(indexes(&context), [3, 4]);
    assert_eq!(context.partitions[0].partition.fetch_offset, 2);
}

#[test]
fn small_sessions_give_way_to_large_ones_after_two_minutes() {
    let mut sessions = sessions(2, 100);
    let one = request((0, 0), &[(0, 0)], &[]);
    let two = request((0, 0), &[(0, 0), (1, 0)], &[]);
    let open = |sessions: &mut Sessions, request: &FetchRequest, now_ms| {
        serve(sessions, request, now_ms, |i| answer(i, 0, 0)).1.session_id
    };
    let small = open(&mut sessions, &one, 0);
    let large = open(&mut sessions, &two, 0);
    assert_eq!(open(&mut sessions, &two, 1000), 0, "nobody is old enough to give way");
    // Both are used again after two minutes, and so become evictable.
    for id in [small, large] {
        serve(&mut sessions, &request((id, 1), &[], &[]), EVICTION_MS + 1, |i| answer(i, 0, 0));
    }
    assert_eq!(open(&mut sessions, &one, EVICTION_MS + 2), 0, "no smaller than the smallest");
    let third = open(&mut sessions, &two, EVICTION_MS + 2);
    assert_ne!(third, 0);
    assert_eq!(
        sessions.begin(&request((small, 2), &[], &[]), NAMES, EVICTION_MS + 3, true).err(),
        Some(SessionError::IdNotFound)
    );
    assert!(sessions.begin(&request((large, 2), &[], &[]), NAMES, EVICTION_MS + 3, true).is_ok());
    // Unused for two minutes: stale, and gone for anyone.
    assert_ne!(open(&mut sessions, &one, 3 * EVICTION_MS), 0);
    assert_eq!((sessions.session_count(), sessions.evicted_count()), (2, 2));
}

#[test]
fn a_follower_evicts_a_consumer() {
    let mut sessions = sessions(1, 100);
    serve(&mut sessions, &request((0, 0), &[(0, 0), (1, 0)], &[]), 0, |i| answer(i, 0, 0));
    let mut follower = request((0, 0), &[(0, 0)], &[]);
    follower.replica_id = 2;
    let (_, opened, _) = serve(&mut sessions, &follower, 1, |i| answer(i, 0, 0));
    assert_ne!(opened.session_id, 0);
    let (_, opened, _) = serve(&mut sessions, &request((0, 0), &[(0, 0)], &[]), 2, |i| answer(i, 0, 0));
    assert_eq!(opened.session_id, 0, "a consumer evicts no follower");
}

#[test]
fn partitions_of_all_sessions_are_bounded() {
    let mut sessions = sessions(10, 3);
    let (_, first, _) =
        serve(&mut sessions, &request((0, 0), &[(0, 0), (1, 0)], &[]), 0, |i| answer(i, 0, 0));
    let (_, second, _) =
        serve(&mut sessions, &request((0, 0), &[(0, 0), (1, 0)], &[]), 0, |i| answer(i, 0, 0));
    assert_eq!(second.session_id, 0, "no room");
    let grown = request((first.session_id, 1), &[(2, 0), (3, 0)], &[]);
    assert_eq!(sessions.begin(&grown, NAMES, 1, true).err(), Some(SessionError::IdNotFound));
    assert_eq!((sessions.session_count(), sessions.partition_count()), (0, 0));
}

#[test]
fn answers_are_grouped_by_topic() {
    let mut sessions = Sessions::new(ROOMY, 1);
    let context = sessions
        .begin(&request((0, -1), &[(0, 0), (1, 0), (2, 0)], &[]), NAMES, 0, true)
        .expect("no session");
    let topics = into_topics(found(&context, |index| answer(index, 0, 0)), &[0, 2]);
    assert_eq!(topics.len(), 1);
    assert_eq!(topics[0].partitions.iter().map(|one| one.index).collect::<Vec<_>>(), [0, 2]);
}

/// The same rules, written as plainly as possible.
#[derive(Default)]
struct Model {
    /// (index, wanted offset, high watermark told), in the order of service.
    partitions: Vec<(i32, i64, i64)>,
}

impl Model {
    fn update(&mut self, wanted: &[(i32, i64)], forgotten: &[i32]) {
        for &(index, offset) in wanted {
            match self.partitions.iter_mut().find(|held| held.0 == index) {
                Some(held) => held.1 = offset,
                None => self.partitions.push((index, offset, -1)),
            }
        }
        self.partitions.retain(|held| !forgotten.contains(&held.0));
    }

    fn answer(&mut self, high_watermarks: &[i64], with_records: &[bool]) -> Vec<i32> {
        let mut told = Vec::new();
        for (index, _, _) in self.partitions.clone() {
            let at = self.partitions.iter().position(|held| held.0 == index).expect("held");
            let (high_watermark, has_records) =
                (high_watermarks[index as usize], with_records[index as usize]);
            if self.partitions[at].2 != high_watermark || has_records {
                told.push(index);
            }
            self.partitions[at].2 = high_watermark;
            if has_records {
                let held = self.partitions.remove(at);
                self.partitions.push(held);
            }
        }
        told
    }
}

type Step = (Vec<(i32, i64)>, Vec<i32>, Vec<i64>, Vec<bool>);

fn step() -> impl Strategy<Value = Step> {
    (
        prop::collection::vec((0..6i32, 0..9i64), 0..3),
        prop::collection::vec(0..6i32, 0..2),
        prop::collection::vec(0..3i64, 6),
        prop::collection::vec(any::<bool>(), 6),
    )
}

proptest! {
    #[test]
    fn a_session_behaves_as_its_model(steps in prop::collection::vec(step(), 1..30)) {
        let mut sessions = Sessions::new(ROOMY, 3);
        let mut model = Model::default();
        let (mut id, mut epoch) = (0, 0);
        for (wanted, forgotten, high_watermarks, with_records) in steps {
            let is_full = epoch == 0;
            let request = request((id, epoch), &wanted, if is_full { &[] } else { &forgotten });
            model.update(&wanted, if is_full { &[] } else { &forgotten });
            let closes = !is_full && model.partitions.is_empty();
            let context = sessions.begin(&request, NAMES, 0, true).expect("the session is good");
            let found = found(&context, |index| {
                answer(index, high_watermarks[index as usize], usize::from(with_records[index as usize]))
            });
            let finished = sessions.finish(&context, &found, 0);
            if closes {
                prop_assert_eq!(finished.session_id, 0);
                (id, epoch) = (0, 0);
                continue;
            }
            let expected: Vec<_> = model.partitions.iter().map(|held| (held.0, held.1)).collect();
            let served: Vec<_> =
                context.partitions.iter().map(|one| (one.key.index, one.partition.fetch_offset)).collect();
            prop_assert_eq!(served, expected);
            let told: Vec<_> =
                finished.included.iter().map(|&at| found[at].key.index).collect();
            if is_full {
                // Everything is told, and nothing moves.
                prop_assert_eq!(told.len(), context.partitions.len());
                for held in &mut model.partitions {
                    held.2 = high_watermarks[held.0 as usize];
                }
            } else {
                prop_assert_eq!(told, model.answer(&high_watermarks, &with_records));
            }
            prop_assert_eq!(sessions.partition_count(), model.partitions.len());
            (id, epoch) = (finished.session_id, epoch + 1);
        }
    }

    /// Who looks at settled partitions only where there is news of them tells what one tells who looks at all.
    #[test]
    fn a_watched_session_tells_what_its_model_does(steps in prop::collection::vec((step(), 0..8u8), 1..40)) {
        let mut sessions = Sessions::new(ROOMY, 3);
        let mut model = Model::default();
        let (mut id, mut epoch) = (0, 0);
        // What whoever watches keeps of each: its place when it was last wanted.
        let mut watched: BTreeMap<i32, u64> = BTreeMap::new();
        let mut known = vec![i64::MIN; 6];
        let mut watches: Option<Watches> = None;
        for ((wanted, forgotten, high_watermarks, with_records), fate) in steps {
            let is_full = epoch == 0;
            let request = by_ids(request((id, epoch), &wanted, if is_full { &[] } else { &forgotten }));
            model.update(&wanted, if is_full { &[] } else { &forgotten });
            let closes = !is_full && model.partitions.is_empty();
            // Now and then it comes in on another core, where nobody watches.
            let context = sessions.begin(&request, IDS, 0, fate > 0).expect("the session is good");
            let same = |ours: &Watches, now: &Watches| Rc::ptr_eq(&ours.0, &now.0);
            let now = sessions.watches(&context);
            if !matches!((&watches, &now), (Some(ours), Some(now)) if same(ours, now)) {
                watched.clear();
            }
            watches = now;
            for key in &context.forgotten {
                watched.remove(&key.index);
            }
            let state = |index: i32| {
                answer(index, high_watermarks[index as usize], usize::from(with_records[index as usize]))
            };
            let mut looked_at: BTreeMap<u64, PartitionKey> =
                context.partitions.iter().map(|wanted| (wanted.place, wanted.key.clone())).collect();
            let given: Vec<i32> = indexes(&context);
            for (&index, &place) in &watched {
                let is_news = high_watermarks[index as usize] != known[index as usize] || with_records[index as usize];
                if is_news && !given.contains(&index) {
                    looked_at.insert(place, key(index));
                }
            }
            if !closes && (context.settled == 0 || watches.is_none()) {
                prop_assert_eq!(looked_at.len(), model.partitions.len());
            }
            known = high_watermarks.clone();
            if watches.is_some() {
                watched.extend(looked_at.iter().map(|(place, key)| (key.index, *place)));
            }
            // Now and then the connection breaks in the middle: what was looked at is known to nobody.
            if fate == 7 && !is_full && !closes {
                epoch += 1;
                continue;
            }
            let found: Vec<Found> = looked_at.values().map(|key| found_one(key, state(key.index))).collect();
            let finished = sessions.finish(&context, &found, 0);
            if closes {
                (id, epoch) = (0, 0);
                continue;
            }
            let told: Vec<_> = finished.included.iter().map(|&at| found[at].key.index).collect();
            if is_full {
                for held in &mut model.partitions {
                    held.2 = high_watermarks[held.0 as usize];
                }
            } else {
                prop_assert_eq!(told, model.answer(&high_watermarks, &with_records));
            }
            (id, epoch) = (finished.session_id, epoch + 1);
        }
    }

    /// However sessions come and go, the bounds hold and the counts agree.
    #[test]
    fn bounds_hold(steps in prop::collection::vec((0..8usize, 0..5i32, any::<bool>(), 0..200_000i64), 1..120)) {
        let mut sessions = sessions(3, 8);
        let mut known: Vec<(i32, i32)> = Vec::new();
        let mut now_ms = 0;
        for (which, size, is_follower, passed_ms) in steps {
            now_ms += passed_ms;
            let wanted: Vec<_> = (0..size).map(|index| (index, 0)).collect();
            let session = if known.is_empty() || which > 4 { (0, 0) } else { known[which % known.len()] };
            let mut request = request(session, &wanted, &[]);
            request.replica_id = if is_follower { 1 } else { -1 };
            if let Ok(context) = sessions.begin(&request, NAMES, now_ms, true) {
                let found = found(&context, |index| answer(index, 0, 0));
                let finished = sessions.finish(&context, &found, now_ms);
                known.retain(|&(id, _)| id != session.0);
                if finished.session_id != 0 {
                    known.push((finished.session_id, session.1 + 1));
                }
            }
            prop_assert!(sessions.session_count() <= 3);
            prop_assert!(sessions.partition_count() <= 8);
            let counted: usize = sessions.sessions.values().map(|session| session.partitions.len()).sum();
            prop_assert_eq!(sessions.partition_count(), counted);
            prop_assert_eq!(sessions.last_used.len(), sessions.session_count());
            prop_assert!(sessions.evictable_by_privileged.len() <= sessions.session_count());
            prop_assert!(sessions.evictable_by_all.len() <= sessions.session_count());
        }
    }
}

#[test]
fn an_id_names_the_core_that_opened_it() {
    for core in 0..3 {
        let limits = SessionLimits { sessions_max: 100, partitions_max: 1000 };
        let mut sessions = Sessions::new(limits, 9).of_core(CoreId(core), 3);
        for _ in 0..50 {
            let id = sessions.new_id();
            assert!(id > 0);
            assert_eq!(home_of(id, 3), CoreId(core));
        }
    }
    // Whatever a client makes up has a home, too.
    for id in [i32::MIN, -1, 1, i32::MAX] {
        assert!(home_of(id, 3).0 < 3);
    }
}
