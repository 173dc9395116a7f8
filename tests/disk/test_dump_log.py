"""Apache's dump-log reads what Flumen leaves on the disk, whatever the number of cores."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from disk.contents import Contents
from harness import tools
from harness.broker import Broker, Flumen, kafka_is_installed
from harness.stage import Drivers

pytestmark = pytest.mark.skipif(not kafka_is_installed(), reason="no Apache Kafka: needs a JDK and Maven")

COMPLAINTS = re.compile(r"mismatch|not sequential|Found .*(error|invalid)|Exception|corrupt|fails|isvalid: false", re.I)


def dumped(*files: Path, options: tuple[str, ...] = ()) -> str:
    text = tools.dump(*files, options=options)
    complaint = COMPLAINTS.search(text.replace("isvalid: true", ""))
    assert not complaint, f"{complaint}: {text[max(0, complaint.start() - 800):complaint.end() + 800]}"
    return text


def offsets_in(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"^\| offset: (\d+) ", text, re.M)]


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_dump_log(cores: int, run: Callable[..., Broker], own_drivers: Drivers) -> None:
    broker = run(Flumen, {"flumen.cores": str(cores)})
    contents = Contents()
    contents.write(broker, own_drivers, 0)

    rolled = sorted((broker.data / "disk-rolls-0").glob("*.log"))[:-1]
    assert len(rolled) >= 2, f"no segment rolled: {list((broker.data / 'disk-rolls-0').iterdir())}"
    before = offsets_in(dumped(*rolled, options=("--deep-iteration", "--print-data-log")))
    assert before == list(range(len(before)))

    broker.stop()
    for (topic, partition), records in contents.records.items():
        folder = broker.data / f"{topic}-{partition}"
        logs = sorted(folder.glob("*.log"))
        found = offsets_in(dumped(*logs, options=("--deep-iteration", "--print-data-log")))
        assert found == list(range(len(records))), folder
        indexes = [*sorted(folder.glob("*.index")), *sorted(folder.glob("*.timeindex"))]
        assert len(indexes) == 2 * len(logs), sorted(path.name for path in folder.iterdir())
        dumped(*indexes, options=("--index-sanity-check",))
        dumped(*indexes, options=("--verify-index-only",))
        snapshots = sorted(folder.glob("*.snapshot"))
        if snapshots:
            assert "producerId" in dumped(snapshots[-1])

    committed = [path for path in sorted(broker.data.glob("__consumer_offsets-*/*.log")) if path.stat().st_size]
    text = dumped(*committed, options=("--offsets-decoder",))
    assert "disk-group-0" in text and "disk-codecs" in text, text[-2000:]

    metadata = sorted((broker.data / "__cluster_metadata-0").glob("*.log"))
    text = dumped(*metadata, options=("--cluster-metadata-decoder",))
    for kind in ("FEATURE_LEVEL_RECORD", "REGISTER_BROKER_RECORD", "TOPIC_RECORD", "PARTITION_RECORD"):
        assert kind in text, f"no {kind} in {text[-2000:]}"


def test_metadata_log_of_a_running_node(run: Callable[..., Broker], own_drivers: Drivers) -> None:
    """`__cluster_metadata-0` is exact at any time."""
    broker = run(Flumen)
    Contents().write(broker, own_drivers, 0)
    metadata = sorted((broker.data / "__cluster_metadata-0").glob("*.log"))
    assert "disk-rolls" in dumped(*metadata, options=("--cluster-metadata-decoder",))
