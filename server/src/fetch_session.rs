//! Fetch sessions (KIP-227): what a consumer asked for last time, so that it need not say it again.
//!
//! A client opens a session with a full fetch, and then sends only what changes; it gets only what has
//! changed. One [`FetchSessions`] lives on each core and holds the sessions that were opened there; a session's
//! id says which ([`home_of`]), so that a client that comes back on another core finds it again.
//!
//! Serving a fetch takes two steps. [`FetchSessions::begin`] reads the request into the session and says
//! which partitions to serve, in which order. [`FetchSessions::finish`] takes what was found, and says which
//! of it the client must be told. Between the two other requests may run, even of the same session; the
//! epoch tells.
//!
//! Where whoever serves it watches a session's partitions, those that had nothing new are *settled*: the next
//! poll looks at them only if there is news of them. What keeps the watches is kept beside the session.
//!
//! Bounds: [`SessionLimits::sessions_max`] sessions, [`SessionLimits::partitions_max`] partitions in all of
//! them. When either is reached and nothing may be evicted, a full fetch is answered without a session. An
//! incremental one that passes the second loses its session. Nothing of this survives a restart.

use std::collections::{BTreeSet, HashMap};

use flumen_engine::CoreId;
use flumen_wire::fetch::{FetchPartition, FetchPartitionResponse, FetchRequest, FetchTopicResponse};

pub use partitions::PartitionKey;
use partitions::{CachedPartition, PartitionList, requested};

mod partitions;

/// A session id that means none.
const NO_SESSION: i32 = 0;
/// The epoch that asks for a new session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch that asks for no session.
const FINAL_EPOCH: i32 = -1;
/// The first Fetch version with topic ids.
const TOPIC_IDS_FROM: i16 = 13;
/// How long a session is safe from a larger one's creation, and after how long unused it is stale. Kafka's.
const EVICTION_MS: i64 = 120_000;

/// How much one core's sessions may hold.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// This core's share of `max.incremental.fetch.session.cache.slots`; 0 turns sessions off.
    pub sessions_max: usize,
    /// Partitions in all sessions of this core; one takes about 400 bytes, without what watches it.
    pub partitions_max: usize,
}

/// Why a session cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// It was evicted, or never was.
    IdNotFound,
    /// A request was lost, repeated, or overtaken.
    InvalidEpoch,
    /// The session was opened with names and is used with ids, or the other way round.
    TopicId,
}

impl SessionError {
    /// Kafka's error code.
    pub fn code(self) -> i16 {
        match self {
            Self::IdNotFound => 70,
            Self::InvalidEpoch => 71,
            Self::TopicId => 106,
        }
    }
}

/// What a fetch has to serve.
#[derive(Debug)]
pub struct FetchContext {
    kind: ContextKind,
    /// The partitions to look at, in the order in which they are to be served. Those that there is news of are
    /// to be added where the session is watched.
    pub partitions: Vec<Wanted>,
    /// How many more the session has, to look at only where there is news of them.
    pub settled: usize,
    /// What the session forgot, to be watched no longer. Empty where the session is not watched.
    pub forgotten: Vec<PartitionKey>,
}

/// A partition to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whose turn it is: lower ones are served first. Unique in its fetch.
    pub place: u64,
    /// Which one.
    pub key: PartitionKey,
    /// What is wanted of it.
    pub partition: FetchPartition,
    /// Whether its topic was known in an earlier poll of the session.
    pub was_known: bool,
}

/// What was found of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which one.
    pub key: PartitionKey,
    /// Its answer, but for the records themselves.
    pub answer: FetchPartitionResponse,
    /// Whether there is nothing from the wanted offset on, nor anything wrong: only news can bring more.
    pub is_exhausted: bool,
}

#[derive(Clone, Copy, Debug)]
enum ContextKind {
    Sessionless,
    Full { reader: Reader },
    Incremental { session_id: i32, epoch_next: i32, is_watched: bool },
}

/// Who reads, and what it may see.
#[derive(Clone, Copy, Debug)]
struct Reader {
    /// A follower. Its sessions outlive consumers', and are looked at whole: it sees what is no news to others.
    privileged: bool,
    uses_ids: bool,
    isolation_level: i8,
}

