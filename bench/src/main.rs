//! The binary `flumen-bench`: load for brokers that speak Kafka's protocol, and what it costs them.
//!
//! It measures any broker from the outside, Apache Kafka as well as Flumen, and imports nothing of the
//! engine. Results are one JSON object a run, on the standard output.

#![forbid(unsafe_code)]

mod admin;
mod client;
mod load;
mod process;
mod report;

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::load::{BenchError, Load, Work};

/// Load for brokers that speak Kafka's protocol, and what it costs them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Raw requests over many connections, from one thread.
    #[command(subcommand)]
    Raw(Raw),
    /// Creates a topic and waits for its leaders, or deletes one.
    Topic(Topic),
}

#[derive(Args)]
struct Topic {
    /// The broker's address.
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// How many partitions it gets.
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// Its settings: key=value.
    #[arg(long = "config")]
    configs: Vec<String>,
    /// Delete it.
    #[arg(long)]
    delete: bool,
}

#[derive(Subcommand)]
enum Raw {
    /// Produce requests, each with one batch a partition.
    Produce(Produce),
    /// Fetch requests over what there is, from the beginning, over and over.
    Fetch(Fetch),
}

#[derive(Args)]
struct Common {
    /// The broker's address.
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// The topic; it is created where it does not exist.
    #[arg(long)]
    topic: String,
    /// Partitions of the topic, if it is created.
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// Settings of the topic, if it is created: key=value.
    #[arg(long = "config")]
    configs: Vec<String>,
    /// Connections, each with its own partition in turn.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Seconds before anything is counted.
    #[arg(long, default_value_t = 3.0)]
    warmup: f64,
    /// Seconds that are counted.
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    /// The broker's process, whose CPU time is then reported.
    #[arg(long)]
    pid: Option<u32>,
    /// A name for the run, repeated in the result.
    #[arg(long, default_value = "")]
    label: String,
}

#[derive(Args)]
struct Produce {
    #[command(flatten)]
    common: Common,
    /// Bytes of a record's value; random, so that nothing compresses.
    #[arg(long, default_value_t = 100)]
    record_bytes: usize,
    /// Records in a batch.
    #[arg(long, default_value_t = 1)]
    records_per_batch: usize,
    /// Partitions in a request, with one batch each.
    #[arg(long, default_value_t = 1)]
    batches_per_request: usize,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// Stop earlier, after so many bytes of batches, counted or not.
    #[arg(long, default_value_t = u64::MAX)]
    bytes_max: u64,
    /// 0, 1, or -1 (all).
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    acks: i16,
}

#[derive(Args)]
struct Fetch {
    #[command(flatten)]
    common: Common,
    /// The most bytes of one answer.
    #[arg(long, default_value_t = 1 << 20)]
    max_bytes: i32,
    /// Wait for new records at the end, in the place of starting over.
    #[arg(long)]
    tail: bool,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Raw(raw) => run(raw).map(Some),
        Command::Topic(topic) => prepare(&topic).map(|()| None),
    };
    match result {
        Ok(json) => {
            if let Some(json) = json {
                report::print(&json);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            report::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn prepare(topic: &Topic) -> Result<(), BenchError> {
    let address = resolve(&topic.bootstrap)?;
    if topic.delete {
        return admin::delete_topic(address, &topic.topic);
    }
    admin::prepare_topic(address, &topic.topic, topic.partitions, &topic.configs).map(|_| ())
}

fn run(raw: Raw) -> Result<String, BenchError> {
    let (common, bytes_max, work) = match raw {
        Raw::Produce(produce) => {
            let work = Work::Produce {
                record_bytes: produce.record_bytes,
                records_per_batch: produce.records_per_batch.max(1),
                batches_per_request: produce.batches_per_request.max(1),
                depth: produce.depth.max(1),
                acks: produce.acks,
            };
            (produce.common, produce.bytes_max, work)
        }
        Raw::Fetch(fetch) => {
            (fetch.common, u64::MAX, Work::Fetch { max_bytes: fetch.max_bytes, tail: fetch.tail })
        }
    };
    let address = resolve(&common.bootstrap)?;
    let partitions = admin::prepare_topic(address, &common.topic, common.partitions, &common.configs)?;
    let load = Load {
        address,
        topic: common.topic,
        partitions,
        connections: common.connections.max(1),
        warmup: Duration::from_secs_f64(common.warmup),
        duration: Duration::from_secs_f64(common.duration),
        pid: common.pid,
        bytes_max,
        work,
    };
    Ok(report::json(&common.label, &load, &load::run(&load)?))
}

fn resolve(address: &str) -> Result<SocketAddr, BenchError> {
    let resolved =
        address.to_socket_addrs().map_err(|source| BenchError::io("resolve the address", source))?;
    resolved.into_iter().next().ok_or_else(|| BenchError::Broker(format!("{address} has no address")))
}
