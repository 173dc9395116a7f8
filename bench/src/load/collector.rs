//! Puts together what the threads of a load tell, samples the target beside it, and makes the result.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::settings::LoadSettings;
use super::tally::{Count, Interval, Kind, Latencies, Shared};
use super::thread::{Message, Timing};
use crate::clock::Moment;
use crate::error::BenchError;
use crate::hlog::Line;
use crate::measure::device::{Device, DeviceSample};
use crate::measure::environment::Environment;
use crate::measure::process::{self, ProcessSample};
use crate::result::{
    BrokerCost, ClientCost, DeviceCost, FORMAT, Flow, LatencySummary, LoadResult, RateVerdict, Second,
};

/// A rate is held if so much of it was acknowledged.
const HELD_SHARE: f64 = 0.98;
/// A rate of which the warm-up reaches less is refused.
const REFUSED_SHARE: f64 = 0.8;
/// The first interval of a warm-up may be next to nothing; it is not shown.
const SHOWN_SECOND_S: f64 = 0.2;
/// The warm-up has to be as long before it says anything about a rate.
const TELLING_WARMUP_S: f64 = 2.0;
/// A target's CPU time is known to 10 ms; of a shorter window it says nothing.
const COST_SECONDS_MIN: f64 = 0.1;
/// A thread that is busier than that is the limit, or near it.
const SATURATED_SHARE: f64 = 0.9;
/// A thread that waits longer for its core measures its neighbours.
const DISTURBED_SHARE: f64 = 0.05;

/// The target's process and device, as far as they are known.
pub struct Target {
    pid: Option<u32>,
    device: Option<Device>,
}

#[derive(Clone, Copy, Default)]
struct TargetSample {
    process: Option<ProcessSample>,
    device: Option<DeviceSample>,
}

impl Target {
    /// A process on this machine, and where its data is.
    pub fn new(pid: Option<u32>, data: Option<&Path>) -> Self {
        Self { pid, device: data.and_then(Device::under) }
    }

    fn sample(&self) -> TargetSample {
        TargetSample {
            process: self.pid.and_then(|pid| process::sample(pid).ok()),
            device: self.device.as_ref().map(Device::sample),
        }
    }
}

/// What all threads counted in one second.
#[derive(Default)]
struct Merged {
    threads: usize,
    produced: Count,
    consumed: Count,
    latencies: Latencies,
    /// The longest of the threads' seconds.
    seconds: f64,
    busiest_share: f64,
}

/// Puts a run together.
pub struct Collector {
    timing: Timing,
    target: Target,
    threads: usize,
    asked: Option<f64>,
    may_refuse: bool,
    is_warmup_checked: bool,
    /// By the second that ended then, counted from the end of the warm-up: up to 0 it is the warm-up.
    seconds: BTreeMap<i64, Merged>,
    /// At the end of each second.
    samples: BTreeMap<i64, (Moment, TargetSample)>,
    next_sample: i64,
    rest: Latencies,
    /// Produced behind the window.
    late: Count,
    /// Threads whose window is over, and those that are done.
    over: usize,
    done: usize,
    failure: Option<BenchError>,
    unanswered: u64,
    unsent: u64,
    /// The longest that a thread was measured, and what each used.
    elapsed: f64,
    busy: Duration,
    busiest_share: f64,
    waiting_share: f64,
}

impl Collector {
    /// Nothing has been told.
    pub fn new(settings: &LoadSettings, timing: Timing, target: Target, threads: usize) -> Self {
        let asked = settings.rate.map(|rate| rate.records_per_second(settings.record_bytes));
        Self {
            timing,
            target,
            threads,
            asked,
            may_refuse: asked.is_some() && !settings.overload && settings.warmup >= TELLING_WARMUP_S,
            is_warmup_checked: false,
            seconds: BTreeMap::new(),
            samples: BTreeMap::new(),
            next_sample: 0,
            rest: Latencies::default(),
            late: Count::default(),
            over: 0,
            done: 0,
            failure: None,
            unanswered: 0,
            unsent: 0,
            elapsed: 0.0,
            busy: Duration::ZERO,
            busiest_share: 0.0,
            waiting_share: 0.0,
        }
    }

