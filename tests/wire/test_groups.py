"""Groups and their offsets by hand, on every broker of the run: what no client library asks, or not at such a moment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.broker import Broker
from harness.waiting import wait_until

from .protocol import Reader, exchange, header, pack, sized, string
from .scene import create_topic, everywhere
from .test_sessions import connected

OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, DELETE_TOPICS = 8, 9, 10, 20
UNKNOWN_TOPIC_OR_PARTITION = 3


@pytest.fixture(scope="module", autouse=True)
def coordinators(brokers: list[Broker]) -> None:
    """Until each broker coordinates groups."""
    sent = sized(header(FIND_COORDINATOR, 0) + string(b"group"))
    offsets = sized(offset_fetch(b"group"))

    def coordinates(broker: Broker) -> bool:
        return exchange(broker, sent)[8:10] == exchange(broker, offsets)[-2:] == b"\0\0"

    for broker in brokers:
        wait_until(f"{broker.name} to coordinate groups", lambda: coordinates(broker))


def offset_commit(group: bytes, topic: bytes, offset: int, partitions: int) -> bytes:
    """OffsetCommit v2 of somebody who is no member."""
    indexes = b"".join(pack("iq", index, offset) + string(b"") for index in range(partitions))
    body = string(group) + pack("i", -1) + string(b"") + pack("qi", -1, 1) + string(topic)
    return header(OFFSET_COMMIT, 2) + body + pack("i", partitions) + indexes


def committed(answer: bytes) -> set[int]:
    """The errors in an answer to it."""
    reader, errors = Reader(answer[4:]), set()
    for _ in range(reader.take("i")):
        reader.string()
        errors |= {reader.take("ih")[1] for _ in range(reader.take("i"))}
    return errors


def offset_fetch(group: bytes) -> bytes:
    """OffsetFetch v2 of everything."""
    return header(OFFSET_FETCH, 2) + string(group) + pack("i", -1)


def offsets(broker: Broker, group: bytes) -> list[tuple[str | None, int, int]]:
    """Topic, partition and offset of all that a group has committed."""
    reader, found = Reader(exchange(broker, sized(offset_fetch(group)))[8:]), []
    for _ in range(reader.take("i")):
        name = reader.string()
        for _ in range(reader.take("i")):
            index, offset = reader.take("iq")
            reader.string(), reader.take("h")
            found.append((name, index, offset))
    assert reader.take("h") == 0
    return found


def test_commits_that_race_a_deletion_leave_nothing_to_a_topic_created_anew(brokers: list[Broker]) -> None:
    """It would be read from the middle by groups that have never seen it."""
    rounds, groups, partitions = 15, 3, 4

    def commit_until_gone(broker: Broker, group: bytes, topic: bytes, begun: threading.Barrier) -> None:
        with connected(broker) as connection:
            for offset in range(1, 100_000):
                connection.send(offset_commit(group, topic, offset, partitions))
                errors = committed(connection.receive())
                if offset == 1:
                    begun.wait()
                if UNKNOWN_TOPIC_OR_PARTITION in errors:
                    return

    def play(broker: Broker) -> list[object]:
        left = []
        for number in range(rounds):
            topic = b"raced-%d" % number
            names = [b"races-%d-%d" % (number, group) for group in range(groups)]
            begun = threading.Barrier(groups + 1)
            create_topic(broker, topic, partitions)
            with ThreadPoolExecutor(groups) as pool:
                racing = [pool.submit(commit_until_gone, broker, name, topic, begun) for name in names]
                begun.wait()
                answer = exchange(broker, sized(header(DELETE_TOPICS, 1) + pack("i", 1) + string(topic) + pack("i", 30_000)))
                assert answer[-2:] == b"\0\0", answer
                for race in racing:
                    race.result()
            create_topic(broker, topic, partitions)
            left.append([offsets(broker, name) for name in names])
        return left

    assert everywhere(brokers, play) == [[[]] * groups] * rounds
