//! Loading, ordering and failure, on simulated time and a log that is slow or breaks.

use flumen_engine::batch::{CheckedBatches, Codec};
use flumen_engine::storage::sim::{Random, SimRuntime};

use super::super::messages::{HeartbeatRequest, JoinRequest, Protocol};
use super::super::offsets::{CommitPartition, CommitRequest, CommitTopic, FetchRequest, FetchTopic};
use super::super::records::{GroupMember, GroupMetadata, OffsetCommit, Record};
use super::*;
use crate::compression::{Compression, close};
use uuid::Uuid;

/// A log in memory, whose appends are durable after a while, or fail.
struct SlowLog {
    runtime: Rc<SimRuntime>,
    batches: RefCell<Vec<Bytes>>,
    end: Cell<i64>,
    durable: Rc<Cell<i64>>,
    delay_ms: u64,
    broken: Cell<Option<fn() -> AppendError>>,
    start: Rc<Cell<i64>>,
}

impl SlowLog {
    fn new(runtime: &Rc<SimRuntime>, delay_ms: u64) -> Rc<Self> {
        Rc::new(Self {
            runtime: runtime.clone(),
            batches: RefCell::default(),
            end: Cell::new(0),
            durable: Rc::default(),
            delay_ms,
            broken: Cell::new(None),
            start: Rc::default(),
        })
    }

    fn place(&self, records: &[Record]) {
        let mut batch = BatchBuilder::new().base_offset(Offset(self.end.get()));
        for record in records {
            batch.append(Timestamp(1), Some(&record.key), record.value.as_deref(), &[]);
        }
        self.place_batch(batch, records.len());
    }

    fn place_batch(&self, batch: BatchBuilder, records: usize) {
        self.batches.borrow_mut().push(batch.build());
        self.end.set(self.end.get() + i64::try_from(records).unwrap());
        self.durable.set(self.end.get());
    }
}

impl GroupLog for SlowLog {
    fn start(&self) -> Offset {
        Offset(self.start.get())
    }

    fn trim(&self, start: Offset) -> LocalBoxFuture<'static, Result<(), ReadError>> {
        let (first, sleep) = (self.start.clone(), simulated_ms(&*self.runtime, 3));
        Box::pin(async move {
            sleep.await;
            first.set(start.0);
            Ok(())
        })
    }

    fn open(&self, batch: Bytes) -> LocalBoxFuture<'static, Result<Vec<u8>, OpenError>> {
        let sleep = simulated_ms(&*self.runtime, 2);
        Box::pin(async move {
            sleep.await;
            crate::compression::open(&batch)
        })
    }

    fn append(&self, batch: CheckedBatches) -> LocalBoxFuture<'static, Result<Offset, AppendError>> {
        if let Some(error) = self.broken.get() {
            return Box::pin(async move { Err(error()) });
        }
        let base = self.end.get();
        let mut rebuilt = BatchBuilder::new().base_offset(Offset(base));
        for summary in batch.summaries() {
            for record in batch.records(summary).unwrap() {
                let record = record.unwrap();
                rebuilt.append(record.timestamp, record.key, record.value, &[]);
            }
        }
        let end = base + i64::try_from(rebuilt.records()).unwrap();
        self.batches.borrow_mut().push(rebuilt.build());
        self.end.set(end);
        let (durable, sleep) = (self.durable.clone(), simulated_ms(&*self.runtime, self.delay_ms));
        Box::pin(async move {
            sleep.await;
            durable.set(end);
            Ok(Offset(base))
        })
    }

    fn read(&self, from: Offset) -> LocalBoxFuture<'static, Result<super::super::log::LogPiece, ReadError>> {
        let batches = self.batches.borrow();
        let holds = |bytes: &&Bytes| batch::BatchHeader::parse(bytes).unwrap().last_offset() >= from;
        let bytes = batches.iter().find(holds).cloned().unwrap_or_default();
        let (end, sleep) = (Offset(self.durable.get()), simulated_ms(&*self.runtime, 5));
        Box::pin(async move {
            sleep.await;
            Ok(super::super::log::LogPiece { bytes, end })
        })
    }
}