    /// Whether all threads are done.
    pub fn is_done(&self) -> bool {
        self.done == self.threads
    }

    /// How long until the target is to be looked at.
    pub fn until_next_sample(&self) -> Duration {
        let due = self.timing.counts_from.after(Duration::from_secs(self.next_sample as u64));
        due.since(Moment::now()).min(Duration::from_millis(100))
    }

    /// Looks at the target, if it is time.
    pub fn sample(&mut self) {
        let now = Moment::now();
        let due =
            self.timing.counts_from.after(Duration::from_secs(self.next_sample as u64)).min(self.timing.ends);
        if now >= due && self.samples.last_key_value().is_none_or(|(_, (at, _))| *at < self.timing.ends) {
            self.samples.insert(self.next_sample, (now, self.target.sample()));
            // A sample that came late takes the place of those that were missed.
            self.next_sample = now.since(self.timing.counts_from).as_secs() as i64 + 1;
        }
    }

    /// Takes in a thread's word; gives a line to show when a second is whole.
    pub fn take(&mut self, message: Message) -> Option<String> {
        match message {
            Message::Ready => None,
            Message::Second(nth, interval) => self.take_second(nth, interval),
            Message::Over => {
                self.over += 1;
                if self.over == self.threads {
                    // The target is looked at once more now, so that its cost is that of the time that counts.
                    self.timing.ends = self.timing.ends.min(Moment::now());
                }
                None
            }
            Message::Done { rest, missing, failure } => {
                self.rest.add(&rest.latencies);
                self.late.merge(rest.produced);
                self.done += 1;
                self.unanswered += missing.unanswered;
                self.unsent += missing.unsent;
                self.failure = self.failure.take().or(failure);
                None
            }
        }
    }

    fn take_second(&mut self, nth: i64, interval: Interval) -> Option<String> {
        let seconds = interval.until.since(interval.from).as_secs_f64();
        let share = interval.times.busy.as_secs_f64() / seconds.max(1e-9);
        if nth > 0 {
            self.busy += interval.times.busy;
        }
        let merged = self.seconds.entry(nth).or_default();
        merged.threads += 1;
        merged.produced.merge(interval.produced);
        merged.consumed.merge(interval.consumed);
        merged.latencies.add(&interval.latencies);
        merged.seconds = merged.seconds.max(seconds);
        merged.busiest_share = merged.busiest_share.max(share);
        if nth > 0 {
            let waiting = interval.times.waited.as_secs_f64();
            self.waiting_share = self.waiting_share.max(waiting / seconds.max(1e-9));
        }
        let is_whole = self.seconds[&nth].threads == self.threads && seconds > SHOWN_SECOND_S;
        is_whole.then(|| self.progress_line(nth))
    }

    fn progress_line(&self, nth: i64) -> String {
        let merged = &self.seconds[&nth];
        let per_second = |count: u64| count as f64 / merged.seconds.max(1e-9);
        let mut line = format!("{nth:>4} s  ");
        if merged.produced.requests > 0 || self.asked.is_some() {
            let megabytes = per_second(merged.produced.bytes) / 1e6;
            line +=
                &format!("{:>9.0} records/s {megabytes:>7.1} MB/s  ", per_second(merged.produced.records));
        }
        if merged.consumed.requests > 0 {
            line += &format!("out {:>7.1} MB/s  ", per_second(merged.consumed.bytes) / 1e6);
        }
        if let Some(acks) = merged.latencies.of(Kind::Ack) {
            let at = |percentile| acks.value_at_percentile(percentile) as f64 / 1e6;
            line += &format!("ack p50 {:.2} p99 {:.2} max {:.2} ms  ", at(50.0), at(99.0), at(100.0));
        }
        let phase = if nth <= 0 { "  (warm-up)" } else { "" };
        line + &format!("load {:.0} %{phase}", merged.busiest_share * 100.0)
    }

