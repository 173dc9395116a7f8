//! One connection that fetches some partitions, one request at a time, and looks for stamps.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use super::connection::{self, Answers};
use super::tally::{Kind, Tally};
use crate::clock::Moment;
use crate::error::BenchError;
use crate::protocol::requests::FetchTemplate;
use crate::protocol::{answers, batches, codes, explain};
use tokio_uring::net::TcpStream;

/// What one connection will do.
pub struct ConsumerPlan {
    /// The broker that leads the partitions.
    pub leader: SocketAddr,
    /// The partitions.
    pub partitions: Vec<i32>,
    /// Where it begins, for each partition.
    pub offsets: Vec<i64>,
    /// The request.
    pub template: FetchTemplate,
    /// Its version.
    pub version: i16,
    /// Whether it starts over at the end.
    pub again: bool,
    /// It asks, and never reads.
    pub is_stalled: bool,
}

/// A connection that is ready to fetch.
pub struct Consumer {
    plan: ConsumerPlan,
    stream: TcpStream,
    /// Partition -> its place in the plan.
    places: HashMap<i32, usize>,
    /// The first offset of each partition that is there.
    starts: Vec<i64>,
}

impl Consumer {
    /// Connects.
    pub fn open(plan: ConsumerPlan) -> Result<Self, BenchError> {
        Ok(Self {
            stream: connection::open(plan.leader)?,
            places: plan
                .partitions
                .iter()
                .enumerate()
                .map(|(place, partition)| (*partition, place))
                .collect(),
            starts: vec![0; plan.partitions.len()],
            plan,
        })
    }

    /// Starts its task.
    pub fn start(mut self, tally: &Rc<Tally>) {
        let tally = tally.clone();
        tokio_uring::spawn(async move {
            let done = if self.plan.is_stalled { self.stall().await } else { self.read(&tally).await };
            if let Err(error) = done {
                tally.fail(error);
            }
        });
    }

    /// Asks and never reads. The connection stays open for as long as the task does.
    async fn stall(&mut self) -> Result<(), BenchError> {
        let mut request = std::mem::take(&mut self.plan.template.bytes);
        for _ in 0..16 {
            request = connection::send(&self.stream, request).await?;
        }
        std::future::pending().await
    }

    /// Goes on beyond the end of the window: what was produced in it is still to come.
    async fn read(&mut self, tally: &Tally) -> Result<(), BenchError> {
        let mut answers = Answers::new();
        let mut correlation_id = 0_i32;
        loop {
            self.plan.template.prepare(correlation_id, &self.plan.offsets);
            let request = std::mem::take(&mut self.plan.template.bytes);
            self.plan.template.bytes = connection::send(&self.stream, request).await?;
            let place = answers.take(&self.stream).await?;
            let frame = answers.frame(place);
            let found = answers::correlation_id(frame).map_err(BenchError::codec)?;
            if found != correlation_id {
                return Err(BenchError::Broker(format!(
                    "answer {found} came where {correlation_id} was due"
                )));
            }
            self.take_in(frame, tally)?;
            correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        }
    }

    fn take_in(&mut self, frame: &[u8], tally: &Tally) -> Result<(), BenchError> {
        let now = Moment::now();
        let (mut records, mut bytes) = (0, 0);
        let mut wrong = None;
        let (places, starts, offsets) = (&self.places, &mut self.starts, &mut self.plan.offsets);
        let again = self.plan.again;
        let whole = answers::fetch(frame, self.plan.version, |fetched| {
            let Some(place) = places.get(&fetched.partition).copied() else { return };
            starts[place] = starts[place].max(fetched.log_start_offset);
            match fetched.error_code {
                0 => {}
                codes::OFFSET_OUT_OF_RANGE => offsets[place] = starts[place],
                code if codes::is_passing(code) && tally.is_settling() => return,
                code => wrong = Some((fetched.partition, code)),
            }
            let mut is_empty = true;
            for batch in batches::whole_batches(fetched.records) {
                is_empty = false;
                // A broker gives whole batches, so the first may begin before what was asked for.
                if batch.next_offset <= offsets[place] {
                    continue;
                }
                offsets[place] = batch.next_offset;
                records += batch.records;
                bytes += batch.bytes.len() as u64;
                if let Some(stamp) = batches::stamp(batch.bytes) {
                    tally.latency(Kind::EndToEnd, stamp, now.nanos_since(stamp));
                    if tally.is_measured(stamp) {
                        tally.shared.stamped_received.fetch_add(1, Relaxed);
                    }
                }
            }
            if is_empty && again {
                offsets[place] = starts[place];
            }
        })
        .map_err(BenchError::codec)?;
        match wrong {
            Some((partition, code)) => {
                return Err(BenchError::Broker(format!("Fetch of partition {partition}: {}", explain(code))));
            }
            None if whole != 0 => return Err(BenchError::Broker(format!("Fetch: {}", explain(whole)))),
            None => {}
        }
        tally.consumed(records, bytes);
        Ok(())
    }
}
