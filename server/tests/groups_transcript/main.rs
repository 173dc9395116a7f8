//! Every group API in every version, good cases and bad ones: the answers are those of Apache Kafka.
//!
//! `transcript.txt` holds what Apache Kafka 4.3.1 answered, field by field. To record it again, start an empty
//! Kafka with `group.max.size=3` and `group.initial.rebalance.delay.ms=0` and topics `transcript` (2
//! partitions) and `unread` (1), and run this test with `TRANSCRIPT_RECORD=host:port`.

#![allow(clippy::unwrap_used)]

mod client;
mod script;

use script::Script;

const RECORDED: &str = include_str!("transcript.txt");

#[test]
fn groups_are_answered_as_by_kafka() {
    if let Ok(address) = std::env::var("TRANSCRIPT_RECORD") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/groups_transcript/transcript.txt");
        std::fs::write(path, Script::play(&address)).unwrap();
        return;
    }
    if let Ok(address) = std::env::var("TRANSCRIPT_BROKER") {
        compare(&Script::play(&address));
    }
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
