"""What clients were promised, and whether the broker kept it.

Producers and members of a group write ledgers (tests/faults/load). From them and from the log itself:

1. nothing acknowledged is lost, and it lies where the acknowledgement said;
2. nothing lies there twice, although producers retried;
3. the records of one producer keep their order within a partition;
4. nothing that a consumer saw has disappeared or changed;
5. no committed offset that was acknowledged has moved back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

from .waiting import wait_until

REQUEST_S = 30.0
SILENCE_S = 20.0


class Ledger:
    """One file that grows, read on from where the last reading ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0

    def news(self) -> Iterator[list[str]]:
        """The lines that are new, as words. Whole lines only: the last may be half written."""
        if not self.path.exists():
            return
        with self.path.open() as file:
            file.seek(self.position)
            for line in file:
                if line.endswith("\n"):
                    self.position += len(line)
                    yield line.split()


@dataclass
class Promises:
    """Everything that was acknowledged or shown to clients."""

    # "producer:number" -> (partition, offset)
    acknowledged: dict[str, tuple[int, int]] = field(default_factory=dict)
    # (partition, offset) -> "producer:number"
    seen: dict[tuple[int, int], str] = field(default_factory=dict)
    # partition -> the highest offset whose commit was acknowledged
    committed: dict[int, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add_producer(self, name: str, ledger: Ledger) -> None:
        for first, *rest in ledger.news():
            if first == "failed":
                self.failures.append(f"{name}: record {' '.join(rest)}")
            elif first != "done":
                self.acknowledged[f"{name}:{first}"] = (int(rest[0]), int(rest[1]))

    def add_member(self, ledger: Ledger) -> None:
        for kind, *rest in ledger.news():
            if kind == "saw":
                self.seen[int(rest[0]), int(rest[1])] = rest[2]
            elif kind == "committed":
                partition, offset = int(rest[0]), int(rest[1])
                self.committed[partition] = max(offset, self.committed.get(partition, 0))


def identity_of(value: bytes) -> str:
    """What stands before the padding: "producer:number"."""
    return value.split(b"|", 1)[0][:40].decode(errors="replace")


def end_of(consumer: Consumer, place: TopicPartition) -> int:
    """The end of a partition, as soon as the broker leads it again."""
    def ask() -> list[int]:
        try:
            return [consumer.get_watermark_offsets(place, REQUEST_S)[1]]
        except KafkaException:
            return []

    return wait_until(f"the end of {place}", ask, REQUEST_S)[0]


@dataclass
class Log:
    """What the broker holds now: of each partition (offset, "producer:number"), in order."""

    partitions: dict[int, list[tuple[int, str]]]

    @classmethod
    def read(cls, bootstrap: str, topic: str, partitions: int) -> "Log":
        consumer = Consumer({"bootstrap.servers": bootstrap, "broker.address.family": "v4", "group.id": "auditor",
                             "enable.auto.commit": False, "log_level": 2, "check.crcs": True,
                             "queued.min.messages": 1_000_000, "fetch.message.max.bytes": 4_000_000})
        try:
            ends = {number: end_of(consumer, TopicPartition(topic, number)) for number in range(partitions)}
            consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
            found: dict[int, list[tuple[int, str]]] = {number: [] for number in range(partitions)}
            left = {number for number, end in ends.items() if end > 0}
            while left:
                # As many as are there: asked for more, it waits for them until the time is over.
                messages = wait_until(f"a record of {sorted(left)} below {ends}", lambda: consumer.consume(10_000, 0.1),
                                      SILENCE_S)
                for message in messages:
                    assert not message.error(), message.error()
                    number = message.partition()
                    found[number].append((message.offset(), identity_of(message.value())))
                    if message.offset() + 1 >= ends[number]:
                        left.discard(number)
        finally:
            consumer.close()
        return cls(found)

    @property
    def count(self) -> int:
        return sum(len(records) for records in self.partitions.values())


def breaches(promises: Promises, log: Log) -> list[str]:
    """What was not kept; empty is good."""
    found = list(promises.failures)
    where: dict[str, tuple[int, int]] = {}
    for partition, records in log.partitions.items():
        last: dict[str, int] = {}
        for place, (offset, identity) in enumerate(records):
            if offset != place:
                found.append(f"partition {partition}: offset {offset} at place {place}")
                break
            if identity in where:
                found.append(f"{identity} twice: at {where[identity]} and at {(partition, offset)}")
            where[identity] = (partition, offset)
            name, number = identity.split(":")
            if int(number) <= last.get(name, -1):
                found.append(f"partition {partition}, offset {offset}: {identity} behind number {last[name]}")
            last[name] = int(number)
    for identity, place in promises.acknowledged.items():
        if where.get(identity) != place:
            found.append(f"{identity} was acknowledged at {place} and is at {where.get(identity, 'no place: lost')}")
    for place, identity in promises.seen.items():
        if where.get(identity) != place:
            found.append(f"{identity} was seen at {place} and is at {where.get(identity, 'no place: lost')}")
    return found


def moved_back(promises: Promises, bootstrap: str, group: str, topic: str) -> list[str]:
    """Committed offsets that lie behind one whose commit was acknowledged."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "broker.address.family": "v4", "group.id": group,
                         "log_level": 2})
    try:
        asked = [TopicPartition(topic, partition) for partition in promises.committed]
        told = consumer.committed(asked, REQUEST_S) if asked else []
    finally:
        consumer.close()
    return [f"partition {place.partition}: committed {promises.committed[place.partition]}, now {place.offset}"
            for place in told if place.offset < promises.committed[place.partition]]