/// Time passes in the simulation alone.
fn simulated_ms(runtime: &dyn Runtime, ms: u64) -> LocalBoxFuture<'static, ()> {
    let duration = Duration::from_millis(ms);
    runtime.sleep(duration)
}

fn runtime() -> Rc<SimRuntime> {
    SimRuntime::new(Random::new(7), 1_700_000_000_000)
}

fn open(runtime: &Rc<SimRuntime>, log: &Rc<SlowLog>) -> Rc<Hosted> {
    Hosted::open(0, runtime.clone(), log.clone(), GroupSettings::default())
}

/// Asks again while groups are loaded.
async fn ask(hosted: &Rc<Hosted>, group: &str, request: Request) -> Result<Answer, ResponseError> {
    loop {
        match hosted.ask(group, request.clone()).await {
            Err(ResponseError::CoordinatorLoadInProgress) => simulated_ms(&*hosted.runtime, 1).await,
            answer => return answer,
        }
    }
}

fn commit(offset: i64) -> Request {
    let partition = CommitPartition { index: 0, offset, leader_epoch: -1, metadata: String::new() };
    Request::Commit(CommitRequest {
        generation: -1,
        member_id: String::new(),
        instance_id: None,
        retention_ms: None,
        knows_missing_groups: true,
        topics: vec![CommitTopic { name: "topic".into(), id: Uuid::nil(), partitions: vec![partition] }],
        image_offset: 0,
    })
}

fn fetch_topic(id: Uuid) -> FetchTopic {
    FetchTopic { name: "topic".into(), id, partitions: vec![0] }
}

fn fetch() -> Request {
    Request::Fetch(FetchRequest { topics: Some(vec![fetch_topic(Uuid::nil())]), require_stable: false })
}

fn offset(answer: Result<Answer, ResponseError>) -> i64 {
    match answer {
        Ok(Answer::Fetch(answer)) => answer.topics[0].1[0].offset,
        other => panic!("no answer to OffsetFetch: {other:?}"),
    }
}

fn commit_error(answer: Result<Answer, ResponseError>) -> Option<ResponseError> {
    match answer {
        Ok(Answer::Commit(answer)) => answer.topics[0].1[0].1,
        other => panic!("no answer to OffsetCommit: {other:?}"),
    }
}

fn join(member_id: &str) -> Request {
    Request::Join(JoinRequest {
        member_id: member_id.into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: Bytes::new() }],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        new_member_id: "client-1".into(),
        requires_known_member_id: false,
        supports_skipping_assignment: true,
        reason: None,
    })
}

fn stored(offset: i64) -> Record {
    stored_in("group", offset)
}

fn stored_in(group: &str, offset: i64) -> Record {
    let commit = OffsetCommit {
        offset,
        leader_epoch: -1,
        metadata: String::new(),
        commit_ms: 1,
        expire_ms: None,
        topic_id: Uuid::nil(),
    };
    Record::offset(group, "topic", 0, &commit)
}

#[test]
fn nothing_is_answered_before_everything_is_loaded() {
    let runtime = runtime();
    let log = SlowLog::new(&runtime, 1);
    for offset in 0..1_000 {
        log.place(&[stored(offset)]);
    }
    let hosted = open(&runtime, &log);
    let fetched = runtime.run(async {
        assert_eq!(hosted.ask("group", fetch()).await, Err(ResponseError::CoordinatorLoadInProgress));
        assert_eq!(hosted.list().err(), Some(ResponseError::CoordinatorLoadInProgress));
        ask(&hosted, "group", fetch()).await
    });
    assert_eq!(offset(fetched.unwrap()), 999);
    assert_eq!(hosted.list().unwrap().len(), 1);
}

#[test]
fn offsets_of_a_topic_that_is_deleted_while_they_are_loaded_go_too() {
    let runtime = runtime();
    let log = SlowLog::new(&runtime, 1);
    log.place(&[stored(7)]);
    let hosted = open(&runtime, &log);
    hosted.topics_deleted(&["topic".into()]);
    let fetched = runtime.run(async {
        assert_eq!(hosted.ask("group", fetch()).await, Err(ResponseError::CoordinatorLoadInProgress));
        // What is committed afterwards is of another topic.
        assert_eq!(commit_error(ask(&hosted, "other", commit(3)).await), None);
        (ask(&hosted, "group", fetch()).await, ask(&hosted, "other", fetch()).await)
    });
    let (gone, kept) = fetched.expect("it ends");
    assert_eq!((offset(gone), offset(kept)), (-1, 3));
}

