"""Looking things up by hand, on every broker of the run: topics that are not there yet, and offsets by time."""

from __future__ import annotations

import time

import pytest

from harness.broker import Broker
from harness.waiting import wait_until

from .protocol import (
    CLOSED, DELETE_RECORDS, LIST_OFFSETS, LIST_PARTITION_REASSIGNMENTS, METADATA, OFFSET_FOR_LEADER_EPOCH, Batch, Reader,
    compact, exchange, header, pack, produce, produced, record, sized, string,
)
from .scene import create_topic, everywhere

# --- Metadata that creates ----------------------------------------------------------------------------


def metadata(version: int, name: bytes, create: bool = True) -> bytes:
    """A Metadata request of any version for one topic."""
    if version < 9:
        body = pack("i", 1) + string(name)
        body += pack("?", create) if version >= 4 else b""
        body += b"\0\0" if version >= 8 else b""
    else:
        body = b"\x02" + (bytes(16) if version >= 10 else b"") + compact(name) + b"\0" + pack("?", create)
        body += (b"\0" if version <= 10 else b"") + b"\0\0"
    return sized(header(METADATA, version, version >= 9) + body)


def topics_told(answer: bytes | str, version: int, name: bytes) -> bytes | str:
    """An answer from where it begins to speak of topics: what is before differs from broker to broker."""
    if isinstance(answer, str):
        return answer
    named = string(name) if version < 9 else compact(name)
    at = answer.rindex(named)
    return answer[at - 3 if version >= 9 else at - 6 :]


@pytest.mark.parametrize("version", range(14))
def test_a_topic_made_by_asking_is_not_in_the_first_answer(brokers: list[Broker], version: int) -> None:
    """In no version, whether it can be made or not; and it is there soon."""
    name = b"asked-%d" % version

    def play(broker: Broker) -> bytes | str:
        first = topics_told(exchange(broker, metadata(version, name)), version, name)
        wait_until("the topic", lambda: topics_told(exchange(broker, metadata(version, name)), version, name) != first)
        # Metadata may know it before its partition is led.
        send = sized(produce(name, Batch().encode()))
        wait_until("its partition", lambda: produced(exchange(broker, send))[0]["error"] == 0)
        return first

    everywhere(brokers, play)


@pytest.mark.parametrize("name", [b"a b", b".", b"..", b"__transaction_state", b"asked.0"])
def test_topics_that_may_not_be_made_by_asking(brokers: list[Broker], name: bytes) -> None:
    everywhere(brokers, lambda broker: topics_told(exchange(broker, metadata(9, name)), 9, name))


def test_nothing_is_made_for_those_who_do_not_want_it(brokers: list[Broker]) -> None:
    def play(broker: Broker) -> object:
        unwanted, wanted = metadata(9, b"unwanted", create=False), metadata(9, b"wanted")
        exchange(broker, unwanted)
        first = topics_told(exchange(broker, wanted), 9, b"wanted")
        # What was asked for later is there; so would be what was asked for before.
        wait_until("the topic", lambda: topics_told(exchange(broker, wanted), 9, b"wanted") != first)
        return topics_told(exchange(broker, unwanted), 9, b"unwanted")

    everywhere(brokers, play)


# --- Offsets by time ----------------------------------------------------------------------------------

HOUR_AGO = int(time.time()) * 1000 - 3_600_000
MAX_TIMESTAMP = -3


def append(broker: Broker, topic: bytes, times: list[int]) -> None:
    """One batch, its records so many milliseconds behind an hour ago."""
    records = [record(index, timestamp=time - times[0]) for index, time in enumerate(times)]
    batch = Batch(records, base_timestamp=HOUR_AGO + times[0], max_timestamp=HOUR_AGO + max(times))
    answer = produced(exchange(broker, sized(produce(topic, batch.encode()))))
    assert answer[0]["error"] == 0, answer


def delete_records(broker: Broker, topic: bytes, before: int) -> None:
    body = pack("i", 1) + string(topic) + pack("iiq", 1, 0, before) + pack("i", 10_000)
    answer = exchange(broker, sized(header(DELETE_RECORDS, 0) + body))
    assert answer != CLOSED and answer[-2:] == b"\0\0", answer


def offset_at(broker: Broker, topic: bytes, timestamp: int, known_epoch: int = -1, isolation: int = 0) -> tuple:
    """Error, milliseconds behind an hour ago, offset, leader epoch."""
    body = pack("ib", -1, isolation) + b"\x02" + compact(topic) + b"\x02" + pack("iiq", 0, known_epoch, timestamp)
    body += b"\0\0\0"
    answer = exchange(broker, sized(header(LIST_OFFSETS, 7, flexible=True) + body))
    reader = Reader(answer[4 + 4 + 1 + 4 + 1 + len(compact(topic)) + 1 :])
    _, error, time, offset, epoch = reader.take("ihqqi")
    return error, time - HOUR_AGO if time > 0 else time, offset, epoch


