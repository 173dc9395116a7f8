//! One connection that produces: one task sends what falls due, another takes the answers.
//!
//! In an open loop request `k` falls due at a moment that was fixed before the run, and is late from then on,
//! whatever keeps it: this thread, the connection's depth, the socket, or the target.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};

use tokio_uring::net::TcpStream;

use super::connection::{self, Answers};
use super::pacer::Pacer;
use super::tally::{Kind, Tally};
use crate::clock::Moment;
use crate::error::BenchError;
use crate::protocol::requests::ProduceTemplate;
use crate::protocol::{answers, codes, explain};

/// Requests that are shorter go out together in one write, if several have fallen due.
const JOINED_BYTES_MAX: usize = 16 * 1024;

/// What one connection will do.
pub struct ProducerPlan {
    /// The broker that leads the partitions.
    pub leader: SocketAddr,
    /// The connection, if it is open already.
    pub stream: Option<std::net::TcpStream>,
    /// The requests, sent in turn.
    pub templates: Vec<ProduceTemplate>,
    /// The version of the requests.
    pub version: i16,
    /// Requests in flight.
    pub depth: usize,
    /// 0, 1 or −1.
    pub acks: i16,
    /// When requests fall due; without it, when an answer has come.
    pub schedule: Option<Schedule>,
    /// Whether a consumer will look for what was sent.
    pub is_awaited: bool,
}

/// When this connection's requests fall due: its turn among all connections, at equal distances.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Requests a second of all connections.
    pub requests_per_second: f64,
    /// Which connection this is.
    pub index: usize,
    /// Of how many.
    pub connections: usize,
}

impl Schedule {
    /// When request `nth` of this connection falls due.
    pub fn due(&self, start: Moment, nth: u64) -> Moment {
        let turn = (nth as f64 * self.connections as f64) + self.index as f64;
        start.after(std::time::Duration::from_secs_f64(turn / self.requests_per_second))
    }
}

/// A connection that is ready to produce.
pub struct Producer {
    plan: ProducerPlan,
    stream: TcpStream,
    in_flight: RefCell<VecDeque<InFlight>>,
    /// The sender, if it waits for an answer.
    waiting: RefCell<Option<Waker>>,
    /// The next request of the schedule.
    next: Cell<u64>,
}

struct InFlight {
    correlation_id: i32,
    intended: Moment,
    sent: Moment,
    records: u64,
    bytes: u64,
    batches: u64,
}

/// What was due in the window and never acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Missing {
    /// Sent, and not answered.
    pub unanswered: u64,
    /// Never sent.
    pub unsent: u64,
}

impl Producer {
    /// Connects.
    pub fn open(mut plan: ProducerPlan) -> Result<Self, BenchError> {
        let opened = plan.stream.take().map(TcpStream::from_std);
        Ok(Self {
            stream: opened.map_or_else(|| connection::open(plan.leader), Ok)?,
            in_flight: RefCell::new(VecDeque::with_capacity(plan.depth)),
            waiting: RefCell::new(None),
            next: Cell::new(0),
            plan,
        })
    }

    /// Starts both tasks. `templates` are taken out of the plan.
    pub fn start(mut self, tally: &Rc<Tally>, pacer: &Rc<Pacer>, start: Moment) -> Rc<Self> {
        let templates = std::mem::take(&mut self.plan.templates);
        let producer = Rc::new(self);
        tally.shared.open.fetch_add(1, Relaxed);
        let (sender, counts, clock) = (producer.clone(), tally.clone(), pacer.clone());
        tokio_uring::spawn(async move {
            if let Err(error) = sender.send(templates, &counts, &clock, start).await {
                counts.fail(error);
            }
            counts.shared.open.fetch_sub(1, Relaxed);
        });
        if producer.plan.acks != 0 {
            let (receiver, counts) = (producer.clone(), tally.clone());
            tokio_uring::spawn(async move {
                if let Err(error) = receiver.receive(&counts).await {
                    counts.fail(error);
                }
            });
        }
        producer
    }

