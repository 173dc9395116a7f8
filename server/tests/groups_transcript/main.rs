//! Every group API in every version, good cases and bad ones: the answers are those of Apache Kafka.
//!
//! `transcript.txt` holds what Apache Kafka 4.3.1 answered, field by field. To record it again, start an empty
//! Kafka with `group.max.size=3` and `group.initial.rebalance.delay.ms=0`, and run this test with
//! `TRANSCRIPT_RECORD=host:port`; with `TRANSCRIPT_BROKER=host:port` any broker is compared.

#![allow(clippy::unwrap_used)]

mod broker;
mod client;
mod script;

use broker::Broker;
use script::Script;

const RECORDED: &str = include_str!("transcript.txt");
const SETTINGS: [&str; 2] = ["group.max.size=3", "group.initial.rebalance.delay.ms=0"];

#[test]
fn groups_are_answered_as_by_kafka() {
    if let Ok(address) = std::env::var("TRANSCRIPT_RECORD") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/groups_transcript/transcript.txt");
        std::fs::write(path, Script::play(&address)).unwrap();
        return;
    }
    if let Ok(address) = std::env::var("TRANSCRIPT_BROKER") {
        return compare(&Script::play(&address));
    }
    for cores in ["flumen.cores=1", "flumen.cores=3"] {
        let directory = tempfile::tempdir().unwrap();
        let broker = Broker::start(directory.path(), &[&SETTINGS[..], &[cores]].concat());
        compare(&Script::play(&broker.address));
    }
}

#[test]
fn groups_and_offsets_survive_a_kill_on_any_number_of_cores() {
    let directory = tempfile::tempdir().unwrap();
    let start = |cores: &str| Broker::start(directory.path(), &[&SETTINGS[..], &[cores]].concat());
    let mut left = script::Left::behind(&start("flumen.cores=1").address);
    for cores in ["flumen.cores=2", "flumen.cores=4", "flumen.cores=1"] {
        let broker = start(cores);
        left.is_there(&broker.address);
    }
}

#[test]
fn offsets_go_with_their_topic() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), &["flumen.cores=2"]);
    script::delete_the_topic_of_offsets(&broker.address);
}

fn compare(transcript: &str) {
    let (said, recorded): (Vec<_>, Vec<_>) = (transcript.lines().collect(), RECORDED.lines().collect());
    let mut differences = Vec::new();
    for index in 0..said.len().max(recorded.len()) {
        let (said, recorded) =
            (said.get(index).unwrap_or(&"nothing"), recorded.get(index).unwrap_or(&"nothing"));
        if said != recorded {
            differences.push(format!("Kafka:  {recorded}\nFlumen: {said}"));
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n\n"));
}