    /// Whether the warm-up came near the rate that was asked for.
    pub fn check_warmup(&mut self) -> Result<(), BenchError> {
        let Some(last) = self.seconds.get(&0).filter(|last| last.threads == self.threads) else {
            return Ok(());
        };
        if self.is_warmup_checked || !self.may_refuse {
            return Ok(());
        }
        self.is_warmup_checked = true;
        let asked = self.asked.expect("only an open loop may be refused");
        let reached = last.produced.records as f64 / last.seconds;
        if reached >= asked * REFUSED_SHARE {
            return Ok(());
        }
        let limit = if last.busiest_share >= SATURATED_SHARE {
            format!("the load is the limit, busy {:.0} %: give it --threads", last.busiest_share * 100.0)
        } else {
            "the target, or a connection's --depth, is the limit".to_owned()
        };
        Err(BenchError::Refused(format!(
            "an impossible rate: {asked:.0} records a second were asked for, and {reached:.0} reached at the end of the warm-up; {limit}. Measure at a lower --rate, or say --overload to measure how it queues"
        )))
    }

    /// The lines of the interval log: the window's seconds, and what was still to come.
    pub fn log_lines(&self) -> impl Iterator<Item = Line<'_>> {
        let seconds = self.measured().map(|(nth, merged)| (*nth - 1, merged.seconds, &merged.latencies));
        let behind = self.measured().last().map_or(0, |(nth, _)| *nth);
        let rest = std::iter::once((behind, 1.0, &self.rest));
        seconds.chain(rest).flat_map(|(at, seconds, latencies)| {
            Kind::ALL.into_iter().filter_map(move |kind| {
                let histogram = latencies.of(kind)?;
                let at = Duration::from_secs(at.max(0) as u64);
                Some(Line { tag: kind.name(), at, duration: Duration::from_secs_f64(seconds), histogram })
            })
        })
    }

    fn measured(&self) -> impl Iterator<Item = (&i64, &Merged)> {
        self.seconds.range(1..)
    }

    /// The whole result.
    pub fn result(
        &mut self,
        settings: &LoadSettings,
        environment: Environment,
        started: SystemTime,
        shared: &Shared,
        is_interrupted: bool,
    ) -> LoadResult {
        self.elapsed = self.measured().map(|(_, merged)| merged.seconds).sum();
        self.busiest_share = self.weighted(|merged| merged.busiest_share);
        let (mut produced, mut consumed, mut latencies) =
            (Count::default(), Count::default(), self.rest.clone());
        for (_, merged) in self.seconds.range(1..) {
            produced.merge(merged.produced);
            consumed.merge(merged.consumed);
            latencies.add(&merged.latencies);
        }
        let groups = if settings.consumers > 0 { settings.groups as u64 } else { 0 };
        let expected = shared.stamped_acked.load(Relaxed) * groups;
        let undelivered = expected.saturating_sub(shared.stamped_received.load(Relaxed));
        let summary = |kind| latencies.of(kind).and_then(LatencySummary::of);
        let produced_flow = (settings.connections > 0).then(|| self.flow(produced));
        let mut result = LoadResult {
            format: FORMAT.to_owned(),
            label: settings.label.clone(),
            target: settings.bootstrap.clone(),
            started_unix_ms: started.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            environment,
            settings: settings.clone(),
            seconds: self.elapsed,
            ended: self.ended(settings, shared, is_interrupted),
            produced: produced_flow,
            consumed: (settings.consumers > 0).then(|| self.flow(consumed)),
            rate: self.asked.zip(produced_flow).map(|(asked, flow)| RateVerdict {
                asked,
                reached: flow.records_per_second,
                is_held: flow.records_per_second >= asked * HELD_SHARE && self.unsent == 0,
            }),
            ack: summary(Kind::Ack),
            service: settings.rate.and_then(|_| summary(Kind::Service)),
            send_slip: settings.rate.and_then(|_| summary(Kind::Slip)),
            end_to_end: summary(Kind::EndToEnd),
            uncounted_records: self.late.records
                + self.seconds.range(..1).map(|(_, merged)| merged.produced.records).sum::<u64>(),
            unanswered: self.unanswered,
            unsent: self.unsent,
            undelivered,
            client: self.client_cost(),
            broker: self.broker_cost(produced, consumed),
            device: self.device_cost(produced),
            series: self.series(),
            warnings: Vec::new(),
        };
        result.warnings = warnings(&result);
        result
    }

    fn ended(&self, settings: &LoadSettings, shared: &Shared, is_interrupted: bool) -> String {
        if let Some(failure) = &self.failure {
            return failure.to_string();
        }
        let is_spent = settings.bytes_max.is_some_and(|most| shared.bytes_sent.load(Relaxed) >= most);
        if is_interrupted {
            "interrupted"
        } else if is_spent {
            "bytes"
        } else {
            "time"
        }
        .to_owned()
    }

    fn flow(&self, count: Count) -> Flow {
        let per_second = |count: u64| if self.elapsed > 0.0 { count as f64 / self.elapsed } else { 0.0 };
        Flow {
            requests: count.requests,
            records: count.records,
            bytes: count.bytes,
            requests_per_second: per_second(count.requests),
            records_per_second: per_second(count.records),
            megabytes_per_second: per_second(count.bytes) / 1e6,
        }
    }

    fn client_cost(&self) -> ClientCost {
        client_cost(self.busy, self.busiest_share, self.waiting_share)
    }

    /// The mean over the window.
    fn weighted(&self, value: impl Fn(&Merged) -> f64) -> f64 {
        let sum: f64 = self.measured().map(|(_, merged)| value(merged) * merged.seconds).sum();
        if self.elapsed > 0.0 { sum / self.elapsed } else { 0.0 }
    }

    /// What the first and the last look in the window saw, and the seconds between, if they are enough.
    fn ends<T: Copy>(&self, seen: impl Fn(&TargetSample) -> Option<T>) -> Option<(T, T, f64)> {
        let mut looks = self.samples.values().filter_map(|(at, sample)| Some((*at, seen(sample)?)));
        let (first_at, first) = looks.next()?;
        let (last_at, last) = looks.last()?;
        let seconds = last_at.since(first_at).as_secs_f64();
        (seconds >= COST_SECONDS_MIN).then_some((first, last, seconds))
    }

    fn broker_cost(&self, produced: Count, consumed: Count) -> Option<BrokerCost> {
        let (first, last, seconds) = self.ends(|sample| sample.process)?;
        let cpu_seconds = last.cpu_seconds - first.cpu_seconds;
        // What a process that is gone has used since it was last seen, for what is counted, nobody knows.
        let is_whole = self.samples.last_key_value().is_some_and(|(_, (_, last))| last.process.is_some());
        let (bytes, requests) = (produced.bytes + consumed.bytes, produced.requests + consumed.requests);
        let rss = self.samples.values().filter_map(|(_, sample)| Some(sample.process?.rss_bytes));
        Some(BrokerCost {
            pid: self.target.pid?,
            cpu_seconds,
            cores: cpu_seconds / seconds,
            cpu_seconds_per_gb: (is_whole && bytes > 0).then(|| cpu_seconds / (bytes as f64 / 1e9)),
            cpu_us_per_request: (is_whole && requests > 0).then(|| cpu_seconds * 1e6 / requests as f64),
            rss_bytes_max: rss.max().unwrap_or(0),
            read_bytes: last.read_bytes.saturating_sub(first.read_bytes),
            write_bytes: last.write_bytes.saturating_sub(first.write_bytes),
        })
    }

    fn device_cost(&self, produced: Count) -> Option<DeviceCost> {
        let (first, last, seconds) = self.ends(|sample| sample.device)?;
        let done = last.since(first);
        Some(DeviceCost {
            name: self.target.device.as_ref()?.name.clone(),
            read_bytes: done.read_bytes,
            written_bytes: done.written_bytes,
            written_per_produced: (produced.bytes > 0)
                .then(|| done.written_bytes as f64 / produced.bytes as f64),
            writes_per_second: done.writes as f64 / seconds,
            flushes_per_second: done.flushes as f64 / seconds,
        })
    }

    fn series(&self) -> Vec<Second> {
        let mut before = self.samples.get(&0).copied();
        let second = |(nth, merged): (&i64, &Merged)| {
            let per_second = |count: u64| count as f64 / merged.seconds.max(1e-9);
            let acks = merged.latencies.of(Kind::Ack);
            let ack = |percentile| acks.map_or(0.0, |acks| acks.value_at_percentile(percentile) as f64 / 1e3);
            let deliveries = merged.latencies.of(Kind::EndToEnd);
            let mut second = Second {
                at: *nth as f64,
                records_per_second: per_second(merged.produced.records),
                produced_megabytes_per_second: per_second(merged.produced.bytes) / 1e6,
                consumed_megabytes_per_second: per_second(merged.consumed.bytes) / 1e6,
                ack_p50_us: ack(50.0),
                ack_p99_us: ack(99.0),
                ack_max_us: ack(100.0),
                end_to_end_p99_us: deliveries.map_or(0.0, |all| all.value_at_percentile(99.0) as f64 / 1e3),
                client_share: merged.busiest_share,
                ..Second::default()
            };
            if let (Some((from, earlier)), Some((at, sample))) = (before, self.samples.get(nth).copied()) {
                let seconds = at.since(from).as_secs_f64();
                if let (Some(now), Some(then)) = (sample.process, earlier.process) {
                    if seconds >= COST_SECONDS_MIN {
                        second.broker_cores = (now.cpu_seconds - then.cpu_seconds) / seconds;
                    }
                    second.broker_rss_bytes = now.rss_bytes;
                }
                if let (Some(now), Some(then)) = (sample.device, earlier.device) {
                    let done = now.since(then);
                    second.device_written_bytes = done.written_bytes;
                    second.device_write_ms = done.write_ms();
                    second.device_flush_ms = done.flush_ms();
                }
                before = Some((at, sample));
            }
            second
        };
        self.measured().map(second).collect()
    }
}