#[test]
fn compressed_batches_are_loaded_and_one_that_cannot_be_opened_is_not_passed_over() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let runtime = runtime();
        let log = SlowLog::new(&runtime, 10);
        log.place(&[stored(1)]);
        let mut batch = BatchBuilder::new().base_offset(Offset(1));
        for offset in [2, 3] {
            let record = stored(offset);
            batch.append(Timestamp(1), Some(&record.key), record.value.as_deref(), &[]);
        }
        let to = Compression { codec, gzip_level: 6 };
        let mut closed = close(&batch.build(), &to, Timestamp(1)).expect("compressed");
        log.batches.borrow_mut().push(closed.clone().into());
        log.end.set(3);
        log.durable.set(3);
        let hosted = open(&runtime, &log);
        let fetched = runtime.run(async { ask(&hosted, "group", fetch()).await }).expect("it ends");
        assert_eq!(offset(fetched), 3, "{codec:?}");

        closed.truncate(batch::HEADER_BYTES + 9);
        batch::seal(&mut closed, codec, None).expect("a sound header");
        log.batches.borrow_mut()[1] = closed.into();
        let hosted = open(&runtime, &log);
        let refused = runtime.run(async { ask(&hosted, "group", fetch()).await }).expect("it ends");
        assert_eq!(refused.err(), Some(ResponseError::NotCoordinator), "{codec:?}");
    }
}

#[test]
fn commits_share_the_wait_for_the_log_and_are_answered_when_durable() {
    let runtime = runtime();
    let log = SlowLog::new(&runtime, 10);
    let hosted = open(&runtime, &log);
    runtime
        .run(async {
            ask(&hosted, "group", commit(0)).await.unwrap();
            let before = runtime.monotonic();
            let all = (1..=100).map(|offset| {
                let hosted = hosted.clone();
                async move { commit_error(hosted.ask("group", commit(offset)).await) }
            });
            let results = futures_util::future::join_all(all).await;
            assert!(results.iter().all(Option::is_none));
            assert!(runtime.monotonic() - before < Duration::from_millis(30), "one wait, not a hundred");
            assert_eq!(offset(ask(&hosted, "group", fetch()).await), 100);
        })
        .unwrap();
    let again = open(&runtime, &log);
    assert_eq!(offset(runtime.run(ask(&again, "group", fetch())).unwrap()), 100);
}

#[test]
fn a_rebalance_goes_on_by_time_alone() {
    let runtime = runtime();
    let log = SlowLog::new(&runtime, 1);
    let hosted = open(&runtime, &log);
    let answer = runtime.run(ask(&hosted, "group", join(""))).unwrap();
    let Ok(Answer::Join(joined)) = answer else { panic!("no answer to JoinGroup: {answer:?}") };
    assert_eq!((joined.error, joined.generation), (None, 1));
    let elapsed = runtime.monotonic();
    assert!((3_000..3_100).contains(&elapsed.as_millis()), "{elapsed:?}");
}

/// Counts the sleeps that are under way.
struct Counting {
    runtime: Rc<SimRuntime>,
    sleeping: Rc<Cell<usize>>,
}

impl Runtime for Counting {
    fn spawn(&self, task: LocalBoxFuture<'static, ()>) {
        self.runtime.spawn(task);
    }

    fn monotonic(&self) -> Duration {
        self.runtime.monotonic()
    }

    fn wall_ms(&self) -> i64 {
        self.runtime.wall_ms()
    }

    fn sleep(&self, duration: Duration) -> LocalBoxFuture<'static, ()> {
        let (sleep, sleeping) = (self.runtime.sleep(duration), self.sleeping.clone());
        sleeping.set(sleeping.get() + 1);
        Box::pin(async move {
            sleep.await;
            sleeping.set(sleeping.get() - 1);
        })
    }

    fn yield_now(&self) -> LocalBoxFuture<'static, ()> {
        self.runtime.yield_now()
    }

    fn random(&self) -> u64 {
        self.runtime.random()
    }
}