# The times of the records of each batch, and below which offset records are deleted.
LOGS = {
    "nothing": ([], None),
    "rising": ([[number] for number in range(10)], 7),
    "equal": ([[0]] * 10, None),
    "equal, deleted": ([[0]] * 10, 7),
    "falling": ([[9], [3], [2], [1]], 2),
    "largest in the middle": ([[1, 5, 5, 2], [5, 5]], None),
    "largest in a batch that is half deleted": ([[1, 9, 2], [3, 9, 5]], 4),
    "largest deleted": ([[9, 1, 2], [3, 4, 5]], 2),
    "all deleted": ([[1], [2], [3]], 3),
}


@pytest.mark.parametrize(("log", "deleted"), LOGS.values(), ids=LOGS.keys())
def test_the_largest_timestamp(brokers: list[Broker], log: list[list[int]], deleted: int | None) -> None:
    """Found also where it was deleted, for as long as its segment is there; by its time it is not."""
    topic = b"times-%d" % list(LOGS.values()).index((log, deleted))

    def play(broker: Broker) -> list[tuple]:
        create_topic(broker, topic, partitions=1)
        for times in log:
            append(broker, topic, times)
        if deleted is not None:
            delete_records(broker, topic, deleted)
        return [offset_at(broker, topic, wanted) for wanted in (MAX_TIMESTAMP, *range(HOUR_AGO, HOUR_AGO + 11))]

    everywhere(brokers, play)


def test_the_largest_timestamp_where_there_is_none(brokers: list[Broker]) -> None:
    """That of the first record; of no record there is nothing to tell."""
    topic = b"times-none"

    def play(broker: Broker) -> list[tuple]:
        create_topic(broker, topic, partitions=1)
        told = [offset_at(broker, topic, MAX_TIMESTAMP)]
        batch = Batch([record(0), record(1)], base_timestamp=-1, max_timestamp=-1).encode()
        for _ in range(2):
            assert produced(exchange(broker, sized(produce(topic, batch))))[0]["error"] == 0
        return told + [offset_at(broker, topic, wanted) for wanted in (MAX_TIMESTAMP, 0, HOUR_AGO)]

    assert everywhere(brokers, play)[1] == (0, -1, 0, 0)


# --- What a client says of itself ---------------------------------------------------------------------


@pytest.mark.parametrize("known_epoch", [-3, -2, -1, 0, 1])
def test_a_leader_epoch_that_is_known(brokers: list[Broker], known_epoch: int) -> None:
    """None is -1 and nothing else."""
    topic = b"epochs"

    def play(broker: Broker) -> list[object]:
        create_topic(broker, topic, partitions=1)
        body = pack("i", -1) + pack("i", 1) + string(topic) + pack("iiii", 1, 0, known_epoch, 0)
        ended = exchange(broker, sized(header(OFFSET_FOR_LEADER_EPOCH, 3) + body))
        return [offset_at(broker, topic, -1, known_epoch), ended]

    everywhere(brokers, play)


@pytest.mark.parametrize("isolation", [-1, 0, 1, 2, 9])
@pytest.mark.parametrize("name", [b"isolated", b"nowhere"])
def test_a_level_of_isolation(brokers: list[Broker], isolation: int, name: bytes) -> None:
    def play(broker: Broker) -> bytes:
        create_topic(broker, b"isolated", partitions=1)
        body = pack("ib", -1, isolation) + pack("i", 1) + string(name) + pack("iiq", 1, 0, -1)
        return exchange(broker, sized(header(LIST_OFFSETS, 2) + body))

    everywhere(brokers, play)


# --- Replicas that are moved --------------------------------------------------------------------------

REASSIGNMENTS = {
    "all topics": b"\0",
    "no topic": b"\x01",
    "one that exists": b"\x02" + compact(b"lookups-settled") + b"\x03" + pack("ii", 0, 99) + b"\0",
    "one that does not": b"\x02" + compact(b"never-was") + b"\x02" + pack("i", 0) + b"\0",
}


@pytest.mark.parametrize("topics", REASSIGNMENTS.values(), ids=REASSIGNMENTS.keys())
def test_no_replicas_are_moved(brokers: list[Broker], topics: bytes) -> None:
    def play(broker: Broker) -> object:
        create_topic(broker, b"lookups-settled")
        body = pack("i", 1000) + topics + b"\0"
        return exchange(broker, sized(header(LIST_PARTITION_REASSIGNMENTS, 0, flexible=True) + body))

    assert everywhere(brokers, play) != CLOSED