/// What the client is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The session from now on, 0 for none.
    pub session_id: i32,
    /// An error of the session as a whole: then no partition is in the answer.
    pub error: Option<SessionError>,
    /// Which of what was found is in the answer, as indexes, ascending.
    pub included: Vec<usize>,
}

/// The sessions of one core, with a `W` beside each.
#[derive(Debug)]
pub struct FetchSessions<W> {
    limits: SessionLimits,
    /// Invariant: every session's id is this core, modulo the number of cores.
    core: u16,
    cores: u16,
    random_state: u64,
    sessions: HashMap<i32, Session<W>>,
    /// Invariant: the sum of all sessions' partitions.
    partition_count: usize,
    /// (last use, id) of every session.
    last_used: BTreeSet<(i64, i32)>,
    /// Sessions that any new one may evict.
    evictable_by_all: BTreeSet<EvictionKey>,
    /// Sessions that a follower's new one may evict.
    evictable_by_privileged: BTreeSet<EvictionKey>,
    evicted_count: u64,
}

/// The order in which sessions give way: consumers before followers, small ones before large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EvictionKey {
    privileged: bool,
    size: usize,
    id: i32,
}

#[derive(Debug)]
struct Session<W> {
    reader: Reader,
    partitions: PartitionList,
    /// What watches the partitions that are settled.
    watches: W,
    /// A poll has begun and not finished: what it was told as news is known to nobody else.
    is_polled: bool,
    created_ms: i64,
    last_used_ms: i64,
    /// How many partitions it had when it was last put into the eviction orders.
    size_filed: usize,
    /// The epoch that the next request must have.
    epoch: i32,
}

/// The core that opened a session, of `cores` many; any core, for an id that is none of ours.
pub fn home_of(session_id: i32, cores: u16) -> CoreId {
    let core = session_id.rem_euclid(i32::from(cores));
    CoreId(u16::try_from(core).expect("below the number of cores"))
}

impl<W: Default + Clone> FetchSessions<W> {
    /// An empty cache. `seed` makes the session ids of two runs differ.
    pub fn new(limits: SessionLimits, seed: u64) -> Self {
        Self {
            limits,
            core: 0,
            cores: 1,
            random_state: seed,
            sessions: HashMap::new(),
            partition_count: 0,
            last_used: BTreeSet::new(),
            evictable_by_all: BTreeSet::new(),
            evictable_by_privileged: BTreeSet::new(),
            evicted_count: 0,
        }
    }

    /// The sessions of one of several cores.
    pub fn of_core(self, core: CoreId, cores: u16) -> Self {
        Self { core: core.0, cores, ..self }
    }

    /// Sessions held now.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Partitions held now, in all sessions.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// Sessions that have had to give way since the start.
    pub fn evicted_count(&self) -> u64 {
        self.evicted_count
    }

    /// Reads a request into its session; says what to serve. `now_ms` is monotonic. `can_watch` says whether who
    /// serves it will watch the session's partitions, with what is [beside](Self::watches) the session.
    pub fn begin(
        &mut self,
        request: &FetchRequest,
        version: i16,
        now_ms: i64,
        can_watch: bool,
    ) -> Result<FetchContext, SessionError> {
        let reader = Reader {
            privileged: request.replica_id >= 0,
            uses_ids: version >= TOPIC_IDS_FROM,
            isolation_level: request.isolation_level,
        };
        match request.session_epoch {
            INITIAL_EPOCH | FINAL_EPOCH => {
                // A full fetch ends the session that it names, whether it opens another or not.
                self.remove(request.session_id);
                let kind = match request.session_epoch {
                    FINAL_EPOCH => ContextKind::Sessionless,
                    _ => ContextKind::Full { reader },
                };
                Ok(FetchContext::whole(kind, request))
            }
            epoch => self.begin_incremental(request, epoch, reader, now_ms, can_watch),
        }
    }

