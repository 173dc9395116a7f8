"""In and out: Apache Kafka starts on Flumen's directory and Flumen on Apache Kafka's, without a copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from disk.contents import Contents
from harness.broker import ApacheKafka, Broker, Flumen, kafka_is_installed
from harness.stage import Drivers

pytestmark = pytest.mark.skipif(not kafka_is_installed(), reason="no Apache Kafka: needs a JDK and Maven")


def move(run: Callable[..., Broker], drivers: Drivers, contents: Contents, kinds: list[type[Broker]],
         leave: Callable[[Broker], object]) -> None:
    """Each broker in turn finds what was there, adds a part, and is left."""
    for part, kind in enumerate(kinds):
        broker = run(kind)
        contents.check(broker, drivers)
        contents.write(broker, drivers, part)
        contents.check(broker, drivers)
        drivers.close()
        drivers.running.clear()
        leave(broker)


def test_flumen_to_kafka_and_back(run: Callable[..., Broker], own_drivers: Drivers) -> None:
    move(run, own_drivers, Contents(), [Flumen, ApacheKafka, Flumen], lambda broker: broker.stop())


def test_kafka_to_flumen_and_back(run: Callable[..., Broker], own_drivers: Drivers) -> None:
    move(run, own_drivers, Contents(), [ApacheKafka, Flumen, ApacheKafka], lambda broker: broker.stop())


def test_kafka_that_was_killed(run: Callable[..., Broker], own_drivers: Drivers) -> None:
    """Flumen starts on what a killed Apache Kafka left."""
    contents = Contents()
    killed = run(ApacheKafka)
    contents.write(killed, own_drivers, 0)
    own_drivers.close()
    own_drivers.running.clear()
    killed.kill()
    contents.check(run(Flumen), own_drivers)


def half_compacted(folder: Path) -> None:
    """As Apache Kafka leaves a partition when it dies while it swaps: the first two segments became one, of which the
    second is still there; a later one was being cleaned."""
    first, second, *_, last = sorted(folder.glob("*.log"))
    (folder / f"{first.name}.swap").write_bytes(first.read_bytes() + second.read_bytes())
    for path in list(folder.glob(f"{first.stem}.*")):
        if not path.name.endswith(".swap"):
            path.rename(path.with_name(f"{path.name}.deleted"))
    (folder / f"{last.name}.cleaned").write_bytes(last.read_bytes()[:100])


def half_split(folder: Path) -> None:
    """The same for a split of one segment into two: the first half has its place to take, the second is not whole."""
    _, second, *_ = sorted(folder.glob("*.log"))
    (folder / f"{second.name}.cleaned").write_bytes(second.read_bytes()[:100])
    (folder / f"{int(second.stem) + 1:020}.log.swap").write_bytes(second.read_bytes()[100:])


@pytest.mark.parametrize("leave", [half_compacted, half_split])
def test_kafka_that_died_while_it_swapped(leave: Callable[[Path], None], run: Callable[..., Broker], home: Path,
                                          tmp_path: Path, own_drivers: Drivers) -> None:
    """Flumen and Apache Kafka make the same of it."""
    contents = Contents()
    broker = run(ApacheKafka)
    contents.write(broker, own_drivers, 0)
    own_drivers.close()
    own_drivers.running.clear()
    broker.stop()
    (home / "data" / ".kafka_cleanshutdown").unlink()
    leave(home / "data" / "disk-rolls-0")
    shutil.copytree(home, tmp_path / "oracle")
    found = []
    for kind, folder in ((ApacheKafka, tmp_path / "oracle"), (Flumen, home)):
        broker = kind(folder)
        try:
            contents.check(broker.start(), own_drivers)
            left = (path.name for path in (broker.data / "disk-rolls-0").iterdir())
            found.append(sorted(name for name in left if ".log" in name))
        finally:
            own_drivers.close()
            own_drivers.running.clear()
            if broker.is_alive():
                broker.kill()
    assert found[0] == found[1]


@pytest.mark.parametrize("codec", range(1, 5))
def test_kafka_that_compresses_its_offsets(codec: int, run: Callable[..., Broker], own_drivers: Drivers) -> None:
    """Groups and their offsets are found in compressed batches, too."""
    contents = Contents()
    kafka = run(ApacheKafka, {"offsets.topic.compression.codec": str(codec)})
    contents.write(kafka, own_drivers, 0)
    own_drivers.close()
    own_drivers.running.clear()
    kafka.stop()
    contents.check(run(Flumen), own_drivers)