    /// Records what never came: it took at least until now.
    pub fn count_missing(&self, tally: &Tally, start: Moment) -> Missing {
        let now = Moment::now();
        let mut missing = Missing::default();
        for request in self.in_flight.borrow().iter().filter(|request| tally.is_measured(request.intended)) {
            missing.unanswered += 1;
            tally.latency(Kind::Ack, request.intended, now.nanos_since(request.intended));
        }
        let Some(schedule) = self.plan.schedule else { return missing };
        // Where the run ended because all was sent that it may send, nobody waits for the rest; but how late it was counts.
        let spent_at = tally.spent_at();
        let ends = spent_at.map_or(tally.ends(), |spent_at| spent_at.min(tally.ends()));
        let late_until = spent_at.unwrap_or(now);
        for nth in self.next.get().. {
            let due = schedule.due(start, nth);
            if due >= ends {
                break;
            }
            if tally.is_measured(due) {
                missing.unsent += u64::from(spent_at.is_none());
                tally.latency(Kind::Ack, due, late_until.nanos_since(due));
                tally.latency(Kind::Slip, due, late_until.nanos_since(due));
            }
        }
        missing
    }

    async fn send(
        &self,
        mut templates: Vec<ProduceTemplate>,
        tally: &Tally,
        pacer: &Pacer,
        start: Moment,
    ) -> Result<(), BenchError> {
        let mut joined = Vec::new();
        loop {
            let Some(due) = self.next_due(start, tally) else { return Ok(()) };
            pacer.until(due).await;
            self.room(tally).await;
            joined.clear();
            // All that has fallen due and has room; large requests one by one.
            while let Some(due) = self.next_due(start, tally) {
                if due > Moment::now() || !self.has_room() {
                    break;
                }
                let nth = self.next.replace(self.next.get() + 1);
                let turn = nth % templates.len() as u64;
                let template = &mut templates[turn as usize];
                self.launch(template, nth as i32 & i32::MAX, due, tally);
                if template.bytes.len() + joined.len() <= JOINED_BYTES_MAX {
                    joined.extend_from_slice(&template.bytes);
                    continue;
                }
                if !joined.is_empty() {
                    joined = connection::send(&self.stream, joined).await?;
                    joined.clear();
                }
                let request = std::mem::take(&mut template.bytes);
                template.bytes = connection::send(&self.stream, request).await?;
            }
            if !joined.is_empty() {
                joined = connection::send(&self.stream, joined).await?;
            }
        }
    }

    /// When the next request falls due; `None` if there is none in the window. In a closed loop: now.
    fn next_due(&self, start: Moment, tally: &Tally) -> Option<Moment> {
        if tally.is_abandoned() || tally.is_spent() {
            return None;
        }
        let due = match self.plan.schedule {
            Some(schedule) => schedule.due(start, self.next.get()),
            None => Moment::now().max(start),
        };
        (due < tally.ends()).then_some(due)
    }

    /// Books a request as sent now.
    fn launch(&self, template: &mut ProduceTemplate, correlation_id: i32, intended: Moment, tally: &Tally) {
        template.prepare(correlation_id, intended);
        let sent = Moment::now();
        tally.sent(template.batch_bytes);
        tally.latency(Kind::Slip, intended, sent.nanos_since(intended));
        let (records, bytes, batches) = (template.records, template.batch_bytes, template.batch_count());
        if self.plan.acks == 0 {
            tally.produced(records, bytes);
            return;
        }
        tally.shared.open.fetch_add(1, Relaxed);
        let request = InFlight { correlation_id, intended, sent, records, bytes, batches };
        self.in_flight.borrow_mut().push_back(request);
    }

    fn has_room(&self) -> bool {
        self.in_flight.borrow().len() < self.plan.depth
    }