    fn begin_incremental(
        &mut self,
        request: &FetchRequest,
        epoch: i32,
        reader: Reader,
        now_ms: i64,
        can_watch: bool,
    ) -> Result<FetchContext, SessionError> {
        let id = request.session_id;
        let session = self.sessions.get_mut(&id).ok_or(SessionError::IdNotFound)?;
        if session.epoch != epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if session.reader.uses_ids != reader.uses_ids {
            return Err(SessionError::TopicId);
        }
        let size_before = session.partitions.len();
        let mut forgotten = session.partitions.update(request);
        let size = session.partitions.len();
        self.partition_count = self.partition_count - size_before + size;
        if size == 0 {
            self.remove(id);
            return Ok(FetchContext::whole(ContextKind::Sessionless, request));
        }
        if self.partition_count > self.limits.partitions_max {
            self.remove(id);
            return Err(SessionError::IdNotFound);
        }
        // A name may come to mean another topic, which nobody watches.
        let is_watched = can_watch && reader.uses_ids && !reader.privileged;
        let sees_as_before = session.reader.isolation_level == reader.isolation_level;
        if !is_watched || session.is_polled || !sees_as_before {
            session.watches = W::default();
            session.partitions.unsettle();
            forgotten.clear();
        }
        session.reader.isolation_level = reader.isolation_level;
        session.is_polled = true;
        let epoch_next = next_epoch(epoch);
        session.epoch = epoch_next;
        let partitions = session.partitions.wanted();
        self.touch(id, now_ms);
        let kind = ContextKind::Incremental { session_id: id, epoch_next, is_watched };
        Ok(FetchContext { kind, settled: size - partitions.len(), partitions, forgotten })
    }

    /// What watches the partitions of the session that `context` is of; `None` if it is not to be watched, or
    /// has gone.
    pub fn watches(&self, context: &FetchContext) -> Option<W> {
        match context.kind {
            ContextKind::Incremental { session_id, is_watched: true, .. } => {
                self.sessions.get(&session_id).map(|session| session.watches.clone())
            }
            _ => None,
        }
    }

    /// Takes what was found, in the order of service: of each of the context's partitions, and of those that
    /// there was news of. Says what the client is to be told of it.
    ///
    /// # Panics
    /// If a full fetch does not have one answer for each of the context's partitions.
    pub fn finish(&mut self, context: &FetchContext, found: &[Found], now_ms: i64) -> Finished {
        let everything = || (0..found.len()).collect();
        match context.kind {
            ContextKind::Sessionless => {
                Finished { session_id: NO_SESSION, error: None, included: everything() }
            }
            ContextKind::Full { reader } => Finished {
                session_id: self.open(reader, context, found, now_ms),
                error: None,
                included: everything(),
            },
            ContextKind::Incremental { session_id, epoch_next, is_watched } => {
                match self.sessions.get_mut(&session_id).filter(|session| session.epoch == epoch_next) {
                    Some(session) => {
                        session.is_polled = false;
                        let included = session.partitions.take_answers(found, is_watched);
                        Finished { session_id, error: None, included }
                    }
                    None => {
                        Finished { session_id, error: Some(SessionError::InvalidEpoch), included: Vec::new() }
                    }
                }
            }
        }
    }

    /// Opens a session with what a full fetch asked and got; 0 if there is no room.
    fn open(&mut self, reader: Reader, context: &FetchContext, found: &[Found], now_ms: i64) -> i32 {
        assert_eq!(context.partitions.len(), found.len(), "one answer for each partition");
        let size = found.len();
        if self.limits.sessions_max == 0 || size > self.limits.partitions_max {
            return NO_SESSION;
        }
        while self.sessions.len() >= self.limits.sessions_max
            || self.partition_count + size > self.limits.partitions_max
        {
            if !self.evict_for(reader.privileged, size, now_ms) {
                return NO_SESSION;
            }
        }
        let mut partitions = PartitionList::default();
        for (wanted, found) in context.partitions.iter().zip(found) {
            let mut cached = CachedPartition::new(wanted.key.clone(), wanted.partition);
            cached.take_answer(&found.answer);
            partitions.push(cached);
        }
        let id = self.new_id();
        self.partition_count += size;
        let session = Session {
            reader,
            partitions,
            watches: W::default(),
            is_polled: false,
            created_ms: now_ms,
            last_used_ms: now_ms,
            size_filed: size,
            epoch: next_epoch(INITIAL_EPOCH),
        };
        self.sessions.insert(id, session);
        self.touch(id, now_ms);
        id
    }

