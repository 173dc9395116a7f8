"""The metadata log is cut below its snapshots: dump-log reads both, and either broker starts on what is left."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import tools
from harness.broker import ApacheKafka, Broker, Flumen, kafka_is_installed
from harness.waiting import wait_until
from wire.protocol import Batch, exchange, produce, produced, sized
from wire.scene import create_topic

# A snapshot every few topics, and no more of the log than must stay.
SNAPSHOTS = {"metadata.log.max.record.bytes.between.snapshots": "4000", "metadata.max.retention.bytes": "1"}
ROUND = 40


def metadata_files(broker: Broker, pattern: str) -> list[Path]:
    return sorted((broker.data / "__cluster_metadata-0").glob(pattern))


def create_topics(broker: Broker, first: int) -> None:
    for number in range(first, first + ROUND):
        create_topic(broker, b"topic-%d" % number, partitions=2)


def check(broker: Broker, count: int) -> None:
    """Every topic takes records, and no other."""
    for number in range(count + 1):
        def error() -> int:
            answer = produced(exchange(broker, sized(produce(b"topic-%d" % number, Batch().encode()))))
            return answer[0]["error"]

        wait_until(f"topic-{number}", lambda: error() == (0 if number < count else 3))


def test_the_log_does_not_grow_for_ever(run: Callable[..., Broker]) -> None:
    """Neither while the node runs nor over restarts, clean or not."""
    broker = run(Flumen, SNAPSHOTS)
    for life in range(3):
        create_topics(broker, life * ROUND)
        snapshots, segments = metadata_files(broker, "*.checkpoint"), metadata_files(broker, "*.log")
        assert len(snapshots) == 2, snapshots
        assert len(segments) <= 3 and not segments[0].name.startswith("0" * 20), segments
        # What is cut off is what the older snapshot stands for.
        assert segments[0].name[:20] <= snapshots[0].name[:20]
        assert sum(path.stat().st_size for path in segments) < 20_000
        if life == 1:
            broker.kill()
        else:
            broker.stop()
        broker = run(Flumen, SNAPSHOTS)
        check(broker, (life + 1) * ROUND)


def test_a_damaged_snapshot_is_passed_over(run: Callable[..., Broker]) -> None:
    broker = run(Flumen, SNAPSHOTS)
    create_topics(broker, 0)
    broker.kill()
    newest = metadata_files(broker, "*.checkpoint")[-1]
    newest.write_bytes(newest.read_bytes()[:-20])
    broker = run(Flumen, SNAPSHOTS)
    wait_until(f"it to tell of {newest.name}", lambda: newest.name in broker.log())
    check(broker, ROUND)


@pytest.mark.skipif(not kafka_is_installed(), reason="no Apache Kafka: needs a JDK and Maven")
def test_kafka_reads_it_and_starts_on_it(run: Callable[..., Broker]) -> None:
    broker = run(Flumen, SNAPSHOTS)
    create_topics(broker, 0)
    broker.stop()
    snapshot, segments = metadata_files(broker, "*.checkpoint")[-1], metadata_files(broker, "*.log")
    text = tools.dump(snapshot, options=("--cluster-metadata-decoder",))
    for kind in ("SnapshotHeader", "FEATURE_LEVEL_RECORD", "REGISTER_BROKER_RECORD", "TOPIC_RECORD", "SnapshotFooter"):
        assert kind in text, f"no {kind} in {text[-2000:]}"
    text = tools.dump(*segments, options=("--cluster-metadata-decoder",))
    offsets = [int(found) for found in re.findall(r"^\| offset: (\d+) ", text, re.M)]
    assert offsets == list(range(offsets[0], offsets[-1] + 1)) and offsets[0] > 0
    check(broker := run(ApacheKafka), ROUND)
    create_topic(broker, b"topic-%d" % ROUND)
    broker.stop()
    check(run(Flumen, SNAPSHOTS), ROUND + 1)