#[test]
fn a_timer_that_goes_off_arms_none_anew_that_is_armed() {
    let runtime = runtime();
    let log = SlowLog::new(&runtime, 1);
    let sleeping = Rc::new(Cell::new(0));
    let counting = Rc::new(Counting { runtime: runtime.clone(), sleeping: sleeping.clone() });
    let hosted = Hosted::open(0, counting, log, GroupSettings::default());
    // Each rebalance ends by time, long before the next look for what has expired.
    for number in 0..100 {
        runtime.run(ask(&hosted, &format!("group-{number}"), join(""))).unwrap().expect("joined");
    }
    assert!(sleeping.get() <= 8, "{} timers are armed", sleeping.get());
}

#[test]
fn a_restart_finds_members_and_ends_the_sessions_of_those_who_are_gone() {
    let runtime = runtime();
    let log = SlowLog::new(&runtime, 1);
    let member = GroupMember {
        member_id: "member".into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        subscription: Bytes::new(),
        assignment: Bytes::new(),
    };
    let metadata = GroupMetadata {
        protocol_type: "consumer".into(),
        generation: 4,
        protocol_name: Some("range".into()),
        leader: Some("member".into()),
        state_since_ms: 1,
        members: vec![member],
    };
    log.place(&[Record::group("group", &metadata)]);
    let hosted = open(&runtime, &log);
    let heartbeat = || {
        Request::Heartbeat(HeartbeatRequest { generation: 4, member_id: "member".into(), instance_id: None })
    };
    runtime
        .run(async {
            assert_eq!(ask(&hosted, "group", heartbeat()).await, Ok(Answer::Heartbeat(None)));
            assert_eq!(hosted.list().unwrap()[0].state, "Stable");
            simulated_ms(&*runtime, 10_100).await;
            assert_eq!(hosted.list().unwrap()[0].state, "Empty");
        })
        .unwrap();
}

#[test]
fn markers_of_transactions_are_replayed() {
    let runtime = runtime();
    let log = SlowLog::new(&runtime, 1);
    let stamp = batch::ProducerStamp {
        id: flumen_engine::ProducerId(9),
        epoch: flumen_engine::ProducerEpoch(0),
        base_sequence: 0,
    };
    log.place(&[stored(1)]);
    let mut transactional = BatchBuilder::new().base_offset(Offset(1)).producer(stamp).transactional();
    let record = stored(50);
    transactional.append(Timestamp(1), Some(&record.key), record.value.as_deref(), &[]);
    log.place_batch(transactional, 1);
    let hosted = open(&runtime, &log);
    assert_eq!(offset(runtime.run(ask(&hosted, "group", fetch())).unwrap()), 1);
    let commit = batch::ControlRecord::EndTransaction { commit: true, coordinator_epoch: 0 };
    let marker =
        BatchBuilder::control(Timestamp(1), &commit).base_offset(Offset(2)).producer(stamp).transactional();
    log.place_batch(marker, 1);
    let hosted = open(&runtime, &log);
    assert_eq!(offset(runtime.run(ask(&hosted, "group", fetch())).unwrap()), 50);
}

#[test]
fn a_full_disk_fails_the_commit_and_nothing_else() {
    let runtime = runtime();
    let log = SlowLog::new(&runtime, 1);
    let hosted = open(&runtime, &log);
    runtime
        .run(async {
            assert_eq!(commit_error(ask(&hosted, "group", commit(1)).await), None);
            log.broken.set(Some(|| AppendError::NoSpace));
            let failed = commit_error(hosted.ask("group", commit(2)).await);
            assert_eq!(failed, Some(ResponseError::CoordinatorNotAvailable));
            assert_eq!(offset(hosted.ask("group", fetch()).await), 1);
            log.broken.set(None);
            assert_eq!(commit_error(hosted.ask("group", commit(3)).await), None);
            assert_eq!(offset(hosted.ask("group", fetch()).await), 3);
        })
        .unwrap();
}