    /// Makes room as Kafka does: first a session unused for two minutes, then the least valuable of those
    /// that have had two minutes, if it is worth less than the new one.
    fn evict_for(&mut self, privileged: bool, size: usize, now_ms: i64) -> bool {
        let Some(&(oldest_ms, oldest_id)) = self.last_used.first() else { return false };
        if now_ms - oldest_ms > EVICTION_MS {
            self.evicted_count += 1;
            return self.remove(oldest_id);
        }
        let evictable = if privileged { &self.evictable_by_privileged } else { &self.evictable_by_all };
        match evictable.first() {
            Some(&least) if least <= (EvictionKey { privileged, size, id: 0 }) => {
                self.evicted_count += 1;
                self.remove(least.id)
            }
            _ => false,
        }
    }

    fn remove(&mut self, id: i32) -> bool {
        let Some(session) = self.sessions.remove(&id) else { return false };
        self.last_used.remove(&(session.last_used_ms, id));
        let key = session.eviction_key(id);
        self.evictable_by_all.remove(&key);
        self.evictable_by_privileged.remove(&key);
        self.partition_count -= session.partitions.len();
        true
    }

    /// Files a session under its new size and time of use.
    fn touch(&mut self, id: i32, now_ms: i64) {
        let session = self.sessions.get_mut(&id).expect("only sessions that are held are touched");
        self.last_used.remove(&(session.last_used_ms, id));
        session.last_used_ms = now_ms;
        self.last_used.insert((now_ms, id));
        let key_before = session.eviction_key(id);
        self.evictable_by_all.remove(&key_before);
        self.evictable_by_privileged.remove(&key_before);
        session.size_filed = session.partitions.len();
        let key = session.eviction_key(id);
        let is_settled = now_ms - session.created_ms > EVICTION_MS;
        if is_settled || !session.reader.privileged {
            self.evictable_by_privileged.insert(key);
        }
        if is_settled {
            self.evictable_by_all.insert(key);
        }
    }

    /// A positive id that no session has. Random, so that a client's id from before a restart meets nobody.
    fn new_id(&mut self) -> i32 {
        loop {
            // SplitMix64.
            self.random_state = self.random_state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.random_state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let any = (mixed >> 33) as i32;
            let cores = i32::from(self.cores);
            let Some(id) = (any - any % cores).checked_add(i32::from(self.core)) else { continue };
            if id != NO_SESSION && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

impl FetchContext {
    /// Of all that a request names.
    fn whole(kind: ContextKind, request: &FetchRequest) -> Self {
        Self { kind, partitions: requested(request), settled: 0, forgotten: Vec::new() }
    }
}

/// The included answers as an answer's topics. Neighbours of one topic share its entry, as in Kafka.
pub fn into_topics(found: Vec<Found>, included: &[usize]) -> Vec<FetchTopicResponse> {
    let mut topics: Vec<FetchTopicResponse> = Vec::new();
    let mut included = included.iter().copied().peekable();
    for (index, Found { key, answer, .. }) in found.into_iter().enumerate() {
        if included.next_if_eq(&index).is_none() {
            continue;
        }
        match topics.last_mut() {
            Some(topic) if topic.id == key.topic_id && topic.name == key.topic => {
                topic.partitions.push(answer);
            }
            _ => topics.push(FetchTopicResponse {
                name: key.topic,
                id: key.topic_id,
                partitions: vec![answer],
            }),
        }
    }
    topics
}

impl<W> Session<W> {
    fn eviction_key(&self, id: i32) -> EvictionKey {
        EvictionKey { privileged: self.reader.privileged, size: self.size_filed, id }
    }
}

fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        i32::MIN..=FINAL_EPOCH => FINAL_EPOCH,
        i32::MAX => 1,
        _ => epoch + 1,
    }
}

#[cfg(test)]
mod tests;