    /// Waits until another request may be in flight, or nothing will be sent any more.
    async fn room(&self, tally: &Tally) {
        poll_fn(|context| {
            if self.has_room() || tally.is_abandoned() {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    async fn receive(&self, tally: &Tally) -> Result<(), BenchError> {
        let mut answers = Answers::new();
        loop {
            let mut frame = Some(answers.take(&self.stream).await?);
            while let Some(place) = frame {
                self.answered(answers.frame(place), tally)?;
                frame = answers.take_pending();
            }
            if let Some(sender) = self.waiting.borrow_mut().take() {
                sender.wake();
            }
        }
    }

    fn answered(&self, frame: &[u8], tally: &Tally) -> Result<(), BenchError> {
        let request = self.in_flight.borrow_mut().pop_front();
        let request =
            request.ok_or_else(|| BenchError::Broker("an answer that nobody asked for".to_owned()))?;
        tally.shared.open.fetch_sub(1, Relaxed);
        if !self.check(frame, request.correlation_id, tally)? {
            return Ok(());
        }
        let now = Moment::now();
        tally.produced(request.records, request.bytes);
        tally.latency(Kind::Ack, request.intended, now.nanos_since(request.intended));
        tally.latency(Kind::Service, request.intended, now.nanos_since(request.sent));
        if self.plan.is_awaited && tally.is_measured(request.intended) {
            tally.shared.stamped_acked.fetch_add(request.batches, Relaxed);
        }
        Ok(())
    }

    /// Whether all went well. A broker may need a moment before it leads a topic that it has just created; that
    /// is no failure.
    fn check(&self, frame: &[u8], expected_id: i32, tally: &Tally) -> Result<bool, BenchError> {
        let found = answers::correlation_id(frame).map_err(BenchError::codec)?;
        if found != expected_id {
            return Err(BenchError::Broker(format!("answer {found} came where {expected_id} was due")));
        }
        let mut wrong = None;
        answers::produce(frame, self.plan.version, |produced| {
            if produced.error_code != 0 {
                wrong = Some(produced);
            }
        })
        .map_err(BenchError::codec)?;
        match wrong {
            None => Ok(true),
            Some(produced) if codes::is_passing(produced.error_code) && tally.is_settling() => Ok(false),
            Some(produced) => Err(BenchError::Broker(format!(
                "Produce to partition {}: {}",
                produced.partition,
                explain(produced.error_code)
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    /// What is missing of a connection that sent nothing of 100 requests a second for a second, of a run that may send
    /// `bytes_max` and sent ten. How many latencies there are then, and the largest in milliseconds.
    fn missing_after_a_second(bytes_max: u64) -> (Missing, u64, u64) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let plan = ProducerPlan {
            leader: listener.local_addr().expect("it is bound"),
            stream: None,
            templates: Vec::new(),
            version: 9,
            depth: 5,
            acks: -1,
            schedule: Some(Schedule { requests_per_second: 100.0, index: 0, connections: 1 }),
            is_awaited: false,
        };
        tokio_uring::start(async {
            let producer = Producer::open(plan).expect("it listens");
            let start = Moment::from_nanos(Moment::now().nanos() - 1_000_000_000);
            let tally =
                Tally::new(start, start, start.after(Duration::from_secs(1)), bytes_max, Arc::default());
            tally.sent(10);
            let missing = producer.count_missing(&tally, start);
            let interval = tally.take_interval();
            let acks = interval.latencies.of(Kind::Ack).expect("some fell due");
            (missing, acks.len(), acks.max() / 1_000_000)
        })
    }

    #[test]
    fn what_was_late_counts_also_where_a_run_ends_with_its_bytes() {
        let (missing, count, longest_ms) = missing_after_a_second(u64::MAX);
        assert_eq!((missing.unsent, count), (100, 100));
        assert!(longest_ms >= 1000, "{longest_ms}");
        let (missing, count, longest_ms) = missing_after_a_second(10);
        assert_eq!((missing.unsent, count), (0, 100), "nobody waits for them, but they were late");
        assert!(longest_ms >= 1000, "{longest_ms}");
    }

    #[test]
    fn connections_take_turns_at_equal_distances() {
        let start = Moment::from_nanos(1_000_000_000);
        let schedule = |index| Schedule { requests_per_second: 1000.0, index, connections: 4 };
        assert_eq!(schedule(0).due(start, 0), start);
        assert_eq!(schedule(3).due(start, 0).nanos_since(start), 3_000_000);
        assert_eq!(schedule(1).due(start, 2).nanos_since(start), 9_000_000);
        // An hour on it has not drifted.
        assert_eq!(schedule(0).due(start, 900_000).nanos_since(start), 3_600_000_000_000);
    }
}