/// Shares are of one core. A thread that had to wait for its core would have used it.
fn client_cost(busy: Duration, busiest_share: f64, waiting_share: f64) -> ClientCost {
    ClientCost {
        cpu_seconds: busy.as_secs_f64(),
        busiest_thread_share: busiest_share,
        waiting_share,
        is_saturated: busiest_share >= SATURATED_SHARE
            || busiest_share >= SATURATED_SHARE / 2.0 && busiest_share + waiting_share >= SATURATED_SHARE,
    }
}

fn client_warning(client: &ClientCost) -> Option<String> {
    let (busy, waited) = (client.busiest_thread_share * 100.0, client.waiting_share * 100.0);
    if client.is_saturated {
        return Some(format!(
            "the load was the limit: its busiest thread used {busy:.0} % of a core and waited {waited:.0} % for one; rates and latencies are at least partly the load's own"
        ));
    }
    (client.waiting_share > DISTURBED_SHARE).then(|| {
        format!("the load waited up to {waited:.0} % of a second for its core: others use this machine")
    })
}

/// What a reader should know before believing the figures.
fn warnings(result: &LoadResult) -> Vec<String> {
    let mut warnings: Vec<_> = client_warning(&result.client).into_iter().collect();
    if result.seconds < COST_SECONDS_MIN {
        warnings.push(format!(
            "{:.3} s were counted: what the target and its device cost cannot be told of less than {COST_SECONDS_MIN} s",
            result.seconds
        ));
    }
    if let Some(rate) = result.rate.filter(|rate| !rate.is_held) {
        warnings.push(format!(
            "the rate was not held: {:.0} of {:.0} records a second; latencies are those of a queue that grows",
            rate.reached, rate.asked
        ));
    }
    if result.rate.is_none() && result.ack.is_some() {
        warnings
            .push("a closed loop: latencies are those of connections that wait for each other".to_owned());
    }
    for (count, what) in [
        (result.unanswered, "requests were never answered; they count as having taken until the end"),
        (result.unsent, "requests fell due and were never sent; they count as having taken until the end"),
        (result.undelivered, "acknowledged batches had not been consumed at the end"),
    ] {
        if count > 0 {
            warnings.push(format!("{count} {what}"));
        }
    }
    if result.settings.consumers > 0 && result.settings.connections > 0 && !result.settings.is_stamped() {
        warnings.push("compressed batches carry no stamp: no end-to-end latency".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_was_the_limit_is_named_and_one_that_was_disturbed() {
        let warning = |busy, waited| client_warning(&client_cost(Duration::ZERO, busy, waited));
        assert!(warning(0.95, 0.0).is_some_and(|words| words.contains("the load was the limit")));
        // Somebody else had the other half of its core.
        assert!(warning(0.5, 0.45).is_some_and(|words| words.contains("the load was the limit")));
        assert!(warning(0.2, 0.3).is_some_and(|words| words.contains("others use this machine")));
        assert_eq!(warning(0.5, 0.01), None);
    }

    /// A collector of one thread that looks at this process, for a hundred seconds from now on.
    fn collector() -> Collector {
        let began = Moment::now();
        let timing = Timing { start: began, counts_from: began, ends: began.after(Duration::from_secs(100)) };
        Collector::new(&LoadSettings::default(), timing, Target::new(Some(std::process::id()), None), 1)
    }

    fn result(mut collector: Collector, until: Moment) -> LoadResult {
        let mut interval = Interval::begin(collector.timing.counts_from);
        interval.until = until;
        interval.produced.add(1000, 1_000_000);
        collector.take(Message::Second(1, interval));
        collector.take(Message::Over);
        collector.sample();
        let (settings, environment) = (LoadSettings::default(), Environment::default());
        collector.result(&settings, environment, SystemTime::now(), &Shared::default(), false)
    }

    #[test]
    fn a_window_that_ends_before_its_time_is_costed_to_its_end() {
        let mut collector = collector();
        collector.sample();
        let cpu_seconds = || process::sample(std::process::id()).expect("it runs").cpu_seconds;
        let (began, used) = (collector.timing.counts_from, cpu_seconds());
        while cpu_seconds() < used + 0.2 || Moment::now().since(began) < Duration::from_millis(200) {}
        let result = result(collector, Moment::now());
        let broker = result.broker.expect("it was looked at twice");
        assert!(broker.cpu_seconds > 0.19 && broker.cores > 0.0, "{broker:?}");
        assert!(broker.cpu_us_per_request.is_some_and(|us| us > 190_000.0), "{broker:?}");
        assert!(result.series[0].broker_cores > 0.0, "{:?}", result.series);
    }

    #[test]
    fn a_target_that_is_gone_at_the_end_is_costed_while_it_was_there() {
        let mut collector = collector();
        let began = collector.timing.counts_from;
        let at = |millis| began.after(Duration::from_millis(millis));
        let sample = collector.target.sample();
        let gone = TargetSample::default();
        collector.samples.extend([(0, (began, sample)), (1, (at(1000), sample)), (2, (at(1500), gone))]);
        collector.timing.ends = at(1500);
        let broker = result(collector, at(1500)).broker.expect("it was there for a second");
        assert!(broker.rss_bytes_max > 0 && broker.cores == 0.0, "{broker:?}");
        assert_eq!((broker.cpu_seconds_per_gb, broker.cpu_us_per_request), (None, None));
    }

    #[test]
    fn a_window_of_a_few_milliseconds_says_nothing_of_costs() {
        let mut collector = collector();
        let began = collector.timing.counts_from;
        let ended = began.after(Duration::from_millis(3));
        let sample = collector.target.sample();
        collector.samples.extend([(0, (began, sample)), (1, (ended, sample))]);
        collector.timing.ends = ended;
        let result = result(collector, ended);
        assert!(sample.process.is_some() && result.broker.is_none(), "{:?}", result.broker);
        assert!(
            result.warnings.iter().any(|words| words.contains("cannot be told")),
            "{:?}",
            result.warnings
        );
    }
}
