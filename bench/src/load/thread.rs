//! One thread of the load: its connections on one tokio-uring runtime, and the second that ends.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use super::consumer::{Consumer, ConsumerPlan};
use super::pacer::Pacer;
use super::producer::{Missing, Producer, ProducerPlan};
use super::tally::{Interval, Shared, Tally};
use crate::clock::Moment;
use crate::error::BenchError;
use crate::measure::cores;
use crate::runtime;

/// How often a thread looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(50);
/// What is under way at the end of the window has so long to come.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// The same after Ctrl-C or a failure.
const SHORT_DRAIN_TIME: Duration = Duration::from_secs(1);

/// The lowest priority that there is.
const NICENESS_MAX: i32 = 19;

/// What a thread will do.
pub struct ThreadPlan {
    /// Its connections that produce.
    pub producers: Vec<ProducerPlan>,
    /// Its connections that fetch.
    pub consumers: Vec<ConsumerPlan>,
    /// Whether it gives way to all other threads.
    pub is_in_background: bool,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// How often each batch is consumed by connections of this run.
    pub groups: u64,
    /// How long no answer may come.
    pub patience: Duration,
    /// After so many bytes the run is over.
    pub bytes_max: u64,
}

/// When a run begins, when it is counted, and when it ends; the same for all of its threads.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The first request falls due.
    pub start: Moment,
    /// The warm-up is over.
    pub counts_from: Moment,
    /// The last request falls due before.
    pub ends: Moment,
}

/// What a thread tells.
pub enum Message {
    /// All of its connections are open.
    Ready,
    /// A second is over: the one that ended so many seconds after the warm-up.
    Second(i64, Interval),
    /// The window is over, be it before its time; what is under way may still come.
    Over,
    /// It is done.
    Done {
        /// What came behind the end of the window.
        rest: Interval,
        /// What never came.
        missing: Missing,
        /// Why it had to stop.
        failure: Option<BenchError>,
    },
}

/// The life of a thread. It ends early, and says nothing, if nobody tells it when to start.
pub fn run(plan: ThreadPlan, tell: Sender<Message>, start: Receiver<Timing>, shared: Arc<Shared>) {
    if let Some(core) = plan.core {
        // The core was checked before; a thread that stays where it was still measures.
        let _ = cores::pin(&[core]);
    }
    if plan.is_in_background {
        // For the calling thread alone, as setpriority(2) says of Linux. To be nicer is always allowed.
        let _ = rustix::process::nice(NICENESS_MAX);
    }
    runtime::start(async {
        let failure = match live(plan, &tell, &start, shared).await {
            Ok(()) => return,
            Err(error) => error,
        };
        let rest = Interval::begin(Moment::now());
        let _ = tell.send(Message::Done { rest, missing: Missing::default(), failure: Some(failure) });
    });
}

async fn live(
    plan: ThreadPlan,
    tell: &Sender<Message>,
    start: &Receiver<Timing>,
    shared: Arc<Shared>,
) -> Result<(), BenchError> {
    let producers: Vec<_> = plan.producers.into_iter().map(Producer::open).collect::<Result<_, _>>()?;
    let consumers: Vec<_> = plan.consumers.into_iter().map(Consumer::open).collect::<Result<_, _>>()?;
    let pacer = Pacer::start()?;
    let _ = tell.send(Message::Ready);
    let Ok(timing) = start.recv() else { return Ok(()) };
    let tally = Tally::new(timing.start, timing.counts_from, timing.ends, plan.bytes_max, shared);
    let tally = Rc::new(if plan.is_in_background { tally.in_background() } else { tally });
    for consumer in consumers {
        consumer.start(&tally);
    }
    let producers: Vec<_> =
        producers.into_iter().map(|producer| producer.start(&tally, &pacer, timing.start)).collect();

    count_seconds(&tally, &pacer, timing, plan.patience, tell).await;
    drain(&tally, &pacer, plan.groups, plan.patience).await;
    let mut missing = Missing::default();
    for producer in &producers {
        let more = producer.count_missing(&tally, timing.start);
        missing.unanswered += more.unanswered;
        missing.unsent += more.unsent;
    }
    pacer.release();
    let _ = tell.send(Message::Done { rest: tally.take_interval(), missing, failure: tally.take_failure() });
    Ok(())
}

/// Until the window is over: tells each second when it ends.
async fn count_seconds(
    tally: &Tally,
    pacer: &Pacer,
    timing: Timing,
    patience: Duration,
    tell: &Sender<Message>,
) {
    let second = Duration::from_secs(1);
    // The seconds are counted from the end of the warm-up; the first of them may be a part of one.
    let warmup_seconds = timing.counts_from.since(timing.start).as_secs() as i64;
    let mut nth = -warmup_seconds;
    let mut boundary = timing.counts_from;
    for _ in 0..warmup_seconds {
        boundary = Moment::from_nanos(boundary.nanos() - second.as_nanos() as u64);
    }
    loop {
        let now = Moment::now();
        pacer.until(now.after(GLANCE).min(boundary).min(tally.ends())).await;
        if tally.shared.is_stopped.load(Relaxed) || tally.is_spent() {
            tally.end_now();
        }
        if tally.shared.open.load(Relaxed) > 0 && tally.silence() > patience {
            tally.fail(BenchError::Silent(format!("nothing came for {:.0} s", patience.as_secs_f64())));
        }
        let is_over = Moment::now() >= tally.ends();
        if is_over || Moment::now() >= boundary {
            // A window may end within a second.
            let _ = tell.send(Message::Second(nth, tally.take_interval()));
            nth += 1;
            boundary = boundary.after(second);
        }
        if is_over {
            let _ = tell.send(Message::Over);
            return;
        }
    }
}

/// What fell due in the window is still sent, answered and consumed, but not for ever.
async fn drain(tally: &Tally, pacer: &Pacer, groups: u64, patience: Duration) {
    let shared = &tally.shared;
    let began = Moment::now();
    loop {
        let is_short = shared.is_stopped.load(Relaxed);
        let limit = if is_short { SHORT_DRAIN_TIME } else { DRAIN_TIME.min(patience) };
        let consumed = shared.stamped_received.load(Relaxed) >= shared.stamped_acked.load(Relaxed) * groups;
        if shared.open.load(Relaxed) <= 0 && consumed || Moment::now().since(began) > limit {
            tally.abandon();
            return;
        }
        pacer.pause(Duration::from_millis(1)).await;
    }
}