#[test]
fn a_log_that_failed_sends_everyone_away() {
    let runtime = runtime();
    let log = SlowLog::new(&runtime, 1);
    let hosted = open(&runtime, &log);
    runtime
        .run(async {
            assert_eq!(commit_error(ask(&hosted, "group", commit(1)).await), None);
            let joining = hosted.ask("other", join(""));
            log.broken.set(Some(|| AppendError::Offline));
            let committing = async { commit_error(hosted.ask("group", commit(2)).await) };
            let (joined, committed) = futures_util::future::join(joining, committing).await;
            assert_eq!(committed, Some(ResponseError::NotCoordinator));
            let Ok(Answer::Join(joined)) = joined else { panic!("no answer to JoinGroup: {joined:?}") };
            assert_eq!(joined.error, Some(ResponseError::NotCoordinator));
            assert_eq!(hosted.ask("group", fetch()).await, Err(ResponseError::NotCoordinator));
        })
        .unwrap();
}

#[test]
fn a_damaged_log_is_not_served() {
    let runtime = runtime();
    let log = SlowLog::new(&runtime, 1);
    log.place(&[stored(1)]);
    let mut bytes = log.batches.borrow()[0].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    log.batches.borrow_mut()[0] = bytes.into();
    let hosted = open(&runtime, &log);
    assert_eq!(runtime.run(ask(&hosted, "group", fetch())).unwrap(), Err(ResponseError::NotCoordinator));
}

#[test]
fn whoever_stops_waiting_leaves_nothing_behind() {
    let runtime = runtime();
    let log = SlowLog::new(&runtime, 1);
    let hosted = open(&runtime, &log);
    runtime
        .run(async {
            ask(&hosted, "group", fetch()).await.unwrap();
            {
                let mut joining = Box::pin(hosted.ask("group", join("")));
                assert!(futures_util::poll!(joining.as_mut()).is_pending());
                assert_eq!(hosted.slots.borrow().len(), 1);
            }
            assert!(hosted.slots.borrow().is_empty());
            simulated_ms(&*runtime, 5_000).await;
        })
        .unwrap();
}

#[test]
fn without_groups_no_timer_is_armed() {
    let runtime = runtime();
    let log = SlowLog::new(&runtime, 1);
    let hosted = open(&runtime, &log);
    runtime.run(ask(&hosted, "group", fetch())).unwrap().unwrap();
    assert!(hosted.armed_for_ms.borrow().is_empty());
}

#[test]
fn a_long_log_is_folded_while_commits_go_on_and_says_the_same_afterwards() {
    let runtime = runtime();
    let log = SlowLog::new(&runtime, 1);
    let metadata =
        GroupMetadata { protocol_type: "consumer".into(), generation: 7, ..GroupMetadata::default() };
    let foreign = Bytes::from_static(&[0, 3, 0, 5, b'o', b't', b'h', b'e', b'r']);
    log.place(&[
        Record::group("group", &metadata),
        Record { key: foreign, value: Some(Bytes::from_static(&[0, 0])) },
    ]);
    for round in 0..60 {
        let offsets: Vec<Record> =
            (0..1_000).map(|offset| stored_in(&format!("group-{}", offset % 700), round)).collect();
        log.place(&offsets);
    }
    let hosted = open(&runtime, &log);
    runtime
        .run(async {
            for offset in 0..50 {
                assert_eq!(commit_error(ask(&hosted, "group", commit(offset)).await), None);
                assert_eq!(commit_error(ask(&hosted, &format!("group-{offset}"), commit(1_000)).await), None);
            }
            simulated_ms(&*runtime, 1_000).await;
        })
        .unwrap();
    assert!(log.start.get() >= 60_002, "{}", log.start.get());
    let left = log.end.get() - log.start.get();
    assert!((700..1_000).contains(&left), "{left}");
    let again = open(&runtime, &log);
    runtime
        .run(async {
            assert_eq!(offset(ask(&again, "group", fetch()).await), 49);
            for index in 0..700 {
                let expected = if index < 50 { 1_000 } else { 59 };
                assert_eq!(
                    offset(ask(&again, &format!("group-{index}"), fetch()).await),
                    expected,
                    "{index}"
                );
            }
        })
        .unwrap();
    let listed = again.list().unwrap();
    assert_eq!(listed.len(), 702);
    assert_eq!(listed.iter().find(|group| group.group_id == "group").unwrap().protocol_type, "consumer");
    assert_eq!(listed.iter().find(|group| group.group_id == "other").unwrap().group_type, "consumer");
}
